//! The parts of an active check that come from labels: path, method, headers, body, gRPC service, arguments. Everything here
//! ends up in a request or a command of Consul's agent, so the character sets are strict.

use std::collections::BTreeMap;

use super::address::Address;
use super::metadata::Entry;
use super::notes::Notes;
use super::values::{boolean, quoted, words};

/// Longest path, header value, server name and gRPC service, in bytes.
const LONGEST: usize = 2048;

/// Longest body and longest command line, in bytes.
const LONGEST_BODY: usize = 8192;

/// At most so many headers.
const MOST_HEADERS: usize = 32;

/// The path of an HTTP check, with a slash at its beginning. Only ever a path: with anything before it a label could send
/// Consul's agent elsewhere (`@other.host/`, `http://other.host/`).
pub(super) fn path(value: &str) -> Result<String, &'static str> {
    let value = value.trim();
    if value.len() > LONGEST || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected a path such as /health, at most 2048 bytes, blanks and other letters percent-encoded");
    }
    if value.starts_with('/') {
        Ok(value.to_owned())
    } else if boolean(value, false).is_some() || value.contains("://") || value.contains('@') {
        Err("expected a path such as /health; the host is always the service's own address")
    } else {
        // registrator put it right behind the port, where it could never work.
        Ok(format!("/{value}"))
    }
}

/// An HTTP method.
pub(super) fn method(entry: &Entry<'_>, notes: &mut Notes) -> Option<String> {
    let method = entry.value.trim().to_ascii_uppercase();
    if method.len() <= 32 && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Some(method);
    }
    notes.warn(entry.key, format!("{} is left out: expected a method such as GET or HEAD", quoted(entry.value)));
    None
}

/// Headers as a JSON object: `{"Accept": "text/plain", "X-Both": ["a", "b"]}`. No value is ever shown: it may be a password.
pub(super) fn headers(entry: &Entry<'_>, notes: &mut Notes) -> BTreeMap<String, Vec<String>> {
    use serde_json::Value;
    let expected = r#"expected a JSON object such as {"Accept": "text/plain"}"#;
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(entry.value) else {
        notes.warn(entry.key, format!("is left out: {expected}"));
        return BTreeMap::new();
    };
    let mut headers = BTreeMap::new();
    for (name, value) in object {
        let values: Option<Vec<String>> = match value {
            Value::String(text) => Some(vec![text]),
            Value::Array(texts) => texts.into_iter().map(|text| text.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        let values =
            values.filter(|values| values.len() <= MOST_HEADERS && values.iter().all(|value| is_header_value(value)));
        match values {
            Some(values) if is_header_name(&name) && headers.len() < MOST_HEADERS => {
                headers.insert(name, values);
            }
            _ => {
                let text = format!(
                    "header {} is left out: expected at most {MOST_HEADERS} names of letters, digits and -, with \
                                    printable values",
                    quoted(&name)
                );
                notes.warn(entry.key, text);
            }
        }
    }
    headers
}

/// A token of RFC 9110.
fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() <= 128 && name.bytes().all(token)
}

/// No line breaks, so that nobody can add a request of his own.
fn is_header_value(value: &str) -> bool {
    value.len() <= LONGEST && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// The body of a request.
pub(super) fn body(entry: &Entry<'_>, notes: &mut Notes) -> Option<String> {
    if entry.value.len() <= LONGEST_BODY {
        return Some(entry.value.to_owned());
    }
    notes.warn(entry.key, format!("is left out: expected at most {LONGEST_BODY} bytes"));
    None
}

/// A name to verify a certificate against.
pub(super) fn server_name(entry: &Entry<'_>, notes: &mut Notes) -> Option<String> {
    let name = entry.value.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.len() <= 253 && name.bytes().all(plain) {
        return Some(name.to_owned());
    }
    notes.warn(entry.key, format!("{} is left out: expected a host name", quoted(entry.value)));
    None
}

/// The gRPC service whose health is asked for.
pub(super) fn grpc_service(value: &str) -> Result<&str, &'static str> {
    let value = value.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if value.len() <= 255 && value.bytes().all(plain) {
        Ok(value)
    } else {
        Err("expected true, or the name of a gRPC service such as grpc.health.v1.Health")
    }
}

/// The program and its arguments; `$SERVICE_IP` and `$SERVICE_PORT` are replaced after the split, so that no value can
/// become a second argument.
pub(super) fn arguments(value: &str, address: &Address, port: u16) -> Result<Vec<String>, &'static str> {
    let expected = "expected a program with arguments, quotes closed, at most 64 words and 8192 bytes";
    if value.len() > LONGEST_BODY || value.contains('\0') {
        return Err(expected);
    }
    let words = words(value).filter(|words| (1..=64).contains(&words.len())).ok_or(expected)?;
    let (address, port) = (address.to_string(), port.to_string());
    let replace = |word: String| word.replace("$SERVICE_IP", &address).replace("$SERVICE_PORT", &port);
    Ok(words.into_iter().map(replace).collect())
}

