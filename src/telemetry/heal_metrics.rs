//! The series of the health-watcher. Those with labels begin with their first event: they have two hundred combinations, most of
//! which no node ever sees, and resident memory is dear.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{HealAction, HealBrake, HealCause, HealOutcome, WebhookOutcome};
use super::metrics::{Metrics, plain, seconds, set};

/// Seconds of a whole operation: most of it is waiting until the new container has proved itself.
const OPERATION: [f64; 10] = [1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0];

/// Seconds in which nothing ran: a stop and a start, as long as a stop time-out, or nothing at all.
const OUTAGE: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0, 300.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOperation {
    action: HealAction,
    outcome: HealOutcome,
    cause: HealCause,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByBrake {
    brake: HealBrake,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: WebhookOutcome,
}

/// An attempt to heal a container, as the metrics see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealOperation {
    /// What was done in the end.
    pub action: HealAction,
    /// How it ended.
    pub outcome: HealOutcome,
    /// Why it was done.
    pub cause: HealCause,
    /// How long it took.
    pub took: Duration,
    /// How long nothing ran in its place, where that is known.
    pub outage: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Heal {
    operations: Family<ByOperation, Counter>,
    refused: Family<ByBrake, Counter>,
    incidents: Gauge,
    quarantined: Gauge,
    paused: Gauge,
    operation: Histogram,
    outage: Histogram,
    news_dropped: Counter,
    webhook: Family<ByOutcome, Counter>,
}

impl Heal {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            operations: plain(
                r,
                "heal_operations",
                "Attempts to heal a container, by how they ended",
                Family::default(),
            ),
            refused: plain(
                r,
                "heal_refused",
                "Times that a container was to be healed and something stood against it",
                Family::default(),
            ),
            incidents: plain(r, "heal_incidents", "Containers that are to be healed at the moment", Gauge::default()),
            quarantined: plain(
                r,
                "heal_quarantined",
                "Containers for which nothing more is done for a while",
                Gauge::default(),
            ),
            paused: plain(r, "heal_paused", "1 while healing is paused on this node, or everywhere", Gauge::default()),
            operation: seconds(
                r,
                "heal_operation",
                "Duration of attempts to heal a container, from the last look before it to the proof",
                Histogram::new(OPERATION),
            ),
            outage: seconds(
                r,
                "heal_outage",
                "How long nothing ran in a container's place while it was replaced",
                Histogram::new(OUTAGE),
            ),
            news_dropped: plain(
                r,
                "heal_news_dropped",
                "Pieces of news that did not reach Consul's KV or the webhook because too many waited; the log has them",
                Counter::default(),
            ),
            webhook: plain(r, "heal_webhook", "Messages to the webhook", Family::default()),
        }
    }
}

impl Metrics {
    /// An attempt to heal a container ended.
    pub fn heal_operation(&self, operation: &HealOperation) {
        let HealOperation { action, outcome, cause, took, outage } = *operation;
        self.heal().operations.get_or_create(&ByOperation { action, outcome, cause }).inc();
        // What was not done took no time that says anything.
        if outcome == HealOutcome::Cancelled {
            return;
        }
        self.heal().operation.observe(took.as_secs_f64());
        if let Some(outage) = outage {
            self.heal().outage.observe(outage.as_secs_f64());
        }
    }

    /// A container was to be healed, and something stood against it.
    pub fn heal_refused(&self, brake: HealBrake) {
        self.heal().refused.get_or_create(&ByBrake { brake }).inc();
    }

    /// How many containers are to be healed.
    pub fn heal_incidents(&self, count: usize) {
        set(&self.heal().incidents, count);
    }

    /// How many containers are in quarantine.
    pub fn heal_quarantined(&self, count: usize) {
        set(&self.heal().quarantined, count);
    }

    /// Whether healing is paused on this node.
    pub fn heal_paused(&self, paused: bool) {
        self.heal().paused.set(i64::from(paused));
    }

    /// A piece of news did not get to where it should.
    pub fn heal_news_dropped(&self) {
        self.heal().news_dropped.inc();
    }

    /// What became of a message to the webhook.
    pub fn heal_webhook(&self, outcome: WebhookOutcome) {
        self.heal().webhook.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// All combinations, for the table of the documentation.
    #[cfg(test)]
    pub(super) fn all_of_healing(&self) {
        for action in HealAction::ALL.iter().copied() {
            for outcome in HealOutcome::ALL.iter().copied() {
                for cause in HealCause::ALL.iter().copied() {
                    drop(self.heal().operations.get_or_create(&ByOperation { action, outcome, cause }));
                }
            }
        }
        for brake in HealBrake::ALL.iter().copied() {
            drop(self.heal().refused.get_or_create(&ByBrake { brake }));
        }
        for outcome in WebhookOutcome::ALL.iter().copied() {
            drop(self.heal().webhook.get_or_create(&ByOutcome { outcome }));
        }
    }
}
