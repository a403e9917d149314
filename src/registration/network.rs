//! Whose network stack a container uses, and which of its networks gives its address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Deref;

use super::Peers;
use super::address::{Address, Spot, Unreachable, unfit};
use super::values::{head, matches, one_line, quoted};
use crate::config::NetworkChoice;
use crate::docker::names::logical;
use crate::docker::{COMPOSE_PROJECT, Container, Endpoint, NetworkMode, Sight, State};

/// Label that names the network whose address is registered.
pub(super) const NETWORK: &str = "remora.network";

/// Swarm's own network for published ports: only its load balancer reaches an address there.
const INGRESS: &str = "ingress";

/// Networks that are named where none fits: more are no help.
const MOST_TOLD: usize = 6;

/// A name as it may be told: the engine takes any text for the name of a network.
fn shown(name: &str) -> String {
    one_line(head(name, 64))
}

/// The container whose network stack it is: itself, or the end of a `container:` chain.
#[derive(Debug)]
pub(super) enum Owner<'a> {
    /// The container has its own.
    Itself(&'a Container),
    /// It shares another's.
    Other(Sight),
}

impl Deref for Owner<'_> {
    type Target = Container;

    fn deref(&self) -> &Container {
        match self {
            Owner::Itself(container) => container,
            Owner::Other(sight) => &sight.container,
        }
    }
}

/// Why there is no network stack to speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoStack {
    /// Nothing is known about the container with this id or name: it may be that it has only not been looked at yet.
    Unknown(String, String),
    /// Nothing can be registered before something else happens.
    Waits(String),
    /// It was there and is expected back: what is registered stays, critical.
    Down(String),
}

/// Follows `container:` to the container that owns the network stack, whether it runs or not.
pub(super) fn stack<'a>(container: &'a Container, peers: &dyn Peers) -> Result<Owner<'a>, NoStack> {
    let mut owner = Owner::Itself(container);
    let mut visited = BTreeSet::from([container.id.clone()]);
    while let NetworkMode::Container(reference) = &owner.network_mode {
        let Some(next) = peers.find(reference) else {
            let shown = quoted(head(reference, 64));
            return Err(if peers.is_gone(reference) {
                NoStack::Waits(format!("container {shown}, whose network it shares, does not exist any more"))
            } else {
                let why = format!("waits for container {shown}, whose network it shares");
                NoStack::Unknown(reference.to_string(), why)
            });
        };
        if !visited.insert(next.container.id.clone()) {
            return Err(NoStack::Waits("shares its network with itself, through a circle of containers".to_owned()));
        }
        owner = Owner::Other(next);
    }
    Ok(owner)
}

/// The container that owns the network stack, if something can be reached there.
pub(super) fn owner<'a>(container: &'a Container, peers: &dyn Peers) -> Result<Owner<'a>, NoStack> {
    let owner = stack(container, peers)?;
    if let Owner::Other(sight) = &owner {
        let name = shown(logical(&sight.container.name).0);
        match &sight.container.state {
            _ if sight.draining => {
                return Err(NoStack::Waits(format!("{name}, whose network it shares, is being stopped")));
            }
            State::Running | State::Paused | State::Unknown(_) => {}
            State::Restarting => {
                return Err(NoStack::Down(format!("{name}, whose network it shares, is restarting")));
            }
            State::Created | State::Removing | State::Exited | State::Dead => {
                return Err(NoStack::Waits(format!(
                    "waits for {name}, whose network it shares and which does not run"
                )));
            }
        }
    }
    Ok(owner)
}

