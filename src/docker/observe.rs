//! Follows one engine for as long as the agent lives: list and event stream as one state machine.
//!
//! ```text
//!            info answers                         list answers
//!  Down ───────────────────►  Following (stream open, list under way)  ──►  Following (complete)
//!   ▲                                   │  stream ends or errs, a call finds nobody, a ping is not answered
//!   └──── back-off with jitter ◄────────┘
//! ```
//!
//! * The stream is asked for from a point *before* the list is (the engine's own clock), so nothing falls between.
//! * Every reconnect counts as "may have missed anything": a full list follows. The list is compared line by line with
//!   what is known; only lines that changed are looked at.
//! * A list never makes a container disappear: only a `destroy` event, or an inspect that answers "no such container".
//! * A stream that is silent is checked by a ping; a stream that did not tell what a list shows is opened anew.
//! * A second listener, if there is one, hears everything raw ([`Heard`]), and at the first connect what the engine
//!   remembers: events of before that do not concern the ledger.
//! * The task does nothing but read, note and start looks: it never waits for the reader of its changes, because the
//!   engine skips a listener that does not take an event within 100 ms.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::container::{Container, ContainerId};
use super::ledger::{Change, Ledger};
use super::listen::{HISTORY, Heard, Listener};
use super::port::{DockerError, Engine, EngineInfo, Event, EventKind, EventStream, EventTime, Listing};
use crate::backoff::Backoff;
use crate::telemetry::{DockerCall, DockerView, Metrics, Outcome, ResyncOutcome};

/// Looks at the same time. An inspect takes the engine about a millisecond and locks the container; more than this only
/// queues inside the engine.
const LOOKS: usize = 8;

/// When nothing was heard of the engine for so long, it is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(10);

/// A stream that is refused is refused at once.
const STEADY: Duration = Duration::from_millis(250);

/// How often the loop shows that it turns.
const TICK: Duration = Duration::from_secs(5);

/// A stream that lived so long was a good one: the next failure begins its back-off anew.
const GOOD_STREAM: Duration = Duration::from_secs(30);

/// The stream is asked for from so much before the engine's present: a second covers the coarsest clock there is.
const OVERLAP: Duration = Duration::from_secs(1);

/// The engine replays what it remembers at once; an event that comes later than this after the connect has just happened,
/// whatever its stamp says.
const REPLAY: Duration = Duration::from_secs(10);

/// What the observation tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// Something about one container.
    Change(Change),
    /// Every container that ran when the observation began has been told (or could not be read). Told once.
    Complete,
}

/// The task that follows an engine.
pub struct Observer<E> {
    engine: Arc<E>,
    engine_id: String,
    resync: Duration,
    ledger: Ledger,
    changes: mpsc::Sender<Observed>,
    asks: mpsc::Receiver<ContainerId>,
    view: watch::Sender<DockerView>,
    metrics: Arc<Metrics>,
    jobs: JoinSet<Job>,
    looks: usize,
    list_at: Instant,
    listing: bool,
    pinging: bool,
    last_word: Instant,
    told_complete: bool,
    /// The last that was told of the connection is that it is there.
    told_connected: bool,
    backoff: Backoff,
    list_backoff: Backoff,
    followed_since: Option<Instant>,
    /// Counts the connections, so that an answer to a call of an earlier one is known as such: it says nothing about this
    /// one, and a list that was asked for before it does not stand for the full look that a reconnect owes.
    connection: u64,
    /// Who answered, until the connection has proved itself and this was told.
    unproved: Option<EngineInfo>,
    listed: bool,
    listener: Option<Listener>,
    /// The engine's present at the first connect. What is older is history, and more than a moment older: for the listener only.
    begun_at: Option<EventTime>,
    /// The stream still replays that history.
    replaying: bool,
}

/// The end of a call to the engine.
enum Job {
    Info(Result<EngineInfo, DockerError>),
    List { connection: u64, asked: Instant, result: Result<Listing, DockerError> },
    Look(ContainerId, Box<Result<Container, DockerError>>),
    Ping { connection: u64, result: Result<(), DockerError> },
}

enum Link {
    Down { retry_at: Instant },
    Asking,
    Following(EventStream),
}

