//! Histories of the book against a Consul agent in a few lines. Every step also counts everything anew and compares.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::*;
use crate::consul::{ActualCheck, Check, CheckKind};
use crate::docker::NetworkMode;
use crate::docker::{Binding, Container, Health, HealthStatus, Port, Protocol, Signal, State};

const OWN: &str = "n1:remora:engine000001";

fn settings() -> Settings {
    let mut settings = own::tests::settings();
    settings.publish.address.v4 = Some(Ipv4Addr::new(10, 0, 0, 1));
    settings
}

fn own_service() -> Service {
    let mut service = diff::tests::service(OWN, "");
    service.meta.remove(Service::META_CONTAINER);
    "remora".clone_into(&mut service.name);
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
        name: name.to_owned(),
        image: "web:1".to_owned(),
        image_id: String::new(),
        created: format!("2026-01-01T00:00:00.{:03}Z", letter.as_bytes()[0]),
        started_at: "2026-01-01T00:01:00Z".to_owned(),
        finished_at: "0001-01-01T00:00:00Z".to_owned(),
        state: State::Running,
        exit_code: 0,
        oom_killed: false,
        restart_count: 0,
        health: None,
        labels: BTreeMap::new(),
        service_env: BTreeMap::new(),
        network_mode: NetworkMode::Bridge,
        networks: BTreeMap::new(),
        exposed: [port].into(),
        bindings: [(port, vec![Binding { host_ip: Ipv4Addr::UNSPECIFIED.into(), host_port }])].into(),
        stop_signal: Signal::TERM,
        stop_timeout: Duration::from_secs(10),
        rendered_tags: None,
    }
}

fn labelled(container: Container, key: &str, value: &str) -> Container {
    let mut labels = container.labels.clone();
    labels.insert(key.to_owned(), value.to_owned());
    Container { labels, ..container }
}

fn ended(container: Container, state: State) -> Container {
    Container { state, exit_code: 1, bindings: BTreeMap::new(), ..container }
}

fn sharing(letter: &str, name: &str, owner: &str) -> Container {
    let own = BTreeMap::new();
    Container { network_mode: NetworkMode::Container(owner.to_owned()), bindings: own, ..running(letter, name) }
}

/// What somebody else would have registered.
fn foreign(id: &str, name: &str, meta: &[(&str, &str)]) -> ActualService {
    ActualService {
        id: id.to_owned(),
        name: name.to_owned(),
        address: "10.0.0.9".to_owned(),
        port: 9,
        meta: meta.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        weights: (1, 1),
        ..ActualService::default()
    }
}

/// The mark of an agent with our node name on another engine.
fn namesakes<'a>(container: &'a str) -> [(&'a str, &'a str); 4] {
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
    let mut book = Book::new(settings(), own);
    book.say(status, output);
    book
}

