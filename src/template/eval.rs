//! Tree and document → text.

use std::rc::Rc;

use serde_json::Value;

use super::ast::{Base, Command, CommandKind, Node, Operand, Pipeline, Span};
use super::functions::{self, Function};
use super::item::Item;
use super::{Rendered, Template, TemplateError, error_at, format, shape};

/// What one render may cost: one for every node and every operand, and one for every byte that a function works on.
/// Ten thousand times what tags need, and still over in a fraction of a second.
const FUEL: usize = 2 * 1024 * 1024;

/// So many tags that fail are told of: enough to see what is wrong.
const MOST_LEFT_OUT: usize = 8;

/// Characters of the template that a message quotes.
const QUOTE: usize = 80;

/// The text of a tree for one document.
pub(super) fn render(source: &str, nodes: &[Node], document: &Value) -> Result<Rendered, TemplateError> {
    let root = Item::of(Some(document), ".", &shape::CONTAINER);
    let variables = vec![("$", root.clone())];
    let mut render = Render { source, variables, output: String::new(), fuel: FUEL, is_exhausted: false };
    let left_out = render.elements(nodes, &root)?;
    Ok(Rendered { text: render.output, left_out })
}

struct Render<'t, 'd> {
    source: &'t str,
    /// Innermost last.
    variables: Vec<(&'t str, Item<'d>)>,
    output: String,
    fuel: usize,
    /// A bound of the whole render has been reached: no part of it can go on.
    is_exhausted: bool,
}

type Outcome<T> = Result<T, TemplateError>;

impl<'t, 'd> Render<'t, 'd> {
    fn fail<T>(&self, span: Span, message: &str) -> Outcome<T> {
        Err(error_at(self.source, span.start, message))
    }

    /// What the template says at a place, shortened.
    fn quote(&self, span: Span) -> String {
        let text = self.source.get(span.start..span.end).unwrap_or_default();
        let mut quote: String = text.chars().take(QUOTE).collect();
        if quote.len() < text.len() {
            quote.push('…');
        }
        quote
    }

    fn spend(&mut self, cost: usize) -> Outcome<()> {
        let Some(left) = self.fuel.checked_sub(cost) else {
            self.is_exhausted = true;
            return Err(TemplateError(
                "the template does too much work for one container: expected fewer loops".into(),
            ));
        };
        self.fuel = left;
        Ok(())
    }

    fn write(&mut self, text: &str) -> Outcome<()> {
        if self.output.len() + text.len() > Template::MAX_OUTPUT {
            self.is_exhausted = true;
            return Err(TemplateError(format!(
                "the template yields more than {} bytes for this container: expected tags",
                Template::MAX_OUTPUT
            )));
        }
        self.output.push_str(text);
        Ok(())
    }

    /// The whole template, tag by tag: what stands between two commas of its text. One that fails is left out, and why is
    /// returned; the others are what they would be without it. When that is not certain, or none is left, all fail.
    fn elements(&mut self, nodes: &'t [Node], dot: &Item<'d>) -> Outcome<Vec<String>> {
        let (mut start, mut good) = (0, 0_usize);
        let mut failed: Option<TemplateError> = None;
        let mut left_out: Vec<TemplateError> = Vec::new();
        for node in nodes {
            self.spend(1)?;
            let Node::Text(text) = node else {
                let scope = self.variables.len();
                let outcome = if failed.is_none() { self.node(node, dot) } else { Ok(()) };
                if let Err(error) = outcome {
                    if self.is_exhausted {
                        return Err(error);
                    }
                    self.variables.truncate(scope);
                    self.output.truncate(start);
                    failed = Some(error);
                }
                // What it should have set, another tag may read: it would read an older value.
                if let Some(error) = failed.take_if(|_| sets(node, true)) {
                    return Err(error);
                }
                continue;
            };
            let mut before = "";
            for (at, piece) in text.split(',').enumerate() {
                let is_escaped = if failed.is_some() { before.ends_with('\\') } else { self.output.ends_with('\\') };
                if at > 0
                    && !is_escaped
                    && let Some(error) = failed.take()
                {
                    left_out.push(error);
                } else if at > 0 && failed.is_none() {
                    self.write(",")?;
                    if !is_escaped {
                        good += 1;
                        start = self.output.len();
                    }
                }
                if failed.is_none() {
                    self.write(piece)?;
                }
                before = piece;
            }
        }
        if failed.is_none() {
            good += 1;
        }
        left_out.extend(failed);
        match left_out.first() {
            Some(error) if good == 0 => Err(error.clone()),
            _ => Ok(left_out.into_iter().take(MOST_LEFT_OUT).map(|error| error.0).collect()),
        }
    }

