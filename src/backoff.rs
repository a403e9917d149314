//! How long to wait before the next attempt. Pure: jitter comes in as a number.

use std::time::Duration;

/// Exponential back-off with a cap: `base · 2ⁿ`, at most `cap`, of which the upper half is left to chance, so that a
/// thousand agents that lost the same peer do not come back to it in step, and none comes back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Milliseconds: there are five of these per container.
    base: u32,
    /// Milliseconds.
    cap: u32,
    attempt: u32,
}

impl Backoff {
    /// A back-off that begins with about `base`. Both are exact to the millisecond.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        Self { base: millis(base), cap: millis(cap), attempt: 0 }
    }

    /// The next wait. `chance` is a number from 0 (inclusive) to 1 (exclusive).
    #[must_use]
    pub fn next(&mut self, chance: f64) -> Duration {
        // 2^20 times any base that makes sense is far above any cap that does.
        let full = self.base.saturating_mul(1 << self.attempt.min(20)).min(self.cap);
        let full = Duration::from_millis(u64::from(full));
        self.attempt = self.attempt.saturating_add(1);
        let half = full / 2;
        half + half.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// Attempts since the last success.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempt
    }

    /// It worked: begin anew.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Whether this failure is worth a line in the log: the first one and then every tenth. A peer that is away for a
    /// night must not fill the disk.
    #[must_use]
    pub const fn worth_telling(&self) -> bool {
        self.attempt % 10 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_never_below_half_of_it() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let waits: Vec<_> = (0..10).map(|_| backoff.next(0.0)).collect();
        assert_eq!(waits[0], Duration::from_millis(50));
        assert_eq!(waits[1], Duration::from_millis(100));
        assert_eq!(waits[9], Duration::from_millis(2500));
        assert!(backoff.next(0.999) < Duration::from_secs(5));
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(50));
    }

    #[test]
    fn a_million_attempts_do_not_overflow() {
        let mut backoff =
            Backoff { attempt: u32::MAX - 1, ..Backoff::new(Duration::from_secs(1), Duration::from_secs(30)) };
        for _ in 0..4 {
            assert!(backoff.next(1.0) <= Duration::from_secs(30));
        }
    }

    #[test]
    fn the_first_and_every_tenth_failure_is_told() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(1));
        let told: Vec<u32> = (0..25)
            .filter_map(|_| {
                let _wait = backoff.next(0.5);
                backoff.worth_telling().then_some(backoff.attempts())
            })
            .collect();
        assert_eq!(told, [1, 11, 21]);
    }
}
