//! News in Consul's KV: the ring of the node's last hundred events.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::backlog::Backlog;
use crate::backoff::Backoff;
use crate::consul::{Class, ConsulError, Store};
use crate::heal::cluster::{Keys, Ring, Written};
use crate::heal::tell::News;
use crate::telemetry::Metrics;

/// While Consul is away.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// While a right is missing.
const AGAIN_DENIED: Duration = Duration::from_secs(60);

/// Writes what waits, until nothing more comes.
pub(super) async fn write<S: Store>(
    store: &S,
    keys: &Keys,
    backlog: &Backlog<News>,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) {
    let mut ring = None;
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    while let Some(news) = backlog.next().await {
        let Ok(Value::Object(event)) = serde_json::to_value(&news) else { continue };
        // Kept over the tries: whether a write that failed has happened is not known, and the same key with the same value twice
        // is once.
        let mut written: Option<Written> = None;
        loop {
            let outcome = async {
                let ring = match &mut ring {
                    Some(ring) => ring,
                    None => ring.insert(resumed(store, keys).await?),
                };
                let Written { key, value } = written.get_or_insert_with(|| ring.encode(&event));
                store.put(key, value).await
            };
            let error = match outcome.await {
                Ok(()) => {
                    backoff.reset();
                    break;
                }
                Err(error) => error,
            };
            if written.is_some() && error.class() == Class::Rejected {
                tracing::warn!(event = "news_refused", error = %error, "Consul does not take an event of healing: {error}");
                metrics.heal_news_dropped();
                break;
            }
            let wait = backoff.next(fastrand::f64());
            if backoff.worth_telling() {
                tracing::warn!(event = "news_unwritten", error = %error, "events of healing cannot be written to Consul: {error}; the last of them are kept and tried again");
            }
            if shutdown.is_cancelled() {
                // What waits is in the log.
                metrics.heal_news_dropped();
                (0..backlog.len()).for_each(|_| metrics.heal_news_dropped());
                return;
            }
            let wait = if error.class() == Class::Denied { wait.max(AGAIN_DENIED) } else { wait };
            tokio::select! {
                () = sleep(wait) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}

/// The ring behind the newest event that an earlier run wrote.
async fn resumed<S: Store>(store: &S, keys: &Keys) -> Result<Ring, ConsulError> {
    Ok(Ring::resumed(keys, &store.list(&keys.events(), None).await?.entries))
}
