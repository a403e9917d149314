//! Who is marked, who is removed, and when nobody is.

use proptest::prelude::*;

use super::*;
use crate::consul::members::MemberCheck;

const TTL: Duration = Duration::from_secs(15);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const REAP: Duration = Duration::from_secs(72 * 3600);
const SETTINGS: Settings = Settings { ttl: TTL, reap: REAP };

fn member(name: &str, status: Option<Status>) -> Member {
    let check = |status| MemberCheck {
        status,
        name: "Remora on this node".to_owned(),
        notes: String::new(),
        output: String::new(),
        index: 7,
    };
    Member { name: name.to_owned(), index: 5, ours: true, check: status.map(check) }
}

/// A cluster whose leader is `n1`.
struct World {
    judge: Judge,
    members: Vec<Member>,
    present: BTreeSet<String>,
    gone: BTreeMap<String, Option<SystemTime>>,
    now: Now,
}

impl World {
    /// `n1` to `n<count>`, all there and passing; looked at once.
    fn of(count: usize) -> Self {
        let mut world = Self::unseen(count);
        assert_eq!(world.look(), Verdict { present: count, ..Verdict::default() });
        world
    }

    /// The same before the first look.
    fn unseen(count: usize) -> Self {
        let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
        Self {
            judge: Judge::new("n1", SETTINGS),
            members: names.iter().map(|name| member(name, Some(Status::Passing))).collect(),
            present: names.into_iter().collect(),
            gone: BTreeMap::new(),
            now: Now { at: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) },
        }
    }

    fn look(&mut self) -> Verdict {
        let picture = Picture { members: &self.members, present: &self.present, gone: &self.gone };
        self.judge.judge(&picture, self.now)
    }

    /// Time passes, and what the verdict says is done.
    fn after(&mut self, span: Duration) -> Verdict {
        self.now.at += span;
        self.now.wall += span;
        let verdict = self.look();
        for (node, since) in &verdict.mark {
            self.status(node, Status::Critical);
            self.gone.insert(node.clone(), Some(*since));
        }
        for (node, since) in &verdict.date {
            self.gone.insert(node.clone(), Some(*since));
        }
        self.members.retain(|member| !verdict.remove.contains(&member.name));
        self.gone.retain(|node, _| !verdict.remove.contains(node) && !verdict.forget.contains(node));
        verdict
    }

    fn vanish(&mut self, nodes: &[&str]) {
        self.present.retain(|node| !nodes.contains(&node.as_str()));
    }

    fn back(&mut self, node: &str) {
        self.present.insert(node.to_owned());
    }

    fn status(&mut self, node: &str, status: Status) {
        let index = self.members.iter().position(|member| member.name == node).unwrap();
        self.members[index] = member(node, Some(status));
    }

    /// Another leader is elected on `n1`, who knows nothing.
    fn elect(&mut self) {
        self.judge = Judge::new("n1", SETTINGS);
    }
}

fn marked(verdict: &Verdict) -> Vec<&str> {
    verdict.mark.keys().map(String::as_str).collect()
}

#[test]
fn a_node_that_vanishes_is_marked_a_moment_later_and_once() {
    let mut world = World::of(5);
    world.vanish(&["n3"]);
    let vanished = world.now;
    let verdict = world.after(Duration::ZERO);
    assert_eq!((marked(&verdict), verdict.vanished, verdict.again), (vec![], 1, Some(vanished.at + SPREAD)));
    let verdict = world.after(SPREAD);
    assert_eq!(verdict.mark, BTreeMap::from([("n3".to_owned(), vanished.wall)]));
    let verdict = world.after(SECOND);
    assert_eq!((marked(&verdict), verdict.marked.len(), verdict.present), (vec![], 1, 4));
    assert_eq!(verdict.again, Some(vanished.at + REAP));
}

#[test]
fn whoever_is_back_within_that_moment_is_not_marked() {
    let mut world = World::of(5);
    world.vanish(&["n3"]);
    world.after(Duration::ZERO);
    world.back("n3");
    assert_eq!(world.after(SECOND), Verdict { present: 5, ..Verdict::default() });
    // And another absence begins anew.
    world.vanish(&["n3"]);
    assert!(world.after(MINUTE).mark.is_empty());
}

