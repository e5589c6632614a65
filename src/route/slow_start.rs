//! Slow start: an instance that comes back begins with a tenth of its share of the calls, and the share grows with time.
//!
//! Not here: what a return is (`cells`), and how each kind of balance gives an instance its share (`balance`).

use crate::base::atomic::AtomicU64;
use crate::base::atomic::Ordering;
use crate::base::clock::Moment;
use std::sync::Arc;

/// A whole share. Shares are in thousandths of it.
pub const WHOLE: u64 = 1_000;
/// What an instance begins with: without calls it would be as cold at the end of the time as at its beginning.
const FIRST: u64 = 100;

/// When any instance of a server came back last. Lines of its own: every choice reads it, and what lies beside it may be
/// written by every call.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct LastReturn(Mark);

/// When an instance came back last. Outlives reloads, as the instance does.
#[derive(Debug)]
pub struct ReturnCell {
    at: Mark,
    of_server: Arc<LastReturn>,
}

/// Nanoseconds of the clock; 0 for never.
#[derive(Debug, Default)]
struct Mark(AtomicU64);

impl Mark {
    fn note(&self, now: Moment) {
        self.0.fetch_max(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// Nanoseconds since then, none if they are `window_ms` or more. A clock that is a little behind sees none.
    fn age_ns(&self, window_ms: u64, now: Moment) -> Option<u64> {
        let at = self.0.load(Ordering::Relaxed);
        let age_ns = now.nanos_since(Moment::from_nanos(at));
        (at != 0 && age_ns < window_ms.saturating_mul(1_000_000)).then_some(age_ns)
    }
}

impl LastReturn {
    /// Whether an instance may have less than its whole share.
    pub fn is_within(&self, window_ms: u64, now: Moment) -> bool {
        self.0.age_ns(window_ms, now).is_some()
    }
}

impl ReturnCell {
    /// Of an instance that was always there.
    pub fn new(of_server: Arc<LastReturn>) -> Self {
        Self { at: Mark::default(), of_server }
    }

    /// A cell that begins as `other` is now.
    pub fn as_of(other: &Self) -> Self {
        let at = Mark(AtomicU64::new(other.at.0.load(Ordering::Relaxed)));
        Self { at, of_server: Arc::clone(&other.of_server) }
    }

    /// The instance comes back.
    pub fn note(&self, now: Moment) {
        self.at.note(now);
        self.of_server.0.note(now);
    }

    /// In thousandths, where a share takes `window_ms` to be whole.
    pub fn share(&self, window_ms: u64, now: Moment) -> u64 {
        let Some(age_ns) = self.at.age_ns(window_ms, now) else { return WHOLE };
        // Younger than the time, so that is not 0.
        FIRST + (WHOLE - FIRST).saturating_mul(age_ns) / window_ms.saturating_mul(1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_MS: u64 = 86_400_000;

    fn returned(at: Moment) -> ReturnCell {
        let cell = ReturnCell::new(Arc::default());
        cell.note(at);
        cell
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        let at = Moment::from_nanos(7);
        let cell = returned(at);
        for (after_ms, share) in [
            (0, 100),
            (1, 100),
            (12, 101),
            (1_000, 190),
            (5_000, 550),
            (9_999, 999),
            (10_000, 1_000),
            (DAY_MS, 1_000),
        ] {
            let now = at.plus_millis(after_ms);
            assert_eq!(cell.share(10_000, now), share, "after {after_ms} ms");
            assert_eq!(cell.of_server.is_within(10_000, now), after_ms < 10_000, "after {after_ms} ms");
        }
        assert_eq!(cell.share(10_000, Moment::ZERO), 100, "a clock that is a little behind");
        assert_eq!(cell.share(DAY_MS, at.plus_millis(DAY_MS / 2)), 550);
        assert_eq!(cell.share(DAY_MS, Moment::NEVER), 1_000);
    }

    #[test]
    fn what_never_went_has_its_whole_share() {
        let cell = ReturnCell::new(Arc::default());
        for now in [Moment::ZERO, Moment::from_nanos(1), Moment::NEVER] {
            assert_eq!((cell.share(DAY_MS, now), cell.of_server.is_within(DAY_MS, now)), (WHOLE, false));
        }
        // The clock begins at 0: a return at that very moment is one, too.
        cell.note(Moment::ZERO);
        assert!(cell.of_server.is_within(1, Moment::ZERO));
    }

    #[test]
    fn a_later_return_begins_anew_and_an_earlier_one_says_nothing() {
        let cell = returned(Moment::from_nanos(1).plus_millis(5_000));
        cell.note(Moment::from_nanos(1));
        assert_eq!(cell.share(10_000, Moment::from_nanos(1).plus_millis(10_000)), 550);
        cell.note(Moment::from_nanos(1).plus_millis(10_000));
        assert_eq!(cell.share(10_000, Moment::from_nanos(1).plus_millis(10_000)), 100);
    }

    #[test]
    fn of_several_instances_the_last_return_counts_for_the_server() {
        let first = returned(Moment::from_nanos(1).plus_millis(9_000));
        let second = ReturnCell::new(Arc::clone(&first.of_server));
        second.note(Moment::from_nanos(1));
        let now = Moment::from_nanos(1).plus_millis(12_000);
        assert!(first.of_server.is_within(10_000, now));
        assert_eq!((first.share(10_000, now), second.share(10_000, now)), (370, WHOLE));
        let taken_over = ReturnCell::as_of(&first);
        assert!(Arc::ptr_eq(&taken_over.of_server, &second.of_server));
        assert_eq!(taken_over.share(10_000, now), 370);
    }

    proptest! {
        /// Never nothing, never more than the whole, never less than before.
        #[test]
        fn a_share_only_grows(at in 1..u64::MAX / 2, window_ms in 1..=DAY_MS, steps in prop::collection::vec(0..DAY_MS, 1..20)) {
            let cell = returned(Moment::from_nanos(at));
            let (mut now, mut before) = (Moment::from_nanos(at), FIRST);
            for step in steps {
                now = now.plus_millis(step);
                let share = cell.share(window_ms, now);
                prop_assert!((before..=WHOLE).contains(&share), "{before}, then {share}");
                before = share;
            }
        }
    }
}
