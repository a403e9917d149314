use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::consul::model::Status;
use crate::probe::WANTED_EVERY;
use crate::probe::board::PROBES;
use crate::probe::board::tests::{tcp, ttl, wants};
use crate::probe::{Reports, reports};
use crate::telemetry::ReportRefusal;

/// Answers after a while, and counts.
#[derive(Default)]
struct Fake {
    takes: Duration,
    asked: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

struct UnderWay<'a>(&'a Fake);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ask for Arc<Fake> {
    async fn ask(&self, _check: &Check) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let _under_way = UnderWay(self);
        sleep(self.takes).await;
        Answer { status: Status::Passing, output: "fine".to_owned(), timed_out: false }
    }
}

struct Bench {
    fake: Arc<Fake>,
    wants: watch::Sender<Wants>,
    findings: mpsc::Receiver<Finding>,
    reports: Reports,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    fn start(takes: Duration, checks: &[Arc<Check>], room: usize) -> Self {
        let fake = Arc::new(Fake { takes, ..Fake::default() });
        let (wants, wanted) = watch::channel(Arc::new(wants(checks)));
        let (findings, found) = mpsc::channel(room);
        let (reports, reported) = reports();
        let metrics = Arc::new(Metrics::new());
        let shutdown = CancellationToken::new();
        let prober = Prober::new(Arc::clone(&fake), wanted, findings, Arc::clone(&metrics)).with_reports(reported);
        let task = tokio::spawn(prober.run(shutdown.clone()));
        Self { fake, wants, findings: found, reports, metrics, shutdown, task }
    }

    fn want(&self, checks: &[Arc<Check>]) {
        self.wants.send_replace(Arc::new(wants(checks)));
    }

    async fn finding(&mut self) -> Option<Finding> {
        timeout(Duration::from_secs(30), self.findings.recv()).await.ok().flatten()
    }

    fn has(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|found| found == line)
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_is_asked_in_its_rhythm_and_told_once() {
    let mut bench = Bench::start(Duration::from_millis(5), &[tcp("a", 80)], 8);
    let begin = Instant::now();
    let finding = bench.finding().await.unwrap();
    assert!(begin.elapsed() <= Duration::from_millis(10_100), "{:?}", begin.elapsed());
    assert_eq!((finding.check.as_str(), finding.status, finding.output.as_str()), ("a", Status::Passing, "fine"));
    // The catalog has it.
    bench.want(&[Arc::new(Check { status: Status::Passing, ..(*tcp("a", 80)).clone() })]);
    sleep(Duration::from_secs(101)).await;
    assert!(bench.findings.try_recv().is_err());
    assert!((10..=12).contains(&bench.fake.asked.load(Ordering::Relaxed)));
    assert!(bench.has("remora_probes_scheduled 1"));
    bench.shutdown.cancel();
    bench.task.await.unwrap();
    assert!(bench.metrics.encode().contains("remora_probes_total{kind=\"tcp\",outcome=\"passing\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_checks_never_ask_more_than_the_limit_at_once() {
    let checks: Vec<_> = (0..2000).map(|number| tcp(&format!("c{number}"), 80)).collect();
    let bench = Bench::start(Duration::from_secs(10), &checks, 8);
    sleep(Duration::from_secs(200)).await;
    assert_eq!(bench.fake.most.load(Ordering::Relaxed), PROBES);
    let asked = bench.fake.asked.load(Ordering::Relaxed);
    assert!((PROBES * 17..=PROBES * 21).contains(&asked), "every place is used all the time: {asked}");
    bench.shutdown.cancel();
    bench.task.await.unwrap();
    assert_eq!(bench.fake.now.load(Ordering::Relaxed), 0, "nothing goes on behind the back");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_removed_while_it_is_asked_tells_nothing() {
    let mut bench = Bench::start(Duration::from_secs(5), &[tcp("a", 80)], 8);
    while bench.fake.now.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    bench.want(&[]);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(bench.fake.now.load(Ordering::Relaxed), 0, "it is called off at once");
    assert_eq!(bench.finding().await, None);
    assert!(bench.has("remora_probes_scheduled 0"));
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_take_findings_holds_nothing_up() {
    let checks: Vec<_> = (0..50).map(|number| tcp(&format!("c{number}"), 80)).collect();
    let mut bench = Bench::start(Duration::from_millis(1), &checks, 1);
    sleep(Duration::from_secs(60)).await;
    assert!(bench.fake.asked.load(Ordering::Relaxed) > 200);
    let (mut told, mut count) = (BTreeMap::new(), 0);
    while let Ok(Some(finding)) = timeout(Duration::from_millis(100), bench.findings.recv()).await {
        told.insert(finding.check, finding.status);
        count += 1;
    }
    assert!(count <= 55, "one for each, and what was in the channel: {count}");
    assert_eq!(told.len(), 50);
}

/// Its check is in the catalog, and the prober does not know of it yet.
#[tokio::test(start_paused = true)]
async fn a_service_may_report_as_soon_as_it_sees_itself_in_the_catalog() {
    let bench = Bench::start(Duration::ZERO, &[], 8);
    let (answer, ()) = tokio::join!(bench.reports.report("web:80:ttl", Status::Passing, ""), async {
        sleep(WANTED_EVERY).await;
        bench.want(&[ttl("web:80:ttl", 30)]);
    });
    assert_eq!(answer, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn reports_are_taken_and_answered() {
    let mut bench = Bench::start(Duration::ZERO, &[ttl("web:80:ttl", 30), tcp("b", 80)], 8);
    assert_eq!(bench.reports.report("web:80:ttl", Status::Warning, "hot").await, Ok(()));
    let finding = bench.finding().await.unwrap();
    assert_eq!((finding.status, finding.output.as_str()), (Status::Warning, "hot"));
    assert_eq!(bench.reports.report("b", Status::Passing, "").await, Err(ReportRefusal::NotTtl));
    assert_eq!(bench.reports.report("c", Status::Passing, "").await, Err(ReportRefusal::Unknown));
    bench.want(&[ttl("web:80:ttl", 30)]);
    advance(Duration::from_secs(31)).await;
    while let Some(finding) = bench.finding().await {
        if finding.check == "web:80:ttl" {
            assert_eq!(finding.output, "TTL expired (last output before timeout follows): hot");
            break;
        }
    }
    assert!(bench.has("remora_probes_total{kind=\"ttl\",outcome=\"timed_out\"} 1"));
    assert!(bench.has("remora_probes_total{kind=\"ttl\",outcome=\"warning\"} 1"));
    bench.shutdown.cancel();
    bench.task.await.unwrap();
    assert_eq!(bench.reports.report("web:80:ttl", Status::Passing, "").await, Err(ReportRefusal::Stopping));
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_wants_or_listens_any_more() {
    let bench = Bench::start(Duration::from_secs(60), &[tcp("a", 80)], 8);
    drop(bench.wants);
    timeout(Duration::from_secs(1), bench.task).await.unwrap().unwrap();
    let bench = Bench::start(Duration::ZERO, &[tcp("a", 80)], 8);
    drop(bench.findings);
    timeout(Duration::from_secs(30), bench.task).await.unwrap().unwrap();
}
