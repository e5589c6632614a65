//! Slow start in each kind of balance: what is a return, the share of the calls that follows, and the calls in flight.
//!
//! Not here: how a share grows with time (`route::slow_start`), and the same under a storm (`tests/simulation`).

use super::*;
use proptest::prelude::*;

const WINDOW_MS: u64 = 10_000;
const KINDS: [Balance; 5] = [
    Balance::RoundRobin,
    Balance::Weighted,
    Balance::LeastConnections,
    Balance::TwoChoices,
    Balance::Resource,
];

/// Instances of one pool, ten seconds after the start.
fn rig(balance: Balance, count: usize) -> Rig {
    let mut traffic = Rig::new(balance, &[count]).traffic;
    traffic.slow_start_ms = Some(WINDOW_MS);
    let mut rig = Rig::of(traffic);
    rig.now = Moment::ZERO.plus_millis(WINDOW_MS);
    rig
}

/// Goes and comes back, by its health.
fn returns(rig: &Rig, index: usize) {
    rig.take_out(index);
    rig.bring_back(index);
}

/// Calls that stay in flight.
fn hold(rig: &Rig, calls: usize) -> Vec<Pick> {
    (0..calls).map(|_| rig.choose(&mut Tried::default()).unwrap()).collect()
}

fn in_flight(rig: &Rig) -> Vec<u64> {
    rig.cells.instances.iter().map(|cells| cells.flow.in_flight()).collect()
}

/// Calls that end as `hold` began them, the oldest first.
fn end(rig: &Rig, picks: Vec<Pick>) {
    picks.into_iter().for_each(|pick| _ = rig.settle(pick, Outcome::Success));
}

/// One after another: shares of a tenth, of 55 hundredths and of the whole beside two wholes.
#[test]
fn an_instance_that_comes_back_gets_its_share_of_the_calls_in_every_kind() {
    for balance in KINDS {
        let mut rig = rig(balance, 3);
        returns(&rig, 1);
        // Of two random ones each gets about a third, and not exactly.
        let tolerance = |share| if balance == Balance::TwoChoices && share == 1_000 { 150 } else { 2 };
        for (after_ms, calls, share) in [(0, 2_100, 100), (5_000, 2_550, 550), (5_000, 3_000, 1_000)] {
            rig.now = rig.now.plus_millis(after_ms);
            let counts = rig.counts(calls);
            assert!(counts[1].abs_diff(share) <= tolerance(share), "{balance:?}: {counts:?}");
            assert!(counts[0].abs_diff(counts[2]) <= tolerance(share), "{balance:?}: {counts:?}");
        }
    }
}

#[test]
fn weights_and_reports_are_lessened_to_the_share() {
    let mut weighted = Rig::weighted(Balance::Weighted, &[5, 3, 2]).traffic;
    weighted.slow_start_ms = Some(WINDOW_MS);
    let mut weighted = Rig::of(weighted);
    weighted.now = Moment::ZERO.plus_millis(WINDOW_MS);
    returns(&weighted, 0);
    assert_eq!(weighted.counts(550), [50, 300, 200]);
    // In the middle of a round, so that somebody is owed something: a call, and not a thousand.
    weighted.counts(7);
    weighted.now = weighted.now.plus_millis(WINDOW_MS);
    let off = weighted.counts(100).into_iter().zip([50, 30, 20]).map(|(count, fair)| count.abs_diff(fair));
    assert!(off.max() <= Some(1), "something of it is left behind");

    let resource = rig(Balance::Resource, 2);
    resource.cells.instances[0].load.report(0, resource.now);
    returns(&resource, 0);
    assert_eq!(resource.counts(600), [100, 500], "all of it free, beside one that is taken for half free");
}