/// The container's own address: of the network that its label names, or else the first of the operator's choices, or else
/// the network it was started in, or else the first by name.
pub(super) fn inside(container: &Container, owner: &Container, choices: &[NetworkChoice]) -> Result<Spot, Unreachable> {
    let networks: Vec<(&str, &Endpoint)> = owner
        .networks
        .iter()
        .filter(|(name, _)| *name != INGRESS)
        .map(|(name, endpoint)| (name.as_str(), endpoint))
        .filter(|(_, endpoint)| addresses(endpoint).next().is_some())
        .collect();
    let known = || {
        let names: Vec<String> = networks.iter().take(MOST_TOLD).map(|(name, _)| shown(name)).collect();
        match networks.len().saturating_sub(MOST_TOLD) {
            0 if names.is_empty() => "it has no address in any network".to_owned(),
            0 => format!("it has addresses in: {}", names.join(", ")),
            more => format!("it has addresses in: {} and {more} more", names.join(", ")),
        }
    };
    if let Some(wanted) = container.labels.get(NETWORK).map(|name| name.trim()).filter(|name| !name.is_empty()) {
        let project = container.labels.get(COMPOSE_PROJECT).map(|project| format!("{project}_{wanted}"));
        let named = |name: &str| networks.iter().find(|(network, _)| matches(name, network));
        return match named(wanted).or_else(|| named(project.as_deref()?)) {
            Some((name, endpoint)) => spot(endpoint, None, format!("network {} ({NETWORK})", shown(name))),
            None => Err(Unreachable::to_mend(format!("no network matches {NETWORK}={}; {}", quoted(wanted), known()))),
        };
    }
    for choice in choices {
        for (name, endpoint) in &networks {
            let preferred = match choice {
                NetworkChoice::Name(pattern) if matches(pattern, name) => None,
                NetworkChoice::Name(_) => continue,
                NetworkChoice::Cidr { address, prefix } => {
                    match addresses(endpoint).find(|candidate| contains(*address, *prefix, *candidate)) {
                        Some(within) => Some(within),
                        None => continue,
                    }
                }
            };
            return spot(endpoint, preferred, format!("network {} (REMORA_NETWORKS)", shown(name)));
        }
    }
    if !choices.is_empty() {
        return Err(Unreachable::to_mend(format!("no network matches REMORA_NETWORKS; {}", known())));
    }
    let started_in = match &owner.network_mode {
        NetworkMode::Named(name) => name.as_str(),
        _ => "bridge",
    };
    let own = networks.iter().find(|(name, _)| *name == started_in);
    match own.or_else(|| networks.first()) {
        Some((name, endpoint)) => spot(endpoint, None, format!("network {}", shown(name))),
        None => Err(Unreachable::to_mend(known())),
    }
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let v4 = endpoint.ipv4.map(IpAddr::V4);
    v4.into_iter().chain(endpoint.ipv6.map(IpAddr::V6)).filter(|address| unfit(*address).is_none())
}

/// IPv4 first, unless the operator's range asked for the other.
fn spot(endpoint: &Endpoint, preferred: Option<IpAddr>, from: String) -> Result<Spot, Unreachable> {
    let Some(address) = preferred.or_else(|| addresses(endpoint).next()) else {
        return Err(Unreachable::to_mend(format!("no address in {from}")));
    };
    let other = addresses(endpoint).find(|other| *other != address).map(|other| (other, None));
    Ok(Spot { address: Address::Ip(address), other, from })
}

