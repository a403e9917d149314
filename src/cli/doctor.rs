//! `remora doctor`: looks at everything that Remora depends on, and says what is missing and what to do about it.

mod advice;
mod external;
mod healing;
mod wanted;

use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::output::{add_line, print};
use crate::agent::{self, Clients};
use crate::config::{self, Config, HostAddress};
use crate::consul::{AgentFacts, Client, ConsulError, Right};
use crate::docker::{ContainerId, DockerEngine, DockerError, Engine as _, EngineInfo};

/// An event stream that is allowed stays open; one that is not answers at once.
const STREAM: Duration = Duration::from_millis(500);

/// The oldest API version that Remora is made for (Docker 20.10).
const OLDEST_API: (u32, u32) = (1, 41);

/// What was found, and how much of it is wrong.
#[derive(Default)]
struct Report {
    text: String,
    problems: usize,
}

impl Report {
    fn title(&mut self, title: &str) {
        self.text.push('\n');
        add_line(&mut self.text, title);
    }

    fn good(&mut self, text: &str) {
        add_line(&mut self.text, &format!("  ok    {text}"));
    }

    fn info(&mut self, text: &str) {
        add_line(&mut self.text, &format!("        {text}"));
    }

    fn bad(&mut self, text: &str, advice: &str) {
        self.problems += 1;
        add_line(&mut self.text, &format!("  BAD   {text}"));
        add_line(&mut self.text, &format!("        -> {advice}"));
    }
}

pub(super) async fn run(config: Config, clients: Clients, warnings: Vec<String>) -> ExitCode {
    let mut report = Report::default();
    report.title("configuration");
    report.good("can be read");
    for warning in &warnings {
        report.info(warning);
    }
    let Clients { docker: engine, consul } = &clients;
    let found = look_at_docker(&config, engine, &mut report).await;
    let seen = look_at_consul(&config, consul, found.as_ref().map(|(info, _)| info), &mut report).await;
    // On which node the sessions of healing are.
    let mut node = seen.node.clone();
    if found.is_some() {
        healing::hands(&config, engine, &mut report).await;
    }
    if let Some((info, live)) = &found {
        report.title("address to advertise");
        let choice = agent::address(&config, engine, info, seen.facts.as_ref()).await;
        for reason in &choice.reasons {
            report.info(reason);
        }
        if choice.address == HostAddress::default() && !config.publish.internal {
            report.bad(
                "no address for ports that are published on every address of the host",
                "set REMORA_ADDRESS, or run Remora with the host's network",
            );
        }
        let settings = agent::settings(&config, info, &choice);
        let way = agent::way_of(&config, info, &settings, seen.facts.as_ref());
        let own = external::look(&config, consul, info, &settings, &way, seen.access_control, &mut report).await;
        node = own.unwrap_or(node);
        let names = wanted::look(engine, &settings, live, &mut report).await;
        if seen.access_control {
            wanted::rights(consul, &names, &mut report).await;
        }
    }
    if seen.access_control {
        let host = found.as_ref().map(|(info, _)| info.name.as_str());
        let ours = config.node.as_deref().or(host).unwrap_or(&node);
        healing::rights(&config, consul, ours, &node, &mut report).await;
    }
    let verdict = match report.problems {
        0 => "all is well".to_owned(),
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    };
    print(&format!("{}\n{verdict}\n", report.text.trim_start()));
    if report.problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Who the engine is, and its live containers.
async fn look_at_docker(
    config: &Config,
    engine: &DockerEngine,
    report: &mut Report,
) -> Option<(EngineInfo, Vec<ContainerId>)> {
    report.title("Docker");
    report.info(&format!("at {}", engine.address()));
    if let config::Docker::Unix(path) = &config.docker {
        look_at_socket(path, report);
    }
    let info = match engine.info().await {
        Ok(info) => info,
        Err(error) => {
            report.bad(&error.to_string(), advice::docker(&error));
            return None;
        }
    };
    report.good(&format!("Docker {} on {}, engine id {}", info.version, info.name, info.id));
    let version =
        info.api_version.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match version {
        Some(version) if version >= OLDEST_API => report.good(&format!("API {}", info.api_version)),
        _ => report.bad(
            &format!("API {:?}", info.api_version),
            "Remora is made for 1.41 (Docker 20.10) and newer; older engines may lack what it reads",
        ),
    }
    // Asked when the event stream has been silent for a while.
    if let Err(error) = engine.ping().await {
        report.bad(&error.to_string(), advice::docker(&error));
    }
    let mut live = Vec::new();
    match engine.list().await {
        Ok(listing) => {
            live.extend(listing.containers.iter().filter(|line| line.live).map(|line| line.id.clone()));
            report.good(&format!("{} containers, {} of them live", listing.containers.len(), live.len()));
            if let Some(line) = listing.containers.first() {
                match engine.inspect(line.id.as_str()).await {
                    Ok(_) | Err(DockerError::NotFound(_)) => report.good("containers can be inspected"),
                    Err(error) => report.bad(&error.to_string(), advice::docker(&error)),
                }
            }
        }
        Err(error) => report.bad(&error.to_string(), advice::docker(&error)),
    }
    match timeout(STREAM, engine.events(None).next()).await {
        Err(_) | Ok(Some(Ok(_))) => report.good("events can be followed"),
        Ok(Some(Err(error))) => report.bad(&error.to_string(), advice::docker(&error)),
        Ok(None) => report.bad("the event stream ends at once", "a proxy in between must keep streams open"),
    }
    Some((info, live))
}

fn look_at_socket(path: &std::path::Path, report: &mut Report) {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    match std::fs::metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            report.good(&format!("{} is a socket of group {}, mode {:o}", path.display(), meta.gid(), meta.mode() & 0o777));
        }
        Ok(meta) if meta.is_dir() => report.bad(
            &format!("{} is a folder", path.display()),
            "the socket was not there when the container was made, so Docker made a folder: remove it, start Docker, make the container anew",
        ),
        Ok(_) => report.bad(&format!("{} is no socket", path.display()), "set DOCKER_HOST to where Docker listens"),
        Err(error) => report.bad(
            &format!("{}: {error}", path.display()),
            "mount the socket (-v /var/run/docker.sock:/var/run/docker.sock) or set DOCKER_HOST",
        ),
    }
}

