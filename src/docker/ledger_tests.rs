//! Histories, event by event, on a clock that only moves when a test moves it.

use arcstr::ArcStr;

use super::*;
use crate::docker::container::{Health, HealthStatus, Life, NetworkMode};
use crate::docker::port::Summary;
use litemap::LiteMap;

fn id(name: &str) -> ContainerId {
    ContainerId::new(name)
}

/// A container that was started `second` seconds after the beginning of 2026.
fn running(name: &str, second: u32) -> Container {
    Container {
        id: id(name),
        name: name.into(),
        image: "web".into(),
        image_id: ArcStr::new(),
        created: None,
        started_at: EventTime::parse(&format!("2026-01-01T00:00:{second:02}.5Z")),
        finished_at: None,
        state: State::Running,
        exit_code: 0,
        oom_killed: false,
        restart_count: 0,
        health: None,
        labels: LiteMap::new(),
        service_env: LiteMap::new(),
        network_mode: NetworkMode::Bridge,
        networks: LiteMap::new(),
        exposed: LiteMap::new(),
        bindings: LiteMap::new(),
        stop_signal: Signal::TERM,
        stop_timeout: Duration::from_secs(10),
        life: Life::default(),
        rendered_tags: None,
    }
}

fn at(second: u32) -> EventTime {
    EventTime::parse(&format!("2026-01-01T00:00:{second:02}Z")).unwrap()
}

struct History {
    ledger: Ledger,
    now: Instant,
}

impl History {
    fn new() -> Self {
        Self { ledger: Ledger::default(), now: Instant::now() }
    }

    fn event(&mut self, name: &str, kind: EventKind, second: u32) -> &mut Self {
        self.ledger.event(&Event { container: id(name), kind, time: at(second), exit_code: None }, self.now);
        self
    }

    fn list(&mut self, lines: &[(&str, u64, bool)]) -> &mut Self {
        let containers =
            lines.iter().map(|&(name, fingerprint, live)| Summary { id: id(name), fingerprint, live }).collect();
        self.ledger.listed(&Listing { containers, unreadable: 0 }, self.now, self.now);
        self
    }

    fn deaf(&mut self) -> bool {
        self.ledger.deaf(self.now)
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self.ledger.due(self.now);
        self
    }

    /// Answers every look that is due from `docker`.
    fn look(&mut self, docker: impl Fn(&str) -> Result<Container, DockerError>) -> Vec<String> {
        let mut looked = Vec::new();
        while let Some(next) = self.ledger.next_look() {
            self.ledger.looked(&next, docker(next.as_str()).map(Arc::new), self.now, 0.5);
            looked.push(next.as_str().to_owned());
        }
        looked
    }

    fn told(&mut self) -> Vec<(String, Option<Sight>)> {
        std::iter::from_fn(|| self.ledger.next_change())
            .map(|change| {
                let seen = match change.seen {
                    Seen::Here(sight) => Some(sight),
                    Seen::Gone => None,
                };
                (change.id.as_str().to_owned(), seen)
            })
            .collect()
    }
}

fn missing(name: &str) -> Result<Container, DockerError> {
    Err(DockerError::NotFound(name.to_owned()))
}

fn broken(_: &str) -> Result<Container, DockerError> {
    Err(DockerError::TimedOut { call: "test", after: Duration::from_secs(1) })
}

#[test]
fn case_4_a_container_that_starts_during_the_first_list_is_told_exactly_once() {
    let mut history = History::new();
    history.event("a", EventKind::Start, 1).list(&[("a", 7, true)]);
    assert_eq!(history.look(|name| Ok(running(name, 1))), ["a"]);
    assert_eq!(history.told().len(), 1);
    assert!(history.ledger.complete());
    history.after(30).list(&[("a", 7, true)]);
    assert!(history.look(broken).is_empty(), "an unchanged line needs no look");
}

#[test]
fn case_5_start_and_die_in_any_order_end_in_what_the_last_look_saw() {
    for kinds in [[EventKind::Start, EventKind::Die], [EventKind::Die, EventKind::Start]] {
        let mut history = History::new();
        for kind in kinds {
            history.event("a", kind, 1);
        }
        history.look(|name| Ok(Container { state: State::Exited, ..running(name, 1) }));
        let told = history.told();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].1.as_ref().unwrap().container.state, State::Exited);
    }
}