/// hardening: "an instance returns under least-connections: max/min in flight <= 1.2; no dump on the newcomer".
#[test]
fn fewest_calls_in_flight_is_no_reason_to_get_them_all() {
    for balance in [Balance::LeastConnections, Balance::TwoChoices] {
        let mut rig = rig(balance, 3);
        rig.take_out(2);
        let busy = hold(&rig, 60);
        rig.bring_back(2);
        // The first moments: one call in twenty-one, and no more at once than a tenth of what the others have.
        let first = hold(&rig, 42);
        assert!((1..=2).contains(&in_flight(&rig)[2]), "{balance:?}: {:?}", in_flight(&rig));
        let many = hold(&rig, 2_000);
        let now = in_flight(&rig);
        assert!(now[2] * 10 <= now[0] + 10 && now[2] * 11 >= now[0], "{balance:?}: {now:?}");
        rig.now = rig.now.plus_millis(5_000);
        end(&rig, busy);
        let more = hold(&rig, 2_000);
        let now = in_flight(&rig);
        assert!(now[2] * 100 <= now[0] * 55 + 100, "{balance:?}: {now:?}");
        // Once it is warm, all have the same.
        rig.now = rig.now.plus_millis(5_000);
        end(&rig, first);
        end(&rig, many);
        let rest = hold(&rig, 4_000);
        let now = in_flight(&rig);
        let even = |now: &[u64]| now.iter().max().unwrap() * 10 <= now.iter().min().unwrap() * 12;
        assert!(balance == Balance::TwoChoices || even(&now), "{balance:?}: {now:?}");
        end(&rig, more);
        end(&rig, rest);
        assert_eq!(in_flight(&rig), [0; 3]);
    }
}

/// An instance that is cold and so ten times slower has no more calls in flight than its share of the others'.
#[test]
fn a_slow_newcomer_is_spared() {
    let rig = rig(Balance::LeastConnections, 2);
    rig.take_out(1);
    let mut held = hold(&rig, 40);
    rig.bring_back(1);
    for _ in 0..1_000 {
        // Only calls to the other one end.
        let place = held.iter().position(|pick| pick.index == 0).unwrap();
        end(&rig, vec![held.remove(place)]);
        held.extend(hold(&rig, 1));
        let now = in_flight(&rig);
        assert!(now[1] * 10 <= now[0] + 10, "{now:?}");
    }
    end(&rig, held);
}

#[test]
fn where_all_are_new_nothing_changes() {
    for balance in KINDS {
        let rig = rig(balance, 3);
        (0..3).for_each(|index| returns(&rig, index));
        assert_eq!(rig.counts(9_000), [3_000; 3], "{balance:?}");
    }
    let rig = rig(Balance::LeastConnections, 3);
    (0..3).for_each(|index| returns(&rig, index));
    let held = hold(&rig, 30);
    assert_eq!(in_flight(&rig), [10; 3]);
    let (ours, rest): (Vec<Pick>, Vec<Pick>) = held.into_iter().partition(|pick| pick.index == 1);
    end(&rig, ours);
    let more = hold(&rig, 10);
    assert_eq!(in_flight(&rig), [10; 3], "the one with the fewest gets them, as ever");
    end(&rig, rest);
    end(&rig, more);
}

#[test]
fn what_is_alone_gets_everything() {
    for balance in KINDS {
        let mut rig = rig(balance, 2);
        rig.take_out(0);
        rig.take_out(1);
        rig.bring_back(0);
        assert_eq!(rig.counts(10), [10, 0], "{balance:?}");
        // The second one comes when the first is at 55 hundredths.
        rig.now = rig.now.plus_millis(5_000);
        rig.bring_back(1);
        let counts = rig.counts(650);
        assert!(counts[0].abs_diff(550) <= 1, "{balance:?}: {counts:?}");
        let mut tried = Tried::default();
        let all: Vec<Pick> = (0..2).map(|_| rig.choose(&mut tried).unwrap()).collect();
        assert_ne!(all[0].index, all[1].index, "a call that failed goes to it all the same");
        end(&rig, all);
    }
}

/// Each way to come back, and none that is none.
#[test]
fn what_a_return_is() {
    let share = |rig: &Rig, index: usize| rig.cells.instances[index].returned.share(WINDOW_MS, rig.now);
    let mut rig = rig(Balance::LeastConnections, 3);
    assert_eq!([0, 1, 2].map(|index| share(&rig, index)), [1_000; 3], "nobody is new at the start");
    rig.take_out(0);
    assert_eq!(share(&rig, 0), 1_000);
    rig.cells.instances[0].probe_succeeded(&HEALTH, rig.now);
    assert_eq!(share(&rig, 0), 1_000, "one success is no return");
    rig.cells.instances[0].probe_succeeded(&HEALTH, rig.now);
    assert_eq!(share(&rig, 0), 100);
    rig.cells.instances[1].probe_succeeded(&HEALTH, rig.now);
    assert_eq!(share(&rig, 1), 1_000, "it was never out");

    // A breaker: its probes go to it at once, and its share grows from when it closes.
    rig.open_breaker(2);
    rig.now = rig.now.plus_millis(DEFAULTS.open_ms);
    let held = hold(&rig, 9);
    let (probes, others): (Vec<Pick>, Vec<Pick>) = held.into_iter().partition(|pick| pick.index == 2);
    assert_eq!(probes.len(), 3);
    for (number, probe) in probes.into_iter().enumerate() {
        assert_eq!(share(&rig, 2), 1_000, "after {number} probes");
        rig.settle(probe, Outcome::Success);
    }
    assert_eq!(share(&rig, 2), 100);
    end(&rig, others);
}

