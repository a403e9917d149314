//! Reads labels, and writes down what is wrong with them.

use arcstr::ArcStr;
use litemap::LiteMap;
use std::time::Duration;

use super::DAY;
use crate::config::nearest;
use crate::docker::spec::is_mark;
use crate::heal::labels::{self, LABELS, PREFIX};
use crate::registration::Note;
use crate::registration::values::{boolean, duration, head, one_line, quoted};

/// Notes about labels that nobody knows: enough to see what is wrong.
pub(super) const UNKNOWN_LIMIT: usize = 20;

/// The labels of one container.
pub(super) struct Reader<'a> {
    labels: &'a LiteMap<ArcStr, ArcStr>,
    pub(super) notes: Vec<Note>,
    /// A value was not understood.
    pub(super) bad: bool,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(labels: &'a LiteMap<ArcStr, ArcStr>) -> Self {
        Self { labels, notes: Vec::new(), bad: false }
    }

    /// Whether the label says anything: Compose files make an empty one of `${NAME:-}`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.labels.get(name).is_some_and(|value| !value.trim().is_empty())
    }

    pub(super) fn read<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let expected = labels::find(name).map_or("another value", |label| label.values);
        self.read_alias(name, expected, parse)
    }

    pub(super) fn read_alias<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.labels.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())?;
        let found = parse(value);
        if found.is_none() {
            let value = quoted(value);
            self.bad = true;
            self.notes.push(Note {
                about: name.to_owned(),
                text: format!(
                    "{value} is not understood, so that nothing is done about this container, only told: expected {expected}"
                ),
                warning: true,
            });
        }
        found
    }

    pub(super) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.read(name, |text| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, it)| *it))
    }

    /// Off unless set.
    pub(super) fn switch(&mut self, name: &'static str) -> bool {
        self.read(name, |text| boolean(text, false)).unwrap_or(false)
    }

    pub(super) fn count(&mut self, name: &'static str, least: usize, most: usize) -> Option<usize> {
        self.read(name, |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && (least..=most).contains(number))
        })
    }

    pub(super) fn span(&mut self, name: &'static str, least: Duration, most: Duration) -> Option<Duration> {
        self.read(name, |text| span(text, least, most))
    }

    /// Our own label, or the one of docker-autoheal, which is in seconds.
    pub(super) fn stop_timeout(&mut self) -> Option<Duration> {
        if self.has(labels::STOP_TIMEOUT) {
            return self.span(labels::STOP_TIMEOUT, Duration::ZERO, DAY);
        }
        self.read_alias(labels::AUTOHEAL_STOP_TIMEOUT, "a whole number of seconds, such as 10", |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let seconds = text.parse().ok().filter(|_| digits).map(Duration::from_secs);
            seconds.filter(|timeout| *timeout <= DAY)
        })
    }

    /// Tells of labels that nobody knows. They change nothing.
    pub(super) fn unknown(&mut self) {
        let labels = self.labels;
        let ours = labels.keys().filter(|key| key.starts_with(PREFIX));
        let unknown = ours.filter(|key| labels::find(key).is_none() && !is_mark(key));
        for key in unknown.take(UNKNOWN_LIMIT) {
            let word = key.strip_prefix(PREFIX).unwrap_or(key);
            let known = match word {
                // As half of all such labels in the world are called.
                "enable" | "enabled" => Some(labels::HEAL.to_owned()),
                // Without what all of them have in common, which would make them all alike.
                _ => nearest(word, LABELS.iter().filter_map(|label| label.name.strip_prefix(PREFIX)))
                    .map(|known| format!("{PREFIX}{known}")),
            };
            let hint = known.map_or(String::new(), |known| format!("; did you mean {known}?"));
            self.notes.push(Note {
                about: head(&one_line(key), 200).to_owned(),
                text: format!("Remora knows no such label{hint}"),
                warning: true,
            });
        }
    }
}

/// A duration as Go writes it, as in every label; zero needs no unit.
fn span(text: &str, least: Duration, most: Duration) -> Option<Duration> {
    let found = if text == "0" { Some(Duration::ZERO) } else { duration(text) };
    found.filter(|span| (least..=most).contains(span))
}
