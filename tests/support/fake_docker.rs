//! A Docker Engine in memory, for scenarios and simulations on a paused clock. It passes the same conformance suite as the
//! real one (`tests/docker_conformance.rs`), and can be made to fail, to be slow, to lie, and to lose its memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]
#![allow(dead_code, reason = "each test binary uses its own part of this fake")]

#[path = "fake_docker/behaviour.rs"]
mod behaviour;
#[path = "fake_docker/control.rs"]
mod control;
#[path = "fake_docker/create.rs"]
mod create;
#[path = "fake_docker/engine.rs"]
mod engine;
#[path = "fake_docker/faults.rs"]
mod faults;
#[path = "fake_docker/shared.rs"]
mod shared;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

#[allow(unused_imports, reason = "each test binary uses its own part of this fake")]
pub use behaviour::{Act, Behaviour, Whom};
#[allow(unused_imports, reason = "each test binary uses its own part of this fake")]
pub use control::Lost;
use remora::docker::{
    Container, ContainerId, DockerError, Event, EventKind, EventTime, HealthStatus, Listing, Port, Protocol,
    State as Status, Summary,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Events that an engine remembers for those who ask since when.
const RING: usize = 256;

/// What the engine's clock said when the fake was made: 2026-01-01T00:00:00Z.
const EPOCH: i64 = 1_767_225_600_000_000_000;

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// As the engine writes it.
fn stamp(time: Option<EventTime>) -> String {
    let since_1970 = |time: EventTime| Duration::from_nanos(u64::try_from(time.0).unwrap());
    let text = |time| humantime::format_rfc3339_nanos(std::time::UNIX_EPOCH + since_1970(time)).to_string();
    time.map_or_else(|| ZERO_TIME.to_owned(), text)
}

/// Clones are the same engine.
#[derive(Clone)]
pub struct FakeDocker {
    shared: Arc<Mutex<Shared>>,
}

/// How the engine treats everybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    #[default]
    Up,
    /// Nobody listens: every call fails at once, every stream is cut.
    Refusing,
    /// Half-open: no call is ever answered, no stream says anything, and nothing is closed.
    Frozen,
    /// It answers every call but the stream with an error (503).
    Unwell,
}

/// What was asked of the engine so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// [`Engine::info`].
    pub info: usize,
    /// [`Engine::list`].
    pub list: usize,
    /// [`Engine::inspect`].
    pub inspect: usize,
    /// [`Engine::ping`].
    pub ping: usize,
    /// [`Engine::events`].
    pub streams: usize,
}

/// A container to be created.
#[derive(Debug, Clone)]
pub struct Spec {
    name: String,
    image: String,
    labels: BTreeMap<String, String>,
    published: BTreeMap<Port, u16>,
    health: bool,
    auto_remove: bool,
    network_mode: String,
    restart_policy: String,
    stop_timeout: Duration,
}

struct Inside {
    facts: Container,
    /// When something last happened to it.
    touched: Instant,
    /// Host ports; 0 is another one at every start.
    published: shared::Published,
    /// As inspect shows it.
    config: Value,
    /// As inspect shows it.
    host_config: Value,
    /// Its networks, by name.
    endpoints: BTreeMap<String, Wish>,
    /// As inspect shows them.
    mounts: Vec<Value>,
    /// Counts its starts: what was to happen in an earlier run does not happen in a later one.
    run: u64,
    /// When the last one began.
    started: Instant,
    /// How long the restart policy has waited last.
    wait: Duration,
    /// It was stopped or killed: its restart policy is off until its next start.
    cancelled: bool,
    log: String,
    changed: bool,
}

/// What was asked for of a container's place in a network.
#[derive(Debug, Clone, Default)]
struct Wish {
    config: Value,
    /// The network of that name at its last start.
    network_id: Option<String>,
}

type Listener = mpsc::UnboundedSender<Result<Event, DockerError>>;

struct Shared {
    engine_id: String,
    begun: Instant,
    last_stamp: i64,
    made: u64,
    last_port: u16,
    containers: BTreeMap<ContainerId, Inside>,
    ring: VecDeque<Event>,
    listeners: Vec<Listener>,
    /// Listeners whose connection is half-open: never closed, never told anything.
    stranded: Vec<Listener>,
    mood: Mood,
    latency: Duration,
    list_latency: Duration,
    old_list: Option<Listing>,
    unreadable: BTreeSet<ContainerId>,
    stuck: BTreeSet<ContainerId>,
    odd_states: HashMap<ContainerId, String>,
    forgetful: bool,
    late_memory: Duration,
    /// Spans in which nothing was wrong with the engine; the last one is open if it has no end.
    clear: Vec<(Instant, Option<Instant>)>,
    calls: Calls,
    /// This, for what happens later.
    me: Weak<Mutex<Shared>>,
    images: BTreeMap<String, Value>,
    networks: BTreeMap<String, Value>,
    volumes: BTreeSet<String>,
    missing_paths: BTreeSet<String>,
    behaviours: Vec<(Whom, Behaviour)>,
    script: control::Script,
    /// The code of every exec, and how long it takes.
    exec: (i64, Duration),
}

