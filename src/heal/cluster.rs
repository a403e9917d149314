//! What agents and operators tell each other through Consul's KV. May know `config`, `consul` and the notes of
//! `registration`. No task of its own: the watcher reads the lists and hands them in.
//!
//! * [`keys`]: where everything is.
//! * [`pauses`]: healing stands still, and why; pure.
//! * [`asks`]: what an operator asks an agent to do; pure.
//! * [`slots`]: so many nodes may operate at a time: the semaphore.
//! * [`ring`]: the last hundred events of a node; pure.
//! * [`state`]: what is remembered of a container over an agent's restart; pure.
//!
//! Whatever stands in a key was written by somebody else: a value that makes no sense is told, and does no harm.

pub mod asks;
pub mod keys;
pub mod pauses;
pub mod ring;
pub mod slots;
mod stamp;
pub mod state;

pub use asks::{Ask, Asks, Wish};
pub use keys::Keys;
pub use pauses::{Pauses, Reason, Scope};
pub use ring::{Ring, Written};
pub use slots::{Slots, Taken};
pub use state::{Quarantined, State, Stop};

use crate::registration::values::{head, one_line};

/// Bytes of a free text that are shown: a reason, a name.
const TEXT_LIMIT: usize = 300;

/// A free text of somebody else as one line that is fit for a log.
fn text_of(value: &[u8]) -> String {
    // Cut first: nobody pays for a value of half a megabyte.
    let start = value.get(..value.len().min(4 * TEXT_LIMIT)).unwrap_or_default();
    let line = one_line(&String::from_utf8_lossy(start));
    head(&line, TEXT_LIMIT).to_owned()
}

#[cfg(test)]
mod testing {
    use std::collections::BTreeMap;

    use crate::consul::Entry;

    /// Keys as a list has them.
    pub(super) fn entries(list: &[(&str, &str)]) -> BTreeMap<String, Entry> {
        let entry = |value: &str, index: usize| Entry {
            value: value.as_bytes().to_vec(),
            index: u64::try_from(index).unwrap() + 10,
            session: None,
        };
        list.iter().enumerate().map(|(index, (key, value))| ((*key).to_owned(), entry(value, index))).collect()
    }
}
