use std::sync::Arc;

use litemap::LiteMap;
use std::collections::BTreeMap;

use super::*;
use crate::consul::meta::Meta;
use crate::consul::model::{CheckTls, Probe, Weights};
use crate::consul::txn::{NodeRow, Written};

fn node() -> NodeIdentity {
    NodeIdentity::new("n1", "10.0.0.1", "ENGINE000001")
}

fn check(id: &str) -> Check {
    Check {
        id: id.into(),
        name: "docker".into(),
        notes: "what Docker says".into(),
        kind: Arc::new(CheckKind::Ttl { ttl: Duration::from_secs(30) }),
        status: Status::Warning,
        output: "not sent".into(),
        deregister_after: None,
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

fn service(id: &str) -> Service {
    Service {
        id: id.into(),
        name: "web".into(),
        address: "10.1.2.3".into(),
        port: 80,
        tags: ["a".into()].into(),
        meta: Meta::from_iter([(Service::META_OWNER, "remora")]),
        tagged_addresses: LiteMap::new(),
        weights: Some(Weights { passing: 7, warning: 2 }),
        enable_tag_override: true,
        checks: vec![check(&Service::docker_check_id(id))],
    }
}

fn ask(request: &Request, view: &View) -> Plan {
    plan(request, &node(), view, &Outputs::new(), false, Instant::now())
}

fn register(service: &Service, view: &View) -> Plan {
    ask(&Request::Register(Box::new(service.clone())), view)
}

fn ops(plan: Plan) -> Vec<Op> {
    match plan {
        Plan::Ops(ops) => ops,
        other => panic!("{other:?}"),
    }
}

/// Each operation's kind of write, and the id of its row.
fn writes(ops: &[Op]) -> Vec<(Write, &str)> {
    ops.iter()
        .map(|op| match op {
            Op::Node(write, row) => (*write, row.name.as_str()),
            Op::Service(write, row) => (*write, row.id.as_str()),
            Op::Check(write, row) => (*write, row.id.as_str()),
            Op::Kv(..) => panic!("no keys here"),
        })
        .collect()
}

/// Makes it so, as the transaction with this index.
fn done(ops: Vec<Op>, view: &mut View, index: u64) {
    let written = ops.iter().filter_map(|op| match op {
        Op::Node(_, row) => Some(Written::Node { name: row.name.clone(), index }),
        Op::Service(Write::Cas(_), row) => Some(Written::Service { id: row.id.to_string(), index }),
        Op::Check(Write::Cas(_), row) => Some(Written::Check { id: row.id.to_string(), index }),
        _ => None,
    });
    let written = written.collect();
    assert!(view.apply(ops, written));
}

#[test]
fn what_is_new_may_not_exist_and_what_is_so_already_costs_nothing() {
    let mut view = View::default();
    let web = service("web-1");
    let first = ops(register(&web, &view));
    assert_eq!(writes(&first), [(Write::Cas(0), "web-1"), (Write::Cas(0), "web-1:docker")]);
    let Op::Check(_, row) = &first[1] else { panic!("a check") };
    assert_eq!((row.status, row.output.as_str(), row.kind.as_str()), (Status::Warning, "", "ttl"));
    done(first, &mut view, 5);
    assert!(matches!(register(&web, &view), Plan::Done));
}

#[test]
fn a_change_names_the_index_that_it_was_seen_with_and_keeps_the_checks() {
    let mut view = View::default();
    let mut web = service("web-1");
    done(ops(register(&web, &view)), &mut view, 5);
    let update = Request::Update { id: "web-1:docker".into(), status: Status::Critical, output: "exit 1".into() };
    let flip = ops(ask(&update, &view));
    assert_eq!(writes(&flip), [(Write::Cas(5), "web-1:docker")]);
    let Op::Check(_, row) = &flip[0] else { panic!("a check") };
    assert_eq!(row.notes, "what Docker says", "a check is written whole");
    done(flip, &mut view, 6);

    web.port = 81;
    assert_eq!(writes(&ops(register(&web, &view))), [(Write::Cas(5), "web-1")], "the check is as it was");
    web.name = "api".into();
    let renamed = ops(register(&web, &view));
    assert_eq!(writes(&renamed), [(Write::Cas(5), "web-1"), (Write::Cas(6), "web-1:docker")]);
    let Op::Check(_, row) = &renamed[1] else { panic!("a check") };
    assert_eq!((row.status, row.output.as_str()), (Status::Critical, "exit 1"), "with its status and output");
    done(renamed, &mut view, 7);

    assert_eq!(
        writes(&ops(ask(&Request::Remove("web-1:docker".into()), &view))),
        [(Write::DeleteCas(7), "web-1:docker")]
    );
    let gone = ops(ask(&Request::Deregister("web-1".into()), &view));
    assert_eq!(writes(&gone), [(Write::DeleteCas(7), "web-1")]);
    let Op::Service(_, row) = &gone[0] else { panic!("a service") };
    assert_eq!(row.name, "api", "Consul wants it");
}

#[test]
fn another_services_check_is_taken_as_a_new_one() {
    let mut view = View::default();
    let mut first = service("first");
    first.checks[0].id = "shared".into();
    done(ops(register(&first, &view)), &mut view, 5);
    let second = Service { id: "second".into(), ..first };
    let taken = ops(register(&second, &view));
    assert_eq!(writes(&taken), [(Write::Cas(0), "second"), (Write::Cas(5), "shared")]);
}

#[test]
fn ids_that_differ_in_case_are_one_row_that_is_not_taken() {
    let mut view = View::default();
    done(ops(register(&service("Web"), &view)), &mut view, 5);
    assert!(matches!(register(&service("web"), &view), Plan::Refused(ConsulError::Conflict { .. })));
    assert!(matches!(ask(&Request::Deregister("web".into()), &view), Plan::Done));
    let update = |id: &str| Request::Update { id: id.into(), status: Status::Passing, output: ArcStr::new() };
    assert!(matches!(ask(&update("web:docker"), &view), Plan::Refused(ConsulError::NotFound { .. })));
    assert!(matches!(ask(&update("Web:docker"), &view), Plan::Ops(_)));
}

#[test]
fn what_is_not_known_is_looked_for_before_it_is_said_not_to_exist() {
    let view = View::default();
    let update = Request::Update { id: "x".into(), status: Status::Passing, output: ArcStr::new() };
    for request in [update.clone(), Request::Deregister("x".into()), Request::Remove("x".into())] {
        assert!(matches!(ask(&request, &view), Plan::Unknown));
    }
    let looked = |request| plan(&request, &node(), &view, &Outputs::new(), true, Instant::now());
    assert!(matches!(looked(update), Plan::Refused(ConsulError::NotFound { .. })));
    assert!(matches!(looked(Request::Deregister("x".into())), Plan::Done));
    assert!(matches!(looked(Request::Remove("x".into())), Plan::Done));
}

#[tokio::test(start_paused = true)]
async fn an_output_alone_waits_five_minutes_after_the_last_one() {
    let mut view = View::default();
    done(ops(register(&service("web-1"), &view)), &mut view, 5);
    let update = |status, output: &str| Request::Update { id: "web-1:docker".into(), status, output: output.into() };
    let written = Outputs::from([("web-1:docker".into(), Instant::now())]);
    let asked = |request: &Request, outputs: &Outputs| plan(request, &node(), &view, outputs, false, Instant::now());
    let other = update(Status::Warning, "other");
    assert!(matches!(asked(&update(Status::Warning, ""), &written), Plan::Done));
    assert!(matches!(asked(&other, &Outputs::new()), Plan::Ops(_)), "the first one");
    assert!(matches!(asked(&update(Status::Passing, "x"), &written), Plan::Ops(_)), "a status does not wait");
    let Plan::Later(at) = asked(&other, &written) else { panic!("it waits") };
    tokio::time::advance(OUTPUT_EVERY).await;
    assert_eq!(at, Instant::now());
    assert!(matches!(asked(&other, &written), Plan::Ops(_)));
}

#[test]
fn tagged_addresses_go_another_way_and_those_that_say_nothing_do_not_count() {
    let mut view = View::default();
    let mut web = service("web-1");
    let at = |address: &str, port| TaggedAddress { address: address.into(), port };
    web.tagged_addresses.insert("lan_ipv4".into(), at("10.1.2.3", 80));
    let plain = ops(register(&web, &view));
    assert_eq!(plain.len(), 2, "its own address");
    done(plain, &mut view, 5);
    web.tagged_addresses.insert("lan_ipv6".into(), at("fd00::1", 80));
    let Plan::Call(call) = register(&web, &view) else { panic!("a call of its own") };
    assert_eq!(call.tagged.keys().collect::<Vec<_>>(), ["lan_ipv6"]);
    assert!(call.checks.is_empty(), "they are as they were");
}

#[test]
fn secrets_of_a_check_do_not_go_into_the_catalog() {
    let mut web = service("web-1");
    web.checks[0].kind = Arc::new(CheckKind::Http {
        url: "http://h/".into(),
        method: Some("POST".into()),
        headers: BTreeMap::from([("Authorization".into(), vec!["s3cr3t".into()])]),
        body: Some("s3cr3t".into()),
        probe: Probe { interval: Duration::from_secs(10), timeout: None },
        tls: CheckTls::default(),
    });
    let ops = ops(register(&web, &View::default()));
    assert!(!format!("{ops:?}").contains("s3cr3t"));
    let Op::Check(_, row) = &ops[1] else { panic!("a check") };
    assert_eq!((row.definition.as_ref().unwrap().http.as_str(), row.kind.as_str()), ("http://h/", "http"));
}

#[test]
fn requests_about_one_row_are_known_by_their_rows() {
    let mut view = View::default();
    done(ops(register(&service("Web-1"), &view)), &mut view, 5);
    let rows = |request: Request| request.rows(&view);
    assert_eq!(rows(Request::Register(Box::new(service("WEB-1")))), ["cweb-1:docker", "sweb-1"]);
    assert_eq!(rows(Request::Deregister("Web-1".into())), ["sweb-1"]);
    assert_eq!(rows(Request::Remove("Web-1:docker".into())), ["sweb-1", "cweb-1:docker"]);
    assert_eq!(rows(Request::Node { status: Status::Passing, output: ArcStr::new() }), ["cremora-node"]);
}

#[test]
fn the_node_is_made_with_its_mark_and_its_check_and_only_what_is_missing() {
    let node = node();
    let mut view = View::default();
    let first = node.ensure(&view);
    assert_eq!(writes(&first), [(Write::Cas(0), "n1"), (Write::Cas(0), NODE_CHECK)]);
    done(first, &mut view, 5);
    assert!(node.ensure(&view).is_empty());
    assert_eq!(node.owns(&view), Ok(()));
    let moved = NodeIdentity::new("N1", "10.0.0.2", "ENGINE000001");
    assert_eq!(writes(&moved.ensure(&view)), [(Write::Cas(5), "n1")]);

    let whose = |meta: &[(&str, &str)], services: &[Service]| {
        let meta = meta.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let row = NodeRow { name: "n1".into(), address: "10.0.0.1".into(), meta };
        let mut view = View { node: Some((row, 5)), ..View::default() };
        for service in services {
            done(ops(register(service, &view)), &mut view, 6);
        }
        node.owns(&view).is_ok()
    };
    let mut ours = service("web-1");
    assert!(!whose(&[], &[]), "an empty node is somebody's");
    assert!(!whose(&[], std::slice::from_ref(&ours)), "no engine in it");
    ours.meta = ours.meta.with(Service::META_ENGINE, "ENGINE000001");
    assert!(whose(&[], std::slice::from_ref(&ours)), "what a registration made of a node that was gone");
    assert!(!whose(&[("k", "v")], std::slice::from_ref(&ours)));
    assert!(!whose(&[("managed-by", "nomad")], &[]));
    assert!(!whose(&[("managed-by", "remora"), ("remora-engine", "OTHER")], &[]));
}
