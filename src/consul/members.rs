//! The port through which the agents look after each other's nodes: who is in the catalog, sessions on a node, transactions.
//! [`ClusterClient`] implements it; the fake of the tests passes the same conformance suite. Keys are [`Store`]'s.
//!
//! [`Store`]: super::store::Store

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

pub use super::catalog::NODE_CHECK;
use super::catalog::NODE_CHECK_NAME;
use super::client::{Answer, Call, Client};
use super::error::ConsulError;
use super::kv::{about_a_session, complete, no_consul};
use super::model::{Service, Status};
use super::registry::is_addressable;
use super::txn::{CheckRow, Op, TxnResult, rule};
use super::wire::{self, NodeSessionBody, SessionAnswer, decode, encode, go_duration};

/// A node of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As the catalog spells it; names are case-insensitive there.
    pub name: String,
    /// Its `ModifyIndex`, for [`Write::DeleteCas`](super::txn::Write::DeleteCas).
    pub index: u64,
    /// It carries our mark.
    pub ours: bool,
    /// Its [`NODE_CHECK`].
    pub check: Option<MemberCheck>,
}

/// The check about a whole node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberCheck {
    /// Its status; anything that Consul should not hold reads as critical.
    pub status: Status,
    /// Its title.
    pub name: String,
    /// Its notes.
    pub notes: String,
    /// Its output.
    pub output: String,
    /// Its `ModifyIndex`, for [`Write::Cas`](super::txn::Write::Cas).
    pub index: u64,
}

impl Member {
    /// Its check with another status and output, whole: what is not sent would be erased.
    #[must_use]
    pub fn check(&self, status: Status, output: &str) -> CheckRow {
        let (name, notes) = self.check.as_ref().map_or((NODE_CHECK_NAME, ""), |check| (&check.name, &check.notes));
        CheckRow { notes: notes.into(), ..CheckRow::of_node(&self.name, NODE_CHECK, name, status, output) }
    }

    /// What to compare with: the index of its check, 0 where there is none.
    #[must_use]
    pub fn check_index(&self) -> u64 {
        self.check.as_ref().map_or(0, |check| check.index)
    }
}

/// What becomes of the keys of a session that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behavior {
    /// They are free.
    Release,
    /// They are gone.
    Delete,
}

/// A session to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession<'a> {
    /// The node that it ends with. No check of it matters.
    pub node: &'a str,
    /// For whoever looks.
    pub name: &'a str,
    /// Consul ends it when it was not renewed for twice as long; 10 s to a day.
    pub ttl: Duration,
    /// Keys that it held when it ended cannot be taken for so long; at most a minute.
    pub lock_delay: Duration,
    /// What becomes of its keys.
    pub behavior: Behavior,
}

/// What looking after nodes needs of Consul besides [`Store`](super::store::Store). Every error is Unknown, never "nothing".
///
/// Rights (ACL): `node_prefix ""` read for the looks, `session_prefix "<own node>"` write for the sessions, and for
/// transactions what [`Op::rule`] says of each operation.
pub trait Members: Send + Sync + 'static {
    /// The nodes with our mark, in no order. Before 1.11 Consul leaves out of this list, without a word, what the token may
    /// not see: whoever has a node and does not find it knows.
    fn members(&self) -> impl Future<Output = Result<Vec<Member>, ConsulError>> + Send;

    /// One node, whosever it is; `None`: there is none of this name, or the token may not see it.
    fn member(&self, node: &str) -> impl Future<Output = Result<Option<Member>, ConsulError>> + Send;

    /// A new session; its id. [`ConsulError::NotFound`]: there is no such node. Not to be repeated blindly: an answer that was
    /// lost leaves a session behind, until its end.
    fn session_on(&self, session: &NewSession<'_>) -> impl Future<Output = Result<String, ConsulError>> + Send;

    /// As [`Client::transact`].
    fn transact(&self, ops: &[Op]) -> impl Future<Output = Result<TxnResult, ConsulError>> + Send;
}

/// [`Members`] over Consul's HTTP API.
#[derive(Debug, Clone)]
pub struct ClusterClient {
    client: Client,
}

