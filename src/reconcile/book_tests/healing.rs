//! The check that says whether a container is healed, and what the names of a replacement under way mean for what is registered.

use super::*;
use crate::docker::spec::label;
use litemap::LiteMap;

const WEB: &str = "n1:web:80";

fn given_up(pairs: &[(&str, &str)]) -> GivenUp {
    Arc::new(pairs.iter().map(|&(letter, why)| (id(letter), why.to_owned())).collect())
}

impl Story {
    fn gives_up(&mut self, pairs: &[(&str, &str)]) -> &mut Self {
        self.book.give_up(&given_up(pairs));
        self.recount();
        self
    }

    fn healing(&self, service: &str) -> Option<(Status, &str)> {
        let check = self.consul.services[service].checks.get(&Service::healing_check_id(service))?;
        Some((check.status, &check.output))
    }
}

#[test]
fn the_check_comes_with_the_registration_and_costs_no_write_of_its_own() {
    let mut story = Story::new();
    assert_eq!(story.here(running("a", "web")).settle(), [format!("register {WEB}")]);
    assert_eq!(story.healing(WEB), Some((Status::Passing, "")));
    story.restart();
    assert!(story.here(running("a", "web")).settle().is_empty());
    // Switched off for this container, and on again.
    let off = || labelled(running("a", "web"), "remora.heal", "off");
    assert_eq!(story.here(off()).settle(), [format!("register {WEB}"), format!("uncheck {WEB}:healing")]);
    assert_eq!(story.healing(WEB), None);
    assert_eq!(story.here(running("a", "web")).settle(), [format!("register {WEB}")]);
}

#[test]
fn with_healing_off_there_is_no_such_check() {
    let mut story = Story::new();
    story.book.healing.settings.mode = HealMode::Off;
    story.here(running("a", "web")).settle();
    assert_eq!(story.healing(WEB), None);
}

#[test]
fn whoever_is_given_up_is_critical_with_the_reason_and_nobody_else_is_touched() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(running("b", "db")).settle();
    assert!(story.gives_up(&[]).settle().is_empty());
    let writes = story.gives_up(&[("a", "five attempts\nin 30m")]).settle();
    assert_eq!(writes, [format!("update {WEB}:healing critical")]);
    assert_eq!(story.healing(WEB), Some((Status::Critical, "five attempts in 30m")));
    assert_eq!(story.status(WEB), (Status::Passing, ""), "Docker's word is another one");
    assert!(story.gives_up(&[("a", "five attempts\nin 30m")]).settle().is_empty());
    // While it is critical the reason is read.
    assert_eq!(story.gives_up(&[("a", "six attempts")]).settle(), [format!("update {WEB}:healing critical")]);
    // Docker's word changes: one write, and the other check stays as it is.
    let paused = Container { state: State::Paused, ..running("a", "web") };
    assert_eq!(story.here(paused).settle(), [format!("update {WEB}:docker critical")]);
    assert_eq!(story.here(running("a", "web")).settle(), [format!("update {WEB}:docker passing")]);
    assert_eq!(story.gives_up(&[]).settle(), [format!("update {WEB}:healing passing")]);
    assert_eq!(story.healing(WEB), Some((Status::Passing, "")));
}

#[test]
fn what_is_registered_after_it_was_given_up_begins_critical() {
    let mut story = Story::new();
    story.gives_up(&[("a", "why")]).here(running("a", "web"));
    // A registration carries no output.
    assert_eq!(story.settle(), [format!("register {WEB}"), format!("update {WEB}:healing critical")]);
    assert_eq!(story.healing(WEB), Some((Status::Critical, "why")));
}

#[test]
fn a_registration_that_is_held_says_it_too() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let looping = ended(running("a", "web"), State::Restarting);
    assert_eq!(story.here(looping).settle(), [format!("update {WEB}:docker critical")]);
    assert_eq!(story.gives_up(&[("a", "why")]).settle(), [format!("update {WEB}:healing critical")]);
    assert_eq!(story.gives_up(&[]).settle(), [format!("update {WEB}:healing passing")]);
}

#[test]
fn before_the_watcher_has_spoken_what_it_said_before_stays() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(running("b", "db")).settle();
    story.gives_up(&[("a", "why")]).settle();
    for held in [false, true] {
        story.restart();
        story.book.given_up = None;
        let web = if held { ended(running("a", "web"), State::Restarting) } else { running("a", "web") };
        let writes = story.here(web).here(running("b", "db")).settle();
        assert_eq!(writes.len(), usize::from(held), "{writes:?}");
        assert_eq!(story.healing(WEB), Some((Status::Critical, "why")));
        assert!(story.gives_up(&[("a", "why")]).settle().is_empty());
    }
    story.restart();
    story.book.given_up = None;
    story.here(running("a", "web")).here(running("b", "db")).settle();
    assert_eq!(story.gives_up(&[]).settle(), [format!("update {WEB}:healing passing")], "released while it was away");
}

