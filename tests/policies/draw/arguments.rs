//! Arguments of calls: numbers at their edges, wrong types, missing keys, other spellings, and what readers could
//! disagree on.
//!
//! Not here: the conditions that read them (`draw/test`).

use crate::policies::random::Random;
use crate::policies::value::Arguments;
use crate::policies::value::Value;

/// A key as conditions write it, the same in another spelling, and what it may have: as JSON, and as it is meant.
type Key = (&'static str, &'static str, Vec<(&'static str, Value)>);

pub fn draw(random: &mut Random) -> Arguments {
    let mut members: Vec<String> = Vec::new();
    let mut value = Vec::new();
    for (key, other, choices) in keys() {
        if random.one_in(4) {
            continue;
        }
        let (json, meant) = &choices[random.between(0, choices.len() as u64 - 1) as usize];
        let spelled = if random.one_in(6) { other } else { key };
        members.push(format!("\"{spelled}\":{json}"));
        value.push((key.to_owned(), meant.clone()));
    }
    let mut is_clear = true;
    if random.one_in(16) {
        is_clear = false;
        members.push(match random.between(0, 2) {
            0 => r#""amount":1,"amount":1"#.into(),
            1 => r#""region":"eu","r\u0065gion":"eu""#.into(),
            _ => r#""other":"\ud800""#.into(),
        });
    }
    let json = format!("{{{}}}", members.join(if random.one_in(2) { "," } else { " , " }));
    Arguments { json, value: is_clear.then_some(Value::Map(value)) }
}

fn keys() -> [Key; 5] {
    let map = |key: &str, value| Value::Map(vec![(key.to_owned(), value)]);
    let list = Value::List;
    let (a, b) = (Value::text("a"), Value::text("b"));
    [
        ("amount", r"\u0061mount", amounts()),
        ("region", r"r\u0065gion", regions()),
        (
            "tags",
            r"tag\u0073",
            vec![
                ("[]", list(vec![])),
                ("[\"a\"]", list(vec![a.clone()])),
                ("[ \"a\" , \"b\" ]", list(vec![a.clone(), b])),
                ("[1000, \"a\"]", list(vec![Value::Int(1_000), a.clone()])),
                ("[2, 3]", list(vec![Value::Int(2), Value::Int(3)])),
                ("\"a\"", a),
                ("{\"a\": 1}", map("a", Value::Int(1))),
            ],
        ),
        (
            "order",
            r"\u006frder",
            vec![
                ("{}", Value::Map(vec![])),
                ("{\"total\": 5}", map("total", Value::Int(5))),
                ("{\"total\": \"5\"}", map("total", Value::text("5"))),
                ("{\"total\": {\"net\": 1}}", map("total", map("net", Value::Int(1)))),
                ("[5]", list(vec![Value::Int(5)])),
                ("null", Value::Null),
            ],
        ),
        (
            "flag",
            r"fl\u0061g",
            vec![
                ("true", Value::Bool(true)),
                ("false", Value::Bool(false)),
                ("\"true\"", Value::text("true")),
                ("0", Value::Int(0)),
            ],
        ),
    ]
}

/// Around an edge, and what is like a number.
fn amounts() -> Vec<(&'static str, Value)> {
    vec![
        ("999", Value::Int(999)),
        ("1000", Value::Int(1_000)),
        ("1001", Value::Int(1_001)),
        ("1e3", Value::Double(1_000.0)),
        ("1000.5", Value::Double(1_000.5)),
        ("1001.0", Value::Double(1_001.0)),
        ("-5", Value::Int(-5)),
        ("9007199254740993", Value::Int(9_007_199_254_740_993)),
        ("9223372036854775807", Value::Int(i64::MAX)),
        ("9223372036854775808", Value::Double(9_223_372_036_854_775_808.0)),
        ("1e400", Value::Double(f64::INFINITY)),
        ("\"1001\"", Value::text("1001")),
        ("null", Value::Null),
        ("[1001]", Value::List(vec![Value::Int(1_001)])),
        ("true", Value::Bool(true)),
    ]
}

fn regions() -> Vec<(&'static str, Value)> {
    vec![
        ("\"eu\"", Value::text("eu")),
        ("\"us\"", Value::text("us")),
        (r#""e\u0075""#, Value::text("eu")),
        ("\"\"", Value::text("")),
        ("\"ada\"", Value::text("ada")),
        ("\"finance\"", Value::text("finance")),
        ("\"\u{e9}u\"", Value::text("\u{e9}u")),
        ("1", Value::Int(1)),
        ("null", Value::Null),
    ]
}
