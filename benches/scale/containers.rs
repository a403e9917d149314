//! One node with more and more containers: a start with so many running, what that takes of memory, what nothing costs, and what
//! an event costs while a hundred come in a second.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::engine::{self, Engine};
use crate::share;
use crate::support::consul::Consul;
use crate::support::eventually;
use crate::support::http_client;
use crate::support::proxy::Proxy;
use crate::support::remora::Remora;
use crate::support::scene::is_heartbeat;

/// Up to how many an agent takes: Consul's agent looks at everything that it has for each registration (1.8), so that 10,000
/// of them take it minutes of its own.
const SIZES: [(Way, usize); 5] =
    [(Way::Agent, 100), (Way::Agent, 1_000), (Way::Catalog, 100), (Way::Catalog, 1_000), (Way::Catalog, 10_000)];

/// Events in a second, and for how long.
const RATE: usize = 100;
const CHURN: Duration = Duration::from_secs(60);

/// Nothing happens for so long: a full look at Docker is among it.
const IDLE: Duration = Duration::from_secs(40);

/// `REMORA_CONSUL_MODE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Agent,
    Catalog,
}

/// What was measured with so many containers.
struct Row {
    way: Way,
    containers: usize,
    cold: Duration,
    cold_cpu: Duration,
    resident: u64,
    idle: f64,
    idle_writes: usize,
    idle_reads: f64,
    event: f64,
    event_writes: f64,
    event_requests: f64,
    lag: Duration,
}

/// Measures with each of these numbers, or the usual ones; the table.
pub async fn run(sizes: &[usize]) -> String {
    let mut rows = Vec::new();
    for (way, size) in SIZES {
        if sizes.is_empty() || sizes.contains(&size) {
            println!("… {size} containers, {} mode", way.word());
            rows.push(measure(way, size).await);
        }
    }
    table(&rows)
}

impl Way {
    const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Catalog => "catalog",
        }
    }

    /// Where everything of the node is listed.
    const fn list(self) -> &'static str {
        match self {
            Self::Agent => "/v1/agent/services",
            Self::Catalog => "/v1/catalog/node/scale",
        }
    }
}

async fn measure(way: Way, containers: usize) -> Row {
    let engine = Engine::start(containers);
    let consul = Consul::start().await;
    let proxy = Proxy::tcp(consul.url().rsplit(':').next().unwrap().parse().unwrap()).await;
    let mut remora = Remora::new(engine.socket(), &format!("http://127.0.0.1:{}", proxy.port()), engine::RUN, "scale");
    remora.set("REMORA_LOG", "warn");
    remora.set("REMORA_HEAL", "on");
    remora.set("REMORA_CONSUL_MODE", way.word());
    let begun = Instant::now();
    remora.spawn();
    remora.ready_within(Duration::from_secs(300)).await;
    let (cold, cold_cpu) = (begun.elapsed(), remora.cpu());
    tokio::time::sleep(Duration::from_secs(15)).await;

    proxy.requests();
    engine.requests();
    let (cpu, begun) = (remora.cpu(), Instant::now());
    tokio::time::sleep(IDLE).await;
    let idle = share(remora.cpu().saturating_sub(cpu), begun.elapsed());
    // By now the connections of the start are closed, each with the buffer that its longest answer needed.
    let resident = remora.resident_kib();
    let requests = proxy.requests();
    let idle_writes = requests.iter().filter(|it| is_write(it)).count();
    let idle_reads = (requests.len() + engine.requests()) as f64 / begun.elapsed().as_secs_f64();

    let (cpu, begun) = (remora.cpu(), Instant::now());
    let mut events = 0;
    while begun.elapsed() < CHURN {
        events += engine.replace_one();
        let due = Duration::from_secs_f64(events as f64 / RATE as f64);
        tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
    }
    let churned = begun.elapsed();
    let used = remora.cpu().saturating_sub(cpu).as_secs_f64() - idle / 100.0 * churned.as_secs_f64();
    let over = Instant::now();
    let expected = engine.running();
    let http = http_client(None);
    eventually("all of it registered", Duration::from_secs(180), async || {
        let url = format!("{}{}", consul.url(), way.list());
        let answer = http.get(url).send().await.map_err(|it| it.to_string())?;
        let text = answer.text().await.map_err(|it| it.to_string())?;
        let found: HashSet<&str> =
            text.split("\"container-id\":").skip(1).filter_map(|it| it.split('"').nth(1)).collect();
        let missing = expected.iter().filter(|id| !found.contains(id.as_str())).count();
        let found = text.matches("\"container-id\"").count();
        if (missing, found) == (0, containers) { Ok(()) } else { Err(format!("{missing} missing, {found} there")) }
    })
    .await;
    let lag = over.elapsed();
    let requests = proxy.requests();
    let written = requests.iter().filter(|it| is_write(it)).count();
    let asked = requests.len() + engine.requests();
    assert!(remora.terminate().await.success());
    Row {
        way,
        containers,
        cold,
        cold_cpu,
        resident,
        idle,
        idle_writes,
        idle_reads,
        event: used * 1e6 / events as f64,
        event_writes: written as f64 / events as f64,
        event_requests: asked as f64 / events as f64,
        lag,
    }
}

/// Neither a question nor a sign of life.
fn is_write(request: &str) -> bool {
    !request.starts_with("GET ") && !is_heartbeat(request) && !request.contains("/v1/session/renew/")
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{RATE} events in a second for {} s; {} s in which nothing happens. Requests are those to Docker and to Consul.\n\n",
        CHURN.as_secs(),
        IDLE.as_secs()
    );
    text.push_str(
        "| Mode | Containers | Cold start | CPU of it | Resident | Idle: CPU of a core | Idle: writes | Idle: requests/s | CPU of an event | Writes of an event | Requests of an event | Right after the last one |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        writeln!(
            text,
            "| {} | {} | {:.2} s | {:.2} s | {:.1} MB | {:.2} % | {} | {:.1} | {:.0} µs | {:.2} | {:.2} | {} ms |",
            row.way.word(),
            row.containers,
            row.cold.as_secs_f64(),
            row.cold_cpu.as_secs_f64(),
            row.resident as f64 * 1024.0 / 1e6,
            row.idle,
            row.idle_writes,
            row.idle_reads,
            row.event,
            row.event_writes,
            row.event_requests,
            row.lag.as_millis()
        )
        .unwrap();
    }
    for way in [Way::Agent, Way::Catalog] {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.way == way).collect();
        let [first, .., last] = rows.as_slice() else { continue };
        let more = last.resident.saturating_sub(first.resident) as f64 * 1024.0;
        let each = more / (last.containers - first.containers) as f64;
        writeln!(
            text,
            "\n{} mode: one container more takes {each:.0} bytes (bar: 4,096). An event costs {:.2} × with {} what it costs with {} (bar: 0.8 to 1.2).",
            way.word(),
            last.event / first.event,
            last.containers,
            first.containers
        )
        .unwrap();
    }
    text
}
