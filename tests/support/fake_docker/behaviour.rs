//! What the processes in the containers do by themselves, on the test's clock.

use std::time::Duration;

use remora::docker::{Container, ContainerId};

/// Something that happens so long after every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Its HEALTHCHECK passes.
    Healthy,
    /// Its HEALTHCHECK has failed often enough.
    Unhealthy,
    /// Its process ends with this code; the restart policy does what it does.
    Exit(i64),
    /// The kernel ends it.
    OutOfMemory,
    /// The restart policy starts it again.
    Again,
}

/// What a container does. The default: it runs for ever, its HEALTHCHECK never leaves `starting`, and it ends as soon as it
/// is asked to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    pub(super) acts: Vec<(Duration, Act)>,
    pub(super) stops_in: Duration,
    pub(super) start_fails: Option<(u16, String)>,
}

impl Behaviour {
    /// So long after every start this happens.
    #[must_use]
    pub fn after(mut self, span: Duration, act: Act) -> Self {
        self.acts.push((span, act));
        self
    }

    /// It becomes healthy so long after every start.
    #[must_use]
    pub fn healthy_after(self, span: Duration) -> Self {
        self.after(span, Act::Healthy)
    }

    /// It becomes unhealthy so long after every start.
    #[must_use]
    pub fn unhealthy_after(self, span: Duration) -> Self {
        self.after(span, Act::Unhealthy)
    }

    /// It ends by itself so long after every start.
    #[must_use]
    pub fn exits_after(self, span: Duration, code: i64) -> Self {
        self.after(span, Act::Exit(code))
    }

    /// It takes so long to end after its stop signal; longer than its grace, and it is killed.
    #[must_use]
    pub fn stops_in(mut self, span: Duration) -> Self {
        self.stops_in = span;
        self
    }

    /// It cannot be started: 400 and these words.
    #[must_use]
    pub fn start_fails(mut self, message: &str) -> Self {
        self.start_fails = Some((400, message.to_owned()));
        self
    }
}

/// Who behaves so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// This container.
    Container(ContainerId),
    /// Whatever is called so when it starts.
    Named(String),
    /// Whatever has this label: `key` or `key=value`.
    Labelled(String),
    /// Whatever was made of this image, by the reference that was asked for.
    Image(String),
}

impl Whom {
    pub(super) fn is(&self, facts: &Container) -> bool {
        match self {
            Self::Container(id) => facts.id == *id,
            Self::Named(name) => facts.name == *name,
            Self::Labelled(label) => has_label(facts, label),
            Self::Image(image) => facts.image == *image,
        }
    }
}

/// Whether a container has a label, `key` or `key=value`.
pub(super) fn has_label(facts: &Container, label: &str) -> bool {
    match label.split_once('=') {
        Some((key, value)) => facts.labels.get(key).is_some_and(|it| it == value),
        None => facts.labels.contains_key(label),
    }
}
