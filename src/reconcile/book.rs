//! What should be registered, what is registered, and which write comes next. Pure: sights of containers, snapshots of
//! Consul, results of writes and the time go in; [`Op`]s come out.
//!
//! An event costs what its container costs, however many containers there are: everything is found by key.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::claims::{Claim, Claims, Occupant};
use super::containers::{Containers, Held};
use super::diff::{self, Op};
use super::items::{Failure, Items};
use super::own::{self, Owner};
use super::shown::{Shown, key};
use crate::consul::{ActualService, Class, Service, Snapshot, Status};
use crate::docker::{Change, ContainerId, Seen, Sight};
use crate::registration::{self, Note, Registration, Settings, Verdict};
use crate::telemetry::Drift;

/// The registrations of another engine with our node name are this node's own past, and not a living namesake's, when
/// no agent of that engine has been registered here for so long. A namesake that lives re-registers itself within
/// seconds of losing its registration.
const NAMESAKE_AWAY: Duration = Duration::from_secs(60);

/// See the module's header.
pub struct Book {
    settings: Settings,
    containers: Containers,
    claims: Claims,
    wanted: HashMap<String, Arc<Service>>,
    actual: HashMap<String, ActualService>,
    /// Keys in `actual` that carry our mark (or a dead namesake's), by container.
    registered: HashMap<ContainerId, BTreeSet<String>>,
    /// Keys that somebody else uses too, in another case: the catalog cannot tell the two apart.
    contested: HashSet<String>,
    /// What is registered with our mark beside what is in `actual`, under the same id in another case.
    doubles: HashMap<String, ActualService>,
    /// Containers that Docker says do not exist, while something is registered for them.
    gone: HashSet<ContainerId>,
    items: Items,
    asks: Vec<ContainerId>,
    asked: HashSet<ContainerId>,
    /// Agents of other engines: since when none has been registered here.
    absent: HashMap<String, Instant>,
    /// Those of them for which that is long enough.
    past: HashSet<String>,
    beats: HashSet<String>,
    /// Keys written since the read under way began: what that read says about them may be older than the write.
    written: HashSet<String>,
    own_key: String,
    read_once: bool,
    /// Something was written that no read has shown yet.
    ahead: bool,
    /// Keys that are wanted and registered.
    published: usize,
}

/// What a change of a container came to, for the log.
#[derive(Debug, PartialEq)]
pub struct Told {
    /// Notes that are new.
    pub notes: Vec<Note>,
    /// Why nothing is registered, when that is new.
    pub nothing: Option<String>,
    /// The container's name.
    pub name: String,
}

impl Book {
    /// An empty book; `own` is the agent's own service.
    #[must_use]
    pub fn new(settings: Settings, own: Service) -> Self {
        let own_key = key(&own.id);
        let mut items = Items::default();
        items.touch(&own_key, None);
        Self {
            settings,
            containers: Containers::default(),
            claims: Claims::default(),
            wanted: HashMap::from([(own_key.clone(), Arc::new(own))]),
            actual: HashMap::new(),
            registered: HashMap::new(),
            contested: HashSet::new(),
            doubles: HashMap::new(),
            gone: HashSet::new(),
            items,
            asks: Vec::new(),
            asked: HashSet::new(),
            absent: HashMap::new(),
            past: HashSet::new(),
            beats: HashSet::new(),
            written: HashSet::new(),
            own_key,
            read_once: false,
            ahead: false,
            published: 0,
        }
    }

    /// The observation saw something.
    pub fn change(&mut self, change: Change) -> Option<Told> {
        self.asked.remove(&change.id);
        match change.seen {
            Seen::Here(sight) => Some(self.here(&change.id, &sight, change.heard)),
            Seen::Gone => {
                self.vanish(&change.id, change.heard);
                None
            }
        }
    }

    /// A read of Consul begins.
    pub fn reading(&mut self) {
        self.written.clear();
    }

