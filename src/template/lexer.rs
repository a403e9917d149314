//! Text → tokens, as Go's lexer does it: `{{`, `}}`, trim markers, comments, and what stands between the delimiters.

use super::{TemplateError, error_at};

/// One token with its place in the source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    /// Byte offset of its first byte.
    pub start: usize,
    /// Byte offset after its last byte. Two operands whose tokens touch belong together: `$x.Name`, `(…).Name`.
    pub end: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Text outside of delimiters, trimmed as the markers ask.
    Text(String),
    /// `{{` or `{{-`.
    Open,
    /// `}}` or `-}}`.
    Close,
    /// `.` alone.
    Dot,
    /// `.Name`, without the dot.
    Field(String),
    /// `$` or `$name`, with the dollar sign.
    Variable(String),
    /// A function or a keyword.
    Word(String),
    /// `"…"` with its escapes resolved, or a raw string in back quotes.
    Quoted(String),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// `(`.
    Left,
    /// `)`.
    Right,
    /// `|`.
    Pipe,
    /// `,`.
    Comma,
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
}

impl Kind {
    /// What to call it in a message.
    pub fn describe(&self) -> String {
        match self {
            Self::Text(_) => "text".to_owned(),
            Self::Open => "`{{`".to_owned(),
            Self::Close => "`}}`".to_owned(),
            Self::Dot => "`.`".to_owned(),
            Self::Field(name) => format!("`.{name}`"),
            Self::Variable(name) | Self::Word(name) => format!("`{name}`"),
            Self::Quoted(_) => "a string".to_owned(),
            Self::Int(_) | Self::Float(_) => "a number".to_owned(),
            Self::Left => "`(`".to_owned(),
            Self::Right => "`)`".to_owned(),
            Self::Pipe => "`|`".to_owned(),
            Self::Comma => "`,`".to_owned(),
            Self::Declare => "`:=`".to_owned(),
            Self::Assign => "`=`".to_owned(),
        }
    }
}

