//! One case: what lists show and what becomes of calls, by the live code and by the second evaluator.
//!
//! Not here: what a call is put to (`Decide`): the whole decision, or the access rules alone.

use crate::config;
use crate::config::access::AccessRule;
use crate::config::labels::Labels;
use crate::config::pattern::Named;
use crate::config::plan::Plan;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::target::Target;
use crate::policies::draw::Case;
use crate::policies::policy::Answer;
use crate::policies::policy::Facts;
use crate::policies::policy::Kind;
use crate::policies::policy::Moment;
use crate::policies::policy::Person;
use crate::policies::policy::Policy;
use crate::policies::policy::Thing;
use crate::policies::tree::Test;
use crate::policies::value::Arguments;
use crate::policies::value::quoted;
use crate::policy::access::Standing;
use crate::policy::access::View;
use crate::policy::expression::Patterns;
use crate::policy::identity::Caller;
use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;

/// A call as the live code sees it.
pub struct Call<'c> {
    pub view: View<'c>,
    pub target: Target<'c>,
    pub method: &'c str,
    pub body: &'c str,
    pub patterns: &'c RefCell<Patterns>,
}

/// What decides about a call.
pub type Decide<'d> = &'d dyn Fn(&Plan, &Call<'_>) -> Answer;

/// What a case shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shares {
    pub hides: bool,
    /// Calls of one thing by one caller pass or not as their arguments are.
    pub by_arguments: bool,
}

/// Panics where the two differ, with the smallest policy that shows it.
pub fn run(seed: u64, decide: Decide<'_>) -> Shares {
    let case = Case::new(seed);
    judge(&case, decide).unwrap_or_else(|difference| {
        let (smallest, difference) = shrunk(case, difference, decide);
        panic!("seed {seed} differs\n{}{difference}", smallest.policy.to_yaml())
    })
}

fn judge(case: &Case, decide: Decide<'_>) -> Result<Shares, String> {
    let yaml = case.policy.to_yaml();
    let loaded = config::load_text(&yaml, "policy.yaml", Path::new(""));
    let plan = loaded.map_err(|problems| format!("cannot be loaded: {problems}\n{yaml}"))?.plan;
    let patterns = RefCell::new(Patterns::default());
    let mut shares = Shares::default();
    for person in &case.people {
        let caller = caller(person);
        let standing = Standing::new(&plan.access, &caller, &patterns);
        for thing in &case.things {
            let bench = Bench { case, plan: &plan, person, thing, patterns: &patterns };
            let found = bench.judge((&caller, &standing), decide)?;
            shares.hides |= found.hides;
            shares.by_arguments |= found.by_arguments;
        }
    }
    Ok(shares)
}

/// One caller in front of one thing.
struct Bench<'b> {
    case: &'b Case,
    plan: &'b Plan,
    person: &'b Person,
    thing: &'b Thing,
    patterns: &'b RefCell<Patterns>,
}

impl Bench<'_> {
    fn judge(&self, (caller, standing): (&Caller, &Standing), decide: Decide<'_>) -> Result<Shares, String> {
        let catalogue = catalogue(&self.case.things, self.thing.server);
        let view = view(self.thing, (caller, standing), self.case.moment);
        let view = View { catalogue: Some(&catalogue), ..view };
        let named = named(self.thing.kind);
        let listed = view.sees(&self.plan.access, named, &self.thing.name, self.patterns);
        let expected = self.case.policy.is_listed(&self.facts(None, self.thing.kind.method()));
        if listed != expected.is_ok() {
            return Err(self.difference("a list", &listed, &expected));
        }
        let mut passed = Vec::new();
        for (arguments, method) in self.calls() {
            let body = body(self.thing, arguments, method);
            let target = Target { named, name: Cow::Borrowed(&self.thing.name) };
            let call = Call { view, target, method, body: &body, patterns: self.patterns };
            let answer = decide(self.plan, &call);
            let expected = self.case.policy.answer(&self.facts(Some(arguments), method));
            if !is_same(&answer, &expected) || matches!(answer, Answer::Hidden(_)) == listed {
                return Err(self.difference(&body, &answer, &expected));
            }
            let passes = matches!(answer, Answer::Passes | Answer::Scopes(..));
            if listed && !passes && !self.reads_message() && method == self.thing.kind.method() {
                return Err(self.difference(&body, &answer, &"listed, and no rule reads the message"));
            }
            passed.push(passes);
        }
        let by_arguments = passed.contains(&true) && passed.contains(&false);
        Ok(Shares { hides: !listed, by_arguments })
    }

    /// Arguments and methods; a resource has no arguments.
    fn calls(&self) -> Vec<(&Arguments, &'static str)> {
        let main = self.thing.kind.method();
        if self.thing.kind == Kind::Resource {
            return [main, "resources/subscribe"].map(|method| (&self.case.arguments[0], method)).to_vec();
        }
        self.case.arguments.iter().map(|arguments| (arguments, main)).collect()
    }

    fn facts<'f>(&'f self, arguments: Option<&'f Arguments>, method: &'f str) -> Facts<'f> {
        let Self { person, thing, .. } = *self;
        Facts { person, thing, moment: self.case.moment, method, arguments }
    }

    /// Any rule of this caller and thing does.
    fn reads_message(&self) -> bool {
        let facts = self.facts(None, "");
        let mut rules = self.case.policy.rules.iter().filter(|rule| rule.concerns(&facts));
        rules.any(|rule| rule.when.as_ref().is_some_and(Test::reads_message))
    }

    fn difference(&self, of: &str, live: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug) -> String {
        let Self { person, thing, case, .. } = self;
        let (shown, hints) = (thing.shown(), thing.hints);
        format!(
            "{shown} {hints:?}\n{person:?}\n{:?}\n{of}\nlive: {live:?}\nexpected: {expected:?}",
            case.moment
        )
    }
}

