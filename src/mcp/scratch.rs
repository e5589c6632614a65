//! The memory that reading a body needs, kept by a worker from call to call.
//!
//! Not here: the body itself, which is never written to.

use crate::config::limits;
use simd_json::Buffers;
use simd_json::Tape;

/// One per worker: once warm, a call allocates nothing.
pub struct Scratch {
    /// The copy that simd-json parses and unescapes in, with its padding.
    pub(crate) padded: Vec<u8>,
    pub(crate) buffers: Buffers,
    /// Empty between calls; only its memory stays.
    pub(crate) tape: Tape<'static>,
    /// Unescaped strings of a message that the skipper reads.
    pub(crate) text: String,
}

impl Scratch {
    pub fn new() -> Self {
        Self {
            padded: Vec::new(),
            buffers: Buffers::with_max_depth(0, limits::JSON_DEPTH_MAX),
            tape: Tape(Vec::new()),
            text: String::new(),
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
