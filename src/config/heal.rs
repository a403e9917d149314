//! How failed containers are healed: the settings, and how they are read.

use std::fmt;
use std::time::Duration;

use reqwest::Url;

use super::Secret;
use super::build::{DAY, Sources};
use super::errors::ConfigError;
use super::parse::{self, Given};
use super::raw::Raw;

/// Less would be no pause at all, and more than a day is what `REMORA_HEAL=observe` is for.
const LEAST: Duration = Duration::from_secs(1);
/// Longer than any program takes between its end and the start by whoever ended it.
const SETTLE_MOST: Duration = Duration::from_secs(600);
/// Operations in a window, and slots of a cluster: more than anyone would call a brake.
const COUNT_MOST: usize = 1000;
/// Bytes of the prefix: leaves room for a node's and a container's name below Consul's limits.
const PREFIX_MOST: usize = 128;

/// How failed containers are healed.
#[derive(Debug, Clone, PartialEq)]
pub struct Heal {
    /// `REMORA_HEAL`.
    pub mode: HealMode,
    /// `REMORA_HEAL_DEFAULT`: which containers, when their labels do not say.
    pub default: HealDefault,
    /// `REMORA_HEAL_HOLDOFF`: after a start, and after Docker or Consul came back, only looked at for so long. 60 s.
    pub holdoff: Duration,
    /// `REMORA_HEAL_BUDGET`: so many operations on this node in so long.
    pub budget: Budget,
    /// `REMORA_HEAL_CORRELATION`: so many at once, and it is not the containers' fault.
    pub correlation: Correlation,
    /// `REMORA_HEAL_CLUSTER_MAX`: on so many nodes at once.
    pub cluster_max: ClusterMax,
    /// `REMORA_HEAL_WITHOUT_CONSUL`.
    pub without_consul: WithoutConsul,
    /// `REMORA_HEAL_WEBHOOK`: told of what happens.
    pub webhook: Option<Webhook>,
    /// `REMORA_KV_PREFIX`: where in Consul's KV our keys are; without slashes at its ends.
    pub prefix: String,
    /// `REMORA_HEAL_SETTLE`: a container that ended has to stay down for so long before anything is done. 5 s.
    pub settle: Duration,
    /// `REMORA_HEAL_ON_KILL`: what counts when the container's label does not say.
    pub on_kill: OnKill,
}

impl Default for Heal {
    fn default() -> Self {
        Self {
            mode: HealMode::On,
            default: HealDefault::Published,
            holdoff: Duration::from_secs(60),
            budget: Budget { operations: 6, window: Duration::from_secs(600) },
            correlation: Correlation { percent: 50, window: Duration::from_secs(60), minimum: 3 },
            cluster_max: ClusterMax::Percent(10),
            without_consul: WithoutConsul::Local,
            webhook: None,
            prefix: "remora".to_owned(),
            settle: Duration::from_secs(5),
            on_kill: OnKill::Heal,
        }
    }
}

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealMode {
    /// Failed containers are healed.
    On,
    /// What would be done is told, and not done.
    Observe,
    /// Nothing is looked at.
    Off,
}

/// Which containers are healed when their labels do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealDefault {
    /// Those that are published in Consul.
    Published,
    /// None.
    OptIn,
    /// All.
    All,
}

/// So many operations on a node in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// At most; at least 1.
    pub operations: usize,
    /// Within any such span.
    pub window: Duration,
}

/// When so many fail at once that the node is the suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correlation {
    /// This share of the watched containers, 1 to 100.
    pub percent: u8,
    /// Within such a span.
    pub window: Duration,
    /// And at least so many.
    pub minimum: usize,
}

/// On how many nodes of the cluster healing may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterMax {
    /// This share of them, 1 to 100; at least one.
    Percent(u8),
    /// So many.
    Count(usize),
}

impl ClusterMax {
    /// How many that are in a cluster of so many nodes: never none.
    #[must_use]
    pub const fn slots(self, nodes: usize) -> usize {
        let slots = match self {
            Self::Percent(percent) => nodes.saturating_mul(percent as usize) / 100,
            Self::Count(count) => count,
        };
        if slots == 0 { 1 } else { slots }
    }
}

/// What is done while Consul is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutConsul {
    /// This node goes on by itself, with a third of its budget.
    Local,
    /// Nothing.
    None,
}

/// What `docker kill` by somebody else means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnKill {
    /// A failure like any other.
    Heal,
    /// An operator's wish.
    Respect,
}

/// Where to tell what happens. Such URLs hold tokens: only scheme and host are ever shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The whole URL, `http` or `https`.
    pub url: Secret,
    /// `https://hooks.example.com`.
    pub shown: String,
}

