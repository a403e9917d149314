//! Status and body of an answer → [`ConsulError`]. Pure.
//!
//! The status alone does not tell what to do: Consul 1.8 says 500 to a missing leader (try again), to a refused token
//! (tell the operator), to an unknown check (our picture is old) and to a bad definition (leave that item alone). The texts
//! below were read off a real Consul 1.8.7; those of newer versions come from its source and its issues.

use super::error::ConsulError;

/// Bytes kept of Consul's own words.
const MESSAGE_LIMIT: usize = 300;

/// Rights: a token that is not known, or that does not allow it. Also inside a 500 (`rpc error making call: ACL not found`).
const FORBIDDEN: [&str; 2] = ["permission denied", "acl not found"];

/// The thing that the call speaks about is not there. 500 up to 1.10, 404 from 1.11 on.
const NOT_FOUND: [&str; 7] = [
    "unknown service",
    "unknown check",
    "does not have associated ttl",
    "not associated with a ttl",
    "unknown session",
    "invalid session",
    // A session on a node that is about to be registered.
    "missing node registration",
];

/// The definition is at fault. 400 from an agent; inside a 500 from the catalog, and for script checks everywhere.
const INVALID: [&str; 12] = [
    "invalid service",
    "invalid check",
    "invalid weights",
    "invalid node meta",
    "scripts are disabled",
    "request decode failed",
    "missing service",
    "must provide service",
    "status for checks must",
    "serviceid missing",
    "couldn't load metadata",
    "unexpected response code: 400",
];

/// The error that an answer with this status (not 2xx) and this body stands for.
pub(super) fn classify(call: &'static str, status: u16, body: &[u8]) -> ConsulError {
    let text = String::from_utf8_lossy(body);
    let lower = text.to_lowercase();
    let holds = |needles: &[&str]| needles.iter().any(|needle| lower.contains(needle));
    let message = match clean(&text) {
        words if words.is_empty() => reqwest::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("no explanation")
            .to_owned(),
        words => words,
    };
    match status {
        401 | 403 => ConsulError::Forbidden { call, message },
        404 => ConsulError::NotFound { call, message },
        // 408 and 425 ask for another try; 429 for a slower one.
        408 | 425 | 429 => ConsulError::Unwell { status, call, message },
        400..=499 => ConsulError::Invalid { call, message },
        500 if holds(&FORBIDDEN) => ConsulError::Forbidden { call, message },
        500 if holds(&NOT_FOUND) => ConsulError::NotFound { call, message },
        500 if holds(&INVALID) => ConsulError::Invalid { call, message },
        500..=599 => ConsulError::Unwell { status, call, message },
        300..=399 => ConsulError::Unreadable {
            call,
            reason: format!(
                "it is a redirect ({status}), which is not followed; CONSUL_HTTP_ADDR should name Consul itself"
            ),
        },
        _ => ConsulError::Unreadable { call, reason: format!("status {status} is none of HTTP's") },
    }
}

/// Words of a peer as one line for a log: control characters become spaces, runs of spaces one, at most 300 bytes.
pub(super) fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MESSAGE_LIMIT + 4));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > MESSAGE_LIMIT {
            let mut end = MESSAGE_LIMIT;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::error::Class;

    #[test]
    fn status_and_body_together_decide_the_class() {
        let cases: [(u16, &str, Class); 35] = [
            // Rights.
            (403, "Permission denied: Missing service:write on a", Class::Denied),
            (403, "ACL not found", Class::Denied),
            (403, "", Class::Denied),
            (401, "ACL support disabled", Class::Denied),
            (500, "rpc error making call: Permission denied", Class::Denied),
            (500, "rpc error making call: rpc error making call: ACL not found", Class::Denied),
            // Gone.
            (500, "Unknown service {\"nope\" {}}", Class::Gone),
            (500, "Unknown check \"nope\"", Class::Gone),
            (500, "CheckID \"nope\" does not have associated TTL", Class::Gone),
            (404, "Unknown check ID \"nope\". Ensure that the check ID is passed, not the check name.", Class::Gone),
            (404, "unknown service ID: nope", Class::Gone),
            (500, "rpc error making call: invalid session \"3c1d\"", Class::Gone),
            (500, "rpc error making call: Missing node registration", Class::Gone),
            // Rejected.
            (400, "Missing service name", Class::Rejected),
            (400, "Invalid service address", Class::Rejected),
            (400, "Invalid Service Meta: Couldn't load metadata pair ('a.b', 'c')", Class::Rejected),
            (400, "Request decode failed: json: unknown field \"TLSServerName\"", Class::Rejected),
            (400, "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature", Class::Rejected),
            (500, "Scripts are disabled on this agent from remote calls", Class::Rejected),
            (500, "Invalid service address", Class::Rejected),
            (500, "Invalid Service Meta: too many", Class::Rejected),
            (500, "Must provide service name with ID", Class::Rejected),
            (413, "Request body too large", Class::Rejected),
            (405, "method DELETE not allowed", Class::Rejected),
            // Unwell.
            (500, "No cluster leader", Class::Transient),
            (500, "No known Consul servers", Class::Transient),
            (500, "rpc error making call: EOF", Class::Transient),
            (500, "leadership lost while committing log", Class::Transient),
            (500, "", Class::Transient),
            (429, "", Class::Transient),
            (429, "Your IP is issuing too many concurrent connections, please rate limit your calls", Class::Transient),
            (502, "<html>Bad Gateway</html>", Class::Transient),
            (503, "rate limit reached, none of the servers can take it", Class::Transient),
            // Not a Consul.
            (302, "", Class::Transient),
            (600, "", Class::Transient),
        ];
        for (status, body, class) in cases {
            let error = classify("PUT /x", status, body.as_bytes());
            assert_eq!(error.class(), class, "{status} {body:?} became {error:?}");
        }
    }

    #[test]
    fn an_empty_body_is_told_by_the_name_of_the_status() {
        let error = classify("PUT /x", 429, b"");
        assert_eq!(error.to_string(), "Consul is unwell (429 to PUT /x): Too Many Requests");
    }

    #[test]
    fn a_message_is_one_bounded_line_without_control_characters() {
        assert_eq!(clean("a\r\n\tb\u{1b}[31m  c\0"), "a b [31m c");
        let long = clean(&"ä".repeat(10_000));
        assert!(long.len() <= MESSAGE_LIMIT + '…'.len_utf8() && long.ends_with('…'), "{} bytes", long.len());
        let words = clean(&"word ".repeat(10_000));
        assert!(words.len() <= MESSAGE_LIMIT + '…'.len_utf8(), "{} bytes", words.len());
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let error = classify("PUT /x", 500, &[0xff, 0xfe, b'E', b'O', b'F']);
        assert!(matches!(error, ConsulError::Unwell { ref message, .. } if message.contains("EOF")), "{error:?}");
    }
}
