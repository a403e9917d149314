//! The `SERVICE_*` keys of one container with registrator's precedence: a key for a port before a key for the container,
//! and for the same key a label before an environment variable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::keys::{self, CheckOption, Scope};
use super::notes::Notes;
use crate::docker::{Container, Port};

/// Where a key was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Label,
    Environment,
}

/// One key with its value. Shown as `SERVICE_80_NAME (label)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// The key as it was written.
    pub key: &'a str,
    /// Its value as it was written.
    pub value: &'a str,
    /// Which ports it is about.
    pub scope: Scope,
    source: Source,
}

impl Entry<'_> {
    /// Whether it names ports, and is not for the whole container.
    pub(super) fn is_for_ports(&self) -> bool {
        self.scope != Scope::Container
    }

    /// Whether it has no value: for the ports that it is about it takes away what a less specific key sets.
    pub(super) fn is_empty(&self) -> bool {
        self.value.trim().is_empty()
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Source::Label => "label",
            Source::Environment => "environment",
        };
        write!(f, "{} ({source})", super::values::head(&super::values::one_line(self.key), 200))
    }
}

/// All keys of a container: option → its entries, the most specific first.
#[derive(Debug, Default)]
pub(super) struct Metadata<'a> {
    options: BTreeMap<String, Vec<Entry<'a>>>,
}

impl<'a> Metadata<'a> {
    /// Reads labels and environment, and notes what cannot be understood.
    pub(super) fn read(container: &'a Container, notes: &mut Notes) -> Self {
        let labels = container.labels.iter().map(|pair| (pair, Source::Label));
        let environment = container.service_env.iter().map(|pair| (pair, Source::Environment));
        let mut metadata = Self::default();
        let mut seen: BTreeMap<(Scope, String), (&str, &str)> = BTreeMap::new();
        for ((key, value), source) in labels.chain(environment) {
            let parsed = match keys::parse(key) {
                None => continue,
                Some(Err(wrong)) => {
                    notes.warn(key, format!("{wrong}; the key is left out"));
                    continue;
                }
                Some(Ok(parsed)) => parsed,
            };
            // Labels come first and upper case sorts before lower case, so what was seen first wins.
            if let Some((winner, kept)) = seen.get(&(parsed.scope, parsed.option.clone())) {
                if *kept != value {
                    let text = match source {
                        Source::Environment => "differs between label and environment: the label wins".to_owned(),
                        Source::Label => format!("says something else than {winner}, which wins"),
                    };
                    notes.warn(key, text);
                }
                continue;
            }
            seen.insert((parsed.scope, parsed.option.clone()), (key, value));
            let entry = Entry { key, value, scope: parsed.scope, source };
            metadata.options.entry(parsed.option).or_default().push(entry);
        }
        for entries in metadata.options.values_mut() {
            entries.sort_by_key(|entry| entry.scope.rank());
        }
        metadata.note_unknown_checks(notes);
        metadata
    }

    fn note_unknown_checks(&self, notes: &mut Notes) {
        for (option, entries) in &self.options {
            if let Some(rest) = option.strip_prefix(keys::CHECK)
                && keys::parse_check(rest).is_none()
            {
                for entry in entries {
                    notes.warn(entry.key, "is no known option of a check and is left out: see docs/labels.md");
                }
            }
        }
    }

