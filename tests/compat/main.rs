//! What is promised of every Docker Engine and every Consul: one pass over all parts of Remora, short enough for each of their versions.
//!
//! The engine is the one of `DOCKER_HOST`, Consul the one of `CONSUL_BIN`; `docker/compat.sh` goes through those that can be had, and
//! writes docs/compatibility.md. Here stands what an engine or a Consul could do in another way: what an inspect document says, what
//! events tell, what a create call takes. The corners of each promise are tested elsewhere (`tests/e2e`, `tests/heal`, `tests/clone.rs`…).
//!
//! * `publish`: ports, addresses, health, and what becomes of them; Remora's own restart; catalog mode.
//! * `heals`: what fails is replaced by its like; `remora doctor`.

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

mod heals;
mod publish;

/// For what takes milliseconds; the rest is for a machine that does something else as well.
const SOON: std::time::Duration = std::time::Duration::from_secs(10);
