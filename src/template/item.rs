//! The values that take part in a render.

use std::rc::Rc;

use serde_json::Value;

use super::shape::Shape;

/// A value: a part of the document, something made by a function, or the knowledge that there is none.
#[derive(Debug, Clone)]
pub(super) enum Item<'a> {
    /// A part of the inspect document, and what registrator's has there.
    Document(&'a Value, &'static Shape),
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
    /// What registrator's document has there.
    pub shape: &'static Shape,
}

impl<'a> Item<'a> {
    /// A part of the document. What is not there, or null, is empty if registrator's document has such a field, else absent.
    pub fn of(value: Option<&'a Value>, path: &str, shape: &'static Shape) -> Self {
        let absent = |null| Self::Absent(Absent { path: path.into(), null, shape });
        match (value, shape) {
            (Some(value), shape) if !value.is_null() => Self::Document(value, shape),
            (_, Shape::Text) => Self::made(""),
            (_, Shape::Number) => Self::made(0),
            (_, Shape::Truth) => Self::made(false),
            (_, Shape::Each(_)) => absent(true),
            (value, Shape::Any | Shape::Struct(_)) => absent(value.is_some()),
        }
    }

    /// A field of it; `path` is what to call that.
    pub fn field(&self, name: &str, path: &str) -> Self {
        let of_absent = |absent: &Absent| absent.shape.field(name).map(|shape| Self::of(None, path, shape));
        match self {
            // A field of nothing is nothing; the message names the first one that is missing.
            Self::Absent(absent) => of_absent(absent).unwrap_or_else(|| self.clone()),
            Self::Document(value, shape @ Shape::Struct(_)) => {
                Self::of(find_field(value, name), path, shape.field(name).unwrap_or(&Shape::Any))
            }
            _ => self.part(path, |value| find_field(value, name)).unwrap_or_else(|| Self::absent(path)),
        }
    }

    /// Something new.
    pub fn made(value: impl Into<Value>) -> Self {
        Self::Made(Rc::new(value.into()))
    }

    /// Nothing.
    pub fn absent(path: &str) -> Self {
        Self::Absent(Absent { path: path.into(), null: false, shape: &Shape::Any })
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Document(value, _) => Some(value),
            Self::Made(value) => Some(value),
            Self::Absent(_) => None,
        }
    }

    /// The element of this list or map that `pick` finds; `path` is what to call it if it is null.
    pub fn part(&self, path: &str, pick: impl FnOnce(&Value) -> Option<&Value>) -> Option<Self> {
        match self {
            Self::Document(value, shape) => pick(value).map(|part| Self::of(Some(part), path, shape.element())),
            Self::Made(value) => pick(value).map(|part| match part {
                Value::Null => Self::Absent(Absent { path: path.into(), null: true, shape: &Shape::Any }),
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

/// A field by its exact name, else by its name in any case: registrator's documents say `ID` where Docker says `Id`.
fn find_field<'v>(value: &'v Value, field: &str) -> Option<&'v Value> {
    let map = value.as_object()?;
    map.get(field).or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(field)).map(|(_, value)| value))
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
