//! Our own snapshot of a container: what Remora needs of Docker's inspect document, and nothing else.
//!
//! No secret fits in here: of the container's environment only `SERVICE_*` keys are kept, of its labels only those that
//! some rule reads (see [`Lens`]).

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use litemap::LiteMap;

use super::port::EventTime;
use crate::exact::exact;
use crate::template::{Rendered, Template};
use crate::text::Texts;

/// The full id of a container (64 hexadecimal digits), as the engine gives it. Shared by its clones: it is the key of a dozen
/// maps.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(ArcStr);

impl ContainerId {
    /// Takes the id as the engine spelled it.
    pub fn new(id: impl Into<ArcStr>) -> Self {
        Self(id.into())
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole id, to be shared.
    #[must_use]
    pub const fn text(&self) -> &ArcStr {
        &self.0
    }

    /// The first twelve digits, as `docker ps` shows them.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// Label of Docker Compose with the name of the project.
pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";

/// Label of Docker Compose with the name of the service in the Compose file.
pub const COMPOSE_SERVICE: &str = "com.docker.compose.service";

/// What to keep of an inspect document besides the fixed fields.
#[derive(Debug, Clone, Default)]
pub struct Lens {
    /// Exact label keys that some setting reads (`REMORA_USE_IP_FROM_LABEL`, label filters). Labels that begin with one
    /// of [`Lens::LABEL_PREFIXES`] are always kept.
    pub labels: BTreeSet<String>,
    /// The operator's tags (`REMORA_TAGS`, registrator's `-tags`) when they are a template: rendered from the whole
    /// document while it is at hand, because the document itself is not kept.
    pub tags: Option<Template>,
}

impl Lens {
    /// Labels that Remora itself reads. The last three tell who else looks after a container; of those of Kubernetes only the
    /// pod's own, because others hold whole commands.
    pub const LABEL_PREFIXES: [&'static str; 7] = [
        "SERVICE_",
        "remora.",
        "com.docker.",
        "autoheal",
        "io.kubernetes.pod.",
        "com.hashicorp.nomad.",
        "org.testcontainers",
    ];

    /// Whether a label is kept.
    #[must_use]
    pub fn keeps(&self, label: &str) -> bool {
        Self::LABEL_PREFIXES.iter().any(|prefix| label.starts_with(prefix)) || self.labels.contains(label)
    }
}

/// A transport protocol of a published or exposed port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The default; has no suffix in a service id.
    Tcp,
    /// Suffix `:udp`, tag `udp`.
    Udp,
    /// Suffix `:sctp`, tag `sctp`.
    Sctp,
}

impl Protocol {
    /// Docker's spelling, also the one of our id suffixes and key parts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port inside the container: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// 1..=65535.
    pub number: u16,
    /// tcp, udp or sctp.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.as_str())
    }
}

/// One host address and port that the engine forwards to a container port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// The address asked for; `0.0.0.0` and `::` mean every address of the host. An empty `HostIp` reads as `0.0.0.0`.
    pub host_ip: IpAddr,
    /// 1..=65535.
    pub host_port: u16,
}

/// Where a container's network stack comes from (`HostConfig.NetworkMode`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// `bridge`, `default` or empty: the engine's default bridge.
    Bridge,
    /// `host`: the node's own stack; nothing is forwarded, ports are what the process binds.
    Host,
    /// `none`: loopback only.
    None,
    /// `container:<id or name>`: shares the stack of another container.
    Container(ArcStr),
    /// A user-defined network, by name.
    Named(ArcStr),
}

/// The container's place in one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its IPv4 address there, when it has one at the moment.
    pub ipv4: Option<Ipv4Addr>,
    /// Its global IPv6 address there.
    pub ipv6: Option<Ipv6Addr>,
}

/// Docker's word for what a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Made, never started (or its start failed).
    Created,
    /// Its process runs.
    Running,
    /// Its process is frozen.
    Paused,
    /// It ended and the restart policy will start it again.
    Restarting,
    /// It is being removed.
    Removing,
    /// It ended.
    Exited,
    /// Its removal failed half-way.
    Dead,
    /// A word that this version does not know; never read as "gone".
    Unknown(ArcStr),
}

