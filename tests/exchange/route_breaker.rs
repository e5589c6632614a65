//! Feature `breaker`: when it opens, what it refuses, how it comes back, for instances and for tools.
//!
//! Not here: which outcomes are failures (route_outcomes).

use crate::support::Gate;
use crate::support::PATIENCE;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::client::Client;
use crate::support::conduct::Inside;
use crate::support::conduct::obedient;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::Line;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::support::within;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

/// Opens after four failures, for 300 ms, then 600 ms, then a second.
pub const BRIEF: &str =
    "breaker: {window: 10, failureRatio: 0.5, minCalls: 4, open: 300ms, probes: 3, maxOpen: 1s}";
/// The same, open for longer than any test takes.
const LASTING: &str =
    "breaker: {window: 10, failureRatio: 0.5, minCalls: 4, open: 1m, probes: 3, maxOpen: 5m}";

/// A gateway before an upstream that does what it is asked for, with this line of config, and a caller.
pub fn before(run: Run, line: &str) -> (Upstream, Gateway, Line) {
    let up = upstream().on("x", obedient(&Gate::default())).run();
    let gw = run.gateway().with("up", &up, &[line]).run();
    let caller = gw.line("up", "x");
    (up, gw, caller)
}

/// Calls that ask for this, so many; each gets this status.
#[track_caller]
pub fn make(caller: &mut Line, wish: &str, status: u16, calls: usize) {
    for number in 0..calls {
        let answer = caller.call(&format!("\"{wish}\""));
        assert_eq!(answer.status, status, "{wish}, call {number}: {answer:?}");
    }
}

/// 0 closed, 1 half-open, 2 open.
pub fn state(gw: &Gateway, up: &Upstream) -> f64 {
    gw.metric("ringgate_breaker_state", &["server=\"up\"", &up.address.to_string()])
}

/// An answer is there a little before what it says of the server, and the time that a breaker is open may be over
/// before anybody looks.
fn has_opened(gw: &Gateway, up: &Upstream) -> bool {
    state(gw, up) > 0.0
}

/// The refusal of an open breaker; nothing of the call reached the upstream. The milliseconds that it asks to wait.
#[track_caller]
pub fn refused(caller: &mut Line, up: &Upstream) -> u64 {
    let call = caller.next();
    let answer = caller.make(&call).unwrap();
    answer.refused(503, "upstream_unavailable");
    assert_eq!(answer.code(), -33503);
    assert_eq!(up.mentions(&call.token), 0, "a refused call reached the upstream");
    time_left(&answer)
}

/// `retryAfterMs`, and that `Retry-After` is the same in whole seconds, rounded up.
#[track_caller]
fn time_left(answer: &Answer) -> u64 {
    let millis = answer.json()["error"]["data"]["retryAfterMs"].as_u64().expect("no retryAfterMs");
    let seconds: u64 = answer.head.field("retry-after").expect("no Retry-After").parse().unwrap();
    assert_eq!(seconds, millis.div_ceil(1000).max(1), "{answer:?}");
    millis
}

/// How many lines of the log tell of a breaker.
fn log_lines(gw: &Gateway) -> usize {
    gw.stderr().lines().filter(|line| line.to_lowercase().contains("breaker")).count()
}

/// On, with its default values, where nothing is said.
#[test]
fn breaker() {
    everywhere(|run| {
        let (up, gw, mut caller) = before(run, "era: auto");
        make(&mut caller, "ok", 200, 51);
        make(&mut caller, "500", 500, 49);
        assert_eq!(state(&gw, &up), 0.0, "49 of the last 100");
        assert_eq!(log_lines(&gw), 0, "{}", gw.stderr());
        make(&mut caller, "500", 500, 1);
        let left = refused(&mut caller, &up);
        assert!((25_000..=30_000).contains(&left), "{left} ms");
        assert_eq!(state(&gw, &up), 2.0);
        eventually("one log line", || log_lines(&gw) == 1);
        for _ in 0..20 {
            assert!(refused(&mut caller, &up) <= left);
        }
        assert_eq!(up.calls(), 101);
        assert_eq!(log_lines(&gw), 1, "{}", gw.stderr());
    });
}

