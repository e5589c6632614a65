//! Slow start of the feature `balance`: what an instance that comes back gets of calls that last.
//!
//! Not here: the kinds of balance in steady state (route_balance), and what else is a return (`route::tests::slow_start`).

use crate::route_health::era;
use crate::route_health::is_up;
use crate::support::Gate;
use crate::support::conduct::Dial;
use crate::support::conduct::Inside;
use crate::support::conduct::alive;
use crate::support::conduct::sick_at_1;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::script;
use crate::support::script::Script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::time::Instant;

const BEFORE: usize = 36;
const AFTER: usize = 42;
/// What `slowStart` is where nothing is said.
const DEFAULT_MS: u128 = 10_000;

/// An instance whose calls of `first` and of `second` end when their gates open; `brief` ones end at once.
struct Place {
    up: Upstream,
    sick: Dial,
    inside: Inside,
    first: Gate,
}

/// The echo once the gate is open. Patient: calls of a whole test wait here, and a loaded machine takes its time.
fn behind(gate: &Gate) -> Script {
    let gate = gate.clone();
    script::script(move |connection, request| {
        let is_open = (0..2).any(|_| gate.wait());
        assert!(is_open, "nobody opened");
        script::send(connection, &script::plain(200, &script::echo_result(request)))
    })
}

impl Place {
    fn new(second: &Gate) -> Self {
        let (sick, inside, first) = (Dial::default(), Inside::default(), Gate::default());
        let up = upstream()
            .on("first", inside.of(behind(&first)))
            .on("second", inside.of(behind(second)))
            .on("brief", script::echo())
            .probed(sick_at_1(&sick, alive()))
            .run();
        Self { up, sick, inside, first }
    }
}

fn inside(places: &[Place]) -> Vec<usize> {
    places.iter().map(|place| place.inside.now()).collect()
}

/// hardening: in steady state the busiest instance has at most 1.2 times the calls of the least busy one.
fn is_even(now: &[usize]) -> bool {
    now.iter().max().unwrap() * 10 <= now.iter().min().unwrap() * 12
}

/// 36 calls are in flight on three instances, evenly, when one of them goes and comes back. Of the next 42 it gets no
/// more than its share, where without slow start it would get the first twenty-four; once it is warm, all are even again.
#[test]
fn balance_slow_start() {
    everywhere(|run| {
        for line in ["slowStart: 1h", "slowStart: 1ms", ""] {
            let second = Gate::default();
            let places = [Place::new(&second), Place::new(&second), Place::new(&second)];
            let ups = [&places[0].up, &places[1].up, &places[2].up];
            let health = "health: {interval: 20ms, timeout: 5s, unhealthy: 1, healthy: 1}";
            let lines = ["balance: leastConnections", health, &era(run), line];
            let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
            let gw = run.gateway().workers(1).over("up", &ups, &lines).run();
            std::thread::scope(|scope| {
                let call = |tool: &'static str| {
                    let gw = &gw;
                    move || {
                        let mut brief = gw.line("up", "brief");
                        assert!((0..3).all(|_| brief.call("1").status == 200));
                        assert_eq!(gw.line("up", tool).call("1").status, 200);
                    }
                };
                (0..BEFORE).for_each(|_| drop(scope.spawn(call("first"))));
                eventually("all are in flight", || inside(&places).iter().sum::<usize>() == BEFORE);
                assert!(is_even(&inside(&places)), "{line}: {:?}", inside(&places));

                let returned = go_and_come_back(&gw, &places);
                // One after another, so that each is chosen by what all before it have become.
                for call_number in 1..=AFTER {
                    scope.spawn(|| assert_eq!(gw.line("up", "second").call("1").status, 200));
                    let sum = || inside(&places).iter().sum::<usize>();
                    eventually("one more is in flight", || sum() == BEFORE - 12 + call_number);
                }
                let age_ms = returned.elapsed().as_millis();
                let now = inside(&places);
                match line {
                    "slowStart: 1h" => assert!((1..=2).contains(&now[2]), "{now:?}"),
                    "slowStart: 1ms" => assert!(is_even(&now), "{now:?}"),
                    _ => assert!(now[2] <= most(age_ms), "{now:?}, {age_ms} ms after it came back"),
                }
                assert!(now[0].abs_diff(now[1]) <= 1, "{line}: {now:?}");
                places.iter().for_each(|place| place.first.open());
                second.open();
            });
        }
    });
}

/// The last instance goes, its calls end, and it comes back: not before the moment that is returned.
fn go_and_come_back(gw: &Gateway, places: &[Place; 3]) -> Instant {
    let [first, _, last] = places;
    let warms_up = |place: &Place| {
        let labels = ["server=\"up\"", &place.up.address.to_string()];
        gw.metric("ringgate_instance_slow_start", &labels)
    };
    assert_eq!(warms_up(last), 0.0, "nobody is new at the start");
    last.sick.turn(1);
    eventually("it is out", || is_up(gw, &last.up) == 0.0);
    last.first.open();
    eventually("it is empty", || last.inside.now() == 0);
    assert!(is_even(&inside(&places[..2])), "{:?}", inside(places));
    let returned = Instant::now();
    last.sick.turn(0);
    eventually("it is back", || is_up(gw, &last.up) == 1.0);
    let is_warm = || warms_up(last) == 0.0;
    if std::fs::read_to_string(&gw.config).unwrap().contains("slowStart: 1ms") {
        eventually("it is warm", is_warm);
    } else {
        assert!(!is_warm() || returned.elapsed().as_millis() >= DEFAULT_MS);
        assert_eq!(warms_up(first), 0.0);
    }
    returned
}

/// Calls that an instance may have `age_ms` after it came back, of 42 on three: what its share has become is more than
/// it was for any of them.
fn most(age_ms: u128) -> usize {
    let share = (100 + 900 * age_ms / DEFAULT_MS).min(1_000) as usize;
    // As if all of them had come with that share; one for what was owed, and one for what is rounded.
    if share == 1_000 { AFTER } else { AFTER * share / (2_000 + share) + 2 }
}
