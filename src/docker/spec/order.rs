//! Whether two of a kind can run side by side.

use std::collections::BTreeMap;

use serde_json::Value;

use super::json::{Original, at, entries, is_empty, text};
use super::{networks, ports};

/// Why the old container has to be stopped before the new one starts, one reason each; none: they can run side by side.
///
/// `drivers` names the driver of each of its networks. `shareable`: the operator says that its writable volumes may have two users
/// (`remora.heal.shareable`). That others depend on it, or that there is no memory for two, is not in its document.
#[must_use]
pub fn stop_first_reasons(container: &Value, drivers: &BTreeMap<String, String>, shareable: bool) -> Vec<String> {
    let Ok(original) = Original::read(container) else {
        return vec!["the engine's document about it cannot be read".to_owned()];
    };
    let mut reasons = Vec::new();
    if at(at(container, "State"), "Running") == &Value::Bool(false) {
        reasons.push("it does not run, so there is nothing to overlap with".to_owned());
    }
    let is_connectable = networks::is_connectable(&original);
    if is_connectable {
        let mut fixed: Vec<_> = ports::fixed(original.host).collect();
        fixed.sort_unstable();
        fixed.dedup();
        reasons.extend(fixed.iter().map(|port| format!("it has the host's port {port} for itself")));
    }
    for (network, place) in original.networks() {
        let addresses = at(place, "IPAMConfig");
        for address in [text(addresses, "IPv4Address"), text(addresses, "IPv6Address")] {
            if !address.is_empty() {
                reasons.push(format!("it has the address {address} in {network} for itself"));
            }
        }
        // Other machines see these addresses, and remember where they were.
        if let Some(driver) = drivers.get(network).filter(|driver| matches!(driver.as_str(), "macvlan" | "ipvlan")) {
            reasons.push(format!("{network} is a network of the driver {driver}"));
        }
    }
    if let Some(address) = networks::mac_address(&original) {
        reasons.push(format!("it has the hardware address {address} for itself"));
    }
    if original.network_mode() == "host" {
        reasons.push("it uses the host's network".to_owned());
    }
    for (key, what) in [("NetworkMode", "network"), ("PidMode", "processes"), ("IpcMode", "shared memory")] {
        if text(original.host, key).starts_with("container:") {
            reasons.push(format!("it shares the {what} of another container"));
        }
    }
    if !shareable {
        let writable = |mount: &&Value| {
            matches!(text(mount, "Type"), "volume" | "bind") && mount.get("RW") != Some(&Value::Bool(false))
        };
        let targets = original.mounts().iter().filter(writable).map(|mount| text(mount, "Destination"));
        reasons.extend(targets.map(|target| format!("it writes to what is mounted at {target}")));
    }
    for device in entries(original.host, "Devices") {
        reasons.push(format!("it uses the device {}", text(device, "PathOnHost")));
    }
    if !is_empty(at(original.host, "DeviceRequests")) {
        reasons.push("it uses devices such as GPUs".to_owned());
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::super::testing::document;
    use super::*;
    use serde_json::json;

    fn reasons(edit: impl FnOnce(&mut Value)) -> Vec<String> {
        let drivers =
            BTreeMap::from([("lan".to_owned(), "macvlan".to_owned()), ("net".to_owned(), "bridge".to_owned())]);
        stop_first_reasons(&document(edit), &drivers, false)
    }

    #[test]
    fn what_nobody_else_needs_can_run_side_by_side() {
        let free = reasons(|it| {
            it["HostConfig"]["PortBindings"] =
                json!({"80/tcp": [{"HostPort": ""}], "81/tcp": [{"HostPort": "8000-8010"}]});
            it["NetworkSettings"]["Networks"] =
                json!({"net": {"IPAMConfig": {}, "IPAddress": "10.0.0.2", "MacAddress": "02:42:0a:00:00:02"}});
            it["HostConfig"]["PidMode"] = json!("host");
            it["HostConfig"]["IpcMode"] = json!("private");
            it["Mounts"] = json!([{"Type": "volume", "Destination": "/v", "RW": false}, {"Type": "tmpfs", "Destination": "/t", "RW": true}]);
        });
        assert_eq!(free, Vec::<String>::new());
    }

    #[test]
    fn each_reason_is_found_by_itself() {
        type Edit = fn(&mut Value);
        let edits: [(&str, Edit); 13] = [
            ("the host's port 8080", |it| it["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostPort": "8080"}]})),
            ("the address 10.0.0.9 in net", |it| {
                it["NetworkSettings"]["Networks"] = json!({"net": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}}});
            }),
            ("the address fd00::9 in net", |it| {
                it["NetworkSettings"]["Networks"] = json!({"net": {"IPAMConfig": {"IPv6Address": "fd00::9"}}});
            }),
            ("driver macvlan", |it| it["NetworkSettings"]["Networks"] = json!({"lan": {}})),
            ("the hardware address", |it| it["Config"]["MacAddress"] = json!("02:00:00:00:00:01")),
            ("the host's network", |it| it["HostConfig"]["NetworkMode"] = json!("host")),
            ("the network of another", |it| it["HostConfig"]["NetworkMode"] = json!("container:x")),
            ("the processes of another", |it| it["HostConfig"]["PidMode"] = json!("container:x")),
            ("the shared memory of another", |it| it["HostConfig"]["IpcMode"] = json!("container:x")),
            ("mounted at /v", |it| it["Mounts"] = json!([{"Type": "volume", "Destination": "/v", "RW": true}])),
            ("the device /dev/x", |it| it["HostConfig"]["Devices"] = json!([{"PathOnHost": "/dev/x"}])),
            ("such as GPUs", |it| it["HostConfig"]["DeviceRequests"] = json!([{"Count": -1}])),
            ("does not run", |it| it["State"]["Running"] = json!(false)),
        ];
        for (expected, edit) in edits {
            let found = reasons(edit);
            assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
        }
        assert_eq!(stop_first_reasons(&json!({}), &BTreeMap::new(), false).len(), 1);
    }

    #[test]
    fn shared_data_is_the_operators_word() {
        let container = document(|it| it["Mounts"] = json!([{"Type": "bind", "Destination": "/v", "RW": true}]));
        assert_eq!(stop_first_reasons(&container, &BTreeMap::new(), true), Vec::<String>::new());
    }

    #[test]
    fn with_the_hosts_network_published_ports_are_no_reason_of_their_own() {
        let found = reasons(|it| {
            it["HostConfig"]["NetworkMode"] = json!("host");
            it["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostPort": "8080"}]});
        });
        assert_eq!(found.len(), 1);
    }
}
