//! Something is wrong with the servers.

use std::time::Instant;

use tokio::time::sleep;

use super::{Churn, NEVER, SECOND, all_servers_follow, row};
use crate::bed::{Bed, Mode};
use crate::table::Row;

pub async fn leader_killed(bed: &mut Bed) -> Row {
    let churn = Churn::announce(bed).await;
    let leader = bed.servers.elected(NEVER).await;
    let killed = Instant::now();
    bed.servers.agents[leader].kill();
    churn.happens(bed, "leader").await;
    bed.servers.elected(NEVER).await;
    let elected = Instant::now();
    // An agent that could not pass on what it was told tries again up to three seconds after it sees a server: Consul's
    // `serverUpIntv`, over which a thousand agents spread.
    let bar = if bed.mode == Mode::Agent { SECOND * 8 } else { SECOND * 2 };
    let row = row(bed, "Consul's leader is killed", elected, bar).await;
    bed.servers.agents[leader].start();
    let remark =
        format!("from the new leader's first answer on, {:.1} s after the death", (elected - killed).as_secs_f64());
    Row { remark, ..row }
}

pub async fn majority_lost(bed: &mut Bed) -> Row {
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

pub async fn rolling_restart(bed: &mut Bed) -> Row {
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
