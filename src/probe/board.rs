//! Every check that is run here: whose turn it is, what became of it, and what is to be told. Pure: time and chance are arguments,
//! and it asks nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use tokio::time::Instant;

use super::ask::Answer;
use super::output::{NO_SCRIPTS, head, ttl_expired};
use super::schedule::{Number, Schedule, first_wait, interval};
use super::telling::Telling;
use super::verdict::Verdict;
use super::{Finding, Wanted};
use crate::consul::model::{Check, CheckKind, Status};

/// Probes at once.
pub const PROBES: usize = 64;

/// Of these, probes of checks whose last probe ran into its time-out: a hundred services that hang must not keep the others from
/// being asked.
pub const SLOW_PROBES: usize = 48;

/// Why a report is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No check of this id is run here.
    Unknown,
    /// It is not fed by its service.
    NotTtl,
}

/// Another status of a check, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The check.
    pub check: Arc<Check>,
    /// Before.
    pub from: Status,
    /// Now.
    pub to: Status,
}

/// Where a check waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// To be probed.
    Quick(Instant),
    /// To be probed; the last time it ran into its time-out.
    Slow(Instant),
    /// Nothing is asked when it is its turn: a TTL runs out, a script is still not run.
    Unasked(Instant),
    /// It is being probed.
    Running { slow: bool },
}

#[derive(Debug)]
struct Slot {
    check: Arc<Check>,
    /// What Consul is known to have.
    known: Status,
    verdict: Verdict,
    telling: Telling,
    place: Place,
    /// What the last report said; of TTL checks only.
    last: String,
}

/// The checks, by number. A check that is begun anew has another number, so that what comes back of an earlier probe concerns nobody.
#[derive(Debug, Default)]
pub struct Board {
    slots: BTreeMap<Number, Slot>,
    numbers: BTreeMap<ArcStr, Number>,
    next: Number,
    quick: Schedule,
    slow: Schedule,
    unasked: Schedule,
    running: usize,
    running_slow: usize,
    /// At most one for each check.
    findings: BTreeMap<String, Finding>,
}

impl Board {
    /// Takes what is wanted now. A check that is new begins; one whose definition changed begins anew with the status that it has;
    /// one that is gone is forgotten, with what was still to be told of it. Returns the probes under way that concern nobody any
    /// more. `chance` yields numbers from 0 (inclusive) to 1 (exclusive).
    pub fn want(
        &mut self,
        wanted: &BTreeMap<ArcStr, Wanted>,
        now: Instant,
        mut chance: impl FnMut() -> f64,
    ) -> Vec<Number> {
        let gone: Vec<ArcStr> = self.numbers.keys().filter(|id| !wanted.contains_key(*id)).cloned().collect();
        let mut over = Vec::new();
        for id in gone {
            self.findings.remove(id.as_str());
            over.extend(self.forget(&id).filter(under_way).map(|(number, _)| number));
        }
        for (id, Wanted { check, status }) in wanted {
            if let Some(slot) = self.numbers.get(id).and_then(|number| self.slots.get_mut(number)) {
                slot.known = *status;
                if same(&slot.check, check) {
                    slot.check = Arc::clone(check);
                    continue;
                }
            }
            let before = self.forget(id);
            let telling = before.as_ref().map_or_else(|| Telling::beginning(*status, now), |(_, slot)| slot.telling);
            over.extend(before.filter(under_way).map(|(number, _)| number));
            self.begin(id, check, *status, telling, now, &mut chance);
        }
        over
    }

    fn begin(
        &mut self,
        _id: &str,
        check: &Arc<Check>,
        known: Status,
        telling: Telling,
        now: Instant,
        chance: &mut impl FnMut() -> f64,
    ) {
        let number = self.next;
        self.next += 1;
        let place = match &*check.kind {
            CheckKind::Ttl { ttl } => Place::Unasked(now + *ttl),
            CheckKind::Script { .. } => Place::Unasked(now),
            CheckKind::Http { probe, .. } | CheckKind::Tcp { probe, .. } | CheckKind::Grpc { probe, .. } => {
                Place::Quick(now + first_wait(interval(probe), chance()))
            }
        };
        let slot =
            Slot { check: Arc::clone(check), known, verdict: Verdict::of(check), telling, place, last: String::new() };
        self.enter(number, place);
        self.slots.insert(number, slot);
        self.numbers.insert(check.id.clone(), number);
    }

    fn forget(&mut self, id: &str) -> Option<(Number, Slot)> {
        let number = self.numbers.remove(id)?;
        let slot = self.slots.remove(&number)?;
        self.leave(number, slot.place);
        Some((number, slot))
    }

    fn enter(&mut self, number: Number, place: Place) {
        match place {
            Place::Quick(at) => self.quick.add(at, number),
            Place::Slow(at) => self.slow.add(at, number),
            Place::Unasked(at) => self.unasked.add(at, number),
            Place::Running { slow } => {
                self.running += 1;
                self.running_slow += usize::from(slow);
            }
        }
    }

    fn leave(&mut self, number: Number, place: Place) {
        match place {
            Place::Quick(at) => self.quick.remove(at, number),
            Place::Slow(at) => self.slow.remove(at, number),
            Place::Unasked(at) => self.unasked.remove(at, number),
            Place::Running { slow } => {
                self.running -= 1;
                self.running_slow -= usize::from(slow);
            }
        }
    }

