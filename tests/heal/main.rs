//! The health-watcher against a real Docker Engine and a real Consul.
//!
//! * `replaces`: what fails is replaced, in both orders, and taken back if the new one is no better.

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

mod replaces;
