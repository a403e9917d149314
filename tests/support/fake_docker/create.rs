//! Containers made of a body, and the documents that are made of containers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use arcstr::ArcStr;
use litemap::LiteMap;
use remora::docker::{
    Binding, Container, ContainerId, DockerError, Document, EventTime, HealthStatus, Lens, NetworkMode, Port, Protocol,
    State as Status,
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::shared::Published;
use super::{Inside, Shared, Spec, Wish, has_process, stamp};

const CREATE: &str = "POST /containers/create";

fn refuse<T>(status: u16, message: String) -> Result<T, DockerError> {
    Err(DockerError::Refused { call: CREATE, status, message })
}

impl Spec {
    /// The body of its create call.
    pub fn body(&self) -> Value {
        let exposed: Map<String, Value> = self.published.keys().map(|port| (port.to_string(), json!({}))).collect();
        let bound = self.published.iter().map(|(port, &host_port)| {
            let host_port = if host_port == 0 { String::new() } else { host_port.to_string() };
            (port.to_string(), json!([{"HostIp": "", "HostPort": host_port}]))
        });
        let bound: Map<String, Value> = bound.collect();
        let mut body = json!({
            "Image": self.image,
            "Labels": self.labels,
            "ExposedPorts": exposed,
            "StopTimeout": self.stop_timeout.as_secs(),
            "HostConfig": {
                "NetworkMode": self.network_mode,
                "PortBindings": bound,
                "AutoRemove": self.auto_remove,
                "RestartPolicy": {"Name": self.restart_policy, "MaximumRetryCount": 0},
            },
        });
        if self.health {
            body["Healthcheck"] = json!({"Test": ["CMD", "/probe"]});
        }
        body
    }
}

impl Shared {
    pub(super) fn conflict(&self, call: &'static str, name: &str) -> Result<(), DockerError> {
        let Some(other) = self.containers.values().find(|inside| inside.facts.name == name) else { return Ok(()) };
        let id = other.facts.id.as_str();
        let message = format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        );
        Err(DockerError::Refused { call, status: 409, message })
    }

    pub(super) fn create(&mut self, name: &str, body: &Value) -> Result<ContainerId, DockerError> {
        let reference = body["Image"].as_str().unwrap_or_default();
        let Some(image) = self.image(reference).cloned() else {
            return refuse(404, format!("No such image: {reference}"));
        };
        let host = &body["HostConfig"];
        for mount in host["Mounts"].as_array().into_iter().flatten() {
            let source = mount["Source"].as_str().unwrap_or_default();
            if mount["Type"] == "bind" && self.missing_paths.contains(source) {
                let reason = format!("bind source path does not exist: {source}");
                return refuse(400, format!("invalid mount config for type \"bind\": {reason}"));
            }
        }
        let policy = host["RestartPolicy"]["Name"].as_str().unwrap_or_default();
        if host["AutoRemove"] == true && !matches!(policy, "" | "no") {
            return refuse(400, "can't create 'AutoRemove' container with restart policy".to_owned());
        }
        let asked = body["NetworkingConfig"]["EndpointsConfig"].as_object().cloned().unwrap_or_default();
        if asked.len() > 1 {
            let names: Vec<&String> = asked.keys().collect();
            return refuse(400, format!("Container cannot be connected to network endpoints: {names:?}"));
        }
        self.conflict(CREATE, name)?;

        let id = self.hexadecimal();
        let config = merged(&id, body, &image["Config"]);
        let mut host = host.as_object().cloned().unwrap_or_default();
        for (key, value) in [
            ("NetworkMode", json!("default")),
            ("RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
            ("AutoRemove", json!(false)),
            ("PortBindings", json!({})),
            ("Binds", Value::Null),
            ("VolumesFrom", Value::Null),
            ("Links", Value::Null),
            ("PublishAllPorts", json!(false)),
            ("PidMode", json!("")),
            ("IpcMode", json!("private")),
            ("UTSMode", json!("")),
            ("MaskedPaths", json!(["/proc/kcore"])),
        ] {
            host.entry(key).or_insert(value);
        }
        // The daemon keeps the id of the container that was named.
        for key in ["NetworkMode", "PidMode", "IpcMode"] {
            let owner = host[key].as_str().and_then(|mode| mode.strip_prefix("container:"));
            if let Some(owner) = owner.and_then(|owner| self.find(owner)) {
                host[key] = format!("container:{}", owner.facts.id.as_str()).into();
            }
        }
        let mode = host["NetworkMode"].as_str().unwrap_or_default().to_owned();
        let mut endpoints: BTreeMap<String, Wish> =
            asked.into_iter().map(|(network, config)| (network, Wish { config, network_id: None })).collect();
        if endpoints.is_empty() && !mode.starts_with("container:") {
            let network = if matches!(mode.as_str(), "" | "default") { "bridge".to_owned() } else { mode };
            endpoints.insert(network, Wish::default());
        }
        let mounts = self.mounts(&host, &config);
        let host_config = Value::Object(host);
        let mut inside = Inside {
            facts: blank(),
            touched: Instant::now(),
            published: published(&config, &host_config),
            config,
            host_config,
            endpoints,
            mounts,
            run: 0,
            started: Instant::now(),
            wait: Duration::ZERO,
            cancelled: false,
            log: String::new(),
            changed: false,
        };
        inside.facts.id = ContainerId::new(id);
        inside.facts.name = name.into();
        inside.facts.image_id = image["Id"].as_str().unwrap_or_default().into();
        inside.facts.created = Some(EventTime(self.stamp()));
        // The snapshot is read as it would be from a real engine's document, with every label.
        let labels: BTreeSet<String> =
            inside.config["Labels"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        let document = self.document(&inside);
        inside.facts = document.container(&Lens { labels, tags: None }).expect("a document that can be read");
        let id = inside.facts.id.clone();
        self.containers.insert(id.clone(), inside);
        Ok(id)
    }

    fn mounts(&mut self, host: &Map<String, Value>, config: &Value) -> Vec<Value> {
        let mut mounts = Vec::new();
        for bind in host["Binds"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mut parts = bind.split(':');
            let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let writable = !parts.next().unwrap_or_default().split(',').any(|option| option == "ro");
            mounts.push(self.mount(source, target, writable));
        }
        for mount in host.get("Mounts").and_then(Value::as_array).into_iter().flatten() {
            let source = mount["Source"].as_str().unwrap_or_default();
            let target = mount["Target"].as_str().unwrap_or_default();
            mounts.push(self.mount(source, target, mount["ReadOnly"] != true));
        }
        for target in config["Volumes"].as_object().into_iter().flatten().map(|(target, _)| target) {
            if mounts.iter().all(|mount| mount["Destination"] != **target) {
                let name = self.hexadecimal();
                mounts.push(self.mount(&name, target, true));
            }
        }
        mounts
    }

    fn mount(&mut self, source: &str, target: &str, writable: bool) -> Value {
        if source.starts_with('/') {
            return json!({"Type": "bind", "Source": source, "Destination": target, "Mode": "", "RW": writable,
                "Propagation": "rprivate"});
        }
        self.volumes.insert(source.to_owned());
        let path = format!("/var/lib/docker/volumes/{source}/_data");
        json!({"Type": "volume", "Name": source, "Source": path, "Destination": target, "Driver": "local", "Mode": "z",
            "RW": writable, "Propagation": ""})
    }

    /// The whole inspect document.
    pub(super) fn document(&self, inside: &Inside) -> Document {
        let facts = &inside.facts;
        let (health, state) = match self.look(facts.id.as_str()) {
            Ok(seen) => (seen.health, seen.state),
            Err(_) => (None, facts.state.clone()),
        };
        let word = match &state {
            Status::Unknown(word) => word.clone(),
            known => format!("{known:?}").to_lowercase().into(),
        };
        let mut state = json!({
            "Status": word,
            "Running": has_process(&facts.state),
            "Paused": facts.state == Status::Paused,
            "Restarting": facts.state == Status::Restarting,
            "OOMKilled": facts.oom_killed,
            "Dead": facts.state == Status::Dead,
            "Pid": if matches!(facts.state, Status::Running | Status::Paused) { 4_242 } else { 0 },
            "ExitCode": facts.exit_code,
            "Error": facts.life.error,
            "StartedAt": stamp(facts.started_at),
            "FinishedAt": stamp(facts.finished_at),
        });
        if let Some(health) = health {
            let status = match health.status {
                HealthStatus::Starting => "starting",
                HealthStatus::Healthy => "healthy",
                HealthStatus::Unhealthy => "unhealthy",
                HealthStatus::Unknown => "queasy",
            };
            let probe = |code| json!({"Start": stamp(facts.started_at), "End": stamp(facts.started_at), "ExitCode": code, "Output": health.output});
            let log: Vec<Value> = health.exit_code.map(probe).into_iter().collect();
            state["Health"] = json!({"Status": status, "FailingStreak": health.failing_streak, "Log": log});
        }
        let networks: Map<String, Value> =
            inside.endpoints.iter().map(|(name, wish)| (name.clone(), endpoint(facts, name, wish))).collect();
        let bound = |bindings: &[Binding]| -> Value {
            let one = |it: &Binding| json!({"HostIp": it.host_ip.to_string(), "HostPort": it.host_port.to_string()});
            bindings.iter().map(one).collect()
        };
        let ports: Map<String, Value> =
            facts.bindings.iter().map(|(port, bindings)| (port.to_string(), bound(bindings))).collect();
        Document::new(json!({
            "Id": facts.id.as_str(),
            "Created": stamp(facts.created),
            "Path": inside.config["Cmd"][0],
            "Args": [],
            "State": state,
            "Image": facts.image_id,
            "Name": format!("/{}", facts.name),
            "RestartCount": facts.restart_count,
            "Driver": "overlay2",
            "Platform": "linux",
            "HostConfig": inside.host_config,
            "Mounts": inside.mounts,
            "Config": inside.config,
            "NetworkSettings": {"Ports": ports, "Networks": networks},
        }))
    }
}

impl Wish {
    pub(super) fn fixed_address(&self) -> Option<Ipv4Addr> {
        self.config["IPAMConfig"]["IPv4Address"].as_str()?.parse().ok()
    }
}

/// A container's place in a network as inspect shows it: what was asked for, and what came of it.
fn endpoint(facts: &Container, name: &str, wish: &Wish) -> Value {
    let address = facts.networks.get(name).and_then(|endpoint| endpoint.ipv4);
    let connected = address.is_some();
    let mut aliases: Vec<Value> = wish.config["Aliases"].as_array().cloned().unwrap_or_default();
    let user_defined = !matches!(name, "bridge" | "host" | "none");
    if user_defined {
        aliases.push(facts.id.short().into());
    }
    json!({
        "IPAMConfig": wish.config["IPAMConfig"],
        "Links": wish.config["Links"],
        "Aliases": if user_defined { Value::Array(aliases) } else { Value::Null },
        "DriverOpts": wish.config["DriverOpts"],
        "MacAddress": if connected { "02:42:ac:11:00:02" } else { "" },
        "NetworkID": wish.network_id.as_deref().unwrap_or_default(),
        "EndpointID": if connected { facts.id.as_str() } else { "" },
        "Gateway": if connected { "172.17.0.1" } else { "" },
        "IPAddress": address.map(|address| address.to_string()).unwrap_or_default(),
        "IPPrefixLen": if connected { 16 } else { 0 },
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
    })
}

/// A container's configuration: what was asked for, with what its image says where nothing was.
fn merged(id: &str, body: &Value, image: &Value) -> Value {
    let mut config = body.as_object().cloned().unwrap_or_default();
    let host = config.remove("HostConfig").unwrap_or_default();
    config.remove("NetworkingConfig");
    let has = |value: Option<&Value>| match value {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    };
    // An image's command goes with its entrypoint only.
    let own_entrypoint = has(config.get("Entrypoint"));
    for key in ["Entrypoint", "User", "WorkingDir", "StopSignal", "Healthcheck"] {
        if !has(config.get(key)) && has(image.get(key)) {
            config.insert(key.to_owned(), image[key].clone());
        }
    }
    if !has(config.get("Cmd")) && !own_entrypoint && has(image.get("Cmd")) {
        config.insert("Cmd".to_owned(), image["Cmd"].clone());
    }
    for key in ["Labels", "ExposedPorts", "Volumes"] {
        let mut all = image[key].as_object().cloned().unwrap_or_default();
        all.extend(config.get(key).and_then(Value::as_object).cloned().unwrap_or_default());
        let none = all.is_empty() && key != "Labels";
        config.insert(key.to_owned(), if none { Value::Null } else { Value::Object(all) });
    }
    let name = |entry: &Value| entry.as_str().and_then(|entry| entry.split('=').next()).map(ToOwned::to_owned);
    let mut env = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let own: BTreeSet<Option<String>> = env.iter().map(name).collect();
    env.extend(image["Env"].as_array().into_iter().flatten().filter(|entry| !own.contains(&name(entry))).cloned());
    config.insert("Env".to_owned(), Value::Array(env));
    let mode = host["NetworkMode"].as_str().unwrap_or_default();
    if !has(config.get("Hostname")) && !mode.starts_with("container:") && host["UTSMode"] != "host" {
        let hostname = if mode == "host" { "n1" } else { &id[..12] };
        config.insert("Hostname".to_owned(), hostname.into());
    }
    for (key, value) in [
        ("Hostname", json!("")),
        ("Domainname", json!("")),
        ("User", json!("")),
        ("AttachStdin", json!(false)),
        ("AttachStdout", json!(false)),
        ("AttachStderr", json!(false)),
        ("Tty", json!(false)),
        ("OpenStdin", json!(false)),
        ("StdinOnce", json!(false)),
        ("Cmd", Value::Null),
        ("Entrypoint", Value::Null),
        ("WorkingDir", json!("")),
        ("OnBuild", Value::Null),
    ] {
        config.entry(key).or_insert(value);
    }
    Value::Object(config)
}

fn port(text: &str) -> Port {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    Port { number: number.parse().unwrap(), protocol }
}

/// Exposed ports that are published, with the host's port; 0 is another one at every start.
fn published(config: &Value, host: &Value) -> Published {
    let exposed = config["ExposedPorts"].as_object().into_iter().flatten();
    exposed
        .filter_map(|(inner, _)| {
            let bindings = host["PortBindings"][inner].as_array();
            let asked = bindings.and_then(|bindings| bindings.first()).map(|binding| &binding["HostPort"]);
            match asked {
                Some(asked) => Some((port(inner), asked.as_str().unwrap_or_default().parse().unwrap_or(0))),
                None if host["PublishAllPorts"] == true => Some((port(inner), 0)),
                None => None,
            }
        })
        .collect()
}

/// What its document is about to be read into.
fn blank() -> Container {
    Container {
        id: ContainerId::new(String::new()),
        name: ArcStr::new(),
        image: ArcStr::new(),
        image_id: ArcStr::new(),
        created: None,
        started_at: None,
        finished_at: None,
        state: Status::Created,
        exit_code: 0,
        oom_killed: false,
        restart_count: 0,
        health: None,
        labels: LiteMap::new(),
        service_env: LiteMap::new(),
        network_mode: NetworkMode::Bridge,
        networks: LiteMap::new(),
        exposed: LiteMap::new(),
        bindings: LiteMap::new(),
        stop_signal: remora::docker::Signal::TERM,
        stop_timeout: Duration::ZERO,
        life: remora::docker::Life::default(),
        rendered_tags: None,
    }
}
