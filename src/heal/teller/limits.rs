//! What is posted and what is not: the same once in ten minutes, and at most twenty messages in a minute. Pure.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::heal::tell::News;

/// The same kind, name and text is posted once in so long.
const ONCE_IN: Duration = Duration::from_secs(600);

/// So many messages.
const MOST: usize = 20;

/// In so long.
const WITHIN: Duration = Duration::from_secs(60);

/// Messages that are remembered: more than can be posted in [`ONCE_IN`].
const REMEMBERED: usize = 256;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is posted; [`Limits::posted`] is told when it was.
    Post,
    /// The same was posted a short time ago.
    Repeated,
    /// There were too many: it is only counted.
    Limited,
}

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// When messages were sent within the last minute.
    sent: VecDeque<Instant>,
    /// What was posted, and when.
    posted: VecDeque<(Instant, u64)>,
    /// Messages that were only counted.
    more: usize,
}

impl Limits {
    /// Judges a message; one that is to be posted has used its place.
    pub(super) fn judge(&mut self, news: &News, now: Instant) -> Verdict {
        self.forget(now);
        let digest = digest(news);
        if self.posted.iter().any(|(_, before)| *before == digest) {
            return Verdict::Repeated;
        }
        // What was counted is told before anything newer.
        if self.more > 0 || self.sent.len() >= MOST {
            self.more += 1;
            return Verdict::Limited;
        }
        self.sent.push_back(now);
        Verdict::Post
    }

    /// It was posted.
    pub(super) fn posted(&mut self, news: &News, now: Instant) {
        if self.posted.len() >= REMEMBERED {
            self.posted.pop_front();
        }
        self.posted.push_back((now, digest(news)));
    }

    /// When the number of those that were only counted may be posted, if there are any.
    pub(super) fn more_at(&self) -> Option<Instant> {
        let oldest = if self.sent.len() >= MOST { self.sent.front().copied() } else { None };
        (self.more > 0).then(|| oldest.map_or_else(Instant::now, |at| at + WITHIN))
    }

    /// Takes that number; the message about it has used its place.
    pub(super) fn take_more(&mut self, now: Instant) -> usize {
        self.forget(now);
        if self.more > 0 {
            self.sent.push_back(now);
        }
        std::mem::take(&mut self.more)
    }

    fn forget(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|at| *at + WITHIN <= now) {
            self.sent.pop_front();
        }
        while self.posted.front().is_some_and(|(at, _)| *at + ONCE_IN <= now) {
            self.posted.pop_front();
        }
    }
}

fn digest(news: &News) -> u64 {
    let mut hasher = DefaultHasher::new();
    (news.kind, &news.name, &news.text).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heal::tell::Kind;

    fn news(name: &str) -> News {
        News::decision(Kind::GaveUp, name, "", "died", "given up".to_owned())
    }

    #[test]
    fn the_same_is_posted_once_in_ten_minutes() {
        let (mut limits, begin) = (Limits::default(), Instant::now());
        assert_eq!(limits.judge(&news("web"), begin), Verdict::Post);
        // It did not get there: it may be tried again.
        assert_eq!(limits.judge(&news("web"), begin), Verdict::Post);
        limits.posted(&news("web"), begin);
        assert_eq!(limits.judge(&news("web"), begin + ONCE_IN / 2), Verdict::Repeated);
        assert_eq!(limits.judge(&news("db"), begin + ONCE_IN / 2), Verdict::Post);
        assert_eq!(limits.judge(&news("web"), begin + ONCE_IN), Verdict::Post);
    }

    #[test]
    fn twenty_in_a_minute_and_then_how_many_more() {
        let (mut limits, begin) = (Limits::default(), Instant::now());
        let second = Duration::from_secs(1);
        for number in 0..20 {
            assert_eq!(limits.judge(&news(&format!("web{number}")), begin + second), Verdict::Post);
        }
        assert_eq!(limits.more_at(), None);
        for number in 20..25 {
            assert_eq!(limits.judge(&news(&format!("web{number}")), begin + 2 * second), Verdict::Limited);
        }
        assert_eq!(limits.more_at(), Some(begin + second + WITHIN));
        // The number comes first.
        let later = begin + second + WITHIN;
        assert_eq!(limits.judge(&news("late"), later), Verdict::Limited);
        assert_eq!(limits.take_more(later), 6);
        assert_eq!((limits.more_at(), limits.take_more(later)), (None, 0));
        assert_eq!(limits.judge(&news("later"), later), Verdict::Post);
    }
}