    /// A read of Consul ended with this. Returns what others did to registrations of ours.
    pub fn read(&mut self, snapshot: &Snapshot, now: Instant, chance: impl Fn() -> f64) -> Vec<(String, Drift)> {
        let mut drift = Vec::new();
        self.ahead = false;
        let Shown { by_key: shown, contested, doubles } = Shown::sort(snapshot, &self.wanted, &self.settings);
        let mut changed = self.note_agents(&shown, now);
        changed.extend(contested.symmetric_difference(&self.contested).cloned());
        changed.extend(doubles.keys().filter(|at| !self.doubles.contains_key(*at)).cloned());
        self.contested = contested;
        self.doubles = doubles;
        for (at, service) in &shown {
            self.items.seen(at);
            if self.actual.get(at) != Some(*service) {
                if self.just_written(at) {
                    continue;
                }
                drift.extend(self.edited(at, service).map(|kind| (at.clone(), kind)));
                self.set_actual(at, Some(ActualService::clone(service)));
                changed.push(at.clone());
            }
        }
        let lost: Vec<String> = self.actual.keys().filter(|at| !shown.contains_key(*at)).cloned().collect();
        for at in lost {
            if self.just_written(&at) {
                continue;
            }
            self.set_actual(&at, None);
            if self.wanted.contains_key(&at) {
                drift.push((at.clone(), Drift::Missing));
                self.items.vanished(&at, now, chance());
            }
            changed.push(at);
        }
        if !std::mem::replace(&mut self.read_once, true) {
            changed.extend(self.wanted.keys().cloned());
        }
        for at in changed {
            self.settle(&at, None);
            self.items.touch(&at, None);
        }
        drift
    }

    /// What somebody did to this registration of ours; `None` when it is as wanted, or when we are about to write there.
    fn edited(&self, at: &str, now: &ActualService) -> Option<Drift> {
        if !self.actual.contains_key(at) || self.items.is_waiting(at) {
            return None;
        }
        let wanted = self.wanted.get(at)?;
        match diff::towards(wanted, Some(now))? {
            Op::Register(_) if diff::difference(wanted, now) == Some("checks") => Some(Drift::MissingCheck),
            Op::Register(_) | Op::Deregister(_) => Some(Drift::Changed),
            Op::UpdateCheck { .. } => Some(Drift::ChangedCheck),
            Op::RemoveCheck(_) => Some(Drift::ForeignCheck),
        }
    }

    /// Whether Consul has been read at least once: before, nothing is written.
    #[must_use]
    pub const fn read_once(&self) -> bool {
        self.read_once
    }

