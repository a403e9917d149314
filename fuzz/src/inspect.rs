//! The engine's documents: an inspect document, what it means in Consul, and the clone that healing would make of it. A text
//! that begins with `[` is read as a list of containers too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use remora::docker::spec::{
    self, ApiVersion, Marks, Options, Source, clone_of, differences, has_anonymous_volumes, image_reference,
    stop_first_reasons,
};
use remora::docker::{Container, DockerError, Health, Lens, Life, Sight, inspect, list};
use remora::registration::{left_out, register};
use remora::template::Template;
use serde_json::{Value, json};

use super::metadata::{Others, check, is_shown, settings};

/// Stands in an environment where a secret would. Nothing that is published or shown may hold it.
const SECRET: &str = "c4n4ry-0f-4n-3nv1r0nm3nt";

static LENSES: LazyLock<[Lens; 2]> = LazyLock::new(|| {
    let tags = "{{range .Config.Env}}{{.}},{{end}}{{.Name}},{{index .Config.Labels \"com.docker.compose.service\"}},{{.Config.Image}}";
    let labels = BTreeSet::from(["address".to_owned()]);
    [Lens::default(), Lens { labels, tags: Some(Template::parse(tags).unwrap()) }]
});

pub fn run(data: &[u8]) {
    for lens in &*LENSES {
        let read = inspect::read(data, lens);
        assert_eq!(read, inspect::read(data, lens), "the same document reads the same");
        match &read {
            Ok(container) => registered(container, lens),
            Err(error) => unreadable(error),
        }
    }
    if data.first() == Some(&b'[') {
        listed(data);
    }
    if let Ok(document) = serde_json::from_slice::<Value>(data) {
        same_in_another_order(data, &document);
        hides_the_environment(&document);
        cloned(&document);
    }
}

/// An error tells where, and never what.
fn unreadable(error: &DockerError) {
    let DockerError::Unreadable { reason, .. } = error else { panic!("another error: {error}") };
    assert!(is_shown(reason, 120), "{reason:?}");
}

fn registered(container: &Container, lens: &Lens) {
    assert!(container.labels.iter().all(|(label, _)| lens.keeps(label)));
    assert!(container.service_env.iter().all(|(name, _)| name.starts_with("SERVICE_")));
    assert!(container.bindings.iter().all(|(port, all)| port.number != 0 && all.iter().all(|one| one.host_port != 0)));
    assert!(container.exposed.keys().all(|port| port.number != 0));
    assert!(container.stop_timeout.as_secs() <= 3600 && container.stop_signal.0 != 0);
    if let Some(health) = &container.health {
        assert!(is_shown(&health.output, Health::OUTPUT_LIMIT), "{:?}", health.output);
    }
    assert!(container.life.error.chars().count() <= Life::ERROR_LIMIT, "{:?}", container.life.error);
    let settings = settings();
    let (nobody, shared) = (Others(Vec::new()), Arc::new(container.clone()));
    for (draining, settling) in [(false, false), (true, false), (false, true)] {
        let sight = Sight { container: Arc::clone(&shared), draining, settling };
        let registration = register(&sight, &nobody, &settings);
        check(&registration, &settings, container);
        assert_eq!(registration, register(&sight, &nobody, &settings));
    }
    let _why = left_out(container, &nobody, &settings);
}

/// The members of an object have no order.
fn same_in_another_order(data: &[u8], document: &Value) {
    let sorted = document.to_string();
    if let Ok(container) = inspect::read(data, &LENSES[0]) {
        assert_eq!(inspect::read(sorted.as_bytes(), &LENSES[0]), Ok(container));
    }
}

/// Whatever is in the environment and is no `SERVICE_*` variable is in nothing that comes out.
fn hides_the_environment(document: &Value) {
    let mut document = document.clone();
    let Some(Value::Array(environment)) = document.pointer_mut("/Config/Env") else { return };
    for entry in environment.iter_mut() {
        if !entry.as_str().is_some_and(|text| text.starts_with("SERVICE_")) {
            *entry = json!(format!("PASSWORD={SECRET}"));
        }
    }
    environment.push(json!(format!("{SECRET}=1")));
    let text = document.to_string();
    for lens in &*LENSES {
        match inspect::read(text.as_bytes(), lens) {
            Ok(container) => {
                let settings = settings();
                let sight = Sight { container: Arc::new(container), draining: false, settling: false };
                let registration = register(&sight, &Others(Vec::new()), &settings);
                assert!(!format!("{sight:?}{registration:?}").contains(SECRET), "a secret came through");
            }
            Err(error) => assert!(!error.to_string().contains(SECRET), "{error}"),
        }
    }
    if let Ok(marks) = Marks::next(&document) {
        let shown = |clone: spec::CloneSpec| format!("{:?}{:?}", clone.warnings, clone.name);
        let told = clone_of(&source(&document), &marks, &BTreeMap::new(), Options::default());
        assert!(!told.map_or_else(|error| error.to_string(), shown).contains(SECRET), "a secret is told");
    }
}