#[test]
fn small_clusters_are_judged_by_what_more_than_half_is() {
    // (nodes, vanished, brake)
    for (count, gone, brake) in [
        (1, 0, false),
        (2, 1, false),
        (3, 1, false),
        (3, 2, true),
        (4, 2, false),
        (4, 3, true),
        (5, 3, true),
        (7, 3, false),
    ] {
        for elected_later in [false, true] {
            let mut world = if elected_later { World::unseen(count) } else { World::of(count) };
            let names: Vec<String> = (2..2 + gone).map(|number| format!("n{number}")).collect();
            world.vanish(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let first = world.after(Duration::ZERO);
            let second = world.after(SPREAD);
            let told = first.brake.is_some() && second.brake.is_some();
            assert_eq!(
                (told, second.mark.len()),
                (brake, if brake { 0 } else { gone }),
                "{gone} of {count}: {second:?}"
            );
        }
    }
}

#[test]
fn the_first_of_many_waits_for_the_others() {
    let mut world = World::of(10);
    // Cut off at once: their sessions end one after the other, and it takes Consul its time, too.
    for number in 2..=7 {
        world.vanish(&[&format!("n{number}")]);
        let verdict = world.after(RENEW_EVERY);
        assert!(verdict.mark.is_empty(), "n{number}: {verdict:?}");
        assert_eq!(verdict.brake.is_some(), number == 7, "n{number}");
    }
    for _ in 0..100 {
        let verdict = world.after(MINUTE);
        assert_eq!((verdict.mark.len(), verdict.remove.len()), (0, 0));
        assert_eq!(verdict.brake, Some(Brake { absent: 6, of: 10 }));
        assert_eq!(verdict.again, None);
    }
    // One is back: half is not more than half. The others may come in a moment, too.
    world.back("n2");
    let verdict = world.after(SECOND);
    assert_eq!((verdict.brake, verdict.mark.len(), verdict.again), (None, 0, Some(world.now.at + 2 * TTL)));
    world.back("n3");
    assert_eq!(world.after((2 * TTL).saturating_sub(SECOND)).mark.len(), 0);
    // Now they are dead.
    assert_eq!(world.after(SECOND).mark.len(), 4);
}

#[test]
fn nodes_that_vanish_slowly_are_dead_one_by_one() {
    let mut world = World::of(10);
    for number in 2..=10 {
        let name = format!("n{number}");
        world.vanish(&[&name]);
        assert!(world.after(Duration::ZERO).brake.is_none());
        assert_eq!(marked(&world.after(2 * SECOND)), [name.as_str()]);
        world.after(2 * MINUTE);
    }
}

#[test]
fn whoever_was_marked_within_the_minute_counts_as_vanished() {
    let mut world = World::of(5);
    for name in ["n2", "n3"] {
        world.vanish(&[name]);
        world.after(Duration::ZERO);
        assert_eq!(marked(&world.after(SPREAD)), [name]);
    }
    world.vanish(&["n4"]);
    assert_eq!(world.after(SECOND).brake, Some(Brake { absent: 3, of: 5 }));
    // It holds although the minute passes.
    assert_eq!(world.after(10 * MINUTE).brake, Some(Brake { absent: 3, of: 5 }));
    assert_eq!(world.after(10 * MINUTE).mark.len(), 0);
}

#[test]
fn those_who_are_long_dead_count_neither_way() {
    let mut world = World::of(10);
    for number in 5..=10 {
        world.vanish(&[&format!("n{number}")]);
        world.after(Duration::ZERO);
        world.after(2 * MINUTE);
    }
    world.vanish(&["n2", "n3"]);
    assert_eq!(world.after(Duration::ZERO).brake, None, "two of four");
    world.vanish(&["n4"]);
    assert_eq!(world.after(Duration::ZERO).brake, Some(Brake { absent: 3, of: 4 }));
    world.back("n4");
    assert_eq!(world.after(SECOND).brake, None);
}

#[test]
fn a_new_leader_knows_who_was_marked_and_takes_the_others_for_vanished_now() {
    let mut world = World::of(5);
    world.vanish(&["n2"]);
    world.after(Duration::ZERO);
    world.after(SECOND);
    world.after(2 * MINUTE);
    world.vanish(&["n3", "n4"]);
    world.elect();
    let verdict = world.after(Duration::ZERO);
    assert_eq!((verdict.brake, verdict.marked.len(), verdict.vanished), (None, 1, 2), "two of four");
    assert_eq!(marked(&world.after(SPREAD)), ["n3", "n4"]);

    // A brake survives a change of leaders, whenever that is.
    let mut world = World::of(5);
    world.vanish(&["n2", "n3", "n4"]);
    assert!(world.after(Duration::ZERO).brake.is_some());
    world.after(60 * MINUTE);
    world.elect();
    assert!(world.after(Duration::ZERO).brake.is_some());
    assert!(world.after(60 * MINUTE).brake.is_some());
}

#[test]
fn a_node_that_is_new_has_time_to_come() {
    let mut world = World::of(3);
    for number in 4..=9 {
        world.members.push(member(&format!("n{number}"), Some(Status::Passing)));
    }
    let began = world.now.at;
    let verdict = world.after(SECOND);
    assert_eq!((verdict.brake, verdict.vanished, verdict.present), (None, 0, 9));
    assert_eq!(verdict.again, Some(began + SECOND + 2 * TTL));
    for number in 4..=8 {
        world.back(&format!("n{number}"));
    }
    assert!(world.after(SECOND).mark.is_empty());
    assert_eq!(marked(&world.after(2 * TTL + SPREAD)), ["n9"]);
}

#[test]
fn a_critical_node_is_not_marked_but_gets_its_time() {
    let mut world = World::of(3);
    world.status("n2", Status::Critical);
    world.vanish(&["n2"]);
    let vanished = world.now;
    assert_eq!(world.after(Duration::ZERO).again, Some(vanished.at + 2 * TTL));
    let verdict = world.after(2 * TTL);
    assert_eq!((marked(&verdict), verdict.date.get("n2")), (vec![], Some(&vanished.wall)));
    // So does one whose time cannot be read.
    world.gone.insert("n2".to_owned(), None);
    assert_eq!(world.after(SECOND).date.len(), 1);
    assert_eq!(world.after(REAP).remove, ["n2"]);
}

#[test]
fn a_node_is_removed_after_the_reap_time() {
    let mut world = World::of(4);
    world.vanish(&["n2"]);
    world.after(Duration::ZERO);
    world.after(SECOND);
    assert_eq!(world.after(REAP.checked_sub(2 * SECOND).unwrap()).remove, [""; 0]);
    let verdict = world.after(SECOND);
    assert_eq!((verdict.remove, verdict.again), (vec!["n2".to_owned()], None));
    assert_eq!(world.after(SECOND), Verdict { present: 3, ..Verdict::default() });
}

#[test]
fn a_clock_that_is_wrong_removes_nothing_at_once() {
    let mut world = World::of(4);
    world.vanish(&["n2"]);
    world.after(Duration::ZERO);
    world.after(SPREAD);
    world.now.wall += 100 * REAP;
    let verdict = world.after(SECOND);
    assert_eq!((verdict.remove.len(), verdict.again.is_some()), (0, true));
    assert_eq!(world.after(10 * MINUTE).remove, ["n2"]);
    // One that is behind removes late.
    let mut world = World::of(4);
    world.status("n2", Status::Critical);
    world.vanish(&["n2"]);
    world.gone.insert("n2".to_owned(), Some(world.now.wall + 100 * REAP));
    assert!(world.after(REAP / 2).remove.is_empty());
}

#[test]
fn without_a_reap_time_nothing_is_removed() {
    let mut world = World::of(4);
    world.judge.settings.reap = Duration::ZERO;
    world.vanish(&["n2"]);
    world.after(Duration::ZERO);
    world.after(SECOND);
    assert!(world.after(1000 * REAP).remove.is_empty());
}

#[test]
fn a_brake_removes_nothing_either() {
    let mut world = World::of(6);
    world.vanish(&["n2"]);
    world.after(Duration::ZERO);
    world.after(SECOND);
    world.after(2 * MINUTE);
    world.vanish(&["n3", "n4", "n5"]);
    let verdict = world.after(2 * REAP);
    assert_eq!((verdict.brake, verdict.remove.len()), (Some(Brake { absent: 3, of: 5 }), 0));
    world.back("n3");
    assert_eq!(world.after(SECOND).remove, ["n2"]);
}

#[test]
fn strangers_and_the_own_node_are_left_alone() {
    let mut world = World::of(3);
    world.members.push(Member { ours: false, ..member("db", Some(Status::Passing)) });
    world.vanish(&["n1"]);
    world.look();
    assert_eq!(world.after(REAP), Verdict { present: 3, ..Verdict::default() });
    // Names are case-insensitive.
    let mut world = World::of(3);
    world.members[0].name = "N1".to_owned();
    world.members[1].name = "N2".to_owned();
    assert_eq!(world.after(REAP), Verdict { present: 3, ..Verdict::default() });
    world.vanish(&["n2"]);
    world.after(Duration::ZERO);
    assert_eq!(marked(&world.after(SPREAD)), ["N2"], "as the catalog spells it");
}

#[test]
fn times_that_mean_nothing_any_more_are_forgotten() {
    let mut world = World::of(3);
    let now = Some(world.now.wall);
    world.gone = ["n2", "n3", "n9"].map(|node| (node.to_owned(), now)).into();
    world.status("n3", Status::Critical);
    assert_eq!(world.look().forget, ["n2", "n9"], "n3 is not back before it says so itself");
}

#[test]
fn a_time_that_is_left_over_does_not_age_a_node_that_passes() {
    let mut world = World::of(3);
    let old = Some(world.now.wall - REAP);
    world.gone = ["n2", "n3"].map(|node| (node.to_owned(), old)).into();
    world.vanish(&["n2", "n3"]);
    let verdict = world.after(Duration::ZERO);
    assert_eq!((verdict.brake, verdict.vanished), (Some(Brake { absent: 2, of: 3 }), 2));
}

#[derive(Debug, Clone)]
struct Step {
    span: u64,
    present: Vec<bool>,
    passing: Vec<bool>,
    elect: bool,
    obey: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = || proptest::collection::vec(any::<bool>(), 8);
    let span = prop_oneof![0_u64..10, 10_u64..200, 200_000_u64..400_000];
    (span, flags(), flags(), proptest::bool::weighted(0.1), any::<bool>())
        .prop_map(|(span, present, passing, elect, obey)| Step { span, present, passing, elect, obey })
}

proptest! {
    /// Whatever happens, in whatever order, and whether or not what is decided is done.
    #[test]
    fn nobody_is_wronged(count in 1_usize..9, foreign in 0_usize..9, steps in proptest::collection::vec(step(), 1..25)) {
        let mut world = World::unseen(count);
        for (number, node) in world.members.iter_mut().enumerate() {
            node.ours = number == 0 || number != foreign;
        }
        let mut missed: BTreeMap<String, Instant> = BTreeMap::new();
        for Step { span, present, passing, elect, obey } in steps {
            if elect {
                world.elect();
                missed.clear();
            }
            for (number, (here, passing)) in present.iter().zip(passing).enumerate() {
                let name = format!("n{}", number + 1);
                if *here { world.back(&name) } else { world.vanish(&[&name]) }
                if let Some(found) = world.members.iter_mut().find(|member| member.name == name) && passing {
                    *found = Member { ours: found.ours, ..member(&name, Some(Status::Passing)) };
                }
            }
            let before = world.members.clone();
            world.now.at += Duration::from_secs(span);
            world.now.wall += Duration::from_secs(span);
            let now = world.now.at;
            missed.retain(|name, _| !world.present.contains(name));
            for found in before.iter().filter(|found| !world.present.contains(&found.name)) {
                missed.entry(found.name.clone()).or_insert(now);
            }
            let critical = |name: &str| before.iter().any(|it| it.name == name && it.check.as_ref().unwrap().status == Status::Critical);
            let unmarked: Vec<String> = missed.keys().filter(|name| !(world.gone.contains_key(*name) && critical(name))).cloned().collect();
            let verdict = if obey { world.after(Duration::ZERO) } else { world.look() };
            let of = |name: &str| before.iter().find(|member| member.name == name).unwrap();
            let touched = verdict.mark.keys().chain(verdict.date.keys()).chain(&verdict.remove);
            for name in touched {
                prop_assert!(name != "n1", "the own node");
                prop_assert!(!world.present.contains(name), "a node that is present");
                prop_assert!(of(name).ours, "a node without our mark");
                prop_assert!(now >= missed[name] + SPREAD, "a node that was never missed before");
                prop_assert!(verdict.brake.is_none(), "under the brake");
            }
            for name in verdict.mark.keys() {
                prop_assert!(of(name).check.as_ref().unwrap().status != Status::Critical, "twice");
            }
            for name in &verdict.remove {
                prop_assert!(of(name).check.as_ref().unwrap().status == Status::Critical, "unmarked");
                prop_assert!(now >= missed[name] + REAP_SEEN, "at once");
            }
            // More than half that vanish in the same minute are never marked.
            let ours = before.iter().filter(|found| found.ours).count();
            let young = missed.iter().filter(|(name, at)| {
                name.as_str() != "n1" && unmarked.contains(name) && before.iter().any(|it| it.ours && it.name == **name) && now <= **at + WINDOW
            });
            if 2 * young.count() > ours {
                prop_assert!(verdict.brake.is_some(), "no brake: {:?}", verdict);
            }
            if let Some(again) = verdict.again {
                prop_assert!(again > now, "a time that is over");
            }
            prop_assert_eq!(verdict.present + verdict.vanished + verdict.marked.len(), ours);
        }
    }
}
