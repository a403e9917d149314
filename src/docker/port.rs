//! The port through which the rest of Remora sees a Docker Engine. The real engine and the fake of the tests pass the
//! same conformance suite.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;

use super::container::{Container, ContainerId};
use crate::telemetry::Outcome;

/// What observing needs of a Docker Engine, and nothing else: only GET requests.
pub trait Engine: Send + Sync + 'static {
    /// Whether it answers at all. `GET /_ping`.
    fn ping(&self) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Who the engine is. `GET /info` and `GET /version`.
    fn info(&self) -> impl Future<Output = Result<EngineInfo, DockerError>> + Send;

    /// Every container, stopped ones included. `GET /containers/json?all=true`. An entry that cannot be read is left out of
    /// the answer and counted in [`Listing::unreadable`]; it is never an empty answer.
    fn list(&self) -> impl Future<Output = Result<Listing, DockerError>> + Send;

    /// One container, now. `GET /containers/{id}/json`. Takes an id or a name.
    fn inspect(&self, id: &str) -> impl Future<Output = Result<Container, DockerError>> + Send;

    /// What happens from `since` on (inclusive), for as long as the connection lives. `GET /events`. The stream ends with an
    /// error or without one; both mean "connect again and look at everything".
    fn events(&self, since: Option<EventTime>) -> EventStream;
}

/// A stream of events.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, DockerError>> + Send>>;

/// The answer of a list call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// One per container that could be read.
    pub containers: Vec<Summary>,
    /// Entries that could not be read.
    pub unreadable: usize,
}

/// One line of a list: just enough to see whether a container must be looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The container.
    pub id: ContainerId,
    /// A number that changes when anything in the line changes that a registration could depend on: names, image, state,
    /// health, labels, networks and addresses, ports. Not the human-readable age.
    pub fingerprint: u64,
    /// Whether it has a process (running, paused, restarting) or could have one (an unknown state).
    pub live: bool,
}

/// Who an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Unique per engine installation, kept over restarts.
    pub id: String,
    /// Its host's name.
    pub name: String,
    /// `20.10.24`.
    pub version: String,
    /// The newest API version it speaks: `1.41`.
    pub api_version: String,
    /// Its clock, so that `since` never depends on ours.
    pub system_time: Option<EventTime>,
    /// Its address in the swarm, if it is in one.
    pub swarm_address: Option<std::net::IpAddr>,
}

/// A point on the engine's clock, nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Reads an RFC 3339 stamp; `None` for the engine's zero time (`0001-01-01T00:00:00Z`) and for what is no stamp.
    #[must_use]
    pub fn parse(stamp: &str) -> Option<Self> {
        let since_1970 = humantime::parse_rfc3339_weak(stamp).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since_1970.as_nanos()).ok().map(Self)
    }

    /// A point so much earlier.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl std::fmt::Display for EventTime {
    /// `seconds.nanoseconds`, as the engine reads `since`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:09}", self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000))
    }
}

/// One event, reduced to what it says about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The container that it is about.
    pub container: ContainerId,
    /// What happened.
    pub kind: EventKind,
    /// When, by the engine's clock.
    pub time: EventTime,
    /// With which code its process ended; only a `die` says so.
    pub exit_code: Option<i64>,
}

/// What happened. Whatever it is, the answer is a fresh look; only [`EventKind::Kill`] says more than that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Its process was started.
    Start,
    /// Its process ended.
    Die,
    /// A signal was sent to it; `None` if the engine does not say which.
    Kill(Option<u8>),
    /// It was removed.
    Destroy,
    /// Anything else worth a look: stop, pause, unpause, health status, rename, update, oom, network connect or disconnect;
    /// the engine's own word, for logs and metrics.
    Other(String),
}

impl EventKind {
    /// The engine's word for it, without what follows a colon.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Start => "start",
            Self::Die => "die",
            Self::Kill(_) => "kill",
            Self::Destroy => "destroy",
            Self::Other(word) => word,
        }
    }
}

/// Why a call to the engine did not do what it should.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum DockerError {
    /// No such container: the only answer that means "it is gone".
    #[error("no such container: {0}")]
    NotFound(String),
    /// The engine could not be reached, or the connection broke.
    #[error("Docker cannot be reached at {address}: {reason}")]
    Unreachable {
        /// The address from the configuration.
        address: String,
        /// The innermost causes.
        reason: String,
    },
    /// No (complete) answer within the time-out.
    #[error("Docker did not answer {call} within {after:?}")]
    TimedOut {
        /// Which call.
        call: &'static str,
        /// The time-out.
        after: Duration,
    },
    /// The engine answered with an error.
    #[error("Docker answers {status} to {call}: {message}")]
    Refused {
        /// Which call.
        call: &'static str,
        /// HTTP status.
        status: u16,
        /// The engine's own words, bounded.
        message: String,
    },
    /// The answer cannot be read. Never holds any part of the answer: it may hold secrets.
    #[error("Docker's answer to {call} cannot be read: {reason}")]
    Unreadable {
        /// Which call.
        call: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
}

/// What is there, of a look at something that may be gone.
///
/// # Errors
/// Every other one: a failed look is Unknown, never "gone".
pub fn existing<T>(look: Result<T, DockerError>) -> Result<Option<T>, DockerError> {
    match look {
        Ok(found) => Ok(Some(found)),
        Err(DockerError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl<T> From<&Result<T, DockerError>> for Outcome {
    fn from(result: &Result<T, DockerError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(DockerError::NotFound(_)) => Self::NotFound,
            Err(DockerError::Unreachable { .. }) => Self::Unreachable,
            Err(DockerError::TimedOut { .. }) => Self::TimedOut,
            Err(DockerError::Refused { status: 401 | 403, .. }) => Self::Denied,
            Err(DockerError::Refused { status: 429 | 500.., .. }) => Self::Unwell,
            Err(DockerError::Refused { .. }) => Self::Rejected,
            Err(DockerError::Unreadable { .. }) => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_what_to_do_about_them() {
        let refused = |status| Err::<(), _>(DockerError::Refused { call: "x", status, message: String::new() });
        assert_eq!(Outcome::from(&refused(403)), Outcome::Denied);
        assert_eq!(Outcome::from(&refused(503)), Outcome::Unwell);
        assert_eq!(Outcome::from(&refused(400)), Outcome::Rejected);
    }
}
