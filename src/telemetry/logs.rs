//! Set-up of logging: text for people or JSON for machines, on standard error.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use crate::config::{Log, LogFormat};

/// Crates whose lines below `info` never come through, whatever the filter says: bollard logs whole requests and answers
/// at `debug`, environments of containers included, and the others log headers, tokens included.
const CAPPED: [&str; 6] = ["bollard", "hyper", "reqwest", "rustls", "h2", "tower"];

/// How many causes of an error are printed: enough for any real one, and an end for one that is its own cause.
const MAX_CAUSES: usize = 16;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("REMORA_LOG={0:?}: expected a level (`info`) or a list of targets with levels (`info,remora=debug`)")]
    Filter(String),
    /// Something else in this process has set up logging.
    #[error("logging has been set up before")]
    AlreadySet,
}

/// Sets up logging for the whole process.
///
/// # Errors
/// The filter cannot be read, or logging has been set up before.
pub fn init(log: &Log) -> Result<(), LogError> {
    // https://no-color.org: any value that is not empty.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = subscriber(log, std::io::stderr, colours)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadySet)
}

fn subscriber<W>(log: &Log, writer: W, colours: bool) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // What no part of the filter speaks of still tells its errors.
    let filter: Targets =
        format!("error,{}", log.filter).parse().map_err(|_| LogError::Filter(clean(&log.filter).into_owned()))?;
    let format = tracing_subscriber::fmt::layer().with_writer(writer);
    let format = match log.format {
        LogFormat::Text => {
            // One place for all fields: no text from outside can begin a new line or speak to the terminal.
            let fields = debug_fn(|writer, field, value| {
                let value = format!("{value:?}");
                match field.name() {
                    "message" => write!(writer, "{}", clean(&value)),
                    name => write!(writer, "{name}={}", clean(&value)),
                }
            });
            format.with_ansi(colours).fmt_fields(fields.delimited(" ")).boxed()
        }
        LogFormat::Json => {
            // The serializer escapes whatever could break a line.
            format.with_ansi(false).json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    Ok(Box::new(tracing_subscriber::registry().with(format).with(filter).with(filter_fn(permitted))))
}

/// Whether a line may be written as far as [`CAPPED`] is concerned.
fn permitted(metadata: &Metadata<'_>) -> bool {
    let capped = CAPPED.iter().any(|name| {
        // `hyper` stands for `hyper::…` and for `hyper_util` as well.
        metadata.target().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '_']))
    });
    !capped || *metadata.level() <= LevelFilter::INFO
}

/// A text from outside, made fit for one line of text on a terminal: line breaks and tabs become spaces, other control
/// characters and those that change the direction of writing become `�`.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let replacement = |c: char| match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        c if hostile(c) => '\u{fffd}',
        c => c,
    };
    Cow::Owned(text.chars().map(replacement).collect())
}

/// Control characters, line separators, and marks that reorder what follows them.
fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// An error with its causes in one line: `cannot connect: connection refused`. (tracing itself prints only the first.)
#[derive(Debug, Clone, Copy)]
pub struct Chain<'e>(pub &'e (dyn Error + 'static));

impl<'e> fmt::Display for Chain<'e> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = self.0.to_string();
        f.write_str(&printed)?;
        let causes = std::iter::successors(self.0.source(), |cause: &&'e (dyn Error + 'static)| (*cause).source());
        for cause in causes.take(MAX_CAUSES) {
            let text = cause.to_string();
            // Some errors print their cause themselves.
            if !printed.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            printed = text;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let settings = Log { filter: filter.to_owned(), format };
        let subscriber = subscriber(&settings, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const HOSTILE: &str = "web\n2026-01-01T00:00:00Z  INFO all is well\u{1b}[2J\u{9b}1m\u{202e}";

    #[test]
    fn a_line_has_message_and_fields() {
        let text = logged("info", LogFormat::Text, || {
            tracing::info!(event = "registered", service = %"n:web:80", port = 80, "registered {}", "web");
        });
        assert!(text.contains("INFO"), "{text}");
        assert!(text.ends_with("registered web event=\"registered\" service=n:web:80 port=80\n"), "{text}");
    }

    #[test]
    fn no_text_from_outside_breaks_a_line_of_text() {
        let text = logged("info", LogFormat::Text, || {
            tracing::warn!(event = "refused", name = %HOSTILE, debug = ?HOSTILE, plain = HOSTILE, "name {HOSTILE}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.trim_end().contains(hostile), "{text:?}");
    }

    #[test]
    fn no_text_from_outside_breaks_a_line_of_json() {
        let text = logged("info", LogFormat::Json, || {
            tracing::warn!(event = "refused", name = %HOSTILE, "name {HOSTILE}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["event"], "refused");
        assert_eq!(line["name"], HOSTILE);
        assert_eq!(line["level"], "WARN");
    }

    #[test]
    fn the_filter_decides_about_our_own_lines() {
        let text = logged("info,remora=debug", LogFormat::Text, || {
            tracing::debug!(target: "remora::reconcile", event = "a", "ours");
            tracing::debug!(target: "other", event = "a", "theirs");
        });
        assert!(text.contains("ours") && !text.contains("theirs"), "{text}");
    }

    #[test]
    fn bodies_of_requests_are_never_logged_whatever_the_filter_says() {
        for filter in ["trace", "debug", "bollard=debug,hyper_util=trace,reqwest=trace", "bollard::docker=trace"] {
            let text = logged(filter, LogFormat::Text, || {
                tracing::debug!(target: "bollard::docker", "TOKEN=canary");
                tracing::trace!(target: "bollard", "TOKEN=canary");
                tracing::trace!(target: "hyper_util::client", "TOKEN=canary");
                tracing::trace!(target: "hyper::proto", "TOKEN=canary");
                tracing::debug!(target: "reqwest::connect", "TOKEN=canary");
                tracing::debug!(target: "rustls::client", "TOKEN=canary");
            });
            assert_eq!(text, "", "{filter}");
        }
        let text = logged("trace", LogFormat::Text, || {
            tracing::info!(target: "bollard::docker", "kept");
            tracing::trace!(target: "hyperspace", "kept too");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_told() {
        let settings = Log { filter: "remora=loud".to_owned(), format: LogFormat::Text };
        let error = subscriber(&settings, std::io::stderr, false).err().unwrap().to_string();
        assert!(error.starts_with("REMORA_LOG=\"remora=loud\": expected a level"), "{error}");
    }

    #[test]
    fn clean_text_is_not_copied() {
        assert!(matches!(clean("Größe: 5 µs"), Cow::Borrowed(_)));
        assert_eq!(clean("a\nb\tc\u{1b}[0m\u{202e}d"), "a b c\u{fffd}[0m\u{fffd}d");
    }

    #[test]
    fn an_error_is_printed_with_its_causes_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot connect")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("handshake: {0}")]
        struct Middle(#[source] io::Error);
        let error = Outer(Middle(io::Error::other("refused")));
        assert_eq!(Chain(&error).to_string(), "cannot connect: handshake: refused");
    }
}
