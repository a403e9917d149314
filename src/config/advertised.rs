//! The address of this host under which others reach its published ports: IP addresses, or a host name.

use std::net::{IpAddr, Ipv4Addr};

use super::HostAddress;
use super::errors::ConfigError;
use super::parse::{Given, list};

/// At most one IPv4 and one IPv6 address, both of which another host can send to; or one host name, as registrator took it.
pub(super) fn host_address(given: Given<'_>) -> Result<HostAddress, ConfigError> {
    const EXPECTED: &str = "one IPv4 and/or one IPv6 address, or a host name";
    let wrong = |why: &str| Err(given.wrong(format!("{why}, such as 192.0.2.10 or 192.0.2.10,2001:db8::10")));
    if is_host_name(given.trimmed()) {
        return Ok(HostAddress { name: Some(given.trimmed().to_owned()), ..HostAddress::default() });
    }
    let mut found = HostAddress::default();
    for part in list(given.text) {
        let bare = part.strip_prefix('[').and_then(|part| part.strip_suffix(']')).unwrap_or(&part);
        let Ok(address) = bare.parse::<IpAddr>() else { return wrong(EXPECTED) };
        if address.is_unspecified() {
            return wrong("the address under which other hosts reach this one, not the one that means \"any\"");
        }
        if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return wrong("the address of one host");
        }
        let doubled = match address {
            IpAddr::V4(v4) => found.v4.replace(v4).is_some(),
            IpAddr::V6(v6) => found.v6.replace(v6).is_some(),
        };
        if doubled {
            return wrong("at most one address of each family");
        }
    }
    if found == HostAddress::default() { wrong(EXPECTED) } else { Ok(found) }
}

/// Whether a text is a host name. One that ends in a number is not: it is an IPv4 address with a mistake in it.
fn is_host_name(text: &str) -> bool {
    /// The longest name and the longest part of one that DNS can carry.
    const LONGEST: (usize, usize) = (253, 63);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_part = |part: &str| {
        let edges = part.starts_with('-') || part.ends_with('-');
        !part.is_empty() && part.len() <= LONGEST.1 && !edges && part.bytes().all(plain)
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let ends_in_a_number = name.rsplit('.').next().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= LONGEST.0 && name.split('.').all(is_part) && !ends_in_a_number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given<'_> {
        Given { name: "NAME", text }
    }

    #[test]
    fn the_advertised_address_is_one_of_each_family_that_others_can_reach() {
        let v4 = Some(Ipv4Addr::new(192, 0, 2, 1));
        let v6 = "2001:db8::1".parse().ok();
        assert_eq!(host_address(given("192.0.2.1")), Ok(HostAddress { v4, ..HostAddress::default() }));
        assert_eq!(host_address(given("[2001:db8::1], 192.0.2.1")), Ok(HostAddress { v4, v6, name: None }));
        for text in ["0.0.0.0", "::", "192.0.2.1,192.0.2.2", "192.0.2.1/24", "224.0.0.1", "255.255.255.255", ","] {
            assert!(host_address(given(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn the_advertised_address_may_be_a_host_name_but_no_address_with_a_mistake_in_it() {
        for text in ["host.example.com", " host ", "HOST_1", "node-7.lan.", "1host", "a.1b"] {
            let found = host_address(given(text)).unwrap();
            assert_eq!(found, HostAddress { name: Some(text.trim().to_owned()), v4: None, v6: None });
        }
        let long = "a".repeat(64);
        for text in [
            "192.0.2.300",
            "10.1",
            "7",
            "a..b",
            "-a",
            "a-",
            "a b",
            "host:80",
            "http://host",
            "host,192.0.2.1",
            &long,
            "é",
            ".",
        ] {
            let error = host_address(given(text)).unwrap_err();
            assert!(error.expected.starts_with("one IPv4 and/or one IPv6 address, or a host name"), "{text}");
        }
    }
}
