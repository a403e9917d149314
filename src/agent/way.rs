//! Which way to Consul: through an agent of this node, or as a node of the catalog without one. Pure.

use std::net::IpAddr;

use super::start::same_host;
use crate::config::{Consul, ConsulAddress, ConsulMode, HostAddress};
use crate::consul::AgentFacts;

/// How this node is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With the Consul agent of the node.
    Agent,
    /// In the cluster's catalog, as a node without an agent.
    Catalog,
}

impl Mode {
    /// As in `REMORA_CONSUL_MODE`, and in the meta `mode` of the agent's own service.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Catalog => "catalog",
        }
    }
}

/// A mode, and why it is that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The mode.
    pub mode: Mode,
    /// Why, as a part of a sentence.
    pub why: String,
}

/// Whether the Consul at the address has to be asked who it is.
#[must_use]
pub const fn has_to_ask(mode: ConsulMode, consul: &Consul) -> bool {
    matches!(mode, ConsulMode::Auto) && consul.others.is_empty() && matches!(consul.address, ConsulAddress::Url { .. })
}

/// Chooses. `facts`: what the Consul at the address says of itself, `None` when it was not asked or may not be; `host`: the engine's
/// host name; `advertised`: this node's address.
#[must_use]
pub fn way(
    wish: ConsulMode,
    consul: &Consul,
    facts: Option<&AgentFacts>,
    host: &str,
    advertised: &HostAddress,
    is_local: impl Fn(IpAddr) -> bool,
) -> Way {
    let agent = |why: String| Way { mode: Mode::Agent, why };
    let loopback = match &consul.address {
        _ if wish == ConsulMode::Agent => return agent("REMORA_CONSUL_MODE says so".to_owned()),
        _ if wish == ConsulMode::Catalog => {
            return Way { mode: Mode::Catalog, why: "REMORA_CONSUL_MODE says so".to_owned() };
        }
        // A node has one agent: several addresses are servers, and it matters not which of them answers.
        _ if !consul.others.is_empty() => {
            return Way { mode: Mode::Catalog, why: "CONSUL_HTTP_ADDR names several Consul servers".to_owned() };
        }
        ConsulAddress::Unix(_) => return agent("Consul's address is a socket of this host".to_owned()),
        ConsulAddress::Url { host, .. } => is_loopback(host),
    };
    let Some(facts) = facts else {
        // An agent without ACLs answers; with them the right is in every policy that was written for an agent.
        return agent("Consul does not say who it is (agent:read is missing)".to_owned());
    };
    let name = &facts.node_name;
    let is_ours = |address: IpAddr| {
        advertised.v4.map(IpAddr::V4) == Some(address) || advertised.v6.map(IpAddr::V6) == Some(address)
    };
    if same_host(name, host) {
        return agent(format!("the Consul agent {name} has this host's name"));
    }
    if facts.advertise.is_some_and(|address| is_ours(address) || (!address.is_loopback() && is_local(address))) {
        return agent(format!("the Consul agent {name} has this host's address"));
    }
    if loopback {
        return agent(format!("the Consul agent {name} is reached by the loopback"));
    }
    Way { mode: Mode::Catalog, why: format!("the Consul agent {name} is another host's") }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConsulTls, Token};

    fn consul(address: ConsulAddress) -> Consul {
        let tls = ConsulTls { verify: true, ca_file: None, ca_path: None, client: None, server_name: None };
        Consul { address, others: Vec::new(), token: Token::None, auth: None, tls, namespace: None, partition: None }
    }

    fn at(host: &str) -> Consul {
        consul(ConsulAddress::Url { tls: false, host: host.to_owned(), port: 8500, prefix: String::new() })
    }

    fn facts(node: &str, advertise: &str) -> AgentFacts {
        AgentFacts {
            node_name: node.to_owned(),
            version: "1.8.7".to_owned(),
            datacenter: "dc1".to_owned(),
            advertise: advertise.parse().ok(),
            server: true,
        }
    }

    fn chosen(wish: ConsulMode, consul: &Consul, facts: Option<&AgentFacts>) -> Mode {
        let advertised = HostAddress { v4: "192.0.2.7".parse().ok(), ..HostAddress::default() };
        way(wish, consul, facts, "docker7.example.com", &advertised, |address| address.to_string() == "10.0.0.7").mode
    }

    #[test]
    fn what_is_set_is_done() {
        let elsewhere = facts("server1", "192.0.2.1");
        assert_eq!(chosen(ConsulMode::Agent, &at("192.0.2.1"), Some(&elsewhere)), Mode::Agent);
        assert_eq!(chosen(ConsulMode::Catalog, &at("127.0.0.1"), None), Mode::Catalog);
        assert!(!has_to_ask(ConsulMode::Catalog, &at("192.0.2.1")) && has_to_ask(ConsulMode::Auto, &at("192.0.2.1")));
    }

    #[test]
    fn several_addresses_are_servers_whoever_they_are() {
        let mut several = at("127.0.0.1");
        several.others = vec![at("192.0.2.1").address];
        assert!(!has_to_ask(ConsulMode::Auto, &several));
        assert_eq!(chosen(ConsulMode::Auto, &several, None), Mode::Catalog);
        assert_eq!(chosen(ConsulMode::Auto, &several, Some(&facts("docker7", "192.0.2.7"))), Mode::Catalog);
        assert_eq!(chosen(ConsulMode::Agent, &several, None), Mode::Agent, "what is set is done");
    }

    #[test]
    fn an_agent_of_this_host_is_used_and_that_of_another_is_not() {
        let auto = |at: &str, facts: &AgentFacts| chosen(ConsulMode::Auto, &self::at(at), Some(facts));
        assert_eq!(auto("192.0.2.1", &facts("server1", "192.0.2.1")), Mode::Catalog);
        assert_eq!(auto("172.17.0.1", &facts("docker7", "192.0.2.1")), Mode::Agent, "its name");
        assert_eq!(auto("172.17.0.1", &facts("x", "192.0.2.7")), Mode::Agent, "the advertised address");
        assert_eq!(auto("172.17.0.1", &facts("x", "10.0.0.7")), Mode::Agent, "an address of this host");
        assert_eq!(auto("127.0.0.1", &facts("x", "192.0.2.9")), Mode::Agent, "the loopback");
        assert_eq!(auto("[::1]", &facts("x", "192.0.2.9")), Mode::Agent, "the other loopback");
        assert_eq!(
            auto("consul.example.com", &facts("x", "127.0.0.1")),
            Mode::Catalog,
            "a development agent elsewhere"
        );
    }

    #[test]
    fn a_socket_is_this_hosts_and_who_does_not_say_is_taken_for_it() {
        assert_eq!(chosen(ConsulMode::Auto, &consul(ConsulAddress::Unix("/c.sock".into())), None), Mode::Agent);
        assert_eq!(chosen(ConsulMode::Auto, &at("192.0.2.1"), None), Mode::Agent);
    }
}