/// Not before `minCalls` outcomes, and then at once.
#[test]
fn breaker_waits_for_its_minimum() {
    everywhere(|run| {
        let (up, gw, mut caller) = before(run, "era: auto");
        make(&mut caller, "500", 500, 19);
        assert_eq!(state(&gw, &up), 0.0, "19 of 19 are too few to judge by");
        make(&mut caller, "500", 500, 1);
        refused(&mut caller, &up);

        let (up, gw, mut caller) = before(run, "era: auto");
        make(&mut caller, "ok", 200, 10);
        make(&mut caller, "500", 500, 9);
        assert_eq!(state(&gw, &up), 0.0, "9 failures of 19");
        make(&mut caller, "500", 500, 1);
        refused(&mut caller, &up);
        assert_eq!(state(&gw, &up), 2.0, "10 failures in the first 20");
    });
}

/// Only the last `window` outcomes count.
#[test]
fn breaker_forgets_what_left_its_window() {
    everywhere(|run| {
        let (up, gw, mut caller) = before(run, LASTING);
        make(&mut caller, "ok", 200, 6);
        make(&mut caller, "500", 500, 4);
        make(&mut caller, "ok", 200, 10);
        make(&mut caller, "500", 500, 4);
        assert_eq!(state(&gw, &up), 0.0, "4 of the last 10");
        make(&mut caller, "500", 500, 1);
        refused(&mut caller, &up);
    });
}

/// Half-open: three calls at once over all workers, whoever else asks; all good: closed.
#[test]
fn breaker_lets_exactly_three_probes_through() {
    everywhere(|run| {
        let (gate, inside) = (Gate::default(), Inside::default());
        let up = upstream().on("x", inside.of(obedient(&gate))).run();
        let gw = run.gateway().workers(2).with("up", &up, &[BRIEF]).run();
        make(&mut gw.line("up", "x"), "500", 500, 4);
        eventually("it has opened, and those calls have ended", || has_opened(&gw, &up) && inside.now() == 0);
        let (refusals, left, enough) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let ask = |_| {
            let mut caller = gw.line("up", "x");
            while !enough.load(SeqCst) {
                let answer = caller.call("\"wait\"");
                if answer.status == 200 {
                    return 1;
                }
                answer.refused(503, "upstream_unavailable");
                refusals.fetch_add(1, SeqCst);
            }
            left.fetch_add(1, SeqCst);
            0
        };
        std::thread::scope(|scope| {
            let callers = scope.spawn(|| together(16, ask));
            // Judged when the gate is open: a failure before would leave the callers waiting.
            let three = within(PATIENCE, || inside.now() == 3);
            let (half_open, before) = (state(&gw, &up), refusals.load(SeqCst));
            let many = within(PATIENCE, || refusals.load(SeqCst) > before + 200);
            enough.store(true, SeqCst);
            within(PATIENCE, || left.load(SeqCst) + inside.now() == 16);
            let probes = inside.now();
            gate.open();
            let passed: usize = callers.join().unwrap().into_iter().sum();
            assert!(three && many, "three probes: {three}; many refused beside them: {many}");
            assert_eq!((half_open, probes, passed), (1.0, 3, 3));
        });
        assert_eq!((inside.most(), up.calls()), (3, 4 + 3));
        eventually("closed", || state(&gw, &up) == 0.0);
        make(&mut gw.line("up", "x"), "ok", 200, 1);
        eventually("one log line a change", || log_lines(&gw) == 3);
    });
}

