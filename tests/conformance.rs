//! The real registry and the fake keep the same promises.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/consul.rs"]
mod consul;
#[path = "support/fake_consul.rs"]
mod fake_consul;
#[path = "support/fake_store.rs"]
mod fake_store;
#[path = "support/store_conformance.rs"]
mod store_conformance;

use std::time::Duration;

use remora::consul::catalog::NodeIdentity;
use remora::consul::{
    AgentRegistry, CatalogRegistry, InstanceCheck, InstanceHealth, KvStore, Registry as _, Status, Store as _,
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_agent_registry_conforms_on_a_real_consul() {
    let consul = consul::Consul::start().await;
    conformance::conforms(&AgentRegistry::new(consul.client()), conformance::Mode::AGENT).await;
}

#[tokio::test]
async fn the_agent_registry_conforms_on_a_real_consul_with_access_control() {
    let consul = consul::Consul::start_with(consul::Options { acl: true, ..consul::Options::default() }).await;
    conformance::conforms(&AgentRegistry::new(consul.client()), conformance::Mode::AGENT).await;
}

/// A registry on a node of its own, with its writer.
async fn conforms_in_the_catalog(consul: &consul::Consul) {
    let node = NodeIdentity::new("N1", "10.0.0.1", "ENGINE000001");
    let (registry, writer) = CatalogRegistry::new(consul.client(), node);
    let shutdown = CancellationToken::new();
    let writer = tokio::spawn(writer.run(shutdown.clone()));
    conformance::conforms(&registry, conformance::Mode::CATALOG).await;
    shutdown.cancel();
    writer.await.unwrap();
}

#[tokio::test]
async fn the_catalog_registry_conforms_on_a_real_consul() {
    conforms_in_the_catalog(&consul::Consul::start().await).await;
}

#[tokio::test]
async fn the_catalog_registry_conforms_on_a_real_consul_with_access_control() {
    let consul = consul::Consul::start_with(consul::Options { acl: true, ..consul::Options::default() }).await;
    conforms_in_the_catalog(&consul).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_conforms() {
    conformance::conforms(&fake_consul::FakeConsul::new(), conformance::Mode::AGENT).await;
}

#[tokio::test]
async fn the_store_conforms_on_a_real_consul() {
    let consul = consul::Consul::start().await;
    store_conformance::conforms(&KvStore::new(consul.client())).await;
}

#[tokio::test]
async fn the_store_conforms_on_a_real_consul_with_access_control() {
    let consul = consul::Consul::start_with(consul::Options { acl: true, ..consul::Options::default() }).await;
    store_conformance::conforms(&KvStore::new(consul.client())).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_store_conforms() {
    store_conformance::conforms(&fake_store::FakeStore::new()).await;
}

/// An instance as both stores tell it.
fn instance() -> InstanceHealth {
    let check = |id: &str, output: &str, status, of_node| InstanceCheck {
        id: id.to_owned(),
        status,
        output: output.to_owned(),
        of_node,
    };
    InstanceHealth {
        node: "test-node".to_owned(),
        service_id: "web-1".to_owned(),
        meta: [("managed-by".to_owned(), "remora".to_owned())].into(),
        checks: vec![
            check("serfHealth", "Agent alive and reachable", Status::Passing, true),
            check("web-1:docker", "exit 1", Status::Critical, false),
        ],
    }
}

#[tokio::test]
async fn instances_are_told_with_their_checks() {
    let consul = consul::Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    registry
        .register(&conformance::service("web-1", vec![conformance::ttl("web-1:docker", Status::Passing)]))
        .await
        .unwrap();
    registry.update_check("web-1:docker", Status::Critical, "exit 1").await.unwrap();
    let store = KvStore::new(consul.client());
    let mut found = Vec::new();
    for _ in 0..200 {
        found = store.instances("web").await.unwrap();
        if found == [instance()] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(found, [instance()]);

    let fake = fake_store::FakeStore::new();
    fake.set_instances("web", vec![instance()]);
    assert_eq!(fake.instances("web").await.unwrap(), [instance()]);
}
