//! The limits of the simulated callers, live and promised side by side.
//!
//! Not here: which limits a call meets (`operator`), and how the live code is asked (`office`).

use crate::base::clock::Moment;
use crate::policy::kills;
use crate::policy::limits::gate::Receipt;
use crate::policy::limits::pinned::Quota;
use crate::policy::limits::terms::Verdict;
use crate::simulation::office::Decided;
use crate::simulation::office::EPOCH_NS;
use crate::simulation::office::End;
use crate::simulation::office::Office;
use crate::simulation::operator::AGENTS;
use crate::simulation::operator::Kind;
use crate::simulation::operator::MINUTE_NS;
use crate::simulation::operator::Message;
use crate::simulation::operator::Missed;
use crate::simulation::operator::Rule;
use crate::simulation::operator::Written;
use crate::simulation::promises::Meter;
use crate::simulation::promises::Window;
use crate::simulation::promises::window_end;
use crate::simulation::random::Random;
use std::collections::BTreeMap;

/// What can be killed.
const SWITCHES: [(kills::Kind, &str); 4] = [
    (kills::Kind::Principal, "ann"),
    (kills::Kind::Tenant, "umbrella"),
    (kills::Kind::Server, "notes"),
    (kills::Kind::Tool, "db.run_sql"),
];

/// What one rule promises about one bucket.
enum Account {
    Calls(Meter),
    Window(Window),
    Tokens(Meter),
}

/// A rule, as its place among the rules, and the bucket in which it counts.
type Bucket = (usize, String);

pub struct Ledger {
    office: Office,
    written: Written,
    /// Of each limit of the plan: the operator's, then the built-in ones, then the second ones of those that are met
    /// twice.
    places: Vec<Option<usize>>,
    rules: Vec<Rule>,
    accounts: BTreeMap<Bucket, Account>,
    /// What the live code charges it by.
    receipts: BTreeMap<Bucket, Receipt>,
    /// Whose the live code's keys are.
    owners: BTreeMap<u64, Bucket>,
    /// The switch that is thrown, among [`SWITCHES`].
    thrown: Option<usize>,
}

/// Messages of one moment that all limits let through.
pub struct Admitted {
    message: Message,
    calls: u64,
    now_ns: u64,
    receipts: Vec<Receipt>,
    /// What every limit had left before.
    before: Vec<(Bucket, Verdict)>,
}

impl Ledger {
    pub fn new(random: &mut Random, workers: usize) -> Self {
        let written = Written::draw(random);
        let office = Office::new(&written, workers, [random.bits(), random.bits()]);
        let mut rules = written.rules.clone();
        let own = 0..rules.len();
        let twice = own.clone().filter(|index| rules[*index].twice).map(Some);
        // No call of a seed is a list, which the last built-in limit is about.
        let places = own.map(Some).chain([Some(rules.len()), None]).chain(twice).collect();
        rules.push(Rule::HANDSHAKES);
        let (accounts, receipts, owners) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { office, written, places, rules, accounts, receipts, owners, thrown: None }
    }

    pub fn reload(&mut self) {
        self.office.reload(&self.written);
    }

    /// Somebody sets the wall clock.
    pub fn step_wall(&mut self, random: &mut Random) {
        self.office.stepped_ns += random.between(0, 90) * MINUTE_NS;
    }

    /// An operator throws a kill switch, or takes it back. Whether one is thrown now.
    pub fn switch(&mut self, random: &mut Random) -> bool {
        let index = self.thrown.unwrap_or_else(|| random.between(0, SWITCHES.len() as u64 - 1) as usize);
        let (kind, name) = SWITCHES[index];
        self.office.switch(kind, name);
        self.thrown = self.thrown.is_none().then_some(index);
        self.thrown.is_some()
    }