/// Judges everything that concerns healing.
pub(super) fn build(raw: &Raw, from: &mut Sources<'_>) -> Heal {
    let default = Heal::default();
    let span = |given: Given<'_>| parse::duration(given, Duration::ZERO, DAY, "such as 60s");
    let settle = |given: Given<'_>| parse::duration(given, LEAST, SETTLE_MOST, "such as 5s");
    let webhook = from.read("REMORA_HEAL_WEBHOOK", raw.remora_heal_webhook.as_ref(), webhook);
    Heal {
        mode: from.read("REMORA_HEAL", raw.remora_heal.as_ref(), mode).unwrap_or(default.mode),
        default: from
            .word(
                "REMORA_HEAL_DEFAULT",
                raw.remora_heal_default.as_ref(),
                &[("published", HealDefault::Published), ("opt-in", HealDefault::OptIn), ("all", HealDefault::All)],
            )
            .unwrap_or(default.default),
        holdoff: from.read("REMORA_HEAL_HOLDOFF", raw.remora_heal_holdoff.as_ref(), span).unwrap_or(default.holdoff),
        budget: from.read("REMORA_HEAL_BUDGET", raw.remora_heal_budget.as_ref(), budget).unwrap_or(default.budget),
        correlation: from
            .read("REMORA_HEAL_CORRELATION", raw.remora_heal_correlation.as_ref(), correlation)
            .unwrap_or(default.correlation),
        cluster_max: from
            .read("REMORA_HEAL_CLUSTER_MAX", raw.remora_heal_cluster_max.as_ref(), cluster_max)
            .unwrap_or(default.cluster_max),
        without_consul: from
            .word(
                "REMORA_HEAL_WITHOUT_CONSUL",
                raw.remora_heal_without_consul.as_ref(),
                &[("local", WithoutConsul::Local), ("none", WithoutConsul::None)],
            )
            .unwrap_or(default.without_consul),
        webhook,
        prefix: from.read("REMORA_KV_PREFIX", raw.remora_kv_prefix.as_ref(), prefix).unwrap_or(default.prefix),
        settle: from.read("REMORA_HEAL_SETTLE", raw.remora_heal_settle.as_ref(), settle).unwrap_or(default.settle),
        on_kill: from
            .word(
                "REMORA_HEAL_ON_KILL",
                raw.remora_heal_on_kill.as_ref(),
                &[("heal", OnKill::Heal), ("respect", OnKill::Respect)],
            )
            .unwrap_or(default.on_kill),
    }
}

/// A switch with a third position, so that it takes the words of our other switches, too.
fn mode(given: Given<'_>) -> Result<HealMode, ConfigError> {
    if given.trimmed().eq_ignore_ascii_case("observe") {
        return Ok(HealMode::Observe);
    }
    let on = parse::boolean(given).map_err(|_| given.wrong("on, observe or off"))?;
    Ok(if on { HealMode::On } else { HealMode::Off })
}

/// A whole number from 1 to [`COUNT_MOST`], of digits only.
fn count(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|count| digits && (1..=COUNT_MOST).contains(count))
}

/// `50%`.
fn percent(text: &str) -> Option<u8> {
    let number = count(text.trim().strip_suffix('%')?)?;
    u8::try_from(number).ok().filter(|percent| *percent <= 100)
}

/// A window of time: more than a day is no brake any more.
fn window(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok().filter(|window| (LEAST..=DAY).contains(window))
}

fn budget(given: Given<'_>) -> Result<Budget, ConfigError> {
    let read = |text: &str| {
        let (operations, span) = text.split_once('/')?;
        Some(Budget { operations: count(operations)?, window: window(span)? })
    };
    read(given.trimmed()).ok_or_else(|| {
        given.wrong(format!("a number from 1 to {COUNT_MOST} in a duration from 1s to 1day, such as 6/10m"))
    })
}

fn correlation(given: Given<'_>) -> Result<Correlation, ConfigError> {
    let read = |text: &str| {
        let mut parts = text.split('/');
        let (share, span, least) = (parts.next()?, parts.next()?, parts.next()?);
        let found = Correlation { percent: percent(share)?, window: window(span)?, minimum: count(least)? };
        parts.next().is_none().then_some(found)
    };
    read(given.trimmed()).ok_or_else(|| {
        given.wrong(
            "a share from 1% to 100%, a duration from 1s to 1day and the least number of containers, such as 50%/60s/3",
        )
    })
}

fn cluster_max(given: Given<'_>) -> Result<ClusterMax, ConfigError> {
    let text = given.trimmed();
    let found = percent(text).map(ClusterMax::Percent).or_else(|| count(text).map(ClusterMax::Count));
    found.ok_or_else(|| {
        given.wrong(format!("a share of the nodes from 1% to 100%, or a number from 1 to {COUNT_MOST}, such as 10%"))
    })
}