    fn nodes(&mut self, nodes: &'t [Node], dot: &Item<'d>) -> Outcome<()> {
        let scope = self.variables.len();
        for node in nodes {
            self.spend(1)?;
            self.node(node, dot)?;
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn node(&mut self, node: &'t Node, dot: &Item<'d>) -> Outcome<()> {
        // What a block sets ends with the block; what an action sets lives on.
        let scope = self.variables.len();
        match node {
            Node::Text(text) => return self.write(text),
            Node::Action(pipeline) => {
                let item = self.pipeline(pipeline, dot)?;
                return if pipeline.variables.is_empty() { self.write_item(&item, pipeline.span) } else { Ok(()) };
            }
            Node::If { branches, otherwise } => self.conditional(branches, otherwise, dot)?,
            Node::With { value, body, otherwise } => {
                let item = self.pipeline(value, dot)?;
                if item.truth() {
                    self.nodes(body, &item)?;
                } else {
                    self.nodes(otherwise, dot)?;
                }
            }
            Node::Range { over, body, otherwise } => self.range(over, body, otherwise, dot)?,
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn conditional(
        &mut self,
        branches: &'t [(Pipeline, Vec<Node>)],
        otherwise: &'t [Node],
        dot: &Item<'d>,
    ) -> Outcome<()> {
        for (condition, body) in branches {
            if self.pipeline(condition, dot)?.truth() {
                return self.nodes(body, dot);
            }
        }
        self.nodes(otherwise, dot)
    }

    fn range(&mut self, over: &'t Pipeline, body: &'t [Node], otherwise: &'t [Node], dot: &Item<'d>) -> Outcome<()> {
        // The variables of a range stand for its elements, not for what it goes over.
        let collection = self.commands(over, dot)?;
        let path = self.quote(over.span);
        let elements: Vec<(Item<'d>, Item<'d>)> = match (&collection, collection.value()) {
            (Item::Absent(absent), _) if !absent.null => {
                return self.fail(over.span, &format!("no value at {}", absent.path));
            }
            (_, None) => Vec::new(),
            (_, Some(Value::Array(list))) => (0..list.len())
                .filter_map(|at| Some((Item::made(at), collection.part(&path, |list| list.get(at))?)))
                .collect(),
            (_, Some(Value::Object(map))) => format::sorted(map)
                .into_iter()
                .filter_map(|(key, _)| Some((Item::made(key.as_str()), collection.part(&path, |map| map.get(key))?)))
                .collect(),
            (_, Some(_)) => {
                return self.fail(over.span, &format!("range needs a list or a map, not {}", collection.kind()));
            }
        };
        if elements.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, element) in elements {
            self.spend(1)?;
            let scope = self.variables.len();
            match over.variables.as_slice() {
                [] => {}
                [name] => self.set(name, element.clone(), over.assigns),
                [first, second, ..] => {
                    self.set(first, key, over.assigns);
                    self.set(second, element.clone(), over.assigns);
                }
            }
            self.nodes(body, &element)?;
            self.variables.truncate(scope);
        }
        Ok(())
    }

    fn set(&mut self, name: &'t str, item: Item<'d>, assigns: bool) {
        if assigns && let Some((_, known)) = self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            *known = item;
        } else {
            self.variables.push((name, item));
        }
    }

    fn write_item(&mut self, item: &Item<'d>, span: Span) -> Outcome<()> {
        match item {
            Item::Absent(absent) => self.fail(span, &format!("no value at {}", absent.path)),
            Item::Document(Value::String(text), _) => self.write(text),
            Item::Document(value, _) => self.write_value(value, span),
            Item::Made(value) => self.write_value(value, span),
        }
    }

    fn write_value(&mut self, value: &Value, span: Span) -> Outcome<()> {
        match format::plain(value, Template::MAX_OUTPUT) {
            Ok(text) => self.write(&text),
            Err(message) => self.fail(span, &message),
        }
    }

    /// The value of a pipeline; sets its variables.
    fn pipeline(&mut self, pipeline: &'t Pipeline, dot: &Item<'d>) -> Outcome<Item<'d>> {
        let item = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            self.set(name, item.clone(), pipeline.assigns);
        }
        Ok(item)
    }

