//! Which ports of a container can be reached, and where; and why others cannot.

use std::collections::{BTreeMap, BTreeSet};

use super::address::{Place, Spot, Unreachable, from_label, host, published};
use super::metadata::Metadata;
use super::network::{NETWORK, Owner, inside};
use super::notes::Notes;
use super::values::{list, quoted};
use crate::config::{Bindings, Publish};
use crate::docker::{Container, NetworkMode, Port, Protocol, State};

/// Label that declares ports which the image does not: `8080, 53/udp, 7000-7010`.
pub(super) const PORTS: &str = "remora.ports";

/// Label of a service without a port.
pub(super) const PORTLESS: &str = "remora.portless";

/// How the ports of one container are reached.
#[derive(Debug)]
pub(super) struct Ways<'a> {
    container: &'a Container,
    owner: Owner<'a>,
    publish: &'a Publish,
    /// The address from the label that the operator trusts.
    label: Option<Spot>,
    /// Every port under its own number at this address, or why there is none; `None`: through the host's bindings.
    direct: Option<Result<Spot, Unreachable>>,
    /// The address in the container's own network, for ports that are not the host's to publish ([`Ways::is_inside`]).
    own: Result<Spot, Unreachable>,
    declared: BTreeSet<Port>,
}

impl<'a> Ways<'a> {
    /// Looks at the network stack.
    pub(super) fn new(container: &'a Container, owner: Owner<'a>, publish: &'a Publish, notes: &mut Notes) -> Self {
        let label = from_label(container, publish.use_ip_from_label.as_deref(), notes);
        let direct = match (&label, &owner.network_mode) {
            (Some(label), NetworkMode::Host | NetworkMode::None) => Some(Ok(label.clone())),
            (None, NetworkMode::Host) => Some(host(&publish.address)),
            (None, NetworkMode::None) => Some(Err(Unreachable::by_choice("network mode none: nobody can reach it"))),
            (Some(label), _) if publish.internal => Some(Ok(label.clone())),
            (None, _) if publish.internal => Some(inside(container, &owner, &publish.networks)),
            _ => None,
        };
        let own = label.clone().map_or_else(|| inside(container, &owner, &publish.networks), Ok);
        let declared = declared(container, notes);
        let ways = Self { container, owner, publish, label, direct, own, declared };
        if !publish.internal && container.labels.contains_key(NETWORK) && !ways.has_ports_inside() {
            notes.tell(
                NETWORK,
                "does nothing here: addresses of networks are registered with REMORA_INTERNAL, or where the engine maps no ports",
            );
        }
        ways
    }

    /// Whether a port is none of the host's: it is reached under its own number at the address in the container's network.
    ///
    /// * The engine maps no ports in networks with addresses of the LAN (macvlan, ipvlan, many plugins). There an exposed port
    ///   is not in its list at all; in a bridge, a port that is not published is in the list, without bindings.
    /// * A container in another's network stack cannot publish anything. Where the owner does not do it for a port, other
    ///   containers still reach it.
    ///
    /// Only while the process runs: the list is empty before and after.
    fn is_inside(&self, port: Port) -> bool {
        if self.direct.is_some() || !matches!(self.owner.state, State::Running | State::Paused) {
            return false;
        }
        let (exposed, bindings) = (&self.owner.exposed, &self.owner.bindings);
        let own = self.container.exposed.contains_key(&port) || self.declared.contains(&port);
        let is_shared = matches!(self.owner, Owner::Other(_)) && own;
        let is_unmapped = || {
            // What nobody but a label declares is in no list anyway: there the ports that are exposed tell.
            let told_by_others = own && !exposed.is_empty() && exposed.keys().all(|port| !bindings.contains_key(port));
            matches!(self.owner.network_mode, NetworkMode::Named(_))
                && !bindings.contains_key(&port)
                && (exposed.contains_key(&port) || told_by_others)
        };
        bindings.get(&port).is_none_or(|bindings| bindings.is_empty()) && (is_shared || is_unmapped())
    }

    fn has_ports_inside(&self) -> bool {
        let ports = self.owner.exposed.keys().chain(self.container.exposed.keys()).chain(&self.declared);
        ports.into_iter().any(|port| self.is_inside(*port))
    }

