//! `Line`: words that threads share, a cache line of them, and tables of such lines.
//!
//! Not here: what the words mean. A file of its own because what needs no crate (`atomic`) is built without any, too.

use crate::base::atomic::AtomicU64;
use std::alloc::Layout;
use std::alloc::handle_alloc_error;
use zerocopy::FromZeros;

/// As many words, at the start of a cache line.
#[derive(FromZeros)]
#[repr(align(64))]
pub struct Line<const WORDS: usize>(pub [AtomicU64; WORDS]);

/// So many lines of zeros, in memory that becomes resident where it is written: a table is mostly empty.
pub fn zeros<const WORDS: usize>(lines: usize) -> Box<[Line<WORDS>]> {
    // Made one by one they are the same only where the compiler sees it, which it does not in every build.
    FromZeros::new_box_zeroed_with_elems(lines)
        .unwrap_or_else(|_| handle_alloc_error(Layout::new::<Line<WORDS>>()))
}
