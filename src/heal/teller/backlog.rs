//! What waits for a peer: a bounded queue that drops its oldest, so that whoever fills it is never held up.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// For one consumer.
#[derive(Debug)]
pub(super) struct Backlog<T> {
    state: Mutex<State<T>>,
    moved: Notify,
    limit: usize,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Backlog<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), closed: false }), moved: Notify::new(), limit }
    }

    /// Puts it at the end. `false`: the oldest had to go for it.
    pub(super) fn push(&self, item: T) -> bool {
        let mut state = self.state();
        let has_room = state.waiting.len() < self.limit;
        if !has_room {
            state.waiting.pop_front();
        }
        state.waiting.push_back(item);
        drop(state);
        self.moved.notify_one();
        has_room
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.moved.notify_one();
    }

    /// The oldest; `None` when there is nothing and nothing more comes. Whoever stops waiting for it loses nothing.
    pub(super) async fn next(&self) -> Option<T> {
        loop {
            {
                let mut state = self.state();
                if let Some(item) = state.waiting.pop_front() {
                    // An outage may have made it large.
                    if state.waiting.is_empty() {
                        state.waiting.shrink_to_fit();
                    }
                    return Some(item);
                }
                if state.closed {
                    return None;
                }
            }
            self.moved.notified().await;
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_goes_when_there_is_no_room_and_the_end_comes_last() {
        let backlog = Backlog::new(2);
        assert!(backlog.push(1) && backlog.push(2) && !backlog.push(3));
        assert_eq!(backlog.len(), 2);
        assert_eq!((backlog.next().await, backlog.next().await), (Some(2), Some(3)));
        let later = async {
            tokio::task::yield_now().await;
            backlog.push(4);
            backlog.close();
        };
        assert_eq!(tokio::join!(backlog.next(), later).0, Some(4));
        assert_eq!(backlog.next().await, None);
    }
}
