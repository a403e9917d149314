//! Which tasks run, how they are supervised, and the order of shutdown.
//!
//! | Task | What it does | Ends |
//! |---|---|---|
//! | observer | follows Docker | at shutdown, or when the engine is another one than at the start |
//! | worker | keeps Consul true | at shutdown, after its goodbye |
//! | healer | the health-watcher: replaces what fails | at shutdown, when the step under way is done |
//! | http | `/healthz`, `/readyz`, `/metrics`, `/status` | at shutdown |
//! | tidier | removes what was registered in the other mode | at shutdown |
//!
//! In catalog mode ([`way`]) there are three more: the catalog's writer (ends after the worker's goodbye), the prober with its
//! reporter, and the liveness of the nodes.
//!
//! A task that ends before the shutdown, or panics, ends the process with a status that is not zero: the supervisor
//! (Docker's restart policy) starts it again, and everything it needs to know is in Docker and in Consul.

pub mod external;
pub mod healing;
pub mod start;
pub mod way;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use self::start::{address, find_out, lens, own_service, settings, way_of};
use self::way::Mode;
use crate::backoff::Backoff;
use crate::config::{Config, ConfigError, ConfigErrors, ConsulMode, HealMode, HostAddress};
use crate::consul::{Client, ConsulError, ConsulSeen};
use crate::docker::observe::Observer;
use crate::docker::{DockerEngine, DockerError, Engine, EngineInfo};
use crate::heal::status::{Asked, Asking};
use crate::probe;
use crate::reconcile::{Book, GivenUp, Healing, Wiring, Worker};
use crate::registration::Settings;
use crate::telemetry::{self, ConsulCall, ConsulView, DockerCall, DockerView, Face, Metrics, Outcome};

/// Changes that wait between observing and reconciling. When it is full the observer keeps the rest, one per container.
const CHANGES: usize = 256;

/// Events and looks that wait for the health-watcher: several for each of a thousand containers. What does not fit is looked at
/// again.
const SIGNALS: usize = 4096;

/// `docker stop` kills after ten seconds; the goodbye itself is bounded by seven.
const SHUTDOWN: Duration = Duration::from_secs(9);

/// A host that boots has an address after a few seconds; a host without one after this time has none.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(20);

