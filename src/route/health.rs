//! Is an instance in rotation? Consecutive failures take it out, consecutive probes that succeed bring it back.
//!
//! Not here: probing (`control`), and calls that failed after they were sent, which are the breaker's.

use crate::base::atomic::AtomicU64;
use crate::base::atomic::Ordering;
use crate::config::traffic::Health;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Up,
    Down,
}

/// Up at first: a server that was just configured is believed until it fails. Bit 16 says that it is down, the
/// low byte counts failures in a row, the next one successes in a row while it is down.
#[derive(Debug, Default)]
pub struct HealthCell(AtomicU64);

const DOWN: u64 = 1 << 16;
const SUCCESS: u64 = 1 << 8;
const BYTE: u64 = 0xff;

impl HealthCell {
    /// A cell that begins as `other` is now.
    pub fn as_of(other: &Self) -> Self {
        Self(AtomicU64::new(other.0.load(Ordering::Relaxed)))
    }

    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) & DOWN == 0
    }

    /// A probe failed, or a live call could not connect.
    pub fn failed(&self, settings: &Health) -> Option<Change> {
        let (before, after) = self.change(|word| {
            let failures = (word & BYTE).saturating_add(1).min(BYTE);
            let down = word & DOWN != 0 || failures >= u64::from(settings.unhealthy);
            failures | if down { DOWN } else { 0 }
        });
        (before & DOWN == 0 && after & DOWN != 0).then_some(Change::Down)
    }

    /// A probe succeeded.
    pub fn succeeded(&self, settings: &Health) -> Option<Change> {
        let (before, after) = self.change(|word| {
            let successes = ((word / SUCCESS) & BYTE) + 1;
            let stays_down = word & DOWN != 0 && successes < u64::from(settings.healthy);
            if stays_down { DOWN + successes * SUCCESS } else { 0 }
        });
        (before & DOWN != 0 && after & DOWN == 0).then_some(Change::Up)
    }

    /// A live call connected. Ends a row of failures of an instance that is up, and is no probe of one that is
    /// down. Writes only where there is something to end.
    pub fn connected(&self) {
        let word = self.0.load(Ordering::Relaxed);
        if word != 0 && word & DOWN == 0 {
            // Whoever changed it meanwhile knows more.
            let _ = self.0.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The word before and after; nothing is written where nothing changes.
    fn change(&self, next: impl Fn(u64) -> u64) -> (u64, u64) {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let after = next(before);
            if before == after {
                return (before, after);
            }
            match self.0.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (before, after),
                Err(seen) => before = seen,
            }
        }
    }
}
