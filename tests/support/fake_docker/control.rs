//! What the fake does when it is asked to: [`Control`], and what can go wrong with that.

use std::collections::BTreeMap;
use std::time::Duration;

use remora::docker::control::{CHANGE_TIMEOUT, STOP_SLACK};
use remora::docker::http::CALL_TIMEOUT;
use remora::docker::{ContainerId, Control, DockerError, Document, EventKind, State as Status};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::behaviour::{Behaviour, Whom, has_label};
use super::{FakeDocker, Mood, Shared, refused};

/// How an answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// No answer within the time-out.
    TimedOut,
    /// The connection breaks.
    Unreachable,
}

enum Fault {
    /// It is not done.
    Fail(DockerError),
    /// It is done.
    Lose(Lost),
}

/// What was changed through [`Control`], and what shall go wrong.
#[derive(Default)]
pub(super) struct Script {
    log: Vec<(Instant, String)>,
    faults: BTreeMap<usize, Fault>,
    pause_after: Option<usize>,
    held: usize,
}

/// What goes wrong with changes. They are counted from now on, beginning with 1.
impl FakeDocker {
    /// The `nth` change from now on fails with this, and is not done.
    pub fn fail_change(&self, nth: usize, error: DockerError) {
        let mut shared = self.lock();
        let number = shared.script.log.len() + nth;
        shared.script.faults.insert(number, Fault::Fail(error));
    }

    /// The `nth` change from now on is done, and nobody hears of it.
    pub fn lose_answer(&self, nth: usize, how: Lost) {
        let mut shared = self.lock();
        let number = shared.script.log.len() + nth;
        shared.script.faults.insert(number, Fault::Lose(how));
    }

    /// After so many more changes every further one hangs for ever, and is not done: until [`FakeDocker::go_on`] for those
    /// that are asked for after that.
    pub fn pause_after(&self, changes: usize) {
        let mut shared = self.lock();
        shared.script.pause_after = Some(shared.script.log.len() + changes);
        shared.script.held = 0;
    }

    /// How many changes hang since [`FakeDocker::pause_after`].
    pub fn held(&self) -> usize {
        self.lock().script.held
    }

    /// No change hangs any more, and no fault is left.
    pub fn go_on(&self) {
        let mut shared = self.lock();
        shared.script.pause_after = None;
        shared.script.faults.clear();
    }

    /// The changes that were asked for so far, also those that failed or did nothing, in words: `create web`, `start web`,
    /// `rename web web.old`…; names are those of that moment.
    pub fn changes(&self) -> Vec<String> {
        self.lock().script.log.iter().map(|(_, line)| line.clone()).collect()
    }

    /// The same with the time of each.
    pub fn changes_with_times(&self) -> Vec<(Instant, String)> {
        self.lock().script.log.clone()
    }
}

/// What is there besides containers, and how containers behave.
impl FakeDocker {
    /// Whoever it is behaves so from its next start on. Of several rules for one the last one counts.
    pub fn behave(&self, whom: Whom, behaviour: Behaviour) {
        self.lock().behaviours.push((whom, behaviour));
    }

    /// An image of this reference, with the fields of its `Config`; another id than before, if there was one.
    pub fn add_image(&self, reference: &str, config: &Value) -> String {
        let mut shared = self.lock();
        let id = format!("sha256:{}", shared.hexadecimal());
        let document =
            json!({"Id": id, "RepoTags": [reference], "Os": "linux", "Architecture": "amd64", "Config": config});
        shared.images.insert(reference.to_owned(), document);
        id
    }

    /// `docker rmi -f`.
    pub fn remove_image(&self, reference: &str) {
        self.lock().images.remove(reference);
    }

    /// `docker volume create`.
    pub fn add_volume(&self, name: &str) {
        self.lock().volumes.insert(name.to_owned());
    }

    /// `docker volume rm`, whoever uses it.
    pub fn remove_volume(&self, name: &str) {
        self.lock().volumes.remove(name);
    }

