//! The health-watcher as a whole: the real observer, watcher and teller between a fake engine and a fake KV, on a paused clock.
//!
//! * `ward`: that world. * `triggers`: what is a reason to act. * `intent`: what an operator did stays as it is.
//! * `strategies`: what is done. * `attempts`: quarantine and the way out of it. * `brakes`: what stands against it.
//! * `hands_off`: whom nobody touches. * `family`: who shares whose namespaces. * `crash`: the agent dies after every change.
//! * `simulation`: random histories.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

#[path = "support/fake_docker.rs"]
mod fake_docker;
#[path = "support/fake_store.rs"]
mod fake_store;

#[path = "healing/attempts.rs"]
mod attempts;
#[path = "healing/brakes.rs"]
mod brakes;
#[path = "healing/crash.rs"]
mod crash;
#[path = "healing/family.rs"]
mod family;
#[path = "healing/hands_off.rs"]
mod hands_off;
#[path = "healing/intent.rs"]
mod intent;
#[path = "healing/simulation.rs"]
mod simulation;
#[path = "healing/strategies.rs"]
mod strategies;
#[path = "healing/triggers.rs"]
mod triggers;
#[path = "healing/ward.rs"]
mod ward;
