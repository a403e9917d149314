//! The agent dies after every single change that an operation makes, in every order, with replacements that work and that do not, and
//! with answers that get lost: the next agent always comes to exactly one right container.

use std::time::Duration;

use remora::docker::names::{self, Role};
use remora::docker::{HealthStatus, RestartName, State};
use tokio::time::{Instant, sleep};

use crate::fake_docker::{Behaviour, Lost, web};
use crate::ward::{Ward, essence};

/// More changes than any operation makes.
const MANY: usize = 40;

/// What the replacements of a history do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum New {
    Good,
    Sick,
    Ends,
    CannotStart,
}

/// One history.
#[derive(Debug, Clone, Copy)]
struct Case {
    order: &'static str,
    new: New,
    keep_failed: bool,
    /// The old one stays ill while the agent is away.
    stays_ill: bool,
    /// The agent dies after so many changes.
    dies_after: Option<usize>,
    /// It is asked to end (SIGTERM) instead.
    gently: bool,
    /// The answer of this change is lost.
    lost: Option<(usize, Lost)>,
    /// The next agent comes so long after that.
    back_after: Duration,
    /// And hears so late what the engine remembers of before.
    late: Duration,
}

impl Case {
    const fn new(order: &'static str, new: New) -> Self {
        let back_after = Duration::from_secs(5);
        let late = Duration::ZERO;
        Self {
            order,
            new,
            keep_failed: true,
            stays_ill: false,
            dies_after: None,
            gently: false,
            lost: None,
            back_after,
            late,
        }
    }
}

const ORDERS: [&str; 2] = ["start-first", "stop-first"];
const ALL: [New; 4] = [New::Good, New::Sick, New::Ends, New::CannotStart];

/// Plays it on a clock of its own; returns whether the agent died on the way.
fn play(case: Case) -> bool {
    fastrand::seed(7);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(history(case))
}

async fn history(case: Case) -> bool {
    let mut ward = Ward::new();
    let second = Duration::from_secs;
    ward.replacements(match case.new {
        New::Good => Behaviour::default().healthy_after(second(1)).stops_in(second(2)),
        New::Sick => Behaviour::default().unhealthy_after(second(3)),
        New::Ends => Behaviour::default().exits_after(second(2), 1),
        New::CannotStart => Behaviour::default().start_fails("exec: not found"),
    });
    let spec = web("web").health_check().restart_policy("unless-stopped").label("a.label", "kept");
    let spec = spec.label("remora.heal.order", case.order);
    let spec = if case.keep_failed { spec } else { spec.label("remora.heal.keep-failed", "0") };
    let old = ward.docker.run(spec);
    ward.docker.attach(&old, "other", true);
    let original = essence(&ward.docker.raw(&old).unwrap());
    ward.wake().await;

    ward.fails(&old);
    if let Some((nth, how)) = case.lost {
        ward.docker.lose_answer(nth, how);
    }
    if let Some(changes) = case.dies_after {
        ward.docker.pause_after(changes);
    }
    let begun = Instant::now();
    let over = |ward: &Ward| {
        let over = ["healed", "heal_failed", "heal_cancelled"].into_iter().any(|kind| !ward.told(kind).is_empty());
        over || ward.docker.held() > 0
    };
    while !over(&ward) {
        assert!(begun.elapsed() < second(900), "{case:?}: nothing comes of it: {:?}", ward.docker.changes());
        sleep(Duration::from_millis(100)).await;
    }
    let died = ward.docker.held() > 0;
    if died {
        if case.gently {
            ward.stop().await;
        } else {
            ward.kill().await;
        }
    }
    ward.docker.go_on();
    let alive = |ward: &Ward| ward.docker.facts(&old).is_some_and(|it| it.state == State::Running);
    if !case.stays_ill && alive(&ward) {
        ward.docker.health(&old, HealthStatus::Healthy, "well");
    }
    sleep(case.back_after).await;
    if !case.late.is_zero() {
        // Else everything is over before the engine remembers.
        ward.docker.set_latency(Duration::from_millis(20));
        ward.docker.remember_late(case.late);
    }
    ward.start();
    sleep(second(300)).await;
    check(&ward, case, &original).await;
    died
}