#[test]
fn what_is_heard_during_a_look_leads_to_one_more_look() {
    let mut history = History::new();
    history.event("a", EventKind::Start, 1);
    let looking = history.ledger.next_look().unwrap();
    history.event("a", EventKind::Die, 2).event("a", EventKind::Other("stop".into()), 2);
    let now = history.now;
    history.ledger.looked(&looking, Ok(Arc::new(running("a", 1))), now, 0.5);
    assert_eq!(history.look(|name| Ok(Container { state: State::Exited, ..running(name, 1) })), ["a"]);
    let told = history.told();
    assert_eq!(told.last().unwrap().1.as_ref().unwrap().container.state, State::Exited);
}

#[test]
fn a_list_that_overtakes_the_first_look_at_a_container_leads_to_one_more_look() {
    let mut history = History::new();
    history.list(&[]).event("a", EventKind::Start, 1);
    let looking = history.ledger.next_look().unwrap();
    // The stream breaks, and nobody hears that it ends; the list over the next stream shows it.
    history.ledger.interrupted();
    history.list(&[("a", 8, false)]);
    let now = history.now;
    history.ledger.looked(&looking, Ok(Arc::new(running("a", 1))), now, 0.5);
    assert_eq!(history.look(|name| Ok(Container { state: State::Exited, ..running(name, 1) })), ["a"]);
    assert_eq!(history.told().last().unwrap().1.as_ref().unwrap().container.state, State::Exited);
}

#[test]
fn case_7_a_container_that_vanished_before_its_look_is_gone_and_told() {
    let mut history = History::new();
    history.event("a", EventKind::Start, 1).event("a", EventKind::Die, 1);
    history.look(missing);
    assert_eq!(history.told(), [("a".to_owned(), None)]);
    assert!(history.ledger.is_empty());
}

#[test]
fn a_destroy_event_is_gone_without_a_look_and_a_late_answer_does_not_revive_it() {
    let mut history = History::new();
    history.event("a", EventKind::Start, 1);
    let looking = history.ledger.next_look().unwrap();
    history.event("a", EventKind::Destroy, 2);
    assert_eq!(history.told(), [("a".to_owned(), None)]);
    let now = history.now;
    history.ledger.looked(&looking, Ok(Arc::new(running("a", 1))), now, 0.5);
    assert!(history.told().is_empty());
    assert!(history.ledger.is_empty());
}

#[test]
fn a_failed_look_changes_nothing_and_is_tried_again() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.told();
    history.event("a", EventKind::Other("health_status".into()), 5).look(broken);
    assert!(history.told().is_empty(), "unknown is not a change");
    assert_eq!(history.after(1).look(missing), ["a"], "the retry");
    assert_eq!(history.told(), [("a".to_owned(), None)]);
}

#[test]
fn a_look_that_fails_all_the_time_is_tried_at_the_same_pace_after_an_hour() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    let mut looks = [0; 120];
    for (round, looks) in looks.iter_mut().enumerate() {
        // It is not in the list (its line cannot be read), so every full look is a reason to look at it.
        history.list(&[]);
        for _ in 0..30 {
            *looks += history.after(1).look(broken).len();
        }
        assert!(*looks <= 12, "{looks} looks in round {round}");
    }
    history.after(6).look(|name| Ok(running(name, 1)));
    assert_eq!(history.ledger.next_due(), None, "nothing is left to be tried again");
}

#[test]
fn a_list_that_looks_like_the_one_before_does_not_hide_what_was_seen_in_between() {
    let exited = |name: &str| Ok(Container { state: State::Exited, ..running(name, 1) });
    let mut history = History::new();
    history.list(&[("a", 1, false)]);
    // It starts and is seen; it ends, and its end is lost with the engine's memory of events. The list is as it was.
    history.event("a", EventKind::Start, 1).look(|name| Ok(running(name, 1)));
    history.told();
    history.ledger.interrupted();
    history.after(5).list(&[("a", 1, false)]);
    assert_eq!(history.look(exited), ["a"]);
    assert_eq!(history.told()[0].1.as_ref().unwrap().container.state, State::Exited);

    // The same, seen by a look without an event.
    history.after(30).list(&[("a", 2, true)]).look(|name| Ok(running(name, 31)));
    history.told();
    history.after(30).list(&[("a", 2, true)]);
    assert_eq!(history.look(exited), ["a"]);
    history.told();
    history.after(30).list(&[("a", 1, false)]).look(exited);
    history.after(30).list(&[("a", 1, false)]);
    assert!(history.look(broken).is_empty(), "at rest nothing is looked at");
    assert!(history.told().is_empty());
}

