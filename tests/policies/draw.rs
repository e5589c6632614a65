//! Policies, callers, things and arguments, drawn at random. Conditions are drawn well-typed: what cannot be loaded
//! tells nothing about deciding.
//!
//! Not here: conditions (`draw/test`), and what they mean (`policy`, `evaluate`).

mod arguments;
mod test;

use crate::policies::policy::Effect;
use crate::policies::policy::Kind;
use crate::policies::policy::Moment;
use crate::policies::policy::Person;
use crate::policies::policy::Policy;
use crate::policies::policy::Rule;
use crate::policies::policy::SERVERS;
use crate::policies::policy::Thing;
use crate::policies::random::Random;
use crate::policies::value::Arguments;
use crate::policies::value::Value;

const NAMES: [&str; 4] = ["ada", "agent-7", "bob", "guest"];
const ROLES: [&str; 4] = ["admin", "finance", "sales", "support"];
const TENANTS: [&str; 3] = ["", "acme", "beta"];
const SCOPES: [&str; 3] = ["crm.read", "repo:delete", "x"];
pub const TOOLS: [&str; 9] = [
    "delete_ticket",
    "delete_user",
    "read",
    "read_ticket",
    "read_user",
    "read__x",
    "transfer",
    "v1.run",
    "v2.run",
];
pub const PROMPTS: [&str; 4] = ["read_me", "reply", "reply.short", "summary"];
pub const RESOURCES: [&str; 5] =
    ["file:///notes/a.txt", "file:///notes/{id}", "file:///private/a.txt", "mem://x.y", "mem:x"];
/// Moments that conditions name.
pub const TIMES: [(&str, i64); 3] = [
    ("2026-01-31T08:00:00Z", 1_769_846_400_000),
    ("2026-06-30T18:00:00Z", 1_782_842_400_000),
    ("2026-11-25T00:00:00Z", 1_795_564_800_000),
];
const SOURCES: [(&str, &str); 4] = [
    ("10.1.2.3", "10.1.2.3"),
    ("192.168.7.9", "192.168.7.9"),
    ("::1", "::1"),
    ("::ffff:10.1.2.3", "10.1.2.3"),
];

/// All that one seed is about.
#[derive(Clone, Debug)]
pub struct Case {
    pub policy: Policy,
    pub people: Vec<Person>,
    pub things: Vec<Thing>,
    pub arguments: Vec<Arguments>,
    pub moment: Moment,
}

impl Case {
    pub fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let mut things: Vec<Thing> = Vec::new();
        for _ in 0..6 {
            let drawn = thing(random);
            if !things.iter().any(|known| known.shown() == drawn.shown()) {
                things.push(drawn);
            }
        }
        Self {
            policy: policy(random, &things),
            people: (0..2).map(|_| person(random)).collect(),
            things,
            arguments: (0..4).map(|_| arguments::draw(random)).collect(),
            moment: moment(random),
        }
    }
}

