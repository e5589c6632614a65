//! What may not be forgotten while it lasts: what quotas have used, and what counts of tokens owe.
//!
//! A key, which is a keyed hash, has one cell of 16 bytes: the key and one word. A cell is claimed by one
//! compare-and-swap and keeps its key as long as the process runs, so a key never has two; the price is that a key,
//! once seen, holds its place, and that a new one is refused as `Full` when its places are gone. Times of quotas are
//! nanoseconds since the Unix epoch, because calendars are; those of debts are a process's own, which nobody sets.
//!
//! Not here: the calendar (who says when a window ends), and writing to disk (control).

use crate::base::atomic::AtomicU64;
use crate::base::atomic::Backoff;
use crate::base::atomic::Ordering;
use crate::policy::limits::terms::Terms;
use crate::policy::limits::terms::UNIT_NS;
use crate::policy::limits::terms::Verdict;

/// Neighbouring cells that a key may have: bounds the search. Past it: `Full`.
const PROBES_MAX: usize = 64;
/// No key is 0, and a word of 0 counts nothing.
const VACANT: u64 = 0;
const USED_BITS: u32 = 36;
/// Calls of one window that can be counted.
pub const USED_MAX: u64 = (1 << USED_BITS) - 1;
const MINUTE_NS: u64 = 60 * 1_000_000_000;

/// What has been used of quotas. A word is the end of its window, in minutes, and what was used of it.
pub struct Quotas(Cells);

/// `count` in one calendar window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// More than [`USED_MAX`] is the same as that.
    pub count: u64,
    /// End of the window, a whole minute. It names the window: a later one begins with nothing used.
    pub ends_ns: u64,
}

/// What counts of tokens owe. A word is the time until when they are paid for, in units of `terms`.
pub struct Debts(Cells);

/// A cell as control keeps it over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub key: u64,
    pub word: u64,
}

impl Quotas {
    /// 16 bytes a cell.
    pub fn new(cells: usize) -> Self {
        Self(Cells::new(cells))
    }

    /// What `take` would say. Takes nothing.
    pub fn check(&self, key: u64, quota: &Quota, cost: u64, now_ns: u64) -> Verdict {
        self.0.peek(key).map_or(Verdict::Full, |word| Used::of(word, quota).verdict(quota, cost, now_ns))
    }

    /// Takes `cost` calls if they fit. A caller whose window is over, because another's clock is ahead, takes from the
    /// window that has begun: an old one is never opened again.
    pub fn take(&self, key: u64, quota: &Quota, cost: u64, now_ns: u64) -> Verdict {
        let Some(cell) = self.0.claim(key) else { return Verdict::Full };
        let mut backoff = Backoff::default();
        loop {
            let word = cell.load(Ordering::Acquire);
            let used = Used::of(word, quota);
            let verdict = used.verdict(quota, cost, now_ns);
            if !verdict.has_room() || swap(cell, word, used.plus(cost)) {
                return verdict;
            }
            backoff.wait();
        }
    }

    /// Undoes a `take` of the same key and cost, unless its window is over.
    pub fn give_back(&self, key: u64, quota: &Quota, cost: u64) {
        let Some(cell) = self.0.find(key) else { return };
        loop {
            let word = cell.load(Ordering::Acquire);
            let used = Used::of(word, quota);
            let late = used.ends_minute != quota.ends_ns / MINUTE_NS;
            if late || swap(cell, word, used.minus(cost)) {
                return;
            }
        }
    }

    /// Whether the key has a cell.
    pub fn remembers(&self, key: u64) -> bool {
        self.0.find(key).is_some()
    }

    /// The cells whose window is not over.
    pub fn snapshot(&self, now_ns: u64) -> impl Iterator<Item = Kept> {
        self.0.kept().filter(move |kept| (kept.word >> USED_BITS) * MINUTE_NS > now_ns)
    }

    /// Brings a cell back; one that counts more by now stays. False if there is no place for it.
    pub fn seed(&self, kept: Kept) -> bool {
        self.0.seed(kept)
    }
}

