//! A node whose containers are looked after: the fake engine, the fake KV of Consul, and the agent's healing half between them. The
//! publishing half is not there: what Consul says about services is what the test says.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;
use remora::config::{Heal, HostAddress, Publish};
use remora::consul::{ActualCheck, ActualService, ConsulError, ConsulSeen, Service, Snapshot, Status};
use remora::docker::observe::Observer;
use remora::docker::spec::OPERATION_LABELS;
use remora::docker::{Container, ContainerId, HealthStatus, State};
use remora::heal::cluster::{Ask, Keys, Wish};
use remora::heal::hands_off::Never;
use remora::heal::status::{self, Asking};
use remora::heal::tell::Telling;
use remora::heal::teller::Teller;
use remora::heal::watcher::{Ends, Place, Watcher};
use remora::reconcile::GivenUp;
use remora::registration::Settings;
use remora::telemetry::{DockerView, Metrics};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::fake_docker::{Behaviour, FakeDocker, Whom};
use crate::fake_store::FakeStore;

/// The node's name.
pub const NODE: &str = "n1";

/// The engine's id.
const ENGINE: &str = "ENGINE000001";

/// A label that every replacement has, and no other container.
pub const REPLACEMENT: &str = "remora.heal.op";

/// One engine, one KV, one agent.
pub struct Ward {
    /// The engine.
    pub docker: FakeDocker,
    /// Consul's KV.
    pub store: FakeStore,
    /// What the next agent knows of where it is, its settings included.
    pub place: Place,
    seen: watch::Sender<ConsulSeen>,
    agent: Option<Agent>,
}

struct Agent {
    tasks: Vec<JoinHandle<()>>,
    shutdown: CancellationToken,
    given_up: watch::Receiver<GivenUp>,
    asking: Asking,
    metrics: Arc<Metrics>,
}

/// A piece of news, as it stands in Consul's KV.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// `healed`, `heal_failed`, `heal_gave_up`…
    pub kind: String,
    /// The place.
    pub name: String,
    /// Why.
    pub cause: String,
    /// What was done.
    pub action: String,
    /// In a sentence.
    pub text: String,
}

