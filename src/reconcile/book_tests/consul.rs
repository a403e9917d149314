//! What happens to Consul: other people's hands, races of reads and writes, refusals, beats; and rest.

use super::*;

type Edit = fn(&mut ActualService);

#[test]
fn edits_from_outside_are_repaired_and_counted_once() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let edits: [(Drift, Edit); 4] = [
        (Drift::Changed, |service| service.port = 1),
        (Drift::MissingCheck, |service| service.checks.clear()),
        (Drift::ChangedCheck, |service| {
            service.checks.get_mut("n1:web:80:docker").unwrap().status = Status::Critical;
        }),
        (Drift::ForeignCheck, |service| {
            let check = ActualCheck { status: Status::Critical, output: ArcStr::new() };
            service.checks.insert("n1:web:80:more".into(), check);
        }),
    ];
    let right = story.consul.services["n1:web:80"].clone();
    for (kind, edit) in edits {
        story.edit("n1:web:80", edit);
        assert_eq!(story.read(), [("n1:web:80".into(), kind)]);
        assert_eq!(story.read(), [], "{kind:?}: counted once");
        assert_eq!(story.write().len(), 1, "{kind:?}");
        assert!(story.settle().is_empty());
        let now = &story.consul.services["n1:web:80"];
        assert_eq!(now.checks.keys().collect::<Vec<_>>(), right.checks.keys().collect::<Vec<_>>());
        assert_eq!(now.port, right.port);
    }
}

#[test]
fn the_probes_of_a_users_own_check_are_no_drift() {
    let mut story = Story::new();
    story.here(labelled(running("a", "web"), "SERVICE_CHECK_HTTP", "/health")).settle();
    let ours = |id: &&ArcStr| id.ends_with(":docker") || id.ends_with(":healing");
    let probes: Vec<ArcStr> =
        story.consul.services["n1:web:80"].checks.keys().filter(|id| !ours(id)).cloned().collect();
    assert_eq!(probes.len(), 1);
    for status in [Status::Critical, Status::Passing] {
        story.edit("n1:web:80", |service| {
            service.checks.insert(probes[0].clone(), ActualCheck { status, output: "HTTP GET".into() });
        });
        assert_eq!(story.read(), []);
        assert!(story.settle().is_empty());
    }
}

#[test]
fn case_38_lost_registrations_come_back_in_one_write_each() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(running("b", "db")).settle();
    story.consul.services.clear();
    let drift = story.read();
    assert_eq!(drift.len(), 3);
    assert!(drift.iter().all(|(_, kind)| *kind == Drift::Missing));
    let mut writes = story.write();
    writes.sort();
    let own = [format!("register {OWN}"), format!("update {OWN}:docker passing")];
    assert_eq!(writes, ["register n1:db:80", own[0].as_str(), "register n1:web:80", own[1].as_str()]);
    assert!(story.settle().is_empty());
}

#[test]
fn what_somebody_removes_again_and_again_comes_back_every_time_it_was_seen() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    for _ in 0..20 {
        story.consul.services.remove("n1:web:80");
        assert_eq!(story.settle(), ["register n1:web:80"]);
    }
}

#[test]
fn what_consul_never_shows_is_told_and_not_written_again_and_again() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let mut writes = 0;
    for _ in 0..1200 {
        story.consul.services.remove("n1:web:80");
        story.after(3).read();
        writes += story.write().len();
    }
    assert!(writes < 30, "{writes} writes in an hour");
    assert!(story.book.failures(9).iter().any(|failure| failure.reason.contains("service:read")));
    // The right is given: what is registered is seen, and all is well.
    story.after(600).write();
    story.settle();
    assert_eq!(story.book.failing(), 0);
}

#[test]
fn an_operators_maintenance_stays() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let critical = ActualCheck { status: Status::Critical, output: "maintenance".into() };
    story.edit("n1:web:80", |service| {
        service.checks.insert("_service_maintenance:n1:web:80".into(), critical);
    });
    assert_eq!(story.read(), []);
    assert!(story.settle().is_empty());
}

#[test]
fn a_read_that_is_older_than_a_write_does_not_undo_it() {
    let mut story = Story::new();
    story.here(running("a", "web"));
    let old = story.consul.clone();
    // The read begins, the write overtakes it, the read answers what was before.
    drop(story.book.reading());
    assert_eq!(story.write(), ["register n1:web:80"]);
    assert_eq!(story.book.read(&old, story.now, || 0.5), []);
    story.recount();
    assert!(story.book.is_ahead(), "the next read has something to say even if it is the same");
    assert!(story.write().is_empty());
    assert!(story.settle().is_empty());

    let old = story.consul.clone();
    story.gone("a");
    drop(story.book.reading());
    assert_eq!(story.write(), ["deregister n1:web:80"]);
    assert_eq!(story.book.read(&old, story.now, || 0.5), []);
    assert!(story.write().is_empty());
    assert!(story.settle().is_empty());
}