impl Story {
    /// A book whose own service is registered already.
    fn new() -> Self {
        let mut story = Self::unread();
        assert_eq!(story.settle(), [format!("register {OWN}")]);
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
        let sight = Arc::new(Sight { container, draining, settling });
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
    fn read(&mut self) -> Vec<(String, Drift)> {
        self.book.reading();
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
            apply(&mut self.consul, &op);
            writes.push(told(&op));
            self.book.done(&at, &op);
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
        self.consul.services.keys().map(String::as_str).filter(|id| *id != OWN).collect()
    }

    fn status(&self, id: &str) -> (Status, &str) {
        let check = &self.consul.services[id].checks[&Service::docker_check_id(id)];
        (check.status, &check.output)
    }

    fn container_at(&self, service: &str) -> ContainerId {
        ContainerId::new(self.consul.services[service].meta[Service::META_CONTAINER].as_str())
    }

    fn put(&mut self, service: ActualService) -> &mut Self {
        self.consul.services.insert(service.id.clone(), service);
        self
    }

    fn edit(&mut self, id: &str, edit: impl FnOnce(&mut ActualService)) {
        edit(self.consul.services.get_mut(id).unwrap());
    }

    /// Every number and index that the book keeps, against the same worked out anew.
    fn recount(&self) {
        let book = &self.book;
        let published = book.wanted.keys().filter(|at| book.actual.contains_key(*at) && **at != book.own_key).count();
        assert_eq!(book.published(), published, "published");
        book.items.recount();
        let mut registered: HashMap<ContainerId, BTreeSet<String>> = HashMap::new();
        for (at, service) in &book.actual {
            if let Owner::Ours(Some(container)) | Owner::Namesake { container: Some(container), .. } =
                own::owner(service, &book.settings)
            {
                registered.entry(container).or_default().insert(at.clone());
            }
        }
        assert_eq!(book.registered, registered, "registered by container");
        for container in &book.gone {
            assert!(book.registered.contains_key(container), "gone, and nothing is registered for it");
            assert!(!book.containers.held.contains_key(container), "gone and here");
        }
    }
}

/// What a Consul agent makes of a write.
fn apply(consul: &mut Snapshot, op: &Op) {
    match op {
        Op::Deregister(id) => drop(consul.services.remove(id)),
        Op::UpdateCheck { id, status, output } => {
            let owner = consul.services.values_mut().find(|service| service.checks.contains_key(id));
            let check = owner.and_then(|service| service.checks.get_mut(id)).expect("only known checks are fed");
            *check = ActualCheck { status: *status, output: output.clone() };
        }
        Op::RemoveCheck(id) => {
            for service in consul.services.values_mut() {
                service.checks.remove(id);
            }
        }
        Op::Register(service) => {
            let mut checks = consul.services.remove(&service.id).map(|before| before.checks).unwrap_or_default();
            for check in &service.checks {
                let fresh = ActualCheck { status: check.status, output: String::new() };
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
                tagged_addresses: [("lan_ipv4".to_owned(), at.clone()), ("wan_ipv4".to_owned(), at)].into(),
                weights: (weights.passing, weights.warning),
                enable_tag_override: service.enable_tag_override,
                checks,
            };
            consul.services.insert(service.id.clone(), actual);
        }
    }
}

fn told(op: &Op) -> String {
    match op {
        Op::Register(service) => format!("register {}", service.id),
        Op::Deregister(id) => format!("deregister {id}"),
        Op::UpdateCheck { id, status, .. } => format!("update {id} {status}"),
        Op::RemoveCheck(id) => format!("uncheck {id}"),
    }
}

// --- one container's life --------------------------------------------------------------------------------------------

#[test]
fn a_start_is_one_registration_and_an_end_is_one_deregistration() {
    let mut story = Story::new();
    assert_eq!(story.here(running("a", "web")).settle(), ["register n1:web:80"]);
    assert_eq!(story.book.published(), 1);
    assert_eq!(story.here(ended(running("a", "web"), State::Exited)).settle(), ["deregister n1:web:80"]);
    assert!(story.gone("a").settle().is_empty());
    assert_eq!(story.book.published(), 0);
}

#[test]
fn a_change_of_health_is_one_update() {
    let mut story = Story::new();
    let with = |status| {
        let health = Health { status, failing_streak: 1, exit_code: Some(1), output: "refused".to_owned() };
        Container { health: Some(health), ..running("a", "web") }
    };
    story.here(with(HealthStatus::Healthy)).settle();
    assert_eq!(story.here(with(HealthStatus::Unhealthy)).settle(), ["update n1:web:80:docker critical"]);
    assert_eq!(story.status("n1:web:80"), (Status::Critical, "unhealthy: exit 1: refused"));
    assert_eq!(story.here(with(HealthStatus::Healthy)).settle(), ["update n1:web:80:docker passing"]);
}

#[test]
fn case_10_draining_deregisters_and_surviving_the_signal_registers_again() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    assert_eq!(story.drains(running("a", "web")).settle(), ["deregister n1:web:80"]);
    assert_eq!(story.here(running("a", "web")).settle(), ["register n1:web:80"]);
}

#[test]
fn a_restarting_container_keeps_its_registration_and_tells_why_it_is_critical() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let restarting = ended(running("a", "web"), State::Restarting);
    assert_eq!(story.here(restarting).settle(), ["update n1:web:80:docker critical"]);
    assert_eq!(story.status("n1:web:80"), (Status::Critical, "restarting after it exited 1"));
    assert_eq!(story.here(running("a", "web")).settle(), ["update n1:web:80:docker passing"]);
}

