//! An upstream's own limit: its 429 passes, is no failure, is counted by principal, and can hold a server.
//!
//! Not here: our own limits (limits_*).

use crate::support::everywhere;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::script;
use crate::support::script::Script;
use crate::support::upstream::upstream;
use jiff::Timestamp;
use std::time::Duration;
use std::time::Instant;

/// 429 with that field, in the upstream's own words.
fn limited(retry_after: impl Fn() -> String + Send + Sync + 'static) -> Script {
    script::script(move |connection, request| {
        let id = request.envelope().raw_id().to_owned();
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"own words"}}}}"#);
        let head = "HTTP/1.1 429 Slow Down\r\nContent-Type: application/json";
        let field = retry_after();
        let answer = format!("{head}\r\n{field}Content-Length: {}\r\n\r\n{body}", body.len());
        script::send(connection, answer.as_bytes())
    })
}

fn seconds(seconds: u64) -> Script {
    limited(move || format!("Retry-After: {seconds}\r\n"))
}

/// Feature: a 429 passes as it is, opens no breaker however many come, and one look says who caused it.
#[test]
fn upstream_429() {
    everywhere(|run| {
        let up = upstream().on("busy", seconds(7)).tool("echo").run();
        let lines = ["breaker: {window: 20, minCalls: 5, failureRatio: 0.5}"];
        let gw = run.gateway().agents(&["a", "b"]).with("up", &up, &lines).run();
        for (principal, count) in [("a", 30), ("b", 3)] {
            let mut agent = gw.agent(principal, "up");
            for _ in 0..count {
                let call = agent.tool("busy");
                let answer = agent.send(&call);
                assert_eq!((answer.status, answer.number("retry-after")), (429, 7), "{answer:?}");
                assert!(answer.text().contains("own words"), "{answer:?}");
                up.once(&call.token);
            }
            let label = format!("principal=\"{principal}\"");
            let labels = ["server=\"up\"", &label];
            assert_eq!(gw.metric("ringgate_upstream_limited_total", &labels), f64::from(count));
        }
        assert_eq!(gw.metric("ringgate_breaker_state", &["server=\"up\""]), 0.0);
        gw.agent("a", "up").passes("echo");
        assert_eq!(gw.metric("ringgate_limited_total", &[]), 0.0, "no limit of ours");
    });
}

/// Feature: `hold` refuses all further calls to that server here until the time has passed.
#[test]
fn upstream_429_hold() {
    everywhere(|run| {
        let up = upstream().on("busy", seconds(2)).tool("echo").run();
        let other = upstream().tool("echo").run();
        let gw = run.gateway().agents(&["a", "b"]).with("up", &up, &["upstreamLimit: hold"]);
        let gw = gw.to("other", &other).run();
        let (mut agent, mut second) = (gw.agent("a", "up"), gw.agent("b", "up"));
        let mut elsewhere = gw.agent("a", "other");
        let sent = Instant::now();
        let answer = agent.send(&agent.tool("busy"));
        let came = Instant::now();
        assert_eq!((answer.status, answer.number("retry-after")), (429, 2));
        let calls = up.calls();
        let hold = Duration::from_secs(2);
        let mut refusals = 0;
        loop {
            let call = if refusals % 2 == 0 { second.tool("echo") } else { agent.tool("echo") };
            let caller = if refusals % 2 == 0 { &mut second } else { &mut agent };
            let start = Instant::now();
            let answer = caller.send(&call);
            if answer.status == 200 {
                assert!(sent.elapsed() >= hold, "let in after {:?}", sent.elapsed());
                break;
            }
            assert!(start <= came + hold + Duration::from_millis(50), "held for {:?}", sent.elapsed());
            assert!(answer.limited("upstream") <= hold, "{answer:?}");
            assert_eq!((up.mentions(&call.token), up.calls()), (0, calls), "reached the upstream");
            refusals += 1;
            pace(Duration::from_millis(5));
        }
        assert!(refusals > 10, "{refusals} refusals");
        elsewhere.passes("echo");
        second.passes("echo");
    });
}

