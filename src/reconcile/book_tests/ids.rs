//! Who has an id: adoption, strangers, containers that want the same one, namesakes, an agent that was killed.

use super::*;

#[test]
fn case_44_what_registrator_left_under_the_same_id_and_name_is_adopted() {
    let mut story = Story::new();
    let mut left = foreign("n1:web:80", "web", &[]);
    left.checks.insert("service:n1:web:80".into(), ActualCheck { status: Status::Passing, output: ArcStr::new() });
    story.put(left);
    let writes = story.here(running("a", "web")).settle();
    assert_eq!(writes, ["register n1:web:80", "uncheck service:n1:web:80"]);
    assert_eq!(story.container_at("n1:web:80"), id("a"));
    assert!(story.here(running("a", "web")).settle().is_empty());
}

#[test]
fn case_43_the_same_id_under_another_name_is_a_strangers_and_stays() {
    let mut story = Story::new();
    let stranger = foreign("n1:web:80", "mail", &[]);
    story.put(stranger.clone());
    story.here(running("a", "web")).settle();
    assert_eq!(story.ids(), ["n1:web:80", "n1:web:80:aaaaaaaaaaaa"]);
    story.gone("a").settle();
    assert_eq!(*story.consul.services["n1:web:80"], stranger);
    assert_eq!(story.ids(), ["n1:web:80"]);
}

#[test]
fn a_strangers_id_is_taken_when_the_stranger_goes_and_left_when_one_comes() {
    let mut story = Story::new();
    story.put(foreign("n1:web:80", "mail", &[]));
    story.here(running("a", "web")).settle();
    story.consul.services.remove("n1:web:80");
    assert_eq!(story.settle(), ["register n1:web:80", "deregister n1:web:80:aaaaaaaaaaaa"]);
    // Somebody registers over ours: it is theirs now.
    story.put(foreign("n1:web:80", "mail", &[("managed-by", "nomad")]));
    assert_eq!(story.settle(), ["register n1:web:80:aaaaaaaaaaaa"]);
    assert_eq!(story.consul.services["n1:web:80"].name, "mail");
}

#[test]
fn look_alikes_of_others_are_never_written() {
    let mut story = Story::new();
    let strangers = [
        foreign("n1:db:5432", "db", &[]),
        foreign("n1:db:5433", "db", &[("managed-by", "remora"), ("remora-node", "n2"), ("remora-engine", "E2")]),
        foreign("n1:db:5434", "db", &[("managed-by", "somebody"), ("container-id", &"d".repeat(64))]),
        foreign("n1:db:5435", "db", &[("container-id", &"d".repeat(64))]),
        foreign("N1:REMORA:ENGINE", "remora", &[]),
    ];
    for stranger in &strangers {
        story.put(stranger.clone());
    }
    story.here(running("d", "other")).settle();
    story.gone("d").settle();
    assert!(story.after(3600).settle().is_empty());
    assert!(story.asks().is_empty());
    for stranger in strangers {
        assert_eq!(*story.consul.services[&stranger.id], stranger);
    }
}

#[test]
fn names_that_differ_only_in_case_do_not_share_an_id() {
    let mut story = Story::new();
    story.here(running("a", "Web")).here(running("b", "web")).settle();
    assert_eq!(story.ids(), ["n1:Web:80", "n1:web:80:bbbbbbbbbbbb"]);
    story.gone("a");
    let writes = story.settle();
    assert_eq!(writes.last().map(String::as_str), Some("deregister n1:web:80:bbbbbbbbbbbb"), "{writes:?}");
    assert_eq!(story.ids(), ["n1:web:80"]);
}

#[test]
fn a_strangers_id_of_another_case_makes_ours_go_out_of_its_way() {
    let mut story = Story::new();
    story.here(running("a", "Web")).settle();
    story.put(foreign("n1:web:80", "mail", &[]));
    // The catalog would show now the one and now the other.
    assert_eq!(story.settle(), ["register n1:Web:80:aaaaaaaaaaaa", "deregister n1:Web:80"]);
    story.here(running("b", "web")).here(running("a", "shop")).settle();
    assert_eq!(story.ids(), ["n1:shop:80", "n1:web:80", "n1:web:80:bbbbbbbbbbbb"]);
    assert_eq!(story.consul.services["n1:web:80"].name, "mail");
    story.gone("a").gone("b").settle();
    assert_eq!(story.ids(), ["n1:web:80"]);
}

