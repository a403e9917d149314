//! Which address of this node to advertise for ports published on every address of the host.
//!
//! The first rule that has an answer wins, and which one it was is told (log, `doctor`):
//!
//! 1. `REMORA_ADDRESS` (registrator's `-ip`);
//! 2. the node's address in its swarm;
//! 3. the address that the Consul agent on this node advertises. Whether it is on this node is seen by its address being
//!    one of this host's; from inside a container's own network, by its node name being the engine's;
//! 4. the address from which this host would speak to the world (its default route).
//!
//! Never loopback, never an address of a container: registrator's most frequent mistake was to advertise what the host's
//! name resolves to, which is 127.0.1.1 on a stock Debian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::HostAddress;

/// What the rules choose from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Rule 1.
    pub configured: HostAddress,
    /// Rule 2.
    pub swarm: Option<IpAddr>,
    /// Rule 3.
    pub consul: Option<IpAddr>,
    /// The Consul agent's node has the engine's name.
    pub consul_is_namesake: bool,
    /// Rule 4.
    pub route: HostAddress,
    /// This process runs in a container with a network of its own: what it sees of addresses is not the host's.
    pub contained: bool,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// At most one per family; none at all when no rule has an answer.
    pub address: HostAddress,
    /// Per candidate: taken, or why not.
    pub reasons: Vec<String>,
}

/// Applies the rules. `is_local` tells whether an address is one of this host's own.
#[must_use]
pub fn choose(candidates: &Candidates, is_local: impl Fn(IpAddr) -> bool) -> Choice {
    let mut address = HostAddress::default();
    let mut reasons = Vec::new();
    if let Some(name) = &candidates.configured.name {
        reasons.push(format!("{name}: REMORA_ADDRESS"));
        return Choice { address: candidates.configured.clone(), reasons };
    }
    let configured = [candidates.configured.v4.map(IpAddr::V4), candidates.configured.v6.map(IpAddr::V6)];
    for ip in configured.into_iter().flatten() {
        take(&mut address, ip, "REMORA_ADDRESS", &mut reasons);
    }
    if configured != [None, None] {
        // Who sets one family means it: the other one is not guessed.
        return Choice { address, reasons };
    }
    if let Some(ip) = candidates.swarm {
        match unusable(ip) {
            Some(why) => reasons.push(format!("not {ip}, the node's address in its swarm: {why}")),
            None => take(&mut address, ip, "the node's address in its swarm", &mut reasons),
        }
    }
    if let Some(ip) = candidates.consul {
        let what = "the address that the Consul agent advertises";
        let stranger = if candidates.contained {
            (!candidates.consul_is_namesake).then_some("its node has another name than this Docker Engine's host")
        } else {
            (!is_local(ip)).then_some("it is no address of this host")
        };
        match unusable(ip).or(stranger) {
            Some(why) => reasons.push(format!("not {ip}, {what}: {why}")),
            None => take(&mut address, ip, what, &mut reasons),
        }
    }
    for ip in [candidates.route.v4.map(IpAddr::V4), candidates.route.v6.map(IpAddr::V6)].into_iter().flatten() {
        let what = "the address of the default route";
        if candidates.contained {
            reasons.push(format!("not {ip}, {what}: it is this container's, not the host's"));
        } else if let Some(why) = unusable(ip) {
            reasons.push(format!("not {ip}, {what}: {why}"));
        } else {
            take(&mut address, ip, what, &mut reasons);
        }
    }
    if address == HostAddress::default() {
        reasons.push("no address: set REMORA_ADDRESS to the address at which others reach this host".to_owned());
    }
    Choice { address, reasons }
}

fn take(address: &mut HostAddress, ip: IpAddr, rule: &str, reasons: &mut Vec<String>) {
    let free = match ip {
        IpAddr::V4(v4) => address.v4.is_none() && address.v4.replace(v4).is_none(),
        IpAddr::V6(v6) => address.v6.is_none() && address.v6.replace(v6).is_none(),
    };
    reasons.push(if free { format!("{ip}: {rule}") } else { format!("not {ip}, {rule}: an earlier rule won") });
}

fn unusable(ip: IpAddr) -> Option<&'static str> {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_loopback() {
        Some("others cannot reach a loopback address")
    } else if ip.is_unspecified() {
        Some("it is no address of one host")
    } else if link_local {
        Some("others cannot reach a link-local address")
    } else {
        None
    }
}