impl ClusterClient {
    /// At the Consul that this client speaks to.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// A list of the catalog, unless Consul says that it left something out of it.
    async fn list(&self, name: &'static str, path: &[&str], query: &[(&str, &str)]) -> Result<Vec<u8>, ConsulError> {
        let call = Call { query, may_be_missing: true, ..Call::get(name, path) };
        let Answer { headers, body, missing, .. } = self.client.call(call).await.map_err(|e| needs(e, READ_NODES))?;
        if missing {
            return Err(no_consul(name));
        }
        complete(name, &headers).map_err(|error| needs(error, READ_NODES))?;
        Ok(body)
    }
}

const READ_NODES: &str = "node_prefix \"\" { policy = \"read\" }";

/// Names the rule that is missing.
fn needs(error: ConsulError, rule: &str) -> ConsulError {
    match error {
        ConsulError::Forbidden { call, message } => {
            ConsulError::Forbidden { call, message: format!("{message}: it needs {rule}") }
        }
        other => other,
    }
}

impl Members for ClusterClient {
    async fn members(&self) -> Result<Vec<Member>, ConsulError> {
        let marked = format!("{}:remora", Service::META_OWNER);
        let nodes = self.list("GET /v1/catalog/nodes", &["v1", "catalog", "nodes"], &[("node-meta", &marked)]).await?;
        // One list with one line per node, instead of a look at each of them.
        let only = format!("CheckID == {NODE_CHECK:?}");
        let query = [("node-meta", marked.as_str()), ("filter", only.as_str())];
        let checks = self.list("GET /v1/health/state/any", &["v1", "health", "state", "any"], &query).await?;
        let nodes = wire::node_rows("GET /v1/catalog/nodes", &nodes)?;
        let mut checks: BTreeMap<String, MemberCheck> = wire::member_checks("GET /v1/health/state/any", &checks)?;
        let member = |(name, index, ours): (String, u64, bool)| Member {
            check: checks.remove(&name.to_lowercase()),
            name,
            index,
            ours,
        };
        Ok(nodes.into_iter().map(member).collect())
    }

    async fn member(&self, node: &str) -> Result<Option<Member>, ConsulError> {
        let name = "GET /v1/catalog/node/:node";
        if !is_addressable(node) || node.contains('/') {
            return Err(ConsulError::Invalid { call: name, message: format!("{node:?} is no name of a node") });
        }
        let body = self.list(name, &["v1", "catalog", "node", node], &[]).await?;
        let Some((found, index, ours)) = wire::node_of(name, &body)? else { return Ok(None) };
        let name = "GET /v1/health/node/:node";
        let body = self.list(name, &["v1", "health", "node", node], &[]).await?;
        let check = wire::member_checks(name, &body)?.into_values().next();
        Ok(Some(Member { name: found, index, ours, check }))
    }

    async fn session_on(&self, session: &NewSession<'_>) -> Result<String, ConsulError> {
        let call = "PUT /v1/session/create";
        let body = NodeSessionBody {
            node: session.node,
            name: session.name,
            ttl: go_duration(session.ttl),
            lock_delay: go_duration(session.lock_delay),
            behavior: match session.behavior {
                Behavior::Release => "release",
                Behavior::Delete => "delete",
            },
            // Without it Consul wants the check of its gossip, which such a node does not have.
            node_checks: [],
        };
        let body = encode(call, &body)?;
        // A second one would be in nobody's hands until it expires.
        let create = Call { once: true, ..Call::put(call, &["v1", "session", "create"], Some(body)) };
        let answer = self.client.call(create).await;
        let answer = answer.map_err(|error| needs(about_a_session(error), &rule("session", session.node, "write")))?;
        let SessionAnswer { id } = decode(call, &answer.body)?;
        if id.is_empty() {
            return Err(ConsulError::Unreadable { call, reason: "it has no id".to_owned() });
        }
        Ok(id)
    }

    async fn transact(&self, ops: &[Op]) -> Result<TxnResult, ConsulError> {
        self.client.transact(ops).await
    }
}
