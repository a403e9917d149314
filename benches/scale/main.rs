//! How cost grows: `docker/bench.sh --scale`.
//!
//! * [`containers`]: one Remora beside an [`engine`] that only says that it runs 100, 1,000, 10,000 containers, and a real Consul agent.
//! * [`nodes`]: 1 to 200 Remoras, each beside such an engine, and three real Consul servers.
//!
//! Prints the tables, and puts them into `docs/performance.md`. Words as arguments choose: `containers`, `nodes`, and numbers (of
//! containers or nodes); a part of a table is only printed.

// A benchmark fails by panicking and speaks on standard output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::print_stdout, clippy::large_futures, clippy::cast_precision_loss, missing_docs)]

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

mod containers;
mod engine;
mod nodes;
mod servers;

use std::path::Path;
use std::time::Duration;

use support::consul::Consul;
use support::page;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let sizes: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let wanted = |part: &str| words.is_empty() || words.iter().any(|word| word == part);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("containers") {
            let text = containers::run(&sizes).await;
            tell("containers", &text, sizes.is_empty()).await;
        }
        if wanted("nodes") {
            let text = nodes::run(&sizes).await;
            tell("nodes", &text, sizes.is_empty()).await;
        }
    });
}

async fn tell(part: &str, text: &str, kept: bool) {
    let version = Consul::start().await.get("/v1/agent/self").await;
    let version = version["Config"]["Version"].as_str().unwrap_or_default();
    let cores = std::thread::available_parallelism().unwrap();
    let text = &format!("{}, {cores} cores, Consul {version}.\n\n{text}", page::today());
    println!("\n{text}");
    if kept {
        let begin = format!("<!-- scale, {part}: begin (written by `docker/bench.sh --scale`) -->");
        page::write(Path::new(PAGE), &begin, &format!("<!-- scale, {part}: end -->"), text);
    }
}

/// Of one core, in hundredths.
fn share(cpu: Duration, time: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / time.as_secs_f64()
}