    /// The ports in question, in order, whether they can be reached or not.
    ///
    /// A container in another's network stack speaks for the ports that it declares itself; if it declares none, for all of
    /// the other's.
    pub(super) fn candidates(&self, metadata: &Metadata<'_>) -> BTreeSet<Port> {
        let mut own: BTreeSet<Port> = self.container.exposed.keys().chain(&self.declared).copied().collect();
        match &self.owner {
            // With `none` there is nothing to reach but what somebody says there is: a label, or, where the operator's label
            // says that an outside tool gave it an address, the image.
            Owner::Itself(container) if container.network_mode == NetworkMode::None && self.label.is_none() => {
                self.declared.clone()
            }
            Owner::Itself(container) => {
                own.extend(container.bindings.keys());
                own
            }
            Owner::Other(sight) => {
                let theirs = sight.container.bindings.keys().chain(sight.container.exposed.keys()).copied();
                if own.is_empty() {
                    own.extend(theirs);
                } else {
                    let named = metadata.named_ports();
                    own.extend(theirs.filter(|port| named.contains(&port.number)));
                }
                own
            }
        }
    }

    /// Where a port is reached: at least one place, or why there is none.
    pub(super) fn places(&self, port: Port, notes: &mut Notes) -> Result<Vec<Place>, Unreachable> {
        let direct = self.direct.as_ref().or_else(|| self.is_inside(port).then_some(&self.own));
        match direct {
            Some(Ok(spot)) => {
                let (spot, port_from) = (spot.clone(), "container port".to_owned());
                Ok(vec![Place { spot, port: port.number, port_from, is_own: true, binding: None }])
            }
            Some(Err(why)) => Err(why.clone()),
            None => {
                let bindings = self.owner.bindings.get(&port).map_or(&[][..], AsRef::as_ref);
                if bindings.is_empty() {
                    return Err(self.not_published());
                }
                let (places, refused) =
                    published(bindings, &self.publish.address, self.label.as_ref(), self.publish.bindings);
                if places.is_empty() {
                    let why = refused.iter().map(|refused| refused.why.as_str()).collect::<Vec<_>>().join("; ");
                    return Err(Unreachable { why, to_mend: refused.iter().any(|refused| refused.to_mend) });
                }
                for refused in refused {
                    notes.tell(&port.to_string(), format!("one of its bindings is not registered: {}", refused.why));
                }
                Ok(places)
            }
        }
    }

    fn not_published(&self) -> Unreachable {
        let hint = if self.owner.networks.contains_key("ingress") {
            " (swarm publishes through its ingress, if at all: publish with mode=host)"
        } else {
            ""
        };
        Unreachable::by_choice(format!("not published on the host{hint}"))
    }

    /// Where a service without a port is.
    pub(super) fn portless(&self) -> Result<Place, Unreachable> {
        let spot = match (&self.direct, &self.label) {
            (_, Some(label)) => label.clone(),
            (Some(Ok(spot)), None) => spot.clone(),
            (Some(Err(why)), None) if self.owner.network_mode != NetworkMode::None => return Err(why.clone()),
            (Some(Err(_)) | None, None) => host(&self.publish.address)?,
        };
        Ok(Place { spot, port: 0, port_from: format!("{PORTLESS} (label)"), is_own: false, binding: None })
    }

    /// The port under which another port of the container is reached at the address of this place: for checks.
    pub(super) fn beside(&self, place: &Place, number: u16) -> Option<u16> {
        if self.direct.is_some() || place.is_own {
            return Some(number);
        }
        let port = Port { number, protocol: Protocol::Tcp };
        let (places, _) =
            published(self.owner.bindings.get(&port)?, &self.publish.address, self.label.as_ref(), Bindings::All);
        places.iter().find(|other| other.spot.address == place.spot.address).map(|other| other.port)
    }

    /// What to say when there is no port at all.
    pub(super) fn no_ports(&self) -> String {
        match self.owner.network_mode {
            NetworkMode::Host => format!("host network, and no port is declared: EXPOSE it or set {PORTS}"),
            NetworkMode::None if self.label.is_some() => {
                format!("network mode none, and no port is declared: EXPOSE it or set {PORTS}")
            }
            NetworkMode::None => format!(
                "network mode none: without an address from the label of REMORA_USE_IP_FROM_LABEL nobody can reach it, and no \
                 port is declared with {PORTS}"
            ),
            _ if self.publish.internal => "no exposed or published ports".to_owned(),
            _ => "no published ports".to_owned(),
        }
    }
}

