//! Exact figures of limits, which only a virtual clock can show.
//!
//! Not here: the same over real sockets (`tests/exchange/limits_flood.rs`), and many threads (`policy::limits::tests`).

use crate::base::clock::Moment;
use crate::config::traffic::Balance;
use crate::config::traffic::Hedge;
use crate::config::traffic::Pool;
use crate::config::traffic::Retry;
use crate::config::traffic::Traffic;
use crate::policy::limits::gate;
use crate::policy::limits::gate::Item;
use crate::policy::limits::gate::Limit;
use crate::policy::limits::gate::When;
use crate::policy::limits::table::Table;
use crate::policy::limits::terms::Terms;
use crate::route;
use crate::route::Route;
use crate::route::balance::Local;
use crate::route::balance::Tried;
use crate::route::breaker::Outcome;
use crate::route::cells::ServerCells;
use crate::simulation::random::mixed;

const MS_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000 * MS_NS;

fn three_instances() -> Traffic {
    Traffic {
        balance: Balance::RoundRobin,
        slow_start_ms: None,
        weights: [1, 1, 1].into(),
        pools: vec![Pool { name: "all".into(), first: 0, count: 3 }],
        failover: None,
        health: None,
        breaker: None,
        adaptive: None,
        retry: Retry { max: 0, budget_permille: 0, hedge: Hedge::Off },
        hold: false,
    }
}

/// 64 connections of two workers, each with a call every 8 ms: eight times what the limit lets through, and one at each moment at
/// which the next call is due.
#[test]
fn a_thousand_a_second_are_exactly_that_for_half_a_minute() {
    const CONNECTIONS: u64 = 64;
    const PERIOD_NS: u64 = 8 * MS_NS;
    for burst in [1, 50, 1_000] {
        let table: Table = Table::new(1_024);
        let terms = Terms::new(1_000, 1_000, burst).expect("in range");
        let traffic = three_instances();
        let cells = ServerCells::new(&traffic, &["a", "b", "c"], None, Moment::ZERO);
        let locals = [Local::new(&traffic), Local::new(&traffic)];
        let mut calls = [0_u64; 3];
        // Connections call one after another, and one of them at the end of every millisecond.
        let steps = 30 * SECOND_NS / PERIOD_NS * CONNECTIONS;
        for (step, worker) in (0..=steps).zip([0, 1].into_iter().cycle()) {
            let now = Moment::from_nanos(step * PERIOD_NS / CONNECTIONS);
            let mut items = [Item::new(Limit::Rate(&table, terms), mixed(1), 1)];
            if gate::admit(&mut items, When { moment: now, unix_ns: now.as_nanos() }).is_err() {
                continue;
            }
            let route = Route { traffic: &traffic, cells: &cells, local: &locals[worker] };
            let pick = route.choose(&mut Tried::default(), 0, now).expect("all may be called");
            route::settle(&cells.instances[pick.index], pick.entry, Outcome::Success, now);
            calls[pick.index] += 1;
        }
        assert_eq!(calls.iter().sum::<u64>(), 30_000 + burst, "burst {burst}");
        let uneven = calls.iter().max().zip(calls.iter().min()).map(|(most, least)| most - least);
        assert!(uneven <= Some(2), "two workers in turn: {calls:?}");
    }
}

/// With hashes that are the same in every run: of random ones two keys may share a bucket by chance.
#[test]
fn a_hundred_thousand_keys_get_one_call_a_minute_each() {
    const KEYS: u64 = 100_000;
    let table: Table = Table::new(1024 * 1024);
    let terms = Terms::new(1, 60_000, 1).expect("in range");
    let lines = table.lines();
    let round = |begins_ns: u64| -> u64 {
        let now = |key: u64| Moment::from_nanos(begins_ns + key * 29 * SECOND_NS / KEYS);
        (0..KEYS).map(|key| u64::from(table.take(mixed(key), &terms, 1, now(key)).has_room())).sum()
    };
    for minute in 0..3 {
        let begins_ns = minute * 60 * SECOND_NS;
        assert_eq!((round(begins_ns), round(begins_ns + 30 * SECOND_NS)), (KEYS, 0), "minute {minute}");
        let end = Moment::from_nanos(begins_ns + 60 * SECOND_NS - 16);
        assert_eq!(table.sweep(0..lines, end), KEYS as usize, "every key has its bucket");
    }
    assert_eq!(table.lines(), lines, "not one bucket more");
}
