//! How values become text: as Go's `fmt` writes them with `%v`, and the few verbs of `printf` that tags need.

use std::fmt::Write as _;

use serde_json::Value;

use super::item::Item;

/// How deep lists and maps are written. `serde_json` reads no more than 128 levels either.
const MAX_DEPTH: usize = 128;

/// What Go's `%v` writes: texts as they are, lists as `[a b]`, maps as `map[k:v]` with sorted keys.
///
/// # Errors
/// The text would become longer than `limit` bytes (or the value is nested too deep to be anyone's intention).
pub(super) fn plain(value: &Value, limit: usize) -> Result<String, String> {
    let mut text = String::new();
    write_plain(value, &mut text, limit, 0)?;
    Ok(text)
}

fn write_plain(value: &Value, out: &mut String, limit: usize, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("the value is nested deeper than {MAX_DEPTH} levels"));
    }
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => out.push_str(text),
        Value::Array(list) => {
            out.push('[');
            for (position, element) in list.iter().enumerate() {
                if position > 0 {
                    out.push(' ');
                }
                write_plain(element, out, limit, depth + 1)?;
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            for (position, (key, element)) in sorted(map).into_iter().enumerate() {
                if position > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write_plain(element, out, limit, depth + 1)?;
            }
            out.push(']');
        }
    }
    if out.len() > limit { Err(format!("the text is longer than {limit} bytes")) } else { Ok(()) }
}

/// The entries of a map by key: the order of every walk through one, as in Go.
pub(super) fn sorted(map: &serde_json::Map<String, Value>) -> Vec<(&String, &Value)> {
    // serde_json's own order depends on a feature that any crate in the tree may switch on.
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

/// A piece of a `printf` format.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `%s`, `%v`: any value.
    Any,
    /// `%.12s`, `%.12v`: the first characters of a text.
    First(usize),
    /// `%d`: a whole number.
    Whole,
    /// `%q`, `%.12q`: a text, or its first characters, in quotes.
    Quoted(Option<usize>),
    /// `%t`: a boolean.
    Truth,
}

