//! Consul's KV, sessions and catalog in memory, for tests on a paused clock. It passes the same conformance suite as the real
//! one (`tests/conformance.rs`), and can be made to fail, to be slow, and to be edited by others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]
#![allow(dead_code, reason = "each test binary uses its own part of this fake")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use remora::consul::members::Member;
use remora::consul::store::{RELEASED, VALUE_LIMIT, is_key};
use remora::consul::{ConsulError, Entry, InstanceHealth, Listing, Store};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

#[path = "fake_members.rs"]
mod members;

/// Clones are clients of the same Consul.
#[derive(Clone)]
pub struct FakeStore {
    state: Arc<Mutex<State>>,
    /// Moves with every change.
    revision: watch::Sender<u64>,
}

struct State {
    entries: BTreeMap<String, Entry>,
    /// Counts the writes, as Raft does.
    index: u64,
    sessions: BTreeMap<String, Session>,
    /// Keys that nobody can take before then.
    delayed: BTreeMap<String, Instant>,
    instances: BTreeMap<String, Vec<InstanceHealth>>,
    nodes: usize,
    /// The catalog's nodes by name in lower case.
    rows: BTreeMap<String, Member>,
    /// The next transactions happen, but their answers are lost.
    lost_answers: usize,
    /// The next transactions are refused as a whole.
    refused: VecDeque<ConsulError>,
    /// A transaction that changed something has happened so often.
    transactions: u64,
    faults: VecDeque<ConsulError>,
    outage: Option<ConsulError>,
    latency: Duration,
    calls: Vec<String>,
    created: u64,
}

struct Session {
    /// Of which node, if it is one of the catalog's.
    node: Option<String>,
    /// Its keys go with it.
    delete: bool,
    ttl: Duration,
    lock_delay: Duration,
    ends: Instant,
}

impl Default for FakeStore {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeStore {
    /// A Consul with nothing in its KV, and one node.
    pub fn new() -> Self {
        let state = State {
            entries: BTreeMap::new(),
            index: 1,
            sessions: BTreeMap::new(),
            delayed: BTreeMap::new(),
            instances: BTreeMap::new(),
            nodes: 1,
            rows: BTreeMap::new(),
            lost_answers: 0,
            refused: VecDeque::new(),
            transactions: 0,
            faults: VecDeque::new(),
            outage: None,
            latency: Duration::ZERO,
            calls: Vec::new(),
            created: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), revision: watch::Sender::new(0) }
    }

    /// The next `calls` calls fail with this error, after the faults that were asked for earlier.
    pub fn fail_next(&self, calls: usize, error: &ConsulError) {
        self.state().faults.extend(std::iter::repeat_n(error.clone(), calls));
    }

    /// Every call fails with this error until `None`. A blocking query under way ends, as its connection would.
    pub fn fail_all(&self, error: Option<ConsulError>) {
        self.state().outage = error;
        self.moved();
    }

    /// Every call takes so long.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// How many nodes the catalog has.
    pub fn set_nodes(&self, nodes: usize) {
        self.state().nodes = nodes;
    }

    /// What the catalog says about a service.
    pub fn set_instances(&self, service: &str, instances: Vec<InstanceHealth>) {
        self.state().instances.insert(service.to_owned(), instances);
    }

    /// Sets a key, as an operator would, without a call.
    pub fn write(&self, key: &str, value: impl Into<Vec<u8>>) {
        self.state().set(key, value.into(), |_| {});
        self.moved();
    }

    /// Removes a key, as an operator would, without a call.
    pub fn erase(&self, key: &str) {
        let mut state = self.state();
        state.index += 1;
        state.entries.remove(key);
        drop(state);
        self.moved();
    }

