//! A real Consul agent of a test's own, on free ports of the loopback, with nothing on disk.
//!
//! The binary is the one of `CONSUL_BIN`, else the one on `PATH`, else the one that `docker/consul.sh` has fetched into
//! `target/consul/`. Without any a test fails: a suite that skips what it cannot run proves nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]
#![allow(dead_code, reason = "each test binary uses its own part of this harness")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remora::config::{self, ConsulAddress, ConsulTls, Secret, Token};
use remora::consul::{Client, tls};
use serde_json::Value;

#[path = "ports.rs"]
pub mod ports;

/// The token that may do everything on an agent with [`Options::acl`].
pub const MANAGEMENT_TOKEN: &str = "11111111-2222-3333-4444-555555555555";

/// How an agent is to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Default-deny ACLs, with [`MANAGEMENT_TOKEN`].
    pub acl: bool,
    /// Further settings, in Consul's HCL.
    pub hcl: String,
}

/// A running agent (server and client in one, `-dev`). Dropping it kills it.
pub struct Consul {
    options: Options,
    ports: Ports,
    child: Option<Child>,
    http: reqwest::Client,
    log: tempfile::TempDir,
}

#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    serf: u16,
    server: u16,
}

impl Consul {
    /// Its node name.
    pub const NODE: &str = "test-node";

    /// An agent that has a leader and has registered its own node.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// The same with settings.
    pub async fn start_with(options: Options) -> Self {
        tls::install_provider();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().expect("a plain HTTP client");
        let log = tempfile::tempdir().expect("a folder for the log");
        let mut consul = Self { options, ports: Ports { http: 0, serf: 0, server: 0 }, child: None, http, log };
        // A port that was free a moment ago may be taken by another test by now: then try others.
        for _ in 0..5 {
            consul.ports = Ports::free();
            if consul.try_run().await {
                return consul;
            }
        }
        panic!("no Consul came up; the last one said:\n{}", consul.log());
    }

    /// Starts a stopped (or running) agent again, on the same ports and with nothing left of what it knew.
    pub async fn restart(&mut self) {
        self.kill();
        assert!(self.try_run().await, "Consul did not come up again:\n{}", self.log());
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Freezes it, or ends that: its connections stay open, and nothing is answered.
    pub fn freeze(&self, frozen: bool) {
        let pid = self.child.as_ref().expect("Consul runs").id();
        let signal = if frozen { "STOP" } else { "CONT" };
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().expect("a shell");
        assert!(status.success(), "kill -{signal} {pid}: {status}");
        // Each of its threads stops when it is its turn: one of them may still answer meanwhile.
        let began = std::time::Instant::now();
        while frozen && !is_stopped(pid) {
            assert!(began.elapsed() < Duration::from_secs(5), "Consul does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http)
    }

    /// Its node name.
    #[allow(clippy::unused_self, reason = "a property of the agent to those who use it")]
    pub const fn node(&self) -> &'static str {
        "test-node"
    }

    /// What a configuration with the right address, and the management token if ACLs are on, would be.
    pub fn config(&self) -> config::Consul {
        config::Consul {
            address: ConsulAddress::Url {
                tls: false,
                host: "127.0.0.1".to_owned(),
                port: self.ports.http,
                prefix: String::new(),
            },
            others: Vec::new(),
            token: if self.options.acl { Token::Value(Secret::new(MANAGEMENT_TOKEN)) } else { Token::None },
            auth: None,
            tls: ConsulTls::default(),
            namespace: None,
            partition: None,
        }
    }

    /// A client of ours to it.
    pub fn client(&self) -> Client {
        Client::new(&self.config()).expect("a good configuration")
    }

    /// A client of ours with another token.
    pub fn client_with(&self, token: Token) -> Client {
        Client::new(&config::Consul { token, ..self.config() }).expect("a good configuration")
    }

    /// A request past our own client, as an operator or another program would make it. `path` begins with `/v1/`.
    pub async fn raw(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.request(method, path, body).await.expect("Consul answers")
    }

    /// The answer of a GET as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.raw("GET", path, "").await;
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {path}: {error}: {body}"))
    }

    /// A PUT that must succeed.
    pub async fn put(&self, path: &str, body: &str) {
        let (status, answer) = self.raw("PUT", path, body).await;
        assert_eq!(status, 200, "PUT {path}: {answer}");
    }

    /// How often anything was written to the cluster so far.
    pub async fn raft_index(&self) -> u64 {
        let facts = self.get("/v1/agent/self").await;
        let index = facts["Stats"]["raft"]["applied_index"].as_str().expect("a server has it");
        index.parse().expect("a number")
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path().join("log")).unwrap_or_default()
    }

