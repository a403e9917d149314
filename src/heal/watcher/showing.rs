//! What others see of the watcher: the `healing` checks of containers that were given up, the gauges, and the picture of
//! `remora status`, which is drawn when somebody asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Watched, Watcher};
use crate::config::HealMode;
use crate::consul::Store;
use crate::docker::spec::label;
use crate::docker::{Container, ContainerId, Control, Engine, HealthStatus, State};
use crate::heal::brakes;
use crate::heal::cause::Diagnosis;
use crate::heal::cluster::{Reason, Scope};
use crate::heal::policy::Applies;
use crate::heal::status::{Allowance, Confined, Row, Status, UnderWay};

impl<E: Engine + Control, S: Store> Watcher<E, S> {
    /// Publishes who has been given up, also if that is nobody, once everything is known that an earlier run knew. Before, nobody
    /// may take it for granted. Where Consul's keys cannot be read nothing is waited for in the end: what an earlier run wrote
    /// would stay for ever.
    pub(super) fn show_first(&mut self) {
        self.show();
        if !self.spoken && self.complete && (self.restored || self.holdoff <= Instant::now()) {
            self.spoken = true;
            self.given_up.send_modify(|_| {});
        }
    }

    /// Publishes what has changed.
    pub(super) fn show(&self) {
        if !self.complete {
            return;
        }
        let now = Instant::now();
        // Mostly that is nobody, and this is asked whenever a container goes.
        let anybody = self.records.values().any(|record| record.given_up(now).is_some());
        let given_up: HashMap<_, _> = self
            .watched
            .iter()
            .take_while(|_| anybody)
            .filter_map(|(id, watched)| {
                let place = Self::place_of(&watched.sight.container.name);
                let why = self.records.get(place)?.given_up(now)?;
                Some((id.clone(), why.to_owned()))
            })
            .collect();
        self.given_up.send_if_modified(|before| {
            let changed = **before != given_up;
            if changed {
                *before = Arc::new(given_up);
            }
            changed
        });
    }

    /// The gauges.
    pub(super) fn measure(&self) {
        let now = Instant::now();
        let metrics = self.telling.metrics();
        metrics.heal_incidents(self.node.sick());
        metrics.heal_quarantined(self.records.values().filter(|record| record.quarantined(now).is_some()).count());
        metrics.heal_paused(self.pauses.paused(&self.place.node, "", SystemTime::now()).is_some());
    }

    /// How healing stands.
    pub(super) fn status(&self, now: Instant) -> Status {
        let wall = SystemTime::now();
        let heal = &self.place.heal;
        let consul = self.seen.borrow().reachable;
        let paused = self.pauses.paused(&self.place.node, "", wall).map(Reason::to_string);
        let mut rows: Vec<_> = self.watched.iter().map(|(id, watched)| self.row(id, watched, now, wall)).collect();
        rows.sort_by(|one, other| (&one.name, &one.container).cmp(&(&other.name, &other.container)));
        Status {
            node: self.place.node.clone(),
            mode: heal.mode.to_string(),
            paused,
            holdoff_seconds: rest(self.holdoff, now),
            docker: self.connected && self.complete,
            consul,
            budget: Allowance {
                left: self.node.left(&heal.budget, !consul, now),
                of: brakes::allowed(&heal.budget, !consul),
                window_seconds: heal.budget.window.as_secs(),
            },
            // Without a name it is a look for what an earlier run left.
            operation: self.current.as_ref().filter(|current| !current.name.is_empty()).map(|current| UnderWay {
                name: current.name.clone(),
                cause: current.cause.to_string(),
                since: humantime::format_rfc3339_seconds(current.since).to_string(),
            }),
            containers: rows,
            news: self.telling.last(),
        }
    }

    fn row(&self, id: &ContainerId, watched: &Watched, now: Instant, wall: SystemTime) -> Row {
        let container = &watched.sight.container;
        let place = Self::place_of(&container.name);
        let policy = &watched.policy;
        let record = self.records.get(place);
        let observes = self.place.heal.mode == HealMode::Observe || policy.applies == Applies::Observe;
        let word = match &watched.hands_off {
            Some(_) => "off",
            None if observes => "observe",
            None => "on",
        };
        let paused = self.pauses.paused(&self.place.node, place, wall);
        let stamp =
            |at: Instant| humantime::format_rfc3339_seconds(wall + at.saturating_duration_since(now)).to_string();
        let quarantine = record.and_then(|record| record.quarantined(now)).map(|quarantine| Confined {
            until: stamp(quarantine.until),
            level: quarantine.level,
            reason: quarantine.reason.clone(),
        });
        Row {
            name: container.name.to_string(),
            container: id.short().to_owned(),
            image: container.image.to_string(),
            state: state(container),
            policy: word.to_owned(),
            why: watched.hands_off.as_ref().map(ToString::to_string),
            paused: paused.filter(|reason| reason.scope == Scope::Container).map(Reason::to_string),
            strategy: policy.strategy.as_str().to_owned(),
            diagnosis: diagnosis(&watched.diagnosis, now),
            attempts: record.map_or(0, |record| record.attempts_within(policy.window, now)),
            next_at: watched.due.map(stamp),
            quarantine,
            healed: container.labels.get(label::SINCE).filter(|since| is_stamp(since)).map(ToString::to_string),
            generation: container.labels.get(label::GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0),
        }
    }
}

/// Anybody can write a label.
fn is_stamp(text: &str) -> bool {
    humantime::parse_rfc3339(text).is_ok()
}

/// Whole seconds until then.
fn rest(until: Instant, now: Instant) -> u64 {
    let rest = until.saturating_duration_since(now);
    rest.as_secs() + u64::from(rest.subsec_nanos() > 0)
}

/// What Docker says, in a word.
fn state(container: &Container) -> String {
    let state = match &container.state {
        State::Created => "created",
        State::Running => "running",
        State::Paused => "paused",
        State::Restarting => "restarting",
        State::Removing => "removing",
        State::Exited => return format!("exited ({})", container.exit_code),
        State::Dead => "dead",
        State::Unknown(word) => word,
    };
    let health = container.health.as_ref().filter(|_| container.state == State::Running);
    match health.map(|health| health.status) {
        None => state.to_owned(),
        Some(HealthStatus::Starting) => format!("{state}/starting"),
        Some(HealthStatus::Healthy) => format!("{state}/healthy"),
        Some(HealthStatus::Unhealthy) => format!("{state}/unhealthy"),
        Some(HealthStatus::Unknown) => format!("{state}/unknown"),
    }
}

fn diagnosis(diagnosis: &Diagnosis, now: Instant) -> String {
    match diagnosis {
        Diagnosis::Well => "well".to_owned(),
        Diagnosis::Watch { until, why } => format!("{why}; looked at again in {} s", rest(*until, now)),
        Diagnosis::Sick { cause, evidence, since } => {
            format!("{cause} for {} s: {evidence}", now.saturating_duration_since(*since).as_secs())
        }
        Diagnosis::Leave { why, .. } => why.to_string(),
    }
}
