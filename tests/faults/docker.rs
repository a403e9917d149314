//! The event stream, the connection, the engine.

use std::time::Duration;

use crate::support::docker::Container;
use crate::support::dockerd::Dockerd;
use crate::support::scene::Scene;
use crate::support::signal;

/// Some die, others start; ten run at the end.
async fn churn(scene: &Scene, running: &[Container], prefix: &str) {
    scene.engine.kill_all(&running[..running.len() / 2], 4).await;
    scene.engine.many(prefix, running.len() / 2, 4).await;
}

#[tokio::test]
async fn the_event_stream_is_cut_again_and_again() {
    let mut scene = Scene::start("cut").await;
    let mut running = scene.engine.many("first", 4, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    for round in 0..4 {
        scene.docker_proxy.cut_all().await;
        let started = scene.engine.container(&format!("round{round}")).publish(80).run().await;
        scene.docker_proxy.cut_all().await;
        scene.engine.kill(&running.remove(0), "KILL").await;
        scene.docker_proxy.cut_all().await;
        running.push(started);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    scene.settled(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn docker_is_unreachable_for_ten_seconds_while_containers_die_and_start() {
    let mut scene = Scene::start("unreachable").await;
    let running = scene.engine.many("first", 8, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    scene.docker_proxy.refuse(true).await;
    let before = scene.catalog.of_node(&scene.node).await.unwrap();
    let ((), ()) = tokio::join!(tokio::time::sleep(Duration::from_secs(10)), churn(&scene, &running, "second"));
    let meanwhile = scene.catalog.of_node(&scene.node).await.unwrap();
    assert_eq!(meanwhile, before, "what cannot be seen must not be changed");
    scene.docker_proxy.refuse(false).await;
    scene.settled(Duration::from_secs(15)).await;
}

#[tokio::test]
async fn the_docker_connection_is_half_open_for_twenty_seconds() {
    let mut scene = Scene::start("frozen").await;
    let running = scene.engine.many("first", 8, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    scene.docker_proxy.freeze(true);
    let before = scene.catalog.of_node(&scene.node).await.unwrap();
    let ((), ()) = tokio::join!(tokio::time::sleep(Duration::from_secs(20)), churn(&scene, &running, "second"));
    let meanwhile = scene.catalog.of_node(&scene.node).await.unwrap();
    assert_eq!(meanwhile, before, "what cannot be seen must not be changed");
    scene.docker_proxy.freeze(false);
    scene.settled(Duration::from_secs(15)).await;
}

#[tokio::test]
async fn the_docker_connections_go_silent_for_ever_without_being_closed() {
    let mut scene = Scene::start("stranded").await;
    let running = scene.engine.many("first", 8, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    scene.docker_proxy.strand();
    churn(&scene, &running, "second").await;
    // The next full look (every 30 s) finds it out.
    scene.settled(Duration::from_secs(60)).await;
    // And from then on events are heard again.
    let late = scene.engine.container("late").publish(80).run().await;
    scene.catalog.becomes(&scene.id(&late, 80), "passing", Duration::from_secs(15)).await;
    scene.settled(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_daemon_is_restarted_and_its_containers_with_it() {
    let Some(mut dockerd) = Dockerd::start(false).await else { return };
    let mut scene = Scene::plan("daemon").engine(&dockerd.socket()).start().await;
    for number in 0..6 {
        let policy = if number < 3 { "always" } else { "no" };
        let spec = scene.engine.container(&format!("web{number}")).network("host").expose(20_000 + number);
        spec.restart_policy(policy).run().await;
    }
    scene.settled(Duration::from_secs(5)).await;
    dockerd.stop().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    dockerd.start_again().await;
    scene.settled(Duration::from_secs(20)).await;
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap().len(), 3, "those with a restart policy are back");
    scene.engine.container("late").network("host").expose(20_100).run().await;
    scene.settled(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_daemon_is_restarted_while_its_containers_live_on() {
    let Some(mut dockerd) = Dockerd::start(true).await else { return };
    let mut scene = Scene::plan("live").engine(&dockerd.socket()).start().await;
    let mut containers = Vec::new();
    for number in 0..6 {
        let spec = scene.engine.container(&format!("web{number}")).network("host").expose(21_000 + number);
        containers.push(spec.run().await);
    }
    scene.settled(Duration::from_secs(5)).await;
    let document = scene.engine.inspect(&containers[0]).await;
    let pid = document["State"]["Pid"].as_u64().unwrap();
    let before = scene.catalog.of_node(&scene.node).await.unwrap();
    dockerd.stop().await;
    signal(u32::try_from(pid).unwrap(), "KILL"); // dies while nobody looks
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap(), before, "a daemon that is away says nothing");
    dockerd.start_again().await;
    scene.settled(Duration::from_secs(20)).await;
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap().len(), 5);
}
