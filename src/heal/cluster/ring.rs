//! The last hundred events of a node, in as many keys. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::Keys;
use crate::consul::Entry;
use crate::registration::values::head;

/// How many events are kept.
pub const SIZE: u64 = 100;

/// Bytes of one event: Consul's servers keep all of them in memory.
pub const EVENT_LIMIT: usize = 8 << 10;

/// The field that counts the events of a node; whoever writes after a restart goes on behind the greatest.
pub const SEQUENCE: &str = "seq";

/// Where the next event goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    prefix: String,
    next: u64,
}

/// An event, ready to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub key: String,
    /// Its JSON text, at most [`EVENT_LIMIT`] bytes.
    pub value: Vec<u8>,
}

#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

impl Ring {
    /// Goes on behind the newest event of a list of the keys under [`Keys::events`]. What cannot be read counts for nothing, and
    /// is overwritten when it is its turn.
    #[must_use]
    pub fn resumed(keys: &Keys, entries: &BTreeMap<String, Entry>) -> Self {
        let sequence = |entry: &Entry| serde_json::from_slice::<Numbered>(&entry.value).ok().map(|event| event.seq);
        let newest = entries.values().filter_map(sequence).max();
        Self { prefix: keys.events(), next: newest.map_or(0, |newest| newest.wrapping_add(1)) }
    }

    /// Gives an event its number and its key. Texts of an event that is too long are cut; what is still too long then keeps
    /// only its short fields.
    pub fn encode(&mut self, event: &Map<String, Value>) -> Written {
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        let mut event = event.clone();
        event.insert(SEQUENCE.to_owned(), sequence.into());
        let mut event = Value::Object(event);
        // Maps with text keys always have a JSON form.
        let text = |event: &Value| serde_json::to_vec(event).unwrap_or_default();
        let mut value = text(&event);
        for limit in [2048, 512, 128, 32] {
            if value.len() <= EVENT_LIMIT {
                break;
            }
            shorten(&mut event, limit);
            value = text(&event);
        }
        if value.len() > EVENT_LIMIT
            && let Value::Object(fields) = &mut event
        {
            let short = |name: &str, field: &Value| name.len() <= 32 && !field.is_array() && !field.is_object();
            let kept: Map<String, Value> = std::mem::take(fields)
                .into_iter()
                .filter(|(name, field)| name == SEQUENCE || short(name, field))
                .collect();
            // Its number is kept whatever happens.
            let first = kept.iter().take(64).map(|(name, field)| (name.clone(), field.clone()));
            *fields = first.chain([(SEQUENCE.to_owned(), sequence.into())]).collect();
            value = text(&event);
        }
        Written { key: format!("{}{:02}", self.prefix, sequence % SIZE), value }
    }
}

/// Cuts every text in it.
fn shorten(value: &mut Value, limit: usize) {
    match value {
        Value::String(text) if text.len() > limit => {
            *text = format!("{}…", head(text, limit));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shorten(item, limit)),
        Value::Object(fields) => fields.values_mut().for_each(|field| shorten(field, limit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::entries;
    use super::*;

    fn event(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn resumed(list: &[(&str, &str)]) -> Ring {
        Ring::resumed(&Keys::new("remora", "n1"), &entries(list))
    }

    fn read(written: &Written) -> Value {
        serde_json::from_slice(&written.value).unwrap()
    }

    #[test]
    fn events_go_around_the_ring() {
        let mut ring = resumed(&[]);
        let keys: Vec<String> = (0..101).map(|_| ring.encode(&event(&json!({"event": "healed"}))).key).collect();
        assert_eq!((keys[0].as_str(), keys[99].as_str()), ("remora/events/n1/00", "remora/events/n1/99"));
        assert_eq!(keys[100], keys[0]);
    }

    #[test]
    fn an_agent_goes_on_behind_the_newest_event() {
        let mut ring = resumed(&[
            ("remora/events/n1/98", r#"{"seq": 298}"#),
            ("remora/events/n1/99", r#"{"seq": 299, "event": "healed"}"#),
            ("remora/events/n1/00", r#"{"seq": 300}"#),
            ("remora/events/n1/01", r#"{"seq": 201}"#),
            ("remora/events/n1/02", "garbage"),
            ("remora/events/n1/03", r#"{"seq": -7}"#),
        ]);
        let written = ring.encode(&event(&json!({"event": "healed", "seq": "mine"})));
        assert_eq!(written.key, "remora/events/n1/01");
        assert_eq!(read(&written), json!({"event": "healed", "seq": 301}));
        let mut last = resumed(&[("remora/events/n1/15", r#"{"seq": 18446744073709551615}"#)]);
        assert_eq!(last.encode(&Map::new()).key, "remora/events/n1/00");
    }

    #[test]
    fn an_event_is_bounded_and_stays_json() {
        let mut ring = resumed(&[]);
        let long = "é".repeat(100_000);
        let many: Map<String, Value> = (0..1000).map(|number| (format!("field{number}"), json!(long))).collect();
        for big in [
            json!({"event": "healed", "evidence": long}),
            json!({"event": "healed", "steps": vec![json!({"step": long}); 20]}),
            json!({"event": "healed", "steps": vec![7; 100_000]}),
            json!({"event": "healed", long.clone(): 1}),
            Value::Object(many),
        ] {
            let written = ring.encode(&event(&big));
            assert!(written.value.len() <= EVENT_LIMIT, "{} bytes", written.value.len());
            let read = read(&written);
            assert!(read["seq"].is_u64() && (read["event"] == "healed" || read["field0"].is_string()), "{read}");
        }
    }
}
