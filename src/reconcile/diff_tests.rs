use std::time::Duration;

use litemap::LiteMap;

use super::*;
use crate::consul::{Check, CheckKind, TaggedAddress, Weights};

fn towards(wanted: &Arc<Service>, actual: Option<&ActualService>) -> Option<Op> {
    super::towards(wanted, actual, |_| true)
}

/// A sealed service with its docker check, passing.
pub fn service(id: &str, container: &str) -> Service {
    let mut service = Service {
        id: id.into(),
        name: "web".into(),
        address: "10.0.0.1".into(),
        port: 8080,
        tags: ["a".into(), "b".into()].into(),
        meta: crate::consul::Meta::from_iter([
            (Service::META_OWNER, "remora"),
            (Service::META_NODE, "n1"),
            (Service::META_ENGINE, "ENGINE000001"),
            (Service::META_CONTAINER, container),
        ]),
        tagged_addresses: LiteMap::new(),
        weights: None,
        enable_tag_override: false,
        checks: vec![check(&Service::docker_check_id(id))],
    };
    service.seal();
    service
}

pub fn check(id: &str) -> Check {
    Check {
        id: id.into(),
        name: "Docker health".into(),
        notes: "".into(),
        kind: Arc::new(CheckKind::Ttl { ttl: Duration::from_secs(3600) }),
        status: Status::Passing,
        output: "running".into(),
        deregister_after: None,
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

/// Applies writes until nothing is left to write.
fn settle(wanted: &Arc<Service>, mut actual: Option<ActualService>) -> (Vec<Op>, ActualService) {
    let mut ops = Vec::new();
    while let Some(op) = towards(wanted, actual.as_ref()) {
        actual = after(&op, actual.as_ref());
        ops.push(op);
        assert!(ops.len() < 10, "does not settle: {ops:?}");
    }
    (ops, actual.unwrap())
}

#[test]
fn case_39_what_is_registered_already_needs_no_write() {
    let wanted = Arc::new(service("n1:web:80", "c"));
    let (ops, actual) = settle(&wanted, None);
    assert_eq!(ops, [Op::Register(Arc::clone(&wanted))]);
    assert_eq!(towards(&wanted, Some(&actual)), None);
}

#[test]
fn what_consul_adds_by_itself_is_no_difference() {
    let wanted = Arc::new(service("n1:web:80", "c"));
    let (_, mut actual) = settle(&wanted, None);
    actual.tagged_addresses.insert("lan_ipv4".into(), ("10.0.0.1".into(), 8080));
    assert_eq!(towards(&wanted, Some(&actual)), None);
}

#[test]
fn every_edit_from_outside_is_seen() {
    type Edit = fn(&mut ActualService);
    let edits: [(&str, Edit); 10] = [
        ("name", |s| s.name = "webx".into()),
        ("address", |s| s.address = "10.0.0.11".into()),
        ("port", |s| s.port += 1),
        ("tags", |s| Arc::make_mut(&mut s.tags).reverse()),
        ("tag override", |s| s.enable_tag_override = true),
        ("weights", |s| s.weights = (2, 1)),
        ("meta", |s| s.meta = s.meta.with("more", "")),
        ("meta", |s| s.meta = s.meta.with(Service::META_HASH, "0")),
        ("tagged addresses", |s| drop(s.tagged_addresses.remove("lan_ipv6"))),
        ("checks", |s| s.checks.clear()),
    ];
    let mut definition = service("n1:web:80", "c");
    let v6 = TaggedAddress { address: "fd00::1".into(), port: 8080 };
    definition.tagged_addresses.insert("lan_ipv6".into(), v6);
    definition.seal();
    let wanted = Arc::new(definition);
    let (_, right) = settle(&wanted, None);
    for (field, edit) in edits {
        let mut actual = right.clone();
        edit(&mut actual);
        assert_eq!(difference(&wanted, &actual), Some(field));
        assert!(matches!(towards(&wanted, Some(&actual)), Some(Op::Register(_))), "{field}");
    }
}

#[test]
fn a_change_of_health_is_one_small_write_and_a_registration_never_resets_it() {
    let mut definition = service("n1:web:80", "c");
    let (_, mut actual) = settle(&Arc::new(definition.clone()), None);
    definition.checks[0].status = Status::Critical;
    definition.checks[0].output = "exit 1: refused".into();
    let wanted = Arc::new(definition.clone());
    let (ops, now) = settle(&wanted, Some(actual.clone()));
    assert!(matches!(&ops[..], [Op::UpdateCheck { status: Status::Critical, .. }]), "{ops:?}");
    assert_eq!(now.checks.get("n1:web:80:docker").unwrap().output, "exit 1: refused");
    // A new definition and a new status at once: Consul keeps the status of a check that it knows.
    actual.port = 1;
    let (ops, _) = settle(&wanted, Some(actual));
    assert!(matches!(&ops[..], [Op::Register(_), Op::UpdateCheck { .. }]), "{ops:?}");
}

#[test]
fn another_text_of_a_passing_check_is_not_worth_a_write_but_of_a_critical_one_it_is() {
    let mut definition = service("n1:web:80", "c");
    let (_, actual) = settle(&Arc::new(definition.clone()), None);
    definition.checks[0].output = "still fine".into();
    assert_eq!(towards(&Arc::new(definition.clone()), Some(&actual)), None);
    definition.checks[0].status = Status::Critical;
    let (_, actual) = settle(&Arc::new(definition.clone()), Some(actual));
    definition.checks[0].output = "other failure".into();
    assert!(matches!(towards(&Arc::new(definition), Some(&actual)), Some(Op::UpdateCheck { .. })));
}

#[test]
fn case_40_checks_that_are_not_wanted_any_more_go_and_the_operators_maintenance_stays() {
    let wanted = Arc::new(service("n1:web:80", "c"));
    let (_, mut actual) = settle(&wanted, None);
    let other = ActualCheck { status: Status::Critical, output: ArcStr::new() };
    for id in [
        "n1:web:80:http",
        "service:n1:web:80",
        "service:n1:web:80:2",
        "_service_maintenance:n1:web:80",
        "n1:web:8080:x",
    ] {
        actual.checks.insert(id.into(), other.clone());
    }
    let (ops, actual) = settle(&wanted, Some(actual));
    assert_eq!(ops.len(), 3, "{ops:?}");
    assert!(ops.iter().all(|op| matches!(op, Op::RemoveCheck(_))));
    assert!(actual.checks.contains_key("_service_maintenance:n1:web:80"));
    assert!(actual.checks.contains_key("n1:web:8080:x"), "another service's check");
}

#[test]
fn case_45_tags_that_others_may_change_are_left_and_survive_a_registration() {
    let mut definition = service("n1:web:80", "c");
    definition.enable_tag_override = true;
    definition.seal();
    let wanted = Arc::new(definition);
    let (_, mut actual) = settle(&wanted, None);
    actual.tags = ["theirs".into()].into();
    assert_eq!(towards(&wanted, Some(&actual)), None);
    actual.port = 1;
    let Some(Op::Register(sent)) = towards(&wanted, Some(&actual)) else { panic!("a registration") };
    assert_eq!(*sent.tags, ["theirs"]);
}

#[test]
fn default_weights_are_consuls_own() {
    let mut definition = service("n1:web:80", "c");
    definition.weights = Some(Weights::default());
    let actual = after(&Op::Register(Arc::new(service("n1:web:80", "c"))), None).unwrap();
    assert_ne!(difference(&definition, &actual), Some("weights"));
}
