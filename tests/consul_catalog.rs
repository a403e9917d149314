//! The registry of a node without a Consul agent, against a real Consul: what only a real one can prove.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[path = "support/catalog_node.rs"]
mod catalog_node;
#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/consul.rs"]
mod consul;
#[path = "consul_catalog/rights.rs"]
mod rights;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog_node::{ENGINE, NODE, identity, marked, running};
use conformance::check;
use consul::Consul;
use futures_util::future::join_all;
use remora::consul::catalog::{NODE_CHECK, NodeIdentity, Writer};
use remora::consul::{
    CatalogRegistry, CheckKind, CheckTls, Class, ConsulError, Probe, Registry as _, Service, Status, TaggedAddress,
    Weights,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

async fn row(consul: &Consul, id: &str) -> Value {
    let node = consul.get(&format!("/v1/catalog/node-services/{NODE}")).await;
    let services = node["Services"].as_array().cloned().unwrap_or_default();
    services.into_iter().find(|service| service["ID"] == id).unwrap_or_default()
}

async fn check_row(consul: &Consul, id: &str) -> Value {
    let checks = consul.get(&format!("/v1/health/node/{NODE}")).await;
    checks.as_array().unwrap().iter().find(|check| check["CheckID"] == id).cloned().unwrap_or_default()
}

/// What an operator changes about a service in the catalog.
async fn edit(consul: &Consul, service: Value) {
    let body = json!({"Node": NODE, "SkipNodeUpdate": true, "Service": service});
    consul.put("/v1/catalog/register", &body.to_string()).await;
}

#[tokio::test]
async fn a_thousand_registrations_are_few_transactions() {
    let consul = Consul::start().await;
    let registry = running(consul.client(), ENGINE);
    let services: Vec<Service> = (0..1_000).map(|n| marked(&format!("n1:web{n}:80"), ENGINE)).collect();
    let before = consul.raft_index().await;
    for outcome in join_all(services.iter().map(|it| registry.register(it))).await {
        outcome.unwrap();
    }
    let written = consul.raft_index().await - before;
    // Two operations each, 64 in a transaction: 32 of them, and what the node and the first one cost.
    assert!(written <= 45, "{written} writes");
    let snapshot = registry.read().await.unwrap();
    assert_eq!(snapshot.services.len(), 1_000);
    assert!(snapshot.services.values().all(|service| service.checks.len() == 1));

    // The same again is nothing.
    let before = consul.raft_index().await;
    for outcome in join_all(services.iter().map(|it| registry.register(it))).await {
        outcome.unwrap();
    }
    assert!(consul.raft_index().await - before <= 1, "nothing is written that is so already");

    let before = consul.raft_index().await;
    for outcome in join_all(services.iter().map(|it| registry.deregister(&it.id))).await {
        outcome.unwrap();
    }
    assert!(consul.raft_index().await - before <= 30);
    assert!(registry.read().await.unwrap().services.is_empty());
}

#[tokio::test]
async fn the_node_is_marked_and_has_a_check() {
    let consul = Consul::start().await;
    let registry = running(consul.client(), ENGINE);
    registry.register(&marked("web-1", ENGINE)).await.unwrap();
    let node = &consul.get("/v1/catalog/node/N1").await["Node"];
    assert_eq!((&node["Node"], &node["Address"]), (&json!(NODE), &json!("10.0.0.1")));
    let meta = json!({"managed-by": "remora", "remora-engine": ENGINE});
    assert_eq!(node["Meta"], meta);
    assert_eq!(check_row(&consul, NODE_CHECK).await["Status"], "passing");

    // It is none of the services' checks, but it takes them out of rotation.
    registry.set_node_check(Status::Critical, "lost").await.unwrap();
    let snapshot = registry.read().await.unwrap();
    assert_eq!(snapshot.services["web-1"].checks.keys().collect::<Vec<_>>(), ["web-1:docker"]);
    assert_eq!(consul.get("/v1/health/service/web?passing").await, json!([]));
    registry.remove_check(NODE_CHECK).await.unwrap();
    assert!(matches!(registry.update_check(NODE_CHECK, Status::Passing, "").await, Err(ConsulError::NotFound { .. })));
    assert_eq!(check_row(&consul, NODE_CHECK).await["Output"], "lost", "it is set by its own name only");
    registry.set_node_check(Status::Passing, "there again").await.unwrap();
    assert_eq!(consul.get("/v1/health/service/web?passing").await.as_array().unwrap().len(), 1);

    // A new address of the host, and what an operator put beside our mark.
    let moved = NodeIdentity::new("N1", "10.0.0.2", ENGINE);
    let (registry, writer) = CatalogRegistry::new(consul.client(), moved);
    drop(tokio::spawn(writer.run(CancellationToken::new())));
    let mut more = meta.clone();
    more["rack"] = json!("7");
    consul
        .put("/v1/catalog/register", &json!({"Node": NODE, "Address": "10.0.0.1", "NodeMeta": more}).to_string())
        .await;
    registry.register(&marked("web-2", ENGINE)).await.unwrap();
    let node = &consul.get("/v1/catalog/node/n1").await["Node"];
    assert_eq!((&node["Address"], &node["Meta"]), (&json!("10.0.0.2"), &more));
}

#[tokio::test]
async fn a_node_of_somebody_elses_is_left_alone() {
    let consul = Consul::start().await;
    let theirs = json!({"Node": "N1", "Address": "10.9.9.9", "Service": {"ID": "x", "Service": "db"}});
    consul.put("/v1/catalog/register", &theirs.to_string()).await;
    let registry = running(consul.client(), ENGINE);
    let before = consul.get("/v1/catalog/node/n1").await;
    let outcomes = [
        registry.read().await.map(drop),
        registry.register(&marked("web-1", ENGINE)).await,
        registry.deregister("x").await,
        registry.update_check("x:1", Status::Passing, "").await,
        registry.set_node_check(Status::Passing, "").await,
        registry.remove_node().await.map(drop),
    ];
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(matches!(error, ConsulError::NotOurs { .. }) && error.class() == Class::Denied, "{error:?}");
        assert!(
            error.to_string().contains("no managed-by=remora with this agent's remora-engine")
                && error.to_string().contains("REMORA_NODE"),
            "{error}"
        );
    }
    assert_eq!(consul.get("/v1/catalog/node/n1").await, before);
    // Once it is gone, the node is ours.
    consul.put("/v1/catalog/deregister", &json!({"Node": NODE}).to_string()).await;
    registry.register(&marked("web-1", ENGINE)).await.unwrap();
    assert!(registry.read().await.unwrap().services.contains_key("web-1"));
}

