//! The live decision: `policy::decide` over a configuration that was loaded as a file is, with the state that all
//! workers share.
//!
//! Not here: what it should have said (`operator`, `ledger`).

use crate::base::clock::Moment;
use crate::config;
use crate::config::access::AccessRule;
use crate::config::labels::Labels;
use crate::config::limit::Limit;
use crate::config::pattern::Named;
use crate::mcp;
use crate::mcp::target::Target;
use crate::policy::access::Standing;
use crate::policy::access::Told;
use crate::policy::decide;
use crate::policy::decide::Admission;
use crate::policy::decide::Asked;
use crate::policy::decide::Desk;
use crate::policy::decide::Refused;
use crate::policy::decide::Seen;
use crate::policy::decide::Trail;
use crate::policy::expression::Patterns;
use crate::policy::identity::Caller;
use crate::policy::identity::Origin;
use crate::policy::kills::Kill;
use crate::policy::kills::Kills;
use crate::policy::kills::Kind;
use crate::policy::limits::Counters;
use crate::policy::limits::gate::Receipt;
use crate::policy::limits::gate::When;
use crate::policy::limits::keys::Keys;
use crate::policy::limits::rules::Rules;
use crate::policy::limits::terms::Verdict;
use crate::simulation::operator::AGENTS;
use crate::simulation::operator::Message;
use crate::simulation::operator::Method;
use crate::simulation::operator::Missed;
use crate::simulation::operator::Written;
use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;

/// The end of a window of every length up to an hour, and a whole number of the units in which limits count.
pub const EPOCH_NS: u64 = 29_789_880 * super::operator::MINUTE_NS;

/// What survives a reload, and what a reload makes.
pub struct Office {
    pub counters: Counters,
    pub kills: Kills,
    /// What the wall clock was set forward by.
    pub stepped_ns: u64,
    plan: config::plan::Plan,
    standings: Vec<Standing>,
    callers: Vec<Caller>,
    /// Of each worker, as `patterns`.
    rules: Vec<Rules>,
    patterns: Vec<RefCell<Patterns>>,
}

/// What became of a message, with the places of limits in the plan.
pub struct Decided {
    pub end: End,
    pub met: Vec<usize>,
    pub missed: Vec<(usize, Missed)>,
}

pub enum End {
    Passes(Vec<Receipt>),
    Killed,
    Forbidden,
    Limited(usize, Verdict),
}

/// What the live code tells of each limit.
#[derive(Default)]
struct Notes(Vec<(*const Limit, Missed)>);

impl Trail for Notes {
    fn seen(&mut self, limit: &Limit, seen: Seen<'_>) {
        let missed = match seen {
            Seen::OtherMethod => Missed::OtherMethod,
            Seen::OtherServer => Missed::OtherServer,
            Seen::OtherTool => Missed::OtherTool,
            Seen::No => Missed::No,
            Seen::Failed(_) => Missed::Failed,
            Seen::Uncounted => Missed::Uncounted,
        };
        self.0.push((limit, missed));
    }

    fn told(&mut self, _: &AccessRule, _: Told) {}
}

impl Office {
    pub fn new(written: &Written, workers: usize, seeds: [u64; 2]) -> Self {
        let plan = load(written);
        let counters = Counters::new(plan.limits.table, Keys { seeds });
        let patterns: Vec<RefCell<Patterns>> = (0..workers).map(|_| RefCell::default()).collect();
        let callers: Vec<Caller> = AGENTS
            .iter()
            .map(|agent| Caller {
                tenant: agent.tenant.into(),
                roles: agent.role.into_iter().map(Box::from).collect(),
                origin: if agent.is_anonymous { Origin::Anonymous } else { Origin::Certificate },
                ..Caller::of_certificate(agent.name)
            })
            .collect();
        let standings =
            callers.iter().map(|caller| Standing::new(&plan.access, caller, &patterns[0])).collect();
        let rules = (0..workers).map(|_| Rules::new(&plan.limits, &counters.keys)).collect();
        Self { counters, kills: Kills::default(), stepped_ns: 0, plan, standings, callers, rules, patterns }
    }

