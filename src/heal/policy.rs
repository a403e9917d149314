//! What may be done to a container: its labels and the agent's settings → [`Policy`]. Pure.
//!
//! Labels are written by whoever may start a container, and are read with that in mind: a value that is not understood never
//! switches anything on, but makes [`Strategy::Notify`] of the whole policy, and is told.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cause::Cause;
use super::labels;
use super::managed::Managed;
use super::operation::Order;
use crate::config::{Heal, HealDefault, HealMode, OnKill};
use crate::docker::{Container, ProbeTimes};
use crate::registration::Note;
use crate::registration::values::{boolean, duration, list};

mod reader;

use reader::Reader;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The least grace: what most programs need to open their port.
const GRACE_LEAST: Duration = Duration::from_secs(30);
/// The longest time that a replacement gets by default.
const VERIFY_MOST: Duration = Duration::from_secs(600);
/// Bytes of a command: more is a script, which belongs into the image.
const COMMAND_LIMIT: usize = 4096;

/// Whether anything is done about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applies {
    /// It is healed.
    On,
    /// What would be done is told.
    Observe,
    /// It is left alone, and why.
    Off(String),
}

/// What is a reason to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// Its HEALTHCHECK fails.
    Unhealthy,
    /// Its HEALTHCHECK comes to no verdict.
    StuckStarting,
    /// It ended, and Docker does not start it again.
    Died,
    /// Docker starts it again and again.
    CrashLoop,
    /// Docker could not start it.
    StartFailed,
    /// A check of its own in Consul is critical.
    Critical,
}

impl Trigger {
    /// All, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Unhealthy, Self::StuckStarting, Self::Died, Self::CrashLoop, Self::StartFailed, Self::Critical];

    /// The word of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::StuckStarting => "stuck-starting",
            Self::Died => "died",
            Self::CrashLoop => "crash-loop",
            Self::StartFailed => "start-failed",
            Self::Critical => "critical",
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// A new container from the same image takes its place.
    Replace,
    /// It is restarted.
    Restart,
    /// Restarted once, then replaced.
    Escalate,
    /// It is told, and nothing else.
    Notify,
    /// It is stopped, and stays so.
    Stop,
}

impl Strategy {
    /// The word of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Restart => "restart",
            Self::Escalate => "escalate",
            Self::Notify => "notify",
            Self::Stop => "stop",
        }
    }
}

/// What happens when the replacement is no better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The old one comes back.
    Rollback,
    /// The new one stays.
    KeepNew,
    /// Both are stopped.
    Stop,
}

/// What becomes of anonymous volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    /// The replacement gets them.
    Adopt,
    /// There is no replacement of a container that has some.
    Refuse,
    /// The replacement gets new ones.
    Fresh,
}

/// What may be done to a container, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether anything is.
    pub applies: Applies,
    /// What is a reason.
    pub triggers: BTreeSet<Trigger>,
    /// What is done; [`Strategy::Notify`] when a label is not understood.
    pub strategy: Strategy,
    /// In which order; `None`: as the two allow it.
    pub order: Option<Order>,
    /// After each start, only an end counts for so long.
    pub grace: Duration,
    /// It must have been unhealthy for so long.
    pub unhealthy_for: Duration,
    /// A check must have been critical for so long.
    pub critical_for: Duration,
    /// `starting` may last so long.
    pub start_deadline: Duration,
    /// A container that ended must stay down for so long (`REMORA_HEAL_SETTLE`).
    pub settle: Duration,
    /// Between its stop signal and SIGKILL.
    pub stop_timeout: Duration,
    /// Between its deregistration and its stop, as the label says; see [`Policy::drain`].
    pub drain: Option<Duration>,
    /// Run inside before it is stopped: program and arguments, no shell. Empty: nothing.
    pub pre_stop: Vec<String>,
    /// The replacement must be healthy within so long.
    pub verify_timeout: Duration,
    /// And stay so for so long.
    pub min_healthy: Duration,
    /// When the replacement is no better.
    pub on_failure: OnFailure,
    /// So many failed replacements are kept.
    pub keep_failed: usize,
    /// Attempts within [`Policy::window`] before the quarantine; at least 1.
    pub max_attempts: usize,
    /// In which attempts are counted.
    pub window: Duration,
    /// The first and the longest wait between two attempts.
    pub backoff: (Duration, Duration),
    /// `docker kill` is a failure.
    pub heals_killed: bool,
    /// Exit code 0 is a failure.
    pub heals_exit_zero: bool,
    /// An end that nobody heard of is a failure.
    pub heals_unknown: bool,
    /// What becomes of anonymous volumes.
    pub volumes: Volumes,
    /// Host ports that Docker has chosen stay the same.
    pub pin_ports: bool,
    /// Two of it may use the same volumes.
    pub shareable: bool,
    /// The hardware address that it was created with, in lower case, where its label says so.
    pub mac: Option<String>,
    /// So many passing instances must be left before it is taken out while it serves.
    pub min_available: usize,
}

