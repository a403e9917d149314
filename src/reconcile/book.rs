//! What should be registered, what is registered, and which write comes next. Pure: sights of containers, snapshots of
//! Consul, results of writes and the time go in; [`Op`]s come out.
//!
//! An event costs what its container costs, however many containers there are: everything is found by key.
//!
//! This file: the state, and what the loop around it calls. `seeing`: what the observation tells. `reading`: what Consul
//! shows. `healing`: whom the health-watcher has given up. `deciding`: what to write. `probing`: which checks nobody else runs.

mod deciding;
mod healing;
mod probing;
mod reading;
mod seeing;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arcstr::ArcStr;
use tokio::time::Instant;

use super::claims::Claims;
use super::containers::Containers;
use super::diff::{self, Op};
use super::healing::{GivenUp, Healing};
use super::items::{Failure, Items};
use super::own::{self, Owner};
use super::shown::key;
use crate::consul::{ActualService, Check, Class, Service, Status};
use crate::docker::{Change, ContainerId, Seen};
use crate::registration::{Note, Settings};
use crate::text::Texts;

/// See the module's header.
pub struct Book {
    settings: Settings,
    healing: Healing,
    /// `None`: the health-watcher has not said anything yet.
    given_up: Option<GivenUp>,
    containers: Containers,
    claims: Claims,
    wanted: HashMap<ArcStr, Arc<Service>>,
    actual: HashMap<ArcStr, Arc<ActualService>>,
    /// Keys in `actual` that carry our mark (or a dead namesake's), by container.
    registered: BTreeSet<(ContainerId, ArcStr)>,
    /// Keys that somebody else uses too, in another case: the catalog cannot tell the two apart.
    contested: HashSet<ArcStr>,
    /// What is registered with our mark beside what is in `actual`, under the same id in another case.
    doubles: HashMap<ArcStr, ActualService>,
    /// Containers that Docker says do not exist, while something is registered for them.
    gone: HashSet<ContainerId>,
    items: Items,
    asks: Vec<ContainerId>,
    asked: HashSet<ContainerId>,
    /// Agents of other engines: since when none has been registered here.
    absent: HashMap<String, Instant>,
    /// Those of them for which that is long enough.
    past: HashSet<String>,
    beats: HashSet<ArcStr>,
    /// Keys of which a check is critical for which Consul may remove the service (`deregister_after`), since when.
    dying: HashMap<ArcStr, Instant>,
    /// Definitions that Consul refused because of their checks, as hashes by key.
    refused: HashMap<ArcStr, BTreeSet<String>>,
    /// Keys written since the read under way began: what that read says about them may be older than the write.
    written: HashSet<ArcStr>,
    /// Keys that are sent again although they are as they should be.
    resend: HashSet<ArcStr>,
    own_key: ArcStr,
    /// The agent has said something of itself: before, its own service is left as it is.
    spoken: bool,
    /// What the authors of labels should know, over all containers.
    notes: usize,
    read_once: bool,
    /// When time began to pass, and whether the first minute of it is over.
    began: Option<Instant>,
    settled_in: bool,
    /// A write has changed what is registered, and no read has shown it yet.
    ahead: bool,
    /// Keys that are wanted and registered.
    published: usize,
    probes_changed: bool,
    /// What was read last shares its memory with what is wanted.
    shared: bool,
    /// What definitions have in common: names, addresses, meta, notes.
    texts: Texts,
}

/// What a change of a container came to, for the log.
#[derive(Debug, PartialEq)]
pub struct Told {
    /// Notes that are new.
    pub notes: Vec<Note>,
    /// Why nothing is registered, when that is new.
    pub nothing: Option<String>,
    /// The container.
    pub id: ContainerId,
    /// The container's name.
    pub name: String,
}

impl Book {
    /// An empty book; `own` is the agent's own service.
    #[must_use]
    pub fn new(settings: Settings, healing: Healing, own: Service) -> Self {
        let own_key = key(&own.id);
        let mut items = Items::default();
        items.touch(&own_key, None);
        Self {
            settings,
            healing,
            given_up: None,
            containers: Containers::default(),
            claims: Claims::default(),
            wanted: HashMap::from([(own_key.clone(), Arc::new(own))]),
            actual: HashMap::new(),
            registered: BTreeSet::new(),
            contested: HashSet::new(),
            doubles: HashMap::new(),
            gone: HashSet::new(),
            items,
            asks: Vec::new(),
            asked: HashSet::new(),
            absent: HashMap::new(),
            past: HashSet::new(),
            beats: HashSet::new(),
            dying: HashMap::new(),
            refused: HashMap::new(),
            written: HashSet::new(),
            resend: HashSet::new(),
            own_key,
            spoken: false,
            notes: 0,
            read_once: false,
            began: None,
            settled_in: false,
            ahead: false,
            published: 0,
            probes_changed: false,
            shared: false,
            texts: Texts::default(),
        }
    }

