//! Tests of the whole layer: every answer against a plain model of one thread, and many threads against the bound.
//!
//! Not here: all interleavings of few threads (`models/`), and tests of one file, which stand beside its code.

mod threads;

use crate::base::clock::Moment;
use crate::policy::limits::gate::Item;
use crate::policy::limits::gate::Limit;
use crate::policy::limits::gate::Refusal;
use crate::policy::limits::gate::When;
use crate::policy::limits::gate::admit;
use crate::policy::limits::gate::nearest;
use crate::policy::limits::gate::release;
use crate::policy::limits::pinned::Debts;
use crate::policy::limits::pinned::Quota;
use crate::policy::limits::pinned::Quotas;
use crate::policy::limits::table::Table;
use crate::policy::limits::terms::Terms;
use crate::policy::limits::terms::Verdict;
use proptest::prelude::*;
use std::collections::HashMap;

const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3_600 * SECOND_NS;
/// 2026-08-22 10:00:00.123 UTC.
const EPOCH_NS: u64 = 1_787_392_800_123_000_000;
/// The time of a bucket wraps here.
const WRAP_NS: u64 = 1 << 48;
const KEYS: u64 = 2;

#[derive(Clone, Copy)]
enum Rule {
    Rate { count: u64, per_ms: u64, burst: u64 },
    Quota { count: u64, window_ns: u64 },
    Tokens { count: u64, per_ms: u64, burst: u64 },
}

/// The rates with two keys each just fit into a line of eight.
const RULES: [Rule; 7] = [
    Rule::Rate { count: 1_000, per_ms: 1_000, burst: 3 },
    Rule::Quota { count: 4, window_ns: 60 * SECOND_NS },
    Rule::Rate { count: 7, per_ms: 86_400_000, burst: 7 },
    Rule::Tokens { count: 100_000, per_ms: 3_600_000, burst: 100_000 },
    Rule::Rate { count: 1_000_000, per_ms: 1_000, burst: 5 },
    Rule::Quota { count: 50, window_ns: 24 * HOUR_NS },
    Rule::Rate { count: 1, per_ms: 3_600_000, burst: 2 },
];

#[derive(Clone, Debug)]
enum Step {
    Call { key: u64, rules: Vec<usize>, cost: u64 },
    GiveBack,
    Tokens { key: u64, count: u64 },
    Later { nanos: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let rules = proptest::sample::subsequence((0..RULES.len()).collect::<Vec<_>>(), 1..=RULES.len());
    let cost = prop_oneof![6 => Just(1_u64), 2 => 2..6_u64, 1 => Just(u64::MAX)];
    let nanos = prop_oneof![0..200_u64, 0..3_000_000_u64, 0..100 * SECOND_NS, 0..4 * HOUR_NS];
    prop_oneof![
        6 => (0..KEYS, rules.prop_shuffle(), cost).prop_map(|(key, rules, cost)| Step::Call { key, rules, cost }),
        1 => Just(Step::GiveBack),
        1 => (0..KEYS, 0..150_000_u64).prop_map(|(key, count)| Step::Tokens { key, count }),
        3 => nanos.prop_map(|nanos| Step::Later { nanos }),
    ]
}

/// What is under test.
struct Live {
    table: Table,
    quotas: Quotas,
    debts: Debts,
}

impl Live {
    fn new() -> Self {
        Self { table: Table::new(8), quotas: Quotas::new(8), debts: Debts::new(4) }
    }

    fn item(&self, rule: usize, key: u64, cost: u64, when: When) -> Item<'_> {
        let limit = match RULES[rule] {
            Rule::Rate { count, per_ms, burst } => {
                Limit::Rate(&self.table, Terms::new(count, per_ms, burst).unwrap())
            }
            Rule::Quota { count, window_ns } => {
                Limit::Quota(&self.quotas, Quota { count, ends_ns: end_of_window(when, window_ns) })
            }
            Rule::Tokens { count, per_ms, burst } => {
                Limit::Tokens(&self.debts, Terms::new(count, per_ms, burst).unwrap())
            }
        };
        Item::new(limit, hash(rule, key), cost)
    }
}

