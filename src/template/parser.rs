//! Tokens → tree. Whatever can be known without a document is refused here: unknown functions and variables, a wrong
//! number of arguments, a bad regular expression. So `check-config` finds it, and no container has to.

use serde_json::Value;

use super::ast::{Base, Command, CommandKind, Node, Operand, Pipeline, Span};
use super::functions::{self, Function};
use super::lexer::{Kind, Token};
use super::{TemplateError, error_at};

/// How deep blocks and parentheses may be nested. The parser and the evaluation go one call deeper for each; nobody
/// writes tags with more than a handful.
const MAX_DEPTH: usize = 64;

/// The tree of a whole template.
pub(super) fn parse(source: &str, tokens: &[Token]) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { source, tokens, at: 0, depth: 0, variables: vec!["$".to_owned()] };
    let (nodes, ending) = parser.nodes()?;
    match ending {
        Ending::Source => Ok(nodes),
        Ending::End(at) => parser.fail(at, "`{{end}}` without an `{{if}}`, `{{with}}` or `{{range}}` before it"),
        Ending::Else(at) => parser.fail(at, "`{{else}}` without an `{{if}}`, `{{with}}` or `{{range}}` before it"),
    }
}

struct Parser<'s> {
    source: &'s str,
    tokens: &'s [Token],
    at: usize,
    depth: usize,
    /// Variables that exist at this place.
    variables: Vec<String>,
}

/// What ended a list of nodes, and where.
enum Ending {
    /// The end of the template.
    Source,
    /// `{{end}}`.
    End(usize),
    /// `{{else`: what follows it has not been read yet.
    Else(usize),
}

/// What a pipeline may set.
#[derive(Clone, Copy, PartialEq)]
enum Variables {
    None,
    One,
    Two,
}

