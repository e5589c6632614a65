//! Limits of callers in the config, and what keeps their counts.
//!
//! Not here: traffic of servers (`traffic`).

use crate::check;
use crate::load;
use crate::plan;
use crate::problems;
use crate::with;
use jiff::tz::TimeZone;
use ringgate::config::limit::Count;
use ringgate::config::limit::KeyPart;
use ringgate::config::limit::Limit;
use ringgate::config::limit::OnFull;
use ringgate::config::limit::Quota;
use ringgate::config::limit::Rate;
use ringgate::config::limit::RateLimitHeaders;
use ringgate::config::limit::Window;
use ringgate::config::pattern::Named;
use std::path::Path;

/// A config with one limit of these members.
fn limit(members: &str) -> String {
    with(&format!("state: {{dir: s}}\nlimits: [{{name: l, {members}}}]"))
}

fn read(members: &str) -> Limit {
    plan(&limit(members)).limits.list.remove(0)
}

/// Name and count of a key's parts, in letters: p, c(aller), t, s, T, a(ddress), g, e(xpression).
fn shown(key: &[KeyPart]) -> String {
    let letter = |part: &KeyPart| match part {
        KeyPart::Principal => 'p',
        KeyPart::Caller => 'c',
        KeyPart::Tenant => 't',
        KeyPart::Server => 's',
        KeyPart::Tool => 'T',
        KeyPart::Source => 'a',
        KeyPart::Gateway => 'g',
        KeyPart::Expression(_) => 'e',
    };
    key.iter().map(letter).collect()
}

#[test]
fn a_limit_completes_itself() {
    let limit = read("key: principal, rate: 60/min");
    assert_eq!((&*limit.name, &*shown(&limit.key), limit.count), ("l", "p", Count::Calls));
    assert!(
        limit.servers.is_empty() && limit.tools.is_empty() && limit.when.is_none() && limit.quota.is_none()
    );
    let methods: Vec<&str> = limit.methods.iter().map(|method| method.as_str()).collect();
    assert_eq!(
        (methods, limit.rate),
        (vec!["tools/call"], Some(Rate { count: 60, per_ms: 60_000, burst: 60 }))
    );
    let limit = read(
        "key: [server, tool], servers: [a], tools: [a.x, \"prompt:*.y\"], methods: [\"resources/*\", ping], \
         when: \"true\", rate: 100k/hour, burst: 2k, count: tokens, scope: gateway, onStateLoss: local",
    );
    assert_eq!((&*shown(&limit.key), limit.count), ("sT", Count::Tokens));
    assert_eq!(limit.rate, Some(Rate { count: 100_000, per_ms: 3_600_000, burst: 2_000 }));
    assert_eq!(
        (&*limit.servers[0], limit.methods[0].as_str(), limit.when.is_some()),
        ("a", "resources/*", true)
    );
    assert!(limit.tools[0].matches(Named::Tool, "a", "x") && limit.tools[1].matches(Named::Prompt, "q", "y"));
    for (word, expected) in [("tenant", "t"), ("source", "a"), ("gateway", "g"), ("args.user", "e")] {
        assert_eq!(shown(&read(&format!("key: {word}, rate: 1/s")).key), expected, "{word}");
    }
    assert_eq!(read("key: gateway, rate: 1/s, count: requests").count, Count::Requests);
}

#[test]
fn quotas_follow_the_calendar_of_a_zone() {
    let windows = [
        ("min", Window::Minute),
        ("hour", Window::Hour),
        ("day", Window::Day),
        ("week", Window::Week),
        ("month", Window::Month),
    ];
    for (word, window) in windows {
        let limit = read(&format!("key: principal, quota: 50k/{word}"));
        assert_eq!(limit.quota, Some(Quota { count: 50_000, window, zone: TimeZone::UTC }));
        assert!(limit.rate.is_none());
    }
    let zone = read("key: principal, quota: 1M/day, tz: Europe/Berlin").quota.unwrap().zone;
    assert_eq!(zone.iana_name(), Some("Europe/Berlin"));
}

