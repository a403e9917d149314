//! A node without a Consul agent (`REMORA_CONSUL_MODE=catalog`), against a real Docker Engine and a real Consul.
//!
//! * `publish`: what runs stands in the catalog, and is repaired there. * `checks`: probes and reports. * `nodes`: who is dead, who
//!   is back, and what becomes of a change of mode. * `rights`: what a token needs, in both modes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
#[path = "../support/mod.rs"]
mod support;

mod checks;
mod nodes;
mod publish;
mod rights;

use support::scene::{Plan, Scene};

/// A scene whose Remora is told that there is no agent on its node.
fn catalog(test: &'static str) -> Plan {
    Scene::plan(test).env("REMORA_CONSUL_MODE", "catalog").env("REMORA_NODE_TTL", "10s")
}
