//! An engine that only says that it runs containers: as much of Docker's API as publishing needs, over a unix socket. It costs what a
//! lookup costs, so that ten thousand containers can be had.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::docker::RUN_LABEL;

/// The value of the label by which the agent knows its containers.
pub const RUN: &str = "scale";

/// See the module's header; ends with the value.
pub struct Engine {
    sim: Arc<Mutex<Sim>>,
    socket: PathBuf,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

#[derive(Default)]
struct Sim {
    running: BTreeMap<String, Sample>,
    name: String,
    made: usize,
    requests: usize,
    listeners: Vec<mpsc::UnboundedSender<String>>,
}

struct Sample {
    number: usize,
    started_at: String,
}

impl Engine {
    /// With so many containers that run.
    pub fn start(count: usize) -> Self {
        Self::named("scale", count)
    }

    /// The same on another host.
    pub fn named(name: &str, count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let sim = Arc::new(Mutex::new(Sim { name: name.to_owned(), ..Sim::default() }));
        for _ in 0..count {
            lock(&sim).run();
        }
        let served = Arc::clone(&sim);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sim = Arc::clone(&served);
                // A client that goes away in the middle is its own affair.
                tokio::spawn(async move { drop(serve(stream, &sim).await) });
            }
        });
        Self { sim, socket, task, _folder: folder }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The ids of the containers that run.
    pub fn running(&self) -> Vec<String> {
        lock(&self.sim).running.keys().cloned().collect()
    }

    /// How many requests came since the last call.
    pub fn requests(&self) -> usize {
        std::mem::take(&mut lock(&self.sim).requests)
    }

    /// The oldest container is killed, and another one starts. How many events that is.
    pub fn replace_one(&self) -> usize {
        let mut sim = lock(&self.sim);
        let Some((id, gone)) = sim.running.pop_first() else { return 0 };
        let name = name(gone.number);
        sim.tell(&id, "kill", &json!({"name": name, "signal": "9"}));
        sim.tell(&id, "die", &json!({"name": name, "exitCode": "137"}));
        sim.tell(&id, "destroy", &json!({"name": name}));
        sim.run();
        4
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(sim: &Mutex<Sim>) -> MutexGuard<'_, Sim> {
    sim.lock().unwrap()
}

/// The name of a service.
pub fn service(number: usize) -> String {
    format!("svc{number}")
}

fn name(number: usize) -> String {
    format!("web{number}")
}

impl Sim {
    fn run(&mut self) {
        let number = self.made;
        self.made += 1;
        // Ids grow, and are others on another host.
        let host = self.name.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let id = format!("{number:08x}{host:016x}{:040x}", number.wrapping_mul(0x9e37_79b9));
        let started_at = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
        self.running.insert(id.clone(), Sample { number, started_at });
        self.tell(&id, "start", &json!({"name": name(number)}));
    }

    fn tell(&mut self, id: &str, action: &str, attributes: &Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let event = json!({
            "Type": "container", "Action": action, "Actor": {"ID": id, "Attributes": attributes}, "scope": "local",
            "time": now.as_secs(), "timeNano": u64::try_from(now.as_nanos()).unwrap(),
        });
        let line = format!("{event}\n");
        self.listeners.retain(|listener| listener.send(line.clone()).is_ok());
    }

    fn answer(&self, path: &str) -> Option<String> {
        let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
        Some(match path.split('?').next().unwrap_or_default() {
            "/_ping" => "OK".to_owned(),
            "/info" => {
                json!({"ID": format!("SCAL:{}", self.name), "Name": self.name, "ServerVersion": "20.10.24", "SystemTime": now})
                    .to_string()
            }
            "/version" => json!({"ApiVersion": "1.41", "Version": "20.10.24"}).to_string(),
            "/containers/json" => {
                let lines: Vec<Value> = self.running.iter().map(|(id, sample)| sample.line(id)).collect();
                Value::from(lines).to_string()
            }
            path => {
                let id = path.strip_prefix("/containers/")?.strip_suffix("/json")?;
                self.running.get(id)?.document(id).to_string()
            }
        })
    }
}

impl Sample {
    fn host_port(&self) -> usize {
        20_000 + self.number % 40_000
    }

    fn labels(&self) -> Value {
        json!({RUN_LABEL: RUN, "SERVICE_NAME": service(self.number % 50), "SERVICE_TAGS": "a,b"})
    }

    fn line(&self, id: &str) -> Value {
        json!({
            "Id": id, "Names": [format!("/{}", name(self.number))], "Image": "web:1", "ImageID": "sha256:1", "State": "running",
            "Status": "Up 5 minutes", "Labels": self.labels(),
            "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": self.host_port(), "Type": "tcp"}],
            "HostConfig": {"NetworkMode": "default"},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
        })
    }

    fn document(&self, id: &str) -> Value {
        let port = self.host_port().to_string();
        json!({
            "Id": id, "Name": format!("/{}", name(self.number)), "Created": self.started_at, "Image": "sha256:1",
            "RestartCount": 0,
            "State": {"Status": "running", "Running": true, "Pid": 1, "ExitCode": 0, "Error": "", "OOMKilled": false,
                "StartedAt": self.started_at, "FinishedAt": "0001-01-01T00:00:00Z"},
            "Config": {"Image": "web:1", "Labels": self.labels(), "Env": ["PATH=/bin"], "ExposedPorts": {"80/tcp": {}},
                "Cmd": ["sleep", "3600"]},
            "HostConfig": {"NetworkMode": "default", "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": ""}]}},
            "NetworkSettings": {
                "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": port}]},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}},
            },
        })
    }
}

/// One connection: requests without bodies, one after the other.
async fn serve(stream: UnixStream, sim: &Mutex<Sim>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while stream.read_line(&mut header).await? > 0 && header != "\r\n" {
            header.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        // With the version in front or without.
        let path = path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
        lock(sim).requests += 1;
        if path.starts_with("/events") {
            return stream_events(stream, sim).await;
        }
        let answer = lock(sim).answer(path);
        let (status, body) =
            answer.map_or(("404 Not Found", "{\"message\":\"no such container\"}".to_owned()), |it| ("200 OK", it));
        let mut text = String::with_capacity(body.len() + 128);
        write!(
            text,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nApi-Version: 1.41\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        stream.write_all(text.as_bytes()).await?;
    }
}

async fn stream_events(mut stream: BufReader<UnixStream>, sim: &Mutex<Sim>) -> std::io::Result<()> {
    let (listener, mut events) = mpsc::unbounded_channel();
    lock(sim).listeners.push(listener);
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    while let Some(line) = events.recv().await {
        stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await?;
    }
    Ok(())
}
