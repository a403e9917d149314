//! Consul's answers, read by the real clients: lists and single rows of an agent and of the catalog, keys, sessions,
//! transactions, and every way of refusing. The form of an input is told in `peer`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use remora::config::{self, ConsulAddress, ConsulTls, Token};
use remora::consul::catalog::NodeIdentity;
use remora::consul::members::{Behavior, NewSession};
use remora::consul::registry::OUTPUT_LIMIT;
use remora::consul::txn::{NodeRow, Op, TxnResult, Write};
use remora::consul::{
    AgentRegistry, CatalogRegistry, Check, CheckKind, Client, ClusterClient, ConsulError, KvStore, Members, Registry,
    Right, Service, Snapshot, Status, Store,
};

use super::metadata::is_shown;
use super::peer::{Answer, Peer, read};

thread_local! {
    static BED: (Peer, Client) = {
        let peer = Peer::new("consul");
        let config = config::Consul {
            address: ConsulAddress::Unix(peer.socket.clone()),
            others: Vec::new(),
            token: Token::None,
            auth: None,
            tls: ConsulTls::default(),
            namespace: None,
            partition: None,
        };
        let client = Client::new(&config).unwrap();
        (peer, client)
    };
}

pub fn run(data: &[u8]) {
    let (call, answers) = read(data);
    BED.with(|(peer, client)| {
        peer.says(&answers);
        peer.runtime.block_on(ask(&call, peer, client, &answers));
    });
}

/// Of an outcome only what does not hold is of interest.
fn judge<T>(outcome: Result<T, ConsulError>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            refused(&error);
            None
        }
    }
}

fn refused(error: &ConsulError) {
    let text = error.to_string();
    assert!(!text.is_empty() && is_shown(&text, 2000), "{text:?}");
    let _what_to_do = error.class();
}

