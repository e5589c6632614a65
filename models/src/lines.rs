//! `base::lines` for what is built without its crate, or on loom's atomics: the same, made one by one.
//!
//! Not here: anything that is compiled into the product.

use crate::base::atomic::AtomicU64;

#[repr(align(64))]
pub struct Line<const WORDS: usize>(pub [AtomicU64; WORDS]);

pub fn zeros<const WORDS: usize>(lines: usize) -> Box<[Line<WORDS>]> {
    (0..lines).map(|_| Line(std::array::from_fn(|_| AtomicU64::new(0)))).collect()
}
