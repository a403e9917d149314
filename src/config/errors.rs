//! What is wrong with a configuration, and how it is told.

use std::fmt;

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable or flag; `command`, `argument` or `registry` for what stands on the command line without a name.
    pub name: String,
    /// What it was set to, bounded and without control characters; for a secret only its length. Empty when there is
    /// nothing to show.
    pub value: String,
    /// What would be right, with an example.
    pub expected: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        write!(f, ": expected {}", self.expected)
    }
}

/// Everything that is wrong with the configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration cannot be used, 1 setting is wrong:")?,
            count => write!(f, "the configuration cannot be used, {count} settings are wrong:")?,
        }
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Where every stage of reading writes down what it finds, and then goes on.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

impl Findings {
    /// The value, or its error written down.
    pub(super) fn take<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    /// Writes down an error.
    pub(super) fn error(&mut self, name: &str, value: impl Into<String>, expected: impl Into<String>) {
        self.errors.push(ConfigError { name: name.to_owned(), value: value.into(), expected: expected.into() });
    }

    /// Writes down a warning: the operator should know, but it works.
    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// The warnings, or else the errors.
    pub(super) fn finish(self) -> Result<Vec<String>, ConfigErrors> {
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(ConfigErrors(self.errors)) }
    }
}

/// Characters of a value that a message shows: enough to recognise it, too few to flood a log.
const SHOWN: usize = 100;

/// A value as a message may show it: one line, bounded.
pub(super) fn shown(value: &str) -> String {
    let mut text = String::new();
    for character in value.chars().take(SHOWN) {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    let count = value.chars().count();
    if count > SHOWN { format!("{text}… ({count} characters)") } else { text }
}

/// A secret as a message may show it.
pub(super) fn hidden(secret: &str) -> String {
    format!("(secret, {} characters)", secret.chars().count())
}

/// An address as a message may show it: people do write `http://user:password@host` and `?token=…`, which is an error
/// here, and the message about it must not print what they wrote.
pub(super) fn shown_address(address: &str) -> String {
    let (scheme, rest) =
        address.split_once("://").map_or((String::new(), address), |(scheme, rest)| (format!("{scheme}://"), rest));
    // The last `@`: a password may hold one, a host cannot. Also in front of `://`: a password may even hold that.
    let (scheme, rest) = match (scheme.contains('@'), rest.rsplit_once('@')) {
        (true, _) => (String::new(), "(secret)".to_owned()),
        (false, Some((_, host))) => (scheme, format!("(secret)@{host}")),
        (false, None) => (scheme, rest.to_owned()),
    };
    match format!("{scheme}{rest}").split_once(['?', '#']) {
        Some((before, _)) => shown(&format!("{before}?(secret)")),
        None => shown(&format!("{scheme}{rest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_own_line_under_one_headline() {
        let error = |name: &str, value: &str| ConfigError {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: "something else".to_owned(),
        };
        let text = ConfigErrors(vec![error("A", "1"), error("-b", "")]).to_string();
        assert_eq!(
            text,
            "the configuration cannot be used, 2 settings are wrong:\n  A=1: expected something else\n  -b: expected \
             something else"
        );
    }

    #[test]
    fn a_shown_value_is_one_bounded_line() {
        assert_eq!(shown("a\nb\u{7}"), "a\\nb\\u{7}");
        assert_eq!(shown(&"x".repeat(200)), format!("{}… (200 characters)", "x".repeat(100)));
    }

    #[test]
    fn credentials_and_queries_of_an_address_are_never_shown() {
        for address in [
            "http://user:hunter2@host:8500",
            "user:hunter2@host:8500",
            "http://user:a@hunter2@host",
            "http://user:hunter2://x@host",
            "a:hunter2@b://host",
            "http://host/?token=hunter2",
            "host#hunter2",
            "http://u:?hunter2@host",
        ] {
            let text = shown_address(address);
            assert!(!text.contains("hunter2"), "{address} is shown as {text}");
        }
        assert_eq!(shown_address("http://host:8500/prefix"), "http://host:8500/prefix");
    }
}
