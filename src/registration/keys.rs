//! The grammar of `SERVICE_*` keys: `SERVICE_[<port>[-<port>]_[TCP_|UDP_|SCTP_]]<OPTION>`, and of the options that ask for
//! checks: `CHECK_[<NAME>_]<METHOD or setting>`.

use crate::docker::{Port, Protocol};

/// What every key begins with, in exactly this spelling; what follows may be in any case.
pub(super) const PREFIX: &str = "SERVICE_";

/// What begins every option that is about checks, once in lower case.
pub(super) const CHECK: &str = "check_";

/// Options that mean something to Remora; with those about checks they never become meta. Any other is an attribute.
pub(super) const CONTROL: [&str; 9] =
    ["name", "id", "tags", "ignore", "alias", "enable_tag_override", "weight", "weights_passing", "weights_warning"];

/// Ways to check. A check without a name of its own has its method's name, so that all of them are registered (registrator took
/// the first of http, https, cmd, script, ttl, tcp, grpc). Where several ways are asked for under one other name, the first
/// of this list is taken: those that every operator allows come first.
pub(super) const METHODS: [&str; 8] = ["http", "https", "grpc", "tcp", "ttl", "script", "cmd", "docker"];

/// Settings of a check.
pub(super) const SETTINGS: [&str; 15] = [
    "interval",
    "timeout",
    "initial_status",
    "deregister_after",
    "method",
    "header",
    "body",
    "tls_skip_verify",
    "tls_server_name",
    "use_tls",
    "port",
    "notes",
    "success_before_passing",
    "failures_before_critical",
    "shell",
];

/// Whether an option is about Remora itself, and not an attribute.
pub(super) fn is_control(option: &str) -> bool {
    option == "check" || option.starts_with(CHECK) || CONTROL.contains(&option)
}

/// Which ports a key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// `first..=last`, of one protocol or of all.
    Ports {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
        /// `None`: any.
        protocol: Option<Protocol>,
    },
    /// All, and the container as a whole.
    Container,
}

impl Scope {
    /// Whether a key of this scope is about this port (`None`: a service without a port).
    pub(super) fn covers(self, port: Option<Port>) -> bool {
        match (self, port) {
            (Self::Container, _) => true,
            (Self::Ports { .. }, None) => false,
            (Self::Ports { first, last, protocol }, Some(port)) => {
                (first..=last).contains(&port.number) && protocol.is_none_or(|protocol| protocol == port.protocol)
            }
        }
    }

    /// The smaller, the more specific: fewer ports before more, one protocol before any, lower ports before higher.
    pub(super) fn rank(self) -> (u32, bool, u16) {
        match self {
            Self::Ports { first, last, protocol } => (u32::from(last.abs_diff(first)), protocol.is_none(), first),
            Self::Container => (u32::MAX, true, 0),
        }
    }

    /// Whether it is about exactly one port number.
    pub(super) fn is_one_port(self) -> bool {
        matches!(self, Self::Ports { first, last, .. } if first == last)
    }
}

/// A key, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Which ports it is about.
    pub scope: Scope,
    /// What it sets, in lower case.
    pub option: String,
}

/// Reads a key. `None`: not one of ours at all.
///
/// # Errors
/// What is wrong with it and what is expected.
pub(super) fn parse(name: &str) -> Option<Result<Key, &'static str>> {
    let rest = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    Some(read(&rest))
}

fn read(rest: &str) -> Result<Key, &'static str> {
    let whole = || Key { scope: Scope::Container, option: rest.to_owned() };
    let key = match rest.split_once('_') {
        Some((ports, option)) if is_port_part(ports) => {
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let number = |text: &str| text.parse::<u16>().ok().filter(|&number| number != 0);
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Err("is about no port: expected 1 to 65535");
            };
            if first > last {
                return Err("has a range of ports that ends before it begins: expected the lower port first");
            }
            let (protocol, option) = match option.split_once('_') {
                Some((word, option)) if protocol(word).is_some() => (protocol(word), option),
                _ => (None, option),
            };
            Key { scope: Scope::Ports { first, last, protocol }, option: option.to_owned() }
        }
        _ => whole(),
    };
    if key.option.is_empty() {
        Err("names nothing: expected SERVICE_NAME, SERVICE_80_TAGS or the like")
    } else {
        Ok(key)
    }
}

/// `80` or `80-90`.
fn is_port_part(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('-') {
        Some((first, last)) => digits(first) && digits(last),
        None => digits(text),
    }
}

/// Reads a protocol's name.
pub(super) fn protocol(word: &str) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.as_str() == word)
}

/// What an option that begins with `check_` is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckOption<'a> {
    /// It asks for a check: its name, and how to check.
    Method(&'a str, &'static str),
    /// It is a setting of the check of this name.
    Setting(&'a str),
    /// It is a setting of all checks.
    General,
}

