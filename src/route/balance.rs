//! Which instance of a pool: round robin, weighted, fewest calls in flight, two random ones, most free.
//!
//! Not here: pools and their order, and the breaker's own count of probes (`route`).

use crate::base::clock::Moment;
use crate::config::traffic::Balance;
use crate::config::traffic::Pool;
use crate::config::traffic::Traffic;
use crate::route::affinity::Handle;
use crate::route::cells::InstanceCells;
use crate::route::cells::ServerCells;
use crate::route::load::FULL;
use crate::route::slow_start::WHOLE;
use std::cell::Cell;

/// A report older than so many probe intervals says nothing.
const REPORT_INTERVALS_MAX: u64 = 3;
/// Interval of reports where nobody probes, so that they come with answers only: the default of `health`.
const REPORT_INTERVAL_MS: u64 = 5_000;
/// What an instance that is fully busy is still given, in thousandths of an idle one's share: without calls it
/// could not report that it is free again.
const SHARE_MIN: u64 = 10;
/// What an instance without a report is taken for: half free, so that one that reports to be busy gets less than it and
/// one that reports to be idle more.
const NEUTRAL: u64 = FULL as u64 / 2;

/// What one worker remembers between two choices. Its own, so that a choice writes no shared memory: with W
/// workers the counts of two instances differ by at most W more.
#[derive(Debug)]
pub struct Local {
    /// Where the next round begins.
    cursor: Cell<usize>,
    /// Credit of each instance in the smooth weighted round robin; while one warms up, in every kind of balance.
    credits: Box<[Cell<i64>]>,
}

impl Local {
    pub fn new(traffic: &Traffic) -> Self {
        Self { cursor: Cell::new(0), credits: traffic.weights.iter().map(|_| Cell::new(0)).collect() }
    }
}

/// Instances of one server, as a set: those that one call has tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried([u64; 4]);

impl Tried {
    pub const CAPACITY: usize = 256;

    pub fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// What does not fit the set counts as tried.
    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_none_or(|word| word >> (index % 64) & 1 == 1)
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One choice: everything that is looked at, nothing that is kept.
pub(super) struct Choice<'a> {
    pub(super) traffic: &'a Traffic,
    pub(super) cells: &'a ServerCells,
    /// Not to be chosen: tried before, or refused by the breaker just now.
    pub(super) passed: Tried,
    pub(super) now: Moment,
}

impl<'a> Choice<'a> {
    /// An instance of `pool` that may be called, if there is one.
    pub(super) fn pick(
        &self,
        pool: &Pool,
        local: &Local,
        random: u64,
        handle: Option<Handle<'_>>,
    ) -> Option<usize> {
        if let Some(handle) = handle {
            return handle.best(self.in_turn(pool, 0));
        }
        if let Some(window_ms) = self.warms_up() {
            return self.by_shares(pool, local, window_ms);
        }
        match self.traffic.balance {
            Balance::RoundRobin => {
                let chosen = self.in_turn(pool, local.cursor.get()).next();
                self.advance(pool, local, chosen)
            }
            Balance::LeastConnections => {
                let candidates = self.in_turn(pool, local.cursor.get());
                // The first of equals: the one whose turn it is.
                let chosen = candidates.min_by_key(|index| self.in_flight(*index));
                self.advance(pool, local, chosen)
            }
            Balance::TwoChoices => self.less_busy_of_two(pool, random),
            // The unit of credits is that of `by_shares`, so that they mean the same before and after.
            Balance::Weighted => self.smooth(pool, local, |index| self.weight(index) * WHOLE),
            Balance::Resource => self.smooth(pool, local, |index| self.free(index) * WHOLE),
        }
    }

    /// The time in which an instance warms up, while one may. Without any it is one comparison.
    fn warms_up(&self) -> Option<u64> {
        self.traffic.slow_start_ms.filter(|window_ms| self.cells.last_return.is_within(*window_ms, self.now))
    }

    /// `pick` while an instance warms up: what each kind gives to it is lessened to its share.
    fn by_shares(&self, pool: &Pool, local: &Local, window_ms: u64) -> Option<usize> {
        let share =
            |index| self.instance(index).map_or(WHOLE, |cells| cells.returned.share(window_ms, self.now));
        match self.traffic.balance {
            Balance::RoundRobin => self.smooth(pool, local, share),
            Balance::Weighted => self.smooth(pool, local, |index| self.weight(index) * share(index)),
            Balance::Resource => self.smooth(pool, local, |index| self.free(index) * share(index)),
            Balance::LeastConnections | Balance::TwoChoices => self.less_busy_by_shares(pool, local, share),
        }
    }

