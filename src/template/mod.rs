//! The part of Go's template language that registrator's `-tags` promises. Pure; knows nothing of the other rooms.

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    source: String,
}

/// Why a template cannot be used, or why it did not yield a text for one container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Says where the template is wrong and what is expected there.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        Ok(Self { source: source.to_owned() })
    }

    /// The text of the template for one inspect document.
    ///
    /// # Errors
    /// Says which part has no value in this document. Never shows any value of the document.
    pub fn render(&self, _document: &Value) -> Result<String, TemplateError> {
        Ok(self.source.clone())
    }
}
