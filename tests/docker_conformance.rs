//! The real engine and the fake keep the same promises.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::let_underscore_must_use, clippy::large_futures)]

#[path = "support/docker_control_conformance.rs"]
mod control_conformance;
#[path = "support/docker_conformance.rs"]
mod docker_conformance;
#[path = "support/fake_docker.rs"]
mod fake_docker;
#[allow(dead_code)] // each test program uses another part of it
#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use docker_conformance::{Host, Kind};
use fake_docker::{Behaviour, FakeDocker, Whom};
use remora::docker::{ContainerId, Control as _, DockerEngine, HealthStatus, Lens};
use serde_json::{Value, json};
use support::docker::Container;

struct Fake(FakeDocker);

impl Host for Fake {
    type Engine = FakeDocker;

    fn engine(&self) -> &FakeDocker {
        &self.0
    }

    fn name(&self, short: &str) -> String {
        short.to_owned()
    }

    async fn create(&self, short: &str, kind: Kind) -> ContainerId {
        let spec = fake_docker::web(short);
        self.0.create(match kind {
            Kind::Sleeper | Kind::CrashLoop => spec,
            Kind::WithHealthCheck => spec.health_check(),
            Kind::Ephemeral => spec.auto_remove(),
        })
    }

    async fn start(&self, id: &ContainerId) {
        self.0.start(id);
    }

    async fn kill(&self, id: &ContainerId, signal: u8) {
        self.0.kill(id, signal);
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) {
        self.0.stop(id, grace).await;
    }

    async fn pause(&self, id: &ContainerId, paused: bool) {
        self.0.pause(id, paused);
    }

    async fn rename(&self, id: &ContainerId, short: &str) {
        self.0.rename(id, short);
    }

    async fn ail(&self, id: &ContainerId, sick: bool) {
        let (status, output) = if sick { (HealthStatus::Unhealthy, "sick") } else { (HealthStatus::Healthy, "well") };
        self.0.health(id, status, output);
    }

    async fn end(&self, id: &ContainerId) {
        let auto_removed = self.0.facts(id).unwrap().name == "ephemeral";
        if auto_removed { self.0.exit(id, 0) } else { self.0.crash(id, 3) }
    }

    async fn again(&self, id: &ContainerId) {
        self.0.start(id);
    }

    async fn attach(&self, id: &ContainerId, connected: bool) -> String {
        self.0.attach(id, "other", connected);
        "other".to_owned()
    }

    async fn remove(&self, id: &ContainerId) {
        self.0.remove(id);
    }

    fn body(&self, kind: Kind) -> Value {
        let spec = fake_docker::web("any").label("suite", "control").stop_timeout(Duration::from_secs(1));
        match kind {
            Kind::WithHealthCheck => spec.health_check().label("suite.health", "good").body(),
            _ => spec.body(),
        }
    }

    fn label(&self) -> String {
        "suite=control".to_owned()
    }
}

/// A fake in which containers behave as those of the real engine do here: they take no notice of SIGTERM, and probes are
/// quick.
fn lifelike() -> Fake {
    let docker = FakeDocker::default();
    let stubborn = Behaviour::default().stops_in(Duration::from_secs(3600));
    docker.behave(Whom::Labelled("suite".to_owned()), stubborn.clone());
    let good = stubborn.healthy_after(Duration::from_millis(200));
    docker.behave(Whom::Labelled("suite.health".to_owned()), good);
    Fake(docker)
}

struct Real {
    hands: support::docker::Engine,
    engine: DockerEngine,
    network: String,
}

impl Real {
    async fn connect() -> Self {
        let hands = support::docker::Engine::connect(&support::run_id("sim")).await;
        let socket = remora::config::Docker::Unix(support::docker::default_socket());
        let engine = DockerEngine::new(&socket, Lens::default()).unwrap();
        let network = hands.network("other").await;
        Self { hands, engine, network }
    }
}

fn by_id(id: &ContainerId) -> Container {
    Container { id: id.as_str().to_owned(), name: String::new() }
}

impl Host for Real {
    type Engine = DockerEngine;

    fn engine(&self) -> &DockerEngine {
        &self.engine
    }

    fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.hands.run())
    }

    async fn create(&self, short: &str, kind: Kind) -> ContainerId {
        let spec = self.hands.container(short).publish(80);
        let spec = match kind {
            Kind::Sleeper => spec,
            Kind::WithHealthCheck => spec.health_check(Duration::from_millis(200)),
            Kind::CrashLoop => {
                spec.command(&["/bin/sh", "-c", "/bin/busybox sleep 1; exit 3"]).restart_policy("always")
            }
            Kind::Ephemeral => spec.command(&["/bin/busybox", "true"]).auto_remove(),
        };
        ContainerId::new(spec.create().await.id)
    }

    async fn start(&self, id: &ContainerId) {
        self.hands.start(&by_id(id)).await;
    }

    async fn kill(&self, id: &ContainerId, signal: u8) {
        self.hands.kill(&by_id(id), &signal.to_string()).await;
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) {
        self.hands.stop(&by_id(id), u32::try_from(grace.as_secs()).unwrap()).await;
    }

    async fn pause(&self, id: &ContainerId, paused: bool) {
        self.hands.pause(&by_id(id), paused).await;
    }

    async fn rename(&self, id: &ContainerId, short: &str) {
        self.hands.rename(&by_id(id), short).await;
    }

    async fn ail(&self, id: &ContainerId, sick: bool) {
        let file = if sick { "touch /sick" } else { "rm -f /sick" };
        self.hands.exec(&by_id(id), &["/bin/sh", "-c", &format!("/bin/busybox {file}")]).await;
    }

    async fn end(&self, _: &ContainerId) {}

    async fn again(&self, _: &ContainerId) {}

    async fn attach(&self, id: &ContainerId, connected: bool) -> String {
        self.hands.attach(&by_id(id), &self.network, connected).await;
        self.network.clone()
    }

    async fn remove(&self, id: &ContainerId) {
        self.hands.remove(&by_id(id)).await;
    }

    fn body(&self, kind: Kind) -> Value {
        let spec = self.hands.container("any").publish(80);
        match kind {
            Kind::WithHealthCheck => spec.health_check(Duration::from_millis(200)).body().clone(),
            _ => spec.body().clone(),
        }
    }

    fn label(&self) -> String {
        format!("{}={}", support::docker::RUN_LABEL, self.hands.run())
    }
}

async fn run(real: &Real, short: &str, body: &Value) -> ContainerId {
    let id = real.engine.create(&real.name(short), body, None).await.unwrap();
    real.engine.start(id.as_str()).await.unwrap();
    id
}

/// What a fake has no processes for.
#[tokio::test]
async fn what_processes_say_and_write_is_read() {
    let real = Real::connect().await;
    let mut body = real.body(Kind::Sleeper);
    body["HostConfig"]["LogConfig"] = json!({"Type": "json-file"});
    let script = "echo one; echo two >&2; echo three; exec /bin/busybox sleep 1000";
    body["Cmd"] = json!(["/bin/sh", "-c", script]);
    let framed = run(&real, "framed", &body).await;
    body["Tty"] = true.into();
    let terminal = run(&real, "terminal", &body).await;
    for id in [framed.as_str(), terminal.as_str()] {
        let mut log = String::new();
        for _ in 0..200 {
            log = real.engine.logs(id, 2).await.unwrap();
            if log.ends_with("three\n") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The order of two streams is not certain.
        assert!(log.lines().count() == 2 && log.lines().all(|line| ["one", "two", "three"].contains(&line)), "{log:?}");
    }

    let id = framed.as_str();
    assert!(!real.engine.changes_exist(id).await.unwrap());
    let command = ["/bin/sh", "-c", "echo x > /written; exit 7"].map(ToOwned::to_owned);
    assert_eq!(real.engine.exec(id, &command, Duration::from_secs(20)).await, Ok(7));
    assert!(real.engine.changes_exist(id).await.unwrap());
    let endless = ["/bin/busybox", "sleep", "1000"].map(ToOwned::to_owned);
    let late = real.engine.exec(id, &endless, Duration::from_millis(500)).await;
    assert!(matches!(late, Err(remora::docker::DockerError::TimedOut { .. })), "{late:?}");
    // Whoever comes second waits for whoever came first.
    let (first, second) = tokio::join!(real.engine.remove(id, true), real.engine.remove(id, true));
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert!(real.engine.document(id).await.is_err());
    real.engine.remove(terminal.as_str(), true).await.unwrap();
}

#[tokio::test]
async fn the_real_engine_conforms() {
    docker_conformance::conforms(&Real::connect().await).await;
}

#[tokio::test]
async fn the_real_engine_does_what_it_is_asked_to() {
    control_conformance::conforms(&Real::connect().await).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_does_what_it_is_asked_to() {
    control_conformance::conforms(&lifelike()).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_conforms() {
    docker_conformance::conforms(&Fake(FakeDocker::default())).await;
}
