//! A Consul agent in memory, for scenario tests on a paused clock. It passes the same conformance suite as the real one
//! (`tests/conformance.rs`), and can be made to fail, to be slow, to forget, and to be edited by others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]
#![allow(dead_code, reason = "each test binary uses its own part of this fake")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use litemap::LiteMap;
use remora::consul::registry::{bounded_output, is_addressable};
use remora::consul::{ActualCheck, ActualService, CheckKind, ConsulError, Registry, Service, Snapshot, Status};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// The sentinel that was waited for last, and what it was.
type Watched = Option<(String, Option<ActualService>)>;

/// Clones are the same client of the same Consul.
#[derive(Clone)]
pub struct FakeConsul {
    shared: Arc<Shared>,
    /// What this client's last [`Registry::changed`] found.
    watched: Arc<Mutex<Watched>>,
}

struct Shared {
    state: Mutex<State>,
    /// Moves with every change of a registration.
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    snapshot: Arc<Snapshot>,
    /// Checks that are fed from outside; all others Consul would probe by itself.
    fed: Vec<String>,
    faults: VecDeque<ConsulError>,
    outage: Option<ConsulError>,
    latency: Duration,
    calls: Vec<FakeCall>,
}

/// What was asked of the fake, faulty calls included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FakeCall {
    /// [`Registry::read`].
    Read,
    /// [`Registry::register`] of this id.
    Register(String),
    /// [`Registry::deregister`] of this id.
    Deregister(String),
    /// [`Registry::update_check`] of this check.
    UpdateCheck(String, Status),
    /// [`Registry::remove_check`] of this check.
    RemoveCheck(String),
    /// [`Registry::changed`].
    Changed,
}

impl FakeCall {
    /// Whether it would be a write to Consul.
    pub const fn is_write(&self) -> bool {
        !matches!(self, Self::Read | Self::Changed)
    }
}

impl Default for FakeConsul {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeConsul {
    /// An agent that knows nothing.
    pub fn new() -> Self {
        let shared = Shared { state: Mutex::default(), revision: watch::Sender::new(0) };
        Self { shared: Arc::new(shared), watched: Arc::default() }
    }

