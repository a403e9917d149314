//! The real engine and the fake keep the same promises.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::let_underscore_must_use, clippy::large_futures)]

#[path = "support/docker_conformance.rs"]
mod docker_conformance;
#[path = "support/fake_docker.rs"]
mod fake_docker;
#[allow(dead_code)] // each test program uses another part of it
#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use docker_conformance::{Host, Kind};
use fake_docker::FakeDocker;
use remora::docker::{ContainerId, DockerEngine, HealthStatus, Lens};
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
}

#[tokio::test]
async fn the_real_engine_conforms() {
    docker_conformance::conforms(&Real::connect().await).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_conforms() {
    docker_conformance::conforms(&Fake(FakeDocker::default())).await;
}
