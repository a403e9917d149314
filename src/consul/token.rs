//! Where the ACL token comes from, and when it is read again.
//!
//! A token file is written by others (Vault's agent, a mounted secret) while we run. It is looked at again every few
//! seconds, and at once when Consul refuses a call, so that a rotation needs no restart and costs no failed call that
//! is not repeated. A file that cannot be read at that time keeps the token that we have: it is being replaced, or it
//! will soon be told by a refusal.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::HeaderValue;

use super::client::ClientError;
use crate::config::{Secret, Token};

/// Between two looks at the file's time and length; a rotation keeps the old token alive for longer than that.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The token as a header value that never shows itself.
pub(super) enum TokenSource {
    /// The anonymous token.
    None,
    /// One for the whole run.
    Value(HeaderValue),
    /// Read again when it changes.
    File(TokenFile),
}

/// A token in a file.
pub(super) struct TokenFile {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    header: HeaderValue,
    /// How many tokens there have been.
    generation: u64,
    stamp: Option<Stamp>,
    looked: Instant,
}

/// What changes when a file is written or replaced.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl TokenSource {
    /// Reads the token for the first time; a file that cannot be read or is empty is an error now, so that nobody runs
    /// with the anonymous token by mistake.
    pub(super) fn new(token: &Token) -> Result<Self, ClientError> {
        match token {
            Token::None => Ok(Self::None),
            Token::Value(secret) => header(secret).map(Self::Value).ok_or(ClientError::Token),
            Token::File(path) => {
                let stamp = stamp(path);
                let header = read(path).map_err(|reason| ClientError::File {
                    name: "CONSUL_HTTP_TOKEN_FILE",
                    path: path.clone(),
                    expected: "a file with an ACL token",
                    reason,
                })?;
                let state = Mutex::new(State { header, generation: 0, stamp, looked: Instant::now() });
                Ok(Self::File(TokenFile { path: path.clone(), state }))
            }
        }
    }

    /// A number that changes with the token.
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::None | Self::Value(_) => 0,
            Self::File(file) => file.state.lock().unwrap_or_else(PoisonError::into_inner).generation,
        }
    }

    /// The token to send now.
    pub(super) fn current(&self, now: Instant) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Value(header) => Some(header.clone()),
            Self::File(file) => Some(file.current(now)),
        }
    }

    /// A token other than the one that was just refused, if there is one by now.
    pub(super) fn instead_of(&self, refused: Option<&HeaderValue>, now: Instant) -> Option<HeaderValue> {
        let Self::File(file) = self else { return None };
        let mut state = file.state.lock().unwrap_or_else(PoisonError::into_inner);
        file.look(&mut state, now, true);
        (Some(&state.header) != refused).then(|| state.header.clone())
    }
}

impl TokenFile {
    fn current(&self, now: Instant) -> HeaderValue {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.looked) >= LOOK_EVERY {
            self.look(&mut state, now, false);
        }
        state.header.clone()
    }

    /// A few hundred bytes from a local file system: not worth a thread of its own.
    fn look(&self, state: &mut State, now: Instant, even_if_unchanged: bool) {
        state.looked = now;
        let stamp = stamp(&self.path);
        if stamp == state.stamp && !even_if_unchanged {
            return;
        }
        match read(&self.path) {
            Ok(header) => {
                if header != state.header {
                    state.generation += 1;
                    tracing::info!(event = "consul_token_reloaded", path = %self.path.display(), "the token file has changed");
                }
                state.header = header;
                state.stamp = stamp;
            }
            Err(reason) => {
                tracing::warn!(
                    event = "consul_token_unreadable", path = %self.path.display(), reason,
                    "the token file cannot be read; the last token stays in use"
                );
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: facts.modified().ok(), length: facts.len() })
}

/// The file's token. The error never holds any part of the file.
fn read(path: &Path) -> Result<HeaderValue, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    header(&Secret::new(text)).ok_or_else(|| "holds more than one line, or characters that no token has".to_owned())
}

/// Sensitive: neither `Debug` nor a proxy's compression table shows it.
fn header(secret: &Secret) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(secret.expose().trim()).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf, TokenSource) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        let source = TokenSource::new(&Token::File(path.clone())).unwrap_or_else(|error| panic!("{error}"));
        (folder, path, source)
    }

    fn text(header: Option<HeaderValue>) -> String {
        header.map(|header| header.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_file_is_trimmed_and_looked_at_again_after_five_seconds() {
        let (_folder, path, source) = file(" one\n");
        let start = Instant::now();
        assert_eq!(text(source.current(start)), "one");
        std::fs::write(&path, "second").unwrap();
        assert_eq!(text(source.current(start + Duration::from_secs(4))), "one");
        assert_eq!(text(source.current(start + Duration::from_secs(6))), "second");
    }

    #[test]
    fn after_a_refusal_the_file_is_read_at_once_and_only_another_token_counts() {
        let (_folder, path, source) = file("one");
        let start = Instant::now();
        let refused = source.current(start);
        assert_eq!(source.instead_of(refused.as_ref(), start), None);
        // The same length and, on a coarse clock, the same time: only reading tells.
        std::fs::write(&path, "two").unwrap();
        assert_eq!(text(source.instead_of(refused.as_ref(), start)), "two");
        assert_eq!(text(source.current(start)), "two");
    }

    #[test]
    fn a_file_that_vanishes_or_is_emptied_keeps_the_token() {
        let (_folder, path, source) = file("one");
        let later = Instant::now() + Duration::from_secs(60);
        std::fs::write(&path, "").unwrap();
        assert_eq!(text(source.current(later)), "one");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text(source.current(later + Duration::from_secs(60))), "one");
        std::fs::write(&path, "three").unwrap();
        assert_eq!(text(source.current(later + Duration::from_secs(120))), "three");
    }

    #[test]
    fn a_bad_token_is_an_error_that_does_not_show_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for content in ["", "  \n", "s3cr3t\nline", "s3cr3t\u{7f}"] {
            std::fs::write(&path, content).unwrap();
            let error = TokenSource::new(&Token::File(path.clone())).err().unwrap();
            let told = format!("{error} {error:?}");
            assert!(told.contains("CONSUL_HTTP_TOKEN_FILE") && !told.contains("s3cr3t"), "{told}");
        }
        let error = TokenSource::new(&Token::Value(Secret::new("s3cr3t\n2"))).err().unwrap();
        assert!(!format!("{error} {error:?}").contains("s3cr3t"));
        let missing = TokenSource::new(&Token::File(folder.path().join("nowhere"))).err().unwrap();
        assert!(missing.to_string().contains("nowhere"), "{missing}");
    }

    #[test]
    fn a_token_never_shows_itself() {
        let source = TokenSource::new(&Token::Value(Secret::new("s3cr3t"))).unwrap_or_else(|error| panic!("{error}"));
        assert!(!format!("{:?}", source.current(Instant::now())).contains("s3cr3t"));
    }
}
