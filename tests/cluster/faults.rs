//! The faults. While each of them lasts containers come and go, and what does not come or go has to stay in the catalog.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::bed::{Bed, Mode, NODE_TTL};
use crate::support::docker::Container;
use crate::table::{Row, Table};

const SECOND: Duration = Duration::from_secs(1);

/// Beyond this a fault has not ended well, whatever its bar.
const NEVER: Duration = Duration::from_secs(120);

/// All of them, one after the other.
pub async fn run(bed: &mut Bed, table: &mut Table) {
    table.push(leader_killed(bed).await);
    table.push(majority_lost(bed).await);
    table.push(rolling_restart(bed).await);
    table.push(poor_link(bed).await);
    table.push(node_cut_off(bed).await);
    table.push(node_killed(bed).await);
    table.push(most_nodes_cut_off(bed).await);
    if bed.mode == Mode::Agent {
        table.push(agent_killed(bed).await);
        table.push(agent_wiped(bed).await);
    }
    table.push(all_remoras_killed(bed).await);
}

/// What goes and what comes while a fault lasts, on the first node.
struct Churn {
    goes: Container,
}

impl Churn {
    /// One that will go; all others stay.
    async fn announce(bed: &Bed) -> Self {
        let goes = bed.nodes[0].engine.container("goes").publish(80).run().await;
        bed.right_since(Instant::now(), NEVER).await;
        bed.keep(&[&goes]).await;
        Self { goes }
    }

    async fn happens(&self, bed: &Bed, prefix: &str) {
        let engine = &bed.nodes[0].engine;
        engine.kill(&self.goes, "KILL").await;
        // It is nobody's to heal.
        engine.remove(&self.goes).await;
        engine.many(prefix, 2, 2).await;
    }
}

async fn row(bed: &Bed, fault: &'static str, begin: Instant, bar: Duration) -> Row {
    let right_again = bed.right_since(begin, NEVER).await;
    // And it stays so.
    sleep(SECOND).await;
    bed.right_since(Instant::now(), SECOND).await;
    let (missed, _) = bed.missed();
    Row { fault, right_again, bar, missed, healed: bed.healed().await, remark: String::new() }
}

async fn leader_killed(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    let leader = bed.servers.elected(NEVER).await;
    let killed = Instant::now();
    bed.servers.agents[leader].kill();
    churn.happens(bed, "leader").await;
    bed.servers.elected(NEVER).await;
    let elected = Instant::now();
    // An agent that could not pass on what it was told tries again up to three seconds after it sees a server: Consul's
    // `serverUpIntv`, over which a thousand agents spread.
    let bar = if bed.mode == Mode::Agent { SECOND * 5 } else { SECOND * 2 };
    let row = row(bed, "Consul's leader is killed", elected, bar).await;
    bed.servers.agents[leader].start();
    let remark =
        format!("from the new leader's first answer on, {:.1} s after the death", (elected - killed).as_secs_f64());
    Row { remark, ..row }
}

async fn majority_lost(bed: &mut Bed) -> Row {
    all_servers_follow(bed).await;
    let churn = Churn::announce(bed).await;
    let leader = bed.servers.elected(NEVER).await;
    let other = (leader + 1) % 3;
    bed.servers.agents[leader].kill();
    bed.servers.agents[other].kill();
    churn.happens(bed, "minority").await;
    sleep(15 * SECOND).await;
    bed.servers.agents[leader].start();
    bed.servers.agents[other].start();
    bed.servers.elected(NEVER).await;
    let row = row(bed, "two of three servers are killed, and back after 15 s", Instant::now(), SECOND * 15).await;
    Row { remark: "from the new leader's first answer on".to_owned(), ..row }
}

async fn rolling_restart(bed: &mut Bed) -> Row {
    all_servers_follow(bed).await;
    let churn = Churn::announce(bed).await;
    for at in 0..3 {
        bed.servers.agents[at].kill();
        sleep(SECOND).await;
        bed.servers.agents[at].start();
        if at == 0 {
            churn.happens(bed, "rolling").await;
        }
        bed.servers.elected(NEVER).await;
        all_servers_follow(bed).await;
    }
    row(bed, "the servers are restarted one after the other", Instant::now(), SECOND * 10).await
}

/// A server that has just come back is no help yet when the next one dies.
async fn all_servers_follow(bed: &Bed) {
    let begun = Instant::now();
    loop {
        let health = bed.servers.get("/v1/operator/autopilot/health").await.unwrap_or_default();
        let servers = health["Servers"].as_array().cloned().unwrap_or_default();
        if servers.iter().filter(|server| server["Healthy"] == true).count() == 3 {
            return;
        }
        assert!(begun.elapsed() < NEVER, "the servers do not find together: {health}");
        sleep(SECOND / 4).await;
    }
}

