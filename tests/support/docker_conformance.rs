//! What every [`Engine`] promises. The real one and the fake pass the same suite, so that a scenario that works on the fake
//! is not a scenario that works on the fake only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]
#![allow(async_fn_in_trait, reason = "the suite waits for one call at a time")]

use std::time::Duration;

use futures_util::StreamExt as _;
use remora::docker::{
    Container, ContainerId, Control, DockerError, Engine, Event, EventKind, EventStream, EventTime, HealthStatus, Port,
    Protocol, State,
};
use serde_json::Value;
use tokio::time::timeout;

/// Longer than anything that is waited for takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a container is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It sleeps; 80/tcp is published on a free port of the host.
    Sleeper,
    /// It sleeps and has a HEALTHCHECK.
    WithHealthCheck,
    /// It ends with an error after a moment, and is started again.
    CrashLoop,
    /// It ends at once, and is removed then.
    Ephemeral,
}

/// An engine together with the hands that make things happen on it.
pub trait Host {
    /// The engine under test.
    type Engine: Engine + Control;
    /// It.
    fn engine(&self) -> &Self::Engine;
    /// The whole name of a container that is called so for short.
    fn name(&self, short: &str) -> String;
    /// `docker create`.
    async fn create(&self, short: &str, kind: Kind) -> ContainerId;
    /// `docker start`; of a container that is waiting to be started again, its restart.
    async fn start(&self, id: &ContainerId);
    /// `docker kill -s`: HUP or KILL.
    async fn kill(&self, id: &ContainerId, signal: u8);
    /// `docker stop` with this grace.
    async fn stop(&self, id: &ContainerId, grace: Duration);
    /// `docker pause` or `docker unpause`.
    async fn pause(&self, id: &ContainerId, paused: bool);
    /// `docker rename`.
    async fn rename(&self, id: &ContainerId, short: &str);
    /// Makes the HEALTHCHECK find this from now on.
    async fn ail(&self, id: &ContainerId, sick: bool);
    /// Lets a crash loop, or an ephemeral container, come to the end of a run.
    async fn end(&self, id: &ContainerId);
    /// Lets the restart policy start it again.
    async fn again(&self, id: &ContainerId);
    /// `docker network connect` or `disconnect`; the whole name of the network.
    async fn attach(&self, id: &ContainerId, connected: bool) -> String;
    /// `docker rm -f`.
    async fn remove(&self, id: &ContainerId);
    /// The body of a create call for such a container.
    fn body(&self, kind: Kind) -> Value;
    /// A label that every such body has, and nothing else on this engine.
    fn label(&self) -> String;
}

/// The whole suite. It leaves nothing behind.
pub async fn conforms(host: &impl Host) {
    an_engine_says_who_it_is(host).await;
    a_container_lives_and_dies(host).await;
    a_signal_is_told_whether_or_not_it_ends_the_process(host).await;
    a_name_is_as_good_as_an_id(host).await;
    health_is_told_when_it_changes(host).await;
    a_restart_is_counted_when_the_process_ends(host).await;
    what_is_removed_is_not_found(host).await;
    networks_come_and_go(host).await;
    events_are_replayed_from_a_point_in_time(host).await;
    a_line_of_the_list_changes_when_and_only_when_something_does(host).await;
}

/// The events of one container.
pub struct Ear {
    stream: EventStream,
    id: ContainerId,
}

impl Ear {
    /// Listens from the engine's present on.
    pub async fn at(host: &impl Host, id: &ContainerId) -> Self {
        let now = host.engine().info().await.unwrap().system_time;
        Self { stream: host.engine().events(now), id: id.clone() }
    }

    pub async fn next(&mut self) -> Event {
        loop {
            let event = timeout(PATIENCE, self.stream.next()).await.expect("an event").expect("no end").unwrap();
            if event.container == self.id {
                return event;
            }
        }
    }

    /// Waits for this one; what comes before it is passed over.
    pub async fn until(&mut self, kind: &EventKind) -> Event {
        loop {
            let event = self.next().await;
            if event.kind == *kind {
                return event;
            }
        }
    }

