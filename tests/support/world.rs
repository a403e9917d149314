//! A node in memory: the fake engine, the fake Consul, and the agent's two tasks between them, on a paused clock.
//!
//! * [`World`] starts and kills the agent, and compares the catalog with what runs. It works out by itself what should be
//!   registered, without asking the rules of the agent.
//! * [`Wire`] is the way to Consul: it looks at every write before it happens, finishes those whose writer was killed, and
//!   can lose answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]
#![allow(dead_code, reason = "each test binary uses its own part of this world")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arcstr::ArcStr;
use litemap::LiteMap;
use remora::config::{HostAddress, OnExit, Publish};
use remora::consul::{ActualCheck, ActualService, ConsulError, ConsulSeen, Registry, Service, Snapshot, Status};
use remora::docker::observe::Observer;
use remora::docker::{Container, ContainerId, HealthStatus, Heard, NetworkMode, State};
use remora::reconcile::{Book, GivenUp, Healing, Wiring, Worker, own};
use remora::registration::Settings;
use remora::telemetry::{ConsulView, DockerView, Metrics};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::fake_consul::{FakeCall, FakeConsul};
use crate::fake_docker::FakeDocker;

/// First part of every id.
pub const NODE: &str = "n1";

/// What could be known for so long is known to an agent that runs: a full look every thirty seconds finds what no event
/// told, and a call that never ends is given up after ten.
const KNOWN: Duration = Duration::from_secs(50);

/// One engine, one Consul, one agent.
pub struct World {
    /// The engine.
    pub docker: FakeDocker,
    /// Consul.
    pub consul: FakeConsul,
    /// The way to it.
    pub wire: Wire,
    settings: Settings,
    agent: Option<Agent>,
}

struct Agent {
    observer: JoinHandle<()>,
    worker: JoinHandle<()>,
    shutdown: CancellationToken,
    docker: watch::Receiver<DockerView>,
    consul: watch::Receiver<ConsulView>,
    metrics: Arc<Metrics>,
    given_up: watch::Sender<GivenUp>,
    /// Nobody listens, and nothing may depend on that.
    _heard: mpsc::Receiver<Heard>,
}

impl World {
    /// A world in which the agent has not been started yet.
    pub fn new() -> Self {
        Self::with(FakeDocker::default(), FakeConsul::new(), "ENGINE000001")
    }

    /// Another engine with an agent of its own, on the same node name and the same Consul.
    pub fn namesake(&self) -> Self {
        Self::with(FakeDocker::new("ENGINE000002"), self.consul.another_client(), "ENGINE000002")
    }

