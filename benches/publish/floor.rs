//! The floor: a bare client that hears the event, inspects once and writes once. It compares nothing, checks nothing,
//! survives nothing; what it needs is what the two APIs cost.

use std::collections::HashMap;

use bollard::Docker;
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::support::{docker::RUN_LABEL, http_client};

/// First argument of the process that is the floor.
pub const ARGUMENT: &str = "--floor";
/// First part of its service ids.
pub const NODE: &str = "floor";
/// What it says on standard output when everything that ran is registered.
pub const READY: &str = "ready";
/// Registrations at a time at its start: as many as Remora's.
const CONCURRENCY: usize = 8;

/// Arguments: Docker's socket, Consul's URL, the run id of the containers. Runs until it is killed.
pub async fn run(arguments: &[String]) {
    let [socket, consul, run] = arguments else { panic!("{ARGUMENT} SOCKET CONSUL RUN") };
    let docker = Docker::connect_with_unix(socket, 120, bollard::API_DEFAULT_VERSION).unwrap();
    let docker = docker.negotiate_version().await.unwrap();
    let http = http_client(None);
    let label = ("label".to_owned(), vec![format!("{RUN_LABEL}={run}")]);
    let actions = ("event".to_owned(), vec!["start".to_owned(), "die".to_owned()]);
    let filters = Some(HashMap::from([label.clone(), actions]));
    let mut events = Box::pin(docker.events(Some(EventsOptions { filters, ..EventsOptions::default() })));

    let options = ListContainersOptions { filters: Some(HashMap::from([label])), ..ListContainersOptions::default() };
    let running = docker.list_containers(Some(options)).await.unwrap();
    stream::iter(running)
        .for_each_concurrent(CONCURRENCY, |container| {
            let (docker, http) = (&docker, &http);
            async move { register(docker, http, consul, &container.id.unwrap()).await }
        })
        .await;
    println!("{READY}");

    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let actor = event.actor.unwrap();
        if event.action.as_deref() == Some("start") {
            register(&docker, &http, consul, &actor.id.unwrap()).await;
        } else {
            let id = format!("{NODE}:{}:80", actor.attributes.unwrap()["name"]);
            let url = format!("{consul}/v1/agent/service/deregister/{id}");
            http.put(url).send().await.unwrap().error_for_status().unwrap();
        }
    }
}

async fn register(docker: &Docker, http: &reqwest::Client, consul: &str, container: &str) {
    let container = docker.inspect_container(container, None::<InspectContainerOptions>).await.unwrap();
    let id = format!("{NODE}:{}:80", container.name.unwrap().trim_start_matches('/'));
    let ports = container.network_settings.unwrap().ports.unwrap();
    let port: u16 = ports["80/tcp"].as_ref().unwrap()[0].host_port.as_ref().unwrap().parse().unwrap();
    let check = json!({"CheckID": format!("{id}:docker"), "Name": "docker", "TTL": "24h", "Status": "passing"});
    let labels = container.config.unwrap().labels.unwrap();
    let body = json!({
        "ID": id, "Name": labels["SERVICE_NAME"], "Address": crate::support::remora::ADDRESS, "Port": port,
        "Meta": {"container-id": container.id}, "Checks": [check],
    });
    let url = format!("{consul}/v1/agent/service/register");
    http.put(url).json(&body).send().await.unwrap().error_for_status().unwrap();
}
