//! Pooled byte buffers of one worker: two sizes, reused last in first out so that the hot one is in cache.
//!
//! Not here: what the bytes are, and how large a body may be. Not shared between threads.

use crate::base::clock::Moment;
use std::cell::RefCell;

/// A buffer: its length is its size, always initialised. Not a `Vec`, because the runtime sets the length
/// of a vector to what it received.
pub type Buffer = Box<[u8]>;

/// Sizes of the buffers, and where received bytes go.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub small: usize,
    pub large: usize,
    /// Kept free in front of what is received, for a head of ours.
    pub front: usize,
    /// Kept free behind it, for framing of ours.
    pub back: usize,
}

/// Bytes that came, in a buffer of the small size with free room around them.
#[derive(Debug)]
pub struct Arrived {
    pub buffer: Buffer,
    pub start: usize,
    pub end: usize,
    /// When they were taken from the kernel.
    pub at: Moment,
}

/// Buffers of one worker.
pub struct Buffers {
    sizes: Sizes,
    keep: usize,
    small: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
}

impl Buffers {
    /// `keep`: buffers of each size that stay for reuse.
    pub fn new(sizes: Sizes, keep: usize) -> Self {
        Self { sizes, keep, small: RefCell::default(), large: RefCell::default() }
    }

    /// Where bytes are received in a small buffer.
    pub fn room(&self) -> std::ops::Range<usize> {
        self.sizes.front..self.sizes.small - self.sizes.back
    }

    /// A buffer of the small size. Its old content is still in it: callers track what they filled.
    pub fn small(&self) -> Buffer {
        self.small.borrow_mut().pop().unwrap_or_else(|| fresh(self.sizes.small))
    }

    pub fn large(&self) -> Buffer {
        self.large.borrow_mut().pop().unwrap_or_else(|| fresh(self.sizes.large))
    }

    /// A buffer of at least `bytes`.
    pub fn at_least(&self, bytes: usize) -> Buffer {
        if bytes <= self.sizes.small {
            self.small()
        } else if bytes <= self.sizes.large {
            self.large()
        } else {
            fresh(bytes)
        }
    }

    /// Takes a buffer back; odd sizes and those past `keep` are freed.
    pub fn give_back(&self, buffer: Buffer) {
        let shelf = if buffer.len() == self.sizes.small {
            &self.small
        } else if buffer.len() == self.sizes.large {
            &self.large
        } else {
            return;
        };
        let mut shelf = shelf.borrow_mut();
        if shelf.len() < self.keep {
            shelf.push(buffer);
        }
    }

    /// Frees half of what lies unused, so that a burst does not hold memory for ever.
    pub fn trim(&self) {
        for shelf in [&self.small, &self.large] {
            let mut shelf = shelf.borrow_mut();
            let half = shelf.len() / 2;
            shelf.truncate(half);
        }
    }
}

fn fresh(bytes: usize) -> Buffer {
    vec![0; bytes].into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_odd_ones_do_not() {
        let buffers = Buffers::new(Sizes { small: 16, large: 64, front: 4, back: 2 }, 1);
        let mut first = buffers.small();
        first[0] = 9;
        buffers.give_back(first);
        buffers.give_back(fresh(16));
        assert_eq!(buffers.small()[0], 9);
        assert_eq!(buffers.small()[0], 0);
        buffers.give_back(fresh(17));
        assert_eq!(buffers.at_least(17).len(), 64);
        assert_eq!(buffers.at_least(65).len(), 65);
    }

    #[test]
    fn trim_frees_half() {
        let buffers = Buffers::new(Sizes { small: 1, large: 2, front: 0, back: 0 }, 8);
        (0..4).for_each(|_| buffers.give_back(fresh(1)));
        buffers.trim();
        assert_eq!(buffers.small.borrow().len(), 2);
    }
}
