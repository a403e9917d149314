//! What anybody may have written into Consul's KV: pauses, requests, what is remembered of containers, events, who is there; and
//! the answer of `/status`. One key per line (`remora/heal/pause/n1=why`), `@` before it where a session holds it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use remora::consul::Entry;
use remora::heal::cluster::{Asks, Keys, Pauses, Ring, State, Wish, asks, pauses, ring, state};
use remora::heal::record::Record;
use remora::heal::status::Status;
use remora::registration::Note;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::metadata::is_shown;

/// The last second that RFC 3339 can write.
const LAST: u64 = 253_402_300_799;

pub fn run(data: &[u8]) {
    let entries = entries(data);
    let keys = Keys::new("remora", "n1");
    paused(&keys, &entries);
    asked(&keys, &entries);
    events(&keys, &entries);
    nodes(&entries);
    entries.values().for_each(|entry| remembered(&entry.value));
    entries.values().for_each(|entry| shown(&entry.value));
}

/// Reads an input.
pub fn entries(data: &[u8]) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for (index, line) in (1_u64..).zip(data.split(|&byte| byte == b'\n')) {
        let at = line.iter().position(|&byte| byte == b'=').unwrap_or(line.len());
        let (key, value) = line.split_at(at);
        let key = String::from_utf8_lossy(key);
        let session = key.strip_prefix('@').map(|_| "a-session".to_owned());
        let value = value.get(1..).unwrap_or_default().to_vec();
        entries.insert(key.trim_start_matches('@').to_owned(), Entry { value, index, session });
    }
    entries
}

fn told(notes: &[Note]) {
    for note in notes {
        assert!(!note.about.is_empty() && is_shown(&note.about, 300) && is_shown(&note.text, 1000), "{note:?}");
    }
}

fn paused(keys: &Keys, entries: &BTreeMap<String, Entry>) {
    let (pauses, notes) = Pauses::read(keys, entries);
    assert_eq!(Pauses::read(keys, entries), (pauses.clone(), notes.clone()));
    told(&notes);
    // Whoever wrote the key wanted healing to stand still, however the value reads.
    for (key, entry) in entries {
        let Some(rest) = key.strip_prefix(&keys.pauses()) else { continue };
        let (node, name) = match rest.split('/').collect::<Vec<_>>()[..] {
            [""] | ["", ""] => ("any", "any"),
            ["", node] | ["", node, ""] => (node, "any"),
            ["", node, name] => (node, name),
            _ => continue,
        };
        if !begins_like_an_end(&String::from_utf8_lossy(&entry.value)) {
            let why = pauses.paused(node, name, SystemTime::now());
            assert!(why.is_some_and(|why| is_shown(&why.text, 300)), "{key} pauses nothing: {pauses:?}");
        }
        let now = SystemTime::UNIX_EPOCH;
        assert!(pauses.next_end(node, name, now).is_none_or(|end| end > now));
    }
    // What is written is what is read.
    for entry in entries.values() {
        let text = String::from_utf8_lossy(&entry.value);
        for until in [None, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000))] {
            let value = Pauses::value(&text, until).into_bytes();
            let list = BTreeMap::from([(keys.pause(None, None), Entry { value, index: 1, session: None })]);
            let (read, notes) = Pauses::read(keys, &list);
            let reason = read.paused("n1", "web", SystemTime::UNIX_EPOCH).expect("what was written pauses");
            assert_eq!((reason.until, reason.scope == pauses::Scope::Everything, notes.len()), (until, true, 0));
        }
    }
}

/// What is no text does not stand in front of one.
fn begins_like_an_end(text: &str) -> bool {
    text.trim_start_matches(|it: char| it.is_whitespace() || it.is_control()).starts_with("until=")
}

