//! The registry of a Consul client agent on the node: `/v1/agent/*`.
//!
//! The agent keeps what is registered here true in the catalog by itself (anti-entropy), works without a leader, and
//! answers from memory. What it was told it forgets with its data directory; [`Registry::changed`] notices that at once.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::client::{Call, Client};
use super::error::ConsulError;
use super::model::{ActualService, Check, CheckKind, CheckTls, Service, Snapshot, Status};
use super::registry::{Registry, bounded_output, is_addressable};
use super::wire::{self, ServiceBody, UpdateBody, encode, go_duration};

/// A sentinel that is not there cannot be waited for; so often is it asked for. Also the shortest time that a quiet
/// [`Registry::changed`] takes, should a proxy answer at once what Consul would hold.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Tries for each list, and about so long between two: a Consul that is unwell as a whole is asked less than once in a second all
/// the same, because whole looks at it grow rarer.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);

/// The one field that a label can ask for and that Consul 1.8 does not know: it refuses the whole body for it. A label must
/// not cost a registration, so such a Consul gets the definition without it.
const SERVER_NAME: &str = "TLSServerName";

/// [`Registry`] over the API of a Consul agent.
#[derive(Debug)]
pub struct AgentRegistry {
    client: Client,
    /// Random keys: nobody who can register services can make two lists look alike.
    hasher: RandomState,
    seen: Mutex<Option<Seen>>,
    watched: Mutex<Option<Watched>>,
}

/// The last picture, and what it was made of.
#[derive(Debug)]
struct Seen {
    services: u64,
    checks: u64,
    snapshot: Arc<Snapshot>,
}

/// What the last [`Registry::changed`] found.
#[derive(Debug, Clone)]
struct Watched {
    sentinel: String,
    /// Consul's hash of its registration; `None`: it is not registered.
    hash: Option<String>,
}

