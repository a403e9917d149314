//! The program as a process, without Docker and Consul: exit codes, what is said, signals.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails loudly")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program in an environment of its own.
fn remora(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remora"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    remora(arguments, environment).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_command_tells_all_files_that_cannot_be_read_and_ends_with_64() {
    let environment = [
        ("CONSUL_HTTP_ADDR", "https://127.0.0.1:1"),
        ("CONSUL_CACERT", "/nowhere/ca.pem"),
        ("CONSUL_HTTP_TOKEN_FILE", "/nowhere/token"),
        ("DOCKER_HOST", "tcp://127.0.0.1:1"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", "/nowhere/docker"),
        ("REMORA_HTTP_ADDR", "off"),
    ];
    let commands: [&[&str]; 6] =
        [&[], &["run"], &["check-config"], &["explain", "web"], &["sync", "--once"], &["doctor"]];
    for command in commands {
        let output = run(command, &environment);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{command:?}: {told}");
        for (name, path) in &environment[1..3] {
            assert!(told.contains(&format!("\n  {name}={path}: expected ")), "{command:?}: {told}");
        }
        assert!(told.contains("\n  DOCKER_CERT_PATH=/nowhere/docker: expected a folder with ca.pem"), "{told}");
        assert!(told.starts_with("the configuration cannot be used, 3 settings are wrong:\n"), "{told}");
    }
    let settings = run(&["check-config"], &environment);
    assert!(
        String::from_utf8_lossy(&settings.stdout).contains("REMORA_RESYNC"),
        "the settings are printed all the same"
    );
}

#[test]
fn a_token_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "s3cr3t\nof two lines").unwrap();
    let path = path.to_str().unwrap();
    for environment in [[("CONSUL_HTTP_TOKEN_FILE", path)], [("CONSUL_HTTP_TOKEN", "s3cr3t\u{1}")]] {
        let output = run(&["doctor"], &environment);
        assert_eq!(output.status.code(), Some(64));
        assert!(stderr(&output).contains("CONSUL_HTTP_TOKEN") && !stderr(&output).contains("s3cr3t"));
    }
}

#[test]
fn help_tells_every_exit_status_in_lines_that_fit() {
    let help = run(&["--help"], &[]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let (_, end) = help.split_once("Exit status: ").unwrap();
    for status in ["0;", "1 when", "2 when", "64 when", "70 when"] {
        assert!(end.contains(status), "{status} is missing in {end}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{end}");
}

/// Starts an agent with neither peer, waits until it waits for them, and does something with it.
fn with_agent(does: impl FnOnce(u32)) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let socket = format!("unix://{}", folder.path().join("docker.sock").display());
    let agent =
        remora(&[], &[("DOCKER_HOST", &socket), ("CONSUL_HTTP_ADDR", "127.0.0.1:1"), ("REMORA_HTTP_ADDR", "off")])
            .stderr(std::fs::File::create(&log).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
    until_told(&log, "waiting");
    does(agent.id());
    let mut output = agent.wait_with_output().unwrap();
    output.stderr = std::fs::read(&log).unwrap();
    output
}

fn until_told(log: &Path, word: &str) {
    for _ in 0..200 {
        if std::fs::read_to_string(log).unwrap().contains(word) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{word:?} was not told: {}", std::fs::read_to_string(log).unwrap());
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
    // Not all at once: signals of one kind that wait are one.
    std::thread::sleep(std::time::Duration::from_millis(200));
}

#[test]
fn hangup_and_the_signals_for_users_end_nothing() {
    let output = with_agent(|pid| {
        for name in ["HUP", "USR1", "USR2", "TERM"] {
            signal(pid, name);
        }
    });
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{:?}: {told}", output.status);
    for name in ["SIGHUP", "SIGUSR1", "SIGUSR2"] {
        assert!(told.contains(name), "{name} is not told: {told}");
    }
}
