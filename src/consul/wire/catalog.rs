//! What the catalog says about one node, and the one registration that a transaction cannot carry.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{ServiceEntry, decode, nullable};
use super::txn::{check, service};
use crate::consul::error::ConsulError;
use crate::consul::model::{ActualService, Status, TaggedAddress};
use crate::consul::txn::{CheckRow, Definition, NodeRow, ServiceRow};

/// A row with its `ModifyIndex`.
pub(in crate::consul) type Indexed<T> = (T, u64);

/// A node and what is on it.
#[derive(Debug, Default)]
pub(in crate::consul) struct NodeServices {
    pub(in crate::consul) node: Option<Indexed<NodeRow>>,
    pub(in crate::consul) services: Vec<Indexed<ActualService>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeServicesAnswer<'a> {
    node: Option<NodeEntry>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    services: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeEntry {
    node: String,
    #[serde(default, deserialize_with = "nullable")]
    address: String,
    #[serde(default, deserialize_with = "nullable")]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    modify_index: u64,
}

/// What names a row, and its index.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    #[serde(rename = "ID", default, deserialize_with = "nullable")]
    id: String,
    #[serde(rename = "CheckID", default, deserialize_with = "nullable")]
    check: String,
    #[serde(default)]
    modify_index: u64,
}

/// The answer of `GET /v1/catalog/node-services/:node`. A service that cannot be read is told and left out; without its id
/// and its index the whole answer cannot be read.
pub(in crate::consul) fn node_services(call: &'static str, body: &[u8]) -> Result<NodeServices, ConsulError> {
    let Some(answer) = decode::<Option<NodeServicesAnswer<'_>>>(call, body)? else {
        return Ok(NodeServices::default());
    };
    let mut services = Vec::with_capacity(answer.services.len());
    for raw in answer.services {
        let key: Key = decode(call, raw.get().as_bytes())?;
        let Ok(entry) = serde_json::from_str::<ServiceEntry>(raw.get()) else {
            tracing::warn!(
                event = "consul_entry_unreadable",
                call,
                id = key.id,
                "an entry of Consul's answer is passed over"
            );
            continue;
        };
        services.push((entry.named(key.id), key.modify_index));
    }
    let node = answer
        .node
        .map(|node| (NodeRow { name: node.node, address: node.address, meta: node.meta }, node.modify_index));
    Ok(NodeServices { node, services })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckEntry {
    #[serde(default, deserialize_with = "nullable")]
    node: String,
    #[serde(rename = "CheckID", default, deserialize_with = "nullable")]
    id: String,
    #[serde(default, deserialize_with = "nullable")]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    status: String,
    #[serde(default, deserialize_with = "nullable")]
    notes: String,
    #[serde(default, deserialize_with = "nullable")]
    output: String,
    #[serde(rename = "ServiceID", default, deserialize_with = "nullable")]
    service_id: String,
    #[serde(default, deserialize_with = "nullable")]
    service_name: String,
    #[serde(rename = "Type", default, deserialize_with = "nullable")]
    kind: String,
    #[serde(default, deserialize_with = "nullable")]
    definition: DefinitionEntry,
    #[serde(default)]
    modify_index: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DefinitionEntry {
    #[serde(rename = "HTTP", deserialize_with = "nullable")]
    http: String,
    #[serde(deserialize_with = "nullable")]
    method: String,
    #[serde(rename = "TCP", deserialize_with = "nullable")]
    tcp: String,
    #[serde(rename = "GRPC", deserialize_with = "nullable")]
    grpc: String,
    #[serde(rename = "GRPCUseTLS", deserialize_with = "nullable")]
    grpc_use_tls: bool,
    #[serde(rename = "TLSSkipVerify", deserialize_with = "nullable")]
    tls_skip_verify: bool,
    #[serde(deserialize_with = "span")]
    interval: Duration,
    #[serde(deserialize_with = "span")]
    timeout: Duration,
    #[serde(deserialize_with = "span")]
    deregister_critical_service_after: Duration,
}

/// The answer of `GET /v1/health/node/:node`: checks of the node and of its services. One that cannot be read is told and
/// left out.
pub(in crate::consul) fn node_checks(call: &'static str, body: &[u8]) -> Result<Vec<Indexed<CheckRow>>, ConsulError> {
    let raw: Option<Vec<&RawValue>> = decode(call, body)?;
    let rows = raw.unwrap_or_default().into_iter().filter_map(|raw| {
        let entry = serde_json::from_str::<CheckEntry>(raw.get()).ok();
        if entry.is_none() {
            tracing::warn!(event = "consul_entry_unreadable", call, "an entry of Consul's answer is passed over");
        }
        entry.map(|entry| {
            let index = entry.modify_index;
            (row_of(entry), index)
        })
    });
    Ok(rows.collect())
}

fn row_of(entry: CheckEntry) -> CheckRow {
    let of = entry.definition;
    CheckRow {
        node: entry.node,
        id: entry.id,
        name: entry.name,
        // The catalog takes any word; what is none of the three keeps a service out of rotation.
        status: Status::parse(&entry.status).unwrap_or(Status::Critical),
        notes: entry.notes,
        output: entry.output,
        service: (!entry.service_id.is_empty()).then_some((entry.service_id, entry.service_name)),
        kind: entry.kind,
        definition: Definition {
            http: of.http,
            method: of.method,
            tcp: of.tcp,
            grpc: of.grpc,
            grpc_use_tls: of.grpc_use_tls,
            tls_skip_verify: of.tls_skip_verify,
            interval: of.interval,
            timeout: of.timeout,
            deregister_after: of.deregister_critical_service_after,
        },
    }
}

/// Which rows an answer shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::consul) struct Indexes {
    /// The node's own `ModifyIndex`, where the answer shows it.
    pub(in crate::consul) node: Option<u64>,
    /// Ids and `ModifyIndex`es.
    pub(in crate::consul) rows: Vec<(String, u64)>,
}

