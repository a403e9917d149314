//! The real engine: bollard for the event stream, the tolerant [`Door`] for everything that is read.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt as _;
use serde::Deserialize;

use super::container::{Container, ContainerId, Lens};
use super::http::{CALL_TIMEOUT, Door, PING_TIMEOUT, SetupError, chain};
use super::port::{DockerError, Engine, EngineInfo, Event, EventKind, EventStream, EventTime, Listing};
use super::{inspect, list};
use crate::config;

const EVENTS: &str = "GET /events";

/// Seconds that bollard waits for the headers of an answer; it does not limit the stream that follows them.
const EVENTS_HEADERS: u64 = 10;

/// The events that are asked for. Never `exec_*`: every health probe makes three of them, and the engine skips a listener
/// that does not take an event within 100 ms.
const ACTIONS: [&str; 14] = [
    "start",
    "restart",
    "die",
    "kill",
    "stop",
    "pause",
    "unpause",
    "health_status",
    "rename",
    "update",
    "destroy",
    "oom",
    "connect",
    "disconnect",
];

/// A Docker Engine, reached over its socket or TCP.
#[derive(Debug, Clone)]
pub struct DockerEngine {
    endpoint: config::Docker,
    door: Door,
    lens: Arc<Lens>,
}

impl DockerEngine {
    /// An engine at this address; nothing is connected yet.
    ///
    /// # Errors
    /// When the TLS files cannot be used.
    pub fn new(endpoint: &config::Docker, lens: Lens) -> Result<Self, SetupError> {
        provide_tls();
        Ok(Self { endpoint: endpoint.clone(), door: Door::new(endpoint)?, lens: Arc::new(lens) })
    }

    /// The address, for messages.
    #[must_use]
    pub fn address(&self) -> &str {
        self.door.address()
    }

    /// The way to everything but the event stream.
    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    /// A bollard client. Made anew for every stream: it looks for the socket's file at once, and files come and go.
    fn bollard(&self) -> Result<Docker, bollard::errors::Error> {
        match &self.endpoint {
            config::Docker::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), EVENTS_HEADERS, API_DEFAULT_VERSION)
            }
            config::Docker::Tcp(host) => Docker::connect_with_http(host, EVENTS_HEADERS, API_DEFAULT_VERSION),
            config::Docker::Tls { address, certificates } => Docker::connect_with_ssl(
                address,
                &certificates.join("key.pem"),
                &certificates.join("cert.pem"),
                &certificates.join("ca.pem"),
                EVENTS_HEADERS,
                API_DEFAULT_VERSION,
            ),
        }
    }
}

