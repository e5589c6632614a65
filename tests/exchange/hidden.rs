//! What rules hide is answered as what never was, also where the gateway does not know what a server has; and in the same
//! time.
//!
//! Not here: servers that the gateway can list (`filtered`, `federation_policy`).

use crate::bridge_questions as questions;
use crate::credentials::ALICE;
use crate::credentials::Provider;
use crate::credentials::by;
use crate::credentials::refusal;
use crate::credentials::unauthorized;
use crate::federation_policy::Whole;
use crate::federation_policy::whole;
use crate::own_lists::exchanging;
use crate::own_lists::private;
use crate::support::Era;
use crate::support::PATIENCE;
use crate::support::Run;
use crate::support::asker::Asker;
use crate::support::call::Call;
use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::pace;
use crate::support::script;
use crate::support::script::script;
use crate::support::script::send;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::user_oauth;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Each tool's name has six letters.
const DENY: &str = "name: no, deny: [\"up.hidden\"]";
/// Where the server is served, and what its tools are called there.
const URLS: [(&str, &str); 2] = [("up", ""), ("", "up__")];

fn refusing() -> Upstream {
    let no = script(|connection, _| send(connection, &refusal(401, "Bearer")));
    let up = upstream().on("hidden", Arc::clone(&no)).on("opened", Arc::clone(&no));
    up.method("tools/list", Arc::clone(&no)).method("server/discover", no).run()
}

/// What there is to see of an answer to a call of this tool; it reaches no server.
fn seen(up: &Upstream, call: Call) -> (Answer, Whole) {
    let (word, name) = (call.token.clone(), call.name.clone().unwrap_or_default());
    let answer = call.id("\"x\"").send();
    assert_eq!(up.mentions(&word), 0, "{name}: {answer:?}");
    let mut told = whole(&answer);
    // Of what differs with each request.
    if let Some(trace) = answer.json()["error"]["data"]["traceId"].as_str() {
        told.2 = told.2.replace(trace, "");
    }
    (answer, told)
}

fn with_auth(run: Run, provider: &Provider, up: &Upstream) -> Builder {
    provider.callers(run.gateway().access(DENY)).with("up", up, &[&provider.auth("tokenExchange")])
}

/// A server that lists nothing for the gateway: the caller's own list tells what it has.
#[test]
fn hidden_is_unknown_by_a_private_list() {
    everywhere(|run| {
        let provider = exchanging();
        let up = private(&Arc::new(std::sync::Mutex::new(vec!["hidden".into()])));
        let gw = with_auth(run, &provider, &up).run();
        for (endpoint, prefix) in URLS {
            let call = |name: &str| by(ALICE, gw.call(endpoint, &format!("{prefix}{name}")));
            let (answer, hidden) = seen(&up, call("hidden"));
            assert_eq!((answer.status, answer.code()), (200, -32602), "{answer:?}");
            assert_eq!(hidden, seen(&up, call("hiddan")).1, "{endpoint}");
            assert_eq!(call("both").send().status, 200);
        }
    });
}

/// Nobody can say what it has: all names are answered alike, with the reason.
#[test]
fn hidden_is_unknown_without_any_list() {
    everywhere(|run| {
        let up = refusing();
        let wrong = "headers: {Authorization: Bearer wrong}";
        let provider = Provider::new(|_| (400, json!({"error": "invalid_target"})));
        let fixed = run.gateway().access(DENY).with("up", &up, &[wrong]).run();
        let exchanged = with_auth(run, &provider, &up).run();
        for (gw, cause) in [(&fixed, "revoked"), (&exchanged, "wrong_audience")] {
            for (endpoint, prefix) in URLS {
                let call = |name: &str| by(ALICE, gw.call(endpoint, &format!("{prefix}{name}")));
                let (answer, hidden) = seen(&up, call("hidden"));
                unauthorized(&answer, cause);
                assert_eq!(hidden, seen(&up, call("hiddan")).1);
                assert_eq!(hidden, seen(&up, call("opened")).1);
            }
        }
        let provider = user_oauth::provider();
        let gw = user_oauth::builder(run, &provider, &up).access(DENY).run();
        let (answer, hidden) = seen(&up, by(ALICE, gw.call("up", "hidden")));
        user_oauth::asks(&answer);
        assert_eq!(hidden, seen(&up, by(ALICE, gw.call("up", "hiddan"))).1);
        // Whom no rule concerns is served as ever.
        let free =
            run.gateway().access("name: no, principals: [else], deny: [\"up.*\"]").with("up", &up, &[wrong]);
        let gw = free.run();
        unauthorized(&gw.call("up", "hidden").send(), "revoked");
        assert!(gw.call("up", "hiddan").send().text().contains("Unknown tool"), "the server's own words");
    });
}

