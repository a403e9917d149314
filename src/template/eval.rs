//! Tree and document → text.

use std::rc::Rc;

use serde_json::Value;

use super::ast::{Base, Command, CommandKind, Node, Operand, Pipeline, Span};
use super::functions::{self, Function};
use super::item::{Absent, Item};
use super::{Template, TemplateError, error_at, format};

/// What one render may cost: one for every node and every operand, and one for every byte that a function works on.
/// Ten thousand times what tags need, and still over in a fraction of a second.
const FUEL: usize = 2 * 1024 * 1024;

/// Characters of the template that a message quotes.
const QUOTE: usize = 80;

/// The text of a tree for one document.
pub(super) fn render(source: &str, nodes: &[Node], document: &Value) -> Result<String, TemplateError> {
    let root = Item::of(document, ".");
    let mut render = Render { source, variables: vec![("$", root.clone())], output: String::new(), fuel: FUEL };
    render.nodes(nodes, &root)?;
    Ok(render.output)
}

struct Render<'t, 'd> {
    source: &'t str,
    /// Innermost last.
    variables: Vec<(&'t str, Item<'d>)>,
    output: String,
    fuel: usize,
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
        match self.fuel.checked_sub(cost) {
            Some(left) => {
                self.fuel = left;
                Ok(())
            }
            None => {
                Err(TemplateError("the template does too much work for one container: expected fewer loops".into()))
            }
        }
    }

    fn write(&mut self, text: &str) -> Outcome<()> {
        if self.output.len() + text.len() > Template::MAX_OUTPUT {
            return Err(TemplateError(format!(
                "the template yields more than {} bytes for this container: expected tags",
                Template::MAX_OUTPUT
            )));
        }
        self.output.push_str(text);
        Ok(())
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
            Item::Document(Value::String(text)) => self.write(text),
            Item::Document(value) => self.write_value(value, span),
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
            Base::Literal(Value::Null) => (Item::Absent(Absent { path: "nil".into(), null: true }), "nil".to_owned()),
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
            item = match &item {
                // A field of nothing is nothing; the message names the first field that is missing.
                Item::Absent(_) => item,
                _ => match item.value() {
                    Some(Value::Object(_)) => {
                        item.part(&path, |value| find_field(value, field)).unwrap_or_else(|| Item::absent(&path))
                    }
                    _ => {
                        return self.fail(
                            operand.span,
                            &format!("{} has no field {field}: it is {}", parent(&path, field), item.kind()),
                        );
                    }
                },
            };
        }
        Ok(item)
    }
}

/// The path without its last field.
fn parent<'p>(path: &'p str, field: &str) -> &'p str {
    match path.strip_suffix(field).and_then(|path| path.strip_suffix('.')) {
        None | Some("") => "the value",
        Some(parent) => parent,
    }
}

/// A field by its exact name, else by its name in any case: registrator's documents say `ID` where Docker says `Id`.
fn find_field<'v>(value: &'v Value, field: &str) -> Option<&'v Value> {
    let map = value.as_object()?;
    map.get(field).or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(field)).map(|(_, value)| value))
}