impl Policy {
    /// Whether this is a reason to act.
    #[must_use]
    pub fn has(&self, trigger: Trigger) -> bool {
        self.triggers.contains(&trigger)
    }

    /// Whether it is healed for this cause. What an operator asked for, and what the parent's operation brings with it, always is.
    #[must_use]
    pub fn acts_on(&self, cause: &Cause) -> bool {
        cause.trigger().is_none_or(|trigger| self.has(trigger))
    }

    /// Between its deregistration and its stop. Whoever stops first is down anyway: waiting would only make that longer.
    #[must_use]
    pub fn drain(&self, start_first: bool) -> Duration {
        self.drain.unwrap_or(if start_first { 5 * SECOND } else { Duration::ZERO })
    }
}

/// The policy of a container, and what the author of its labels should know. `published`: it has a registration in Consul.
#[must_use]
pub fn policy(container: &Container, settings: &Heal, published: bool) -> (Policy, Vec<Note>) {
    let word = |order: Order| (order.as_str(), Some(order));
    let mut from = Reader::new(&container.labels);
    let probe = container.life.probe.as_deref().copied();
    let applies = applies(container, settings, published, &mut from);
    let mut policy = Policy {
        applies,
        triggers: from
            .read(labels::TRIGGERS, triggers)
            .unwrap_or_else(|| Trigger::ALL.into_iter().filter(|trigger| *trigger != Trigger::Critical).collect()),
        strategy: from
            .word(
                labels::STRATEGY,
                &[Strategy::Replace, Strategy::Restart, Strategy::Escalate, Strategy::Notify, Strategy::Stop]
                    .map(|strategy| (strategy.as_str(), strategy)),
            )
            .unwrap_or(Strategy::Replace),
        order: from.word(labels::ORDER, &[("auto", None), word(Order::StartFirst), word(Order::StopFirst)]).flatten(),
        grace: from.span(labels::GRACE, Duration::ZERO, DAY).unwrap_or_else(|| grace(probe)),
        unhealthy_for: from.span(labels::UNHEALTHY_FOR, Duration::ZERO, DAY).unwrap_or(15 * SECOND),
        critical_for: from.span(labels::CRITICAL_FOR, Duration::ZERO, DAY).unwrap_or(60 * SECOND),
        start_deadline: from.span(labels::START_DEADLINE, SECOND, DAY).unwrap_or_else(|| start_deadline(probe)),
        settle: settings.settle,
        stop_timeout: from.stop_timeout().unwrap_or(container.stop_timeout),
        drain: from.span(labels::DRAIN, Duration::ZERO, HOUR),
        pre_stop: from.read(labels::PRE_STOP, command).unwrap_or_default(),
        verify_timeout: from.span(labels::VERIFY_TIMEOUT, SECOND, DAY).unwrap_or_else(|| verify_timeout(probe)),
        min_healthy: from.span(labels::MIN_HEALTHY, Duration::ZERO, DAY).unwrap_or(10 * SECOND),
        on_failure: from
            .word(
                labels::ON_FAILURE,
                &[("rollback", OnFailure::Rollback), ("keep-new", OnFailure::KeepNew), ("stop", OnFailure::Stop)],
            )
            .unwrap_or(OnFailure::Rollback),
        keep_failed: from.count(labels::KEEP_FAILED, 0, 1).unwrap_or(1),
        max_attempts: from.count(labels::MAX_ATTEMPTS, 1, 50).unwrap_or(5),
        window: from.span(labels::WINDOW, MINUTE, DAY).unwrap_or(30 * MINUTE),
        backoff: from.read(labels::BACKOFF, backoff).unwrap_or((10 * SECOND, 5 * MINUTE)),
        heals_killed: from
            .word(labels::ON_KILL, &[("heal", true), ("respect", false)])
            .unwrap_or(settings.on_kill == OnKill::Heal),
        heals_exit_zero: from.switch(labels::ON_EXIT_ZERO),
        heals_unknown: from.word(labels::ON_UNKNOWN, &[("heal", true), ("notify", false)]).unwrap_or(false),
        volumes: from
            .word(labels::VOLUMES, &[("adopt", Volumes::Adopt), ("refuse", Volumes::Refuse), ("fresh", Volumes::Fresh)])
            .unwrap_or(Volumes::Adopt),
        pin_ports: from.switch(labels::PIN_PORTS),
        shareable: from.switch(labels::SHAREABLE),
        mac: from.read(labels::MAC, hardware_address),
        min_available: from.count(labels::MIN_AVAILABLE, 0, 1000).unwrap_or(1),
    };
    if from.bad {
        policy.strategy = Strategy::Notify;
    }
    from.unknown();
    (policy, from.notes)
}

