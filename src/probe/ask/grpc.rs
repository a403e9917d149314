//! gRPC's health service, `grpc.health.v1.Health/Check`: one unary call on a connection of its own. `SERVING` is passing, anything
//! else critical. The two messages are one field each, so they are written and read here.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use h2::client::SendRequest;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use super::tls::{Spoken, Trust};
use super::{Answer, FAREWELL, USER_AGENT, dial};
use crate::consul::model::{CheckTls, Status};
use crate::probe::output::{chain, grpc_error, grpc_not_serving, grpc_success, late};

/// Bytes of an answer: the message has two, and who sends more does not speak of health.
const MAX_ANSWER: usize = 4096;

/// Bytes of an answer's header.
const MAX_HEADER: u32 = 16 * 1024;

/// Names of gRPC's status codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Why the call did not work: gRPC's name for it, and more about it.
type Failure = (&'static str, String);

/// Asks once. `target` is `host:port[/service]`; `tls` is `None` for a connection in the clear.
pub(super) async fn ask(target: &str, tls: Option<&CheckTls>, trust: &Trust, limit: Duration) -> Answer {
    match timeout_at(Instant::now() + limit, call(target, tls, trust, limit)).await {
        Ok(Ok(1)) => Answer::new(Status::Passing, grpc_success(target)),
        Ok(Ok(number)) => Answer::new(Status::Critical, grpc_not_serving(target, &serving(number))),
        Ok(Err((code, description))) => Answer::new(Status::Critical, grpc_error(code, &description)),
        Err(_late) => {
            let description = format!("context deadline exceeded ({})", late(limit));
            Answer::late(grpc_error("DeadlineExceeded", &description))
        }
    }
}

async fn call(target: &str, tls: Option<&CheckTls>, trust: &Trust, limit: Duration) -> Result<u64, Failure> {
    let (address, service) = target.split_once('/').unwrap_or((target, ""));
    let unavailable = |why: String| ("Unavailable", format!("connection error: {why}"));
    let name = tls.and_then(|tls| tls.server_name.as_deref()).filter(|name| !name.is_empty());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let request = hyper::Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        // As Go's client: the name that is verified is the one that is asked for.
        .uri(format!("{scheme}://{}/grpc.health.v1.Health/Check", name.unwrap_or(address)))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT)
        .header("grpc-timeout", format!("{}m", limit.as_millis().min(99_999_999)))
        .body(())
        .map_err(|error| ("Internal", format!("{address} cannot be asked: {error}")))?;
    let stream = dial(address).await.map_err(unavailable)?;
    match tls {
        None => talk(stream, request, service).await,
        Some(tls) => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = trust.wrap(stream, host, tls, Spoken::Http2).await.map_err(unavailable)?;
            talk(stream, request, service).await
        }
    }
}

/// Speaks HTTP/2 over this connection, for one call.
async fn talk<S>(stream: S, request: hyper::Request<()>, service: &str) -> Result<u64, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(MAX_HEADER);
    let (sender, connection) = builder.handshake::<_, Bytes>(stream).await.map_err(|error| broken(&error))?;
    let mut connection = pin!(connection);
    let mut over = false;
    let outcome = {
        let mut asking = pin!(unary(sender, request, message(service)));
        tokio::select! {
            outcome = asking.as_mut() => outcome,
            ended = connection.as_mut() => {
                over = true;
                // What had come before the end is there still; the reason for the end is the better one.
                match (asking.await, ended) {
                    (Err(_), Err(error)) => Err(broken(&error)),
                    (outcome, _) => outcome,
                }
            }
        }
    };
    if !over && outcome.is_ok() {
        let _unsaid = timeout(FAREWELL, connection).await;
    }
    outcome
}

/// One call: the request, one message there, one message back, the trailers.
async fn unary(sender: SendRequest<Bytes>, request: hyper::Request<()>, message: Bytes) -> Result<u64, Failure> {
    let failed = |error: h2::Error| broken(&error);
    let mut sender = sender.ready().await.map_err(failed)?;
    let (response, mut sending) = sender.send_request(request, false).map_err(failed)?;
    sending.send_data(message, true).map_err(failed)?;
    let response = response.await.map_err(failed)?;
    if response.status() != StatusCode::OK && grpc_status(response.headers()).is_none() {
        return Err(by_http(response.status()));
    }
    // A server that has nothing to say says it here already.
    if let Some(refused) = refusal(response.headers()) {
        return Err(refused);
    }
    let mut body = response.into_body();
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(failed)?;
        if answer.len() + data.len() > MAX_ANSWER {
            return Err(("ResourceExhausted", format!("received message larger than {MAX_ANSWER} bytes")));
        }
        // The window stays as it is when that fails: there is room for more than is read.
        let _smaller = body.flow_control().release_capacity(data.len());
        answer.extend_from_slice(&data);
    }
    let trailers = poll_fn(|context| body.poll_trailers(context)).await.map_err(failed)?;
    let trailers = trailers.ok_or(("Internal", "server closed the stream without sending trailers".to_owned()))?;
    match grpc_status(&trailers) {
        None => return Err(("Internal", "the trailers hold no grpc-status".to_owned())),
        Some(_) => {
            if let Some(refused) = refusal(&trailers) {
                return Err(refused);
            }
        }
    }
    read(&answer).ok_or(("Internal", "the answer is no message of the health service".to_owned()))
}