#[tokio::test]
async fn two_hosts_with_one_name_do_not_share_the_node_unless_one_is_dead() {
    let consul = Consul::start().await;
    let first = running(consul.client(), ENGINE);
    first.register(&marked("web-1", ENGINE)).await.unwrap();
    let second = running(consul.client(), "OTHER");
    let error = second.register(&marked("web-2", "OTHER")).await.unwrap_err();
    assert!(error.to_string().contains(ENGINE) && error.class() == Class::Denied, "{error}");
    // The cluster has found it dead: a host whose engine was installed anew.
    first.set_node_check(Status::Critical, "gone").await.unwrap();
    second.register(&marked("web-2", "OTHER")).await.unwrap();
    assert_eq!(consul.get("/v1/catalog/node/n1").await["Node"]["Meta"]["remora-engine"], "OTHER");
    assert_eq!(
        check_row(&consul, NODE_CHECK).await["Status"],
        "critical",
        "that is said when everything is registered"
    );
    second.set_node_check(Status::Passing, "registered").await.unwrap();
    assert!(matches!(first.read().await, Err(ConsulError::NotOurs { .. })));
}

#[tokio::test]
async fn a_lost_race_is_looked_at_again_and_nobody_elses_row_is_taken() {
    let consul = Consul::start().await;
    let registry = running(consul.client(), ENGINE);
    let mut web = marked("web-1", ENGINE);
    registry.register(&web).await.unwrap();

    // An operator edits tags; what is registered meanwhile wins, as with an agent.
    let meta = json!(web.meta.iter().collect::<BTreeMap<_, _>>());
    edit(&consul, json!({"ID": "web-1", "Service": "web", "Tags": ["by-hand"], "Meta": meta})).await;
    web.port = 9_090;
    web.seal();
    registry.register(&web).await.unwrap();
    assert_eq!(
        (&row(&consul, "web-1").await["Port"], &row(&consul, "web-1").await["Tags"]),
        (&json!(9_090), &json!(["b", "a"]))
    );

    // Somebody else takes the row.
    let theirs = json!({"ID": "web-1", "Service": "web", "Meta": {"managed-by": "nomad"}});
    edit(&consul, theirs.clone()).await;
    web.port = 9_091;
    web.seal();
    let error = registry.register(&web).await.unwrap_err();
    assert!(matches!(error, ConsulError::Conflict { .. }) && error.class() == Class::Gone, "{error:?}");
    edit(&consul, json!({"ID": "web-1", "Service": "web", "Meta": {"managed-by": "somebody"}})).await;
    assert!(matches!(registry.deregister("web-1").await, Err(ConsulError::Conflict { .. })));
    assert_eq!(row(&consul, "web-1").await["Meta"]["managed-by"], "somebody");

    // An id that was free a moment ago.
    registry.read().await.unwrap();
    edit(&consul, json!({"ID": "db-1", "Service": "db", "Meta": {"managed-by": "nomad"}})).await;
    assert!(matches!(registry.register(&marked("db-1", ENGINE)).await, Err(ConsulError::Conflict { .. })));
    assert_eq!(row(&consul, "db-1").await["Service"], "db");

    // A check that the leader of the cluster, or anybody, changed.
    let web = marked("web-2", ENGINE);
    registry.register(&web).await.unwrap();
    let set = json!([{"Check": {"Verb": "set", "Check": {"Node": NODE, "CheckID": "web-2:docker", "ServiceID": "web-2", "Status": "warning"}}}]);
    consul.put("/v1/txn", &set.to_string()).await;
    registry.update_check("web-2:docker", Status::Critical, "exit 1").await.unwrap();
    assert_eq!(check_row(&consul, "web-2:docker").await["Status"], "critical");
    // And one that is gone.
    consul.put("/v1/catalog/deregister", &json!({"Node": NODE, "ServiceID": "web-2"}).to_string()).await;
    let outcome = registry.update_check("web-2:docker", Status::Passing, "").await;
    assert!(matches!(outcome, Err(ConsulError::NotFound { .. })), "{outcome:?}");
    registry.deregister("web-2").await.unwrap();
}

