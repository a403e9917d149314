//! Environment (and registrator's flags) → [`Config`]; all errors at once, each naming variable, value and what is
//! expected. Knows nothing of the other rooms, save that it asks [`crate::template`] whether a tag template can be read.
//!
//! Reading takes two stages, so that one mistake never hides another one: `raw` collects the variables as strings and
//! cannot fail; `build` judges each string by itself and writes down everything that is wrong. Nothing here looks at the
//! process, the network or a file's contents: arguments and environment are handed in, and so [`load`] can be tested with
//! any of them. (One question is put to the file system: which of Docker's two usual sockets exists.)
//!
//! * [`secret`]: a string that cannot be printed.
//! * [`errors`]: what is wrong with a configuration, and how it is told.
//! * [`table`]: every variable and every flag with its default and its meaning: the parser, `--help` and
//!   `docs/configuration.md` are all made from it.
//! * [`docs`]: the two texts made from the table.
//! * `raw`: the variables as strings (envy), nothing judged yet.
//! * `flags`: the command line: our commands, and registrator's flags and registry URI.
//! * `parse`: one small parser per type; `advertised` for the address of this host.
//! * `nearest`: the known name that is most like an unknown one.
//! * `build`: strings → [`Config`]; `consul` and `docker` do it for the standard variables of those two, [`heal`] for
//!   healing, [`external`] for the way to Consul.
//! * `describe`: a [`Config`] as an operator may see it, without secrets.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod advertised;
mod build;
mod consul;
mod describe;
mod docker;
pub mod docs;
pub mod errors;
pub mod external;
mod flags;
pub mod heal;
pub mod inherited;
mod nearest;
mod parse;
mod raw;
pub mod secret;
pub mod table;
#[cfg(test)]
mod tests;

pub use errors::{ConfigError, ConfigErrors};
pub use external::{ConsulMode, External};
pub use heal::{Budget, ClusterMax, Correlation, Heal, HealDefault, HealMode, OnKill, Webhook, WithoutConsul};
pub(crate) use nearest::nearest;
pub use secret::Secret;

/// Reads the command line (without the program's own name) and the environment.
///
/// Fails with everything that is wrong, at once; the process should then end with status 64 (`EX_USAGE`). A request for
/// help or for the version never fails, whatever else is given. No token file and no certificate is read.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigErrors> {
    load_with(args, env, &Path::exists)
}

/// [`load`], with the file system as an argument.
fn load_with(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Loaded, ConfigErrors> {
    let mut findings = errors::Findings::default();
    let arguments = flags::parse(args, &mut findings);
    if matches!(arguments.command, Command::Help | Command::Version) {
        // Who asks for help may well have a configuration that needs it.
        let nothing = &mut errors::Findings::default();
        let config = build::config(&raw::Raw::default(), &flags::Arguments::default(), exists, nothing);
        return Ok(Loaded { command: arguments.command, config, warnings: Vec::new() });
    }
    let raw = raw::collect(env, &mut findings);
    let config = build::config(&raw, &arguments, exists, &mut findings);
    let warnings = findings.finish()?;
    Ok(Loaded { command: arguments.command, config, warnings })
}

/// Everything that an operator can decide about this agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `REMORA_NODE`; `None`: the engine's own name.
    pub node: Option<String>,
    /// What is published, and how.
    pub publish: Publish,
    /// `REMORA_RESYNC`: between two full looks at Docker. 30 s.
    pub resync: Duration,
    /// Where Docker is.
    pub docker: Docker,
    /// Where Consul is.
    pub consul: Consul,
    /// `REMORA_ON_EXIT`.
    pub on_exit: OnExit,
    /// `REMORA_HEALTH_TTL`: the `docker` checks expire without a report for so long; `None` (0): never.
    pub health_ttl: Option<Duration>,
    /// `REMORA_HTTP_ADDR`: where `/healthz`, `/readyz` and `/metrics` are served; `None` (`off`): nowhere.
    pub http: Option<SocketAddr>,
    /// `REMORA_LOG` and `REMORA_LOG_FORMAT`.
    pub log: Log,
    /// How failed containers are healed.
    pub heal: Heal,
    /// How Consul is spoken to.
    pub external: External,
}

