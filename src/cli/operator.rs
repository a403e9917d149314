//! `remora heal`, `release`, `pause`, `resume`: what an operator tells the agents, by keys in Consul's KV. The settings are the
//! agent's own, so that both mean the same keys.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::output::{add_line, complain, print};
use crate::agent::Clients;
use crate::config::{Command, Config, HealMode, PauseScope};
use crate::consul::{ConsulError, Entry, KvStore, Store};
use crate::docker::{DockerEngine, DockerError, Engine as _, names};
use crate::heal::cluster::{Ask, Keys, Pauses, Wish};

/// An agent takes a request when its blocking query returns: at once. One that is just finishing something takes it a little
/// later.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at whether it was taken.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Pauses that are told.
const TOLD: usize = 20;

pub(super) async fn run(command: Command, config: Config, clients: Clients) -> ExitCode {
    match operate(command, &config, clients).await {
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

async fn operate(command: Command, config: &Config, clients: Clients) -> anyhow::Result<String> {
    let Clients { docker, consul } = clients;
    let store = KvStore::new(consul);
    match command {
        Command::Heal { container } => ask(config, &docker, &store, Wish::Heal, &container).await,
        Command::Release { container } => ask(config, &docker, &store, Wish::Release, &container).await,
        Command::Pause { scope, span, reason } => {
            let place = Place::find(config, &docker, &scope).await?;
            pause(&place, &store, span, &reason, SystemTime::now()).await
        }
        Command::Resume { scope } => {
            let place = match Place::find(config, &docker, &scope).await {
                Ok(place) => place,
                // Its container may be gone, and its pause is not.
                Err(error) => Place::of_the_gone(config, &docker, &store, &scope).await.ok_or(error)?,
            };
            resume(&place, &store).await
        }
        // Nothing else comes here.
        _ => bail!("this is no request"),
    }
}

/// What a command is about.
struct Place {
    keys: Keys,
    /// `None`: every node.
    node: Option<String>,
    /// `None`: everything there.
    name: Option<String>,
}

impl Place {
    async fn find(config: &Config, docker: &DockerEngine, scope: &PauseScope) -> anyhow::Result<Self> {
        let prefix = &config.heal.prefix;
        match scope {
            PauseScope::Cluster => Ok(Self { keys: Keys::new(prefix, ""), node: None, name: None }),
            PauseScope::Node => {
                let node = node(config, docker).await?;
                Ok(Self { keys: Keys::new(prefix, &node), node: Some(node), name: None })
            }
            PauseScope::Container(container) => {
                let node = node(config, docker).await?;
                let name = place(docker, container, &node).await?;
                Ok(Self { keys: Keys::new(prefix, &node), node: Some(node), name: Some(name) })
            }
        }
    }

    /// A container that Docker does not know, but a pause does.
    async fn of_the_gone(
        config: &Config,
        docker: &DockerEngine,
        store: &impl Store,
        scope: &PauseScope,
    ) -> Option<Self> {
        let PauseScope::Container(name) = scope else { return None };
        let node = node(config, docker).await.ok()?;
        let keys = Keys::new(&config.heal.prefix, &node);
        store.get(&keys.pause(Some(&node), Some(name))).await.ok()??;
        Some(Self { keys, node: Some(node), name: Some(name.clone()) })
    }

    fn key(&self) -> String {
        self.keys.pause(self.node.as_deref(), self.name.as_deref())
    }

    /// `for web on node n1`, `on node n1`, `everywhere`.
    fn words(&self) -> String {
        match (&self.node, &self.name) {
            (Some(node), Some(name)) => format!("for {name} on node {node}"),
            (Some(node), None) => format!("on node {node}"),
            (None, _) => "everywhere".to_owned(),
        }
    }

    /// What `remora resume` has to be given.
    fn argument(&self) -> String {
        match (&self.node, &self.name) {
            (Some(_), Some(name)) => format!(" {name}"),
            (Some(_), None) => String::new(),
            (None, _) => " --cluster".to_owned(),
        }
    }

    /// Whether a pause with this key has to do with it: it is wider, or a part of it.
    fn is_concerned(&self, key: &str) -> bool {
        let wider = [self.keys.pauses(), self.keys.pause(self.node.as_deref(), None), self.key()];
        let own = self.key();
        wider.iter().any(|wider| wider == key.trim_end_matches('/'))
            || key.strip_prefix(&own).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// The agent's name for this node.
async fn node(config: &Config, docker: &DockerEngine) -> anyhow::Result<String> {
    match &config.node {
        Some(node) => Ok(node.clone()),
        None => Ok(docker.info().await.context("the name of this node is not known (REMORA_NODE)")?.name),
    }
}

/// The plain name of a container, whatever of it was given.
async fn place(docker: &DockerEngine, given: &str, node: &str) -> anyhow::Result<String> {
    match docker.inspect(given).await {
        Ok(container) => Ok(names::logical(&container.name).0.to_owned()),
        Err(DockerError::NotFound(_)) => {
            Err(anyhow!("there is no container {given} on this node ({node}); docker ps --all shows them"))
        }
        Err(error) => Err(error.into()),
    }
}

/// An error of Consul, with what it takes.
fn refused(error: &ConsulError, keys: &Keys) -> anyhow::Error {
    if matches!(error, ConsulError::Forbidden { .. }) {
        let pauses = keys.pauses();
        let prefix = pauses.strip_suffix("heal/pause").unwrap_or_default();
        return anyhow!("{error}; the token needs key_prefix {prefix:?} {{ policy = \"write\" }}");
    }
    anyhow!("{error}")
}

/// Puts a request, and waits until an agent has taken it.
async fn ask(
    config: &Config,
    docker: &DockerEngine,
    store: &impl Store,
    wish: Wish,
    container: &str,
) -> anyhow::Result<String> {
    if config.heal.mode == HealMode::Off {
        bail!("REMORA_HEAL=off: no agent with these settings would take it");
    }
    let node = node(config, docker).await?;
    let name = place(docker, container, &node).await?;
    let keys = Keys::new(&config.heal.prefix, &node);
    let key = keys.ask(&node, &name);
    let by = ["SUDO_USER", "USER"].iter().find_map(|name| std::env::var(name).ok()).filter(|by| !by.is_empty());
    let value = Ask::value(wish, by.as_deref().unwrap_or("an operator"));
    // Before the request is there: whoever gives up waiting does not want it done hours later, when an agent comes.
    let mut interrupted = Interrupted::new()?;
    store.put(&key, value.as_bytes()).await.map_err(|error| refused(&error, &keys))?;
    match fate(store, &key, &mut interrupted).await? {
        Fate::Taken => {}
        Fate::Late => bail!(
            "no agent took it within {PATIENCE:?}, and it is withdrawn: does Remora run on {node}, with REMORA_HEAL=on and \
             this Consul? remora status, and its log, tell"
        ),
        Fate::Interrupted => bail!("interrupted before an agent took it: it is withdrawn"),
    }
    let what = match wish {
        Wish::Heal => format!("{name} is to be replaced: the agent on {node} has taken the request"),
        Wish::Release => {
            format!("{name} is released: the agent on {node} forgets its failed attempts and its quarantine")
        }
    };
    let mut text = String::new();
    add_line(&mut text, &what);
    add_line(&mut text, &format!("how it goes: remora status, the agent's log, or {} in Consul's KV", keys.events()));
    Ok(text)
}

/// What became of a request.
enum Fate {
    Taken,
    /// No agent took it in time.
    Late,
    /// Somebody ended the waiting.
    Interrupted,
}

/// Whoever waits does not want to any more.
struct Interrupted {
    int: Signal,
    term: Signal,
    hangup: Signal,
}

impl Interrupted {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Waits until the key is gone; it is taken back if it stays.
async fn fate(store: &impl Store, key: &str, interrupted: &mut Interrupted) -> anyhow::Result<Fate> {
    let end = Instant::now() + PATIENCE;
    let mut index = None;
    let mut fate = Fate::Late;
    loop {
        // Consul being away for a moment says nothing about the agent.
        match store.get(key).await {
            Ok(None) => return Ok(Fate::Taken),
            Ok(Some(entry)) => index = Some(entry.index),
            Err(error) if Instant::now() >= end || matches!(fate, Fate::Interrupted) => {
                return Err(anyhow!("{error}; it is not known whether an agent took the request, which is in {key}"));
            }
            Err(_) => {}
        }
        if Instant::now() >= end || matches!(fate, Fate::Interrupted) {
            break;
        }
        tokio::select! {
            () = sleep(LOOK_AGAIN) => {}
            // One more look: it may have been taken meanwhile.
            () = interrupted.wait() => fate = Fate::Interrupted,
        }
    }
    let Some(index) = index else { return Ok(fate) };
    match store.delete_if(key, index).await {
        Ok(_) => Ok(fate),
        Err(error) => Err(anyhow!("no agent took the request, and it cannot be withdrawn from {key}: {error}")),
    }
}

async fn pause(
    place: &Place,
    store: &impl Store,
    span: Option<Duration>,
    reason: &str,
    now: SystemTime,
) -> anyhow::Result<String> {
    let until = span.map(|span| now + span);
    let value = Pauses::value(reason, until);
    store.put(&place.key(), value.as_bytes()).await.map_err(|error| refused(&error, &place.keys))?;
    let mut text = String::new();
    let until = until.map(|until| format!(" until {}", humantime::format_rfc3339_seconds(until))).unwrap_or_default();
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    add_line(&mut text, &format!("healing is paused {}{until}{reason}", place.words()));
    add_line(
        &mut text,
        &format!(
            "what is under way is finished; `remora resume{}` ends the pause, and remora status shows it",
            place.argument()
        ),
    );
    Ok(text)
}

async fn resume(place: &Place, store: &impl Store) -> anyhow::Result<String> {
    let key = place.key();
    let was = store.get(&key).await.map_err(|error| refused(&error, &place.keys))?;
    store.delete(&key).await.map_err(|error| refused(&error, &place.keys))?;
    let mut text = String::new();
    let words = place.words();
    match was {
        Some(_) => add_line(&mut text, &format!("healing is not paused {words} any more")),
        None => add_line(&mut text, &format!("healing was not paused {words}: there was nothing to end")),
    }
    let listing = store.list(&place.keys.pauses(), None).await.map_err(|error| refused(&error, &place.keys))?;
    add_others(&mut text, place, &listing.entries);
    Ok(text)
}

/// The pauses that are still there.
fn add_others(text: &mut String, place: &Place, entries: &BTreeMap<String, Entry>) {
    let others: Vec<_> = entries.iter().filter(|(key, _)| place.is_concerned(key)).collect();
    if others.is_empty() {
        return;
    }
    add_line(text, "these pauses are still in force:");
    for (key, entry) in others.iter().take(TOLD) {
        let value = String::from_utf8_lossy(entry.value.get(..entry.value.len().min(300)).unwrap_or_default());
        add_line(text, &format!("  {key}: {value}"));
    }
    if let Some(more) = others.len().checked_sub(TOLD).filter(|more| *more > 0) {
        add_line(text, &format!("  and {more} more"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(node: Option<&str>, name: Option<&str>) -> Place {
        Place {
            keys: Keys::new("remora", node.unwrap_or_default()),
            node: node.map(str::to_owned),
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn pauses_that_are_wider_or_inside_are_told() {
        let keys = [
            "remora/heal/pause",
            "remora/heal/pause/",
            "remora/heal/pause/n1",
            "remora/heal/pause/n1/web",
            "remora/heal/pause/n1/db",
            "remora/heal/pause/n2",
            "remora/heal/pause-x",
        ];
        let told = |place: &Place| keys.iter().map(|key| u8::from(place.is_concerned(key))).collect::<Vec<_>>();
        assert_eq!(told(&at(Some("n1"), Some("web"))), [1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(told(&at(Some("n1"), None)), [1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(told(&at(None, None)), [1, 1, 1, 1, 1, 1, 0]);
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let error = ConsulError::Forbidden { call: "PUT /v1/kv/:key", message: "Permission denied".to_owned() };
        let told = refused(&error, &Keys::new("teams/a", "n1")).to_string();
        assert!(told.ends_with("the token needs key_prefix \"teams/a/\" { policy = \"write\" }"), "{told}");
    }
}
