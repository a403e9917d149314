//! Faults of all kinds at random, over two dozen containers: killed, crashed, made ill, stopped and removed by an operator, paused;
//! Consul away or without its data; the agent killed; the event stream cut; the engine restarted, with and without live-restore. The
//! engine is one of its own (`support::dockerd`). Whatever happens:
//!
//! * what an operator stopped or removed does not come back, and what is somebody else's is not touched (looked at all the time),
//! * what went down with the engine is left to it and to the operator,
//! * the node's budget is kept (counted in the engine's events),
//! * in the end everything runs that should, nothing is left over, and Consul says what Docker says.
//!
//! ```sh
//! docker/test.sh --test heal soak -- --nocapture                               # 40 faults
//! REMORA_SOAK_FAULTS=1000 docker/test.sh --test heal soak -- --nocapture       # the long form; about half an hour
//! REMORA_SOAK_SEED=7 docker/test.sh --test heal soak -- --nocapture            # the faults of an earlier run
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::park::{Kind, Park, Wanted, is_well};
use crate::support::docker::{Container, Event, Events};
use crate::support::dockerd::Dockerd;
use crate::support::eventually;
use crate::support::scene::Scene;

/// So many operations in [`WINDOW`] (`REMORA_HEAL_BUDGET`): low enough to be reached.
const BUDGET: usize = 12;
const WINDOW: Duration = Duration::from_secs(20);

/// While more than so many places are ill no further one is made so: the brakes for common causes are tested elsewhere.
const ILL_AT_ONCE: usize = 5;

/// Everything is healed so long after the last fault.
const IN_THE_END: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Crash,
    Ill,
    Stop,
    Pause,
    Remove,
    ConsulFrozen,
    ConsulRestarted,
    AgentKilled,
    StreamCut,
    EngineRestarted,
}

/// Which fault comes how often.
const FAULTS: [(Fault, u32); 11] = [
    (Fault::Crash, 30),
    (Fault::Ill, 20),
    (Fault::Kill, 8),
    (Fault::Stop, 8),
    (Fault::Pause, 8),
    (Fault::Remove, 6),
    (Fault::AgentKilled, 8),
    (Fault::ConsulFrozen, 4),
    (Fault::ConsulRestarted, 2),
    (Fault::StreamCut, 3),
    (Fault::EngineRestarted, 2),
];

/// After a restart of the engine everybody is well again within so long: what Docker starts by itself, and what was being replaced.
const BACK: Duration = Duration::from_secs(120);

#[tokio::test]
async fn random_faults_end_in_what_should_be_and_never_in_what_should_not() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let count = number("REMORA_SOAK_FAULTS").unwrap_or(40);
    let seed = number("REMORA_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("{count} faults, REMORA_SOAK_SEED={seed}");
    let budget = format!("{BUDGET}/{}s", WINDOW.as_secs());
    let mut dockerd = Dockerd::start_with_bridge(false).await;
    let plan = Scene::plan("soak");
    let plan = if let Some(dockerd) = &dockerd {
        plan.engine(&dockerd.socket())
    } else {
        println!("NOT DONE: no restarts of the engine, because there is no second one");
        plan
    };
    let scene = plan
        .env("REMORA_HEAL", "on")
        .env("REMORA_HEAL_HOLDOFF", "1s")
        .env("REMORA_HEAL_SETTLE", "1s")
        .env("REMORA_HEAL_BUDGET", &budget)
        // The slot of an agent that was killed stays taken until its session ends, for up to a minute.
        .env("REMORA_HEAL_CLUSTER_MAX", "100")
        .start()
        .await;
    let mut soak = Soak::open(scene, seed).await;
    let begun = Instant::now();
    for number in 1..=count {
        soak.fault(number, dockerd.as_mut()).await;
        soak.check().await;
    }
    let faults = begun.elapsed();
    soak.end().await;
    println!(
        "{count} faults in {:.0} s, right {:.1} s later; {:?}; {} operations",
        faults.as_secs_f64(),
        begun.elapsed().saturating_sub(faults).as_secs_f64(),
        soak.done,
        soak.watch.created(),
    );
}

struct Soak {
    scene: Scene,
    park: Park,
    watch: Watch,
    rng: Rng,
    paused: Vec<(Container, Instant)>,
    done: BTreeMap<Fault, usize>,
}