    /// The most specific entry for a port. One with an empty value hides the less specific ones and counts as not set:
    /// `SERVICE_9090_CHECK_HTTP=` takes the container's check off one port.
    pub(super) fn get(&self, option: &str, port: Option<Port>) -> Option<Entry<'a>> {
        self.most_specific(option, port).filter(|entry| !entry.is_empty())
    }

    /// The most specific entry for a port, also if it is empty: for who looks under several options in turn, and has to
    /// end where one of them takes the rest away.
    pub(super) fn most_specific(&self, option: &str, port: Option<Port>) -> Option<Entry<'a>> {
        self.options.get(option)?.iter().find(|entry| entry.scope.covers(port)).copied()
    }

    /// Every entry for a port, the least specific first.
    pub(super) fn all(&self, option: &str, port: Option<Port>) -> impl Iterator<Item = Entry<'a>> {
        let entries = self.options.get(option).into_iter().flatten().rev();
        entries.filter(move |entry| entry.scope.covers(port)).copied()
    }

    /// What is no option of Remora: attributes for the meta, each with its most specific entry, in the order of their keys.
    /// One that is empty for these ports is none; for the whole container there is nothing that it could take away, so there
    /// it is an attribute with an empty value, as in registrator.
    pub(super) fn attributes(&self, port: Option<Port>) -> impl Iterator<Item = (&str, Entry<'a>)> {
        self.options.iter().filter(|(option, _)| !keys::is_control(option)).filter_map(move |(option, entries)| {
            let entry = entries.iter().find(|entry| entry.scope.covers(port))?;
            (!(entry.is_for_ports() && entry.is_empty())).then_some((option.as_str(), *entry))
        })
    }

    /// The checks that are asked for: name → how to check, with the entries that ask. Several ways under one name come in
    /// the order of [`keys::METHODS`].
    pub(super) fn checks(&self, port: Option<Port>) -> BTreeMap<&str, Vec<(&'static str, Entry<'a>)>> {
        let mut checks: BTreeMap<&str, Vec<(&'static str, Entry<'a>)>> = BTreeMap::new();
        for (option, _) in self.options.range(keys::CHECK.to_owned()..) {
            let Some(rest) = option.strip_prefix(keys::CHECK) else { break };
            if let Some(CheckOption::Method(name, method)) = keys::parse_check(rest)
                && let Some(entry) = self.get(option, port)
            {
                checks.entry(name).or_default().push((method, entry));
            }
        }
        for ways in checks.values_mut() {
            ways.sort_by_key(|(method, _)| keys::METHODS.iter().position(|known| known == method));
        }
        checks
    }

    /// Port numbers that `SERVICE_<port>_NAME` names one by one (not in a range).
    pub(super) fn named_ports(&self) -> BTreeSet<u16> {
        let entries = self.options.get("name").into_iter().flatten();
        entries
            .filter_map(|entry| match entry.scope {
                Scope::Ports { first, last, .. } if first == last && !entry.is_empty() => Some(first),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::container;
    use super::*;
    use crate::docker::Protocol;

    const WEB: Option<Port> = Some(Port { number: 80, protocol: Protocol::Tcp });
    const DNS: Option<Port> = Some(Port { number: 53, protocol: Protocol::Udp });

    #[test]
    fn port_before_container_and_label_before_environment() {
        let container = container("web")
            .label("SERVICE_NAME", "generic-label")
            .env("SERVICE_80_NAME", "port-env")
            .env("SERVICE_53_NAME", "dns-env")
            .label("SERVICE_53_UDP_NAME", "dns-udp")
            .build();
        let mut notes = Notes::default();
        let metadata = Metadata::read(&container, &mut notes);
        assert_eq!(metadata.get("name", WEB).unwrap().value, "port-env");
        assert_eq!(metadata.get("name", DNS).unwrap().value, "dns-udp");
        assert_eq!(metadata.get("name", None).unwrap().to_string(), "SERVICE_NAME (label)");
        assert!(notes.into_list().is_empty());
    }

    #[test]
    fn the_same_key_twice_is_told_when_the_values_differ() {
        let container = container("web")
            .label("SERVICE_NAME", "label")
            .env("SERVICE_NAME", "env")
            .label("SERVICE_tags", "x")
            .env("SERVICE_TAGS", "x")
            .label("SERVICE_Name", "other spelling")
            .build();
        let mut notes = Notes::default();
        let metadata = Metadata::read(&container, &mut notes);
        assert_eq!(metadata.get("name", None).unwrap().value, "label");
        let notes = notes.into_list();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes.iter().all(|note| note.warning));
    }

    #[test]
    fn an_empty_value_hides_the_less_specific_one() {
        let container = container("web").label("SERVICE_CHECK_HTTP", "/").label("SERVICE_80_CHECK_HTTP", "").build();
        let metadata = Metadata::read(&container, &mut Notes::default());
        assert!(metadata.get("check_http", WEB).is_none());
        assert!(metadata.checks(WEB).is_empty());
        assert_eq!(metadata.checks(DNS).len(), 1);
    }

    #[test]
    fn an_empty_key_for_a_port_takes_an_attribute_or_a_name_away_too() {
        let container = container("web")
            .label("SERVICE_REGION", "eu")
            .label("SERVICE_80_REGION", "")
            .label("SERVICE_ZONE", "")
            .label("SERVICE_80_NAME", " ")
            .build();
        let metadata = Metadata::read(&container, &mut Notes::default());
        let attributes = |port| metadata.attributes(port).map(|(key, entry)| (key, entry.value)).collect::<Vec<_>>();
        assert_eq!(attributes(WEB), [("zone", "")], "for the whole container there is nothing to take away");
        assert_eq!(attributes(DNS), [("region", "eu"), ("zone", "")]);
        assert!(metadata.named_ports().is_empty());
    }

    #[test]
    fn unknown_check_options_are_told() {
        let container =
            container("web").label("SERVICE_CHECK_HTPP", "/").label("SERVICE_80_CHECK_INTERVALL", "1s").build();
        let mut notes = Notes::default();
        let metadata = Metadata::read(&container, &mut notes);
        assert_eq!(notes.into_list().len(), 2);
        assert_eq!(metadata.attributes(WEB).count(), 0);
    }
}
