//! The registry of a node without a Consul agent: a node of its own in the cluster's catalog.
//!
//! * [`node`]: the node, and whose it is; `view`: its rows with their indexes; `plan`: what a request costs, and what costs
//!   nothing; `rules`: what an agent would have refused. All pure.
//! * [`Writer`]: the one task that writes, in few transactions (`packing`); `read`: the looks, and what is noticed at once.
//!
//! Nothing here probes or expires anything: a check is what was last written, whoever has to say it. Nobody acts on
//! `deregister_after` either; it only stands in the check's definition.

pub mod node;
mod packing;
mod plan;
mod read;
mod rules;
mod state;
mod view;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub(super) use node::NODE_CHECK_NAME;
pub use node::{NODE_CHECK, NodeIdentity};
pub use writer::Writer;

use self::plan::{Registration, Request};
use self::state::Shared;
use self::writer::Job;
use super::client::{Call, Client};
use super::error::ConsulError;
use super::model::{ActualService, Service, Snapshot, Status};
use super::registry::{Registry, bounded_output};
use super::txn::rule;
use super::wire::{encode, register_body};

/// A caller waits so long for the writer. Each of its calls has 10 s; more than a few in a row do not fail without the
/// others being told too.
const ANSWER: Duration = Duration::from_secs(60);

/// [`Registry`] over the catalog of a cluster. Clones share everything.
///
/// Rights (ACL): `node "<node>" { policy = "write" }`, and `service "…" { policy = "write" }` for each name. Where one is
/// missing, the error names it.
#[derive(Clone)]
pub struct CatalogRegistry {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Job>,
}

impl std::fmt::Debug for CatalogRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogRegistry").field("node", &self.shared.node.name()).finish_non_exhaustive()
    }
}

impl CatalogRegistry {
    /// A registry on this node, and the task that writes for it: nothing is written until [`Writer::run`] runs.
    #[must_use]
    pub fn new(client: Client, node: NodeIdentity) -> (Self, Writer) {
        let shared = Arc::new(Shared::new(client, node));
        let (requests, receiver) = mpsc::channel(writer::QUEUE);
        (Self { shared: Arc::clone(&shared), requests }, Writer::new(shared, receiver))
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> &NodeIdentity {
        &self.shared.node
    }

    /// Sets the check about the whole node ([`NODE_CHECK`]); makes the node where there is none. What it says already is
    /// not written again.
    ///
    /// # Errors
    /// As [`Registry::register`].
    pub async fn set_node_check(&self, status: Status, output: &str) -> Result<(), ConsulError> {
        self.ask(Request::Node { status, output: bounded_output(output).into() }).await
    }

    /// [`NodeIdentity::remove`]. Whatever is registered afterwards makes the node anew.
    ///
    /// # Errors
    /// The same.
    pub async fn remove_node(&self) -> Result<bool, ConsulError> {
        let outcome = self.shared.node.remove(&self.shared.client).await;
        self.shared.state().known = false;
        outcome
    }

    async fn ask(&self, request: Request) -> Result<(), ConsulError> {
        let call = request.call();
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let gone = || ConsulError::Unreachable {
                address: self.shared.client.address().to_owned(),
                reason: "the task that writes to the catalog has ended".to_owned(),
            };
            self.requests.send(Job::new(request, Some(reply))).await.map_err(|_ended| gone())?;
            answer.await.map_err(|_ended| gone())?
        };
        timeout(ANSWER, asked).await.unwrap_or(Err(ConsulError::TimedOut { call, after: ANSWER }))
    }
}

impl Shared {
    /// A registration with tagged addresses.
    async fn register(&self, registration: &Registration) -> Result<(), ConsulError> {
        let name = "PUT /v1/catalog/register";
        let Registration { row, tagged, checks } = registration;
        let body = encode(name, &register_body(row, tagged, checks))?;
        match self.client.call(Call::put(name, &["v1", "catalog", "register"], Some(body))).await {
            Ok(_) => Ok(()),
            Err(ConsulError::Forbidden { call, message }) if message.to_lowercase().contains("permission denied") => {
                let needs = rule("service", &row.name, "write");
                Err(ConsulError::Forbidden { call, message: format!("{message}: it needs {needs} to set {}", row.id) })
            }
            Err(error) => Err(error),
        }
    }
}

impl Registry for CatalogRegistry {
    async fn read(&self) -> Result<Arc<Snapshot>, ConsulError> {
        self.shared.read(Vec::new()).await
    }

    async fn read_after(&self, written: Vec<Arc<ActualService>>) -> Result<Arc<Snapshot>, ConsulError> {
        self.shared.read(written).await
    }

    fn keep(&self, snapshot: &Arc<Snapshot>) {
        let mut state = self.shared.state();
        if let Some(seen) = state.seen.as_mut().filter(|seen| seen.snapshot == *snapshot) {
            seen.snapshot = Arc::clone(snapshot);
            state.view.keep(snapshot);
        }
    }

    async fn find(&self, service_id: &str) -> Result<Option<ActualService>, ConsulError> {
        self.shared.find(service_id).await
    }

    fn credentials(&self) -> u64 {
        self.shared.client.credentials()
    }

    fn writes_at_once(&self) -> usize {
        // A few full transactions, of which one is under way.
        writer::QUEUE / 2
    }

    /// By a compare-and-set, which `/v1/catalog/register` does not have. It finds the row of an id in another case, too.
    fn is_guarded(&self, service: &Service) -> bool {
        service.tagged_addresses.is_empty()
    }

    async fn register(&self, service: &Service) -> Result<(), ConsulError> {
        let request = Request::Register(Box::new(service.clone()));
        rules::valid(request.call(), service)?;
        self.ask(request).await
    }

    async fn deregister(&self, service_id: &str) -> Result<(), ConsulError> {
        self.ask(Request::Deregister(service_id.into())).await
    }

    async fn update_check(&self, check_id: &str, status: Status, output: &str) -> Result<(), ConsulError> {
        let output = bounded_output(output).into();
        self.ask(Request::Update { id: check_id.into(), status, output }).await
    }

    async fn remove_check(&self, check_id: &str) -> Result<(), ConsulError> {
        self.ask(Request::Remove(check_id.into())).await
    }

    /// Whether somebody else than us changed a service or a check of the node; `sentinel` is only one of them. Our own
    /// writes end Consul's blocking queries too, at the cost of an answer each, at most five in a second; they are told from
    /// others' by the indexes that Consul gave them. What an answer that was lost has written counts as somebody else's.
    async fn changed(&self, _sentinel: &str, wait: Duration) -> Result<bool, ConsulError> {
        self.shared.changed(wait).await
    }
}
