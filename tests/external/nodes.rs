//! Who is dead, who is back, and what becomes of a change of mode.

use std::time::{Duration, Instant};

use crate::catalog;
use crate::support::scene::Scene;
use crate::support::{eventually, remora::Remora, run_id};

const SOON: Duration = Duration::from_secs(5);

async fn node_check(scene: &Scene, node: &str) -> Option<String> {
    let checks = scene.consul.get(&format!("/v1/health/node/{node}")).await;
    let found = checks.as_array()?.iter().find(|it| it["CheckID"] == "remora-node")?.clone();
    Some(found["Status"].as_str()?.to_owned())
}

async fn turns(scene: &Scene, node: &str, status: &str, within: Duration) {
    eventually(&format!("{node} {status}"), within, async || match node_check(scene, node).await {
        Some(found) if found == status => Ok(()),
        found => Err(format!("it is {found:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_node_that_dies_turns_critical_and_is_right_again_when_it_is_back() {
    let mut scene = catalog("alive").start().await;
    scene.engine.many("web", 2, 2).await;
    scene.settled(SOON).await;
    // Another node: it has no containers, and looks after the first one.
    let other = run_id("other");
    let url = format!("http://127.0.0.1:{}", scene.consul_proxy.port());
    let mut second = Remora::new(scene.engine.socket(), &url, &other, &other);
    second.set("REMORA_CONSUL_MODE", "catalog");
    second.set("REMORA_NODE_TTL", "10s");
    second.spawn();
    second.ready().await;
    turns(&scene, &other, "passing", SOON).await;
    turns(&scene, &scene.node, "passing", SOON).await;
    tokio::time::sleep(Duration::from_secs(25)).await; // both are known for longer than a session lives
    scene.remora.kill().await;
    let killed = Instant::now();
    turns(&scene, &scene.node, "critical", Duration::from_secs(30)).await;
    let took = killed.elapsed();
    println!("killed → critical: {:.1} s with a TTL of 10 s", took.as_secs_f64());
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap().len(), 2, "its instances are kept");
    scene.remora.spawn();
    scene.remora.ready().await;
    turns(&scene, &scene.node, "passing", Duration::from_secs(10)).await;
    scene.right(SOON).await;
    second.terminate().await;
}

#[tokio::test]
async fn a_change_of_mode_leaves_nothing_twice_and_nothing_is_away_in_between() {
    let mut scene = Scene::plan("moved").env("REMORA_CONSUL_MODE", "agent").start().await;
    scene.engine.many("web", 4, 4).await;
    scene.settled(SOON).await;
    for mode in ["catalog", "agent", "catalog"] {
        scene.remora.terminate().await;
        scene.remora.set("REMORA_CONSUL_MODE", mode);
        scene.remora.spawn();
        scene.remora.ready().await;
        eventually(&format!("only in {mode} mode"), SOON * 2, async || {
            let on_agent = scene.consul.get("/v1/agent/services").await.as_object().unwrap().len();
            let node = scene.consul.get(&format!("/v1/catalog/node/{}", scene.node)).await;
            let on_node = node["Services"].as_object().map_or(0, serde_json::Map::len);
            let expected = if mode == "catalog" { (0, 5) } else { (5, 0) };
            if (on_agent, on_node) == expected {
                Ok(())
            } else {
                Err(format!("{on_agent} at the agent, {on_node} on the node"))
            }
        })
        .await;
        scene.right(SOON).await;
    }
}

#[tokio::test]
async fn consul_is_away_for_a_while() {
    let mut scene = catalog("outage").start().await;
    let mut running = scene.engine.many("web", 4, 4).await;
    scene.settled(SOON).await;
    scene.consul_proxy.refuse(true).await;
    scene.engine.kill(&running.remove(0), "KILL").await;
    scene.engine.many("late", 2, 2).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    scene.consul_proxy.refuse(false).await;
    scene.settled(SOON * 3).await;
    // And with its memory gone: a development server forgets everything.
    scene.consul.restart().await;
    scene.settled(SOON * 4).await;
    turns(&scene, &scene.node, "passing", SOON * 3).await;
}
