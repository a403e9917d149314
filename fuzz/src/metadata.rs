//! What a container's author can write: labels and environment, the ports and networks around them, and the operator's
//! settings. One line of the input per fact, so that a finding can be read (`label SERVICE_80_NAME=web`).

use std::collections::BTreeSet;
use std::time::Duration;

use litemap::LiteMap;
use remora::config::{Bindings, Deregister, HostAddress, Names, PortTags, Publish};
use remora::consul::{CheckKind, Service};
use remora::docker::{
    Binding, Container, ContainerId, EventTime, Health, HealthStatus, Life, NetworkMode, Port, Protocol, Sight, Signal,
    State,
};
use remora::heal::policy::policy;
use remora::registration::{Peers, Registration, Settings, Verdict, depends_on, left_out, register};

/// Nobody else, or one owner of a network stack.
pub struct Others(pub Vec<Sight>);

impl Peers for Others {
    fn find(&self, id_or_name: &str) -> Option<Sight> {
        let is_it = |sight: &&Sight| sight.container.name == id_or_name || sight.container.id.as_str() == id_or_name;
        self.0.iter().find(is_it).cloned()
    }

    fn is_gone(&self, id_or_name: &str) -> bool {
        id_or_name == "gone"
    }
}

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (container, settings, draining, settling) = read(&text);
    let sight = Sight { container: container.into(), draining, settling };
    let others = Others(vec![Sight { container: owner().into(), draining: false, settling: false }]);
    let registration = register(&sight, &others, &settings);
    check(&registration, &settings, &sight.container);
    assert_eq!(registration, register(&sight, &others, &settings), "the same input gives the same output");
    let facts = |text: &str| left_out(&read(text).0, &others, &settings);
    if let Some(why) = facts(&text) {
        assert!(is_shown(&why, 700), "{why:?}");
        assert!(matches!(registration.verdict, Verdict::Nothing(_)), "left out, and yet {:?}", registration.verdict);
    }
    assert!(depends_on(&sight.container).count() <= 2);
    turned(&text, &registration, &others);
    healing(&sight.container);
}

/// What is written in another order means the same.
fn turned(text: &str, registration: &Registration, others: &Others) {
    let mut keys = BTreeSet::new();
    let all_differ =
        text.split('\n').filter_map(|line| line.split_once('=')).all(|(key, _)| keys.insert(key.to_owned()));
    let is_pair = |line: &&str| line.starts_with("label ") || line.starts_with("env ");
    // Other lines are a sequence: of two bindings of a port the first one counts.
    let (pairs, rest): (Vec<&str>, Vec<&str>) = text.split('\n').partition(is_pair);
    if !all_differ {
        return;
    }
    let turned: Vec<&str> = rest.into_iter().chain(pairs.into_iter().rev()).collect();
    let (container, settings, draining, settling) = read(&turned.join("\n"));
    let sight = Sight { container: container.into(), draining, settling };
    assert_eq!(*registration, register(&sight, others, &settings), "the order of keys means something");
}

/// The labels about healing.
fn healing(container: &Container) {
    for published in [false, true] {
        let settings = remora::config::Heal::default();
        let (found, notes) = policy(container, &settings, published);
        assert!(notes.iter().all(|note| !note.about.is_empty() && is_shown(&note.about, 200)), "{notes:?}");
        assert!(notes.iter().all(|note| is_shown(&note.text, 700)), "{notes:?}");
        assert_eq!((found, notes), policy(container, &settings, published));
    }
}

/// One line of what a person may be shown.
pub fn is_shown(text: &str, longest: usize) -> bool {
    text.len() <= longest && !text.chars().any(char::is_control)
}

/// What Consul would refuse, take in a wrong way, or show in a way that harms.
pub fn check(registration: &Registration, settings: &Settings, container: &Container) {
    assert!(registration.notes.len() <= 60);
    for note in &registration.notes {
        assert!(!note.about.is_empty() && !note.text.is_empty(), "{note:?}");
        assert!(is_shown(&note.about, 200) && is_shown(&note.text, 700), "{note:?}");
    }
    let planned = match &registration.verdict {
        Verdict::Services(planned) => planned,
        Verdict::Nothing(why) | Verdict::Wait { reason: why, .. } => {
            return assert!(!why.is_empty() && is_shown(why, 5000), "{why:?}");
        }
        Verdict::Hold { output, .. } => return assert!(!output.is_empty() && is_shown(output, 5000), "{output:?}"),
    };
    assert!(!planned.is_empty() && planned.len() <= settings.publish.max_ports);
    let (mut ids, mut check_ids) = (BTreeSet::new(), BTreeSet::new());
    for planned in planned {
        let service = &planned.service;
        assert!(ids.insert(service.id.to_lowercase()), "id {} twice", service.id);
        assert!(!service.id.is_empty() && is_shown(&service.id, 1024), "{:?}", service.id);
        assert!(!service.name.is_empty() && is_shown(&service.name, 300), "{:?}", service.name);
        assert!(settings.publish.names == Names::Keep || is_dns_label(&service.name), "{:?}", service.name);
        if service.address.parse::<std::net::IpAddr>().is_err() {
            assert!(service.tagged_addresses.is_empty() && service.address == "host.example.com", "{service:?}");
        }
        assert!(service.tags.iter().all(|tag| !tag.is_empty() && is_shown(tag, 1024)), "{:?}", service.tags);
        assert_eq!(service.tags.iter().collect::<BTreeSet<_>>().len(), service.tags.len(), "a tag twice");
        meta(service, settings, container);
        assert!(service.weights.is_none_or(|weights| weights.passing > 0 && weights.warning > 0));
        assert_eq!(service.checks[0].id, format!("{}:docker", service.id));
        for check in &service.checks {
            assert!(check_ids.insert(check.id.to_lowercase()), "check {} twice", check.id);
            let end = check.id.strip_prefix(&*service.id).is_some_and(|end| end.starts_with(':'));
            assert!(end || check.id == format!("service:{}", service.id), "{}", check.id);
            for text in [&*check.id, &*check.name, &*check.notes, &*check.output] {
                assert!(is_shown(text, 5000), "{text:?}");
            }
            kind(&check.kind, &service.address, settings);
        }
        assert!(["id", "name", "address", "port"].iter().all(|field| planned.reasons.contains_key(field)));
    }
}