#[test]
fn a_read_that_ends_while_a_write_is_under_way_says_nothing_about_it() {
    let mut story = Story::new();
    story.here(running("a", "web"));
    let (at, op) = story.book.next(story.now).unwrap();
    // It has happened, but the answer is still on its way; and somebody else removes it meanwhile.
    assert_eq!(story.read(), []);
    apply(&mut story.consul, &op);
    assert_eq!(story.read(), []);
    story.book.done(&at, &op);
    assert!(story.settle().is_empty());
    assert_eq!(story.ids(), ["n1:web:80"]);
}

#[test]
fn an_interrupted_write_that_happened_is_not_written_again_and_one_that_did_not_is() {
    for happened in [true, false] {
        let mut story = Story::new();
        story.here(running("a", "web"));
        let (at, op) = story.book.next(story.now).unwrap();
        if happened {
            apply(&mut story.consul, &op);
        }
        story.book.interrupted(&at);
        story.recount();
        assert_eq!(story.settle().len(), usize::from(!happened));
        assert_eq!(story.ids(), ["n1:web:80"]);
    }
}

#[test]
fn what_changes_while_a_write_is_under_way_is_written_after_it() {
    let mut story = Story::new();
    story.here(running("a", "web"));
    let (at, op) = story.book.next(story.now).unwrap();
    story.gone("a");
    assert!(story.book.next(story.now).is_none(), "never two writes at once for one id");
    apply(&mut story.consul, &op);
    story.book.done(&at, &op);
    assert_eq!(story.write(), ["deregister n1:web:80"]);
}

#[test]
fn one_refused_registration_holds_up_no_other() {
    let mut story = Story::new();
    story.here(running("a", "bad")).here(running("b", "good"));
    let mut written = Vec::new();
    while let Some((at, op)) = story.book.next(story.now) {
        if at.contains("bad") {
            assert!(story.book.failed(&at, Class::Rejected, "no", story.now, 0.5));
        } else {
            apply(&mut story.consul, &op);
            story.book.done(&at, &op);
            written.push(at);
        }
        story.recount();
    }
    assert_eq!(written, ["n1:good:80"]);
    assert_eq!((story.book.pending(), story.book.failing()), (1, 1));
    // A new definition is tried at once, and what waited for the old one is not pending any more.
    assert_eq!(story.here(labelled(running("a", "bad"), "SERVICE_TAGS", "x")).settle(), ["register n1:bad:80"]);
    assert_eq!((story.book.pending(), story.book.failing()), (0, 0));
}

#[test]
fn a_beat_is_one_update_per_check_and_leaves_nothing_behind() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.book.beat_all();
    let mut writes = story.write();
    writes.sort();
    assert_eq!(writes, ["update n1:remora:engine000001:docker passing", "update n1:web:80:docker passing"]);
    story.book.beat_own();
    assert_eq!(story.write(), ["update n1:remora:engine000001:docker passing"]);
    // A beat for what goes before it could be fed is forgotten.
    story.book.beat_all();
    story.consul.services.remove("n1:web:80");
    story.read();
    story.gone("a").settle();
    assert_eq!(story.here(running("a", "web")).settle(), ["register n1:web:80"]);
    story.book.beat_all();
    story.consul.services.remove("n1:web:80");
    story.read();
    story.gone("a").settle();
    assert!(story.book.beats.is_empty());
}

#[test]
fn a_heartbeat_that_says_nothing_new_has_nothing_read_through() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.book.beat_own();
    assert_eq!(story.write(), ["update n1:remora:engine000001:docker passing"]);
    assert!(!story.book.is_ahead());
    // It expired while the agent could not write: that it passes again is news.
    let expired = ActualCheck { status: Status::Critical, output: "TTL expired".into() };
    story.edit(OWN, |own| drop(own.checks.insert(Service::docker_check_id(OWN), expired)));
    story.book.beat_own();
    story.read();
    assert_eq!(story.write(), ["update n1:remora:engine000001:docker passing"]);
    assert!(story.book.is_ahead());
}

#[test]
fn what_the_agent_says_of_itself_is_written_when_its_status_changes() {
    let mut story = Story::new();
    story.book.say(Status::Passing, "fine".into());
    assert!(story.settle().is_empty());
    story.book.say(Status::Critical, "blind".into());
    assert_eq!(story.settle(), ["update n1:remora:engine000001:docker critical"]);
    story.book.say(Status::Critical, "blind".into());
    assert!(story.settle().is_empty());
}