    /// Nothing comes for a while.
    pub async fn silent(&mut self) {
        let nothing = timeout(Duration::from_millis(300), self.next()).await;
        assert!(nothing.is_err(), "an event that nobody caused: {nothing:?}");
    }
}

pub fn other(word: &str) -> EventKind {
    EventKind::Other(word.to_owned())
}

pub async fn inspect(host: &impl Host, id: &ContainerId) -> Container {
    host.engine().inspect(id.as_str()).await.unwrap()
}

/// Looks until it is so.
async fn see(host: &impl Host, id: &ContainerId, what: &str, is_so: impl Fn(&Container) -> bool) -> Container {
    let looking = async {
        loop {
            let container = inspect(host, id).await;
            if is_so(&container) {
                return container;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never {what}"))
}

async fn line(host: &impl Host, id: &ContainerId) -> Option<(u64, bool)> {
    let listing = host.engine().list().await.unwrap();
    listing.containers.iter().find(|line| line.id == *id).map(|line| (line.fingerprint, line.live))
}

fn web_port() -> Port {
    Port { number: 80, protocol: Protocol::Tcp }
}

async fn an_engine_says_who_it_is(host: &impl Host) {
    host.engine().ping().await.unwrap();
    let info = host.engine().info().await.unwrap();
    assert!(!info.id.is_empty() && !info.name.is_empty() && !info.version.is_empty());
    let later = host.engine().info().await.unwrap();
    assert_eq!(info.id, later.id);
    assert!(later.system_time.unwrap() >= info.system_time.unwrap(), "its clock goes forward");
}

async fn a_container_lives_and_dies(host: &impl Host) {
    let id = host.create("life", Kind::Sleeper).await;
    let made = inspect(host, &id).await;
    assert_eq!((made.state, made.name.as_str()), (State::Created, host.name("life").as_str()));
    assert_eq!(made.started_at, None, "never started");
    assert!(made.exposed.contains_key(&web_port()));
    assert!(made.bindings.values().all(|bindings| bindings.is_empty()));
    assert!(!line(host, &id).await.unwrap().1, "listed, but not live");

    let mut ear = Ear::at(host, &id).await;
    host.start(&id).await;
    let start = ear.until(&EventKind::Start).await;
    let up = inspect(host, &id).await;
    assert_eq!((up.state, up.restart_count, up.exit_code), (State::Running, 0, 0));
    assert_ne!(up.bindings[&web_port()][0].host_port, 0);
    let started = up.started_at.unwrap();
    assert!(started <= start.time, "a start is told when it has happened");
    assert!(up.networks.values().any(|endpoint| endpoint.ipv4.is_some()));
    assert!(line(host, &id).await.unwrap().1);

    host.kill(&id, 9).await;
    let kill = ear.until(&EventKind::Kill(Some(9))).await;
    assert!(kill.time > start.time);
    ear.until(&EventKind::Die).await;
    let down = see(host, &id, "exited", |container| container.state == State::Exited).await;
    assert_eq!(down.exit_code, 137);
    assert!(down.bindings.values().all(|bindings| bindings.is_empty()), "no ports without a process");
    assert!(down.networks.values().all(|endpoint| endpoint.ipv4.is_none()));
    assert!(down.finished_at.unwrap() > started);
    assert!(!line(host, &id).await.unwrap().1);

    // And again: another run, the same container.
    host.start(&id).await;
    ear.until(&EventKind::Start).await;
    assert!(inspect(host, &id).await.started_at.unwrap() > kill.time);
    host.pause(&id, true).await;
    ear.until(&other("pause")).await;
    assert_eq!(inspect(host, &id).await.state, State::Paused);
    assert!(line(host, &id).await.unwrap().1);
    host.pause(&id, false).await;
    ear.until(&other("unpause")).await;
    assert_eq!(inspect(host, &id).await.state, State::Running);
    host.remove(&id).await;
}

async fn a_signal_is_told_whether_or_not_it_ends_the_process(host: &impl Host) {
    let id = host.create("signal", Kind::Sleeper).await;
    host.start(&id).await;
    let mut ear = Ear::at(host, &id).await;
    host.kill(&id, 1).await;
    ear.until(&EventKind::Kill(Some(1))).await;
    ear.silent().await;
    assert_eq!(inspect(host, &id).await.state, State::Running);
    host.stop(&id, Duration::from_secs(1)).await;
    let signal = ear.until(&EventKind::Kill(Some(15))).await;
    // Which of the two comes first depends on the engine.
    let mut last = vec![other("stop"), EventKind::Die];
    while !last.is_empty() {
        let event = ear.next().await;
        assert!(
            event.kind != EventKind::Die || event.time.0 - signal.time.0 >= 900_000_000,
            "the grace is between them"
        );
        last.retain(|kind| *kind != event.kind);
    }
    assert_eq!(inspect(host, &id).await.state, State::Exited);
    host.remove(&id).await;
}

async fn a_name_is_as_good_as_an_id(host: &impl Host) {
    let id = host.create("before", Kind::Sleeper).await;
    host.start(&id).await;
    for name in [host.name("before"), id.short().to_owned(), id.as_str().to_owned()] {
        assert_eq!(host.engine().inspect(&name).await.unwrap().id, id, "{name}");
    }
    let mut ear = Ear::at(host, &id).await;
    host.rename(&id, "after").await;
    ear.until(&other("rename")).await;
    assert_eq!(inspect(host, &id).await.name, host.name("after"));
    assert_eq!(host.engine().inspect(&host.name("after")).await.unwrap().id, id);
    let old = host.engine().inspect(&host.name("before")).await;
    assert!(matches!(old, Err(DockerError::NotFound(_))), "{old:?}");
    host.remove(&id).await;
}

async fn health_is_told_when_it_changes(host: &impl Host) {
    let id = host.create("health", Kind::WithHealthCheck).await;
    let mut ear = Ear::at(host, &id).await;
    host.start(&id).await;
    let status = |container: &Container| container.health.as_ref().map(|health| health.status);
    host.ail(&id, false).await;
    ear.until(&other("health_status")).await;
    assert_eq!(status(&inspect(host, &id).await), Some(HealthStatus::Healthy));
    host.ail(&id, true).await;
    ear.until(&other("health_status")).await;
    let sick = inspect(host, &id).await;
    assert_eq!(status(&sick), Some(HealthStatus::Unhealthy));
    let health = sick.health.unwrap();
    assert_eq!((health.exit_code, health.output.as_str()), (Some(1), "sick"));
    host.ail(&id, false).await;
    ear.until(&other("health_status")).await;
    assert_eq!(status(&inspect(host, &id).await), Some(HealthStatus::Healthy));
    host.remove(&id).await;
    let plain = host.create("plain", Kind::Sleeper).await;
    host.start(&plain).await;
    assert_eq!(inspect(host, &plain).await.health, None);
    host.remove(&plain).await;
}

async fn a_restart_is_counted_when_the_process_ends(host: &impl Host) {
    let id = host.create("crash", Kind::CrashLoop).await;
    let mut ear = Ear::at(host, &id).await;
    host.start(&id).await;
    host.end(&id).await;
    let waiting = see(host, &id, "restarting", |container| container.state == State::Restarting).await;
    ear.until(&EventKind::Die).await;
    assert!(waiting.restart_count >= 1 && waiting.exit_code == 3, "{waiting:?}");
    assert!(line(host, &id).await.unwrap().1, "live: it will run again");
    host.again(&id).await;
    ear.until(&EventKind::Start).await;
    let up = see(host, &id, "running again", |container| {
        container.state == State::Running && container.started_at > waiting.finished_at
    })
    .await;
    assert_eq!(up.restart_count, waiting.restart_count, "the same number as while it waited");
    assert_eq!(up.finished_at, waiting.finished_at, "the end of the run before");
    host.remove(&id).await;
}

async fn what_is_removed_is_not_found(host: &impl Host) {
    let id = host.create("ephemeral", Kind::Ephemeral).await;
    let mut ear = Ear::at(host, &id).await;
    host.start(&id).await;
    host.end(&id).await;
    ear.until(&EventKind::Start).await;
    ear.until(&EventKind::Die).await;
    ear.until(&EventKind::Destroy).await;
    let gone = host.engine().inspect(id.as_str()).await;
    assert!(matches!(gone, Err(DockerError::NotFound(_))), "{gone:?}");
    assert_eq!(line(host, &id).await, None);
    let never = host.engine().inspect("0123456789ab").await;
    assert!(matches!(never, Err(DockerError::NotFound(_))), "{never:?}");

    let id = host.create("removed", Kind::Sleeper).await;
    host.start(&id).await;
    let mut ear = Ear::at(host, &id).await;
    host.remove(&id).await;
    ear.until(&EventKind::Die).await;
    ear.until(&EventKind::Destroy).await;
    assert_eq!(line(host, &id).await, None);
}

async fn networks_come_and_go(host: &impl Host) {
    let id = host.create("network", Kind::Sleeper).await;
    host.start(&id).await;
    let before = line(host, &id).await;
    let mut ear = Ear::at(host, &id).await;
    let network = host.attach(&id, true).await;
    ear.until(&other("connect")).await;
    assert!(inspect(host, &id).await.networks.get(network.as_str()).is_some_and(|endpoint| endpoint.ipv4.is_some()));
    assert_ne!(line(host, &id).await, before);
    host.attach(&id, false).await;
    ear.until(&other("disconnect")).await;
    assert!(!inspect(host, &id).await.networks.contains_key(network.as_str()));
    host.remove(&id).await;
}

async fn events_are_replayed_from_a_point_in_time(host: &impl Host) {
    let id = host.create("replay", Kind::Sleeper).await;
    let mut ear = Ear::at(host, &id).await;
    host.start(&id).await;
    let start = ear.until(&EventKind::Start).await;
    drop(ear);
    // While nobody listens.
    host.pause(&id, true).await;
    host.pause(&id, false).await;
    let mut from_start = Ear { stream: host.engine().events(Some(start.time)), id: id.clone() };
    assert_eq!(from_start.next().await, start, "the point itself is included");
    let pause = from_start.next().await;
    assert_eq!(pause.kind, other("pause"));
    let unpause = from_start.next().await;
    assert_eq!(unpause.kind, other("unpause"));
    assert!(start.time < pause.time && pause.time < unpause.time);
    let mut after = Ear { stream: host.engine().events(Some(EventTime(unpause.time.0 + 1))), id: id.clone() };
    after.silent().await;
    // Everybody who listens hears what happens next, once.
    host.pause(&id, true).await;
    for ear in [&mut from_start, &mut after] {
        assert_eq!(ear.next().await.kind, other("pause"));
        ear.silent().await;
    }
    host.remove(&id).await;
}

async fn a_line_of_the_list_changes_when_and_only_when_something_does(host: &impl Host) {
    let id = host.create("line", Kind::Sleeper).await;
    let mut lines = vec![line(host, &id).await.unwrap().0];
    let mut ear = Ear::at(host, &id).await;
    host.start(&id).await;
    ear.until(&EventKind::Start).await;
    lines.push(line(host, &id).await.unwrap().0);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(line(host, &id).await.unwrap().0, lines[1], "it only grew older");
    host.pause(&id, true).await;
    lines.push(line(host, &id).await.unwrap().0);
    host.pause(&id, false).await;
    assert_eq!(line(host, &id).await.unwrap().0, lines[1], "as before");
    host.rename(&id, "other-line").await;
    lines.push(line(host, &id).await.unwrap().0);
    host.kill(&id, 9).await;
    ear.until(&EventKind::Die).await;
    see(host, &id, "exited", |container| container.state == State::Exited).await;
    lines.push(line(host, &id).await.unwrap().0);
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all, "each of them is another picture");
    host.remove(&id).await;
}
