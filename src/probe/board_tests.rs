use std::collections::BTreeMap;

use arcstr::ArcStr;

use super::*;
use crate::consul::model::{CheckTls, Probe};
use Status::{Critical, Passing, Warning};

const INTERVAL: u64 = 10;

pub(in crate::probe) fn check(id: &str, kind: CheckKind) -> Arc<Check> {
    Arc::new(Check {
        id: id.into(),
        name: ArcStr::new(),
        notes: ArcStr::new(),
        kind: Arc::new(kind),
        status: Critical,
        output: ArcStr::new(),
        deregister_after: None,
        success_before_passing: 0,
        failures_before_critical: 0,
    })
}

pub(in crate::probe) fn tcp(id: &str, port: u16) -> Arc<Check> {
    let probe = Probe { interval: Duration::from_secs(INTERVAL), timeout: None };
    check(id, CheckKind::Tcp { address: format!("10.0.0.1:{port}"), probe })
}

pub(in crate::probe) fn ttl(id: &str, seconds: u64) -> Arc<Check> {
    check(id, CheckKind::Ttl { ttl: Duration::from_secs(seconds) })
}

pub(in crate::probe) fn wants(checks: &[Arc<Check>]) -> BTreeMap<ArcStr, Wanted> {
    checks.iter().map(|check| (check.id.clone(), Wanted { check: Arc::clone(check), status: check.status })).collect()
}

fn answer(status: Status) -> Answer {
    Answer { status, output: status.to_string(), timed_out: false }
}

/// A board with a clock.
struct Bench {
    board: Board,
    now: Instant,
}

impl Bench {
    fn new(checks: &[Arc<Check>]) -> Self {
        let mut bench = Self { board: Board::default(), now: Instant::now() };
        assert!(bench.want(checks).is_empty());
        bench
    }

