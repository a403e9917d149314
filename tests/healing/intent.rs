//! What an operator did stays as it is, also over a restart of the agent.

use std::time::Duration;

use remora::config::OnKill;
use remora::docker::{ContainerId, State};
use tokio::time::sleep;

use crate::fake_docker::{Behaviour, FakeDocker, web};
use crate::ward::Ward;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

async fn with_web() -> (Ward, ContainerId) {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web").health_check().restart_policy("unless-stopped"));
    ward.wake().await;
    (ward, id)
}

/// It stays down, with the agent that saw it happen, and with those after it.
async fn stays_down(ward: &mut Ward, id: &ContainerId) {
    ward.rests(10 * MINUTE).await;
    for _ in 0..2 {
        ward.kill().await;
        sleep(MINUTE).await;
        ward.start();
        ward.rests(10 * MINUTE).await;
    }
    assert_eq!(ward.docker.facts(id).expect("nobody removes it").state, State::Exited);
}

/// So much happens elsewhere that the engine remembers nothing of before.
fn much_happens(ward: &Ward) {
    let other = ward.docker.run(web("other").label("remora.heal", "off"));
    for _ in 0..150 {
        ward.docker.pause(&other, true);
        ward.docker.pause(&other, false);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_container_stays_stopped() {
    let (mut ward, id) = with_web().await;
    ward.docker.stop(&id, SECOND).await;
    stays_down(&mut ward, &id).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_stopped_because_it_is_ill_stays_stopped() {
    let (mut ward, id) = with_web().await;
    ward.fails(&id);
    sleep(10 * SECOND).await;
    ward.docker.stop(&id, 9 * SECOND).await;
    stays_down(&mut ward, &id).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_stopped_while_the_agent_was_away_stays_stopped() {
    let (mut ward, id) = with_web().await;
    ward.kill().await;
    ward.docker.stop(&id, SECOND).await;
    ward.start();
    stays_down(&mut ward, &id).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_remembered_when_the_engine_has_forgotten_it() {
    let (mut ward, id) = with_web().await;
    ward.docker.stop(&id, SECOND).await;
    sleep(MINUTE).await;
    ward.kill().await;
    much_happens(&ward);
    ward.start();
    stays_down(&mut ward, &id).await;
    assert_eq!(ward.told("not_healed"), [], "it is known, and nothing has to be told");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_died_while_the_agent_was_away_is_replaced() {
    let (mut ward, id) = with_web().await;
    ward.kill().await;
    ward.docker.exit(&id, 1);
    sleep(MINUTE).await;
    ward.start();
    ward.replaced("web", &id, 2 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_has_heard_of_is_told_and_not_healed() {
    let (mut ward, id) = with_web().await;
    ward.kill().await;
    ward.docker.exit(&id, 1);
    much_happens(&ward);
    ward.start();
    ward.rests(10 * MINUTE).await;
    let told = ward.told("not_healed");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].text.contains("whether it should run is not known"), "{}", told[0].text);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_started_again_is_looked_after_again() {
    let (mut ward, id) = with_web().await;
    ward.docker.stop(&id, SECOND).await;
    sleep(5 * MINUTE).await;
    ward.kill().await;
    ward.wake().await;
    ward.docker.start(&id);
    sleep(5 * MINUTE).await;
    ward.fails(&id);
    ward.replaced("web", &id, 2 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_counts_as_a_failure_unless_label_or_setting_respect_it() {
    for (label, setting, heals) in [
        (None, OnKill::Heal, true),
        (Some("respect"), OnKill::Heal, false),
        (None, OnKill::Respect, false),
        (Some("heal"), OnKill::Respect, true),
    ] {
        for signal in [9, 15] {
            let mut ward = Ward::new();
            ward.place.heal.on_kill = setting;
            let spec = web("web").restart_policy("always");
            let id = ward.docker.run(label.map_or(spec.clone(), |word| spec.label("remora.heal.on-kill", word)));
            ward.wake().await;
            ward.docker.kill(&id, signal);
            // TERM is obeyed by itself.
            if signal == 15 {
                ward.docker.end(&id, 143);
            }
            if heals {
                ward.rests(9 * SECOND).await;
                ward.replaced("web", &id, MINUTE).await;
            } else {
                stays_down(&mut ward, &id).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_that_a_start_follows_is_a_restart_by_hand() {
    let (ward, id) = with_web().await;
    ward.docker.kill(&id, 9);
    sleep(8 * SECOND).await;
    ward.docker.start(&id);
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.named("web").id, id);
}

#[tokio::test(start_paused = true)]
async fn a_slow_stop_is_nobodys_illness() {
    let (mut ward, id) = with_web().await;
    let docker = ward.docker.clone();
    let stopping = id.clone();
    let stop = tokio::spawn(async move { docker.stop(&stopping, 8 * SECOND).await });
    sleep(SECOND).await;
    ward.fails(&id);
    stop.await.unwrap();
    stays_down(&mut ward, &id).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_container_is_left_paused_and_judged_anew_afterwards() {
    let (mut ward, id) = with_web().await;
    ward.fails(&id);
    sleep(10 * SECOND).await;
    ward.docker.pause(&id, true);
    ward.rests(10 * MINUTE).await;
    ward.kill().await;
    ward.start();
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.named("web").state, State::Paused);
    ward.docker.pause(&id, false);
    ward.rests(80 * SECOND).await;
    ward.replaced("web", &id, MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_container_does_not_come_back() {
    let (mut ward, id) = with_web().await;
    ward.fails(&id);
    sleep(10 * SECOND).await;
    ward.docker.remove(&id);
    ward.rests(10 * MINUTE).await;
    ward.kill().await;
    ward.start();
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.names(), [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_renamed_container_is_replaced_under_the_name_that_it_has() {
    let (ward, id) = with_web().await;
    ward.docker.rename(&id, "shop");
    sleep(MINUTE).await;
    ward.fails(&id);
    ward.replaced("shop", &id, 2 * MINUTE).await;
    assert_eq!(ward.names(), ["shop"]);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_by_hand_is_left_alone() {
    let (ward, id) = with_web().await;
    ward.docker.stop(&id, SECOND).await;
    ward.docker.remove(&id);
    let new = ward.docker.run(web("web").health_check());
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.named("web").id, new);
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_hand_is_left_alone() {
    let (ward, id) = with_web().await;
    for _ in 0..8 {
        ward.docker.stop(&id, SECOND).await;
        ward.docker.start(&id);
        sleep(3 * SECOND).await;
    }
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.named("web").state, State::Running);
}

#[tokio::test(start_paused = true)]
async fn what_went_down_with_the_daemon_is_told_and_not_healed() {
    let mut ward = Ward::new();
    let down = ward.docker.run(web("down"));
    let always = ward.docker.run(web("always").restart_policy("always"));
    ward.wake().await;
    ward.docker.reboot();
    sleep(2 * MINUTE).await;
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.docker.facts(&down).unwrap().state, State::Exited);
    assert_eq!(ward.docker.facts(&always).unwrap().state, State::Running);
    assert_eq!(ward.told("not_healed").iter().map(|told| told.name.as_str()).collect::<Vec<_>>(), ["down"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_removes_the_old_one_in_the_middle_wants_nothing_in_its_place() {
    let (ward, id) = with_web().await;
    // It never proves itself: there is time to step in.
    ward.replacements(Behaviour::default());
    ward.fails(&id);
    sleep(40 * SECOND).await;
    assert_eq!(ward.names().len(), 2, "the replacement is being proved: {:?}", ward.names());
    ward.docker.remove(&id);
    sleep(MINUTE).await;
    assert_eq!(ward.names(), [] as [&str; 0]);
    ward.rests(10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_removes_the_new_one_in_the_middle_finds_the_old_one_under_its_name() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web").health_check().publish(443, 8443));
    ward.wake().await;
    ward.replacements(Behaviour::default());
    ward.fails(&id);
    sleep(40 * SECOND).await;
    let new = ward.named("web");
    assert_ne!(new.id, id, "the replacement has the place and is being proved");
    ward.docker.remove(&new.id);
    sleep(10 * SECOND).await;
    let back = ward.named("web");
    assert_eq!((&back.id, &back.state), (&id, &State::Exited));
    assert_eq!(ward.names(), ["web"]);
    ward.rests(10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_stopped_while_its_replacement_is_proved_stays_stopped() {
    for order in ["start-first", "stop-first"] {
        let mut ward = Ward::new();
        let id = ward.docker.run(web("web").health_check().label("remora.heal.order", order));
        ward.wake().await;
        ward.replacements(Behaviour::default().healthy_after(30 * SECOND));
        ward.fails(&id);
        sleep(25 * SECOND).await;
        assert_eq!(ward.names().len(), 2, "{order}: it is being proved: {:?}", ward.names());
        ward.docker.stop(&ward.named("web").id, SECOND).await;
        sleep(10 * MINUTE).await;
        assert_ne!(ward.named("web").state, State::Running, "{order}: {:?}", ward.docker.changes());
        assert_eq!(ward.docker.containers().iter().filter(|it| it.state == State::Running).count(), 0, "{order}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_stopped_while_its_replacement_is_proved_stays_stopped_also_when_the_agent_dies_then() {
    for order in ["start-first", "stop-first"] {
        for consul in [true, false] {
            let mut ward = Ward::new();
            let id = ward.docker.run(web("web").health_check().label("remora.heal.order", order));
            ward.wake().await;
            ward.replacements(Behaviour::default().healthy_after(30 * SECOND));
            ward.fails(&id);
            sleep(25 * SECOND).await;
            assert_eq!(ward.names().len(), 2, "{order}: it is being proved: {:?}", ward.names());
            let placed = ward.named("web").id;
            // Whatever the agent would do about it does not come to pass.
            ward.docker.pause_after(0);
            ward.docker.stop(&placed, SECOND).await;
            sleep(SECOND).await;
            ward.kill().await;
            ward.docker.go_on();
            // The next agent hears of Consul late, or not at all: what it is to finish waits for a moment, and not for ever.
            if !consul {
                ward.consul(false);
            }
            ward.start();
            sleep(10 * MINUTE).await;
            ward.assert_alive();
            let running = ward.docker.containers().iter().filter(|it| it.state == State::Running).count();
            if consul {
                assert_eq!(running, 0, "{order}: {:?}", ward.docker.changes());
            }
            assert!(ward.status().await.operation.is_none(), "{order}: it is finished");
        }
    }
}

/// It ends in this way, and a second later the event stream is cut.
async fn cut_after(end: impl FnOnce(&FakeDocker, &ContainerId)) -> (Ward, ContainerId) {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web"));
    ward.wake().await;
    end(&ward.docker, &id);
    sleep(SECOND).await;
    ward.docker.cut();
    (ward, id)
}

#[tokio::test(start_paused = true)]
async fn who_crashes_right_before_the_event_stream_is_cut_has_failed() {
    let (ward, id) = cut_after(|docker, id| docker.exit(id, 1)).await;
    ward.replaced("web", &id, 3 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_a_signal_right_before_the_event_stream_is_cut_may_have_gone_down_with_the_daemon() {
    let (ward, id) = cut_after(|docker, id| docker.kill(id, 9)).await;
    sleep(MINUTE).await;
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.docker.facts(&id).unwrap().state, State::Exited);
    assert_eq!(ward.told("not_healed").len(), 1, "{:?}", ward.news());
}
