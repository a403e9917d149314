//! Healing stands still: everywhere, on a node, or for one container. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use super::keys::Keys;
use super::{stamp, text_of};
use crate::consul::Entry;
use crate::registration::Note;

/// What introduces the end of a pause, in front of its reason.
const UNTIL: &str = "until=";

/// How far a pause reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All nodes.
    Everything,
    /// All containers of a node.
    Node,
    /// One container.
    Container,
}

/// Why healing stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// How far it reaches.
    pub scope: Scope,
    /// In somebody's words; possibly empty.
    pub text: String,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scope {
            Scope::Everything => "healing is paused everywhere",
            Scope::Node => "healing is paused on this node",
            Scope::Container => "healing is paused for this container",
        })?;
        if let Some(until) = self.until {
            write!(f, " until {}", stamp::write(until))?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// All pauses: the keys under [`Keys::pauses`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pauses {
    all: Option<Reason>,
    nodes: BTreeMap<String, Reason>,
    containers: BTreeMap<(String, String), Reason>,
}

impl Pauses {
    /// Reads a list of the keys, and tells what in it makes no sense. A pause whose end cannot be read has none: whoever
    /// wrote it wanted healing to stand still.
    #[must_use]
    pub fn read(keys: &Keys, entries: &BTreeMap<String, Entry>) -> (Self, Vec<Note>) {
        let mut pauses = Self::default();
        let mut notes = Vec::new();
        let prefix = keys.pauses();
        for (key, entry) in entries {
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            let mut parts = rest.split('/');
            // In front of the first slash nothing may stand: `pause-x` is another key.
            let place = match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(""), None | Some(""), None, None) => Place::Everything,
                (Some(""), Some(node), None | Some(""), None) => Place::Node(node),
                (Some(""), Some(node), Some(name), None) => Place::Container(node, name),
                _ => {
                    let text =
                        format!("it pauses nothing: expected {prefix}, {prefix}/<node> or {prefix}/<node>/<name>");
                    notes.push(Note { about: text_of(key.as_bytes()), text, warning: true });
                    continue;
                }
            };
            let text = text_of(&entry.value);
            let (first, rest) = text.split_once(' ').unwrap_or((&text, ""));
            let (until, text) = match first.strip_prefix(UNTIL).map(stamp::parse) {
                Some(Some(until)) => (Some(until), rest.trim().to_owned()),
                Some(None) => {
                    let text = format!(
                        "{first} cannot be read, so that the pause has no end: expected for example {UNTIL}2026-12-24T18:00:00Z"
                    );
                    notes.push(Note { about: text_of(key.as_bytes()), text, warning: true });
                    (None, text_of(&entry.value))
                }
                None => (None, text),
            };
            let scope = place.scope();
            let reason = Reason { scope, text, until };
            match place {
                Place::Everything => pauses.all = Some(longer(pauses.all.take(), reason)),
                Place::Node(node) => {
                    let reason = longer(pauses.nodes.remove(node), reason);
                    pauses.nodes.insert(node.to_owned(), reason);
                }
                Place::Container(node, name) => {
                    pauses.containers.insert((node.to_owned(), name.to_owned()), reason);
                }
            }
        }
        (pauses, notes)
    }

    /// Why healing stands still for the container `name` on `node`; the widest reason first.
    #[must_use]
    pub fn paused(&self, node: &str, name: &str, now: SystemTime) -> Option<&Reason> {
        self.of(node, name).find(|reason| reason.until.is_none_or(|until| until > now))
    }

    /// When the next pause that concerns this container ends by itself.
    #[must_use]
    pub fn next_end(&self, node: &str, name: &str, now: SystemTime) -> Option<SystemTime> {
        self.of(node, name).filter_map(|reason| reason.until).filter(|until| *until > now).min()
    }

    fn of(&self, node: &str, name: &str) -> impl Iterator<Item = &Reason> {
        let container = self.containers.get(&(node.to_owned(), name.to_owned()));
        self.all.iter().chain(self.nodes.get(node)).chain(container)
    }

    /// The value of a pause's key: what [`Pauses::read`] reads.
    #[must_use]
    pub fn value(text: &str, until: Option<SystemTime>) -> String {
        match (until, text_of(text.as_bytes())) {
            (Some(until), text) => format!("{UNTIL}{} {text}", stamp::write(until)),
            // Newer versions of Consul may refuse an empty value.
            (None, text) if text.is_empty() => "paused".to_owned(),
            // It is no end, only a reason that begins like one.
            (None, text) if text.starts_with(UNTIL) => format!("\"{text}\""),
            (None, text) => text,
        }
    }
}

enum Place<'a> {
    Everything,
    Node(&'a str),
    Container(&'a str, &'a str),
}

impl Place<'_> {
    const fn scope(&self) -> Scope {
        match self {
            Self::Everything => Scope::Everything,
            Self::Node(_) => Scope::Node,
            Self::Container(..) => Scope::Container,
        }
    }
}

