//! The real engine's hands: [`Control`] through the tolerant [`Door`].

use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::container::ContainerId;
use super::control::{CHANGE_TIMEOUT, Control, Document, STOP_SLACK};
use super::engine::DockerEngine;
use super::http::{CALL_TIMEOUT, Door};
use super::list;
use super::logs::Tail;
use super::port::DockerError;

/// Between two looks at what is about to be over.
const POLL: Duration = Duration::from_millis(100);

/// A log that is asked for by lines can still be of any length; of more than this the rest is not waited for.
const LOG_READ: usize = 8 << 20;

const REMOVE: &str = "DELETE /containers/{id}";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Execution {
    running: bool,
    #[serde(default)]
    exit_code: Option<i64>,
}

fn read<T: for<'de> Deserialize<'de>>(call: &'static str, body: &[u8]) -> Result<T, DockerError> {
    serde_json::from_slice(body).map_err(|error| DockerError::Unreadable { call, reason: list::place(&error) })
}

/// One part of a path, or a value of a query. What no engine has as a name is refused here, as the engine would.
fn part(call: &'static str, text: &str) -> Result<String, DockerError> {
    if text.is_empty() || text.chars().all(|c| c == '.') {
        return Err(invalid(call, "a name is expected"));
    }
    Ok(escape(text, "-_.~"))
}

/// An image's reference keeps its slashes: they are part of the engine's path.
fn reference(call: &'static str, text: &str) -> Result<String, DockerError> {
    if text.is_empty() || text.split('/').any(|part| part.is_empty() || part.chars().all(|c| c == '.')) {
        return Err(invalid(call, "a reference of an image is expected"));
    }
    Ok(escape(text, "-_.~/:@"))
}

