//! This agent is there: a session on its own node, and the key that ends with it.
//!
//! The key is taken over from the process before without a gap (one transaction), so that a restart is never an absence. The
//! node's check is set passing only when the caller says that its registrations are right: whoever was marked while it was away
//! shows no stale instance as healthy.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::judge::RENEW_EVERY;
use super::keys::stamp;
use super::{FAREWELL, Leave, Room};
use crate::backoff::Backoff;
use crate::consul::members::{Behavior, NewSession};
use crate::consul::txn::{KvOp, Op, TxnResult, Why, Write};
use crate::consul::{ConsulError, Members, Status, Store};

/// A caller that tells only changes: `true` that has stood for so long since the return is believed. Ten times the three seconds
/// between two comparisons.
const STANDING: Duration = Duration::from_secs(30);

/// How often the own check is looked at, should somebody else have changed it.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Waits after a failure: the node may have to be written first, so the first one is short.
const FIRST: Duration = Duration::from_millis(200);

/// Why there was nothing to hold.
enum Fault {
    Consul(ConsulError),
    /// Another engine has the key of this name.
    Namesake(String),
}

impl From<ConsulError> for Fault {
    fn from(error: ConsulError) -> Self {
        Self::Consul(error)
    }
}

struct Presence<'a, M, S> {
    room: &'a Room<M, S>,
    held: &'a watch::Sender<bool>,
    right: watch::Receiver<bool>,
    session: Option<String>,
    /// When the key was last taken.
    since: SystemTime,
    taken: Instant,
    /// How often it was taken by this process.
    times: u32,
    /// The caller's `true` counts.
    confirmed: bool,
    /// When the check is next looked at.
    look: Instant,
    /// When the key is next looked at.
    key_at: Instant,
}

/// Until `shutdown`.
pub(super) async fn run<M: Members, S: Store>(
    room: &Room<M, S>,
    right: watch::Receiver<bool>,
    held: &watch::Sender<bool>,
    shutdown: &CancellationToken,
) {
    let now = Instant::now();
    let mut presence = Presence {
        room,
        held,
        right,
        session: None,
        since: SystemTime::now(),
        taken: now,
        times: 0,
        confirmed: false,
        look: now,
        key_at: now,
    };
    tokio::select! {
        () = presence.stay() => {}
        () = shutdown.cancelled() => {}
    }
    presence.leave().await;
}