/// Whether a command line holds what only a shell would understand: pipes, lists, redirections and substitutions outside of
/// quotes. Without a shell each is an argument like any other.
pub(super) fn has_shell_syntax(value: &str) -> bool {
    let mut quote: Option<char> = None;
    let mut before = ' ';
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        match (quote, character) {
            (None | Some('"'), '\\') => {
                characters.next();
            }
            // Substitutions a shell looks for in double quotes, too.
            (None | Some('"'), '`') | (None, '|' | ';' | '<' | '>') => return true,
            (None | Some('"'), '$') if next == Some('(') => return true,
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            // In the middle of a word it belongs to the query of a URL.
            (None, '&') if before.is_whitespace() || next.is_none_or(char::is_whitespace) => return true,
            _ => {}
        }
        before = character;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_passes_as_a_path() {
        assert_eq!(path("/health?x=http://y"), Ok("/health?x=http://y".into()));
        assert_eq!(path(" health "), Ok("/health".into()));
        // Behind host and port, two slashes are a path like any other.
        assert_eq!(path("//other.host/"), Ok("//other.host/".into()));
        for bad in ["http://169.254.169.254/latest", "@other.host/", "true", "/a b", "/a\r\nX: y", "x@y", "/é"] {
            assert!(path(bad).is_err(), "{bad}");
        }
        assert!(path(&format!("/{}", "x".repeat(LONGEST))).is_err());
    }

    #[test]
    fn a_grpc_service_is_a_plain_name() {
        assert_eq!(grpc_service("my.pkg.Service"), Ok("my.pkg.Service"));
        assert!(grpc_service("a/b").is_err());
        assert!(grpc_service("a b").is_err());
    }

    #[test]
    fn arguments_are_split_before_they_are_filled_in() {
        let address = Address::Ip("10.0.0.1".parse().unwrap());
        let args = arguments("check --to '$SERVICE_IP:$SERVICE_PORT' $SERVICE_PORT", &address, 80);
        assert_eq!(args.unwrap(), ["check", "--to", "10.0.0.1:80", "80"]);
        assert!(arguments("", &address, 80).is_err());
        assert!(arguments("a 'b", &address, 80).is_err());
    }

    #[test]
    fn what_only_a_shell_would_understand_is_noticed() {
        for text in [
            "nc $SERVICE_IP $SERVICE_PORT | grep OK",
            "a|b",
            "a && b",
            "a || b",
            "a; b",
            "a > /dev/null",
            "a 2>&1",
            "a < x",
            "a &",
            "a `b`",
            "a $(b)",
            "a \"$(b)\"",
        ] {
            assert!(has_shell_syntax(text), "{text}");
        }
        for text in [
            "sh -c 'nc $SERVICE_IP $SERVICE_PORT | grep OK'",
            "sh -c \"a && b; c > d\"",
            r"grep a\|b",
            "curl http://x/?a=1&b=2",
            "check $SERVICE_IP:$SERVICE_PORT",
            "",
        ] {
            assert!(!has_shell_syntax(text), "{text}");
        }
    }

    #[test]
    fn headers_cannot_break_out_of_their_line() {
        assert!(
            is_header_name("X-Token") && !is_header_name("X Token") && !is_header_name("X:") && !is_header_name("")
        );
        assert!(is_header_value("a b") && !is_header_value("a\r\nb") && !is_header_value("a\u{0}"));
    }
}
