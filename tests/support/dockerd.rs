//! A second Docker Engine beside the machine's own, for the tests that restart one.
//!
//! It lives in a network namespace of its own: in the machine's, a starting `dockerd` takes over, or with `--bridge none`
//! even deletes, the bridge of the first one. Either it has no bridge there, and its containers use the namespace's network ("host");
//! or it has one, and publishes their ports in the namespace, where nobody asks for them.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::disk::{fill, mount as mount_disk};
use super::docker::Engine;
use super::netns::Namespace;
use super::{eventually, http_client, signal};

/// A running (or stopped) `dockerd`; ends with the value.
pub struct Dockerd {
    folder: Option<tempfile::TempDir>,
    live_restore: bool,
    bridge: Bridge,
    shares_identity: bool,
    storage_driver: String,
    namespace: Arc<Namespace>,
    child: Option<Child>,
}

/// What its containers are connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bridge {
    None,
    Usual,
    /// With this address and network: hosts that see each other's must not have the same.
    At(String),
}

impl Dockerd {
    /// Starts one without a bridge; `None`, with the reason on standard error, where that is not possible: not root, or no `dockerd`.
    pub async fn start(live_restore: bool) -> Option<Self> {
        Self::start_as(live_restore, Bridge::None, None).await
    }

    /// The same, with a bridge of its own, so that containers have networks and published ports.
    pub async fn start_with_bridge(live_restore: bool) -> Option<Self> {
        Self::start_as(live_restore, Bridge::Usual, None).await
    }

    /// The engine of a host: in this network namespace, with a bridge at this address (`172.31.1.1/24`).
    pub async fn start_on(host: Arc<Namespace>, live_restore: bool, bridge: &str) -> Self {
        let started = Self::start_as(live_restore, Bridge::At(bridge.to_owned()), Some(host)).await;
        started.expect("the hosts of a cluster need root, and `dockerd` on the PATH")
    }

    async fn start_as(live_restore: bool, bridge: Bridge, host: Option<Arc<Namespace>>) -> Option<Self> {
        let root = std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| {
            // Real, effective, saved and file-system user.
            line.split_whitespace().eq(["Uid:", "0", "0", "0", "0"])
        });
        let version = Command::new("dockerd").arg("--version").output().await;
        let (true, Ok(version)) = (root, version) else {
            eprintln!("SKIPPED: a second Docker Engine needs root and `dockerd` on the PATH");
            return None;
        };
        // Up to 20.10 an engine's id comes from a key in /etc, whatever its data root: both would be the same engine.
        let shares_identity = ["Docker version 20.", "Docker version 19."]
            .iter()
            .any(|it| String::from_utf8_lossy(&version.stdout).starts_with(it));
        let info = Engine::connect("dockerd").await.info().await;
        let storage_driver = info["Driver"].as_str().unwrap().to_owned();
        let namespace = host.unwrap_or_else(|| Arc::new(Namespace::new()));
        let folder = tempfile::Builder::new().prefix("remora-dockerd-").tempdir().unwrap();
        let folder = Some(folder);
        let mut dockerd =
            Self { folder, live_restore, bridge, shares_identity, storage_driver, namespace, child: None };
        if dockerd.has_own_disk() {
            mount_disk(&dockerd.path("data"), 128);
        }
        dockerd.start_again().await;
        Some(dockerd)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// The engine of a host has its data on a file system of its own: its disk can be full, and nobody else's.
    const fn has_own_disk(&self) -> bool {
        matches!(self.bridge, Bridge::At(_))
    }

    /// Fills the disk of a host's engine to the last byte, also with what has become free since, or ends that.
    pub fn fill_disk(&self, full: bool) {
        assert!(self.has_own_disk(), "it would fill the machine's");
        let filler = self.path("data/filler");
        if full {
            fill(&filler);
        } else {
            std::fs::remove_file(filler).unwrap();
        }
    }

    /// Whether its containers live on when it is stopped, from now on. The daemon that is started then has to be told so as well, or
    /// it ends what it finds running: this holds for the next one, too.
    pub async fn set_live_restore(&mut self, live_restore: bool) {
        self.live_restore = live_restore;
        self.configure();
        signal(self.child.as_ref().and_then(Child::id).expect("dockerd runs"), "HUP");
        let socket = self.socket();
        eventually("dockerd has read its settings again", Duration::from_secs(10), async || {
            let answer = http_client(Some(&socket)).get("http://docker/info").send().await;
            let info: serde_json::Value =
                answer.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
            if info["LiveRestoreEnabled"] == live_restore { Ok(()) } else { Err("as before".to_owned()) }
        })
        .await;
    }

    /// A configuration of its own: the machine's may name a bridge, hosts or a proxy.
    fn configure(&self) {
        let mut settings = serde_json::json!({"live-restore": self.live_restore});
        if self.shares_identity {
            settings["deprecated-key-path"] = self.path("key.json").display().to_string().into();
        }
        std::fs::write(self.path("daemon.json"), settings.to_string()).unwrap();
    }

    /// SIGTERM, and waits for its end: without live restore it stops its containers.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("dockerd runs");
        signal(child.id().unwrap(), "TERM");
        child.wait().await.unwrap();
    }

    /// As a host that loses its power: the daemon, what it runs by, and its containers are gone at once.
    pub async fn lose_power(&mut self, containers: &[u32]) {
        let mut child = self.child.take().expect("dockerd runs");
        let runtime = std::fs::read_to_string(self.path("exec").join("containerd/containerd.pid"));
        let others = runtime.ok().and_then(|pid| pid.trim().parse().ok()).into_iter().chain(containers.iter().copied());
        child.kill().await.unwrap();
        for pid in others {
            // One that has ended meanwhile is what is wanted.
            let _gone = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
    }

    /// Starts it again after [`Dockerd::stop`].
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "dockerd runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("dockerd.log")).unwrap();
        self.configure();
        let [enter, where_to] = self.namespace.enter();
        let mut command = Command::new(enter);
        command
            .args([&where_to, "dockerd"])
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("dockerd.pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .arg("--config-file")
            .arg(self.path("daemon.json"))
            .args(["--storage-driver", &self.storage_driver, "--shutdown-timeout", "5"])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(false);
        match &self.bridge {
            Bridge::None => command.args(["--bridge", "none", "--iptables=false", "--ip-forward=false"]),
            Bridge::Usual => &mut command,
            Bridge::At(address) => command.args(["--bip", address]),
        };
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
                 kill -KILL {pid}"
            );
            drop(std::process::Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status());
        }
        // The daemon leaves its data folder mounted on itself.
        let script = format!(
            "grep -o '{0}[^ ]*' /proc/mounts | sort -r | xargs -r umount -l; rm -rf --one-file-system {0}",
            folder.display()
        );
        drop(std::process::Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status());
    }
}