    /// An instance that warms up is asked when it is its turn by shares, so that it gets no more of the calls than that,
    /// and takes the call if it is no busier for its share than the others, so that no more are in flight on it than
    /// that. Everything else goes to the least busy of those that have the largest share. Where all came back together,
    /// that is all.
    fn less_busy_by_shares(&self, pool: &Pool, local: &Local, share: impl Fn(usize) -> u64) -> Option<usize> {
        let largest = self.in_turn(pool, 0).map(&share).max()?;
        let due = self.smooth(pool, local, &share)?;
        let candidates = self.in_turn(pool, 0).filter(|index| *index == due || share(*index) == largest);
        // Calls in flight are counted in 24 bits, so none is lost.
        let busy = |index: usize| self.in_flight(index) * WHOLE * WHOLE / share(index).max(1);
        // The one whose turn it is before its equals.
        candidates.min_by_key(|index| (busy(*index), *index != due))
    }

    pub(super) fn instance(&self, index: usize) -> Option<&'a InstanceCells> {
        self.cells.instances.get(index).map(|cells| &**cells)
    }

    /// Whether calls would go to it if its breaker lets them.
    pub(super) fn is_in_rotation(&self, index: usize) -> bool {
        let weighed_out = self.traffic.balance == Balance::Weighted && self.weight(index) == 0;
        let healthy = |cells: &InstanceCells| self.traffic.health.is_none() || cells.health.is_up();
        !weighed_out && self.instance(index).is_some_and(healthy)
    }

    /// Instances of the pool that may be called, from one of them on, once round.
    fn in_turn(&self, pool: &Pool, start: usize) -> impl Iterator<Item = usize> {
        let (first, count) = (pool.first, pool.count);
        let round = (0..count).map(move |step| first + (start % count + step) % count);
        round.filter(|index| self.may_be_called(*index))
    }

    pub(super) fn may_be_called(&self, index: usize) -> bool {
        let breaker = || self.instance(index).and_then(|cells| cells.breaker.as_ref());
        !self.passed.contains(index)
            && self.is_in_rotation(index)
            && breaker().is_none_or(|breaker| breaker.admits(self.now).is_ok())
    }

    /// The next round begins behind the chosen one, so that the one after an instance that is out does not get
    /// the share of both.
    fn advance(&self, pool: &Pool, local: &Local, chosen: Option<usize>) -> Option<usize> {
        if let Some(index) = chosen {
            local.cursor.set(index - pool.first + 1);
        }
        chosen
    }

    fn in_flight(&self, index: usize) -> u64 {
        self.instance(index).map_or(0, |cells| cells.flow.in_flight())
    }

    fn less_busy_of_two(&self, pool: &Pool, random: u64) -> Option<usize> {
        // Two draws out of one number: its halves.
        let draw = |bits: u64, below: usize| (bits & 0xffff_ffff) as usize % below.max(1);
        let first_start = draw(random, pool.count);
        let second_start = first_start + 1 + draw(random >> 32, pool.count.saturating_sub(1));
        let first = self.in_turn(pool, first_start).next()?;
        let second = self.in_turn(pool, second_start).find(|index| *index != first).unwrap_or(first);
        Some(if self.in_flight(second) < self.in_flight(first) { second } else { first })
    }

    /// Smooth weighted round robin, as in nginx: all earn their weight, the richest is chosen and pays for all.
    fn smooth(&self, pool: &Pool, local: &Local, weight: impl Fn(usize) -> u64) -> Option<usize> {
        let mut total = 0;
        let mut richest: Option<(usize, &Cell<i64>)> = None;
        for index in self.in_turn(pool, 0) {
            let Some(credit) = local.credits.get(index) else { continue };
            let earned = i64::try_from(weight(index)).unwrap_or(i64::MAX >> 16);
            credit.set(credit.get().saturating_add(earned));
            total += earned;
            if richest.is_none_or(|(_, most)| credit.get() > most.get()) {
                richest = Some((index, credit));
            }
        }
        let (index, credit) = richest?;
        credit.set(credit.get().saturating_sub(total));
        Some(index)
    }

    fn weight(&self, index: usize) -> u64 {
        self.traffic.weights.get(index).copied().map_or(1, u64::from)
    }

    /// How much of an instance is free, in thousandths.
    fn free(&self, index: usize) -> u64 {
        let used = self.used(index);
        used.map_or(NEUTRAL, |used| u64::from(FULL.saturating_sub(used)).max(SHARE_MIN))
    }

    /// What an instance reported to be in use, in thousandths.
    fn used(&self, index: usize) -> Option<u16> {
        let interval_ms =
            self.traffic.health.as_ref().map_or(REPORT_INTERVAL_MS, |health| health.interval_ms);
        let age_ms_max = interval_ms.saturating_mul(REPORT_INTERVALS_MAX);
        self.instance(index)?.load.latest(age_ms_max, self.now)
    }
}
