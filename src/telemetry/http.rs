//! The small HTTP server: `/healthz`, `/readyz`, `/metrics`, `/status`; in catalog mode also the reports of services
//! ([`super::reports`]).
//!
//! It is the only thing of Remora that strangers can speak to, so everything is bounded: connections, the time for a
//! header and for a whole request, the size of a header, the methods, the names it answers to ([`super::host`]).

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::face::Face;
use super::logs::{Chain, clean};
use super::{host, metrics, reports};

/// Connections at once. Prometheus, a health check and a person need three.
const MAX_CONNECTIONS: usize = 32;

/// Within this time a client has to send its header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Within this time a connection, which carries one request, has to be over.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a header. hyper's minimum is 8 KiB; its default of 400 KiB per connection would double our memory.
const MAX_HEADER: usize = 8 * 1024;

/// After a shutdown, answers under way have so long to be sent: the agent grants this server one second.
const GRACE: Duration = Duration::from_millis(500);

/// Between two attempts to accept after one failed (no file descriptors left): they are not coming back any sooner.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Serves until `shutdown`, and ends within a second after it.
pub async fn serve(listener: TcpListener, face: Face, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            // Only to forget connections that are over; what one of them died of is its own affair.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            // Closed at once, by dropping it: a queue would only make everyone wait.
            Ok(_) if connections.len() >= MAX_CONNECTIONS => {}
            Ok((stream, _)) => {
                connections.spawn(connection(stream, face.clone(), shutdown.clone()));
            }
            Err(error) => {
                tracing::warn!(event = "http_accept_failed", error = %Chain(&error), "cannot accept a connection");
                // Keeps an error that stays from turning into a busy loop.
                let _stopped = shutdown.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
    drop(listener);
    let all_over = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all_over).await.is_err() {
        connections.shutdown().await;
    }
}

/// One connection, which carries one request: whoever scrapes every few seconds needs no kept connection, and an idle
/// one would take a place.
async fn connection(stream: TcpStream, face: Face, shutdown: CancellationToken) {
    let answering = service_fn(|request: Request<Incoming>| {
        let face = &face;
        async move { Ok::<_, Infallible>(respond(request, face).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answering);
    let mut serving = pin!(serving);
    let served = async {
        tokio::select! {
            outcome = serving.as_mut() => outcome,
            () = shutdown.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    };
    match tokio::time::timeout(REQUEST_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        // A client that leaves or sends rubbish is no news.
        Ok(Err(error)) => {
            tracing::trace!(event = "http_connection_failed", error = %Chain(&error), "a connection failed");
        }
        Err(_) => tracing::trace!(event = "http_request_timed_out", "a request took too long"),
    }
}

async fn respond(request: Request<Incoming>, face: &Face) -> Response<Full<Bytes>> {
    if let Err((status, reason)) = check_host(&request, face) {
        return response(status, TEXT, format!("{reason}\n"));
    }
    if let Some(take) = face.reports().filter(|_| reports::is_report(request.uri().path())) {
        let (status, reason) = reports::answer(request, take).await;
        let mut answer = response(status, TEXT, reason);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("PUT"));
        }
        return answer;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "expected GET or HEAD\n".to_owned());
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/healthz" => verdict(face.healthy(Instant::now())),
        "/readyz" => verdict(face.ready()),
        "/metrics" => response(StatusCode::OK, metrics::CONTENT_TYPE, face.metrics().encode()),
        "/status" => status(face, false, TEXT).await,
        "/status.json" => status(face, true, JSON).await,
        "/" => response(StatusCode::OK, TEXT, index(face)),
        _ => response(StatusCode::NOT_FOUND, TEXT, "expected /healthz, /readyz, /metrics or /status\n".to_owned()),
    }
}

/// Refuses requests that a web page made a browser send ([`host`]).
fn check_host<B>(request: &Request<B>, face: &Face) -> Result<(), (StatusCode, &'static str)> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.to_str().is_ok_and(|host| host::allowed(host, face.hosts())) => {}
        (Some(_), None) => {
            return Err((
                StatusCode::FORBIDDEN,
                "unexpected Host header: expected an IP address, localhost or a name without dots",
            ));
        }
        // Scripts that speak HTTP/1.0 send none; browsers always do.
        (None, _) if request.version() == Version::HTTP_10 => {}
        _ => return Err((StatusCode::BAD_REQUEST, "expected one Host header")),
    }
    // `GET http://host/path`: only proxies are asked so.
    match request.uri().authority() {
        Some(authority) if !host::allowed(authority.as_str(), face.hosts()) => {
            Err((StatusCode::FORBIDDEN, "unexpected host in the request: expected only a path"))
        }
        _ => Ok(()),
    }
}

