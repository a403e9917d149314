//! One attempt to heal one container, from the fresh look to the result. The only place that changes something in Docker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cause::{Cause, Context, CriticalCheck, Diagnosis, diagnose};
use super::decide::Action;
use super::history::History;
use super::operation::prepare::{Prepared, Surroundings, Unprepared, prepare};
use super::operation::run::{Hands, Operation, Passing, Report, pre_stop, wait};
use super::operation::verify::{Demands, Proof, Verification};
use super::operation::{Memory, Order, Outcome};
use super::policy::{Policy, Strategy};
use crate::docker::control::{Control, Trouble, classify};
use crate::docker::{ContainerId, DockerError, Engine};

/// A restart is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is to be treated, and how.
#[derive(Clone)]
pub struct Patient {
    /// The container.
    pub id: ContainerId,
    /// Its place.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// Its history, for the last look before anything is done.
    pub history: History,
    /// Its policy.
    pub policy: Arc<Policy>,
    /// When the event stream was last lost.
    pub stream_lost: Option<Instant>,
    /// A check in Consul that is critical and counts.
    pub critical: Option<CriticalCheck>,
    /// What is wrong with the container whose namespace it shares.
    pub orphaned: Option<String>,
    /// Something ran in this place before.
    pub known: bool,
    /// An earlier run of the agent saw that an operator stopped it.
    pub stopped: bool,
    /// What else an operation has to know.
    pub around: Surroundings,
    /// What the container has to show afterwards.
    pub demands: Demands,
    /// What an operator does meanwhile.
    pub hands: Hands,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Cure {
    /// It works again.
    Healed,
    /// It does not, and the next attempt may help.
    NoBetter(String),
    /// It cannot be helped by trying again.
    Hopeless(String),
    /// There was nothing to do any more, or somebody else decided.
    Cancelled(String),
    /// It has to be taken up again: the agent is stopping, or Docker was away.
    Interrupted(String),
}

/// A treatment that is over.
#[derive(Debug, Clone)]
pub struct Treated {
    /// The place.
    pub name: String,
    /// The container that was treated.
    pub old: ContainerId,
    /// The one that has its place now, if it is another one.
    pub new: Option<ContainerId>,
    /// Why.
    pub cause: Cause,
    /// What was done in the end: a replacement that was not possible is a restart.
    pub action: Action,
    /// How: the order with its reason, why not otherwise.
    pub how: Vec<String>,
    /// The last lines of its log.
    pub log: String,
    /// What came of it.
    pub cure: Cure,
    /// The steps, if it was a replacement.
    pub report: Option<Report>,
    /// How long it took.
    pub took: Duration,
}

/// Treats it.
pub async fn treat<E: Engine + Control>(
    docker: &Arc<E>,
    patient: Patient,
    passing: Passing,
    shutdown: &CancellationToken,
) -> Treated {
    let begun = Instant::now();
    let mut treated = Treated {
        name: patient.name.clone(),
        old: patient.id.clone(),
        new: None,
        cause: patient.around.cause.clone(),
        action: patient.action,
        how: Vec::new(),
        log: String::new(),
        cure: Cure::Healed,
        report: None,
        took: Duration::ZERO,
    };
    treated.cure = match last_look(docker, &patient).await {
        Err(cure) => cure,
        Ok(()) => match patient.action {
            Action::Stop => {
                pre_stop(&**docker, &patient.id, &patient.policy.pre_stop).await;
                match docker.stop(patient.id.as_str(), patient.policy.stop_timeout).await {
                    Ok(()) => Cure::Healed,
                    Err(error) => Cure::NoBetter(error.to_string()),
                }
            }
            Action::Restart => restart(docker, &patient, &passing, shutdown).await,
            Action::Start => {
                match proved(docker.start(patient.id.as_str()).await, docker, &patient, &passing, shutdown).await {
                    Cure::NoBetter(why) if patient.policy.strategy != Strategy::Restart => {
                        treated.how.push(format!("its start failed again: {why}"));
                        treated.action = Action::Replace;
                        replace(docker, &patient, &passing, &mut treated, shutdown).await
                    }
                    cure => cure,
                }
            }
            Action::Replace => replace(docker, &patient, &passing, &mut treated, shutdown).await,
        },
    };
    treated.took = begun.elapsed();
    treated
}

/// Whether the cause still holds for what Docker says now.
async fn last_look<E: Engine>(docker: &Arc<E>, patient: &Patient) -> Result<(), Cure> {
    let container = match docker.inspect(patient.id.as_str()).await {
        Ok(container) => container,
        Err(DockerError::NotFound(_)) => return Err(Cure::Cancelled("it was removed".to_owned())),
        Err(error) => return Err(Cure::Interrupted(error.to_string())),
    };
    if patient.around.cause == Cause::Asked {
        return Ok(());
    }
    let mut history = patient.history.clone();
    let now = Instant::now();
    history.seen(&container, now);
    let context = Context {
        history: &history,
        policy: &patient.policy,
        stream_lost: patient.stream_lost,
        critical: patient.critical.as_ref(),
        orphaned: patient.orphaned.as_deref(),
        known: patient.known,
        stopped: patient.stopped,
    };
    match diagnose(&container, &context, now) {
        Diagnosis::Sick { .. } => Ok(()),
        Diagnosis::Well => Err(Cure::Cancelled("it is well again".to_owned())),
        Diagnosis::Watch { why, .. } | Diagnosis::Leave { why, .. } => Err(Cure::Cancelled(why.to_string())),
    }
}

async fn replace<E: Engine + Control>(
    docker: &Arc<E>,
    patient: &Patient,
    passing: &Passing,
    treated: &mut Treated,
    shutdown: &CancellationToken,
) -> Cure {
    let Prepared { plan, new, why_order, warnings, log } =
        match prepare(&**docker, &patient.id, &patient.policy, &patient.around).await {
            Ok(prepared) => prepared,
            Err(Unprepared::Restart(why)) => {
                treated.how.push(format!("restarted in place: {why}"));
                treated.action = Action::Restart;
                return restart(docker, patient, passing, shutdown).await;
            }
            Err(Unprepared::Hopeless(why)) => return Cure::Hopeless(why),
            Err(Unprepared::Trouble(why)) => return Cure::NoBetter(why),
        };
    treated.how.push(format!("{}: {why_order}", plan.order));
    treated.how.extend(warnings);
    treated.log = log;
    let drain = patient.policy.drain(plan.order == Order::StartFirst);
    let operation = Operation {
        docker: Arc::clone(docker),
        plan,
        old: patient.id.clone(),
        new: new.clone(),
        demands: patient.demands,
        stop_timeout: patient.policy.stop_timeout,
        drain,
        pre_stop: patient.policy.pre_stop.clone(),
        passing: Arc::clone(passing),
        hands: patient.hands.clone(),
    };
    let report = operation.run(shutdown).await;
    let cure = cure(&report);
    if matches!(report.outcome, Some(Outcome::Replaced | Outcome::KeptNew(_))) {
        treated.new = Some(new);
    }
    treated.report = Some(report);
    cure
}

/// What the end of an operation means.
#[must_use]
pub fn cure(report: &Report) -> Cure {
    match &report.outcome {
        Some(Outcome::Replaced) => Cure::Healed,
        Some(Outcome::KeptNew(why)) => Cure::NoBetter(format!("the new one is kept, it is no worse: {why}")),
        Some(Outcome::RolledBack(why)) => Cure::NoBetter(format!("rolled back: {why}")),
        Some(Outcome::Cancelled(why)) => Cure::Cancelled(why.clone()),
        None => Cure::Interrupted(report.trouble.clone().unwrap_or_default()),
    }
}

async fn restart<E: Engine + Control>(
    docker: &Arc<E>,
    patient: &Patient,
    passing: &Passing,
    shutdown: &CancellationToken,
) -> Cure {
    pre_stop(&**docker, &patient.id, &patient.policy.pre_stop).await;
    let restarted = docker.restart(patient.id.as_str(), patient.policy.stop_timeout).await;
    proved(restarted, docker, patient, passing, shutdown).await
}

async fn unhelped<E: Engine>(error: &DockerError, docker: &Arc<E>, id: &ContainerId) -> Cure {
    match classify(error) {
        // Or the one whose namespace it shares: then only a replacement helps.
        Trouble::Gone if matches!(docker.inspect(id.as_str()).await, Err(DockerError::NotFound(_))) => {
            Cure::Cancelled("it was removed".to_owned())
        }
        Trouble::Unknown => Cure::Interrupted(error.to_string()),
        _ => Cure::NoBetter(error.to_string()),
    }
}

/// After a start or a restart: waits until it has proved itself where it is.
async fn proved<E: Engine>(
    started: Result<(), DockerError>,
    docker: &Arc<E>,
    patient: &Patient,
    passing: &Passing,
    shutdown: &CancellationToken,
) -> Cure {
    if let Err(error) = started {
        return unhelped(&error, docker, &patient.id).await;
    }
    let mut verification = Verification::default();
    while !shutdown.is_cancelled() {
        match docker.inspect(patient.id.as_str()).await {
            Ok(container) => {
                let consul = passing(&container.id);
                let now = Instant::now();
                let proof = verification.look(&container, &patient.demands, &patient.around.cause, consul, now);
                match proof {
                    Proof::Good => return Cure::Healed,
                    Proof::Bad { .. } => return Cure::NoBetter(proof.failure(&Memory::default())),
                    Proof::Pending => {}
                }
            }
            Err(DockerError::NotFound(_)) => return Cure::Cancelled("it was removed".to_owned()),
            // Docker is away: what happened meanwhile is seen when it is back.
            Err(_) => {}
        }
        wait(LOOK_AGAIN, shutdown).await;
    }
    Cure::Interrupted("the agent is stopping".to_owned())
}
