//! Whom nobody touches, however ill he is.

use std::time::Duration;

use remora::docker::ContainerId;
use remora::heal::cluster::Wish;
use tokio::time::sleep;

use crate::fake_docker::{Spec, web};
use crate::ward::Ward;

const MINUTE: Duration = Duration::from_secs(60);

/// It is left alone when it is ill, when an operator asks for its replacement, and when it has died.
async fn is_left_alone(ward: &mut Ward, id: &ContainerId, name: &str) {
    ward.wake().await;
    ward.fails(id);
    ward.rests(10 * MINUTE).await;
    ward.ask(Wish::Heal, name);
    ward.rests(10 * MINUTE).await;
    ward.docker.end(id, 1);
    ward.rests(10 * MINUTE).await;
    ward.kill().await;
    ward.start();
    ward.rests(10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn containers_that_somebody_else_looks_after_are_left_alone() {
    let with = |key: &str, value: &str| web("web").label("remora.heal", "on").label(key, value);
    let all: [Spec; 6] = [
        with("com.docker.swarm.task.id", "x"),
        with("com.docker.compose.oneoff", "True"),
        with("io.kubernetes.pod.uid", "x"),
        with("com.hashicorp.nomad.alloc_id", "x"),
        with("org.testcontainers", "true"),
        web("web").label("remora.heal", "off"),
    ];
    for spec in all {
        let mut ward = Ward::new();
        let id = ward.docker.run(spec.health_check());
        is_left_alone(&mut ward, &id, "web").await;
    }
}

#[tokio::test(start_paused = true)]
async fn remora_does_not_touch_itself() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("remora").health_check());
    ward.place.never.own = Some(id.clone());
    is_left_alone(&mut ward, &id, "remora").await;
}

#[tokio::test(start_paused = true)]
async fn the_consul_that_remora_uses_is_left_alone() {
    for (host, port) in [("127.0.0.1", 8500), ("192.0.2.1", 8500), ("consul", 8500)] {
        let mut ward = Ward::new();
        let id = ward.docker.run(web("consul").health_check().publish(8500, 8500));
        ward.place.never.consul = vec![(host.to_owned(), port)];
        ward.place.never.host = vec!["192.0.2.1".parse().unwrap()];
        is_left_alone(&mut ward, &id, "consul").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_docker_removes_when_it_ends_is_not_brought_back() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web").health_check().auto_remove());
    ward.wake().await;
    ward.docker.end(&id, 1);
    sleep(10 * MINUTE).await;
    assert_eq!(ward.names(), [] as [&str; 0]);
    assert_eq!(ward.docker.changes(), [] as [&str; 0]);
}
