//! From a look to a decision. Called for one container whenever anything about it may have changed; what it does not do now it
//! schedules, or leaves to the sweep.

use std::time::{Duration, SystemTime};

use arcstr::ArcStr;
use tokio::time::Instant;

use super::Watcher;
use crate::config::HealMode;
use crate::consul::Store;
use crate::docker::names::{self, Role};
use crate::docker::{ContainerId, Control, Engine};
use crate::heal::brakes::Brake;
use crate::heal::cause::{Cause, Context, Diagnosis, diagnose};
use crate::heal::decide::{Case, Decision, decide};
use crate::heal::history::{End, Standing};
use crate::heal::policy::Applies;
use crate::heal::record::Record;
use crate::heal::tell::{Kind, News};

/// A brake without an end of its own is asked again after so long.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(10);

/// When the node is the suspect it is looked at again after so long.
const SUSPECT: Duration = Duration::from_secs(60);

/// How often it is told that the node is the suspect, while it is.
const SUSPECT_TOLD: Duration = Duration::from_secs(600);

/// So many out-of-memory kills inside a container that lives on are worth telling.
const OOMS: usize = 3;

/// Within so long.
const OOM_WINDOW: Duration = Duration::from_secs(600);

impl<E: Engine + Control, S: Store> Watcher<E, S> {
    pub(super) fn consider(&mut self, id: &ContainerId, now: Instant) {
        if !self.complete || !self.connected {
            return;
        }
        let Some(watched) = self.watched.get(id) else { return };
        let container = &watched.sight.container;
        let (place, role) = names::logical(&container.name);
        let place = place.to_owned();
        if role != Role::Settled || self.current.as_ref().is_some_and(|current| current.name == place) {
            // A part of an operation.
            return;
        }
        let orphaned = self.orphaned(container);
        let Some(history) = self.histories.get(id) else { return };
        let context = Context {
            history,
            policy: &watched.policy,
            stream_lost: self.stream_lost,
            critical: watched.critical.as_deref(),
            orphaned: orphaned.as_deref(),
            known: self.known.contains(place.as_str()),
            stopped: self.records.get(&place).is_some_and(|record| record.is_stopped(id)),
        };
        let down = Standing::of(container) == Standing::Down;
        let stopped = (down && history.end(container) == End::Stopped).then_some(id);
        let diagnosis = match &watched.hands_off {
            Some(why) => Diagnosis::Leave { why: why.clone(), tell: false },
            None => diagnose(container, &context, now),
        };
        let ooms = history.ooms_within(OOM_WINDOW, now);
        let unsure = self.may_be_half_way(&place);
        let (name, image) = (container.name.clone(), container.image_id.clone());
        let well = diagnosis == Diagnosis::Well;
        let sick_since = match &diagnosis {
            Diagnosis::Sick { since, cause, .. } if *cause != Cause::Orphaned => Some(*since),
            _ => None,
        };
        let (hands_off, well_since) = (watched.hands_off.is_some(), watched.well_since);
        if let Some(watched) = self.watched.get_mut(id) {
            watched.diagnosis = diagnosis.clone();
        }
        if hands_off {
            self.node.mark(&place, None);
        } else {
            let mut record = self.records.remove(&place).unwrap_or_else(|| Record::new(well_since));
            if (well || sick_since.is_some()) && record.sick(sick_since) {
                self.unsaved.insert(place.clone());
            }
            self.node.mark(&place, sick_since.and(record.sick_since()));
            let had = record.forgiven_at().is_some() || record.quarantined(now).is_some();
            record.seen(id, &image, well, now);
            // What was known before this run counts until it runs again. Where an operation may have been left half-way, a stop may have
            // been its own, and a container that runs may be about to end.
            if !unsure && (stopped.is_some() || !down) && record.stopped(stopped) {
                self.unsaved.insert(place.clone());
            }
            let (forgiven, recovered) = (record.forgiven_at(), record.recovered_at());
            if had && forgiven.is_none() && well {
                self.unsaved.insert(place.clone());
            }
            if let Some(watched) = self.watched.get_mut(id) {
                watched.well_since = record.well_since();
            }
            if !record.is_blank() {
                self.records.insert(place.clone(), record);
            }
            if had {
                self.show();
            }
            let next = [recovered, forgiven].into_iter().flatten().filter(|at| *at > now).min();
            if let Some(at) = next {
                self.schedule(id, at);
            }
        }
        if well && ooms >= OOMS {
            self.tell_once(
                id,
                Kind::NotHealed,
                "oom",
                format!(
                    "{name}: {ooms} processes in it were killed for want of memory within {OOM_WINDOW:?}; it runs on"
                ),
            );
        }
        match diagnosis {
            Diagnosis::Well => {
                if let Some(watched) = self.watched.get_mut(id)
                    && ooms < OOMS
                {
                    watched.told = ArcStr::new();
                }
            }
            Diagnosis::Watch { until, .. } => self.schedule(id, until),
            Diagnosis::Leave { why, tell: true } => {
                self.tell_once(id, Kind::NotHealed, "unknown", format!("{name} is not healed: {why}"));
            }
            Diagnosis::Leave { .. } => {}
            Diagnosis::Sick { cause, evidence, .. } => self.act(id, &place, &cause, &evidence, now),
        }
    }

