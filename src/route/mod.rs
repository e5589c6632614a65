//! Where does a call go? Server and instance, chosen without I/O, without a lock and without allocation.
//!
//! `Route::choose` picks an instance and enters it, `settle` says how the call ended. Adaptive concurrency and
//! breakers of tools belong to the server, not to an instance: they are entered apart (`cells`).
//!
//! Not here: sockets, clocks, and whether the call may go at all. What an instance looks like to the network
//! is `upstream`'s business; here it is an index.

pub mod adaptive;
pub mod affinity;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod cells;
pub mod flow;
pub mod health;
pub mod latency;
pub mod load;
pub mod phase;
pub mod slow_start;

use crate::base::clock::Moment;
use crate::config::traffic::Traffic;
use crate::route::affinity::Handle;
use crate::route::balance::Choice;
use crate::route::balance::Local;
use crate::route::balance::Tried;
use crate::route::breaker::Change;
use crate::route::breaker::Outcome;
use crate::route::breaker::Refused;
use crate::route::cells::InstanceCells;
use crate::route::cells::ServerCells;

/// One server as one worker sees it, under one plan.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    pub traffic: &'a Traffic,
    pub cells: &'a ServerCells,
    pub local: &'a Local,
}

/// Where a call is to go, if it can. The default: the first pool, any instance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// Index of the pool in the plan.
    pub pool: usize,
    /// None: `balance` decides.
    pub handle: Option<Handle<'a>>,
}

/// Where a call goes. `entry` must come back by `settle`, to the cells of the same instance.
#[derive(Debug)]
pub struct Pick {
    pub index: usize,
    /// Index of its pool in the plan.
    pub pool: usize,
    pub entry: Entry,
}

/// What a call holds of its instance.
#[must_use = "settle it, or the call stays in flight for ever"]
#[derive(Debug)]
pub struct Entry(Held);

#[derive(Debug)]
enum Held {
    Nothing,
    Flow,
    Breaker(breaker::Entry),
}

impl Entry {
    /// What the call's entering changed, for a log line.
    pub fn change(&self) -> Option<Change> {
        match &self.0 {
            Held::Breaker(entry) => entry.change(),
            Held::Nothing | Held::Flow => None,
        }
    }
}

/// No instance may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    NoneHealthy,
    /// At least one would be healthy, but its breaker is open; the first lets calls in after `retry_ms`.
    BreakerOpen {
        retry_ms: u64,
    },
    /// The call has been to each one that may be called.
    AllTried,
}

