//! Every input that fuzzing has kept (`fuzz/corpus`), through what the fuzz targets do with it: what was found once is not found
//! again, and what holds for all of them is checked in every run of the tests. `docs/fuzzing.md` tells the rest.

// Tests may fail loudly, here too: clippy's allowance for tests ends at the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No input may take so long, on a loaded machine and without optimization.
const LONGEST: Duration = Duration::from_secs(10);

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn every_kept_input_keeps_what_has_to_hold() {
    let mut wrong = Vec::new();
    for (target, run) in targets::TARGETS {
        let inputs = inputs(target);
        assert!(inputs.len() >= 10, "{target} has {} inputs: the corpus is not where it should be", inputs.len());
        for input in inputs {
            let data = fs::read(&input).unwrap();
            let begun = Instant::now();
            if catch_unwind(|| run(&data)).is_err() {
                wrong.push(format!("{} does not hold", input.display()));
            } else if begun.elapsed() > LONGEST {
                wrong.push(format!("{} takes {:?}", input.display(), begun.elapsed()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A corpus that never gets past the first line of a reader would prove nothing.
#[test]
fn the_kept_inputs_reach_what_they_are_meant_to_reach() {
    let metadata = inputs("metadata");
    let registers = metadata.iter().filter(|input| targets::metadata::registers(&fs::read(input).unwrap())).count();
    assert!(registers * 4 > metadata.len(), "only {registers} of {} register anything", metadata.len());
    let documents = inputs("inspect");
    let lens = remora::docker::Lens::default();
    let read = |input: &&PathBuf| remora::docker::inspect::read(&fs::read(input).unwrap(), &lens).is_ok();
    let readable = documents.iter().filter(read).count();
    assert!(readable >= 25, "only {readable} of {} are documents", documents.len());
}
