//! How the values of keys are read: booleans, durations, lists, patterns, and text that is fit to be shown.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::consul::CheckKind;

/// A hundred years, as Go writes them: `876000h`. Nothing that is asked for lasts longer, and Go's own durations end at
/// 292 years, so that no sum can overflow on the other side.
pub(crate) const FOREVER: Duration = Duration::from_secs(876_000 * 3600);

/// The kind of the checks that every service has: they never expire.
pub(crate) fn unexpiring() -> Arc<CheckKind> {
    static UNEXPIRING: LazyLock<Arc<CheckKind>> = LazyLock::new(|| Arc::new(CheckKind::Ttl { ttl: FOREVER }));
    Arc::clone(&UNEXPIRING)
}

/// A yes or a no, or `None` for anything else. With `loose`, registrator's reading: whatever is not empty is a yes.
pub(crate) fn boolean(text: &str, loose: bool) -> Option<bool> {
    let word = text.trim().to_ascii_lowercase();
    if loose {
        return Some(!word.is_empty());
    }
    match word.as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// A duration as Go writes it (`10s`, `1m30s`, `1.5h`), which is how registrator's users and Consul write it. A number
/// without a unit is none: Consul refuses it too.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(unit_at)?;
        let next_at = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(next_at)?;
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = next;
    }
    if seconds >= FOREVER.as_secs_f64() { Some(FOREVER) } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// The items of a comma-separated list in their order, trimmed, without empty ones. `\,` is a comma inside an item.
pub(crate) fn list(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, items.last_mut()) {
            (',', _) => items.push(String::new()),
            ('\\', Some(item)) if characters.peek() == Some(&',') => {
                characters.next();
                item.push(',');
            }
            (other, Some(item)) => item.push(other),
            (_, None) => {}
        }
    }
    items.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// Whether a text matches a pattern in which `*` stands for any characters.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts: Vec<&str> = pattern.split('*').collect();
    let Some(last) = parts.pop() else { return false };
    if parts.is_empty() {
        return text == last;
    }
    let mut parts = parts.into_iter();
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The words of a command line: blanks separate, single and double quotes hold together, a backslash (not inside single
/// quotes) takes away the next character's meaning. Nothing is expanded: there is no shell. `None` if a quote stays open.
pub(crate) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// At most `limit` bytes of the beginning, cut between characters.
pub(crate) fn head(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// At most `limit` bytes of the end, cut between characters.
pub(crate) fn tail(text: &str, limit: usize) -> &str {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}

/// The text in one line: each control character (line breaks too) becomes a blank. What is one line already stays as it is.
pub(crate) fn one_line(text: &str) -> String {
    // Whatever becomes a blank at an end is no more part of the text than a blank there.
    let text = text.trim_matches(|character: char| character.is_whitespace() || character.is_control());
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// A value as a note may show it: quoted, in one line, at most 60 bytes of it. Only for values that are published anyway.
pub(crate) fn quoted(text: &str) -> String {
    /// As much as fits beside an explanation in one line of a log.
    const SHOWN: usize = 60;
    let line = one_line(text);
    let shown = head(&line, SHOWN);
    format!("\"{shown}{}\"", if shown.len() < line.len() { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_strict_unless_the_operator_wants_registrators_reading() {
        assert_eq!(boolean("TRUE", false), Some(true));
        assert_eq!(boolean(" off ", false), Some(false));
        assert_eq!(boolean("perhaps", false), None);
        assert_eq!(boolean("false", true), Some(true));
        assert_eq!(boolean("", true), Some(false));
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1.5h"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("99999999999999h"), Some(FOREVER));
        for bad in ["", "10", "s", "10 s", "-5s", "1.2.3s", "10d", "s10", "1e9s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_its_escaped_commas() {
        assert_eq!(list(r"b, a ,,rule=Host(`x`)\,y,"), ["b", "a", "rule=Host(`x`),y"]);
        assert_eq!(list(r"\,"), [","]);
        assert_eq!(list(r"a\b"), [r"a\b"]);
        assert!(list(" , ").is_empty());
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in [
            ("web", "web", true),
            ("web", "web1", false),
            ("web*", "web", true),
            ("*web", "a-web", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn words_are_split_with_quoting_and_nothing_is_expanded() {
        assert_eq!(words(r#"curl -H "a: b"  'c d' e\ f """#).unwrap(), ["curl", "-H", "a: b", "c d", "e f", ""]);
        assert_eq!(words("$(reboot); x").unwrap(), ["$(reboot);", "x"]);
        assert_eq!(words("'open"), None);
        assert_eq!(words("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(head("éé", 3), "é");
        assert_eq!(tail("éé", 3), "é");
        assert_eq!(one_line("a\nb\u{1b}[m"), "a b [m");
        assert_eq!(one_line("\u{7f} a\u{0}"), "a");
        assert_eq!(quoted(&"x".repeat(100)), format!("\"{}…\"", "x".repeat(60)));
    }
}
