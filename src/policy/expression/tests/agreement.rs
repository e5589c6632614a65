//! Our evaluator against the one of the crate whose parser we use, over random well-typed expressions: a second
//! reading of the specification, by others.

use super::*;
use cel::Context;
use cel::Program;
use cel::Value as Foreign;
use proptest::prelude::*;
use proptest::sample::select;

/// An expression of each type, made of the same parts.
#[derive(Clone, Debug)]
struct Typed {
    bool: String,
    int: String,
    text: String,
    list: String,
}

fn leaf() -> impl Strategy<Value = Typed> {
    let ints = &["0", "1", "-3", "7", "x", "9223372036854775807", "-9223372036854775808"][..];
    let texts = &["'a'", "'ab'", "'é'", "''", "'7'", "tool"][..];
    let lists = &["[]", "[1]", "[3, 1, 2]", "[0, 0]"][..];
    (select(&["true", "false"][..]), select(ints), select(texts), select(lists)).prop_map(
        |(bool, int, text, list)| Typed {
            bool: bool.into(),
            int: int.into(),
            text: text.into(),
            list: list.into(),
        },
    )
}

fn larger(l: Typed, r: Typed, [arithmetic, order, logic]: [&str; 3], choice: usize) -> Typed {
    let bool = match choice {
        0 => format!("({} {order} {})", l.int, r.int),
        1 => format!("({} {logic} {})", l.bool, r.bool),
        2 => format!("({} {order} {})", l.text, r.text),
        3 => format!("({} in {})", l.int, r.list),
        4 => format!("{}.exists(x, {})", l.list, r.bool),
        5 => format!("{}.all(x, x {order} {})", l.list, r.int),
        6 => format!("{}.exists_one(x, {})", l.list, r.bool),
        7 => format!("{}.startsWith({})", l.text, r.text),
        8 => format!("!{}.contains({})", l.text, r.text),
        _ => format!("({} == {})", l.list, r.list),
    };
    let int = match choice {
        0..5 => format!("({} {arithmetic} {})", l.int, r.int),
        5 => format!("({} ? {} : {})", r.bool, l.int, r.int),
        6 => format!("size({})", l.text),
        7 => format!("int({})", l.text),
        8 => format!("{}[{}]", l.list, r.int),
        _ => format!("-({})", r.int),
    };
    let text = match choice {
        0..6 => format!("({} + {})", l.text, r.text),
        _ => format!("string({})", r.int),
    };
    let list = match choice {
        0..3 => format!("({} + {})", l.list, r.list),
        3 => format!("{}.filter(x, {})", l.list, r.bool),
        4 => format!("{}.map(x, {})", l.list, r.int),
        5 => format!("{}.map(x, {}, {})", l.list, r.bool, r.int),
        _ => format!("[{}, {}]", l.int, r.int),
    };
    Typed { bool, int, text, list }
}

fn expression() -> impl Strategy<Value = String> {
    let symbols = (
        select(&["+", "-", "*", "/", "%"][..]),
        select(&["==", "!=", "<", "<=", ">", ">="][..]),
        select(&["&&", "||"][..]),
    );
    leaf()
        .prop_recursive(5, 32, 2, move |inner| {
            (inner.clone(), inner, symbols.clone(), 0..10_usize).prop_map(
                |(l, r, (arithmetic, order, logic), choice)| larger(l, r, [arithmetic, order, logic], choice),
            )
        })
        // A variable outside of a loop is that of this one.
        .prop_map(|typed| format!("[2].exists(x, {})", typed.bool))
}

fn theirs(text: &str) -> Option<bool> {
    let mut context = Context::default();
    context.add_variable_from_value("tool", "run_sql_query");
    match Program::compile(text).ok()?.execute(&context) {
        Ok(Foreign::Bool(value)) => Some(value),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_evaluators_agree(text in expression()) {
        let ours = match Expression::compile_condition(&text) {
            Ok(expression) => expression,
            Err(flaw) => {
                prop_assert!(flaw.what.starts_with("this loop is inside"), "{} {:?}", text, flaw);
                return Ok(());
            }
        };
        let ours = with_scope("", |scope| evaluate_condition(&ours, scope));
        // Theirs counts no steps.
        if ours != Err(EvaluationError::Steps) {
            prop_assert_eq!(ours.ok(), theirs(&text), "{} {:?}", text, ours);
        }
    }
}
