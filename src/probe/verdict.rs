//! When a probe's result becomes the check's status. Pure.

use crate::consul::model::{Check, Status};

/// Counts results in a row, as Consul's agent does (`StatusHandler` in its `agent/checks/check.go`):
///
/// * passing and warning are both successes: they count up one counter and clear the other; critical does the opposite;
/// * a result becomes the status once its counter has reached the threshold; until then nothing changes, not even the output;
/// * a threshold of 0 or 1 is reached by one result;
/// * both counters begin *at* their thresholds, so that the very first result counts at once, whatever the thresholds are.
///
/// `failures_before_warning` of newer versions is not among the labels; without it Consul takes `failures_before_critical`, and
/// it has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    success_before_passing: u32,
    failures_before_critical: u32,
    successes: u32,
    failures: u32,
}

impl Verdict {
    /// Before the first result.
    #[must_use]
    pub const fn new(success_before_passing: u32, failures_before_critical: u32) -> Self {
        Self {
            success_before_passing,
            failures_before_critical,
            successes: success_before_passing,
            failures: failures_before_critical,
        }
    }

    /// Before the first result of this check.
    #[must_use]
    pub const fn of(check: &Check) -> Self {
        Self::new(check.success_before_passing, check.failures_before_critical)
    }

    /// Takes a result; whether it is the check's status now.
    #[must_use]
    pub const fn counts(&mut self, result: Status) -> bool {
        match result {
            Status::Passing | Status::Warning => {
                self.successes = self.successes.saturating_add(1);
                self.failures = 0;
                self.successes >= self.success_before_passing
            }
            Status::Critical => {
                self.failures = self.failures.saturating_add(1);
                self.successes = 0;
                self.failures >= self.failures_before_critical
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::{Critical, Passing, Warning};

    /// Which of these results count.
    fn counting(thresholds: (u32, u32), results: &[Status]) -> Vec<bool> {
        let mut verdict = Verdict::new(thresholds.0, thresholds.1);
        results.iter().map(|result| verdict.counts(*result)).collect()
    }

    #[test]
    fn without_thresholds_every_result_counts() {
        for thresholds in [(0, 0), (1, 1)] {
            assert_eq!(counting(thresholds, &[Critical, Passing, Warning, Critical, Critical, Passing]), [true; 6]);
        }
    }

    #[test]
    fn the_first_result_counts_whatever_the_thresholds_are() {
        assert_eq!(counting((5, 5), &[Passing]), [true]);
        assert_eq!(counting((5, 5), &[Critical]), [true]);
        // And the other side's counter has been cleared by it, or not been touched: as in Consul.
        assert_eq!(counting((2, 3), &[Passing, Critical, Critical, Critical]), [true, false, false, true]);
        assert_eq!(counting((2, 3), &[Critical, Passing, Passing]), [true, false, true]);
    }

    #[test]
    fn results_have_to_come_in_a_row() {
        let results = [Passing, Critical, Critical, Passing, Critical, Critical, Critical, Critical];
        let counted = [true, false, false, true, false, false, true, true];
        // One success is enough here, three failures are needed.
        assert_eq!(counting((0, 3), &results), counted);
        let results = [Critical, Passing, Critical, Passing, Passing, Passing];
        assert_eq!(counting((3, 0), &results), [true, false, true, false, false, true]);
    }

    #[test]
    fn a_warning_is_a_success() {
        assert_eq!(counting((2, 2), &[Critical, Warning, Passing]), [true, false, true]);
        assert_eq!(counting((2, 2), &[Passing, Critical, Warning, Critical]), [true, false, false, false]);
    }

    #[test]
    fn counters_do_not_overflow() {
        let mut verdict = Verdict::new(u32::MAX, u32::MAX);
        assert!(verdict.counts(Passing) && verdict.counts(Passing));
    }
}
