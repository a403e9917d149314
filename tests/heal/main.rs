//! The health-watcher against a real Docker Engine and a real Consul.
//!
//! * `replaces`: what fails is replaced, in both orders, and taken back if the new one is no better.
//! * `respects`: what an operator does is left as it is.
//! * `crashes`: the agent is killed in the middle.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[path = "../support/mod.rs"]
mod support;

mod replaces;
