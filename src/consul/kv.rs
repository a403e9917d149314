//! [`Store`] over the HTTP API of a Consul agent: `/v1/kv`, `/v1/session`, and two looks at the catalog.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::time::{Instant, sleep_until};

use super::client::{Answer, Call, Client};
use super::error::ConsulError;
use super::registry::is_addressable;
use super::store::{Entry, InstanceHealth, Listing, RELEASED, Store, VALUE_LIMIT, is_key};
use super::wire::{self, SessionAnswer, SessionBody, decode, encode, go_duration};

/// The shortest time that a quiet blocking query takes, should a proxy answer at once what Consul would hold.
const SHORTEST: Duration = Duration::from_secs(1);

/// [`Store`] at the Consul agent that a client speaks to.
#[derive(Debug, Clone)]
pub struct KvStore {
    client: Client,
    /// Sessions are this node's; `None`: the node's of the agent that is spoken to.
    node: Option<String>,
}

impl KvStore {
    /// A store at the agent that this client speaks to.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client, node: None }
    }

    /// The same for a node of the catalog without an agent: its sessions are its own, and end with it.
    #[must_use]
    pub fn on_node(client: Client, node: &str) -> Self {
        Self { client, node: Some(node.to_owned()) }
    }

    /// Reads keys; `None` is Consul's own word that there are none.
    async fn read(
        &self,
        name: &'static str,
        key: &str,
        query: &[(&str, &str)],
        held: Duration,
    ) -> Result<(HeaderMap, Vec<(String, Entry)>), ConsulError> {
        let path = path_of(key);
        let call = Call { query, held, may_be_missing: true, ..Call::get(name, &path) };
        let Answer { headers, body, missing, .. } = self.client.call(call).await?;
        if !missing {
            let entries = wire::entries_of_kv(name, &body)?;
            return Ok((headers, entries));
        }
        // A proxy, or another program at this address, says 404 too.
        if headers.contains_key(INDEX) { Ok((headers, Vec::new())) } else { Err(no_consul(name)) }
    }

    /// Changes a key; Consul answers `true` or `false`.
    async fn write(
        &self,
        name: &'static str,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        value: Option<&[u8]>,
    ) -> Result<bool, ConsulError> {
        nameable(name, key)?;
        if let Some(length) = value.map(<[u8]>::len).filter(|length| *length > VALUE_LIMIT) {
            let message = format!("the value of {key:?} has {length} bytes, at most {VALUE_LIMIT} are allowed");
            return Err(ConsulError::Invalid { call: name, message });
        }
        let path = path_of(key);
        let call = Call { method, query, ..Call::put(name, &path, value.map(<[u8]>::to_vec)) };
        decode(name, &self.client.call(call).await.map_err(about_a_session)?.body)
    }

    async fn session(&self, name: &'static str, verb: &str, id: &str) -> Result<(), ConsulError> {
        if !is_addressable(id) || id.contains('/') {
            return Err(ConsulError::Invalid { call: name, message: format!("{id:?} is no id of a session") });
        }
        let answer = self.client.call(Call::put(name, &["v1", "session", verb, id], None)).await;
        answer.map(drop).map_err(about_a_session)
    }

    /// A list of the catalog, unless Consul says that it left something out of it.
    async fn catalog(&self, name: &'static str, path: &[&str]) -> Result<Vec<u8>, ConsulError> {
        let Answer { headers, body, missing, .. } =
            self.client.call(Call { may_be_missing: true, ..Call::get(name, path) }).await?;
        if missing {
            return Err(no_consul(name));
        }
        complete(name, &headers)?;
        Ok(body)
    }
}

const INDEX: &str = "x-consul-index";

