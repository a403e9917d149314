//! Probes over the network: every kind of check against small servers of this host, well-behaved and not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod servers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora::config::ConsulTls;
use remora::consul::model::{Check, CheckKind, CheckTls, Probe, Status};
use remora::consul::registry::OUTPUT_LIMIT;
use remora::probe::{Answer, Ask as _, Asker, Prober, Wanted};
use remora::telemetry::Metrics;
use servers::{CERTIFICATE, Then, acceptor, echo, health, nobody, raw, serve, silent};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Long enough for a machine that has other things to do.
const PROBE: Probe = Probe { interval: Duration::from_secs(1), timeout: Some(Duration::from_secs(10)) };

/// For those that never answer.
const HURRY: Probe = Probe { interval: Duration::from_secs(1), timeout: Some(Duration::from_millis(500)) };

/// The same check with [`HURRY`].
fn hurried(mut check: Check) -> Check {
    match Arc::make_mut(&mut check.kind) {
        CheckKind::Http { probe, .. } | CheckKind::Tcp { probe, .. } | CheckKind::Grpc { probe, .. } => *probe = HURRY,
        CheckKind::Ttl { .. } | CheckKind::Script { .. } => {}
    }
    check
}

fn check(id: &str, kind: CheckKind) -> Check {
    Check {
        id: id.into(),
        name: "".into(),
        notes: "".into(),
        kind: kind.into(),
        status: Status::Critical,
        output: "".into(),
        deregister_after: None,
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

/// An HTTP check of this URL.
fn http(url: &str) -> Check {
    http_with(url, |_, _, _| {})
}

type Headers = BTreeMap<String, Vec<String>>;

fn http_with(url: &str, change: impl FnOnce(&mut Option<String>, &mut Headers, &mut CheckTls)) -> Check {
    let (mut method, mut headers, mut tls) = (None, BTreeMap::new(), CheckTls::default());
    change(&mut method, &mut headers, &mut tls);
    let body = method.as_ref().map(|_| "the body".to_owned());
    check("http", CheckKind::Http { url: url.to_owned(), method, headers, body, probe: PROBE, tls })
}

async fn ask(check: &Check) -> Answer {
    Asker::new(ConsulTls::default()).ask(check).await
}

#[track_caller]
fn is(answer: &Answer, status: Status, words: &str) {
    assert!(answer.status == status && answer.output.contains(words), "expected {status}, {words:?}: {answer:?}");
}

#[tokio::test]
async fn http_is_asked_as_consul_asks() {
    let address = serve(echo).await;
    let url = format!("http://{address}/health?deep=1");
    let answer = ask(&http(&url)).await;
    let said = format!("GET /health?deep=1 host={address} agent=Consul Health Check x= body=");
    assert_eq!(answer.output, format!("HTTP GET {url}: 200 OK Output: {said}"));
    assert_eq!((answer.status, answer.timed_out), (Status::Passing, false));
    let post = http_with(&url, |method, headers, _| {
        *method = Some("POST".to_owned());
        headers.insert("Host".to_owned(), vec!["shop.test".to_owned()]);
        headers.insert("X".to_owned(), vec!["y".to_owned()]);
    });
    is(
        &ask(&post).await,
        Status::Passing,
        "POST /health?deep=1 host=shop.test agent=Consul Health Check x=y body=the body",
    );
    let head = http_with(&url, |method, _, _| *method = Some("HEAD".to_owned()));
    assert_eq!(ask(&head).await.output, format!("HTTP HEAD {url}: 200 OK Output: "));
}

#[tokio::test]
async fn the_code_decides_and_redirects_are_not_followed() {
    let address = serve(echo).await;
    for (code, status) in [
        (204, Status::Passing),
        (299, Status::Passing),
        (302, Status::Critical),
        (404, Status::Critical),
        (429, Status::Warning),
        (500, Status::Critical),
        (503, Status::Critical),
    ] {
        is(&ask(&http(&format!("http://{address}/status/{code}"))).await, status, &format!(": {code}"));
    }
}

#[tokio::test]
async fn what_answers_badly_is_judged_by_what_it_said() {
    let flood = raw(b"HTTP/1.1 200 Fine\r\n\r\n", Then::Flood).await;
    let begun = Instant::now();
    let answer = ask(&http(&format!("http://{flood}/"))).await;
    is(&answer, Status::Passing, ": 200 Fine Output: xxxx");
    assert!(answer.output.len() <= OUTPUT_LIMIT && begun.elapsed() < Duration::from_secs(5));
    let slow = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", Then::Hang).await;
    is(&ask(&hurried(http(&format!("http://{slow}/")))).await, Status::Passing, "200 OK Output: half");
    let broken = raw(b"HTTP/1.1 500 Oh\r\nContent-Length: 99\r\n\r\nhalf", Then::Reset).await;
    is(&ask(&http(&format!("http://{broken}/"))).await, Status::Critical, "500 Oh Output: ");
    let reset = raw(b"", Then::Reset).await;
    let answer = ask(&http(&format!("http://{reset}/"))).await;
    is(&answer, Status::Critical, &format!("Get \"http://{reset}/\": "));
    let rubbish = raw(b"SSH-2.0-x\r\n", Then::Hang).await;
    is(&ask(&http(&format!("http://{rubbish}/"))).await, Status::Critical, "Get \"http");
    let endless_header = raw(b"HTTP/1.1 200 OK\r\nX: ", Then::Flood).await;
    is(&ask(&http(&format!("http://{endless_header}/"))).await, Status::Critical, "Get \"http");
}

#[tokio::test]
async fn who_never_answers_is_waited_for_as_long_as_the_time_out() {
    let address = silent().await;
    let checks = [
        http(&format!("http://{address}/")),
        http(&format!("https://{address}/")),
        check(
            "grpc",
            CheckKind::Grpc { target: address.to_string(), use_tls: false, probe: PROBE, tls: CheckTls::default() },
        ),
        check(
            "grpc",
            CheckKind::Grpc {
                target: address.to_string(),
                use_tls: true,
                probe: PROBE,
                tls: CheckTls { skip_verify: true, ..CheckTls::default() },
            },
        ),
    ];
    let asker = Asker::new(trusting());
    for one in checks.map(hurried) {
        let begun = Instant::now();
        let answer = asker.ask(&one).await;
        is(&answer, Status::Critical, "context deadline exceeded (no answer within 500ms)");
        assert!(answer.timed_out && (450..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn tcp_is_a_connection_and_nothing_more() {
    let tcp = |address: String| check("tcp", CheckKind::Tcp { address, probe: PROBE });
    let address = silent().await.to_string();
    assert_eq!(
        ask(&tcp(address.clone())).await,
        Answer { status: Status::Passing, output: format!("TCP connect {address}: Success"), timed_out: false }
    );
    let address = nobody().await.to_string();
    let answer = ask(&tcp(address.clone())).await;
    assert_eq!(answer.output, format!("dial tcp {address}: connect: connection refused"));
    is(&ask(&tcp("nobody.invalid:80".to_owned())).await, Status::Critical, "dial tcp nobody.invalid:80: ");
    is(&ask(&tcp("no port".to_owned())).await, Status::Critical, "dial tcp no port: ");
    let refused = nobody().await;
    let url = format!("http://{refused}/");
    is(
        &ask(&http(&url)).await,
        Status::Critical,
        &format!("Get \"{url}\": dial tcp {refused}: connect: connection refused"),
    );
}

fn trusting() -> ConsulTls {
    ConsulTls { ca_file: Some(PathBuf::from(CERTIFICATE)), ..ConsulTls::default() }
}

#[tokio::test]
async fn certificates_are_verified_unless_the_check_says_otherwise() {
    let acceptor = acceptor(&[]);
    let address = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        }
    })
    .await;
    let url = format!("https://{address}/");
    let strangers = ask(&http(&url)).await;
    is(&strangers, Status::Critical, &format!("Get \"{url}\": tls: "));
    let blind = http_with(&url, |_, _, tls| tls.skip_verify = true);
    is(&ask(&blind).await, Status::Passing, "200 OK");
    let known = Asker::new(trusting());
    is(&known.ask(&http(&url)).await, Status::Passing, "200 OK");
    let named = |name: &str| {
        let name = name.to_owned();
        http_with(&url, |_, _, tls| tls.server_name = Some(name))
    };
    is(&known.ask(&named("probe.test")).await, Status::Passing, &format!("host={address}"));
    is(&known.ask(&named("other.test")).await, Status::Critical, "tls: invalid peer certificate");
    is(&known.ask(&named("no name")).await, Status::Critical, "is not a name that a certificate can have");
    is(&known.ask(&http(&format!("http://{address}/"))).await, Status::Critical, "Get \"http://");
}

fn grpc(target: String, tls: Option<CheckTls>) -> Check {
    let (use_tls, tls) = (tls.is_some(), tls.unwrap_or_default());
    check("grpc", CheckKind::Grpc { target, use_tls, probe: PROBE, tls })
}

#[tokio::test]
async fn grpcs_health_service_is_asked_for_the_service() {
    let address = serve(health).await;
    for (service, status, words) in [
        ("", Status::Passing, format!("gRPC check {address}: success")),
        ("/up", Status::Passing, format!("gRPC check {address}/up: success")),
        ("/down", Status::Critical, format!("gRPC {address}/down serving status: NOT_SERVING")),
        ("/empty", Status::Critical, "serving status: UNKNOWN".to_owned()),
        ("/nobody", Status::Critical, "rpc error: code = NotFound desc = unknown service".to_owned()),
        ("/broken", Status::Critical, "rpc error: code = Unavailable desc = ".to_owned()),
        ("/plain", Status::Critical, "rpc error: code = Unavailable desc = unexpected HTTP status code".to_owned()),
        ("/silent", Status::Critical, "rpc error: code = ".to_owned()),
    ] {
        is(&ask(&grpc(format!("{address}{service}"), None)).await, status, &words);
    }
    let refused = nobody().await;
    is(
        &ask(&grpc(refused.to_string(), None)).await,
        Status::Critical,
        "rpc error: code = Unavailable desc = connection error: dial tcp",
    );
    let web = serve(echo).await;
    is(
        &ask(&grpc(web.to_string(), None)).await,
        Status::Critical,
        "rpc error: code = Unavailable desc = connection error: ",
    );
}

#[tokio::test]
async fn grpc_is_asked_over_tls() {
    let acceptor = acceptor(&["h2"]);
    let address = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                health(stream).await;
            }
        }
    })
    .await;
    let known = Asker::new(trusting());
    is(&known.ask(&grpc(address.to_string(), Some(CheckTls::default()))).await, Status::Passing, "success");
    let named = CheckTls { server_name: Some("probe.test".to_owned()), skip_verify: false };
    is(&known.ask(&grpc(format!("{address}/authority"), Some(named))).await, Status::Passing, "success");
    let blind = CheckTls { skip_verify: true, ..CheckTls::default() };
    is(&ask(&grpc(address.to_string(), Some(blind))).await, Status::Passing, "success");
    is(&ask(&grpc(address.to_string(), Some(CheckTls::default()))).await, Status::Critical, "connection error: tls: ");
}