#[test]
fn case_12_a_renamed_container_is_under_its_new_id_before_the_old_one_goes() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let writes = story.here(running("a", "shop")).settle();
    assert_eq!(writes, ["register n1:shop:80", "deregister n1:web:80"]);
}

#[test]
fn the_old_id_goes_even_if_consul_never_takes_the_new_one() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.here(running("a", "shop"));
    let (at, op) = story.book.next(story.now).unwrap();
    assert_eq!((at.as_str(), told(&op).as_str()), ("n1:shop:80", "register n1:shop:80"));
    assert!(story.book.next(story.now).is_none(), "the old one waits for the new one");
    story.book.failed(&at, Class::Rejected, "no", story.now, 0.5);
    assert_eq!(story.write(), ["deregister n1:web:80"], "it says what is not true any more");
}

#[test]
fn two_containers_that_swap_their_names_swap_their_registrations() {
    let mut story = Story::new();
    story.here(running("a", "blue")).here(running("b", "green")).settle();
    story.here(running("a", "tmp")).here(running("b", "blue")).here(running("a", "green")).settle();
    assert_eq!(story.ids(), ["n1:blue:80", "n1:green:80"]);
    assert_eq!(story.container_at("n1:blue:80"), id("b"));
    assert_eq!(story.container_at("n1:green:80"), id("a"));
}

#[test]
fn a_replacement_takes_the_id_over_without_a_gap() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    assert!(story.here(running("b", "web.new-0123abcd")).settle().is_empty(), "the other one has its place");
    // The old one ends before the names are swapped.
    let writes = story.here(ended(running("a", "web"), State::Exited)).settle();
    assert_eq!(writes, ["register n1:web:80"], "one write: it changes hands");
    assert_eq!(story.container_at("n1:web:80"), id("b"));
    story.here(ended(running("a", "web.old-0123abcd"), State::Exited));
    assert!(story.here(running("b", "web")).settle().is_empty());
}

// --- sharing a network -----------------------------------------------------------------------------------------------

#[test]
fn case_21_a_sharer_follows_the_owner_of_its_network() {
    let mut story = Story::new();
    story.here(sharing("b", "side", &"a".repeat(64))).settle();
    assert!(story.ids().is_empty(), "waits for its owner");
    story.here(running("a", "web")).settle();
    assert_eq!(story.ids(), ["n1:side:80", "n1:web:80"]);
    let port = story.consul.services["n1:side:80"].port;
    assert_eq!(port, story.consul.services["n1:web:80"].port);
    // The owner was started again, on another port.
    let moved = Container { bindings: running("z", "x").bindings, ..running("a", "web") };
    story.here(moved).settle();
    assert_ne!(story.consul.services["n1:side:80"].port, port);
    story.here(ended(running("a", "web"), State::Exited)).settle();
    assert!(story.ids().is_empty());
    story.here(running("a", "web")).settle();
    assert_eq!(story.ids().len(), 2);
    story.gone("a").settle();
    assert!(story.ids().is_empty());
}

#[test]
fn a_chain_of_sharers_follows_its_far_end() {
    let mut story = Story::new();
    story.here(sharing("c", "far", "near")).here(sharing("b", "near", "web")).here(running("a", "web")).settle();
    assert_eq!(story.ids(), ["n1:far:80", "n1:near:80", "n1:web:80"]);
    story.here(ended(running("a", "web"), State::Exited)).settle();
    assert!(story.ids().is_empty(), "{:?}", story.ids());
}

#[test]
fn a_circle_of_sharers_is_nothing_and_ends() {
    let mut story = Story::new();
    story.here(sharing("a", "x", "y")).here(sharing("b", "y", "x")).here(sharing("a", "x", "y")).settle();
    assert!(story.ids().is_empty());
}

// --- who has an id ---------------------------------------------------------------------------------------------------

#[test]
fn case_44_what_registrator_left_under_the_same_id_and_name_is_adopted() {
    let mut story = Story::new();
    let mut left = foreign("n1:web:80", "web", &[]);
    left.checks.insert("service:n1:web:80".to_owned(), ActualCheck { status: Status::Passing, output: String::new() });
    story.put(left);
    let writes = story.here(running("a", "web")).settle();
    assert_eq!(writes, ["register n1:web:80", "uncheck service:n1:web:80"]);
    assert_eq!(story.container_at("n1:web:80"), id("a"));
    assert!(story.here(running("a", "web")).settle().is_empty());
}