fn is_good(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

async fn ask(call: &str, peer: &Peer, client: &Client, answers: &[Answer]) {
    let store = KvStore::on_node(client.clone(), "n1");
    let agent = AgentRegistry::new(client.clone());
    let members = ClusterClient::new(client.clone());
    match call {
        "agent-read" => agent_read(peer, &agent, answers).await,
        "agent-find" => {
            let found = judge(agent.find("n1:web:80").await).flatten();
            assert!(found.is_none_or(|it| it.id == "n1:web:80"), "the one that was asked for");
        }
        "agent-register" => drop(judge(agent.register(&service()).await)),
        "agent-update" => drop(judge(agent.update_check("n1:web:80:docker", Status::Passing, "ok").await)),
        "agent-deregister" => drop(judge(agent.deregister("n1:web:80").await)),
        "agent-remove-check" => drop(judge(agent.remove_check("n1:web:80:docker").await)),
        "agent-changed" => drop(judge(agent.changed("n1:remora", Duration::from_millis(1)).await)),
        "agent-strays" => drop(judge(agent.strays().await)),
        "agent-self" => drop(judge(client.agent_self().await)),
        "leader" => drop(judge(client.leader().await)),
        "rights" => {
            let asked = [Right::new("service", "web", "write"), Right::new("node", "n1", "write")];
            if let Some(found) = judge(client.rights(&asked).await).flatten() {
                let of = |right: &Right| (right.resource.clone(), right.segment.clone(), right.access.clone());
                assert!(found.iter().map(of).eq(asked.iter().map(of)), "not what was asked for: {found:?}");
            }
        }
        "filtered" => drop(judge(client.services_filtered().await)),
        "catalog-read" => catalog_read(peer, client, answers).await,
        "catalog-find" => {
            let (catalog, _writer) = CatalogRegistry::new(client.clone(), NodeIdentity::new("n1", "192.0.2.1", "E"));
            let found = judge(catalog.find("n1:web:80").await).flatten();
            assert!(found.is_none_or(|it| it.id.to_lowercase() == "n1:web:80"), "the one that was asked for");
        }
        "members" => drop(judge(members.members().await)),
        "member" => drop(judge(members.member("n1").await)),
        "session-on" => {
            let (ttl, lock_delay) = (Duration::from_secs(10), Duration::ZERO);
            let session = NewSession { node: "n1", name: "x", ttl, lock_delay, behavior: Behavior::Delete };
            assert!(
                judge(members.session_on(&session).await).is_none_or(|id| !id.is_empty()),
                "a session without an id"
            );
        }
        "txn" => transaction(client).await,
        _ => keys(call, &store, answers).await,
    }
}

async fn agent_read(peer: &Peer, agent: &AgentRegistry, answers: &[Answer]) {
    let first = judge(agent.read().await);
    let good = answers.len() >= 2 && answers[..2].iter().all(is_good);
    assert!(first.is_none() || good, "a failed look is Unknown, never empty");
    let Some(first) = first else { return };
    picture(&first);
    peer.says(answers);
    let second = agent.read().await.expect("the same answers");
    assert!(Arc::ptr_eq(&first, &second), "the same answers are another picture");
}

async fn catalog_read(peer: &Peer, client: &Client, answers: &[Answer]) {
    let (catalog, _writer) = CatalogRegistry::new(client.clone(), NodeIdentity::new("n1", "192.0.2.1", "E"));
    let first = judge(catalog.read().await);
    assert!(first.is_none() || answers.first().is_some_and(is_good), "a failed look is Unknown, never empty");
    let Some(first) = first else { return };
    picture(&first);
    peer.says(answers);
    let second = catalog.read().await.expect("the same answers");
    assert!(Arc::ptr_eq(&first, &second), "the same answers are another picture");
}

fn picture(snapshot: &Snapshot) {
    for (id, service) in &snapshot.services {
        assert_eq!(*id, service.id);
        assert!(service.checks.iter().all(|(id, _)| id.len() < 1 << 20));
        let own = (&service.address, &service.port);
        assert!(service.tagged_addresses.iter().all(|(_, (address, port))| (address, port) != own), "{service:?}");
    }
}

async fn transaction(client: &Client) {
    let node = NodeRow { name: "n1".to_owned(), address: "192.0.2.1".to_owned(), meta: BTreeMap::new() };
    let ops = [Op::Node(Write::Cas(7), node), Op::Kv("a/b".to_owned(), remora::consul::txn::KvOp::CheckNotExists)];
    let Some(result) = judge(client.transact(&ops).await) else { return };
    if let TxnResult::Refused(refusals) = &result {
        assert!(!refusals.is_empty());
        for refusal in refusals {
            assert!(is_shown(&refusal.what, 400), "{:?}", refusal.what);
            refused(&refusal.error(ops.get(refusal.op)));
        }
    }
    drop(judge(result.written(&ops)));
}

async fn keys(call: &str, store: &KvStore, answers: &[Answer]) {
    let first = answers.first();
    match call {
        "kv-get" => {
            if let Some(None) = judge(store.get("remora/heal/state/n1/web").await) {
                assert!(first.is_some_and(|first| is_good(first) || first.status == 404), "an error reads as no key");
            }
        }
        "kv-list" => {
            let listing = judge(store.list("remora/heal/", None).await);
            assert!(listing.is_none_or(|listing| listing.index > 0), "an index of nothing");
        }
        "kv-put" => drop(judge(store.put("remora/x", b"1").await)),
        "kv-put-if" => drop(judge(store.put_if("remora/x", b"1", 7).await)),
        "kv-delete-if" => drop(judge(store.delete_if("remora/x", 7).await)),
        "session-create" => {
            let made = store.session_create(Duration::from_secs(10), Duration::ZERO, "x").await;
            assert!(judge(made).is_none_or(|id| !id.is_empty()), "a session without an id");
        }
        "session-renew" => {
            if judge(store.session_renew("an-id").await) == Some(false) {
                assert!(first.is_some_and(|first| !is_good(first)), "a renewed session is told as gone");
            }
        }
        "session-destroy" => drop(judge(store.session_destroy("an-id").await)),
        "acquire" => drop(judge(store.acquire("remora/x", b"1", "an-id").await)),
        "release" => drop(judge(store.release("remora/x", "an-id").await)),
        "instances" => {
            for instance in judge(store.instances("web").await).into_iter().flatten() {
                assert!(instance.checks.iter().all(|check| check.output.len() <= OUTPUT_LIMIT), "a long output");
            }
        }
        "nodes" => assert!(judge(store.nodes().await).is_none_or(|nodes| nodes > 0), "there is always one node"),
        _ => {}
    }
}

fn service() -> Service {
    let check = Check {
        id: "n1:web:80:docker".into(),
        name: "docker".into(),
        notes: "".into(),
        kind: Arc::new(CheckKind::Ttl { ttl: Duration::from_secs(60) }),
        status: Status::Passing,
        output: "".into(),
        deregister_after: None,
        success_before_passing: 0,
        failures_before_critical: 0,
    };
    let mut service = Service {
        id: "n1:web:80".into(),
        name: "web".into(),
        address: "192.0.2.10".into(),
        port: 80,
        tags: ["a".into()].into(),
        meta: remora::consul::Meta::default(),
        tagged_addresses: litemap::LiteMap::new(),
        weights: None,
        enable_tag_override: false,
        checks: vec![check],
    };
    service.seal();
    service
}
