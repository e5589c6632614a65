//! Features `retry` and `faults` where a server asks its client in the midst of a call: nothing that has asked is sent
//! again, and what is to be cut is cut in each of its requests.
//!
//! Not here: calls that ask nothing (route_retry, route_faults), and questions where all goes well (bridge_questions).

use crate::bridge::message;
use crate::bridge::post;
use crate::bridge_questions::ABLE;
use crate::bridge_questions::ELICIT;
use crate::bridge_questions::SAMPLE;
use crate::bridge_questions::accept;
use crate::bridge_questions::again;
use crate::bridge_questions::asked;
use crate::bridge_questions::asking;
use crate::bridge_questions::gateway;
use crate::bridge_questions::next_message;
use crate::bridge_questions::of_era;
use crate::bridge_questions::open;
use crate::bridge_questions::question;
use crate::bridge_questions::wanting;
use crate::support::Era;
use crate::support::asker::Asker;
use crate::support::call::Call;
use crate::support::client::Broken;
use crate::support::gateway::Gateway;
use crate::support::pace;
use crate::support::script;
use crate::support::shelf::Shelf;
use crate::support::upstream::Next;
use crate::support::upstream::Received;
use crate::support::upstream::upstream;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

const RETRIED: &str = "retry: {max: 1, budget: 1}";

