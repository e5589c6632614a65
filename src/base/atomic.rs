//! The atomics of everything that several workers share, under one name, so that the models of `models/` can
//! run the same code on loom's.
//!
//! Not here: counters with one writer (`counter`).

pub use std::sync::atomic::AtomicU32;
pub use std::sync::atomic::AtomicU64;
pub use std::sync::atomic::Ordering;
pub use std::sync::atomic::fence;
