//! The registry of whichever mode was chosen: one type, so that whoever uses it is compiled once.

use std::sync::Arc;
use std::time::Duration;

use super::agent::AgentRegistry;
use super::catalog::CatalogRegistry;
use super::error::ConsulError;
use super::model::{ActualService, Service, Snapshot, Status};
use super::registry::Registry;

/// [`Registry`] in one of the two modes.
#[derive(Debug)]
pub enum EitherRegistry {
    /// With the agent of the node.
    Agent(AgentRegistry),
    /// In the catalog.
    Catalog(CatalogRegistry),
}

/// The same call on whichever it is.
macro_rules! either {
    ($of:expr, $registry:ident => $call:expr) => {
        match $of {
            EitherRegistry::Agent($registry) => $call,
            EitherRegistry::Catalog($registry) => $call,
        }
    };
}

impl Registry for EitherRegistry {
    async fn read(&self) -> Result<Arc<Snapshot>, ConsulError> {
        either!(self, it => it.read().await)
    }

    async fn read_after(&self, written: Vec<Arc<ActualService>>) -> Result<Arc<Snapshot>, ConsulError> {
        either!(self, it => it.read_after(written).await)
    }

    fn keep(&self, snapshot: &Arc<Snapshot>) {
        either!(self, it => it.keep(snapshot));
    }

    async fn find(&self, service_id: &str) -> Result<Option<ActualService>, ConsulError> {
        either!(self, it => it.find(service_id).await)
    }

    fn credentials(&self) -> u64 {
        either!(self, it => it.credentials())
    }

    fn writes_at_once(&self) -> usize {
        either!(self, it => it.writes_at_once())
    }

    fn is_guarded(&self, service: &Service) -> bool {
        either!(self, it => it.is_guarded(service))
    }

    async fn register(&self, service: &Service) -> Result<(), ConsulError> {
        either!(self, it => it.register(service).await)
    }

    async fn deregister(&self, service_id: &str) -> Result<(), ConsulError> {
        either!(self, it => it.deregister(service_id).await)
    }

    async fn update_check(&self, check_id: &str, status: Status, output: &str) -> Result<(), ConsulError> {
        either!(self, it => it.update_check(check_id, status, output).await)
    }

    async fn remove_check(&self, check_id: &str) -> Result<(), ConsulError> {
        either!(self, it => it.remove_check(check_id).await)
    }

    async fn strays(&self) -> Result<Vec<ActualService>, ConsulError> {
        either!(self, it => it.strays().await)
    }

    async fn bury(&self, stray: &ActualService) -> Result<(), ConsulError> {
        either!(self, it => it.bury(stray).await)
    }

    async fn changed(&self, sentinel: &str, wait: Duration) -> Result<bool, ConsulError> {
        either!(self, it => it.changed(sentinel, wait).await)
    }
}
