//! What every [`Registry`] promises. The real one and the fake pass the same suite, so that a scenario that works on the
//! fake is not a scenario that works on the fake only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]
#![allow(dead_code, reason = "each test binary uses its own part of this suite")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;
use remora::consul::registry::{OUTPUT_LIMIT, bounded_output};
use remora::consul::{
    ActualCheck, ActualService, Check, CheckKind, CheckTls, ConsulError, Meta, Probe, Registry, Service, Status,
    TaggedAddress, Weights,
};

/// A TTL check.
pub fn ttl(id: &str, status: Status) -> Check {
    check(id, status, CheckKind::Ttl { ttl: Duration::from_secs(3_600) })
}

/// A check of any kind.
pub fn check(id: &str, status: Status, kind: CheckKind) -> Check {
    Check {
        id: id.into(),
        name: format!("check {id}").into(),
        notes: "made by a test".into(),
        kind: kind.into(),
        status,
        output: "not sent".into(),
        deregister_after: None,
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

/// A service with these checks.
pub fn service(id: &str, checks: Vec<Check>) -> Service {
    Service {
        id: id.into(),
        name: "web".into(),
        address: "10.1.2.3".into(),
        port: 8080,
        tags: ["b".into(), "a".into()].into(),
        meta: Meta::from_iter([(Service::META_OWNER, "remora")]),
        tagged_addresses: LiteMap::new(),
        weights: None,
        enable_tag_override: false,
        checks,
    }
}

/// In what the modes differ by design.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Checks that Consul probes by itself: nobody else may say how they are. In the catalog Consul probes nothing.
    pub consul_probes: bool,
    /// `Web` and `web` are two ids. In the catalog they are one row.
    pub case_matters: bool,
    /// Our own writes are news, and those to other services than the sentinel are not. In the catalog it is the other way
    /// round.
    pub watches_the_sentinel: bool,
}

impl Mode {
    /// A Consul agent on the node.
    pub const AGENT: Self = Self { consul_probes: true, case_matters: true, watches_the_sentinel: true };
    /// A node of our own in the catalog.
    pub const CATALOG: Self = Self { consul_probes: false, case_matters: false, watches_the_sentinel: false };
}

/// The whole suite, on a registry that knows nothing yet. It leaves nothing behind.
pub async fn conforms(registry: &impl Registry, mode: Mode) {
    nothing_is_an_empty_snapshot(registry).await;
    every_field_comes_back(registry).await;
    the_same_picture_is_the_same_arc(registry).await;
    a_new_definition_keeps_the_checks(registry).await;
    a_check_is_fed_by_its_id(registry).await;
    only_known_checks_can_be_fed(registry, mode).await;
    a_long_output_keeps_its_end(registry).await;
    what_is_gone_can_be_removed_again(registry).await;
    a_check_id_belongs_to_the_last_who_took_it(registry).await;
    a_bad_definition_is_invalid_and_changes_nothing(registry).await;
    ids_may_hold_anything(registry, mode).await;
    an_id_is_found_and_in_the_catalog_in_any_case(registry, mode).await;
    if mode.watches_the_sentinel {
        changes_of_the_sentinel_are_noticed(registry).await;
    }
    assert!(registry.read().await.unwrap().services.is_empty(), "the suite leaves nothing behind");
}

async fn actual(registry: &impl Registry, id: &str) -> Option<ActualService> {
    registry.read().await.unwrap().services.get(id).map(|service| ActualService::clone(service))
}

async fn nothing_is_an_empty_snapshot(registry: &impl Registry) {
    assert!(registry.read().await.unwrap().services.is_empty());
}

async fn every_field_comes_back(registry: &impl Registry) {
    let probe = Probe { interval: Duration::from_secs(3_600), timeout: Some(Duration::from_millis(1_500)) };
    let tls = CheckTls::default();
    let http = CheckKind::Http {
        url: "http://127.0.0.1:1/health".to_owned(),
        method: Some("POST".to_owned()),
        headers: BTreeMap::from([("X-Test".to_owned(), vec!["1".to_owned(), "2".to_owned()])]),
        body: Some("ping".to_owned()),
        probe,
        tls: CheckTls { server_name: None, skip_verify: true },
    };
    let tcp = CheckKind::Tcp { address: "127.0.0.1:1".to_owned(), probe };
    let grpc = CheckKind::Grpc { target: "127.0.0.1:1/web".to_owned(), use_tls: true, probe, tls };
    let mut full = service(
        "full",
        vec![
            ttl("full:docker", Status::Warning),
            check("full:1", Status::Passing, http),
            check("full:2", Status::Passing, tcp),
            check("full:3", Status::Passing, grpc),
        ],
    );
    for check in &mut full.checks {
        check.success_before_passing = 2;
        check.failures_before_critical = 3;
        check.deregister_after = Some(Duration::from_secs(876_000 * 3_600));
    }
    full.meta = full.meta.with("key_1-b", "any text: ünicode, \"quotes\"");
    full.tagged_addresses.insert("lan".into(), TaggedAddress { address: "fd00::1".into(), port: 81 });
    full.weights = Some(Weights { passing: 7, warning: 2 });
    full.enable_tag_override = true;
    registry.register(&full).await.unwrap();

    let found = actual(registry, "full").await.unwrap();
    assert_eq!(found.id, full.id);
    assert_eq!(found.name, full.name);
    assert_eq!(found.address, full.address);
    assert_eq!(found.port, full.port);
    assert_eq!(found.tags, full.tags);
    assert_eq!(found.meta, full.meta);
    assert_eq!(found.weights, (7, 2));
    assert!(found.enable_tag_override);
    // What Consul adds by itself (lan_ipv4, wan_ipv4) says nothing new and is left out.
    assert_eq!(found.tagged_addresses, LiteMap::from_iter([("lan".into(), ("fd00::1".into(), 81))]));
    assert_eq!(found.checks.keys().collect::<Vec<_>>(), ["full:1", "full:2", "full:3", "full:docker"]);
    assert_eq!(*found.checks.get("full:docker").unwrap(), ActualCheck { status: Status::Warning, output: "".into() });
    assert_eq!(found.checks.get("full:1").unwrap().status, Status::Passing);

    // And the least that a service can be.
    let bare =
        Service { address: "".into(), port: 0, tags: Arc::default(), meta: Meta::default(), ..service("bare", vec![]) };
    registry.register(&bare).await.unwrap();
    let expected = ActualService { id: "bare".into(), name: "web".into(), weights: (1, 1), ..ActualService::default() };
    assert_eq!(actual(registry, "bare").await, Some(expected));
    registry.deregister("full").await.unwrap();
    registry.deregister("bare").await.unwrap();
}

async fn the_same_picture_is_the_same_arc(registry: &impl Registry) {
    registry.register(&service("a", vec![ttl("a:docker", Status::Passing)])).await.unwrap();
    let first = registry.read().await.unwrap();
    let second = registry.read().await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "nothing happened between two reads");
    let written: Vec<_> = first.services.values().cloned().collect();
    let after = registry.read_after(written.clone()).await.unwrap();
    assert!(Arc::ptr_eq(&first, &after), "nor for a caller who knows his writes");
    registry.update_check("a:docker", Status::Passing, "new output").await.unwrap();
    let third = registry.read().await.unwrap();
    assert!(!Arc::ptr_eq(&second, &third), "an output is part of the picture");
    let what_was_is_not = registry.read_after(written).await.unwrap();
    assert_eq!(what_was_is_not, third, "what Consul says counts");
    registry.deregister("a").await.unwrap();
    assert!(!Arc::ptr_eq(&third, &registry.read().await.unwrap()));
}