/// Each of them by a chance of one in two.
fn some(random: &mut Random, of: &[&'static str]) -> Vec<&'static str> {
    of.iter().copied().filter(|_| random.one_in(2)).collect()
}

fn thing(random: &mut Random) -> Thing {
    let server = random.one_of(&SERVERS);
    let kind = random.one_of(&[Kind::Tool, Kind::Tool, Kind::Tool, Kind::Prompt, Kind::Resource]);
    let name = match kind {
        Kind::Tool => random.one_of(&TOOLS),
        Kind::Prompt => random.one_of(&PROMPTS),
        Kind::Resource => random.one_of(&RESOURCES),
    };
    let hints = (kind == Kind::Tool && !random.one_in(3)).then(|| [(); 4].map(|()| random.one_in(2)));
    Thing { kind, server, name: name.to_owned(), hints }
}

fn person(random: &mut Random) -> Person {
    let name = random.one_of(&NAMES);
    let mut claims = vec![("sub".to_owned(), Value::text(name))];
    let mut claim = |key: &str, values: &[Option<Value>]| {
        let drawn = &values[random.between(0, values.len() as u64 - 1) as usize];
        claims.extend(drawn.clone().map(|value| (key.to_owned(), value)));
    };
    let groups = |names: &[&str]| Some(Value::List(names.iter().copied().map(Value::text).collect()));
    let unit = |value| Some(Value::Map(vec![("unit".to_owned(), value)]));
    claim("level", &[Some(Value::Int(3)), Some(Value::Double(3.5)), Some(Value::text("3")), None]);
    claim("groups", &[groups(&[]), groups(&["eu"]), groups(&["eu", "a"]), Some(Value::text("eu")), None]);
    claim("org", &[unit(Value::text("eu")), unit(Value::Null), Some(Value::text("eu")), None]);
    claim("flag", &[Some(Value::Bool(true)), Some(Value::Bool(false)), Some(Value::Null), None]);
    Person {
        name,
        roles: some(random, &ROLES),
        tenant: random.one_of(&TENANTS),
        claims: Value::Map(claims),
        scopes: some(random, &SCOPES),
    }
}

fn moment(random: &mut Random) -> Moment {
    let (_, edge) = random.one_of(&TIMES);
    let (source, source_as_text) = random.one_of(&SOURCES);
    Moment { now_ms: edge + random.one_of(&[-7_200_000, -1, 0, 1, 86_400_000]), source, source_as_text }
}

/// Which effects a policy has.
#[derive(Clone, Copy)]
enum Mix {
    Allows,
    Denies,
    Both,
}

fn policy(random: &mut Random, things: &[Thing]) -> Policy {
    let mix = random.one_of(&[Mix::Allows, Mix::Denies, Mix::Both, Mix::Both]);
    let count = random.between(1, 5);
    let mut rules: Vec<Rule> = (0..count).map(|index| rule(random, mix, (index, things))).collect();
    // Else most would hide nearly everything.
    if !matches!(mix, Mix::Denies) && random.one_in(2) {
        rules.push(Rule {
            name: "all".into(),
            effect: Effect::Allow,
            roles: Vec::new(),
            principals: Vec::new(),
            patterns: ["*", "prompt:*", "resource:*"].map(str::to_owned).to_vec(),
            when: random.one_in(3).then(|| test::usual(random)),
        });
    }
    Policy { rules }
}

fn rule(random: &mut Random, mix: Mix, (index, things): (u64, &[Thing])) -> Rule {
    let effect = match mix {
        _ if random.one_in(8) => Effect::Scopes(vec![random.one_of(&SCOPES), random.one_of(&SCOPES)]),
        Mix::Allows => Effect::Allow,
        Mix::Denies => Effect::Deny,
        Mix::Both if random.one_in(2) => Effect::Allow,
        Mix::Both => Effect::Deny,
    };
    let patterns = (0..random.between(1, 3)).map(|_| pattern(random, things)).collect();
    let roles = if random.one_in(4) { vec![random.one_of(&ROLES)] } else { Vec::new() };
    let principals = if random.one_in(6) { vec![random.one_of(&NAMES)] } else { Vec::new() };
    let when = match random.between(0, 5) {
        0 | 1 => None,
        2 | 3 => Some(test::usual(random)),
        _ => Some(test::draw(random, 3)),
    };
    Rule { name: format!("r{index}"), effect, roles, principals, patterns, when }
}

/// One that is about something that there is.
fn pattern(random: &mut Random, things: &[Thing]) -> String {
    let thing = &things[random.between(0, things.len() as u64 - 1) as usize];
    let kind = match thing.kind {
        Kind::Tool => "",
        Kind::Prompt => "prompt:",
        Kind::Resource => "resource:",
    };
    let (server, name) = (thing.server, thing.name.as_str());
    // All names are ASCII.
    let cut = random.between(0, name.len() as u64) as usize;
    let (before, after) = name.split_at(cut);
    match random.between(0, 9) {
        0 | 1 => format!("{kind}*"),
        2 | 3 => format!("{kind}{server}.*"),
        4 => format!("{kind}{server}.{before}*"),
        5 => format!("{kind}{server}.*{after}"),
        6 => format!("{kind}{server}.{before}*{}", after.get(1..).unwrap_or("")),
        7 => format!("{kind}*.{before}*"),
        8 => format!("{kind}{}*.{name}", &server[..1]),
        _ => format!("{kind}{server}.{name}"),
    }
}
