//! Requests and answers about nodes that look after each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answer::{decode, nullable};
use crate::consul::error::ConsulError;
use crate::consul::members::{MemberCheck, NODE_CHECK};
use crate::consul::model::{Service, Status};

/// Body of `PUT /v1/session/create` for a session on a node of the catalog.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::consul) struct NodeSessionBody<'a> {
    pub(in crate::consul) node: &'a str,
    pub(in crate::consul) name: &'a str,
    #[serde(rename = "TTL")]
    pub(in crate::consul) ttl: String,
    pub(in crate::consul) lock_delay: String,
    pub(in crate::consul) behavior: &'static str,
    pub(in crate::consul) node_checks: [&'static str; 0],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeEntry {
    node: String,
    #[serde(default, deserialize_with = "nullable")]
    meta: BTreeMap<String, String>,
    modify_index: u64,
}

impl NodeEntry {
    fn row(self) -> (String, u64, bool) {
        let ours = self.meta.get(Service::META_OWNER).is_some_and(|owner| owner == "remora");
        (self.node, self.modify_index, ours)
    }
}

/// The answer of `GET /v1/catalog/nodes`: name, index, and whether it carries our mark. Nothing is passed over.
pub(in crate::consul) fn node_rows(call: &'static str, body: &[u8]) -> Result<Vec<(String, u64, bool)>, ConsulError> {
    let nodes: Option<Vec<NodeEntry>> = decode(call, body)?;
    Ok(nodes.unwrap_or_default().into_iter().map(NodeEntry::row).collect())
}

/// The answer of `GET /v1/catalog/node/:node`; `null` where there is none.
pub(in crate::consul) fn node_of(call: &'static str, body: &[u8]) -> Result<Option<(String, u64, bool)>, ConsulError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct NodeAnswer {
        node: Option<NodeEntry>,
    }
    let answer: Option<NodeAnswer> = decode(call, body)?;
    Ok(answer.and_then(|answer| answer.node).map(NodeEntry::row))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckEntry {
    node: String,
    #[serde(rename = "CheckID")]
    id: String,
    #[serde(default, deserialize_with = "nullable")]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    status: String,
    #[serde(default, deserialize_with = "nullable")]
    notes: String,
    #[serde(default, deserialize_with = "nullable")]
    output: String,
    modify_index: u64,
}

/// The checks of this id in a list of checks, by the name of their node in lower case. Nothing is passed over.
pub(in crate::consul) fn member_checks(
    call: &'static str,
    body: &[u8],
) -> Result<BTreeMap<String, MemberCheck>, ConsulError> {
    let checks: Option<Vec<CheckEntry>> = decode(call, body)?;
    let ours = checks.unwrap_or_default().into_iter().filter(|check| check.id.eq_ignore_ascii_case(NODE_CHECK));
    Ok(ours
        .map(|check| {
            let status = Status::parse(&check.status).unwrap_or(Status::Critical);
            let CheckEntry { node, name, notes, output, modify_index: index, .. } = check;
            (node.to_lowercase(), MemberCheck { status, name, notes, output, index })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_say_whose_they_are() {
        let body = json!([
            {"ID": "", "Node": "N1", "Address": "10.0.0.1", "Meta": {"managed-by": "remora"}, "ModifyIndex": 7},
            {"Node": "n2", "Meta": null, "ModifyIndex": 8, "PeerName": ""},
        ]);
        let rows = node_rows("x", body.to_string().as_bytes()).unwrap();
        assert_eq!(rows, [("N1".to_owned(), 7, true), ("n2".to_owned(), 8, false)]);
        assert!(node_rows("x", b"[{\"Node\": \"n1\"}]").is_err(), "nothing is passed over");
        assert_eq!(node_of("x", b"null").unwrap(), None);
        let one = json!({"Node": {"Node": "n1", "Meta": {}, "ModifyIndex": 7}, "Services": {}});
        assert_eq!(node_of("x", one.to_string().as_bytes()).unwrap(), Some(("n1".to_owned(), 7, false)));
    }

    #[test]
    fn of_a_nodes_checks_only_the_one_about_the_node_counts() {
        let body = json!([
            {"Node": "N1", "CheckID": "remora-node", "Name": "Remora", "Status": "odd", "Notes": "n", "ModifyIndex": 7},
            {"Node": "N1", "CheckID": "n1:web:docker", "Status": "passing", "ModifyIndex": 8},
        ]);
        let checks = member_checks("x", body.to_string().as_bytes()).unwrap();
        assert_eq!(checks.len(), 1);
        let check = &checks["n1"];
        assert_eq!(
            (check.status, check.name.as_str(), check.notes.as_str(), check.index),
            (Status::Critical, "Remora", "n", 7)
        );
    }

    #[test]
    fn a_session_hangs_on_no_check() {
        let body = NodeSessionBody {
            node: "n1",
            name: "remora n1",
            ttl: "15s".to_owned(),
            lock_delay: "0s".to_owned(),
            behavior: "delete",
            node_checks: [],
        };
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            json!({"Node": "n1", "Name": "remora n1", "TTL": "15s", "LockDelay": "0s", "Behavior": "delete", "NodeChecks": []})
        );
    }
}