fn verdict(outcome: Result<(), String>) -> Response<Full<Bytes>> {
    match outcome {
        Ok(()) => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
        Err(reason) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{}\n", clean(&reason))),
    }
}

async fn status(face: &Face, json: bool, content_type: &'static str) -> Response<Full<Bytes>> {
    match face.status(json).await {
        Some(Ok(text)) => response(StatusCode::OK, content_type, text),
        Some(Err(reason)) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{}\n", clean(&reason))),
        None => response(StatusCode::NOT_FOUND, TEXT, "healing is off (REMORA_HEAL=off)\n".to_owned()),
    }
}

fn index(face: &Face) -> String {
    let (status, output) = face.summary();
    format!(
        "Remora {}\n\n{status}: {output}\n\n/healthz  whether this process works\n/readyz   whether Consul says what Docker says\n/metrics  OpenMetrics\n/status   how healing stands; also /status.json\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::watch;

    use super::*;
    use crate::telemetry::{ConsulView, DockerView, Metrics, StatusText};

    /// A server on a free port, with everything a test wants to turn.
    struct Bench {
        address: SocketAddr,
        docker: watch::Sender<DockerView>,
        consul: watch::Sender<ConsulView>,
        shutdown: CancellationToken,
        server: tokio::task::JoinHandle<()>,
    }

    impl Bench {
        async fn start() -> Self {
            let now = Instant::now();
            let (docker, docker_view) = watch::channel(DockerView { connected: true, ..DockerView::starting(now) });
            let view = ConsulView { reachable: true, synced: true, ..ConsulView::starting(now) };
            let (consul, consul_view) = watch::channel(view);
            let status: StatusText = Arc::new(|json| {
                Box::pin(async move { if json { Ok("{}\n".to_owned()) } else { Err("not\nyet".to_owned()) } })
            });
            let face = Face::new(Arc::new(Metrics::new()), docker_view, consul_view)
                .with_hosts(["node1.internal.example".to_owned()])
                .with_status(status);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let shutdown = CancellationToken::new();
            let server = tokio::spawn(serve(listener, face, shutdown.clone()));
            Self { address, docker, consul, shutdown, server }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// Sends these bytes and reads to the end.
        async fn ask(&self, request: &str) -> String {
            let mut stream = self.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            // A server that closes while bytes of ours are unread resets the connection: what was read stays.
            let _reset = stream.read_to_string(&mut answer).await;
            answer
        }

        async fn get(&self, path: &str) -> String {
            self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
        }
    }

    #[track_caller]
    fn answers(answer: &str, status: u16) {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "expected {status}: {answer:?}");
    }

    #[tokio::test]
    async fn the_pages_are_there_and_others_are_not() {
        let bench = Bench::start().await;
        let metrics = bench.get("/metrics").await;
        answers(&metrics, 200);
        assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
        assert!(metrics.ends_with("# EOF\n"));
        let index = bench.get("/").await;
        answers(&index, 200);
        assert!(index.contains("passing: Docker"), "{index}");
        answers(&bench.get("/metrics?x=1").await, 200);
        answers(&bench.get("/healthz/").await, 404);
        answers(&bench.get("/../metrics").await, 404);
    }

    #[tokio::test]
    async fn whoever_knows_how_healing_stands_is_asked() {
        let bench = Bench::start().await;
        let json = bench.get("/status.json").await;
        answers(&json, 200);
        assert!(json.contains("content-type: application/json\r\n") && json.ends_with("\r\n\r\n{}\n"), "{json}");
        let text = bench.get("/status").await;
        answers(&text, 503);
        assert!(text.ends_with("\r\n\r\nnot yet\n"), "{text}");
        let stranger = "GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n";
        answers(&bench.ask(stranger).await, 403);
    }

    #[tokio::test]
    async fn health_and_readiness_say_what_is_wrong() {
        let bench = Bench::start().await;
        answers(&bench.get("/healthz").await, 200);
        answers(&bench.get("/readyz").await, 200);
        bench.docker.send_modify(|view| {
            view.connected = false;
            view.trouble = Some("no\r\nsocket".to_owned());
        });
        answers(&bench.get("/healthz").await, 200);
        let answer = bench.get("/readyz").await;
        answers(&answer, 503);
        assert!(answer.ends_with("\r\n\r\nDocker is not connected: no  socket\n"), "{answer:?}");
        drop(bench.consul);
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(" 503 ") && answer.ends_with("the Consul loop has ended\n"), "{answer:?}");
    }

    #[tokio::test]
    async fn only_get_and_head_are_answered() {
        let bench = Bench::start().await;
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "X"] {
            let request = format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab");
            let answer = bench.ask(&request).await;
            answers(&answer, 405);
            assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
        }
        let head = bench.ask("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        answers(&head, 200);
        assert!(head.ends_with("\r\n\r\n"), "a HEAD answer has no body: {head:?}");
    }

    #[tokio::test]
    async fn names_that_a_web_page_could_own_are_refused() {
        let bench = Bench::start().await;
        for (request, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
            ("POST /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
            ("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
            ("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\nHost: 10.1.2.3:80\r\n\r\n", 200),
            ("GET /metrics HTTP/1.1\r\nHost: remora:9090\r\n\r\n", 200),
            ("GET /metrics HTTP/1.1\r\nHost: node1.internal.example:9090\r\n\r\n", 200),
        ] {
            answers(&bench.ask(request).await, status);
        }
    }

    #[tokio::test]
    async fn rubbish_and_endless_headers_are_refused() {
        let bench = Bench::start().await;
        answers(&bench.ask("\u{0}\u{1}\u{2} rubbish\r\n\r\n").await, 400);
        let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
        let answer = bench.ask(&long).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        answers(&bench.get("/healthz").await, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_slow_with_its_header_is_cut_off() {
        let bench = Bench::start().await;
        let begin = Instant::now();
        let answer = bench.ask("GET / HTTP/1.1\r\nHost: local").await;
        assert!(!answer.contains(" 200 "), "{answer:?}");
        let limits = HEADER_TIMEOUT..=HEADER_TIMEOUT + Duration::from_secs(1);
        assert!(limits.contains(&begin.elapsed()), "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn a_connection_carries_one_request() {
        let bench = Bench::start().await;
        let both = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2);
        let answer = bench.ask(&both).await;
        assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer:?}");
        assert!(answer.contains("connection: close\r\n"), "{answer:?}");
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_and_later_ones_served() {
        let bench = Bench::start().await;
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            idle.push(bench.connect().await);
        }
        let mut refused = bench.connect().await;
        let closed = tokio::time::timeout(Duration::from_secs(2), refused.read(&mut [0; 16])).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
        drop(idle);
        // The server hears of the closed ones a moment later.
        for _ in 0..50 {
            if bench.get("/healthz").await.starts_with("HTTP/1.1 200 ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no place became free");
    }

    #[tokio::test]
    async fn it_ends_within_a_second_although_clients_hang_on() {
        let bench = Bench::start().await;
        let mut hanging = Vec::new();
        for request in ["", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"] {
            let mut stream = bench.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            hanging.push(stream);
        }
        answers(&bench.get("/healthz").await, 200);
        bench.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(1), bench.server).await.expect("ends in time").unwrap();
        assert!(TcpStream::connect(bench.address).await.is_err());
    }
}
