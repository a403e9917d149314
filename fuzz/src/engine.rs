//! The engine's answers, read by the real clients: events, logs, and what the tolerant door makes of every status. The form of an
//! input is told in `peer`.

use futures_util::StreamExt as _;
use remora::config;
use remora::docker::{Control, DockerEngine, DockerError, Engine, Event, EventKind, EventTime, Lens};

use super::metadata::is_shown;
use super::peer::{Answer, Peer, read};

/// Bytes of a log that are kept.
const LOG: usize = 64 << 10;

thread_local! {
    static BED: (Peer, DockerEngine) = {
        let peer = Peer::new("engine");
        let engine = DockerEngine::new(&config::Docker::Unix(peer.socket.clone()), Lens::default()).unwrap();
        (peer, engine)
    };
}

pub fn run(data: &[u8]) {
    let (call, answers) = read(data);
    BED.with(|(peer, engine)| {
        peer.says(&answers);
        peer.runtime.block_on(ask(&call, peer, engine, &answers));
    });
}

fn judge<T>(outcome: Result<T, DockerError>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            // The address is the test's own.
            assert!(is_shown(&error.to_string(), 2000), "{error:?}");
            None
        }
    }
}

async fn ask(call: &str, peer: &Peer, engine: &DockerEngine, answers: &[Answer]) {
    let id = "d366429b06d844c4";
    let outcome = match call {
        "events" => return events(peer, engine, answers).await,
        "logs" => return logs(peer, engine, answers).await,
        "info" => engine.info().await.map(drop),
        "list" => engine.list().await.map(drop),
        "inspect" => engine.inspect(id).await.map(drop),
        "ping" => engine.ping().await,
        "document" => engine.document(id).await.map(drop),
        "image" => engine.image("web:1").await.map(drop),
        "network" => engine.network("backend").await.map(drop),
        "volume" => engine.volume_exists("data").await.map(drop),
        "changes" => engine.changes_exist(id).await.map(drop),
        "labelled" => engine.labelled("remora.heal.op").await.map(drop),
        "create" => engine.create("web", &serde_json::json!({}), None).await.map(drop),
        "start" => engine.start(id).await,
        "rename" => engine.rename(id, "other").await,
        _ => return,
    };
    let first = answers.first();
    if let Err(error) = &outcome {
        let _trouble = remora::docker::classify(error);
        // "It is gone" is only what the engine itself words.
        if let DockerError::NotFound(_) = error {
            let words = first.map(|first| String::from_utf8_lossy(&first.body).to_lowercase()).unwrap_or_default();
            assert!(first.is_some_and(|first| first.status == 404), "{error}");
            assert!(words.contains("such") || words.contains("\\u"), "{error} of {words}");
        }
    }
    judge(outcome);
}

async fn events(peer: &Peer, engine: &DockerEngine, answers: &[Answer]) {
    let first = heard(engine).await;
    let body = answers.first().map_or(0, |first| first.body.len());
    assert!(first.len() <= body / 2 + 2, "{} events of {body} bytes", first.len());
    for event in first.iter().filter_map(|event| event.as_ref().ok()) {
        assert!(!event.container.as_str().is_empty());
        assert!(event.exit_code.is_none() || event.kind == EventKind::Die, "{event:?}");
        let word = event.kind.as_str();
        assert!(!word.contains(':') && word.trim() == word, "{event:?}");
        if let EventKind::Other(word) = &event.kind {
            assert!(!["start", "die", "destroy", "kill"].contains(&word.as_str()), "{event:?}");
        }
        // What is asked for next is read by the engine: seconds and nanoseconds.
        let EventTime(at) = event.time;
        assert!(at.div_euclid(1_000_000_000).to_string().len() <= event.time.to_string().len());
    }
    peer.says(answers);
    assert_eq!(first, heard(engine).await, "the same stream is heard otherwise");
}

async fn heard(engine: &DockerEngine) -> Vec<Result<Event, DockerError>> {
    let events: Vec<_> = engine.events(Some(EventTime(1_767_225_600_000_000_000))).take(5000).collect().await;
    for event in &events {
        if let Err(error) = event {
            assert!(is_shown(&error.to_string(), 2000), "{error:?}");
        }
    }
    events
}

async fn logs(peer: &Peer, engine: &DockerEngine, answers: &[Answer]) {
    let first = engine.logs("d366429b06d844c4", 10).await;
    let Some(text) = judge(first) else { return };
    assert!(text.len() <= 3 * LOG, "{} bytes", text.len());
    assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
    peer.says(answers);
    assert_eq!(engine.logs("d366429b06d844c4", 10).await.as_ref(), Ok(&text));
}
