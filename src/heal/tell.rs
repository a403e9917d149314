//! What is told of healing: one event per decision and per treatment, the same in the log, in Consul's KV, in the metrics and to a
//! webhook. The watcher never waits for any of them: events go through a bounded queue ([`Telling`]) to the
//! [`Teller`](super::teller::Teller).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::brakes::Brake;
use super::cause::Cause;
use super::decide::Action;
use super::treat::{Cure, Treated};
use crate::registration::values::head;
use crate::telemetry::{HealAction, HealBrake, HealCause, HealOperation, HealOutcome, Metrics, clean};

/// News that waits for the teller. It only moves them on to where they wait for their peers: this is never full for long.
const QUEUE: usize = 64;

/// News that `remora status` shows.
const SHOWN: usize = 20;

/// Bytes of the text of each of these.
const SHOWN_TEXT: usize = 300;

/// What kind of news it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A container was healed.
    Healed,
    /// An attempt did not help.
    HealFailed,
    /// Nothing more is done for a while: somebody has to look.
    GaveUp,
    /// Something is wrong and nothing is done about it, with the reason.
    NotHealed,
    /// Many fail at once: the node is the suspect.
    NodeSuspect,
    /// With `REMORA_HEAL=observe`: what would have been done.
    WouldHeal,
    /// A treatment was not needed any more.
    Cancelled,
    /// An operator released a container, or healing was paused or goes on.
    Operator,
}

impl Kind {
    /// The `event=` field of the log, and `kind` in Consul's KV and the webhook.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::HealFailed => "heal_failed",
            Self::GaveUp => "heal_gave_up",
            Self::NotHealed => "not_healed",
            Self::NodeSuspect => "node_suspect",
            Self::WouldHeal => "would_heal",
            Self::Cancelled => "heal_cancelled",
            Self::Operator => "heal_operator",
        }
    }

    /// Whether somebody should be woken up for it.
    #[must_use]
    pub const fn is_alert(self) -> bool {
        matches!(self, Self::GaveUp | Self::NodeSuspect | Self::HealFailed)
    }

    /// Whether the webhook hears of it: alerts, and treatments that helped. The rest would make nobody do anything.
    #[must_use]
    pub const fn is_posted(self) -> bool {
        self.is_alert() || matches!(self, Self::Healed)
    }
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct News {
    /// What kind.
    #[serde(serialize_with = "as_word")]
    pub kind: Kind,
    /// When, RFC 3339.
    pub time: String,
    /// The node.
    pub node: String,
    /// The place: the container's plain name.
    pub name: String,
    /// The container's short id.
    pub container: String,
    /// The short id of the one that has its place now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// What was wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What was done: replace, restart, start, stop.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// How it ended: healed, no-better, hopeless, cancelled, interrupted.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub outcome: &'static str,
    /// In one sentence.
    pub text: String,
    /// The steps, with milliseconds since the beginning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<(String, u64)>,
    /// Milliseconds that it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Milliseconds in which nothing ran in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage_ms: Option<u64>,
    /// The last lines of the old container's log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// What the metrics count, if it was a treatment.
    #[serde(skip)]
    pub operation: Option<HealOperation>,
}

/// One word for one thing: in the log, the KV and the webhook.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn as_word<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

impl News {
    /// A decision about a container.
    #[must_use]
    pub fn decision(kind: Kind, name: &str, container: &str, cause: &str, text: String) -> Self {
        Self {
            kind,
            time: String::new(),
            node: String::new(),
            name: name.to_owned(),
            container: container.to_owned(),
            replaced_by: None,
            cause: cause.to_owned(),
            action: String::new(),
            outcome: "",
            text,
            steps: Vec::new(),
            took_ms: None,
            outage_ms: None,
            log: String::new(),
            operation: None,
        }
    }

