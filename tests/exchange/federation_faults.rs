//! Servers behind a hub that are down, odd, or not there yet: nobody else is harmed, and the caller is told what is
//! missing.
//!
//! Not here: breakers and retries as such (route_*), sessions (federation_sessions).

use crate::federation::Lister;
use crate::federation::tools;
use crate::support::Era;
use crate::support::Gate;
use crate::support::Run;
use crate::support::call::MODERN;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::is_quick;
use crate::support::on_every_driver;
use crate::support::reserved::Reserved;
use crate::support::script;
use crate::support::shelf::LISTS;
use crate::support::shelf::Shelf;
use crate::support::size;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

/// A breaker that opens soon.
const BREAKER: &str = "breaker: {window: 10, failureRatio: 0.5, minCalls: 2, open: 1m}";

/// Half of what was measured is less.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Lists `times` times: every list is whole, and says what is missing; how long one takes.
#[track_caller]
fn lists(lister: &mut Lister, names: &[&str], missing: &[&str], times: usize) -> Duration {
    let one = |_| {
        let begun = Instant::now();
        let answer = lister.ask(0);
        let took = begun.elapsed();
        let result = &answer.json()["result"];
        let listed: Vec<&str> = result["tools"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer:?}"))
            .iter()
            .map(|tool| tool["name"].as_str().unwrap())
            .collect();
        assert_eq!(listed, names, "{answer:?}");
        let expected = if missing.is_empty() { json!(null) } else { json!(missing) };
        assert_eq!(result["_meta"]["io.ringgate/missing"], expected, "{answer:?}");
        took
    };
    median((0..times).map(one).collect())
}

/// Feature: one server down: the list has the other's tools, says what is missing, and takes no longer than 50 ms; a call
/// to the dead one is 503 at once; the other is not touched by it.
#[test]
fn isolation() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let dead = Reserved::new();
        let gw = run.gateway().to("up", &up).server("db", &[&dead.url(), BREAKER]).run();
        let mut lister = Lister::new(gw.caller(""));
        lists(&mut lister, &["up__echo"], &["db"], 1);
        is_quick(Duration::from_millis(50), || lists(&mut lister, &["up__echo"], &["db"], 9));
        let mut times = Vec::new();
        for number in 0..12 {
            let call = lister.caller().tool("db__query");
            let begun = Instant::now();
            let answer = lister.caller().send(&call);
            answer.refused(503, "upstream_unavailable");
            assert_eq!(answer.code(), -33503);
            assert_eq!(answer.json()["id"], 1);
            if number >= 4 {
                times.push(begun.elapsed());
            }
            lister.caller().passes("up__echo");
        }
        // 5 ms of what users run, with nothing beside it.
        let bound = Duration::from_millis(size(25, 5));
        let took = median(times);
        assert!(took < bound, "{took:?}");
    });
}

/// Feature: a server that accepts and keeps silent holds up the first list for no longer than the wait for a catalogue,
/// and the others not at all.
#[test]
fn isolation_of_a_silent_server() {
    everywhere(|run| {
        let gate = Gate::default();
        let silent = upstream()
            .every(script::script(|connection, _| {
                connection.until_gone();
                crate::support::upstream::Next::Close
            }))
            .run();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).to("db", &silent).run();
        // 2 s, and what a busy machine takes.
        let bound = Duration::from_millis(size(6_000, 2_500));
        let begun = Instant::now();
        let mut lister = Lister::new(gw.caller(""));
        lists(&mut lister, &["up__echo"], &["db"], 1);
        let first = begun.elapsed();
        assert!(first < bound, "{first:?}");
        is_quick(Duration::from_millis(50), || lists(&mut lister, &["up__echo"], &["db"], 5));
        lister.caller().passes("up__echo");
        gate.open();
    });
}

/// Feature: all down is an error, never an empty list; so is a hub of one server.
#[test]
fn isolation_all_down() {
    everywhere(|run| {
        let dead = [Reserved::new(), Reserved::new()];
        let gw = run
            .gateway()
            .top("virtualServers: {v: {tools: [\"a.*\"]}}")
            .server("a", &[&dead[0].url()])
            .server("b", &[&dead[1].url()])
            .run();
        for endpoint in ["", "v"] {
            let like = gw.request(endpoint, "tools/list").in_session();
            for (method, ..) in LISTS {
                let call = crate::support::call::Call { method: method.into(), ..like.again() };
                let answer = call.send();
                answer.refused(503, "upstream_unavailable");
                assert!(answer.head.field("retry-after").is_some(), "{answer:?}");
            }
        }
    });
}

