//! One small parser per type. Each takes a value together with the name under which it was given, so that its error names
//! both, and says what would be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tracing_subscriber::filter::Targets;

use super::errors::{ConfigError, hidden, shown, shown_address};
use super::nearest::nearest;
use super::{Filter, NetworkChoice};
use crate::template::Template;

/// A value that somebody set, and the variable or flag by which he set it.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// `REMORA_RESYNC`, or `-resync`.
    pub(super) name: &'a str,
    /// What it was set to, blanks included.
    pub(super) text: &'a str,
}

impl<'a> Given<'a> {
    /// The value without blanks at its ends: quotes in env files and line ends in secrets bring them in.
    pub(super) fn trimmed(self) -> &'a str {
        self.text.trim()
    }

    /// This value is wrong.
    pub(super) fn wrong(self, expected: impl Into<String>) -> ConfigError {
        self.error(shown(self.text), expected)
    }

    /// This value is wrong, and it must not be shown.
    pub(super) fn wrong_secret(self, expected: impl Into<String>) -> ConfigError {
        self.error(hidden(self.text), expected)
    }

    /// This address is wrong; it is shown without what could be a secret in it.
    pub(super) fn wrong_address(self, expected: impl Into<String>) -> ConfigError {
        self.error(shown_address(self.text), expected)
    }

    fn error(self, value: String, expected: impl Into<String>) -> ConfigError {
        ConfigError { name: self.name.to_owned(), value, expected: expected.into() }
    }
}

/// Our own switches, read strictly: a typing error must not count as true, nor as false.
pub(super) fn boolean(given: Given<'_>) -> Result<bool, ConfigError> {
    match given.trimmed().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(given.wrong("true or false (also 1, 0, yes, no, on, off)")),
    }
}

/// Consul's switches and registrator's flags: exactly the words of Go's `strconv.ParseBool`.
pub(super) fn go_boolean(given: Given<'_>) -> Result<bool, ConfigError> {
    match given.trimmed() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(given.wrong("true or false (also 1, 0, t, f)")),
    }
}

/// One of a few words, in any case.
pub(super) fn word<T: Copy>(given: Given<'_>, words: &[(&str, T)]) -> Result<T, ConfigError> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(given.trimmed()));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        given.wrong(words.join(" or "))
    })
}

/// A whole number between two bounds, both included.
pub(super) fn whole(given: Given<'_>, least: i64, most: i64) -> Result<i64, ConfigError> {
    let number = given.trimmed().parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| given.wrong(format!("a whole number from {least} to {most}")))
}

/// A duration between two bounds, both included; `example` ends the sentence about it.
pub(super) fn duration(
    given: Given<'_>,
    least: Duration,
    most: Duration,
    example: &str,
) -> Result<Duration, ConfigError> {
    let found = match given.trimmed() {
        // The one number that needs no unit, here as everywhere.
        "0" => Some(Duration::ZERO),
        text => humantime::parse_duration(text).ok(),
    };
    found.filter(|duration| (least..=most).contains(duration)).ok_or_else(|| {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        given.wrong(format!("a duration with its unit, from {least} to {most}, {example}"))
    })
}

/// The parts of a comma-separated list, without blanks at their ends and without empty ones; `\,` is a comma within a part,
/// as in registrator's tags.
pub(super) fn list(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, parts.last_mut()) {
            (',', _) => parts.push(String::new()),
            ('\\', Some(part)) if characters.peek() == Some(&',') => part.extend(characters.next()),
            (character, Some(part)) => part.push(character),
            // There is always a last part: the list begins with one and only grows.
            (_, None) => {}
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// What no name may hold: it would break a line of a log or of a list.
fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// The node's name. It begins every service id, whose parts are divided by `:`.
pub(super) fn node(given: Given<'_>) -> Result<String, ConfigError> {
    // 253: the longest host name that DNS can carry.
    let name = given.trimmed();
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | '\\' | ',');
    if name.is_empty() || name.len() > 253 || name.contains(forbidden) {
        return Err(given.wrong(
            "a host name of 1 to 253 bytes without blanks, colons, slashes and commas, such as node-1.example.com",
        ));
    }
    Ok(name.to_owned())
}

