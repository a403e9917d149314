//! One function per figure.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use futures_util::{StreamExt as _, stream};

use crate::Scale;
use crate::contender::{Contender, Running, Way, registrator, spawn_remora};
use crate::report::{Report, Row, milliseconds, percent};
use crate::support::catalog::{Catalog, compare};
use crate::support::consul::Consul;
use crate::support::docker::{Container, Engine, Spec};
use crate::support::page;
use crate::support::proxy::Proxy;
use crate::support::remora::program;
use crate::support::run_id;
use crate::support::scene::is_heartbeat;
use crate::watch::{SERVICE, Watch, until_count};

/// Starts of containers at a time: the engine starts no more containers per second with more.
const PARALLEL: usize = 16;
/// Everything must be right so long after the last container started or died.
const SETTLED: Duration = Duration::from_secs(10);

/// What stands beside a figure of registrator's.
const NOT_REMORA: &str = "`REGISTRATOR_BIN`, not Remora";

/// What is to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    All,
    /// Only what it costs while nothing happens.
    Idle,
    /// Only what is of the catalog mode.
    Catalog,
    /// Only many at once, and cold starts.
    Burst,
}

/// Measures it.
pub async fn all(scale: &Scale, part: Part) -> Report {
    let engine = Engine::connect(&run_id("bench")).await;
    let mut rows = Vec::new();
    if part == Part::All {
        size(&mut rows);
        idle_memory(&engine, &mut rows).await;
        sequential(Way::Agent, scale.starts, scale.block, &engine, &mut rows).await;
    }
    if matches!(part, Part::All | Part::Burst) {
        many(scale, &engine, &mut rows).await;
    }
    if matches!(part, Part::All | Part::Catalog) {
        sequential(Way::Catalog, scale.starts / 2, scale.block, &engine, &mut rows).await;
    }
    if matches!(part, Part::All | Part::Idle) {
        idle(scale, &engine, &mut rows).await;
    }
    Report { rows, machine: page::machine(&engine, &Consul::start().await).await, scale: describe(scale) }
}

fn container<'a>(engine: &'a Engine, name: &str) -> Spec<'a> {
    engine.container(name).publish(80).label("SERVICE_NAME", SERVICE)
}

async fn start_many(engine: &Engine, count: usize) -> Vec<Container> {
    let starting =
        stream::iter(0..count).map(|number| async move { container(engine, &format!("many{number}")).run().await });
    starting.buffer_unordered(PARALLEL).collect().await
}

fn say(what: &str) {
    println!("… {what}");
}

fn size(rows: &mut Vec<Row>) {
    let megabytes = megabytes(std::fs::metadata(program()).unwrap().len());
    rows.push(Row::bound("binary", megabytes, "MB", 8.0));
}

async fn idle_memory(engine: &Engine, rows: &mut Vec<Row>) {
    say("memory with no containers");
    let consul = Consul::start().await;
    let mut remora = spawn_remora(Way::Agent, engine, &consul.url());
    remora.ready().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    rows.push(Row::bound("resident memory, no containers", megabytes(remora.resident_kib() * 1024), "MB", 6.0));
}

/// Start event → visible, and kill → gone, one container at a time.
async fn sequential(way: Way, count: usize, block: usize, engine: &Engine, rows: &mut Vec<Row>) {
    let mut starts = [const { Vec::new() }; 3];
    let mut kills = [const { Vec::new() }; 3];
    for turn in 0..count.div_ceil(block) {
        say(&format!("sequential starts and kills, {} mode, turn {turn}", way.word()));
        for contender in Contender::all(way) {
            // Fresh for every block, so that neither finds what the other one left.
            let consul = Consul::start().await;
            let mut running = contender.spawn(way, engine, &consul.url());
            running.ready().await;
            // One more than is counted: the first one opens connections.
            for number in 0..=block {
                let web = container(engine, &format!("{contender:?}-{turn}-{number}").to_lowercase()).create().await;
                let (start, kill) = one(engine, &consul.url(), contender, &web).await;
                if number > 0 {
                    starts[contender as usize].push(start);
                    kills[contender as usize].push(kill);
                }
                engine.remove(&web).await;
            }
            running.stop().await;
        }
    }
    let missed = "nothing missed: each was waited for";
    let mode = if way == Way::Catalog { "catalog mode: " } else { "" };
    for (what, [floor, remora, registrator]) in [("start event → visible", starts), ("docker kill → gone", kills)] {
        let name = format!("{mode}{what}");
        rows.push(Row::ratio(&format!("{name}, median"), median(&floor), median(&remora), Some(1.5)).note(missed));
        rows.push(Row::ratio(&format!("{name}, p99"), p99(&floor), p99(&remora), None));
        if !registrator.is_empty() {
            let name = format!("registrator: {name}, median");
            rows.push(Row::ratio(&name, median(&floor), median(&registrator), None).note(NOT_REMORA));
        }
    }
}

