//! The webhook: one message to a URL that holds a secret. Nothing here ever shows more of it than scheme and host.

use std::time::Duration;

use reqwest::{Response, StatusCode, Url};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigError, ConsulTls, Webhook};
use crate::consul::client::causes;
use crate::consul::tls;
use crate::heal::tell::News;
use crate::registration::values::head;
use crate::telemetry::clean;

/// One try.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Bytes of an answer that are read, so that the peer is not cut off in the middle of it.
const ANSWER: usize = 4096;

/// Bytes of a message's text: Slack cuts at forty thousand, and nobody reads as much.
const TEXT: usize = 2000;

/// A way to the webhook.
pub struct Hook {
    http: reqwest::Client,
    url: Url,
    shown: String,
    timeout: Duration,
    pauses: [Duration; 2],
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook").field("to", &self.shown).finish_non_exhaustive()
    }
}

/// Why a try failed.
struct Failure {
    why: String,
    again: bool,
}

impl Hook {
    /// A way to this webhook; does not connect. With `https`, the system's authorities count, and those that are named for Consul.
    ///
    /// # Errors
    /// There is no authority at all that could be trusted.
    pub fn new(webhook: &Webhook, authorities: &ConsulTls) -> Result<Self, ConfigError> {
        tls::install_provider();
        let wrong = |expected: String| ConfigError {
            name: "REMORA_HEAL_WEBHOOK".to_owned(),
            value: webhook.to_string(),
            expected,
        };
        // It was read once already; its own words about a mistake would show it.
        let url = Url::parse(webhook.url.expose()).map_err(|_| wrong("a URL with http:// or https://".to_owned()))?;
        let builder = reqwest::Client::builder()
            .user_agent(concat!("remora/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            // Messages are rare: a connection that is kept would be closed by the other side before the next one.
            .pool_max_idle_per_host(0)
            // A redirect would carry what happens here to another host.
            .redirect(reqwest::redirect::Policy::none());
        let builder = if url.scheme() == "https" {
            tls::with_all_authorities(builder, authorities)
        } else {
            tls::without_tls(builder)
        };
        let http = builder.build().map_err(|error| {
            let reason = causes(error);
            wrong(format!("an authority that can be trusted to have signed its certificate, but: {reason} (CONSUL_CACERT or CONSUL_CAPATH name more)"))
        })?;
        Ok(Self { http, url, shown: webhook.shown.clone(), timeout: TIMEOUT, pauses: PAUSES })
    }

    /// Scheme and host.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Posts it; tries three times, unless that cannot help, or the agent is stopping.
    ///
    /// # Errors
    /// Why the last try failed, without what is secret.
    pub(super) async fn post(&self, message: &Value, shutdown: &CancellationToken) -> Result<(), String> {
        let mut pauses = self.pauses.iter();
        loop {
            let Failure { why, again } = match self.once(message).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let Some(pause) = pauses.next().filter(|_| again && !shutdown.is_cancelled()) else { return Err(why) };
            tokio::select! {
                () = sleep(*pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn once(&self, message: &Value) -> Result<(), Failure> {
        let sending = async {
            let response = self.http.post(self.url.clone()).json(message).send().await?;
            let status = response.status();
            drain(response).await;
            Ok::<_, reqwest::Error>(status)
        };
        let late = || Failure { why: format!("no answer within {:?}", self.timeout), again: true };
        match timeout(self.timeout, sending).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(refused(status)),
            Ok(Err(error)) if error.is_timeout() && !error.is_connect() => Err(late()),
            Ok(Err(error)) => Err(Failure { why: causes(error), again: true }),
            Err(_) => Err(late()),
        }
    }
}

/// The words of an answer are not told: they may repeat the path.
fn refused(status: StatusCode) -> Failure {
    let why = if status.is_redirection() {
        format!("it answers {}, and redirects are not followed", status.as_u16())
    } else {
        format!("it answers {}", status.as_u16())
    };
    let again =
        status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    Failure { why, again }
}

/// Reads the beginning of an answer. That it breaks off changes nothing: the status has come.
async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read >= ANSWER {
            break;
        }
    }
}

/// The message about a piece of news: what Slack and whoever speaks like it want, and our own fields.
#[must_use]
pub(super) fn message(news: &News) -> Value {
    json!({
        "text": text(&news.node, &news.text),
        "kind": news.kind.as_str(),
        "time": news.time,
        "node": news.node,
        "name": news.name,
        "container": news.container,
        "cause": news.cause,
        "action": news.action,
        "outcome": news.outcome,
    })
}

/// The message about those that there was no room for.
#[must_use]
pub(super) fn more(node: &str, count: usize, events: &str) -> Value {
    json!({
        "text": text(node, &format!("{count} more; see {events} in Consul's KV, or the log")),
        "kind": "more",
        "node": node,
        "count": count,
    })
}

/// One line that makes nobody's telephone ring who was not meant: the output of a probe is in it, and `<!channel>` would.
fn text(node: &str, text: &str) -> String {
    let line = format!("{node}: {text}");
    let escaped = clean(head(&line, TEXT)).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('@', "@\u{200b}")
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{body_partial_json, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::config::Secret;
    use crate::heal::tell::Kind;

    fn hook(url: &str) -> Hook {
        let webhook = Webhook { url: Secret::new(url), shown: "http://host".to_owned() };
        let hook = Hook::new(&webhook, &ConsulTls::default()).unwrap();
        Hook { timeout: Duration::from_millis(300), pauses: [Duration::from_millis(5); 2], ..hook }
    }

    async fn post(hook: &Hook) -> Result<(), String> {
        hook.post(&json!({"text": "x"}), &CancellationToken::new()).await
    }

    async fn calls(server: &MockServer) -> usize {
        server.received_requests().await.unwrap().len()
    }

    #[tokio::test]
    async fn it_is_tried_three_times_and_only_where_that_helps() {
        for (status, tries) in [(500, 3), (503, 3), (429, 3), (404, 1), (403, 1), (302, 1)] {
            let server = MockServer::start().await;
            let answer = ResponseTemplate::new(status)
                .insert_header("location", "/elsewhere")
                .set_body_string("no /services/hunter2 here");
            Mock::given(method("POST")).respond_with(answer).mount(&server).await;
            let error = post(&hook(&format!("{}/services/hunter2", server.uri()))).await.unwrap_err();
            assert_eq!(calls(&server).await, tries, "{status}");
            assert!(error.contains(&status.to_string()) && !error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_second_try_may_get_there() {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).up_to_n_times(1).mount(&server).await;
        Mock::given(path("/hook"))
            .and(body_partial_json(json!({"text": "x"})))
            .respond_with(ResponseTemplate::new(200).set_body_string("ok".repeat(1 << 20)))
            .mount(&server)
            .await;
        assert_eq!(post(&hook(&format!("{}/hook", server.uri()))).await, Ok(()));
        assert_eq!(calls(&server).await, 2);
    }

    #[tokio::test]
    async fn nobody_is_waited_for_and_no_error_shows_the_secret() {
        let server = MockServer::start().await;
        let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(5));
        Mock::given(method("POST")).respond_with(slow).mount(&server).await;
        let error = post(&hook(&format!("{}/hunter2?t=hunter2", server.uri()))).await.unwrap_err();
        assert_eq!(error, "no answer within 300ms");
        let nobody = hook("http://me:hunter2@127.0.0.1:1/hunter2?t=hunter2");
        let error = post(&nobody).await.unwrap_err();
        assert!(error.contains("refused") && !error.contains("hunter2"), "{error}");
        assert!(!format!("{nobody:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn an_agent_that_stops_tries_once() {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        assert!(hook(&server.uri()).post(&json!({}), &shutdown).await.is_err());
        assert_eq!(calls(&server).await, 1);
    }

    #[test]
    fn a_message_is_one_line_that_calls_nobody() {
        let text = "web was unhealthy (<!channel> & @here\n\u{1b}[m): replaced".to_owned();
        let mut news = News::decision(Kind::Healed, "web", "0123456789ab", "unhealthy", text);
        news.node = "n1".to_owned();
        let message = message(&news);
        let shown = message["text"].as_str().unwrap();
        assert!(shown.starts_with("n1: web was unhealthy (&lt;!channel&gt; &amp; @\u{200b}here "), "{shown}");
        assert!(!shown.contains(char::is_control));
        assert_eq!((message["kind"].as_str(), message["container"].as_str()), (Some("healed"), Some("0123456789ab")));
        news.text = "é".repeat(10_000);
        assert!(super::message(&news)["text"].as_str().unwrap().len() <= TEXT);
    }
}
