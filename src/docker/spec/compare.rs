//! Whether a clone has become what it should be: two inspect documents are compared in their common form ([`super::view`]).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::json::{Original, is_empty};
use super::view::{Lens, is_map, keys};
use super::{Options, Unclonable};

/// One field in which a clone is not like its original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where: `HostConfig.Memory`, `Networks.backend.Aliases`.
    pub field: String,
    /// In the original; `None` if it says nothing there, or what it says may be a secret.
    pub original: Option<String>,
    /// In the clone, likewise.
    pub clone: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.original, &self.clone) {
            (None, None) => write!(f, "{} is another one", self.field),
            (original, clone) => {
                let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
                write!(f, "{}: {} became {}", self.field, shown(original), shown(clone))
            }
        }
    }
}

/// In what a clone differs from its original; nothing: it is a faithful one. Both are inspect documents; neither has to run.
///
/// The clone may be one of a later generation. `parents` and `options` are those that it was made with. What every container has of
/// its own (ids, addresses, host names that the engine makes) and what an operation writes is no difference, nor are the spellings of
/// "nothing" (cases 30 and 61).
#[must_use]
pub fn differences(
    original: &Value,
    clone: &Value,
    parents: &BTreeMap<String, String>,
    options: Options,
) -> Vec<Difference> {
    let (one, other) = match (Original::read(original), Original::read(clone)) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(Unclonable::Unreadable { field }), _) | (_, Err(Unclonable::Unreadable { field })) => {
            return vec![Difference { field: field.to_owned(), original: None, clone: None }];
        }
        (Err(_), _) | (_, Err(_)) => return vec![Difference { field: String::new(), original: None, clone: None }],
    };
    let lens = Lens::new(&one, parents, options);
    let mut found = Vec::new();
    compare("", "", false, &lens.view(&one, false), &lens.view(&other, true), &mut found);
    found
}

/// `key` is the last part of `field`. `is_in_map`: it is a name that somebody chose, and one without a value is still one.
fn compare(field: &str, key: &str, is_in_map: bool, one: &Value, other: &Value, found: &mut Vec<Difference>) {
    if one == other || (!is_in_map && is_empty(one) && is_empty(other)) {
        return;
    }
    let is_map = is_in_map || is_map(key);
    let empty = serde_json::Map::new();
    let (members, others) = match (one, other) {
        (Value::Object(one), Value::Object(other)) => (one, other),
        // a member that only one of them has is named, rather than the whole
        (Value::Object(one), nothing) if is_empty(nothing) && !one.is_empty() => (one, &empty),
        (nothing, Value::Object(other)) if is_empty(nothing) && !other.is_empty() => (&empty, other),
        _ => {
            found.push(Difference { field: field.to_owned(), original: shown(field, one), clone: shown(field, other) });
            return;
        }
    };
    for key in keys(members, others) {
        let path = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
        match (members.get(key), others.get(key)) {
            (Some(one), Some(other)) => compare(&path, key, is_map, one, other, found),
            (Some(only), None) | (None, Some(only)) if !is_map && is_empty(only) => {}
            (one, other) => {
                let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
                if !is_map && (one.is_object() || other.is_object()) {
                    compare(&path, key, is_map, one, other, found);
                } else {
                    found.push(Difference { original: shown(&path, one), clone: shown(&path, other), field: path });
                }
            }
        }
    }
}

