//! The atomics of everything that several workers share, under one name, so that the models of `models/` can
//! run the same code on loom's.
//!
//! Not here: counters with one writer (`counter`).

pub use std::sync::atomic::AtomicU32;
pub use std::sync::atomic::AtomicU64;
pub use std::sync::atomic::Ordering;
pub use std::sync::atomic::fence;

/// As many zeros: copied as a whole, because a build for tests would make millions one by one at every start.
pub const fn zeros<const COUNT: usize>() -> [AtomicU64; COUNT] {
    [const { AtomicU64::new(0) }; COUNT]
}
