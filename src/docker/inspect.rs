//! Reads one inspect document into a [`Container`]. Whatever is not named there is not kept, above all no environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use arcstr::ArcStr;
use litemap::LiteMap;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::container::{
    Binding, Container, ContainerId, Endpoint, Health, HealthStatus, Lens, Life, NetworkMode, Port, Protocol, Signal,
    State,
};
use super::life::{BindingDocument, HealthcheckDocument, PortsDocument, RestartDocument, published};
use super::list::place;
use super::port::{DockerError, EventTime};
use crate::exact::exact;

const CALL: &str = "GET /containers/{id}/json";

/// What Docker gives a container to end by itself when nobody says otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A container may ask to be waited for without end (-1); an hour later it is certainly not about to stop any more.
const STOP_TIMEOUT_LIMIT: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    image: Option<ArcStr>,
    #[serde(default)]
    restart_count: Option<u64>,
    state: StateDocument,
    #[serde(default)]
    config: Option<ConfigDocument>,
    #[serde(default)]
    host_config: Option<HostConfigDocument>,
    #[serde(default)]
    network_settings: Option<NetworkDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StateDocument {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    exit_code: Option<i64>,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: Option<bool>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    started_at: Option<String>,
    #[serde(default)]
    finished_at: Option<String>,
    #[serde(default)]
    health: Option<HealthDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthDocument {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    failing_streak: Option<i64>,
    #[serde(default)]
    log: Option<Vec<ProbeDocument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProbeDocument {
    #[serde(default)]
    exit_code: Option<i64>,
    #[serde(default)]
    output: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigDocument {
    image: Option<ArcStr>,
    labels: Option<BTreeMap<ArcStr, ArcStr>>,
    env: ServiceEnv,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    stop_signal: Option<String>,
    stop_timeout: Option<i64>,
    healthcheck: Option<HealthcheckDocument>,
    attach_stdin: Option<bool>,
    stdin_once: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfigDocument {
    network_mode: Option<String>,
    pid_mode: Option<String>,
    ipc_mode: Option<String>,
    restart_policy: Option<RestartDocument>,
    auto_remove: Option<bool>,
    links: Option<Vec<String>>,
    port_bindings: Option<PortsDocument>,
    publish_all_ports: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkDocument {
    #[serde(default)]
    ports: Option<PortsDocument>,
    #[serde(default)]
    networks: Option<BTreeMap<ArcStr, Option<EndpointDocument>>>,
}

#[derive(Deserialize)]
struct EndpointDocument {
    #[serde(default, rename = "IPAddress")]
    ipv4: Option<String>,
    #[serde(default, rename = "GlobalIPv6Address")]
    ipv6: Option<String>,
}

/// The `SERVICE_*` variables of an environment; every other entry is dropped while it is being read.
#[derive(Default)]
struct ServiceEnv(LiteMap<ArcStr, ArcStr>);

impl<'de> Deserialize<'de> for ServiceEnv {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = ServiceEnv;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of NAME=value")
            }
            fn visit_unit<E>(self) -> Result<ServiceEnv, E> {
                Ok(ServiceEnv::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<ServiceEnv, A::Error> {
                let mut kept = LiteMap::new();
                while let Some(entry) = entries.next_element::<std::borrow::Cow<'de, str>>()? {
                    if let Some((name, value)) = entry.split_once('=')
                        && name.starts_with("SERVICE_")
                    {
                        kept.insert(name.into(), value.into());
                    }
                }
                Ok(ServiceEnv(kept))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

/// Reads the body of `GET /containers/{id}/json`.
///
/// # Errors
/// [`DockerError::Unreadable`], without any part of the document.
pub fn read(body: &[u8], lens: &Lens) -> Result<Container, DockerError> {
    let unreadable = |error: &serde_json::Error| DockerError::Unreadable { call: CALL, reason: place(error) };
    let document: Document = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let rendered_tags = match &lens.tags {
        None => None,
        Some(template) => {
            let mut whole: serde_json::Value = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
            hide_environment(&mut whole);
            Some(template.render(&whole).map_err(|error| error.to_string()))
        }
    };
    Ok(container(document, lens, rendered_tags))
}

/// Takes everything out of the environment that is not for Remora, so that no template can publish it.
fn hide_environment(document: &mut serde_json::Value) {
    if let Some(serde_json::Value::Array(env)) = document.pointer_mut("/Config/Env") {
        env.retain(|entry| entry.as_str().is_some_and(|entry| entry.starts_with("SERVICE_")));
    }
}

fn container(
    document: Document,
    lens: &Lens,
    rendered_tags: Option<Result<crate::template::Rendered, String>>,
) -> Container {
    let Document { id, name, created, image, restart_count, state, config, host_config, network_settings } = document;
    let config = config.unwrap_or_default();
    let host_config = host_config.unwrap_or_default();
    let mut life = read_life(&config, &host_config, state.error.as_deref().unwrap_or_default());
    let network = network_settings.unwrap_or(NetworkDocument { ports: None, networks: None });
    let labels = config.labels.unwrap_or_default().into_iter().filter(|(label, _)| lens.keeps(label)).collect();
    let labels = exact(labels);
    let exposed = config.exposed_ports.into_iter().flatten().filter_map(|(port, _)| Some((read_port(&port)?, ())));
    let exposed = exact(exposed.collect());
    let bindings = read_bindings(network.ports);
    let all = host_config.publish_all_ports == Some(true);
    let stamp = |text: Option<String>| text.and_then(|text| EventTime::parse(&text));
    life.published = published(host_config.port_bindings.as_ref(), &exposed, all);
    Container {
        id: ContainerId::new(id),
        name: name.unwrap_or_default().trim_start_matches('/').into(),
        image: config.image.unwrap_or_default(),
        image_id: image.unwrap_or_default(),
        created: stamp(created),
        started_at: stamp(state.started_at),
        finished_at: stamp(state.finished_at),
        state: read_state(state.status.as_deref().unwrap_or_default()),
        exit_code: state.exit_code.unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        restart_count: restart_count.unwrap_or_default(),
        health: state.health.and_then(read_health).map(Box::new),
        labels,
        service_env: exact(config.env.0),
        network_mode: read_network_mode(host_config.network_mode.as_deref().unwrap_or_default()),
        networks: read_networks(network.networks),
        exposed,
        bindings,
        stop_signal: read_signal(config.stop_signal.as_deref().unwrap_or_default()),
        stop_timeout: read_stop_timeout(config.stop_timeout),
        life,
        rendered_tags: rendered_tags.map(Box::new),
    }
}

fn read_life(config: &ConfigDocument, host_config: &HostConfigDocument, error: &str) -> Life {
    let modes = [&host_config.pid_mode, &host_config.ipc_mode];
    let owners = modes.into_iter().flatten().filter_map(|mode| mode.strip_prefix("container:"));
    let namespaces: BTreeSet<&str> = owners.collect();
    Life {
        restart_policy: host_config.restart_policy.as_ref().map(RestartDocument::read).unwrap_or_default(),
        auto_remove: host_config.auto_remove.unwrap_or_default(),
        error: printable(error, Life::ERROR_LIMIT).into(),
        probe: config.healthcheck.as_ref().and_then(HealthcheckDocument::read).map(Box::new),
        interactive: config.attach_stdin.unwrap_or_default() && config.stdin_once.unwrap_or_default(),
        namespaces: namespaces.into_iter().map(ArcStr::from).collect(),
        // `/target:/self/alias`
        links: host_config
            .links
            .iter()
            .flatten()
            .filter_map(|link| Some(link.split(':').next()?.trim_start_matches('/').into()))
            .collect(),
        published: LiteMap::new(),
    }
}

fn read_state(word: &str) -> State {
    match word {
        "created" => State::Created,
        "running" => State::Running,
        "paused" => State::Paused,
        "restarting" => State::Restarting,
        "removing" => State::Removing,
        "exited" => State::Exited,
        "dead" => State::Dead,
        other => State::Unknown(printable(other, 40).into()),
    }
}

fn read_health(health: HealthDocument) -> Option<Health> {
    let status = match health.status.as_deref().unwrap_or_default() {
        "" | "none" => return None,
        "starting" => HealthStatus::Starting,
        "healthy" => HealthStatus::Healthy,
        "unhealthy" => HealthStatus::Unhealthy,
        _ => HealthStatus::Unknown,
    };
    let last = health.log.and_then(|log| log.into_iter().next_back());
    let (exit_code, output) = last.map_or((None, ArcStr::new()), |probe| {
        (probe.exit_code, tail(&probe.output.unwrap_or_default(), Health::OUTPUT_LIMIT).into())
    });
    let failing_streak = u32::try_from(health.failing_streak.unwrap_or_default().max(0)).unwrap_or(u32::MAX);
    Some(Health { status, failing_streak, exit_code, output })
}

fn read_network_mode(mode: &str) -> NetworkMode {
    match mode {
        "" | "default" | "bridge" => NetworkMode::Bridge,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        other => match other.strip_prefix("container:") {
            Some(owner) => NetworkMode::Container(owner.into()),
            None => NetworkMode::Named(other.into()),
        },
    }
}

fn read_networks(networks: Option<BTreeMap<ArcStr, Option<EndpointDocument>>>) -> LiteMap<ArcStr, Endpoint> {
    let address = |endpoint: EndpointDocument| Endpoint {
        ipv4: endpoint.ipv4.and_then(|text| text.parse().ok()),
        ipv6: endpoint.ipv6.and_then(|text| text.parse().ok()),
    };
    let all = networks.into_iter().flatten();
    exact(all.map(|(name, endpoint)| (name, endpoint.map(address).unwrap_or_default())).collect())
}

pub(super) fn read_port(text: &str) -> Option<Port> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    let number = number.parse().ok().filter(|&number| number != 0)?;
    Some(Port { number, protocol })
}

fn read_bindings(ports: Option<PortsDocument>) -> LiteMap<Port, Box<[Binding]>> {
    let all = ports.into_iter().flatten().filter_map(|(port, bindings)| {
        let bindings = bindings.into_iter().flatten().filter_map(|binding| read_binding(&binding));
        Some((read_port(&port)?, bindings.collect()))
    });
    exact(all.collect())
}

fn read_binding(binding: &BindingDocument) -> Option<Binding> {
    let host_ip = match binding.host_ip.as_deref().unwrap_or_default() {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        text => text.parse().ok()?,
    };
    let host_port = binding.host_port.as_deref()?.parse().ok().filter(|&port| port != 0)?;
    Some(Binding { host_ip, host_port })
}

fn read_stop_timeout(seconds: Option<i64>) -> Duration {
    match seconds {
        None => STOP_TIMEOUT,
        Some(seconds) => u64::try_from(seconds).map_or(STOP_TIMEOUT_LIMIT, Duration::from_secs).min(STOP_TIMEOUT_LIMIT),
    }
}

/// `SIGTERM`, `TERM`, `15`; Docker takes all three. Anything else is what Docker would refuse: its default then.
fn read_signal(text: &str) -> Signal {
    const NAMES: [(&str, u8); 12] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("WINCH", 28),
    ];
    // The kernel's SIGRTMIN is 32, but the two C libraries keep the first two (glibc) for themselves: Docker, like kill(1),
    // counts from 34. Web servers ask for SIGRTMIN+3 (systemd) and SIGWINCH (httpd).
    const REALTIME_FIRST: u8 = 34;
    let word = text.trim().to_ascii_uppercase();
    let word = word.strip_prefix("SIG").unwrap_or(&word);
    let realtime = || word.strip_prefix("RTMIN+")?.parse::<u8>().ok()?.checked_add(REALTIME_FIRST);
    NAMES
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, number)| *number)
        .or_else(|| word.parse().ok().filter(|number| (1..=64).contains(number)))
        .or_else(realtime)
        .map_or(Signal::TERM, Signal)
}

/// The end of a text, at most `limit` bytes, without control characters: line breaks become ` | `.
fn tail(text: &str, limit: usize) -> String {
    let one_line = printable(&text.trim().lines().collect::<Vec<_>>().join(" | "), usize::MAX);
    let mut start = one_line.len().saturating_sub(limit);
    while !one_line.is_char_boundary(start) {
        start += 1;
    }
    one_line.get(start..).unwrap_or_default().to_owned()
}

pub(super) fn printable(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("testdata/inspect.json");

    fn with(edit: impl FnOnce(&mut serde_json::Value)) -> Container {
        let mut document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        edit(&mut document);
        read(document.to_string().as_bytes(), &Lens::default()).unwrap()
    }

    #[test]
    fn a_recorded_document_of_a_real_engine_reads_as_it_should() {
        let container = read(DOCUMENT.as_bytes(), &Lens::default()).unwrap();
        assert_eq!(container.name, "recorded");
        assert_eq!(container.state, State::Running);
        assert_eq!(container.stop_signal, Signal(3));
        assert_eq!(container.stop_timeout, Duration::from_secs(7));
        assert_eq!(container.network_mode, NetworkMode::Bridge);
        assert_eq!(container.service_env.get("SERVICE_NAME").map(ArcStr::as_str), Some("api=v2"));
        assert_eq!(container.health.as_ref().map(|health| health.status), Some(HealthStatus::Healthy));
        let tcp = Port { number: 8080, protocol: Protocol::Tcp };
        assert_eq!(container.bindings[&tcp].len(), 3, "one on loopback, and the wildcard pair");
        assert!(container.bindings[&Port { number: 9000, protocol: Protocol::Tcp }].is_empty());
        assert!(container.exposed.contains_key(&Port { number: 53, protocol: Protocol::Udp }));
        assert!(container.networks.get("bridge").unwrap().ipv4.is_some());
    }

    #[test]
    fn no_environment_value_and_no_unread_label_survives() {
        let container = read(DOCUMENT.as_bytes(), &Lens::default()).unwrap();
        let everything = format!("{container:?}");
        assert!(DOCUMENT.contains("canary-secret"));
        assert!(!everything.contains("canary-secret"), "{everything}");
        assert!(!everything.contains("maintainer"), "{everything}");
        let lens = Lens { labels: ["maintainer".to_owned()].into(), tags: None };
        assert!(read(DOCUMENT.as_bytes(), &lens).unwrap().labels.contains_key("maintainer"));
    }

    #[test]
    fn a_template_finds_nothing_of_the_environment_but_what_is_for_remora() {
        let tags = crate::template::Template::parse("{{range .Config.Env}}{{.}},{{end}}{{.State.Status}}").unwrap();
        let lens = Lens { labels: [].into(), tags: Some(tags) };
        let container = read(DOCUMENT.as_bytes(), &lens).unwrap();
        let rendered = container.rendered_tags.unwrap().unwrap();
        assert_eq!(rendered.text, "SERVICE_NAME=api=v2,running");
    }

    #[test]
    fn unknown_words_are_values_and_nulls_are_empty() {
        let container = with(|document| {
            document["State"]["Status"] = "levitating".into();
            document["State"]["Health"]["Status"] = "queasy".into();
            document["Config"]["Env"] = serde_json::Value::Null;
            document["Config"]["Labels"] = serde_json::Value::Null;
            document["Config"]["ExposedPorts"] = serde_json::Value::Null;
            document["NetworkSettings"]["Ports"] = serde_json::Value::Null;
            document["HostConfig"]["NetworkMode"] = "container:abc".into();
            document["Config"]["StopTimeout"] = (-1).into();
        });
        assert_eq!(container.state, State::Unknown("levitating".into()));
        assert_eq!(container.health.unwrap().status, HealthStatus::Unknown);
        assert!(container.bindings.is_empty() && container.exposed.is_empty() && container.labels.is_empty());
        assert_eq!(container.network_mode, NetworkMode::Container("abc".into()));
        assert_eq!(container.stop_timeout, STOP_TIMEOUT_LIMIT);
    }

    #[test]
    fn a_broken_document_tells_where_and_never_what() {
        let broken = DOCUMENT.replace(r#""Status": "running""#, r#""Status": {"canary-secret": 1}"#);
        let error = read(broken.as_bytes(), &Lens::default()).unwrap_err().to_string();
        assert!(error.contains("line"), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }

    #[test]
    fn signals_are_read_in_every_spelling_that_docker_takes() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("quit", 3),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("", 15),
            ("SIGNONSENSE", 15),
            ("99", 15),
            ("WINCH", 28),
        ] {
            assert_eq!(read_signal(text), Signal(number), "{text}");
        }
    }

    #[test]
    fn the_end_of_a_probes_output_is_kept_in_one_line() {
        assert_eq!(tail("one\ntwo\u{1b}[31m\n", 100), "one | two[31m");
        assert_eq!(tail(&"é".repeat(1000), 5), "éé");
    }
}
