//! Feature `retry`: what is sent again and what never is, the budget of it, and hedging.
//!
//! Not here: pools (route_failover), calls without any of this (faults).

use crate::support::Era;
use crate::support::Gate;
use crate::support::PATIENCE;
use crate::support::call::Call;
use crate::support::conduct::Dial;
use crate::support::conduct::delayed;
use crate::support::conduct::obedient;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::Line;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::place::PLAIN;
use crate::support::place::Place;
use crate::support::script;
use crate::support::size;
use crate::support::tls::Authority;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::json;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Mutex;
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
        for place in run.places() {
            let build = || place.upstream().on("get_x", script::hang_up()).run();
            let ups = [build(), build()];
            let lines = [ONE_IN_TEN, IDEMPOTENT, "breaker: off", place.era()];
            let gw = run.gateway().over("up", &[&ups[0], &ups[1]], &lines).run();
            let each = if place.server.is_some() { size(50, 250) } else { 250 };
            together(4, |_| {
                let mut caller = place.line(&gw, "get_x");
                (0..each).for_each(|_| caller.call("1").refused(502, "upstream_protocol"));
            });
            let deliveries = deliveries(&[&ups[0], &ups[1]]);
            let (calls, requests) = (4 * each, deliveries.values().sum::<usize>());
            assert_eq!(deliveries.len(), calls, "{place:?}: calls that never arrived");
            let share = calls + calls / 20..=calls + calls / 10;
            assert!(share.contains(&requests), "{place:?}: {requests} requests of {calls} calls");
            assert!(deliveries.values().all(|count| *count <= 2), "{place:?}: sent three times");
            assert_eq!(retries(&gw), (requests - calls) as f64, "{place:?}");
            let forbidden = gw.metric("ringgate_retries_total", &["outcome=\"over_budget\""]);
            assert_eq!(forbidden, (2 * calls - requests) as f64, "{place:?}");
        }
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
        for place in run.places().into_iter().filter(|place| !place.is_bound()) {
            for tool in ["get_x", "list_x"] {
                let (sick, well) =
                    (failing(place), place.upstream().tool("get_x").tool("list_x").tool("echo").run());
                let lines = [ONE_IN_TEN, IDEMPOTENT, place.era()];
                let gw = run.gateway().workers(1).over("up", &[&sick, &well], &lines).run();
                save(&mut place.line(&gw, "echo"), 60);
                let mut caller = place.line(&gw, tool);
                for _ in 0..4 {
                    let call = caller.next();
                    let answer = caller.make(&call).unwrap();
                    let is_own = answer.status == 200 && answer.text().contains(&call.token);
                    assert!(is_own, "{place:?} {tool}: {answer:?}");
                    assert_eq!(well.with(&call.token).len(), 1);
                    assert!(sick.with(&call.token).len() <= 1);
                }
                // Whether a second attempt moves the turn on is not said, so how many calls began at the sick one neither.
                let again = sick.count("tools/call") - 30;
                assert!((1..=4).contains(&again), "{place:?}: {again} attempts at the sick one");
                assert_eq!(retries(&gw), again as f64, "{place:?}");
            }
        }
    });
}

/// Hangs up when a call comes first, and echoes when it comes again.
fn stumbling() -> script::Script {
    let (seen, echo) = (Mutex::new(HashSet::new()), script::echo());
    script::script(move |connection, request| {
        let call = request.head.field("x-call").unwrap_or_default().to_owned();
        if seen.lock().unwrap().insert(call) { Next::Close } else { echo(connection, request) }
    })
}

