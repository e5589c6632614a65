//! Feature `health`: probes in both eras, what takes an instance out and brings it back, and that probes stay few.
//!
//! Not here: sessions that probes open (route_complaints).

use crate::support::Era;
use crate::support::Run;
use crate::support::conduct::Dial;
use crate::support::conduct::alive;
use crate::support::conduct::on_trial;
use crate::support::conduct::sick_at_1;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::gateway::instances;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

use Expected::Out;
use Expected::Rotates;
use Expected::Serves;

/// One failed probe, or connection, takes an instance out; the next probe is far away.
pub const EJECTS: &str = "health: {interval: 24h, timeout: 1s, unhealthy: 1, healthy: 1}";

/// `era: modern` or `era: legacy`, as the run is.
pub fn era(run: Run) -> String {
    format!("era: {:?}", run.era).to_lowercase()
}

/// Requests that only a probe makes.
pub fn probes(up: &Upstream) -> usize {
    up.count("server/discover") + up.count("ping")
}

pub fn is_up(gw: &Gateway, up: &Upstream) -> f64 {
    gw.metric("ringgate_instance_up", &["server=\"up\"", &up.address.to_string()])
}

/// Three failed probes in a row take it out, two do not; two good ones bring it back, one does not. Calls are made only
/// where no failure is pending: one that succeeds may end the row.
#[test]
fn health() {
    everywhere(|run| {
        let (script, trial) = on_trial();
        let up = upstream().tool("echo").probed(script).run();
        let health = "health: {interval: 20ms, timeout: 5s, unhealthy: 3, healthy: 2}";
        let gw = run.gateway().with("up", &up, &[health, &era(run)]).run();
        let mut caller = gw.line("up", "echo");
        trial.next();
        for (probe, alive, expected) in [
            ("well", true, Serves),
            ("first failure", false, Rotates),
            ("second failure", false, Rotates),
            ("not in a row", true, Serves),
            ("first failure again", false, Rotates),
            ("second failure again", false, Rotates),
            ("third failure", false, Out),
            ("fourth failure", false, Out),
            ("first success", true, Out),
            ("not in a row either", false, Out),
            ("first success again", true, Out),
            ("second success", true, Serves),
        ] {
            trial.answer(alive);
            // That the next probe is here proves that the verdict on this one is known.
            trial.next();
            assert_eq!(is_up(&gw, &up), if expected == Out { 0.0 } else { 1.0 }, "{probe}");
            if expected == Rotates {
                continue;
            }
            let call = caller.next();
            let answer = caller.make(&call).unwrap();
            if expected == Serves {
                assert_eq!(answer.status, 200, "{probe}: {answer:?}");
            } else {
                answer.refused(503, "upstream_unavailable");
                assert_eq!(up.mentions(&call.token), 0, "{probe}: a refused call reached the upstream");
            }
        }
    });
}

/// What is expected of an instance after a probe.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    Serves,
    /// In rotation, with failures pending.
    Rotates,
    Out,
}

/// A probe that is not answered in time has failed, and the next ones go on.
#[test]
fn health_counts_silence() {
    everywhere(|run| {
        let silent = script::script(|connection, _| {
            connection.until_gone();
            crate::support::upstream::Next::Close
        });
        let up = upstream().tool("echo").probed(silent).run();
        let health = "health: {interval: 30ms, timeout: 150ms, unhealthy: 3, healthy: 2}";
        let gw = run.gateway().with("up", &up, &[health, &era(run)]).run();
        eventually("it is out", || is_up(&gw, &up) == 0.0);
        let probes = probes(&up).max(up.count("initialize"));
        assert!(probes >= 3, "out after {probes} probes");
        gw.line("up", "echo").call("1").refused(503, "upstream_unavailable");
        assert_eq!(up.calls(), 0);
    });
}