    /// Another client of the same Consul.
    pub fn another_client(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), watched: Arc::default() }
    }

    /// The next `calls` calls fail with this error, after the faults that were asked for earlier.
    pub fn fail_next(&self, calls: usize, error: &ConsulError) {
        self.state().faults.extend(std::iter::repeat_n(error.clone(), calls));
    }

    /// Every call fails with this error until `None`. A `changed` under way ends, as its connection would.
    pub fn fail_all(&self, error: Option<ConsulError>) {
        self.state().outage = error;
        self.moved();
    }

    /// Every call takes so long.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Forgets everything that was registered.
    pub fn wipe(&self) {
        self.edit(|snapshot| snapshot.services.clear());
    }

    /// Changes what is registered, as an operator or another program would.
    pub fn edit(&self, edit: impl FnOnce(&mut Snapshot)) {
        edit(Arc::make_mut(&mut self.state().snapshot));
        self.moved();
    }

    /// What is registered, without a call.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state().snapshot)
    }

    /// What was asked so far, in order.
    pub fn calls(&self) -> Vec<FakeCall> {
        self.state().calls.clone()
    }

    /// What was written so far, in order.
    pub fn writes(&self) -> Vec<FakeCall> {
        self.state().calls.iter().filter(|call| call.is_write()).cloned().collect()
    }

    /// Forgets what was asked so far.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no test panics while it holds the fake's state")
    }

    fn watched(&self) -> MutexGuard<'_, Option<(String, Option<ActualService>)>> {
        self.watched.lock().expect("no test panics while it holds the fake's state")
    }

    fn moved(&self) {
        self.shared.revision.send_modify(|revision| *revision += 1);
    }

    /// Notes the call, takes its time, and fails it if it is to fail.
    async fn begin(&self, call: FakeCall) -> Result<(), ConsulError> {
        let latency = {
            let mut state = self.state();
            state.calls.push(call);
            state.latency
        };
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let mut state = self.state();
        match state.faults.pop_front().or_else(|| state.outage.clone()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn registration(&self, id: &str) -> Result<Option<ActualService>, ConsulError> {
        let state = self.state();
        if let Some(error) = &state.outage {
            return Err(error.clone());
        }
        let found = state.snapshot.services.get(id);
        Ok(found.map(|service| ActualService { checks: LiteMap::new(), ..ActualService::clone(service) }))
    }
}

impl Registry for FakeConsul {
    async fn read(&self) -> Result<Arc<Snapshot>, ConsulError> {
        self.begin(FakeCall::Read).await?;
        Ok(self.snapshot())
    }

    async fn find(&self, service_id: &str) -> Result<Option<ActualService>, ConsulError> {
        self.begin(FakeCall::Read).await?;
        self.registration(service_id)
    }

    async fn register(&self, service: &Service) -> Result<(), ConsulError> {
        self.begin(FakeCall::Register(service.id.to_string())).await?;
        valid(service)?;
        {
            let mut state = self.state();
            let mut snapshot = (*state.snapshot).clone();
            for check in &service.checks {
                // A check id belongs to one service: the last one takes it, with the status that it has.
                for (id, other) in &mut snapshot.services {
                    if *id != service.id {
                        Arc::make_mut(other).checks.remove(&check.id);
                    }
                }
                state.fed.retain(|fed| *fed != check.id);
                if matches!(*check.kind, CheckKind::Ttl { .. }) {
                    state.fed.push(check.id.to_string());
                }
            }
            let before = snapshot.services.remove(&service.id);
            let before = before.map(Arc::unwrap_or_clone);
            snapshot.services.insert(service.id.clone(), Arc::new(registered(service, before)));
            if snapshot != *state.snapshot {
                state.snapshot = Arc::new(snapshot);
            }
        }
        self.moved();
        Ok(())
    }

    async fn deregister(&self, service_id: &str) -> Result<(), ConsulError> {
        self.begin(FakeCall::Deregister(service_id.to_owned())).await?;
        if self.snapshot().services.contains_key(service_id) {
            self.edit(|snapshot| drop(snapshot.services.remove(service_id)));
        }
        Ok(())
    }

    async fn update_check(&self, check_id: &str, status: Status, output: &str) -> Result<(), ConsulError> {
        self.begin(FakeCall::UpdateCheck(check_id.to_owned(), status)).await?;
        let snapshot = self.snapshot();
        let owner = snapshot.services.values().find(|service| service.checks.contains_key(check_id));
        let fed = self.state().fed.iter().any(|fed| fed == check_id);
        let (Some(owner), true) = (owner, fed) else {
            return Err(ConsulError::NotFound {
                call: "PUT /v1/agent/check/update/:id",
                message: format!("CheckID {check_id:?} does not have associated TTL"),
            });
        };
        let now = ActualCheck { status, output: bounded_output(output).into() };
        if owner.checks.get(check_id) != Some(&now) {
            let id = owner.id.clone();
            drop(snapshot);
            self.edit(|snapshot| {
                if let Some(service) = snapshot.services.get_mut(&id) {
                    Arc::make_mut(service).checks.insert(check_id.into(), now);
                }
            });
        }
        Ok(())
    }

    async fn remove_check(&self, check_id: &str) -> Result<(), ConsulError> {
        self.begin(FakeCall::RemoveCheck(check_id.to_owned())).await?;
        if self.snapshot().services.values().any(|service| service.checks.contains_key(check_id)) {
            self.edit(|snapshot| {
                for service in snapshot.services.values_mut() {
                    Arc::make_mut(service).checks.remove(check_id);
                }
            });
        }
        Ok(())
    }

    async fn changed(&self, sentinel: &str, wait: Duration) -> Result<bool, ConsulError> {
        if let Err(error) = self.begin(FakeCall::Changed).await {
            *self.watched() = None;
            return Err(error);
        }
        let end = Instant::now() + wait;
        let mut revision = self.shared.revision.subscribe();
        loop {
            let now = self.registration(sentinel).inspect_err(|_| *self.watched() = None)?;
            let before = self.watched().clone().filter(|(id, _)| id == sentinel);
            if before.is_none_or(|(_, before)| before != now) {
                *self.watched() = Some((sentinel.to_owned(), now));
                return Ok(true);
            }
            if timeout_at(end, revision.changed()).await.is_err() {
                return Ok(false);
            }
        }
    }
}

/// What Consul would make of a registration.
fn registered(service: &Service, before: Option<ActualService>) -> ActualService {
    let mut checks = before.map(|before| before.checks).unwrap_or_default();
    for check in &service.checks {
        checks.entry(check.id.clone()).or_insert_with(|| ActualCheck { status: check.status, output: "".into() });
    }
    // What Consul adds by itself is left out of a snapshot.
    let tagged_addresses =
        service.tagged_addresses.iter().map(|(key, tagged)| (key.clone(), (tagged.address.clone(), tagged.port)));
    let weights = service.weights.unwrap_or_default();
    ActualService {
        id: service.id.clone(),
        name: service.name.clone(),
        address: service.address.clone(),
        port: service.port,
        tags: service.tags.clone(),
        meta: service.meta.clone(),
        tagged_addresses: tagged_addresses.collect(),
        weights: (weights.passing, weights.warning),
        enable_tag_override: service.enable_tag_override,
        checks,
    }
}

/// What Consul would refuse.
fn valid(service: &Service) -> Result<(), ConsulError> {
    let mut ids = std::iter::once(&service.id).chain(service.checks.iter().map(|check| &check.id));
    let complaint = if let Some(id) = ids.find(|id| !is_addressable(id)) {
        format!("the id {id:?} cannot be part of a path")
    } else if service.name.is_empty() {
        "Missing service name".to_owned()
    } else if matches!(service.address.as_str(), "0.0.0.0" | "::" | "[::]") {
        "Invalid service address".to_owned()
    } else if service.meta.len() > 64 {
        "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs".to_owned()
    } else if let Some((key, _)) = service.meta.iter().find(|(key, value)| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        key.is_empty() || key.len() > 128 || value.len() > 512 || key.starts_with("consul-") || !key.chars().all(good)
    }) {
        format!("Invalid Service Meta: Couldn't load metadata pair ({key:?})")
    } else {
        return Ok(());
    };
    Err(ConsulError::Invalid { call: "PUT /v1/agent/service/register", message: complaint })
}