async fn one(engine: &Engine, consul: &str, contender: Contender, web: &Container) -> (Duration, Duration) {
    let id = format!("{}:{}:80", contender.node(), web.name);
    let mut watch = Watch::start(consul).await;
    let mut events = engine.events().await;
    let (visible, event, ()) = tokio::join!(watch.until(&id, true), events.next(web, "start"), engine.start(web));
    let happened = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(event.time_nano).unwrap());
    let start = visible.duration_since(happened).unwrap_or_default();

    let begun = SystemTime::now();
    let (gone, ()) = tokio::join!(watch.until(&id, false), engine.kill(web, "KILL"));
    (start, gone.duration_since(begun).unwrap_or_default())
}

/// A burst, a cold start with as many running, what the two write, and the burst's end.
async fn many(scale: &Scale, engine: &Engine, rows: &mut Vec<Row>) {
    let count = scale.many;
    say(&format!("{count} containers at once"));
    let consul = Consul::start().await;
    let mut remora = spawn_remora(Way::Agent, engine, &consul.url());
    remora.ready().await;
    let containers = start_many(engine, count).await;
    let (missed, late) = differences(engine, &consul).await;
    rows.push(Row::bound(&format!("{count} started in parallel: missed or wrong"), missed, "", 0.0).note(&late));
    rows.push(Row::bound(
        &format!("resident memory, {count} containers"),
        megabytes(remora.resident_kib() * 1024),
        "MB",
        10.0,
    ));
    remora.terminate().await;

    let mut cold = [const { Vec::new() }; 3];
    for round in 0..scale.cold_starts {
        say(&format!("cold start with {count} running, round {round}"));
        for contender in Contender::all(Way::Agent) {
            let consul = Consul::start().await;
            let begun = Instant::now();
            let running = contender.spawn(Way::Agent, engine, &consul.url());
            until_count(&consul.url(), count).await;
            cold[contender as usize].push(begun.elapsed());
            running.stop().await;
        }
    }
    let name = format!("cold start with {count} running, median");
    rows.push(Row::ratio(&name, median(&cold[0]), median(&cold[1]), Some(1.3)));
    if !cold[2].is_empty() {
        rows.push(
            Row::ratio(&format!("registrator: {name}"), median(&cold[0]), median(&cold[2]), None).note(NOT_REMORA),
        );
    }
    writes(count, engine, rows).await;

    say(&format!("{count} containers killed at once"));
    let mut remora = spawn_remora(Way::Agent, engine, &consul.url());
    remora.ready().await;
    engine.kill_all(&containers, PARALLEL).await;
    let (left, late) = differences(engine, &consul).await;
    rows.push(Row::bound(&format!("{count} killed in parallel: stale"), left, "", 0.0).note(&late));
    drop(remora);
    stream::iter(&containers).for_each_concurrent(8, |it| engine.remove(it)).await;
    if registrator().is_some() {
        many_of_registrator(count, engine, rows).await;
    }
}

/// The same bursts, as registrator takes them.
async fn many_of_registrator(count: usize, engine: &Engine, rows: &mut Vec<Row>) {
    say(&format!("{count} containers at once, and registrator"));
    let consul = Consul::start().await;
    let mut running = Contender::Registrator.spawn(Way::Agent, engine, &consul.url());
    running.ready().await;
    let containers = start_many(engine, count).await;
    tokio::time::sleep(SETTLED).await;
    let there = ids(&consul).await;
    let node = Contender::Registrator.node();
    let missed = containers.iter().filter(|it| !there.contains(&format!("{node}:{}:80", it.name))).count();
    let name = format!("registrator: {count} started in parallel: missed");
    rows.push(Row::seen(&name, to_f64(missed), "").note(NOT_REMORA));
    engine.kill_all(&containers, PARALLEL).await;
    tokio::time::sleep(SETTLED).await;
    let stale = ids(&consul).await.len();
    let name = format!("registrator: {count} killed in parallel: stale");
    rows.push(Row::seen(&name, to_f64(stale), "").note(NOT_REMORA));
    running.stop().await;
    stream::iter(&containers).for_each_concurrent(8, |it| engine.remove(it)).await;
}

/// The ids of the benchmark's service.
async fn ids(consul: &Consul) -> HashSet<String> {
    let all = consul.get(&format!("/v1/catalog/service/{SERVICE}")).await;
    all.as_array().unwrap().iter().map(|it| it["ServiceID"].as_str().unwrap().to_owned()).collect()
}

/// What a start writes into an empty Consul, and what a second one writes when nothing has changed.
async fn writes(count: usize, engine: &Engine, rows: &mut Vec<Row>) {
    say("writes of a first and of a second start");
    let consul = Consul::start().await;
    let proxy = Proxy::tcp(consul.url().rsplit(':').next().unwrap().parse().unwrap()).await;
    for name in ["first start: Consul writes per service", "second start, nothing changed: service writes"] {
        let running = Contender::Remora.spawn(Way::Agent, engine, &format!("http://127.0.0.1:{}", proxy.port()));
        until_count(&consul.url(), count).await;
        let Running::Remora(mut remora) = running else { unreachable!("it was asked for") };
        remora.ready().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut written = proxy.writes();
        let all = written.len();
        // Its own service: one registration and the heartbeats of its check.
        written.retain(|it| !is_heartbeat(it));
        let services = to_f64(written.len().saturating_sub(1));
        let mut note = format!("{all} in all, heartbeat and own service included");
        if !written.is_empty() {
            note = format!("{note}: {}", kinds(&written));
        }
        let row = match rows.last() {
            Some(last) if last.name.starts_with("first start") => Row::bound(name, services, "", 0.0),
            _ => Row::bound(name, services / to_f64(count), "", 1.0),
        };
        rows.push(row.note(&note));
        remora.terminate().await;
    }
}

