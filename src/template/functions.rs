//! What the functions do, and with how many arguments. Order of arguments as in registrator: what a function works on
//! comes last, so that it can be piped in; only `strSlice` and `jsonParse` begin with it. Source: registrator's
//! `bridge.go` (functions of the tag template) and Go's `text/template`.

use std::cmp::Ordering;

use regex_lite::{Regex, RegexBuilder};
use serde_json::Value;

use super::ast::{Base, Operand};
use super::format;
use super::item::Item;

/// Bytes that one function may yield. Longer than any output may be, so that a long label can still be cut up.
const MAX_TEXT: usize = 64 * 1024;

/// Elements that one function may yield.
const MAX_LIST: usize = 16 * 1024;

/// Size of a compiled regular expression: thousands of characters, yet matching stays in milliseconds.
const MAX_REGEX: usize = 64 * 1024;

/// A function that templates can call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Len,
    Index,
    Print,
    Printf,
    Println,
    Slice,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    StrSlice,
    SIndex,
    MIndex,
    ToUpper,
    ToLower,
    Replace,
    Join,
    Split,
    SplitIndex,
    MatchFirstElement,
    MatchAllElements,
    JsonParse,
}

/// How a function is called.
pub(super) struct Signature {
    function: Function,
    pub name: &'static str,
    /// Fewest arguments, what is piped in included.
    fewest: usize,
    /// Most arguments.
    most: usize,
    /// How to write a call, for messages.
    usage: &'static str,
}

const MANY: usize = usize::MAX;

/// Every function.
pub(super) const TABLE: [Signature; 27] = [
    signature(Function::And, "and", 1, MANY, "and x y …"),
    signature(Function::Or, "or", 1, MANY, "or x y …"),
    signature(Function::Not, "not", 1, 1, "not x"),
    signature(Function::Len, "len", 1, 1, "len x"),
    signature(Function::Index, "index", 2, MANY, "index map-or-list key …"),
    signature(Function::Print, "print", 1, MANY, "print x …"),
    signature(Function::Printf, "printf", 1, MANY, "printf format x …"),
    signature(Function::Println, "println", 1, MANY, "println x …"),
    signature(Function::Slice, "slice", 1, 3, "slice text-or-list [start [end]]"),
    signature(Function::Eq, "eq", 2, MANY, "eq x y …"),
    signature(Function::Ne, "ne", 2, 2, "ne x y"),
    signature(Function::Lt, "lt", 2, 2, "lt x y"),
    signature(Function::Le, "le", 2, 2, "le x y"),
    signature(Function::Gt, "gt", 2, 2, "gt x y"),
    signature(Function::Ge, "ge", 2, 2, "ge x y"),
    signature(Function::StrSlice, "strSlice", 2, 3, "strSlice text start [end]"),
    signature(Function::SIndex, "sIndex", 2, 2, "sIndex position list"),
    signature(Function::MIndex, "mIndex", 2, 2, "mIndex key map"),
    signature(Function::ToUpper, "toUpper", 1, 1, "toUpper text"),
    signature(Function::ToLower, "toLower", 1, 1, "toLower text"),
    signature(Function::Replace, "replace", 4, 4, "replace count old new text"),
    signature(Function::Join, "join", 2, 2, "join separator list"),
    signature(Function::Split, "split", 2, 2, "split separator text"),
    signature(Function::SplitIndex, "splitIndex", 3, 3, "splitIndex position separator text"),
    signature(Function::MatchFirstElement, "matchFirstElement", 2, 2, "matchFirstElement regex list"),
    signature(Function::MatchAllElements, "matchAllElements", 2, 2, "matchAllElements regex list"),
    signature(Function::JsonParse, "jsonParse", 2, 2, "jsonParse text key::key"),
];

const fn signature(
    function: Function,
    name: &'static str,
    fewest: usize,
    most: usize,
    usage: &'static str,
) -> Signature {
    Signature { function, name, fewest, most, usage }
}

impl Function {
    fn signature(self) -> Option<&'static Signature> {
        TABLE.iter().find(|signature| signature.function == self)
    }

    /// As it is written in a template.
    pub fn name(self) -> &'static str {
        self.signature().map_or("", |signature| signature.name)
    }

    /// What a byte of its arguments costs ([`super::eval`]): a regular expression looks at each many times.
    pub const fn price(self) -> usize {
        match self {
            Self::MatchFirstElement | Self::MatchAllElements => 8,
            _ => 1,
        }
    }
}

