//! Agents that agree through Consul: the semaphore of healing, rights that are missing, answers that are none of Consul's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[path = "support/consul.rs"]
mod consul;
#[path = "support/consul_wire.rs"]
mod consul_wire;
#[path = "support/fake_store.rs"]
mod fake_store;

use std::time::Duration;

use consul::{Consul, Options};
use fake_store::FakeStore;
use remora::config::{ClusterMax, Secret, Token};
use remora::consul::{Class, ConsulError, KvStore, Store};
use remora::heal::cluster::{Ask, Asks, Keys, Slots, Taken, Wish, slots};
use tokio::time::{Instant, advance, sleep};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

fn agent(node: &str, limit: ClusterMax) -> Slots {
    Slots::new(Keys::new("remora", node), limit)
}

fn busy(holders: &[&str]) -> Taken {
    Taken::Busy { holders: holders.iter().map(|holder| (*holder).to_owned()).collect() }
}

async fn holder(store: &impl Store, slot: usize) -> Option<String> {
    store.get(&format!("remora/heal/slot/{slot}")).await.unwrap().and_then(|entry| entry.session)
}

fn outage() -> ConsulError {
    ConsulError::Unwell { status: 500, call: "any", message: "No cluster leader".to_owned() }
}

fn denied<T: std::fmt::Debug>(outcome: &Result<T, ConsulError>) {
    assert!(matches!(outcome, Err(ConsulError::Forbidden { .. })), "{outcome:?}");
}

fn unknown<T: std::fmt::Debug>(outcome: &Result<T, ConsulError>, status: u16) {
    let error = outcome.as_ref().expect_err("nobody knows");
    assert_eq!(error.class(), Class::Transient, "{status}: {error:?}");
}

/// One slot, two agents; `first` and `second` are their ways to Consul, and `store` the one of an operator.
async fn one_of_two_agents_operates(first: &impl Store, second: &impl Store, store: &impl Store) {
    let (mut n1, mut n2) = (agent("n1", ClusterMax::Percent(10)), agent("n2", ClusterMax::Percent(10)));
    assert_eq!(n1.take(first).await.unwrap(), Taken::Slot(0));
    assert_eq!(n2.take(second).await.unwrap(), busy(&["n1"]));
    assert_eq!(n1.take(first).await.unwrap(), Taken::Slot(0), "whoever has it keeps it");
    assert!(n1.confirm(first).await.unwrap() && n1.renew(first).await.unwrap());
    assert_eq!((n1.held(Instant::now()), n2.held(Instant::now())), (Some(0), None));
    assert!(!n2.confirm(second).await.unwrap());

    // Given back, it is free at once.
    n1.release(first).await.unwrap();
    assert_eq!(n1.held(Instant::now()), None);
    assert_eq!(n2.take(second).await.unwrap(), Taken::Slot(0));
    assert_eq!(n1.take(first).await.unwrap(), busy(&["n2"]));

    // Its owner's node dies: Consul ends the session, and it is free after the lock delay.
    let session = holder(store, 0).await.expect("it is held");
    store.session_destroy(&session).await.unwrap();
    assert_eq!(n1.take(first).await.unwrap(), busy(&[]), "within the lock delay");
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(n1.take(first).await.unwrap(), Taken::Slot(0));
    // Should the dead one come back, it learns that it has lost.
    assert!(!n2.confirm(second).await.unwrap());
    assert!(!n2.renew(second).await.unwrap());
    assert_eq!(n2.held(Instant::now()), None);
    assert_eq!(n2.take(second).await.unwrap(), busy(&["n1"]));

    // An operator may take it from somebody who has it.
    store.delete("remora/heal/slot/0").await.unwrap();
    assert!(!n1.confirm(first).await.unwrap());
    assert_eq!(n1.held(Instant::now()), None);
    n1.release(first).await.unwrap();
    n2.release(second).await.unwrap();
}

async fn two_of_three_agents_operate(store: &impl Store) {
    let mut agents = ["n1", "n2", "n3"].map(|node| agent(node, ClusterMax::Count(2)));
    let mut taken = Vec::new();
    for agent in &mut agents {
        taken.push(agent.take(store).await.unwrap());
    }
    assert_eq!(taken, [Taken::Slot(0), Taken::Slot(1), busy(&["n1", "n2"])]);
    agents[0].release(store).await.unwrap();
    assert_eq!(agents[2].take(store).await.unwrap(), Taken::Slot(0));
    for agent in &mut agents {
        agent.release(store).await.unwrap();
    }
}

#[tokio::test]
async fn the_semaphore_works_on_a_real_consul() {
    let consul = Consul::start().await;
    let client = || KvStore::new(consul.client());
    one_of_two_agents_operates(&client(), &client(), &client()).await;
    two_of_three_agents_operate(&client()).await;
    assert_eq!(consul.get("/v1/session/list").await, serde_json::json!([]), "no session is left behind");
}

