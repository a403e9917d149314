//! What the observation knows of each container, and what it has to look at next. Pure: events, lists, inspect results and
//! the time go in; containers to look at and [`Change`]s come out. No I/O, no task, no clock of its own.
//!
//! One entry per container, one look per container at a time. Whatever is heard while a look is under way leads to one
//! more look after it, so that what is told last was always looked at last.

mod entry;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::container::{Container, ContainerId, Sight, Signal, State};
use super::port::{DockerError, Event, EventKind, EventTime, Listing};
use crate::text::Texts;
use entry::{Entry, Look, StopRequest, Suspect};

/// Added to a container's stop timeout before it counts as "still running after it": SIGKILL, the end of the process and
/// its event take a moment.
const STOP_SLACK: Duration = Duration::from_secs(1);

/// A container that its restart policy started again is held critical until it has run for so long, if its run before
/// was shorter than that. Docker itself calls a start a success after ten seconds (its back-off begins anew then).
pub const SETTLE: Duration = Duration::from_secs(10);

/// An event may arrive a moment after the list that shows its effect; after this time it is not coming.
const DEAF_AFTER: Duration = Duration::from_secs(3);

/// More containers than any engine runs. Beyond it, events of unknown containers are left to the next full look.
const ENTRIES: usize = 65_536;

/// What there is to tell about one container.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The container.
    pub id: ContainerId,
    /// What was seen.
    pub seen: Seen,
    /// When the event that led to it was heard; `None` when a full look found it.
    pub heard: Option<Instant>,
}

/// What was seen of a container.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// It exists.
    Here(Sight),
    /// Docker says that it does not exist (any more).
    Gone,
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Boxed, as all that is kept of each container: half of a large table is empty.
    entries: HashMap<ContainerId, Box<Entry>>,
    looks: VecDeque<ContainerId>,
    outbox: VecDeque<ContainerId>,
    timers: BTreeSet<(Instant, ContainerId)>,
    retries: BTreeSet<(Instant, ContainerId)>,
    suspects: Vec<Suspect>,
    /// When the last list over the present event stream was asked for; `None` before the first one.
    baseline: Option<Instant>,
    /// Containers of the first list that have not been looked at yet; `None` before the first list.
    first: Option<HashSet<ContainerId>>,
    last_event: Option<EventTime>,
    curious: bool,
    /// What containers have in common: images, labels, networks.
    texts: Texts,
}

impl Ledger {
    /// From now on what does not run is looked at too when a list shows it, although there is nothing to tell of it: somebody
    /// else hears of the looks.
    pub fn be_curious(&mut self) {
        self.curious = true;
    }

    /// Where an event stream should go on: right after the last event that was heard.
    #[must_use]
    pub fn resume(&self) -> Option<EventTime> {
        self.last_event.map(|EventTime(at)| EventTime(at.saturating_add(1)))
    }