/// How many are lost, stale or wrong 10 s after now, and how long it took until nothing was.
async fn differences(engine: &Engine, consul: &Consul) -> (f64, String) {
    let catalog = Catalog::new(&consul.url());
    let node = Contender::Remora.node();
    let truth = engine.truth(&node).await;
    let begun = Instant::now();
    loop {
        let actual = catalog.of_node(&node).await.unwrap();
        let verdict = compare(&truth, &actual);
        if verdict.is_ok() {
            return (0.0, format!("right {} ms after the last one", begun.elapsed().as_millis()));
        }
        if begun.elapsed() > SETTLED {
            let right = truth.iter().filter(|(id, it)| actual.get(*id).is_some_and(|is| is.port == it.port)).count();
            let wrong = truth.len().max(actual.len()) - right;
            return (to_f64(wrong), verdict.unwrap_err().chars().take(200).collect());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Containers whose HEALTHCHECK runs every 2 s, and nothing else.
async fn idle(scale: &Scale, engine: &Engine, rows: &mut Vec<Row>) {
    say(&format!("{} containers with a HEALTHCHECK, until all are healthy", scale.checked));
    let consul = Consul::start().await;
    let proxy = Proxy::tcp(consul.url().rsplit(':').next().unwrap().parse().unwrap()).await;
    let mut remora = spawn_remora(Way::Agent, engine, &format!("http://127.0.0.1:{}", proxy.port()));
    remora.ready().await;
    let starting = stream::iter(0..scale.checked).map(|number| async move {
        container(engine, &format!("checked{number}")).health_check(Duration::from_secs(2)).run().await
    });
    let _running: Vec<_> = starting.buffer_unordered(PARALLEL).collect().await;
    let catalog = Catalog::new(&consul.url());
    loop {
        let all = catalog.of_node(&Contender::Remora.node()).await.unwrap();
        if all.len() == scale.checked && all.values().all(|it| it.status() == "passing") {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    say(&format!("{} s of idle time", scale.idle.as_secs()));
    proxy.requests();
    let (index, cpu, begun) = (catalog.index().await, remora.cpu(), Instant::now());
    let unrest = engine.health_changes(tokio::time::sleep(scale.idle)).await;
    let used = remora.cpu().saturating_sub(cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let moved = catalog.index().await - index;
    let mut written = proxy.writes();
    let all = written.len();
    written.retain(|it| !is_heartbeat(it));
    let situation = format!("idle {} s, {} HEALTHCHECKs every 2 s", scale.idle.as_secs(), scale.checked);
    let mut heartbeats = format!("and {} heartbeats of its own service", all - written.len());
    if !written.is_empty() {
        heartbeats = format!("{heartbeats}: {}; Docker told of {unrest} changes of health", kinds(&written));
        remora.log().iter().for_each(|line| println!("{line}"));
    }
    rows.push(Row::bound(&format!("{situation}: catalog index moved by"), u64_to_f64(moved), "", 0.0));
    rows.push(Row::bound(&format!("{situation}: writes to Consul"), to_f64(written.len()), "", 0.0).note(&heartbeats));
    rows.push(Row::bound(&format!("{situation}: CPU"), percent(used), "% of a core", 0.1));
    rows.push(Row::bound(
        &format!("{situation}: resident memory"),
        megabytes(remora.resident_kib() * 1024),
        "MB",
        10.0,
    ));
}

/// How many there are of each kind of call: the words of its path, without what is a name.
fn kinds(calls: &[String]) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for call in calls {
        let words: Vec<&str> =
            call.split('/').take(5).map(|part| part.split(['?', ' ']).next().unwrap_or(part)).collect();
        let method = call.split(' ').next().unwrap_or_default();
        *counts.entry(format!("{method} {}", words[1..].join("/"))).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} `{kind}`")).collect();
    counts.join(", ")
}

fn describe(scale: &Scale) -> String {
    format!(
        "{} sequential starts per contender in turns of {} ({} in catalog mode), {} cold starts per contender",
        scale.starts,
        scale.block,
        scale.starts / 2,
        scale.cold_starts
    )
}

fn median(samples: &[Duration]) -> f64 {
    quantile(samples, 50)
}

fn p99(samples: &[Duration]) -> f64 {
    quantile(samples, 99)
}

/// The smallest sample that at least so many percent are not above.
fn quantile(samples: &[Duration], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort();
    milliseconds(sorted[(sorted.len() * percent).div_ceil(100) - 1])
}

fn megabytes(bytes: u64) -> f64 {
    u64_to_f64(bytes) / 1e6
}

fn to_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

fn u64_to_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