    /// An operation on this place may have been left half-way: by an agent before this one.
    fn may_be_half_way(&self, place: &str) -> bool {
        // While the engine is asked for them, the treatment under way has no name.
        let asking = self.current.as_ref().is_some_and(|current| current.name.is_empty());
        let found = self.unfinished.iter().any(|unfinished| unfinished.is_of(place));
        asking || found || self.look_for_unfinished.is_some()
    }

    /// Something is under way, or may have been left half-way.
    fn is_busy(&self) -> bool {
        self.current.is_some() || !self.unfinished.is_empty() || self.look_for_unfinished.is_some()
    }

    /// It is sick: what is done about it?
    pub(super) fn act(&mut self, id: &ContainerId, place: &str, cause: &Cause, evidence: &str, now: Instant) {
        let Some(watched) = self.watched.get(id) else { return };
        let name = watched.sight.container.name.clone();
        if *cause != Cause::Orphaned
            && let Some(parent) = self.waits_for_parent(&watched.sight.container)
        {
            return self.tell_once(
                id,
                Kind::NotHealed,
                "parent",
                format!("{name} is {cause}: {parent}, whose namespace it shares, comes first"),
            );
        }
        let busy = self.is_busy();
        let record = self.records.entry(place.to_owned()).or_insert_with(|| Record::new(watched.well_since));
        let reason = self.pauses.paused(&self.place.node, place, SystemTime::now()).map(|reason| reason.text.clone());
        let at_hand = Case {
            name: place,
            cause,
            policy: &watched.policy,
            record,
            node: &self.node,
            settings: &self.place.heal,
            holdoff: self.holdoff,
            paused: reason.as_deref(),
            busy,
            watched: self.watched.values().filter(|it| it.hands_off.is_none()).count(),
            consul: self.seen.borrow().reachable,
        };
        let mut held = self.no_slot.iter().chain(self.held.get(id)).filter(|(until, _)| *until > now);
        let decided = match (decide(&at_hand, now), held.next()) {
            (Decision::Act(_), Some((_, brake))) if *cause != Cause::Asked => Decision::Refuse(brake.clone()),
            (decided, _) => decided,
        };
        let observe = self.place.heal.mode == HealMode::Observe || watched.policy.applies == Applies::Observe;
        match decided {
            Decision::Act(action) if observe && *cause != Cause::Asked => {
                self.tell_once(
                    id,
                    Kind::WouldHeal,
                    "would",
                    format!("{name} is {cause} ({evidence}): it would be {}", action.done()),
                );
            }
            Decision::Act(action) => self.begin(id, place, action, cause, evidence, now),
            Decision::Notify => {
                self.tell_once(
                    id,
                    Kind::NotHealed,
                    "notify",
                    format!("{name} is {cause} ({evidence}); its labels ask to be told, and for nothing else"),
                );
            }
            Decision::GiveUp(why) => self.give_up(id, place, cause, &why, now),
            Decision::Refuse(brake) => self.refused(id, cause, evidence, &brake, now),
        }
    }

