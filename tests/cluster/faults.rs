//! The faults. While each of them lasts containers come and go, and what does not come or go has to stay in the catalog.
//!
//! * `consul`: the servers. * `nodes`: hosts, links, engines, Consul's agents. * `agents`: Remora, and what it may do.

mod agents;
mod consul;
mod nodes;

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::bed::{Bed, Mode};
use crate::support::docker::Container;
use crate::table::{Row, Table};

const SECOND: Duration = Duration::from_secs(1);

/// Beyond this a fault has not ended well, whatever its bar.
const NEVER: Duration = Duration::from_secs(120);

/// All of them, one after the other; without a table to be written, without some that take their time and are much like others.
pub async fn run(bed: &mut Bed, table: &mut Table) {
    let all = table.is_written();
    table.push(consul::leader_killed(bed).await);
    table.push(consul::majority_lost(bed).await);
    if all {
        table.push(consul::rolling_restart(bed).await);
        table.push(nodes::poor_link(bed).await);
    }
    table.push(nodes::node_cut_off(bed).await);
    table.push(nodes::node_killed(bed).await);
    table.push(nodes::most_nodes_cut_off(bed).await);
    if bed.mode == Mode::Agent {
        table.push(nodes::agent_killed(bed).await);
        table.push(nodes::agent_wiped(bed).await);
    }
    table.push(nodes::engine_restarted(bed).await);
    if all {
        table.push(nodes::engine_restarted_live(bed).await);
        table.push(agents::started_twice(bed).await);
    }
    table.push(agents::all_remoras_killed(bed).await);
    table.push(agents::token_revoked(bed).await);
    if all {
        table.push(agents::token_rotated(bed).await);
        table.push(agents::token_too_narrow(bed).await);
    }
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
