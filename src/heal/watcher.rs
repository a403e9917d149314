//! The health-watcher: the task that hears what happens, decides, and has one treatment at a time carried out.
//!
//! It holds no truth of its own: containers, their histories and their records are caches of what Docker, its events and Consul's
//! KV say. Every decision is made anew from them, and the treatment begins with a look of its own.
//!
//! * This file: the state, and the loop. * `considering`: from a look to a decision. * `treating`: treatments begin and end.
//! * `unfinished`: what an earlier run left half-way. * `consulting`: what Consul says and is told. * `seeing`: what is kept of a container. *
//!   `family`: who shares whose namespaces. * `showing`: what others see of it.

mod considering;
mod consulting;
mod family;
mod seeing;
mod showing;
mod treating;
mod unfinished;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcstr::ArcStr;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::brakes::{Brake, Node};
use super::cause::{Cause, CriticalCheck, Diagnosis};
use super::cluster::{Asks, Keys, Pauses, Slots};
use super::hands_off::Never;
use super::history::History;
use super::operation::run::Hands;
use super::policy::Policy;
use super::record::Record;
use super::status::Asked;
use super::tell::{News, Telling};
use crate::config;
use crate::consul::{ConsulSeen, Store};
use crate::docker::spec::ApiVersion;
use crate::docker::{ContainerId, Control, Engine, Event, EventKind, Heard, Sight, Signal};
use crate::registration;

use treating::Job;

/// Whatever happens, everything is thought over after so long.
const SWEEP: Duration = Duration::from_secs(30);

/// What an earlier run remembered is read within milliseconds, if Consul is there. What it left half-way waits for that, so long at the
/// most: an operator may have stopped the container meanwhile.
const RECALL: Duration = Duration::from_secs(3);

/// A treatment that is under way gets so long to finish its step when the agent stops.
const FAREWELL: Duration = Duration::from_secs(7);

/// What the watcher has to know of where it is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The node's name, as in the registrations.
    pub node: String,
    /// The engine's host name.
    pub host: String,
    /// The engine's highest API version.
    pub api: ApiVersion,
    /// Who acts: the agent's container, or the node.
    pub by: String,
    /// Whom nobody touches.
    pub never: Never,
    /// The agent's settings.
    pub heal: config::Heal,
    /// The rules of registration: what is published is healed by default.
    pub rules: registration::Settings,
}

/// What the watcher is connected to.
pub struct Ends<E, S> {
    /// The engine, to look and to act.
    pub docker: Arc<E>,
    /// Consul's KV.
    pub store: Arc<S>,
    /// What the observation hears and sees.
    pub heard: mpsc::Receiver<Heard>,
    /// What is registered in Consul.
    pub seen: watch::Receiver<ConsulSeen>,
    /// Containers that were given up, with the reason, for their `healing` checks.
    pub given_up: watch::Sender<Arc<HashMap<ContainerId, String>>>,
    /// What is told.
    pub telling: Telling,
    /// Who wants to know how healing stands.
    pub asked: Asked,
}

/// A container that is watched.
struct Watched {
    sight: Sight,
    policy: Arc<Policy>,
    /// Somebody else's, or nobody's, and why.
    hands_off: Option<ArcStr>,
    /// It was to be registered at some time: the registration of a container that ended is gone.
    published: bool,
    critical: Option<Box<CriticalCheck>>,
    diagnosis: Diagnosis,
    /// Since when it has been well without a break.
    well_since: Option<Instant>,
    /// What was told about it last: the same is not told twice.
    told: ArcStr,
    due: Option<Instant>,
}

/// A treatment under way.
struct Current {
    id: ContainerId,
    name: String,
    cause: Cause,
    evidence: String,
    since: SystemTime,
    /// What was remembered before it began, for when nothing came of it.
    before: Record,
    charged: bool,
    /// What an operator does meanwhile.
    hands: Hands,
}

impl Current {
    /// What keeps everything else waiting and is charged to nobody.
    fn uncharged(id: ContainerId, name: &str, cause: Cause, evidence: &str) -> Self {
        let (name, evidence) = (name.to_owned(), evidence.to_owned());
        let (since, before, hands) = (SystemTime::now(), Record::default(), Hands::default());
        Self { id, name, cause, evidence, since, before, charged: false, hands }
    }
}

