//! Conditions, drawn at random.
//!
//! Not here: what they read (`draw`, `draw/arguments`).

use crate::policies::draw::NAMES;
use crate::policies::draw::ROLES;
use crate::policies::draw::TENANTS;
use crate::policies::draw::TIMES;
use crate::policies::draw::TOOLS;
use crate::policies::policy::SERVERS;
use crate::policies::random::Random;
use crate::policies::tree::Relation;
use crate::policies::tree::Term;
use crate::policies::tree::Test;
use crate::policies::tree::Variable;
use crate::policies::value::Value;

const EQUALITIES: [Relation; 2] = [Relation::Equal, Relation::NotEqual];
const ORDERS: [Relation; 4] =
    [Relation::Less, Relation::LessOrEqual, Relation::Greater, Relation::GreaterOrEqual];
const HINTS: [&str; 4] = ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];
const KEYS: [&str; 6] = ["amount", "region", "tags", "order", "flag", "absent"];
const CLAIMS: [&str; 5] = ["level", "groups", "org", "flag", "absent"];
const TEXTS: [&str; 8] = ["eu", "us", "ada", "finance", "a", "", "3", "1001"];
const NUMBERS: [i64; 6] = [-5, 0, 3, 1_000, 1_001, 9_007_199_254_740_992];

/// One that people write: what an argument is, alone or beside something else.
pub fn usual(random: &mut Random) -> Test {
    let argument = |key| field(Term::Variable(Variable::Args), key);
    let number = |number| Term::Literal(Value::Int(number));
    let of_argument = match random.between(0, 5) {
        0 | 1 => Test::Binary(random.one_of(&ORDERS), argument("amount"), number(1_000)),
        2 => Test::Binary(Relation::Equal, argument("region"), Term::Literal(Value::text("eu"))),
        3 => Test::Binary(Relation::In, Term::Literal(Value::text("a")), argument("tags")),
        4 => Test::Has(Term::Variable(Variable::Args), random.one_of(&KEYS)),
        _ => Test::Bare(argument("flag")),
    };
    match random.between(0, 3) {
        0 => Test::And(Box::new([of_argument, draw(random, 1)])),
        1 => Test::Or(Box::new([draw(random, 1), of_argument])),
        _ => of_argument,
    }
}

/// `depth`: how many operators may stand around an atom.
pub fn draw(random: &mut Random, depth: u64) -> Test {
    if depth == 0 {
        return atom(random);
    }
    let below = |random: &mut Random| draw(random, depth - 1);
    match random.between(0, 15) {
        0 | 1 => Test::Not(Box::new(below(random))),
        2..=4 => Test::And(Box::new([below(random), below(random)])),
        5..=7 => Test::Or(Box::new([below(random), below(random)])),
        8 => Test::If(Box::new([below(random), below(random), below(random)])),
        _ => atom(random),
    }
}

fn atom(random: &mut Random) -> Test {
    match random.between(0, 15) {
        0..=2 => comparison(random),
        3 => equality(random),
        4 | 5 => membership(random),
        6 => of_text(random),
        7 | 8 => has(random),
        9 => bare(random),
        10 => of_time(random),
        11 => of_source(random),
        12 => of_number(random),
        13 | 14 => each(random),
        _ => failing(random),
    }
}

fn literal(random: &mut Random) -> Term {
    Term::Literal(match random.between(0, 5) {
        0 | 1 => Value::Int(random.one_of(&NUMBERS)),
        2 => Value::Double(random.one_of(&[1_000.0, 1_000.5, 3.5, 9_007_199_254_740_992.0])),
        3 | 4 => Value::text(random.one_of(&TEXTS)),
        _ => Value::Bool(random.one_in(2)),
    })
}

fn text(random: &mut Random) -> Term {
    Term::Literal(Value::text(random.one_of(&TEXTS)))
}

fn whole(random: &mut Random) -> Term {
    Term::Literal(Value::Int(random.one_of(&NUMBERS)))
}

fn field(of: Term, name: &'static str) -> Term {
    Term::Field(Box::new(of), name)
}

fn element_of(of: Term, at: Value) -> Term {
    Term::Index(Box::new(of), Box::new(Term::Literal(at)))
}