#[test]
fn what_others_make_of_the_check_is_repaired() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.edit(WEB, |service| {
        let check = ActualCheck { status: Status::Critical, output: "by hand".into() };
        service.checks.insert(Service::healing_check_id(WEB), check);
    });
    assert_eq!(story.read(), [(WEB.into(), Drift::ChangedCheck)]);
    assert_eq!(story.write(), [format!("update {WEB}:healing passing")]);
    story.edit(WEB, |service| drop(service.checks.remove(&Service::healing_check_id(WEB))));
    assert_eq!(story.read(), [(WEB.into(), Drift::MissingCheck)]);
    assert_eq!(story.write(), [format!("register {WEB}")]);
}

#[test]
fn beats_feed_dockers_check_alone() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.book.beat_all();
    let mut writes = story.write();
    writes.sort();
    assert_eq!(writes, [format!("update {OWN}:docker passing"), format!("update {WEB}:docker passing")]);
}

#[test]
fn no_other_write_stands_in_for_a_beat() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.gives_up(&[("a", "why")]).book.beat_all();
    let mut writes = story.settle();
    writes.retain(|write| write.contains(WEB));
    assert_eq!(writes, [format!("update {WEB}:healing critical"), format!("update {WEB}:docker passing")]);
}

#[test]
fn under_an_id_of_its_own_the_check_has_one_too() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(running("b", "WEB")).settle();
    let own = format!("n1:WEB:80:{}", id("b").short());
    assert_eq!(story.healing(&own), Some((Status::Passing, "")));
    assert_eq!(story.gives_up(&[("b", "why")]).settle(), [format!("update {own}:healing critical")]);
}

#[test]
fn a_label_cannot_take_the_place_of_the_check() {
    for mode in [HealMode::On, HealMode::Off] {
        let mut story = Story::new();
        story.book.healing.settings.mode = mode;
        story.here(labelled(running("a", "web"), "SERVICE_CHECK_HEALING_TCP", "true"));
        let Some((_, Op::Register(service))) = story.book.next(story.now) else { panic!("a registration") };
        let ours = service.checks.iter().filter(|check| diff::is_healing(&check.id, WEB));
        let kinds: Vec<_> = ours.map(|check| &*check.kind).collect();
        assert!(kinds.iter().all(|kind| matches!(kind, CheckKind::Ttl { .. })), "{kinds:?}");
        assert_eq!(kinds.len(), usize::from(mode == HealMode::On));
        assert_eq!(service.meta.get(Service::META_HASH).unwrap(), &service.definition_hash());
        assert_eq!(story.book.notes(), 1, "and that is told");
    }
}

/// `a` in one of the roles of an operation.
fn named(letter: &str, role: &str) -> Container {
    running(letter, &format!("web.{role}-0123abcd"))
}

/// The same container after it was replaced so many times.
fn replacement(container: Container) -> Container {
    labelled(labelled(container, label::GENERATION, "1"), label::CAUSE, "unhealthy")
}

fn created(container: Container) -> Container {
    Container { state: State::Created, bindings: LiteMap::new(), started_at: None, ..container }
}

fn stopped(container: Container) -> Container {
    Container { exit_code: 143, ..ended(container, State::Exited) }
}

#[test]
fn start_first_the_registration_changes_hands_in_one_write() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let new = |name: Container| replacement(name);
    assert!(story.here(new(created(named("b", "new")))).settle().is_empty());
    assert!(story.here(new(named("b", "new"))).settle().is_empty(), "the old one has its place");
    assert_eq!(story.here(named("a", "old")).settle(), [format!("register {WEB}")], "nothing is deregistered first");
    assert_eq!(story.container_at(WEB), id("b"));
    assert_eq!(story.consul.services[WEB].meta.get("heal-count").unwrap(), "1");
    assert_eq!(story.consul.services[WEB].meta.get("heal-reason").unwrap(), "unhealthy");
    assert!(story.here(new(running("b", "web"))).settle().is_empty(), "the definition is the same");
    assert!(story.drains(named("a", "old")).here(stopped(named("a", "old"))).gone("a").settle().is_empty());
    assert_eq!(story.ids(), [WEB]);
}