/// See the module's header.
pub struct Watcher<E, S> {
    place: Place,
    docker: Arc<E>,
    store: Arc<S>,
    heard: mpsc::Receiver<Heard>,
    seen: watch::Receiver<ConsulSeen>,
    given_up: watch::Sender<Arc<HashMap<ContainerId, String>>>,
    telling: Telling,
    status_asked: Asked,
    /// Boxed, as all that is kept of each container: half of a large table is empty.
    watched: HashMap<ContainerId, Box<Watched>>,
    /// Those of them that share a namespace of another one: few, and asked for at every event.
    sharing: BTreeSet<ContainerId>,
    /// How many of them have each place.
    places: HashMap<ArcStr, usize>,
    histories: HashMap<ContainerId, Box<History>>,
    /// Former ids → the containers that have their places now.
    successors: HashMap<String, ContainerId>,
    /// By place, where there is anything to remember.
    records: BTreeMap<String, Record>,
    /// Names of places that were seen to run.
    known: BTreeSet<ArcStr>,
    node: Node,
    due: BTreeSet<(Instant, ContainerId)>,
    holdoff: Instant,
    connected: bool,
    stream_lost: Option<Instant>,
    complete: bool,
    current: Option<Current>,
    slots: Option<Slots>,
    /// The cluster had no slot: it is not asked again before then.
    no_slot: Option<(Instant, Brake)>,
    /// Other instances of their services spoke against it: they are not asked again before then.
    held: HashMap<ContainerId, (Instant, Brake)>,
    /// Operations that an earlier run left, and when to look for more.
    unfinished: VecDeque<unfinished::Unfinished>,
    look_for_unfinished: Option<Instant>,
    /// What was left half-way is not touched before then, unless Consul's keys have been read.
    recall_until: Instant,
    keys: Keys,
    pauses: Pauses,
    asks: Asks,
    asked: VecDeque<ContainerId>,
    list_index: u64,
    list_at: Instant,
    listing: bool,
    restored: bool,
    /// Others have been told who was given up.
    spoken: bool,
    /// Places whose record has to be written.
    unsaved: BTreeSet<String>,
    saving: bool,
    sweep_at: Instant,
    correlated_told: Option<Instant>,
    jobs: JoinSet<Job>,
    shutdown: CancellationToken,
}

impl<E: Engine + Control, S: Store> Watcher<E, S> {
    /// A watcher at this place.
    #[must_use]
    pub fn new(place: Place, ends: Ends<E, S>) -> Self {
        let now = Instant::now();
        let keys = Keys::new(&place.heal.prefix, &place.node);
        Self {
            holdoff: now + place.heal.holdoff,
            slots: Some(Slots::new(keys.clone(), place.heal.cluster_max)),
            keys,
            place,
            docker: ends.docker,
            store: ends.store,
            heard: ends.heard,
            seen: ends.seen,
            given_up: ends.given_up,
            telling: ends.telling,
            status_asked: ends.asked,
            watched: HashMap::new(),
            sharing: BTreeSet::new(),
            places: HashMap::new(),
            histories: HashMap::new(),
            successors: HashMap::new(),
            records: BTreeMap::new(),
            known: BTreeSet::new(),
            node: Node::default(),
            due: BTreeSet::new(),
            connected: false,
            stream_lost: None,
            complete: false,
            current: None,
            no_slot: None,
            held: HashMap::new(),
            unfinished: VecDeque::new(),
            look_for_unfinished: None,
            recall_until: now,
            pauses: Pauses::default(),
            asks: Asks::default(),
            asked: VecDeque::new(),
            list_index: 0,
            list_at: now,
            listing: false,
            restored: false,
            spoken: false,
            unsaved: BTreeSet::new(),
            saving: false,
            sweep_at: now + SWEEP,
            correlated_told: None,
            jobs: JoinSet::new(),
            shutdown: CancellationToken::new(),
        }
    }