#[test]
fn case_43_the_same_id_under_another_name_is_a_strangers_and_stays() {
    let mut story = Story::new();
    let stranger = foreign("n1:web:80", "mail", &[]);
    story.put(stranger.clone());
    story.here(running("a", "web")).settle();
    assert_eq!(story.ids(), ["n1:web:80", "n1:web:80:aaaaaaaaaaaa"]);
    story.gone("a").settle();
    assert_eq!(story.consul.services["n1:web:80"], stranger);
    assert_eq!(story.ids(), ["n1:web:80"]);
}

#[test]
fn a_strangers_id_is_taken_when_the_stranger_goes_and_left_when_one_comes() {
    let mut story = Story::new();
    story.put(foreign("n1:web:80", "mail", &[]));
    story.here(running("a", "web")).settle();
    story.consul.services.remove("n1:web:80");
    assert_eq!(story.settle(), ["register n1:web:80", "deregister n1:web:80:aaaaaaaaaaaa"]);
    // Somebody registers over ours: it is theirs now.
    story.put(foreign("n1:web:80", "mail", &[("managed-by", "nomad")]));
    assert_eq!(story.settle(), ["register n1:web:80:aaaaaaaaaaaa"]);
    assert_eq!(story.consul.services["n1:web:80"].name, "mail");
}

#[test]
fn look_alikes_of_others_are_never_written() {
    let mut story = Story::new();
    let strangers = [
        foreign("n1:db:5432", "db", &[]),
        foreign("n1:db:5433", "db", &[("managed-by", "remora"), ("remora-node", "n2"), ("remora-engine", "E2")]),
        foreign("n1:db:5434", "db", &[("managed-by", "somebody"), ("container-id", &"d".repeat(64))]),
        foreign("n1:db:5435", "db", &[("container-id", &"d".repeat(64))]),
        foreign("N1:REMORA:ENGINE", "remora", &[]),
    ];
    for stranger in &strangers {
        story.put(stranger.clone());
    }
    story.here(running("d", "other")).settle();
    story.gone("d").settle();
    assert!(story.after(3600).settle().is_empty());
    assert!(story.asks().is_empty());
    for stranger in strangers {
        assert_eq!(story.consul.services[&stranger.id], stranger);
    }
}

#[test]
fn names_that_differ_only_in_case_do_not_share_an_id() {
    let mut story = Story::new();
    story.here(running("a", "Web")).here(running("b", "web")).settle();
    assert_eq!(story.ids(), ["n1:Web:80", "n1:web:80:bbbbbbbbbbbb"]);
    story.gone("a");
    let writes = story.settle();
    assert_eq!(writes.last().map(String::as_str), Some("deregister n1:web:80:bbbbbbbbbbbb"), "{writes:?}");
    assert_eq!(story.ids(), ["n1:web:80"]);
}

#[test]
fn ours_is_not_hidden_by_a_strangers_id_of_another_case() {
    let mut story = Story::new();
    story.here(running("a", "Web")).settle();
    story.put(foreign("n1:web:80", "mail", &[]));
    story.settle();
    story.gone("a").settle();
    assert_eq!(story.ids(), ["n1:web:80"], "ours went, theirs stays");
}

#[test]
fn case_32_one_service_id_on_two_containers_is_two_registrations() {
    let mut story = Story::new();
    let one = |letter: &str, name: &str| labelled(running(letter, name), "SERVICE_ID", "api");
    story.here(one("b", "second")).settle();
    story.here(one("a", "first")).settle();
    assert_eq!(story.ids(), ["api", "api:aaaaaaaaaaaa"], "whoever has it keeps it");
    assert_eq!(story.container_at("api"), id("b"));
    // The holder goes: the other one takes the id over, and its own one goes after that.
    assert_eq!(story.gone("b").write(), ["register api", "deregister api:aaaaaaaaaaaa"]);
    assert_eq!(story.container_at("api"), id("a"));
    assert!(story.settle().is_empty());
}

