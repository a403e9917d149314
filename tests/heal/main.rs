//! The health-watcher against a real Docker Engine and a real Consul.
//!
//! * `replaces`: what fails is replaced, in both orders, and taken back if the new one is no better.
//! * `crash`: the agent is killed at every call by which it changes something (`tap` stops it there).
//! * `soak`: faults of all kinds at random, and what must never happen (`park` knows what each container should be).

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

mod crash;
mod park;
mod replaces;
mod soak;
mod tap;