/// The addresses from which this host would speak to the world. No packet is sent: connecting a UDP socket only asks the
/// kernel for a route.
#[must_use]
pub fn route() -> HostAddress {
    // Documentation addresses (RFC 5737, RFC 3849): routed like any other, answered by nobody.
    let v4 = source(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)));
    let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let v6 = source(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), SocketAddr::from((far, 9)));
    HostAddress {
        name: None,
        v4: v4.and_then(|ip| if let IpAddr::V4(v4) = ip { Some(v4) } else { None }),
        v6: v6.and_then(|ip| if let IpAddr::V6(v6) = ip { Some(v6) } else { None }),
    }
}

fn source(from: SocketAddr, to: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The id of the container that this process runs in, from what is mounted into it (`/proc/self/mountinfo`): Docker and
/// Podman mount `/etc/hosts` and its like from a folder that has the container's id as its name.
#[must_use]
pub fn container_id(mountinfo: &str) -> Option<&str> {
    let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    mountinfo
        .lines()
        .map(|line| line.split(' '))
        // man 5 proc: id, parent, device, root of the mount within its file system, mount point, …
        .filter_map(|mut fields| Some((fields.nth(3)?, fields.next()?)))
        .filter(|(_, at)| matches!(*at, "/etc/hosts" | "/etc/hostname" | "/etc/resolv.conf"))
        .find_map(|(root, _)| root.split('/').find(is_id))
}

/// Whether an address is one of this host's own: only then can a socket be bound to it.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 6));

    fn v4(ip: IpAddr) -> HostAddress {
        let IpAddr::V4(v4) = ip else { unreachable!() };
        HostAddress { v4: Some(v4), ..HostAddress::default() }
    }

    fn chosen(candidates: &Candidates) -> Option<IpAddr> {
        choose(candidates, |ip| ip == HOST).address.v4.map(IpAddr::V4)
    }

    #[test]
    fn case_26_the_configured_address_wins_then_swarm_then_consul_then_the_route() {
        let all = Candidates {
            configured: v4(OTHER),
            swarm: Some(HOST),
            consul: Some(HOST),
            consul_is_namesake: false,
            route: v4(HOST),
            contained: false,
        };
        assert_eq!(chosen(&all), Some(OTHER));
        let guessed = Candidates { configured: HostAddress::default(), ..all };
        let choice = choose(&guessed, |ip| ip == HOST);
        assert_eq!(choice.reasons[0], "10.0.0.5: the node's address in its swarm");
        assert_eq!(chosen(&Candidates { swarm: None, ..guessed.clone() }), Some(HOST));
        assert_eq!(chosen(&Candidates { swarm: None, consul: None, ..guessed }), Some(HOST));
    }

    #[test]
    fn a_configured_name_is_taken_as_it_is() {
        let configured = HostAddress { name: Some("host.example.com".to_owned()), ..HostAddress::default() };
        let candidates = Candidates { configured: configured.clone(), route: v4(HOST), ..Candidates::default() };
        let choice = choose(&candidates, |_| true);
        assert_eq!((choice.address, choice.reasons), (configured, vec!["host.example.com: REMORA_ADDRESS".to_owned()]));
    }

    #[test]
    fn a_container_finds_its_own_id_among_its_mounts() {
        let id = "0123456789abcdef".repeat(4);
        let inside = format!(
            "1 0 0:30 / / rw - overlay overlay rw\n2 1 254:0 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(container_id(&inside), Some(id.as_str()));
        assert_eq!(container_id("1 0 254:0 / / rw - ext4 /dev/vda rw\n"), None);
        assert_eq!(container_id(""), None);
    }

    #[test]
    fn loopback_and_strangers_are_never_advertised() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let candidates = Candidates { consul: Some(loopback), route: v4(HOST), ..Candidates::default() };
        assert_eq!(chosen(&candidates), Some(HOST), "a Consul in development mode advertises loopback");
        let elsewhere = Candidates { consul: Some(OTHER), route: v4(HOST), ..Candidates::default() };
        assert_eq!(chosen(&elsewhere), Some(HOST), "a Consul on another host, or in a container");
        let nothing = choose(&Candidates { route: v4(loopback), ..Candidates::default() }, |_| true);
        assert_eq!(nothing.address, HostAddress::default());
        assert!(nothing.reasons.last().unwrap().contains("REMORA_ADDRESS"));
    }

    #[test]
    fn from_inside_a_container_only_an_agent_with_the_hosts_name_is_believed() {
        let candidates = Candidates { route: v4(HOST), contained: true, ..Candidates::default() };
        assert_eq!(chosen(&candidates), None);
        let neighbour = Candidates { consul: Some(OTHER), ..candidates };
        assert_eq!(chosen(&neighbour), None, "a Consul in the next container, or on another host");
        assert_eq!(chosen(&Candidates { consul_is_namesake: true, ..neighbour }), Some(OTHER));
    }
}
