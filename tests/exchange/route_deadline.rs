//! Feature `deadline`: a caller's own time lowers `total`, is handed on, and what it wasted is told.
//!
//! Not here: the operator's timeouts (route_timeouts).

use crate::support::client::Answer;
use crate::support::conduct::Dial;
use crate::support::conduct::delayed;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::Line;
use crate::support::pace;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::time::Duration;
use std::time::Instant;

fn with_deadline(caller: &mut Line, millis: u64) -> (Answer, Duration) {
    let call = caller.next().field(format!("Ringgate-Deadline: {millis}"));
    let start = Instant::now();
    (caller.make(&call).unwrap(), start.elapsed())
}

/// A deadline lowers `total` and raises none; the upstream call ends with it.
#[test]
fn deadline() {
    everywhere(|run| {
        let (mute, gone) = script::watched(b"");
        let up = upstream().on("x", mute).on("soon", delayed(&Dial::at(300))).run();
        let gw = run.gateway().with("up", &up, &["timeout: {total: 600ms}", "breaker: off"]).run();
        let mut caller = gw.line("up", "x");
        let mut over = Vec::new();
        for _ in 0..5 {
            let (answer, took) = with_deadline(&mut caller, 250);
            let told = Instant::now();
            answer.refused(504, "upstream_timeout");
            assert!(took >= Duration::from_millis(245), "early: {took:?}");
            let cancelled = gone.recv_timeout(Duration::from_secs(2)).expect("not cancelled");
            over.push(
                took.saturating_sub(Duration::from_millis(250))
                    .max(cancelled.saturating_duration_since(told)),
            );
        }
        assert!(over.iter().min().unwrap() <= &Duration::from_millis(50), "{over:?}");
        let (answer, took) = with_deadline(&mut caller, 60_000);
        answer.refused(504, "upstream_timeout");
        assert!(took < Duration::from_secs(3), "a deadline raised the total: {took:?}");
        let (answer, _) = with_deadline(&mut gw.line("up", "soon"), 5_000);
        assert_eq!(answer.status, 200);
    });
}

/// `Ringgate-Deadline` of the request that the upstream got for this call.
fn handed_on(gw: &Gateway, up: &Upstream, field: &str) -> Option<u64> {
    let mut caller = gw.line("up", "echo");
    let call = caller.next().field(field);
    assert_eq!(caller.make(&call).unwrap().status, 200);
    let head = up.once(&call.token).head;
    head.field("ringgate-deadline").map(|left| left.parse().unwrap())
}

/// With `forward` the upstream is told what is left, of the deadline or of the total, whichever is less.
#[test]
fn deadline_is_handed_on() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().with("up", &up, &["timeout: {total: 8s, forward: true}"]).run();
        for (field, most) in
            [("Ringgate-Deadline: 1500", 1500), ("Ringgate-Deadline: 60000", 8000), ("X-None: 1", 8000)]
        {
            let left = handed_on(&gw, &up, field).expect("no deadline handed on");
            assert!((most - 200..=most).contains(&left), "{field}: {left}");
        }
    });
}

/// What was spent on a first attempt is not there any more for the second.
#[test]
fn deadline_is_handed_on_less_what_we_spent() {
    everywhere(|run| {
        let dies = script::script(|_, _| {
            pace(Duration::from_millis(300));
            Next::Close
        });
        let (sick, well) = (upstream().on("get_x", dies).run(), upstream().tool("get_x").run());
        let lines =
            ["timeout: {total: 8s, forward: true}", "idempotent: [\"get_*\"]", "retry: {max: 1, budget: 1}"];
        let gw = run.gateway().workers(1).over("up", &[&sick, &well], &lines).run();
        let mut caller = gw.line("up", "get_x");
        let mut told = Vec::new();
        for _ in 0..4 {
            let call = caller.next().field("Ringgate-Deadline: 3000");
            assert_eq!(caller.make(&call).unwrap().status, 200);
            let left = |up: &Upstream| {
                let request = up.with(&call.token).pop()?;
                request.head.field("ringgate-deadline").map(|left| left.parse::<u64>().unwrap())
            };
            if let Some(first) = left(&sick) {
                told.push((first, left(&well).expect("not told again")));
            }
        }
        assert!(!told.is_empty(), "never at the sick one first");
        for (first, second) in told {
            assert!((2_900..=3_000).contains(&first), "{first}");
            assert!((2_400..=2_705).contains(&second), "{second}, of which 300 ms were spent");
        }
    });
}

/// Upstream time that nobody waited for is counted.
#[test]
fn deadline_counts_wasted_time() {
    everywhere(|run| {
        let (mute, _gone) = script::watched(b"");
        let up = upstream().on("x", mute).tool("echo").run();
        let gw = run.gateway().with("up", &up, &["breaker: off"]).run();
        let wasted = || gw.metric("ringgate_wasted_seconds_total", &["server=\"up\""]);
        assert_eq!(gw.line("up", "echo").call("1").status, 200);
        assert_eq!(wasted(), 0.0);
        for count in 1..=3 {
            with_deadline(&mut gw.line("up", "x"), 200).0.refused(504, "upstream_timeout");
            let (least, most) = (0.19 * f64::from(count), 0.6 * f64::from(count));
            eventually("it is counted", || (least..most).contains(&wasted()));
        }
    });
}
