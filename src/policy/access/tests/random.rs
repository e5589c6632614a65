//! Random rules and calls: lists and calls agree, and both are what the rules say one by one.

use super::*;
use crate::policy::expression::evaluate_condition;
use proptest::prelude::*;
use proptest::sample::select;

const TOOLS: [&str; 3] = ["read_ticket", "delete_ticket", "other"];
const ROLES: &[&[&str]] = &[&[], &["a"], &["a", "b"]];
const ARGUMENTS: [&str; 7] = [
    "{}",
    r#"{"x":0}"#,
    r#"{"x":1}"#,
    r#"{"x":true}"#,
    r#"{"x":"a"}"#,
    r#"{"x":"acme"}"#,
    r#"{"x":1,"x":1}"#,
];

fn condition() -> impl Strategy<Value = String> {
    let leaf = select(
        &[
            "args.x == 1",
            "args.x",
            "args.x == jwt.org",
            "jwt.none",
            "jwt.org == \"acme\"",
            "\"a\" in roles",
            "tool == \"other\"",
            "annotations.readOnlyHint",
            "has(args.x)",
            "roles.exists(r, r == args.x)",
            "roles.all(r, r == \"a\" || args.x)",
            "source == \"10.0.0.7\"",
            "true",
            "1 / 0 == 1",
        ][..],
    );
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        let two = (inner.clone(), inner.clone(), select(&["&&", "||"][..]));
        prop_oneof![
            two.prop_map(|(left, right, operator)| format!("({left} {operator} {right})")),
            inner.clone().prop_map(|operand| format!("!({operand})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

fn rule() -> impl Strategy<Value = String> {
    let effect = select(&["allow", "deny"][..]);
    let pattern = select(&["*", "crm.*", "crm.read_*", "crm.delete_ticket", "bank.*"][..]);
    let who =
        select(&["", "roles: [a], ", "roles: [b, c], ", "principals: [ada], ", "principals: [bob], "][..]);
    (effect, pattern, who, proptest::option::of(condition())).prop_map(|(effect, pattern, who, when)| {
        let when = when.map_or(String::new(), |when| format!(", when: '{when}'"));
        format!("{who}{effect}: [\"{pattern}\"]{when}")
    })
}

/// What the rules say of a call, read one by one as they are documented.
fn plainly(case: &Case<'_>, tool: &str, arguments: &str) -> bool {
    let body = format!(r#"{{"params":{{"name":"{tool}","arguments":{arguments}}}}}"#);
    let matches = |rule: &AccessRule| {
        let named = rule.roles.iter().any(|role| case.caller.roles.contains(role))
            || rule.principals.iter().any(|name| **name == *case.caller.name);
        let concerned = (named || rule.roles.is_empty() && rule.principals.is_empty())
            && rule.patterns.iter().any(|pattern| pattern.matches(Named::Tool, "crm", tool));
        let holds = || {
            let Some(when) = &rule.when else { return Ok(true) };
            let target = Target { named: Named::Tool, name: Cow::Borrowed(tool) };
            let view = case.view("crm");
            let variables = Variables { body: body.as_bytes(), ..view.variables(&target) };
            let mut patterns = Patterns::default();
            evaluate_condition(when, &mut Scope::new(variables, &mut patterns))
        };
        concerned && holds().unwrap_or(matches!(rule.effect, Effect::Deny))
    };
    let any = |effect: fn(&Effect) -> bool| {
        let mut rules = case.access.rules.iter().filter(move |rule| effect(&rule.effect));
        (rules.clone().next().is_some(), rules.any(matches))
    };
    let (_, denied) = any(|effect| matches!(effect, Effect::Deny));
    let (needs, allowed) = any(|effect| matches!(effect, Effect::Allow));
    !denied && (allowed || !needs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lists_and_calls_are_what_the_rules_say(
        rules in proptest::collection::vec(rule(), 0..5),
        roles in select(ROLES),
        org in select(&["acme", "other"][..]),
    ) {
        let written = |rules: &[String]| {
            let named = rules.iter().enumerate().map(|(at, rule)| format!("{{name: r{at}, {rule}}}"));
            named.collect::<Vec<_>>().join(", ")
        };
        let turned: Vec<String> = rules.iter().rev().cloned().collect();
        let [access, turned] = [&rules, &turned].map(|rules| access(&written(rules)));
        let caller = caller(roles, &[], json!({ "org": org }));
        let (case, turned) = (Case::new(&access, &caller), Case::new(&turned, &caller));
        for tool in TOOLS {
            let listed = case.sees(Named::Tool, "crm", tool);
            prop_assert_eq!(listed, turned.sees(Named::Tool, "crm", tool));
            let reads_arguments = rules.iter().any(|rule| rule.contains("args"));
            for arguments in ARGUMENTS {
                let said = case.tool("crm", tool, arguments);
                let passes = plainly(&case, tool, arguments);
                prop_assert_eq!(said == "open", passes, "{} {} {}", tool, arguments, said);
                prop_assert_eq!(turned.tool("crm", tool, arguments) == "open", passes);
                prop_assert_eq!(said.starts_with("hidden"), !listed, "{} {} {}", tool, arguments, said);
                prop_assert!(reads_arguments || listed == passes, "{} {} {}", tool, arguments, said);
            }
        }
    }
}
