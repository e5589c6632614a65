//! Counters with one writer, read by any thread without a read-modify-write.
//!
//! Not here: names and labels (that is `telemetry`).

use crossbeam_utils::CachePadded;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A number that one thread writes and others read: a plain load, add, store, so that no cache line
/// bounces between cores because of counting.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Only the owning thread may call this; two writers would lose counts (they would not corrupt).
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Only the owning thread may call this.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Only the owning thread may call this.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A value alone on its cache lines.
pub type Padded<T> = CachePadded<T>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let counter = Counter::new();
        counter.add(3);
        counter.sub(1);
        assert_eq!(counter.read(), 2);
    }
}
