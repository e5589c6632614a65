//! The atomics of everything that several workers share, under one name, so that the models of `models/` can
//! run the same code on loom's, and how long a thread stays away from one that another thread is at.
//!
//! Not here: counters with one writer (`counter`).

pub use std::sync::atomic::AtomicU32;
pub use std::sync::atomic::AtomicU64;
pub use std::sync::atomic::Ordering;
pub use std::sync::atomic::fence;

/// Pauses before the first new attempt, some two thirds of a microsecond: time for dozens of attempts of the other thread.
const PAUSES_FIRST: u32 = 32;
/// Before each attempt after the third: some five microseconds. Hardly any thread loses four times in a row.
const PAUSES_MAX: u32 = 256;

/// The waits of one thread whose compare-and-swap on a word is lost to another thread, each twice as long as the one before.
///
/// Two threads that try again at once pass the cache line to and fro, which costs each of them many times what it asks for. While
/// one of them pauses, the other gets on with the line to itself, and both pay less: bounded exponential backoff (Anderson, "The
/// Performance of Spin Lock Alternatives for Shared-Memory Multiprocessors", 1990). A word that nobody else is at costs nothing.
pub struct Backoff {
    pauses: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pauses: PAUSES_FIRST }
    }
}

impl Backoff {
    // A call would cost those instructions that never wait.
    #[inline]
    pub fn wait(&mut self) {
        for _ in 0..self.pauses {
            std::hint::spin_loop();
        }
        self.pauses = (self.pauses * 2).min(PAUSES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(backoff.pauses);
            backoff.wait();
        }
        assert_eq!(waits, [32, 64, 128, 256, 256]);
    }
}
