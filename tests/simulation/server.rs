//! One server with its instances: the live cells and what is promised of them, side by side. Whatever the live code
//! says is compared at once.
//!
//! Not here: when calls come and how they end (`world`), and what must hold between two steps (`invariants`).

use crate::base::clock::Moment;
use crate::config::traffic::Balance;
use crate::config::traffic::Pool;
use crate::config::traffic::Traffic;
use crate::route;
use crate::route::NoRoute;
use crate::route::Route;
use crate::route::balance::Local;
use crate::route::balance::Tried;
use crate::route::breaker;
use crate::route::breaker::Change;
use crate::route::breaker::Outcome;
use crate::route::budget::RetryBudget;
use crate::route::cells::Guarded;
use crate::route::cells::InstanceCells;
use crate::route::cells::ServerCells;
use crate::route::health;
use crate::simulation::operator;
use crate::simulation::promises::Fuse;
use crate::simulation::promises::Returned;
use crate::simulation::promises::Rotation;
use crate::simulation::promises::Ticket;
use crate::simulation::random::mixed;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// What all workers choose by until the next reload.
pub struct Plan {
    pub labels: Vec<&'static str>,
    pub traffic: Traffic,
    pub cells: ServerCells,
    pub budgets: Vec<RetryBudget>,
    locals: Vec<Local>,
    /// Of each worker, as `locals`.
    pub(super) turns: Vec<RefCell<Turns>>,
    /// Of each instance its place among the watched ones, and of the first tool among the fuses.
    pub(super) watched: Vec<usize>,
    first_tool: usize,
}

/// Everything that was ever seen, so that calls of old plans are watched to their end.
#[derive(Default)]
pub struct Server {
    pub(super) instances: Vec<Watched>,
    tools: Vec<Fuse>,
    pub(super) stays: u32,
    held_until_ns: u64,
    /// Any of the instances.
    pub(super) returned: Returned,
}

pub(super) struct Watched {
    pub(super) cells: Arc<InstanceCells>,
    pub(super) in_flight: u64,
    pub(super) rotation: Rotation,
    pub(super) fuse: Option<Fuse>,
    pub(super) returned: Returned,
}

/// How often each of a group was chosen since the group, or how one chooses from it, last changed.
#[derive(Default)]
pub(super) struct Turns {
    pub(super) group: Vec<usize>,
    /// Those that came back while somebody warms up, else nobody.
    pub(super) warm_up: Vec<Returned>,
    pub(super) counts: Vec<u64>,
    /// While somebody warms up: what each earned by its share, less what those earned together whose call it got.
    pub(super) owed: Vec<i64>,
}

/// What a call holds of an instance.
pub struct Passage {
    plan: Rc<Plan>,
    pub index: usize,
    entry: route::Entry,
    ticket: Option<Ticket>,
}

/// What a call holds of the server.
pub struct Stay {
    plan: Rc<Plan>,
    tool: Option<(usize, breaker::Entry, Ticket)>,
}

/// Of the health of an instance.
pub enum Sign {
    /// A call was connected.
    Connected,
    /// A probe succeeded.
    Succeeded,
    /// A probe failed, or a call was not connected.
    Failed,
}

impl Plan {
    /// Whether instances count calls in flight.
    fn counts_flow(&self) -> bool {
        self.traffic.balance.compares() || self.traffic.breaker.is_some()
    }
}

