//! What an operator tells the agents: `remora pause`, `resume`, `heal` and `release`, with a real Consul, and an engine that knows one
//! container.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

#[path = "support/consul.rs"]
mod consul;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use consul::{Consul, MANAGEMENT_TOKEN, Options};
use remora::consul::{KvStore, Store};
use remora::heal::cluster::{Asks, Keys, Pauses, Scope, Wish};
use tokio::time::{Instant, sleep};

/// An engine of the host `host` that has one container, whose name says that it is being replaced.
fn engine(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let container = serde_json::json!({
        "Id": "ab".repeat(32), "Name": "/web.old-1a2b3c4d", "Image": "sha256:1",
        "State": { "Status": "running", "Running": true, "StartedAt": "2026-01-01T00:00:00Z" },
        "Config": { "Image": "app", "Labels": {} }, "HostConfig": { "NetworkMode": "bridge" },
        "NetworkSettings": { "Ports": {}, "Networks": {} }
    })
    .to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let container = container.clone();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                while let Some(line) = lines.next() {
                    let (status, body) = match line.split(' ').nth(1).unwrap_or_default() {
                        "/info" => ("200 OK", r#"{"ID":"ABCD","Name":"host","ServerVersion":"20.10.24"}"#),
                        "/version" => ("200 OK", r#"{"ApiVersion":"1.41"}"#),
                        path if path.contains("/containers/abab/json") => ("200 OK", container.as_str()),
                        path if path.contains("/containers/") => {
                            ("404 Not Found", r#"{"message":"No such container"}"#)
                        }
                        _ => ("200 OK", "{}"),
                    };
                    let _header = lines.by_ref().take_while(|line| !line.is_empty()).count();
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if (&stream).write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

struct Bench {
    consul: Consul,
    token: Option<&'static str>,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        engine(&folder.path().join("docker.sock"));
        Self { consul: Consul::start_with(options).await, token: None, folder }
    }

    fn store(&self) -> KvStore {
        KvStore::new(self.consul.client())
    }

    fn command(&self, line: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_remora"));
        command.args(line).env_clear().stdin(Stdio::null()).env("USER", "alice").env("REMORA_HEAL", "on");
        command.env("DOCKER_HOST", format!("unix://{}", self.folder.path().join("docker.sock").display()));
        command.env("CONSUL_HTTP_ADDR", self.consul.url());
        command.envs(self.token.map(|token| ("CONSUL_HTTP_TOKEN", token)));
        command
    }

    async fn remora(&self, line: &[&str]) -> (Option<i32>, String) {
        Self::told(self.command(line).output().await.unwrap())
    }

    fn told(output: Output) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = output;
        (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
    }

    async fn pauses(&self) -> Pauses {
        let keys = Keys::new("remora", "host");
        let (pauses, notes) = Pauses::read(&keys, &self.store().list(&keys.pauses(), None).await.unwrap().entries);
        assert!(notes.is_empty(), "{notes:?}");
        pauses
    }
}

#[tokio::test]
async fn healing_is_paused_and_goes_on_for_a_container_a_node_and_everywhere() {
    let bench = Bench::start(Options::default()).await;
    let now = std::time::SystemTime::now();
    let (code, told) = bench.remora(&["pause", "abab", "--for=30m", "being", "mended"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("healing is paused for web on node host until 20"), "{told}");
    assert!(told.contains(": being mended\n") && told.contains("`remora resume web`"), "{told}");
    let pauses = bench.pauses().await;
    let reason = pauses.paused("host", "web", now).unwrap();
    assert_eq!((reason.scope, reason.text.as_str()), (Scope::Container, "being mended"));
    assert!(reason.until.unwrap() > now + Duration::from_secs(29 * 60));
    assert_eq!(bench.pauses().await.paused("host", "db", now), None);

    assert_eq!(bench.remora(&["pause"]).await.0, Some(0));
    assert_eq!(bench.pauses().await.paused("host", "db", now).unwrap().scope, Scope::Node);
    assert_eq!(bench.remora(&["pause", "--cluster", "move"]).await.0, Some(0));
    assert_eq!(bench.pauses().await.paused("other", "db", now).unwrap().text, "move");

    let (code, told) = bench.remora(&["resume"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.starts_with("healing is not paused on node host any more\nthese pauses are still in force:\n"),
        "{told}"
    );
    assert!(
        told.contains("  remora/heal/pause: move\n") && told.contains("  remora/heal/pause/host/web: until="),
        "{told}"
    );
    assert!(bench.remora(&["resume"]).await.1.starts_with("healing was not paused on node host"));
    assert_eq!(bench.remora(&["resume", "--cluster"]).await.0, Some(0));
    // Docker does not know this name; the pause does.
    let (code, told) = bench.remora(&["resume", "web"]).await;
    assert_eq!((code, told.as_str()), (Some(0), "healing is not paused for web on node host any more\n"));
    assert_eq!(bench.pauses().await, Pauses::default());
}

#[tokio::test]
async fn a_request_is_taken_by_the_agent_or_withdrawn() {
    let bench = Bench::start(Options::default()).await;
    let keys = Keys::new("remora", "host");
    let store = bench.store();
    let agent = async {
        loop {
            let entries = store.list(&keys.asks(), None).await.unwrap().entries;
            if let Some(ask) = Asks::default().read(&keys, &entries).asks.first() {
                assert!(ask.take(&store).await.unwrap());
                return (ask.name.clone(), ask.wish, ask.by.clone());
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let ((code, told), taken) = tokio::join!(bench.remora(&["release", "abab"]), agent);
    assert_eq!(taken, ("web".to_owned(), Wish::Release, "alice".to_owned()));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("web is released: the agent on host forgets"), "{told}");

    let begin = Instant::now();
    let (code, told) = bench.remora(&["heal", "abab"]).await;
    assert!(begin.elapsed() >= Duration::from_secs(10));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.starts_with("no agent took it within 10s, and it is withdrawn"), "{told}");
    assert!(store.list(&keys.asks(), None).await.unwrap().entries.is_empty());

    let (code, told) = bench.remora(&["heal", "nothing"]).await;
    assert_eq!(code, Some(1));
    assert!(told.starts_with("there is no container nothing on this node (host)"), "{told}");
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_withdrawn() {
    let bench = Bench::start(Options::default()).await;
    let (store, keys) = (bench.store(), Keys::new("remora", "host"));
    for signal in ["-INT", "-TERM", "-HUP"] {
        let asking = bench.command(&["heal", "abab"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while store.list(&keys.asks(), None).await.unwrap().entries.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        let pid = asking.id().unwrap().to_string();
        assert!(tokio::process::Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        let (code, told) = Bench::told(asking.wait_with_output().await.unwrap());
        assert_eq!(code, Some(1), "{signal}: {told}");
        assert_eq!(told, "interrupted before an agent took it: it is withdrawn\n", "{signal}");
        assert!(store.list(&keys.asks(), None).await.unwrap().entries.is_empty(), "{signal}");
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_with_what_it_takes() {
    let mut bench = Bench::start(Options { acl: true, ..Options::default() }).await;
    for line in [&["pause"][..], &["resume"], &["heal", "abab"]] {
        let (code, told) = bench.remora(line).await;
        assert_eq!(code, Some(1), "{line:?}: {told}");
        assert!(told.contains("key_prefix \"remora/\" { policy = \"write\" }"), "{line:?}: {told}");
    }
    let (_, told) = bench.remora(&["doctor"]).await;
    assert!(told.contains("the token may not write keys under remora/: pauses and requests"), "{told}");
    assert!(
        told.contains(&format!("add to its policy: session \"{}\"", Consul::NODE)) || told.contains("session \"host\""),
        "{told}"
    );
    bench.token = Some(MANAGEMENT_TOKEN);
    assert_eq!(bench.remora(&["pause"]).await.0, Some(0));
    let (_, told) = bench.remora(&["doctor"]).await;
    assert!(told.contains("ok    the token may write keys under remora/ (healing)"), "{told}");
    assert!(told.contains("ok    the token may hold sessions (healing)"), "{told}");
}
