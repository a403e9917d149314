//! `remora explain <container>`: what would be registered for it, which label, variable or rule produced each field, and
//! what Consul has of it now.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::{complain, print};
use crate::agent::{self, Clients};
use crate::config::{Config, HostAddress};
use crate::consul::{ActualService, AgentRegistry, CheckKind, Registry as _, Service, Snapshot};
use crate::docker::{ContainerId, DockerEngine, Engine as _, NetworkMode, Sight};
use crate::reconcile::diff;
use crate::registration::{self, Peers, Planned, Registration, Verdict};

/// A chain of shared network stacks is not longer than this; it may be a circle.
const CHAIN: usize = 16;

/// The containers whose network stacks are shared, looked at one by one.
#[derive(Default)]
struct Looked(HashMap<String, Arc<Sight>>);

impl Peers for Looked {
    /// Whoever is not found here could not be inspected.
    fn is_gone(&self, id_or_name: &str) -> bool {
        !self.0.contains_key(id_or_name)
    }

    fn find(&self, id_or_name: &str) -> Option<Arc<Sight>> {
        self.0.get(id_or_name).cloned()
    }
}

pub(super) async fn run(config: Config, clients: Clients, container: String, json: bool) -> ExitCode {
    match explain(&config, clients, &container, json).await {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn explain(config: &Config, clients: Clients, name: &str, json: bool) -> anyhow::Result<String> {
    let Clients { docker: engine, consul: client } = clients;
    let info = engine.info().await?;
    let container = engine.inspect(name).await?;
    let facts = if config.publish.address == HostAddress::default() { client.agent_self().await.ok() } else { None };
    let choice = agent::address(config, &engine, &info, facts.as_ref()).await;
    let settings = agent::settings(config, &info, &choice);
    let peers = chain(&engine, &container.network_mode).await;
    let sight = Sight { container, draining: false, settling: false };
    let registration = registration::register(&sight, &peers, &settings);
    let registry = AgentRegistry::new(client);
    let snapshot = registry.read().await;
    let registered = snapshot.as_ref().map_err(ToString::to_string).map(AsRef::as_ref);
    Ok(if json {
        as_json(&sight, &registration, &registered)?
    } else {
        as_text(&sight, &registration, &registered, &choice.reasons)
    })
}

/// Follows `container:` networks to their owner.
async fn chain(engine: &DockerEngine, mode: &NetworkMode) -> Looked {
    let mut looked = Looked::default();
    let mut mode = mode.clone();
    for _ in 0..CHAIN {
        let NetworkMode::Container(owner) = mode else { break };
        let Ok(container) = engine.inspect(&owner).await else { break };
        mode = container.network_mode.clone();
        looked.0.insert(owner, Arc::new(Sight { container, draining: false, settling: false }));
    }
    looked
}

fn as_text(
    sight: &Sight,
    registration: &Registration,
    registered: &Result<&Snapshot, String>,
    address: &[String],
) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = render(&mut text, sight, registration, registered, address);
    text
}

fn render(
    text: &mut String,
    sight: &Sight,
    registration: &Registration,
    registered: &Result<&Snapshot, String>,
    address: &[String],
) -> std::fmt::Result {
    let container = &sight.container;
    writeln!(text, "container {} ({}), image {}", container.name, container.id, container.image)?;
    match &registration.verdict {
        Verdict::Nothing(reason) => writeln!(text, "\nnothing is registered for it: {reason}")?,
        Verdict::Hold { status, output } => {
            writeln!(text, "\nwhatever is registered for it stays, with its docker check {status}: {output}")?;
        }
        Verdict::Wait { reason, .. } => writeln!(text, "\neverything stays as it is: it {reason}")?,
        Verdict::Services(planned) => {
            for planned in planned {
                service(text, planned, container.id.as_str(), registered)?;
            }
        }
    }
    if !registration.notes.is_empty() {
        writeln!(text, "\nnotes")?;
        for note in &registration.notes {
            let mark = if note.warning { "!" } else { "-" };
            writeln!(text, "  {mark} {}: {}", note.about, note.text)?;
        }
    }
    writeln!(text, "\naddress of this host")?;
    for reason in address {
        writeln!(text, "  {reason}")?;
    }
    Ok(())
}

/// The registration of this container that stands for this definition: under its id, or, where that was somebody else's,
/// under the id with the container's short one behind it.
fn registered_as<'a>(snapshot: &'a Snapshot, service: &Service, container: &str) -> Option<&'a ActualService> {
    let of_container =
        |actual: &&Arc<ActualService>| actual.meta.get(Service::META_CONTAINER).is_some_and(|id| id == container);
    let own = format!("{}:{}", service.id, ContainerId::new(container).short());
    [&service.id, &own].into_iter().filter_map(|id| snapshot.services.get(id)).find(of_container).map(AsRef::as_ref)
}

