//! So many nodes may operate at a time: a semaphore of keys, each held by a session.
//!
//! A session is Consul's way of noticing that its owner is gone: it ends when the node's Consul agent is found dead, or when
//! it has not been renewed for twice its time to live. Our own clock gives up earlier, after once: when nobody knows whether
//! the slot is still ours, it is not.

use std::time::Duration;

use tokio::time::Instant;

use super::keys::Keys;
use super::text_of;
use crate::config::ClusterMax;
use crate::consul::{ConsulError, Store};

/// Longer than a cluster needs for a new leader with Consul's usual settings (up to 18 s), in which nothing can be renewed.
pub const TTL: Duration = Duration::from_secs(30);

/// How often a slot that is held has to be renewed: three tries in the time to live.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);

/// After a node has died its slot stays closed for so long. More is not needed: whatever it did there, another node's
/// containers are not concerned.
const LOCK_DELAY: Duration = Duration::from_secs(1);

/// Whether there was a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is ours until [`Slots::release`], as long as it is renewed.
    Slot(usize),
    /// All are held.
    Busy {
        /// By these nodes, as far as they say; by none when the last owner died a moment ago.
        holders: Vec<String>,
    },
}

/// This node's part in the semaphore: one slot at most.
#[derive(Debug)]
pub struct Slots {
    keys: Keys,
    limit: ClusterMax,
    session: Option<Session>,
    slot: Option<usize>,
}

#[derive(Debug)]
struct Session {
    id: String,
    /// When the last renewal that succeeded was asked for.
    renewed: Instant,
}

impl Slots {
    /// Holds nothing yet.
    #[must_use]
    pub const fn new(keys: Keys, limit: ClusterMax) -> Self {
        Self { keys, limit, session: None, slot: None }
    }

    /// Takes a slot, or says who has them. Whoever has one already keeps it.
    ///
    /// # Errors
    /// [`ConsulError`]: not known whether it is ours, so it is not to be used; the next call finds out.
    pub async fn take(&mut self, store: &impl Store) -> Result<Taken, ConsulError> {
        if let Some(slot) = self.slot
            && self.confirm(store).await?
        {
            return Ok(Taken::Slot(slot));
        }
        self.slot = None;
        let session = self.session(store).await?;
        let count = self.count(store).await?;
        let entries = store.list(&self.keys.slots(), None).await?.entries;
        let held = entries.iter().filter(|(_, entry)| entry.session.is_some());
        let (own, others): (Vec<_>, Vec<_>) = held.partition(|(_, entry)| entry.session.as_ref() == Some(&session));
        // A slot of ours whose release did not arrive; otherwise also slots beyond the count hold: there may have been more
        // nodes a moment ago.
        let own = own.iter().find_map(|(key, _)| key.strip_prefix(&self.keys.slots())?.parse::<usize>().ok());
        if own.is_some() || others.len() < count {
            let taken = |slot: &usize| others.iter().any(|(key, _)| **key == self.keys.slot(*slot));
            let free = (0..count).filter(|slot| !taken(slot));
            for slot in own.into_iter().chain(free) {
                if store.acquire(&self.keys.slot(slot), self.keys.node().as_bytes(), &session).await? {
                    self.slot = Some(slot);
                    return Ok(Taken::Slot(slot));
                }
            }
        }
        let holders = others.iter().map(|(_, entry)| text_of(&entry.value)).collect();
        Ok(Taken::Busy { holders })
    }

    /// Which slot is ours, as far as anybody can know now: it was renewed within the time to live.
    #[must_use]
    pub fn held(&self, now: Instant) -> Option<usize> {
        let session = self.session.as_ref()?;
        self.slot.filter(|_| now.saturating_duration_since(session.renewed) < TTL)
    }

    /// Keeps what is held; to be called every [`RENEW_EVERY`] while something is. `false`: it is lost.
    ///
    /// # Errors
    /// [`ConsulError`]: that is no loss yet; [`Slots::held`] knows when it has to be taken for one.
    pub async fn renew(&mut self, store: &impl Store) -> Result<bool, ConsulError> {
        // Without a slot the session must not live on: it may hold one whose release did not arrive.
        if self.slot.is_none() { Ok(false) } else { self.keep(store).await }
    }

    /// Whether the session lives, and if so for another time to live.
    async fn keep(&mut self, store: &impl Store) -> Result<bool, ConsulError> {
        let Some(session) = &mut self.session else { return Ok(false) };
        let asked = Instant::now();
        let lives = store.session_renew(&session.id).await?;
        if lives {
            session.renewed = asked;
        } else {
            self.session = None;
            self.slot = None;
        }
        Ok(lives)
    }

    /// Whether the slot is ours, right now and by Consul's own word: to be asked before each step that cannot be taken back.
    ///
    /// # Errors
    /// [`ConsulError`]: not known.
    pub async fn confirm(&mut self, store: &impl Store) -> Result<bool, ConsulError> {
        let Some(slot) = self.slot else { return Ok(false) };
        if !self.renew(store).await? {
            return Ok(false);
        }
        let entry = store.get(&self.keys.slot(slot)).await?;
        let session = self.session.as_ref().map(|session| &session.id);
        let ours = entry.is_some_and(|entry| entry.session.is_some() && entry.session.as_ref() == session);
        if !ours {
            // Somebody removed the key: the session is as good as it was.
            self.slot = None;
        }
        Ok(ours)
    }

    /// Gives the slot back and ends the session; also at shutdown. Without a slot it costs at most one call, without a session
    /// none.
    ///
    /// # Errors
    /// [`ConsulError`]: it is not ours any more in any case; nobody renews it, so that Consul gives it back itself within a
    /// minute.
    pub async fn release(&mut self, store: &impl Store) -> Result<(), ConsulError> {
        let slot = self.slot.take();
        let Some(session) = &self.session else { return Ok(()) };
        if let Some(slot) = slot {
            // First the key: a session that ends with it would close it for the lock delay.
            store.release(&self.keys.slot(slot), &session.id).await?;
        }
        store.session_destroy(&session.id).await?;
        self.session = None;
        Ok(())
    }

    /// The id of a session that lives.
    async fn session(&mut self, store: &impl Store) -> Result<String, ConsulError> {
        self.keep(store).await?;
        if let Some(session) = &self.session {
            return Ok(session.id.clone());
        }
        let renewed = Instant::now();
        let name = format!("remora {}", self.keys.node());
        let id = store.session_create(TTL, LOCK_DELAY, &name).await?;
        self.session = Some(Session { id: id.clone(), renewed });
        Ok(id)
    }

    async fn count(&self, store: &impl Store) -> Result<usize, ConsulError> {
        match self.limit {
            limit @ ClusterMax::Count(_) => Ok(limit.slots(0)),
            limit @ ClusterMax::Percent(_) => match store.nodes().await {
                Ok(nodes) => Ok(limit.slots(nodes)),
                // Whoever may not see the nodes counts none: one slot.
                Err(ConsulError::Forbidden { .. }) => Ok(limit.slots(0)),
                Err(error) => Err(error),
            },
        }
    }
}