/// While a server is held the others are not.
#[test]
fn upstream_429_holds_one_server() {
    everywhere(|run| {
        let (up, other) = (upstream().on("busy", seconds(60)).run(), upstream().tool("echo").run());
        let gw = run.gateway().with("up", &up, &["upstreamLimit: hold"]).with(
            "other",
            &other,
            &["upstreamLimit: hold"],
        );
        let gw = gw.run();
        let mut caller = gw.caller("up");
        assert_eq!(caller.send(&caller.tool("busy")).status, 429);
        let wait = caller.refused(&up, &caller.tool("busy"), "upstream").limited("upstream");
        assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");
        gw.caller("other").passes("echo");
    });
}

/// `Retry-After` may be a date.
#[test]
fn upstream_429_hold_until_a_date() {
    on_every_driver(|run| {
        let date = || {
            let end = Timestamp::now() + Duration::from_secs(90);
            format!("Retry-After: {}\r\n", end.strftime("%a, %d %b %Y %H:%M:%S GMT"))
        };
        let up = upstream().on("busy", limited(date)).run();
        let gw = run.gateway().with("up", &up, &["upstreamLimit: hold"]).run();
        let mut caller = gw.caller("up");
        let answer = caller.send(&caller.tool("busy"));
        assert!(answer.head.field("retry-after").is_some_and(|date| date.ends_with("GMT")), "{answer:?}");
        let wait = caller.refused(&up, &caller.tool("busy"), "upstream").limited("upstream");
        assert!(wait > Duration::from_secs(80) && wait <= Duration::from_secs(90), "{wait:?}");
    });
}

/// A call that is refused for the upstream's sake is not charged to the agent's own limit.
#[test]
fn upstream_429_hold_charges_nothing() {
    everywhere(|run| {
        let (up, other) = (upstream().on("busy", seconds(60)).run(), upstream().tool("echo").run());
        let gw = run.gateway().agents(&["a"]).limit("name: agent, key: principal, rate: 10/hour");
        let gw = gw.with("up", &up, &["upstreamLimit: hold"]).to("other", &other).run();
        let mut agent = gw.agent("a", "up");
        assert_eq!(agent.send(&agent.tool("busy")).status, 429);
        (0..20).for_each(|_| drop(agent.refused(&up, &agent.tool("busy"), "upstream")));
        gw.agent("a", "other").exhaust(&other, "echo", "limits.agent").is(9, Duration::from_secs(360));
    });
}

/// At `/mcp` and across the eras a 429 passes as well, is counted, and holds its server.
#[test]
fn upstream_429_in_other_words() {
    everywhere(|run| {
        for place in run.places() {
            let up = place.upstream().on("busy", seconds(60)).tool("echo").run();
            let brief = "breaker: {window: 20, minCalls: 5, failureRatio: 0.5}";
            let held = run.gateway().with("up", &up, &["upstreamLimit: hold", brief, place.era()]).run();
            let gw = run.gateway().with("up", &up, &[brief, place.era()]).run();
            let mut caller = place.line(&gw, "busy");
            for _ in 0..8 {
                let answer = caller.call("1");
                assert_eq!((answer.status, answer.number("retry-after")), (429, 60), "{place:?} {answer:?}");
                assert!(answer.text().contains("own words"), "{answer:?}");
            }
            assert_eq!(gw.metric("ringgate_upstream_limited_total", &["server=\"up\""]), 8.0, "{place:?}");
            assert_eq!(gw.metric("ringgate_breaker_state", &["server=\"up\""]), 0.0, "{place:?}");
            assert_eq!(place.line(&gw, "echo").call("1").status, 200, "{place:?}");
            let mut echo = place.line(&held, "echo");
            assert_eq!(place.line(&held, "busy").call("1").status, 429);
            let call = echo.next();
            echo.make(&call).unwrap().limited("upstream");
            assert_eq!(up.mentions(&call.token), 0, "{place:?}: reached the upstream");
        }
    });
}
