//! The engine's API as plain HTTP and JSON, the test image, and containers that are gone when the test is.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::http_client;

/// The image of the test containers: busybox and nothing else.
const IMAGE: &str = "remora-test/busybox:1";
/// Label of everything that a test creates; its value is the test's run id, Remora's include filter looks for it.
pub const RUN_LABEL: &str = "remora-test";
/// Label with the id of the test process, by which the next run finds what a killed one left behind.
const OWNER_LABEL: &str = "remora-test-owner";

/// A Docker Engine as one test sees it: its containers carry the test's run id and are removed with this value.
pub struct Engine {
    http: reqwest::Client,
    socket: PathBuf,
    run: String,
    /// What `truth` expects services to be registered at.
    pub address: String,
    networks: Mutex<Vec<String>>,
    volumes: Mutex<Vec<String>>,
    images: Mutex<Vec<String>>,
}

/// A container of this test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// Full id.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
}

/// What should be in the catalog for one port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    /// Full id of the container.
    pub container: String,
    /// Where it can be reached.
    pub address: String,
    /// Port at that address.
    pub port: u16,
    /// `passing` or `critical`.
    pub status: &'static str,
}

/// One line of the engine's event stream.
#[derive(Debug, Clone)]
pub struct Event {
    /// `start`, `die`, `health_status: unhealthy`…
    pub action: String,
    /// Full id of the container.
    pub id: String,
    /// The engine's clock, nanoseconds since 1970.
    pub time_nano: i128,
    /// The container's labels, its `name`, `exitCode`…
    pub attributes: Value,
}

/// The events of this test's containers from the moment of [`Engine::events`] on.
pub struct Events {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

/// A container to be created; the methods change one thing each.
#[must_use]
pub struct Spec<'a> {
    engine: &'a Engine,
    name: String,
    body: Value,
}

/// The path in `DOCKER_HOST`, or the usual one.
pub fn default_socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    let path = host.strip_prefix("unix://").unwrap_or_else(|| {
        panic!("these tests need a Docker Engine on a unix socket, DOCKER_HOST is {host}; expected unix:///path")
    });
    path.into()
}

impl Engine {
    /// The machine's own engine.
    pub async fn connect(run: &str) -> Self {
        Self::connect_to(&default_socket(), run).await
    }

    /// The engine behind this socket, with the test image in it.
    pub async fn connect_to(socket: &Path, run: &str) -> Self {
        let engine = Self {
            http: http_client(Some(socket)),
            socket: socket.to_owned(),
            run: run.to_owned(),
            address: super::remora::ADDRESS.to_owned(),
            networks: Mutex::default(),
            volumes: Mutex::default(),
            images: Mutex::default(),
        };
        if let Err(error) = engine.try_call("GET", "/_ping", None).await {
            panic!(
                "these tests need a running Docker Engine at {}: {error}. Start Docker, or point DOCKER_HOST at it.",
                socket.display()
            );
        }
        engine.ensure_image().await;
        engine.remove_leftovers().await;
        engine
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The value of this test's label.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// A container that sleeps, named `<run id>-<name>`, with nothing published yet.
    pub fn container(&self, name: &str) -> Spec<'_> {
        Spec {
            engine: self,
            name: format!("{}-{name}", self.run),
            body: json!({
                "Image": image(),
                "Cmd": ["/bin/busybox", "sleep", "100000"],
                "Labels": { RUN_LABEL: self.run, OWNER_LABEL: owner() },
                "ExposedPorts": {},
                "Env": [],
                "StopTimeout": 1,
                "HostConfig": { "PortBindings": {}, "LogConfig": { "Type": "none" } },
            }),
        }
    }

    /// `count` containers `<prefix>0`, `<prefix>1`… with port 80 published, started `parallel` at a time.
    pub async fn many(&self, prefix: &str, count: usize, parallel: usize) -> Vec<Container> {
        let mut all: Vec<_> = stream::iter(0..count)
            .map(|number| async move { self.container(&format!("{prefix}{number}")).publish(80).run().await })
            .buffer_unordered(parallel)
            .collect()
            .await;
        all.sort();
        all
    }

