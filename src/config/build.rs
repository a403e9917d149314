//! Second stage: strings → [`Config`]. Every string is judged by itself; what is wrong is written down, and its default
//! stands in for it, so that the next ones are judged, too.

use std::path::Path;
use std::time::Duration;

use super::errors::{ConfigError, Findings};
use super::flags::Arguments;
use super::parse::{self, Given};
use super::raw::Raw;
use super::{
    Bindings, Config, ConsulMode, Deregister, HostAddress, Log, LogFormat, Names, OnExit, PortTags, Publish,
    advertised, consul, docker, external, heal,
};

/// A look at everything more often than this would be a look all the time.
const RESYNC_LEAST: Duration = Duration::from_secs(1);
/// What only the periodic look finds is not to stay wrong for longer than this. Also the longest TTL.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Three reports must fit into a TTL, each with time for one to be repeated.
const HEALTH_TTL_LEAST: Duration = Duration::from_secs(10);

/// Judges everything. What it returns counts only when nothing wrong was found.
pub(super) fn config(
    raw: &Raw,
    arguments: &Arguments,
    exists: &dyn Fn(&Path) -> bool,
    findings: &mut Findings,
) -> Config {
    let docker = docker::build(raw, exists, findings);
    let consul = consul::build(raw, arguments.registry.as_ref(), findings);
    let mut from = Sources { arguments, findings };
    let publish = publish(raw, &mut from);
    let node = from.read("REMORA_NODE", raw.remora_node.as_ref(), parse::node);
    let resync = |given: Given<'_>| parse::duration(given, RESYNC_LEAST, DAY, "such as 30s or 1m30s");
    let resync = from.read("REMORA_RESYNC", raw.remora_resync.as_ref(), resync);
    let on_exit = from.word(
        "REMORA_ON_EXIT",
        raw.remora_on_exit.as_ref(),
        &[("keep", OnExit::Keep), ("deregister", OnExit::Deregister)],
    );
    let health_ttl = from.read("REMORA_HEALTH_TTL", raw.remora_health_ttl.as_ref(), health_ttl);
    let http = from.read("REMORA_HTTP_ADDR", raw.remora_http_addr.as_ref(), parse::listen);
    let log = log(raw, &mut from);
    let heal = heal::build(raw, &mut from);
    let external = external::build(raw, &mut from);
    if external.mode == ConsulMode::Agent && !consul.others.is_empty() {
        from.findings.warn(
            "CONSUL_HTTP_ADDR names several addresses with REMORA_CONSUL_MODE=agent: what is registered with one agent stays \
             there when the next one is used; several addresses are for the servers of a cluster (catalog)",
        );
    }
    Config {
        node,
        publish,
        resync: resync.unwrap_or(Duration::from_secs(30)),
        docker,
        consul,
        on_exit: on_exit.unwrap_or(OnExit::Keep),
        health_ttl: health_ttl.flatten(),
        http: http.unwrap_or_else(|| Some(([127, 0, 0, 1], 7979).into())),
        log,
        heal,
        external,
    }
}

/// Where a value comes from: a flag, which is the more explicit, or else the variable.
pub(super) struct Sources<'a> {
    arguments: &'a Arguments,
    findings: &'a mut Findings,
}

impl Sources<'_> {
    /// The value of a variable or of its flag, if one of them is set and right.
    pub(super) fn read<T>(
        &mut self,
        variable: &'static str,
        value: Option<&String>,
        parse: impl FnOnce(Given<'_>) -> Result<T, ConfigError>,
    ) -> Option<T> {
        let given = match (self.arguments.overrides.get(variable), value) {
            (Some(flag), _) => Given { name: &flag.flag, text: &flag.text },
            (None, Some(text)) => Given { name: variable, text },
            (None, None) => return None,
        };
        self.findings.take(parse(given))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        variable: &'static str,
        value: Option<&String>,
        words: &[(&str, T)],
    ) -> Option<T> {
        self.read(variable, value, |given| parse::word(given, words))
    }

    /// A switch; off unless set.
    fn switch(&mut self, variable: &'static str, value: Option<&String>) -> bool {
        self.read(variable, value, parse::boolean).unwrap_or(false)
    }
}

