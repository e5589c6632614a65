//! Many threads at once: the bounds hold over all of them together, and nothing is lost.
//!
//! Not here: which interleavings exist (`models/` runs them all for few threads).

use super::EPOCH_NS;
use super::SECOND_NS;
use crate::base::clock::Moment;
use crate::policy::limits::gate::Item;
use crate::policy::limits::gate::Limit;
use crate::policy::limits::gate::When;
use crate::policy::limits::gate::admit;
use crate::policy::limits::pinned::Debts;
use crate::policy::limits::pinned::Quota;
use crate::policy::limits::pinned::Quotas;
use crate::policy::limits::table::Table;
use crate::policy::limits::terms::Terms;
use crate::policy::limits::terms::Verdict;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

const THREADS: u64 = 8;

/// SplitMix64: a different hash for each number.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn in_threads(work: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        for number in 0..THREADS {
            let work = &work;
            scope.spawn(move || work(number));
        }
    });
}

#[test]
fn no_key_gets_more_than_its_rate_from_all_threads() {
    const CALLS: u64 = 20_000;
    const BURST: u64 = 50;
    let terms = Terms::new(1_000_000, 1_000, BURST).unwrap();
    for keys in [1, 16] {
        let table: Table = Table::new(8 * 1024);
        let clock = AtomicU64::new(SECOND_NS);
        let admitted: Vec<_> = (0..keys).map(|_| AtomicU64::new(0)).collect();
        in_threads(|thread| {
            for call in 0..CALLS {
                // A shared clock, so that the time is exact, and a thread that was not run has an old one.
                let now = Moment::from_nanos(clock.fetch_add(800 / keys, Relaxed));
                let key = mixed(thread * CALLS + call) % keys;
                if table.take(mixed(key), &terms, 1, now).has_room() {
                    admitted[usize::try_from(key).unwrap()].fetch_add(1, Relaxed);
                }
            }
        });
        let elapsed = clock.load(Relaxed) - SECOND_NS;
        for count in &admitted {
            let (count, most) = (count.load(Relaxed), BURST + elapsed / 1_000);
            assert!(count <= most, "{keys} keys: {count} of {most}");
            assert!(count > BURST, "{keys} keys: {count}: nothing came back");
        }
    }
}

#[test]
fn a_hundred_thousand_keys_get_exactly_one_call_a_minute() {
    const KEYS: u64 = 100_000;
    let table: Table = Table::new(1024 * 1024);
    let terms = Terms::new(1, 60_000, 1).unwrap();
    let admitted: Vec<_> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let once_over = |now: Moment, offset: u64| {
        for number in 0..KEYS {
            let key = (number + offset) % KEYS;
            if table.take(mixed(key), &terms, 1, now).has_room() {
                admitted[usize::try_from(key).unwrap()].fetch_add(1, Relaxed);
            }
        }
    };
    for now in [0, 60 * SECOND_NS - 16, 60 * SECOND_NS] {
        let now = Moment::from_nanos(now);
        thread::scope(|scope| {
            scope.spawn(|| once_over(now, 0));
            scope.spawn(|| once_over(now, KEYS / 2));
        });
        let expected = if now.as_nanos() < 60 * SECOND_NS { 1 } else { 2 };
        let wrong = admitted.iter().filter(|count| count.load(Relaxed) != expected).count();
        assert_eq!(wrong, 0, "keys that did not get {expected} calls by {now:?}");
    }
    assert_eq!(table.sweep(0..table.lines(), Moment::from_nanos(60 * SECOND_NS)), 100_000, "live buckets");
    assert_eq!(table.sweep(0..table.lines(), Moment::from_nanos(120 * SECOND_NS)), 0);
}

#[test]
fn a_call_that_lost_a_race_leaves_nothing_charged() {
    let (table, quotas): (Table, _) = (Table::new(8), Quotas::new(1));
    let terms = Terms::new(1, 1_000, 1_000).unwrap();
    let quota = Quota { count: 600, ends_ns: EPOCH_NS / (60 * SECOND_NS) * 60 * SECOND_NS + 60 * SECOND_NS };
    let when = When { moment: Moment::ZERO, unix_ns: EPOCH_NS };
    let admitted = AtomicU64::new(0);
    in_threads(|_| {
        for _ in 0..500 {
            let limits = [Limit::Rate(&table, terms), Limit::Quota(&quotas, quota)];
            admitted.fetch_add(
                admit(&mut limits.map(|limit| Item::new(limit, 1, 1)), when).is_ok().into(),
                Relaxed,
            );
        }
    });
    assert_eq!(admitted.load(Relaxed), 600);
    assert_eq!(
        table.check(1, &terms, 400, Moment::ZERO),
        Verdict::Room { left: 0, reset_ns: 1_000 * SECOND_NS }
    );
}

#[test]
fn tokens_of_all_threads_are_owed() {
    let debts = Debts::new(8);
    let terms = Terms::new(1_000, 1_000, 1).unwrap();
    in_threads(|thread| {
        (0..1_000).for_each(|call| assert!(debts.charge((thread + call) % 4, &terms, 3, EPOCH_NS)))
    });
    let owed: Vec<u64> = debts.snapshot(EPOCH_NS).map(|kept| kept.word - EPOCH_NS / 16).collect();
    // Key 0 is stored as 1, so three keys share 8,000 charges.
    assert_eq!(owed.len(), 3);
    assert_eq!(owed.iter().sum::<u64>(), THREADS * 1_000 * terms.price(3));
}

#[test]
fn a_bucket_is_shared_as_rarely_as_is_said() {
    let table: Table = Table::new(8 * 1024);
    let terms = Terms::new(1, 60_000, 1).unwrap();
    for number in 0..100_000 {
        table.take(mixed(number), &terms, 1, Moment::ZERO);
    }
    assert_eq!(table.sweep(0..table.lines(), Moment::ZERO), 8 * 1024, "every bucket is live");
    // A new key meets eight live buckets: 8 in 2^20 share, about 32 of these, less than 60 but for 1 in 100,000.
    let strangers =
        (0..4_200_000).map(|number| table.check(mixed(1_000_000 + number), &terms, 1, Moment::ZERO));
    let shared = strangers.filter(|verdict| *verdict != Verdict::Full).count();
    assert!((10..60).contains(&shared), "{shared} keys share a bucket");
}
