//! What the tests against a real Docker Engine and a real Consul are built from.
//!
//! * `acl`: access control of a Consul, and what the documentation says that a token needs.
//! * `ports`: ports that nothing else takes.
//! * `consul`: a Consul agent of one's own, that can be stopped, restarted without its data, and frozen.
//! * `disk`: a disk of one's own that can be filled.
//! * `docker`: the engine's API, the test image, containers that are gone when the test is.
//! * `dockerd`: a second engine, for the tests that restart one (nobody restarts the machine's own).
//! * `guard`: a filtering proxy in front of the engine, and the calls that the documentation allows.
//! * `netns`: a host of one's own, as far as the network goes.
//! * `gate`: stands between two parties and lets single HTTP requests wait, refuses and counts them.
//! * `proxy`: stands between two parties and cuts, refuses, freezes, strands, and notes the HTTP requests that pass.
//! * `remora`: the program under test as a process: environment, log, readiness, signals, memory, CPU time.
//! * `catalog`: what Consul says, and the comparison with what really runs.
//! * `scene`: all of these put together for one test.
//!
//! What judges (`docker`, `catalog`) uses no type of the `remora` crate, nor the Docker client that it is built on: the judge
//! must not share an error with the judged. Every test has its own Consul and its own label, so tests run side by side on one engine.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub mod acl;
pub mod catalog;
pub mod consul;
pub mod disk;
pub mod docker;
pub mod dockerd;
pub mod gate;
pub mod guard;
pub mod netns;
pub mod page;
pub mod proxy;
pub mod remora;
pub mod scene;

pub use consul::ports::free_port;

/// A name that no other test, and no other run of this test, has: `<test>-<process id>-<number>`.
pub fn run_id(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{test}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An HTTP client; over this unix socket if one is given.
pub fn http_client(unix_socket: Option<&std::path::Path>) -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    // reqwest is built without a TLS provider of its own and asks for the process's default one even for plain HTTP.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let builder = reqwest::Client::builder().no_proxy();
    match unix_socket {
        Some(path) => builder.unix_socket(path),
        None => builder,
    }
    .build()
    .unwrap()
}

/// Waits until `look` says `Ok`, looking every 20 ms; after `deadline` the test fails with what the last look said.
pub async fn eventually<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(difference) if begun.elapsed() > deadline => {
                panic!("not {what} within {:.1} s: {difference}", deadline.as_secs_f32())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Watches that `look` says `Ok` all through `span`.
pub async fn always(what: &str, span: Duration, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        if let Err(difference) = look().await {
            panic!("not {what}, {:.1} s into {:.1} s: {difference}", begun.elapsed().as_secs_f32(), span.as_secs_f32());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends a signal (`TERM`, `KILL`, `STOP`, `CONT`…) to a process that the test started.
///
/// Through the shell's own `kill`: the package forbids unsafe code, and a minimal machine has no `kill` program.
pub fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid} failed");
}

/// CPU time so far of a process, of all its threads that live.
pub fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = tasks.map(|task| {
        // `schedstat` counts nanoseconds; `stat` would count hundredths of a second.
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|it| it.parse::<u64>().ok()).unwrap_or_default()
    });
    Duration::from_nanos(nanoseconds.sum())
}
