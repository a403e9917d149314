//! What the registry and its writer share.

use std::collections::{BTreeMap, HashMap};
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arcstr::ArcStr;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::node::NodeIdentity;
use super::plan::{OUTPUT_EVERY, Outputs};
use super::read::Queries;
use super::view::{View, key};
use crate::consul::client::Client;
use crate::consul::model::{ActualService, Snapshot, Status};
use crate::text::Texts;

/// Shared by a registry and its writer.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) node: NodeIdentity,
    /// Random keys: nobody who can register services can make two answers look alike.
    pub(super) hasher: RandomState,
    state: Mutex<State>,
    /// Looks for single ids at once: Consul allows 200 connections per address, and the queries and the writer need theirs.
    pub(super) looks: Semaphore,
    /// The blocking queries, kept from one call to the next.
    pub(super) watch: tokio::sync::Mutex<Option<Queries>>,
    /// Whether a write is under way.
    pub(super) writing: watch::Sender<bool>,
}

/// What is known of our node.
#[derive(Default)]
pub(super) struct State {
    pub(super) view: View,
    /// The view is that of a look and of what we wrote since. Not so at first, after a write of which nobody knows whether
    /// it happened, and after a lost race.
    pub(super) known: bool,
    /// Counts the beginnings and the ends of our writes: odd while one is under way.
    writes: u64,
    pub(super) seen: Option<Seen>,
    /// Outputs that are to be written later, by the key of their check.
    pub(super) deferred: BTreeMap<ArcStr, Deferred>,
    /// Counts the changes of `deferred`.
    pub(super) deferrals: u64,
    /// When an output was last written alone.
    pub(super) outputs: Outputs,
}

/// The last picture, and what it was made of.
pub(super) struct Seen {
    pub(super) hash: u64,
    pub(super) deferred: u64,
    pub(super) snapshot: Arc<Snapshot>,
}

/// An output that waits.
#[derive(Debug, Clone)]
pub(super) struct Deferred {
    pub(super) id: ArcStr,
    pub(super) status: Status,
    pub(super) output: ArcStr,
    pub(super) at: Instant,
}

impl Shared {
    pub(super) fn new(client: Client, node: NodeIdentity) -> Self {
        Self {
            client,
            node,
            hasher: RandomState::new(),
            looks: Semaphore::new(8),
            state: Mutex::default(),
            watch: tokio::sync::Mutex::new(None),
            writing: watch::Sender::new(false),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write is under way, or none any more.
    pub(super) fn write(&self, under_way: bool) {
        self.state().writes += 1;
        self.writing.send_replace(under_way);
    }
}

impl State {
    pub(super) const fn writes(&self) -> u64 {
        self.writes
    }

    pub(super) const fn is_writing(&self) -> bool {
        self.writes % 2 == 1
    }

    /// Takes what a look showed.
    pub(super) fn look_ended(&mut self, mut view: View) {
        view.remember(&mut self.view);
        self.view = view;
        self.known = true;
        let checks = &self.view.checks;
        self.outputs.retain(|id, at| checks.contains_key(id) && at.elapsed() < OUTPUT_EVERY);
        let before = self.deferred.len();
        self.deferred.retain(|id, waits| checks.get(id).is_some_and(|(check, _)| check.status == waits.status));
        self.deferrals += u64::from(self.deferred.len() != before);
    }

    /// The last picture, and the texts that are known: what is the same in the next one is taken from there.
    pub(super) fn before(&self) -> (Arc<Snapshot>, Texts) {
        (self.seen.as_ref().map(|seen| Arc::clone(&seen.snapshot)).unwrap_or_default(), self.view.texts())
    }

    /// An output is to be written later.
    pub(super) fn defer(&mut self, deferred: Deferred) {
        self.deferrals += 1;
        self.deferred.insert(key(&deferred.id), deferred);
    }

    /// Nothing waits for this check any more.
    pub(super) fn undefer(&mut self, id: &ArcStr) {
        self.deferrals += u64::from(self.deferred.remove(&key(id)).is_some());
    }

    /// Shows outputs that wait as if they were written, like an agent of Consul does: they are on their way.
    pub(super) fn show_deferred(&self, snapshot: &mut Snapshot) {
        if self.deferred.is_empty() {
            return;
        }
        let waits: HashMap<&str, &Deferred> = self.deferred.values().map(|it| (it.id.as_str(), it)).collect();
        for service in snapshot.services.values_mut() {
            let shown = |service: &ActualService| {
                service.checks.iter().find_map(|(id, check)| {
                    let waits = waits.get(id.as_str())?;
                    (check.status == waits.status && check.output != waits.output).then(|| (id.clone(), *waits))
                })
            };
            while let Some((id, waits)) = shown(service) {
                if let Some(check) = Arc::make_mut(service).checks.get_mut(&id) {
                    check.output.clone_from(&waits.output);
                }
            }
        }
    }
}
