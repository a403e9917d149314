//! What is a reason to act, each with its own container.

use std::time::Duration;

use remora::consul::Status;
use remora::docker::{RestartName, State};
use tokio::time::sleep;

use crate::fake_docker::{Act, Behaviour, Whom, bare, web};
use crate::ward::{Ward, essence};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn an_unhealthy_container_is_replaced_by_one_like_it() {
    let mut ward = Ward::new();
    let old = ward.docker.run(web("web").health_check().label("a.label", "kept"));
    ward.wake().await;
    let original = essence(&ward.docker.raw(&old).unwrap());
    ward.fails(&old);
    let new = ward.replaced("web", &old, 2 * MINUTE).await;
    assert_eq!(essence(&ward.docker.raw(&new.id).unwrap()), original);
    assert_eq!(ward.names(), ["web"]);
    let told = ward.hears("healed", "web", SECOND).await;
    assert_eq!((told.cause.as_str(), told.action.as_str()), ("unhealthy", "replace"));
    ward.rests(10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_recovers_in_time_is_left_alone() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web").health_check());
    ward.wake().await;
    for _ in 0..5 {
        ward.fails(&id);
        sleep(14 * SECOND).await;
        ward.docker.health(&id, remora::docker::HealthStatus::Healthy, "well");
        sleep(SECOND).await;
    }
    ward.rests(5 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_healthcheck_without_a_verdict_is_replaced_after_the_deadline() {
    let mut ward = Ward::new();
    let old = ward.docker.create(web("web").health_check());
    ward.docker.behave(Whom::Container(old.clone()), Behaviour::default());
    ward.docker.start(&old);
    ward.wake().await;
    ward.rests(3 * MINUTE).await;
    ward.replaced("web", &old, 3 * MINUTE).await;
    assert_eq!(ward.hears("healed", "web", SECOND).await.cause, "stuck-starting");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_died_and_has_no_restart_policy_is_replaced() {
    let mut ward = Ward::new();
    let old = ward.docker.run(web("web"));
    ward.wake().await;
    ward.docker.end(&old, 1);
    ward.replaced("web", &old, MINUTE).await;
    assert_eq!(ward.hears("healed", "web", SECOND).await.cause, "died");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ended_with_code_0_is_left_alone_unless_its_label_says_otherwise() {
    let mut ward = Ward::new();
    let done = ward.docker.run(web("done"));
    let daemon = ward.docker.run(web("daemon").label("remora.heal.on-exit-zero", "true"));
    ward.wake().await;
    ward.docker.end(&done, 0);
    ward.docker.end(&daemon, 0);
    ward.replaced("daemon", &daemon, MINUTE).await;
    ward.rests(5 * MINUTE).await;
    assert_eq!(ward.docker.facts(&done).unwrap().state, State::Exited);
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_restart_policy_a_signal_has_cancelled_is_replaced_and_gets_the_policy_back() {
    let mut ward = Ward::new();
    let old = ward.docker.run(web("web").restart_policy("unless-stopped"));
    ward.wake().await;
    // `docker kill -s HUP` to make it read its settings, and a crash an hour later.
    ward.docker.kill(&old, 1);
    sleep(60 * MINUTE).await;
    ward.docker.end(&old, 1);
    assert_eq!(ward.docker.facts(&old).unwrap().state, State::Exited, "Docker does not start it again");
    let new = ward.replaced("web", &old, MINUTE).await;
    assert_eq!(new.life.restart_policy.name, RestartName::UnlessStopped);
    assert!(ward.hears("healed", "web", SECOND).await.text.contains("cancelled its restart policy"));
}

#[tokio::test(start_paused = true)]
async fn what_docker_starts_again_by_itself_is_left_to_docker() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web").restart_policy("unless-stopped"));
    ward.wake().await;
    for _ in 0..3 {
        ward.docker.end(&id, 1);
        sleep(5 * MINUTE).await;
    }
    assert_eq!(ward.docker.changes(), [] as [String; 0]);
    assert_eq!(ward.docker.facts(&id).unwrap().state, State::Running);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_replaced() {
    let mut ward = Ward::new();
    let old = ward.docker.create(web("web").restart_policy("always"));
    ward.wake().await;
    ward.docker.behave(Whom::Container(old.clone()), Behaviour::default().exits_after(Duration::from_millis(200), 3));
    ward.docker.start(&old);
    let new = ward.replaced("web", &old, 3 * MINUTE).await;
    assert_eq!(ward.hears("healed", "web", SECOND).await.cause, "crash-loop");
    assert_eq!(new.life.restart_policy.name, RestartName::Always);
    ward.rests(5 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_docker_could_not_start_is_started_again_and_that_is_enough() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web"));
    ward.wake().await;
    start_fails(&ward, &id).await;
    ward.docker.behave(Whom::Container(id.clone()), Behaviour::default());
    let told = ward.hears("healed", "web", 2 * MINUTE).await;
    assert_eq!((told.cause.as_str(), told.action.as_str()), ("start-failed", "start"));
    assert_eq!(ward.docker.changes()[1..], ["start web"]);
    assert_eq!(ward.named("web").id, id);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_docker_cannot_start_at_all_is_replaced() {
    let mut ward = Ward::new();
    let old = ward.docker.run(web("web"));
    ward.wake().await;
    start_fails(&ward, &old).await;
    ward.replacements(Behaviour::default());
    ward.replaced("web", &old, 2 * MINUTE).await;
    let told = ward.hears("healed", "web", SECOND).await;
    assert_eq!((told.cause.as_str(), told.action.as_str()), ("start-failed", "replace"));
}

/// It ends, and an operator cannot start it.
async fn start_fails(ward: &Ward, id: &remora::docker::ContainerId) {
    ward.docker.stop(id, SECOND).await;
    ward.docker.behave(Whom::Named("web".to_owned()), Behaviour::default().start_fails("exec: not found"));
    let started = remora::docker::Control::start(&ward.docker, id.as_str()).await;
    assert!(started.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_critical_in_consul_is_a_reason_only_for_those_that_ask_for_it() {
    for (triggers, acts) in [("unhealthy,critical", true), ("unhealthy", false)] {
        let mut ward = Ward::new();
        let old = ward.docker.run(web("web").label("remora.heal.triggers", triggers));
        ward.wake().await;
        ward.registered(&old, Status::Critical, "connection refused");
        if acts {
            ward.rests(55 * SECOND).await;
            ward.replaced("web", &old, 2 * MINUTE).await;
            let told = ward.hears("healed", "web", SECOND).await;
            assert_eq!(told.cause, "critical");
            assert!(told.text.contains("connection refused"), "{}", told.text);
        } else {
            ward.rests(10 * MINUTE).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_to_consul_that_only_stayed_away_is_no_reason() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web").label("remora.heal.triggers", "critical"));
    ward.wake().await;
    ward.registered(&id, Status::Critical, "TTL expired (last output before timeout follows): fine");
    ward.rests(10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn processes_that_the_kernel_kills_in_a_container_that_lives_on_are_told_once() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web"));
    ward.wake().await;
    for _ in 0..6 {
        ward.docker.out_of_memory(&id);
        sleep(SECOND).await;
    }
    ward.rests(2 * MINUTE).await;
    let told = ward.told("not_healed");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].text.contains("want of memory"), "{}", told[0].text);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ran_out_of_memory_is_replaced_and_that_is_told() {
    let mut ward = Ward::new();
    let old = ward.docker.create(web("web"));
    ward.docker.behave(Whom::Container(old.clone()), Behaviour::default().after(90 * SECOND, Act::OutOfMemory));
    ward.docker.start(&old);
    ward.wake().await;
    ward.replaced("web", &old, 2 * MINUTE).await;
    assert!(ward.hears("healed", "web", SECOND).await.text.contains("out of memory"));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_not_published_is_healed_only_if_its_label_asks_for_it() {
    let mut ward = Ward::new();
    let silent = ward.docker.run(bare("silent"));
    let asks = ward.docker.run(bare("asks").label("remora.heal", "on"));
    let refuses = ward.docker.run(web("refuses").label("remora.heal", "off"));
    ward.wake().await;
    for id in [&silent, &asks, &refuses] {
        ward.docker.end(id, 1);
        sleep(2 * MINUTE).await;
    }
    ward.replaced("asks", &asks, SECOND).await;
    for id in [&silent, &refuses] {
        assert_eq!(ward.docker.facts(id).unwrap().state, State::Exited);
    }
}
