//! `--count`: each way that a check of a limit can go, the same number of times, in a function of its own name. Under
//! callgrind these names say what one costs; `tests/instructions` does that, and knows what it may cost.
//!
//! Not here: time, and more than one thread.

use ringgate::base::clock::Moment;
use ringgate::policy::limits::pinned::Debts;
use ringgate::policy::limits::pinned::Quota;
use ringgate::policy::limits::pinned::Quotas;
use ringgate::policy::limits::table::Table;
use ringgate::policy::limits::terms::Terms;
use std::hint::black_box;

/// `tests/instructions` divides by it.
const ROUNDS: u64 = 100;
/// Each round has a line, or the cells of a search, of its own, so that it can bring a new key.
const GROUPS: usize = 128;
/// Buckets of a line.
const LINE: u64 = 8;
/// Cells that a pinned key may have.
const PROBES: u64 = 64;
const DAY_MS: u64 = 86_400_000;
const NOW: Moment = Moment::ZERO;
const NOW_NS: u64 = 0;
/// The key that is asked for.
const OWN: u64 = 1;

/// In the group of `round`: groups are chosen by the upper half.
const fn key(round: u64, own: u64) -> u64 {
    round << 57 | own
}

/// Whatever is asked fits.
fn wide() -> Terms {
    Terms::new(1_000_000, 1_000, 1_000_000).expect("in range")
}

/// One call, and no other for a day.
fn daily() -> Terms {
    Terms::new(1, DAY_MS, 1).expect("in range")
}

fn quota() -> Quota {
    Quota { count: 1_000_000, ends_ns: DAY_MS * 1_000_000 }
}

/// Calls `take` for the keys of `others` neighbours in each group, all of which must find a place.
fn occupy(others: u64, take: impl Fn(u64) -> bool) {
    for round in 0..GROUPS as u64 {
        assert!((0..others).all(|other| take(key(round, OWN + 1 + other))));
    }
}

/// Each line with so many live buckets of others, which stand before whoever comes.
fn table(others: u64) -> Table {
    let table = Table::new(GROUPS * 8);
    occupy(others, |key| table.take(key, &daily(), 1, NOW).has_room());
    table
}

fn quotas(others: u64) -> Quotas {
    let quotas = Quotas::new(GROUPS * 64);
    occupy(others, |key| quotas.take(key, &quota(), 1, NOW_NS).has_room());
    quotas
}

fn debts(others: u64) -> Debts {
    let debts = Debts::new(GROUPS * 64);
    occupy(others, |key| debts.charge(key, &wide(), 1, NOW_NS));
    debts
}

/// Functions that callgrind finds by their names. Each says for how many keys `each` held.
macro_rules! counted {
    ($($name:ident)*) => {
        $(
            #[inline(never)]
            fn $name(each: impl Fn(u64) -> bool) -> u64 {
                // Or those of equal code would be one.
                black_box(stringify!($name));
                (0..ROUNDS).filter(|round| each(black_box(key(*round, OWN)))).count() as u64
            }
        )*
    };
}

counted! {
    nothing
    bucket_check_new bucket_take_new bucket_check_known bucket_take_known
    bucket_check_new_at_the_last_place bucket_take_new_at_the_last_place
    bucket_check_known_at_the_last_place bucket_take_known_at_the_last_place
    bucket_check_new_in_a_full_line bucket_take_new_in_a_full_line
    bucket_check_new_over_a_passed_one_at_the_last_place bucket_take_new_over_a_passed_one_at_the_last_place
    bucket_check_exhausted bucket_take_exhausted bucket_give_back
    quota_check_new quota_take_new quota_check_known quota_take_known
    quota_check_known_at_the_last_place quota_take_known_at_the_last_place
    quota_check_new_where_all_are_full quota_take_new_where_all_are_full
    debt_check_new debt_charge_new debt_check_known debt_charge_known
    debt_check_known_at_the_last_place debt_charge_known_at_the_last_place
    debt_check_new_where_all_are_full debt_charge_new_where_all_are_full
}

/// Runs every case. The order matters: what is new to a take is known after it.
pub(crate) fn count() {
    // The loop itself, which is no part of a check.
    assert_eq!(nothing(|key| black_box(key) != 0), ROUNDS);
    buckets();
    quota_cells();
    debt_cells();
}

