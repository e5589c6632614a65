//! Why a call did not reach its server, as `/metrics` tells it: what became of the call, and what kept it away.
//!
//! Not here: when that happens (route_adaptive, route_breaker, route_health, upstream_limit, route_faults).

use crate::route_health::EJECTS;
use crate::support::Gate;
use crate::support::conduct::Inside;
use crate::support::conduct::obedient;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::Line;
use crate::support::script;
use crate::support::upstream::upstream;

const REFUSALS: u32 = 3;

fn ended(gw: &Gateway, outcome: &str) -> f64 {
    let outcome = format!("outcome=\"{outcome}\"");
    gw.metric("ringgate_requests_total", &["method=\"tools/call\"", &outcome])
}

/// Calls that must all be refused with this status; they count as refused, and by that cause and no other.
#[track_caller]
fn are_kept_away(gw: &Gateway, caller: &mut Line, (status, cause): (u16, &str)) {
    let failed = ended(gw, "upstream_failed");
    for _ in 0..REFUSALS {
        assert_eq!(caller.call("1").status, status);
    }
    let refusals = f64::from(REFUSALS);
    eventually("they are counted as refused", || ended(gw, "refused") == refusals);
    assert_eq!(ended(gw, "upstream_failed"), failed, "{cause}: nothing was sent that could have failed");
    let label = format!("cause=\"{cause}\"");
    assert_eq!(gw.metric("ringgate_unavailable_total", &["server=\"up\"", &label]), refusals, "{cause}");
    assert_eq!(gw.metric("ringgate_unavailable_total", &[]), refusals, "also counted by another cause");
}

#[test]
fn a_busy_server_is_no_failed_one() {
    everywhere(|run| {
        let (gate, inside) = (Gate::default(), Inside::default());
        let up = upstream().on("x", inside.of(obedient(&gate))).run();
        let gw = run.gateway().with("up", &up, &["adaptive: {min: 1, max: 1, target: \"p95<250ms\"}"]).run();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| gw.line("up", "x").call("\"wait\"").status);
            eventually("one is inside", || inside.now() == 1);
            are_kept_away(&gw, &mut gw.line("up", "x"), (503, "adaptive"));
            gate.open();
            assert_eq!(first.join().unwrap(), 200);
        });
    });
}

#[test]
fn an_open_breaker_is_no_failed_call() {
    everywhere(|run| {
        for more in ["", ", perTool: true"] {
            let up = upstream().on("x", obedient(&Gate::default())).run();
            let breaker = format!("breaker: {{window: 10, minCalls: 4, open: 1m{more}}}");
            let gw = run.gateway().with("up", &up, &[&breaker]).run();
            let mut caller = gw.line("up", "x");
            (0..4).for_each(|_| assert_eq!(caller.call("\"500\"").status, 500));
            are_kept_away(&gw, &mut caller, (503, "breaker"));
        }
    });
}

/// The call that finds that nobody listens has met a failure of the server; those after it are kept away.
#[test]
fn an_unhealthy_server_is_told_from_one_that_cannot_be_reached() {
    everywhere(|run| {
        let up = upstream().on("x", obedient(&Gate::default())).run();
        let gw = run.gateway().workers(1).with("up", &up, &[EJECTS]).run();
        let mut caller = gw.line("up", "x");
        assert_eq!(caller.call("1").status, 200);
        up.stop();
        // Its connection may have outlived the server for a call.
        for _ in 0..2 {
            assert!(caller.call("1").status >= 502);
            if gw.metric("ringgate_instance_up", &["server=\"up\""]) == 0.0 {
                break;
            }
        }
        eventually("it has failed", || ended(&gw, "upstream_failed") > 0.0);
        are_kept_away(&gw, &mut caller, (503, "health"));
    });
}

#[test]
fn a_held_server_shows() {
    everywhere(|run| {
        let busy = script::script(|connection, _| {
            let head = "HTTP/1.1 429 Slow Down\r\nContent-Type: application/json\r\nRetry-After: 60";
            script::send(connection, format!("{head}\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes())
        });
        let up = upstream().on("x", busy).run();
        let gw = run.gateway().with("up", &up, &["upstreamLimit: hold"]).with("free", &up, &[]).run();
        let held = |server: &str| gw.metric("ringgate_upstream_held", &[&format!("server=\"{server}\"")]);
        assert!(gw.admin("/metrics").text().contains("ringgate_upstream_held{server=\"up\"} 0"));
        let mut caller = gw.line("up", "x");
        assert_eq!(caller.call("1").status, 429);
        assert_eq!((held("up"), held("free")), (1.0, 0.0));
        are_kept_away(&gw, &mut caller, (429, "upstream"));
    });
}

#[test]
fn injected_faults_show() {
    everywhere(|run| {
        for fault in ["status: 500", "delay: 1ms", "cut: true"] {
            let up = upstream().on("x", obedient(&Gate::default())).run();
            let faults = format!("faults: [{{tools: [x], ratio: 1, {fault}}}]");
            let gw = run.gateway().flag("--allow-faults").with("up", &up, &[&faults]).run();
            let mut caller = gw.line("up", "x");
            if fault.starts_with("status") {
                are_kept_away(&gw, &mut caller, (500, "faults"));
            } else {
                let call = caller.next();
                drop(caller.make(&call));
                assert_eq!(gw.metric("ringgate_unavailable_total", &[]), 0.0, "{fault}");
            }
            let kind = fault.split(':').next().unwrap();
            let expected = if kind == "status" { f64::from(REFUSALS) } else { 1.0 };
            let label = format!("fault=\"{kind}\"");
            let counted = gw.metric("ringgate_injected_faults_total", &["server=\"up\"", &label]);
            assert_eq!(counted, expected, "{fault}");
            assert_eq!(gw.metric("ringgate_injected_faults_total", &[]), expected, "{fault}");
        }
    });
}