/// What the container's own HEALTHCHECK says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Failed probes in a row.
    pub failing_streak: u32,
    /// Exit code of the last probe, when there was one.
    pub exit_code: Option<i64>,
    /// Output of the last probe: at most [`Health::OUTPUT_LIMIT`] bytes of its end, control characters removed.
    pub output: ArcStr,
}

impl Health {
    /// Bytes kept of a probe's output. Consul cuts at 4,096 and then keeps the beginning; the end is where the error is.
    pub const OUTPUT_LIMIT: usize = 1024;
}

/// Docker's verdict about a container with a HEALTHCHECK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// Within its start period, or no probe finished yet.
    Starting,
    /// The last probe passed.
    Healthy,
    /// As many probes in a row failed as its `retries` allow.
    Unhealthy,
    /// A word that this version does not know.
    Unknown,
}

/// A Unix signal number that ends a process, as Docker's `StopSignal` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(pub u8);

impl Signal {
    /// What `docker stop` sends unless the image or the container says otherwise.
    pub const TERM: Self = Self(15);

    /// Whether this signal, sent to a container with this stop signal, means that it shall end: the container's own stop
    /// signal, or INT, QUIT, KILL, TERM. HUP, USR1 and the like mean something else to most programs.
    #[must_use]
    pub fn ends(self, stop_signal: Self) -> bool {
        self == stop_signal || matches!(self.0, 2 | 3 | 9 | 15)
    }
}

/// What the engine's restart policy is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RestartName {
    /// `no`, or nothing at all: it stays ended.
    #[default]
    No,
    /// It is started again whenever it ends, and whenever the daemon starts.
    Always,
    /// As [`RestartName::Always`], but a container that was stopped stays so when the daemon starts.
    UnlessStopped,
    /// It is started again when it ends with another exit code than 0.
    OnFailure,
    /// A word that this version does not know.
    Unknown(ArcStr),
}

impl RestartName {
    /// Reads the engine's word; nothing at all is `no`.
    #[must_use]
    pub fn read(word: &str) -> Self {
        match word {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure,
            other => Self::Unknown(other.into()),
        }
    }

    /// The engine's word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure => "on-failure",
            Self::Unknown(word) => word,
        }
    }
}

/// The engine's own restart policy of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestartPolicy {
    /// Which one.
    pub name: RestartName,
    /// How often [`RestartName::OnFailure`] tries again; 0 is without end.
    pub maximum_retries: u64,
}

/// When a HEALTHCHECK looks, and how long it has to fail before the verdict is `unhealthy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTimes {
    /// Between the end of a probe and the next one; 30 s unless set.
    pub interval: Duration,
    /// What one probe may take; 30 s unless set.
    pub timeout: Duration,
    /// In which failures do not count, from the start on; 0 s unless set.
    pub start_period: Duration,
    /// Failures in a row that make it `unhealthy`; 3 unless set.
    pub retries: u32,
}

/// How a container lives: what the engine does with it by itself, and what stands in the way of replacing it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Life {
    /// What the engine does when its process ends.
    pub restart_policy: RestartPolicy,
    /// `--rm`: it is removed when its process ends.
    pub auto_remove: bool,
    /// Why its last start failed (`State.Error`): at most [`Life::ERROR_LIMIT`] characters, control characters removed;
    /// empty when it did not.
    pub error: ArcStr,
    /// The times of its HEALTHCHECK; `None` without one.
    pub probe: Option<Box<ProbeTimes>>,
    /// Somebody sits (or sat) in front of it: `docker run -it`, attached.
    pub interactive: bool,
    /// Containers whose pid or ipc namespace it shares (`container:<id>`), as the engine names them; for the network see
    /// [`Container::network_mode`].
    pub namespaces: Box<[ArcStr]>,
    /// Names of containers that it links to (`--link`).
    pub links: Box<[ArcStr]>,
    /// Ports of the host that it asks for, whether it runs or not; number 0 is one that Docker chooses. What it has while it runs
    /// is in [`Container::bindings`].
    pub published: LiteMap<Port, Box<[Binding]>>,
}