    async fn request(&self, method: &str, path: &str, body: &str) -> reqwest::Result<(u16, String)> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let response = self
            .http
            .request(method, format!("{}{path}", self.url()))
            .header("X-Consul-Token", if self.options.acl { MANAGEMENT_TOKEN } else { "" })
            .timeout(Duration::from_secs(10))
            .body(body.to_owned())
            .send()
            .await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// False when the agent ended or did not become ready.
    async fn try_run(&mut self) -> bool {
        let log = std::fs::File::create(self.log.path().join("log")).expect("a log file");
        let Ports { http, serf, server } = self.ports;
        // A version knows only its own words, and from 1.14 on each server would have the same port for gRPC with TLS.
        let grpc_tls = if version() >= (1, 14) { "grpc_tls = -1" } else { "" };
        let master = if version() >= (1, 11) { "initial_management" } else { "master" };
        let ports = format!(
            "ports {{ http = {http} https = -1 grpc = -1 {grpc_tls} dns = -1 serf_lan = {serf} serf_wan = -1 server = {server} }}"
        );
        let acl = format!(
            r#"acl {{ enabled = true default_policy = "deny" tokens {{ {master} = "{MANAGEMENT_TOKEN}" agent = "{MANAGEMENT_TOKEN}" }} }}"#
        );
        let mut command = Command::new(binary());
        command
            .args(["agent", "-dev", "-node", Self::NODE, "-bind", "127.0.0.1", "-client", "127.0.0.1"])
            .args(["-hcl", &ports, "-hcl", "disable_update_check = true"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file twice"))
            .stderr(log);
        if self.options.acl {
            command.args(["-hcl", &acl]);
        }
        if !self.options.hcl.is_empty() {
            command.args(["-hcl", &self.options.hcl]);
        }
        self.child = Some(command.spawn().expect("Consul can be started"));
        let limit = Instant::now() + Duration::from_secs(30);
        while Instant::now() < limit {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() {
                self.child = None;
                return false;
            }
            let node = format!("/v1/health/node/{}", Self::NODE);
            if matches!(self.request("GET", &node, "").await, Ok((200, body)) if body.contains("serfHealth")) {
                // Who answers may be another test's, on a port that both thought to be free: ours is about to end then.
                let own = self.get("/v1/agent/self").await["DebugConfig"]["SerfPortLAN"] == serf;
                if !own {
                    self.kill();
                }
                return own;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.kill();
        false
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ports {
    fn free() -> Self {
        Self { http: ports::free_port(), serf: ports::free_port(), server: ports::free_port() }
    }
}

/// Where the Consul binary is.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CONSUL_BIN").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "CONSUL_BIN={} is no file: it should be the path of a Consul binary", path.display());
        return path;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let own = [PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"), target].map(|target| target.join("consul"));
    std::env::split_paths(&path).chain(own).map(|folder| folder.join("consul")).find(|file| file.is_file()).unwrap_or_else(
        || {
            panic!(
                "these tests need a Consul binary: set CONSUL_BIN to one, put `consul` on PATH, or let docker/consul.sh \
                 fetch one into target/consul/"
            )
        },
    )
}

/// Its version (`Consul v1.8.7+dfsg1…`), major and minor.
fn version() -> (u32, u32) {
    static VERSION: std::sync::LazyLock<(u32, u32)> = std::sync::LazyLock::new(|| {
        let output = Command::new(binary()).arg("version").output().expect("Consul tells its version");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers = text.trim_start_matches("Consul v").split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            _ => panic!("no version of Consul: {text:?}"),
        }
    });
    *VERSION
}

/// Whether every thread of a process is stopped.
fn is_stopped(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process that lives");
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // `tid (name) state …`; the name may hold anything.
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}
