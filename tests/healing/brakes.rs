//! What stands against it: budgets, failures of many at once, pauses, Consul that is away, and settings that only look on.

use std::time::Duration;

use remora::config::{HealMode, WithoutConsul};
use remora::consul::Store as _;
use remora::docker::ContainerId;
use tokio::time::{Instant, sleep};

use crate::fake_docker::{Spec, web};
use crate::ward::Ward;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// So many of them, healthy.
async fn many(ward: &mut Ward, count: usize, spec: impl Fn(Spec) -> Spec) -> Vec<ContainerId> {
    let all = (0..count).map(|number| ward.docker.run(spec(web(&format!("web{number:02}")).health_check()))).collect();
    ward.wake().await;
    all
}

/// When operations began.
fn begun(ward: &Ward) -> Vec<Instant> {
    let log = ward.docker.changes_with_times();
    log.into_iter().filter(|(_, line)| line.starts_with("create ")).map(|(at, _)| at).collect()
}

#[tokio::test(start_paused = true)]
async fn the_nodes_budget_is_never_exceeded() {
    let mut ward = Ward::new();
    // Not all at once: that is another brake.
    ward.place.heal.correlation.minimum = 100;
    let all = many(&mut ward, 20, |spec| spec).await;
    for id in &all {
        ward.fails(id);
    }
    sleep(35 * MINUTE).await;
    let begun = begun(&ward);
    assert_eq!(begun.len(), 20, "each has its turn in the end");
    let within = |first: &Instant| begun.iter().filter(|at| *at >= first && **at < *first + 10 * MINUTE).count();
    assert_eq!(begun.iter().map(within).max(), Some(6));
}

#[tokio::test(start_paused = true)]
async fn when_most_fail_at_once_nothing_is_done_and_one_alert_is_sent() {
    let mut ward = Ward::new();
    let all = many(&mut ward, 20, |spec| spec).await;
    for id in &all {
        ward.fails(id);
    }
    sleep(9 * MINUTE).await;
    // Those whose turn it was before the third one fell ill.
    assert!(begun(&ward).len() <= 2, "{:?}", ward.docker.changes());
    assert_eq!(ward.told("node_suspect").len(), 1, "{:#?}", ward.news());
}

