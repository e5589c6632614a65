//! Models of `policy::limits`.
//!
//! Not here: many calls and random keys; those are the threads and properties beside the code.

use loom::sync::Arc;
use loom::thread;
use ringgate_models::base::clock::Moment;
use ringgate_models::policy::limits::pinned::Quota;
use ringgate_models::policy::limits::pinned::Quotas;
use ringgate_models::policy::limits::table::Table;
use ringgate_models::policy::limits::terms::Terms;

/// Two keys of the one line with different tags.
const KEY: u64 = 5;
const OTHER: u64 = 6;
const SECOND_NS: u64 = 1_000_000_000;
/// Buckets of others pass at `AFTER` and `LATER`.
const BEFORE: Moment = Moment::from_nanos(SECOND_NS - 16);
const AFTER: Moment = Moment::from_nanos(SECOND_NS);
const LATER: Moment = Moment::from_nanos(SECOND_NS + 16);

fn a_second_each(burst: u64) -> Terms {
    Terms::new(1, 1_000, burst).expect("in range")
}

/// A line with room in its highest place only, for who reads `BEFORE`; a newer clock sees one more place free, the
/// one below.
fn line<const WAYS: usize>() -> Arc<Table<WAYS>> {
    let table = Arc::new(Table::new(WAYS));
    for place in 0..WAYS as u64 - 1 {
        let taken = Moment::from_nanos((WAYS as u64 - 2 - place) * 16);
        assert!(table.take(OTHER + place, &a_second_each(1), 1, taken).has_room());
    }
    table
}

/// How many of these calls pass, each in a thread of its own.
fn admitted<const WAYS: usize>(table: &Arc<Table<WAYS>>, burst: u64, calls: &[Moment]) -> usize {
    let take = |now: &Moment| {
        let (table, now) = (Arc::clone(table), *now);
        thread::spawn(move || table.take(KEY, &a_second_each(burst), 1, now).has_room())
    };
    let threads: Vec<_> = calls.iter().map(take).collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).filter(|passed| *passed).count()
}

fn bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn one_of_two_calls_passes_that_take_the_same_place() {
    loom::model(|| assert_eq!(admitted(&line::<2>(), 1, &[BEFORE, BEFORE]), 1));
}

#[test]
fn one_of_two_calls_passes_that_take_different_places() {
    loom::model(|| assert_eq!(admitted(&line::<2>(), 1, &[BEFORE, AFTER]), 1));
}

#[test]
fn a_burst_of_two_is_neither_exceeded_nor_lost_from_different_places() {
    bounded(3, || {
        let table = line::<2>();
        let passed = admitted(&table, 2, &[BEFORE, AFTER, BEFORE]);
        // A call of the older clock may have come too early for the second place of the burst.
        let later = (0..3).filter(|_| table.take(KEY, &a_second_each(2), 1, AFTER).has_room()).count();
        assert_eq!(passed + later, 2);
    });
}

#[test]
fn a_charge_that_moves_is_seen_by_who_looks_at_the_line() {
    bounded(3, || {
        let table = line::<3>();
        let passed = admitted(&table, 2, &[BEFORE, AFTER, LATER]);
        let later = (0..3).filter(|_| table.take(KEY, &a_second_each(2), 1, LATER).has_room()).count();
        assert_eq!(passed + later, 2);
    });
}

#[test]
fn one_of_three_calls_passes_from_different_places() {
    bounded(3, || assert_eq!(admitted(&line::<2>(), 1, &[BEFORE, AFTER, AFTER]), 1));
}

#[test]
fn a_call_given_back_leaves_room_for_exactly_one() {
    loom::model(|| {
        let table = line::<2>();
        let refused_elsewhere = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                if table.take(KEY, &a_second_each(1), 1, BEFORE).has_room() {
                    table.give_back(KEY, &a_second_each(1), 1, BEFORE);
                }
            })
        };
        let passed = admitted(&table, 1, &[AFTER]);
        refused_elsewhere.join().expect("no panic");
        let later = table.take(KEY, &a_second_each(1), 1, AFTER).has_room();
        assert_eq!(passed + usize::from(later), 1);
    });
}

#[test]
fn a_place_taken_by_another_key_is_lost_to_one_of_them() {
    loom::model(|| {
        let table = line::<2>();
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.take(OTHER, &a_second_each(1), 1, AFTER).has_room())
        };
        assert_eq!(admitted(&table, 1, &[AFTER]), 1);
        assert!(other.join().expect("no panic"));
        for key in [KEY, OTHER] {
            assert!(!table.take(key, &a_second_each(1), 1, AFTER).has_room());
        }
    });
}

#[test]
fn a_sweep_takes_nothing_from_a_call() {
    loom::model(|| {
        let table = line::<2>();
        let sweep = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.sweep(0..1, AFTER))
        };
        assert_eq!(admitted(&table, 1, &[BEFORE]), 1);
        sweep.join().expect("no panic");
        assert!(!table.take(KEY, &a_second_each(1), 1, AFTER).has_room());
    });
}

#[test]
fn one_of_two_calls_passes_a_new_quota() {
    const QUOTA: Quota = Quota { count: 1, ends_ns: 60 * SECOND_NS };
    loom::model(|| {
        let quotas = Arc::new(Quotas::new(2));
        let take = || {
            let quotas = Arc::clone(&quotas);
            thread::spawn(move || quotas.take(KEY, &QUOTA, 1, 0).has_room())
        };
        let threads = [take(), take()];
        let passed = threads.map(|thread| thread.join().expect("no panic"));
        assert!(passed[0] != passed[1], "{passed:?}");
    });
}

#[test]
fn two_new_keys_get_a_cell_each() {
    const QUOTA: Quota = Quota { count: 1, ends_ns: 60 * SECOND_NS };
    loom::model(|| {
        let quotas = Arc::new(Quotas::new(2));
        let take = |key| {
            let quotas = Arc::clone(&quotas);
            thread::spawn(move || assert!(quotas.take(key, &QUOTA, 1, 0).has_room()))
        };
        let threads = [take(KEY), take(OTHER)];
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        for key in [KEY, OTHER] {
            assert!(!quotas.take(key, &QUOTA, 1, 0).has_room());
        }
    });
}
