//! Random histories: containers come, change and go, Docker and Consul fail in every way, the agent is killed; then
//! everything is well again, and within a bounded time the catalog has to say exactly what runs. On the way nothing of
//! anybody else's is written, nothing is taken away that everybody could know to run, and nothing runs hot.
//!
//! A history is made from its seed. What fails is printed with it:
//!
//! * `REMORA_SIM_SEED=17 cargo test --test simulation`: that history, `REMORA_SIM_RUNS` times (20). The order in which tasks
//!   that are ready at the same moment run is left to chance, so one run need not show it. `REMORA_SIM_TRACE=1` tells it.
//! * `REMORA_SIM_RUNS=50000 cargo test --test simulation`: more histories.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

#[path = "support/fake_consul.rs"]
mod fake_consul;
#[path = "support/fake_docker.rs"]
mod fake_docker;
#[path = "support/world.rs"]
mod world;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fake_docker::{FakeDocker, Mood, bare, web};
use fastrand::Rng;
use remora::consul::{ActualCheck, ActualService, ConsulError, Status};
use remora::docker::{Container, ContainerId, HealthStatus, State};
use tokio::time::{Instant, sleep};
use world::{NODE, World, foreign};

/// Histories unless `REMORA_SIM_RUNS` says otherwise.
const RUNS: u64 = 3000;

/// A history takes milliseconds; one that takes so long of the wall's clock spins on a clock that stands still.
const STUCK: Duration = Duration::from_secs(60);

#[test]
fn every_history_ends_in_exactly_what_runs() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let one = number("REMORA_SIM_SEED");
    let runs = number("REMORA_SIM_RUNS").unwrap_or(if one.is_some() { 20 } else { RUNS });
    if std::env::var_os("REMORA_SIM_TRACE").is_some() {
        tracing_subscriber::fmt().without_time().with_max_level(tracing::Level::DEBUG).init();
    }
    let next = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let workers: Vec<_> = (0..if one.is_some() { 1 } else { threads })
        .map(|_| {
            let (next, failed) = (Arc::clone(&next), Arc::clone(&failed));
            let under_way = Arc::new(Mutex::new((0, std::time::Instant::now())));
            let noted = Arc::clone(&under_way);
            let thread = std::thread::spawn(move || {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = one.unwrap_or(run);
                    *noted.lock().unwrap() = (seed, std::time::Instant::now());
                    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| history(seed))) {
                        failed.store(true, Ordering::Relaxed);
                        eprintln!("the history of seed {seed} failed; again: REMORA_SIM_SEED={seed} cargo test --test simulation");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
            (thread, under_way)
        })
        .collect();
    while workers.iter().any(|(thread, _)| !thread.is_finished()) {
        for (thread, under_way) in &workers {
            let (seed, since) = *under_way.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(thread.is_finished() || since.elapsed() < STUCK, "the history of seed {seed} does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for (thread, _) in workers {
        thread.join().expect("every history ends well");
    }
}

fn history(seed: u64) {
    // The agent's own chance (jitter) is the thread's.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut history = History::new(seed);
        history.play().await;
        history.recover().await;
        history.judge().await;
    });
}

struct History {
    rng: Rng,
    world: World,
    /// An agent of the same name, with an engine of its own, on the same Consul.
    namesake: Option<World>,
    begun: Instant,
    steps: usize,
    /// Faults in Consul make an item wait for so long at most.
    patience: Duration,
    calm: Arc<AtomicBool>,
    trace: bool,
}