fn meta(service: &Service, settings: &Settings, container: &Container) {
    let meta = &service.meta;
    assert!(meta.len() <= 64);
    for (key, value) in meta.iter() {
        assert!((1..=128).contains(&key.len()) && is_shown(value, 512), "{key}: {value:?}");
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'), "{key}");
        assert!(!key.starts_with("consul-"), "{key}");
    }
    let of = |key: &str| meta.get(key).unwrap_or_default();
    assert_eq!(of(Service::META_HASH), service.definition_hash());
    assert_eq!(of(Service::META_OWNER), "remora");
    assert_eq!(of(Service::META_NODE), settings.node);
    assert_eq!(of(Service::META_ENGINE), settings.engine);
    if is_shown(container.id.as_str(), 512) && container.id.as_str().trim() == container.id.as_str() {
        assert_eq!(of(Service::META_CONTAINER), container.id.as_str());
    }
}

/// Host and port of every probe are the instance's own: a label can choose neither the host nor a second request.
fn kind(kind: &CheckKind, address: &str, settings: &Settings) {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    match kind {
        CheckKind::Ttl { ttl } => assert!(!ttl.is_zero()),
        CheckKind::Http { url, method, headers, probe, .. } => {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap();
            let (authority, _) = rest.split_once('/').unwrap();
            let (actual, port) = authority.rsplit_once(':').unwrap();
            assert!(actual == host && port.parse::<u16>().unwrap() != 0, "{url}");
            assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url}");
            assert!(method.iter().all(|method| method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')));
            let plain = |text: &str| is_shown(text, usize::MAX);
            assert!(headers.iter().all(|(name, values)| plain(name) && values.iter().all(|value| plain(value))));
            assert!(probe.interval.as_secs() >= 1 && probe.timeout.is_none_or(|timeout| !timeout.is_zero()));
        }
        CheckKind::Tcp { address, probe } => {
            assert!(address.starts_with(&format!("{host}:")) && probe.interval.as_secs() >= 1, "{address}");
        }
        CheckKind::Grpc { target, .. } => assert!(target.starts_with(&format!("{host}:")), "{target}"),
        CheckKind::Script { args, .. } => assert!(settings.publish.allow_script_checks && !args.is_empty()),
    }
}

/// Lower-case letters, digits and `-`, a letter or digit at both ends, at most 63 bytes.
fn is_dns_label(name: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
}

/// Everything else as it is by default.
pub fn settings() -> Settings {
    let address = HostAddress { v4: Some([192, 0, 2, 10].into()), ..HostAddress::default() };
    Settings {
        node: "node-1".to_owned(),
        engine: "ENGINE:ID".to_owned(),
        publish: Publish { address, max_ports: 50, ..Publish::default() },
        health_ttl: None,
    }
}

/// A running container without anything.
pub fn bare(name: &str) -> Container {
    Container {
        id: ContainerId::new("cd".repeat(32)),
        name: name.into(),
        image: "repo/app:1".into(),
        image_id: format!("sha256:{}", "cd".repeat(32)).into(),
        created: EventTime::parse("2026-01-01T00:00:00Z"),
        started_at: EventTime::parse("2026-01-01T00:00:01Z"),
        finished_at: None,
        state: State::Running,
        exit_code: 0,
        oom_killed: false,
        restart_count: 0,
        health: None,
        labels: LiteMap::new(),
        service_env: LiteMap::new(),
        network_mode: NetworkMode::Bridge,
        networks: LiteMap::new(),
        exposed: LiteMap::new(),
        bindings: LiteMap::new(),
        stop_signal: Signal::TERM,
        stop_timeout: Duration::from_secs(10),
        life: Life::default(),
        rendered_tags: None,
    }
}

fn owner() -> Container {
    let mut owner = Container { id: ContainerId::new("ef".repeat(32)), ..bare("owner") };
    for (text, host_port) in [("80", 8080), ("53/udp", 53)] {
        bind(&mut owner, port(text), "0.0.0.0", host_port);
    }
    owner
}

fn bind(container: &mut Container, port: Option<Port>, address: &str, host_port: u16) {
    let (Some(port), Ok(host_ip)) = (port, address.parse()) else { return };
    if host_port != 0 {
        container.exposed.insert(port, ());
        let bindings = container.bindings.entry(port).or_default();
        *bindings = bindings.iter().copied().chain([Binding { host_ip, host_port }]).collect();
    }
}

fn port(text: &str) -> Option<Port> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|one| one.as_str() == protocol)?;
    let number = number.parse().ok().filter(|&number| number != 0)?;
    Some(Port { number, protocol })
}