    /// `docker network create`, or, if there is one already, that after `docker network rm`: another id.
    pub fn add_network(&self, name: &str) {
        self.lock().make_network(name);
    }

    /// `docker network rm`.
    pub fn remove_network(&self, name: &str) {
        self.lock().networks.remove(name);
    }

    /// Whether there is nothing at this path of the host.
    pub fn hide_path(&self, path: &str, missing: bool) {
        super::set(&mut self.lock().missing_paths, &path.to_owned(), missing);
    }

    /// What it has written to its log.
    pub fn set_log(&self, id: &ContainerId, text: &str) {
        text.clone_into(&mut self.lock().containers.get_mut(id).unwrap().log);
    }

    /// Whether it has written to its own layer.
    pub fn set_changed(&self, id: &ContainerId, changed: bool) {
        self.lock().containers.get_mut(id).unwrap().changed = changed;
    }

    /// With which code every exec ends, and after how long.
    pub fn set_exec(&self, code: i64, takes: Duration) {
        self.lock().exec = (code, takes);
    }

    /// The whole document of a container as it really is.
    pub fn raw(&self, id: &ContainerId) -> Option<Value> {
        let shared = self.lock();
        shared.containers.get(id).map(|inside| shared.document(inside).value().clone())
    }
}

fn refuse<T>(call: &'static str, status: u16, message: impl Into<String>) -> Result<T, DockerError> {
    Err(DockerError::Refused { call, status, message: message.into() })
}

impl Shared {
    fn id(&self, id_or_name: &str) -> Result<ContainerId, DockerError> {
        let inside = self.find(id_or_name);
        inside.map(|inside| inside.facts.id.clone()).ok_or_else(|| not_found(id_or_name))
    }

    fn name(&self, id_or_name: &str) -> String {
        self.find(id_or_name).map_or_else(|| id_or_name.to_owned(), |inside| inside.facts.name.to_string())
    }

    /// Begins a stop; whoever waits for its end may go away meanwhile, as with the real engine.
    fn stop(&mut self, id: &ContainerId, timeout: Duration, restart: bool) -> Option<JoinHandle<()>> {
        let state = self.facts(id).state.clone();
        let inside = self.containers.get_mut(id).unwrap();
        inside.cancelled = true;
        match state {
            Status::Restarting => {
                inside.facts.state = Status::Exited;
                self.emit(id, EventKind::Other("stop".to_owned()));
                None
            }
            Status::Running | Status::Paused => {
                inside.facts.state = Status::Running;
                let (run, signal) = (inside.run, inside.facts.stop_signal.0);
                let takes = self.behaviour(&self.containers[id]).stops_in;
                self.emit(id, EventKind::Kill(Some(signal)));
                let (me, id) = (self.me.clone(), id.clone());
                Some(tokio::spawn(async move {
                    sleep(takes.min(timeout)).await;
                    let Some(shared) = me.upgrade() else { return };
                    let mut shared = shared.lock().unwrap();
                    if shared.containers.get(&id).is_none_or(|inside| inside.run != run) {
                        return;
                    }
                    let mut code = 128 + i64::from(signal);
                    if takes > timeout {
                        code = 137;
                        shared.emit(&id, EventKind::Kill(Some(9)));
                    }
                    let remove = !restart && shared.facts(&id).life.auto_remove;
                    shared.over(&id, code, false, false);
                    shared.emit(&id, EventKind::Other("stop".to_owned()));
                    if remove {
                        shared.destroy(&id);
                    }
                }))
            }
            _ => None,
        }
    }
}

fn not_found(id_or_name: &str) -> DockerError {
    DockerError::NotFound(format!("No such container: {id_or_name}"))
}

