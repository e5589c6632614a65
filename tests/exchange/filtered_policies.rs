//! Generated policies through the real gateway: what two callers see in lists, and what their calls find, is what the
//! second evaluator says.
//!
//! Not here: thousands of policies, claims, scopes, hints and times (`tests/policies.rs`).

use crate::policies::draw::Case;
use crate::policies::draw::PROMPTS;
use crate::policies::draw::RESOURCES;
use crate::policies::draw::TOOLS;
use crate::policies::policy::Answer;
use crate::policies::policy::Facts;
use crate::policies::policy::Kind;
use crate::policies::policy::Moment;
use crate::policies::policy::Person;
use crate::policies::policy::SERVERS;
use crate::policies::policy::Thing;
use crate::policies::value::Arguments;
use crate::policies::value::Value;
use crate::support::agent::Caller;
use crate::support::call::Call;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::script;
use crate::support::script::Script;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::collections::BTreeSet;

const PEOPLE: [(&str, &str); 2] = [("ada", "admin,support"), ("bob", "finance")];
/// Kind, list, its member, what names an entry, and the entries.
const LISTS: [(Kind, &str, &str, &str, &[&str]); 3] = [
    (Kind::Tool, "tools/list", "tools", "name", &TOOLS),
    (Kind::Prompt, "prompts/list", "prompts", "name", &PROMPTS),
    (Kind::Resource, "resources/list", "resources", "uri", &RESOURCES),
];

/// The policy of this seed, where it looks at nothing that is not the same in every run.
fn case(seed: u64) -> Option<Case> {
    let case = Case::new(seed);
    let policy = case.policy.access();
    let person = |(name, roles): (&'static str, &'static str)| Person {
        name,
        roles: roles.split(',').collect(),
        tenant: "",
        claims: Value::Map(Vec::new()),
        scopes: Vec::new(),
    };
    let moment = Moment { source: "127.0.0.1", source_as_text: "127.0.0.1", ..case.moment };
    let differs = policy.contains("now") || policy.contains("annotations");
    (!differs).then(|| Case { people: PEOPLE.map(person).to_vec(), moment, ..case })
}

/// Whatever is drawn, under each name of a server.
fn server() -> Upstream {
    let answer = |result: String| -> Script {
        script::script(move |connection, request| {
            let id = request.envelope().raw_id().to_owned();
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            script::send(connection, &script::plain(200, &body))
        })
    };
    let up = TOOLS.into_iter().fold(upstream(), |up, tool| up.tool(tool));
    let up = up.method("prompts/get", answer(r#"{"messages":[]}"#.into()));
    let lists = LISTS.into_iter().fold(up, |up, (_, method, list, key, names)| {
        let entries: Vec<String> = names.iter().map(|name| format!(r#"{{"{key}":"{name}"}}"#)).collect();
        up.method(method, answer(format!(r#"{{"{list}":[{}]}}"#, entries.join(","))))
    });
    lists.run()
}

/// Feature: listed if and only if callable, policy after policy in one process.
#[test]
fn filtered_discovery_policies() {
    everywhere(|run| {
        let up = server();
        let builder = run.gateway().agents_with_roles(&PEOPLE);
        let gw = SERVERS.iter().fold(builder, |gw, server| gw.to(server, &up)).run();
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        let plan = || gw.admin("/api/v1/info").text();
        let agents = |(name, _): (&str, &str)| SERVERS.map(|server| gw.agent(name, server));
        let mut agents = PEOPLE.map(agents);
        let mut found = BTreeSet::new();
        for case in (0..).filter_map(case).take(size(10, 30)) {
            let before = plan();
            gw.rewrite(&format!("{yaml}{}", case.policy.access()));
            eventually("another plan is used", || plan() != before);
            for (person, agents) in case.people.iter().zip(&mut agents) {
                for (server, agent) in SERVERS.into_iter().zip(agents) {
                    see(&case, person, (server, agent));
                    found.extend(call(&case, person, (server, agent), &up));
                }
            }
        }
        assert_eq!(found.len(), 3, "not every outcome was met: {found:?}");
    });
}

fn facts<'f>(case: &'f Case, person: &'f Person, thing: &'f Thing) -> Facts<'f> {
    Facts { person, thing, moment: case.moment, method: thing.kind.method(), arguments: None }
}

/// All lists of one server, as one caller sees them.
#[track_caller]
fn see(case: &Case, person: &Person, (server, agent): (&'static str, &mut Caller)) {
    for (kind, method, list, key, names) in LISTS {
        let answer = agent.send(&agent.request(method)).json();
        let entries = answer["result"][list].as_array().unwrap_or_else(|| panic!("{answer}"));
        let seen: BTreeSet<&str> = entries.iter().map(|entry| entry[key].as_str().unwrap()).collect();
        let is_listed = |name: &&str| {
            let thing = Thing { kind, server, name: (*name).to_owned(), hints: None };
            case.policy.is_listed(&facts(case, person, &thing)).is_ok()
        };
        let expected: BTreeSet<&str> = names.iter().copied().filter(is_listed).collect();
        assert_eq!(seen, expected, "{method} of {server} by {person:?}\n{}", case.policy.access());
    }
}

/// HTTP status, code, and whether the server has seen the call.
type Outcome = (u16, i64, bool);

/// A call of each tool and prompt that the case is about.
#[track_caller]
fn call(
    case: &Case,
    person: &Person,
    (server, agent): (&'static str, &mut Caller),
    up: &Upstream,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let things = case.things.iter().filter(|thing| thing.server == server && thing.kind != Kind::Resource);
    for thing in things {
        let thing = Thing { hints: None, ..thing.clone() };
        for drawn in case.arguments.iter().filter(|arguments| !arguments.json.contains(r"\ud800")).take(2) {
            let mut call = Call { name: Some(thing.name.clone()), ..agent.request(thing.kind.method()) };
            let members = drawn.json[1..drawn.json.len() - 1].trim();
            call.given = if members.is_empty() { String::new() } else { members.to_owned() + "," };
            let arguments = Arguments { json: call.arguments(), value: with_own(drawn, &call) };
            let facts = Facts { arguments: Some(&arguments), ..facts(case, person, &thing) };
            let answer = agent.send(&call);
            let found = (answer.status, answer.code(), up.mentions(&call.token) > 0);
            let expected: Outcome = match case.policy.answer(&facts) {
                Answer::Passes => (200, 0, true),
                Answer::Hidden(_) => (200, -32602, false),
                Answer::Forbidden(_) | Answer::Scopes(..) => (403, -33403, false),
            };
            assert_eq!(
                found,
                expected,
                "{} by {person:?}\n{answer:?}\n{}",
                call.body(),
                case.policy.access()
            );
            outcomes.push(found);
        }
    }
    outcomes
}

/// With what the tests add to the arguments of every call.
fn with_own(drawn: &Arguments, call: &Call) -> Option<Value> {
    let Value::Map(mut entries) = drawn.value.clone()? else { panic!("arguments are a map") };
    entries.push(("token".into(), Value::text(&call.token)));
    entries.push(("x".into(), Value::Map(Vec::new())));
    Some(Value::Map(entries))
}
