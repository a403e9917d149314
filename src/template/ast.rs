//! What a template consists of.

use super::functions::Function;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Copied as it is.
    Text(String),
    /// `{{pipeline}}`: its value is written, unless it only sets a variable.
    Action(Pipeline),
    /// `{{if}} … {{else if}} … {{else}} … {{end}}`: the first branch whose condition is true.
    If {
        /// Conditions in their order.
        branches: Vec<(Pipeline, Vec<Node>)>,
        /// When none is true.
        otherwise: Vec<Node>,
    },
    /// `{{with}} … {{else}} … {{end}}`: the value becomes the dot, unless it is empty.
    With {
        /// The value.
        value: Pipeline,
        /// With the value as dot.
        body: Vec<Node>,
        /// When it is empty.
        otherwise: Vec<Node>,
    },
    /// `{{range}} … {{else}} … {{end}}`: once for every element, which becomes the dot.
    Range {
        /// The list or map. Its variables stand for index or key, and element.
        over: Pipeline,
        /// For every element.
        body: Vec<Node>,
        /// When there is none.
        otherwise: Vec<Node>,
    },
}

/// A range of bytes in the source: what an error points at and quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub start: usize,
    pub end: usize,
}

/// `$x := a | b | c`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    /// Variables that it sets, with their dollar signs. Two only in a `range`.
    pub variables: Vec<String>,
    /// `=` instead of `:=`: the variable exists already.
    pub assigns: bool,
    /// Never empty. The value of each is the last argument of the next.
    pub commands: Vec<Command>,
    /// Where it stands.
    pub span: Span,
}

/// One step of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    /// What it is.
    pub kind: CommandKind,
    /// Where it stands.
    pub span: Span,
}

/// What a step of a pipeline is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CommandKind {
    /// A value.
    Value(Operand),
    /// A function with its arguments; the value of the step before comes after them.
    Call(Function, Vec<Operand>),
}

/// A value, possibly with fields behind it: `$x.Config.Image`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    /// Where it begins.
    pub base: Base,
    /// The fields behind it.
    pub fields: Vec<String>,
    /// Where it stands.
    pub span: Span,
}

/// Where an operand begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    /// `.`: what the template is about at this place.
    Dot,
    /// `$` (the whole document) or `$name`.
    Variable(String),
    /// A literal. `nil` is JSON's null.
    Literal(serde_json::Value),
    /// `( … )`.
    Group(Box<Pipeline>),
}