async fn poor_link(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    let host = &bed.nodes[0].host;
    host.lossy(10);
    host.slow(Some(512));
    churn.happens(bed, "poor").await;
    let row =
        row(bed, "a node's link loses 10 % of the packets and carries 512 kbit/s", Instant::now(), SECOND * 30).await;
    bed.nodes[0].host.lossy(0);
    bed.nodes[0].host.slow(None);
    Row { remark: "while the link is as poor as that".to_owned(), ..row }
}

async fn node_cut_off(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    let begun = Instant::now();
    bed.net.cut(&bed.nodes[0].host, true);
    churn.happens(bed, "cutoff").await;
    let noticed = bed.turns(0, "critical", begun, NEVER).await;
    sleep(5 * SECOND).await;
    bed.net.cut(&bed.nodes[0].host, false);
    let row = row(bed, "a node is cut off from Consul, not from its containers", Instant::now(), SECOND * 20).await;
    Row { remark: format!("it was critical {:.1} s after the cut", noticed.as_secs_f64()), ..row }
}

async fn node_killed(bed: &mut Bed) -> Row {
    bed.right_since(Instant::now(), NEVER).await;
    bed.keep(&[]).await;
    let begun = Instant::now();
    let node = &mut bed.nodes[0];
    let processes = node.processes().await;
    node.remora.kill().await;
    if let Some(agent) = &mut node.agent {
        agent.kill();
    }
    node.dockerd.lose_power(&processes).await;
    node.lives = false;
    let noticed = bed.turns(0, "critical", begun, NEVER).await;
    let promised = match bed.mode {
        Mode::Agent => NEVER,
        Mode::Catalog => NODE_TTL * 2 + SECOND * 2,
    };
    assert!(noticed <= promised, "critical {noticed:?} after its death, {promised:?} were promised");
    bed.right_since(Instant::now(), SECOND).await;
    let node = &mut bed.nodes[0];
    node.dockerd.start_again().await;
    if let Some(agent) = &mut node.agent {
        agent.start();
    }
    // Without a restart policy they stay dead, and an operator has to start them.
    let engine = &node.engine;
    for name in engine.names(true).await {
        drop(engine.call("POST", &format!("/containers/{name}/start"), None).await);
    }
    let back = Instant::now();
    node.remora.spawn();
    node.remora.ready_within(NEVER).await;
    node.lives = true;
    let row = row(bed, "a node loses its power, and is back", back, SECOND * 20).await;
    Row { remark: format!("it was critical {:.1} s after its death", noticed.as_secs_f64()), ..row }
}

/// Rather the network is ill, or Consul.
async fn most_nodes_cut_off(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    bed.net.cut(&bed.nodes[0].host, true);
    bed.net.cut(&bed.nodes[1].host, true);
    churn.happens(bed, "most").await;
    let begun = Instant::now();
    let mut marked = 0;
    while begun.elapsed() < NODE_TTL * 3 {
        for node in &bed.nodes[..2] {
            marked += usize::from(bed.status(node).await.is_ok_and(|status| status == "critical"));
        }
        sleep(SECOND).await;
    }
    if bed.mode == Mode::Catalog {
        assert_eq!(marked, 0, "more than half of the nodes are gone, and the leader marked one");
    }
    bed.net.cut(&bed.nodes[0].host, false);
    bed.net.cut(&bed.nodes[1].host, false);
    let row = row(bed, "two of three nodes are cut off for 30 s", Instant::now(), SECOND * 20).await;
    let remark = if marked == 0 { "none of them was marked critical" } else { "Consul's gossip marked them critical" };
    Row { remark: remark.to_owned(), ..row }
}

async fn agent_killed(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    bed.nodes[0].agent.as_mut().unwrap().kill();
    churn.happens(bed, "agent").await;
    sleep(3 * SECOND).await;
    bed.nodes[0].agent.as_mut().unwrap().start();
    row(bed, "a node's Consul agent is killed, and back after 3 s", Instant::now(), SECOND * 15).await
}

/// What it had registered is gone from the catalog as soon as it joins: that is Consul's own doing, and no deletion of ours.
async fn agent_wiped(bed: &mut Bed) -> Row {
    bed.right_since(Instant::now(), NEVER).await;
    let ours: Vec<_> = bed.nodes[0].engine.ids(false).await;
    assert!(!ours.is_empty());
    bed.keep(&[]).await;
    let agent = bed.nodes[0].agent.as_mut().unwrap();
    agent.kill();
    agent.wipe();
    agent.start();
    let row = row(bed, "a node's Consul agent forgets everything", Instant::now(), SECOND * 20).await;
    let remark =
        format!("{} instances were away for a moment: an agent that joins removes what it does not know", row.missed);
    Row { missed: 0, remark, ..row }
}

async fn all_remoras_killed(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    for node in &mut bed.nodes {
        node.remora.kill().await;
    }
    churn.happens(bed, "blind").await;
    let begun = Instant::now();
    for node in &mut bed.nodes {
        node.remora.spawn();
    }
    for node in &mut bed.nodes {
        node.remora.ready_within(NEVER).await;
    }
    row(bed, "all Remoras are killed and started again at once", begun, SECOND * 10).await
}
