//! How long calls to a server take, as one worker saw it: a histogram that forgets, for hedging.
//!
//! Not here: the histograms of `/metrics`, which forget nothing.

use std::cell::Cell;

/// Buckets of one doubling: a quantile is at most an eighth too high.
const STEPS: u64 = 8;
const STEP_BITS: u32 = STEPS.ilog2();
/// The first bucket is everything up to 2^16 ns (66 µs), the last everything from 2^40 ns (18 minutes).
const FIRST_BITS: u32 = 16;
const LAST_BITS: u32 = 40;
const BUCKETS: usize = ((LAST_BITS - FIRST_BITS) << STEP_BITS) as usize + 1;
/// Fewer say nothing about the slowest twentieth.
const SAMPLES_MIN: u32 = 20;
/// Here every bucket is halved: what is older than a thousand calls hardly counts.
const SAMPLES_MAX: u32 = 1_024;

#[derive(Debug)]
pub struct Latencies {
    buckets: [Cell<u32>; BUCKETS],
    samples: Cell<u32>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: [const { Cell::new(0) }; BUCKETS], samples: Cell::new(0) }
    }
}

impl Latencies {
    pub fn observe(&self, latency_ns: u64) {
        if self.samples.get() >= SAMPLES_MAX {
            self.halve();
        }
        let Some(bucket) = self.buckets.get(bucket_of(latency_ns)) else { return };
        bucket.set(bucket.get() + 1);
        self.samples.set(self.samples.get() + 1);
    }

    /// Nanoseconds in which `percent` of 100 calls were answered; none until there are 20 samples.
    pub fn quantile(&self, percent: u32) -> Option<u64> {
        let samples = self.samples.get();
        if samples < SAMPLES_MIN {
            return None;
        }
        let wanted = (samples * percent.min(100)).div_ceil(100).max(1);
        let mut passed = 0;
        let bucket = self.buckets.iter().position(|bucket| {
            passed += bucket.get();
            passed >= wanted
        });
        bucket.map(upper_bound_ns)
    }

    fn halve(&self) {
        let mut samples = 0;
        for bucket in &self.buckets {
            bucket.set(bucket.get() / 2);
            samples += bucket.get();
        }
        self.samples.set(samples);
    }
}

fn bucket_of(latency_ns: u64) -> usize {
    let clamped = latency_ns.clamp(1 << FIRST_BITS, 1 << LAST_BITS);
    let doublings = clamped.ilog2();
    let step = (clamped >> (doublings - STEP_BITS)) & (STEPS - 1);
    ((doublings - FIRST_BITS) << STEP_BITS) as usize + (step & 0xff) as usize
}

/// Of a bucket below `BUCKETS`.
fn upper_bound_ns(bucket: usize) -> u64 {
    let (doublings, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    (STEPS + step + 1) << (u64::from(FIRST_BITS - STEP_BITS) + doublings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_quantile_is_at_most_an_eighth_too_high() {
        let latencies = Latencies::default();
        for millis in 1..=19 {
            latencies.observe(millis * MS);
        }
        assert_eq!(latencies.quantile(95), None);
        latencies.observe(20 * MS);
        for (percent, millis) in [(95, 19), (50, 10), (100, 20), (1, 1)] {
            let found = latencies.quantile(percent).unwrap();
            assert!((millis * MS..=millis * MS * 9 / 8).contains(&found), "p{percent}: {found}");
        }
    }

    #[test]
    fn every_latency_lies_in_its_bucket() {
        for latency_ns in
            (17..40).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + (1 << (bits - 2))])
        {
            let bucket = bucket_of(latency_ns);
            let lower = if bucket == 0 { 0 } else { upper_bound_ns(bucket - 1) };
            assert!((lower..upper_bound_ns(bucket)).contains(&latency_ns), "{latency_ns}");
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn a_slower_server_is_noticed_within_a_thousand_calls() {
        let latencies = Latencies::default();
        (0..100_000).for_each(|_| latencies.observe(20 * MS));
        assert!(latencies.quantile(95).unwrap() < 25 * MS);
        (0..1_000).for_each(|_| latencies.observe(800 * MS));
        assert!(latencies.quantile(95).unwrap() > 800 * MS);
        assert!(latencies.samples.get() <= SAMPLES_MAX);
    }
}
