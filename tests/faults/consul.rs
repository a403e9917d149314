//! The Consul agent, its data, other people's hands.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::eventually;
use crate::support::scene::Scene;

#[tokio::test]
async fn consul_is_restarted_and_has_forgotten_everything() {
    let mut scene = Scene::start("amnesia").await;
    scene.engine.many("web", 10, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    for _ in 0..2 {
        scene.consul.restart().await;
        scene.settled(Duration::from_secs(5)).await;
    }
    scene.engine.container("late").publish(80).run().await;
    scene.settled(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn consul_is_down_while_twenty_containers_start_and_ten_die() {
    let mut scene = Scene::start("absent").await;
    let first = scene.engine.many("first", 10, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    scene.consul.kill();
    scene.engine.many("second", 20, 4).await;
    scene.engine.kill_all(&first, 4).await;
    scene.consul.restart().await;
    scene.settled(Duration::from_secs(15)).await;
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap().len(), 20);
}

#[tokio::test]
async fn consul_cannot_be_reached_while_containers_start_and_die_but_has_forgotten_nothing() {
    let mut scene = Scene::start("parted").await;
    let first = scene.engine.many("first", 6, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    scene.consul_proxy.refuse(true).await;
    scene.engine.many("second", 6, 4).await;
    scene.engine.kill_all(&first[..4], 4).await;
    scene.consul_proxy.refuse(false).await;
    scene.settled(Duration::from_secs(15)).await;
}

#[tokio::test]
async fn consul_hangs_for_fifteen_seconds() {
    let mut scene = Scene::start("hung").await;
    let first = scene.engine.many("first", 6, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    scene.consul.freeze(true);
    let begun = Instant::now();
    scene.engine.many("second", 6, 4).await;
    scene.engine.kill_all(&first[..3], 4).await;
    tokio::time::sleep(Duration::from_secs(15).saturating_sub(begun.elapsed())).await;
    scene.consul.freeze(false);
    scene.settled(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn another_reason_within_one_outage_is_told_as_it_comes() {
    let mut scene = Scene::start("reasons").await;
    let told = |scene: &Scene, word: &str| {
        scene.remora.log().iter().filter(|line| line.contains("consul_lost") && line.contains(word)).count()
    };
    scene.consul_proxy.refuse(true).await;
    scene.consul_proxy.cut_all().await;
    eventually("told that it cannot be reached", Duration::from_secs(10), async || {
        if told(&scene, "cannot be reached") > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    scene.consul_proxy.freeze(true);
    scene.consul_proxy.refuse(false).await;
    eventually("told that it does not answer", Duration::from_secs(30), async || {
        if told(&scene, "did not answer") > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    scene.consul_proxy.freeze(false);
    scene.settled(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn services_that_were_deregistered_by_hand_are_back_within_five_seconds_and_nothing_else_is_written() {
    let mut scene = Scene::start("hands").await;
    let web = scene.engine.many("web", 10, 4).await;
    scene.settled(Duration::from_secs(5)).await;
    let before = scene.catalog.of_node(&scene.node).await.unwrap();
    scene.consul_proxy.requests();
    let removed: Vec<_> = web[..3].iter().map(|it| scene.id(it, 80)).collect();
    for id in &removed {
        scene.catalog.deregister(id).await;
    }
    scene.settled(Duration::from_secs(5)).await;
    let after = scene.catalog.of_node(&scene.node).await.unwrap();
    for (id, instance) in before.iter().filter(|(id, _)| !removed.contains(id)) {
        assert_eq!(after[id], *instance, "was touched");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (writes, _) = scene.writes();
    assert_eq!(writes.len(), 3, "three were removed: {writes:?}");
}

#[tokio::test]
async fn a_check_that_was_changed_by_hand_is_put_right() {
    let mut scene = Scene::start("meddled").await;
    let web = scene.engine.container("web").publish(80).run().await;
    scene.settled(Duration::from_secs(5)).await;
    let id = scene.id(&web, 80);
    scene.catalog.fail_check(&format!("{id}:docker")).await;
    scene.catalog.becomes(&id, "critical", Duration::from_secs(1)).await;
    scene.settled(Duration::from_secs(35)).await;
}

#[tokio::test]
async fn what_others_registered_is_never_touched_however_much_it_looks_like_ours() {
    let mut scene = Scene::plan("foreign").env("REMORA_RESYNC", "2s").start().await;
    let own = scene.engine.container("own").publish(80).run().await;
    let late = format!("{}:{}-late:80", scene.node, scene.node);
    let foreign = [
        json!({"ID": "plain", "Name": "web", "Port": 1}),
        json!({"ID": format!("{}:something:80", scene.node), "Name": "web", "Port": 80, "Address": "192.0.2.1"}),
        json!({"ID": format!("{}:something:53:udp", scene.node), "Name": "web", "Port": 53, "Tags": ["x"]}),
        json!({"ID": "elsewhere:own:80", "Name": "web", "Port": 80, "Meta": {"managed-by": "remora", "remora-node": "elsewhere"}}),
        // The id that the container below would have, under another name and without our mark.
        json!({"ID": late, "Name": "somebody-elses", "Port": 4711, "Meta": {"team": "payments"}}),
    ];
    for definition in &foreign {
        scene.catalog.register(definition.clone()).await;
    }
    let seen = async || {
        let mut all = scene.catalog.all().await.unwrap();
        all.retain(|id, _| foreign.iter().any(|it| it["ID"] == id.as_str()));
        all
    };
    let before = seen().await;
    assert_eq!(before.len(), foreign.len());

    let claimant = scene.engine.container("late").publish(80).run().await;
    assert_eq!(scene.id(&claimant, 80), late);
    scene.engine.container("other").publish(80).run().await;
    tokio::time::sleep(Duration::from_secs(6)).await; // three looks
    assert_eq!(seen().await, before);
    scene.engine.remove(&claimant).await;
    scene.engine.remove(&own).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(seen().await, before);

    scene.remora.terminate().await;
    scene.remora.spawn();
    scene.remora.ready().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(seen().await, before);
    assert!(scene.catalog.instance(&scene.id(&own, 80)).await.is_none());
}

#[tokio::test]
async fn an_id_that_somebody_took_a_moment_ago_is_not_overwritten() {
    let mut scene = Scene::start("taken").await;
    for number in 0..5 {
        let web = scene.engine.container(&format!("web{number}")).publish(80).create().await;
        let id = scene.id(&web, 80);
        let definition = json!({"ID": id, "Name": "somebody-elses", "Port": 4711, "Meta": {"team": "payments"}});
        scene.catalog.register(definition).await;
        let before = scene.catalog.instance(&id).await.unwrap();
        scene.engine.start(&web).await;
        // It is registered nevertheless, under an id of its own.
        scene.catalog.registers(&web.id, Duration::from_secs(5)).await;
        assert_eq!(scene.catalog.instance(&id).await.unwrap(), before);
    }
    scene.remora.assert_never_restarted();
}
