//! Reading of raw documents: what is absent, null or of another type than expected reads as empty, and never fails.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Unclonable;

/// The value under a key; null if there is none.
pub(super) fn at<'a>(object: &'a Value, key: &str) -> &'a Value {
    object.get(key).unwrap_or(&Value::Null)
}

/// The text under a key.
pub(super) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The entries of the list under a key.
pub(super) fn entries<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The members of the object under a key.
pub(super) fn members<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    object.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// Whether a value says nothing. `false` and 0 do say something: the engine tells them apart from null in some fields.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// An absolute path in its shortest spelling, as the engine compares the places of mounts.
pub(super) fn clean(path: &str) -> Cow<'_, str> {
    let is_clean = path.starts_with('/') && !path.ends_with('/') && !path.contains("//") && !path.contains("/.");
    if is_clean {
        return path.into();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/")).into()
}

/// The places in an inspect document that everything here reads.
#[derive(Clone, Copy)]
pub(super) struct Original<'a> {
    pub document: &'a Value,
    pub id: &'a str,
    pub config: &'a Value,
    pub host: &'a Value,
}

impl<'a> Original<'a> {
    /// Reads a document; one that lacks any of these is not an inspect document.
    pub fn read(document: &'a Value) -> Result<Self, Unclonable> {
        let object = |key: &'static str| {
            document.get(key).filter(|value| value.is_object()).ok_or(Unclonable::Unreadable { field: key })
        };
        let (config, host) = (object("Config")?, object("HostConfig")?);
        let id = text(document, "Id");
        if id.is_empty() {
            return Err(Unclonable::Unreadable { field: "Id" });
        }
        Ok(Self { document, id, config, host })
    }

    /// The first twelve digits of the id: the host name and the alias that the engine makes of it.
    pub fn short_id(&self) -> &'a str {
        self.id.get(..12).unwrap_or(self.id)
    }

    /// `HostConfig.NetworkMode`.
    pub fn network_mode(&self) -> &'a str {
        text(self.host, "NetworkMode")
    }

    /// The container whose network it shares.
    pub fn network_parent(&self) -> Option<&'a str> {
        self.network_mode().strip_prefix("container:")
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.config.get("Labels")?.get(key)?.as_str()
    }

    /// Its places in networks, by the network's name.
    pub fn networks(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.document.get("NetworkSettings").into_iter().flat_map(|settings| members(settings, "Networks"))
    }

    /// What is mounted, whoever asked for it.
    pub fn mounts(&self) -> &'a [Value] {
        entries(self.document, "Mounts")
    }

    /// A section as a map of one's own.
    pub fn copy(section: &Value) -> Map<String, Value> {
        section.as_object().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_in_their_shortest_spelling() {
        for (path, expected) in
            [("/a", "/a"), ("/a/", "/a"), ("//a//b", "/a/b"), ("/a/./b/../c", "/a/c"), ("/", "/"), ("/.a", "/.a")]
        {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
