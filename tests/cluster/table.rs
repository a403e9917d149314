//! The fault matrix as a table: what was done, how long it took until all was right again, and what went wrong on the way.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::bed::{Bed, Mode};
use crate::support::page;

/// A fault and what came of it.
#[derive(Debug)]
pub struct Row {
    pub fault: &'static str,
    /// From the end of the fault, unless the remark says otherwise.
    pub right_again: Duration,
    /// And at the most.
    pub bar: Duration,
    /// Instances that had to stay and were missing at some time.
    pub missed: usize,
    /// Containers that were replaced, although nothing was wrong with any.
    pub healed: usize,
    pub remark: String,
}

/// All rows of a mode.
pub struct Table {
    mode: Mode,
    rows: Vec<Row>,
    /// The page that it is to be written into.
    page: Option<OsString>,
}

impl Table {
    pub fn new(mode: Mode) -> Self {
        Self { mode, rows: Vec::new(), page: std::env::var_os("REMORA_RELIABILITY") }
    }

    pub fn push(&mut self, row: Row) {
        println!("{} mode: {row:?}", self.mode.word());
        self.rows.push(row);
    }

    /// Whether `REMORA_RELIABILITY` names a page that it is to be written into.
    pub fn is_written(&self) -> bool {
        self.page.is_some()
    }

    /// Prints it, and writes it into that page.
    pub async fn tell(&self, bed: &Bed) {
        let info = bed.nodes[0].engine.info().await;
        let about = bed.servers.get("/v1/agent/self").await.unwrap();
        let mut text = format!(
            "{} cores, {}, Docker Engine {}, Consul {}.\n\n",
            info["NCPU"],
            info["OperatingSystem"].as_str().unwrap_or_default(),
            info["ServerVersion"].as_str().unwrap_or_default(),
            about["Config"]["Version"].as_str().unwrap_or_default(),
        );
        text.push_str("| Fault | All right again | Bar | Wrongly deleted | Wrongly healed | Remark |\n|---|---|---|---|---|---|\n");
        for Row { fault, right_again, bar, missed, healed, remark } in &self.rows {
            let (took, bar) = (right_again.as_secs_f64(), bar.as_secs_f64());
            writeln!(text, "| {fault} | {took:.1} s | ≤ {bar:.0} s | {missed} | {healed} | {remark} |").unwrap();
        }
        println!("\n{} mode\n\n{text}", self.mode.word());
        if let Some(page) = &self.page {
            let begin = format!("<!-- {} mode: begin (written by `docker/reliability.sh`) -->", self.mode.word());
            let end = format!("<!-- {} mode: end -->", self.mode.word());
            page::write(Path::new(page), &begin, &end, &text);
        }
    }

    /// Fails if a row does.
    pub fn judge(&self) {
        let bad: Vec<&Row> =
            self.rows.iter().filter(|row| row.missed > 0 || row.healed > 0 || row.right_again > row.bar).collect();
        assert!(bad.is_empty(), "{} mode: {bad:#?}", self.mode.word());
    }
}
