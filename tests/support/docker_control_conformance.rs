//! What every [`Control`] promises, of the real engine and of the fake.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

use std::time::Duration;

use remora::docker::{
    ContainerId, Control, DockerError, EventKind, HealthStatus, Lens, RestartName, State, Trouble, classify,
};
use serde_json::{Value, json};

use crate::docker_conformance::{Ear, Host, Kind, inspect, other};
use crate::support::free_port;

const GRACE: Duration = Duration::from_secs(1);

/// The whole suite. It leaves nothing behind.
pub async fn conforms(host: &impl Host) {
    a_body_becomes_a_container(host).await;
    a_name_belongs_to_one(host).await;
    what_is_not_there_is_told_apart(host).await;
    a_change_is_told_in_order_and_once(host).await;
    a_port_belongs_to_one(host).await;
    the_policy_can_be_changed(host).await;
    what_is_gone_is_gone(host).await;
    health_comes_by_itself(host).await;
}

async fn make(host: &impl Host, short: &str, body: &Value) -> ContainerId {
    host.engine().create(&host.name(short), body, None).await.unwrap()
}

#[track_caller]
fn trouble<T: std::fmt::Debug>(result: Result<T, DockerError>) -> Trouble {
    classify(&result.unwrap_err())
}

/// What is told of its process up to this one; networks are another matter. Newer engines tell `stop` before `die`: here it stands as
/// 20.10 tells it.
async fn told(ear: &mut Ear, last: &EventKind) -> Vec<EventKind> {
    let (mut told, stop) = (Vec::new(), other("stop"));
    while told.last() != Some(last) || (*last == stop && !told.contains(&EventKind::Die)) {
        let event = ear.next().await;
        assert_eq!(event.exit_code.is_some(), event.kind == EventKind::Die, "{event:?}");
        if matches!(event.kind.as_str(), "connect" | "disconnect") {
            continue;
        }
        let early = event.kind == EventKind::Die && told.last() == Some(&stop);
        told.insert(told.len() - usize::from(early), event.kind);
    }
    told
}

/// The signals of a stop to a process that does not listen, and its end.
fn a_stop() -> Vec<EventKind> {
    vec![EventKind::Kill(Some(15)), EventKind::Kill(Some(9)), EventKind::Die, other("stop")]
}

async fn a_body_becomes_a_container(host: &impl Host) {
    let body = host.body(Kind::Sleeper);
    let id = make(host, "made", &body).await;
    let document = host.engine().document(id.as_str()).await.unwrap();
    assert_eq!((document.id(), document.name()), (id.as_str(), host.name("made").as_str()));
    let all = document.value();
    assert_eq!(all["Config"]["Image"], body["Image"]);
    assert_eq!(all["Config"]["Hostname"], id.short());
    assert_eq!(all["HostConfig"]["PortBindings"]["80/tcp"].as_array().unwrap().len(), 1);
    assert!(all["NetworkSettings"]["Networks"]["bridge"].is_object(), "{}", all["NetworkSettings"]);
    assert_eq!(all["State"]["Status"], "created");
    assert_eq!(document.container(&Lens::default()).unwrap().state, State::Created);
    let image = host.engine().image(body["Image"].as_str().unwrap()).await.unwrap().unwrap();
    assert_eq!(all["Image"], image.id());
    assert_eq!(host.engine().image(image.id()).await.unwrap().unwrap().id(), image.id());
    assert!(!host.engine().changes_exist(id.as_str()).await.unwrap());
    let label = host.label();
    let key = label.split('=').next().unwrap();
    assert!(host.engine().labelled(&label).await.unwrap().contains(&id), "stopped ones too");
    assert!(host.engine().labelled(key).await.unwrap().contains(&id), "whatever its value");
    assert_eq!(host.engine().labelled(&format!("{label}-not")).await.unwrap(), []);

    host.engine().start(id.as_str()).await.unwrap();
    let document = host.engine().document(&host.name("made")).await.unwrap();
    let seen = inspect(host, &id).await;
    let lens = Lens { labels: seen.labels.keys().map(ToString::to_string).collect(), tags: None };
    assert_eq!(document.container(&lens).unwrap(), seen, "one and the same");
    let exit = host.engine().exec(id.as_str(), &["/bin/busybox".to_owned(), "true".to_owned()], GRACE * 20).await;
    assert_eq!(exit, Ok(0));
    host.engine().remove(id.as_str(), true).await.unwrap();
}

async fn a_name_belongs_to_one(host: &impl Host) {
    let body = host.body(Kind::Sleeper);
    let (first, second) = (make(host, "one", &body).await, make(host, "two", &body).await);
    let taken = Trouble::NameTaken(Some(first.clone()));
    assert_eq!(trouble(host.engine().create(&host.name("one"), &body, None).await), taken);
    assert_eq!(trouble(host.engine().rename(second.as_str(), &host.name("one")).await), taken);
    let own = host.engine().rename(second.as_str(), &host.name("two")).await;
    assert_eq!(trouble(own), Trouble::Invalid, "it is called so");
    let mut ear = Ear::at(host, &first).await;
    host.engine().rename(first.as_str(), &host.name("one.old-0123abcd")).await.unwrap();
    host.engine().rename(second.as_str(), &host.name("one")).await.unwrap();
    assert_eq!(ear.next().await.kind, other("rename"));
    ear.silent().await;
    assert_eq!(inspect(host, &second).await.name, host.name("one"));
    assert_eq!(host.engine().document(&host.name("one")).await.unwrap().id(), second.as_str());
    for id in [first, second] {
        host.engine().remove(id.as_str(), false).await.unwrap();
    }
}

