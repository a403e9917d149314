//! More and more nodes without a Consul agent against three Consul servers: how long they take to register, what they write and ask
//! at rest, and how long it takes until all is right again when the leader is killed while a container is replaced on each node.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::engine::{self, Engine};
use crate::servers::Servers;
use crate::share;
use crate::support::eventually;
use crate::support::remora::Remora;

const SIZES: [usize; 3] = [1, 50, 200];

/// On each node; services `svc0` to `svc49` by turns.
const CONTAINERS: usize = 10;
const SERVICES: usize = 50;

/// Nothing happens for so long. A blocking query lasts 45 s, and is counted when it begins and when it ends.
const IDLE: Duration = Duration::from_secs(50);

/// In which sessions, locks and first looks come to rest.
const SETTLE: Duration = Duration::from_secs(20);

/// What its own service has as a TTL check is fed so often, with an agent; an hour has so many of them.
const BAR: f64 = 360.0;

/// What was measured with so many nodes.
struct Row {
    nodes: usize,
    registered: Duration,
    writes: f64,
    own_writes: f64,
    held: f64,
    remora: f64,
    servers: f64,
    election: Duration,
    right_again: Duration,
}

struct Node {
    remora: Remora,
    engine: Engine,
    name: String,
}

/// Measures with each of these numbers, or the usual ones; the table.
pub async fn run(sizes: &[usize]) -> String {
    let mut rows = Vec::new();
    for size in if sizes.is_empty() { &SIZES } else { sizes } {
        println!("… {size} nodes");
        rows.push(measure(*size).await);
    }
    table(&rows)
}

async fn measure(count: usize) -> Row {
    let mut servers = Servers::start().await;
    tokio::time::sleep(SETTLE).await;
    let (own_writes, _) = rest(&servers).await;

    let mut nodes: Vec<Node> = (1..=count).map(|number| Node::new(number, &servers)).collect();
    let begun = Instant::now();
    for node in &mut nodes {
        node.remora.spawn();
    }
    right(&servers, &nodes).await;
    let registered = begun.elapsed();
    tokio::time::sleep(SETTLE).await;

    let (cpu, server_cpu, begun) = (cpu(&nodes), servers.cpu(), Instant::now());
    let (written, held) = rest(&servers).await;
    let took = begun.elapsed();
    let (cpu, server_cpu) = (self::cpu(&nodes).saturating_sub(cpu), servers.cpu().saturating_sub(server_cpu));

    let leader = servers.kill_leader().await;
    let killed = Instant::now();
    for node in &nodes {
        node.engine.replace_one();
    }
    servers.elected().await;
    let elected = Instant::now();
    right(&servers, &nodes).await;
    let right_again = elected.elapsed();
    servers.start_again(leader);
    for node in &mut nodes {
        node.remora.assert_never_restarted();
    }
    Row {
        nodes: count,
        registered,
        writes: (written - own_writes).max(0.0) / count as f64,
        own_writes,
        held,
        remora: share(cpu, took) / count as f64,
        servers: share(server_cpu, took),
        election: elected - killed,
        right_again,
    }
}

impl Node {
    fn new(number: usize, servers: &Servers) -> Self {
        let name = format!("n{number}");
        let engine = Engine::named(&name, CONTAINERS);
        let mut remora = Remora::new(engine.socket(), &servers.addresses(), engine::RUN, &name);
        remora.set("REMORA_CONSUL_MODE", "catalog");
        remora.set("REMORA_ADDRESS", &format!("198.51.100.{number}"));
        remora.set("REMORA_LOG", "warn");
        remora.set("REMORA_HEAL", "on");
        Self { remora, engine, name }
    }
}

/// Entries of the log in an hour, and the most blocking queries that were held at a time.
async fn rest(servers: &Servers) -> (f64, f64) {
    let (before, begun) = (servers.log_index().await, Instant::now());
    let mut held = 0.0_f64;
    while begun.elapsed() < IDLE {
        tokio::time::sleep(Duration::from_secs(5)).await;
        held = held.max(servers.held().await);
    }
    ((servers.log_index().await - before) as f64 * 3600.0 / begun.elapsed().as_secs_f64(), held)
}

fn cpu(nodes: &[Node]) -> Duration {
    nodes.iter().map(|node| node.remora.cpu()).sum()
}

/// Waits until the catalog has every container of every node, and nothing else.
async fn right(servers: &Servers, nodes: &[Node]) {
    let expected: BTreeSet<String> = nodes
        .iter()
        .flat_map(|node| node.engine.running().into_iter().map(|id| format!("{}/{id}", node.name)))
        .collect();
    eventually("all nodes right", Duration::from_secs(180), async || {
        let mut found = BTreeSet::new();
        for number in 0..SERVICES {
            let instances = servers.get(&format!("/v1/catalog/service/{}", engine::service(number))).await?;
            for instance in instances.as_array().into_iter().flatten() {
                let id = instance["ServiceMeta"]["container-id"].as_str().unwrap_or_default();
                found.insert(format!("{}/{id}", instance["Node"].as_str().unwrap_or_default()));
            }
        }
        let (missing, stale) = (expected.difference(&found).count(), found.difference(&expected).count());
        if missing + stale == 0 { Ok(()) } else { Err(format!("{missing} missing, {stale} stale")) }
    })
    .await;
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{CONTAINERS} containers on each node, three servers, `REMORA_CONSUL_MODE=catalog`; {} s in which nothing happens.\n\n",
        IDLE.as_secs()
    );
    text.push_str(
        "| Nodes | All registered | Writes of a node in an hour | Bar | Writes of the servers themselves | Blocking queries held | CPU of a Remora | CPU of the servers | New leader after | Right again after that |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        writeln!(
            text,
            "| {} | {:.1} s | {:.1} | ≤ {BAR:.0} | {:.0} | {:.0} | {:.3} % | {:.1} % | {:.1} s | {:.1} s |",
            row.nodes,
            row.registered.as_secs_f64(),
            row.writes,
            row.own_writes,
            row.held,
            row.remora,
            row.servers,
            row.election.as_secs_f64(),
            row.right_again.as_secs_f64()
        )
        .unwrap();
    }
    text
}
