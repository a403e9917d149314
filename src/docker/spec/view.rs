//! The form in which two inspect documents are compared: what is told in several ways is told in one, and what belongs to the one
//! container only (ids, addresses, the marks of operations) is gone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::clone::{COMPOSE_REPLACE, has_derived_quota};
use super::json::{Original, at, clean, entries, is_empty, text};
use super::mounts::{Origin, origin, volume_name};
use super::{Options, Volumes, identity, is_mark, label, marks, networks, ports};

/// What both documents are seen with.
pub(super) struct Lens<'a> {
    pub parents: &'a BTreeMap<String, String>,
    pub options: Options,
    /// Places of mounts that the clone asks for and the original did not.
    pub adopted: BTreeSet<String>,
    /// Those of them that hold anonymous volumes.
    pub anonymous: BTreeSet<String>,
}

impl<'a> Lens<'a> {
    /// What to see an original and its clone with.
    pub fn new(original: &Original<'_>, parents: &'a BTreeMap<String, String>, options: Options) -> Self {
        let places = |is_it: fn(Origin) -> bool| {
            let mounts = original.mounts().iter().filter(|mount| is_it(origin(original, mount)));
            mounts.map(|mount| clean(text(mount, "Destination")).into_owned()).collect()
        };
        Self {
            parents,
            options,
            adopted: places(|origin| origin != Origin::Asked),
            anonymous: places(|origin| origin == Origin::Anonymous),
        }
    }

    /// One of the two documents.
    pub fn view(&self, document: &Original<'_>, is_clone: bool) -> Value {
        json!({
            "Image": text(document.document, "Image"),
            "Platform": text(document.document, "Platform"),
            "Path": document.document.get("Path"),
            "Args": document.document.get("Args"),
            "Config": config(document),
            "HostConfig": self.host(document, is_clone),
            "Networks": places(document),
            "Mounts": self.mounts(document),
        })
    }

    fn host(&self, document: &Original<'_>, is_clone: bool) -> Value {
        let mut host = Original::copy(document.host);
        host.remove("ContainerIDFile");
        host.remove("VolumesFrom"); // what came from there is seen in `Mounts`
        networks::follow(self.parents, &mut host);
        if networks::is_connectable(document)
            && let Some((first, _)) = networks::primary(document)
        {
            host.insert("NetworkMode".to_owned(), json!(first));
        }
        host.insert("Links".to_owned(), json!(networks::links(document.host)));
        host.insert("RestartPolicy".to_owned(), policy(document, is_clone));
        let binds =
            entries(document.host, "Binds").iter().filter(|bind| bind.as_str().is_none_or(|it| it.contains(':')));
        host.insert("Binds".to_owned(), binds.cloned().collect());
        host.insert("Mounts".to_owned(), self.asked(document));
        if self.options.pin_ports && !is_clone {
            host.insert("PortBindings".to_owned(), Value::Object(ports::pinned(document)));
        }
        if has_derived_quota(document.host) {
            host.remove("CpuPeriod");
            host.remove("CpuQuota");
        }
        // Case 59: null and an empty list are two different wishes here.
        for key in ["MaskedPaths", "ReadonlyPaths"] {
            if host.get(key).is_some_and(Value::is_null) {
                host.insert(key.to_owned(), json!("null"));
            } else if host.get(key).is_some_and(is_empty) {
                host.insert(key.to_owned(), json!("none"));
            }
        }
        Value::Object(host)
    }

    /// Mounts that were asked for in `HostConfig.Mounts`, by place.
    fn asked(&self, document: &Original<'_>) -> Value {
        let asked = entries(document.host, "Mounts").iter().map(|mount| (clean(text(mount, "Target")), mount));
        let own = asked.filter(|(target, _)| !self.adopted.contains(target.as_ref()));
        own.map(|(target, mount)| (target.into_owned(), mount.clone())).collect()
    }

    /// What is mounted, by place.
    fn mounts(&self, document: &Original<'_>) -> Value {
        let seen = document.mounts().iter().map(|mount| {
            let target = clean(text(mount, "Destination"));
            let is_new = self.options.volumes == Volumes::Fresh && self.anonymous.contains(target.as_ref());
            let kind = text(mount, "Type");
            // A volume's source is a path that the engine makes of its name.
            let what = if kind == "volume" { volume_name(mount) } else { text(mount, "Source") };
            let view = json!({
                "Type": kind,
                "What": if is_new { "new" } else { what },
                "RW": mount.get("RW"),
                "Driver": mount.get("Driver"),
                "Propagation": mount.get("Propagation"),
            });
            (target.into_owned(), view)
        });
        seen.collect()
    }
}

fn config(document: &Original<'_>) -> Value {
    let mut config = Original::copy(document.config);
    // How the image was asked for may differ; which one it is is compared.
    config.remove("Image");
    if !identity::has_own_hostname(document, None) {
        config.remove("Hostname");
    }
    if document.network_parent().is_some() {
        config.remove("Domainname");
    }
    if config.get("Entrypoint").is_some_and(|entrypoint| *entrypoint == json!([""])) {
        config.remove("Entrypoint");
    }
    if let Some(labels) = config.get_mut("Labels").and_then(Value::as_object_mut) {
        labels.retain(|key, _| !is_mark(key) && key != COMPOSE_REPLACE);
    }
    Value::Object(config)
}

/// A clone's policy is the one that waits for it, until it has one.
fn policy(document: &Original<'_>, is_clone: bool) -> Value {
    let mut policy = marks::plain(at(document.host, "RestartPolicy"));
    if is_clone && text(&policy, "Name") == "no" && document.label(label::RESTART_POLICY).is_some() {
        policy = marks::restart_policy(document.document);
    }
    if let Some(policy) = policy.as_object_mut() {
        policy.entry("MaximumRetryCount").or_insert(json!(0));
    }
    policy
}

/// Places in networks, as they were asked for.
fn places(document: &Original<'_>) -> Value {
    if !networks::is_connectable(document) {
        return Value::Null;
    }
    let places = document.networks().map(|(network, place)| {
        let mut wish: Map<String, Value> =
            networks::wish(document, network, place).into_iter().filter(|(_, value)| !is_empty(value)).collect();
        if let Some(aliases) = wish.get_mut("Aliases").and_then(Value::as_array_mut) {
            aliases.sort_unstable_by(|one, other| one.as_str().cmp(&other.as_str()));
            aliases.dedup();
        }
        // a place without wishes is a place all the same
        wish.insert("Connected".to_owned(), json!(true));
        (network.clone(), Value::Object(wish))
    });
    places.collect()
}

/// Whether the members of this field are names that people chose, so that one without a value is still one.
pub(super) fn is_map(field: &str) -> bool {
    const MAPS: [&str; 10] = [
        "ExposedPorts",
        "Volumes",
        "Labels",
        "PortBindings",
        "Tmpfs",
        "Sysctls",
        "Annotations",
        "StorageOpt",
        "DriverOpts",
        "AuxiliaryAddresses",
    ];
    MAPS.contains(&field)
}

/// Members of both objects, without doubles.
pub(super) fn keys<'a>(one: &'a Map<String, Value>, other: &'a Map<String, Value>) -> BTreeSet<&'a String> {
    one.keys().chain(other.keys()).collect()
}
