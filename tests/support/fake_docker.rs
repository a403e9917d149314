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

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use remora::docker::http::{CALL_TIMEOUT, PING_TIMEOUT};
use remora::docker::{
    Binding, Container, ContainerId, DockerError, Endpoint, Engine, EngineInfo, Event, EventKind, EventStream,
    EventTime, Health, HealthStatus, Listing, NetworkMode, Port, Protocol, Signal, State as Status, Summary,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Events that an engine remembers for those who ask since when.
const RING: usize = 256;

/// What the engine's clock said when the fake was made: 2026-01-01T00:00:00Z.
const EPOCH: i64 = 1_767_225_600_000_000_000;

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

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
    network_mode: NetworkMode,
    stop_timeout: Duration,
}

struct Inside {
    facts: Container,
    /// When something last happened to it.
    touched: Instant,
    /// Host ports; 0 is another one at every start.
    published: BTreeMap<Port, u16>,
    health: bool,
    auto_remove: bool,
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
    /// Spans in which nothing was wrong with the engine; the last one is open if it has no end.
    clear: Vec<(Instant, Option<Instant>)>,
    calls: Calls,
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
        network_mode: NetworkMode::Bridge,
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
        self.network_mode = NetworkMode::Container(owner.as_str().to_owned());
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
        let shared = Shared {
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
            clear: vec![(Instant::now(), None)],
            calls: Calls::default(),
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// `docker create`. A name that is taken is a mistake of the test.
    pub fn create(&self, spec: Spec) -> ContainerId {
        self.lock().create(spec)
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

    /// `docker kill -s`: KILL ends it, every other signal is ignored by its process.
    pub fn kill(&self, id: &ContainerId, signal: u8) {
        let mut shared = self.lock();
        shared.emit(id, EventKind::Kill(Some(signal)));
        if signal == 9 {
            shared.die(id, 137, false);
        }
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
        let mut shared = self.lock();
        let facts = shared.facts(id);
        if let (Status::Running, Some(health)) = (&facts.state, &mut facts.health) {
            let news = health.status != status;
            let exit_code = Some(i64::from(status == HealthStatus::Unhealthy));
            *health = Health { status, failing_streak: 0, exit_code, output: output.to_owned() };
            if news {
                shared.emit(id, EventKind::Other("health_status".to_owned()));
            }
        }
    }

    /// `docker rename`.
    pub fn rename(&self, id: &ContainerId, name: &str) {
        let mut shared = self.lock();
        assert!(shared.find(name).is_none(), "the name {name} is taken");
        name.clone_into(&mut shared.facts(id).name);
        shared.emit(id, EventKind::Other("rename".to_owned()));
    }

    /// `docker network connect` or `disconnect` of a running container.
    pub fn attach(&self, id: &ContainerId, network: &str, connected: bool) {
        let mut shared = self.lock();
        if connected {
            let endpoint = Endpoint { ipv4: Some(Ipv4Addr::new(172, 30, 0, 2)), ipv6: None };
            shared.facts(id).networks.insert(network.to_owned(), endpoint);
        } else {
            shared.facts(id).networks.remove(network);
        }
        let word = if connected { "connect" } else { "disconnect" };
        shared.emit(id, EventKind::Other(word.to_owned()));
    }

    /// `docker rm -f`.
    pub fn remove(&self, id: &ContainerId) {
        let mut shared = self.lock();
        if has_process(&shared.facts(id).state) {
            shared.emit(id, EventKind::Kill(Some(9)));
            shared.die(id, 137, false);
        }
        if shared.containers.contains_key(id) {
            shared.destroy(id);
        }
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

/// What goes wrong.
impl FakeDocker {
    /// From now on the engine is like this. A connection that froze stays frozen.
    pub fn mood(&self, mood: Mood) {
        let mut shared = self.lock();
        shared.mood = mood;
        match mood {
            Mood::Refusing => {
                shared.listeners.clear();
                shared.stranded.clear();
            }
            Mood::Frozen => {
                let listeners = std::mem::take(&mut shared.listeners);
                shared.stranded.extend(listeners);
            }
            Mood::Up | Mood::Unwell => {}
        }
        shared.note();
    }

    /// Every event stream ends.
    pub fn cut(&self) {
        self.lock().listeners.clear();
    }

    /// Every event stream goes silent without an end, while calls are answered.
    pub fn strand(&self) {
        let mut shared = self.lock();
        let listeners = std::mem::take(&mut shared.listeners);
        shared.stranded.extend(listeners);
        // Only the next full look shows it.
        shared.note();
        let now = Instant::now();
        if let Some((from, None)) = shared.clear.last_mut() {
            *from = now;
        }
    }

    /// The daemon is restarted: every stream ends and no event of before is remembered. With live-restore containers run
    /// on, else they end (and are not started again).
    pub fn restart(&self, live_restore: bool) {
        let mut shared = self.lock();
        shared.listeners.clear();
        shared.stranded.clear();
        let alive = shared.containers.iter().filter(|(_, inside)| has_process(&inside.facts.state));
        let ids: Vec<ContainerId> = alive.map(|(id, _)| id.clone()).collect();
        if !live_restore {
            for id in ids {
                shared.die(&id, 255, false);
            }
        }
        shared.ring.clear();
    }

    /// Another engine answers from now on.
    pub fn replaced_by(&self, engine_id: &str) {
        engine_id.clone_into(&mut self.lock().engine_id);
    }

    /// Every call takes so long; its answer says what was true when it was asked.
    pub fn set_latency(&self, latency: Duration) {
        let mut shared = self.lock();
        shared.latency = latency;
        shared.note();
    }

    /// Every list takes so much longer.
    pub fn set_list_latency(&self, latency: Duration) {
        let mut shared = self.lock();
        shared.list_latency = latency;
        shared.note();
    }

    /// Every list says what is true now, until `false`.
    pub fn freeze_list(&self, frozen: bool) {
        let mut shared = self.lock();
        shared.old_list = frozen.then(|| shared.listing());
        shared.note();
    }

    /// What the engine says about this container cannot be read.
    pub fn garble(&self, id: &ContainerId, garbled: bool) {
        let mut shared = self.lock();
        set(&mut shared.unreadable, id, garbled);
        shared.note();
    }

    /// Looking at this container never ends: something holds its lock.
    pub fn jam(&self, id: &ContainerId, stuck: bool) {
        let mut shared = self.lock();
        set(&mut shared.stuck, id, stuck);
        shared.note();
    }

    /// The engine has a word for its state that nobody knows.
    pub fn speak_oddly(&self, id: &ContainerId, word: Option<&str>) {
        let mut shared = self.lock();
        match word {
            Some(word) => drop(shared.odd_states.insert(id.clone(), word.to_owned())),
            None => drop(shared.odd_states.remove(id)),
        }
        shared.note();
    }

    /// Events are neither told nor remembered, until `false`.
    pub fn lose_events(&self, lost: bool) {
        let mut shared = self.lock();
        shared.forgetful = lost;
        shared.note();
    }

    /// Notes the call, and waits as the mood and the latency want it.
    async fn begin(
        &self,
        call: &'static str,
        timeout: Duration,
        count: impl FnOnce(&mut Calls),
    ) -> Result<(), DockerError> {
        let (mood, latency) = {
            let mut shared = self.lock();
            count(&mut shared.calls);
            (shared.mood, shared.latency)
        };
        match mood {
            Mood::Up if latency.is_zero() => Ok(()),
            Mood::Up => self.in_time(call, timeout, latency).await,
            Mood::Refusing => Err(refused()),
            Mood::Frozen => {
                sleep(timeout).await;
                Err(DockerError::TimedOut { call, after: timeout })
            }
            Mood::Unwell => Err(DockerError::Refused { call, status: 503, message: "starting".to_owned() }),
        }
    }

    async fn in_time(&self, call: &'static str, timeout: Duration, latency: Duration) -> Result<(), DockerError> {
        sleep(latency.min(timeout)).await;
        let broken = self.lock().mood == Mood::Refusing;
        if broken {
            return Err(refused());
        }
        if latency >= timeout { Err(DockerError::TimedOut { call, after: timeout }) } else { Ok(()) }
    }
}

impl Engine for FakeDocker {
    async fn ping(&self) -> Result<(), DockerError> {
        self.begin("GET /_ping", PING_TIMEOUT, |calls| calls.ping += 1).await
    }

    async fn info(&self) -> Result<EngineInfo, DockerError> {
        self.begin("GET /info", CALL_TIMEOUT, |calls| calls.info += 1).await?;
        let mut shared = self.lock();
        Ok(EngineInfo {
            id: shared.engine_id.clone(),
            name: "n1".to_owned(),
            version: "20.10.24".to_owned(),
            api_version: "1.41".to_owned(),
            system_time: Some(EventTime(shared.stamp())),
            swarm_address: None,
        })
    }

    async fn list(&self) -> Result<Listing, DockerError> {
        let (listing, slower) = {
            let shared = self.lock();
            (shared.old_list.clone().unwrap_or_else(|| shared.listing()), shared.list_latency)
        };
        let call = "GET /containers/json";
        self.begin(call, CALL_TIMEOUT, |calls| calls.list += 1).await?;
        if !slower.is_zero() {
            self.in_time(call, CALL_TIMEOUT, slower).await?;
        }
        Ok(listing)
    }

    async fn inspect(&self, id: &str) -> Result<Container, DockerError> {
        let call = "GET /containers/{id}/json";
        let (found, stuck) = {
            let shared = self.lock();
            let found = shared.look(id);
            let stuck = found.as_ref().is_ok_and(|container| shared.stuck.contains(&container.id));
            (found, stuck)
        };
        self.begin(call, CALL_TIMEOUT, |calls| calls.inspect += 1).await?;
        if stuck {
            sleep(CALL_TIMEOUT).await;
            return Err(DockerError::TimedOut { call, after: CALL_TIMEOUT });
        }
        found
    }

    fn events(&self, since: Option<EventTime>) -> EventStream {
        let engine = self.clone();
        let connecting = async move {
            // The time in which the headers of the answer have to come.
            let connected = engine.begin("GET /events", CALL_TIMEOUT, |calls| calls.streams += 1).await;
            match connected {
                Ok(()) => engine.lock().listen(since),
                Err(error) => stream::once(async move { Err(error) }).boxed(),
            }
        };
        connecting.flatten_stream().boxed()
    }
}

impl Shared {
    /// Notes whether something is wrong now.
    fn note(&mut self) {
        let wrong = self.mood != Mood::Up
            || self.forgetful
            || self.old_list.is_some()
            || self.latency + self.list_latency > Duration::from_secs(1)
            || !(self.unreadable.is_empty() && self.stuck.is_empty() && self.odd_states.is_empty());
        let now = Instant::now();
        match self.clear.last_mut() {
            Some((_, end @ None)) if wrong => *end = Some(now),
            Some((_, Some(_))) if !wrong => self.clear.push((now, None)),
            _ => {}
        }
    }

    /// The engine's clock: it never stands still, not even while the test's does.
    fn stamp(&mut self) -> i64 {
        let elapsed = i64::try_from(self.begun.elapsed().as_nanos()).unwrap();
        self.last_stamp = (EPOCH + elapsed).max(self.last_stamp + 1);
        self.last_stamp
    }

    fn stamp_text(&mut self) -> String {
        let nanos = u64::try_from(self.stamp()).unwrap();
        humantime::format_rfc3339_nanos(std::time::UNIX_EPOCH + Duration::from_nanos(nanos)).to_string()
    }

    fn create(&mut self, spec: Spec) -> ContainerId {
        assert!(self.find(&spec.name).is_none(), "the name {} is taken", spec.name);
        self.made += 1;
        // Random-looking, as real ones are, and never two with the same beginning, not even on two engines.
        let mut seed = std::hash::DefaultHasher::new();
        self.engine_id.hash(&mut seed);
        let number = self.made.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.finish();
        let id = ContainerId::new(format!("{number:016x}").repeat(4));
        let created = self.stamp_text();
        let facts = Container {
            id: id.clone(),
            name: spec.name,
            image: spec.image,
            image_id: "sha256:feed".to_owned(),
            created,
            started_at: ZERO_TIME.to_owned(),
            finished_at: ZERO_TIME.to_owned(),
            state: Status::Created,
            exit_code: 0,
            oom_killed: false,
            restart_count: 0,
            health: None,
            labels: spec.labels,
            service_env: BTreeMap::new(),
            network_mode: spec.network_mode,
            networks: BTreeMap::new(),
            exposed: spec.published.keys().copied().collect(),
            bindings: BTreeMap::new(),
            stop_signal: Signal::TERM,
            stop_timeout: spec.stop_timeout,
            rendered_tags: None,
        };
        let inside = Inside {
            facts,
            touched: Instant::now(),
            published: spec.published,
            health: spec.health,
            auto_remove: spec.auto_remove,
        };
        self.containers.insert(id.clone(), inside);
        id
    }

    fn start(&mut self, id: &ContainerId) {
        let started_at = self.stamp_text();
        let [.., third, fourth] = self.made.to_be_bytes();
        let address = Ipv4Addr::new(172, 17, third, fourth);
        let mut port = self.last_port;
        let Some(inside) = self.containers.get_mut(id) else { panic!("no such container: {id}") };
        if has_process(&inside.facts.state) && inside.facts.state != Status::Restarting {
            return;
        }
        let facts = &mut inside.facts;
        let own_network = !matches!(facts.network_mode, NetworkMode::Container(_));
        if facts.state != Status::Restarting {
            facts.restart_count = 0;
        }
        facts.state = Status::Running;
        facts.exit_code = 0;
        facts.started_at = started_at;
        let starting =
            Health { status: HealthStatus::Starting, failing_streak: 0, exit_code: None, output: String::new() };
        facts.health = inside.health.then_some(starting);
        if own_network {
            facts.networks.insert("bridge".to_owned(), Endpoint { ipv4: Some(address), ipv6: None });
            facts.bindings = inside
                .published
                .iter()
                .map(|(&inner, &asked)| {
                    if asked == 0 {
                        port = if port == u16::MAX { 32_768 } else { port + 1 };
                    }
                    let host_port = if asked == 0 { port } else { asked };
                    (inner, vec![Binding { host_ip: Ipv4Addr::UNSPECIFIED.into(), host_port }])
                })
                .collect();
        }
        self.last_port = port;
        if own_network {
            self.emit(id, EventKind::Other("connect".to_owned()));
        }
        self.emit(id, EventKind::Start);
    }

    fn die(&mut self, id: &ContainerId, code: i64, again: bool) {
        let finished_at = self.stamp_text();
        let Some(inside) = self.containers.get_mut(id) else { return };
        if !has_process(&inside.facts.state) {
            return;
        }
        let (facts, auto_remove) = (&mut inside.facts, inside.auto_remove && !again);
        facts.finished_at = finished_at;
        facts.exit_code = code;
        facts.bindings.clear();
        facts.networks.values_mut().for_each(|endpoint| *endpoint = Endpoint::default());
        facts.state = if again { Status::Restarting } else { Status::Exited };
        facts.restart_count += u64::from(again);
        self.emit(id, EventKind::Die);
        self.emit(id, EventKind::Other("disconnect".to_owned()));
        if auto_remove {
            self.destroy(id);
        }
    }

    fn destroy(&mut self, id: &ContainerId) {
        self.containers.remove(id);
        self.emit(id, EventKind::Destroy);
    }

    fn emit(&mut self, id: &ContainerId, kind: EventKind) {
        let time = EventTime(self.stamp());
        if let Some(inside) = self.containers.get_mut(id) {
            inside.touched = Instant::now();
        }
        if self.forgetful {
            return;
        }
        let event = Event { container: id.clone(), kind, time };
        self.listeners.retain(|listener| listener.send(Ok(event.clone())).is_ok());
        self.ring.push_back(event);
        if self.ring.len() > RING {
            self.ring.pop_front();
        }
    }

    fn listen(&mut self, since: Option<EventTime>) -> EventStream {
        let (listener, mut events) = mpsc::unbounded_channel();
        if let Some(since) = since {
            for event in self.ring.iter().filter(|event| event.time >= since) {
                listener.send(Ok(event.clone())).expect("its end is right here");
            }
        }
        self.listeners.push(listener);
        stream::poll_fn(move |context| events.poll_recv(context)).boxed()
    }

    fn find(&self, id_or_name: &str) -> Option<&Inside> {
        let by_name = self.containers.values().find(|inside| inside.facts.name == id_or_name);
        let by_prefix = || {
            let is_it = |id: &ContainerId| id_or_name.len() >= 12 && id.as_str().starts_with(id_or_name);
            self.containers.iter().find(|(id, _)| is_it(id)).map(|(_, inside)| inside)
        };
        by_name.or_else(by_prefix)
    }

    fn facts(&mut self, id: &ContainerId) -> &mut Container {
        match self.containers.get_mut(id) {
            Some(inside) => &mut inside.facts,
            None => panic!("no such container: {id}"),
        }
    }

    fn look(&self, id_or_name: &str) -> Result<Container, DockerError> {
        let Some(inside) = self.find(id_or_name) else { return Err(DockerError::NotFound(id_or_name.to_owned())) };
        let id = &inside.facts.id;
        if self.unreadable.contains(id) {
            let reason = "a field has another type than expected".to_owned();
            return Err(DockerError::Unreadable { call: "GET /containers/{id}/json", reason });
        }
        let mut facts = inside.facts.clone();
        if let Some(word) = self.odd_states.get(id) {
            facts.state = Status::Unknown(word.clone());
        }
        Ok(facts)
    }

    fn listing(&self) -> Listing {
        let readable = self.containers.keys().filter(|id| !self.unreadable.contains(*id));
        let containers: Vec<Summary> =
            readable.filter_map(|id| self.look(id.as_str()).ok()).map(|facts| summary(&facts)).collect();
        Listing { unreadable: self.containers.len() - containers.len(), containers }
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
