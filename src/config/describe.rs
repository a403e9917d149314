//! A configuration as an operator may see it: the settings in force, by the names of their variables, without secrets.

use std::fmt;
use std::path::Path;

use super::errors::hidden;
use super::{
    Bindings, Config, Consul, Deregister, Docker, Filter, Heal, HostAddress, LogFormat, Names, NetworkChoice, OnExit,
    PortTags, Publish, Token,
};

/// What stands where nothing is set.
const NOTHING: &str = "(not set)";

impl Config {
    /// The settings in force as pairs of variable and value, in the order of the documentation. A secret shows only its
    /// length.
    #[must_use]
    pub fn describe(&self) -> Vec<(String, String)> {
        let mut pairs = Pairs(Vec::new());
        publish(&self.publish, &mut pairs);
        heal(&self.heal, &mut pairs);
        pairs.add("REMORA_NODE", self.node.as_deref().unwrap_or("(the engine's host name)"));
        pairs.add("REMORA_RESYNC", humantime::format_duration(self.resync));
        match self.health_ttl {
            Some(ttl) => pairs.add("REMORA_HEALTH_TTL", humantime::format_duration(ttl)),
            None => pairs.add("REMORA_HEALTH_TTL", "0 (never)"),
        }
        pairs.add(
            "REMORA_ON_EXIT",
            match self.on_exit {
                OnExit::Keep => "keep",
                OnExit::Deregister => "deregister",
            },
        );
        pairs.add("REMORA_HTTP_ADDR", self.http.map_or_else(|| "off".to_owned(), |address| address.to_string()));
        pairs.add("REMORA_CONSUL_MODE", self.external.mode);
        pairs.add("REMORA_NODE_TTL", humantime::format_duration(self.external.node_ttl));
        pairs.add("REMORA_NODE_REAP", humantime::format_duration(self.external.node_reap));
        pairs.add("REMORA_LOG", &self.log.filter);
        pairs.add(
            "REMORA_LOG_FORMAT",
            match self.log.format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            },
        );
        consul(&self.consul, &mut pairs);
        docker(&self.docker, &mut pairs);
        pairs.0
    }
}

struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn add(&mut self, name: &str, value: impl fmt::Display) {
        // A path may hold anything, and this is shown on terminals.
        let value = value.to_string().replace(char::is_control, "\u{fffd}");
        self.0.push((name.to_owned(), value));
    }

    fn add_optional(&mut self, name: &str, value: Option<impl fmt::Display>) {
        match value {
            Some(value) => self.add(name, value),
            None => self.add(name, NOTHING),
        }
    }

    fn add_list(&mut self, name: &str, items: impl IntoIterator<Item = String>) {
        let items: Vec<String> = items.into_iter().collect();
        self.add_optional(name, (!items.is_empty()).then(|| items.join(", ")));
    }
}

fn publish(publish: &Publish, pairs: &mut Pairs) {
    let HostAddress { name, v4, v6 } = &publish.address;
    let addresses: Vec<String> =
        [name.clone(), v4.map(|v4| v4.to_string()), v6.map(|v6| v6.to_string())].into_iter().flatten().collect();
    if addresses.is_empty() {
        pairs.add("REMORA_ADDRESS", "(found out at run time)");
    } else {
        pairs.add("REMORA_ADDRESS", addresses.join(", "));
    }
    pairs.add("REMORA_INTERNAL", publish.internal);
    pairs.add("REMORA_EXPLICIT", publish.explicit);
    pairs.add_list("REMORA_INCLUDE", publish.include.iter().map(ToString::to_string));
    pairs.add_list("REMORA_EXCLUDE", publish.exclude.iter().map(ToString::to_string));
    pairs.add_optional("REMORA_TAGS", publish.tags.as_ref());
    pairs.add(
        "REMORA_PORT_TAGS",
        match publish.port_tags {
            PortTags::Merge => "merge",
            PortTags::Replace => "replace",
        },
    );
    pairs.add_list("REMORA_NETWORKS", publish.networks.iter().map(ToString::to_string));
    pairs.add_optional("REMORA_USE_IP_FROM_LABEL", publish.use_ip_from_label.as_ref());
    pairs.add(
        "REMORA_BINDINGS",
        match publish.bindings {
            Bindings::All => "all",
            Bindings::First => "first",
        },
    );
    pairs.add(
        "REMORA_NAMES",
        match publish.names {
            Names::Keep => "keep",
            Names::Dns => "dns",
        },
    );
    pairs.add("REMORA_MAX_PORTS", publish.max_ports);
    pairs.add("REMORA_LOOSE_BOOLEANS", publish.loose_booleans);
    pairs.add("REMORA_ALLOW_SCRIPT_CHECKS", publish.allow_script_checks);
    pairs.add(
        "REMORA_DEREGISTER",
        match publish.deregister {
            Deregister::Always => "always",
            Deregister::OnSuccess => "on-success",
        },
    );
}