fn pieces(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut characters = format.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let precision = characters.next_if_eq(&'.').map(|_| {
            let mut digits = String::new();
            while let Some(digit) = characters.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            // As in Go, none at all is 0. More than fits is more than any text has.
            if digits.is_empty() { 0 } else { digits.parse().unwrap_or(usize::MAX) }
        });
        let piece = match (characters.next(), precision) {
            (Some('%'), None) => {
                text.push('%');
                continue;
            }
            (Some('s' | 'v'), None) => Piece::Any,
            (Some('s' | 'v'), Some(most)) => Piece::First(most),
            (Some('d'), None) => Piece::Whole,
            (Some('q'), precision) => Piece::Quoted(precision),
            (Some('t'), None) => Piece::Truth,
            // The format may come from the document: it is not quoted.
            _ => return Err("unsupported verb in the format: expected %s, %v, %d, %q, %t, %% or %.12s".to_owned()),
        };
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(piece);
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// Whether a format is one, and asks for as many values as there are.
pub(super) fn check(format: &str, values: usize) -> Result<(), String> {
    let asked = pieces(format)?.iter().filter(|piece| !matches!(piece, Piece::Text(_))).count();
    if asked == values {
        return Ok(());
    }
    // Go would write `%!s(MISSING)` or `%!(EXTRA …)` into the tag.
    Err(format!("the format asks for {asked} values, but there are {values}"))
}

/// `printf`.
pub(super) fn printf(format: &str, values: &[Item<'_>], limit: usize) -> Result<String, String> {
    check(format, values.len())?;
    let mut values = values.iter();
    let mut out = String::new();
    for piece in pieces(format)? {
        if let Piece::Text(text) = &piece {
            out.push_str(text);
            continue;
        }
        let Some(item) = values.next() else { break };
        match (piece, item.value()) {
            (Piece::Any, Some(value)) => out.push_str(&plain(value, limit)?),
            (Piece::Whole, Some(Value::Number(number))) if !number.is_f64() => out.push_str(&number.to_string()),
            (Piece::First(most), Some(Value::String(text))) => out.push_str(first(text, most)),
            (Piece::Quoted(most), Some(Value::String(text))) => {
                quote(first(text, most.unwrap_or(usize::MAX)), &mut out);
            }
            (Piece::Truth, Some(Value::Bool(truth))) => out.push_str(if *truth { "true" } else { "false" }),
            (Piece::Whole, _) => return Err(format!("%d needs a whole number, not {}", item.kind())),
            (Piece::First(_), _) => return Err(format!("%s with a precision needs a text, not {}", item.kind())),
            (Piece::Quoted(_), _) => return Err(format!("%q needs a text, not {}", item.kind())),
            (Piece::Truth, _) => return Err(format!("%t needs a boolean, not {}", item.kind())),
            (_, _) => return Err(format!("a verb needs a value, not {}", item.kind())),
        }
        if out.len() > limit {
            return Err(format!("the text is longer than {limit} bytes"));
        }
    }
    Ok(out)
}

/// `print`: a space only between two values of which neither is a text.
pub(super) fn print(values: &[Item<'_>], limit: usize) -> Result<String, String> {
    let mut out = String::new();
    let mut after_text = true;
    for value in values.iter().filter_map(Item::value) {
        let text = value.is_string();
        if !after_text && !text {
            out.push(' ');
        }
        out.push_str(&plain(value, limit)?);
        after_text = text;
        if out.len() > limit {
            return Err(format!("the text is longer than {limit} bytes"));
        }
    }
    Ok(out)
}

/// `println`: a space between any two values, and the end of a line.
pub(super) fn println(values: &[Item<'_>], limit: usize) -> Result<String, String> {
    let mut texts = Vec::with_capacity(values.len());
    let mut length = 0_usize;
    for value in values.iter().filter_map(Item::value) {
        let text = plain(value, limit)?;
        length += text.len() + 1;
        if length > limit {
            return Err(format!("the text is longer than {limit} bytes"));
        }
        texts.push(text);
    }
    Ok(format!("{}\n", texts.join(" ")))
}

/// The first characters of a text: Go counts them, not bytes.
fn first(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// A text in double quotes, as Go's `strconv.Quote`.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn items(values: &[Value]) -> Vec<Item<'_>> {
        values.iter().map(|value| Item::of(Some(value), "", &super::super::shape::Shape::Any)).collect()
    }

    #[test]
    fn values_look_as_go_prints_them() {
        assert_eq!(plain(&json!(["a", 1, true]), 100).unwrap(), "[a 1 true]");
        assert_eq!(plain(&json!({"b": 1, "a": ["x"]}), 100).unwrap(), "map[a:[x] b:1]");
        assert_eq!(plain(&json!({}), 100).unwrap(), "map[]");
    }

    #[test]
    fn a_text_beyond_the_limit_is_refused() {
        assert!(plain(&json!(["aaaa", "bbbb"]), 5).is_err());
    }

    #[test]
    fn a_value_of_any_depth_is_refused_instead_of_overflowing_the_stack() {
        let mut deep = json!(1);
        for _ in 0..300 {
            deep = Value::Array(vec![deep]);
        }
        assert!(plain(&deep, 10_000).unwrap_err().contains("nested deeper"));
    }

    #[test]
    fn printf_knows_its_verbs() {
        let values = [json!("a"), json!(["b"]), json!(3), json!("x\"\u{1}"), json!(true)];
        assert_eq!(printf("%s %v %d %q %t %%", &items(&values), 100).unwrap(), "a [b] 3 \"x\\\"\\u0001\" true %");
    }

    #[test]
    fn printf_refuses_what_go_would_write_as_garbage() {
        let text = [json!("secret")];
        assert_eq!(printf("%d", &items(&text), 100).unwrap_err(), "%d needs a whole number, not a text");
        assert_eq!(printf("%s %s", &items(&text), 100).unwrap_err(), "the format asks for 2 values, but there are 1");
        assert!(printf("%05d", &items(&text), 100).unwrap_err().contains("unsupported verb"));
        assert!(printf("%", &items(&text), 100).unwrap_err().contains("unsupported verb"));
    }

    #[test]
    fn a_precision_cuts_a_text_to_so_many_characters() {
        let id = [json!("0123456789abcdef"), json!("äöü"), json!("ab")];
        assert_eq!(printf("%.12s %.2v %.9s", &items(&id), 100).unwrap(), "0123456789ab äö ab");
        assert_eq!(printf("%.1q", &items(&[json!("äö")]), 100).unwrap(), "\"ä\"");
        assert_eq!(printf("%.s|%.99999999999999999999s", &items(&[json!("x"), json!("y")]), 100).unwrap(), "|y");
        assert!(printf("%.2s", &items(&[json!(7)]), 100).unwrap_err().contains("needs a text"));
        for bad in ["%.2d", "%.2t", "%.2%", "%.", "%-3s", "%3s"] {
            assert!(printf(bad, &items(&[json!("x")]), 100).unwrap_err().contains("unsupported verb"), "{bad}");
        }
    }

    #[test]
    fn println_puts_a_space_between_any_two() {
        assert_eq!(println(&items(&[json!(1), json!("a"), json!("b")]), 100).unwrap(), "1 a b\n");
        assert!(println(&items(&[json!("aaaa"), json!("bbbb")]), 8).is_err());
    }

    #[test]
    fn print_puts_spaces_as_go_does() {
        assert_eq!(print(&items(&[json!(1), json!(2), json!("a"), json!(3), json!(4)]), 100).unwrap(), "1 2a3 4");
    }
}