/// How often an HTTP port that is taken is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// Why the agent ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A task ended that must not.
    #[error("the task `{0}` ended; ending too, so that the supervisor starts everything anew")]
    TaskEnded(&'static str),
    /// The signals of the process cannot be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// The ways to the two peers.
#[derive(Debug, Clone)]
pub struct Clients {
    /// To Docker.
    pub docker: DockerEngine,
    /// To Consul.
    pub consul: Client,
}

impl Clients {
    /// Makes them: reads the token file and every certificate, and connects to nobody.
    ///
    /// # Errors
    /// Everything that is wrong with those files, at once. The process should end with status 64, as for any other setting
    /// that cannot be used.
    pub fn new(config: &Config) -> Result<Self, ConfigErrors> {
        match (Client::checked(&config.consul), DockerEngine::new(&config.docker, lens(config))) {
            (Ok(consul), Ok(docker)) => Ok(Self { docker, consul }),
            (consul, docker) => {
                let consul = consul.err().into_iter().flatten().map(ConfigError::from);
                let docker = docker.err().map(ConfigError::from);
                Err(ConfigErrors(consul.chain(docker).collect()))
            }
        }
    }
}

/// Runs until SIGTERM or SIGINT. SIGHUP, SIGUSR1 and SIGUSR2 are told and do nothing.
///
/// # Errors
/// [`AgentError`]; the process should end with a status other than zero.
pub async fn run(config: Config, clients: Clients) -> Result<(), AgentError> {
    // As process 1 an unhandled SIGTERM is ignored by the kernel: before anything else.
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut others = Others::new()?;
    let shutdown = CancellationToken::new();
    let Clients { docker: engine, consul: client } = clients;
    let (metrics, now) = (Arc::new(Metrics::new()), Instant::now());
    let (docker_view, docker_seen) = watch::channel(DockerView::starting(now));
    let (consul_view, consul_seen) = watch::channel(ConsulView::starting(now));
    let mut tasks: JoinSet<&'static str> = JoinSet::new();
    let (asking, status_asked) = Asking::new();
    let (reports, reported) = probe::reports();
    if let Some(at) = config.http {
        let face = Face::new(Arc::clone(&metrics), docker_seen.clone(), consul_seen).with_hosts(config.node.clone());
        let heals = config.heal.mode != HealMode::Off;
        let face = if heals { face.with_status(asking.into_text()) } else { face };
        let face = if config.external.mode == ConsulMode::Agent { face } else { face.with_reports(reports.taker()) };
        tasks.spawn(serve(at, face, shutdown.clone()));
    }
    let ends = (docker_view, consul_view, docker_seen, status_asked, reported);
    tasks.spawn(publish(config, engine, client, ends, metrics, shutdown.clone()));

    let ended = loop {
        tokio::select! {
            _ = term.recv() => break None,
            _ = int.recv() => break None,
            Some(ended) = tasks.join_next() => break Some(name_of(ended)),
            name = others.next() => {
                tracing::info!(event = "signal_ignored", signal = name, "{name} does nothing: files are read again by themselves, settings only at a start");
            }
        }
    };
    if ended.is_none() {
        tracing::info!(event = "stopping", "stopping");
    }
    shutdown.cancel();
    let rest = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        late = timeout(SHUTDOWN, rest) => if late.is_err() {
            tracing::warn!(event = "shutdown_late", "not everything ended in time; ending anyway");
        },
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    match ended {
        None => Ok(()),
        Some(task) => Err(AgentError::TaskEnded(task)),
    }
}

/// Signals that mean something to other programs (a terminal that went away, "read your settings again") and end a process
/// that does not listen to them, without its goodbye.
struct Others {
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Others {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.hangup.recv() => "SIGHUP",
            _ = self.user1.recv() => "SIGUSR1",
            _ = self.user2.recv() => "SIGUSR2",
        }
    }
}

fn name_of(ended: Result<&'static str, tokio::task::JoinError>) -> &'static str {
    match ended {
        Ok(name) => name,
        Err(error) if error.is_panic() => "panicked",
        Err(_) => "cancelled",
    }
}

/// Serves the small HTTP server; a port that is taken (by the version before this one, say) is waited for.
async fn serve(at: SocketAddr, face: Face, shutdown: CancellationToken) -> &'static str {
    let mut backoff = Backoff::new(BIND_AGAIN, BIND_AGAIN);
    loop {
        match TcpListener::bind(at).await {
            Ok(listener) => {
                telemetry::serve(listener, face, shutdown).await;
                return "http";
            }
            Err(error) => {
                let wait = backoff.next(1.0);
                if backoff.worth_telling() {
                    tracing::warn!(event = "http_unavailable", address = %at, error = %error, "cannot listen on {at} (REMORA_HTTP_ADDR): {error}; trying again");
                }
                tokio::select! {
                    () = shutdown.cancelled() => return "http",
                    () = sleep(wait) => {}
                }
            }
        }
    }
}