#[test]
fn handshakes_and_lists_are_limited_where_nothing_is_said() {
    let [limit, lists] = &*plan(&with("")).limits.list else { panic!("two are built in") };
    assert_eq!(
        (&*limit.name, &*shown(&limit.key), limit.methods[0].as_str()),
        ("handshakes", "c", "initialize")
    );
    assert_eq!(limit.rate, Some(Rate { count: 25, per_ms: 10_000, burst: 25 }));
    let methods: Vec<_> = lists.methods.iter().map(|method| method.as_str()).collect();
    assert_eq!((&*lists.name, &*shown(&lists.key)), ("lists", "c"));
    assert_eq!(methods, ["prompts/list", "resources/list", "resources/templates/list", "tools/list"]);
    assert_eq!(lists.rate, Some(Rate { count: 10_000, per_ms: 10_000, burst: 10_000 }));
    let known = "identity: {apiKeys: {file: examples/keys.yaml}}";
    let guests = "identity: {apiKeys: {file: examples/keys.yaml}, anonymous: guest}";
    // Whatever callers show: who shows something is never counted with those who do not.
    for identity in [known, guests] {
        let list = plan(&with(identity)).limits.list;
        assert!(list.len() == 2 && list.iter().all(|limit| shown(&limit.key) == "c"), "{identity}");
    }
    let own = with("limits: [{name: handshakes, key: gateway, rate: 1/s}, {name: z, key: tool, rate: 1/s}]");
    let names: Vec<_> = plan(&own).limits.list.into_iter().map(|limit| limit.name.to_string()).collect();
    assert_eq!(names, ["handshakes", "z", "lists"]);
    let own = with("limits: [{name: lists, methods: [tools/list], key: gateway, rate: 1/s}]");
    let names: Vec<_> = plan(&own).limits.list.into_iter().map(|limit| limit.name.to_string()).collect();
    assert_eq!(names, ["lists", "handshakes"]);
}

#[test]
fn tables_headers_usage_and_state() {
    let limits = plan(&with("")).limits;
    assert_eq!((limits.table.buckets, limits.table.on_full), (1 << 20, OnFull::Refuse));
    assert_eq!((limits.headers, limits.usage_from.len()), (RateLimitHeaders::Draft, 0));
    for (written, expected) in [("1k", 1 << 10), ("1M", 1 << 20), ("1048577", 1 << 21), ("64M", 1 << 26)] {
        let table = plan(&with(&format!("limitTable: {{buckets: {written}, onFull: allow}}"))).limits.table;
        assert_eq!((table.buckets, table.on_full), (expected, OnFull::Allow), "{written}");
    }
    for (word, expected) in [("legacy", RateLimitHeaders::Legacy), ("off", RateLimitHeaders::Off)] {
        assert_eq!(plan(&with(&format!("rateLimitHeaders: {word}"))).limits.headers, expected);
    }
    let plan = plan(&with("usage: {from: [llm-router, b]}\nstate: {dir: var/state}"));
    assert_eq!(*plan.limits.usage_from, ["llm-router".into(), "b".into()]);
    assert_eq!(plan.state_dir, Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("var/state")));
    check(&with("limitTable: {buckets: »999}"), "`k` and `M` allowed, between 1000 and 64000000");
    check(&with("limitTable: {buckets: »65M}"), "between 1000 and 64000000");
    check(&with("limitTable: {onFull: »deny}"), "It is one of: refuse, allow.");
    check(&with("rateLimitHeaders: »drafts"), "Did you mean `draft`?");
    check(&with("usage: {from: [»\"a\\u200bb\"]}"), "is no name of a principal");
    check(&with("state: »{}"), "`state` has no `dir`");
    check(&with("state: {»redis: x}"), "`redis` of `state` is not available in this version");
    check(&with("»burst: 3"), "It belongs under `limits`.");
}

