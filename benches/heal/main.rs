//! The benchmark of healing: `docker/bench-heal.sh [--quick]`.
//!
//! Measures on a real Docker Engine and a real Consul how long a failure lasts that Remora heals, prints a table and puts it
//! into `docs/healing-performance.md`. Whatever the container and the engine need by themselves is measured beside it in the
//! same run: a container's own start, and `docker restart`.
//!
//! * `figures`: one function per figure.
//! * `stage`: an engine, a Consul, a Remora and the containers that are measured.
//! * `client`: somebody who uses the service all the time.
//! * `report`: the table.

// A benchmark fails by panicking and speaks on standard output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::print_stdout, clippy::large_futures, missing_docs)]

#[allow(dead_code)] // the tests use the rest of it
#[path = "../../tests/support/mod.rs"]
mod support;

mod client;
mod figures;
mod report;
mod stage;

/// How often each figure is measured.
pub struct Scale {
    /// Unhealthy containers, and crashes.
    failures: usize,
    /// Outages of a fixed port, of a replacement and of `docker restart`.
    outages: usize,
    /// Replacements under a client that resolves each request.
    resolved: usize,
    /// Times that all containers fail at once.
    correlated: usize,
}

fn main() {
    let mut scale = Scale { failures: 15, outages: 10, resolved: 5, correlated: 3 };
    let mut quick = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // cargo's own
            "--bench" => {}
            "--quick" => {
                quick = true;
                scale = Scale { failures: 3, outages: 3, resolved: 1, correlated: 1 };
            }
            other => {
                println!("unknown argument {other}; known: --quick");
                std::process::exit(64);
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(figures::all(&scale));
    println!("\n{}", report.markdown());
    if !quick {
        report.write(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/healing-performance.md")));
    }
}
