//! The world of one seed: clients, workers, a server that fails, slows down and recovers, reloads, and a clock that
//! jumps from one event to the next.
//!
//! A storm comes first, then a time in which every instance is slow, then a calm in which everything must recover, then
//! the last calls end. Every answer of the
//! live code is compared where it is given (`ledger`, `server`); what must hold at all times is checked after every
//! event.
//!
//! Not here: sockets, threads, real time.

use crate::base::clock::Moment;
use crate::config::limits::TICK_MS;
use crate::route::balance::Tried;
use crate::route::breaker::Outcome;
use crate::simulation::ledger::Admitted;
use crate::simulation::ledger::Ledger;
use crate::simulation::operator::AGENTS;
use crate::simulation::operator::Message;
use crate::simulation::operator::TOOLS;
use crate::simulation::random::Random;
use crate::simulation::scene::Condition;
use crate::simulation::scene::LABELS;
use crate::simulation::scene::Scene;
use crate::simulation::server::Passage;
use crate::simulation::server::Plan;
use crate::simulation::server::Server;
use crate::simulation::server::Sign;
use crate::simulation::server::Stay;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;

const MS_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000 * MS_NS;
const STORM_NS: u64 = 50 * SECOND_NS;
/// Longer than the longest open time of a breaker, so that the slow answers are seen.
const SLOW_ENDS_NS: u64 = STORM_NS + 15 * SECOND_NS;
/// And longer than an adaptive limit takes from its least to its most.
const CALM_ENDS_NS: u64 = SLOW_ENDS_NS + 35 * SECOND_NS;
const CLIENTS: u64 = 12;
/// The client that no limit is about: it calls all the time, so that recovery does not wait for a quota.
const UNLIMITED: u64 = 0;
const TRACE_LINES: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Call { client: u64 },
    End { call: u64 },
    Probe,
    Tidy,
    Weather,
    Reload,
    Kill,
    SlowEnds,
    CalmEnds,
}

/// A call on its way.
struct Call {
    plan: Rc<Plan>,
    worker: usize,
    /// What it owes its limits; none for the client that no limit is about.
    admitted: Option<Rc<Admitted>>,
    repeatable: bool,
    stay: Stay,
    tried: Tried,
    attempts: u8,
    /// Where it is, since when, and what will become of it.
    passage: Option<Passage>,
    sent_ns: u64,
    outcome: Outcome,
}

struct World {
    random: Random,
    now_ns: u64,
    began_ns: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbers: u64,
    scene: Scene,
    ledger: Ledger,
    server: Server,
    plan: Rc<Plan>,
    conditions: BTreeMap<&'static str, Condition>,
    calls: BTreeMap<u64, Call>,
    /// Calls and attempts after the first, of each worker.
    sent: Vec<(u64, u64)>,
    trace: Option<VecDeque<String>>,
}

/// Runs a seed. Panics with its number and its last events where a promise is broken.
pub fn run(seed: u64) {
    if catch_unwind(|| World::new(seed, false).run()).is_err() {
        let trace = replay(seed);
        panic!("{trace}\nseed {seed} breaks a promise; RINGGATE_SIMULATION_SEED={seed} replays it");
    }
}

/// Runs a seed and returns its last events, up to a broken promise where there is one.
pub fn replay(seed: u64) -> String {
    let mut world = World::new(seed, true);
    let broken = catch_unwind(AssertUnwindSafe(|| world.run())).is_err();
    let end = if broken { "a promise is broken here" } else { "every promise is kept" };
    world.note(|| end.into());
    Vec::from(world.trace.unwrap_or_default()).join("\n")
}