fn asked(keys: &Keys, entries: &BTreeMap<String, Entry>) {
    let mut reader = Asks::default();
    let first = reader.read(keys, entries);
    told(&first.notes);
    let under = entries.keys().filter(|key| key.starts_with(&keys.asks())).count();
    assert_eq!(first.asks.len() + first.bad.len(), under, "a request was lost");
    assert!(first.asks.iter().all(|ask| is_shown(&ask.by, 300) && !ask.name.is_empty() && !ask.name.contains('/')));
    let second = reader.read(keys, entries);
    assert_eq!((&second.asks, &second.bad), (&first.asks, &first.bad));
    assert!(second.notes.is_empty(), "told twice: {:?}", second.notes);
    for entry in entries.values() {
        let by = String::from_utf8_lossy(&entry.value);
        let value = asks::Ask::value(Wish::Heal, &by).into_bytes();
        let list = BTreeMap::from([(keys.ask("n1", "web"), Entry { value, index: 1, session: None })]);
        let read = Asks::default().read(keys, &list).asks;
        assert!(read.len() == 1 && read[0].wish == Wish::Heal, "a request of {by:?} is not read");
    }
}

fn events(keys: &Keys, entries: &BTreeMap<String, Entry>) {
    let mut ring = Ring::resumed(keys, entries);
    // The fields are ours, what stands in them is not.
    let mut event = Map::new();
    for (number, entry) in entries.values().enumerate().take(12) {
        let text = String::from_utf8_lossy(&entry.value).into_owned();
        event.insert(format!("field-{number}"), serde_json::from_slice(&entry.value).unwrap_or(json!(text)));
    }
    for _ in 0..2 {
        let written = ring.encode(&event);
        assert!(written.value.len() <= ring::EVENT_LIMIT, "{} bytes", written.value.len());
        let number = written.key.strip_prefix(&keys.events()).and_then(|number| number.parse::<u64>().ok());
        assert!(number.is_some_and(|number| number < ring::SIZE), "{}", written.key);
        let read: Value = serde_json::from_slice(&written.value).expect("an event in JSON");
        assert!(read[ring::SEQUENCE].is_u64(), "{read}");
        let list = BTreeMap::from([(written.key, Entry { value: written.value, index: 1, session: None })]);
        assert_eq!(Ring::resumed(keys, &list), ring, "it does not go on where it was");
    }
}

fn nodes(entries: &BTreeMap<String, Entry>) {
    let keys = remora::cluster::Keys::new("/remora/");
    let present = keys.present(entries);
    for node in &present {
        assert_eq!(*node, remora::cluster::keys::spelled(node), "two spellings of a node");
        let holds = |(key, entry): (&String, &Entry)| entry.session.is_some() && key.to_lowercase() == keys.live(node);
        assert!(entries.iter().any(holds), "{node} is there, and nobody holds its key");
    }
    for (node, since) in keys.since(entries) {
        assert_eq!(node, remora::cluster::keys::spelled(&node));
        assert!(since.is_none_or(|at| at >= SystemTime::UNIX_EPOCH), "{since:?}");
    }
}

fn remembered(value: &[u8]) {
    let read = match State::decode(value) {
        Ok(state) => state,
        Err(why) => return assert!(is_shown(&why, 400), "{why:?}"),
    };
    assert!(read.attempts.len() <= state::ATTEMPTS_LIMIT && read.attempts.is_sorted());
    // Points in time are written in whole seconds: from then on it is the same for ever.
    let written = State::decode(&read.encode()).expect("our own");
    assert_eq!(State::decode(&written.encode()).as_ref(), Ok(&written), "what is written reads otherwise");
    assert_eq!((&written.container, written.failures), (&read.container, read.failures));
    assert_eq!(written.attempts.len(), read.attempts.len());
    let now = Instant::now();
    for wall in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(LAST)] {
        let mut record = Record::from_state(&read, now, wall);
        let week = Duration::from_secs(7 * 24 * 3600);
        assert!(record.forgiven_at().is_none_or(|at| at <= now + 60 * week));
        assert!(record.quarantined(now).is_none_or(|it| it.until <= now + week && it.level > 0), "no end to it");
        let _blank = (record.is_blank(), record.given_up(now), record.recovered_at(), record.sick_since());
        let again = State::decode(&record.state(now, wall).encode()).expect("our own");
        assert!(again.attempts.len() <= state::ATTEMPTS_LIMIT);
        record.forget();
        assert!(record.quarantined(now).is_none());
    }
}

/// `remora status` shows what answers at the agent's address.
fn shown(value: &[u8]) {
    let Ok(status) = serde_json::from_slice::<Status>(value) else { return };
    let again: Status = serde_json::from_str(&status.json()).expect("our own");
    assert_eq!(again.json(), status.json());
    let _sick = status.needs_somebody();
    assert_eq!(status.text(), again.text());
}