#[test]
fn case_42_what_a_list_does_not_show_is_gone_only_if_an_inspect_says_so() {
    let mut history = History::new();
    history.list(&[("a", 1, true), ("b", 1, true)]).look(|name| Ok(running(name, 1)));
    history.told();
    history.after(30).list(&[]);
    assert_eq!(history.look(|name| if name == "a" { missing(name) } else { Ok(running(name, 1)) }).len(), 2);
    assert_eq!(history.told(), [("a".to_owned(), None)]);
}

#[test]
fn stopped_containers_are_not_looked_at_unless_somebody_asks() {
    let mut history = History::new();
    history.list(&[("old", 1, false)]);
    assert!(history.look(broken).is_empty());
    assert!(history.ledger.complete());
    history.ledger.ask(&id("old"));
    history.ledger.ask(&id("unheard-of"));
    let looked = history.look(|name| {
        if name == "old" { Ok(Container { state: State::Exited, ..running(name, 1) }) } else { missing(name) }
    });
    assert_eq!(looked.len(), 2);
    assert_eq!(history.told().len(), 2);
}

#[test]
fn case_10_a_stop_signal_drains_at_once_and_without_a_look() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.told();
    history.event("a", EventKind::Kill(Some(15)), 5);
    let told = history.told();
    assert!(told[0].1.as_ref().unwrap().draining);
    assert!(history.look(broken).is_empty());
    history
        .event("a", EventKind::Die, 6)
        .look(|name| Ok(Container { state: State::Exited, exit_code: 143, ..running(name, 1) }));
    assert!(history.told()[0].1.as_ref().unwrap().draining, "an end that was asked for stays one");
    history.after(60);
    history.look(|name| Ok(Container { state: State::Exited, exit_code: 143, ..running(name, 1) }));
    assert!(history.told().is_empty());
}

#[test]
fn case_9_a_signal_that_does_not_end_it_does_nothing() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.told();
    for signal in [1, 10, 12, 28] {
        history.event("a", EventKind::Kill(Some(signal)), 5);
    }
    assert!(history.told().is_empty());
    assert!(history.look(broken).is_empty());
}

#[test]
fn its_own_stop_signal_drains_even_if_it_is_an_odd_one() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(Container { stop_signal: Signal(28), ..running(name, 1) }));
    history.told();
    history.event("a", EventKind::Kill(Some(28)), 5);
    assert!(history.told()[0].1.as_ref().unwrap().draining);
}

#[test]
fn a_container_that_survives_its_stop_timeout_comes_back() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.event("a", EventKind::Kill(Some(15)), 5);
    history.told();
    assert!(history.after(10).look(broken).is_empty());
    history.after(2).look(|name| Ok(running(name, 1)));
    assert!(!history.told()[0].1.as_ref().unwrap().draining);
}

#[test]
fn a_restart_ends_the_draining_and_a_replayed_kill_does_not_begin_it_again() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.event("a", EventKind::Kill(Some(15)), 5).event("a", EventKind::Die, 6).event("a", EventKind::Start, 7);
    history.look(|name| Ok(running(name, 7)));
    let told = history.told();
    assert!(!told.last().unwrap().1.as_ref().unwrap().draining);
    history.event("a", EventKind::Kill(Some(15)), 5);
    assert!(history.told().is_empty(), "that signal was for the run before");
}

#[test]
fn case_16_a_container_that_keeps_crashing_is_not_trusted_until_it_ran_for_ten_seconds() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.told();
    let again = |name: &str| {
        Ok(Container { restart_count: 1, finished_at: EventTime::parse("2026-01-01T00:00:03Z"), ..running(name, 4) })
    };
    // As a real engine does it: the count rises when the container ends.
    let waiting = |name: &str| Ok(Container { state: State::Restarting, ..again(name)? });
    history.event("a", EventKind::Die, 3).look(waiting);
    assert!(!history.told()[0].1.as_ref().unwrap().settling);
    history.event("a", EventKind::Start, 4).look(again);
    assert!(history.told()[0].1.as_ref().unwrap().settling);
    history.after(10).look(again);
    assert!(!history.told()[0].1.as_ref().unwrap().settling);
}

#[test]
fn case_16_also_when_it_was_seen_restarting_in_between() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.told();
    // Docker counts a restart when the process ends, not when the next one begins.
    let counted = |name: &str, second: u32| Container {
        restart_count: 1,
        finished_at: EventTime::parse("2026-01-01T00:00:03Z"),
        ..running(name, second)
    };
    history
        .event("a", EventKind::Die, 3)
        .look(|name| Ok(Container { state: State::Restarting, exit_code: 1, ..counted(name, 1) }));
    assert_eq!(history.told()[0].1.as_ref().unwrap().container.state, State::Restarting);
    history.event("a", EventKind::Start, 4).look(|name| Ok(counted(name, 4)));
    assert!(history.told()[0].1.as_ref().unwrap().settling);
    history.after(10).look(|name| Ok(counted(name, 4)));
    assert!(!history.told()[0].1.as_ref().unwrap().settling);
}

