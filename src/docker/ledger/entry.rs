//! What the [`Ledger`](super::Ledger) keeps of one container.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::docker::container::{ContainerId, Sight};
use crate::docker::port::EventTime;

#[derive(Debug, Default, PartialEq)]
pub(super) enum Look {
    #[default]
    Idle,
    Queued,
    Running {
        again: bool,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct StopRequest {
    /// When the signal was sent, by the engine's clock.
    pub(super) at: EventTime,
    /// Still running then: the signal did not end it.
    pub(super) until: Instant,
}

/// A container in which a list showed a change.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) id: ContainerId,
    /// The list before that one was asked for then: the change is younger.
    pub(super) changed_since: Instant,
    /// The list that shows it arrived then.
    pub(super) shown: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) told: Option<Sight>,
    /// Its line in the last list, as long as that speaks of what was told: a line that was so before, was otherwise in
    /// between, and is so again is not an unchanged one.
    pub(super) fingerprint: Option<u64>,
    pub(super) look: Look,
    pub(super) heard: Option<Instant>,
    pub(super) last_heard: Option<Instant>,
    /// When it was last started, by the engine's clock, and how often its restart policy had done that.
    pub(super) last_run: Option<(EventTime, u64)>,
    pub(super) passing: Option<Box<Passing>>,
    pub(super) tell_anyway: bool,
    pub(super) gone: bool,
    pub(super) outgoing: bool,
}

/// What is so of a container for a while only. By itself: mostly there is nothing of it.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) stop: Option<StopRequest>,
    pub(super) settling_until: Option<Instant>,
    /// Its place in the retries: one, however many reasons there were to look.
    pub(super) retry_at: Option<Instant>,
    pub(super) backoff: Backoff,
}

impl Default for Passing {
    fn default() -> Self {
        // 5 s: a container that cannot be looked at is retried at the pace at which lost registrations are noticed.
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        Self { stop: None, settling_until: None, retry_at: None, backoff }
    }
}

impl Entry {
    pub(super) fn passing(&mut self) -> &mut Passing {
        self.passing.get_or_insert_default()
    }
}
