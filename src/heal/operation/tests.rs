//! Every history of an operation: all orders, causes and outcomes; the agent dies after any step, or before its answer, any
//! number of times; the daemon restarts in between. In the end exactly one container has the place.

use serde_json::json;

use super::*;
use crate::docker::{ContainerId, RestartName};

#[derive(Debug, Clone, PartialEq)]
struct Shape {
    order: Order,
    cause: Cause,
    /// The old container runs when the operation begins.
    old_runs: bool,
    new_starts: bool,
    new_works: bool,
    keep_failed: bool,
    on_failure: OnFailure,
    policy: RestartName,
}

#[derive(Debug, Clone)]
struct World {
    old: Option<Member>,
    new: Option<Member>,
    shape: Shape,
}

fn member(id: &str, role: Role, running: bool, policy: RestartName) -> Member {
    let id = ContainerId::new(id);
    Member { id, role, running, restarting: false, ever_started: running, restart_policy: (policy, 0) }
}

impl World {
    fn new(shape: &Shape) -> Self {
        let mut old = member("old", Role::Settled, shape.old_runs, shape.policy.clone());
        old.ever_started = true;
        old.restarting = shape.cause == Cause::CrashLoop;
        let new = member("new", Role::Staged, false, RestartName::No);
        Self { old: Some(old), new: Some(new), shape: shape.clone() }
    }

    fn plan(&self, fresh: bool) -> Plan {
        Plan {
            op: "00000000".to_owned(),
            name: "web".to_owned(),
            order: self.shape.order,
            cause: self.shape.cause.clone(),
            restart_policy: json!({"Name": self.shape.policy.as_str()}),
            on_failure: self.shape.on_failure,
            keep_failed: self.shape.keep_failed,
            fresh,
        }
    }

    /// What a verification would come to in the end.
    fn proof(&self) -> Proof {
        match &self.new {
            Some(new) if new.ever_started && new.running && self.shape.new_works => Proof::Good,
            Some(new) if new.ever_started => {
                let rank = if new.running { verify::Rank::Unhealthy } else { verify::Rank::Ended };
                Proof::Bad { reason: "bad".to_owned(), better: rank > verify::Rank::before(&self.shape.cause) }
            }
            _ => Proof::Pending,
        }
    }

    fn apply(&mut self, step: &Step, memory: &mut Memory) {
        let is_taken = |role: Role| {
            role == Role::Settled && [&self.old, &self.new].into_iter().flatten().any(|it| it.role == Role::Settled)
        };
        match step {
            Step::RenameOld(role) => {
                assert!(!is_taken(*role), "two containers with one name");
                let old = self.old.as_mut().unwrap();
                assert!(!old.restarting, "Docker renames no container that it is about to start again");
                old.role = *role;
            }
            Step::RenameNew(role) => {
                assert!(!is_taken(*role), "two containers with one name");
                self.new.as_mut().unwrap().role = *role;
            }
            Step::StartNew if !self.shape.new_starts => memory.start_error = Some("no".to_owned()),
            Step::StartNew => {
                let old_runs = self.old.as_ref().is_some_and(|old| old.running);
                assert!(self.shape.order == Order::StartFirst || !old_runs, "both run at once, and must not");
                let new = self.new.as_mut().unwrap();
                (new.running, new.ever_started) = (true, true);
            }
            Step::StopNew => self.new.as_mut().unwrap().running = false,
            Step::StartOld => {
                let new_runs = self.new.as_ref().is_some_and(|new| new.running);
                assert!(self.shape.order == Order::StartFirst || !new_runs, "both run at once, and must not");
                memory.old_started = true;
                let old = self.old.as_mut().unwrap();
                (old.running, old.restarting) = (true, self.shape.cause == Cause::CrashLoop);
            }
            Step::StopOld => {
                let old = self.old.as_mut().unwrap();
                (old.running, old.restarting) = (false, false);
            }
            Step::PolicyNew => self.new.as_mut().unwrap().restart_policy.0 = self.shape.policy.clone(),
            Step::PolicyOld => self.old.as_mut().unwrap().restart_policy.0 = RestartName::No,
            Step::PolicyOldBack => self.old.as_mut().unwrap().restart_policy.0 = self.shape.policy.clone(),
            Step::RemoveOld => {
                assert!(!self.old.as_ref().unwrap().running, "a running container is not removed");
                self.old = None;
            }
            Step::RemoveNew(_) => self.new = None,
            Step::Drain => memory.drained = true,
            Step::Verify | Step::Done(_) => unreachable!(),
        }
    }

