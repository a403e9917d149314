//! Histories of the book against a Consul agent in a few lines. Every step also counts everything anew and compares.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::config::HealMode;
use crate::consul::{ActualCheck, CheckKind, Meta, Snapshot};
use crate::docker::Sight;
use crate::docker::{
    Binding, Container, EventTime, Health, HealthStatus, Life, NetworkMode, Port, Protocol, Signal, State,
};
use crate::telemetry::Drift;
use litemap::LiteMap;

#[path = "book_tests/any_history.rs"]
mod any_history;
#[path = "book_tests/consul.rs"]
mod consul;
#[path = "book_tests/healing.rs"]
mod healing;
#[path = "book_tests/ids.rs"]
mod ids;
#[path = "book_tests/life.rs"]
mod life;

const OWN: &str = "n1:remora:engine000001";

fn settings() -> Settings {
    let mut settings = own::tests::settings();
    settings.publish.address.v4 = Some(Ipv4Addr::new(10, 0, 0, 1));
    settings
}

fn own_service() -> Service {
    let mut service = diff::tests::service(OWN, "");
    service.meta = service.meta.without(Service::META_CONTAINER);
    service.name = "remora".into();
    service.seal();
    service
}

/// `a` → `aaaa…`: 64 digits.
fn id(letter: &str) -> ContainerId {
    ContainerId::new(letter.repeat(64))
}

/// A running container of image `web` with 80/tcp on a port of the host that depends on the letter.
fn running(letter: &str, name: &str) -> Container {
    let host_port = 32_000 + u16::from(letter.as_bytes()[0]);
    let port = Port { number: 80, protocol: Protocol::Tcp };
    Container {
        id: id(letter),
        name: name.into(),
        image: "web:1".into(),
        image_id: ArcStr::new(),
        created: EventTime::parse(&format!("2026-01-01T00:00:00.{:03}Z", letter.as_bytes()[0])),
        started_at: EventTime::parse("2026-01-01T00:01:00Z"),
        finished_at: None,
        state: State::Running,
        exit_code: 0,
        oom_killed: false,
        restart_count: 0,
        health: None,
        labels: LiteMap::new(),
        service_env: LiteMap::new(),
        network_mode: NetworkMode::Bridge,
        networks: LiteMap::new(),
        exposed: LiteMap::from_iter([(port, ())]),
        bindings: LiteMap::from_iter([(port, [Binding { host_ip: Ipv4Addr::UNSPECIFIED.into(), host_port }].into())]),
        stop_signal: Signal::TERM,
        stop_timeout: Duration::from_secs(10),
        life: Life::default(),
        rendered_tags: None,
    }
}

fn labelled(container: Container, key: &str, value: &str) -> Container {
    let mut labels = container.labels.clone();
    labels.insert(key.into(), value.into());
    Container { labels, ..container }
}

fn ended(container: Container, state: State) -> Container {
    Container { state, exit_code: 1, bindings: LiteMap::new(), ..container }
}

fn sharing(letter: &str, name: &str, owner: &str) -> Container {
    let own = LiteMap::new();
    Container { network_mode: NetworkMode::Container(owner.into()), bindings: own, ..running(letter, name) }
}

/// What somebody else would have registered.
fn foreign(id: &str, name: &str, meta: &[(&str, &str)]) -> ActualService {
    ActualService {
        id: id.into(),
        name: name.into(),
        address: "10.0.0.9".into(),
        port: 9,
        meta: meta.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        weights: (1, 1),
        ..ActualService::default()
    }
}

/// The mark of an agent with our node name on another engine.
fn namesakes(container: &str) -> [(&str, &str); 4] {
    [("managed-by", "remora"), ("remora-node", "n1"), ("remora-engine", "OTHER"), ("container-id", container)]
}

/// A book, the Consul agent that it keeps true, and the time.
struct Story {
    book: Book,
    consul: Snapshot,
    now: Instant,
}

/// A book whose agent has already said something of itself.
fn speaking_book() -> Book {
    let own = own_service();
    let (status, output) = (own.checks[0].status, own.checks[0].output.clone());
    let mut book = Book::new(settings(), Healing::default(), own);
    book.say(status, output);
    // Nobody was given up.
    book.give_up(&GivenUp::default());
    // The beat with which it begins to speak is not what these histories are about.
    book.beats.clear();
    book
}

impl Story {
    /// A book whose own service is registered already.
    fn new() -> Self {
        let mut story = Self::unread();
        // Its output reaches the catalog at once only with a new status.
        assert_eq!(story.settle(), [format!("register {OWN}"), format!("update {OWN}:docker passing")]);
        story
    }

    /// A book that has not read Consul yet.
    fn unread() -> Self {
        Self { book: speaking_book(), consul: Snapshot::default(), now: Instant::now() }
    }

    /// The agent is killed and starts anew.
    fn restart(&mut self) {
        self.book = speaking_book();
    }

    fn here(&mut self, container: Container) -> &mut Self {
        self.sees(container, false, false)
    }

    fn drains(&mut self, container: Container) -> &mut Self {
        self.sees(container, true, false)
    }

    fn sees(&mut self, container: Container, draining: bool, settling: bool) -> &mut Self {
        let sight = Sight { container: container.into(), draining, settling };
        let id = sight.container.id.clone();
        self.book.change(Change { id, seen: Seen::Here(sight), heard: None });
        self.recount();
        self
    }

    fn gone(&mut self, letter: &str) -> &mut Self {
        self.book.change(Change { id: id(letter), seen: Seen::Gone, heard: None });
        self.recount();
        self
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self.book.tick(self.now);
        self
    }

