//! Whom nobody touches: the agent itself, the Consul that it uses, and whoever sits in front of a terminal. Containers that
//! somebody else looks after are known by their labels (`heal::managed`). Pure.

use std::net::IpAddr;

use crate::config::ConsulAddress;
use crate::docker::{COMPOSE_SERVICE, Container, ContainerId, NetworkMode};
use crate::heal::policy::{Applies, Policy};

/// See the module's header.
#[derive(Debug, Clone, Default)]
pub struct Never {
    /// The agent's own container.
    pub own: Option<ContainerId>,
    /// The host of each of Consul's addresses, and its port.
    pub consul: Vec<(String, u16)>,
    /// Addresses under which this host is reached.
    pub host: Vec<IpAddr>,
}

impl Never {
    /// What has to be known of Consul's address.
    #[must_use]
    pub fn consul_at(address: &ConsulAddress) -> Option<(String, u16)> {
        match address {
            ConsulAddress::Url { host, port, .. } => {
                Some((host.trim_start_matches('[').trim_end_matches(']').to_owned(), *port))
            }
            ConsulAddress::Unix(_) => None,
        }
    }

    /// Why this container is not healed; `None`: it is.
    #[must_use]
    pub fn reason(&self, container: &Container, policy: &Policy) -> Option<String> {
        if self.own.as_ref() == Some(&container.id) {
            return Some("it is Remora itself".to_owned());
        }
        if self.is_consul(container) {
            return Some("it is the Consul that Remora uses".to_owned());
        }
        if container.life.interactive {
            return Some("somebody is attached to it (docker run -it)".to_owned());
        }
        match &policy.applies {
            Applies::Off(why) => Some(why.clone()),
            Applies::On | Applies::Observe => None,
        }
    }

    /// Whether requests to Consul's address end in this container.
    fn is_consul(&self, container: &Container) -> bool {
        let reference = container.image.split('@').next().unwrap_or_default();
        let image = reference.rsplit('/').next().unwrap_or_default().split(':').next().unwrap_or_default();
        let looks_so = image == "consul" || image == "consul-enterprise";
        if self.consul.is_empty() {
            // By a socket that it shares: only its image tells.
            return looks_so;
        }
        self.consul.iter().any(|(host, port)| self.answers_at(host, *port, looks_so, container))
    }

    fn answers_at(&self, host: &str, port: u16, looks_so: bool, container: &Container) -> bool {
        let address = host.parse::<IpAddr>().ok();
        let here = host == "localhost" || address.is_some_and(|it| it.is_loopback() || self.host.contains(&it));
        // While it does not run it has no ports; what it asks for is what it had.
        let bindings = container.bindings.values().chain(container.life.published.values());
        let publishes = bindings.flatten().any(|binding| binding.host_port == port);
        let own_address = container.networks.values().any(|endpoint| {
            address.is_some_and(|it| {
                endpoint.ipv4.map(IpAddr::V4) == Some(it) || endpoint.ipv6.map(IpAddr::V6) == Some(it)
            })
        });
        let by_name = container.name == host || container.labels.get(COMPOSE_SERVICE).is_some_and(|name| name == host);
        let in_hosts_network = looks_so && container.network_mode == NetworkMode::Host;
        (here && (publishes || in_hosts_network)) || own_address || by_name
    }
}