#[test]
fn limits_that_cannot_be_meant() {
    let table = [
        ("key: principal, rate: »0/min", "A rate is a count above 0 and a time"),
        ("key: principal, rate: »60", "A rate is a count above 0 and a time"),
        ("key: principal, rate: »5/0s", "A rate is a count above 0 and a time"),
        ("key: principal, rate: »5/week", "A rate is a count above 0 and a time"),
        ("key: principal, rate: »-1/s", "A rate is a count above 0 and a time"),
        ("key: principal, rate: »1001k/s", "a `rate` above 1M/s is more than can be told apart"),
        ("key: principal, rate: »5/2d", "takes more than a day to refill"),
        ("key: principal, rate: 1/hour, burst: »25", "Lower `burst`, or write a `quota`"),
        ("key: principal, rate: 1/hour, burst: »0", "between 1 and 999999999999999"),
        ("key: principal, quota: »0/day", "A quota is a count above 0 and a window"),
        ("key: principal, quota: »5/s", "A quota is a count above 0 and a window"),
        ("key: principal, quota: »1000000000M/day", "A quota is a count above 0 and a window"),
        ("key: principal, rate: 1/s, quota: »5/day", "`rate` and `quota` exclude each other"),
        ("key: principal, quota: 5/day, burst: »3", "`burst` has no effect on a `quota`"),
        ("key: principal, quota: 5/day, tz: »Europe/Berln", "no time zone. Did you mean `Europe/Berlin`?"),
        ("key: principal, quota: 5/day, tz: »Mars", "`Mars` is no time zone"),
        ("key: principal, rate: 5/s, tz: »UTC", "`tz` has no effect on a `rate`"),
        ("key: [principal, »tol], rate: 1/s", "Did you mean `tool`?"),
        ("key: [principal, »principal], rate: 1/s", "this part of the key stands here a second time"),
        ("key: »[], rate: 1/s", "the list is empty"),
        ("key»:, rate: 1/s", "there is no value"),
        ("key: »bad, rate: 1/s", "`bad` is not a variable"),
        ("key: principal, when: »bad, rate: 1/s", "`bad` is not a variable"),
        ("key: principal, servers: [»other], rate: 1/s", "`other` is no server. It is one of: a."),
        ("key: principal, servers: [»\"*\"], rate: 1/s", "`*` is no server"),
        ("key: principal, servers: »[], rate: 1/s", "the list is empty"),
        ("key: principal, tools: [»A.x], rate: 1/s", "`A` is no server. Did you mean `a`?"),
        ("key: principal, tools: [»x], rate: 1/s", "`x` names no server. Write `server.tool`"),
        ("key: principal, rate: 1/s, count: »call", "Did you mean `calls`?"),
        ("key: principal, rate: 1/s, scope: »fleet", "`fleet` is not available in this version"),
        ("key: principal, rate: 1/s, onStateLoss: »deny", "`deny` is not available in this version"),
        ("key: principal, »ratee: 1/s, quota: 1/day", "Did you mean `rate`?"),
    ];
    for (marked, what) in table {
        check(&limit(marked), what);
    }
    check(&with("limits: [»{name: l, key: principal}]"), "a limit has neither `rate` nor `quota`");
    check(&with("limits: [»{name: l, rate: 1/s}]"), "a limit has no `key`");
    check(&with("limits: [»{key: principal, rate: 1/s}]"), "a limit has no `name`");
    check(&with("limits: [{name: »\"a\\\"b\", key: principal, rate: 1/s}]"), "is no name of a limit");
    check(
        &with("limits:\n- {name: l, key: principal, rate: 1/s}\n- {name: »l, key: server, rate: 1/s}"),
        "the limit `l` stands here a second time. The first one is at 3:10; rename one.",
    );
}

