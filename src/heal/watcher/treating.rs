//! Treatments begin and end. One at a time on this node, each with a slot of the cluster's semaphore while Consul can be asked.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use super::considering::ASK_AGAIN;
use super::unfinished::{Resumed, Unfinished};
use super::{Current, Watcher};
use crate::config::WithoutConsul;
use crate::consul::{ConsulError, ConsulSeen, Listing, Service, Status, Store};
use crate::docker::{ContainerId, Control, DockerError, Engine};
use crate::heal::brakes::Brake;
use crate::heal::cause::Cause;
use crate::heal::cluster::slots::RENEW_EVERY;
use crate::heal::cluster::{Ask, Slots, Taken};
use crate::heal::decide::Action;
use crate::heal::operation::prepare::Surroundings;
use crate::heal::operation::run::{Hands, Passing};
use crate::heal::operation::verify::Demands;
use crate::heal::record::Record;
use crate::heal::service;
use crate::heal::tell::{Kind, News};
use crate::heal::treat::{Cure, Patient, Treated, treat};

/// The end of something that the watcher waits for.
pub(super) enum Job {
    /// A treatment is over, or was not begun.
    Treated(Box<Slots>, Box<Result<Treated, Brake>>),
    /// What an earlier run left.
    Found(Result<Vec<Unfinished>, DockerError>),
    /// One of those is finished, or not.
    Resumed(Box<Resumed>),
    /// Consul's keys.
    Listed(Result<Listing, ConsulError>),
    /// An operator's request is ours.
    Taken(Ask, Result<bool, ConsulError>),
    /// A record was written.
    Saved(String, Result<(), ConsulError>),
}

impl<E: Engine + Control, S: Store> Watcher<E, S> {
    pub(super) fn begin(
        &mut self,
        id: &ContainerId,
        place: &str,
        action: Action,
        cause: &Cause,
        evidence: &str,
        now: Instant,
    ) {
        let Some(watched) = self.watched.get(id) else { return };
        let Some(slots) = self.slots.take() else { return };
        let container = &watched.sight.container;
        let policy = Arc::clone(&watched.policy);
        let around = Surroundings {
            cause: cause.clone(),
            since: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            by: self.place.by.clone(),
            api: self.place.api,
            node: self.place.host.clone(),
            parents: self.parents_now(container),
            has_dependents: !self.dependents(container).is_empty(),
            is_linked: self.is_linked(container),
        };
        // A parent that was started again leaves its dependents where they are: a restart gives them its new namespace.
        let action = match action {
            Action::Replace if *cause == Cause::Orphaned && around.parents.is_empty() => Action::Restart,
            action => action,
        };
        let patient = Patient {
            id: id.clone(),
            name: place.to_owned(),
            action,
            history: self.histories.get(id).map(|history| (**history).clone()).unwrap_or_default(),
            policy: Arc::clone(&policy),
            stream_lost: self.stream_lost,
            critical: watched.critical.as_deref().cloned(),
            orphaned: self.orphaned(container),
            known: self.known.contains(place),
            stopped: self.records.get(place).is_some_and(|record| record.is_stopped(id)),
            around,
            demands: Demands { within: policy.verify_timeout, for_so_long: policy.min_healthy },
            hands: Hands::default(),
        };
        let hands = patient.hands.clone();
        let record = self.records.entry(place.to_owned()).or_insert_with(|| Record::new(watched.well_since));
        let before = record.clone();
        let charged = *cause != Cause::Asked;
        if charged {
            record.begin(&policy, now, fastrand::f64());
        }
        if charged && *cause != Cause::Orphaned {
            self.node.began(now);
        }
        self.current = Some(Current {
            id: id.clone(),
            name: place.to_owned(),
            cause: cause.clone(),
            evidence: evidence.to_owned(),
            since: SystemTime::now(),
            before,
            charged,
            hands,
        });
        tracing::info!(event = "heal_begin", container = %id, name = place, cause = cause.as_str(), action = action.as_str(), "{place} is {cause} ({evidence}): {}", action.as_str());
        let docker = Arc::clone(&self.docker);
        let store = Arc::clone(&self.store);
        let passing = self.passing();
        let consul = self.seen.borrow().reachable;
        let local = self.place.heal.without_consul == WithoutConsul::Local;
        let shutdown = self.shutdown.clone();
        let others = Others {
            services: if service::matters(cause, passing(id) == Some(true)) {
                self.services_of(id)
            } else {
                Vec::new()
            },
            own: id.clone(),
            cause: cause.clone(),
            min_available: policy.min_available,
        };
        // Who asked for it is looking: it does not wait for other nodes.
        let insists = *cause == Cause::Asked;
        self.jobs.spawn(async move {
            if let Some(why) = others.hindrance(&*store).await {
                return Job::Treated(Box::new(slots), Box::new(Err(Brake::Service(why))));
            }
            let (slots, result) = with_slot(slots, &*store, consul, local, insists, &shutdown, async {
                treat(&docker, patient, passing, &shutdown).await
            })
            .await;
            Job::Treated(Box::new(slots), Box::new(result))
        });
    }

