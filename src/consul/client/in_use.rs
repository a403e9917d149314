//! Which of several addresses is used.
//!
//! The first one, until it fails; then the next, and that one until it fails. It begins with the first and not with any, because
//! the operator's order may mean something (the nearest first), and because it is the same after a restart. A herd at the first
//! server is none that hurts: each node has a few connections, and what they write is led to the leader from every server alike.
//! There is no way back to the first while the other one answers: to go there and find it unwell would cost a call each time, and
//! a cluster's servers are equals.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::consul::error::ConsulError;

/// See the module's header.
pub(super) struct InUse {
    count: usize,
    at: AtomicUsize,
    /// The one that answered last: a change is told when it has come to something.
    answered: AtomicUsize,
    /// Why that one was left.
    why: Mutex<String>,
}

impl InUse {
    /// The first of so many.
    pub(super) const fn new(count: usize) -> Self {
        Self { count, at: AtomicUsize::new(0), answered: AtomicUsize::new(0), why: Mutex::new(String::new()) }
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// The one to ask now.
    pub(super) fn now(&self) -> usize {
        self.at.load(Ordering::Relaxed)
    }

    /// The one after this one.
    pub(super) const fn after(&self, at: usize) -> usize {
        if at + 1 < self.count { at + 1 } else { 0 }
    }

    /// It failed. Of many calls that find this out at the same time only the first one moves on.
    pub(super) fn failed(&self, at: usize, error: &ConsulError) {
        if self.count < 2 {
            return;
        }
        // Before the move: whoever sees the move sees the reason.
        if self.now() == at && self.answered.load(Ordering::Relaxed) == at {
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
        }
        let _moved_by_another = self.at.compare_exchange(at, self.after(at), Ordering::AcqRel, Ordering::Relaxed);
    }

    /// It answered. Once for each change: the one that answered before, and why that was left. An answer of an address that has
    /// been left meanwhile changes nothing.
    pub(super) fn answered(&self, at: usize) -> Option<(usize, String)> {
        if self.at.load(Ordering::Acquire) != at || self.answered.load(Ordering::Relaxed) == at {
            return None;
        }
        let before = self.answered.swap(at, Ordering::AcqRel);
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (before != at).then_some((before, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(call: &'static str) -> ConsulError {
        ConsulError::Unwell { status: 500, call, message: "No cluster leader".to_owned() }
    }

    #[test]
    fn the_first_is_used_until_it_fails_and_the_next_until_that_fails() {
        let in_use = InUse::new(3);
        assert_eq!(in_use.now(), 0);
        assert_eq!(in_use.answered(0), None, "nothing has changed");
        in_use.failed(0, &error("a"));
        in_use.failed(0, &error("b"));
        assert_eq!(in_use.now(), 1, "two calls that fail at once move on once");
        assert_eq!(in_use.answered(0), None, "a late answer does not lead back");
        let (from, why) = in_use.answered(1).unwrap();
        assert_eq!((from, why), (0, error("a").to_string()));
        assert_eq!(in_use.answered(1), None, "told once");
    }

    #[test]
    fn while_none_answers_nothing_is_told() {
        let in_use = InUse::new(2);
        for at in [0, 1, 0, 1] {
            in_use.failed(at, &error("a"));
        }
        assert_eq!(in_use.now(), 0);
        assert_eq!(in_use.answered(0), None, "it is the one of before");
    }

    #[test]
    fn one_address_is_always_the_one() {
        let in_use = InUse::new(1);
        in_use.failed(0, &error("a"));
        assert_eq!((in_use.now(), in_use.after(0), in_use.answered(0)), (0, 0, None));
    }
}
