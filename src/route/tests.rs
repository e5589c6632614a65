//! Choice and settling as a worker does it: balance, failover, reload, and everything at once under threads.

mod slow_start;

use super::*;
use crate::base::atomic::AtomicU64;
use crate::base::atomic::Ordering;
use crate::config::traffic::Balance;
use crate::config::traffic::Breaker as BreakerSettings;
use crate::config::traffic::Health;
use crate::config::traffic::Hedge;
use crate::config::traffic::Pool;
use crate::config::traffic::Retry;
use crate::route::breaker::State;
use crate::route::breaker::tests::DEFAULTS;
use crate::route::cells::Guarded;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

const HEALTH: Health = Health { interval_ms: 5_000, timeout_ms: 1_000, unhealthy: 3, healthy: 2 };

/// One server with a pool for each of `counts`; the second is the failover.
struct Rig {
    traffic: Traffic,
    cells: ServerCells,
    local: Local,
    now: Moment,
    random: Cell<u64>,
}

impl Rig {
    fn new(balance: Balance, counts: &[usize]) -> Self {
        let mut first = 0;
        let pools = counts.iter().map(|count| {
            first += count;
            Pool { name: first.to_string().into(), first: first - count, count: *count }
        });
        let pools: Vec<Pool> = pools.collect();
        let traffic = Traffic {
            balance,
            slow_start_ms: None,
            weights: vec![1; first].into(),
            failover: (pools.len() > 1).then_some(1),
            pools,
            health: Some(HEALTH),
            breaker: Some(DEFAULTS),
            adaptive: None,
            retry: Retry { max: 1, budget_permille: 100, hedge: Hedge::Off },
            hold: false,
        };
        Self::of(traffic)
    }

    fn of(traffic: Traffic) -> Self {
        let cells = ServerCells::new(&traffic, &labels(traffic.weights.len()), None, Moment::ZERO);
        let local = Local::new(&traffic);
        Self { traffic, cells, local, now: Moment::ZERO, random: Cell::new(0x9e37_79b9_7f4a_7c15) }
    }

    fn weighted(balance: Balance, weights: &[u32]) -> Self {
        let mut traffic = Self::new(balance, &[weights.len()]).traffic;
        traffic.weights = weights.into();
        Self::of(traffic)
    }

    fn choose(&self, tried: &mut Tried) -> Result<Pick, NoRoute> {
        let route = Route { traffic: &self.traffic, cells: &self.cells, local: &self.local };
        let mut random = self.random.get();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        self.random.set(random);
        route.choose(tried, random, self.now)
    }

    fn settle(&self, pick: Pick, outcome: Outcome) -> Option<Change> {
        settle(&self.cells.instances[pick.index], pick.entry, outcome, self.now)
    }

    /// Calls that go well, and how many of them each instance got.
    fn counts(&self, calls: usize) -> Vec<usize> {
        let mut counts = vec![0; self.traffic.weights.len()];
        for _ in 0..calls {
            let pick = self.choose(&mut Tried::default()).unwrap();
            counts[pick.index] += 1;
            self.settle(pick, Outcome::Success);
        }
        counts
    }

    fn take_out(&self, index: usize) {
        (0..3).for_each(|_| _ = self.cells.instances[index].health.failed(&HEALTH));
    }

    fn bring_back(&self, index: usize) {
        (0..2).for_each(|_| _ = self.cells.instances[index].probe_succeeded(&HEALTH, self.now));
    }

    fn open_breaker(&self, index: usize) {
        while let Ok(entry) = enter(&self.cells.instances[index], true, self.now) {
            settle(&self.cells.instances[index], entry, Outcome::Failure, self.now);
        }
    }
}

fn labels(count: usize) -> Vec<&'static str> {
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][..count].to_vec()
}

#[test]
fn round_robin_gives_each_the_same() {
    let rig = Rig::new(Balance::RoundRobin, &[3]);
    assert_eq!(rig.counts(9_000), [3_000; 3]);
    rig.take_out(1);
    assert_eq!(rig.counts(9_000), [4_500, 0, 4_500]);
    rig.bring_back(1);
    assert_eq!(rig.counts(9_000), [3_000; 3]);
}