fn escape(text: &str, plain: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.as_bytes().contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ok = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn invalid(call: &'static str, message: &str) -> DockerError {
    DockerError::Refused { call, status: 400, message: message.to_owned() }
}

/// Whole seconds, rounded up: a container never gets less time than it was promised.
fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// Done already is done.
fn done(result: Result<Vec<u8>, DockerError>) -> Result<(), DockerError> {
    match result {
        Err(DockerError::Refused { status: 304, .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// `None` for a 404 with the engine's own words; a proxy has 404s of its own.
fn found(
    call: &'static str,
    result: Result<Vec<u8>, DockerError>,
    words: &[&str],
) -> Result<Option<Document>, DockerError> {
    match result {
        Ok(body) => read(call, &body).map(|value| Some(Document::new(value))),
        Err(DockerError::Refused { status: 404, message, .. })
            if words.iter().any(|words| message.to_lowercase().contains(words)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Waits until a container whose removal is under way is gone.
async fn until_gone(door: &Door, id: &str) -> Result<(), DockerError> {
    let begun = Instant::now();
    while begun.elapsed() < CHANGE_TIMEOUT {
        let look = door.get("GET /containers/{id}/json", &format!("/containers/{id}/json"), CALL_TIMEOUT).await;
        match look {
            Err(DockerError::NotFound(_)) => return Ok(()),
            Err(error @ (DockerError::Unreachable { .. } | DockerError::TimedOut { .. })) => return Err(error),
            Ok(_) | Err(_) => sleep(POLL).await,
        }
    }
    Err(DockerError::TimedOut { call: REMOVE, after: CHANGE_TIMEOUT })
}

impl Control for DockerEngine {
    async fn document(&self, id: &str) -> Result<Document, DockerError> {
        let call = "GET /containers/{id}/json";
        let path = format!("/containers/{}/json", part(call, id)?);
        let body = self.door().get(call, &path, CALL_TIMEOUT).await?;
        read(call, &body).map(Document::new)
    }

    async fn image(&self, image: &str) -> Result<Option<Document>, DockerError> {
        let call = "GET /images/{reference}/json";
        let path = format!("/images/{}/json", reference(call, image)?);
        found(call, self.door().get(call, &path, CALL_TIMEOUT).await, &["no such image"])
    }

    async fn network(&self, name: &str) -> Result<Option<Document>, DockerError> {
        let call = "GET /networks/{name}";
        let path = format!("/networks/{}", part(call, name)?);
        found(call, self.door().get(call, &path, CALL_TIMEOUT).await, &["not found", "no such network"])
    }

    async fn volume_exists(&self, name: &str) -> Result<bool, DockerError> {
        let call = "GET /volumes/{name}";
        let path = format!("/volumes/{}", part(call, name)?);
        let words = ["no such volume", "not found"];
        found(call, self.door().get(call, &path, CALL_TIMEOUT).await, &words).map(|volume| volume.is_some())
    }

    async fn create(&self, name: &str, body: &Value, platform: Option<&str>) -> Result<ContainerId, DockerError> {
        let call = "POST /containers/create";
        let mut path = format!("/containers/create?name={}", part(call, name)?);
        if let Some(platform) = platform {
            path.push_str("&platform=");
            path.push_str(&part(call, platform)?);
        }
        let made: Made = read(call, &self.door().post(call, &path, Some(body), CHANGE_TIMEOUT).await?)?;
        Ok(ContainerId::new(made.id))
    }

    async fn connect(&self, network: &str, body: &Value) -> Result<(), DockerError> {
        let call = "POST /networks/{network}/connect";
        let path = format!("/networks/{}/connect", part(call, network)?);
        self.door().post(call, &path, Some(body), CHANGE_TIMEOUT).await.map(drop)
    }

    async fn start(&self, id: &str) -> Result<(), DockerError> {
        let call = "POST /containers/{id}/start";
        let path = format!("/containers/{}/start", part(call, id)?);
        done(self.door().post(call, &path, None, CHANGE_TIMEOUT).await)
    }

    async fn stop(&self, id: &str, timeout: Duration) -> Result<(), DockerError> {
        let call = "POST /containers/{id}/stop";
        let path = format!("/containers/{}/stop?t={}", part(call, id)?, seconds(timeout));
        done(self.door().post(call, &path, None, timeout.saturating_add(STOP_SLACK)).await)
    }

    async fn restart(&self, id: &str, timeout: Duration) -> Result<(), DockerError> {
        let call = "POST /containers/{id}/restart";
        let path = format!("/containers/{}/restart?t={}", part(call, id)?, seconds(timeout));
        let within = timeout.saturating_add(STOP_SLACK).saturating_add(CHANGE_TIMEOUT);
        self.door().post(call, &path, None, within).await.map(drop)
    }

    async fn rename(&self, id: &str, new_name: &str) -> Result<(), DockerError> {
        let call = "POST /containers/{id}/rename";
        let path = format!("/containers/{}/rename?name={}", part(call, id)?, part(call, new_name)?);
        self.door().post(call, &path, None, CHANGE_TIMEOUT).await.map(drop)
    }

    async fn set_restart_policy(&self, id: &str, policy: &Value) -> Result<(), DockerError> {
        let call = "POST /containers/{id}/update";
        let path = format!("/containers/{}/update", part(call, id)?);
        self.door().post(call, &path, Some(&json!({"RestartPolicy": policy})), CHANGE_TIMEOUT).await.map(drop)
    }

    async fn remove(&self, id: &str, force: bool) -> Result<(), DockerError> {
        let id = part(REMOVE, id)?;
        match self.door().delete(REMOVE, &format!("/containers/{id}?force={force}"), CHANGE_TIMEOUT).await {
            Err(DockerError::NotFound(_)) => Ok(()),
            Err(DockerError::Refused { status: 409, message, .. }) if message.contains("already in progress") => {
                until_gone(self.door(), &id).await
            }
            other => other.map(drop),
        }
    }

    async fn logs(&self, id: &str, lines: usize) -> Result<String, DockerError> {
        let call = "GET /containers/{id}/logs";
        // Only a container without a terminal has its log in frames, and only newer engines say so in the answer.
        let terminal = self.document(id).await?.value().pointer("/Config/Tty") == Some(&Value::Bool(true));
        let path = format!("/containers/{}/logs?stdout=true&stderr=true&tail={lines}", part(call, id)?);
        let (mut tail, mut read) = (Tail::new(!terminal), 0);
        let mut sink = |piece: &[u8]| {
            tail.take(piece);
            read += piece.len();
            read < LOG_READ
        };
        self.door().pour(call, &path, CALL_TIMEOUT, &mut sink).await?;
        Ok(tail.finish())
    }

    async fn changes_exist(&self, id: &str) -> Result<bool, DockerError> {
        let call = "GET /containers/{id}/changes";
        let path = format!("/containers/{}/changes", part(call, id)?);
        let changes: Option<Vec<IgnoredAny>> = read(call, &self.door().get(call, &path, CHANGE_TIMEOUT).await?)?;
        Ok(changes.is_some_and(|changes| !changes.is_empty()))
    }

    async fn labelled(&self, label: &str) -> Result<Vec<ContainerId>, DockerError> {
        let call = "GET /containers/json";
        let filters = escape(&json!({"label": [label]}).to_string(), "");
        let path = format!("/containers/json?all=true&filters={filters}");
        let lines: Vec<Made> = read(call, &self.door().get(call, &path, CALL_TIMEOUT).await?)?;
        Ok(lines.into_iter().map(|line| ContainerId::new(line.id)).collect())
    }

    async fn exec(&self, id: &str, command: &[String], timeout: Duration) -> Result<i64, DockerError> {
        let call = "POST /containers/{id}/exec";
        let path = format!("/containers/{}/exec", part(call, id)?);
        let running = async {
            let body = json!({"Cmd": command});
            let made: Made = read(call, &self.door().post(call, &path, Some(&body), CALL_TIMEOUT).await?)?;
            let (call, path) = ("POST /exec/{exec}/start", format!("/exec/{}/start", part(call, &made.id)?));
            self.door().post(call, &path, Some(&json!({"Detach": true})), CALL_TIMEOUT).await?;
            let (call, path) = ("GET /exec/{exec}/json", format!("/exec/{}/json", part(call, &made.id)?));
            loop {
                let execution: Execution = read(call, &self.door().get(call, &path, CALL_TIMEOUT).await?)?;
                if let (false, Some(code)) = (execution.running, execution.exit_code) {
                    return Ok(code);
                }
                sleep(POLL).await;
            }
        };
        tokio::time::timeout(timeout, running).await.unwrap_or(Err(DockerError::TimedOut { call, after: timeout }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_place_in_a_path() {
        assert_eq!(part("x", "a b/c?d=%").unwrap(), "a%20b%2Fc%3Fd%3D%25");
        assert_eq!(reference("x", "repo:5000/app@sha256:ab").unwrap(), "repo:5000/app@sha256:ab");
        for odd in ["", ".", ".."] {
            assert!(part("x", odd).is_err() && reference("x", odd).is_err(), "{odd:?}");
        }
        for odd in ["/app", "app/", "a/../../containers/x", "a//b"] {
            assert!(reference("x", odd).is_err(), "{odd:?}");
        }
    }

    /// An engine that answers what a test wants.
    fn engine(server: &wiremock::MockServer) -> DockerEngine {
        let address = server.address().to_string();
        DockerEngine::new(&crate::config::Docker::Tcp(address), super::super::container::Lens::default()).unwrap()
    }

    fn says(status: u16, message: &str) -> wiremock::ResponseTemplate {
        wiremock::ResponseTemplate::new(status).set_body_json(json!({"message": message}))
    }

    #[tokio::test]
    async fn only_the_engines_own_words_say_that_there_is_none() {
        let server = wiremock::MockServer::start().await;
        let engine = engine(&server);
        let page = wiremock::ResponseTemplate::new(404).set_body_string("<h1>404</h1>");
        wiremock::Mock::given(wiremock::matchers::any()).respond_with(page).mount(&server).await;
        assert!(engine.image("x:1").await.is_err());
        assert!(engine.network("x").await.is_err());
        assert!(engine.volume_exists("x").await.is_err());
        assert!(engine.remove("x", true).await.is_err());
    }

    #[tokio::test]
    async fn a_removal_under_way_is_waited_for() {
        use wiremock::matchers::{method, path, query_param};
        let server = wiremock::MockServer::start().await;
        let engine = engine(&server);
        let delete =
            wiremock::Mock::given(method("DELETE")).and(path("/containers/x")).and(query_param("force", "true"));
        delete.respond_with(says(409, "removal of container x is already in progress")).expect(1).mount(&server).await;
        let still = wiremock::Mock::given(method("GET")).respond_with(says(500, "layer is busy")).up_to_n_times(2);
        still.expect(2).mount(&server).await;
        wiremock::Mock::given(method("GET")).respond_with(says(404, "No such container: x")).mount(&server).await;
        assert_eq!(engine.remove("x", true).await, Ok(()));
    }

    #[tokio::test]
    async fn a_change_is_sent_as_the_engine_wants_it() {
        use wiremock::matchers::{body_json, method, path, query_param, query_param_is_missing};
        let server = wiremock::MockServer::start().await;
        let engine = engine(&server);
        let stop = wiremock::Mock::given(method("POST")).and(path("/containers/x/stop")).and(query_param("t", "11"));
        stop.respond_with(wiremock::ResponseTemplate::new(304)).expect(1).mount(&server).await;
        engine.stop("x", Duration::from_millis(10_001)).await.unwrap();

        let body = json!({"Image": "app:1", "HostConfig": {"MaskedPaths": [], "Binds": null}});
        let create = wiremock::Mock::given(method("POST"))
            .and(path("/containers/create"))
            .and(query_param("name", "web.new-0123abcd"))
            .and(query_param("platform", "linux/arm64"))
            .and(body_json(&body));
        let made = wiremock::ResponseTemplate::new(201).set_body_json(json!({"Id": "ab", "Warnings": []}));
        create.respond_with(made).expect(1).mount(&server).await;
        let id = engine.create("web.new-0123abcd", &body, Some("linux/arm64")).await.unwrap();
        assert_eq!(id.as_str(), "ab");

        let remove = wiremock::Mock::given(method("DELETE")).and(query_param_is_missing("v"));
        remove.respond_with(wiremock::ResponseTemplate::new(204)).expect(1).mount(&server).await;
        engine.remove("x", false).await.unwrap();
    }

    #[test]
    fn a_container_never_gets_less_time_than_it_was_promised() {
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(10)), 10);
        assert_eq!(seconds(Duration::from_millis(10_001)), 11);
    }
}
