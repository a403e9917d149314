//! What Consul's catalog says, and the comparison with what really runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::docker::Truth;
use super::{eventually, http_client};

/// The catalog as one test reads it.
pub struct Catalog {
    http: reqwest::Client,
    url: String,
}

/// A service instance in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Service id.
    pub id: String,
    /// Service name.
    pub name: String,
    /// Service address.
    pub address: String,
    /// Service port.
    pub port: u16,
    /// Tags.
    pub tags: Vec<String>,
    /// Meta.
    pub meta: BTreeMap<String, String>,
    /// Raft index of the last change of the service (not of its checks).
    pub modify_index: u64,
    /// Status by check id.
    pub checks: BTreeMap<String, String>,
    /// Output by check id.
    pub outputs: BTreeMap<String, String>,
    /// Notes by check id.
    pub notes: BTreeMap<String, String>,
}

impl Instance {
    /// The status of the check that carries Docker's word; `none` when there is no such check.
    pub fn status(&self) -> &str {
        self.checks.get(&format!("{}:docker", self.id)).map_or("none", String::as_str)
    }
}

impl Catalog {
    /// The catalog behind this URL.
    pub fn new(consul_url: &str) -> Self {
        Self { http: http_client(None), url: consul_url.to_owned() }
    }

    /// Every instance of every node but Consul's own, by service id. Fails when Consul cannot be asked.
    pub async fn all(&self) -> Result<BTreeMap<String, Instance>, String> {
        let mut instances = BTreeMap::new();
        for node in self.get("/v1/catalog/nodes").await?.as_array().unwrap() {
            instances.extend(self.on(node["Node"].as_str().unwrap()).await?);
        }
        Ok(instances)
    }

    /// Every instance on this node of the catalog but Consul's own, by service id: two nodes may have the same.
    pub async fn on(&self, node: &str) -> Result<BTreeMap<String, Instance>, String> {
        let services = self.get(&format!("/v1/catalog/node/{node}")).await?;
        let checks = self.get(&format!("/v1/health/node/{node}")).await?;
        let services = services["Services"].as_object().into_iter().flat_map(|it| it.values());
        let instances = services.map(|service| instance(service, checks.as_array().unwrap()));
        Ok(instances.filter(|it| it.id != "consul").map(|it| (it.id.clone(), it)).collect())
    }

    /// When the services of containers on this node, and their checks, were written last: Raft index by id.
    pub async fn written(&self, node: &str) -> BTreeMap<String, u64> {
        let services = self.get(&format!("/v1/catalog/node/{node}")).await.unwrap();
        let checks = self.get(&format!("/v1/health/node/{node}")).await.unwrap();
        let services = services["Services"].as_object().into_iter().flat_map(|it| it.values());
        let services = services.filter(|it| it["Meta"]["container-id"].is_string()).map(|it| (&it["ID"], it));
        let services: BTreeMap<&str, &Value> = services.map(|(id, it)| (id.as_str().unwrap(), it)).collect();
        let of_service = |it: &&Value| services.contains_key(it["ServiceID"].as_str().unwrap());
        let checks =
            checks.as_array().unwrap().iter().filter(of_service).map(|it| (it["CheckID"].as_str().unwrap(), it));
        let rows = services.iter().map(|(id, it)| (*id, *it)).chain(checks);
        rows.map(|(id, row)| (id.to_owned(), row["ModifyIndex"].as_u64().unwrap())).collect()
    }

    /// The instances that this Remora node registered for containers: their ids begin with `<node>:`. Not its own service.
    pub async fn of_node(&self, node: &str) -> Result<BTreeMap<String, Instance>, String> {
        let mut instances = self.all().await?;
        retain_own(node, &mut instances);
        Ok(instances)
    }

    /// The same, and nothing that another node of the catalog has under such an id.
    pub async fn on_its_own(&self, node: &str) -> Result<BTreeMap<String, Instance>, String> {
        let mut instances = self.on(node).await?;
        retain_own(node, &mut instances);
        Ok(instances)
    }

    /// One instance, if it is there.
    pub async fn instance(&self, id: &str) -> Option<Instance> {
        self.all().await.unwrap().remove(id)
    }

    /// Waits until this instance is there and its docker check has this status.
    pub async fn becomes(&self, id: &str, status: &str, deadline: Duration) {
        eventually(&format!("{id} {status}"), deadline, async || {
            let found = self.all().await?.remove(id);
            match found {
                Some(instance) if instance.status() == status => Ok(()),
                Some(instance) => Err(format!("it is {}", instance.status())),
                None => Err("it is not in the catalog".to_owned()),
            }
        })
        .await;
    }