async fn a_new_definition_keeps_the_checks(registry: &impl Registry) {
    let checks = vec![ttl("a:docker", Status::Passing), ttl("a:old", Status::Passing)];
    registry.register(&service("a", checks)).await.unwrap();
    registry.update_check("a:docker", Status::Critical, "it broke").await.unwrap();
    let mut changed = service("a", vec![ttl("a:docker", Status::Passing), ttl("a:new", Status::Warning)]);
    changed.tags = ["c".into()].into();
    changed.port = 9090;
    registry.register(&changed).await.unwrap();
    let found = actual(registry, "a").await.unwrap();
    assert_eq!((found.tags, found.port), (changed.tags, 9090));
    let docker = ActualCheck { status: Status::Critical, output: "it broke".into() };
    assert_eq!(*found.checks.get("a:docker").unwrap(), docker, "a check that exists keeps its status");
    assert_eq!(found.checks.get("a:new").unwrap().status, Status::Warning);
    assert!(found.checks.contains_key("a:old"), "a check that is not in the definition is left alone");
    registry.deregister("a").await.unwrap();
}

async fn a_check_is_fed_by_its_id(registry: &impl Registry) {
    registry.register(&service("a", vec![ttl("a:docker", Status::Critical)])).await.unwrap();
    for (status, output) in
        [(Status::Passing, "ok\n \"fine\""), (Status::Warning, ""), (Status::Critical, "exit 1: ünicode")]
    {
        registry.update_check("a:docker", status, output).await.unwrap();
        let found = actual(registry, "a").await.unwrap();
        assert_eq!(*found.checks.get("a:docker").unwrap(), ActualCheck { status, output: output.into() });
    }
    registry.deregister("a").await.unwrap();
}