/// Two keys may speak of one place (`pause/n1` and `pause/n1/`): the pause that lasts longer counts.
fn longer(one: Option<Reason>, other: Reason) -> Reason {
    match one {
        Some(one) if one.until.is_none() || other.until.is_some_and(|until| Some(until) < one.until) => one,
        _ => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::entries;
    use super::*;
    use crate::registration::values::one_line;

    fn at(text: &str) -> SystemTime {
        stamp::parse(text).unwrap()
    }

    fn read(list: &[(&str, &str)]) -> (Pauses, Vec<Note>) {
        Pauses::read(&Keys::new("remora", "n1"), &entries(list))
    }

    #[test]
    fn a_pause_holds_for_what_it_names() {
        let now = at("2026-11-26T05:00:00Z");
        let (pauses, notes) = read(&[("remora/heal/pause/n1", "maintenance"), ("remora/heal/pause/n2/web", "")]);
        assert_eq!(notes, []);
        let why = |node, name| pauses.paused(node, name, now).map(ToString::to_string);
        assert_eq!(why("n1", "any").as_deref(), Some("healing is paused on this node: maintenance"));
        assert_eq!(why("n2", "web").as_deref(), Some("healing is paused for this container"));
        assert_eq!((why("n2", "api"), why("n3", "web")), (None, None));
        let (pauses, _) = read(&[("remora/heal/pause", "move"), ("remora/heal/pause/n1", "maintenance")]);
        let reason = pauses.paused("n1", "web", now).unwrap();
        assert_eq!((reason.scope, reason.text.as_str()), (Scope::Everything, "move"));
        assert_eq!(pauses.paused("n9", "web", now).unwrap().to_string(), "healing is paused everywhere: move");
    }

    #[test]
    fn a_pause_may_have_an_end() {
        let end = at("2026-11-26T05:00:00Z");
        let (pauses, notes) = read(&[
            ("remora/heal/pause", "until=2026-11-26T06:00:00+01:00  the move, until= then"),
            ("remora/heal/pause/n1", "until=2026-11-26T05:10:00Z"),
        ]);
        assert_eq!(notes, []);
        let before = end - Duration::from_secs(1);
        let reason = pauses.paused("n1", "web", before).unwrap();
        assert_eq!((reason.until, reason.text.as_str()), (Some(end), "the move, until= then"));
        assert_eq!(pauses.next_end("n1", "web", before), Some(end));
        assert_eq!(pauses.paused("n1", "web", end).unwrap().scope, Scope::Node);
        assert_eq!(pauses.paused("n2", "web", end), None);
        assert_eq!(pauses.next_end("n2", "web", end), None);
    }

    #[test]
    fn of_two_keys_for_one_place_the_longer_pause_counts() {
        let (past, later) = ("until=2026-11-26T05:00:00Z", "until=2026-11-26T07:00:00Z");
        let now = at("2026-11-26T06:00:00Z");
        for place in ["remora/heal/pause", "remora/heal/pause/n1"] {
            let slashed = format!("{place}/");
            for (one, other) in [("why", past), (past, "why"), (past, later), (later, past), ("why", later)] {
                let (pauses, _) = read(&[(place, one), (&slashed, other)]);
                assert!(pauses.paused("n1", "web", now).is_some(), "{place}: {one} and {other}");
            }
        }
    }

    #[test]
    fn a_reason_that_looks_like_an_end_is_none() {
        for text in [
            "until=1970-01-01T00:00:00Z",
            " until=2026-11-26T05:00:00Z we move",
            "until=tomorrow",
            "\u{7f}\0until=1970-01-01T00:00:00Z",
        ] {
            let (pauses, notes) = read(&[("remora/heal/pause", &Pauses::value(text, None))]);
            let reason = pauses.paused("n1", "web", at("9999-01-01T00:00:00Z")).unwrap();
            assert_eq!((reason.until, notes.len()), (None, 0), "{reason:?}");
            assert!(reason.text.contains(&one_line(text)), "{reason:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_and_an_end_that_cannot_be_read_is_none() {
        let (pauses, notes) = read(&[
            ("remora/heal/pause/n1", "until=tomorrow party"),
            ("remora/heal/pause-x", "x"),
            ("remora/heal/pause/a/b/c", "x"),
        ]);
        assert_eq!(notes.len(), 3, "{notes:?}");
        let reason = pauses.paused("n1", "web", at("9999-01-01T00:00:00Z")).unwrap();
        assert_eq!((reason.until, reason.text.as_str()), (None, "until=tomorrow party"));
        assert_eq!(pauses.paused("a", "b", SystemTime::UNIX_EPOCH), None);
    }

    #[test]
    fn a_folder_is_the_pause_that_it_stands_for() {
        let (pauses, notes) = read(&[("remora/heal/pause/", ""), ("remora/heal/pause/n1/", "x")]);
        assert_eq!((notes.len(), pauses.all.is_some(), pauses.nodes.len()), (0, true, 1));
    }

    #[test]
    fn a_value_can_be_read_again() {
        let end = at("2026-11-26T05:00:00Z");
        for (text, until) in [("a move\nof racks", None), ("", None), ("", Some(end)), ("a move", Some(end))] {
            let value = Pauses::value(text, until);
            let (pauses, notes) = read(&[("remora/heal/pause", &value)]);
            let reason = pauses.paused("n1", "web", SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!((reason.until, notes.len()), (until, 0), "{value}");
            assert!(!value.contains('\n'));
        }
        let long = Pauses::value(&"é".repeat(1_000_000), None);
        assert!(long.len() <= 300);
    }
}