#[test]
fn weights_are_kept_to_the_call_and_interleaved() {
    let rig = Rig::weighted(Balance::Weighted, &[5, 3, 2]);
    assert_eq!(rig.counts(10_000), [5_000, 3_000, 2_000]);
    assert_eq!(rig.counts(10), [5, 3, 2]);
    rig.take_out(0);
    let counts = rig.counts(10_000);
    assert!(counts[0] == 0 && counts[1].abs_diff(6_000) <= 5, "{counts:?}");
    let drained = Rig::weighted(Balance::Weighted, &[0, 1]);
    assert_eq!(drained.counts(10), [0, 10]);
    drained.take_out(1);
    assert_eq!(drained.choose(&mut Tried::default()).unwrap_err(), NoRoute::NoneHealthy);
}

/// 64 callers, one call each at a time; the first of `count` instances is ten times slower. Its share.
fn share_of_the_slow_one(balance: Balance, count: usize) -> f64 {
    let rig = Rig::new(balance, &[count]);
    let mut ends = BinaryHeap::new();
    let mut picks: Vec<Option<Pick>> = vec![];
    let (mut counts, mut now) = (vec![0; count], 0_u64);
    for call in 0..20_000 {
        if call >= 64 {
            let Reverse((end, done)): Reverse<(u64, usize)> = ends.pop().unwrap();
            now = end;
            rig.settle(picks[done].take().unwrap(), Outcome::Success);
        }
        let pick = rig.choose(&mut Tried::default()).unwrap();
        counts[pick.index] += 1;
        // Not all of one length, or the callers would march in step.
        let service = if pick.index == 0 { 200 } else { 20 } + call as u64 % 7;
        ends.push(Reverse((now + service, picks.len())));
        picks.push(Some(pick));
    }
    counts[0] as f64 / 20_000.0
}

#[test]
fn a_slow_instance_gets_few_calls_where_calls_in_flight_are_compared() {
    for (balance, count, bound) in [
        (Balance::LeastConnections, 3, 0.15),
        (Balance::TwoChoices, 3, 0.15),
        (Balance::TwoChoices, 10, 0.15),
    ] {
        let share = share_of_the_slow_one(balance, count);
        assert!((0.001..bound).contains(&share), "{balance:?} of {count}: {share}");
    }
    let blind = share_of_the_slow_one(Balance::RoundRobin, 3);
    assert!(blind > 0.3, "the scene itself must not favour the others: {blind}");
}

#[test]
fn least_connections_takes_equals_in_turn_and_needs_no_breaker() {
    let mut traffic = Rig::new(Balance::LeastConnections, &[3]).traffic;
    traffic.breaker = None;
    let rig = Rig::of(traffic);
    assert_eq!(rig.counts(9_000), [3_000; 3]);
    let held = rig.choose(&mut Tried::default()).unwrap();
    let counts = rig.counts(100);
    assert_eq!((counts[held.index], counts.iter().max()), (0, Some(&50)));
    rig.settle(held, Outcome::Success);
    assert!(rig.cells.instances.iter().all(|cells| cells.flow.in_flight() == 0));
}

#[test]
fn two_choices_are_two_instances() {
    let rig = Rig::new(Balance::TwoChoices, &[3]);
    rig.take_out(2);
    let held = rig.choose(&mut Tried::default()).unwrap();
    assert_eq!(rig.counts(100)[held.index], 0);
    rig.settle(held, Outcome::Success);
}

#[test]
fn two_choices_reach_every_instance() {
    for count in [1, 2, 3, 10] {
        let rig = Rig::new(Balance::TwoChoices, &[count]);
        let counts = rig.counts(1_000 * count);
        assert!(counts.iter().all(|calls| *calls > 700), "{counts:?}");
        rig.take_out(0);
        if count > 1 {
            assert_eq!(rig.counts(1_000)[0], 0);
        }
    }
}

#[test]
fn reports_of_load_share_out_the_calls() {
    let mut rig = Rig::new(Balance::Resource, &[3]);
    assert_eq!(rig.counts(9_000), [3_000; 3], "without reports all are equal");
    for (reports, expected) in [
        ([Some(900), Some(500), Some(500)], [909, 4_545, 4_545]),
        ([Some(900), Some(100), None], [1_000, 9_000, 5_000]),
        ([Some(1_000), Some(0), Some(0)], [50, 5_000, 5_000]),
    ] {
        rig.now = rig.now.plus_millis(100_000);
        for (cells, report) in rig.cells.instances.iter().zip(reports) {
            report.into_iter().for_each(|report| cells.load.report(report, rig.now));
        }
        let calls = expected.iter().sum();
        for (count, expected) in rig.counts(calls).into_iter().zip(expected) {
            assert!(count.abs_diff(expected) <= 3, "{reports:?}: {count} of {expected}");
        }
    }
    // Three probe intervals later nobody knows any more.
    rig.now = rig.now.plus_millis(3 * HEALTH.interval_ms + 2);
    assert_eq!(rig.counts(9_000), [3_000; 3]);
}

