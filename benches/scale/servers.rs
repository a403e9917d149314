//! Three Consul servers on the loopback.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::consul::{binary, ports};
use crate::support::{cpu, http_client};

/// The cluster; killed with the value.
pub struct Servers {
    all: Vec<Server>,
    http: reqwest::Client,
}

struct Server {
    name: String,
    http: u16,
    serf: u16,
    raft: u16,
    join: u16,
    child: Option<Child>,
    data: tempfile::TempDir,
}

impl Servers {
    /// With a leader.
    pub async fn start() -> Self {
        let serf: Vec<u16> = (0..3).map(|_| ports::free_port()).collect();
        let mut all = Vec::new();
        for (at, port) in serf.iter().enumerate() {
            let data = tempfile::tempdir().unwrap();
            let (http, raft) = (ports::free_port(), ports::free_port());
            let mut server =
                Server { name: format!("s{at}"), http, serf: *port, raft, join: serf[(at + 1) % 3], child: None, data };
            server.start();
            all.push(server);
        }
        let servers = Self { all, http: http_client(None) };
        servers.elected().await;
        servers
    }

    /// As in `CONSUL_HTTP_ADDR`.
    pub fn addresses(&self) -> String {
        self.all.iter().map(|server| format!("http://127.0.0.1:{}", server.http)).collect::<Vec<_>>().join(",")
    }

    /// The answer of the first server that has one.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let mut last = "no server runs".to_owned();
        for server in self.all.iter().filter(|server| server.child.is_some()) {
            match self.ask(server, path).await {
                Ok(value) => return Ok(value),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Waits for a leader that answers.
    pub async fn elected(&self) {
        let begun = Instant::now();
        while self.get("/v1/catalog/nodes?consistent").await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the leader; which one it was.
    pub async fn kill_leader(&mut self) -> usize {
        let leader = self.get("/v1/status/leader").await.unwrap();
        let port = leader.as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        let at = self.all.iter().position(|server| server.raft.to_string() == port).unwrap();
        self.all[at].kill();
        at
    }

    /// Starts this one again.
    pub fn start_again(&mut self, at: usize) {
        self.all[at].start();
    }

    /// How many entries the cluster's log has: each write is one.
    pub async fn log_index(&self) -> u64 {
        let facts = self.get("/v1/agent/self").await.unwrap();
        facts["Stats"]["raft"]["last_log_index"].as_str().unwrap().parse().unwrap()
    }

    /// Blocking queries that the servers hold, as they count them themselves: 0 also of one where none has begun or ended in
    /// the last ten seconds.
    pub async fn held(&self) -> f64 {
        let mut held = 0.0;
        for server in self.all.iter().filter(|server| server.child.is_some()) {
            let metrics = self.ask(server, "/v1/agent/metrics").await.unwrap();
            for gauge in metrics["Gauges"].as_array().unwrap() {
                if gauge["Name"].as_str().is_some_and(|name| name.ends_with("rpc.queries_blocking")) {
                    held += gauge["Value"].as_f64().unwrap();
                }
            }
        }
        held
    }

    /// CPU time so far of those that run.
    pub fn cpu(&self) -> Duration {
        self.all.iter().filter_map(|server| server.child.as_ref()).map(|child| cpu(child.id())).sum()
    }

    async fn ask(&self, server: &Server, path: &str) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:{}{path}", server.http);
        let sent = self.http.get(url).timeout(Duration::from_secs(5)).send().await;
        let answer = sent.and_then(reqwest::Response::error_for_status).map_err(|it| it.to_string())?;
        let text = answer.text().await.map_err(|it| it.to_string())?;
        serde_json::from_str(&text).map_err(|it| it.to_string())
    }
}

impl Server {
    fn start(&mut self) {
        let Self { http, serf, raft, .. } = self;
        let ports = format!(
            "ports {{ http = {http} https = -1 grpc = -1 dns = -1 serf_lan = {serf} serf_wan = -1 server = {raft} }}"
        );
        let child = Command::new(binary())
            .args(["agent", "-server", "-bootstrap-expect", "3", "-node", &self.name, "-bind", "127.0.0.1"])
            .args(["-client", "127.0.0.1", "-retry-interval", "1s", "-data-dir"])
            .arg(self.data.path())
            .args(["-retry-join", &format!("127.0.0.1:{}", self.join), "-hcl", &ports])
            // All of them come from one address, which Consul lets have 200 connections otherwise.
            .args(["-hcl", "disable_update_check = true limits { http_max_conns_per_client = 10000 }"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
