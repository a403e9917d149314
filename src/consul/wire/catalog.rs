//! What the catalog says about one node, and the one registration that a transaction cannot carry.

use std::collections::BTreeMap;
use std::time::Duration;

use arcstr::ArcStr;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{ServiceEntry, Word, decode, nullable};
use super::txn::{check, service};
use crate::consul::error::ConsulError;
use crate::consul::model::{ActualService, Status, TaggedAddress};
use crate::consul::txn::{CheckRow, Definition, NodeRow, ServiceRow};
use crate::text::Texts;

/// A row with its `ModifyIndex`.
pub(in crate::consul) type Indexed<T> = (T, u64);

/// A node and what is on it.
#[derive(Debug, Default)]
pub(in crate::consul) struct NodeServices<'body> {
    call: &'static str,
    pub(in crate::consul) node: Option<Indexed<NodeRow>>,
    services: Vec<&'body RawValue>,
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

/// What names a row, as it stands in the answer, and its index.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'body> {
    #[serde(borrow, rename = "ID", default, deserialize_with = "nullable")]
    id: Word<'body>,
    #[serde(borrow, rename = "CheckID", default, deserialize_with = "nullable")]
    check: Word<'body>,
    #[serde(default)]
    modify_index: u64,
}

/// The answer of `GET /v1/catalog/node-services/:node`.
pub(in crate::consul) fn node_services<'body>(
    call: &'static str,
    body: &'body [u8],
) -> Result<NodeServices<'body>, ConsulError> {
    let Some(answer) = decode::<Option<NodeServicesAnswer<'body>>>(call, body)? else {
        return Ok(NodeServices::default());
    };
    let node = answer
        .node
        .map(|node| (NodeRow { name: node.node, address: node.address, meta: node.meta }, node.modify_index));
    Ok(NodeServices { call, node, services: answer.services })
}

