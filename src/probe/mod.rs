//! Catalog mode: there is no Consul agent that would run the checks of `SERVICE_CHECK_*`, so Remora does.
//!
//! ```text
//!  wanted checks (watch) ──►  Prober  ── findings (bounded) ──►  Reporter  ──►  Registry::update_check
//!                              │   ▲
//!             ask (HTTP, TCP, gRPC) │ reports of TTL checks (bounded, with an answer)
//!                              ▼   │
//!                           services    PUT /v1/agent/check/… on Remora's HTTP server
//! ```
//!
//! Rhythm, thresholds, words and limits are Consul's own (`agent/checks/check.go` of its source). What differs: redirects are not
//! followed (a label could send the probe to another host), of an HTTP body the first 4 KiB are kept and not the last, `https` is
//! asked over HTTP/1.1, and a check that hangs may have to wait for its turn ([`board::SLOW_PROBES`]).
//!
//! # How to wire it
//!
//! ```no_run
//! # use std::{collections::BTreeMap, sync::Arc};
//! # use remora::{config::ConsulTls, consul::Registry, probe, telemetry::Metrics};
//! # use tokio::sync::{mpsc, watch};
//! # use tokio_util::sync::CancellationToken;
//! # async fn wire<R: Registry>(registry: Arc<R>, tls: ConsulTls, metrics: Arc<Metrics>, shutdown: CancellationToken) {
//! let (wants, wanted) = watch::channel(probe::Wants::default());
//! let (findings, found) = mpsc::channel(probe::FINDINGS);
//! let (reports, reported) = probe::reports();
//! let prober = probe::Prober::new(probe::Asker::new(tls), wanted.clone(), findings, Arc::clone(&metrics))
//!     .with_reports(reported);
//! let reporter = probe::Reporter::new(registry, wanted, found, metrics);
//! // Two tasks; the prober ends first. `Face::with_reports(reports.taker())` hangs the TTL endpoint into the HTTP server.
//! tokio::join!(prober.run(shutdown.clone()), reporter.run(shutdown));
//! # drop((wants, reports));
//! # }
//! ```
//!
//! What the caller keeps:
//!
//! * **Only checks that a service or a probe feeds.** The TTL checks that are Remora's own (`<id>:docker`, `<id>:healing`, `:agent`)
//!   never go in here: they would run out, and a service could report for them.
//! * **A check is wanted once it is registered**, and not any more before it is deregistered. A finding about a check that the
//!   catalog does not have is dropped; it is told again later, but ten seconds are ten seconds.
//! * **[`Wanted::status`] is what the catalog says**, as far as is known, and follows it: publish the set anew whenever a poll shows
//!   something else. That is how a row that was written anew gets its true status back.

pub mod ask;
pub mod board;
pub mod output;
pub mod prober;
pub mod reporter;
pub mod reports;
pub mod schedule;
pub mod telling;
pub mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;

use crate::consul::model::{Check, Status};

pub use ask::{Answer, Ask, Asker};
pub use prober::Prober;
pub use reporter::Reporter;
pub use reports::{Reports, reports};

/// Room in the channel from the prober to the reporter. The prober keeps what does not fit, once for each check.
pub const FINDINGS: usize = 64;

/// Whoever wants checks works out which ones so often at the most: it takes a look at everything that is registered.
pub const WANTED_EVERY: Duration = Duration::from_millis(250);

/// A check to be run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What to ask, how, how often, and when a result counts.
    pub check: Arc<Check>,
    /// The status that Consul is known to have: the initial one of a new check, then what the catalog says.
    pub status: Status,
}

/// Everything to be run here, by check id.
pub type Wants = Arc<BTreeMap<ArcStr, Wanted>>;

/// Something to write down about a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check's id.
    pub check: String,
    /// Its status now.
    pub status: Status,
    /// What is said about it, at most [`OUTPUT_LIMIT`](crate::consul::registry::OUTPUT_LIMIT) bytes.
    pub output: String,
}
