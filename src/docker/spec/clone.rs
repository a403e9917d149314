//! Puts a clone together.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::json::{Original, at, text};
use super::{
    ApiVersion, CloneSpec, Marks, Options, Source, Unclonable, identity, label, marks, mounts, networks, ports,
};

/// Label by which an attached `docker compose up` sees that a container takes another's place, and follows its log.
pub(super) const COMPOSE_REPLACE: &str = "com.docker.compose.replace";

/// The calls that make a container like this one. `parents` names, for each container that was replaced, its successor (full ids);
/// a clone that shares a namespace with the first one is made to share it with the second.
///
/// # Errors
/// When no call can express it.
pub fn clone_of(
    source: &Source<'_>,
    marks: &Marks,
    parents: &BTreeMap<String, String>,
    options: Options,
) -> Result<CloneSpec, Unclonable> {
    let original = Original::read(source.container)?;
    refuse(&original)?;
    let mut warnings = Vec::new();
    if source.image.is_none() {
        warnings
            .push("its image is not on this node any more: the engine will hardly make another container".to_owned());
    }
    let (mut config, mut host) = (Original::copy(original.config), Original::copy(original.host));

    identity::names(&original, source.node, &mut config);
    identity::entrypoint(source.image, &mut config);
    let image = identity::image(source, &mut config);
    ports::correct(&original, options.pin_ports, &mut config, &mut host, &mut warnings);
    let anonymous = mounts::adopt(&original, options.volumes, &mut host, &mut warnings)?;
    let places = networks::places(&original, source.api)?;
    if let Some(mode) = places.mode {
        host.insert("NetworkMode".to_owned(), json!(mode));
    }
    networks::follow(parents, &mut host);
    networks::correct_links(&original, &mut host);
    if source.api >= ApiVersion::ALL_ENDPOINTS {
        // Case 45: it went to the network's place.
        config.remove("MacAddress");
    }
    // Case 30: until it is settled nobody but its operation starts it; the policy waits in a label.
    let policy = marks::plain(at(original.host, "RestartPolicy"));
    host.insert("RestartPolicy".to_owned(), json!({"Name": "no"}));
    // Case 66: a file of the client that made the original.
    host.insert("ContainerIDFile".to_owned(), json!(""));
    if has_derived_quota(original.host) {
        host.insert("CpuPeriod".to_owned(), json!(0));
        host.insert("CpuQuota".to_owned(), json!(0));
    }

    let mut labels = config.get("Labels").map(Original::copy).unwrap_or_default();
    marks.write(&mut labels);
    labels.insert(label::RESTART_POLICY.to_owned(), json!(policy.to_string()));
    labels.insert(label::IMAGE.to_owned(), json!(image));
    if !anonymous.is_empty() {
        labels.insert(label::ANONYMOUS.to_owned(), json!(anonymous.join(",")));
    }
    if let Some(replaced) = compose_name(&labels, &marks.name) {
        labels.insert(COMPOSE_REPLACE.to_owned(), json!(replaced));
    }
    config.insert("Labels".to_owned(), Value::Object(labels));

    let mut body = config;
    body.insert("HostConfig".to_owned(), Value::Object(host));
    body.insert("NetworkingConfig".to_owned(), json!({"EndpointsConfig": places.first}));
    Ok(CloneSpec {
        name: marks.staged_name(),
        body: Value::Object(body),
        connect: places.later,
        platform: identity::platform(source.container),
        warnings,
    })
}

/// Cases 28, 76 and 78: what no create call gives.
fn refuse(original: &Original<'_>) -> Result<(), Unclonable> {
    let platform = text(original.document, "Platform");
    if !platform.is_empty() && platform != "linux" {
        return Err(Unclonable::Platform { platform: platform.to_owned() });
    }
    if original.host.get("AutoRemove").and_then(Value::as_bool).unwrap_or(false) {
        return Err(Unclonable::AutoRemove);
    }
    if original.label("com.docker.swarm.task.id").is_some() {
        return Err(Unclonable::Swarm);
    }
    Ok(())
}

/// Case 63: some engines show one limit in two ways, and take only one of them.
pub(super) fn has_derived_quota(host: &Value) -> bool {
    let is_set = |key: &str| host.get(key).and_then(Value::as_i64).unwrap_or(0) != 0;
    is_set("NanoCpus") && (is_set("CpuPeriod") || is_set("CpuQuota"))
}

