//! Something is wrong with the way to the engine, or it has too much to say.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio::time::{sleep, timeout};

use super::{Churn, NEVER, SECOND, row};
use crate::bed::{Bed, Node};
use crate::support::docker::{Container, Engine};
use crate::support::eventually;
use crate::support::gate::{Act, Gate};
use crate::support::proxy::Proxy;
use crate::table::Row;

/// As an engine does that is installed anew: for a moment there is none, and then another file of the same name.
pub async fn socket_replaced(bed: &mut Bed) -> Row {
    let proxy = Proxy::unix(&bed.nodes[0].dockerd.socket()).await;
    let before = bed.nodes[0].restart_with(&[("DOCKER_HOST", format!("unix://{}", proxy.path().display()))]).await;
    let churn = Churn::announce(bed).await;
    proxy.refuse(true).await;
    assert!(!proxy.path().exists());
    churn.happens(bed, "socket").await;
    sleep(3 * SECOND).await;
    proxy.refuse(false).await;
    let fault = "the engine's socket file is removed, and made anew after 3 s";
    // A connection is tried again after five seconds at the most.
    let row = row(bed, fault, Instant::now(), SECOND * 10).await;
    bed.nodes[0].remora.assert_never_restarted();
    bed.nodes[0].restart_as(before).await;
    row
}

/// The path is a link that leads to another socket from one moment to the next, and who holds on to the first one hears nothing there,
/// for ever, and not even that it has ended.
pub async fn socket_leads_elsewhere(bed: &mut Bed) -> Row {
    let socket = bed.nodes[0].dockerd.socket();
    let (first, second) = (Proxy::unix(&socket).await, Proxy::unix(&socket).await);
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("docker.sock");
    symlink(first.path(), &link).unwrap();
    let before = bed.nodes[0].restart_with(&[("DOCKER_HOST", format!("unix://{}", link.display()))]).await;
    let churn = Churn::announce(bed).await;
    let begun = Instant::now();
    lead(&link, second.path());
    first.strand();
    churn.happens(bed, "elsewhere").await;
    // A ping goes the new way, and says that all is well. The next list shows what was not told: every 30 s, and events have 3 s more.
    let row = row(bed, "the engine's socket leads to another path, and the old one is mute", begun, SECOND * 40).await;
    assert!(second.connections() > 0, "Remora has never gone there");
    bed.nodes[0].remora.assert_never_restarted();
    bed.nodes[0].restart_as(before).await;
    Row { remark: "from the change on".to_owned(), ..row }
}

fn lead(link: &Path, to: &Path) {
    let beside = link.with_extension("new");
    symlink(to, &beside).unwrap();
    std::fs::rename(beside, link).unwrap();
}

/// What happens is told by events, and looked at one by one: no list is waited for.
pub async fn slow_list(bed: &mut Bed) -> Row {
    let gate = Gate::unix(&bed.nodes[0].dockerd.socket());
    let before = bed.nodes[0].restart_with(&[("DOCKER_HOST", gate.url())]).await;
    let churn = Churn::announce(bed).await;
    gate.rule(|line| if line.contains("/containers/json") { Act::After(SECOND * 5) } else { Act::Pass });
    churn.happens(bed, "slow").await;
    let row = row(bed, "the engine's list takes 5 s", Instant::now(), SECOND * 5).await;
    // A Remora that starts has nothing but that list.
    let begun = Instant::now();
    bed.nodes[0].remora.kill().await;
    bed.nodes[0].engine.many("unseen", 2, 2).await;
    bed.nodes[0].remora.spawn();
    bed.nodes[0].remora.ready_within(SECOND * 20).await;
    bed.right_since(begun, SECOND * 20).await;
    let started = begun.elapsed().as_secs_f64();
    bed.nodes[0].restart_as(before).await;
    Row { remark: format!("while it does; a Remora that starts then has all right after {started:.1} s"), ..row }
}

/// How many containers have themselves looked at each second, and signals are sent to beside: more checks than a machine of a few cores
/// can start.
const MANY: u16 = 30;

