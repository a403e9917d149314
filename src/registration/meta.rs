//! Meta: who owns the registration, what it is, and the attributes of the container. One bad pair would make Consul refuse
//! the whole registration, so a bad pair is left out and told.

use arcstr::ArcStr;
use litemap::LiteMap;

use super::Settings;
use super::metadata::Metadata;
use super::notes::Notes;
use super::values::{head, one_line};
use crate::consul::Service;
use crate::docker::names::logical;
use crate::docker::spec::label;
use crate::docker::{COMPOSE_PROJECT, COMPOSE_SERVICE, Container, Port};

/// Consul's limit of pairs per service.
pub(super) const MOST: usize = 64;

/// Consul's limit of a key, in bytes.
pub(super) const LONGEST_KEY: usize = 128;

/// Consul's limit of a value, in bytes.
pub(super) const LONGEST_VALUE: usize = 512;

/// Keys that are ours alone: an attribute that could forge one would let a label take over, or hide, a registration.
/// `image` and `project` are not among them: they only inform, and a container's own attribute of that name wins, as it
/// always did with registrator.
const RESERVED: [&str; 5] =
    [Service::META_OWNER, Service::META_CONTAINER, "container-name", "compose-service", "external-source"];

/// Beginnings of keys that are ours (`heal-…` tells of replacements), and the one that is Consul's own.
const RESERVED_PREFIXES: [&str; 3] = ["remora-", "heal-", "consul-"];

/// The meta of one service, without its hash.
pub(super) fn meta(
    container: &Container,
    metadata: &Metadata<'_>,
    port: Option<Port>,
    settings: &Settings,
    notes: &mut Notes,
) -> LiteMap<String, String> {
    let mut meta = own(container, settings);
    // One more of ours is to come: the hash.
    let mut room = MOST.saturating_sub(meta.len() + 1);
    let mut too_many = None;
    for (key, entry) in metadata.attributes(port) {
        if let Some(wrong) = wrong_with(key, entry.value) {
            notes.warn(entry.key, format!("is left out of the meta: {wrong}"));
        } else if let Some(informing) = meta.get_mut(key) {
            entry.value.clone_into(informing);
        } else if room == 0 {
            too_many = Some(entry.key);
        } else {
            meta.insert(key.to_owned(), entry.value.to_owned());
            room -= 1;
        }
    }
    if let Some(key) = too_many {
        notes.warn(
            key,
            format!("and others are left out of the meta: Consul takes at most {MOST} pairs, Remora's own included"),
        );
    }
    meta
}

fn own(container: &Container, settings: &Settings) -> LiteMap<String, String> {
    let text = |key| container.labels.get(key).map_or("", ArcStr::as_str);
    let replacements = text(label::GENERATION).trim().parse::<u32>().ok().filter(|&count| count > 0);
    let count = replacements.map(|count| count.to_string()).unwrap_or_default();
    // Only of a container that took another one's place.
    let of_replacement = |key| if replacements.is_some() { text(key) } else { "" };
    [
        (Service::META_OWNER, "remora"),
        (Service::META_NODE, settings.node.as_str()),
        (Service::META_ENGINE, settings.engine.as_str()),
        (Service::META_CONTAINER, container.id.as_str()),
        ("container-name", logical(&container.name).0),
        ("image", container.image.as_str()),
        ("project", text(COMPOSE_PROJECT)),
        ("compose-service", text(COMPOSE_SERVICE)),
        ("heal-count", count.as_str()),
        ("heal-last", of_replacement(label::SINCE)),
        ("heal-reason", of_replacement(label::CAUSE)),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(key, value)| (key.to_owned(), head(&one_line(value), LONGEST_VALUE).to_owned()))
    .collect()
}