async fn only_known_checks_can_be_fed(registry: &impl Registry, mode: Mode) {
    let probe = Probe { interval: Duration::from_secs(3_600), timeout: None };
    let tcp = CheckKind::Tcp { address: "127.0.0.1:1".to_owned(), probe };
    registry.register(&service("a", vec![check("a:tcp", Status::Passing, tcp)])).await.unwrap();
    for id in ["a:tcp", "nobody:docker"] {
        if id == "a:tcp" && !mode.consul_probes {
            registry.update_check(id, Status::Critical, "refused").await.unwrap();
            let fed = ActualCheck { status: Status::Critical, output: "refused".into() };
            assert_eq!(*actual(registry, "a").await.unwrap().checks.get(id).unwrap(), fed);
            continue;
        }
        let outcome = registry.update_check(id, Status::Passing, "").await;
        assert!(matches!(outcome, Err(ConsulError::NotFound { .. })), "{id}: {outcome:?}");
    }
    registry.deregister("a").await.unwrap();
}

async fn a_long_output_keeps_its_end(registry: &impl Registry) {
    registry.register(&service("a", vec![ttl("a:docker", Status::Critical)])).await.unwrap();
    let long = format!("{}the error", "ä".repeat(100_000));
    registry.update_check("a:docker", Status::Critical, &long).await.unwrap();
    let output = actual(registry, "a").await.unwrap().checks.get("a:docker").unwrap().output.clone();
    assert!(output.len() <= OUTPUT_LIMIT && output.ends_with("the error"), "{} bytes", output.len());
    assert_eq!(output, bounded_output(&long), "what is kept can be foretold");
    registry.deregister("a").await.unwrap();
}

async fn what_is_gone_can_be_removed_again(registry: &impl Registry) {
    registry
        .register(&service("a", vec![ttl("a:docker", Status::Passing), ttl("a:2", Status::Passing)]))
        .await
        .unwrap();
    registry.remove_check("a:2").await.unwrap();
    assert_eq!(actual(registry, "a").await.unwrap().checks.keys().collect::<Vec<_>>(), ["a:docker"]);
    registry.remove_check("a:2").await.unwrap();
    registry.deregister("a").await.unwrap();
    assert_eq!(actual(registry, "a").await, None);
    registry.deregister("a").await.unwrap();
    let outcome = registry.update_check("a:docker", Status::Passing, "").await;
    assert!(matches!(outcome, Err(ConsulError::NotFound { .. })), "a check goes with its service: {outcome:?}");
}

async fn a_check_id_belongs_to_the_last_who_took_it(registry: &impl Registry) {
    registry.register(&service("first", vec![ttl("shared", Status::Critical)])).await.unwrap();
    registry.register(&service("second", vec![ttl("shared", Status::Passing)])).await.unwrap();
    assert!(actual(registry, "first").await.unwrap().checks.is_empty());
    assert!(actual(registry, "second").await.unwrap().checks.contains_key("shared"));
    registry.deregister("first").await.unwrap();
    registry.deregister("second").await.unwrap();
}

async fn a_bad_definition_is_invalid_and_changes_nothing(registry: &impl Registry) {
    registry.register(&service("good", vec![])).await.unwrap();
    let before = registry.read().await.unwrap();
    let meta = |key: &str, value: String| Meta::from_iter([(key, value)]);
    let many = (0..65).map(|number| (format!("key{number}"), String::new())).collect();
    let bad = [
        Service { name: "".into(), ..service("bad", vec![]) },
        Service { address: "0.0.0.0".into(), ..service("bad", vec![]) },
        Service { meta: meta("with.dot", String::new()), ..service("bad", vec![]) },
        Service { meta: meta("key", "x".repeat(513)), ..service("bad", vec![]) },
        Service { meta: many, ..service("bad", vec![]) },
        // Ids that could be registered, but not be named in a path afterwards.
        service("", vec![]),
        service("..", vec![]),
        service("a//b", vec![]),
        service("a/../b", vec![]),
        service("bad", vec![ttl("/bad", Status::Passing)]),
    ];
    for service in bad {
        let outcome = registry.register(&service).await;
        assert!(matches!(outcome, Err(ConsulError::Invalid { .. })), "{service:?}: {outcome:?}");
    }
    assert!(Arc::ptr_eq(&before, &registry.read().await.unwrap()));
    registry.deregister("good").await.unwrap();
}