impl Soak {
    async fn open(scene: Scene, seed: u64) -> Self {
        let watch = Watch::start(scene.engine.events().await);
        let mut park = Park::default();
        for number in 0..20 {
            let kind = match number % 5 {
                0 | 1 => Kind::Checked,
                2 => Kind::Kept,
                _ => Kind::Fixed,
            };
            park.add(&scene.engine, kind).await;
        }
        for kind in [Kind::Swarm, Kind::Swarm, Kind::Off, Kind::Off] {
            park.add(&scene.engine, kind).await;
        }
        eventually("all containers well", Duration::from_secs(30), async || park.well(&scene.engine).await).await;
        scene.right(Duration::from_secs(20)).await;
        Self { scene, park, watch, rng: Rng::with_seed(seed), paused: Vec::new(), done: BTreeMap::new() }
    }

    async fn fault(&mut self, number: u64, dockerd: Option<&mut Dockerd>) {
        let all: u32 = FAULTS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.u32(..all);
        let mut fault = Fault::Crash;
        for (candidate, weight) in FAULTS {
            if drawn < weight {
                fault = candidate;
                break;
            }
            drawn -= weight;
        }
        println!("{number}: {fault:?}");
        *self.done.entry(fault).or_default() += 1;
        match fault {
            Fault::AgentKilled => {
                self.everybody_runs().await;
                self.scene.remora.kill().await;
                self.watch.agent_restarted();
                tokio::time::sleep(Duration::from_millis(self.rng.u64(..500))).await;
                self.scene.remora.spawn();
            }
            Fault::ConsulFrozen => {
                self.scene.consul.freeze(true);
                tokio::time::sleep(Duration::from_millis(self.rng.u64(500..3000))).await;
                self.scene.consul.freeze(false);
            }
            Fault::ConsulRestarted => self.scene.consul.restart().await,
            Fault::StreamCut => {
                // A `docker kill` right before it looks like a daemon that goes down, and is only told.
                self.everybody_runs().await;
                self.scene.docker_proxy.cut_all().await;
            }
            Fault::EngineRestarted => {
                if let Some(dockerd) = dockerd {
                    self.restart_engine(dockerd).await;
                }
            }
            _ => self.container_fault(fault).await,
        }
        tokio::time::sleep(Duration::from_millis(self.rng.u64(..700))).await;
        // Paused for a while only.
        for (container, since) in std::mem::take(&mut self.paused) {
            if since.elapsed() > Duration::from_secs(2) {
                self.scene.engine.pause(&container, false).await;
            } else {
                self.paused.push((container, since));
            }
        }
    }

    async fn container_fault(&mut self, fault: Fault) {
        let engine = &self.scene.engine;
        eventually("few of them ill", Duration::from_secs(60), async || {
            let ill = self.park.ill(engine).await;
            if ill.len() <= ILL_AT_ONCE { Ok(()) } else { Err(format!("{ill:#?}")) }
        })
        .await;
        let Some((name, kind, container)) = self.victim(fault).await else { return };
        let engine = &self.scene.engine;
        match fault {
            Fault::Kill => engine.kill(&container, "KILL").await,
            Fault::Crash => engine.kill(&container, "USR1").await,
            Fault::Ill => engine.exec(&container, &["/bin/busybox", "touch", "/sick"]).await,
            Fault::Stop => {
                // From this moment on: while it is being stopped it is the operator's already.
                engine.stop(&container, 5).await;
                self.park.want(&name, Wanted::Down(container));
                self.replace(kind).await;
                return;
            }
            Fault::Remove => {
                engine.remove(&container).await;
                self.park.want(&name, Wanted::Gone);
                self.replace(kind).await;
                return;
            }
            Fault::Pause => {
                engine.pause(&container, true).await;
                self.paused.push((container, Instant::now()));
                return;
            }
            _ => unreachable!("no fault of a container: {fault:?}"),
        }
        if kind.is_foreign() {
            let down = Wanted::Down(container.clone());
            eventually("its end", Duration::from_secs(10), async || {
                let running = engine.inspect(&container).await["State"]["Running"] == true;
                if running { Err("it runs".to_owned()) } else { Ok(()) }
            })
            .await;
            self.park.want(&name, down);
            self.replace(kind).await;
        }
    }

    async fn unpause_all(&mut self) {
        for (container, _) in std::mem::take(&mut self.paused) {
            self.scene.engine.pause(&container, false).await;
        }
    }

    async fn restart_engine(&mut self, dockerd: &mut Dockerd) {
        self.everybody_runs().await;
        // Docker does not stop what is paused.
        self.unpause_all().await;
        let lives_on = self.rng.bool();
        dockerd.set_live_restore(lives_on).await;
        self.watch.task.abort();
        dockerd.stop().await;
        tokio::time::sleep(Duration::from_millis(self.rng.u64(..3000))).await;
        dockerd.start_again().await;
        self.watch.follow(self.scene.engine.events().await);
        if lives_on {
            println!("   its containers live on");
        } else {
            let down = self.park.left_down(&self.scene.engine).await;
            println!("   {} containers went down with it", down.len());
            // Longer than the hold-off and the time to settle.
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(
                self.park.left_down(&self.scene.engine).await,
                down,
                "what went down with the engine was touched"
            );
            for container in down {
                self.scene.engine.start(&container).await;
            }
        }
        let engine = &self.scene.engine;
        eventually("everybody is back with the engine", BACK, async || self.park.well(engine).await).await;
    }

