//! Containers, peers and settings for the tests of this room.

use std::time::Duration;

use super::{Note, Peers, Planned, Registration, Settings, Verdict, register};
use crate::config::{HostAddress, Publish};
use crate::consul::Service;
use crate::docker::{
    Binding, Container, ContainerId, EventTime, Health, HealthStatus, Life, NetworkMode, Port, Protocol, Sight, Signal,
    State,
};
use litemap::LiteMap;

/// Builds a container, by default a running one of image `repo/app:1` on the default bridge, without ports.
#[derive(Clone)]
pub(super) struct Builder(Container);

/// Begins a container.
pub(super) fn container(name: &str) -> Builder {
    let digit = name.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    Builder(Container {
        id: ContainerId::new(format!("{digit:02x}").repeat(32)),
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
        stop_signal: Signal(15),
        stop_timeout: Duration::from_secs(10),
        life: Life::default(),
        rendered_tags: None,
    })
}

/// Reads `80` or `53/udp`.
pub(super) fn port(text: &str) -> Port {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    Port { number: number.parse().unwrap(), protocol }
}

impl Builder {
    pub(super) fn label(mut self, key: &str, value: &str) -> Self {
        self.0.labels.insert(key.into(), value.into());
        self
    }

    pub(super) fn env(mut self, key: &str, value: &str) -> Self {
        self.0.service_env.insert(key.into(), value.into());
        self
    }

    /// A network with an address in it, `fd00::2` or `10.0.0.2`; again with the other family adds that.
    pub(super) fn network(mut self, name: &str, address: &str) -> Self {
        let endpoint = self.0.networks.entry(name.into()).or_default();
        match address.parse().unwrap() {
            std::net::IpAddr::V4(v4) => endpoint.ipv4 = Some(v4),
            std::net::IpAddr::V6(v6) => endpoint.ipv6 = Some(v6),
        }
        self
    }

    pub(super) fn expose(mut self, text: &str) -> Self {
        self.0.exposed.insert(port(text), ());
        self.0.bindings.entry(port(text)).or_default();
        self
    }

    /// EXPOSEs a port in a network stack for which the engine maps none (macvlan, another container's, `none`): it is in no
    /// list of bindings.
    pub(super) fn declare(mut self, text: &str) -> Self {
        self.0.exposed.insert(port(text), ());
        self
    }

    /// Publishes a port, as Docker 20.10 and newer do: for IPv4 only.
    pub(super) fn publish(self, text: &str, host_port: u16) -> Self {
        self.bind(text, "0.0.0.0", host_port)
    }

    pub(super) fn bind(mut self, text: &str, host_ip: &str, host_port: u16) -> Self {
        let binding = Binding { host_ip: host_ip.parse().unwrap(), host_port };
        self.0.exposed.insert(port(text), ());
        let bindings = self.0.bindings.entry(port(text)).or_default();
        *bindings = bindings.iter().copied().chain([binding]).collect();
        self
    }

    pub(super) fn mode(mut self, mode: NetworkMode) -> Self {
        self.0.network_mode = mode;
        self
    }

    pub(super) fn image(mut self, image: &str) -> Self {
        self.0.image = image.into();
        self
    }

    pub(super) fn health(mut self, status: HealthStatus, exit_code: i64, output: &str) -> Self {
        let output = output.to_owned();
        self.0.health =
            Some(Box::new(Health { status, failing_streak: 0, exit_code: Some(exit_code), output: output.into() }));
        self
    }

    /// What the engine says of a container whose process ended: no ports any more.
    pub(super) fn ended(mut self, state: State, exit_code: i64) -> Self {
        self.0.state = state;
        self.0.exit_code = exit_code;
        self.0.bindings.clear();
        self
    }

    pub(super) fn build(self) -> Container {
        self.0
    }
}

/// A container that nothing in particular happened to.
pub(super) fn sight(container: Container) -> Sight {
    Sight { container: container.into(), draining: false, settling: false }
}

/// Other containers.
pub(super) struct Known(Vec<Sight>);

/// Other containers, found by id and name.
pub(super) fn peers(known: impl IntoIterator<Item = Sight>) -> Known {
    Known(known.into_iter().collect())
}

impl Peers for Known {
    fn is_gone(&self, _: &str) -> bool {
        false
    }

    fn find(&self, id_or_name: &str) -> Option<Sight> {
        let is_it = |sight: &&Sight| sight.container.name == id_or_name || sight.container.id.as_str() == id_or_name;
        self.0.iter().find(is_it).cloned()
    }
}

/// `node-1`, 192.0.2.10, everything else as it is by default.
pub(super) fn settings() -> Settings {
    let address = HostAddress { v4: Some("192.0.2.10".parse().unwrap()), ..HostAddress::default() };
    Settings {
        node: "node-1".to_owned(),
        engine: "ENGINE:ID".to_owned(),
        publish: Publish { address, ..Publish::default() },
        health_ttl: None,
    }
}

/// Settings with changes.
pub(super) fn with(change: impl FnOnce(&mut Publish)) -> Settings {
    let mut settings = settings();
    change(&mut settings.publish);
    settings
}

/// The rules with nobody else around.
pub(super) fn alone(builder: Builder, settings: &Settings) -> Registration {
    register(&sight(builder.build()), &peers([]), settings)
}

impl Registration {
    /// The services; a test that asks for them expects some.
    pub(super) fn services(&self) -> Vec<&Service> {
        self.planned().into_iter().map(|planned| &planned.service).collect()
    }

    pub(super) fn planned(&self) -> Vec<&Planned> {
        match &self.verdict {
            Verdict::Services(planned) => planned.iter().collect(),
            other => panic!("expected services, got {other:?}; {:?}", self.notes),
        }
    }

    /// `id name address:port` per service.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |service: &&Service| {
            let address: std::net::IpAddr = service.address.parse().unwrap();
            let address = std::net::SocketAddr::new(address, service.port);
            format!("{} {} {address}", service.id, service.name)
        };
        self.services().iter().map(line).collect()
    }

    /// Why nothing is registered.
    pub(super) fn nothing(&self) -> &str {
        match &self.verdict {
            Verdict::Nothing(why) => why,
            other => panic!("expected nothing, got {other:?}"),
        }
    }

    /// The output of the check that is held critical.
    pub(super) fn held(&self) -> &str {
        match &self.verdict {
            Verdict::Hold { status: crate::consul::Status::Critical, output } => output,
            other => panic!("expected a critical hold, got {other:?}"),
        }
    }

    /// The notes about a key.
    pub(super) fn notes_about(&self, about: &str) -> Vec<&Note> {
        self.notes.iter().filter(|note| note.about == about).collect()
    }
}
