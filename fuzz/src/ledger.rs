//! The ledger against an engine that does what the input says: containers come, change and go; events arrive late, or never;
//! looks fail, or are overtaken. Each byte is a step. Whenever nothing is under way any more, everybody has been told exactly
//! what is there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use remora::docker::ledger::Ledger;
use remora::docker::{
    Container, ContainerId, DockerError, Event, EventKind, EventTime, Listing, Seen, Sight, State, Summary,
};
use tokio::time::Instant;

use super::metadata::bare;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A moment of 2026, in nanoseconds.
const BEGINNING: i64 = 1_767_225_600_000_000_000;

struct World {
    ledger: Ledger,
    begun: Instant,
    now: Instant,
    /// What is there.
    containers: BTreeMap<ContainerId, Arc<Container>>,
    /// Events on their way; `None`: the stream is cut.
    stream: Option<VecDeque<Event>>,
    /// Looks under way, and what they will say.
    looks: Vec<(ContainerId, Result<Arc<Container>, DockerError>)>,
    /// Lists under way, and when they were asked for.
    lists: Vec<(Listing, Instant)>,
    /// What everybody has been told.
    told: BTreeMap<ContainerId, Sight>,
    /// Something happened that no event will tell, and no list that was asked for since has arrived.
    missed: bool,
    changes: u64,
    /// How often a name was given: an id is never used twice.
    lives: [u32; NAMES.len()],
}

pub fn run(data: &[u8]) {
    let begun = Instant::now();
    let mut world = World {
        ledger: Ledger::default(),
        begun,
        now: begun,
        containers: BTreeMap::new(),
        stream: Some(VecDeque::new()),
        looks: Vec::new(),
        lists: Vec::new(),
        told: BTreeMap::new(),
        missed: true,
        changes: 0,
        lives: [0; NAMES.len()],
    };
    let mut steps = data.iter().take(2000).copied();
    if steps.next().is_some_and(|first| first % 2 == 1) {
        world.ledger.be_curious();
    }
    while let Some(step) = steps.next() {
        world.step(step, steps.next().unwrap_or(0));
        world.judge();
    }
    world.recover();
}

impl World {
    fn step(&mut self, step: u8, more: u8) {
        let place = usize::from(more % 4);
        let id = ContainerId::new(format!("{}{}", NAMES[place], self.lives[place]));
        match step % 16 {
            0 => self.change(&id, State::Running, EventKind::Start),
            1 => self.change(&id, State::Exited, EventKind::Die),
            2 => self.change(&id, State::Paused, EventKind::Other("pause".to_owned())),
            3 => self.remove(&id, place),
            4 => self.kill(&id, [None, Some(15), Some(9), Some(1)][usize::from(more / 4 % 4)]),
            5 => self.change(&id, State::Restarting, EventKind::Die),
            6 | 7 => self.hear(),
            8 | 9 => self.begin_look(),
            10 => self.end_look(more),
            11 => self.lists.push((self.listing(more), self.now)),
            12 => self.listed(),
            13 => self.tell(),
            14 => self.cut_or_connect(),
            _ => match more % 8 {
                0..4 => self.wait(Duration::from_millis(100 << (more / 8 % 8))),
                // Nobody knows an id before there is a container.
                kind => {
                    let past = self.lives[place].checked_sub(1).map(|life| format!("{}{life}", NAMES[place]));
                    let known = if self.containers.contains_key(&id) { Some(id) } else { past.map(ContainerId::new) };
                    match (kind, known) {
                        (4 | 5, Some(id)) => self.ledger.ask(&id),
                        (_, Some(id)) => {
                            // A replayed event, of before.
                            let time = EventTime(BEGINNING - 1);
                            let event = Event { container: id, kind: EventKind::Start, time, exit_code: None };
                            self.ledger.event(&event, self.now);
                        }
                        (_, None) => {}
                    }
                }
            },
        }
    }

    /// The engine's clock.
    fn time(&self) -> EventTime {
        EventTime(BEGINNING + i64::try_from((self.now - self.begun).as_nanos()).unwrap())
    }

    fn change(&mut self, id: &ContainerId, state: State, kind: EventKind) {
        self.changes += 1;
        let before = self.containers.get(id).map(|container| Container::clone(container));
        let mut container = before.unwrap_or_else(|| Container { id: id.clone(), ..bare(id.as_str()) });
        let stamp = Some(self.time());
        match &kind {
            EventKind::Start => container.started_at = stamp,
            EventKind::Die => container.finished_at = stamp,
            _ => {}
        }
        if state == State::Restarting {
            container.restart_count += 1;
        }
        container.state = state;
        // Something that a registration depends on is another one each time.
        container.labels.insert("SERVICE_TAGS".into(), self.changes.to_string().into());
        self.containers.insert(id.clone(), Arc::new(container));
        self.emit(id, kind);
    }

    fn remove(&mut self, id: &ContainerId, place: usize) {
        if self.containers.remove(id).is_some() {
            self.lives[place] += 1;
            self.emit(id, EventKind::Destroy);
        }
    }

    /// A signal changes nothing by itself.
    fn kill(&mut self, id: &ContainerId, signal: Option<u8>) {
        if self.containers.contains_key(id) {
            self.emit(id, EventKind::Kill(signal));
        }
    }

    fn emit(&mut self, id: &ContainerId, kind: EventKind) {
        let event = Event { container: id.clone(), kind, time: self.time(), exit_code: None };
        match &mut self.stream {
            Some(stream) => stream.push_back(event),
            None => self.missed = true,
        }
    }

    fn hear(&mut self) {
        if let Some(event) = self.stream.as_mut().and_then(VecDeque::pop_front) {
            self.ledger.event(&event, self.now);
        }
    }