/// The tokens of a whole template.
pub(super) fn lex(source: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer { source, at: 0, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    tokens: Vec<Token>,
}

/// What Go calls space inside an action.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let start = self.at;
        self.at += length;
        self.tokens.push(Token { kind, start, end: self.at });
    }

    fn fail<T>(&self, offset: usize, message: &str) -> Result<T, TemplateError> {
        Err(error_at(self.source, offset, message))
    }

    fn run(&mut self) -> Result<(), TemplateError> {
        // Whether the action before asked to trim the text after it.
        let mut trim_left = false;
        loop {
            let rest = self.rest();
            let length = rest.find("{{").unwrap_or(rest.len());
            let (text, action) = rest.split_at_checked(length).unwrap_or((rest, ""));
            // `{{- ` needs the space: `{{-3}}` is a number.
            let trim_right = action.strip_prefix("{{-").is_some_and(|after| after.starts_with(SPACE));
            let mut kept = text;
            if trim_left {
                kept = kept.trim_start_matches(SPACE);
            }
            if trim_right {
                kept = kept.trim_end_matches(SPACE);
            }
            if kept.is_empty() {
                self.at += length;
            } else {
                self.push(Kind::Text(kept.to_owned()), length);
            }
            if action.is_empty() {
                return Ok(());
            }
            let marker = if trim_right { "{{- ".len() } else { "{{".len() };
            let inside = action.get(marker..).unwrap_or_default();
            trim_left = if inside.starts_with("/*") { self.comment(marker)? } else { self.action(marker)? };
        }
    }

    /// `{{/* … */}}`; nothing else may stand in its action. Says whether the text after it is to be trimmed.
    fn comment(&mut self, marker: usize) -> Result<bool, TemplateError> {
        let start = self.at;
        self.at += marker + "/*".len();
        let Some(length) = self.rest().find("*/") else {
            return self.fail(start, "a comment is not closed: expected `*/}}`");
        };
        self.at += length + "*/".len();
        let rest = self.rest();
        if rest.starts_with("}}") {
            self.at += "}}".len();
            return Ok(false);
        }
        if rest.starts_with(SPACE) && rest.get(1..).is_some_and(|after| after.starts_with("-}}")) {
            self.at += " -}}".len();
            return Ok(true);
        }
        self.fail(self.at, "a comment ends before its closing delimiter: expected `}}` or ` -}}` after `*/`")
    }

    /// Everything up to the closing delimiter. Says whether the text after it is to be trimmed.
    fn action(&mut self, marker: usize) -> Result<bool, TemplateError> {
        let open = self.at;
        self.push(Kind::Open, marker);
        loop {
            let rest = self.rest();
            let spaces = rest.len() - rest.trim_start_matches(SPACE).len();
            self.at += spaces;
            let rest = self.rest();
            if rest.starts_with("}}") {
                self.push(Kind::Close, "}}".len());
                return Ok(false);
            }
            if spaces > 0 && rest.starts_with("-}}") {
                self.push(Kind::Close, "-}}".len());
                return Ok(true);
            }
            let Some(first) = rest.chars().next() else {
                return self.fail(open, "`{{` is not closed: expected `}}`");
            };
            match first {
                '(' => self.push(Kind::Left, 1),
                ')' => self.push(Kind::Right, 1),
                '|' => self.push(Kind::Pipe, 1),
                ',' => self.push(Kind::Comma, 1),
                '=' => self.push(Kind::Assign, 1),
                ':' if rest.starts_with(":=") => self.push(Kind::Declare, 2),
                '"' => self.quoted()?,
                '`' => self.raw()?,
                '.' if rest.get(1..).is_some_and(|after| after.starts_with(|c: char| c.is_ascii_digit())) => {
                    self.number()?;
                }
                '.' => {
                    let name = word(rest.get(1..).unwrap_or_default());
                    let kind = if name.is_empty() { Kind::Dot } else { Kind::Field(name.to_owned()) };
                    self.push(kind, 1 + name.len());
                }
                '$' => {
                    let length = 1 + word(rest.get(1..).unwrap_or_default()).len();
                    self.push(Kind::Variable(rest.get(..length).unwrap_or_default().to_owned()), length);
                }
                '+' | '-' | '0'..='9' => self.number()?,
                c if c == '_' || c.is_alphabetic() => {
                    let name = word(rest);
                    self.push(Kind::Word(name.to_owned()), name.len());
                }
                '\'' => return self.fail(self.at, "character constants are not supported: expected a string in \"\""),
                other => {
                    let message = format!("unexpected {other:?}: expected a field, a function, a value or `}}}}`");
                    return self.fail(self.at, &message);
                }
            }
        }
    }

    /// A string in double quotes, with the escapes of Go.
    fn quoted(&mut self) -> Result<(), TemplateError> {
        let rest = self.rest();
        let mut text = String::new();
        let mut characters = rest.char_indices().skip(1);
        while let Some((offset, c)) = characters.next() {
            match c {
                '"' => {
                    self.push(Kind::Quoted(text), offset + 1);
                    return Ok(());
                }
                '\n' => return self.fail(self.at, "a string goes on in the next line: expected `\"` before its end"),
                '\\' => {
                    let escape = characters.next().map(|(_, escaped)| escaped);
                    let resolved = match escape {
                        Some('a') => Some('\u{7}'),
                        Some('b') => Some('\u{8}'),
                        Some('f') => Some('\u{c}'),
                        Some('n') => Some('\n'),
                        Some('r') => Some('\r'),
                        Some('t') => Some('\t'),
                        Some('v') => Some('\u{b}'),
                        Some(same @ ('\\' | '"')) => Some(same),
                        // Go's `\x` names a byte; above 7f that would not be text.
                        Some('x') => hexadecimal(&mut characters, 2).filter(char::is_ascii),
                        Some('u') => hexadecimal(&mut characters, 4),
                        Some('U') => hexadecimal(&mut characters, 8),
                        _ => None,
                    };
                    let Some(resolved) = resolved else {
                        let message = "unknown escape in a string: expected \\\\, \\\", \\n, \\t, \\x7f or \\u00e9";
                        return self.fail(self.at + offset, message);
                    };
                    text.push(resolved);
                }
                other => text.push(other),
            }
        }
        self.fail(self.at, "a string is not closed: expected `\"`")
    }

    /// A string in back quotes: no escapes, any number of lines.
    fn raw(&mut self) -> Result<(), TemplateError> {
        let inside = self.rest().get(1..).unwrap_or_default();
        let Some(length) = inside.find('`') else {
            return self.fail(self.at, "a raw string is not closed: expected a back quote");
        };
        let text = inside.get(..length).unwrap_or_default().to_owned();
        self.push(Kind::Quoted(text), length + 2);
        Ok(())
    }

    fn number(&mut self) -> Result<(), TemplateError> {
        let rest = self.rest();
        let mut length = 0;
        let mut before = ' ';
        for c in rest.chars() {
            let sign = matches!(c, '+' | '-') && (length == 0 || matches!(before, 'e' | 'E'));
            if !(sign || c == '.' || c == '_' || c.is_ascii_alphanumeric()) {
                break;
            }
            length += c.len_utf8();
            before = c;
        }
        let text: String = rest.get(..length).unwrap_or_default().chars().filter(|c| *c != '_').collect();
        let kind = whole(&text)
            .map(Kind::Int)
            .or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Kind::Float));
        let Some(kind) = kind else {
            return self.fail(self.at, "not a number: expected one like 12, -1, 0x1f or 1.5");
        };
        self.push(kind, length);
        Ok(())
    }
}