#[test]
fn two_of_ours_in_different_case_are_one_again() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(running("b", "shop")).settle();
    // A write that was given up for lost and happened after all.
    let mut double = ActualService::clone(&story.consul.services["n1:web:80"]);
    double.id = "n1:WEB:80".into();
    double.meta = double.meta.with(Service::META_CONTAINER, &"b".repeat(64));
    story.put(double.clone());
    // The catalog's one row for both goes with the double.
    assert_eq!(story.settle(), ["deregister n1:WEB:80", "register n1:web:80"]);
    double.meta = double.meta.with(Service::META_CONTAINER, &"c".repeat(64));
    story.put(double);
    assert!(story.settle().is_empty(), "nobody knows yet what became of its container");
    assert_eq!(story.asks(), [id("c")]);
    assert_eq!(story.gone("c").settle(), ["deregister n1:WEB:80", "register n1:web:80"]);
}

/// A registration of `c` as `n1:Web:80` that was given up for lost, beside one of `a` as `n1:web:80`.
fn a_double_of_c() -> Story {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let mut double = ActualService::clone(&story.consul.services["n1:web:80"]);
    double.id = "n1:Web:80".into();
    double.meta = double.meta.with(Service::META_CONTAINER, &"c".repeat(64));
    story.put(double);
    story
}

#[test]
fn a_double_goes_when_its_container_is_registered_elsewhere() {
    let mut story = a_double_of_c();
    story.settle();
    story.here(running("c", "Web")).settle();
    assert_eq!(story.ids(), ["n1:Web:80:cccccccccccc", "n1:web:80"]);
}

#[test]
fn a_double_is_not_held_for_a_container_that_restarts() {
    let mut story = a_double_of_c();
    story.here(ended(running("c", "Web"), State::Restarting)).settle();
    assert_eq!(story.ids(), ["n1:web:80"]);
}

#[test]
fn a_double_that_vanishes_by_itself_leaves_nothing_behind() {
    let mut story = a_double_of_c();
    story.read();
    story.gone("c");
    story.consul.services.remove("n1:Web:80");
    // Counts everything anew.
    story.settle();
    assert_eq!(story.ids(), ["n1:web:80"]);
}

#[test]
fn what_is_known_of_a_stranger_outlives_a_read_that_is_older_than_our_write() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.put(foreign("n1:Web:80", "mail", &[]));
    story.read();
    let old = story.consul.clone();
    drop(story.book.reading());
    assert_eq!(story.write(), ["register n1:web:80:aaaaaaaaaaaa", "deregister n1:web:80"]);
    let mut only_the_stranger = old;
    only_the_stranger.services.remove("n1:web:80");
    story.book.read(&only_the_stranger, story.now, || 0.5);
    story.here(running("a", "Web")).write();
    assert_eq!(story.consul.services["n1:Web:80"].name, "mail");
    story.settle();
    assert_eq!(story.ids(), ["n1:Web:80", "n1:Web:80:aaaaaaaaaaaa"]);
}

#[test]
fn case_32_one_service_id_on_two_containers_is_two_registrations() {
    let mut story = Story::new();
    let one = |letter: &str, name: &str| labelled(running(letter, name), "SERVICE_ID", "api");
    story.here(one("b", "second")).settle();
    story.here(one("a", "first")).settle();
    assert_eq!(story.ids(), ["api", "api:aaaaaaaaaaaa"], "whoever has it keeps it");
    assert_eq!(story.container_at("api"), id("b"));
    // The holder goes: the other one takes the id over, and its own one goes after that.
    assert_eq!(story.gone("b").write(), ["register api", "deregister api:aaaaaaaaaaaa"]);
    assert_eq!(story.container_at("api"), id("a"));
    assert!(story.settle().is_empty());
}

#[test]
fn no_label_can_take_the_agents_own_service() {
    let mut story = Story::new();
    for letter in ["a", "b"] {
        story.here(labelled(running(letter, letter), "SERVICE_ID", &OWN.to_uppercase())).settle();
    }
    assert_eq!(story.book.own().unwrap().name, "remora");
    assert_eq!(story.consul.services[OWN].name, "remora");
    assert_eq!(story.ids().len(), 2);
    story.gone("a").gone("b").settle();
    assert_eq!(story.consul.services.keys().collect::<Vec<_>>(), [OWN]);
}

#[test]
fn a_restart_with_nothing_changed_writes_nothing_in_whatever_order_things_are_seen() {
    let one = |letter: &str| labelled(running(letter, letter), "SERVICE_ID", "api");
    let mut story = Story::new();
    story.here(one("a")).here(one("b")).here(one("c")).here(running("d", "web")).settle();
    let before = story.consul.clone();
    for order in ["abcd", "dcba", "bdca"] {
        story.restart();
        let mut letters: Vec<String> = order.chars().map(String::from).collect();
        let late = letters.pop().unwrap();
        for letter in letters {
            story.here(if letter == "d" { running("d", "web") } else { one(&letter) });
        }
        assert!(story.settle().is_empty(), "{order}: one of them has not been seen yet");
        story.here(if late == "d" { running("d", "web") } else { one(&late) });
        assert!(story.settle().is_empty(), "{order}");
        assert_eq!(story.consul, before);
    }
}