    /// Admits `calls` equal messages one after another, all or none, as a batch is. Or the nanoseconds to wait; `u64::MAX`:
    /// waiting is of no use.
    pub fn admit(
        &mut self,
        worker: usize,
        message: Message,
        calls: u64,
        now_ns: u64,
    ) -> Result<Admitted, u64> {
        let before = self.looks(&message, now_ns);
        let mut admitted = Admitted { message, calls, now_ns, receipts: Vec::new(), before };
        for taken in 0..calls {
            let decided = self.office.decide(worker, &message, now_ns);
            self.judge_matching(&message, &decided);
            let refused = match &decided.end {
                End::Limited(place, _) => self.places[*place],
                End::Passes(_) | End::Killed | End::Forbidden => None,
            };
            let is_stopped = matches!(decided.end, End::Killed | End::Forbidden);
            if !is_stopped {
                self.judge(&message, taken, refused, now_ns);
            }
            let wait_ns = match decided.end {
                End::Passes(receipts) => {
                    self.remember(&message, &decided.met, &receipts);
                    for receipt in receipts {
                        if !admitted.receipts.iter().any(|known| known.is_same_debt(&receipt)) {
                            admitted.receipts.push(receipt);
                        }
                    }
                    continue;
                }
                End::Killed | End::Forbidden => u64::MAX,
                End::Limited(_, verdict) => wait_ns(verdict),
            };
            self.give_back(&Admitted { calls: taken, ..admitted });
            return Err(wait_ns);
        }
        Ok(admitted)
    }

    /// The calls go ahead: they are counted for good.
    pub fn keep(&mut self, admitted: &Admitted) {
        let Admitted { message, calls, now_ns, .. } = admitted;
        for (bucket, rule) in self.buckets(message) {
            let cost = calls * rule.times();
            match account(&mut self.accounts, bucket, &rule) {
                Account::Calls(meter) => meter.add(cost, *now_ns),
                Account::Window(window) => window.add(cost, self.office.wall_ns(*now_ns)),
                Account::Tokens(_) => {}
            }
        }
    }

    /// The calls were refused further on: every limit must be as it was before them.
    pub fn give_back(&self, admitted: &Admitted) {
        let Admitted { message, now_ns, receipts, before, .. } = admitted;
        self.office.counters.give_back(receipts, Moment::from_nanos(*now_ns));
        let after = self.looks(message, *now_ns);
        let changed = before.iter().find(|look| !after.contains(look));
        assert!(changed.is_none(), "a refusal or a give-back left a trace: {changed:?} among {after:?}");
    }

    pub fn charge_tokens(&mut self, admitted: &Admitted, tokens: u64, now_ns: u64) {
        self.office.counters.charge_tokens(&admitted.receipts, tokens, Moment::from_nanos(now_ns));
        for (bucket, rule) in self.buckets(&admitted.message) {
            if let Account::Tokens(meter) = account(&mut self.accounts, bucket, &rule) {
                meter.add(tokens, now_ns);
            }
        }
    }

    pub fn sweep(&self, now_ns: u64) {
        let table = &self.office.counters.table;
        table.sweep(0..table.lines(), Moment::from_nanos(now_ns));
    }

    /// Whether exactly those limits were met that the operator meant, and the others missed for the right reason.
    fn judge_matching(&self, message: &Message, decided: &Decided) {
        let promised = match (self.is_killed(message), self.written.forbids(message), &decided.end) {
            (true, _, End::Killed) | (false, true, End::Forbidden) => {
                assert!(decided.met.is_empty() && decided.missed.is_empty(), "no limit was asked");
                return;
            }
            (false, false, End::Passes(_) | End::Limited(..)) => self.places.iter().enumerate(),
            (killed, forbidden, _) => panic!("{message:?}: killed {killed}, forbidden {forbidden}"),
        };
        let (mut met, mut missed) = (Vec::new(), Vec::new());
        for (place, rule) in promised {
            match rule.map_or(Err(Missed::OtherMethod), |rule| self.rules[rule].bucket(message)) {
                Ok(_) => met.push(place),
                Err(why) => missed.push((place, why)),
            }
        }
        assert_eq!((&decided.met, &decided.missed), (&met, &missed), "limits of {message:?}");
    }