/// Names that containers are given: two of them are one to the catalog.
const NAMES: [&str; 8] = ["web", "Web", "shop", "db", "api", "a", "b", "c"];

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let world = World::new();
        let namesake = (rng.u8(0..5) == 0).then(|| world.namesake());
        Self {
            rng,
            world,
            namesake,
            begun: Instant::now(),
            steps: 0,
            patience: Duration::from_secs(60),
            calm: Arc::default(),
            trace: std::env::var_os("REMORA_SIM_TRACE").is_some(),
        }
    }

    fn tell(&self, text: &str) {
        if self.trace {
            eprintln!("{:>9.3} s: {text}", self.begun.elapsed().as_secs_f64());
        }
    }

    async fn play(&mut self) {
        // What others have, and what registrator left.
        for _ in 0..self.rng.usize(0..4) {
            self.foreigner();
        }
        if self.rng.bool() {
            let left = foreign(&format!("{NODE}:{}:80", self.name()), "web", &[]);
            if !self.world.wire.is_foreign(&left.id) {
                self.world.consul.edit(|snapshot| drop(snapshot.services.insert(left.id.clone(), left.into())));
            }
        }
        for _ in 0..self.rng.usize(0..6) {
            self.run();
        }
        self.world.start();
        // Most histories have faults of few kinds: what they do together hides what each of them does.
        let (docker, consul, agent) = (self.rng.u8(0..4), self.rng.u8(0..4), self.rng.u8(0..3));
        for _ in 0..self.rng.usize(5..60) {
            self.steps += 1;
            match self.rng.u8(0..20) {
                0..=11 => self.container_step(),
                12..=14 if docker > 0 => self.docker_fault(),
                15..=17 if consul > 0 => self.consul_fault(),
                18 if agent == 1 => {
                    self.tell("the agent is killed");
                    self.world.kill().await;
                }
                18 if agent == 2 && self.rng.bool() => {
                    self.tell("the agent is stopped");
                    self.world.stop().await;
                }
                19 => {
                    self.tell("the agent is started");
                    self.world.start();
                }
                18 => self.namesake_step().await,
                _ => {}
            }
            self.pass().await;
            self.world.assert_alive();
        }
    }

    /// From nothing to half a minute, mostly short.
    async fn pass(&mut self) {
        let millis = match self.rng.u8(0..10) {
            0..=2 => 0,
            3..=5 => self.rng.u64(0..20),
            6..=7 => self.rng.u64(0..1_000),
            8 => self.rng.u64(0..8_000),
            _ => self.rng.u64(0..40_000),
        };
        sleep(Duration::from_millis(millis)).await;
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.rng.usize(0..NAMES.len())]
    }

    fn any(&mut self, fits: impl Fn(&Container) -> bool) -> Option<ContainerId> {
        let fitting: Vec<Container> = self.world.docker.containers().into_iter().filter(fits).collect();
        (!fitting.is_empty()).then(|| fitting[self.rng.usize(0..fitting.len())].id.clone())
    }

    fn free_name(&mut self) -> String {
        let taken = self.world.docker.containers();
        let name = self.name();
        let mut free = name.to_owned();
        let mut number = 0;
        while taken.iter().any(|container| container.name == free) {
            number += 1;
            free = format!("{name}{number}");
        }
        free
    }

    fn run(&mut self) {
        let name = self.free_name();
        let mut spec = web(&name).stop_timeout(Duration::from_secs(self.rng.u64(1..12)));
        match self.rng.u8(0..14) {
            0 => spec = spec.publish(443, 0).udp(53),
            1 | 2 => spec = spec.health_check(),
            3 => spec = spec.label("SERVICE_IGNORE", "true"),
            4 | 5 => spec = spec.label("SERVICE_ID", "shared"),
            6 => spec = spec.label("SERVICE_NAME", "other"),
            7 => spec = spec.auto_remove(),
            8 | 9 => {
                if let Some(owner) = self.any(|container| container.name.len() < 9) {
                    spec = bare(&name).sharing(&owner);
                }
            }
            _ => {}
        }
        let id = self.world.docker.run(spec);
        self.tell(&format!("run {name} ({id})"));
    }

    async fn namesake_step(&mut self) {
        let name = self.name();
        let (what, which) = (self.rng.u8(0..6), self.rng.usize(0..4));
        let Some(other) = &mut self.namesake else { return };
        let containers = other.docker.containers();
        match what {
            0..=2 if containers.iter().all(|container| container.name != name) => {
                drop(other.docker.run(web(name)));
            }
            0..=2 => {
                if let Some(container) = containers.get(which) {
                    other.docker.remove(&container.id);
                }
            }
            3 => other.kill().await,
            _ => other.start(),
        }
        self.tell(&format!("the namesake does {what} to {name}"));
    }

    fn container_step(&mut self) {
        let runs = |container: &Container| container.state == State::Running;
        let exists = |_: &Container| true;
        let kind = self.rng.u8(0..22);
        if kind < 6 {
            if self.world.docker.containers().len() < 14 {
                self.run();
            }
            return;
        }
        let fits: fn(&Container) -> bool = match kind {
            6..=9 | 12 | 15..=17 => runs,
            _ => exists,
        };
        let Some(id) = self.any(fits) else { return };
        let docker = self.world.docker.clone();
        self.tell(&format!("step {kind} on {id}"));
        match kind {
            6 => docker.exit(&id, self.rng.i64(0..3)),
            7 => docker.kill(&id, 9),
            8 => docker.kill(&id, 1),
            9 => {
                let grace = Duration::from_millis(self.rng.u64(0..25_000));
                drop(tokio::spawn(async move { docker.stop(&id, grace).await }));
            }
            10 | 11 => docker.remove(&id),
            12 => {
                let (rng, calm) = (self.rng.fork(), Arc::clone(&self.calm));
                drop(tokio::spawn(crash_loop(docker, id, rng, calm)));
            }
            13 | 14 => {
                if docker.facts(&id).is_some_and(|facts| facts.state == State::Exited) {
                    docker.start(&id);
                }
            }
            15 => docker.pause(&id, true),
            16 | 17 => {
                let (found, output) = match self.rng.u8(0..3) {
                    0 => (HealthStatus::Healthy, "well"),
                    1 => (HealthStatus::Unhealthy, "connection refused"),
                    _ => (HealthStatus::Unhealthy, "time-out"),
                };
                docker.health(&id, found, output);
            }
            18 => docker.pause(&id, false),
            19 => {
                let name = self.free_name();
                docker.rename(&id, &name);
            }
            20 => docker.attach(&id, "other", self.rng.bool()),
            _ => self.replace(&id),
        }
    }

    /// A new container takes the place of another one.
    fn replace(&mut self, old: &ContainerId) {
        let docker = self.world.docker.clone();
        let Some(facts) = docker.facts(old) else { return };
        if facts.name.contains('.') {
            return;
        }
        let staged = format!("{}.new-0123abcd", facts.name);
        let retired = format!("{}.old-{:08x}", facts.name, self.rng.u32(..));
        if docker.containers().iter().any(|container| container.name == staged) {
            return;
        }
        let new = docker.run(web(&staged));
        let (name, old, pause) = (facts.name, old.clone(), Duration::from_millis(self.rng.u64(0..3_000)));
        drop(tokio::spawn(async move {
            sleep(pause).await;
            let free = |wanted: &str| docker.containers().iter().all(|container| container.name != wanted);
            if docker.facts(&old).is_some_and(|facts| facts.name == name) {
                docker.rename(&old, &retired);
            }
            if free(&name) && docker.facts(&new).is_some() {
                docker.rename(&new, &name);
                if docker.facts(&old).is_some() {
                    docker.remove(&old);
                }
            } else if docker.facts(&new).is_some() {
                docker.remove(&new);
            }
        }));
    }

    fn docker_fault(&mut self) {
        let docker = self.world.docker.clone();
        let on = self.rng.bool();
        let kind = self.rng.u8(0..14);
        self.tell(&format!("Docker fault {kind} {on}"));
        match kind {
            0 | 1 => docker.cut(),
            2 => docker.strand(),
            3..=5 => docker.mood(Mood::Up),
            6 => docker.mood(Mood::Refusing),
            7 => docker.mood(Mood::Frozen),
            8 => docker.mood(Mood::Unwell),
            9 => docker.restart(on),
            10 => docker.set_latency(Duration::from_millis(if on { self.rng.u64(0..12_000) } else { 0 })),
            11 => docker.set_list_latency(Duration::from_millis(if on { self.rng.u64(0..12_000) } else { 0 })),
            12 => match self.rng.u8(0..2) {
                0 => docker.freeze_list(on),
                _ => docker.lose_events(on),
            },
            _ => {
                if let Some(id) = self.any(|_| true) {
                    match self.rng.u8(0..3) {
                        0 => docker.garble(&id, on),
                        1 => docker.jam(&id, on),
                        _ => docker.speak_oddly(&id, on.then_some("levitating")),
                    }
                }
            }
        }
    }

    fn consul_fault(&mut self) {
        let (consul, wire) = (self.world.consul.clone(), self.world.wire.clone());
        let on = self.rng.bool();
        let kind = self.rng.u8(0..18);
        self.tell(&format!("Consul fault {kind} {on}"));
        match kind {
            0..=2 => consul.fail_all(None),
            3 => consul.fail_all(Some(unreachable())),
            4 => {
                consul.fail_all(Some(unwell()));
                self.patience = self.patience.max(Duration::from_secs(100));
            }
            5 => {
                consul.fail_all(Some(forbidden()));
                self.patience = self.patience.max(Duration::from_secs(130));
            }
            6 => {
                let error = if on { unreachable() } else { unwell() };
                consul.fail_next(self.rng.usize(1..5), &error);
                self.patience = self.patience.max(Duration::from_secs(100));
            }
            7 => consul.set_latency(Duration::from_millis(if on { self.rng.u64(0..3_000) } else { 0 })),
            8 => wire.set_answer_latency(Duration::from_millis(if on { self.rng.u64(0..3_000) } else { 0 })),
            9 => wire.lose_answers(if on { 50 } else { 0 }),
            10 => wire.hang(on),
            11 => {
                let error = if self.rng.bool() { invalid() } else { forbidden() };
                wire.refuse(on.then_some((self.name(), error)));
                self.patience = self.patience.max(Duration::from_secs(420));
            }
            12 => {
                // Others lose what they have, too, and so do we: whoever comes first has it then.
                wire.wipe();
            }
            15 => self.foreigner(),
            16 => wire.foreigner_goes(self.rng.usize(0..4)),
            _ => self.edit(),
        }
    }

    /// Somebody's hands in what is ours.
    fn edit(&mut self) {
        let ours: Vec<_> = (self.world.consul.snapshot().services.values())
            .filter(|service| service.meta.get("remora-engine").is_some_and(|engine| engine == "ENGINE000001"))
            .map(|service| service.id.clone())
            .collect();
        if ours.is_empty() {
            return;
        }
        let id = ours[self.rng.usize(0..ours.len())].clone();
        let kind = self.rng.u8(0..6);
        self.world.consul.edit(|snapshot| {
            if kind == 0 {
                snapshot.services.remove(&id);
                return;
            }
            let Some(service) = snapshot.services.get_mut(&id).map(Arc::make_mut) else { return };
            match kind {
                1 => service.port ^= 1,
                2 => service.tags = service.tags.iter().cloned().chain(["edited".into()]).collect(),
                3 => service.checks.clear(),
                4 => {
                    let check = ActualCheck { status: Status::Warning, output: "edited".into() };
                    service.checks.iter_mut().for_each(|(_, old)| *old = check.clone());
                }
                _ => {
                    let check = ActualCheck { status: Status::Critical, output: "".into() };
                    service.checks.insert(format!("{id}:more").into(), check);
                }
            }
        });
    }

    fn foreigner(&mut self) {
        let there = "d".repeat(64);
        let mark = |node, engine| {
            [
                ("managed-by", "remora"),
                ("remora-node", node),
                ("remora-engine", engine),
                ("container-id", there.as_str()),
            ]
        };
        let name = self.name();
        let service: ActualService = match self.rng.u8(0..6) {
            0 => foreign(&format!("{NODE}:{name}:80"), "not-web", &[]),
            1 => foreign(&format!("N1:{}:80", name.to_uppercase()), "not-web", &[]),
            2 => foreign(&format!("n2:{name}:80"), "web", &mark("n2", "ENGINE000003")),
            3 => foreign(&format!("{NODE}:{name}:81"), "web", &[("container-id", &there)]),
            4 => foreign("shared", "not-web", &[("managed-by", "nomad")]),
            _ => foreign(&format!("{name}:80"), name, &[]),
        };
        self.world.wire.foreigner(&service);
    }

    /// All is well again.
    async fn recover(&mut self) {
        self.tell("all is well again");
        self.calm.store(true, Ordering::Relaxed);
        let (docker, consul, wire) = (&self.world.docker, &self.world.consul, &self.world.wire);
        docker.mood(Mood::Up);
        docker.set_latency(Duration::ZERO);
        docker.set_list_latency(Duration::ZERO);
        docker.freeze_list(false);
        docker.lose_events(false);
        for container in docker.containers() {
            docker.garble(&container.id, false);
            docker.jam(&container.id, false);
            docker.speak_oddly(&container.id, None);
        }
        consul.fail_all(None);
        consul.set_latency(Duration::ZERO);
        wire.set_answer_latency(Duration::ZERO);
        wire.lose_answers(0);
        wire.hang(false);
        wire.refuse(None);
        // Stops, crash loops and replacements come to their ends.
        sleep(Duration::from_secs(30)).await;
        for container in self.world.docker.containers() {
            if container.state == State::Restarting {
                self.world.docker.start(&container.id);
            }
        }
        self.world.start();
        if let Some(other) = &mut self.namesake {
            other.start();
        }
    }

    async fn judge(&mut self) {
        let tried = self.world.wire.count();
        let begun = Instant::now();
        self.world.settles(self.patience).await;
        // What was refused waits for its time, the agent's own service as well.
        while self.world.view().failing_count > 0 && begun.elapsed() < self.patience {
            sleep(Duration::from_secs(1)).await;
        }
        if let Some(other) = &self.namesake {
            other.settles(self.patience).await;
        }
        self.tell("right");
        // A read, a beat and what follows from them.
        sleep(Duration::from_secs(30)).await;
        self.world.writes();
        self.world.stays_right(Duration::from_secs(60)).await;
        if let Some(other) = &self.namesake {
            other.stays_right(Duration::from_secs(10)).await;
        }
        assert_eq!(self.world.writes(), [], "at rest nothing is written");
        let (status, output) = self.world.own_check();
        assert_eq!(status, Status::Passing, "{output}");
        let view = self.world.view();
        assert!(view.reachable && view.synced, "{view:?}");
        assert_eq!((view.pending, view.failing_count), (0, 0), "{view:?}");
        assert_eq!(view.services, self.world.registered(), "{view:?}");
        self.world.wire.assert_foreigners_untouched();
        assert_eq!(self.world.wire.violations(), Vec::<String>::new());

        let seconds = usize::try_from(self.begun.elapsed().as_secs()).unwrap();
        let writes = self.world.wire.count();
        assert!(writes < 30 * (self.steps + 10) + seconds / 5, "{writes} writes, {tried} of them before the end");
        let calls = self.world.docker.calls();
        let all = calls.info + calls.list + calls.inspect + calls.ping + calls.streams;
        assert!(all < 60 * (self.steps + 10) + seconds * 5, "{calls:?} in {seconds} s");
        let reads = self.world.wire.reads();
        assert!(reads < 20 * (self.steps + 10) + seconds * 2, "{reads} reads in {seconds} s");
        self.world.kill().await;
        if let Some(other) = &mut self.namesake {
            other.kill().await;
        }
    }
}

async fn crash_loop(docker: FakeDocker, id: ContainerId, mut rng: Rng, calm: Arc<AtomicBool>) {
    let is = |state: State| docker.facts(&id).is_some_and(|facts| facts.state == state);
    for round in 0..rng.u32(1..6) {
        if !is(State::Running) || calm.load(Ordering::Relaxed) {
            return;
        }
        docker.crash(&id, 1);
        sleep(Duration::from_millis(100 << round)).await;
        if !is(State::Restarting) {
            return;
        }
        docker.start(&id);
        sleep(Duration::from_millis(rng.u64(0..12_000))).await;
    }
}

fn unreachable() -> ConsulError {
    ConsulError::Unreachable { address: "fake".to_owned(), reason: "connection refused".to_owned() }
}

fn unwell() -> ConsulError {
    ConsulError::Unwell { status: 500, call: "PUT", message: "No cluster leader".to_owned() }
}

fn forbidden() -> ConsulError {
    ConsulError::Forbidden { call: "PUT", message: "Permission denied".to_owned() }
}

fn invalid() -> ConsulError {
    ConsulError::Invalid { call: "PUT", message: "Invalid check".to_owned() }
}
