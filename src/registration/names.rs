//! Names of services, and the parts of ids.

use std::borrow::Cow;

use super::keys::Scope;
use super::metadata::Metadata;
use super::notes::Notes;
use super::values::{head, list, one_line, quoted};
use crate::config::Names;
use crate::consul::registry::is_addressable;
use crate::docker::names::logical;
use crate::docker::{COMPOSE_SERVICE, Container, Port};

/// Longest value of `SERVICE_NAME`, `SERVICE_ID` and an alias, in bytes. Consul takes names of 300 bytes (tried); this leaves
/// room for the suffixes, and nobody resolves a longer one: a DNS name ends at 253.
pub(super) const LONGEST: usize = 255;

/// Longest label of a DNS name (RFC 1035).
const DNS_LABEL: usize = 63;

/// The name of a service when no key gives one: the image's name without registry, path, tag and digest; for an image that
/// is given by its id, the Compose service or the container's name.
pub(super) fn default_name(container: &Container) -> Cow<'_, str> {
    let reference = container.image.split('@').next().unwrap_or_default();
    let last = reference.rsplit('/').next().unwrap_or_default();
    let base = last.split(':').next().unwrap_or_default();
    if !base.is_empty() && !is_image_id(container) {
        return one_line(head(base, LONGEST)).into();
    }
    match container.labels.get(COMPOSE_SERVICE).map(|name| name.trim()).filter(|name| !name.is_empty()) {
        Some(service) => one_line(head(service, LONGEST)).into(),
        None => one_line(head(logical(&container.name).0, LONGEST)).into(),
    }
}

fn is_image_id(container: &Container) -> bool {
    /// Fewer digits than this may as well be a repository called `cafe`.
    const SHORTEST: usize = 8;
    let image = container.image.as_str();
    let id = container.image_id.strip_prefix("sha256:").unwrap_or(&container.image_id);
    image.starts_with("sha256:") || (image.len() >= SHORTEST && id.starts_with(image))
}

/// A name with where it comes from and the end of the id of its registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// The service's name.
    pub name: String,
    /// The key or rule.
    pub from: String,
    /// For an alias: what is added to the id.
    pub id_suffix: Option<String>,
}

/// The names under which one port (`None`: no port) is registered: its name first, then its aliases.
pub(super) fn names(
    container: &Container,
    metadata: &Metadata<'_>,
    port: Option<Port>,
    several_ports: bool,
    policy: Names,
    notes: &mut Notes,
) -> Vec<Named> {
    let suffix_for = |is_for_ports: bool| match port {
        Some(port) if several_ports && !is_for_ports => format!("-{}", port.number),
        _ => String::new(),
    };
    let finish = |name: &str, suffix: &str, key: &str, notes: &mut Notes| {
        let fallback = || format!("container-{}", container.id.short());
        match policy {
            Names::Dns => dns_name(name, suffix).or_else(|| dns_name(&fallback(), suffix)).unwrap_or_else(fallback),
            Names::Keep => {
                let name = format!("{}{suffix}", if name.is_empty() { fallback() } else { name.to_owned() });
                if !is_dns_label(&name) {
                    let text = "the name is registered as it is, but is no DNS label (lower-case letters, digits and -, at most 63 \
                                bytes), which newer versions of Consul ask for; REMORA_NAMES=dns makes it one";
                    notes.tell(key, text);
                }
                name
            }
        }
    };
    let mut named: Vec<Named> = Vec::new();
    let own = metadata.get("name", port).and_then(|entry| Some((usable(entry.key, entry.value, notes)?, entry)));
    let (name, from, is_for_ports, key) = match own {
        Some((name, entry)) => (Cow::Owned(name), entry.to_string(), entry.is_for_ports(), entry.key),
        None => (default_name(container), "image".to_owned(), false, "name"),
    };
    let name = finish(&name, &suffix_for(is_for_ports), key, notes);
    named.push(Named { name, from, id_suffix: None });
    if let Some(entry) = metadata.get("alias", port) {
        let aliases = list(entry.value);
        if aliases.len() > MOST_ALIASES {
            notes.warn(entry.key, format!("names more than {MOST_ALIASES} further names: the rest is left out"));
        }
        for alias in aliases.into_iter().take(MOST_ALIASES) {
            let Some(alias) = usable(entry.key, &alias, notes) else { continue };
            let name = finish(&alias, &suffix_for(entry.is_for_ports()), entry.key, notes);
            if named.iter().all(|other| !other.name.eq_ignore_ascii_case(&name)) {
                let id_suffix = Some(nameable(entry.key, &id_part(&alias), notes));
                named.push(Named { name, from: entry.to_string(), id_suffix });
            }
        }
    }
    named
}

/// Each further name is a registration of its own: more than these is a mistake or an attack on the catalog.
const MOST_ALIASES: usize = 16;

/// A name or id as it was given, if Consul can carry it.
fn usable(key: &str, value: &str, notes: &mut Notes) -> Option<String> {
    let value = value.trim();
    if value.is_empty() {
        None
    } else if value.len() > LONGEST || value.chars().any(char::is_control) {
        notes.warn(
            key,
            format!("{} is left out: expected at most {LONGEST} bytes without control characters", quoted(value)),
        );
        None
    } else {
        Some(value.to_owned())
    }
}

