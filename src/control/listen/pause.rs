//! How long to wait before a stream is opened anew.
//!
//! Not here: opening one. Pure: time is an argument.

use crate::config::limits;

#[derive(Default)]
pub(in crate::control) struct Pause {
    failures: u32,
}

impl Pause {
    /// The stream has ended, or did not begin, after so long: milliseconds to wait, of which `spread` thousandths of a
    /// quarter are taken off, so that gateways do not all come at once.
    pub(in crate::control) fn after(&mut self, lasted_ms: u64, spread: u64) -> u64 {
        if lasted_ms >= limits::LISTEN_RETRY_MS_MAX {
            self.failures = 0;
        }
        let pause_ms = (limits::LISTEN_RETRY_MS << self.failures.min(16)).min(limits::LISTEN_RETRY_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        pause_ms - pause_ms / 4 * spread.min(1_000) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_begin_anew_after_a_long_stream() {
        let mut pause = Pause::default();
        let pauses: Vec<u64> = (0..10).map(|_| pause.after(10, 0)).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(pause.after(10, 1_000), 22_500);
        assert_eq!((pause.after(30_000, 0), pause.after(29_999, 0)), (250, 500));
    }
}