    /// The observation saw something. Returns what that came to for the container and for those that depend on it.
    pub fn change(&mut self, change: Change) -> Vec<Told> {
        self.asked.remove(&change.id);
        match change.seen {
            Seen::Here(sight) => self.here(&change.id, &sight, change.heard),
            Seen::Gone => self.vanish(&change.id, change.heard),
        }
    }

    /// Every registration has to be sent once more: Consul syncs each with the token that it was sent with, and that one
    /// is about to die. And what was refused is tried with the new one.
    pub fn send_again(&mut self) {
        for at in self.wanted.keys().filter(|at| self.actual.contains_key(*at)) {
            self.resend.insert(at.clone());
            self.items.touch(at, None);
        }
        self.items.forgive();
    }

    /// Whether Consul has been read at least once: before, nothing is written.
    #[must_use]
    pub const fn read_once(&self) -> bool {
        self.read_once
    }

    /// The next write, if any; it is then under way and must be answered by [`Book::done`] or [`Book::interrupted`].
    pub fn next(&mut self, now: Instant) -> Option<(ArcStr, Op)> {
        if !self.read_once {
            return None;
        }
        while let Some(at) = self.items.next(now) {
            match self.decide(&at) {
                Some(op) => {
                    self.items.start(&at);
                    return Some((at, op));
                }
                None => self.items.settled(&at, self.actual.contains_key(&at)),
            }
        }
        None
    }

    /// Whether a write has changed something that no read has shown yet: then even a read that is the same as the one before
    /// has something to say.
    #[must_use]
    pub const fn is_ahead(&self) -> bool {
        self.ahead
    }

    /// A write succeeded. Returns when the event that led to it was heard.
    pub fn done(&mut self, at: &ArcStr, op: &Op) -> Option<Instant> {
        self.written.insert(at.clone());
        match op {
            Op::Register(_) | Op::Deregister(_) => {
                self.resend.remove(at);
                self.beats.remove(at);
            }
            // Another check than the one that has to be fed says nothing for that one.
            Op::UpdateCheck { id, .. } => {
                let beaten = self.wanted.get(at).and_then(|wanted| diff::beaten_check(wanted));
                if beaten.is_none_or(|check| check.id == *id) {
                    self.beats.remove(at);
                }
            }
            Op::RemoveCheck(_) => {}
        }
        if let Op::Deregister(id) = op
            && self.doubles.get(at).is_some_and(|double| double.id == *id)
        {
            self.ahead = true;
            if let Some(container) = self.doubles.remove(at).and_then(|double| own::container(&double)) {
                self.forget_gone(&container);
            }
            // The catalog has one row for the two, and it went with the double.
            if self.wanted.contains_key(at) && self.actual.contains_key(at) {
                self.resend.insert(at.clone());
            }
            return self.items.succeeded(at);
        }
        let before = self.actual.get(at).map(AsRef::as_ref);
        let after = diff::after(op, before);
        // A heartbeat that says what was said before is no news: else all that is registered were gone through after each.
        self.ahead |= after.as_ref() != before;
        self.set_actual(at, after.map(Arc::new));
        if let Op::Register(service) = op
            && let Some(container) = container_of(service)
            && !self.containers.held.contains_key(&container)
        {
            // Docker said that it is gone while this was being written.
            self.gone.insert(container);
        }
        self.settle(at, None);
        self.items.succeeded(at)
    }

    /// A write failed. Returns whether it is worth telling.
    pub fn failed(&mut self, at: &ArcStr, class: Class, reason: &str, now: Instant, chance: f64) -> bool {
        self.written.insert(at.clone());
        let tell = self.items.failed(at, class, reason, now, chance);
        self.retire(self.wanted.get(at).cloned().as_ref());
        tell
    }