/// A thousand clients at the moment of half-open: three of their calls pass over all workers, whosever they are, and
/// every other is refused.
#[test]
fn breaker_lets_three_of_a_thousand_through() {
    everywhere(|run| {
        let (gate, inside) = (Gate::default(), Inside::default());
        let up = upstream().on("x", inside.of(obedient(&gate))).run();
        let gw = run.gateway().workers(2).http("headerTimeout: 1m").with("up", &up, &[BRIEF]).run();
        let mut line = gw.line("up", "x");
        let calls: Vec<_> = (0..1_000).map(|_| line.next().argument("\"wait\"")).collect();
        // Connected before, so that nothing but their calls has still to come.
        let mut herd: Vec<_> = calls.iter().map(|call| call.connect()).collect();
        make(&mut line, "500", 500, 4);
        let send = |(client, call): (&mut Client, &Call)| assert!(client.send(&call.raw().bytes()));
        eventually("it has opened, and those calls have ended", || has_opened(&gw, &up) && inside.now() == 0);
        // The clocks of workers tick: the moment is when the first call passes, and the herd comes then.
        let came = |call: &Call| !up.with(&call.token).is_empty();
        let mut first = None;
        eventually("its time is over", || {
            let scout = line.next().argument("\"wait\"");
            let mut client = scout.connect();
            send((&mut client, &scout));
            eventually("it is decided", || came(&scout) || !client.is_quiet());
            first = (came(&scout)).then_some(client);
            first.is_some()
        });
        let before = refusals(&gw);
        herd.iter_mut().zip(&calls).for_each(send);
        // Judged when the gate is open: a failure before would leave the probes waiting.
        let all = within(PATIENCE, || inside.now() as f64 + refusals(&gw) - before >= 1_001.0);
        let (half_open, probes) = (state(&gw, &up), inside.now());
        gate.open();
        assert_eq!(first.map(|mut client| client.answer().status), Some(200));
        let answers = herd.iter_mut().map(Client::answer);
        let (passed, refused): (Vec<_>, Vec<_>) = answers.partition(|answer| answer.status == 200);
        refused.iter().for_each(|answer| answer.refused(503, "upstream_unavailable"));
        assert_eq!((passed.len(), all, half_open, probes), (2, true, 1.0, 3));
        assert_eq!((inside.most(), up.calls()), (3, 4 + 3), "the others never reached the server");
        eventually("closed", || state(&gw, &up) == 0.0);
        make(&mut line, "ok", 200, 1);
    });
}

fn refusals(gw: &Gateway) -> f64 {
    gw.metric("ringgate_requests_total", &["outcome=\"refused\""])
}

/// Asks for this until a call passes.
fn until_passed(caller: &mut Line, wish: &str, status: u16) {
    let wish = format!("\"{wish}\"");
    eventually("the breaker lets a call through", || caller.call(&wish).status == status);
}