impl<'s> Parser<'s> {
    fn peek(&self) -> Option<&'s Token> {
        self.tokens.get(self.at)
    }

    fn peek_kind(&self) -> Option<&'s Kind> {
        self.peek().map(|token| &token.kind)
    }

    /// The byte offset of what comes next.
    fn offset(&self) -> usize {
        self.peek().map_or(self.source.len(), |token| token.start)
    }

    /// The byte offset after what came last.
    fn end(&self) -> usize {
        self.at.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(0, |token| token.end)
    }

    fn fail<T>(&self, offset: usize, message: &str) -> Result<T, TemplateError> {
        Err(error_at(self.source, offset, message))
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, TemplateError> {
        let found = self.peek_kind().map_or_else(|| "the end of the template".to_owned(), Kind::describe);
        self.fail(self.offset(), &format!("unexpected {found}: expected {expected}"))
    }

    fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T, TemplateError>) -> Result<T, TemplateError> {
        if self.depth == MAX_DEPTH {
            return self.fail(self.offset(), &format!("nested too deep: expected at most {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        let outcome = inside(self);
        self.depth -= 1;
        outcome
    }

    /// Nodes up to an `{{end}}` or `{{else`, or the end of the template. The variables set in them end with them.
    fn nodes(&mut self) -> Result<(Vec<Node>, Ending), TemplateError> {
        let scope = self.variables.len();
        let mut nodes = Vec::new();
        let ending = loop {
            let Some(token) = self.peek() else { break Ending::Source };
            self.at += 1;
            if let Kind::Text(text) = &token.kind {
                nodes.push(Node::Text(text.clone()));
                continue;
            }
            let start = self.offset();
            match self.peek_kind() {
                Some(Kind::Word(word)) if word == "end" => {
                    self.at += 1;
                    self.close("`{{end}}`")?;
                    break Ending::End(start);
                }
                Some(Kind::Word(word)) if word == "else" => {
                    self.at += 1;
                    break Ending::Else(start);
                }
                _ => nodes.push(self.statement()?),
            }
        };
        self.variables.truncate(scope);
        Ok((nodes, ending))
    }

    /// What follows `{{`, up to the end of its block.
    fn statement(&mut self) -> Result<Node, TemplateError> {
        let start = self.offset();
        let keyword = match self.peek_kind() {
            Some(Kind::Word(word)) => word.as_str(),
            _ => "",
        };
        match keyword {
            "if" => self.deeper(|parser| parser.conditional(start)),
            "with" => self.deeper(|parser| {
                let (value, body, otherwise) = parser.block("with", Variables::One, start)?;
                Ok(Node::With { value, body, otherwise })
            }),
            "range" => self.deeper(|parser| {
                let (over, body, otherwise) = parser.block("range", Variables::Two, start)?;
                Ok(Node::Range { over, body, otherwise })
            }),
            "template" | "define" | "block" | "break" | "continue" => {
                self.fail(start, &format!("`{keyword}` is not supported in tags: expected if, with, range or a value"))
            }
            _ => {
                let pipeline = self.pipeline(Variables::One)?;
                self.close("an action")?;
                Ok(Node::Action(pipeline))
            }
        }
    }

    /// `if`, with any number of `else if`. Its variables live until its end.
    fn conditional(&mut self, start: usize) -> Result<Node, TemplateError> {
        let scope = self.variables.len();
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            self.at += 1;
            let condition = self.pipeline(Variables::One)?;
            self.close("`{{if`")?;
            let (body, ending) = self.nodes()?;
            branches.push((condition, body));
            match ending {
                Ending::Else(_) if self.peek_kind() == Some(&Kind::Word("if".to_owned())) => {}
                Ending::Else(_) => {
                    otherwise = self.alternative("if", start)?;
                    break;
                }
                Ending::End(_) => break,
                Ending::Source => return self.unclosed("if", start),
            }
        }
        self.variables.truncate(scope);
        Ok(Node::If { branches, otherwise })
    }

    /// `with` or `range`.
    fn block(
        &mut self,
        keyword: &str,
        variables: Variables,
        start: usize,
    ) -> Result<(Pipeline, Vec<Node>, Vec<Node>), TemplateError> {
        let scope = self.variables.len();
        self.at += 1;
        let pipeline = self.pipeline(variables)?;
        self.close(&format!("`{{{{{keyword}`"))?;
        let (body, ending) = self.nodes()?;
        let otherwise = match ending {
            Ending::Else(_) => self.alternative(keyword, start)?,
            Ending::End(_) => Vec::new(),
            Ending::Source => return self.unclosed(keyword, start),
        };
        self.variables.truncate(scope);
        Ok((pipeline, body, otherwise))
    }

    /// What follows `{{else`, up to and with `{{end}}`.
    fn alternative(&mut self, keyword: &str, start: usize) -> Result<Vec<Node>, TemplateError> {
        self.close("`{{else`")?;
        match self.nodes()? {
            (nodes, Ending::End(_)) => Ok(nodes),
            (_, Ending::Else(at)) => self.fail(at, "a second `{{else}}` in one block: expected `{{end}}`"),
            (_, Ending::Source) => self.unclosed(keyword, start),
        }
    }

    fn unclosed<T>(&self, keyword: &str, start: usize) -> Result<T, TemplateError> {
        self.fail(start, &format!("`{{{{{keyword}}}}}` is not closed: expected `{{{{end}}}}`"))
    }

    fn close(&mut self, of: &str) -> Result<(), TemplateError> {
        if self.peek_kind() == Some(&Kind::Close) {
            self.at += 1;
            return Ok(());
        }
        self.unexpected(&format!("`}}}}` after {of}"))
    }

    /// `$x := a | b | c`, up to what closes it.
    fn pipeline(&mut self, allowed: Variables) -> Result<Pipeline, TemplateError> {
        let start = self.offset();
        let (variables, assigns) = self.set_variables(allowed)?;
        let mut commands: Vec<Command> = Vec::new();
        loop {
            let piped = !commands.is_empty();
            commands.push(self.command(piped)?);
            match self.peek_kind() {
                Some(Kind::Pipe) => self.at += 1,
                Some(Kind::Close | Kind::Right) => break,
                _ => return self.unexpected("`|` or the end of the pipeline"),
            }
        }
        // Only now: a variable is not known in its own value.
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, assigns, commands, span: Span { start, end: self.end() } })
    }

    /// `$x :=`, `$x =` or `$i, $x :=`, if it stands here.
    fn set_variables(&mut self, allowed: Variables) -> Result<(Vec<String>, bool), TemplateError> {
        let start = self.offset();
        let following = |ahead: usize| self.tokens.get(self.at + ahead).map(|token| &token.kind);
        let mut names = Vec::new();
        let operator = match (following(0), following(1), following(2), following(3)) {
            (Some(Kind::Variable(first)), Some(Kind::Comma), Some(Kind::Variable(second)), operator) => {
                names.extend([first.clone(), second.clone()]);
                operator
            }
            (Some(Kind::Variable(first)), operator @ Some(Kind::Declare | Kind::Assign), ..) => {
                names.push(first.clone());
                operator
            }
            _ => return Ok((names, false)),
        };
        let assigns = operator == Some(&Kind::Assign);
        let permitted = match allowed {
            Variables::None => 0,
            Variables::One => 1,
            Variables::Two => 2,
        };
        if names.len() > permitted {
            let message = match allowed {
                Variables::None => "a variable cannot be set inside parentheses",
                _ => "two variables can only be set in a `{{range}}`",
            };
            return self.fail(start, message);
        }
        self.at += if names.len() == 2 { 4 } else { 2 };
        if names.iter().any(|name| name == "$") {
            return self.fail(start, "`$` is the whole document and cannot be set: expected a name after it");
        }
        if assigns && let Some(unknown) = names.iter().find(|name| !self.variables.contains(name)) {
            return self.fail(start, &format!("no variable {unknown} is set before this place: expected `:=`"));
        }
        if !assigns && operator != Some(&Kind::Declare) {
            return self.fail(start, "expected `:=` after two variables");
        }
        Ok((names, assigns))
    }

    /// One step of a pipeline.
    fn command(&mut self, piped: bool) -> Result<Command, TemplateError> {
        let start = self.offset();
        let kind = match self.peek_kind() {
            Some(Kind::Word(word)) if literal(word).is_none() => {
                let function = self.function(word)?;
                self.at += 1;
                let mut arguments = Vec::new();
                while !matches!(self.peek_kind(), None | Some(Kind::Pipe | Kind::Close | Kind::Right)) {
                    arguments.push(self.operand()?);
                }
                functions::check(function, &arguments, piped)
                    .map_err(|message| error_at(self.source, start, &message))?;
                CommandKind::Call(function, arguments)
            }
            _ => {
                let operand = self.operand()?;
                if piped {
                    return self.fail(start, "a value cannot be piped into: expected a function after `|`");
                }
                if !matches!(self.peek_kind(), None | Some(Kind::Pipe | Kind::Close | Kind::Right)) {
                    let message = "only a function takes arguments: expected a function before this value";
                    return self.fail(self.offset(), message);
                }
                CommandKind::Value(operand)
            }
        };
        Ok(Command { kind, span: Span { start, end: self.end() } })
    }

    fn function(&self, name: &str) -> Result<Function, TemplateError> {
        functions::find(name).map_err(|message| error_at(self.source, self.offset(), &message))
    }

    /// One value with the fields that touch it.
    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let start = self.offset();
        let Some(token) = self.peek() else {
            return self.unexpected("a value");
        };
        let mut fields = Vec::new();
        let base = match &token.kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(name.clone());
                Base::Dot
            }
            Kind::Variable(name) if self.variables.contains(name) => Base::Variable(name.clone()),
            Kind::Variable(name) => {
                return self.fail(start, &format!("no variable {name} is set before this place"));
            }
            Kind::Quoted(text) => Base::Literal(Value::from(text.as_str())),
            Kind::Int(number) => Base::Literal(Value::from(*number)),
            Kind::Float(number) => Base::Literal(Value::from(*number)),
            Kind::Word(word) => {
                let Some(value) = literal(word) else {
                    self.function(word)?;
                    let message = format!("a function as an argument: expected it in parentheses, ({word} …)");
                    return self.fail(start, &message);
                };
                Base::Literal(value)
            }
            Kind::Left => {
                self.at += 1;
                let group = self.deeper(|parser| parser.pipeline(Variables::None))?;
                if self.peek_kind() != Some(&Kind::Right) {
                    return self.unexpected("`)`");
                }
                Base::Group(Box::new(group))
            }
            _ => return self.unexpected("a value"),
        };
        self.at += 1;
        while let Some(Token { kind: Kind::Field(name), start, .. }) = self.peek()
            && *start == self.end()
            && !matches!(base, Base::Literal(_))
        {
            fields.push(name.clone());
            self.at += 1;
        }
        let touches = self.peek().is_some_and(|next| {
            next.start == self.end() && !matches!(next.kind, Kind::Right | Kind::Close | Kind::Pipe | Kind::Comma)
        });
        if touches {
            return self.unexpected("a space before it");
        }
        Ok(Operand { base, fields, span: Span { start, end: self.end() } })
    }
}

/// The words that are values.
fn literal(word: &str) -> Option<Value> {
    match word {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        "nil" => Some(Value::Null),
        _ => None,
    }
}