    /// Consul refuses this definition, and says that it always will. If it has checks besides Docker's it is registered
    /// with fewer of them: a label must not cost a registration. Returns the checks that are left out; the write is then
    /// answered.
    pub fn refuse(&mut self, at: &ArcStr, op: &Op) -> Option<Vec<String>> {
        let Op::Register(service) = op else { return None };
        let fewer = diff::with_fewer_checks(service)?;
        let container = container_of(service)?;
        self.refused.entry(at.clone()).or_default().insert(service.definition_hash());
        self.written.insert(at.clone());
        self.items.interrupted(at);
        self.settle_claims(&container, at);
        let left_out = |check: &&Check| !fewer.checks.iter().any(|kept| kept.id == check.id);
        Some(service.checks.iter().filter(left_out).map(|check| check.id.to_string()).collect())
    }

    /// Consul was away: it may be another one, or set up otherwise. What it refused is tried again.
    pub fn reconnected(&mut self) {
        for at in std::mem::take(&mut self.refused).into_keys() {
            if let Some(container) = self.wanted.get(&at).and_then(|service| container_of(service)) {
                self.settle_claims(&container, &at);
            }
        }
    }

    /// Decides anew who gets the ids that this container claimed and for which it got `at`.
    fn settle_claims(&mut self, container: &ContainerId, at: &ArcStr) {
        let keys = self.containers.held.get(container).into_iter().flat_map(|held| &held.keys);
        let claimed: Vec<ArcStr> = keys.filter(|(_, got)| *got == at).map(|(claimed, _)| claimed.clone()).collect();
        for claimed in claimed {
            self.settle(&claimed, None);
        }
    }

    /// Whether something is registered under this key, as far as is known.
    #[must_use]
    pub fn is_taken(&self, at: &ArcStr) -> bool {
        self.actual.contains_key(at)
    }

    /// A write was not made, because somebody has registered something under this key since the last read.
    pub fn found(&mut self, at: &ArcStr, service: ActualService) {
        self.set_actual(at, Some(Arc::new(service)));
        self.items.interrupted(at);
        self.settle(at, None);
    }

    /// The way to Consul broke under a write: it may or may not have happened; the next read tells.
    pub fn interrupted(&mut self, at: &ArcStr) {
        self.items.interrupted(at);
    }

    /// What the agent says of itself.
    ///
    /// Returns whether that is to be written.
    pub fn say(&mut self, status: Status, output: ArcStr) -> bool {
        let first = !std::mem::replace(&mut self.spoken, true);
        if first {
            self.beat_own();
        }
        let Some(own) = self.wanted.get_mut(&self.own_key) else { return first };
        if let Some(check) = Arc::make_mut(own).checks.first_mut()
            && (check.status, &check.output) != (status, &output)
        {
            check.status = status;
            check.output = output;
            self.items.touch(&self.own_key.clone(), None);
            return true;
        }
        first
    }

    /// The agent's own check is due to be fed, whether or not it changed.
    pub fn beat_own(&mut self) {
        self.beat(self.own_key.clone());
    }

    /// Every docker check is due to be fed (`REMORA_HEALTH_TTL`); the healing checks never expire.
    pub fn beat_all(&mut self) {
        for at in self.wanted.keys().cloned().collect::<Vec<_>>() {
            self.beat(at);
        }
    }

    fn beat(&mut self, at: ArcStr) {
        self.items.touch(&at, None);
        self.beats.insert(at);
    }

    /// Containers that the observation should look at: something is registered for them and nobody has told about them.
    pub fn take_asks(&mut self) -> Vec<ContainerId> {
        std::mem::take(&mut self.asks)
    }

    /// Every registration that carries our mark, and our own: what `REMORA_ON_EXIT=deregister` removes.
    #[must_use]
    pub fn ours(&self) -> Vec<ArcStr> {
        let ours = |service: &&Arc<ActualService>| matches!(own::owner(service, &self.settings), Owner::Ours(_));
        self.actual.values().filter(ours).map(|service| service.id.clone()).collect()
    }

    /// Whether something that the agent does not show carries our mark and is not wanted; as it is now.
    pub fn stray(&self) -> impl Fn(&ActualService) -> bool + Send + use<> {
        let settings = self.settings.clone();
        let wanted: BTreeSet<ArcStr> = self.wanted.keys().cloned().collect();
        move |service| matches!(own::owner(service, &settings), Owner::Ours(_)) && !wanted.contains(&key(&service.id))
    }

