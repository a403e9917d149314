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

use super::labels::{ConsulCall, DockerCall, Drift, EventAction, Outcome, ResyncOutcome, WriteOp};

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
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers a metric without a unit. The library adds `_total` to counters and a full stop to the meaning by itself.
fn plain<M: Metric + Clone>(registry: &mut Registry, name: &'static str, meaning: &'static str, metric: M) -> M {
    registry.register(name, meaning, metric.clone());
    metric
}

/// Registers a metric in seconds. The library adds `_seconds` by itself.
fn seconds<M: Metric + Clone>(registry: &mut Registry, name: &'static str, meaning: &'static str, metric: M) -> M {
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
            // Last: `r` borrows it until here.
            registry,
        }
    }

    /// All series as OpenMetrics text ([`CONTENT_TYPE`]).
    #[must_use]
    pub fn encode(&self) -> String {
        // 170 series of about 60 bytes each.
        let mut out = String::with_capacity(16 * 1024);
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
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// Every combination.
fn pairs<A: Copy, B: Copy>(left: &'static [A], right: &'static [B]) -> impl Iterator<Item = (A, B)> {
    left.iter().flat_map(|a| right.iter().map(|b| (*a, *b)))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write as _;

    use super::*;

    #[track_caller]
    fn has(metrics: &Metrics, line: &str) {
        let text = metrics.encode();
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }

    #[test]
    fn counters_end_in_total_once_and_units_are_in_the_names() {
        let text = Metrics::new().encode();
        assert!(!text.contains("_total_total"), "{text}");
        assert!(!text.contains("_seconds_seconds"), "{text}");
        assert!(text.contains("\n# UNIT remora_event_to_catalog_seconds seconds\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn every_method_moves_its_series() {
        let metrics = Metrics::new();
        metrics.docker_connected(true);
        metrics.event("start");
        metrics.event("exec_start: secret");
        metrics.event_stream_restarted();
        metrics.docker_request(DockerCall::Inspect, Outcome::NotFound);
        metrics.containers(7);
        metrics.label_notes(4);
        metrics.consul_reachable(true);
        metrics.consul_request(ConsulCall::Register, Outcome::Ok, Duration::from_millis(2));
        metrics.services_registered(5);
        metrics.pending(2);
        metrics.failing(1);
        metrics.write(WriteOp::Check, Outcome::Denied);
        metrics.lag(Duration::from_millis(3));
        metrics.drift_repaired(Drift::ForeignCheck);
        metrics.reconciled(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        metrics.resync(ResyncOutcome::Failed);
        metrics.queue_depth(3);
        for line in [
            "remora_docker_connected 1",
            "remora_docker_events_total{action=\"start\"} 1",
            "remora_docker_events_total{action=\"other\"} 1",
            "remora_docker_events_total{action=\"die\"} 0",
            "remora_docker_event_stream_restarts_total 1",
            "remora_docker_requests_total{call=\"inspect\",outcome=\"not_found\"} 1",
            "remora_containers 7",
            "remora_label_notes 4",
            "remora_consul_reachable 1",
            "remora_consul_requests_total{call=\"register\",outcome=\"ok\"} 1",
            "remora_consul_request_duration_seconds_bucket{le=\"0.001\",call=\"register\"} 0",
            "remora_consul_request_duration_seconds_bucket{le=\"0.0025\",call=\"register\"} 1",
            "remora_services_registered 5",
            "remora_pending 2",
            "remora_failing 1",
            "remora_writes_total{op=\"check\",outcome=\"denied\"} 1",
            "remora_event_to_catalog_seconds_bucket{le=\"0.0025\"} 0",
            "remora_event_to_catalog_seconds_bucket{le=\"0.005\"} 1",
            "remora_drift_repaired_total{kind=\"foreign_check\"} 1",
            "remora_reconcile_last_success_timestamp_seconds 1700000000.0",
            "remora_resync_total{outcome=\"failed\"} 1",
            "remora_queue_depth 3",
        ] {
            has(&metrics, line);
        }
    }

    #[test]
    fn waiting_for_a_change_is_counted_but_not_timed() {
        let metrics = Metrics::new();
        metrics.consul_request(ConsulCall::Changed, Outcome::Ok, Duration::from_secs(300));
        has(&metrics, "remora_consul_requests_total{call=\"changed\",outcome=\"ok\"} 1");
        assert!(!metrics.encode().contains("seconds_count{call=\"changed\"}"));
    }

    #[test]
    fn nothing_that_happens_adds_a_series() {
        let metrics = Metrics::new();
        let series = |metrics: &Metrics| metrics.encode().lines().count();
        let before = series(&metrics);
        for word in ["start", "exec_create: a", "b", "c", "health_status: x"] {
            metrics.event(word);
        }
        for (op, outcome) in pairs(WriteOp::ALL, Outcome::ALL) {
            metrics.write(op, outcome);
        }
        for (call, outcome) in pairs(ConsulCall::ALL, Outcome::ALL) {
            metrics.consul_request(call, outcome, Duration::ZERO);
        }
        assert_eq!(series(&metrics), before);
    }

    /// The table of `docs/metrics.md`, read off the exported text.
    fn table() -> String {
        #[derive(Default)]
        struct Series {
            kind: String,
            meaning: String,
            labels: BTreeMap<String, BTreeSet<String>>,
        }
        let text = Metrics::new().encode();
        let mut order = Vec::new();
        let mut all: BTreeMap<String, Series> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("HELP"), Some(name), Some(meaning)) => {
                    order.push(name.to_owned());
                    all.entry(name.to_owned()).or_default().meaning = meaning.to_owned();
                }
                (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                    all.entry(name.to_owned()).or_default().kind = kind.to_owned();
                }
                _ => {}
            }
            let Some((sample, labels)) = line.split_once('{').filter(|(sample, _)| !sample.starts_with('#')) else {
                continue;
            };
            let family = order.iter().rev().find(|family| sample.starts_with(family.as_str())).unwrap();
            let series = all.get_mut(family).unwrap();
            for pair in labels.split_once('}').unwrap().0.split(',') {
                let (label, value) = pair.split_once('=').unwrap();
                if label != "le" {
                    series.labels.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
                }
            }
        }
        let mut out = String::from("| Series | Type | Labels | Meaning |\n|---|---|---|---|\n");
        for name in order {
            let Series { kind, meaning, labels } = &all[&name];
            let suffix = match kind.as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let labels: Vec<String> = labels
                .iter()
                .map(|(label, values)| match kind.as_str() {
                    "info" => format!("`{label}`"),
                    _ => format!("`{label}`: {}", values.iter().cloned().collect::<Vec<_>>().join(", ")),
                })
                .collect();
            writeln!(out, "| `{name}{suffix}` | {kind} | {} | {meaning} |", labels.join("; ")).unwrap();
        }
        out
    }

    #[test]
    fn the_documentation_lists_every_series() {
        const BEGIN: &str = "<!-- begin of the generated table -->\n";
        const END: &str = "<!-- end of the generated table -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let documentation = std::fs::read_to_string(path).unwrap();
        let (before, rest) = documentation.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let expected = format!("{before}{BEGIN}{}{END}{after}", table());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).unwrap();
        } else {
            assert_eq!(documentation, expected, "run `UPDATE_DOCS=1 cargo test --lib telemetry::metrics`");
        }
    }
}