#[test]
fn no_label_can_take_the_agents_own_service() {
    let mut story = Story::new();
    for letter in ["a", "b"] {
        story.here(labelled(running(letter, letter), "SERVICE_ID", &OWN.to_uppercase())).settle();
    }
    assert_eq!(story.book.own().unwrap().name, "remora");
    assert_eq!(story.consul.services[OWN].name, "remora");
    assert_eq!(story.ids().len(), 2);
    story.gone("a").gone("b").settle();
    assert_eq!(story.consul.services.keys().collect::<Vec<_>>(), [OWN]);
}

// --- an agent that was killed ----------------------------------------------------------------------------------------

#[test]
fn a_restart_with_nothing_changed_writes_nothing_in_whatever_order_things_are_seen() {
    let one = |letter: &str| labelled(running(letter, letter), "SERVICE_ID", "api");
    let mut story = Story::new();
    story.here(one("a")).here(one("b")).here(one("c")).here(running("d", "web")).settle();
    let before = story.consul.clone();
    for order in ["abcd", "dcba", "bdca"] {
        story.restart();
        let mut letters: Vec<String> = order.chars().map(String::from).collect();
        let late = letters.pop().unwrap();
        for letter in letters {
            story.here(if letter == "d" { running("d", "web") } else { one(&letter) });
        }
        assert!(story.settle().is_empty(), "{order}: one of them has not been seen yet");
        story.here(if late == "d" { running("d", "web") } else { one(&late) });
        assert!(story.settle().is_empty(), "{order}");
        assert_eq!(story.consul, before);
    }
}

#[test]
fn what_ended_while_the_agent_was_dead_goes_only_when_docker_has_said_so() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(running("b", "db")).settle();
    story.restart();
    assert!(story.settle().is_empty());
    let mut asks = story.asks();
    asks.sort();
    assert_eq!(asks, [id("a"), id("b")]);
    assert!(story.after(3600).settle().is_empty(), "unknown is not gone");
    assert!(story.asks().is_empty(), "asked once");
    story.here(running("b", "db"));
    assert_eq!(story.gone("a").settle(), ["deregister n1:web:80"]);
    assert_eq!(story.here(ended(running("b", "db"), State::Exited)).settle(), ["deregister n1:db:80"]);
}

#[test]
fn what_took_the_place_of_one_that_is_gone_waits_until_docker_has_said_so() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.restart();
    story.here(running("b", "web"));
    assert!(story.settle().is_empty(), "nobody knows yet what became of the other one");
    assert_eq!(story.asks(), [id("a")]);
    assert_eq!(story.gone("a").settle(), ["register n1:web:80"], "one write");
    assert_eq!(story.container_at("n1:web:80"), id("b"));

    story.restart();
    story.here(running("c", "web"));
    assert!(story.settle().is_empty());
    assert_eq!(story.here(ended(running("b", "web-1"), State::Exited)).settle(), ["register n1:web:80"]);
    assert_eq!(story.container_at("n1:web:80"), id("c"));
}

#[test]
fn gone_before_consul_was_read_is_asked_again_and_then_goes() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.restart();
    story.gone("a");
    assert!(story.settle().is_empty());
    assert_eq!(story.asks(), [id("a")]);
    assert_eq!(story.gone("a").settle(), ["deregister n1:web:80"]);
}

#[test]
fn our_own_service_under_the_nodes_old_name_goes() {
    let mut story = Story::new();
    let mut past = own_service();
    "n0:remora:engine000001".clone_into(&mut past.id);
    past.checks.clear();
    apply(&mut story.consul, &Op::Register(Arc::new(past)));
    assert_eq!(story.settle(), ["deregister n0:remora:engine000001"]);
}

// --- namesakes -------------------------------------------------------------------------------------------------------

