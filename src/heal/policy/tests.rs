//! What holds for every policy.

// `Strategy` is another thing there.
use proptest::prelude::{any, prop, prop_assert, prop_oneof, proptest};

use super::reader::UNKNOWN_LIMIT;
use super::testing::container;
use super::*;
use crate::docker::spec::OPERATION_LABELS;
use crate::heal::labels::LABELS;
use crate::registration::values::quoted;
use HealDefault::{All, OptIn, Published};

fn read(labels: &[(&str, &str)]) -> (Policy, Vec<Note>) {
    policy(&container("web", labels), &Heal::default(), true)
}

fn good(labels: &[(&str, &str)]) -> Policy {
    let (policy, notes) = read(labels);
    assert_eq!(notes, [], "{labels:?}");
    policy
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn without_labels_the_defaults_count() {
    let policy = good(&[]);
    assert_eq!(policy.applies, Applies::On);
    let triggers: Vec<_> = policy.triggers.iter().map(|trigger| trigger.as_str()).collect();
    assert_eq!(triggers.join(","), labels::find(labels::TRIGGERS).unwrap().default);
    assert_eq!((policy.strategy, policy.order), (Strategy::Replace, None));
    assert_eq!((policy.grace, policy.unhealthy_for, policy.critical_for), (seconds(30), seconds(15), seconds(60)));
    assert_eq!((policy.start_deadline, policy.verify_timeout), (seconds(300), seconds(60)));
    assert_eq!((policy.settle, policy.stop_timeout), (seconds(5), seconds(10)));
    assert_eq!((policy.drain(true), policy.drain(false)), (seconds(5), Duration::ZERO));
    assert!(policy.heals_killed && !policy.heals_exit_zero && !policy.heals_unknown);
}

/// A value for every label that is not its default.
const EXAMPLES: [(&str, &str); 26] = [
    (labels::MAC, "02:42:AC:11:00:02"),
    (labels::HEAL, "observe"),
    (labels::TRIGGERS, "died, Critical"),
    (labels::STRATEGY, "escalate"),
    (labels::ORDER, "stop-first"),
    (labels::GRACE, "1m30s"),
    (labels::UNHEALTHY_FOR, "0"),
    (labels::CRITICAL_FOR, "2m"),
    (labels::STOP_TIMEOUT, "25s"),
    (labels::DRAIN, "7s"),
    (labels::VERIFY_TIMEOUT, "20m"),
    (labels::MIN_HEALTHY, "0s"),
    (labels::START_DEADLINE, "1h"),
    (labels::MAX_ATTEMPTS, "3"),
    (labels::WINDOW, "1h"),
    (labels::BACKOFF, "1.5s..2m"),
    (labels::ON_FAILURE, "keep-new"),
    (labels::KEEP_FAILED, "0"),
    (labels::ON_KILL, "respect"),
    (labels::ON_EXIT_ZERO, "yes"),
    (labels::ON_UNKNOWN, "heal"),
    (labels::VOLUMES, "refuse"),
    (labels::PIN_PORTS, "true"),
    (labels::SHAREABLE, "1"),
    (labels::MIN_AVAILABLE, "2"),
    (labels::PRE_STOP, "nginx -s  quit; $(x)"),
];

#[test]
fn every_label_of_the_table_changes_something_and_nothing_is_done_when_it_is_not_understood() {
    assert_eq!(LABELS.len(), EXAMPLES.len());
    for (name, value) in EXAMPLES {
        assert!(labels::find(name).is_some(), "{name}");
        assert_ne!(good(&[(name, value)]), good(&[]), "{name}={value}");
        assert_eq!(good(&[(name, " ")]), good(&[]), "an empty {name}");
        let bad = if name == labels::PRE_STOP { "x".repeat(4097) } else { "n\u{f6}nsense".to_owned() };
        let (policy, notes) = read(&[(name, &bad)]);
        assert_eq!(policy.strategy, Strategy::Notify, "{name}");
        let [note] = notes.as_slice() else { panic!("{name}: {notes:?}") };
        assert_eq!((note.about.as_str(), note.warning), (name, true));
        assert!(note.text.contains(labels::find(name).unwrap().values), "{note:?}");
        assert!(note.text.starts_with(&quoted(&bad)), "{note:?}");
    }
}

#[test]
fn every_default_of_the_table_is_the_default_of_the_code() {
    for label in LABELS.iter().filter(|label| !label.default.contains([' ', '`'])) {
        assert_eq!(good(&[(label.name, label.default)]), good(&[]), "{}", label.name);
    }
}

#[test]
fn bounds_are_kept() {
    for (name, value) in [
        (labels::GRACE, "25h"),
        (labels::GRACE, "30"),
        (labels::GRACE, "-1s"),
        (labels::DRAIN, "2h"),
        (labels::VERIFY_TIMEOUT, "0"),
        (labels::MAX_ATTEMPTS, "0"),
        (labels::MAX_ATTEMPTS, "51"),
        (labels::MAX_ATTEMPTS, "+5"),
        (labels::WINDOW, "30s"),
        (labels::BACKOFF, "5m..10s"),
        (labels::BACKOFF, "10s"),
        (labels::BACKOFF, "0s..5m"),
        (labels::MAC, "02:42:ac:11:00"),
        (labels::MAC, "02-42-ac-11-00-02"),
        (labels::TRIGGERS, ","),
        (labels::TRIGGERS, "died,destroyed"),
        (labels::STRATEGY, "replace,restart"),
    ] {
        assert_eq!(read(&[(name, value)]).0.strategy, Strategy::Notify, "{name}={value}");
    }
}

#[test]
fn the_rhythm_of_the_healthcheck_makes_the_defaults_longer() {
    let times = |probe: ProbeTimes| {
        let mut container = container("web", &[]);
        container.life.probe = Some(Box::new(probe));
        let (policy, _) = policy(&container, &Heal::default(), true);
        (policy.grace, policy.verify_timeout, policy.start_deadline)
    };
    let probe = ProbeTimes { interval: seconds(20), timeout: seconds(10), start_period: seconds(60), retries: 5 };
    assert_eq!(times(probe), (seconds(160), seconds(260), seconds(360)));
    let bare = ProbeTimes { interval: seconds(30), timeout: seconds(30), start_period: seconds(0), retries: 3 };
    assert_eq!(times(bare), (seconds(90), seconds(180), seconds(360)));
    let endless = ProbeTimes { interval: Duration::MAX, timeout: Duration::MAX, retries: u32::MAX, ..probe };
    assert_eq!(times(endless), (DAY, seconds(600), DAY));
}

#[test]
fn whether_it_applies_is_decided_by_operator_manager_label_and_default() {
    let applies = |mode, default, published, labels: &[(&str, &str)]| {
        let settings = Heal { mode, default, ..Heal::default() };
        policy(&container("web", labels), &settings, published).0.applies
    };
    let on = [("remora.heal", "on")];
    let off = [("remora.heal", "No")];
    let is_off = |applies: Applies, why: &str| matches!(applies, Applies::Off(said) if said.contains(why));
    assert_eq!(applies(HealMode::On, Published, true, &[]), Applies::On);
    assert_eq!(applies(HealMode::On, All, false, &[]), Applies::On);
    assert_eq!(applies(HealMode::On, OptIn, true, &on), Applies::On);
    assert_eq!(applies(HealMode::On, Published, false, &on), Applies::On);
    assert_eq!(applies(HealMode::Observe, Published, true, &on), Applies::Observe);
    assert_eq!(applies(HealMode::On, OptIn, false, &[("remora.heal", "observe")]), Applies::Observe);
    assert!(is_off(applies(HealMode::Off, All, true, &on), "REMORA_HEAL=off"));
    assert!(is_off(applies(HealMode::On, Published, false, &[]), "not published"));
    assert!(is_off(applies(HealMode::On, OptIn, true, &[]), "opt-in"));
    assert!(is_off(applies(HealMode::On, All, true, &off), "remora.heal=off"));
    let swarm = [("remora.heal", "on"), ("com.docker.swarm.task.id", "x")];
    assert!(is_off(applies(HealMode::On, All, true, &swarm), "Swarm"));
}

#[test]
fn a_switch_that_is_not_understood_switches_nothing_on() {
    let opt_in = Heal { default: HealDefault::OptIn, ..Heal::default() };
    let (policy, _) = policy(&container("web", &[("remora.heal", "onn")]), &opt_in, true);
    assert!(matches!(policy.applies, Applies::Off(_)), "{policy:?}");
    assert_eq!(read(&[("remora.heal", "offf")]).0.strategy, Strategy::Notify);
}

#[test]
fn labels_of_autoheal_count_where_ours_say_nothing() {
    assert!(matches!(good(&[("autoheal", "false")]).applies, Applies::Off(why) if why == "autoheal=off (label)"));
    assert_eq!(good(&[("autoheal", "false"), ("remora.heal", "on")]).applies, Applies::On);
    assert_eq!(good(&[("autoheal", "nonsense"), ("remora.heal", "on")]).applies, Applies::On);
    assert_eq!(good(&[("autoheal.stop.timeout", "20")]).stop_timeout, seconds(20));
    let both = [("autoheal.stop.timeout", "20"), (labels::STOP_TIMEOUT, "7s")];
    assert_eq!(good(&both).stop_timeout, seconds(7));
    let (policy, notes) = read(&[("autoheal", "maybe"), ("autoheal.stop.timeout", "20s")]);
    assert_eq!((policy.strategy, notes.len()), (Strategy::Notify, 2));
}

#[test]
fn a_command_is_words_without_a_shell() {
    assert_eq!(good(&[(labels::PRE_STOP, " nginx -s  quit; $(x)")]).pre_stop, ["nginx", "-s", "quit;", "$(x)"]);
}

#[test]
fn unknown_labels_are_told_with_the_nearest_name_and_change_nothing() {
    let (policy, notes) = read(&[
        ("remora.heal.stratgy", "stop"),
        ("remora.heal.xyz", "1"),
        ("remora.enable", "1"),
        ("remora.heal.enabled", "0"),
    ]);
    assert_eq!(policy, good(&[]));
    let told: Vec<_> = notes.iter().map(|note| (note.about.as_str(), note.text.as_str())).collect();
    assert_eq!(
        told,
        [
            ("remora.heal.enabled", "Remora knows no such label; did you mean remora.heal?"),
            ("remora.heal.stratgy", "Remora knows no such label; did you mean remora.heal.strategy?"),
            ("remora.heal.xyz", "Remora knows no such label"),
        ]
    );
    for name in OPERATION_LABELS {
        assert_eq!(good(&[(name, "x")]), good(&[]), "{name}");
    }
    let many: Vec<String> = (0..1000).map(|number| format!("remora.heal.unknown-{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(read(&many).1.len(), UNKNOWN_LIMIT);
}

proptest! {
    #[test]
    fn no_value_of_any_label_switches_on_what_is_off_or_makes_a_wild_policy(
        values in prop::collection::vec(prop_oneof![any::<String>(), "[0-9.a-z]{0,8}"], EXAMPLES.len()),
    ) {
        let labels: Vec<(&str, &str)> =
            EXAMPLES.iter().zip(&values).map(|((name, _), value)| (*name, value.as_str())).collect();
        let off = Heal { mode: HealMode::Off, ..Heal::default() };
        let (policy, notes) = policy(&container("web", &labels), &off, true);
        prop_assert!(matches!(policy.applies, Applies::Off(_)));
        prop_assert!((1..=50).contains(&policy.max_attempts) && policy.backoff.0 <= policy.backoff.1);
        for span in [policy.grace, policy.window, policy.verify_timeout, policy.stop_timeout, policy.backoff.1] {
            prop_assert!(span <= DAY);
        }
        prop_assert!(notes.is_empty() || policy.strategy == Strategy::Notify);
        for note in notes {
            prop_assert!(!note.text.contains('\n') && note.text.len() < 400, "{:?}", note);
        }
    }
}
