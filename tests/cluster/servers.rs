//! Three Consul servers, each on a host of its own, and the client agents of nodes that have one.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::house::House;
use crate::net::{Host, Net};
use crate::support::acl::Acl;
use crate::support::consul::{MANAGEMENT_TOKEN, binary};
use crate::support::{disk, eventually, http_client, signal};

/// A Consul process on a host.
pub struct Agent {
    pub name: String,
    enter: [String; 2],
    pub address: Ipv4Addr,
    arguments: Vec<String>,
    data: PathBuf,
    child: Option<Child>,
    has_own_disk: bool,
    _folder: tempfile::TempDir,
}

/// The servers and the hosts that they are on.
pub struct Servers {
    pub hosts: Vec<Host>,
    pub agents: Vec<Agent>,
    /// Whose certificates all of Consul shows, and asks clients for, on port 8501.
    pub house: House,
}

impl Agent {
    /// One that does not run yet and will join these; `more` are further arguments.
    pub fn new(name: &str, host: &Host, join: &[Ipv4Addr], house: &House, more: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("remora-consul-").tempdir().unwrap();
        let data = folder.path().join("data");
        let mut arguments: Vec<String> = ["agent", "-node", name, "-client", "0.0.0.0", "-retry-interval", "1s"]
            .into_iter()
            .chain(more.iter().copied())
            .map(str::to_owned)
            .collect();
        arguments.extend(["-bind".to_owned(), host.address.to_string()]);
        arguments.extend(join.iter().flat_map(|address| ["-retry-join".to_owned(), address.to_string()]));
        // As Consul recommends it for production, and with default deny: all that is shown here is shown with the documented rights.
        let settings = format!(
            r#"disable_update_check = true performance {{ raft_multiplier = 1 }}
            acl {{ enabled = true default_policy = "deny" tokens {{ master = "{MANAGEMENT_TOKEN}" agent = "{MANAGEMENT_TOKEN}" }} }}"#
        );
        let file = |name: &str| house.file(name).display().to_string();
        let tls = format!(
            r#"ports {{ https = 8501 }} verify_incoming_https = true
            ca_file = "{}" cert_file = "{}" key_file = "{}""#,
            file("ca.pem"),
            file("server.pem"),
            file("server.key")
        );
        arguments.extend(["-hcl".to_owned(), settings, "-hcl".to_owned(), tls]);
        let enter = host.namespace.enter();
        let (name, address) = (name.to_owned(), host.address);
        Self { name, enter, address, arguments, data, child: None, has_own_disk: false, _folder: folder }
    }

    /// Starts it, with what it remembers.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        std::fs::create_dir_all(&self.data).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.data.join("../log")).unwrap();
        let child = Command::new(&self.enter[0])
            .arg(&self.enter[1])
            .arg(binary())
            .args(&self.arguments)
            .arg("-data-dir")
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended_already = child.kill();
            let _reaped_already = child.wait();
        }
    }

    /// It reads its certificates again.
    pub fn reload(&self) {
        signal(self.child.as_ref().expect("it runs").id(), "HUP");
    }

    /// Its data is on a disk of its own, from before its first start on.
    pub fn mount_disk(&mut self) {
        disk::mount(&self.data, 64);
        self.has_own_disk = true;
    }

    /// Fills that disk to the last byte, or ends that.
    pub fn fill_disk(&self, full: bool) {
        assert!(self.has_own_disk, "it would fill the machine's");
        let filler = self.data.join("filler");
        if full {
            disk::fill(&filler);
        } else {
            std::fs::remove_file(filler).unwrap();
        }
    }

    /// What it has said, at all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("../log")).unwrap_or_default()
    }

    /// It will have forgotten everything at its next start.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        std::fs::remove_dir_all(&self.data).unwrap();
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Its API.
    pub fn url(&self) -> String {
        format!("http://{}:8500", self.address)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if self.has_own_disk {
            disk::unmount(&self.data);
        }
    }
}

impl Servers {
    /// Three servers that have a leader.
    pub async fn start(net: &Net) -> Self {
        let hosts: Vec<Host> = [11, 12, 13].into_iter().map(|last| net.host(last)).collect();
        let addresses: Vec<Ipv4Addr> = hosts.iter().map(|host| host.address).collect();
        let house = House::new();
        let arguments = ["-server", "-bootstrap-expect", "3", "-ui"];
        let mut agents: Vec<Agent> = hosts
            .iter()
            .enumerate()
            .map(|(at, host)| Agent::new(&format!("s{}", at + 1), host, &addresses, &house, &arguments))
            .collect();
        for agent in &mut agents {
            agent.mount_disk();
            agent.start();
        }
        let servers = Self { hosts, agents, house };
        // Nobody may look yet.
        let acl = servers.acl();
        eventually("a leader of Consul", Duration::from_secs(60), async || {
            let made = tokio::time::timeout(Duration::from_secs(5), acl.try_let_everybody_look()).await;
            made.map_err(|_| "no answer".to_owned())?
        })
        .await;
        servers.elected(Duration::from_secs(60)).await;
        servers
    }

    /// Policies and tokens, at the first server that runs.
    pub fn acl(&self) -> Acl {
        Acl::of(&self.agents.iter().find(|agent| agent.runs()).expect("a server runs").url())
    }

    /// Waits until there is a leader that answers, and says which one it is.
    pub async fn elected(&self, deadline: Duration) -> usize {
        eventually("a leader of Consul", deadline, async || {
            let leader: Value = self.get("/v1/status/leader").await?;
            let leader = leader.as_str().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
            // Who was it before may be dead, and the others may not know yet.
            let found = self.agents.iter().position(|it| it.runs() && it.address.to_string() == leader);
            let at = found.ok_or_else(|| format!("it is {leader:?}"))?;
            ask(&format!("{}/v1/health/node/none?consistent", self.agents[at].url())).await.map(|_| at)
        })
        .await
    }

    /// As somebody does who uses it for something else: some hundred kilobytes, again and again under the same key.
    pub async fn write_much(&self) {
        for agent in self.agents.iter().filter(|agent| agent.runs()) {
            let url = format!("{}/v1/kv/somebody-elses", agent.url());
            let request = http_client(None).put(url).header("X-Consul-Token", MANAGEMENT_TOKEN);
            let _refused = request.body("x".repeat(400 << 10)).timeout(Duration::from_secs(2)).send().await;
        }
    }

    /// What the first server that answers says.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let mut last = "no server runs".to_owned();
        for agent in self.agents.iter().filter(|agent| agent.runs()) {
            match ask(&format!("{}{path}", agent.url())).await {
                Ok(value) => return Ok(value),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

async fn ask(url: &str) -> Result<Value, String> {
    let answer = http_client(None).get(url).timeout(Duration::from_secs(2)).send().await;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{url}: {status} {text}"));
    }
    serde_json::from_str(&text).map_err(|error| format!("{url}: {error}: {text}"))
}