/// Which answers to a probe are a server that lives: its era's method, each with its result.
#[test]
fn health_speaks_the_servers_era() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let health = "health: {interval: 20ms, timeout: 1s}";
        let gw = run.gateway().with("up", &up, &[health, &era(run)]).run();
        let (own, other) = match run.era {
            Era::Modern => ("server/discover", "ping"),
            Era::Legacy => ("ping", "server/discover"),
        };
        eventually("probes", || up.count(own) >= 5);
        assert_eq!(up.count(other), 0);
        assert_eq!(is_up(&gw, &up), 1.0);
        if run.era == Era::Modern {
            assert_eq!(up.count("initialize"), 0);
            for probe in up.requests() {
                assert_eq!(probe.head.field("mcp-protocol-version"), Some("2026-07-28"), "{probe:?}");
                assert_eq!(probe.head.field("mcp-method"), Some("server/discover"), "{probe:?}");
            }
        }
    });
}

/// `era: auto`: a server of the older revisions answers a modern probe with a 400 of its own, and is well.
#[test]
fn health_finds_the_era_out() {
    on_every_driver(|run| {
        let stranger = script::bytes(script::plain(400, "Bad Request: Server not initialized"));
        let old = upstream().tool("echo").method("server/discover", stranger).run();
        let new = upstream().tool("echo").method("ping", script::bytes(script::plain(404, ""))).run();
        let line = "health: {interval: 20ms, timeout: 1s, unhealthy: 3, healthy: 2}";
        let gw = run.gateway().with("up", &old, &[line]).with("new", &new, &[line]).run();
        eventually("pings", || old.count("ping") >= 5);
        eventually("discovers", || new.count("server/discover") >= 5);
        assert_eq!(is_up(&gw, &old), 1.0);
        assert_eq!(gw.metric("ringgate_instance_up", &["server=\"new\""]), 1.0);
        let (asked, pinged) = (old.count("server/discover"), old.count("ping"));
        eventually("more pings", || old.count("ping") >= pinged + 5);
        assert_eq!(old.count("server/discover"), asked, "it is asked what it answered once");
    });
}

/// Connect errors of live calls count like probes: two do not suffice, the third takes the instance out.
#[test]
fn health_counts_connect_errors_of_calls() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let health = "health: {interval: 24h, timeout: 1s, unhealthy: 3, healthy: 2}";
        let gw = run.gateway().with("up", &up, &[health, &era(run)]).run();
        let mut caller = gw.line("up", "echo");
        assert!((0..4).all(|_| caller.call("1").status == 200));
        up.stop();
        for errors in 1..=5 {
            caller.call("1").refused(503, "upstream_unavailable");
            assert_eq!(is_up(&gw, &up), if errors < 3 { 1.0 } else { 0.0 }, "after {errors} connect errors");
        }
    });
}

/// An instance that is out gets no call, the others get its share, and it comes back.
#[test]
fn health_moves_traffic() {
    everywhere(|run| {
        let dial = Dial::default();
        let of = |dial: &Dial| upstream().tool("echo").probed(sick_at_1(dial, alive())).run();
        let (first, second) = (of(&dial), of(&Dial::default()));
        let line = "health: {interval: 20ms, timeout: 1s, unhealthy: 3, healthy: 2}";
        let gw = run.gateway().workers(1).over("up", &[&first, &second], &[line, &era(run)]).run();
        let mut caller = gw.line("up", "echo");
        let mut calls = |count: usize| {
            let before = (first.calls(), second.calls());
            (0..count).for_each(|_| assert_eq!(caller.call("1").status, 200));
            (first.calls() - before.0, second.calls() - before.1)
        };
        assert_eq!(calls(20), (10, 10));
        dial.turn(1);
        eventually("it is out", || is_up(&gw, &first) == 0.0);
        assert_eq!(calls(20), (0, 20));
        dial.turn(0);
        eventually("it is back", || is_up(&gw, &first) == 1.0);
        assert_eq!(calls(20), (10, 10));
    });
}