#[tokio::test]
async fn a_script_is_not_run() {
    let kind = CheckKind::Script { args: vec!["true".to_owned()], container: None, shell: None, probe: PROBE };
    is(&ask(&check("script", kind)).await, Status::Critical, "script checks need a Consul agent");
}

#[tokio::test]
async fn the_whole_way_from_a_wanted_check_to_its_finding() {
    let up = check("up", http(&format!("http://{}/", serve(echo).await)).kind.as_ref().clone());
    let down = check("down", CheckKind::Tcp { address: nobody().await.to_string(), probe: PROBE });
    let wants = [up, down]
        .map(|check| (check.id.clone(), Wanted { status: check.status, check: Arc::new(check) }))
        .into_iter()
        .collect();
    let (_wants, wanted) = watch::channel(Arc::new(wants));
    let (findings, mut found) = mpsc::channel(8);
    let shutdown = CancellationToken::new();
    let prober = Prober::new(Asker::new(ConsulTls::default()), wanted, findings, Arc::new(Metrics::new()));
    let task = tokio::spawn(prober.run(shutdown.clone()));
    let mut told = BTreeMap::new();
    while told.len() < 2 {
        let finding = tokio::time::timeout(Duration::from_secs(5), found.recv()).await.unwrap().unwrap();
        told.insert(finding.check, (finding.status, finding.output));
    }
    assert_eq!(told["up"].0, Status::Passing);
    assert!(told["down"].0 == Status::Critical && told["down"].1.ends_with("connection refused"));
    shutdown.cancel();
    task.await.unwrap();
}
