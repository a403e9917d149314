//! Where Consul is: one address, or several servers of one cluster.

use std::path::PathBuf;

use super::{REGISTRY, Registry, RegistryScheme};
use crate::config::ConsulAddress;
use crate::config::errors::{ConfigError, Findings};
use crate::config::parse::{Endpoint, Given, endpoint};

/// The first address and the others. The registry URI wins when it names one, then `CONSUL_HTTP_ADDR`, then Consul's default.
pub(super) fn addresses(
    variable: Option<Given<'_>>,
    registry: Option<&Registry>,
    ssl: bool,
    findings: &mut Findings,
) -> (ConsulAddress, Vec<ConsulAddress>) {
    let tls = ssl || registry.is_some_and(|registry| registry.scheme == RegistryScheme::Tls);
    let named = registry.filter(|registry| !registry.rest.trim_matches('/').is_empty());
    let (name, found) = match (named, variable) {
        (Some(registry), _) => (REGISTRY, vec![registry_address(registry, tls, findings)]),
        (None, Some(given)) => (given.name, several(given, tls)),
        (None, None) => ("", Vec::new()),
    };
    let mut addresses = Vec::new();
    for found in found {
        let Some(Found { address, port_missing }) = findings.take(found) else { continue };
        if port_missing {
            findings.warn(format!(
                "{name} names no port, so that {address} is used, as Consul's own tools do; Consul usually listens on port 8500"
            ));
        }
        if addresses.contains(&address) {
            findings.warn(format!("{name} names {address} twice, which has no effect"));
        } else {
            addresses.push(address);
        }
    }
    let mut addresses = addresses.into_iter();
    // Consul's own default, also of its command line.
    let default = || ConsulAddress::Url { tls, host: "127.0.0.1".to_owned(), port: 8500, prefix: String::new() };
    (addresses.next().unwrap_or_else(default), addresses.collect())
}

/// One address or several, with commas between them; what is wrong with each part is told of that part alone.
fn several(given: Given<'_>, tls: bool) -> Vec<Result<Found, ConfigError>> {
    let text = given.trimmed();
    // The path of a socket may hold a comma, as it always could. A password may too: what holds one is no address, and only as
    // a whole can it be told without showing any of it.
    let is_socket = text.starts_with("unix://") && text.matches("://").count() == 1;
    if !text.contains(',') || is_socket || text.contains(['@', '?', '#']) {
        return vec![url(given, text, tls)];
    }
    let mut first = None;
    let mut judge = |part: &str| {
        let part = part.trim();
        if part.is_empty() {
            return Err(given.wrong_address("an address before and after every comma"));
        }
        let given = Given { name: given.name, text: part };
        let found = url(given, part, tls)?;
        match &found.address {
            ConsulAddress::Unix(_) => Err(given.wrong_address(
                "http or https addresses where there are several: a unix socket is one Consul, and the only one",
            )),
            // A part without a scheme is http, as an address alone: to guess the others' would send a token in the clear, or
            // to a port that speaks no TLS, after a typing error.
            ConsulAddress::Url { tls: is_tls, .. } if *first.get_or_insert(*is_tls) != *is_tls => {
                Err(given.wrong_address("the same scheme for all addresses, http:// or https:// before each"))
            }
            ConsulAddress::Url { .. } => Ok(found),
        }
    };
    text.split(',').map(&mut judge).collect()
}

