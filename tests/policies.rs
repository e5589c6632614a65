//! Access rules against a second evaluator: over thousands of generated policies, what is listed is what can be
//! called, every single decision is the one of the specification, and `ringgate explain` tells it.
//!
//! `RINGGATE_POLICIES_SEED=n` runs one seed, `RINGGATE_POLICIES_SEEDS=n` the first n.
//!
//! Not here: real sockets (`tests/exchange/`).

#![expect(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    unreachable_pub,
    reason = "tests fail by panicking, draw small numbers, and are built as a program too"
)]

// Where `crate::…` of the policies leads.
use ringgate::config;
use ringgate::mcp;
use ringgate::policy;

#[path = "policies/explain.rs"]
mod explain;
#[path = "policies/judges.rs"]
mod judges;
#[path = "policies/mod.rs"]
mod policies;

use crate::mcp::envelope::Method;
use crate::policies::judge;
use crate::policies::judge::Call;
use crate::policies::judge::Shares;
use crate::policies::judge::names;
use crate::policies::policy::Answer;
use crate::policy::decide::Admission;
use crate::policy::decide::Asked;
use crate::policy::decide::Desk;
use crate::policy::decide::Refused;
use crate::policy::kills::Kills;
use crate::policy::limits::Counters;
use crate::policy::limits::gate::When;
use crate::policy::limits::keys::Keys;
use crate::policy::limits::rules::Rules;
use ringgate::base::clock::Moment;
use ringgate::config::limit::LimitTable;
use ringgate::config::limit::OnFull;
use ringgate::config::plan::Plan;
use std::env;
use std::panic::resume_unwind;
use std::thread;

const SEEDS: u64 = 10_000;
/// As many are explained by the program too.
const PROGRAMS: u64 = 100;
/// Of all policies, as many hide something, and as many decide by arguments.
const SHARE_PERCENT: usize = 20;

fn seeds() -> u64 {
    number("RINGGATE_POLICIES_SEEDS").unwrap_or(SEEDS)
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Everything that outlives a decision.
struct Office {
    counters: Counters,
    kills: Kills,
}

impl Office {
    fn new() -> Self {
        let table = LimitTable { buckets: 1_024, on_full: OnFull::Refuse };
        let counters = Counters::new(table, Keys { seeds: [1, 2] });
        Self { counters, kills: Kills::default() }
    }

    /// What `decide` says, as it does live.
    fn decide(&self, plan: &Plan, call: &Call<'_>) -> Answer {
        let rules = Rules::new(&plan.limits, &self.counters.keys);
        let desk = Desk {
            access: &plan.access,
            limits: &plan.limits,
            rules: &rules,
            counters: &self.counters,
            kills: &self.kills,
            patterns: call.patterns,
        };
        let unix_ns = u64::try_from(call.view.now).expect("after 1970") * 1_000_000;
        let asked = Asked {
            caller: call.view.caller,
            standing: call.view.standing,
            server: call.view.server,
            labels: call.view.labels,
            catalogue: call.view.catalogue,
            method: Method::from_text(call.method),
            method_text: call.method,
            target: &call.target.name,
            targets: std::slice::from_ref(&call.target),
            source: call.view.source,
            body: call.body.as_bytes(),
            when: When { moment: Moment::ZERO, unix_ns },
            number: 0,
            answers: &[],
        };
        match policy::decide::decide(desk, &asked, &mut Admission::default(), &mut ()) {
            Ok(()) => Answer::Passes,
            Err(Refused::Hidden(rule)) => Answer::Hidden(names(rule)),
            Err(Refused::Forbidden(rule)) => Answer::Forbidden(names(rule)),
            Err(Refused::MissingScopes { rule, scopes }) => {
                Answer::Scopes(rule.name.to_string(), scopes.into_iter().map(str::to_owned).collect())
            }
            Err(other) => panic!("no rule of access: {}", other.rule()),
        }
    }
}

/// Runs the seed that is asked for, or the first `seeds`, on all cores; the results are in no order.
fn each_seed<T: Send>(seeds: u64, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    if let Some(seed) = number("RINGGATE_POLICIES_SEED") {
        return vec![run(seed)];
    }
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let run = &run;
    thread::scope(|scope| {
        let share = |first: u64| (first..seeds).step_by(threads as usize).map(run).collect::<Vec<T>>();
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        // With the words of the thread, which name the seed.
        let results =
            running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        results.flatten().collect()
    })
}

#[test]
fn listed_if_and_only_if_callable() {
    let office = Office::new();
    let run = |seed| judge::run(seed, &|plan, call| office.decide(plan, call));
    let shares: Vec<Shares> = each_seed(seeds(), run);
    let count = |has: fn(&Shares) -> bool| shares.iter().filter(|shares| has(shares)).count();
    let (hiding, by_arguments) = (count(|shares| shares.hides), count(|shares| shares.by_arguments));
    println!("{} policies: {hiding} hide something, {by_arguments} decide by arguments", shares.len());
    for share in [hiding, by_arguments] {
        let enough = share * 100 >= shares.len() * SHARE_PERCENT || shares.len() < 100;
        assert!(enough, "{hiding} hide something, {by_arguments} decide by arguments");
    }
}

/// `ringgate explain` tells of every policy what is decided live, and which rules match.
#[test]
fn explain_agrees() {
    let office = Office::new();
    each_seed(seeds(), |seed| {
        explain::compare(seed, &office.counters, &|plan, call| office.decide(plan, call))
    });
}

#[test]
fn explain_agrees_as_a_program() {
    let office = Office::new();
    each_seed(PROGRAMS, |seed| {
        explain::compare_program(seed, &office.counters, &|plan, call| office.decide(plan, call))
    });
}

#[test]
fn every_mutant_is_caught() {
    judges::judge();
}
