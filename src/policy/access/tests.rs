//! What rules mean for lists and for calls, and that both agree.

mod random;

use super::*;
use crate::config;
use crate::mcp::catalogue::Annotations;
use crate::mcp::envelope::Method;
use crate::policy::decide::Asked;
use crate::policy::limits::gate::When;
use serde_json::Value;
use serde_json::json;
use std::path::Path;

/// 2026-01-31 08:30:15.250, a Saturday.
const NOW_MS: i64 = 1_769_848_215_250;

fn access(rules: &str) -> Access {
    let text = format!(
        "mcpServers: {{crm: {{url: \"http://127.0.0.1:1/mcp\"}}, bank: {{url: \"http://127.0.0.1:2/mcp\"}}}}\n\
         access: [{rules}]"
    );
    let loaded = config::load_text(&text, "a.yaml", Path::new(""));
    loaded.unwrap_or_else(|problems| panic!("{rules}\n{problems}")).plan.access
}

fn caller(roles: &[&str], scopes: &[&str], claims: Value) -> Caller {
    let Value::Object(claims) = claims else { panic!("an object") };
    let boxed = |texts: &[&str]| texts.iter().map(|text| Box::from(*text)).collect();
    let claims = crate::policy::claims::Claims(claims);
    Caller { roles: boxed(roles), scopes: boxed(scopes), claims, ..Caller::of_certificate("ada") }
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    let hints = Annotations { read_only: true, ..Annotations::default() };
    catalogue.tools.insert("read_ticket".into(), hints);
    catalogue.tools.insert("delete_ticket".into(), Annotations::default());
    catalogue
}

/// A caller under some rules.
struct Case<'a> {
    access: &'a Access,
    caller: &'a Caller,
    standing: Standing,
    catalogue: Catalogue,
    patterns: RefCell<Patterns>,
    source: IpAddr,
    now: i64,
}

impl<'a> Case<'a> {
    fn new(access: &'a Access, caller: &'a Caller) -> Self {
        let patterns = RefCell::default();
        let standing = Standing::new(access, caller, &patterns);
        let source = IpAddr::from([10, 0, 0, 7]);
        Self { access, caller, standing, catalogue: catalogue(), patterns, source, now: NOW_MS }
    }

    fn sees(&self, named: Named, server: &str, name: &str) -> bool {
        self.view(server).sees(self.access, named, name, &self.patterns)
    }

    fn view<'v>(&'v self, server: &'v str) -> View<'v> {
        let Self { caller, standing, catalogue, source, now, .. } = self;
        View {
            caller,
            standing,
            server,
            catalogue: Some(catalogue),
            labels: Labels::NONE,
            source: *source,
            now: *now,
        }
    }

