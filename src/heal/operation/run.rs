//! Takes the steps of an operation: look at both, ask [`next`], do that one thing, look again. Whatever a call answers, the
//! next look decides: an answer that was lost costs a look.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::verify::{Demands, Proof, Verification};
use super::{Member, Memory, Outcome, Plan, Step, next};
use crate::backoff::Backoff;
use crate::docker::control::{Control, Trouble, classify};
use crate::docker::names::{self, Role};
use crate::docker::{Container, ContainerId, DockerError, Engine, existing};

/// A verification looks again after so long at first: an inspect takes a millisecond, and clients wait for its result.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// And after so long when it has taken a while.
const LOOK_RARELY: Duration = Duration::from_millis(500);

/// A container's own command before its stop has so long.
const PRE_STOP: Duration = Duration::from_secs(30);

/// The same step that fails, or changes nothing, so often is given up for now.
const TRIES: u32 = 8;

/// Says whether all checks of this container's services in Consul are passing; `None` when nobody knows, or when nothing is
/// registered for it.
pub type Passing = Arc<dyn Fn(&ContainerId) -> Option<bool> + Send + Sync>;

/// Which stops are ours, and whether there was another one. An operation tells before it stops something; whoever hears the
/// events tells what an operator does meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Hands {
    ours: Arc<Mutex<BTreeSet<ContainerId>>>,
    unwanted: Arc<AtomicBool>,
}

impl Hands {
    /// This one is about to be stopped by us.
    pub fn stops(&self, id: &ContainerId) {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
    }

    /// The container in the place was stopped through Docker: by an operator, if it was not by us. Whether it was an operator.
    pub fn heard_of_stop(&self, id: &ContainerId) -> bool {
        let theirs = !self.ours.lock().unwrap_or_else(PoisonError::into_inner).contains(id);
        if theirs {
            self.was_stopped();
        }
        theirs
    }

    /// An operator has stopped it already, as an earlier run heard.
    pub fn was_stopped(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }

    fn unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }
}

/// An operation under way.
pub struct Operation<E> {
    /// The engine.
    pub docker: Arc<E>,
    /// What it is to come to.
    pub plan: Plan,
    /// The container that fails.
    pub old: ContainerId,
    /// The one that is to take its place.
    pub new: ContainerId,
    /// What the new one has to show.
    pub demands: Demands,
    /// How long a container has to end by itself.
    pub stop_timeout: Duration,
    /// How long clients have to let go of the old one.
    pub drain: Duration,
    /// Run inside the old one before it is stopped; empty: nothing.
    pub pre_stop: Vec<String>,
    /// What Consul says.
    pub passing: Passing,
    /// What an operator does meanwhile.
    pub hands: Hands,
}

/// How an operation ended, or why it did not.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What it came to; `None`: it has to be taken up again.
    pub outcome: Option<Outcome>,
    /// What went wrong on the way.
    pub trouble: Option<String>,
    /// The steps that were taken, with the time since the beginning.
    pub steps: Vec<(&'static str, Duration)>,
    /// How long neither of the two ran.
    pub outage: Duration,
}

