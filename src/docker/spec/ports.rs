//! What is exposed and published.

use serde_json::{Map, Value, json};

use super::json::{Original, at, entries, is_empty, members, text};

/// Corrects the ports in copies of `Config` and `HostConfig`.
pub(super) fn correct(
    original: &Original<'_>,
    pin: bool,
    config: &mut Map<String, Value>,
    host: &mut Map<String, Value>,
    warnings: &mut Vec<String>,
) {
    if original.network_parent().is_some() {
        host.insert("PublishAllPorts".to_owned(), json!(false));
        // Case 6: the image's ports show up here, and the engine refuses to be told them: the ports are the parent's.
        for (section, key) in [(config, "ExposedPorts"), (host, "PortBindings")] {
            if section.get(key).is_some_and(|ports| !is_empty(ports)) {
                section.remove(key);
            }
        }
    } else if pin {
        let observed = at(original.document, "NetworkSettings");
        if members(observed, "Ports").next().is_none() {
            warnings.push("its random ports cannot be kept: it does not run, and has none".to_owned());
        }
        let bindings = pinned(original);
        host.insert("PortBindings".to_owned(), Value::Object(bindings));
    }
}

/// Case 52: the bindings, with the numbers that the engine has chosen where none was asked for.
pub(super) fn pinned(original: &Original<'_>) -> Map<String, Value> {
    let mut bindings = original.host.get("PortBindings").map(Original::copy).unwrap_or_default();
    let settings = at(original.document, "NetworkSettings");
    for (port, observed) in members(settings, "Ports") {
        let observed = observed.as_array().map_or(&[][..], Vec::as_slice);
        if observed.is_empty() {
            continue;
        }
        if let Some(asked) = bindings.get_mut(port).and_then(Value::as_array_mut).filter(|asked| !asked.is_empty()) {
            pin_asked(asked, observed);
        } else {
            // published by -P; the address is left to the engine again
            let number = observed.iter().map(|binding| text(binding, "HostPort")).find(|number| !number.is_empty());
            bindings.insert(port.clone(), json!([{"HostIp": "", "HostPort": number.unwrap_or_default()}]));
        }
    }
    bindings
}

fn pin_asked(asked: &mut [Value], observed: &[Value]) {
    // Numbers that stand for another entry of the same port are not taken twice.
    let mut taken: Vec<String> =
        asked.iter().filter(|it| !is_random(it)).map(|it| text(it, "HostPort").to_owned()).collect();
    for binding in asked.iter_mut().filter(|binding| is_random(binding)) {
        let address = text(binding, "HostIp").to_owned();
        let is_its = |it: &&Value| {
            let at = text(it, "HostIp");
            let number = text(it, "HostPort");
            let same = at == address || (address.is_empty() && matches!(at, "0.0.0.0" | "::"));
            same && !number.is_empty() && !taken.iter().any(|taken| taken == number)
        };
        let Some(number) = observed.iter().find(is_its).map(|it| text(it, "HostPort").to_owned()) else { continue };
        taken.push(number.clone());
        if let Some(binding) = binding.as_object_mut() {
            binding.insert("HostPort".to_owned(), json!(number));
        }
    }
}

/// Whether the engine chooses the number: none, 0, or (case 53) a range.
fn is_random(binding: &Value) -> bool {
    let number = text(binding, "HostPort");
    number.is_empty() || number == "0" || number.contains('-')
}

/// The ports of the host that nobody else can have while this container runs.
pub(super) fn fixed(host: &Value) -> impl Iterator<Item = &str> {
    members(host, "PortBindings").flat_map(|(port, _)| entries(at(host, "PortBindings"), port)).filter_map(|binding| {
        let number = text(binding, "HostPort");
        // A range of one number is that number.
        let single = number.split_once('-').map_or(number, |(first, last)| if first == last { first } else { "" });
        (!single.is_empty() && single != "0").then_some(single)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::document;
    use super::*;

    fn corrected(pin: bool, edit: impl FnOnce(&mut Value)) -> (Map<String, Value>, Map<String, Value>, Vec<String>) {
        let document = document(edit);
        let original = Original::read(&document).unwrap();
        let (mut config, mut host) = (Original::copy(original.config), Original::copy(original.host));
        let mut warnings = Vec::new();
        correct(&original, pin, &mut config, &mut host, &mut warnings);
        (config, host, warnings)
    }

    #[test]
    fn case_6_ports_of_a_shared_network_are_the_parents() {
        let (config, host, _) = corrected(true, |it| {
            it["HostConfig"]["NetworkMode"] = json!("container:abc");
            it["HostConfig"]["PublishAllPorts"] = json!(true);
            it["HostConfig"]["PortBindings"] = json!({"80/tcp": []});
            it["Config"]["ExposedPorts"] = json!({"80/tcp": {}});
        });
        assert!(!config.contains_key("ExposedPorts") && !host.contains_key("PortBindings"));
        assert_eq!(host["PublishAllPorts"], false);
    }

    #[test]
    fn cases_52_and_53_ports_are_sent_as_they_were_asked_for() {
        let asked =
            json!({"80/tcp": [{"HostIp": "", "HostPort": ""}], "81/tcp": [{"HostIp": "", "HostPort": "8000-8010"}]});
        let (_, host, _) = corrected(false, |it| it["HostConfig"]["PortBindings"] = asked.clone());
        assert_eq!(host["PortBindings"], asked);
    }

    #[test]
    fn case_52_random_ports_are_pinned_on_demand() {
        let (_, host, warnings) = corrected(true, |it| {
            it["HostConfig"]["PublishAllPorts"] = json!(true);
            it["HostConfig"]["PortBindings"] = json!({
                "80/tcp": [{"HostIp": "", "HostPort": ""}, {"HostIp": "127.0.0.1", "HostPort": "0"}, {"HostIp": "", "HostPort": "80"}],
                "81/tcp": [{"HostIp": "", "HostPort": ""}, {"HostIp": "", "HostPort": ""}],
            });
            it["NetworkSettings"]["Ports"] = json!({
                "80/tcp": [
                    {"HostIp": "0.0.0.0", "HostPort": "80"}, {"HostIp": "0.0.0.0", "HostPort": "32768"},
                    {"HostIp": "::", "HostPort": "32768"}, {"HostIp": "127.0.0.1", "HostPort": "32769"},
                ],
                "81/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32770"}, {"HostIp": "0.0.0.0", "HostPort": "32771"}],
                "82/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32772"}],
                "83/tcp": null,
            });
        });
        let expected = json!({
            "80/tcp": [{"HostIp": "", "HostPort": "32768"}, {"HostIp": "127.0.0.1", "HostPort": "32769"}, {"HostIp": "", "HostPort": "80"}],
            "81/tcp": [{"HostIp": "", "HostPort": "32770"}, {"HostIp": "", "HostPort": "32771"}],
            "82/tcp": [{"HostIp": "", "HostPort": "32772"}],
        });
        assert_eq!((&host["PortBindings"], warnings.len()), (&expected, 0));
        assert_eq!(corrected(true, |_| {}).2.len(), 1, "one that does not run has no ports to keep");
    }

    #[test]
    fn fixed_ports_are_single_numbers() {
        let host = json!({"PortBindings": {
            "80/tcp": [{"HostPort": "80"}, {"HostPort": ""}, {"HostPort": "0"}], "81/tcp": null,
            "82/tcp": [{"HostPort": "8000-8010"}, {"HostPort": "9000-9000"}],
        }});
        assert_eq!(fixed(&host).collect::<Vec<_>>(), ["80", "9000"]);
    }
}
