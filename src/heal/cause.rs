//! What is wrong with a container: a pure function of a look at it, its history, its policy and the time.
//!
//! Docker's own restart policy goes first: what it is about to start again is left to it. What nobody can tell from an
//! operator's wish is left alone and told.

use std::fmt;
use std::time::Duration;

use arcstr::{ArcStr, literal};
use tokio::time::Instant;

use super::history::{End, History, Standing};
use super::policy::{Policy, Trigger};
use crate::docker::{Container, RestartName, State};

/// So many restarts by Docker within [`LOOP_WINDOW`] are a loop.
const LOOP_RESTARTS: u64 = 5;

/// Docker's delays double from 100 ms to a minute: five restarts come in the first seven seconds, and after two minutes it
/// waits for its longest.
const LOOP_WINDOW: Duration = Duration::from_secs(120);

/// `docker kill` may be half of a script's kill and start, or of `docker rm -f`.
const KILL_SETTLE: Duration = Duration::from_secs(10);

/// A start that failed is tried again after so long at the earliest: whoever started it reads the error first.
const START_SETTLE: Duration = Duration::from_secs(10);

/// Why a container has to be healed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its HEALTHCHECK fails.
    Unhealthy,
    /// Its HEALTHCHECK never came to a verdict.
    StuckStarting,
    /// It ended, and Docker will not start it again.
    Died,
    /// Docker starts it over and over.
    CrashLoop,
    /// Docker could not start it.
    StartFailed,
    /// A check of its service in Consul is critical.
    Critical,
    /// The container whose namespace it shares was replaced or restarted.
    Orphaned,
    /// An operator asked for it (`remora heal`).
    Asked,
}

impl Cause {
    /// All of them.
    const ALL: [Self; 8] = [
        Self::Unhealthy,
        Self::StuckStarting,
        Self::Died,
        Self::CrashLoop,
        Self::StartFailed,
        Self::Critical,
        Self::Orphaned,
        Self::Asked,
    ];

    /// Which of the policy's reasons it is; `None` for those that no policy can leave out.
    #[must_use]
    pub const fn trigger(&self) -> Option<Trigger> {
        match self {
            Self::Unhealthy => Some(Trigger::Unhealthy),
            Self::StuckStarting => Some(Trigger::StuckStarting),
            Self::Died => Some(Trigger::Died),
            Self::CrashLoop => Some(Trigger::CrashLoop),
            Self::StartFailed => Some(Trigger::StartFailed),
            Self::Critical => Some(Trigger::Critical),
            Self::Orphaned | Self::Asked => None,
        }
    }

    /// The word of labels, events and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match (self, self.trigger()) {
            (_, Some(trigger)) => trigger.as_str(),
            (Self::Asked, None) => "asked",
            (_, None) => "orphaned",
        }
    }

    /// Reads the word of a label; what is not known was at least no failed start.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word).unwrap_or(Self::Unhealthy)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a look comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diagnosis {
    /// Nothing is wrong.
    Well,
    /// Something is wrong, but not for long enough; to be looked at again then.
    Watch {
        /// When.
        until: Instant,
        /// What for.
        why: ArcStr,
    },
    /// It has to be healed.
    Sick {
        /// Why.
        cause: Cause,
        /// In words: exit code, last probe.
        evidence: ArcStr,
        /// Since when it is so.
        since: Instant,
    },
    /// It is not as it should be, and that is not ours to mend.
    Leave {
        /// Why.
        why: ArcStr,
        /// Worth telling the operator: nobody knows whether it should run.
        tell: bool,
    },
}

/// What of Consul speaks against a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriticalCheck {
    /// Since when.
    pub since: Instant,
    /// Its name and output.
    pub words: String,
}

/// What the diagnosis needs besides the container itself.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Its history.
    pub history: &'a History,
    /// Its policy.
    pub policy: &'a Policy,
    /// When the event stream was last lost.
    pub stream_lost: Option<Instant>,
    /// A check in Consul that is critical and counts.
    pub critical: Option<&'a CriticalCheck>,
    /// What is wrong with the container whose namespace it shares.
    pub orphaned: Option<&'a str>,
    /// It replaces nothing and stands for a name that ran before.
    pub known: bool,
    /// An earlier run of the agent saw that an operator stopped it.
    pub stopped: bool,
}

