//! Collects what the author of the labels, or the operator, should know.

use super::Note;
use super::values::{head, one_line};

/// At most so many notes per container: enough to see what is wrong, little enough that ten thousand bad labels are no
/// ten thousand lines of log.
const LIMIT: usize = 50;

/// Bytes of what a note is about, a label's key mostly, and of what it says: more than any of them needs that quotes no more of a value
/// than it has to.
const LONGEST_ABOUT: usize = 200;
const LONGEST_TEXT: usize = 700;

/// The notes of one container, each once.
#[derive(Debug, Default)]
pub(super) struct Notes {
    notes: Vec<Note>,
    left_out: usize,
}

impl Notes {
    /// Something was left out, or does not do what it was meant to do.
    pub(super) fn warn(&mut self, about: &str, text: impl Into<String>) {
        self.add(about, &text.into(), true);
    }

    /// Something is worth knowing.
    pub(super) fn tell(&mut self, about: &str, text: impl Into<String>) {
        self.add(about, &text.into(), false);
    }

    fn add(&mut self, about: &str, text: &str, warning: bool) {
        // What is told may quote what a container says, also where whoever wrote the note did not think of it.
        let fit = |text: &str, limit| head(&one_line(text), limit).to_owned();
        let (about, text) = (fit(about, LONGEST_ABOUT), fit(text, LONGEST_TEXT));
        let note = Note { about, text, warning };
        if self.notes.contains(&note) {
            return;
        }
        if self.notes.len() < LIMIT {
            self.notes.push(note);
        } else {
            self.left_out += 1;
        }
    }

    /// In the order in which they came up.
    pub(super) fn into_list(mut self) -> Vec<Note> {
        if self.left_out > 0 {
            let text = "there is more to say than is shown here: what is told above comes first".to_owned();
            self.notes.push(Note { about: "notes".to_owned(), text, warning: false });
        }
        self.notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_told_once_and_there_is_an_end_to_them() {
        let mut notes = Notes::default();
        for number in 0..1000 {
            notes.warn(&format!("key{}", number % 500), "bad");
        }
        let list = notes.into_list();
        assert_eq!(list.len(), LIMIT + 1);
        assert_eq!(list.iter().filter(|note| note.about == "key1").count(), 1);
    }

    #[test]
    fn what_a_note_quotes_is_one_line_of_bounded_length() {
        let mut notes = Notes::default();
        let key = format!("SERVICE_X\u{1b}[31m\0{}", "x".repeat(100_000));
        notes.warn(&key, format!("says something else than {key}, which wins"));
        let list = notes.into_list();
        assert!(list.iter().all(|note| note.about.len() <= 200 && note.text.len() <= LONGEST_TEXT), "{list:?}");
        assert!(
            list.iter().all(|note| !note.about.contains(char::is_control) && !note.text.contains(char::is_control))
        );
    }
}
