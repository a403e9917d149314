//! Catalog mode: what runs beside the worker where the node has no Consul agent, and what is tidied up after a change of mode.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::way::Mode;
use crate::backoff::Backoff;
use crate::cluster::{self, Leave};
use crate::config::{Config, OnExit};
use crate::consul::catalog::{NodeIdentity, Writer};
use crate::consul::{
    AgentRegistry, CatalogRegistry, Class, Client, ClusterClient, ConsulError, EitherRegistry, KvStore, Registry as _,
};
use crate::probe::{self, Wants};
use crate::reconcile::own::{self, Owner};
use crate::registration::Settings;
use crate::telemetry::Metrics;

/// This node in the catalog.
#[must_use]
pub fn node(settings: &Settings, host: &str) -> NodeIdentity {
    let address = &settings.publish.address;
    let (v4, v6) = (address.v4.map(|v4| v4.to_string()), address.v6.map(|v6| v6.to_string()));
    // Without an address of its own (REMORA_INTERNAL) nobody asks for the node's.
    let advertised = v4.or(v6).or_else(|| address.name.clone()).unwrap_or_else(|| host.to_owned());
    NodeIdentity::new(&settings.node, &advertised, &settings.engine)
}

/// The registry of the mode that was chosen, and the writer that the catalog's needs.
#[must_use]
pub fn registry(mode: Mode, client: &Client, node: &NodeIdentity) -> (EitherRegistry, Option<Writer>) {
    match mode {
        Mode::Agent => (EitherRegistry::Agent(AgentRegistry::new(client.clone())), None),
        Mode::Catalog => {
            let (registry, writer) = CatalogRegistry::new(client.clone(), node.clone());
            (EitherRegistry::Catalog(registry), Some(writer))
        }
    }
}

/// The keys of Consul, with sessions that end with this node.
#[must_use]
pub fn store(mode: Mode, client: &Client, node: &NodeIdentity) -> KvStore {
    match mode {
        Mode::Agent => KvStore::new(client.clone()),
        Mode::Catalog => KvStore::on_node(client.clone(), node.name()),
    }
}

/// What the tasks beside the worker need.
pub(super) struct Beside {
    pub(super) client: Client,
    pub(super) registry: Arc<EitherRegistry>,
    pub(super) writer: Writer,
    pub(super) node: NodeIdentity,
    /// Reports of services about themselves.
    pub(super) reported: mpsc::Receiver<probe::reports::Report>,
    pub(super) right: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
}

impl Beside {
    /// Starts them: probes, their reporter, the node's liveness; and the writer, which ends with `writing` because the worker's
    /// goodbye needs it. Returns where the worker says what has to be probed.
    pub(super) fn spawn(
        self,
        config: &Config,
        tasks: &mut JoinSet<&'static str>,
        shutdown: &CancellationToken,
        writing: CancellationToken,
    ) -> watch::Sender<Wants> {
        let (wants, wanted) = watch::channel(Wants::default());
        let (findings, found) = mpsc::channel(probe::FINDINGS);
        let asker = probe::Asker::new(config.consul.tls.clone());
        let prober =
            probe::Prober::new(asker, wanted.clone(), findings, Arc::clone(&self.metrics)).with_reports(self.reported);
        let reporter = probe::Reporter::new(self.registry, wanted, found, Arc::clone(&self.metrics));
        let settings = cluster::Settings {
            node: self.node.name().to_owned(),
            engine: self.node.engine().to_owned(),
            prefix: config.heal.prefix.clone(),
            ttl: config.external.node_ttl,
            reap: config.external.node_reap,
            leave: match config.on_exit {
                OnExit::Keep => Leave::Stay,
                OnExit::Deregister => Leave::End,
            },
        };
        let members = Arc::new(ClusterClient::new(self.client.clone()));
        let store = Arc::new(KvStore::on_node(self.client, self.node.name()));
        let (writer, right, metrics) = (self.writer, self.right, self.metrics);
        tasks.spawn(async move {
            writer.run(writing).await;
            "catalog writer"
        });
        let stop = shutdown.clone();
        tasks.spawn(async move {
            tokio::join!(prober.run(stop.clone()), reporter.run(stop));
            "prober"
        });
        let stop = shutdown.clone();
        tasks.spawn(async move {
            cluster::run(settings, members, store, right, metrics, stop).await;
            "liveness"
        });
        wants
    }
}

/// Removes what this engine had registered the other way, once everything is registered this way: new before old. Then waits for
/// the shutdown, as a task has to.
pub(super) async fn tidy_up(
    mode: Mode,
    client: Client,
    settings: Settings,
    node: NodeIdentity,
    mut right: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let work = async {
        if right.wait_for(|right| *right).await.is_err() {
            return;
        }
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            let outcome = match mode {
                Mode::Agent => leave_catalog(&client, &node).await,
                Mode::Catalog => leave_agent(&client, &settings).await,
            };
            match outcome {
                Ok(0) => return,
                Ok(removed) => {
                    tracing::info!(
                        event = "mode_changed",
                        removed,
                        mode = mode.as_str(),
                        "this node is registered in {} mode now; what it had registered the other way is removed ({removed})",
                        mode.as_str()
                    );
                    return;
                }
                Err(error) if error.class() == Class::Transient => {
                    tokio::time::sleep(backoff.next(fastrand::f64())).await;
                }
                Err(error) => {
                    // Most of those who may not look have nothing there.
                    tracing::debug!(event = "mode_unknown", error = %error, "whether this node was registered the other way before cannot be seen: {error}");
                    return;
                }
            }
        }
    };
    let _stopped = shutdown.run_until_cancelled(work).await;
    shutdown.cancelled().await;
}

/// Removes our node from the catalog. The node of a Consul agent has not our mark, whatever its name is.
async fn leave_catalog(client: &Client, node: &NodeIdentity) -> Result<usize, ConsulError> {
    match node.remove(client).await {
        Ok(removed) => Ok(usize::from(removed)),
        Err(ConsulError::NotOurs { .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Deregisters at the agent that is spoken to what this engine registered there.
async fn leave_agent(client: &Client, settings: &Settings) -> Result<usize, ConsulError> {
    let agent = AgentRegistry::new(client.clone());
    let snapshot = agent.read().await?;
    let mut removed = 0;
    for service in snapshot.services.values() {
        if matches!(own::owner(service, settings), Owner::Ours(_)) {
            agent.deregister(&service.id).await?;
            removed += 1;
        }
    }
    Ok(removed)
}