    /// `docker kill -s SIGNAL`.
    pub async fn kill(&self, container: &Container, signal: &str) {
        self.call("POST", &format!("/containers/{}/kill?signal={signal}", container.id), None).await;
    }

    /// Kills them, `parallel` at a time.
    pub async fn kill_all(&self, containers: &[Container], parallel: usize) {
        stream::iter(containers).for_each_concurrent(parallel, |container| self.kill(container, "KILL")).await;
    }

    /// `docker stop -t SECONDS`.
    pub async fn stop(&self, container: &Container, grace_seconds: u32) {
        self.call("POST", &format!("/containers/{}/stop?t={grace_seconds}", container.id), None).await;
    }

    /// `docker start`.
    pub async fn start(&self, container: &Container) {
        let path = format!("/containers/{}/start", container.id);
        // A random port comes from the range of the ports of outgoing connections, and any of these may just have it: that
        // start fails, and the next one gets another port.
        for _ in 0..10 {
            match self.try_call("POST", &path, None).await {
                Ok(_) => return,
                Err(error) if error.contains("address already in use") => {}
                Err(error) => panic!("Docker: {error}"),
            }
        }
        self.call("POST", &path, None).await;
    }

    /// `docker restart -t 0`.
    pub async fn restart(&self, container: &Container) {
        self.call("POST", &format!("/containers/{}/restart?t=0", container.id), None).await;
    }

    /// `docker pause` or `docker unpause`.
    pub async fn pause(&self, container: &Container, paused: bool) {
        let verb = if paused { "pause" } else { "unpause" };
        self.call("POST", &format!("/containers/{}/{verb}", container.id), None).await;
    }

    /// `docker rename`; the new name is prefixed like every other one.
    pub async fn rename(&self, container: &Container, name: &str) -> Container {
        let name = format!("{}-{name}", self.run);
        self.call("POST", &format!("/containers/{}/rename?name={name}", container.id), None).await;
        Container { id: container.id.clone(), name }
    }

    /// `docker rm -f`; it may be gone already.
    pub async fn remove(&self, container: &Container) {
        remove(&self.http, &container.id).await;
    }

