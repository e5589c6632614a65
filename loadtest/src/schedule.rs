//! When calls are due. Open loop: at a fixed rate from the start, whatever the answers do, so that a call
//! that had to wait for a free connection is counted from the moment it should have left (coordinated
//! omission). Closed loop: whenever a connection is free.
//! Not here: the clock; time is nanoseconds that the caller gives.

/// The due times of one thread's calls.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start: u64,
    end: u64,
    most: u64,
    /// Calls a second times 1,000; 0 is the closed loop.
    milli_rate: u64,
    issued: u64,
}

impl Schedule {
    /// From `start` until `end` (nanoseconds), at most `most` calls, at `rate` calls a second, or as fast as
    /// connections get free if there is no rate.
    pub(crate) fn new(start: u64, end: u64, most: u64, rate: Option<f64>) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=1e12")]
        let milli_rate = rate.map_or(0, |rate| (rate * 1000.0).clamp(1.0, 1e12) as u64);
        Self { start, end, most, milli_rate, issued: 0 }
    }

    /// A closed loop starts when its connections are there; an open loop keeps its appointed time, which is
    /// the same for all threads.
    pub(crate) fn connected(&mut self, now: u64) {
        if !self.is_open_loop() {
            let late = now.saturating_sub(self.start);
            self.start += late;
            self.end = self.end.saturating_add(late);
        }
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Call number `index` is due then.
    fn due_at(&self, index: u64) -> u64 {
        let nanos = u128::from(index) * 1_000_000_000_000 / u128::from(self.milli_rate.max(1));
        self.start.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The due time of the next call, if it is due by `now`.
    pub(crate) fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.next_due(now)?;
        if due > now {
            return None;
        }
        self.issued += 1;
        Some(due)
    }

    /// When the next call is due: `now` in a closed loop. `None` once there will be none.
    pub(crate) fn next_due(&self, now: u64) -> Option<u64> {
        let due = if self.milli_rate == 0 { now.max(self.start) } else { self.due_at(self.issued) };
        (due < self.end && self.issued < self.most).then_some(due)
    }

    pub(crate) fn is_open_loop(&self) -> bool {
        self.milli_rate > 0
    }

    /// Calls that were due and never left, after the end of an open loop.
    pub(crate) fn unsent(&self) -> u64 {
        if !self.is_open_loop() || self.end == u64::MAX {
            return 0;
        }
        let span = u128::from(self.end.saturating_sub(self.start)) * u128::from(self.milli_rate);
        let all = u64::try_from(span.div_ceil(1_000_000_000_000)).unwrap_or(u64::MAX).min(self.most);
        all.saturating_sub(self.issued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MILLI: u64 = 1_000_000;

    /// Latencies that a schedule counts, through one connection to an upstream that answers in 0.1 ms and
    /// stands still for the 30th second.
    fn simulate(rate: Option<f64>, seconds: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(0, seconds * SECOND, u64::MAX, rate);
        let (mut now, mut latencies) = (0, Vec::new());
        while let Some(due) = schedule.next_due(now) {
            now = now.max(due);
            let due = schedule.take(now).unwrap();
            let left = if (30 * SECOND..31 * SECOND).contains(&now) { 31 * SECOND } else { now };
            now = left + MILLI / 10;
            latencies.push(now - due);
        }
        latencies
    }

    fn share_over(latencies: &[u64], limit: u64) -> f64 {
        let over = latencies.iter().filter(|&&latency| latency > limit).count();
        over as f64 / latencies.len() as f64
    }

    #[test]
    fn an_open_loop_shows_the_calls_that_a_stop_delayed() {
        let latencies = simulate(Some(1000.0), 60);
        assert_eq!(latencies.len(), 60_000);
        // 1,000 calls fall into the stop, 110 more wait while the queue empties.
        let share = share_over(&latencies, MILLI);
        assert!((0.017..0.020).contains(&share), "{share}");
        let longest = latencies.iter().max().unwrap();
        assert!((SECOND..SECOND + MILLI).contains(longest), "{longest}");
    }

    #[test]
    fn a_closed_loop_would_show_one() {
        let latencies = simulate(None, 60);
        assert_eq!(latencies.iter().filter(|&&latency| latency > MILLI).count(), 1);
    }

    #[test]
    fn due_times_do_not_drift() {
        let mut schedule = Schedule::new(5, SECOND + 5, u64::MAX, Some(3.0));
        let due: Vec<_> = std::iter::from_fn(|| schedule.take(SECOND * 2)).collect();
        assert_eq!(due, [5, 333_333_338, 666_666_671]);
        assert_eq!(schedule.unsent(), 0);
    }

    #[test]
    fn connecting_takes_no_time_from_a_closed_loop() {
        for (rate, end) in [(None, 3 * SECOND), (Some(10.0), SECOND)] {
            let mut schedule = Schedule::new(0, SECOND, u64::MAX, rate);
            schedule.connected(2 * SECOND);
            assert_eq!(schedule.end, end);
        }
    }

    #[test]
    fn what_never_left_is_known() {
        let mut schedule = Schedule::new(0, SECOND, u64::MAX, Some(100.0));
        assert!(schedule.take(SECOND).is_some());
        assert_eq!((schedule.issued, schedule.unsent()), (1, 99));
        let mut few = Schedule::new(0, SECOND, 2, Some(100.0));
        assert_eq!(std::iter::from_fn(|| few.take(SECOND)).count(), 2);
        assert_eq!(few.unsent(), 0);
    }
}
