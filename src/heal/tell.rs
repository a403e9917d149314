//! What is told of healing: one event per decision and per treatment, the same in the log, in Consul's KV, in the metrics and to a
//! webhook. The watcher never waits for any of them: events go through a bounded queue to the [`Teller`].

use serde::Serialize;

use super::treat::{Cure, Treated};

/// What kind of news it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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
    /// The `event=` field of the log.
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
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct News {
    /// What kind.
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
            text,
            steps: Vec::new(),
            took_ms: None,
            outage_ms: None,
            log: String::new(),
        }
    }

    /// A treatment that is over; `evidence`: what was wrong, in words.
    #[must_use]
    pub fn treatment(treated: &Treated, evidence: &str) -> Self {
        let done = match treated.action {
            super::decide::Action::Replace => "replaced",
            super::decide::Action::Restart => "restarted",
            super::decide::Action::Start => "started",
            super::decide::Action::Stop => "stopped",
        };
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
        let steps = treated.report.iter().flat_map(|report| &report.steps);
        Self {
            replaced_by: treated.new.as_ref().map(|id| id.short().to_owned()),
            action: treated.action.as_str().to_owned(),
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
        if self.kind.is_alert() {
            tracing::warn!(
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
            );
        } else {
            tracing::info!(
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
            );
        }
    }
}
