//! The containers that the observation told about, found by id and by name, and which of them depend on which. Pure.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::consul::Status;
use crate::docker::{ContainerId, NetworkMode, Sight, State};
use crate::registration::{Note, Peers};

/// A container with what it means.
pub struct Held {
    /// What was seen of it last.
    pub sight: Arc<Sight>,
    /// Its registrations stay, with this status and output.
    pub hold: Option<(Status, String)>,
    /// The id it wishes for, lower-case → the key under which it is wanted.
    pub keys: HashMap<String, String>,
    /// What was told about its labels.
    pub notes: Vec<Note>,
    /// What it means depends on a container about which nobody has told yet: everything stays as it is.
    pub waits: bool,
    /// Why nothing is registered for it.
    pub nothing: Option<String>,
}

/// See the module's header.
#[derive(Default)]
pub struct Containers {
    /// All of them.
    pub held: HashMap<ContainerId, Held>,
    pub(super) names: HashMap<String, ContainerId>,
    /// Containers whose meaning depends on the one with this id or name.
    pub(super) dependents: HashMap<String, BTreeSet<ContainerId>>,
    /// Those of them, by id, of which Docker has said that they do not exist.
    pub(super) missing: HashSet<String>,
}

impl Peers for Containers {
    fn find(&self, id_or_name: &str) -> Option<Arc<Sight>> {
        let by_id = self.held.get(&ContainerId::new(id_or_name));
        by_id.or_else(|| self.held.get(self.names.get(id_or_name)?)).map(|held| Arc::clone(&held.sight))
    }
}

impl Containers {
    /// Puts the sight in its place, so that peers find it.
    pub fn remember(&mut self, id: &ContainerId, sight: Arc<Sight>) {
        let before = self.held.get(id).map(|held| Arc::clone(&held.sight));
        if let Some(before) = before.filter(|before| before.container.name != sight.container.name) {
            self.unlink(id, &before);
        }
        self.missing.remove(id.as_str());
        self.names.insert(sight.container.name.clone(), id.clone());
        for on in depends_on(&sight) {
            self.dependents.entry(on.to_owned()).or_default().insert(id.clone());
        }
        if let Some(held) = self.held.get_mut(id) {
            held.sight = sight;
            return;
        }
        let held = Held { sight, hold: None, waits: false, keys: HashMap::new(), notes: Vec::new(), nothing: None };
        self.held.insert(id.clone(), held);
    }

    /// It does not exist (any more).
    pub fn forget(&mut self, id: &ContainerId) -> Option<Held> {
        if self.dependents.contains_key(id.as_str()) {
            self.missing.insert(id.as_str().to_owned());
        }
        let held = self.held.remove(id)?;
        self.unlink(id, &held.sight);
        Some(held)
    }

    /// The container on the way to the owner of the network that this one shares about which nobody has told yet, if it is
    /// named by its id: then it can be asked for. Of a container that does not run nobody needs to know that.
    pub fn unknown_owner(&self, sight: &Sight) -> Option<ContainerId> {
        /// Digits of a full id.
        const FULL: usize = 64;
        let runs = matches!(sight.container.state, State::Running | State::Paused | State::Unknown(_));
        if sight.draining || !runs {
            return None;
        }
        let mut mode = &sight.container.network_mode;
        // A chain longer than there are containers is a circle.
        for _ in 0..=self.held.len() {
            let NetworkMode::Container(owner) = mode else { return None };
            let by_name = || self.names.get(owner).and_then(|id| self.held.get(id));
            let Some(held) = self.held.get(&ContainerId::new(owner.as_str())).or_else(by_name) else {
                let unknown = owner.len() == FULL && !self.missing.contains(owner);
                return unknown.then(|| ContainerId::new(owner.as_str()));
            };
            mode = &held.sight.container.network_mode;
        }
        None
    }

    fn unlink(&mut self, id: &ContainerId, sight: &Sight) {
        if self.names.get(&sight.container.name) == Some(id) {
            self.names.remove(&sight.container.name);
        }
        for on in depends_on(sight) {
            if let Some(dependents) = self.dependents.get_mut(on) {
                dependents.remove(id);
                if dependents.is_empty() {
                    self.dependents.remove(on);
                    self.missing.remove(on);
                }
            }
        }
    }

    /// Everything that may mean something else now that the container with this id and name changed, and what depends on
    /// that in turn, nearest first.
    pub fn dependents_of(&self, id: &ContainerId, name: &str) -> Vec<ContainerId> {
        let mut found: Vec<ContainerId> = Vec::new();
        let mut queue = VecDeque::from([(id, name)]);
        while let Some((near, name)) = queue.pop_front() {
            for dependent in
                [near.as_str(), near.short(), name].iter().filter_map(|on| self.dependents.get(*on)).flatten()
            {
                if dependent != id && !found.contains(dependent) {
                    found.push(dependent.clone());
                    let held = self.held.get_key_value(dependent);
                    queue.extend(held.map(|(id, held)| (id, held.sight.container.name.as_str())));
                }
            }
        }
        found
    }
}

/// The ids and names of containers on which the meaning of this one depends: the owner of the network that it shares, and
/// the container that it is to replace (`web.new-…`).
fn depends_on(sight: &Sight) -> impl Iterator<Item = &str> {
    let owner = match &sight.container.network_mode {
        NetworkMode::Container(owner) => Some(owner.as_str()),
        _ => None,
    };
    owner.into_iter().chain(sight.container.name.rsplit_once(".new-").map(|(replaced, _)| replaced))
}