impl NodeServices<'_> {
    /// The services with their indexes, each read when it is asked for: all of them at once would be a second copy of everything. One
    /// that cannot be read is told and left out; without its id and its index the whole answer cannot be read.
    pub(in crate::consul) fn services(&self) -> impl Iterator<Item = Result<Indexed<ActualService>, ConsulError>> {
        self.services.iter().filter_map(|raw| {
            let line: Line<'_> = match decode(self.call, raw.get().as_bytes()) {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            let Ok(entry) = serde_json::from_str::<ServiceEntry>(raw.get()) else {
                tracing::warn!(
                    event = "consul_entry_unreadable",
                    call = self.call,
                    id = &*line.id.0,
                    "an entry of Consul's answer is passed over"
                );
                return None;
            };
            Some(Ok((entry.named(ArcStr::from(&*line.id.0)), line.modify_index)))
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckEntry {
    #[serde(default, deserialize_with = "nullable")]
    node: ArcStr,
    #[serde(rename = "CheckID", default, deserialize_with = "nullable")]
    id: ArcStr,
    #[serde(default, deserialize_with = "nullable")]
    name: ArcStr,
    #[serde(default, deserialize_with = "nullable")]
    status: String,
    #[serde(default, deserialize_with = "nullable")]
    notes: ArcStr,
    #[serde(default, deserialize_with = "nullable")]
    output: ArcStr,
    #[serde(rename = "ServiceID", default, deserialize_with = "nullable")]
    service_id: ArcStr,
    #[serde(default, deserialize_with = "nullable")]
    service_name: ArcStr,
    #[serde(rename = "Type", default, deserialize_with = "nullable")]
    kind: ArcStr,
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

/// The answer of `GET /v1/health/node/:node`: checks of the node and of its services, sharing the texts that are known already. One that
/// cannot be read is told and left out.
pub(in crate::consul) fn node_checks(
    call: &'static str,
    body: &[u8],
    texts: &mut Texts,
) -> Result<Vec<Indexed<CheckRow>>, ConsulError> {
    let raw: Option<Vec<&RawValue>> = decode(call, body)?;
    let rows = raw.unwrap_or_default().into_iter().filter_map(|raw| {
        let entry = serde_json::from_str::<CheckEntry>(raw.get()).ok();
        if entry.is_none() {
            tracing::warn!(event = "consul_entry_unreadable", call, "an entry of Consul's answer is passed over");
        }
        entry.map(|entry| {
            let index = entry.modify_index;
            let mut row = row_of(entry);
            row.share(texts);
            (row, index)
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
        }
        .boxed(),
    }
}

/// Which rows an answer shows: their keys (ids in lower case) with their `ModifyIndex`es. All keys are in one piece of memory: there are
/// as many as there are services, and most answers are not news.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::consul) struct Rows {
    text: String,
    /// Where each key ends.
    ends: Vec<(usize, u64)>,
}

impl Rows {
    /// How many there are.
    pub(in crate::consul) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Keys and indexes.
    pub(in crate::consul) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let mut start = 0;
        self.ends.iter().map(move |(end, index)| {
            (self.text.get(std::mem::replace(&mut start, *end)..*end).unwrap_or_default(), *index)
        })
    }
}

impl<T: AsRef<str>> FromIterator<(T, u64)> for Rows {
    fn from_iter<I: IntoIterator<Item = (T, u64)>>(rows: I) -> Self {
        let mut all = Self::default();
        for (id, index) in rows {
            all.text.push_str(&id.as_ref().to_lowercase());
            all.ends.push((all.text.len(), index));
        }
        all
    }
}

/// The node's own `ModifyIndex`, where the answer shows it, and the rows of its services, without reading the rest.
pub(in crate::consul) fn service_indexes(call: &'static str, body: &[u8]) -> Result<(Option<u64>, Rows), ConsulError> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Services<'body> {
        node: Option<NodeEntry>,
        #[serde(borrow, deserialize_with = "nullable")]
        services: Vec<Line<'body>>,
    }
    let Services { node, services } = decode::<Option<Services<'_>>>(call, body)?.unwrap_or_default();
    let rows = services.into_iter().map(|line| (line.id.0, line.modify_index));
    Ok((node.map(|node| node.modify_index), rows.collect()))
}

/// The rows of the checks of a node.
pub(in crate::consul) fn check_indexes(call: &'static str, body: &[u8]) -> Result<Rows, ConsulError> {
    let checks: Option<Vec<Line<'_>>> = decode(call, body)?;
    let rows = checks.unwrap_or_default().into_iter();
    Ok(rows.map(|line| (line.check.0, line.modify_index)).collect())
}

/// The body of `PUT /v1/catalog/register`: a service with tagged addresses, and checks. The node is left as it is.
pub(in crate::consul) fn register_body(
    row: &ServiceRow,
    tagged: &BTreeMap<ArcStr, TaggedAddress>,
    checks: &[CheckRow],
) -> Value {
    let mut service = service(row);
    let tagged: BTreeMap<&ArcStr, Value> =
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
        let body = body.to_string();
        let read = node_services("x", body.as_bytes()).unwrap();
        let services: Vec<_> = read.services().map(Result::unwrap).collect();
        assert_eq!(read.node.map(|(node, index)| (node.name, index)), Some(("n1".into(), 13)));
        assert_eq!(services.iter().map(|(it, index)| (it.id.as_str(), *index)).collect::<Vec<_>>(), [("w", 15)]);
        let missing = node_services("x", b"{\"Node\": null, \"Services\": null}").unwrap();
        assert!(missing.node.is_none() && missing.services().next().is_none());

        let row = CheckRow {
            notes: "n".into(),
            service: Some(("w".into(), "web".into())),
            definition: Definition {
                tcp: "h:1".into(),
                interval: Duration::from_millis(1_500),
                ..Definition::default()
            }
            .boxed(),
            ..CheckRow::of_node("n1", "w:1", "web", Status::Warning, "o")
        };
        let mut sent = check(&row);
        sent.insert("ModifyIndex".into(), json!(17));
        let body = json!([sent, 7]);
        assert_eq!(node_checks("x", body.to_string().as_bytes(), &mut Texts::default()).unwrap(), [(row, 17)]);
        assert_eq!(node_checks("x", b"null", &mut Texts::default()).unwrap(), []);
    }

    #[test]
    fn indexes_are_read_of_both_answers() {
        let rows = |all: &[(&str, u64)]| all.iter().copied().collect::<Rows>();
        let services = json!({"Node": {"Node": "n1", "ModifyIndex": 3}, "Services": [
            {"ID": "W", "ModifyIndex": 4, "Meta": {"ID": "x"}}, {"ID": "\"\u{fc}", "ModifyIndex": 6}]});
        let (node, found) = service_indexes("x", services.to_string().as_bytes()).unwrap();
        assert_eq!((node, &found), (Some(3), &rows(&[("w", 4), ("\"\u{fc}", 6)])));
        assert_eq!((found.iter().collect::<Vec<_>>(), found.len()), (vec![("w", 4), ("\"\u{fc}", 6)], 2));
        let checks = json!([{"CheckID": "c", "ModifyIndex": 5, "Node": "n1"}, {"CheckID": null}]);
        assert_eq!(check_indexes("x", checks.to_string().as_bytes()).unwrap(), rows(&[("c", 5), ("", 0)]));
        assert_eq!(service_indexes("x", b"null").unwrap(), (None, Rows::default()));
        assert_eq!(service_indexes("x", b"{\"Node\": null, \"Services\": null}").unwrap(), (None, Rows::default()));
        assert_eq!(check_indexes("x", b"null").unwrap(), Rows::default());
        let lines: Vec<Line<'_>> = decode("x", b"[{\"ID\": \"w\", \"CheckID\": \"c\"}]").unwrap();
        let borrowed = |word: &Word<'_>| matches!(word.0, std::borrow::Cow::Borrowed(_));
        assert!(borrowed(&lines[0].id) && borrowed(&lines[0].check), "nothing is copied");
        assert!(service_indexes("x", b"<html>").is_err() && check_indexes("x", b"{}").is_err());
    }
}
