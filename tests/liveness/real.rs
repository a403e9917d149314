//! On a real Consul.

use std::sync::Arc;
use std::time::Duration;

use remora::cluster::Settings;
use remora::config::{Secret, Token};
use remora::consul::members::{Behavior, Member, NewSession};
use remora::consul::txn::{KvOp, Op, TxnResult, Why, Write};
use remora::consul::{Client, ClusterClient, ConsulError, KvStore, Members as _, Status, Store as _};
use tokio::time::{Instant, sleep};

use super::agents::{Agent, SECOND, TTL, settings, until};
use super::consul::{Consul, Options};
use super::members_conformance;

/// Registers a node as the registry of its agent does; one that is there stays.
async fn add_node(consul: &Consul, node: &str, ours: bool) {
    let (status, body) = consul.raw("GET", &format!("/v1/catalog/node/{node}"), "").await;
    if status == 200 && body.trim() != "null" {
        return;
    }
    let meta = if ours { r#"{"managed-by": "remora"}"# } else { "{}" };
    let body = format!(
        r#"{{"Node": "{node}", "Address": "192.0.2.7", "NodeMeta": {meta}, "Check": {{
            "Node": "{node}", "CheckID": "remora-node", "Name": "Remora on this node", "Status": "passing",
            "Notes": "notes", "Output": "registered"}}}}"#
    );
    consul.put("/v1/catalog/register", &body).await;
}

async fn check(consul: &Consul, node: &str) -> (String, String) {
    let checks = consul.get(&format!("/v1/health/node/{node}")).await;
    let its = |check: &&serde_json::Value| check["CheckID"] == "remora-node";
    let Some(check) = checks.as_array().unwrap().iter().find(its) else {
        // Nobody takes it away: what Consul knows and what it said tell who did.
        let nodes = consul.get("/v1/catalog/nodes").await;
        panic!("{node} has only the checks {checks}, of the nodes {nodes}; Consul said:\n{}", consul.log());
    };
    let text = |name: &str| check[name].as_str().unwrap().to_owned();
    (text("Status"), text("Output"))
}

async fn is(consul: &Consul, node: &str, status: &str) -> bool {
    check(consul, node).await.0 == status
}

fn start(client: &Client, settings: Settings, right: bool) -> Agent {
    Agent::start_with(
        Arc::new(ClusterClient::new(client.clone())),
        Arc::new(KvStore::new(client.clone())),
        settings,
        right,
    )
}

/// Agents on `n1` to `n<count>`, all present, the first of them the leader.
async fn cluster(consul: &Consul, count: usize, reap: Duration) -> Vec<Agent> {
    let mut agents = Vec::new();
    for number in 1..=count {
        let node = format!("n{number}");
        add_node(consul, &node, true).await;
        agents.push(start(&consul.client(), Settings { reap, ..settings(&node) }, true));
        if number == 1 {
            until("elected", TTL, async || agents[0].leads()).await;
        }
    }
    until("all present", TTL, async || {
        let keys = consul.get("/v1/kv/remora/cluster/live/?keys").await;
        keys.as_array().map_or(0, Vec::len) == count
    })
    .await;
    agents
}

#[tokio::test]
async fn the_cluster_client_conforms() {
    let consul = Consul::start().await;
    for (node, ours) in [("m1", true), ("m2", true), ("other", false)] {
        add_node(&consul, node, ours).await;
    }
    let client = consul.client();
    members_conformance::conforms(&ClusterClient::new(client.clone()), &KvStore::new(client)).await;
}