/// What is published, and how. Also the settings of the pure registration rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// `REMORA_ADDRESS` (registrator's `-ip`): the address to advertise for ports published on the host; one IPv4 and one
    /// IPv6 address at most, or a host name.
    pub address: HostAddress,
    /// `REMORA_INTERNAL` (`-internal`): register container addresses and ports instead of host addresses and ports.
    pub internal: bool,
    /// `REMORA_EXPLICIT` (`-explicit`): only containers that have a `SERVICE_NAME`.
    pub explicit: bool,
    /// `REMORA_USE_IP_FROM_LABEL` (`-useIpFromLabel`): the address is the value of this label.
    pub use_ip_from_label: Option<String>,
    /// `REMORA_TAGS` (`-tags`): comma-separated tags for every service; a Go template when it holds `{{`.
    pub tags: Option<String>,
    /// `REMORA_PORT_TAGS`.
    pub port_tags: PortTags,
    /// `REMORA_NETWORKS`: which of a container's networks gives its address, best first.
    pub networks: Vec<NetworkChoice>,
    /// `REMORA_BINDINGS`.
    pub bindings: Bindings,
    /// `REMORA_INCLUDE`: when not empty, only containers that match one of these.
    pub include: Vec<Filter>,
    /// `REMORA_EXCLUDE`: no container that matches one of these.
    pub exclude: Vec<Filter>,
    /// `REMORA_LOOSE_BOOLEANS`: registrator's reading, where any value that is not empty is true.
    pub loose_booleans: bool,
    /// `REMORA_NAMES`.
    pub names: Names,
    /// `REMORA_MAX_PORTS`: at most so many services per container. 1,000.
    pub max_ports: usize,
    /// `REMORA_ALLOW_SCRIPT_CHECKS`.
    pub allow_script_checks: bool,
    /// `REMORA_DEREGISTER` (`-deregister`).
    pub deregister: Deregister,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            address: HostAddress::default(),
            internal: false,
            explicit: false,
            use_ip_from_label: None,
            tags: None,
            port_tags: PortTags::Merge,
            networks: Vec::new(),
            bindings: Bindings::All,
            include: Vec::new(),
            exclude: Vec::new(),
            loose_booleans: false,
            names: Names::Keep,
            max_ports: 1000,
            allow_script_checks: false,
            deregister: Deregister::Always,
        }
    }
}

/// The address of the node, per family, or its name in the place of both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostAddress {
    /// A host name that Consul's DNS answers with (CNAME) and that probes resolve. Without addresses beside it: nobody but
    /// a name server knows which they are.
    pub name: Option<String>,
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// What `SERVICE_<port>_TAGS` does to `SERVICE_TAGS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortTags {
    /// Both apply.
    Merge,
    /// The port's own replace the generic ones, as in registrator.
    Replace,
}

/// Which of several bindings of one container port are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bindings {
    /// Each distinct reachable address.
    All,
    /// Only the first one, as in registrator.
    First,
}

/// How a network is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkChoice {
    /// By name; `*` stands for any characters.
    Name(String),
    /// By address: the network in which the container's address lies in this range.
    Cidr {
        /// Any address of the range.
        address: std::net::IpAddr,
        /// Bits of the prefix.
        prefix: u8,
    },
}

/// A condition on a container: `label:key`, `label:key=value`, `name:…`, `image:…`, `network:…`, `project:…`; in all but a
/// label's key, `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// It has the label, and if a pattern is given its value matches.
    Label {
        /// Exact key.
        key: String,
        /// Pattern of the value.
        value: Option<String>,
    },
    /// Its name matches.
    Name(String),
    /// Its image reference matches.
    Image(String),
    /// One of its networks' names matches.
    Network(String),
    /// Its Compose project (`com.docker.compose.project`) matches.
    Project(String),
}

/// What to do about a service name that DNS cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Register it as it is, and warn.
    Keep,
    /// Make it lower-case letters, digits and `-`, at most 63 bytes.
    Dns,
}

/// Which ends of a container deregister it (registrator's `-deregister`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deregister {
    /// Any.
    Always,
    /// Exit code 0 or a requested stop; after a failure it stays, critical, until it is removed or runs again.
    OnSuccess,
}

/// What happens to our registrations when the agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// They stay: restarting the agent must not empty the catalog.
    Keep,
    /// They are deregistered.
    Deregister,
}

/// Where Docker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Docker {
    /// A unix socket.
    Unix(PathBuf),
    /// Plain TCP: `host:port`.
    Tcp(String),
    /// TLS: `host:port` with `ca.pem`, `cert.pem` and `key.pem` of `DOCKER_CERT_PATH`.
    Tls {
        /// `host:port`.
        address: String,
        /// The folder with the three files.
        certificates: PathBuf,
    },
}