    /// Waits for those that ended. Docker remembers 256 events, and three of each probe are among them: on a busy engine it has
    /// forgotten how somebody ended before the next agent asks, and then that is only told.
    async fn everybody_runs(&self) {
        eventually("everybody runs before the agent dies", IN_THE_END, async || {
            for (name, _) in self.park.places.iter().filter(|(_, (_, wanted))| *wanted == Wanted::Well) {
                let now = self.scene.engine.inspect_name(name).await.ok_or_else(|| format!("{name} is not there"))?;
                if now["State"]["Running"] != true {
                    return Err(format!("{name}: {}", now["State"]["Status"]));
                }
            }
            Ok(())
        })
        .await;
    }

    /// So many as there were.
    async fn replace(&mut self, kind: Kind) {
        self.park.add(&self.scene.engine, kind).await;
    }

    /// A container that is well and that nobody is at, for this fault.
    async fn victim(&mut self, fault: Fault) -> Option<(String, Kind, Container)> {
        let names = self.scene.engine.names(true).await;
        let mut all: Vec<_> = self.park.places.iter().filter(|(_, (_, wanted))| *wanted == Wanted::Well).collect();
        self.rng.shuffle(&mut all);
        for (name, (kind, _)) in all {
            let fits = match fault {
                Fault::Ill => matches!(kind, Kind::Checked | Kind::Kept),
                // Docker would start nothing again here; what foreign ones are for is being left as they are.
                Fault::Pause => !kind.is_foreign(),
                _ => true,
            };
            // A part of an operation: what an operator does to it then is another story.
            let busy = names.iter().any(|it| it.starts_with(&format!("{name}.")));
            if !fits || busy {
                continue;
            }
            if let Some(now) = self.scene.engine.inspect_name(name).await
                && is_well(&now)
            {
                let container = Container { id: now["Id"].as_str().unwrap().to_owned(), name: name.clone() };
                return Some((name.clone(), *kind, container));
            }
        }
        None
    }

    async fn check(&self) {
        if let Err(difference) = self.park.never(&self.scene.engine).await {
            panic!("after {:?}: {difference}", self.done);
        }
        self.watch.check();
    }

    async fn end(&mut self) {
        self.unpause_all().await;
        let engine = &self.scene.engine;
        eventually("everything healed", IN_THE_END, async || self.park.right(engine).await).await;
        self.scene.right(Duration::from_secs(30)).await;
        // And so it stays.
        tokio::time::sleep(Duration::from_secs(3)).await;
        if let Err(difference) = self.park.right(engine).await {
            panic!("right, and then not any more: {difference}");
        }
        self.watch.check();
    }
}

/// Counts the operations in the engine's events.
struct Watch {
    created: Arc<Mutex<Vec<Duration>>>,
    /// Its operations before the last death of the agent, and when that was: a new agent has a budget of its own.
    before: Mutex<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn start(events: Events) -> Self {
        let created = Arc::<Mutex<Vec<Duration>>>::default();
        let task = Self::listen(events, Arc::clone(&created));
        Self { created, before: Mutex::default(), task }
    }

    /// The engine was restarted.
    fn follow(&mut self, events: Events) {
        self.task = Self::listen(events, Arc::clone(&self.created));
    }

    fn listen(mut events: Events, noted: Arc<Mutex<Vec<Duration>>>) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let event: Event = events.any().await;
                let name = event.attributes["name"].as_str().unwrap_or_default();
                if event.action == "create" && name.contains(".new-") {
                    noted.lock().unwrap().push(Duration::from_nanos(u64::try_from(event.time_nano).unwrap()));
                }
            }
        })
    }

    fn created(&self) -> usize {
        self.created.lock().unwrap().len()
    }

    fn agent_restarted(&self) {
        *self.before.lock().unwrap() = self.created();
    }

    /// In no window were there more operations of one agent than its budget allows.
    fn check(&self) {
        assert!(!self.task.is_finished(), "the engine's events ended");
        let created = self.created.lock().unwrap();
        let own = &created[*self.before.lock().unwrap()..];
        for some in own.windows(BUDGET + 1) {
            let span = some[BUDGET].saturating_sub(some[0]);
            // An operation is charged a moment before the call that creates its container.
            assert!(span + Duration::from_secs(1) > WINDOW, "{} operations within {span:?}", BUDGET + 1);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