    /// Watches until `shutdown`, or until the observation ends.
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.shutdown = shutdown.child_token();
        loop {
            self.start_jobs();
            self.measure();
            let wake = self.wake_at();
            tokio::select! {
                () = shutdown.cancelled() => break,
                heard = self.heard.recv() => match heard {
                    Some(heard) => self.hear(heard),
                    None => break,
                },
                Some(job) = self.jobs.join_next(), if !self.jobs.is_empty() => match job {
                    Ok(job) => self.finished(job),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_cancelled) => {}
                },
                Ok(()) = self.seen.changed() => self.consul_was_read(),
                // Whoever does not wait for the answer any more does not miss it.
                Some(answer) = self.status_asked.recv() => drop(answer.send(self.status(Instant::now()))),
                () = sleep_until(wake) => self.on_time(Instant::now()),
            }
        }
        self.shutdown.cancel();
        let rest = async {
            // A treatment finishes its step and gives its slot back; what is left of it is found at the next start.
            while self.current.is_some()
                && let Some(job) = self.jobs.join_next().await
            {
                if let Ok(Job::Treated(..) | Job::Resumed(..)) = job {
                    return;
                }
            }
        };
        if tokio::time::timeout(FAREWELL, rest).await.is_err() {
            tracing::warn!(
                event = "heal_cut",
                "a treatment did not come to a halt in time: it is taken up again at the next start"
            );
        }
    }

    fn hear(&mut self, heard: Heard) {
        let now = Instant::now();
        match heard {
            Heard::Event(event) => {
                self.note(&event, now);
                self.watch_hands(&event);
            }
            Heard::Remembered(event) => {
                self.note(&event, now);
                // A stop of before is no answer to what is under way now, and neither is the signal that ends it.
                if let (Some(current), EventKind::Kill(_)) = (&self.current, &event.kind) {
                    current.hands.stops(&event.container);
                }
            }
            Heard::Seen(container) => self.see(&container, now),
            Heard::Gone(id) => self.vanish(&id),
            Heard::Lost => {
                self.connected = false;
                self.stream_lost = Some(now);
                for history in self.histories.values_mut() {
                    history.lost(now);
                }
            }
            Heard::Connected => {
                if self.stream_lost.is_some() {
                    // As after a start: what everybody else does first is not ours to judge.
                    self.holdoff = now + self.place.heal.holdoff;
                }
                self.connected = true;
            }
            Heard::Complete => {
                self.complete = true;
                self.show_first();
                self.prune();
                self.look_for_unfinished = Some(now);
                self.recall_until = now + RECALL;
                self.consider_all(now);
            }
            Heard::Missed => self.histories.values_mut().for_each(|history| history.missed()),
        }
    }

    fn note(&mut self, event: &Event, now: Instant) {
        self.histories.entry(event.container.clone()).or_default().event(event, now);
        if self.watched.contains_key(&event.container) {
            self.schedule(&event.container, now);
        } else {
            self.prune();
        }
    }

    /// An operator may stop the very container that is being replaced, or the one that has just got its place.
    fn watch_hands(&mut self, event: &Event) {
        let (Some(current), Some(watched), EventKind::Kill(signal)) =
            (&self.current, self.watched.get(&event.container), &event.kind)
        else {
            return;
        };
        let container = &watched.sight.container;
        let ends = signal.is_none_or(|signal| Signal(signal).ends(container.stop_signal));
        if ends && container.name == current.name && current.hands.heard_of_stop(&event.container) {
            // Also for the agent that finishes this, should it be another one: afterwards Docker does not tell this stop from the
            // operation's own.
            let place = current.name.clone();
            if self.record(&place).stopped(Some(&event.container)) {
                self.unsaved.insert(place);
            }
        }
    }

    /// What is remembered of a place, also if that is nothing.
    fn record(&mut self, place: &str) -> &mut Record {
        self.records.entry(place.to_owned()).or_insert_with(|| {
            let has_it = self.watched.values().find(|it| it.sight.container.name == place);
            Record::new(has_it.and_then(|it| it.well_since))
        })
    }

    fn schedule(&mut self, id: &ContainerId, at: Instant) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        if watched.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(before) = watched.due.replace(at) {
            self.due.remove(&(before, id.clone()));
        }
        self.due.insert((at, id.clone()));
    }

    fn wake_at(&self) -> Instant {
        let consulting = self.next_list();
        let may_finish = self.current.is_none() && self.connected;
        let unfinished = self.look_for_unfinished.filter(|_| may_finish);
        let recalled = (may_finish && !self.unfinished.is_empty()).then_some(self.recall_until);
        [self.due.first().map(|(at, _)| *at), consulting, unfinished, recalled, Some(self.sweep_at)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.sweep_at)
    }

    fn on_time(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, id)) = self.due.pop_first()
        {
            if let Some(watched) = self.watched.get_mut(&id) {
                watched.due = None;
            }
            self.consider(&id, now);
        }
        if self.sweep_at <= now {
            self.sweep_at = now + SWEEP;
            self.consider_all(now);
            self.show_first();
        }
    }

    fn consider_all(&mut self, now: Instant) {
        // Who has been ill for longest comes first.
        let mut ids: Vec<(Option<Instant>, ContainerId)> = self
            .watched
            .iter()
            .map(|(id, watched)| match watched.diagnosis {
                Diagnosis::Sick { since, .. } => (Some(since), id.clone()),
                _ => (None, id.clone()),
            })
            .collect();
        ids.sort_by_key(|(since, id)| (since.is_none(), *since, id.clone()));
        for (_, id) in ids {
            self.consider(&id, now);
        }
    }

    /// The news, to whoever listens. Nobody is waited for.
    fn tell(&self, news: News) {
        self.telling.tell(news);
    }
}
