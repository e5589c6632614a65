//! What answers say of limits, and that clients which obey are served.
//!
//! Not here: what is limited (limits_rates, limits_together).

use crate::support::agent::Caller;
use crate::support::client::Answer;
use crate::support::everywhere;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::size;
use crate::support::upstream::upstream;
use std::time::Duration;
use std::time::Instant;

/// `RateLimit-Policy` and `RateLimit` as numbers: of the same limit, or the answer is wrong.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    limit: String,
    quota: u64,
    window: u64,
    left: u64,
    reset: u64,
}

#[track_caller]
fn said(answer: &Answer) -> Said {
    let field = |name: &str| answer.head.field(name).unwrap_or_else(|| panic!("no {name} in {answer:?}"));
    let (policy, [quota, window]) = parameters(field("ratelimit-policy"), ["q", "w"]);
    let (limit, [left, reset]) = parameters(field("ratelimit"), ["r", "t"]);
    assert_eq!(policy, limit, "{answer:?}");
    Said { limit, quota, window, left, reset }
}

/// `"name";a=1;b=2`, exactly.
#[track_caller]
fn parameters(value: &str, names: [&str; 2]) -> (String, [u64; 2]) {
    let parts: Vec<&str> = value.split(';').collect();
    let [name, first, second] = parts[..] else { panic!("{value}") };
    let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    let number = |part: &str, name: &str| {
        let digits = part.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{name} in {value}"))
    };
    (name.unwrap_or_else(|| panic!("{value}")).into(), [number(first, names[0]), number(second, names[1])])
}

const UNDRAFTED: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
const DRAFTED: [&str; 2] = ["ratelimit", "ratelimit-policy"];

/// Whether the answer has a field of any of these names.
fn has(answer: &Answer, names: &[&str]) -> bool {
    names.iter().any(|name| !answer.head.all(name).is_empty())
}

/// Feature: every answer to a limited caller says what is left and when more comes, refusals too.
#[test]
fn limit_headers() {
    everywhere(|run| {
        let (up, free) = (upstream().tool("echo").run(), upstream().tool("echo").run());
        let limit = "name: per-agent, servers: [up], key: principal, rate: 60/min";
        let gw = run.gateway().agents(&["a"]).limit(limit).to("up", &up).to("free", &free).run();
        let mut agent = gw.agent("a", "up");
        let start = Instant::now();
        for number in 1..=48 {
            let said = said(&agent.passes("echo"));
            let back = start.elapsed().as_secs();
            assert_eq!((said.limit.as_str(), said.quota, said.window), ("per-agent", 60, 60));
            assert!((60 - number..=60 - number + back).contains(&said.left), "{number}: {said:?}");
            assert!((1..=60).contains(&said.reset), "{said:?}");
        }
        let refusal = agent.exhaust(&up, "echo", "limits.per-agent").refusal;
        let said = said(&refusal);
        assert_eq!((said.limit.as_str(), said.quota, said.window, said.left), ("per-agent", 60, 60, 0));
        assert_eq!(said.reset, refusal.number("retry-after"), "two answers to one question: {refusal:?}");
        assert!(!has(&refusal, &UNDRAFTED), "{refusal:?}");
        let free = gw.agent("a", "free").passes("echo");
        assert!(
            !has(&free, &DRAFTED) && !has(&free, &["retry-after"]),
            "of a call without a limit: {free:?}"
        );
    });
}

/// Feature: of several limits the one that is nearest to exhaustion is named.
#[test]
fn limit_headers_name_the_nearest() {
    everywhere(|run| {
        let db = upstream().tool("run_sql").tool("list_tables").run();
        let gw = run.gateway().agents(&["a"]).limit("name: per-agent, key: principal, rate: 60/hour");
        let gw = gw.limit(r#"name: sql, tools: ["db.run_sql"], key: principal, rate: 10/hour"#);
        let gw = gw.to("db", &db).run();
        let mut agent = gw.agent("a", "db");
        let mut next = |tool: &str| {
            let said = said(&agent.passes(tool));
            (said.limit, said.quota, said.window, said.left)
        };
        for number in 1..=4 {
            assert_eq!(next("run_sql"), ("sql".into(), 10, 3600, 10 - number));
        }
        for number in 5..=55 {
            assert_eq!(next("list_tables"), ("per-agent".into(), 60, 3600, 60 - number));
        }
        assert_eq!(next("run_sql"), ("per-agent".into(), 60, 3600, 4));
    });
}

/// Feature: a quota is told like a rate, with the time to the end of its window.
#[test]
fn limit_headers_of_a_quota() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let limit = "name: daily, key: principal, quota: 20/day, tz: UTC";
        let gw = run.gateway().agents(&["a"]).limit(limit).to("up", &up).run();
        let said = said(&gw.agent("a", "up").passes("echo"));
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert_eq!((said.limit.as_str(), said.quota, said.window, said.left), ("daily", 20, 86_400, 19));
        assert!(said.reset.abs_diff(86_400 - now % 86_400) <= 2, "{said:?}");
    });
}

