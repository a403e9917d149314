//! Where the liveness of nodes is in Consul's KV, and how it is written there. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::consul::Entry;

/// The keys under `<prefix>/cluster/`. The name of a node is a part of a path: it may hold no slash. Consul's node names are
/// case-insensitive, keys are not: here they are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// With `REMORA_KV_PREFIX`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_matches('/').to_owned() }
    }

    /// The prefix of all of it.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}/cluster/", self.prefix)
    }

    /// The prefix of who is present.
    #[must_use]
    pub fn lives(&self) -> String {
        format!("{}/cluster/live/", self.prefix)
    }

    /// Exists while the agent of this node lives: its session deletes it.
    #[must_use]
    pub fn live(&self, node: &str) -> String {
        format!("{}{}", self.lives(), spelled(node))
    }

    /// The prefix of who was marked.
    #[must_use]
    pub fn gones(&self) -> String {
        format!("{}/cluster/gone/", self.prefix)
    }

    /// Since when this node is gone: RFC 3339.
    #[must_use]
    pub fn gone(&self, node: &str) -> String {
        format!("{}{}", self.gones(), spelled(node))
    }

    /// The lock of the leader.
    #[must_use]
    pub fn leader(&self) -> String {
        format!("{}/cluster/leader", self.prefix)
    }

    /// The nodes that are present, by a list of [`Keys::lives`]. A key that no session holds was written by hand, or its agent
    /// has lost it: it says nothing.
    #[must_use]
    pub fn present(&self, entries: &BTreeMap<String, Entry>) -> BTreeSet<String> {
        let held = entries.iter().filter(|(_, entry)| entry.session.is_some());
        held.filter_map(|(key, _)| Some(spelled(key.strip_prefix(&self.lives())?))).collect()
    }

    /// Since when which nodes are gone, by a list of [`Keys::gones`]; `None`: that cannot be read.
    #[must_use]
    pub fn since(&self, entries: &BTreeMap<String, Entry>) -> BTreeMap<String, Option<SystemTime>> {
        let since = |(key, entry): (&String, &Entry)| {
            Some((spelled(key.strip_prefix(&self.gones())?), parse(std::str::from_utf8(&entry.value).ok()?)))
        };
        entries.iter().filter_map(since).collect()
    }
}

/// The one spelling of a node's name.
#[must_use]
pub fn spelled(node: &str) -> String {
    node.to_lowercase()
}

/// A point in time as RFC 3339 has it, in UTC.
pub(super) fn stamp(at: SystemTime) -> String {
    // What is later than the year 9999 has no RFC 3339.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(at.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}

fn parse(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::store::is_key;

    fn entries(list: &[(&str, &[u8], Option<&str>)]) -> BTreeMap<String, Entry> {
        let entry = |value: &[u8], session: Option<&str>| Entry {
            value: value.to_vec(),
            index: 7,
            session: session.map(str::to_owned),
        };
        list.iter().map(|(key, value, session)| ((*key).to_owned(), entry(value, *session))).collect()
    }

    #[test]
    fn keys_are_as_documented() {
        let keys = Keys::new("/remora/");
        let all = [keys.live("N1"), keys.gone("n1"), keys.leader()];
        assert_eq!(all, ["remora/cluster/live/n1", "remora/cluster/gone/n1", "remora/cluster/leader"]);
        assert!(all.iter().all(|key| is_key(key)));
    }

    #[test]
    fn a_key_that_nobody_holds_says_nothing() {
        let keys = Keys::new("remora");
        let list = entries(&[
            ("remora/cluster/live/n1", b"e1", Some("s1")),
            ("remora/cluster/live/N2", b"e2", Some("s2")),
            ("remora/cluster/live/n3", b"e3", None),
            ("other", b"", Some("s3")),
        ]);
        assert_eq!(keys.present(&list), BTreeSet::from(["n1".to_owned(), "n2".to_owned()]));
    }

    #[test]
    fn a_time_that_cannot_be_read_is_none() {
        let keys = Keys::new("remora");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let list = entries(&[
            ("remora/cluster/gone/n1", stamp(at).as_bytes(), None),
            ("remora/cluster/gone/n2", b"yesterday", None),
        ]);
        assert_eq!(keys.since(&list), BTreeMap::from([("n1".to_owned(), Some(at)), ("n2".to_owned(), None)]));
        assert_eq!(stamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60)), "9999-12-31T23:59:59Z");
    }
}