/// The connection or the stream broke.
fn broken(error: &h2::Error) -> Failure {
    ("Unavailable", format!("connection error: {}", chain(error)))
}

/// `grpc-status` as a number.
fn grpc_status(headers: &HeaderMap) -> Option<usize> {
    headers.get("grpc-status")?.to_str().ok()?.trim().parse().ok()
}

/// A `grpc-status` other than OK.
fn refusal(headers: &HeaderMap) -> Option<Failure> {
    let status = grpc_status(headers).filter(|status| *status != 0)?;
    let said = headers.get("grpc-message").map_or(&b""[..], |value| value.as_bytes());
    let said = percent_encoding::percent_decode(said).decode_utf8_lossy();
    Some((CODES.get(status).copied().unwrap_or("Unknown"), said.into_owned()))
}

/// Somebody answers who does not speak gRPC; the mapping is gRPC's own (`doc/http-grpc-status-mapping.md`).
fn by_http(status: StatusCode) -> Failure {
    let code = match status.as_u16() {
        400 => "Internal",
        401 => "Unauthenticated",
        403 => "PermissionDenied",
        404 => "Unimplemented",
        429 | 502 | 503 | 504 => "Unavailable",
        _ => "Unknown",
    };
    (code, format!("unexpected HTTP status code received from server: {status}"))
}

/// `HealthCheckRequest { string service = 1; }` behind gRPC's five bytes: not compressed, and the length.
fn message(service: &str) -> Bytes {
    let mut field = Vec::new();
    if !service.is_empty() {
        field.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            // The lowest seven bits, and that more follow.
            field.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        field.push(u8::try_from(length).unwrap_or_default());
        field.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
    let mut message = vec![0];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&field);
    Bytes::from(message)
}

/// `HealthCheckResponse { ServingStatus status = 1; }`. A message without the field says `UNKNOWN` (0); other fields are passed over.
fn read(answer: &[u8]) -> Option<u64> {
    let (compressed, rest) = answer.split_first()?;
    let (length, field) = rest.split_first_chunk::<4>()?;
    if *compressed != 0 || usize::try_from(u32::from_be_bytes(*length)).ok()? != field.len() {
        return None;
    }
    let mut bytes = field;
    let mut status = 0;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut bytes)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => bytes = bytes.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                bytes = bytes.get(length..)?;
            }
            5 => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The health service's word for a number.
fn serving(number: u64) -> String {
    match number {
        0 => "UNKNOWN".to_owned(),
        1 => "SERVING".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_what_protobuf_writes() {
        assert_eq!(&message("")[..], &[0, 0, 0, 0, 0]);
        assert_eq!(&message("a.B")[..], &[0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = message(&"x".repeat(300));
        assert_eq!(&long[..8], &[0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 303);
    }

    #[test]
    fn the_answer_is_read_and_rubbish_is_not() {
        assert_eq!(read(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(read(&[0, 0, 0, 0, 2, 8, 2]), Some(2));
        assert_eq!(read(&[0, 0, 0, 0, 0]), Some(0));
        // Fields of a later version.
        assert_eq!(read(&[0, 0, 0, 0, 7, 0x12, 1, b'x', 0x18, 9, 8, 1]), Some(1));
        assert_eq!(read(&[0, 0, 0, 0, 7, 0x1d, 0, 0, 0, 0, 8, 3]), Some(3));
        let rubbish: [&[u8]; 7] = [
            b"",
            &[0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 0x12, 9],
            &[0, 0, 0, 0, 1, 0x0b],
        ];
        for bytes in rubbish {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
        assert_eq!(varint(&mut &[0xff; 11][..]), None);
    }

    #[test]
    fn refusals_are_told_in_grpcs_words() {
        let headers = |status: &'static str, message: &'static str| {
            HeaderMap::from_iter([
                ("grpc-status".parse().unwrap(), status.parse().unwrap()),
                ("grpc-message".parse().unwrap(), message.parse().unwrap()),
            ])
        };
        assert_eq!(refusal(&headers("12", "unknown%20service")), Some(("Unimplemented", "unknown service".to_owned())));
        assert_eq!(refusal(&headers("99", "")), Some(("Unknown", String::new())));
        assert_eq!(refusal(&headers("0", "")), None);
        assert_eq!(by_http(StatusCode::NOT_FOUND).0, "Unimplemented");
        assert_eq!(serving(3), "SERVICE_UNKNOWN");
    }
}
