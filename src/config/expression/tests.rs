//! Which expressions are taken, and what is said of the others, and where.

use super::*;

/// What a flaw says, as `column: what. cure`, or `ok`.
fn condition(text: &str) -> String {
    shown(Expression::compile_condition(text))
}

fn shown(compiled: Result<Expression, Flaw>) -> String {
    match compiled {
        Ok(_) => "ok".into(),
        Err(Flaw { at, what, cure, .. }) => format!("{at}: {what}. {cure}").trim_end().into(),
    }
}

#[test]
fn good_conditions_are_taken() {
    let table = [
        r#"method == "tools/call" && tool == "run_sql_query" && args.database == "prod""#,
        r#"body.method == "tools/call" && body.params.name == "run_sql_query""#,
        r#"body.method == "tools/call" && body.params.name == "list_tables""#,
        r#"args.amount > 1000 && !("finance" in roles)"#,
        r#"mcp.tool.name == "echo" && jwt.sub == "ada""#,
        r#"tenant == principal || server.startsWith("db") || source.endsWith(".1")"#,
        r#"has(args.a.b) && args["a"]["b"][0] == null && size(labels) == 0 && meta.x == annotations.openWorldHint"#,
        r#"now.getHours("Europe/Berlin") in [9, 10] && now.getDayOfWeek() < 6 && now.getHours("+02:00") > 1"#,
        r#"now - timestamp("2026-01-01T00:00:00Z") > duration("1h30m") && duration(args.wait).getSeconds() < 5"#,
        "now + duration(\"1s\") > timestamp(args.at) // the end",
        r#"1 < 2u && 1u < 2.5 && 1 == 1.0 && args.n * 2 == 4 && -args.n < 0 && 7 % 2 == 1"#,
        r#"args.list.exists(x, ["a", "b"].all(y, x != y)) && roles.exists_one(r, r == "a")"#,
        r#"args.list.filter(x, x > 1).map(x, x > 2, x + 1).existsOne(x, x == 4)"#,
        r#"args.exists(key, key.matches("^[a-z]+$")) && tool.matches(args.pattern) && matches(tool, "a")"#,
        r#"(tool == "a" ? 1 : 2) == 1 && (true ? args.x : tool) == tool"#,
        r#"{"a": 1, tool: "b"}.a == 1 && roles + ["x"] == ["x"] && "x" + tool == "xa""#,
        r#"dyn(1) == "a" || int("1") + int(now) == int(1.5) || string(now) == "" || bool("true")"#,
        r#"cidr("10.0.16.0/20").containsIP(source) || !cidr('fd00::/8').containsIP(args.ip)"#,
        "args.anything",
        "body.params.arguments.deep || body[\"x\"]",
        "true\n  && // why\n  false",
    ];
    for text in table {
        assert_eq!(condition(text), "ok", "{text}");
    }
}

const CONVERT: &str = "Convert one of them, for example with `int(…)`, `double(…)` or `string(…)`.";
const SAME: &str = "Compare values of the same type.";
const COMPARE: &str = "Compare it with something, for example with `==`.";
const ZONE: &str = "Write a zone such as \"Europe/Berlin\", or an offset such as \"+02:00\".";

