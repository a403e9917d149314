//! The floor: a bare client that hears the event, inspects once and writes once. It compares nothing, checks nothing,
//! survives nothing; what it needs is what the two APIs cost.

use std::collections::HashMap;

use bollard::Docker;
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::support::docker::RUN_LABEL;
use crate::support::http_client;
use crate::support::remora::ADDRESS;

/// First argument of the process that is the floor.
pub const ARGUMENT: &str = "--floor";
/// First part of its service ids.
pub const NODE: &str = "floor";
/// What it says on standard output when everything that ran is registered.
pub const READY: &str = "ready";
/// Registrations at a time at its start: as many as Remora's.
const CONCURRENCY: usize = 8;

/// How it talks to Consul.
struct Writer<'a> {
    http: reqwest::Client,
    consul: &'a str,
    catalog: bool,
}

/// Arguments: Docker's socket, Consul's URL, the run id of the containers, `agent` or `catalog`. Runs until it is killed.
pub async fn run(arguments: &[String]) {
    let [socket, consul, run, way] = arguments else { panic!("{ARGUMENT} SOCKET CONSUL RUN WAY") };
    let writer = Writer { http: http_client(None), consul, catalog: way == "catalog" };
    if writer.catalog {
        writer.put("/v1/catalog/register", &json!({"Node": NODE, "Address": ADDRESS})).await;
    }
    let docker = Docker::connect_with_unix(socket, 120, bollard::API_DEFAULT_VERSION).unwrap();
    let docker = docker.negotiate_version().await.unwrap();
    let label = ("label".to_owned(), vec![format!("{RUN_LABEL}={run}")]);
    let actions = ("event".to_owned(), vec!["start".to_owned(), "die".to_owned()]);
    let filters = Some(HashMap::from([label.clone(), actions]));
    let mut events = Box::pin(docker.events(Some(EventsOptions { filters, ..EventsOptions::default() })));

    let options = ListContainersOptions { filters: Some(HashMap::from([label])), ..ListContainersOptions::default() };
    let running = docker.list_containers(Some(options)).await.unwrap();
    stream::iter(running)
        .for_each_concurrent(CONCURRENCY, |container| {
            let (docker, writer) = (&docker, &writer);
            async move { writer.register(docker, &container.id.unwrap()).await }
        })
        .await;
    println!("{READY}");

    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let actor = event.actor.unwrap();
        if event.action.as_deref() == Some("start") {
            writer.register(&docker, &actor.id.unwrap()).await;
        } else {
            let attributes = actor.attributes.unwrap();
            writer.deregister(&format!("{NODE}:{}:80", attributes["name"]), &attributes["SERVICE_NAME"]).await;
        }
    }
}

impl Writer<'_> {
    async fn register(&self, docker: &Docker, container: &str) {
        let container = docker.inspect_container(container, None::<InspectContainerOptions>).await.unwrap();
        let id = format!("{NODE}:{}:80", container.name.unwrap().trim_start_matches('/'));
        let ports = container.network_settings.unwrap().ports.unwrap();
        let port: u16 = ports["80/tcp"].as_ref().unwrap()[0].host_port.as_ref().unwrap().parse().unwrap();
        let labels = container.config.unwrap().labels.unwrap();
        let mut service = json!({
            "ID": id, "Address": ADDRESS, "Port": port, "Meta": {"container-id": container.id},
        });
        // The rows that Remora writes: Docker's health, and what healing has to say. Each costs Consul as much as a service.
        let (name, checks) = (&labels["SERVICE_NAME"], ["docker", "healing"]);
        if self.catalog {
            service["Service"] = name.as_str().into();
            let mut rows = vec![json!({"Service": {"Verb": "set", "Node": NODE, "Service": service}})];
            rows.extend(checks.map(|check| {
                let (check_id, status) = (format!("{id}:{check}"), "passing");
                let row = json!({"Node": NODE, "CheckID": check_id, "Name": check, "Status": status, "ServiceID": id});
                json!({"Check": {"Verb": "set", "Check": row}})
            }));
            self.put("/v1/txn", &rows.into()).await;
        } else {
            service["Name"] = name.as_str().into();
            let check = |check: &str| json!({"CheckID": format!("{id}:{check}"), "Name": check, "TTL": "24h", "Status": "passing"});
            service["Checks"] = json!(checks.map(check));
            self.put("/v1/agent/service/register", &service).await;
        }
    }

    async fn deregister(&self, id: &str, name: &str) {
        if self.catalog {
            let gone = json!([{"Service": {"Verb": "delete", "Node": NODE, "Service": {"ID": id, "Service": name}}}]);
            self.put("/v1/txn", &gone).await;
        } else {
            self.put(&format!("/v1/agent/service/deregister/{id}"), &json!(null)).await;
        }
    }

    async fn put(&self, path: &str, body: &Value) {
        let request = self.http.put(format!("{}{path}", self.consul));
        let request = if body.is_null() { request } else { request.json(body) };
        request.send().await.unwrap().error_for_status().unwrap();
    }
}