/// A word of a quota, as a caller of one window sees it.
struct Used {
    ends_minute: u64,
    count: u64,
}

impl Used {
    fn of(word: u64, quota: &Quota) -> Self {
        let seen = Self { ends_minute: word >> USED_BITS, count: word & USED_MAX };
        let ends_minute = quota.ends_ns / MINUTE_NS;
        if seen.ends_minute < ends_minute { Self { ends_minute, count: 0 } } else { seen }
    }

    fn verdict(&self, quota: &Quota, cost: u64, now_ns: u64) -> Verdict {
        let count = quota.count.min(USED_MAX);
        let reset_ns = (self.ends_minute * MINUTE_NS).saturating_sub(now_ns);
        match count.checked_sub(self.count.saturating_add(cost)) {
            Some(left) => Verdict::Room { left, reset_ns },
            None if cost > count => Verdict::Exhausted { retry_ns: u64::MAX, reset_ns },
            None => Verdict::Exhausted { retry_ns: reset_ns, reset_ns },
        }
    }

    /// Only after a verdict of room, which keeps the sum below `USED_MAX`.
    const fn plus(&self, cost: u64) -> u64 {
        self.ends_minute << USED_BITS | (self.count + cost)
    }

    const fn minus(&self, cost: u64) -> u64 {
        self.ends_minute << USED_BITS | self.count.saturating_sub(cost)
    }
}

impl Debts {
    /// 16 bytes a cell.
    pub fn new(cells: usize) -> Self {
        Self(Cells::new(cells))
    }

    /// Whether at least one token is left, and how many.
    pub fn check(&self, key: u64, terms: &Terms, now_ns: u64) -> Verdict {
        let Some(word) = self.0.peek(key) else { return Verdict::Full };
        let owed = word.saturating_sub(now_ns / UNIT_NS);
        match terms.verdict(owed, 1) {
            // Nothing is taken before the tokens are known.
            Verdict::Room { left, .. } => Verdict::Room { left: left + 1, reset_ns: owed * UNIT_NS },
            refusal => refusal,
        }
    }

    /// Charges `cost` tokens, more than is left too: they have been delivered. False if there is no place to count
    /// them.
    pub fn charge(&self, key: u64, terms: &Terms, cost: u64, now_ns: u64) -> bool {
        let Some(cell) = self.0.claim(key) else { return false };
        let mut backoff = Backoff::default();
        loop {
            let word = cell.load(Ordering::Acquire);
            let paid = word.max(now_ns / UNIT_NS).saturating_add(terms.price(cost));
            if swap(cell, word, paid) {
                return true;
            }
            backoff.wait();
        }
    }

    /// Whether the key has a cell.
    pub fn remembers(&self, key: u64) -> bool {
        self.0.find(key).is_some()
    }

    /// The cells that owe something.
    pub fn snapshot(&self, now_ns: u64) -> impl Iterator<Item = Kept> {
        self.0.kept().filter(move |kept| kept.word > now_ns / UNIT_NS)
    }

    /// Brings a cell back; one that owes more by now stays. False if there is no place for it.
    pub fn seed(&self, kept: Kept) -> bool {
        self.0.seed(kept)
    }
}

struct Cells(Box<[Cell]>);

struct Cell {
    key: AtomicU64,
    word: AtomicU64,
}

