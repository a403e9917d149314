//! Clones of containers of all kinds on a real engine, over three generations: each must be like the first of its line.
//!
//! Two judges: `remora::docker::spec::differences`, and one of the test's own (`judge`) that compares field by field and knows only the
//! differences that it lists. What the first one overlooks, the second one finds.

// A test fails by panicking; clippy's own exemption covers only the bodies of `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
// One body holds every field that the CLI sends.
#![recursion_limit = "256"]

#[path = "clone/corpus.rs"]
mod corpus;
#[path = "clone/judge.rs"]
mod judge;
#[allow(dead_code)] // each test program uses another part of it
#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use corpus::{Case, State};
use futures_util::{StreamExt as _, stream};
use remora::docker::names::Role;
use remora::docker::spec::{
    ApiVersion, CloneSpec, Marks, Options, Source, Volumes, clone_of, differences, has_anonymous_volumes,
    image_reference, restart_policy,
};
use serde_json::{Value, json};
use support::docker::{Container, Engine};

const GENERATIONS: u32 = 3;

/// The engine with what the containers need beside themselves.
pub struct Scene {
    engine: Engine,
    api: ApiVersion,
    node: String,
    /// With entry point, volume, ports, HEALTHCHECK, user's variables…
    rich_image: String,
    /// A tag that means the plain image while the original is made, and another one afterwards.
    moving_tag: String,
    /// Three networks of the user; the last one has a subnet of its own.
    networks: Vec<String>,
    network_id: String,
    subnet: String,
    volume: String,
    folder: tempfile::TempDir,
    /// Has a volume for others.
    store: Container,
    /// Shares its namespaces.
    parent: Container,
    /// In the default network, for links.
    peer: Container,
    /// In the first network, for links.
    neighbour: Container,
}

impl Scene {
    async fn new(test: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let engine = Engine::connect(&support::run_id(test)).await;
        let version = engine.call("GET", "/version", None).await;
        let info = engine.info().await;
        let rich = json!({
            "Entrypoint": ["/bin/busybox", "sleep"], "Cmd": ["100000"], "Volumes": {"/data-of-image": {}}, "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
            "Env": ["FROM_IMAGE=1", "PATH=/bin"], "WorkingDir": "/tmp", "StopSignal": "SIGINT", "User": "0:0",
            "Labels": {"org.example.image": "rich"},
            "Healthcheck": {"Test": ["CMD", "/bin/busybox", "true"], "Interval": 30_000_000_000_u64, "Retries": 2},
        });
        let rich_image = engine.image("rich", rich).await;
        let moving_tag = engine.image("moving", json!({})).await;
        // No two scenes, and hardly two processes, have the same.
        let number = std::process::id() * 3 + NEXT.fetch_add(1, Ordering::Relaxed);
        let subnet = format!("10.{}.{}", 200 + number / 250 % 50, number % 250);
        let config = json!({"IPAM": {"Config": [{"Subnet": format!("{subnet}.0/24")}]}});
        let networks =
            vec![engine.network("a").await, engine.network("b").await, engine.network_with("c", config).await];
        let network_id =
            engine.call("GET", &format!("/networks/{}", networks[0]), None).await["Id"].as_str().unwrap().to_owned();
        let volume = engine.volume("volume").await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        let stored = json!({"/stored": {}});
        let store = engine.container("store").edit(|it| it["Volumes"] = stored).run().await;
        let parent = engine.container("parent").edit(|it| it["HostConfig"]["IpcMode"] = json!("shareable")).run().await;
        let peer = engine.container("peer").run().await;
        let neighbour = engine.container("neighbour").network(&networks[0]).run().await;
        Self {
            api: version["ApiVersion"].as_str().unwrap().parse().unwrap(),
            node: info["Name"].as_str().unwrap().to_owned(),
            engine,
            rich_image,
            moving_tag,
            networks,
            network_id,
            subnet,
            volume,
            folder,
            store,
            parent,
            peer,
            neighbour,
        }
    }