    /// The daemon ends and begins again: what has the policy for it starts, everything else is down.
    fn daemon_restarts(&mut self) {
        for it in [&mut self.old, &mut self.new].into_iter().flatten() {
            it.restarting = false;
            // `always` starts even what was stopped by hand; a container that was never started stays so.
            it.running = it.ever_started
                && (it.restart_policy.0 == RestartName::Always
                    || (it.running && it.restart_policy.0 == RestartName::UnlessStopped));
        }
    }
}

/// What goes wrong, and after which step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The agent dies after the step.
    Dies(usize),
    /// The step is done, its answer is lost.
    Unanswered(usize),
    /// The step is not done, and nobody knows.
    Undone(usize),
    /// The daemon restarts, and the agent with it.
    Daemon(usize),
}

/// Runs it to its end; returns the outcome and the number of steps.
fn history(shape: &Shape, faults: &[Fault]) -> (World, Outcome, usize) {
    let (mut world, mut memory, mut fresh) = (World::new(shape), Memory::default(), true);
    let (mut at, mut failed) = (0, None::<Proof>);
    for _ in 0..200 {
        let mut proof = world.proof();
        if let Proof::Bad { .. } = proof {
            failed.get_or_insert_with(|| proof.clone());
        }
        if let Some(failed) = &failed {
            proof = failed.clone();
        }
        let step = next(world.old.as_ref(), world.new.as_ref(), &world.plan(fresh), &proof, &memory);
        match step {
            Step::Done(outcome) => return (world, outcome, at),
            Step::Verify => panic!("waits for a verdict that there is: {world:?}"),
            _ => {}
        }
        let before = memory.clone();
        if !faults.contains(&Fault::Undone(at)) {
            world.apply(&step, &mut memory);
        }
        if faults.contains(&Fault::Unanswered(at)) {
            memory = before;
        }
        if faults.contains(&Fault::Daemon(at)) {
            world.daemon_restarts();
        }
        if faults.contains(&Fault::Dies(at)) || faults.contains(&Fault::Daemon(at)) {
            (memory, fresh, failed) = (Memory::default(), false, None);
        }
        at += 1;
    }
    panic!("never ends: {world:?}");
}

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for order in [Order::StartFirst, Order::StopFirst] {
        for (cause, old_runs) in [
            (Cause::Unhealthy, true),
            (Cause::Died, false),
            (Cause::CrashLoop, true),
            (Cause::StartFailed, false),
            (Cause::Asked, true),
        ] {
            for (new_starts, new_works) in [(true, true), (true, false), (false, false)] {
                for keep_failed in [true, false] {
                    for on_failure in [OnFailure::Rollback, OnFailure::KeepNew, OnFailure::Stop] {
                        for policy in [RestartName::No, RestartName::Always, RestartName::UnlessStopped] {
                            let cause = cause.clone();
                            shapes.push(Shape {
                                order,
                                cause,
                                old_runs,
                                new_starts,
                                new_works,
                                keep_failed,
                                on_failure,
                                policy,
                            });
                        }
                    }
                }
            }
        }
    }
    shapes
}

/// Exactly one container has the place, with its own restart policy, and nothing is left half-way.
fn check(world: &World, shape: &Shape, faults: &[Fault], outcome: &Outcome) {
    let tell = || format!("{shape:?}\n{faults:?}\n{outcome:?}\n{world:?}");
    let all: Vec<_> = [&world.old, &world.new].into_iter().flatten().collect();
    let placed: Vec<_> = all.iter().filter(|it| it.role == Role::Settled).collect();
    assert_eq!(placed.len(), 1, "not one container in the place: {}", tell());
    let placed = placed[0];
    assert_eq!(placed.restart_policy.0, shape.policy, "another restart policy: {}", tell());
    for it in all.iter().filter(|it| it.role != Role::Settled) {
        assert_eq!(it.role, Role::Failed, "left half-way: {}", tell());
        assert!(!it.running && it.restart_policy.0 == RestartName::No, "a failed one lives on: {}", tell());
        assert!(shape.keep_failed, "kept although it should not be: {}", tell());
    }
    let is_new = placed.id == ContainerId::new("new");
    let daemon = faults.iter().any(|fault| matches!(fault, Fault::Daemon(_)));
    match outcome {
        Outcome::Replaced | Outcome::KeptNew(_) => assert!(is_new, "{}", tell()),
        Outcome::RolledBack(_) | Outcome::Cancelled(_) => assert!(!is_new, "{}", tell()),
    }
    if shape.old_runs && !daemon && shape.on_failure != OnFailure::Stop {
        assert!(placed.running || shape.on_failure == OnFailure::KeepNew, "nothing runs any more: {}", tell());
    }
    if is_new && shape.on_failure == OnFailure::Rollback && !daemon {
        assert!(placed.running, "the new one has the place and does not run: {}", tell());
    }
}

