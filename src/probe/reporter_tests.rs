use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::consul::model::{ActualService, Service, Snapshot, Status};
use crate::probe::board::tests::{tcp, wants};

/// Takes writes, or refuses them as it is told.
#[derive(Default)]
struct Fake {
    written: Mutex<Vec<(Instant, String, Status)>>,
    answers: Mutex<BTreeMap<String, VecDeque<ConsulError>>>,
    away: Mutex<bool>,
    takes: Mutex<Duration>,
}

impl Fake {
    fn refuse(&self, id: &str, errors: impl IntoIterator<Item = ConsulError>) {
        self.answers.lock().unwrap().entry(id.to_owned()).or_default().extend(errors);
    }

    fn calls(&self) -> Vec<(String, Status)> {
        self.written.lock().unwrap().iter().map(|(_, id, status)| (id.clone(), *status)).collect()
    }
}

impl Registry for Fake {
    async fn read(&self) -> Result<Arc<Snapshot>, ConsulError> {
        unreachable!("a reporter only writes")
    }
    async fn find(&self, _service_id: &str) -> Result<Option<ActualService>, ConsulError> {
        unreachable!("a reporter only writes")
    }
    async fn register(&self, _service: &Service) -> Result<(), ConsulError> {
        unreachable!("a reporter only writes")
    }
    async fn deregister(&self, _service_id: &str) -> Result<(), ConsulError> {
        unreachable!("a reporter only writes")
    }
    async fn update_check(&self, check_id: &str, status: Status, _output: &str) -> Result<(), ConsulError> {
        let takes = *self.takes.lock().unwrap();
        sleep(takes).await;
        self.written.lock().unwrap().push((Instant::now(), check_id.to_owned(), status));
        if *self.away.lock().unwrap() {
            return Err(ConsulError::Unwell { status: 500, call: "PUT /v1/txn", message: String::new() });
        }
        let refusal = self.answers.lock().unwrap().get_mut(check_id).and_then(VecDeque::pop_front);
        refusal.map_or(Ok(()), Err)
    }
    async fn remove_check(&self, _check_id: &str) -> Result<(), ConsulError> {
        unreachable!("a reporter only writes")
    }
    async fn changed(&self, _sentinel: &str, _wait: Duration) -> Result<bool, ConsulError> {
        unreachable!("a reporter only writes")
    }
}

struct Bench {
    fake: Arc<Fake>,
    wants: watch::Sender<Wants>,
    findings: mpsc::Sender<Finding>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    fn start(ids: &[&str]) -> Self {
        let checks: Vec<_> = ids.iter().map(|id| tcp(id, 80)).collect();
        let (wants, wanted) = watch::channel(Arc::new(wants(&checks)));
        let (findings, found) = mpsc::channel(8);
        let fake = Arc::new(Fake::default());
        let shutdown = CancellationToken::new();
        let reporter = Reporter::new(Arc::clone(&fake), wanted, found, Arc::new(Metrics::new()));
        let task = tokio::spawn(reporter.run(shutdown.clone()));
        Self { fake, wants, findings, shutdown, task }
    }

    async fn find(&self, id: &str, status: Status) {
        self.findings.send(Finding { check: id.to_owned(), status, output: String::new() }).await.unwrap();
    }
}

fn call(id: &str, status: Status) -> (String, Status) {
    (id.to_owned(), status)
}

#[tokio::test(start_paused = true)]
async fn a_finding_is_written_until_it_is() {
    let bench = Bench::start(&["a"]);
    *bench.fake.away.lock().unwrap() = true;
    bench.find("a", Status::Critical).await;
    sleep(Duration::from_secs(60)).await;
    let tries = bench.fake.calls().len();
    assert!((6..=16).contains(&tries), "{tries}");
    // Meanwhile it became well again: only that is written.
    bench.find("a", Status::Passing).await;
    *bench.fake.away.lock().unwrap() = false;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.fake.calls().get(tries..), Some(&[call("a", Status::Passing)][..]));
    drop(bench.findings);
    bench.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_consul_is_away_one_write_at_a_time_finds_out_and_nothing_piles_up() {
    let ids: Vec<String> = (0..200).map(|number| format!("c{number:03}")).collect();
    let bench = Bench::start(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    *bench.fake.away.lock().unwrap() = true;
    for round in 0..20 {
        for id in &ids {
            bench.find(id, if round % 2 == 0 { Status::Critical } else { Status::Passing }).await;
        }
    }
    sleep(Duration::from_secs(120)).await;
    assert!(bench.fake.calls().len() < WRITES + 30, "{}", bench.fake.calls().len());
    *bench.fake.away.lock().unwrap() = false;
    let before = bench.fake.calls().len();
    sleep(Duration::from_secs(20)).await;
    let written = bench.fake.calls().split_off(before);
    assert_eq!(written.len(), ids.len());
    assert!(written.iter().all(|(_, status)| *status == Status::Passing), "of each the last one");
}

#[tokio::test(start_paused = true)]
async fn what_consul_does_not_know_or_take_is_dropped() {
    let bench = Bench::start(&["a", "b", "c"]);
    bench.fake.refuse("a", [ConsulError::NotFound { call: "PUT", message: String::new() }]);
    bench.fake.refuse("b", [ConsulError::Invalid { call: "PUT", message: String::new() }]);
    for id in ["a", "b", "c"] {
        bench.find(id, Status::Critical).await;
    }
    sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.fake.calls().len(), 3);
    bench.find("a", Status::Passing).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.fake.calls().last(), Some(&call("a", Status::Passing)));
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_waits_and_holds_up_nobody() {
    let bench = Bench::start(&["a", "b"]);
    let denied = || ConsulError::Forbidden { call: "PUT", message: String::new() };
    bench.fake.refuse("a", [denied(), denied()]);
    bench.find("a", Status::Critical).await;
    sleep(Duration::from_secs(1)).await;
    bench.find("b", Status::Critical).await;
    bench.find("a", Status::Passing).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.fake.calls(), [call("a", Status::Critical), call("b", Status::Critical)]);
    sleep(Duration::from_secs(100)).await;
    let calls = bench.fake.calls();
    assert_eq!(calls.get(2..), Some(&[call("a", Status::Passing), call("a", Status::Passing)][..]));
}

#[tokio::test(start_paused = true)]
async fn two_writes_of_one_check_never_overtake_each_other() {
    let bench = Bench::start(&["a"]);
    *bench.fake.takes.lock().unwrap() = Duration::from_secs(5);
    bench.find("a", Status::Critical).await;
    sleep(Duration::from_secs(1)).await;
    *bench.fake.takes.lock().unwrap() = Duration::ZERO;
    bench.find("a", Status::Warning).await;
    bench.find("a", Status::Passing).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.fake.calls(), []);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.fake.calls(), [call("a", Status::Critical), call("a", Status::Passing)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_is_forgotten() {
    let bench = Bench::start(&["a"]);
    *bench.fake.away.lock().unwrap() = true;
    bench.find("a", Status::Critical).await;
    bench.find("stranger", Status::Critical).await;
    sleep(Duration::from_secs(1)).await;
    bench.wants.send_replace(Wants::default());
    sleep(Duration::from_secs(60)).await;
    let tries = bench.fake.calls().len();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.fake.calls().len(), tries);
    assert!(bench.fake.calls().iter().all(|(id, _)| id == "a"));
    bench.shutdown.cancel();
    bench.task.await.unwrap();
}