fn listed(data: &[u8]) {
    let read = list::read(data);
    assert_eq!(read, list::read(data));
    let listing = match read {
        Ok(listing) => listing,
        Err(error) => return unreadable(&error),
    };
    assert!(listing.containers.iter().all(|line| !line.id.as_str().is_empty()));
    let Ok(Value::Array(entries)) = serde_json::from_slice::<Value>(data) else { return };
    assert_eq!(listing.containers.len() + listing.unreadable, entries.len(), "an entry was lost");
    // A line that says something twice cannot be read, and JSON values forget that.
    if list::read(json!(entries).to_string().as_bytes()).as_ref() != Ok(&listing) {
        return;
    }
    // Neither the order of the lines nor that of what stands in them means anything.
    let turned: Vec<Value> = entries.into_iter().rev().map(turned).collect();
    let mut again = list::read(json!(turned).to_string().as_bytes()).unwrap();
    again.containers.reverse();
    assert_eq!(again, listing, "the order of lines, names or ports means something");
}

fn turned(mut line: Value) -> Value {
    for key in ["Names", "Ports"] {
        if let Some(Value::Array(entries)) = line.get_mut(key) {
            entries.reverse();
        }
    }
    line
}

fn source(document: &Value) -> Source<'_> {
    static IMAGE: LazyLock<Value> = LazyLock::new(
        || json!({"Id": "sha256:91ac65db92b8b4008fdc418ebd34b4ea36f42335b6ef5e68d369084c225e0664", "Config": {"Entrypoint": ["/run"]}}),
    );
    let api = ApiVersion { major: 1, minor: if document.get("ApiNew").is_some() { 52 } else { 41 } };
    Source { container: document, image: Some(&IMAGE), tag: None, api, node: Some("node-1") }
}

/// What decides what a container may do. A clone has exactly what the original has there, or lacks it.
const RIGHTS: [&str; 24] = [
    "Privileged",
    "CapAdd",
    "CapDrop",
    "Capabilities",
    "SecurityOpt",
    "Devices",
    "DeviceCgroupRules",
    "DeviceRequests",
    "UsernsMode",
    "ReadonlyRootfs",
    "MaskedPaths",
    "ReadonlyPaths",
    "GroupAdd",
    "CgroupParent",
    "CgroupnsMode",
    "Cgroup",
    "OomKillDisable",
    "OomScoreAdj",
    "PidsLimit",
    "Memory",
    "NanoCpus",
    "Sysctls",
    "Ulimits",
    "Runtime",
];

/// What else a clone takes over as it is: everything but what `src/docker/spec` changes on purpose.
const CHANGED: [&str; 16] = [
    "NetworkMode",
    "RestartPolicy",
    "ContainerIDFile",
    "CpuPeriod",
    "CpuQuota",
    "Binds",
    "Mounts",
    "VolumesFrom",
    "Links",
    "PortBindings",
    "PublishAllPorts",
    "PidMode",
    "IpcMode",
    "Tmpfs",
    "VolumeDriver",
    "UTSMode",
];

fn cloned(document: &Value) {
    let Ok(marks) = Marks::next(document) else { return };
    let (source, nobody, options) = (source(document), BTreeMap::new(), Options::default());
    let clone = clone_of(&source, &marks, &nobody, options);
    assert_eq!(clone, clone_of(&source, &marks, &nobody, options), "the same original gives the same clone");
    let _reference = image_reference(document);
    let _anonymous = has_anonymous_volumes(document);
    let _reasons = stop_first_reasons(document, &BTreeMap::new(), false);
    assert!(differences(document, document, &nobody, options).is_empty(), "unlike itself");
    let Ok(clone) = clone else { return };
    assert!(clone.warnings.iter().all(|text| text.len() <= 4096), "{:?}", clone.warnings);
    let (host, copy) = (&document["HostConfig"], &clone.body["HostConfig"]);
    for (key, value) in copy.as_object().unwrap() {
        if !CHANGED.contains(&key.as_str()) {
            assert_eq!(host.get(key), Some(value), "HostConfig.{key} is not the original's");
        }
    }
    for key in RIGHTS {
        assert_eq!(copy.get(key), host.get(key), "HostConfig.{key} is not the original's");
    }
    for key in ["User", "Env", "Cmd", "WorkingDir", "StopSignal", "Healthcheck"] {
        assert_eq!(clone.body.get(key), document["Config"].get(key), "Config.{key} is not the original's");
    }
    // Until it is settled nobody but its operation starts it.
    assert_eq!(copy["RestartPolicy"], json!({"Name": "no"}));
    sources(document, copy);
    again(&clone.body, document);
}

/// Nothing of the host is mounted that the original had not mounted.
fn sources(document: &Value, copy: &Value) {
    let before = document.to_string();
    let binds = copy["Binds"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let binds = binds.filter_map(|bind| bind.split(':').next().filter(|source| source.starts_with('/')));
    let mounts = copy["Mounts"].as_array().into_iter().flatten().filter_map(|mount| mount["Source"].as_str());
    for source in binds.chain(mounts) {
        let quoted = json!(source).to_string();
        assert!(before.contains(quoted.trim_matches('"')), "{source} is mounted, and was not");
    }
}

/// A clone of the clone has the rights of the first.
fn again(body: &Value, document: &Value) {
    let mut config = body.clone();
    let host = config.as_object_mut().unwrap().remove("HostConfig").unwrap();
    let mut next = document.clone();
    (next["Config"], next["HostConfig"]) = (config, host);
    let Ok(marks) = Marks::next(&next) else { return };
    let Ok(second) = clone_of(&source(&next), &marks, &BTreeMap::new(), Options::default()) else { return };
    for key in RIGHTS {
        assert_eq!(second.body["HostConfig"].get(key), document["HostConfig"].get(key), "HostConfig.{key}");
    }
    assert!(marks.replaces.len() <= 8);
}