    fn begin_look(&mut self) {
        let Some(id) = self.ledger.next_look() else { return };
        assert!(self.looks.iter().all(|(other, _)| *other != id), "two looks at {id} at once");
        let found = self.containers.get(&id).map(Arc::clone);
        let result = found.ok_or_else(|| DockerError::NotFound(id.to_string()));
        self.looks.push((id, result));
    }

    fn end_look(&mut self, more: u8) {
        if self.looks.is_empty() {
            return;
        }
        let (id, result) = self.looks.remove(usize::from(more) % self.looks.len());
        let failed = more >= 240;
        let result = if failed { Err(DockerError::TimedOut { call: "a look", after: Duration::ZERO }) } else { result };
        let result = result.map(|container| self.ledger.shared(Container::clone(&container)));
        self.ledger.looked(&id, result, self.now, f64::from(more) / 256.0);
    }

    fn listing(&self, more: u8) -> Listing {
        let line = |(id, container): (&ContainerId, &Arc<Container>)| Summary {
            id: id.clone(),
            fingerprint: container.labels.get("SERVICE_TAGS").unwrap().parse().unwrap(),
            live: !matches!(container.state, State::Exited | State::Created | State::Removing),
        };
        let unreadable = usize::from(more >= 250);
        Listing { containers: self.containers.iter().map(line).skip(unreadable).collect(), unreadable }
    }

    fn listed(&mut self) {
        if self.lists.is_empty() {
            return;
        }
        let (listing, asked) = self.lists.remove(0);
        self.ledger.listed(&listing, asked, self.now);
    }

    /// As the observer does it: the stream is lost, and when it is there again a list is asked for after it.
    fn cut_or_connect(&mut self) {
        if self.stream.take().is_some_and(|events| !events.is_empty()) {
            self.missed = true;
        } else if self.stream.is_none() && self.lists.is_empty() {
            self.ledger.interrupted();
            self.stream = Some(VecDeque::new());
            self.lists.clear();
            self.lists.push((self.listing(0), self.now));
            self.missed = false;
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now += span;
        self.ledger.due(self.now);
        if self.ledger.deaf(self.now) && self.stream.is_some() {
            self.cut_or_connect();
        }
        assert!(
            self.ledger.next_due().is_none_or(|due| due + Duration::from_secs(3) >= self.now),
            "something is overdue"
        );
    }

    fn tell(&mut self) {
        let outgoing = self.ledger.has_change();
        let Some(change) = self.ledger.next_change() else { return };
        assert!(outgoing, "there was nothing to tell");
        assert!(change.heard.is_none_or(|heard| heard <= self.now));
        match change.seen {
            Seen::Here(sight) => {
                assert_eq!(sight.container.id, change.id);
                drop(self.told.insert(change.id, sight));
            }
            Seen::Gone => {
                assert!(!self.containers.contains_key(&change.id), "{} is there, and told as gone", change.id);
                drop(self.told.remove(&change.id));
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| !stream.is_empty())
            || !self.looks.is_empty()
            || !self.lists.is_empty()
            || self.ledger.has_change()
            || self.ledger.next_due().is_some()
    }

    /// Nothing is under way, nothing was missed: what was told is what is there.
    fn judge(&mut self) {
        if self.missed || self.is_busy() {
            return;
        }
        // Whether a look is due is only to be seen by taking it, which a step may as well have done.
        if let Some(id) = self.ledger.next_look() {
            let found = self.containers.get(&id).map(Arc::clone);
            let result = found.ok_or_else(|| DockerError::NotFound(id.to_string()));
            self.looks.push((id, result));
            return;
        }
        self.compare();
    }

    fn compare(&self) {
        for (id, container) in &self.containers {
            let told = self.told.get(id).map(|sight| &sight.container);
            let has_process = matches!(container.state, State::Running | State::Paused | State::Restarting);
            match told {
                Some(told) => assert_eq!(told, container, "{id} was told otherwise"),
                None => assert!(!has_process, "{id} was never told: {:?}", container.state),
            }
        }
        for id in self.told.keys() {
            assert!(self.containers.contains_key(id), "{id} is gone, and nobody was told");
        }
    }

    /// The stream is opened anew, everything is listed, every look succeeds: then the truth is told within seconds.
    fn recover(&mut self) {
        while self.stream.as_ref().is_some_and(|stream| !stream.is_empty()) {
            self.hear();
        }
        self.lists.clear();
        self.ledger.interrupted();
        self.stream = Some(VecDeque::new());
        self.ledger.listed(&self.listing(0), self.now, self.now);
        self.missed = false;
        // Looks of before may have seen what was before.
        while !self.looks.is_empty() {
            self.end_look(0);
        }
        for _ in 0..200 {
            self.begin_look();
            while !self.looks.is_empty() {
                self.end_look(0);
                self.begin_look();
            }
            while self.ledger.has_change() {
                self.tell();
            }
            match self.ledger.next_due() {
                Some(due) => self.wait(due.saturating_duration_since(self.now).max(Duration::from_millis(1))),
                None => break,
            }
        }
        assert!(self.ledger.next_due().is_none(), "it never comes to rest");
        assert!(self.ledger.complete(), "it never says that it has seen everything");
        self.compare();
        assert!(
            self.ledger.len() <= self.containers.len(),
            "{} entries of {}",
            self.ledger.len(),
            self.containers.len()
        );
        let settled = |sight: &Sight| !sight.draining || sight.container.state != State::Running;
        assert!(self.told.values().all(settled), "a container that runs drains for ever: {:?}", self.told);
        assert!(self.told.values().all(|sight| !sight.settling), "it settles for ever");
    }
}