fn registry_address(registry: &Registry, tls: bool, findings: &mut Findings) -> Result<Found, ConfigError> {
    let given = Given { name: REGISTRY, text: &registry.argument };
    let rest = registry.rest.as_str();
    if registry.scheme == RegistryScheme::Unix {
        return unix(given, rest);
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if rest.contains(['@', '?', '#']) {
        return Err(given.wrong_address(
            "consul://host:port; a user goes into CONSUL_HTTP_AUTH and a token into CONSUL_HTTP_TOKEN",
        ));
    }
    if !path.is_empty() {
        findings.warn("the path in the registry URI has no effect, as in registrator");
    }
    url(given, authority, tls)
}

/// An address, and whether its port was left out where people usually mean Consul's own.
struct Found {
    address: ConsulAddress,
    port_missing: bool,
}

/// `host[:port]`, `http://host[:port][/prefix]`, `https://…`, `unix://path`. `tls` makes it https whatever it says.
fn url(given: Given<'_>, text: &str, tls: bool) -> Result<Found, ConfigError> {
    let wrong = || {
        given.wrong_address(
            "host:port, http://host:port, https://host:port or unix:///path/of/socket, such as 127.0.0.1:8500 (an IPv6 \
             address in brackets, a user or a token in CONSUL_HTTP_AUTH and CONSUL_HTTP_TOKEN)",
        )
    };
    let (scheme, rest) =
        text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme.to_ascii_lowercase()), rest));
    let tls = match scheme.as_deref() {
        None | Some("http") => tls,
        Some("https") => true,
        Some("unix") => return unix(given, rest),
        Some(_) => return Err(wrong()),
    };
    let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(Endpoint { host, port }) = endpoint(authority) else { return Err(wrong()) };
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@' | b'\\')) {
        return Err(wrong());
    }
    let prefix = prefix.trim_end_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    let port_missing = port.is_none() && scheme.is_none();
    // Without a port it is the one of the scheme, as in every URL: that is how a load balancer in front is addressed.
    let port = port.unwrap_or(if tls { 443 } else { 80 });
    Ok(Found { address: ConsulAddress::Url { tls, host, port, prefix }, port_missing })
}

fn unix(given: Given<'_>, path: &str) -> Result<Found, ConfigError> {
    if path.is_empty() || path.contains('\0') {
        return Err(given.wrong_address("the path of Consul's unix socket, such as unix:///run/consul.sock"));
    }
    Ok(Found { address: ConsulAddress::Unix(PathBuf::from(path)), port_missing: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, ssl: bool) -> Result<(Vec<String>, Vec<String>), Vec<String>> {
        let mut findings = Findings::default();
        let (first, others) = addresses(Some(Given { name: "CONSUL_HTTP_ADDR", text }), None, ssl, &mut findings);
        match findings.finish() {
            Ok(warnings) => Ok(([first].iter().chain(&others).map(ToString::to_string).collect(), warnings)),
            Err(errors) => Err(errors.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn several_addresses_are_judged_like_one() {
        for (text, ssl, expected) in [
            ("c1:8500,c2:8500", false, "http://c1:8500 http://c2:8500"),
            (
                "https://c1:8501, https://c2:8501 ,https://[::1]:8501/x",
                false,
                "https://c1:8501 https://c2:8501 https://[::1]:8501/x",
            ),
            ("c1:8501,http://c2:8501", true, "https://c1:8501 https://c2:8501"),
            ("unix:///run/a,b.sock", false, "unix:///run/a,b.sock"),
        ] {
            let (addresses, warnings) = read(text, ssl).unwrap();
            assert_eq!(addresses.join(" "), expected);
            assert_eq!(warnings, [""; 0], "{text}");
        }
    }

    #[test]
    fn an_error_names_the_part_that_is_wrong_and_only_that() {
        for (text, part) in [
            ("c1:8500,", "c1:8500,"),
            ("c1:8500,,c2:8500", "c1:8500,,c2:8500"),
            ("c1:8500,c2:port", "c2:port"),
            ("https://c1:8501,c2:8501", "c2:8501"),
            ("c1:8500,unix:///run/c.sock", "unix:///run/c.sock"),
            ("unix:///run/c.sock,http://c1:8500", "unix:///run/c.sock"),
        ] {
            let errors = read(text, false).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].starts_with(&format!("CONSUL_HTTP_ADDR={part}: expected ")), "{errors:?}");
        }
        for text in ["c1:8500,http://u:hunter2@c2:8500", "http://u:hunter2,hunter2@c1:8500", "c1:1,c2:2?token=hunter2"]
        {
            let errors = read(text, false).unwrap_err();
            assert!(errors.len() == 1 && !errors[0].contains("hunter2"), "{errors:?}");
        }
    }

    #[test]
    fn an_address_that_is_named_twice_counts_once_and_each_missing_port_is_told() {
        let (addresses, warnings) = read("c1:8500,http://c1:8500,c2", false).unwrap();
        assert_eq!(addresses, ["http://c1:8500", "http://c2:80"]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("twice") && warnings[1].contains("no port"), "{warnings:?}");
    }
}
