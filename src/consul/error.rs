//! Errors of talking to Consul, classed by what to do about them.

use std::time::Duration;

use crate::telemetry::Outcome;

/// Why a call to Consul did not do what it should. No variant ever holds a token.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ConsulError {
    /// The agent could not be reached, or the connection broke: a write may or may not have happened.
    #[error("Consul cannot be reached at {address}: {reason}")]
    Unreachable {
        /// The address from the configuration.
        address: String,
        /// The innermost causes, without URL or token.
        reason: String,
    },
    /// No answer within the time-out: a write may or may not have happened.
    #[error("Consul did not answer {call} within {after:?}")]
    TimedOut {
        /// Which call (`PUT /v1/agent/service/register`).
        call: &'static str,
        /// The time-out.
        after: Duration,
    },
    /// The cluster is unwell (no leader, 5xx) or asks to slow down (429).
    #[error("Consul is unwell ({status} to {call}): {message}")]
    Unwell {
        /// HTTP status.
        status: u16,
        /// Which call.
        call: &'static str,
        /// Consul's own words, bounded.
        message: String,
    },
    /// The token does not allow it, or is not known (403, or a refusal inside another status).
    #[error("Consul refuses {call}: {message}")]
    Forbidden {
        /// Which call.
        call: &'static str,
        /// Consul's own words, bounded.
        message: String,
    },
    /// What the call speaks about does not exist (404, `Unknown service`, `Unknown check`, no TTL check).
    #[error("Consul does not know it ({call}): {message}")]
    NotFound {
        /// Which call.
        call: &'static str,
        /// Consul's own words, bounded.
        message: String,
    },
    /// Consul will never accept this item as it is (400, or a validation error in a 500).
    #[error("Consul does not accept it ({call}): {message}")]
    Invalid {
        /// Which call.
        call: &'static str,
        /// Consul's own words, bounded.
        message: String,
    },
    /// What was to be written is not what it was when it was last read: somebody else has changed it, or was first.
    #[error("somebody else was first ({call}): {message}")]
    Conflict {
        /// Which call.
        call: &'static str,
        /// Consul's own words, bounded.
        message: String,
    },
    /// The node of this name in the catalog is somebody else's: nothing is written to it.
    #[error(
        "the node {node:?} in Consul's catalog is not this agent's ({whose}), so nothing is registered there: set another \
         REMORA_NODE, or remove that node"
    )]
    NotOurs {
        /// Its name.
        node: String,
        /// What tells.
        whose: String,
    },
    /// Consul answered something that cannot be read.
    #[error("Consul's answer to {call} cannot be read: {reason}")]
    Unreadable {
        /// Which call.
        call: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Consul or the way to it is at fault: try again soon, with back-off; everything else will fail likewise.
    Transient,
    /// Rights are missing, or the node is somebody else's: tell, and try again rarely (30 s and more), since that changes
    /// from outside.
    Denied,
    /// Our picture of Consul is old: read it again.
    Gone,
    /// This one item is at fault: tell, leave it until it changes; others are not affected.
    Rejected,
}

impl ConsulError {
    /// What to do about it.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Unwell { .. } | Self::Unreadable { .. } => {
                Class::Transient
            }
            Self::Forbidden { .. } | Self::NotOurs { .. } => Class::Denied,
            Self::NotFound { .. } | Self::Conflict { .. } => Class::Gone,
            Self::Invalid { .. } => Class::Rejected,
        }
    }
}

impl ConsulError {
    /// Whether the one server that was asked is at fault, or the way to it, so that another one of its cluster may do better.
    #[must_use]
    pub const fn is_of_the_server(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Unwell { .. })
    }
}

impl<T> From<&Result<T, ConsulError>> for Outcome {
    fn from(result: &Result<T, ConsulError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(ConsulError::Unreachable { .. }) => Self::Unreachable,
            Err(ConsulError::TimedOut { .. }) => Self::TimedOut,
            Err(ConsulError::Unwell { .. }) => Self::Unwell,
            Err(ConsulError::Forbidden { .. } | ConsulError::NotOurs { .. }) => Self::Denied,
            // What was to be changed does not exist any more as it was read.
            Err(ConsulError::NotFound { .. } | ConsulError::Conflict { .. }) => Self::NotFound,
            Err(ConsulError::Invalid { .. }) => Self::Rejected,
            Err(ConsulError::Unreadable { .. }) => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_what_to_do_about_them() {
        let forbidden = ConsulError::Forbidden { call: "x", message: String::new() };
        assert_eq!(Outcome::from(&Err::<(), _>(forbidden)), Outcome::Denied);
        assert_eq!(Outcome::from(&Ok::<_, ConsulError>(())), Outcome::Ok);
    }
}
