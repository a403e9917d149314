//! The part of Go's template language that registrator's `-tags` promises, rendered against Docker's inspect document.
//! Pure; knows nothing of the other rooms.
//!
//! Own code, because no maintained crate speaks this language, and because a tag must not be able to do what Go's engine
//! can: wait for the network, run for ever, or put `<no value>` into the catalog. Every render is bounded (see the
//! constants of [`Template`]), never panics, and fails with one sentence that names the place in the template and never
//! shows any value of the document, which may hold secrets.
//!
//! * `lexer`: text → tokens.
//! * `ast`: what a template consists of.
//! * `parser`: tokens → tree; everything that can be known without a document is refused here.
//! * `eval`: tree and document → text.
//! * `shape`: what registrator's documents have, and Docker leaves out.
//! * `item`: the values that take part in a render.
//! * `functions`: what the functions do, and with how many arguments.
//! * `format`: how values become text, `printf` included.
//!
//! `docs/tag-templates.md` tells operators what is supported and where it differs from Go.

use serde_json::Value;

mod ast;
mod eval;
mod format;
mod functions;
mod item;
mod lexer;
mod parser;
mod shape;
#[cfg(test)]
mod tests;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// As the operator wrote it: error messages quote from it.
    source: Box<str>,
    /// What it means.
    nodes: Vec<ast::Node>,
}

/// Why a template cannot be used, or why it did not yield a text for one container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// What a template yields for one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The tags, separated by commas.
    pub text: String,
    /// Why others were left out, one sentence for each; at most a few.
    pub left_out: Vec<String>,
}

impl Template {
    /// Bytes of a template. Tags are short; 16 KiB is far more than anyone writes by hand.
    pub const MAX_SOURCE: usize = 16 * 1024;

    /// Bytes that one render may yield. All tags of a service together are a few hundred bytes; more than 4 KiB is an
    /// accident such as `{{.}}`, which would publish the whole inspect document.
    pub const MAX_OUTPUT: usize = 4 * 1024;

    /// Reads a template.
    ///
    /// # Errors
    /// Says where the template is wrong and what is expected there.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        if source.len() > Self::MAX_SOURCE {
            return Err(TemplateError(format!(
                "the template has {} bytes: expected at most {}",
                source.len(),
                Self::MAX_SOURCE
            )));
        }
        let tokens = lexer::lex(source)?;
        let nodes = parser::parse(source, &tokens)?;
        Ok(Self { source: source.into(), nodes })
    }

    /// The text of the template for one inspect document. A tag that has no value in it is left out.
    ///
    /// # Errors
    /// Says why there is no tag at all, or none that is certain: which part has no value in this document. Never shows any
    /// value of the document.
    pub fn render(&self, document: &Value) -> Result<Rendered, TemplateError> {
        eval::render(&self.source, &self.nodes, document)
    }
}

/// The names of all functions that a template can use: what the documentation has to explain.
#[must_use]
pub fn function_names() -> Vec<&'static str> {
    functions::TABLE.iter().map(|signature| signature.name).collect()
}

/// Characters of an error without its place.
const LONGEST_MESSAGE: usize = 300;

/// An error at a place in the template: `… (line 1, column 9)`; columns count characters. A message may quote the template, and is
/// one line of some length all the same.
fn error_at(source: &str, offset: usize, message: &str) -> TemplateError {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    let mut message = message.replace(char::is_control, " ");
    if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    TemplateError(format!("{message} (line {line}, column {column})"))
}
