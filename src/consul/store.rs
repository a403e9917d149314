//! The port through which agents agree with each other and with their operators: keys, sessions, and two looks at the
//! catalog. The fake of the tests passes the same conformance suite.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use super::error::ConsulError;
use super::model::Status;

/// Longest value of a key: Consul's own default (`kv_max_value_size`).
pub const VALUE_LIMIT: usize = 512 << 10;

/// What stands in a key after [`Store::release`]. Not nothing, because newer versions of Consul may refuse an empty body.
pub const RELEASED: &[u8] = b"free";

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whatever somebody wrote.
    pub value: Vec<u8>,
    /// Consul's number of its last change, for [`Store::put_if`] and [`Store::delete_if`].
    pub index: u64,
    /// The session that holds it, if one does.
    pub session: Option<String>,
}

/// The keys under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// By key, in order.
    pub entries: BTreeMap<String, Entry>,
    /// For the next blocking [`Store::list`]. 0 when Consul's count went backwards (its data was restored, or is new): the
    /// next call then answers at once.
    pub index: u64,
}

/// One instance of a service, as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceHealth {
    /// The node that it is registered on.
    pub node: String,
    /// Its id there.
    pub service_id: String,
    /// Its meta.
    pub meta: BTreeMap<String, String>,
    /// Its own checks, and those of its node.
    pub checks: Vec<InstanceCheck>,
}

/// A check of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceCheck {
    /// Its id: `n1:web:80:docker`, `serfHealth`.
    pub id: String,
    /// Its status; anything that Consul should not hold reads as critical.
    pub status: Status,
    /// Its output, the last [`OUTPUT_LIMIT`](super::registry::OUTPUT_LIMIT) bytes.
    pub output: String,
    /// It is about the whole node.
    pub of_node: bool,
}

/// Whether a key can be named in a path of Consul's API. Its server tidies paths up, so that a part between slashes that is
/// empty, `.` or `..` would make it another key. Keys that end with a slash are for prefixes only.
#[must_use]
pub fn is_key(key: &str) -> bool {
    super::registry::is_addressable(key) && !key.starts_with(char::is_whitespace) && !key.ends_with(char::is_whitespace)
}

/// What agreeing needs of Consul, and nothing else. Every error is Unknown, never "nothing".
///
/// Rights (ACL): `key_prefix "<our prefix>/"` write, `session_prefix "<agent's node>"` write, `node_prefix ""` read, and
/// `service_prefix ""` read for [`Store::instances`].
///
/// A key or session id that [cannot be named](is_key), and a value longer than [`VALUE_LIMIT`], are
/// [`ConsulError::Invalid`].
pub trait Store: Send + Sync + 'static {
    /// The value of a key; `None`: there is no such key.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry>, ConsulError>> + Send;

    /// Every key that begins with `prefix`. With `wait`, an index of an earlier call and a span, the answer is held back
    /// until something is younger than that index, or the span is over (and a sixteenth of it more): an answer does not mean
    /// that anything changed. Index 0 is answered at once. Where rights are missing this is an error, as far as that can be
    /// known: before 1.11 Consul leaves out of a list, without a word, each key that the token may not read.
    fn list(
        &self,
        prefix: &str,
        wait: Option<(u64, Duration)>,
    ) -> impl Future<Output = Result<Listing, ConsulError>> + Send;

    /// Sets a key, whoever holds it: locks are advice.
    fn put(&self, key: &str, value: &[u8]) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Sets a key if its index is still this one; 0: if there is no such key. `false`: it is not.
    fn put_if(&self, key: &str, value: &[u8], index: u64) -> impl Future<Output = Result<bool, ConsulError>> + Send;

    /// Makes a key not exist. A key that does not exist is a success.
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Makes a key not exist if its index is still this one. `false`: it is another one. A key that does not exist is a
    /// success.
    fn delete_if(&self, key: &str, index: u64) -> impl Future<Output = Result<bool, ConsulError>> + Send;

    /// A new session of this Consul agent's node; its id. Consul ends it when it has not been renewed for twice the `ttl`
    /// (10 s to a day), and when the node is found dead; keys that it holds are then free, after `lock_delay`. Not to be
    /// repeated blindly: an answer that was lost leaves a session behind, until its end.
    fn session_create(
        &self,
        ttl: Duration,
        lock_delay: Duration,
        name: &str,
    ) -> impl Future<Output = Result<String, ConsulError>> + Send;

    /// Gives a session another full `ttl`; costs the cluster nothing. `false`: there is no such session (any more).
    fn session_renew(&self, id: &str) -> impl Future<Output = Result<bool, ConsulError>> + Send;

    /// Ends a session. A session that does not exist is a success.
    fn session_destroy(&self, id: &str) -> impl Future<Output = Result<(), ConsulError>> + Send;

    /// Takes a key for a session, and sets its value. `true` also when the session has it already. `false`: another session
    /// has it, or its lock delay is not over. A session that does not exist is [`ConsulError::NotFound`].
    fn acquire(&self, key: &str, value: &[u8], session: &str)
    -> impl Future<Output = Result<bool, ConsulError>> + Send;

    /// Gives a key back, without a lock delay; its value is [`RELEASED`] then. `false`: this session does not have it.
    fn release(&self, key: &str, session: &str) -> impl Future<Output = Result<bool, ConsulError>> + Send;

    /// The instances of a service in the whole catalog, by its name. None is also what a token without `node:read` and
    /// `service:read` sees before Consul 1.11: whoever has an instance of this service and does not find it knows.
    fn instances(&self, service: &str) -> impl Future<Output = Result<Vec<InstanceHealth>, ConsulError>> + Send;

    /// How many nodes the catalog has. There is always one: to see none is [`ConsulError::Forbidden`].
    fn nodes(&self) -> impl Future<Output = Result<usize, ConsulError>> + Send;
}