#[tokio::test]
async fn two_writers_lose_nothing() {
    let consul = Consul::start().await;
    let registries = [running(consul.client(), ENGINE), running(consul.client(), ENGINE)];
    let registries = &registries;
    let writes = (0..200).map(|n| async move {
        let registry = &registries[n % 2];
        // Each id is wanted by both at nearly the same time.
        let web = marked(&format!("web-{}", n / 2), ENGINE);
        registry.register(&web).await?;
        registry.update_check(&Service::docker_check_id(&web.id), Status::Critical, "both").await
    });
    for (n, outcome) in join_all(writes).await.into_iter().enumerate() {
        // Whoever loses twice in a row hears of it, and looks.
        if let Err(error) = outcome {
            assert_eq!(error.class(), Class::Gone, "{n}: {error}");
        }
    }
    for registry in registries {
        let snapshot = registry.read().await.unwrap();
        assert_eq!(snapshot.services.len(), 100);
    }
}

#[tokio::test]
async fn what_others_change_is_noticed_at_once_and_our_own_writes_are_not() {
    let consul = Consul::start().await;
    let registry = running(consul.client(), ENGINE);
    let web = marked("web-1", ENGINE);
    registry.register(&web).await.unwrap();
    registry.read().await.unwrap();
    let (long, short) = (Duration::from_secs(20), Duration::from_millis(700));
    assert!(registry.changed("web-1", long).await.unwrap(), "the first call learns what there is");
    assert!(!registry.changed("web-1", short).await.unwrap(), "nothing happened");

    let own = async {
        for n in 0..20 {
            registry.register(&marked(&format!("other-{n}"), ENGINE)).await.unwrap();
            registry
                .update_check("web-1:docker", if n % 2 == 0 { Status::Critical } else { Status::Passing }, "x")
                .await
                .unwrap();
        }
        registry.deregister("other-0").await.unwrap();
    };
    let (news, ()) = tokio::join!(registry.changed("web-1", Duration::from_secs(2)), own);
    assert!(!news.unwrap(), "our own writes are no news");

    let meta = json!(web.meta.iter().collect::<BTreeMap<_, _>>());
    let set = |status: &str| {
        json!([{"Check": {"Verb": "set", "Check": {"Node": NODE, "CheckID": "web-1:docker", "ServiceID": "web-1", "Status": status}}}]).to_string()
    };
    let changes = [
        ("a check", "/v1/txn", set("warning")),
        ("a service", "/v1/catalog/register", json!({"Node": NODE, "SkipNodeUpdate": true, "Service": {"ID": "web-1", "Service": "web", "Tags": ["by-hand"], "Meta": meta}}).to_string()),
        ("a new service", "/v1/catalog/register", json!({"Node": NODE, "SkipNodeUpdate": true, "Service": {"ID": "new", "Service": "new"}}).to_string()),
        ("a service that goes", "/v1/catalog/deregister", json!({"Node": NODE, "ServiceID": "other-3"}).to_string()),
        ("a check that goes", "/v1/catalog/deregister", json!({"Node": NODE, "CheckID": "other-4:docker"}).to_string()),
        ("the node's check", "/v1/catalog/deregister", json!({"Node": NODE, "CheckID": NODE_CHECK}).to_string()),
        ("the node", "/v1/catalog/deregister", json!({"Node": NODE}).to_string()),
    ];
    for (what, path, body) in changes {
        let change = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            consul.put(path, &body).await;
            Instant::now()
        };
        let (news, at) = tokio::join!(async { (registry.changed("web-1", long).await, Instant::now()) }, change);
        assert_eq!(news.0, Ok(true), "{what}");
        let took = news.1 - at;
        assert!(took < Duration::from_secs(1), "{what}: {took:?}");
        registry.read().await.unwrap();
        // The same change may end the other query too.
        while registry.changed("web-1", short).await.unwrap() {
            registry.read().await.unwrap();
        }
    }
}

