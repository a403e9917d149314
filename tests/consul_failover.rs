//! Several addresses of one cluster: when one fails the next is used. And files of TLS that are replaced.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[path = "consul_failover/cluster.rs"]
mod cluster;
#[path = "support/consul_wire.rs"]
mod consul_wire;
#[path = "support/consul.rs"]
mod support;
#[path = "consul_failover/tls.rs"]
mod tls;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use consul_wire::{at, config, web};
use remora::config::{self, ConsulAddress};
use remora::consul::{Client, ConsulError, KvStore, Store};
use support::ports;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// A client with several addresses.
fn client_of(addresses: impl IntoIterator<Item = ConsulAddress>) -> Client {
    let mut addresses = addresses.into_iter();
    let first = config(addresses.next().unwrap());
    Client::new(&config::Consul { others: addresses.collect(), ..first }).unwrap()
}

async fn answering(template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(template).mount(&server).await;
    server
}

async fn good() -> MockServer {
    answering(ResponseTemplate::new(200).set_body_string("true")).await
}

async fn asked(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

/// Takes every connection and a request, answers with these bytes and closes; and how often that was.
fn raw_server(answer: &'static [u8]) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let _request = stream.read(&mut [0; 4096]);
            let _gone = stream.write_all(answer);
        }
    });
    (port, count)
}

#[tokio::test]
async fn the_first_is_used_and_the_others_are_left_alone() {
    let (first, second) = (good().await, good().await);
    let store = KvStore::new(client_of([web(&first), web(&second)]));
    for _ in 0..3 {
        store.put("a", b"1").await.unwrap();
    }
    assert_eq!((asked(&first).await, asked(&second).await), (3, 0));
}

#[tokio::test]
async fn where_nobody_is_the_next_is_asked_at_once_and_stays_in_use() {
    let second = good().await;
    let store = KvStore::new(client_of([at(ports::free_port()), web(&second), at(ports::free_port())]));
    for _ in 0..3 {
        store.put("a", b"1").await.unwrap();
    }
    assert_eq!(asked(&second).await, 3);
}

#[tokio::test]
async fn a_server_that_is_unwell_is_left() {
    for (status, body) in
        [(500, "No cluster leader"), (500, "rpc error making call: EOF"), (502, ""), (503, ""), (504, ""), (429, "")]
    {
        let unwell = answering(ResponseTemplate::new(status).set_body_string(body)).await;
        let well = good().await;
        let store = KvStore::new(client_of([web(&unwell), web(&well)]));
        store.put("a", b"1").await.unwrap();
        store.put("a", b"1").await.unwrap();
        assert_eq!((asked(&unwell).await, asked(&well).await), (1, 2), "{status} {body}");
    }
}

