//! Calls in flight and outcomes counted, of one instance or one tool: one word, one addition when a call
//! starts and one when it ends.
//!
//! Not here: what an outcome means (`breaker`), and who compares calls in flight (`balance`).

use crate::base::atomic::AtomicU64;
use crate::base::atomic::Ordering;

/// Low 24 bits: calls in flight. More than there can be client connections of all workers together (12.8 million).
/// The 40 bits above number the outcomes; they wrap, so numbers are only ever subtracted (`distance`).
const IN_FLIGHT_BITS: u32 = 24;
const OUTCOME: u64 = 1 << IN_FLIGHT_BITS;
/// Bits of an outcome's number.
pub const NUMBER_BITS: u32 = 64 - IN_FLIGHT_BITS;

#[derive(Debug, Default)]
pub struct Flow(AtomicU64);

impl Flow {
    pub fn start(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The end of a call whose outcome counts. Returns the number of this outcome; the first is 1.
    pub fn count(&self) -> u64 {
        let before = self.0.fetch_add(OUTCOME - 1, Ordering::Relaxed);
        (before >> IN_FLIGHT_BITS).wrapping_add(1) & (u64::MAX >> IN_FLIGHT_BITS)
    }

    /// The end of a call whose outcome counts nothing.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn in_flight(&self) -> u64 {
        self.0.load(Ordering::Relaxed) & (OUTCOME - 1)
    }

    /// Number of the last outcome that was counted, 0 if there was none.
    pub fn outcomes(&self) -> u64 {
        self.0.load(Ordering::Relaxed) >> IN_FLIGHT_BITS
    }
}

/// Outcomes from number `earlier` to number `later`.
pub const fn distance(earlier: u64, later: u64) -> u64 {
    later.wrapping_sub(earlier) & (u64::MAX >> IN_FLIGHT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_numbered_and_calls_in_flight_counted() {
        let flow = Flow::default();
        for _ in 0..3 {
            flow.start();
        }
        assert_eq!((flow.count(), flow.count()), (1, 2));
        flow.leave();
        assert_eq!((flow.in_flight(), flow.outcomes()), (0, 2));
    }

    #[test]
    fn numbers_wrap_and_leave_the_calls_in_flight_alone() {
        let last = u64::MAX >> IN_FLIGHT_BITS;
        let flow = Flow(AtomicU64::new(last << IN_FLIGHT_BITS | 5));
        let next = flow.count();
        assert_eq!((next, distance(last, next), flow.in_flight()), (0, 1, 4));
    }
}
