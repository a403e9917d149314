//! What probing costs: `cargo bench --bench probe [-- --checks 500 --seconds 60]`.
//!
//! Runs that many HTTP checks at 10 s against a server in a process of its own, and prints CPU time and resident memory of this
//! process, which is nothing but the prober on the runtime that Remora has. To reach: 500 checks in at most 5 % of a core and 25 MB.
//! Even an unoptimized build on two busy cores does it: 3.6 %, 9.0 MB.

// A benchmark fails by panicking and speaks on standard output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::print_stdout, clippy::cast_precision_loss, missing_docs)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use remora::config::ConsulTls;
use remora::consul::model::{Check, CheckKind, CheckTls, Probe, Status};
use remora::probe::{Asker, FINDINGS, Prober, Wanted, Wants};
use remora::telemetry::Metrics;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The first argument of the child that is the server.
const SERVE: &str = "serve";

/// In which `/proc/self/stat` counts; the same on every Linux that Remora runs on.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // As in `remora run`.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build().unwrap();
    if arguments.first().is_some_and(|argument| argument == SERVE) {
        runtime.block_on(serve());
        return;
    }
    let number = |name: &str, usual: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(usual, |at| arguments[at + 1].parse().expect(name))
    };
    runtime.block_on(measure(number("--checks", 500), Duration::from_secs(number("--seconds", 60))));
}

/// Answers everything with a few bytes.
async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let _asked = stream.read(&mut [0; 1024]).await;
            let _answered =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine").await;
        });
    }
}

async fn measure(checks: u64, period: Duration) {
    let mut server = Command::new(std::env::current_exe().unwrap()).arg(SERVE).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address: SocketAddr = line.trim().parse().unwrap();
    let before = resident();
    let wants: BTreeMap<_, Wanted> = (0..checks)
        .map(|number| {
            let check = Arc::new(check(number, address));
            (check.id.clone(), Wanted { check, status: Status::Critical })
        })
        .collect();
    let (wants, wanted) = watch::channel::<Wants>(Arc::new(wants));
    let (findings, mut found) = mpsc::channel(FINDINGS);
    let shutdown = CancellationToken::new();
    let metrics = Arc::new(Metrics::new());
    let prober = Prober::new(Asker::new(ConsulTls::default()), wanted, findings, Arc::clone(&metrics));
    let prober = tokio::spawn(prober.run(shutdown.clone()));
    let listening = tokio::spawn(async move {
        let mut told = 0_usize;
        while let Some(finding) = found.recv().await {
            assert_eq!(finding.status, Status::Passing, "{}", finding.output);
            told += 1;
        }
        told
    });
    // The first round is over after one interval.
    sleep(Duration::from_secs(11)).await;
    let (begun, count) = (cpu(), probed(&metrics));
    sleep(period).await;
    let (spent, count) = (cpu() - begun, probed(&metrics) - count);
    let after = resident();
    shutdown.cancel();
    prober.await.unwrap();
    drop(wants);
    let told = listening.await.unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    println!("{checks} HTTP checks at 10 s, {} s, {told} findings, {count} probes", period.as_secs());
    println!(
        "CPU       {:.2} s = {:.2} % of a core, {:.0} µs a probe",
        spent,
        100.0 * spent / period.as_secs_f64(),
        1e6 * spent / count as f64
    );
    println!("resident  {:.1} MB, before the checks {:.1} MB", after / 1024.0, before / 1024.0);
}

fn check(number: u64, address: SocketAddr) -> Check {
    Check {
        id: format!("service-{number}:http").into(),
        name: "HTTP".into(),
        notes: "".into(),
        kind: Arc::new(CheckKind::Http {
            url: format!("http://{address}/health/{number}"),
            method: None,
            headers: BTreeMap::new(),
            body: None,
            probe: Probe { interval: Duration::from_secs(10), timeout: None },
            tls: CheckTls::default(),
        }),
        status: Status::Critical,
        output: "".into(),
        deregister_after: None,
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

fn probed(metrics: &Metrics) -> u64 {
    let text = metrics.encode();
    let line =
        text.lines().find_map(|line| line.strip_prefix("remora_probes_total{kind=\"http\",outcome=\"passing\"} "));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Seconds of CPU, user and system.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold anything, `utime` and `stime` are the twelfth and the thirteenth.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_PER_SECOND
}

/// `VmRSS` in KiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
