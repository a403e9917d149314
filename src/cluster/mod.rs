//! Which nodes are alive, where no Consul agent knows: for agents that register in the catalog. May know `consul`, `telemetry`
//! and `backoff`.
//!
//! * [`presence`]: this agent is there: a session on its own node, and a key that ends with it.
//! * [`leader`]: one agent looks at everybody's keys; `follow`: what it does about those that are missing.
//! * [`judge`]: who is dead; pure.
//! * [`keys`]: where everything is in Consul's KV; pure.
//!
//! # Rights
//!
//! With default-deny ACLs the token of each agent needs
//!
//! ```hcl
//! key_prefix "remora/cluster/"  { policy = "write" }   # REMORA_KV_PREFIX
//! session    "<own node>"       { policy = "write" }
//! node       "<own node>"       { policy = "write" }
//! node_prefix ""                { policy = "read" }
//! ```
//!
//! and that of whoever is to become the leader `node:write` of all of Remora's nodes (`node_prefix "<their common prefix>"
//! { policy = "write" }`), which is enough also to remove them. A leader that finds a right missing says which one, gives its
//! lock back and leaves it to others for five minutes.
//!
//! # At rest
//!
//! Per agent a renewal every second and a look at its own key every third of a TTL; a blocking query (on the leader's key; the leader: on the
//! live keys, with three lists every 45 s). No write.

mod follow;
pub mod judge;
pub mod keys;
pub mod leader;
pub mod presence;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use keys::Keys;

use crate::consul::{ConsulError, Members, Store};
use crate::telemetry::Metrics;

/// What a node's session does when its agent is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Nothing: whoever is back within a TTL was never away for anybody.
    Stay,
    /// It ends at once, with the key: for whoever deregisters everything when it goes.
    End,
}

/// How to look after the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of this agent's node in the catalog.
    pub node: String,
    /// The id of its Docker engine: tells two hosts with one name apart.
    pub engine: String,
    /// `REMORA_KV_PREFIX`.
    pub prefix: String,
    /// Time to live of the sessions: 10 s to a day. Consul ends them after twice as long, so that a node that dies is critical
    /// after 5/3 to 2 times this, and about a second. While Consul has no leader (up to 18 s with its usual settings) nothing
    /// can be renewed, which [`Settings::TTL`] survives.
    pub ttl: Duration,
    /// How long after it was marked a node is removed from the catalog; zero: never.
    pub reap: Duration,
    /// What becomes of the session at the end.
    pub leave: Leave,
}

impl Settings {
    /// The usual time to live.
    pub const TTL: Duration = Duration::from_secs(15);
    /// The usual reap time: a long weekend.
    pub const REAP: Duration = Duration::from_secs(72 * 3600);
}

/// How long the last calls at a shutdown may take: what they would have given back ends by itself.
const FAREWELL: Duration = Duration::from_secs(3);

/// What both tasks work with.
struct Room<M, S> {
    settings: Settings,
    keys: Keys,
    members: Arc<M>,
    store: Arc<S>,
}

impl<M, S> Room<M, S> {
    /// Names the rule that is missing.
    fn explained(&self, error: &ConsulError) -> String {
        let words = error.to_string();
        if !matches!(error, ConsulError::Forbidden { .. }) || words.contains("it needs ") {
            return words;
        }
        let rule = if words.contains("/v1/session/") {
            crate::consul::txn::rule("session", &self.settings.node, "write")
        } else {
            crate::consul::txn::rule("key_prefix", &self.keys.all(), "write")
        };
        format!("{words}: it needs {rule}")
    }
}

/// Says that this agent lives, and looks after the others where it is the leader; until `shutdown`, and then for the few calls of
/// its farewell. One future without tasks of its own.
///
/// `right` is `true` while everything that this agent registers was compared with the catalog and is right there. It should be
/// sent after each comparison, also when nothing changed: after this agent was away its node is shown as passing when `true`
/// comes anew, or has stood for thirty seconds.
pub async fn run<M: Members, S: Store>(
    settings: Settings,
    members: Arc<M>,
    store: Arc<S>,
    right: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let keys = Keys::new(&settings.prefix);
    let room = Room { settings, keys, members, store };
    let held = watch::Sender::new(false);
    tokio::join!(
        presence::run(&room, right, &held, &shutdown),
        leader::run(&room, held.subscribe(), &metrics, &shutdown)
    );
}
