//! `ringgate explain` of generated calls: it tells the decision that is made live, and of each rule whether it matches.
//!
//! Not here: limits and routes, which it tells too (`tests/cli.rs`).

use crate::policies::draw::Case;
use crate::policies::judge;
use crate::policies::judge::Call;
use crate::policies::judge::Decide;
use crate::policies::policy::Answer;
use crate::policies::policy::Effect;
use crate::policies::policy::Facts;
use crate::policies::policy::Person;
use crate::policies::policy::Rule;
use crate::policies::policy::Thing;
use crate::policies::random::Random;
use crate::policies::random::mixed;
use crate::policies::value::Arguments;
use crate::policy::access::Standing;
use crate::policy::access::View;
use crate::policy::expression::Patterns;
use crate::policy::limits::Counters;
use clap::Parser;
use ringgate::cli::explain;
use ringgate::config;
use ringgate::config::plan::Plan;
use ringgate::mcp::target::Target;
use serde_json::Value;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The command line of the subcommand.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: explain::Args,
}

/// One call of a case.
struct Asked {
    seed: u64,
    case: Case,
    yaml: String,
    plan: Plan,
    person: Person,
    thing: Thing,
    arguments: Arguments,
}

impl Asked {
    fn new(seed: u64) -> Self {
        let case = Case::new(seed);
        // Other numbers than those that the case was drawn with.
        let mut random = Random::new(mixed(seed));
        let mut pick = |count: usize| random.between(0, count as u64 - 1) as usize;
        let person = case.people[pick(case.people.len())].clone();
        let thing = case.things[pick(case.things.len())].clone();
        let arguments = case.arguments[pick(case.arguments.len())].clone();
        let yaml = case.policy.to_yaml();
        let plan = config::load_text(&yaml, "policy.yaml", Path::new("")).expect("a policy").plan;
        Self { seed, case, yaml, plan, person, thing, arguments }
    }

    /// What stands behind `ringgate explain`.
    fn words(&self, config: &str) -> Vec<String> {
        let Self { person, thing, arguments, .. } = self;
        let at = jiff::Timestamp::from_millisecond(self.case.moment.now_ms);
        let mut words = vec![
            ("-c", config.to_owned()),
            ("--as", person.name.to_owned()),
            ("--claims", person.claims.to_json()),
            ("--at", at.expect("a time").to_string()),
            ("--source", self.case.moment.source.to_owned()),
            ("--args", arguments.json.clone()),
        ];
        let (roles, scopes) = (person.roles.join(","), person.scopes.join(","));
        let lists = [("--roles", roles), ("--scopes", scopes), ("--tenant", person.tenant.to_owned())];
        words.extend(lists.into_iter().filter(|(_, list)| !list.is_empty()));
        words.extend(thing.hints_as_json().map(|hints| ("--annotations", hints)));
        let words = words.into_iter().flat_map(|(key, value)| [key.to_owned(), value]);
        words.chain([thing.shown()]).collect()
    }

    fn tell(&self, counters: &Counters, format: &[&str]) -> String {
        let words = [vec!["explain".to_owned()], self.words("policy.yaml")].concat();
        let words = words.iter().map(String::as_str).chain(format.iter().copied());
        let line =
            Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}\n{:?}", self.words("")));
        explain::tell(&self.plan, counters, &line.args).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn decided(&self, decide: Decide<'_>) -> Answer {
        let caller = judge::caller(&self.person);
        let patterns = RefCell::new(Patterns::default());
        let standing = Standing::new(&self.plan.access, &caller, &patterns);
        let catalogue = judge::catalogue(&self.case.things, self.thing.server);
        let view = judge::view(&self.thing, (&caller, &standing), self.case.moment);
        let view = View { catalogue: Some(&catalogue), ..view };
        let method = self.thing.kind.method();
        let body = judge::body(&self.thing, &self.arguments, method);
        let target = Target { named: judge::named(self.thing.kind), name: Cow::Borrowed(&self.thing.name) };
        decide(&self.plan, &Call { view, target, method, body: &body, patterns: &patterns })
    }