/// The same where all fail in one way, which is the error then: 504 of those that are silent, 502 of those whose answers are
/// no lists. Where they differ it is 503.
#[test]
fn isolation_all_down_for_one_cause() {
    everywhere(|run| {
        let gate = Gate::default();
        let waits = script::echo_behind(&gate);
        let silent = || upstream().method("tools/list", waits.clone()).run();
        let odd = script::script(|connection, _| script::send(connection, &script::plain(200, "{")));
        let unfit = || upstream().method("tools/list", odd.clone()).run();
        let sick = script::script(|connection, _| script::send(connection, &script::plain(500, "")));
        let down = || upstream().method("tools/list", sick.clone()).run();
        for (first, second, status, reason) in [
            (silent(), silent(), 504, "upstream_timeout"),
            (unfit(), unfit(), 502, "upstream_protocol"),
            (down(), down(), 503, "upstream_unavailable"),
            (unfit(), silent(), 503, "upstream_unavailable"),
        ] {
            let gw = run.gateway().to("a", &first).to("b", &second).run();
            // The second time nobody waits for what is known to fail.
            let like = gw.request("", "tools/list").in_session();
            for _ in 0..2 {
                like.again().send().refused(status, reason);
            }
        }
        gate.open();
    });
}

/// What a server is, is told while it is down, too, where it is known: a client that gets an error for it takes the server for
/// one of the older revisions, some for good. While it answers, every byte is its own.
#[test]
fn regression_discovery_of_a_server_that_is_down() {
    on_every_driver(|run| {
        let run = Run { era: Era::Modern, ..run };
        let place = Reserved::new();
        let shelf = Shelf::of(&["one"]);
        let up = upstream().only(Era::Modern).shelf(&shelf).run();
        let gw = run.gateway().with("up", &up, &[BREAKER]);
        let gw = gw.server("never", &[&place.url()]).run();
        assert_eq!(tools(&gw, ""), ["up__one"]);
        let discover = |server: &str| gw.request(server, "server/discover");
        let well = discover("up");
        let token = well.token.clone();
        assert_eq!(well.send().json()["result"]["ttlMs"], 3_600_000);
        up.once(&token);
        up.stop();
        // Refused connections first, then a breaker that is open.
        for _ in 0..10 {
            let answer = discover("up").send();
            assert_eq!(answer.status, 200, "{answer:?}");
            let result = &answer.json()["result"];
            assert!(result["capabilities"]["tools"].is_object(), "{answer:?}");
            assert_eq!(result["supportedVersions"][0], MODERN, "{answer:?}");
        }
        gw.call("up", "one").send().refused(503, "upstream_unavailable");
        // Without a body: a client that reads none is as wise as before.
        let unknown = discover("never").send();
        assert_eq!((unknown.status, unknown.text()), (503, String::new()));
    });
}

/// Feature, agentgateway #1266: the same session goes on when one of its servers dies, and when it is back.
#[test]
fn agentgateway_1266_dead_backend_isolated() {
    everywhere(|run| {
        let (up, db) = (upstream().tool("echo").run(), upstream().tool("query").run());
        let gw = run.gateway().to("up", &up).with("db", &db, &[BREAKER]).run();
        let mut agent = Lister::new(gw.caller(""));
        assert_eq!(agent.tools(), ["up__echo", "db__query"]);
        agent.caller().passes("db__query");
        db.stop();
        for _ in 0..3 {
            let call = agent.caller().tool("db__query");
            let answer = agent.caller().send(&call);
            assert!(matches!(answer.status, 502 | 503), "{answer:?}");
            assert!(answer.code() < -33000, "{answer:?}");
            agent.caller().passes("up__echo");
            // What was listed is still served.
            assert_eq!(agent.tools(), ["up__echo", "db__query"]);
        }
    });
}