    /// Runs a command in it and waits for its end.
    pub async fn exec(&self, container: &Container, command: &[&str]) {
        let created =
            self.call("POST", &format!("/containers/{}/exec", container.id), Some(json!({"Cmd": command}))).await;
        let id = created["Id"].as_str().unwrap();
        self.call("POST", &format!("/exec/{id}/start"), Some(json!({"Detach": true}))).await;
        loop {
            if self.call("GET", &format!("/exec/{id}/json"), None).await["Running"] == false {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `docker network create`; the name is prefixed like a container's.
    pub async fn network(&self, name: &str) -> String {
        self.network_with(name, json!({})).await
    }

    /// `docker network create` with these settings (`IPAM`, `Driver`…).
    pub async fn network_with(&self, name: &str, mut settings: Value) -> String {
        let name = format!("{}-{name}", self.run);
        settings["Name"] = name.as_str().into();
        settings["Labels"] = json!({ RUN_LABEL: self.run, OWNER_LABEL: owner() });
        self.call("POST", "/networks/create", Some(settings)).await;
        self.networks.lock().unwrap().push(name.clone());
        name
    }

    /// `docker volume create`; the name is prefixed like a container's.
    pub async fn volume(&self, name: &str) -> String {
        let name = format!("{}-{name}", self.run);
        let labels = json!({ RUN_LABEL: self.run, OWNER_LABEL: owner() });
        self.call("POST", "/volumes/create", Some(json!({"Name": name, "Labels": labels}))).await;
        self.volumes.lock().unwrap().push(name.clone());
        name
    }

    /// The volumes that this container mounts end with the test, also when no container mounts them by then.
    pub fn clean_volumes_of(&self, container: &Value) {
        self.volumes.lock().unwrap().extend(mounted(std::iter::once(container)));
    }

    /// An image like the test's own, with these settings (`Entrypoint`, `Volumes`…); the name is prefixed like a container's.
    pub async fn image(&self, name: &str, settings: Value) -> String {
        let base = self.container(&format!("base-of-{name}")).create().await;
        let repository = format!("{}-{name}", self.run);
        let path = format!("/commit?container={}&repo={repository}&tag=1", base.id);
        self.call("POST", &path, Some(settings)).await;
        self.remove(&base).await;
        let image = format!("{repository}:1");
        self.images.lock().unwrap().push(image.clone());
        image
    }

    /// `docker network connect` or `disconnect`.
    pub async fn attach(&self, container: &Container, network: &str, connected: bool) {
        let verb = if connected { "connect" } else { "disconnect" };
        let body = json!({"Container": container.id});
        self.call("POST", &format!("/networks/{network}/{verb}"), Some(body)).await;
    }

    /// `docker inspect`.
    pub async fn inspect(&self, container: &Container) -> Value {
        self.call("GET", &format!("/containers/{}/json", container.id), None).await
    }

    /// What the engine says about itself.
    pub async fn info(&self) -> Value {
        self.call("GET", "/info", None).await
    }

    /// The events of this test's containers from now on.
    pub async fn events(&self) -> Events {
        self.events_like(json!({})).await
    }

    /// Those of them that these filters let through as well.
    async fn events_like(&self, mut filters: Value) -> Events {
        filters["type"] = json!(["container"]);
        filters["label"] = json!([format!("{RUN_LABEL}={}", self.run)]);
        let request = self.http.get("http://docker/events").query(&[("filters", filters.to_string())]);
        Events { response: request.send().await.unwrap(), buffer: Vec::new() }
    }

    /// How often Docker tells from now on that the health of one of this test's containers is another one, until `until`.
    pub async fn health_changes(&self, until: impl Future<Output = ()>) -> usize {
        let mut events = self.events_like(json!({"event": ["health_status"]})).await;
        let mut changes = 0;
        tokio::pin!(until);
        loop {
            tokio::select! {
                _event = events.any() => changes += 1,
                () = &mut until => return changes,
            }
        }
    }

    /// Ids of this test's containers; stopped ones too when `all`.
    pub async fn ids(&self, all: bool) -> Vec<String> {
        list(&self.http, all, &format!("{RUN_LABEL}={}", self.run)).await
    }

    /// Ids of all containers with this label, whoever made them.
    pub async fn ids_with(&self, label: &str) -> Vec<String> {
        list(&self.http, true, label).await
    }

    /// `docker inspect` of whoever has this name now; `None` if nobody has.
    pub async fn inspect_name(&self, name: &str) -> Option<Value> {
        self.try_call("GET", &format!("/containers/{name}/json"), None).await.ok()
    }

    /// Names of this test's containers; of stopped ones too when `all`.
    pub async fn names(&self, all: bool) -> Vec<String> {
        let summaries = summaries(&self.http, all, &format!("{RUN_LABEL}={}", self.run)).await;
        let mut names: Vec<String> =
            summaries.iter().map(|it| it["Names"][0].as_str().unwrap().trim_start_matches('/').to_owned()).collect();
        names.sort();
        names
    }

    /// What should be in the catalog, by service id: for every running container of this test its published ports (with
    /// the host's network its exposed ones), at `self.address`, with the status that Docker's word means.
    pub async fn truth(&self, node: &str) -> BTreeMap<String, Truth> {
        let ids = self.ids(false).await;
        let documents: Vec<Value> = stream::iter(ids)
            .map(|id| async move {
                // Gone between the list and the look: then it is not running.
                self.try_call("GET", &format!("/containers/{id}/json"), None).await.unwrap_or_default()
            })
            .buffer_unordered(16)
            .collect()
            .await;
        let mut truth = BTreeMap::new();
        for document in documents.iter().filter(|document| document["State"]["Running"] == true) {
            let name = document["Name"].as_str().unwrap().trim_start_matches('/');
            let status = match (&document["State"]["Paused"], document["State"]["Health"]["Status"].as_str()) {
                (Value::Bool(true), _) | (_, Some("starting" | "unhealthy")) => "critical",
                _ => "passing",
            };
            for (port, host_port) in reachable_ports(document) {
                let (number, protocol) = port.split_once('/').unwrap();
                let suffix = if protocol == "tcp" { String::new() } else { format!(":{protocol}") };
                let container = document["Id"].as_str().unwrap().to_owned();
                let entry = Truth { container, address: self.address.clone(), port: host_port, status };
                truth.insert(format!("{node}:{name}:{number}{suffix}"), entry);
            }
        }
        truth
    }

    /// Any other call; a refusal fails the test.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        match self.try_call(method, path, body).await {
            Ok(value) => value,
            Err(error) => panic!("Docker: {error}"),
        }
    }

    /// Any other call, or what the engine says against it.
    pub async fn try_call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        call(&self.http, method, path, body).await
    }

