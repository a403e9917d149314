use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::consul::Status;
use crate::consul::error::Class;
use crate::consul::meta::Meta;
use crate::consul::model::Weights;

fn wire(ops: &[Op]) -> Value {
    serde_json::from_slice(&encode(NAME, &wire::OpsBody(ops)).unwrap()).unwrap()
}

fn kv(op: KvOp) -> Op {
    Op::Kv("remora/x".into(), op)
}

fn check() -> CheckRow {
    CheckRow {
        notes: "made by SERVICE_CHECK_HTTP".into(),
        service: Some(("web-1".into(), "web".into())),
        kind: "http".into(),
        definition: Definition {
            http: "http://h/".into(),
            method: "POST".into(),
            tls_skip_verify: true,
            interval: Duration::from_secs(10),
            timeout: Duration::from_millis(1_500),
            deregister_after: Duration::from_secs(60),
            ..Definition::default()
        }
        .boxed(),
        ..CheckRow::of_node("n1", "web-1:1", "web", Status::Warning, "429")
    }
}

#[test]
fn every_operation_has_consuls_form() {
    let node = NodeRow {
        name: "n1".into(),
        address: "10.0.0.1".into(),
        meta: BTreeMap::from([("external-node".into(), "true".into())]),
    };
    let service = ServiceRow {
        node: "n1".into(),
        id: "web-1".into(),
        name: "web".into(),
        address: "10.0.0.1".into(),
        port: 80,
        tags: vec!["b".into(), "a".into()].into(),
        meta: Meta::from_iter([("k", "v")]),
        weights: Some(Weights { passing: 7, warning: 2 }),
        enable_tag_override: true,
    };
    let gone = ServiceRow { node: "n1".into(), id: "web-1".into(), name: "web".into(), ..ServiceRow::default() };
    let session = "s1".to_owned();
    let cases = [
        (
            Op::Node(Write::Cas(0), node),
            json!({"Node": {"Verb": "cas", "Node": {
                "Node": "n1", "Address": "10.0.0.1", "Meta": {"external-node": "true"}, "ModifyIndex": 0}}}),
        ),
        (
            Op::Service(Write::Set, service),
            json!({"Service": {"Verb": "set", "Node": "n1", "Service": {
                "ID": "web-1", "Service": "web", "Address": "10.0.0.1", "Port": 80, "Tags": ["b", "a"],
                "Meta": {"k": "v"}, "Weights": {"Passing": 7, "Warning": 2}, "EnableTagOverride": true}}}),
        ),
        (
            Op::Service(Write::DeleteCas(9), gone),
            json!({"Service": {"Verb": "delete-cas", "Node": "n1", "Service": {
                "ID": "web-1", "Service": "web", "Port": 0, "ModifyIndex": 9}}}),
        ),
        (
            Op::Check(Write::Cas(7), check()),
            json!({"Check": {"Verb": "cas", "Check": {
                "Node": "n1", "CheckID": "web-1:1", "Name": "web", "Status": "warning", "Output": "429",
                "Notes": "made by SERVICE_CHECK_HTTP", "ServiceID": "web-1", "ServiceName": "web", "Type": "http",
                "Definition": {
                    "HTTP": "http://h/", "Method": "POST", "TLSSkipVerify": true, "Interval": "10s",
                    "Timeout": "1s500ms", "DeregisterCriticalServiceAfter": "1m"},
                "ModifyIndex": 7}}}),
        ),
        (
            Op::Check(Write::Set, CheckRow::of_node("n1", "remora-node", "alive", Status::Critical, "gone")),
            json!({"Check": {"Verb": "set", "Check": {
                "Node": "n1", "CheckID": "remora-node", "Name": "alive", "Status": "critical", "Output": "gone"}}}),
        ),
        (kv(KvOp::Set { value: b"x".to_vec() }), json!({"KV": {"Verb": "set", "Key": "remora/x", "Value": "eA=="}})),
        (
            kv(KvOp::Cas { value: b"x".to_vec(), index: 0 }),
            json!({"KV": {"Verb": "cas", "Key": "remora/x", "Value": "eA==", "Index": 0}}),
        ),
        (
            kv(KvOp::Lock { value: b"x".to_vec(), session: session.clone() }),
            json!({"KV": {"Verb": "lock", "Key": "remora/x", "Value": "eA==", "Session": "s1"}}),
        ),
        (
            kv(KvOp::CheckSession { session }),
            json!({"KV": {"Verb": "check-session", "Key": "remora/x", "Session": "s1"}}),
        ),
        (kv(KvOp::CheckNotExists), json!({"KV": {"Verb": "check-not-exists", "Key": "remora/x"}})),
        (kv(KvOp::Delete), json!({"KV": {"Verb": "delete", "Key": "remora/x"}})),
        (kv(KvOp::DeleteCas { index: 4 }), json!({"KV": {"Verb": "delete-cas", "Key": "remora/x", "Index": 4}})),
    ];
    for (op, expected) in cases {
        assert_eq!(wire(std::slice::from_ref(&op)), json!([expected]), "{op}");
        assert_eq!(op.size(), expected.to_string().len(), "{op}");
    }
}