#[tokio::test(start_paused = true)]
async fn the_semaphore_works_on_the_fake() {
    let store = FakeStore::new();
    one_of_two_agents_operates(&store, &store, &store).await;
    two_of_three_agents_operate(&store).await;
    assert_eq!(store.sessions(), [""; 0], "no session is left behind");
}

#[tokio::test]
async fn many_agents_never_hold_more_slots_than_there_are() {
    let consul = Consul::start().await;
    let store = KvStore::new(consul.client());
    let mut agents: Vec<Slots> = (0..8).map(|number| agent(&format!("n{number}"), ClusterMax::Count(3))).collect();
    for _ in 0..3 {
        let taken = futures_util::future::join_all(agents.iter_mut().map(|agent| agent.take(&store))).await;
        let slots: std::collections::BTreeSet<_> = taken
            .into_iter()
            .filter_map(|taken| match taken.unwrap() {
                Taken::Slot(slot) => Some(slot),
                Taken::Busy { .. } => None,
            })
            .collect();
        let held = agents.iter().filter(|agent| agent.held(Instant::now()).is_some()).count();
        assert_eq!((slots.len(), held), (3, 3));
        for agent in &mut agents {
            agent.release(&store).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_cannot_be_renewed_is_lost_by_our_own_clock_before_consul_gives_it_away() {
    let store = FakeStore::new();
    let (mut n1, mut n2) = (agent("n1", ClusterMax::Count(1)), agent("n2", ClusterMax::Count(1)));
    assert_eq!(n1.take(&store).await.unwrap(), Taken::Slot(0));
    let took = Instant::now();
    advance(slots::RENEW_EVERY).await;
    assert!(n1.renew(&store).await.unwrap());
    store.fail_all(Some(outage()));
    advance(Duration::from_secs(29)).await;
    assert!(n1.renew(&store).await.is_err() && n1.confirm(&store).await.is_err());
    assert_eq!(n1.held(Instant::now()), Some(0), "an error is no loss");
    advance(Duration::from_secs(2)).await;
    assert_eq!(n1.held(Instant::now()), None, "a time to live without a renewal is");
    store.fail_all(None);
    assert_eq!(n2.take(&store).await.unwrap(), busy(&["n1"]), "and Consul gives it away much later");
    sleep(Duration::from_secs(35)).await;
    assert_eq!(n2.take(&store).await.unwrap(), Taken::Slot(0), "after {:?}", took.elapsed());
    assert!(!n1.confirm(&store).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_release_that_did_not_arrive_leaves_the_slot_to_the_one_who_had_it() {
    let store = FakeStore::new();
    let (mut n1, mut n2) = (agent("n1", ClusterMax::Count(1)), agent("n2", ClusterMax::Count(1)));
    assert_eq!(n1.take(&store).await.unwrap(), Taken::Slot(0));
    store.fail_next(1, &outage());
    n1.release(&store).await.unwrap_err();
    assert_eq!(n1.held(Instant::now()), None);
    store.forget_calls();
    assert!(!n1.renew(&store).await.unwrap() && store.calls().is_empty(), "what is not held is not renewed");
    assert_eq!(n2.take(&store).await.unwrap(), busy(&["n1"]));
    assert_eq!(n1.take(&store).await.unwrap(), Taken::Slot(0));
    n1.release(&store).await.unwrap();
    assert_eq!(n2.take(&store).await.unwrap(), Taken::Slot(0));
}

#[tokio::test(start_paused = true)]
async fn what_consul_does_not_say_is_no_slot() {
    let store = FakeStore::new();
    let mut n1 = agent("n1", ClusterMax::Percent(50));
    store.set_nodes(10);
    for failing in 0..4 {
        // One call after the other fails: session, nodes, list, acquire.
        let mut n2 = agent("n2", ClusterMax::Percent(50));
        store.set_latency(Duration::from_secs(1));
        let fault = async {
            sleep(Duration::from_millis(1000 * failing + 500)).await;
            store.fail_next(1, &outage());
        };
        let (taken, ()) = tokio::join!(n2.take(&store), fault);
        assert!(taken.is_err(), "{failing}: {taken:?}");
        assert_eq!(n2.held(Instant::now()), None, "{failing}");
        store.set_latency(Duration::ZERO);
        n2.release(&store).await.unwrap();
    }
    // Whoever may not see the nodes has one slot.
    store.set_nodes(0);
    assert_eq!(n1.take(&store).await.unwrap(), Taken::Slot(0));
    assert_eq!(agent("n2", ClusterMax::Percent(50)).take(&store).await.unwrap(), busy(&["n1"]));
}

#[tokio::test(start_paused = true)]
async fn a_slot_beyond_the_count_counts() {
    let store = FakeStore::new();
    let mut agents = ["n1", "n2", "n3"].map(|node| agent(node, ClusterMax::Percent(10)));
    store.set_nodes(20);
    assert_eq!(agents[0].take(&store).await.unwrap(), Taken::Slot(0));
    assert_eq!(agents[1].take(&store).await.unwrap(), Taken::Slot(1));
    agents[0].release(&store).await.unwrap();
    store.set_nodes(10);
    assert_eq!(agents[2].take(&store).await.unwrap(), busy(&["n2"]));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_taken_once() {
    let store = FakeStore::new();
    let keys = Keys::new("remora", "n1");
    store.write(&keys.ask("n1", "web"), Ask::value(Wish::Heal, "alice"));
    let entries = store.list(&keys.asks(), None).await.unwrap().entries;
    let asked = Asks::default().read(&keys, &entries);
    store.write(&keys.ask("n1", "web"), Ask::value(Wish::Release, "alice"));
    assert!(!asked.asks[0].take(&store).await.unwrap(), "she has thought of something else");
    let entries = store.list(&keys.asks(), None).await.unwrap().entries;
    let asked = Asks::default().read(&keys, &entries);
    assert_eq!(asked.asks[0].wish, Wish::Release);
    assert!(asked.asks[0].take(&store).await.unwrap());
    assert!(store.list(&keys.asks(), None).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn missing_rights_are_an_error_and_never_an_empty_list() {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await;
    let all = KvStore::new(consul.client());
    all.put("remora/heal/pause", b"a move").await.unwrap();
    let nobody = KvStore::new(consul.client_with(Token::None));
    let wrong = KvStore::new(consul.client_with(Token::Value(Secret::new("99999999-2222-3333-4444-555555555555"))));
    for store in [nobody, wrong] {
        denied(&store.get("remora/heal/pause").await);
        denied(&store.get("remora/nothing").await);
        denied(&store.list("remora/heal/pause", None).await);
        denied(&store.list("remora/nothing/", None).await);
        denied(&store.put("remora/x", b"x").await);
        denied(&store.delete("remora/x").await);
        denied(&store.session_create(slots::TTL, Duration::from_secs(1), "x").await);
        denied(&store.nodes().await);
    }
    // Rights as docs and `Store` name them are enough.
    let rules = r#"key_prefix \"remora/\" { policy = \"write\" } session_prefix \"test-node\" { policy = \"write\" } node_prefix \"\" { policy = \"read\" }"#;
    consul.put("/v1/acl/policy", &format!(r#"{{"Name": "remora", "Rules": "{rules}"}}"#)).await;
    let secret = "33333333-2222-3333-4444-555555555555";
    consul.put("/v1/acl/token", &format!(r#"{{"SecretID": "{secret}", "Policies": [{{"Name": "remora"}}]}}"#)).await;
    let ours = KvStore::new(consul.client_with(Token::Value(Secret::new(secret))));
    assert_eq!(ours.list("remora/heal/pause", None).await.unwrap().entries.len(), 1);
    assert!(ours.list("remora/heal/ask/n1/", None).await.unwrap().entries.is_empty());
    let mut n1 = agent("n1", ClusterMax::Percent(10));
    assert_eq!(n1.take(&ours).await.unwrap(), Taken::Slot(0));
    assert!(n1.confirm(&ours).await.unwrap());
    n1.release(&ours).await.unwrap();
    // A session that does not exist any more, with access control.
    ours.session_destroy("44444444-2222-3333-4444-555555555555").await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_none_of_consuls_is_unknown() {
    for (status, body) in [(404, "404 page not found"), (200, "<html>"), (200, ""), (200, "{}"), (302, ""), (500, "x")]
    {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(status).set_body_string(body)).mount(&server).await;
        let store = KvStore::new(consul_wire::client(&server));
        unknown(&store.get("a").await, status);
        unknown(&store.list("a", None).await, status);
        unknown(&store.nodes().await, status);
        unknown(&store.instances("a").await, status);
        unknown(&store.session_create(slots::TTL, Duration::ZERO, "x").await, status);
        if status != 200 {
            unknown(&store.session_renew("a").await, status);
        }
    }
}

#[tokio::test]
async fn a_list_that_consul_has_shortened_is_no_list() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(200)
        .set_body_string("[]")
        .insert_header("X-Consul-Index", "7")
        .insert_header("X-Consul-Results-Filtered-By-ACLs", "true");
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let store = KvStore::new(consul_wire::client(&server));
    for error in [store.list("a", None).await.unwrap_err(), store.instances("a").await.unwrap_err()] {
        assert!(matches!(error, ConsulError::Forbidden { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_answers_at_once_is_not_asked_all_the_time() {
    let server = MockServer::start().await;
    let body = r#"[{"Key": "a", "Value": null, "ModifyIndex": 7}]"#;
    let answer = ResponseTemplate::new(200).set_body_string(body).insert_header("X-Consul-Index", "7");
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let store = KvStore::new(consul_wire::client(&server));
    let began = Instant::now();
    store.list("a", Some((7, Duration::from_secs(45)))).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(store.list("a", Some((8, Duration::from_secs(45)))).await.unwrap().index, 0);
}