async fn what_is_not_there_is_told_apart(host: &impl Host) {
    let engine = host.engine();
    assert!(engine.image("remora-nonesuch:1").await.unwrap().is_none());
    assert!(engine.network("remora-nonesuch").await.unwrap().is_none());
    assert_eq!(engine.network("bridge").await.unwrap().unwrap().name(), "bridge");
    assert!(!engine.volume_exists("remora-nonesuch").await.unwrap());
    let name = host.name("missing");
    let mut body = host.body(Kind::Sleeper);
    body["Image"] = "remora-nonesuch:1".into();
    assert_eq!(trouble(engine.create(&name, &body, None).await), Trouble::ImageMissing);
    let mut body = host.body(Kind::Sleeper);
    body["HostConfig"]["AutoRemove"] = true.into();
    body["HostConfig"]["RestartPolicy"] = json!({"Name": "always"});
    assert_eq!(trouble(engine.create(&name, &body, None).await), Trouble::Invalid);
    let mut body = host.body(Kind::Sleeper);
    body["HostConfig"]["NetworkMode"] = "remora-nonesuch".into();
    let id = engine.create(&name, &body, None).await.unwrap();
    assert_eq!(trouble(engine.start(id.as_str()).await), Trouble::NetworkMissing);
    let failed = inspect(host, &id).await;
    assert_eq!((failed.state, failed.exit_code), (State::Created, 128));
    assert!(failed.life.error.ends_with("network remora-nonesuch not found"), "{}", failed.life.error);
    engine.remove(id.as_str(), false).await.unwrap();

    let id = engine.create(&name, &host.body(Kind::Sleeper), None).await.unwrap();
    let nowhere = json!({"Container": id.as_str()});
    engine.connect("remora-nonesuch", &nowhere).await.expect("it is believed until the start");
    assert_eq!(trouble(engine.start(id.as_str()).await), Trouble::NetworkMissing);
    engine.remove(id.as_str(), false).await.unwrap();

    let id = engine.create(&name, &host.body(Kind::Sleeper), None).await.unwrap();
    engine.start(id.as_str()).await.unwrap();
    let nowhere = json!({"Container": id.as_str()});
    assert_eq!(trouble(engine.connect("remora-nonesuch", &nowhere).await), Trouble::NetworkMissing);
    engine.remove(id.as_str(), true).await.unwrap();
}

async fn a_change_is_told_in_order_and_once(host: &impl Host) {
    let engine = host.engine();
    let id = make(host, "order", &host.body(Kind::Sleeper)).await;
    let mut ear = Ear::at(host, &id).await;
    engine.start(id.as_str()).await.unwrap();
    assert_eq!(told(&mut ear, &EventKind::Start).await, [EventKind::Start]);
    engine.start(id.as_str()).await.unwrap();
    ear.silent().await;

    engine.stop(id.as_str(), GRACE).await.unwrap();
    let down = inspect(host, &id).await;
    assert_eq!((down.state, down.exit_code), (State::Exited, 137), "when it is answered it is done");
    assert_eq!(told(&mut ear, &other("stop")).await, a_stop());
    engine.stop(id.as_str(), GRACE).await.unwrap();
    ear.silent().await;

    engine.start(id.as_str()).await.unwrap();
    let before = inspect(host, &id).await;
    assert_eq!(told(&mut ear, &EventKind::Start).await, [EventKind::Start]);
    engine.restart(id.as_str(), GRACE).await.unwrap();
    let after = inspect(host, &id).await;
    assert_eq!((&after.state, after.restart_count), (&State::Running, 0));
    assert!(after.started_at > before.started_at);
    let whole: Vec<EventKind> = a_stop().into_iter().chain([EventKind::Start, other("restart")]).collect();
    assert_eq!(told(&mut ear, &other("restart")).await, whole);
    engine.stop(id.as_str(), Duration::ZERO).await.unwrap();
    assert_eq!(told(&mut ear, &other("stop")).await.last(), Some(&other("stop")));
    engine.restart(id.as_str(), GRACE).await.unwrap();
    let whole = [EventKind::Start, other("restart")];
    assert_eq!(told(&mut ear, &other("restart")).await, whole, "there was nothing to stop");
    engine.remove(id.as_str(), true).await.unwrap();
    let whole = [EventKind::Kill(Some(9)), EventKind::Die, EventKind::Destroy];
    assert_eq!(told(&mut ear, &EventKind::Destroy).await, whole);
}

