//! From a cause to what is done about it: the brakes in their order, then the strategy. Pure.
//!
//! The first brake that stands against it is the one that is told. When in doubt nothing is done.

use tokio::time::Instant;

use super::brakes::{Brake, Node};
use super::cause::Cause;
use super::policy::{Policy, Strategy};
use super::record::{Hindrance, Record};
use crate::config;

/// What is done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A clone takes its place.
    Replace,
    /// `docker restart`.
    Restart,
    /// `docker start`, and a replacement if that does not help.
    Start,
    /// `docker stop`: its author wants it down rather than wrong.
    Stop,
}

impl Action {
    /// The word of logs, events and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }

    /// What has been done to the container then, in a sentence.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Self::Replace => "replaced",
            Self::Restart => "restarted",
            Self::Start => "started",
            Self::Stop => "stopped",
        }
    }
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This is done, now.
    Act(Action),
    /// Not now.
    Refuse(Brake),
    /// The attempts are used up.
    GiveUp(String),
    /// It is told, and that is all that is wanted.
    Notify,
}

/// Everything that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The place.
    pub name: &'a str,
    /// What is wrong.
    pub cause: &'a Cause,
    /// The container's policy.
    pub policy: &'a Policy,
    /// What was tried before.
    pub record: &'a Record,
    /// The node's brakes.
    pub node: &'a Node,
    /// The agent's settings.
    pub settings: &'a config::Heal,
    /// Nothing is done before then.
    pub holdoff: Instant,
    /// An operator paused healing, and why.
    pub paused: Option<&'a str>,
    /// Another operation is under way.
    pub busy: bool,
    /// Containers that are watched.
    pub watched: usize,
    /// Consul can be reached.
    pub consul: bool,
}

/// The decision.
#[must_use]
pub fn decide(case: &Case<'_>, now: Instant) -> Decision {
    let policy = case.policy;
    if *case.cause == Cause::Asked {
        // Somebody is looking: only what would make two operations at a time stands against it.
        return if case.busy { Decision::Refuse(Brake::Busy) } else { Decision::Act(Action::Replace) };
    }
    if policy.strategy == Strategy::Notify {
        return Decision::Notify;
    }
    if let Some(why) = case.paused {
        return Decision::Refuse(Brake::Paused(why.to_owned()));
    }
    if case.holdoff > now {
        return Decision::Refuse(Brake::Holdoff(case.holdoff));
    }
    match case.record.hindrance(policy, now) {
        None => {}
        Some(Hindrance::Backoff(at)) => return Decision::Refuse(Brake::Backoff(at)),
        Some(Hindrance::Quarantine(quarantine)) => return Decision::Refuse(Brake::Quarantine(quarantine.until)),
        Some(Hindrance::Exhausted { attempts }) => {
            let window = humantime::format_duration(policy.window);
            return Decision::GiveUp(match attempts {
                1 => "the attempt after the quarantine did not last".to_owned(),
                _ => format!("{attempts} attempts within {window}, and it has failed again"),
            });
        }
    }
    if case.busy {
        return Decision::Refuse(Brake::Busy);
    }
    let local = !case.consul;
    if local && case.settings.without_consul == config::WithoutConsul::None {
        return Decision::Refuse(Brake::WithoutConsul);
    }
    // What its parent's operation has to bring with it is a part of that one.
    if *case.cause != Cause::Orphaned {
        if let Some(brake) = case.node.exhausted(&case.settings.budget, local, now) {
            return Decision::Refuse(brake);
        }
        if let Some(brake) = case.node.correlated(case.name, &case.settings.correlation, case.watched) {
            return Decision::Refuse(brake);
        }
    }
    Decision::Act(action(case))
}

fn action(case: &Case<'_>) -> Action {
    match (case.policy.strategy, case.cause) {
        (Strategy::Stop, _) => Action::Stop,
        (_, Cause::StartFailed) => Action::Start,
        (Strategy::Restart, _) => Action::Restart,
        (Strategy::Escalate, _) if !case.record.restarted => Action::Restart,
        _ => Action::Replace,
    }
}
