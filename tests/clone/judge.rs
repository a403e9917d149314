//! The strict judge: every member of `Config`, `HostConfig`, the mounts and the places in networks is the same, except for what is
//! listed here, each with its reason. It uses nothing of the `remora` crate.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// The labels that an operation may write, and the one by which compose sees a replacement.
const LABELS: [&str; 12] = [
    "remora.heal.op",
    "remora.heal.name",
    "remora.heal.replaces",
    "remora.heal.generation",
    "remora.heal.op-order",
    "remora.heal.cause",
    "remora.heal.since",
    "remora.heal.by",
    "remora.heal.restart-policy",
    "remora.heal.image",
    "remora.heal.anonymous",
    "com.docker.compose.replace",
];

/// What differs between two inspect documents, except in the fields `may_differ`.
pub fn differences(one: &Value, other: &Value, may_differ: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |field: String, a: &Value, b: &Value| {
        // Equal is wrong here: the old one's id would be the new one's name.
        let is_stale = field == "Config.Hostname" && *a == short_id(one) && *b != short_id(other);
        if (a != b || is_stale) && !may_differ.contains(&field.as_str()) && !is_expected(&field, a, b, one, other) {
            found.push(format!("{field}: {a} is {b}"));
        }
    };
    for field in ["Image", "Path", "Args", "Platform", "Driver", "MountLabel", "AppArmorProfile"] {
        look(field.to_owned(), &one[field], &other[field]);
    }
    for section in ["Config", "HostConfig"] {
        for key in keys(&one[section], &other[section]) {
            // A missing member is none that is null.
            let member = |document: &Value| document[section].get(&key).cloned().unwrap_or_else(|| json!("(missing)"));
            look(format!("{section}.{key}"), &member(one), &member(other));
        }
    }
    let places = |document: &Value| document["NetworkSettings"]["Networks"].clone();
    for network in keys(&places(one), &places(other)) {
        let (a, b) = (places(one)[&network].clone(), places(other)[&network].clone());
        if a.is_null() != b.is_null() {
            look(format!("Networks.{network}"), &a, &b);
            continue;
        }
        for key in ["IPAMConfig", "Links", "DriverOpts"] {
            look(format!("Networks.{network}.{key}"), &a[key], &b[key]);
        }
        look(format!("Networks.{network}.Aliases"), &aliases(one, &a), &aliases(other, &b));
        if !a["IPAMConfig"]["IPv4Address"].is_null() {
            look(format!("Networks.{network}.IPAddress"), &a["IPAddress"], &b["IPAddress"]);
        }
    }
    look("NetworkSettings.Ports".to_owned(), &ports(one), &ports(other));
    look("Mounts".to_owned(), &mounts(one), &mounts(other));
    found
}

/// How many labels, mounts and aliases there are: they must not become more with each generation.
pub fn sizes(document: &Value) -> [usize; 4] {
    let networks = document["NetworkSettings"]["Networks"].as_object();
    let aliases = networks.into_iter().flatten().map(|(_, place)| place["Aliases"].as_array().map_or(0, Vec::len));
    [
        document["Config"]["Labels"].as_object().map_or(0, Map::len),
        document["HostConfig"]["Mounts"].as_array().map_or(0, Vec::len),
        document["Mounts"].as_array().map_or(0, Vec::len),
        aliases.sum(),
    ]
}

fn is_expected(field: &str, a: &Value, b: &Value, one: &Value, other: &Value) -> bool {
    match field {
        // the engine's own choice for each of them
        "Config.Hostname" => *a == short_id(one) && *b == short_id(other),
        "Config.Labels" => plain_labels(a) == plain_labels(b),
        // "" and "no" are the same policy
        "HostConfig.RestartPolicy" => {
            a["Name"] == "" && b["Name"] == "no" && a["MaximumRetryCount"] == b["MaximumRetryCount"]
        }
        // what the engine mounted by itself is asked for by name now
        "HostConfig.Mounts" => are_the_same_mounts(a, b, one),
        "HostConfig.VolumesFrom" => a.is_array() && b.is_null(),
        // in any order
        "HostConfig.Links" => sorted(a) == sorted(b),
        _ => false,
    }
}

fn short_id(document: &Value) -> &str {
    &document["Id"].as_str().unwrap()[..12]
}

fn plain_labels(labels: &Value) -> Value {
    let mut labels = labels.as_object().cloned().unwrap_or_default();
    labels.retain(|key, _| !LABELS.contains(&key.as_str()));
    Value::Object(labels)
}

