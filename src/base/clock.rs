//! The only reader of time. Everything pure takes a [`Moment`] as an argument.
//!
//! Not here: timers. Deadlines are compared by `worker::watch`, once a tick.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds of CLOCK_MONOTONIC since the process asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub const ZERO: Self = Self(0);
    /// Later than every deadline that can be set.
    pub const NEVER: Self = Self(u64::MAX);

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds since `earlier`, 0 if that is not earlier.
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000_000)))
    }
}

/// CLOCK_MONOTONIC through the vDSO: about 20 ns.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Moment {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(std::time::Instant::now);
    let since = std::time::Instant::now().saturating_duration_since(start);
    // 584 years fit. In 64 bits, because this runs several times a call. Not rustix's clock: its search for
    // the vDSO crashes under valgrind, with which calls are measured.
    Moment(since.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(since.subsec_nanos())))
}

/// Wall clock since the Unix epoch; zero if the clock stands before it.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Nanoseconds since the Unix epoch; they end in 2554.
pub fn unix_nanos() -> u64 {
    u64::try_from(wall().as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch.
pub fn unix_millis() -> u64 {
    u64::try_from(wall().as_millis()).unwrap_or(u64::MAX)
}

/// Processor time of the calling thread: what a test bounds where a loaded machine must not fail it.
#[cfg(test)]
pub(crate) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_order_and_saturate() {
        let a = Moment::from_nanos(5);
        assert_eq!(a.plus_millis(1).nanos_since(a), 1_000_000);
        assert_eq!(a.nanos_since(a.plus_millis(1)), 0);
        assert_eq!(a.plus_millis(u64::MAX), Moment::NEVER);
        assert!(now() <= now());
        let before = thread_cpu();
        while thread_cpu() == before {}
    }
}
