//! The loop around the [`Board`]: asks when it is somebody's turn, hears reports, tells findings. It never waits for whoever takes
//! the findings: what there is no room for stays on the board, once for each check.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ask::{Answer, Ask, Asker};
use super::board::{Board, Changed};
use super::reports::Report;
use super::schedule::Number;
use super::{Finding, Wants};
use crate::consul::model::{Check, CheckKind, Status};
use crate::telemetry::{Metrics, ProbeKind, ProbeOutcome};

/// The task that runs checks.
pub struct Prober<A = Asker> {
    asker: Arc<A>,
    wanted: watch::Receiver<Wants>,
    findings: mpsc::Sender<Finding>,
    reports: Option<mpsc::Receiver<Report>>,
    metrics: Arc<Metrics>,
    board: Board,
    probes: JoinSet<Done>,
    under_way: BTreeMap<Number, AbortHandle>,
}

/// The end of a probe.
struct Done {
    number: Number,
    kind: ProbeKind,
    answer: Answer,
}

impl<A> std::fmt::Debug for Prober<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").field("checks", &self.board.len()).finish_non_exhaustive()
    }
}

impl<A: Ask> Prober<A> {
    /// Runs what is `wanted` and tells `findings`: when a status changes, and now and then when only the output does
    /// ([`super::telling`]).
    #[must_use]
    pub fn new(
        asker: A,
        wanted: watch::Receiver<Wants>,
        findings: mpsc::Sender<Finding>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            asker: Arc::new(asker),
            wanted,
            findings,
            reports: None,
            metrics,
            board: Board::default(),
            probes: JoinSet::new(),
            under_way: BTreeMap::new(),
        }
    }

    /// Takes reports about TTL checks from here ([`super::reports()`]).
    #[must_use]
    pub fn with_reports(self, reports: mpsc::Receiver<Report>) -> Self {
        Self { reports: Some(reports), ..self }
    }

    /// Works until `shutdown`, or until nobody says any more what is wanted, or listens. Probes under way end with it.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let findings = self.findings.clone();
        self.want();
        loop {
            self.start();
            let wake = self.board.next();
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.want(),
                    Err(_nobody_wants) => break,
                },
                Some(done) = self.probes.join_next(), if !self.probes.is_empty() => match done {
                    Ok(done) => self.answered(done),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_cancelled) => {}
                },
                permit = findings.reserve(), if self.board.has_finding() => match permit {
                    Ok(permit) => if let Some(finding) = self.board.finding() {
                        permit.send(finding);
                    },
                    Err(_nobody_listens) => break,
                },
                report = next_report(&mut self.reports), if self.reports.is_some() => match report {
                    Some(report) => self.reported(report),
                    None => self.reports = None,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
        self.probes.shutdown().await;
        self.metrics.probes_scheduled(0);
    }

    fn want(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        for number in self.board.want(&wanted, Instant::now(), fastrand::f64) {
            if let Some(probe) = self.under_way.remove(&number) {
                probe.abort();
            }
        }
        self.metrics.probes_scheduled(self.board.len());
    }

    /// Does everything whose time has come.
    fn start(&mut self) {
        let now = Instant::now();
        while let Some((expired, changed)) = self.board.run_out(now) {
            if expired {
                self.metrics.probe(ProbeKind::Ttl, ProbeOutcome::TimedOut);
            }
            tell(changed.as_ref());
        }
        while let Some((number, check)) = self.board.turn(now) {
            let asker = Arc::clone(&self.asker);
            let probe = self.probes.spawn(async move {
                let answer = asker.ask(&check).await;
                Done { number, kind: kind(&check), answer }
            });
            self.under_way.insert(number, probe);
        }
    }

    fn answered(&mut self, Done { number, kind, answer }: Done) {
        // Without an entry it was called off, and came to its end all the same.
        if self.under_way.remove(&number).is_none() {
            return;
        }
        self.metrics.probe(kind, outcome(answer.status, answer.timed_out));
        tell(self.board.answered(number, answer, Instant::now()).as_ref());
    }

    fn reported(&mut self, report: Report) {
        let taken = self.board.reported(&report.check, report.status, report.output, Instant::now());
        if let Ok(changed) = &taken {
            self.metrics.probe(ProbeKind::Ttl, outcome(report.status, false));
            tell(changed.as_ref());
        }
        // Whoever does not wait for the answer any more has reported all the same.
        let _left = report.answer.send(taken.map(drop));
    }
}

async fn next_report(reports: &mut Option<mpsc::Receiver<Report>>) -> Option<Report> {
    reports.as_mut()?.recv().await
}

const fn outcome(status: Status, timed_out: bool) -> ProbeOutcome {
    match status {
        _ if timed_out => ProbeOutcome::TimedOut,
        Status::Passing => ProbeOutcome::Passing,
        Status::Warning => ProbeOutcome::Warning,
        Status::Critical => ProbeOutcome::Critical,
    }
}

fn kind(check: &Check) -> ProbeKind {
    match &*check.kind {
        CheckKind::Tcp { .. } => ProbeKind::Tcp,
        CheckKind::Grpc { .. } => ProbeKind::Grpc,
        CheckKind::Ttl { .. } => ProbeKind::Ttl,
        // Scripts are never probed.
        CheckKind::Http { .. } | CheckKind::Script { .. } => ProbeKind::Http,
    }
}

/// Into the log. Without the output: it is the service's own text, and may hold anything.
fn tell(changed: Option<&Changed>) {
    if let Some(Changed { check, from, to }) = changed {
        tracing::info!(event = "check_changed", check = %check.id, from = %from, to = %to, "{} is {to} now", check.id);
    }
}

#[cfg(test)]
#[path = "prober_tests.rs"]
mod tests;