/// The function of that name.
pub(super) fn find(name: &str) -> Result<Function, String> {
    if let Some(signature) = TABLE.iter().find(|signature| signature.name == name) {
        return Ok(signature.function);
    }
    if name == "httpGet" {
        return Err("httpGet is not supported, because a tag must not wait for the network: expected the value in a \
                    label of the container, read by {{index .Config.Labels \"key\"}}, or as text in the setting itself"
            .to_owned());
    }
    if let Some(near) = TABLE.iter().find(|signature| signature.name.eq_ignore_ascii_case(name)) {
        return Err(format!("unknown function {name}: did you mean {}?", near.name));
    }
    let names: Vec<_> = TABLE.iter().map(|signature| signature.name).collect();
    Err(format!("unknown function {name}: expected one of {}", names.join(", ")))
}

/// What can be said about a call before there is a document.
pub(super) fn check(function: Function, arguments: &[Operand], piped: bool) -> Result<(), String> {
    let Some(signature) = function.signature() else { return Ok(()) };
    let count = arguments.len() + usize::from(piped);
    if count < signature.fewest || count > signature.most {
        let usage = signature.usage;
        return Err(format!("{} with {count} arguments: expected `{usage}`", signature.name));
    }
    let Some(Base::Literal(Value::String(first))) = arguments.first().map(|argument| &argument.base) else {
        return Ok(());
    };
    match function {
        Function::Printf => format::check(first, count - 1).map_err(|reason| format!("printf: {reason}")),
        Function::MatchFirstElement | Function::MatchAllElements => {
            match RegexBuilder::new(first).size_limit(MAX_REGEX).build() {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{}: {first:?} is not a usable regular expression: {error}", signature.name)),
            }
        }
        _ => Ok(()),
    }
}

/// Calls a function. `and` and `or` are not called: they decide how far to evaluate ([`super::eval`]). `origin` is the
/// call as it is written, for what it may not find.
///
/// # Errors
/// What is wrong with the arguments; no value of them is shown.
pub(super) fn call<'a>(function: Function, arguments: &[Item<'a>], origin: &str) -> Result<Item<'a>, String> {
    use Function as F;
    let item = match (function, arguments) {
        (F::Not, [value]) => Item::made(!value.truth()),
        (F::Len, [value]) => Item::made(length(value)?),
        (F::Index, [collection, keys @ ..]) => return index(collection, keys, origin),
        (F::MIndex, [key, map]) => return index(map, std::slice::from_ref(key), origin),
        (F::Print, values) => {
            values.iter().try_for_each(|value| present(value).map(|_| ()))?;
            made_text(format::print(values, MAX_TEXT)?)?
        }
        (F::Printf, [pattern, values @ ..]) => {
            values.iter().try_for_each(|value| present(value).map(|_| ()))?;
            made_text(format::printf(text(pattern)?, values, MAX_TEXT)?)?
        }
        (F::Println, values) => {
            values.iter().try_for_each(|value| present(value).map(|_| ()))?;
            made_text(format::println(values, MAX_TEXT)?)?
        }
        (F::Slice, [value, bounds @ ..]) => go_slice(value, bounds)?,
        (F::Eq, [first, others @ ..]) => {
            let mut found = false;
            for other in others {
                found = found || equal(first, other)?;
            }
            Item::made(found)
        }
        (F::Ne, [left, right]) => Item::made(!equal(left, right)?),
        (F::Lt, [left, right]) => Item::made(order(left, right)? == Ordering::Less),
        (F::Le, [left, right]) => Item::made(order(left, right)? != Ordering::Greater),
        (F::Gt, [left, right]) => Item::made(order(left, right)? == Ordering::Greater),
        (F::Ge, [left, right]) => Item::made(order(left, right)? != Ordering::Less),
        (F::StrSlice, [value, start]) => made_text(slice(text(value)?, whole(start)?, None)?)?,
        (F::StrSlice, [value, start, end]) => made_text(slice(text(value)?, whole(start)?, Some(whole(end)?))?)?,
        (F::SIndex, [position, list]) => Item::made(clamped(&texts(list)?, whole(position)?)?),
        (F::ToUpper, [value]) => made_text(text(value)?.to_uppercase())?,
        (F::ToLower, [value]) => made_text(text(value)?.to_lowercase())?,
        (F::Replace, [count, old, new, value]) => {
            made_text(replace(text(value)?, text(old)?, text(new)?, whole(count)?)?)?
        }
        (F::Join, [separator, list]) => {
            let (separator, list) = (text(separator)?, texts(list)?);
            let bytes = list.iter().map(|element| element.len() + separator.len()).sum::<usize>();
            within(bytes.saturating_sub(separator.len()))?;
            Item::made(list.join(separator))
        }
        (F::Split, [separator, value]) => made_list(split(text(value)?, text(separator)?))?,
        (F::SplitIndex, [position, separator, value]) => {
            let pieces: Vec<_> = split(text(value)?, text(separator)?).collect();
            Item::made(clamped(&pieces, whole(position)?)?)
        }
        (F::MatchFirstElement, [pattern, list]) => {
            let pattern = regex(text(pattern)?)?;
            Item::made(texts(list)?.into_iter().find(|element| pattern.is_match(element)).unwrap_or_default())
        }
        (F::MatchAllElements, [pattern, list]) => {
            let pattern = regex(text(pattern)?)?;
            made_list(texts(list)?.into_iter().filter(|element| pattern.is_match(element)))?
        }
        (F::JsonParse, [document, path]) => made_text(json_parse(text(document)?, text(path)?)?)?,
        // The parser has counted the arguments; `and` and `or` never come here.
        _ => return Err("wrong number of arguments".to_owned()),
    };
    Ok(item)
}

