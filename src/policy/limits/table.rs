//! The buckets of rates: lock-free, exact over all threads, in memory that never grows.
//!
//! A bucket is one 64-bit word: 20 bits of tag and 44 bits of time (`terms`), until when its calls are paid for. A
//! key, which is a keyed hash, names one line of eight buckets, the size of a cache line, and the tag of its bucket
//! there. A bucket whose time has passed is the same as none, so whoever needs a place writes over it: nothing is
//! freed and nothing grows.
//!
//! **Two keys in one bucket.** They must share line and tag: of the at most seven other live buckets of a line each
//! has a key's tag by a chance of 1 in 2^20 (tag 1 by twice that), so a key shares with odds of at most 1 in 149,796,
//! and in a table of which one bucket in ten is live, of 1 in 1.3 million. Both then have the room of one.
//!
//! **One key in two buckets.** Two threads that do not find their key may take different places, for one may see a
//! bucket pass that the other does not. So whoever has charged a bucket looks at the whole line once more. The fence
//! between makes at least one of two such threads see the other's bucket; who sees one puts its own charge back,
//! unites the two buckets and starts again. Charges move only from a higher place to a lower one, and are added there
//! before they are cleared here: looking from the highest place down misses none, and at no moment is less counted
//! than was admitted. `models/` checks this over all interleavings.
//!
//! **Two threads at one key.** Who loses the swap waits for a moment, and both pay a third of what they would
//! pay for a line that is passed to and fro (`Backoff`).
//!
//! **Time.** Threads may read the clock at different moments. A call counts at the moment that it brings, and
//! what is given back makes the calls since then count as early as the one that was taken back; the bound of
//! [`Terms`] holds for times read so, to within one unit.
//!
//! Not here: hashing and choosing keys, and reading the clock.

use crate::base::atomic::AtomicU64;
use crate::base::atomic::Backoff;
use crate::base::atomic::Ordering;
use crate::base::atomic::fence;
use crate::base::clock::Moment;
use crate::base::lines::Line;
use crate::base::lines::zeros;
use crate::policy::limits::terms::TOLERANCE_MAX;
use crate::policy::limits::terms::Terms;
use crate::policy::limits::terms::UNIT_NS;
use crate::policy::limits::terms::Verdict;
use std::ops::Range;

const TIME_BITS: u32 = 44;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const TAG_MASK: u64 = (1 << (u64::BITS - TIME_BITS)) - 1;
/// No live bucket has the tag 0.
const EMPTY: u64 = 0;
/// How far the clock readings of two threads may be apart, in units: a minute, for a thread that was not run.
const APART: u64 = 60 * 1_000_000_000 / UNIT_NS;
/// A time that is further ahead has passed, and only looks ahead because 44 bits wrap.
const AHEAD_MAX: u64 = TOLERANCE_MAX + APART;

/// What remains for times that have passed: over two days, until which [`Table::sweep`] must have been there.
const _: () = assert!((TIME_MASK - AHEAD_MAX) * UNIT_NS > 2 * 24 * 3_600 * 1_000_000_000);

/// Buckets of rates. `WAYS` is smaller than a cache line's eight in the models only.
pub struct Table<const WAYS: usize = 8> {
    lines: Box<[Line<WAYS>]>,
}

impl<const WAYS: usize> Table<WAYS> {
    /// Eight bytes a bucket, rounded up to a whole line.
    pub fn new(buckets: usize) -> Self {
        const { assert!(EMPTY == 0, "a line of zeros is empty") };
        Self { lines: zeros(buckets.div_ceil(WAYS).max(1)) }
    }

    /// Lines, for [`Table::sweep`].
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// What `take` would say. Takes nothing.
    pub fn check(&self, key: u64, terms: &Terms, cost: u64, now: Moment) -> Verdict {
        let view = self.view(key, terms, now);
        view.seat().map_or(Verdict::Full, |(_, word)| terms.verdict(view.owed(word), cost))
    }

    /// Takes `cost` calls from the bucket of `key` if they fit.
    pub fn take(&self, key: u64, terms: &Terms, cost: u64, now: Moment) -> Verdict {
        let view = self.view(key, terms, now);
        let mut backoff = Backoff::default();
        // A round is repeated only because another thread got on with its own call.
        loop {
            let Some((place, word)) = view.seat() else { return Verdict::Full };
            let owed = view.owed(word);
            let verdict = terms.verdict(owed, cost);
            if !verdict.has_room() {
                return verdict;
            }
            if !view.swap(place, word, view.word(owed + terms.price(cost))) {
                backoff.wait();
                continue;
            }
            fence(Ordering::SeqCst);
            if view.is_one() {
                return verdict;
            }
            view.put_back(place, terms.price(cost));
            // Or two threads could both be refused by what each has seen of the other and both have put back.
            fence(Ordering::SeqCst);
            if let Some(refusal) = view.unite(cost) {
                return refusal;
            }
        }
    }

