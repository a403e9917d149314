//! Transactions, and what the catalog's registry makes of them: against a Consul that answers what a real one does not, and
//! against the bare transactions on a real one, as a measurement.

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

use std::time::{Duration, Instant};

use catalog_node::{ENGINE, marked, running};
use conformance::{service, ttl};
use consul::Consul;
use futures_util::future::join_all;
use remora::config::{self, ConsulAddress, ConsulTls, Token};
use remora::consul::catalog::{NODE_CHECK, NodeIdentity};
use remora::consul::txn::{CheckRow, KvOp, NodeRow, Op, ServiceRow, TxnResult, Why, Write, split};
use remora::consul::{CatalogRegistry, Class, Client, Registry as _, Service, Status};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// What a leader writes: it is still the leader, the node is still gone, the node's check becomes critical.
#[tokio::test]
async fn a_fence_keeps_the_whole_transaction_from_happening() {
    let consul = Consul::start().await;
    let client = consul.client();
    let (status, answer) = consul.raw("PUT", "/v1/session/create", r#"{"NodeChecks": []}"#).await;
    assert_eq!(status, 200, "{answer}");
    let session = serde_json::from_str::<Value>(&answer).unwrap()["ID"].as_str().unwrap().to_owned();
    let lock = Op::Kv("leader".to_owned(), KvOp::Lock { value: b"me".to_vec(), session: session.clone() });
    let node = NodeRow { name: "n9".to_owned(), address: "10.0.0.9".to_owned(), ..NodeRow::default() };
    let ops = [lock, Op::Node(Write::Cas(0), node)];
    assert_eq!(client.transact(&ops).await.unwrap().written(&ops).unwrap().len(), 2);
    let mark = |session: &str| {
        let session = session.to_owned();
        [
            Op::Kv("leader".to_owned(), KvOp::CheckSession { session }),
            Op::Kv("live/n9".to_owned(), KvOp::CheckNotExists),
            Op::Check(Write::Cas(0), CheckRow::of_node("n9", NODE_CHECK, "node", Status::Critical, "gone")),
            Op::Kv("gone/n9".to_owned(), KvOp::Cas { value: b"now".to_vec(), index: 0 }),
        ]
    };
    let refused = async |ops: &[Op]| match client.transact(ops).await.unwrap() {
        TxnResult::Refused(refusals) => refusals.iter().map(|it| (it.op, it.why)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let other = mark("3c1d8b04-1111-2222-3333-444444444444");
    assert_eq!(refused(&other).await, [(0, Why::Conflict)], "somebody else leads");
    consul.put("/v1/kv/live/n9", "x").await;
    assert_eq!(refused(&mark(&session)).await, [(1, Why::Conflict)], "it is there again");
    assert_eq!(consul.get("/v1/health/node/n9").await, json!([]), "nothing of it happened");
    consul.raw("DELETE", "/v1/kv/live/n9", "").await;
    let ops = mark(&session);
    client.transact(&ops).await.unwrap().written(&ops).unwrap();
    assert_eq!(consul.get("/v1/health/node/n9").await[0]["Status"], "critical");
    assert_eq!(refused(&ops).await, [(2, Why::Conflict), (3, Why::Conflict)], "once");
    let orphan = [Op::Check(Write::Set, CheckRow::of_node("nobody", NODE_CHECK, "node", Status::Critical, ""))];
    assert_eq!(refused(&orphan).await, [(0, Why::Missing)]);
}

/// The transactions that a thousand registrations come to, ready to be sent.
fn bare(services: &[Service], node: &str) -> Vec<Op> {
    let mut ops = vec![
        Op::Node(
            Write::Cas(0),
            NodeRow { name: node.to_owned(), address: "10.0.0.1".to_owned(), ..NodeRow::default() },
        ),
        Op::Check(Write::Cas(0), CheckRow::of_node(node, NODE_CHECK, "node", Status::Passing, "")),
    ];
    for it in services {
        let row = ServiceRow {
            node: node.into(),
            id: it.id.clone(),
            name: it.name.clone(),
            address: it.address.clone(),
            port: it.port,
            tags: it.tags.clone(),
            meta: it.meta.clone(),
            ..ServiceRow::default()
        };
        ops.push(Op::Service(Write::Cas(0), row));
        for check in &it.checks {
            let row = CheckRow::of_node(node, &check.id, &check.name, check.status, "");
            let service = Some((it.id.clone(), it.name.clone()));
            ops.push(Op::Check(Write::Cas(0), CheckRow { service, notes: check.notes.clone(), ..row }));
        }
    }
    ops
}

/// The figure: `cargo test --release --test consul_txn -- --ignored --nocapture`. Turns are taken, so that whatever
/// drifts on the machine hits both.
#[tokio::test]
#[ignore = "a measurement, for a quiet machine"]
#[allow(clippy::print_stdout, reason = "the figure")]
async fn a_thousand_services_cost_what_their_transactions_cost() {
    const ROUNDS: u32 = 7;
    let consul = Consul::start().await;
    let client = consul.client();
    let services: Vec<Service> = (0..1_000).map(|n| marked(&format!("n1:web{n}:80"), ENGINE)).collect();
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let node = format!("bare-{round}");
        let began = Instant::now();
        for part in split(&bare(&services, &node)) {
            client.transact(part).await.unwrap().written(part).unwrap();
        }
        let bare_took = began.elapsed();
        let (registry, writer) =
            CatalogRegistry::new(client.clone(), NodeIdentity::new(&format!("ours-{round}"), "10.0.0.1", ENGINE));
        let writer = tokio::spawn(writer.run(CancellationToken::new()));
        let began = Instant::now();
        for outcome in join_all(services.iter().map(|it| registry.register(it))).await {
            outcome.unwrap();
        }
        let ours_took = began.elapsed();
        registry.remove_node().await.unwrap();
        consul.put("/v1/catalog/deregister", &json!({"Node": node}).to_string()).await;
        drop(registry);
        writer.await.unwrap();
        // The first round opens connections.
        if round > 0 {
            floor.push(bare_took);
            ours.push(ours_took);
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (ours, floor) = (median(&mut ours), median(&mut floor));
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    let (ours, floor) = (ours.as_millis(), floor.as_millis());
    println!("| catalog, 1,000 services registered | {ours} ms | {floor} ms | × {ratio:.2} | ≤ × 1.50 |");
    assert!(ratio <= 1.5, "× {ratio:.2}");
}

/// A Consul that takes no more than three operations at once, without a node of ours.
async fn small_consul() -> (MockServer, Client) {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/v1/catalog/node-services/n1"))
        .respond_with(ResponseTemplate::new(200).set_body_string(r#"{"Node": null, "Services": null}"#))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(path("/v1/health/node/n1"))
        .respond_with(ResponseTemplate::new(200).set_body_string("[]"))
        .mount(&server)
        .await;
    Mock::given(method("PUT"))
        .and(path("/v1/txn"))
        .respond_with(|request: &Request| {
            let ops: Vec<Value> = request.body_json().unwrap();
            if ops[0]["Node"]["Verb"] == "get" {
                let errors = json!({"Errors": [{"OpIndex": 0, "What": "node \"n1\" doesn't exist"}]});
                return ResponseTemplate::new(409).set_body_json(errors);
            }
            if ops.len() > 3 {
                return ResponseTemplate::new(413).set_body_string("Transaction contains too many operations (4 > 3)");
            }
            let results: Vec<Value> = ops
                .iter()
                .map(|op| {
                    if op["Service"].is_object() {
                        return json!({"Service": {"ID": op["Service"]["Service"]["ID"], "ModifyIndex": 9}});
                    }
                    let kind = if op["Node"].is_object() { "Node" } else { "Check" };
                    let mut row = op[kind][kind].clone();
                    row["ModifyIndex"] = json!(9);
                    json!({kind: row})
                })
                .collect();
            ResponseTemplate::new(200).set_body_json(json!({"Results": results}))
        })
        .mount(&server)
        .await;
    let address = ConsulAddress::Url {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port: server.address().port(),
        prefix: String::new(),
    };
    let config = config::Consul {
        address,
        others: Vec::new(),
        token: Token::None,
        auth: None,
        tls: ConsulTls::default(),
        namespace: None,
        partition: None,
    };
    let client = Client::new(&config).unwrap();
    (server, client)
}

#[tokio::test]
async fn what_is_too_much_at_once_is_sent_in_halves() {
    let (server, client) = small_consul().await;
    let registry = running(client, ENGINE);
    // The node with its check is two operations; each service one more.
    let services: Vec<Service> = (0..9).map(|n| service(&format!("web-{n}"), vec![])).collect();
    for outcome in join_all(services.iter().map(|it| registry.register(it))).await {
        outcome.unwrap();
    }
    let large = service("large", (0..4).map(|n| ttl(&format!("large:{n}"), Status::Passing)).collect());
    let error = registry.register(&large).await.unwrap_err();
    assert_eq!(error.class(), Class::Rejected, "one that cannot be halved is its own fault: {error}");
    let sent = server.received_requests().await.unwrap();
    let taken: Vec<Value> = sent
        .iter()
        .filter(|request| request.url.path() == "/v1/txn")
        .flat_map(|request| {
            let ops: Vec<Value> = request.body_json().unwrap();
            if ops.len() > 3 { Vec::new() } else { ops }
        })
        .collect();
    for service in &services {
        let times = taken.iter().filter(|op| op["Service"]["Service"]["ID"] == *service.id).count();
        assert_eq!(times, 1, "{}", service.id);
    }
}

#[tokio::test]
async fn an_answer_that_is_none_of_consuls_is_told_and_not_believed() {
    let (server, client) = small_consul().await;
    let registry = running(client.clone(), ENGINE);
    assert!(registry.read().await.unwrap().services.is_empty());
    let odd = [
        ResponseTemplate::new(200).set_body_string("<html>"),
        ResponseTemplate::new(404),
        ResponseTemplate::new(409).set_body_string(r#"{"Errors": null}"#),
        ResponseTemplate::new(500).set_body_string("No cluster leader"),
    ];
    for answer in odd {
        server.reset().await;
        Mock::given(path("/v1/catalog/node-services/n1"))
            .respond_with(ResponseTemplate::new(200).set_body_string(r#"{"Node": null, "Services": null}"#))
            .mount(&server)
            .await;
        Mock::given(path("/v1/health/node/n1"))
            .respond_with(ResponseTemplate::new(200).set_body_string("[]"))
            .mount(&server)
            .await;
        Mock::given(path("/v1/txn")).respond_with(answer).mount(&server).await;
        let ops = [Op::Kv("k".to_owned(), KvOp::Delete)];
        let error = client.transact(&ops).await.unwrap_err();
        assert!(matches!(error.class(), Class::Transient | Class::Gone), "{error}");
        let error = registry.read().await.unwrap_err();
        assert!(matches!(error.class(), Class::Transient | Class::Gone), "a node that may be there: {error}");
        assert!(registry.register(&marked("web-1", ENGINE)).await.is_err());
    }
}
