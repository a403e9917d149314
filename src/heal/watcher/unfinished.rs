//! What an earlier run left half-way: found by the labels of the new containers, and by the names of old ones whose new one is
//! gone. It is finished by the same steps that would have been taken then, before anything else is begun.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use super::Watcher;
use super::treating::Job;
use crate::consul::Store;
use crate::docker::names::{self, Role};
use crate::docker::spec::{self, label};
use crate::docker::{COMPOSE_PROJECT, ContainerId, Control, DockerError, Document, Engine, existing};
use crate::heal::cause::Cause;
use crate::heal::operation::run::{Operation, Report};
use crate::heal::operation::verify::Demands;
use crate::heal::operation::{Order, Outcome, Plan};
use crate::heal::policy::{Applies, OnFailure, Policy};
use crate::heal::tell::{Kind, News};
use crate::registration;

/// When an operation could not be finished it is tried again after so long.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(60);

/// One operation that is not over.
#[derive(Debug, Clone)]
pub(super) struct Unfinished {
    plan: Plan,
    old: ContainerId,
    new: ContainerId,
    /// Somebody else is at it.
    by: String,
}

impl Unfinished {
    /// It is about this place.
    pub(super) fn is_of(&self, place: &str) -> bool {
        self.plan.name == place
    }
}

/// How finishing it ended.
#[derive(Debug)]
pub(super) struct Resumed {
    unfinished: Unfinished,
    report: Report,
}

impl<E: Engine + Control, S: Store> Watcher<E, S> {
    /// Looks for what is unfinished, or finishes the next one.
    pub(super) fn start_unfinished(&mut self, now: Instant) {
        if self.current.is_some() || !self.connected {
            return;
        }
        if self.look_for_unfinished.is_some_and(|at| at <= now) {
            self.look_for_unfinished = None;
            self.current = Some(super::Current::uncharged(ContainerId::new(""), "", Cause::Died, ""));
            let docker = Arc::clone(&self.docker);
            let retired = self.retired();
            self.jobs.spawn(async move { Job::Found(find(&*docker, retired).await) });
            return;
        }
        if !self.restored && now < self.recall_until {
            return;
        }
        let Some(unfinished) = self.unfinished.pop_front() else { return };
        let policy = self.policy_of(&unfinished);
        let plan = Plan {
            on_failure: policy.as_ref().map_or(OnFailure::Rollback, |policy| policy.on_failure),
            keep_failed: unfinished.plan.keep_failed && policy.as_ref().is_none_or(|policy| policy.keep_failed > 0),
            ..unfinished.plan.clone()
        };
        tracing::info!(event = "heal_resume", name = %plan.name, op = %plan.op, "{}: finishing a replacement that was left half-way", plan.name);
        let current =
            super::Current::uncharged(unfinished.old.clone(), &plan.name, plan.cause.clone(), "left half-way");
        let hands = current.hands.clone();
        let stopped = |id| self.records.get(&plan.name).is_some_and(|record| record.is_stopped(id));
        if stopped(&unfinished.old) || stopped(&unfinished.new) {
            hands.was_stopped();
        }
        for id in [&unfinished.old, &unfinished.new] {
            // The stop that the agent before this one asked for may not be over yet: the signal that ends it is its own, too.
            if self.is_being_stopped(id) {
                hands.stops(id);
            }
        }
        self.current = Some(current);
        let second = std::time::Duration::from_secs;
        let operation = Operation {
            docker: Arc::clone(&self.docker),
            old: unfinished.old.clone(),
            new: unfinished.new.clone(),
            demands: policy.as_ref().map_or(Demands { within: second(60), for_so_long: second(10) }, |policy| {
                Demands { within: policy.verify_timeout, for_so_long: policy.min_healthy }
            }),
            stop_timeout: policy.as_ref().map_or(second(10), |policy| policy.stop_timeout),
            drain: policy.as_ref().map_or(second(0), |policy| policy.drain(plan.order == Order::StartFirst)),
            pre_stop: policy.as_ref().map_or_else(Vec::new, |policy| policy.pre_stop.clone()),
            passing: self.passing(),
            plan,
            hands,
        };
        let shutdown = self.shutdown.clone();
        self.jobs.spawn(async move {
            let report = operation.run(&shutdown).await;
            Job::Resumed(Box::new(Resumed { unfinished, report }))
        });
    }

    fn is_being_stopped(&self, id: &ContainerId) -> bool {
        let (watched, history) = (self.watched.get(id), self.histories.get(id));
        watched.zip(history).is_some_and(|(it, history)| history.stopping_until(&it.sight.container).is_some())
    }

    /// Old containers that wait for their name: whose new one may be gone.
    fn retired(&self) -> Vec<(ContainerId, String)> {
        let all = self.watched.values().map(|watched| &watched.sight.container);
        all.filter(|container| names::logical(&container.name).1 == Role::Retired)
            .map(|container| (container.id.clone(), container.name.to_string()))
            .collect()
    }

    fn policy_of(&self, unfinished: &Unfinished) -> Option<Arc<Policy>> {
        let watched = self.watched.get(&unfinished.new).or_else(|| self.watched.get(&unfinished.old))?;
        Some(Arc::clone(&watched.policy))
    }

    /// Its container is none that this agent heals or registers: another one on this engine does.
    fn is_anothers(&self, unfinished: &Unfinished) -> bool {
        let watched = self.watched.get(&unfinished.new).or_else(|| self.watched.get(&unfinished.old));
        watched.is_some_and(|watched| {
            matches!(watched.policy.applies, Applies::Off(_))
                && registration::left_out(&watched.sight.container, self, &self.place.rules).is_some()
        })
    }

