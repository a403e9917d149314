//! What is remembered of one logical container over its generations: attempts, back-off, quarantine. Pure.
//!
//! Budgets belong to the place (`web` on this node), not to a container's id: every replacement has a new one.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::cluster::State;
use super::cluster::state::{Quarantined, Stop};
use super::policy::Policy;
use crate::docker::ContainerId;

/// Healthy for so long without a break: what was before is forgotten (Kubernetes does the same).
const FORGIVEN: Duration = Duration::from_secs(600);

/// Well for so long in quarantine: it is not called given up any more. Shorter, and one that crashes every half minute would be
/// called so and not so in turn, which would be two writes each time.
const RECOVERED: Duration = Duration::from_secs(60);

/// The first quarantine; each further one is twice as long.
const QUARANTINE: Duration = Duration::from_secs(3600);

/// The longest quarantine.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Attempts that are remembered: more than any policy allows.
const KEPT: usize = 64;

/// Nothing more is done for this container until then, or until an operator releases it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// One more attempt is made then.
    pub until: Instant,
    /// How many quarantines in a row this is, from 1.
    pub level: u32,
    /// Why.
    pub reason: String,
}

/// See the module's header.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// When attempts began, oldest first.
    attempts: VecDeque<Instant>,
    /// Attempts in a row that did not bring a healthy container.
    failures: u32,
    /// Not before then.
    next_at: Option<Instant>,
    quarantine: Option<Quarantine>,
    /// Since when it has been well.
    well_since: Option<Instant>,
    /// `escalate`: a restart was tried already in this incident.
    pub restarted: bool,
    /// Which image it had: with another one everything begins anew.
    image: String,
    /// Which container had the place last.
    container: Option<ContainerId>,
    /// An operator stopped this container.
    stopped: Option<ContainerId>,
    /// Since when it has been sick, also before this run: who failed together with whom is known after a restart, too.
    sick_since: Option<Instant>,
}

/// Why nothing is done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// Too early after the last attempt.
    Backoff(Instant),
    /// In quarantine until then.
    Quarantine(Quarantine),
    /// The budget is used up: quarantine begins.
    Exhausted {
        /// Attempts within the window.
        attempts: usize,
    },
}

impl Record {
    /// A place of which nothing is remembered but since when it has been well.
    #[must_use]
    pub fn new(well_since: Option<Instant>) -> Self {
        Self { well_since, ..Self::default() }
    }

    /// Since when it has been well without a break.
    #[must_use]
    pub const fn well_since(&self) -> Option<Instant> {
        self.well_since
    }

