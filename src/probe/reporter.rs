//! Writes findings to Consul: of each check the last one, again and again until it is written. Other checks do not wait for one that
//! cannot be written, except when Consul as a whole cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Finding, Wants};
use crate::backoff::Backoff;
use crate::consul::error::{Class, ConsulError};
use crate::consul::registry::Registry;
use crate::telemetry::{Metrics, Outcome, WriteOp};

/// Writes at once: as many as one transaction of the oldest Consul takes, so that a wave of changes is one.
const WRITES: usize = 64;

/// While Consul is away or unwell: the first wait, and the longest one.
const AWAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// While the token does not allow one check: rights change from outside, and rarely.
const DENIED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// What waits to be written about a check.
#[derive(Debug)]
struct Waiting {
    /// `None` while the last one is being written.
    finding: Option<Finding>,
    not_before: Option<Instant>,
    backoff: Backoff,
}

impl Waiting {
    fn new() -> Self {
        Self { finding: None, not_before: None, backoff: Backoff::new(DENIED.0, DENIED.1) }
    }
}

/// The end of a write.
type Written = (Finding, Result<(), ConsulError>);

/// The task that writes findings.
pub struct Reporter<R> {
    registry: Arc<R>,
    wanted: watch::Receiver<Wants>,
    findings: mpsc::Receiver<Finding>,
    metrics: Arc<Metrics>,
    waiting: BTreeMap<String, Waiting>,
    /// Checks of which a write is under way: two at once could arrive in the wrong order.
    writing: BTreeSet<String>,
    writes: JoinSet<Written>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl<R> std::fmt::Debug for Reporter<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl<R: Registry> Reporter<R> {
    /// Writes `findings` through this registry. What is not `wanted` any more is not written either: so there is never more to
    /// remember than there are checks, however long Consul is away.
    #[must_use]
    pub fn new(
        registry: Arc<R>,
        wanted: watch::Receiver<Wants>,
        findings: mpsc::Receiver<Finding>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            registry,
            wanted,
            findings,
            metrics,
            waiting: BTreeMap::new(),
            writing: BTreeSet::new(),
            writes: JoinSet::new(),
            backoff: Backoff::new(AWAY.0, AWAY.1),
            not_before: None,
        }
    }

    /// Works until `shutdown`, or until the prober has ended and everything is written. What is not written at a shutdown is found
    /// again after the next start.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (mut heard, mut watched) = (true, true);
        while heard || !self.waiting.is_empty() {
            let wake = self.start(Instant::now());
            tokio::select! {
                () = shutdown.cancelled() => break,
                finding = self.findings.recv(), if heard => match finding {
                    Some(finding) => self.take(finding),
                    None => heard = false,
                },
                changed = self.wanted.changed(), if watched => match changed {
                    Ok(()) => self.prune(),
                    Err(_nobody_wants) => watched = false,
                },
                Some(written) = self.writes.join_next(), if !self.writes.is_empty() => match written {
                    Ok((finding, result)) => self.written(finding, &result, Instant::now()),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_cancelled) => {}
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
        self.writes.shutdown().await;
    }

    /// The last finding of a check is the one that counts. It does not wait for an earlier one's back-off: that was about the check's
    /// rights, though, so it keeps it.
    fn take(&mut self, finding: Finding) {
        if !self.wanted.borrow().contains_key(finding.check.as_str()) {
            return;
        }
        let waiting = self.waiting.entry(finding.check.clone()).or_insert_with(Waiting::new);
        waiting.finding = Some(finding);
    }

    fn prune(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        self.waiting.retain(|id, _| wanted.contains_key(id.as_str()));
    }

    /// Starts what can be started; when to look again.
    fn start(&mut self, now: Instant) -> Option<Instant> {
        if self.not_before.is_some_and(|at| at > now) {
            return self.not_before;
        }
        self.not_before = None;
        // While Consul has not shown that it is well again, one write is enough to find out.
        let room = if self.backoff.attempts() > 0 { 1 } else { WRITES };
        let mut wake = None;
        for (id, waiting) in &mut self.waiting {
            if self.writes.len() >= room {
                // A write that ends wakes the loop.
                return wake;
            }
            if self.writing.contains(id) || waiting.finding.is_none() {
                continue;
            }
            if let Some(at) = waiting.not_before.filter(|at| *at > now) {
                wake = Some(wake.map_or(at, |wake: Instant| wake.min(at)));
                continue;
            }
            if let Some(finding) = waiting.finding.take() {
                self.writing.insert(id.clone());
                let registry = Arc::clone(&self.registry);
                self.writes.spawn(async move {
                    let result = registry.update_check(&finding.check, finding.status, &finding.output).await;
                    (finding, result)
                });
            }
        }
        wake
    }

    fn written(&mut self, finding: Finding, result: &Result<(), ConsulError>, now: Instant) {
        self.metrics.write(WriteOp::Check, Outcome::from(result));
        let class = result.as_ref().err().map(ConsulError::class);
        match class {
            Some(Class::Transient) => {
                // Of a wave of writes that fail together the first one counts.
                if self.not_before.is_none() {
                    self.not_before = Some(now + self.backoff.next(fastrand::f64()));
                    if self.backoff.worth_telling()
                        && let Err(error) = result
                    {
                        tracing::warn!(event = "check_write_failed", check = %finding.check, error = %error, "statuses of checks cannot be written; trying again");
                    }
                }
            }
            _ => self.backoff.reset(),
        }
        let id = finding.check.clone();
        self.writing.remove(&id);
        // Not wanted any more.
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        match (class, result) {
            (Some(Class::Transient), _) => {
                // Something newer may have come.
                waiting.finding.get_or_insert(finding);
                return;
            }
            (Some(Class::Denied), Err(error)) => {
                waiting.not_before = Some(now + waiting.backoff.next(fastrand::f64()));
                if waiting.backoff.worth_telling() {
                    tracing::warn!(event = "check_write_denied", check = %id, error = %error, "the status of {id} may not be written");
                }
                waiting.finding.get_or_insert(finding);
                return;
            }
            (Some(Class::Gone), _) => {
                tracing::debug!(event = "check_unknown", check = %id, "Consul does not have {id}; nothing is written about it");
            }
            (Some(Class::Rejected), Err(error)) => {
                tracing::warn!(event = "check_write_rejected", check = %id, error = %error, "Consul does not take the status of {id}");
            }
            _ => {}
        }
        waiting.not_before = None;
        waiting.backoff.reset();
        if waiting.finding.is_none() {
            self.waiting.remove(&id);
        }
    }
}

#[cfg(test)]
#[path = "reporter_tests.rs"]
mod tests;