fn webhook(given: Given<'_>) -> Result<Webhook, ConfigError> {
    let text = given.trimmed();
    let read = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let shown = format!("{}://{}{port}", url.scheme(), url.host_str()?);
        Some(Webhook { url: Secret::new(text), shown })
    };
    // A blank would be encoded, a line break left out: neither is what was meant.
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    read(text)
        .filter(|_| clean)
        .ok_or_else(|| given.wrong_secret("a URL with http:// or https://, such as https://hooks.example.com/T0/B0"))
}

fn prefix(given: Given<'_>) -> Result<String, ConfigError> {
    let text = given.trimmed().trim_matches('/');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(good);
    if text.len() > PREFIX_MOST || !text.split('/').all(segment) {
        return Err(given.wrong(format!(
            "letters, digits, -, _ and ., with slashes between, at most {PREFIX_MOST} bytes, such as remora"
        )));
    }
    Ok(text.to_owned())
}

impl fmt::Display for HealMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Observe => "observe",
            Self::Off => "off",
        })
    }
}

impl fmt::Display for HealDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::OptIn => "opt-in",
            Self::All => "all",
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.operations, humantime::format_duration(self.window))
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%/{}/{}", self.percent, humantime::format_duration(self.window), self.minimum)
    }
}

impl fmt::Display for ClusterMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

impl fmt::Display for WithoutConsul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::None => "none",
        })
    }
}

impl fmt::Display for OnKill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Heal => "heal",
            Self::Respect => "respect",
        })
    }
}

impl fmt::Display for Webhook {
    /// Without what is secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/(secret)", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given<'_> {
        Given { name: "NAME", text }
    }

    #[test]
    fn the_switch_has_three_positions() {
        for (text, expected) in
            [("on", HealMode::On), ("TRUE", HealMode::On), ("Observe", HealMode::Observe), (" no ", HealMode::Off)]
        {
            assert_eq!(mode(given(text)), Ok(expected), "{text}");
        }
        assert_eq!(mode(given("dry")).unwrap_err().to_string(), "NAME=dry: expected on, observe or off");
    }

    #[test]
    fn brakes_are_read_with_their_parts() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(budget(given(" 6 / 10m ")), Ok(Budget { operations: 6, window: minutes(10) }));
        assert_eq!(correlation(given("25%/2m/4")), Ok(Correlation { percent: 25, window: minutes(2), minimum: 4 }));
        assert_eq!(cluster_max(given("10%")), Ok(ClusterMax::Percent(10)));
        assert_eq!(cluster_max(given("3")), Ok(ClusterMax::Count(3)));
        for text in ["", "6", "6/", "/10m", "0/10m", "6/10", "6/2days", "+6/10m", "1001/10m", "6/10m/3", "-1/1m"] {
            assert!(budget(given(text)).is_err(), "{text}");
        }
        for text in ["50%/60s", "50/60s/3", "0%/60s/3", "101%/60s/3", "50%/60s/0", "50%/60s/3/4", "50%/60/3"] {
            assert!(correlation(given(text)).is_err(), "{text}");
        }
        for text in ["0", "0%", "101%", "%", "ten", "1.5", "-1"] {
            assert!(cluster_max(given(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn there_is_always_one_slot() {
        for (setting, nodes, slots) in [
            (ClusterMax::Percent(10), 0, 1),
            (ClusterMax::Percent(10), 9, 1),
            (ClusterMax::Percent(10), 25, 2),
            (ClusterMax::Percent(100), 7, 7),
            (ClusterMax::Count(2), 1, 2),
        ] {
            assert_eq!(setting.slots(nodes), slots, "{setting} of {nodes}");
        }
    }

    #[test]
    fn a_webhook_shows_its_host_only() {
        let hook = webhook(given("https://me:hunter2@hooks.example.com:8443/hunter2?x=hunter2#hunter2")).unwrap();
        assert_eq!(hook.to_string(), "https://hooks.example.com:8443/(secret)");
        assert!(!format!("{hook:?}").contains("hunter2"));
        assert!(hook.url.expose().contains("/hunter2?"));
        for text in ["hooks.example.com/hunter2", "ftp://h/hunter2", "https://", "https://h/hunter2 x", "hunter2"] {
            let error = webhook(given(text)).unwrap_err();
            assert!(!error.to_string().contains("hunter2") && error.to_string().contains("http"), "{error}");
        }
    }

    #[test]
    fn a_prefix_is_part_of_a_path() {
        assert_eq!(prefix(given("/teams/a.b/remora/")).as_deref(), Ok("teams/a.b/remora"));
        for text in ["/", "a//b", "a/../b", ".", "a b", "a%2f", "ü", &"x".repeat(129)] {
            assert!(prefix(given(text)).is_err(), "{text}");
        }
    }
}
