//! The wall clock of a node jumps, for its Remora. (The engine's cannot be made to: its Remora asks for the engine's own time, and never
//! compares the two.) What waits and what is counted goes by another clock, which does not jump.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::sleep;

use super::{Churn, SECOND, row};
use crate::bed::{Bed, Node, UNJUDGED};
use crate::support::docker::{Container, Engine, Spec};
use crate::support::eventually;
use crate::support::proxy::Proxy;
use crate::table::Row;

pub async fn clock_ahead(bed: &mut Bed) -> Row {
    jump(bed, "a node's clock jumps an hour ahead", "ahead", 3600).await
}

pub async fn clock_back(bed: &mut Bed) -> Row {
    jump(bed, "a node's clock jumps an hour back", "back", -3600).await
}

/// The first node's Remora lives at the right time, and then so many seconds off.
async fn jump(bed: &mut Bed, fault: &'static str, prefix: &str, to: i32) -> Row {
    let proxy = Proxy::unix(&bed.nodes[0].dockerd.socket()).await;
    let folder = tempfile::tempdir().unwrap();
    let offset = folder.path().join("offset");
    set(&offset, 0);
    let settings = [
        ("DOCKER_HOST", format!("unix://{}", proxy.path().display())),
        ("LD_PRELOAD", library().display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        // Files were written when they were written.
        ("NO_FAKE_STAT", "1".to_owned()),
    ];
    let before = bed.nodes[0].restart_with(&settings).await;
    let churn = Churn::announce(bed).await;
    let ill = at_once(bed.nodes[0].engine.container("ill").publish(80)).run().await;
    // For as long as healing holds off after a start.
    sleep(SECOND * 6).await;
    set(&offset, to);
    bed.nodes[0].engine.exec(&ill, &["/bin/busybox", "touch", "/sick"]).await;
    // Events are asked for anew, from a moment on that is told in time.
    proxy.cut_all().await;
    churn.happens(bed, prefix).await;
    let row = row(bed, fault, Instant::now(), SECOND * 5).await;
    let off = seen(&bed.nodes[0]).await;
    assert!((off - f64::from(to)).abs() < 60.0, "Remora's clock is {off:.0} s off, and was to be {to} s");
    let begun = Instant::now();
    replaced(&bed.nodes[0].engine, &ill, SECOND * 60).await;
    let healed = begun.elapsed().as_secs_f64();
    bed.nodes[0].remora.assert_never_restarted();
    remove_named(&bed.nodes[0].engine, &ill.name).await;
    bed.nodes[0].restart_as(before).await;
    Row {
        healed: bed.healed().await,
        remark: format!("and one that falls ill then is replaced {healed:.0} s later"),
        ..row
    }
}

/// How many seconds Remora's clock is off, by the time of its last look at Consul.
async fn seen(node: &Node) -> f64 {
    let name = "remora_reconcile_last_success_timestamp_seconds ";
    eventually("a look since the jump", SECOND * 10, async || {
        let (_, metrics) = node.remora.get("/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).ok_or("there is no such metric")?;
        let then: f64 = line.trim().parse().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let off = then - now;
        // Between two looks it is a few seconds old.
        if off.abs() > 60.0 { Ok(off) } else { Err(format!("it is {off:.0} s off")) }
    })
    .await
}

fn set(file: &Path, offset: i32) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, format!("{offset:+}\n")).unwrap();
    std::fs::rename(beside, file).unwrap();
}

/// What lies between a program and its clock.
fn library() -> PathBuf {
    let usual = || PathBuf::from(format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH));
    let library = std::env::var_os("REMORA_FAKETIME").map_or_else(usual, PathBuf::from);
    assert!(
        library.is_file(),
        "{} is missing: install libfaketime (Debian: libfaketime), or name its libfaketime.so.1 in REMORA_FAKETIME",
        library.display()
    );
    library
}

/// One that is healed as soon as it is ill, and is not judged meanwhile.
pub fn at_once(spec: Spec<'_>) -> Spec<'_> {
    let labels = ["remora.heal.grace", "remora.heal.unhealthy-for", "remora.heal.min-healthy", "remora.heal.drain"];
    labels.into_iter().fold(spec.health_check(SECOND).label(UNJUDGED, "1"), |spec, label| spec.label(label, "0s"))
}

/// Waits until another container has its place, and runs.
pub async fn replaced(engine: &Engine, before: &Container, within: Duration) {
    eventually(&format!("{} replaced", before.name), within, async || {
        let now = engine.inspect_name(&before.name).await.ok_or("nobody has its name")?;
        let other = now["Id"] != before.id.as_str() && now["State"]["Health"]["Status"] == "healthy";
        // What was there before is gone when all is done.
        let gone = engine.inspect_name(&before.id).await.is_none();
        if other && gone { Ok(()) } else { Err(format!("another one: {other}, the one before gone: {gone}")) }
    })
    .await;
}

/// All that have this name, or one made of it.
pub async fn remove_named(engine: &Engine, name: &str) {
    for found in engine.names(true).await.into_iter().filter(|it| it.starts_with(name)) {
        engine.call("DELETE", &format!("/containers/{found}?force=true&v=true"), None).await;
    }
}