/// The diagnosis.
#[must_use]
pub fn diagnose(container: &Container, context: &Context<'_>, now: Instant) -> Diagnosis {
    let &Context { history, policy, .. } = context;
    match Standing::of(container) {
        Standing::Aside => leave(match container.state {
            State::Paused => "paused",
            State::Removing => "being removed",
            _ => "Docker gives it a state that this version does not know",
        }),
        Standing::Restarting => in_loop(container, context, now).unwrap_or_else(|| {
            watch(history.since(Standing::Restarting), LOOP_WINDOW, now, "Docker is starting it again")
        }),
        Standing::Down => ended(container, context, now),
        running => {
            if let Some(until) = history.stopping_until(container).filter(|until| *until > now) {
                return Diagnosis::Watch { until, why: literal!("a stop signal was sent") };
            }
            if let Some(found) = in_loop(container, context, now) {
                return found;
            }
            if let Some(why) = context.orphaned {
                return sick(Cause::Orphaned, why.to_owned(), now);
            }
            match running {
                Standing::Unhealthy => unhealthy(container, context, now),
                Standing::Starting => starting(container, context, now),
                _ => critical(context, now).unwrap_or(Diagnosis::Well),
            }
        }
    }
    .only(policy)
}

impl Diagnosis {
    /// Why it has to be healed, if it has to.
    #[must_use]
    pub const fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Sick { cause, .. } => Some(cause),
            Self::Well | Self::Watch { .. } | Self::Leave { .. } => None,
        }
    }

    /// A cause that the policy does not act on is told and left.
    fn only(self, policy: &Policy) -> Self {
        match self {
            Self::Sick { cause, evidence, .. } if !policy.acts_on(&cause) => {
                Self::Leave { why: format!("{cause} ({evidence}) is not among its triggers").into(), tell: false }
            }
            other => other,
        }
    }
}

fn unhealthy(container: &Container, context: &Context<'_>, now: Instant) -> Diagnosis {
    let since = context.history.since(Standing::Unhealthy).unwrap_or(now);
    let after_grace = context.history.started().map_or(since, |started| started + context.policy.grace);
    let due = (since + context.policy.unhealthy_for).max(after_grace);
    if due > now {
        return Diagnosis::Watch { until: due, why: literal!("unhealthy") };
    }
    let health = container.health.as_ref();
    let evidence = health.map_or_else(String::new, |health| match health.exit_code {
        Some(-1) => {
            format!("{} failed probes in a row; the last one could not run or did not end", health.failing_streak)
        }
        Some(code) => format!(
            "{} failed probes in a row; the last one: exit {code}: {}",
            health.failing_streak,
            health.output.trim()
        ),
        None => format!("{} failed probes in a row", health.failing_streak),
    });
    Diagnosis::Sick { cause: Cause::Unhealthy, evidence: evidence.into(), since }
}

fn starting(_container: &Container, context: &Context<'_>, now: Instant) -> Diagnosis {
    let since = context.history.since(Standing::Starting).unwrap_or(now);
    let due = since + context.policy.start_deadline;
    if due > now {
        return Diagnosis::Watch { until: due, why: literal!("its HEALTHCHECK has no verdict yet") };
    }
    let evidence = format!("no verdict of its HEALTHCHECK within {:?}", context.policy.start_deadline);
    Diagnosis::Sick { cause: Cause::StuckStarting, evidence: evidence.into(), since }
}

fn in_loop(container: &Container, context: &Context<'_>, now: Instant) -> Option<Diagnosis> {
    let restarts = context.history.restarts_within(LOOP_WINDOW, now);
    let waits_since = context.history.since(Standing::Restarting);
    let long = waits_since.is_some_and(|since| since + LOOP_WINDOW <= now);
    (restarts >= LOOP_RESTARTS || long).then(|| {
        let evidence =
            format!("Docker started it {restarts} times within {LOOP_WINDOW:?}; exit code {}", container.exit_code);
        sick(Cause::CrashLoop, evidence, waits_since.unwrap_or(now))
    })
}