fn declared(container: &Container, notes: &mut Notes) -> BTreeSet<Port> {
    /// There are no more numbers than these; a label that asks for them again and again is not followed.
    const MOST: usize = 65_535;
    let mut ports = BTreeSet::new();
    let mut asked = 0_usize;
    for item in container.labels.get(PORTS).map(|text| list(text)).unwrap_or_default() {
        let Some((first, last, protocol)) = read_ports(&item) else {
            let expected = "expected a port or a range, such as 8080, 53/udp or 7000-7010/sctp";
            notes.warn(PORTS, format!("{} is left out: {expected}", quoted(&item)));
            continue;
        };
        asked += usize::from(last - first) + 1;
        if asked > MOST {
            notes.warn(PORTS, format!("asks for more than {MOST} ports: the rest is left out"));
            break;
        }
        ports.extend((first..=last).map(|number| Port { number, protocol }));
    }
    ports
}

fn read_ports(item: &str) -> Option<(u16, u16, Protocol)> {
    let (numbers, protocol) = item.split_once('/').unwrap_or((item, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let first = first.trim().parse().ok().filter(|&number| number != 0)?;
    let last = last.trim().parse().ok().filter(|&number| number >= first)?;
    Some((first, last, super::keys::protocol(&protocol.trim().to_ascii_lowercase())?))
}

/// Ports that are not registered, by reason: ten thousand ports with one reason are one line.
#[derive(Debug, Default)]
pub(super) struct Skipped(BTreeMap<Unreachable, BTreeSet<Port>>);

impl Skipped {
    /// This port is not registered.
    pub(super) fn add(&mut self, port: Port, why: Unreachable) {
        self.0.entry(why).or_default().insert(port);
    }

    /// One note per reason.
    pub(super) fn note(&self, notes: &mut Notes) {
        for (Unreachable { why, to_mend }, ports) in &self.0 {
            let text = format!("not registered: {why}");
            if *to_mend { notes.warn(&spans(ports), text) } else { notes.tell(&spans(ports), text) }
        }
    }

    /// All of it in one line, if there is anything.
    pub(super) fn summary(&self) -> Option<String> {
        let lines: Vec<String> =
            self.0.iter().take(4).map(|(skip, ports)| format!("{}: {}", spans(ports), skip.why)).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

/// Ports as people write them, runs as ranges: `80/tcp, 10000-20000/udp`.
fn spans(ports: &BTreeSet<Port>) -> String {
    /// As many as fit into one line.
    const SHOWN: usize = 8;
    let mut runs: Vec<(Port, u16)> = Vec::new();
    let mut sorted: Vec<Port> = ports.iter().copied().collect();
    sorted.sort_by_key(|port| (port.protocol, port.number));
    for port in sorted {
        match runs.last_mut() {
            Some((first, last)) if first.protocol == port.protocol && last.checked_add(1) == Some(port.number) => {
                *last = port.number;
            }
            _ => runs.push((port, port.number)),
        }
    }
    let more = runs.len().saturating_sub(SHOWN);
    let shown = runs.iter().take(SHOWN).map(|(first, last)| {
        if first.number == *last {
            first.to_string()
        } else {
            format!("{}-{last}/{}", first.number, first.protocol.as_str())
        }
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text = format!("{text} and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::container;
    use super::*;

    fn port(number: u16, protocol: Protocol) -> Port {
        Port { number, protocol }
    }

    #[test]
    fn runs_of_ports_are_shown_as_ranges() {
        let mut ports: BTreeSet<Port> = (10_000..=20_000).map(|number| port(number, Protocol::Udp)).collect();
        ports.extend([port(80, Protocol::Tcp), port(443, Protocol::Tcp)]);
        assert_eq!(spans(&ports), "80/tcp, 443/tcp, 10000-20000/udp");
        let scattered = (1..100).map(|number| port(number * 2, Protocol::Tcp)).collect();
        assert!(spans(&scattered).ends_with("and 91 more"));
        assert_eq!(spans(&(65534..=65535).map(|number| port(number, Protocol::Tcp)).collect()), "65534-65535/tcp");
    }

    #[test]
    fn ports_are_declared_by_label() {
        let container = container("web").label(PORTS, "8080, 53/UDP,7000-7002/sctp, 0, 70000, 9-8, x, 1/icmp").build();
        let mut notes = Notes::default();
        let ports = declared(&container, &mut notes);
        assert_eq!(ports.len(), 5);
        assert!(ports.contains(&port(53, Protocol::Udp)) && ports.contains(&port(7002, Protocol::Sctp)));
        assert_eq!(notes.into_list().len(), 5);
    }
}
