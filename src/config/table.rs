//! Every variable and every flag, with its default and its meaning. The parser, `--help` and `docs/configuration.md` are
//! made from these two tables, so that none of them can fall behind.

mod command_line;

pub use command_line::{COMMANDS, CommandFlag, Effect, FLAGS, Flag, Takes, flag_of};

/// A variable of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub variable: &'static str,
    /// What it is about.
    pub group: Group,
    /// What counts when it is not set; empty: nothing does.
    pub default: &'static str,
    /// What it can be set to.
    pub values: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// What a variable is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Which containers are published, and how.
    Publish,
    /// How failed containers are healed.
    Heal,
    /// The agent itself.
    Agent,
    /// Consul's standard variables.
    Consul,
    /// Docker's standard variables.
    Docker,
}

impl Group {
    /// In the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Publish, Self::Heal, Self::Agent, Self::Consul, Self::Docker];

    /// Its headline.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Publish => "What is published",
            Self::Heal => "Healing",
            Self::Agent => "The agent itself",
            Self::Consul => "Consul",
            Self::Docker => "Docker",
        }
    }
}

const fn setting(
    group: Group,
    variable: &'static str,
    default: &'static str,
    values: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting { variable, group, default, values, meaning }
}

/// Every variable that Remora reads, in the order of the documentation.
pub const SETTINGS: &[Setting] = &[
    setting(
        Group::Publish,
        "REMORA_ADDRESS",
        "",
        "one IPv4 and/or one IPv6 address, or a host name",
        "The address of this host under which others reach its published ports. A host name is registered as it is: Consul's \
         DNS answers with it, and checks resolve it. Not set: Remora finds it out; `remora \
         doctor` tells how.",
    ),
    setting(
        Group::Publish,
        "REMORA_INTERNAL",
        "false",
        "true, false",
        "Register the containers' own addresses and ports instead of those published on the host.",
    ),
    setting(
        Group::Publish,
        "REMORA_EXPLICIT",
        "false",
        "true, false",
        "Register only containers that have a `SERVICE_NAME`.",
    ),
    setting(
        Group::Publish,
        "REMORA_INCLUDE",
        "",
        "list of conditions",
        "When set, publish only containers that match one of these: `label:key`, `label:key=value`, `name:…`, `image:…`, \
         `network:…`, `project:…` (Compose). `*` stands for any characters, save in a label's key.",
    ),
    setting(
        Group::Publish,
        "REMORA_EXCLUDE",
        "",
        "list of conditions",
        "Publish no container that matches one of these.",
    ),
    setting(
        Group::Publish,
        "REMORA_TAGS",
        "",
        "list of tags, or a template",
        "Tags for every service. With `{{` in it, it is a Go template as in registrator.",
    ),
    setting(
        Group::Publish,
        "REMORA_PORT_TAGS",
        "merge",
        "merge, replace",
        "Whether `SERVICE_<port>_TAGS` are added to `SERVICE_TAGS`, or replace them as in registrator.",
    ),
    setting(
        Group::Publish,
        "REMORA_NETWORKS",
        "",
        "list of names (`*` for any characters) or ranges",
        "Which of a container's networks gives its address, best first: `backend,prod-*,10.20.0.0/16`.",
    ),
    setting(
        Group::Publish,
        "REMORA_USE_IP_FROM_LABEL",
        "",
        "name of a label",
        "The address of a container's services is the value of this label, without a `/24` behind it.",
    ),
    setting(
        Group::Publish,
        "REMORA_BINDINGS",
        "all",
        "all, first",
        "Of a port that is published several times, register each address that can be reached, or only the first as in \
         registrator.",
    ),
    setting(
        Group::Publish,
        "REMORA_NAMES",
        "keep",
        "keep, dns",
        "A service name that DNS cannot carry is registered as it is, with a warning, or made to fit.",
    ),
    setting(
        Group::Publish,
        "REMORA_MAX_PORTS",
        "1000",
        "1 to 65535",
        "At most so many services for one container; the rest is left out, with a warning.",
    ),
    setting(
        Group::Publish,
        "REMORA_LOOSE_BOOLEANS",
        "false",
        "true, false",
        "In labels, take any value that is not empty for true, as registrator does: there even `SERVICE_IGNORE=false` \
         ignores.",
    ),
    setting(
        Group::Publish,
        "REMORA_ALLOW_SCRIPT_CHECKS",
        "false",
        "true, false",
        "Register `SERVICE_CHECK_SCRIPT`, `_CMD` and `_DOCKER` checks. Whoever may label a container then runs programs on \
         the host of the Consul agent.",
    ),
    setting(
        Group::Publish,
        "REMORA_DEREGISTER",
        "always",
        "always, on-success",
        "Whether a container that failed is deregistered like any other that ended, or stays in Consul as critical until it \
         is removed or runs again.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL",
        "on",
        "on, observe, off",
        "Whether containers that failed are healed. `observe`: what would be done is told, and not done.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL_DEFAULT",
        "published",
        "published, opt-in, all",
        "Which containers are healed when their label `remora.heal` does not say: those that are published in Consul, none, \
         or all.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL_HOLDOFF",
        "60s",
        "0 to 1day",
        "After its own start, and after Docker came back, Remora only looks for so long.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL_SETTLE",
        "5s",
        "1s to 10m",
        "A container that ended has to stay down for so long before anything is done.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL_ON_KILL",
        "heal",
        "heal, respect",
        "Whether a container that ended by `docker kill` has failed, or was meant to end. `docker stop` always is meant. A \
         label `remora.heal.on-kill` wins.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL_BUDGET",
        "6/10m",
        "number/duration",
        "At most so many operations on this node within so long.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL_CORRELATION",
        "50%/60s/3",
        "share/duration/number",
        "When this share of the containers, and at least so many, fail within so long, it is the node or something that all \
         of them need: nothing is done.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL_CLUSTER_MAX",
        "10%",
        "share or number",
        "On so many of the cluster's nodes healing may be under way at once; on one at least.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL_WITHOUT_CONSUL",
        "local",
        "local, none",
        "While Consul is away, heal with a third of the budget, or not at all.",
    ),
    setting(
        Group::Heal,
        "REMORA_HEAL_WEBHOOK",
        "",
        "URL, secret",
        "Told of what was healed, what failed, what was given up, and of a node that is the suspect: a POST with JSON.",
    ),
    setting(
        Group::Heal,
        "REMORA_KV_PREFIX",
        "remora",
        "path",
        "Where Remora's keys are in Consul's KV: pauses, requests, the cluster's semaphore, events. The same on all nodes.",
    ),
    setting(
        Group::Agent,
        "REMORA_NODE",
        "the engine's host name",
        "host name",
        "The name of this node: the first part of every service id.",
    ),
    setting(
        Group::Agent,
        "REMORA_RESYNC",
        "30s",
        "1s to 1day",
        "Between two looks at everything. Changes are seen at once; this finds what was missed.",
    ),
    setting(
        Group::Agent,
        "REMORA_HEALTH_TTL",
        "0",
        "0, or 10s to 1day",
        "When Remora has not reported for so long, Consul turns the `docker` checks critical. 0: never, because a dead agent \
         should take nothing down.",
    ),
    setting(
        Group::Agent,
        "REMORA_ON_EXIT",
        "keep",
        "keep, deregister",
        "Whether the registrations stay when Remora is stopped. Kept, they survive its update.",
    ),
    setting(
        Group::Agent,
        "REMORA_HTTP_ADDR",
        "127.0.0.1:7979",
        "address:port, :port, off",
        "Where `/healthz`, `/readyz`, `/metrics` and `/status` are served. `:7979` means every IPv4 address.",
    ),
    setting(
        Group::Agent,
        "REMORA_CONSUL_MODE",
        "auto",
        "auto, agent, catalog",
        "How Consul is spoken to. `agent`: through the Consul agent of this node. `catalog`: there is none; the node and what runs on \
         it are registered in the cluster's catalog, and Remora runs the checks of `SERVICE_CHECK_*` itself. `auto`: `agent` when \
         the Consul at the address is this host's, `catalog` when it is another host's or when there are several addresses.",
    ),
    setting(
        Group::Agent,
        "REMORA_NODE_TTL",
        "15s",
        "a duration from 10s to 1day",
        "Catalog mode: a node that was not heard of for twice as long is dead, and all its instances turn critical.",
    ),
    setting(
        Group::Agent,
        "REMORA_NODE_REAP",
        "72h",
        "0, or a duration from 1m to 366days",
        "Catalog mode: what a dead node had registered is removed after so long. 0: never.",
    ),
    setting(
        Group::Agent,
        "REMORA_LOG",
        "info",
        "error, warn, info, debug, trace, off",
        "What is logged, also per target: `info,remora=debug`.",
    ),
    setting(Group::Agent, "RUST_LOG", "", "as REMORA_LOG", "Counts when `REMORA_LOG` is not set."),
    setting(
        Group::Agent,
        "REMORA_LOG_FORMAT",
        "text",
        "text, json",
        "Lines for people, or one JSON object per line for machines.",
    ),
    setting(
        Group::Consul,
        "CONSUL_HTTP_ADDR",
        "127.0.0.1:8500",
        "host:port, http://…, https://…, unix://path; several http or https addresses with commas",
        "The HTTP API of the Consul agent. A path behind the host prefixes every request. A registry URI on the command line \
         wins over it. Several addresses (all http, or all https) are servers of one cluster: the first one is used until it \
         fails, then the next; `REMORA_CONSUL_MODE=auto` is then `catalog`.",
    ),
    setting(Group::Consul, "CONSUL_HTTP_TOKEN", "", "secret", "The ACL token."),
    setting(
        Group::Consul,
        "CONSUL_HTTP_TOKEN_FILE",
        "",
        "path",
        "A file with the ACL token; wins over `CONSUL_HTTP_TOKEN`. Read again whenever Consul refuses a call.",
    ),
    setting(Group::Consul, "CONSUL_HTTP_AUTH", "", "user:password", "Basic authentication."),
    setting(Group::Consul, "CONSUL_HTTP_SSL", "false", "true, false", "Use https whatever the address says."),
    setting(Group::Consul, "CONSUL_HTTP_SSL_VERIFY", "true", "true, false", "Verify Consul's certificate."),
    setting(
        Group::Consul,
        "CONSUL_CACERT",
        "",
        "path",
        "A PEM file with the authorities that may have signed Consul's certificate.",
    ),
    setting(Group::Consul, "CONSUL_CAPATH", "", "path", "A folder of such files."),
    setting(Group::Consul, "CONSUL_CLIENT_CERT", "", "path", "A PEM file with the certificate to show to Consul."),
    setting(Group::Consul, "CONSUL_CLIENT_KEY", "", "path", "A PEM file with its key."),
    setting(Group::Consul, "CONSUL_TLSCERT", "", "path", "Registrator's name for `CONSUL_CLIENT_CERT`."),
    setting(Group::Consul, "CONSUL_TLSKEY", "", "path", "Registrator's name for `CONSUL_CLIENT_KEY`."),
    setting(
        Group::Consul,
        "CONSUL_TLS_SERVER_NAME",
        "the host of the address",
        "host name",
        "The name to ask for, and to find in Consul's certificate.",
    ),
    setting(Group::Consul, "CONSUL_NAMESPACE", "", "name", "The namespace (Consul Enterprise)."),
    setting(Group::Consul, "CONSUL_PARTITION", "", "name", "The admin partition (Consul Enterprise)."),
    setting(
        Group::Docker,
        "DOCKER_HOST",
        "unix:///var/run/docker.sock",
        "unix://path, tcp://host:port, https://host:port",
        "The Docker Engine. Not set, and without the usual socket: `/tmp/docker.sock`, where registrator has it.",
    ),
    setting(
        Group::Docker,
        "DOCKER_TLS_VERIFY",
        "",
        "anything",
        "Use TLS for `tcp://`. As with Docker itself, `0` and `false` count, too.",
    ),
    setting(
        Group::Docker,
        "DOCKER_CERT_PATH",
        "~/.docker",
        "path",
        "The folder with `ca.pem`, `cert.pem` and `key.pem`.",
    ),
    setting(Group::Docker, "HOME", "", "path", "Only for the default of `DOCKER_CERT_PATH`."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_is_in_a_table_twice() {
        let variables: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.variable).collect();
        let flags: BTreeSet<_> = FLAGS.iter().map(|flag| flag.name).collect();
        assert_eq!((variables.len(), flags.len()), (SETTINGS.len(), FLAGS.len()));
    }

    #[test]
    fn flags_set_variables_that_exist() {
        for flag in FLAGS {
            if let Effect::Sets(variable) | Effect::SetsSeconds(variable) = flag.effect {
                assert!(SETTINGS.iter().any(|setting| setting.variable == variable), "{variable}");
                assert_eq!(flag_of(variable), Some(flag));
            }
        }
    }

    #[test]
    fn every_flag_of_registrator_is_known() {
        for name in [
            "ip",
            "internal",
            "explicit",
            "useIpFromLabel",
            "tags",
            "ttl",
            "ttl-refresh",
            "resync",
            "cleanup",
            "deregister",
            "retry-attempts",
            "retry-interval",
            "version",
        ] {
            assert!(FLAGS.iter().any(|flag| flag.name == name), "{name}");
        }
    }
}