fn wrong_with(key: &str, value: &str) -> Option<String> {
    let is_plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if key.is_empty() || key.len() > LONGEST_KEY || !is_plain {
        Some(format!("Consul takes keys of letters, digits, - and _, at most {LONGEST_KEY} bytes"))
    } else if key.starts_with("consul-") {
        Some("Consul keeps keys that begin with consul- for itself".to_owned())
    } else if RESERVED.contains(&key) || RESERVED_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
        Some("Remora sets this key itself".to_owned())
    } else if value.len() > LONGEST_VALUE {
        Some(format!("its value has {} bytes, Consul takes at most {LONGEST_VALUE}", value.len()))
    } else if value.chars().any(char::is_control) {
        // Whoever reads the catalog shows it on a terminal or in a line of a log.
        Some("its value has control characters, such as line breaks".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{container, settings};
    use super::*;

    fn read(container: &Container) -> (LiteMap<String, String>, Vec<super::super::Note>) {
        let mut notes = Notes::default();
        let metadata = Metadata::read(container, &mut notes);
        (meta(container, &metadata, None, &settings(), &mut notes), notes.into_list())
    }

    #[test]
    fn attributes_become_meta_and_control_keys_never_do() {
        let container = container("web")
            .label("SERVICE_REGION", "eu")
            .label("SERVICE_NAME", "x")
            .label("SERVICE_CHECK_SCRIPT", "secret")
            .label("SERVICE_CHECK_NONSENSE", "x")
            .label("SERVICE_WEIGHTS_PASSING", "3")
            .build();
        let (meta, _) = read(&container);
        assert_eq!(meta.get("region").map(String::as_str), Some("eu"));
        assert_eq!(meta.get("managed-by").map(String::as_str), Some("remora"));
        assert_eq!(meta.get("container-id").map(String::as_str), Some(container.id.as_str()));
        assert!(!meta.keys().any(|key| key.starts_with("check") || key == "name" || key.starts_with("weights")));
    }

    #[test]
    fn a_bad_pair_costs_itself_only() {
        let container = container("web")
            .label("SERVICE_foo.bar", "x")
            .label("SERVICE_LONG", &"x".repeat(513))
            .label("SERVICE_FITS", &"x".repeat(512))
            .label("SERVICE_consul-version", "x")
            .label(&format!("SERVICE_{}", "k".repeat(129)), "x")
            .build();
        let (meta, notes) = read(&container);
        assert!(meta.contains_key("fits"));
        assert_eq!(notes.iter().filter(|note| note.warning).count(), 4, "{notes:?}");
    }

    #[test]
    fn control_characters_never_reach_the_catalog() {
        let container = container("web")
            .label("SERVICE_NL", "a\nb\u{1}")
            .label("SERVICE_DEL", "a\u{7f}")
            .label("SERVICE_C1", "a\u{9b}31m")
            .label("SERVICE_OK", "é b")
            .build();
        let (meta, notes) = read(&container);
        assert!(meta.values().all(|value| !value.chars().any(char::is_control)), "{meta:?}");
        assert_eq!(meta.get("ok").unwrap(), "é b");
        assert!(!meta.contains_key("nl") && !meta.contains_key("del") && !meta.contains_key("c1"));
        assert_eq!(notes.iter().filter(|note| note.warning && note.text.contains("control")).count(), 3, "{notes:?}");
    }

    #[test]
    fn marks_of_ownership_cannot_be_forged() {
        let container = container("web")
            .label("SERVICE_managed-by", "someone")
            .label("SERVICE_Remora-Node", "elsewhere")
            .label("SERVICE_container-id", "0")
            .label("SERVICE_heal-count", "0")
            .label("SERVICE_external-source", "nomad")
            .label("SERVICE_IMAGE", "mine")
            .build();
        let (meta, notes) = read(&container);
        assert_eq!(meta.get("managed-by").unwrap(), "remora");
        assert_eq!(meta.get("remora-node").unwrap(), "node-1");
        assert_eq!(meta.get("container-id").unwrap(), container.id.as_str());
        assert_eq!(meta.get("image").unwrap(), "mine");
        assert!(!meta.contains_key("external-source") && !meta.contains_key("heal-count"));
        assert_eq!(notes.len(), 5);
    }

    #[test]
    fn a_replacement_says_how_many_there_were_and_why() {
        let replaced = || {
            container("web")
                .label(label::GENERATION, "3")
                .label(label::SINCE, "2026-01-01T00:00:00Z")
                .label(label::CAUSE, &format!("unhealthy\n\u{9b}31m{}", "x".repeat(600)))
        };
        let attributes = |builder: super::super::testing::Builder| {
            builder
                .label("SERVICE_HEAL_COUNT", "9")
                .label("SERVICE_heal-count", "9")
                .label("SERVICE_heal-reason", "mine")
        };
        let (meta, notes) = read(&attributes(replaced()).build());
        assert_eq!(
            (meta.get("heal-count").unwrap().as_str(), meta.get("heal-last").unwrap().as_str()),
            ("3", "2026-01-01T00:00:00Z")
        );
        assert!(
            meta.get("heal-reason").unwrap().starts_with("unhealthy ")
                && meta.get("heal-reason").unwrap().len() <= LONGEST_VALUE
        );
        assert!(!meta.get("heal-reason").unwrap().chars().any(char::is_control), "{meta:?}");
        assert_eq!(notes.iter().filter(|note| note.about.starts_with("SERVICE_heal-")).count(), 2, "{notes:?}");
        for generation in ["", "0", "-1", "x", "99999999999"] {
            let (meta, _) = read(&replaced().label(label::GENERATION, generation).build());
            assert!(!meta.keys().any(|key| key.starts_with("heal-")), "{generation}: {meta:?}");
        }
    }

    #[test]
    fn there_are_never_more_pairs_than_consul_takes() {
        let mut builder = container("web");
        for number in 0..200 {
            builder = builder.label(&format!("SERVICE_A{number}"), "x");
        }
        let (meta, notes) = read(&builder.build());
        assert_eq!(meta.len(), MOST - 1);
        assert_eq!(notes.len(), 1);
    }
}
