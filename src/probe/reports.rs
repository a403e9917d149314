//! Reports of services about themselves, from the HTTP server to the prober.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::WANTED_EVERY;
use super::board::Refused;
use crate::consul::model::Status;
use crate::telemetry::{CheckReport, ReportRefusal, ReportTaker};

/// Reports that may wait for the prober, which takes each within microseconds.
const WAITING: usize = 32;

/// What it takes until the prober has heard what is wanted now.
const SLACK: Duration = Duration::from_millis(50);

/// A report on its way.
#[derive(Debug)]
pub struct Report {
    pub(super) check: String,
    pub(super) status: Status,
    pub(super) output: String,
    pub(super) answer: oneshot::Sender<Result<(), Refused>>,
}

/// The end for whoever has a report. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reports(mpsc::Sender<Report>);

/// A way for reports: its end for the HTTP server, and the one for [`Prober::with_reports`](super::Prober::with_reports).
#[must_use]
pub fn reports() -> (Reports, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Reports(sender), receiver)
}

impl Reports {
    /// Reports about a TTL check, and waits until the prober has taken it. A service may see itself in the catalog a moment before the
    /// prober hears of its checks: one that it does not know is asked for once more, after [`WANTED_EVERY`].
    ///
    /// # Errors
    /// The check is not wanted, is not a TTL check, or the prober has ended.
    pub async fn report(&self, check: &str, status: Status, output: &str) -> Result<(), ReportRefusal> {
        let mut answer = self.ask(check, status, output).await?;
        if matches!(answer, Err(Refused::Unknown)) {
            sleep(WANTED_EVERY + SLACK).await;
            answer = self.ask(check, status, output).await?;
        }
        answer.map_err(|refused| match refused {
            Refused::Unknown => ReportRefusal::Unknown,
            Refused::NotTtl => ReportRefusal::NotTtl,
        })
    }

    async fn ask(&self, check: &str, status: Status, output: &str) -> Result<Result<(), Refused>, ReportRefusal> {
        let (answer, answered) = oneshot::channel();
        let report = Report { check: check.to_owned(), status, output: output.to_owned(), answer };
        self.0.send(report).await.map_err(|_| ReportRefusal::Stopping)?;
        answered.await.map_err(|_| ReportRefusal::Stopping)
    }

    /// As the HTTP server takes it ([`Face::with_reports`](crate::telemetry::Face::with_reports)).
    #[must_use]
    pub fn taker(self) -> ReportTaker {
        Arc::new(move |report: CheckReport| {
            let reports = self.clone();
            Box::pin(async move { reports.report(&report.check, report.standing.into(), &report.output).await })
        })
    }
}
