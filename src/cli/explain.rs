//! `remora explain <container>`: what would be registered for it, which label, variable or rule produced each field, and
//! what Consul has of it now.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::output::{add_line, complain, print, print_json};
use crate::agent::{self, Clients, external};
use crate::config::Config;
use crate::consul::{ActualService, CheckKind, Registry as _, Service, Snapshot, Status};
use crate::docker::{ContainerId, DockerEngine, Engine as _, NetworkMode, Sight};
use crate::reconcile::{diff, healing};
use crate::registration::{Peers, Planned, Registration, Verdict};

/// A chain of shared network stacks is not longer than this; it may be a circle.
const CHAIN: usize = 16;

/// The containers whose network stacks are shared, looked at one by one.
#[derive(Default)]
struct Looked(HashMap<String, Sight>);

impl Peers for Looked {
    /// Whoever is not found here could not be inspected.
    fn is_gone(&self, id_or_name: &str) -> bool {
        !self.0.contains_key(id_or_name)
    }

    fn find(&self, id_or_name: &str) -> Option<Sight> {
        self.0.get(id_or_name).cloned()
    }
}

pub(super) async fn run(config: Config, clients: Clients, container: String, json: bool) -> ExitCode {
    match explain(&config, clients, &container, json).await {
        Ok(text) => {
            if json {
                print_json(&text);
            } else {
                print(&text);
            }
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
    let (settings, choice, way) = agent::find_out(config, &engine, &client, &info).await;
    let peers = chain(&engine, &container.network_mode).await;
    let sight = Sight { container: container.into(), draining: false, settling: false };
    // It is only read: without its writer nothing can be written.
    let (registry, _) = external::registry(way.mode, &client, &external::node(&settings, &info.name));
    let snapshot = registry.read().await;
    let given_up = snapshot.as_ref().ok().and_then(|snapshot| given_up(snapshot, sight.container.id.as_str()));
    let mut config = config.clone();
    agent::healing::as_allowed(&mut config, &engine).await;
    let registration =
        healing::register(&sight, &peers, &settings, &agent::healing_of(&config, &settings), given_up.as_deref());
    let registered = snapshot.as_ref().map_err(ToString::to_string).map(AsRef::as_ref);
    Ok(if json {
        as_json(&sight, &registration, &registered)?
    } else {
        as_text(&sight, &registration, &registered, &choice.reasons)
    })
}

/// Why the agent has given this container up, as Consul has it: nobody else knows.
fn given_up(snapshot: &Snapshot, container: &str) -> Option<String> {
    let of_container = |actual: &&Arc<ActualService>| actual.is_of(container);
    let check = |actual: &Arc<ActualService>| actual.checks.get(&Service::healing_check_id(&actual.id)).cloned();
    let critical = snapshot.services.values().filter(of_container).filter_map(check);
    critical.filter(|check| check.status == Status::Critical).map(|check| check.output.to_string()).next()
}

/// Follows `container:` networks to their owner.
async fn chain(engine: &DockerEngine, mode: &NetworkMode) -> Looked {
    let mut looked = Looked::default();
    let mut mode = mode.clone();
    for _ in 0..CHAIN {
        let NetworkMode::Container(owner) = mode else { break };
        let Ok(container) = engine.inspect(&owner).await else { break };
        mode = container.network_mode.clone();
        looked.0.insert(owner.to_string(), Sight { container: container.into(), draining: false, settling: false });
    }
    looked
}

fn as_text(
    sight: &Sight,
    registration: &Registration,
    registered: &Result<&Snapshot, String>,
    address: &[String],
) -> String {
    let container = &sight.container;
    let mut text = String::new();
    add_line(&mut text, &format!("container {} ({}), image {}", container.name, container.id, container.image));
    let nothing = match &registration.verdict {
        Verdict::Nothing(reason) => Some(format!("nothing is registered for it: {reason}")),
        Verdict::Hold { status, output } => {
            Some(format!("whatever is registered for it stays, with its docker check {status}: {output}"))
        }
        Verdict::Wait { reason, .. } => Some(format!("everything stays as it is: it {reason}")),
        Verdict::Services(planned) => {
            for planned in planned {
                service(&mut text, planned, container.id.as_str(), registered);
            }
            None
        }
    };
    if let Some(nothing) = nothing {
        text.push('\n');
        add_line(&mut text, &nothing);
    }
    if !registration.notes.is_empty() {
        text.push_str("\nnotes\n");
        for note in &registration.notes {
            let mark = if note.warning { "!" } else { "-" };
            add_line(&mut text, &format!("  {mark} {}: {}", note.about, note.text));
        }
    }
    text.push_str("\naddress of this host\n");
    for reason in address {
        add_line(&mut text, &format!("  {reason}"));
    }
    text
}

/// The registration of this container that stands for this definition: under its id, or, where that was somebody else's,
/// under the id with the container's short one behind it.
fn registered_as<'a>(snapshot: &'a Snapshot, service: &Service, container: &str) -> Option<&'a ActualService> {
    let of_container = |actual: &&Arc<ActualService>| actual.is_of(container);
    let own = arcstr::format!("{}:{}", service.id, ContainerId::new(container).short());
    [&service.id, &own].into_iter().filter_map(|id| snapshot.services.get(id)).find(of_container).map(AsRef::as_ref)
}