impl Ward {
    /// The agent has not been started yet. Consul can be reached. Every HEALTHCHECK passes a second after a start.
    pub fn new() -> Self {
        let address = HostAddress { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), ..HostAddress::default() };
        let rules = Settings {
            node: NODE.to_owned(),
            engine: ENGINE.to_owned(),
            publish: Publish { address, ..Publish::default() },
            health_ttl: None,
        };
        let place = Place {
            node: NODE.to_owned(),
            host: "host".to_owned(),
            api: "1.41".parse().unwrap(),
            by: NODE.to_owned(),
            never: Never::default(),
            heal: Heal::default(),
            rules,
        };
        let docker = FakeDocker::new(ENGINE);
        docker.behave(Whom::Image("web:1".to_owned()), Behaviour::default().healthy_after(Duration::from_secs(1)));
        let seen = ConsulSeen { snapshot: None, reachable: true };
        Self { docker, store: FakeStore::new(), place, seen: watch::channel(seen).0, agent: None }
    }

    /// Starts the agent and lets it see everything for long enough to act: its own time to settle is over, and the containers' grace
    /// (90 s with a HEALTHCHECK), too.
    pub async fn wake(&mut self) {
        self.start();
        sleep(self.place.heal.holdoff + Duration::from_secs(40)).await;
    }

    /// Starts the agent, if it does not run.
    pub fn start(&mut self) {
        if self.agent.is_some() {
            return;
        }
        let (docker, store, metrics) =
            (Arc::new(self.docker.clone()), Arc::new(self.store.clone()), Arc::new(Metrics::new()));
        let (tell, mut told) = mpsc::channel(256);
        // Nobody asks the observer for anything, and it may not take that for its end.
        let (asks, asked) = mpsc::channel(1);
        let (hear, heard) = mpsc::channel(1024);
        let view = watch::channel(DockerView::starting(Instant::now())).0;
        let resync = Duration::from_secs(30);
        let observer =
            Observer::new(Arc::clone(&docker), ENGINE.to_owned(), resync, tell, asked, view, Arc::clone(&metrics))
                .with_listener(hear);
        let (telling, news) = Telling::new(NODE, Arc::clone(&metrics));
        let keys = Keys::new(&self.place.heal.prefix, NODE);
        let teller = Teller::new(Arc::clone(&store), keys, news, None, Arc::clone(&metrics));
        let (given_up, given_up_seen) = watch::channel(GivenUp::default());
        let (asking, status_asked) = Asking::new();
        let ends = Ends { docker, store, heard, seen: self.seen.subscribe(), given_up, telling, asked: status_asked };
        let watcher = Watcher::new(self.place.clone(), ends);
        let shutdown = CancellationToken::new();
        let (stop, stop_watching) = (shutdown.clone(), shutdown.clone());
        let said = CancellationToken::new();
        let all_said = said.clone();
        let tasks = vec![
            tokio::spawn(async move {
                watcher.run(stop_watching).await;
                said.cancel();
            }),
            tokio::spawn(observer.run(stop.child_token())),
            tokio::spawn(teller.run(all_said)),
            tokio::spawn(async move {
                while told.recv().await.is_some() {}
                drop(asks);
            }),
        ];
        self.agent = Some(Agent { tasks, shutdown, given_up: given_up_seen, asking, metrics });
    }

    /// SIGKILL: nothing is finished, nothing is said.
    pub async fn kill(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        agent.tasks.iter().for_each(JoinHandle::abort);
        for task in agent.tasks {
            if let Err(error) = task.await {
                assert!(!error.is_panic(), "a task of the agent panicked: {error}");
            }
        }
    }

    /// SIGTERM.
    pub async fn stop(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        agent.shutdown.cancel();
        for task in agent.tasks {
            task.await.unwrap();
        }
    }

    /// The agent's tasks run, if it was started.
    pub fn assert_alive(&self) {
        let tasks = self.agent.iter().flat_map(|agent| &agent.tasks);
        assert_eq!(tasks.filter(|task| task.is_finished()).count(), 0, "a task of the agent ended");
    }

    /// Whether the agent runs.
    pub fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    /// How healing stands.
    pub async fn status(&self) -> status::Status {
        self.agent.as_ref().expect("it runs").asking.status().await.expect("it answers")
    }

    /// Consul can be reached, or not.
    pub fn consul(&self, reachable: bool) {
        let away = ConsulError::Unreachable { address: "fake".to_owned(), reason: "connection refused".to_owned() };
        self.store.fail_all((!reachable).then_some(away));
        self.seen.send_modify(|seen| seen.reachable = reachable);
    }

    /// What Consul has: one service of this container, with one check of its own.
    pub fn registered(&self, id: &ContainerId, status: Status, output: &str) {
        let check = ActualCheck { status, output: output.into() };
        let service = ActualService {
            id: "n1:web:80".into(),
            name: "web".into(),
            meta: std::iter::once((Service::META_CONTAINER.to_owned(), id.as_str().to_owned())).collect(),
            checks: LiteMap::from_iter([("n1:web:80:http".into(), check)]),
            ..ActualService::default()
        };
        let services = [(service.id.clone(), Arc::new(service))].into();
        let snapshot = Some(Arc::new(Snapshot { services }));
        self.seen.send_replace(ConsulSeen { snapshot, reachable: true });
    }

    /// What an operator asks through Consul.
    pub fn ask(&self, wish: Wish, name: &str) {
        let key = Keys::new(&self.place.heal.prefix, NODE).ask(NODE, name);
        self.store.write(&key, Ask::value(wish, "a test"));
    }

    /// All news, oldest first.
    pub fn news(&self) -> Vec<Told> {
        let prefix = Keys::new(&self.place.heal.prefix, NODE).events();
        let mut all: BTreeMap<u64, Told> = BTreeMap::new();
        for (key, entry) in self.store.entries() {
            if key.starts_with(&prefix) {
                let event: Value = serde_json::from_slice(&entry.value).unwrap();
                let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
                let told = Told {
                    kind: text("kind"),
                    name: text("name"),
                    cause: text("cause"),
                    action: text("action"),
                    text: text("text"),
                };
                all.insert(event["seq"].as_u64().unwrap(), told);
            }
        }
        all.into_values().collect()
    }

    /// News of this kind.
    pub fn told(&self, kind: &str) -> Vec<Told> {
        self.news().into_iter().filter(|told| told.kind == kind).collect()
    }

    /// Names of the containers that were given up, with the reasons.
    pub fn given_up(&self) -> BTreeMap<String, String> {
        let given_up = self.agent.as_ref().expect("it runs").given_up.borrow();
        let name =
            |id: &ContainerId| self.docker.facts(id).map_or_else(|| id.to_string(), |facts| facts.name.to_string());
        given_up.iter().map(|(id, why)| (name(id), why.clone())).collect()
    }

    /// How many operations this agent has carried out that count for the node's budget.
    pub fn carried_out(&self) -> usize {
        let text = self.agent.as_ref().expect("it runs").metrics.encode();
        let counts = |line: &&str| {
            let free = ["orphaned", "asked", "cancelled", "interrupted"].iter().any(|word| line.contains(word));
            line.starts_with("remora_heal_operations_total{") && !free
        };
        let lines = text.lines().filter(counts);
        lines.map(|line| line.rsplit(' ').next().and_then(|number| number.parse::<usize>().ok()).unwrap()).sum()
    }

    /// The container of this name.
    pub fn named(&self, name: &str) -> Container {
        let all = self.docker.containers();
        all.into_iter().find(|container| container.name == name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Names of all containers.
    pub fn names(&self) -> Vec<String> {
        self.docker.containers().into_iter().map(|container| container.name.to_string()).collect()
    }

    /// Its HEALTHCHECK fails from now on.
    pub fn fails(&self, id: &ContainerId) {
        self.docker.health(id, HealthStatus::Unhealthy, "connection refused");
    }

    /// Every replacement behaves so.
    pub fn replacements(&self, behaviour: Behaviour) {
        self.docker.behave(Whom::Labelled(REPLACEMENT.to_owned()), behaviour);
    }

    /// Nothing was changed, and nothing is for so long.
    pub async fn rests(&self, span: Duration) {
        let (before, names) = (self.docker.changes().len(), self.names());
        sleep(span).await;
        assert_eq!(self.docker.changes()[before..], [] as [String; 0], "nothing is to be done");
        assert_eq!(self.names(), names);
        self.assert_alive();
    }

    /// Waits for another container in the place, which runs, and for the end of the operation.
    pub async fn replaced(&self, name: &str, old: &ContainerId, within: Duration) -> Container {
        let begun = Instant::now();
        loop {
            let all = self.docker.containers();
            let new = all.iter().find(|it| it.name == name && it.id != *old && it.state == State::Running);
            if let Some(new) = new.filter(|_| all.iter().all(|it| it.id != *old)) {
                return new.clone();
            }
            let changes = self.docker.changes();
            assert!(
                begun.elapsed() < within,
                "{name} was not replaced within {within:?}: {changes:?} {:#?}",
                self.news()
            );
            self.assert_alive();
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for news of this kind about this place.
    pub async fn hears(&self, kind: &str, name: &str, within: Duration) -> Told {
        let begun = Instant::now();
        loop {
            if let Some(told) = self.told(kind).into_iter().find(|told| told.name == name) {
                return told;
            }
            let changes = self.docker.changes();
            assert!(begun.elapsed() < within, "no {kind} of {name} within {within:?}: {changes:?} {:#?}", self.news());
            self.assert_alive();
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What of a container's document has to be the same in its replacement.
pub fn essence(document: &Value) -> Value {
    let mut config = document["Config"].clone();
    let labels = config["Labels"].as_object_mut().unwrap();
    labels.retain(|key, _| !OPERATION_LABELS.contains(&key.as_str()));
    // Made from the id where nothing was asked for.
    config.as_object_mut().unwrap().remove("Hostname");
    let mut host = document["HostConfig"].clone();
    // An engine has a word for nothing where nothing was asked for.
    host.as_object_mut().unwrap().retain(|_, value| !value.is_null() && value.as_str() != Some(""));
    let retries = &mut host["RestartPolicy"]["MaximumRetryCount"];
    *retries = retries.as_u64().unwrap_or(0).into();
    serde_json::json!({"config": config, "host": host, "image": document["Image"]})
}