/// One name: of a label, of a namespace.
pub(super) fn name(given: Given<'_>, example: &str) -> Result<String, ConfigError> {
    let name = given.trimmed();
    let bad = name.is_empty() || has_control(name) || name.contains(char::is_whitespace);
    if bad { Err(given.wrong(format!("a name without blanks, such as {example}"))) } else { Ok(name.to_owned()) }
}

/// Where to listen; `None` for `off`. Only what can be decided without asking a name server.
pub(super) fn listen(given: Given<'_>) -> Result<Option<SocketAddr>, ConfigError> {
    let text = given.trimmed();
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let address = match text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
        // Every IPv4 address rather than `[::]`, which fails on hosts without IPv6.
        Some(port) => digits(port).map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        None => match text.strip_prefix("localhost:") {
            Some(port) => digits(port).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => text.parse().ok(),
        },
    };
    // Port 0 would be any free one, which `remora healthcheck` could not find.
    address.filter(|address| address.port() != 0).map(Some).ok_or_else(|| {
        given
            .wrong("an IP address with a port from 1 to 65535, :port for every address, or off, such as 127.0.0.1:7979")
    })
}

/// A port number: decimal digits only, not 0.
fn digits(text: &str) -> Option<u16> {
    let only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if only_digits { text.parse().ok().filter(|port| *port != 0) } else { None }
}

/// The filter of the log.
pub(super) fn log_filter(given: Given<'_>) -> Result<String, ConfigError> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let text = given.trimmed();
    let wrong = || given.wrong("error, warn, info, debug, trace or off, also per target, such as info,remora=debug");
    // A lone word that is no level is a target to `Targets`, and everything else falls silent: `inof` must not do that.
    let meant_a_level = |word: &str| {
        let level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        !level && (word.eq_ignore_ascii_case("warning") || nearest(word, LEVELS).is_some())
    };
    // Fields and spans in brackets are not for logs that have no spans.
    let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let filter = parts.join(",");
    let unusable = has_control(text) || text.contains(['[', ']']) || parts.into_iter().any(meant_a_level);
    if unusable || filter.parse::<Targets>().is_err() {
        return Err(wrong());
    }
    Ok(filter)
}

/// Tags for every service; only looked into when they are a template.
pub(super) fn tags(given: Given<'_>) -> Result<String, ConfigError> {
    let text = given.trimmed();
    if text.contains("{{") {
        Template::parse(text).map_err(|error| given.wrong(format!("a template that Remora can read: {error}")))?;
    } else if has_control(text) {
        return Err(given.wrong("comma-separated tags, such as production,rack-7"));
    }
    Ok(text.to_owned())
}

/// Which networks to choose, best first.
pub(super) fn networks(given: Given<'_>) -> Result<Vec<NetworkChoice>, ConfigError> {
    list(given.text)
        .into_iter()
        .map(|part| {
            let choice = match part.split_once('/') {
                Some((address, prefix)) => cidr(address, prefix),
                // An address alone is a range that somebody did not finish.
                None if part.parse::<IpAddr>().is_ok() || has_control(&part) => None,
                None => Some(NetworkChoice::Name(part)),
            };
            choice.ok_or_else(|| {
                given.wrong("names of networks (* for any characters) or ranges, such as backend,prod-*,10.20.0.0/16")
            })
        })
        .collect()
}

fn cidr(address: &str, prefix: &str) -> Option<NetworkChoice> {
    let address: IpAddr = address.trim().parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.trim();
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|prefix| digits && *prefix <= bits)?;
    Some(NetworkChoice::Cidr { address, prefix })
}

