//! Feature `faults`: failures that the operator asks for, only where `run` allows them.
//!
//! Not here: upstreams that fail by themselves (faults).

use crate::support::Run;
use crate::support::call::Call;
use crate::support::client::Broken;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::http2::Http2;
use crate::support::http2::INTERNAL_ERROR;
use crate::support::line::Line;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::place::PLAIN;
use crate::support::place::Place;
use crate::support::script;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::time::Duration;
use std::time::Instant;

fn with_faults(run: Run, place: Place, faults: &str) -> (Upstream, Gateway) {
    let up = place.upstream().tool("get_x").tool("charge").run();
    let line = format!("faults: {faults}");
    let lines = [line.as_str(), "breaker: off", place.era()];
    let gw = run.gateway().flag("--allow-faults").with("up", &up, &lines).run();
    (up, gw)
}

/// What `Ringgate-Fault` says of each of so many calls in a row on one connection.
fn drawn(gw: &Gateway, tool: &str, calls: usize) -> Vec<Option<String>> {
    let mut caller = gw.line("up", tool);
    let one = |_| caller.call("1").head.field("ringgate-fault").map(str::to_owned);
    (0..calls).map(one).collect()
}

/// Half of the calls, within 2 in 100 of 10,000, are delayed; all are answered, and say so.
#[test]
fn faults() {
    let (threads, each, off) = size((4, 250, 5), (10, 1_000, 2));
    everywhere(|run| {
        let (up, gw) = with_faults(run, PLAIN, "[{tools: [\"get_*\"], ratio: 0.5, delay: 1ms}]");
        let all: Vec<_> = together(threads, |_| drawn(&gw, "get_x", each)).into_iter().flatten().collect();
        let hit = all.iter().filter(|fault| fault.is_some()).count();
        assert!(all.iter().flatten().all(|fault| fault == "delay"), "{all:?}");
        let calls = threads * each;
        assert!(hit.abs_diff(calls / 2) * 100 <= off * calls, "{hit} of {calls}");
        assert_eq!(up.calls(), calls, "a delayed call was lost or doubled");
    });
}

/// The delay is real, and calls without it are as quick as ever.
#[test]
fn faults_delay_by_what_they_say() {
    everywhere(|run| {
        let (up, gw) = with_faults(run, PLAIN, "[{tools: [\"get_*\"], ratio: 0.5, delay: 300ms}]");
        let mut caller = gw.line("up", "get_x");
        let mut quick = Vec::new();
        for _ in 0..20 {
            let call = caller.next();
            let start = Instant::now();
            let answer = caller.make(&call).unwrap();
            let took = start.elapsed();
            assert!(answer.status == 200 && answer.text().contains(&call.token), "{answer:?}");
            match answer.head.field("ringgate-fault") {
                Some(_) => assert!(took >= Duration::from_millis(250), "{took:?}"),
                None => quick.push(took),
            }
        }
        assert!(quick.iter().min().unwrap() < &Duration::from_millis(100), "{quick:?}");
        assert_eq!(up.calls(), 20);
    });
}

/// A share is refused with the status that is said, and its calls never arrive.
#[test]
fn faults_refuse() {
    everywhere(|run| {
        let (up, gw) = with_faults(run, PLAIN, "[{tools: [\"get_*\"], ratio: 0.5, status: 503}]");
        let mut caller = gw.line("up", "get_x");
        let mut refused = 0;
        for _ in 0..100 {
            let call = caller.next();
            let answer = caller.make(&call).unwrap();
            let said = answer.head.field("ringgate-fault").is_some();
            assert_eq!((answer.status, said), if said { (503, true) } else { (200, false) });
            assert_eq!(up.with(&call.token).len(), usize::from(!said));
            refused += usize::from(said);
        }
        assert!((30..=70).contains(&refused), "{refused} of 100");
    });
}

/// Whether the call was cut, visibly; else it is answered, and whole.
#[track_caller]
fn is_cut(caller: &mut Line, call: &Call) -> bool {
    match caller.make(call) {
        Ok(answer) => {
            assert!(answer.status == 200 && answer.text().contains(&call.token), "{answer:?}");
            assert!(answer.head.field("ringgate-fault").is_none(), "{answer:?}");
            false
        }
        Err(Broken::Closed | Broken::Cut { .. } | Broken::Reset(_)) => true,
        Err(broken) => panic!("{broken:?}"),
    }
}

/// A share is cut, visibly: no answer looks whole that is not, in whatever words it comes.
#[test]
fn faults_cut() {
    everywhere(|run| {
        for place in run.places() {
            let (_up, gw) = with_faults(run, place, "[{tools: [\"get_*\"], ratio: 0.5, cut: true}]");
            let mut caller = place.line(&gw, "get_x");
            let mut cut = 0;
            for _ in 0..100 {
                let call = caller.next();
                cut += usize::from(is_cut(&mut caller, &call));
            }
            assert!((30..=70).contains(&cut), "{place:?}: {cut} of 100");
        }
    });
}

