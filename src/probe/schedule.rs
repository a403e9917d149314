//! Whose turn it is. Pure: the time and the chance are arguments.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::consul::model::Probe;

/// Consul's agent asks nobody more often (`MinInterval` in its `agent/checks/check.go`).
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Without `SERVICE_CHECK_TIMEOUT`; Consul's own.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A check's number: another one each time that it is begun anew.
pub type Number = u64;

/// The rhythm that is kept: between the end of one probe and the beginning of the next one, as Consul does.
#[must_use]
pub fn interval(probe: &Probe) -> Duration {
    probe.interval.max(MIN_INTERVAL)
}

/// How long one probe may take. It may be longer than the interval: a probe never overtakes the one before.
#[must_use]
pub fn timeout(probe: &Probe) -> Duration {
    match probe.timeout {
        // Consul's `Timeout > 0`.
        Some(timeout) if !timeout.is_zero() => timeout,
        _ => DEFAULT_TIMEOUT,
    }
}

/// How long to wait before the first probe: a random part of the interval, so that a node that starts with five hundred checks
/// does not ask them all at once. `chance` is a number from 0 (inclusive) to 1 (exclusive).
#[must_use]
pub fn first_wait(interval: Duration, chance: f64) -> Duration {
    interval.mul_f64(chance.clamp(0.0, 1.0))
}

/// Numbers by the moment at which it is their turn; who has waited longest comes first.
#[derive(Debug, Default)]
pub struct Schedule {
    turns: BTreeSet<(Instant, Number)>,
}

impl Schedule {
    /// It is this one's turn at this moment.
    pub fn add(&mut self, at: Instant, number: Number) {
        self.turns.insert((at, number));
    }

    /// Not any more.
    pub fn remove(&mut self, at: Instant, number: Number) {
        self.turns.remove(&(at, number));
    }

    /// The next one whose turn it is by now. It is not in the schedule any more.
    pub fn due(&mut self, now: Instant) -> Option<Number> {
        if self.next()? > now {
            return None;
        }
        self.turns.pop_first().map(|(_, number)| number)
    }

    /// When it is the next one's turn.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.turns.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(interval: u64, timeout: Option<u64>) -> Probe {
        Probe { interval: Duration::from_secs(interval), timeout: timeout.map(Duration::from_secs) }
    }

    #[test]
    fn rhythm_and_time_out_are_consuls() {
        assert_eq!(interval(&probe(0, None)), MIN_INTERVAL);
        assert_eq!(interval(&probe(30, None)), Duration::from_secs(30));
        assert_eq!(timeout(&probe(5, None)), DEFAULT_TIMEOUT);
        assert_eq!(timeout(&probe(5, Some(0))), DEFAULT_TIMEOUT);
        assert_eq!(timeout(&probe(5, Some(60))), Duration::from_secs(60));
    }

    #[test]
    fn the_first_wait_is_a_part_of_the_interval() {
        let interval = Duration::from_secs(10);
        assert_eq!(first_wait(interval, 0.0), Duration::ZERO);
        assert_eq!(first_wait(interval, 0.25), Duration::from_millis(2500));
        for wrong in [1.5, f64::INFINITY] {
            assert_eq!(first_wait(interval, wrong), interval);
        }
    }

    #[test]
    fn who_waits_longest_comes_first_and_nobody_early() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut schedule = Schedule::default();
        for (seconds, number) in [(3, 1), (1, 2), (2, 3), (1, 4)] {
            schedule.add(at(seconds), number);
        }
        assert_eq!(schedule.due(now), None);
        assert_eq!(schedule.next(), Some(at(1)));
        schedule.remove(at(2), 3);
        schedule.remove(at(9), 1);
        assert_eq!((schedule.due(at(5)), schedule.due(at(5)), schedule.due(at(5))), (Some(2), Some(4), Some(1)));
        assert_eq!((schedule.due(at(5)), schedule.next()), (None, None));
    }
}
