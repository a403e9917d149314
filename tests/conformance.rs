//! The real registry and the fake keep the same promises.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/consul.rs"]
mod consul;
#[path = "support/fake_consul.rs"]
mod fake_consul;

use remora::consul::AgentRegistry;

#[tokio::test]
async fn the_agent_registry_conforms_on_a_real_consul() {
    let consul = consul::Consul::start().await;
    conformance::conforms(&AgentRegistry::new(consul.client())).await;
}

#[tokio::test]
async fn the_agent_registry_conforms_on_a_real_consul_with_access_control() {
    let consul = consul::Consul::start_with(consul::Options { acl: true, ..consul::Options::default() }).await;
    conformance::conforms(&AgentRegistry::new(consul.client())).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_conforms() {
    conformance::conforms(&fake_consul::FakeConsul::new()).await;
}