impl FakeDocker {
    /// One change: counted, told, done (or not), and answered (or not).
    async fn change<T>(
        &self,
        call: &'static str,
        within: Duration,
        words: impl FnOnce(&Shared) -> String,
        act: impl FnOnce(&mut Shared) -> Result<(T, Option<JoinHandle<()>>), DockerError>,
    ) -> Result<T, DockerError> {
        let begun = {
            let mut shared = self.lock();
            let number = shared.script.log.len() + 1;
            if shared.script.pause_after.is_some_and(|last| number > last) {
                shared.script.held += 1;
                None
            } else {
                let line = words(&shared);
                shared.script.log.push((Instant::now(), line));
                Some((shared.script.faults.remove(&number), shared.mood, shared.latency))
            }
        };
        let Some((fault, mood, latency)) = begun else { return std::future::pending().await };
        match mood {
            Mood::Up => {}
            Mood::Refusing => return Err(refused()),
            Mood::Frozen => {
                sleep(within).await;
                return Err(DockerError::TimedOut { call, after: within });
            }
            Mood::Unwell => return refuse(call, 503, "starting"),
        }
        if let Some(Fault::Fail(error)) = fault {
            return Err(error);
        }
        let done = act(&mut self.lock());
        match fault {
            Some(Fault::Lose(Lost::Unreachable)) => return Err(refused()),
            Some(Fault::Lose(Lost::TimedOut)) => {
                sleep(within).await;
                return Err(DockerError::TimedOut { call, after: within });
            }
            _ => {}
        }
        if !latency.is_zero() {
            self.in_time(call, within, latency).await?;
        }
        let (value, rest) = done?;
        if let Some(rest) = rest
            && tokio::time::timeout(within, rest).await.is_err()
        {
            return Err(DockerError::TimedOut { call, after: within });
        }
        Ok(value)
    }

    async fn read<T>(
        &self,
        call: &'static str,
        look: impl FnOnce(&Shared) -> Result<T, DockerError>,
    ) -> Result<T, DockerError> {
        let found = look(&self.lock());
        self.begin(call, CALL_TIMEOUT, |_| {}).await?;
        found
    }
}

