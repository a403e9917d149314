//! Remora against a real Docker Engine and a real Consul: what it publishes when nothing fails.
//!
//! * `publish`: what appears, changes and goes when containers do.
//! * `health`: Docker's word about a container in Consul, and how fast.
//! * `healing`: the check that says whether a container is healed.
//! * `lifecycle`: Remora's own start, rest and end.
//! * `judge`: the harness itself: that it would notice what the other tests say does not happen.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::let_underscore_must_use, clippy::large_futures)]

#[allow(dead_code)] // each test program uses another part of it
#[path = "../support/mod.rs"]
mod support;

mod healing;
mod health;
mod judge;
mod lifecycle;
mod publish;