    /// Waits until this container is registered, under whichever id.
    pub async fn registers(&self, container: &str, deadline: Duration) {
        eventually(&format!("registered: {container}"), deadline, async || {
            let all = self.all().await?;
            let own = all.values().find(|it| it.meta.get("container-id").is_some_and(|id| id == container));
            own.map(drop).ok_or("it is not in the catalog".to_owned())
        })
        .await;
    }

    /// Waits until this instance is gone.
    pub async fn loses(&self, id: &str, deadline: Duration) {
        eventually(&format!("without {id}"), deadline, async || {
            if self.all().await?.contains_key(id) { Err("it is still there".to_owned()) } else { Ok(()) }
        })
        .await;
    }

    /// A number that grows whenever a watcher of services or of checks would be woken.
    pub async fn index(&self) -> u64 {
        let mut highest = 0;
        for path in ["/v1/catalog/services", "/v1/health/state/any"] {
            let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
            highest = highest.max(answer.headers()["X-Consul-Index"].to_str().unwrap().parse().unwrap());
        }
        highest
    }

    /// Registers a service as somebody else would.
    pub async fn register(&self, definition: Value) {
        self.put("/v1/agent/service/register", definition).await;
    }

    /// Deregisters a service as somebody would by hand.
    pub async fn deregister(&self, id: &str) {
        self.put(&format!("/v1/agent/service/deregister/{id}"), json!(null)).await;
    }

    /// Sets a TTL check to critical, as somebody would by hand.
    pub async fn fail_check(&self, id: &str) {
        self.put(&format!("/v1/agent/check/fail/{id}"), json!(null)).await;
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let answer = self.http.get(format!("{}{path}", self.url)).timeout(Duration::from_secs(10)).send().await;
        let answer = answer.map_err(|error| format!("Consul: {error}"))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| format!("Consul: {error}"))?;
        if !status.is_success() {
            return Err(format!("Consul: {path}: {status} {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("Consul: {path}: {error}: {text}"))
    }

    async fn put(&self, path: &str, body: Value) {
        let answer = self.http.put(format!("{}{path}", self.url)).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "Consul: {path}: {}", answer.text().await.unwrap());
    }
}

/// How many of those that run are not in the catalog, and how many are there and do not run.
pub fn lost_and_stale(truth: &BTreeMap<String, Truth>, catalog: &BTreeMap<String, Instance>) -> (usize, usize) {
    let lost = truth.keys().filter(|id| !catalog.contains_key(*id)).count();
    (lost, catalog.keys().filter(|id| !truth.contains_key(*id)).count())
}

fn retain_own(node: &str, instances: &mut BTreeMap<String, Instance>) {
    let prefix = format!("{node}:");
    instances.retain(|id, instance| id.starts_with(&prefix) && instance.name != "remora");
}

/// The difference between what runs and what the catalog says; `Ok` when there is none.
pub fn compare(truth: &BTreeMap<String, Truth>, catalog: &BTreeMap<String, Instance>) -> Result<(), String> {
    let lost: Vec<_> = truth.keys().filter(|id| !catalog.contains_key(*id)).collect();
    let stale: Vec<_> = catalog.keys().filter(|id| !truth.contains_key(*id)).collect();
    let mut wrong = Vec::new();
    for (id, expected) in truth {
        let Some(actual) = catalog.get(id) else { continue };
        let shown = (actual.address.as_str(), actual.port, actual.status());
        let wanted = (expected.address.as_str(), expected.port, expected.status);
        if shown != wanted {
            wrong.push(format!("{id} is {shown:?}, Docker says {wanted:?}"));
        }
        if actual.meta.get("container-id") != Some(&expected.container) {
            wrong.push(format!("{id} is of another container"));
        }
    }
    if lost.is_empty() && stale.is_empty() && wrong.is_empty() {
        return Ok(());
    }
    let mut text = format!("{} run, {} are registered; ", truth.len(), catalog.len());
    write!(text, "lost {}: {lost:?}; stale {}: {stale:?}; wrong: {wrong:#?}", lost.len(), stale.len()).unwrap();
    Err(text)
}

fn instance(service: &Value, checks: &[Value]) -> Instance {
    let text = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
    let id = text("ID");
    let own = |field: &str| {
        let own = checks.iter().filter(|check| check["ServiceID"] == id.as_str());
        let pairs =
            own.map(|check| (check["CheckID"].as_str().unwrap().to_owned(), check[field].as_str().unwrap().to_owned()));
        pairs.collect()
    };
    Instance {
        name: text("Service"),
        address: text("Address"),
        port: u16::try_from(service["Port"].as_u64().unwrap()).unwrap(),
        tags: serde_json::from_value(service["Tags"].clone()).unwrap_or_default(),
        meta: serde_json::from_value(service["Meta"].clone()).unwrap_or_default(),
        modify_index: service["ModifyIndex"].as_u64().unwrap(),
        checks: own("Status"),
        outputs: own("Output"),
        notes: own("Notes"),
        id,
    }
}
