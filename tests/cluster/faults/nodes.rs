//! Something is wrong with a node, or with the way to it.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Churn, NEVER, SECOND, row};
use crate::bed::{Bed, Mode, NODE_TTL};
use crate::support::docker::Engine;
use crate::table::Row;

pub async fn poor_link(bed: &mut Bed) -> Row {
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

/// Consul's agents look for a lost one every 30 s (serf's reconnect interval), whoever is luckier is found by gossip.
fn found_again(bed: &Bed) -> Duration {
    if bed.mode == Mode::Agent { SECOND * 45 } else { SECOND * 20 }
}

pub async fn node_cut_off(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    let begun = Instant::now();
    bed.net.cut(&bed.nodes[0].host, true);
    churn.happens(bed, "cutoff").await;
    let noticed = bed.turns(0, "critical", begun, NEVER).await;
    sleep(5 * SECOND).await;
    bed.net.cut(&bed.nodes[0].host, false);
    let row =
        row(bed, "a node is cut off from Consul, not from its containers", Instant::now(), found_again(bed)).await;
    Row { remark: format!("it was critical {:.1} s after the cut", noticed.as_secs_f64()), ..row }
}

pub async fn node_killed(bed: &mut Bed) -> Row {
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
    start_all(&node.engine).await;
    let back = Instant::now();
    node.remora.spawn();
    node.remora.ready_within(NEVER).await;
    node.lives = true;
    let row = row(bed, "a node loses its power, and is back", back, SECOND * 20).await;
    Row { remark: format!("it was critical {:.1} s after its death", noticed.as_secs_f64()), ..row }
}

/// Rather the network is ill, or Consul.
pub async fn most_nodes_cut_off(bed: &mut Bed) -> Row {
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
    let row = row(bed, "two of three nodes are cut off for 30 s", Instant::now(), found_again(bed)).await;
    let remark = if marked == 0 { "none of them was marked critical" } else { "Consul's gossip marked them critical" };
    Row { remark: remark.to_owned(), ..row }
}

pub async fn agent_killed(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    bed.nodes[0].agent.as_mut().unwrap().kill();
    churn.happens(bed, "agent").await;
    sleep(3 * SECOND).await;
    bed.nodes[0].agent.as_mut().unwrap().start();
    row(bed, "a node's Consul agent is killed, and back after 3 s", Instant::now(), SECOND * 15).await
}

/// What it had registered is gone from the catalog as soon as it joins: that is Consul's own doing, and no deletion of ours.
pub async fn agent_wiped(bed: &mut Bed) -> Row {
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

/// Its containers go with it, and nobody starts those again that have no restart policy.
pub async fn engine_restarted(bed: &mut Bed) -> Row {
    bed.right_since(Instant::now(), NEVER).await;
    bed.keep_on(&bed.nodes[1..], &[]).await;
    let node = &mut bed.nodes[0];
    let returns = node.engine.container("returns").publish(80).restart_policy("always").run().await;
    node.dockerd.stop().await;
    sleep(3 * SECOND).await;
    node.dockerd.start_again().await;
    let row = row(bed, "a node's engine is stopped, and back after 3 s", Instant::now(), SECOND * 10).await;
    let engine = &bed.nodes[0].engine;
    assert_eq!(engine.inspect(&returns).await["State"]["Running"], true);
    // They had no restart policy, so that an operator has to start them.
    start_all(engine).await;
    Row { remark: "its containers went with it; who has no restart policy stays down".to_owned(), ..row }
}

/// Its containers live on meanwhile.
pub async fn engine_restarted_live(bed: &mut Bed) -> Row {
    bed.right_since(Instant::now(), NEVER).await;
    bed.keep(&[]).await;
    let node = &mut bed.nodes[0];
    node.dockerd.set_live_restore(true).await;
    node.dockerd.stop().await;
    sleep(3 * SECOND).await;
    node.dockerd.start_again().await;
    let row = row(bed, "the same with live-restore", Instant::now(), SECOND * 10).await;
    bed.nodes[0].dockerd.set_live_restore(false).await;
    Row { remark: "its containers lived on".to_owned(), ..row }
}

/// Those that run do not mind.
async fn start_all(engine: &Engine) {
    for name in engine.names(true).await {
        drop(engine.call("POST", &format!("/containers/{name}/start"), None).await);
    }
}