#[test]
fn a_living_namesake_is_left_alone_and_a_past_one_is_cleaned_up() {
    let there = "d".repeat(64);
    let mut story = Story::new();
    let agent = ActualService {
        meta: [("managed-by", "remora"), ("remora-node", "n1"), ("remora-engine", "OTHER")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..foreign("n1:remora:other", "remora", &[])
    };
    story.put(agent.clone()).put(foreign("n1:web:80", "web", &namesakes(&there)));
    story.here(running("a", "web")).settle();
    assert_eq!(story.ids(), ["n1:remora:other", "n1:web:80", "n1:web:80:aaaaaaaaaaaa"]);
    assert!(story.after(3600).settle().is_empty());

    // Its agent is gone: nothing for a minute, it may be back.
    story.consul.services.remove("n1:remora:other");
    assert!(story.settle().is_empty());
    assert!(story.after(59).settle().is_empty());
    story.put(agent.clone());
    assert!(story.settle().is_empty());
    story.consul.services.remove("n1:remora:other");
    assert!(story.after(30).settle().is_empty());
    assert!(story.after(59).settle().is_empty(), "the minute begins anew");

    // Now it is what this node was before: asked for, and taken over.
    assert!(story.after(1).settle().is_empty());
    assert_eq!(story.asks(), [id("d")]);
    assert_eq!(story.gone("d").settle(), ["register n1:web:80", "deregister n1:web:80:aaaaaaaaaaaa"]);
}

#[test]
fn a_namesake_that_comes_back_after_all_keeps_what_is_its_own() {
    let there = "d".repeat(64);
    let mut story = Story::new();
    story.put(foreign("n1:web:80", "web", &namesakes(&there)));
    story.here(running("a", "web")).settle();
    // Its minute is over, but before anything could be written its agent is there again.
    story.after(60);
    let agent = [("managed-by", "remora"), ("remora-node", "n1"), ("remora-engine", "OTHER")];
    story.put(foreign("n1:remora:other", "remora", &agent));
    story.settle();
    assert_eq!(story.ids(), ["n1:remora:other", "n1:web:80", "n1:web:80:aaaaaaaaaaaa"]);
    assert_eq!(story.container_at("n1:web:80"), id("d"));
}

// --- other people's hands --------------------------------------------------------------------------------------------

#[test]
fn edits_from_outside_are_repaired_and_counted_once() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let edits: [(Drift, fn(&mut ActualService)); 4] = [
        (Drift::Changed, |service| service.port = 1),
        (Drift::MissingCheck, |service| service.checks.clear()),
        (Drift::ChangedCheck, |service| {
            service.checks.values_mut().for_each(|check| check.status = Status::Critical);
        }),
        (Drift::ForeignCheck, |service| {
            let check = ActualCheck { status: Status::Critical, output: String::new() };
            service.checks.insert("n1:web:80:more".to_owned(), check);
        }),
    ];
    let right = story.consul.services["n1:web:80"].clone();
    for (kind, edit) in edits {
        story.edit("n1:web:80", edit);
        assert_eq!(story.read(), [("n1:web:80".to_owned(), kind)]);
        assert_eq!(story.read(), [], "{kind:?}: counted once");
        assert_eq!(story.write().len(), 1, "{kind:?}");
        assert!(story.settle().is_empty());
        let now = &story.consul.services["n1:web:80"];
        assert_eq!(now.checks.keys().collect::<Vec<_>>(), right.checks.keys().collect::<Vec<_>>());
        assert_eq!(now.port, right.port);
    }
}

#[test]
fn the_probes_of_a_users_own_check_are_no_drift() {
    let mut story = Story::new();
    story.here(labelled(running("a", "web"), "SERVICE_CHECK_HTTP", "/health")).settle();
    let probes: Vec<String> =
        story.consul.services["n1:web:80"].checks.keys().filter(|id| !id.ends_with(":docker")).cloned().collect();
    assert_eq!(probes.len(), 1);
    for status in [Status::Critical, Status::Passing] {
        story.edit("n1:web:80", |service| {
            service.checks.insert(probes[0].clone(), ActualCheck { status, output: "HTTP GET".to_owned() });
        });
        assert_eq!(story.read(), []);
        assert!(story.settle().is_empty());
    }
}

