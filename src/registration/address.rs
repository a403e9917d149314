//! Where an instance is reached: host address with host port, or container address with container port, never mixed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::notes::Notes;
use super::values::quoted;
use crate::config::{Bindings, HostAddress};
use crate::docker::{Binding, Container};

/// Where the node's own address comes from: `remora explain` says below which rule chose it.
const HOST: &str = "the host's address";

/// What is registered as the address: an IP address, or the name of the host where the operator set one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// The host's name.
    Name(String),
}

impl Address {
    /// With a port, as it stands in the target of a probe: `192.0.2.1:80`, `[2001:db8::1]:80`, `host.example.com:80`.
    pub(super) fn with_port(&self, port: u16) -> String {
        match self {
            Self::Ip(ip) => SocketAddr::new(*ip, port).to_string(),
            Self::Name(name) => format!("{name}:{port}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// An address, in the other family too where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// The address to register.
    pub address: Address,
    /// The same instance in the other address family, with the port there if it is another one.
    pub other: Option<(IpAddr, Option<u16>)>,
    /// The setting, label or rule that gave it.
    pub from: String,
}

impl Spot {
    /// One address, and nothing known about the other family.
    fn only(address: IpAddr, from: impl Into<String>) -> Self {
        Self { address: Address::Ip(address), other: None, from: from.into() }
    }

    /// The host by its name, which stands for both families.
    fn named(host: &str) -> Self {
        Self { address: Address::Name(host.to_owned()), other: None, from: HOST.to_owned() }
    }
}

/// An address with a port: what one registration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The address.
    pub spot: Spot,
    /// The port there; 0 for a service without one.
    pub port: u16,
    /// What kind of port that is.
    pub port_from: String,
    /// Whether every port of the container has its own number at this address; otherwise the host forwards some.
    pub is_own: bool,
    /// What tells it from the port's first place; `None` for the first.
    pub binding: Option<(IpAddr, u16)>,
}

/// Why something cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unreachable {
    /// Why.
    pub why: String,
    /// Somebody should mend it; otherwise it is as the container's author wants it.
    pub to_mend: bool,
}

impl Unreachable {
    /// It is as the container's author wants it.
    pub(super) fn by_choice(why: impl Into<String>) -> Self {
        Self { why: why.into(), to_mend: false }
    }

