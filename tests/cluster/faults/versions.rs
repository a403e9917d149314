//! An older Remora and this one on the same node: an update that is rolled out, and one that is taken back.
//!
//! The older ones are built of earlier states of this repository, by `docker/reliability.sh`: `REMORA_OLD_BIN` is a folder with one for
//! each mode, `agent` and `catalog`.

use std::path::PathBuf;
use std::time::Instant;

use tokio::time::sleep;

use super::{Churn, NEVER, SECOND, row};
use crate::bed::{Bed, Mode};
use crate::support::remora::program;
use crate::table::Row;

/// The old one runs, the new one is started beside it, and then the old one is stopped.
pub async fn upgraded(bed: &mut Bed) -> Row {
    let (old, fault) = (old(bed.mode), "a node's Remora is updated, the old one runs beside it for 20 s");
    bed.nodes[0].remora.terminate().await;
    bed.nodes[0].remora.run_as(&old);
    bed.nodes[0].remora.spawn();
    bed.nodes[0].remora.ready_within(NEVER).await;
    bed.right_since(Instant::now(), NEVER).await;
    beside(bed, program(), fault, "updated").await
}

/// The other way round.
pub async fn downgraded(bed: &mut Bed) -> Row {
    let (old, fault) = (old(bed.mode), "the same the other way round");
    let row = beside(bed, old, fault, "takenback").await;
    bed.nodes[0].remora.terminate().await;
    bed.nodes[0].remora.run_as(&program());
    bed.nodes[0].remora.spawn();
    bed.nodes[0].remora.ready_within(NEVER).await;
    bed.right_since(Instant::now(), SECOND * 10).await;
    row
}

/// Another program is started beside the first node's Remora, and takes its place.
async fn beside(bed: &mut Bed, program: PathBuf, fault: &'static str, prefix: &str) -> Row {
    let churn = Churn::announce(bed).await;
    let mut second = bed.nodes[0].remora.another();
    second.run_as(&program);
    second.spawn();
    second.ready_within(NEVER).await;
    churn.happens(bed, prefix).await;
    let row = row(bed, fault, Instant::now(), SECOND * 10).await;
    // They do not mean the same, so each writes its own again where it finds the other's; after five times in a row neither goes on so.
    let before = bed.catalog().unwrap().written(&bed.nodes[0].name).await;
    let mut writes = 0;
    let mut last = before.clone();
    for _ in 0..20 {
        sleep(SECOND).await;
        let now = bed.catalog().unwrap().written(&bed.nodes[0].name).await;
        writes += now.iter().filter(|(id, index)| last.get(*id) != Some(index)).count();
        last = now;
    }
    let bound = before.len() * 10;
    assert!(writes <= bound, "{writes} writes in 20 s of {} rows, {bound} at the most", before.len());
    bed.right_since(Instant::now(), SECOND * 3).await;
    bed.nodes[0].remora.terminate().await;
    bed.nodes[0].remora = second;
    bed.right_since(Instant::now(), SECOND * 3).await;
    // And it does not take away, minutes later, what it does not know.
    let churn = Churn::announce(bed).await;
    churn.happens(bed, &format!("{prefix}alone")).await;
    bed.right_since(Instant::now(), SECOND * 10).await;
    let remark = match writes {
        0 => "while both run; nothing is written twice".to_owned(),
        _ => {
            format!("while both run; {writes} writes of {} rows in 20 s, since they do not mean the same", before.len())
        }
    };
    Row { missed: row.missed + bed.missed().0, remark, ..row }
}

fn old(mode: Mode) -> PathBuf {
    let folder = std::env::var_os("REMORA_OLD_BIN").map(PathBuf::from);
    let folder =
        folder.expect("REMORA_OLD_BIN is to name a folder with older programs: docker/reliability.sh builds them");
    let program = folder.join(mode.word());
    assert!(program.is_file(), "{} is missing: docker/reliability.sh builds it", program.display());
    program
}