#[test]
fn a_call_goes_to_each_instance_once_and_then_to_the_failover() {
    for balance in [Balance::RoundRobin, Balance::Weighted, Balance::LeastConnections, Balance::TwoChoices] {
        let rig = Rig::new(balance, &[2, 1]);
        let mut tried = Tried::default();
        let mut picked = vec![];
        while let Ok(pick) = rig.choose(&mut tried) {
            picked.push((pick.index, pick.pool));
            rig.settle(pick, Outcome::Failure);
        }
        picked[..2].sort_unstable();
        assert_eq!(picked, [(0, 0), (1, 0), (2, 1)], "{balance:?}");
        assert_eq!(rig.choose(&mut tried).unwrap_err(), NoRoute::AllTried);
    }
}

#[test]
fn the_failover_serves_while_the_chosen_pool_is_out() {
    let mut rig = Rig::new(Balance::RoundRobin, &[2, 1]);
    let pools = |rig: &Rig| -> Vec<usize> {
        let picks = (0..4).map(|_| rig.choose(&mut Tried::default()).unwrap());
        picks.map(|pick| (pick.pool, rig.settle(pick, Outcome::Success)).0).collect()
    };
    rig.take_out(0);
    assert_eq!(pools(&rig), [0; 4]);
    rig.open_breaker(1);
    assert_eq!(pools(&rig), [1; 4]);
    rig.bring_back(0);
    assert_eq!(pools(&rig), [0; 4]);
    rig.take_out(0);
    rig.now = rig.now.plus_millis(DEFAULTS.open_ms);
    assert_eq!(pools(&rig), [0; 4], "the breaker's time is over: its probes go there");
}

#[test]
fn a_wished_pool_stands_in_the_first_ones_place() {
    for balance in [Balance::RoundRobin, Balance::Weighted, Balance::LeastConnections, Balance::TwoChoices] {
        let rig = Rig::new(balance, &[2, 1, 3]);
        let route = Route { traffic: &rig.traffic, cells: &rig.cells, local: &rig.local };
        let all = |pool: usize| {
            let (mut tried, mut picked) = (Tried::default(), Vec::new());
            let wish = Wish { pool, handle: None };
            while let Ok(pick) = route.choose_as(wish, &mut tried, 7, rig.now) {
                picked.push((pick.pool, pick.index));
                rig.settle(pick, Outcome::Success);
            }
            // The failover is last, and no pool is asked twice.
            if pool != 1 {
                assert_eq!(picked.pop(), Some((1, 2)), "{balance:?} {pool}");
            }
            picked.sort_unstable();
            picked
        };
        assert_eq!(all(0), [(0, 0), (0, 1)], "{balance:?}");
        assert_eq!(all(1), [(1, 2)], "{balance:?}");
        assert_eq!(all(2), [(2, 3), (2, 4), (2, 5)], "{balance:?}");
    }
    let rig = Rig::new(Balance::RoundRobin, &[1, 1, 1]);
    (0..3).for_each(|index| rig.take_out(index));
    rig.open_breaker(2);
    rig.bring_back(2);
    let route = Route { traffic: &rig.traffic, cells: &rig.cells, local: &rig.local };
    let why =
        |pool| route.choose_as(Wish { pool, handle: None }, &mut Tried::default(), 7, rig.now).unwrap_err();
    assert_eq!(why(2), NoRoute::BreakerOpen { retry_ms: 30_000 });
    assert_eq!(why(0), NoRoute::NoneHealthy, "another pool's breaker is none of its business");
    assert_eq!(why(9), NoRoute::NoneHealthy, "a pool that there is not");
}