    /// A treatment that is over; `evidence`: what was wrong, in words.
    #[must_use]
    pub fn treatment(treated: &Treated, evidence: &str) -> Self {
        let done = treated.action.done();
        let (cause, name) = (treated.cause.as_str(), &treated.name);
        let (kind, text) = match &treated.cure {
            Cure::Healed => (Kind::Healed, format!("{name} was {cause} ({evidence}): {done}")),
            Cure::NoBetter(why) => {
                (Kind::HealFailed, format!("{name} is {cause} ({evidence}) and was {done}, which did not help: {why}"))
            }
            Cure::Hopeless(why) => {
                (Kind::HealFailed, format!("{name} is {cause} ({evidence}) and cannot be {done}: {why}"))
            }
            Cure::Cancelled(why) => {
                (Kind::Cancelled, format!("{name} was {cause} ({evidence}); nothing is done: {why}"))
            }
            Cure::Interrupted(why) => {
                (Kind::Cancelled, format!("{name} was {cause} ({evidence}); interrupted, to be taken up again: {why}"))
            }
        };
        let text = if treated.how.is_empty() { text } else { format!("{text} ({})", treated.how.join("; ")) };
        let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let outcome = HealOutcome::from(&treated.cure);
        let operation = HealOperation {
            action: treated.action.into(),
            outcome,
            cause: (&treated.cause).into(),
            took: treated.took,
            outage: treated.report.as_ref().map(|report| report.outage),
        };
        let steps = treated.report.iter().flat_map(|report| &report.steps);
        Self {
            replaced_by: treated.new.as_ref().map(|id| id.short().to_owned()),
            action: treated.action.as_str().to_owned(),
            outcome: outcome.as_str(),
            operation: Some(operation),
            steps: steps.map(|(step, at)| ((*step).to_owned(), millis(*at))).collect(),
            took_ms: Some(millis(treated.took)),
            outage_ms: treated.report.as_ref().map(|report| millis(report.outage)),
            log: if kind == Kind::Cancelled { String::new() } else { treated.log.clone() },
            ..Self::decision(kind, name, treated.old.short(), cause, text)
        }
    }

    /// The line of the log.
    pub fn log_line(&self) {
        let (event, name, container, cause, action) =
            (self.kind.as_str(), &self.name, &self.container, &self.cause, &self.action);
        let replaced_by = self.replaced_by.as_deref().unwrap_or_default();
        // A level is a constant of the place where it is told.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    event,
                    name,
                    container,
                    cause,
                    action,
                    replaced_by,
                    took_ms = self.took_ms,
                    outage_ms = self.outage_ms,
                    "{}",
                    self.text
                )
            };
        }
        if self.kind.is_alert() {
            line!(warn);
        } else {
            line!(info);
        }
    }
}

/// A piece of news as `remora status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When, RFC 3339.
    pub time: String,
    /// The `event=` field of the log.
    pub event: String,
    /// In one sentence.
    pub text: String,
}

/// The watcher's end of everything that tells: nothing here waits, and nothing here fails.
#[derive(Debug, Clone)]
pub struct Telling {
    node: String,
    queue: mpsc::Sender<News>,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The newest, oldest first.
    last: Mutex<VecDeque<Told>>,
    /// The queue was full, and that was told.
    full: AtomicBool,
}

impl Telling {
    /// The handle, and what the [`Teller`](super::teller::Teller) reads.
    #[must_use]
    pub fn new(node: impl Into<String>, metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<News>) {
        let (queue, news) = mpsc::channel(QUEUE);
        (Self { node: node.into(), queue, metrics, shared: Arc::default() }, news)
    }

