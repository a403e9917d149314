//! What the commands write. The values in it (labels, names, what Docker and Consul answer) come from whoever may start a
//! container, and the reader is an operator's terminal: no text from outside begins a line of its own or reaches the
//! terminal as an order.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use crate::telemetry::logs::clean;

/// To standard output. A reader that went away (`remora explain web | head`) is no error.
pub(super) fn print(text: &str) {
    write_out(&lines(text));
}

/// JSON to standard output: the same document, with everything that a terminal could obey escaped.
pub(super) fn print_json(json: &str) {
    write_out(&escaped(json));
}

/// To standard error.
pub(super) fn complain(text: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{}", lines(text.trim_end()));
}

/// One line behind others, whatever is in it.
pub(super) fn add_line(text: &mut String, line: &str) {
    text.push_str(&clean(line));
    text.push('\n');
}

fn write_out(text: &str) {
    let _reader_is_gone = std::io::stdout().write_all(text.as_bytes());
}

/// The same lines, each fit for a terminal.
fn lines(text: &str) -> String {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(clean).collect();
    lines.join("\n")
}

/// JSON whose strings hold no character that is hostile to a terminal. (A serializer escapes only what JSON demands, which
/// leaves out `DEL`, the second set of control characters, and marks that reorder the text.)
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        let mut buffer = [0; 4];
        // Outside of strings JSON holds line breaks and nothing else of this kind, and inside they are escaped already.
        if character == '\n' || matches!(clean(character.encode_utf8(&mut buffer)), Cow::Borrowed(_)) {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _infallible = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[31m\u{7f}\u{9b}2J\u{202e}\u{2028}\r\tz";

    #[test]
    fn lines_stay_and_orders_to_the_terminal_do_not() {
        let text = lines(&format!("one {HOSTILE}\n\ntwo\n"));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{2028}']), "{text:?}");
        assert!(text.starts_with("one a") && text.ends_with("z\n\ntwo\n"), "{text:?}");
    }

    #[test]
    fn a_value_makes_no_line_of_its_own() {
        let mut text = String::from("first\n");
        add_line(&mut text, "- n:web:80\n+ forged");
        assert_eq!(text, "first\n- n:web:80 + forged\n");
    }

    #[test]
    fn json_stays_the_same_document() {
        let document = serde_json::json!({ "a\u{9b}": [HOSTILE, "häßlich 🦀\n"] });
        let text = escaped(&serde_json::to_string_pretty(&document).unwrap());
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{2028}']), "{text:?}");
        assert!(text.contains("häßlich 🦀"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), document);
    }
}
