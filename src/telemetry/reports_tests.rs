use std::sync::Mutex;

use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::telemetry::{ConsulView, DockerView, Face, Metrics, serve};

/// Knows `web:80:ttl` and `a/b c`, and a check that is probed: `web:80:http`.
fn taker(taken: &Arc<Mutex<Vec<CheckReport>>>) -> ReportTaker {
    let taken = Arc::clone(taken);
    Arc::new(move |report| {
        let answer = match report.check.as_str() {
            "web:80:ttl" | "a/b c" => {
                taken.lock().unwrap().push(report);
                Ok(())
            }
            "web:80:http" => Err(ReportRefusal::NotTtl),
            "late" => Err(ReportRefusal::Stopping),
            _ => Err(ReportRefusal::Unknown),
        };
        Box::pin(async move { answer })
    })
}

async fn ask(method: Method, path: &str, body: &str) -> (Reply, Option<CheckReport>) {
    let taken = Arc::default();
    let request =
        Request::builder().method(method).uri(path).body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let reply = answer(request, &taker(&taken)).await;
    let last = taken.lock().unwrap().pop();
    (reply, last)
}

fn report(check: &str, standing: Standing, output: &str) -> CheckReport {
    CheckReport { check: check.to_owned(), standing, output: output.to_owned() }
}

#[tokio::test]
async fn the_four_verbs_are_consuls() {
    let ok = (StatusCode::OK, String::new());
    for (path, body, expected) in [
        ("/v1/agent/check/pass/web:80:ttl", "", report("web:80:ttl", Standing::Passing, "")),
        (
            "/v1/agent/check/pass/web%3A80%3Attl?note=all+is%20well",
            "",
            report("web:80:ttl", Standing::Passing, "all is well"),
        ),
        ("/v1/agent/check/warn/web:80:ttl?ns=x&note=50%25", "", report("web:80:ttl", Standing::Warning, "50%")),
        ("/v1/agent/check/fail/a/b%20c", "", report("a/b c", Standing::Critical, "")),
        ("/v1/agent/check/fail/a%2Fb%20c?note=", "ignored", report("a/b c", Standing::Critical, "")),
        (
            "/v1/agent/check/update/web:80:ttl",
            r#"{"Status":"passing","Output":"é"}"#,
            report("web:80:ttl", Standing::Passing, "é"),
        ),
        (
            "/v1/agent/check/update/web:80:ttl",
            r#"{"status":"warning","Extra":1}"#,
            report("web:80:ttl", Standing::Warning, ""),
        ),
        (
            "/v1/agent/check/update/web:80:ttl",
            r#"{"Status":"critical","Output":null}"#,
            report("web:80:ttl", Standing::Critical, ""),
        ),
    ] {
        assert_eq!(ask(Method::PUT, path, body).await, (ok.clone(), Some(expected)), "{path}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_sentence() {
    let long = format!(r#"{{"Status":"passing","Output":"{}"}}"#, "x".repeat(MAX_BODY));
    for (method, path, body, status, words) in [
        (Method::GET, "/v1/agent/check/pass/web:80:ttl", "", 405, "expected PUT"),
        (Method::OPTIONS, "/v1/agent/check/pass/web:80:ttl", "", 405, "expected PUT"),
        (Method::PUT, "/v1/agent/check/pass/nobody", "", 404, "Unknown check ID \"nobody\""),
        (Method::PUT, "/v1/agent/check/pass/web:80:http", "", 404, "does not have associated TTL"),
        (Method::PUT, "/v1/agent/check/pass/late", "", 503, "nobody takes reports here"),
        (Method::PUT, "/v1/agent/check/pass/", "", 400, "Missing check ID"),
        (Method::PUT, "/v1/agent/check/pass", "", 400, "Missing check ID"),
        (Method::PUT, "/v1/agent/check/pass/%ff", "", 400, "UTF-8"),
        (Method::PUT, "/v1/agent/check/deregister/web:80:ttl", "", 404, "expected /v1/agent/check/pass/"),
        (Method::PUT, "/v1/agent/check/update/web:80:ttl", "", 400, "Request decode failed"),
        (Method::PUT, "/v1/agent/check/update/web:80:ttl", "[hunter2", 400, "Request decode failed"),
        (Method::PUT, "/v1/agent/check/update/web:80:ttl", "{}", 400, "Invalid check status: \"\""),
        (Method::PUT, "/v1/agent/check/update/web:80:ttl", r#"{"Status":"up"}"#, 400, "Invalid check status: \"up\""),
        (Method::PUT, "/v1/agent/check/update/web:80:ttl", long.as_str(), 413, "at most 32768 bytes"),
    ] {
        let ((code, sentence), taken) = ask(method, path, body).await;
        assert_eq!((code.as_u16(), taken), (status, None), "{path}");
        assert!(sentence.contains(words) && sentence.ends_with('\n') && sentence.len() < 400, "{sentence}");
        assert!(!sentence.contains("hunter2"), "{sentence}");
    }
}

/// The whole server, with somebody who takes reports or without.
async fn server(reports: Option<ReportTaker>) -> (std::net::SocketAddr, CancellationToken) {
    let now = Instant::now();
    let (_docker, docker) = watch::channel(DockerView::starting(now));
    let (_consul, consul) = watch::channel(ConsulView::starting(now));
    let face = Face::new(Arc::new(Metrics::new()), docker, consul);
    let face = match reports {
        Some(reports) => face.with_reports(reports),
        None => face,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(listener, face, shutdown.clone()));
    (address, shutdown)
}

async fn send(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn over_the_server_reports_arrive_and_strangers_do_not() {
    let taken = Arc::default();
    let (address, _shutdown) = server(Some(taker(&taken))).await;
    let body = r#"{"Status":"passing","Output":"fine"}"#;
    let request = format!(
        "PUT /v1/agent/check/update/web:80:ttl HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(send(address, &request).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(taken.lock().unwrap().pop(), Some(report("web:80:ttl", Standing::Passing, "fine")));
    let stranger = request.replace("localhost", "evil.example");
    assert!(send(address, &stranger).await.starts_with("HTTP/1.1 403 "));
    let get = send(address, "GET /v1/agent/check/pass/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(get.starts_with("HTTP/1.1 405 ") && get.contains("allow: PUT\r\n"), "{get}");
    let endless = format!(
        "PUT /v1/agent/check/update/web:80:ttl HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n{}",
        "x".repeat(2 * MAX_BODY)
    );
    let answer = send(address, &endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let page = send(address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200 "));
    assert!(taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn with_an_agent_nobody_reports_here() {
    let (address, _shutdown) = server(None).await;
    let put = "PUT /v1/agent/check/pass/web:80:ttl HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(send(address, put).await.starts_with("HTTP/1.1 405 "));
    let get = "GET /v1/agent/check/pass/web:80:ttl HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(send(address, get).await.starts_with("HTTP/1.1 404 "));
}