#[tokio::test]
async fn a_node_that_dies_is_marked_in_time_and_passes_when_it_is_back_and_right() {
    let consul = Consul::start().await;
    add_node(&consul, "db", false).await;
    let mut agents = cluster(&consul, 3, Settings::REAP).await;
    // Somewhere between two renewals.
    sleep(4 * SECOND).await;
    let died = Instant::now();
    agents.pop().unwrap().kill();
    until("marked", 2 * TTL + 2 * SECOND, async || is(&consul, "n3", "critical").await).await;
    println!("killed, and critical after {:.2?} with a TTL of {TTL:?}", died.elapsed());
    let (_, output) = check(&consul, "n3").await;
    assert!(output.starts_with("node n3 has not been heard of since 2"), "{output}");

    let agent = start(&consul.client(), settings("n3"), false);
    sleep(3 * SECOND).await;
    assert!(is(&consul, "n3", "critical").await, "what it registers is not right yet");
    let back = Instant::now();
    agent.right.send_replace(true);
    until("passing", SECOND, async || is(&consul, "n3", "passing").await).await;
    println!("right again, and passing after {:.2?}", back.elapsed());
    assert_eq!(consul.raw("GET", "/v1/kv/remora/cluster/gone/n3", "").await.0, 404);

    // At rest nothing is written, but by Consul itself.
    sleep(SECOND).await;
    let before = consul.raft_index().await;
    sleep(8 * SECOND).await;
    let after = consul.raft_index().await;
    println!("{} Raft entries in 8 s at rest", after - before);
    assert!(after - before <= 1, "{before} to {after}");

    // A planned restart is no absence, and changes nothing that is read of the node.
    agent.stop().await;
    sleep(2 * SECOND).await;
    let _agent = start(&consul.client(), settings("n3"), true);
    sleep(4 * SECOND).await;
    assert!(is(&consul, "n3", "passing").await);
    assert!(is(&consul, "db", "passing").await);
}

#[tokio::test]
async fn another_one_leads_when_the_leader_is_killed_and_marks_it() {
    let consul = Consul::start().await;
    let mut agents = cluster(&consul, 3, Settings::REAP).await;
    let died = Instant::now();
    agents.remove(0).kill();
    until("marked", 3 * TTL, async || is(&consul, "n1", "critical").await).await;
    println!("the leader was killed, and is critical after {:.2?} with a TTL of {TTL:?}", died.elapsed());
    assert_eq!(agents.iter().filter(|agent| agent.leads()).count(), 1);
}

#[tokio::test]
async fn a_majority_that_vanishes_is_not_marked() {
    let consul = Consul::start().await;
    let mut agents = cluster(&consul, 5, Settings::REAP).await;
    agents.drain(2..).for_each(Agent::kill);
    until("vanished", 3 * TTL, async || agents[0].nodes("vanished") == 3).await;
    sleep(TTL).await;
    for node in ["n1", "n2", "n3", "n4", "n5"] {
        assert!(is(&consul, node, "passing").await, "{node}");
    }
    agents.push(start(&consul.client(), settings("n3"), true));
    until("marked", 3 * TTL, async || is(&consul, "n4", "critical").await && is(&consul, "n5", "critical").await).await;
    assert!(is(&consul, "n3", "passing").await);
}

#[tokio::test]
async fn a_node_is_removed_after_the_reap_time() {
    let consul = Consul::start().await;
    let mut agents = cluster(&consul, 3, 5 * SECOND).await;
    agents.pop().unwrap().kill();
    until("marked", 3 * TTL, async || is(&consul, "n3", "critical").await).await;
    let marked = Instant::now();
    until("removed", TTL, async || consul.get("/v1/catalog/node/n3").await.is_null()).await;
    assert!(marked.elapsed() >= 3 * SECOND, "{:?}", marked.elapsed());
    assert_eq!(consul.raw("GET", "/v1/kv/remora/cluster/gone/n3", "").await.0, 404);
}

