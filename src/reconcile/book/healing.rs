//! Whom the health-watcher has given up, and what that means for what is registered.

use std::sync::Arc;

use super::{Book, Told};
use crate::consul::{ActualService, Service};
use crate::docker::ContainerId;
use crate::reconcile::diff::{self, Op};
use crate::reconcile::healing::{self, GivenUp};

impl Book {
    /// The health-watcher says whom it has given up, and why. Returns what that came to for the containers that are concerned.
    pub fn give_up(&mut self, given_up: &GivenUp) -> Vec<Told> {
        let before = self.given_up.replace(Arc::clone(given_up));
        if before.is_none() {
            // Until now every such check was left as it was found.
            for at in self.actual.keys() {
                self.items.touch(at, None);
            }
        }
        let before = before.unwrap_or_default();
        let news = given_up.iter().filter(|(id, why)| before.get(*id) != Some(why)).map(|(id, _)| id);
        let over = before.keys().filter(|id| !given_up.contains_key(*id));
        let concerned: Vec<ContainerId> = news.chain(over).cloned().collect();
        concerned.iter().filter_map(|id| self.mean(id, None)).collect()
    }

    /// Why this container was given up, if it was.
    pub(super) fn why_given_up(&self, id: &ContainerId) -> Option<&str> {
        self.given_up.as_ref()?.get(id).map(String::as_str)
    }

    /// The next write for this registration. As long as the health-watcher has not said whom it has given up, what an earlier run
    /// wrote about that is left as it is: a restart would otherwise turn every such check green for a moment.
    pub(super) fn towards(&self, wanted: &Arc<Service>, actual: Option<&ActualService>) -> Option<Op> {
        let known = self.given_up.is_some();
        diff::towards(wanted, actual, |check| known || !diff::is_healing(&check.id, &wanted.id))
    }

    /// The healing check of a registration that is held: its container may have been given up meanwhile.
    pub(super) fn held_healing(&self, actual: &ActualService, container: &ContainerId) -> Option<Op> {
        self.given_up.as_ref()?;
        let (status, output) = healing::say(self.why_given_up(container));
        diff::report(&Service::healing_check_id(&actual.id), status, &output, actual)
    }
}