/// Makes ring the TLS provider of the process. bollard asks for the process's one; whoever came first wins.
fn provide_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _already_there = rustls::crypto::ring::default_provider().install_default();
    });
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InfoDocument {
    #[serde(default, rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    system_time: Option<String>,
    #[serde(default)]
    server_version: String,
    #[serde(default)]
    swarm: Option<SwarmDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SwarmDocument {
    #[serde(default)]
    node_addr: String,
}

#[derive(Deserialize)]
struct VersionDocument {
    #[serde(default, rename = "ApiVersion")]
    api_version: String,
    #[serde(default, rename = "Components")]
    components: Option<Vec<ComponentDocument>>,
}

#[derive(Deserialize)]
struct ComponentDocument {
    #[serde(default, rename = "Name")]
    name: String,
}

fn read<T: for<'de> Deserialize<'de>>(call: &'static str, body: &[u8]) -> Result<T, DockerError> {
    serde_json::from_slice(body).map_err(|error| DockerError::Unreadable { call, reason: list::place(&error) })
}

impl Engine for DockerEngine {
    async fn ping(&self) -> Result<(), DockerError> {
        self.door.get("GET /_ping", "/_ping", PING_TIMEOUT).await.map(drop)
    }

    async fn info(&self) -> Result<EngineInfo, DockerError> {
        let info: InfoDocument = read("GET /info", &self.door.get("GET /info", "/info", CALL_TIMEOUT).await?)?;
        let version: VersionDocument =
            read("GET /version", &self.door.get("GET /version", "/version", CALL_TIMEOUT).await?)?;
        // Podman makes up another id at every call; its host's name is the steadiest thing that it has.
        let podman = version.components.iter().flatten().any(|component| component.name.contains("Podman"));
        Ok(EngineInfo {
            id: if podman { format!("podman{}", info.name) } else { info.id },
            name: info.name,
            version: info.server_version,
            api_version: version.api_version,
            system_time: info.system_time.as_deref().and_then(EventTime::parse),
            swarm_address: info.swarm.and_then(|swarm| swarm.node_addr.parse::<IpAddr>().ok()),
        })
    }

    async fn list(&self) -> Result<Listing, DockerError> {
        let body = self.door.get("GET /containers/json", "/containers/json?all=true", CALL_TIMEOUT).await?;
        list::read(&body)
    }

    async fn inspect(&self, id: &str) -> Result<Container, DockerError> {
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
            return Err(DockerError::NotFound(format!("{id:?} is no container name or id")));
        }
        let body = self.door.get("GET /containers/{id}/json", &format!("/containers/{id}/json"), CALL_TIMEOUT).await?;
        inspect::read(&body, &self.lens)
    }

    fn events(&self, since: Option<EventTime>) -> EventStream {
        let docker = match self.bollard() {
            Ok(docker) => docker,
            Err(error) => {
                let error = DockerError::Unreachable { address: self.address().to_owned(), reason: chain(&error) };
                return futures_util::stream::once(async move { Err(error) }).boxed();
            }
        };
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let filters = HashMap::from([
            // Attaching to a network changes an address, and is told as an event of the network.
            ("type".to_owned(), words(&["container", "network"])),
            ("event".to_owned(), words(&ACTIONS)),
        ]);
        let mut options = EventsOptionsBuilder::new().filters(&filters);
        if let Some(since) = since {
            options = options.since(&since.to_string());
        }
        let address = self.address().to_owned();
        docker
            .events(Some(options.build()))
            .filter_map(move |message| {
                let event = match message {
                    Ok(message) => read_event(message).map(Ok),
                    Err(error) => Some(Err(stream_error(&address, &error))),
                };
                std::future::ready(event)
            })
            .boxed()
    }
}

/// What one message says about one container; `None` when it says nothing about any (bollard lets an error object of the
/// engine pass as a message without fields).
fn read_event(message: bollard::models::EventMessage) -> Option<Event> {
    use bollard::models::EventMessageTypeEnum::NETWORK;
    let actor = message.actor?;
    let mut attributes = actor.attributes.unwrap_or_default();
    let id = if message.typ == Some(NETWORK) { attributes.remove("container") } else { actor.id }?;
    if id.is_empty() {
        return None;
    }
    let action = message.action?;
    // `health_status: healthy`, `exec_create: /bin/sh …`: the word before the colon is the action.
    let word = action.split(':').next().unwrap_or_default().trim();
    let kind = match word {
        "start" => EventKind::Start,
        "die" => EventKind::Die,
        "destroy" => EventKind::Destroy,
        "kill" => EventKind::Kill(attributes.get("signal").and_then(|signal| signal.parse().ok())),
        _ => EventKind::Other(word.to_owned()),
    };
    let time = message.time_nano.or_else(|| message.time.map(|seconds| seconds.saturating_mul(1_000_000_000)));
    let exit_code = attributes.get("exitCode").filter(|_| kind == EventKind::Die).and_then(|code| code.parse().ok());
    Some(Event { container: ContainerId::new(id), kind, time: EventTime(time.unwrap_or_default()), exit_code })
}

/// Never the text of a message that could not be read: an event carries labels.
fn stream_error(address: &str, error: &bollard::errors::Error) -> DockerError {
    use bollard::errors::Error;
    match error {
        Error::JsonDataError { .. } | Error::JsonSerdeError { .. } | Error::StrParseError { .. } => {
            DockerError::Unreadable { call: EVENTS, reason: "an event of another form than expected".to_owned() }
        }
        Error::RequestTimeoutError => {
            DockerError::TimedOut { call: EVENTS, after: Duration::from_secs(EVENTS_HEADERS) }
        }
        Error::DockerResponseServerError { status_code, message } => DockerError::Refused {
            call: EVENTS,
            status: *status_code,
            message: message.chars().filter(|c| !c.is_control()).take(300).collect(),
        },
        other => DockerError::Unreachable { address: address.to_owned(), reason: chain(other) },
    }
}