/// Feature: what cannot be listed again is served as it was, and marked; when the server is back the mark goes.
#[test]
fn isolation_serves_what_was_listed() {
    everywhere(|run| {
        let sick = crate::support::conduct::Dial::default();
        let shelf = Shelf::of(&["a"]).fresh_for(1000, "public");
        let listing = {
            let (sick, well) = (sick.clone(), upstream_list(&shelf));
            crate::support::conduct::sick_at_1(&sick, well)
        };
        let up = upstream().tool("a").shelf(&shelf).method("tools/list", listing).run();
        let well = upstream().tool("b").run();
        let gw = run.gateway().to("up", &up).to("well", &well).run();
        let mut lister = Lister::new(gw.caller(""));
        assert_eq!(lister.tools(), ["up__a", "well__b"]);
        sick.turn(1);
        let stale = |lister: &mut Lister| lister.result(0)["_meta"]["io.ringgate/stale"].clone();
        eventually("the list is marked as old", || stale(&mut lister) == json!(["up"]));
        assert_eq!(lister.tools(), ["up__a", "well__b"]);
        lister.caller().passes("up__a");
        shelf.set(0, &["a", "new"]);
        sick.turn(0);
        eventually("it is listed again", || lister.tools() == ["up__a", "up__new", "well__b"]);
        assert!(stale(&mut lister).is_null());
    });
}

/// What a shelf answers to `tools/list`.
fn upstream_list(shelf: &Shelf) -> script::Script {
    shelf.script(0)
}

/// The first list after a start, with nothing asked before.
#[track_caller]
fn first_list(gw: &Gateway) -> Vec<String> {
    tools(gw, "")
}

/// Feature, Bifrost #4998: the first list after a start, and after a server came back, has its tools.
#[test]
fn bifrost_4998_tools_after_restart() {
    everywhere(|run| {
        let slow = script::script(|connection, request| {
            crate::support::pace(Duration::from_millis(300));
            script::list(connection, request, &["late".to_owned()], 1)
        });
        let up = upstream().method("tools/list", slow).run();
        let well = upstream().tool("echo").run();
        let mut gw = run.gateway().to("up", &up).to("well", &well).run();
        assert_eq!(first_list(&gw), ["up__late", "well__echo"], "it did not wait");
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
            gw.restart(signal);
            assert_eq!(first_list(&gw), ["up__late", "well__echo"]);
        }
    });
}

/// A server that comes up after the gateway is listed soon, without a restart.
#[test]
fn bifrost_4998_tools_after_a_server_begins() {
    everywhere(|run| {
        let place = Reserved::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).server("late", &[&place.url()]).run();
        let mut lister = Lister::new(gw.caller(""));
        lists(&mut lister, &["up__echo"], &["late"], 1);
        let late: Upstream = upstream().tool("here").run_on(place.listen());
        eventually("it is listed", || lister.tools() == ["up__echo", "late__here"]);
        assert!(lister.result(0)["_meta"]["io.ringgate/missing"].is_null());
        lister.caller().passes("late__here");
        assert_eq!(late.calls(), 1);
    });
}

/// A server whose answer to a list is rubbish is missing; it does not spoil the others, whatever it says.
#[test]
fn isolation_of_a_server_that_talks_rubbish() {
    everywhere(|run: Run| {
        for body in [
            "[]",
            "{",
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":7}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":["x"]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","name":"b"}]}}"#,
        ] {
            let odd =
                script::script(move |connection, _| script::send(connection, &script::plain(200, body)));
            let up = upstream().method("tools/list", odd).run();
            let well = upstream().tool("echo").run();
            let gw = run.gateway().to("odd", &up).to("well", &well).run();
            let mut lister = Lister::new(gw.caller(""));
            let result = lister.result(0);
            let text = result.to_string();
            assert!(text.contains("well__echo"), "{body}: {text}");
            assert_eq!(result["tools"].as_array().unwrap().len(), 1, "{body}: {text}");
            // A name that can be read in two ways is left out, and the rest of the list stands.
            let missing = if body.contains("\"name\":\"b\"") { json!(null) } else { json!(["odd"]) };
            assert_eq!(result["_meta"]["io.ringgate/missing"], missing, "{body}: {text}");
        }
    });
}