fn service(
    text: &mut String,
    planned: &Planned,
    container: &str,
    registered: &Result<&Snapshot, String>,
) -> std::fmt::Result {
    let service = &planned.service;
    writeln!(text, "\nservice {}", service.id)?;
    let mut line = |field: &'static str, value: String| {
        let why = planned.reasons.get(field).map(|why| format!("   <- {why}")).unwrap_or_default();
        writeln!(text, "  {field:<16}{value}{why}")
    };
    line("id", service.id.clone())?;
    line("name", service.name.clone())?;
    line("address", service.address.clone())?;
    line("port", service.port.to_string())?;
    line("tags", service.tags.join(", "))?;
    if service.enable_tag_override {
        line("tag-override", "true".to_owned())?;
    }
    if let Some(weights) = service.weights {
        line("weights", format!("passing {}, warning {}", weights.passing, weights.warning))?;
    }
    for (tag, at) in &service.tagged_addresses {
        writeln!(text, "  {:<16}{} port {}", tag, at.address, at.port)?;
    }
    for (key, value) in &service.meta {
        writeln!(text, "  {:<16}{key} = {value}", "meta")?;
    }
    for check in &service.checks {
        writeln!(text, "  {:<16}{} ({}): {}", "check", check.id, check.status, check.notes)?;
    }
    let known: Vec<_> = planned.reasons.iter().filter(|(field, _)| !FIELDS.contains(*field)).collect();
    for (field, why) in known {
        writeln!(text, "  {field:<16}<- {why}")?;
    }
    let now = match registered {
        Err(error) => format!("unknown: {error}"),
        Ok(snapshot) => match registered_as(snapshot, service, container) {
            None => "not registered".to_owned(),
            Some(actual) if actual.id != service.id => {
                format!("registered as {}, because {} is somebody else's", actual.id, service.id)
            }
            Some(actual) => match diff::difference(service, actual) {
                None => "registered as above".to_owned(),
                Some(field) => format!("registered, but its {field} differ"),
            },
        },
    };
    writeln!(text, "  {:<16}{now}", "in Consul now")
}

/// The fields that have a line of their own with their reason.
const FIELDS: [&str; 7] = ["id", "name", "address", "port", "tags", "tag-override", "weights"];

/// The definition without what a check sends: headers, bodies and arguments may hold secrets.
fn without_contents(service: &Service) -> Service {
    let mut service = service.clone();
    let hidden = || "(not shown)".to_owned();
    for check in &mut service.checks {
        match &mut check.kind {
            CheckKind::Http { headers, body, .. } => {
                headers.values_mut().flatten().for_each(|value| *value = hidden());
                *body = body.take().map(|_| hidden());
            }
            CheckKind::Script { args, .. } => args.iter_mut().skip(1).for_each(|argument| *argument = hidden()),
            CheckKind::Ttl { .. } | CheckKind::Tcp { .. } | CheckKind::Grpc { .. } => {}
        }
    }
    service
}

fn as_json(
    sight: &Sight,
    registration: &Registration,
    registered: &Result<&Snapshot, String>,
) -> anyhow::Result<String> {
    let services = match &registration.verdict {
        Verdict::Services(planned) => planned
            .iter()
            .map(|planned| {
                let service = &planned.service;
                let container = sight.container.id.as_str();
                let now =
                    registered.as_ref().ok().and_then(|snapshot| registered_as(snapshot, service, container));
                json!({
                    "service": without_contents(service),
                    "reasons": planned.reasons,
                    "status": service.checks.iter().map(|check| (check.id.clone(), check.status.as_str())).collect::<HashMap<_, _>>(),
                    "registered": now.map(|actual| &actual.id),
                    "differs": now.and_then(|actual| diff::difference(service, actual)),
                })
            })
            .collect(),
        Verdict::Nothing(_) | Verdict::Wait { .. } | Verdict::Hold { .. } => Vec::new(),
    };
    let verdict = match &registration.verdict {
        Verdict::Services(_) => json!("register"),
        Verdict::Nothing(reason) => json!({ "nothing": reason }),
        Verdict::Wait { reason, .. } => json!({ "wait": reason }),
        Verdict::Hold { status, output } => json!({ "hold": { "status": status.as_str(), "output": output } }),
    };
    let notes: Vec<_> = registration
        .notes
        .iter()
        .map(|note| json!({ "about": note.about, "text": note.text, "warning": note.warning }))
        .collect();
    let document = json!({
        "container": { "id": sight.container.id.as_str(), "name": sight.container.name, "image": sight.container.image },
        "verdict": verdict,
        "services": services,
        "notes": notes,
        "consul": registered.as_ref().err(),
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}
