//! What may be done to a container: its labels and the agent's settings → [`Policy`]. Pure.
//!
//! Labels are written by whoever may start a container, and are read with that in mind: a value that is not understood never
//! switches anything on, but makes [`Strategy::Notify`] of the whole policy, and is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::labels::{self, LABELS, OPERATION_LABELS, PREFIX};
use super::managed::Managed;
use crate::config::{Heal, HealDefault, HealMode, OnKill, nearest};
use crate::docker::Container;
use crate::registration::Note;
use crate::registration::values::{boolean, duration, head, list, one_line, quoted};

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
/// Notes about labels that nobody knows: enough to see what is wrong.
const UNKNOWN_LIMIT: usize = 20;

/// The rhythm of a container's HEALTHCHECK, as Docker's inspect has it: 0 stands for Docker's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTimes {
    /// Between two probes.
    pub interval: Duration,
    /// What one may take.
    pub timeout: Duration,
    /// In which failures do not count.
    pub start_period: Duration,
    /// So many failures in a row are unhealthy.
    pub retries: u32,
}

impl ProbeTimes {
    /// With Docker's defaults (30 s, 30 s, 3) in the place of zeros.
    fn in_force(self) -> Self {
        let or = |span: Duration| if span.is_zero() { Duration::from_secs(30) } else { span };
        let retries = if self.retries == 0 { 3 } else { self.retries };
        Self { interval: or(self.interval), timeout: or(self.timeout), retries, ..self }
    }
}

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

/// In which order a replacement goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Start-first where the two can run side by side.
    Auto,
    /// The new one first.
    StartFirst,
    /// The old one first.
    StopFirst,
}

impl Order {
    /// The word of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::StartFirst => "start-first",
            Self::StopFirst => "stop-first",
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
    /// In which order.
    pub order: Order,
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

    /// Between its deregistration and its stop. Whoever stops first is down anyway: waiting would only make that longer.
    #[must_use]
    pub fn drain(&self, start_first: bool) -> Duration {
        self.drain.unwrap_or(if start_first { 5 * SECOND } else { Duration::ZERO })
    }
}

/// The policy of a container, and what the author of its labels should know. `published`: it has a registration in Consul.
#[must_use]
pub fn policy(
    container: &Container,
    probe: Option<ProbeTimes>,
    settings: &Heal,
    published: bool,
) -> (Policy, Vec<Note>) {
    let mut from = Reader { labels: &container.labels, notes: Vec::new(), bad: false };
    let probe = probe.map(ProbeTimes::in_force);
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
        order: from
            .word(
                labels::ORDER,
                &[Order::Auto, Order::StartFirst, Order::StopFirst].map(|order| (order.as_str(), order)),
            )
            .unwrap_or(Order::Auto),
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
        keep_failed: from.count(labels::KEEP_FAILED, 0, 10).unwrap_or(1),
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

/// Reads labels, and writes down what is wrong with them.
struct Reader<'a> {
    labels: &'a BTreeMap<String, String>,
    notes: Vec<Note>,
    /// A value was not understood.
    bad: bool,
}

impl Reader<'_> {
    /// Whether the label says anything: Compose files make an empty one of `${NAME:-}`.
    fn has(&self, name: &str) -> bool {
        self.labels.get(name).is_some_and(|value| !value.trim().is_empty())
    }

    fn read<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let expected = labels::find(name).map_or("another value", |label| label.values);
        self.read_alias(name, expected, parse)
    }

    fn read_alias<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.labels.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())?;
        let found = parse(value);
        if found.is_none() {
            let value = quoted(value);
            self.bad = true;
            self.notes.push(Note {
                about: name.to_owned(),
                text: format!(
                    "{value} is not understood, so that nothing is done about this container, only told: expected {expected}"
                ),
                warning: true,
            });
        }
        found
    }

    fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.read(name, |text| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, it)| *it))
    }

    /// Off unless set.
    fn switch(&mut self, name: &'static str) -> bool {
        self.read(name, |text| boolean(text, false)).unwrap_or(false)
    }

    fn count(&mut self, name: &'static str, least: usize, most: usize) -> Option<usize> {
        self.read(name, |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && (least..=most).contains(number))
        })
    }

    fn span(&mut self, name: &'static str, least: Duration, most: Duration) -> Option<Duration> {
        self.read(name, |text| span(text, least, most))
    }

    /// Our own label, or the one of docker-autoheal, which is in seconds.
    fn stop_timeout(&mut self) -> Option<Duration> {
        if self.has(labels::STOP_TIMEOUT) {
            return self.span(labels::STOP_TIMEOUT, Duration::ZERO, DAY);
        }
        self.read_alias(labels::AUTOHEAL_STOP_TIMEOUT, "a whole number of seconds, such as 10", |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let seconds = text.parse().ok().filter(|_| digits).map(Duration::from_secs);
            seconds.filter(|timeout| *timeout <= DAY)
        })
    }

    /// Tells of labels that nobody knows. They change nothing.
    fn unknown(&mut self) {
        let labels = self.labels;
        let ours = labels.keys().filter(|key| key.starts_with(PREFIX));
        let unknown = ours.filter(|key| labels::find(key).is_none() && !OPERATION_LABELS.contains(&key.as_str()));
        for key in unknown.take(UNKNOWN_LIMIT) {
            let word = key.strip_prefix(PREFIX).unwrap_or(key);
            let known = match word {
                // As half of all such labels in the world are called.
                "enable" | "enabled" => Some(labels::HEAL.to_owned()),
                // Without what all of them have in common, which would make them all alike.
                _ => nearest(word, LABELS.iter().filter_map(|label| label.name.strip_prefix(PREFIX)))
                    .map(|known| format!("{PREFIX}{known}")),
            };
            let hint = known.map_or(String::new(), |known| format!("; did you mean {known}?"));
            self.notes.push(Note {
                about: head(&one_line(key), 200).to_owned(),
                text: format!("Remora knows no such label{hint}"),
                warning: true,
            });
        }
    }
}