/// What is wrong in an expression is shown where it stands in the file.
#[test]
fn expressions_have_places_of_their_own() {
    let written =
        |when: &str| with(&format!("limits:\n- name: l\n  key: principal\n  rate: 1/s\n  when: {when}"));
    check(&written("true && »bad"), "bad");
    check(&written("'true && »bad'"), "bad");
    check(&written("\"true && »bad\""), "bad");
    check(&written("|\n    true &&\n      true &&\n    »bad\n"), "bad");
    check(&written("|-\n\n    true && »bad\n"), "bad");
    // Folded lines and escapes: the text is not in the file as it is.
    check(&written(">-\n    »true &&\n    bad\n"), "(line 1, column 9 of the expression)");
    check(&written("»'\"it''s\" == bad'"), "(line 1, column 11 of the expression)");
    // The second use of an anchor: where it is written.
    check(
        &with("limits: [{name: l, key: &n »server + tool, when: *n, rate: 1/s}]"),
        "a condition is true or",
    );
}

#[test]
fn what_is_allowed_and_probably_not_meant() {
    let warnings = |text: &str| {
        let loaded = load(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let quota = warnings(&with("limits: [{name: l, key: principal, quota: 5/day}]"));
    assert_eq!(quota.len(), 1, "{quota:?}");
    assert!(quota[0].starts_with("a.yaml:2:43: this quota starts again with every restart"), "{quota:?}");
    assert_eq!(warnings(&limit("key: principal, quota: 5/day")), Vec::<String>::new());
    let typo = warnings(&limit("key: principal, methods: [tool/call, vendor/thing, \"tool*\"], rate: 1/s"));
    assert_eq!(typo.len(), 1, "{typo:?}");
    assert!(typo[0].ends_with("`tool/call` is no method of MCP. Did you mean `tools/call`?"), "{typo:?}");
    let never = warnings(&limit("key: principal, methods: [server/discover], rate: 1/s"));
    assert!(never.len() == 1 && never[0].contains("never limited"), "{never:?}");
    // What is kept until a restart, by values that callers choose: the place is that of the key.
    for (key, counted) in [
        ("source", "quota: 5/day"),
        ("[principal, source]", "quota: 5/day"),
        ("args.order", "rate: 10/s, count: tokens"),
        ("meta.trace", "quota: 5/day"),
    ] {
        let found = warnings(&limit(&format!("key: {key}, {counted}")));
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        let told = "a.yaml:3:25: each value of this key keeps one of 65536 places until a restart";
        assert!(found[0].starts_with(told), "{key}: {found:?}");
    }
    for fine in ["key: source, rate: 1/s", "key: args.order, rate: 1/s", "key: jwt.team, quota: 5/day"] {
        assert_eq!(warnings(&limit(fine)), Vec::<String>::new(), "{fine}");
    }
    // A disabled server may come back.
    let disabled = "mcpServers: {a: {url: \"http://localhost:1/\"}, b: {disabled: true}}\n\
                    limits: [{name: l, key: server, servers: [b], rate: 1/s}]\n";
    assert!(warnings(disabled).iter().all(|warning| warning.contains("is disabled")));
}

#[test]
fn limits_are_bounded() {
    let list = |count: usize, members: &str| {
        let lines: String = (0..count)
            .map(|index| format!("- {{name: l{index}, key: principal, rate: 1/s{members}}}\n"))
            .collect();
        with(&format!("limits:\n{lines}"))
    };
    assert_eq!(plan(&list(32, "")).limits.list.len(), 34);
    let found = problems(&list(33, ""));
    assert_eq!(found, ["a.yaml:35:3: more than 32 limits for every call to `a`. Join some of them."]);
    assert_eq!(plan(&list(256, ", tools: [a.x]")).limits.list.len(), 258);
    let found = problems(&list(257, ", tools: [a.x]"));
    assert_eq!(found, ["a.yaml:259:3: more than 256 limits."]);
}
