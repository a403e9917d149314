//! The meta of a service: pairs of texts that stay as they are for as long as it is registered. Shared by its clones, and its texts
//! with whoever else has them: the keys are those of every other service, the container's id is a key of a dozen maps.

use std::fmt;
use std::sync::Arc;

use arcstr::ArcStr;
use serde::{Serialize, Serializer};

use crate::text::Texts;

/// Texts by key, in the order of their keys.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Meta(Arc<[(ArcStr, ArcStr)]>);

impl Meta {
    /// The text under this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.text(key).map(ArcStr::as_str)
    }

    /// The text under this key, to be shared.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&ArcStr> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Whether there is a text under this key.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Keys and texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The texts, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(_, value)| value)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with this text under this key.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> Self {
        self.others(key).chain([(key.into(), value.into())]).collect()
    }

    /// The same without this key.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        self.others(key).collect()
    }

    fn others(&self, key: &str) -> impl Iterator<Item = (ArcStr, ArcStr)> {
        self.0.iter().filter(move |(known, _)| known != key).cloned()
    }

    /// Shares its texts with those that others have too, and with those of its container. A hash (`alone`) nobody else has.
    pub fn share_texts(&mut self, texts: &mut Texts, own: &[&ArcStr], alone: &str) {
        let shared = self.0.iter().cloned().map(|(key, value)| {
            let value = match own.iter().find(|own| ***own == value) {
                Some(own) => (*own).clone(),
                None if key == alone => value,
                None => texts.shared(value),
            };
            (texts.shared(key), value)
        });
        self.0 = shared.collect();
    }
}

/// Of two texts under one key the later one counts.
impl<K: Into<ArcStr>, V: Into<ArcStr>> FromIterator<(K, V)> for Meta {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        // It keeps the order of those that are alike.
        pairs.sort_by(|(one, _): &(ArcStr, ArcStr), (other, _)| one.cmp(other));
        pairs.dedup_by(|later, earlier| {
            let alike = later.0 == earlier.0;
            if alike {
                std::mem::swap(later, earlier);
            }
            alike
        });
        Self(pairs.into())
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
    use crate::text::share;

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
    fn one_copy_of_what_is_the_same() {
        let meta = |key: &str, value: &str| Meta::from_iter([(key, value)]);
        let (mut one, other) = (meta("a", "b"), meta("a", "b"));
        share(&mut one, &other);
        assert!(Arc::ptr_eq(&one.0, &other.0));
        share(&mut one, &meta("a", "c"));
        assert_eq!(one, other);
    }

    #[test]
    fn texts_are_shared_but_for_those_that_nobody_else_has() {
        let (mut texts, id) = (Texts::default(), ArcStr::from("id"));
        let mut metas = ["1", "1"].map(|hash| Meta::from_iter([("id", "id"), ("node", "n1"), ("hash", hash)]));
        let before = metas.clone();
        for meta in &mut metas {
            meta.share_texts(&mut texts, &[&id], "hash");
        }
        let [one, other] = &metas;
        let same = |key: &str| ArcStr::ptr_eq(one.text(key).unwrap(), other.text(key).unwrap());
        assert_eq!(["hash", "id", "node"].map(same), [false, true, true]);
        assert!(ArcStr::ptr_eq(one.text("id").unwrap(), &id));
        assert_eq!(metas, before);
    }
}