#[test]
fn case_38_lost_registrations_come_back_in_one_write_each() {
    let mut story = Story::new();
    story.here(running("a", "web")).here(running("b", "db")).settle();
    story.consul.services.clear();
    let drift = story.read();
    assert_eq!(drift.len(), 3);
    assert!(drift.iter().all(|(_, kind)| *kind == Drift::Missing));
    let mut writes = story.write();
    writes.sort();
    assert_eq!(writes, ["register n1:db:80".to_owned(), format!("register {OWN}"), "register n1:web:80".to_owned()]);
    assert!(story.settle().is_empty());
}

#[test]
fn what_somebody_removes_again_and_again_comes_back_every_time_it_was_seen() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    for _ in 0..20 {
        story.consul.services.remove("n1:web:80");
        assert_eq!(story.settle(), ["register n1:web:80"]);
    }
}

#[test]
fn what_consul_never_shows_is_told_and_not_written_again_and_again() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let mut writes = 0;
    for _ in 0..1200 {
        story.consul.services.remove("n1:web:80");
        story.after(3).read();
        writes += story.write().len();
    }
    assert!(writes < 30, "{writes} writes in an hour");
    assert!(story.book.failures(9).iter().any(|failure| failure.reason.contains("service:read")));
    // The right is given: what is registered is seen, and all is well.
    story.after(600).write();
    story.settle();
    assert_eq!(story.book.failing(), 0);
}

#[test]
fn an_operators_maintenance_stays() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    let critical = ActualCheck { status: Status::Critical, output: "maintenance".to_owned() };
    story.edit("n1:web:80", |service| {
        service.checks.insert("_service_maintenance:n1:web:80".to_owned(), critical);
    });
    assert_eq!(story.read(), []);
    assert!(story.settle().is_empty());
}

// --- writes and reads that race --------------------------------------------------------------------------------------

#[test]
fn a_read_that_is_older_than_a_write_does_not_undo_it() {
    let mut story = Story::new();
    story.here(running("a", "web"));
    let old = story.consul.clone();
    // The read begins, the write overtakes it, the read answers what was before.
    story.book.reading();
    assert_eq!(story.write(), ["register n1:web:80"]);
    assert_eq!(story.book.read(&old, story.now, || 0.5), []);
    story.recount();
    assert!(story.book.is_ahead(), "the next read has something to say even if it is the same");
    assert!(story.write().is_empty());
    assert!(story.settle().is_empty());

    let old = story.consul.clone();
    story.gone("a");
    story.book.reading();
    assert_eq!(story.write(), ["deregister n1:web:80"]);
    assert_eq!(story.book.read(&old, story.now, || 0.5), []);
    assert!(story.write().is_empty());
    assert!(story.settle().is_empty());
}

#[test]
fn a_read_that_ends_while_a_write_is_under_way_says_nothing_about_it() {
    let mut story = Story::new();
    story.here(running("a", "web"));
    let (at, op) = story.book.next(story.now).unwrap();
    // It has happened, but the answer is still on its way; and somebody else removes it meanwhile.
    assert_eq!(story.read(), []);
    apply(&mut story.consul, &op);
    assert_eq!(story.read(), []);
    story.book.done(&at, &op);
    assert!(story.settle().is_empty());
    assert_eq!(story.ids(), ["n1:web:80"]);
}

#[test]
fn an_interrupted_write_that_happened_is_not_written_again_and_one_that_did_not_is() {
    for happened in [true, false] {
        let mut story = Story::new();
        story.here(running("a", "web"));
        let (at, op) = story.book.next(story.now).unwrap();
        if happened {
            apply(&mut story.consul, &op);
        }
        story.book.interrupted(&at);
        story.recount();
        assert_eq!(story.settle().len(), usize::from(!happened));
        assert_eq!(story.ids(), ["n1:web:80"]);
    }
}

#[test]
fn what_changes_while_a_write_is_under_way_is_written_after_it() {
    let mut story = Story::new();
    story.here(running("a", "web"));
    let (at, op) = story.book.next(story.now).unwrap();
    story.gone("a");
    assert!(story.book.next(story.now).is_none(), "never two writes at once for one id");
    apply(&mut story.consul, &op);
    story.book.done(&at, &op);
    assert_eq!(story.write(), ["deregister n1:web:80"]);
}