/// A duration as Go writes it, as in every label; zero needs no unit.
fn span(text: &str, least: Duration, most: Duration) -> Option<Duration> {
    let found = if text == "0" { Some(Duration::ZERO) } else { duration(text) };
    found.filter(|span| (least..=most).contains(span))
}

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

#[cfg(test)]
mod tests {
    // `Strategy` is another thing there.
    use proptest::prelude::{any, prop, prop_assert, prop_oneof, proptest};

    use super::testing::container;
    use super::*;
    use HealDefault::{All, OptIn, Published};

    fn read(labels: &[(&str, &str)]) -> (Policy, Vec<Note>) {
        policy(&container("web", labels), None, &Heal::default(), true)
    }

    fn good(labels: &[(&str, &str)]) -> Policy {
        let (policy, notes) = read(labels);
        assert_eq!(notes, [], "{labels:?}");
        policy
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn without_labels_the_defaults_count() {
        let policy = good(&[]);
        assert_eq!(policy.applies, Applies::On);
        let triggers: Vec<_> = policy.triggers.iter().map(|trigger| trigger.as_str()).collect();
        assert_eq!(triggers.join(","), labels::find(labels::TRIGGERS).unwrap().default);
        assert_eq!((policy.strategy, policy.order), (Strategy::Replace, Order::Auto));
        assert_eq!((policy.grace, policy.unhealthy_for, policy.critical_for), (seconds(30), seconds(15), seconds(60)));
        assert_eq!((policy.start_deadline, policy.verify_timeout), (seconds(300), seconds(60)));
        assert_eq!((policy.settle, policy.stop_timeout), (seconds(5), seconds(10)));
        assert_eq!((policy.drain(true), policy.drain(false)), (seconds(5), Duration::ZERO));
        assert!(policy.heals_killed && !policy.heals_exit_zero && !policy.heals_unknown);
    }

    /// A value for every label that is not its default.
    const EXAMPLES: [(&str, &str); 26] = [
        (labels::MAC, "02:42:AC:11:00:02"),
        (labels::HEAL, "observe"),
        (labels::TRIGGERS, "died, Critical"),
        (labels::STRATEGY, "escalate"),
        (labels::ORDER, "stop-first"),
        (labels::GRACE, "1m30s"),
        (labels::UNHEALTHY_FOR, "0"),
        (labels::CRITICAL_FOR, "2m"),
        (labels::STOP_TIMEOUT, "25s"),
        (labels::DRAIN, "7s"),
        (labels::VERIFY_TIMEOUT, "20m"),
        (labels::MIN_HEALTHY, "0s"),
        (labels::START_DEADLINE, "1h"),
        (labels::MAX_ATTEMPTS, "3"),
        (labels::WINDOW, "1h"),
        (labels::BACKOFF, "1.5s..2m"),
        (labels::ON_FAILURE, "keep-new"),
        (labels::KEEP_FAILED, "0"),
        (labels::ON_KILL, "respect"),
        (labels::ON_EXIT_ZERO, "yes"),
        (labels::ON_UNKNOWN, "heal"),
        (labels::VOLUMES, "refuse"),
        (labels::PIN_PORTS, "true"),
        (labels::SHAREABLE, "1"),
        (labels::MIN_AVAILABLE, "2"),
        (labels::PRE_STOP, "nginx -s  quit; $(x)"),
    ];

    #[test]
    fn every_label_of_the_table_changes_something_and_nothing_is_done_when_it_is_not_understood() {
        assert_eq!(LABELS.len(), EXAMPLES.len());
        for (name, value) in EXAMPLES {
            assert!(labels::find(name).is_some(), "{name}");
            assert_ne!(good(&[(name, value)]), good(&[]), "{name}={value}");
            assert_eq!(good(&[(name, " ")]), good(&[]), "an empty {name}");
            let bad = if name == labels::PRE_STOP { "x".repeat(4097) } else { "n\u{f6}nsense".to_owned() };
            let (policy, notes) = read(&[(name, &bad)]);
            assert_eq!(policy.strategy, Strategy::Notify, "{name}");
            let [note] = notes.as_slice() else { panic!("{name}: {notes:?}") };
            assert_eq!((note.about.as_str(), note.warning), (name, true));
            assert!(note.text.contains(labels::find(name).unwrap().values), "{note:?}");
            assert!(note.text.starts_with(&quoted(&bad)), "{note:?}");
        }
    }

    #[test]
    fn every_default_of_the_table_is_the_default_of_the_code() {
        for label in LABELS.iter().filter(|label| !label.default.contains([' ', '`'])) {
            assert_eq!(good(&[(label.name, label.default)]), good(&[]), "{}", label.name);
        }
    }

    #[test]
    fn bounds_are_kept() {
        for (name, value) in [
            (labels::GRACE, "25h"),
            (labels::GRACE, "30"),
            (labels::GRACE, "-1s"),
            (labels::DRAIN, "2h"),
            (labels::VERIFY_TIMEOUT, "0"),
            (labels::MAX_ATTEMPTS, "0"),
            (labels::MAX_ATTEMPTS, "51"),
            (labels::MAX_ATTEMPTS, "+5"),
            (labels::WINDOW, "30s"),
            (labels::BACKOFF, "5m..10s"),
            (labels::BACKOFF, "10s"),
            (labels::BACKOFF, "0s..5m"),
            (labels::MAC, "02:42:ac:11:00"),
            (labels::MAC, "02-42-ac-11-00-02"),
            (labels::TRIGGERS, ","),
            (labels::TRIGGERS, "died,destroyed"),
            (labels::STRATEGY, "replace,restart"),
        ] {
            assert_eq!(read(&[(name, value)]).0.strategy, Strategy::Notify, "{name}={value}");
        }
    }

    #[test]
    fn the_rhythm_of_the_healthcheck_makes_the_defaults_longer() {
        let times = |probe: ProbeTimes| {
            let (policy, _) = policy(&container("web", &[]), Some(probe), &Heal::default(), true);
            (policy.grace, policy.verify_timeout, policy.start_deadline)
        };
        let probe = ProbeTimes { interval: seconds(20), timeout: seconds(10), start_period: seconds(60), retries: 5 };
        assert_eq!(times(probe), (seconds(160), seconds(260), seconds(360)));
        // Docker's defaults: 30 s, 30 s, 3.
        let bare = ProbeTimes { interval: seconds(0), timeout: seconds(0), start_period: seconds(0), retries: 0 };
        assert_eq!(times(bare), (seconds(90), seconds(180), seconds(360)));
        let endless = ProbeTimes { interval: Duration::MAX, timeout: Duration::MAX, retries: u32::MAX, ..probe };
        assert_eq!(times(endless), (DAY, seconds(600), DAY));
    }

    #[test]
    fn whether_it_applies_is_decided_by_operator_manager_label_and_default() {
        let applies = |mode, default, published, labels: &[(&str, &str)]| {
            let settings = Heal { mode, default, ..Heal::default() };
            policy(&container("web", labels), None, &settings, published).0.applies
        };
        let on = [("remora.heal", "on")];
        let off = [("remora.heal", "No")];
        let is_off = |applies: Applies, why: &str| matches!(applies, Applies::Off(said) if said.contains(why));
        assert_eq!(applies(HealMode::On, Published, true, &[]), Applies::On);
        assert_eq!(applies(HealMode::On, All, false, &[]), Applies::On);
        assert_eq!(applies(HealMode::On, OptIn, true, &on), Applies::On);
        assert_eq!(applies(HealMode::On, Published, false, &on), Applies::On);
        assert_eq!(applies(HealMode::Observe, Published, true, &on), Applies::Observe);
        assert_eq!(applies(HealMode::On, OptIn, false, &[("remora.heal", "observe")]), Applies::Observe);
        assert!(is_off(applies(HealMode::Off, All, true, &on), "REMORA_HEAL=off"));
        assert!(is_off(applies(HealMode::On, Published, false, &[]), "not published"));
        assert!(is_off(applies(HealMode::On, OptIn, true, &[]), "opt-in"));
        assert!(is_off(applies(HealMode::On, All, true, &off), "remora.heal=off"));
        let swarm = [("remora.heal", "on"), ("com.docker.swarm.task.id", "x")];
        assert!(is_off(applies(HealMode::On, All, true, &swarm), "Swarm"));
    }

    #[test]
    fn a_switch_that_is_not_understood_switches_nothing_on() {
        let opt_in = Heal { default: HealDefault::OptIn, ..Heal::default() };
        let (policy, _) = policy(&container("web", &[("remora.heal", "onn")]), None, &opt_in, true);
        assert!(matches!(policy.applies, Applies::Off(_)), "{policy:?}");
        assert_eq!(read(&[("remora.heal", "offf")]).0.strategy, Strategy::Notify);
    }

    #[test]
    fn labels_of_autoheal_count_where_ours_say_nothing() {
        assert!(matches!(good(&[("autoheal", "false")]).applies, Applies::Off(why) if why == "autoheal=off (label)"));
        assert_eq!(good(&[("autoheal", "false"), ("remora.heal", "on")]).applies, Applies::On);
        assert_eq!(good(&[("autoheal", "nonsense"), ("remora.heal", "on")]).applies, Applies::On);
        assert_eq!(good(&[("autoheal.stop.timeout", "20")]).stop_timeout, seconds(20));
        let both = [("autoheal.stop.timeout", "20"), (labels::STOP_TIMEOUT, "7s")];
        assert_eq!(good(&both).stop_timeout, seconds(7));
        let (policy, notes) = read(&[("autoheal", "maybe"), ("autoheal.stop.timeout", "20s")]);
        assert_eq!((policy.strategy, notes.len()), (Strategy::Notify, 2));
    }

    #[test]
    fn a_command_is_words_without_a_shell() {
        assert_eq!(good(&[(labels::PRE_STOP, " nginx -s  quit; $(x)")]).pre_stop, ["nginx", "-s", "quit;", "$(x)"]);
    }

    #[test]
    fn unknown_labels_are_told_with_the_nearest_name_and_change_nothing() {
        let (policy, notes) = read(&[
            ("remora.heal.stratgy", "stop"),
            ("remora.heal.xyz", "1"),
            ("remora.enable", "1"),
            ("remora.heal.enabled", "0"),
        ]);
        assert_eq!(policy, good(&[]));
        let told: Vec<_> = notes.iter().map(|note| (note.about.as_str(), note.text.as_str())).collect();
        assert_eq!(
            told,
            [
                ("remora.heal.enabled", "Remora knows no such label; did you mean remora.heal?"),
                ("remora.heal.stratgy", "Remora knows no such label; did you mean remora.heal.strategy?"),
                ("remora.heal.xyz", "Remora knows no such label"),
            ]
        );
        for name in OPERATION_LABELS {
            assert_eq!(good(&[(name, "x")]), good(&[]), "{name}");
        }
        let many: Vec<String> = (0..1000).map(|number| format!("remora.heal.unknown-{number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        assert_eq!(read(&many).1.len(), UNKNOWN_LIMIT);
    }

    proptest! {
        #[test]
        fn no_value_of_any_label_switches_on_what_is_off_or_makes_a_wild_policy(
            values in prop::collection::vec(prop_oneof![any::<String>(), "[0-9.a-z]{0,8}"], EXAMPLES.len()),
        ) {
            let labels: Vec<(&str, &str)> =
                EXAMPLES.iter().zip(&values).map(|((name, _), value)| (*name, value.as_str())).collect();
            let off = Heal { mode: HealMode::Off, ..Heal::default() };
            let (policy, notes) = policy(&container("web", &labels), None, &off, true);
            prop_assert!(matches!(policy.applies, Applies::Off(_)));
            prop_assert!((1..=50).contains(&policy.max_attempts) && policy.backoff.0 <= policy.backoff.1);
            for span in [policy.grace, policy.window, policy.verify_timeout, policy.stop_timeout, policy.backoff.1] {
                prop_assert!(span <= DAY);
            }
            prop_assert!(notes.is_empty() || policy.strategy == Strategy::Notify);
            for note in notes {
                prop_assert!(!note.text.contains('\n') && note.text.len() < 400, "{:?}", note);
            }
        }
    }
}