    /// How many containers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether every container of the first list has been looked at.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.first.as_ref().is_some_and(HashSet::is_empty)
    }

    /// An event was heard.
    pub fn event(&mut self, event: &Event, now: Instant) {
        self.last_event = self.last_event.max(Some(event.time));
        if self.entries.len() >= ENTRIES && !self.entries.contains_key(&event.container) {
            return;
        }
        let entry = self.entries.entry(event.container.clone()).or_default();
        if entry.gone {
            return;
        }
        entry.last_heard = Some(now);
        entry.fingerprint = None;
        entry.heard = entry.heard.or(Some(now));
        match event.kind {
            EventKind::Destroy => return self.vanish(&event.container),
            EventKind::Start => {
                if let Some(passing) = &mut entry.passing {
                    (passing.stop, passing.settling_until) = (None, None);
                }
            }
            EventKind::Kill(signal) => {
                if !stops(signal, event.time, entry.told.as_ref()) {
                    return self.forget_if_blank(&event.container);
                }
                let patience =
                    entry.told.as_ref().map_or(Duration::from_secs(10), |sight| sight.container.stop_timeout);
                let until = now + patience + STOP_SLACK;
                entry.passing().stop = Some(StopRequest { at: event.time, until });
                self.timers.insert((until, event.container.clone()));
                if let Some(told) = entry.told.clone() {
                    // No look: the engine has just said what matters, and every millisecond here is a client sent to a
                    // process that is about to end.
                    return self.tell(&event.container, Sight { draining: true, ..told });
                }
            }
            EventKind::Die | EventKind::Other(_) => {}
        }
        self.queue(&event.container, true);
    }

    /// Somebody needs to know about this container, whatever there is to say.
    pub fn ask(&mut self, id: &ContainerId) {
        if self.entries.len() >= ENTRIES && !self.entries.contains_key(id) {
            return;
        }
        let entry = self.entries.entry(id.clone()).or_default();
        if entry.gone {
            // Kept only because a look is still under way.
            if !std::mem::replace(&mut entry.outgoing, true) {
                self.outbox.push_back(id.clone());
            }
            return;
        }
        entry.tell_anyway = true;
        self.queue(id, false);
    }

    /// The event stream ended: what happens from now on may never be told by an event, and is no reason to distrust the next
    /// one.
    pub fn interrupted(&mut self) {
        self.suspects.clear();
        self.baseline = None;
    }

    /// A full list arrived that was asked for at `asked`.
    pub fn listed(&mut self, listing: &Listing, asked: Instant, now: Instant) {
        let baseline = self.baseline.replace(asked);
        let mut present = HashSet::with_capacity(listing.containers.len());
        for line in &listing.containers {
            present.insert(line.id.clone());
            let known = self.entries.contains_key(&line.id);
            if self.entries.len() >= ENTRIES && !known {
                continue;
            }
            let entry = self.entries.entry(line.id.clone()).or_default();
            let before = entry.fingerprint.replace(line.fingerprint);
            let changed = before != Some(line.fingerprint);
            // New to us, or another one than it was although nothing was heard of it.
            let surprising = entry.look == Look::Idle && (!known || before.is_some());
            // A container that never had a process here has nothing to tell; whoever has a registration of it will ask.
            let concerns = line.live || entry.told.is_some();
            // A look that was begun before may still tell that it runs.
            let overtaken = matches!(entry.look, Look::Running { .. });
            if changed && (concerns || self.curious || overtaken) {
                // A container that is made without being started is told by no event that is asked for.
                if let Some(changed_since) = baseline.filter(|_| surprising && concerns) {
                    self.suspects.push(Suspect { id: line.id.clone(), changed_since, shown: now });
                }
                self.queue(&line.id, false);
            }
        }
        // What the list does not show is not gone yet: only an inspect that says so, or a destroy event, makes it so.
        let missing: Vec<_> = self.entries.keys().filter(|id| !present.contains(*id)).cloned().collect();
        for id in missing {
            self.queue(&id, false);
        }
        if self.first.is_none() {
            // Without those that have gone meanwhile: nobody will look at them.
            let waits = |id: &&ContainerId| self.entries.get(*id).is_some_and(|entry| !entry.gone);
            let live = listing.containers.iter().filter(|line| line.live || self.curious).map(|line| &line.id);
            self.first = Some(live.filter(waits).cloned().collect());
        }
    }

    /// Whether a list showed a change that the event stream should have told by now: the stream is deaf.
    pub fn deaf(&mut self, now: Instant) -> bool {
        let entries = &self.entries;
        let mut deaf = false;
        self.suspects.retain(|suspect| {
            if now < suspect.shown + DEAF_AFTER {
                return true;
            }
            // What is not known any more was told, as gone.
            let heard = entries
                .get(&suspect.id)
                .is_none_or(|entry| entry.last_heard.is_some_and(|heard| heard + DEAF_AFTER >= suspect.changed_since));
            deaf |= !heard;
            false
        });
        deaf
    }

    /// The next container to look at, if any; its look is then under way.
    pub fn next_look(&mut self) -> Option<ContainerId> {
        let id = self.looks.pop_front()?;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.look = Look::Running { again: false };
        }
        Some(id)
    }

    /// What a look found, as the one copy of it that everybody shares.
    #[must_use]
    pub fn shared(&mut self, mut container: Container) -> Arc<Container> {
        let entry = self.entries.get_key_value(&container.id);
        if let Some(told) = entry.and_then(|(_, entry)| entry.told.as_ref()).filter(|told| *told.container == container)
        {
            return Arc::clone(&told.container);
        }
        if let Some((id, _)) = entry {
            container.id = id.clone();
        }
        container.share(&mut self.texts);
        Arc::new(container)
    }

    /// A look came to an end. `chance` is for the jitter of a retry.
    pub fn looked(&mut self, id: &ContainerId, result: Result<Arc<Container>, DockerError>, now: Instant, chance: f64) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let again = entry.look == (Look::Running { again: true });
        entry.look = Look::Idle;
        if let Some(at) = entry.passing.as_mut().and_then(|passing| passing.retry_at.take()) {
            self.retries.remove(&(at, id.clone()));
        }
        if let Some(first) = &mut self.first {
            first.remove(id);
        }
        if entry.gone {
            if !entry.outgoing {
                self.entries.remove(id);
            }
            return;
        }
        match result {
            Ok(container) => self.saw(id, container, now),
            Err(DockerError::NotFound(_)) => return self.vanish(id),
            // Unknown: what was told stays true until Docker says otherwise.
            Err(_) => {
                let passing = entry.passing();
                let at = now + passing.backoff.next(chance);
                passing.retry_at = Some(at);
                self.retries.insert((at, id.clone()));
                return;
            }
        }
        if again {
            self.queue(id, true);
        }
    }

    /// When [`Ledger::due`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let suspect = self.suspects.first().map(|suspect| suspect.shown + DEAF_AFTER);
        let timers = [self.timers.first(), self.retries.first()];
        timers.into_iter().flatten().map(|(at, _)| *at).chain(suspect).min()
    }

    /// Queues the containers whose time has come: a retry, a stop that did not end it, a restart that settled.
    pub fn due(&mut self, now: Instant) {
        let is_due = |timers: &BTreeSet<(Instant, ContainerId)>| timers.first().is_some_and(|(at, _)| *at <= now);
        while is_due(&self.timers)
            && let Some((_, id)) = self.timers.pop_first()
        {
            self.queue(&id, false);
        }
        while is_due(&self.retries)
            && let Some((_, id)) = self.retries.pop_first()
        {
            if let Some(passing) = self.entries.get_mut(&id).and_then(|entry| entry.passing.as_mut()) {
                passing.retry_at = None;
            }
            self.queue(&id, false);
        }
    }

    /// Whether there is something to tell.
    #[must_use]
    pub fn has_change(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The next thing to tell. Several changes of one container since the last call are one.
    pub fn next_change(&mut self) -> Option<Change> {
        loop {
            let id = self.outbox.pop_front()?;
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.outgoing = false;
            let heard = entry.heard.take();
            if entry.gone {
                if entry.look == Look::Idle {
                    self.entries.remove(&id);
                }
                return Some(Change { id, seen: Seen::Gone, heard });
            }
            if let Some(sight) = entry.told.clone() {
                return Some(Change { id, seen: Seen::Here(sight), heard });
            }
        }
    }

    fn saw(&mut self, id: &ContainerId, container: Arc<Container>, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        // Retries are over, and what else there is comes out of this look.
        let mut passing = entry.passing.take().unwrap_or_default();
        let running = matches!(container.state, State::Running | State::Paused | State::Unknown(_));
        if let Some(stop) = passing.stop {
            let started_since = container.started_at.is_some_and(|started| started > stop.at);
            if started_since || (running && stop.until <= now) {
                passing.stop = None;
            }
        }
        if container.state == State::Running
            && let Some(started) = container.started_at
        {
            let before = entry.last_run.replace((started, container.restart_count));
            if before.is_some_and(|before| crashed_early(before, &container)) {
                let until = now + SETTLE;
                passing.settling_until = Some(until);
                self.timers.insert((until, id.clone()));
            }
        }
        if passing.settling_until.is_some_and(|until| until <= now) || !running {
            passing.settling_until = None;
        }
        let (draining, settling) = (passing.stop.is_some(), passing.settling_until.is_some());
        if draining || settling {
            passing.backoff.reset();
            entry.passing = Some(passing);
        }
        let sight = Sight { container, draining, settling };
        if entry.told.as_ref() == Some(&sight) && !entry.tell_anyway {
            entry.heard = None;
            return;
        }
        let ended = matches!(sight.container.state, State::Created | State::Exited | State::Dead | State::Removing);
        if self.curious && ended && entry.told.is_none() && entry.heard.is_none() && !entry.tell_anyway {
            return;
        }
        entry.tell_anyway = false;
        if entry.told.is_some() {
            entry.fingerprint = None;
        }
        self.tell(id, sight);
    }

    fn tell(&mut self, id: &ContainerId, sight: Sight) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.told = Some(sight);
        if !std::mem::replace(&mut entry.outgoing, true) {
            self.outbox.push_back(id.clone());
        }
    }

    fn vanish(&mut self, id: &ContainerId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if std::mem::replace(&mut entry.gone, true) {
            return;
        }
        if let Some(first) = &mut self.first {
            first.remove(id);
        }
        if entry.look == Look::Queued {
            entry.look = Look::Idle;
            self.looks.retain(|queued| queued != id);
        }
        if !std::mem::replace(&mut entry.outgoing, true) {
            self.outbox.push_back(id.clone());
        }
    }

    fn queue(&mut self, id: &ContainerId, urgent: bool) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.gone {
            return;
        }
        match &mut entry.look {
            Look::Running { again } => *again = true,
            Look::Queued => {}
            Look::Idle => {
                entry.look = Look::Queued;
                // What has just happened goes before what a list brought up.
                if urgent {
                    self.looks.push_front(id.clone());
                } else {
                    self.looks.push_back(id.clone());
                }
            }
        }
    }

    /// An event without consequence leaves no trace of a container that was not known before.
    fn forget_if_blank(&mut self, id: &ContainerId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.heard = None;
            let blank = entry.told.is_none() && entry.fingerprint.is_none() && entry.look == Look::Idle;
            if blank && !entry.outgoing {
                self.entries.remove(id);
            }
        }
    }
}

/// Whether a signal means that this container shall end. A signal that the engine does not name, sent to a container,
/// is rather a stop than not; one from before its last start means nothing any more (events are replayed after a
/// reconnect).
fn stops(signal: Option<u8>, at: EventTime, told: Option<&Sight>) -> bool {
    let old = told.is_some_and(|sight| sight.container.started_at.is_some_and(|started| started > at));
    let stop_signal = told.map_or(Signal::TERM, |sight| sight.container.stop_signal);
    !old && signal.is_none_or(|signal| Signal(signal).ends(stop_signal))
}

/// Whether its restart policy has just started a container again after a run that was too short to be trusted. The count
/// is compared with that of the last *run*: the engine raises it when the container ends, not when it starts.
fn crashed_early((started, restarts): (EventTime, u64), container: &Container) -> bool {
    let Some(finished) = container.finished_at else { return false };
    let run = Duration::from_nanos(u64::try_from(finished.0.saturating_sub(started.0)).unwrap_or_default());
    container.restart_count > restarts && run < SETTLE
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
