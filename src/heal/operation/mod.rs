//! The replacement: from two containers as Docker shows them to the next step. Pure, and the only description there is of an
//! operation: a restarted agent looks at the two and goes on, so that what is tested here is recovery as well.
//!
//! The tables of states and steps are in `docs/healing-design.md`.
//!
//! * [`member`]: a container as an operation sees it.
//! * [`verify`]: whether the new one is really better; pure.
//! * [`prepare`]: stage A: the clone, created under its staged name.
//! * [`run`]: takes the steps, one look at a time.

pub mod member;
pub mod prepare;
pub mod run;
#[cfg(test)]
mod tests;
pub mod verify;

use std::fmt;

use serde_json::Value;

use super::cause::Cause;
use super::policy::OnFailure;
use crate::docker::names::Role;
pub use member::Member;
pub use verify::Proof;

/// Which of the two is started and stopped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// They run side by side until the new one has proved itself.
    StartFirst,
    /// They cannot: the old one ends before the new one begins.
    StopFirst,
}

impl Order {
    /// The word of labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartFirst => "start-first",
            Self::StopFirst => "stop-first",
        }
    }

    /// Reads the word of labels.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "start-first" => Some(Self::StartFirst),
            "stop-first" => Some(Self::StopFirst),
            _ => None,
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an operation is to come to. All of it is in the labels of the new container too.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Eight hexadecimal digits: see the names.
    pub op: String,
    /// The name of the place: `web`.
    pub name: String,
    /// Which goes first.
    pub order: Order,
    /// Why.
    pub cause: Cause,
    /// The restart policy that the new one gets at commit, as Docker's document has it.
    pub restart_policy: Value,
    /// What to do when the new one is no better.
    pub on_failure: OnFailure,
    /// Whether a failed replacement is kept, stopped, to be looked at.
    pub keep_failed: bool,
    /// Whether this run created the new container. What an earlier run left before anything had happened is cancelled: its
    /// cause may be gone.
    pub fresh: bool,
}

impl Plan {
    /// Whether the old container is to run again when the replacement is taken back. One that could not be started before
    /// will not be now.
    fn old_should_run(&self) -> bool {
        self.cause != Cause::StartFailed
    }
}

/// What the run itself has learned, beside what Docker shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Docker could not start the new one, or not in time.
    pub start_error: Option<String>,
    /// The old one was told to start again, whatever came of it.
    pub old_started: bool,
    /// Docker did not do something that has to be done, and will not: somebody else has the name.
    pub blocked: Option<String>,
    /// Clients have had their time to let go of the old one.
    pub drained: bool,
    /// The old one's own command before its stop has been run.
    pub prepared_for_stop: bool,
    /// An operator stopped whichever of the two had the place: nothing is to run there.
    pub unwanted: bool,
}

/// One thing to do. Each is harmless when it was done already.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Rename the old one.
    RenameOld(Role),
    /// Rename the new one.
    RenameNew(Role),
    /// Start the new one.
    StartNew,
    /// Stop the new one.
    StopNew,
    /// Start the old one again.
    StartOld,
    /// Stop the old one.
    StopOld,
    /// Wait, and look again whether the new one has proved itself.
    Verify,
    /// Give clients time to let go of the old one.
    Drain,
    /// Give the new one its restart policy.
    PolicyNew,
    /// Take the old one's restart policy away: it must not come back at the daemon's next start.
    PolicyOld,
    /// Give the old one its restart policy back.
    PolicyOldBack,
    /// Remove the old one, never its volumes.
    RemoveOld,
    /// Remove the new one.
    RemoveNew(String),
    /// It is over.
    Done(Outcome),
}

impl Step {
    /// The word of logs.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::RenameOld(_) => "rename-old",
            Self::RenameNew(_) => "rename-new",
            Self::StartNew => "start-new",
            Self::StopNew => "stop-new",
            Self::StartOld => "start-old",
            Self::StopOld => "stop-old",
            Self::Verify => "verify",
            Self::Drain => "drain",
            Self::PolicyNew => "policy-new",
            Self::PolicyOld => "policy-old",
            Self::PolicyOldBack => "policy-old-back",
            Self::RemoveOld => "remove-old",
            Self::RemoveNew(_) => "remove-new",
            Self::Done(_) => "done",
        }
    }
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The new container has the place.
    Replaced,
    /// The new container has the place because the old one was even worse.
    KeptNew(String),
    /// The old container has the place again.
    RolledBack(String),
    /// Nothing was changed, or somebody else decided.
    Cancelled(String),
}

/// The next step.
#[must_use]
pub fn next(old: Option<&Member>, new: Option<&Member>, plan: &Plan, proof: &Proof, memory: &Memory) -> Step {
    match (old, new) {
        (None, None) => Step::Done(Outcome::Cancelled("both containers are gone: somebody removed them".to_owned())),
        (Some(old), None) => without_new(old, plan, memory),
        (None, Some(new)) => without_old(new, plan),
        (Some(old), Some(new)) => both(old, new, plan, proof, memory),
    }
}

/// The new one was removed: by us at the end of a roll-back, or by somebody.
fn without_new(old: &Member, plan: &Plan, memory: &Memory) -> Step {
    if old.role == Role::Retired && memory.blocked.is_none() {
        return Step::RenameOld(Role::Settled);
    }
    // A name other than the place's tells that the stop was ours and not an operator's; by then it is the place's again.
    if memory.old_started || old.running || plan.fresh || !plan.old_should_run() || old.role != Role::Settled {
        return Step::Done(Outcome::RolledBack("the new container is gone".to_owned()));
    }
    Step::Done(Outcome::Cancelled("the new container is gone".to_owned()))
}

