//! Retry budget of one worker for one server: attempts after the first are a share of the calls, so that
//! retries cannot multiply the load of a server that fails.
//!
//! Not here: whether a call may be sent again at all (the worker).

use crate::config::traffic::Retry;
use std::cell::Cell;

const ATTEMPT: u32 = 1_000;
/// Attempts that calm times may save up: enough for a server that restarts, not for a storm.
const SAVED_MAX: u32 = 10 * ATTEMPT;

/// In thousandths of an attempt. Starts empty, so that attempts after the first never exceed their share of
/// the calls, from the first call on.
#[derive(Debug, Default)]
pub struct RetryBudget(Cell<u32>);

impl RetryBudget {
    /// For each call, before its first attempt.
    pub fn deposit(&self, settings: &Retry) {
        self.0.set(self.0.get().saturating_add(settings.budget_permille).min(SAVED_MAX));
    }

    pub fn may_retry(&self) -> bool {
        self.0.get() >= ATTEMPT
    }

    /// An attempt that was paid for and not made.
    pub fn give_back(&self) {
        self.0.set(self.0.get().saturating_add(ATTEMPT).min(SAVED_MAX));
    }

    /// Pays for one more attempt, if there is enough for it.
    pub fn take(&self) -> bool {
        let left = self.0.get().checked_sub(ATTEMPT);
        self.0.set(left.unwrap_or(self.0.get()));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::traffic::Hedge;

    fn requests(calls: u32, budget_permille: u32) -> u32 {
        let settings = Retry { max: 1, budget_permille, hedge: Hedge::Off };
        let budget = RetryBudget::default();
        let attempts = |_| {
            budget.deposit(&settings);
            let may = budget.may_retry();
            assert_eq!(budget.take(), may);
            1 + u32::from(may)
        };
        (0..calls).map(attempts).sum()
    }

    #[test]
    fn retries_are_a_share_of_the_calls() {
        for (calls, permille, expected) in [
            (1_000, 100, 1_100),
            (9, 100, 9),
            (10, 100, 11),
            (1_000, 0, 1_000),
            (1_000, 1_000, 2_000),
            (7, 300, 9),
        ] {
            assert_eq!(requests(calls, permille), expected, "{calls} calls at {permille}");
        }
    }

    #[test]
    fn calm_times_save_up_ten_attempts() {
        let settings = Retry { max: 1, budget_permille: 100, hedge: Hedge::Off };
        let budget = RetryBudget::default();
        for _ in 0..100_000 {
            budget.deposit(&settings);
        }
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10);
    }
}