/// Where Consul is, and how to speak to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Consul {
    /// `CONSUL_HTTP_ADDR`, with `CONSUL_HTTP_SSL` applied; the first of several.
    pub address: ConsulAddress,
    /// The further addresses of `CONSUL_HTTP_ADDR`: other servers of the same cluster. Usually none.
    pub others: Vec<ConsulAddress>,
    /// `CONSUL_HTTP_TOKEN` or `CONSUL_HTTP_TOKEN_FILE`.
    pub token: Token,
    /// `CONSUL_HTTP_AUTH`: user and password for basic authentication.
    pub auth: Option<(String, Secret)>,
    /// TLS; only used with an `https` address.
    pub tls: ConsulTls,
    /// `CONSUL_NAMESPACE` (Consul Enterprise).
    pub namespace: Option<String>,
    /// `CONSUL_PARTITION` (Consul Enterprise).
    pub partition: Option<String>,
}

impl Consul {
    /// Every address, in the operator's order.
    pub fn addresses(&self) -> impl Iterator<Item = &ConsulAddress> {
        std::iter::once(&self.address).chain(&self.others)
    }

    /// Every address as the operator may have written them: with commas between them.
    #[must_use]
    pub fn told_addresses(&self) -> String {
        self.addresses().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

/// An address of Consul's HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsulAddress {
    /// `http://` or `https://`.
    Url {
        /// With TLS.
        tls: bool,
        /// Name or IP address, an IPv6 address in brackets.
        host: String,
        /// Port.
        port: u16,
        /// A path that prefixes every request, without a slash at its end; usually empty.
        prefix: String,
    },
    /// `unix://path`.
    Unix(PathBuf),
}

impl std::fmt::Display for ConsulAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url { tls, host, port, prefix } => {
                write!(f, "{}://{host}:{port}{prefix}", if *tls { "https" } else { "http" })
            }
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Where the ACL token comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// Nowhere: the anonymous token.
    None,
    /// `CONSUL_HTTP_TOKEN`.
    Value(Secret),
    /// `CONSUL_HTTP_TOKEN_FILE`; wins over the other. Read again whenever Consul refuses a call.
    File(PathBuf),
}

/// TLS towards Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulTls {
    /// `CONSUL_HTTP_SSL_VERIFY`; true.
    pub verify: bool,
    /// `CONSUL_CACERT`: a file of PEM certificates.
    pub ca_file: Option<PathBuf>,
    /// `CONSUL_CAPATH`: a folder of such files.
    pub ca_path: Option<PathBuf>,
    /// `CONSUL_CLIENT_CERT` and `CONSUL_CLIENT_KEY` (or registrator's `CONSUL_TLSCERT`, `CONSUL_TLSKEY`).
    pub client: Option<(PathBuf, PathBuf)>,
    /// `CONSUL_TLS_SERVER_NAME`: the name to ask for and to verify.
    pub server_name: Option<String>,
}

impl Default for ConsulTls {
    fn default() -> Self {
        Self { verify: true, ca_file: None, ca_path: None, client: None, server_name: None }
    }
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A filter in the form of `tracing-subscriber`'s `Targets`: `info`, `remora=debug`.
    pub filter: String,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

/// `REMORA_LOG_FORMAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// What the process was asked to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Command {
    /// Run until stopped.
    #[default]
    Run,
    /// Ask a running agent on this host whether it is alive; exit 0 or 1.
    Healthcheck,
    /// Read the configuration, print it without secrets, exit 0 or 64.
    CheckConfig,
    /// What would be registered for this container, and why.
    Explain {
        /// Id, the beginning of one, or name.
        container: String,
        /// As JSON.
        json: bool,
    },
    /// Make Consul right once and end.
    Sync {
        /// Only print what would be done.
        dry_run: bool,
    },
    /// Look at everything that Remora depends on, and say what is missing.
    Doctor,
    /// How healing stands, as the agent on this host says.
    Status {
        /// As JSON.
        json: bool,
    },
    /// Ask this node's agent to replace a container now.
    Heal {
        /// Id, the beginning of one, or name.
        container: String,
    },
    /// Ask this node's agent to forget a container's attempts and quarantine.
    Release {
        /// Id, the beginning of one, or name.
        container: String,
    },
    /// Healing is to stand still.
    Pause {
        /// Where.
        scope: PauseScope,
        /// For so long; `None`: until it is resumed.
        span: Option<Duration>,
        /// Why; possibly empty.
        reason: String,
    },
    /// Healing is to go on.
    Resume {
        /// Where.
        scope: PauseScope,
    },
    /// Print how to use it.
    Help,
    /// Print the version.
    Version,
}

/// Where healing is to stand still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseScope {
    /// For one container of this node: its id, the beginning of one, or its name.
    Container(String),
    /// On this node.
    Node,
    /// Everywhere.
    Cluster,
}

/// The outcome of reading arguments and environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to do.
    pub command: Command,
    /// With which settings.
    pub config: Config,
    /// What the operator should know although it is no error: flags without a meaning any more, unknown `REMORA_*`
    /// variables with the nearest known name, plain TCP to another host.
    pub warnings: Vec<String>,
}
