//! The client against a Consul that misbehaves, or that is none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[path = "support/consul_wire.rs"]
mod consul_wire;
#[path = "support/ports.rs"]
mod ports;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use consul_wire::{at, client, config, web};
use remora::config::{self, ConsulAddress, ConsulTls, Secret, Token};
use remora::consul::{AgentRegistry, Class, Client, ClientError, ConsulError, Registry, Right, Status};
use serde_json::json;
use wiremock::matchers::{any, header, header_exists, method, path, query_param};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

async fn answering(template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(template).mount(&server).await;
    server
}

fn registry(server: &MockServer) -> AgentRegistry {
    AgentRegistry::new(client(server))
}

#[tokio::test]
async fn answers_are_classed_by_status_and_body_together() {
    let cases = [
        (429, "", Class::Transient),
        (500, "No cluster leader", Class::Transient),
        (500, "rpc error making call: Permission denied", Class::Denied),
        (500, "Invalid Service Meta: no", Class::Rejected),
        (500, "CheckID \"a\" does not have associated TTL", Class::Gone),
        (404, "Unknown check ID \"a\". Ensure that the check ID is passed, not the check name.", Class::Gone),
        (400, "Missing service name", Class::Rejected),
        (503, "<html>maintenance</html>", Class::Transient),
    ];
    for (status, body, class) in cases {
        let server = answering(ResponseTemplate::new(status).set_body_string(body)).await;
        let error = registry(&server).update_check("a", Status::Passing, "").await.unwrap_err();
        assert_eq!(error.class(), class, "{status} {body}: {error}");
    }
}

