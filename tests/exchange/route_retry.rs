//! Feature `retry`: what is sent again and what never is, the budget of it, and hedging.
//!
//! Not here: pools (route_failover), calls without any of this (faults).

use crate::support::Gate;
use crate::support::conduct::Dial;
use crate::support::conduct::delayed;
use crate::support::conduct::obedient;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::Line;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::size;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::json;
use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

const IDEMPOTENT: &str = "idempotent: [\"get_*\", \"list_*\"]";
const ONE_IN_TEN: &str = "retry: {max: 1, budget: 0.1}";

/// How often each call arrived, at whichever instance, by its token.
fn deliveries(ups: &[&Upstream]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for request in ups.iter().flat_map(|up| up.requests()) {
        if request.envelope().method == "tools/call" {
            *counts.entry(request.head.field("x-call").unwrap().to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Attempts after the first that were made, not those that the budget forbade.
fn retries(gw: &Gateway) -> f64 {
    let forbidden = gw.metric("ringgate_retries_total", &["server=\"up\"", "outcome=\"over_budget\""]);
    gw.metric("ringgate_retries_total", &["server=\"up\""]) - forbidden
}

/// An upstream that always fails: 1,000 calls, at most 1,100 requests, no call more than twice.
#[test]
fn retry() {
    everywhere(|run| {
        let build = || upstream().on("get_x", script::hang_up()).run();
        let ups = [build(), build()];
        let lines = [ONE_IN_TEN, IDEMPOTENT, "breaker: off"];
        let gw = run.gateway().over("up", &[&ups[0], &ups[1]], &lines).run();
        together(4, |_| {
            let mut caller = gw.line("up", "get_x");
            (0..250).for_each(|_| caller.call("1").refused(502, "upstream_protocol"));
        });
        let deliveries = deliveries(&[&ups[0], &ups[1]]);
        let requests: usize = deliveries.values().sum();
        assert_eq!(deliveries.len(), 1_000, "calls that never arrived");
        assert!((1_050..=1_100).contains(&requests), "{requests} requests of 1,000 calls");
        assert!(deliveries.values().all(|count| *count <= 2), "sent three times");
        assert_eq!(retries(&gw), (requests - 1_000) as f64);
    });
}

/// So many calls that succeed, for the budget.
fn save(caller: &mut Line, calls: usize) {
    (0..calls).for_each(|_| assert_eq!(caller.call("1").status, 200));
}

/// Fails on the first instance, succeeds on the second, and the caller sees only that.
#[test]
fn retry_of_an_idempotent_tool() {
    everywhere(|run| {
        for tool in ["get_x", "list_x"] {
            let (sick, well) = (failing(), upstream().tool("get_x").tool("list_x").tool("echo").run());
            let gw = run.gateway().workers(1).over("up", &[&sick, &well], &[ONE_IN_TEN, IDEMPOTENT]).run();
            save(&mut gw.line("up", "echo"), 60);
            let mut caller = gw.line("up", tool);
            for _ in 0..4 {
                let call = caller.next();
                let answer = caller.make(&call).unwrap();
                assert!(answer.status == 200 && answer.text().contains(&call.token), "{tool}: {answer:?}");
                assert_eq!(well.with(&call.token).len(), 1);
                assert!(sick.with(&call.token).len() <= 1);
            }
            // Whether a second attempt moves the turn on is not said, so how many calls began at the sick one neither.
            let again = sick.count("tools/call") - 30;
            assert!((1..=4).contains(&again), "{again} attempts at the sick one");
            assert_eq!(retries(&gw), again as f64);
        }
    });
}

/// A tool that calls itself idempotent, in the list of its server, is sent again; not where the operator wrote no
/// `retry`, and then nobody asks the server for its list.
#[test]
fn retry_by_idempotent_hint() {
    everywhere(|run| {
        let build = |script: script::Script| {
            let hinted = json!({"name": "save", "annotations": {"idempotentHint": true}});
            let other = json!({"name": "charge", "annotations": {"idempotentHint": false}});
            let list = script::script(move |connection, request| {
                let page = json!({"resultType": "complete", "tools": [hinted, other]});
                script::send(connection, &script::plain(200, &script::result(request, &page)))
            });
            let up = upstream().on("save", script.clone()).on("charge", script).tool("echo");
            up.method("tools/list", list).run()
        };
        for (line, again) in [(ONE_IN_TEN, true), ("balance: roundRobin", false), ("retry: {max: 0}", false)]
        {
            let (sick, well) = (build(script::hang_up()), build(script::echo()));
            let lines = [line, "breaker: off"];
            let gw = run.gateway().workers(1).over("up", &[&sick, &well], &lines).run();
            let listed = || sick.count("tools/list") + well.count("tools/list");
            save(&mut gw.line("up", "echo"), 100);
            if again {
                let mut caller = gw.line("up", "save");
                eventually("the list of the server counts", || {
                    caller.call("1");
                    retries(&gw) > 0.0
                });
            }
            let failed = |tool| {
                let mut caller = gw.line("up", tool);
                (0..10).filter(|_| caller.call("1").status == 502).count()
            };
            assert_eq!((failed("save"), failed("charge")), (if again { 0 } else { 5 }, 5), "{line}");
            assert_eq!((retries(&gw) > 0.0, listed() > 0), (again, again), "{line}");
        }
    });
}

/// Echoes, but fails all others than `echo` before a byte of an answer.
fn failing() -> Upstream {
    let (get, list) = (script::hang_up(), script::hang_up());
    upstream().on("get_x", get).on("list_x", list).on("charge", script::hang_up()).tool("echo").run()
}

/// A tool that nobody called idempotent arrives once, whatever the budget.
#[test]
fn retry_never_doubles_another_tool() {
    everywhere(|run| {
        let (sick, well) = (failing(), upstream().tool("charge").tool("echo").run());
        let gw = run.gateway().workers(1).over("up", &[&sick, &well], &[ONE_IN_TEN, IDEMPOTENT]).run();
        save(&mut gw.line("up", "echo"), 100);
        let mut caller = gw.line("up", "charge");
        let mut failed = 0;
        for _ in 0..20 {
            let call = caller.next();
            let answer = caller.make(&call).unwrap();
            assert_eq!(sick.with(&call.token).len() + well.with(&call.token).len(), 1, "{answer:?}");
            failed += usize::from(answer.status == 502);
        }
        assert_eq!((failed, retries(&gw)), (10, 0.0));
    });
}

/// Once a byte of an answer came, even the answer of a failure, nothing is sent again.
#[test]
fn retry_never_after_the_first_byte_of_an_answer() {
    everywhere(|run| {
        for wish in ["cut", "500", "503", "429", "error -32603", "isError"] {
            let build = || upstream().on("get_x", obedient(&Gate::default())).run();
            let ups = [build(), build()];
            let lines = [ONE_IN_TEN, IDEMPOTENT, "breaker: off"];
            let gw = run.gateway().workers(1).over("up", &[&ups[0], &ups[1]], &lines).run();
            let mut caller = gw.line("up", "get_x");
            save(&mut caller, 60);
            for _ in 0..6 {
                let call = caller.next().argument(format!("\"{wish}\""));
                let _ = caller.make(&call);
                assert_eq!(ups[0].with(&call.token).len() + ups[1].with(&call.token).len(), 1, "{wish}");
            }
            assert_eq!(retries(&gw), 0.0, "{wish}");
        }
    });
}

/// Refused connections: no byte was written, so any tool is sent on to another instance.
#[test]
fn retry_where_no_byte_was_written() {
    everywhere(|run| {
        let (gone, well) = (upstream().tool("charge").run(), upstream().tool("charge").run());
        let gw = run.gateway().workers(1).over("up", &[&gone, &well], &[ONE_IN_TEN, "breaker: off"]).run();
        let mut caller = gw.line("up", "charge");
        save(&mut caller, 100);
        gone.stop();
        for _ in 0..10 {
            let call = caller.next();
            assert_eq!(caller.make(&call).unwrap().status, 200);
            well.once(&call.token);
        }
        assert_eq!((gone.calls(), well.calls()), (50, 60));
    });
}

/// `max: 0`, or an empty budget: what was sent once is not sent again.
#[test]
fn retry_off() {
    everywhere(|run| {
        for line in ["retry: {max: 0}", "retry: {budget: 0}"] {
            let (sick, well) = (failing(), upstream().tool("get_x").tool("echo").run());
            let lines = [line, IDEMPOTENT, "breaker: off"];
            let gw = run.gateway().workers(1).over("up", &[&sick, &well], &lines).run();
            save(&mut gw.line("up", "echo"), 50);
            let mut caller = gw.line("up", "get_x");
            let failed = (0..10).filter(|_| caller.call("1").status == 502).count();
            assert_eq!((failed, sick.calls() + well.calls()), (5, 60), "{line}");
            assert_eq!(retries(&gw), 0.0, "{line}");
        }
    });
}

/// Says nothing, and tells when the gateway left.
fn mute() -> (script::Script, mpsc::Receiver<Instant>) {
    script::watched(b"")
}

/// After the time that is said, or the p95 of the server, another instance gets a copy; the first answer wins, the
/// other call is cancelled; all within the budget.
#[test]
fn retry_hedges_idempotent_tools() {
    everywhere(|run| {
        for hedge in ["50ms", "p95"] {
            let (script, gone) = mute();
            let slow = upstream().on("get_x", script).tool("echo").run();
            let well = upstream().tool("get_x").tool("echo").run();
            let retry = format!("retry: {{max: 1, budget: 0.1, hedge: {hedge}}}");
            let lines = [retry.as_str(), IDEMPOTENT, "breaker: off"];
            let gw = run.gateway().workers(1).over("up", &[&slow, &well], &lines).run();
            // Not by calls that are hedged themselves: on a busy machine they would spend what they save.
            save(&mut gw.line("up", "echo"), 100);
            let mut caller = gw.line("up", "get_x");
            let mut copies = 0;
            for _ in 0..4 {
                let call = caller.next();
                let start = Instant::now();
                let answer = caller.make(&call).unwrap();
                assert!(answer.status == 200 && answer.text().contains(&call.token), "{hedge}: {answer:?}");
                well.once(&call.token);
                if slow.with(&call.token).is_empty() {
                    continue;
                }
                copies += 1;
                if hedge == "50ms" {
                    assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
                }
                gone.recv_timeout(Duration::from_secs(2)).expect("the slower copy is not cancelled");
            }
            assert!(copies > 0, "{hedge}: never at the slow one first");
        }
    });
}

/// Every call is slow: the copies stay within the budget.
#[test]
fn retry_hedges_within_the_budget() {
    everywhere(|run| {
        let build = || upstream().on("get_x", delayed(&Dial::at(10))).run();
        let ups = [build(), build()];
        let lines = ["retry: {max: 1, budget: 0.1, hedge: 2ms}", IDEMPOTENT];
        let gw = run.gateway().over("up", &[&ups[0], &ups[1]], &lines).run();
        together(8, |_| save(&mut gw.line("up", "get_x"), 50));
        let deliveries = deliveries(&[&ups[0], &ups[1]]);
        let requests: usize = deliveries.values().sum();
        assert_eq!(deliveries.len(), 400);
        assert!((410..=440).contains(&requests), "{requests} requests of 400 calls");
    });
}

/// A tool that is not idempotent is never sent twice, however slow: 10,000 calls, zero doubles.
#[test]
fn retry_never_hedges_another_tool() {
    let each = size(60, 625);
    everywhere(|run| {
        let build = || upstream().on("charge", delayed(&Dial::at(4))).run();
        let ups = [build(), build()];
        let lines = ["retry: {max: 1, budget: 1, hedge: 1ms}", IDEMPOTENT];
        let gw = run.gateway().over("up", &[&ups[0], &ups[1]], &lines).run();
        together(16, |_| save(&mut gw.line("up", "charge"), each));
        let deliveries = deliveries(&[&ups[0], &ups[1]]);
        assert_eq!(deliveries.len(), 16 * each);
        assert!(deliveries.values().all(|count| *count == 1), "doubled");
        assert_eq!(retries(&gw), 0.0);
    });
}

/// A hedged call whose first copy fails is answered by the second, and one whose copies both fail fails once.
#[test]
fn retry_hedge_that_fails_is_one_failure() {
    on_every_driver(|run| {
        let dies = |millis: u64| {
            script::script(move |_, _| {
                crate::support::pace(Duration::from_millis(millis));
                Next::Close
            })
        };
        let build = |millis| upstream().on("get_x", dies(millis)).tool("echo").run();
        let ups = [build(80), build(80)];
        let lines = ["retry: {max: 1, budget: 0.1, hedge: 20ms}", IDEMPOTENT, "breaker: off"];
        let gw = run.gateway().workers(1).over("up", &[&ups[0], &ups[1]], &lines).run();
        save(&mut gw.line("up", "echo"), 60);
        let mut caller = gw.line("up", "get_x");
        for _ in 0..4 {
            let call = caller.next();
            caller.make(&call).unwrap().refused(502, "upstream_protocol");
            let arrived = ups[0].with(&call.token).len() + ups[1].with(&call.token).len();
            assert!((1..=2).contains(&arrived), "arrived {arrived} times");
        }
        save(&mut gw.line("up", "echo"), 5);
    });
}

/// Found in review: while two copies waited, a passed deadline ended only one of them, and the call waited for ever.
#[test]
fn retry_hedge_that_nobody_answers_ends_in_time() {
    everywhere(|run| {
        let silent: Vec<_> = (0..2).map(|_| mute()).collect();
        let up = |script: &script::Script| upstream().on("get_x", script.clone()).tool("echo").run();
        let ups: Vec<Upstream> = silent.iter().map(|(script, _)| up(script)).collect();
        let lines = [
            "retry: {max: 1, budget: 0.1, hedge: 20ms}",
            IDEMPOTENT,
            "breaker: off",
            "timeout: {firstByte: 300ms}",
        ];
        let gw = run.gateway().workers(1).over("up", &[&ups[0], &ups[1]], &lines).run();
        save(&mut gw.line("up", "echo"), 60);
        gw.line("up", "get_x").call("1").refused(504, "upstream_timeout");
        for (_, gone) in &silent {
            gone.recv_timeout(Duration::from_secs(2)).expect("a copy is not cancelled");
        }
        save(&mut gw.line("up", "echo"), 5);
    });
}

/// Found in review: a call that reached a server once, and found nobody the second time, was charged to no limit.
#[test]
fn retry_that_finds_nobody_is_charged() {
    everywhere(|run| {
        let up = upstream().on("get_x", script::hang_up()).run();
        let breaker = "breaker: {window: 1, minCalls: 1, failureRatio: 1, open: 1m}";
        let lines = ["retry: {max: 1, budget: 1}", IDEMPOTENT, breaker];
        let limit = "name: once, key: principal, rate: 1/hour, burst: 1";
        let gw = run.gateway().workers(1).limit(limit).over("up", &[&up], &lines).run();
        let mut caller = gw.line("up", "get_x");
        caller.call("1").refused(503, "upstream_unavailable");
        caller.call("1").limited("limits.once");
        assert_eq!(up.calls(), 1);
    });
}
