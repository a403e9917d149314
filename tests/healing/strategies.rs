//! What is done about it: strategies, orders, and what becomes of a replacement that is no better.

use std::time::Duration;

use remora::docker::{ContainerId, State};
use tokio::time::sleep;

use crate::fake_docker::{Behaviour, Spec, web};
use crate::ward::{Ward, essence};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

async fn ill(spec: Spec) -> (Ward, ContainerId) {
    ill_with(spec, Behaviour::default().healthy_after(SECOND)).await
}

async fn ill_with(spec: Spec, replacements: Behaviour) -> (Ward, ContainerId) {
    let mut ward = Ward::new();
    ward.replacements(replacements);
    let id = ward.docker.run(spec.health_check());
    ward.wake().await;
    ward.fails(&id);
    (ward, id)
}

fn with(key: &str, value: &str) -> Spec {
    web("web").label(key, value)
}

/// The changes, with the number of the operation left out.
fn changes(ward: &Ward) -> Vec<String> {
    let plain = |word: &str| match remora::docker::names::operation_in(word) {
        Some(operation) => word.replace(&format!("-{operation}"), ""),
        None => word.to_owned(),
    };
    let changes = ward.docker.changes();
    changes.iter().map(|line| line.split(' ').map(plain).collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test(start_paused = true)]
async fn restart_restarts_in_place() {
    let (ward, id) = ill(with("remora.heal.strategy", "restart")).await;
    let told = ward.hears("healed", "web", 2 * MINUTE).await;
    assert_eq!(told.action, "restart");
    assert_eq!(changes(&ward), ["restart web"]);
    assert_eq!(ward.named("web").id, id);
    ward.rests(10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn notify_tells_once_and_changes_nothing() {
    let (ward, _) = ill(with("remora.heal.strategy", "notify")).await;
    ward.rests(30 * MINUTE).await;
    let told = ward.told("not_healed");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].text.contains("its labels ask to be told"), "{}", told[0].text);
}

#[tokio::test(start_paused = true)]
async fn stop_stops_it_and_leaves_it_so() {
    let (mut ward, id) = ill(with("remora.heal.strategy", "stop").restart_policy("always")).await;
    ward.hears("healed", "web", 2 * MINUTE).await;
    assert_eq!(changes(&ward), ["stop web"]);
    ward.rests(10 * MINUTE).await;
    ward.kill().await;
    ward.start();
    ward.rests(10 * MINUTE).await;
    assert_eq!(ward.docker.facts(&id).unwrap().state, State::Exited);
}

#[tokio::test(start_paused = true)]
async fn escalate_restarts_first_and_replaces_when_that_does_not_help() {
    let mut ward = Ward::new();
    let id = ward.docker.run(with("remora.heal.strategy", "escalate").health_check());
    ward.wake().await;
    // From its next start on it is as ill as before.
    let ill = Behaviour::default().unhealthy_after(2 * SECOND);
    ward.docker.behave(crate::fake_docker::Whom::Container(id.clone()), ill);
    ward.fails(&id);
    assert_eq!(ward.hears("heal_failed", "web", 2 * MINUTE).await.action, "restart");
    ward.replaced("web", &id, 5 * MINUTE).await;
    assert_eq!(changes(&ward)[..2], ["restart web", "create web.new"]);
}

#[tokio::test(start_paused = true)]
async fn start_first_starts_the_new_one_before_the_old_one_is_touched() {
    let (ward, id) = ill(with("remora.heal.order", "start-first").restart_policy("always")).await;
    ward.replaced("web", &id, 2 * MINUTE).await;
    assert_eq!(
        changes(&ward),
        [
            "create web.new",
            "start web.new",
            "rename web web.old",
            "rename web.new web",
            "update web always",
            "update web.old no",
            "stop web.old",
            "remove web.old",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn stop_first_stops_the_old_one_before_the_new_one_starts() {
    let (ward, id) = ill(with("remora.heal.order", "stop-first").restart_policy("always")).await;
    ward.replaced("web", &id, 2 * MINUTE).await;
    assert_eq!(
        changes(&ward),
        [
            "create web.new",
            "rename web web.old",
            "rename web.new web",
            "stop web.old",
            "start web",
            "update web always",
            "remove web.old",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_order_is_chosen_by_what_the_container_has_for_itself() {
    for (spec, first) in [(web("web"), "start web.new"), (web("web").publish(443, 8443), "rename web web.old")] {
        let (ward, id) = ill(spec).await;
        ward.replaced("web", &id, 2 * MINUTE).await;
        assert_eq!(changes(&ward)[1], first);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_is_no_better_gives_the_place_back_exactly() {
    for bad in [
        Behaviour::default().unhealthy_after(2 * SECOND),
        Behaviour::default().exits_after(2 * SECOND, 1),
        Behaviour::default().start_fails("exec: not found"),
    ] {
        for order in ["start-first", "stop-first"] {
            let spec = with("remora.heal.order", order).restart_policy("unless-stopped");
            let spec = spec.label("remora.heal.max-attempts", "1");
            let (ward, id) = ill_with(spec, bad.clone()).await;
            let original = essence(&ward.docker.raw(&id).unwrap());
            ward.hears("heal_failed", "web", 5 * MINUTE).await;
            let back = ward.named("web");
            assert_eq!((&back.id, &back.state), (&id, &State::Running), "{order} {bad:?}");
            assert_eq!(essence(&ward.docker.raw(&id).unwrap()), original);
            let others: Vec<_> = ward.docker.containers().into_iter().filter(|it| it.id != id).collect();
            assert_eq!(others.len(), 1, "the bad one is kept: {:?}", ward.names());
            assert!(others[0].name.starts_with("web.bad-") && others[0].state != State::Running, "{:?}", others[0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_one_is_kept_only_if_it_is_wanted_and_only_the_last() {
    for (kept, count) in [("0", 0), ("1", 1)] {
        let spec = with("remora.heal.keep-failed", kept).label("remora.heal.order", "start-first");
        let (ward, _) = ill_with(spec, Behaviour::default().unhealthy_after(SECOND)).await;
        sleep(20 * MINUTE).await;
        assert!(ward.told("heal_failed").len() > 1);
        assert_eq!(ward.names().len(), 1 + count, "{:?}", ward.names());
    }
}

#[tokio::test(start_paused = true)]
async fn keep_new_leaves_the_new_one_in_the_place() {
    let spec = with("remora.heal.on-failure", "keep-new").label("remora.heal.order", "stop-first");
    let (ward, id) = ill_with(spec, Behaviour::default().unhealthy_after(2 * SECOND)).await;
    ward.replaced("web", &id, 3 * MINUTE).await;
    assert!(ward.told("heal_failed")[0].text.contains("the new one is kept"));
}

#[tokio::test(start_paused = true)]
async fn on_failure_stop_leaves_nothing_running() {
    let spec = with("remora.heal.on-failure", "stop").label("remora.heal.order", "stop-first");
    let (ward, id) = ill_with(spec, Behaviour::default().unhealthy_after(2 * SECOND)).await;
    ward.hears("heal_failed", "web", 3 * MINUTE).await;
    ward.rests(10 * MINUTE).await;
    let down = ward.named("web");
    assert_eq!((&down.id, &down.state), (&id, &State::Exited));
    assert!(ward.docker.containers().iter().all(|it| it.state != State::Running));
}

#[tokio::test(start_paused = true)]
async fn the_pre_stop_command_runs_in_the_old_one_before_it_is_stopped() {
    let spec = with("remora.heal.pre-stop", "/bin/bye now").label("remora.heal.order", "stop-first");
    let (ward, id) = ill(spec).await;
    ward.replaced("web", &id, 2 * MINUTE).await;
    let all = changes(&ward);
    let at = |line: &str| all.iter().position(|it| it == line);
    assert!(at("exec web.old /bin/bye now").unwrap() < at("stop web.old").unwrap(), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_image_is_gone_is_restarted_instead() {
    let mut ward = Ward::new();
    let id = ward.docker.run(web("web").health_check());
    ward.wake().await;
    ward.docker.remove_image("web:1");
    ward.fails(&id);
    let told = ward.hears("healed", "web", 2 * MINUTE).await;
    assert_eq!(told.action, "restart", "{}", told.text);
    assert_eq!(ward.named("web").id, id);
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_volume_is_gone_is_given_up_at_once() {
    let mut ward = Ward::new();
    ward.docker.add_image("db:1", &serde_json::json!({"Volumes": {"/data": {}}}));
    let id = ward.docker.run(web("web").image("db:1").health_check());
    ward.wake().await;
    let raw = ward.docker.raw(&id).unwrap();
    ward.docker.remove_volume(raw["Mounts"][0]["Name"].as_str().unwrap());
    ward.fails(&id);
    let told = ward.hears("heal_gave_up", "web", 2 * MINUTE).await;
    assert!(told.text.contains("does not exist any more"), "{}", told.text);
    ward.rests(20 * MINUTE).await;
}
