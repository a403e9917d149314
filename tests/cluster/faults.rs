//! The faults. While each of them lasts containers come and go, and what does not come or go has to stay in the catalog.
//!
//! * `consul`: the servers. * `answers`: what Consul says, and how late. * `tls`: its certificates.
//! * `nodes`: hosts, links, engines, Consul's agents. * `disks`: full ones. * `docker`: the socket, the list, the events.
//! * `agents`: Remora, and what it may do. * `versions`: an older one. * `clock`: the time. * `tenant`: containers that mean harm.

mod agents;
mod answers;
mod clock;
mod consul;
mod disks;
mod docker;
mod nodes;
mod tenant;
mod tls;
mod versions;

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::bed::Bed;
use crate::support::docker::Container;
use crate::support::eventually;
use crate::table::{Row, Table, When};

const SECOND: Duration = Duration::from_secs(1);

/// Beyond this a fault has not ended well, whatever its bar.
const NEVER: Duration = Duration::from_secs(120);

/// Tries each fault that is wanted, and notes what came of it.
macro_rules! each {
    ($bed:ident, $table:ident: $($when:ident $room:ident::$fault:ident;)*) => {
        $(if $table.wants(stringify!($fault), When::$when) {
            $table.push($room::$fault($bed).await);
        })*
    };
}

/// All of them, one after the other.
pub async fn run(bed: &mut Bed, table: &mut Table) {
    each! { bed, table:
        Always consul::leader_killed;
        Always consul::majority_lost;
        Long consul::rolling_restart;
        Long answers::slow_consul;
        Long answers::consul_refuses_all;
        Always answers::consul_refuses_half;
        Always tls::certificate_expired;
        Always tls::authority_replaced;
        Long nodes::poor_link;
        Always nodes::node_cut_off;
        Always nodes::node_killed;
        Always nodes::most_nodes_cut_off;
        Agent nodes::agent_killed;
        Agent nodes::agent_wiped;
        Always nodes::engine_restarted;
        Long nodes::engine_restarted_live;
        Always docker::socket_replaced;
        Long docker::socket_leads_elsewhere;
        Long docker::slow_list;
        Long docker::event_flood;
        Long disks::engine_disk_full;
        Long disks::server_disk_full;
        Long agents::started_twice;
        Always agents::all_remoras_killed;
        Long versions::upgraded;
        Long versions::downgraded;
        Long clock::clock_ahead;
        Long clock::clock_back;
        Always agents::token_revoked;
        Long agents::token_rotated;
        Long agents::token_too_narrow;
        Long tenant::hostile_tenant;
    }
}

/// What goes and what comes while a fault lasts, on the first node.
struct Churn {
    goes: Container,
}

impl Churn {
    /// One that will go; all others stay.
    async fn announce(bed: &Bed) -> Self {
        Self::announce_but(bed, &[]).await
    }

    /// The same, where these may go as well.
    async fn announce_but(bed: &Bed, others: &[&Container]) -> Self {
        let goes = bed.nodes[0].engine.container("goes").publish(80).run().await;
        bed.right_since(Instant::now(), NEVER).await;
        bed.keep(&[&[&goes], others].concat()).await;
        Self { goes }
    }

    async fn happens(&self, bed: &Bed, prefix: &str) {
        self.ends(bed).await;
        self.begins(bed, prefix).await;
    }

    async fn ends(&self, bed: &Bed) {
        let engine = &bed.nodes[0].engine;
        engine.kill(&self.goes, "KILL").await;
        // It is nobody's to heal.
        engine.remove(&self.goes).await;
    }

    async fn begins(&self, bed: &Bed, prefix: &str) {
        bed.nodes[0].engine.many(prefix, 2, 2).await;
    }
}

async fn row(bed: &Bed, fault: &'static str, begin: Instant, bar: Duration) -> Row {
    let (mut lost, mut stale) = (0, 0);
    while let Err(difference) = bed.difference().await {
        if begin.elapsed() > bar {
            println!("{fault}: not right within {bar:?}: {difference}");
            (lost, stale) = eventually("a look", NEVER, async || bed.lost_and_stale().await).await;
            break;
        }
        sleep(SECOND / 50).await;
    }
    let right_again = bed.right_since(begin, NEVER).await;
    // And it stays so.
    sleep(SECOND).await;
    bed.right_since(Instant::now(), SECOND).await;
    let (missed, _) = bed.missed();
    Row { fault, right_again, bar, lost, stale, missed, healed: bed.healed().await, remark: String::new() }
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
