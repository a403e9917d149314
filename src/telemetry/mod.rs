//! What the agent tells about itself: metrics, logs, and the small HTTP server that shows them. May know the settings
//! of the log, and no other room: the loops report to here, nothing here asks them.
//!
//! * [`metrics`]: every series, behind typed methods; [`heal_metrics`]: those of the health-watcher; [`cluster_metrics`]:
//!   those of the cluster; [`probe_metrics`]: those of the probes. [`labels`]: the closed sets of label values.
//! * [`logs`]: set-up of logging. Every line has a stable field `event=`, so that machines need not read the message:
//!   `tracing::info!(event = "registered", service = %id, "registered web")`.
//! * [`face`]: what the HTTP server and the agent's own check in Consul read: two plain values that the two loops keep
//!   up to date.
//! * [`http`]: `/healthz`, `/readyz`, `/metrics`, `/status`. [`host`]: which `Host` headers it answers.
//!   [`reports`]: what services report about their TTL checks (catalog mode).

pub mod cluster_metrics;
pub mod face;
pub mod heal_metrics;
pub mod host;
pub mod http;
pub mod labels;
pub mod logs;
pub mod metrics;
pub mod probe_metrics;
pub mod reports;

pub use face::{ConsulView, DockerView, Face, Failing, Standing, StatusText, summary};
pub use heal_metrics::HealOperation;
pub use http::serve;
pub use labels::{
    ConsulCall, DockerCall, Drift, EventAction, HealAction, HealBrake, HealCause, HealOutcome, NodeState, Outcome,
    ProbeKind, ProbeOutcome, ResyncOutcome, WebhookOutcome, WriteOp,
};
pub use logs::{Chain, LogError, clean, init};
pub use metrics::Metrics;
pub use reports::{CheckReport, ReportRefusal, ReportTaker};