#[test]
fn a_crash_after_a_long_run_is_trusted_at_once() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.told();
    history.event("a", EventKind::Start, 40).look(|name| {
        Ok(Container { restart_count: 1, finished_at: EventTime::parse("2026-01-01T00:00:39Z"), ..running(name, 40) })
    });
    assert!(!history.told()[0].1.as_ref().unwrap().settling);
}

#[test]
fn several_changes_of_one_container_are_told_as_one() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    for status in [HealthStatus::Starting, HealthStatus::Unhealthy] {
        let health = Health { status, failing_streak: 0, exit_code: None, output: ArcStr::new() };
        history.event("a", EventKind::Other("health_status".into()), 2);
        history.look(|name| Ok(Container { health: Some(Box::new(health.clone())), ..running(name, 1) }));
    }
    let told = history.told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.as_ref().unwrap().container.health.as_ref().unwrap().status, HealthStatus::Unhealthy);
}

#[test]
fn a_stream_that_does_not_tell_what_a_list_shows_is_deaf_and_a_late_event_is_not() {
    let mut history = History::new();
    history.list(&[("a", 1, true), ("b", 1, true)]).look(|name| Ok(running(name, 1)));
    history.after(30).list(&[("a", 2, true), ("b", 1, true)]);
    assert!(!history.deaf());
    history.after(1).event("a", EventKind::Die, 40).after(3);
    assert!(!history.deaf(), "the event came a moment later");
    history.after(30).list(&[("a", 2, true), ("b", 9, true)]).after(4);
    assert!(history.deaf());
    assert!(!history.deaf(), "told once");
}

#[test]
fn what_a_list_shows_and_an_event_told_before_it_is_nothing_new() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.after(10).event("a", EventKind::Die, 11).look(|name| Ok(running(name, 1)));
    history.after(20).list(&[("a", 2, false)]).after(4).look(|name| Ok(running(name, 1)));
    assert!(!history.deaf(), "heard between the two lists");
    history.after(26).list(&[("a", 3, false)]).after(4);
    assert!(history.deaf(), "heard before the last list, and not since");
}

#[test]
fn what_happened_while_there_was_no_stream_does_not_make_the_next_one_deaf() {
    let mut history = History::new();
    history.list(&[("a", 1, true), ("b", 1, true)]).look(|name| Ok(running(name, 1)));
    history.after(30).list(&[("a", 2, true), ("b", 1, true)]);
    history.ledger.interrupted();
    assert_eq!(history.ledger.next_due(), None, "nothing to wait for");
    history.after(10).list(&[("a", 2, true), ("b", 7, true)]).after(4).look(|name| Ok(running(name, 1)));
    assert!(!history.deaf());
    history.after(30).list(&[("a", 2, true), ("b", 8, true)]).after(4);
    assert!(history.deaf(), "but what this one does not tell does");
}

#[test]
fn who_asks_about_what_was_called_gone_already_is_told_again() {
    let mut history = History::new();
    history.list(&[("a", 1, true)]).look(|name| Ok(running(name, 1)));
    history.event("a", EventKind::Other("update".into()), 2);
    let looking = history.ledger.next_look().unwrap();
    history.told();
    history.event("a", EventKind::Destroy, 3);
    assert_eq!(history.told(), [("a".to_owned(), None)]);
    // The look is still under way: the engine is slow.
    history.ledger.ask(&id("a"));
    assert_eq!(history.told(), [("a".to_owned(), None)]);
    let now = history.now;
    history.ledger.looked(&looking, Ok(Arc::new(running("a", 1))), now, 0.5);
    assert!(history.told().is_empty());
    assert!(history.ledger.is_empty());
}

#[test]
fn what_went_while_the_first_list_was_under_way_does_not_hold_up_the_first_look() {
    let mut history = History::new();
    history.event("a", EventKind::Destroy, 1).list(&[("a", 1, true), ("b", 1, true)]);
    history.look(|name| Ok(running(name, 1)));
    assert!(history.ledger.complete());
}

#[test]
fn the_stream_goes_on_right_after_the_last_event() {
    let mut history = History::new();
    assert_eq!(history.ledger.resume(), None);
    history.event("a", EventKind::Start, 9).event("b", EventKind::Start, 3);
    assert_eq!(history.ledger.resume(), Some(EventTime(at(9).0 + 1)));
}
