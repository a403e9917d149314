//! Remora's own start, rest and end.

use std::time::Duration;

use crate::support::scene::Scene;
use crate::support::{always, eventually};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn at_rest_with_health_checks_no_index_moves_and_nothing_is_written_but_its_own_heartbeat() {
    let mut scene = Scene::start("rest").await;
    let spec = |number: usize| scene.engine.container(&format!("web{number}")).publish(80);
    for number in 0..8 {
        spec(number).health_check(Duration::from_secs(1)).run().await;
    }
    spec(8).run().await;
    scene.settled(Duration::from_secs(15)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    scene.consul_proxy.requests();
    let before = scene.catalog.index().await;
    // One resync of the default 30 s lies in it.
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!(scene.catalog.index().await, before, "a watcher of the catalog was woken");
    let (writes, heartbeats) = scene.writes();
    assert!(writes.is_empty(), "written at rest: {writes:?}");
    assert!(heartbeats <= 5, "{heartbeats} heartbeats in 32 s");
    scene.settled(SOON).await;
}

#[tokio::test]
async fn a_second_start_with_nothing_changed_writes_no_service() {
    let mut scene = Scene::start("again").await;
    scene.engine.many("web", 4, 4).await;
    scene.settled(SOON).await;
    scene.a_restart_writes_no_service(SOON).await;
}

#[tokio::test]
async fn each_service_costs_one_write() {
    let mut scene = Scene::plan("frugal").not_started().start().await;
    scene.engine.many("web", 5, 5).await;
    scene.remora.spawn();
    scene.remora.ready().await;
    scene.settled(SOON).await;
    let (writes, _) = scene.writes();
    assert!(writes.len() <= 5 + 1, "five services and its own: {writes:?}");
}

#[tokio::test]
async fn a_full_look_after_changes_does_not_take_the_event_stream_for_deaf() {
    let mut scene = Scene::plan("looks").env("REMORA_RESYNC", "4s").start().await;
    for number in 0..3 {
        let spec = scene.engine.container(&format!("web{number}")).publish(80).health_check(Duration::from_millis(500));
        let web = spec.run().await;
        scene.catalog.becomes(&scene.id(&web, 80), "passing", SOON).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let lost: Vec<_> = scene.remora.log().into_iter().filter(|line| line.contains("docker_lost")).collect();
    assert!(lost.is_empty(), "nothing was cut: {lost:?}");
    scene.settled(SOON).await;
}

#[tokio::test]
async fn sigterm_leaves_the_registrations_by_default() {
    let mut scene = Scene::start("keep").await;
    scene.engine.many("web", 3, 3).await;
    scene.settled(SOON).await;
    let status = scene.remora.terminate().await;
    assert!(status.success(), "{status}");
    scene.right(Duration::ZERO).await;
}

#[tokio::test]
async fn sigterm_takes_its_own_registrations_along_when_told_so() {
    let mut scene = Scene::plan("leave").env("REMORA_ON_EXIT", "deregister").start().await;
    scene.engine.many("web", 3, 3).await;
    scene.settled(SOON).await;
    scene.catalog.register(serde_json::json!({"ID": "foreign", "Name": "foreign"})).await;
    let status = scene.remora.terminate().await;
    assert!(status.success(), "{status}");
    let left: Vec<_> = scene.catalog.all().await.unwrap().into_keys().collect();
    assert_eq!(left, ["foreign"]);
}

#[tokio::test]
async fn it_registers_itself_with_a_check_that_passes() {
    let scene = Scene::start("itself").await;
    eventually("itself in the catalog", SOON, async || {
        let all = scene.catalog.all().await?;
        let own = all.values().find(|it| it.name == "remora").ok_or(format!("only {:?}", all.keys()))?;
        if own.checks.values().any(|it| it == "passing") { Ok(()) } else { Err(format!("{:?}", own.checks)) }
    })
    .await;
}

#[tokio::test]
async fn its_http_server_says_that_it_lives_that_it_is_ready_and_what_it_counts() {
    let mut scene = Scene::start("http").await;
    scene.engine.many("web", 1, 1).await;
    scene.settled(SOON).await;
    assert_eq!(scene.remora.get("/healthz").await.0, 200);
    assert_eq!(scene.remora.get("/readyz").await.0, 200);
    let (status, metrics) = scene.remora.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("remora_") && metrics.trim_end().ends_with("# EOF"), "not OpenMetrics: {metrics}");
    assert_eq!(scene.remora.get("/nowhere").await.0, 404);
}

#[tokio::test]
async fn without_docker_and_consul_it_waits_unready_and_begins_when_they_come() {
    let mut scene = Scene::plan("early").not_started().start().await;
    scene.engine.many("web", 2, 2).await;
    scene.docker_proxy.refuse(true).await;
    scene.consul_proxy.refuse(true).await;
    scene.remora.spawn();
    eventually("listening", SOON, async || {
        std::net::TcpStream::connect(("127.0.0.1", scene.remora.http_port())).map(drop).map_err(|it| it.to_string())
    })
    .await;
    always("alive and unready", Duration::from_secs(3), async || {
        match (scene.remora.get("/healthz").await.0, scene.remora.get("/readyz").await.0) {
            (200, 503) => Ok(()),
            other => Err(format!("/healthz and /readyz say {other:?}")),
        }
    })
    .await;
    scene.docker_proxy.refuse(false).await;
    always("unready without Consul", Duration::from_secs(2), async || {
        let status = scene.remora.get("/readyz").await.0;
        if status == 503 { Ok(()) } else { Err(format!("/readyz says {status}")) }
    })
    .await;
    scene.consul_proxy.refuse(false).await;
    scene.remora.ready_within(Duration::from_secs(20)).await;
    scene.settled(SOON).await;
}