fn hash(rule: usize, key: u64) -> u64 {
    (rule as u64 + 1) * 16 + key
}

fn end_of_window(when: When, window_ns: u64) -> u64 {
    (when.unix_ns / window_ns + 1) * window_ns
}

/// A rule and a key.
type Place = (usize, u64);

/// The same for one thread, without words, tags, tables and modular time.
#[derive(Default)]
struct Plain {
    /// Units of 16 ns until when a rate or a count of tokens is paid for.
    paid: HashMap<Place, u128>,
    /// End of the window, and what was used of it.
    used: HashMap<Place, (u64, u128)>,
}

impl Plain {
    /// What the rule says to this call, and with `take` the same call counted.
    fn ask(&mut self, place: Place, cost: u64, when: When, take: bool) -> Verdict {
        match RULES[place.0] {
            Rule::Rate { count, per_ms, burst } => {
                let now = u128::from(when.moment.as_nanos() / 16);
                let price = price(count, per_ms);
                let owed = self.paid.get(&place).map_or(0, |paid| paid.saturating_sub(now));
                let (most, after) = (price * u128::from(burst), owed + price * u128::from(cost));
                if after <= most && take {
                    self.paid.insert(place, now + after);
                }
                smooth(owed, after, most, price)
            }
            Rule::Tokens { count, per_ms, burst } => {
                let now = u128::from(when.moment.as_nanos() / 16);
                let price = price(count, per_ms);
                let owed = self.paid.get(&place).map_or(0, |paid| paid.saturating_sub(now));
                let most = price * u128::from(burst);
                match smooth(owed, owed + price, most, price) {
                    Verdict::Room { left, .. } => Verdict::Room { left: left + 1, reset_ns: ns(owed) },
                    refusal => refusal,
                }
            }
            Rule::Quota { count, window_ns } => {
                let ends = end_of_window(when, window_ns);
                let used =
                    self.used.get(&place).filter(|(window, _)| *window == ends).map_or(0, |used| used.1);
                let after = used + u128::from(cost);
                let reset_ns = ends - when.unix_ns;
                if after <= u128::from(count) {
                    if take {
                        self.used.insert(place, (ends, after));
                    }
                    return Verdict::Room { left: count - u64::try_from(after).unwrap(), reset_ns };
                }
                Verdict::Exhausted { retry_ns: if cost > count { u64::MAX } else { reset_ns }, reset_ns }
            }
        }
    }

    fn give_back(&mut self, place: Place, cost: u64, taken: When, when: When) {
        match RULES[place.0] {
            Rule::Rate { count, per_ms, .. } => {
                let now = u128::from(when.moment.as_nanos() / 16);
                let paid = self.paid.entry(place).or_default();
                *paid = paid.saturating_sub(price(count, per_ms) * u128::from(cost)).max(now.min(*paid));
            }
            Rule::Quota { window_ns, .. } => {
                let (window, used) = self.used.entry(place).or_default();
                if *window == end_of_window(taken, window_ns) {
                    *used -= u128::from(cost);
                }
            }
            Rule::Tokens { .. } => {}
        }
    }

    fn tokens(&mut self, rule: usize, key: u64, count: u64, when: When) {
        if let Rule::Tokens { count: rate, per_ms, .. } = RULES[rule] {
            let paid = self.paid.entry((rule, key)).or_default();
            *paid = (*paid).max(u128::from(when.moment.as_nanos() / 16))
                + price(rate, per_ms) * u128::from(count);
        }
    }
}

fn price(count: u64, per_ms: u64) -> u128 {
    (u128::from(per_ms) * 1_000_000).div_ceil(16 * u128::from(count))
}

fn smooth(owed: u128, after: u128, most: u128, price: u128) -> Verdict {
    if after <= most {
        return Verdict::Room { left: u64::try_from((most - after) / price).unwrap(), reset_ns: ns(after) };
    }
    let retry_ns = if after - owed > most { u64::MAX } else { ns(after - most) };
    Verdict::Exhausted { retry_ns, reset_ns: ns(owed) }
}

