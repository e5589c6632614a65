//! Random expressions and messages: nothing panics, nothing takes long.

use super::*;
use crate::base::clock::thread_cpu;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::time::Duration;

/// Pieces that are close enough to expressions to get through the parser now and then.
const PIECES: &[&str] = &[
    "args",
    "body",
    "roles",
    "now",
    "tool",
    "jwt.sub",
    "mcp.tool.name",
    "x",
    ".a",
    ".list",
    "[0]",
    "[\"a\"]",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    ">=",
    " in ",
    "1",
    "-9223372036854775808",
    "1u",
    "1.5",
    "1e308",
    "'a'",
    "\"é\"",
    "'\\",
    "null",
    "true",
    "r'\\d'",
    "b'x'",
    "'''",
    "`",
    ".all(x, ",
    ".exists(x, ",
    ".map(x, ",
    ".filter(x, ",
    "has(",
    "size(",
    "int(",
    "string(",
    "duration(",
    "timestamp(",
    ".getHours(",
    ".matches(",
    ".contains(",
    "//",
    "\n",
    "😀",
    "\u{0}",
    " ",
];

/// Whole expressions of which larger ones are made.
const LEAVES: &[&str] = &[
    "args",
    "args.a",
    "args.list",
    "args.none",
    "body.params",
    "roles",
    "now",
    "tool",
    "0",
    "1",
    "-1",
    "2u",
    "1.5",
    "0.0",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615u",
    "1e308",
    "'a'",
    "'é'",
    "''",
    "'1'",
    "null",
    "true",
    "false",
    "[]",
    "[1, 'a']",
    "{'a': 1}",
    "duration('1h')",
    "timestamp(0)",
    "dyn(args.list)",
];

/// JSON that is at the edge of something.
const SCALARS: &[&str] = &[
    "0",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "123456789012345678901",
    "1e400",
    "-1e-400",
    "1.5",
    "null",
    "true",
    "\"a\"",
    "\"\\u00e9\\n\"",
    "\"\\ud83d\"",
    "\"2026-01-31T08:00:00Z\"",
];

fn expression() -> impl Strategy<Value = String> {
    let leaf = select(LEAVES).prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operators = &["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"][..];
        let functions = &[
            "int",
            "uint",
            "double",
            "string",
            "bool",
            "size",
            "timestamp",
            "duration",
            "dyn",
            "-",
            "!",
        ][..];
        let methods = &["contains", "startsWith", "endsWith", "matches"][..];
        let parts = &["getHours", "getFullYear", "getDayOfYear", "getMilliseconds", "size"][..];
        let loops = &["all", "exists", "exists_one", "map", "filter"][..];
        prop_oneof![
            (inner.clone(), select(operators), inner.clone())
                .prop_map(|(l, op, r)| format!("(dyn({l}) {op} dyn({r}))")),
            (select(functions), inner.clone()).prop_map(|(f, x)| format!("{f}(dyn({x}))")),
            (inner.clone(), select(methods), inner.clone())
                .prop_map(|(x, f, y)| format!("dyn({x}).{f}(dyn({y}))")),
            (inner.clone(), select(parts)).prop_map(|(x, f)| format!("dyn({x}).{f}()")),
            (inner.clone(), select(loops), inner.clone())
                .prop_map(|(x, f, y)| format!("[{x}].{f}(x, dyn(x) == {y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("dyn({x})[dyn({y})]")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(x, y, z)| format!("(dyn({x}) ? dyn({y}) : dyn({z}))")),
        ]
    })
}

fn json() -> impl Strategy<Value = String> {
    let leaf = select(SCALARS).prop_map(str::to_owned);
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(","))),
            vec((select(&["a", "list", "\\u0061", "b"][..]), inner), 0..4).prop_map(|entries| {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    })
}

fn message() -> impl Strategy<Value = String> {
    json().prop_map(|arguments| format!(r#"{{"params":{{"arguments":{arguments}}}}}"#))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_expressions_never_panic(pieces in vec(select(PIECES), 0..24), body in message()) {
        let text = pieces.concat();
        match Expression::compile_condition(&text) {
            Ok(expression) => {
                let _ = with_scope(&body, |scope| evaluate_condition(&expression, scope));
            }
            Err(flaw) => prop_assert!(text.is_char_boundary(flaw.at) && !flaw.what.is_empty(), "{text} {flaw:?}"),
        }
    }

    #[test]
    fn expressions_never_panic_and_depend_on_the_call_alone(text in expression(), body in message()) {
        let expression = Expression::compile_key(&format!("dyn({text})"));
        prop_assert!(expression.is_ok(), "{text}: {expression:?}");
        let Ok(expression) = expression else { return Ok(()) };
        with_scope(&body, |scope| {
            let mut hashers = [DefaultHasher::new(), DefaultHasher::new()];
            let results = hashers.each_mut().map(|hasher| evaluate_key(&expression, scope, hasher));
            prop_assert_eq!(results[0], results[1]);
            prop_assert_eq!(hashers[0].finish(), hashers[1].finish());
            Ok(())
        })?;
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(body in "[\\[\\]{}:,\"\\\\a0-9eE.+ -]{0,40}") {
        let dull = condition_of("tool != ''", &body);
        prop_assert_eq!(dull, Ok(true));
        let _ = condition_of("body.a[0] == 1", &body);
    }
}

/// The largest expression over the arguments that a caller makes as unpleasant as it can. A debug build gets more
/// time; processor time and the best of several runs are taken, so that
/// a loaded machine cannot make the test fail.
#[test]
fn the_longest_expressions_over_large_arguments_are_quick_or_fail() {
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 40 } else { 1 });
    const BYTES: usize = 64 * 1024;
    let filled = |unit: &str, between: &str| vec![unit; BYTES / (unit.len() + between.len())].join(between);
    let bodies = [
        format!(r#""list": [{}]"#, filled("1", ",")),
        format!(r#""list": [{}]"#, filled("\"\\u0061\"", ",")),
        format!(r#""list": "{}""#, filled("a", "")),
        format!(
            r#""list": {{{}}}"#,
            (0..BYTES / 12).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",")
        ),
    ];
    let repeated = |unit: &str, between: &str, end: &str| {
        let count = (limits::EXPRESSION_BYTES_MAX - end.len()) / (unit.len() + between.len());
        vec![unit; count].join(between) + end
    };
    let sum = format!("{} == ''", vec!["args.list"; 120].join(" + "));
    let expressions = [
        repeated("args.list == args.list", " && ", ""),
        repeated("args.list.exists(x, x == 2)", " || ", ""),
        repeated("args.list.contains('ab')", " || ", ""),
        repeated("args.list.matches('(a?){40}b')", " || ", ""),
        repeated("'b' in args.list", " || ", ""),
        repeated("size(args.list.map(x, x)) > 999999", " || ", ""),
        repeated("tool == 'x'", " || ", ""),
        sum,
    ];
    for text in &expressions {
        let expression =
            Expression::compile_condition(text).unwrap_or_else(|flaw| panic!("{text}: {flaw:?}"));
        for body in &bodies {
            let body = format!(r#"{{"params": {{"arguments": {{{body}}}}}}}"#);
            let best = (0..5)
                .map(|_| {
                    let start = thread_cpu();
                    let _ = with_scope(&body, |scope| evaluate_condition(&expression, scope));
                    thread_cpu() - start
                })
                .min();
            let shown: String = text.chars().take(40).collect();
            assert!(best < Some(limit), "{shown} over {}: {best:?}", &body[..50]);
        }
    }
}