    fn address(&self, last: u8) -> String {
        format!("{}.{last}", self.subnet)
    }

    async fn post(&self, path: &str, body: Option<Value>) -> Result<Value, String> {
        self.engine.try_call("POST", path, body).await
    }

    async fn inspect(&self, id: &str) -> Result<Value, String> {
        self.engine.try_call("GET", &format!("/containers/{id}/json"), None).await
    }

    /// The original of a case, in the state that it is to be cloned in.
    async fn original(&self, number: usize, case: &Case) -> Result<Value, String> {
        let container = self.engine.container(&format!("case-{number}")).edit(|body| {
            for (key, value) in case.body.as_object().unwrap() {
                match key.as_str() {
                    "Labels" => body["Labels"].as_object_mut().unwrap().extend(value.as_object().unwrap().clone()),
                    _ => body[key] = value.clone(),
                }
            }
        });
        let container = container.create().await;
        let id = &container.id;
        for (network, endpoint) in &case.connect {
            let body = json!({"Container": id, "EndpointConfig": endpoint});
            self.post(&format!("/networks/{network}/connect"), Some(body)).await?;
        }
        if case.state != State::NeverStarted {
            self.start(id).await?;
        }
        if let Some(network) = &case.leave {
            self.post(&format!("/networks/{network}/disconnect"), Some(json!({"Container": id}))).await?;
        }
        if let Some(folder) = case.data {
            let script = format!("/bin/busybox echo kept > {folder}/marker");
            self.exec(id, &["/bin/busybox", "sh", "-c", &script]).await?;
        }
        if case.state == State::Stopped {
            self.post(&format!("/containers/{id}/stop?t=0"), None).await?;
        }
        if let Some((tag, image)) = &case.moved_tag {
            let (repository, tag) = tag.split_once(':').unwrap();
            self.post(&format!("/images/{image}/tag?repo={repository}&tag={tag}"), None).await?;
        }
        self.inspect(id).await
    }

    async fn start(&self, id: &str) -> Result<(), String> {
        for _ in 0..10 {
            match self.post(&format!("/containers/{id}/start"), None).await {
                // a random port may just have been taken by a connection
                Err(error) if error.contains("address already in use") => {}
                answer => return answer.map(drop),
            }
        }
        Err("its ports are always in use".to_owned())
    }

