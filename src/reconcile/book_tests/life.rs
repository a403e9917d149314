//! One container's life, and containers that depend on one another.

use super::*;

#[test]
fn a_start_is_one_registration_and_an_end_is_one_deregistration() {
    let mut story = Story::new();
    assert_eq!(story.here(running("a", "web")).settle(), ["register n1:web:80"]);
    assert_eq!(story.book.published(), 1);
    assert_eq!(story.here(ended(running("a", "web"), State::Exited)).settle(), ["deregister n1:web:80"]);
    assert!(story.gone("a").settle().is_empty());
    assert_eq!(story.book.published(), 0);
}

#[test]
fn a_change_of_health_is_one_update() {
    let mut story = Story::new();
    let with = |status| {
        let health = Health { status, failing_streak: 1, exit_code: Some(1), output: "refused".into() };
        Container { health: Some(Box::new(health)), ..running("a", "web") }
    };
    story.here(with(HealthStatus::Healthy)).settle();
    assert_eq!(story.here(with(HealthStatus::Unhealthy)).settle(), ["update n1:web:80:docker critical"]);
    assert_eq!(story.status("n1:web:80"), (Status::Critical, "unhealthy: exit 1: refused"));
    assert_eq!(story.here(with(HealthStatus::Healthy)).settle(), ["update n1:web:80:docker passing"]);
}

#[test]
fn case_10_draining_deregisters_and_surviving_the_signal_registers_again() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    assert_eq!(story.drains(running("a", "web")).settle(), ["deregister n1:web:80"]);
    assert_eq!(story.here(running("a", "web")).settle(), ["register n1:web:80"]);
}

#[test]
fn a_restarting_container_keeps_its_registration_and_tells_why_it_is_critical() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let restarting = ended(running("a", "web"), State::Restarting);
    assert_eq!(story.here(restarting).settle(), ["update n1:web:80:docker critical"]);
    assert_eq!(story.status("n1:web:80"), (Status::Critical, "restarting after it exited 1"));
    assert_eq!(story.here(running("a", "web")).settle(), ["update n1:web:80:docker passing"]);
}

#[test]
fn case_12_a_renamed_container_is_under_its_new_id_before_the_old_one_goes() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let writes = story.here(running("a", "shop")).settle();
    assert_eq!(writes, ["register n1:shop:80", "deregister n1:web:80"]);
}

#[test]
fn the_old_id_stays_if_consul_refuses_the_new_one_as_long_as_it_says_the_same() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.here(running("a", "shop"));
    let (at, op) = story.book.next(story.now).unwrap();
    assert_eq!((at.as_str(), told(&op).as_str()), ("n1:shop:80", "register n1:shop:80"));
    assert!(story.book.next(story.now).is_none(), "the old one waits for the new one");
    story.book.failed(&at, Class::Rejected, "no", story.now, 0.5);
    assert!(story.write().is_empty());
    // It was started again, on another port: what the old one says is not true any more.
    story.here(Container { bindings: running("z", "x").bindings, ..running("a", "shop") });
    let (at, op) = story.book.next(story.now).unwrap();
    assert_eq!(told(&op), "register n1:shop:80");
    story.book.failed(&at, Class::Rejected, "no", story.now, 0.5);
    assert_eq!(story.write(), ["deregister n1:web:80"]);
}

#[test]
fn two_containers_that_swap_their_names_swap_their_registrations() {
    let mut story = Story::new();
    story.here(running("a", "blue")).here(running("b", "green")).settle();
    story.here(running("a", "tmp")).here(running("b", "blue")).here(running("a", "green")).settle();
    assert_eq!(story.ids(), ["n1:blue:80", "n1:green:80"]);
    assert_eq!(story.container_at("n1:blue:80"), id("b"));
    assert_eq!(story.container_at("n1:green:80"), id("a"));
}

#[test]
fn a_name_is_taken_over_after_its_owner_has_moved_away() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(running("b", "next")).settle();
    // Both were renamed; the one that takes the name is told first.
    story.here(running("b", "web")).here(running("a", "shop"));
    let writes = story.settle();
    assert_eq!(
        writes,
        ["register n1:shop:80", "register n1:web:80", "deregister n1:next:80"],
        "at no moment is one of them not registered"
    );
    assert_eq!(story.container_at("n1:web:80"), id("b"));
}

#[test]
fn a_replacement_takes_the_id_over_without_a_gap() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    assert!(story.here(running("b", "web.new-0123abcd")).settle().is_empty(), "the other one has its place");
    // The old one ends before the names are swapped.
    let writes = story.here(ended(running("a", "web"), State::Exited)).settle();
    assert_eq!(writes, ["register n1:web:80"], "one write: it changes hands");
    assert_eq!(story.container_at("n1:web:80"), id("b"));
    story.here(ended(running("a", "web.old-0123abcd"), State::Exited));
    assert!(story.here(running("b", "web")).settle().is_empty());
}