/// Feature `balance_affinity`: values stay on their instance while it can take calls, whatever `balance` says.
#[test]
fn a_handle_goes_to_one_instance_while_it_can() {
    let rig = Rig::new(Balance::LeastConnections, &[4, 1]);
    let seeds = [11, 22, 33, 44, 55].map(|seed: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let home = |hash: u64, tried: &mut Tried| {
        let route = Route { traffic: &rig.traffic, cells: &rig.cells, local: &rig.local };
        let wish = Wish { pool: 0, handle: Some(Handle { hash, seeds: &seeds }) };
        let pick = route.choose_as(wish, tried, 7, rig.now).unwrap();
        let index = pick.index;
        rig.settle(pick, Outcome::Success);
        index
    };
    let homes = || (0..1_000).map(|hash| home(hash << 40, &mut Tried::default())).collect::<Vec<_>>();
    let before = homes();
    assert_eq!(before, homes());
    assert!((0..4).all(|index| before.contains(&index)) && !before.contains(&4));
    rig.take_out(1);
    let after = homes();
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert!(moved <= 300 && !after.contains(&1), "{moved} of 1,000 moved");
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == 1));
    rig.bring_back(1);
    assert_eq!(before, homes());
    // Another attempt goes elsewhere, and in the end to the failover.
    let mut tried = Tried::default();
    let went: Vec<usize> = (0..5).map(|_| home(7 << 40, &mut tried)).collect();
    assert_eq!((went[0], went[4]), (before[7], 4));
}

#[test]
fn why_there_is_no_route() {
    let mut rig = Rig::new(Balance::RoundRobin, &[1, 1]);
    rig.take_out(0);
    rig.take_out(1);
    assert_eq!(rig.choose(&mut Tried::default()).unwrap_err(), NoRoute::NoneHealthy);
    rig.bring_back(0);
    rig.open_breaker(0);
    let open = |retry_ms| NoRoute::BreakerOpen { retry_ms };
    assert_eq!(rig.choose(&mut Tried::default()).unwrap_err(), open(30_000));
    rig.now = rig.now.plus_millis(10_000);
    rig.bring_back(1);
    rig.open_breaker(1);
    assert_eq!(rig.choose(&mut Tried::default()).unwrap_err(), open(20_000), "the sooner of two");
    let mut tried = Tried::default();
    tried.insert(0);
    assert_eq!(rig.choose(&mut tried).unwrap_err(), open(30_000));
    rig.now = rig.now.plus_millis(20_000);
    let probes: Vec<Pick> = (0..3).map(|_| rig.choose(&mut Tried::default()).unwrap()).collect();
    assert_eq!(probes[0].entry.change(), Some(Change::HalfOpened));
    assert_eq!(rig.choose(&mut Tried::default()).unwrap_err(), open(1_000), "the probes are out");
    let changes = probes.into_iter().filter_map(|probe| rig.settle(probe, Outcome::Success));
    assert_eq!(changes.collect::<Vec<_>>(), [Change::Closed]);
    assert_eq!(rig.choose(&mut Tried::default()).unwrap().index, 0);
}

#[test]
fn what_was_counted_survives_a_reload() {
    let rig = Rig::new(Balance::RoundRobin, &[3]);
    rig.take_out(0);
    rig.open_breaker(1);
    rig.cells.hold.hold(rig.now.plus_millis(5));
    let reloaded =
        |traffic: &Traffic| ServerCells::new(traffic, &["c", "b", "new", "a"], Some(&rig.cells), rig.now);
    let same = reloaded(&rig.traffic);
    for (new, old) in [(0, 2), (1, 1), (3, 0)] {
        assert!(Arc::ptr_eq(&same.instances[new], &rig.cells.instances[old]));
    }
    assert_eq!((&*same.instances[2].label, same.hold.left_ms(rig.now)), ("new", Some(5)));
    let mut traffic = rig.traffic.clone();
    traffic.breaker = Some(BreakerSettings { window: 50, ..DEFAULTS });
    let changed = reloaded(&traffic);
    let state =
        |cells: &ServerCells| cells.instances[1].breaker.as_ref().map(|breaker| breaker.state(rig.now));
    assert_eq!((state(&same), state(&changed)), (Some(State::Open), Some(State::Closed)));
    assert!(!changed.instances[3].health.is_up(), "health has nothing to do with the breaker");
    let twins = ServerCells::new(&rig.traffic, &["a", "a"], None, rig.now);
    let after = ServerCells::new(&rig.traffic, &["a", "b", "a"], Some(&twins), rig.now);
    assert!(Arc::ptr_eq(&after.instances[2], &twins.instances[1]));
    assert!(Arc::ptr_eq(&after.instances[0], &twins.instances[0]));
}

