//! Transactions: `PUT /v1/txn`. Several writes to nodes, services, checks and keys that happen together or not at all.
//!
//! The order counts: a node before its services, a service before its checks. What Consul refuses it tells operation by
//! operation, with status 409 whatever the reason: a lost race, a missing right and a bad definition look alike until one
//! reads the words. Those below were read off Consul 1.8.7; newer versions put more behind `Permission denied`.

mod rows;

use std::fmt;

use super::classify::clean;
use super::client::{Call, Client};
use super::error::ConsulError;
use super::wire::{self, encode};
pub use rows::{CheckRow, Definition, NodeRow, ServiceRow};

/// Operations of one transaction: Consul takes 64 before 1.14 and 128 from then on. Twice as many would save nothing that
/// could be measured, and the version would have to be asked for first.
pub const OPS_LIMIT: usize = 64;

/// Bytes of JSON of one transaction. Consul's `txn_max_req_len` is 524,288; the rest is for an operator who lowered it a
/// little, and for a proxy that counts the head too.
pub const BYTES_LIMIT: usize = 400_000;

/// What to do with a row of the catalog. An index is the row's `ModifyIndex` as it was last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Make it like this, whatever it was.
    Set,
    /// Make it like this if nobody has changed it since that index; 0: if it does not exist.
    Cas(u64),
    /// Make it not exist. What does not exist is a success.
    Delete,
    /// Make it not exist if nobody has changed it since that index. What does not exist is refused.
    DeleteCas(u64),
}

/// An operation on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvOp {
    /// Set it, whoever holds it.
    Set {
        /// Its value.
        value: Vec<u8>,
    },
    /// Set it if its index is still this one; 0: if it does not exist.
    Cas {
        /// Its value.
        value: Vec<u8>,
        /// Its `ModifyIndex`.
        index: u64,
    },
    /// Take it for a session. Refused while another one has it.
    Lock {
        /// Its value.
        value: Vec<u8>,
        /// The session's id.
        session: String,
    },
    /// Nothing, but refused unless this session has it: a leader's fence.
    CheckSession {
        /// The session's id.
        session: String,
    },
    /// Nothing, but refused if it exists.
    CheckNotExists,
    /// Make it not exist.
    Delete,
    /// Make it not exist if its index is still this one.
    DeleteCas {
        /// Its `ModifyIndex`.
        index: u64,
    },
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// On a node.
    Node(Write, NodeRow),
    /// On a service.
    Service(Write, ServiceRow),
    /// On a check.
    Check(Write, CheckRow),
    /// On a key.
    Kv(String, KvOp),
}

impl Op {
    /// Bytes of its JSON.
    #[must_use]
    pub fn size(&self) -> usize {
        wire::size_of(self)
    }

    /// The rule of an ACL policy that it needs, in Consul's HCL.
    #[must_use]
    pub fn rule(&self) -> String {
        match self {
            Self::Node(_, node) => rule("node", &node.name, "write"),
            Self::Service(_, service) => rule("service", &service.name, "write"),
            Self::Check(_, check) => match &check.service {
                Some((_, name)) => rule("service", name, "write"),
                None => rule("node", &check.node, "write"),
            },
            Self::Kv(key, KvOp::Lock { .. }) => {
                format!("{} and session_prefix \"\" {{ policy = \"write\" }}", rule("key", key, "write"))
            }
            Self::Kv(key, KvOp::CheckSession { .. } | KvOp::CheckNotExists) => rule("key", key, "read"),
            Self::Kv(key, _) => rule("key", key, "write"),
        }
    }
}

/// One rule of an ACL policy: `node "n1" { policy = "write" }`.
#[must_use]
pub fn rule(resource: &str, segment: &str, access: &str) -> String {
    format!("{resource} {segment:?} {{ policy = \"{access}\" }}")
}

/// What it does, in words: `set the check web-1:docker`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |write: &Write| match write {
            Write::Set | Write::Cas(_) => "set",
            Write::Delete | Write::DeleteCas(_) => "delete",
        };
        match self {
            Self::Node(write, node) => write!(f, "{} the node {}", word(write), node.name),
            Self::Service(write, service) => write!(f, "{} the service {}", word(write), service.id),
            Self::Check(write, check) => write!(f, "{} the check {}", word(write), check.id),
            Self::Kv(key, KvOp::Set { .. } | KvOp::Cas { .. }) => write!(f, "set the key {key}"),
            Self::Kv(key, KvOp::Lock { .. }) => write!(f, "lock the key {key}"),
            Self::Kv(key, KvOp::CheckSession { .. } | KvOp::CheckNotExists) => write!(f, "look at the key {key}"),
            Self::Kv(key, KvOp::Delete | KvOp::DeleteCas { .. }) => write!(f, "delete the key {key}"),
        }
    }
}