impl AgentRegistry {
    /// A registry at the agent that this client speaks to.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, hasher: RandomState::new(), seen: Mutex::new(None), watched: Mutex::new(None) }
    }

    /// The client.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// One of the lists, with another try or two where Consul says that it is unwell: a look takes two lists, and while one of them is
    /// not to be had nothing is written either. Of two servers behind a balancer one may be ill for long.
    pub(super) async fn list(&self, name: &'static str, path: &[&str]) -> Result<Vec<u8>, ConsulError> {
        let mut tries = TRIES;
        let answer = loop {
            tries -= 1;
            match self.client.call(Call::get(name, path)).await {
                Err(ConsulError::Unwell { .. }) if tries > 0 => sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await,
                answer => break answer,
            }
        };
        match answer {
            Ok(answer) => Ok(answer.body),
            // Every Consul has these lists: whoever does not know them is no Consul.
            Err(ConsulError::NotFound { call, .. }) => Err(ConsulError::Unreadable {
                call,
                reason: "404: there is no Consul at this address, or its path is another one".to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, name: &'static str, service: &Service) -> Result<(), ConsulError> {
        let body = encode(name, &ServiceBody::from(service))?;
        self.client.call(Call::put(name, &["v1", "agent", "service", "register"], Some(body))).await.map(drop)
    }

    async fn put(
        &self,
        name: &'static str,
        path: [&str; 4],
        id: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(), ConsulError> {
        addressable(name, id)?;
        let [first, second, third, fourth] = path;
        self.client.call(Call::put(name, &[first, second, third, fourth, id], body)).await.map(drop)
    }

    /// Consul's hash of a service's registration, or `None` if there is no such service. With a hash Consul holds the
    /// answer back until it is another one, or until `wait` is over.
    async fn hash(&self, id: &str, held: Option<(&str, Duration)>) -> Result<Option<String>, ConsulError> {
        let name = "GET /v1/agent/service/:id";
        addressable(name, id)?;
        let path = ["v1", "agent", "service", id];
        let mut call = Call::get(name, &path);
        let wait = held.map(|(_, wait)| go_duration(wait)).unwrap_or_default();
        let query;
        if let Some((hash, wait_for)) = held {
            query = [("hash", hash), ("wait", wait.as_str())];
            call.query = &query;
            call.held = wait_for;
        }
        match self.client.call(call).await {
            Ok(answer) => match answer.headers.get("x-consul-contenthash").and_then(|hash| hash.to_str().ok()) {
                Some(hash) if !hash.is_empty() => Ok(Some(hash.to_owned())),
                _ => Err(ConsulError::Unreadable { call: name, reason: "it has no X-Consul-ContentHash".to_owned() }),
            },
            Err(ConsulError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is not `known` any more by the end of `wait`.
    async fn news(&self, sentinel: &str, known: Option<&str>, wait: Duration) -> Result<Option<String>, ConsulError> {
        let end = Instant::now() + wait;
        let Some(known) = known else {
            // Not there: nothing to wait on, so ask now and then.
            loop {
                sleep(ASK_EVERY.min(end.saturating_duration_since(Instant::now()))).await;
                let now = self.hash(sentinel, None).await?;
                if now.is_some() || Instant::now() >= end {
                    return Ok(now);
                }
            }
        };
        let shortest = Instant::now() + ASK_EVERY.min(wait);
        let now = self.hash(sentinel, Some((known, wait))).await?;
        if now.as_deref() == Some(known) {
            sleep_until(shortest).await;
        }
        Ok(now)
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Option<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for AgentRegistry {
    async fn read(&self) -> Result<Arc<Snapshot>, ConsulError> {
        self.read_after(Vec::new()).await
    }

    async fn read_after(&self, written: Vec<Arc<ActualService>>) -> Result<Arc<Snapshot>, ConsulError> {
        // One after the other, in this order: a service is registered together with its checks, so whoever is in the first
        // list has its checks in the second. The other way round, or at once, a service registered meanwhile would look
        // as if its checks were missing.
        let services = self.list("GET /v1/agent/services", &["v1", "agent", "services"]).await?;
        let checks = self.list("GET /v1/agent/checks", &["v1", "agent", "checks"]).await?;
        let hashes = (self.hasher.hash_one(&services), self.hasher.hash_one(&checks));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.as_ref().filter(|seen| (seen.services, seen.checks) == hashes) {
            return Ok(Arc::clone(&seen.snapshot));
        }
        let older = seen.as_ref().map(|seen| Arc::clone(&seen.snapshot)).unwrap_or_default();
        let fresh = wire::snapshot(&services, &checks, &older.with(written))?;
        // Something changed that nobody reads: still the same picture.
        let snapshot = if *older == fresh { older } else { Arc::new(fresh) };
        *seen = Some(Seen { services: hashes.0, checks: hashes.1, snapshot: Arc::clone(&snapshot) });
        Ok(snapshot)
    }

    fn keep(&self, snapshot: &Arc<Snapshot>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.as_mut().filter(|seen| seen.snapshot == *snapshot) {
            seen.snapshot = Arc::clone(snapshot);
        }
    }

    async fn find(&self, service_id: &str) -> Result<Option<ActualService>, ConsulError> {
        let name = "GET /v1/agent/service/:id";
        addressable(name, service_id)?;
        // One entry of a map to Consul. A filter would find an id in another case, too, and cost it a look at all that it has, for
        // each registration. The next read finds that one.
        match self.client.call(Call::get(name, &["v1", "agent", "service", service_id])).await {
            Ok(answer) => wire::service(name, &answer.body).map(|found| Some(found).filter(|it| it.id == service_id)),
            Err(ConsulError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn credentials(&self) -> u64 {
        self.client.credentials()
    }

    // Without `replace-existing-checks`: it would cancel a maintenance mode that an operator has set.
    async fn register(&self, service: &Service) -> Result<(), ConsulError> {
        let name = "PUT /v1/agent/service/register";
        addressable(name, &service.id)?;
        service.checks.iter().try_for_each(|check| addressable(name, &check.id))?;
        match self.send(name, service).await {
            Err(ConsulError::Invalid { message, .. }) if message.contains(SERVER_NAME) && has_server_name(service) => {
                tracing::warn!(event = "server_name_left_out", service = %service.id, "{}: this Consul does not know {SERVER_NAME} in a check (1.9 and newer do); registered without it", service.id);
                self.send(name, &without_server_names(service)).await
            }
            result => result,
        }
    }

    async fn deregister(&self, service_id: &str) -> Result<(), ConsulError> {
        let name = "PUT /v1/agent/service/deregister/:id";
        gone(self.put(name, ["v1", "agent", "service", "deregister"], service_id, None).await)
    }

    async fn update_check(&self, check_id: &str, status: Status, output: &str) -> Result<(), ConsulError> {
        let name = "PUT /v1/agent/check/update/:id";
        let body = encode(name, &UpdateBody { status: status.as_str(), output: bounded_output(output) })?;
        self.put(name, ["v1", "agent", "check", "update"], check_id, Some(body)).await
    }

    async fn remove_check(&self, check_id: &str) -> Result<(), ConsulError> {
        let name = "PUT /v1/agent/check/deregister/:id";
        gone(self.put(name, ["v1", "agent", "check", "deregister"], check_id, None).await)
    }

    async fn strays(&self) -> Result<Vec<ActualService>, ConsulError> {
        self.find_strays().await
    }

    async fn bury(&self, stray: &ActualService) -> Result<(), ConsulError> {
        self.bury_stray(stray).await
    }

    async fn changed(&self, sentinel: &str, wait: Duration) -> Result<bool, ConsulError> {
        // Zero would be Consul's own default of minutes.
        let wait = wait.max(Duration::from_millis(1));
        let before = self.watched().clone().filter(|watched| watched.sentinel == sentinel);
        let outcome = match &before {
            None => self.hash(sentinel, None).await,
            Some(watched) => self.news(sentinel, watched.hash.as_deref(), wait).await,
        };
        // An answer that never came (this future was dropped) leaves what was known: nothing is missed.
        match outcome {
            Ok(hash) => {
                let changed = before.is_none_or(|watched| watched.hash != hash);
                *self.watched() = Some(Watched { sentinel: sentinel.to_owned(), hash });
                Ok(changed)
            }
            Err(error) => {
                *self.watched() = None;
                Err(error)
            }
        }
    }
}

fn addressable(call: &'static str, id: &str) -> Result<(), ConsulError> {
    if is_addressable(id) {
        return Ok(());
    }
    let message = format!("the id {id:?} cannot be part of a path: between slashes it needs more than dots");
    Err(ConsulError::Invalid { call, message })
}

/// What should not exist does not: done.
fn gone(outcome: Result<(), ConsulError>) -> Result<(), ConsulError> {
    match outcome {
        Err(ConsulError::NotFound { .. }) => Ok(()),
        other => other,
    }
}

fn tls_of(check: &mut Check) -> Option<&mut CheckTls> {
    match Arc::make_mut(&mut check.kind) {
        CheckKind::Http { tls, .. } | CheckKind::Grpc { tls, .. } => Some(tls),
        CheckKind::Ttl { .. } | CheckKind::Tcp { .. } | CheckKind::Script { .. } => None,
    }
}

fn has_server_name(service: &Service) -> bool {
    service.checks.iter().any(|check| match &*check.kind {
        CheckKind::Http { tls, .. } | CheckKind::Grpc { tls, .. } => tls.server_name.is_some(),
        CheckKind::Ttl { .. } | CheckKind::Tcp { .. } | CheckKind::Script { .. } => false,
    })
}

fn without_server_names(service: &Service) -> Service {
    let mut service = service.clone();
    for tls in service.checks.iter_mut().filter_map(tls_of) {
        tls.server_name = None;
    }
    service
}
