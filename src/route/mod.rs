//! Where does a call go? Server and instance, chosen without I/O.
//!
//! Not here: sockets, clocks, and whether the call may go at all. What an instance looks like to the network
//! is `upstream`'s business; here it is an index.

/// Which instances to try, in order, each at most once: round robin from where the last call stopped.
///
/// The cursor belongs to one worker, so that the choice needs no shared memory: with W workers the counts of
/// two instances differ by at most W.
#[derive(Clone, Copy, Debug)]
pub struct Candidates {
    next: usize,
    left: usize,
    count: usize,
}

/// Starts at the cursor and advances it by one. `count` is the number of instances.
pub fn round_robin(cursor: &std::cell::Cell<usize>, count: usize) -> Candidates {
    let first = if count == 0 { 0 } else { cursor.get() % count };
    cursor.set(first.wrapping_add(1));
    Candidates { next: first, left: count, count }
}

impl Iterator for Candidates {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let chosen = self.next;
        self.left -= 1;
        self.next = (self.next + 1) % self.count;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn every_instance_gets_its_turn() {
        let cursor = Cell::new(0);
        let mut counts = [0; 3];
        for _ in 0..9_000 {
            counts[round_robin(&cursor, 3).next().unwrap()] += 1;
        }
        assert_eq!(counts, [3_000; 3]);
    }

    #[test]
    fn a_failed_one_is_followed_by_each_other_once() {
        let cursor = Cell::new(1);
        assert_eq!(round_robin(&cursor, 3).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(round_robin(&cursor, 3).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(round_robin(&cursor, 0).count(), 0);
    }

    #[test]
    fn fewer_instances_after_a_reload_are_no_problem() {
        let cursor = Cell::new(7);
        assert_eq!(round_robin(&cursor, 2).collect::<Vec<_>>(), [1, 0]);
    }
}