/// Feature `retry`: a call that has put its question to the client is not sent again where it then fails, neither the call
/// nor what the client came back for.
#[test]
fn bridge_repeats_no_call_that_has_asked() {
    of_era(Era::Modern, |run| {
        let asker = Asker::default();
        let up = upstream().only(Era::Legacy).able(r#"{"tools":{}}"#).on("one", asker.tool(&[ELICIT]));
        let up = up.asks(&asker).get(script::hang_up()).run();
        let gw = run.gateway().with("up", &up, &["idempotent: [one]", RETRIED, "breaker: off"]).run();
        let call = gw.call("up", "one").able(ABLE);
        let (keys, _, state) = asked(&call.clone().send());
        again(&call, &json!({keys[0].as_str(): accept("ann")}), &state)
            .send()
            .refused(502, "upstream_protocol");
        let behind = |request: &&Received| request.head.field("last-event-id").is_some();
        assert_eq!(up.requests().iter().filter(behind).count(), 1, "asked for its stream again");
        assert_eq!((asker.begun(), up.calls()), (1, 1), "the tool ran twice");
        assert_eq!(gw.metric("ringgate_retries_total", &[]), 0.0);
    });
    of_era(Era::Legacy, |run| {
        let first = wanting(1, json!({"s": question(SAMPLE)}));
        let wants = script::script(move |connection, request| {
            if message(request)["params"]["requestState"].is_null() {
                return first(connection, request);
            }
            pace(Duration::from_millis(100));
            Next::Close
        });
        let build = || upstream().only(Era::Modern).on("ask", wants.clone()).run();
        let ups = [build(), build()];
        let retry = "retry: {max: 1, budget: 1, hedge: 20ms}";
        let lines = ["idempotent: [ask]", retry, "breaker: off"];
        let gw = run.gateway().over("up", &[&ups[0], &ups[1]], &lines).run();
        let (call, mut client) = open(&gw, "up", "ask", ABLE);
        client.head().unwrap();
        let asked = next_message(&mut client);
        let reply = json!({"jsonrpc": "2.0", "id": asked["id"], "result": accept("ann")});
        assert_eq!(post(&call, &reply).status, 202);
        let last = next_message(&mut client);
        assert_eq!(last["error"]["data"]["reason"], "upstream_protocol", "{last}");
        // The first turn may have been hedged, on a busy machine.
        let turns = ups.iter().flat_map(|up| up.with(&call.token));
        let second = turns.filter(|turn| !message(turn)["params"]["requestState"].is_null()).count();
        assert_eq!(second, 1, "what asks again was sent again");
    });
}

/// Only calls of tools, prompts and resources may want input: what a server asks in the midst of a completion is refused at
/// once, and a completion that ends with questions is none.
#[test]
fn regression_bridge_asks_nothing_for_a_completion() {
    let complete = |gw: &Gateway| {
        let call = gw.request("up", "completion/complete").able(ABLE);
        let call = call.member("ref", r#"{"type":"ref/prompt","name":"greet"}"#);
        call.member("argument", r#"{"name":"n","value":"v"}"#)
    };
    let shelf = Shelf::of(&[]).with(1, &["greet"]);
    of_era(Era::Modern, |run| {
        let asker = Asker::default();
        let up = upstream().only(Era::Legacy).shelf(&shelf).asks(&asker);
        let up = up.method("completion/complete", asker.tool(&[ELICIT])).run();
        let gw = run.gateway().to("up", &up).run();
        let answer = complete(&gw).send();
        assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
        assert_eq!(answer.json()["result"]["resultType"], "complete", "{answer:?}");
        assert_eq!(asker.answers()[0]["error"]["code"], -32601);
    });
    of_era(Era::Legacy, |run| {
        let wants = wanting(1, json!({"k": question(ELICIT)}));
        let up = upstream().only(Era::Modern).shelf(&shelf).method("completion/complete", wants).run();
        let gw = run.gateway().to("up", &up).run();
        complete(&gw).send().refused(502, "upstream_protocol");
    });
}

/// Feature `faults`: where a call takes more than one request, each of them is cut or whole, and says which.
#[test]
fn bridge_cuts_what_a_fault_cuts() {
    const HALF: &str = "faults: [{tools: [\"*\"], ratio: 0.5, cut: true}]";
    of_era(Era::Modern, |run| {
        for asker in [Asker::default(), Asker::nameless()] {
            let up = asking(&asker);
            let gw = run.gateway().flag("--allow-faults").with("up", &up, &[HALF, "breaker: off"]).run();
            // Of each kind of request: those that were whole, and those that were cut.
            let mut counts = [[0; 2]; 3];
            let make = |[whole, cut]: &mut [u32; 2], call: Call| match call.try_send() {
                Ok(answer) => {
                    assert!(answer.head.field("ringgate-fault").is_none(), "{answer:?}");
                    *whole += 1;
                    Some(answer)
                }
                Err(broken) => {
                    assert!(!matches!(broken, Broken::Silent | Broken::Malformed(_)), "{broken:?}");
                    *cut += 1;
                    None
                }
            };
            let is_seen = |counts: &[[u32; 2]; 3]| counts.iter().flatten().all(|count| *count > 0);
            // Each is cut by chance: 24 calls miss a kind one time in two hundred, 400 never do.
            for done in 0..400 {
                if done >= 24 && is_seen(&counts) {
                    break;
                }
                let call = gw.call("up", "one").able(ABLE);
                let Some(answer) = make(&mut counts[0], call.clone()) else { continue };
                let (keys, _, state) = asked(&answer);
                if let Some(answer) = make(&mut counts[1], again(&call, &json!({}), &state)) {
                    asked(&answer);
                }
                make(&mut counts[2], again(&call, &json!({keys[0].as_str(): accept("ann")}), &state));
            }
            assert!(is_seen(&counts), "{counts:?}");
        }
    });
    of_era(Era::Legacy, |run| {
        let up = upstream().only(Era::Modern).on("ask", wanting(1, json!({"s": question(SAMPLE)}))).run();
        let line = HALF.replace("0.5", "1");
        let gw = gateway(run, &up).server("two", &[&format!("url: \"{}\"", up.url), &line]);
        let gw = gw.flag("--allow-faults").run();
        let (_, mut client) = open(&gw, "two", "ask", ABLE);
        assert_eq!(client.head().unwrap().field("ringgate-fault"), Some("cut"));
        let rest = client.rest();
        assert!(matches!(rest, Err(Broken::Cut { .. } | Broken::Reset(_))), "{rest:?}");
    });
}

/// A stream that goes on elsewhere and says nothing but comments is silent: it is asked for again, five times at most, and
/// then waited for.
#[test]
fn bridge_takes_comments_for_silence() {
    of_era(Era::Modern, |run| {
        for (dead, asked_for) in [(1, 2), (5, 6)] {
            let (asker, streams) = (Asker::default(), Arc::default());
            let up = upstream().only(Era::Legacy).able(r#"{"tools":{}}"#).on("one", asker.tool(&[ELICIT]));
            let up = up.asks_alive(&asker, dead, &streams).run();
            let gw = run.gateway().to("up", &up).run();
            let call = gw.call("up", "one").able(ABLE);
            let (keys, _, state) = asked(&call.clone().send());
            let answer = again(&call, &json!({keys[0].as_str(): accept("ann")}), &state).send();
            assert_eq!(answer.json()["result"]["resultType"], "complete", "{answer:?}");
            assert_eq!((streams.load(SeqCst), asker.begun()), (asked_for, 1));
        }
    });
}