#[tokio::test]
async fn at_rest_nothing_is_written() {
    let consul = Consul::start().await;
    let registry = running(consul.client(), ENGINE);
    let own = marked("n1:remora:engine", ENGINE);
    registry.register(&own).await.unwrap();
    registry.update_check("n1:remora:engine:docker", Status::Passing, "all is well").await.unwrap();
    let first = registry.read().await.unwrap();
    let before = consul.raft_index().await;
    for _ in 0..50 {
        registry.update_check("n1:remora:engine:docker", Status::Passing, "all is well").await.unwrap();
        registry.register(&own).await.unwrap();
        registry.set_node_check(Status::Passing, "registered").await.unwrap();
        assert!(Arc::ptr_eq(&first, &registry.read().await.unwrap()));
    }
    // Consul itself writes now and then.
    assert!(consul.raft_index().await - before <= 2);
}

#[tokio::test]
async fn an_output_alone_is_written_rarely_and_shown_at_once() {
    let consul = Consul::start().await;
    let registry = running(consul.client(), ENGINE);
    registry.register(&marked("web-1", ENGINE)).await.unwrap();
    let id = "web-1:docker";
    registry.update_check(id, Status::Critical, "exit 1").await.unwrap();
    registry.update_check(id, Status::Critical, "exit 2").await.unwrap();
    assert_eq!(check_row(&consul, id).await["Output"], "exit 2", "the first one");
    registry.update_check(id, Status::Critical, "exit 3").await.unwrap();
    assert_eq!(check_row(&consul, id).await["Output"], "exit 2", "the next one waits");
    let shown = registry.read().await.unwrap();
    assert_eq!(shown.services["web-1"].checks.get(id).unwrap().output, "exit 3", "as an agent shows it");
    assert!(Arc::ptr_eq(&shown, &registry.read().await.unwrap()));
    registry.update_check(id, Status::Passing, "well").await.unwrap();
    assert_eq!(check_row(&consul, id).await["Output"], "well", "a status does not wait");
    assert_eq!(registry.read().await.unwrap().services["web-1"].checks.get(id).unwrap().output, "well");
}

#[tokio::test]
async fn a_check_keeps_what_it_is_and_a_service_its_addresses_through_a_hundred_flips() {
    let consul = Consul::start().await;
    let registry = running(consul.client(), ENGINE);
    let probe = Probe { interval: Duration::from_secs(10), timeout: Some(Duration::from_millis(1_500)) };
    let http = CheckKind::Http {
        url: "http://10.1.2.3:8080/health".to_owned(),
        method: Some("POST".to_owned()),
        headers: BTreeMap::from([("Authorization".to_owned(), vec!["s3cr3t".to_owned()])]),
        body: Some("s3cr3t".to_owned()),
        probe,
        tls: CheckTls { server_name: None, skip_verify: true },
    };
    let mut web = marked("web-1", ENGINE);
    web.checks.push(check("web-1:1", Status::Critical, http));
    web.checks[1].deregister_after = Some(Duration::from_secs(90));
    web.tagged_addresses.insert("lan_ipv6".into(), TaggedAddress { address: "fd00::1".into(), port: 8_080 });
    web.weights = Some(Weights { passing: 7, warning: 2 });
    web.seal();
    registry.register(&web).await.unwrap();
    for n in 0..100 {
        let status = if n % 2 == 0 { Status::Passing } else { Status::Critical };
        registry.update_check("web-1:1", status, &format!("probe {n}")).await.unwrap();
    }
    let found = check_row(&consul, "web-1:1").await;
    let definition = json!({
        "HTTP": "http://10.1.2.3:8080/health", "Method": "POST", "TLSSkipVerify": true, "Interval": "10s",
        "Timeout": "1.5s", "DeregisterCriticalServiceAfter": "1m30s",
    });
    assert_eq!((&found["Definition"], &found["Notes"]), (&definition, &json!("made by a test")));
    assert_eq!(
        (&found["Name"], &found["ServiceName"], &found["Output"]),
        (&json!("check web-1:1"), &json!("web"), &json!("probe 99"))
    );
    assert!(!found.to_string().contains("s3cr3t"), "the catalog is open to everybody");
    let service = row(&consul, "web-1").await;
    assert_eq!(service["TaggedAddresses"], json!({"lan_ipv6": {"Address": "fd00::1", "Port": 8_080}}));
    assert_eq!(service["Weights"], json!({"Passing": 7, "Warning": 2}));
    // A name that changes takes the checks along.
    web.name = "api".into();
    web.seal();
    registry.register(&web).await.unwrap();
    assert_eq!(check_row(&consul, "web-1:docker").await["ServiceName"], "api");
    assert_eq!(row(&consul, "web-1").await["TaggedAddresses"]["lan_ipv6"]["Port"], 8_080);
    // And without them they are gone.
    web.tagged_addresses.clear();
    web.seal();
    registry.register(&web).await.unwrap();
    assert_eq!(row(&consul, "web-1").await["TaggedAddresses"], Value::Null);
}