#[test]
fn without_faults_a_good_one_takes_the_place_and_a_bad_one_does_not() {
    for shape in shapes() {
        let (world, outcome, steps) = history(&shape, &[]);
        check(&world, &shape, &[], &outcome);
        assert!(steps <= 10, "{steps} steps: {shape:?}");
        let good = shape.new_starts && shape.new_works;
        if good {
            assert_eq!(outcome, Outcome::Replaced, "{shape:?}");
        } else if !shape.new_starts {
            assert!(matches!(outcome, Outcome::RolledBack(_)), "{shape:?}: {outcome:?}");
        }
    }
}

#[test]
fn whatever_one_step_meets_the_end_is_right() {
    for shape in shapes() {
        let (_, _, steps) = history(&shape, &[]);
        for at in 0..steps {
            for fault in [Fault::Dies(at), Fault::Unanswered(at), Fault::Undone(at), Fault::Daemon(at)] {
                let (world, outcome, _) = history(&shape, &[fault]);
                check(&world, &shape, &[fault], &outcome);
            }
        }
    }
}

#[test]
fn whatever_two_steps_meet_the_end_is_right() {
    let kinds = [Fault::Dies as fn(usize) -> Fault, Fault::Unanswered, Fault::Undone, Fault::Daemon];
    for shape in shapes() {
        let (_, _, steps) = history(&shape, &[]);
        for first in 0..steps {
            for second in first..steps + 6 {
                for one in kinds {
                    for other in kinds {
                        let faults = [one(first), other(second)];
                        let (world, outcome, _) = history(&shape, &faults);
                        check(&world, &shape, &faults, &outcome);
                    }
                }
            }
        }
    }
}

#[test]
fn whoever_removes_the_old_one_wanted_nothing_in_its_place() {
    for order in [Order::StartFirst, Order::StopFirst] {
        let shape = Shape { order, ..shapes()[0].clone() };
        let mut world = World::new(&shape);
        world.old = None;
        let step = next(None, world.new.as_ref(), &world.plan(true), &world.proof(), &Memory::default());
        assert!(matches!(step, Step::RemoveNew(_)), "{step:?}");
    }
}

#[test]
fn whoever_removes_the_new_one_gets_the_old_one_back() {
    let shape = Shape { order: Order::StopFirst, ..shapes()[0].clone() };
    let mut world = World::new(&shape);
    world.new = None;
    world.old.as_mut().unwrap().role = Role::Retired;
    let step = next(world.old.as_ref(), None, &world.plan(false), &Proof::Pending, &Memory::default());
    assert_eq!(step, Step::RenameOld(Role::Settled));
}

#[test]
fn who_takes_the_name_in_the_middle_keeps_it() {
    let shape = Shape { order: Order::StopFirst, ..shapes()[0].clone() };
    let mut world = World::new(&shape);
    world.old.as_mut().unwrap().role = Role::Retired;
    let memory = Memory { blocked: Some("taken".to_owned()), ..Memory::default() };
    let step = next(world.old.as_ref(), world.new.as_ref(), &world.plan(true), &Proof::Pending, &memory);
    assert_eq!(step, Step::RemoveNew("taken".to_owned()));
}

#[test]
fn whoever_stops_it_in_the_middle_finds_nothing_running() {
    for order in [Order::StartFirst, Order::StopFirst] {
        let shape = Shape { order, ..shapes()[0].clone() };
        let mut world = World::new(&shape);
        let mut memory = Memory { unwanted: true, ..Memory::default() };
        world.old.as_mut().unwrap().running = false;
        let step = next(world.old.as_ref(), world.new.as_ref(), &world.plan(true), &Proof::Pending, &memory);
        assert!(matches!(step, Step::RemoveNew(_)), "{step:?}");

        world.old.as_mut().unwrap().role = Role::Retired;
        let new = world.new.as_mut().unwrap();
        (new.role, new.ever_started) = (Role::Settled, true);
        for _ in 0..10 {
            let step = next(world.old.as_ref(), world.new.as_ref(), &world.plan(true), &world.proof(), &memory);
            if let Step::Done(outcome) = step {
                assert_eq!(outcome, Outcome::Replaced);
                break;
            }
            world.apply(&step, &mut memory);
        }
        assert!(world.old.is_none() && !world.new.unwrap().running, "{order}");
    }
}
