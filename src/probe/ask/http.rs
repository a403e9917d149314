//! HTTP and HTTPS: one request on a connection of its own. 2xx is passing, 429 a warning, anything else critical; redirects are
//! answers like any other.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use super::tls::{Spoken, Trust};
use super::{Answer, FAREWELL, USER_AGENT, dial};
use crate::consul::model::{CheckTls, Status};
use crate::probe::output::{BODY_LIMIT, chain, http_answer, http_failure, late};

/// Bytes of an answer's header; grown into only when they come.
const MAX_HEADER: usize = 64 * 1024;

/// What is asked.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) url: &'a str,
    pub(super) method: Option<&'a str>,
    pub(super) headers: &'a BTreeMap<String, Vec<String>>,
    pub(super) body: Option<&'a str>,
    pub(super) tls: &'a CheckTls,
}

/// What has come of an answer so far.
#[derive(Default)]
struct Seen {
    status: Option<StatusCode>,
    reason: String,
    body: Vec<u8>,
}

/// A URL, taken apart.
struct Target {
    tls: bool,
    /// Without brackets.
    host: String,
    /// `host:port`, with brackets where they are needed.
    address: String,
    /// As it stands in the URL, without user and password.
    authority: String,
    /// Path and query.
    path: String,
}

/// Asks once.
pub(super) async fn ask(request: Request<'_>, trust: &Trust, limit: Duration) -> Answer {
    let method = request.method.filter(|method| !method.is_empty()).unwrap_or("GET");
    let mut seen = Seen::default();
    let outcome = timeout_at(Instant::now() + limit, exchange(method, &request, trust, &mut seen)).await;
    // Once the status has come it counts, whatever becomes of the body: as in Consul.
    if let Some(status) = seen.status {
        let verdict = match status.as_u16() {
            200..=299 => Status::Passing,
            429 => Status::Warning,
            _ => Status::Critical,
        };
        return Answer::new(verdict, http_answer(method, request.url, status.as_u16(), &seen.reason, &seen.body));
    }
    match outcome {
        Ok(Err(why)) => Answer::new(Status::Critical, http_failure(method, request.url, &why)),
        // An exchange that ends well has seen a status.
        Ok(Ok(())) => Answer::new(Status::Critical, http_failure(method, request.url, "EOF")),
        Err(_late) => {
            let why = format!("context deadline exceeded ({})", late(limit));
            Answer::late(http_failure(method, request.url, &why))
        }
    }
}

async fn exchange(method: &str, request: &Request<'_>, trust: &Trust, seen: &mut Seen) -> Result<(), String> {
    let target = target(request.url)?;
    let message = message(method, request, &target)?;
    let stream = dial(&target.address).await?;
    if target.tls {
        let stream = trust.wrap(stream, &target.host, request.tls, Spoken::Http1).await?;
        talk(stream, message, seen).await
    } else {
        talk(stream, message, seen).await
    }
}

/// Sends the request and reads the beginning of the answer.
async fn talk<S>(stream: S, message: hyper::Request<Full<Bytes>>, seen: &mut Seen) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEADER);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let mut connection = pin!(connection);
    let mut over = false;
    let outcome = {
        let mut answering = pin!(async {
            let response = sender.send_request(message).await.map_err(|error| chain(&error))?;
            seen.status = Some(response.status());
            seen.reason = reason(&response);
            let mut body = response.into_body();
            while seen.body.len() < BODY_LIMIT {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        let data = frame.into_data().unwrap_or_default();
                        let room = BODY_LIMIT - seen.body.len();
                        seen.body.extend(data.iter().take(room));
                    }
                    // What came before it broke is told; the status counts.
                    Some(Err(_)) | None => break,
                }
            }
            Ok(())
        });
        tokio::select! {
            outcome = answering.as_mut() => outcome,
            _ended = connection.as_mut() => {
                over = true;
                answering.await
            }
        }
    };
    if !over && outcome.is_ok() && seen.body.len() < BODY_LIMIT {
        drop(sender);
        let _unsaid = timeout(FAREWELL, connection).await;
    }
    outcome
}

/// The server's own words beside the number, or the usual ones.
fn reason<B>(response: &hyper::Response<B>) -> String {
    match response.extensions().get::<ReasonPhrase>() {
        Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
        None => response.status().canonical_reason().unwrap_or_default().to_owned(),
    }
}