/// A container of image `web:1` with 80/tcp published on a free port of the host.
pub fn web(name: &str) -> Spec {
    bare(name).publish(80, 0)
}

/// A container with no port.
pub fn bare(name: &str) -> Spec {
    Spec {
        name: name.to_owned(),
        image: "web:1".to_owned(),
        labels: BTreeMap::new(),
        published: BTreeMap::new(),
        health: false,
        auto_remove: false,
        network_mode: "default".to_owned(),
        restart_policy: "no".to_owned(),
        stop_timeout: Duration::from_secs(10),
    }
}

impl Spec {
    /// Publishes a TCP port; 0 is a free one.
    #[must_use]
    pub fn publish(mut self, port: u16, host_port: u16) -> Self {
        self.published.insert(Port { number: port, protocol: Protocol::Tcp }, host_port);
        self
    }

    /// Publishes a UDP port on a free one.
    #[must_use]
    pub fn udp(mut self, port: u16) -> Self {
        self.published.insert(Port { number: port, protocol: Protocol::Udp }, 0);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With a HEALTHCHECK; [`FakeDocker::health`] says what it finds.
    #[must_use]
    pub fn health_check(mut self) -> Self {
        self.health = true;
        self
    }

    /// `--rm`.
    #[must_use]
    pub fn auto_remove(mut self) -> Self {
        self.auto_remove = true;
        self
    }

    /// `--network container:<owner>`.
    #[must_use]
    pub fn sharing(mut self, owner: &ContainerId) -> Self {
        self.network_mode = format!("container:{}", owner.as_str());
        self
    }

    /// Another image than `web:1`: one that [`FakeDocker::add_image`] has made.
    #[must_use]
    pub fn image(mut self, reference: &str) -> Self {
        reference.clone_into(&mut self.image);
        self
    }

    /// `--network`: a name.
    #[must_use]
    pub fn network(mut self, name: &str) -> Self {
        name.clone_into(&mut self.network_mode);
        self
    }

    /// `--restart`: `no`, `always`, `unless-stopped`, `on-failure`. It counts when a process ends by itself
    /// ([`FakeDocker::end`], [`Act::Exit`]); [`FakeDocker::exit`] and [`FakeDocker::crash`] decide for themselves.
    #[must_use]
    pub fn restart_policy(mut self, name: &str) -> Self {
        name.clone_into(&mut self.restart_policy);
        self
    }

    /// `--stop-timeout`.
    #[must_use]
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }
}

impl Default for FakeDocker {
    fn default() -> Self {
        Self::new("ENGINE000001")
    }
}

/// What happens on the host: every method is what a user, or a process in a container, does.
impl FakeDocker {
    /// An engine with this id, without containers.
    pub fn new(engine_id: &str) -> Self {
        let shared = |me: &Weak<Mutex<Shared>>| Shared {
            engine_id: engine_id.to_owned(),
            begun: Instant::now(),
            last_stamp: EPOCH,
            made: 0,
            last_port: 32_767,
            containers: BTreeMap::new(),
            ring: VecDeque::new(),
            listeners: Vec::new(),
            stranded: Vec::new(),
            mood: Mood::Up,
            latency: Duration::ZERO,
            list_latency: Duration::ZERO,
            old_list: None,
            unreadable: BTreeSet::new(),
            stuck: BTreeSet::new(),
            odd_states: HashMap::new(),
            forgetful: false,
            late_memory: Duration::ZERO,
            clear: vec![(Instant::now(), None)],
            calls: Calls::default(),
            me: me.clone(),
            images: [("web:1".to_owned(), json!({"Id": "sha256:feed", "RepoTags": ["web:1"], "Config": {}}))].into(),
            networks: BTreeMap::new(),
            volumes: BTreeSet::new(),
            missing_paths: BTreeSet::new(),
            behaviours: Vec::new(),
            script: control::Script::default(),
            exec: (0, Duration::ZERO),
        };
        let shared = Arc::new_cyclic(|me| Mutex::new(shared(me)));
        for network in ["bridge", "host", "none", "other"] {
            let document = json!({"Name": network, "Id": format!("{engine_id}-{network}"), "Driver": "bridge"});
            shared.lock().unwrap().networks.insert(network.to_owned(), document);
        }
        Self { shared }
    }

    /// `docker create`. A name that is taken is a mistake of the test.
    #[allow(clippy::needless_pass_by_value, reason = "a description has no other use")]
    pub fn create(&self, spec: Spec) -> ContainerId {
        self.lock().create(&spec.name, &spec.body()).expect("a container that can be made")
    }

    /// `docker run -d`.
    pub fn run(&self, spec: Spec) -> ContainerId {
        let id = self.create(spec);
        self.start(&id);
        id
    }

    /// `docker start`, or the restart policy's next attempt.
    pub fn start(&self, id: &ContainerId) {
        self.lock().start(id);
    }

    /// Its process ends by itself, for good.
    pub fn exit(&self, id: &ContainerId, code: i64) {
        self.lock().die(id, code, false);
    }