#[test]
fn tools_have_breakers_of_their_own_until_the_table_is_full() {
    let mut traffic = Rig::new(Balance::RoundRobin, &[1]).traffic;
    assert!(Rig::of(traffic.clone()).cells.tools.is_none());
    traffic.breaker = Some(BreakerSettings { per_tool: true, ..DEFAULTS });
    let rig = Rig::of(traffic);
    let tools = rig.cells.tools.clone().unwrap();
    let changes: Vec<Change> = (0..20)
        .filter_map(|_| {
            let tool = tools.of(7).unwrap();
            tool.settle(tool.enter(rig.now).unwrap(), Outcome::Failure, rig.now)
        })
        .collect();
    assert_eq!(changes, [Change::Opened { for_ms: 30_000 }]);
    assert_eq!(tools.of(7).unwrap().enter(rig.now).unwrap_err().retry_ms, 30_000);
    assert!(tools.of(8).unwrap().enter(rig.now).is_ok());
    let mut told = vec![];
    rig.cells.tidy(rig.now.plus_millis(30_000), |guarded, change| told.push((guarded, change)));
    assert_eq!(told, [(Guarded::Tool(7), Change::HalfOpened)]);
    let claimed = (0..2_000).filter(|hash| tools.of(*hash).is_some()).count();
    // 0 and 1 are the same tag.
    assert_eq!((claimed, tools.in_use().count()), (257, 256));
    assert!(tools.of(7).is_some() && tools.of(5_000).is_none());
}

#[test]
fn threads_claim_one_slot_a_tool() {
    let mut traffic = Rig::new(Balance::RoundRobin, &[1]).traffic;
    traffic.breaker = Some(BreakerSettings { per_tool: true, window: 1, min_calls: 1, ..DEFAULTS });
    let tools = Rig::of(traffic).cells.tools.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                (1..=200).for_each(|hash| assert_eq!(tools.of(hash * 256).unwrap().tag(), hash * 256))
            });
        }
    });
    assert_eq!(tools.in_use().count(), 200);
}

#[test]
fn a_hold_is_never_shortened() {
    let rig = Rig::new(Balance::RoundRobin, &[1]);
    let hold = &rig.cells.hold;
    assert_eq!(hold.left_ms(rig.now), None);
    hold.hold(rig.now.plus_millis(2_000));
    hold.hold(rig.now.plus_millis(1_000));
    assert_eq!(hold.left_ms(Moment::from_nanos(1)), Some(2_000));
    assert_eq!(hold.left_ms(rig.now.plus_millis(2_000)), None);
}

#[test]
fn four_workers_leave_nothing_in_flight() {
    let mut rig = Rig::new(Balance::LeastConnections, &[3, 2]);
    rig.traffic.breaker =
        Some(BreakerSettings { window: 8, min_calls: 4, open_ms: 1, max_open_ms: 2, ..DEFAULTS });
    rig.cells = ServerCells::new(&rig.traffic, &labels(5), None, rig.now);
    let (traffic, cells, clock) = (&rig.traffic, &rig.cells, &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 1..=4_u64 {
            scope.spawn(move || {
                let local = Local::new(traffic);
                let route = Route { traffic, cells, local: &local };
                let mut random = worker.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let (mut tried, mut held) = (Tried::default(), vec![]);
                let mut picks = 0;
                let mut attempts = 0..500_000;
                while picks < 10_000 {
                    assert!(attempts.next().is_some(), "it does not go on");
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    let now = Moment::from_nanos(clock.fetch_add(50_000, Ordering::Relaxed));
                    match route.choose(&mut tried, random, now) {
                        Ok(pick) => held.push(pick),
                        Err(_) => tried = Tried::default(),
                    }
                    // Its own probes may be what keeps the breakers shut.
                    if held.len() > 3 || (tried.is_empty() && !held.is_empty()) {
                        picks += 1;
                        let pick = held.swap_remove((random >> 60) as usize % held.len());
                        let outcome = match random >> 40 & 7 {
                            0 => Outcome::Failure,
                            1 => Outcome::Neutral,
                            _ => Outcome::Success,
                        };
                        settle(&cells.instances[pick.index], pick.entry, outcome, now);
                    }
                }
                for pick in held {
                    settle(&cells.instances[pick.index], pick.entry, Outcome::Neutral, Moment::NEVER);
                }
            });
        }
    });
    assert!(cells.instances.iter().all(|cells| cells.flow.in_flight() == 0));
    let outcomes: Vec<u64> = cells.instances.iter().map(|cells| cells.flow.outcomes()).collect();
    assert!(outcomes.iter().all(|count| *count > 100), "{outcomes:?}");
}