/// A whole number, decimal or with `0x`.
fn whole(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(['+', '-']) => None,
        Some(digits) => i64::from_str_radix(digits, 16).ok().map(|number| if negative { -number } else { number }),
        None => text.parse().ok(),
    }
}

/// The letters, digits and underscores at the beginning.
fn word(text: &str) -> &str {
    let length = text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
    text.get(..length).unwrap_or_default()
}

/// The character that so many hexadecimal digits name.
fn hexadecimal(characters: &mut impl Iterator<Item = (usize, char)>, digits: usize) -> Option<char> {
    let mut code: u32 = 0;
    for _ in 0..digits {
        let digit = characters.next().and_then(|(_, c)| c.to_digit(16))?;
        code = code.checked_mul(16)?.checked_add(digit)?;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Kind> {
        lex(source).unwrap().into_iter().map(|token| token.kind).collect()
    }

    fn text(text: &str) -> Kind {
        Kind::Text(text.to_owned())
    }

    #[test]
    fn text_and_actions_alternate() {
        assert_eq!(kinds("a{{.}}b"), [text("a"), Kind::Open, Kind::Dot, Kind::Close, text("b")]);
    }

    #[test]
    fn trim_markers_take_the_space_around_them() {
        assert_eq!(kinds("a \n {{- . -}} \n b"), [text("a"), Kind::Open, Kind::Dot, Kind::Close, text("b")]);
    }

    #[test]
    fn a_minus_without_a_space_is_a_number() {
        assert_eq!(kinds("a {{-3}}"), [text("a "), Kind::Open, Kind::Int(-3), Kind::Close]);
    }

    #[test]
    fn comments_vanish_and_trim() {
        assert_eq!(kinds("a {{- /* }} */ -}} b"), [text("a"), text("b")]);
        assert_eq!(kinds("a {{/* x */}} b"), [text("a "), text(" b")]);
    }

    #[test]
    fn strings_resolve_their_escapes() {
        assert_eq!(
            kinds(r#"{{"a\"\n\x41\u00e9" `\n`}}"#),
            [Kind::Open, Kind::Quoted("a\"\nAé".to_owned()), Kind::Quoted("\\n".to_owned()), Kind::Close]
        );
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        assert_eq!(
            kinds("{{1 -2 0x1f 1_000 1.5 -1e3 .5}}"),
            [
                Kind::Open,
                Kind::Int(1),
                Kind::Int(-2),
                Kind::Int(31),
                Kind::Int(1000),
                Kind::Float(1.5),
                Kind::Float(-1000.0),
                Kind::Float(0.5),
                Kind::Close
            ]
        );
    }

    #[test]
    fn what_is_not_closed_is_told_with_its_place() {
        for (source, message) in [
            ("a{{.X", "`{{` is not closed: expected `}}` (line 1, column 2)"),
            ("a\nb{{\"x}}", "a string is not closed: expected `\"` (line 2, column 4)"),
            ("{{/* x", "a comment is not closed: expected `*/}}` (line 1, column 1)"),
            ("{{'x'}}", "character constants are not supported: expected a string in \"\" (line 1, column 3)"),
            ("{{12ab}}", "not a number: expected one like 12, -1, 0x1f or 1.5 (line 1, column 3)"),
        ] {
            assert_eq!(lex(source).unwrap_err().0, message);
        }
    }
}