/// Whether anything is done. The operator's switch first: no label switches on what he has switched off.
fn applies(container: &Container, settings: &Heal, published: bool, from: &mut Reader<'_>) -> Applies {
    let own = from.read(labels::HEAL, position);
    // Our own label wins, also over a typing error in the other one.
    let own = if from.has(labels::HEAL) { own } else { from.read_alias(labels::AUTOHEAL, "true or false", position) };
    if settings.mode == HealMode::Off {
        return Applies::Off("REMORA_HEAL=off".to_owned());
    }
    if let Some(managed) = Managed::of(container) {
        return Applies::Off(managed.to_string());
    }
    let by_default = match settings.default {
        HealDefault::All => Ok(HealMode::On),
        HealDefault::Published if published => Ok(HealMode::On),
        HealDefault::Published => Err("not published in Consul, and no label remora.heal=on"),
        HealDefault::OptIn => Err("REMORA_HEAL_DEFAULT=opt-in, and no label remora.heal=on"),
    };
    match own.map_or(by_default, Ok) {
        Err(why) => Applies::Off(why.to_owned()),
        Ok(HealMode::Off) => {
            let label = if from.has(labels::HEAL) { labels::HEAL } else { labels::AUTOHEAL };
            Applies::Off(format!("{label}=off (label)"))
        }
        Ok(HealMode::On) if settings.mode == HealMode::On => Applies::On,
        Ok(_) => Applies::Observe,
    }
}

fn position(text: &str) -> Option<HealMode> {
    if text.eq_ignore_ascii_case("observe") {
        return Some(HealMode::Observe);
    }
    Some(if boolean(text, false)? { HealMode::On } else { HealMode::Off })
}

fn triggers(text: &str) -> Option<BTreeSet<Trigger>> {
    let trigger = |word: &String| Trigger::ALL.into_iter().find(|it| it.as_str().eq_ignore_ascii_case(word));
    let found: Option<BTreeSet<_>> = list(text).iter().map(trigger).collect();
    found.filter(|found| !found.is_empty())
}

/// Blanks separate; there is no shell, and there are no quotes.
fn command(text: &str) -> Option<Vec<String>> {
    let clean = text.len() <= COMMAND_LIMIT && !text.contains('\0');
    clean.then(|| text.split_whitespace().map(str::to_owned).collect())
}

fn hardware_address(text: &str) -> Option<String> {
    let byte = |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    let good = text.split(':').count() == 6 && text.split(':').all(byte);
    good.then(|| text.to_ascii_lowercase())
}

fn backoff(text: &str) -> Option<(Duration, Duration)> {
    let (base, cap) = text.split_once("..")?;
    let (base, cap) = (duration(base)?, duration(cap)?);
    (SECOND <= base && base <= cap && cap <= DAY).then_some((base, cap))
}

fn grace(probe: Option<ProbeTimes>) -> Duration {
    let own = probe.map_or(Duration::ZERO, |probe| plus(probe.start_period, probe.interval, probe.retries));
    own.clamp(GRACE_LEAST, DAY)
}

fn verify_timeout(probe: Option<ProbeTimes>) -> Duration {
    let retries = |probe: ProbeTimes| probe.retries.saturating_mul(2);
    let own = probe.map_or(Duration::ZERO, |probe| plus(probe.start_period, probe.interval, retries(probe)));
    own.clamp(MINUTE, VERIFY_MOST)
}

fn start_deadline(probe: Option<ProbeTimes>) -> Duration {
    let own = probe.map_or(Duration::ZERO, |probe| {
        let round = probe.interval.saturating_add(probe.timeout);
        plus(probe.start_period, round, probe.retries.saturating_mul(2))
    });
    own.clamp(5 * MINUTE, DAY)
}

fn plus(start: Duration, span: Duration, times: u32) -> Duration {
    start.saturating_add(span.saturating_mul(times))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) mod testing {
    use serde_json::{Map, Value, json};

    use crate::docker::{Container, Lens, inspect};

    /// A container with these labels.
    pub(in crate::heal) fn container(name: &str, labels: &[(&str, &str)]) -> Container {
        let labels: Map<String, Value> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        let document = json!({
            "Id": "ab".repeat(32), "Name": format!("/{name}"), "Image": format!("sha256:{}", "cd".repeat(32)),
            "Created": "2026-01-01T00:00:00Z", "State": {"Status": "running", "Running": true},
            "Config": {"Image": "repo/app:1", "Labels": labels},
            "HostConfig": {"NetworkMode": "default"}, "NetworkSettings": {"Networks": {}},
        });
        inspect::read(document.to_string().as_bytes(), &Lens::default()).unwrap()
    }
}