/// The value of an argument that must have one.
fn present<'i>(item: &'i Item<'_>) -> Result<&'i Value, String> {
    match item {
        Item::Absent(absent) => Err(format!("no value at {}", absent.path)),
        Item::Document(value, _) => Ok(value),
        Item::Made(value) => Ok(value),
    }
}

fn text<'i>(item: &'i Item<'_>) -> Result<&'i str, String> {
    match present(item)? {
        Value::String(text) => Ok(text),
        _ => Err(format!("expected a text, not {}", item.kind())),
    }
}

fn whole(item: &Item<'_>) -> Result<i64, String> {
    present(item)?.as_i64().ok_or_else(|| format!("expected a whole number, not {}", item.kind()))
}

/// A list of texts; null is Docker's way to write an empty one.
fn texts<'i>(item: &'i Item<'_>) -> Result<Vec<&'i str>, String> {
    if let Item::Absent(absent) = item
        && absent.null
    {
        return Ok(Vec::new());
    }
    match present(item)? {
        Value::Array(list) => {
            list.iter().map(|element| element.as_str().ok_or_else(|| "expected a list of texts".to_owned())).collect()
        }
        _ => Err(format!("expected a list of texts, not {}", item.kind())),
    }
}

fn within(bytes: usize) -> Result<(), String> {
    if bytes > MAX_TEXT { Err(format!("its result is longer than {MAX_TEXT} bytes")) } else { Ok(()) }
}

fn made_text<'a>(text: String) -> Result<Item<'a>, String> {
    within(text.len())?;
    Ok(Item::made(text))
}

