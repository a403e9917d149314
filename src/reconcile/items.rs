//! Which registrations have to be looked at, which are being written, which wait after a failure. Pure.
//!
//! One entry and at most one write per registration at a time; a failure of one never holds up another.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use arcstr::ArcStr;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::consul::Class;

/// Rights change from outside, and rarely: 403 is asked again at this pace.
const DENIED_AGAIN: Duration = Duration::from_secs(30);

/// What Consul will never accept is only sent again in case Consul itself was changed (script checks enabled, upgraded).
const REJECTED_AGAIN: Duration = Duration::from_secs(300);

/// Repairs in a row that are made at once: an operator who tries something out.
const CONTEST: u32 = 5;

/// What nobody changed for so long is at peace.
const PEACE: Duration = Duration::from_secs(600);

/// What Consul removed because its check was critical for too long is given another chance after about so long, then more
/// and more rarely, to once in an hour: the instance may have come back to life without Docker knowing, and each chance
/// costs two Raft writes.
const REAPED_AGAIN: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Item {
    queued: bool,
    running: bool,
    /// Not to be looked at before then.
    not_before: Option<Instant>,
    /// Its place in the timers; then it is not in the queue.
    timer: Option<Instant>,
    backoff: Backoff,
    vanished: Backoff,
    /// Somebody keeps changing it: repairs, and when the last one was.
    contest: Backoff,
    contested_at: Option<Instant>,
    /// Consul removed it, as its definition asks (`deregister_after`).
    reaped: Backoff,
    /// What it should be changed while a write was under way.
    renewed: bool,
    failure: Option<String>,
    heard: Option<Instant>,
}

impl Default for Item {
    fn default() -> Self {
        Self {
            queued: false,
            running: false,
            not_before: None,
            timer: None,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            // 1 s: what somebody deregistered right after we registered it comes back within the promised 5 s. 5 min: what
            // never shows up is hidden from us by an ACL, and each attempt costs a Raft write.
            vanished: Backoff::new(Duration::from_secs(1), Duration::from_secs(300)),
            contest: Backoff::new(Duration::from_secs(1), Duration::from_secs(300)),
            contested_at: None,
            reaped: Backoff::new(REAPED_AGAIN, REAPED_AGAIN * 12),
            renewed: false,
            failure: None,
            heard: None,
        }
    }
}

/// See the module's header. Keys are the lower-case ids of registrations. A key that has something to wait for is in
/// exactly one place: in the queue, among the timers, or under way.
#[derive(Debug, Default)]
pub struct Items {
    by_key: HashMap<ArcStr, Item>,
    queue: VecDeque<ArcStr>,
    timers: BTreeSet<(Instant, ArcStr)>,
    running: usize,
    failing: BTreeSet<ArcStr>,
}

/// A failure as the operator should see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The registration.
    pub key: ArcStr,
    /// Why it is not as it should be.
    pub reason: String,
}

impl Items {
    /// This registration should be looked at. `heard` is when the event that led to it was heard.
    pub fn touch(&mut self, key: &ArcStr, heard: Option<Instant>) {
        let item = self.by_key.entry(key.clone()).or_default();
        item.heard = item.heard.or(heard);
        // After a write it is looked at anyway, and so it is when its waiting is over.
        if !item.running && item.timer.is_none() && !std::mem::replace(&mut item.queued, true) {
            self.queue.push_back(key.clone());
        }
    }

    /// What it should be has changed: a failure of before says nothing about it any more.
    pub fn renew(&mut self, key: &ArcStr, heard: Option<Instant>) {
        let item = self.by_key.entry(key.clone()).or_default();
        item.not_before = None;
        item.backoff.reset();
        item.reaped.reset();
        item.renewed = item.running;
        item.failure = None;
        self.failing.remove(key);
        if let Some(at) = item.timer.take() {
            self.timers.remove(&(at, key.clone()));
        }
        self.touch(key, heard);
    }

    /// Other credentials: what those of before were refused is tried at once.
    pub fn forgive(&mut self) {
        for key in self.failing.clone() {
            self.renew(&key, None);
        }
    }