#[tokio::test(start_paused = true)]
async fn whoever_fails_alone_later_is_healed_although_many_failed_before() {
    let mut ward = Ward::new();
    let all = many(&mut ward, 8, |spec| spec).await;
    for id in &all[..7] {
        ward.fails(id);
    }
    sleep(10 * MINUTE).await;
    ward.docker.end(&all[7], 1);
    ward.replaced("web07", &all[7], 2 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn healing_stands_still_while_it_is_paused() {
    for key in ["remora/heal/pause", "remora/heal/pause/n1", "remora/heal/pause/n1/web"] {
        let mut ward = Ward::new();
        let web = ward.docker.run(web("web").health_check());
        ward.wake().await;
        ward.store.write(key, "maintenance");
        sleep(SECOND).await;
        ward.fails(&web);
        ward.rests(30 * MINUTE).await;
        let told = ward.told("not_healed");
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].text.contains("healing is paused: maintenance"), "{}", told[0].text);
        ward.store.erase(key);
        ward.replaced("web", &web, MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_others_is_none_of_ours() {
    let mut ward = Ward::new();
    let web = ward.docker.run(web("web").health_check());
    ward.store.write("remora/heal/pause/n2", "x");
    ward.store.write("remora/heal/pause/n1/shop", "x");
    ward.wake().await;
    ward.fails(&web);
    ward.replaced("web", &web, MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_when_consul_goes_away() {
    let mut ward = Ward::new();
    let web = ward.docker.run(web("web").health_check());
    ward.store.write("remora/heal/pause", "maintenance");
    ward.wake().await;
    ward.consul(false);
    ward.fails(&web);
    ward.rests(30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn without_consul_a_third_of_the_budget_is_left() {
    let mut ward = Ward::new();
    ward.place.heal.correlation.minimum = 100;
    let all = many(&mut ward, 6, |spec| spec).await;
    ward.consul(false);
    for id in &all {
        ward.fails(id);
    }
    sleep(9 * MINUTE).await;
    assert_eq!(begun(&ward).len(), 2, "{:?}", ward.docker.changes());
    ward.consul(true);
    sleep(9 * MINUTE).await;
    assert_eq!(begun(&ward).len(), 6);
    assert_eq!(ward.told("healed").len(), 6, "what happened without Consul is told when it is back");
}

#[tokio::test(start_paused = true)]
async fn without_consul_nothing_is_done_if_the_setting_says_so() {
    let mut ward = Ward::new();
    ward.place.heal.without_consul = WithoutConsul::None;
    let web = ward.docker.run(web("web").health_check());
    ward.wake().await;
    ward.consul(false);
    ward.fails(&web);
    ward.rests(30 * MINUTE).await;
    ward.consul(true);
    ward.replaced("web", &web, MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn while_another_node_has_the_only_slot_nothing_is_done() {
    let mut ward = Ward::new();
    let web = ward.docker.run(web("web").health_check());
    ward.wake().await;
    let session = ward.store.session_create(60 * MINUTE, SECOND, "remora n2").await.unwrap();
    assert!(ward.store.acquire("remora/heal/slot/0", b"n2", &session).await.unwrap());
    ward.fails(&web);
    ward.rests(10 * MINUTE).await;
    let told = ward.told("not_healed");
    assert!(told[0].text.contains("heals elsewhere at the moment (n2)"), "{}", told[0].text);
    ward.store.session_destroy(&session).await.unwrap();
    ward.replaced("web", &web, MINUTE).await;
    assert_eq!(ward.store.sessions(), [] as [&str; 0], "the slot is given back");
}

#[tokio::test(start_paused = true)]
async fn after_a_start_nothing_is_done_for_a_minute() {
    let mut ward = Ward::new();
    let web = ward.docker.run(web("web").health_check());
    sleep(10 * MINUTE).await;
    ward.docker.end(&web, 1);
    ward.start();
    ward.rests(59 * SECOND).await;
    ward.replaced("web", &web, MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_observes_tells_what_he_would_do_and_changes_nothing() {
    let by_setting = |ward: &mut Ward, spec: Spec| {
        ward.place.heal.mode = HealMode::Observe;
        spec
    };
    let by_label = |_: &mut Ward, spec: Spec| spec.label("remora.heal", "observe");
    for observes in [by_setting as fn(&mut Ward, Spec) -> Spec, by_label] {
        let mut ward = Ward::new();
        let spec = observes(&mut ward, web("web").health_check());
        let ill = ward.docker.run(spec);
        let dead = observes(&mut ward, web("dead"));
        let dead = ward.docker.run(dead);
        ward.wake().await;
        ward.fails(&ill);
        sleep(3 * MINUTE).await;
        ward.docker.end(&dead, 1);
        ward.rests(60 * MINUTE).await;
        let told: Vec<String> = ward.told("would_heal").into_iter().map(|told| told.name).collect();
        assert_eq!(told, ["web", "dead"], "{:#?}", ward.news());
    }
}

#[tokio::test(start_paused = true)]
async fn a_label_that_is_not_understood_makes_it_a_matter_of_telling() {
    for (key, value) in [
        ("remora.heal.strategy", "reboot"),
        ("remora.heal.grace", "soon"),
        ("remora.heal.max-attempts", "0"),
        ("remora.heal.triggers", "boredom"),
    ] {
        let mut ward = Ward::new();
        let web = ward.docker.run(web("web").health_check().label(key, value));
        ward.wake().await;
        ward.fails(&web);
        ward.rests(30 * MINUTE).await;
        assert_eq!(ward.told("not_healed").len(), 1, "{key}={value}: {:#?}", ward.news());
    }
}