fn service(text: &mut String, planned: &Planned, container: &str, registered: &Result<&Snapshot, String>) {
    let service = &planned.service;
    text.push('\n');
    add_line(text, &format!("service {}", service.id));
    let mut line = |field: &'static str, value: &str| {
        let why = planned.reasons.get(field).map(|why| format!("   <- {why}")).unwrap_or_default();
        add_line(text, &format!("  {field:<16}{value}{why}"));
    };
    line("id", &service.id);
    line("name", &service.name);
    line("address", &service.address);
    line("port", &service.port.to_string());
    line("tags", &service.tags.join(", "));
    if service.enable_tag_override {
        line("tag-override", "true");
    }
    if let Some(weights) = service.weights {
        line("weights", &format!("passing {}, warning {}", weights.passing, weights.warning));
    }
    for (tag, at) in &service.tagged_addresses {
        add_line(text, &format!("  {tag:<16}{} port {}", at.address, at.port));
    }
    for (key, value) in service.meta.iter() {
        add_line(text, &format!("  {:<16}{key} = {value}", "meta"));
    }
    for check in &service.checks {
        add_line(text, &format!("  {:<16}{} ({}): {}", "check", check.id, check.status, check.notes));
    }
    let known: Vec<_> = planned.reasons.iter().filter(|(field, _)| !FIELDS.contains(*field)).collect();
    for (field, why) in known {
        add_line(text, &format!("  {field:<16}<- {why}"));
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
    add_line(text, &format!("  {:<16}{now}", "in Consul now"));
}

/// The fields that have a line of their own with their reason.
const FIELDS: [&str; 7] = ["id", "name", "address", "port", "tags", "tag-override", "weights"];

/// The definition without what a check sends: headers, bodies, arguments, credentials and the values of a query may hold
/// secrets.
fn without_contents(service: &Service) -> Service {
    let mut service = service.clone();
    let hidden = || HIDDEN.to_owned();
    for check in &mut service.checks {
        match Arc::make_mut(&mut check.kind) {
            CheckKind::Http { url, headers, body, .. } => {
                *url = without_secrets(url);
                headers.values_mut().flatten().for_each(|value| *value = hidden());
                *body = body.take().map(|_| hidden());
            }
            CheckKind::Script { args, .. } => args.iter_mut().skip(1).for_each(|argument| *argument = hidden()),
            CheckKind::Ttl { .. } | CheckKind::Tcp { .. } | CheckKind::Grpc { .. } => {}
        }
    }
    service
}

const HIDDEN: &str = "(not shown)";

/// A URL as it may be shown: which parameters its query has, but not their values, and no credentials.
fn without_secrets(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let (url, fragment) = url.split_once('#').map_or((url, ""), |(url, _)| (url, "#(not shown)"));
    let shown = match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
            match authority.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}{path}"),
                None => url.to_owned(),
            }
        }
        None => url.to_owned(),
    };
    let Some(query) = query else { return shown + fragment };
    // A parameter without a value may itself be the secret: `?s3cr3t`.
    let hidden = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) => format!("{name}={HIDDEN}"),
        None => HIDDEN.to_owned(),
    };
    let query: Vec<String> = query.split(['&', ';']).map(hidden).collect();
    format!("{shown}{fragment}?{}", query.join("&"))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Publish;
    use crate::registration::Settings;

    fn planned() -> Planned {
        let settings =
            Settings { node: "n".to_owned(), engine: "E".to_owned(), publish: Publish::default(), health_ttl: None };
        Planned {
            service: agent::own_service(&settings, None, agent::way::Mode::Agent),
            reasons: BTreeMap::from([("id", "rule".to_owned())]),
        }
    }

    #[test]
    fn a_label_can_forge_no_line_and_give_the_terminal_no_order() {
        let mut planned = planned();
        planned.service.tags = ["a\n  port            443", "\u{1b}[2J"].map(Into::into).into();
        planned.service.meta = planned.service.meta.with("k\r", "\u{9b}31m");
        planned.service.name = "x\ny".into();
        let mut text = String::new();
        service(&mut text, &planned, "c", &Err("Consul\nis away".to_owned()));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(text.lines().filter(|line| line.starts_with("  port")).count(), 1, "{text}");
        assert!(text.contains("\n  name            x y\n"), "{text}");
        assert!(text.ends_with("in Consul now   unknown: Consul is away\n"), "{text}");
    }

    #[test]
    fn what_a_check_sends_is_not_shown() {
        for (url, expected) in [
            ("http://10.0.0.1:80/health", "http://10.0.0.1:80/health"),
            ("http://h/p?token=s3cr3t&v=s3cr3t", "http://h/p?token=(not shown)&v=(not shown)"),
            ("http://h/p?s3cr3t", "http://h/p?(not shown)"),
            ("http://h/p?a=s3cr3t;b=s3cr3t", "http://h/p?a=(not shown)&b=(not shown)"),
            ("https://user:s3cr3t@[::1]:1/p@x#s3cr3t", "https://(not shown)@[::1]:1/p@x#(not shown)"),
            ("https://u:s3@cr3t@h?x=s3cr3t#s3cr3t", "https://(not shown)@h?x=(not shown)"),
            ("no url", "no url"),
        ] {
            assert_eq!(without_secrets(url), expected, "{url}");
        }
    }
}