    fn commands(&mut self, pipeline: &'t Pipeline, dot: &Item<'d>) -> Outcome<Item<'d>> {
        let mut piped: Option<Item<'d>> = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped.take(), dot)?);
        }
        // The parser makes no pipeline without a command.
        Ok(piped.unwrap_or_else(|| Item::absent("")))
    }

    fn command(&mut self, command: &'t Command, piped: Option<Item<'d>>, dot: &Item<'d>) -> Outcome<Item<'d>> {
        self.spend(1)?;
        let (function, operands) = match &command.kind {
            CommandKind::Value(operand) => return self.operand(operand, dot),
            CommandKind::Call(function, operands) => (*function, operands),
        };
        if matches!(function, Function::And | Function::Or) {
            return self.decide(function, operands, piped, dot);
        }
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        let mut cost = 0;
        for argument in &arguments {
            cost += argument.size(FUEL);
        }
        self.spend(cost.saturating_mul(function.price()))?;
        functions::call(function, &arguments, &self.quote(command.span))
            .or_else(|message| self.fail(command.span, &format!("{}: {message}", function.name())))
    }

    /// `and` and `or`: the first argument that decides, or the last. What comes after it is not looked at.
    fn decide(
        &mut self,
        function: Function,
        operands: &'t [Operand],
        piped: Option<Item<'d>>,
        dot: &Item<'d>,
    ) -> Outcome<Item<'d>> {
        let decides = |item: &Item<'d>| item.truth() == (function == Function::Or);
        let mut last = Item::absent("");
        for operand in operands {
            last = self.operand(operand, dot)?;
            if decides(&last) {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }

    fn operand(&mut self, operand: &'t Operand, dot: &Item<'d>) -> Outcome<Item<'d>> {
        self.spend(1)?;
        let (mut item, mut path) = match &operand.base {
            Base::Dot => (dot.clone(), String::new()),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, item)| item.clone());
                // The parser lets no unknown variable through.
                (known.unwrap_or_else(|| Item::absent(name)), name.clone())
            }
            Base::Literal(Value::Null) => (Item::of(Some(&Value::Null), "nil", &shape::Shape::Any), "nil".to_owned()),
            Base::Literal(value) => {
                self.spend(value.as_str().map_or(0, str::len))?;
                (Item::Made(Rc::new(value.clone())), String::new())
            }
            Base::Group(pipeline) => {
                let item = self.pipeline(pipeline, dot)?;
                (
                    item,
                    if operand.fields.is_empty() { String::new() } else { format!("({})", self.quote(pipeline.span)) },
                )
            }
        };
        for field in &operand.fields {
            path.push('.');
            path.push_str(field);
            match item.value() {
                None | Some(Value::Object(_)) => item = item.field(field, &path),
                Some(_) => {
                    let message = format!("{} has no field {field}: it is {}", parent(&path, field), item.kind());
                    return self.fail(operand.span, &message);
                }
            }
        }
        Ok(item)
    }
}

/// Whether a node sets a variable that what follows it can read. What a block defines ends with it.
fn sets(node: &Node, is_outermost: bool) -> bool {
    let any = |nodes: &[Node]| nodes.iter().any(|node| sets(node, false));
    match node {
        Node::Text(_) => false,
        Node::Action(pipeline) => pipeline.assigns || (is_outermost && !pipeline.variables.is_empty()),
        Node::If { branches, otherwise } => {
            any(otherwise) || branches.iter().any(|(condition, body)| condition.assigns || any(body))
        }
        Node::With { value: pipeline, body, otherwise } | Node::Range { over: pipeline, body, otherwise } => {
            pipeline.assigns || any(body) || any(otherwise)
        }
    }
}

/// The path without its last field.
fn parent<'p>(path: &'p str, field: &str) -> &'p str {
    match path.strip_suffix(field).and_then(|path| path.strip_suffix('.')) {
        None | Some("") => "the value",
        Some(parent) => parent,
    }
}