    fn want(&mut self, checks: &[Arc<Check>]) -> Vec<Number> {
        self.board.want(&wants(checks), self.now, || 0.5)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn turn(&mut self) -> Option<Number> {
        self.board.turn(self.now).map(|(number, _)| number)
    }

    /// A whole round of a board with one check; what is told is in the catalog at once.
    fn round(&mut self, status: Status) -> Option<Finding> {
        self.pass(INTERVAL);
        let (number, check) = self.board.turn(self.now).expect("it is its turn");
        self.board.answered(number, answer(status), self.now);
        let finding = self.board.finding()?;
        self.want(&[Arc::new(Check { status: finding.status, ..(*check).clone() })]);
        Some(finding)
    }
}

#[test]
fn the_first_probe_waits_for_a_part_of_the_interval_and_the_next_for_all_of_it() {
    let mut bench = Bench::new(&[tcp("a", 80)]);
    assert_eq!(bench.board.next(), Some(bench.now + Duration::from_secs(5)));
    bench.pass(4);
    assert_eq!(bench.turn(), None);
    bench.pass(1);
    let number = bench.turn().unwrap();
    assert_eq!((bench.turn(), bench.board.next()), (None, None), "never twice at once");
    bench.pass(3);
    let changed = bench.board.answered(number, answer(Passing), bench.now).unwrap();
    assert_eq!((changed.from, changed.to), (Critical, Passing));
    assert_eq!(bench.board.next(), Some(bench.now + Duration::from_secs(10)), "the pause is Consul's");
    let finding = bench.board.finding().unwrap();
    assert_eq!(finding, Finding { check: "a".to_owned(), status: Passing, output: "passing".to_owned() });
    assert!(!bench.board.has_finding());
}

#[test]
fn thresholds_hold_a_result_back() {
    let check = Arc::new(Check { success_before_passing: 2, failures_before_critical: 3, ..(*tcp("a", 80)).clone() });
    let mut bench = Bench::new(&[check]);
    let told: Vec<_> = [Passing, Critical, Critical, Critical, Critical, Warning, Passing, Passing]
        .into_iter()
        .map(|status| bench.round(status).map(|finding| finding.status))
        .collect();
    assert_eq!(told, [Some(Passing), None, None, Some(Critical), None, None, Some(Passing), None]);
}

#[test]
fn only_the_last_finding_of_a_check_waits() {
    let mut bench = Bench::new(&[tcp("a", 80)]);
    for status in [Passing, Critical, Warning] {
        bench.pass(INTERVAL);
        let number = bench.turn().unwrap();
        bench.board.answered(number, answer(status), bench.now);
    }
    assert_eq!(bench.board.finding().map(|finding| finding.status), Some(Warning));
    assert_eq!(bench.board.finding(), None);
}

#[test]
fn what_is_gone_says_nothing_more() {
    let mut bench = Bench::new(&[tcp("a", 80), tcp("b", 81)]);
    bench.pass(5);
    let (a, b) = (bench.turn().unwrap(), bench.turn().unwrap());
    bench.board.answered(a, answer(Passing), bench.now);
    assert!(bench.board.has_finding());
    assert_eq!(bench.want(&[]), [b], "only b is under way");
    assert!(!bench.board.has_finding() && bench.board.is_empty());
    assert_eq!(bench.board.answered(b, answer(Passing), bench.now), None);
    assert!(!bench.board.has_finding());
    assert_eq!((bench.board.next(), bench.board.running), (None, 0));
}

#[test]
fn another_definition_begins_anew_with_the_status_that_it_has() {
    let mut bench = Bench::new(&[tcp("a", 80), tcp("b", 81)]);
    bench.pass(5);
    let (a, b) = (bench.turn().unwrap(), bench.turn().unwrap());
    bench.board.answered(b, answer(Passing), bench.now);
    bench.board.finding().unwrap();
    let renamed = Arc::new(Check { name: "another title".into(), ..(*tcp("b", 81)).clone() });
    assert_eq!(bench.want(&[tcp("a", 90), renamed]), [a], "a title is no definition");
    assert_eq!(bench.board.answered(a, answer(Passing), bench.now), None, "that was the old one");
    bench.pass(5);
    let (again, check) = bench.board.turn(bench.now).unwrap();
    assert!(again > a && matches!(&*check.kind, CheckKind::Tcp { address, .. } if address == "10.0.0.1:90"));
    assert_eq!(bench.want(&[tcp("b", 82)]), [again], "a is gone, b began anew");
    bench.pass(5);
    let number = bench.turn().unwrap();
    assert_eq!(bench.board.answered(number, answer(Passing), bench.now), None, "it was passing before");
}

#[test]
fn a_row_that_was_written_anew_gets_its_status_back() {
    let mut bench = Bench::new(&[tcp("a", 80)]);
    assert!(bench.round(Passing).is_some());
    assert_eq!(bench.round(Passing), None);
    // The catalog says critical again.
    bench.want(&[tcp("a", 80)]);
    assert_eq!(bench.round(Passing).map(|finding| finding.status), Some(Passing));
}

#[test]
fn a_ttl_that_runs_out_is_critical_until_the_next_report() {
    let mut bench = Bench::new(&[ttl("a:x", 30), tcp("b", 80)]);
    let reported = bench.board.reported("a:x", Passing, "all is well".to_owned(), bench.now).unwrap();
    assert_eq!(reported.map(|changed| changed.to), Some(Passing));
    assert_eq!(bench.board.finding().map(|finding| finding.status), Some(Passing));
    bench.pass(20);
    assert_eq!(bench.board.reported("a:x", Passing, "still".to_owned(), bench.now), Ok(None));
    bench.pass(29);
    assert_eq!(bench.board.run_out(bench.now), None);
    bench.pass(1);
    assert!(matches!(bench.board.run_out(bench.now), Some((true, Some(changed))) if changed.to == Critical));
    let finding = bench.board.finding().unwrap();
    assert_eq!(finding.output, "TTL expired (last output before timeout follows): still");
    assert_eq!(bench.board.run_out(bench.now), None);
    bench.pass(30);
    assert_eq!(bench.board.run_out(bench.now), Some((false, None)), "it has run out already");
    assert_eq!(bench.board.reported("b", Passing, String::new(), bench.now), Err(Refused::NotTtl));
    assert_eq!(bench.board.reported("a", Passing, String::new(), bench.now), Err(Refused::Unknown));
}

#[test]
fn reports_know_no_thresholds() {
    let check = Arc::new(Check { success_before_passing: 5, failures_before_critical: 5, ..(*ttl("a", 30)).clone() });
    let mut bench = Bench::new(&[check]);
    for status in [Passing, Critical, Warning] {
        bench.board.reported("a", status, String::new(), bench.now).unwrap();
        assert_eq!(bench.board.finding().map(|finding| finding.status), Some(status));
    }
}

#[test]
fn a_script_is_never_run_and_says_why_once() {
    let probe = Probe { interval: Duration::from_secs(INTERVAL), timeout: None };
    let kind = CheckKind::Script { args: vec!["true".to_owned()], container: None, shell: None, probe };
    let mut bench = Bench::new(&[check("a", kind)]);
    assert_eq!(bench.turn(), None);
    assert_eq!(bench.board.run_out(bench.now), Some((false, None)));
    let finding = bench.board.finding().unwrap();
    assert_eq!(finding.status, Critical);
    assert!(finding.output.contains("need a Consul agent"), "{}", finding.output);
    bench.pass(INTERVAL);
    assert_eq!(bench.board.run_out(bench.now), Some((false, None)));
    assert!(!bench.board.has_finding());
}

#[test]
fn no_more_than_the_limit_at_once_and_those_that_hang_leave_room() {
    let checks: Vec<_> = (0..200).map(|number| tcp(&format!("c{number:03}"), 80)).collect();
    let mut bench = Bench::new(&checks);
    bench.pass(5);
    let mut under_way: Vec<_> = std::iter::from_fn(|| bench.turn()).collect();
    assert_eq!((under_way.len(), bench.board.next()), (PROBES, None));
    // Everything hangs, twice over.
    for _ in 0..8 {
        bench.pass(10);
        for number in under_way {
            bench.board.answered(number, Answer::late(String::new()), bench.now);
        }
        under_way = std::iter::from_fn(|| bench.turn()).collect();
        assert!(under_way.len() <= PROBES);
    }
    assert_eq!(under_way.len(), SLOW_PROBES);
    // What is new finds room at once.
    let with_new: Vec<_> = checks.iter().cloned().chain([tcp("new", 80)]).collect();
    bench.want(&with_new);
    bench.pass(5);
    let (_, check) = bench.board.turn(bench.now).unwrap();
    assert_eq!(check.id, "new");
}

#[test]
fn the_kind_may_change_under_the_same_id() {
    let mut bench = Bench::new(&[ttl("a", 30)]);
    bench.board.reported("a", Passing, String::new(), bench.now).unwrap();
    let kind = CheckKind::Http {
        url: "http://x/".to_owned(),
        method: None,
        headers: BTreeMap::new(),
        body: None,
        probe: Probe { interval: Duration::from_secs(INTERVAL), timeout: None },
        tls: CheckTls::default(),
    };
    bench.want(&[check("a", kind)]);
    bench.pass(60);
    assert_eq!(bench.board.run_out(bench.now), None);
    assert!(bench.turn().is_some());
    assert_eq!(bench.board.reported("a", Passing, String::new(), bench.now), Err(Refused::NotTtl));
}
