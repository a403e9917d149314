//! The task that carries news to where others read it: a ring of events in Consul's KV, and a webhook. Neither waits for the other,
//! and nobody waits for either: what there is no room for is counted, and is in the log.
//!
//! * [`hook`]: one message to the webhook. * `limits`: which of them are posted; pure. * `events`: the ring in KV.
//! * `backlog`: what waits.

mod backlog;
mod events;
pub mod hook;
mod limits;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::cluster::Keys;
use super::tell::News;
use crate::consul::Store;
use crate::telemetry::{Metrics, WebhookOutcome};
use backlog::Backlog;
use limits::{Limits, Verdict};

pub use hook::Hook;

/// News that waits while a peer is away; one more is being written.
const WAITING: usize = 99;

/// What waits has so long to get away when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// See the module's header.
#[derive(Debug)]
pub struct Teller<S> {
    store: Arc<S>,
    keys: Keys,
    news: mpsc::Receiver<News>,
    hook: Option<Hook>,
    metrics: Arc<Metrics>,
}

impl<S: Store> Teller<S> {
    /// A teller for what [`Telling`](super::tell::Telling) hands over.
    #[must_use]
    pub const fn new(
        store: Arc<S>,
        keys: Keys,
        news: mpsc::Receiver<News>,
        hook: Option<Hook>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, keys, news, hook, metrics }
    }

    /// Tells until `shutdown`, or until nobody has anything to tell any more, and then for two seconds at most what waits.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { store, keys, mut news, hook, metrics } = self;
        let (to_consul, to_hook) = (Backlog::new(WAITING), Backlog::new(WAITING));
        let hand_out = |news: News| {
            if hook.is_some() && news.kind.is_posted() && !to_hook.push(news.clone()) {
                metrics.heal_news_dropped();
            }
            if !to_consul.push(news) {
                metrics.heal_news_dropped();
            }
        };
        let handing_out = async {
            loop {
                tokio::select! {
                    // The watcher stops at the same time, and may have a last word: nothing is taken after that.
                    () = shutdown.cancelled() => break,
                    piece = news.recv() => match piece {
                        Some(piece) => hand_out(piece),
                        None => break,
                    },
                }
            }
            while let Ok(piece) = news.try_recv() {
                hand_out(piece);
            }
            to_consul.close();
            to_hook.close();
        };
        let posting = async {
            if let Some(hook) = &hook {
                post(hook, &keys, &to_hook, &metrics, &shutdown).await;
            }
        };
        let work = async {
            tokio::join!(handing_out, events::write(&*store, &keys, &to_consul, &metrics, &shutdown), posting);
        };
        let enough = async {
            shutdown.cancelled().await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            () = work => {}
            () = enough => {
                tracing::warn!(event = "news_cut", "not all news of healing got to Consul or the webhook before the end: it is in this log");
            }
        }
    }
}

/// Posts what waits, until nothing more comes.
async fn post(hook: &Hook, keys: &Keys, backlog: &Backlog<News>, metrics: &Metrics, shutdown: &CancellationToken) {
    let mut limits = Limits::default();
    loop {
        let more_at = limits.more_at();
        let piece = tokio::select! {
            piece = backlog.next() => piece,
            () = sleep_until(more_at.unwrap_or_else(Instant::now)), if more_at.is_some() => {
                post_more(hook, keys, &mut limits, metrics, shutdown).await;
                continue;
            }
        };
        let Some(news) = piece else { break };
        match limits.judge(&news, Instant::now()) {
            Verdict::Post => {
                if send(hook, &hook::message(&news), metrics, shutdown).await {
                    limits.posted(&news, Instant::now());
                }
            }
            Verdict::Repeated => metrics.heal_webhook(WebhookOutcome::Repeated),
            Verdict::Limited => metrics.heal_webhook(WebhookOutcome::Limited),
        }
    }
    if limits.more_at().is_some() {
        post_more(hook, keys, &mut limits, metrics, shutdown).await;
    }
}

async fn post_more(hook: &Hook, keys: &Keys, limits: &mut Limits, metrics: &Metrics, shutdown: &CancellationToken) {
    let count = limits.take_more(Instant::now());
    if count > 0 {
        send(hook, &hook::more(keys.node(), count, &keys.events()), metrics, shutdown).await;
    }
}

async fn send(hook: &Hook, message: &Value, metrics: &Metrics, shutdown: &CancellationToken) -> bool {
    match hook.post(message, shutdown).await {
        Ok(()) => {
            metrics.heal_webhook(WebhookOutcome::Sent);
            true
        }
        Err(why) => {
            metrics.heal_webhook(WebhookOutcome::Failed);
            let to = hook.shown();
            tracing::warn!(event = "webhook_failed", to, "a message did not get to {to} (REMORA_HEAL_WEBHOOK): {why}");
            false
        }
    }
}