    /// The agent's own service as it is wanted now.
    #[must_use]
    pub fn own(&self) -> Option<&Arc<Service>> {
        self.wanted.get(&self.own_key)
    }

    /// What is registered and wanted of containers.
    #[must_use]
    pub fn published(&self) -> usize {
        self.published.saturating_sub(usize::from(self.actual.contains_key(&self.own_key)))
    }

    /// Registrations that are not known to be as they should be.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.items.pending()
    }

    /// Writes under way.
    #[must_use]
    pub fn running(&self) -> usize {
        self.items.running()
    }

    /// How much there is that the authors of labels should know.
    #[must_use]
    pub const fn notes(&self) -> usize {
        self.notes
    }

    /// How many fail.
    #[must_use]
    pub fn failing(&self) -> usize {
        self.items.failing()
    }

    /// What fails, at most `limit` of it.
    #[must_use]
    pub fn failures(&self, limit: usize) -> Vec<Failure> {
        self.items.failures(limit)
    }

    /// When [`Book::next`] has something that it has not now.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.items.next_due()
    }

    fn set_wanted(&mut self, at: &ArcStr, service: Option<Arc<Service>>) {
        let now = service.is_some();
        self.shared &= !now;
        let before = match service {
            Some(service) => self.wanted.insert(at.clone(), service),
            None => self.wanted.remove(at),
        };
        if self.actual.contains_key(at) {
            self.published = self.published + usize::from(now) - usize::from(before.is_some());
        }
        if !now {
            self.beats.remove(at);
            self.refused.remove(at);
        }
        let wanted = self.wanted.get(at).cloned();
        self.touch_probes([before.as_ref(), wanted.as_ref()]);
        self.retire(before.as_ref());
    }

    fn set_actual(&mut self, at: &ArcStr, service: Option<Arc<ActualService>>) {
        if self.wanted.contains_key(at) {
            let (now, before) = (service.is_some(), self.actual.contains_key(at));
            self.published = self.published + usize::from(now) - usize::from(before);
            let wanted = self.wanted.get(at).cloned();
            self.touch_probes([wanted.as_ref(), None]);
        }
        let container = |service: &Arc<ActualService>| match own::owner(service, &self.settings) {
            Owner::Ours(container) | Owner::Namesake { container, .. } => container,
            Owner::Unmarked | Owner::Foreign => None,
        };
        let now = service.as_ref().and_then(container);
        let before = self.actual.remove(at).as_ref().and_then(container);
        if let Some(service) = service {
            self.actual.insert(key(&service.id), service);
        }
        if before != now {
            if let Some(before) = before {
                self.unindex(&before, at);
            }
            if let Some(now) = now {
                let known = self.containers.held.get_key_value(&now).map(|(id, _)| id.clone());
                let at = self.actual.get_key_value(at).map_or_else(|| at.clone(), |(at, _)| at.clone());
                self.registered.insert((known.unwrap_or(now), at));
            }
        }
        self.retire(self.wanted.get(at).cloned().as_ref());
    }

    /// That a container is gone is remembered only as long as something is registered for it.
    fn forget_gone(&mut self, container: &ContainerId) {
        if self.registered_for(container).next().is_none() && self.doubles_of(container).next().is_none() {
            self.gone.remove(container);
        }
    }

    /// The keys under which a double is registered for this container.
    fn doubles_of(&self, container: &ContainerId) -> impl Iterator<Item = &ArcStr> {
        let doubled = move |double: &ActualService| own::container(double).as_ref() == Some(container);
        self.doubles.iter().filter(move |(_, double)| doubled(double)).map(|(at, _)| at)
    }

    /// The keys under which something is registered for this container.
    fn registered_for(&self, container: &ContainerId) -> impl Iterator<Item = &ArcStr> {
        let from = (container.clone(), ArcStr::new());
        self.registered.range(from..).take_while(move |(of, _)| of == container).map(|(_, at)| at)
    }

    fn unindex(&mut self, container: &ContainerId, at: &ArcStr) {
        self.registered.remove(&(container.clone(), at.clone()));
        self.forget_gone(container);
    }
}

fn container_of(service: &Service) -> Option<ContainerId> {
    service.meta.get(Service::META_CONTAINER).map(ContainerId::new)
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