impl<E: Engine + Control> Operation<E> {
    /// Goes on until it is done, until something stands in the way for long, or until `shutdown`: the step under way is always
    /// finished.
    pub async fn run(self, shutdown: &CancellationToken) -> Report {
        let begun = Instant::now();
        let mut memory = Memory::default();
        let mut verification = Verification::default();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut report = Report { outcome: None, trouble: None, steps: Vec::new(), outage: Duration::ZERO };
        let mut last: Option<(Step, u32)> = None;
        // The last error was an answer.
        let mut refused = false;
        let mut patience = LOOK_AGAIN;
        let mut down_since: Option<Instant> = None;
        // The first failure is why; what follows from it is not.
        let mut failed: Option<Proof> = None;
        while !shutdown.is_cancelled() {
            let (old, new) = match self.look().await {
                Ok(both) => both,
                Err(error) => {
                    report.trouble = Some(error.to_string());
                    wait(backoff.next(fastrand::f64()), shutdown).await;
                    continue;
                }
            };
            let runs = |container: &Option<Container>| container.as_ref().is_some_and(|it| Member::of(it).running);
            if runs(&old) || runs(&new) {
                report.outage += down_since.take().map_or(Duration::ZERO, |since| since.elapsed());
            } else {
                down_since.get_or_insert_with(Instant::now);
            }
            let mut proof = self.proof(new.as_ref(), &mut verification);
            if let Proof::Bad { .. } = proof {
                failed.get_or_insert_with(|| proof.clone());
            }
            // What was given up stays given up, even if it gets better while it is being stopped.
            if let Some(failed) = &failed {
                proof = failed.clone();
            }
            memory.unwanted = self.hands.unwanted();
            let (old, new) = (old.as_ref().map(Member::of), new.as_ref().map(Member::of));
            let step = next(old.as_ref(), new.as_ref(), &self.plan, &proof, &memory);
            if let Step::Done(outcome) = step {
                let kept = match (&outcome, &failed) {
                    (Outcome::Replaced, _) if memory.unwanted => {
                        Some(Outcome::Cancelled("an operator stopped the container".to_owned()))
                    }
                    (Outcome::Replaced, Some(proof)) => Some(Outcome::KeptNew(proof.failure(&memory))),
                    _ => None,
                };
                report.outcome = Some(kept.unwrap_or(outcome));
                report.steps.push(("done", begun.elapsed()));
                return report;
            }
            if step == Step::Verify {
                wait(patience, shutdown).await;
                if begun.elapsed() > Duration::from_secs(10) {
                    patience = LOOK_RARELY;
                }
                continue;
            }
            let tries = match &last {
                Some((same, tries)) if *same == step => tries + 1,
                _ => 1,
            };
            last = Some((step.clone(), tries));
            if tries > TRIES && step == Step::StartNew && refused {
                // It answers, and says no: what is in the way may stay for ever, and everything else waits for this one.
                memory.start_error.clone_from(&report.trouble);
                continue;
            }
            if tries > TRIES {
                let trouble = report.trouble.take().unwrap_or_else(|| "it changes nothing".to_owned());
                report.trouble = Some(format!("{} does not succeed: {trouble}", step.as_str()));
                return report;
            }
            report.steps.push((step.as_str(), begun.elapsed()));
            tracing::debug!(event = "heal_step", op = %self.plan.op, name = %self.plan.name, step = step.as_str(), "{}: {}", self.plan.name, step.as_str());
            match self.take(&step, &mut memory, shutdown).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    refused = classify(&error) != Trouble::Unknown;
                    report.trouble = Some(error.to_string());
                    if !Self::give_in(&step, &error, &mut memory) {
                        wait(backoff.next(fastrand::f64()), shutdown).await;
                    }
                }
            }
        }
        report.trouble.get_or_insert_with(|| "the agent is stopping".to_owned());
        report
    }

    async fn look(&self) -> Result<(Option<Container>, Option<Container>), DockerError> {
        let (old, new) = tokio::join!(self.docker.inspect(self.old.as_str()), self.docker.inspect(self.new.as_str()));
        Ok((existing(old)?, existing(new)?))
    }

    fn proof(&self, new: Option<&Container>, verification: &mut Verification) -> Proof {
        let Some(new) = new.filter(|new| Member::of(new).ever_started) else { return Proof::Pending };
        // Before it has the place nothing of it is in Consul.
        let placed = names::logical(&new.name).1 == Role::Settled;
        let consul = if placed { (self.passing)(&new.id) } else { None };
        verification.look(new, &self.demands, &self.plan.cause, consul, Instant::now())
    }

    /// Does one thing.
    async fn take(&self, step: &Step, memory: &mut Memory, shutdown: &CancellationToken) -> Result<(), DockerError> {
        let (docker, old, new) = (&*self.docker, self.old.as_str(), self.new.as_str());
        let name = |role: Role| role.name(&self.plan.name, &self.plan.op);
        match step {
            Step::RenameOld(role) => docker.rename(old, &name(*role)).await,
            Step::RenameNew(role) => docker.rename(new, &name(*role)).await,
            Step::StartNew => docker.start(new).await,
            Step::StopNew => {
                self.hands.stops(&self.new);
                docker.stop(new, self.stop_timeout).await
            }
            Step::StartOld => {
                memory.old_started = true;
                docker.start(old).await
            }
            Step::StopOld => {
                if !std::mem::replace(&mut memory.prepared_for_stop, true) {
                    pre_stop(docker, &self.old, &self.pre_stop).await;
                }
                self.hands.stops(&self.old);
                docker.stop(old, self.stop_timeout).await
            }
            Step::PolicyNew => docker.set_restart_policy(new, &self.plan.restart_policy).await,
            Step::PolicyOld => docker.set_restart_policy(old, &serde_json::json!({"Name": "no"})).await,
            Step::PolicyOldBack => docker.set_restart_policy(old, &self.plan.restart_policy).await,
            Step::RemoveOld => docker.remove(old, false).await,
            Step::RemoveNew(_) => docker.remove(new, true).await,
            Step::Drain => {
                wait(self.drain, shutdown).await;
                memory.drained = !shutdown.is_cancelled();
                Ok(())
            }
            Step::Verify | Step::Done(_) => Ok(()),
        }
    }

    /// Whether a refusal changes the plan; otherwise the step is tried again.
    fn give_in(step: &Step, error: &DockerError, memory: &mut Memory) -> bool {
        let trouble = classify(error);
        // A container that was there a moment ago and cannot be started because one is gone shares the namespace of that one.
        let of_another = trouble == Trouble::Gone && *step == Step::StartNew;
        if matches!(trouble, Trouble::Unknown | Trouble::Gone | Trouble::Busy) && !of_another {
            return false;
        }
        match step {
            Step::StartNew => memory.start_error = Some(error.to_string()),
            // Told to start again, once: it is not rolled back from there.
            Step::StartOld => {}
            Step::RenameOld(Role::Retired) => {
                memory.blocked = Some(format!("the old container cannot be renamed: {error}"));
            }
            Step::RenameOld(_) | Step::RenameNew(_) if matches!(trouble, Trouble::NameTaken(_)) => {
                memory.blocked = Some(format!("somebody else has the name: {error}"));
            }
            _ => return false,
        }
        true
    }
}

/// Runs a container's own command inside it before it is stopped. What it answers changes nothing: it is a courtesy to a container
/// that is ill, and may not run any more.
pub(in crate::heal) async fn pre_stop<E: Control>(docker: &E, id: &ContainerId, command: &[String]) {
    if !command.is_empty()
        && let Err(error) = docker.exec(id.as_str(), command, PRE_STOP).await
    {
        tracing::warn!(event = "heal_pre_stop", container = %id, error = %error, "the pre-stop command of {id} failed: {error}");
    }
}

/// Waits so long, but not beyond the shutdown.
pub(in crate::heal) async fn wait(span: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = sleep(span) => {}
    }
}
