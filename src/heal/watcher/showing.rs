//! What others see of the watcher: the `healing` checks of containers that were given up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Watcher;
use crate::consul::Store;
use crate::docker::{Control, Engine};

impl<E: Engine + Control, S: Store> Watcher<E, S> {
    /// Publishes who has been given up, also if that is nobody, once everything is known that an earlier run knew. Before, nobody
    /// may take it for granted. Where Consul's keys cannot be read nothing is waited for in the end: what an earlier run wrote
    /// would stay for ever.
    pub(super) fn show_first(&mut self) {
        self.show();
        if !self.spoken && self.complete && (self.restored || self.holdoff <= Instant::now()) {
            self.spoken = true;
            self.given_up.send_modify(|_| {});
        }
    }

    /// Publishes what has changed.
    pub(super) fn show(&self) {
        if !self.complete {
            return;
        }
        let now = Instant::now();
        let given_up: HashMap<_, _> = self
            .watched
            .iter()
            .filter_map(|(id, watched)| {
                let place = Self::place_of(&watched.sight.container.name);
                let quarantine = self.records.get(place)?.quarantined(now)?;
                Some((id.clone(), quarantine.reason.clone()))
            })
            .collect();
        self.given_up.send_if_modified(|before| {
            let changed = **before != given_up;
            if changed {
                *before = Arc::new(given_up);
            }
            changed
        });
    }

    /// The gauges.
    pub(super) fn measure(&self) {
        let now = Instant::now();
        let metrics = self.telling.metrics();
        metrics.heal_incidents(self.node.sick());
        metrics.heal_quarantined(self.records.values().filter(|record| record.quarantined(now).is_some()).count());
        metrics.heal_paused(self.pauses.paused(&self.place.node, "", SystemTime::now()).is_some());
    }
}