/// What became of a transaction that Consul answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnResult {
    /// All of it happened. What was written, with its new indexes, in the order of the operations; deletions and mere
    /// looks at keys are not among them.
    Done(Vec<Written>),
    /// Nothing of it happened: these operations were refused. Never empty. Bad definitions and missing rights are told
    /// first and alone; the others may be refused for other reasons when it is sent again without these.
    Refused(Vec<Refusal>),
    /// Nothing of it happened: it has too many operations, or too many bytes, for this Consul. Send the halves.
    TooLarge,
}

impl TxnResult {
    /// `Ok` when it happened, else the error of the first refusal that is not a lost race, or of the lost race.
    ///
    /// # Errors
    /// As [`Refusal::error`]; too large is [`ConsulError::Invalid`].
    pub fn written(self, ops: &[Op]) -> Result<Vec<Written>, ConsulError> {
        match self {
            Self::Done(written) => Ok(written),
            Self::TooLarge => Err(too_large()),
            Self::Refused(refusals) => {
                let first = refusals.iter().find(|refusal| refusal.why != Why::Conflict).or_else(|| refusals.first());
                Err(first.map_or_else(unexplained, |refusal| refusal.error(ops.get(refusal.op))))
            }
        }
    }
}

/// A row as a transaction left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// A node.
    Node {
        /// Its name.
        name: String,
        /// Its new `ModifyIndex`.
        index: u64,
    },
    /// A service.
    Service {
        /// Its id.
        id: String,
        /// Its new `ModifyIndex`.
        index: u64,
    },
    /// A check.
    Check {
        /// Its id.
        id: String,
        /// Its new `ModifyIndex`.
        index: u64,
    },
    /// A key.
    Kv {
        /// Its name.
        key: String,
        /// Its new `ModifyIndex`.
        index: u64,
    },
}

/// Why an operation was refused, by what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The row is not as the operation wanted it: changed or gone meanwhile, held by another session, there already. Read
    /// it again.
    Conflict,
    /// A right is missing; [`Op::rule`] says which.
    Denied,
    /// The node, or the service, that it belongs to does not exist.
    Missing,
    /// Consul will never take it as it is.
    Invalid,
}

impl Why {
    fn of(what: &str) -> Self {
        let what = what.to_lowercase();
        let holds = |needles: &[&str]| needles.iter().any(|needle| what.contains(needle));
        if holds(&["permission denied", "acl not found"]) {
            Self::Denied
        } else if holds(&["missing node registration", "missing service registration"]) {
            Self::Missing
        } else if holds(&[
            "index is stale",
            "failed session check",
            "failed to check session",
            "failed index check",
            "invalid session",
            "lock is already held",
            "lock isn't held",
            "doesn't exist",
        ]) || (what.starts_with("key ") && what.ends_with(" exists"))
        {
            Self::Conflict
        } else {
            Self::Invalid
        }
    }
}

/// An operation that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the transaction, from 0.
    pub op: usize,
    /// By what to do about it.
    pub why: Why,
    /// Consul's own words, bounded.
    pub what: String,
}

impl Refusal {
    /// The refusal as an error about this operation; `None` where Consul named a place that does not exist.
    #[must_use]
    pub fn error(&self, op: Option<&Op>) -> ConsulError {
        let call = NAME;
        let said = &self.what;
        let message = match op {
            Some(op) if self.why == Why::Denied => format!("{said}: it needs {} to {op}", op.rule()),
            Some(op) => format!("cannot {op}: {said}"),
            None => said.clone(),
        };
        match self.why {
            Why::Conflict => ConsulError::Conflict { call, message },
            Why::Denied => ConsulError::Forbidden { call, message },
            Why::Missing => ConsulError::NotFound { call, message },
            Why::Invalid => ConsulError::Invalid { call, message },
        }
    }
}