/// Finds out who and where we are, then observes and reconciles.
async fn publish(
    mut config: Config,
    engine: DockerEngine,
    client: Client,
    (docker_view, consul_view, docker_seen, status_asked, reported): Ends,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> &'static str {
    let beginning = begin(&config, &engine, &client, &docker_view, &consul_view, &metrics);
    let Some((settings, info, mode)) = shutdown.run_until_cancelled(beginning).await else { return "publish" };
    let asking = shutdown.run_until_cancelled(healing::as_allowed(&mut config, &engine)).await;
    let Some(denied) = asking else { return "publish" };
    if !denied.is_empty() {
        tracing::warn!(
            event = "heal_denied",
            "healing is on (REMORA_HEAL), but what stands in front of Docker refuses {}: what would be done is only told until Remora is \
             started with a way to Docker that allows it (docs/security.md), or with REMORA_HEAL=observe or off",
            denied.join(", ")
        );
    }
    let node = external::node(&settings, &info.name);
    let own = own_service(&settings, config.http, mode);
    let own_id = own.id.clone();
    let (consul_seen, seen) = watch::channel(ConsulSeen::default());
    let docker = Arc::new(engine);
    let (tell, told) = mpsc::channel(CHANGES);
    let (asks, asked) = mpsc::channel(CHANGES);
    let healing = healing_of(&config, &settings);
    let store = external::store(mode, &client, &node);
    let healer = (config.heal.mode != HealMode::Off).then(|| {
        let (hear, heard) = mpsc::channel(SIGNALS);
        let place = healing::place(&healing, &info, &settings);
        (hear, healing::healer(&config, place, Arc::clone(&docker), store, (heard, status_asked), seen, &metrics))
    });
    // Without a watcher nobody is ever given up.
    let (watcher, given_up) = match healer {
        Some((hear, (watcher, teller, given_up))) => (Some((hear, watcher, teller)), given_up),
        None => (None, watch::channel(GivenUp::default()).1),
    };
    let mut observer = Observer::new(docker, info.id, config.resync, tell, asked, docker_view, Arc::clone(&metrics));
    let (docker, view, seen) = (docker_seen, consul_view, consul_seen);
    let (registry, writer) = external::registry(mode, &client, &node);
    let registry = Arc::new(registry);
    let (right, is_right) = watch::channel(false);
    let mut tasks = JoinSet::new();
    // The worker's goodbye needs the writer.
    let writing = CancellationToken::new();
    let probes = writer.map(|writer| {
        let beside = external::Beside {
            client: client.clone(),
            registry: Arc::clone(&registry),
            writer,
            node: node.clone(),
            reported,
            right: is_right.clone(),
            metrics: Arc::clone(&metrics),
        };
        beside.spawn(&config, &mut tasks, &shutdown, writing.clone())
    });
    let tidying = external::tidy_up(mode, client, settings.clone(), node, is_right, shutdown.clone());
    tasks.spawn(async move {
        tidying.await;
        "tidier"
    });
    let wiring = Wiring { observed: told, asks, docker, view, seen, given_up, probes, right, metrics };
    let worker = Worker::new(registry, Book::new(settings, healing, own), own_id, config.health_ttl, wiring);
    if let Some((hear, watcher, teller)) = watcher {
        observer = observer.with_listener(hear);
        let (shutdown, told) = (shutdown.clone(), CancellationToken::new());
        tasks.spawn(async move {
            let watching = async {
                watcher.run(shutdown).await;
                // Not before: the end of the step under way is news too.
                told.cancel();
            };
            tokio::join!(watching, teller.run(told.clone()));
            "healer"
        });
    }
    let observing = shutdown.child_token();
    tasks.spawn({
        let observing = observing.clone();
        async move {
            observer.run(observing).await;
            "observer"
        }
    });
    tasks.spawn({
        let shutdown = shutdown.clone();
        async move {
            worker.run(shutdown, config.on_exit).await;
            writing.cancel();
            "worker"
        }
    });
    let first = tasks.join_next().await.map_or("publish", name_of);
    // Whoever ended first: the other one ends with it, the worker with its goodbye only if that was asked for.
    observing.cancel();
    if shutdown.is_cancelled() {
        while tasks.join_next().await.is_some() {}
    }
    first
}

/// The publishing half's ends of the channels.
type Ends = (
    watch::Sender<DockerView>,
    watch::Sender<ConsulView>,
    watch::Receiver<DockerView>,
    Asked,
    mpsc::Receiver<probe::reports::Report>,
);

/// What decides whose registrations say that they are healed.
#[must_use]
pub fn healing_of(config: &Config, settings: &Settings) -> Healing {
    Healing { settings: config.heal.clone(), never: healing::never(&config.consul, settings) }
}

