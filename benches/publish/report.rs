//! The table.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::support::page;

const BEGIN: &str = "<!-- benchmark: begin (written by `cargo bench --bench publish`) -->";
const END: &str = "<!-- benchmark: end -->";

/// What was measured, and where.
pub struct Report {
    pub rows: Vec<Row>,
    pub machine: String,
    pub scale: String,
}

/// One figure.
pub struct Row {
    pub name: String,
    floor: String,
    measured: String,
    bar: String,
    met: Option<bool>,
    note: String,
}

impl Row {
    /// A time beside the floor's, both in milliseconds, and how many times the floor it may be.
    pub fn ratio(name: &str, floor: f64, measured: f64, at_most: Option<f64>) -> Self {
        let ratio = measured / floor;
        Self {
            name: name.to_owned(),
            floor: format!("{floor:.1} ms"),
            measured: format!("{measured:.1} ms ({ratio:.2} ×)"),
            bar: at_most.map_or_else(|| "–".to_owned(), |it| format!("≤ {it} × floor")),
            met: at_most.map(|it| ratio <= it),
            note: String::new(),
        }
    }

    /// A figure that has a bound of its own.
    pub fn bound(name: &str, measured: f64, unit: &str, at_most: f64) -> Self {
        let show = |value: f64| {
            let digits = if value.fract() == 0.0 { 0 } else { 2 };
            format!("{value:.digits$} {unit}").trim_end().to_owned()
        };
        let bar = if at_most == 0.0 { "0".to_owned() } else { format!("≤ {}", show(at_most)) };
        let met = Some(measured <= at_most);
        Self { name: name.to_owned(), floor: "–".to_owned(), measured: show(measured), bar, met, note: String::new() }
    }

    /// A figure without a bar.
    pub fn seen(name: &str, measured: f64, unit: &str) -> Self {
        Self { bar: "–".to_owned(), met: None, ..Self::bound(name, measured, unit, f64::INFINITY) }
    }

    /// With a remark.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        note.clone_into(&mut self.note);
        self
    }
}

impl Report {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}, {}.\n\n{}.\n\n", page::today(), self.machine, self.scale);
        text.push_str("| Figure | Floor | Remora | Bar | Met | Remark |\n|---|---|---|---|---|---|\n");
        for Row { name, floor, measured, bar, met, note } in &self.rows {
            let met = met.map_or("–", |met| if met { "yes" } else { "**no**" });
            writeln!(text, "| {name} | {floor} | {measured} | {bar} | {met} | {note} |").unwrap();
        }
        text
    }

    /// Puts it between the two marks of the page.
    pub fn write(&self, path: &Path) {
        page::write(path, BEGIN, END, &self.markdown());
    }
}

/// For a row.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// For a row.
pub fn percent(part: f64) -> f64 {
    part * 100.0
}