    /// The image is made from one static busybox, so that nothing has to be pulled where no registry can be reached.
    async fn ensure_image(&self) {
        static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _guard = ONE_AT_A_TIME.lock().await;
        let image = image();
        if self.try_call("GET", &format!("/images/{image}/json"), None).await.is_ok() {
            return;
        }
        if image != IMAGE {
            self.copy_image(&image).await;
            return;
        }
        let archive = root_file_system(&static_busybox());
        let (repository, tag) = IMAGE.split_once(':').unwrap();
        let url = format!("http://docker/images/create?fromSrc=-&repo={repository}&tag={tag}");
        let answer = self.http.post(url).body(archive).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success() && !text.contains("errorDetail"), "the test image cannot be made: {text}");
    }

    /// An engine that a test has started does not have the image of `REMORA_TEST_IMAGE`: the machine's own engine does.
    async fn copy_image(&self, image: &str) {
        let own = default_socket();
        let answer = http_client(Some(&own)).get(format!("http://docker/images/{image}/get")).send().await.unwrap();
        assert!(answer.status().is_success(), "REMORA_TEST_IMAGE={image}: no such image in {}", own.display());
        let archive = answer.bytes().await.unwrap();
        let answer = self.http.post("http://docker/images/load?quiet=1").body(archive).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success() && !text.contains("errorDetail"), "{image} cannot be loaded: {text}");
    }

    /// Removes what test processes left behind that do not run any more.
    async fn remove_leftovers(&self) {
        let filters = json!({"label": [OWNER_LABEL]}).to_string();
        let dead = |labels: &Value| {
            let pid = labels[OWNER_LABEL].as_str().unwrap_or_default();
            !Path::new("/proc").join(pid).join("stat").exists()
        };
        let answer = self.http.get("http://docker/containers/json?all=true").query(&[("filters", &filters)]);
        let containers: Value = answer.send().await.unwrap().json().await.unwrap();
        let orphans = containers.as_array().unwrap().iter().filter(|it| dead(&it["Labels"]));
        let ids: Vec<_> = orphans.map(|it| it["Id"].as_str().unwrap().to_owned()).collect();
        let volumes = mounted(containers.as_array().unwrap().iter().filter(|it| dead(&it["Labels"])));
        stream::iter(ids).for_each_concurrent(8, |id| async move { remove(&self.http, &id).await }).await;
        for volume in volumes {
            drop(self.try_call("DELETE", &format!("/volumes/{volume}"), None).await);
        }
        let answer = self.http.get("http://docker/networks").query(&[("filters", &filters)]);
        let networks: Value = answer.send().await.unwrap().json().await.unwrap();
        for network in networks.as_array().unwrap().iter().filter(|it| dead(&it["Labels"])) {
            let path = format!("/networks/{}", network["Id"].as_str().unwrap());
            // A parallel test process may have removed it in between.
            drop(self.try_call("DELETE", &path, None).await);
        }
        for (list, entries, name, labels) in
            [("/volumes", "/Volumes", "/Name", "/Labels"), ("/images/json", "", "/Id", "/Labels")]
        {
            let answer = self.http.get(format!("http://docker{list}")).query(&[("filters", &filters)]);
            let answer: Value = answer.send().await.unwrap().json().await.unwrap();
            let found = answer.pointer(entries).and_then(Value::as_array);
            for entry in found.into_iter().flatten().filter(|it| dead(it.pointer(labels).unwrap())) {
                let kind = list.trim_end_matches("/json");
                let name = entry.pointer(name).and_then(Value::as_str).unwrap();
                drop(self.try_call("DELETE", &format!("{kind}/{name}?force=true"), None).await);
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let (socket, run) = (self.socket.clone(), self.run.clone());
        let networks = std::mem::take(&mut *self.networks.lock().unwrap());
        let mut volumes = std::mem::take(&mut *self.volumes.lock().unwrap());
        let images = std::mem::take(&mut *self.images.lock().unwrap());
        // A runtime cannot be entered from within one, so the cleaning has a thread of its own.
        let cleaning = std::thread::spawn(move || {
            // One test at a time, and a few containers of it: Engine 20.10 takes two locks of its network code in both orders
            // when containers end, and with dozens at once it locked itself up for good (seen once in some ten runs).
            static CLEANING: Mutex<()> = Mutex::new(());
            let _turn = CLEANING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let http = http_client(Some(&socket));
                if call(&http, "GET", "/_ping", None).await.is_err() {
                    return; // the engine was the test's own and has ended
                }
                let label = format!("{RUN_LABEL}={run}");
                let ids = list(&http, true, &label).await;
                volumes.extend(mounted(summaries(&http, true, &label).await.iter()));
                stream::iter(ids)
                    .for_each_concurrent(4, |id| {
                        let http = &http;
                        async move { remove(http, &id).await }
                    })
                    .await;
                for network in networks {
                    drop(call(&http, "DELETE", &format!("/networks/{network}"), None).await);
                }
                for volume in volumes {
                    drop(call(&http, "DELETE", &format!("/volumes/{volume}"), None).await);
                }
                for image in images {
                    drop(call(&http, "DELETE", &format!("/images/{image}?force=true"), None).await);
                }
            });
        });
        if cleaning.join().is_err() {
            eprintln!("containers with the label {RUN_LABEL}={} could not be removed", self.run);
        }
    }
}