fn target(url: &str) -> Result<Target, String> {
    let uri: Uri = url.parse().map_err(|error| format!("the URL cannot be read: {error}"))?;
    let (tls, default) = match uri.scheme_str() {
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        _ => return Err("unsupported protocol scheme: expected http or https".to_owned()),
    };
    let host = uri.host().filter(|host| !host.is_empty()).ok_or("no Host in request URL")?;
    let port = uri.port_u16().unwrap_or(default);
    let authority = uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
    Ok(Target {
        tls,
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        address: format!("{host}:{port}"),
        authority,
        path: path.to_owned(),
    })
}

/// The request. No error names a header's value.
fn message(method: &str, request: &Request<'_>, target: &Target) -> Result<hyper::Request<Full<Bytes>>, String> {
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("invalid method {method:?}"))?;
    let body = Full::new(Bytes::copy_from_slice(request.body.unwrap_or_default().as_bytes()));
    let mut message = hyper::Request::new(body);
    *message.method_mut() = method;
    *message.uri_mut() = target.path.parse().map_err(|error| format!("the path cannot be asked for: {error}"))?;
    let headers = message.headers_mut();
    for (name, values) in request.headers {
        let wrong = |_| format!("header {name:?} cannot be sent");
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("header {name:?} cannot be sent"))?;
        // The length and the end of the connection are this client's affair.
        if matches!(key, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION) {
            continue;
        }
        for value in values {
            let mut value = HeaderValue::from_str(value).map_err(wrong)?;
            value.set_sensitive(true);
            // Go takes the first `Host`.
            if key == header::HOST {
                headers.entry(header::HOST).or_insert(value);
            } else {
                headers.append(&key, value);
            }
        }
    }
    let usual = |text: &str| HeaderValue::from_str(text).map_err(|_| "the host cannot be asked for".to_owned());
    if headers.get(header::HOST).is_none_or(HeaderValue::is_empty) {
        headers.insert(header::HOST, usual(&target.authority)?);
    }
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("text/plain, text/*, */*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts =
            |url| target(url).map(|target| (target.tls, target.host, target.address, target.authority, target.path));
        let expected = |tls, host: &str, address: &str, authority: &str, path: &str| {
            Ok((tls, host.to_owned(), address.to_owned(), authority.to_owned(), path.to_owned()))
        };
        assert_eq!(
            parts("http://10.0.0.1:8080/a?b=c#d"),
            expected(false, "10.0.0.1", "10.0.0.1:8080", "10.0.0.1:8080", "/a?b=c")
        );
        assert_eq!(parts("https://[::1]/"), expected(true, "::1", "[::1]:443", "[::1]", "/"));
        assert_eq!(parts("http://me:pw@web"), expected(false, "web", "web:80", "web", "/"));
        assert!(parts("ftp://x/").is_err_and(|why| why.contains("expected http or https")));
        assert!(parts("http://").is_err() && parts("/x").is_err() && parts("http://a b/").is_err());
    }

    fn built(headers: &[(&str, &[&str])], method: &str) -> Result<hyper::Request<Full<Bytes>>, String> {
        let headers = headers
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()))
            .collect();
        let tls = CheckTls::default();
        let url = "http://10.0.0.1:8080/";
        let request = Request { url, method: None, headers: &headers, body: Some("x"), tls: &tls };
        message(method, &request, &target(url).unwrap())
    }

    #[test]
    fn headers_are_the_checks_own_or_consuls() {
        let message = built(&[], "GET").unwrap();
        assert_eq!(message.headers()["host"], "10.0.0.1:8080");
        assert_eq!(message.headers()["user-agent"], "Consul Health Check");
        assert_eq!(message.headers()["accept"], "text/plain, text/*, */*");
        let own =
            [("host", &["a.b", "c"][..]), ("User-Agent", &["me"]), ("X", &["1", "2"]), ("Content-Length", &["9"])];
        let message = built(&own, "POST").unwrap();
        assert_eq!(message.headers()["host"], "a.b");
        assert_eq!(message.headers()["user-agent"], "me");
        assert_eq!(message.headers().get_all("x").iter().count(), 2);
        assert!(message.headers().get("content-length").is_none());
    }

    #[test]
    fn what_cannot_be_sent_is_told_without_its_value() {
        let why = built(&[("X", &["hunter2\r\nY: z"])], "GET").unwrap_err();
        assert!(why.contains("\"X\"") && !why.contains("hunter2"), "{why}");
        assert!(built(&[("a b", &["c"])], "GET").is_err());
        assert!(built(&[], "G T").is_err());
    }
}
