//! Feature `limit_adaptive`: the concurrency limit of a server that follows its latency.
//!
//! Not here: limits of callers (limits_*).

use crate::route_breaker::BRIEF;
use crate::route_timeouts::listen;
use crate::support::Driver;
use crate::support::Era;
use crate::support::Gate;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::client::Client;
use crate::support::conduct::Dial;
use crate::support::conduct::Inside;
use crate::support::conduct::delayed;
use crate::support::conduct::obedient;
use crate::support::drivers;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::Line;
use crate::support::line::together;
use crate::support::pace;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::support::within;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

const FOUR: &str = "adaptive: {min: 4, max: 4, target: \"p95<250ms\"}";

fn limit(gw: &Gateway) -> f64 {
    gw.metric("ringgate_concurrency_limit", &["server=\"db\""])
}

/// Four places: the fifth call at once is refused whoever makes it, and arrives nowhere.
#[test]
fn limit_adaptive_refuses_what_is_too_much() {
    everywhere(|run| {
        let (gate, inside) = (Gate::default(), Inside::default());
        let up = upstream().on("x", inside.of(obedient(&gate))).run();
        let gw = run.gateway().workers(2).with("db", &up, &[FOUR, BRIEF]).run();
        assert_eq!(limit(&gw), 4.0);
        std::thread::scope(|scope| {
            let four = scope.spawn(|| together(4, |_| gw.line("db", "x").call("\"wait\"").status));
            eventually("four are inside", || inside.now() == 4);
            for _ in 0..20 {
                let mut caller = gw.line("db", "x");
                let call = caller.next();
                let answer = caller.make(&call).unwrap();
                answer.refused(503, "upstream_unavailable");
                assert!(answer.head.field("retry-after").is_some(), "{answer:?}");
                assert_eq!(up.mentions(&call.token), 0, "a refused call reached the upstream");
            }
            if run.era == Era::Modern {
                // Clients take an error there for an older server, and remember it.
                let discover = gw.request("db", "server/discover").send();
                assert!(discover.status == 200 && discover.code() == 0, "{discover:?}");
            }
            gate.open();
            assert_eq!(four.join().unwrap(), [200; 4]);
        });
        assert_eq!((inside.most(), up.calls()), (4, 4));
        assert_eq!(
            gw.metric("ringgate_breaker_state", &["server=\"db\""]),
            0.0,
            "a refusal of our own counts"
        );
    });
}

/// However a call ends, its place is free again.
#[test]
fn limit_adaptive_loses_no_place() {
    everywhere(|run| {
        let (gate, inside) = (Gate::default(), Inside::default());
        let up = upstream().on("x", inside.of(obedient(&gate))).run();
        let lines = [FOUR, "breaker: off", "timeout: {firstByte: 1s}"];
        let gw = run.gateway().workers(1).with("db", &up, &lines).run();
        let mut caller = gw.line("db", "x");
        for wish in ["hang up", "500", "cut", "error in a stream", "silence", "isError"] {
            for _ in 0..if wish == "silence" { 2 } else { 5 } {
                let call = caller.next().argument(format!("\"{wish}\""));
                let outcome = caller.make(&call);
                let refused = outcome.is_ok_and(|answer| answer.text().contains("upstream_unavailable"));
                assert!(!refused, "{wish}: a place was lost");
            }
        }
        for _ in 0..5 {
            let call = caller.next().argument("\"silence\"");
            let mut client = gw.client();
            client.send(&call.raw().bytes());
            up.until_called(&call.token);
            drop(client);
            eventually("it has left", || inside.now() == 0);
        }
        let places = || {
            let calls = together(4, |_| gw.line("db", "x").call("\"slow\"").status);
            calls.iter().all(|status| *status == 200)
        };
        eventually("four places", places);
    });
}

/// A stream that waits for what the server has to say is no call under way.
#[test]
fn limit_adaptive_counts_no_open_stream() {
    everywhere(|run| {
        let stream = crate::support::script::script(crate::support::script::silent_stream);
        let up = upstream().method("subscriptions/listen", stream).tool("x").run();
        let gw = run.gateway().workers(1).with("db", &up, &[FOUR]).run();
        // One after the other: until its head is there, it is under way like any call.
        let open = |_| {
            let mut stream = listen(&gw, "db");
            assert_eq!(stream.head().unwrap().status(), 200);
            stream
        };
        let _streams: Vec<Client> = (0..6).map(open).collect();
        assert_eq!(gw.line("db", "x").call("1").status, 200);
    });
}

/// What each call of the load came to.
#[derive(Default)]
struct Tally {
    /// When it began, and how long it took.
    served: Vec<(Instant, Duration)>,
    shed: Vec<(Instant, Duration)>,
}

/// Calls until it is enough. Who is refused waits a little, as a client would.
fn load(mut caller: Line, enough: &AtomicBool, tally: &Mutex<Tally>) {
    while !enough.load(SeqCst) {
        let call = caller.next();
        let start = Instant::now();
        let answer = caller.make(&call).unwrap();
        let took = start.elapsed();
        if answer.status == 200 {
            tally.lock().unwrap().served.push((start, took));
        } else {
            answer.refused(503, "upstream_unavailable");
            tally.lock().unwrap().shed.push((start, took));
            pace(Duration::from_millis(20));
        }
    }
}

/// Percentile of what began in this time.
fn percentile(of: &[(Instant, Duration)], percent: usize, from: Instant, to: Instant) -> Duration {
    let mut times: Vec<Duration> =
        of.iter().filter(|(at, _)| *at >= from && *at < to).map(|(_, took)| *took).collect();
    assert!(times.len() >= 20, "only {} calls to judge by", times.len());
    times.sort();
    times[(times.len() - 1) * percent / 100]
}