    /// What Consul says about the checks of a container's services, apart from our own about healing.
    pub(super) fn passing(&self) -> Passing {
        let seen = self.seen.clone();
        Arc::new(move |id| {
            let seen = seen.borrow();
            let ConsulSeen { snapshot: Some(snapshot), reachable: true } = &*seen else { return None };
            let mut services = snapshot.services.values().filter(|service| service.is_of(id.as_str())).peekable();
            services.peek()?;
            Some(services.all(|service| {
                let healing = Service::healing_check_id(&service.id);
                let checks = service.checks.iter().filter(|(check, _)| **check != healing);
                checks.map(|(_, check)| check.status).all(|status| status != Status::Critical)
            }))
        })
    }

    /// The names under which a container is registered.
    fn services_of(&self, id: &ContainerId) -> Vec<String> {
        let seen = self.seen.borrow();
        let services = seen.snapshot.iter().flat_map(|snapshot| snapshot.services.values());
        let own = services.filter(|it| it.is_of(id.as_str()));
        own.map(|service| service.name.to_string()).collect()
    }

    pub(super) fn finished(&mut self, job: Job) {
        let now = Instant::now();
        match job {
            Job::Treated(slots, result) => {
                self.slots = Some(*slots);
                let Some(current) = self.current.take() else { return };
                match *result {
                    Ok(treated) => self.treated(current, &treated, now),
                    Err(brake) => {
                        self.undo(&current);
                        // Asked again at once it would say the same again, and so on.
                        let until = now + ASK_AGAIN;
                        if let Brake::Service(_) = brake {
                            self.held.retain(|_, (until, _)| *until > now);
                            self.held.insert(current.id.clone(), (until, brake.clone()));
                        } else {
                            self.no_slot = Some((until, brake.clone()));
                        }
                        self.refused(&current.id, &current.cause, &current.evidence, &brake, now);
                    }
                }
                self.show();
                self.consider_all(now);
            }
            Job::Found(found) => self.found_unfinished(found, now),
            Job::Resumed(resumed) => self.resumed(*resumed, now),
            Job::Listed(listed) => self.listed(listed, now),
            Job::Taken(ask, taken) => self.ask_taken(&ask, &taken, now),
            Job::Saved(place, saved) => self.saved(&place, saved),
        }
    }

    /// Nothing was done: nothing is charged.
    fn undo(&mut self, current: &Current) {
        if current.charged {
            self.records.insert(current.name.clone(), current.before.clone());
        }
        if current.charged && current.cause != Cause::Orphaned {
            self.node.undo();
        }
    }

    /// The same, where what stood in the way may still be there: without a wait it would be begun again at once, and so on.
    fn undo_for_now(&mut self, current: &Current, now: Instant) {
        self.undo(current);
        self.record(&current.name).postpone(now + ASK_AGAIN);
    }

