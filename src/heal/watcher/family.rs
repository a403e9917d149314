//! Who shares whose namespaces. A dependent holds its parent's *id*: when the parent was replaced, the dependent's namespace is
//! gone for good; when it was restarted, the dependent has only its loopback left.

use std::net::Ipv4Addr;

use arcstr::ArcStr;

use super::{Watched, Watcher};
use crate::consul::Store;
use crate::docker::names::{self, Role};
use crate::docker::spec::label;
use crate::docker::{Container, ContainerId, Control, Engine, NetworkMode, Sight, State};
use crate::heal::cause::Diagnosis;
use crate::registration::Peers;
use crate::text::part;

impl<E: Engine + Control, S: Store> Peers for Watcher<E, S> {
    fn find(&self, id_or_name: &str) -> Option<Sight> {
        let by_id = self.watched.get(&ContainerId::new(id_or_name));
        let by_name = || {
            self.watched
                .values()
                .find(|it| it.sight.container.name == id_or_name || it.sight.container.id.short() == id_or_name)
        };
        by_id.or_else(by_name).map(|watched| watched.sight.clone())
    }

    fn is_gone(&self, id_or_name: &str) -> bool {
        self.complete && self.find(id_or_name).is_none()
    }
}

impl<E: Engine + Control, S: Store> Watcher<E, S> {
    /// Notes whose places this one has.
    pub(super) fn learn(&mut self, container: &Container) {
        let (place, role) = names::logical(&container.name);
        if role != Role::Settled {
            return;
        }
        if container.state == State::Running {
            self.known.insert(part(&container.name, place));
        }
        for former in container.labels.get(label::REPLACES).into_iter().flat_map(|ids| ids.split(',')) {
            if !former.is_empty() && former != container.id.as_str() {
                self.successors.insert(former.to_owned(), container.id.clone());
            }
        }
    }

    /// It is gone; somebody may have its place.
    pub(super) fn forget_family(&mut self, id: &ContainerId) {
        self.successors.retain(|_, has| has != id);
    }

    /// What is wrong with the container whose namespace this one shares.
    pub(super) fn orphaned(&self, container: &Container) -> Option<String> {
        if !self.complete {
            return None;
        }
        parents(container).find_map(|parent| {
            let Some(there) = self.find(parent) else {
                let successor = self.successors.get(parent).and_then(|id| self.watched.get(id))?;
                let runs = successor.sight.container.state == State::Running;
                return runs
                    .then(|| format!("{}, whose namespace it shares, was replaced", successor.sight.container.name));
            };
            let started = |of: &Container| of.started_at;
            let later = started(&there.container) > started(container);
            (there.container.state == State::Running && later)
                .then(|| format!("{}, whose namespace it shares, was started again", there.container.name))
        })
    }

    /// Former ids of its parents → who has their places now.
    pub(super) fn parents_now(&self, container: &Container) -> std::collections::BTreeMap<String, String> {
        parents(container)
            .filter(|parent| self.find(parent).is_none())
            .filter_map(|parent| Some((parent.to_owned(), self.successors.get(parent)?.as_str().to_owned())))
            .collect()
    }

    /// Whether one of its parents has to be healed first, or may have to, or does not run: then it cannot be started.
    pub(super) fn waits_for_parent(&self, container: &Container) -> Option<String> {
        parents(container).find_map(|parent| {
            let there =
                self.watched.iter().find(|(id, it)| id.as_str() == parent || it.sight.container.name == parent)?;
            let ill = matches!(there.1.diagnosis, Diagnosis::Sick { .. } | Diagnosis::Watch { .. });
            let down = there.1.sight.container.state != State::Running;
            (ill || down).then(|| there.1.sight.container.name.to_string())
        })
    }

    /// Looks after it from now on.
    pub(super) fn put(&mut self, id: &ContainerId, watched: Watched) {
        let container = &watched.sight.container;
        if parents(container).next().is_some() {
            self.sharing.insert(id.clone());
        }
        *self.places.entry(part(&container.name, Self::place_of(&container.name))).or_default() += 1;
        self.watched.insert(id.clone(), Box::new(watched));
    }

    /// Not any more.
    pub(super) fn take(&mut self, id: &ContainerId) -> Option<Box<Watched>> {
        let watched = self.watched.remove(id)?;
        self.sharing.remove(id);
        let place = Self::place_of(&watched.sight.container.name);
        if let Some(count) = self.places.get_mut(place) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.places.remove(place);
            }
        }
        Some(watched)
    }

    /// Containers that share a namespace of this one, by its id, its name, or an id that it has taken the place of.
    pub(super) fn dependents(&self, of: &Container) -> Vec<ContainerId> {
        let former = of.labels.get(label::REPLACES).map(ArcStr::as_str).unwrap_or_default();
        let is_of = |parent: &str| {
            parent == of.id.as_str()
                || parent == of.name
                || (!former.is_empty() && former.split(',').any(|id| id == parent))
        };
        let shares =
            |id: &&ContainerId| self.watched.get(*id).is_some_and(|it| parents(&it.sight.container).any(is_of));
        self.sharing.iter().filter(shares).cloned().collect()
    }

    /// Whether others link to it (`--link`).
    pub(super) fn is_linked(&self, container: &Container) -> bool {
        self.watched.values().any(|it| it.sight.container.life.links.contains(&container.name))
    }
}

/// What ended has neither ports nor addresses any more. Whether it is published is asked of what it will have when it runs.
pub(super) fn as_if_it_ran(container: &Container) -> Container {
    let mut running = container.clone();
    running.state = State::Running;
    if running.bindings.is_empty() {
        running.bindings.clone_from(&container.life.published);
    }
    for binding in running.bindings.iter_mut().flat_map(|(_, bindings)| bindings) {
        // Which one Docker chooses makes no difference.
        binding.host_port = binding.host_port.max(1);
    }
    for (_, endpoint) in running.networks.iter_mut().filter(|(_, it)| it.ipv4.is_none() && it.ipv6.is_none()) {
        // Any address: one of those that are reserved for examples (RFC 5737).
        endpoint.ipv4 = Some(Ipv4Addr::new(192, 0, 2, 1));
    }
    running
}

/// The containers whose namespaces it shares, as Docker names them.
fn parents(container: &Container) -> impl Iterator<Item = &str> {
    let network = match &container.network_mode {
        NetworkMode::Container(owner) => Some(owner.as_str()),
        _ => None,
    };
    network.into_iter().chain(container.life.namespaces.iter().map(ArcStr::as_str))
}