    pub(super) fn found_unfinished(&mut self, found: Result<Vec<Unfinished>, DockerError>, now: Instant) {
        self.current = None;
        match found {
            Ok(found) => {
                for unfinished in found {
                    let other = ContainerId::new(unfinished.by.clone());
                    let is_ours = unfinished.by == self.place.by;
                    let lives = self
                        .watched
                        .get(&other)
                        .is_some_and(|it| it.sight.container.state == crate::docker::State::Running);
                    if !is_ours && (lives || self.is_anothers(&unfinished)) {
                        tracing::info!(event = "heal_foreign", name = %unfinished.plan.name, by = %unfinished.by, "{}: a replacement is under way by another agent", unfinished.plan.name);
                        continue;
                    }
                    self.unfinished.push_back(unfinished);
                }
            }
            Err(error) => {
                tracing::warn!(event = "heal_unfinished_unknown", error = %error, "cannot see whether a replacement was left half-way: {error}; nothing is begun until then");
                self.look_for_unfinished = Some(now + AGAIN / 6);
            }
        }
        if self.unfinished.is_empty() && self.look_for_unfinished.is_none() {
            self.consider_all(now);
        }
    }

    pub(super) fn resumed(&mut self, resumed: Resumed, now: Instant) {
        self.current = None;
        let Resumed { unfinished, report } = resumed;
        let name = &unfinished.plan.name;
        let text = match &report.outcome {
            Some(Outcome::Replaced) => format!("{name}: the replacement that was left half-way is finished"),
            Some(Outcome::KeptNew(why)) => {
                format!("{name}: the replacement that was left half-way is kept, although {why}")
            }
            Some(Outcome::RolledBack(why) | Outcome::Cancelled(why)) => {
                format!("{name}: the replacement that was left half-way is taken back: {why}")
            }
            None => {
                let trouble = report.trouble.unwrap_or_default();
                self.look_for_unfinished = Some(now + AGAIN);
                format!("{name}: the replacement that was left half-way cannot be finished now: {trouble}")
            }
        };
        let kind = if report.outcome == Some(Outcome::Replaced) { Kind::Healed } else { Kind::Cancelled };
        self.tell(News::decision(kind, name, unfinished.old.short(), unfinished.plan.cause.as_str(), text));
        self.show();
        if self.unfinished.is_empty() {
            self.consider_all(now);
        }
    }
}

/// Every operation that is not over.
async fn find<D: Control>(docker: &D, retired: Vec<(ContainerId, String)>) -> Result<Vec<Unfinished>, DockerError> {
    let mut found: Vec<Unfinished> = Vec::new();
    for id in docker.labelled(label::OP).await? {
        let Some(document) = existing(docker.document(id.as_str()).await)? else { continue };
        let Some(unfinished) = read(&document) else { continue };
        let old = existing(docker.document(unfinished.old.as_str()).await)?;
        if is_open(&document, old.as_ref(), &unfinished.plan) {
            found.push(unfinished);
        }
    }
    for (old, name) in retired {
        if found.iter().any(|unfinished| unfinished.old == old) {
            continue;
        }
        let (Some(op), place) = (names::operation_in(&name), names::logical(&name).0) else { continue };
        let Some(document) = existing(docker.document(old.as_str()).await)? else { continue };
        // Its new one is gone: it gets its name back.
        found.push(Unfinished {
            plan: Plan {
                op: op.to_owned(),
                name: place.to_owned(),
                order: Order::StopFirst,
                cause: Cause::Died,
                restart_policy: document.at("/HostConfig/RestartPolicy").clone(),
                on_failure: OnFailure::Rollback,
                keep_failed: false,
                fresh: false,
            },
            new: ContainerId::new(Role::Staged.name(place, op)),
            old,
            by: String::new(),
        });
    }
    Ok(found)
}

/// What the labels of a new container say.
fn read(document: &Document) -> Option<Unfinished> {
    let label = |key: &str| document.label(key);
    let old = label(label::REPLACES).split(',').next().filter(|id| !id.is_empty())?;
    let is_composed = !label(COMPOSE_PROJECT).is_empty();
    Some(Unfinished {
        plan: Plan {
            op: label(label::OP).to_owned(),
            name: label(label::NAME).to_owned(),
            order: Order::parse(label(label::ORDER)).unwrap_or(Order::StopFirst),
            cause: Cause::parse(label(label::CAUSE)),
            restart_policy: spec::written_restart_policy(document.value()).unwrap_or(Value::Null),
            on_failure: OnFailure::Rollback,
            keep_failed: !is_composed,
            fresh: false,
        },
        old: ContainerId::new(old),
        new: ContainerId::new(document.id()),
        by: label(label::BY).to_owned(),
    })
}

/// Whether there is something left to do. Where the old one is gone there is not: it is removed last, after the new one has got
/// its restart policy, and whatever policy that has now an operator may have given it.
fn is_open(new: &Document, old: Option<&Document>, plan: &Plan) -> bool {
    match (names::logical(new.name()), old) {
        // The old one has been given another name by somebody: that is not ours any more.
        ((name, Role::Settled), Some(old)) => {
            let (place, role) = names::logical(old.name());
            name == plan.name && place == plan.name && role == Role::Retired
        }
        ((_, Role::Staged | Role::Undo), _) => true,
        ((_, Role::Settled), None) | ((_, Role::Retired | Role::Failed), _) => false,
    }
}
