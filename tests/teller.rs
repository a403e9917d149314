//! What becomes of news of healing: the ring in Consul's KV and the webhook, over outages of both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[path = "support/fake_store.rs"]
mod fake_store;

use std::sync::Arc;
use std::time::Duration;

use fake_store::FakeStore;
use remora::config::{ConsulTls, Secret, Webhook};
use remora::consul::{ConsulError, Store};
use remora::heal::cluster::Keys;
use remora::heal::tell::{Kind, News, Telling};
use remora::heal::teller::{Hook, Teller};
use remora::telemetry::Metrics;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

struct Bench {
    telling: Telling,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn start(store: &FakeStore, url: Option<&str>) -> Bench {
    let metrics = Arc::new(Metrics::new());
    let (telling, news) = Telling::new("n1", Arc::clone(&metrics));
    let hook = url.map(|url| {
        let webhook = Webhook { url: Secret::new(url), shown: "http://hooks".to_owned() };
        Hook::new(&webhook, &ConsulTls::default()).unwrap()
    });
    let keys = Keys::new("remora", "n1");
    let teller = Teller::new(Arc::new(store.clone()), keys, news, hook, Arc::clone(&metrics));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(teller.run(shutdown.clone()));
    Bench { telling, metrics, shutdown, task }
}

impl Bench {
    fn tell(&self, kind: Kind, name: &str) {
        self.telling.tell(News::decision(kind, name, "0123456789ab", "died", format!("{name} was died")));
    }

    async fn stop(self) -> Duration {
        let begin = Instant::now();
        self.shutdown.cancel();
        timeout(Duration::from_secs(5), self.task).await.expect("it ends by itself").unwrap();
        begin.elapsed()
    }

    fn count(&self, series: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

/// The numbers and names of all events.
async fn events(store: &FakeStore) -> Vec<(u64, String)> {
    let listing = store.list("remora/events/n1/", None).await.unwrap();
    let mut events: Vec<(u64, String)> = listing
        .entries
        .values()
        .map(|entry| serde_json::from_slice::<Value>(&entry.value).unwrap())
        .map(|event| (event["seq"].as_u64().unwrap(), event["name"].as_str().unwrap().to_owned()))
        .collect();
    events.sort();
    events
}

fn outage() -> ConsulError {
    ConsulError::Unwell { status: 500, call: "any", message: "No cluster leader".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn news_goes_into_the_ring_behind_what_an_earlier_run_wrote() {
    let store = FakeStore::new();
    store.put("remora/events/n1/41", br#"{"seq": 41, "name": "old"}"#).await.unwrap();
    let bench = start(&store, None);
    bench.tell(Kind::Healed, "web");
    bench.tell(Kind::NotHealed, "db");
    sleep(Duration::from_secs(1)).await;
    let expected = [(41, "old".to_owned()), (42, "web".to_owned()), (43, "db".to_owned())];
    assert_eq!(events(&store).await, expected);
    let entry = store.get("remora/events/n1/42").await.unwrap().unwrap();
    let event: Value = serde_json::from_slice(&entry.value).unwrap();
    assert_eq!((event["kind"].as_str(), event["node"].as_str()), (Some("healed"), Some("n1")));
    assert!(event["time"].is_string() && event.get("outcome").is_none() && event.get("operation").is_none());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_consul_is_away_is_told_afterwards_the_last_hundred_of_it() {
    let store = FakeStore::new();
    let bench = start(&store, None);
    store.fail_next(3, &outage());
    for number in 0..130 {
        bench.tell(Kind::NotHealed, &format!("web{number}"));
        // Between two pieces of news the teller gets its turn.
        tokio::task::yield_now().await;
    }
    sleep(Duration::from_secs(300)).await;
    let found = events(&store).await;
    let names: Vec<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!((names.len(), names[0], names[99]), (100, "web0", "web129"), "the one in hand, and the last 99");
    assert_eq!((found[0].0, found[99].0), (0, 99));
    assert_eq!(bench.count("remora_heal_news_dropped_total"), 30);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_is_not_held_up_by_a_consul_that_is_away() {
    let store = FakeStore::new();
    let bench = start(&store, None);
    store.fail_next(usize::from(u8::MAX), &outage());
    bench.tell(Kind::NotHealed, "web");
    bench.tell(Kind::NotHealed, "db");
    sleep(Duration::from_millis(10)).await;
    let metrics = Arc::clone(&bench.metrics);
    assert!(bench.stop().await < Duration::from_secs(1));
    assert!(metrics.encode().contains("\nremora_heal_news_dropped_total 2\n"));
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_end_is_still_written() {
    let store = FakeStore::new();
    let bench = start(&store, None);
    bench.tell(Kind::NotHealed, "web");
    bench.tell(Kind::NotHealed, "db");
    bench.stop().await;
    assert_eq!(events(&store).await.len(), 2);
}

#[tokio::test]
async fn the_webhook_hears_alerts_and_treatments_once_each_and_not_too_many() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let bench = start(&FakeStore::new(), Some(&format!("{}/hunter2", server.uri())));
    for _ in 0..3 {
        bench.tell(Kind::Healed, "web");
    }
    for kind in [Kind::NotHealed, Kind::WouldHeal, Kind::Cancelled, Kind::Operator] {
        bench.tell(kind, "quiet");
    }
    for number in 0..30 {
        bench.tell(Kind::GaveUp, &format!("db{number}"));
    }
    let metrics = Arc::clone(&bench.metrics);
    for _ in 0..200 {
        if bench.count("remora_heal_webhook_total{outcome=\"limited\"}") == 11 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    // With the end comes how many more there were.
    bench.stop().await;
    let posted: Vec<Value> =
        server.received_requests().await.unwrap().iter().map(|request| request.body_json().unwrap()).collect();
    assert_eq!(posted.len(), 21, "{posted:#?}");
    assert_eq!((posted[0]["text"].as_str(), posted[0]["kind"].as_str()), (Some("n1: web was died"), Some("healed")));
    assert_eq!(posted[20]["text"], "n1: 11 more; see remora/events/n1/ in Consul's KV, or the log");
    let text = metrics.encode();
    for (outcome, count) in [("sent", 21), ("repeated", 2), ("limited", 11)] {
        let line = format!("remora_heal_webhook_total{{outcome=\"{outcome}\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_webhook_that_is_away_holds_nothing_up() {
    let store = FakeStore::new();
    let bench = start(&store, Some("http://127.0.0.1:1/hunter2"));
    bench.tell(Kind::GaveUp, "web");
    for _ in 0..100 {
        if !events(&store).await.is_empty() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(events(&store).await.len(), 1);
    assert!(bench.stop().await < Duration::from_secs(3));
}
