//! Attempts that do not help: back-off, quarantine, the single attempt after it, and who lets a container out.

use std::time::Duration;

use remora::docker::{ContainerId, HealthStatus};
use remora::heal::cluster::Wish;
use tokio::time::{Instant, sleep};

use crate::fake_docker::{Behaviour, Spec, Whom, web};
use crate::ward::Ward;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn restarted() -> Spec {
    web("web").health_check().label("remora.heal.strategy", "restart").label("remora.heal.max-attempts", "3")
}

/// It gets no better, whatever is done.
async fn hopeless(spec: Spec) -> (Ward, ContainerId) {
    let mut ward = Ward::new();
    let id = ward.docker.run(spec);
    ward.wake().await;
    ward.docker.behave(Whom::Image("web:1".to_owned()), Behaviour::default().unhealthy_after(2 * SECOND));
    ward.fails(&id);
    (ward, id)
}

fn attempts(ward: &Ward) -> usize {
    ward.docker.changes().iter().filter(|line| line.starts_with("restart") || line.starts_with("create")).count()
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_it_is_given_up_for_an_hour() {
    let (ward, _) = hopeless(restarted()).await;
    let told = ward.hears("heal_gave_up", "web", 30 * MINUTE).await;
    assert_eq!(attempts(&ward), 3);
    assert!(told.text.contains("3 attempts within 30m, and it has failed again"), "{}", told.text);
    assert_eq!(ward.given_up().keys().collect::<Vec<_>>(), ["web"]);
    ward.rests(59 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_quarantine_there_is_one_attempt_and_then_a_longer_one() {
    let (ward, _) = hopeless(restarted()).await;
    ward.hears("heal_gave_up", "web", 30 * MINUTE).await;
    sleep(75 * MINUTE).await;
    assert_eq!(attempts(&ward), 4, "one attempt when the hour is over");
    assert_eq!(ward.told("heal_gave_up").len(), 2, "{:#?}", ward.told("heal_gave_up"));
    ward.rests(100 * MINUTE).await;
    sleep(20 * MINUTE).await;
    assert_eq!(attempts(&ward), 5, "one attempt after two more hours");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_after_a_quarantine_that_helps_ends_it() {
    let (ward, _) = hopeless(restarted()).await;
    ward.hears("heal_gave_up", "web", 30 * MINUTE).await;
    ward.docker.behave(Whom::Image("web:1".to_owned()), Behaviour::default().healthy_after(2 * SECOND));
    ward.hears("healed", "web", 75 * MINUTE).await;
    assert_eq!(ward.given_up().len(), 0);
    ward.rests(24 * 60 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_outlives_the_agent() {
    let (mut ward, _) = hopeless(restarted()).await;
    ward.hears("heal_gave_up", "web", 30 * MINUTE).await;
    sleep(MINUTE).await;
    for _ in 0..2 {
        ward.kill().await;
        sleep(SECOND).await;
        ward.start();
        ward.rests(10 * MINUTE).await;
        assert_eq!(ward.given_up().keys().collect::<Vec<_>>(), ["web"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_releases_it() {
    let (ward, _) = hopeless(restarted()).await;
    ward.hears("heal_gave_up", "web", 30 * MINUTE).await;
    sleep(MINUTE).await;
    ward.docker.behave(Whom::Image("web:1".to_owned()), Behaviour::default().healthy_after(2 * SECOND));
    ward.ask(Wish::Release, "web");
    ward.hears("healed", "web", MINUTE).await;
    assert_eq!(ward.given_up().len(), 0);
    assert_eq!(ward.told("heal_operator").len(), 1);
    assert_eq!(ward.store.text("remora/heal/ask/n1/web"), None, "the request is taken");
}

#[tokio::test(start_paused = true)]
async fn an_operator_asks_for_a_replacement_of_what_is_well() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web").health_check());
    let off = ward.docker.run(web("off").label("remora.heal", "off"));
    ward.wake().await;
    ward.ask(Wish::Heal, "off");
    ward.ask(Wish::Heal, "nobody");
    ward.ask(Wish::Heal, "web");
    ward.replaced("web", &id, MINUTE).await;
    assert_eq!(ward.hears("healed", "web", SECOND).await.cause, "asked");
    assert_eq!(ward.named("off").id, off);
    assert_eq!(ward.told("not_healed").len(), 2, "{:#?}", ward.news());
    ward.rests(10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn attempts_are_further_and_further_apart() {
    let spec = restarted().label("remora.heal.max-attempts", "5").label("remora.heal.backoff", "60s..10m");
    let spec = spec.label("remora.heal.window", "2h").label("remora.heal.grace", "0s");
    let (ward, _) = hopeless(spec).await;
    ward.hears("heal_gave_up", "web", 120 * MINUTE).await;
    let log = ward.docker.changes_with_times();
    let times: Vec<Instant> = log.iter().map(|(at, _)| *at).collect();
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps.len(), 4, "{log:?}");
    for (gap, least) in gaps.iter().zip([1, 2, 4, 8]) {
        let least = least * MINUTE;
        assert!(*gap >= least && *gap <= least.mul_f64(1.25) + 20 * SECOND, "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_good_minutes_make_up_for_everything() {
    let mut ward = Ward::new();
    let id = ward.docker.run(restarted());
    ward.wake().await;
    for _ in 0..8 {
        ward.fails(&id);
        sleep(2 * MINUTE).await;
        assert_eq!(ward.docker.facts(&id).unwrap().health.unwrap().status, HealthStatus::Healthy);
        sleep(11 * MINUTE).await;
    }
    assert_eq!(attempts(&ward), 8);
    assert_eq!(ward.told("heal_gave_up"), []);
}

#[tokio::test(start_paused = true)]
async fn another_image_begins_anew() {
    let (ward, id) = hopeless(restarted()).await;
    ward.hears("heal_gave_up", "web", 30 * MINUTE).await;
    ward.docker.add_image("web:2", &serde_json::json!({}));
    ward.docker.remove(&id);
    let new = ward.docker.run(web("web").health_check().image("web:2"));
    ward.docker.behave(Whom::Image("web:2".to_owned()), Behaviour::default().healthy_after(SECOND));
    sleep(MINUTE).await;
    ward.docker.end(&new, 1);
    ward.replaced("web", &new, 2 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_could_not_be_removed_does_not_stand_in_the_way_of_the_next_one() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web").health_check());
    ward.docker.attach(&id, "other", true);
    ward.wake().await;
    let away = || remora::docker::DockerError::Unreachable { address: "fake".to_owned(), reason: "gone".to_owned() };
    // Its second network, and then its removal.
    ward.docker.fail_change(2, away());
    ward.docker.fail_change(3, away());
    ward.fails(&id);
    ward.hears("heal_failed", "web", 2 * MINUTE).await;
    ward.replaced("web", &id, 5 * MINUTE).await;
    assert_eq!(ward.names(), ["web"]);
}