    /// What becomes of a call, in a word.
    fn call(&self, method: Method, server: &str, name: &str, arguments: &str) -> String {
        let named = match method {
            Method::ToolsCall => Named::Tool,
            Method::PromptsGet | Method::Complete => Named::Prompt,
            _ => Named::Resource,
        };
        let target = Target { named, name: Cow::Borrowed(name) };
        let body = format!(r#"{{"params":{{"name":"{name}","arguments":{arguments}}}}}"#);
        let asked = Asked {
            caller: self.caller,
            standing: &self.standing,
            server,
            catalogue: Some(&self.catalogue),
            labels: Labels::NONE,
            method,
            method_text: method.as_str(),
            target: name,
            targets: std::slice::from_ref(&target),
            source: self.source,
            body: body.as_bytes(),
            when: When {
                moment: crate::base::clock::Moment::ZERO,
                unix_ns: self.now.unsigned_abs() * 1_000_000,
            },
            number: 0,
            answers: &[],
        };
        let mut patterns = self.patterns.borrow_mut();
        let mut scope = Scope::new(asked.variables(), &mut patterns);
        let ruling = self.view(server).may(self.access, (&target, method.as_str()), &mut scope, &mut ());
        let by = |rule: Option<&AccessRule>| rule.map_or("default".to_owned(), |rule| rule.name.to_string());
        match ruling {
            Finding::Open => "open".into(),
            Finding::Hidden(rule) => format!("hidden {}", by(rule)),
            Finding::Forbidden(rule) => format!("forbidden {}", by(rule)),
            Finding::MissingScopes { rule, scopes } => format!("{} {}", rule.name, scopes.join(" ")),
            Finding::Ask(rules) => {
                format!("ask {}", rules.iter().map(|rule| &*rule.name).collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn tool(&self, server: &str, tool: &str, arguments: &str) -> String {
        self.call(Method::ToolsCall, server, tool, arguments)
    }
}

/// Each row: rules, a call of a tool with its arguments, what becomes of it; a tool is listed unless it is hidden.
fn check(caller: &Caller, rows: &[(&str, &str, &str, &str)]) {
    for (rules, tool, arguments, expected) in rows {
        let access = access(rules);
        let case = Case::new(&access, caller);
        let (server, tool) = tool.split_once('.').unwrap();
        assert_eq!(case.tool(server, tool, arguments), *expected, "{rules} {tool} {arguments}");
        assert_eq!(case.sees(Named::Tool, server, tool), !expected.starts_with("hidden"), "{rules} {tool}");
    }
}

#[test]
fn rbac() {
    let reads = "{name: r, roles: [support], allow: [\"crm.read_*\"]}";
    let both = "{name: r, roles: [support], allow: [\"crm.*\"]}, {name: d, deny: [crm.delete_ticket]}";
    let turned = "{name: d, deny: [crm.delete_ticket]}, {name: r, roles: [support], allow: [\"crm.*\"]}";
    let hint = "{name: w, deny: [\"*\"], when: '!annotations.readOnlyHint'}";
    check(
        &caller(&["support"], &[], json!({})),
        &[
            ("", "crm.read_ticket", "{}", "open"),
            (reads, "crm.read_ticket", "{}", "open"),
            (reads, "crm.delete_ticket", "{}", "hidden default"),
            (reads, "bank.read_ticket", "{}", "hidden default"),
            (both, "crm.read_ticket", "{}", "open"),
            (both, "crm.delete_ticket", "{}", "hidden d"),
            (turned, "crm.delete_ticket", "{}", "hidden d"),
            // Only rules that deny: the rest is allowed.
            ("{name: d, deny: [\"bank.*\"]}", "crm.read_ticket", "{}", "open"),
            ("{name: d, deny: [\"bank.*\"]}", "bank.transfer", "{}", "hidden d"),
            ("{name: d, roles: [guest], deny: [\"bank.*\"]}", "bank.transfer", "{}", "open"),
            ("{name: d, principals: [bob], deny: [\"*\"]}", "bank.transfer", "{}", "open"),
            ("{name: d, principals: [ada], deny: [\"*\"]}", "bank.transfer", "{}", "hidden d"),
            // Either names the caller.
            (
                "{name: d, roles: [support], principals: [bob], deny: [\"*\"]}",
                "bank.transfer",
                "{}",
                "hidden d",
            ),
            ("{name: a, roles: [admin], principals: [ada], allow: [\"*\"]}", "bank.x", "{}", "open"),
            (
                "{name: a, roles: [admin], principals: [bob], allow: [\"*\"]}",
                "bank.x",
                "{}",
                "hidden default",
            ),
            // A rule that allows others makes everything denied.
            ("{name: a, roles: [admin], allow: [\"*\"]}", "crm.read_ticket", "{}", "hidden default"),
            (hint, "crm.read_ticket", "{}", "open"),
            (hint, "crm.delete_ticket", "{}", "hidden w"),
            // A tool that nobody knows is what a tool without hints is.
            (hint, "crm.new_ticket", "{}", "hidden w"),
        ],
    );
}

#[test]
fn abac() {
    let big = "{name: big, deny: [bank.transfer], when: 'args.amount > 1000 && !(\"finance\" in roles)'}";
    let rows = [
        (big, "bank.transfer", r#"{"amount":1000}"#, "open"),
        (big, "bank.transfer", r#"{"amount":1001}"#, "forbidden big"),
        (big, "bank.transfer", r#"{"amount":1e3}"#, "open"),
        (big, "bank.transfer", r#"{"amount":1001.0}"#, "forbidden big"),
        (big, "bank.transfer", r#"{"amount":100100e-2}"#, "forbidden big"),
        // What cannot be evaluated is denied: no number, no amount, two of them, however they are written.
        (big, "bank.transfer", r#"{"amount":"1"}"#, "forbidden big"),
        (big, "bank.transfer", "{}", "forbidden big"),
        (big, "bank.transfer", r#"{"amount":1,"amount":2000}"#, "forbidden big"),
        (big, "bank.transfer", r#"{"amount":1,"\u0061mount":2000}"#, "forbidden big"),
        (big, "bank.transfer", r#"{"\u0061mount":2000}"#, "forbidden big"),
        (big, "bank.transfer", r#"{"\u0061mount":20}"#, "open"),
        (big, "bank.balance", "{}", "open"),
        ("{name: a, allow: [\"*\"], when: args.ok}", "bank.x", r#"{"ok":true}"#, "open"),
        ("{name: a, allow: [\"*\"], when: args.ok}", "bank.x", r#"{"ok":false}"#, "forbidden default"),
        ("{name: a, allow: [\"*\"], when: args.ok}", "bank.x", "{}", "forbidden default"),
    ];
    check(&caller(&[], &[], json!({})), &rows);
    // With the role the arguments do not matter: the condition is false whatever they are.
    let finance = caller(&["finance"], &[], json!({}));
    for (rules, tool, arguments, _) in rows.iter().filter(|row| row.0 == big) {
        check(&finance, &[(rules, tool, arguments, "open")]);
    }
}

/// What may still come out, where the arguments are unknown and the claims are not what the rule needs.
#[test]
fn what_no_arguments_can_change_is_hidden() {
    let caller = caller(&["a"], &[], json!({"org": "acme", "level": 3}));
    let deny = |when: &str| format!("{{name: d, deny: [\"*\"], when: '{when}'}}");
    let allow = |when: &str| format!("{{name: a, allow: [\"*\"], when: '{when}'}}");
    for (rules, listed) in [
        (deny("args.x == 1 || jwt.org == \"acme\""), false),
        (deny("args.x == 1 && jwt.org == \"acme\""), true),
        (deny("args.x == 1 && jwt.org == \"other\""), true),
        // It fails or is true: denied either way.
        (deny("jwt.none == 1 || args.x == 1"), false),
        (deny("args.x == jwt.none"), false),
        (deny("jwt.none == args.x"), false),
        (deny("jwt.none == 1 && args.x == 1"), true),
        (deny("args.x ? true : true"), false),
        (deny("args.x ? jwt.none : true"), false),
        (deny("args.x ? false : true"), true),
        (deny("!(args.x || true)"), true),
        (deny("args.list.all(x, x > 0)"), true),
        (deny("roles.exists(role, role == \"a\" || args.x)"), false),
        (deny("roles.exists(role, role == args.x)"), true),
        (deny("has(args.x)"), true),
        (deny("size(meta) >= 0"), true),
        (deny("jwt.level >= 3 && tool == \"x\""), false),
        (deny("now > timestamp(0)"), false),
        (deny("source.startsWith(\"10.\")"), false),
        (deny("method == \"tools/call\""), false),
        (allow("args.x == 1 || jwt.org == \"other\""), true),
        (allow("args.x == 1 && jwt.org == \"other\""), false),
        (allow("jwt.none == 1 && args.x == 1"), false),
        (allow("jwt.none == 1 || args.x == 1"), true),
        (allow("args.x == jwt.none"), false),
        (allow("[args.x, jwt.none] == [1, 2]"), false),
        (allow("roles.all(role, role == \"b\" && args.x)"), false),
        (allow("args.x ? false : jwt.none"), false),
        (allow("!args.x"), true),
    ] {
        let access = access(&rules);
        let case = Case::new(&access, &caller);
        assert_eq!(case.sees(Named::Tool, "crm", "x"), listed, "{rules}");
        let hidden = case.tool("crm", "x", "{}").starts_with("hidden");
        assert_eq!(hidden, !listed, "{rules}");
    }
}

/// Rules about hours and networks, at the edges.
#[test]
fn time_and_source_decide() {
    let access = access(
        "{name: hours, deny: [crm.x], when: 'now.getHours(\"UTC\") < 8 || now.getHours(\"UTC\") >= 18'}, \
         {name: net, deny: [bank.x], when: '!source.startsWith(\"10.0.\")'}",
    );
    let caller = caller(&[], &[], json!({}));
    let mut case = Case::new(&access, &caller);
    let midnight = NOW_MS - NOW_MS.rem_euclid(86_400_000);
    let hour = 3_600_000;
    for (now, open) in [(8 * hour - 1, false), (8 * hour, true), (18 * hour - 1, true), (18 * hour, false)] {
        case.now = midnight + now;
        assert_eq!(case.sees(Named::Tool, "crm", "x"), open, "{now}");
        assert_eq!(case.tool("crm", "x", "{}"), if open { "open" } else { "hidden hours" }, "{now}");
    }
    for (source, open) in [([10, 0, 255, 255], true), ([10, 1, 0, 0], false)] {
        case.source = source.into();
        assert_eq!(case.sees(Named::Tool, "bank", "x"), open);
        assert_eq!(case.tool("bank", "x", "{}"), if open { "open" } else { "hidden net" });
    }
}

#[test]
fn scopes_hide_nothing_and_are_told_all_at_once() {
    let rules = "{name: s, tools: [\"crm.delete_*\"], scopes: [\"crm:delete\", \"crm:write\"]}, \
                 {name: t, tools: [\"crm.*\"], scopes: [\"crm:write\", \"crm:use\"]}, \
                 {name: d, roles: [guest], deny: [\"crm.*\"]}, {name: l, deny: [crm.delete_all], when: args.all}";
    let all = &["crm:delete", "crm:write", "crm:use"][..];
    let needs = "crm:delete crm:write crm:use";
    let delete = "crm.delete_x";
    check(&caller(&[], &[], json!({})), &[(rules, delete, "{}", &format!("s {needs}"))]);
    check(&caller(&[], &all[..2], json!({})), &[(rules, delete, "{}", &format!("t {needs}"))]);
    check(&caller(&[], all, json!({})), &[(rules, delete, "{}", "open"), (rules, "bank.x", "{}", "open")]);
    check(&caller(&[], &all[1..], json!({})), &[(rules, "crm.read", "{}", "open")]);
    // What is refused anyway asks for no scope.
    check(&caller(&["guest"], &[], json!({})), &[(rules, delete, "{}", "hidden d")]);
    check(&caller(&[], &[], json!({})), &[(rules, "crm.delete_all", r#"{"all":true}"#, "forbidden l")]);
}

#[test]
fn others_are_asked_about_what_would_pass() {
    let rules = "{name: o, opa: \"http://127.0.0.1:8181/v1/data/mcp/allow\"}, \
                 {name: p, tools: [\"crm.*\"], opa: \"http://127.0.0.1:8181/v1/data/b\"}, \
                 {name: d, deny: [crm.x]}, {name: s, tools: [crm.y], scopes: [s]}";
    check(
        &caller(&[], &[], json!({})),
        &[
            (rules, "bank.x", "{}", "ask o"),
            (rules, "crm.z", "{}", "ask o p"),
            (rules, "crm.x", "{}", "hidden d"),
            (rules, "crm.y", "{}", "s s"),
        ],
    );
}

/// Rules of tools say nothing about prompts and resources, but for the default: it is for all kinds.
#[test]
fn prompts_and_resources_have_rules_of_their_own() {
    let rules = "{name: a, allow: [\"crm.*\", \"prompt:crm.*\", \"resource:crm.file:///open/*\"]}, \
                 {name: d, deny: [\"resource:crm.file:///open/not\"]}, \
                 {name: m, deny: [\"resource:crm.*\"], when: 'method == \"resources/subscribe\"'}";
    let (access, caller) = (access(rules), caller(&[], &[], json!({})));
    let case = Case::new(&access, &caller);
    let call = |method, name| case.call(method, "crm", name, "{}");
    assert_eq!(call(Method::PromptsGet, "reply"), "open");
    assert_eq!(call(Method::Complete, "reply"), "open");
    assert_eq!(call(Method::ResourcesRead, "file:///open/a"), "open");
    assert_eq!(call(Method::ResourcesRead, "file:///open/not"), "hidden d");
    assert_eq!(call(Method::ResourcesSubscribe, "file:///open/not"), "hidden d");
    assert_eq!(call(Method::ResourcesRead, "file:///etc/passwd"), "hidden default");
    // It can be read, so that it is no secret that it exists.
    assert_eq!(call(Method::ResourcesSubscribe, "file:///open/a"), "forbidden m");
    assert!(case.sees(Named::Resource, "crm", "file:///open/a"));
    let tools_only = self::access("{name: a, allow: [\"crm.*\"]}");
    let case = Case::new(&tools_only, &caller);
    assert!(case.sees(Named::Tool, "crm", "x"));
    assert!(!case.sees(Named::Prompt, "crm", "x") && !case.sees(Named::Resource, "crm", "x"));
    let denies_only = self::access("{name: d, deny: [\"*\"]}");
    let case = Case::new(&denies_only, &caller);
    assert!(!case.sees(Named::Tool, "crm", "x"));
    assert!(case.sees(Named::Prompt, "crm", "x") && case.sees(Named::Resource, "crm", "x"));
}

#[test]
fn a_standing_of_other_rules_opens_nothing() {
    let (none, some) = (access(""), access("{name: d, deny: [\"crm.*\"]}"));
    let caller = caller(&[], &[], json!({}));
    let mut case = Case::new(&some, &caller);
    case.standing = Standing::new(&none, &caller, &case.patterns);
    assert_eq!(case.tool("bank", "x", "{}"), "hidden default");
    assert!(!case.sees(Named::Tool, "bank", "x"));
}

#[test]
fn rules_that_may_hide_something_are_known_without_its_name() {
    for (rules, server, named, expected) in [
        ("", "crm", Named::Tool, false),
        ("{name: a, deny: [crm.x]}", "crm", Named::Tool, true),
        ("{name: a, deny: [crm.x]}", "bank", Named::Tool, false),
        ("{name: a, deny: [crm.x]}", "crm", Named::Prompt, false),
        ("{name: a, deny: [\"prompt:c*.x\"]}", "crm", Named::Prompt, true),
        ("{name: a, principals: [else], deny: [crm.x]}", "crm", Named::Tool, false),
        ("{name: a, deny: [crm.x], when: args.a > 1}", "crm", Named::Tool, false),
        ("{name: a, deny: [crm.x], when: principal == \"else\"}", "crm", Named::Tool, false),
        ("{name: a, deny: [crm.x], when: '!annotations.readOnlyHint'}", "crm", Named::Tool, true),
        ("{name: a, allow: [crm.x]}", "crm", Named::Tool, true),
        ("{name: a, allow: [\"crm.*\"]}", "crm", Named::Tool, false),
        ("{name: a, allow: [\"*\"]}", "crm", Named::Tool, false),
        ("{name: a, allow: [\"crm.*\"]}", "crm", Named::Prompt, true),
        ("{name: a, principals: [else], allow: [\"*\"]}", "crm", Named::Tool, true),
        ("{name: a, allow: [\"*\"], when: args.a > 1}", "crm", Named::Tool, false),
        ("{name: a, allow: [\"*\"], when: tool == \"x\"}", "crm", Named::Tool, true),
        ("{name: a, tools: [crm.x], scopes: [s]}", "crm", Named::Tool, false),
    ] {
        let access = access(rules);
        let caller = Caller::of_certificate("ann");
        let standing = Standing::new(&access, &caller, &RefCell::default());
        assert_eq!(standing.may_hide(&access, named, server), expected, "{rules} {server} {named:?}");
    }
}

#[test]
fn servers_of_which_rules_leave_nothing_are_known_without_their_lists() {
    for (rules, expected) in [
        ("", false),
        ("{name: a, deny: [\"crm.*\"]}", false),
        ("{name: a, deny: [\"crm.*\", \"prompt:crm.*\", \"resource:crm.*\"]}", true),
        ("{name: a, deny: [\"c*.*\", \"prompt:*\", \"resource:*\"]}", true),
        ("{name: a, deny: [crm.x, \"prompt:crm.*\", \"resource:crm.*\"]}", false),
        ("{name: a, principals: [else], deny: [\"*\", \"prompt:*\", \"resource:*\"]}", false),
        ("{name: a, deny: [\"*\", \"prompt:*\", \"resource:*\"], when: args.a > 1}", false),
        ("{name: a, deny: [\"*\", \"prompt:*\", \"resource:*\"], when: tool == \"x\"}", false),
        ("{name: a, deny: [\"*\", \"prompt:*\", \"resource:*\"], when: principal == \"ann\"}", true),
        ("{name: a, allow: [\"bank.*\"]}", true),
        ("{name: a, allow: [crm.x]}", false),
        ("{name: a, allow: [\"resource:crm.x\"]}", false),
        ("{name: a, allow: [\"crm.*\"], when: args.a > 1}", false),
        ("{name: a, allow: [\"crm.*\"], when: principal == \"else\"}", true),
        ("{name: a, principals: [else], allow: [\"*\"]}", true),
        ("{name: a, tools: [\"crm.*\"], scopes: [s]}", false),
    ] {
        let access = access(rules);
        let caller = Caller::of_certificate("ann");
        let standing = Standing::new(&access, &caller, &RefCell::default());
        assert_eq!(standing.hides_all(&access, "crm"), expected, "{rules}");
    }
}
