//! How cost grows with the number of containers: `docker/bench.sh --scale`.
//!
//! Remora beside an engine that only says that it runs containers ([`engine`]), and a real Consul: a start with so many running, what
//! that takes of memory, what nothing costs, and what an event costs while a hundred come in a second. Prints the table, and puts
//! it into `docs/performance.md`.

// A benchmark fails by panicking and speaks on standard output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::print_stdout, clippy::large_futures, clippy::cast_precision_loss, missing_docs)]

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

mod engine;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::Engine;
use support::consul::Consul;
use support::proxy::Proxy;
use support::remora::Remora;
use support::scene::is_heartbeat;
use support::{eventually, page};

const BEGIN: &str = "<!-- scale: begin (written by `docker/bench.sh --scale`) -->";
const END: &str = "<!-- scale: end -->";

/// Containers.
const SIZES: [usize; 3] = [100, 1_000, 10_000];

/// Events in a second, and for how long.
const RATE: usize = 100;
const CHURN: Duration = Duration::from_secs(30);

/// Nothing happens for so long: two full looks at Docker.
const IDLE: Duration = Duration::from_secs(60);

/// What was measured with so many containers.
struct Row {
    containers: usize,
    cold: Duration,
    resident: u64,
    idle: f64,
    idle_writes: usize,
    event: f64,
    event_writes: f64,
    lag: Duration,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let all = sizes.is_empty();
    runtime.block_on(async {
        let mut rows = Vec::new();
        for size in if all { SIZES.to_vec() } else { sizes } {
            println!("… {size} containers");
            rows.push(measure(size).await);
        }
        let text = table(&rows);
        println!("\n{text}");
        if all {
            page::write(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md")), BEGIN, END, &text);
        }
    });
}

async fn measure(containers: usize) -> Row {
    let engine = Engine::start(containers);
    let consul = Consul::start().await;
    let proxy = Proxy::tcp(consul.url().rsplit(':').next().unwrap().parse().unwrap()).await;
    let mut remora = Remora::new(engine.socket(), &format!("http://127.0.0.1:{}", proxy.port()), engine::RUN, "scale");
    remora.set("REMORA_LOG", "warn");
    let begun = Instant::now();
    remora.spawn();
    remora.ready_within(Duration::from_secs(300)).await;
    let cold = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let resident = remora.resident_kib();

    proxy.requests();
    let (cpu, begun) = (remora.cpu(), Instant::now());
    tokio::time::sleep(IDLE).await;
    let idle = share(remora.cpu().saturating_sub(cpu), begun.elapsed());
    let idle_writes = writes(&proxy);

    let (cpu, begun) = (remora.cpu(), Instant::now());
    let mut events = 0;
    while begun.elapsed() < CHURN {
        events += engine.replace_one();
        let due = Duration::from_secs_f64(events as f64 / RATE as f64);
        tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
    }
    let churned = begun.elapsed();
    let over = Instant::now();
    let http = support::http_client(None);
    eventually("all of it registered", Duration::from_secs(60), async || {
        let (_, body) = remora.get("/readyz").await;
        let answer =
            http.get(format!("{}/v1/agent/services", consul.url())).send().await.map_err(|it| it.to_string())?;
        let found = answer.text().await.map_err(|it| it.to_string())?.matches("\"container-id\"").count();
        if found == containers { Ok(()) } else { Err(format!("{found} are registered; {body}")) }
    })
    .await;
    let lag = over.elapsed();
    let used = remora.cpu().saturating_sub(cpu).as_secs_f64() - idle / 100.0 * churned.as_secs_f64();
    let written = writes(&proxy);
    assert!(remora.terminate().await.success());
    Row {
        containers,
        cold,
        resident,
        idle,
        idle_writes,
        event: used * 1e6 / events as f64,
        event_writes: written as f64 / events as f64,
        lag,
    }
}

/// Writes since the last call, but for the heartbeat.
fn writes(proxy: &Proxy) -> usize {
    proxy.writes().iter().filter(|it| !is_heartbeat(it)).count()
}

/// Of one core, in hundredths.
fn share(cpu: Duration, time: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / time.as_secs_f64()
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{RATE} events in a second for {} s; {} s in which nothing happens.\n\n",
        CHURN.as_secs(),
        IDLE.as_secs()
    );
    text.push_str(
        "| Containers | Cold start | Resident | Idle: CPU of a core | Idle: writes | CPU of an event | Writes of an event | Right after the last one |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for Row { containers, cold, resident, idle, idle_writes, event, event_writes, lag } in rows {
        writeln!(
            text,
            "| {containers} | {:.1} s | {:.1} MB | {idle:.2} % | {idle_writes} | {event:.0} µs | {event_writes:.2} | {} ms |",
            cold.as_secs_f64(),
            *resident as f64 * 1024.0 / 1e6,
            lag.as_millis()
        )
        .unwrap();
    }
    if let [first, .., last] = rows {
        let more = last.resident.saturating_sub(first.resident) as f64 * 1024.0;
        let each = more / (last.containers - first.containers) as f64;
        writeln!(
            text,
            "\nOne container more takes {each:.0} bytes; an event costs {:.2} × with {} what it does with {}.",
            last.event / first.event,
            last.containers,
            first.containers
        )
        .unwrap();
    }
    text
}
