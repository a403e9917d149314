//! A transaction as JSON, and what Consul says to it.
//!
//! Consul answers 400 to a field that it does not know, except in a check's definition, where it passes over them.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::answer::{decode, nullable};
use super::request::go_duration;
use crate::consul::error::ConsulError;
use crate::consul::txn::{CheckRow, Definition, KvOp, NodeRow, Op, ServiceRow, Write, Written};

/// The body of `PUT /v1/txn`.
pub(in crate::consul) struct OpsBody<'a>(pub(in crate::consul) &'a [Op]);

impl Serialize for OpsBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for op in self.0 {
            list.serialize_element(&value_of(op))?;
        }
        list.end()
    }
}

/// The body of a transaction that only looks at a node.
pub(in crate::consul) fn node_look(name: &str) -> Value {
    json!([{"Node": {"Verb": "get", "Node": {"Node": name}}}])
}

/// How many bytes an operation takes.
pub(in crate::consul) fn size_of(op: &Op) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, nor can a value be anything but JSON.
    let _infallible = write!(count, "{}", value_of(op));
    count.0
}

/// The verb, and the index that goes into the row.
fn verb(write: Write) -> (&'static str, Option<u64>) {
    match write {
        Write::Set => ("set", None),
        Write::Cas(index) => ("cas", Some(index)),
        Write::Delete => ("delete", None),
        Write::DeleteCas(index) => ("delete-cas", Some(index)),
    }
}

fn value_of(op: &Op) -> Value {
    match op {
        Op::Node(write, row) => {
            let (verb, index) = verb(*write);
            json!({"Node": {"Verb": verb, "Node": indexed(node(row), index)}})
        }
        Op::Service(write, row) => {
            let (verb, index) = verb(*write);
            json!({"Service": {"Verb": verb, "Node": row.node, "Service": indexed(service(row), index)}})
        }
        Op::Check(write, row) => {
            let (verb, index) = verb(*write);
            json!({"Check": {"Verb": verb, "Check": indexed(check(row), index)}})
        }
        Op::Kv(key, op) => json!({"KV": kv(key, op)}),
    }
}

fn indexed(mut row: Map<String, Value>, index: Option<u64>) -> Map<String, Value> {
    if let Some(index) = index {
        row.insert("ModifyIndex".to_owned(), index.into());
    }
    row
}

/// Fields that are not empty.
fn fields<const N: usize>(all: [(&str, Value); N]) -> Map<String, Value> {
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    all.into_iter().filter(|(_, value)| !empty(value)).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn node(row: &NodeRow) -> Map<String, Value> {
    fields([("Node", json!(row.name)), ("Address", json!(row.address)), ("Meta", json!(row.meta))])
}

/// Also the `Service` of `PUT /v1/catalog/register`.
pub(super) fn service(row: &ServiceRow) -> Map<String, Value> {
    fields([
        ("ID", json!(row.id)),
        ("Service", json!(row.name)),
        ("Address", json!(row.address)),
        ("Port", json!(row.port)),
        ("Tags", json!(row.tags)),
        ("Meta", json!(row.meta)),
        ("Weights", row.weights.map(|w| json!({"Passing": w.passing, "Warning": w.warning})).unwrap_or_default()),
        ("EnableTagOverride", json!(row.enable_tag_override)),
    ])
}

/// Also one of the `Checks` of `PUT /v1/catalog/register`.
pub(super) fn check(row: &CheckRow) -> Map<String, Value> {
    let (id, name) = row.service.as_ref().map_or(("", ""), |(id, name)| (id, name));
    fields([
        ("Node", json!(row.node)),
        ("CheckID", json!(row.id)),
        ("Name", json!(row.name)),
        ("Status", json!(row.status.as_str())),
        ("Notes", json!(row.notes)),
        ("Output", json!(row.output)),
        ("ServiceID", json!(id)),
        ("ServiceName", json!(name)),
        ("Type", json!(row.kind)),
        ("Definition", row.definition.as_deref().map(definition).into()),
    ])
}

fn definition(of: &Definition) -> Map<String, Value> {
    let span = |span: Duration| if span.is_zero() { Value::Null } else { json!(go_duration(span)) };
    fields([
        ("HTTP", json!(of.http)),
        ("Method", json!(of.method)),
        ("TCP", json!(of.tcp)),
        ("GRPC", json!(of.grpc)),
        ("GRPCUseTLS", json!(of.grpc_use_tls)),
        ("TLSSkipVerify", json!(of.tls_skip_verify)),
        ("Interval", span(of.interval)),
        ("Timeout", span(of.timeout)),
        ("DeregisterCriticalServiceAfter", span(of.deregister_after)),
    ])
}

fn kv(key: &str, op: &KvOp) -> Map<String, Value> {
    let (verb, value, index, session) = match op {
        KvOp::Set { value } => ("set", Some(value), None, ""),
        KvOp::Cas { value, index } => ("cas", Some(value), Some(*index), ""),
        KvOp::Lock { value, session } => ("lock", Some(value), None, session.as_str()),
        KvOp::CheckSession { session } => ("check-session", None, None, session.as_str()),
        KvOp::CheckNotExists => ("check-not-exists", None, None, ""),
        KvOp::Delete => ("delete", None, None, ""),
        KvOp::DeleteCas { index } => ("delete-cas", None, Some(*index), ""),
    };
    fields([
        ("Verb", json!(verb)),
        ("Key", json!(key)),
        ("Value", json!(value.map(|value| STANDARD.encode(value)))),
        ("Index", json!(index)),
        ("Session", json!(session)),
    ])
}

#[derive(Deserialize)]
struct RefusedAnswer {
    #[serde(rename = "Errors", default, deserialize_with = "nullable")]
    errors: Vec<RefusedOp>,
}

#[derive(Deserialize)]
struct RefusedOp {
    #[serde(rename = "OpIndex", default)]
    op: usize,
    #[serde(rename = "What", default, deserialize_with = "nullable")]
    what: String,
}

/// A 409: places and reasons.
pub(in crate::consul) fn refusals(call: &'static str, body: &[u8]) -> Result<Vec<(usize, String)>, ConsulError> {
    let answer: RefusedAnswer = decode(call, body)?;
    Ok(answer.errors.into_iter().map(|error| (error.op, error.what)).collect())
}

#[derive(Deserialize)]
struct DoneAnswer {
    #[serde(rename = "Results", default, deserialize_with = "nullable")]
    results: Vec<DoneOp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DoneOp {
    node: Option<Row>,
    service: Option<Row>,
    check: Option<Row>,
    #[serde(rename = "KV")]
    kv: Option<Row>,
}

/// Only the fields that name it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Row {
    node: String,
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "CheckID")]
    check_id: String,
    key: String,
    modify_index: u64,
}

/// A 200: the rows that were written.
pub(in crate::consul) fn written(call: &'static str, body: &[u8]) -> Result<Vec<Written>, ConsulError> {
    let answer: DoneAnswer = decode(call, body)?;
    let rows = answer.results.into_iter().filter_map(|result| match result {
        DoneOp { node: Some(row), .. } => Some(Written::Node { name: row.node, index: row.modify_index }),
        DoneOp { service: Some(row), .. } => Some(Written::Service { id: row.id, index: row.modify_index }),
        DoneOp { check: Some(row), .. } => Some(Written::Check { id: row.check_id, index: row.modify_index }),
        DoneOp { kv: Some(row), .. } => Some(Written::Kv { key: row.key, index: row.modify_index }),
        _ => None,
    });
    Ok(rows.collect())
}
