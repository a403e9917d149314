//! One function per figure.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::Scale;
use crate::client::{Client, get};
use crate::report::{Report, Row, median, show};
use crate::stage::{SETTLE, Stage, now, time_of};
use crate::support::docker::{Container, Event};
use crate::support::eventually;

/// What Remora itself may add to a failure.
const ON_TOP: Duration = Duration::from_millis(500);

/// Many failures one after the other are what this is about: the node's budget must not stand in the way.
const NO_BUDGET: (&str, &str) = ("REMORA_HEAL_BUDGET", "1000/1day");

/// Measures everything.
pub async fn all(scale: &Scale) -> Report {
    let stage = Stage::open(&[NO_BUDGET]).await;
    let machine = stage.machine().await;
    let mut rows = Vec::new();
    unhealthy(scale, &stage, &mut rows).await;
    crash(scale, &stage, &mut rows).await;
    outage(scale, &stage, &mut rows).await;
    resolved(scale, &stage, &mut rows).await;
    drop(stage);
    correlated(scale, &mut rows).await;
    Report { machine, rows }
}

fn say(what: &str) {
    println!("… {what}");
}

/// A replacement that starts first, beside the container's own start.
async fn unhealthy(scale: &Scale, stage: &Stage, rows: &mut Vec<Row>) {
    say("unhealthy → replaced in the catalog");
    let (mut own, mut whole, mut on_top) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..scale.failures {
        let mut events = stage.engine.events().await;
        let begun = now();
        let spec = stage.container(&format!("ill{number}")).publish(80).label("remora.heal.drain", "0s");
        let web = spec.run().await;
        let healthy = events.next(&web, "health_status: healthy").await;
        let start = time_of(&healthy).saturating_sub(begun);
        stage.passing(&web).await;
        stage.make_ill(&web).await;
        let verdict = time_of(&events.next(&web, "health_status: unhealthy").await);
        stage.passing_besides(&web).await;
        let took = now().saturating_sub(verdict);
        own.push(start);
        whole.push(took);
        on_top.push(took.saturating_sub(start));
        let new = stage.replaced(&web).await;
        stage.engine.remove(&new).await;
    }
    let note =
        format!("from the verdict {}, of which docker run → healthy is {}", show(median(&whole)), show(median(&own)));
    let row = Row::time("unhealthy → replacement passing, on top of its own start", &on_top, "≤ 500 ms", ON_TOP);
    rows.push(row.note(&note));
}

/// Exit code 1, and no restart policy.
async fn crash(scale: &Scale, stage: &Stage, rows: &mut Vec<Row>) {
    say("crash → replacement runs");
    let mut samples = Vec::new();
    for number in 0..scale.failures {
        let web = stage.container(&format!("crash{number}")).publish(80).run().await;
        stage.passing(&web).await;
        let mut events = stage.engine.events().await;
        stage.engine.kill(&web, "USR1").await;
        let died = events.next(&web, "die").await;
        let started = next_start(&mut events, &web).await;
        samples.push(time_of(&started).saturating_sub(time_of(&died)));
        let new = stage.replaced(&web).await;
        stage.engine.remove(&new).await;
    }
    let bar = format!("≤ {}", show(SETTLE + ON_TOP));
    let row = Row::time("crash → replacement runs", &samples, &bar, SETTLE + ON_TOP);
    rows.push(row.note(&format!("REMORA_HEAL_SETTLE is {} of it", show(SETTLE))));
}

