//! What the fake knows, and what becomes of it.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use remora::docker::{
    Binding, Container, ContainerId, DockerError, Endpoint, Event, EventKind, EventStream, EventTime, Health,
    HealthStatus, Listing, NetworkMode, Port, RestartName, State as Status, Summary,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::behaviour::{Act, Behaviour};
use super::{EPOCH, Inside, Mood, RING, Shared, Wish, has_process, summary};

/// The restart policy waits so long before the first restart, twice as long before the next, and so on.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// And never longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// After a run of this length the waits begin anew.
const GOOD_RUN: Duration = Duration::from_secs(10);

impl Shared {
    /// Notes whether something is wrong now.
    pub(super) fn note(&mut self) {
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
    pub(super) fn stamp(&mut self) -> i64 {
        let elapsed = i64::try_from(self.begun.elapsed().as_nanos()).unwrap();
        self.last_stamp = (EPOCH + elapsed).max(self.last_stamp + 1);
        self.last_stamp
    }

    /// Random-looking, as real ones are, and never two with the same beginning, not even on two engines.
    pub(super) fn hexadecimal(&mut self) -> String {
        self.made += 1;
        let mut seed = std::hash::DefaultHasher::new();
        self.engine_id.hash(&mut seed);
        let number = self.made.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.finish();
        format!("{number:016x}").repeat(4)
    }

    /// What stands in the way of a start, as the engine words it.
    pub(super) fn obstacle(&self, id: &ContainerId) -> Result<(), (u16, String)> {
        let inside = &self.containers[id];
        if let NetworkMode::Container(owner) = &inside.facts.network_mode {
            match self.find(owner) {
                None => return Err((404, format!("No such container: {owner}"))),
                Some(owner) if !has_process(&owner.facts.state) => {
                    let owner = owner.facts.id.as_str();
                    return Err((409, format!("cannot join network of a non running container: {owner}")));
                }
                Some(_) => {}
            }
        }
        for (name, wish) in &inside.endpoints {
            let present = self.networks.get(name.as_str()).and_then(|network| network["Id"].as_str());
            if present.is_none_or(|present| wish.network_id.as_deref().is_some_and(|known| known != present)) {
                return Err((404, format!("network {} not found", wish.network_id.as_deref().unwrap_or(name))));
            }
        }
        if let Some(fault) = self.behaviour(inside).start_fails {
            return Err(fault);
        }
        for other in self.containers.values().filter(|other| has_process(&other.facts.state)) {
            let fixed = inside.published.iter().filter(|(_, host_port)| **host_port != 0);
            for (port, host_port) in fixed {
                let taken = other.facts.bindings.iter().any(|(bound, bindings)| {
                    bound.protocol == port.protocol && bindings.iter().any(|binding| binding.host_port == *host_port)
                });
                if taken {
                    let name = &inside.facts.name;
                    return Err((
                        500,
                        format!(
                            "driver failed programming external connectivity on endpoint {name} (feed): Bind for \
                             0.0.0.0:{host_port} failed: port is already allocated"
                        ),
                    ));
                }
            }
            for (name, wish) in &inside.endpoints {
                let theirs = other.facts.networks.get(name.as_str()).and_then(|endpoint| endpoint.ipv4);
                if wish.fixed_address().is_some_and(|address| theirs == Some(address)) {
                    return Err((403, "Address already in use".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// A start as the engine does it: it may fail, and then says so in the container's state.
    pub(super) fn try_start(&mut self, call: &'static str, id: &ContainerId) -> Result<(), DockerError> {
        let Err((status, message)) = self.obstacle(id) else {
            self.start(id);
            return Ok(());
        };
        let exit_code = if self.behaviour(&self.containers[id]).start_fails.is_some() { 127 } else { 128 };
        let inside = self.containers.get_mut(id).unwrap();
        inside.facts.life.error = message.as_str().into();
        inside.facts.exit_code = exit_code;
        inside.touched = Instant::now();
        if inside.facts.life.auto_remove {
            self.destroy(id);
        }
        if status == 404 && message.starts_with("No such container") {
            return Err(DockerError::NotFound(message));
        }
        Err(DockerError::Refused { call, status, message })
    }

    pub(super) fn start(&mut self, id: &ContainerId) {
        let started_at = Some(EventTime(self.stamp()));
        let [.., third, fourth] = self.made.to_be_bytes();
        let mut port = self.last_port;
        let Some(inside) = self.containers.get_mut(id) else { panic!("no such container: {id}") };
        if has_process(&inside.facts.state) && inside.facts.state != Status::Restarting {
            return;
        }
        let facts = &mut inside.facts;
        let again = facts.state == Status::Restarting;
        if !again {
            facts.restart_count = 0;
            inside.wait = Duration::ZERO;
        }
        inside.cancelled = false;
        inside.run += 1;
        inside.started = Instant::now();
        facts.state = Status::Running;
        facts.exit_code = 0;
        facts.oom_killed = false;
        facts.life.error = "".into();
        facts.started_at = started_at;
        let starting = Health { status: HealthStatus::Starting, failing_streak: 0, exit_code: None, output: "".into() };
        facts.health = facts.life.probe.is_some().then_some(Box::new(starting));
        for (number, (name, wish)) in (17..).zip(&mut inside.endpoints) {
            let known = self.networks.get(name.as_str()).and_then(|network| network["Id"].as_str());
            wish.network_id = known.map(ToOwned::to_owned);
            let isolated = matches!(name.as_str(), "host" | "none");
            let address = wish.fixed_address().unwrap_or(Ipv4Addr::new(172, number, third, fourth));
            let endpoint = Endpoint { ipv4: (!isolated).then_some(address), ipv6: None };
            facts.networks.insert(name.clone().into(), endpoint);
        }
        if !matches!(facts.network_mode, NetworkMode::Container(_) | NetworkMode::Host | NetworkMode::None) {
            facts.bindings = inside
                .published
                .iter()
                .map(|(&inner, &asked)| {
                    if asked == 0 {
                        port = if port == u16::MAX { 32_768 } else { port + 1 };
                    }
                    let host_port = if asked == 0 { port } else { asked };
                    (inner, [Binding { host_ip: Ipv4Addr::UNSPECIFIED.into(), host_port }].into())
                })
                .collect();
        }
        self.last_port = port;
        let (run, networks) = (inside.run, inside.endpoints.len());
        for _ in 0..networks {
            self.emit(id, EventKind::Other("connect".to_owned()));
        }
        self.emit(id, EventKind::Start);
        for (after, act) in self.behaviour(&self.containers[id]).acts {
            self.later(id, run, after, act);
        }
    }

    pub(super) fn behaviour(&self, inside: &Inside) -> Behaviour {
        let rule = self.behaviours.iter().rev().find(|(whom, _)| whom.is(&inside.facts));
        rule.map(|(_, behaviour)| behaviour.clone()).unwrap_or_default()
    }

    fn later(&self, id: &ContainerId, run: u64, after: Duration, act: Act) {
        let (me, id) = (self.me.clone(), id.clone());
        tokio::spawn(async move {
            sleep(after).await;
            if let Some(shared) = me.upgrade() {
                shared.lock().unwrap().act(&id, run, act);
            }
        });
    }

    fn act(&mut self, id: &ContainerId, run: u64, act: Act) {
        if self.containers.get(id).is_none_or(|inside| inside.run != run) {
            return;
        }
        match act {
            Act::Healthy => self.health(id, HealthStatus::Healthy, "well"),
            Act::Unhealthy => self.health(id, HealthStatus::Unhealthy, "sick"),
            Act::Exit(code) => self.end(id, code),
            Act::OutOfMemory => {
                self.emit(id, EventKind::Other("oom".to_owned()));
                self.facts(id).oom_killed = true;
                self.end(id, 137);
            }
            Act::Again => {
                if self.facts(id).state == Status::Restarting
                    && self.try_start("POST /containers/{id}/start", id).is_err()
                    && self.containers.contains_key(id)
                {
                    self.facts(id).state = Status::Exited;
                }
            }
        }
    }

    /// What its HEALTHCHECK finds; only that of a running container finds anything.
    pub(super) fn health(&mut self, id: &ContainerId, status: HealthStatus, output: &str) {
        let facts = self.facts(id);
        if let (Status::Running, Some(health)) = (&facts.state, &mut facts.health) {
            let news = health.status != status;
            let exit_code = Some(i64::from(status == HealthStatus::Unhealthy));
            **health = Health { status, failing_streak: 0, exit_code, output: output.into() };
            if news {
                self.emit(id, EventKind::Other("health_status".to_owned()));
            }
        }
    }

    /// Its process ends by itself, and the engine does what its restart policy says.
    pub(super) fn end(&mut self, id: &ContainerId, code: i64) {
        let Some(inside) = self.containers.get_mut(id) else { return };
        let policy = &inside.facts.life.restart_policy;
        let retries = policy.maximum_retries;
        let again = !inside.cancelled
            && match policy.name {
                RestartName::Always | RestartName::UnlessStopped => true,
                RestartName::OnFailure => code != 0 && (retries == 0 || inside.facts.restart_count < retries),
                RestartName::No | RestartName::Unknown(_) => false,
            };
        let doubled = if inside.started.elapsed() >= GOOD_RUN { Duration::ZERO } else { inside.wait * 2 };
        let (run, wait) = (inside.run, doubled.clamp(FIRST_WAIT, LONGEST_WAIT));
        inside.wait = wait;
        self.die(id, code, again);
        if again {
            self.later(id, run, wait, Act::Again);
        }
    }

    pub(super) fn die(&mut self, id: &ContainerId, code: i64, again: bool) {
        let remove = !again && self.containers.get(id).is_some_and(|inside| inside.facts.life.auto_remove);
        self.over(id, code, again, remove);
    }

    /// The end of a process, in a container that is removed for it or not.
    pub(super) fn over(&mut self, id: &ContainerId, code: i64, again: bool, remove: bool) {
        let finished_at = Some(EventTime(self.stamp()));
        let Some(inside) = self.containers.get_mut(id) else { return };
        if !has_process(&inside.facts.state) {
            return;
        }
        let facts = &mut inside.facts;
        facts.finished_at = finished_at;
        facts.exit_code = code;
        facts.bindings.clear();
        facts.networks.iter_mut().for_each(|(_, endpoint)| *endpoint = Endpoint::default());
        facts.state = if again { Status::Restarting } else { Status::Exited };
        facts.restart_count += u64::from(again);
        let networks = inside.endpoints.len();
        self.tell(id, EventKind::Die, Some(code));
        for _ in 0..networks {
            self.emit(id, EventKind::Other("disconnect".to_owned()));
        }
        if remove {
            self.destroy(id);
        }
    }

    pub(super) fn destroy(&mut self, id: &ContainerId) {
        self.containers.remove(id);
        self.emit(id, EventKind::Destroy);
    }

    /// `docker kill -s`: KILL ends it, every other signal is ignored by its process. Nearly every signal switches its restart
    /// policy off.
    pub(super) fn signal(&mut self, id: &ContainerId, signal: u8) {
        if let Some(inside) = self.containers.get_mut(id) {
            let configured = inside.config["StopSignal"].is_string();
            inside.cancelled |= !configured || signal == 9 || signal == inside.facts.stop_signal.0;
        }
        self.emit(id, EventKind::Kill(Some(signal)));
        if signal == 9 {
            self.die(id, 137, false);
        }
    }

    /// `docker network connect`; who does not run is told of at its start.
    pub(super) fn attach(&mut self, id: &ContainerId, network: &str, config: &Value) {
        let inside = self.containers.get_mut(id).expect("no such container");
        let wish = Wish { config: config.clone(), network_id: None };
        let runs = matches!(inside.facts.state, Status::Running | Status::Paused);
        let address = wish.fixed_address().unwrap_or(Ipv4Addr::new(172, 30, 0, 2));
        inside.endpoints.insert(network.to_owned(), wish);
        let endpoint = Endpoint { ipv4: runs.then_some(address), ipv6: None };
        inside.facts.networks.insert(network.into(), endpoint);
        if runs {
            self.emit(id, EventKind::Other("connect".to_owned()));
        }
    }

    /// `docker rm -f`.
    pub(super) fn remove(&mut self, id: &ContainerId) {
        if matches!(self.facts(id).state, Status::Running | Status::Paused) {
            self.emit(id, EventKind::Kill(Some(9)));
        }
        if has_process(&self.facts(id).state) {
            self.die(id, 137, false);
        }
        if self.containers.contains_key(id) {
            self.destroy(id);
        }
    }

    /// What its restart policies make of a daemon that starts.
    pub(super) fn revive(&mut self) {
        let due = self.containers.iter().filter(|(_, inside)| {
            let was_started = inside.run > 0 && !has_process(&inside.facts.state);
            was_started
                && match inside.facts.life.restart_policy.name {
                    RestartName::Always => true,
                    RestartName::UnlessStopped => !inside.cancelled,
                    RestartName::OnFailure => !inside.cancelled && inside.facts.exit_code != 0,
                    RestartName::No | RestartName::Unknown(_) => false,
                }
        });
        let ids: Vec<ContainerId> = due.map(|(id, _)| id.clone()).collect();
        for id in ids {
            // One that cannot be started stays ended, and says why.
            let _ended = self.try_start("POST /containers/{id}/start", &id);
        }
    }

    pub(super) fn emit(&mut self, id: &ContainerId, kind: EventKind) {
        self.tell(id, kind, None);
    }

    fn tell(&mut self, id: &ContainerId, kind: EventKind, exit_code: Option<i64>) {
        let time = EventTime(self.stamp());
        if let Some(inside) = self.containers.get_mut(id) {
            inside.touched = Instant::now();
        }
        if self.forgetful {
            return;
        }
        let event = Event { container: id.clone(), kind, time, exit_code };
        self.listeners.retain(|listener| listener.send(Ok(event.clone())).is_ok());
        self.ring.push_back(event);
        if self.ring.len() > RING {
            self.ring.pop_front();
        }
    }

    pub(super) fn listen(&mut self, since: Option<EventTime>) -> EventStream {
        let (listener, mut events) = mpsc::unbounded_channel();
        let is_asked = |event: &&Event| since.is_some_and(|since| event.time >= since);
        let remembered: Vec<_> = self.ring.iter().filter(is_asked).cloned().map(Ok).collect();
        self.listeners.push(listener);
        let late = self.late_memory;
        let remembered = stream::once(async move {
            if !late.is_zero() {
                sleep(late).await;
            }
            stream::iter(remembered)
        });
        remembered.flatten().chain(stream::poll_fn(move |context| events.poll_recv(context))).boxed()
    }

    pub(super) fn find(&self, id_or_name: &str) -> Option<&Inside> {
        let by_name = self.containers.values().find(|inside| inside.facts.name == id_or_name);
        let by_prefix = || {
            let is_it = |id: &ContainerId| id_or_name.len() >= 12 && id.as_str().starts_with(id_or_name);
            self.containers.iter().find(|(id, _)| is_it(id)).map(|(_, inside)| inside)
        };
        by_name.or_else(by_prefix)
    }

    pub(super) fn facts(&mut self, id: &ContainerId) -> &mut Container {
        match self.containers.get_mut(id) {
            Some(inside) => &mut inside.facts,
            None => panic!("no such container: {id}"),
        }
    }

    /// A network that is there, with another id if it was there before.
    pub(super) fn make_network(&mut self, name: &str) {
        let id = self.hexadecimal();
        self.networks.insert(name.to_owned(), json!({"Name": name, "Id": id, "Driver": "bridge"}));
    }

    pub(super) fn image(&self, reference: &str) -> Option<&Value> {
        let by_id = || self.images.values().find(|image| image["Id"] == reference);
        self.images.get(reference).or_else(by_id)
    }

    pub(super) fn look(&self, id_or_name: &str) -> Result<Container, DockerError> {
        let Some(inside) = self.find(id_or_name) else { return Err(DockerError::NotFound(id_or_name.to_owned())) };
        let id = &inside.facts.id;
        if self.unreadable.contains(id) {
            let reason = "a field has another type than expected".to_owned();
            return Err(DockerError::Unreadable { call: "GET /containers/{id}/json", reason });
        }
        let mut facts = inside.facts.clone();
        if let Some(word) = self.odd_states.get(id) {
            facts.state = Status::Unknown(word.clone().into());
        }
        // What the engine says about the health of whatever does not simply run.
        if let Some(health) = facts.health.as_mut().filter(|_| facts.state != Status::Running) {
            health.status = HealthStatus::Unhealthy;
        }
        Ok(facts)
    }

    pub(super) fn listing(&self) -> Listing {
        let readable = self.containers.keys().filter(|id| !self.unreadable.contains(*id));
        let containers: Vec<Summary> =
            readable.filter_map(|id| self.look(id.as_str()).ok()).map(|facts| summary(&facts)).collect();
        Listing { unreadable: self.containers.len() - containers.len(), containers }
    }
}

/// Host ports by the container's port; 0 is another one at every start.
pub(super) type Published = BTreeMap<Port, u16>;
