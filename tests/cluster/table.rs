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
    /// When the bar had passed: instances that were still missing, and that were still there.
    pub lost: usize,
    pub stale: usize,
    /// Instances that had to stay and were missing at some time.
    pub missed: usize,
    /// Containers that were replaced, although nothing was wrong with any.
    pub healed: usize,
    pub remark: String,
}

/// When a fault is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    /// Only when the table is written: it takes its time, or is much like others, or needs what `docker/reliability.sh` fetches.
    Long,
    /// Only where nodes have an agent of Consul's.
    Agent,
}

/// All rows of a mode.
pub struct Table {
    mode: Mode,
    rows: Vec<Row>,
    /// The page that it is to be written into.
    page: Option<OsString>,
    /// `REMORA_FAULTS`: these, whenever they are tried otherwise, and no others.
    only: Option<Vec<String>>,
    known: Vec<&'static str>,
}

impl Table {
    pub fn new(mode: Mode) -> Self {
        let only = std::env::var("REMORA_FAULTS").ok().filter(|names| !names.is_empty());
        let only = only.map(|names| names.split(',').map(|name| name.trim().to_owned()).collect());
        Self { mode, rows: Vec::new(), page: std::env::var_os("REMORA_RELIABILITY"), only, known: Vec::new() }
    }

    /// Whether this fault is to be tried now.
    pub fn wants(&mut self, fault: &'static str, when: When) -> bool {
        self.known.push(fault);
        if when == When::Agent && self.mode != Mode::Agent {
            return false;
        }
        match &self.only {
            Some(only) => only.iter().any(|name| name == fault),
            None => when != When::Long || self.page.is_some(),
        }
    }

    pub fn push(&mut self, row: Row) {
        println!("{} mode: {row:?}", self.mode.word());
        self.rows.push(row);
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
        text.push_str("| Fault | All right again | Bar | Lost | Stale | Wrongly deleted | Wrongly healed | Remark |\n|---|---|---|---|---|---|---|---|\n");
        for Row { fault, right_again, bar, lost, stale, missed, healed, remark } in &self.rows {
            let (took, bar) = (right_again.as_secs_f64(), bar.as_secs_f64());
            let wrong = format!("{lost} | {stale} | {missed} | {healed}");
            writeln!(text, "| {fault} | {took:.1} s | ≤ {bar:.0} s | {wrong} | {remark} |").unwrap();
        }
        println!("\n{} mode\n\n{text}", self.mode.word());
        // A few rows are no table.
        if let Some(page) = self.page.as_ref().filter(|_| self.only.is_none()) {
            let begin = format!("<!-- {} mode: begin (written by `docker/reliability.sh`) -->", self.mode.word());
            let end = format!("<!-- {} mode: end -->", self.mode.word());
            page::write(Path::new(page), &begin, &end, &text);
        }
    }

    /// Fails if a row does.
    pub fn judge(&self) {
        let unknown: Vec<_> = self.only.iter().flatten().filter(|name| !self.known.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "REMORA_FAULTS: {unknown:?} are none of {:?}", self.known);
        let bad: Vec<&Row> =
            self.rows.iter().filter(|row| row.missed > 0 || row.healed > 0 || row.right_again > row.bar).collect();
        assert!(bad.is_empty(), "{} mode: {bad:#?}", self.mode.word());
    }
}
