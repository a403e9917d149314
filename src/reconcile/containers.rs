//! The containers that the observation told about, found by id and by name, and which of them depend on which. Pure.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use arcstr::ArcStr;
use litemap::LiteMap;

use crate::consul::Status;
use crate::docker::{ContainerId, Sight, State};
use crate::registration::{self, Note, Peers};

/// A container with what it means.
pub struct Held {
    /// What was seen of it last.
    pub sight: Sight,
    /// Its registrations stay, with this status and output.
    pub hold: Option<(Status, ArcStr)>,
    /// The id it wishes for, lower-case → the key under which it is wanted.
    pub keys: LiteMap<ArcStr, ArcStr>,
    /// What was told about its labels.
    pub notes: Box<[Note]>,
    /// Why nothing is registered for it.
    pub nothing: Option<ArcStr>,
    /// It cannot be judged before another one has been looked at: everything stays as it is.
    pub waits: bool,
    /// Something was to be registered for it since the agent started.
    pub meant: bool,
}

impl Held {
    /// Whatever is registered for it stays where it is.
    #[must_use]
    pub const fn stays(&self) -> bool {
        self.waits || self.hold.is_some()
    }

    /// Whether it runs as it did before the agent started, and nothing was to be registered for it ever since: then what is
    /// registered for it is from an agent with other settings.
    #[must_use]
    pub fn changed_its_meaning(&self) -> bool {
        !self.meant && !self.sight.draining && self.sight.container.state == State::Running
    }
}

/// See the module's header.
#[derive(Default)]
pub struct Containers {
    /// All of them. Boxed: half of a large table is empty.
    pub held: HashMap<ContainerId, Box<Held>>,
    pub(super) names: HashMap<ArcStr, ContainerId>,
    /// Ids and names that others depend on and that Docker says do not exist (any more).
    gone: HashSet<String>,
    /// Containers whose meaning depends on the one with this id or name.
    pub(super) dependents: HashMap<String, BTreeSet<ContainerId>>,
}

impl Peers for Containers {
    fn is_gone(&self, id_or_name: &str) -> bool {
        self.gone.contains(id_or_name)
    }

    fn find(&self, id_or_name: &str) -> Option<Sight> {
        let by_id = self.held.get(&ContainerId::new(id_or_name));
        by_id.or_else(|| self.held.get(self.names.get(id_or_name)?)).map(|held| held.sight.clone())
    }
}

impl Containers {
    /// Puts the sight in its place, so that peers find it.
    pub fn remember(&mut self, id: &ContainerId, sight: Sight) {
        let before = self.held.get(id).map(|held| held.sight.clone());
        if let Some(before) = before.filter(|before| before.container.name != sight.container.name) {
            self.unlink(id, &before);
        }
        self.names.insert(sight.container.name.clone(), id.clone());
        for name in [id.as_str(), id.short(), &sight.container.name] {
            self.gone.remove(name);
        }
        for on in registration::depends_on(&sight.container) {
            self.dependents.entry(on.to_owned()).or_default().insert(id.clone());
        }
        if let Some(held) = self.held.get_mut(id) {
            held.sight = sight;
            return;
        }
        let (keys, notes) = (LiteMap::with_capacity(1), Box::default());
        let held = Held { sight, hold: None, keys, notes, nothing: None, waits: false, meant: false };
        self.held.insert(id.clone(), Box::new(held));
    }

    /// It does not exist (any more). Returns what was known of it, and who depended on it.
    pub fn forget(&mut self, id: &ContainerId) -> (Option<Box<Held>>, Vec<ContainerId>) {
        let held = self.held.remove(id);
        if let Some(held) = &held {
            self.unlink(id, &held.sight);
        }
        let name = held.as_ref().map_or("", |held| &held.sight.container.name);
        for on in [id.as_str(), id.short(), name] {
            if self.dependents.contains_key(on) {
                self.gone.insert(on.to_owned());
            }
        }
        let dependents = self.dependents_on(id, name);
        (held, dependents)
    }

    fn unlink(&mut self, id: &ContainerId, sight: &Sight) {
        if self.names.get(&sight.container.name) == Some(id) {
            self.names.remove(&sight.container.name);
        }
        for on in registration::depends_on(&sight.container) {
            if let Some(dependents) = self.dependents.get_mut(on) {
                dependents.remove(id);
                if dependents.is_empty() {
                    self.dependents.remove(on);
                    self.gone.remove(on);
                }
            }
        }
    }

    /// Everything that may mean something else now that this one changed, and what depends on that in turn, nearest first.
    #[must_use]
    pub fn dependents_of(&self, sight: &Sight) -> Vec<ContainerId> {
        self.dependents_on(&sight.container.id, &sight.container.name)
    }

    fn dependents_on(&self, of: &ContainerId, name: &str) -> Vec<ContainerId> {
        let mut found: Vec<ContainerId> = Vec::new();
        let mut queue = VecDeque::from([(of, name)]);
        while let Some((id, name)) = queue.pop_front() {
            for dependent in [id.as_str(), id.short(), name].iter().filter_map(|on| self.dependents.get(*on)).flatten()
            {
                if dependent != of && !found.contains(dependent) {
                    found.push(dependent.clone());
                    let held = self.held.get_key_value(dependent);
                    queue.extend(held.map(|(id, held)| (id, held.sight.container.name.as_str())));
                }
            }
        }
        found
    }
}