/// Whether DNS can carry a name: lower-case letters, digits and `-`, a letter or digit at both ends, at most 63 bytes.
pub(super) fn is_dns_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= DNS_LABEL
        && name.bytes().all(|byte| plain(byte) || byte == b'-')
        && name.bytes().next().is_some_and(plain)
        && name.bytes().next_back().is_some_and(plain)
}

/// Makes a name one that DNS can carry: lower case, every run of other characters one `-`, cut so that the suffix stays whole.
fn dns_name(name: &str, suffix: &str) -> Option<String> {
    let mut label = String::with_capacity(name.len());
    for character in name.chars().flat_map(char::to_lowercase) {
        if character.is_ascii_lowercase() || character.is_ascii_digit() {
            label.push(character);
        } else if !label.ends_with('-') {
            label.push('-');
        }
    }
    let label = head(label.trim_matches('-'), DNS_LABEL.saturating_sub(suffix.len())).trim_end_matches('-');
    (!label.is_empty()).then(|| format!("{label}{suffix}"))
}

/// A text as a part of an id: no blanks or control characters (ids stand in paths, files and logs), at most
/// [`LONGEST`] bytes.
pub(super) fn id_part(text: &str) -> String {
    let shown = |character: char| if character.is_control() || character.is_whitespace() { '_' } else { character };
    head(text, LONGEST).chars().map(shown).collect()
}

/// A part of an id that Consul's API can name in a path: its server tidies paths up, so that `a//b` or `..` could be
/// registered but never be reached again.
fn nameable(key: &str, part: &str, notes: &mut Notes) -> String {
    if is_addressable(part) {
        return part.to_owned();
    }
    let instead = part.replace('/', "-").replace("..", "--");
    let instead = if instead == "." { "-".to_owned() } else { instead };
    notes.warn(key, format!("{} cannot be reached in Consul's API: registered as {}", quoted(part), quoted(&instead)));
    instead
}

/// The id of a registration without what further bindings and names add, and the key or rule that gave it.
pub(super) fn base_id(
    node: &str,
    container_name: &str,
    metadata: &Metadata<'_>,
    port: Option<Port>,
    several_ports: bool,
    notes: &mut Notes,
) -> (String, String) {
    let number = port.map_or(0, |port| port.number);
    // registrator adds nothing for tcp
    let protocol = port.map(|port| port.protocol.as_str()).filter(|protocol| *protocol != "tcp");
    let (mut id, from) = match metadata
        .get("id", port)
        .and_then(|entry| Some((usable(entry.key, entry.value, notes)?, entry)))
    {
        Some((id, entry)) => {
            let mut id = nameable(entry.key, &id_part(&id), notes);
            if several_ports && !is_exact(entry.scope) {
                notes.warn(entry.key, "is one id for several ports: -<port> is added so that each has its own");
                id = format!("{id}-{number}");
            }
            (id, entry.to_string())
        }
        None => (format!("{}:{}:{number}", id_part(node), id_part(container_name)), "host:container:port".to_owned()),
    };
    if let Some(protocol) = protocol
        && !id.ends_with(&format!(":{protocol}"))
    {
        id.push(':');
        id.push_str(protocol);
    }
    (id, from)
}

fn is_exact(scope: Scope) -> bool {
    scope.is_one_port()
}

#[cfg(test)]
mod tests {
    use super::super::testing::container;
    use super::*;

    #[test]
    fn the_default_name_is_the_images_own() {
        let id = format!("sha256:{}", "ab".repeat(32));
        for (image, expected) in [
            ("nginx", "nginx"),
            ("nginx:1.27", "nginx"),
            ("repo/app:1", "app"),
            ("registry:5000/team/app", "app"),
            ("registry:5000/team/app:1@sha256:00ff", "app"),
            ("repo/app@sha256:00ff", "app"),
            ("my_app", "my_app"),
            (id.as_str(), "web"),
            ("abababababab", "web"),
            ("", "web"),
        ] {
            let mut container = container("web.new-1a2b3c4d").build();
            container.image = image.into();
            container.image_id = id.as_str().into();
            assert_eq!(default_name(&container), expected, "{image}");
        }
        let mut compose = container("p_api_1").label(COMPOSE_SERVICE, "api").build();
        compose.image = id.as_str().into();
        assert_eq!(default_name(&compose), "api");
    }

    #[test]
    fn dns_names_keep_their_suffix_whole() {
        assert_eq!(dns_name("My_App.v2", "-8080").unwrap(), "my-app-v2-8080");
        assert_eq!(dns_name(&"x".repeat(100), "-8080").unwrap(), format!("{}-8080", "x".repeat(58)));
        assert_eq!(dns_name("__", ""), None);
        assert!(is_dns_label("a-b") && !is_dns_label("a_b") && !is_dns_label("-a") && !is_dns_label(""));
    }
}
