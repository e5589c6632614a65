//! The limits of the simulated callers, live and promised side by side.
//!
//! Not here: which limits match a call of a real configuration (`policy::limits::rules`).

use crate::base::clock::Moment;
use crate::policy::limits::gate;
use crate::policy::limits::gate::Item;
use crate::policy::limits::gate::Limit;
use crate::policy::limits::gate::When;
use crate::policy::limits::pinned::Debts;
use crate::policy::limits::pinned::Quota;
use crate::policy::limits::pinned::Quotas;
use crate::policy::limits::table::Table;
use crate::policy::limits::terms::Terms;
use crate::policy::limits::terms::Verdict;
use crate::simulation::promises::Meter;
use crate::simulation::promises::Window;
use crate::simulation::promises::window_end;
use crate::simulation::random::Random;
use crate::simulation::random::mixed;

pub const AGENTS: u64 = 4;
const MINUTE_NS: u64 = 60_000_000_000;
/// The end of a window of every length, and a whole number of the units in which limits count.
const EPOCH_NS: u64 = 29_789_880 * MINUTE_NS;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Rate { count: u64, per_ms: u64, burst: u64 },
    Quota { count: u64, minutes: u64 },
    Tokens { count: u64, per_ms: u64, burst: u64 },
}

/// One limit as the operator wrote it.
#[derive(Clone, Copy)]
struct Rule {
    kind: Kind,
    /// One bucket for all agents instead of one for each.
    shared: bool,
    /// The call meets it twice, as if two limits had got the same bucket: it can pass the check of both and yet have
    /// room for one only, which without threads is the one way to lose a race.
    twice: bool,
}

/// What one rule promises about one agent.
enum Account {
    Calls(Meter),
    Window(Window),
    Tokens(Meter),
}

pub struct Ledger {
    table: Table,
    quotas: Quotas,
    debts: Debts,
    rules: Vec<Rule>,
    /// One for each rule and agent, in this order.
    accounts: Vec<Account>,
    /// Differs from seed to seed, as the keys of a process do.
    salt: u64,
}

/// Calls of one moment that all limits let through.
pub struct Admitted {
    agent: u64,
    calls: u64,
    now_ns: u64,
    /// What every limit had left before.
    before: Vec<Verdict>,
}

impl Ledger {
    pub fn new(random: &mut Random) -> Self {
        let rate = |count, per_ms, burst| Kind::Rate { count, per_ms, burst };
        let kinds = [
            rate(random.between(2, 8), 1_000, random.between(2, 10)),
            rate(random.one_of(&[20, 25, 40]), 1_000, random.between(3, 30)),
            rate(1_000_000, 1_000, random.between(2, 3)),
            rate(random.between(100, 400), 60_000, random.between(20, 60)),
            Kind::Quota { count: random.between(100, 300), minutes: random.between(1, 2) },
            Kind::Tokens { count: 10_000, per_ms: 1_000, burst: random.between(1_000, 20_000) },
        ];
        let mut rules: Vec<Rule> = kinds
            .into_iter()
            .filter_map(|kind| {
                let rule = Rule { kind, shared: random.one_in(3), twice: random.one_in(4) };
                (!random.one_in(4)).then_some(rule)
            })
            .collect();
        let turns = rules.len().max(1) as u64;
        rules.rotate_left((random.bits() % turns) as usize);
        let account = |rule: &Rule| match rule.kind {
            Kind::Rate { count, per_ms, burst } => Account::Calls(Meter::new(count, per_ms, burst)),
            Kind::Quota { count, minutes } => Account::Window(Window::new(count, minutes * MINUTE_NS)),
            Kind::Tokens { count, per_ms, burst } => Account::Tokens(Meter::new(count, per_ms, burst)),
        };
        let accounts = rules.iter().flat_map(|rule| (0..AGENTS).map(|_| account(rule))).collect();
        let (table, quotas, debts) = (Table::new(1024), Quotas::new(64), Debts::new(64));
        Self { table, quotas, debts, rules, accounts, salt: random.bits() }
    }

    /// Admits `calls` one after another, all or none, as a batch is. Or the nanoseconds to wait.
    pub fn admit(&mut self, agent: u64, calls: u64, now_ns: u64) -> Result<Admitted, u64> {
        let admitted = Admitted { agent, calls, now_ns, before: self.looks(agent, now_ns) };
        for taken in 0..calls {
            let mut items = self.items(agent, now_ns);
            let said = gate::admit(&mut items, when(now_ns));
            let refused = said.err().map(|refusal| (self.places().nth(refusal.index), refusal.verdict));
            self.judge(agent, taken, refused.and_then(|(rule, _)| rule), now_ns);
            if let Some((_, verdict)) = refused {
                self.give_back(&Admitted { calls: taken, ..admitted });
                return Err(wait_ns(verdict));
            }
        }
        Ok(admitted)
    }

    /// The calls go ahead: they are counted for good.
    pub fn keep(&mut self, admitted: &Admitted) {
        let Admitted { agent, calls, now_ns, .. } = *admitted;
        for index in 0..self.rules.len() {
            let cost = calls * self.rules[index].times();
            match self.account(index, agent) {
                Account::Calls(meter) => meter.add(cost, now_ns),
                Account::Window(window) => window.add(cost, now_ns),
                Account::Tokens(_) => {}
            }
        }
    }