    /// Whether the answer to one more call is the promised one, after `taken` that are not yet kept. `refused`: the rule
    /// that refused it.
    fn judge(&mut self, message: &Message, taken: u64, refused: Option<usize>, now_ns: u64) {
        let (buckets, wall_ns) = (self.buckets(message), self.office.wall_ns(now_ns));
        let met = |refused| buckets.iter().any(|((index, _), _)| *index == refused);
        assert!(refused.is_none_or(met), "{refused:?} does not match {message:?}");
        for (bucket, rule) in buckets {
            let index = bucket.0;
            let cost = (taken + 1) * rule.times();
            let before = refused.is_none_or(|refused| index < refused);
            let (room, exact) = match account(&mut self.accounts, bucket, &rule) {
                Account::Calls(meter) => (meter.has_room(cost, now_ns), meter.is_exact()),
                Account::Window(window) => (window.has_room(cost, wall_ns), true),
                // What it costs is known later; one must be left.
                Account::Tokens(meter) => (meter.has_room(1, now_ns), meter.is_exact()),
            };
            // What is met twice is refused last, when the others are taken already.
            let passed = room || !before || rule.twice && refused.is_some();
            assert!(passed, "{:?}: more passed than it allows", rule.kind);
            assert!(!room || refused != Some(index) || !exact, "{:?}: refused with room left", rule.kind);
        }
    }

    /// Every limit that counts the message, with its bucket.
    fn buckets(&self, message: &Message) -> Vec<(Bucket, Rule)> {
        let bucket = |(index, rule): (usize, &Rule)| Some(((index, rule.bucket(message).ok()?), *rule));
        self.rules.iter().enumerate().filter_map(bucket).collect()
    }

    fn is_killed(&self, message: &Message) -> bool {
        let agent = &AGENTS[message.agent];
        match self.thrown.map(|index| SWITCHES[index]) {
            None => false,
            Some((kills::Kind::Principal, name)) => agent.name == name,
            Some((kills::Kind::Tenant, name)) => agent.tenant == name,
            Some((kills::Kind::Server, name)) => message.server == name,
            Some(_) => message.server == "db" && message.target() == "run_sql",
        }
    }

    /// Two buckets of one limit may never be one, and a bucket never two.
    fn remember(&mut self, message: &Message, met: &[usize], receipts: &[Receipt]) {
        for (place, receipt) in met.iter().zip(receipts) {
            let index = self.places[*place].expect("it was met as promised");
            let bucket = (index, self.rules[index].bucket(message).expect("it matches"));
            let owner = self.owners.entry(key(receipt)).or_insert_with(|| bucket.clone());
            assert_eq!(*owner, bucket, "two share a bucket");
            let known = self.receipts.entry(bucket).or_insert(*receipt);
            assert_eq!(key(known), key(receipt), "the bucket of {message:?}");
        }
    }

    /// What every limit has left, where it has counted before.
    fn looks(&self, message: &Message, now_ns: u64) -> Vec<(Bucket, Verdict)> {
        let look = |(bucket, rule): (Bucket, Rule)| {
            let receipt = match (*self.receipts.get(&bucket)?, rule.kind) {
                (Receipt::Quota(key, quota, cost), Kind::Quota { minutes, .. }) => {
                    let wall_ns = self.office.wall_ns(now_ns);
                    let ends_ns = EPOCH_NS + window_end(minutes * MINUTE_NS, wall_ns);
                    Receipt::Quota(key, Quota { ends_ns, ..quota }, cost)
                }
                (receipt, _) => receipt,
            };
            Some((bucket, self.office.counters.left(&receipt, self.office.when(now_ns))?))
        };
        self.buckets(message).into_iter().filter_map(look).collect()
    }
}

fn account<'a>(accounts: &'a mut BTreeMap<Bucket, Account>, bucket: Bucket, rule: &Rule) -> &'a mut Account {
    accounts.entry(bucket).or_insert_with(|| match rule.kind {
        Kind::Rate { count, per_ms, burst } => Account::Calls(Meter::new(count, per_ms, burst)),
        Kind::Quota { count, minutes } => Account::Window(Window::new(count, minutes * MINUTE_NS)),
        Kind::Tokens { count, per_ms, burst } => Account::Tokens(Meter::new(count, per_ms, burst)),
    })
}

fn key(receipt: &Receipt) -> u64 {
    match *receipt {
        Receipt::Rate(key, ..) | Receipt::Quota(key, ..) | Receipt::Tokens(key, _) => key,
    }
}

fn wait_ns(verdict: Verdict) -> u64 {
    match verdict {
        Verdict::Exhausted { retry_ns, .. } => retry_ns,
        verdict => panic!("refused with {verdict:?}"),
    }
}
