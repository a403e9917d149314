//! The whole cluster: servers, nodes with an engine and a Remora each, and somebody who looks all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::net::{Host, Net};
use crate::servers::{Agent, Servers};
use crate::support::acl::documented;
use crate::support::catalog::{Catalog, Instance, compare, lost_and_stale};
use crate::support::docker::{Container, Engine, Truth};
use crate::support::dockerd::Dockerd;
use crate::support::remora::Remora;
use crate::support::{eventually, run_id};

/// `REMORA_NODE_TTL` of all nodes: the shortest that Consul takes.
pub const NODE_TTL: Duration = Duration::from_secs(10);

/// Containers with this label are not judged: they are being healed, or are there to do harm to the others.
pub const UNJUDGED: &str = "remora-test-unjudged";

/// Where a Remora registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each node has a Consul agent.
    Agent,
    /// Only the servers are Consul's.
    Catalog,
}

impl Mode {
    /// As in `REMORA_CONSUL_MODE`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Catalog => "catalog",
        }
    }
}

/// A node. The fields are dropped in this order: the program under test first, then the containers, then what they need.
pub struct Node {
    pub name: String,
    pub remora: Remora,
    pub engine: Engine,
    pub dockerd: Dockerd,
    pub agent: Option<Agent>,
    pub host: Host,
    pub token: Token,
    /// Whether it is to be found well.
    pub lives: bool,
}

/// What a Remora shows to Consul: in a file, so that it can be another one from one moment to the next.
pub struct Token {
    pub accessor: String,
    /// Its policy, which has the same name as the node.
    pub rules: Vec<String>,
    folder: tempfile::TempDir,
}

/// See the module's header.
pub struct Bed {
    pub mode: Mode,
    pub nodes: Vec<Node>,
    pub servers: Servers,
    pub net: Net,
    eyes: Eyes,
}

/// Looks at the catalog all the time.
struct Eyes {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    urls: Vec<String>,
    /// What has to be there whatever happens.
    stays: BTreeSet<String>,
    missed: BTreeSet<String>,
    looks: usize,
}

impl Bed {
    /// Three servers, three nodes with three containers each, and all of it right.
    pub async fn start(mode: Mode) -> Self {
        let net = Net::new();
        let servers = Servers::start(&net).await;
        let nodes = join_all([1, 2, 3].map(|number| Node::start(&net, &servers, mode, number))).await;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(look_on(Arc::clone(&seen)));
        let bed = Self { mode, nodes, servers, net, eyes: Eyes { seen, task } };
        for node in &bed.nodes {
            node.engine.many("web", 3, 3).await;
        }
        bed.right_since(Instant::now(), Duration::from_secs(60)).await;
        bed
    }

    /// From now on all of this has to stay: what runs now, apart from these containers.
    pub async fn keep(&self, except: &[&Container]) {
        self.keep_on(&self.nodes, except).await;
    }

    /// The same of some nodes.
    pub async fn keep_on(&self, nodes: &[Node], except: &[&Container]) {
        let mut stays = BTreeSet::new();
        for node in nodes {
            stays.extend(node.engine.truth(&node.name).await.into_keys());
        }
        stays.retain(|id| !except.iter().any(|it| id.split(':').nth(1) == Some(&it.name)));
        let urls = self.servers.agents.iter().map(Agent::url).collect();
        *self.eyes.seen.lock().unwrap() = Seen { urls, stays, ..Seen::default() };
    }

    /// How many of those were missing at some time, and how often was looked. From now on nobody looks.
    pub fn missed(&self) -> (usize, usize) {
        let seen = std::mem::take(&mut *self.eyes.seen.lock().unwrap());
        assert!(seen.looks > 0, "nobody has looked");
        (seen.missed.len(), seen.looks)
    }

    /// How many containers a healer has made.
    pub async fn healed(&self) -> usize {
        let mut healed = 0;
        for node in self.nodes.iter().filter(|node| node.lives) {
            for id in node.engine.ids(true).await {
                let document = node.engine.call("GET", &format!("/containers/{id}/json"), None).await;
                healed += usize::from(document["Config"]["Labels"]["remora.heal.op"].is_string());
            }
        }
        healed
    }