#[tokio::test]
async fn the_transaction_of_a_stale_leader_is_rejected() {
    let consul = Consul::start().await;
    for node in ["n1", "n2", "n3"] {
        add_node(&consul, node, true).await;
    }
    let (members, store) = (ClusterClient::new(consul.client()), KvStore::new(consul.client()));
    let session =
        |node| NewSession { node, name: "leader", ttl: TTL, lock_delay: Duration::ZERO, behavior: Behavior::Release };
    let (old, new) =
        (members.session_on(&session("n1")).await.unwrap(), members.session_on(&session("n2")).await.unwrap());
    assert!(store.acquire("remora/cluster/leader", b"n1", &old).await.unwrap());
    let member: Member = members.member("n3").await.unwrap().unwrap();
    store.session_destroy(&old).await.unwrap();
    assert!(store.acquire("remora/cluster/leader", b"n2", &new).await.unwrap());
    let ops = |session: &str| {
        [
            Op::Kv("remora/cluster/leader".to_owned(), KvOp::CheckSession { session: session.to_owned() }),
            Op::Kv("remora/cluster/live/n3".to_owned(), KvOp::CheckNotExists),
            Op::Check(Write::Cas(member.check_index()), member.check(Status::Critical, "stale")),
        ]
    };
    let TxnResult::Refused(refusals) = members.transact(&ops(&old)).await.unwrap() else { panic!("it is stale") };
    assert_eq!((refusals[0].op, refusals[0].why), (0, Why::Conflict));
    assert!(is(&consul, "n3", "passing").await);
    assert!(matches!(members.transact(&ops(&new)).await.unwrap(), TxnResult::Done(_)));
    assert!(is(&consul, "n3", "critical").await);
}

/// A token with these rules.
async fn token(consul: &Consul, number: u8, rules: &str) -> Client {
    let rules = rules.replace('"', "\\\"").replace('\n', " ");
    consul.put("/v1/acl/policy", &format!(r#"{{"Name": "remora-{number}", "Rules": "{rules}"}}"#)).await;
    let secret = format!("33333333-2222-3333-4444-55555555555{number}");
    let body = format!(r#"{{"SecretID": "{secret}", "Policies": [{{"Name": "remora-{number}"}}]}}"#);
    consul.put("/v1/acl/token", &body).await;
    consul.client_with(Token::Value(Secret::new(secret)))
}

#[tokio::test]
async fn the_documented_rights_are_enough_and_a_missing_one_is_named() {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await;
    for node in ["n1", "n2", "n3"] {
        add_node(&consul, node, true).await;
    }
    let own = |node: &str| {
        format!(
            r#"key_prefix "remora/cluster/" {{ policy = "write" }} session "{node}" {{ policy = "write" }}
            node "{node}" {{ policy = "write" }} node_prefix "" {{ policy = "read" }}"#
        )
    };
    let leader = token(&consul, 1, &format!("{} node_prefix \"n\" {{ policy = \"write\" }}", own("n1"))).await;
    let other = token(&consul, 2, &own("n2")).await;
    let third = token(&consul, 3, &own("n3")).await;
    let reap = 5 * SECOND;
    let first = start(&leader, Settings { reap, ..settings("n1") }, true);
    until("elected", TTL, async || first.leads()).await;
    let _second = start(&other, settings("n2"), true);
    let third = start(&third, settings("n3"), true);
    until("present", TTL, async || first.nodes("present") == 3).await;
    sleep(2 * SECOND).await;
    third.kill();
    until("marked", 3 * TTL, async || is(&consul, "n3", "critical").await).await;
    until("removed", TTL, async || consul.get("/v1/catalog/node/n3").await.is_null()).await;

    // Each missing right says its name.
    let nothing = token(&consul, 4, "").await;
    let members = ClusterClient::new(nothing);
    let session =
        NewSession { node: "n1", name: "x", ttl: TTL, lock_delay: Duration::ZERO, behavior: Behavior::Delete };
    let error = members.session_on(&session).await.unwrap_err();
    assert!(matches!(error, ConsulError::Forbidden { .. }), "{error:?}");
    assert!(error.to_string().contains(r#"it needs session "n1" { policy = "write" }"#), "{error}");
    let members = ClusterClient::new(other);
    let member = members.member("n1").await.unwrap().unwrap();
    let ops = [Op::Check(Write::Cas(member.check_index()), member.check(Status::Critical, "x"))];
    let error = members.transact(&ops).await.unwrap().written(&ops).unwrap_err();
    assert!(error.to_string().contains(r#"it needs node "n1" { policy = "write" }"#), "{error}");
}
