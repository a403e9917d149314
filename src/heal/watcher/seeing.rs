//! What is kept of a container when it is seen, and forgotten when it is gone.

use std::sync::Arc;

use arcstr::ArcStr;
use tokio::time::Instant;

use super::{Watched, Watcher, family};
use crate::consul::Store;
use crate::docker::names::{self, Role};
use crate::docker::{Container, ContainerId, Control, Engine, Sight, State};
use crate::heal::cause::Diagnosis;
use crate::heal::policy::{self, Policy};
use crate::registration;

impl<E: Engine + Control, S: Store> Watcher<E, S> {
    pub(super) fn see(&mut self, container: &Arc<Container>, now: Instant) {
        let id = container.id.clone();
        self.histories.entry(id.clone()).or_default().seen(container, now);
        self.learn(container);
        let before = self.take(&id);
        let known_before = before.is_some();
        let sight = Sight { container: Arc::clone(container), draining: false, settling: false };
        let published = before.as_ref().is_some_and(|before| before.published) || self.is_published(&sight);
        let same_labels = before.as_ref().filter(|before| before.sight.container.labels == container.labels);
        let policy = if let Some(before) = same_labels.filter(|before| before.published == published) {
            Arc::clone(&before.policy)
        } else {
            let (policy, notes) = policy::policy(container, &self.place.heal, published);
            for note in notes.iter().filter(|_| same_labels.is_none()) {
                tracing::warn!(event = "heal_label", container = %id, name = %container.name, label = %note.about, "{}: {}: {}", container.name, note.about, note.text);
            }
            self.shared(policy)
        };
        let (critical, diagnosis, well_since, told, due) = before
            .map_or((None, Diagnosis::Well, None, ArcStr::new(), None), |before| {
                (before.critical, before.diagnosis, before.well_since, before.told, before.due)
            });
        let hands_off = match names::logical(&container.name).1 {
            Role::Failed => Some("a replacement that failed, kept to be looked at".to_owned()),
            _ => self.place.never.reason(container, &policy),
        }
        .map(ArcStr::from);
        let watched = Watched { sight, policy, hands_off, published, critical, diagnosis, well_since, told, due };
        self.put(&id, watched);
        // A quarantine is the place's: whoever takes it is given up, too.
        if !known_before
            && self.records.get(Self::place_of(&container.name)).is_some_and(|it| it.quarantined(now).is_some())
        {
            self.show();
        }
        self.consider(&id, now);
        for dependent in self.dependents(container) {
            self.consider(&dependent, now);
        }
    }

    /// Most containers have the same policy: one copy of each is enough.
    fn shared(&self, policy: Policy) -> Arc<Policy> {
        let same = self.watched.values().find(|it| *it.policy == policy);
        same.map_or_else(|| Arc::new(policy), |it| Arc::clone(&it.policy))
    }

    pub(super) fn vanish(&mut self, id: &ContainerId) {
        self.histories.remove(id);
        self.forget_family(id);
        let Some(gone) = self.take(id) else { return };
        if let Some(due) = gone.due {
            self.due.remove(&(due, id.clone()));
        }
        let place = Self::place_of(&gone.sight.container.name);
        if !self.places.contains_key(place) {
            // An operator removed it: nothing is sick there any more.
            self.node.mark(place, None);
            self.known.remove(place);
        }
        self.show();
        let now = Instant::now();
        for dependent in self.dependents(&gone.sight.container) {
            self.consider(&dependent, now);
        }
    }

    /// Histories of containers that are long gone: the engine's ring tells of them too.
    pub(super) fn prune(&mut self) {
        const SPARE: usize = 1024;
        if self.complete && self.histories.len() > self.watched.len() + SPARE {
            let watched = &self.watched;
            self.histories.retain(|id, _| watched.contains_key(id));
        }
    }

    fn is_published(&self, sight: &Sight) -> bool {
        if sight.container.labels.contains_key(crate::docker::spec::label::OP) {
            // It has the place of one that was: published by us, unless it is another agent's on this engine.
            return registration::left_out(&sight.container, self, &self.place.rules).is_none();
        }
        let running = if sight.container.state == State::Running {
            sight.clone()
        } else {
            Sight { container: Arc::new(family::as_if_it_ran(&sight.container)), ..*sight }
        };
        matches!(
            registration::register(&running, self, &self.place.rules).verdict,
            registration::Verdict::Services(planned) if !planned.is_empty()
        )
    }
}
