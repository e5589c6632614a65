//! Access rules in the config.
//!
//! Not here: what they decide (`policy::access`).

use crate::check;
use crate::load;
use crate::plan;
use crate::problems;
use crate::with;
use ringgate::config::access::AccessRule;
use ringgate::config::access::Effect;
use ringgate::config::pattern::Named;

/// A config with one rule of these members.
fn rule(members: &str) -> String {
    with(&format!("access: [{{name: r, {members}}}]"))
}

fn read(members: &str) -> AccessRule {
    plan(&rule(members)).access.rules.remove(0)
}

#[test]
fn a_rule_is_read_as_it_is_written() {
    let rule = read(
        "roles: [support, dev], principals: [ada], allow: [\"a.read_*\", \"prompt:*\", \
         \"resource:a.file:///x\"], when: args.x == 1",
    );
    assert_eq!(
        (&*rule.name, &*rule.roles, &*rule.principals),
        ("r", &["support".into(), "dev".into()][..], &["ada".into()][..])
    );
    assert!(matches!(rule.effect, Effect::Allow) && rule.when.is_some());
    let matches = |named, name| rule.patterns.iter().any(|pattern| pattern.matches(named, "a", name));
    assert!(
        matches(Named::Tool, "read_x")
            && matches(Named::Prompt, "x")
            && matches(Named::Resource, "file:///x")
    );
    assert!(!matches(Named::Tool, "x") && !matches(Named::Resource, "file:///y"));
    assert!(matches!(read("deny: [\"*\"]").effect, Effect::Deny));
    let Effect::Scopes(scopes) = read("tools: [a.x], scopes: [\"repo:delete\", b]").effect else { panic!() };
    assert_eq!(*scopes, ["repo:delete".into(), "b".into()]);
    assert!(plan(&with("")).access.rules.is_empty());
}

/// What issuers and certificate authorities name, rules can name.
#[test]
fn regression_principals_are_named_as_callers_are() {
    for name in ["CN=agent-7,O=Example", "auth0|123", "Zoë", "李 雷", r"CN=\ a b\ ", "spiffe://corp/agent/7"]
    {
        let written = format!("principals: ['{name}'], deny: [a.x]");
        assert_eq!(*read(&written).principals, [name.into()]);
        let usage = plan(&with(&format!("usage: {{from: ['{name}']}}\nidentity: {{anonymous: '{name}'}}")));
        assert_eq!(*usage.limits.usage_from, [name.into()]);
        assert_eq!(usage.identity.anonymous.as_deref(), Some(name));
    }
}

#[test]
fn others_decide_in_time_or_not_at_all() {
    let rule = read("opa: \"http://127.0.0.1:8181/v1/data/mcp/allow\"");
    // It is asked about everything.
    for named in [Named::Tool, Named::Prompt, Named::Resource] {
        assert!(rule.patterns.iter().any(|pattern| pattern.matches(named, "a", "x")), "{named:?}");
    }
    let Effect::External(external) = rule.effect else { panic!() };
    assert_eq!((external.timeout_ms, external.allows_on_error, external.cache_ms), (100, false, 0));
    let rule = read("tools: [a.x], opa: \"https://opa.test/x\", timeout: 5ms, onError: allow, cacheFor: 1s");
    assert_eq!(rule.patterns.len(), 1);
    let Effect::External(external) = rule.effect else { panic!() };
    assert_eq!((external.timeout_ms, external.allows_on_error, external.cache_ms), (5, true, 1_000));
    assert_eq!(&*external.url, "https://opa.test/x");
}

#[test]
fn rules_that_cannot_be_meant() {
    let table = [
        ("allow: [a.x], »deny: [a.y]", "`allow` and `deny` exclude each other. Write two rules."),
        ("deny: [a.y], »opa: \"http://127.0.0.1/x\"", "`deny` and `opa` exclude each other"),
        ("allow: [»A.x]", "`A` is no server. Did you mean `a`?"),
        ("deny: [»x]", "`x` names no server. Write `server.tool`"),
        ("deny: »[]", "the list is empty"),
        ("deny: [»\"\"]", "there is no value"),
        ("principals: [»\"a\\u200bb\"], deny: [a.x]", "is no name of a principal"),
        ("roles: »x, deny: [a.x]", "expected a list"),
        ("deny: [a.x], »tools: [a.x]", "`tools` goes with `scopes` or `opa`"),
        ("»scopes: [x]", "a rule of `scopes` has no `tools`"),
        ("tools: [a.x], scopes: [»\"a b\"]", "is no scope. It has 1 to 128 visible ASCII characters"),
        ("tools: [a.x], scopes: [»'a\"b']", "is no scope"),
        ("tools: [a.x], scopes: [»\"é\"]", "is no scope"),
        ("deny: [a.x], »timeout: 5ms", "`timeout` goes with `opa`. Remove it."),
        ("tools: [a.x], scopes: [x], »onError: deny", "`onError` goes with `opa`"),
        ("opa: »\"http://opa.example/x\"", "is not `https://`"),
        ("opa: »x", "Write `https://HOST/…`"),
        ("opa: \"http://127.0.0.1/x\", timeout: »1h", "here from 1ms to 10s"),
        ("opa: \"http://127.0.0.1/x\", onError: »no", "It is one of: allow, deny."),
        ("deny: [a.x], when: »bad", "`bad` is not a variable"),
        ("deny: [a.x], when: »args.x + 1", "a condition is true or false"),
        ("deny: [a.x], when: \"annotations.»readonlyHint\"", "Did you mean `readOnlyHint`?"),
        ("deny: [a.x], when: \"has(annotations.»read)\"", "`read` is no hint of a tool"),
        ("deny: [a.x], »alow: [a.x]", "Did you mean `allow`?"),
    ];
    for (marked, what) in table {
        check(&rule(marked), what);
    }
    check(&with("access: [»{name: r}]"), "an access rule does nothing. Write what it does");
    check(&with("access: [»{deny: [a.x]}]"), "an access rule has no `name`");
    check(&with("access: [{name: »\"a b\", deny: [a.x]}]"), "is no name of an access rule");
    check(
        &with("access:\n- {name: r, deny: [a.x]}\n- {name: »r, deny: [a.y]}"),
        "the access rule `r` stands here a second time. The first one is at 3:10; rename one.",
    );
    check(&with("access: »{name: r}"), "expected a list");
    // A limit may have the name of a rule.
    let both = "access: [{name: r, deny: [a.x]}]\nlimits: [{name: r, key: principal, rate: 1/s}]";
    assert_eq!(plan(&with(both)).access.rules.len(), 1);
}

#[test]
fn rules_are_bounded() {
    let list = |count: usize| {
        let lines: String = (0..count).map(|at| format!("- {{name: r{at}, deny: [a.x]}}\n")).collect();
        with(&format!("access:\n{lines}"))
    };
    assert_eq!(plan(&list(256)).access.rules.len(), 256);
    assert_eq!(problems(&list(257)), ["a.yaml:259:3: more than 256 access rules."]);
    let scopes = vec!["s"; 17].join(", ");
    let found = problems(&rule(&format!("tools: [a.x], scopes: [{scopes}]")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("more than 16 scopes"), "{found:?}");
}

/// A disabled server may come back.
#[test]
fn rules_for_a_disabled_server_are_no_mistake() {
    let text = "mcpServers: {a: {url: \"http://localhost:1/\"}, b: {disabled: true}}\n\
                access: [{name: r, deny: [\"b.*\"]}]\n";
    assert_eq!(load(text).unwrap().plan.access.rules.len(), 1);
}