impl World {
    fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let scene = Scene::new(&mut random);
        let ledger = Ledger::new(&mut random, scene.workers);
        let mut server = Server::default();
        let traffic = scene.traffic(&mut random, None);
        // Just before the times of buckets and of breakers wrap, too.
        let wraps_ns = random.one_of(&[SECOND_NS + STORM_NS, 1 << 48, MS_NS << 32]);
        let began_ns = (wraps_ns - random.between(SECOND_NS, STORM_NS)) / 16 * 16;
        let plan = server.adopt(None, traffic, scene.workers, began_ns);
        let sent = vec![(0, 0); scene.workers];
        Self {
            random,
            now_ns: began_ns,
            began_ns,
            events: BinaryHeap::new(),
            numbers: 0,
            scene,
            ledger,
            server,
            plan: Rc::new(plan),
            conditions: LABELS.map(|label| (label, Condition::Well)).into(),
            calls: BTreeMap::new(),
            sent,
            trace: traced.then(VecDeque::new),
        }
    }

    fn run(&mut self) {
        for client in 0..CLIENTS {
            self.after(0, Event::Call { client });
        }
        for event in [Event::Probe, Event::Tidy, Event::Weather, Event::Reload, Event::Kill] {
            self.after(SECOND_NS, event);
        }
        self.after(SLOW_ENDS_NS, Event::SlowEnds);
        self.after(CALM_ENDS_NS, Event::CalmEnds);
        while let Some(Reverse((at_ns, _, event))) = self.events.pop() {
            self.now_ns = at_ns;
            self.note(|| format!("{event:?}"));
            self.happen(event);
            self.server.check(&self.plan, self.now_ns);
        }
        assert!(self.calls.is_empty());
        self.server.check_empty();
    }

    fn happen(&mut self, event: Event) {
        let again_ns = match event {
            Event::End { call } => return self.end(call),
            Event::SlowEnds => return self.server.check_slowed(&self.plan),
            Event::CalmEnds => return self.server.check_recovered(&self.plan, self.now_ns),
            Event::Call { client } => self.call(client),
            Event::Probe => self.probe(),
            Event::Tidy => self.tidy(),
            Event::Weather => self.change_weather(),
            Event::Reload => self.reload(),
            Event::Kill => self.kill(),
        };
        if self.passed_ns() < CALM_ENDS_NS {
            self.after(again_ns, event);
        }
    }

    fn passed_ns(&self) -> u64 {
        self.now_ns - self.began_ns
    }

    /// What a worker reads where it reads no clock of its own: its last tick. Workers tick at different moments.
    fn coarse_ns(&self, worker: usize) -> u64 {
        let tick_ns = TICK_MS * MS_NS;
        self.now_ns - (self.now_ns + worker as u64 * 3 * MS_NS) % tick_ns
    }

    /// A client calls. Returns the nanoseconds until its next call.
    fn call(&mut self, client: u64) -> u64 {
        if client == UNLIMITED {
            let tool = self.random.between(0, TOOLS.len() as u64 - 1) as usize;
            self.send_first(client, tool, None);
            return self.random.between(1, 8_000) * 16_000;
        }
        let message = Message::draw(&mut self.random, client as usize % AGENTS.len());
        let batch = if self.random.one_in(10) { self.random.between(2, 4) } else { 1 };
        let think_ns = match self.random.between(0, 9) {
            // In a hurry.
            0..=1 => self.random.between(1, 200) * 16,
            2..=4 => self.random.between(1, 50_000) * 1_600,
            _ => self.random.between(1, 100_000) * 16_000,
        };
        let admitted = self.ledger.admit(self.worker_of(client), message, batch, self.now_ns);
        match admitted.map(Rc::new) {
            Ok(admitted) => {
                let sent = self.answer_or_send(client, &message, &admitted);
                self.note(|| format!("  client {client}, {batch} times {message:?}: sent {sent}"));
                if sent {
                    self.ledger.keep(&admitted);
                } else {
                    self.ledger.give_back(&admitted);
                }
                think_ns
            }
            Err(retry_ns) => {
                self.note(|| {
                    format!("  client {client}, {batch} times {message:?}: refused for {retry_ns} ns")
                });
                // The promised moment itself, or just before it, where it is worth waiting for.
                match self.random.between(0, 3) {
                    0 if retry_ns < 5 * SECOND_NS => retry_ns,
                    1 if (17..5 * SECOND_NS).contains(&retry_ns) => retry_ns - 16,
                    _ => think_ns,
                }
            }
        }
    }

    /// Whether anything was sent. The other server is always well, and answers at once.
    fn answer_or_send(&mut self, client: u64, message: &Message, admitted: &Rc<Admitted>) -> bool {
        if message.server == "db" {
            return self.send_first(client, message.tool, Some(Rc::clone(admitted)));
        }
        let tokens = self.random.between(1, 200);
        self.ledger.charge_tokens(admitted, tokens, self.now_ns);
        true
    }

    fn worker_of(&self, client: u64) -> usize {
        (client % self.scene.workers as u64) as usize
    }

    /// Whether anything was sent.
    fn send_first(&mut self, client: u64, tool: usize, admitted: Option<Rc<Admitted>>) -> bool {
        let plan = Rc::clone(&self.plan);
        if self.server.is_held(&plan, self.now_ns) {
            return false;
        }
        let worker = self.worker_of(client);
        let Some(stay) = self.server.enter(&plan, tool, self.coarse_ns(worker)) else { return false };
        plan.budgets[worker].deposit(&plan.traffic.retry);
        self.sent[worker].0 += 1;
        let call = Call {
            plan,
            worker,
            admitted,
            repeatable: tool != 0,
            stay,
            tried: Tried::default(),
            attempts: 0,
            passage: None,
            sent_ns: 0,
            outcome: Outcome::Neutral,
        };
        self.send(call)
    }

    /// Sends a call to the first instance that takes it; it is over where there is none.
    fn send(&mut self, mut call: Call) -> bool {
        loop {
            let bits = self.random.bits();
            let (choice, coarse_ns) = ((&call.plan, call.worker), self.coarse_ns(call.worker));
            let Ok(passage) = self.server.choose(choice, &mut call.tried, bits, coarse_ns) else {
                self.server.leave(call.stay, Outcome::Neutral, 0, self.now_ns);
                return false;
            };
            let index = passage.index;
            let condition = self.conditions[call.plan.labels[index]];
            self.note(|| format!("  to instance {index}, {condition:?}"));
            let sign = if condition == Condition::Down { Sign::Failed } else { Sign::Connected };
            self.server.observe(&call.plan, index, sign, self.now_ns);
            if condition == Condition::Down {
                self.server.settle(passage, Outcome::Failure, self.now_ns);
                continue;
            }
            call.passage = Some(passage);
            call.sent_ns = self.now_ns;
            let mut takes_ns = condition.takes_ns(&mut self.random);
            let fails = matches!(condition, Condition::Failing(permille) if self.random.between(1, 1_000) <= permille);
            call.outcome = if fails { Outcome::Failure } else { Outcome::Success };
            if self.random.one_in(20) {
                // The caller leaves.
                call.outcome = Outcome::Neutral;
                takes_ns /= 100;
            }
            self.numbers += 1;
            let number = self.numbers;
            self.calls.insert(number, call);
            self.after(takes_ns, Event::End { call: number });
            return true;
        }
    }

    fn end(&mut self, number: u64) {
        let mut call = self.calls.remove(&number).expect("a call ends once");
        let passage = call.passage.take().expect("it was sent");
        let (plan, index, outcome) = (Rc::clone(&call.plan), passage.index, call.outcome);
        self.note(|| format!("  at instance {index}: {outcome:?}"));
        if self.conditions[plan.labels[index]] == Condition::Limiting {
            self.server.hold(&plan, self.now_ns + self.random.between(1, 200) * MS_NS);
        }
        let (used, now) = (self.random.between(0, 1_000) as u16, Moment::from_nanos(self.now_ns));
        plan.cells.instances[index].load.report(used, now);
        self.server.settle(passage, outcome, self.now_ns);
        let again = outcome == Outcome::Failure && call.repeatable && call.attempts < plan.traffic.retry.max;
        if again && plan.budgets[call.worker].take() {
            call.attempts += 1;
            let sent = &mut self.sent[call.worker];
            sent.1 += 1;
            assert!(sent.1 * 10 <= sent.0, "{} retries of {} calls", sent.1, sent.0);
            if (0..plan.labels.len()).all(|index| call.tried.contains(index)) {
                call.tried = Tried::default();
            }
            self.send(call);
            return;
        }
        let tokens = self.random.between(1, 2_000);
        if let Some(admitted) = &call.admitted {
            self.ledger.charge_tokens(admitted, tokens, self.now_ns);
        }
        self.server.leave(call.stay, outcome, self.now_ns - call.sent_ns, self.now_ns);
    }

    fn probe(&mut self) -> u64 {
        for (index, label) in self.plan.labels.iter().enumerate() {
            let sick = matches!(self.conditions[label], Condition::Down | Condition::Failing(1_000));
            let sign = if sick { Sign::Failed } else { Sign::Succeeded };
            self.server.observe(&self.plan, index, sign, self.now_ns);
        }
        self.plan.traffic.health.map_or(SECOND_NS, |health| health.interval_ms * MS_NS)
    }

    fn tidy(&mut self) -> u64 {
        self.server.tidy(&self.plan, self.now_ns);
        self.ledger.sweep(self.now_ns);
        SECOND_NS
    }

    fn change_weather(&mut self) -> u64 {
        let everywhere = match self.passed_ns() {
            ..STORM_NS => None,
            STORM_NS..SLOW_ENDS_NS => Some(Condition::Slow),
            SLOW_ENDS_NS.. => Some(Condition::Well),
        };
        if let Some(condition) = everywhere {
            self.conditions = LABELS.map(|label| (label, condition)).into();
        } else {
            let label = self.random.one_of(&LABELS);
            let condition = Condition::draw(&mut self.random);
            self.note(|| format!("  {label}: {condition:?}"));
            self.conditions.insert(label, condition);
        }
        self.random.between(1, 3_000) * MS_NS
    }

    fn reload(&mut self) -> u64 {
        if self.passed_ns() < STORM_NS {
            let written = self.scene.traffic(&mut self.random, Some(&self.plan.traffic));
            self.plan =
                Rc::new(self.server.adopt(Some(&self.plan), written, self.scene.workers, self.now_ns));
            self.ledger.reload();
            self.ledger.step_wall(&mut self.random);
        }
        self.random.between(5, 30) * SECOND_NS
    }

    fn kill(&mut self) -> u64 {
        let thrown = self.ledger.switch(&mut self.random);
        self.random.between(1, if thrown { 200 } else { 4_000 }) * MS_NS
    }

    fn after(&mut self, wait_ns: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse((self.now_ns + wait_ns, self.numbers, event)));
    }

    fn note(&mut self, line: impl Fn() -> String) {
        let passed_ns = self.passed_ns();
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_LINES {
                trace.pop_front();
            }
            trace.push_back(format!("{:>12.6} s {}", passed_ns as f64 / SECOND_NS as f64, line()));
        }
    }
}