/// What compose calls a container whose place is taken: its own name for it without the project, or the one that the file gives.
fn compose_name(labels: &Map<String, Value>, name: &str) -> Option<String> {
    let label = |key: &str| labels.get(&format!("com.docker.compose.{key}")).and_then(Value::as_str);
    let (project, service) = (label("project")?, label("service")?);
    let number = label("container-number").unwrap_or("1");
    let is_own = ['-', '_'].iter().any(|dash| name == format!("{project}{dash}{service}{dash}{number}"));
    Some(if is_own { format!("{service}-{number}") } else { name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{IMAGE_ID, document, marks, source};
    use super::*;

    fn cloned(edit: impl FnOnce(&mut Value)) -> Result<CloneSpec, Unclonable> {
        let document = document(edit);
        clone_of(&source(&document), &marks(&document), &BTreeMap::new(), Options::default())
    }

    // cases 8 to 11, 55 to 62, 64, 65, 67, 73: the raw document travels
    #[test]
    fn everything_else_is_sent_as_it_was_inspected() {
        let config = json!({
            "Hostname": "db", "Domainname": "example", "User": "1:2", "AttachStdin": true, "Tty": true, "OpenStdin": true, "StdinOnce": true,
            "Env": ["B=2=3", "A=1", "A=1", "UNSET"], "Cmd": null, "Entrypoint": ["/entry"], "Image": "web:1",
            "Healthcheck": {"Test": ["NONE"], "StartInterval": 5}, "ArgsEscaped": true, "Volumes": null, "WorkingDir": "/w",
            "OnBuild": null, "StopSignal": "SIGQUIT", "StopTimeout": 0, "Shell": ["sh"], "OfTheFuture": {"x": [1, null]},
            "MacAddress": "02:00:00:00:00:01",
        });
        let host = json!({
            "NetworkMode": "bridge", "Binds": ["/a:/b:z"], "Tmpfs": {"/t": ""}, "MaskedPaths": null, "ReadonlyPaths": [], "Dns": [],
            "DnsSearch": null, "SecurityOpt": ["label=disable"], "Devices": [{"PathOnHost": "/dev/null"}], "DeviceRequests": [{"Count": -1}],
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "Sysctls": {"net.a": "1"}, "Init": null, "PidsLimit": null,
            "MemorySwap": -1, "MemorySwappiness": null, "OomKillDisable": false, "KernelMemory": 0, "Annotations": {"a": "b"},
            "StorageOpt": {"size": "1G"}, "LogConfig": {"Type": "local", "Config": {}}, "OfTheFuture": 7,
        });
        let spec = cloned(|it| {
            it["Config"] = config.clone();
            it["HostConfig"] = host.clone();
        })
        .unwrap();
        for (key, value) in config.as_object().unwrap() {
            assert_eq!(&spec.body[key], value, "{key}");
        }
        for (key, value) in host.as_object().unwrap() {
            assert_eq!(&spec.body["HostConfig"][key], value, "{key}");
        }
        let added: Vec<_> =
            spec.body["HostConfig"].as_object().unwrap().keys().filter(|key| host.get(key).is_none()).collect();
        assert_eq!(added, ["ContainerIDFile", "RestartPolicy"]);
        assert_eq!((spec.platform, spec.warnings), (None, vec![]));
    }

    #[test]
    fn cases_30_and_66_the_policy_waits_in_a_label() {
        let spec = cloned(|it| {
            it["HostConfig"]["RestartPolicy"] = json!({"Name": "on-failure", "MaximumRetryCount": 3});
            it["HostConfig"]["ContainerIDFile"] = json!("/tmp/cid");
        })
        .unwrap();
        assert_eq!(spec.body["HostConfig"]["RestartPolicy"], json!({"Name": "no"}));
        assert_eq!(spec.body["HostConfig"]["ContainerIDFile"], "");
        let written: Value =
            serde_json::from_str(spec.body["Labels"][label::RESTART_POLICY].as_str().unwrap()).unwrap();
        assert_eq!(written, json!({"Name": "on-failure", "MaximumRetryCount": 3}));
        assert_eq!(marks::restart_policy(&json!({"Name": "/web.new-1a2b3c4d", "Config": spec.body})), written);
    }

    #[test]
    fn case_11_labels_of_others_are_kept_and_marks_are_rewritten() {
        let spec = cloned(|it| {
            it["Config"]["Labels"] = json!({
                "com.docker.compose.config-hash": "abc", "remora.heal.order": "stop-first", label::OP: "00000000", label::CAUSE: "former",
                label::ANONYMOUS: "gone", label::GENERATION: "4",
            });
        })
        .unwrap();
        let labels = &spec.body["Labels"];
        assert_eq!(labels["com.docker.compose.config-hash"], "abc");
        assert_eq!(labels["remora.heal.order"], "stop-first", "the operator's, not the operation's");
        assert_eq!((&labels[label::CAUSE], &labels[label::GENERATION]), (&json!("unhealthy"), &json!("5")));
        assert_eq!(labels[label::IMAGE], "web:1");
        assert!(labels.get(label::ANONYMOUS).is_none());
        assert!(labels.get(COMPOSE_REPLACE).is_none(), "not compose's");
        assert_eq!(spec.name, format!("web.new-{}", labels[label::OP].as_str().unwrap()));
    }

    #[test]
    fn compose_is_told_in_its_own_words() {
        let replaced = |name: &str| {
            let spec = cloned(|it| {
                it["Name"] = json!(format!("/{name}"));
                it["Config"]["Labels"] = json!({
                    "com.docker.compose.project": "shop", "com.docker.compose.service": "api", "com.docker.compose.container-number": "2",
                });
            });
            spec.unwrap().body["Labels"][COMPOSE_REPLACE].clone()
        };
        assert_eq!(replaced("shop-api-2"), "api-2");
        assert_eq!(replaced("shop_api_2"), "api-2");
        assert_eq!(replaced("the-api"), "the-api");
    }

    #[test]
    fn cases_28_76_and_78_what_cannot_be_made_is_refused_in_one_sentence() {
        let refused = |edit: &dyn Fn(&mut Value)| cloned(edit).unwrap_err();
        assert_eq!(refused(&|it| it["HostConfig"]["AutoRemove"] = json!(true)), Unclonable::AutoRemove);
        assert_eq!(refused(&|it| it["Config"]["Labels"] = json!({"com.docker.swarm.task.id": "x"})), Unclonable::Swarm);
        assert!(matches!(refused(&|it| it["Platform"] = json!("windows")), Unclonable::Platform { .. }));
        for field in ["Id", "Config", "HostConfig"] {
            let unreadable = refused(&|it| it[field] = json!(null));
            assert_eq!(unreadable, Unclonable::Unreadable { field });
        }
    }

    #[test]
    fn case_14_an_image_that_is_gone_is_told() {
        let document = document(|_| {});
        let source = Source { image: None, tag: None, ..source(&document) };
        let spec = clone_of(&source, &marks(&document), &BTreeMap::new(), Options::default()).unwrap();
        assert_eq!((&spec.body["Image"], spec.warnings.len()), (&json!(IMAGE_ID), 1));
    }

    #[test]
    fn case_63_one_limit_is_said_once() {
        let quota = |nano: u64| {
            let spec = cloned(|it| {
                it["HostConfig"]["NanoCpus"] = json!(nano);
                it["HostConfig"]["CpuPeriod"] = json!(100_000);
                it["HostConfig"]["CpuQuota"] = json!(50_000);
            });
            spec.unwrap().body["HostConfig"]["CpuQuota"].clone()
        };
        assert_eq!((quota(0), quota(500_000_000)), (json!(50_000), json!(0)));
    }

    #[test]
    fn cases_45_and_51_the_parts_come_together() {
        let document = document(|it| {
            it["Config"]["MacAddress"] = json!("02:00:00:00:00:01");
            it["HostConfig"]["PidMode"] = json!("container:old");
        });
        let parents = BTreeMap::from([("old".to_owned(), "new".to_owned())]);
        let source = Source { api: "1.47".parse().unwrap(), ..source(&document) };
        let spec = clone_of(&source, &marks(&document), &parents, Options::default()).unwrap();
        assert!(spec.body.get("MacAddress").is_none());
        assert_eq!(spec.body["NetworkingConfig"]["EndpointsConfig"]["bridge"]["MacAddress"], "02:00:00:00:00:01");
        assert_eq!(spec.body["HostConfig"]["PidMode"], "container:new");
    }
}