#[test]
fn what_ended_while_the_agent_was_dead_goes_only_when_docker_has_said_so() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(running("b", "db")).settle();
    story.restart();
    assert!(story.settle().is_empty());
    let mut asks = story.asks();
    asks.sort();
    assert_eq!(asks, [id("a"), id("b")]);
    assert!(story.after(3600).settle().is_empty(), "unknown is not gone");
    assert!(story.asks().is_empty(), "asked once");
    story.here(running("b", "db"));
    assert_eq!(story.gone("a").settle(), ["deregister n1:web:80"]);
    assert_eq!(story.here(ended(running("b", "db"), State::Exited)).settle(), ["deregister n1:db:80"]);
}

#[test]
fn what_took_the_place_of_one_that_is_gone_waits_until_docker_has_said_so() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.restart();
    story.here(running("b", "web"));
    assert!(story.settle().is_empty(), "nobody knows yet what became of the other one");
    assert_eq!(story.asks(), [id("a")]);
    assert_eq!(story.gone("a").settle(), ["register n1:web:80"], "one write");
    assert_eq!(story.container_at("n1:web:80"), id("b"));

    story.restart();
    story.here(running("c", "web"));
    assert!(story.settle().is_empty());
    assert_eq!(story.here(ended(running("b", "web-1"), State::Exited)).settle(), ["register n1:web:80"]);
    assert_eq!(story.container_at("n1:web:80"), id("c"));
}

#[test]
fn gone_before_consul_was_read_is_asked_again_and_then_goes() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.restart();
    story.gone("a");
    assert!(story.settle().is_empty());
    assert_eq!(story.asks(), [id("a")]);
    assert_eq!(story.gone("a").settle(), ["deregister n1:web:80"]);
}

#[test]
fn our_own_service_under_the_nodes_old_name_goes() {
    let mut story = Story::new();
    let mut past = own_service();
    past.id = "n0:remora:engine000001".into();
    past.checks.clear();
    apply(&mut story.consul, &Op::Register(Arc::new(past)));
    assert_eq!(story.settle(), ["deregister n0:remora:engine000001"]);
}

#[test]
fn a_living_namesake_is_left_alone_and_a_past_one_is_cleaned_up() {
    let there = "d".repeat(64);
    let mut story = Story::new();
    let agent = ActualService {
        meta: [("managed-by", "remora"), ("remora-node", "n1"), ("remora-engine", "OTHER")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect(),
        ..foreign("n1:remora:other", "remora", &[])
    };
    story.put(agent.clone()).put(foreign("n1:web:80", "web", &namesakes(&there)));
    story.here(running("a", "web")).settle();
    assert_eq!(story.ids(), ["n1:remora:other", "n1:web:80", "n1:web:80:aaaaaaaaaaaa"]);
    assert!(story.after(3600).settle().is_empty());

    // Its agent is gone: nothing for a minute, it may be back.
    story.consul.services.remove("n1:remora:other");
    assert!(story.settle().is_empty());
    assert!(story.after(59).settle().is_empty());
    story.put(agent.clone());
    assert!(story.settle().is_empty());
    story.consul.services.remove("n1:remora:other");
    assert!(story.after(30).settle().is_empty());
    assert!(story.after(59).settle().is_empty(), "the minute begins anew");

    // Now it is what this node was before: asked for, and taken over.
    assert!(story.after(1).settle().is_empty());
    assert_eq!(story.asks(), [id("d")]);
    assert_eq!(story.gone("d").settle(), ["register n1:web:80", "deregister n1:web:80:aaaaaaaaaaaa"]);
}

#[test]
fn a_namesake_that_comes_back_after_all_keeps_what_is_its_own() {
    let there = "d".repeat(64);
    let mut story = Story::new();
    story.put(foreign("n1:web:80", "web", &namesakes(&there)));
    story.here(running("a", "web")).settle();
    // Its minute is over, but before anything could be written its agent is there again.
    story.after(60);
    let agent = [("managed-by", "remora"), ("remora-node", "n1"), ("remora-engine", "OTHER")];
    story.put(foreign("n1:remora:other", "remora", &agent));
    story.settle();
    assert_eq!(story.ids(), ["n1:remora:other", "n1:web:80", "n1:web:80:aaaaaaaaaaaa"]);
    assert_eq!(story.container_at("n1:web:80"), id("d"));
}

#[test]
fn no_label_takes_the_id_of_another_container() {
    let mut story = Story::new();
    story.here(labelled(running("a", "thief"), "SERVICE_ID", "n1:web:80")).settle();
    assert_eq!(story.container_at("n1:web:80"), id("a"), "nobody else has it");
    story.here(running("b", "web")).settle();
    assert_eq!(story.container_at("n1:web:80"), id("b"));
    assert_eq!(story.ids(), ["n1:web:80", "n1:web:80:aaaaaaaaaaaa"]);
    assert!(story.settle().is_empty());
}
