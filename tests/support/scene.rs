//! An engine, a Consul and a Remora, put together for one test.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::catalog::{Catalog, compare};
use super::consul::Consul;
use super::docker::Engine;
use super::proxy::Proxy;
use super::remora::Remora;
use super::{eventually, run_id};

/// The fields are dropped in this order: first the program under test, then the containers, then what they need.
pub struct Scene {
    /// The program under test, ready unless it was built with [`Plan::not_started`].
    pub remora: Remora,
    /// The test's containers.
    pub engine: Engine,
    /// What Consul says.
    pub catalog: Catalog,
    /// Between Remora and Docker.
    pub docker_proxy: Proxy,
    /// Between Remora and Consul; also after Consul was restarted.
    pub consul_proxy: Proxy,
    /// This test's own.
    pub consul: Consul,
    /// First part of the service ids.
    pub node: String,
    _turn: Turn,
}

/// Tests run side by side, but one that measures time, or that starts hundreds of containers, runs alone.
enum Turn {
    Shared { _guard: OwnedRwLockReadGuard<()> },
    Alone { _guard: OwnedRwLockWriteGuard<()> },
}

/// What a scene should be like.
#[must_use]
pub struct Plan {
    test: &'static str,
    environment: Vec<(&'static str, String)>,
    started: bool,
    alone: bool,
    engine: Option<std::path::PathBuf>,
    consul: super::consul::Options,
}

impl Scene {
    /// An engine, a Consul and a ready Remora.
    pub async fn start(test: &'static str) -> Self {
        Self::plan(test).start().await
    }

    /// The same, with wishes.
    pub fn plan(test: &'static str) -> Plan {
        Plan {
            test,
            environment: Vec::new(),
            started: true,
            alone: false,
            engine: None,
            consul: super::consul::Options::default(),
        }
    }

    /// A service id of this scene.
    pub fn id(&self, container: &super::docker::Container, port: u16) -> String {
        format!("{}:{}:{port}", self.node, container.name)
    }

    /// Waits until the catalog says exactly what runs: nothing lost, nothing stale, addresses, ports and statuses right;
    /// and Remora has not been restarted meanwhile.
    pub async fn settled(&mut self, deadline: Duration) {
        self.right(deadline).await;
        self.remora.assert_never_restarted();
    }

    /// [`Scene::settled`] for the tests that do restart Remora.
    pub async fn right(&self, deadline: Duration) {
        eventually("right", deadline, async || self.difference().await).await;
    }

    /// What is different between the catalog and what runs.
    pub async fn difference(&self) -> Result<(), String> {
        let catalog = self.catalog.of_node(&self.node).await?;
        compare(&self.engine.truth(&self.node).await, &catalog)
    }

    /// What Remora has written to Consul since the last call (here or at the proxy's `requests`), the heartbeats of its own
    /// service apart: their number is the second value.
    pub fn writes(&self) -> (Vec<String>, usize) {
        let (heartbeats, writes): (Vec<_>, Vec<_>) =
            self.consul_proxy.writes().into_iter().partition(|it| is_heartbeat(it));
        (writes, heartbeats.len())
    }

    /// Restarts Remora, with nothing changed: it writes its own service at most, and the catalog says the same.
    pub async fn a_restart_writes_no_service(&mut self, deadline: Duration) {
        let before = self.catalog.of_node(&self.node).await.unwrap();
        self.remora.terminate().await;
        self.consul_proxy.requests();
        self.remora.spawn();
        self.remora.ready().await;
        self.settled(deadline).await;
        let (writes, _) = self.writes();
        assert!(writes.len() <= 1, "its own service at most: {writes:?}");
        assert_eq!(self.catalog.of_node(&self.node).await.unwrap(), before);
    }

    /// Another Remora for the same Docker, Consul and containers; not started.
    pub fn another_remora(&self) -> Remora {
        remora(&self.engine, self.docker_proxy.path(), self.consul_proxy.port(), &self.node)
    }
}

impl Plan {
    /// Sets a variable of Remora.
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Remora is left to be started by the test.
    pub fn not_started(mut self) -> Self {
        self.started = false;
        self
    }

    /// No other test of this program at the same time.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Another engine than the machine's own.
    pub fn engine(mut self, socket: &Path) -> Self {
        self.engine = Some(socket.to_owned());
        self
    }

    /// Another Consul than the plainest one.
    pub fn consul(mut self, options: super::consul::Options) -> Self {
        self.consul = options;
        self
    }

    /// Builds it.
    pub async fn start(self) -> Scene {
        static MACHINE: std::sync::LazyLock<std::sync::Arc<RwLock<()>>> =
            std::sync::LazyLock::new(std::sync::Arc::default);
        let machine = std::sync::Arc::clone(&MACHINE);
        let turn = if self.alone {
            Turn::Alone { _guard: machine.write_owned().await }
        } else {
            Turn::Shared { _guard: machine.read_owned().await }
        };
        let node = run_id(self.test);
        let engine = match &self.engine {
            Some(socket) => Engine::connect_to(socket, &node).await,
            None => Engine::connect(&node).await,
        };
        let consul = Consul::start_with(self.consul).await;
        let docker_proxy = Proxy::unix(engine.socket()).await;
        let consul_proxy = Proxy::tcp(consul.url().rsplit(':').next().unwrap().parse().unwrap()).await;
        let mut remora = remora(&engine, docker_proxy.path(), consul_proxy.port(), &node);
        for (name, value) in &self.environment {
            remora.set(name, value);
        }
        if self.started {
            remora.spawn();
            remora.ready().await;
        }
        let catalog = Catalog::new(&consul.url());
        Scene { remora, engine, catalog, docker_proxy, consul_proxy, consul, node, _turn: turn }
    }
}

fn remora(engine: &Engine, docker: &Path, consul_port: u16, node: &str) -> Remora {
    Remora::new(docker, &format!("http://127.0.0.1:{consul_port}"), engine.run(), node)
}

/// Whether this request reports on the check of Remora's own service.
pub fn is_heartbeat(request: &str) -> bool {
    request.starts_with("PUT /v1/agent/check/update/") && request.ends_with(":agent")
}