/// Reads an input; a line that means nothing is passed over.
fn read(text: &str) -> (Container, Settings, bool, bool) {
    let (mut container, mut settings) = (bare("web"), settings());
    let (mut draining, mut settling) = (false, false);
    for line in text.split('\n') {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        match (word, &words[..]) {
            ("label", _) => {
                drop(rest.split_once('=').map(|(k, v)| container.labels.insert(k.into(), v.replace('␤', "\n").into())))
            }
            ("env", _) => {
                let pair = rest.split_once('=').filter(|(key, _)| key.starts_with("SERVICE_"));
                drop(pair.map(|(key, value)| container.service_env.insert(key.into(), value.into())));
            }
            ("port", [text, address, number]) => {
                bind(&mut container, port(text), address, number.parse().unwrap_or(0));
            }
            ("expose", [text, ..]) => container.exposed.extend(port(text).map(|port| (port, ()))),
            ("net", [name, address, ..]) => {
                let endpoint = container.networks.entry((*name).into()).or_default();
                match address.parse() {
                    Ok(std::net::IpAddr::V4(v4)) => endpoint.ipv4 = Some(v4),
                    Ok(std::net::IpAddr::V6(v6)) => endpoint.ipv6 = Some(v6),
                    Err(_) => {}
                }
            }
            ("mode", ["host"]) => container.network_mode = NetworkMode::Host,
            ("mode", ["none"]) => container.network_mode = NetworkMode::None,
            ("mode", ["container", owner]) => container.network_mode = NetworkMode::Container((*owner).into()),
            ("mode", [name, ..]) => container.network_mode = NetworkMode::Named((*name).into()),
            ("image", _) => container.image = rest.into(),
            ("name", _) => container.name = rest.into(),
            ("tags", _) => settings.publish.tags = Some(rest.to_owned()),
            ("state", [state, code @ ..]) => {
                container.state = state_of(state);
                container.exit_code = code.first().and_then(|code| code.parse().ok()).unwrap_or(0);
            }
            ("health", [status, output @ ..]) => container.health = Some(Box::new(health(status, &output.join(" ")))),
            ("set", words) => words.iter().for_each(|word| set(word, &mut settings, &mut draining, &mut settling)),
            _ => {}
        }
    }
    (container, settings, draining, settling)
}

fn state_of(word: &str) -> State {
    match word {
        "created" => State::Created,
        "running" => State::Running,
        "paused" => State::Paused,
        "restarting" => State::Restarting,
        "removing" => State::Removing,
        "exited" => State::Exited,
        "dead" => State::Dead,
        other => State::Unknown(other.into()),
    }
}

fn health(status: &str, output: &str) -> Health {
    let status = match status {
        "starting" => HealthStatus::Starting,
        "healthy" => HealthStatus::Healthy,
        "unhealthy" => HealthStatus::Unhealthy,
        _ => HealthStatus::Unknown,
    };
    Health { status, failing_streak: 1, exit_code: Some(1), output: output.into() }
}

fn set(word: &str, settings: &mut Settings, draining: &mut bool, settling: &mut bool) {
    let publish = &mut settings.publish;
    match word {
        "internal" => publish.internal = true,
        "explicit" => publish.explicit = true,
        "loose" => publish.loose_booleans = true,
        "scripts" => publish.allow_script_checks = true,
        "dns" => publish.names = Names::Dns,
        "first" => publish.bindings = Bindings::First,
        "replace" => publish.port_tags = PortTags::Replace,
        "few" => publish.max_ports = 2,
        "on-success" => publish.deregister = Deregister::OnSuccess,
        "label-address" => publish.use_ip_from_label = Some("address".to_owned()),
        "v6" => publish.address.v6 = Some("2001:db8::10".parse().unwrap()),
        "hostname" => {
            publish.address = HostAddress { name: Some("host.example.com".to_owned()), ..HostAddress::default() };
        }
        "ttl" => settings.health_ttl = Some(Duration::from_secs(60)),
        "draining" => *draining = true,
        "settling" => *settling = true,
        _ => {}
    }
}

/// How many inputs of a corpus register something: a corpus of inputs that mean nothing proves nothing.
pub fn registers(data: &[u8]) -> bool {
    let (container, settings, draining, settling) = read(&String::from_utf8_lossy(data));
    let sight = Sight { container: container.into(), draining, settling };
    matches!(register(&sight, &Others(Vec::new()), &settings).verdict, Verdict::Services(_))
}