impl Control for FakeDocker {
    async fn document(&self, id: &str) -> Result<Document, DockerError> {
        let call = "GET /containers/{id}/json";
        let stuck = {
            let shared = self.lock();
            shared.find(id).is_some_and(|inside| shared.stuck.contains(&inside.facts.id))
        };
        if stuck {
            sleep(CALL_TIMEOUT).await;
            return Err(DockerError::TimedOut { call, after: CALL_TIMEOUT });
        }
        let look = |shared: &Shared| {
            let inside = shared.find(id).ok_or_else(|| not_found(id))?;
            if shared.unreadable.contains(&inside.facts.id) {
                let reason = "a field has another type than expected".to_owned();
                return Err(DockerError::Unreadable { call, reason });
            }
            Ok(shared.document(inside))
        };
        self.read(call, look).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Document>, DockerError> {
        let call = "GET /images/{reference}/json";
        self.read(call, |shared| Ok(shared.image(reference).cloned().map(Document::new))).await
    }

    async fn network(&self, name: &str) -> Result<Option<Document>, DockerError> {
        let look = |shared: &Shared| {
            let by_id = || shared.networks.values().find(|network| network["Id"] == name);
            Ok(shared.networks.get(name).or_else(by_id).cloned().map(Document::new))
        };
        self.read("GET /networks/{name}", look).await
    }

    async fn volume_exists(&self, name: &str) -> Result<bool, DockerError> {
        self.read("GET /volumes/{name}", |shared| Ok(shared.volumes.contains(name))).await
    }

    async fn create(&self, name: &str, body: &Value, _platform: Option<&str>) -> Result<ContainerId, DockerError> {
        let call = "POST /containers/create";
        let act = |shared: &mut Shared| shared.create(name, body).map(|id| (id, None));
        self.change(call, CHANGE_TIMEOUT, |_| format!("create {name}"), act).await
    }

    async fn connect(&self, network: &str, body: &Value) -> Result<(), DockerError> {
        let call = "POST /networks/{network}/connect";
        let container = body["Container"].as_str().unwrap_or_default();
        let act = |shared: &mut Shared| {
            let id = shared.id(container)?;
            // What does not run is only told; the start will see.
            let runs = super::has_process(&shared.facts(&id).state);
            if runs && !shared.networks.contains_key(network) {
                return refuse(call, 404, format!("network {network} not found"));
            }
            if runs && shared.containers[&id].endpoints.contains_key(network) {
                let name = shared.name(container);
                return refuse(call, 403, format!("endpoint with name {name} already exists in network {network}"));
            }
            shared.attach(&id, network, &body["EndpointConfig"]);
            Ok(((), None))
        };
        let words = |shared: &Shared| format!("connect {} {network}", shared.name(container));
        self.change(call, CHANGE_TIMEOUT, words, act).await
    }

    async fn start(&self, id: &str) -> Result<(), DockerError> {
        let call = "POST /containers/{id}/start";
        let act = |shared: &mut Shared| {
            let id = shared.id(id)?;
            match shared.facts(&id).state {
                Status::Paused => refuse(call, 409, "cannot start a paused container, try unpause instead"),
                Status::Running | Status::Restarting => Ok(((), None)),
                _ => shared.try_start(call, &id).map(|()| ((), None)),
            }
        };
        self.change(call, CHANGE_TIMEOUT, |shared| format!("start {}", shared.name(id)), act).await
    }

    async fn stop(&self, id: &str, timeout: Duration) -> Result<(), DockerError> {
        let act = |shared: &mut Shared| {
            let id = shared.id(id)?;
            Ok(((), shared.stop(&id, timeout, false)))
        };
        let words = |shared: &Shared| format!("stop {}", shared.name(id));
        self.change("POST /containers/{id}/stop", timeout + STOP_SLACK, words, act).await
    }

    async fn restart(&self, id: &str, timeout: Duration) -> Result<(), DockerError> {
        let call = "POST /containers/{id}/restart";
        let words = |shared: &Shared| format!("restart {}", shared.name(id));
        let engine = self.clone();
        let act = |shared: &mut Shared| {
            let id = shared.id(id)?;
            let ending = shared.stop(&id, timeout, true);
            // As the stop, the rest of it happens whether or not anybody waits for it.
            let (told, result) = tokio::sync::oneshot::channel();
            let rest = tokio::spawn(async move {
                if let Some(ending) = ending {
                    ending.await.expect("a stop never panics");
                }
                let mut shared = engine.lock();
                let started = if shared.containers.contains_key(&id) {
                    shared.try_start(call, &id)
                } else {
                    Err(not_found(id.as_str()))
                };
                if started.is_ok() {
                    shared.emit(&id, EventKind::Other("restart".to_owned()));
                }
                // Nobody may be waiting any more.
                let _unheard = told.send(started);
            });
            Ok((result, Some(rest)))
        };
        let result = self.change(call, timeout + STOP_SLACK + CHANGE_TIMEOUT, words, act).await?;
        result.await.expect("its end was waited for")
    }

    async fn rename(&self, id: &str, new_name: &str) -> Result<(), DockerError> {
        let call = "POST /containers/{id}/rename";
        let act = |shared: &mut Shared| {
            let id = shared.id(id)?;
            let facts = shared.facts(&id);
            if facts.name == new_name {
                return refuse(call, 400, "Renaming a container with the same name as its current name");
            }
            if facts.state == Status::Restarting {
                return refuse(call, 404, format!("sandbox {} not found", id.as_str()));
            }
            shared.conflict(call, new_name)?;
            shared.facts(&id).name = new_name.into();
            shared.emit(&id, EventKind::Other("rename".to_owned()));
            Ok(((), None))
        };
        let words = |shared: &Shared| format!("rename {} {new_name}", shared.name(id));
        self.change(call, CHANGE_TIMEOUT, words, act).await
    }

    async fn set_restart_policy(&self, id: &str, policy: &Value) -> Result<(), DockerError> {
        let call = "POST /containers/{id}/update";
        let act = |shared: &mut Shared| {
            let id = shared.id(id)?;
            let name = policy["Name"].as_str().unwrap_or_default();
            if !["", "no", "always", "unless-stopped", "on-failure"].contains(&name) {
                return refuse(call, 400, format!("invalid restart policy '{name}'"));
            }
            let inside = shared.containers.get_mut(&id).unwrap();
            if inside.facts.life.auto_remove {
                let why = "Restart policy cannot be updated because AutoRemove is enabled for the container";
                return refuse(call, 409, format!("Cannot update container {}: {why}", id.as_str()));
            }
            let retries = policy["MaximumRetryCount"].as_u64().unwrap_or_default();
            inside.host_config["RestartPolicy"] = json!({"Name": name, "MaximumRetryCount": retries});
            let inside = &shared.containers[&id];
            let read = shared.document(inside).container(&remora::docker::Lens::default())?;
            shared.facts(&id).life.restart_policy = read.life.restart_policy;
            shared.emit(&id, EventKind::Other("update".to_owned()));
            Ok(((), None))
        };
        let words = |shared: &Shared| format!("update {} {}", shared.name(id), policy["Name"].as_str().unwrap_or("?"));
        self.change(call, CHANGE_TIMEOUT, words, act).await
    }

    async fn remove(&self, id: &str, force: bool) -> Result<(), DockerError> {
        let call = "DELETE /containers/{id}";
        let act = |shared: &mut Shared| {
            let Ok(id) = shared.id(id) else { return Ok(((), None)) };
            if super::has_process(&shared.facts(&id).state) && !force {
                let stop = "Stop the container before attempting removal or force remove";
                return refuse(call, 409, format!("You cannot remove a running container {}. {stop}", id.as_str()));
            }
            shared.remove(&id);
            Ok(((), None))
        };
        self.change(call, CHANGE_TIMEOUT, |shared| format!("remove {}", shared.name(id)), act).await
    }

    async fn logs(&self, id: &str, lines: usize) -> Result<String, DockerError> {
        let look = |shared: &Shared| {
            let log = &shared.find(id).ok_or_else(|| not_found(id))?.log;
            let all: Vec<&str> = log.split_inclusive('\n').collect();
            Ok(all[all.len().saturating_sub(lines)..].concat())
        };
        self.read("GET /containers/{id}/logs", look).await
    }

    async fn changes_exist(&self, id: &str) -> Result<bool, DockerError> {
        let look = |shared: &Shared| Ok(shared.find(id).ok_or_else(|| not_found(id))?.changed);
        self.read("GET /containers/{id}/changes", look).await
    }

    async fn labelled(&self, label: &str) -> Result<Vec<ContainerId>, DockerError> {
        let look = |shared: &Shared| {
            let all = shared.containers.iter().filter(|(_, inside)| has_label(&inside.facts, label));
            Ok(all.map(|(id, _)| id.clone()).collect())
        };
        self.read("GET /containers/json", look).await
    }

    async fn exec(&self, id: &str, command: &[String], timeout: Duration) -> Result<i64, DockerError> {
        let call = "POST /containers/{id}/exec";
        let words = |shared: &Shared| format!("exec {} {}", shared.name(id), command.join(" "));
        let act = |shared: &mut Shared| {
            let id = shared.id(id)?;
            if !super::has_process(&shared.facts(&id).state) {
                return refuse(call, 409, format!("Container {} is not running", id.as_str()));
            }
            let (code, takes) = shared.exec;
            Ok((code, (!takes.is_zero()).then(|| tokio::spawn(sleep(takes)))))
        };
        self.change(call, timeout, words, act).await
    }
}