    /// Whether `told`, one for each rule, is what the specification says of them.
    fn is_path(&self, told: &[Value], allowed: bool) -> bool {
        let facts = Facts {
            person: &self.person,
            thing: &self.thing,
            moment: self.case.moment,
            method: self.thing.kind.method(),
            arguments: Some(&self.arguments),
        };
        let agrees = |(told, rule): (&Value, &Rule)| match told["matches"].as_bool() {
            Some(matches) => matches == rule.is_possible(&facts),
            // Scopes are asked for only of what passes otherwise.
            None => !allowed && matches!(rule.effect, Effect::Scopes(_)),
        };
        let rules = &self.case.policy.rules;
        told.iter().map(|told| &told["rule"]).eq(rules.iter().map(|rule| rule.name.as_str()))
            && told.iter().zip(rules).all(agrees)
    }

    fn compare(&self, counters: &Counters, decide: Decide<'_>) {
        let answer = self.decided(decide);
        let told: Value = serde_json::from_str(&self.tell(counters, &["--json"])).expect("JSON");
        let (decision, rules) = (&told["decision"], told["access"].as_array().expect("a list"));
        let is_told = is_told(decision, &answer) && self.is_path(rules, decision["allowed"] == true);
        // Where one rule decides, it is told that it matches.
        let deciding = decision["rule"].as_str().and_then(|rule| rule.strip_prefix("access."));
        let is_match = |name: &str| rules.iter().any(|rule| rule["rule"] == name && rule["matches"] == true);
        assert!(
            is_told && deciding.is_none_or(is_match),
            "seed {} differs\n{}{:?}\n{answer:?}\n{told}",
            self.seed,
            self.yaml,
            self.words("policy.yaml")
        );
    }
}

/// Panics where the explanation of a call of this seed is not the decision.
pub fn compare(seed: u64, counters: &Counters, decide: Decide<'_>) {
    Asked::new(seed).compare(counters, decide);
}

fn is_told(decision: &Value, answer: &Answer) -> bool {
    let by = |names: &[String]| match names {
        [] => "access".to_owned(),
        [name, ..] => format!("access.{name}"),
    };
    let refused = |status: u16, reason: &str, rule: String| {
        decision["allowed"] == false
            && decision["status"] == status
            && decision["reason"] == reason
            && decision["rule"] == rule
    };
    match answer {
        Answer::Passes => decision["allowed"] == true && decision.get("rule").is_none(),
        Answer::Hidden(names) => refused(200, "unknown", by(names)),
        Answer::Forbidden(names) => refused(403, "forbidden", by(names)),
        Answer::Scopes(name, _) => refused(403, "insufficient_scope", format!("access.{name}")),
    }
}

/// The program says what the function says, which has been compared: here once more, as people read it.
pub fn compare_program(seed: u64, counters: &Counters, decide: Decide<'_>) {
    let asked = Asked::new(seed);
    asked.compare(counters, decide);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("policy-{seed}.yaml"));
    fs::write(&file, &asked.yaml).expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    let words = asked.words(&file.to_string_lossy());
    let output = command.arg("explain").args(words).output().expect("it runs");
    fs::remove_file(&file).expect("it is ours");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "seed {seed}: {err}");
    assert_eq!(out.trim_end(), asked.tell(counters, &[]), "seed {seed}");
    let (decision, by) = match asked.decided(decide) {
        Answer::Passes => ("allowed", Vec::new()),
        Answer::Hidden(names) => ("hidden as if it did not exist", names),
        Answer::Forbidden(names) => ("refused: 403 forbidden by access", names),
        Answer::Scopes(name, _) => ("refused: 403 insufficient_scope by access", vec![name]),
    };
    let last = out.lines().last().unwrap_or("");
    assert!(last.contains(decision), "seed {seed}: {decision}\n{out}");
    let is_match = |line: &str, name: &str| line.split_whitespace().take(2).eq([name, "match:"]);
    let path = |name: &String| {
        last.contains(&format!("access.{name}")) && out.lines().any(|line| is_match(line, name))
    };
    assert!(by.iter().all(path), "seed {seed}: {by:?}\n{out}");
}