    /// Tells it: in the log and the metrics at once, elsewhere when there is time.
    pub fn tell(&self, mut news: News) {
        news.time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        news.node.clone_from(&self.node);
        news.log_line();
        if let Some(operation) = &news.operation {
            self.metrics.heal_operation(operation);
        }
        let told = Told {
            time: news.time.clone(),
            event: news.kind.as_str().to_owned(),
            text: head(&clean(&news.text), SHOWN_TEXT).to_owned(),
        };
        let mut last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= SHOWN {
            last.pop_front();
        }
        last.push_back(told);
        drop(last);
        match self.queue.try_send(news) {
            Ok(()) => self.shared.full.store(false, Ordering::Relaxed),
            Err(error) => {
                self.metrics.heal_news_dropped();
                let full = matches!(error, TrySendError::Full(_));
                if full && !self.shared.full.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        event = "news_dropped",
                        "more happens than can be told elsewhere: some of it is in this log only"
                    );
                }
            }
        }
    }

    /// The last twenty pieces of news, oldest first.
    #[must_use]
    pub fn last(&self) -> Vec<Told> {
        self.shared.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl From<Action> for HealAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Replace => Self::Replace,
            Action::Restart => Self::Restart,
            Action::Start => Self::Start,
            Action::Stop => Self::Stop,
        }
    }
}

impl From<&Cure> for HealOutcome {
    fn from(cure: &Cure) -> Self {
        match cure {
            Cure::Healed => Self::Healed,
            Cure::NoBetter(_) => Self::NoBetter,
            Cure::Hopeless(_) => Self::Hopeless,
            Cure::Cancelled(_) => Self::Cancelled,
            Cure::Interrupted(_) => Self::Interrupted,
        }
    }
}

impl From<&Cause> for HealCause {
    fn from(cause: &Cause) -> Self {
        match cause {
            Cause::Unhealthy => Self::Unhealthy,
            Cause::StuckStarting => Self::StuckStarting,
            Cause::Died => Self::Died,
            Cause::CrashLoop => Self::CrashLoop,
            Cause::StartFailed => Self::StartFailed,
            Cause::Critical => Self::Critical,
            Cause::Orphaned => Self::Orphaned,
            Cause::Asked => Self::Asked,
        }
    }
}

impl From<&Brake> for HealBrake {
    fn from(brake: &Brake) -> Self {
        match brake {
            Brake::Holdoff(_) => Self::Holdoff,
            Brake::Paused(_) => Self::Paused,
            Brake::Busy => Self::Busy,
            Brake::NodeBudget(_) => Self::NodeBudget,
            Brake::Correlated { .. } => Self::Correlated,
            Brake::Backoff(_) => Self::Backoff,
            Brake::Quarantine(_) => Self::Quarantine,
            Brake::Service(_) => Self::Service,
            Brake::Cluster(_) => Self::Cluster,
            Brake::WithoutConsul => Self::WithoutConsul,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_up(name: &str) -> News {
        News::decision(Kind::GaveUp, name, "0123456789ab", "died", format!("{name} is given up"))
    }

    #[test]
    fn words_are_the_same_everywhere() {
        for action in [Action::Replace, Action::Restart, Action::Start, Action::Stop] {
            assert_eq!(HealAction::from(action).as_str(), action.as_str());
        }
        for cause in HealCause::ALL {
            assert_eq!(HealCause::from(&Cause::parse(cause.as_str())), *cause);
        }
        for brake in [Brake::Busy, Brake::Correlated { sick: 1, of: 2 }, Brake::WithoutConsul] {
            assert_eq!(HealBrake::from(&brake).as_str(), brake.as_str());
        }
    }

    #[test]
    fn news_get_time_and_node_and_nobody_is_waited_for() {
        let metrics = Arc::new(Metrics::new());
        let (telling, mut queue) = Telling::new("n1", Arc::clone(&metrics));
        for number in 0..QUEUE + 3 {
            telling.tell(given_up(&format!("web{number}")));
        }
        let first = queue.try_recv().unwrap();
        assert_eq!(first.node, "n1");
        assert!(humantime::parse_rfc3339(&first.time).is_ok(), "{}", first.time);
        assert!(metrics.encode().contains("\nremora_heal_news_dropped_total 3\n"));
        let last = telling.last();
        assert_eq!((last.len(), last[SHOWN - 1].text.as_str()), (SHOWN, "web66 is given up"));
        assert_eq!(last[0].event, "heal_gave_up");
        drop(queue);
        telling.tell(given_up("web"));
        assert!(metrics.encode().contains("\nremora_heal_news_dropped_total 4\n"));
    }
}