    /// The keys and their values, without a call.
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        let mut state = self.state();
        state.expire();
        state.entries.clone()
    }

    /// The value of a key as text, without a call.
    pub fn text(&self, key: &str) -> Option<String> {
        self.entries().get(key).map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    }

    /// The sessions that live, without a call.
    pub fn sessions(&self) -> Vec<String> {
        let mut state = self.state();
        state.expire();
        state.sessions.keys().cloned().collect()
    }

    /// Ends a session, as Consul does when its node is found dead.
    pub fn kill_session(&self, id: &str) {
        self.state().end(id, Instant::now());
        self.moved();
    }

    /// Everything that was there is gone, and Consul counts from the beginning: its data was lost.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.entries.clear();
        state.sessions.clear();
        state.delayed.clear();
        state.rows.clear();
        state.index = 1;
        drop(state);
        self.moved();
    }

    /// What was asked so far, in order: `put remora/heal/pause`.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Forgets what was asked so far.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the fake's state")
    }

    fn moved(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// Notes the call, takes its time, and fails it if it is to fail.
    async fn begin(&self, call: String) -> Result<(), ConsulError> {
        let latency = {
            let mut state = self.state();
            state.calls.push(call);
            state.latency
        };
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let mut state = self.state();
        if let Some(error) = state.faults.pop_front().or_else(|| state.outage.clone()) {
            return Err(error);
        }
        state.expire();
        Ok(())
    }

    /// A change of one key, refused if the key or the value is none.
    async fn change<T>(
        &self,
        call: &'static str,
        key: &str,
        value: &[u8],
        change: impl FnOnce(&mut State) -> Result<T, ConsulError> + Send,
    ) -> Result<T, ConsulError> {
        self.begin(format!("{call} {key}")).await?;
        if !is_key(key) || value.len() > VALUE_LIMIT {
            return Err(ConsulError::Invalid { call, message: key.to_owned() });
        }
        let outcome = change(&mut self.state());
        self.moved();
        outcome
    }
}

impl State {
    fn set(&mut self, key: &str, value: Vec<u8>, change: impl FnOnce(&mut Entry)) {
        let before = self.entries.get(key);
        let mut after = before.cloned().unwrap_or(Entry { value: Vec::new(), index: 0, session: None });
        after.value = value;
        change(&mut after);
        // The same again moves no index.
        if before != Some(&after) {
            self.index += 1;
            after.index = self.index;
            self.entries.insert(key.to_owned(), after);
        }
    }

    /// Ends what has not been renewed for twice its time to live.
    fn expire(&mut self) {
        let now = Instant::now();
        let ended = self.sessions.iter().filter(|(_, session)| session.ends <= now);
        for (id, at) in ended.map(|(id, session)| (id.clone(), session.ends)).collect::<Vec<_>>() {
            self.end(&id, at);
        }
    }

    fn open(&mut self, session: Session) -> Result<String, ConsulError> {
        if !(Duration::from_secs(10)..=Duration::from_secs(86_400)).contains(&session.ttl) {
            return Err(ConsulError::Unwell { status: 500, call: "session_create", message: "Invalid TTL".to_owned() });
        }
        self.index += 1;
        self.created += 1;
        let id = format!("00000000-0000-0000-0000-{:012}", self.created);
        self.sessions.insert(id.clone(), session);
        Ok(id)
    }

    fn end(&mut self, id: &str, at: Instant) {
        let Some(session) = self.sessions.remove(id) else { return };
        let held: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.session.as_deref() == Some(id))
            .map(|(key, _)| key.clone())
            .collect();
        for key in held {
            if session.delete {
                self.index += 1;
                self.entries.remove(&key);
            } else {
                let value = self.entries[&key].value.clone();
                self.set(&key, value, |entry| entry.session = None);
            }
            self.delayed.insert(key, at + session.lock_delay);
        }
    }

    fn under(&self, prefix: &str) -> Listing {
        let entries: BTreeMap<String, Entry> = self
            .entries
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        Listing { entries, index: self.index }
    }
}

