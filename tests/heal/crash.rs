//! The agent is killed at every call by which it changes something in Docker, and another one takes over.
//!
//! For both orders, and for a replacement that works and one that does not: a first run that nobody disturbs shows which calls
//! there are. Then, for each of them, an agent is killed while Docker works on the call (the answer is lost), and one right
//! after the answer. Whatever the next agent finds, it has to come to exactly one right container.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::support::catalog::{Catalog, compare};
use crate::support::consul::Consul;
use crate::support::docker::{Container, Engine, RUN_LABEL};
use crate::support::remora::Remora;
use crate::support::{eventually, free_port, run_id};
use crate::tap::{Cut, Tap};

/// So many cases of one test at a time: most of a case is waiting for HEALTHCHECKs and for processes to end.
const AT_A_TIME: usize = 2;

/// What the last agent has to come to an end in. Its first second is the hold-off.
const CONVERGED: Duration = Duration::from_secs(40);

/// Labels of an operation: they are not the same before and after.
const OPERATION: [&str; 11] = [
    "op",
    "replaces",
    "name",
    "generation",
    "restart-policy",
    "op-order",
    "cause",
    "since",
    "image",
    "by",
    "anonymous",
];

/// The HEALTHCHECK: a file on a shared volume says who is well, by host name, which is a part of the container's id.
const PROBE: &str = "if ! /bin/busybox test -e /state/$CASE; then exit 0; fi; read verb who < /state/$CASE; \
     me=$(/bin/busybox hostname); case $verb in not) /bin/busybox test $me != $who;; only) /bin/busybox test $me = $who;; \
     *) exit 1;; esac";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    StartFirst,
    StopFirst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replacement {
    Good,
    /// It is never healthy; the old one, which was ill, gets well meanwhile.
    Bad,
}

/// What the cases of one test share.
struct Room {
    engine: Engine,
    /// Writes to the volume.
    keeper: Container,
    volume: String,
    order: Order,
    replacement: Replacement,
}

#[tokio::test]
async fn a_start_first_replacement_survives_the_agents_death_at_every_call() {
    every_call(Order::StartFirst, Replacement::Good).await;
}

#[tokio::test]
async fn a_stop_first_replacement_survives_the_agents_death_at_every_call() {
    every_call(Order::StopFirst, Replacement::Good).await;
}

#[tokio::test]
async fn a_start_first_replacement_that_is_taken_back_survives_the_agents_death_at_every_call() {
    every_call(Order::StartFirst, Replacement::Bad).await;
}

#[tokio::test]
async fn a_stop_first_replacement_that_is_taken_back_survives_the_agents_death_at_every_call() {
    every_call(Order::StopFirst, Replacement::Bad).await;
}

async fn every_call(order: Order, replacement: Replacement) {
    let begun = Instant::now();
    let room = Room::open(order, replacement).await;
    let calls = room.case(Cut::Never).await;
    println!("{order:?}, {replacement:?}: {} calls: {calls:#?}", calls.len());
    assert!(calls.len() >= 3, "a replacement takes more than that: {calls:?}");
    let cuts = (1..=calls.len()).flat_map(|number| [Cut::During(number), Cut::After(number)]);
    let room = &room;
    stream::iter(cuts).map(|cut| room.case(cut)).buffer_unordered(AT_A_TIME).collect::<Vec<_>>().await;
    println!("{order:?}, {replacement:?}: {} deaths in {:.1} s", calls.len() * 2, begun.elapsed().as_secs_f64());
}

