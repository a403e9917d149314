//! Random histories: containers fall ill, crash and are stopped, removed and paused by hand; Docker restarts, Consul is away, answers
//! get lost, the agent is killed. Then everything is well again, and soon it has to be as it should.
//!
//! All along: nothing that an operator stopped or removed comes back, nothing foreign is touched, no two operations are under way, and
//! no more of them are carried out than the budget allows. In the end nothing is left over, and what runs is well.
//!
//! A history is made from its seed, and is printed with it when it fails:
//!
//! * `REMORA_SIM_SEED=17 cargo test --test healing simulation`: that history. The order in which tasks that are ready at the same
//!   moment run is left to chance, so one run need not show it: `REMORA_SIM_RUNS` times (20).
//! * `REMORA_SIM_RUNS=50000 cargo test --test healing simulation`: more histories.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use remora::docker::names::{self, Role};
use remora::docker::{Container, ContainerId, HealthStatus, RestartName, State};
use remora::heal::cluster::Wish;
use tokio::time::{Instant, sleep};

use crate::fake_docker::{Behaviour, Lost, Mood, bare, has_process, web};
use crate::ward::Ward;

/// Histories unless `REMORA_SIM_RUNS` says otherwise.
const RUNS: u64 = 2000;

/// A history takes milliseconds; one that takes so long of the wall's clock spins on a clock that stands still.
const STUCK: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What happened, in words.
type Story = Arc<Mutex<Vec<String>>>;

#[test]
fn every_history_ends_well_and_nobody_is_overruled() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let one = number("REMORA_SIM_SEED");
    let runs = number("REMORA_SIM_RUNS").unwrap_or(if one.is_some() { 20 } else { RUNS });
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
                    let story = Story::default();
                    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| play(seed, &story))) {
                        failed.store(true, Ordering::Relaxed);
                        let story = story.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
                        eprintln!("{story}\nthe history of seed {seed} failed; again: REMORA_SIM_SEED={seed} cargo test --test healing simulation");
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

fn play(seed: u64, story: &Story) {
    // The agent's own chance (jitter) is the thread's.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut history = History::new(seed, Arc::clone(story));
        history.live().await;
        history.recover().await;
    });
}

struct History {
    rng: Rng,
    ward: Ward,
    story: Story,
    begun: Instant,
    /// Places whose container an operator has stopped, or removed, and not started again.
    down: BTreeSet<String>,
    /// Containers that somebody else looks after, by name.
    foreign: BTreeMap<String, ContainerId>,
    /// Operations that this agent has carried out, and when that was so.
    carried_out: VecDeque<(Instant, usize)>,
    /// Changes that were told.
    told: usize,
    /// Changes that were looked at.
    checked: usize,
    /// Docker has no faults in this history: everything is heard.
    hears: bool,
}