    /// The calls were refused further on: every limit must be as it was before them.
    pub fn give_back(&mut self, admitted: &Admitted) {
        let Admitted { agent, calls, now_ns, .. } = *admitted;
        (0..calls).for_each(|_| gate::release(&self.items(agent, now_ns), when(now_ns)));
        assert!(admitted.before == self.looks(agent, now_ns), "a refusal or a give-back left a trace");
    }

    pub fn charge_tokens(&mut self, agent: u64, tokens: u64, now_ns: u64) {
        for index in 0..self.rules.len() {
            let Kind::Tokens { count, per_ms, burst } = self.rules[index].kind else { continue };
            let terms = terms(count, per_ms, burst);
            assert!(self.debts.charge(self.key(index, agent), &terms, tokens, EPOCH_NS + now_ns));
            if let Account::Tokens(meter) = self.account(index, agent) {
                meter.add(tokens, now_ns);
            }
        }
    }

    pub fn sweep(&self, now_ns: u64) {
        self.table.sweep(0..self.table.lines(), Moment::from_nanos(now_ns));
    }

    /// Whether the answer to one more call is the promised one, after `taken` that are not yet kept. `refused`: the rule
    /// that refused it.
    fn judge(&mut self, agent: u64, taken: u64, refused: Option<usize>, now_ns: u64) {
        for index in 0..self.rules.len() {
            let rule = self.rules[index];
            let cost = (taken + 1) * rule.times();
            let before = refused.is_none_or(|refused| index < refused);
            let (room, exact) = match self.account(index, agent) {
                Account::Calls(meter) => (meter.has_room(cost, now_ns), meter.is_exact()),
                Account::Window(window) => (window.has_room(cost, now_ns), true),
                // What it costs is known later; one must be left.
                Account::Tokens(meter) => (meter.has_room(1, now_ns), meter.is_exact()),
            };
            // What is met twice is refused last, when the others are taken already.
            let passed = room || !before || rule.twice && refused.is_some();
            assert!(passed, "{:?}: more passed than it allows", rule.kind);
            assert!(!room || refused != Some(index) || !exact, "{:?}: refused with room left", rule.kind);
        }
    }

    /// What every limit has left, as a caller would be told.
    fn looks(&self, agent: u64, now_ns: u64) -> Vec<Verdict> {
        let look = |item: Item<'_>| match item.limit {
            Limit::Rate(table, terms) => table.check(item.key, &terms, 1, Moment::from_nanos(now_ns)),
            Limit::Quota(quotas, quota) => quotas.check(item.key, &quota, 1, EPOCH_NS + now_ns),
            Limit::Tokens(debts, terms) => debts.check(item.key, &terms, EPOCH_NS + now_ns),
        };
        self.items(agent, now_ns).into_iter().map(look).collect()
    }

    fn items(&self, agent: u64, now_ns: u64) -> Vec<Item<'_>> {
        let item = |index: usize| {
            let limit = match self.rules[index].kind {
                Kind::Rate { count, per_ms, burst } => Limit::Rate(&self.table, terms(count, per_ms, burst)),
                Kind::Quota { count, minutes } => Limit::Quota(
                    &self.quotas,
                    Quota { count, ends_ns: EPOCH_NS + window_end(minutes * MINUTE_NS, now_ns) },
                ),
                Kind::Tokens { count, per_ms, burst } => {
                    Limit::Tokens(&self.debts, terms(count, per_ms, burst))
                }
            };
            Item::new(limit, self.key(index, agent), 1)
        };
        self.places().map(item).collect()
    }

    /// The rule of each item.
    fn places(&self) -> impl Iterator<Item = usize> {
        let twice = self.rules.iter().enumerate().filter(|(_, rule)| rule.twice).map(|(index, _)| index);
        (0..self.rules.len()).chain(twice)
    }

    fn key(&self, index: usize, agent: u64) -> u64 {
        let agent = if self.rules[index].shared { AGENTS } else { agent };
        mixed(self.salt.wrapping_add(index as u64 * 100 + agent))
    }

    fn account(&mut self, index: usize, agent: u64) -> &mut Account {
        let agent = if self.rules[index].shared { 0 } else { agent };
        &mut self.accounts[index * AGENTS as usize + agent as usize]
    }
}

impl Rule {
    fn times(&self) -> u64 {
        1 + u64::from(self.twice)
    }
}

fn when(now_ns: u64) -> When {
    When { moment: Moment::from_nanos(now_ns), unix_ns: EPOCH_NS + now_ns }
}

fn terms(count: u64, per_ms: u64, burst: u64) -> Terms {
    Terms::new(count, per_ms, burst).expect("every rule of a simulation can be kept")
}

fn wait_ns(verdict: Verdict) -> u64 {
    match verdict {
        Verdict::Exhausted { retry_ns, .. } => retry_ns,
        verdict => panic!("refused with {verdict:?}"),
    }
}
