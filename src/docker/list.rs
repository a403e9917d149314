//! Reads a container list, entry by entry: one that cannot be read does not take the others with it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::container::ContainerId;
use super::port::{DockerError, Listing, Summary};

const CALL: &str = "GET /containers/json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    id: Cow<'a, str>,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    state: Option<Cow<'a, str>>,
    #[serde(default)]
    status: Option<Cow<'a, str>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    ports: Option<Vec<PortLine>>,
    #[serde(default)]
    network_settings: Option<Networks>,
}

#[derive(Deserialize, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "PascalCase")]
struct PortLine {
    #[serde(default, rename = "IP")]
    ip: Option<String>,
    #[serde(default)]
    private_port: u32,
    #[serde(default)]
    public_port: u32,
    #[serde(default)]
    r#type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Networks {
    #[serde(default)]
    networks: Option<BTreeMap<String, Option<Place>>>,
}

#[derive(Deserialize, Hash)]
struct Place {
    #[serde(default, rename = "IPAddress")]
    ip_address: Option<String>,
    #[serde(default, rename = "GlobalIPv6Address")]
    ipv6_address: Option<String>,
}

/// Reads the body of `GET /containers/json`.
///
/// # Errors
/// When it is not a list at all.
pub fn read(body: &[u8]) -> Result<Listing, DockerError> {
    let lines: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| DockerError::Unreadable { call: CALL, reason: format!("not a list: {}", place(&error)) })?;
    let mut listing = Listing::default();
    for line in lines {
        match serde_json::from_str::<Line<'_>>(line.get()) {
            Ok(line) if !line.id.is_empty() => listing.containers.push(summary(line)),
            _ => listing.unreadable += 1,
        }
    }
    Ok(listing)
}

fn summary(mut line: Line<'_>) -> Summary {
    // The engine gives neither names nor ports in a stable order. A name with a second slash is a link's, and comes and goes
    // with the other container. The image is left out: what it was asked for by never changes, but here it is shown as an id
    // as soon as its tag moves.
    if let Some(names) = &mut line.names {
        names.retain(|name| name.rfind('/').unwrap_or_default() == 0);
        names.sort_unstable();
    }
    if let Some(ports) = &mut line.ports {
        ports.sort_unstable();
    }
    let mut hash = fnv::FnvHasher::default();
    line.names.hash(&mut hash);
    line.state.hash(&mut hash);
    line.status.as_deref().map(verdict).hash(&mut hash);
    line.labels.hash(&mut hash);
    line.ports.hash(&mut hash);
    line.network_settings.and_then(|settings| settings.networks).hash(&mut hash);
    Summary {
        id: ContainerId::new(line.id.into_owned()),
        fingerprint: hash.finish(),
        live: !matches!(line.state.as_deref(), Some("created" | "exited" | "removing")),
    }
}

/// What stands in parentheses in `Up 3 minutes (healthy)` or `Exited (1) 2 hours ago`: the part that does not age.
fn verdict(status: &str) -> &str {
    let inside = status.split_once('(').map_or("", |(_, rest)| rest);
    inside.split_once(')').map_or("", |(inside, _)| inside)
}

/// Where a JSON text is wrong, without any of its content.
pub(super) fn place(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is no JSON",
        serde_json::error::Category::Data => "a field has another type than expected",
        serde_json::error::Category::Io => "reading failed",
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: &str, ports: &str) -> String {
        format!(
            r#"{{"Id":"aa","Names":["/web"],"Image":"web","State":"running","Status":"{status}","Ports":{ports},
               "Labels":{{"a":"b"}},"NetworkSettings":{{"Networks":{{"bridge":{{"IPAddress":"172.17.0.2"}}}}}}}}"#
        )
    }

    fn fingerprint(line: &str) -> u64 {
        read(format!("[{line}]").as_bytes()).unwrap().containers[0].fingerprint
    }

    #[test]
    fn age_and_order_do_not_change_the_fingerprint_but_health_and_ports_do() {
        let one =
            r#"[{"PrivatePort":80,"PublicPort":8080,"IP":"0.0.0.0","Type":"tcp"},{"PrivatePort":81,"Type":"tcp"}]"#;
        let other =
            r#"[{"PrivatePort":81,"Type":"tcp"},{"PrivatePort":80,"PublicPort":8080,"IP":"0.0.0.0","Type":"tcp"}]"#;
        let base = fingerprint(&line("Up 2 seconds (healthy)", one));
        assert_eq!(base, fingerprint(&line("Up 3 hours (healthy)", other)));
        assert_ne!(base, fingerprint(&line("Up 3 hours (unhealthy)", one)));
        assert_ne!(base, fingerprint(&line("Up 3 hours (healthy)", "[]")));
    }

    #[test]
    fn a_moved_tag_and_a_link_change_nothing() {
        let base = line("Up 2 seconds", "[]");
        let moved = base.replace(r#""Image":"web""#, r#""Image":"sha256:0123""#);
        let linked = base.replace(r#"["/web"]"#, r#"["/other/alias","/web"]"#);
        let renamed = base.replace(r#"["/web"]"#, r#"["/shop"]"#);
        assert!(moved != base && linked != base && renamed != base);
        assert_eq!(fingerprint(&base), fingerprint(&moved));
        assert_eq!(fingerprint(&base), fingerprint(&linked));
        assert_ne!(fingerprint(&base), fingerprint(&renamed));
    }

    #[test]
    fn an_entry_with_an_unknown_state_is_live_and_an_unreadable_one_is_counted() {
        let listing =
            read(br#"[{"Id":"a","State":"levitating"},{"Id":7},{"Id":"b","State":"exited","Ports":null}]"#).unwrap();
        assert_eq!(listing.unreadable, 1);
        assert!(listing.containers[0].live);
        assert!(!listing.containers[1].live);
    }

    #[test]
    fn what_is_no_list_is_an_error_and_not_an_empty_list() {
        for body in [&b"{}"[..], b"", b"null", b"[{\"Id\":\"a\"", b"<html>"] {
            assert!(matches!(read(body), Err(DockerError::Unreadable { .. })), "{}", String::from_utf8_lossy(body));
        }
    }
}