async fn ids_may_hold_anything(registry: &impl Registry, mode: Mode) {
    let ids = ["n:web:80:udp", "a/b", ".x", "a?b=c#d", "per%cent%2F", "sp ace", "ünicode", "Case", "case"];
    let ids = &ids[..if mode.case_matters { 9 } else { 8 }];
    for &id in ids {
        registry.register(&service(id, vec![ttl(&Service::docker_check_id(id), Status::Critical)])).await.unwrap();
    }
    for &id in ids {
        registry.update_check(&Service::docker_check_id(id), Status::Passing, id).await.unwrap();
        let found = actual(registry, id).await.unwrap_or_else(|| panic!("{id} is registered"));
        assert_eq!(
            found.checks[&Service::docker_check_id(id)],
            ActualCheck { status: Status::Passing, output: id.into() }
        );
    }
    for &id in ids {
        registry.deregister(id).await.unwrap();
        assert_eq!(actual(registry, id).await, None);
    }
}

async fn an_id_is_found_and_in_the_catalog_in_any_case(registry: &impl Registry, mode: Mode) {
    let id = r#"n1:We"b.\d-(x|y)/+:80"#;
    assert_eq!(registry.find(id).await.unwrap(), None);
    registry.register(&service(id, vec![])).await.unwrap();
    registry.register(&service("n1:web", vec![])).await.unwrap();
    let others = [id.to_uppercase(), id.to_lowercase()];
    for asked in std::iter::once(id).chain(others.iter().map(String::as_str)) {
        if mode.case_matters && asked != id {
            assert_eq!(registry.find(asked).await.unwrap(), None, "asked for {asked}");
            continue;
        }
        let found = registry.find(asked).await.unwrap().expect("it is registered");
        assert_eq!((found.id.as_str(), found.port), (id, 8080), "asked for {asked}");
    }
    assert_eq!(registry.find(r"n1:Wezb.\d-(x|y)/+:80").await.unwrap(), None);
    let upper = id.to_uppercase();
    if !mode.case_matters {
        let outcome = registry.register(&service(&upper, vec![])).await;
        assert!(matches!(outcome, Err(ConsulError::Conflict { .. })), "nobody's row is renamed: {outcome:?}");
        registry.deregister(&upper).await.unwrap();
        assert!(registry.find(&upper).await.unwrap().is_some(), "what has another id is not deregistered");
        for id in [id, "n1:web"] {
            registry.deregister(id).await.unwrap();
        }
        return;
    }
    registry.register(&service(&upper, vec![])).await.unwrap();
    assert_eq!(
        registry.find(&upper).await.unwrap().map(|it| it.id).as_deref(),
        Some(upper.as_str()),
        "the exact one first"
    );
    for id in [id, &upper, "n1:web"] {
        registry.deregister(id).await.unwrap();
    }
}

async fn changes_of_the_sentinel_are_noticed(registry: &impl Registry) {
    let sentinel = service("sentinel", vec![ttl("sentinel:ttl", Status::Passing)]);
    let long = Duration::from_secs(10);
    let short = Duration::from_millis(300);
    registry.register(&sentinel).await.unwrap();
    assert!(registry.changed("sentinel", long).await.unwrap(), "the first call learns what there is");
    assert!(!registry.changed("sentinel", short).await.unwrap(), "nothing happened");

    // Neither health, nor the same definition again, nor another service is news.
    registry.update_check("sentinel:ttl", Status::Critical, "x").await.unwrap();
    registry.register(&sentinel).await.unwrap();
    registry.register(&service("other", vec![])).await.unwrap();
    registry.deregister("other").await.unwrap();
    assert!(!registry.changed("sentinel", short).await.unwrap(), "the registration is the same");

    // A change while nobody waits.
    let mut other = sentinel.clone();
    other.port = 1;
    registry.register(&other).await.unwrap();
    assert!(registry.changed("sentinel", long).await.unwrap(), "changed between two calls");

    // A change while somebody waits.
    let news = tokio::time::timeout(Duration::from_secs(5), registry.changed("sentinel", long));
    let change = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        registry.deregister("sentinel").await.unwrap();
    };
    let (news, ()) = tokio::join!(news, change);
    assert_eq!(news.expect("noticed at once"), Ok(true), "deregistered");

    // Not there is a state like any other.
    assert!(!registry.changed("sentinel", short).await.unwrap(), "still not there");
    registry.register(&sentinel).await.unwrap();
    assert!(registry.changed("sentinel", long).await.unwrap(), "there again");
    registry.deregister("sentinel").await.unwrap();
}