/// A reload that says nothing about an instance leaves it in or out as it is; one that is new is in.
#[test]
fn health_survives_a_reload() {
    everywhere(|run| {
        let dial = Dial::at(1);
        let sick = upstream().tool("echo").probed(sick_at_1(&dial, alive())).run();
        let new = upstream().tool("echo").run();
        let line = "health: {interval: 50ms, timeout: 1s, unhealthy: 3, healthy: 2}";
        let gw = run.gateway().with("up", &sick, &[line, &era(run)]).run();
        eventually("it is out", || is_up(&gw, &sick) == 0.0);
        let (yaml, url) = (std::fs::read_to_string(&gw.config).unwrap(), format!("url: \"{}\"", sick.url));
        gw.reload(&yaml.replace(&url, &format!("instances: {}", instances(&[&sick, &new]))));
        assert_eq!((is_up(&gw, &sick), is_up(&gw, &new)), (0.0, 1.0));
        let mut caller = gw.line("up", "echo");
        assert!((0..10).all(|_| caller.call("1").status == 200));
        assert_eq!((sick.calls(), new.calls()), (0, 10));
        dial.turn(0);
        eventually("it is back", || is_up(&gw, &sick) == 1.0);
        assert!((0..10).all(|_| caller.call("1").status == 200));
        assert_eq!((sick.calls(), new.calls()), (5, 15));
    });
}

/// All are down: refused at once, no call arrives, and probes stay one an interval and instance, whatever the load
/// and the number of workers.
#[test]
fn health_all_down() {
    const INTERVAL: Duration = Duration::from_millis(100);
    everywhere(|run| {
        for workers in [1, 4] {
            let dial = Dial::default();
            let of = || upstream().tool("echo").probed(sick_at_1(&dial, alive())).run();
            let ups = [of(), of()];
            let line = "health: {interval: 100ms, timeout: 1s, unhealthy: 3, healthy: 2}";
            let gw = run.gateway().workers(workers).over("up", &[&ups[0], &ups[1]], &[line, &era(run)]).run();
            assert_eq!(gw.line("up", "echo").call("1").status, 200);
            dial.turn(1);
            eventually("both are out", || ups.iter().all(|up| is_up(&gw, up) == 0.0));
            ups.iter().for_each(|up| drop(up.take_requests()));
            let (start, enough, refused) = (Instant::now(), AtomicBool::new(false), AtomicUsize::new(0));
            let slowest = std::thread::scope(|scope| {
                let load = scope.spawn(|| together(8, |_| flood(&gw, &enough, &refused)));
                eventually("ten intervals", || start.elapsed() >= 10 * INTERVAL);
                enough.store(true, SeqCst);
                load.join().unwrap()
            });
            let most = (start.elapsed().as_millis() / INTERVAL.as_millis()) as usize + 2;
            for up in &ups {
                let count = probes(up);
                assert!((5..=most).contains(&count), "{workers} workers: {count} probes, {most} at most");
                assert_eq!(up.calls(), 0, "a refused call reached the upstream");
            }
            let median = slowest[slowest.len() / 2];
            assert!(median < Duration::from_millis(50), "refused after {median:?}");
            assert!(refused.load(SeqCst) > 100, "hardly any load");
        }
    });
}

/// Calls until it is enough; every answer is a refusal. The median time to it.
fn flood(gw: &Gateway, enough: &AtomicBool, refused: &AtomicUsize) -> Duration {
    let mut caller = gw.line("up", "echo");
    let mut times = Vec::new();
    while !enough.load(SeqCst) {
        let start = Instant::now();
        caller.call("1").refused(503, "upstream_unavailable");
        times.push(start.elapsed());
        refused.fetch_add(1, SeqCst);
    }
    times.sort();
    times[times.len() / 2]
}

/// Off where nothing is said.
#[test]
fn health_off_probes_nobody() {
    everywhere(|run| {
        for line in ["health: off", "health: false", "balance: roundRobin"] {
            let (up, probed) = (upstream().tool("echo").run(), upstream().tool("echo").run());
            let health = "health: {interval: 20ms, timeout: 1s}";
            let gw = run.gateway().pinned().with("up", &up, &[line]).with("probed", &probed, &[health]).run();
            eventually("the other one is probed", || probes(&probed) >= 10);
            assert_eq!(gw.line("up", "echo").call("1").status, 200);
            assert_eq!(up.requests().len(), 1, "{line}");
        }
    });
}
