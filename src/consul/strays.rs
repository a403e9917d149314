//! What a Consul agent could not remove. It removes a service from the catalog with the token that the service was registered with;
//! when that one has been revoked, the service stays in the catalog, for ever, and the agent itself does not show it any more.
//! (Consul 1.8.7; `agent/local/state.go` up to 1.20: `Service deregistration blocked by ACLs`.)

use std::sync::Arc;
use std::time::Duration;

use arcstr::{ArcStr, literal};
use litemap::LiteMap;

use super::agent::AgentRegistry;
use super::error::ConsulError;
use super::model::{ActualService, Check, CheckKind, Service, Status};
use super::registry::Registry as _;
use super::wire;

/// For as long as it takes to deregister it again.
const TTL: Duration = Duration::from_secs(60);

impl AgentRegistry {
    /// What the catalog has on this agent's node, and the agent has not.
    pub(super) async fn find_strays(&self) -> Result<Vec<ActualService>, ConsulError> {
        let name = "GET /v1/catalog/node-services/:node";
        let node = self.client().agent_self().await?.node_name;
        let body = self.list(name, &["v1", "catalog", "node-services", &node]).await?;
        let found = wire::node_services(name, &body)?.services().collect::<Result<Vec<_>, _>>()?;
        // Afterwards, so that one that has just been registered is not missing here.
        let known = self.read().await?;
        let strays = found.into_iter().map(|(service, _)| service);
        Ok(strays.filter(|service| !known.services.contains_key(&service.id)).collect())
    }

    /// Registers it with the present token, as critical, and removes it with that.
    pub(super) async fn bury_stray(&self, stray: &ActualService) -> Result<(), ConsulError> {
        let check = Check {
            id: arcstr::format!("{}:stray", stray.id),
            name: literal!("left over"),
            notes: "What it was registered for is gone. It is removed in this moment.".into(),
            kind: Arc::new(CheckKind::Ttl { ttl: TTL }),
            status: Status::Critical,
            output: ArcStr::new(),
            deregister_after: None,
            success_before_passing: 0,
            failures_before_critical: 0,
        };
        let service = Service {
            id: stray.id.clone(),
            name: stray.name.clone(),
            address: stray.address.clone(),
            port: stray.port,
            tags: Arc::default(),
            meta: stray.meta.clone(),
            tagged_addresses: LiteMap::new(),
            weights: None,
            enable_tag_override: false,
            checks: vec![check],
        };
        self.register(&service).await?;
        self.deregister(&stray.id).await
    }
}