    /// The next write, if any; it is then under way and must be answered by [`Book::done`] or [`Book::interrupted`].
    pub fn next(&mut self, now: Instant) -> Option<(String, Op)> {
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

    /// Whether something was written that no read has shown yet: then even a read that is the same as the one before
    /// has something to say.
    #[must_use]
    pub const fn is_ahead(&self) -> bool {
        self.ahead
    }

    /// A write succeeded. Returns when the event that led to it was heard.
    pub fn done(&mut self, at: &str, op: &Op) -> Option<Instant> {
        self.written.insert(at.to_owned());
        self.ahead = true;
        self.beats.remove(at);
        if let Op::Deregister(id) = op
            && self.doubles.get(at).is_some_and(|double| double.id == *id)
        {
            if let Some(container) = self.doubles.remove(at).and_then(|double| own::container(&double))
                && !self.registered.contains_key(&container)
            {
                self.gone.remove(&container);
            }
            return self.items.succeeded(at, self.actual.contains_key(at));
        }
        let after = diff::after(op, self.actual.get(at));
        let registered = after.is_some();
        self.set_actual(at, after);
        if let Op::Register(service) = op
            && let Some(container) = container_of(service)
            && !self.containers.held.contains_key(&container)
        {
            // Docker said that it is gone while this was being written.
            self.gone.insert(container);
        }
        self.settle(at, None);
        self.items.succeeded(at, registered)
    }

    /// A write failed. Returns whether it is worth telling.
    pub fn failed(&mut self, at: &str, class: Class, reason: &str, now: Instant, chance: f64) -> bool {
        self.written.insert(at.to_owned());
        let tell = self.items.failed(at, class, reason, now, chance);
        self.retire(self.wanted.get(at).cloned().as_ref());
        tell
    }

    /// The way to Consul broke under a write: it may or may not have happened; the next read tells.
    pub fn interrupted(&mut self, at: &str) {
        self.items.interrupted(at);
    }

    /// What the agent says of itself.
    pub fn say(&mut self, status: Status, output: String) {
        let Some(own) = self.wanted.get_mut(&self.own_key) else { return };
        if let Some(check) = Arc::make_mut(own).checks.first_mut()
            && (check.status, &check.output) != (status, &output)
        {
            check.status = status;
            check.output = output;
            self.items.touch(&self.own_key.clone(), None);
        }
    }

    /// The agent's own check is due to be fed, whether or not it changed.
    pub fn beat_own(&mut self) {
        self.beat(self.own_key.clone());
    }

    /// Every docker check is due to be fed (`REMORA_HEALTH_TTL`).
    pub fn beat_all(&mut self) {
        for at in self.wanted.keys().cloned().collect::<Vec<_>>() {
            self.beat(at);
        }
    }

    fn beat(&mut self, at: String) {
        self.items.touch(&at, None);
        self.beats.insert(at);
    }

    /// Containers that the observation should look at: something is registered for them and nobody has told about them.
    pub fn take_asks(&mut self) -> Vec<ContainerId> {
        std::mem::take(&mut self.asks)
    }

    /// Every registration that carries our mark, and our own: what `REMORA_ON_EXIT=deregister` removes.
    #[must_use]
    pub fn ours(&self) -> Vec<String> {
        let ours = |service: &&ActualService| matches!(own::owner(service, &self.settings), Owner::Ours(_));
        self.actual.values().filter(ours).map(|service| service.id.clone()).collect()
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

    fn here(&mut self, id: &ContainerId, sight: &Arc<Sight>, heard: Option<Instant>) -> Told {
        self.gone.remove(id);
        // Under its old name others may have depended on it.
        let mut dependents = match self.containers.held.get(id) {
            Some(held) if held.sight.container.name != sight.container.name => {
                self.containers.dependents_of(id, &held.sight.container.name)
            }
            _ => Vec::new(),
        };
        self.containers.remember(id, Arc::clone(sight));
        let told = self.mean(id, heard);
        dependents.extend(self.containers.dependents_of(id, &sight.container.name));
        for dependent in dependents {
            self.mean(&dependent, heard);
        }
        told
    }

    /// Works out anew what a container means.
    fn mean(&mut self, id: &ContainerId, heard: Option<Instant>) -> Told {
        let Some(held) = self.containers.held.get(id) else {
            return Told { notes: Vec::new(), nothing: None, name: String::new() };
        };
        let sight = Arc::clone(&held.sight);
        if let Some(owner) = self.containers.unknown_owner(&sight) {
            if let Some(held) = self.containers.held.get_mut(id) {
                held.waits = true;
            }
            self.ask(owner);
            return Told { notes: Vec::new(), nothing: None, name: sight.container.name.clone() };
        }
        let Registration { verdict, notes } = registration::register(&sight, &self.containers, &self.settings);
        let (services, hold_on, nothing) = match verdict {
            Verdict::Services(planned) => (planned, None, None),
            Verdict::Nothing(reason) => (Vec::new(), None, Some(reason)),
            Verdict::Hold { status, output } => (Vec::new(), Some((status, output)), None),
        };
        let claims: HashMap<String, Arc<Service>> =
            services.into_iter().map(|planned| (key(&planned.service.id), Arc::new(planned.service))).collect();
        let mut stirred: Vec<String> = Vec::new();
        let mut told = Told { notes: Vec::new(), nothing: None, name: sight.container.name.clone() };
        if let Some(held) = self.containers.held.get_mut(id) {
            held.hold = hold_on;
            held.waits = false;
            told.notes = notes.iter().filter(|note| !held.notes.contains(note)).cloned().collect();
            if nothing != held.nothing {
                told.nothing.clone_from(&nothing);
            }
            held.notes = notes;
            held.nothing = nothing;
            stirred.extend(held.keys.keys().filter(|at| !claims.contains_key(*at)).cloned());
        }
        for at in &stirred {
            self.claims.remove(at, id);
        }
        for (at, service) in claims {
            let created = sight.container.created.clone();
            self.claims.insert(&at, Claim { container: id.clone(), created, service });
            stirred.push(at);
        }
        for at in stirred {
            self.settle(&at, heard);
            self.withdraw(&at, id, heard);
        }
        // What is registered for it under ids that it does not want (any more), or that others want and did not get before
        // it was known what became of it.
        for at in self.registered.get(id).into_iter().flatten() {
            if self.wanted.get(at).and_then(|service| container_of(service)).as_ref() != Some(id) {
                self.items.renew(at, heard);
            }
        }
        told
    }

    /// A container that gave up its claim for `at` does not want the key it had for it.
    fn withdraw(&mut self, at: &str, id: &ContainerId, heard: Option<Instant>) {
        if self.claims.of(at).iter().any(|claim| claim.container == *id) {
            return;
        }
        let Some(wanted) = self.containers.held.get_mut(id).and_then(|held| held.keys.remove(at)) else { return };
        if self.wanted.get(&wanted).is_some_and(|service| container_of(service).as_ref() == Some(id)) {
            self.set_wanted(&wanted, None);
        }
        self.items.renew(&wanted, heard);
    }

    fn vanish(&mut self, id: &ContainerId, heard: Option<Instant>) {
        let held = self.containers.forget(id);
        if let Some(keys) = self.registered.get(id)
            && !keys.is_empty()
        {
            self.gone.insert(id.clone());
            for at in keys {
                self.items.renew(at, heard);
            }
        }
        for (at, double) in &self.doubles {
            if own::container(double).as_ref() == Some(id) {
                self.gone.insert(id.clone());
                self.items.renew(at, heard);
            }
        }
        let (keys, name) = held.map(|held| (held.keys, held.sight.container.name.clone())).unwrap_or_default();
        for (at, wanted) in keys {
            self.claims.remove(&at, id);
            if self.wanted.get(&wanted).is_some_and(|service| container_of(service).as_ref() == Some(id)) {
                self.set_wanted(&wanted, None);
            }
            self.items.renew(&wanted, heard);
            self.settle(&at, heard);
        }
        for dependent in self.containers.dependents_of(id, &name) {
            self.mean(&dependent, heard);
        }
    }

    /// Decides anew who gets the id `at`, and who gets one of their own.
    fn settle(&mut self, at: &str, heard: Option<Instant>) {
        if self.claims.of(at).is_empty() {
            return;
        }
        let occupant = self.occupant(at);
        for (container, service) in self.claims.settle(at, &occupant) {
            let now = key(&service.id);
            let Some(held) = self.containers.held.get_mut(&container) else { continue };
            let before = held.keys.insert(at.to_owned(), now.clone());
            if let Some(before) = before.filter(|before| *before != now) {
                if self.wanted.get(&before).is_some_and(|service| container_of(service).as_ref() == Some(&container)) {
                    self.set_wanted(&before, None);
                }
                self.items.renew(&before, heard);
            }
            if self.wanted.get(&now) != Some(&service) {
                self.set_wanted(&now, Some(service));
                self.items.renew(&now, heard);
            } else if heard.is_some() {
                self.items.touch(&now, heard);
            }
        }
    }

    fn occupant(&self, at: &str) -> Occupant {
        // No label may take, or hide, the agent's own service.
        if at == self.own_key || self.contested.contains(at) {
            return Occupant::Stranger;
        }
        let Some(actual) = self.actual.get(at) else { return Occupant::Free };
        match own::owner(actual, &self.settings) {
            Owner::Ours(Some(container)) => Occupant::Container(container),
            Owner::Ours(None) => Occupant::Free,
            Owner::Namesake { engine, .. } if self.is_past(&engine) => Occupant::Free,
            Owner::Unmarked if self.claims.of(at).iter().all(|claim| own::adoptable(actual, &claim.service)) => {
                Occupant::Free
            }
            Owner::Namesake { .. } | Owner::Unmarked | Owner::Foreign => Occupant::Stranger,
        }
    }

    fn decide(&mut self, at: &str) -> Option<Op> {
        if let Some(double) = self.doubles.get(at).cloned()
            && let Owner::Ours(Some(container)) = own::owner(&double, &self.settings)
            && let Some(op) = self.unwanted(double, container)
        {
            return Some(op);
        }
        let actual = self.actual.get(at);
        if let Some(wanted) = self.wanted.get(at) {
            if let Some(actual) = actual
                && !self.may_overwrite(actual, wanted)
            {
                return None;
            }
            if let Some(holder) = actual.and_then(|actual| self.unknown_holder(actual, wanted)) {
                self.ask(holder);
                return None;
            }
            return diff::towards(wanted, actual).or_else(|| {
                let check = diff::fed_check(wanted).filter(|_| self.beats.contains(at))?;
                Some(Op::UpdateCheck { id: check.id.clone(), status: check.status, output: check.output.clone() })
            });
        }
        let actual = actual?;
        match own::owner(actual, &self.settings) {
            // Our own service under another id: the node was renamed.
            Owner::Ours(None) => own::agent_of(actual).map(|_| Op::Deregister(actual.id.clone())),
            Owner::Ours(Some(container)) => self.unwanted(actual.clone(), container),
            Owner::Namesake { engine, container: Some(container) } if self.is_past(&engine) => {
                self.unwanted(actual.clone(), container)
            }
            Owner::Namesake { .. } | Owner::Unmarked | Owner::Foreign => None,
        }
    }

    fn may_overwrite(&self, actual: &ActualService, wanted: &Service) -> bool {
        match own::owner(actual, &self.settings) {
            Owner::Ours(_) => true,
            Owner::Namesake { engine, .. } => self.is_past(&engine),
            Owner::Unmarked => own::adoptable(actual, wanted),
            Owner::Foreign => false,
        }
    }

    /// What to do with a registration of ours that nobody wants: it goes only if Docker has said that its container does
    /// not exist, does not run, or means something else now.
    fn unwanted(&mut self, actual: ActualService, container: ContainerId) -> Option<Op> {
        match self.containers.held.get(&container) {
            Some(Held { hold: Some((status, output)), .. }) => {
                diff::report(&Service::docker_check_id(&actual.id), *status, output, &actual)
            }
            Some(held) if held.waits => None,
            // Make before break: the new one is on its way.
            Some(held) if self.stands_in(&actual, &container, held) => None,
            Some(_) => Some(Op::Deregister(actual.id)),
            None if self.gone.contains(&container) => Some(Op::Deregister(actual.id)),
            None => {
                self.ask(container);
                None
            }
        }
    }

    /// Whether this registration stands in for one that its container wants and does not have yet. If Consul refuses that
    /// one, only as long as it says the same: reached under an old id is better than not at all, but not at an old port.
    fn stands_in(&self, actual: &ActualService, container: &ContainerId, held: &Held) -> bool {
        held.keys.values().any(|at| {
            let Some(wanted) = self.wanted.get(at) else { return false };
            let registered = self.registered.get(container).is_some_and(|keys| keys.contains(at));
            let allowed = self.actual.get(at).is_none_or(|there| self.may_overwrite(there, wanted));
            let same = (&wanted.name, &wanted.address, wanted.port) == (&actual.name, &actual.address, actual.port);
            !registered && allowed && (same || self.items.failure(at).is_none())
        })
    }

    /// What is registered for the container of this definition and not wanted any more: its time may have come.
    fn retire(&mut self, wanted: Option<&Arc<Service>>) {
        let Some(container) = wanted.and_then(|service| container_of(service)) else { return };
        for at in self.registered.get(&container).into_iter().flatten() {
            if !self.wanted.contains_key(at) {
                self.items.touch(at, None);
            }
        }
    }

    /// The container that has what `wanted` is to overwrite, if nobody has told yet what became of it: after a start
    /// both may run, and whoever has an id keeps it.
    fn unknown_holder(&self, actual: &ActualService, wanted: &Service) -> Option<ContainerId> {
        let (Owner::Ours(Some(holder)) | Owner::Namesake { container: Some(holder), .. }) =
            own::owner(actual, &self.settings)
        else {
            return None;
        };
        let known = match self.containers.held.get(&holder) {
            Some(held) => !held.waits,
            None => self.gone.contains(&holder),
        };
        (!known && container_of(wanted).as_ref() != Some(&holder)).then_some(holder)
    }

    fn ask(&mut self, container: ContainerId) {
        if self.asked.insert(container.clone()) {
            self.asks.push(container);
        }
    }

    fn is_past(&self, engine: &str) -> bool {
        self.past.contains(engine)
    }

    /// Notes which engines appear in marks without an agent of theirs being registered. Returns the keys of those that were
    /// taken for the past and are not.
    fn note_agents(&mut self, shown: &HashMap<String, &ActualService>, now: Instant) -> Vec<String> {
        let present: HashSet<&str> = shown.values().filter_map(|service| own::agent_of(service)).collect();
        let mut absent: HashSet<String> = HashSet::new();
        for service in shown.values() {
            if let Owner::Namesake { engine, .. } = own::owner(service, &self.settings)
                && !present.contains(engine.as_str())
            {
                absent.insert(engine);
            }
        }
        self.absent.retain(|engine, _| absent.contains(engine));
        let (past, back): (HashSet<String>, HashSet<String>) =
            std::mem::take(&mut self.past).into_iter().partition(|engine| absent.contains(engine));
        self.past = past;
        for engine in absent {
            self.absent.entry(engine).or_insert(now);
        }
        back.iter().flat_map(|engine| self.keys_of(engine)).collect()
    }

    /// What is registered with the mark of this engine.
    fn keys_of(&self, engine: &str) -> Vec<String> {
        let of_engine =
            |service: &ActualService| service.meta.get(Service::META_ENGINE).is_some_and(|mark| mark == engine);
        self.actual.iter().filter(|(_, service)| of_engine(service)).map(|(at, _)| at.clone()).collect()
    }

    /// Time passes: an engine without an agent becomes the past, and its registrations are looked at.
    pub fn tick(&mut self, now: Instant) {
        let gone_by: Vec<String> = self
            .absent
            .iter()
            .filter(|(engine, since)| now >= **since + NAMESAKE_AWAY && !self.past.contains(*engine))
            .map(|(engine, _)| engine.clone())
            .collect();
        for engine in gone_by {
            let keys = self.keys_of(&engine);
            self.past.insert(engine);
            for at in keys {
                self.settle(&at, None);
                self.items.touch(&at, None);
            }
        }
    }

    /// Whether a snapshot says nothing about this key, because it may be older than our last write there.
    fn just_written(&mut self, at: &str) -> bool {
        let just_written = self.written.contains(at) || self.items.is_running(at);
        self.ahead |= just_written;
        just_written
    }

    fn set_wanted(&mut self, at: &str, service: Option<Arc<Service>>) {
        let now = service.is_some();
        let before = match service {
            Some(service) => self.wanted.insert(at.to_owned(), service),
            None => self.wanted.remove(at),
        };
        if self.actual.contains_key(at) {
            self.published = self.published + usize::from(now) - usize::from(before.is_some());
        }
        if !now {
            self.beats.remove(at);
        }
        self.retire(before.as_ref());
    }

    fn set_actual(&mut self, at: &str, service: Option<ActualService>) {
        if self.wanted.contains_key(at) {
            let (now, before) = (service.is_some(), self.actual.contains_key(at));
            self.published = self.published + usize::from(now) - usize::from(before);
        }
        let container = |service: &ActualService| match own::owner(service, &self.settings) {
            Owner::Ours(container) | Owner::Namesake { container, .. } => container,
            Owner::Unmarked | Owner::Foreign => None,
        };
        let now = service.as_ref().and_then(container);
        let before = match service {
            Some(service) => self.actual.insert(at.to_owned(), service),
            None => self.actual.remove(at),
        };
        let before = before.as_ref().and_then(container);
        if before != now {
            if let Some(before) = before {
                self.unindex(&before, at);
            }
            if let Some(now) = now {
                self.registered.entry(now).or_default().insert(at.to_owned());
            }
        }
        self.retire(self.wanted.get(at).cloned().as_ref());
    }

    fn unindex(&mut self, container: &ContainerId, at: &str) {
        if let Some(keys) = self.registered.get_mut(container) {
            keys.remove(at);
            if keys.is_empty() {
                self.registered.remove(container);
                self.gone.remove(container);
            }
        }
    }
}

fn container_of(service: &Service) -> Option<ContainerId> {
    service.meta.get(Service::META_CONTAINER).map(ContainerId::new)
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
