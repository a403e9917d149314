//! A disk is full.

use std::time::Instant;

use serde_json::json;
use tokio::time::sleep;

use super::clock::{at_once, remove_named, replaced};
use super::{Churn, NEVER, SECOND, all_servers_follow, row};
use crate::bed::Bed;
use crate::support::docker::Spec;
use crate::support::free_port;
use crate::table::Row;

/// The engine's. No container can be made, so that none can be replaced either: what is ill stays as it is, and runs.
pub async fn engine_disk_full(bed: &mut Bed) -> Row {
    // So that the attempts that must fail do not use up what there is for others.
    let before = bed.nodes[0].restart_with(&[("REMORA_HEAL_BUDGET", "100/10m".to_owned())]).await;
    let engine = &bed.nodes[0].engine;
    let side_by_side = falls_ill(at_once(engine.container("ill").publish(80))).run().await;
    let in_place = falls_ill(at_once(engine.container("alone").publish_as("80/tcp", "", free_port()))).run().await;
    let churn = Churn::announce_but(bed, &[&side_by_side, &in_place]).await;
    sleep(SECOND * 6).await;
    let engine = &bed.nodes[0].engine;
    let since = bed.nodes[0].remora.log().len();
    bed.nodes[0].dockerd.fill_disk(true);
    let refused =
        engine.try_call("POST", "/containers/create?name=full", Some(engine.container("full").body().clone()));
    let refused = refused.await.expect_err("the disk is full");
    assert!(refused.contains("no space left"), "{refused}");
    churn.ends(bed).await;
    bed.right_since(Instant::now(), SECOND * 10).await;
    bed.nodes[0].dockerd.fill_disk(true);
    for container in [&side_by_side, &in_place] {
        engine.exec(container, &["/bin/busybox", "touch", "/mark/sick"]).await;
    }
    // Two attempts each, with the first pause between two.
    let full = Instant::now();
    while full.elapsed() < SECOND * 30 {
        for container in [&side_by_side, &in_place] {
            let document = bed.nodes[0].engine.inspect(container).await;
            assert_eq!(document["State"]["Running"], true, "{} was lost to a full disk", container.name);
            assert_eq!(document["Name"], format!("/{}", container.name));
        }
        sleep(SECOND / 4).await;
        bed.nodes[0].dockerd.fill_disk(true);
    }
    let log = bed.nodes[0].remora.log();
    let attempts = log[since..].iter().filter(|line| line.contains("heal_failed")).count();
    assert!(attempts > 0, "nobody has tried to replace what is ill");
    bed.nodes[0].dockerd.fill_disk(false);
    let begun = Instant::now();
    churn.begins(bed, "room").await;
    let row = row(bed, "an engine's disk is full for 30 s, and containers fall ill", begun, SECOND * 10).await;
    // Whoever was tried in vain is tried again after 10 s, 20 s, 40 s.
    for container in [&side_by_side, &in_place] {
        replaced(&bed.nodes[0].engine, container, NEVER).await;
        remove_named(&bed.nodes[0].engine, &container.name).await;
    }
    bed.nodes[0].restart_as(before).await;
    let remark = format!(
        "those ran on, {attempts} attempts to replace them failed without harm, and {:.0} s later they were",
        begun.elapsed().as_secs_f64()
    );
    Row { healed: bed.healed().await, remark, ..row }
}

/// Its mark is in memory, and so can be made when there is no room on the disk.
fn falls_ill(spec: Spec<'_>) -> Spec<'_> {
    spec.edit(|body| {
        body["HostConfig"]["Tmpfs"] = json!({"/mark": ""});
        body["Healthcheck"]["Test"] = json!(["CMD-SHELL", "if /bin/busybox test -e /mark/sick; then exit 1; fi"]);
    })
}

/// The one of Consul's leader, who then is it no more.
pub async fn server_disk_full(bed: &mut Bed) -> Row {
    all_servers_follow(bed).await;
    let churn = Churn::announce(bed).await;
    let leader = bed.servers.elected(NEVER).await;
    bed.servers.agents[leader].fill_disk(true);
    // Its log has some room in its file: somebody else writes, until it says that it cannot.
    let begun = Instant::now();
    while !bed.servers.agents[leader].log().contains("no space left") {
        assert!(begun.elapsed() < NEVER, "it has not noticed");
        bed.servers.write_much().await;
    }
    churn.happens(bed, "server").await;
    let row = row(bed, "the disk of Consul's leader is full", Instant::now(), SECOND * 20).await;
    let now = bed.servers.elected(NEVER).await;
    bed.servers.agents[leader].kill();
    bed.servers.agents[leader].fill_disk(false);
    bed.servers.agents[leader].start();
    all_servers_follow(bed).await;
    bed.right_since(Instant::now(), SECOND * 20).await;
    let remark = if now == leader { "while it is; it led on" } else { "while it is; another one led then" };
    Row { remark: remark.to_owned(), ..row }
}
