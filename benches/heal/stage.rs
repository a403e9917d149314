//! An engine, a Consul, a Remora and the containers that are measured.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::support::catalog::Catalog;
use crate::support::consul::Consul;
use crate::support::docker::{Container, Engine, Event, Spec};
use crate::support::page;
use crate::support::remora::Remora;
use crate::support::{eventually, free_port, http_client, run_id};

/// `REMORA_HEAL_SETTLE` of the benchmark.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Name of the service of every container.
pub const SERVICE: &str = "bench";

/// The fields are dropped in this order.
pub struct Stage {
    pub remora: Remora,
    pub engine: Engine,
    pub catalog: Catalog,
    pub consul: Consul,
    pub node: String,
    http: reqwest::Client,
}

impl Stage {
    /// A Remora that is ready, and whose hold-off is over.
    pub async fn open(settings: &[(&str, &str)]) -> Self {
        let node = run_id("bench-heal");
        let engine = Engine::connect(&node).await;
        let consul = Consul::start().await;
        let mut remora = Remora::new(engine.socket(), &consul.url(), engine.run(), &node);
        let settle = humantime::format_duration(SETTLE).to_string();
        for (name, value) in [
            ("REMORA_HEAL", "on"),
            ("REMORA_HEAL_HOLDOFF", "0s"),
            ("REMORA_HEAL_SETTLE", settle.as_str()),
            // Where the published ports really are.
            ("REMORA_ADDRESS", "127.0.0.1"),
            ("REMORA_LOG", "info"),
        ] {
            remora.set(name, value);
        }
        for (name, value) in settings {
            remora.set(name, value);
        }
        remora.spawn();
        remora.ready().await;
        let catalog = Catalog::new(&consul.url());
        Self { remora, engine, catalog, consul, node, http: http_client(None) }
    }

    /// A web server, which ends at once when it is asked to, with a HEALTHCHECK every second and all thresholds at nothing.
    pub fn container(&self, name: &str) -> Spec<'_> {
        let script = "trap 'exit 0' TERM; trap 'exit 1' USR1; echo well >/tmp/index.html; \
             /bin/busybox httpd -f -p 80 -h /tmp & wait";
        let mut spec = self
            .engine
            .container(name)
            .command(&["/bin/sh", "-c", script])
            .label("SERVICE_NAME", SERVICE)
            .health_check(Duration::from_secs(1));
        for label in ["grace", "unhealthy-for", "min-healthy"] {
            spec = spec.label(&format!("remora.heal.{label}"), "0s");
        }
        spec
    }

    /// Waits until it is passing in the catalog.
    pub async fn passing(&self, container: &Container) {
        let id = format!("{}:{}:80", self.node, container.name);
        self.catalog.becomes(&id, "passing", Duration::from_secs(20)).await;
    }

    /// The passing instances of the service: container id and port.
    pub async fn instances(&self) -> Vec<(String, u16)> {
        self.ask("passing").await.0
    }

    /// Waits, with a blocking query, until a passing instance is of another container than this one.
    pub async fn passing_besides(&self, container: &Container) {
        let mut index = "0".to_owned();
        let waiting = async {
            loop {
                let (instances, next) = self.ask(&format!("passing&wait=20s&index={index}")).await;
                if instances.iter().any(|(id, _)| *id != container.id) {
                    return;
                }
                index = next;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("a replacement in the catalog within 60 s");
    }

    async fn ask(&self, query: &str) -> (Vec<(String, u16)>, String) {
        let url = format!("{}/v1/health/service/{SERVICE}?{query}", self.consul.url());
        let answer = self.http.get(url).send().await.unwrap();
        let index = answer.headers()["X-Consul-Index"].to_str().unwrap().to_owned();
        let entries: Value = answer.json().await.unwrap();
        let instance = |entry: &Value| {
            let service = &entry["Service"];
            let port = u16::try_from(service["Port"].as_u64().unwrap()).unwrap();
            (service["Meta"]["container-id"].as_str().unwrap().to_owned(), port)
        };
        (entries.as_array().unwrap().iter().map(instance).collect(), index)
    }

    /// The HEALTHCHECK of this container fails from now on; that of its replacement does not.
    pub async fn make_ill(&self, container: &Container) {
        self.engine.exec(container, &["/bin/busybox", "touch", "/sick"]).await;
    }

    /// Waits until another container has its name and nothing is left over.
    pub async fn replaced(&self, before: &Container) -> Container {
        eventually(&format!("{} replaced", before.name), Duration::from_secs(60), async || {
            let mut names = self.engine.names(true).await;
            names.retain(|name| name.starts_with(&before.name));
            let now = self.engine.inspect_name(&before.name).await.ok_or("nobody has its name")?;
            let id = now["Id"].as_str().unwrap().to_owned();
            if id == before.id || names != [before.name.as_str()] {
                return Err(format!("there are {names:?}"));
            }
            Ok(Container { id, name: before.name.clone() })
        })
        .await
    }

    /// `remora heal NAME`.
    pub async fn ask_for(&self, container: &Container) {
        let key = format!("/v1/kv/remora/heal/ask/{}/{}", self.node, container.name);
        self.consul.put(&key, "heal bench").await;
    }

    /// A port of the host for a container that is to have it for itself.
    pub fn fixed_port() -> u16 {
        free_port()
    }

    /// Cores, engine and Consul.
    pub async fn machine(&self) -> String {
        page::machine(&self.engine, &self.consul).await
    }
}

/// The engine's time of an event, since 1970.
pub fn time_of(event: &Event) -> Duration {
    Duration::from_nanos(u64::try_from(event.time_nano).unwrap())
}

/// The same clock, now.
pub fn now() -> Duration {
    UNIX_EPOCH.elapsed().unwrap()
}
