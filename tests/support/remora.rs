//! The program under test as a process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::netns::Namespace;
use super::{eventually, free_port, http_client, signal};

/// The address that it advertises in the tests: of a range that is reserved for documentation, so that nothing else in a
/// catalog can have it.
pub const ADDRESS: &str = "198.51.100.7";

/// A Remora process; killed with the value.
pub struct Remora {
    program: PathBuf,
    /// What is put before the program: how to enter another network namespace.
    enter: Vec<String>,
    environment: BTreeMap<String, String>,
    http: SocketAddr,
    child: Option<Child>,
    pid: u32,
    log: Arc<Mutex<Vec<String>>>,
}

impl Remora {
    /// A Remora that is not running yet. `docker` is the socket, `consul` a URL, `run` the value of the label that its
    /// containers carry, `node` the first part of its service ids.
    pub fn new(docker: &Path, consul: &str, run: &str, node: &str) -> Self {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let environment = [
            ("DOCKER_HOST", format!("unix://{}", docker.display())),
            ("CONSUL_HTTP_ADDR", consul.to_owned()),
            ("REMORA_NODE", node.to_owned()),
            ("REMORA_ADDRESS", ADDRESS.to_owned()),
            ("REMORA_HTTP_ADDR", http.to_string()),
            ("REMORA_INCLUDE", format!("label:{}={run}", super::docker::RUN_LABEL)),
            ("REMORA_LOG", "remora=debug,info".to_owned()),
            // What these tests kill stays dead, however long they look at it. Those of healing switch it on.
            ("REMORA_HEAL", "off".to_owned()),
        ];
        Self {
            program: program(),
            enter: Vec::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
            http,
            child: None,
            pid: 0,
            log: Arc::default(),
        }
    }

    /// Another one that is just the same, but for where its HTTP server listens; not running yet.
    pub fn another(&self) -> Self {
        let http = SocketAddr::new(self.http.ip(), free_port());
        let mut another = Self {
            program: self.program.clone(),
            enter: self.enter.clone(),
            environment: self.environment.clone(),
            http,
            child: None,
            pid: 0,
            log: Arc::default(),
        };
        another.set("REMORA_HTTP_ADDR", &http.to_string());
        another
    }

    /// Lets it run on another host, which has this address.
    pub fn live_on(&mut self, host: &Namespace, address: Ipv4Addr) {
        self.enter = host.enter().into();
        self.http.set_ip(address.into());
        self.set("REMORA_HTTP_ADDR", &self.http.to_string());
        self.set("REMORA_ADDRESS", &address.to_string());
    }

    /// Sets a variable for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Does not set it any more.
    pub fn unset(&mut self, name: &str) {
        self.environment.remove(name);
    }

    /// All of its variables; [`Remora::set_all`] puts them back.
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.environment.clone()
    }

    /// Exactly these variables, for the next start.
    pub fn set_all(&mut self, environment: BTreeMap<String, String>) {
        self.environment = environment;
    }

    /// The next start is of this program: another version.
    pub fn run_as(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Starts it.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "Remora runs already");
        let program = self.program.display().to_string();
        let mut words = self.enter.iter().chain([&program]);
        let mut child = Command::new(words.next().expect("at least the program"))
            .args(words)
            // Nothing of the machine's own CONSUL_* and DOCKER_* variables.
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.program.display()));
        self.pid = child.id().unwrap();
        collect(child.stdout.take().unwrap(), &self.log);
        collect(child.stderr.take().unwrap(), &self.log);
        self.child = Some(child);
    }

    /// Waits until `/readyz` says yes: the first complete look at Docker is in Consul.
    pub async fn ready(&mut self) {
        self.ready_within(Duration::from_secs(20)).await;
    }

    /// [`Remora::ready`] with another deadline.
    pub async fn ready_within(&mut self, deadline: Duration) {
        let client = http_client(None);
        let url = self.http("/readyz");
        let child = self.child.as_mut().expect("Remora was started");
        eventually("a ready Remora", deadline, async || {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(format!("it ended with {status}"));
            }
            let answer = client.get(&url).send().await.map_err(|error| error.to_string())?;
            let status = answer.status();
            if status.is_success() {
                Ok(())
            } else {
                Err(format!("{status} {}", answer.text().await.unwrap_or_default()))
            }
        })
        .await;
    }

    /// Status and body of a GET at its own HTTP server.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = http_client(None).get(self.http(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Another process of the same program, with the same variables: a command. Its exit code, and what it says.
    pub async fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().envs(&self.environment).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("it ends").unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), told.concat())
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        signal(self.pid, "TERM");
        let mut child = self.child.take().expect("Remora runs");
        tokio::time::timeout(Duration::from_secs(12), child.wait())
            .await
            .expect("Remora ends 10 s after SIGTERM")
            .unwrap()
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.child.take().expect("Remora runs").kill().await.unwrap();
    }

    /// The process id; the last one when it has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Fails the test unless the process that was started runs on.
    pub fn assert_never_restarted(&mut self) {
        let child = self.child.as_mut().expect("Remora was started");
        if let Some(status) = child.try_wait().unwrap() {
            panic!("Remora ended by itself with {status}");
        }
        assert_eq!(child.id(), Some(self.pid));
    }

    /// What it has written so far, by line.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Where its own HTTP server listens.
    pub fn http_port(&self) -> u16 {
        self.http.port()
    }

    /// Resident memory (`VmRSS`), in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process that runs has memory");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// CPU time so far, of all threads that live.
    pub fn cpu(&self) -> Duration {
        super::cpu(self.pid)
    }

    fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }
}

impl Drop for Remora {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            let file = std::env::temp_dir().join(format!("remora-test-{}.log", self.pid));
            let kept = std::fs::write(&file, log.join("\n")).is_ok();
            eprintln!(
                "--- the end of Remora's log{}",
                if kept { format!("; all of it: {}", file.display()) } else { String::new() }
            );
            for line in &log[log.len().saturating_sub(60)..] {
                eprintln!("{line}");
            }
            eprintln!("---");
        }
    }
}

/// `REMORA_BIN` (the benchmark measures a release build with it), else the one that cargo built for this test.
pub fn program() -> PathBuf {
    std::env::var_os("REMORA_BIN").map_or_else(|| env!("CARGO_BIN_EXE_remora").into(), PathBuf::from)
}

fn collect(stream: impl AsyncRead + Send + Unpin + 'static, log: &Arc<Mutex<Vec<String>>>) {
    let log = Arc::clone(log);
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.lock().unwrap().push(line);
        }
    });
}
