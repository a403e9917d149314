//! The task around the [`Book`]: it hears what the observation saw, reads Consul, and writes what the book says.
//!
//! Consul is read at once, every [`POLL`], and whenever the agent's own registration changes (a hash-blocking query: the
//! agent was restarted, its data wiped, or somebody removed us). While Consul cannot be reached nothing is written, and
//! what fails then is nobody's fault; the first read that succeeds says what has to be written.

mod farewell;
mod pace;
mod showing;
mod strays;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::diff::Op;
use super::healing::GivenUp;
use super::telling::{tell, tell_write};
use crate::backoff::Backoff;
use crate::config::OnExit;
use crate::consul::{ActualService, Class, ConsulError, ConsulSeen, Registry, Snapshot};
use crate::docker::ContainerId;
use crate::docker::observe::Observed;
use crate::probe::Wants;
use crate::telemetry::{ConsulCall, ConsulView, DockerView, Drift, Metrics, Outcome};
use pace::{BLIND, DENIED, FAREWELL, OWN_BEAT, POLL, SILENT_AT_FIRST, STILL_FREE, WATCH, poll};
use strays::{Looked, Strays};

pub use pace::OWN_TTL;

/// So many different reasons of one outage are told as they come: beyond that somebody makes them up.
const REASONS: usize = 8;

/// Failures that are shown on `/readyz` and in the agent's own check.
const SHOWN_FAILURES: usize = 20;

/// The reconciling task.
pub struct Worker<R> {
    registry: Arc<R>,
    book: Book,
    observed: mpsc::Receiver<Observed>,
    asks: mpsc::Sender<ContainerId>,
    docker: watch::Receiver<DockerView>,
    view: watch::Sender<ConsulView>,
    seen: watch::Sender<ConsulSeen>,
    given_up: watch::Receiver<GivenUp>,
    metrics: Arc<Metrics>,
    probes: Option<watch::Sender<Wants>>,
    probes_at: Instant,
    right: watch::Sender<bool>,
    health_ttl: Option<Duration>,
    own_id: ArcStr,
    jobs: JoinSet<Job>,
    /// The one blocking query; on its own, so that a goodbye does not have to wait for it.
    watches: JoinSet<Result<bool, ConsulError>>,
    last: Option<Arc<Snapshot>>,
    link: Link,
    backoff: Backoff,
    /// Why Consul has been away since it was lost, as far as that was told.
    told: BTreeSet<String>,
    reading: bool,
    read_again: bool,
    read_at: Instant,
    read_ended: Instant,
    watch_at: Instant,
    own_beat_at: Instant,
    beat_at: Option<Instant>,
    complete: bool,
    speak_at: Instant,
    /// Since when Docker has not been seen.
    blind_since: Option<Instant>,
    /// Which credentials everything was registered with.
    credentials: u64,
    strays: Strays,
    unasked: Vec<ContainerId>,
}

/// What is known about the way to Consul.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The last call found it.
    Up,
    /// The last call did not; it is tried again then.
    Down {
        /// When.
        retry_at: Instant,
    },
}

enum Job {
    Read { result: Result<Arc<Snapshot>, ConsulError>, took: Duration },
    Taken { key: ArcStr, service: ActualService },
    Write { key: ArcStr, op: Op, result: Result<(), ConsulError>, took: Duration },
    Strays(Result<Looked, ConsulError>),
}

