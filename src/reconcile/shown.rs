//! A snapshot of Consul by key. The agent tells ids that differ only in case apart, the catalog does not. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arcstr::ArcStr;

use super::own::{self, Owner};
use crate::consul::{ActualService, Service, Snapshot};
use crate::registration::Settings;
use crate::text::lower;

/// What two ids that differ only in case have in common.
#[must_use]
pub fn key(id: &ArcStr) -> ArcStr {
    lower(id)
}

/// A snapshot, sorted.
#[derive(Default)]
pub struct Shown<'a> {
    /// What counts, by key.
    pub by_key: HashMap<ArcStr, &'a Arc<ActualService>>,
    /// Keys that somebody else uses beside us: the catalog cannot tell the two apart.
    pub contested: HashSet<ArcStr>,
    /// What is registered with our mark beside what counts.
    pub doubles: HashMap<ArcStr, ActualService>,
}

impl<'a> Shown<'a> {
    /// Sorts a snapshot. Of two ids that differ only in case ours counts, and of two of ours the one that is wanted:
    /// otherwise the other one would hide it, and it would never go.
    #[must_use]
    pub fn sort(snapshot: &'a Snapshot, wanted: &HashMap<ArcStr, Arc<Service>>, settings: &Settings) -> Self {
        let ours = |service: &ActualService| matches!(own::owner(service, settings), Owner::Ours(_));
        let mut shown = Self::default();
        for service in snapshot.services.values() {
            let at = key(&service.id);
            let Some(other) = shown.by_key.get(&at).copied() else {
                shown.by_key.insert(at, service);
                continue;
            };
            let is_wanted = wanted.get(&at).is_some_and(|wanted| wanted.id == service.id);
            let (counts, hidden) =
                if !ours(other) || (ours(service) && is_wanted) { (service, other) } else { (other, service) };
            shown.by_key.insert(at.clone(), counts);
            if ours(counts) && ours(hidden) {
                shown.doubles.insert(at, ActualService::clone(hidden));
            } else {
                shown.contested.insert(at);
            }
        }
        shown
    }
}