    fn treated(&mut self, current: Current, treated: &Treated, now: Instant) {
        self.tell(News::treatment(treated, &current.evidence));
        if treated.report.is_none() {
            // A clone that was made and then not wanted may be there still: it would stand in the way of the next one.
            self.look_for_unfinished = Some(now);
        }
        let record = self.record(&current.name);
        if treated.action == Action::Restart {
            record.restarted = true;
        }
        match &treated.cure {
            Cure::Healed => {
                record.succeeded();
                self.node.mark(&current.name, None);
            }
            // It came to no operation: what an earlier run left may be in its way, and may have come into being only after the
            // last look for such things, when that run died in the middle of the create call.
            Cure::NoBetter(_) if treated.action == Action::Replace && treated.report.is_none() => {
                self.look_for_unfinished = Some(now);
            }
            Cure::NoBetter(_) => {}
            Cure::Hopeless(why) => {
                let why = why.clone();
                self.give_up(&current.id, &current.name, &treated.cause, &why, now);
            }
            Cure::Cancelled(_) => self.undo_for_now(&current, now),
            Cure::Interrupted(_) => {
                self.undo_for_now(&current, now);
                // What is half-way is finished before anything else is begun.
                self.look_for_unfinished = Some(now);
            }
        }
        self.unsaved.insert(current.name);
    }

    /// An operator lets a container out of quarantine.
    pub(super) fn release(&mut self, place: &str, by: &str, now: Instant) {
        self.record(place).forget();
        self.unsaved.insert(place.to_owned());
        self.show();
        let text = format!("{place}: attempts and quarantine are forgotten, as {by} asked");
        self.tell(News::decision(Kind::Operator, place, "", "", text));
        self.consider_all(now);
    }
}

/// What the other instances of a container's services have to be asked before anything is done to it.
struct Others {
    services: Vec<String>,
    own: ContainerId,
    cause: Cause,
    min_available: usize,
}

impl Others {
    /// Why nothing is to be done now. What cannot be seen is no permission.
    async fn hindrance<S: Store>(&self, store: &S) -> Option<String> {
        for name in &self.services {
            match store.instances(name).await {
                Ok(instances) => {
                    let found = service::hindrance(name, &self.own, &self.cause, &instances, self.min_available);
                    if found.is_some() {
                        return found;
                    }
                }
                Err(error) => return Some(format!("the other instances of {name} cannot be seen: {error}")),
            }
        }
        None
    }
}

/// Does the work with a slot of the cluster's semaphore, which is kept alive meanwhile. Without Consul it is done without one, if
/// the settings allow that; for somebody who `insists` without one, too.
pub(super) async fn with_slot<T, S: Store>(
    mut slots: Slots,
    store: &S,
    consul: bool,
    local: bool,
    insists: bool,
    shutdown: &CancellationToken,
    work: impl Future<Output = T>,
) -> (Slots, Result<T, Brake>) {
    if consul {
        match slots.take(store).await {
            Ok(Taken::Slot(_)) => {}
            Ok(Taken::Busy { .. }) | Err(_) if insists => {}
            Ok(Taken::Busy { holders }) => {
                let who = if holders.is_empty() { "others".to_owned() } else { holders.join(", ") };
                return (slots, Err(Brake::Cluster(format!("the cluster heals elsewhere at the moment ({who})"))));
            }
            Err(_) if local => {}
            Err(_) => return (slots, Err(Brake::WithoutConsul)),
        }
    } else if !local && !insists {
        return (slots, Err(Brake::WithoutConsul));
    }
    if shutdown.is_cancelled() {
        return (slots, Err(Brake::Busy));
    }
    let mut beat = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = beat.tick() => {
                // A slot that is lost costs a slot, not the operation: half of a replacement is worse than two at a time.
                if slots.held(Instant::now()).is_some() && slots.renew(store).await.is_err() {
                    tracing::debug!(event = "slot_not_renewed", "the slot of the cluster's semaphore could not be renewed");
                }
            }
        }
    };
    if slots.release(store).await.is_err() {
        tracing::debug!(
            event = "slot_not_released",
            "the slot of the cluster's semaphore could not be given back; Consul frees it"
        );
    }
    (slots, Ok(result))
}
