//! Any history at all ends in exactly what runs.

use proptest::prelude::*;

use super::*;

/// One step of a history: of one of four containers, or of Consul.
#[derive(Debug, Clone)]
enum Step {
    Run { letter: usize, name: usize, shared_id: bool },
    End { letter: usize, state: State },
    Drain { letter: usize, name: usize },
    Gone { letter: usize },
    Read,
    OldRead,
    Write { outcomes: Vec<u8> },
    Wipe,
    Remove { nth: usize },
    Edit { nth: usize },
    Stranger { name: usize },
    StrangerGoes { name: usize },
    Beat,
    Pass { seconds: u64 },
    Restart,
}

const LETTERS: [&str; 4] = ["a", "b", "c", "d"];
const NAMES: [&str; 4] = ["web", "Web", "shop", "db"];

fn any_step() -> impl Strategy<Value = Step> {
    let (letter, name) = (0..LETTERS.len(), 0..NAMES.len());
    prop_oneof![
        6 => (letter.clone(), name.clone(), any::<bool>())
            .prop_map(|(letter, name, shared_id)| Step::Run { letter, name, shared_id }),
        2 => (letter.clone(), prop_oneof![Just(State::Exited), Just(State::Restarting), Just(State::Dead)])
            .prop_map(|(letter, state)| Step::End { letter, state }),
        1 => (letter.clone(), name.clone()).prop_map(|(letter, name)| Step::Drain { letter, name }),
        3 => letter.prop_map(|letter| Step::Gone { letter }),
        4 => Just(Step::Read),
        2 => Just(Step::OldRead),
        6 => proptest::collection::vec(0_u8..10, 0..4).prop_map(|outcomes| Step::Write { outcomes }),
        1 => Just(Step::Wipe),
        1 => (0..8_usize).prop_map(|nth| Step::Remove { nth }),
        1 => (0..8_usize).prop_map(|nth| Step::Edit { nth }),
        1 => name.clone().prop_map(|name| Step::Stranger { name }),
        1 => name.prop_map(|name| Step::StrangerGoes { name }),
        1 => Just(Step::Beat),
        2 => (0..90_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// Docker and the strangers, as they really are.
#[derive(Default)]
struct World {
    docker: BTreeMap<&'static str, Container>,
    strangers: BTreeMap<ArcStr, ActualService>,
}

fn play(story: &mut Story, world: &mut World, step: &Step) {
    match step {
        Step::Run { letter, name, shared_id } => {
            let mut container = running(LETTERS[*letter], NAMES[*name]);
            if *shared_id {
                container = labelled(container, "SERVICE_ID", "api");
            }
            world.docker.insert(LETTERS[*letter], container.clone());
            story.here(container);
        }
        Step::End { letter, state } => {
            if let Some(container) = world.docker.get_mut(LETTERS[*letter]) {
                *container = ended(container.clone(), state.clone());
                let container = container.clone();
                story.here(container);
            }
        }
        Step::Drain { letter, name } => {
            // A stop signal; it ends right after.
            let container = running(LETTERS[*letter], NAMES[*name]);
            world.docker.insert(LETTERS[*letter], ended(container.clone(), State::Exited));
            story.drains(container);
        }
        Step::Gone { letter } => {
            world.docker.remove(LETTERS[*letter]);
            story.gone(LETTERS[*letter]);
        }
        Step::Read => drop(story.read()),
        Step::OldRead => {
            let old = story.consul.clone();
            drop(story.book.reading());
            story.write();
            story.book.read(&old, story.now, || 0.5);
            story.recount();
        }
        Step::Write { outcomes } => {
            for outcome in outcomes {
                let Some((at, op)) = story.book.next(story.now) else { break };
                story.recount();
                let known = matches!(outcome, 0..=6 | 8) && apply(&mut story.consul, &op);
                match outcome {
                    0..=6 if known => drop(story.book.done(&at, &op)),
                    0..=6 => drop(story.book.failed(&at, Class::Gone, "unknown check", story.now, 0.5)),
                    7 | 8 => story.book.interrupted(&at),
                    _ => drop(story.book.failed(&at, Class::Denied, "no", story.now, 0.5)),
                }
                story.recount();
            }
        }
        Step::Wipe => {
            story.consul.services.clear();
            world.strangers.clear();
        }
        Step::Remove { nth } | Step::Edit { nth } => {
            let id = story.ids().get(*nth).map(|&id| ArcStr::from(id)).filter(|id| !world.strangers.contains_key(id));
            match (id, step) {
                (Some(id), Step::Remove { .. }) => drop(story.consul.services.remove(&id)),
                (Some(id), _) => story.edit(&id, |service| service.port += 1),
                (None, _) => {}
            }
        }
        Step::Stranger { name } => {
            let stranger = foreign(&format!("n1:{}:80", NAMES[*name]), "stranger", &[]);
            story.put(stranger.clone());
            world.strangers.insert(stranger.id.clone(), stranger);
            // Consul has no "register only if": what came since the last read can be overwritten, and that is that.
            story.read();
        }
        Step::StrangerGoes { name } => {
            let id = arcstr::format!("n1:{}:80", NAMES[*name]);
            if world.strangers.remove(&id).is_some() {
                story.consul.services.remove(&id);
            }
        }
        Step::Beat => story.book.beat_all(),
        Step::Pass { seconds } => drop(story.after(*seconds)),
        Step::Restart => story.restart(),
    }
    for (id, stranger) in &world.strangers {
        assert_eq!(story.consul.services.get(id).map(AsRef::as_ref), Some(stranger), "a stranger was touched");
    }
}

/// Docker answers everything that is asked, and all waiting is over.
fn come_to_rest(story: &mut Story, world: &World) {
    for letter in LETTERS {
        match world.docker.get(letter) {
            Some(container) => story.here(container.clone()),
            None => story.gone(letter),
        };
    }
    for _ in 0..5 {
        story.after(400);
        story.settle();
        for asked in story.asks() {
            match world.docker.values().find(|container| container.id == asked) {
                Some(container) => story.here(container.clone()),
                None => story.gone(letter_of(&asked)),
            };
        }
    }
    assert!(story.settle().is_empty());
}

/// A case is a millisecond; a shallow search finds nothing here. `PROPTEST_CASES` makes it deeper.
fn more_cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(1000), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(more_cases())]

    #[test]
    fn every_history_ends_in_exactly_what_runs(steps in proptest::collection::vec(any_step(), 1..40)) {
        let (mut story, mut world) = (Story::unread(), World::default());
        for step in &steps {
            play(&mut story, &mut world, step);
        }
        come_to_rest(&mut story, &world);
        let mut registered: Vec<(ContainerId, u16)> = Vec::new();
        for service in story.consul.services.values() {
            if service.id == OWN || world.strangers.contains_key(&service.id) {
                continue;
            }
            let container = story.container_at(&service.id);
            let letter = letter_of(&container);
            let known = world.docker.get(letter).expect("registered, and does not exist");
            match known.state {
                State::Running => registered.push((container, service.port)),
                // Kept from before, with the reason on its check; two of them if it was being renamed.
                State::Restarting | State::Dead => {
                    prop_assert_eq!(story.status(&service.id).0, Status::Critical);
                }
                _ => prop_assert!(false, "{} is registered and does not run", service.id),
            }
        }
        registered.sort();
        let mut runs: Vec<(ContainerId, u16)> = world
            .docker
            .values()
            .filter(|container| container.state == State::Running)
            .map(|container| (container.id.clone(), container.bindings.values().next().unwrap()[0].host_port))
            .collect();
        runs.sort();
        prop_assert_eq!(registered, runs);
        let mut ids: Vec<String> =
            story.ids().iter().filter(|id| !world.strangers.contains_key(**id)).map(|id| id.to_lowercase()).collect();
        let all = ids.len();
        ids.dedup();
        prop_assert_eq!(ids.len(), all, "ids that the catalog can tell apart");
    }
}

fn letter_of(container: &ContainerId) -> &str {
    container.as_str().get(..1).unwrap()
}