/// Found in review: a call in a session went to nobody the second time where its server had several instances, and was
/// refused with 503. It goes to the instance of its session, and where the session is not the client's own, under an id of
/// its own (2025-11-25, basic, "Requests": an id counts once in a session).
#[test]
fn retry_in_a_session_goes_where_the_session_is() {
    everywhere(|run| {
        let bound = |place: &Place| place.is_bound();
        let at_its_own = Place::at_its_own(Era::Legacy);
        let own = (run.era == Era::Legacy).then_some(at_its_own);
        for place in run.places().into_iter().filter(bound).chain(own) {
            let build = || place.upstream().on("get_x", stumbling()).tool("echo").run();
            let ups = [build(), build()];
            let lines = [ONE_IN_TEN, IDEMPOTENT, "breaker: off", place.era()];
            let gw = run.gateway().workers(1).over("up", &[&ups[0], &ups[1]], &lines).run();
            save(&mut place.line(&gw, "echo"), 60);
            let mut caller = place.line(&gw, "get_x");
            for _ in 0..3 {
                let call = caller.next();
                let answer = caller.make(&call).unwrap();
                assert_eq!((answer.status, answer.code()), (200, 0), "{place:?}: {answer:?}");
                assert_eq!(answer.json()["id"].to_string(), call.id, "{place:?}");
                let came = ups.each_ref().map(|up| up.with(&call.token));
                let [first, second] = came.concat().try_into().expect("not twice");
                assert!(came.iter().any(Vec::is_empty), "{place:?}: at both instances");
                assert_eq!(first.head.field("mcp-session-id"), second.head.field("mcp-session-id"));
                let ids = [&first, &second].map(|request| request.envelope().raw_id().to_owned());
                assert_eq!(ids[0] == ids[1], run.era == Era::Legacy, "{place:?}: {ids:?}");
            }
            assert_eq!(retries(&gw), 3.0, "{place:?}");
        }
    });
}

/// A server whose list says of `save` that it is idempotent, and of `charge` that it is not; both stumble.
fn hinting(place: Place) -> Upstream {
    let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    let hinted = |name, hint: bool| {
        let mut hinted = tool(name);
        hinted["annotations"] = json!({"idempotentHint": hint});
        hinted
    };
    let tools = [hinted("save", true), hinted("charge", false), tool("echo")];
    let list = script::script(move |connection, request| {
        let page = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": tools});
        script::send(connection, &script::plain(200, &script::result(request, &page)))
    });
    let up = place.upstream().on("save", stumbling()).on("charge", stumbling()).tool("echo");
    up.method("tools/list", list).run()
}

/// A tool that calls itself idempotent, in the list of its server, is sent again; not where the operator wrote no
/// `retry`, and then nobody asks the server for its list, unless it is needed at `/mcp`.
#[test]
fn retry_by_idempotent_hint() {
    everywhere(|run| {
        for place in run.places() {
            for (line, again) in
                [(ONE_IN_TEN, true), ("balance: roundRobin", false), ("retry: {max: 0}", false)]
            {
                let up = hinting(place);
                let lines = [line, "breaker: off", place.era()];
                let gw = run.gateway().workers(1).with("up", &up, &lines).run();
                save(&mut place.line(&gw, "echo"), 100);
                if again {
                    let mut caller = place.line(&gw, "save");
                    eventually("the list of the server counts", || {
                        caller.call("1");
                        retries(&gw) > 0.0
                    });
                }
                let failed = |tool| {
                    let mut caller = place.line(&gw, tool);
                    (0..8).filter(|_| caller.call("1").status == 502).count()
                };
                let expected = (if again { 0 } else { 8 }, 8);
                assert_eq!((failed("save"), failed("charge")), expected, "{place:?} {line}");
                assert_eq!(retries(&gw) > 0.0, again, "{place:?} {line}");
                let listed = up.count("tools/list") > 0;
                assert_eq!(listed, again || place.server.is_some(), "{place:?} {line}");
            }
        }
    });
}

/// Echoes, but fails all others than `echo` before a byte of an answer.
fn failing(place: Place) -> Upstream {
    let (get, list) = (script::hang_up(), script::hang_up());
    place.upstream().on("get_x", get).on("list_x", list).on("charge", script::hang_up()).tool("echo").run()
}

/// A tool that nobody called idempotent arrives once, whatever the budget, by whatever name it is called.
#[test]
fn retry_never_doubles_another_tool() {
    everywhere(|run| {
        for place in run.places() {
            let build = || place.upstream().on("charge", stumbling()).tool("echo").run();
            let ups = [build(), build()];
            let lines = [ONE_IN_TEN, IDEMPOTENT, "breaker: off", place.era()];
            let gw = run.gateway().workers(1).over("up", &[&ups[0], &ups[1]], &lines).run();
            save(&mut place.line(&gw, "echo"), 100);
            let mut caller = place.line(&gw, "charge");
            for _ in 0..20 {
                let call = caller.next();
                caller.make(&call).unwrap().refused(502, "upstream_protocol");
                assert_eq!(arrivals(&ups, &call), 1, "{place:?}");
            }
            assert_eq!(gw.metric("ringgate_retries_total", &[]), 0.0, "{place:?}");
        }
    });
}

