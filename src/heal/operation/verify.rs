//! Whether the new container is really better than the old one. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::Memory;
use crate::docker::EventTime;
use crate::docker::{Container, HealthStatus, State};
use crate::heal::cause::Cause;

/// What is known of the new container so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It may still turn out either way.
    Pending,
    /// It works.
    Good,
    /// It does not.
    Bad {
        /// In words.
        reason: String,
        /// It is still better than the old one was: it runs, and that one did not.
        better: bool,
    },
}

impl Proof {
    /// Why the new container was given up.
    #[must_use]
    pub fn failure(&self, memory: &Memory) -> String {
        match (self, &memory.start_error) {
            (_, Some(error)) => format!("it could not be started: {error}"),
            (Self::Bad { reason, .. }, None) => reason.clone(),
            (Self::Pending | Self::Good, None) => "it was being taken back".to_owned(),
        }
    }
}

/// What a proof takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// It has to have proved itself within so long after its start.
    pub within: Duration,
    /// And to stay well for so long.
    pub for_so_long: Duration,
}

/// How good a container is, worst first: what decides between two that both are not as they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Docker cannot start it.
    CannotStart,
    /// It ended, or Docker starts it over and over.
    Ended,
    /// It runs and its HEALTHCHECK fails.
    Unhealthy,
    /// It runs and has no verdict yet.
    Starting,
    /// It runs, and nobody checks it.
    Running,
    /// Its HEALTHCHECK passes.
    Healthy,
}

impl Rank {
    /// What a container that was replaced for this cause was before.
    #[must_use]
    pub const fn before(cause: &Cause) -> Self {
        match cause {
            Cause::StartFailed => Self::CannotStart,
            Cause::Died | Cause::CrashLoop => Self::Ended,
            Cause::Unhealthy | Cause::Orphaned => Self::Unhealthy,
            Cause::StuckStarting => Self::Starting,
            Cause::Critical => Self::Running,
            Cause::Asked => Self::Healthy,
        }
    }

    /// What a container is now.
    #[must_use]
    pub fn of(container: &Container) -> Self {
        match (&container.state, container.health.as_ref().map(|health| health.status)) {
            (State::Running, None | Some(HealthStatus::Unknown)) => Self::Running,
            (State::Running, Some(HealthStatus::Healthy)) => Self::Healthy,
            (State::Running, Some(HealthStatus::Starting)) => Self::Starting,
            (State::Running | State::Paused | State::Unknown(_), _) => Self::Unhealthy,
            (State::Created, _) => Self::CannotStart,
            (State::Restarting | State::Removing | State::Exited | State::Dead, _) => Self::Ended,
        }
    }
}

/// A verification under way.
#[derive(Debug, Clone, Default)]
pub struct Verification {
    /// Which run of the container it is about, and when that was first seen.
    run: Option<(Option<EventTime>, Instant)>,
    /// Since when everything has been as it should be.
    good_since: Option<Instant>,
}

impl Verification {
    /// Takes one more look into account. `consul`: whether its checks there are passing; `None`: not known, or not published.
    pub fn look(
        &mut self,
        new: &Container,
        demands: &Demands,
        cause: &Cause,
        consul: Option<bool>,
        now: Instant,
    ) -> Proof {
        let same = self.run.as_ref().filter(|(run, _)| *run == new.started_at).map(|(_, since)| *since);
        let since = match (same, self.run.is_some()) {
            (Some(since), _) => since,
            (None, first_seen_before) => {
                if first_seen_before {
                    // It was started again: what it had proved was about another run.
                    self.good_since = None;
                }
                let since = self.run.as_ref().map_or(now, |(_, since)| *since);
                self.run = Some((new.started_at, since));
                since
            }
        };
        let better = |rank| rank > Rank::before(cause);
        let rank = Rank::of(new);
        let bad = |reason: String| Proof::Bad { reason, better: better(rank) };
        match rank {
            Rank::CannotStart => return bad("it was not started".to_owned()),
            Rank::Ended if new.oom_killed => return bad("it ran out of memory".to_owned()),
            Rank::Ended => return bad(format!("it ended with exit code {}", new.exit_code)),
            Rank::Unhealthy => {
                let output = new.health.as_ref().map_or("", |health| health.output.trim());
                return bad(format!("it is unhealthy: {output}"));
            }
            Rank::Starting => self.good_since = None,
            Rank::Running | Rank::Healthy if consul == Some(false) => self.good_since = None,
            Rank::Running | Rank::Healthy => {
                let good_since = *self.good_since.get_or_insert(now);
                if good_since + demands.for_so_long <= now {
                    return Proof::Good;
                }
                // Well, and only the time is missing: that time is not the deadline's.
                return Proof::Pending;
            }
        }
        if since + demands.within <= now {
            return bad(match rank {
                Rank::Starting => format!("its HEALTHCHECK had no verdict within {:?}", demands.within),
                _ => format!("its checks in Consul were not passing within {:?}", demands.within),
            });
        }
        Proof::Pending
    }
}