/// What Consul told.
#[derive(Default)]
struct Seen {
    facts: Option<AgentFacts>,
    /// There are rights, and they can be asked for.
    access_control: bool,
    /// Consul's agent is on this node, as far as that can be known.
    node: String,
}

async fn look_at_consul(config: &Config, client: &Client, info: Option<&EngineInfo>, report: &mut Report) -> Seen {
    report.title("Consul");
    report.info(&format!("at {}", config.consul.told_addresses()));
    let facts = match client.agent_self().await {
        Ok(facts) => {
            let role = if facts.server { "a server" } else { "a client agent" };
            report
                .good(&format!("Consul {} on node {} in {}, {role}", facts.version, facts.node_name, facts.datacenter));
            Some(facts)
        }
        Err(ConsulError::Forbidden { .. }) => {
            report.good("answers");
            report.info(
                "agent:read is missing: its version and its advertised address are not known (set REMORA_ADDRESS)",
            );
            None
        }
        Err(error) => {
            report.bad(&error.to_string(), advice::consul(&error));
            return Seen::default();
        }
    };
    match client.leader().await {
        Ok(Some(leader)) => report.good(&format!("the cluster has a leader ({leader})")),
        Ok(None) => report.bad(
            "the cluster has no leader",
            "registrations are kept by the agent and reach the catalog when there is one",
        ),
        Err(error) => report.bad(&error.to_string(), "the agent sees no server: consul members"),
    }
    let node = facts
        .as_ref()
        .map_or_else(|| info.map(|info| info.name.clone()).unwrap_or_default(), |facts| facts.node_name.clone());
    // Remora's own service; those of the containers follow when it is known how they are called.
    let asked = [
        Right::new("service", "remora", "write"),
        Right::new("service", "remora", "read"),
        Right::new("node", &node, "read"),
        Right::new("agent", &node, "read"),
    ];
    let answer = client.rights(&asked).await;
    let access_control = matches!(answer, Ok(Some(_)));
    match answer {
        Ok(None) => report.good("ACLs are off: everything is allowed"),
        Ok(Some(rights)) => {
            for right in rights {
                let agent = right.resource == "agent";
                if right.allowed {
                    report.good(&format!("the token has {right}"));
                } else if agent {
                    report.info(&format!(
                        "the token has not {right}: only the default address is found less well without it"
                    ));
                } else {
                    report.bad(
                        &format!("the token has not {right}"),
                        &format!(
                            "add to its policy: {} {:?} {{ policy = \"{}\" }}",
                            right.resource, right.segment, right.access
                        ),
                    );
                }
            }
        }
        Err(ConsulError::Forbidden { message, .. }) => {
            report
                .bad(&format!("the token is refused: {message}"), "check CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE");
        }
        // Not a documented API: its failure says nothing about the rights.
        Err(error) => report.info(&format!("the rights of the token cannot be asked for: {error}")),
    }
    Seen { facts, access_control, node }
}
