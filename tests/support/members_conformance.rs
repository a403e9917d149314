//! What every [`Members`] promises. The real one and the fake pass the same suite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

use std::time::Duration;

use remora::consul::members::{Behavior, NODE_CHECK, NewSession};
use remora::consul::txn::{KvOp, NodeRow, Op, TxnResult, Why, Write};
use remora::consul::{ConsulError, Members, Status, Store};

const TTL: Duration = Duration::from_secs(30);

fn session(node: &'static str, behavior: Behavior) -> NewSession<'static> {
    NewSession { node, name: "test", ttl: TTL, lock_delay: Duration::ZERO, behavior }
}

fn kv(key: &str, op: KvOp) -> Op {
    Op::Kv(key.to_owned(), op)
}

fn lock(key: &str, session: &str) -> Op {
    kv(key, KvOp::Lock { value: b"v".to_vec(), session: session.to_owned() })
}

fn check_session(key: &str, session: &str) -> Op {
    kv(key, KvOp::CheckSession { session: session.to_owned() })
}

#[track_caller]
fn done(result: &TxnResult) {
    assert!(matches!(result, TxnResult::Done(_)), "{result:?}");
}

/// Which operations were refused, all of them because something is not as they wanted it.
#[track_caller]
fn conflicts(result: TxnResult) -> Vec<usize> {
    let TxnResult::Refused(refusals) = result else { panic!("{result:?}") };
    assert!(refusals.iter().all(|refusal| refusal.why == Why::Conflict), "{refusals:?}");
    refusals.into_iter().map(|refusal| refusal.op).collect()
}

/// The whole suite, on a Consul that has the nodes `m1` and `m2` with our mark and `other` without it, each with its check
/// passing, and nothing in its KV. `m2` is removed.
pub async fn conforms(members: &impl Members, store: &impl Store) {
    nodes_are_read_with_their_check(members).await;
    sessions_are_on_a_node(members, store).await;
    a_key_changes_hands_without_a_gap(members, store).await;
    a_transaction_happens_as_a_whole_or_not_at_all(members, store).await;
    a_node_is_removed_with_its_sessions(members, store).await;
}

async fn nodes_are_read_with_their_check(members: &impl Members) {
    let mut all = members.members().await.unwrap();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(all.iter().map(|it| (it.name.as_str(), it.ours)).collect::<Vec<_>>(), [("m1", true), ("m2", true)]);
    for member in all {
        let check = member.check.as_ref().expect("its check");
        assert_eq!((check.status, check.notes.as_str()), (Status::Passing, "notes"));
        assert!(check.index > 0 && member.index > 0);
        assert_eq!(members.member(&member.name).await.unwrap(), Some(member));
    }
    assert_eq!(members.member("M1").await.unwrap().unwrap().name, "m1", "names are case-insensitive");
    assert!(!members.member("other").await.unwrap().unwrap().ours);
    assert_eq!(members.member("nobody").await.unwrap(), None);
}

async fn sessions_are_on_a_node(members: &impl Members, store: &impl Store) {
    let outcome = members.session_on(&session("nobody", Behavior::Delete)).await;
    assert!(matches!(outcome, Err(ConsulError::NotFound { .. })), "{outcome:?}");
    let delete = members.session_on(&session("m1", Behavior::Delete)).await.unwrap();
    let release = members.session_on(&session("m1", Behavior::Release)).await.unwrap();
    assert!(store.acquire("t/d", b"x", &delete).await.unwrap());
    assert!(store.acquire("t/r", b"x", &release).await.unwrap());
    for id in [&delete, &release] {
        assert!(store.session_renew(id).await.unwrap());
        store.session_destroy(id).await.unwrap();
        assert!(!store.session_renew(id).await.unwrap());
    }
    assert_eq!(store.get("t/d").await.unwrap(), None);
    assert_eq!(store.get("t/r").await.unwrap().unwrap().session, None);
    // Without a lock delay it can be taken again at once.
    let next = members.session_on(&session("m1", Behavior::Delete)).await.unwrap();
    assert!(store.acquire("t/d", b"x", &next).await.unwrap());
    store.session_destroy(&next).await.unwrap();
    store.delete("t/r").await.unwrap();
}

async fn a_key_changes_hands_without_a_gap(members: &impl Members, store: &impl Store) {
    let old = members.session_on(&session("m1", Behavior::Delete)).await.unwrap();
    let new = members.session_on(&session("m1", Behavior::Delete)).await.unwrap();
    done(&members.transact(&[lock("t/live", &old)]).await.unwrap());
    assert_eq!(conflicts(members.transact(&[lock("t/live", &new)]).await.unwrap()), [0]);
    let index = store.get("t/live").await.unwrap().unwrap().index;
    let delete = |index| kv("t/live", KvOp::DeleteCas { index });
    assert_eq!(conflicts(members.transact(&[delete(index + 99), lock("t/live", &new)]).await.unwrap())[0], 0);
    assert_eq!(store.get("t/live").await.unwrap().unwrap().session.as_ref(), Some(&old));
    done(&members.transact(&[delete(index), lock("t/live", &new)]).await.unwrap());
    // The end of the old one takes nothing along.
    store.session_destroy(&old).await.unwrap();
    assert_eq!(store.get("t/live").await.unwrap().unwrap().session.as_ref(), Some(&new));
    store.session_destroy(&new).await.unwrap();
    assert_eq!(store.get("t/live").await.unwrap(), None);
    assert_eq!(
        conflicts(members.transact(&[lock("t/live", &new)]).await.unwrap()),
        [0],
        "a dead session takes nothing"
    );
}

async fn a_transaction_happens_as_a_whole_or_not_at_all(members: &impl Members, store: &impl Store) {
    let leader = members.session_on(&session("m1", Behavior::Release)).await.unwrap();
    let stale = members.session_on(&session("m1", Behavior::Release)).await.unwrap();
    assert!(store.acquire("t/leader", b"m1", &leader).await.unwrap());
    let member = members.member("m2").await.unwrap().unwrap();
    let ops = |session: &str, index: u64| {
        [
            check_session("t/leader", session),
            kv("t/live/m2", KvOp::CheckNotExists),
            Op::Check(Write::Cas(index), member.check(Status::Critical, "gone")),
            kv("t/gone/m2", KvOp::Set { value: b"then".to_vec() }),
        ]
    };
    let index = member.check_index();
    assert_eq!(conflicts(members.transact(&ops(&stale, index)).await.unwrap())[0], 0, "not the leader");
    assert_eq!(conflicts(members.transact(&ops(&leader, index + 99)).await.unwrap()), [2], "changed meanwhile");
    store.put("t/live/m2", b"x").await.unwrap();
    assert_eq!(conflicts(members.transact(&ops(&leader, index)).await.unwrap()), [1], "not gone");
    store.delete("t/live/m2").await.unwrap();
    assert_eq!(members.member("m2").await.unwrap().unwrap(), member);
    assert_eq!(store.get("t/gone/m2").await.unwrap(), None);

    done(&members.transact(&ops(&leader, index)).await.unwrap());
    let after = members.member("m2").await.unwrap().unwrap();
    let check = after.check.clone().unwrap();
    assert_eq!((check.status, check.output.as_str(), check.notes.as_str()), (Status::Critical, "gone", "notes"));
    assert!(check.index > index);
    assert_eq!(after.index, member.index, "the node itself has not changed");
    assert_eq!(after.check(Status::Passing, "").id, NODE_CHECK);
    assert_eq!(store.get("t/gone/m2").await.unwrap().unwrap().value, b"then");
    store.session_destroy(&leader).await.unwrap();
    store.session_destroy(&stale).await.unwrap();
    assert_eq!(conflicts(members.transact(&[check_session("t/leader", &leader)]).await.unwrap()), [0]);
    store.delete("t/leader").await.unwrap();
}

async fn a_node_is_removed_with_its_sessions(members: &impl Members, store: &impl Store) {
    let index = members.member("m2").await.unwrap().unwrap().index;
    let held = members.session_on(&session("m2", Behavior::Delete)).await.unwrap();
    let remove = |index| {
        let row = NodeRow { name: "m2".to_owned(), ..NodeRow::default() };
        [Op::Node(Write::DeleteCas(index), row), kv("t/gone/m2", KvOp::Delete)]
    };
    assert_eq!(conflicts(members.transact(&remove(index + 99)).await.unwrap()), [0]);
    assert!(store.get("t/gone/m2").await.unwrap().is_some());
    done(&members.transact(&remove(index)).await.unwrap());
    assert_eq!(members.member("m2").await.unwrap(), None);
    assert_eq!(members.members().await.unwrap().len(), 1);
    assert!(!store.session_renew(&held).await.unwrap());
    assert_eq!(store.get("t/gone/m2").await.unwrap(), None);
}