    async fn exec(&self, id: &str, command: &[&str]) -> Result<(), String> {
        let exec = self.post(&format!("/containers/{id}/exec"), Some(json!({"Cmd": command, "User": "0"}))).await?;
        let exec = exec["Id"].as_str().unwrap();
        self.post(&format!("/exec/{exec}/start"), Some(json!({"Detach": true}))).await?;
        loop {
            let state = self.engine.try_call("GET", &format!("/exec/{exec}/json"), None).await?;
            if state["Running"] == false {
                return if state["ExitCode"] == 0 {
                    Ok(())
                } else {
                    Err(format!("{command:?} ends with {}", state["ExitCode"]))
                };
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// What makes a clone of this container.
    async fn spec(
        &self,
        old: &Value,
        parents: &BTreeMap<String, String>,
        options: Options,
    ) -> Result<CloneSpec, String> {
        let image = |reference: &str| {
            let path = format!("/images/{reference}/json");
            async move { self.engine.try_call("GET", &path, None).await }
        };
        let tag = image(image_reference(old)).await.ok();
        let own = image(old["Image"].as_str().unwrap()).await.ok();
        let source = Source {
            container: old,
            image: own.as_ref(),
            tag: tag.as_ref().and_then(|image| image["Id"].as_str()),
            api: self.api,
            node: Some(&self.node),
        };
        let marks = Marks {
            order: "stop-first".to_owned(),
            cause: "test".to_owned(),
            since: "2026-11-26T00:00:00Z".to_owned(),
            by: "test".to_owned(),
            ..Marks::next(old).map_err(|error| error.to_string())?
        };
        clone_of(&source, &marks, parents, options).map_err(|error| error.to_string())
    }

    /// Puts a clone in the place of this container, stop-first and in the order of a real operation; its document.
    async fn replace(
        &self,
        old: &Value,
        parents: &BTreeMap<String, String>,
        options: Options,
    ) -> Result<Value, String> {
        let old_id = old["Id"].as_str().unwrap();
        let name = old["Name"].as_str().unwrap().trim_start_matches('/');
        // It is removed without its volumes; those that its clone does not take over are nobody's.
        self.engine.clean_volumes_of(old);
        let spec = self.spec(old, parents, options).await?;
        let new = self.post(&format!("/containers/create?name={}", spec.name), Some(spec.body.clone())).await?;
        let new_id = new["Id"].as_str().unwrap();
        for (network, endpoint) in &spec.connect {
            let body = CloneSpec::connect_body(new_id, endpoint);
            self.post(&format!("/networks/{network}/connect"), Some(body)).await?;
        }
        let staged = self.inspect(new_id).await?;
        let found = differences(old, &staged, parents, options);
        if !found.is_empty() {
            return Err(format!("the staged clone differs: {}", told(&found)));
        }
        if staged["HostConfig"]["RestartPolicy"]["Name"] != "no" {
            return Err("the staged clone has a restart policy".to_owned());
        }
        let op = remora::docker::names::operation(old_id);
        let retired = Role::Retired.name(name, &op);
        self.post(&format!("/containers/{old_id}/rename?name={retired}"), None).await?;
        self.post(&format!("/containers/{new_id}/rename?name={name}"), None).await?;
        if old["State"]["Running"] == true {
            self.post(&format!("/containers/{old_id}/stop?t=0"), None).await?;
            self.start(new_id).await?;
        }
        let policy = json!({"RestartPolicy": restart_policy(&staged)});
        self.post(&format!("/containers/{new_id}/update"), Some(policy)).await?;
        self.engine.try_call("DELETE", &format!("/containers/{old_id}?force=true"), None).await?;
        self.inspect(new_id).await
    }

    /// Three generations of a case; how many comparisons there were.
    async fn line(&self, number: usize, case: &Case) -> Result<usize, String> {
        let original = self.original(number, case).await?;
        let mut last = original.clone();
        let mut sizes = BTreeSet::new();
        let mut compared = 0;
        for generation in 1..=GENERATIONS {
            let told_by = |who: &str, found: String| format!("generation {generation}, {who}: {found}");
            let options = Options::default();
            let parents = BTreeMap::new();
            let new = self.replace(&last, &parents, options).await.map_err(|error| told_by("the engine", error))?;
            let found = differences(&original, &new, &parents, options);
            if !found.is_empty() {
                return Err(told_by("differences", told(&found)));
            }
            let found = judge::differences(&original, &new, case.may_differ);
            if !found.is_empty() {
                return Err(told_by("the strict judge", found.join("; ")));
            }
            if has_anonymous_volumes(&original) != has_anonymous_volumes(&new) {
                return Err(told_by("anonymous volumes", "are not known any more".to_owned()));
            }
            if new["State"]["Running"] != original["State"]["Running"] {
                return Err(told_by("state", "it does not do what the original did".to_owned()));
            }
            sizes.insert(judge::sizes(&new));
            compared += 2;
            last = new;
        }
        if sizes.len() != 1 {
            return Err(format!("labels, mounts or aliases grow: {sizes:?}"));
        }
        if let Some(folder) = case.data {
            let marker = format!("{folder}/marker");
            let id = last["Id"].as_str().unwrap();
            self.exec(id, &["/bin/busybox", "grep", "kept", &marker]).await?;
        }
        Ok(compared)
    }
}

fn told(found: &[remora::docker::spec::Difference]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn clones_are_like_their_originals_over_three_generations() {
    let scene = Scene::new("clone").await;
    let cases = corpus::corpus(&scene);
    assert!(cases.len() >= 60, "{} kinds of containers", cases.len());
    let lines: Vec<_> = stream::iter(cases.iter().enumerate())
        .map(|(number, case)| {
            let scene = &scene;
            async move { (case.name, scene.line(number, case).await) }
        })
        // Few at a time: engine 20.10 has locked itself up when dozens of containers ended at once.
        .buffer_unordered(3)
        .collect()
        .await;
    let compared: usize = lines.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).sum();
    let failed: Vec<_> =
        lines.iter().filter_map(|(name, outcome)| Some(format!("{name}: {}", outcome.as_ref().err()?))).collect();
    println!(
        "{} kinds of containers, {GENERATIONS} generations, {compared} comparisons, {} differ",
        cases.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "{} of {} differ:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[tokio::test]
async fn who_shares_a_network_follows_the_successor() {
    let engine = Scene::new("clone-parents").await;
    let none = BTreeMap::new();
    let parent = engine.engine.container("owner").network(&engine.networks[0]).run().await;
    let mode = format!("container:{}", parent.id);
    let child = engine.engine.container("child").network(&mode).run().await;
    let (parent, child) = (engine.engine.inspect(&parent).await, engine.engine.inspect(&child).await);

    let new_parent = engine.replace(&parent, &none, Options::default()).await.unwrap();
    let id = |document: &Value| document["Id"].as_str().unwrap().to_owned();
    let parents = BTreeMap::from([(id(&parent), id(&new_parent))]);
    let new_child = engine.replace(&child, &parents, Options::default()).await.unwrap();
    assert_eq!(new_child["HostConfig"]["NetworkMode"], format!("container:{}", id(&new_parent)));
    assert_eq!(new_child["State"]["Running"], true);
    assert_eq!(differences(&child, &new_child, &parents, Options::default()), []);
    let found = judge::differences(&child, &new_child, &["HostConfig.NetworkMode", "Config.Hostname"]);
    assert_eq!(found, Vec::<String>::new());
    engine.exec(new_child["Id"].as_str().unwrap(), &["/bin/busybox", "ifconfig", "eth0"]).await.unwrap();
}

#[tokio::test]
async fn ports_are_pinned_and_volumes_are_new_on_demand() {
    let scene = Scene::new("clone-options").await;
    let none = BTreeMap::new();
    let options = Options { volumes: Volumes::Fresh, pin_ports: true };
    let spec = scene.engine.container("pinned").publish(80).edit(|it| it["Volumes"] = json!({"/data": {}}));
    let container = spec.run().await;
    let old = scene.engine.inspect(&container).await;
    scene.exec(&container.id, &["/bin/busybox", "touch", "/data/marker"]).await.unwrap();
    let volume = |document: &Value| document["Mounts"][0]["Name"].as_str().unwrap().to_owned();
    let port = |document: &Value| document["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].clone();

    let new = scene.replace(&old, &none, options).await.unwrap();
    assert_eq!(port(&new), port(&old));
    assert_ne!(volume(&new), volume(&old));
    assert_eq!(differences(&old, &new, &none, options), []);
    let id = new["Id"].as_str().unwrap();
    assert!(scene.exec(id, &["/bin/busybox", "test", "-e", "/data/marker"]).await.is_err(), "it should be empty");

    // adopted first, fresh afterwards: the declared volume is the image's again
    let adopted = scene.replace(&new, &none, Options::default()).await.unwrap();
    assert_eq!(volume(&adopted), volume(&new));
    let fresh = scene.replace(&adopted, &none, options).await.unwrap();
    assert_ne!(volume(&fresh), volume(&adopted));
    assert_eq!(fresh["HostConfig"]["Mounts"].as_array().map_or(0, Vec::len), 0);
}