fn made_list<'a, 'e>(elements: impl Iterator<Item = &'e str>) -> Result<Item<'a>, String> {
    let mut list = Vec::new();
    for element in elements {
        if list.len() == MAX_LIST {
            return Err(format!("its result has more than {MAX_LIST} elements"));
        }
        list.push(Value::from(element));
    }
    Ok(Item::made(list))
}

fn length(item: &Item<'_>) -> Result<usize, String> {
    if let Item::Absent(absent) = item
        && absent.null
    {
        return Ok(0);
    }
    match present(item)? {
        Value::String(text) => Ok(text.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(map) => Ok(map.len()),
        _ => Err(format!("expected a text, a list or a map, not {}", item.kind())),
    }
}

/// `index collection key …`. As in Go, a map of texts (labels) yields an empty text for a key that it does not have:
/// its empty value. A map of anything else has no empty value that a tag could use.
fn index<'a>(collection: &Item<'a>, keys: &[Item<'a>], origin: &str) -> Result<Item<'a>, String> {
    let mut current = collection.clone();
    for key in keys {
        if let Item::Absent(absent) = &current
            && absent.null
            && text(key).is_ok()
        {
            return Ok(Item::made(""));
        }
        current = match present(&current)? {
            Value::Object(map) => {
                let key = text(key).map_err(|_| "the key of a map must be a text".to_owned())?;
                match current.part(origin, |map| map.get(key)) {
                    Some(part) => part,
                    None if map.values().all(Value::is_string) => Item::made(""),
                    None => Item::absent(origin),
                }
            }
            Value::Array(list) => {
                let position = whole(key).map_err(|_| "the position in a list must be a whole number".to_owned())?;
                let length = list.len();
                usize::try_from(position)
                    .ok()
                    .and_then(|position| current.part(origin, |list| list.get(position)))
                    .ok_or_else(|| format!("position {position} is outside of the list, which has {length} elements"))?
            }
            _ => return Err(format!("expected a map or a list, not {}", current.kind())),
        };
    }
    Ok(current)
}

/// Equality. Nothing equals the empty value of the other side, since a field that Docker leaves out is the empty value
/// in registrator's documents.
fn equal(left: &Item<'_>, right: &Item<'_>) -> Result<bool, String> {
    match (left.value(), right.value()) {
        (None, _) => Ok(!right.truth()),
        (_, None) => Ok(!left.truth()),
        (Some(Value::Bool(left)), Some(Value::Bool(right))) => Ok(left == right),
        _ => order(left, right).map(Ordering::is_eq),
    }
}

fn order(left: &Item<'_>, right: &Item<'_>) -> Result<Ordering, String> {
    match (present(left)?, present(right)?) {
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => match (left.as_i128(), right.as_i128()) {
            (Some(left), Some(right)) => Ok(left.cmp(&right)),
            _ => left
                .as_f64()
                .zip(right.as_f64())
                .and_then(|(left, right)| left.partial_cmp(&right))
                .ok_or_else(|| "these numbers cannot be compared".to_owned()),
        },
        _ => Err(format!("{} cannot be compared with {}", left.kind(), right.kind())),
    }
}

/// registrator's rules: positions count bytes, and positions outside of the text leave it as it is. A cut inside of a
/// character moves to its beginning, because half a character is no text.
fn slice(text: &str, start: i64, end: Option<i64>) -> Result<String, String> {
    let position =
        |value: i64| usize::try_from(value).map_err(|_| "expected a position that is not negative".to_owned());
    let (start, end) = (position(start)?, end.map(position).transpose()?);
    let from = |start: usize| text.get(boundary(text, start)..).unwrap_or(text);
    let cut = match end {
        None if start > text.len() => text,
        None => from(start),
        Some(end) if start > text.len() || end > text.len() => text,
        Some(end) if end < start => from(start),
        Some(end) => text.get(boundary(text, start)..boundary(text, end)).unwrap_or(text),
    };
    Ok(cut.to_owned())
}

/// Go's `slice`: a part of a text (positions count bytes) or of a list. A position outside of it is an error, as in Go. A cut
/// inside of a character moves to its beginning.
fn go_slice<'a>(value: &Item<'a>, bounds: &[Item<'_>]) -> Result<Item<'a>, String> {
    let length = length(value)?;
    let position = |at: usize, default: usize| match bounds.get(at) {
        None => Ok(default),
        Some(item) => whole(item).and_then(|position| {
            let position = usize::try_from(position).ok().filter(|position| *position <= length);
            position.ok_or_else(|| format!("a position is outside of {}, which has a length of {length}", value.kind()))
        }),
    };
    let (start, end) = (position(0, 0)?, position(1, length)?);
    if start > end {
        return Err("expected a start that is not behind the end".to_owned());
    }
    match present(value)? {
        Value::String(text) => {
            made_text(text.get(boundary(text, start)..boundary(text, end)).unwrap_or_default().to_owned())
        }
        Value::Array(list) => Ok(Item::made(list.get(start..end).unwrap_or_default().to_vec())),
        _ => Err(format!("expected a text or a list, not {}", value.kind())),
    }
}

/// The nearest beginning of a character at or before `position`.
fn boundary(text: &str, position: usize) -> usize {
    (0..=position).rev().find(|position| text.is_char_boundary(*position)).unwrap_or(0)
}

/// registrator's positions: negative ones count from the end, and those outside mean the first or the last element.
fn clamped<'e>(list: &[&'e str], position: i64) -> Result<&'e str, String> {
    let distance = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
    let found = if position < 0 {
        list.len().checked_sub(distance).and_then(|position| list.get(position)).or(list.first())
    } else {
        list.get(distance).or(list.last())
    };
    found.copied().ok_or_else(|| "the list is empty".to_owned())
}

/// Go's `strings.Split`: without a separator, the single characters.
fn split<'t>(text: &'t str, separator: &'t str) -> Box<dyn Iterator<Item = &'t str> + 't> {
    if separator.is_empty() {
        return Box::new(text.char_indices().filter_map(|(start, c)| text.get(start..start + c.len_utf8())));
    }
    Box::new(text.split(separator))
}

/// Go's `strings.Replace`: a negative count means all.
fn replace(text: &str, old: &str, new: &str, count: i64) -> Result<String, String> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    // Before it is built: every replacement may make it longer.
    within(text.matches(old).take(count).count().saturating_mul(new.len()))?;
    Ok(text.replacen(old, new, count))
}

fn regex(pattern: &str) -> Result<Regex, String> {
    // The pattern may be a value of the document: it is not shown.
    let built = RegexBuilder::new(pattern).size_limit(MAX_REGEX).build();
    built.map_err(|_| "the first argument is not a usable regular expression".to_owned())
}

/// The part of a JSON text at `key::key`; `[n]` is a position in a list.
fn json_parse(document: &str, path: &str) -> Result<String, String> {
    let document: Value = serde_json::from_str(document).map_err(|_| "the text is not JSON".to_owned())?;
    let mut current = &document;
    for key in path.split("::") {
        let position = key.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(|n| n.parse().ok());
        let part = match (current, position) {
            (Value::Array(list), Some(position)) => list.get::<usize>(position),
            (Value::Object(map), _) => map.get(key),
            _ => None,
        };
        current = part.ok_or_else(|| "the JSON has nothing at this path".to_owned())?;
    }
    match current {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Err("the JSON has nothing at this path".to_owned()),
        other => Ok(other.to_string()),
    }
}
