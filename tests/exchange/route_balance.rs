//! Feature `balance`: which instance gets a call, by each of the five kinds, and that load reports stay here.
//!
//! Not here: instances that are out (route_health, route_breaker), pools (route_failover).

use crate::support::conduct::Dial;
use crate::support::conduct::alive;
use crate::support::conduct::delayed;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::line::Line;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::script::Script;
use crate::support::size;
use crate::support::upstream::Connection;
use crate::support::upstream::Next;
use crate::support::upstream::Received;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::support::within;
use std::sync::Arc;
use std::time::Duration;

const KINDS: [&str; 5] = ["roundRobin", "weighted", "leastConnections", "twoChoices", "resource"];

fn echoes(count: usize) -> Vec<Upstream> {
    (0..count).map(|_| upstream().tool("echo").run()).collect()
}

fn each(ups: &[Upstream]) -> Vec<&Upstream> {
    ups.iter().collect()
}

/// Calls since the last time, by instance.
fn shares(ups: &[Upstream]) -> Vec<usize> {
    let is_call = |request: &Received| request.envelope().method == "tools/call";
    ups.iter().map(|up| up.take_requests().iter().filter(|request| is_call(request)).count()).collect()
}

fn make(caller: &mut Line, calls: usize) {
    for _ in 0..calls {
        assert_eq!(caller.call("1").status, 200);
    }
}

/// Round robin, the default: a third each, and the metric says the same.
#[test]
fn balance() {
    let calls = size(900, 9_000);
    everywhere(|run| {
        for line in ["balance: roundRobin", "era: auto"] {
            let ups = echoes(3);
            let gw = run.gateway().over("up", &each(&ups), &[line]).run();
            make(&mut gw.line("up", "echo"), calls);
            let shares = shares(&ups);
            assert!(shares.iter().all(|share| share.abs_diff(calls / 3) <= 1), "{line}: {shares:?}");
            for (up, share) in ups.iter().zip(shares) {
                let counted = || {
                    let labels = ["server=\"up\"", &up.address.to_string()];
                    gw.metric("ringgate_upstream_requests_total", &labels)
                };
                eventually("the metric tells it", || counted() == share as f64);
            }
        }
    });
}

/// Over many connections: one more or less for each worker.
#[test]
fn balance_round_robin_over_many_connections() {
    everywhere(|run| {
        let ups = echoes(3);
        let gw = run.gateway().workers(2).over("up", &each(&ups), &["balance: roundRobin"]).run();
        together(12, |_| make(&mut gw.line("up", "echo"), 25));
        let shares = shares(&ups);
        assert!(shares.iter().all(|share| share.abs_diff(100) <= 2), "{shares:?}");
    });
}

/// One instance ten times slower, 64 calls at once: it gets less than 15 of 100.
#[test]
fn balance_least_connections() {
    let each_makes = size(20, 100);
    everywhere(|run| {
        for kind in ["leastConnections", "twoChoices"] {
            let of = |millis| upstream().on("x", delayed(&Dial::at(millis))).run();
            let ups = [of(40), of(400), of(40)];
            let line = format!("balance: {kind}");
            let gw = run.gateway().over("up", &each(&ups), &[&line]).run();
            together(64, |_| make(&mut gw.line("up", "x"), each_makes));
            let shares = shares(&ups);
            assert_eq!(shares.iter().sum::<usize>(), 64 * each_makes);
            assert!(shares[1] * 100 < 15 * 64 * each_makes, "{kind}: {shares:?}");
            assert!(shares[1] > 0, "{kind}: {shares:?}");
            let even = shares[0].min(shares[2]) * 3 > shares[0].max(shares[2]) * 2;
            assert!(even, "{kind}: equal instances differ: {shares:?}");
        }
    });
}

#[test]
fn balance_weighted() {
    let calls = size(1_000, 10_000);
    everywhere(|run| {
        let ups = echoes(3);
        let with = |(up, weight): (&Upstream, u32)| format!("{{url: \"{}\", weight: {weight}}}", up.url);
        let list: Vec<String> = ups.iter().zip([5, 3, 2]).map(with).collect();
        let list = format!("instances: [{}]", list.join(", "));
        let gw = run.gateway().server("up", &["balance: weighted", &list]).run();
        make(&mut gw.line("up", "echo"), calls);
        let shares = shares(&ups);
        for (share, weight) in shares.iter().zip([5, 3, 2]) {
            assert!(share.abs_diff(calls * weight / 10) <= calls / 100, "{shares:?}");
        }
        // Interleaved, not in blocks: ten in a row already have these shares.
        make(&mut gw.line("up", "echo"), 10);
        let shares = self::shares(&ups);
        assert!(
            shares.iter().zip([5, 3, 2]).all(|(share, weight)| share.abs_diff(weight) <= 1),
            "{shares:?}"
        );
    });
}

/// An instance that reports as many hundredths of its processors in use as the dial says, on answers of `script`;
/// 0: no report.
fn reporting(load: &Dial, form: fn(u64) -> String, script: Script) -> Script {
    let load = load.clone();
    script::script(move |connection, request| {
        if load.value() == 0 {
            return script(connection, request);
        }
        let body = match request.envelope().method.as_str() {
            "tools/call" => script::echo_result(request),
            _ => return report_of_a_probe(connection, request, &form(load.value())),
        };
        let head = format!("HTTP/1.1 200 OK\r\nendpoint-load-metrics: {}\r\n", form(load.value()));
        let head = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        script::send(connection, &[head.as_bytes(), body.as_bytes()].concat())
    })
}

