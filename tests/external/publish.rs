//! What runs stands in the catalog, and is repaired there.

use std::time::Duration;

use crate::catalog;
use crate::support::{eventually, scene::Scene};

const SOON: Duration = Duration::from_secs(5);

/// What was written besides what keeps sessions alive.
fn writes(scene: &Scene) -> Vec<String> {
    let is_renewal = |request: &String| request.starts_with("PUT /v1/session/renew/");
    scene.consul_proxy.writes().into_iter().filter(|request| !is_renewal(request)).collect()
}

#[tokio::test]
async fn what_runs_stands_on_a_node_of_its_own_in_the_catalog() {
    let mut scene = catalog("external").start().await;
    let mut running = scene.engine.many("web", 6, 3).await;
    let ill = scene.engine.container("ill").publish(80).health_check(Duration::from_secs(1)).run().await;
    scene.settled(SOON * 3).await;
    let node = scene.consul.get(&format!("/v1/catalog/node/{}", scene.node)).await;
    assert_eq!(node["Node"]["Meta"]["managed-by"], "remora");
    assert_eq!(node["Node"]["Address"], "198.51.100.7");
    let all = scene.catalog.all().await.unwrap();
    let own = all.values().find(|it| it.name == "remora").expect("the agent's own service");
    assert_eq!(own.meta["mode"], "catalog");
    // One that still starts is critical, too.
    scene.catalog.becomes(&scene.id(&ill, 80), "passing", SOON * 3).await;
    scene.engine.exec(&ill, &["/bin/busybox", "touch", "/sick"]).await;
    scene.catalog.becomes(&scene.id(&ill, 80), "critical", SOON * 3).await;
    scene.engine.kill(&running.remove(0), "KILL").await;
    scene.engine.stop(&running.remove(0), 1).await;
    scene.settled(SOON).await;
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap().len(), 5);
}

#[tokio::test]
async fn what_somebody_removes_is_back_at_once() {
    let mut scene = catalog("byhand").start().await;
    let web = scene.engine.container("web").publish(80).run().await;
    scene.settled(SOON).await;
    let body = serde_json::json!({"Node": scene.node, "ServiceID": scene.id(&web, 80)});
    scene.consul.put("/v1/catalog/deregister", &body.to_string()).await;
    scene.settled(Duration::from_secs(2)).await;
    // A status by hand as well.
    let mut check = scene.consul.get(&format!("/v1/health/node/{}", scene.node)).await;
    let id = format!("{}:docker", scene.id(&web, 80));
    let check = check.as_array_mut().unwrap().iter_mut().find(|it| it["CheckID"] == id.as_str()).unwrap();
    check["Status"] = "critical".into();
    let body = serde_json::json!({"Node": scene.node, "SkipNodeUpdate": true, "Check": check});
    scene.consul.put("/v1/catalog/register", &body.to_string()).await;
    scene.settled(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn at_rest_sessions_are_renewed_and_nothing_is_written() {
    let mut scene = catalog("calm").start().await;
    for number in 0..6 {
        let spec = scene.engine.container(&format!("web{number}")).publish(80);
        spec.health_check(Duration::from_secs(1)).run().await;
    }
    scene.settled(SOON * 3).await;
    // The node's own check, and whoever becomes the leader.
    tokio::time::sleep(Duration::from_secs(6)).await;
    scene.consul_proxy.requests();
    let before = (scene.catalog.index().await, scene.consul.raft_index().await);
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!(writes(&scene), [] as [String; 0]);
    assert_eq!(scene.catalog.index().await, before.0, "a watcher of the catalog was woken");
    scene.settled(SOON).await;
}

#[tokio::test]
async fn a_restart_changes_nothing_in_the_catalog() {
    let mut scene = catalog("again").start().await;
    scene.engine.many("web", 4, 4).await;
    scene.settled(SOON).await;
    let before = scene.catalog.of_node(&scene.node).await.unwrap();
    scene.remora.terminate().await;
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap(), before, "it keeps what it registered");
    scene.remora.spawn();
    scene.remora.ready().await;
    scene.right(SOON).await;
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap(), before);
}

#[tokio::test]
async fn whoever_deregisters_at_its_end_leaves_nothing() {
    let mut scene = catalog("leave").env("REMORA_ON_EXIT", "deregister").start().await;
    scene.engine.many("web", 4, 4).await;
    scene.settled(SOON).await;
    scene.remora.terminate().await;
    let left = scene.catalog.all().await.unwrap();
    assert!(left.is_empty(), "{:?}", left.keys());
}

#[tokio::test]
async fn somebody_elses_node_is_left_alone() {
    let mut scene = catalog("taken").not_started().start().await;
    let body = serde_json::json!({"Node": scene.node, "Address": "192.0.2.9"});
    scene.consul.put("/v1/catalog/register", &body.to_string()).await;
    scene.engine.many("web", 2, 2).await;
    scene.remora.spawn();
    eventually("it says so", SOON * 3, async || {
        let log = scene.remora.log().join("\n");
        if log.contains("has no managed-by=remora") { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let node = scene.consul.get(&format!("/v1/catalog/node/{}", scene.node)).await;
    assert_eq!(node["Node"]["Address"], "192.0.2.9");
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_fails_is_replaced_here_too() {
    let plan = catalog("cured").env("REMORA_HEAL", "on").env("REMORA_HEAL_HOLDOFF", "1s");
    let mut scene = plan.env("REMORA_HEAL_SETTLE", "1s").start().await;
    let spec = scene.engine.container("web").publish(80).label("remora.heal.min-healthy", "1s");
    let old = spec.label("remora.heal.drain", "0s").run().await;
    scene.settled(SOON).await;
    scene.engine.kill(&old, "KILL").await;
    eventually("another one", Duration::from_secs(40), async || match scene.engine.inspect_name(&old.name).await {
        Some(now) if now["Id"] != old.id.as_str() && now["State"]["Running"] == true => Ok(()),
        now => Err(format!("{:?}", now.map(|now| now["State"].clone()))),
    })
    .await;
    scene.settled(SOON).await;
    let instance = scene.catalog.instance(&scene.id(&old, 80)).await.unwrap();
    assert_eq!(instance.checks[&format!("{}:healing", instance.id)], "passing");
}

/// As with an agent, only that nobody looks before the write: the write itself is refused. In another case it is the same row.
#[tokio::test]
async fn an_id_that_somebody_took_a_moment_ago_is_not_overwritten() {
    let mut scene = catalog("taken").start().await;
    scene.settled(SOON).await;
    for number in 0..4 {
        let web = scene.engine.container(&format!("web{number}")).publish(80).create().await;
        let id = scene.id(&web, 80);
        let taken = if number % 2 == 0 { id.clone() } else { id.to_uppercase() };
        let service =
            serde_json::json!({"ID": taken, "Service": "somebody-elses", "Port": 4711, "Meta": {"team": "payments"}});
        let body = serde_json::json!({"Node": scene.node, "SkipNodeUpdate": true, "Service": service});
        scene.consul.put("/v1/catalog/register", &body.to_string()).await;
        let before = scene.catalog.instance(&taken).await.unwrap();
        scene.engine.start(&web).await;
        // It is registered nevertheless, under an id of its own.
        scene.catalog.registers(&web.id, SOON).await;
        assert_eq!(scene.catalog.instance(&taken).await.unwrap(), before);
    }
    scene.remora.assert_never_restarted();
}