/// A value whose type nobody knows before the call.
fn open(random: &mut Random) -> Term {
    let args = Term::Variable(Variable::Args);
    let jwt = Term::Variable(Variable::Jwt);
    match random.between(0, 14) {
        0..=4 => field(args, random.one_of(&KEYS)),
        5 => element_of(args, Value::text(random.one_of(&KEYS))),
        6 => field(field(args, "order"), "total"),
        7 => element_of(field(args, "tags"), Value::Int(random.one_of(&[-1, 0, 1]))),
        8 => {
            let params = field(Term::Variable(Variable::Body), "params");
            field(field(params, "arguments"), random.one_of(&KEYS))
        }
        9 => field(Term::Variable(Variable::Meta), "trace"),
        10 => field(field(jwt, "org"), "unit"),
        11 => element_of(field(jwt, "groups"), Value::Int(0)),
        _ => field(jwt, random.one_of(&CLAIMS)),
    }
}

/// A text that every call has, and texts that it may be.
fn known_text(random: &mut Random) -> (Term, &'static [&'static str]) {
    let (variable, texts): (_, &[&str]) = match random.between(0, 9) {
        0 | 1 => (Variable::Principal, &NAMES),
        2 => (Variable::Tenant, &TENANTS),
        3 => (Variable::Server, &SERVERS),
        4 => (Variable::Tool, &TOOLS),
        5 => (Variable::McpToolName, &TOOLS),
        6 => (Variable::BodyParamsName, &TOOLS),
        7 => (Variable::Method, &["tools/call", "prompts/get", "resources/subscribe"]),
        8 => (Variable::BodyMethod, &["tools/call", "completion/complete"]),
        _ => return (field(Term::Variable(Variable::Jwt), "sub"), &NAMES),
    };
    (Term::Variable(variable), texts)
}

fn comparison(random: &mut Random) -> Test {
    let left = open(random);
    let right = match random.between(0, 5) {
        0 => open(random),
        _ => literal(random),
    };
    let relation = if random.one_in(2) { random.one_of(&EQUALITIES) } else { random.one_of(&ORDERS) };
    if random.one_in(4) { Test::Binary(relation, right, left) } else { Test::Binary(relation, left, right) }
}

fn equality(random: &mut Random) -> Test {
    let (left, texts) = known_text(random);
    let right = match random.between(0, 3) {
        0 => open(random),
        _ => Term::Literal(Value::text(random.one_of(texts))),
    };
    Test::Binary(random.one_of(&EQUALITIES), left, right)
}

fn membership(random: &mut Random) -> Test {
    let roles = Term::Variable(Variable::Roles);
    let (left, right) = match random.between(0, 7) {
        0 | 1 => (Term::Literal(Value::text(random.one_of(&ROLES))), roles),
        2 => (open(random), roles),
        3 => (open(random), Term::List(vec![literal(random), literal(random)])),
        4 => (known_text(random).0, Term::List(vec![text(random), open(random)])),
        5 => (literal(random), open(random)),
        6 => (known_text(random).0, open(random)),
        _ => (Term::Literal(Value::text(random.one_of(&KEYS))), Term::Variable(Variable::Args)),
    };
    Test::Binary(Relation::In, left, right)
}

fn of_text(random: &mut Random) -> Test {
    let (known, texts) = known_text(random);
    let whole = random.one_of(texts);
    let part = Value::text(&whole[..whole.len().min(2)]);
    let (left, right) = match random.between(0, 4) {
        0 => (open(random), text(random)),
        1 => (known, open(random)),
        2 => return Test::Binary(Relation::Matches, open(random), Term::Literal(Value::text("^e"))),
        _ => (known, Term::Literal(part)),
    };
    Test::Binary(random.one_of(&[Relation::Contains, Relation::StartsWith, Relation::EndsWith]), left, right)
}

fn has(random: &mut Random) -> Test {
    let (args, jwt) = (Term::Variable(Variable::Args), Term::Variable(Variable::Jwt));
    match random.between(0, 6) {
        0 => Test::Has(field(args, "order"), "total"),
        1 => Test::Has(field(jwt, "org"), "unit"),
        2 => Test::Has(Term::Variable(Variable::Meta), "trace"),
        3 => Test::Has(jwt, random.one_of(&CLAIMS)),
        _ => Test::Has(args, random.one_of(&KEYS)),
    }
}

