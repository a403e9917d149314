//! How Consul is spoken to: through an agent on this node, or as a cluster elsewhere.

use std::fmt;
use std::time::Duration;

use super::build::{DAY, Sources};
use super::parse::{self, Given};
use super::raw::Raw;

/// Consul takes no shorter time to live of a session.
const TTL_LEAST: Duration = Duration::from_secs(10);
/// A node that was marked a moment ago may come back.
const REAP_LEAST: Duration = Duration::from_secs(60);
/// Longer than anyone waits for a node.
const REAP_MOST: Duration = Duration::from_secs(366 * 24 * 3600);

/// How Consul is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// `REMORA_CONSUL_MODE`.
    pub mode: ConsulMode,
    /// `REMORA_NODE_TTL`: a node without a Consul agent that was not heard of for twice as long is dead. 15 s.
    pub node_ttl: Duration,
    /// `REMORA_NODE_REAP`: what a dead node had registered is removed after so long; zero: never. 72 h.
    pub node_reap: Duration,
}

/// Which way to Consul.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsulMode {
    /// The Consul at the address says which.
    Auto,
    /// It is an agent on this node.
    Agent,
    /// It is a cluster; the node has no agent of it.
    Catalog,
}

impl Default for External {
    fn default() -> Self {
        Self { mode: ConsulMode::Auto, node_ttl: Duration::from_secs(15), node_reap: Duration::from_secs(72 * 3600) }
    }
}

impl fmt::Display for ConsulMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Agent => "agent",
            Self::Catalog => "catalog",
        })
    }
}

/// Judges everything that concerns it.
pub(super) fn build(raw: &Raw, from: &mut Sources<'_>) -> External {
    let default = External::default();
    let words = [("auto", ConsulMode::Auto), ("agent", ConsulMode::Agent), ("catalog", ConsulMode::Catalog)];
    let ttl = |given: Given<'_>| parse::duration(given, TTL_LEAST, DAY, "such as 15s");
    External {
        mode: from.word("REMORA_CONSUL_MODE", raw.remora_consul_mode.as_ref(), &words).unwrap_or(default.mode),
        node_ttl: from.read("REMORA_NODE_TTL", raw.remora_node_ttl.as_ref(), ttl).unwrap_or(default.node_ttl),
        node_reap: from.read("REMORA_NODE_REAP", raw.remora_node_reap.as_ref(), reap).unwrap_or(default.node_reap),
    }
}

fn reap(given: Given<'_>) -> Result<Duration, super::ConfigError> {
    if given.trimmed() == "0" {
        return Ok(Duration::ZERO);
    }
    parse::duration(given, REAP_LEAST, REAP_MOST, "such as 72h, or 0 (never)")
}