/// What a [`Worker`] is connected to.
pub struct Wiring {
    /// What the observation tells.
    pub observed: mpsc::Receiver<Observed>,
    /// What the observation is asked.
    pub asks: mpsc::Sender<ContainerId>,
    /// The observation's view of Docker, for the agent's own check.
    pub docker: watch::Receiver<DockerView>,
    /// This task's view of Consul.
    pub view: watch::Sender<ConsulView>,
    /// What is registered, for the health-watcher.
    pub seen: watch::Sender<ConsulSeen>,
    /// Whom the health-watcher has given up. What is in it before anything was sent does not count.
    pub given_up: watch::Receiver<GivenUp>,
    /// The checks that nobody else runs, in catalog mode.
    pub probes: Option<watch::Sender<Wants>>,
    /// Whether everything was compared with Consul and is right there, but for what Consul refuses.
    pub right: watch::Sender<bool>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl<R: Registry> Worker<R> {
    /// A worker on `book`, whose own service is `own_id`.
    pub fn new(registry: Arc<R>, book: Book, own_id: ArcStr, health_ttl: Option<Duration>, wiring: Wiring) -> Self {
        let now = Instant::now();
        let credentials = registry.credentials();
        Self {
            registry,
            book,
            observed: wiring.observed,
            asks: wiring.asks,
            docker: wiring.docker,
            view: wiring.view,
            seen: wiring.seen,
            given_up: wiring.given_up,
            metrics: wiring.metrics,
            probes: wiring.probes,
            probes_at: now,
            right: wiring.right,
            health_ttl,
            own_id,
            jobs: JoinSet::new(),
            watches: JoinSet::new(),
            last: None,
            link: Link::Up,
            // 5 s: the agent is on this node, and every second without it is a second of an untrue catalog.
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            told: BTreeSet::new(),
            reading: false,
            read_again: false,
            read_at: now,
            read_ended: now,
            watch_at: now,
            own_beat_at: now + OWN_BEAT,
            beat_at: health_ttl.map(|ttl| now + ttl / 3),
            complete: false,
            speak_at: now + SILENT_AT_FIRST,
            blind_since: None,
            credentials,
            // A token that was replaced between two runs leaves some, too.
            strays: Strays::look_after(now),
            unasked: Vec::new(),
        }
    }

    /// Works until `shutdown`, then says goodbye as `on_exit` wants it.
    pub async fn run(mut self, shutdown: CancellationToken, on_exit: OnExit) {
        loop {
            let now = Instant::now();
            self.book.tick(now);
            self.unasked.extend(self.book.take_asks());
            self.start_jobs(now);
            if self.publish(now) {
                self.start_jobs(now);
            }
            self.show_probes(now);
            let wake = self.wake_at(now);
            let asks = self.asks.clone();
            tokio::select! {
                () = shutdown.cancelled() => break,
                observed = self.observed.recv() => match observed {
                    Some(observed) => self.heard(observed),
                    // The observer ended. If nobody asked for that, whoever starts us anew finds everything as it is.
                    None if shutdown.is_cancelled() => break,
                    None => return,
                },
                Some(job) = self.jobs.join_next(), if !self.jobs.is_empty() => match job {
                    Ok(job) => self.finished(job),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_cancelled) => {}
                },
                Some(watch) = self.watches.join_next(), if !self.watches.is_empty() => match watch {
                    Ok(result) => self.watched(&result),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_cancelled) => {}
                },
                permit = asks.reserve(), if !self.unasked.is_empty() => {
                    if let (Ok(permit), Some(id)) = (permit, self.unasked.pop()) {
                        permit.send(id);
                    }
                }
                Ok(()) = self.docker.changed() => {}
                Ok(()) = self.given_up.changed() => {
                    let given_up = Arc::clone(&self.given_up.borrow_and_update());
                    self.book.give_up(&given_up).iter().for_each(tell);
                }
                () = sleep_until(wake) => self.on_time(Instant::now()),
            }
        }
        if tokio::time::timeout(FAREWELL, self.farewell(on_exit)).await.is_err() {
            tracing::warn!(
                event = "farewell_cut",
                "Consul did not answer within {FAREWELL:?}: what is registered there may stay"
            );
        }
    }

    fn heard(&mut self, observed: Observed) {
        match observed {
            Observed::Change(change) => {
                self.book.change(change).iter().for_each(tell);
            }
            Observed::Complete => {
                self.complete = true;
                // What an earlier run fed may be about to expire.
                self.beat_at = self.beat_at.map(|_| Instant::now());
                tracing::info!(event = "first_look_complete", "every running container has been looked at");
            }
        }
    }

    fn start_jobs(&mut self, now: Instant) {
        let due = match self.link {
            Link::Up => self.read_at <= now || self.read_again,
            Link::Down { retry_at } => retry_at <= now,
        };
        if due && !self.reading {
            self.reading = true;
            self.read_again = false;
            let written = self.book.reading();
            let registry = Arc::clone(&self.registry);
            self.jobs.spawn(async move {
                let result = registry.read_after(written).await;
                Job::Read { result, took: now.elapsed() }
            });
        }
        if self.link != Link::Up {
            return;
        }
        self.look_for_strays(now);
        if self.watches.is_empty() && self.watch_at <= now && self.book.read_once() {
            let (registry, own_id) = (Arc::clone(&self.registry), self.own_id.clone());
            self.watches.spawn(async move { registry.changed(&own_id, WATCH).await });
        }
        while self.book.running() < self.registry.writes_at_once()
            && let Some((key, op)) = self.book.next(now)
        {
            let registry = Arc::clone(&self.registry);
            let look_first = !self.book.is_taken(&key) && self.read_ended + STILL_FREE <= now;
            self.jobs.spawn(async move {
                if let Op::Register(wanted) = &op
                    && look_first
                    && !registry.is_guarded(wanted)
                    // What fails here fails at the write too, and is told there.
                    && let Ok(Some(service)) = registry.find(&wanted.id).await
                {
                    return Job::Taken { key, service };
                }
                let result = write(&*registry, &op).await;
                Job::Write { key, op, result, took: now.elapsed() }
            });
        }
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let read = match self.link {
            // The read under way ends by itself, and wakes us.
            _ if self.reading => now + POLL,
            Link::Up => self.read_at,
            Link::Down { retry_at } => retry_at,
        };
        let may_watch = self.watches.is_empty() && self.link == Link::Up && self.book.read_once();
        let watch = may_watch.then_some(self.watch_at);
        let item = self
            .book
            .next_due()
            .filter(|_| self.link == Link::Up && self.book.running() < self.registry.writes_at_once());
        let probes = (self.probes_at > now).then_some(self.probes_at);
        let strays = self.strays.due().filter(|_| self.link == Link::Up && self.complete);
        [Some(read), watch, item, Some(self.own_beat_at), self.beat_at, probes, strays]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + POLL)
    }

    fn on_time(&mut self, now: Instant) {
        if self.own_beat_at <= now {
            self.own_beat_at = now + OWN_BEAT;
            self.book.beat_own();
        }
        if let (Some(at), Some(ttl)) = (self.beat_at, self.health_ttl)
            && at <= now
        {
            self.beat_at = Some(now + ttl / 3);
            // A blind agent must not keep alive what it cannot see: that is what the TTL was set for.
            if self.docker.borrow().connected {
                self.book.beat_all();
            }
        }
    }

    fn finished(&mut self, job: Job) {
        let now = Instant::now();
        match job {
            Job::Read { result, took } => {
                self.reading = false;
                self.metrics.consul_request(ConsulCall::Read, Outcome::from(&result), took);
                match result {
                    Ok(snapshot) => self.read(snapshot, now),
                    Err(error) => self.lost(&error, now),
                }
            }
            Job::Taken { key, service } => self.book.found(&key, service),
            Job::Strays(looked) => self.looked_for_strays(looked, now),
            Job::Write { key, op, result, took } => {
                self.metrics.consul_request(op.call(), Outcome::from(&result), took);
                self.written(&key, &op, result, now);
            }
        }
    }

    fn watched(&mut self, result: &Result<bool, ConsulError>) {
        self.metrics.consul_request(ConsulCall::Changed, Outcome::from(result), Duration::ZERO);
        let (wait, look) = match result {
            Ok(false) => (Duration::ZERO, false),
            // A registration that somebody fights over must not turn this into a hot loop.
            Ok(true) => (Duration::from_millis(200), true),
            // Without the right to read our own service there is nothing to wait for; the polls go on.
            Err(error) if error.class() == Class::Denied => (Duration::from_secs(30), false),
            // The read decides whether Consul is away; the watch only made it look.
            Err(_) => (Duration::from_secs(1), true),
        };
        self.read_again |= look;
        self.watch_at = Instant::now() + wait;
    }

    fn read(&mut self, mut snapshot: Arc<Snapshot>, now: Instant) {
        self.read_at = now + poll(snapshot.services.len());
        self.read_ended = now;
        self.metrics.consul_reachable(true);
        let credentials = self.registry.credentials();
        if std::mem::replace(&mut self.credentials, credentials) != credentials {
            tracing::info!(
                event = "credentials_changed",
                "the token is another one: everything is registered again with it"
            );
            self.book.send_again();
            self.strays = Strays::look_after(now);
        }
        if let Link::Down { .. } = self.link {
            tracing::info!(event = "consul_connected", failures = self.backoff.attempts(), "Consul is reachable again");
            self.book.reconnected();
            self.told.clear();
        }
        self.link = Link::Up;
        self.backoff.reset();
        if self.book.pending() == 0 && self.book.failing() == 0 {
            self.metrics.reconciled(std::time::SystemTime::now());
        }
        let mut same = self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &snapshot));
        if let Some(sharing) = self.book.sharing(&snapshot, same) {
            self.registry.keep(&sharing);
            snapshot = sharing;
            same = false;
        }
        self.seen.send_if_modified(|seen| {
            let changed = !same || !seen.reachable;
            if changed {
                *seen = ConsulSeen { snapshot: Some(Arc::clone(&snapshot)), reachable: true };
            }
            changed
        });
        if same && !self.book.is_ahead() {
            return self.show_right();
        }
        let drift = self.book.read(&snapshot, now, fastrand::f64);
        self.last = Some(snapshot);
        for (key, kind) in drift {
            self.metrics.drift_repaired(kind);
            if kind == Drift::Reaped {
                tracing::warn!(event = "reaped", service = %key, "{key}: Consul removed it, its check was critical for longer than deregister_after; trying again in a while, or when the container changes");
                continue;
            }
            tracing::warn!(event = "drift", service = %key, kind = kind.as_str(), "{key} is not as registered any more ({}); repairing", kind.as_str());
        }
        self.show_right();
    }

    fn written(&mut self, key: &ArcStr, op: &Op, result: Result<(), ConsulError>, now: Instant) {
        let word = op.kind().as_str();
        self.metrics.write(op.kind(), Outcome::from(&result));
        let error = match result {
            Ok(()) => {
                if let Some(heard) = self.book.done(key, op) {
                    self.metrics.lag(now - heard);
                }
                tell_write(op, key);
                return;
            }
            Err(error) => error,
        };
        match error.class() {
            Class::Transient if !matches!(error, ConsulError::Unwell { .. }) => {
                self.book.interrupted(key);
                self.lost(&error, now);
            }
            class => {
                if class == Class::Gone {
                    self.read_again = true;
                }
                let reason = error.to_string();
                if class == Class::Rejected
                    && let Some(checks) = self.book.refuse(key, op)
                {
                    let checks = checks.join(", ");
                    tracing::warn!(event = "checks_left_out", service = %key, error = %reason, "Consul refuses the checks of {key}; registered without {checks}: {reason}");
                    return;
                }
                if self.book.failed(key, class, &reason, now, fastrand::f64()) {
                    tracing::warn!(event = "write_failed", op = word, service = %key, error = %reason, "cannot {word} {key}: {reason}");
                }
            }
        }
    }

    fn lost(&mut self, error: &ConsulError, now: Instant) {
        if let Link::Down { retry_at } = self.link
            && retry_at > now
        {
            // Writes that were under way when it went away fail one after the other: that is one loss, not eight.
            return;
        }
        let growing = self.backoff.next(fastrand::f64());
        let wait = if error.class() == Class::Denied { DENIED } else { growing };
        // What is wrong now may not be what was wrong at first.
        let new = self.told.len() < REASONS && self.told.insert(error.to_string());
        if new || self.backoff.worth_telling() {
            tracing::warn!(event = "consul_lost", error = %error, attempt = self.backoff.attempts(), "{error}; trying again, nothing is given up");
        }
        self.metrics.consul_reachable(false);
        self.seen.send_if_modified(|seen| std::mem::replace(&mut seen.reachable, false));
        self.view.send_modify(|view| {
            view.reachable = false;
            view.trouble = Some(error.to_string());
        });
        self.link = Link::Down { retry_at: now + wait };
        self.right.send_replace(false);
    }
}

/// Makes one write.
///
/// # Errors
/// As the registry's.
pub async fn write<R: Registry>(registry: &R, op: &Op) -> Result<(), ConsulError> {
    match op {
        Op::Register(service) => registry.register(service).await,
        Op::Deregister(id) => registry.deregister(id).await,
        Op::UpdateCheck { id, status, output } => registry.update_check(id, *status, output).await,
        Op::RemoveCheck(id) => registry.remove_check(id).await,
    }
}