/// A server whose first list is late, or never comes.
fn late(first: impl Fn() + Send + Sync + 'static) -> Upstream {
    let list = script(move |connection, request| {
        first();
        let tools = json!({"tools": [{"name": "hidden"}, {"name": "opened"}]});
        send(connection, &script::plain(200, &script::result(request, &tools)))
    });
    upstream().tool("hidden").tool("opened").method("tools/list", list).run()
}

/// Until the first list has come calls wait for it, wherever they come to; where it does not come, none passes.
#[test]
fn hidden_is_unknown_from_the_first_call_on() {
    everywhere(|run| {
        let up = late(|| pace(Duration::from_millis(700)));
        let gw = run.gateway().pinned().access(DENY).to("up", &up).run();
        let hidden = seen(&up, gw.call("up", "hidden"));
        assert_eq!((hidden.0.status, hidden.0.code()), (200, -32602));
        let gw = run.gateway().pinned().access(DENY).to("up", &up).run();
        assert_eq!(hidden.1, seen(&up, gw.call("up", "hiddan")).1);
        let gw = run.gateway().pinned().access(DENY).to("up", &up).run();
        assert_eq!(gw.call("up", "opened").send().status, 200);
        let gate = crate::support::Gate::default();
        let door = gate.clone();
        let up = late(move || assert!(door.wait()));
        let gw = run.gateway().pinned().access(DENY).to("up", &up).run();
        let began = Instant::now();
        let (answer, hidden) = seen(&up, gw.call("up", "hidden"));
        answer.refused(503, "upstream_unavailable");
        assert_eq!(hidden, seen(&up, gw.call("up", "hiddan")).1);
        assert_eq!(hidden, seen(&up, gw.call("up", "opened")).1);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        gate.open();
        eventually("it is listed", || gw.call("up", "opened").send().status == 200);
    });
}

/// What is hidden is asked for as what is unknown, so that no clock tells them apart: neither the caller's, nor ours.
#[test]
fn hidden_takes_as_long_as_unknown() {
    everywhere(|run| {
        for name in ["hidden", "hiddan"] {
            for (endpoint, prefix) in URLS {
                let up = late(|| pace(Duration::from_millis(200)));
                let gw = run.gateway().access(DENY).to("up", &up).run();
                let call = |name: &str| gw.call(endpoint, &format!("{prefix}{name}"));
                assert_eq!(call("opened").send().status, 200, "it is listed");
                let listed = up.count("tools/list");
                let (answer, _) = seen(&up, call(name));
                assert_eq!(up.count("tools/list"), listed + 1, "{name} at {endpoint:?}");
                assert!(own_ms(&answer) < 150.0, "{name}: {answer:?}");
            }
        }
    });
}

/// Our own share of an answer.
fn own_ms(answer: &Answer) -> f64 {
    let field = answer.head.field("server-timing").unwrap();
    field.split("dur=").nth(1).unwrap().parse().unwrap()
}

/// What is decided elsewhere is waited for, and no time of ours.
#[test]
fn decisions_of_others_are_waited_for() {
    everywhere(|run| {
        let up = upstream().tool("opened").run();
        let slow = script(|connection, _| {
            pace(Duration::from_millis(200));
            send(connection, &script::plain(200, r#"{"result": true}"#))
        });
        let point = upstream().every(slow).run();
        let url = point.url.replace("/mcp", "/v1/data/mcp/allow");
        let rule = format!("name: opa, tools: [\"up.*\"], opa: \"{url}\", timeout: 5s");
        let gw = run.gateway().access(&rule).to("up", &up).run();
        let answer = gw.call("up", "opened").send();
        assert_eq!(answer.status, 200);
        assert!(own_ms(&answer) < 150.0, "{answer:?}");
    });
}

/// With somebody's `requestState` a hidden tool is answered as one that never was, too: also one that was hidden after it
/// had asked.
#[test]
fn hidden_is_unknown_on_retry() {
    questions::of_era(Era::Modern, |run| {
        let up = questions::asking(&Asker::default());
        let rule = "name: some, allow: [\"up.one\", \"up.echo\"]";
        let gw = run.gateway().agents(&["ann"]).top(questions::SEALS).access(rule).to("up", &up).run();
        let by = |name: &str| gw.keyed("ann", gw.call("", name).able(questions::ABLE));
        let (keys, _, state) = questions::asked(&by("up__one").send());
        let responses = json!({keys[0].as_str(): questions::accept("ann")});
        let told = |name: &str| seen(&up, questions::again(&by(name), &responses, &state)).1;
        let hidden = told("up__three");
        assert_eq!((&hidden, hidden.0), (&told("up__never"), 200));
        gw.reload(&gw.builder.yaml().replace("\"up.one\"", "\"up.two\""));
        let own = told("up__one");
        assert_eq!(own, told("up__never"));
        assert!(own.2.contains("-32602"), "{own:?}");
    });
}