impl Store for KvStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, ConsulError> {
        let name = "GET /v1/kv/:key";
        nameable(name, key)?;
        let (_, entries) = self.read(name, key, &[], Duration::ZERO).await?;
        Ok(entries.into_iter().find(|(found, _)| found == key).map(|(_, entry)| entry))
    }

    async fn list(&self, prefix: &str, wait: Option<(u64, Duration)>) -> Result<Listing, ConsulError> {
        let name = "GET /v1/kv/:prefix?recurse";
        nameable(name, prefix.strip_suffix('/').unwrap_or(prefix))?;
        // Zero is Consul's word for minutes.
        let wait = wait.filter(|(index, wait)| *index > 0 && !wait.is_zero());
        let began = Instant::now();
        let (headers, entries) = match wait {
            None => self.read(name, prefix, &[("recurse", "")], Duration::ZERO).await?,
            Some((index, wait)) => {
                let query = [("recurse", ""), ("index", &index.to_string()), ("wait", &go_duration(wait))];
                self.read(name, prefix, &query, wait).await?
            }
        };
        complete(name, &headers)?;
        if entries.is_empty() {
            // Consul shortens a list without a word, but refuses a key by name: the right that is asked here is the one
            // that the whole list needs.
            self.read("GET /v1/kv/:prefix", prefix, &[], Duration::ZERO).await?;
        }
        let Some(index) = headers.get(INDEX).and_then(|index| index.to_str().ok()?.parse::<u64>().ok()) else {
            return Err(ConsulError::Unreadable { call: name, reason: "it has no X-Consul-Index".to_owned() });
        };
        let index = match wait {
            Some((before, _)) if index < before => 0,
            Some((before, wait)) if index == before => {
                sleep_until(began + SHORTEST.min(wait)).await;
                index
            }
            _ => index.max(1),
        };
        Ok(Listing { entries: entries.into_iter().collect(), index })
    }

    async fn put(&self, key: &str, value: &[u8]) -> Result<(), ConsulError> {
        let name = "PUT /v1/kv/:key";
        if self.write(name, Method::PUT, key, &[], Some(value)).await? {
            return Ok(());
        }
        // Only what has a condition can be refused like this.
        Err(ConsulError::Unreadable { call: name, reason: "it says no without a reason".to_owned() })
    }

    async fn put_if(&self, key: &str, value: &[u8], index: u64) -> Result<bool, ConsulError> {
        self.write("PUT /v1/kv/:key?cas", Method::PUT, key, &[("cas", &index.to_string())], Some(value)).await
    }

    async fn delete(&self, key: &str) -> Result<(), ConsulError> {
        self.write("DELETE /v1/kv/:key", Method::DELETE, key, &[], None).await.map(drop)
    }

    async fn delete_if(&self, key: &str, index: u64) -> Result<bool, ConsulError> {
        self.write("DELETE /v1/kv/:key?cas", Method::DELETE, key, &[("cas", &index.to_string())], None).await
    }

    async fn session_create(&self, ttl: Duration, lock_delay: Duration, name: &str) -> Result<String, ConsulError> {
        let call = "PUT /v1/session/create";
        let body = SessionBody {
            node: self.node.as_deref(),
            // The usual one is the gossip's, and such a node has none.
            node_checks: self.node.is_some().then_some(&[]),
            name,
            ttl: go_duration(ttl),
            lock_delay: go_duration(lock_delay),
            // The keys stay, and say who had them.
            behavior: "release",
        };
        let body = encode(call, &body)?;
        // A second one would be in nobody's hands until it expires.
        let create = Call { once: true, ..Call::put(call, &["v1", "session", "create"], Some(body)) };
        let answer = self.client.call(create).await;
        let answer = answer.map_err(about_a_session)?;
        let SessionAnswer { id } = decode(call, &answer.body)?;
        if id.is_empty() {
            return Err(ConsulError::Unreadable { call, reason: "it has no id".to_owned() });
        }
        Ok(id)
    }

    async fn session_renew(&self, id: &str) -> Result<bool, ConsulError> {
        match self.session("PUT /v1/session/renew/:id", "renew", id).await {
            Ok(()) => Ok(true),
            Err(ConsulError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn session_destroy(&self, id: &str) -> Result<(), ConsulError> {
        match self.session("PUT /v1/session/destroy/:id", "destroy", id).await {
            Err(ConsulError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn acquire(&self, key: &str, value: &[u8], session: &str) -> Result<bool, ConsulError> {
        self.write("PUT /v1/kv/:key?acquire", Method::PUT, key, &[("acquire", session)], Some(value)).await
    }

    async fn release(&self, key: &str, session: &str) -> Result<bool, ConsulError> {
        self.write("PUT /v1/kv/:key?release", Method::PUT, key, &[("release", session)], Some(RELEASED)).await
    }

    async fn instances(&self, service: &str) -> Result<Vec<InstanceHealth>, ConsulError> {
        let name = "GET /v1/health/service/:name";
        if !is_addressable(service) {
            return Err(ConsulError::Invalid { call: name, message: format!("{service:?} is no name of a service") });
        }
        let body = self.catalog(name, &["v1", "health", "service", service]).await?;
        wire::instances(name, &body)
    }

    async fn nodes(&self) -> Result<usize, ConsulError> {
        let name = "GET /v1/catalog/nodes";
        match wire::count(name, &self.catalog(name, &["v1", "catalog", "nodes"]).await?)? {
            0 => Err(ConsulError::Forbidden { call: name, message: "it shows no node, not even its own".to_owned() }),
            nodes => Ok(nodes),
        }
    }
}

/// Only a session, or its node, can be something that Consul does not know here; any other 404 is none of Consul's.
pub(super) fn about_a_session(error: ConsulError) -> ConsulError {
    let known = |message: &str| {
        let message = message.to_lowercase();
        message.contains("session") || message.contains("missing node")
    };
    match error {
        ConsulError::NotFound { call, message } if !known(&message) => no_consul(call),
        other => other,
    }
}

pub(super) fn no_consul(call: &'static str) -> ConsulError {
    let reason = "404: there is no Consul at this address, or its path is another one".to_owned();
    ConsulError::Unreadable { call, reason }
}

/// Consul 1.11 and newer say when they left something out of a list.
pub(super) fn complete(call: &'static str, headers: &HeaderMap) -> Result<(), ConsulError> {
    let filtered = headers.get("x-consul-results-filtered-by-acls");
    if filtered.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")) {
        let message = "the token may not see all of it".to_owned();
        return Err(ConsulError::Forbidden { call, message });
    }
    Ok(())
}

fn nameable(call: &'static str, key: &str) -> Result<(), ConsulError> {
    if is_key(key) {
        return Ok(());
    }
    let message = format!("{key:?} cannot be part of a path: between slashes it needs more than dots");
    Err(ConsulError::Invalid { call, message })
}

/// A key's own slashes stay slashes: proxies and newer versions of Consul do not like them written as `%2F`.
fn path_of(key: &str) -> Vec<&str> {
    ["v1", "kv"].into_iter().chain(key.split('/')).collect()
}