    /// Somebody should mend it.
    pub(super) fn to_mend(why: impl Into<String>) -> Self {
        Self { why: why.into(), to_mend: true }
    }
}

/// Why nobody else could reach this address, if so.
pub(super) fn unfit(address: IpAddr) -> Option<&'static str> {
    let (loopback, link_local) = match address.to_canonical() {
        IpAddr::V4(v4) => (v4.is_loopback(), v4.is_link_local() || v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.is_loopback(), v6.is_unicast_link_local()),
    };
    if address.is_unspecified() {
        Some("no address")
    } else if loopback {
        Some("the host's own loopback address")
    } else if link_local {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// The address of the node itself: IPv4 first.
pub(super) fn host(host: &HostAddress) -> Result<Spot, Unreachable> {
    if let Some(name) = &host.name {
        return Ok(Spot::named(name));
    }
    let v4 = host.v4.map(IpAddr::V4);
    let v6 = host.v6.map(IpAddr::V6);
    match v4.or(v6) {
        // The other family is left out: what the process really listens on is not known to Docker.
        Some(address) => Ok(Spot::only(address, HOST)),
        None => Err(Unreachable::to_mend("the host's address is not known: set REMORA_ADDRESS")),
    }
}

/// The address that the operator lets a label give (`REMORA_USE_IP_FROM_LABEL`), a prefix length cut off.
pub(super) fn from_label(container: &Container, label: Option<&str>, notes: &mut Notes) -> Option<Spot> {
    let label = label?;
    let value = container.labels.get(label)?.trim();
    let text = value.split('/').next().unwrap_or_default();
    let why = match text.parse::<IpAddr>() {
        Err(_) => "is no IP address",
        Ok(address) => match unfit(address) {
            None => {
                let from = format!("label {label} (REMORA_USE_IP_FROM_LABEL)");
                return Some(Spot::only(address.to_canonical(), from));
            }
            Some(why) => why,
        },
    };
    notes.warn(
        label,
        format!("{} is not used: {why}; expected an address that others can reach, such as 10.1.2.3", quoted(value)),
    );
    None
}

/// Where a published port is reached: each distinct address once, in the engine's order. What cannot be reached from
/// elsewhere is told in the second part.
///
/// The host's address stands in for wildcard bindings only: a port that is published on one interface must not be
/// advertised on another.
pub(super) fn published(
    bindings: &[Binding],
    node: &HostAddress,
    label: Option<&Spot>,
    policy: Bindings,
) -> (Vec<Place>, Vec<Unreachable>) {
    let mut places: Vec<Place> = Vec::new();
    let mut refused = Vec::new();
    let pairs = wildcard_pairs(bindings);
    for binding in bindings {
        let host_ip = binding.host_ip.to_canonical();
        let found = if host_ip.is_unspecified() {
            wildcard(pair_of(&pairs, binding), node, label)
        } else {
            let from = format!("published on {host_ip} only");
            match unfit(host_ip) {
                Some(why) => Err(Unreachable::by_choice(format!("{from}, {why}"))),
                None => Ok((Spot::only(host_ip, from), binding.host_port)),
            }
        };
        match found {
            Ok((spot, port)) => {
                let spot = label.cloned().unwrap_or(spot);
                let is_known = |place: &Place| place.spot.address == spot.address && place.port == port;
                if !places.iter().any(is_known) {
                    let further = (!places.is_empty()).then_some((host_ip, binding.host_port));
                    places.push(Place {
                        spot,
                        port,
                        port_from: "host port".to_owned(),
                        is_own: false,
                        binding: further,
                    });
                }
            }
            Err(why) if refused.contains(&why) => {}
            Err(why) => refused.push(why),
        }
    }
    if policy == Bindings::First {
        places.truncate(1);
    }
    (places, refused)
}

/// One publication on every address of the host: its port in either family.
type Pair = (Option<u16>, Option<u16>);

/// `0.0.0.0` and `::` are one publication in two families. With a port of the operator's choice it is the same number in
/// both; with one of the engine's choice (`-p 8080`) Docker 20.10 takes a number of its own in each, so what is left over
/// is paired in order.
fn wildcard_pairs(bindings: &[Binding]) -> Vec<Pair> {
    let ports = |v4: bool| {
        let of_family = move |binding: &&Binding| binding.host_ip.is_unspecified() && binding.host_ip.is_ipv4() == v4;
        let mut ports: Vec<u16> = bindings.iter().filter(of_family).map(|binding| binding.host_port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    };
    let (v4, v6) = (ports(true), ports(false));
    let (both, only_v4): (Vec<u16>, Vec<u16>) = v4.into_iter().partition(|port| v6.contains(port));
    let mut only_v6 = v6.into_iter().filter(|port| !both.contains(port));
    let mut pairs: Vec<Pair> = only_v4.into_iter().map(|port| (Some(port), only_v6.next())).collect();
    pairs.extend(only_v6.map(|port| (None, Some(port))));
    pairs.extend(both.into_iter().map(|port| (Some(port), Some(port))));
    pairs
}

fn pair_of(pairs: &[Pair], binding: &Binding) -> Pair {
    let own = Some(binding.host_port);
    let same = |(v4, v6): &&Pair| if binding.host_ip.is_ipv4() { *v4 == own } else { *v6 == own };
    pairs.iter().find(same).copied().unwrap_or_default()
}

/// Where a publication on every address of the host is reached.
fn wildcard((v4, v6): Pair, node: &HostAddress, label: Option<&Spot>) -> Result<(Spot, u16), Unreachable> {
    if let (Some(name), Some(port)) = (&node.name, v4.or(v6)) {
        return Ok((Spot::named(name), port));
    }
    let at_v4 = node.v4.map(IpAddr::V4).zip(v4);
    let at_v6 = node.v6.map(IpAddr::V6).zip(v6);
    match (at_v4, at_v6, label, v4.or(v6)) {
        (Some((address, port)), at_v6, _, _) => {
            let other = at_v6.map(|(address, other)| (address, Some(other).filter(|other| *other != port)));
            Ok((Spot { other, ..Spot::only(address, HOST) }, port))
        }
        (None, Some((address, port)), _, _) => Ok((Spot::only(address, HOST), port)),
        (None, None, Some(label), Some(port)) => Ok((label.clone(), port)),
        (None, None, _, _) => {
            let family = if v4.is_some() { "IPv4" } else { "IPv6" };
            Err(Unreachable::to_mend(format!("the host's {family} address is not known: set REMORA_ADDRESS")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::container;
    use super::*;

    fn binding(address: &str, port: u16) -> Binding {
        Binding { host_ip: address.parse().unwrap(), host_port: port }
    }

    fn node(v4: Option<&str>, v6: Option<&str>) -> HostAddress {
        HostAddress { name: None, v4: v4.map(|text| text.parse().unwrap()), v6: v6.map(|text| text.parse().unwrap()) }
    }

    fn shown(bindings: &[Binding], node: &HostAddress) -> Vec<String> {
        let (places, _) = published(bindings, node, None, Bindings::All);
        places.iter().map(|place| format!("{} {}", place.spot.address, place.port)).collect()
    }

    #[test]
    fn the_wildcard_pair_is_one_place_in_two_families() {
        let bindings = [binding("0.0.0.0", 8080), binding("::", 8080)];
        let (places, refused) =
            published(&bindings, &node(Some("192.0.2.1"), Some("2001:db8::1")), None, Bindings::All);
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].spot.address.to_string(), "192.0.2.1");
        assert_eq!(places[0].spot.other, Some(("2001:db8::1".parse().unwrap(), None)));
        assert!(refused.is_empty());
        assert_eq!(shown(&bindings, &node(None, Some("2001:db8::1"))), ["2001:db8::1 8080"]);
        assert_eq!(shown(&bindings, &node(Some("192.0.2.1"), None)), ["192.0.2.1 8080"]);
    }

    #[test]
    fn a_wildcard_pair_with_ports_of_the_engines_choice_is_one_place_too() {
        let bindings = [binding("0.0.0.0", 32768), binding("::", 32770), binding("0.0.0.0", 80), binding("::", 80)];
        let dual = node(Some("192.0.2.1"), Some("2001:db8::1"));
        let (places, refused) = published(&bindings, &dual, None, Bindings::All);
        assert_eq!(places.iter().map(|place| place.port).collect::<Vec<_>>(), [32768, 80]);
        assert_eq!(places[0].spot.other, Some(("2001:db8::1".parse().unwrap(), Some(32770))));
        assert_eq!(places[1].spot.other, Some(("2001:db8::1".parse().unwrap(), None)));
        assert!(refused.is_empty());
        assert_eq!(shown(&bindings, &node(Some("192.0.2.1"), None)), ["192.0.2.1 32768", "192.0.2.1 80"]);
        assert_eq!(shown(&bindings, &node(None, Some("2001:db8::1"))), ["2001:db8::1 32770", "2001:db8::1 80"]);
    }

    #[test]
    fn the_hosts_address_stands_in_for_the_wildcard_of_its_own_family_only() {
        assert!(shown(&[binding("0.0.0.0", 80)], &node(None, Some("2001:db8::1"))).is_empty());
        assert!(shown(&[binding("::", 80)], &node(Some("192.0.2.1"), None)).is_empty());
        assert_eq!(shown(&[binding("198.51.100.7", 80)], &node(Some("192.0.2.1"), None)), ["198.51.100.7 80"]);
    }

    #[test]
    fn addresses_that_nobody_else_reaches_are_refused() {
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "169.254.1.1", "fe80::1", "224.0.0.1"] {
            let (places, refused) =
                published(&[binding(address, 80)], &node(Some("192.0.2.1"), None), None, Bindings::All);
            assert!(places.is_empty(), "{address}");
            assert_eq!(refused.len(), 1, "{address}");
        }
    }

    #[test]
    fn only_further_places_carry_what_tells_them_apart() {
        let bindings =
            [binding("127.0.0.1", 1), binding("0.0.0.0", 2), binding("192.0.2.1", 2), binding("192.0.2.9", 3)];
        let (places, _) = published(&bindings, &node(Some("192.0.2.1"), None), None, Bindings::All);
        assert_eq!(places.iter().map(|place| place.port).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(places[0].binding, None);
        assert_eq!(places[1].binding, Some(("192.0.2.9".parse().unwrap(), 3)));
    }

    #[test]
    fn a_labels_address_is_taken_without_its_prefix_length_and_only_if_it_can_be_reached() {
        let read = |value: &str| {
            let mut notes = Notes::default();
            let container = container("web").label("ip", value).build();
            let spot = from_label(&container, Some("ip"), &mut notes);
            (spot.map(|spot| spot.address.to_string()), notes.into_list().len())
        };
        assert_eq!(read("10.42.1.7/16"), (Some("10.42.1.7".into()), 0));
        assert_eq!(read(" fd00::7/64 "), (Some("fd00::7".into()), 0));
        for bad in ["", "web", "127.0.0.1", "169.254.169.254", "0.0.0.0"] {
            assert_eq!(read(bad), (None, 1), "{bad}");
        }
    }
}