fn critical(context: &Context<'_>, now: Instant) -> Option<Diagnosis> {
    let check = context.critical.filter(|_| context.policy.acts_on(&Cause::Critical))?;
    let after_grace = context.history.started().map_or(check.since, |started| started + context.policy.grace);
    let due = (check.since + context.policy.critical_for).max(after_grace);
    Some(if due > now {
        Diagnosis::Watch { until: due, why: format!("critical in Consul: {}", check.words).into() }
    } else {
        Diagnosis::Sick { cause: Cause::Critical, evidence: check.words.as_str().into(), since: check.since }
    })
}

fn ended(container: &Container, context: &Context<'_>, now: Instant) -> Diagnosis {
    let &Context { history, policy, .. } = context;
    let down = history.since(Standing::Down);
    let failed_to_start = !container.life.error.is_empty();
    if container.state == State::Created {
        // Made and never started is an operator's business; unless it stands where something ran before.
        return if failed_to_start && context.known {
            start_failed(container, down, now)
        } else {
            leave("created, never started")
        };
    }
    if container.life.auto_remove {
        return leave("it ended, and Docker removes it (--rm)");
    }
    match history.end_before(container, context.stream_lost) {
        // A failed start leaves no event: what was heard last is the stop before it, the error is younger.
        _ if failed_to_start && container.state == State::Exited => start_failed(container, down, now),
        End::Stopped => leave("stopped by an operator"),
        End::WithDaemon => untold("it went down with the Docker daemon"),
        End::Unknown if context.stopped => leave("stopped by an operator"),
        End::Unknown if policy.heals_unknown => died(container, history, policy, policy.settle, now),
        End::Unknown => untold("it ended while nobody listened: whether it should run is not known"),
        End::Killed if policy.heals_killed => died(container, history, policy, KILL_SETTLE.max(policy.settle), now),
        End::Killed => leave("killed through Docker (remora.heal.on-kill=respect)"),
        End::Itself => died(container, history, policy, policy.settle, now),
    }
}

fn died(container: &Container, history: &History, policy: &Policy, settle: Duration, now: Instant) -> Diagnosis {
    let by_itself = container.exit_code == 0 && !container.oom_killed;
    if by_itself && !policy.heals_exit_zero {
        return leave("it ended by itself with exit code 0");
    }
    // `always` and `unless-stopped` are Docker's as long as it says `restarting`; exited with one of them means that a signal
    // has cancelled the policy for this run.
    let cancelled = matches!(container.life.restart_policy.name, RestartName::Always | RestartName::UnlessStopped);
    let since = history.ended().or_else(|| history.since(Standing::Down)).unwrap_or(now);
    let due = since + settle;
    if due > now {
        return Diagnosis::Watch { until: due, why: format!("exited {}", container.exit_code).into() };
    }
    let mut evidence = format!("exit code {}", container.exit_code);
    if container.oom_killed {
        evidence.push_str(", out of memory");
    }
    if cancelled {
        evidence.push_str(", and Docker does not start it again: a signal cancelled its restart policy");
    }
    Diagnosis::Sick { cause: Cause::Died, evidence: evidence.into(), since }
}

fn start_failed(container: &Container, down: Option<Instant>, now: Instant) -> Diagnosis {
    let since = down.unwrap_or(now);
    if since + START_SETTLE > now {
        return Diagnosis::Watch { until: since + START_SETTLE, why: literal!("Docker could not start it") };
    }
    Diagnosis::Sick { cause: Cause::StartFailed, evidence: container.life.error.clone(), since }
}

fn sick(cause: Cause, evidence: String, since: Instant) -> Diagnosis {
    Diagnosis::Sick { cause, evidence: evidence.into(), since }
}

fn leave(why: &str) -> Diagnosis {
    Diagnosis::Leave { why: why.into(), tell: false }
}

fn untold(why: &str) -> Diagnosis {
    Diagnosis::Leave { why: why.into(), tell: true }
}

fn watch(since: Option<Instant>, span: Duration, now: Instant, why: &str) -> Diagnosis {
    Diagnosis::Watch { until: since.unwrap_or(now) + span, why: why.into() }
}