impl Life {
    /// Characters kept of the engine's words about a failed start.
    pub const ERROR_LIMIT: usize = 300;
}

/// What Remora knows of one container: a value, taken from one inspect document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The full id.
    pub id: ContainerId,
    /// The name without its leading slash.
    pub name: ArcStr,
    /// The image as it was asked for (`Config.Image`): `repo/app:1.2`, `repo/app@sha256:…`, or an image id.
    pub image: ArcStr,
    /// The image's id (`sha256:…`).
    pub image_id: ArcStr,
    /// When it was created.
    pub created: Option<EventTime>,
    /// When it was last started, if ever.
    pub started_at: Option<EventTime>,
    /// When it last ended, if ever.
    pub finished_at: Option<EventTime>,
    /// What it is doing.
    pub state: State,
    /// Exit code of its last end; 0 while it runs.
    pub exit_code: i64,
    /// Whether the kernel's out-of-memory killer ended it.
    pub oom_killed: bool,
    /// How often the engine's restart policy started it again.
    pub restart_count: u64,
    /// Its HEALTHCHECK's verdict; `None` without a HEALTHCHECK.
    pub health: Option<Box<Health>>,
    /// The labels that [`Lens::keeps`].
    pub labels: LiteMap<ArcStr, ArcStr>,
    /// `SERVICE_*` keys of its environment. No other variable is ever kept.
    pub service_env: LiteMap<ArcStr, ArcStr>,
    /// Where its network stack comes from.
    pub network_mode: NetworkMode,
    /// Its networks by name.
    pub networks: LiteMap<ArcStr, Endpoint>,
    /// Ports that its image or its creator declared (`Config.ExposedPorts`).
    pub exposed: LiteMap<Port, ()>,
    /// Ports with their host bindings (`NetworkSettings.Ports`); an exposed port that is not published has none.
    /// Empty while the container does not run.
    pub bindings: LiteMap<Port, Box<[Binding]>>,
    /// The signal that `docker stop` sends it; SIGTERM unless set.
    pub stop_signal: Signal,
    /// How long `docker stop` waits before SIGKILL; 10 s unless set.
    pub stop_timeout: Duration,
    /// What the engine is to do with it when its process ends, and what else decides how it can be healed.
    pub life: Life,
    /// The operator's tags rendered for this container ([`Lens::tags`]): the text, or why it could not be rendered.
    pub rendered_tags: Option<Box<Result<Rendered, String>>>,
}

impl Container {
    /// Shares with other containers what many of them have.
    pub fn share(&mut self, texts: &mut Texts) {
        texts.share(&mut self.image);
        texts.share(&mut self.image_id);
        for map in [&mut self.labels, &mut self.service_env] {
            let shared = std::mem::take(map).into_iter();
            *map = exact(shared.map(|(key, value)| (texts.shared(key), texts.shared(value))).collect());
        }
        let shared = std::mem::take(&mut self.networks).into_iter();
        self.networks = exact(shared.map(|(name, endpoint)| (texts.shared(name), endpoint)).collect());
    }

    /// A label, or else a `SERVICE_*` variable of that name. A label wins: that is registrator's order.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&str> {
        self.labels.get(name).or_else(|| self.service_env.get(name)).map(ArcStr::as_str)
    }
}

/// A container as the observation sees it right now: the inspect facts, plus what only its recent history tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The facts of its last inspect; shared with the second listener, if there is one.
    pub container: Arc<Container>,
    /// It was sent a signal that ends it and has not had its stop timeout yet: it must not receive new work.
    pub draining: bool,
    /// Its restart policy started it again after a run of less than ten seconds, less than ten seconds ago: it is not to
    /// be trusted yet.
    pub settling: bool,
}
