use super::*;
use crate::consul::model::Status;

fn service(id: &str) -> Op {
    let (node, id, name) = ("n1".to_owned(), id.to_owned(), "web".to_owned());
    Op::Service(
        Write::Cas(0),
        ServiceRow { node: node.into(), id: id.into(), name: name.into(), ..ServiceRow::default() },
    )
}

fn check(id: &str, of: Option<&str>) -> Op {
    let service = of.map(|of| (of.into(), "web".into()));
    let row = CheckRow { service, ..CheckRow::of_node("n1", id, "c", Status::Passing, "") };
    Op::Check(Write::Cas(0), row)
}

fn node() -> Op {
    Op::Node(Write::Cas(0), NodeRow { name: "n1".into(), ..NodeRow::default() })
}

fn written(ops: &[Op], index: u64) -> Vec<Written> {
    ops.iter()
        .map(|op| match op {
            Op::Node(_, row) => Written::Node { name: row.name.clone(), index },
            Op::Service(_, row) => Written::Service { id: row.id.to_string(), index },
            Op::Check(_, row) => Written::Check { id: row.id.to_string(), index },
            Op::Kv(key, _) => Written::Kv { key: key.clone(), index },
        })
        .collect()
}

fn view() -> View {
    let mut view = View::default();
    let ops = vec![node(), check("remora-node", None), service("Web-1"), check("Web-1:docker", Some("Web-1"))];
    let written = written(&ops, 10);
    assert!(view.apply(ops, written));
    view
}

fn rows(rows: &[(&str, u64)]) -> Rows {
    rows.iter().copied().collect()
}

#[test]
fn our_own_writes_are_followed_up() {
    let mut view = view();
    assert_eq!(view.node.as_ref().unwrap().1, 10);
    assert_eq!(view.services["web-1"].1, 10, "in any case");
    let ops = vec![check("web-1:docker", Some("Web-1"))];
    let back = vec![Written::Check { id: "web-1:docker".into(), index: 12 }];
    assert!(view.apply(ops, back));
    assert_eq!(view.checks["web-1:docker"].1, 12);
    let Op::Service(_, row) = service("Web-1") else { panic!("a service") };
    assert!(view.apply(vec![Op::Service(Write::DeleteCas(10), row)], Vec::new()));
    assert!(view.services.is_empty());
    assert_eq!(view.checks.keys().collect::<Vec<_>>(), ["remora-node"], "checks go with their service");
}

#[test]
fn only_its_own_checks_go_with_a_service() {
    let mut view = View::default();
    let ids = [
        ("web-1:docker", "Web-1"),
        ("web-1:http", "web-1"),
        ("web-1:udp:docker", "web-1:udp"),
        ("web-10:docker", "web-10"),
    ];
    let ops: Vec<Op> = ids.iter().map(|(id, of)| check(id, Some(of))).chain([service("Web-1")]).collect();
    let back = written(&ops, 10);
    assert!(view.apply(ops, back));
    let Op::Service(_, row) = service("Web-1") else { panic!("a service") };
    assert!(view.apply(vec![Op::Service(Write::DeleteCas(10), row)], Vec::new()));
    assert_eq!(view.checks.keys().collect::<Vec<_>>(), ["web-10:docker", "web-1:udp:docker"]);
}

#[test]
fn an_answer_that_does_not_fit_is_noticed() {
    let two = || vec![service("a"), service("b")];
    assert!(!View::default().apply(two(), written(&two()[..1], 5)));
    assert!(!View::default().apply(two()[..1].to_vec(), written(&two(), 5)));
    assert!(!View::default().apply(two(), written(&[service("a"), service("c")], 5)));
    assert!(!View::default().apply(two(), written(&[service("a"), check("b", None)], 5)));
}

#[test]
fn news_is_what_the_view_does_not_know() {
    let view = view();
    let checks = |all: &[(&str, u64)], index| view.is_news(Kind::Checks, None, &rows(all), index);
    let both = [("remora-node", 10), ("web-1:docker", 10)];
    assert!(!checks(&both, 10));
    assert!(!checks(&both, 99), "others' nodes move the index too");
    assert!(checks(&[("remora-node", 10), ("web-1:docker", 11)], 11), "changed");
    assert!(checks(&[("remora-node", 10), ("web-1:docker", 10), ("new", 11)], 11), "new");
    assert!(checks(&both[..1], 11), "gone");
    assert!(!checks(&both[..1], 9), "an answer from before our write");
    assert!(!checks(&[("remora-node", 10), ("web-1:docker", 8)], 9));

    let services = |node, all: &[(&str, u64)], index| view.is_news(Kind::Services, node, &rows(all), index);
    assert!(!services(Some(10), &[("WEB-1", 10)], 10));
    assert!(services(Some(11), &[("Web-1", 10)], 11), "the node itself");
    assert!(services(None, &[], 11), "the node is gone");
    assert!(!services(None, &[], 9));
}

#[test]
fn what_we_deleted_is_no_news_when_an_older_answer_shows_it() {
    let mut view = view();
    let Op::Service(_, row) = service("Web-1") else { panic!("a service") };
    view.apply(vec![Op::Service(Write::DeleteCas(10), row)], Vec::new());
    let mut fresh = View { node: view.node.clone(), checks: view.checks.clone(), ..View::default() };
    fresh.remember(&mut view);
    for index in [10, 11] {
        let news = fresh.is_news(Kind::Services, Some(10), &rows(&[("Web-1", index)]), index);
        assert_eq!(news, index == 11, "registered again by somebody");
        let checks = rows(&[("remora-node", 10), ("Web-1:docker", index)]);
        assert_eq!(fresh.is_news(Kind::Checks, None, &checks, index), index == 11);
    }
}