fn publish(raw: &Raw, from: &mut Sources<'_>) -> Publish {
    let default = Publish::default();
    let address = from.read("REMORA_ADDRESS", raw.remora_address.as_ref(), advertised::host_address);
    if address.as_ref().is_some_and(is_loopback) {
        from.findings.warn("REMORA_ADDRESS (-ip) is a loopback address: only this host itself can reach the services");
    }
    let label = |given: Given<'_>| parse::name(given, "com.example.address");
    let max_ports = |given: Given<'_>| {
        let number = parse::whole(given, 1, 65_535)?;
        usize::try_from(number).map_err(|_| given.wrong("a whole number from 1 to 65535"))
    };
    Publish {
        address: address.unwrap_or(default.address),
        internal: from.switch("REMORA_INTERNAL", raw.remora_internal.as_ref()),
        explicit: from.switch("REMORA_EXPLICIT", raw.remora_explicit.as_ref()),
        use_ip_from_label: from.read("REMORA_USE_IP_FROM_LABEL", raw.remora_use_ip_from_label.as_ref(), label),
        tags: from.read("REMORA_TAGS", raw.remora_tags.as_ref(), parse::tags),
        port_tags: from
            .word(
                "REMORA_PORT_TAGS",
                raw.remora_port_tags.as_ref(),
                &[("merge", PortTags::Merge), ("replace", PortTags::Replace)],
            )
            .unwrap_or(default.port_tags),
        networks: from
            .read("REMORA_NETWORKS", raw.remora_networks.as_ref(), parse::networks)
            .unwrap_or(default.networks),
        bindings: from
            .word(
                "REMORA_BINDINGS",
                raw.remora_bindings.as_ref(),
                &[("all", Bindings::All), ("first", Bindings::First)],
            )
            .unwrap_or(default.bindings),
        include: from.read("REMORA_INCLUDE", raw.remora_include.as_ref(), parse::filters).unwrap_or(default.include),
        exclude: from.read("REMORA_EXCLUDE", raw.remora_exclude.as_ref(), parse::filters).unwrap_or(default.exclude),
        loose_booleans: from.switch("REMORA_LOOSE_BOOLEANS", raw.remora_loose_booleans.as_ref()),
        names: from
            .word("REMORA_NAMES", raw.remora_names.as_ref(), &[("keep", Names::Keep), ("dns", Names::Dns)])
            .unwrap_or(default.names),
        max_ports: from.read("REMORA_MAX_PORTS", raw.remora_max_ports.as_ref(), max_ports).unwrap_or(default.max_ports),
        allow_script_checks: from.switch("REMORA_ALLOW_SCRIPT_CHECKS", raw.remora_allow_script_checks.as_ref()),
        deregister: from
            .word(
                "REMORA_DEREGISTER",
                raw.remora_deregister.as_ref(),
                &[("always", Deregister::Always), ("on-success", Deregister::OnSuccess)],
            )
            .unwrap_or(default.deregister),
    }
}

/// Whether it is, or by its name must be (RFC 6761), this host's own.
fn is_loopback(HostAddress { name, v4, v6 }: &HostAddress) -> bool {
    let name = name.as_deref().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let by_name = name == "localhost" || name.ends_with(".localhost");
    by_name || v4.is_some_and(|v4| v4.is_loopback()) || v6.is_some_and(|v6| v6.is_loopback())
}

fn health_ttl(given: Given<'_>) -> Result<Option<Duration>, ConfigError> {
    let ttl = parse::duration(given, Duration::ZERO, DAY, "such as 60s")?;
    if ttl.is_zero() {
        return Ok(None);
    }
    if ttl < HEALTH_TTL_LEAST {
        return Err(given.wrong(
            "0 (never), or a duration from 10s to 1day, such as 60s: under 10s one slow answer of Consul would turn \
             healthy services critical",
        ));
    }
    Ok(Some(ttl))
}

fn log(raw: &Raw, from: &mut Sources<'_>) -> Log {
    let filter = match (&raw.remora_log, &raw.rust_log) {
        (Some(filter), _) => from.read("REMORA_LOG", Some(filter), parse::log_filter),
        (None, filter) => from.read("RUST_LOG", filter.as_ref(), parse::log_filter),
    };
    let format = from.word(
        "REMORA_LOG_FORMAT",
        raw.remora_log_format.as_ref(),
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
    );
    Log { filter: filter.unwrap_or_else(|| "info".to_owned()), format: format.unwrap_or(LogFormat::Text) }
}
