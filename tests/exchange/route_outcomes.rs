//! Feature `breaker`: which outcomes are failures, and which are not, each proven.
//!
//! Not here: what the breaker makes of them (route_breaker).

use crate::route_breaker::BRIEF;
use crate::route_breaker::before;
use crate::route_breaker::make;
use crate::route_breaker::refused;
use crate::route_breaker::state;
use crate::support::Era;
use crate::support::Gate;
use crate::support::conduct::Inside;
use crate::support::conduct::obedient;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::line::Line;
use crate::support::upstream::upstream;

/// Three times as many as a breaker needs to open.
const MANY: usize = 12;

/// The answer passes as it came, and the fourth opens the breaker.
#[test]
fn breaker_counts_failures() {
    everywhere(|run| {
        for (wish, status) in [
            ("500", 500),
            ("502", 502),
            ("503", 503),
            ("504", 504),
            ("error -32603", 200),
            ("error in a stream", 200),
        ] {
            let (up, gw, mut caller) = before(run, BRIEF);
            make(&mut caller, wish, status, 3);
            assert_eq!(state(&gw, &up), 0.0, "{wish}");
            make(&mut caller, wish, status, 1);
            refused(&mut caller, &up);
            assert_eq!(state(&gw, &up), 2.0, "{wish}");
        }
    });
}

#[test]
fn breaker_counts_timeouts() {
    everywhere(|run| {
        let rows = [
            ("timeout: {firstByte: 60ms}", "silence"),
            ("timeout: {total: 60ms}", "silence"),
            ("timeout: {idle: 60ms}", "stall"),
            ("timeout: {total: 60ms}", "stall"),
        ];
        for (timeout, wish) in rows {
            let up = upstream().on("x", obedient(&Gate::default())).run();
            let gw = run.gateway().with("up", &up, &[BRIEF, timeout, "retry: {max: 0}"]).run();
            let mut caller = gw.line("up", "x");
            for _ in 0..4 {
                let call = caller.next().argument(format!("\"{wish}\""));
                let outcome = caller.make(&call);
                assert!(outcome.map_or(true, |answer| answer.text().contains("upstream_timeout")), "{wish}");
            }
            eventually("it is open", || state(&gw, &up) == 2.0);
            refused(&mut caller, &up);
        }
    });
}

#[test]
fn breaker_counts_connect_errors() {
    everywhere(|run| {
        let (up, gw, mut caller) = before(run, BRIEF);
        up.stop();
        for _ in 0..4 {
            assert_eq!(state(&gw, &up), 0.0);
            caller.call("1").refused(503, "upstream_unavailable");
        }
        refused(&mut caller, &up);
        assert_eq!(state(&gw, &up), 2.0);
    });
}

/// A tool that says no is a server that works, and so is one that finds fault with the call.
#[test]
fn breaker_counts_no_answer_that_finds_fault_with_the_call() {
    everywhere(|run| {
        for (wish, status) in [
            ("isError", 200),
            ("400", 400),
            ("403", 403),
            ("404", 404),
            ("409", 409),
            ("422", 422),
            ("429", 429),
            ("error -32602", 200),
            ("error -32601", 200),
            ("error -32002", 200),
        ] {
            let (up, gw, mut caller) = before(run, BRIEF);
            make(&mut caller, wish, status, MANY);
            assert_eq!((state(&gw, &up), up.calls()), (0.0, MANY), "{wish}");
            make(&mut caller, "ok", 200, 1);
        }
    });
}