    /// The same file is read again: what is counted stays.
    pub fn reload(&mut self, written: &Written) {
        self.plan = load(written);
        let standing = |caller| Standing::new(&self.plan.access, caller, &self.patterns[0]);
        self.standings = self.callers.iter().map(standing).collect();
        for rules in &mut self.rules {
            *rules = Rules::new(&self.plan.limits, &self.counters.keys);
        }
    }

    /// Throws a kill switch, or takes it back where it is thrown.
    pub fn switch(&mut self, kind: Kind, name: &str) {
        let kill = || Kill {
            kind,
            name: name.into(),
            operator: "ann".into(),
            reason: Box::default(),
            since_unix_ms: 0,
        };
        self.kills = self.kills.without(kind, name).unwrap_or_else(|| self.kills.with(kill()));
    }

    /// The wall clock was set forward, by so much in all.
    pub fn wall_ns(&self, now_ns: u64) -> u64 {
        self.stepped_ns + now_ns
    }

    pub fn when(&self, now_ns: u64) -> When {
        When { moment: Moment::from_nanos(now_ns), unix_ns: EPOCH_NS + self.wall_ns(now_ns) }
    }

    pub fn decide(&self, worker: usize, message: &Message, now_ns: u64) -> Decided {
        let desk = Desk {
            access: &self.plan.access,
            limits: &self.plan.limits,
            rules: &self.rules[worker],
            counters: &self.counters,
            kills: &self.kills,
            patterns: &self.patterns[worker],
        };
        let named = if message.method == Method::Prompt { Named::Prompt } else { Named::Tool };
        let targets = [Target { named, name: Cow::Borrowed(message.target()) }];
        let body = message.body();
        let asked = Asked {
            caller: &self.callers[message.agent],
            standing: &self.standings[message.agent],
            server: message.server,
            catalogue: None,
            labels: Labels::NONE,
            method: mcp::envelope::Method::from_text(message.method.text()),
            method_text: message.method.text(),
            target: message.target(),
            targets: if message.method == Method::Handshake { &[] } else { &targets },
            source: AGENTS[message.agent].source.parse().expect("an address"),
            body: body.as_bytes(),
            when: self.when(now_ns),
            number: 0,
            answers: &[],
        };
        let (mut admission, mut notes) = (Admission::default(), Notes::default());
        let place = |limit: *const Limit| {
            self.plan.limits.list.iter().position(|known| std::ptr::eq(known, limit)).expect("of the plan")
        };
        let end = match decide::decide(desk, &asked, &mut admission, &mut notes) {
            Ok(()) => End::Passes(admission.receipts().collect()),
            Err(Refused::Killed(_)) => End::Killed,
            Err(Refused::Forbidden(Some(rule))) if &*rule.name == "guard" => End::Forbidden,
            Err(Refused::Limited(limit, verdict)) => End::Limited(place(limit), verdict),
            Err(refused) => panic!("refused by {}", refused.rule()),
        };
        let met = admission.limits().map(|(limit, _)| place(limit)).collect();
        Decided { end, met, missed: notes.0.into_iter().map(|(limit, why)| (place(limit), why)).collect() }
    }
}

/// The plan, with a second limit of the same bucket behind the others for each that is met twice.
fn load(written: &Written) -> config::plan::Plan {
    let text = written.yaml();
    let load = || match config::load_text(&text, "seed.yaml", Path::new("")) {
        Ok(loaded) => loaded.plan,
        Err(problems) => panic!("{problems}\n{text}"),
    };
    let mut plan = load();
    let twice = load().limits.list.into_iter().zip(&written.rules).filter(|(_, rule)| rule.twice);
    plan.limits.list.extend(twice.map(|(limit, _)| limit));
    plan
}
