//! The values that take part in a render.

use std::rc::Rc;

use serde_json::Value;

/// A value: a part of the document, something made by a function, or the knowledge that there is none.
#[derive(Debug, Clone)]
pub(super) enum Item<'a> {
    /// A part of the inspect document.
    Document(&'a Value),
    /// The result of a function, a literal.
    Made(Rc<Value>),
    /// Nothing is there. Go would go on with `<no value>`; here it may be asked about (`if`, `or`, `eq`, …), but the
    /// render fails as soon as it would be written or worked with.
    Absent(Absent),
}

/// Where nothing is.
#[derive(Debug, Clone)]
pub(super) struct Absent {
    /// The expression of the template that has no value.
    pub path: Rc<str>,
    /// It is there, as null: Docker's way to write an empty list or map.
    pub null: bool,
}

impl<'a> Item<'a> {
    /// A part of the document; null counts as absent.
    pub fn of(value: &'a Value, path: &str) -> Self {
        match value {
            Value::Null => Self::Absent(Absent { path: path.into(), null: true }),
            value => Self::Document(value),
        }
    }

    /// Something new.
    pub fn made(value: impl Into<Value>) -> Self {
        Self::Made(Rc::new(value.into()))
    }

    /// Nothing.
    pub fn absent(path: &str) -> Self {
        Self::Absent(Absent { path: path.into(), null: false })
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Document(value) => Some(value),
            Self::Made(value) => Some(value),
            Self::Absent(_) => None,
        }
    }

    /// The part of this one that `pick` finds; `path` is what to call it if it is null.
    pub fn part(&self, path: &str, pick: impl FnOnce(&Value) -> Option<&Value>) -> Option<Self> {
        match self {
            Self::Document(value) => pick(value).map(|part| Self::of(part, path)),
            Self::Made(value) => pick(value).map(|part| match part {
                Value::Null => Self::Absent(Absent { path: path.into(), null: true }),
                part => Self::made(part.clone()),
            }),
            Self::Absent(_) => None,
        }
    }

    /// Go's idea of truth: neither false, nor 0, nor empty, nor absent.
    pub fn truth(&self) -> bool {
        match self.value() {
            None | Some(Value::Null) => false,
            Some(Value::Bool(truth)) => *truth,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
        }
    }

    /// What kind of value it is, for messages, which must not show the value itself.
    pub fn kind(&self) -> &'static str {
        match self.value() {
            None | Some(Value::Null) => "nothing",
            Some(Value::Bool(_)) => "a boolean",
            Some(Value::Number(_)) => "a number",
            Some(Value::String(_)) => "a text",
            Some(Value::Array(_)) => "a list",
            Some(Value::Object(_)) => "a map",
        }
    }

    /// Bytes of text in it, roughly: the price of working with it. Counts no further than `limit`.
    pub fn size(&self, limit: usize) -> usize {
        self.value().map_or(0, |value| size(value, limit))
    }
}

fn size(value: &Value, limit: usize) -> usize {
    let mut sum = 1;
    // A stack instead of recursion: the depth of a document is not ours to limit.
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::String(text) => sum += text.len(),
            Value::Array(list) => {
                sum += list.len();
                open.extend(list);
            }
            Value::Object(map) => {
                sum += map.keys().map(|key| key.len() + 1).sum::<usize>();
                open.extend(map.values());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => sum += 1,
        }
        if sum >= limit {
            return limit;
        }
    }
    sum
}
