//! Containers that somebody else looks after, as their labels and names tell. They are never touched: two who heal the same
//! container undo each other's work.

use std::fmt;

use crate::docker::Container;

/// Who looks after a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Managed {
    /// Docker Swarm replaces its tasks itself.
    Swarm,
    /// Kubernetes (through dockershim or cri-dockerd).
    Kubernetes,
    /// `HashiCorp` Nomad.
    Nomad,
    /// `docker compose run`: somebody waits for its end.
    ComposeOneOff,
    /// Testcontainers: a test breaks it on purpose.
    Testcontainers,
    /// The builder of buildx.
    Buildkit,
}

impl Managed {
    /// Who looks after this container, if somebody does.
    #[must_use]
    pub fn of(container: &Container) -> Option<Self> {
        let has = |prefix: &str| container.labels.keys().any(|label| label.starts_with(prefix));
        let oneoff = container.labels.get("com.docker.compose.oneoff");
        if has("com.docker.swarm.task.id") || has("com.docker.swarm.service.id") {
            Some(Self::Swarm)
        } else if has("io.kubernetes.") || container.name.starts_with("k8s_") {
            Some(Self::Kubernetes)
        } else if has("com.hashicorp.nomad.") {
            Some(Self::Nomad)
        } else if oneoff.is_some_and(|word| word.trim().eq_ignore_ascii_case("true")) {
            Some(Self::ComposeOneOff)
        } else if has("org.testcontainers") {
            Some(Self::Testcontainers)
        } else if container.name.starts_with("buildx_buildkit_") {
            Some(Self::Buildkit)
        } else {
            None
        }
    }
}

impl fmt::Display for Managed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Swarm => "Docker Swarm looks after it",
            Self::Kubernetes => "Kubernetes looks after it",
            Self::Nomad => "Nomad looks after it",
            Self::ComposeOneOff => "a one-off container of Compose",
            Self::Testcontainers => "a container of Testcontainers",
            Self::Buildkit => "a builder of buildx",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::testing::container;
    use super::*;
    use crate::docker::Lens;

    #[test]
    fn whoever_looks_after_a_container_is_known_by_label_or_name() {
        for (label, value, expected) in [
            ("com.docker.swarm.task.id", "x", Some(Managed::Swarm)),
            ("com.docker.swarm.service.id", "x", Some(Managed::Swarm)),
            ("io.kubernetes.pod.uid", "x", Some(Managed::Kubernetes)),
            ("com.hashicorp.nomad.alloc_id", "x", Some(Managed::Nomad)),
            ("com.docker.compose.oneoff", "True", Some(Managed::ComposeOneOff)),
            ("com.docker.compose.oneoff", "False", None),
            ("com.docker.compose.service", "web", None),
            ("org.testcontainers", "true", Some(Managed::Testcontainers)),
            ("org.testcontainers.sessionId", "x", Some(Managed::Testcontainers)),
        ] {
            assert!(Lens::default().keeps(label), "{label} is in a snapshot");
            assert_eq!(Managed::of(&container("web", &[("a", ""), (label, value), ("z", "")])), expected, "{label}");
        }
        assert_eq!(Managed::of(&container("k8s_app_pod_ns_uid_0", &[])), Some(Managed::Kubernetes));
        assert_eq!(Managed::of(&container("buildx_buildkit_default0", &[])), Some(Managed::Buildkit));
        assert_eq!(Managed::of(&container("web", &[])), None);
    }
}
