//! Who gets an id, and which write comes next for a registration. The gates before every overwrite and every removal are
//! here and in [`own`].

use std::sync::Arc;

use arcstr::ArcStr;
use tokio::time::Instant;

use super::{Book, container_of};
use crate::consul::{ActualService, Service, Status};
use crate::docker::ContainerId;
use crate::reconcile::claims::Occupant;
use crate::reconcile::containers::Held;
use crate::reconcile::diff::{self, Op};
use crate::reconcile::own::{self, Owner};
use crate::reconcile::shown::key;

impl Book {
    /// Decides anew who gets the id `at`, and who gets one of their own.
    pub(super) fn settle(&mut self, at: &ArcStr, heard: Option<Instant>) {
        if self.claims.of(at).next().is_none() {
            return;
        }
        let occupant = self.occupant(at);
        let created = |id: &ContainerId| self.containers.held.get(id)?.sight.container.created;
        for (container, mut service) in self.claims.settle(at, &occupant, created) {
            let now = key(&service.id);
            while self.refused.get(&now).is_some_and(|refused| refused.contains(&service.definition_hash()))
                && let Some(fewer) = diff::with_fewer_checks(&service)
            {
                service = Arc::new(fewer);
            }
            let Some(held) = self.containers.held.get_mut(&container) else { continue };
            let before = held.keys.insert(at.clone(), now.clone());
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

    pub(super) fn occupant(&self, at: &ArcStr) -> Occupant {
        // No label may take, or hide, the agent's own service.
        if *at == self.own_key || self.contested.contains(at) {
            return Occupant::Stranger;
        }
        let Some(actual) = self.actual.get(at) else { return Occupant::Free };
        match own::owner(actual, &self.settings) {
            // It is expected back: until then nobody takes its place.
            Owner::Ours(Some(container)) if self.containers.held.get(&container).is_some_and(|held| held.stays()) => {
                Occupant::Stranger
            }
            Owner::Ours(Some(container)) => Occupant::Container(container),
            Owner::Ours(None) => Occupant::Free,
            Owner::Namesake { engine, .. } if self.is_past(&engine) => Occupant::Free,
            Owner::Unmarked if self.claims.of(at).all(|(_, claim)| own::adoptable(actual, &claim.service)) => {
                Occupant::Free
            }
            Owner::Namesake { .. } | Owner::Unmarked | Owner::Foreign => Occupant::Stranger,
        }
    }

    pub(super) fn decide(&mut self, at: &ArcStr) -> Option<Op> {
        if *at == self.own_key && !self.spoken {
            return None;
        }
        if let Some(op) = self.doubles.get(at).cloned().and_then(|double| self.double(double)) {
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
            if actual.is_some_and(|actual| self.moves_away(actual, wanted)) {
                return None;
            }
            if self.resend.contains(at) {
                return Some(Op::Register(Arc::clone(wanted)));
            }
            if *at == self.own_key && actual.is_none() {
                return Some(Op::Register(beginning(wanted)));
            }
            return self.towards(wanted, actual.map(AsRef::as_ref)).or_else(|| {
                let check = diff::beaten_check(wanted).filter(|_| self.beats.contains(at))?;
                Some(Op::UpdateCheck { id: check.id.clone(), status: check.status, output: check.output.clone() })
            });
        }
        let actual = actual?;
        match own::owner(actual, &self.settings) {
            // Our own service under another id: the node was renamed.
            Owner::Ours(None) if self.spoken => own::agent_of(actual).map(|_| Op::Deregister(actual.id.clone())),
            Owner::Ours(Some(container)) => self.unwanted(ActualService::clone(actual), container),
            Owner::Namesake { engine, container: Some(container) } if self.is_past(&engine) => {
                self.unwanted(ActualService::clone(actual), container)
            }
            Owner::Ours(None) | Owner::Namesake { .. } | Owner::Unmarked | Owner::Foreign => None,
        }
    }

    pub(super) fn may_overwrite(&self, actual: &ActualService, wanted: &Service) -> bool {
        match own::owner(actual, &self.settings) {
            Owner::Ours(_) => true,
            Owner::Namesake { engine, .. } => self.is_past(&engine),
            Owner::Unmarked => own::adoptable(actual, wanted),
            Owner::Foreign => false,
        }
    }

    /// What to do with a registration of ours that nobody wants: it goes only if Docker has said that its container does
    /// not exist, does not run, or means something else now.
    pub(super) fn unwanted(&mut self, actual: ActualService, container: ContainerId) -> Option<Op> {
        match self.containers.held.get(&container).map(AsRef::as_ref) {
            Some(Held { waits: true, .. }) => None,
            Some(Held { hold: Some((status, output)), .. }) => {
                diff::report(&Service::docker_check_id(&actual.id), *status, output, &actual)
                    .or_else(|| self.held_healing(&actual, &container))
            }
            // Make before break: the new one is on its way.
            Some(held) if self.stands_in(&actual, &container, held) => None,
            Some(held) if !self.settled_in && held.changed_its_meaning() => None,
            Some(_) => Some(Op::Deregister(actual.id)),
            None if self.gone.contains(&container) => Some(Op::Deregister(actual.id)),
            None => {
                self.ask(container);
                None
            }
        }
    }

    /// What to do with a double: as with everything that is not wanted, but it is not held. The catalog has one row for it
    /// and for what counts there, and cannot tell of both.
    fn double(&mut self, double: ActualService) -> Option<Op> {
        let Owner::Ours(Some(container)) = own::owner(&double, &self.settings) else { return None };
        match self.containers.held.get(&container).map(AsRef::as_ref) {
            Some(Held { waits: false, hold: Some(_), .. }) => Some(Op::Deregister(double.id)),
            _ => self.unwanted(double, container),
        }
    }

    /// Whether this registration stands in for one that its container wants and does not have yet. If Consul refuses that
    /// one, only as long as it says the same: reached under an old id is better than not at all, but not at an old port.
    pub(super) fn stands_in(&self, actual: &ActualService, container: &ContainerId, held: &Held) -> bool {
        held.keys.values().any(|at| {
            let Some(wanted) = self.wanted.get(at) else { return false };
            let registered = self.registered.contains(&(container.clone(), at.clone()));
            let allowed = self.actual.get(at).is_none_or(|there| self.may_overwrite(there, wanted));
            let same = (&wanted.name, &wanted.address, wanted.port) == (&actual.name, &actual.address, actual.port);
            !registered && allowed && (same || self.items.failure(at).is_none())
        })
    }

    /// Whether the container that has what `wanted` is to overwrite is about to be registered under another id, which is
    /// free: then it goes first, and there is no moment in which it is not registered.
    fn moves_away(&self, actual: &ActualService, wanted: &Service) -> bool {
        let Owner::Ours(Some(holder)) = own::owner(actual, &self.settings) else { return false };
        if container_of(wanted).as_ref() == Some(&holder) {
            return false;
        }
        let free = |at: &ArcStr| !self.actual.contains_key(at) && self.items.failure(at).is_none();
        self.containers.held.get(&holder).is_some_and(|held| held.keys.values().any(free))
    }

    /// What is registered for the container of this definition and not wanted for it any more: its time may have come.
    pub(super) fn retire(&mut self, wanted: Option<&Arc<Service>>) {
        let Some(container) = wanted.and_then(|service| container_of(service)) else { return };
        for at in self.superfluous(&container) {
            self.items.touch(&at, None);
        }
    }

    /// The keys under which something is registered for this container that is not wanted for it, be it as a double of
    /// what counts there.
    pub(super) fn superfluous(&self, container: &ContainerId) -> Vec<ArcStr> {
        let wants =
            |at: &ArcStr| self.wanted.get(at).and_then(|service| container_of(service)).as_ref() == Some(container);
        let keys = self.registered_for(container).filter(|at| !wants(at));
        keys.chain(self.doubles_of(container)).cloned().collect()
    }

    /// The container that has what `wanted` is to overwrite, if nobody has told yet what became of it: after a start
    /// both may run, and whoever has an id keeps it.
    pub(super) fn unknown_holder(&self, actual: &ActualService, wanted: &Service) -> Option<ContainerId> {
        let (Owner::Ours(Some(holder)) | Owner::Namesake { container: Some(holder), .. }) =
            own::owner(actual, &self.settings)
        else {
            return None;
        };
        let known = self.containers.held.contains_key(&holder) || self.gone.contains(&holder);
        (!known && container_of(wanted).as_ref() != Some(&holder)).then_some(holder)
    }

    pub(super) fn ask(&mut self, container: ContainerId) {
        if self.asked.insert(container.clone()) {
            self.asks.push(container);
        }
    }
}

/// The agent's own service as it is registered first: with another status than it is about to have. A registration carries no
/// output, and an output alone reaches the catalog minutes later; with a new status it is there at once.
fn beginning(own: &Arc<Service>) -> Arc<Service> {
    let mut first = Service::clone(own);
    for check in &mut first.checks {
        check.status = if check.status == Status::Warning { Status::Critical } else { Status::Warning };
    }
    Arc::new(first)
}