#[test]
fn case_39_at_rest_there_is_nothing_to_do() {
    let mut story = Story::new();
    for letter in ["a", "b", "c"] {
        story.here(running(letter, letter));
    }
    story.settle();
    for _ in 0..10 {
        assert_eq!(story.after(3).read(), []);
        story.here(running("b", "b"));
        assert!(story.book.next(story.now).is_none());
        assert_eq!(story.book.next_due(), None);
        assert!(!story.book.is_ahead());
    }
}

#[test]
fn nothing_is_kept_of_what_is_gone() {
    let mut story = Story::new();
    for round in 0..3 {
        story.here(labelled(running("a", "web"), "SERVICE_ID", "api")).here(sharing("b", "side", &"a".repeat(64)));
        story.here(running("c", "other")).settle();
        story.here(running("c", "renamed"));
        if round == 1 {
            // Consul is wiped and Docker's containers go at the same time.
            story.consul.services.clear();
        }
        story.gone("a").gone("b").gone("c").settle();
        let book = &story.book;
        assert!(book.containers.held.is_empty() && book.containers.names.is_empty());
        assert!(book.containers.dependents.is_empty());
        assert!(book.registered.is_empty() && book.gone.is_empty() && book.asked.is_empty() && book.beats.is_empty());
        assert_eq!(book.wanted.len(), 1);
        assert!(book.items.len() <= 1, "{:?}", book.items);
    }
}

/// `web` with a script and a TCP check.
fn with_checks(letter: &str) -> Container {
    let container = labelled(running(letter, "web"), "SERVICE_CHECK_SCRIPT", "/check.sh");
    labelled(container, "SERVICE_CHECK_DB_TCP", "true")
}

impl Story {
    /// Writes everything; a registration of which `refused` says so is refused by Consul for good.
    fn write_refusing(&mut self, refused: impl Fn(&Service) -> bool) -> Vec<String> {
        let mut left_out = Vec::new();
        while let Some((at, op)) = self.book.next(self.now) {
            match &op {
                Op::Register(service) if refused(service) => match self.book.refuse(&at, &op) {
                    Some(checks) => left_out.extend(checks),
                    None => drop(self.book.failed(&at, Class::Rejected, "no", self.now, 0.5)),
                },
                op => {
                    apply(&mut self.consul, op);
                    self.book.done(&at, op);
                }
            }
            self.recount();
        }
        left_out
    }

    fn checks(&self) -> Vec<&ArcStr> {
        self.consul.services["n1:web:80"].checks.keys().collect()
    }
}

fn has(service: &Service, part: &str) -> bool {
    service.checks.iter().any(|check| check.id.contains(part))
}

#[test]
fn a_check_that_consul_refuses_does_not_cost_the_registration() {
    let mut story = Story::new();
    story.book.settings.publish.allow_script_checks = true;
    story.here(with_checks("a"));
    assert_eq!(story.write_refusing(|service| has(service, ":script")), ["n1:web:80:script"]);
    assert_eq!(story.checks(), ["n1:web:80:db", "n1:web:80:docker", "n1:web:80:healing"]);
    assert!(story.settle().is_empty(), "and that is what is wanted now");
    // Docker's word changes: the script is not sent again with it.
    let sick = Health { status: HealthStatus::Unhealthy, failing_streak: 3, exit_code: Some(1), output: ArcStr::new() };
    story.here(Container { health: Some(Box::new(sick)), ..with_checks("a") });
    assert_eq!(story.settle(), ["update n1:web:80:docker critical"]);
    // Consul was started anew, and runs scripts now.
    story.here(with_checks("a")).settle();
    story.book.reconnected();
    assert_eq!(story.settle(), ["register n1:web:80"]);
    assert_eq!(story.checks(), ["n1:web:80:db", "n1:web:80:docker", "n1:web:80:healing", "n1:web:80:script"]);
}

#[test]
fn docker_s_check_alone_is_better_than_nothing_and_a_definition_that_is_refused_without_any_waits() {
    let mut story = Story::new();
    story.here(labelled(running("a", "web"), "SERVICE_CHECK_TCP", "true"));
    assert_eq!(story.write_refusing(|service| has(service, ":tcp")), ["n1:web:80:tcp"]);
    assert_eq!(story.checks(), ["n1:web:80:docker", "n1:web:80:healing"]);
    story.here(labelled(running("b", "db"), "SERVICE_CHECK_TCP", "true"));
    assert_eq!(story.write_refusing(|service| service.id.contains("db")), ["n1:db:80:tcp"]);
    assert_eq!(story.book.failures(9).len(), 1);
    assert_eq!(story.ids(), ["n1:web:80"]);
    story.gone("a").gone("b").settle();
    assert!(story.book.refused.is_empty(), "nothing is remembered of what is gone");
}