/// How often a call arrived.
fn arrivals(ups: &[Upstream], call: &Call) -> usize {
    ups.iter().map(|up| up.with(&call.token).len()).sum()
}

/// Once a byte of an answer came, even the answer of a failure, nothing is sent again.
#[test]
fn retry_never_after_the_first_byte_of_an_answer() {
    const WISHES: [&str; 9] =
        ["cut", "half a head", "half a stream", "302", "500", "503", "429", "error -32603", "isError"];
    everywhere(|run| {
        for place in run.places() {
            let build = || place.upstream().on("get_x", obedient(&Gate::default())).run();
            let ups = [build(), build()];
            let lines = [ONE_IN_TEN, IDEMPOTENT, "breaker: off", place.era()];
            let gw = run.gateway().workers(1).over("up", &[&ups[0], &ups[1]], &lines).run();
            let mut caller = place.line(&gw, "get_x");
            save(&mut caller, 60);
            for wish in WISHES {
                for _ in 0..3 {
                    let call = caller.next().argument(format!("\"{wish}\""));
                    // Over a connection of its own: some of these end it.
                    let _ = Line::new(call.clone()).make(&call);
                    assert_eq!(arrivals(&ups, &call), 1, "{place:?} {wish}");
                }
            }
            assert_eq!(retries(&gw), 0.0, "{place:?}");
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
            let (sick, well) = (failing(PLAIN), upstream().tool("get_x").tool("echo").run());
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
                gone.recv_timeout(PATIENCE).expect("the slower copy is not cancelled");
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
            gone.recv_timeout(PATIENCE).expect("a copy is not cancelled");
        }
        save(&mut gw.line("up", "echo"), 5);
    });
}

/// A server that was silent for `firstByte` may still be at work: nothing is sent again, whatever the tool is.
#[test]
fn retry_never_after_silence() {
    everywhere(|run| {
        let (silent, gone) = mute();
        let build = || upstream().on("get_x", silent.clone()).run();
        let ups = [build(), build()];
        let lines = ["retry: {max: 3, budget: 1}", IDEMPOTENT, "breaker: off", "timeout: {firstByte: 300ms}"];
        let gw = run.gateway().over("up", &[&ups[0], &ups[1]], &lines).run();
        gw.line("up", "get_x").call("1").refused(504, "upstream_timeout");
        gone.recv_timeout(PATIENCE).expect("the call is not cancelled");
        assert_eq!(ups.iter().map(Upstream::calls).sum::<usize>(), 1);
        assert_eq!(retries(&gw), 0.0);
    });
}

/// Over TLS nobody sees whether an answer has begun: no copy is sent, however slow the server, and `check` says so.
#[test]
fn retry_never_hedges_over_tls() {
    everywhere(|run| {
        let authority = Authority::new();
        let slow = || upstream().on("get_x", delayed(&Dial::at(20)));
        let secure = || slow().tls(authority.server("127.0.0.1")).run();
        // One of them is enough: a copy that went there would win before it is answered.
        for ups in [[secure(), secure()], [slow().run(), secure()]] {
            let builder = run.gateway();
            builder.folder.file("ca.pem", &authority.pem());
            let lines = ["retry: {max: 1, budget: 1, hedge: 1ms}", IDEMPOTENT, "tls: {ca: ca.pem}"];
            let gw = builder.over("up", &[&ups[0], &ups[1]], &lines).run();
            save(&mut gw.line("up", "get_x"), 20);
            assert_eq!(ups.iter().map(Upstream::calls).sum::<usize>(), 20);
            assert_eq!(retries(&gw), 0.0);
            eventually("it was said at the start", || gw.stderr().contains("`hedge` has no effect"));
        }
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