impl History {
    fn new(seed: u64, story: Story) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut ward = Ward::new();
        ward.place.heal.budget.operations = rng.usize(2..7);
        // What turns ill together stays so, and nothing is to be expected then; most histories are about something else.
        if rng.u8(0..4) > 0 {
            ward.place.heal.correlation.minimum = 1000;
        }
        let (begun, down, foreign) = (Instant::now(), BTreeSet::new(), BTreeMap::new());
        Self { rng, ward, story, begun, down, foreign, carried_out: VecDeque::new(), told: 0, checked: 0, hears: false }
    }

    fn tell(&mut self, text: &str) {
        let mut story = self.story.lock().unwrap();
        for (at, line) in self.ward.docker.changes_with_times().into_iter().skip(self.told) {
            story.push(format!("{:>9.3} s:     {line}", (at - self.begun).as_secs_f64()));
            self.told += 1;
        }
        story.push(format!("{:>9.3} s: {text}", self.begun.elapsed().as_secs_f64()));
    }

    async fn live(&mut self) {
        for number in 0..self.rng.usize(2..6) {
            self.run(&format!("c{number}"));
        }
        for (name, label) in [("swarm", "com.docker.swarm.task.id"), ("oneoff", "com.docker.compose.oneoff")] {
            let id = self.ward.docker.run(web(name).health_check().label(label, "true"));
            self.foreign.insert(name.to_owned(), id);
        }
        if self.rng.bool() {
            let parent = self.ward.named("c0").id;
            self.ward.docker.run(bare("dependent").sharing(&parent).label("remora.heal", "on"));
        }
        self.ward.start();
        // Most histories have faults of few kinds: what they do together hides what each of them does.
        let (docker, consul, agent) = (self.rng.u8(0..3), self.rng.u8(0..3), self.rng.u8(0..3));
        self.hears = docker == 0;
        for _ in 0..self.rng.usize(5..40) {
            match self.rng.u8(0..20) {
                0..=8 => self.illness(),
                9..=12 => self.operator().await,
                13..=14 => self.replacements(),
                15..=16 if docker > 0 => self.docker_fault(),
                17 if consul > 0 => self.consul_fault(),
                18..=19 if agent > 0 => self.agent_fault().await,
                _ => {}
            }
            let pause = self.pause();
            sleep(pause).await;
            self.check();
        }
    }

    /// From nothing to four minutes.
    fn pause(&mut self) -> Duration {
        Duration::from_millis(match self.rng.u8(0..6) {
            0 => 0,
            1 => self.rng.u64(0..500),
            2..=3 => self.rng.u64(0..20_000),
            _ => self.rng.u64(0..240_000),
        })
    }

    fn run(&mut self, name: &str) {
        let mut spec = web(name).stop_timeout(SECOND * self.rng.u32(1..12));
        if self.rng.u8(0..4) > 0 {
            spec = spec.health_check();
        }
        spec = spec.restart_policy(["no", "no", "always", "unless-stopped"][self.rng.usize(0..4)]);
        if self.rng.bool() {
            spec = spec.label("remora.heal.order", ["start-first", "stop-first"][self.rng.usize(0..2)]);
        }
        match self.rng.u8(0..8) {
            0 => spec = spec.label("remora.heal.strategy", "restart"),
            1 => spec = spec.label("remora.heal.strategy", "escalate"),
            2 => spec = spec.label("remora.heal.keep-failed", "0"),
            3 => spec = spec.label("remora.heal.on-failure", "keep-new"),
            _ => {}
        }
        let id = self.ward.docker.run(spec);
        self.down.remove(name);
        self.tell(&format!("run {name} ({id})"));
    }

    /// One of those containers that have a place, and of which `fits` holds.
    fn any(&mut self, fits: impl Fn(&Container) -> bool) -> Option<Container> {
        let all = self.ward.docker.containers().into_iter();
        let fitting: Vec<Container> =
            all.filter(|it| names::logical(&it.name).1 == Role::Settled && fits(it)).collect();
        (!fitting.is_empty()).then(|| fitting[self.rng.usize(0..fitting.len())].clone())
    }

    fn illness(&mut self) {
        let Some(ill) = self.any(|it| it.state == State::Running) else { return };
        let docker = &self.ward.docker;
        let what = match self.rng.u8(0..8) {
            0..=3 if ill.health.is_some() => {
                self.ward.fails(&ill.id);
                "falls ill"
            }
            4 if ill.health.is_some() => {
                docker.health(&ill.id, HealthStatus::Healthy, "well");
                "is well"
            }
            5 => {
                docker.kill(&ill.id, 1);
                "gets a HUP"
            }
            6 => {
                docker.out_of_memory(&ill.id);
                "loses a process"
            }
            _ => {
                docker.end(&ill.id, 1);
                "crashes"
            }
        };
        self.tell(&format!("{} {what}", ill.name));
    }

    /// Somebody stops what is being replaced. Only an agent that lives and hears can know.
    async fn operator_steps_in(&mut self) {
        if !self.hears || !self.ward.is_running() {
            return;
        }
        let Some(operation) = self.ward.status().await.operation else { return };
        let open = self.in_transit();
        let is_it = |it: &Container| it.name == operation.name && open.contains(it.name.as_str());
        let Some(found) = self.any(|it| is_it(it) && it.state == State::Running) else { return };
        self.tell(&format!("an operator stops {}, which is being replaced", found.name));
        let docker = self.ward.docker.clone();
        docker.stop(&found.id, Duration::from_millis(self.rng.u64(0..900))).await;
        self.down.insert(found.name.to_string());
        let begun = Instant::now();
        while !self.in_transit().is_empty() {
            assert!(begun.elapsed() < 10 * MINUTE, "the operation does not end");
            sleep(SECOND).await;
        }
    }

    /// Somebody at a terminal. Where a replacement is under way he steps in only as above.
    async fn operator(&mut self) {
        self.operator_steps_in().await;
        let busy = self.busy().await;
        let free = |it: &Container| !busy.contains(names::logical(&it.name).0);
        let kind = self.rng.u8(0..8);
        let found = match kind {
            0..=2 => self.any(|it| free(it) && it.state == State::Running),
            3 => self.any(|it| free(it) && it.state == State::Exited),
            4 => self.any(free),
            5 => self.any(|it| free(it) && it.state == State::Running),
            _ => self.any(|it| it.state == State::Paused),
        };
        let Some(found) = found else { return };
        let (id, name) = (found.id, found.name);
        let docker = self.ward.docker.clone();
        let foreign = self.foreign.contains_key(name.as_str());
        match kind {
            0..=2 if !foreign => {
                self.tell(&format!("an operator stops {name}"));
                let grace = Duration::from_millis(self.rng.u64(0..900));
                docker.stop(&id, grace).await;
                self.down.insert(name.to_string());
            }
            // Whose namespace may be gone cannot be started.
            3 if name != "dependent" => {
                self.tell(&format!("an operator starts {name}"));
                docker.start(&id);
                self.down.remove(name.as_str());
            }
            4 if !foreign => {
                self.tell(&format!("an operator removes {name}"));
                docker.remove(&id);
                self.down.insert(name.to_string());
                if self.rng.bool() && name != "dependent" {
                    self.run(&name);
                }
            }
            5 => {
                self.tell(&format!("an operator pauses {name}"));
                docker.pause(&id, true);
            }
            6..=7 => {
                self.tell(&format!("an operator unpauses {name}"));
                docker.pause(&id, false);
            }
            _ => {}
        }
    }

    /// Places where a replacement is under way, or a restart.
    async fn busy(&mut self) -> BTreeSet<String> {
        let mut busy = self.in_transit();
        if self.ward.is_running()
            && let Some(operation) = self.ward.status().await.operation
        {
            busy.insert(operation.name);
        }
        busy
    }

    fn in_transit(&self) -> BTreeSet<String> {
        let names = self.ward.names();
        let roles = names.iter().map(|name| names::logical(name));
        let open = roles.filter(|(_, role)| !matches!(role, Role::Settled | Role::Failed));
        open.map(|(place, _)| place.to_owned()).collect()
    }

    fn replacements(&mut self) {
        let (words, behaviour) = match self.rng.u8(0..6) {
            0 => ("fall ill", Behaviour::default().unhealthy_after(3 * SECOND)),
            1 => ("crash", Behaviour::default().exits_after(2 * SECOND, 1)),
            2 => ("cannot be started", Behaviour::default().start_fails("exec: not found")),
            3 => ("are slow", Behaviour::default().healthy_after(30 * SECOND).stops_in(8 * SECOND)),
            _ => ("are good", Behaviour::default().healthy_after(SECOND)),
        };
        self.tell(&format!("replacements {words}"));
        self.ward.replacements(behaviour);
    }

    fn docker_fault(&mut self) {
        let docker = self.ward.docker.clone();
        let on = self.rng.bool();
        let kind = self.rng.u8(0..10);
        self.tell(&format!("Docker fault {kind} {on}"));
        match kind {
            0 => docker.cut(),
            1..=3 => docker.mood(Mood::Up),
            4 => docker.mood(if on { Mood::Refusing } else { Mood::Frozen }),
            5 => docker.set_latency(Duration::from_millis(if on { self.rng.u64(0..3_000) } else { 0 })),
            6 => {
                docker.reboot();
                // `always` means that, also for what somebody had stopped, and also if the daemon could not start it.
                let always =
                    docker.containers().into_iter().filter(|it| it.life.restart_policy.name == RestartName::Always);
                let meant: Vec<_> =
                    always.map(|it| names::logical(&it.name).0.to_owned()).chain(self.running()).collect();
                self.down.retain(|place| !meant.contains(place));
            }
            7 => docker.restart(true),
            _ => {
                let how = if on { Lost::TimedOut } else { Lost::Unreachable };
                docker.lose_answer(self.rng.usize(1..5), how);
            }
        }
    }

    fn consul_fault(&mut self) {
        let on = self.rng.bool();
        if self.rng.bool() {
            self.tell(if on { "Consul is there" } else { "Consul is away" });
            self.ward.consul(on);
        } else if on {
            self.tell("healing is paused");
            self.ward.store.write("remora/heal/pause/n1", "maintenance");
        } else {
            self.tell("healing goes on");
            self.ward.store.erase("remora/heal/pause/n1");
        }
    }

    async fn agent_fault(&mut self) {
        if !self.ward.is_running() {
            self.tell("the agent is started");
            self.ward.start();
        } else if self.rng.u8(0..3) == 0 {
            self.tell("the agent is stopped");
            self.ward.stop().await;
        } else {
            self.tell("the agent is killed");
            self.ward.kill().await;
            if self.rng.bool() {
                self.ward.start();
            }
        }
        self.carried_out.clear();
    }

    /// Places with a container that has a process.
    fn running(&self) -> Vec<String> {
        let all = self.ward.docker.containers().into_iter().filter(|it| has_process(&it.state));
        all.map(|it| names::logical(&it.name).0.to_owned()).collect()
    }

    /// What has to hold at any time.
    fn check(&mut self) {
        self.tell("…");
        self.ward.assert_alive();
        let running = self.running();
        for place in &self.down {
            assert!(!running.contains(place), "{place} was stopped or removed by an operator, and runs");
        }
        for (name, id) in &self.foreign {
            let there = self.ward.docker.facts(id).map(|it| it.name);
            assert_eq!(there.as_deref(), Some(name.as_str()), "{name} is somebody else's");
        }
        let changes = self.ward.docker.changes();
        let theirs = |word: &str| self.foreign.contains_key(names::logical(word).0);
        for line in &changes[self.checked..] {
            assert!(!line.split(' ').any(theirs), "somebody else's container was touched: {line}");
        }
        self.checked = changes.len();
        let open = self.in_transit();
        assert!(open.len() <= 1, "operations are under way at {open:?} at once");
        self.check_budget();
    }

    /// An operation that ended in a window began in it, but for one.
    fn check_budget(&mut self) {
        if !self.ward.is_running() {
            return;
        }
        let (now, budget) = (Instant::now(), self.ward.place.heal.budget);
        let count = self.ward.carried_out();
        while self.carried_out.front().is_some_and(|(at, _)| *at + budget.window < now) {
            self.carried_out.pop_front();
        }
        if let Some((_, before)) = self.carried_out.front() {
            let within = count - before;
            assert!(within <= budget.operations + 1, "{within} operations within {:?}: {budget:?}", budget.window);
        }
        self.carried_out.push_back((now, count));
    }

    /// Everything is well again: then it has to be as it should.
    async fn recover(&mut self) {
        self.tell("everything is well again");
        self.ward.docker.go_on();
        self.ward.docker.mood(Mood::Up);
        self.ward.docker.set_latency(Duration::ZERO);
        self.ward.consul(true);
        self.ward.store.erase("remora/heal/pause/n1");
        self.ward.replacements(Behaviour::default().healthy_after(SECOND));
        self.ward.start();
        for _ in 0..4 {
            sleep(5 * MINUTE).await;
            self.check();
        }
        for place in (0..6).map(|number| format!("c{number}")) {
            self.ward.ask(Wish::Release, &place);
        }
        for _ in 0..3 {
            sleep(10 * MINUTE).await;
            self.check();
        }
        let all = self.ward.docker.containers();
        for container in &all {
            let (place, role) = names::logical(&container.name);
            match role {
                Role::Settled => {}
                Role::Failed => {
                    assert!(!has_process(&container.state), "{} runs", container.name);
                    let kept = all.iter().filter(|it| names::logical(&it.name) == (place, Role::Failed)).count();
                    assert_eq!(kept, 1, "more than one failed replacement of {place} is kept");
                }
                _ => panic!("{} is left over", container.name),
            }
        }
        if self.ward.place.heal.correlation.minimum == 1000 {
            let ill = |it: &&Container| {
                let health = it.health.as_ref().map(|health| health.status);
                it.state == State::Running && health == Some(HealthStatus::Unhealthy)
            };
            let ill: Vec<&str> = all.iter().filter(ill).map(|it| it.name.as_str()).collect();
            let ill: Vec<&&str> = ill.iter().filter(|name| !self.foreign.contains_key(**name)).collect();
            assert_eq!(ill, [] as [&&str; 0], "ill, and nobody heals them: {:#?}", self.ward.news());
        }
        let before = self.ward.docker.changes().len();
        sleep(10 * MINUTE).await;
        let changes = self.ward.docker.changes();
        // Whose parent was removed cannot be helped: there is one attempt after each quarantine.
        let restless: Vec<&String> = changes[before..].iter().filter(|line| !line.contains("dependent")).collect();
        assert_eq!(restless, [] as [&String; 0], "it never comes to rest");
    }
}
