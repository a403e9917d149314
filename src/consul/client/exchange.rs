//! One request and its answer: bounded, and every way in which it fails as one of our errors.

use std::error::Error;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, Response, StatusCode};

use super::{Answer, Call};
use crate::consul::classify::{classify, clean};
use crate::consul::error::ConsulError;
use crate::scrub::scrub;

/// Two hundred times the list of 300 services.
const BODY_LIMIT: usize = 32 << 20;
/// Of an error only the first words are kept.
const ERROR_LIMIT: usize = 64 << 10;

/// A call that did not do what it should.
#[derive(Debug)]
pub(super) struct Failed {
    /// What callers hear of it.
    pub(super) error: ConsulError,
    /// There was no connection, and so no request.
    pub(super) unsent: bool,
    /// The two sides did not agree in TLS: whom to trust, or whom to let in.
    pub(super) handshake: bool,
}

impl From<ConsulError> for Failed {
    fn from(error: ConsulError) -> Self {
        Self { error, unsent: false, handshake: false }
    }
}

/// Sends a request and reads the answer. Of a refusal that is an answer too (409, 413) the first [`BODY_LIMIT`] bytes count.
pub(super) async fn exchange(
    call: &Call<'_>,
    request: RequestBuilder,
    address: &str,
    timeout: Duration,
) -> Result<Answer, Failed> {
    let lost = |error| lost(call.name, address, timeout, error);
    let (client, request) = request.timeout(timeout).build_split();
    let request = request.map_err(lost)?;
    // Only kept, not copied: their bytes are shared.
    let told: Vec<HeaderValue> = request.headers().values().filter(|value| value.is_sensitive()).cloned().collect();
    let response = client.execute(request).await.map_err(lost)?;
    let status = response.status();
    let missing = call.may_be_missing && status == StatusCode::NOT_FOUND;
    let refused = call.may_be_refused && matches!(status, StatusCode::CONFLICT | StatusCode::PAYLOAD_TOO_LARGE);
    if status.is_success() || missing || refused {
        let headers = response.headers().clone();
        let body = body(response, BODY_LIMIT).await.map_err(lost)?.map_err(|_beginning| ConsulError::Unreadable {
            call: call.name,
            reason: format!("it is longer than {} MiB", BODY_LIMIT >> 20),
        })?;
        return Ok(Answer { headers, body, missing, status: status.as_u16() });
    }
    // The beginning of an error is enough.
    let words = body(response, ERROR_LIMIT).await.map_err(lost)?.unwrap_or_else(|beginning| beginning);
    Err(classify(call.name, status.as_u16(), without_secrets(&words, &told).as_bytes()).into())
}

/// An error page without the credentials that were sent: not every page is Consul's own.
fn without_secrets(page: &[u8], headers: &[HeaderValue]) -> String {
    let mut secrets = Vec::new();
    for value in headers.iter().filter_map(|value| value.to_str().ok()) {
        if let Some(encoded) = value.strip_prefix("Basic ") {
            let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            secrets.extend(decoded.as_ref().and_then(|pair| Some(pair.split_once(':')?.1.to_owned())));
            secrets.push(encoded.to_owned());
        } else {
            secrets.push(value.to_owned());
        }
    }
    scrub(&String::from_utf8_lossy(page), secrets.iter().map(String::as_str))
}

/// An error of the transport. The URL is taken out: a proxy's address or a query may be told by nobody but us.
fn lost(call: &'static str, address: &str, after: Duration, error: reqwest::Error) -> Failed {
    // A time-out while connecting is a peer that is not there, not one that is slow.
    if error.is_timeout() && !error.is_connect() {
        return ConsulError::TimedOut { call, after }.into();
    }
    let (unsent, handshake) = (error.is_connect(), is_of_tls(&error));
    Failed { error: ConsulError::Unreachable { address: address.to_owned(), reason: causes(error) }, unsent, handshake }
}

/// Whether TLS is at fault. The server's no to our certificate comes after the handshake, as the first thing that is read
/// (TLS 1.3), and so reqwest does not call it an error of connecting.
fn is_of_tls(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        // An error in an I/O error is not among that one's sources.
        cause = match inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(held) => Some(held),
            None => inner.source(),
        };
        if inner.is::<rustls::Error>() {
            return true;
        }
    }
    false
}

/// Reads a body; `Err` holds its beginning when it is longer than the limit.
async fn body(mut response: Response, limit: usize) -> Result<Result<Vec<u8>, Vec<u8>>, reqwest::Error> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut body = Vec::with_capacity(announced.min(limit));
    while let Some(chunk) = response.chunk().await? {
        let room = limit - body.len();
        if chunk.len() > room {
            body.extend(chunk.iter().take(room));
            return Ok(Err(body));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Ok(body))
}

/// The two innermost causes of an error, without a URL: `tcp connect error: Connection refused (os error 111)`.
pub(crate) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut texts = vec![error.to_string()];
    let mut cause = Error::source(&error);
    while let Some(inner) = cause {
        texts.push(inner.to_string());
        cause = inner.source();
    }
    // Some layers repeat the text of the next one.
    texts.dedup();
    let innermost = texts.get(texts.len().saturating_sub(2)..).unwrap_or_default();
    // The outermost text only says that something went wrong.
    let told = if texts.len() == 2 { innermost.get(1..).unwrap_or_default() } else { innermost };
    clean(&told.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_page_that_repeats_the_request_does_not_tell_its_credentials() {
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        // user:hunter2
        let headers = [header("0a1b2c3d-token"), header("Basic dXNlcjpodW50ZXIy")];
        let page = b"bad: X-Consul-Token: 0a1b2c3d-token, Authorization: Basic dXNlcjpodW50ZXIy (user:hunter2)";
        let expected = "bad: X-Consul-Token: (secret), Authorization: Basic (secret) (user:(secret))";
        assert_eq!(without_secrets(page, &headers), expected);
    }
}
