//! The table.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::support::page;

const BEGIN: &str = "<!-- benchmark: begin (written by `cargo bench --bench heal`) -->";
const END: &str = "<!-- benchmark: end -->";

/// What was measured, and where.
pub struct Report {
    pub machine: String,
    pub rows: Vec<Row>,
}

/// One figure.
pub struct Row {
    name: &'static str,
    measured: String,
    bar: String,
    met: bool,
    note: String,
}

impl Row {
    /// A time, by its median; the bar is for the median.
    pub fn time(name: &'static str, samples: &[Duration], bar: &str, at_most: Duration) -> Self {
        let middle = median(samples);
        let worst = samples.iter().max().expect("at least one sample");
        Self {
            name,
            measured: show(middle),
            bar: bar.to_owned(),
            met: middle <= at_most,
            note: format!("{} samples, the longest {}", samples.len(), show(*worst)),
        }
    }

    /// A number, by its worst sample.
    pub fn count(name: &'static str, samples: &[usize], at_most: usize) -> Self {
        let worst = *samples.iter().max().expect("at least one sample");
        let bar = if at_most == 0 { "0".to_owned() } else { format!("≤ {at_most}") };
        let note = format!("the most of {} samples: {samples:?}", samples.len());
        Self { name, measured: worst.to_string(), bar, met: worst <= at_most, note }
    }

    /// A number that has to be the same each time.
    pub fn exactly(name: &'static str, samples: &[usize], wanted: usize) -> Self {
        let other = samples.iter().find(|it| **it != wanted);
        let note = format!("{} samples: {samples:?}", samples.len());
        let measured = other.unwrap_or(&wanted).to_string();
        Self { name, measured, bar: wanted.to_string(), met: other.is_none(), note }
    }

    /// With a remark more.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        self.note = format!("{}; {note}", self.note);
        self
    }
}

impl Report {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}.\n\n", self.machine);
        text.push_str("| Figure | Measured | Bar | Met | Remark |\n|---|---|---|---|---|\n");
        for Row { name, measured, bar, met, note } in &self.rows {
            let met = if *met { "yes" } else { "**no**" };
            writeln!(text, "| {name} | {measured} | {bar} | {met} | {note} |").unwrap();
        }
        text
    }

    /// Puts it between the two marks of the page.
    pub fn write(&self, path: &Path) {
        page::write(path, BEGIN, END, &self.markdown());
    }
}

/// The middle one of the samples; of an even number the lower one of the two.
pub fn median(samples: &[Duration]) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    sorted[(sorted.len() - 1) / 2]
}

/// In milliseconds, for people.
pub fn show(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1e3)
}