/// A value for people. Some fields hold secrets, or are where people put them: those are never shown.
fn shown(field: &str, value: &Value) -> Option<String> {
    const LONGEST: usize = 100;
    const SECRET: [&str; 9] = [
        "Args",
        "Path",
        "Config.Env",
        "Config.Cmd",
        "Config.Entrypoint",
        "Config.Healthcheck",
        "Config.Labels",
        "HostConfig.LogConfig",
        "HostConfig.Annotations",
    ];
    let is_secret = SECRET
        .iter()
        .any(|secret| field.strip_prefix(secret).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    // Passwords of network and storage drivers, at any depth.
    let is_secret = is_secret
        || field.split('.').any(|part| ["DriverOpts", "DriverConfig", "StorageOpt", "VolumeOptions"].contains(&part))
        || (["HostConfig.Mounts", "HostConfig.StorageOpt"].contains(&field));
    (!is_secret && !value.is_null()).then(|| value.to_string().chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{SHORT, document, marks, source};
    use super::super::{Volumes, clone_of, label};
    use super::*;
    use serde_json::json;

    const SHORT_CLONE: &str = "0123456789ab";
    const CLONE: &str = "0123456789abdcef0123456789abdcef0123456789abdcef0123456789abdcef";

    /// What an engine would say about a clone of this document.
    fn cloned(document: &Value, options: Options) -> Value {
        let spec = clone_of(&source(document), &marks(document), &BTreeMap::new(), options).unwrap();
        let mut clone = document.clone();
        let mut config = spec.body.clone();
        let host = config.as_object_mut().unwrap().remove("HostConfig").unwrap();
        config.as_object_mut().unwrap().remove("NetworkingConfig").unwrap();
        clone["Id"] = json!(CLONE);
        clone["Name"] = json!(spec.name);
        clone["Config"] = config;
        clone["HostConfig"] = host;
        if clone["Config"]["Hostname"] == "" {
            clone["Config"]["Hostname"] = json!(SHORT_CLONE);
        }
        let mut endpoints = spec.body["NetworkingConfig"]["EndpointsConfig"].clone();
        for (network, endpoint) in &spec.connect {
            endpoints[network] = endpoint.clone();
        }
        for (network, endpoint) in endpoints.as_object_mut().unwrap() {
            endpoint["EndpointID"] = json!("another");
            if network != "bridge" {
                let mut aliases = endpoint.get("Aliases").and_then(Value::as_array).cloned().unwrap_or_default();
                aliases.push(json!(SHORT_CLONE));
                endpoint["Aliases"] = json!(aliases);
            }
        }
        clone["NetworkSettings"]["Networks"] = endpoints;
        clone
    }

    fn rich() -> Value {
        document(|it| {
            it["Config"]["ExposedPorts"] = json!({"80/tcp": {}});
            it["Config"]["Labels"] = json!({"a": "", "b": "2"});
            it["Config"]["Volumes"] = json!({"/data": {}});
            it["Config"]["Healthcheck"] = json!({"Test": ["CMD", "true"], "Interval": 5});
            it["HostConfig"]["RestartPolicy"] = json!({"Name": "always", "MaximumRetryCount": 0});
            it["HostConfig"]["Memory"] = json!(1024);
            it["HostConfig"]["Binds"] = json!(["/a:/b:ro"]);
            it["HostConfig"]["Mounts"] = json!([{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 5}}]);
            it["HostConfig"]["Tmpfs"] = json!({"/run": ""});
            it["HostConfig"]["NetworkMode"] = json!("net-a");
            it["NetworkSettings"]["Networks"] = json!({
                "net-a": {"Aliases": ["db", SHORT], "IPAMConfig": {"IPv4Address": "10.0.0.9"}, "IPAddress": "10.0.0.9"},
                "net-b": {"Aliases": [SHORT], "IPAMConfig": null, "IPAddress": "10.1.0.9"},
            });
            it["Mounts"] = json!([
                {"Type": "volume", "Name": "anon", "Source": "/x", "Destination": "/data", "RW": true},
                {"Type": "bind", "Source": "/a", "Destination": "/b", "RW": false},
                {"Type": "tmpfs", "Source": "", "Destination": "/t", "RW": true},
            ]);
        })
    }

    fn found(original: &Value, clone: &Value) -> Vec<String> {
        differences(original, clone, &BTreeMap::new(), Options::default()).into_iter().map(|it| it.field).collect()
    }

    #[test]
    fn a_faithful_clone_has_no_difference_over_generations() {
        let original = rich();
        let mut last = original.clone();
        for _ in 0..3 {
            let clone = cloned(&last, Options::default());
            assert_eq!(found(&last, &clone), Vec::<String>::new());
            assert_eq!(found(&original, &clone), Vec::<String>::new());
            last = clone;
            last["HostConfig"]["RestartPolicy"] = super::super::restart_policy(&last);
        }
    }

    #[test]
    fn one_changed_field_is_found() {
        type Change = (&'static str, fn(&mut Value));
        let changes: [Change; 26] = [
            ("Image", |it| it["Image"] = json!("sha256:other")),
            ("Path", |it| it["Path"] = json!("other")),
            ("Config.Env", |it| it["Config"]["Env"] = json!(["A=1", "B=2"])),
            ("Config.Cmd", |it| it["Config"]["Cmd"] = json!(null)),
            ("Config.Hostname", |it| it["Config"]["Hostname"] = json!(SHORT)),
            ("Config.Entrypoint", |it| it["Config"]["Entrypoint"] = json!(["/entry"])),
            ("Config.ExposedPorts.80/tcp", |it| it["Config"]["ExposedPorts"] = json!({})),
            ("Config.Volumes./more", |it| it["Config"]["Volumes"]["/more"] = json!({})),
            ("Config.Labels.a", |it| drop(it["Config"]["Labels"].as_object_mut().unwrap().remove("a"))),
            ("Config.Healthcheck.Interval", |it| it["Config"]["Healthcheck"]["Interval"] = json!(6)),
            ("Config.StopTimeout", |it| it["Config"]["StopTimeout"] = json!(0)),
            ("HostConfig.Memory", |it| it["HostConfig"]["Memory"] = json!(0)),
            ("HostConfig.MaskedPaths", |it| it["HostConfig"]["MaskedPaths"] = json!([])),
            ("HostConfig.Binds", |it| it["HostConfig"]["Binds"] = json!(["/a:/b"])),
            ("HostConfig.Tmpfs./run", |it| it["HostConfig"]["Tmpfs"] = json!(null)),
            ("HostConfig.Mounts./t.TmpfsOptions.SizeBytes", |it| {
                it["HostConfig"]["Mounts"][0]["TmpfsOptions"] = json!({"SizeBytes": 6});
            }),
            ("HostConfig.NetworkMode", |it| it["HostConfig"]["NetworkMode"] = json!("net-b")),
            ("HostConfig.RestartPolicy.Name", |it| it["HostConfig"]["RestartPolicy"]["Name"] = json!("on-failure")),
            ("HostConfig.Init", |it| it["HostConfig"]["Init"] = json!(false)),
            ("HostConfig.OfTheFuture", |it| it["HostConfig"]["OfTheFuture"] = json!(1)),
            ("Networks.net-a.Aliases", |it| it["NetworkSettings"]["Networks"]["net-a"]["Aliases"] = json!(["x"])),
            ("Networks.net-a.IPAMConfig.IPv4Address", |it| {
                it["NetworkSettings"]["Networks"]["net-a"]["IPAMConfig"] = json!({});
            }),
            ("Networks.net-b.Connected", |it| {
                drop(it["NetworkSettings"]["Networks"].as_object_mut().unwrap().remove("net-b"));
            }),
            ("Mounts./data.What", |it| it["Mounts"][0]["Name"] = json!("fresh")),
            ("Mounts./b.RW", |it| it["Mounts"][1]["RW"] = json!(true)),
            ("HostConfig.PortBindings.80/tcp", |it| it["HostConfig"]["PortBindings"] = json!({"80/tcp": []})),
        ];
        let original = rich();
        for (field, change) in changes {
            let mut clone = cloned(&original, Options::default());
            change(&mut clone);
            assert_eq!(found(&original, &clone), [field]);
        }
        assert_eq!(found(&original, &json!({})), ["Config"]);
    }

    #[test]
    fn case_59_null_and_none_are_different_wishes() {
        let none = document(|it| it["HostConfig"]["MaskedPaths"] = json!([]));
        let null = document(|it| it["HostConfig"]["MaskedPaths"] = json!(null));
        assert_eq!(found(&none, &null), ["HostConfig.MaskedPaths"]);
    }

    #[test]
    fn cases_30_and_61_spellings_of_nothing_are_alike() {
        let one = document(|it| {
            it["HostConfig"]["Dns"] = json!([]);
            it["HostConfig"]["RestartPolicy"] = json!({"Name": "", "MaximumRetryCount": 0});
            it["NetworkSettings"]["Networks"]["bridge"]["IPAMConfig"] = json!({});
        });
        let other = document(|it| {
            it["HostConfig"]["Dns"] = json!(null);
            it["HostConfig"]["RestartPolicy"] = json!({"Name": "no"});
        });
        assert!(found(&one, &other).is_empty());
        assert!(found(&other, &one).is_empty());
    }

    #[test]
    fn options_and_parents_are_expected() {
        let pinned = Options { pin_ports: true, ..Options::default() };
        let random = document(|it| {
            it["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]});
            it["NetworkSettings"]["Ports"] = json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}]});
        });
        let clone = cloned(&random, pinned);
        assert_eq!(differences(&random, &clone, &BTreeMap::new(), pinned), []);
        assert_eq!(found(&random, &clone), ["HostConfig.PortBindings.80/tcp"]);

        let fresh = Options { volumes: Volumes::Fresh, ..Options::default() };
        let original = rich();
        let mut clone = cloned(&original, fresh);
        clone["Mounts"][0]["Name"] = json!("another");
        assert_eq!(differences(&original, &clone, &BTreeMap::new(), fresh), []);
        clone["Mounts"] = json!([]);
        assert!(!differences(&original, &clone, &BTreeMap::new(), fresh).is_empty(), "new, but there");

        let child = document(|it| it["HostConfig"]["NetworkMode"] = json!("container:old"));
        let moved = document(|it| it["HostConfig"]["NetworkMode"] = json!("container:new"));
        let parents = BTreeMap::from([("old".to_owned(), "new".to_owned())]);
        assert_eq!(differences(&child, &moved, &parents, Options::default()), []);
        assert_eq!(found(&child, &moved), ["HostConfig.NetworkMode"]);
    }

    #[test]
    fn a_difference_is_told_without_secrets() {
        let one = document(|it| it["HostConfig"]["Memory"] = json!(5));
        let other = document(|it| {
            it["Config"]["Env"] = json!(["PASSWORD=canary"]);
            it["Config"]["Labels"] = json!({"token": "canary", label::OP: "x"});
            it["HostConfig"]["LogConfig"] = json!({"Type": "splunk", "Config": {"splunk-token": "canary"}});
            it["HostConfig"]["StorageOpt"] = json!({"key": "canary"});
            it["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Target": "/t", "VolumeOptions":
                {"DriverConfig": {"Name": "local", "Options": {"o": "username=u,password=canary"}}}}]);
            it["NetworkSettings"]["Networks"]["bridge"]["DriverOpts"] = json!({"key": "canary"});
        });
        let found = differences(&one, &other, &BTreeMap::new(), Options::default());
        let text = format!("{found:?} {}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        assert!(!text.contains("canary") && text.contains("HostConfig.Memory: 5 became nothing"), "{text}");
        assert!(text.contains("Config.Env is another one"), "{text}");
    }
}