/// Where the search for a key ended.
enum Place<'a> {
    Own(&'a Cell),
    Vacant(&'a Cell),
    Full,
}

impl Cells {
    fn new(cells: usize) -> Self {
        let cell = |_| Cell { key: AtomicU64::new(VACANT), word: AtomicU64::new(VACANT) };
        Self((0..cells.max(1)).map(cell).collect())
    }

    /// The key's cell, or the vacant one that it would get: every search for it passes the same cells.
    fn place(&self, key: u64) -> Place<'_> {
        // As in `table`; below the number of cells, because the half of a key is below 2^32.
        let start = ((key >> 32) * self.0.len() as u64) >> 32;
        let start = usize::try_from(start).unwrap_or(0);
        self.0.get(start).and_then(|cell| at(cell, key)).unwrap_or_else(|| self.search(start, key))
    }

    /// Kept out of the way of a key that has the first of its cells.
    #[inline(never)]
    fn search(&self, start: usize, key: u64) -> Place<'_> {
        let (before, from) = self.0.split_at(start);
        let from = &from[..from.len().min(PROBES_MAX)];
        let before = &before[..before.len().min(PROBES_MAX - from.len())];
        for cells in [from, before] {
            // Eight at a time, a number that the compiler knows, cost half of what they do one by one.
            let (eights, rest) = cells.as_chunks::<8>();
            let among = eights.iter().find_map(|eight| eight.iter().find_map(|cell| at(cell, key)));
            if let Some(place) = among.or_else(|| rest.iter().find_map(|cell| at(cell, key))) {
                return place;
            }
        }
        Place::Full
    }

    /// The word of the key, 0 if it could get a cell.
    fn peek(&self, key: u64) -> Option<u64> {
        match self.place(key.max(1)) {
            Place::Own(cell) => Some(cell.word.load(Ordering::Acquire)),
            Place::Vacant(_) => Some(VACANT),
            Place::Full => None,
        }
    }

    fn find(&self, key: u64) -> Option<&AtomicU64> {
        match self.place(key.max(1)) {
            Place::Own(cell) => Some(&cell.word),
            _ => None,
        }
    }

    fn claim(&self, key: u64) -> Option<&AtomicU64> {
        let key = key.max(1);
        loop {
            match self.place(key) {
                Place::Own(cell) => return Some(&cell.word),
                Place::Vacant(cell) if swap(&cell.key, VACANT, key) => return Some(&cell.word),
                // Another thread got the cell, perhaps for the same key.
                Place::Vacant(_) => {}
                Place::Full => return None,
            }
        }
    }

    fn kept(&self) -> impl Iterator<Item = Kept> {
        let kept = |cell: &Cell| Kept {
            key: cell.key.load(Ordering::Acquire),
            word: cell.word.load(Ordering::Acquire),
        };
        self.0.iter().map(kept).filter(|kept| kept.key != VACANT)
    }

    fn seed(&self, kept: Kept) -> bool {
        // Words of both kinds grow with what they count.
        let cell = self.claim(kept.key);
        cell.map(|cell| cell.fetch_max(kept.word, Ordering::AcqRel)).is_some()
    }
}

/// Where a search ends that comes to this cell, if it ends there.
fn at(cell: &Cell, key: u64) -> Option<Place<'_>> {
    let found = cell.key.load(Ordering::Acquire);
    // One test for both ends of a search, which hardly any other key passes: its bits would all have to be of this one.
    if found & !key != 0 {
        return None;
    }
    match found {
        VACANT => Some(Place::Vacant(cell)),
        found if found == key => Some(Place::Own(cell)),
        _ => None,
    }
}