fn bare(random: &mut Random) -> Test {
    match random.between(0, 6) {
        0 => Test::Bare(field(Term::Variable(Variable::Args), "flag")),
        1 => Test::Bare(field(Term::Variable(Variable::Jwt), "flag")),
        2 => Test::Constant(random.one_in(2)),
        _ => Test::Bare(field(Term::Variable(Variable::Annotations), random.one_of(&HINTS))),
    }
}

fn of_time(random: &mut Random) -> Test {
    let now = || Box::new(Term::Variable(Variable::Now));
    let number = |number| Term::Literal(Value::Int(number));
    match random.between(0, 3) {
        0 => Test::Binary(random.one_of(&ORDERS), Term::Hours(now()), number(random.one_of(&[0, 8, 18]))),
        1 => Test::Binary(Relation::In, Term::Weekday(now()), Term::List(vec![number(0), number(6)])),
        _ => {
            let (text, millis) = random.one_of(&TIMES);
            Test::Binary(random.one_of(&ORDERS), *now(), Term::Time(text, millis))
        }
    }
}

fn of_source(random: &mut Random) -> Test {
    let source = Term::Variable(Variable::Source);
    match random.between(0, 1) {
        0 => Test::Binary(Relation::StartsWith, source, Term::Literal(Value::text("10."))),
        _ => Test::Binary(Relation::Equal, source, Term::Literal(Value::text("::1"))),
    }
}

fn of_number(random: &mut Random) -> Test {
    let left = match random.between(0, 4) {
        0 => Term::Size(Box::new(open(random))),
        1 => Term::Size(Box::new(Term::Variable(Variable::Roles))),
        2 => Term::ToInt(Box::new(open(random))),
        3 => Term::Arithmetic(random.one_of(&['+', '-', '*']), Box::new([open(random), whole(random)])),
        _ => Term::Arithmetic(random.one_of(&['/', '%']), Box::new([whole(random), open(random)])),
    };
    Test::Binary(random.one_of(&ORDERS), left, whole(random))
}

fn each(random: &mut Random) -> Test {
    let (of, is_text) = match random.between(0, 5) {
        0 => (Term::Variable(Variable::Roles), true),
        1 => (Term::Variable(Variable::Args), true),
        2 => (Term::List(vec![whole(random), literal(random), open(random)]), false),
        3 => (Term::List(vec![text(random), text(random)]), true),
        4 => (field(Term::Variable(Variable::Jwt), "groups"), false),
        _ => (field(Term::Variable(Variable::Args), "tags"), false),
    };
    let right = match random.between(0, 3) {
        0 => open(random),
        1 => known_text(random).0,
        _ if is_text => text(random),
        _ => literal(random),
    };
    let relation = if random.one_in(3) { Relation::GreaterOrEqual } else { random.one_of(&EQUALITIES) };
    let holds = Test::Binary(relation, Term::Element, right);
    let holds = match random.between(0, 3) {
        0 => Test::Or(Box::new([holds, Test::Binary(Relation::Equal, Term::Element, text(random))])),
        1 => Test::Not(Box::new(holds)),
        _ => holds,
    };
    Test::Each { all: random.one_in(2), of, holds: Box::new(holds) }
}

/// What fails for every call, or for every one of this caller.
fn failing(random: &mut Random) -> Test {
    let jwt = Term::Variable(Variable::Jwt);
    let number = |number| Term::Literal(Value::Int(number));
    let left = match random.between(0, 3) {
        0 => field(jwt, "absent"),
        1 => Term::Arithmetic('/', Box::new([number(1), number(0)])),
        2 => Term::ToInt(Box::new(Term::Literal(Value::text("abc")))),
        _ => field(field(jwt, "sub_of"), "deeper"),
    };
    let right = if random.one_in(2) { open(random) } else { number(3) };
    Test::Binary(random.one_of(&[Relation::Equal, Relation::Less]), left, right)
}
