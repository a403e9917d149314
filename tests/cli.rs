//! The program as a process, without Docker and Consul: exit codes, what is said, signals.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails loudly")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

#[path = "support/ports.rs"]
mod ports;

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
    let commands: [&[&str]; 10] = [
        &[],
        &["run"],
        &["check-config"],
        &["explain", "web"],
        &["sync", "--once"],
        &["doctor"],
        &["heal", "web"],
        &["release", "web"],
        &["pause"],
        &["resume", "--cluster"],
    ];
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
fn a_request_that_is_not_understood_ends_with_64_before_anybody_is_asked() {
    for (line, told) in [
        (&["heal"][..], "heal: expected the id or the name of a container: remora heal web"),
        (&["release"], "release: expected the id or the name of a container: remora release web"),
        (&["heal", "web", "db"], "argument=db: expected nothing behind the command"),
        (&["heal", "web", "--for=1m"], "--for: expected the command pause, to which it belongs"),
        (&["pause", "--node", "--cluster"], "--node: expected either --node or --cluster, not both"),
        (&["pause", "--for", "soon"], "--for=soon: expected a duration with its unit"),
        (&["pause", "--for"], "--for: expected a value behind it"),
        (&["resume", "web", "--for=1m"], "--for: expected the command pause, to which it belongs"),
        (&["status", "web"], "argument=web: expected nothing behind the command"),
        (&["status", "--cluster"], "--cluster: expected the command pause or resume, to which it belongs"),
    ] {
        let output = run(line, &[]);
        assert_eq!(output.status.code(), Some(64), "{line:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(told), "{line:?}: {}", stderr(&output));
    }
}

/// An agent that answers `/status.json` with this, whoever asks.
fn agent_that_says(answer: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let header: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            assert!(header[0].starts_with("GET /status.json "), "{header:?}");
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    at
}

#[test]
fn status_shows_what_the_agent_says_and_whether_somebody_should_look() {
    const QUIET: &str = concat!(
        "HTTP/1.1 200 OK\r\n\r\n",
        r#"{"node":"n1","mode":"on","paused":null,"holdoff_seconds":0,"docker":true,"consul":true,"#,
        r#""budget":{"left":6,"of":6,"window_seconds":600},"operation":null,"containers":[],"news":[]}"#
    );
    const PAUSED: &str = concat!(
        "HTTP/1.1 200 OK\r\n\r\n",
        r#"{"node":"n1","mode":"observe","paused":"healing is paused everywhere: \u001b[31mmove","#,
        r#""holdoff_seconds":0,"docker":true,"consul":false,"#,
        r#""budget":{"left":2,"of":2,"window_seconds":600},"operation":null,"containers":[],"news":[]}"#
    );
    let stdout = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let quiet = run(&["status"], &[("REMORA_HTTP_ADDR", &agent_that_says(QUIET))]);
    assert_eq!(quiet.status.code(), Some(0), "{}", stderr(&quiet));
    assert_eq!(stdout(&quiet), "n1: healing is on; Consul answers; 6 of 6 operations left in 10m\n\nno containers\n");
    let at = agent_that_says(PAUSED);
    let paused = run(&["status"], &[("REMORA_HTTP_ADDR", &at)]);
    assert_eq!(paused.status.code(), Some(2), "{}", stderr(&paused));
    assert!(stdout(&paused).contains("paused everywhere") && !stdout(&paused).contains('\u{1b}'));
    let json = run(&["status", "--json"], &[("REMORA_HTTP_ADDR", &at)]);
    assert_eq!(json.status.code(), Some(2));
    assert!(stdout(&json).contains("\"mode\": \"observe\""), "{}", stdout(&json));
}

#[test]
fn status_without_an_agent_or_without_healing_ends_with_1() {
    let off = "HTTP/1.1 404 Not Found\r\n\r\nhealing is off (REMORA_HEAL=off)\n";
    for (at, told) in [
        ("127.0.0.1:1", "no agent answers at 127.0.0.1:1 (REMORA_HTTP_ADDR)"),
        ("off", "REMORA_HTTP_ADDR=off: there is nothing to ask"),
        (&agent_that_says(off), "the agent cannot say: healing is off (REMORA_HEAL=off)"),
        (&agent_that_says("HTTP/1.1 200 OK\r\n\r\n[]"), "is it of another version?"),
    ] {
        let output = run(&["status"], &[("REMORA_HTTP_ADDR", at)]);
        assert_eq!(output.status.code(), Some(1), "{at}");
        assert!(stderr(&output).contains(told), "{at}: {}", stderr(&output));
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

/// An engine that says who it is, and nothing else.
fn engine(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                while let Some(line) = lines.next() {
                    let body = match line.split(' ').nth(1) {
                        Some("/info") => r#"{"ID":"ABCD","Name":"host","ServerVersion":"20.10.24"}"#,
                        Some("/version") => r#"{"ApiVersion":"1.41"}"#,
                        _ => "{}",
                    };
                    let _header = lines.by_ref().take_while(|line| !line.is_empty()).count();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if (&stream).write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn get(port: u16, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        stream.read_to_string(&mut answer).unwrap();
    }
    answer
}

#[test]
fn a_consul_that_is_away_at_the_start_is_told_as_that_and_not_as_docker() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    engine(&socket);
    let port = ports::free_port();
    let (docker, http) = (format!("unix://{}", socket.display()), format!("127.0.0.1:{port}"));
    let log = folder.path().join("log");
    let mut agent =
        remora(&[], &[("DOCKER_HOST", &docker), ("CONSUL_HTTP_ADDR", "127.0.0.1:1"), ("REMORA_HTTP_ADDR", &http)])
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
    until_told(&log, "waiting");
    let (ready, metrics, index) = (get(port, "/readyz"), get(port, "/metrics"), get(port, "/"));
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(ready.contains("Consul cannot be reached at http://127.0.0.1:1"), "{ready}");
    assert!(!ready.contains("Docker") && ready.matches("cannot be reached").count() == 1, "{ready}");
    assert!(index.contains("Docker 20.10.24 (API 1.41)"), "{index}");
    for (series, value) in [
        ("remora_docker_connected", 1..2),
        ("remora_consul_reachable", 0..1),
        ("remora_docker_requests_total{call=\"info\",outcome=\"ok\"}", 1..99),
        ("remora_consul_requests_total{call=\"self\",outcome=\"unreachable\"}", 1..99),
    ] {
        let line = metrics.lines().find(|line| line.starts_with(series)).unwrap_or_default();
        let found: i64 = line.rsplit(' ').next().and_then(|found| found.parse().ok()).unwrap_or(-1);
        assert!(value.contains(&found), "{series}: {line:?}");
    }
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
