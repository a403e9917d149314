//! The harness itself: a judge that cannot say no proves nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::catalog::{Catalog, compare};
use crate::support::consul::Consul;
use crate::support::docker::Engine;
use crate::support::dockerd::Dockerd;
use crate::support::http_client;
use crate::support::proxy::Proxy;
use crate::support::run_id;

/// What a right agent would register for this container.
async fn register(catalog: &Catalog, engine: &Engine, id: &str) {
    let truth = &engine.truth("judge").await[id];
    let docker = format!("{id}:docker");
    let check = json!({"CheckID": docker, "Name": "docker", "TTL": "1h", "Status": truth.status});
    let meta = json!({"container-id": truth.container});
    let definition =
        json!({"ID": id, "Name": "any", "Address": truth.address, "Port": truth.port, "Meta": meta, "Check": check});
    catalog.register(definition).await;
}

#[tokio::test]
async fn a_lost_a_stale_and_a_wrong_registration_are_each_noticed() {
    let engine = Engine::connect(&run_id("judge")).await;
    let consul = Consul::start().await;
    let catalog = Catalog::new(&consul.url());
    let web = engine.container("web").publish(80).run().await;
    let id = format!("judge:{}:80", web.name);

    let lost = compare(&engine.truth("judge").await, &catalog.of_node("judge").await.unwrap()).unwrap_err();
    assert!(lost.contains("lost 1") && lost.contains("stale 0"), "{lost}");

    register(&catalog, &engine, &id).await;
    compare(&engine.truth("judge").await, &catalog.of_node("judge").await.unwrap()).unwrap();

    engine.pause(&web, true).await;
    let wrong = compare(&engine.truth("judge").await, &catalog.of_node("judge").await.unwrap()).unwrap_err();
    assert!(wrong.contains("passing") && wrong.contains("critical"), "{wrong}");

    engine.remove(&web).await;
    let stale = compare(&engine.truth("judge").await, &catalog.of_node("judge").await.unwrap()).unwrap_err();
    assert!(stale.contains("lost 0") && stale.contains("stale 1"), "{stale}");
}

#[tokio::test]
async fn consul_forgets_at_a_restart_and_is_silent_while_frozen() {
    let mut consul = Consul::start().await;
    let catalog = Catalog::new(&consul.url());
    catalog.register(json!({"ID": "x", "Name": "x"})).await;
    assert!(catalog.instance("x").await.is_some());

    consul.restart().await;
    assert!(catalog.instance("x").await.is_none());

    consul.freeze(true);
    let waited = tokio::time::timeout(Duration::from_secs(1), catalog.all()).await;
    assert!(waited.is_err(), "a frozen Consul answered: {waited:?}");
    consul.freeze(false);
    catalog.all().await.unwrap();
}

#[tokio::test]
async fn the_proxy_cuts_refuses_freezes_and_strands() {
    let engine = Engine::connect(&run_id("proxy")).await;
    let proxy = Proxy::unix(engine.socket()).await;
    let ask = async |client: &reqwest::Client| {
        let asking = async { client.get("http://docker/_ping").send().await.is_ok_and(|it| it.status().is_success()) };
        tokio::time::timeout(Duration::from_millis(500), asking).await
    };
    let client = http_client(Some(proxy.path()));
    assert_eq!(ask(&client).await, Ok(true));
    assert_eq!(ask(&client).await, Ok(true));
    assert_eq!(proxy.connections(), 1, "the client keeps its connection");
    assert_eq!(proxy.requests(), ["GET /_ping", "GET /_ping"]);

    proxy.cut_all().await;
    assert_eq!(ask(&client).await, Ok(true));
    assert_eq!(proxy.connections(), 2, "the first connection was cut");

    proxy.refuse(true).await;
    assert_eq!(ask(&client).await, Ok(false));
    proxy.refuse(false).await;
    assert_eq!(ask(&client).await, Ok(true));

    proxy.freeze(true);
    assert!(ask(&client).await.is_err(), "nothing is answered while frozen");
    proxy.freeze(false);
    assert_eq!(ask(&client).await, Ok(true));

    let stranded = http_client(Some(proxy.path()));
    assert_eq!(ask(&stranded).await, Ok(true));
    proxy.strand();
    assert!(ask(&stranded).await.is_err(), "an old connection is silent");
    assert_eq!(ask(&http_client(Some(proxy.path()))).await, Ok(true), "a new connection works");

    proxy.delay(Duration::from_millis(100));
    let begun = Instant::now();
    assert_eq!(ask(&http_client(Some(proxy.path()))).await, Ok(true));
    assert!(begun.elapsed() >= Duration::from_millis(200), "each way is delayed");
}

#[tokio::test]
async fn the_events_of_a_container_are_heard() {
    let engine = Engine::connect(&run_id("events")).await;
    let mut events = engine.events().await;
    let web = engine.container("web").health_check(Duration::from_millis(200)).run().await;
    let started = events.next(&web, "start").await;
    let healthy = events.next(&web, "health_status: healthy").await;
    assert!(healthy.time_nano > started.time_nano);
    engine.exec(&web, &["/bin/busybox", "touch", "/sick"]).await;
    events.next(&web, "health_status: unhealthy").await;
}

#[tokio::test]
async fn a_second_engine_runs_containers_and_is_restarted_with_or_without_them() {
    for live_restore in [false, true] {
        let Some(mut dockerd) = Dockerd::start(live_restore).await else { return };
        let engine = Engine::connect_to(&dockerd.socket(), &run_id("second")).await;
        let web = engine.container("web").network("host").expose(23_000).run().await;
        assert!(engine.truth("judge").await.contains_key(&format!("judge:{}:23000", web.name)));
        dockerd.stop().await;
        dockerd.start_again().await;
        assert_eq!(engine.ids(false).await.len(), usize::from(live_restore));
    }
}
