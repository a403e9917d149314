//! What an operator asks this node's agent to do (`remora heal`, `remora release`). Pure, but for the key that is removed.

use std::collections::BTreeMap;

use super::keys::Keys;
use super::text_of;
use crate::consul::{ConsulError, Entry, Store};
use crate::registration::Note;
use crate::registration::values::quoted;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Heal it now, whatever it looks like.
    Heal,
    /// Forget its attempts and its quarantine.
    Release,
}

impl Wish {
    /// The word that stands in the key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heal => "heal",
            Self::Release => "release",
        }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The container's logical name.
    pub name: String,
    /// What is to be done.
    pub wish: Wish,
    /// Who asked, in his own words; possibly empty.
    pub by: String,
    key: String,
    index: u64,
}

impl Ask {
    /// The value of a request's key: what [`Asks::read`] reads.
    #[must_use]
    pub fn value(wish: Wish, by: &str) -> String {
        format!("{} {}", wish.as_str(), text_of(by.as_bytes())).trim_end().to_owned()
    }

    /// Takes the request: its key is removed. `false`: it was changed meanwhile, and is another one now. To be done before
    /// anything else is, so that it is done once.
    ///
    /// # Errors
    /// [`ConsulError`]: not known whether it was taken.
    pub async fn take(&self, store: &impl Store) -> Result<bool, ConsulError> {
        store.delete_if(&self.key, self.index).await
    }
}

/// What a list of requests comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The requests.
    pub asks: Vec<Ask>,
    /// What is wrong with the others; each is told once.
    pub notes: Vec<Note>,
    /// The keys of the others, with their index: for [`Store::delete_if`].
    pub bad: Vec<(String, u64)>,
}

/// Reads requests, and remembers of which bad ones it has told.
#[derive(Debug, Clone, Default)]
pub struct Asks {
    told: BTreeMap<String, u64>,
}

impl Asks {
    /// Reads a list of the keys under [`Keys::asks`].
    pub fn read(&mut self, keys: &Keys, entries: &BTreeMap<String, Entry>) -> Asked {
        let prefix = keys.asks();
        let mut asked = Asked::default();
        for (key, entry) in entries {
            let Some(name) = key.strip_prefix(&prefix) else { continue };
            let text = text_of(&entry.value);
            let (word, by) = text.split_once(' ').unwrap_or((&text, ""));
            let wish = [Wish::Heal, Wish::Release].into_iter().find(|wish| wish.as_str().eq_ignore_ascii_case(word));
            if let Some(wish) = wish.filter(|_| !name.is_empty() && !name.contains('/')) {
                let (name, by) = (name.to_owned(), by.trim().to_owned());
                asked.asks.push(Ask { name, wish, by, key: key.clone(), index: entry.index });
                continue;
            }
            asked.bad.push((key.clone(), entry.index));
            if self.told.insert(key.clone(), entry.index) != Some(entry.index) {
                let text = quoted(&text);
                asked.notes.push(Note {
                    about: text_of(key.as_bytes()),
                    text: format!(
                        "{text} is no request: expected {prefix}<container> with heal or release, and who asks"
                    ),
                    warning: true,
                });
            }
        }
        self.told.retain(|key, _| entries.contains_key(key));
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::entries;
    use super::*;

    #[test]
    fn requests_are_a_word_and_who_asks() {
        let keys = Keys::new("remora", "n1");
        let list = entries(&[
            ("remora/heal/ask/n1/web", "heal alice at the desk"),
            ("remora/heal/ask/n1/my.api-1", "RELEASE"),
            ("remora/heal/ask/n2/web", "heal"),
        ]);
        let asked = Asks::default().read(&keys, &list);
        assert_eq!((asked.notes.len(), asked.bad.len()), (0, 0));
        let found: Vec<_> = asked.asks.iter().map(|ask| (ask.name.as_str(), ask.wish, ask.by.as_str())).collect();
        assert_eq!(found, [("my.api-1", Wish::Release, ""), ("web", Wish::Heal, "alice at the desk")]);
        for (wish, by) in [(Wish::Heal, "bob\nthe builder"), (Wish::Release, "")] {
            let value = Ask::value(wish, by);
            let asked = Asks::default().read(&keys, &entries(&[("remora/heal/ask/n1/web", &value)]));
            assert_eq!((asked.asks[0].wish, asked.asks[0].by.as_str()), (wish, by.replace('\n', " ").as_str()));
        }
    }

    #[test]
    fn a_bad_request_is_told_once() {
        let keys = Keys::new("remora", "n1");
        let list = entries(&[
            ("remora/heal/ask/n1/a/b", "heal"),
            ("remora/heal/ask/n1/web", "reboot\u{1b}[m"),
            ("remora/heal/ask/n1/", ""),
        ]);
        let mut asks = Asks::default();
        let first = asks.read(&keys, &list);
        assert_eq!((first.asks.len(), first.notes.len(), first.bad.len()), (0, 3, 3));
        assert!(first.notes[2].text.starts_with("\"reboot [m\" is no request"), "{:?}", first.notes);
        let again = asks.read(&keys, &list);
        assert_eq!((again.notes.len(), again.bad.len()), (0, 3));
        // Gone, and asked again.
        asks.read(&keys, &entries(&[]));
        assert_eq!(asks.read(&keys, &list).notes.len(), 3);
    }
}
