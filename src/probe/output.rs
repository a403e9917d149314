//! What is said about a result: Consul's own words where it has some, so that whoever searches for them, or moves from one mode
//! to the other, finds what he knows. Pure.
//!
//! The texts end up in Consul's catalog, where everyone who may read it sees them; the log never holds one.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::consul::registry::OUTPUT_LIMIT;

/// Bytes of an answer's body that are read; Consul's `DefaultBufSize`.
pub const BODY_LIMIT: usize = 4096;

/// Said of a script check, which never runs here.
pub const NO_SCRIPTS: &str = "script checks need a Consul agent on the node, which runs them; in catalog mode there is none: \
                              ask with SERVICE_CHECK_HTTP, SERVICE_CHECK_TCP or SERVICE_CHECK_GRPC, or use REMORA_CONSUL_MODE=agent";

/// Something answered an HTTP probe. Of a body that is too long the end is left out: the status is at the beginning.
#[must_use]
pub fn http_answer(method: &str, url: &str, status: u16, reason: &str, body: &[u8]) -> String {
    let gap = if reason.is_empty() { "" } else { " " };
    let text = format!("HTTP {method} {url}: {status}{gap}{reason} Output: {}", String::from_utf8_lossy(body));
    head(text)
}

/// An HTTP probe did not get an answer. `Get "http://…": why`, as Go has it.
#[must_use]
pub fn http_failure(method: &str, url: &str, why: &str) -> String {
    let mut verb = method.to_ascii_lowercase();
    if let Some(first) = verb.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    head(format!("{verb} \"{url}\": {why}"))
}

/// A TCP probe got through.
#[must_use]
pub fn tcp_success(address: &str) -> String {
    head(format!("TCP connect {address}: Success"))
}

/// A connection could not be made. `why` is lower-case, without a full stop.
#[must_use]
pub fn dial_failure(address: &str, why: &str) -> String {
    head(format!("dial tcp {address}: {why}"))
}

/// The health service says that all is well.
#[must_use]
pub fn grpc_success(target: &str) -> String {
    head(format!("gRPC check {target}: success"))
}

/// The health service says something else; `status` is its word (`NOT_SERVING`).
#[must_use]
pub fn grpc_not_serving(target: &str, status: &str) -> String {
    head(format!("gRPC {target} serving status: {status}"))
}

/// The call did not work; `code` is gRPC's name for the reason (`Unavailable`).
#[must_use]
pub fn grpc_error(code: &str, description: &str) -> String {
    head(format!("rpc error: code = {code} desc = {description}"))
}

/// Nobody reported within the TTL; `last` is what the last report said.
#[must_use]
pub fn ttl_expired(last: &str) -> String {
    if last.is_empty() {
        return "TTL expired".to_owned();
    }
    head(format!("TTL expired (last output before timeout follows): {last}"))
}

/// What a time-out adds: `no answer within 10s`.
#[must_use]
pub fn late(timeout: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(timeout))
}

/// The system's word for what went wrong, lower-case as Go has it: `connection refused`.
#[must_use]
pub fn system(error: &io::Error) -> String {
    match error.kind() {
        // Kinds that hide what happened.
        io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => chain(error),
        kind => {
            let word = kind.to_string();
            if word.starts_with("uncategorized") { error.to_string() } else { word }
        }
    }
}

/// An error and its causes in one line, without repetitions.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

/// At most [`OUTPUT_LIMIT`] bytes, whole characters.
#[must_use]
pub fn head(mut text: String) -> String {
    let mut end = text.len().min(OUTPUT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::registry::bounded_output;

    #[test]
    fn the_words_are_consuls() {
        assert_eq!(
            http_answer("GET", "http://10.0.0.1:80/health", 200, "OK", b"fine"),
            "HTTP GET http://10.0.0.1:80/health: 200 OK Output: fine"
        );
        assert_eq!(http_answer("HEAD", "http://x/", 299, "", b""), "HTTP HEAD http://x/: 299 Output: ");
        assert_eq!(
            http_failure("GET", "http://10.0.0.1:80/", &dial_failure("10.0.0.1:80", "connect: connection refused")),
            "Get \"http://10.0.0.1:80/\": dial tcp 10.0.0.1:80: connect: connection refused"
        );
        assert_eq!(tcp_success("1.2.3.4:80"), "TCP connect 1.2.3.4:80: Success");
        assert_eq!(grpc_success("1.2.3.4:80/a.B"), "gRPC check 1.2.3.4:80/a.B: success");
        assert_eq!(grpc_not_serving("1.2.3.4:80", "NOT_SERVING"), "gRPC 1.2.3.4:80 serving status: NOT_SERVING");
        assert_eq!(grpc_error("Unavailable", "x"), "rpc error: code = Unavailable desc = x");
        assert_eq!(ttl_expired(""), "TTL expired");
        assert_eq!(ttl_expired("ok"), "TTL expired (last output before timeout follows): ok");
        assert_eq!(late(Duration::from_millis(1500)), "no answer within 1s 500ms");
    }

    #[test]
    fn a_long_body_loses_its_end_and_never_half_a_character() {
        let text = http_answer("GET", "http://x/", 200, "OK", "é".repeat(BODY_LIMIT).as_bytes());
        assert!(text.starts_with("HTTP GET http://x/: 200 OK Output: éé") && text.len() > OUTPUT_LIMIT - 2);
        assert_eq!(bounded_output(&text), text, "nothing is left to cut off its beginning");
        let text = http_answer("GET", "http://x/", 200, "OK", b"a\xff\x00b");
        assert!(text.ends_with("a\u{fffd}\u{0}b"), "{text:?}");
        assert!(ttl_expired(&"x".repeat(OUTPUT_LIMIT)).len() == OUTPUT_LIMIT);
    }

    #[test]
    fn errors_are_told_in_the_systems_words() {
        assert_eq!(system(&io::Error::from(io::ErrorKind::ConnectionRefused)), "connection refused");
        assert_eq!(system(&io::Error::other("what was wrong")), "what was wrong");
        // An error number without a kind of its own.
        assert!(!system(&io::Error::from_raw_os_error(71)).contains("uncategorized"));
        let odd = http_failure("", "http://x/", "y");
        assert_eq!(odd, " \"http://x/\": y");
    }
}