#[test]
fn start_first_it_does_not_matter_which_rename_is_told_first_or_when() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(named("b", "new")).settle();
    story.here(running("b", "web")).here(named("a", "old"));
    assert_eq!(story.settle(), [format!("register {WEB}")]);
    assert_eq!(story.container_at(WEB), id("b"));
    // An agent that starts in between finds the same.
    story.restart();
    assert!(story.here(named("a", "old")).here(named("b", "new")).settle().is_empty());
}

#[test]
fn a_replacement_is_taken_back() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(named("b", "new")).settle();
    story.here(named("a", "old")).here(running("b", "web")).settle();
    // The new one is stopped before it gives the name back.
    assert_eq!(story.drains(running("b", "web")).settle(), [format!("deregister {WEB}")]);
    assert!(story.here(stopped(running("b", "web"))).here(stopped(named("b", "undo"))).settle().is_empty());
    assert_eq!(story.here(running("a", "web")).settle(), [format!("register {WEB}")]);
    assert_eq!(story.container_at(WEB), id("a"));
    assert!(story.here(stopped(named("b", "bad"))).settle().is_empty());
    assert_eq!(story.ids(), [WEB]);
}

#[test]
fn a_replacement_that_runs_while_it_is_taken_back_is_not_registered() {
    let mut story = Story::new();
    story.here(named("a", "old")).here(running("b", "web")).settle();
    // Both renames are known before anything is written: it changes hands.
    story.here(named("b", "undo")).here(running("a", "web"));
    assert_eq!(story.settle(), [format!("register {WEB}")]);
    assert_eq!(story.container_at(WEB), id("a"));
    story.gone("a");
    assert_eq!(story.settle(), [format!("deregister {WEB}")], "nobody in the role of a failure takes the place");
    assert!(story.here(named("b", "bad")).settle().is_empty());
}

#[test]
fn stop_first_the_registration_goes_at_once_and_comes_back_with_the_new_port() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(created(named("b", "new"))).settle();
    let before = story.consul.services[WEB].port;
    assert_eq!(story.here(named("a", "old")).settle(), [format!("deregister {WEB}")]);
    assert!(story.here(created(running("b", "web"))).settle().is_empty());
    assert!(story.drains(named("a", "old")).here(stopped(named("a", "old"))).settle().is_empty());
    assert_eq!(story.here(running("b", "web")).settle(), [format!("register {WEB}")]);
    assert_eq!(story.container_at(WEB), id("b"));
    assert_ne!(story.consul.services[WEB].port, before);
    assert!(story.gone("a").settle().is_empty());
}

#[test]
fn stop_first_a_replacement_is_taken_back() {
    let mut story = Story::new();
    story.here(named("a", "old")).here(stopped(named("a", "old"))).here(running("b", "web")).settle();
    assert_eq!(story.container_at(WEB), id("b"));
    // It ends by itself, gives the name back, and the old one is started again.
    assert_eq!(story.here(ended(running("b", "web"), State::Exited)).settle(), [format!("deregister {WEB}")]);
    assert!(story.here(ended(named("b", "undo"), State::Exited)).settle().is_empty());
    assert!(story.here(stopped(running("a", "web"))).settle().is_empty());
    assert_eq!(story.here(running("a", "web")).settle(), [format!("register {WEB}")]);
    assert_eq!(story.container_at(WEB), id("a"));
}

#[test]
fn an_agent_that_starts_in_between_leaves_the_place_to_the_old_one_until_it_is_taken() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(named("b", "new")).settle();
    story.restart();
    // Docker lists the newest first.
    assert!(story.here(named("b", "new")).settle().is_empty());
    assert_eq!(story.asks(), [id("a")]);
    assert!(story.here(running("a", "web")).settle().is_empty());
    assert_eq!(story.container_at(WEB), id("a"));
    story.here(named("a", "old"));
    story.restart();
    assert!(story.here(named("b", "new")).settle().is_empty());
    assert_eq!(story.here(named("a", "old")).settle(), [format!("register {WEB}")]);
    assert_eq!(story.container_at(WEB), id("b"));
}

#[test]
fn no_label_of_another_takes_the_place_of_a_staged_one() {
    let mut story = Story::new();
    // Older than the other one, and wishes for its id.
    story.here(labelled(running("A", "thief"), "SERVICE_ID", WEB)).here(named("b", "new")).settle();
    assert_eq!(story.container_at(WEB), id("b"));
    assert!(story.here(running("b", "web")).settle().is_empty());
}

#[test]
fn one_that_was_given_up_hands_no_critical_check_to_its_replacement() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(named("b", "new")).gives_up(&[("a", "why")]).settle();
    let writes = story.here(named("a", "old")).settle();
    assert_eq!(writes, [format!("register {WEB}"), format!("update {WEB}:healing passing")]);
}
