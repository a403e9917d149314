//! Which `Host` headers the HTTP server answers.
//!
//! A web page can make a browser on the node, or in its network, ask our server: its own host name only has to resolve to
//! our address (DNS rebinding). Then the `Host` header is a name that the page's author owns. What no one can own in
//! public DNS is harmless: an IP address, `localhost`, and a name without dots (the name of the container, as Prometheus
//! in the same Docker network uses it). Other names must be told to us.

use std::net::{IpAddr, Ipv6Addr};

/// Whether a request with this `Host` header (`name`, `name:port`, `[::1]:port`) is answered. `known` are further names
/// that this agent is reached by.
#[must_use]
pub fn allowed(header: &str, known: &[String]) -> bool {
    let Some(name) = name(header) else { return false };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    let plausible = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    plausible && (!name.contains('.') || known.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// The host without its port and brackets.
fn name(header: &str) -> Option<&str> {
    if let Some(rest) = header.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port_is_sound = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        return (port_is_sound && address.parse::<Ipv6Addr>().is_ok()).then_some(address);
    }
    match header.split_once(':') {
        Some((name, port)) => port.parse::<u16>().is_ok().then_some(name),
        None => Some(header),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_that_nobody_can_own_are_answered() {
        for header in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "[::1]",
            "[::1]:9090",
            "10.0.0.7:80",
            "localhost:9090",
            "LOCALHOST",
            "localhost.",
            "remora:9090",
            "shop_remora-1",
        ] {
            assert!(allowed(header, &[]), "{header}");
        }
    }

    #[test]
    fn names_of_the_public_dns_are_refused() {
        for header in [
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            ":80",
            ".",
            "[::1",
            "[evil.example]",
            "[::1]x",
            "a b",
            "localhost:99999",
            "user@localhost",
            "::1",
        ] {
            assert!(!allowed(header, &[]), "{header}");
        }
    }

    #[test]
    fn a_name_that_was_told_to_us_is_answered() {
        let known = ["node1.internal.example".to_owned()];
        assert!(allowed("Node1.internal.example:9090", &known));
        assert!(!allowed("node2.internal.example", &known));
    }
}