    /// Waits until all is right, and says how long after `begin` that was.
    pub async fn right_since(&self, begin: Instant, deadline: Duration) -> Duration {
        eventually("right", deadline, async || self.difference().await).await;
        begin.elapsed()
    }

    /// What is not as it should be.
    pub async fn difference(&self) -> Result<(), String> {
        for node in &self.nodes {
            let status = self.status(node).await?;
            let expected = if node.lives { "passing" } else { "critical" };
            if status != expected {
                return Err(format!("{} is {status}, and is to be {expected}", node.name));
            }
            if node.lives {
                let (truth, actual) = self.truth_and_catalog(node).await?;
                compare(&truth, &actual).map_err(|difference| format!("{}: {difference}", node.name))?;
            }
        }
        Ok(())
    }

    /// How many instances of all nodes are missing, and how many are there that should not be.
    pub async fn lost_and_stale(&self) -> Result<(usize, usize), String> {
        let mut sum = (0, 0);
        for node in self.nodes.iter().filter(|node| node.lives) {
            let (truth, actual) = self.truth_and_catalog(node).await?;
            let (lost, stale) = lost_and_stale(&truth, &actual);
            sum = (sum.0 + lost, sum.1 + stale);
        }
        Ok(sum)
    }

    async fn truth_and_catalog(
        &self,
        node: &Node,
    ) -> Result<(BTreeMap<String, Truth>, BTreeMap<String, Instance>), String> {
        let (mut truth, mut actual) =
            (node.engine.truth(&node.name).await, self.catalog()?.on_its_own(&node.name).await?);
        let unjudged = node.engine.ids_with(UNJUDGED).await;
        truth.retain(|_, it| !unjudged.contains(&it.container));
        actual.retain(|_, it| !it.meta.get("container-id").is_some_and(|id| unjudged.contains(id)));
        Ok((truth, actual))
    }

    /// As the first server sees it that runs.
    pub fn catalog(&self) -> Result<Catalog, String> {
        let server = self.servers.agents.iter().find(|agent| agent.runs()).ok_or("no server runs")?;
        Ok(Catalog::new(&server.url()))
    }

    /// Where the first node's Remora finds Consul.
    pub fn consul(&self) -> Vec<SocketAddr> {
        let of = |agent: &Agent| SocketAddr::from((agent.address, 8500));
        match &self.nodes[0].agent {
            Some(agent) => vec![of(agent)],
            None => self.servers.agents.iter().map(of).collect(),
        }
    }