/// Whether an address lies in a range.
fn contains(range: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let kept = |bits: u32| bits.saturating_sub(u32::from(prefix));
    match (range, address) {
        (IpAddr::V4(range), IpAddr::V4(address)) => {
            let shift = kept(u32::BITS);
            range.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
        }
        (IpAddr::V6(range), IpAddr::V6(address)) => {
            let shift = kept(u128::BITS);
            range.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{container, sight};
    use super::*;

    fn two_networks() -> Container {
        container("web").network("zeta", "10.1.0.2").network("alpha", "10.2.0.2").network(INGRESS, "10.0.0.9").build()
    }

    fn address(container: &Container, choices: &[NetworkChoice]) -> Result<String, String> {
        inside(container, container, choices).map(|spot| spot.address.to_string()).map_err(|error| error.why)
    }

    #[test]
    fn names_of_networks_are_told_in_one_bounded_line() {
        let mut crowd = container("web").label(NETWORK, "none");
        for number in 0..20 {
            crowd = crowd
                .network(&format!("{number:02}\u{1b}[31m\n{}", "n".repeat(300)), &format!("10.1.0.{}", number + 1));
        }
        let why = address(&crowd.build(), &[]).unwrap_err();
        assert!(why.len() < 600 && !why.chars().any(char::is_control), "{why:?}");
        assert!(why.ends_with(" and 14 more"), "{why}");
        let odd = container("web").network("a\u{7}b", "10.1.0.2").build();
        assert_eq!(inside(&odd, &odd, &[]).unwrap().from, "network a b");
    }

    #[test]
    fn the_network_is_chosen_by_label_then_setting_then_rule() {
        let mut container = two_networks();
        assert_eq!(address(&container, &[]).unwrap(), "10.2.0.2");
        container.network_mode = NetworkMode::Named("zeta".into());
        assert_eq!(address(&container, &[]).unwrap(), "10.1.0.2");
        let range = NetworkChoice::Cidr { address: "10.2.255.1".parse().unwrap(), prefix: 16 };
        let choices = [NetworkChoice::Name("none*".into()), range];
        assert_eq!(address(&container, &choices).unwrap(), "10.2.0.2");
        container.labels.insert(NETWORK.into(), "zeta".into());
        assert_eq!(address(&container, &choices).unwrap(), "10.1.0.2");
    }

    #[test]
    fn no_match_is_an_error_that_lists_what_there_is() {
        let mut container = two_networks();
        let error = address(&container, &[NetworkChoice::Name("none".into())]).unwrap_err();
        assert!(error.contains("REMORA_NETWORKS") && error.contains("alpha, zeta"), "{error}");
        container.labels.insert(NETWORK.into(), "ingress".into());
        assert!(address(&container, &[]).unwrap_err().contains(NETWORK));
    }

    #[test]
    fn a_network_of_compose_may_be_named_without_its_project() {
        let container = container("web")
            .label(COMPOSE_PROJECT, "shop")
            .label(NETWORK, "back")
            .network("shop_back", "10.3.0.2")
            .network("shop_front", "10.4.0.2")
            .build();
        assert_eq!(address(&container, &[]).unwrap(), "10.3.0.2");
    }

    #[test]
    fn ranges_hold_what_lies_in_them() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(contains(ip("10.0.0.0"), 8, ip("10.200.1.1")));
        assert!(!contains(ip("10.0.0.0"), 16, ip("10.1.0.1")));
        assert!(contains(ip("0.0.0.0"), 0, ip("192.168.0.1")));
        assert!(!contains(ip("0.0.0.0"), 0, ip("::1")));
        assert!(contains(ip("fd00::"), 8, ip("fdff::1")));
        assert!(contains(ip("10.0.0.1"), 200, ip("10.0.0.1")));
    }

    #[test]
    fn a_chain_is_followed_and_a_circle_is_noticed() {
        let shares = |name: &str, owner: &str| {
            let mut container = container(name).build();
            container.network_mode = NetworkMode::Container(owner.into());
            container
        };
        let peers = super::super::testing::peers([
            sight(shares("a", "b")),
            sight(shares("b", "c")),
            sight(container("c").network("n", "10.5.0.2").build()),
            sight(shares("x", "y")),
            sight(shares("y", "x")),
        ]);
        assert_eq!(owner(&shares("a", "b"), &peers).unwrap().name, "c");
        assert!(matches!(owner(&shares("x", "y"), &peers), Err(NoStack::Waits(text)) if text.contains("circle")));
        assert!(matches!(owner(&shares("q", "gone"), &peers), Err(NoStack::Unknown(peer, _)) if peer == "gone"));
    }
}
