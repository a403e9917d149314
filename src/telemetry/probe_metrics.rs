//! The series of the probes of catalog mode. Each result begins with the first of its kind: most nodes never probe.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{ProbeKind, ProbeOutcome};
use super::metrics::{Metrics, plain, set};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    kind: ProbeKind,
    outcome: ProbeOutcome,
}

#[derive(Debug)]
pub(super) struct Probes {
    results: Family<ByResult, Counter>,
    // Not `probes`: the counter's family has that name.
    scheduled: Gauge,
}

impl Probes {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            results: plain(
                r,
                "probes",
                "Results of checks that Remora runs itself (catalog mode): of probes, of reports and of their absence",
                Family::default(),
            ),
            scheduled: plain(r, "probes_scheduled", "Checks that Remora runs itself (catalog mode)", Gauge::default()),
        }
    }
}

impl Metrics {
    /// A check that Remora runs itself came to a result.
    pub fn probe(&self, kind: ProbeKind, outcome: ProbeOutcome) {
        self.probes().results.get_or_create(&ByResult { kind, outcome }).inc();
    }

    /// How many checks Remora runs itself.
    pub fn probes_scheduled(&self, count: usize) {
        set(&self.probes().scheduled, count);
    }

    /// Makes every combination of labels exist, for the table of the documentation.
    #[cfg(test)]
    pub(super) fn all_of_probes(&self) {
        for (kind, outcome) in super::metrics::pairs(ProbeKind::ALL, ProbeOutcome::ALL) {
            drop(self.probes().results.get_or_create(&ByResult { kind, outcome }));
        }
    }
}