fn buckets() {
    let terms = wide();
    let (empty, nearly, full) = (table(0), table(LINE - 1), table(LINE));
    let check = |table: &Table, key| table.check(key, &terms, 1, NOW).has_room();
    let take = |table: &Table, key| table.take(key, &terms, 1, NOW).has_room();
    assert_eq!(bucket_check_new(|key| check(&empty, key)), ROUNDS);
    assert_eq!(bucket_take_new(|key| take(&empty, key)), ROUNDS);
    assert_eq!(bucket_check_known(|key| check(&empty, key)), ROUNDS);
    assert_eq!(bucket_take_known(|key| take(&empty, key)), ROUNDS);
    assert_eq!(bucket_check_new_at_the_last_place(|key| check(&nearly, key)), ROUNDS);
    assert_eq!(bucket_take_new_at_the_last_place(|key| take(&nearly, key)), ROUNDS);
    assert_eq!(bucket_check_known_at_the_last_place(|key| check(&nearly, key)), ROUNDS);
    assert_eq!(bucket_take_known_at_the_last_place(|key| take(&nearly, key)), ROUNDS);
    assert_eq!(bucket_check_new_in_a_full_line(|key| check(&full, key)), 0);
    assert_eq!(bucket_take_new_in_a_full_line(|key| take(&full, key)), 0);
    // The last place of each line is that of a key whose microsecond is long over.
    let (passed, later) = (table(LINE - 1), Moment::from_nanos(1_000_000_000));
    occupy_own(|own| passed.take(own + LINE, &terms, 1, NOW).has_room());
    let check_later = |key| passed.check(key, &terms, 1, later).has_room();
    assert_eq!(bucket_check_new_over_a_passed_one_at_the_last_place(check_later), ROUNDS);
    let take_later = |key| passed.take(key, &terms, 1, later).has_room();
    assert_eq!(bucket_take_new_over_a_passed_one_at_the_last_place(take_later), ROUNDS);
    refused();
}

fn refused() {
    let narrow = daily();
    let exhausted = table(LINE - 1);
    occupy_own(|key| exhausted.take(key, &narrow, 1, NOW).has_room());
    assert_eq!(bucket_check_exhausted(|key| exhausted.check(key, &narrow, 1, NOW).has_room()), 0);
    assert_eq!(bucket_take_exhausted(|key| exhausted.take(key, &narrow, 1, NOW).has_room()), 0);
    let back = |key| {
        exhausted.give_back(key, &narrow, 1, NOW);
        true
    };
    assert_eq!(bucket_give_back(back), ROUNDS);
    assert!((0..ROUNDS).all(|round| exhausted.check(key(round, OWN), &narrow, 1, NOW).has_room()));
}

fn occupy_own(take: impl Fn(u64) -> bool) {
    assert!((0..ROUNDS).all(|round| take(key(round, OWN))));
}

fn quota_cells() {
    let quota = quota();
    let (empty, nearly, full) = (quotas(0), quotas(PROBES - 1), quotas(PROBES));
    let check = |quotas: &Quotas, key| quotas.check(key, &quota, 1, NOW_NS).has_room();
    let take = |quotas: &Quotas, key| quotas.take(key, &quota, 1, NOW_NS).has_room();
    assert_eq!(quota_check_new(|key| check(&empty, key)), ROUNDS);
    assert_eq!(quota_take_new(|key| take(&empty, key)), ROUNDS);
    assert_eq!(quota_check_known(|key| check(&empty, key)), ROUNDS);
    assert_eq!(quota_take_known(|key| take(&empty, key)), ROUNDS);
    occupy_own(|key| take(&nearly, key));
    assert_eq!(quota_check_known_at_the_last_place(|key| check(&nearly, key)), ROUNDS);
    assert_eq!(quota_take_known_at_the_last_place(|key| take(&nearly, key)), ROUNDS);
    assert_eq!(quota_check_new_where_all_are_full(|key| check(&full, key)), 0);
    assert_eq!(quota_take_new_where_all_are_full(|key| take(&full, key)), 0);
}

fn debt_cells() {
    let terms = wide();
    let (empty, nearly, full) = (debts(0), debts(PROBES - 1), debts(PROBES));
    let check = |debts: &Debts, key| debts.check(key, &terms, NOW_NS).has_room();
    let charge = |debts: &Debts, key| debts.charge(key, &terms, 1, NOW_NS);
    assert_eq!(debt_check_new(|key| check(&empty, key)), ROUNDS);
    assert_eq!(debt_charge_new(|key| charge(&empty, key)), ROUNDS);
    assert_eq!(debt_check_known(|key| check(&empty, key)), ROUNDS);
    assert_eq!(debt_charge_known(|key| charge(&empty, key)), ROUNDS);
    occupy_own(|key| charge(&nearly, key));
    assert_eq!(debt_check_known_at_the_last_place(|key| check(&nearly, key)), ROUNDS);
    assert_eq!(debt_charge_known_at_the_last_place(|key| charge(&nearly, key)), ROUNDS);
    assert_eq!(debt_check_new_where_all_are_full(|key| check(&full, key)), 0);
    assert_eq!(debt_charge_new_where_all_are_full(|key| charge(&full, key)), 0);
}