/// An upstream that slows from 20 to 800 ms and recovers, under the load of both eras; a second server beside it.
struct Scene {
    gw: Gateway,
    _ups: [Upstream; 2],
    millis: Dial,
    inside: Inside,
    db: Mutex<Tally>,
    other: Mutex<Tally>,
    enough: AtomicBool,
}

impl Scene {
    fn new(driver: Driver) -> Self {
        let (millis, inside) = (Dial::at(20), Inside::default());
        let ups = [
            upstream().on("x", inside.delayed(&millis)).run(),
            upstream().on("x", delayed(&Dial::at(20))).run(),
        ];
        let adaptive = "adaptive: {min: 4, max: 256, target: \"p95<250ms\"}";
        let run = Run { driver, era: Era::Modern };
        let gw = run.gateway().workers(2).with("db", &ups[0], &[adaptive]).to("other", &ups[1]).run();
        let (db, other, enough) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { gw, _ups: ups, millis, inside, db, other, enough }
    }

    fn caller(&self, number: usize) {
        let era = if number.is_multiple_of(2) { Era::Modern } else { Era::Legacy };
        let (server, tally) = if number < 64 { ("db", &self.db) } else { ("other", &self.other) };
        load(Line::new(Call::tool(self.gw.address, era, server, "x")), &self.enough, tally);
    }

    /// Waits until `done`, and watches meanwhile that what is inside the upstream is never more than the limit was
    /// while these calls began.
    fn watch(&self, most: Duration, done: impl Fn(f64) -> bool) -> bool {
        let mut limits: Vec<(Instant, f64)> = Vec::new();
        within(most, || {
            let before = self.inside.now();
            let now = Instant::now();
            limits.push((now, limit(&self.gw)));
            limits.retain(|(at, _)| now.duration_since(*at) < Duration::from_millis(1_500));
            let highest = limits.iter().map(|(_, limit)| *limit).fold(0.0, f64::max);
            assert!(limits.len() < 3 || before as f64 <= highest, "{before} inside, limit {highest}");
            assert!((4.0..=256.0).contains(&highest), "{highest}");
            pace(Duration::from_millis(10));
            done(limits[limits.len() - 1].1)
        })
    }

    fn play(&self) {
        let began = Instant::now();
        let forever = |_| false;
        self.watch(Duration::from_secs(4), forever);
        let old = limit(&self.gw);
        let slowed = Instant::now();
        self.millis.turn(800);
        assert!(self.watch(Duration::from_secs(5), |limit| limit < old), "{old} does not fall within 5 s");
        let shedding = |_| self.db.lock().unwrap().shed.len() >= 50;
        assert!(self.watch(Duration::from_secs(15), shedding), "nothing shed at {}", limit(&self.gw));
        self.watch(Duration::from_secs(3), forever);
        let low = limit(&self.gw);
        let recovered = Instant::now();
        self.millis.turn(20);
        let back = self.watch(Duration::from_secs(30), |limit| limit >= 0.9 * old);
        eprintln!("limit {old}, then {low}, after 30 s at most {}", limit(&self.gw));
        self.enough.store(true, SeqCst);
        assert!(back, "{} of {old} after 30 s", limit(&self.gw));
        let shed = percentile(&self.db.lock().unwrap().shed, 50, slowed, recovered);
        let other = &self.other.lock().unwrap().served;
        let (before, during) =
            (percentile(other, 99, began, slowed), percentile(other, 99, slowed, recovered));
        eprintln!("shed after {shed:?}; p99 of the other server {before:?}, then {during:?}");
        // Times of the gateway, not of a machine with other tests on it.
        if size(false, true) {
            assert!(shed < Duration::from_millis(5), "shed after {shed:?}");
            assert!(during <= before.mul_f64(1.1), "the other server: {before:?}, then {during:?}");
        }
    }
}

/// The whole story, under its name: about 20 to 50 s for each driver, both eras in one load.
#[test]
fn limit_adaptive() {
    for driver in drivers() {
        let scene = Scene::new(driver);
        std::thread::scope(|scope| {
            for number in 0..68 {
                let scene = &scene;
                scope.spawn(move || scene.caller(number));
            }
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scene.play()));
            scene.enough.store(true, SeqCst);
            if let Err(panic) = told {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

/// At `/mcp` and across the eras there are as many places, and each is free again, however its call ends.
#[test]
fn limit_adaptive_in_other_words() {
    everywhere(|run| {
        for place in run.places() {
            let gate = Gate::default();
            let up = place.upstream().on("x", obedient(&gate)).run();
            let gw = run.gateway().workers(2).with("up", &up, &[FOUR, "breaker: off", place.era()]).run();
            let like = place.call(&gw, "x");
            let make = |wish: &str| {
                let call = like.again().argument(format!("\"{wish}\""));
                Line::new(like.clone()).make(&call)
            };
            for wish in ["500", "hang up", "cut", "half a stream", "error in a stream", "429"] {
                let _ = make(wish);
            }
            // A place is free a moment after its answer has left.
            let enters = || {
                let mut answers = std::iter::repeat_with(|| make("wait").unwrap().status).take(1_000);
                answers.find(|status| *status != 503).unwrap()
            };
            std::thread::scope(|scope| {
                let four = scope.spawn(|| together(4, |_| enters()));
                eventually("four are inside", || up.calls() == 6 + 4);
                make("ok").unwrap().refused(503, "upstream_unavailable");
                gate.open();
                assert_eq!(four.join().unwrap(), [200; 4], "{place:?}");
            });
            assert_eq!((up.calls(), make("ok").unwrap().status), (10, 200), "{place:?}");
        }
    });
}