fn swap(word: &AtomicU64, old: u64, new: u64) -> bool {
    word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: u64 = 60 * MINUTE_NS;

    fn quota(count: u64, ends_ns: u64) -> Quota {
        Quota { count, ends_ns }
    }

    #[test]
    fn a_window_begins_with_nothing_used_and_an_old_one_is_never_opened_again() {
        let quotas = Quotas::new(4);
        let (old, new) = (quota(2, HOUR_NS), quota(2, 2 * HOUR_NS));
        let before = HOUR_NS - 1;
        assert_eq!(quotas.take(7, &old, 1, before), Verdict::Room { left: 1, reset_ns: 1 });
        assert_eq!(quotas.take(7, &new, 1, HOUR_NS), Verdict::Room { left: 1, reset_ns: HOUR_NS });
        // A thread whose clock is behind takes what the new window has left.
        assert_eq!(quotas.take(7, &old, 1, before), Verdict::Room { left: 0, reset_ns: HOUR_NS + 1 });
        let refused = Verdict::Exhausted { retry_ns: HOUR_NS + 1, reset_ns: HOUR_NS + 1 };
        assert_eq!(quotas.take(7, &old, 1, before), refused);
        assert!(!quotas.take(7, &new, 1, HOUR_NS).has_room());
        quotas.give_back(7, &old, 1);
        assert!(!quotas.check(7, &new, 1, HOUR_NS).has_room(), "the old window is over");
        quotas.give_back(7, &new, 1);
        assert!(quotas.check(7, &new, 1, HOUR_NS).has_room());
    }

    #[test]
    fn costs_and_counts_have_bounds() {
        let quotas = Quotas::new(1);
        let reset_ns = HOUR_NS;
        let never = Verdict::Exhausted { retry_ns: u64::MAX, reset_ns };
        for cost in [3, u64::MAX] {
            assert_eq!(quotas.take(1, &quota(2, HOUR_NS), cost, 0), never);
        }
        let most = quota(u64::MAX, HOUR_NS);
        assert_eq!(quotas.take(1, &most, USED_MAX, 0), Verdict::Room { left: 0, reset_ns });
        assert_eq!(quotas.take(1, &most, 1, 0), Verdict::Exhausted { retry_ns: reset_ns, reset_ns });
        assert!(quotas.take(1, &quota(1, 2 * HOUR_NS), 1, 0).has_room(), "the window's end is untouched");
    }

    #[test]
    fn no_place_is_full_for_new_keys_only() {
        let (quotas, debts) = (Quotas::new(100), Debts::new(1));
        let quota = quota(10, HOUR_NS);
        let terms = Terms::new(1, 1_000, 1).unwrap();
        // All keys start at the first cell and may have 64.
        for key in 1..=64 {
            assert!(!quotas.remembers(key));
            assert!(quotas.take(key, &quota, 1, 0).has_room() && quotas.remembers(key));
        }
        for verdict in [quotas.check(65, &quota, 1, 0), quotas.take(65, &quota, 1, 0)] {
            assert_eq!(verdict, Verdict::Full);
        }
        assert!(!quotas.seed(Kept { key: 65, word: 1 }));
        assert!(quotas.take(64, &quota, 1, 0).has_room());
        assert!(debts.check(1, &terms, 0).has_room() && debts.charge(1, &terms, 1, 0));
        assert_eq!(debts.check(2, &terms, 0), Verdict::Full);
        assert!(!debts.charge(2, &terms, 1, 0) && !debts.remembers(2) && debts.remembers(1));
    }

    #[test]
    fn what_lasts_comes_back_after_a_restart() {
        let (quotas, debts) = (Quotas::new(8), Debts::new(8));
        let terms = Terms::new(1, 1_000, 10).unwrap();
        let second = 1_000_000_000;
        assert!(quotas.take(0, &quota(5, HOUR_NS), 3, 0).has_room());
        assert!(quotas.take(2, &quota(5, 2 * HOUR_NS), 4, 0).has_room());
        assert!(debts.charge(3, &terms, 1, 0) && debts.charge(4, &terms, 12, 0));
        let kept: Vec<Kept> = quotas.snapshot(HOUR_NS).collect();
        assert_eq!(kept.iter().map(|kept| kept.key).collect::<Vec<_>>(), [2], "the other window is over");
        let (restarted, owing) = (Quotas::new(8), Debts::new(8));
        assert!(kept.iter().chain(&kept).all(|kept| restarted.seed(*kept)), "twice is once");
        let left = Verdict::Room { left: 0, reset_ns: HOUR_NS };
        assert_eq!(restarted.check(2, &quota(5, 2 * HOUR_NS), 1, HOUR_NS), left);
        assert!(debts.snapshot(second).all(|kept| kept.key == 4 && owing.seed(kept)));
        for debts in [debts, owing] {
            let refused = Verdict::Exhausted { retry_ns: 2 * second, reset_ns: 11 * second };
            assert_eq!(debts.check(4, &terms, second), refused);
            assert_eq!(debts.check(4, &terms, 3 * second), Verdict::Room { left: 1, reset_ns: 9 * second });
        }
    }
}