impl Store for FakeStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, ConsulError> {
        self.begin(format!("get {key}")).await?;
        if !is_key(key) {
            return Err(ConsulError::Invalid { call: "get", message: key.to_owned() });
        }
        Ok(self.state().entries.get(key).cloned())
    }

    async fn list(&self, prefix: &str, wait: Option<(u64, Duration)>) -> Result<Listing, ConsulError> {
        self.begin(format!("list {prefix}")).await?;
        let wait = wait.filter(|(index, wait)| *index > 0 && !wait.is_zero());
        let mut revision = self.revision.subscribe();
        let end = Instant::now() + wait.map_or(Duration::ZERO, |(_, wait)| wait);
        let before = self.state().under(prefix);
        loop {
            let (now, next_end) = {
                let mut state = self.state();
                if let Some(error) = &state.outage {
                    return Err(error.clone());
                }
                state.expire();
                (state.under(prefix), state.sessions.values().map(|session| session.ends).min())
            };
            match wait {
                None => return Ok(now),
                Some((index, _)) if now.index < index => return Ok(Listing { index: 0, ..now }),
                // Of what is younger, only this prefix's own changes count while it waits.
                Some((index, _)) if now.index > index && (now.entries != before.entries || before.index > index) => {
                    return Ok(now);
                }
                Some(_) if Instant::now() >= end => return Ok(now),
                Some(_) => {
                    let until = next_end.map_or(end, |next| next.min(end));
                    // Either a change, or somebody's time is up: look again.
                    drop(timeout_at(until, revision.changed()).await);
                }
            }
        }
    }

    async fn put(&self, key: &str, value: &[u8]) -> Result<(), ConsulError> {
        self.change("put", key, value, |state| {
            state.set(key, value.to_vec(), |_| {});
            Ok(())
        })
        .await
    }

    async fn put_if(&self, key: &str, value: &[u8], index: u64) -> Result<bool, ConsulError> {
        self.change("put_if", key, value, |state| {
            let holds = state.entries.get(key).map_or(0, |entry| entry.index) == index;
            if holds {
                state.set(key, value.to_vec(), |_| {});
            }
            Ok(holds)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), ConsulError> {
        self.change("delete", key, b"", |state| {
            if state.entries.remove(key).is_some() {
                state.index += 1;
            }
            Ok(())
        })
        .await
    }

    async fn delete_if(&self, key: &str, index: u64) -> Result<bool, ConsulError> {
        self.change("delete_if", key, b"", |state| {
            let holds = state.entries.get(key).is_none_or(|entry| entry.index == index);
            if holds && state.entries.remove(key).is_some() {
                state.index += 1;
            }
            Ok(holds)
        })
        .await
    }

    async fn session_create(&self, ttl: Duration, lock_delay: Duration, name: &str) -> Result<String, ConsulError> {
        self.begin(format!("session_create {name}")).await?;
        self.state().open(Session { node: None, delete: false, ttl, lock_delay, ends: Instant::now() + 2 * ttl })
    }

    async fn session_renew(&self, id: &str) -> Result<bool, ConsulError> {
        self.begin(format!("session_renew {id}")).await?;
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(id) else { return Ok(false) };
        session.ends = Instant::now() + 2 * session.ttl;
        Ok(true)
    }

    async fn session_destroy(&self, id: &str) -> Result<(), ConsulError> {
        self.begin(format!("session_destroy {id}")).await?;
        self.state().end(id, Instant::now());
        self.moved();
        Ok(())
    }

    async fn acquire(&self, key: &str, value: &[u8], session: &str) -> Result<bool, ConsulError> {
        self.change("acquire", key, value, |state| {
            if !state.sessions.contains_key(session) {
                let message = format!("invalid session {session:?}");
                return Err(ConsulError::NotFound { call: "acquire", message });
            }
            let holder = state.entries.get(key).and_then(|entry| entry.session.as_deref());
            let free = holder.is_none_or(|holder| holder == session);
            let delayed = state.delayed.get(key).is_some_and(|until| *until > Instant::now());
            if free && !delayed {
                state.set(key, value.to_vec(), |entry| entry.session = Some(session.to_owned()));
            }
            Ok(free && !delayed)
        })
        .await
    }

    async fn release(&self, key: &str, session: &str) -> Result<bool, ConsulError> {
        self.change("release", key, b"", |state| {
            let held = state.entries.get(key).is_some_and(|entry| entry.session.as_deref() == Some(session));
            if held {
                state.set(key, RELEASED.to_vec(), |entry| entry.session = None);
            }
            Ok(held)
        })
        .await
    }

    async fn instances(&self, service: &str) -> Result<Vec<InstanceHealth>, ConsulError> {
        self.begin(format!("instances {service}")).await?;
        Ok(self.state().instances.get(service).cloned().unwrap_or_default())
    }

    async fn nodes(&self) -> Result<usize, ConsulError> {
        self.begin("nodes".to_owned()).await?;
        match self.state().nodes {
            0 => Err(ConsulError::Forbidden { call: "nodes", message: "it shows no node".to_owned() }),
            nodes => Ok(nodes),
        }
    }
}
