//! The meta of a service: pairs of texts that stay as they are for as long as it is registered. In one piece of memory, and shared
//! by its clones: with a map of them on either side of every comparison a fifth of all that is kept of a container would be this.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Texts by key, in the order of their keys.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Meta(Arc<Packed>);

/// All keys and values, one after the other, and where each of them ends.
#[derive(PartialEq, Eq, Default)]
struct Packed {
    text: Box<str>,
    ends: Box<[usize]>,
}

impl Meta {
    /// The text under this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Whether there is a text under this key.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Keys and texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let Packed { text, ends } = &*self.0;
        let mut start = 0;
        let mut next = move |end: usize| text.get(std::mem::replace(&mut start, end)..end).unwrap_or_default();
        ends.as_chunks::<2>().0.iter().map(move |[key, value]| (next(*key), next(*value)))
    }

    /// The texts, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(_, value)| value)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ends.len() / 2
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// The same with this text under this key.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> Self {
        self.iter().filter(|(known, _)| *known != key).chain([(key, value)]).collect()
    }

    /// The same without this key.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        self.iter().filter(|(known, _)| *known != key).collect()
    }

    /// Shares its memory with another one that says the same.
    pub fn share(&mut self, other: &Self) {
        if !Arc::ptr_eq(&self.0, &other.0) && self == other {
            *self = other.clone();
        }
    }
}

/// Of two texts under one key the later one counts.
impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Meta {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(K, V)> = pairs.into_iter().collect();
        // It keeps the order of those that are alike.
        pairs.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
        let last = |at: &usize| match (pairs.get(*at), pairs.get(at + 1)) {
            (Some((one, _)), Some((next, _))) => one.as_ref() != next.as_ref(),
            _ => true,
        };
        let (mut text, mut ends) = (String::new(), Vec::new());
        for (key, value) in (0..pairs.len()).filter(last).filter_map(|at| pairs.get(at)) {
            for part in [key.as_ref(), value.as_ref()] {
                text.push_str(part);
                ends.push(text.len());
            }
        }
        Self(Arc::new(Packed { text: text.into(), ends: ends.into() }))
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_map_in_the_order_of_its_keys() {
        let meta: Meta = [("b", "2"), ("a", "ü"), ("b", "3"), ("", "\0")].into_iter().collect();
        assert_eq!(meta.iter().collect::<Vec<_>>(), [("", "\0"), ("a", "ü"), ("b", "3")]);
        assert_eq!((meta.get("a"), meta.get("c"), meta.len()), (Some("ü"), None, 3));
        assert_eq!(serde_json::to_string(&meta).unwrap(), r#"{"":"\u0000","a":"ü","b":"3"}"#);
        assert_eq!(format!("{:?}", meta.without("")), r#"{"a": "ü", "b": "3"}"#);
        assert_eq!(meta.without("a").with("a", "ü"), meta);
        assert!(Meta::default().is_empty() && meta.without("a").without("b").without("").is_empty());
    }

    #[test]
    fn what_looks_alike_in_one_piece_is_not_the_same() {
        let meta = |key: &str, value: &str| Meta::from_iter([(key, value)]);
        assert_ne!(meta("ab", "c"), meta("a", "bc"));
        let (mut one, other) = (meta("a", "b"), meta("a", "b"));
        one.share(&other);
        assert!(Arc::ptr_eq(&one.0, &other.0));
        one.share(&meta("a", "c"));
        assert_eq!(one, other);
    }
}
