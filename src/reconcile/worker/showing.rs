//! What others see of the worker: readiness, the metrics, and the agent's own check.

use tokio::time::Instant;

use super::{BLIND, Link, SHOWN_FAILURES, Worker};
use crate::consul::Registry;
use crate::probe::WANTED_EVERY;
use crate::telemetry::{Failing, summary};

impl<R: Registry> Worker<R> {
    /// Says which checks have to be run here, where nobody else does.
    pub(super) fn show_probes(&mut self, now: Instant) {
        if let Some(probes) = &self.probes
            && self.probes_at <= now
            && self.book.probes_changed()
        {
            self.probes_at = now + WANTED_EVERY;
            probes.send_replace(self.book.probes());
        }
    }

    /// After each comparison with Consul: whether everything is right there. What Consul refuses is its author's matter.
    pub(super) fn show_right(&self) {
        let right = self.complete && self.book.running() == 0 && self.book.pending() <= self.book.failing();
        self.right.send_replace(right);
    }

    /// Shows what is going on, and feeds the agent's own check with it. Returns whether that is to be written.
    pub(super) fn publish(&mut self, now: Instant) -> bool {
        let (services, pending) = (self.book.published(), self.book.pending());
        let failing: Vec<Failing> = self
            .book
            .failures(SHOWN_FAILURES)
            .into_iter()
            .map(|failure| Failing { id: failure.key.to_string(), reason: failure.reason })
            .collect();
        let reachable = self.link == Link::Up && self.book.read_once();
        let failing_count = self.book.failing();
        // One refused definition is its author's matter; where nothing at all is accepted, nothing is in step.
        let all_refused = services == 0 && failing_count > 0;
        let at_rest = self.book.running() == 0 && pending <= failing_count;
        let synced = self.view.borrow().synced || (self.complete && reachable && at_rest && !all_refused);
        self.metrics.services_registered(services);
        self.metrics.pending(pending);
        self.metrics.failing(failing_count);
        self.metrics.label_notes(self.book.notes());
        self.metrics.queue_depth(self.observed.len());
        self.view.send_if_modified(|view| {
            view.last_tick = now;
            let changed = (view.reachable, view.synced, view.services, view.pending, view.failing_count, &view.failing)
                != (reachable, synced, services, pending, failing_count, &failing);
            if changed {
                view.failing_count = failing_count;
                view.reachable = reachable;
                view.synced = synced;
                view.services = services;
                view.pending = pending;
                view.failing = failing;
                if reachable {
                    view.trouble = None;
                }
            }
            changed
        });
        if self.docker.borrow().connected {
            self.blind_since = None;
        }
        let blind = !self.docker.borrow().connected && *self.blind_since.get_or_insert(now) + BLIND > now;
        if (synced || self.speak_at <= now) && !blind {
            let (standing, output) = summary(&self.docker.borrow(), &self.view.borrow());
            return self.book.say(standing.into(), output.into());
        }
        false
    }
}