impl Route<'_> {
    /// An instance of the first pool, as [`Self::choose_as`] does.
    pub fn choose(&self, tried: &mut Tried, random: u64, now: Moment) -> Result<Pick, NoRoute> {
        self.choose_as(Wish::default(), tried, random, now)
    }

    /// An instance of the wished pool, or of the failover where none of that pool may be called. It is entered, and
    /// added to `tried`. `random`: any bits, fresh for each call.
    pub fn choose_as(
        &self,
        wish: Wish<'_>,
        tried: &mut Tried,
        random: u64,
        now: Moment,
    ) -> Result<Pick, NoRoute> {
        let Self { traffic, cells, local } = *self;
        let mut choice = Choice { traffic, cells, passed: *tried, now };
        for pool_index in offered(traffic, wish.pool) {
            let Some(pool) = traffic.pools.get(pool_index) else { continue };
            // Ends: each round adds one instance to `passed`.
            while let Some(index) = choice.pick(pool, local, random, wish.handle) {
                choice.passed.insert(index);
                let entered = choice.instance(index).map(|instance| enter(instance, cells.counts_flow, now));
                if let Some(Ok(entry)) = entered {
                    tried.insert(index);
                    return Ok(Pick { index, pool: pool_index, entry });
                }
            }
        }
        Err(choice.why_none(wish.pool, tried))
    }

    /// This instance and no other: the session of the call lives on it.
    pub fn only(&self, index: usize, tried: &mut Tried, now: Moment) -> Result<Pick, NoRoute> {
        let Self { traffic, cells, .. } = *self;
        if tried.contains(index) {
            return Err(NoRoute::AllTried);
        }
        let choice = Choice { traffic, cells, passed: *tried, now };
        let instance = choice.instance(index).filter(|_| choice.is_in_rotation(index));
        let instance = instance.ok_or(NoRoute::NoneHealthy)?;
        let entry = enter(instance, cells.counts_flow, now)
            .map_err(|refused| NoRoute::BreakerOpen { retry_ms: refused.retry_ms })?;
        tried.insert(index);
        let pool = traffic.pools.iter().position(|pool| pool.has(index)).unwrap_or(0);
        Ok(Pick { index, pool, entry })
    }

    /// Whether [`Self::only`] would take a call to this instance. Nothing is entered.
    pub fn takes(&self, index: usize, now: Moment) -> bool {
        let Self { traffic, cells, .. } = *self;
        Choice { traffic, cells, passed: Tried::default(), now }.may_be_called(index)
    }

    /// Whether [`Self::choose_as`] would find an instance of this pool, or of the failover. Nothing is entered.
    pub fn offers(&self, pool: usize, now: Moment) -> bool {
        self.any(pool, |index| self.takes(index, now))
    }

    /// Whether some instance of this pool, or of the failover, is in rotation.
    pub fn has_rotation(&self, pool: usize, now: Moment) -> bool {
        let Self { traffic, cells, .. } = *self;
        let choice = Choice { traffic, cells, passed: Tried::default(), now };
        self.any(pool, |index| choice.is_in_rotation(index))
    }

    fn any(&self, pool: usize, which: impl FnMut(usize) -> bool) -> bool {
        let pools = offered(self.traffic, pool).filter_map(|index| self.traffic.pools.get(index));
        pools.flat_map(|pool| pool.first..pool.first + pool.count).any(which)
    }
}

/// The pools that a call for `pool` may go to, in their order.
fn offered(traffic: &Traffic, pool: usize) -> impl Iterator<Item = usize> + use<> {
    [Some(pool), traffic.failover.filter(|failover| *failover != pool)].into_iter().flatten()
}

impl Choice<'_> {
    fn why_none(&self, pool: usize, tried: &Tried) -> NoRoute {
        let pools = offered(self.traffic, pool).filter_map(|index| self.traffic.pools.get(index));
        let untried = pools.flat_map(|pool| pool.first..pool.first + pool.count);
        let untried = untried.filter(|index| !tried.contains(*index) && self.is_in_rotation(*index));
        let refusals = untried.filter_map(|index| {
            let breaker = self.instance(index)?.breaker.as_ref()?;
            // One that lets calls in by now lost a race for its last probe: it is worth asking again at once.
            Some(breaker.admits(self.now).map_or_else(|refused| refused.retry_ms, |()| 1))
        });
        match refusals.min() {
            Some(retry_ms) => NoRoute::BreakerOpen { retry_ms },
            None if tried.is_empty() => NoRoute::NoneHealthy,
            None => NoRoute::AllTried,
        }
    }
}

fn enter(instance: &InstanceCells, counts_flow: bool, now: Moment) -> Result<Entry, Refused> {
    let held = match &instance.breaker {
        Some(breaker) => Held::Breaker(breaker.enter(&instance.flow, now)?),
        None if counts_flow => {
            instance.flow.start();
            Held::Flow
        }
        None => Held::Nothing,
    };
    Ok(Entry(held))
}

/// How a call to an instance ended. Returns what that changed at its breaker, for a log line.
pub fn settle(instance: &InstanceCells, entry: Entry, outcome: Outcome, now: Moment) -> Option<Change> {
    match (entry.0, &instance.breaker) {
        (Held::Breaker(entry), Some(breaker)) => {
            let change = breaker.finish(&instance.flow, entry, outcome, now);
            if change == Some(Change::Closed) {
                instance.returned.note(now);
            }
            change
        }
        (Held::Nothing, _) => None,
        (Held::Flow | Held::Breaker(_), _) => {
            instance.flow.leave();
            None
        }
    }
}

#[cfg(test)]
mod tests;
