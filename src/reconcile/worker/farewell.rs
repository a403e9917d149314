//! The goodbye: the writes under way, and what the operator wants to leave in Consul.

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{Job, Link, Worker};
use crate::config::OnExit;
use crate::consul::{Registry, Status};
use crate::reconcile::diff;

impl<R: Registry> Worker<R> {
    /// Ends the writes under way and leaves Consul as the operator wants it.
    pub(super) async fn farewell(mut self, on_exit: OnExit) {
        while self.book.running() > 0
            && let Some(job) = self.jobs.join_next().await
        {
            if let Ok(Job::Write { key, op, result, .. }) = job {
                self.written(&key, &op, result, Instant::now());
            }
        }
        if self.link != Link::Up {
            tracing::warn!(event = "farewell_skipped", "Consul is away: what is registered there stays");
            return;
        }
        match on_exit {
            OnExit::Keep => {
                if let Some(check) = self.book.own().and_then(|own| diff::beaten_check(own)) {
                    let output = "stopped on request; what it registered stays as it was (REMORA_ON_EXIT=keep)";
                    let _best_effort = self.registry.update_check(&check.id, Status::Critical, output).await;
                }
            }
            OnExit::Deregister => {
                let registry = &self.registry;
                let removals = self.book.ours().into_iter().map(|id| async move {
                    let result = registry.deregister(&id).await;
                    (id, result)
                });
                let mut removals =
                    futures_util::stream::iter(removals).buffer_unordered(self.registry.writes_at_once());
                while let Some((id, result)) = removals.next().await {
                    match result {
                        Ok(()) => {
                            tracing::info!(event = "deregistered", service = %id, "deregistered {id}: stopping");
                        }
                        Err(error) => {
                            tracing::warn!(event = "write_failed", op = "deregister", service = %id, error = %error, "cannot deregister {id}: {error}");
                        }
                    }
                }
            }
        }
    }
}