/// One bad probe: open for twice as long, up to `maxOpen`; closed again, the time is the first one. What it says in its
/// log, as a caller that is late would find it half-open.
#[test]
fn breaker_doubles_its_time() {
    everywhere(|run| {
        let (up, gw, mut caller) = before(run, BRIEF);
        let times = || -> Vec<u64> {
            let log = gw.stderr();
            let lines = log.lines().filter_map(|line| line.split_once(r#""for_ms":"#));
            lines.filter_map(|(_, rest)| rest.trim_end_matches('}').parse().ok()).collect()
        };
        make(&mut caller, "500", 500, 4);
        for _ in 0..3 {
            until_passed(&mut caller, "500", 500);
        }
        until_passed(&mut caller, "ok", 200);
        make(&mut caller, "ok", 200, 2);
        // An answer is there a little before what it says of the server.
        eventually("closed", || state(&gw, &up) == 0.0);
        make(&mut caller, "500", 500, 4);
        eventually("300 ms, twice that, at most a second, and 300 ms again", || {
            times() == [300, 600, 1_000, 1_000, 300]
        });
    });
}

/// A probe whose client leaves is no verdict, and its place is free again.
#[test]
fn breaker_takes_an_abandoned_probe_back() {
    on_every_driver(|run| {
        let (up, gw, mut caller) = before(run, BRIEF);
        make(&mut caller, "500", 500, 4);
        eventually("it has opened", || has_opened(&gw, &up));
        for _ in 0..3 {
            eventually("a probe passes", || {
                let call = gw.modern("up", "x").argument("\"silence\"");
                let token = call.token.clone();
                let mut client = call.open();
                // Refused at once, or held by the upstream.
                eventually("it is decided", || !client.is_quiet() || !up.with(&token).is_empty());
                !up.with(&token).is_empty()
            });
        }
        // How soon a departure is noticed is another test's; that each place comes back is this one's.
        for _ in 0..3 {
            until_passed(&mut caller, "ok", 200);
        }
        eventually("closed", || state(&gw, &up) == 0.0);
    });
}

/// Of two instances the one that fails is left alone, and no caller notices.
#[test]
fn breaker_spares_the_other_instances() {
    everywhere(|run| {
        let sick = upstream().on("x", crate::support::script::bytes(crate::support::script::plain(500, "")));
        let (sick, well) = (sick.run(), upstream().tool("x").run());
        let gw = run.gateway().workers(1).over("up", &[&sick, &well], &[LASTING]).run();
        let mut caller = gw.line("up", "x");
        eventually("the sick one is left alone", || {
            caller.call("1");
            state(&gw, &sick) == 2.0
        });
        let before = sick.calls();
        assert_eq!(before, 4);
        make(&mut caller, "ok", 200, 100);
        assert_eq!((sick.calls(), state(&gw, &well)), (before, 0.0));
    });
}

/// `perTool`: a tool that fails is refused while the server's other tools go on.
#[test]
fn breaker_per_tool() {
    let per_tool = |line: &str| line.replace("maxOpen", "perTool: true, maxOpen");
    let (brief, lasting) = (per_tool(BRIEF), per_tool(LASTING));
    everywhere(|run| {
        let up = upstream().on("bad", obedient(&Gate::default())).tool("good").run();
        let gw = run.gateway().with("up", &up, &[&lasting]).run();
        let (mut bad, mut good) = (gw.line("up", "bad"), gw.line("up", "good"));
        let tool = |gw: &Gateway, name: &str| {
            gw.metric("ringgate_tool_breaker_state", &["server=\"up\"", &format!("tool=\"{name}\"")])
        };
        make(&mut good, "ok", 200, 10);
        make(&mut bad, "500", 500, 4);
        assert!(refused(&mut bad, &up) <= 60_000);
        assert_eq!((tool(&gw, "bad"), tool(&gw, "good"), state(&gw, &up)), (2.0, 0.0, 0.0));
        make(&mut good, "ok", 200, 10);

        let gw = run.gateway().with("up", &up, &[&brief]).run();
        let mut bad = gw.line("up", "bad");
        make(&mut bad, "500", 500, 4);
        until_passed(&mut bad, "ok", 200);
        make(&mut bad, "ok", 200, 2);
        eventually("closed", || tool(&gw, "bad") == 0.0);
    });
}

/// A reload that says nothing about it leaves it open.
#[test]
fn breaker_survives_a_reload() {
    everywhere(|run| {
        let (up, gw, mut caller) = before(run, "headers: {X-Plan: one}");
        make(&mut caller, "500", 500, 20);
        let left = refused(&mut caller, &up);
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.reload(&yaml.replace("X-Plan: one", "X-Plan: two"));
        assert!(refused(&mut caller, &up) <= left);
        assert_eq!(state(&gw, &up), 2.0);
    });
}

#[test]
fn breaker_off_never_opens() {
    everywhere(|run| {
        let (up, _gw, mut caller) = before(run, "breaker: off");
        make(&mut caller, "500", 500, 120);
        assert_eq!(up.calls(), 120);
    });
}

/// Half of the refusals of an open breaker come back to the caller in less than a millisecond, of a release build.
#[test]
fn breaker_refuses_in_under_a_millisecond() {
    everywhere(|run| {
        let (up, _gw, mut caller) = before(run, "era: auto");
        make(&mut caller, "500", 500, 20);
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let call = caller.next();
                let start = Instant::now();
                let answer = caller.make(&call).unwrap();
                let took = start.elapsed();
                assert_eq!(answer.status, 503);
                took
            })
            .collect();
        times.sort();
        eprintln!("{run:?}: median {:?}, slowest {:?}", times[100], times[199]);
        assert!(times[100] < size(Duration::from_millis(5), Duration::from_millis(1)), "{:?}", times[100]);
        assert_eq!(up.calls(), 20);
    });
}
