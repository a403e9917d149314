//! Places in networks, shared namespaces, and links.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::json::{Original, at, entries, is_empty, text};
use super::{ApiVersion, Unclonable, label};

/// What the engine says about a place in a network, and nobody can ask for. What is not in this list travels: a field that this
/// version does not know is rather a wish than an observation, and the engine ignores what it does not know.
const OBSERVED: [&str; 10] = [
    "NetworkID",
    "EndpointID",
    "Gateway",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "MacAddress",
    "DNSNames",
];

/// Where a clone is connected to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Places {
    /// `NetworkMode`, where it has to be another one.
    pub mode: Option<String>,
    /// `NetworkingConfig.EndpointsConfig` of the create call.
    pub first: Map<String, Value>,
    /// The others, to be connected after it.
    pub later: Vec<(String, Value)>,
}

/// Whether a network's name is that of one that people made: only there are aliases and addresses of one's own.
fn is_user_defined(network: &str) -> bool {
    !matches!(network, "" | "default" | "bridge" | "host" | "none")
}

/// The network that the container is created in: its name and place (cases 33 to 35).
pub(super) fn primary<'a>(original: &Original<'a>) -> Option<(&'a String, &'a Value)> {
    /// Fewer digits than these are a name.
    const SHORTEST_ID: usize = 12;
    let mode = original.network_mode();
    let name = if is_user_defined(mode) { mode } else { "bridge" };
    let has_id = |place: &Value| mode.len() >= SHORTEST_ID && text(place, "NetworkID").starts_with(mode);
    original
        .networks()
        .find(|(network, _)| *network == name)
        .or_else(|| original.networks().find(|(_, place)| has_id(place)))
        // Case 34: it was taken out of the network that it was made in. It must not come back there.
        .or_else(|| original.networks().next())
}

/// Whether it has a network stack of its own that can be connected to something.
pub(super) fn is_connectable(original: &Original<'_>) -> bool {
    let is_off = original.config.get("NetworkDisabled").and_then(Value::as_bool).unwrap_or(false);
    !(is_off || original.network_parent().is_some() || matches!(original.network_mode(), "host" | "none"))
}

/// Where the clone has to be connected to.
pub(super) fn places(original: &Original<'_>, api: ApiVersion) -> Result<Places, Unclonable> {
    if !is_connectable(original) {
        return Ok(Places::default());
    }
    let Some((first, place)) = primary(original) else { return Err(Unclonable::NoNetwork) };
    let mut endpoint = wish(original, first, place);
    if api >= ApiVersion::ALL_ENDPOINTS
        && let Some(address) = mac_address(original)
    {
        endpoint.insert("MacAddress".to_owned(), json!(address));
    }
    let mode = original.network_mode();
    let keeps_mode = mode == first || (!is_user_defined(mode) && first == "bridge");
    let mut places = Places { mode: (!keeps_mode).then(|| first.clone()), ..Places::default() };
    places.first.insert(first.clone(), Value::Object(endpoint));
    for (network, place) in original.networks().filter(|(network, _)| *network != first) {
        let endpoint = Value::Object(wish(original, network, place));
        if api >= ApiVersion::ALL_ENDPOINTS {
            // Case 32: one call, in which everything is checked at once.
            places.first.insert(network.clone(), endpoint);
        } else {
            // Case 31: older engines take one network only.
            places.later.push((network.clone(), endpoint));
        }
    }
    Ok(places)
}

/// What somebody asked for of a place in a network (cases 36 to 42).
pub(super) fn wish(original: &Original<'_>, network: &str, place: &Value) -> Map<String, Value> {
    let mut wish = Original::copy(place);
    wish.retain(|key, _| !OBSERVED.contains(&key.as_str()));
    let aliases = aliases(original, network, place);
    if aliases.is_empty() {
        wish.remove("Aliases");
    } else {
        wish.insert("Aliases".to_owned(), json!(aliases));
    }
    wish
}

/// The aliases that somebody asked for. The engine adds the short id by itself, which is the host name too unless that was given.
pub(super) fn aliases<'a>(original: &Original<'a>, network: &str, place: &'a Value) -> Vec<&'a str> {
    if !is_user_defined(network) {
        return Vec::new(); // case 37
    }
    let own = original.short_id();
    entries(place, "Aliases").iter().filter_map(Value::as_str).filter(|alias| *alias != own).collect()
}

/// The hardware address that somebody asked for. Cases 44 to 46: up to API 1.51 the engine tells it apart from the one that it has
/// made itself; from then on only the operator's label does.
pub(super) fn mac_address<'a>(original: &Original<'a>) -> Option<&'a str> {
    let configured = text(original.config, "MacAddress");
    let address = if configured.is_empty() { original.label(label::MAC).unwrap_or_default() } else { configured };
    (!address.is_empty()).then_some(address)
}

