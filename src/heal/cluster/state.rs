//! What is remembered of a container over an agent's restart: a document per place in Consul's KV. Pure.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{stamp, text_of};

/// Attempts that are kept: more than any policy counts.
pub const ATTEMPTS_LIMIT: usize = 64;

/// What is remembered of one place (`web` on this node). Points in time, because the next agent has another clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct State {
    /// The container that had the place last: its full id.
    pub container: String,
    /// Its image's id: with another one everything begins anew.
    pub image: String,
    /// When attempts began, oldest first.
    #[serde(serialize_with = "write_all", deserialize_with = "read_all", skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<SystemTime>,
    /// Attempts in a row that did not bring a healthy container.
    pub failures: u32,
    /// `escalate`: a restart was tried already in this incident.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restarted: bool,
    /// Nothing is done until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantined>,
    /// Since when it has been sick.
    #[serde(serialize_with = "write_maybe", deserialize_with = "read_maybe", skip_serializing_if = "Option::is_none")]
    pub sick: Option<SystemTime>,
    /// An operator stopped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
}

/// A quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Quarantined {
    /// Its end.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub until: SystemTime,
    /// How many in a row this is, from 1.
    pub level: u32,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// An operator's stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stop {
    /// The container that was stopped: with another one in the place the mark counts for nothing.
    pub container: String,
    /// When.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub at: SystemTime,
}

impl State {
    /// Its JSON text; texts and attempts are bounded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut state = self.clone();
        state.attempts.drain(..state.attempts.len().saturating_sub(ATTEMPTS_LIMIT));
        if let Some(quarantine) = &mut state.quarantine {
            quarantine.reason = text_of(quarantine.reason.as_bytes());
        }
        // Cannot fail: there is no map with keys that are no text.
        serde_json::to_vec(&state).unwrap_or_else(|_| b"{}".to_vec())
    }

    /// Reads one. Fields that it does not know are passed over, fields that are missing are empty.
    ///
    /// # Errors
    /// What is wrong with it: to be told, and the state is as if there were none.
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        let wrong = |error: &serde_json::Error| {
            format!("is none of Remora's (line {}, column {})", error.line(), error.column())
        };
        // An object first: a list would be read field by field.
        let object: Map<String, Value> = serde_json::from_slice(value).map_err(|error| wrong(&error))?;
        let mut state = Self::deserialize(Value::Object(object))
            .map_err(|error| format!("is none of Remora's ({})", text_of(error.to_string().as_bytes())))?;
        state.attempts.sort_unstable();
        state.attempts.drain(..state.attempts.len().saturating_sub(ATTEMPTS_LIMIT));
        if let Some(quarantine) = &mut state.quarantine {
            quarantine.reason = text_of(quarantine.reason.as_bytes());
        }
        Ok(state)
    }

    /// Whether there is nothing to remember: the key can go.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
            && self.failures == 0
            && !self.restarted
            && self.quarantine.is_none()
            && self.sick.is_none()
            && self.stop.is_none()
    }
}

fn write<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&stamp::write(*at))
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    stamp::parse(&text).ok_or_else(|| serde::de::Error::custom("no point in time"))
}

#[expect(clippy::ref_option, reason = "the signature that serde wants")]
fn write_maybe<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(stamp::write).serialize(serializer)
}

fn read_maybe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| stamp::parse(&text).ok_or_else(|| serde::de::Error::custom("no point in time"))).transpose()
}

fn write_all<S: Serializer>(stamps: &[SystemTime], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(stamps.iter().map(|at| stamp::write(*at)))
}

fn read_all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SystemTime>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let stamp = |text: &String| stamp::parse(text).ok_or_else(|| serde::de::Error::custom("no point in time"));
    texts.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> SystemTime {
        stamp::parse(text).unwrap()
    }

    fn full() -> State {
        State {
            container: "ab".repeat(32),
            image: "sha256:cd".to_owned(),
            attempts: vec![at("2026-11-26T05:00:00Z"), at("2026-11-26T05:01:00Z")],
            failures: 2,
            restarted: true,
            quarantine: Some(Quarantined {
                until: at("2026-11-26T06:00:00Z"),
                level: 1,
                reason: "5 attempts".to_owned(),
            }),
            sick: Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)),
            stop: Some(Stop { container: "ab".repeat(32), at: at("2026-11-26T05:02:00Z") }),
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        for state in [full(), State::default()] {
            assert_eq!(State::decode(&state.encode()), Ok(state));
        }
        let written: Value = serde_json::from_slice(&full().encode()).unwrap();
        assert_eq!(written["quarantine"]["until"], "2026-11-26T06:00:00Z");
        assert_eq!(written["attempts"][1], "2026-11-26T05:01:00Z");
        assert_eq!((full().is_empty(), State::default().is_empty()), (false, true));
    }

    #[test]
    fn fields_of_other_versions_do_no_harm_and_garbage_is_told() {
        let newer = json!({"container": "ab", "failures": 1, "mood": {"x": []}});
        let expected = State { container: "ab".to_owned(), failures: 1, ..State::default() };
        assert_eq!(State::decode(newer.to_string().as_bytes()), Ok(expected));
        for garbage in [
            "",
            "null",
            "[]",
            "7",
            "{",
            "\u{0}",
            r#"{"attempts": ["tomorrow"]}"#,
            r#"{"failures": -1}"#,
            r#"{"quarantine": {"until": "2026-11-26T06:00:00Z"}}"#,
        ] {
            assert!(State::decode(garbage.as_bytes()).is_err(), "{garbage}");
        }
    }

    #[test]
    fn a_state_is_bounded() {
        let mut state = full();
        state.attempts =
            (0..1000_u64).map(|number| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number)).collect();
        let read = State::decode(&state.encode()).unwrap();
        assert_eq!(read.attempts.len(), ATTEMPTS_LIMIT);
        assert_eq!(read.attempts.last(), state.attempts.last(), "the newest ones are kept");
        assert!(state.encode().len() < 8192);
    }

    proptest! {
        #[test]
        fn anything_can_be_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..200), text in "[ -~]{0,200}") {
            drop(State::decode(&value));
            drop(State::decode(text.as_bytes()));
        }
    }
}
