//! The values that are exchanged with Consul, independent of the endpoint that carries them.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use litemap::LiteMap;
use serde::{Serialize, Serializer};

use super::meta::Meta;
use crate::exact::exact;
use crate::telemetry::Standing;
use crate::text::share;

/// Status of a check. Consul accepts exactly these three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In rotation.
    Passing,
    /// In rotation for clients that accept warnings.
    Warning,
    /// Out of rotation.
    Critical,
}

impl Status {
    /// Consul's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Reads Consul's spelling, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "passing" => Some(Self::Passing),
            "warning" => Some(Self::Warning),
            "critical" => Some(Self::Critical),
            _ => None,
        }
    }
}

impl From<Standing> for Status {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Passing => Self::Passing,
            Standing::Warning => Self::Warning,
            Standing::Critical => Self::Critical,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// DNS weights of an instance; Consul's own default is 1 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Weights {
    /// 1..=65535.
    pub passing: u16,
    /// 1..=65535.
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// One entry of `TaggedAddresses` (`lan_ipv4`, `lan_ipv6`, …).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaggedAddress {
    /// An IP address without brackets.
    pub address: ArcStr,
    /// The port at that address.
    pub port: u16,
}

/// A service instance as we want Consul to have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Unique on its Consul agent; case-insensitive in the catalog.
    pub id: ArcStr,
    /// The name under which clients find it.
    pub name: ArcStr,
    /// IP address (or, for a portless service, possibly empty: Consul then uses the node's).
    pub address: ArcStr,
    /// 0 for a service without a port.
    pub port: u16,
    /// In the order in which they were given, without doubles.
    pub tags: Arc<[ArcStr]>,
    /// At most 64 pairs; keys of `[A-Za-z0-9_-]` up to 128 bytes, values up to 512 bytes.
    pub meta: Meta,
    /// Further addresses of the same instance.
    #[serde(serialize_with = "as_map")]
    pub tagged_addresses: LiteMap<ArcStr, TaggedAddress>,
    /// `None` leaves Consul's default of 1 and 1.
    pub weights: Option<Weights>,
    /// Others may change the tags in the catalog; ours are then only the first ones.
    pub enable_tag_override: bool,
    /// Each with an explicit id; `<service id>:docker` is always among them.
    pub checks: Vec<Check>,
}

/// A health check of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Unique on its Consul agent: a second check with the same id silently takes the first one's place.
    pub id: ArcStr,
    /// Title of its card in Consul's UI.
    pub name: ArcStr,
    /// What it is, and which label asked for it.
    pub notes: ArcStr,
    /// How its status comes about. Shared: most checks are alike, and some kinds are large.
    pub kind: Arc<CheckKind>,
    /// The status to begin with; for the `docker` check the status itself.
    #[serde(skip)]
    pub status: Status,
    /// The output to begin with; for the `docker` check the output itself.
    #[serde(skip)]
    pub output: ArcStr,
    /// Consul removes the service after it has been critical for so long; Consul's minimum is one minute.
    pub deregister_after: Option<Duration>,
    /// Passing only after so many passing probes in a row; 0 is Consul's default.
    pub success_before_passing: u32,
    /// Critical only after so many failed probes in a row; 0 is Consul's default.
    pub failures_before_critical: u32,
}

/// How a check's status comes about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum CheckKind {
    /// Someone reports it: we for the `docker` check, the service itself for `SERVICE_CHECK_TTL`.
    Ttl {
        /// Without a report for so long it turns critical.
        ttl: Duration,
    },
    /// Consul asks an HTTP or HTTPS URL.
    Http {
        /// With brackets around an IPv6 address.
        url: String,
        /// `GET` is Consul's default.
        method: Option<String>,
        /// Header names with their values.
        headers: BTreeMap<String, Vec<String>>,
        /// Sent with the request (Consul 1.8 has it).
        body: Option<String>,
        /// How and how often.
        probe: Probe,
        /// TLS details for `https`.
        tls: CheckTls,
    },
    /// Consul opens a TCP connection.
    Tcp {
        /// `host:port`, with brackets around an IPv6 address.
        address: String,
        /// How and how often.
        probe: Probe,
    },
    /// Consul asks the gRPC health service.
    Grpc {
        /// `host:port[/service]`.
        target: String,
        /// Over TLS.
        use_tls: bool,
        /// How and how often.
        probe: Probe,
        /// TLS details when `use_tls`.
        tls: CheckTls,
    },
    /// Consul's agent runs a program. Only when the operator allows it.
    Script {
        /// Program and arguments; no shell.
        args: Vec<String>,
        /// Run inside this container (full id) by the agent's Docker client instead of on its host.
        container: Option<String>,
        /// Shell inside that container.
        shell: Option<String>,
        /// How and how often.
        probe: Probe,
    },
}

/// Rhythm of an active check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Between the beginnings of two probes; registrator's default is 10 s.
    pub interval: Duration,
    /// `None` leaves Consul's default (10 s).
    pub timeout: Option<Duration>,
}

/// TLS details of an active check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckTls {
    /// The name to ask for and to verify (`TLSServerName`, Consul 1.9 and newer).
    pub server_name: Option<String>,
    /// Do not verify the certificate.
    pub skip_verify: bool,
}

fn as_map<S: Serializer, V: Serialize>(map: &LiteMap<ArcStr, V>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter())
}