    /// The next registration to look at.
    pub fn next(&mut self, now: Instant) -> Option<ArcStr> {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, key)) = self.timers.pop_first()
        {
            if let Some(item) = self.by_key.get_mut(&key) {
                item.timer = None;
            }
            self.touch(&key, None);
        }
        loop {
            let key = self.queue.pop_front()?;
            let Some(item) = self.by_key.get_mut(&key) else { continue };
            item.queued = false;
            item.timer = item.not_before.filter(|at| *at > now);
            let Some(at) = item.timer else {
                item.not_before = None;
                return Some(key);
            };
            self.timers.insert((at, key));
        }
    }

    /// When [`Items::next`] has something again that it has not now.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A write begins.
    pub fn start(&mut self, key: &ArcStr) {
        if let Some(item) = self.by_key.get_mut(key) {
            item.running = true;
            self.running += 1;
        }
    }

    /// Nothing is to be written: it is as it should be. Remembered is only who was fought over, and only as long as Consul has
    /// it (`in_consul`): there are as many registrations as containers, and mostly there is nothing to say about one.
    pub fn settled(&mut self, key: &ArcStr, in_consul: bool) {
        let Some(item) = self.by_key.get_mut(key) else { return };
        item.failure = None;
        self.failing.remove(key);
        item.backoff.reset();
        item.heard = None;
        let fought = [item.vanished, item.contest, item.reaped].iter().any(|it| it.attempts() > 0);
        let remembered = item.queued || (in_consul && fought);
        if !remembered {
            self.by_key.remove(key);
            // At a start there is something to say about each of them.
            if self.by_key.capacity() > 64 && self.by_key.len() < self.by_key.capacity() / 8 {
                self.by_key.shrink_to(self.by_key.len() * 2);
            }
        }
    }

    /// A write succeeded. Returns when the event that led to it was heard.
    pub fn succeeded(&mut self, key: &ArcStr) -> Option<Instant> {
        let item = self.ended(key)?;
        item.not_before = None;
        item.backoff.reset();
        item.failure = None;
        item.renewed = false;
        let heard = item.heard.take();
        self.failing.remove(key);
        // One write may lead to another (a registration, then its health).
        self.touch(key, None);
        heard
    }

    /// A write failed. Returns whether it is worth telling: a new reason, or the first of ten times the same.
    pub fn failed(&mut self, key: &ArcStr, class: Class, reason: &str, now: Instant, chance: f64) -> bool {
        let Some(item) = self.ended(key) else { return false };
        if std::mem::take(&mut item.renewed) {
            // It failed as what it should not be any more.
            self.touch(key, None);
            return false;
        }
        let wait = item.backoff.next(chance);
        let wait = match class {
            Class::Transient | Class::Gone => wait,
            Class::Denied => DENIED_AGAIN + wait,
            Class::Rejected => REJECTED_AGAIN + wait,
        };
        let new = item.failure.as_deref() != Some(reason);
        item.failure = Some(reason.to_owned());
        let tell_again = item.backoff.worth_telling();
        item.not_before = Some(now + wait);
        self.failing.insert(key.clone());
        self.touch(key, None);
        new || tell_again
    }

    /// The way to Consul is interrupted: the write may or may not have happened; it is no fault of this registration.
    pub fn interrupted(&mut self, key: &ArcStr) {
        if self.ended(key).is_some() {
            self.touch(key, None);
        }
    }

    /// Consul shows this registration.
    pub fn seen(&mut self, key: &ArcStr) {
        if let Some(item) = self.by_key.get_mut(key) {
            item.vanished.reset();
        }
    }

    /// Consul does not show what we registered with success. Somebody deregistered it, or our token may write but not
    /// read: then registering it again and again would be a Raft write each time, for nothing.
    pub fn vanished(&mut self, key: &ArcStr, now: Instant, chance: f64) {
        let item = self.by_key.entry(key.clone()).or_default();
        let repeated = item.vanished.attempts() > 0;
        let wait = item.vanished.next(chance);
        if repeated {
            item.not_before = Some(now + wait);
            item.failure = Some(
                "registered, but Consul does not show it: does the token have service:read and node:read?".to_owned(),
            );
            self.failing.insert(key.clone());
        }
        self.touch(key, None);
    }

    /// Consul removed what we registered, as its definition asks: that is to last, until something changes or it is given
    /// another chance.
    pub fn reaped(&mut self, key: &ArcStr, now: Instant, chance: f64) {
        let item = self.by_key.entry(key.clone()).or_default();
        item.not_before = Some(now + item.reaped.next(chance));
        item.failure = Some("Consul removed it: its check was critical for longer than deregister_after".to_owned());
        self.failing.insert(key.clone());
        self.touch(key, None);
    }

    /// Whether a write is under way.
    #[must_use]
    pub fn is_running(&self, key: &ArcStr) -> bool {
        self.by_key.get(key).is_some_and(|item| item.running)
    }

    /// Somebody changed what we registered. The first time it is put right at once; whoever keeps changing it (an agent of
    /// another version, with other settings, or registrator) would be fought with a Raft write each time.
    pub fn contested(&mut self, key: &ArcStr, now: Instant, chance: f64) {
        let item = self.by_key.entry(key.clone()).or_default();
        if item.contested_at.replace(now).is_none_or(|last| last + PEACE <= now) {
            item.contest.reset();
        }
        let wait = item.contest.next(chance);
        if item.contest.attempts() > CONTEST {
            item.not_before = Some(now + wait);
            item.failure =
                Some("somebody else keeps changing this registration: does another agent run here?".to_owned());
            self.failing.insert(key.clone());
        }
        self.touch(key, None);
    }

    /// Whether it is about to be looked at, written, or tried again.
    #[must_use]
    pub fn is_waiting(&self, key: &ArcStr) -> bool {
        self.by_key.get(key).is_some_and(|item| item.queued || item.running || item.not_before.is_some())
    }

    /// Writes under way.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// Registrations that are not known to be as they should be.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.running + self.queue.len() + self.timers.len()
    }

    /// How many fail.
    #[must_use]
    pub fn failing(&self) -> usize {
        self.failing.len()
    }

    /// What fails, at most `limit` of it.
    #[must_use]
    pub fn failures(&self, limit: usize) -> Vec<Failure> {
        let reason = |key: &ArcStr| Some(Failure { key: key.clone(), reason: self.failure(key)?.to_owned() });
        self.failing.iter().take(limit).filter_map(reason).collect()
    }

    /// Why this registration is not as it should be, if so.
    #[must_use]
    pub fn failure(&self, key: &ArcStr) -> Option<&str> {
        self.by_key.get(key)?.failure.as_deref()
    }

    /// How many registrations something is known about.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Compares every number and index with the same worked out anew.
    #[cfg(test)]
    pub(super) fn recount(&self) {
        let pending: BTreeSet<&ArcStr> = (self.queue.iter())
            .chain(self.timers.iter().map(|(_, key)| key))
            .chain(self.by_key.iter().filter(|(_, item)| item.running).map(|(key, _)| key))
            .collect();
        assert_eq!(self.pending(), pending.len(), "pending: {self:?}");
        assert_eq!(self.running, self.by_key.values().filter(|item| item.running).count(), "running");
        let failing: BTreeSet<ArcStr> =
            self.by_key.iter().filter(|(_, item)| item.failure.is_some()).map(|(key, _)| key.clone()).collect();
        assert_eq!(self.failing, failing, "failing");
    }

    fn ended(&mut self, key: &ArcStr) -> Option<&mut Item> {
        let item = self.by_key.get_mut(key)?;
        if std::mem::replace(&mut item.running, false) {
            self.running = self.running.saturating_sub(1);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ArcStr = arcstr::literal!("a");

    #[test]
    fn one_registration_is_never_written_twice_at_once() {
        let (mut items, now) = (Items::default(), Instant::now());
        items.touch(&A, None);
        items.touch(&A, None);
        assert_eq!(items.next(now).as_deref(), Some("a"));
        assert_eq!(items.next(now), None);
        items.start(&A);
        items.touch(&A, None);
        assert_eq!(items.next(now), None, "under way");
        items.succeeded(&A);
        assert_eq!(items.next(now).as_deref(), Some("a"), "looked at again after the write");
    }

    #[test]
    fn case_41_failures_wait_by_their_class_and_a_new_definition_ends_the_waiting() {
        let classes = [(Class::Transient, 1), (Class::Denied, 31), (Class::Rejected, 301)];
        for (class, seconds) in classes {
            let (mut items, now) = (Items::default(), Instant::now());
            items.touch(&A, None);
            items.next(now).unwrap();
            items.start(&A);
            assert!(items.failed(&A, class, "no", now, 0.5));
            assert_eq!(items.next(now), None);
            assert_eq!(items.failure(&A), Some("no"));
            assert_eq!(items.next(now + Duration::from_secs(seconds)).as_deref(), Some("a"), "{class:?}");
            items.start(&A);
            assert!(!items.failed(&A, class, "no", now, 0.5), "the same again is not told");
            items.renew(&A, None);
            assert_eq!(items.next(now).as_deref(), Some("a"));
        }
    }

    #[test]
    fn other_credentials_end_the_waiting_of_all_that_failed() {
        let (mut items, now) = (Items::default(), Instant::now());
        for key in ["a", "b"].map(ArcStr::from) {
            items.touch(&key, None);
            items.next(now).unwrap();
            items.start(&key);
            items.failed(&key, Class::Denied, "no", now, 0.5);
        }
        assert_eq!(items.next(now), None);
        items.forgive();
        assert_eq!([items.next(now), items.next(now)].map(Option::unwrap), ["a", "b"]);
        assert_eq!(items.failing(), 0);
        items.recount();
    }

    #[test]
    fn a_failure_says_nothing_about_a_definition_that_came_meanwhile() {
        let (mut items, now) = (Items::default(), Instant::now());
        items.touch(&A, None);
        items.next(now).unwrap();
        items.start(&A);
        items.renew(&A, None);
        items.failed(&A, Class::Rejected, "no", now, 0.5);
        assert_eq!(items.next(now).as_deref(), Some("a"), "at once");
        items.start(&A);
        items.failed(&A, Class::Rejected, "no", now, 0.5);
        assert_eq!(items.next(now), None, "but this failure is its own");
    }

    #[test]
    fn whoever_keeps_changing_ours_is_not_fought_at_every_look() {
        let (mut items, mut now) = (Items::default(), Instant::now());
        let mut writes = 0;
        for _ in 0..1200 {
            now += Duration::from_secs(3);
            if !items.is_waiting(&A) {
                items.contested(&A, now, 0.5);
            }
            while items.next(now).is_some() {
                items.start(&A);
                items.succeeded(&A);
                items.next(now).unwrap();
                items.settled(&A, true);
                writes += 1;
            }
        }
        assert!((4..40).contains(&writes), "{writes} writes in an hour");
    }

    #[test]
    fn what_is_hidden_from_us_is_not_registered_again_and_again() {
        let (mut items, mut now) = (Items::default(), Instant::now());
        let mut writes = 0;
        for _ in 0..1200 {
            now += Duration::from_secs(3);
            if items.next(now).is_some() {
                items.start(&A);
                items.succeeded(&A);
                items.next(now).unwrap();
                writes += 1;
            }
            items.vanished(&A, now, 0.5);
        }
        assert!(writes < 30, "{writes} writes in an hour");
        assert!(items.failure(&A).is_some());
        items.seen(&A);
    }

    #[test]
    fn the_time_of_the_event_survives_until_the_write() {
        let (mut items, now) = (Items::default(), Instant::now());
        items.touch(&A, Some(now));
        items.touch(&A, Some(now + Duration::from_secs(1)));
        items.next(now).unwrap();
        items.start(&A);
        assert_eq!(items.succeeded(&A), Some(now));
        assert_eq!(items.succeeded(&A), None);
    }
}
