//! The benchmark: `docker/bench.sh [--quick] [--minutes 10] [--idle-only | --catalog-only]`.
//!
//! With `REGISTRATOR_BIN=/path/to/registrator` what Remora takes the place of is measured in the same run.
//!
//! Measures Remora on a real Docker Engine and a real Consul, next to the floor measured in the same run, prints a table and
//! puts it into `docs/performance.md`. The floor is the least that a client of Docker and Consul can do ([`floor`]), run as a
//! process of its own like Remora. The two take turns in small blocks, so that whatever drifts on the machine hits both.
//!
//! * `floor`: the bare client.
//! * `contender`: Remora, the floor, or registrator as a process.
//! * `watch`: when is an instance visible, when is it gone.
//! * `rows`: one function per figure.
//! * `report`: the table.

// A benchmark fails by panicking and speaks on standard output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::print_stdout, clippy::large_futures, missing_docs)]

#[allow(dead_code)] // the tests use the rest of it
#[path = "../../tests/support/mod.rs"]
mod support;

mod contender;
mod floor;
mod report;
mod rows;
mod watch;

use std::time::Duration;

/// How much is measured.
struct Scale {
    /// Sequential starts per contender.
    starts: usize,
    /// Starts until the contenders take turns.
    block: usize,
    /// Containers of the burst and of the cold start.
    many: usize,
    /// Cold starts per contender.
    cold_starts: usize,
    /// Containers with a HEALTHCHECK in the idle time.
    checked: usize,
    /// The idle time.
    idle: Duration,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if arguments.first().is_some_and(|it| it == floor::ARGUMENT) {
        runtime.block_on(floor::run(&arguments[1..]));
        return;
    }
    let mut scale =
        Scale { starts: 200, block: 10, many: 300, cold_starts: 5, checked: 100, idle: Duration::from_secs(60) };
    let has = |flag: &str| arguments.iter().any(|it| it == flag);
    let quick = has("--quick");
    let part = match (has("--idle-only"), has("--catalog-only"), has("--burst-only")) {
        (true, _, _) => rows::Part::Idle,
        (_, true, _) => rows::Part::Catalog,
        (_, _, true) => rows::Part::Burst,
        _ => rows::Part::All,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            // cargo's own, and the one that has been read
            "--bench" | "--idle-only" | "--catalog-only" | "--burst-only" => {}
            "--quick" => {
                scale =
                    Scale { starts: 20, many: 40, cold_starts: 2, checked: 10, idle: Duration::from_secs(20), ..scale }
            }
            "--minutes" => {
                let minutes = rest.next().and_then(|it| it.parse::<u64>().ok());
                scale.idle = Duration::from_secs(60 * minutes.expect("--minutes takes a whole number"));
            }
            other => {
                println!(
                    "unknown argument {other}; known: --quick, --minutes N, --idle-only, --catalog-only, --burst-only"
                );
                std::process::exit(64);
            }
        }
    }
    let report = runtime.block_on(rows::all(&scale, part));
    println!("\n{}", report.markdown());
    if !quick && part == rows::Part::All {
        report.write(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md")));
    }
}
