//! A container as an operation sees it.

use serde_json::Value;

use crate::docker::names::{self, Role};
use crate::docker::{Container, ContainerId, RestartName, State};

/// What the next step depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: ContainerId,
    /// What its name says that it is.
    pub role: Role,
    /// It has a process, or Docker is about to start one.
    pub running: bool,
    /// Its restart policy is waiting to start it again: Docker renames no such container.
    pub restarting: bool,
    /// It was started at least once.
    pub ever_started: bool,
    /// Its restart policy: name and maximum of retries.
    pub restart_policy: (RestartName, u64),
}

impl Member {
    /// From a look.
    #[must_use]
    pub fn of(container: &Container) -> Self {
        let (_, role) = names::logical(&container.name);
        Self {
            id: container.id.clone(),
            role,
            running: matches!(container.state, State::Running | State::Paused | State::Restarting | State::Unknown(_)),
            restarting: container.state == State::Restarting,
            ever_started: container.started_at.is_some(),
            restart_policy: (container.life.restart_policy.name.clone(), container.life.restart_policy.maximum_retries),
        }
    }

    /// Whether its restart policy is this one of Docker's documents.
    #[must_use]
    pub fn restart_policy_is(&self, policy: &Value) -> bool {
        let name = policy.get("Name").and_then(Value::as_str).unwrap_or_default();
        let retries = policy.get("MaximumRetryCount").and_then(Value::as_u64).unwrap_or_default();
        // The count means something with `on-failure` only, and engines keep or drop it with the others.
        let same_count = RestartName::read(name) != RestartName::OnFailure || self.restart_policy.1 == retries;
        self.restart_policy.0 == RestartName::read(name) && same_count
    }

    /// Whether Docker leaves it stopped.
    #[must_use]
    pub fn restarts_never(&self) -> bool {
        self.restart_policy.0 == RestartName::No
    }
}