    /// Its process ends by itself and the restart policy waits to start it again ([`FakeDocker::start`]).
    pub fn crash(&self, id: &ContainerId, code: i64) {
        self.lock().die(id, code, true);
    }

    /// Its process ends by itself, and the engine does what its restart policy says.
    pub fn end(&self, id: &ContainerId, code: i64) {
        self.lock().end(id, code);
    }

    /// The kernel kills one of its processes for want of memory, and the first one lives on.
    pub fn out_of_memory(&self, id: &ContainerId) {
        self.lock().emit(id, EventKind::Other("oom".to_owned()));
    }

    /// `docker kill -s`: KILL ends it, every other signal is ignored by its process.
    pub fn kill(&self, id: &ContainerId, signal: u8) {
        self.lock().signal(id, signal);
    }

    /// `docker stop`: the stop signal, and the end after `grace`.
    pub async fn stop(&self, id: &ContainerId, grace: Duration) {
        self.kill(id, 15);
        sleep(grace).await;
        self.exit(id, 143);
        self.lock().emit(id, EventKind::Other("stop".to_owned()));
    }

    /// `docker pause` or `docker unpause`.
    pub fn pause(&self, id: &ContainerId, paused: bool) {
        let mut shared = self.lock();
        let (from, to, word) = if paused {
            (Status::Running, Status::Paused, "pause")
        } else {
            (Status::Paused, Status::Running, "unpause")
        };
        if shared.facts(id).state == from {
            shared.facts(id).state = to;
            shared.emit(id, EventKind::Other(word.to_owned()));
        }
    }

    /// What its HEALTHCHECK finds.
    pub fn health(&self, id: &ContainerId, status: HealthStatus, output: &str) {
        self.lock().health(id, status, output);
    }

    /// `docker rename`.
    pub fn rename(&self, id: &ContainerId, name: &str) {
        let mut shared = self.lock();
        assert!(shared.find(name).is_none(), "the name {name} is taken");
        shared.facts(id).name = name.into();
        shared.emit(id, EventKind::Other("rename".to_owned()));
    }

    /// `docker network connect` or `disconnect` of a running container.
    pub fn attach(&self, id: &ContainerId, network: &str, connected: bool) {
        let mut shared = self.lock();
        if connected {
            if !shared.networks.contains_key(network) {
                shared.make_network(network);
            }
            shared.attach(id, network, &Value::Null);
        } else {
            let inside = shared.containers.get_mut(id).expect("no such container");
            inside.endpoints.remove(network);
            inside.facts.networks.remove(network);
            shared.emit(id, EventKind::Other("disconnect".to_owned()));
        }
    }

    /// `docker rm -f`.
    pub fn remove(&self, id: &ContainerId) {
        self.lock().remove(id);
    }

    /// Every container as it really is, by name.
    pub fn containers(&self) -> Vec<Container> {
        let shared = self.lock();
        let mut all: Vec<Container> = shared.containers.values().map(|inside| inside.facts.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// One container as it really is.
    pub fn facts(&self, id: &ContainerId) -> Option<Container> {
        self.lock().containers.get(id).map(|inside| inside.facts.clone())
    }

    /// Whether the present state of a container could be learned for so long, since nothing has happened to it and nothing
    /// was wrong with the engine.
    pub fn could_be_known(&self, id: &ContainerId, span: Duration) -> bool {
        let shared = self.lock();
        let Some(inside) = shared.containers.get(id) else { return false };
        let long = |(from, to): &(Instant, Option<Instant>)| {
            to.unwrap_or_else(Instant::now).saturating_duration_since((*from).max(inside.touched)) >= span
        };
        shared.clear.iter().any(long)
    }

    /// What was asked so far.
    pub fn calls(&self) -> Calls {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no test panics while it holds the fake's state")
    }
}

/// What the engine puts into a line of its list.
fn summary(facts: &Container) -> Summary {
    let mut hash = std::hash::DefaultHasher::new();
    facts.name.hash(&mut hash);
    facts.image.hash(&mut hash);
    format!("{:?}", facts.state).hash(&mut hash);
    facts.exit_code.hash(&mut hash);
    facts.health.as_ref().map(|health| format!("{:?}", health.status)).hash(&mut hash);
    facts.labels.hash(&mut hash);
    format!("{:?} {:?}", facts.networks, facts.bindings).hash(&mut hash);
    let ended = matches!(facts.state, Status::Created | Status::Exited | Status::Removing);
    Summary { id: facts.id.clone(), fingerprint: hash.finish(), live: !ended }
}

/// Running, frozen, or about to run again.
pub fn has_process(state: &Status) -> bool {
    matches!(state, Status::Running | Status::Paused | Status::Restarting)
}

fn refused() -> DockerError {
    DockerError::Unreachable { address: "fake".to_owned(), reason: "connection refused".to_owned() }
}

fn set<T: Ord + Clone>(set: &mut BTreeSet<T>, value: &T, present: bool) {
    if present {
        set.insert(value.clone());
    } else {
        set.remove(value);
    }
}