/// Conditions on containers.
pub(super) fn filters(given: Given<'_>) -> Result<Vec<Filter>, ConfigError> {
    list(given.text)
        .into_iter()
        .map(|part| {
            filter(&part).ok_or_else(|| {
                given.wrong(
                    "conditions such as label:key, label:key=value, name:web-*, image:nginx:*, network:backend or \
                     project:shop, with commas between",
                )
            })
        })
        .collect()
}

fn filter(text: &str) -> Option<Filter> {
    let (kind, pattern) = text.split_once(':')?;
    let pattern = pattern.trim();
    if pattern.is_empty() || has_control(pattern) {
        return None;
    }
    let owned = || pattern.to_owned();
    Some(match kind.trim() {
        "label" => match pattern.split_once('=') {
            Some(("", _)) => return None,
            Some((key, value)) => Filter::Label { key: key.to_owned(), value: Some(value.to_owned()) },
            None => Filter::Label { key: owned(), value: None },
        },
        "name" => Filter::Name(owned()),
        "image" => Filter::Image(owned()),
        "network" => Filter::Network(owned()),
        "project" => Filter::Project(owned()),
        _ => return None,
    })
}

/// A host and a port, as they stand in an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub(super) host: String,
    /// If there is one: 1..=65535.
    pub(super) port: Option<u16>,
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`. An IPv6 address without brackets is refused: nobody can tell whether its last
/// group is a port.
pub(super) fn endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let address: Ipv6Addr = inside.parse().ok()?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
        (format!("[{address}]"), port)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        // As Go dials it, which Consul's and Docker's own clients are written in: no host before a port is this one.
        let host = if host.is_empty() && port.is_some() { "127.0.0.1" } else { host };
        if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
            return None;
        }
        (host.to_owned(), port)
    };
    let port = match port {
        Some(port) => Some(digits(port)?),
        None => None,
    };
    Some(Endpoint { host, port })
}

impl Endpoint {
    /// Whether what is sent there stays on this host.
    pub(super) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        // RFC 6761, 6.3: `localhost` and every name under it.
        let name = bare.to_ascii_lowercase();
        let local = name == "localhost" || name.ends_with(".localhost");
        local || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given<'_> {
        Given { name: "NAME", text }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn our_switches_take_eight_words_in_any_case_and_nothing_else() {
        for (text, value) in [("true", true), ("YES", true), ("On", true), ("1", true), ("no", false), (" 0 ", false)] {
            assert_eq!(boolean(given(text)), Ok(value), "{text}");
        }
        for text in ["t", "2", "enabled", "truee"] {
            let error = boolean(given(text)).unwrap_err();
            assert_eq!(error.to_string(), format!("NAME={text}: expected true or false (also 1, 0, yes, no, on, off)"));
        }
    }

    #[test]
    fn consuls_switches_take_gos_words_and_nothing_else() {
        for (text, value) in [("1", true), ("t", true), ("True", true), ("F", false), ("FALSE", false)] {
            assert_eq!(go_boolean(given(text)), Ok(value), "{text}");
        }
        for text in ["yes", "on", "tRUE"] {
            assert!(go_boolean(given(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_keep_their_bounds() {
        let read = |text| duration(given(text), seconds(1), seconds(3600), "such as 30s");
        assert_eq!(read("1m30s"), Ok(seconds(90)));
        assert_eq!(read("1h"), Ok(seconds(3600)));
        for text in ["30", "0", "500ms", "61m", "10 parsecs", "-1s", "99999999999999999999y"] {
            let error = read(text).unwrap_err();
            assert_eq!(error.expected, "a duration with its unit, from 1s to 1h, such as 30s", "{text}");
        }
        assert_eq!(duration(given("0"), Duration::ZERO, seconds(1), ""), Ok(Duration::ZERO));
    }

    #[test]
    fn lists_are_trimmed_and_a_comma_can_be_escaped() {
        assert_eq!(list(" a, b ,,c\\,d,"), ["a", "b", "c,d"]);
        assert_eq!(list("\\"), ["\\"]);
        assert!(list(" , ").is_empty());
    }

    #[test]
    fn a_node_name_keeps_its_dots_and_holds_no_separator() {
        assert_eq!(node(given(" node-1.example.com ")).as_deref(), Ok("node-1.example.com"));
        for text in ["a b", "a:b", "a\u{0}", "a/b", &"n".repeat(254)] {
            assert!(node(given(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn listen_addresses_need_no_name_server() {
        let address = |text: &str| Ok(Some(text.parse().unwrap()));
        assert_eq!(listen(given("off")), Ok(None));
        assert_eq!(listen(given(":7979")), address("0.0.0.0:7979"));
        assert_eq!(listen(given("localhost:80")), address("127.0.0.1:80"));
        assert_eq!(listen(given("[::1]:80")), address("[::1]:80"));
        for text in ["7979", "host:80", "127.0.0.1", "127.0.0.1:0", ":0", ":+80", ":65536", "::1"] {
            assert!(listen(given(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mistyped_log_level_is_an_error_and_not_a_silent_log() {
        for text in ["info", "INFO", "info,remora=debug", "remora::docker=trace,warn", "hyper"] {
            assert_eq!(log_filter(given(text)).as_deref(), Ok(text));
        }
        for text in ["inof", "warning", "debg", "info,remora=loud", "[", "remora=debug,inf"] {
            assert!(log_filter(given(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_names_or_ranges() {
        assert_eq!(
            networks(given("backend, prod-*,10.0.0.0/8,fd00::/8")).unwrap(),
            [
                NetworkChoice::Name("backend".to_owned()),
                NetworkChoice::Name("prod-*".to_owned()),
                NetworkChoice::Cidr { address: "10.0.0.0".parse().unwrap(), prefix: 8 },
                NetworkChoice::Cidr { address: "fd00::".parse().unwrap(), prefix: 8 },
            ]
        );
        for text in ["10.0.0.0/33", "fd00::/129", "a/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.1", "a\u{7}"] {
            assert!(networks(given(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn filters_name_their_kind() {
        assert_eq!(
            filters(given("label:a.b, label:a=,label:a=b=c*,name:web-*,image:repo:5000/x:*,network:n,project:p"))
                .unwrap(),
            [
                Filter::Label { key: "a.b".to_owned(), value: None },
                Filter::Label { key: "a".to_owned(), value: Some(String::new()) },
                Filter::Label { key: "a".to_owned(), value: Some("b=c*".to_owned()) },
                Filter::Name("web-*".to_owned()),
                Filter::Image("repo:5000/x:*".to_owned()),
                Filter::Network("n".to_owned()),
                Filter::Project("p".to_owned()),
            ]
        );
        for text in ["web", "name:", "label:=x", "lable:x", "name:a\u{1}"] {
            assert!(filters(given(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn endpoints_are_names_or_addresses_with_an_optional_port() {
        let ok = |host: &str, port| Some(Endpoint { host: host.to_owned(), port });
        assert_eq!(endpoint("consul"), ok("consul", None));
        assert_eq!(endpoint("consul_1.local:8500"), ok("consul_1.local", Some(8500)));
        assert_eq!(endpoint("[::1]:8500"), ok("[::1]", Some(8500)));
        assert_eq!(endpoint("[::1]"), ok("[::1]", None));
        assert_eq!(endpoint(":8500"), ok("127.0.0.1", Some(8500)));
        for text in ["", ":", "a:", "a:b", "a:0", "a:+1", "a:65536", "::1", "[::1", "[x]", "[::1]8500", "a@b", "a b"] {
            assert_eq!(endpoint(text), None, "{text}");
        }
    }

    #[test]
    fn loopback_is_known_by_address_and_by_name() {
        for (text, loopback) in [
            ("127.0.0.2", true),
            ("[::1]", true),
            ("LocalHost", true),
            ("a.localhost", true),
            ("consul", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(endpoint(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