/// Ids and indexes of the services of a node, or of its checks, without reading the rest.
pub(in crate::consul) fn indexes(call: &'static str, body: &[u8]) -> Result<Indexes, ConsulError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Services(Services),
        Checks(Vec<Key>),
        Nothing(()),
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Services {
        node: Option<NodeEntry>,
        #[serde(default, deserialize_with = "nullable")]
        services: Vec<Key>,
    }
    Ok(match decode::<Either>(call, body)? {
        Either::Services(Services { node, services }) => Indexes {
            node: node.map(|node| node.modify_index),
            rows: services.into_iter().map(|key| (key.id, key.modify_index)).collect(),
        },
        Either::Checks(checks) => {
            Indexes { node: None, rows: checks.into_iter().map(|key| (key.check, key.modify_index)).collect() }
        }
        Either::Nothing(()) => Indexes::default(),
    })
}

/// The body of `PUT /v1/catalog/register`: a service with tagged addresses, and checks. The node is left as it is.
pub(in crate::consul) fn register_body(
    row: &ServiceRow,
    tagged: &BTreeMap<String, TaggedAddress>,
    checks: &[CheckRow],
) -> Value {
    let mut service = service(row);
    let tagged: BTreeMap<&String, Value> =
        tagged.iter().map(|(key, at)| (key, json!({"Address": at.address, "Port": at.port}))).collect();
    service.insert("TaggedAddresses".to_owned(), json!(tagged));
    let checks: Vec<_> = checks.iter().map(check).collect();
    json!({"Node": row.node, "SkipNodeUpdate": true, "Service": service, "Checks": checks})
}

/// Go's text of a duration (`1m0s`, `1.5s`), or its nanoseconds; what is neither is "not set".
fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => go_span(&text).unwrap_or_default(),
        Value::Number(nanos) => Duration::from_nanos(nanos.as_u64().unwrap_or_default()),
        _ => Duration::ZERO,
    })
}

fn go_span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at_checked(rest.find(|c: char| c != '.' && !c.is_ascii_digit())?)?;
        let length = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, others) = after.split_at_checked(length)?;
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = others;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_durations_are_read() {
        let cases = [
            ("10s", 10_000),
            ("1m0s", 60_000),
            ("1.5s", 1_500),
            ("1h1m1s", 3_661_000),
            ("250ms", 250),
            ("", 0),
            ("876000h0m0s", 876_000 * 3_600_000),
        ];
        for (text, millis) in cases {
            assert_eq!(go_span(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["10", "s", "1x", "1.2.3s", "-1s"] {
            assert_eq!(go_span(text), None, "{text}");
        }
    }

    #[test]
    fn a_node_and_its_checks_are_read_as_they_were_written() {
        let body = json!({
            "Node": {"ID": "", "Node": "n1", "Address": "10.0.0.1", "Meta": {"a": "b"}, "ModifyIndex": 13},
            "Services": [
                {"ID": "w", "Service": "web", "Tags": null, "Meta": null, "Port": 1,
                 "Weights": {"Passing": 7, "Warning": 2}, "ModifyIndex": 15},
                {"ID": "odd", "Service": ["x"], "ModifyIndex": 16},
            ],
        });
        let read = node_services("x", body.to_string().as_bytes()).unwrap();
        assert_eq!(read.node.map(|(node, index)| (node.name, index)), Some(("n1".into(), 13)));
        assert_eq!(read.services.iter().map(|(it, index)| (it.id.as_str(), *index)).collect::<Vec<_>>(), [("w", 15)]);
        let missing = node_services("x", b"{\"Node\": null, \"Services\": null}").unwrap();
        assert!(missing.node.is_none() && missing.services.is_empty());

        let row = CheckRow {
            notes: "n".into(),
            service: Some(("w".into(), "web".into())),
            definition: Definition {
                tcp: "h:1".into(),
                interval: Duration::from_millis(1_500),
                ..Definition::default()
            },
            ..CheckRow::of_node("n1", "w:1", "web", Status::Warning, "o")
        };
        let mut sent = check(&row);
        sent.insert("ModifyIndex".into(), json!(17));
        let body = json!([sent, 7]);
        assert_eq!(node_checks("x", body.to_string().as_bytes()).unwrap(), [(row, 17)]);
        assert_eq!(node_checks("x", b"null").unwrap(), []);
    }

    #[test]
    fn indexes_are_read_of_both_answers() {
        let services = json!({"Node": {"Node": "n1", "ModifyIndex": 3}, "Services": [{"ID": "w", "ModifyIndex": 4}]});
        assert_eq!(
            indexes("x", services.to_string().as_bytes()).unwrap(),
            Indexes { node: Some(3), rows: vec![("w".to_owned(), 4)] }
        );
        let checks = json!([{"CheckID": "c", "ModifyIndex": 5}]);
        assert_eq!(
            indexes("x", checks.to_string().as_bytes()).unwrap(),
            Indexes { node: None, rows: vec![("c".to_owned(), 5)] }
        );
        assert_eq!(indexes("x", b"null").unwrap(), Indexes::default());
        assert!(indexes("x", b"<html>").is_err());
    }
}