fn heal(heal: &Heal, pairs: &mut Pairs) {
    pairs.add("REMORA_HEAL", heal.mode);
    pairs.add("REMORA_HEAL_DEFAULT", heal.default);
    pairs.add("REMORA_HEAL_HOLDOFF", humantime::format_duration(heal.holdoff));
    pairs.add("REMORA_HEAL_SETTLE", humantime::format_duration(heal.settle));
    pairs.add("REMORA_HEAL_ON_KILL", heal.on_kill);
    pairs.add("REMORA_HEAL_BUDGET", heal.budget);
    pairs.add("REMORA_HEAL_CORRELATION", heal.correlation);
    pairs.add("REMORA_HEAL_CLUSTER_MAX", heal.cluster_max);
    pairs.add("REMORA_HEAL_WITHOUT_CONSUL", heal.without_consul);
    pairs.add_optional("REMORA_HEAL_WEBHOOK", heal.webhook.as_ref());
    pairs.add("REMORA_KV_PREFIX", &heal.prefix);
}

fn consul(consul: &Consul, pairs: &mut Pairs) {
    pairs.add("CONSUL_HTTP_ADDR", consul.told_addresses());
    match &consul.token {
        Token::None => pairs.add("CONSUL_HTTP_TOKEN", NOTHING),
        Token::Value(secret) => pairs.add("CONSUL_HTTP_TOKEN", hidden(secret.expose())),
        Token::File(path) => pairs.add("CONSUL_HTTP_TOKEN_FILE", path.display()),
    }
    let auth = consul.auth.as_ref().map(|(user, word)| match word.expose() {
        // Without a colon all of it is the user, for Consul; whoever wrote it may have meant a password.
        "" => hidden(user),
        word => format!("{user}:{}", hidden(word)),
    });
    pairs.add_optional("CONSUL_HTTP_AUTH", auth);
    let tls = &consul.tls;
    let path = |path: Option<&Path>| path.map(|path| path.display().to_string());
    pairs.add("CONSUL_HTTP_SSL_VERIFY", tls.verify);
    pairs.add_optional("CONSUL_CACERT", path(tls.ca_file.as_deref()));
    pairs.add_optional("CONSUL_CAPATH", path(tls.ca_path.as_deref()));
    let client = tls.client.as_ref();
    pairs.add_optional("CONSUL_CLIENT_CERT", path(client.map(|(certificate, _)| certificate.as_path())));
    pairs.add_optional("CONSUL_CLIENT_KEY", path(client.map(|(_, key)| key.as_path())));
    pairs.add_optional("CONSUL_TLS_SERVER_NAME", tls.server_name.as_ref());
    pairs.add_optional("CONSUL_NAMESPACE", consul.namespace.as_ref());
    pairs.add_optional("CONSUL_PARTITION", consul.partition.as_ref());
}

fn docker(docker: &Docker, pairs: &mut Pairs) {
    match docker {
        Docker::Unix(path) => pairs.add("DOCKER_HOST", format!("unix://{}", path.display())),
        Docker::Tcp(address) => pairs.add("DOCKER_HOST", format!("tcp://{address}")),
        Docker::Tls { address, certificates } => {
            pairs.add("DOCKER_HOST", format!("https://{address}"));
            pairs.add("DOCKER_CERT_PATH", certificates.display());
        }
    }
}

impl fmt::Display for NetworkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Cidr { address, prefix } => write!(f, "{address}/{prefix}"),
        }
    }
}

impl fmt::Display for Filter {
    /// As it is written in `REMORA_INCLUDE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label { key, value: None } => write!(f, "label:{key}"),
            Self::Label { key, value: Some(value) } => write!(f, "label:{key}={value}"),
            Self::Name(pattern) => write!(f, "name:{pattern}"),
            Self::Image(pattern) => write!(f, "image:{pattern}"),
            Self::Network(pattern) => write!(f, "network:{pattern}"),
            Self::Project(pattern) => write!(f, "project:{pattern}"),
        }
    }
}