/// One message, a stream, a refusal with no body whose head would be all of it: each is cut, and arrived.
#[test]
fn faults_cut_whatever_the_answer_is() {
    everywhere(|run| {
        for place in run.places() {
            let up = place
                .upstream()
                .tool("get_one")
                .on("get_many", script::stream(3))
                .on("get_nothing", script::bytes("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
            let up = up.tool("charge").run();
            let line = "faults: [{tools: [\"get_*\"], ratio: 1, cut: true}]";
            let lines = [line, "breaker: off", place.era()];
            let gw = run.gateway().flag("--allow-faults").with("up", &up, &lines).run();
            for tool in ["get_one", "get_many", "get_nothing"] {
                let mut caller = place.line(&gw, tool);
                for _ in 0..3 {
                    let call = caller.next();
                    assert!(is_cut(&mut caller, &call), "{place:?} {tool}");
                    up.once(&call.token);
                }
            }
            let mut caller = place.line(&gw, "charge");
            let call = caller.next();
            assert!(!is_cut(&mut caller, &call), "{place:?}");
        }
    });
}

/// To HTTP/2 a cut is a reset of the stream, and of no other.
#[test]
fn faults_cut_one_stream_of_http2() {
    everywhere(|run| {
        for place in run.places() {
            let (_up, gw) = with_faults(run, place, "[{tools: [\"get_*\"], ratio: 1, cut: true}]");
            let (cut, whole) = (place.call(&gw, "get_x"), place.call(&gw, "charge"));
            let mut client = Http2::connect(gw.address).greeted();
            client.call(&cut).is_reset(INTERNAL_ERROR);
            client.call(&whole).is_whole(200);
        }
    });
}

/// What a list hides is cut as any other answer.
#[test]
fn faults_cut_a_list_that_is_looked_through() {
    everywhere(|run| {
        let up = upstream().tool("get_x").tool("charge").run();
        let lines = ["faults: [{tools: [\"*\"], ratio: 1, cut: true}]", "breaker: off"];
        let gw = run
            .gateway()
            .flag("--allow-faults")
            .access("name: all, allow: [\"up.get_*\"]")
            .with("up", &up, &lines);
        let gw = gw.run();
        let outcome = gw.client().talk(&gw.request("up", "tools/list").raw().bytes());
        assert!(matches!(outcome, Err(Broken::Cut { .. } | Broken::Reset(_))), "{outcome:?}");
        assert!(up.count("tools/list") > 0);
    });
}

/// All of the calls that the pattern names, none of the others.
#[test]
fn faults_hit_whom_they_name() {
    everywhere(|run| {
        let (up, gw) = with_faults(run, PLAIN, "[{tools: [\"get_*\"], ratio: 1, status: 503}]");
        assert!(drawn(&gw, "get_x", 50).iter().all(Option::is_some));
        assert_eq!(up.calls(), 0);
        assert!(drawn(&gw, "charge", 50).iter().all(Option::is_none));
    });
}

/// The same calls are hit in every run of the same gateway: a failure that was seen can be seen again.
#[test]
fn faults_hit_the_same_calls_again() {
    everywhere(|run| {
        let drawn_anew = || {
            let up = upstream().tool("get_x").run();
            let faults = "faults: [{tools: [\"get_*\"], ratio: 0.5, delay: 1ms}]";
            let gw = run.gateway().workers(1).flag("--allow-faults").with("up", &up, &[faults]).run();
            drawn(&gw, "get_x", 64)
        };
        let (first, second) = (drawn_anew(), drawn_anew());
        assert_eq!(first, second);
        assert!(first.iter().any(Option::is_some) && first.iter().any(Option::is_none));
    });
}

/// Without the flag such a config is no config: neither at the start nor by a reload.
#[test]
fn faults_need_to_be_allowed() {
    const LINE: &str = "faults: [{tools: [\"*\"], ratio: 1, status: 503}]";
    on_every_driver(|run| {
        let up = upstream().tool("get_x").run();
        let builder = run.gateway().with("up", &up, &[LINE]);
        let command = builder.command();
        let (code, stderr) = builder.start(command).err().expect("it started");
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("faults") && stderr.contains("--allow-faults"), "{stderr}");

        let gw = run.gateway().with("up", &up, &["headers: {X-Plan: one}"]).run();
        let yaml = std::fs::read_to_string(&gw.config).unwrap();
        gw.rewrite(&yaml.replace("headers: {X-Plan: one}", LINE));
        eventually("the reload is rejected", || gw.reloads("rejected") == 1.0);
        assert_eq!(gw.line("up", "get_x").call("1").status, 200);
        eventually("it is told why", || gw.stderr().contains("--allow-faults"));
    });
}