    /// The next check to be probed now, if there is one, and room for it.
    pub fn turn(&mut self, now: Instant) -> Option<(Number, Arc<Check>)> {
        if self.running >= PROBES {
            return None;
        }
        let slow_first = self.slow_turn().is_some_and(|at| self.quick.next().is_none_or(|quick| at < quick));
        let late = if slow_first { self.slow.due(now) } else { None };
        let number = match late {
            Some(number) => number,
            None => self.quick.due(now)?,
        };
        let place = Place::Running { slow: late.is_some() };
        self.enter(number, place);
        let slot = self.slots.get_mut(&number)?;
        slot.place = place;
        Some((number, Arc::clone(&slot.check)))
    }

    fn slow_turn(&self) -> Option<Instant> {
        if self.running_slow < SLOW_PROBES { self.slow.next() } else { None }
    }

    /// When something is next to be done: [`Board::turn`] or [`Board::run_out`]. `None`: not before something happens.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let asked = if self.running < PROBES { [self.quick.next(), self.slow_turn()] } else { [None, None] };
        asked.into_iter().chain([self.unasked.next()]).flatten().min()
    }

    /// Takes the next TTL that has run out by now, if there is one, or script check. `true` with what changed: a TTL has run out
    /// just now.
    pub fn run_out(&mut self, now: Instant) -> Option<(bool, Option<Changed>)> {
        let number = self.unasked.due(now)?;
        let slot = self.slots.get_mut(&number)?;
        let (output, again) = match &*slot.check.kind {
            CheckKind::Ttl { ttl } => (ttl_expired(&slot.last), *ttl),
            CheckKind::Script { probe, .. } => (NO_SCRIPTS.to_owned(), interval(probe)),
            _ => return None,
        };
        let expired = matches!(*slot.check.kind, CheckKind::Ttl { .. }) && slot.telling.status() != Status::Critical;
        // Not for another result, but to see whether Consul still has this one.
        let place = Place::Unasked(now + again.max(Duration::from_secs(1)));
        slot.place = place;
        self.enter(number, place);
        Some((expired, self.settle(number, Status::Critical, output, now)))
    }

    /// Takes the answer to a probe.
    pub fn answered(&mut self, number: Number, answer: Answer, now: Instant) -> Option<Changed> {
        let slot = self.slots.get_mut(&number)?;
        let (CheckKind::Http { probe, .. } | CheckKind::Tcp { probe, .. } | CheckKind::Grpc { probe, .. }) =
            &*slot.check.kind
        else {
            return None;
        };
        let at = now + interval(probe);
        let place = if answer.timed_out { Place::Slow(at) } else { Place::Quick(at) };
        let before = std::mem::replace(&mut slot.place, place);
        let counts = slot.verdict.counts(answer.status);
        self.leave(number, before);
        self.enter(number, place);
        if counts { self.settle(number, answer.status, answer.output, now) } else { None }
    }

    /// Takes a service's report about itself. It counts at once, without thresholds, as in Consul; the TTL begins anew.
    ///
    /// # Errors
    /// The check is not one that a service feeds.
    pub fn reported(
        &mut self,
        id: &str,
        status: Status,
        output: String,
        now: Instant,
    ) -> Result<Option<Changed>, Refused> {
        let number = *self.numbers.get(id).ok_or(Refused::Unknown)?;
        let slot = self.slots.get_mut(&number).ok_or(Refused::Unknown)?;
        let CheckKind::Ttl { ttl } = *slot.check.kind else { return Err(Refused::NotTtl) };
        let output = head(output);
        slot.last.clone_from(&output);
        let place = Place::Unasked(now + ttl);
        let before = std::mem::replace(&mut slot.place, place);
        self.leave(number, before);
        self.enter(number, place);
        Ok(self.settle(number, status, output, now))
    }

    /// This is the check's status now.
    fn settle(&mut self, number: Number, status: Status, output: String, now: Instant) -> Option<Changed> {
        let slot = self.slots.get_mut(&number)?;
        let from = slot.telling.status();
        if slot.telling.tells(status, &output, slot.known, now) {
            let id = slot.check.id.to_string();
            self.findings.insert(id.clone(), Finding { check: id, status, output });
        }
        (from != status).then(|| Changed { check: Arc::clone(&slot.check), from, to: status })
    }

    /// Whether something is to be told.
    #[must_use]
    pub fn has_finding(&self) -> bool {
        !self.findings.is_empty()
    }

    /// The next thing to tell.
    pub fn finding(&mut self) -> Option<Finding> {
        self.findings.pop_first().map(|(_, finding)| finding)
    }

    /// How many checks are run here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

fn under_way((_, slot): &(Number, Slot)) -> bool {
    matches!(slot.place, Place::Running { .. })
}

/// Whether the two are asked, and judged, in the same way: another title or note is no reason to begin anew.
fn same(one: &Arc<Check>, other: &Arc<Check>) -> bool {
    Arc::ptr_eq(one, other)
        || (one.kind == other.kind
            && one.success_before_passing == other.success_before_passing
            && one.failures_before_critical == other.failures_before_critical)
}

#[cfg(test)]
#[path = "board_tests.rs"]
pub(super) mod tests;