#[tokio::test]
async fn what_is_ours_can_be_removed_and_what_is_not_stays() {
    let consul = Consul::start().await;
    let registry = running(consul.client(), ENGINE);
    assert!(!registry.remove_node().await.unwrap(), "there is none");
    registry.register(&marked("web-1", ENGINE)).await.unwrap();
    edit(&consul, json!({"ID": "theirs", "Service": "db"})).await;
    assert!(!registry.remove_node().await.unwrap(), "somebody else is on it");
    let left = registry.read().await.unwrap();
    assert_eq!(left.services.keys().collect::<Vec<_>>(), ["theirs"]);
    consul.put("/v1/catalog/deregister", &json!({"Node": NODE, "ServiceID": "theirs"}).to_string()).await;
    assert!(registry.remove_node().await.unwrap());
    assert!(registry.read().await.unwrap().services.is_empty());
    registry.register(&marked("web-1", ENGINE)).await.unwrap();
    assert!(registry.read().await.unwrap().services.contains_key("web-1"), "made anew");
    // By hand, while nobody looked.
    consul.put("/v1/catalog/deregister", &json!({"Node": NODE}).to_string()).await;
    registry.register(&marked("web-2", ENGINE)).await.unwrap();
    assert_eq!(registry.read().await.unwrap().services.keys().collect::<Vec<_>>(), ["web-2"]);
    assert_eq!(check_row(&consul, NODE_CHECK).await["Status"], "passing");
}

#[tokio::test]
async fn a_consul_that_is_away_is_told_and_everything_is_as_before_afterwards() {
    let mut consul = Consul::start().await;
    let registry = running(consul.client(), ENGINE);
    let web = marked("web-1", ENGINE);
    registry.register(&web).await.unwrap();
    consul.kill();
    let outcomes = join_all((0..20).map(|n| registry.deregister(["web-1", "x"][n % 2]))).await;
    assert!(outcomes.iter().any(Result::is_err));
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(error.class(), Class::Transient, "{error}");
    }
    assert_eq!(registry.read().await.unwrap_err().class(), Class::Transient);
    consul.restart().await;
    assert!(registry.read().await.unwrap().services.is_empty(), "its data went with it");
    registry.register(&web).await.unwrap();
    assert!(registry.read().await.unwrap().services.contains_key("web-1"));
}

#[tokio::test]
async fn the_writer_ends_with_what_it_was_asked_for() {
    let consul = Consul::start().await;
    let (registry, writer): (CatalogRegistry, Writer) = CatalogRegistry::new(consul.client(), identity(ENGINE));
    let shutdown = CancellationToken::new();
    let services: Vec<Service> = (0..50).map(|n| marked(&format!("web-{n}"), ENGINE)).collect();
    let asked = join_all(services.iter().map(|it| registry.register(it)));
    let end = async {
        tokio::task::yield_now().await;
        shutdown.cancel();
        writer.run(shutdown.clone()).await;
    };
    let (outcomes, ()) = tokio::join!(asked, end);
    outcomes.into_iter().for_each(Result::unwrap);
    assert_eq!(registry.read().await.unwrap().services.len(), 50);
    let error = registry.deregister("web-1").await.unwrap_err();
    assert!(matches!(error, ConsulError::Unreachable { .. }), "{error}");
}