#[test]
fn what_does_not_parse_is_refused_at_its_place() {
    let ends = "the expression ends too early. Something is missing at its end.";
    let string = "the string does not end, or has an escape that does not exist. \
                  Close it with the quote that opens it, and write `\\\\` for a backslash.";
    let table = [
        ("", format!("0: {ends}")),
        ("tool ==", format!("7: {ends}")),
        ("tool == 'x", format!("8: {string}")),
        (r#"tool == "\q""#, format!("8: {string}")),
        ("a b", "2: `b` is not expected here.".into()),
        (r#"tool = "a""#, "5: `=` is not expected here. Compare with `==`.".into()),
        ("tool == \"a\" & true", "12: `&` is not expected here. Write `&&`.".into()),
        ("tool == \"a\" and true", "12: `and` is not expected here. Write `&&`.".into()),
        ("true;", "4: `;` is not expected here.".into()),
        ("é == 1", "0: `é` is not expected here.".into()),
        ("tool == 'é' ^ 1", "13: `^` is not expected here.".into()),
        ("99999999999999999999 == 1", "0: invalid int literal.".into()),
        ("for == 1", "0: reserved identifier: for.".into()),
        (
            r#"b"x" == b"x""#,
            "0: bytes have no use here. Nothing that a call offers is bytes: write a string.".into(),
        ),
        ("Point{x: 1} == 1", "5: messages have no use here.".into()),
    ];
    for (text, expected) in table {
        assert_eq!(condition(text), expected, "{text}");
    }
}

#[test]
fn unknown_names_are_refused_at_their_place() {
    let known = "Known are annotations, args, body, jwt, labels, meta, method, now, principal, roles, \
                 server, source, tenant, tool.";
    let mcp = "of `mcp` only the tool's name is known. Write `mcp.tool.name`.";
    let table = [
        ("toool == 'x'", "0: `toool` is not a variable. Did you mean `tool`?".into()),
        ("true && argz.x", "8: `argz` is not a variable. Did you mean `args`?".into()),
        ("true && somebody", format!("8: `somebody` is not a variable. {known}")),
        ("args.a.exists(item, itme == 1)", "20: `itme` is not a variable. Did you mean `item`?".into()),
        ("args.a.exists(x, true) && x", format!("26: `x` is not a variable. {known}")),
        ("mcp.tools.name == 'x'", format!("0: {mcp}")),
        ("has(mcp.tool)", format!("4: {mcp}")),
        ("tool.foo(1)", "5: `foo` is not a function.".into()),
        ("tool.startWith('a')", "5: `startWith` is not a function. Did you mean `startsWith`?".into()),
        ("now.getHour() == 1", "4: `getHour` is not a function. Did you mean `getHours`?".into()),
        ("startsWith(tool, 'a')", "0: `startsWith` is not called so. Write `x.startsWith(…)`.".into()),
        ("tool.int() == 1", "5: `int` is not called so. Write `int(x)`.".into()),
        ("exists(roles, true)", "0: `exists` is not called so. Write `x.exists(…)`.".into()),
        ("has(tool)", "4: `has` asks for a field. Write `has(args.name)`.".into()),
        ("roles.map(x) == []", "6: `map` does not take 1 argument.".into()),
        ("size() == 1", "0: `size` does not take 0 arguments.".into()),
        ("tool.contains('a', 'b')", "5: `contains` does not take 2 arguments.".into()),
    ];
    for (text, expected) in table {
        assert_eq!(condition(text), expected, "{text}");
    }
}

#[test]
fn wrong_types_are_refused_at_their_place() {
    let table = [
        ("tool == 1", format!("5: a string and an int are never equal. {SAME}")),
        ("null != tool", format!("5: null and a string are never equal. {SAME}")),
        ("jwt.sub == 1", format!("8: a string and an int are never equal. {SAME}")),
        ("body.params.name == 1", format!("17: a string and an int are never equal. {SAME}")),
        ("mcp.tool.name == 1", format!("14: a string and an int are never equal. {SAME}")),
        ("roles.exists(r, r == 1)", format!("18: a string and an int are never equal. {SAME}")),
        ("1 < 2 < 3", format!("6: `<` does not take a bool and an int. {CONVERT}")),
        ("tool + 1 == 'x'", format!("5: `+` does not take a string and an int. {CONVERT}")),
        ("1 + 1.0 == 2", format!("2: `+` does not take an int and a double. {CONVERT}")),
        ("tool - 'a' == ''", "5: `-` does not take a string and a string.".into()),
        (
            "args.x > roles",
            format!("7: `>` does not take a value of any type and a list of strings. {CONVERT}"),
        ),
        ("now + 1 > now", format!("4: `+` does not take a timestamp and an int. {CONVERT}")),
        ("tool && true", "0: this is a string, and this operand must be a bool.".into()),
        ("true || size(roles)", "8: this is an int, and this operand must be a bool.".into()),
        ("!tool", "1: this is a string, and this operand must be a bool.".into()),
        ("-tool == 'a'", "0: a string cannot be negated.".into()),
        ("tool ? true : false", "0: this is a string, and this operand must be a bool.".into()),
        ("true ? 1 : 'a'", "5: one result is an int and the other a string. Give both the same type.".into()),
        ("tool.startsWith(1)", "16: this is an int, and this operand must be a string.".into()),
        ("roles.contains('a')", "0: this is a list of strings, and this operand must be a string.".into()),
        ("1 in roles", "2: an int cannot be in a list of strings.".into()),
        (
            "'a' in tool",
            "4: a string cannot be in a string. For a part of a string write `x.contains(…)`.".into(),
        ),
        ("tool[0] == 'a'", "4: a string has no elements that an int names.".into()),
        ("roles['a'] == 'b'", "5: a list of strings has no elements that a string names.".into()),
        ("tool.x == 1", "0: a string has no fields.".into()),
        ("has(roles.x)", "4: a list of strings has no fields.".into()),
        ("tool.exists(x, true)", "0: a string has no elements to loop over.".into()),
        ("roles.all(x, size(x))", "13: this is an int, and this operand must be a bool.".into()),
        ("roles.all(1, true)", "10: a loop's first argument is the name of its variable.".into()),
        (
            "roles.all(tool, true)",
            "10: `tool` is already a variable. Choose another name for the loop's variable.".into(),
        ),
        ("{1: 2} == {}", "1: this is an int, and a key of a map must be a string.".into()),
        (
            "duration('1s').getFullYear() == 1",
            "0: this is a duration, and this operand must be a timestamp.".into(),
        ),
        ("now.getHours('Mars/X') > 1", format!("13: `Mars/X` is not a time zone. {ZONE}")),
        ("now.getHours(tool) > 1", format!("13: a zone must be written out. {ZONE}")),
        ("now > timestamp('x')", "16: `x` is no timestamp such as \"2026-01-31T08:00:00Z\".".into()),
        ("now - now > duration('x')", "21: `x` is no duration such as \"1h30m\".".into()),
        (
            "tool.matches('(')",
            "13: `(` is no regular expression: unclosed group. Correct the pattern.".into(),
        ),
        (
            r"tool.matches('\\w{999}')",
            r"13: the pattern `\\w{999}` takes too much memory. Correct the pattern.".into(),
        ),
        ("principal", format!("0: this is a string, and a condition is true or false. {COMPARE}")),
        ("  (1 + 1)", format!("3: this is an int, and a condition is true or false. {COMPARE}")),
        ("args", format!("0: this is a map, and a condition is true or false. {COMPARE}")),
    ];
    for (text, expected) in table {
        assert_eq!(condition(text), expected, "{text}");
    }
}

#[test]
fn a_network_is_read_at_its_place() {
    let write = "Write `cidr(\"10.0.16.0/20\").containsIP(source)`.";
    let prefix = "Write an address and its prefix, such as \"10.0.16.0/20\" or \"2001:db8::/32\".";
    let table = [
        ("cidr('10.0.0.0/33').containsIP(source)", format!("5: `10.0.0.0/33` is no network. {prefix}")),
        (
            "true && cidr('10.0.0.1/8').containsIP(source)",
            "13: `10.0.0.1/8` has bits beyond its prefix. Did you mean \"10.0.0.0/8\"?".into(),
        ),
        ("cidr(tool).containsIP(source)", format!("5: a network must be written out. {write}")),
        ("cidr('::/0') == '::/0'", format!("0: a network is only asked what it contains. {write}")),
        ("source.containsIP('::1')", format!("0: this is no network. {write}")),
        ("cidr().containsIP(source)", "0: `cidr` does not take 0 arguments.".into()),
        ("cidr('::/0').containsIP()", "13: `containsIP` does not take 0 arguments.".into()),
        (
            "cidr('::/0').containsIP(roles)",
            "24: this is a list of strings, and an address must be a string.".into(),
        ),
        ("cidr('::/0').containsIP('::g')", "24: `::g` is no address. Write `source`, for example.".into()),
        ("containsIP(source)", "0: `containsIP` is not called so. Write `x.containsIP(…)`.".into()),
        ("tool.cidr('::/0')", "5: `cidr` is not called so. Write `cidr(x)`.".into()),
        (
            "cidr('::/0').containsIp(source)",
            "13: `containsIp` is not a function. Did you mean `containsIP`?".into(),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(condition(text), expected, "{text}");
    }
}

#[test]
fn a_loop_inside_of_another_is_refused_where_a_caller_may_make_both_long() {
    let refused = "this loop is inside of another one, and both go over what a caller may make long. \
                   Let one of the two go over a list that is written out.";
    let check = |text: &str, at: usize| {
        assert_eq!(condition(text), format!("{at}: {refused}"), "{text}");
    };
    check("args.a.exists(x, args.b.exists(y, x == y))", 24);
    check("args.a.exists(x, x.all(y, y))", 19);
    check("['a'].all(x, args.a.exists(y, args.b.exists(z, y == z)))", 37);
    check("args.a.exists(x, args.b.map(y, y) == [])", 24);
    assert_eq!(condition("args.a.exists(x, x) && args.b.exists(x, x)"), "ok");
    assert_eq!(condition("['a'].all(x, args.a.exists(y, ['b'].exists(z, y == z)))"), "ok");
}

#[test]
fn a_key_is_a_scalar_or_a_list() {
    let key = |text| shown(Expression::compile_key(text));
    for text in ["principal", "args.id", "[tool, args.id]", "size(roles)", "now.getHours()", "null"] {
        assert_eq!(key(text), "ok", "{text}");
    }
    let map = "this is a map, and a key is one value or a list. Name one of its fields.";
    assert_eq!(key("args"), format!("0: {map}"));
    assert_eq!(key("{'a': tool}"), format!("0: {map}"));
}

#[test]
fn what_is_too_long_or_too_deep_is_refused() {
    let long = format!("tool == '{}'", "x".repeat(limits::EXPRESSION_BYTES_MAX));
    assert_eq!(condition(&long), "0: the expression is longer than 4096 bytes. Make several rules of it.");
    let filled = format!("tool == '{}'", "x".repeat(limits::EXPRESSION_BYTES_MAX - 10));
    assert_eq!((filled.len(), condition(&filled).as_str()), (limits::EXPRESSION_BYTES_MAX, "ok"));
    let deep = [
        "(".repeat(4_000),
        "[".repeat(2_000) + &"]".repeat(2_000),
        format!("1{} == 1", "+1".repeat(2_000)),
        format!("args{}", ".a".repeat(2_000)),
        format!("args{}", "[0]".repeat(1_300)),
        format!("tool{}", ".size()".repeat(500)),
        "!true || (".repeat(120) + "true" + &")".repeat(120),
        "true ? true : ".repeat(200) + "true",
    ];
    for text in deep {
        let shown = condition(&text);
        assert!(shown.contains("the expression is nested more than 128 deep"), "{text}: {shown}");
    }
    assert_eq!(condition(&("true && ".repeat(500) + "true")), "ok");
}

#[test]
fn a_flaw_has_line_and_column_in_characters() {
    let check = |text, at, line, column| {
        let flaw = Expression::compile_condition(text).expect_err(text);
        assert_eq!((flaw.at, flaw.line, flaw.column), (at, line, column), "{text}");
    };
    check("toool == 'a'", 0, 1, 1);
    check("tool == 'é' &&\n  toool == 'a'", 18, 2, 3);
    check("'é' == tool && toool == 'a'", 16, 1, 16);
    check("tool == 'é' &&\r\n  'é' ^ 1", 24, 2, 7);
    check("tool ==\n\n", 9, 3, 1);
}

#[test]
fn an_expression_knows_what_it_uses() {
    let check = |text, variables: &[Variable], uses_body| {
        let expression = Expression::compile_condition(text).expect(text);
        let expected = variables.iter().fold(0, |bits, variable| bits | variable.bit());
        assert_eq!((expression.used, expression.uses_body()), (expected, uses_body), "{text}");
    };
    check("true", &[], false);
    check("tool == 'a' && 'x' in roles", &[Variable::Tool, Variable::Roles], false);
    check("mcp.tool.name == body.params.name", &[Variable::Tool, Variable::Name], false);
    check("body.method == method", &[Variable::Method], false);
    check("body.params.uri == 'a'", &[Variable::Body], true);
    check("args.a == meta.b", &[Variable::Args, Variable::Meta], true);
    check("now.getHours() > 1 && jwt.sub == ''", &[Variable::Now, Variable::Jwt], false);
}
