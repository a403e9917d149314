//! One agent looks after all nodes: whoever holds the lock.
//!
//! The others wait on the lock's key with a blocking query. When it is free each of them waits for a moment of its own, looks
//! again, and only then makes a session: a hundred agents do not make a hundred sessions.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{FAREWELL, Room, follow};
use crate::backoff::Backoff;
use crate::consul::members::{Behavior, NewSession};
use crate::consul::{ConsulError, Members, Store};
use crate::telemetry::Metrics;

/// How long the lock cannot be taken after its owner's session has ended. Consul ends it after two TTLs, its owner has stopped
/// after one, and what it sent last is refused, because each of its transactions begins with a look at the lock: so this has
/// nothing to wait for but a transaction that is being committed.
const LOCK_DELAY: Duration = Duration::from_secs(1);

/// After the lock was seen free: longer than the lock delay, and another second in which the many do not meet.
const PAUSE: Duration = Duration::from_millis(1_100);

/// Of a blocking query. Proxies cut what is idle for a minute, and an index that is too high blinds for so long.
pub(super) const WAIT: Duration = Duration::from_secs(45);

/// Others may have the rights that this agent does not have.
const DENIED: Duration = Duration::from_secs(300);

/// Why somebody is the leader no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// Consul has ended the session, or the lock is somebody else's.
    Taken,
    /// It could not be renewed for a TTL.
    Unsure,
    /// A right is missing.
    Denied,
}

impl Lost {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "Consul has ended the session or given the lock away",
            Self::Unsure => "the session could not be renewed for a TTL",
            Self::Denied => "a right is missing",
        }
    }
}

/// A lock that is held.
pub(super) struct Lease {
    pub(super) session: String,
    ttl: Duration,
    /// When the last renewal that succeeded was asked for.
    renewed: watch::Sender<Instant>,
}

impl Lease {
    /// Whether it is ours as far as anybody can know: Consul gives it away a TTL later at the earliest.
    pub(super) fn holds(&self) -> bool {
        Instant::now() < self.end()
    }

    fn end(&self) -> Instant {
        *self.renewed.borrow() + self.ttl
    }
}

/// Until `shutdown`; stands for election only while this node is `present`.
pub(super) async fn run<M: Members, S: Store>(
    room: &Room<M, S>,
    mut present: watch::Receiver<bool>,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    while !shutdown.is_cancelled() {
        let elected = tokio::select! {
            elected = elected(room, &mut present) => elected,
            () = shutdown.cancelled() => return,
        };
        let lost = match elected {
            Ok(Some(lease)) => {
                backoff.reset();
                lead(room, &lease, metrics, shutdown).await
            }
            Ok(None) => continue,
            Err(error) => {
                let wait = backoff.next(fastrand::f64());
                if backoff.worth_telling() {
                    let error = room.explained(&error);
                    tracing::warn!(event = "leader_unknown", %error, "who looks after the nodes could not be found out");
                }
                pause(wait, shutdown).await;
                continue;
            }
        };
        if lost == Some(Lost::Denied) {
            pause(DENIED, shutdown).await;
        }
    }
}

async fn pause(wait: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = sleep(wait) => {}
        () = shutdown.cancelled() => {}
    }
}

/// Waits until the lock is free, and takes it. `None`: somebody else was first.
async fn elected<M: Members, S: Store>(
    room: &Room<M, S>,
    present: &mut watch::Receiver<bool>,
) -> Result<Option<Lease>, ConsulError> {
    let key = room.keys.leader();
    let mut index = 0;
    loop {
        if present.wait_for(|present| *present).await.is_err() {
            // The other half has ended: there is nothing to stand for.
            return std::future::pending().await;
        }
        let listing = room.store.list(&key, Some((index, WAIT))).await?;
        index = listing.index;
        if listing.entries.get(&key).is_none_or(|entry| entry.session.is_none()) {
            break;
        }
    }
    sleep(PAUSE + Duration::from_secs(1).mul_f64(fastrand::f64())).await;
    if room.store.get(&key).await?.is_some_and(|entry| entry.session.is_some()) || !*present.borrow() {
        return Ok(None);
    }
    let settings = &room.settings;
    let name = format!("remora leader {}", settings.node);
    let asked = Instant::now();
    let session = NewSession {
        node: &settings.node,
        name: &name,
        ttl: settings.ttl,
        lock_delay: LOCK_DELAY,
        behavior: Behavior::Release,
    };
    let session = room.members.session_on(&session).await?;
    let taken = room.store.acquire(&key, settings.node.as_bytes(), &session).await;
    if matches!(taken, Ok(true)) {
        return Ok(Some(Lease { session, ttl: settings.ttl, renewed: watch::Sender::new(asked) }));
    }
    // A session that has nothing would only be there until its end, and one that has the lock unknowingly until then too.
    room.store.session_destroy(&session).await?;
    taken.map(|_| None)
}

/// Leads until the lock is lost, which is answered, or until `shutdown`.
async fn lead<M: Members, S: Store>(
    room: &Room<M, S>,
    lease: &Lease,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> Option<Lost> {
    let node = &room.settings.node;
    tracing::info!(event = "leader_elected", node, "this agent looks after all nodes");
    metrics.cluster_leader(true);
    let lost = tokio::select! {
        lost = keep(room, lease) => Some(lost),
        lost = follow::run(room, lease, metrics) => Some(lost),
        () = shutdown.cancelled() => None,
    };
    metrics.cluster_leader(false);
    metrics.cluster_nodes(0, 0, 0);
    let why = lost.map_or("this agent is shut down", Lost::as_str);
    tracing::info!(event = "leader_lost", node, why, "this agent looks after the other nodes no more");
    let farewell = async {
        // First the key: a session that ends with it would close it for the lock delay. What is lost already stays lost.
        room.store.release(&room.keys.leader(), &lease.session).await?;
        room.store.session_destroy(&lease.session).await
    };
    match timeout(FAREWELL, farewell).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(event = "session_not_ended", %error, "the leader's session ends by itself"),
        Err(_late) => tracing::debug!(event = "session_not_ended", "the leader's session ends by itself"),
    }
    lost
}

/// Renews the lock every third of its TTL, and looks whether it is ours still.
async fn keep<M: Members, S: Store>(room: &Room<M, S>, lease: &Lease) -> Lost {
    let (key, every) = (room.keys.leader(), lease.ttl / 3);
    let mut told = false;
    loop {
        sleep_until((Instant::now() + every).min(lease.end())).await;
        if !lease.holds() {
            return Lost::Unsure;
        }
        let asked = Instant::now();
        let renewal = async {
            if !room.store.session_renew(&lease.session).await? {
                return Ok(false);
            }
            let entry = room.store.get(&key).await?;
            Ok::<_, ConsulError>(entry.is_some_and(|entry| entry.session.as_ref() == Some(&lease.session)))
        };
        match timeout_at(lease.end(), renewal).await {
            Err(_late) => return Lost::Unsure,
            Ok(Ok(false)) => return Lost::Taken,
            Ok(Ok(true)) => {
                told = false;
                lease.renewed.send_replace(asked);
            }
            // That is no loss before the TTL is over.
            Ok(Err(error)) => {
                if !std::mem::replace(&mut told, true) {
                    let error = room.explained(&error);
                    tracing::warn!(event = "leader_not_renewed", %error, "the leader's session could not be renewed");
                }
            }
        }
    }
}