    pub(super) fn refused(&mut self, id: &ContainerId, cause: &Cause, evidence: &str, brake: &Brake, now: Instant) {
        self.telling.metrics().heal_refused(brake.into());
        self.schedule(
            id,
            brake.until().unwrap_or(now + if matches!(brake, Brake::Correlated { .. }) { SUSPECT } else { ASK_AGAIN }),
        );
        let Some(watched) = self.watched.get(id) else { return };
        let name = watched.sight.container.name.clone();
        let why = match brake {
            // The end of the one under way thinks all of them over; nobody needs a line about it.
            Brake::Busy | Brake::Quarantine(_) => return,
            Brake::Correlated { sick, of } => {
                if self.correlated_told.is_some_and(|told| told + SUSPECT_TOLD > now) {
                    return;
                }
                self.correlated_told = Some(now);
                let text = format!(
                    "{sick} of {of} containers failed at once ({name}: {cause}): the node, or something that all of them need, is the suspect; nothing is replaced"
                );
                return self.tell(News::decision(Kind::NodeSuspect, &name, id.short(), cause.as_str(), text));
            }
            Brake::Holdoff(_) => "the agent has just started, or Docker has just come back".to_owned(),
            Brake::Paused(why) => format!("healing is paused: {why}"),
            Brake::NodeBudget(_) => "the budget of this node is used up for now".to_owned(),
            Brake::Backoff(_) => "it is too early after the last attempt".to_owned(),
            Brake::Service(why) | Brake::Cluster(why) => why.clone(),
            Brake::WithoutConsul => "Consul is away (REMORA_HEAL_WITHOUT_CONSUL=none)".to_owned(),
        };
        self.tell_once(
            id,
            Kind::NotHealed,
            brake.as_str(),
            format!("{name} is {cause} ({evidence}); nothing is done now: {why}"),
        );
    }

    /// Nothing more is done for a while: its `healing` check turns critical, and somebody is told.
    pub(super) fn give_up(&mut self, id: &ContainerId, place: &str, cause: &Cause, why: &str, now: Instant) {
        let record = self.record(place);
        let quarantine = record.quarantine(why.to_owned(), now);
        let rest = quarantine.until.saturating_duration_since(now).as_secs() / 60;
        self.unsaved.insert(place.to_owned());
        self.schedule(id, quarantine.until);
        self.show();
        let text = format!(
            "{place} is {cause} and given up: {why}. One more attempt in {rest} min; `remora release {place}` makes it sooner"
        );
        self.tell(News::decision(Kind::GaveUp, place, id.short(), cause.as_str(), text));
    }

    /// The same about the same container is told once, until it is well again or something else is to be said.
    pub(super) fn tell_once(&mut self, id: &ContainerId, kind: Kind, what: &str, text: String) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        let cause = watched.diagnosis.cause().map_or("", Cause::as_str);
        let told = arcstr::format!("{what} {cause}");
        if watched.told == told {
            return;
        }
        watched.told = told;
        let name = watched.sight.container.name.clone();
        self.tell(News::decision(kind, &name, id.short(), cause, text));
    }

    /// What an operator asked for.
    pub(super) fn act_on_asks(&mut self, now: Instant) {
        if self.current.is_some() || !self.unfinished.is_empty() || !self.complete || !self.connected {
            return;
        }
        while let Some(id) = self.asked.pop_front() {
            let Some(watched) = self.watched.get(&id) else { continue };
            let place = names::logical(&watched.sight.container.name).0.to_owned();
            if let Some(why) = watched.hands_off.clone() {
                let text = format!("{place} is not replaced although it was asked for: {why}");
                self.tell(News::decision(Kind::NotHealed, &place, id.short(), Cause::Asked.as_str(), text));
                continue;
            }
            return self.act(&id, &place, &Cause::Asked, "asked for by an operator", now);
        }
    }
}