impl Spec<'_> {
    /// Publishes a TCP port on a random port of the host.
    pub fn publish(self, port: u16) -> Self {
        self.publish_as(&format!("{port}/tcp"), "", 0)
    }

    /// Publishes `80/tcp`, `53/udp`… on this address and port of the host; `""` is every address, 0 a random port.
    pub fn publish_as(mut self, port: &str, host_address: &str, host_port: u16) -> Self {
        let host_port = if host_port == 0 { String::new() } else { host_port.to_string() };
        self.body["ExposedPorts"][port] = json!({});
        self.body["HostConfig"]["PortBindings"][port] = json!([{"HostIp": host_address, "HostPort": host_port}]);
        self
    }

    /// Exposes a TCP port without publishing it.
    pub fn expose(mut self, port: u16) -> Self {
        self.body["ExposedPorts"][format!("{port}/tcp")] = json!({});
        self
    }

    /// Adds a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.body["Labels"][key] = value.into();
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.body["Env"].as_array_mut().unwrap().push(format!("{key}={value}").into());
        self
    }

    /// Replaces the command.
    pub fn command(mut self, command: &[&str]) -> Self {
        self.body["Cmd"] = json!(command);
        self
    }

    /// A HEALTHCHECK that fails, at once, while the file `/sick` exists.
    pub fn health_check(mut self, interval: Duration) -> Self {
        self.body["Healthcheck"] = json!({
            "Test": ["CMD-SHELL", "if /bin/busybox test -e /sick; then echo sick; exit 1; else echo well; fi"],
            "Interval": u64::try_from(interval.as_nanos()).unwrap(),
            "Timeout": 10_000_000_000_u64,
            "Retries": 1,
        });
        self
    }

    /// `--rm`.
    pub fn auto_remove(mut self) -> Self {
        self.body["HostConfig"]["AutoRemove"] = true.into();
        self
    }

    /// `--restart`.
    pub fn restart_policy(mut self, policy: &str) -> Self {
        self.body["HostConfig"]["RestartPolicy"] = json!({"Name": policy});
        self
    }

    /// `--network`: a network's name, `host`, `none` or `container:<id>`.
    pub fn network(mut self, network: &str) -> Self {
        self.body["HostConfig"]["NetworkMode"] = network.into();
        self
    }

    /// `--stop-timeout`, in seconds.
    pub fn stop_timeout(mut self, seconds: u32) -> Self {
        self.body["StopTimeout"] = seconds.into();
        self
    }

    /// Changes the body of the create call in any other way.
    pub fn edit(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.body);
        self
    }

    /// Takes the name as it is, without the run id before it.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The body of its create call.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// `docker create`.
    pub async fn create(self) -> Container {
        let path = format!("/containers/create?name={}", self.name);
        let created = self.engine.call("POST", &path, Some(self.body)).await;
        Container { id: created["Id"].as_str().unwrap().to_owned(), name: self.name }
    }

    /// `docker run -d`.
    pub async fn run(self) -> Container {
        let engine = self.engine;
        let container = self.create().await;
        engine.start(&container).await;
        container
    }
}