/// Feature: `legacy` sends the older three fields instead, `off` none; a refusal says when to try again
/// in any case.
#[test]
fn limit_headers_legacy() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let limit = "name: per-agent, key: principal, rate: 5/hour";
        let gateway = |kind: &str| {
            let gw = run.gateway().agents(&["a"]).top(format!("rateLimitHeaders: {kind}"));
            gw.limit(limit).to("up", &up).run()
        };
        let gw = gateway("legacy");
        let mut agent = gw.agent("a", "up");
        for left in (0..5).rev() {
            let answer = agent.passes("echo");
            let [limit, remaining, reset] = UNDRAFTED.map(|name| answer.number(name));
            assert_eq!((limit, remaining), (5, left), "{answer:?}");
            assert!(reset > 0 && !has(&answer, &DRAFTED), "{answer:?}");
        }
        let refusal = agent.refused(&up, &agent.tool("echo"), "limits.per-agent");
        assert_eq!((refusal.number(UNDRAFTED[0]), refusal.number(UNDRAFTED[1])), (5, 0));
        assert!(!has(&refusal, &DRAFTED), "{refusal:?}");
        let gw = gateway("off");
        let mut agent = gw.agent("a", "up");
        let answers = [agent.passes("echo"), agent.exhaust(&up, "echo", "limits.per-agent").refusal];
        assert!(
            !answers.iter().any(|answer| has(answer, &DRAFTED) || has(answer, &UNDRAFTED)),
            "{answers:?}"
        );
        assert!(answers[1].number("retry-after") > 0);
    });
}

/// Feature: a client that is alone and waits as long as it was told is served, in 1,000 of 1,000 trials:
/// once by the seconds of `Retry-After`, once by the milliseconds beside the reason.
#[test]
fn limit_headers_are_worth_obeying() {
    let trials = size(100, 1000);
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().limit("name: each, key: args.customer, rate: 60/min, burst: 1").to("up", &up);
        let gw = gw.run();
        let mut caller = gw.caller("up");
        let call = |caller: &Caller, trial: u32| caller.tool("echo").given("customer", &trial.to_string());
        for in_seconds in [true, false] {
            let told = |answer: &Answer, wait| match in_seconds {
                true => Duration::from_secs(answer.number("retry-after")),
                false => wait,
            };
            // Each customer is a client of its own, and all wait at the same time.
            let first = if in_seconds { 0 } else { trials };
            let waits: Vec<(u32, Instant)> = (first..first + trials)
                .map(|trial| {
                    assert_eq!(caller.send(&call(&caller, trial)).status, 200);
                    // One more passes where a second went by.
                    let mut answer = caller.send(&call(&caller, trial));
                    while answer.status == 200 {
                        answer = caller.send(&call(&caller, trial));
                    }
                    let wait = answer.limited("limits.each");
                    (trial, Instant::now() + told(&answer, wait))
                })
                .collect();
            for (trial, end) in waits {
                pace(end.saturating_duration_since(Instant::now()));
                assert_eq!(caller.send(&call(&caller, trial)).status, 200, "trial {trial}, {in_seconds}");
            }
        }
    });
}

/// A call that the limits let in and something else keeps from its server costs nothing, and its refusal says so.
#[test]
fn limit_headers_of_a_refusal_after_the_limits() {
    everywhere(|run| {
        for style in ["draft", "legacy"] {
            let up = upstream().tool("echo").tool("fails").run();
            let faults = "faults: [{tools: [fails], ratio: 1, status: 503}]";
            let gw = run.gateway().flag("--allow-faults").top(format!("rateLimitHeaders: {style}"));
            let gw = gw
                .limit("name: each, key: gateway, rate: 9/hour")
                .limit("name: day, key: gateway, quota: 50/day");
            let gw = gw.with("up", &up, &[faults]).run();
            let mut caller = gw.caller("up");
            let left = |answer: &Answer| match style {
                "draft" => said(answer).left,
                _ => answer.number(UNDRAFTED[1]),
            };
            assert_eq!(left(&caller.passes("echo")), 8);
            for _ in 0..3 {
                let refusal = caller.send(&caller.tool("fails"));
                assert_eq!((refusal.status, left(&refusal)), (503, 8), "{style}: {refusal:?}");
            }
            let next = caller.passes("echo");
            assert_eq!(left(&next), 7, "{style}: {next:?}");
        }
    });
}

/// The fields stand on every kind of answer: a stream, and an upstream's own error.
#[test]
fn limit_headers_on_every_kind_of_answer() {
    use crate::support::script;
    on_every_driver(|run| {
        let fails = script::script(|connection, _| script::send(connection, &script::plain(500, "{}")));
        let up = upstream().on("stream", script::stream(3)).on("fails", fails).run();
        let gw = run.gateway().limit("name: all, key: gateway, rate: 9/hour").to("up", &up).run();
        let mut caller = gw.caller("up");
        for (tool, status, left) in [("stream", 200, 8), ("fails", 500, 7), ("unknown", 200, 6)] {
            let answer = caller.send(&caller.tool(tool));
            assert_eq!((answer.status, said(&answer).left), (status, left), "{tool}: {answer:?}");
        }
    });
}
