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

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Health = Health { interval_ms: 5_000, timeout_ms: 1_000, unhealthy: 3, healthy: 2 };

    /// `f` failed, `s` probe succeeded, `c` live call connected. Returns what was told, as `U` and `D`.
    fn run(events: &str, settings: &Health) -> (String, bool) {
        let cell = HealthCell::default();
        let told = events.chars().filter_map(|event| match event {
            'f' => cell.failed(settings),
            's' => cell.succeeded(settings),
            _ => {
                cell.connected();
                None
            }
        });
        let told = told.map(|change| if change == Change::Up { 'U' } else { 'D' }).collect();
        (told, cell.is_up())
    }

    #[test]
    fn rows_of_failures_and_successes_decide() {
        for (events, told, up) in [
            ("", "", true),
            ("ff", "", true),
            ("fff", "D", false),
            ("ffffffff", "D", false),
            ("ffsff", "", true),
            ("ffcff", "", true),
            ("ffcfff", "D", false),
            ("fffs", "D", false),
            ("fffss", "DU", true),
            ("fffsfs", "D", false),
            ("fffsfss", "DU", true),
            // A live call that connects is no probe.
            ("fffcccs", "D", false),
            ("fffscs", "DU", true),
            ("fffssff", "DU", true),
            ("fffssfff", "DUD", false),
        ] {
            assert_eq!(run(events, &SETTINGS), (told.to_owned(), up), "{events}");
        }
        let at_once = Health { unhealthy: 1, healthy: 1, ..SETTINGS };
        assert_eq!(run("fsfs", &at_once), ("DUDU".to_owned(), true));
        let slow = Health { unhealthy: 255, healthy: 255, ..SETTINGS };
        assert_eq!(run(&"f".repeat(254), &slow), (String::new(), true));
        let events = "f".repeat(300) + &"s".repeat(255);
        assert_eq!(run(&events, &slow), ("DU".to_owned(), true));
    }

    #[test]
    fn eight_threads_are_told_one_change() {
        let (cell, told) = (HealthCell::default(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let changes = (0..1_000).filter_map(|_| cell.failed(&SETTINGS)).count() as u64;
                    told.fetch_add(changes, Ordering::Relaxed);
                });
            }
        });
        assert_eq!((told.into_inner(), cell.is_up()), (1, false));
    }
}
