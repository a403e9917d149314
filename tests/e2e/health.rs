//! Docker's word about a container in Consul, and how fast.

use std::time::{Duration, Instant};

use crate::support::docker::Container;
use crate::support::scene::Scene;
use crate::support::{always, eventually};

const SOON: Duration = Duration::from_secs(5);
/// From Docker's event to the catalog. Measured: a few milliseconds; the rest is for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn health_changes_reach_consul_at_once() {
    let scene = Scene::plan("health").alone().start().await;
    let mut events = scene.engine.events().await;
    let interval = Duration::from_millis(500);
    let web = scene.engine.container("web").publish(80).health_check(interval).run().await;
    let id = scene.id(&web, 80);
    events.next(&web, "start").await;
    scene.catalog.becomes(&id, "critical", AT_ONCE).await; // starting
    events.next(&web, "health_status: healthy").await;
    scene.catalog.becomes(&id, "passing", AT_ONCE).await;

    for _ in 0..2 {
        scene.engine.exec(&web, &["/bin/busybox", "touch", "/sick"]).await;
        events.next(&web, "health_status: unhealthy").await;
        scene.catalog.becomes(&id, "critical", AT_ONCE).await;
        let instance = scene.catalog.instance(&id).await.unwrap();
        let output = &instance.outputs[&format!("{id}:docker")];
        assert!(output.contains("sick"), "the last probe's output is told: {output:?}");

        scene.engine.exec(&web, &["/bin/busybox", "rm", "/sick"]).await;
        events.next(&web, "health_status: healthy").await;
        scene.catalog.becomes(&id, "passing", AT_ONCE).await;
    }
}

#[tokio::test]
async fn a_paused_container_is_critical_until_it_goes_on() {
    let mut scene = Scene::start("pause").await;
    let web = scene.engine.container("web").publish(80).run().await;
    let id = scene.id(&web, 80);
    scene.catalog.becomes(&id, "passing", SOON).await;
    scene.engine.pause(&web, true).await;
    scene.catalog.becomes(&id, "critical", AT_ONCE).await;
    scene.engine.pause(&web, false).await;
    scene.catalog.becomes(&id, "passing", AT_ONCE).await;
    scene.settled(SOON).await;
}

/// A container that takes its time to end: it ignores TERM.
async fn stubborn(scene: &Scene) -> Container {
    let spec = scene.engine.container("web").publish(80).stop_timeout(8);
    let web =
        spec.command(&["/bin/sh", "-c", "trap '' TERM HUP; while true; do /bin/busybox sleep 1; done"]).run().await;
    scene.catalog.becomes(&scene.id(&web, 80), "passing", SOON).await;
    web
}

#[tokio::test]
async fn a_stop_deregisters_at_the_signal_not_at_the_end_of_the_process() {
    let mut scene = Scene::start("drain").await;
    let web = stubborn(&scene).await;
    let mut events = scene.engine.events().await;
    let begun = Instant::now();
    let watch = async {
        events.next(&web, "kill").await;
        scene.catalog.loses(&scene.id(&web, 80), AT_ONCE).await;
        begun.elapsed()
    };
    let (gone_after, ()) = tokio::join!(watch, scene.engine.stop(&web, 4));
    assert!(gone_after < Duration::from_secs(3), "it was gone only after {gone_after:?}, with the process");
    scene.settled(SOON).await;
}

#[tokio::test]
async fn what_survives_its_stop_signal_is_registered_again() {
    let mut scene = Scene::start("survivor").await;
    let spec = scene.engine.container("web").publish(80).stop_timeout(2);
    let web = spec.command(&["/bin/sh", "-c", "trap '' TERM; while true; do /bin/busybox sleep 1; done"]).run().await;
    scene.catalog.becomes(&scene.id(&web, 80), "passing", SOON).await;
    scene.engine.kill(&web, "TERM").await;
    scene.catalog.loses(&scene.id(&web, 80), AT_ONCE).await;
    scene.catalog.becomes(&scene.id(&web, 80), "passing", Duration::from_secs(10)).await;
    scene.settled(SOON).await;
}

#[tokio::test]
async fn a_signal_that_is_not_for_stopping_changes_nothing() {
    let mut scene = Scene::start("hup").await;
    let web = stubborn(&scene).await;
    let before = scene.catalog.index().await;
    scene.engine.kill(&web, "HUP").await;
    always("registered", Duration::from_secs(2), async || {
        let found = scene.catalog.instance(&scene.id(&web, 80)).await;
        if found.is_some_and(|it| it.status() == "passing") { Ok(()) } else { Err("it is gone or critical".to_owned()) }
    })
    .await;
    assert_eq!(scene.catalog.index().await, before);
    scene.settled(SOON).await;
}

#[tokio::test]
async fn a_container_that_docker_restarts_over_and_over_never_shows_a_dead_end() {
    let mut scene = Scene::start("loop").await;
    let spec = scene.engine.container("web").publish(80).restart_policy("always");
    let web = spec.command(&["/bin/sh", "-c", "/bin/busybox sleep 0.3; exit 1"]).run().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    scene.engine.remove(&web).await;
    eventually("without the container", SOON, async || {
        let left = scene.catalog.of_node(&scene.node).await?;
        if left.is_empty() { Ok(()) } else { Err(format!("{:?}", left.keys())) }
    })
    .await;
    scene.settled(SOON).await;
}