impl<M: Members, S: Store> Presence<'_, M, S> {
    async fn stay(&mut self) {
        let patience = self.room.settings.ttl / 3;
        let (mut keeping, mut showing) = (Backoff::new(FIRST, patience), Backoff::new(FIRST, patience));
        let mut due = Instant::now();
        let mut caller_lives = true;
        loop {
            if Instant::now() >= due {
                due = match self.keep().await {
                    Ok(()) => {
                        keeping.reset();
                        Instant::now() + RENEW_EVERY
                    }
                    Err(fault) => {
                        let wait = keeping.next(fastrand::f64());
                        if keeping.worth_telling() {
                            self.tell(&fault);
                        }
                        Instant::now() + wait
                    }
                };
            }
            let mut next = due;
            if *self.held.borrow() {
                if self.is_right() && Instant::now() >= self.look {
                    self.look = match self.show().await {
                        Ok(()) => {
                            showing.reset();
                            Instant::now() + LOOK_EVERY
                        }
                        Err(error) => {
                            let wait = showing.next(fastrand::f64());
                            if showing.worth_telling() {
                                let error = self.room.explained(&error);
                                tracing::warn!(event = "node_not_shown", %error, "this node's check could not be set");
                            }
                            Instant::now() + wait
                        }
                    };
                }
                next = if self.confirmed { next.min(self.look) } else { next.min(self.stood()) };
            }
            // What should have been done by now is done at once, but never without a pause for others.
            tokio::select! {
                () = sleep_until(next.max(Instant::now() + Duration::from_millis(10))) => {}
                changed = self.right.changed(), if caller_lives => {
                    caller_lives = changed.is_ok();
                    self.confirmed = *self.right.borrow_and_update();
                }
            }
        }
    }

    /// When a `true` that stands from before the return is believed; far away where it does not stand.
    fn stood(&self) -> Instant {
        if *self.right.borrow() { self.taken + STANDING } else { self.taken + Duration::from_secs(86_400 * 365) }
    }

    fn is_right(&mut self) -> bool {
        let now = *self.right.borrow();
        self.confirmed = now && (self.confirmed || Instant::now() >= self.stood());
        self.confirmed
    }

    /// Renews the session and looks at the key; makes and takes them where they are lost.
    async fn keep(&mut self) -> Result<(), Fault> {
        if let Some(session) = self.session.clone() {
            if self.room.store.session_renew(&session).await? {
                if *self.held.borrow() && Instant::now() < self.key_at {
                    return Ok(());
                }
                self.key_at = Instant::now() + self.room.settings.ttl / 3;
                let entry = self.room.store.get(&self.key()).await?;
                if entry.is_some_and(|entry| entry.session.as_ref() == Some(&session)) {
                    return Ok(());
                }
            } else {
                self.session = None;
            }
            if self.held.send_replace(false) {
                tracing::warn!(event = "node_presence_lost", "Consul has ended this node's session or lost its key");
            }
        }
        let session = if let Some(session) = self.session.clone() { session } else { self.create().await? };
        self.session = Some(session.clone());
        self.take(&session).await
    }

    async fn create(&self) -> Result<String, ConsulError> {
        let settings = &self.room.settings;
        let name = format!("remora {}", settings.node);
        let session = NewSession {
            node: &settings.node,
            name: &name,
            ttl: settings.ttl,
            // The key is nobody else's: whoever returns has it at once.
            lock_delay: Duration::ZERO,
            behavior: Behavior::Delete,
        };
        self.room.members.session_on(&session).await
    }

    /// Takes the key, from the process before where that still has it.
    async fn take(&mut self, session: &str) -> Result<(), Fault> {
        let (room, key) = (self.room, self.key());
        let entry = room.store.get(&key).await?;
        let older = entry.as_ref().and_then(|entry| entry.session.clone()).filter(|older| older != session);
        let mut ops = Vec::new();
        if let (Some(entry), Some(_)) = (&entry, &older) {
            let engine = engine_of(&entry.value);
            if engine.as_deref().is_some_and(|engine| engine != room.settings.engine) {
                return Err(Fault::Namesake(engine.unwrap_or_default()));
            }
            ops.push(Op::Kv(key.clone(), KvOp::DeleteCas { index: entry.index }));
        }
        let since = SystemTime::now();
        let value = json!({"engine": room.settings.engine, "since": stamp(since)}).to_string().into_bytes();
        ops.push(Op::Kv(key, KvOp::Lock { value, session: session.to_owned() }));
        room.members.transact(&ops).await?.written(&ops)?;
        if let Some(older) = older {
            // It holds nothing any more; without this it would live for another two TTLs.
            if let Err(error) = room.store.session_destroy(&older).await {
                tracing::debug!(event = "session_not_ended", %error, "the session of the process before ends by itself");
            }
        }
        self.since = since;
        self.taken = Instant::now();
        self.look = self.taken;
        self.times = self.times.saturating_add(1);
        // What the caller has said since its own start counts the first time; after an absence it has to look again.
        self.confirmed = self.times == 1 && *self.right.borrow();
        if self.times > 1 {
            self.right.mark_unchanged();
        }
        self.held.send_replace(true);
        tracing::info!(event = "node_present", node = room.settings.node, "this node is present in the cluster");
        Ok(())
    }

    /// Makes the node's check passing where it is not.
    async fn show(&self) -> Result<(), ConsulError> {
        let room = self.room;
        let node = &room.settings.node;
        let call = "the node's own check";
        let Some(session) = &self.session else { return Ok(()) };
        let Some(member) = room.members.member(node).await? else {
            return Err(ConsulError::NotFound { call, message: format!("there is no node {node}") });
        };
        if !member.ours {
            return Err(ConsulError::NotOurs {
                node: node.clone(),
                whose: "it does not carry managed-by=remora".to_owned(),
            });
        }
        if member.check.as_ref().is_some_and(|check| check.status == Status::Passing) {
            return Ok(());
        }
        let output =
            format!("Remora of node {node} is present since {}; what it registers is right", stamp(self.since));
        let ops = [
            Op::Kv(self.key(), KvOp::CheckSession { session: session.clone() }),
            Op::Check(Write::Cas(member.check_index()), member.check(Status::Passing, &output)),
            Op::Kv(room.keys.gone(node), KvOp::Delete),
        ];
        match room.members.transact(&ops).await? {
            TxnResult::Refused(refusals) if refusals.iter().all(|refusal| refusal.why == Why::Conflict) => {
                // Somebody else wrote meanwhile: look again.
                Err(ConsulError::Conflict { call, message: "it was changed meanwhile".to_owned() })
            }
            other => other.written(&ops).map(drop),
        }?;
        tracing::info!(event = "node_shown", node, "this node's check is passing again");
        Ok(())
    }

    async fn leave(&mut self) {
        self.held.send_replace(false);
        let Some(session) = self.session.take().filter(|_| self.room.settings.leave == Leave::End) else { return };
        match timeout(FAREWELL, self.room.store.session_destroy(&session)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(event = "session_not_ended", %error, "this node's session ends by itself");
            }
            Err(_late) => tracing::warn!(event = "session_not_ended", "this node's session ends by itself"),
        }
    }

    fn key(&self) -> String {
        self.room.keys.live(&self.room.settings.node)
    }

    fn tell(&self, fault: &Fault) {
        let node = &self.room.settings.node;
        match fault {
            Fault::Consul(error) => {
                let error = self.room.explained(error);
                tracing::warn!(event = "node_not_present", node, %error, "this node's presence could not be told to Consul");
            }
            Fault::Namesake(engine) => tracing::error!(
                event = "node_not_present",
                node,
                engine,
                "another Docker engine is present under this node's name: set another REMORA_NODE on one of them"
            ),
        }
    }
}

/// Which engine has written this value.
fn engine_of(value: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(value).ok()?;
    value.get("engine")?.as_str().map(str::to_owned)
}