    /// Undoes a `take` of the same key, terms and cost. A bucket that has meanwhile filled up stays full.
    pub fn give_back(&self, key: u64, terms: &Terms, cost: u64, now: Moment) {
        self.view(key, terms, now).put_back(WAYS - 1, terms.price(cost));
    }

    /// Clears the buckets of these lines whose time has passed, and counts the others. Each line must be swept at
    /// least daily, or a bucket of some days ago is taken for a live one.
    pub fn sweep(&self, lines: Range<usize>, now: Moment) -> usize {
        let now = units(now);
        let buckets = self.lines.get(lines).into_iter().flatten().flat_map(|line| &line.0);
        let live = |bucket: &&AtomicU64| {
            let word = bucket.load(Ordering::Acquire);
            // Whoever changes the word meanwhile makes it live.
            !passed(word, now) || word != EMPTY && !swap(bucket, word, EMPTY)
        };
        buckets.filter(live).count()
    }

    fn view<'a>(&'a self, key: u64, terms: &'a Terms, now: Moment) -> View<'a, WAYS> {
        // The upper half of the key, scaled to the lines: faster than a remainder. Below their number, because the
        // half is below 2^32.
        let line = ((key >> 32) * self.lines.len() as u64) >> 32;
        let line = &self.lines[usize::try_from(line).unwrap_or(0)].0;
        View { line, tag: (key & TAG_MASK).max(1), terms, now: units(now) }
    }
}

/// The line of one key as one call sees it.
struct View<'a, const WAYS: usize> {
    line: &'a [AtomicU64; WAYS],
    tag: u64,
    terms: &'a Terms,
    now: u64,
}

impl<const WAYS: usize> View<'_, WAYS> {
    /// Place and word of the key's lowest bucket, passed or not; where it has none, of the one that it would get.
    fn seat(&self) -> Option<(usize, u64)> {
        self.words().find(|(_, word)| self.holds(*word)).or_else(|| self.free())
    }

    /// Kept out of the way of a key that has a bucket.
    #[inline(never)]
    fn free(&self) -> Option<(usize, u64)> {
        self.words().find(|(_, word)| passed(*word, self.now))
    }

    fn words(&self) -> impl DoubleEndedIterator<Item = (usize, u64)> {
        let words = self.line.iter().map(|bucket| bucket.load(Ordering::Acquire));
        (0..WAYS).zip(words)
    }

    /// Whether the key has no second bucket. One that is not this call's has its charge too, and both fit.
    fn is_one(&self) -> bool {
        // From the highest place down, the way that charges move.
        self.words().rev().filter(|(_, word)| self.holds(*word)).nth(1).is_none()
    }

    /// Makes one bucket of the key's lowest two, unless both together are exhausted, which it returns.
    #[cold]
    fn unite(&self, cost: u64) -> Option<Verdict> {
        let mut own = self.words().filter(|(_, word)| self.holds(*word));
        let ((low_place, low), (high_place, high)) = (own.next()?, own.next()?);
        let moved = self.owed(high);
        let owed = self.owed(low) + moved;
        let verdict = self.terms.verdict(owed, cost);
        if !verdict.has_room() {
            return Some(verdict);
        }
        let added = moved == 0 || self.swap(low_place, low, self.word(owed));
        if added && !self.swap(high_place, high, EMPTY) {
            self.put_back(low_place, moved);
        }
        None
    }

    /// Takes `amount` units off what the key owes, from the bucket at `place` and those below it.
    #[inline(never)]
    fn put_back(&self, place: usize, mut amount: u64) {
        for bucket in self.line[..=place].iter().rev() {
            while amount > 0 {
                let word = bucket.load(Ordering::Acquire);
                let owed = self.owed(word);
                let part = owed.min(amount);
                if part == 0 {
                    break;
                }
                if swap(bucket, word, self.word(owed - part)) {
                    amount -= part;
                }
            }
        }
    }

    fn holds(&self, word: u64) -> bool {
        word >> TIME_BITS == self.tag
    }

    /// Units that the key owes in this bucket, 0 if it is another's. More than the terms allow comes from other terms,
    /// of an older configuration, and counts as nothing.
    fn owed(&self, word: u64) -> u64 {
        let ahead = ahead(word, self.now);
        if self.holds(word) && ahead <= self.terms.tolerance() + APART { ahead } else { 0 }
    }

    /// What owes nothing is dated back, so that a thread with an older clock sees it pass too.
    fn word(&self, owed: u64) -> u64 {
        let time = if owed == 0 { self.now.wrapping_sub(APART) } else { self.now + owed };
        self.tag << TIME_BITS | time & TIME_MASK
    }

    fn swap(&self, place: usize, old: u64, new: u64) -> bool {
        swap(&self.line[place], old, new)
    }
}

