//! Requests and answers of the KV, of sessions and of the catalog.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::answer::{decode, nullable};
use crate::consul::error::ConsulError;
use crate::consul::model::Status;
use crate::consul::registry::bounded_output;
use crate::consul::store::{Entry, InstanceCheck, InstanceHealth};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KvEntry {
    key: String,
    #[serde(default, deserialize_with = "nullable")]
    value: String,
    modify_index: u64,
    #[serde(default, deserialize_with = "nullable")]
    session: String,
}

/// The answer of `GET /v1/kv/…`. Nothing is passed over here: a pause that is not seen would be a pause that is not kept.
pub(in crate::consul) fn entries_of_kv(call: &'static str, body: &[u8]) -> Result<Vec<(String, Entry)>, ConsulError> {
    let entries: Option<Vec<KvEntry>> = decode(call, body)?;
    let entries = entries.unwrap_or_default().into_iter().map(|entry| {
        let value = STANDARD
            .decode(&entry.value)
            .map_err(|_| ConsulError::Unreadable { call, reason: "a value in it is not in base64".to_owned() })?;
        let session = Some(entry.session).filter(|session| !session.is_empty());
        Ok((entry.key, Entry { value, index: entry.modify_index, session }))
    });
    entries.collect()
}

/// Body of `PUT /v1/session/create`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::consul) struct SessionBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::consul) node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::consul) node_checks: Option<&'static [&'static str]>,
    pub(in crate::consul) name: &'a str,
    #[serde(rename = "TTL")]
    pub(in crate::consul) ttl: String,
    pub(in crate::consul) lock_delay: String,
    pub(in crate::consul) behavior: &'static str,
}

/// Its answer.
#[derive(Deserialize)]
pub(in crate::consul) struct SessionAnswer {
    #[serde(rename = "ID")]
    pub(in crate::consul) id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthEntry {
    node: HealthNode,
    service: HealthService,
    #[serde(default, deserialize_with = "nullable")]
    checks: Vec<HealthCheck>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthNode {
    node: String,
}

#[derive(Deserialize)]
struct HealthService {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Meta", default, deserialize_with = "nullable")]
    meta: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct HealthCheck {
    #[serde(rename = "CheckID", default, deserialize_with = "nullable")]
    id: String,
    #[serde(rename = "Status", default, deserialize_with = "nullable")]
    status: String,
    #[serde(rename = "Output", default, deserialize_with = "nullable")]
    output: String,
    #[serde(rename = "ServiceID", default, deserialize_with = "nullable")]
    service_id: String,
}

/// The answer of `GET /v1/health/service/:name`. Nothing is passed over: whether all instances are critical is asked.
pub(in crate::consul) fn instances(call: &'static str, body: &[u8]) -> Result<Vec<InstanceHealth>, ConsulError> {
    let entries: Option<Vec<HealthEntry>> = decode(call, body)?;
    let entries = entries.unwrap_or_default().into_iter();
    Ok(entries
        .map(|HealthEntry { node, service, checks }| InstanceHealth {
            node: node.node,
            service_id: service.id,
            meta: service.meta,
            checks: checks
                .into_iter()
                .map(|check| InstanceCheck {
                    status: Status::parse(&check.status).unwrap_or(Status::Critical),
                    output: bounded_output(&check.output).to_owned(),
                    of_node: check.service_id.is_empty(),
                    id: check.id,
                })
                .collect(),
        })
        .collect())
}

/// How many entries a list has.
pub(in crate::consul) fn count(call: &'static str, body: &[u8]) -> Result<usize, ConsulError> {
    let entries: Option<Vec<IgnoredAny>> = decode(call, body)?;
    Ok(entries.unwrap_or_default().len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_read_with_null_for_empty() {
        let body = json!([
            {"LockIndex": 0, "Key": "a/b", "Flags": 0, "Value": null, "CreateIndex": 7, "ModifyIndex": 8},
            {"Key": "a/c", "Value": "aGVhbA==", "ModifyIndex": 9, "Session": "s1", "Namespace": "x"},
        ]);
        let entry = |value: &[u8], index, session: Option<&str>| Entry {
            value: value.to_vec(),
            index,
            session: session.map(str::to_owned),
        };
        assert_eq!(
            entries_of_kv("x", body.to_string().as_bytes()).unwrap(),
            [("a/b".to_owned(), entry(b"", 8, None)), ("a/c".to_owned(), entry(b"heal", 9, Some("s1")))]
        );
        assert_eq!(entries_of_kv("x", b"null").unwrap(), []);
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_not_passed_over() {
        let good = json!({"Key": "a", "Value": "aGVhbA==", "ModifyIndex": 9});
        for bad in [json!({"Key": "b", "Value": "%", "ModifyIndex": 9}), json!({"Key": "b"}), json!(7)] {
            let outcome = entries_of_kv("x", json!([good, bad]).to_string().as_bytes());
            assert!(matches!(outcome, Err(ConsulError::Unreadable { .. })), "{bad}: {outcome:?}");
        }
    }

    #[test]
    fn a_session_asks_for_nothing_that_consul_does_not_know() {
        let body = SessionBody {
            node: None,
            node_checks: None,
            name: "remora n1",
            ttl: "30s".into(),
            lock_delay: "1s".into(),
            behavior: "release",
        };
        let expected = json!({"Name": "remora n1", "TTL": "30s", "LockDelay": "1s", "Behavior": "release"});
        assert_eq!(serde_json::to_value(body).unwrap(), expected);
    }

    #[test]
    fn instances_tell_their_own_checks_from_those_of_the_node() {
        let body = json!([{
            "Node": {"Node": "n1", "Meta": null},
            "Service": {"ID": "n1:web:80", "Service": "web", "Meta": null},
            "Checks": [
                {"CheckID": "serfHealth", "Status": "passing", "Output": "alive", "ServiceID": ""},
                {"CheckID": "n1:web:80:docker", "Status": "starting", "Output": null, "ServiceID": "n1:web:80"},
            ],
        }]);
        let found = instances("x", body.to_string().as_bytes()).unwrap();
        assert_eq!((found[0].node.as_str(), found[0].service_id.as_str()), ("n1", "n1:web:80"));
        let checks: Vec<_> = found[0].checks.iter().map(|it| (it.id.as_str(), it.status, it.of_node)).collect();
        assert_eq!(checks, [("serfHealth", Status::Passing, true), ("n1:web:80:docker", Status::Critical, false)]);
        assert_eq!(count("x", b"[{}, {}]").unwrap(), 2);
    }
}