/// A story in which Consul reaps `web`, whose own check has been critical for so many seconds.
fn reaped_after(seconds: u64) -> (Story, Vec<(ArcStr, Drift)>) {
    let mut story = Story::new();
    story.here(mortal()).settle();
    story.edit("n1:web:80", |service| {
        service.checks.get_mut("n1:web:80:tcp").unwrap().status = Status::Critical;
    });
    story.read();
    story.after(seconds);
    story.consul.services.remove("n1:web:80");
    let drift = story.read();
    (story, drift)
}

fn mortal() -> Container {
    let container = labelled(running("a", "web"), "SERVICE_CHECK_TCP", "true");
    let container = labelled(container, "SERVICE_CHECK_INITIAL_STATUS", "passing");
    labelled(container, "SERVICE_CHECK_DEREGISTER_AFTER", "2m")
}

#[test]
fn what_consul_removes_as_its_definition_asks_stays_away() {
    let (mut story, drift) = reaped_after(125);
    assert_eq!(drift, [("n1:web:80".into(), Drift::Reaped)]);
    assert!(story.settle().is_empty());
    assert_eq!(story.book.failing(), 1);
    assert!(story.after(120).settle().is_empty(), "for a good while");
    assert_eq!(story.after(200).settle(), ["register n1:web:80"], "then it is given another chance");
    let writes: usize = (0..200)
        .map(|_| {
            story.edit("n1:web:80", |service| {
                service.checks.get_mut("n1:web:80:tcp").unwrap().status = Status::Critical;
            });
            story.read();
            story.after(150);
            story.consul.services.remove("n1:web:80");
            story.read();
            let mut minutes = 0;
            while story.settle().is_empty() {
                story.after(60);
                minutes += 1;
            }
            usize::from(minutes > 25)
        })
        .sum();
    assert!(writes > 190, "more and more rarely: {writes} of 200 waits were long");
}

#[test]
fn a_reaped_service_whose_container_starts_again_is_registered_at_once() {
    let (mut story, _) = reaped_after(125);
    story.here(Container { started_at: EventTime::parse("2026-01-01T00:09:00Z"), ..mortal() });
    assert_eq!(story.settle(), ["register n1:web:80"]);
}

#[test]
fn what_goes_too_early_or_with_everything_else_was_not_reaped() {
    let (mut story, drift) = reaped_after(60);
    assert_eq!(drift, [("n1:web:80".into(), Drift::Missing)], "somebody deregistered it");
    assert_eq!(story.settle(), ["register n1:web:80"]);
    story.edit("n1:web:80", |service| {
        service.checks.get_mut("n1:web:80:tcp").unwrap().status = Status::Critical;
    });
    story.read();
    story.after(300).consul.services.clear();
    assert!(story.read().iter().all(|(_, kind)| *kind == Drift::Missing), "Consul forgot everything");
    assert_eq!(story.settle().len(), 3, "it, and the agent's own with what it says of itself");
}

#[test]
fn what_is_registered_as_it_is_wanted_is_in_memory_once() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    // As it comes from Consul: nothing of it is anybody else's memory.
    story.edit("n1:web:80", |service| {
        service.id = service.id.to_string().into();
        service.meta = service.meta.iter().collect();
        let checks = std::mem::take(&mut service.checks).into_iter();
        service.checks = checks.map(|(id, check)| (id.to_string().into(), check)).collect();
    });
    assert_eq!(story.read(), []);
    let (wanted, actual) = (&story.book.wanted["n1:web:80"], &story.consul.services["n1:web:80"]);
    assert!(ArcStr::ptr_eq(&wanted.id, &actual.id));
    assert!(ArcStr::ptr_eq(&wanted.checks[0].id, actual.checks.keys().next().unwrap()));
    let container = |meta: &Meta| meta.text(Service::META_CONTAINER).unwrap().clone();
    let id = story.book.containers.held.keys().next().unwrap().text();
    assert!(ArcStr::ptr_eq(&container(&wanted.meta), id) && ArcStr::ptr_eq(&container(&actual.meta), id));
    assert!(Arc::ptr_eq(actual, &story.book.actual["n1:web:80"]));
    let id = wanted.id.clone();
    assert_eq!(story.book.sharing(&story.consul, true), None);
    assert_eq!(story.book.sharing(&story.consul, false), None, "it has it already");

    // Looked at again, with another definition: the same texts.
    story.here(labelled(running("a", "web"), "SERVICE_TAGS", "other"));
    let wanted = &story.book.wanted["n1:web:80"];
    assert!(ArcStr::ptr_eq(&wanted.id, &id) && *wanted.tags == ["other"]);
}