fn swap(bucket: &AtomicU64, old: u64, new: u64) -> bool {
    bucket.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

fn units(now: Moment) -> u64 {
    now.as_nanos() / UNIT_NS
}

/// Units from now to a bucket's time, modulo the width of the time.
fn ahead(word: u64, now: u64) -> u64 {
    word.wrapping_sub(now) & TIME_MASK
}

fn passed(word: u64, now: u64) -> bool {
    word == EMPTY || !(1..=AHEAD_MAX).contains(&ahead(word, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn a_full_line_refuses_new_keys_until_a_bucket_has_passed() {
        let table: Table = Table::new(1);
        let terms = Terms::new(1, 1_000, 1).unwrap();
        for key in 1..9 {
            assert!(table.take(key, &terms, 1, at(key)).has_room());
        }
        assert_eq!(table.check(9, &terms, 1, at(SECOND_NS - 16)), Verdict::Full);
        assert_eq!(table.take(9, &terms, 1, at(SECOND_NS - 16)), Verdict::Full);
        assert!(!table.take(1, &terms, 1, at(SECOND_NS - 16)).has_room(), "keys that are there stay");
        assert!(table.take(9, &terms, 1, at(SECOND_NS)).has_room(), "the place of key 1");
        assert!(!table.take(9, &terms, 1, at(SECOND_NS)).has_room());
    }

    #[test]
    fn a_bucket_of_days_ago_is_not_taken_for_a_live_one() {
        let table: Table = Table::new(1);
        let terms = Terms::new(1, 24 * 3_600_000, 1).unwrap();
        let wrap = 1 << 48;
        let start = at(wrap - SECOND_NS);
        assert!(table.take(1, &terms, 1, start).has_room());
        let day = 24 * 3_600 * SECOND_NS;
        assert!(!table.check(1, &terms, 1, at(wrap + day - SECOND_NS - 16)).has_room(), "still there");
        for days in [1, 2, 3] {
            let later = at(wrap + days * day);
            assert!(table.check(1, &terms, 1, later).has_room(), "after {days} days");
        }
        assert_eq!(table.sweep(0..1, at(wrap)), 1);
        assert_eq!(table.sweep(0..1, at(wrap + day)), 0);
        for hours in 0..24 * 10 {
            assert!(table.check(1, &terms, 1, at(wrap + day + hours * 3_600 * SECOND_NS)).has_room());
        }
    }

    #[test]
    fn a_bucket_of_other_terms_counts_as_nothing() {
        let table: Table = Table::new(1);
        let daily = Terms::new(1, 24 * 3_600_000, 1).unwrap();
        let quick = Terms::new(1_000, 1_000, 1).unwrap();
        assert!(table.take(1, &daily, 1, at(0)).has_room());
        assert!(table.take(1, &quick, 1, at(0)).has_room());
        assert!(!table.take(1, &quick, 1, at(0)).has_room());
    }

    #[test]
    fn what_is_given_back_is_at_most_what_was_taken() {
        let table: Table = Table::new(1);
        let terms = Terms::new(1, 1_000, 5).unwrap();
        assert!(table.take(1, &terms, 3, at(0)).has_room());
        table.give_back(2, &terms, 3, at(0));
        assert_eq!(table.check(1, &terms, 2, at(0)), Verdict::Room { left: 0, reset_ns: 5 * SECOND_NS });
        table.give_back(1, &terms, 2, at(SECOND_NS));
        assert_eq!(
            table.check(1, &terms, 5, at(SECOND_NS)),
            Verdict::Room { left: 0, reset_ns: 5 * SECOND_NS }
        );
        table.give_back(1, &terms, 2, at(SECOND_NS));
        assert!(!table.check(1, &terms, 6, at(SECOND_NS)).has_room());
    }
}
