//! Who shares whose namespaces: a dependent goes with its parent.

use std::time::Duration;

use remora::docker::{ContainerId, NetworkMode, State};
use tokio::time::{Instant, sleep};

use crate::fake_docker::{Behaviour, bare, web};
use crate::ward::Ward;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A parent, and one that shares its network.
async fn family() -> (Ward, ContainerId, ContainerId) {
    let mut ward = Ward::new();
    let parent = ward.docker.run(web("parent").health_check());
    let child = ward.docker.run(bare("child").sharing(&parent).label("remora.heal", "on"));
    ward.wake().await;
    (ward, parent, child)
}

fn shares_with(ward: &Ward, name: &str) -> String {
    match ward.named(name).network_mode {
        NetworkMode::Container(owner) => owner.to_string(),
        other => panic!("{name} shares nothing: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_dependent_is_replaced_with_its_parent_and_shares_the_new_ones_network() {
    let (ward, parent, child) = family().await;
    ward.fails(&parent);
    let new = ward.replaced("parent", &parent, 2 * MINUTE).await;
    ward.replaced("child", &child, MINUTE).await;
    assert_eq!(shares_with(&ward, "child"), new.id.as_str());
    assert_eq!(ward.hears("healed", "child", SECOND).await.cause, "orphaned");
    assert_eq!(ward.names(), ["child", "parent"]);
    assert_eq!(ward.status().await.budget.left, 5, "the dependent is charged to no budget");
    ward.rests(10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_dependent_is_not_forgotten_when_the_agent_dies_in_between() {
    let (mut ward, parent, child) = family().await;
    ward.fails(&parent);
    let begun = Instant::now();
    while ward.docker.facts(&parent).is_some() {
        assert!(begun.elapsed() < 5 * MINUTE);
        sleep(Duration::from_millis(10)).await;
    }
    ward.kill().await;
    ward.start();
    let new = ward.named("parent");
    ward.replaced("child", &child, 3 * MINUTE).await;
    assert_eq!(shares_with(&ward, "child"), new.id.as_str());
}

#[tokio::test(start_paused = true)]
async fn a_dependent_of_a_restarted_parent_is_restarted() {
    let mut ward = Ward::new();
    let parent = ward.docker.run(web("parent").health_check().label("remora.heal.strategy", "restart"));
    let child = ward.docker.run(bare("child").sharing(&parent).label("remora.heal", "on"));
    ward.wake().await;
    ward.fails(&parent);
    ward.hears("healed", "child", 3 * MINUTE).await;
    assert_eq!(ward.docker.changes(), ["restart parent", "restart child"]);
    assert_eq!(ward.named("child").id, child);
    ward.rests(10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_dependent_whose_parent_was_removed_by_hand_is_left_alone() {
    let (ward, parent, _) = family().await;
    ward.docker.remove(&parent);
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.names(), ["child"]);
}

#[tokio::test(start_paused = true)]
async fn an_ill_parent_comes_before_its_dependent() {
    let mut ward = Ward::new();
    let parent = ward.docker.run(web("parent").health_check());
    let child = ward.docker.run(bare("child").sharing(&parent).health_check().label("remora.heal", "on"));
    ward.wake().await;
    ward.fails(&child);
    ward.fails(&parent);
    ward.replaced("parent", &parent, 3 * MINUTE).await;
    ward.replaced("child", &child, 3 * MINUTE).await;
    let creates: Vec<String> = ward.docker.changes().into_iter().filter(|line| line.starts_with("create ")).collect();
    assert!(creates[0].starts_with("create parent.new-"), "{creates:?}");
    assert_eq!(creates.len(), 2, "{creates:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_dependent_stays_stopped_when_its_parent_is_replaced() {
    let (mut ward, parent, child) = family().await;
    ward.docker.stop(&child, SECOND).await;
    ward.replacements(Behaviour::default().healthy_after(SECOND));
    ward.fails(&parent);
    ward.replaced("parent", &parent, 3 * MINUTE).await;
    ward.rests(10 * MINUTE).await;
    ward.kill().await;
    ward.start();
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.docker.facts(&child).unwrap().state, State::Exited);
}

#[tokio::test(start_paused = true)]
async fn a_dependent_that_cannot_be_started_does_not_keep_others_waiting() {
    for gone in [true, false] {
        let (mut ward, parent, child) = family().await;
        let other = ward.docker.run(web("other").health_check());
        ward.docker.end(&child, 1);
        ward.kill().await;
        if gone {
            ward.docker.remove(&parent);
        } else {
            ward.docker.stop(&parent, SECOND).await;
        }
        ward.wake().await;
        ward.fails(&other);
        ward.replaced("other", &other, 5 * MINUTE).await;
        sleep(30 * MINUTE).await;
        assert_eq!(ward.named("child").id, child);
        assert!(
            ward.names().iter().all(|name| !name.contains(".new-") && !name.contains(".old-")),
            "{:?}",
            ward.names()
        );
    }
}
