//! What expressions yield for calls, and that nothing a caller sends makes them panic or run long.

mod agreement;
mod random;

use super::*;
use std::hash::DefaultHasher;
use std::net::Ipv4Addr;

const BODY: &str = r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "run_sql_query",
    "arguments": {"database": "prod", "amount": 1000, "big": 18446744073709551616, "huge": 1e400, "half": 1.5,
        "least": -9223372036854775808, "text": "a\u00e9\ud83d\ude00", "nil": null, "yes": true, "pattern": "^r",
        "list": [1, 2, 3], "nested": {"a": {"b": [{"c": 7}]}}, "\u006bey": "k", "at": "2026-01-31T08:00:00Z"},
    "_meta": {"progressToken": 5}}}"#;

/// 2026-01-31 08:30:15.250, a Saturday.
const NOW_MS: i64 = 1_769_848_215_250;

fn variables<'a>(roles: &'a [Box<str>], body: &'a str) -> Variables<'a> {
    Variables {
        principal: "ada",
        roles,
        tenant: "acme",
        claims: Box::leak(Box::default()),
        method: "tools/call",
        server: "db",
        tool: "run_sql_query",
        catalogue: None,
        labels: Labels::NONE,
        name: Some("run_sql_query"),
        source: Ipv4Addr::new(10, 0, 0, 7).to_ipv6_mapped().into(),
        now: NOW_MS,
        body: body.as_bytes(),
    }
}

