//! `PUT /v1/agent/check/{pass,warn,fail,update}/<check id>`: how a service reports about its own TTL check, with the paths and the
//! words of a Consul agent, so that a library needs another address and nothing else.
//!
//! Only in catalog mode: with an agent on the node, the agent is who to report to. Like an agent without ACLs, this believes
//! whoever reaches the address (`REMORA_HTTP_ADDR`); a browser cannot be made to: it asks before it sends a `PUT` to a strange
//! host, and is answered that only GET is.

use std::pin::Pin;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Bytes};
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::face::Standing;

/// Bytes of a report's body: Consul keeps 4 KiB of an output, and a service should not have to count.
const MAX_BODY: usize = 32 * 1024;

/// Bytes of a check's id that are shown again.
const MAX_SHOWN: usize = 256;

/// What is before the verb.
const PREFIX: &str = "/v1/agent/check/";

/// What a service says about its own check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The check's id.
    pub check: String,
    /// How the service stands.
    pub standing: Standing,
    /// What it says about that; may be empty.
    pub output: String,
}

/// Why a report is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportRefusal {
    /// No such check is run here.
    Unknown,
    /// The check is there, and is asked and not fed.
    NotTtl,
    /// The agent is stopping.
    Stopping,
}

/// Takes reports.
pub type ReportTaker =
    Arc<dyn Fn(CheckReport) -> Pin<Box<dyn Future<Output = Result<(), ReportRefusal>> + Send>> + Send + Sync>;

/// Consul's body of `update`. Go does not care about the case of a name.
#[derive(Deserialize)]
struct Update {
    #[serde(alias = "Status", default)]
    status: Option<String>,
    #[serde(alias = "Output", default)]
    output: Option<String>,
}

/// A status, and a sentence (empty for a success, as Consul answers).
pub(super) type Reply = (StatusCode, String);

/// Whether this path is one of a report.
pub(super) fn is_report(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// Answers a request to such a path.
pub(super) async fn answer<B>(request: Request<B>, take: &ReportTaker) -> Reply
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match report(request).await {
        Ok(report) => {
            let check = report.check.clone();
            match take(report).await {
                Ok(()) => (StatusCode::OK, String::new()),
                Err(refusal) => refused(&check, refusal),
            }
        }
        Err(reply) => reply,
    }
}

fn refused(check: &str, refusal: ReportRefusal) -> Reply {
    let shown: String = check.chars().take(MAX_SHOWN).collect();
    match refusal {
        ReportRefusal::Unknown => (
            StatusCode::NOT_FOUND,
            format!("Unknown check ID {shown:?}. Ensure that the check ID is passed, not the check name.\n"),
        ),
        ReportRefusal::NotTtl => {
            (StatusCode::NOT_FOUND, format!("CheckID {shown:?} does not have associated TTL: it is asked, not fed.\n"))
        }
        ReportRefusal::Stopping => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nobody takes reports here: Remora is starting or stopping, or the node has a Consul agent that takes them\n".to_owned(),
        ),
    }
}

/// Reads the request.
async fn report<B>(request: Request<B>) -> Result<CheckReport, Reply>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if request.method() != Method::PUT {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "expected PUT\n".to_owned()));
    }
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    let (verb, id) = path.split_once('/').unwrap_or((path, ""));
    // An id may hold slashes, plain or escaped: everything behind the verb is the id.
    let check = percent_decode_str(id)
        .decode_utf8()
        .map_err(|_| (StatusCode::BAD_REQUEST, "expected a check id in UTF-8, percent-encoded\n".to_owned()))?
        .into_owned();
    if check.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "Missing check ID\n".to_owned()));
    }
    let standing = match verb {
        "pass" => Standing::Passing,
        "warn" => Standing::Warning,
        "fail" => Standing::Critical,
        "update" => return update(check, request).await,
        _ => {
            return Err((
                StatusCode::NOT_FOUND,
                "expected /v1/agent/check/pass/, warn/, fail/ or update/ and a check id\n".to_owned(),
            ));
        }
    };
    let query = request.uri().query().unwrap_or_default();
    let note = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "note").map(|(_, note)| note);
    Ok(CheckReport { check, standing, output: note.unwrap_or_default().into_owned() })
}

async fn update<B>(check: String, request: Request<B>) -> Result<CheckReport, Reply>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("expected at most {MAX_BODY} bytes\n"))
        } else {
            (StatusCode::BAD_REQUEST, "the body broke off\n".to_owned())
        }
    })?;
    // serde's own words could repeat parts of the body.
    let update: Update = serde_json::from_slice(&body.to_bytes()).map_err(|_| {
        (
            StatusCode::BAD_REQUEST,
            "Request decode failed: expected {\"Status\":\"passing\",\"Output\":\"…\"}\n".to_owned(),
        )
    })?;
    let standing = match update.status.as_deref() {
        Some("passing") => Standing::Passing,
        Some("warning") => Standing::Warning,
        Some("critical") => Standing::Critical,
        other => {
            let shown: String = other.unwrap_or_default().chars().take(64).collect();
            let sentence = format!("Invalid check status: {shown:?}: expected passing, warning or critical\n");
            return Err((StatusCode::BAD_REQUEST, sentence));
        }
    };
    Ok(CheckReport { check, standing, output: update.output.unwrap_or_default() })
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