#[test]
fn one_refused_registration_holds_up_no_other() {
    let mut story = Story::new();
    story.here(running("a", "bad")).here(running("b", "good"));
    let mut written = Vec::new();
    while let Some((at, op)) = story.book.next(story.now) {
        if at.contains("bad") {
            assert!(story.book.failed(&at, Class::Rejected, "no", story.now, 0.5));
        } else {
            apply(&mut story.consul, &op);
            story.book.done(&at, &op);
            written.push(at);
        }
        story.recount();
    }
    assert_eq!(written, ["n1:good:80"]);
    assert_eq!((story.book.pending(), story.book.failing()), (1, 1));
    // A new definition is tried at once, and what waited for the old one is not pending any more.
    assert_eq!(story.here(labelled(running("a", "bad"), "SERVICE_TAGS", "x")).settle(), ["register n1:bad:80"]);
    assert_eq!((story.book.pending(), story.book.failing()), (0, 0));
}

// --- feeding checks --------------------------------------------------------------------------------------------------

#[test]
fn a_beat_is_one_update_per_check_and_leaves_nothing_behind() {
    let mut story = Story::new();
    story.here(running("a", "web")).settle();
    story.book.beat_all();
    let mut writes = story.write();
    writes.sort();
    assert_eq!(writes, ["update n1:remora:engine000001:docker passing", "update n1:web:80:docker passing"]);
    story.book.beat_own();
    assert_eq!(story.write(), ["update n1:remora:engine000001:docker passing"]);
    // A beat for what goes before it could be fed is forgotten.
    story.book.beat_all();
    story.consul.services.remove("n1:web:80");
    story.read();
    story.gone("a").settle();
    assert_eq!(story.here(running("a", "web")).settle(), ["register n1:web:80"]);
}

#[test]
fn what_the_agent_says_of_itself_is_written_when_its_status_changes() {
    let mut story = Story::new();
    story.book.say(Status::Passing, "fine".to_owned());
    assert!(story.settle().is_empty());
    story.book.say(Status::Critical, "blind".to_owned());
    assert_eq!(story.settle(), ["update n1:remora:engine000001:docker critical"]);
    story.book.say(Status::Critical, "blind".to_owned());
    assert!(story.settle().is_empty());
}

// --- at rest ---------------------------------------------------------------------------------------------------------

#[test]
fn case_39_at_rest_there_is_nothing_to_do() {
    let mut story = Story::new();
    for letter in ["a", "b", "c"] {
        story.here(running(letter, letter));
    }
    story.settle();
    for _ in 0..10 {
        assert_eq!(story.after(3).read(), []);
        story.here(running("b", "b"));
        assert!(story.book.next(story.now).is_none());
        assert_eq!(story.book.next_due(), None);
        assert!(!story.book.is_ahead());
    }
}

#[test]
fn nothing_is_kept_of_what_is_gone() {
    let mut story = Story::new();
    for round in 0..3 {
        story.here(labelled(running("a", "web"), "SERVICE_ID", "api")).here(sharing("b", "side", &"a".repeat(64)));
        story.here(running("c", "other")).settle();
        story.here(running("c", "renamed"));
        if round == 1 {
            // Consul is wiped and Docker's containers go at the same time.
            story.consul.services.clear();
        }
        story.gone("a").gone("b").gone("c").settle();
        let book = &story.book;
        assert!(book.containers.held.is_empty() && book.containers.names.is_empty());
        assert!(book.containers.dependents.is_empty());
        assert!(book.registered.is_empty() && book.gone.is_empty() && book.asked.is_empty() && book.beats.is_empty());
        assert_eq!(book.wanted.len(), 1);
        assert!(book.items.len() <= 1, "{:?}", book.items);
    }
}

#[test]
fn a_users_check_is_registered_with_its_definition() {
    let mut story = Story::new();
    story.here(labelled(running("a", "web"), "SERVICE_CHECK_TTL", "30s"));
    let Some((_, Op::Register(service))) = story.book.next(story.now) else { panic!("a registration") };
    let kinds: Vec<&Check> = service.checks.iter().collect();
    assert!(matches!(kinds[..], [Check { kind: CheckKind::Ttl { .. }, .. }, Check { .. }]), "{kinds:?}");
    assert_eq!(service.checks[0].id, "n1:web:80:docker", "the one that is fed comes first");
}