    /// Whether nothing is remembered but since when it has been well. Most places are so for ever, and need no record; which image
    /// and which container they had matters only where there is something to forget.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.attempts.is_empty()
            && self.failures == 0
            && self.next_at.is_none()
            && self.quarantine.is_none()
            && !self.restarted
            && self.stopped.is_none()
            && self.sick_since.is_none()
    }

    /// It was seen in this place: well or not.
    pub fn seen(&mut self, container: &ContainerId, image: &str, well: bool, now: Instant) {
        if self.image != image {
            // Somebody deployed something else: its author deserves a fresh start.
            let first = self.image.is_empty();
            image.clone_into(&mut self.image);
            if !first {
                self.forget();
            }
        }
        self.container = Some(container.clone());
        if !well {
            self.well_since = None;
        } else if self.well_since.get_or_insert(now).checked_add(FORGIVEN).is_some_and(|at| at <= now) {
            self.forget();
        }
    }

    /// When [`Record::seen`] would forgive it, if it stays well.
    #[must_use]
    pub fn forgiven_at(&self) -> Option<Instant> {
        let something = !self.attempts.is_empty() || self.quarantine.is_some();
        self.well_since.filter(|_| something).map(|since| since + FORGIVEN)
    }

    /// Whether anything stands against another attempt.
    #[must_use]
    pub fn hindrance(&self, policy: &Policy, now: Instant) -> Option<Hindrance> {
        if let Some(quarantine) = self.quarantine.as_ref().filter(|quarantine| quarantine.until > now) {
            return Some(Hindrance::Quarantine(quarantine.clone()));
        }
        if let Some(at) = self.next_at.filter(|at| *at > now) {
            return Some(Hindrance::Backoff(at));
        }
        let attempts = match &self.quarantine {
            None => self.attempts_within(policy.window, now),
            // After a quarantine one attempt is free: it is the way out, or the way into the next one.
            Some(quarantine) => {
                let since = self.attempts.iter().filter(|at| **at >= quarantine.until).count();
                return (since > 0).then_some(Hindrance::Exhausted { attempts: since });
            }
        };
        (attempts >= policy.max_attempts).then_some(Hindrance::Exhausted { attempts })
    }

    /// An attempt begins. `chance` is for the jitter, from 0 to 1.
    pub fn begin(&mut self, policy: &Policy, now: Instant, chance: f64) {
        self.attempts.push_back(now);
        if self.attempts.len() > KEPT {
            self.attempts.pop_front();
        }
        let (base, cap) = policy.backoff;
        let doubled = base.saturating_mul(1 << self.failures.min(20)).min(cap);
        // Up to a quarter more, so that what failed together does not come back together.
        self.next_at = Some(now + doubled + doubled.mul_f64(0.25 * chance.clamp(0.0, 1.0)));
        self.failures = self.failures.saturating_add(1);
        self.well_since = None;
    }

    /// The last attempt did nothing, and the next one would not at once either.
    pub fn postpone(&mut self, until: Instant) {
        self.next_at = self.next_at.max(Some(until));
    }

    /// The attempt brought a container that works.
    pub fn succeeded(&mut self) {
        self.restarted = false;
    }

    /// Nothing more is done for a while.
    pub fn quarantine(&mut self, reason: String, now: Instant) -> Quarantine {
        let level = self.quarantine.as_ref().map_or(1, |before| before.level.saturating_add(1));
        let span = QUARANTINE.saturating_mul(1 << (level - 1).min(10)).min(LONGEST);
        let quarantine = Quarantine { until: now + span, level, reason };
        self.quarantine = Some(quarantine.clone());
        quarantine
    }

    /// The quarantine, while it lasts.
    #[must_use]
    pub fn quarantined(&self, now: Instant) -> Option<&Quarantine> {
        self.quarantine.as_ref().filter(|quarantine| quarantine.until > now)
    }

    /// Why it has been given up, unless it has become well by itself and stayed so.
    #[must_use]
    pub fn given_up(&self, now: Instant) -> Option<&str> {
        let quarantine = self.quarantined(now)?;
        let recovered = self.recovered_at().is_some_and(|at| at <= now);
        (!recovered).then_some(quarantine.reason.as_str())
    }

    /// When it is not called given up any more, if it stays well.
    #[must_use]
    pub fn recovered_at(&self) -> Option<Instant> {
        self.well_since.filter(|_| self.quarantine.is_some()).map(|since| since + RECOVERED)
    }

    /// An operator, another image, or ten good minutes: everything begins anew.
    pub fn forget(&mut self) {
        self.attempts.clear();
        self.failures = 0;
        self.next_at = None;
        self.quarantine = None;
        self.restarted = false;
    }

    /// It is sick since then (`None`: it is well again). Whether that is news.
    pub fn sick(&mut self, since: Option<Instant>) -> bool {
        let before = self.sick_since;
        self.sick_since = since.map(|since| before.map_or(since, |before| before.min(since)));
        before.is_some() != self.sick_since.is_some()
    }

    /// Since when it has been sick.
    #[must_use]
    pub const fn sick_since(&self) -> Option<Instant> {
        self.sick_since
    }

    /// Attempts within the window.
    #[must_use]
    pub fn attempts_within(&self, window: Duration, now: Instant) -> usize {
        self.attempts.iter().filter(|at| **at + window > now).count()
    }

    /// An operator stopped this container, or it runs again.
    pub fn stopped(&mut self, container: Option<&ContainerId>) -> bool {
        let changed = self.stopped.as_ref() != container;
        self.stopped = container.cloned();
        changed
    }

    /// Whether an operator stopped this container.
    #[must_use]
    pub fn is_stopped(&self, container: &ContainerId) -> bool {
        self.stopped.as_ref() == Some(container)
    }

    /// What is kept over a restart of the agent: points in time, because the next one has another clock.
    #[must_use]
    pub fn state(&self, now: Instant, wall: SystemTime) -> State {
        let at = |at: Instant| match at.checked_duration_since(now) {
            Some(ahead) => wall.checked_add(ahead).unwrap_or(wall),
            None => wall.checked_sub(now.saturating_duration_since(at)).unwrap_or(wall),
        };
        State {
            container: self.container.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
            image: self.image.clone(),
            attempts: self.attempts.iter().map(|attempt| at(*attempt)).collect(),
            failures: self.failures,
            restarted: self.restarted,
            quarantine: self.quarantine.as_ref().map(|quarantine| Quarantined {
                until: at(quarantine.until),
                level: quarantine.level,
                reason: quarantine.reason.clone(),
            }),
            sick: self.sick_since.map(at),
            stop: self.stopped.as_ref().map(|id| Stop { container: id.as_str().to_owned(), at: wall }),
        }
    }

    /// The record of which an earlier run wrote this.
    #[must_use]
    pub fn from_state(state: &State, now: Instant, wall: SystemTime) -> Self {
        // A monotonic clock may be younger than an attempt is old: such a one counts for no window any more.
        let ago = |at: &SystemTime| now.checked_sub(wall.duration_since(*at).unwrap_or_default());
        let quarantine = state.quarantine.as_ref().map(|quarantine| Quarantine {
            // Somebody else's text: never longer than we would have made it.
            until: now + quarantine.until.duration_since(wall).unwrap_or_default().min(LONGEST),
            level: quarantine.level.max(1),
            reason: quarantine.reason.clone(),
        });
        Self {
            attempts: state.attempts.iter().filter_map(ago).collect(),
            failures: state.failures,
            restarted: state.restarted,
            image: state.image.clone(),
            quarantine,
            stopped: state.stop.as_ref().map(|stop| ContainerId::new(stop.container.clone())),
            sick_since: state.sick.as_ref().map(|at| ago(at).unwrap_or(now)),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quarantine_has_one_attempt_behind_it_and_is_twice_as_long() {
        let document = include_bytes!("../docker/testdata/inspect.json");
        let container = crate::docker::inspect::read(document, &crate::docker::Lens::default()).unwrap();
        let policy = crate::heal::policy::policy(&container, &crate::config::Heal::default(), true).0;
        let (mut record, mut now) = (Record::default(), Instant::now());
        for level in 1..=3 {
            let quarantine = record.quarantine("why".to_owned(), now);
            assert_eq!(quarantine.level, level);
            assert_eq!(quarantine.until - now, QUARANTINE * (1 << (level - 1)));
            now = quarantine.until;
            assert_eq!(record.hindrance(&policy, now), None, "the way out");
            record.begin(&policy, now, 0.0);
            now += Duration::from_secs(600);
            assert_eq!(record.hindrance(&policy, now), Some(Hindrance::Exhausted { attempts: 1 }));
        }
    }

    #[test]
    fn since_when_it_is_sick_is_known_after_a_restart() {
        let (mut record, start, wall) = (Record::default(), Instant::now(), SystemTime::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(record.sick(Some(at(5))) && !record.sick(Some(at(9))));
        assert_eq!(record.sick_since(), Some(at(5)), "the first one counts");
        let state = record.state(at(10), wall);
        assert!(!state.is_empty());
        let mut record = Record::from_state(&State::decode(&state.encode()).unwrap(), at(10), wall);
        assert!(record.sick_since().unwrap() <= at(6));
        assert!(record.sick(None) && !record.sick(None));
        assert!(record.state(at(20), wall).is_empty());
    }

    #[test]
    fn whoever_recovers_by_itself_is_not_called_given_up_for_longer_than_a_minute() {
        let (mut record, start) = (Record::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let id = ContainerId::new("a");
        record.quarantine("six attempts".to_owned(), start);
        assert_eq!((record.given_up(at(1)), record.recovered_at()), (Some("six attempts"), None));
        record.seen(&id, "i", true, at(10));
        assert_eq!((record.given_up(at(69)), record.recovered_at()), (Some("six attempts"), Some(at(70))));
        assert_eq!(record.given_up(at(70)), None);
        assert!(record.quarantined(at(70)).is_some(), "the brake stays: it may be ill again soon");
        record.seen(&id, "i", false, at(80));
        assert_eq!(record.given_up(at(80)), Some("six attempts"), "ill again");
        record.seen(&id, "i", true, at(90));
        record.seen(&id, "i", true, at(690));
        assert!(record.quarantined(at(690)).is_none(), "ten good minutes");
        assert_eq!(record.given_up(at(3_700)), None);
    }
}