impl Service {
    /// Meta key of the owner's mark; its value is `remora`.
    pub const META_OWNER: &'static str = "managed-by";
    /// Meta key of the owning agent's node name.
    pub const META_NODE: &'static str = "remora-node";
    /// Meta key of the engine's id (first twelve characters): tells two agents with the same node name apart.
    pub const META_ENGINE: &'static str = "remora-engine";
    /// Meta key of the full container id.
    pub const META_CONTAINER: &'static str = "container-id";
    /// Meta key of [`Service::definition_hash`].
    pub const META_HASH: &'static str = "remora-hash";

    /// A number that changes when, and only when, something in this definition changes that we want Consul to have.
    ///
    /// Consul does not give a check's definition back (interval, URL, headers…), so a difference there can only be seen
    /// by comparing this with the [`Service::META_HASH`] of what is registered. Status and output are not part of it, nor
    /// is the hash itself. FNV-1a over the JSON text: both are the same in every release and on every platform.
    #[must_use]
    pub fn definition_hash(&self) -> String {
        struct Fnv(fnv::FnvHasher);
        impl std::io::Write for Fnv {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.write(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut unmarked = self.clone();
        unmarked.meta = unmarked.meta.without(Self::META_HASH);
        let mut fnv = Fnv(fnv::FnvHasher::default());
        // Writing to a hasher cannot fail, and every field above has a JSON form; should one ever not have, the hash of
        // the part before it is still a stable number.
        let _unwritable = serde_json::to_writer(&mut fnv, &unmarked);
        format!("{:016x}", fnv.0.finish())
    }

    /// Puts the current [`Service::definition_hash`] into the meta.
    pub fn seal(&mut self) {
        let hash = self.definition_hash();
        self.meta = self.meta.with(Self::META_HASH, &hash);
    }

    /// Shares memory with another definition, where the two say the same.
    pub fn share(&mut self, other: &Self) {
        for (text, other) in
            [(&mut self.id, &other.id), (&mut self.name, &other.name), (&mut self.address, &other.address)]
        {
            share(text, other);
        }
        share(&mut self.tags, &other.tags);
        share(&mut self.meta, &other.meta);
        for (check, other) in self.checks.iter_mut().zip(&other.checks) {
            share(&mut check.id, &other.id);
            share(&mut check.output, &other.output);
            share(&mut check.kind, &other.kind);
        }
    }

    /// The id of the check that carries Docker's word about the container.
    #[must_use]
    pub fn docker_check_id(service_id: &str) -> ArcStr {
        arcstr::format!("{service_id}:docker")
    }

    /// The id of the check that says whether the container is healed.
    #[must_use]
    pub fn healing_check_id(service_id: &str) -> ArcStr {
        arcstr::format!("{service_id}:healing")
    }
}

/// A service as the Consul agent has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActualService {
    /// Its id, in the agent's own spelling.
    pub id: ArcStr,
    /// Its name.
    pub name: ArcStr,
    /// Its address.
    pub address: ArcStr,
    /// Its port.
    pub port: u16,
    /// Its tags.
    pub tags: Arc<[ArcStr]>,
    /// Its meta.
    pub meta: Meta,
    /// Its tagged addresses, without those that say nothing but its own address and port: Consul adds up to four of them
    /// to every service by itself.
    pub tagged_addresses: LiteMap<ArcStr, (ArcStr, u16)>,
    /// Its weights as `(passing, warning)`; Consul fills in 1 and 1.
    pub weights: (u16, u16),
    /// Whether others may change its tags.
    pub enable_tag_override: bool,
    /// Its checks by id.
    pub checks: LiteMap<ArcStr, ActualCheck>,
}

impl ActualService {
    /// The same, with the memory of its definition where the two say the same; `None` when it has that already.
    #[must_use]
    pub fn sharing(&self, wanted: &Service) -> Option<Self> {
        if self.id != wanted.id || ArcStr::ptr_eq(&self.id, &wanted.id) {
            return None;
        }
        let mut same = self.clone();
        same.id.clone_from(&wanted.id);
        share(&mut same.name, &wanted.name);
        share(&mut same.address, &wanted.address);
        share(&mut same.tags, &wanted.tags);
        share(&mut same.meta, &wanted.meta);
        let checks = std::mem::take(&mut same.checks).into_iter().map(|(mut id, mut check)| {
            if let Some(wanted) = wanted.checks.iter().find(|wanted| wanted.id == id) {
                id.clone_from(&wanted.id);
                share(&mut check.output, &wanted.output);
            }
            (id, check)
        });
        same.checks = exact(checks.collect());
        Some(same)
    }

    /// Whether it says that it belongs to this container (full id).
    #[must_use]
    pub fn is_of(&self, container: &str) -> bool {
        self.meta.get(Service::META_CONTAINER).is_some_and(|id| id == container)
    }
}

/// A check as the Consul agent has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualCheck {
    /// Its status; anything that Consul should not hold reads as critical.
    pub status: Status,
    /// Its output.
    pub output: ArcStr,
}

/// Everything that is registered on the Consul agent, ours and others', by service id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// By service id. Shared, because whoever compares with it keeps it: a second copy of everything that is registered
    /// would be the largest thing in memory.
    pub services: BTreeMap<ArcStr, Arc<ActualService>>,
}

impl Snapshot {
    /// The same with these services.
    #[must_use]
    pub fn with(&self, services: Vec<Arc<ActualService>>) -> Self {
        let mut all = self.services.clone();
        all.extend(services.into_iter().map(|service| (service.id.clone(), service)));
        Self { services: all }
    }
}

/// What is registered, as it was last read, and whether that can be done now.
#[derive(Debug, Clone, Default)]
pub struct ConsulSeen {
    /// `None` before the first read.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The last call found Consul.
    pub reachable: bool,
}