/// Exactly one container has the place, it is as the original was, and nothing is under way.
async fn check(ward: &Ward, case: Case, original: &serde_json::Value) {
    let tell = || format!("{case:?}\n{:#?}\n{:?}\n{:#?}", ward.names(), ward.docker.changes(), ward.news());
    ward.assert_alive();
    let all = ward.docker.containers();
    let (placed, others): (Vec<_>, Vec<_>) = all.iter().partition(|container| container.name == "web");
    assert_eq!(placed.len(), 1, "not one container in the place: {}", tell());
    let health = placed[0].health.as_ref().map(|health| health.status);
    assert_eq!((&placed[0].state, health), (&State::Running, Some(HealthStatus::Healthy)), "{}", tell());
    assert_eq!(essence(&ward.docker.raw(&placed[0].id).unwrap()), *original, "another container: {}", tell());
    let networks: Vec<_> = placed[0].networks.keys().collect();
    assert_eq!(networks, ["bridge", "other"], "other networks: {}", tell());
    for other in &others {
        assert_eq!(names::logical(&other.name), ("web", Role::Failed), "left over: {}", tell());
        let never = other.life.restart_policy.name == RestartName::No;
        assert!(other.state == State::Exited || other.state == State::Created, "a failed one lives: {}", tell());
        assert!(never && case.keep_failed, "a failed one is kept: {}", tell());
    }
    assert!(others.len() <= 1, "more than one is kept: {}", tell());
    if case.new == New::Good {
        assert_eq!(others.len(), 0, "a good one was taken for a bad one: {}", tell());
        assert!(!case.stays_ill || placed[0].labels.contains_key("remora.heal.op"), "not replaced: {}", tell());
    } else {
        assert!(!placed[0].labels.contains_key("remora.heal.op"), "a bad one has the place: {}", tell());
    }
    let status = ward.status().await;
    assert!(status.operation.is_none(), "{:?}: {}", status.operation, tell());
    let changes = ward.docker.changes().len();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(ward.docker.changes().len(), changes, "it never comes to rest: {}", tell());
}

/// Plays the case with a death after 0, 1, 2… changes, until it runs through without one.
fn dies_everywhere(case: Case) {
    for changes in 0..MANY {
        if !play(Case { dies_after: Some(changes), ..case }) {
            assert!(changes > 3 || case.lost.is_some(), "an operation of {changes} changes: {case:?}");
            return;
        }
    }
    panic!("more than {MANY} changes: {case:?}");
}

#[test]
fn whatever_change_the_agent_dies_after_the_next_one_brings_it_to_its_end() {
    for order in ORDERS {
        for new in ALL {
            for keep_failed in [true, false] {
                dies_everywhere(Case { keep_failed, ..Case::new(order, new) });
            }
        }
    }
}

#[test]
fn a_container_that_stays_ill_is_replaced_in_the_end_wherever_the_agent_dies() {
    for order in ORDERS {
        dies_everywhere(Case { stays_ill: true, ..Case::new(order, New::Good) });
    }
}

#[test]
fn whatever_change_the_agent_is_stopped_at_the_next_one_brings_it_to_its_end() {
    for order in ORDERS {
        for new in [New::Good, New::Sick] {
            dies_everywhere(Case { gently: true, ..Case::new(order, new) });
        }
    }
}

#[test]
fn whatever_answer_is_lost_the_end_is_right() {
    for order in ORDERS {
        for new in ALL {
            for how in [Lost::Unreachable, Lost::TimedOut] {
                for nth in 1..=16 {
                    play(Case { lost: Some((nth, how)), ..Case::new(order, new) });
                }
            }
        }
    }
}

#[test]
fn whatever_answer_is_lost_before_the_agent_dies_the_end_is_right() {
    for order in ORDERS {
        for new in [New::Good, New::Sick] {
            for nth in 1..=10 {
                dies_everywhere(Case { lost: Some((nth, Lost::Unreachable)), ..Case::new(order, new) });
            }
        }
    }
}

/// The stops of the agent that died are no operator's, however late the next one hears of them.
#[test]
fn what_the_engine_remembers_late_of_the_agents_own_stops_changes_nothing() {
    for order in ORDERS {
        for new in ALL {
            for back_after in [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(5)] {
                for late in [30, 50, 70, 110].map(Duration::from_millis) {
                    dies_everywhere(Case { back_after, late, ..Case::new(order, new) });
                }
            }
        }
    }
}

/// The engine goes on with a stop whose caller has died: the KILL that ends it comes to the next agent's ears, and is no operator's.
#[tokio::test(start_paused = true)]
async fn a_stop_that_outlives_its_agent_is_no_operators() {
    let second = Duration::from_secs;
    for late in [Duration::ZERO, Duration::from_millis(50)] {
        let mut ward = Ward::new();
        // Never a verdict: the next agent waits for one, too, instead of stopping it at once as the first one did in the end.
        ward.replacements(Behaviour::default().stops_in(second(60)));
        let spec = web("web").health_check().restart_policy("unless-stopped").label("remora.heal.order", "stop-first");
        let old = ward.docker.run(spec);
        ward.wake().await;
        ward.fails(&old);
        let begun = Instant::now();
        while !ward.docker.changes().iter().any(|change| change == "stop web") {
            assert!(begun.elapsed() < second(900), "the new one is not stopped: {:?}", ward.docker.changes());
            sleep(Duration::from_millis(100)).await;
        }
        sleep(second(1)).await;
        ward.kill().await;
        let before = ward.docker.changes().len();
        ward.docker.set_latency(Duration::from_millis(20));
        ward.docker.remember_late(late);
        ward.start();
        sleep(second(60)).await;
        let after = ward.docker.changes().split_off(before);
        let kinds: Vec<&str> = after.iter().filter_map(|change| change.split(' ').next()).collect();
        assert_eq!(kinds, ["rename", "rename", "start", "rename"], "it is taken back: {after:?}");
        assert_eq!(ward.named("web").state, State::Running);
    }
}