    fn with(docker: FakeDocker, consul: FakeConsul, engine: &str) -> Self {
        let address = HostAddress { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), ..HostAddress::default() };
        let settings = Settings {
            node: NODE.to_owned(),
            engine: engine.to_owned(),
            publish: Publish { address, ..Publish::default() },
            health_ttl: None,
        };
        let wire = Wire::new(consul.clone(), docker.clone(), own::own_service_id(&settings).to_string());
        Self { docker, consul, wire, settings, agent: None }
    }

    /// Starts the agent, if it does not run.
    pub fn start(&mut self) {
        if self.agent.is_some() {
            return;
        }
        let now = Instant::now();
        let service = remora::agent::own_service(&self.settings, None, remora::agent::way::Mode::Agent);
        let own_id = service.id.clone();
        let (tell, told) = mpsc::channel(256);
        let (asks, asked) = mpsc::channel(256);
        let (docker_view, docker_seen) = watch::channel(DockerView::starting(now));
        let (consul_view, consul_seen) = watch::channel(ConsulView::starting(now));
        let (given_up, given_up_seen) = watch::channel(GivenUp::default());
        let metrics = Arc::new(Metrics::new());
        let shutdown = CancellationToken::new();
        let observer = Observer::new(
            Arc::new(self.docker.clone()),
            self.settings.engine.clone(),
            Duration::from_secs(30),
            tell,
            asked,
            docker_view,
            Arc::clone(&metrics),
        );
        let (listener, heard) = mpsc::channel(8);
        let observer = observer.with_listener(listener);
        let wiring = Wiring {
            observed: told,
            asks,
            docker: docker_seen.clone(),
            view: consul_view,
            seen: watch::channel(ConsulSeen::default()).0,
            given_up: given_up_seen,
            probes: None,
            right: watch::channel(false).0,
            metrics: Arc::clone(&metrics),
        };
        let book = Book::new(self.settings.clone(), Healing::default(), service);
        let worker = Worker::new(Arc::new(self.wire.clone()), book, own_id, None, wiring);
        self.agent = Some(Agent {
            observer: tokio::spawn(observer.run(shutdown.child_token())),
            worker: tokio::spawn(worker.run(shutdown.clone(), OnExit::Keep)),
            shutdown,
            docker: docker_seen,
            consul: consul_seen,
            metrics,
            given_up,
            _heard: heard,
        });
    }

    /// SIGKILL: nothing is finished, nothing is said.
    pub async fn kill(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        agent.observer.abort();
        agent.worker.abort();
        for task in [agent.observer, agent.worker] {
            if let Err(error) = task.await {
                assert!(!error.is_panic(), "a task of the agent panicked: {error}");
            }
        }
    }

    /// SIGTERM.
    pub async fn stop(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        agent.shutdown.cancel();
        agent.observer.await.unwrap();
        agent.worker.await.unwrap();
    }

    /// The agent's tasks run: nothing panicked, nothing gave up.
    pub fn assert_alive(&self) {
        if let Some(agent) = &self.agent {
            assert!(!agent.observer.is_finished(), "the observer ended");
            assert!(!agent.worker.is_finished(), "the worker ended");
        }
    }

    /// Whether both of its tasks run.
    pub fn is_running(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| !agent.observer.is_finished() && !agent.worker.is_finished())
    }

    /// The health-watcher says whom it has given up, and why.
    pub fn gives_up(&self, given_up: &[(&ContainerId, &str)]) {
        let agent = self.agent.as_ref().expect("it runs");
        let given_up = given_up.iter().map(|&(id, why)| (id.clone(), why.to_owned()));
        agent.given_up.send_replace(Arc::new(given_up.collect()));
    }

    /// Status and output of the healing check of a service.
    pub fn healing(&self, id: &str) -> Option<(Status, String)> {
        let snapshot = self.consul.snapshot();
        let check = snapshot.services.get(id)?.checks.get(format!("{id}:healing").as_str())?;
        Some((check.status, check.output.to_string()))
    }

    /// Id of the agent's own service.
    pub fn own_id(&self) -> String {
        own::own_service_id(&self.settings).to_string()
    }

    /// The agent's own check.
    pub fn own_check(&self) -> (Status, String) {
        let snapshot = self.consul.snapshot();
        let check = snapshot.services[self.own_id().as_str()].checks.values().next().expect("it has one");
        (check.status, check.output.to_string())
    }

    /// Whether the first synchronisation is done and both peers are there.
    pub fn is_ready(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.docker.borrow().connected && agent.consul.borrow().synced)
    }

    /// What the agent says about Consul.
    pub fn view(&self) -> ConsulView {
        self.agent.as_ref().expect("it runs").consul.borrow().clone()
    }

    /// One of the agent's metrics, summed over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.agent.as_ref().expect("it runs").metrics.encode();
        let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the catalog says what runs.
    pub async fn settles(&self, within: Duration) {
        let begun = Instant::now();
        loop {
            self.assert_alive();
            match self.difference() {
                Ok(()) => return,
                Err(difference) => {
                    assert!(begun.elapsed() <= within, "not right within {within:?}:\n{difference}");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Lets time pass in which the catalog has to be right all along.
    pub async fn stays_right(&self, span: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < span {
            if let Err(difference) = self.difference() {
                panic!("not right any more after {:?}:\n{difference}", begun.elapsed());
            }
            sleep(Duration::from_millis(500)).await;
        }
        self.assert_alive();
    }

    /// What was written about containers since the last time that this was asked.
    pub fn writes(&self) -> Vec<FakeCall> {
        // Of this agent and, if there is one, of its namesake.
        let own = format!("{NODE}:remora:");
        let about_itself = |call: &FakeCall| match call {
            FakeCall::Register(id) | FakeCall::Deregister(id) => id.starts_with(&own),
            FakeCall::UpdateCheck(check, _) | FakeCall::RemoveCheck(check) => check.starts_with(&own),
            FakeCall::Read | FakeCall::Changed => true,
        };
        let writes = self.consul.writes().into_iter().filter(|call| !about_itself(call)).collect();
        self.consul.forget_calls();
        writes
    }

    /// Ids of what is registered, agents' own services left out.
    pub fn ids(&self) -> Vec<String> {
        let snapshot = self.consul.snapshot();
        snapshot
            .services
            .values()
            .filter(|service| service.name != "remora")
            .map(|service| service.id.to_string())
            .collect()
    }

    /// How many registrations of containers carry this agent's mark.
    pub fn registered(&self) -> usize {
        let snapshot = self.consul.snapshot();
        let meta = |service: &ActualService, key: &str| service.meta.get(key).unwrap_or_default().to_owned();
        let ours = |service: &&Arc<ActualService>| {
            meta(service, Service::META_ENGINE) == self.settings.engine
                && !meta(service, Service::META_CONTAINER).is_empty()
        };
        snapshot.services.values().filter(ours).count()
    }

    /// Status of the Docker check of a service.
    pub fn status(&self, id: &str) -> Option<(Status, String)> {
        let snapshot = self.consul.snapshot();
        let check = snapshot.services.get(id)?.checks.get(format!("{id}:docker").as_str())?;
        Some((check.status, check.output.to_string()))
    }

    /// What is different between the catalog and what runs.
    pub fn difference(&self) -> Result<(), String> {
        let snapshot = self.consul.snapshot();
        let expected = expected(&self.docker.containers());
        let wrong = compare(&expected, &snapshot, &self.settings.engine);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

/// What should be in the catalog for one port of one container.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    container: ContainerId,
    /// The id, unless somebody else has it.
    id: String,
    name: String,
    port: u16,
    status: Status,
    /// Its process is between two runs: it may be registered or not.
    perhaps: bool,
}

fn expected(containers: &[Container]) -> Vec<Expected> {
    let by_id: HashMap<&ContainerId, &Container> = containers.iter().map(|it| (&it.id, it)).collect();
    containers.iter().flat_map(|container| expected_of(container, &by_id)).collect()
}

fn expected_of(container: &Container, by_id: &HashMap<&ContainerId, &Container>) -> Vec<Expected> {
    let label = |key: &str| container.labels.get(key).map(ArcStr::as_str);
    if label("SERVICE_IGNORE") == Some("true") || container.name.contains(".old-") {
        return Vec::new();
    }
    let mut owner = container;
    while let NetworkMode::Container(id) = &owner.network_mode {
        let Some(next) = by_id.get(&ContainerId::new(id.as_str())) else { return Vec::new() };
        owner = next;
    }
    let status = match (&container.state, container.health.as_ref().map(|health| health.status)) {
        (State::Running, None | Some(HealthStatus::Healthy)) => Status::Passing,
        (State::Running | State::Paused | State::Restarting, _) => Status::Critical,
        _ => return Vec::new(),
    };
    let perhaps = container.state == State::Restarting || owner.state == State::Restarting;
    // A container between two runs has no ports; it keeps what it had before.
    let ports: Vec<(String, u16)> = if perhaps {
        vec![("*".to_owned(), 0)]
    } else {
        let bound = owner.bindings.iter().filter_map(|(port, bindings)| {
            let suffix =
                if port.protocol.as_str() == "tcp" { String::new() } else { format!(":{}", port.protocol.as_str()) };
            Some((format!("{}{suffix}", port.number), bindings.first()?.host_port))
        });
        bound.collect()
    };
    let several = ports.len() > 1;
    let name = label("SERVICE_NAME").unwrap_or("web");
    let one = |(port, host_port): (String, u16)| {
        let number = port.split(':').next().unwrap().to_owned();
        let id = match label("SERVICE_ID") {
            Some(id) if several => format!("{id}:{port}"),
            Some(id) => id.to_owned(),
            None => format!("{NODE}:{}:{port}", container.name),
        };
        let name = if several { format!("{name}-{number}") } else { name.to_owned() };
        let status = if perhaps { Status::Critical } else { status };
        Expected { container: container.id.clone(), id, name, port: host_port, status, perhaps }
    };
    ports.into_iter().map(one).collect()
}

fn compare(expected: &[Expected], snapshot: &Snapshot, engine: &str) -> Vec<String> {
    let meta = |service: &ActualService, key: &str| service.meta.get(key).unwrap_or_default().to_owned();
    let ours: Vec<&ActualService> = snapshot
        .services
        .values()
        .map(AsRef::as_ref)
        .filter(|service| {
            meta(service, Service::META_ENGINE) == engine && !meta(service, Service::META_CONTAINER).is_empty()
        })
        .collect();
    let mut keys: BTreeMap<String, usize> = BTreeMap::new();
    for wanted in expected {
        *keys.entry(wanted.id.to_lowercase()).or_default() += 1;
    }
    for service in snapshot.services.values().filter(|service| meta(service, Service::META_ENGINE) != engine) {
        *keys.entry(service.id.to_lowercase()).or_default() += 1;
    }
    let mut wrong = Vec::new();
    let mut rest: Vec<&ActualService> = ours.clone();
    for wanted in expected {
        let is_it = |service: &&ActualService| {
            meta(service, Service::META_CONTAINER) == wanted.container.as_str()
                && (wanted.perhaps || service.port == wanted.port)
        };
        let found: Vec<&ActualService> = rest.iter().copied().filter(is_it).collect();
        rest.retain(|service| !is_it(service));
        if wanted.perhaps {
            for service in found {
                wrong.extend(wrong_status(wanted, service));
            }
            continue;
        }
        let [service] = found[..] else {
            let ids: Vec<&str> = found.iter().map(|service| service.id.as_str()).collect();
            wrong.push(format!("{} ({}) is registered as {ids:?}, and should be once", wanted.id, wanted.container));
            continue;
        };
        let own = format!("{}:{}", wanted.id, wanted.container.short());
        let contested = keys[&wanted.id.to_lowercase()] > 1;
        if service.id != wanted.id && !(contested && service.id == own) {
            wrong.push(format!("{} is registered as {}", wanted.id, service.id));
        }
        if service.name != wanted.name || service.address != "192.0.2.1" {
            wrong.push(format!("{} is {} at {}", service.id, service.name, service.address));
        }
        wrong.extend(wrong_status(wanted, service));
        let checks: Vec<_> = service.checks.keys().collect();
        if checks != [&format!("{}:docker", service.id), &format!("{}:healing", service.id)] {
            wrong.push(format!("{} has the checks {checks:?}", service.id));
        }
    }
    for service in rest {
        wrong.push(format!("{} is registered, and its container does not run", service.id));
    }
    let keys: BTreeSet<String> = ours.iter().map(|service| service.id.to_lowercase()).collect();
    if keys.len() != ours.len() {
        wrong.push("two ids differ only in case".to_owned());
    }
    wrong
}

fn wrong_status(wanted: &Expected, service: &ActualService) -> Option<String> {
    let check = service.checks.get(format!("{}:docker", service.id).as_str())?;
    (check.status != wanted.status).then(|| format!("{} is {}: {}", service.id, check.status, check.output))
}

/// Somebody else's service.
pub fn foreign(id: &str, name: &str, meta: &[(&str, &str)]) -> ActualService {
    let check = ActualCheck { status: Status::Passing, output: "theirs".into() };
    ActualService {
        id: id.into(),
        name: name.into(),
        address: "198.51.100.9".into(),
        port: 9,
        tags: ["theirs".into()].into(),
        meta: meta.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        weights: (1, 1),
        checks: LiteMap::from_iter([(arcstr::format!("service:{id}"), check)]),
        ..ActualService::default()
    }
}

/// The way to Consul. Clones are the same way.
#[derive(Clone)]
pub struct Wire {
    consul: FakeConsul,
    docker: FakeDocker,
    own: Arc<str>,
    state: Arc<Mutex<WireState>>,
}

#[derive(Default)]
struct WireState {
    foreigners: BTreeMap<String, (ActualService, Option<Instant>)>,
    /// When the last read that was answered began, and when it was answered.
    read: Option<(Instant, Instant)>,
    /// Time that an answer takes; what it says is from before.
    answer_latency: Duration,
    /// So many answers to writes get lost, out of a hundred.
    lost_answers: u8,
    refused: Option<(String, ConsulError)>,
    hangs: bool,
    violations: Vec<String>,
    writes: usize,
    reads: usize,
}

/// The client gives up on a call after so long.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

impl Wire {
    fn new(consul: FakeConsul, docker: FakeDocker, own: String) -> Self {
        Self { consul, docker, own: own.into(), state: Arc::default() }
    }

    /// Somebody else registers this.
    pub fn foreigner(&self, service: &ActualService) {
        // What is there when nobody has read yet is simply there.
        let mut state = self.state();
        let since = state.read.is_some().then(Instant::now);
        state.foreigners.insert(service.id.to_string(), (service.clone(), since));
        drop(state);
        self.consul.edit(|snapshot| drop(snapshot.services.insert(service.id.clone(), Arc::new(service.clone()))));
    }

    /// Somebody else deregisters what is theirs.
    pub fn foreigner_goes(&self, nth: usize) {
        let mut state = self.state();
        let Some(id) = state.foreigners.keys().nth(nth).cloned() else { return };
        state.foreigners.remove(&id);
        drop(state);
        self.consul.edit(|snapshot| drop(snapshot.services.remove(id.as_str())));
    }

    /// Whether somebody else has registered this.
    pub fn is_foreign(&self, id: &str) -> bool {
        self.state().foreigners.contains_key(id)
    }

    /// Every foreign service is as it was registered.
    pub fn assert_foreigners_untouched(&self) {
        let (state, snapshot) = (self.state(), self.consul.snapshot());
        for (id, (service, _)) in &state.foreigners {
            assert_eq!(snapshot.services.get(id.as_str()).map(AsRef::as_ref), Some(service), "{id} is somebody else's");
        }
    }

    /// Consul forgets everything, foreign services included.
    pub fn wipe(&self) {
        self.state().foreigners.clear();
        self.consul.wipe();
    }

    /// What was written that must not be.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// How many writes were tried.
    pub fn count(&self) -> usize {
        self.state().writes
    }

    /// How many reads were tried.
    pub fn reads(&self) -> usize {
        self.state().reads
    }

    /// Answers take so long; they say what was true when the call was made.
    pub fn set_answer_latency(&self, latency: Duration) {
        self.state().answer_latency = latency;
    }

    /// So many of a hundred answers to writes get lost; the writes happen.
    pub fn lose_answers(&self, of_a_hundred: u8) {
        self.state().lost_answers = of_a_hundred;
    }

    /// Registrations whose id contains this text fail with this error.
    pub fn refuse(&self, refused: Option<(&str, ConsulError)>) {
        self.state().refused = refused.map(|(text, error)| (text.to_owned(), error));
    }

    /// No call is answered until `false`; writes do not happen.
    pub fn hang(&self, hangs: bool) {
        self.state().hangs = hangs;
    }

    fn state(&self) -> MutexGuard<'_, WireState> {
        self.state.lock().expect("no test panics while it holds the wire's state")
    }

    async fn hung(&self, call: &'static str) -> Result<(), ConsulError> {
        if self.state().hangs {
            sleep(CLIENT_TIMEOUT).await;
            return Err(ConsulError::TimedOut { call, after: CLIENT_TIMEOUT });
        }
        Ok(())
    }

    /// Makes a write that happens even if its writer is killed meanwhile.
    async fn write(
        &self,
        id: &str,
        write: impl Future<Output = Result<(), ConsulError>> + Send + 'static,
    ) -> Result<(), ConsulError> {
        let refusal = {
            let mut state = self.state();
            state.writes += 1;
            state.refused.clone().filter(|(text, _)| id.contains(text.as_str()))
        };
        self.hung("PUT").await?;
        if let Some((_, error)) = refusal {
            return Err(error);
        }
        let result = tokio::spawn(write).await.expect("the fake does not panic");
        let (latency, lost) = {
            let state = self.state();
            (state.answer_latency, fastrand::u8(0..100) < state.lost_answers)
        };
        if lost {
            sleep(Duration::from_millis(fastrand::u64(0..10_000))).await;
            return Err(ConsulError::TimedOut { call: "PUT", after: CLIENT_TIMEOUT });
        }
        if !latency.is_zero() {
            sleep(latency).await;
        }
        result
    }

    /// Looks at a write before it happens.
    fn judge(&self, what: &str, service_id: &str) {
        let mut state = self.state();
        let now = Instant::now();
        let mut violation = None;
        let read = state.read;
        state.foreigners.retain(|id, (_, since)| {
            // It could have been known: a read that began after it came was answered before this.
            let known = since.is_none_or(|since| {
                read.is_some_and(|(began, answered)| began > since && now > answered + Duration::from_millis(1))
            });
            // The catalog cannot tell ids apart that differ only in case; the agent can.
            let same = if what == "register" { id.eq_ignore_ascii_case(service_id) } else { id == service_id };
            if same && known {
                violation = Some(format!("{what} {service_id}: somebody else's"));
            }
            // Consul has no "register only if nobody has it": what came after the last read is lost, and nobody's fault.
            known || id != service_id
        });
        if what == "deregister" && violation.is_none() {
            violation = self.takes_away(service_id).map(|why| format!("deregister {service_id}: {why}"));
        }
        state.violations.extend(violation);
    }

    /// Whether this is all that tells where a container is that runs, as everybody could know for a while.
    fn takes_away(&self, service_id: &str) -> Option<String> {
        let snapshot = self.consul.snapshot();
        let service = snapshot.services.get(service_id)?;
        let container = ContainerId::new(service.meta.get(Service::META_CONTAINER)?);
        let containers = self.docker.containers();
        let by_id: HashMap<&ContainerId, &Container> = containers.iter().map(|it| (&it.id, it)).collect();
        let wanted = expected_of(by_id.get(&container)?, &by_id);
        let known = containers.iter().all(|it| self.docker.could_be_known(&it.id, KNOWN));
        let runs = wanted.iter().any(|wanted| wanted.port == service.port && !wanted.perhaps);
        let elsewhere = snapshot.services.values().any(|other| {
            other.id != service.id
                && other.port == service.port
                && other.meta.get(Service::META_CONTAINER) == service.meta.get(Service::META_CONTAINER)
        });
        (known && runs && !elsewhere).then(|| format!("its container {container} runs"))
    }

    fn service_of_check(&self, check_id: &str) -> String {
        let snapshot = self.consul.snapshot();
        let owner = snapshot.services.values().find(|service| service.checks.contains_key(check_id));
        owner.map(|service| service.id.clone()).unwrap_or_default().to_string()
    }
}

impl Registry for Wire {
    async fn read(&self) -> Result<Arc<Snapshot>, ConsulError> {
        let began = Instant::now();
        self.state().reads += 1;
        self.hung("GET").await?;
        let snapshot = self.consul.read().await?;
        let latency = self.state().answer_latency;
        if !latency.is_zero() {
            sleep(latency).await;
        }
        self.state().read = Some((began, Instant::now()));
        Ok(snapshot)
    }

    async fn find(&self, service_id: &str) -> Result<Option<ActualService>, ConsulError> {
        self.hung("GET").await?;
        self.consul.find(service_id).await
    }

    async fn register(&self, service: &Service) -> Result<(), ConsulError> {
        self.judge("register", &service.id);
        let (consul, service) = (self.consul.clone(), service.clone());
        let id = service.id.clone();
        self.write(&id, async move { consul.register(&service).await }).await
    }

    async fn deregister(&self, service_id: &str) -> Result<(), ConsulError> {
        self.judge("deregister", service_id);
        let (consul, id) = (self.consul.clone(), service_id.to_owned());
        self.write(service_id, async move { consul.deregister(&id).await }).await
    }

    async fn update_check(&self, check_id: &str, status: Status, output: &str) -> Result<(), ConsulError> {
        self.judge("update a check of", &self.service_of_check(check_id));
        let (consul, id, output) = (self.consul.clone(), check_id.to_owned(), output.to_owned());
        self.write(check_id, async move { consul.update_check(&id, status, &output).await }).await
    }

    async fn remove_check(&self, check_id: &str) -> Result<(), ConsulError> {
        self.judge("remove a check of", &self.service_of_check(check_id));
        let (consul, id) = (self.consul.clone(), check_id.to_owned());
        self.write(check_id, async move { consul.remove_check(&id).await }).await
    }

    async fn changed(&self, sentinel: &str, wait: Duration) -> Result<bool, ConsulError> {
        self.hung("GET").await?;
        self.consul.changed(sentinel, wait).await
    }
}
