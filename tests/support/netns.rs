//! A network namespace of a test's own: a host, as far as its network goes. It is gone with the value, and what was in it with it.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// See the module's header.
#[derive(Debug)]
pub struct Namespace {
    /// Sleeps in it, so that it outlives whatever else is in it.
    sleeper: Child,
}

impl Namespace {
    /// A new one with nothing but its loopback. Needs root.
    pub fn new() -> Self {
        let sleeper = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn().expect("unshare");
        let namespace = Self { sleeper };
        let limit = Instant::now() + Duration::from_secs(5);
        while namespace_of(&namespace.pid().to_string()) == namespace_of("self") {
            assert!(Instant::now() < limit, "no network namespace can be made: that needs root");
            std::thread::sleep(Duration::from_millis(2));
        }
        namespace.sh("ip link set lo up");
        namespace
    }

    /// A process in it.
    pub fn pid(&self) -> u32 {
        self.sleeper.id()
    }

    /// The program that starts another one in it, with its first argument.
    pub fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.pid())]
    }

    /// Runs a script in it; one that fails fails the test.
    pub fn sh(&self, script: &str) {
        let [program, argument] = self.enter();
        let output = Command::new(program).args([&argument, "sh", "-ec", script]).output().expect("nsenter");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ended_already = self.sleeper.kill();
        let _reaped_already = self.sleeper.wait();
    }
}

fn namespace_of(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/net")).ok()
}