/// Those that were asked for are, in the same words but for the name of an anonymous volume; further ones ask for what the original
/// had there anyway.
fn are_the_same_mounts(a: &Value, b: &Value, one: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (asked, now) = (list(a), list(b));
    let had = |mount: &Value| {
        let target = mount["Target"].as_str().unwrap();
        let is_it = |seen: &&Value| seen["Destination"] == target.trim_end_matches('/');
        let seen = mounts(one);
        let Some(seen) = seen.as_array().unwrap().iter().find(is_it) else { return false };
        let source = if seen["Type"] == "volume" { &seen["Name"] } else { &seen["Source"] };
        let is_read_only = mount["ReadOnly"].as_bool().unwrap_or(false);
        mount["Type"] == seen["Type"] && mount["Source"] == *source && seen["RW"] == !is_read_only
    };
    now.len() >= asked.len()
        && now.iter().zip(asked.iter().map(Some).chain(std::iter::repeat(None))).all(|(now, asked)| match asked {
            Some(asked) if asked["Source"].is_null() && asked["Type"] == "volume" => {
                let mut words = now.clone();
                words.as_object_mut().unwrap().remove("Source");
                words == *asked && had(now)
            }
            Some(asked) => now == asked,
            None => had(now),
        })
}

/// Without the short id, which is each one's own.
fn aliases(document: &Value, place: &Value) -> Value {
    let short = short_id(document);
    let own = place["Aliases"].as_array().into_iter().flatten();
    own.filter(|alias| **alias != short).cloned().collect()
}

/// Addresses and protocols, and the numbers that were asked for: a random one is another one each time.
fn ports(document: &Value) -> Value {
    let asked = document["HostConfig"]["PortBindings"].to_string();
    let ports = document["NetworkSettings"]["Ports"].as_object().into_iter().flatten();
    let shown = ports.map(|(port, bindings)| {
        let mut bindings = bindings.clone();
        for binding in bindings.as_array_mut().into_iter().flatten() {
            if !asked.contains(&format!("\"HostPort\":{}", binding["HostPort"])) {
                binding["HostPort"] = json!("random");
            }
        }
        (port.clone(), bindings)
    });
    shown.collect()
}

fn mounts(document: &Value) -> Value {
    let mut mounts = document["Mounts"].as_array().cloned().unwrap_or_default();
    for mount in &mut mounts {
        // a letter that says by which way a volume was asked for
        if mount["Type"] == "volume" && matches!(mount["Mode"].as_str(), Some("" | "z")) {
            mount["Mode"] = json!("");
        }
        // Engines of today do not tell the name where a bind without a source made the volume: the folder has it, `…/<name>/_data`.
        if mount["Type"] == "volume" && mount["Name"].is_null() {
            let folder = mount["Source"].as_str().unwrap_or_default().rsplit('/').nth(1).unwrap_or_default();
            mount["Name"] = json!(folder);
        }
    }
    mounts.sort_by_key(|mount| mount["Destination"].to_string());
    Value::Array(mounts)
}

fn sorted(list: &Value) -> Vec<String> {
    let mut texts: Vec<_> = list.as_array().into_iter().flatten().map(ToString::to_string).collect();
    texts.sort();
    texts
}

fn keys(one: &Value, other: &Value) -> BTreeSet<String> {
    let keys = |value: &Value| value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    keys(one).into_iter().chain(keys(other)).collect()
}

#[test]
fn the_judge_sees_what_differs() {
    let one = json!({"Id": "0123456789abcdef", "Config": {"Hostname": "0123456789ab", "Labels": {"a": "1"}, "Cmd": null},
        "HostConfig": {"Dns": [], "Mounts": null, "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}},
        "Mounts": [{"Type": "volume", "Name": "v", "Destination": "/d", "RW": true}],
        "NetworkSettings": {"Networks": {"n": {"Aliases": ["x", "0123456789ab"]}}}});
    let mut other = one.clone();
    other["Id"] = json!("ffffffffffffffff");
    other["Config"]["Hostname"] = json!("ffffffffffff");
    other["Config"]["Labels"]["remora.heal.op"] = json!("00000000");
    other["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Source": "v", "Target": "/d"}]);
    other["HostConfig"]["RestartPolicy"]["Name"] = json!("no");
    other["NetworkSettings"]["Networks"]["n"]["Aliases"] = json!(["x", "ffffffffffff"]);
    assert_eq!(differences(&one, &other, &[]), Vec::<String>::new());
    let changes: [(&str, Value); 8] = [
        ("/Config/Cmd", json!([])),
        ("/Config/Labels/a", json!("2")),
        ("/Config/Hostname", json!("0123456789ab")),
        ("/HostConfig/Dns", json!(null)),
        ("/HostConfig/RestartPolicy/Name", json!("always")),
        ("/HostConfig/Mounts/0/Source", json!("w")),
        ("/Mounts/0/Name", json!("w")),
        ("/NetworkSettings/Networks/n/Aliases", json!(["x", "0123456789ab", "ffffffffffff"])),
    ];
    for (pointer, value) in changes {
        let mut edited = other.clone();
        *edited.pointer_mut(pointer).unwrap() = value;
        assert_eq!(differences(&one, &edited, &[]).len(), 1, "{pointer}");
    }
}
