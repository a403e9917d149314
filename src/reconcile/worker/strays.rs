//! After the token has changed, and after a start: what of ours the agent could not remove from the catalog.
//!
//! What was deregistered a moment ago is in the catalog, too, until the agent has told it. So there are two looks, and only what
//! was there at both of them is removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use tokio::time::Instant;

use super::{Job, Link, Worker};
use crate::consul::error::Class;
use crate::consul::{ConsulError, Registry};

/// What is registered anew with another token is done by then, and a deregistration has reached the catalog.
const SETTLED: Duration = Duration::from_secs(10);

/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(60);

/// When to look, and what was there at the look before.
#[derive(Debug, Default)]
pub(super) struct Strays {
    due: Option<Instant>,
    looking: bool,
    before: Option<BTreeSet<ArcStr>>,
}

impl Strays {
    /// There may be some from now on.
    pub(super) fn look_after(now: Instant) -> Self {
        Self { due: Some(now + SETTLED), ..Self::default() }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.looking)
    }
}

/// What a look has found, and at the second one what was removed.
#[derive(Debug, Default)]
pub(super) struct Looked {
    there: BTreeSet<ArcStr>,
    removed: Vec<String>,
}

impl<R: Registry> Worker<R> {
    /// Not before everything that runs was looked at: what is wanted is known then.
    pub(super) fn look_for_strays(&mut self, now: Instant) {
        if self.link != Link::Up || !self.complete || self.strays.due().is_none_or(|due| due > now) {
            return;
        }
        self.strays.looking = true;
        let before = self.strays.before.take();
        let registry = Arc::clone(&self.registry);
        let is_stray = self.book.stray();
        self.jobs.spawn(async move {
            let look = async {
                let strays = registry.strays().await?;
                let mut looked = Looked::default();
                for stray in strays.iter().filter(|stray| is_stray(stray)) {
                    if before.as_ref().is_some_and(|before| before.contains(&stray.id)) {
                        registry.bury(stray).await?;
                        looked.removed.push(stray.id.to_string());
                    } else {
                        looked.there.insert(stray.id.clone());
                    }
                }
                Ok(looked)
            };
            Job::Strays(look.await)
        });
    }

    pub(super) fn looked_for_strays(&mut self, looked: Result<Looked, ConsulError>, now: Instant) {
        self.strays.looking = false;
        match looked {
            Ok(Looked { there, removed }) => {
                for id in removed {
                    tracing::info!(event = "stray_removed", service = %id, "{id}: it was left in the catalog by a token that is not valid any more; removed");
                }
                // Those of the first look are looked at once more.
                self.strays.due = (!there.is_empty()).then(|| now + SETTLED);
                self.strays.before = (!there.is_empty()).then_some(there);
            }
            // Without the right to look there is nothing that could be done.
            Err(error) if error.class() == Class::Denied => self.strays.due = None,
            Err(error) => {
                tracing::debug!(event = "strays_unknown", error = %error, "whether something was left over in the catalog cannot be seen: {error}");
                self.strays.due = Some(now + AGAIN);
            }
        }
    }
}
