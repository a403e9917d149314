//! Nodes without a Consul agent: who is present, who leads, who is marked and who is removed. On the fake with a paused clock,
//! and on a real Consul.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[path = "support/consul.rs"]
mod consul;
#[path = "support/fake_store.rs"]
mod fake_store;
#[path = "support/members_conformance.rs"]
mod members_conformance;

#[path = "liveness/agents.rs"]
mod agents;
#[path = "liveness/fake.rs"]
mod fake;
#[path = "liveness/real.rs"]
mod real;
