//! Models of `policy::limits::pinned`: what counts of tokens owe.
//!
//! Not here: quotas, whose cells are the same (`limits`).

use loom::sync::Arc;
use loom::thread;
use ringgate_models::policy::limits::pinned::Debts;
use ringgate_models::policy::limits::terms::Terms;
use ringgate_models::policy::limits::terms::Verdict;

const SECOND_NS: u64 = 1_000_000_000;
const NOW_NS: u64 = 5 * SECOND_NS;

fn a_second_each() -> Terms {
    Terms::new(1, 1_000, 4).expect("in range")
}

/// Each in a thread of its own: a key, and tokens that it is charged.
fn charge(debts: &Arc<Debts>, charges: [(u64, u64); 2]) {
    let threads = charges.map(|(key, tokens)| {
        let debts = Arc::clone(debts);
        thread::spawn(move || assert!(debts.charge(key, &a_second_each(), tokens, NOW_NS)))
    });
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

fn left(debts: &Debts, key: u64) -> u64 {
    match debts.check(key, &a_second_each(), NOW_NS) {
        Verdict::Room { left, .. } => left,
        Verdict::Exhausted { .. } => 0,
        Verdict::Full => panic!("there is a place"),
    }
}

/// Also where none of them has counted the key before: it never gets two cells.
#[test]
fn no_charge_is_lost() {
    loom::model(|| {
        let debts = Arc::new(Debts::new(2));
        charge(&debts, [(7, 1), (7, 2)]);
        assert_eq!((left(&debts, 7), debts.snapshot(NOW_NS).count()), (1, 1));
    });
}

#[test]
fn two_new_keys_get_a_cell_each() {
    loom::model(|| {
        let debts = Arc::new(Debts::new(2));
        charge(&debts, [(7, 1), (8, 2)]);
        assert_eq!((left(&debts, 7), left(&debts, 8)), (3, 2));
    });
}

/// Who looks meanwhile sees what was owed before or after, and never less.
#[test]
fn a_look_beside_a_charge_is_before_or_after_it() {
    loom::model(|| {
        let debts = Arc::new(Debts::new(2));
        assert!(debts.charge(7, &a_second_each(), 1, NOW_NS));
        let other = Arc::clone(&debts);
        let thread = thread::spawn(move || assert!(other.charge(7, &a_second_each(), 2, NOW_NS)));
        let seen = left(&debts, 7);
        thread.join().expect("no panic");
        assert!([1, 3].contains(&seen), "{seen}");
        assert_eq!(left(&debts, 7), 1);
    });
}