impl Server {
    /// What was counted before a reload must still be counted after it.
    pub fn adopt(
        &mut self,
        before: Option<&Plan>,
        (labels, traffic): (Vec<&'static str>, Traffic),
        workers: usize,
        now_ns: u64,
    ) -> Plan {
        let now = Moment::from_nanos(now_ns);
        let cells = ServerCells::new(&traffic, &labels, before.map(|before| &before.cells), now);
        let mut watch = |cells| self.watch(cells, before, &traffic, now_ns);
        let watched = cells.instances.iter().map(&mut watch).collect();
        if let Some(before) = before {
            assert_eq!(
                cells.adaptive.as_ref().map(Arc::as_ptr),
                before.cells.adaptive.as_ref().map(Arc::as_ptr)
            );
        }
        let same_breaker = before.filter(|before| before.traffic.breaker == traffic.breaker);
        let first_tool = same_breaker.map_or(self.tools.len(), |before| before.first_tool);
        if let (None, Some(settings)) = (same_breaker, &traffic.breaker) {
            self.tools.extend((0..operator::TOOLS.len()).map(|_| Fuse::new(settings)));
        }
        let turns = (0..workers).map(|_| RefCell::default()).collect();
        let budgets = (0..workers).map(|_| RetryBudget::default()).collect();
        let locals = (0..workers).map(|_| Local::new(&traffic)).collect();
        Plan { labels, traffic, cells, budgets, locals, turns, watched, first_tool }
    }

    fn watch(
        &mut self,
        cells: &Arc<InstanceCells>,
        before: Option<&Plan>,
        traffic: &Traffic,
        now_ns: u64,
    ) -> usize {
        if let Some(known) = self.instances.iter().position(|known| Arc::ptr_eq(&known.cells, cells)) {
            return known;
        }
        let earlier = before.and_then(|plan| {
            let index = plan.labels.iter().position(|label| **label == *cells.label)?;
            Some((plan, plan.watched[index]))
        });
        let forgotten = earlier.is_some_and(|(plan, _)| plan.traffic.breaker == traffic.breaker);
        assert!(!forgotten, "{}: a reload forgot what was counted", cells.label);
        let rotation = earlier.map(|(_, place)| self.instances[place].rotation.clone()).unwrap_or_default();
        let fuse = traffic.breaker.as_ref().map(Fuse::new);
        let earlier = earlier.map(|(_, place)| &self.instances[place]);
        let is_new = before.is_some() && earlier.is_none();
        // Its breaker begins anew.
        let was_open = |earlier: &Watched| {
            earlier.fuse.as_ref().is_some_and(|fuse| fuse.state(now_ns) != breaker::State::Closed)
        };
        let comes_back = is_new || earlier.is_some_and(was_open);
        let mut returned = earlier.map(|earlier| earlier.returned).unwrap_or_default();
        if comes_back {
            returned.note(now_ns);
            self.returned.note(now_ns);
        }
        self.instances.push(Watched { cells: Arc::clone(cells), in_flight: 0, rotation, fuse, returned });
        self.instances.len() - 1
    }

    /// Whether the server asked to be left alone.
    pub fn is_held(&self, plan: &Plan, now_ns: u64) -> bool {
        let left_ms = plan.cells.hold.left_ms(Moment::from_nanos(now_ns));
        let promised_ms = self.held_until_ns.saturating_sub(now_ns).div_ceil(1_000_000);
        assert_eq!(left_ms.unwrap_or(0), promised_ms, "the hold after a 429");
        plan.traffic.hold && left_ms.is_some()
    }

    pub fn hold(&mut self, plan: &Plan, until_ns: u64) {
        plan.cells.hold.hold(Moment::from_nanos(until_ns));
        self.held_until_ns = self.held_until_ns.max(until_ns);
    }

    /// A place among the calls in flight, and the tool's leave; none where the call is shed.
    pub fn enter(&mut self, plan: &Rc<Plan>, tool: usize, now_ns: u64) -> Option<Stay> {
        if let Some(adaptive) = &plan.cells.adaptive {
            let (limit, entered) = (adaptive.limit(), adaptive.enter().is_ok());
            assert_eq!(entered, self.stays < limit, "{} calls in flight, the limit is {limit}", self.stays);
            if !entered {
                return None;
            }
        }
        self.stays += 1;
        let mut stay = Stay { plan: Rc::clone(plan), tool: None };
        if let Some(tools) = &plan.cells.tools {
            let cells = tools.of(tool_hash(tool)).expect("there are few tools");
            let fuse = &mut self.tools[plan.first_tool + tool];
            match cells.enter(Moment::from_nanos(now_ns)) {
                Ok(entry) => {
                    let (ticket, change) = fuse.enter(now_ns);
                    assert_eq!(entry.change(), change, "tool {tool}");
                    stay.tool = Some((tool, entry, ticket));
                }
                Err(refused) => {
                    assert_eq!(refused.retry_ms, fuse.wait_ms(now_ns), "tool {tool}: refused");
                    self.leave(stay, Outcome::Neutral, 0, now_ns);
                    return None;
                }
            }
        }
        Some(stay)
    }

    pub fn leave(&mut self, stay: Stay, outcome: Outcome, latency_ns: u64, now_ns: u64) {
        let (plan, now) = (stay.plan, Moment::from_nanos(now_ns));
        self.stays -= 1;
        if let (Some(adaptive), Some(settings)) = (&plan.cells.adaptive, &plan.traffic.adaptive) {
            adaptive.leave(settings, (outcome != Outcome::Neutral).then_some(latency_ns), now);
        }
        if let (Some(tools), Some((tool, entry, ticket))) = (&plan.cells.tools, stay.tool) {
            let cells = tools.of(tool_hash(tool)).expect("it had one");
            let told = cells.settle(entry, outcome, now);
            let promised = self.tools[plan.first_tool + tool].leave(ticket, outcome, now_ns);
            assert_eq!(told, promised, "tool {tool}: {outcome:?}");
        }
    }

    /// Chooses an instance and enters it.
    pub fn choose(
        &mut self,
        (plan, worker): (&Rc<Plan>, usize),
        tried: &mut Tried,
        random: u64,
        now_ns: u64,
    ) -> Result<Passage, NoRoute> {
        let pools: Vec<Vec<usize>> =
            plan.traffic.pools.iter().map(|pool| self.group(plan, pool, tried, now_ns)).collect();
        let group = pools.into_iter().find(|group| !group.is_empty());
        let none = self.why_none(plan, tried, now_ns);
        let route = Route { traffic: &plan.traffic, cells: &plan.cells, local: &plan.locals[worker] };
        let picked = route.choose(tried, random, Moment::from_nanos(now_ns));
        let Some(group) = group else {
            assert_eq!(picked.as_ref().err(), Some(&none), "nobody may be called");
            return Err(none);
        };
        let pick = picked.unwrap_or_else(|why| panic!("{why:?}, but {group:?} may be called"));
        assert!(
            group.contains(&pick.index) && tried.contains(pick.index),
            "instance {} is none of {group:?}",
            pick.index
        );
        self.judge_balance(plan, worker, &group, (pick.index, now_ns));
        let watched = &mut self.instances[plan.watched[pick.index]];
        watched.in_flight += u64::from(plan.counts_flow());
        let entered = watched.fuse.as_mut().map(|fuse| fuse.enter(now_ns));
        assert_eq!(pick.entry.change(), entered.and_then(|(_, change)| change), "instance {}", pick.index);
        let ticket = entered.map(|(ticket, _)| ticket);
        Ok(Passage { plan: Rc::clone(plan), index: pick.index, entry: pick.entry, ticket })
    }

    pub fn settle(&mut self, passage: Passage, outcome: Outcome, now_ns: u64) {
        let Passage { plan, index, entry, ticket } = passage;
        let watched = &mut self.instances[plan.watched[index]];
        watched.in_flight -= u64::from(plan.counts_flow());
        let told = route::settle(&watched.cells, entry, outcome, Moment::from_nanos(now_ns));
        let fuse = watched.fuse.as_mut().zip(ticket);
        let promised = fuse.and_then(|(fuse, ticket)| fuse.leave(ticket, outcome, now_ns));
        assert_eq!(told, promised, "instance {index}: {outcome:?}");
        if promised == Some(Change::Closed) {
            watched.returned.note(now_ns);
            self.returned.note(now_ns);
        }
        watched.check(&plan, now_ns);
    }

    pub fn observe(&mut self, plan: &Plan, index: usize, sign: Sign, now_ns: u64) {
        let Some(settings) = &plan.traffic.health else { return };
        let Watched { cells, rotation, returned, .. } = &mut self.instances[plan.watched[index]];
        let was_up = rotation.up;
        let told = match sign {
            Sign::Connected => {
                cells.health.connected();
                rotation.connected();
                None
            }
            Sign::Succeeded => {
                rotation.succeeded(settings);
                cells.probe_succeeded(settings, Moment::from_nanos(now_ns))
            }
            Sign::Failed => {
                rotation.failed(settings);
                cells.health.failed(settings)
            }
        };
        let change = if rotation.up { health::Change::Up } else { health::Change::Down };
        assert_eq!(told, (was_up != rotation.up).then_some(change), "health of {}", cells.label);
        if !was_up && rotation.up {
            returned.note(now_ns);
            self.returned.note(now_ns);
        }
    }

    pub fn tidy(&mut self, plan: &Plan, now_ns: u64) {
        let mut told: Vec<(Guarded, Change)> = Vec::new();
        plan.cells.tidy(Moment::from_nanos(now_ns), |guarded, change| told.push((guarded, change)));
        let mut promised = Vec::new();
        for (index, place) in plan.watched.iter().enumerate() {
            let change = self.instances[*place].fuse.as_mut().and_then(|fuse| fuse.tidy(now_ns));
            promised.extend(change.map(|change| (Guarded::Instance(index), change)));
        }
        for tool in plan.cells.tools.iter().flat_map(|_| 0..operator::TOOLS.len()) {
            let change = self.tools[plan.first_tool + tool].tidy(now_ns);
            promised.extend(change.map(|change| (Guarded::Tool(tool_hash(tool)), change)));
        }
        assert!(
            told.len() == promised.len() && promised.iter().all(|change| told.contains(change)),
            "{told:?}"
        );
    }

    /// Instances of a pool that may be called, as promised.
    fn group(&self, plan: &Plan, pool: &Pool, tried: &Tried, now_ns: u64) -> Vec<usize> {
        let untried = (pool.first..pool.first + pool.count).filter(|index| !tried.contains(*index));
        untried.filter(|index| self.wait_ms(plan, *index, now_ns) == Some(0)).collect()
    }

    /// Milliseconds until its breaker lets a call in; none if it is out of rotation.
    fn wait_ms(&self, plan: &Plan, index: usize, now_ns: u64) -> Option<u64> {
        let watched = &self.instances[plan.watched[index]];
        let weighed_out = plan.traffic.balance == Balance::Weighted && plan.traffic.weights[index] == 0;
        let up = plan.traffic.health.is_none() || watched.rotation.up;
        (up && !weighed_out).then(|| watched.fuse.as_ref().map_or(0, |fuse| fuse.wait_ms(now_ns)))
    }

    fn why_none(&self, plan: &Plan, tried: &Tried, now_ns: u64) -> NoRoute {
        let offered = plan.traffic.pools.iter().take(1 + usize::from(plan.traffic.failover.is_some()));
        let untried = offered.flat_map(|pool| pool.first..pool.first + pool.count);
        let untried = untried.filter(|index| !tried.contains(*index));
        match untried.filter_map(|index| self.wait_ms(plan, index, now_ns)).min() {
            Some(retry_ms) => NoRoute::BreakerOpen { retry_ms },
            None if tried.is_empty() => NoRoute::NoneHealthy,
            None => NoRoute::AllTried,
        }
    }
}

fn tool_hash(tool: usize) -> u64 {
    mixed(1_000 + tool as u64)
}
