//! Remora killed while containers come and go; two Remoras with one name.

use std::time::Duration;

use crate::support::catalog::compare;
use crate::support::docker::Engine;
use crate::support::dockerd::Dockerd;
use crate::support::remora::Remora;
use crate::support::scene::Scene;
use crate::support::{always, eventually};

#[tokio::test]
async fn remora_is_killed_while_containers_come_and_go() {
    let mut scene = Scene::start("killed").await;
    let mut running = scene.engine.many("first", 8, 4).await;
    for round in 0..3 {
        // In the middle of the work: some starts and deaths before the kill, some while it is dead, some after.
        let started = scene.engine.many(&format!("round{round}-"), 3, 3).await;
        scene.engine.kill(&running.remove(0), "KILL").await;
        scene.remora.kill().await;
        scene.engine.kill(&running.remove(0), "KILL").await;
        running.extend(scene.engine.many(&format!("dead{round}-"), 2, 2).await);
        scene.remora.spawn();
        scene.engine.kill(&started[0], "KILL").await;
        scene.remora.ready().await;
    }
    // What ended while it was dead is positively gone for Docker, so no grace applies.
    scene.right(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn remora_is_killed_and_a_container_removed_altogether_before_it_is_back() {
    let mut scene = Scene::start("removed").await;
    let web = scene.engine.many("web", 4, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    scene.remora.kill().await;
    scene.engine.remove(&web[0]).await;
    scene.remora.spawn();
    scene.remora.ready().await;
    // A container of which Docker knows nothing any more is deregistered after the first minute at the latest.
    scene.right(Duration::from_secs(75)).await;
}

#[tokio::test]
async fn two_agents_with_one_name_on_one_engine_do_not_fight() {
    let mut scene = Scene::plan("twins").env("REMORA_RESYNC", "2s").start().await;
    let mut twin = scene.another_remora();
    twin.set("REMORA_RESYNC", "2s");
    twin.spawn();
    twin.ready().await;
    let running = scene.engine.many("web", 6, 3).await;
    scene.engine.kill_all(&running[..3], 3).await;
    scene.settled(Duration::from_secs(5)).await;

    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = scene.catalog.index().await;
    always("at rest", Duration::from_secs(5), async || {
        let now = scene.catalog.index().await;
        if now == before { Ok(()) } else { Err(format!("the index went from {before} to {now}")) }
    })
    .await;

    twin.kill().await;
    scene.engine.many("late", 2, 2).await;
    scene.settled(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn two_agents_with_one_name_on_two_engines_keep_their_own() {
    let Some(dockerd) = Dockerd::start(false).await else { return };
    let mut scene = Scene::plan("namesakes").env("REMORA_RESYNC", "2s").start().await;
    let other_engine = Engine::connect_to(&dockerd.socket(), scene.engine.run()).await;
    let consul = format!("http://127.0.0.1:{}", scene.consul_proxy.port());
    let mut other = Remora::new(other_engine.socket(), &consul, scene.engine.run(), &scene.node);
    other.set("REMORA_RESYNC", "2s");
    other.spawn();
    other.ready().await;

    for number in 0..3 {
        scene.engine.container(&format!("here{number}")).publish(80).run().await;
        other_engine.container(&format!("there{number}")).network("host").expose(22_000 + number).run().await;
    }
    let everything = async || {
        let mut truth = scene.engine.truth(&scene.node).await;
        truth.extend(other_engine.truth(&scene.node).await);
        compare(&truth, &scene.catalog.of_node(&scene.node).await?)
    };
    eventually("right for both engines", Duration::from_secs(5), &everything).await;

    // The same container name and port on both: one id. Whoever was first keeps it, nobody flaps, nothing else suffers.
    let here = scene.engine.container("web").publish(22_080).run().await;
    let id = scene.id(&here, 22_080);
    scene.catalog.becomes(&id, "passing", Duration::from_secs(5)).await;
    let holder = scene.catalog.instance(&id).await.unwrap();
    let there = other_engine.container("web").network("host").expose(22_080).run().await;
    always("kept by the first", Duration::from_secs(6), async || {
        let now = scene.catalog.instance(&id).await;
        if now.as_ref() == Some(&holder) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    other_engine.kill(&there, "KILL").await;
    other_engine.kill(&other_engine.container("short").network("host").expose(22_090).run().await, "KILL").await;
    eventually("right for both engines", Duration::from_secs(10), &everything).await;

    // And when the first one goes, the second one's container takes the id.
    other_engine.start(&there).await;
    scene.engine.remove(&here).await;
    eventually("right for both engines", Duration::from_secs(10), &everything).await;
    other.assert_never_restarted();
    scene.remora.assert_never_restarted();
}
