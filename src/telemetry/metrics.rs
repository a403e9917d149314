//! Every series that Remora exports. An explicit registry instead of a global one, so that every test has its own.
//! `docs/metrics.md` is generated from here.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::cluster_metrics::Cluster;
use super::heal_metrics::Heal;
use super::labels::{ConsulCall, DockerCall, Drift, EventAction, Outcome, ResyncOutcome, WriteOp};
use super::probe_metrics::Probes;

/// What [`Metrics::encode`] yields; without it Prometheus does not read it as OpenMetrics.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds from an event to the catalog: a write takes a few milliseconds; a minute means that Consul was away.
const LAG: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Seconds of one call to Consul: calls are given up after ten.
const REQUEST: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAction {
    action: EventAction,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDockerCall {
    call: DockerCall,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByConsulCall {
    call: ConsulCall,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCall {
    call: ConsulCall,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWrite {
    op: WriteOp,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDrift {
    kind: Drift,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResync {
    outcome: ResyncOutcome,
}

type Seconds = Gauge<f64, AtomicU64>;
type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// The agent's metrics. Its methods are cheap and never fail.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    docker_connected: Gauge,
    docker_events: Family<ByAction, Counter>,
    docker_event_stream_restarts: Counter,
    docker_requests: Family<ByDockerCall, Counter>,
    containers: Gauge,
    label_notes: Gauge,
    consul_reachable: Gauge,
    consul_requests: Family<ByConsulCall, Counter>,
    consul_request_duration: Durations<ByCall>,
    services_registered: Gauge,
    pending: Gauge,
    failing: Gauge,
    writes: Family<ByWrite, Counter>,
    event_to_catalog: Histogram,
    drift_repaired: Family<ByDrift, Counter>,
    last_reconcile: Seconds,
    resyncs: Family<ByResync, Counter>,
    queue_depth: Gauge,
    heal: Heal,
    cluster: Cluster,
    probes: Probes,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers a metric without a unit. The library adds `_total` to counters and a full stop to the meaning by itself.
pub(super) fn plain<M: Metric + Clone>(
    registry: &mut Registry,
    name: &'static str,
    meaning: &'static str,
    metric: M,
) -> M {
    registry.register(name, meaning, metric.clone());
    metric
}

/// Registers a metric in seconds. The library adds `_seconds` by itself.
pub(super) fn seconds<M: Metric + Clone>(
    registry: &mut Registry,
    name: &'static str,
    meaning: &'static str,
    metric: M,
) -> M {
    registry.register_with_unit(name, meaning, Unit::Seconds, metric.clone());
    metric
}

/// Counters for every one of these label sets, each at 0.
fn counters<L>(labels: impl IntoIterator<Item = L>) -> Family<L, Counter>
where
    L: Clone + Debug + Eq + Hash,
{
    let family = Family::default();
    for labels in labels {
        drop(family.get_or_create(&labels));
    }
    family
}

/// Version and source revision; the revision is known when the build sets `REMORA_REVISION`.
fn build() -> Info<Vec<(&'static str, &'static str)>> {
    let revision = option_env!("REMORA_REVISION").unwrap_or("unknown");
    Info::new(vec![("version", env!("CARGO_PKG_VERSION")), ("revision", revision)])
}

/// A histogram for every call that ends by itself.
fn durations() -> Durations<ByCall> {
    let family = Family::new_with_constructor((|| Histogram::new(REQUEST)) as fn() -> Histogram);
    for call in ConsulCall::ALL.iter().copied().filter(|call| *call != ConsulCall::Changed) {
        drop(family.get_or_create(&ByCall { call }));
    }
    family
}

impl Metrics {
    /// All series, at 0.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("remora");
        let r = &mut registry;
        r.register("build", "Always 1; the labels say which build this is", build());
        Self {
            docker_connected: plain(
                r,
                "docker_connected",
                "1 while Docker's event stream is followed (at the start, until that begins: while Docker answers)",
                Gauge::default(),
            ),
            docker_events: plain(
                r,
                "docker_events",
                "Events heard from Docker",
                counters(EventAction::ALL.iter().map(|action| ByAction { action: *action })),
            ),
            docker_event_stream_restarts: plain(
                r,
                "docker_event_stream_restarts",
                "Times that Docker's event stream had to be opened again",
                Counter::default(),
            ),
            docker_requests: plain(
                r,
                "docker_requests",
                "Calls to Docker",
                counters(pairs(DockerCall::ALL, Outcome::ALL).map(|(call, outcome)| ByDockerCall { call, outcome })),
            ),
            containers: plain(r, "containers", "Containers that Docker has, stopped ones included", Gauge::default()),
            label_notes: plain(
                r,
                "label_notes",
                "Things that the authors of labels should know, by the last look at every container; the log names them",
                Gauge::default(),
            ),
            consul_reachable: plain(r, "consul_reachable", "1 while Consul answers", Gauge::default()),
            consul_requests: plain(
                r,
                "consul_requests",
                "Calls to Consul",
                counters(pairs(ConsulCall::ALL, Outcome::ALL).map(|(call, outcome)| ByConsulCall { call, outcome })),
            ),
            consul_request_duration: seconds(
                r,
                "consul_request_duration",
                "Duration of calls to Consul, failed ones included, those that wait for a change excluded",
                durations(),
            ),
            services_registered: plain(
                r,
                "services_registered",
                "Services that Remora keeps in Consul",
                Gauge::default(),
            ),
            pending: plain(r, "pending", "Services that wait for a write or for another attempt", Gauge::default()),
            failing: plain(r, "failing", "Services that Consul refuses as they are", Gauge::default()),
            writes: plain(
                r,
                "writes",
                "Writes to Consul",
                counters(pairs(WriteOp::ALL, Outcome::ALL).map(|(op, outcome)| ByWrite { op, outcome })),
            ),
            event_to_catalog: seconds(
                r,
                "event_to_catalog",
                "From the moment an event was heard until Consul acknowledged what follows from it",
                Histogram::new(LAG),
            ),
            drift_repaired: plain(
                r,
                "drift_repaired",
                "Repairs of what differed in Consul although nothing had changed in Docker",
                counters(Drift::ALL.iter().map(|kind| ByDrift { kind: *kind })),
            ),
            last_reconcile: seconds(
                r,
                "reconcile_last_success_timestamp",
                "When everything in Consul was last found or made right, since 1970; 0 before the first time",
                Seconds::default(),
            ),
            resyncs: plain(
                r,
                "resync",
                "Full looks at Docker",
                counters(ResyncOutcome::ALL.iter().map(|outcome| ByResync { outcome: *outcome })),
            ),
            queue_depth: plain(
                r,
                "queue_depth",
                "Changes that were seen in Docker and not yet compared with Consul",
                Gauge::default(),
            ),
            heal: Heal::new(r),
            cluster: Cluster::new(r),
            probes: Probes::new(r),
            // Last: `r` borrows it until here.
            registry,
        }
    }

    /// All series as OpenMetrics text ([`CONTENT_TYPE`]).
    #[must_use]
    pub fn encode(&self) -> String {
        // 240 series of about 60 bytes each, and what they mean.
        let mut out = String::with_capacity(24 * 1024);
        // Writing to a String cannot fail; should an encoder ever, what was written so far lacks its `# EOF`, and
        // Prometheus refuses it.
        let _infallible = text::encode(&mut out, &self.registry);
        out
    }

    /// Whether Docker's event stream is followed.
    pub fn docker_connected(&self, connected: bool) {
        self.docker_connected.set(i64::from(connected));
    }

    /// An event was heard; `word` is Docker's own.
    pub fn event(&self, word: &str) {
        self.docker_events.get_or_create(&ByAction { action: EventAction::of(word) }).inc();
    }

    /// The event stream broke and is opened again.
    pub fn event_stream_restarted(&self) {
        self.docker_event_stream_restarts.inc();
    }

    /// A call to Docker ended.
    pub fn docker_request(&self, call: DockerCall, outcome: Outcome) {
        self.docker_requests.get_or_create(&ByDockerCall { call, outcome }).inc();
    }

    /// How many containers Docker has.
    pub fn containers(&self, count: usize) {
        set(&self.containers, count);
    }

    /// How many things the authors of labels should know.
    pub fn label_notes(&self, count: usize) {
        set(&self.label_notes, count);
    }

    /// Whether Consul answers.
    pub fn consul_reachable(&self, reachable: bool) {
        self.consul_reachable.set(i64::from(reachable));
    }

    /// A call to Consul ended after `took`. The duration of [`ConsulCall::Changed`] says nothing about Consul and is not
    /// kept.
    pub fn consul_request(&self, call: ConsulCall, outcome: Outcome, took: Duration) {
        self.consul_requests.get_or_create(&ByConsulCall { call, outcome }).inc();
        if call != ConsulCall::Changed {
            self.consul_request_duration.get_or_create(&ByCall { call }).observe(took.as_secs_f64());
        }
    }

    /// How many services are kept in Consul.
    pub fn services_registered(&self, count: usize) {
        set(&self.services_registered, count);
    }

    /// How many services wait for a write or another attempt.
    pub fn pending(&self, count: usize) {
        set(&self.pending, count);
    }

    /// How many services Consul refuses.
    pub fn failing(&self, count: usize) {
        set(&self.failing, count);
    }

    /// A write to Consul ended.
    pub fn write(&self, op: WriteOp, outcome: Outcome) {
        self.writes.get_or_create(&ByWrite { op, outcome }).inc();
    }

    /// Consul acknowledged what follows from an event that was heard so long ago.
    pub fn lag(&self, since_event: Duration) {
        self.event_to_catalog.observe(since_event.as_secs_f64());
    }

    /// Something differed in Consul without a change in Docker, and was repaired.
    pub fn drift_repaired(&self, kind: Drift) {
        self.drift_repaired.get_or_create(&ByDrift { kind }).inc();
    }

    /// Everything in Consul was found or made right at this moment.
    pub fn reconciled(&self, at: SystemTime) {
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_reconcile.set(since_epoch.as_secs_f64());
    }

    /// A full look at Docker ended.
    pub fn resync(&self, outcome: ResyncOutcome) {
        self.resyncs.get_or_create(&ByResync { outcome }).inc();
    }

    /// How many changes wait to be compared with Consul.
    pub fn queue_depth(&self, count: usize) {
        set(&self.queue_depth, count);
    }

    /// The series of the health-watcher; its methods are in [`super::heal_metrics`].
    pub(super) const fn heal(&self) -> &Heal {
        &self.heal
    }

    /// The series of the cluster; its methods are in [`super::cluster_metrics`].
    pub(super) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The series of the probes; its methods are in [`super::probe_metrics`].
    pub(super) const fn probes(&self) -> &Probes {
        &self.probes
    }
}

pub(super) fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// Every combination.
pub(super) fn pairs<A: Copy, B: Copy>(left: &'static [A], right: &'static [B]) -> impl Iterator<Item = (A, B)> {
    left.iter().flat_map(|a| right.iter().map(|b| (*a, *b)))
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