#[test]
fn case_21_a_sharer_follows_the_owner_of_its_network() {
    let mut story = Story::new();
    story.here(sharing("b", "side", &"a".repeat(64))).settle();
    assert!(story.ids().is_empty(), "waits for its owner");
    assert_eq!(story.book.take_asks(), [id("a")]);
    story.here(running("a", "web")).settle();
    assert_eq!(story.ids(), ["n1:side:80", "n1:web:80"]);
    let port = story.consul.services["n1:side:80"].port;
    assert_eq!(port, story.consul.services["n1:web:80"].port);
    // The owner was started again, on another port.
    let moved = Container { bindings: running("z", "x").bindings, ..running("a", "web") };
    story.here(moved).settle();
    assert_ne!(story.consul.services["n1:side:80"].port, port);
    story.here(ended(running("a", "web"), State::Exited)).settle();
    assert!(story.ids().is_empty());
    story.here(running("a", "web")).settle();
    assert_eq!(story.ids().len(), 2);
    story.gone("a").settle();
    assert!(story.ids().is_empty());
}

#[test]
fn a_restart_of_the_agent_does_not_touch_a_sharer_whose_owner_has_not_been_looked_at_yet() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(sharing("b", "side", &"a".repeat(64))).settle();
    story.restart();
    // Docker lists the newest first: the sharer comes before its owner.
    story.here(sharing("b", "side", &"a".repeat(64)));
    assert!(story.settle().is_empty());
    assert_eq!(story.ids(), ["n1:side:80", "n1:web:80"]);
    assert!(story.here(running("a", "web")).settle().is_empty());
}

#[test]
fn a_chain_of_sharers_follows_its_far_end() {
    let mut story = Story::new();
    story.here(sharing("c", "far", "near")).here(sharing("b", "near", "web")).here(running("a", "web")).settle();
    assert_eq!(story.ids(), ["n1:far:80", "n1:near:80", "n1:web:80"]);
    story.here(ended(running("a", "web"), State::Exited)).settle();
    assert!(story.ids().is_empty(), "{:?}", story.ids());
}

#[test]
fn an_owner_that_nobody_told_about_is_asked_for() {
    let mut story = Story::new();
    // After a start only what runs is looked at; the network of one that ended may be that of a third one.
    let (near, far) = ("b".repeat(64), "a".repeat(64));
    story.here(running("a", "web")).here(sharing("c", "side", &near));
    assert_eq!(story.asks(), [id("b")]);
    story.here(ended(sharing("b", "near", &far), State::Exited)).settle();
    assert_eq!(story.ids(), ["n1:side:80", "n1:web:80"]);
    assert!(story.here(sharing("c", "side", &near)).asks().is_empty());
}

#[test]
fn a_circle_of_sharers_is_nothing_and_ends() {
    let mut story = Story::new();
    story.here(sharing("a", "x", "y")).here(sharing("b", "y", "x")).here(sharing("a", "x", "y")).settle();
    assert!(story.ids().is_empty());
}

#[test]
fn a_users_check_is_registered_with_its_definition() {
    let mut story = Story::new();
    story.here(labelled(running("a", "web"), "SERVICE_CHECK_TTL", "30s"));
    let Some((_, Op::Register(service))) = story.book.next(story.now) else { panic!("a registration") };
    let kinds: Vec<&CheckKind> = service.checks.iter().map(|check| &*check.kind).collect();
    assert!(matches!(kinds[..], [CheckKind::Ttl { .. }, _, _]), "{kinds:?}");
    assert_eq!(service.checks[0].id, "n1:web:80:docker", "the one that is fed comes first");
}

#[test]
fn what_a_running_container_had_under_other_settings_is_kept_for_the_first_minute() {
    let mut story = Story::new();
    for letter in ["a", "b", "c", "d"] {
        story.here(running(letter, letter));
    }
    story.settle();
    // Somebody sets REMORA_EXPLICIT and starts it anew.
    story.restart();
    story.book.settings.publish.explicit = true;
    story.after(0).read();
    for letter in ["a", "b"] {
        story.here(running(letter, letter));
    }
    story.here(ended(running("c", "c"), State::Exited)).gone("d");
    let mut writes = story.settle();
    writes.sort();
    assert_eq!(writes, ["deregister n1:c:80", "deregister n1:d:80"], "what Docker says to be over goes at once");
    assert_eq!(story.drains(running("b", "b")).settle(), ["deregister n1:b:80"]);
    assert!(story.after(59).settle().is_empty());
    assert_eq!(story.after(2).settle(), ["deregister n1:a:80"]);
    story.put(foreign("x", "x", &[]));
    assert!(story.settle().is_empty());
}
