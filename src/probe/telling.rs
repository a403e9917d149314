//! Which results are told. Pure: the time is an argument.

use std::hash::Hasher as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::consul::model::Status;

/// With the same status, another output is told so long after the last word; Consul's `check_update_interval`.
pub const OUTPUT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// When Consul is known to have another status than the one that was told, it is told again after so long, then after twice as
/// long, …: what was told may still be on its way.
pub const AGAIN: Duration = Duration::from_secs(10);

/// The longest wait before it is told again.
pub const AGAIN_CAP: Duration = Duration::from_secs(5 * 60);

/// What was last told of a check.
#[derive(Debug, Clone, Copy)]
pub struct Telling {
    status: Status,
    /// A hash of the output: the outputs of a thousand checks would be the largest thing in memory.
    output: u64,
    at: Instant,
    /// Nothing has been told yet; the status is the one to begin with.
    silent: bool,
    /// Times that the same was told again because Consul did not have it.
    again: u32,
}

impl Telling {
    /// Nothing has been told yet; Consul has this status.
    #[must_use]
    pub fn beginning(status: Status, now: Instant) -> Self {
        Self { status, output: hash(""), at: now, silent: true, again: 0 }
    }

    /// The status that was last told, or the one to begin with.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Takes the check's status and output. Whether they are to be told; then they count as told.
    ///
    /// * Another status is always told.
    /// * Another output of the same status is told at most every [`OUTPUT_INTERVAL`]; the very first one at once where something is
    ///   wrong, because there it is what people look for.
    /// * The same again is told when Consul is known to have another status (`known`): the row was written anew, or what was told
    ///   got lost.
    pub fn tells(&mut self, status: Status, output: &str, known: Status, now: Instant) -> bool {
        let output = hash(output);
        let since = now.saturating_duration_since(self.at);
        if known == self.status {
            self.again = 0;
        }
        let lost = known != status && since >= self.patience();
        let news = output != self.output && (since >= OUTPUT_INTERVAL || (self.silent && status != Status::Passing));
        if status == self.status && !lost && !news {
            return false;
        }
        let again = if status == self.status && lost { self.again.saturating_add(1) } else { 0 };
        *self = Self { status, output, at: now, silent: false, again };
        true
    }

    fn patience(&self) -> Duration {
        AGAIN.saturating_mul(1 << self.again.min(10)).min(AGAIN_CAP)
    }
}

/// The same everywhere; what matters is that it is small.
fn hash(text: &str) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::{Critical, Passing, Warning};

    struct Clock(Instant);

    impl Clock {
        fn after(&mut self, seconds: u64) -> Instant {
            self.0 += Duration::from_secs(seconds);
            self.0
        }
    }

    #[test]
    fn a_change_is_told_and_the_same_is_not() {
        let mut clock = Clock(Instant::now());
        let mut telling = Telling::beginning(Critical, clock.after(0));
        assert!(telling.tells(Passing, "a", Critical, clock.after(1)));
        assert!(!telling.tells(Passing, "a", Passing, clock.after(10)));
        assert!(telling.tells(Warning, "b", Passing, clock.after(1)));
        assert!(telling.tells(Critical, "b", Passing, clock.after(1)));
        assert_eq!(telling.status(), Critical);
        assert!(!telling.tells(Critical, "b", Critical, clock.after(10_000)));
    }

    #[test]
    fn another_output_waits_five_minutes() {
        let mut clock = Clock(Instant::now());
        let mut telling = Telling::beginning(Critical, clock.after(0));
        assert!(telling.tells(Critical, "refused", Critical, clock.after(1)), "the first thing that is wrong is told");
        assert!(!telling.tells(Critical, "timed out", Critical, clock.after(299)));
        assert!(!telling.tells(Critical, "refused", Critical, clock.after(1)));
        assert!(telling.tells(Critical, "timed out", Critical, clock.after(0)));
        let mut telling = Telling::beginning(Passing, clock.after(0));
        assert!(!telling.tells(Passing, "fine", Passing, clock.after(1)), "nobody looks for what is well");
        assert!(telling.tells(Passing, "fine", Passing, clock.after(300)));
    }

    #[test]
    fn what_consul_does_not_have_is_told_again_and_more_rarely() {
        let mut clock = Clock(Instant::now());
        let mut telling = Telling::beginning(Critical, clock.after(0));
        assert!(telling.tells(Passing, "", Critical, clock.after(1)));
        let told: Vec<u64> = (1..=200).filter(|_| telling.tells(Passing, "", Critical, clock.after(1))).collect();
        assert_eq!(told, [10, 30, 70, 150]);
        assert!(!telling.tells(Passing, "", Passing, clock.after(400)), "it has arrived");
        assert!(telling.tells(Passing, "", Critical, clock.after(10)), "and was lost again");
        let told = (0..3600).filter(|_| telling.tells(Passing, "", Critical, clock.after(1))).count();
        assert!((15..=18).contains(&told), "{told}");
    }
}