pub(super) const NAME: &str = "PUT /v1/txn";

/// The operations cut into transactions of at most [`OPS_LIMIT`] operations and [`BYTES_LIMIT`] bytes, in order. One that
/// is longer than that by itself is alone.
#[must_use]
pub fn split(ops: &[Op]) -> Vec<&[Op]> {
    let mut parts = Vec::new();
    let (mut rest, mut fits, mut bytes) = (ops, 0, 0);
    for op in ops {
        let size = op.size() + 1;
        if fits > 0 && (fits == OPS_LIMIT || bytes + size > BYTES_LIMIT) {
            let (part, others) = rest.split_at(fits);
            parts.push(part);
            (rest, fits, bytes) = (others, 0, 0);
        }
        fits += 1;
        bytes += size;
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

impl Client {
    /// One transaction: all of it happens, or nothing. It is not split: [`split`] does that for operations that need not
    /// happen together. Without operations it is done at once.
    ///
    /// # Errors
    /// [`ConsulError`] where Consul did not decide: after one of those it may or may not have happened, apart from
    /// [`ConsulError::Forbidden`] (an unknown token) and [`ConsulError::Invalid`].
    pub async fn transact(&self, ops: &[Op]) -> Result<TxnResult, ConsulError> {
        if ops.is_empty() {
            return Ok(TxnResult::Done(Vec::new()));
        }
        let body = encode(NAME, &wire::OpsBody(ops))?;
        match self.decided(Call::put(NAME, &["v1", "txn"], Some(body))).await {
            Ok((409, body)) => {
                let refusals: Vec<Refusal> = wire::refusals(NAME, &body)?
                    .into_iter()
                    .map(|(op, what)| Refusal { op, why: Why::of(&what), what: clean(&what) })
                    .collect();
                if refusals.is_empty() { Err(unexplained()) } else { Ok(TxnResult::Refused(refusals)) }
            }
            Ok((413, _)) => Ok(TxnResult::TooLarge),
            Ok((_, body)) => Ok(TxnResult::Done(wire::written(NAME, &body)?)),
            Err(ConsulError::Forbidden { call, message }) if message.to_lowercase().contains("permission denied") => {
                Err(ConsulError::Forbidden { call, message: format!("{message}: it needs {}", rules(ops)) })
            }
            Err(error) => Err(error),
        }
    }
}

/// What a look at one node by name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeLook {
    /// It exists, and we may see it.
    Visible,
    /// It exists, but the token may not see it.
    Hidden,
    /// It does not exist.
    Missing,
}

impl Client {
    /// Whether a node exists. The lists of the catalog cannot tell a node that does not exist from one that the token may
    /// not see; a transaction that only looks refuses the one, and leaves out the other.
    pub(super) async fn look_at_node(&self, name: &str) -> Result<NodeLook, ConsulError> {
        let body = encode(NAME, &wire::node_look(name))?;
        Ok(match self.decided(Call::put(NAME, &["v1", "txn"], Some(body))).await? {
            (200, body) if wire::written(NAME, &body)?.is_empty() => NodeLook::Hidden,
            (200, _) => NodeLook::Visible,
            (409, body) => {
                let refusals = wire::refusals(NAME, &body)?;
                if refusals.iter().any(|(_, what)| what.contains("doesn't exist")) {
                    NodeLook::Missing
                } else if refusals.iter().any(|(_, what)| Why::of(what) == Why::Denied) {
                    NodeLook::Hidden
                } else {
                    return Err(unexplained());
                }
            }
            _ => return Err(unexplained()),
        })
    }
}

/// The rules that these operations need, each once; of many the first ones.
fn rules(ops: &[Op]) -> String {
    const TOLD: usize = 5;
    let mut rules: Vec<String> = Vec::new();
    for rule in ops.iter().map(Op::rule) {
        if rules.len() < TOLD && !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules.join(", ")
}

/// A single operation that no transaction can carry.
pub(super) fn too_large() -> ConsulError {
    ConsulError::Invalid { call: NAME, message: "it is larger than Consul takes (txn_max_req_len)".to_owned() }
}

fn unexplained() -> ConsulError {
    ConsulError::Unreadable { call: NAME, reason: "it refuses without a reason".to_owned() }
}

#[cfg(test)]
#[path = "txn_tests.rs"]
mod tests;
