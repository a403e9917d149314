//! What may be asked of the engine, where something in front of its socket says no to some calls: each call that healing makes is
//! asked once about something that does not exist. An engine answers that there is no such thing; a filtering proxy, that it
//! is not allowed. Nothing is changed by it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::engine::DockerEngine;
use super::http::CALL_TIMEOUT;
use super::port::DockerError;

/// The id of no container, image, network, volume or execution: nobody's random number has 64 zeros.
const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A call is one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
    Delete,
}

/// A call of healing.
struct Call {
    /// As errors name it.
    name: &'static str,
    method: Method,
    /// `{}` stands for [`NOBODY`].
    path: &'static str,
    /// Who needs it; `None`: every replacement, or its roll-back.
    only_for: Option<&'static str>,
}

const fn call(name: &'static str, method: Method, path: &'static str, only_for: Option<&'static str>) -> Call {
    Call { name, method, path, only_for }
}

/// Every call that healing makes and publishing does not; `docs/security.md` has the same list.
const CALLS: [Call; 16] = {
    use Method::{Delete, Get, Post};
    let (pre_stop, refuse) = (Some("remora.heal.pre-stop"), Some("remora.heal.volumes=refuse"));
    [
        call("GET /images/{reference}/json", Get, "/images/{}/json", None),
        call("GET /networks/{name}", Get, "/networks/{}", None),
        call("GET /volumes/{name}", Get, "/volumes/{}", None),
        call(
            "GET /containers/{id}/logs",
            Get,
            "/containers/{}/logs?stdout=true&tail=1",
            Some("the last lines of its log"),
        ),
        call("GET /containers/{id}/changes", Get, "/containers/{}/changes", refuse),
        call("POST /containers/create", Post, "/containers/create?name={}", None),
        call("POST /containers/{id}/start", Post, "/containers/{}/start", None),
        call("POST /containers/{id}/stop", Post, "/containers/{}/stop", None),
        call("POST /containers/{id}/restart", Post, "/containers/{}/restart", None),
        call("POST /containers/{id}/rename", Post, "/containers/{}/rename?name=nobody", None),
        call("POST /containers/{id}/update", Post, "/containers/{}/update", None),
        call("POST /networks/{network}/connect", Post, "/networks/{}/connect", None),
        call("DELETE /containers/{id}", Delete, "/containers/{}", None),
        call("POST /containers/{id}/exec", Post, "/containers/{}/exec", pre_stop),
        call("POST /exec/{exec}/start", Post, "/exec/{}/start", pre_stop),
        call("GET /exec/{exec}/json", Get, "/exec/{}/json", pre_stop),
    ]
};

/// A call that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// Which one (`POST /containers/{id}/start`).
    pub call: &'static str,
    /// The only thing that needs it; `None`: every replacement, or its roll-back.
    pub only_for: Option<&'static str>,
}

impl DockerEngine {
    /// The calls of healing that are refused by whoever is in front of the engine.
    ///
    /// # Errors
    /// When one of them gets no answer at all.
    pub async fn denied(&self) -> Result<Vec<Denied>, DockerError> {
        let answers = join_all(CALLS.iter().map(|call| self.is_denied(call))).await;
        let mut denied = Vec::new();
        for (call, answer) in CALLS.iter().zip(answers) {
            if answer? {
                denied.push(Denied { call: call.name, only_for: call.only_for });
            }
        }
        Ok(denied)
    }

    async fn is_denied(&self, call: &Call) -> Result<bool, DockerError> {
        let path = call.path.replace("{}", NOBODY);
        let body = body(call.name);
        let within: Duration = CALL_TIMEOUT;
        let answer = match call.method {
            Method::Get => self.door().get(call.name, &path, within).await,
            Method::Post => self.door().post(call.name, &path, body.as_ref(), within).await,
            Method::Delete => self.door().delete(call.name, &path, within).await,
        };
        match answer {
            // Proxies say 403; one that goes by methods first says 405, one that wants to know who asks 401.
            Err(DockerError::Refused { status: 401 | 403 | 405, .. }) => Ok(true),
            Err(error @ (DockerError::Unreachable { .. } | DockerError::TimedOut { .. })) => Err(error),
            // "No such thing", in whatever words: it was let through.
            Ok(_) | Err(_) => Ok(false),
        }
    }
}

/// What is sent along, so that the engine comes to the point where it looks for what does not exist.
fn body(call: &str) -> Option<Value> {
    match call {
        // No engine pulls at this call: an image that is not there is an error.
        "POST /containers/create" => Some(json!({"Image": format!("sha256:{NOBODY}")})),
        "POST /containers/{id}/exec" => Some(json!({"Cmd": ["true"]})),
        "POST /exec/{exec}/start" => Some(json!({"Detach": true})),
        "POST /containers/{id}/update" => Some(json!({"RestartPolicy": {"Name": "no"}})),
        "POST /networks/{network}/connect" => Some(json!({"Container": NOBODY})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{any, method, path_regex};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::docker::container::Lens;

    async fn engine(server: &MockServer) -> DockerEngine {
        let missing = ResponseTemplate::new(404).set_body_json(json!({"message": "No such container: 000"}));
        Mock::given(any()).respond_with(missing).with_priority(9).mount(server).await;
        let address = server.address().to_string();
        DockerEngine::new(&crate::config::Docker::Tcp(address), Lens::default()).unwrap()
    }

    #[tokio::test]
    async fn an_engine_that_knows_of_no_such_thing_lets_everything_through() {
        let server = MockServer::start().await;
        assert_eq!(engine(&server).await.denied().await, Ok(Vec::new()));
        for request in server.received_requests().await.unwrap() {
            assert!(request.url.as_str().contains(NOBODY), "{}: may concern something that exists", request.url);
        }
    }

    #[tokio::test]
    async fn what_a_proxy_refuses_is_named() {
        let server = MockServer::start().await;
        let refused = |status| ResponseTemplate::new(status).set_body_string("<h1>Forbidden</h1>");
        Mock::given(method("DELETE")).respond_with(refused(405)).mount(&server).await;
        Mock::given(path_regex("/exec$")).respond_with(refused(403)).mount(&server).await;
        let denied = engine(&server).await.denied().await.unwrap();
        let expected =
            [("DELETE /containers/{id}", None), ("POST /containers/{id}/exec", Some("remora.heal.pre-stop"))];
        assert_eq!(denied, expected.map(|(call, only_for)| Denied { call, only_for }));
    }
}