impl Events {
    /// The next event of this container with this action; a long wait fails the test.
    pub async fn next(&mut self, container: &Container, action: &str) -> Event {
        let waiting = async {
            loop {
                let event = self.any().await;
                if event.id == container.id && event.action == action {
                    return event;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .unwrap_or_else(|_| panic!("Docker told no `{action}` of {} within 30 s", container.name))
    }

    /// The next event, whatever it is.
    pub async fn any(&mut self) -> Event {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                return Event {
                    action: event["Action"].as_str().unwrap_or_default().to_owned(),
                    id: event["Actor"]["ID"].as_str().unwrap_or_default().to_owned(),
                    time_nano: event["timeNano"].as_i64().unwrap_or_default().into(),
                    attributes: event["Actor"]["Attributes"].clone(),
                };
            }
            let chunk = self.response.chunk().await.unwrap().expect("the engine ended its event stream");
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

/// `80/tcp` → port on the host.
fn reachable_ports(document: &Value) -> Vec<(String, u16)> {
    if document["HostConfig"]["NetworkMode"] == "host" {
        let exposed = document["Config"]["ExposedPorts"].as_object();
        let ports = exposed.into_iter().flatten();
        return ports.map(|(port, _)| (port.clone(), port.split('/').next().unwrap().parse().unwrap())).collect();
    }
    let published = document["NetworkSettings"]["Ports"].as_object();
    let mut ports = Vec::new();
    for (port, bindings) in published.into_iter().flatten() {
        if let Some(host_port) = bindings[0]["HostPort"].as_str() {
            ports.push((port.clone(), host_port.parse().unwrap()));
        }
    }
    ports
}

/// An engine can lock itself up; waiting for it would hide that.
const PATIENCE: Duration = Duration::from_secs(90);

async fn call(http: &reqwest::Client, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
    let mut request = http.request(method.parse().unwrap(), format!("http://docker{path}")).timeout(PATIENCE);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.map_err(|error| format!("{method} {path}: {error:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| format!("{method} {path}: {error:?}"))?;
    // 304: it was started or stopped already.
    if status.is_success() || status.as_u16() == 304 {
        Ok(serde_json::from_str(&text).unwrap_or_default())
    } else {
        Err(format!("{method} {path}: {status} {text}"))
    }
}

async fn list(http: &reqwest::Client, all: bool, label: &str) -> Vec<String> {
    summaries(http, all, label).await.iter().map(|it| it["Id"].as_str().unwrap().to_owned()).collect()
}

async fn summaries(http: &reqwest::Client, all: bool, label: &str) -> Vec<Value> {
    let filters = json!({"label": [label]}).to_string();
    let url = format!("http://docker/containers/json?all={all}");
    let request = http.get(url).query(&[("filters", filters)]).timeout(PATIENCE);
    let containers: Value = request.send().await.unwrap().json().await.unwrap();
    containers.as_array().unwrap().clone()
}

/// The volumes that these containers mount. An anonymous one that a clone has taken over has a name there, and is not removed
/// with it.
fn mounted<'a>(containers: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mounts = containers.flat_map(|it| it["Mounts"].as_array().into_iter().flatten());
    let volumes = mounts.filter(|mount| mount["Type"] == "volume");
    volumes.filter_map(|mount| Some(mount["Name"].as_str()?.to_owned())).collect()
}

async fn remove(http: &reqwest::Client, id: &str) {
    for _ in 0..50 {
        match call(http, "DELETE", &format!("/containers/{id}?force=true&v=true"), None).await {
            // 409: someone else (`--rm`, another cleaner) removes it right now.
            Err(error) if error.contains(" 409 ") => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) if !error.contains(" 404 ") => panic!("Docker: {error}"),
            _ => return,
        }
    }
}

fn owner() -> String {
    std::process::id().to_string()
}

fn image() -> String {
    std::env::var("REMORA_TEST_IMAGE").unwrap_or_else(|_| IMAGE.to_owned())
}

/// A busybox that needs no libraries: the machine's own, or out of the distribution's package.
fn static_busybox() -> Vec<u8> {
    let is_static = |binary: &[u8]| {
        // A dynamic binary names its loader (`/lib64/ld-linux…`, `/lib/ld-musl…`) in its first page.
        binary.starts_with(b"\x7fELF")
            && !binary
                .iter()
                .take(4096)
                .collect::<Vec<_>>()
                .windows(4)
                .any(|it| it.iter().map(|byte| **byte).eq(*b"/ld-"))
    };
    for path in ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"] {
        if let Ok(binary) = std::fs::read(path)
            && is_static(&binary)
        {
            return binary;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let script =
        "apt-get download busybox-static >&2 && dpkg -x busybox-static_*.deb . && cat $(find . -name busybox -type f)";
    let child = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(&folder)
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut binary = Vec::new();
    if let Ok(mut child) = child {
        child.stdout.take().unwrap().read_to_end(&mut binary).unwrap();
        child.wait().unwrap();
    }
    assert!(
        is_static(&binary),
        "the test image needs a static busybox: install one (Debian: busybox-static) as /bin/busybox, or name an image \
         that has /bin/busybox and /bin/sh in REMORA_TEST_IMAGE"
    );
    binary
}

/// A tar archive with `/bin/busybox`, `/bin/sh` and `/tmp`.
fn root_file_system(busybox: &[u8]) -> Vec<u8> {
    fn header(name: &str, kind: u8, mode: u32, size: usize, target: &str) -> [u8; 512] {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}\0{:07o}\0{:07o}\0{size:011o}\0{:011o}\0        ", 0, 0, 0));
        put(157, target);
        put(257, "ustar\x0000");
        block[156] = kind;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
    let mut archive = Vec::new();
    archive.extend_from_slice(&header("bin/", b'5', 0o755, 0, ""));
    archive.extend_from_slice(&header("tmp/", b'5', 0o1777, 0, ""));
    archive.extend_from_slice(&header("bin/sh", b'2', 0o777, 0, "busybox"));
    archive.extend_from_slice(&header("bin/busybox", b'0', 0o755, busybox.len(), ""));
    archive.extend_from_slice(busybox);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}