fn ns(units: u128) -> u64 {
    u64::try_from(units * 16).unwrap()
}

/// A call that passed: its key, rules, cost and time.
type Passed = (u64, Vec<usize>, u64, When);

/// One call of both, which must say the same of every limit.
fn call(live: &Live, plain: &mut Plain, (key, rules, cost, when): Passed) -> Option<Passed> {
    let mut items: Vec<Item<'_>> = rules.iter().map(|rule| live.item(*rule, key, cost, when)).collect();
    let said = admit(&mut items, when);
    let mut refused = None;
    for (index, rule) in rules.iter().enumerate() {
        let verdict = plain.ask((*rule, key), cost, when, false);
        refused = refused.or((!verdict.has_room()).then_some(Refusal { index, verdict }));
    }
    assert_eq!(said, refused.map_or(Ok(()), Err));
    if said.is_err() {
        return None;
    }
    for (item, rule) in items.iter().zip(&rules) {
        assert_eq!(item.verdict, plain.ask((*rule, key), cost, when, true), "rule {rule}");
    }
    let part = |item: &Item<'_>| match item.verdict {
        Verdict::Room { left, .. } => left as f64 / item.limit.most() as f64,
        _ => panic!("admitted without room"),
    };
    let smallest = items.iter().map(part).fold(f64::MAX, f64::min);
    assert!(nearest(&items).is_some_and(|item| part(item) <= smallest), "nearest to exhaustion");
    Some((key, rules, cost, when))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_answer_is_that_of_the_plain_model(
        before_wrap in 0..10 * HOUR_NS,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let (live, mut plain) = (Live::new(), Plain::default());
        let mut now = WRAP_NS - before_wrap;
        let (mut swept, mut last) = (now, None);
        for step in steps {
            let when = When { moment: Moment::from_nanos(now), unix_ns: EPOCH_NS + now };
            match step {
                Step::Call { key, rules, cost } => {
                    last = call(&live, &mut plain, (key, rules, cost, when)).or(last);
                }
                Step::GiveBack => {
                    let Some((key, rules, cost, taken)) = last.take() else { continue };
                    let items: Vec<_> = rules.iter().map(|rule| live.item(*rule, key, cost, taken)).collect();
                    release(&items, when);
                    rules.iter().for_each(|rule| plain.give_back((*rule, key), cost, taken, when));
                }
                Step::Tokens { key, count } => {
                    let Limit::Tokens(debts, terms) = live.item(3, key, 1, when).limit else { continue };
                    prop_assert!(debts.charge(hash(3, key), &terms, count, when.moment.as_nanos()));
                    plain.tokens(3, key, count, when);
                }
                Step::Later { nanos } => now += nanos,
            }
            if now - swept > 20 * HOUR_NS {
                live.table.sweep(0..live.table.lines(), Moment::from_nanos(now));
                swept = now;
            }
        }
    }
}

#[test]
fn a_thousand_refusals_leave_the_other_limits_as_they_were() {
    let live = Live::new();
    let when = When { moment: Moment::from_nanos(SECOND_NS), unix_ns: EPOCH_NS };
    let mut hourly = [live.item(6, 0, 1, when)];
    assert!((0..2).all(|_| admit(&mut hourly, when).is_ok()));
    let others = |live: &Live| {
        [0, 1, 2].map(|rule| {
            let mut alone = [live.item(rule, 0, 1, when)];
            let said = admit(&mut alone, when);
            release(&alone, when);
            (said, alone[0].verdict)
        })
    };
    let before = others(&live);
    for _ in 0..1_000 {
        let mut items = [0, 1, 2, 6].map(|rule| live.item(rule, 0, 1, when));
        assert_eq!(admit(&mut items, when).map_err(|refusal| refusal.index), Err(3));
    }
    assert_eq!(others(&live), before);
}