fn report_of_a_probe(connection: &mut Connection, request: &Received, report: &str) -> Next {
    let result = serde_json::json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"});
    let body = script::result(request, &result);
    let head = format!("HTTP/1.1 200 OK\r\nEndpoint-Load-Metrics: {report}\r\n");
    let head = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    script::send(connection, &[head.as_bytes(), body.as_bytes()].concat())
}

fn in_text(hundredths: u64) -> String {
    format!("TEXT cpu_utilization={:.2}", hundredths as f64 / 100.0)
}

fn in_json(hundredths: u64) -> String {
    format!("JSON {{\"mem_utilization\": 0.5, \"cpu_utilization\": {:.2}}}", hundredths as f64 / 100.0)
}

const INTERVAL: Duration = Duration::from_millis(500);
const PROBED: &str = "health: {interval: 500ms, timeout: 400ms}";

/// The instance that says 0.9 gets less than half of its neighbours' share within two probe intervals, by reports on
/// answers or on probes; once it says nothing more, it is like the others.
#[test]
fn balance_resource() {
    everywhere(|run| {
        let era = format!("era: {:?}", run.era).to_lowercase();
        for (on_calls, form) in [(true, in_text as fn(u64) -> String), (true, in_json), (false, in_text)] {
            let loads = [Dial::at(10), Dial::at(10), Dial::at(10)];
            let of = |load: &Dial| {
                let probed = if on_calls { alive() } else { reporting(load, form, alive()) };
                let called = if on_calls { reporting(load, form, script::echo()) } else { script::echo() };
                upstream().on("x", called).probed(probed).run()
            };
            let ups: Vec<Upstream> = loads.iter().map(of).collect();
            let gw =
                run.gateway().workers(1).over("up", &each(&ups), &["balance: resource", PROBED, &era]).run();
            let mut caller = gw.line("up", "x");
            let mut now = || {
                make(&mut caller, 30);
                shares(&ups)
            };
            let even = |shares: &[usize]| shares.iter().all(|share| share.abs_diff(10) <= 2);
            let probed = || ups.iter().all(|up| up.count("server/discover") + up.count("ping") > 0);
            eventually("every instance has reported", || on_calls || probed());
            eventually("equal loads, equal shares", || even(&now()));
            loads[0].turn(90);
            let shunned = |shares: &[usize]| shares[0] * 2 < shares[1] && shares[0] * 2 < shares[2];
            // Twice in a row: what a change of weights leaves behind may look like it for a moment.
            assert!(within(INTERVAL * 2, || shunned(&now()) && shunned(&now())), "{on_calls}: {:?}", now());
            loads.iter().for_each(|load| load.turn(0));
            eventually("old reports are forgotten", || even(&now()));
        }
    });
}

/// A report that says nothing is no report: equal shares, and nobody falls over.
#[test]
fn balance_resource_ignores_what_is_no_report() {
    let forms: [fn(u64) -> String; 6] = [
        |_| "TEXT".into(),
        |_| "TEXT cpu_utilization=nan".into(),
        |_| "TEXT cpu_utilization=much".into(),
        |_| "JSON {\"cpu_utilization\": \"much\"".into(),
        |_| "BIN !!!".into(),
        |_| "x".repeat(2_000),
    ];
    on_every_driver(|run| {
        for form in forms {
            let loads = [Dial::at(1), Dial::at(0)];
            let of = |load: &Dial| upstream().on("x", reporting(load, form, script::echo())).run();
            let ups: Vec<Upstream> = loads.iter().map(of).collect();
            let gw = run.gateway().workers(1).over("up", &each(&ups), &["balance: resource"]).run();
            make(&mut gw.line("up", "x"), 20);
            let shares = shares(&ups);
            assert!(shares.iter().all(|share| share.abs_diff(10) <= 2), "{}: {shares:?}", form(1));
        }
    });
}

/// An answer with load reports in its head, in both forms.
fn reported(start: &'static str, body: impl Fn(&Received) -> String + Send + Sync + 'static) -> Script {
    const REPORTS: &str =
        "endpoint-load-metrics: TEXT cpu_utilization=0.31\r\nEndpoint-Load-Metrics-Bin: CQAAAAAAANA/\r\n";
    script::script(move |connection, request| {
        let body = body(request);
        let length = body.len();
        let head = format!("HTTP/1.1 {start}\r\n{REPORTS}Content-Length: {length}\r\n\r\n");
        script::send(connection, format!("{head}{body}").as_bytes())
    })
}

/// A load report is between the instance and the gateway, whatever the kind of balance and of answer.
#[test]
fn balance_shows_no_load_report_to_agents() {
    let plain = reported("200 OK\r\nContent-Type: application/json", script::echo_result);
    let event = |request: &Received| format!("data: {}\n\n", script::echo_result(request));
    let stream = reported("200 OK\r\nContent-Type: text/event-stream", event);
    let failed = reported("500 Oh\r\nContent-Type: text/plain", |_| "inside".into());
    let refused = reported("404 Oh\r\nContent-Type: text/plain", |_| "inside".into());
    everywhere(|run| {
        for kind in KINDS {
            let build = || {
                let up = upstream().on("plain", Arc::clone(&plain)).on("stream", Arc::clone(&stream));
                up.on("failed", Arc::clone(&failed)).on("refused", Arc::clone(&refused)).run()
            };
            let ups = [build(), build()];
            let line = format!("balance: {kind}");
            let gw = run.gateway().over("up", &each(&ups), &[&line]).run();
            for tool in ["plain", "stream", "failed", "refused"] {
                let answer = gw.line("up", tool).call("1");
                for name in ["endpoint-load-metrics", "endpoint-load-metrics-bin"] {
                    assert!(answer.head.all(name).is_empty(), "{kind} {tool}: {answer:?}");
                }
            }
            assert_eq!(shares(&ups).iter().sum::<usize>(), 4, "{kind}");
        }
    });
}
