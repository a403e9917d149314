//! What a start finds out before anything is published: the address to advertise, the way to Consul, the agent's own service.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcstr::literal;
use litemap::LiteMap;

use super::way::{self, Mode, Way};
use crate::config::{Config, Filter, HostAddress};
use crate::consul::{AgentFacts, Check, CheckKind, Client, Service, Status};
use crate::docker::{DockerEngine, Engine as _, EngineInfo, Lens, NetworkMode};
use crate::host::{self, Candidates, Choice};
use crate::reconcile::{own, worker};
use crate::registration::Settings;
use crate::template::Template;

/// An agent that has been away for so long is not coming back: Consul removes its own service then, and with it the claim
/// to what it registered.
const OWN_REAP: Duration = Duration::from_secs(72 * 3600);

/// What is kept of an inspect document, by the settings.
#[must_use]
pub fn lens(config: &Config) -> Lens {
    let filters = config.publish.include.iter().chain(&config.publish.exclude);
    let filtered =
        filters.filter_map(|filter| if let Filter::Label { key, .. } = filter { Some(key.clone()) } else { None });
    let labels: BTreeSet<String> = filtered.chain(config.publish.use_ip_from_label.clone()).collect();
    let template = config.publish.tags.as_deref().filter(|tags| tags.contains("{{"));
    Lens { labels, tags: template.and_then(|tags| Template::parse(tags).ok()) }
}

/// The settings of the rules, once it is known who the engine is.
#[must_use]
pub fn settings(config: &Config, engine: &EngineInfo, choice: &Choice) -> Settings {
    let mut publish = config.publish.clone();
    publish.address = choice.address.clone();
    Settings {
        node: config.node.clone().unwrap_or_else(|| engine.name.clone()),
        engine: engine_mark(&engine.id),
        publish,
        health_ttl: config.health_ttl,
    }
}

/// The part of an engine's id that goes into marks and ids: letters and digits only, since ids are parts of paths.
fn engine_mark(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(12).collect()
}

/// Chooses the address to advertise.
pub async fn address(config: &Config, engine: &DockerEngine, info: &EngineInfo, consul: Option<&AgentFacts>) -> Choice {
    let candidates = Candidates {
        configured: config.publish.address.clone(),
        swarm: info.swarm_address,
        consul: consul.and_then(|facts| facts.advertise),
        consul_is_namesake: consul.is_some_and(|facts| same_host(&facts.node_name, &info.name)),
        route: host::route(),
        contained: contained(engine).await,
    };
    host::choose(&candidates, host::is_local)
}

/// Chooses the way to Consul.
#[must_use]
pub fn way_of(config: &Config, info: &EngineInfo, settings: &Settings, facts: Option<&AgentFacts>) -> Way {
    let advertised = &settings.publish.address;
    way::way(config.external.mode, &config.consul, facts, &info.name, advertised, host::is_local)
}

/// The settings of the rules, the address and the way to Consul, found out once: for the commands.
pub async fn find_out(
    config: &Config,
    engine: &DockerEngine,
    client: &Client,
    info: &EngineInfo,
) -> (Settings, Choice, Way) {
    let asks =
        config.publish.address == HostAddress::default() || way::has_to_ask(config.external.mode, &config.consul);
    let facts = if asks { client.agent_self().await.ok() } else { None };
    let choice = address(config, engine, info, facts.as_ref()).await;
    let settings = settings(config, info, &choice);
    let way = way_of(config, info, &settings, facts.as_ref());
    (settings, choice, way)
}

/// Whether two names are the same host's: one of them may be without its domain.
pub(super) fn same_host(one: &str, other: &str) -> bool {
    let host = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    !one.is_empty() && host(one) == host(other)
}

/// Whether this process runs in a container with a network of its own. A container that cannot be inspected counts as one:
/// an address that is not known is told, one that is wrong is advertised.
async fn contained(engine: &DockerEngine) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // `/.dockerenv` says nothing: a machine whose disk was made from an image has it too.
    let Some(id) = host::container_id(&mounts) else { return false };
    engine.inspect(id).await.map_or(true, |own| own.network_mode != NetworkMode::Host)
}

/// The agent's own service in Consul: a blind node is one red row.
#[must_use]
pub fn own_service(settings: &Settings, http: Option<SocketAddr>, mode: Mode) -> Service {
    let id = own::own_service_id(settings);
    let reachable = http.filter(|at| !at.ip().is_loopback());
    let address = &settings.publish.address;
    let (v4, v6) = (address.v4.map(|v4| v4.to_string()), address.v6.map(|v6| v6.to_string()));
    let advertised = address.name.clone().or(v4).or(v6);
    let pairs = [
        (Service::META_OWNER, "remora".to_owned()),
        (Service::META_NODE, settings.node.clone()),
        (Service::META_ENGINE, settings.engine.clone()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("mode", mode.as_str().to_owned()),
    ];
    let mut service = Service {
        name: literal!("remora"),
        address: advertised.unwrap_or_default().into(),
        port: reachable.map_or(0, |at| at.port()),
        tags: Arc::default(),
        meta: pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        tagged_addresses: LiteMap::new(),
        weights: None,
        enable_tag_override: false,
        checks: vec![Check {
            id: arcstr::format!("{id}:agent"),
            name: arcstr::format!("Remora on {}", settings.node),
            notes: match mode {
                Mode::Agent => {
                    "Fed by Remora itself every 10 s. Critical: Remora does not run here, or cannot see Docker; what it \
                     registered stays as it was last seen."
                }
                Mode::Catalog => {
                    "Written by Remora itself when it changes. Critical: Remora cannot see Docker; what it registered stays as it \
                     was last seen. When Remora does not run here the check of the node says so."
                }
            }
            .into(),
            kind: Arc::new(CheckKind::Ttl { ttl: worker::OWN_TTL }),
            status: Status::Warning,
            output: literal!("starting"),
            deregister_after: Some(OWN_REAP),
            success_before_passing: 0,
            failures_before_critical: 0,
        }],
        id,
    };
    service.seal();
    service
}