fn with_scope<T>(body: &str, act: impl FnOnce(&mut Scope<'_>) -> T) -> T {
    let roles = ["dev".into(), "finance".into()];
    let mut patterns = Patterns::default();
    act(&mut Scope::new(variables(&roles, body), &mut patterns))
}

fn condition_of(text: &str, body: &str) -> Result<bool, EvaluationError> {
    let expression = Expression::compile_condition(text).unwrap_or_else(|flaw| panic!("{text}: {flaw:?}"));
    with_scope(body, |scope| evaluate_condition(&expression, scope))
}

fn condition(text: &str) -> Result<bool, EvaluationError> {
    condition_of(text, BODY)
}

fn key_of(text: &str, body: &str) -> Result<u64, EvaluationError> {
    let expression = Expression::compile_key(text).unwrap_or_else(|flaw| panic!("{text}: {flaw:?}"));
    let mut hasher = DefaultHasher::new();
    with_scope(body, |scope| evaluate_key(&expression, scope, &mut hasher))?;
    Ok(hasher.finish())
}

fn key(text: &str) -> u64 {
    key_of(text, BODY).expect(text)
}

/// The lines of `limit_cel`, as they stand.
#[test]
fn limit_cel() {
    let sql = r#"method == "tools/call" && tool == "run_sql_query" && args.database == "prod""#;
    let query = r#"body.method == "tools/call" && body.params.name == "run_sql_query""#;
    let tables = r#"body.method == "tools/call" && body.params.name == "list_tables""#;
    assert_eq!((condition(sql), condition(query), condition(tables)), (Ok(true), Ok(true), Ok(false)));
    assert_eq!(condition_of(sql, &BODY.replace("\"prod\"", "\"test\"")), Ok(false));
    assert_eq!(condition_of(sql, &BODY.replace("\"database\"", "\"data\"")), Err(EvaluationError::Missing));
}

#[test]
fn conditions_that_hold() {
    let table = [
        r#"principal == "ada" && tenant == "acme" && server == "db" && source == "10.0.0.7""#,
        r#"roles == ["dev", "finance"] && "dev" in roles && !("admin" in roles) && roles[1] == "finance""#,
        r#"mcp.tool.name == tool && body.params.name == tool && body.jsonrpc == "2.0" && meta.progressToken == 5"#,
        "!has(jwt.sub) && size(jwt) == 0 && size(labels) == 0 && size(annotations) == 4 && has(annotations.openWorldHint)",
        "!annotations.readOnlyHint && annotations.destructiveHint && !annotations.idempotentHint && annotations.openWorldHint",
        // Numbers: across types by their worth, however they are written.
        "args.amount == 1000 && args.amount == 1000.0 && args.amount == 1000u && args.amount >= 1e3",
        "args.big == 18446744073709551616.0 && args.big > 18446744073709551615u && args.huge > args.big",
        "args.least == -9223372036854775808 && args.least < -9223372036854775807.0 - 1.0 + 1.0 || true",
        "9007199254740993 > 9007199254740992.0 && 9007199254740992 == 9007199254740992.0",
        "1 < 1.5 && 2 > 1.5 && -1 > -1.5 && -2 < -1.5 && 1u > 0.5 && -1 < 0u",
        "0.0 / 0.0 != 0.0 / 0.0 && !(0.0 / 0.0 < 1) && 1.0 / 0.0 == args.huge && -0.0 == 0",
        "7 / 2 == 3 && -7 / 2 == -3 && -7 % 2 == -1 && 7u % 4u == 3u && 2 * 3 - 1 == 5 && 1.5 * 2.0 == 3",
        // Texts count in characters.
        r#"size(args.text) == 3 && args.text.startsWith("aé") && args.text.endsWith("😀") && args.text.contains("é")"#,
        r#"args.key == "k" && "key" in args && !("none" in args) && "a" + "b" == "ab" && "a" < "b""#,
        r#"tool.matches("^run_") && matches(tool, "sql") && tool.matches(args.pattern) && !tool.matches("^sql")"#,
        // Null, bool, and values of different types.
        "args.nil == null && args.amount != null && args.yes && args.yes != args.amount && true > false",
        r#"args.amount != "1000" && args.list != args.nested && args.list == [1, 2.0, 3u]"#,
        r#"args.nested == {"a": {"b": [{"c": 7}]}} && args.nested != {"a": 1} && {"x": 1} != {"y": 1}"#,
        "args.nested.a.b[0].c == 7 && has(args.nested.a) && !has(args.nested.b) && args[\"amount\"] == 1000",
        // One operand that decides is enough.
        "(true || args.none) && (args.none || true) && !(false && args.none) && !(args.none && false)",
        "(args.yes ? 1 : args.none) == 1 && (args.amount > 1000 ? args.none : 2) == 2",
        // Loops.
        "args.list.all(x, x > 0) && args.list.exists(x, x == 2) && args.list.exists_one(x, x > 2)",
        "!args.list.existsOne(x, x > 1) && [].all(x, false) && ![].exists(x, true)",
        "args.list.map(x, x * 2) == [2, 4, 6] && args.list.map(x, x > 1, x - 1) == [1, 2]",
        "args.list.filter(x, x != 2) == [1, 3] && args.nested.exists(name, name == 'a')",
        "['a', 'b'].exists(x, args.list.exists(y, x == 'b' && y == 3)) && args.list + [4] == [1, 2, 3, 4]",
        "args.list.exists(x, x / 0 == 1 || x == 1) && !args.list.all(x, x < 3 && x / (x - 1) < 9)",
        // Conversions.
        "int('-7') == -7 && int(2.9) == 2 && int(-2.9) == -2 && uint(3) == 3u && double('1.5') == args.half",
        "string(1) == '1' && string(1.5) == '1.5' && string(true) == 'true' && bool('false') == false",
        "int(timestamp('1970-01-01T00:01:00Z')) == 60 && timestamp(60) == timestamp('1970-01-01T00:01:00Z')",
        "string(timestamp(0)) == '1970-01-01T00:00:00Z' && string(duration('1m30s')) == '90s' && dyn(1) == 1",
        // Networks: the caller's address, and one that it wrote. An IPv4 address is one, however it arrived.
        "cidr('10.0.0.0/29').containsIP(source) && !cidr('10.0.0.8/29').containsIP(source)",
        "cidr('10.0.0.7/32').containsIP(source) && !cidr('10.0.0.6/32').containsIP(source)",
        "cidr('::ffff:10.0.0.0/104').containsIP(source) && !cidr('::/0').containsIP(source)",
        "cidr('2001:db8::/32').containsIP('2001:db8:ffff::1') && cidr('10.0.0.0/8').containsIP('::ffff:' + source)",
        // Time.
        "now > timestamp(args.at) && now - timestamp(args.at) == duration('30m15.25s')",
        "now.getFullYear() == 2026 && now.getMonth() == 0 && now.getDate() == 31 && now.getDayOfMonth() == 30",
        "now.getDayOfWeek() == 6 && now.getDayOfYear() == 30 && now.getHours() == 8 && now.getMinutes() == 30",
        "now.getSeconds() == 15 && now.getMilliseconds() == 250 && now.getHours('Asia/Kolkata') == 14",
        "now.getHours('-09:00') == 23 && now.getDate('-09:00') == 30 && now.getMinutes('Asia/Kolkata') == 0",
        "duration('90m').getHours() == 1 && duration('90m').getMinutes() == 90 && duration('1.5s').getSeconds() == 1",
        "duration('1.5s').getMilliseconds() == 500 && duration('1h') + duration('-1h') == duration('0s')",
    ];
    for text in table {
        assert_eq!(condition(text), Ok(true), "{text}");
    }
}

#[test]
fn what_has_no_value_is_an_error() {
    use EvaluationError::{Conversion, DivisionByZero, DuplicateKey, Missing, Overflow, Pattern, Type};
    let table = [
        ("args.none == 1", Missing),
        ("has(args.none.deeper)", Missing),
        ("args.list[3] == 1", Missing),
        ("args.list[-1] == 1", Missing),
        ("args['none'] == 1", Missing),
        ("jwt.sub == 'ada'", Missing),
        ("args.none || false", Missing),
        ("true && args.none", Missing),
        ("args.list.exists(x, x == args.none)", Missing),
        ("args.amount", Type),
        ("args.amount && true", Type),
        ("args.text > 1", Type),
        ("args.text + 1 == 1", Type),
        ("args.amount + args.half > 1.0", Type),
        ("args.amount.x == 1", Type),
        ("args.amount.exists(x, x == 1)", Type),
        ("args.list.all(x, x)", Type),
        ("args.text.startsWith(args.amount)", Type),
        ("size(args.amount) == 1", Type),
        ("1 in args.text", Type),
        ("args.nil > 1", Type),
        ("-args.text == 'a'", Type),
        ("{args.text: 1}[args.amount] == 1", Type),
        ("args.amount / 0 == 1", DivisionByZero),
        ("args.amount % 0 == 1", DivisionByZero),
        ("1u / 0u == 1u", DivisionByZero),
        ("args.least / -1 == 0", Overflow),
        ("args.least % -1 == 0", Overflow),
        ("-args.least == 0", Overflow),
        ("args.least - 1 == 0", Overflow),
        ("args.least * 2 == 0", Overflow),
        ("9223372036854775807 + args.amount == 0", Overflow),
        ("0u - 1u == 0u", Overflow),
        ("int(args.huge) == 0", Overflow),
        ("int(args.big) == 0", Overflow),
        ("uint(-1) == 0u", Overflow),
        ("timestamp(args.least) == now", Overflow),
        ("now + duration('9999999h') + duration('9999999h') + duration('99999999h') > now", Overflow),
        ("int(args.text) == 1", Conversion),
        ("bool(args.text)", Conversion),
        ("timestamp(args.text) == now", Conversion),
        ("duration(args.text) == duration('1s')", Conversion),
        ("tool.matches(args.text + '(')", Pattern),
        ("tool.matches('(?i)' + args.text)", Pattern),
        (r"tool.matches(r'\pL' + args.text)", Pattern),
        (r"tool.matches(r'\w\w\w\w\w\w\w\w\w' + args.text)", Pattern),
        (
            "tool.matches(args.text + '................................................................')",
            Pattern,
        ),
        ("{'a': 1, args.nested.map(x, x)[0]: 2} == {}", DuplicateKey),
    ];
    for (text, expected) in table {
        assert_eq!(condition(text), Err(expected), "{text}");
    }
}

#[test]
fn a_message_that_cannot_be_read_is_an_error() {
    use EvaluationError::{Body, BodySize, DuplicateKey, Type};
    let arguments = |text: &str| format!(r#"{{"params": {{"arguments": {text}}}}}"#);
    let depth = |levels: usize| arguments(&("[".repeat(levels) + &"]".repeat(levels)));
    let values = |count: usize| arguments(&format!("[{}]", vec!["1"; count].join(",")));
    // The message, its params and the list itself are three values; message and params are two levels.
    let most = limits::EXPRESSION_VALUES_MAX - 3;
    let table = [
        (arguments("{}"), Ok(true)),
        ("{}".into(), Ok(true)),
        (r#" {"params": {}} "#.into(), Ok(true)),
        (depth(126), Ok(true)),
        (depth(127), Err(BodySize)),
        (values(most), Ok(true)),
        (values(most + 1), Err(BodySize)),
        (arguments(r#"{"a": 1, "\u0061": 1}"#), Err(DuplicateKey)),
        (arguments(r#"{"x": [{"a": 1, "b": 2, "a": 3}]}"#), Err(DuplicateKey)),
        (arguments(r#""\ud800""#), Err(Body)),
        (arguments(r#"{"\ud800": 1}"#), Err(Body)),
        (arguments("01"), Err(Body)),
        (arguments("[1,]"), Err(Body)),
        (String::new(), Err(Body)),
        ("{} {}".into(), Err(Body)),
        ("[]".into(), Err(Type)),
        (r#"{"params": 1}"#.into(), Err(Type)),
    ];
    for (body, expected) in table {
        let shown: String = body.chars().take(80).collect();
        assert_eq!(condition_of("dyn(args) != null", &body), expected, "{shown}");
        // Who does not look into the message is not concerned.
        assert_eq!(condition_of("tool != '' && body.params.name == tool", &body), Ok(true), "{shown}");
    }
}

#[test]
fn equal_keys_are_the_same_and_others_are_not() {
    assert_eq!(key("1"), key("1.0"));
    assert_eq!(key("1u"), key("dyn(1)"));
    assert_eq!(key("0.0"), key("-0.0"));
    assert_eq!(key("args.amount"), key("1e3"));
    assert_eq!(key("args.list"), key("[1, 2.0, 3u]"));
    assert_eq!(key("args.text"), key("'aé😀'"));
    let all_different = [
        "1",
        "2",
        "1.5",
        "'1'",
        "true",
        "false",
        "null",
        "''",
        "[]",
        "[1]",
        "['1']",
        "[[1]]",
        "['a', 'b']",
        "['ab']",
        "['a', '', 'b']",
        "[['a'], 'b']",
        "timestamp(1)",
        "duration('1s')",
        "args.big",
        "args.huge",
        "18446744073709551615u",
        "-1",
        "[null]",
        "[false]",
    ];
    for (at, left) in all_different.iter().enumerate() {
        for right in &all_different[..at] {
            assert_ne!(key(left), key(right), "{left} {right}");
        }
    }
    assert_eq!(key_of("args.nested", BODY), Err(EvaluationError::Type));
    assert_eq!(key_of("[args.nested]", BODY), Err(EvaluationError::Type));
    assert_eq!(key_of("args.none", BODY), Err(EvaluationError::Missing));
}

/// Found in an audit: `1000.0000000000000000001` passed a rule against more than 1000, and went on as it was written.
#[test]
fn a_number_that_no_double_is_has_no_worth() {
    let body = r#"{"params": {"arguments": {"amount": 1000.0000000000000000001, "list": [1, 0.10000000000000001],
        "id": 18446744073709551615, "nested": {"a": 1000.0000000000000000001}, "small": 5}}}"#;
    for text in [
        "args.amount > 1000",
        "args.amount <= 1000",
        "args.amount == 1000",
        "args.amount != 1000",
        "args.amount == null",
        "args.amount in [1000]",
        "0.5 in args.list",
        "args.nested == {'a': 1000}",
        "args.id == 18446744073709551615u",
    ] {
        assert_eq!(condition_of(text, body), Err(EvaluationError::Inexact), "{text}");
    }
    for text in [
        "args.amount + 1.0 > 0.0",
        "-args.amount < 0.0",
        "double(args.amount) > 0.0",
        "string(args.id) != ''",
    ] {
        assert!(condition_of(text, body).is_err(), "{text}");
    }
    for key in ["args.amount", "args.list", "[args.id]"] {
        assert_eq!(key_of(key, body), Err(EvaluationError::Inexact), "{key}");
    }
    // What is not asked for hurts nobody.
    for text in
        ["args.small == 5", "has(args.amount) && args.small < 6", "size(args.list) == 2", "1 in args.list"]
    {
        assert_eq!(condition_of(text, body), Ok(true), "{text}");
    }
}

#[test]
fn steps_are_counted_exactly() {
    let body = |count: usize| {
        let list = vec!["1"; count.min(limits::EXPRESSION_STEPS_MAX)].join(",");
        format!(r#"{{"params": {{"arguments": {{"list": [{list}], "text": "{}"}}}}}}"#, "x".repeat(count))
    };
    let most = |text: &str, expected: usize| {
        assert_eq!(condition_of(text, &body(expected)), Ok(true), "{text}");
        assert_eq!(condition_of(text, &body(expected + 1)), Err(EvaluationError::Steps), "{text}");
    };
    // One step for the selection and one for the loop; each element one and its comparison one.
    most("args.list.all(x, x == 1)", 499);
    // The selection, the `!`, the `in`; each element one.
    most("!(2 in args.list)", 997);
    // Twice a selection, a loop and a `size`; the sum and its comparison; each element one, twice.
    most("size(args.list.filter(x, true)) + size(args.list.filter(x, true)) > 0", 496);
    // Selections, operators, and each element of the two equal lists.
    most("args.list == args.list", 997);
    // 256 bytes a step; the selection and `contains` one each.
    most("args.text.contains('x')", 998 * limits::EXPRESSION_STEP_BYTES + 255);
    // An operand that would decide comes too late.
    assert_eq!(condition_of("args.list.all(x, x == 1) || true", &body(500)), Err(EvaluationError::Steps));
}

#[test]
fn the_deepest_expressions_and_messages_are_evaluated() {
    let sum = format!("1{} == {}", " + 1".repeat(120), 121);
    assert_eq!(condition(&sum), Ok(true));
    let body = format!(r#"{{"params": {{"arguments": {{"a": {}1{}}}}}}}"#, "[".repeat(125), "]".repeat(125));
    assert_eq!(condition_of("args == args && args.a != [1]", &body), Ok(true));
    assert_eq!(condition_of(&format!("args.a{} == 1", "[0]".repeat(124)), &body), Ok(false));
    let key = format!("{}1{}", "[".repeat(94), "]".repeat(94));
    assert!(key_of(&key, "").is_ok());
}

/// A pattern that the caller chooses costs half of the steps, unless it is known already.
#[test]
fn patterns_of_callers_are_bounded() {
    let known = Expression::compile_condition("tool.matches(args.pattern) && tool.matches(args.pattern)")
        .expect("good");
    let three = "['a', 'b', 'c'].exists(x, tool.matches(x + args.database))";
    assert_eq!(condition(three), Err(EvaluationError::Steps));
    with_scope(BODY, |scope| {
        for _ in 0..3 {
            assert_eq!(evaluate_condition(&known, scope), Ok(true));
        }
    });
    let roles = [];
    let mut patterns = Patterns::default();
    for number in 0..3 * limits::CALLER_PATTERNS_MAX {
        let body = format!(r#"{{"params": {{"arguments": {{"pattern": "^r[{}]?un"}}}}}}"#, number);
        let mut scope = Scope::new(variables(&roles, &body), &mut patterns);
        assert_eq!(evaluate_condition(&known, &mut scope), Ok(true), "{body}");
    }
    assert_eq!(patterns.len(), limits::CALLER_PATTERNS_MAX);
}