pub fn names(rule: Option<&AccessRule>) -> Vec<String> {
    rule.map(|rule| rule.name.to_string()).into_iter().collect()
}

/// The live code names one rule, the specification all that refuse.
pub fn is_same(live: &Answer, expected: &Answer) -> bool {
    match (live, expected) {
        (Answer::Hidden(named), Answer::Hidden(all)) | (Answer::Forbidden(named), Answer::Forbidden(all)) => {
            named.is_empty() == all.is_empty() && named.iter().all(|name| all.contains(name))
        }
        _ => live == expected,
    }
}

pub fn caller(person: &Person) -> Caller {
    let boxed = |texts: &[&str]| texts.iter().copied().map(Box::from).collect();
    Caller {
        roles: boxed(&person.roles),
        scopes: boxed(&person.scopes),
        tenant: person.tenant.into(),
        claims: person.claims.to_claims(),
        ..Caller::of_certificate(person.name)
    }
}

/// Of a server whose catalogue is not known.
pub fn view<'v>(
    thing: &'v Thing,
    (caller, standing): (&'v Caller, &'v Standing),
    moment: Moment,
) -> View<'v> {
    View {
        caller,
        standing,
        server: thing.server,
        catalogue: None,
        labels: Labels::NONE,
        source: moment.source.parse().expect("an address"),
        now: moment.now_ms,
    }
}

pub fn named(kind: Kind) -> Named {
    match kind {
        Kind::Tool => Named::Tool,
        Kind::Prompt => Named::Prompt,
        Kind::Resource => Named::Resource,
    }
}

/// What control learns of the server.
pub fn catalogue(things: &[Thing], server: &str) -> Catalogue {
    let entry = |thing: &Thing| {
        let hints =
            thing.hints_as_json().map(|hints| format!(r#","annotations":{hints}"#)).unwrap_or_default();
        format!(r#"{{"name":{}{hints}}}"#, quoted(&thing.name))
    };
    let of = |kind: Kind| {
        let own = things.iter().filter(|thing| thing.server == server && thing.kind == kind);
        own.map(entry).collect::<Vec<_>>().join(",")
    };
    let (tools, prompts) = (of(Kind::Tool), of(Kind::Prompt));
    let page = format!(r#"{{"result":{{"tools":[{tools}],"prompts":[{prompts}]}}}}"#);
    let mut catalogue = Catalogue::default();
    assert_eq!(catalogue.add(page.as_bytes()), Ok(None), "{page}");
    catalogue
}

pub fn body(thing: &Thing, arguments: &Arguments, method: &str) -> String {
    let name = quoted(&thing.name);
    let params = match thing.kind {
        Kind::Resource => format!(r#"{{"uri":{name}}}"#),
        Kind::Tool | Kind::Prompt => format!(r#"{{"name":{name},"arguments":{}}}"#, arguments.json),
    };
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

/// Rules are left out, and conditions give way to their parts, as long as the two still differ.
fn shrunk(mut case: Case, mut difference: String, decide: Decide<'_>) -> (Case, String) {
    'again: loop {
        for policy in smaller(&case.policy) {
            let tried = Case { policy, ..case.clone() };
            if let Err(found) = judge(&tried, decide)
                && !found.starts_with("cannot be loaded")
            {
                (case, difference) = (tried, found);
                continue 'again;
            }
        }
        return (case, difference);
    }
}

fn smaller(policy: &Policy) -> Vec<Policy> {
    let mut found = Vec::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        let mut without = policy.clone();
        without.rules.remove(index);
        found.push(without);
        let parts = rule.when.as_ref().map(Test::parts).unwrap_or_default();
        let with = |when: Option<Test>, patterns: Vec<String>| {
            let mut changed = policy.clone();
            (changed.rules[index].when, changed.rules[index].patterns) = (when, patterns);
            changed
        };
        found.extend(parts.into_iter().map(|part| with(Some(part.clone()), rule.patterns.clone())));
        if rule.when.is_some() {
            found.push(with(None, rule.patterns.clone()));
        }
        if rule.patterns.len() > 1 {
            found.push(with(rule.when.clone(), rule.patterns[1..].to_vec()));
        }
    }
    found.retain(|policy| !policy.rules.is_empty());
    found
}
