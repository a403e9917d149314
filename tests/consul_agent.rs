//! The registry against a real Consul agent: what only a real one can prove.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/consul.rs"]
mod consul;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::{check, service, ttl};
use consul::{Consul, MANAGEMENT_TOKEN, Options};
use remora::config::{Secret, Token};
use remora::consul::{AgentRegistry, CheckKind, CheckTls, Class, ConsulError, Probe, Registry, Right, Service, Status};
use wiremock::matchers::{body_string, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const HOUR: Probe = Probe { interval: Duration::from_secs(3_600), timeout: None };

/// Waits for something that another process does in its own time.
async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < limit, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_registration_reaches_the_catalog_with_all_its_fields() {
    let consul = Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    let mut web = service("web-1", vec![ttl("web-1:docker", Status::Passing)]);
    web.weights = Some(remora::consul::Weights { passing: 5, warning: 1 });
    registry.register(&web).await.unwrap();
    let found = consul.get("/v1/health/service/web?passing").await;
    let entry = &found[0]["Service"];
    assert_eq!(entry["ID"], "web-1");
    assert_eq!(entry["Address"], "10.1.2.3");
    assert_eq!(entry["Port"], 8080);
    assert_eq!(entry["Tags"], serde_json::json!(["b", "a"]));
    assert_eq!(entry["Meta"]["managed-by"], "remora");
    assert_eq!(entry["Weights"]["Passing"], 5);
    let check = found[0]["Checks"].as_array().unwrap().iter().find(|check| check["CheckID"] == "web-1:docker").unwrap();
    assert_eq!(check["Name"], "check web-1:docker");
    assert_eq!(check["Notes"], "made by a test");
    registry.update_check("web-1:docker", Status::Critical, "exit 1").await.unwrap();
    eventually("the flip is in the catalog", || async {
        consul.get("/v1/health/service/web?passing").await == serde_json::json!([])
    })
    .await;
    registry.deregister("web-1").await.unwrap();
    eventually("the service left the catalog", || async {
        consul.get("/v1/catalog/service/web").await == serde_json::json!([])
    })
    .await;
}

#[tokio::test]
async fn an_http_check_probes_with_method_headers_and_body() {
    let consul = Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    let target = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/health"))
        .and(header("x-test", "yes"))
        .and(body_string("ping"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&target)
        .await;
    let http = CheckKind::Http {
        url: format!("{}/health", target.uri()),
        method: Some("POST".to_owned()),
        headers: BTreeMap::from([("X-Test".to_owned(), vec!["yes".to_owned()])]),
        body: Some("ping".to_owned()),
        probe: Probe { interval: Duration::from_millis(500), timeout: Some(Duration::from_secs(1)) },
        tls: CheckTls::default(),
    };
    registry.register(&service("a", vec![check("a:1", Status::Critical, http)])).await.unwrap();
    eventually("the probe passes", || async {
        registry.read().await.unwrap().services["a"].checks.get("a:1").unwrap().status == Status::Passing
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_check_becomes_that_kind() {
    let scripts = Options { hcl: "enable_script_checks = true".to_owned(), ..Options::default() };
    let consul = Consul::start_with(scripts).await;
    let registry = AgentRegistry::new(consul.client());
    let script = |container: Option<&str>| CheckKind::Script {
        args: vec!["true".to_owned()],
        container: container.map(str::to_owned),
        shell: container.map(|_| "/bin/sh".to_owned()),
        probe: HOUR,
    };
    let tls = CheckTls { server_name: None, skip_verify: true };
    let kinds = [
        ("ttl", CheckKind::Ttl { ttl: Duration::from_secs(876_000 * 3_600) }),
        (
            "http",
            CheckKind::Http {
                url: "https://127.0.0.1:1/".to_owned(),
                method: None,
                headers: BTreeMap::new(),
                body: None,
                probe: HOUR,
                tls: tls.clone(),
            },
        ),
        ("tcp", CheckKind::Tcp { address: "[::1]:1".to_owned(), probe: HOUR }),
        ("grpc", CheckKind::Grpc { target: "127.0.0.1:1".to_owned(), use_tls: true, probe: HOUR, tls }),
        ("script", script(None)),
        ("docker", script(Some("0123456789ab"))),
    ];
    let checks = kinds.iter().map(|(kind, how)| check(&format!("a:{kind}"), Status::Passing, how.clone())).collect();
    registry.register(&service("a", checks)).await.unwrap();
    let found = consul.get("/v1/agent/checks").await;
    for (kind, _) in kinds {
        assert_eq!(found[format!("a:{kind}")]["Type"], kind);
    }
}

#[tokio::test]
async fn a_server_name_that_this_consul_does_not_know_costs_only_the_server_name() {
    let consul = Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    let http = CheckKind::Http {
        url: "https://127.0.0.1:1/".to_owned(),
        method: None,
        headers: BTreeMap::new(),
        body: None,
        probe: HOUR,
        tls: CheckTls { server_name: Some("web.test".to_owned()), skip_verify: false },
    };
    registry.register(&service("a", vec![check("a:1", Status::Passing, http)])).await.unwrap();
    let snapshot = registry.read().await.unwrap();
    assert!(snapshot.services["a"].checks.contains_key("a:1"));
    registry.register(&service("b", vec![])).await.unwrap();
}

#[tokio::test]
async fn scripts_that_the_consul_agent_does_not_allow_are_an_invalid_item() {
    let consul = Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    let script = CheckKind::Script { args: vec!["true".to_owned()], container: None, shell: None, probe: HOUR };
    let error = registry.register(&service("a", vec![check("a:1", Status::Passing, script)])).await.unwrap_err();
    assert_eq!(error.class(), Class::Rejected, "{error}");
}

#[tokio::test]
async fn nothing_is_written_to_the_cluster_at_rest() {
    let consul = Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    registry.register(&service("a", vec![ttl("a:docker", Status::Passing)])).await.unwrap();
    // The agent's own entries (coordinates, its first full sync) have to settle.
    let mut before = consul.raft_index().await;
    loop {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let now = consul.raft_index().await;
        if now == before {
            break;
        }
        before = now;
    }
    for round in 0..20 {
        registry.read().await.unwrap();
        registry.changed("a", Duration::from_millis(10)).await.unwrap();
        // The same status with another output waits for Consul's `check_update_interval` (5 min).
        registry.update_check("a:docker", Status::Passing, &format!("round {round}")).await.unwrap();
    }
    let coordinates = 1; // Consul writes its own network coordinate every few seconds.
    assert!(consul.raft_index().await <= before + coordinates, "60 calls wrote to the cluster");
}

#[tokio::test]
async fn maintenance_of_an_operator_survives_a_new_definition() {
    let consul = Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    registry.register(&service("a", vec![ttl("a:docker", Status::Passing)])).await.unwrap();
    consul.put("/v1/agent/service/maintenance/a?enable=true&reason=test", "").await;
    let mut changed = service("a", vec![ttl("a:docker", Status::Passing)]);
    changed.port = 1;
    registry.register(&changed).await.unwrap();
    let found = registry.read().await.unwrap();
    assert_eq!(found.services["a"].port, 1);
    assert_eq!(found.services["a"].checks.get("_service_maintenance:a").unwrap().status, Status::Critical);
}

#[tokio::test]
async fn what_others_registered_is_seen_whatever_it_is() {
    let consul = Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    consul.put("/v1/agent/service/register", r#"{"Name": "foreign", "Port": 99999, "Address": "bad addr"}"#).await;
    consul.put("/v1/agent/check/register", r#"{"Name": "of the node", "TTL": "10s"}"#).await;
    let found = registry.read().await.unwrap();
    assert_eq!(found.services.keys().collect::<Vec<_>>(), ["foreign"]);
    assert_eq!(found.services["foreign"].address, "bad addr");
    assert!(found.services["foreign"].checks.is_empty());
}

#[tokio::test]
async fn a_restart_of_the_agent_is_noticed_at_once_and_its_loss_is_seen() {
    let mut consul = Consul::start().await;
    let registry = Arc::new(AgentRegistry::new(consul.client()));
    registry.register(&service("remora", vec![ttl("remora:ttl", Status::Passing)])).await.unwrap();
    assert_eq!(registry.changed("remora", Duration::from_secs(1)).await, Ok(true));

    let waiting = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.changed("remora", Duration::from_secs(60)).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "Consul holds the question");
    let killed = Instant::now();
    consul.kill();
    let outcome = waiting.await.unwrap();
    assert!(matches!(outcome, Err(ConsulError::Unreachable { .. })), "{outcome:?}");
    assert!(killed.elapsed() < Duration::from_millis(500), "noticed after {:?}", killed.elapsed());
    let down = registry.read().await.unwrap_err();
    assert!(down.to_string().contains("Connection refused"), "{down}");

    consul.restart().await;
    assert_eq!(registry.changed("remora", Duration::from_secs(60)).await, Ok(true), "learns anew after an error");
    assert!(registry.read().await.unwrap().services.is_empty(), "the data is lost");
}

#[tokio::test]
async fn a_dropped_wait_misses_nothing() {
    let consul = Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    registry.register(&service("a", vec![])).await.unwrap();
    assert_eq!(registry.changed("a", Duration::from_secs(1)).await, Ok(true));
    let dropped =
        tokio::time::timeout(Duration::from_millis(100), registry.changed("a", Duration::from_secs(60))).await;
    assert!(dropped.is_err());
    consul.put("/v1/agent/service/deregister/a", "").await;
    let start = Instant::now();
    assert_eq!(registry.changed("a", Duration::from_secs(60)).await, Ok(true));
    assert!(start.elapsed() < Duration::from_secs(1));
}

fn acl() -> Options {
    Options { acl: true, ..Options::default() }
}

#[tokio::test]
async fn without_rights_writes_are_forbidden_and_the_view_is_empty() {
    let consul = Consul::start_with(acl()).await;
    consul.put("/v1/agent/service/register", r#"{"Name": "web"}"#).await;
    let registry = AgentRegistry::new(consul.client_with(Token::None));
    let error = registry.register(&service("a", vec![])).await.unwrap_err();
    assert!(matches!(&error, ConsulError::Forbidden { message, .. } if message.contains("service:write")), "{error}");
    let error = registry.deregister("web").await.unwrap_err();
    assert_eq!(error.class(), Class::Denied, "{error}");
    assert_eq!(registry.client().agent_self().await.unwrap_err().class(), Class::Denied);
    // Consul's trap: no error, and nothing to see.
    assert!(registry.read().await.unwrap().services.is_empty());
    // A service that nobody knows: 500 with access control.
    registry.deregister("nobody").await.unwrap();
}

#[tokio::test]
async fn an_unknown_token_is_forbidden_and_never_shown() {
    let consul = Consul::start_with(acl()).await;
    let registry = AgentRegistry::new(consul.client_with(Token::Value(Secret::new("s3cr3t-token"))));
    let errors = [
        registry.read().await.map(drop),
        registry.register(&service("a", vec![])).await,
        registry.deregister("a").await,
        registry.update_check("a", Status::Passing, "").await,
        registry.remove_check("a").await,
        registry.changed("a", Duration::from_secs(1)).await.map(drop),
        registry.client().rights(&[Right::new("service", "a", "write")]).await.map(drop),
    ];
    for outcome in errors {
        let error = outcome.unwrap_err();
        assert_eq!(error.class(), Class::Denied, "{error}");
        assert!(!format!("{error} {error:?} {registry:?}").contains("s3cr3t"));
    }
}

#[tokio::test]
async fn a_token_that_replaces_a_refused_one_in_the_file_is_used_at_once() {
    let consul = Consul::start_with(acl()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "no-such-token\n").unwrap();
    let registry = AgentRegistry::new(consul.client_with(Token::File(file.clone())));
    assert_eq!(registry.register(&service("a", vec![])).await.unwrap_err().class(), Class::Denied);
    std::fs::write(&file, format!("{MANAGEMENT_TOKEN}\n")).unwrap();
    registry.register(&service("a", vec![])).await.unwrap();
    assert!(registry.read().await.unwrap().services.contains_key("a"));
}

/// Consul's trap: it removes a service with the token that it was registered with.
#[tokio::test]
async fn what_an_agent_cannot_remove_from_the_catalog_is_found_and_removed() {
    let consul = Consul::start_with(acl()).await;
    let policy = r#"{"Name": "a", "Rules": "service_prefix \"\" { policy = \"write\" }"}"#;
    consul.put("/v1/acl/policy", policy).await;
    let (accessor, secret) = ("88888888-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555");
    let token = format!(r#"{{"AccessorID": "{accessor}", "SecretID": "{secret}", "Policies": [{{"Name": "a"}}]}}"#);
    consul.put("/v1/acl/token", &token).await;
    let before = AgentRegistry::new(consul.client_with(Token::Value(Secret::new(secret))));
    let after = AgentRegistry::new(consul.client());
    before.register(&service("gone", vec![])).await.unwrap();
    after.register(&service("here", vec![])).await.unwrap();
    let in_catalog =
        async |id: &str| consul.get("/v1/catalog/service/web").await.to_string().contains(&format!("\"{id}\""));
    eventually("both are in the catalog", || async { in_catalog("gone").await && in_catalog("here").await }).await;
    // A server's own service is not one of its agent's.
    let strays = async || {
        let mut strays = after.strays().await.unwrap();
        strays.retain(|stray| stray.id != "consul");
        strays
    };
    assert_eq!(strays().await, []);

    consul.raw("DELETE", &format!("/v1/acl/token/{accessor}"), "").await;
    after.deregister("gone").await.unwrap();
    eventually("it is let go", || async { strays().await.len() == 1 }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(in_catalog("gone").await, "Consul removes it by itself: then all of this is not needed");
    let found = strays().await;
    assert_eq!(found.iter().map(|stray| stray.id.as_str()).collect::<Vec<_>>(), ["gone"]);
    after.bury(&found[0]).await.unwrap();
    eventually("it is gone", || async { !in_catalog("gone").await }).await;
    assert_eq!(strays().await, []);
    assert!(in_catalog("here").await);
}

#[tokio::test]
async fn an_agent_tells_about_itself() {
    let consul = Consul::start().await;
    let client = consul.client();
    let facts = client.agent_self().await.unwrap();
    assert_eq!(facts.node_name, Consul::NODE);
    assert_eq!(facts.datacenter, "dc1");
    assert_eq!(facts.advertise, Some([127, 0, 0, 1].into()));
    assert!(facts.server && facts.version.starts_with(|c: char| c.is_ascii_digit()), "{facts:?}");
    assert!(client.leader().await.unwrap().is_some());
    assert_eq!(client.rights(&[Right::new("service", "web", "write")]).await.unwrap(), None, "no access control");
    assert_eq!(client.services_filtered().await.unwrap(), None);
}

#[tokio::test]
async fn rights_are_told_one_by_one() {
    let consul = Consul::start_with(acl()).await;
    let rules =
        r#"{"Name": "web", "Rules": "service \"web\" { policy = \"write\" } node_prefix \"\" { policy = \"read\" }"}"#;
    consul.put("/v1/acl/policy", rules).await;
    let token = r#"{"SecretID": "99999999-2222-3333-4444-555555555555", "Policies": [{"Name": "web"}]}"#;
    consul.put("/v1/acl/token", token).await;
    let client = consul.client_with(Token::Value(Secret::new("99999999-2222-3333-4444-555555555555")));
    let asked = [
        Right::new("service", "web", "write"),
        Right::new("service", "db", "write"),
        Right::new("node", Consul::NODE, "read"),
        Right::new("agent", Consul::NODE, "read"),
    ];
    let rights = client.rights(&asked).await.unwrap().unwrap();
    let allowed: Vec<bool> = rights.iter().map(|right| right.allowed).collect();
    assert_eq!(allowed, [true, false, true, false], "{rights:?}");
    assert_eq!(rights[1].to_string(), "service \"db\": write");
    // More than Consul answers for in one call.
    let many: Vec<Right> = (0..150).map(|number| Right::new("service", &format!("s{number}"), "write")).collect();
    let answer = client.rights(&many).await.unwrap().unwrap();
    assert!(answer.len() == 150 && answer.iter().all(|right| !right.allowed));
    assert_eq!(answer[149].segment, "s149");
}

#[tokio::test]
async fn a_unix_socket_is_an_address_too() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("consul.sock");
    let hcl = format!("addresses {{ http = \"127.0.0.1 unix://{}\" }}", socket.display());
    let consul = Consul::start_with(Options { hcl, ..Options::default() }).await;
    let config = remora::config::Consul { address: remora::config::ConsulAddress::Unix(socket), ..consul.config() };
    let registry = AgentRegistry::new(remora::consul::Client::new(&config).unwrap());
    registry.register(&service("a/b", vec![])).await.unwrap();
    assert!(registry.read().await.unwrap().services.contains_key("a/b"));
    registry.deregister("a/b").await.unwrap();
    assert!(registry.read().await.unwrap().services.is_empty());
}

#[tokio::test]
async fn a_namespace_that_this_edition_does_not_know_is_told() {
    let consul = Consul::start().await;
    let config = remora::config::Consul { namespace: Some("team".to_owned()), ..consul.config() };
    let registry = AgentRegistry::new(remora::consul::Client::new(&config).unwrap());
    let error = registry.register(&service("a", vec![])).await.unwrap_err();
    assert!(matches!(&error, ConsulError::Invalid { message, .. } if message.contains("Enterprise")), "{error}");
}

#[tokio::test]
async fn a_definition_that_was_registered_is_the_one_that_its_hash_says() {
    let consul = Consul::start().await;
    let registry = AgentRegistry::new(consul.client());
    let mut sealed = service("a", vec![ttl("a:docker", Status::Passing)]);
    sealed.seal();
    registry.register(&sealed).await.unwrap();
    let found = registry.read().await.unwrap();
    assert_eq!(found.services["a"].meta.get(Service::META_HASH).unwrap(), &sealed.definition_hash());
}
