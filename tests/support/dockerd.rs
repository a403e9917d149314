//! A second Docker Engine beside the machine's own, for the tests that restart one.
//!
//! It has no bridge and touches no packet filter, so it cannot disturb the other; its containers use the host's network.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::docker::Engine;
use super::{eventually, http_client, signal};

/// A running (or stopped) `dockerd`; ends with the value.
pub struct Dockerd {
    folder: Option<tempfile::TempDir>,
    live_restore: bool,
    storage_driver: String,
    child: Option<Child>,
}

impl Dockerd {
    /// Starts one; `None`, with the reason on standard error, where that is not possible: not root, or no `dockerd`.
    pub async fn start(live_restore: bool) -> Option<Self> {
        let root = std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| {
            // Real, effective, saved and file-system user.
            line.split_whitespace().eq(["Uid:", "0", "0", "0", "0"])
        });
        if !root || Command::new("dockerd").arg("--version").stdout(Stdio::null()).status().await.is_err() {
            eprintln!("SKIPPED: a second Docker Engine needs root and `dockerd` on the PATH");
            return None;
        }
        let info = Engine::connect("dockerd").await.info().await;
        let storage_driver = info["Driver"].as_str().unwrap().to_owned();
        let folder = tempfile::Builder::new().prefix("remora-dockerd-").tempdir().unwrap();
        let mut dockerd = Self { folder: Some(folder), live_restore, storage_driver, child: None };
        dockerd.start_again().await;
        Some(dockerd)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// SIGTERM, and waits for its end: without live restore it stops its containers.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("dockerd runs");
        signal(child.id().unwrap(), "TERM");
        child.wait().await.unwrap();
    }

    /// Starts it again after [`Dockerd::stop`].
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "dockerd runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("dockerd.log")).unwrap();
        let mut command = Command::new("dockerd");
        command
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("dockerd.pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args(["--config-file", "/dev/null", "--bridge", "none", "--iptables=false", "--ip-forward=false"])
            .args(["--storage-driver", &self.storage_driver, "--shutdown-timeout", "5"])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(false);
        if self.live_restore {
            command.arg("--live-restore");
        }
        self.child = Some(command.spawn().unwrap());
        let socket = self.socket();
        eventually("a second Docker Engine", Duration::from_secs(30), async || {
            let answer = http_client(Some(&socket)).get("http://docker/_ping").send().await;
            answer.map(drop).map_err(|error| {
                let log = std::fs::read_to_string(self.path("dockerd.log")).unwrap_or_default();
                format!("{error}; its log: {log}")
            })
        })
        .await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().unwrap().path().join(name)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // Its containers have been removed by `Engine`, which must be dropped before this value.
        let folder = self.folder.take().unwrap().keep();
        if let Some(pid) = self.child.as_ref().and_then(Child::id) {
            // It is our child, so it stays visible as a zombie after its end; 10 s is twice its own shutdown time-out.
            let script = format!(
                "kill -TERM {pid}; for i in $(seq 100); do grep -qs 'State:.[^Z]' /proc/{pid}/status || break; sleep 0.1; done; \
                 kill -KILL {pid}; umount -l {0}/data/{1} {0}/exec/netns/* 2>/dev/null; rm -rf {0}",
                folder.display(),
                self.storage_driver
            );
            drop(std::process::Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status());
        }
    }
}