    /// What the check says that is the node's own: a node's instances are as well as the node at the most.
    pub async fn status(&self, node: &Node) -> Result<String, String> {
        let own = match self.mode {
            Mode::Agent => "serfHealth",
            Mode::Catalog => "remora-node",
        };
        let checks = self.servers.get(&format!("/v1/health/node/{}", node.name)).await?;
        let checks = checks.as_array().cloned().unwrap_or_default();
        let check = checks.iter().find(|check| check["CheckID"] == own).ok_or("it has no such check")?;
        Ok(check["Status"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the node has this status, and says how long after `begin` that was.
    pub async fn turns(&self, at: usize, status: &str, begin: Instant, deadline: Duration) -> Duration {
        let node = &self.nodes[at];
        eventually(&format!("{} {status}", node.name), deadline, async || match self.status(node).await? {
            found if found == status => Ok(()),
            found => Err(format!("it is {found}")),
        })
        .await;
        begin.elapsed()
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    async fn start(net: &Net, servers: &Servers, mode: Mode, number: u8) -> Self {
        let host = net.host(100 + number);
        let name = format!("n{number}");
        let bridge = format!("172.30.{number}.1/24");
        let dockerd = Dockerd::start_on(Arc::clone(&host.namespace), false, &bridge).await;
        let mut engine = Engine::connect_to(&dockerd.socket(), &run_id(&name)).await;
        engine.address = host.address.to_string();
        let agent = (mode == Mode::Agent).then(|| {
            let addresses: Vec<_> = servers.hosts.iter().map(|host| host.address).collect();
            // So that one that has forgotten everything is not taken for another one of the same name.
            let id = format!("00000000-0000-0000-0000-0000000000{number:02}");
            let mut agent = Agent::new(&name, &host, &addresses, &servers.house, &["-node-id", &id]);
            agent.start();
            agent
        });
        let consul = match &agent {
            Some(_) => "http://127.0.0.1:8500".to_owned(),
            None => servers.agents.iter().map(Agent::url).collect::<Vec<_>>().join(","),
        };
        let token = Token::new(servers, mode, &name).await;
        let mut remora = Remora::new(&dockerd.socket(), &consul, engine.run(), &name);
        remora.set("CONSUL_HTTP_TOKEN_FILE", &token.file().display().to_string());
        remora.live_on(&host.namespace, host.address);
        remora.set("REMORA_CONSUL_MODE", mode.word());
        remora.set("REMORA_NODE_TTL", &format!("{}s", NODE_TTL.as_secs()));
        remora.set("REMORA_HEAL", "on");
        remora.set("REMORA_HEAL_HOLDOFF", "5s");
        let mut node = Self { name, remora, engine, dockerd, agent, host, token, lives: true };
        node.start_remora().await;
        node
    }

    /// Starts its Remora again with these settings beside its own. What they were before.
    pub async fn restart_with(&mut self, settings: &[(&str, String)]) -> BTreeMap<String, String> {
        let before = self.remora.settings();
        self.remora.terminate().await;
        for (name, value) in settings {
            self.remora.set(name, value);
        }
        self.start_remora().await;
        before
    }

    /// Starts it again with exactly these.
    pub async fn restart_as(&mut self, settings: BTreeMap<String, String>) {
        self.remora.terminate().await;
        self.remora.set_all(settings);
        self.start_remora().await;
    }

    async fn start_remora(&mut self) {
        self.remora.spawn();
        self.remora.ready_within(Duration::from_secs(60)).await;
    }

    /// The processes of its containers.
    pub async fn processes(&self) -> Vec<u32> {
        let mut all = Vec::new();
        for id in self.engine.ids(false).await {
            let document = self.engine.call("GET", &format!("/containers/{id}/json"), None).await;
            all.extend(
                document["State"]["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
            );
        }
        all
    }
}

impl Token {
    /// One that has exactly the documented rights; without agents also those of whoever looks after the others.
    async fn new(servers: &Servers, mode: Mode, node: &str) -> Self {
        let mut rules = documented(if mode == Mode::Agent { "install.md" } else { "external.md" }, node);
        if mode == Mode::Catalog {
            rules.push(r#"node_prefix "n" { policy = "write" }"#.to_owned());
        }
        let folder = tempfile::Builder::new().prefix("remora-token-").tempdir().unwrap();
        let mut token = Self { accessor: String::new(), rules, folder };
        token.limit(servers, node, &token.rules).await;
        token.renew(servers, node).await;
        token
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Another secret, from now on. The accessor of the one before.
    pub async fn renew(&mut self, servers: &Servers, node: &str) -> String {
        let (accessor, secret) = servers.acl().token(node).await;
        std::fs::write(self.file(), secret).unwrap();
        std::mem::replace(&mut self.accessor, accessor)
    }

    /// It may do this, and nothing else.
    pub async fn limit(&self, servers: &Servers, node: &str, rules: &[String]) {
        servers.acl().policy(node, &rules.join("\n")).await;
    }
}

/// Every quarter of a second, at the first server that answers. Who does not answer says nothing about what is there.
async fn look_on(seen: Arc<Mutex<Seen>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let urls = seen.lock().unwrap().urls.clone();
        for url in urls {
            let Ok(Ok(all)) = tokio::time::timeout(Duration::from_secs(1), Catalog::new(&url).all()).await else {
                continue;
            };
            let mut seen = seen.lock().unwrap();
            let missed: Vec<String> = seen.stays.iter().filter(|id| !all.contains_key(*id)).cloned().collect();
            seen.missed.extend(missed);
            seen.looks += 1;
            break;
        }
    }
}
