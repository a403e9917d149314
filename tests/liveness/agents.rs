//! Agents that look after each other, in one process.

use std::sync::Arc;
use std::time::Duration;

use remora::cluster::{self, Leave, Settings};
use remora::consul::{Members, Store};
use remora::telemetry::Metrics;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The shortest that Consul takes.
pub const TTL: Duration = Duration::from_secs(10);
pub const SECOND: Duration = Duration::from_secs(1);

/// Settings of the tests.
pub fn settings(node: &str) -> Settings {
    Settings {
        node: node.to_owned(),
        engine: format!("engine-of-{node}"),
        prefix: "remora".to_owned(),
        ttl: TTL,
        reap: Settings::REAP,
        leave: Leave::Stay,
    }
}

/// An agent's part in the cluster. Dropping it kills it: nothing is said to Consul.
pub struct Agent {
    pub right: watch::Sender<bool>,
    pub metrics: Arc<Metrics>,
    pub shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    /// Begins, with registrations that are `right` or not yet.
    pub fn start<C: Members + Store>(consul: &Arc<C>, settings: Settings, right: bool) -> Self {
        Self::start_with(Arc::clone(consul), Arc::clone(consul), settings, right)
    }

    pub fn start_with<M: Members, S: Store>(members: Arc<M>, store: Arc<S>, settings: Settings, right: bool) -> Self {
        let right = watch::Sender::new(right);
        let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
        let run = cluster::run(settings, members, store, right.subscribe(), Arc::clone(&metrics), shutdown.clone());
        Self { right, metrics, shutdown, task: tokio::spawn(run) }
    }

    /// As a process that is killed.
    pub fn kill(self) {
        drop(self);
    }

    /// As an ordinary shutdown.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.expect("it does not panic");
    }

    /// Whether it says that it leads.
    pub fn leads(&self) -> bool {
        self.metrics.encode().lines().any(|line| line == "remora_cluster_leader 1")
    }

    /// How many nodes it says are in this state.
    pub fn nodes(&self, state: &str) -> usize {
        let start = format!("remora_cluster_nodes{{state=\"{state}\"}} ");
        self.metrics.encode().lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).expect("a series")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until this is so.
pub async fn until(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> bool) -> Duration {
    let began = tokio::time::Instant::now();
    while !look().await {
        assert!(began.elapsed() < limit, "not {what} within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}