async fn next_start(events: &mut crate::support::docker::Events, old: &Container) -> Event {
    let waiting = async {
        loop {
            let event = events.any().await;
            if event.action == "start" && event.id != old.id {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("a replacement starts")
}

/// A fixed port of the host: the old one has to end first.
async fn outage(scale: &Scale, stage: &Stage, rows: &mut Vec<Row>) {
    say("outage of a fixed port");
    let (mut restarts, mut replacements) = (Vec::new(), Vec::new());
    for number in 0..scale.outages {
        let port = Stage::fixed_port();
        let web = stage.container(&format!("fixed{number}")).publish_as("80/tcp", "0.0.0.0", port).run().await;
        stage.passing(&web).await;
        let client = Client::of(port);
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.engine.call("POST", &format!("/containers/{}/restart", web.id), None).await;
        answers(port).await;
        restarts.push(client.longest_gap());
        drop(client);
        stage.passing(&web).await;

        let client = Client::of(port);
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.make_ill(&web).await;
        let new = stage.replaced(&web).await;
        answers(port).await;
        replacements.push(client.longest_gap());
        stage.engine.remove(&new).await;
    }
    let bar = median(&restarts);
    let row = Row::time(
        "outage of a fixed port while it is replaced, stop-first",
        &replacements,
        &format!("≤ 1.0 × docker restart ({})", show(bar)),
        bar,
    );
    let ratio = median(&replacements).as_secs_f64() / bar.as_secs_f64();
    rows.push(row.note(&format!("{ratio:.2} × docker restart")));
}

/// Waits until it has answered for a while.
async fn answers(port: u16) {
    eventually("an answer", Duration::from_secs(20), async || {
        if get(port).await { Ok(()) } else { Err(format!("nobody answers at port {port}")) }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// A client that asks Consul before each request, while a healthy container is replaced because an operator asked for it: the
/// only instance there is, so that there is nowhere else to go.
async fn resolved(scale: &Scale, stage: &Stage, rows: &mut Vec<Row>) {
    say("requests that are resolved through Consul");
    let (mut failed, mut asked) = (Vec::new(), 0);
    for number in 0..scale.resolved {
        let web =
            stage.container(&format!("resolved{number}")).publish(80).label("remora.heal.drain", "1s").run().await;
        stage.passing(&web).await;
        let mut bad = 0;
        let mut request = async || {
            asked += 1;
            let good = match stage.instances().await.first() {
                Some((_, port)) => get(*port).await,
                None => false,
            };
            bad += usize::from(!good);
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        for _ in 0..20 {
            request().await;
        }
        stage.ask_for(&web).await;
        let replaced = stage.replaced(&web);
        tokio::pin!(replaced);
        let new = loop {
            tokio::select! {
                new = &mut replaced => break new,
                () = request() => {}
            }
        };
        for _ in 0..20 {
            request().await;
        }
        failed.push(bad);
        stage.engine.remove(&new).await;
        // The next one is to be the only one, too.
        let gone = async || if stage.instances().await.is_empty() { Ok(()) } else { Err("still there".to_owned()) };
        eventually("an empty service", Duration::from_secs(10), gone).await;
    }
    let row = Row::count("failed requests while the only instance is replaced, start-first", &failed, 0);
    rows.push(row.note(&format!("{asked} requests in all, each resolved through Consul (passing only)")));
}

/// Twenty at once, with the default brakes.
async fn correlated(scale: &Scale, rows: &mut Vec<Row>) {
    const MANY: usize = 20;
    /// The default of `REMORA_HEAL_BUDGET` in its window, which the benchmark does not outlast.
    const BUDGET: usize = 6;
    say("twenty containers unhealthy at once");
    let (mut replaced, mut alerts) = (Vec::new(), Vec::new());
    for _ in 0..scale.correlated {
        let stage = Stage::open(&[]).await;
        let start = async |number: usize| stage.container(&format!("many{number}")).publish(80).run().await;
        let all: Vec<Container> = stream::iter(0..MANY).map(start).buffer_unordered(4).collect().await;
        for container in &all {
            stage.passing(container).await;
        }
        stream::iter(&all).for_each_concurrent(MANY, |container| stage.make_ill(container)).await;
        // Every one of them has been found ill, judged, and treated if it is to be.
        tokio::time::sleep(Duration::from_secs(20)).await;
        let ids = stage.engine.ids(false).await;
        replaced.push(all.iter().filter(|container| !ids.contains(&container.id)).count());
        alerts.push(stage.remora.log().iter().filter(|line| line.contains("node_suspect")).count());
    }
    let row = Row::count("20 unhealthy at once: replaced", &replaced, BUDGET);
    rows.push(row.note("the node's budget is 6 in 10 min"));
    rows.push(Row::exactly("20 unhealthy at once: alerts that the node is the suspect", &alerts, 1));
}
