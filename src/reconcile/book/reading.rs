//! What a read of Consul shows: what others did to ours, what was lost, and which agents there are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use tokio::time::Instant;

use super::Book;
use crate::consul::{ActualService, Check, Service, Snapshot, Status};
use crate::reconcile::diff::{self, Op};
use crate::reconcile::own::{self, Owner};
use crate::reconcile::shown::Shown;
use crate::reconcile::shown::key;
use crate::telemetry::Drift;

/// The registrations of another engine with our node name are this node's own past, and not a living namesake's, when
/// no agent of that engine has been registered here for so long. A namesake that lives re-registers itself within
/// seconds of losing its registration.
const NAMESAKE_AWAY: Duration = Duration::from_secs(60);

/// What a running container had and does not mean any more is kept for so long after a start: it means something else because
/// the agent was started with other settings, and that may be a mistake that is seen at once.
const SETTLE_IN: Duration = Duration::from_secs(60);

/// So much later than Consul we may have learnt that a check is critical: three polls.
const SEEN_LATE: Duration = Duration::from_secs(10);

/// How long Consul lets a service live whose checks are as critical as these; `None`: for ever.
fn patience(wanted: &Service, actual: &ActualService) -> Option<Duration> {
    let critical = |check: &&Check| actual.checks.get(&check.id).is_some_and(|now| now.status == Status::Critical);
    wanted.checks.iter().filter(critical).filter_map(|check| check.deregister_after).min()
}

impl Book {
    /// A read of Consul begins. Returns what was written since the one before began, as it should be there.
    pub fn reading(&mut self) -> Vec<Arc<ActualService>> {
        let written = std::mem::take(&mut self.written);
        written.iter().filter_map(|at| self.actual.get(at).cloned()).collect()
    }

    /// The same picture, with the memory of what is wanted where the two say the same; `None` when it has that already. `same`: it
    /// is the one of the last call.
    #[must_use]
    pub fn sharing(&mut self, snapshot: &Snapshot, same: bool) -> Option<Arc<Snapshot>> {
        if std::mem::replace(&mut self.shared, true) && same {
            return None;
        }
        let mut any = false;
        let services = snapshot.services.values().map(|service| {
            let sharing = self.wanted.get(&key(&service.id)).and_then(|wanted| service.sharing(wanted));
            any |= sharing.is_some();
            let service = sharing.map_or_else(|| Arc::clone(service), Arc::new);
            (service.id.clone(), service)
        });
        let sharing = Snapshot { services: services.collect() };
        any.then(|| Arc::new(sharing))
    }

