//! Complaints about other gateways that concern the way to an instance, each a regression test under its name.
//!
//! Not here: the features they belong to (route_health, pool).

use crate::route_health::era;
use crate::route_health::is_up;
use crate::route_health::probes;
use crate::support::Era;
use crate::support::Run;
use crate::support::conduct::Dial;
use crate::support::conduct::alive;
use crate::support::conduct::sick_at_1;
use crate::support::drivers;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::script::Script;
use crate::support::size;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::support::within;
use std::time::Duration;

/// IBM/mcp-context-forge #1549: health checks left sessions open until the server was out of memory. After 10,000
/// probes, good and bad, no session is open.
#[test]
fn contextforge_1549_probes_close_sessions() {
    let wanted = size(300, 10_000);
    for driver in drivers() {
        let run = Run { driver, era: Era::Legacy };
        let dial = Dial::default();
        let ups: Vec<Upstream> =
            (0..16).map(|_| upstream().tool("echo").probed(sick_at_1(&dial, alive())).run()).collect();
        let all: Vec<&Upstream> = ups.iter().collect();
        let line = "health: {interval: 10ms, timeout: 5s, unhealthy: 3, healthy: 2}";
        let gw = run.gateway().over("up", &all, &[line, &era(run)]).run();
        let count = || ups.iter().map(|up| up.sessions().0).sum::<usize>();
        for (verdict, until) in [(0, wanted / 3), (1, wanted * 2 / 3), (0, wanted)] {
            dial.turn(verdict);
            let grows = || within(Duration::from_secs(120), || count() >= until);
            assert!(grows(), "{} probes of {until}", count());
            eventually("the verdict is known", || {
                ups.iter().all(|up| is_up(&gw, up) == 1.0 - verdict as f64)
            });
        }
        assert!(ups.iter().all(|up| probes(up) > 0));
        // No further probe begins, and those that run are let finish.
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.reload(&yaml.replace(line, "health: off"));
        eventually("0 open sessions", || ups.iter().all(|up| up.sessions().1 == 0));
        let opened: Vec<(usize, usize)> = ups.iter().map(Upstream::sessions).collect();
        assert!(opened.iter().all(|(_, open)| *open == 0), "{opened:?}");
        assert_eq!(gw.line("up", "echo").call("1").status, 200);
    }
}

/// A gateway that is told to end ends what its probes have begun.
#[test]
fn contextforge_1549_a_drain_leaves_none() {
    for driver in drivers() {
        let run = Run { driver, era: Era::Legacy };
        let ups: Vec<Upstream> = (0..8).map(|_| upstream().tool("echo").run()).collect();
        let all: Vec<&Upstream> = ups.iter().collect();
        let line = "health: {interval: 10ms, timeout: 5s, unhealthy: 3, healthy: 2}";
        let mut gw = run.gateway().over("up", &all, &[line, &era(run)]).run();
        eventually("probes", || ups.iter().all(|up| up.sessions().0 >= 10));
        gw.terminate();
        assert_eq!(gw.exit_code(), Some(0));
        let open = || ups.iter().map(|up| up.sessions().1).sum::<usize>();
        eventually("what was sent has arrived", || ups.iter().all(|up| up.open() == 0));
        assert_eq!(open(), 0, "sessions left open");
    }
}

/// A modern server has no sessions to leave open.
#[test]
fn contextforge_1549_modern_probes_open_none() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let line = "health: {interval: 10ms, timeout: 1s}";
        let _gw = run.gateway().with("up", &up, &[line, &era(run)]).run();
        eventually("a hundred probes", || probes(&up) >= 100);
        assert_eq!((up.sessions(), up.count("initialize")), ((0, 0), 0));
    });
}

/// How an upstream's connection breaks in the middle of a call.
fn breakages() -> Vec<(&'static str, Script)> {
    let reset = |front: &'static [u8]| {
        script::script(move |connection, _| {
            connection.send(front);
            connection.reset();
            Next::Close
        })
    };
    vec![
        ("closed before the answer", script::hang_up()),
        ("reset before the answer", reset(b"")),
        ("closed in the head", script::bytes("HTTP/1.1 200 OK\r\nContent-")),
        ("closed in the body", script::bytes("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"jsonrpc\"")),
        ("reset in a stream", reset(script::STREAM)),
        ("no HTTP at all", script::bytes("HELLO\r\n\r\n")),
    ]
}

/// IBM/mcp-context-forge #5460: a broken connection poisoned the session. The next call opens a new connection, in
/// the same session and on the same connection of the client; only the call in flight fails.
#[test]
fn contextforge_5460_broken_connection_heals() {
    everywhere(|run| {
        for (name, script) in breakages() {
            let up = upstream().tool("echo").on("x", script).run();
            let gw = run.gateway().pinned().workers(1).to("up", &up).run();
            heals(name, &gw, &up);
        }
    });
}

fn heals(name: &str, gw: &crate::support::gateway::Gateway, up: &Upstream) {
    let session = gw.call("up", "echo").in_session().session;
    let one = |tool: &str| {
        let call = crate::support::call::Call { session: session.clone(), ..gw.call("up", tool) };
        let token = call.token.clone();
        (token, call.try_send())
    };
    assert_eq!(one("echo").1.unwrap().status, 200, "{name}");
    for round in 0..5 {
        let before = up.connections();
        let (token, broken) = one("x");
        assert!(
            broken.is_err() || broken.as_ref().is_ok_and(|answer| answer.status >= 500),
            "{name}: {broken:?}"
        );
        up.once(&token);
        let (token, healed) = one("echo");
        assert_eq!(healed.unwrap().status, 200, "{name}, round {round}");
        let request = up.once(&token);
        assert_eq!(request.head.field("mcp-session-id"), session.as_ref().map(|_| "session-1"), "{name}");
        assert!(up.connections() > before, "{name}: the broken connection was used again");
    }
}

/// Other calls of the same caller that run meanwhile are not harmed either.
#[test]
fn contextforge_5460_other_calls_in_flight_live() {
    everywhere(|run| {
        let gate = crate::support::Gate::default();
        let up = upstream().on("wait", script::echo_behind(&gate)).on("x", script::hang_up()).run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        let slow = gw.call("up", "wait").in_session();
        let session = slow.session.clone();
        let mut client = slow.clone().open();
        up.until_called(&slow.token);
        let broken = crate::support::call::Call { session, ..gw.call("up", "x") };
        broken.send().refused(502, "upstream_protocol");
        gate.open();
        let answer = client.answer();
        assert!(answer.status == 200 && answer.text().contains(&slow.token), "{answer:?}");
    });
}