/// Reads what follows `check_`. A name is of letters, digits and `-`, without `_`: so there is only one way to read a key.
pub(super) fn parse_check(rest: &str) -> Option<CheckOption<'_>> {
    if let Some(method) = METHODS.into_iter().find(|method| *method == rest) {
        return Some(CheckOption::Method(method, method));
    }
    if SETTINGS.contains(&rest) {
        return Some(CheckOption::General);
    }
    let (name, option) = rest.split_once('_')?;
    if !is_check_name(name) {
        return None;
    }
    let own = !METHODS.contains(&name);
    if let Some(method) = METHODS.into_iter().find(|method| own && *method == option) {
        return Some(CheckOption::Method(name, method));
    }
    let setting = METHODS
        .into_iter()
        .filter(|_| own)
        .find_map(|method| option.strip_prefix(method)?.strip_prefix('_'))
        .unwrap_or(option);
    SETTINGS.contains(&setting).then_some(CheckOption::Setting(name))
}

/// What stands for the method `docker` in a check's id: `<id>:docker` is the check that Docker feeds.
pub(super) const DOCKER_METHOD: &str = "exec";

/// Names that a check may have: letters, digits and `-`, at most 32 bytes, and none of the words that begin a setting or
/// stand in the id of a check for something else.
fn is_check_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 32
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name != DOCKER_METHOD
        && !SETTINGS.iter().any(|setting| setting.split('_').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> (Scope, String) {
        let key = parse(name).unwrap().unwrap();
        (key.scope, key.option)
    }

    fn ports(first: u16, last: u16, protocol: Option<Protocol>) -> Scope {
        Scope::Ports { first, last, protocol }
    }

    #[test]
    fn keys_are_read_with_port_range_and_protocol() {
        assert_eq!(key("SERVICE_NAME"), (Scope::Container, "name".into()));
        assert_eq!(key("SERVICE_80_Name"), (ports(80, 80, None), "name".into()));
        assert_eq!(key("SERVICE_53_UDP_NAME"), (ports(53, 53, Some(Protocol::Udp)), "name".into()));
        assert_eq!(key("SERVICE_10000-20000_IGNORE"), (ports(10000, 20000, None), "ignore".into()));
        assert_eq!(
            key("SERVICE_10000-20000_sctp_CHECK_TCP"),
            (ports(10000, 20000, Some(Protocol::Sctp)), "check_tcp".into())
        );
        assert_eq!(key("SERVICE_53_UDP"), (ports(53, 53, None), "udp".into()));
        assert_eq!(key("SERVICE_80"), (Scope::Container, "80".into()));
        assert_eq!(key("SERVICE_2FA_URL"), (Scope::Container, "2fa_url".into()));
    }

    #[test]
    fn only_the_exact_prefix_counts() {
        for name in ["service_NAME", "Service_NAME", "SERVICES_NAME", "SERVICE", "XSERVICE_NAME"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn bad_keys_say_what_is_expected() {
        for name in ["SERVICE_0_NAME", "SERVICE_65536_NAME", "SERVICE_90-80_NAME", "SERVICE_", "SERVICE_80_"] {
            assert!(parse(name).unwrap().unwrap_err().contains("expected"), "{name}");
        }
    }

    #[test]
    fn the_more_specific_key_ranks_first() {
        let order = [
            ports(80, 80, Some(Protocol::Tcp)),
            ports(80, 80, None),
            ports(80, 90, Some(Protocol::Tcp)),
            ports(80, 90, None),
            ports(1, 65535, None),
            Scope::Container,
        ];
        assert!(order.windows(2).all(|pair| pair[0].rank() < pair[1].rank()));
    }

    #[test]
    fn there_is_one_way_to_read_every_check_option() {
        use CheckOption::{General, Method, Setting};
        for (text, expected) in [
            ("http", Some(Method("http", "http"))),
            ("http_method", Some(Setting("http"))),
            ("https_interval", Some(Setting("https"))),
            ("grpc_use_tls", Some(Setting("grpc"))),
            ("interval", Some(General)),
            ("tls_skip_verify", Some(General)),
            ("initial_status", Some(General)),
            ("ready_http", Some(Method("ready", "http"))),
            ("2_tcp", Some(Method("2", "tcp"))),
            ("ready_interval", Some(Setting("ready"))),
            ("ready_http_method", Some(Setting("ready"))),
            ("ready_tls_server_name", Some(Setting("ready"))),
            ("tls_http", None),
            ("exec_http", None),
            ("exec_interval", None),
            ("http_http", None),
            ("http_tcp", None),
            ("docker_http", None),
            ("in_between_http", None),
            ("nonsense", None),
            ("_http", None),
            ("", None),
        ] {
            assert_eq!(parse_check(text), expected, "{text}");
        }
    }
}