    /// A read of Consul ended with this. Returns what others did to registrations of ours.
    pub fn read(&mut self, snapshot: &Snapshot, now: Instant, chance: impl Fn() -> f64) -> Vec<(ArcStr, Drift)> {
        let mut drift = Vec::new();
        self.ahead = false;
        let Shown { by_key: shown, contested, doubles } = Shown::sort(snapshot, &self.wanted, &self.settings);
        self.note_dying(&shown, now);
        let mut changed = self.note_agents(&shown, now);
        changed.extend(self.note_rivals(contested, doubles));
        for (at, service) in &shown {
            self.items.seen(at);
            if let Some(actual) = self.actual.get(at)
                && actual == *service
            {
                // One copy of the two is enough.
                if !Arc::ptr_eq(actual, service) {
                    self.actual.remove(at);
                    self.actual.insert(at.clone(), Arc::clone(service));
                }
                continue;
            }
            if self.just_written(at) {
                continue;
            }
            if let Some(kind) = self.edited(at, service) {
                drift.push((at.clone(), kind));
                self.items.contested(at, now, chance());
            }
            self.set_actual(at, Some(Arc::clone(service)));
            changed.push(at.clone());
        }
        let lost: Vec<ArcStr> = self.actual.keys().filter(|at| !shown.contains_key(*at)).cloned().collect();
        for at in lost {
            if self.just_written(&at) {
                continue;
            }
            // Who forgot us too forgot everything, and reaped nothing.
            let reaped = shown.contains_key(&self.own_key) && self.is_reaped(&at, now);
            self.set_actual(&at, None);
            if reaped {
                drift.push((at.clone(), Drift::Reaped));
                self.items.reaped(&at, now, chance());
            } else if self.wanted.contains_key(&at) {
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

    /// Notes which keys are in use twice. Returns those of which that is news.
    fn note_rivals(
        &mut self,
        mut contested: HashSet<ArcStr>,
        mut doubles: HashMap<ArcStr, ActualService>,
    ) -> Vec<ArcStr> {
        // Where the snapshot may be older than our own write, what was known before holds until the next one.
        doubles.retain(|at, _| !self.just_written(at));
        for at in self.contested.iter().chain(self.doubles.keys()).cloned().collect::<Vec<_>>() {
            if self.just_written(&at) {
                if self.contested.contains(&at) {
                    contested.insert(at.clone());
                }
                if let Some(double) = self.doubles.get(&at) {
                    doubles.insert(at, double.clone());
                }
            }
        }
        let mut changed: Vec<ArcStr> = contested.symmetric_difference(&self.contested).cloned().collect();
        changed.extend(doubles.keys().filter(|at| !self.doubles.contains_key(*at)).cloned());
        self.contested = contested;
        for double in std::mem::replace(&mut self.doubles, doubles).into_values() {
            if let Some(container) = own::container(&double) {
                self.forget_gone(&container);
            }
        }
        changed
    }

    /// What somebody did to this registration of ours; `None` when it is as wanted, or when we are about to write there.
    pub(super) fn edited(&self, at: &ArcStr, now: &ActualService) -> Option<Drift> {
        if !self.actual.contains_key(at) || self.items.is_waiting(at) {
            return None;
        }
        let wanted = self.wanted.get(at)?;
        match self.towards(wanted, Some(now))? {
            // Nobody fed it while we were away: that was us.
            Op::UpdateCheck { .. } if *at == self.own_key => None,
            Op::Register(_) if diff::difference(wanted, now) == Some("checks") => Some(Drift::MissingCheck),
            Op::Register(_) | Op::Deregister(_) => Some(Drift::Changed),
            Op::UpdateCheck { .. } => Some(Drift::ChangedCheck),
            Op::RemoveCheck(_) => Some(Drift::ForeignCheck),
        }
    }

    /// Notes since when checks are critical for which Consul may remove a service.
    fn note_dying(&mut self, shown: &HashMap<ArcStr, &Arc<ActualService>>, now: Instant) {
        self.dying.retain(|at, _| self.wanted.contains_key(at));
        for (at, wanted) in &self.wanted {
            if wanted.checks.iter().all(|check| check.deregister_after.is_none()) {
                continue;
            }
            match shown.get(at) {
                Some(actual) if patience(wanted, actual).is_some() => drop(self.dying.entry(at.clone()).or_insert(now)),
                Some(_) => drop(self.dying.remove(at)),
                // What became of it is judged by what it was.
                None => {}
            }
        }
    }

    /// Whether Consul itself has removed this registration, as its definition asks.
    fn is_reaped(&self, at: &ArcStr, now: Instant) -> bool {
        let (Some(wanted), Some(actual)) = (self.wanted.get(at), self.actual.get(at)) else { return false };
        let Some(patience) = patience(wanted, actual) else { return false };
        self.dying.get(at).is_some_and(|since| *since + patience <= now + SEEN_LATE)
    }

    pub(super) fn is_past(&self, engine: &str) -> bool {
        self.past.contains(engine)
    }

    /// Notes which engines appear in marks without an agent of theirs being registered. Returns the keys of those that were
    /// taken for the past and are not.
    pub(super) fn note_agents(&mut self, shown: &HashMap<ArcStr, &Arc<ActualService>>, now: Instant) -> Vec<ArcStr> {
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
    pub(super) fn keys_of(&self, engine: &str) -> Vec<ArcStr> {
        let of_engine =
            |service: &ActualService| service.meta.get(Service::META_ENGINE).is_some_and(|mark| mark == engine);
        self.actual.iter().filter(|(_, service)| of_engine(service)).map(|(at, _)| at.clone()).collect()
    }

    /// Time passes: an engine without an agent becomes the past, and its registrations are looked at.
    pub fn tick(&mut self, now: Instant) {
        if !self.settled_in && now >= *self.began.get_or_insert(now) + SETTLE_IN {
            self.settle_in();
        }
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

    /// The first minute is over, or nobody wants to wait for that: what running containers do not mean any more goes.
    pub fn settle_in(&mut self) {
        self.settled_in = true;
        for at in self.actual.keys().filter(|at| !self.wanted.contains_key(*at)) {
            self.items.touch(at, None);
        }
    }

    /// Whether a snapshot says nothing about this key, because it may be older than our last write there.
    pub(super) fn just_written(&mut self, at: &ArcStr) -> bool {
        let just_written = self.written.contains(at) || self.items.is_running(at);
        self.ahead |= just_written;
        just_written
    }
}
