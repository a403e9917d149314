//! What Remora must never show, and what it must never ask, against a real Docker Engine and a real Consul. `docs/security.md` promises it.
//!
//! * `tiers`: behind a filtering proxy that lets exactly the documented calls through.
//! * `canary`: secrets in containers and in settings, searched for in everything that Remora writes.
//! * `outputs`: everything that Remora writes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::format_collect,
    reason = "a test fails loudly"
)]

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
#[path = "../support/mod.rs"]
mod support;

mod canary;
mod outputs;
mod tiers;