/// Shows what Docker answered before anything follows its events.
fn show_docker(view: &watch::Sender<DockerView>, metrics: &Metrics, info: &Result<EngineInfo, DockerError>) {
    metrics.docker_connected(info.is_ok());
    view.send_modify(|view| {
        view.last_tick = Instant::now();
        view.connected = info.is_ok();
        view.trouble = info.as_ref().err().map(ToString::to_string);
        if let Ok(info) = info {
            view.version.clone_from(&info.version);
            view.api.clone_from(&info.api_version);
        }
    });
}

/// Waits for Docker, and for as much of Consul as the address needs. Neither being away is a reason to end.
async fn begin(
    config: &Config,
    engine: &DockerEngine,
    client: &Client,
    docker_view: &watch::Sender<DockerView>,
    consul_view: &watch::Sender<ConsulView>,
    metrics: &Metrics,
) -> (Settings, EngineInfo, Mode) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let give_up_on_address = Instant::now() + ADDRESS_PATIENCE;
    loop {
        let wants_consul =
            config.publish.address == HostAddress::default() || way::has_to_ask(config.external.mode, &config.consul);
        let facts = async {
            if !wants_consul {
                return None;
            }
            let asked = Instant::now();
            let facts = client.agent_self().await;
            metrics.consul_request(ConsulCall::AgentSelf, Outcome::from(&facts), asked.elapsed());
            Some(facts)
        };
        let info = async {
            let info = engine.info().await;
            metrics.docker_request(DockerCall::Info, Outcome::from(&info));
            // Shown at once: Consul may take ten seconds not to answer.
            show_docker(docker_view, metrics, &info);
            info
        };
        let (info, facts) = tokio::join!(info, facts);
        let now = Instant::now();
        docker_view.send_modify(|view| view.last_tick = now);
        // Without the right to ask the agent (403) the other rules decide; an agent that is away may come back.
        let away = match &facts {
            Some(Err(error @ (ConsulError::Forbidden { .. } | ConsulError::Invalid { .. }))) => {
                tracing::info!(event = "consul_self_refused", error = %error, "cannot ask Consul for its address: {error}");
                None
            }
            Some(Err(error)) => Some(error.to_string()),
            Some(Ok(_)) | None => None,
        };
        consul_view.send_modify(|view| {
            view.last_tick = now;
            view.reachable = facts.is_some() && away.is_none();
            view.trouble.clone_from(&away);
        });
        metrics.consul_reachable(facts.is_some() && away.is_none());
        match (info, away) {
            (Ok(info), None) => {
                let facts = facts.and_then(Result::ok);
                let choice = address(config, engine, &info, facts.as_ref()).await;
                if choice.address == HostAddress::default() && !config.publish.internal {
                    // At boot the network may come after Docker.
                    if Instant::now() < give_up_on_address {
                        sleep(backoff.next(fastrand::f64())).await;
                        continue;
                    }
                    for reason in &choice.reasons {
                        tracing::warn!(event = "address", "address to advertise: {reason}");
                    }
                } else {
                    for reason in &choice.reasons {
                        tracing::info!(event = "address", "address to advertise: {reason}");
                    }
                }
                let settings = settings(config, &info, &choice);
                let way = way_of(config, &info, &settings, facts.as_ref());
                tracing::info!(
                    event = "consul_mode",
                    mode = way.mode.as_str(),
                    "Consul is spoken to in {} mode: {}",
                    way.mode.as_str(),
                    way.why
                );
                tracing::info!(event = "started", version = env!("CARGO_PKG_VERSION"), node = %settings.node, engine = %settings.engine, consul = %client.address(), "Remora {} on {}", env!("CARGO_PKG_VERSION"), settings.node);
                return (settings, info, way.mode);
            }
            (info, away) => {
                let wait = backoff.next(fastrand::f64());
                if backoff.worth_telling() {
                    for trouble in info.err().map(|error| error.to_string()).into_iter().chain(away) {
                        tracing::warn!(event = "waiting", "{trouble}; trying again");
                    }
                }
                sleep(wait).await;
            }
        }
    }
}