/// The old one was removed: by us at the very end, or by somebody, and then that is what they wanted.
fn without_old(new: &Member, plan: &Plan) -> Step {
    match new.role {
        Role::Settled if new.restart_policy_is(&plan.restart_policy) => Step::Done(Outcome::Replaced),
        Role::Settled => Step::PolicyNew,
        Role::Staged | Role::Undo => Step::RemoveNew("the container that it was to replace was removed".to_owned()),
        Role::Retired | Role::Failed => Step::Done(Outcome::Cancelled("the old container is gone".to_owned())),
    }
}

fn both(old: &Member, new: &Member, plan: &Plan, proof: &Proof, memory: &Memory) -> Step {
    match (old.role, new.role) {
        (Role::Settled, Role::Staged) => staged(old, new, plan, proof, memory),
        (Role::Retired, Role::Staged) => match &memory.blocked {
            Some(why) => Step::RemoveNew(why.clone()),
            None => Step::RenameNew(Role::Settled),
        },
        (Role::Retired, Role::Settled) => placed(old, new, plan, proof, memory),
        (Role::Settled | Role::Retired, Role::Undo) => undo(old, new, plan, memory),
        (_, Role::Failed) => Step::Done(Outcome::RolledBack(proof.failure(memory))),
        _ => Step::Done(Outcome::Cancelled("somebody renamed the containers".to_owned())),
    }
}

/// Nothing has happened to the old one yet, but for the stop that ends a crash loop.
fn staged(old: &Member, new: &Member, plan: &Plan, proof: &Proof, memory: &Memory) -> Step {
    let given_up = match &memory.blocked {
        _ if memory.unwanted => Some("an operator stopped the container".to_owned()),
        Some(why) => Some(why.clone()),
        None => (!plan.fresh).then(|| "interrupted before anything had happened".to_owned()),
    };
    if let Some(why) = given_up {
        // Docker would have started it again, and nobody else will after that stop.
        let was_stopped = plan.cause == Cause::CrashLoop && !old.running && !memory.old_started && !memory.unwanted;
        return if was_stopped { Step::StartOld } else { Step::RemoveNew(why) };
    }
    let retire = if old.restarting { Step::StopOld } else { Step::RenameOld(Role::Retired) };
    match plan.order {
        Order::StopFirst => retire,
        Order::StartFirst if memory.start_error.is_some() => discard(new, plan, proof, memory),
        Order::StartFirst if !new.ever_started => Step::StartNew,
        Order::StartFirst => match proof {
            Proof::Pending => Step::Verify,
            Proof::Good => retire,
            Proof::Bad { .. } => discard(new, plan, proof, memory),
        },
    }
}

/// The new one has the place; the old one is still there.
fn placed(old: &Member, new: &Member, plan: &Plan, proof: &Proof, memory: &Memory) -> Step {
    if memory.unwanted && new.ever_started && !new.running {
        // It ended because somebody wanted it: that is nothing against it, and the old one is not wanted either.
        return commit(old, new, plan, memory);
    }
    if !new.ever_started && memory.start_error.is_none() {
        return if old.running { Step::StopOld } else { Step::StartNew };
    }
    let failed = memory.start_error.is_some() || matches!(proof, Proof::Bad { .. });
    let better = matches!(proof, Proof::Bad { better: true, .. }) || plan.on_failure == OnFailure::KeepNew;
    let keep = better && memory.start_error.is_none();
    match proof {
        Proof::Pending if memory.start_error.is_none() => Step::Verify,
        _ if failed && !keep => {
            if new.running {
                Step::StopNew
            } else {
                Step::RenameNew(Role::Undo)
            }
        }
        _ => commit(old, new, plan, memory),
    }
}

fn commit(old: &Member, new: &Member, plan: &Plan, memory: &Memory) -> Step {
    if !new.restart_policy_is(&plan.restart_policy) {
        return Step::PolicyNew;
    }
    if old.running {
        return match (memory.drained, old.restarts_never()) {
            (false, _) => Step::Drain,
            (true, false) => Step::PolicyOld,
            (true, true) => Step::StopOld,
        };
    }
    Step::RemoveOld
}

/// The replacement is being taken back.
fn undo(old: &Member, new: &Member, plan: &Plan, memory: &Memory) -> Step {
    if new.running {
        return Step::StopNew;
    }
    if old.role == Role::Retired && memory.blocked.is_none() {
        return Step::RenameOld(Role::Settled);
    }
    if !old.restart_policy_is(&plan.restart_policy) {
        return Step::PolicyOldBack;
    }
    let wanted = plan.old_should_run() && plan.on_failure != OnFailure::Stop && !memory.unwanted;
    if wanted && !old.running && !memory.old_started && memory.blocked.is_none() {
        return Step::StartOld;
    }
    dispose(plan, "it was no better than the container that it was to replace")
}

/// A staged one that failed before the old one was touched.
fn discard(new: &Member, plan: &Plan, proof: &Proof, memory: &Memory) -> Step {
    if new.running && plan.keep_failed {
        return Step::StopNew;
    }
    dispose(plan, &proof.failure(memory))
}

fn dispose(plan: &Plan, why: &str) -> Step {
    if plan.keep_failed { Step::RenameNew(Role::Failed) } else { Step::RemoveNew(why.to_owned()) }
}