/// Consul 1.8.7's words, and what a newer one says to a missing right.
#[test]
fn the_words_tell_what_to_do() {
    let cases = [
        ("failed to set service \"w\" on node \"n1\", index is stale", Why::Conflict, Class::Gone),
        ("failed to set check \"w:d\" on node \"n1\", index is stale", Why::Conflict, Class::Gone),
        ("failed to delete node \"n1\", index is stale", Why::Conflict, Class::Gone),
        ("failed to set key \"a\", index is stale", Why::Conflict, Class::Gone),
        ("failed to check session, key \"a\" doesn't exist", Why::Conflict, Class::Gone),
        ("failed session check for key \"a\", current session \"\" != \"3c1d\"", Why::Conflict, Class::Gone),
        ("failed index check for key \"a\", current modify index 18 != 3", Why::Conflict, Class::Gone),
        ("key \"a\" exists", Why::Conflict, Class::Gone),
        ("invalid session \"3c1d\"", Why::Conflict, Class::Gone),
        ("failed to lock key \"q\", lock is already held", Why::Conflict, Class::Gone),
        ("failed to unlock key \"q\", lock isn't held, or is held by another session", Why::Conflict, Class::Gone),
        ("Missing node registration", Why::Missing, Class::Gone),
        ("Missing service registration", Why::Missing, Class::Gone),
        ("Permission denied", Why::Denied, Class::Denied),
        (
            "Permission denied: token with AccessorID 'x' lacks permission 'service:write' on \"web\"",
            Why::Denied,
            Class::Denied,
        ),
        ("Must provide service name with ID", Why::Invalid, Class::Rejected),
        ("Invalid service address", Why::Invalid, Class::Rejected),
        (
            "Invalid Service Meta for node n1 and serviceID w: Couldn't load metadata pair ('a.b', 'c'): Key contains",
            Why::Invalid,
            Class::Rejected,
        ),
        ("unknown Node verb \"foo\"", Why::Invalid, Class::Rejected),
    ];
    for (what, why, class) in cases {
        assert_eq!(Why::of(what), why, "{what}");
        let refusal = Refusal { op: 0, why, what: what.into() };
        assert_eq!(refusal.error(Some(&Op::Check(Write::Set, check()))).class(), class, "{what}");
    }
}

#[test]
fn a_missing_right_is_told_with_the_rule_that_gives_it() {
    let denied = |op: &Op| Refusal { op: 0, why: Why::Denied, what: "Permission denied".into() }.error(Some(op));
    let node = NodeRow { name: "n1".into(), ..NodeRow::default() };
    let told = denied(&Op::Node(Write::Set, node)).to_string();
    assert_eq!(
        told,
        "Consul refuses PUT /v1/txn: Permission denied: it needs node \"n1\" { policy = \"write\" } to set the node n1"
    );
    let told = denied(&Op::Check(Write::Set, check())).to_string();
    assert!(told.ends_with("it needs service \"web\" { policy = \"write\" } to set the check web-1:1"), "{told}");
    let told = denied(&kv(KvOp::Delete)).to_string();
    assert!(told.ends_with("it needs key \"remora/x\" { policy = \"write\" } to delete the key remora/x"), "{told}");
}

#[test]
fn what_is_told_of_a_refusal_is_what_does_not_pass_by_itself() {
    let refusal = |op, what: &str| Refusal { op, why: Why::of(what), what: what.into() };
    let ops = [kv(KvOp::CheckNotExists), kv(KvOp::Delete)];
    let refused = TxnResult::Refused(vec![refusal(0, "key \"remora/x\" exists"), refusal(1, "Permission denied")]);
    assert_eq!(refused.written(&ops).unwrap_err().class(), Class::Denied);
    let lost = TxnResult::Refused(vec![refusal(0, "key \"remora/x\" exists")]);
    assert!(matches!(lost.written(&ops), Err(ConsulError::Conflict { .. })));
    assert_eq!(TxnResult::TooLarge.written(&ops).unwrap_err().class(), Class::Rejected);
    // A place that is none of ours does no harm.
    let odd = TxnResult::Refused(vec![refusal(7, "Permission denied")]);
    assert_eq!(odd.written(&ops).unwrap_err().class(), Class::Denied);
}

#[test]
fn answers_are_read_with_null_for_empty() {
    let body = json!({"Errors": null, "Results": [
        {"Node": {"Node": "n1", "Meta": null, "ModifyIndex": 13}},
        {"Service": {"ID": "web-1", "Service": "web", "ModifyIndex": 14}},
        {"Check": {"Node": "n1", "CheckID": "c", "Definition": {}, "ModifyIndex": 15}},
        {"KV": {"Key": "a", "Value": null, "LockIndex": 0, "ModifyIndex": 16}},
        {"Somewhat": {}},
    ]});
    assert_eq!(
        wire::written(NAME, body.to_string().as_bytes()).unwrap(),
        [
            Written::Node { name: "n1".into(), index: 13 },
            Written::Service { id: "web-1".into(), index: 14 },
            Written::Check { id: "c".into(), index: 15 },
            Written::Kv { key: "a".into(), index: 16 },
        ]
    );
    assert_eq!(wire::written(NAME, b"{\"Results\": null}").unwrap(), []);
    let body = json!({"Results": null, "Errors": [{"OpIndex": 2, "What": "no"}]});
    assert_eq!(wire::refusals(NAME, body.to_string().as_bytes()).unwrap(), [(2, "no".to_owned())]);
}

#[test]
fn operations_are_cut_by_number_and_by_bytes_in_order() {
    let small: Vec<Op> = (0..130).map(|n| Op::Kv(format!("k{n}"), KvOp::Delete)).collect();
    let parts = split(&small);
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [64, 64, 2]);
    assert_eq!(parts.concat(), small);
    let large: Vec<Op> = (0..5).map(|n| Op::Kv(format!("k{n}"), KvOp::Set { value: vec![0; 100_000] })).collect();
    assert_eq!(split(&large).iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 2, 1]);
    let huge: Vec<Op> = (0..2).map(|n| Op::Kv(format!("k{n}"), KvOp::Set { value: vec![0; 600_000] })).collect();
    assert_eq!(split(&huge).len(), 2, "what is too long is alone");
    assert!(split(&[]).is_empty());
}
