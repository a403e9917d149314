//! A registry on a node of its own in the catalog, and services with its mark. Needs `conformance` beside it.

#![allow(dead_code, reason = "each test binary uses its own part of this harness")]

use remora::consul::catalog::NodeIdentity;
use remora::consul::{CatalogRegistry, Client, Service, Status};
use tokio_util::sync::CancellationToken;

use super::conformance::{service, ttl};

/// The node of the tests.
pub const NODE: &str = "n1";
/// Its engine.
pub const ENGINE: &str = "ENGINE000001";

/// Who the node is.
pub fn identity(engine: &str) -> NodeIdentity {
    NodeIdentity::new(NODE, "10.0.0.1", engine)
}

/// A registry whose writer runs.
pub fn running(client: Client, engine: &str) -> CatalogRegistry {
    let (registry, writer) = CatalogRegistry::new(client, identity(engine));
    // It ends with the registry.
    drop(tokio::spawn(writer.run(CancellationToken::new())));
    registry
}

/// A service with the mark of its engine, and the check that Docker's word is written to.
pub fn marked(id: &str, engine: &str) -> Service {
    let mut service = service(id, vec![ttl(&Service::docker_check_id(id), Status::Passing)]);
    service.meta = service.meta.with(Service::META_ENGINE, engine);
    service.seal();
    service
}