impl Room {
    async fn open(order: Order, replacement: Replacement) -> Self {
        let run = run_id("crash");
        let engine = Engine::connect(&run).await;
        let volume = engine.volume("state").await;
        let keeper = engine.container("keeper").edit(|body| {
            body["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Source": volume, "Target": "/state"}]);
        });
        let keeper = keeper.run().await;
        Self { engine, keeper, volume, order, replacement }
    }

    /// Says who of a case is well, from one moment to the next.
    async fn say(&self, case: &str, words: &str) {
        let script = format!("echo {words} > /state/.{case} && /bin/busybox mv /state/.{case} /state/{case}");
        self.engine.exec(&self.keeper, &["/bin/sh", "-c", &script]).await;
    }

    /// One container, one illness, one agent that is killed at `cut`, and the next one. Returns the first agent's calls.
    async fn case(&self, cut: Cut) -> Vec<String> {
        let run = run_id("crash");
        let engine = Engine::connect(&run).await;
        // Its own: to Consul, two names on one engine are one agent that was given another name.
        let consul = Consul::start().await;
        let tap = Tap::start(engine.socket(), cut);
        let web = self.container(&engine, &run).await;
        let before = engine.inspect(&web).await;
        engine.clean_volumes_of(&before);
        let mut agent = agent_of(tap.path(), &consul, &run);
        agent.spawn();
        agent.ready().await;
        let catalog = Catalog::new(&consul.url());
        catalog.becomes(&format!("{run}:{}:80", web.name), "passing", Duration::from_secs(20)).await;

        let host_name = web.id.get(..12).unwrap();
        match self.replacement {
            Replacement::Good => self.say(&run, &format!("not {host_name}")).await,
            Replacement::Bad => self.say(&run, "nobody x").await,
        }
        tap.begun(Duration::from_secs(30)).await;
        if self.replacement == Replacement::Bad {
            self.say(&run, &format!("only {host_name}")).await;
        }
        let mut next = agent_of(engine.socket(), &consul, &run);
        if cut != Cut::Never {
            tap.reached(Duration::from_secs(60)).await;
            agent.kill().await;
            next.spawn();
        }
        let what = format!("right after {cut:?} of {:?}, {:?}: {:?}", self.order, self.replacement, tap.calls().last());
        eventually(&what, CONVERGED, async || {
            self.judge(&engine, &catalog, &run, &web, &before).await?;
            // And it stays so: the next agent may have begun anew before it saw that the old one has got well.
            tokio::time::sleep(Duration::from_millis(700)).await;
            self.judge(&engine, &catalog, &run, &web, &before).await
        })
        .await;
        tap.calls()
    }

    async fn container(&self, engine: &Engine, run: &str) -> Container {
        let mut spec = engine
            .container("web")
            .env("CASE", run)
            // Ends at once when it is asked to.
            .command(&["/bin/sh", "-c", "trap 'exit 0' TERM; /bin/busybox sleep 100000 & wait"])
            .restart_policy("unless-stopped")
            .label("team", "shop")
            .health_check(Duration::from_secs(1))
            .edit(|body| {
                body["Healthcheck"]["Test"] = json!(["CMD-SHELL", PROBE]);
                body["HostConfig"]["Mounts"] =
                    json!([{"Type": "volume", "Source": self.volume, "Target": "/state", "ReadOnly": true}]);
            });
        for label in ["grace", "unhealthy-for", "min-healthy", "drain"] {
            spec = spec.label(&format!("remora.heal.{label}"), "0s");
        }
        spec = spec.label("remora.heal.backoff", "1s..2s");
        match self.order {
            Order::StartFirst => spec.publish(80),
            // With an anonymous volume, which has to stay.
            Order::StopFirst => {
                spec.publish_as("80/tcp", "0.0.0.0", free_port()).edit(|body| body["Volumes"] = json!({"/data": {}}))
            }
        }
        .run()
        .await
    }

    /// What is different from how it should be in the end.
    async fn judge(
        &self,
        engine: &Engine,
        catalog: &Catalog,
        run: &str,
        web: &Container,
        before: &Value,
    ) -> Result<(), String> {
        let names = engine.names(true).await;
        let corpse = format!("{}.bad-", web.name);
        // What was taken back is kept, stopped, unless it was never started.
        let (corpses, others): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.starts_with(&corpse));
        if others != [&web.name] || corpses.len() > usize::from(self.replacement == Replacement::Bad) {
            return Err(format!("there are {names:?}"));
        }
        for corpse in corpses {
            let corpse = engine.inspect_name(corpse).await.ok_or("it is gone again")?;
            if corpse["State"]["Running"] != false || corpse["HostConfig"]["RestartPolicy"]["Name"] != "no" {
                return Err(format!(
                    "the one that failed is not at rest: {} {}",
                    corpse["State"], corpse["HostConfig"]
                ));
            }
        }
        let now = engine.inspect_name(&web.name).await.ok_or("nobody has its name")?;
        let same = now["Id"] == web.id.as_str();
        if same != (self.replacement == Replacement::Bad) {
            return Err(if same { "it was not replaced" } else { "it was replaced by what does not work" }.to_owned());
        }
        let state = &now["State"];
        if state["Running"] != true || state["Health"]["Status"] != "healthy" {
            return Err(format!("it does not run well: {}, {}", state["Status"], state["Health"]["Status"]));
        }
        for (was, is) in config(before).into_iter().zip(config(&now)) {
            if was != is {
                return Err(format!("it was {was}, and is {is}"));
            }
        }
        compare(&engine.truth(run).await, &catalog.of_node(run).await?)
    }
}

fn agent_of(docker: &std::path::Path, consul: &Consul, run: &str) -> Remora {
    let mut agent = Remora::new(docker, &consul.url(), run, run);
    agent.set("REMORA_HEAL", "on");
    agent.set("REMORA_HEAL_HOLDOFF", "1s");
    // The slot of the agent that is killed stays taken until its session ends.
    agent.set("REMORA_HEAL_CLUSTER_MAX", "100");
    agent
}

/// What has to be the same before and after.
fn config(document: &Value) -> Vec<Value> {
    let mut all: Vec<Value> = [
        "/Image",
        "/Config/Image",
        "/Config/Cmd",
        "/Config/Env",
        "/Config/ExposedPorts",
        "/Config/Healthcheck",
        "/HostConfig/PortBindings",
        "/HostConfig/RestartPolicy",
        "/HostConfig/NetworkMode",
    ]
    .iter()
    .map(|field| json!({*field: document.pointer(field)}))
    .collect();
    let mut labels = document["Config"]["Labels"].clone();
    assert!(labels[RUN_LABEL].is_string(), "{labels}");
    for label in OPERATION {
        labels.as_object_mut().unwrap().remove(&format!("remora.heal.{label}"));
    }
    all.push(labels);
    let mut mounts: Vec<Value> = document["Mounts"].as_array().unwrap().clone();
    mounts.sort_by_key(|mount| mount["Destination"].to_string());
    all.extend(mounts.iter().map(|it| json!([it["Type"], it["Name"], it["Destination"], it["RW"]])));
    all
}