#[tokio::test]
async fn a_refusal_is_an_answer() {
    for (status, body) in [(403, "Permission denied"), (400, "no"), (500, "rpc error making call: ACL not found")] {
        let refusing = answering(ResponseTemplate::new(status).set_body_string(body)).await;
        let other = good().await;
        let store = KvStore::new(client_of([web(&refusing), web(&other)]));
        store.put("a", b"1").await.unwrap_err();
        store.put("a", b"1").await.unwrap_err();
        assert_eq!((asked(&refusing).await, asked(&other).await), (2, 0), "{status} {body}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_or_breaks_off_is_left() {
    let silent = answering(ResponseTemplate::new(200).set_delay(Duration::from_secs(20))).await;
    let (broken, _) = raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
    let well = good().await;
    let client = client_of([web(&silent), at(broken), web(&well)]).with_timeout(Duration::from_millis(300));
    let start = Instant::now();
    KvStore::new(client).put("a", b"1").await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn when_all_fail_each_was_asked_once_and_the_next_call_asks_all_again() {
    let servers = [
        answering(ResponseTemplate::new(500).set_body_string("No cluster leader")).await,
        answering(ResponseTemplate::new(503)).await,
        answering(ResponseTemplate::new(500).set_body_string("No cluster leader")).await,
    ];
    let store = KvStore::new(client_of(servers.iter().map(web)));
    for round in 1..3 {
        let error = store.put("a", b"1").await.unwrap_err();
        assert!(matches!(error, ConsulError::Unwell { .. }), "{error:?}");
        for server in &servers {
            assert_eq!(asked(server).await, round);
        }
    }
}

#[tokio::test]
async fn one_address_is_asked_once() {
    let only = answering(ResponseTemplate::new(500).set_body_string("No cluster leader")).await;
    KvStore::new(consul_wire::client(&only)).put("a", b"1").await.unwrap_err();
    assert_eq!(asked(&only).await, 1);
}

#[tokio::test]
async fn a_blocking_query_moves_on_without_being_repeated() {
    let unwell = answering(ResponseTemplate::new(500).set_body_string("rpc error making call: EOF")).await;
    let well = answering(ResponseTemplate::new(200).insert_header("X-Consul-Index", "7").set_body_string("[]")).await;
    let store = KvStore::new(client_of([web(&unwell), web(&well)]));
    store.list("a/", Some((5, Duration::from_secs(1)))).await.unwrap_err();
    assert_eq!((asked(&unwell).await, asked(&well).await), (1, 0));
    store.list("a/", Some((5, Duration::from_secs(1)))).await.unwrap();
    assert!(asked(&unwell).await == 1 && asked(&well).await > 0);
}

#[tokio::test]
async fn a_session_is_created_a_second_time_only_when_nobody_was_there() {
    let well = answering(ResponseTemplate::new(200).set_body_string(r#"{"ID": "s"}"#)).await;
    let create =
        async |client: Client| KvStore::new(client).session_create(Duration::from_secs(10), Duration::ZERO, "a").await;
    let (broken, connections) = raw_server(b"");
    let client = client_of([at(broken), web(&well)]);
    let error = create(client.clone()).await.unwrap_err();
    assert!(matches!(error, ConsulError::Unreachable { .. }), "{error:?}");
    assert_eq!((connections.load(Ordering::SeqCst), asked(&well).await), (1, 0), "it may have been created");
    assert_eq!(create(client).await.unwrap(), "s", "the next call asks the next address");
    assert_eq!(create(client_of([at(ports::free_port()), web(&well)])).await.unwrap(), "s");
}

/// What all tests of this process log. One that listens for itself alone misses what another one's thread came to first: tracing
/// remembers of a place in the code whether anybody listens, as that thread saw it.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().json().with_writer(move || writer.clone()).init();
    log
});

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines_with(&self, address: &str) -> Vec<String> {
        let all = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        all.lines().filter(|line| line.contains(&format!("{address}\""))).map(str::to_owned).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_change_of_address_is_told_once_when_another_one_has_answered() {
    let free = ports::free_port();
    let address = format!("http://127.0.0.1:{free}");
    let told = || LOG.lines_with(&address);
    assert_eq!(told(), [""; 0]);

    let store = KvStore::new(client_of([at(free), at(ports::free_port())]));
    for _ in 0..3 {
        store.put("a", b"1").await.unwrap_err();
    }
    assert_eq!(told(), [""; 0], "nothing has changed: neither answers");

    let well = good().await;
    let store = KvStore::new(client_of([at(free), web(&well)]));
    for _ in 0..3 {
        store.put("a", b"1").await.unwrap();
    }
    let told = told();
    assert_eq!(told.len(), 1, "{told:?}");
    let line: serde_json::Value = serde_json::from_str(&told[0]).unwrap();
    let field = |name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(field("event"), "consul_failover");
    assert_eq!(field("from"), address);
    assert_eq!(field("to"), web(&well).to_string());
    assert!(field("why").contains("Connection refused"), "{told:?}");
}

#[tokio::test]
async fn many_calls_that_fail_together_move_on_by_one() {
    let unwell = answering(ResponseTemplate::new(503).set_delay(Duration::from_millis(100))).await;
    let (second, third) = (good().await, good().await);
    let client = client_of([web(&unwell), web(&second), web(&third)]);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let store = KvStore::new(client.clone());
            tokio::spawn(async move { store.put("a", b"1").await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!((asked(&second).await, asked(&third).await), (20, 0));
}

/// What "names are resolved at each new connection" rests on: reqwest keeps no answers.
#[tokio::test]
async fn a_name_is_resolved_for_each_new_connection() {
    struct Counting(Arc<AtomicUsize>);
    impl reqwest::dns::Resolve for Counting {
        fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
            self.0.fetch_add(1, Ordering::SeqCst);
            let found: reqwest::dns::Addrs = Box::new(std::iter::once(([127, 0, 0, 1], 0).into()));
            Box::pin(async move { Ok(found) })
        }
    }
    remora::consul::tls::install_provider();
    let (port, connections) = raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let count = Arc::new(AtomicUsize::new(0));
    let resolver = Counting(Arc::clone(&count));
    let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().dns_resolver(resolver).build().unwrap();
    for _ in 0..3 {
        http.get(format!("http://consul.example.com:{port}/")).send().await.unwrap();
    }
    assert_eq!((connections.load(Ordering::SeqCst), count.load(Ordering::SeqCst)), (3, 3));
}
