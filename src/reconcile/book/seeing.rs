//! What the observation saw, and what that means: who claims which id, and what is not wanted any more.

use std::collections::HashMap;
use std::sync::Arc;

use arcstr::ArcStr;
use tokio::time::Instant;

use super::{Book, Told, container_of};
use crate::consul::Service;
use crate::docker::names::logical;
use crate::docker::{ContainerId, Sight};
use crate::reconcile::claims::Claim;
use crate::reconcile::healing;
use crate::reconcile::shown::key;
use crate::registration::{Planned, Registration, Verdict};

/// Digits of a full container id.
const FULL_ID: usize = 64;

impl Book {
    pub(super) fn here(&mut self, id: &ContainerId, sight: &Sight, heard: Option<Instant>) -> Vec<Told> {
        self.gone.remove(id);
        // Under its old name others may have depended on it.
        let mut dependents = match self.containers.held.get(id) {
            Some(held) if held.sight.container.name != sight.container.name => {
                self.containers.dependents_of(&held.sight)
            }
            _ => Vec::new(),
        };
        let before = self.containers.held.get(id).map(|held| &held.sight.container.started_at);
        let restarted = before.is_some_and(|before| *before != sight.container.started_at);
        self.containers.remember(id, sight.clone());
        if restarted {
            // Whatever kept its registrations from being tried again was about its life before.
            for at in self.containers.held.get(id).into_iter().flat_map(|held| held.keys.values()) {
                self.items.renew(at, heard);
            }
        }
        let mut told = Vec::from_iter(self.mean(id, heard));
        dependents.extend(self.containers.dependents_of(sight));
        for dependent in dependents {
            told.extend(self.mean(&dependent, heard));
        }
        told
    }

    /// Works out anew what a container means.
    pub(super) fn mean(&mut self, id: &ContainerId, heard: Option<Instant>) -> Option<Told> {
        let sight = self.containers.held.get(id)?.sight.clone();
        let mut told =
            Told { notes: Vec::new(), nothing: None, id: id.clone(), name: sight.container.name.to_string() };
        let Registration { verdict, notes } =
            healing::register(&sight, &self.containers, &self.settings, &self.healing, self.why_given_up(id));
        let (services, hold_on, nothing) = match verdict {
            Verdict::Services(planned) => (planned, None, None),
            Verdict::Nothing(reason) => (Vec::new(), None, Some(reason)),
            Verdict::Hold { status, output } => (Vec::new(), Some((status, output)), None),
            Verdict::Wait { peer, reason } => {
                // Nothing is changed for its sake. A full id can be asked for; a name will be in the list, or is gone.
                let asked = ContainerId::new(peer);
                if asked.as_str().len() == FULL_ID {
                    self.ask(asked);
                }
                let held = self.containers.held.get_mut(id)?;
                held.waits = true;
                told.nothing = (held.nothing.as_deref() != Some(&reason)).then(|| reason.clone());
                held.nothing = Some(reason.into());
                return Some(told);
            }
        };
        let mut claims: HashMap<ArcStr, Arc<Service>> = HashMap::new();
        for Planned { mut service, .. } in services {
            let at = key(&service.id);
            let before = self.claims.get(&at, id).map(|claim| &claim.service);
            let service = match before {
                Some(before) if **before == service => Arc::clone(before),
                _ => {
                    if let Some(before) = before {
                        service.share(before);
                    }
                    self.texts.share(&mut service.name);
                    self.texts.share(&mut service.address);
                    let own = [sight.container.id.text(), &sight.container.name];
                    service.meta.share_texts(&mut self.texts, &own, Service::META_HASH);
                    for check in &mut service.checks {
                        self.texts.share(&mut check.notes);
                    }
                    Arc::new(service)
                }
            };
            claims.insert(key(&service.id), service);
        }
        let mut stirred: Vec<ArcStr> = Vec::new();
        if let Some(held) = self.containers.held.get_mut(id) {
            held.waits = false;
            held.meant |= !claims.is_empty();
            held.hold = hold_on.map(|(status, output)| (status, output.into()));
            told.notes = notes.iter().filter(|note| !held.notes.contains(note)).cloned().collect();
            if nothing.as_deref() != held.nothing.as_deref() {
                told.nothing.clone_from(&nothing);
            }
            self.notes = self.notes + notes.len() - held.notes.len();
            held.notes = notes.into();
            held.nothing = nothing.map(ArcStr::from);
            stirred.extend(held.keys.keys().filter(|at| !claims.contains_key(*at)).cloned());
        }
        for at in &stirred {
            self.claims.remove(at, id);
        }
        for (at, service) in claims {
            let (name, _) = logical(&sight.container.name);
            let natural = at.starts_with(&*key(&format!("{}:{name}:", self.settings.node).into()));
            self.claims.insert(&at, id, Claim { natural, service });
            stirred.push(at);
        }
        for at in stirred {
            self.settle(&at, heard);
            self.withdraw(&at, id, heard);
        }
        // What is registered for it under ids that it does not want (any more), or that others want and did not get before
        // it was known what became of it.
        for at in self.superfluous(id) {
            self.items.renew(&at, heard);
        }
        Some(told)
    }

    /// A container that gave up its claim for `at` does not want the key it had for it.
    pub(super) fn withdraw(&mut self, at: &ArcStr, id: &ContainerId, heard: Option<Instant>) {
        if self.claims.get(at, id).is_some() {
            return;
        }
        let Some(wanted) = self.containers.held.get_mut(id).and_then(|held| held.keys.remove(at)) else { return };
        if self.wanted.get(&wanted).is_some_and(|service| container_of(service).as_ref() == Some(id)) {
            self.set_wanted(&wanted, None);
        }
        self.items.renew(&wanted, heard);
    }

    pub(super) fn vanish(&mut self, id: &ContainerId, heard: Option<Instant>) -> Vec<Told> {
        let (held, dependents) = self.containers.forget(id);
        let keys = self.registered_for(id).chain(self.doubles_of(id));
        for at in keys.cloned().collect::<Vec<_>>() {
            self.gone.insert(id.clone());
            self.items.renew(&at, heard);
        }
        self.notes -= held.as_ref().map_or(0, |held| held.notes.len());
        for (at, wanted) in held.map(|held| held.keys).unwrap_or_default() {
            self.claims.remove(&at, id);
            if self.wanted.get(&wanted).is_some_and(|service| container_of(service).as_ref() == Some(id)) {
                self.set_wanted(&wanted, None);
            }
            self.items.renew(&wanted, heard);
            self.settle(&at, heard);
        }
        dependents.iter().filter_map(|dependent| self.mean(dependent, heard)).collect()
    }
}