pub async fn event_flood(bed: &mut Bed) -> Row {
    let node = &bed.nodes[0];
    // On the host's network, since many ports to publish would be another test.
    let flood: Vec<Container> = stream::iter(0..MANY)
        .map(|number| {
            let spec = node.engine.container(&format!("flood{number}")).network("host").expose(30_000 + number);
            let patient = |body: &mut serde_json::Value| body["Healthcheck"]["Timeout"] = 60_000_000_000_u64.into();
            spec.health_check(SECOND).edit(patient).run()
        })
        .buffer_unordered(2)
        .collect()
        .await;
    // Others than those: with signals to containers whose health is being checked Docker 20.10 was seen to lock up, so that it
    // answered nothing about one of them any more.
    let mut drummed = Vec::new();
    for number in 0..3 {
        drummed.push(node.engine.container(&format!("drum{number}")).publish(80).run().await);
    }
    let churn = Churn::announce(bed).await;
    let node = &bed.nodes[0];
    // So far it is news that they are well.
    eventually("all of them healthy", NEVER, async || {
        let healthy =
            node.engine.call("GET", "/containers/json?filters=%7B%22health%22%3A%5B%22healthy%22%5D%7D", None).await;
        let healthy = healthy.as_array().map_or(0, Vec::len);
        if healthy >= flood.len() { Ok(()) } else { Err(format!("{healthy}")) }
    })
    .await;
    bed.right_since(Instant::now(), NEVER).await;
    let node = &bed.nodes[0];
    let (written, cpu, span) = (bed.catalog().unwrap().written(&node.name).await, node.remora.cpu(), SECOND * 20);
    let begun = Instant::now();
    let (checked, signalled) = tokio::join!(checks(&node.engine, span), signals(&node.engine, &drummed, span));
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = node.remora.cpu().saturating_sub(cpu).as_secs_f64() / seconds * 100.0;
    let after = bed.catalog().unwrap().written(&node.name).await;
    let rewritten: Vec<_> = after.iter().filter(|(id, index)| written.get(*id) != Some(index)).collect();
    assert!(rewritten.is_empty(), "nothing has changed, and these were written: {rewritten:?}");
    assert!(written.len() >= usize::from(MANY) * 2, "a service and a check each: {}", written.len());
    let judged = async {
        churn.happens(bed, "flooded").await;
        row(bed, "30 containers with health checks every second, and signals", Instant::now(), SECOND * 15).await
    };
    let flooded = tokio::select! {
        flooded = judged => flooded,
        _ = signals(&node.engine, &drummed, NEVER * 2) => panic!("it takes for ever"),
    };
    remove_all(node, &flood).await;
    remove_all(node, &drummed).await;
    bed.right_since(Instant::now(), NEVER).await;
    let rates = format!(
        "while it lasts: {:.0} checks of the {MANY} that were due each second, {:.0} signals",
        f64::from(checked) / seconds,
        f64::from(signalled) / seconds
    );
    Row {
        remark: format!("{rates}; nothing written to the catalog in {seconds:.0} s, {cpu:.1} % of a core"),
        ..flooded
    }
}

/// How many of Docker's health checks end within this time.
async fn checks(engine: &Engine, span: Duration) -> u32 {
    let mut events = engine.events().await;
    let mut ended = 0;
    let counting = async {
        loop {
            ended += u32::from(events.any().await.action == "exec_die");
        }
    };
    drop(timeout(span, counting).await);
    ended
}

/// Signals that nobody minds, and that are told of: each of them is a reason to look at a container. How many were sent.
async fn signals(engine: &Engine, to: &[Container], span: Duration) -> u32 {
    let begun = Instant::now();
    let mut sent = 0;
    for container in to.iter().cycle() {
        if begun.elapsed() >= span {
            break;
        }
        engine.kill(container, "WINCH").await;
        sent += 1;
        sleep(SECOND / 100).await;
    }
    sent
}

async fn remove_all(node: &Node, containers: &[Container]) {
    stream::iter(containers).for_each_concurrent(4, |it| async move { node.engine.remove(it).await }).await;
}
