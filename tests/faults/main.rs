//! Remora against a real Docker Engine and a real Consul that fail: each test ends with nothing lost and nothing stale in
//! the catalog, and with the same Remora process (unless killing it is the fault).
//!
//! * `docker`: the event stream, the connection, the engine.
//! * `consul`: the agent, its data, other people's hands.
//! * `agent`: Remora killed; two of them.
//! * `containers`: too fast, too many, too hostile.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::let_underscore_must_use, clippy::large_futures)]

#[allow(dead_code)] // each test program uses another part of it
#[path = "../support/mod.rs"]
mod support;

mod agent;
mod consul;
mod containers;
mod docker;
