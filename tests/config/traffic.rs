//! What the config says about the traffic to a server: balance, pools, health, breakers, retries, faults.
//!
//! Not here: limits of callers (`limits`).

use crate::check;
use crate::load;
use crate::plan;
use crate::server;
use ringgate::config::pattern::Pattern;
use ringgate::config::plan::FaultKind;
use ringgate::config::plan::Server;
use ringgate::config::routing::Rule;
use ringgate::config::routing::Sticky;
use ringgate::config::routing::To;
use ringgate::config::traffic::Adaptive;
use ringgate::config::traffic::Balance;
use ringgate::config::traffic::Breaker;
use ringgate::config::traffic::Health;
use ringgate::config::traffic::Hedge;
use ringgate::config::traffic::Retry;
use ringgate::config::traffic::Traffic;

const URL: &str = "url: \"http://localhost:1/mcp\"";

fn only_server(members: &str) -> Server {
    plan(&server(members)).servers.remove(0)
}

fn traffic(members: &str) -> Traffic {
    only_server(&format!("{URL}, {members}")).traffic
}

/// A problem of one more member of a server.
fn check_member(marked: &str, what: &str) {
    check(&server(&format!("{URL}, {marked}")), what);
}

fn warnings(members: &str) -> Vec<String> {
    let loaded = load(&server(members)).unwrap_or_else(|problems| panic!("{members}\n{problems}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// Where it is written, whether for all instances or for some.
#[test]
fn hedging_over_tls_has_no_effect() {
    let found = warnings("url: \"https://crm.example/mcp\", retry: {hedge: p95}");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("a.yaml:2:54: `hedge` has no effect: calls of a server"), "{found:?}");
    let some = "instances: [{url: \"https://crm.example/mcp\"}, {url: \"http://localhost:1/mcp\"}]";
    let found = warnings(&format!("{some}, retry: {{hedge: 50ms}}"));
    assert!(found.len() == 1 && found[0].contains("`hedge` has no effect"), "{found:?}");
    let some_server = only_server(&format!("{some}, retry: {{hedge: 50ms}}"));
    assert_eq!(
        some_server.traffic.retry.hedge,
        Hedge::Off,
        "a copy over TLS would win before it is answered"
    );
    for fine in ["retry: {hedge: off}", "retry: {max: 1}"] {
        assert_eq!(warnings(&format!("{some}, {fine}")), Vec::<String>::new(), "{fine}");
    }
    assert_eq!(warnings(&format!("{URL}, retry: {{hedge: p95}}")), Vec::<String>::new());
}

const BREAKER: Breaker = Breaker {
    window: 100,
    failure_permille: 500,
    min_calls: 20,
    open_ms: 30_000,
    max_open_ms: 300_000,
    probes: 3,
    per_tool: false,
};

#[test]
fn where_nothing_is_said() {
    let server = only_server(URL);
    let traffic = server.traffic;
    assert_eq!(traffic.balance, Balance::RoundRobin);
    assert_eq!((&*traffic.weights, traffic.pools.len(), traffic.failover), (&[1][..], 1, None));
    assert_eq!((&*traffic.pools[0].name, traffic.pools[0].first, traffic.pools[0].count), ("default", 0, 1));
    assert_eq!((traffic.health, traffic.breaker, traffic.adaptive), (None, Some(BREAKER), None));
    assert_eq!(traffic.retry, Retry { max: 1, budget_permille: 100, hedge: Hedge::Off });
    assert!(!traffic.hold && !server.forward_deadline);
    assert!(server.idempotent.is_empty() && server.faults.is_empty() && server.tool_total_ms.is_empty());
}

#[test]
fn a_part_that_is_written_completes_itself() {
    let health = Health { interval_ms: 5_000, timeout_ms: 1_000, unhealthy: 3, healthy: 2 };
    assert_eq!(traffic("health: {}").health, Some(health));
    let health = Health { interval_ms: 50, timeout_ms: 20, unhealthy: 5, healthy: 1 };
    let written = "health: {interval: 50ms, timeout: 20ms, unhealthy: 5, healthy: 1}";
    assert_eq!(traffic(written).health, Some(health));
    let breakers = [
        ("{}", BREAKER),
        ("{window: 10}", Breaker { window: 10, min_calls: 10, ..BREAKER }),
        ("{open: 10m}", Breaker { open_ms: 600_000, max_open_ms: 600_000, ..BREAKER }),
        (
            "{window: 20, failureRatio: 0.125, minCalls: 2, open: 1s, maxOpen: 2s, probes: 1, perTool: true}",
            Breaker {
                window: 20,
                failure_permille: 125,
                min_calls: 2,
                open_ms: 1_000,
                max_open_ms: 2_000,
                probes: 1,
                per_tool: true,
            },
        ),
    ];
    for (written, expected) in breakers {
        assert_eq!(traffic(&format!("breaker: {written}")).breaker, Some(expected), "{written}");
    }
    let adaptives = [
        ("{}", Adaptive { min: 4, max: 256, percentile: 95, target_ms: 250 }),
        ("{max: 2, target: \"p50 < 1s\"}", Adaptive { min: 2, max: 2, percentile: 50, target_ms: 1_000 }),
        ("{min: 300, target: p99<5ms}", Adaptive { min: 300, max: 300, percentile: 99, target_ms: 5 }),
    ];
    for (written, expected) in adaptives {
        assert_eq!(traffic(&format!("adaptive: {written}")).adaptive, Some(expected), "{written}");
    }
    let retries = [
        ("{max: 0}", Retry { max: 0, budget_permille: 100, hedge: Hedge::Off }),
        ("{budget: 0, hedge: p95}", Retry { max: 1, budget_permille: 0, hedge: Hedge::P95 }),
        ("{max: 2, hedge: 50ms}", Retry { max: 2, budget_permille: 100, hedge: Hedge::AfterMs(50) }),
        ("{hedge: false}", Retry { max: 1, budget_permille: 100, hedge: Hedge::Off }),
    ];
    for (written, expected) in retries {
        assert_eq!(traffic(&format!("retry: {written}")).retry, expected, "{written}");
    }
    assert!(traffic("upstreamLimit: hold").hold && !traffic("upstreamLimit: pass").hold);
}

/// The contract: "`off` may be written `false`".
#[test]
fn off_may_be_written_false() {
    for off in ["off", "false", "\"off\""] {
        let traffic = traffic(&format!("health: {off}, breaker: {off}, adaptive: {off}"));
        assert_eq!((traffic.health, traffic.breaker, traffic.adaptive), (None, None, None), "{off}");
    }
    let text = format!("{}admin: false\nrateLimitHeaders: false\n", server(URL));
    assert!(plan(&text).admin.is_none());
}

#[test]
fn balance_and_weights() {
    let words = [
        ("roundRobin", Balance::RoundRobin),
        ("weighted", Balance::Weighted),
        ("leastConnections", Balance::LeastConnections),
        ("twoChoices", Balance::TwoChoices),
        ("resource", Balance::Resource),
    ];
    for (word, expected) in words {
        assert_eq!(traffic(&format!("balance: {word}")).balance, expected);
    }
    let weighted = "instances: [{url: \"http://localhost:1/\", weight: 5}, {url: \"http://localhost:2/\", weight: 0}, \
                    {url: \"http://localhost:3/\"}], balance: weighted";
    assert_eq!(*only_server(weighted).traffic.weights, [5, 0, 1]);
    assert_eq!(warnings(weighted), Vec::<String>::new());
    check(
        &server(
            "instances: [{url: \"http://localhost:1/\", weight: »0}, {url: \"http://localhost:2/\", weight: 0}]",
        ),
        "the weights of the server `a` sum to 0. Give an instance a weight above 0.",
    );
    check(
        &server("instances: [{url: \"http://localhost:1/\", weight: »1001}]"),
        "`1001` is not a value of this key. It is between 0 and 1000.",
    );
    let found = warnings("instances: [{url: \"http://localhost:1/\", weight: 3}], balance: leastConnections");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("a.yaml:2:56: a `weight` without `balance: weighted`"), "{found:?}");
    check_member("balance: »leastConnection", "Did you mean `leastConnections`?");
}

/// On where calls in flight are compared, and where it is written.
#[test]
fn slow_start_is_on_where_an_instance_would_get_every_call() {
    let two = "instances: [{url: \"http://localhost:1/\"}, {url: \"http://localhost:2/\"}]";
    for (members, expected) in [
        ("era: auto", None),
        ("balance: roundRobin", None),
        ("balance: weighted", None),
        ("balance: resource", None),
        ("balance: leastConnections", Some(10_000)),
        ("balance: twoChoices", Some(10_000)),
        ("balance: leastConnections, slowStart: off", None),
        ("balance: leastConnections, slowStart: false", None),
        ("balance: leastConnections, slowStart: 1m", Some(60_000)),
        ("slowStart: 1ms", Some(1)),
        ("balance: weighted, slowStart: 24h", Some(86_400_000)),
    ] {
        let members = format!("{two}, {members}");
        assert_eq!(only_server(&members).traffic.slow_start_ms, expected, "{members}");
        assert_eq!(warnings(&members), Vec::<String>::new(), "{members}");
    }
    for wrong in ["0s", "25h", "on", "10", "{}"] {
        let what = if wrong == "{}" { "expected" } else { "It is `off`, or a duration such as `10s`." };
        check_member(&format!("slowStart: »{wrong}"), what);
    }
    check_member("breaker: {»slowStart: 1s}", "It belongs under `mcpServers.NAME`.");
    let found = warnings(&format!("{URL}, slowStart: 30s"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`slowStart` has no effect: no pool has two instances"), "{found:?}");
    assert_eq!(warnings(&format!("{URL}, balance: leastConnections")), Vec::<String>::new());
}

fn pools(pools: &str) -> String {
    format!("mcpServers:\n  a:\n    {pools}\n")
}

const TWO: &str = "pools: {backup: {url: \"http://localhost:9/\"}, v1: {instances: [{url: \"http://localhost:1/\"}, \
                   {url: \"http://localhost:2/\", weight: 2}]}}";

#[test]
fn the_chosen_pool_comes_first() {
    let server =
        plan(&pools(&format!("{TWO}\n    failover: backup\n    balance: weighted"))).servers.remove(0);
    let shown: Vec<_> =
        server.traffic.pools.iter().map(|pool| (&*pool.name, pool.first, pool.count)).collect();
    assert_eq!((shown, server.traffic.failover), (vec![("v1", 0, 2), ("backup", 2, 1)], Some(1)));
    let labels: Vec<&str> = server.instances.iter().map(|instance| &*instance.label).collect();
    assert_eq!(labels, ["http://localhost:1", "http://localhost:2", "http://localhost:9"]);
    assert_eq!(*server.traffic.weights, [1, 2, 1]);
    let alone = plan(&pools("pools: {v1: {url: \"http://localhost:1/\"}}")).servers.remove(0).traffic;
    assert_eq!((alone.pools.len(), alone.failover), (1, None));
}

#[test]
fn pools_that_do_not_fit() {
    check(
        &pools(&format!("{TWO}\n    failover: »bakcup")),
        "`bakcup` is no pool of this server. Did you mean `backup`?",
    );
    check(&pools(&TWO.replace(", v1", ", »v1")), "no call would reach the pool `v1`");
    let three = TWO.replace("}}", "}, »v2: {url: \"http://localhost:3/\"}}");
    check(
        &pools(&format!("{three}\n    failover: backup")),
        "no call would reach the pool `v2`. Name it in `split`, `route` or `failover`, or remove it.",
    );
    let one = "pools: {v1: {url: \"http://localhost:1/\"}}";
    check(&pools(&format!("{one}\n    failover: »v1")), "`v1` is the only pool");
    check(&pools("url: http://localhost:1/\n    failover: »v1"), "`failover` without `pools` has no effect");
    check(&pools(&format!("{one}\n    url: »http://localhost:2/")), "`pools` exclude `url` and `instances`");
    check(&pools("pools: {»v1: {}}"), "the pool `v1` has no `url`");
    check(&pools("pools: »{}"), "`pools` is empty");
    check(&pools("pools: {»\"a b\": {url: \"http://localhost:1/\"}}"), "`a b` is no name of a pool");
    check(&pools("pools: {v1: {url: »\"ftp://x\"}}"), "the url does not start with");
    check(
        &pools("pools: {v1: {url: \"http://localhost:1/\", »breaker: off}}"),
        "It belongs under `mcpServers.NAME`.",
    );
    check(
        &pools("pools: {v1: {instances: [{url: \"http://localhost:1/\"}, {url: »\"http://localhost:1/\"}]}}"),
        "this instance stands here a second time",
    );
    let weightless = "pools: {v1: {instances: [{url: \"http://localhost:1/\", weight: »0}]}, b: {url: \"http://localhost:2/\"}}";
    check(&pools(&format!("{weightless}\n    failover: b")), "the weights of the pool `v1` sum to 0");
}

#[test]
fn traffic_that_cannot_be_meant() {
    check_member(
        "breaker: {failureRatio: »2}",
        "A ratio is a number above 0 and at most 1, with at most 3 digits after the point.",
    );
    check_member("breaker: {failureRatio: »0}", "A ratio is a number above 0");
    check_member("breaker: {failureRatio: »0.0005}", "at most 3 digits");
    check_member("breaker: {failureRatio: »50%}", "`50%` is not a value of this key");
    check_member(
        "breaker: {window: 10, minCalls: »11}",
        "`minCalls` is above `window` (10): it would never open",
    );
    check_member("breaker: {minCalls: »101}", "`minCalls` is above `window` (100)");
    check_member("breaker: {window: »0}", "between 1 and 10000");
    check_member("breaker: {probes: »0}", "between 1 and 100");
    check_member("breaker: {open: »0s}", "from 1ms to 1d");
    check_member("breaker: {open: »-5s}", "`-5s` is not a value of this key");
    check_member("breaker: {open: 1m, maxOpen: »30s}", "`maxOpen` is below `open`");
    check_member("breaker: »on", "It is `off`, or keys and values.");
    check_member("breaker: {»minCall: 3}", "Did you mean `minCalls`?");
    check_member("»minCalls: 3", "It belongs under `mcpServers.NAME.breaker`.");
    check_member("health: {interval: »0s}", "from 1ms to 1d");
    check_member("health: {unhealthy: »0}", "between 1 and 100");
    check_member("health»:", "expected keys and values, found nothing");
    check_member("adaptive: {min: »9, max: 8}", "`min` is above `max` (8)");
    check_member("adaptive: {min: »0}", "between 1 and 20000");
    for target in ["p49<1s", "p100<1s", "95<1s", "p95<0s", "p95>1s", "p95<250", "p95"] {
        check_member(&format!("adaptive: {{target: »\"{target}\"}}"), "It is a percentile from p50 to p99");
    }
    check_member("retry: {hedge: »p90}", "It is `off`, `p95`, or a duration");
    check_member("retry: {hedge: »0s}", "It is `off`, `p95`, or a duration");
    check_member("retry: {max: »11}", "between 0 and 10");
    check_member("retry: {budget: »1.5}", "A ratio is a number from 0 to 1");
    check_member("retry: »off", "expected keys and values, found a single value");
    check_member("idempotent: »get_*", "expected a list, found a single value");
    check_member("idempotent: »[]", "the list is empty");
    check_member("idempotent: [»\"\"]", "there is no value");
    check_member("upstreamLimit: »held", "Did you mean `hold`?");
    check_member("timeout: {forward: »yes}", "It is one of: true, false.");
    check_member("timeout: {tools: {\"export_*\": »0s}}", "from 1ms to 1d");
    let many: Vec<String> = (0..256).map(|index| format!("t{index}")).collect();
    check_member(&format!("idempotent: [{}, »one]", many.join(", ")), "more than 256 names");
}

#[test]
fn patterns_of_tools() {
    let members = format!(
        "{URL}, idempotent: [\"get_*\", ping], \
         timeout: {{tools: {{\"*\": 1s, \"export_*\": 30m, \"export_all\": 2h, \"import_*\": 5m}}, forward: true}}"
    );
    let server = only_server(&members);
    assert_eq!(server.idempotent, [Pattern::new("get_*"), Pattern::new("ping")]);
    let totals: Vec<_> = server.tool_total_ms.iter().map(|(pattern, ms)| (pattern.as_str(), *ms)).collect();
    let expected = [("export_all", 7_200_000), ("export_*", 1_800_000), ("import_*", 300_000), ("*", 1_000)];
    assert_eq!(totals, expected);
    assert!(server.forward_deadline);
}

#[test]
fn faults_are_read_and_warned_of() {
    let faults = "faults: [{tools: [\"get_*\"], ratio: 0.000001, delay: 2s}, {ratio: 1, status: 503}, {ratio: 0.5, cut: true}]";
    let members = format!("{URL}, {faults}");
    let plan = plan(&server(&members));
    let read = &plan.servers[0].faults;
    let shown: Vec<_> =
        read.iter().map(|fault| (fault.tools[0].as_str(), fault.ratio_ppm, fault.what)).collect();
    let expected = [
        ("get_*", 1, FaultKind::DelayMs(2_000)),
        ("*", 1_000_000, FaultKind::Status(503)),
        ("*", 500_000, FaultKind::Cut),
    ];
    assert_eq!(shown, expected);
    assert!(plan.has_faults() && plan.check_faults(true).is_ok());
    assert!(plan.check_faults(false).is_err_and(|what| what.contains("server `a`")));
    let found = warnings(&members);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("only `run --allow-faults` starts with this"), "{found:?}");
    assert!(!plan_without_faults().has_faults());
    check_member("faults: [{ratio: »1.01, delay: 1s}]", "at most 6 digits after the point");
    check_member("faults: [{ratio: »0, delay: 1s}]", "A ratio is a number above 0");
    check_member("faults: [»{delay: 1s}]", "a fault has no `ratio`");
    check_member("faults: [»{ratio: 0.1}]", "one of `delay`, `status` and `cut`. Write `delay: 2s`");
    check_member("faults: [»{ratio: 0.1, delay: 1s, cut: true}]", "Write one fault for each.");
    let many = vec!["{ratio: 1, cut: true}"; 16].join(", ");
    check_member(&format!("faults: [{many}, »{{ratio: 1, cut: true}}]"), "more than 16 faults");
    check_member("faults: [{ratio: 0.1, status: »200}]", "between 400 and 599");
    check_member("faults: [{ratio: 0.1, cut: »false}]", "It is one of: true.");
}

fn plan_without_faults() -> ringgate::config::plan::Plan {
    plan(&server(URL))
}

/// Three pools, these members, and `failover: c`.
fn routed(members: &str) -> String {
    let pool = |name: &str| format!("{name}: {{url: \"http://localhost:1/{name}\"}}");
    let pools_of = ["a", "c", "b"].map(pool).join(", ");
    pools(&format!("pools: {{{pools_of}}}\n    failover: c\n    {members}"))
}

#[test]
fn pools_by_attribute_and_by_share() {
    let server = |members: &str| plan(&routed(members)).servers.remove(0);
    let one = server("route: [{when: 'args.x == 1', pool: b}, {when: 'true', pool: c}]");
    let names: Vec<&str> = one.traffic.pools.iter().map(|pool| &*pool.name).collect();
    // The failover is the last one.
    assert_eq!((names, one.traffic.failover), (vec!["a", "b", "c"], Some(2)));
    let rules: Vec<_> = one.routing.rules.iter().map(|rule| (&*rule.name, pool(rule))).collect();
    assert_eq!(rules, [("mcpServers.a.route[0]", Some(1)), ("mcpServers.a.route[1]", Some(2))]);
    assert!(one.routing.split.is_empty() && one.routing.affinity.is_none() && !one.routing.is_plain());
    let one = server("split: {b: 5, a: 95}\n    sticky: tenant\n    affinity: args.handle").routing;
    let shares: Vec<_> = one.split.iter().map(|share| (share.pool, share.percent)).collect();
    assert_eq!((shares, one.sticky), (vec![(0, 95), (1, 5)], Sticky::Tenant));
    let mut seeds = one.affinity.unwrap().seeds.into_vec();
    seeds.dedup();
    assert_eq!(seeds.len(), 3, "each instance has its own");
    assert!(only_server(URL).routing.is_plain());
    assert!(!only_server(&format!("{URL}, affinity: principal")).routing.is_plain());
}

fn pool(rule: &Rule) -> Option<usize> {
    if let To::Pool(pool) = rule.to { Some(pool) } else { None }
}

/// A hook may name any pool: none of them is out of reach.
#[test]
fn hooks_of_routes() {
    let both = "{hook: \"http://127.0.0.1:1/class\", timeout: 20ms}, \
                {hook: \"https://a.test/\", when: 'args.x == 1'}";
    let rules = plan(&routed(&format!("route: [{both}]"))).servers.remove(0).routing.rules;
    let hooks = rules.iter().filter_map(Rule::hook).map(|hook| (&*hook.url, hook.timeout_ms));
    assert_eq!(hooks.collect::<Vec<_>>(), [("http://127.0.0.1:1/class", 20), ("https://a.test/", 100)]);
    assert_eq!(rules.iter().map(|rule| rule.when.is_some()).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn routes_that_cannot_be_meant() {
    let all = "split: {a: 50, b: 50}";
    let table = [
        ("split: »{a: 50, b: 49}", "the shares of `split` sum to 99. They are percent: let them sum to 100."),
        ("split: {a: 50, b: »150}", "between 0 and 100"),
        ("split: {a: 50, »bb: 50}", "`bb` is no pool of this server. Did you mean `b`?"),
        ("sticky: »tenant\n    route: [{when: 'true', pool: b}]", "`sticky` without `split` has no effect"),
        ("sticky: »caller\n    split: {a: 50, b: 50}", "It is one of: principal, tenant, none."),
        ("route: [{when: 'true', pool: »bb}]", "`bb` is no pool of this server. Did you mean `b`?"),
        ("route: [{when: »args.x + 1, pool: b}]", "a condition is true or false"),
        ("route: [{when: \"»argz.x\", pool: b}]", "`argz` is not a variable"),
        ("route: »{when: 'true', pool: b}\n    split: {a: 50, b: 50}", "expected a list"),
    ];
    for (marked, what) in table {
        check(&routed(marked), what);
    }
    for (marked, what) in [
        ("»{pool: b}", "a route is `when` and `pool`. Write `{when: CONDITION, pool: NAME}`"),
        ("»{when: 'true'}", "a route is `when` and `pool`"),
        ("{hook: »\"http://a.test/\"}", "who can change its answers decides where calls go"),
        ("{hook: »\"nowhere\"}", "does not start with"),
        ("{hook: \"http://localhost:1/\", timeout: »3s}", "here from 1ms to 2s"),
        (
            "{»hook: \"http://localhost:1/\", pool: b}",
            "`pool` and `hook` exclude each other. Write two routes.",
        ),
        ("{when: 'true', pool: b, »timeout: 20ms}", "`timeout` goes with `hook`. Remove it."),
        ("{»timeout: 20ms}", "`timeout` goes with `hook`"),
        ("{when: 'true', »pol: b}", "Did you mean `pool`?"),
    ] {
        check(&routed(&format!("route: [{marked}]\n    {all}")), what);
    }
    check(&routed("").replace(", b:", ", »b:"), "no call would reach the pool `b`. Name it in `split`");
    check(
        &routed("split: {b: 100}").replace("pools: {a:", "pools: {»a:"),
        "no call would reach the pool `a`",
    );
    check_member("split: »{a: 100}", "`split` without `pools` has no effect");
    check_member("route: [»{when: 'true', pool: a}]", "`route` without `pools` has no effect");
    check_member("affinity: »{}", "expected text");
    check_member("affinity: »argz.x", "`argz` is not a variable");
    let many = "{when: 'true', pool: b}, ".repeat(64);
    check(&routed(&format!("route: [{many}»{{when: 'true', pool: b}}]")), "more than 64 routes");
}