#[test]
fn a_reload_brings_new_ones_and_takes_the_old_ones_over() {
    let mut rig = rig(Balance::RoundRobin, 3);
    returns(&rig, 0);
    rig.open_breaker(1);
    rig.now = rig.now.plus_millis(1_000);
    let shares = |cells: &ServerCells| -> Vec<u64> {
        cells.instances.iter().map(|instance| instance.returned.share(WINDOW_MS, rig.now)).collect()
    };
    let same = ServerCells::new(&rig.traffic, &["a", "b", "c", "new"], Some(&rig.cells), rig.now);
    assert_eq!(shares(&same), [190, 1_000, 1_000, 100]);
    // A call of the plan before may end after the reload: what it closes starts slowly in this one.
    assert!(Arc::ptr_eq(&same.last_return, &rig.cells.last_return));
    let mut traffic = rig.traffic.clone();
    traffic.breaker = Some(BreakerSettings { window: 50, ..DEFAULTS });
    let changed = ServerCells::new(&traffic, &["a", "b", "c"], Some(&rig.cells), rig.now);
    assert_eq!(shares(&changed), [190, 100, 1_000], "its breaker began anew, and so was closed");
    assert!(Arc::ptr_eq(&changed.last_return, &rig.cells.last_return));
    let apart = ServerCells::new(&rig.traffic, &["a", "b"], None, rig.now);
    assert_eq!(shares(&apart), [1_000; 2], "a server that is new itself");
    assert!(!apart.last_return.is_within(WINDOW_MS, rig.now));
}

#[test]
fn off_is_off() {
    for balance in KINDS {
        let mut rig = rig(balance, 3);
        rig.traffic.slow_start_ms = None;
        returns(&rig, 1);
        let counts = rig.counts(9_000);
        assert!(counts.iter().all(|count| count.abs_diff(3_000) < 300), "{balance:?}: {counts:?}");
    }
}

proptest! {
    /// Whoever came back when: over a round of calls, one at a time, each instance gets what its share is of all shares.
    /// With calls that stay, those that look at calls in flight keep to it as well.
    #[test]
    fn calls_are_in_proportion_to_the_shares(
        kind in 0..KINDS.len(),
        ages_ms in prop::collection::vec(0..WINDOW_MS * 3 / 2, 1..8),
        youngest_ms in 0..WINDOW_MS,
        stays in any::<bool>(),
    ) {
        const ROUNDS: u64 = 20;
        let balance = KINDS[kind];
        let mut rig = rig(balance, ages_ms.len() + 1);
        let end_ms = WINDOW_MS * 3;
        for (index, age_ms) in ages_ms.iter().chain([&youngest_ms]).enumerate() {
            rig.now = Moment::ZERO.plus_millis(end_ms - age_ms);
            returns(&rig, index);
        }
        rig.now = Moment::ZERO.plus_millis(end_ms);
        let shares: Vec<u64> = rig.cells.instances.iter().map(|cells| cells.returned.share(WINDOW_MS, rig.now)).collect();
        let (all, largest): (u64, u64) = (shares.iter().sum(), *shares.iter().max().unwrap());
        // So many that the smallest share is ROUNDS calls or more.
        let calls = ROUNDS * all.div_ceil(*shares.iter().min().unwrap());
        let (counts, held) = if stays {
            let held = hold(&rig, usize::try_from(calls).unwrap());
            let count = |index| held.iter().filter(|pick| pick.index == index).count();
            ((0..shares.len()).map(count).collect(), held)
        } else {
            (rig.counts(usize::try_from(calls).unwrap()), Vec::new())
        };
        for (share, count) in shares.iter().zip(&counts) {
            let fair = calls * share / all;
            let off = (*count as u64).abs_diff(fair);
            // A call more or less, and one for what was rounded.
            prop_assert!(off <= 2, "{balance:?}: {counts:?} of {shares:?}, largest {largest}");
        }
        end(&rig, held);
    }
}