async fn a_port_belongs_to_one(host: &impl Host) {
    let engine = host.engine();
    // Not one that the engine chose: as soon as it is free again the engine may give it to another test's container.
    let port = free_port();
    let mut body = host.body(Kind::Sleeper);
    body["HostConfig"]["PortBindings"]["80/tcp"] = json!([{"HostPort": port.to_string()}]);
    let first = make(host, "port", &body).await;
    engine.start(first.as_str()).await.unwrap();
    assert_eq!(inspect(host, &first).await.bindings.values().flatten().next().unwrap().host_port, port);
    let second = make(host, "port.new", &body).await;
    let mut ear = Ear::at(host, &second).await;
    assert_eq!(trouble(engine.start(second.as_str()).await), Trouble::PortTaken);
    let failed = inspect(host, &second).await;
    assert_eq!((failed.state, failed.exit_code), (State::Created, 128));
    assert!(failed.life.error.contains("port is already allocated"), "{}", failed.life.error);
    engine.stop(first.as_str(), Duration::ZERO).await.unwrap();
    engine.start(second.as_str()).await.unwrap();
    assert_eq!(told(&mut ear, &EventKind::Start).await, [EventKind::Start], "nothing was told of the failure");
    let running = inspect(host, &second).await;
    assert_eq!((running.state, running.life.error.as_str(), running.exit_code), (State::Running, "", 0));
    assert_eq!(running.bindings.values().flatten().next().unwrap().host_port, port);
    for id in [first, second] {
        engine.remove(id.as_str(), true).await.unwrap();
    }
}

async fn the_policy_can_be_changed(host: &impl Host) {
    let engine = host.engine();
    let id = make(host, "policy", &host.body(Kind::Sleeper)).await;
    assert_eq!(inspect(host, &id).await.life.restart_policy.name, RestartName::No);
    let mut ear = Ear::at(host, &id).await;
    let policy = json!({"Name": "on-failure", "MaximumRetryCount": 3});
    engine.set_restart_policy(id.as_str(), &policy).await.unwrap();
    assert_eq!(ear.next().await.kind, other("update"));
    let changed = inspect(host, &id).await.life.restart_policy;
    assert_eq!((changed.name, changed.maximum_retries), (RestartName::OnFailure, 3));
    let document = engine.document(id.as_str()).await.unwrap();
    assert_eq!(document.value()["HostConfig"]["RestartPolicy"], policy);
    let odd = engine.set_restart_policy(id.as_str(), &json!({"Name": "sometimes"})).await;
    assert_eq!(trouble(odd), Trouble::Invalid);
    engine.remove(id.as_str(), false).await.unwrap();
}

async fn what_is_gone_is_gone(host: &impl Host) {
    let engine = host.engine();
    let id = make(host, "gone", &host.body(Kind::Sleeper)).await;
    engine.start(id.as_str()).await.unwrap();
    assert_eq!(trouble(engine.remove(id.as_str(), false).await), Trouble::Busy, "it runs");
    engine.remove(id.as_str(), true).await.unwrap();
    engine.remove(id.as_str(), true).await.unwrap();
    let id = id.as_str();
    assert_eq!(trouble(engine.document(id).await), Trouble::Gone);
    assert_eq!(trouble(engine.start(id).await), Trouble::Gone);
    assert_eq!(trouble(engine.stop(id, GRACE).await), Trouble::Gone);
    assert_eq!(trouble(engine.restart(id, GRACE).await), Trouble::Gone);
    assert_eq!(trouble(engine.rename(id, &host.name("ghost")).await), Trouble::Gone);
    assert_eq!(trouble(engine.set_restart_policy(id, &json!({"Name": "no"})).await), Trouble::Gone);
    assert_eq!(trouble(engine.logs(id, 10).await), Trouble::Gone);
    assert_eq!(trouble(engine.changes_exist(id).await), Trouble::Gone);
    assert_eq!(trouble(engine.connect("bridge", &json!({"Container": id})).await), Trouble::Gone);
    assert_eq!(trouble(engine.exec(id, &["true".to_owned()], GRACE).await), Trouble::Gone);
}

async fn health_comes_by_itself(host: &impl Host) {
    let engine = host.engine();
    let id = make(host, "well", &host.body(Kind::WithHealthCheck)).await;
    let made = inspect(host, &id).await;
    assert_eq!(made.health.map(|health| health.status), None);
    assert!(made.life.probe.is_some());
    let mut ear = Ear::at(host, &id).await;
    engine.start(id.as_str()).await.unwrap();
    let fresh = inspect(host, &id).await.health.unwrap();
    assert_eq!(fresh.status, HealthStatus::Starting);
    ear.until(&other("health_status")).await;
    assert_eq!(inspect(host, &id).await.health.unwrap().status, HealthStatus::Healthy);
    engine.stop(id.as_str(), Duration::ZERO).await.unwrap();
    let down = inspect(host, &id).await.health.unwrap();
    assert_eq!(down.status, HealthStatus::Unhealthy, "so it is said of whatever does not run");
    engine.remove(id.as_str(), false).await.unwrap();
}