    /// Reads Consul: what others did meanwhile.
    fn read(&mut self) -> Vec<(ArcStr, Drift)> {
        drop(self.book.reading());
        if let Some(sharing) = self.book.sharing(&self.consul, false) {
            assert_eq!(*sharing, self.consul, "only memory is shared");
            self.consul = Snapshot::clone(&sharing);
        }
        let mut drift = self.book.read(&self.consul, self.now, || 0.5);
        self.recount();
        drift.sort_by(|a, b| a.0.cmp(&b.0));
        drift
    }

    /// Makes every write that the book wants, in its order.
    fn write(&mut self) -> Vec<String> {
        let mut writes = Vec::new();
        while let Some((at, op)) = self.book.next(self.now) {
            self.recount();
            writes.push(told(&op));
            if apply(&mut self.consul, &op) {
                self.book.done(&at, &op);
            } else {
                self.book.failed(&at, Class::Gone, "unknown check", self.now, 0.5);
            }
            self.recount();
            assert!(writes.len() < 1000, "never ends: {writes:?}");
        }
        writes
    }

    /// Reads and writes until nothing is left to write; what was written.
    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..20 {
            self.read();
            let writes = self.write();
            if writes.is_empty() && !self.book.is_ahead() {
                assert_eq!(self.book.pending(), self.book.failing(), "at rest nothing is pending");
                assert_eq!(self.book.running(), 0);
                return all;
            }
            all.extend(writes);
        }
        panic!("does not come to rest: {all:?}");
    }

    fn asks(&mut self) -> Vec<ContainerId> {
        self.book.take_asks()
    }

    /// Ids of what is registered, our own service left out.
    fn ids(&self) -> Vec<&str> {
        self.consul.services.keys().map(ArcStr::as_str).filter(|id| *id != OWN).collect()
    }

    fn status(&self, id: &str) -> (Status, &str) {
        let check = &self.consul.services[id].checks[&Service::docker_check_id(id)];
        (check.status, &check.output)
    }

    fn container_at(&self, service: &str) -> ContainerId {
        ContainerId::new(self.consul.services[service].meta.get(Service::META_CONTAINER).unwrap())
    }

    fn put(&mut self, service: ActualService) -> &mut Self {
        self.consul.services.insert(service.id.clone(), Arc::new(service));
        self
    }

    fn edit(&mut self, id: &str, edit: impl FnOnce(&mut ActualService)) {
        edit(Arc::make_mut(self.consul.services.get_mut(id).unwrap()));
    }

    /// Every number and index that the book keeps, against the same worked out anew.
    fn recount(&self) {
        let book = &self.book;
        let published = book.wanted.keys().filter(|at| book.actual.contains_key(*at) && **at != book.own_key).count();
        assert_eq!(book.published(), published, "published");
        book.items.recount();
        let mut registered: BTreeSet<(ContainerId, ArcStr)> = BTreeSet::new();
        for (at, service) in &book.actual {
            if let Owner::Ours(Some(container)) | Owner::Namesake { container: Some(container), .. } =
                own::owner(service, &book.settings)
            {
                registered.insert((container, at.clone()));
            }
        }
        assert_eq!(book.registered, registered, "registered by container");
        for container in &book.gone {
            let double = book.doubles.values().any(|double| own::container(double).as_ref() == Some(container));
            assert!(
                double || book.registered_for(container).next().is_some(),
                "gone, and nothing is registered for it"
            );
            assert!(!book.containers.held.contains_key(container), "gone and here");
        }
    }
}

/// What a Consul agent makes of a write; `false` when it does not know what it is about.
fn apply(consul: &mut Snapshot, op: &Op) -> bool {
    match op {
        Op::Deregister(id) => drop(consul.services.remove(id)),
        Op::UpdateCheck { id, status, output } => {
            let owner = consul.services.values_mut().find(|service| service.checks.contains_key(id));
            let Some(check) = owner.and_then(|service| Arc::make_mut(service).checks.get_mut(id)) else { return false };
            *check = ActualCheck { status: *status, output: output.clone() };
        }
        Op::RemoveCheck(id) => {
            for service in consul.services.values_mut() {
                Arc::make_mut(service).checks.remove(id);
            }
        }
        Op::Register(service) => {
            let before = consul.services.remove(&service.id).map(Arc::unwrap_or_clone);
            let mut checks = before.map(|before| before.checks).unwrap_or_default();
            for check in &service.checks {
                let fresh = ActualCheck { status: check.status, output: ArcStr::new() };
                checks.entry(check.id.clone()).or_insert(fresh);
            }
            let weights = service.weights.unwrap_or_default();
            let at = (service.address.clone(), service.port);
            let actual = ActualService {
                id: service.id.clone(),
                name: service.name.clone(),
                address: service.address.clone(),
                port: service.port,
                tags: service.tags.clone(),
                meta: service.meta.clone(),
                tagged_addresses: LiteMap::from_iter([("lan_ipv4".into(), at.clone()), ("wan_ipv4".into(), at)]),
                weights: (weights.passing, weights.warning),
                enable_tag_override: service.enable_tag_override,
                checks,
            };
            consul.services.insert(service.id.clone(), Arc::new(actual));
        }
    }
    true
}

fn told(op: &Op) -> String {
    match op {
        Op::Register(service) => format!("register {}", service.id),
        Op::Deregister(id) => format!("deregister {id}"),
        Op::UpdateCheck { id, status, .. } => format!("update {id} {status}"),
        Op::RemoveCheck(id) => format!("uncheck {id}"),
    }
}
