//! What the observer tells a second listener, the health-watcher: what is heard and seen, not what follows from it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::container::{Container, ContainerId};
use super::port::{Event, EventTime};

/// The first stream is asked for from so much before the engine's present, so that the listener knows what an operator has
/// just done. The engine remembers 256 events, however old.
pub(super) const HISTORY: Duration = Duration::from_secs(600);

/// What is told, in the order in which it was learned.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An event, before the look that it leads to.
    Event(Event),
    /// An event of before the observation began. After the first connect those of the last ten minutes are replayed, oldest first: of
    /// containers that may be long gone. Looks, and [`Heard::Complete`], may come before them.
    Remembered(Event),
    /// A look: the container as it is now, whether or not anything changed.
    Seen(Arc<Container>),
    /// Docker says that there is no such container (any more).
    Gone(ContainerId),
    /// The stream of events was lost: from now on things happen that may never be told.
    Lost,
    /// The stream of events is there (again); what the engine remembers of the time between follows.
    Connected,
    /// Every container that was there when the observation began, running or not, has been looked at (or could not be
    /// read). Told once.
    Complete,
    /// The queue was full: something before this was not told. Only looks make up for it.
    Missed,
}

/// The observer's end of the queue. It never waits: what does not fit is not told, and that is.
pub(super) struct Listener {
    queue: mpsc::Sender<Heard>,
    missed: bool,
    /// Whether there is a stream, and what was told of that.
    linked: bool,
    told_linked: bool,
    complete: bool,
    told_complete: bool,
    /// The youngest event that was told.
    last: Option<EventTime>,
}

impl Listener {
    pub(super) fn new(queue: mpsc::Sender<Heard>) -> Self {
        Self {
            queue,
            missed: false,
            linked: false,
            told_linked: false,
            complete: false,
            told_complete: false,
            last: None,
        }
    }

    /// An event; one of before the observation is `remembered`.
    pub(super) fn event(&mut self, event: &Event, remembered: bool) {
        self.last = self.last.max(Some(event.time));
        let heard = if remembered { Heard::Remembered } else { Heard::Event };
        self.tell(heard(event.clone()));
    }

    pub(super) fn seen(&mut self, container: &Arc<Container>) {
        self.tell(Heard::Seen(Arc::clone(container)));
    }

    pub(super) fn gone(&mut self, id: &ContainerId) {
        self.tell(Heard::Gone(id.clone()));
    }

    pub(super) fn linked(&mut self, linked: bool) {
        self.linked = linked;
        self.catch_up();
    }

    pub(super) fn complete(&mut self) {
        self.complete = true;
        self.catch_up();
    }

    /// Where its events go on; `None` before the first one.
    pub(super) fn resume(&self) -> Option<EventTime> {
        self.last.map(|EventTime(at)| EventTime(at.saturating_add(1)))
    }

    fn tell(&mut self, heard: Heard) {
        if !self.catch_up() || self.queue.try_send(heard).is_err() {
            self.missed = true;
        }
    }

    /// Tells what has to be told for certain, however late. Whether all of it is.
    pub(super) fn catch_up(&mut self) -> bool {
        if self.missed {
            if self.queue.try_send(Heard::Missed).is_err() {
                return false;
            }
            self.missed = false;
        }
        if self.linked != self.told_linked {
            let heard = if self.linked { Heard::Connected } else { Heard::Lost };
            if self.queue.try_send(heard).is_err() {
                return false;
            }
            self.told_linked = self.linked;
        }
        if self.complete && !self.told_complete {
            if self.queue.try_send(Heard::Complete).is_err() {
                return false;
            }
            self.told_complete = true;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::port::EventKind;
    use super::*;

    fn event(at: i64) -> Event {
        Event { container: ContainerId::new("a"), kind: EventKind::Start, time: EventTime(at), exit_code: None }
    }

    fn all(queue: &mut mpsc::Receiver<Heard>) -> Vec<Heard> {
        std::iter::from_fn(|| queue.try_recv().ok()).collect()
    }

    #[test]
    fn what_did_not_fit_is_told_before_the_next_thing_that_fits() {
        let (queue, mut heard) = mpsc::channel(2);
        let mut listener = Listener::new(queue);
        for at in 1..=5 {
            listener.event(&event(at), false);
        }
        assert_eq!(all(&mut heard), [Heard::Event(event(1)), Heard::Event(event(2))]);
        listener.event(&event(6), false);
        assert_eq!(all(&mut heard), [Heard::Missed, Heard::Event(event(6))]);
        listener.event(&event(7), false);
        assert_eq!(all(&mut heard), [Heard::Event(event(7))]);
        assert_eq!(listener.resume(), Some(EventTime(8)));
    }

    #[test]
    fn the_state_of_the_stream_is_told_however_full_the_queue_was() {
        let (queue, mut heard) = mpsc::channel(1);
        let mut listener = Listener::new(queue);
        listener.linked(true);
        listener.complete();
        listener.linked(false);
        assert_eq!(all(&mut heard), [Heard::Connected]);
        assert!(!listener.catch_up());
        assert_eq!(all(&mut heard), [Heard::Lost]);
        assert!(listener.catch_up());
        assert_eq!(all(&mut heard), [Heard::Complete]);
        listener.complete();
        listener.linked(false);
        assert_eq!(all(&mut heard), [], "once");
    }

    #[test]
    fn nobody_listens_any_more() {
        let (queue, heard) = mpsc::channel(1);
        let mut listener = Listener::new(queue);
        drop(heard);
        listener.linked(true);
        listener.event(&event(1), false);
    }
}