/// What we refuse ourselves says nothing about the server.
#[test]
fn breaker_counts_no_refusal_of_our_own() {
    everywhere(|run| {
        let up = upstream().tool("x").tool("few").run();
        let limits = "limits: [{name: few, tools: [\"up.few\"], key: principal, rate: 1/hour, burst: 1}]";
        let gw = run.gateway().http("maxBody: 1MiB").top(limits).with("up", &up, &[BRIEF]).run();
        let mut few = gw.line("up", "few");
        make(&mut few, "ok", 200, 1);
        for _ in 0..MANY {
            few.call("1").refused(429, "rate_limited");
        }
        for _ in 0..MANY {
            let call = gw.line("up", "x").next().argument(format!("\"{}\"", "a".repeat(1 << 20)));
            gw.client().talk(&call.raw().bytes()).unwrap().refused(413, "too_large");
        }
        assert_eq!((state(&gw, &up), up.calls()), (0.0, 1));
        make(&mut gw.line("up", "x"), "ok", 200, 1);
    });
}

/// A caller in a hurry must not close the server to the others.
#[test]
fn breaker_counts_no_deadline_of_a_caller() {
    everywhere(|run| {
        let (up, gw, mut caller) = before(run, BRIEF);
        for _ in 0..MANY {
            let call = caller.next().argument("\"silence\"").field("Ringgate-Deadline: 150");
            caller.make(&call).unwrap().refused(504, "upstream_timeout");
        }
        assert_eq!((state(&gw, &up), up.calls()), (0.0, MANY));
        make(&mut caller, "ok", 200, 1);
    });
}

/// A client that leaves: cancelled in 2026-07-28, read to its end in the older revisions; no failure in either.
#[test]
fn breaker_counts_no_client_that_leaves() {
    everywhere(|run| {
        let (gate, inside) = (Gate::default(), Inside::default());
        let up = upstream().on("x", inside.of(obedient(&gate))).run();
        let gw = run.gateway().with("up", &up, &[BRIEF]).run();
        let mut caller = gw.line("up", "x");
        let wish = if run.era == Era::Modern { "\"silence\"" } else { "\"wait\"" };
        let calls: Vec<_> = (0..MANY).map(|_| caller.next().argument(wish)).collect();
        let mut clients: Vec<_> = calls
            .iter()
            .map(|call| {
                let mut client = gw.client();
                client.send(&call.raw().bytes());
                client
            })
            .collect();
        eventually("all are under way", || inside.now() == MANY);
        clients.clear();
        gate.open();
        eventually("all have ended", || inside.now() == 0);
        eventually("nothing is in flight", || gw.metric("ringgate_inflight", &[]) == 0.0);
        assert_eq!((state(&gw, &up), up.calls()), (0.0, MANY));
        make(&mut caller, "ok", 200, 1);
    });
}

/// One that stays open for as long as a test looks at it.
const LASTING: &str = "breaker: {window: 10, failureRatio: 0.5, minCalls: 4, open: 1m}";

/// What is a failure, and what is none, is the same at `/mcp` and across the eras.
#[test]
fn breaker_counts_the_same_in_other_words() {
    everywhere(|run| {
        for place in run.places() {
            for (wish, opens) in [
                ("500", true),
                ("error -32603", true),
                ("error in a stream", true),
                ("hang up", true),
                ("cut", true),
                ("isError", false),
                ("403", false),
                ("429", false),
                ("error -32602", false),
            ] {
                let up = place.upstream().on("x", obedient(&Gate::default())).run();
                let gw = run.gateway().with("up", &up, &[LASTING, place.era()]).run();
                let like = place.call(&gw, "x");
                for _ in 0..4 {
                    assert_eq!(state(&gw, &up), 0.0, "{place:?} {wish}");
                    // Over a connection of its own: some of these end it.
                    let _ = Line::new(like.clone()).make(&like.again().argument(format!("\"{wish}\"")));
                }
                assert_eq!(up.calls(), 4, "{place:?} {wish}");
                match opens {
                    true => {
                        // Who is cut off may see it before it is counted.
                        eventually("it opens", || state(&gw, &up) > 0.0);
                        let _ = refused(&mut Line::new(like), &up);
                    }
                    false => make(&mut Line::new(like), "ok", 200, 1),
                }
                assert_eq!(state(&gw, &up) > 0.0, opens, "{place:?} {wish}");
            }
        }
    });
}
