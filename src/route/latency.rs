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
const BUCKETS: usize = ((LAST_BITS - FIRST_BITS) as usize) * STEPS as usize + 1;
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
    let step = clamped >> (doublings - STEP_BITS) & (STEPS - 1);
    (doublings - FIRST_BITS) as usize * STEPS as usize + step as usize
}

/// Of a bucket below `BUCKETS`.
fn upper_bound_ns(bucket: usize) -> u64 {
    let (doublings, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    (STEPS + step + 1) << (u64::from(FIRST_BITS - STEP_BITS) + doublings)
}