/// Case 51: whoever shares a namespace with a container that was replaced shares it with that one's successor.
pub(super) fn follow(parents: &BTreeMap<String, String>, host: &mut Map<String, Value>) {
    for key in ["NetworkMode", "PidMode", "IpcMode", "Cgroup"] {
        let successor = host.get(key).and_then(Value::as_str).and_then(|mode| successor(parents, mode));
        if let Some(mode) = successor {
            host.insert(key.to_owned(), json!(mode));
        }
    }
}

/// A mode that names a container which was replaced, with its successor.
pub(super) fn successor(parents: &BTreeMap<String, String>, mode: &str) -> Option<String> {
    let new = parents.get(mode.strip_prefix("container:")?)?;
    Some(format!("container:{new}"))
}

/// Case 49: inspect says `/db:/web/alias`, where people (and the create call) say `db:alias`. In the alphabet's order: inspect has
/// none.
pub(super) fn links(host: &Value) -> Vec<String> {
    let plain = |link: &str| {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        format!("{}:{}", last(target), last(alias))
    };
    let mut links: Vec<_> = entries(host, "Links").iter().filter_map(Value::as_str).map(plain).collect();
    links.sort_unstable();
    links
}

/// Writes the links in a copy of `HostConfig`.
pub(super) fn correct_links(original: &Original<'_>, host: &mut Map<String, Value>) {
    if !is_empty(at(original.host, "Links")) {
        host.insert("Links".to_owned(), json!(links(original.host)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{SHORT, document};
    use super::*;

    const OLD: ApiVersion = ApiVersion { major: 1, minor: 41 };

    fn placed(api: ApiVersion, edit: impl FnOnce(&mut Value)) -> Result<Places, Unclonable> {
        let document = document(edit);
        places(&Original::read(&document).unwrap(), api)
    }

    fn place(id: &str) -> Value {
        json!({"IPAMConfig": null, "Links": null, "Aliases": [SHORT], "NetworkID": id, "EndpointID": "e", "Gateway": "10.0.0.1",
            "IPAddress": "10.0.0.2", "IPPrefixLen": 16, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "MacAddress": "02:42:0a:00:00:02", "DriverOpts": null, "DNSNames": ["web"]})
    }

    fn networks<const N: usize>(mode: &str, names: [&str; N]) -> impl FnOnce(&mut Value) {
        let places: Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), place(&format!("{name}-id-0123456789")))).collect();
        let mode = mode.to_owned();
        move |it| {
            it["HostConfig"]["NetworkMode"] = json!(mode);
            it["NetworkSettings"]["Networks"] = Value::Object(places);
        }
    }

    fn names(places: &Places) -> (Vec<&str>, Vec<&str>) {
        (
            places.first.keys().map(String::as_str).collect(),
            places.later.iter().map(|(name, _)| name.as_str()).collect(),
        )
    }

    #[test]
    fn cases_31_and_33_older_engines_create_in_the_named_network_and_connect_the_others() {
        let places = placed(OLD, networks("net-b", ["net-a", "net-b", "net-c"])).unwrap();
        assert_eq!(names(&places), (vec!["net-b"], vec!["net-a", "net-c"]));
        assert_eq!(places.mode, None);
    }

    #[test]
    fn case_32_newer_engines_take_all_of_them_at_once() {
        let places = placed(ApiVersion::ALL_ENDPOINTS, networks("net-b", ["net-a", "net-b"])).unwrap();
        assert_eq!(names(&places), (vec!["net-a", "net-b"], vec![]));
    }

    #[test]
    fn case_34_a_network_that_was_left_is_not_joined_again() {
        let places = placed(OLD, networks("gone", ["net-b", "net-a"])).unwrap();
        assert_eq!((names(&places), places.mode.as_deref()), ((vec!["net-a"], vec!["net-b"]), Some("net-a")));
        let places = placed(OLD, networks("default", ["net-a"])).unwrap();
        assert_eq!(places.mode.as_deref(), Some("net-a"));
        assert_eq!(placed(OLD, networks("net-a", [])), Err(Unclonable::NoNetwork));
    }

    #[test]
    fn case_35_the_default_network_is_called_bridge() {
        for mode in ["default", "bridge", ""] {
            let places = placed(OLD, networks(mode, ["bridge", "net-a"])).unwrap();
            assert_eq!((names(&places), places.mode.as_deref()), ((vec!["bridge"], vec!["net-a"]), None), "{mode}");
        }
    }

    #[test]
    fn a_network_given_by_its_id_is_named() {
        let places = placed(OLD, networks("net-b-id-012345", ["net-a", "net-b"])).unwrap();
        assert_eq!((names(&places), places.mode.as_deref()), ((vec!["net-b"], vec!["net-a"]), Some("net-b")));
    }

    #[test]
    fn without_a_stack_of_its_own_nothing_is_connected() {
        for mode in ["host", "none", "container:abc"] {
            assert_eq!(placed(OLD, networks(mode, ["host"])), Ok(Places::default()), "{mode}");
        }
        let disabled = placed(OLD, |it| {
            it["Config"]["NetworkDisabled"] = json!(true);
            it["NetworkSettings"]["Networks"] = json!({});
        });
        assert_eq!(disabled, Ok(Places::default()));
    }

    #[test]
    fn cases_36_and_37_only_aliases_that_were_asked_for_are_sent() {
        let with_aliases = |network: &str, aliases: Value| {
            let network = network.to_owned();
            let places = placed(OLD, |it| {
                networks(&network, [&network])(it);
                it["NetworkSettings"]["Networks"][&network]["Aliases"] = aliases;
            });
            places.unwrap().first[&network].get("Aliases").cloned()
        };
        assert_eq!(with_aliases("net-a", json!(["db", SHORT, "primary"])), Some(json!(["db", "primary"])));
        assert_eq!(with_aliases("net-a", json!([SHORT])), None);
        assert_eq!(with_aliases("net-a", json!(null)), None);
        assert_eq!(with_aliases("bridge", json!(["db"])), None);
    }

    #[test]
    fn cases_38_42_and_43_wishes_are_kept_and_observations_are_not() {
        let places = placed(OLD, |it| {
            networks("net-a", ["net-a"])(it);
            let place = &mut it["NetworkSettings"]["Networks"]["net-a"];
            place["IPAMConfig"] = json!({"IPv4Address": "10.0.0.9", "LinkLocalIPs": ["169.254.1.1"]});
            place["Links"] = json!(["other:alias"]);
            place["DriverOpts"] = json!({"a": "b"});
            place["GwPriority"] = json!(5);
            place["OfTheFuture"] = json!("x");
        });
        let expected = json!({"IPAMConfig": {"IPv4Address": "10.0.0.9", "LinkLocalIPs": ["169.254.1.1"]},
            "Links": ["other:alias"], "DriverOpts": {"a": "b"}, "GwPriority": 5, "OfTheFuture": "x"});
        assert_eq!(places.unwrap().first["net-a"], expected);
        let null = placed(OLD, |it| it["NetworkSettings"]["Networks"] = json!({"bridge": null}));
        assert_eq!(null.unwrap().first["bridge"], json!({}), "an endpoint may be null");
    }

    #[test]
    fn cases_44_to_48_the_hardware_address_is_that_of_the_first_network() {
        let address = |api, edit: &dyn Fn(&mut Value)| {
            let places = placed(api, |it| {
                networks("net-b", ["net-a", "net-b"])(it);
                edit(it);
            })
            .unwrap();
            let all = places.first.iter().filter_map(|(name, it)| Some((name.clone(), it.get("MacAddress")?.clone())));
            all.collect::<Vec<_>>()
        };
        let configured = |it: &mut Value| it["Config"]["MacAddress"] = json!("02:00:00:00:00:01");
        let labelled = |it: &mut Value| it["Config"]["Labels"] = json!({label::MAC: "02:00:00:00:00:01"});
        let expected = vec![("net-b".to_owned(), json!("02:00:00:00:00:01"))];
        assert_eq!(address(OLD, &configured), vec![], "older engines take it in `Config`");
        assert_eq!(address(ApiVersion::ALL_ENDPOINTS, &configured), expected);
        assert_eq!(address(ApiVersion { major: 1, minor: 52 }, &labelled), expected);
        assert_eq!(address(ApiVersion { major: 1, minor: 52 }, &|_| {}), vec![], "one that the engine has made");
    }

    #[test]
    fn case_49_links_are_said_as_people_say_them() {
        let host = json!({"Links": ["/db:/web/primary", "/cache:/web/cache", "plain:name"]});
        assert_eq!(links(&host), ["cache:cache", "db:primary", "plain:name"]);
    }

    #[test]
    fn case_51_shared_namespaces_follow_the_successor() {
        let parents = BTreeMap::from([("old".to_owned(), "new".to_owned())]);
        let mut host =
            Original::copy(&json!({"NetworkMode": "container:old", "PidMode": "container:other", "IpcMode": "host"}));
        follow(&parents, &mut host);
        let expected = json!({"NetworkMode": "container:new", "PidMode": "container:other", "IpcMode": "host"});
        assert_eq!(Value::Object(host), expected);
    }
}