impl<E: Engine> Observer<E> {
    /// An observer of the engine with this id that looks at everything every `resync`, tells `changes`, and answers `asks`.
    pub fn new(
        engine: Arc<E>,
        engine_id: String,
        resync: Duration,
        changes: mpsc::Sender<Observed>,
        asks: mpsc::Receiver<ContainerId>,
        view: watch::Sender<DockerView>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = Instant::now();
        Self {
            engine,
            engine_id,
            resync,
            ledger: Ledger::default(),
            changes,
            asks,
            view,
            metrics,
            jobs: JoinSet::new(),
            looks: 0,
            list_at: now,
            listing: false,
            pinging: false,
            last_word: now,
            told_complete: false,
            told_connected: false,
            // 5 s: asking a local socket costs nothing, and every second of it is a second of an untrue catalog.
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            list_backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(10)),
            followed_since: None,
            connection: 0,
            unproved: None,
            listed: false,
            listener: None,
            begun_at: None,
            replaying: false,
        }
    }

    /// Tells this queue as well, everything that is heard and seen; containers that do not run are looked at for it too. The
    /// observer never waits for it.
    #[must_use]
    pub fn with_listener(mut self, queue: mpsc::Sender<Heard>) -> Self {
        self.ledger.be_curious();
        self.listener = Some(Listener::new(queue));
        self
    }

    /// Follows the engine until `shutdown`, until nobody listens to the changes any more, or until another engine answers
    /// at its address: nothing that is known is about that one's containers.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut link = Link::Down { retry_at: Instant::now() };
        let mut asks_open = true;
        let changes = self.changes.clone();
        loop {
            self.tick();
            self.prove();
            self.ledger.due(Instant::now());
            self.catch_up();
            if let Link::Following(_) = link {
                self.start_calls();
            }
            let complete = self.ledger.complete() && !self.told_complete && !self.ledger.has_change();
            let wake = self.wake_at(&link);
            tokio::select! {
                () = shutdown.cancelled() => return,
                event = next_event(&mut link) => match event {
                    Some(Ok(event)) => {
                        self.word();
                        self.heard(&event);
                    }
                    Some(Err(error)) => {
                        self.metrics.docker_request(DockerCall::Events, Outcome::from(&Err::<(), _>(error.clone())));
                        link = self.lost(&error.to_string());
                    }
                    None => link = self.lost("the event stream ended"),
                },
                Some(job) = self.jobs.join_next(), if !self.jobs.is_empty() => match job {
                    Ok(Job::Info(Ok(info))) if info.id != self.engine_id => {
                        tracing::error!(event = "engine_replaced", "another Docker Engine answers now ({} on {}); ending, to begin anew with it", info.id, info.name);
                        return;
                    }
                    Ok(job) => self.finished(job, &mut link),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_cancelled) => {}
                },
                permit = changes.reserve(), if self.ledger.has_change() || complete => match permit {
                    Err(_closed) => return,
                    Ok(permit) => match self.ledger.next_change() {
                        Some(change) => permit.send(Observed::Change(change)),
                        None if complete => {
                            permit.send(Observed::Complete);
                            self.told_complete = true;
                        }
                        None => {}
                    },
                },
                ask = self.asks.recv(), if asks_open => match ask {
                    Some(id) => self.ledger.ask(&id),
                    None => asks_open = false,
                },
                () = sleep_until(wake) => self.on_time(&mut link),
            }
        }
    }

    /// Starts the calls whose turn it is.
    fn start_calls(&mut self) {
        let (connection, now) = (self.connection, Instant::now());
        if !self.listing && self.list_at <= now {
            self.listing = true;
            let engine = Arc::clone(&self.engine);
            self.jobs.spawn(async move { Job::List { connection, asked: now, result: engine.list().await } });
        }
        if !self.pinging && !self.listing && self.last_word + SILENCE <= now {
            self.pinging = true;
            let engine = Arc::clone(&self.engine);
            self.jobs.spawn(async move { Job::Ping { connection, result: engine.ping().await } });
        }
        while self.looks < LOOKS
            && let Some(id) = self.ledger.next_look()
        {
            self.looks += 1;
            let engine = Arc::clone(&self.engine);
            self.jobs.spawn(async move {
                let result = engine.inspect(id.as_str()).await;
                Job::Look(id, Box::new(result))
            });
        }
    }

    /// Shows that this loop turns, without waking anybody.
    fn tick(&self) {
        let now = Instant::now();
        if self.view.borrow().last_tick + TICK <= now {
            self.view.send_if_modified(|view| {
                view.last_tick = now;
                false
            });
        }
    }

    fn wake_at(&self, link: &Link) -> Instant {
        let mut wake = match link {
            Link::Down { retry_at } => *retry_at,
            // The call under way ends by itself.
            Link::Asking => Instant::now() + SILENCE,
            Link::Following(_) => {
                let proving = self.unproved.is_some() && self.listed;
                let proof = self.followed_since.filter(|_| proving).map(|since| since + STEADY);
                let ping =
                    if self.pinging || self.listing { Instant::now() + SILENCE } else { self.last_word + SILENCE };
                let ping = proof.map_or(ping, |proof| ping.min(proof));
                if self.listing { ping } else { ping.min(self.list_at) }
            }
        };
        if let Some(due) = self.ledger.next_due() {
            wake = wake.min(due);
        }
        wake
    }

    fn on_time(&mut self, link: &mut Link) {
        let now = Instant::now();
        match link {
            Link::Down { retry_at } if *retry_at <= now => {
                let engine = Arc::clone(&self.engine);
                self.jobs.spawn(async move { Job::Info(engine.info().await) });
                *link = Link::Asking;
            }
            Link::Following(_) if self.ledger.deaf(now) => {
                *link = self.lost("the event stream did not tell what the list shows");
            }
            _ => {}
        }
    }

    fn finished(&mut self, job: Job, link: &mut Link) {
        match &job {
            Job::Info(result) => self.metrics.docker_request(DockerCall::Info, Outcome::from(result)),
            Job::List { result, .. } => self.metrics.docker_request(DockerCall::List, Outcome::from(result)),
            Job::Look(_, result) => self.metrics.docker_request(DockerCall::Inspect, Outcome::from(&**result)),
            Job::Ping { .. } => {}
        }
        match job {
            Job::Info(Ok(info)) => {
                self.word();
                self.followed_since = Some(Instant::now());
                let since = self.since(info.system_time);
                if let Some(listener) = &mut self.listener {
                    listener.linked(true);
                }
                self.list_at = Instant::now();
                self.unproved = Some(info);
                *link = Link::Following(self.engine.events(since));
            }
            Job::Info(Err(error)) => *link = self.lost(&error.to_string()),
            Job::List { connection, .. } | Job::Ping { connection, .. } if connection != self.connection => {}
            Job::List { asked, result, .. } => self.listed(result, asked, link),
            Job::Look(id, result) => {
                self.looks -= 1;
                if result.is_ok() {
                    self.word();
                }
                let result = result.map(|container| self.ledger.shared(container));
                match (&mut self.listener, &result) {
                    (Some(listener), Ok(container)) => listener.seen(container),
                    (Some(listener), Err(DockerError::NotFound(_))) => listener.gone(&id),
                    _ => {}
                }
                if let Err(error) = &result
                    && !matches!(error, DockerError::NotFound(_))
                {
                    tracing::warn!(event = "look_failed", container = %id, error = %error, "cannot look at container {id}; what is registered for it stays");
                }
                self.ledger.looked(&id, result, Instant::now(), fastrand::f64());
                self.publish_count();
            }
            Job::Ping { result, .. } => {
                self.pinging = false;
                match result {
                    Ok(()) => self.word(),
                    Err(error) if matches!(link, Link::Following(_)) => *link = self.lost(&error.to_string()),
                    Err(_) => {}
                }
            }
        }
    }

    fn listed(&mut self, result: Result<Listing, DockerError>, asked: Instant, link: &mut Link) {
        self.listing = false;
        match result {
            Ok(listing) => {
                self.word();
                self.list_backoff.reset();
                self.metrics.resync(ResyncOutcome::Ok);
                self.listed = true;
                if listing.unreadable > 0 {
                    tracing::warn!(
                        event = "list_entries_unreadable",
                        entries = listing.unreadable,
                        "{} entries of Docker's list cannot be read; what is registered for them stays",
                        listing.unreadable
                    );
                }
                self.ledger.listed(&listing, asked, Instant::now());
                self.list_at = Instant::now() + self.resync;
                self.publish_count();
            }
            Err(error) => {
                self.metrics.resync(ResyncOutcome::Failed);
                let gone = matches!(error, DockerError::Unreachable { .. } | DockerError::TimedOut { .. });
                if gone && matches!(link, Link::Following(_)) {
                    *link = self.lost(&error.to_string());
                } else {
                    let wait = self.list_backoff.next(fastrand::f64());
                    self.list_at = Instant::now() + wait;
                    if self.list_backoff.worth_telling() {
                        tracing::warn!(event = "list_failed", error = %error, "Docker's list cannot be had; everything stays as it is");
                    }
                }
            }
        }
    }

    /// From where on the next stream is asked for; the same for a first stream and for one that goes on.
    fn since(&mut self, present: Option<EventTime>) -> Option<EventTime> {
        let overlapped = present.map(|present| present.before(OVERLAP));
        let resume = self.ledger.resume();
        // Nothing has reached the ledger yet: what reached the listener before is all that is not asked for again.
        self.replaying = self.listener.is_some() && resume.is_none();
        self.begun_at = self.begun_at.or(present);
        match &self.listener {
            Some(listener) if resume.is_none() => listener.resume().or(present.map(|present| present.before(HISTORY))),
            _ => resume.or(overlapped),
        }
    }

    /// An event came. One of before the observation is history: it says nothing about what is to be looked at now, and a
    /// signal of then is no reason to take anything out of service.
    fn heard(&mut self, event: &Event) {
        // Engines set their clocks, so this ends with the first event that is no history, or soon after the connect.
        let fresh = self.followed_since.is_none_or(|since| since.elapsed() < REPLAY);
        let older_than = |moment: Option<EventTime>| fresh && moment.is_some_and(|moment| event.time < moment);
        if let Some(listener) = &mut self.listener {
            listener.event(event, older_than(self.begun_at));
        }
        self.replaying &= older_than(self.begun_at.map(|begun| begun.before(OVERLAP)));
        if !self.replaying {
            if let Some(listener) = self.listener.as_mut().filter(|_| event.kind == EventKind::Destroy) {
                listener.gone(&event.container);
            }
            self.metrics.event(event.kind.as_str());
            self.ledger.event(event, Instant::now());
        }
    }

    /// What the listener has to know for certain and could not be told yet.
    fn catch_up(&mut self) {
        if let Some(listener) = &mut self.listener {
            if self.ledger.complete() {
                listener.complete();
            }
            listener.catch_up();
        }
    }

    /// The engine said something: it is there.
    fn word(&mut self) {
        self.last_word = Instant::now();
    }

    /// Tells that the engine is there once it has answered a list and its stream has not failed at once: a proxy may allow
    /// the one and refuse the other.
    fn prove(&mut self) {
        let steady = self.followed_since.is_some_and(|since| since.elapsed() >= STEADY);
        if self.listed
            && steady
            && let Some(info) = self.unproved.take()
        {
            self.connected(&info);
        }
    }

    fn connected(&mut self, info: &EngineInfo) {
        let failures = self.backoff.attempts();
        self.told_connected = true;
        tracing::info!(event = "docker_connected", engine = %info.version, api = %info.api_version, failures, "connected to Docker {} on {}", info.version, info.name);
        self.metrics.docker_connected(true);
        self.view.send_modify(|view| {
            view.connected = true;
            view.version.clone_from(&info.version);
            view.api.clone_from(&info.api_version);
            view.trouble = None;
            view.last_tick = Instant::now();
        });
    }

    fn lost(&mut self, why: &str) -> Link {
        self.connection += 1;
        self.ledger.interrupted();
        if let Some(listener) = &mut self.listener {
            listener.linked(false);
        }
        if self.followed_since.take().is_some_and(|since| since.elapsed() >= GOOD_STREAM) {
            self.backoff.reset();
        }
        self.unproved = None;
        (self.listed, self.listing, self.pinging) = (false, false, false);
        let wait = self.backoff.next(fastrand::f64());
        // Whoever was told that Docker is back is told when it is away again, however soon that is.
        let was_there = std::mem::take(&mut self.told_connected);
        if self.backoff.worth_telling() || was_there {
            // A mounted socket is a file: when the daemon makes a new one, the container keeps the old one.
            let hint = if self.backoff.attempts() > 10 {
                " (is the mounted socket still the daemon's? `remora doctor` looks; mounting its folder instead of the file helps)"
            } else {
                ""
            };
            tracing::warn!(event = "docker_lost", error = %why, attempt = self.backoff.attempts(), "lost Docker: {why}; everything registered stays as it is{hint}");
        }
        self.metrics.docker_connected(false);
        self.metrics.event_stream_restarted();
        self.view.send_modify(|view| {
            view.connected = false;
            view.trouble = Some(why.to_owned());
        });
        Link::Down { retry_at: Instant::now() + wait }
    }

    fn publish_count(&self) {
        self.metrics.containers(self.ledger.len());
    }
}

/// The next event of an open stream; never, without one.
async fn next_event(link: &mut Link) -> Option<Result<Event, DockerError>> {
    match link {
        Link::Following(stream) => stream.next().await,
        Link::Down { .. } | Link::Asking => std::future::pending().await,
    }
}