/// Whatever is missing in the answer would else read as a right that the token has.
#[tokio::test]
async fn an_answer_about_other_rights_than_those_asked_for_is_none() {
    let asked = [Right::new("service", "web", "write"), Right::new("node", "n1", "read")];
    let web = r#"{"Resource":"service","Segment":"web","Access":"write","Allow":true}"#;
    let node = r#"{"Resource":"node","Segment":"n1","Access":"read","Allow":false}"#;
    for body in [
        "null".to_owned(),
        "[]".to_owned(),
        format!("[{web}]"),
        format!("[{node},{web}]"),
        format!("[{web},{node},{web}]"),
    ] {
        let server = answering(ResponseTemplate::new(200).set_body_string(&body)).await;
        let error = client(&server).rights(&asked).await.unwrap_err();
        assert!(matches!(error, ConsulError::Unreadable { .. }), "{body}: {error}");
    }
    let server = answering(ResponseTemplate::new(200).set_body_string(format!("[{web},{node}]"))).await;
    let rights = client(&server).rights(&asked).await.unwrap().unwrap();
    assert_eq!(rights.iter().map(|right| right.allowed).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn what_is_gone_already_is_deregistered() {
    for (status, body) in [(404, "Unknown service ID \"a\""), (500, "Unknown service {\"a\" {}}"), (200, "")] {
        let server = answering(ResponseTemplate::new(status).set_body_string(body)).await;
        registry(&server).deregister("a").await.unwrap();
    }
}

#[tokio::test]
async fn an_address_where_no_consul_answers_is_unknown_and_never_empty() {
    let cases = [
        ResponseTemplate::new(404).set_body_string("404 page not found"),
        ResponseTemplate::new(200).set_body_string("<html>Welcome</html>"),
        ResponseTemplate::new(200).set_body_string(""),
        ResponseTemplate::new(200).set_body_string("{\"a\": {\"Service\": \"web\""),
        ResponseTemplate::new(200).set_body_string("[]"),
    ];
    for template in cases {
        let server = answering(template).await;
        let error = registry(&server).read().await.unwrap_err();
        assert!(matches!(error, ConsulError::Unreadable { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_null_list_is_an_empty_one() {
    let server = answering(ResponseTemplate::new(200).set_body_string("null")).await;
    assert!(registry(&server).read().await.unwrap().services.is_empty());
}

/// Half of the servers behind a balancer may be ill, and a look takes two lists.
#[tokio::test]
async fn a_list_is_asked_for_again_while_consul_is_unwell_and_not_without_end() {
    let server = MockServer::start().await;
    for status in [429, 503] {
        Mock::given(any()).respond_with(ResponseTemplate::new(status)).up_to_n_times(1).mount(&server).await;
    }
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200).set_body_string("{}"))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    Mock::given(any()).respond_with(ResponseTemplate::new(500).set_body_string("no leader")).mount(&server).await;
    let registry = registry(&server);
    assert!(registry.read().await.unwrap().services.is_empty());
    assert_eq!(server.received_requests().await.unwrap().len(), 4, "the third try, and one for the other list");
    assert!(matches!(registry.read().await.unwrap_err(), ConsulError::Unwell { status: 500, .. }));
    assert_eq!(server.received_requests().await.unwrap().len(), 7, "three tries");
}

/// Else it would keep the buffers of the longest one, as long as it is in use.
#[tokio::test]
async fn a_connection_that_carries_long_answers_is_closed_after_each() {
    let list = |services: usize| {
        let services =
            (0..services).map(|number| (format!("web-{number}"), json!({"Service": "web", "Tags": ["x".repeat(900)]})));
        serde_json::Value::Object(services.collect())
    };
    let server = MockServer::start().await;
    let services = async |times, services| {
        let answer = ResponseTemplate::new(200).set_body_json(list(services));
        Mock::given(path("/v1/agent/services")).respond_with(answer).up_to_n_times(times).mount(&server).await;
    };
    services(2, 1_000).await;
    services(2, 1).await;
    let checks = ResponseTemplate::new(200).set_body_string("{}");
    Mock::given(path("/v1/agent/checks")).respond_with(checks).mount(&server).await;
    let registry = registry(&server);
    for expected in [1_000, 1_000, 1, 1] {
        assert_eq!(registry.read().await.unwrap().services.len(), expected);
    }
    let requests = server.received_requests().await.unwrap();
    let closes = |request: &&Request| request.headers.get("connection").is_some_and(|it| it == "close");
    let of = |list: &str| {
        requests.iter().filter(|it| it.url.path().ends_with(list)).map(|it| closes(&it)).collect::<Vec<_>>()
    };
    assert_eq!(of("services"), [false, true, true, false], "by what the last answer was");
    assert_eq!(of("checks"), [false; 4]);
}

#[tokio::test]
async fn a_long_error_page_becomes_one_short_line() {
    let page = "<p>\r\n\u{1b}[31mBad Gateway</p>".repeat(100_000);
    let server = answering(ResponseTemplate::new(502).set_body_string(page)).await;
    let told = registry(&server).read().await.unwrap_err().to_string();
    assert!(told.len() < 400 && !told.contains(char::is_control), "{told}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let body = vec![b' '; (32 << 20) + 1];
    let server = answering(ResponseTemplate::new(200).set_body_bytes(body)).await;
    let error = registry(&server).read().await.unwrap_err();
    assert!(matches!(&error, ConsulError::Unreadable { reason, .. } if reason.contains("32 MiB")), "{error}");
}

/// Answers every connection with these bytes and closes it.
fn raw_server(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let _request = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    port
}

#[tokio::test]
async fn a_broken_connection_is_unreachable() {
    let cases: [&[u8]; 3] = [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 200 O"];
    for answer in cases {
        let registry = AgentRegistry::new(Client::new(&config(at(raw_server(answer)))).unwrap());
        let error = registry.read().await.unwrap_err();
        assert!(matches!(error, ConsulError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().starts_with("Consul cannot be reached at http://127.0.0.1:"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_with_the_reason() {
    let free = ports::free_port();
    let registry = AgentRegistry::new(Client::new(&config(at(free))).unwrap());
    let told = registry.read().await.unwrap_err().to_string();
    assert!(told.contains("Connection refused") && !told.contains("/v1/"), "{told}");
}

#[tokio::test]
async fn a_slow_answer_is_a_time_out() {
    let server = answering(ResponseTemplate::new(200).set_delay(Duration::from_secs(5))).await;
    let patience = Duration::from_millis(200);
    let registry = AgentRegistry::new(client(&server).with_timeout(patience));
    let error = registry.deregister("a").await.unwrap_err();
    assert_eq!(error, ConsulError::TimedOut { call: "PUT /v1/agent/service/deregister/:id", after: patience });
}

#[tokio::test]
async fn a_held_answer_has_the_time_that_it_was_promised_and_a_sixteenth() {
    let server = MockServer::start().await;
    let hash =
        |hash: &str| ResponseTemplate::new(200).insert_header("X-Consul-ContentHash", hash).set_body_string("{}");
    Mock::given(query_param("wait", "800ms"))
        .and(query_param("hash", "one"))
        .respond_with(hash("two").set_delay(Duration::from_millis(850)))
        .mount(&server)
        .await;
    Mock::given(any()).respond_with(hash("one")).with_priority(9).mount(&server).await;
    let registry = AgentRegistry::new(client(&server).with_timeout(Duration::from_millis(500)));
    assert_eq!(registry.changed("a", Duration::from_millis(800)).await, Ok(true));
    assert_eq!(registry.changed("a", Duration::from_millis(800)).await, Ok(true));
}

#[tokio::test]
async fn a_peer_that_holds_no_question_does_not_make_the_caller_spin() {
    let template = ResponseTemplate::new(200).insert_header("X-Consul-ContentHash", "one").set_body_string("{}");
    let server = answering(template).await;
    let registry = registry(&server);
    registry.changed("a", Duration::from_secs(60)).await.unwrap();
    let start = Instant::now();
    assert_eq!(registry.changed("a", Duration::from_secs(60)).await, Ok(false));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn without_a_content_hash_the_sentinel_cannot_be_watched() {
    let server = answering(ResponseTemplate::new(200).set_body_string("{}")).await;
    let error = registry(&server).changed("a", Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().contains("X-Consul-ContentHash"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_token_goes_nowhere_else() {
    let elsewhere = answering(ResponseTemplate::new(200).set_body_string("{}")).await;
    let server = answering(ResponseTemplate::new(302).insert_header("Location", elsewhere.uri())).await;
    let config = config::Consul { token: Token::Value(Secret::new("s3cr3t")), ..config(web(&server)) };
    let registry = AgentRegistry::new(Client::new(&config).unwrap());
    let error = registry.read().await.unwrap_err();
    assert!(matches!(error, ConsulError::Unreadable { .. }), "{error:?}");
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn token_basic_auth_agent_name_and_scope_go_with_every_request() {
    let server = MockServer::start().await;
    Mock::given(method("PUT"))
        .and(path("/proxy/v1/agent/service/deregister/n:web:80"))
        .and(header("X-Consul-Token", "s3cr3t"))
        .and(header("Authorization", "Basic dXNlcjpwYXNz"))
        .and(header("User-Agent", concat!("remora/", env!("CARGO_PKG_VERSION"))))
        .and(query_param("ns", "team"))
        .and(query_param("partition", "part"))
        .respond_with(ResponseTemplate::new(200))
        .expect(1)
        .mount(&server)
        .await;
    let ConsulAddress::Url { tls, host, port, .. } = web(&server) else { panic!("a URL") };
    let config = config::Consul {
        token: Token::Value(Secret::new("s3cr3t")),
        auth: Some(("user".to_owned(), Secret::new("pass"))),
        namespace: Some("team".to_owned()),
        partition: Some("part".to_owned()),
        ..config(ConsulAddress::Url { tls, host, port, prefix: "/proxy".to_owned() })
    };
    AgentRegistry::new(Client::new(&config).unwrap()).deregister("n:web:80").await.unwrap();
}

#[tokio::test]
async fn a_body_is_json_and_says_so() {
    let server = MockServer::start().await;
    Mock::given(header("Content-Type", "application/json"))
        .and(wiremock::matchers::body_json(serde_json::json!({"Status": "critical", "Output": "exit 1"})))
        .respond_with(ResponseTemplate::new(200))
        .expect(1)
        .mount(&server)
        .await;
    registry(&server).update_check("a", Status::Critical, "exit 1").await.unwrap();
}

#[tokio::test]
async fn a_refused_call_is_repeated_once_when_the_token_file_has_another_token_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let server = MockServer::start().await;
    let rotated = file.clone();
    Mock::given(header("X-Consul-Token", "old"))
        .respond_with(move |_: &Request| {
            std::fs::write(&rotated, "new").unwrap();
            ResponseTemplate::new(403).set_body_string("ACL not found")
        })
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(header("X-Consul-Token", "new"))
        .respond_with(ResponseTemplate::new(200))
        .expect(2)
        .mount(&server)
        .await;
    let config = config::Consul { token: Token::File(file), ..config(web(&server)) };
    let registry = AgentRegistry::new(Client::new(&config).unwrap());
    registry.deregister("a").await.unwrap();
    registry.deregister("b").await.unwrap();
}

#[tokio::test]
async fn a_refused_call_is_not_repeated_with_the_same_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cr3t").unwrap();
    let server = MockServer::start().await;
    Mock::given(header_exists("X-Consul-Token"))
        .respond_with(ResponseTemplate::new(403).set_body_string("Permission denied"))
        .expect(1)
        .mount(&server)
        .await;
    let config = config::Consul { token: Token::File(file), ..config(web(&server)) };
    let error = AgentRegistry::new(Client::new(&config).unwrap()).deregister("a").await.unwrap_err();
    assert_eq!(error.class(), Class::Denied);
    assert!(!format!("{error} {error:?}").contains("s3cr3t"));
}

#[tokio::test]
async fn without_a_token_no_token_header_is_sent() {
    let server = MockServer::start().await;
    Mock::given(header_exists("X-Consul-Token")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).with_priority(9).mount(&server).await;
    registry(&server).deregister("a").await.unwrap();
}

#[tokio::test]
async fn rights_and_filtering_of_newer_versions_are_understood() {
    let server = MockServer::start().await;
    Mock::given(path("/v1/agent/services"))
        .respond_with(
            ResponseTemplate::new(200).insert_header("X-Consul-Results-Filtered-By-ACLs", "true").set_body_string("{}"),
        )
        .mount(&server)
        .await;
    assert_eq!(client(&server).services_filtered().await.unwrap(), Some(true));
}

/// This test's own program runs again, in an environment with a proxy: setting a variable inside a process that has
/// threads is not safe.
#[tokio::test]
async fn the_proxy_of_the_environment_is_not_asked() {
    const VARIABLE: &str = "REMORA_TEST_CONSUL_PORT";
    if let Ok(port) = std::env::var(VARIABLE) {
        let registry = AgentRegistry::new(Client::new(&config(at(port.parse().unwrap()))).unwrap());
        registry.deregister("a").await.unwrap();
        return;
    }
    let server = answering(ResponseTemplate::new(200)).await;
    let proxy = answering(ResponseTemplate::new(502)).await;
    let run = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_proxy_of_the_environment_is_not_asked"])
        .env(VARIABLE, server.address().port().to_string())
        .env("http_proxy", proxy.uri())
        .env("HTTP_PROXY", proxy.uri())
        .env("ALL_PROXY", proxy.uri())
        .stdout(Stdio::null())
        .status();
    assert!(run.await.unwrap().success());
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
    assert!(proxy.received_requests().await.unwrap().is_empty());
}

/// As above, in an environment without any authority.
#[tokio::test]
async fn without_any_authority_https_is_told_at_the_start_and_http_works() {
    const VARIABLE: &str = "REMORA_TEST_NO_AUTHORITIES";
    if std::env::var_os(VARIABLE).is_some() {
        let https = ConsulAddress::Url { tls: true, host: "127.0.0.1".to_owned(), port: 1, prefix: String::new() };
        let error = Client::new(&config(https)).unwrap_err();
        assert!(error.to_string().contains("CONSUL_CACERT"), "{error}");
        let server = answering(ResponseTemplate::new(200)).await;
        registry(&server).deregister("a").await.unwrap();
        return;
    }
    let run = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "without_any_authority_https_is_told_at_the_start_and_http_works", "--nocapture"])
        .env(VARIABLE, "1")
        .env("SSL_CERT_FILE", "/nowhere")
        .env("SSL_CERT_DIR", "/nowhere")
        .stdout(Stdio::null())
        .status();
    assert!(run.await.unwrap().success());
}

/// A TLS server for one page, with certificates made on the spot.
struct TlsServer {
    folder: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }
}

fn openssl(folder: &std::path::Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = output.expect("these tests make their certificates with openssl: install it");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl TlsServer {
    /// Its certificate is for `server.dc1.consul`; it asks for a client certificate of the same authority.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        openssl(at, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca"));
        for (file, name) in [("server", "server.dc1.consul"), ("client", "client.dc1.consul")] {
            openssl(at, &format!("req {key} -keyout {file}.key -out {file}.csr -subj /CN={name}"));
            std::fs::write(at.join("san"), format!("subjectAltName=DNS:{name}\n")).unwrap();
            openssl(
                at,
                &format!(
                    "x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out {file}.pem"
                ),
            );
        }
        openssl(at, &format!("req -x509 {key} -keyout other.key -out other.pem -subj /CN=other"));
        let port = ports::free_port();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-cert", "server.pem", "-key", "server.key", "-CAfile", "ca.pem"])
            .args(["-Verify", "1", "-verify_return_error", "-accept", &format!("127.0.0.1:{port}")])
            .current_dir(at)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { folder, child, port };
        let limit = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < limit, "openssl s_server did not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// What a call that gets through the handshake ends with: the server has a page, but it is none of Consul's.
    async fn ask(&self, tls: ConsulTls) -> Result<(), ConsulError> {
        let address =
            ConsulAddress::Url { tls: true, host: "127.0.0.1".to_owned(), port: self.port, prefix: String::new() };
        let client = Client::new(&config::Consul { tls, ..config(address) }).unwrap();
        match client.with_timeout(Duration::from_secs(5)).leader().await {
            Err(ConsulError::Unreadable { .. } | ConsulError::Invalid { .. } | ConsulError::NotFound { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    fn good(&self) -> ConsulTls {
        ConsulTls {
            verify: true,
            ca_file: Some(self.file("ca.pem")),
            ca_path: None,
            client: Some((self.file("client.pem"), self.file("client.key"))),
            server_name: Some("server.dc1.consul".to_owned()),
        }
    }
}

#[tokio::test]
async fn tls_verifies_both_sides_under_the_name_of_the_setting() {
    let server = TlsServer::start().await;
    server.ask(server.good()).await.unwrap();

    // The authority out of a folder with other files in it.
    server
        .ask(ConsulTls { ca_file: None, ca_path: Some(server.folder.path().to_owned()), ..server.good() })
        .await
        .unwrap();

    // Without verification neither name nor authority matter.
    server.ask(ConsulTls { verify: false, ca_file: None, server_name: None, ..server.good() }).await.unwrap();

    let wrong = [
        (
            "another name than the certificate's",
            "certificate not valid for name",
            ConsulTls { server_name: None, ..server.good() },
        ),
        ("another authority", "UnknownIssuer", ConsulTls { ca_file: Some(server.file("other.pem")), ..server.good() }),
        ("no client certificate", "alert: CertificateRequired", ConsulTls { client: None, ..server.good() }),
    ];
    // The words are those by which `remora doctor` tells these apart.
    for (what, words, tls) in wrong {
        let error = server.ask(tls).await.expect_err(what);
        assert!(
            matches!(&error, ConsulError::Unreachable { reason, .. } if reason.contains(words)),
            "{what}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_client_certificate_and_a_key_that_do_not_belong_together_are_told() {
    let server = TlsServer::start().await;
    let address = ConsulAddress::Url { tls: true, host: "127.0.0.1".to_owned(), port: 1, prefix: String::new() };
    let tls = ConsulTls { client: Some((server.file("client.pem"), server.file("server.key"))), ..server.good() };
    let error = Client::new(&config::Consul { tls, ..config(address) }).unwrap_err();
    assert!(matches!(error, ClientError::Setup { .. } | ClientError::File { .. }), "{error:?}");
}
