//! External decision points: an access rule that asks Open Policy Agent's data API.
//!
//! Not here: rules that decide themselves (access).

use crate::credentials::ALICE;
use crate::credentials::BOB;
use crate::credentials::by;
use crate::own_lists;
use crate::support::Era;
use crate::support::Run;
use crate::support::STALL;
use crate::support::call::Call;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::together;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

/// A decision point that always says this, with this status.
fn point(status: u16, says: &'static str) -> Upstream {
    upstream().every(script::script(move |c, _| script::send(c, &script::plain(status, says)))).run()
}

fn gateway(run: Run, up: &Upstream, point: &Upstream, more: &str) -> Gateway {
    let url = point.url.replace("/mcp", "/v1/data/mcp/allow");
    run.gateway()
        .agents(&["agent-7"])
        .top(format!("access: [{{name: opa, tools: [\"up.*\"], opa: \"{url}\"{more}}}]"))
        .with("up", up, &["labels: {all: [prod], tools: {\"ec*\": [pii]}}"])
        .run()
}

fn status(gw: &Gateway, argument: &str) -> (u16, Value, String) {
    let call = gw.keyed("agent-7", gw.call("up", "echo")).argument(argument);
    let token = call.token.clone();
    let answer = call.send();
    (answer.status, serde_json::from_str(&answer.text()).unwrap_or_default(), token)
}

/// Feature: the call as it is, in OPA's words, and its answer is the caller's.
#[test]
fn opa() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        for (says, allowed) in [
            (r#"{"result": true}"#, true),
            (r#"{"result": {"allow": true}}"#, true),
            (r#"{"result": false}"#, false),
            (r#"{"result": {"allow": false, "reason": "not on Fridays"}}"#, false),
            ("{}", false),
        ] {
            let point = point(200, says);
            let gw = gateway(run, &up, &point, ", timeout: 2s");
            let (status, body, token) = status(&gw, "{\"amount\": 1e2}");
            assert_eq!(
                (status, up.mentions(&token) > 0),
                (if allowed { 200 } else { 403 }, allowed),
                "{says}"
            );
            if !allowed {
                let error = &body["error"];
                let told = (&error["code"], &error["data"]["reason"], &error["data"]["rule"]);
                assert_eq!(told, (&(-33403).into(), &"forbidden".into(), &"access.opa".into()), "{body}");
                let reason = says.contains("Fridays");
                assert_eq!(error["message"].as_str().unwrap().contains("not on Fridays"), reason, "{body}");
            }
            let asked = point.requests();
            let [asked] = asked.as_slice() else { panic!("asked {} times", asked.len()) };
            let input: Value = serde_json::from_slice(&asked.body).unwrap();
            let input = &input["input"];
            assert_eq!(input["principal"], "agent-7");
            assert_eq!((&input["server"], &input["tool"]), (&"up".into(), &"echo".into()));
            assert_eq!(input["annotations"]["destructiveHint"], true, "the specification's default");
            assert_eq!(input["labels"], serde_json::json!(["prod", "pii"]));
            assert!(input["roles"].is_array() && input["tenant"] == "");
            // The very text: a number that readers round differently arrives as it was written.
            let text = String::from_utf8(asked.body.clone()).unwrap();
            assert!(text.contains("1e2"), "{text}");
        }
    });
}

/// Feature: without an answer in time the rule's `onError` decides, and a metric tells.
#[test]
fn opa_without_an_answer() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let silence = || {
            script::script(|connection, _| {
                connection.until_gone();
                Next::Close
            })
        };
        let silent = || upstream().every(silence()).run();
        for (point, timeout, outcome) in [
            (silent(), "50ms", "late"),
            (point(500, r#"{"result": true}"#), "5s", "unreadable"),
            (point(200, r#"{"result": "yes"}"#), "5s", "unreadable"),
        ] {
            for (more, expected) in [("", 403), (", onError: allow", 200)] {
                let gw = gateway(run, &up, &point, &format!(", timeout: {timeout}{more}"));
                let (status, _, token) = status(&gw, "1");
                assert_eq!((status, up.mentions(&token) > 0), (expected, expected == 200), "{outcome}{more}");
                let label = format!("outcome=\"{outcome}\"");
                assert!(gw.metric("ringgate_external_decisions_total", &[&label]) >= 1.0, "{outcome}");
            }
        }
    });
}

/// Found in an audit: while a point hung, nothing else that the side thread finds out was found out.
#[test]
fn regression_a_hanging_point_holds_up_nobody_else() {
    on_every_driver(|run| {
        let (up, free) = (upstream().tool("echo").run(), upstream().tool("echo").run());
        let silent = upstream().every(script::script(|connection, _| {
            connection.until_gone();
            Next::Close
        }));
        let (silent, provider) = (silent.run(), own_lists::exchanging());
        let rule = format!("name: opa, tools: [\"up.*\"], opa: \"{}\", timeout: 5s", silent.url);
        let builder = provider.callers(run.gateway()).access(&rule).to("up", &up);
        let gw = builder.with("free", &free, &[&provider.auth("tokenExchange")]).run();
        let asked = |number: u64| by(ALICE, gw.modern("up", "echo")).argument(number.to_string());
        let _waiting: Vec<_> = (0..300).map(|number| asked(number).open()).collect();
        eventually("the point is asked", || silent.requests().len() >= 256);
        let began = Instant::now();
        // It has to be found out who this is, and what the server is shown of it.
        assert_eq!(by(BOB, gw.modern("free", "echo")).send().status, 200);
        assert!(began.elapsed() < STALL, "{:?}", began.elapsed());
        assert_eq!(up.calls(), 0);
    });
}

/// Feature: equal inputs are asked once within `cacheFor`; others are asked by themselves.
#[test]
fn opa_is_asked_once() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let point = point(200, r#"{"result": true}"#);
        let gw = gateway(run, &up, &point, ", timeout: 2s, cacheFor: 60s");
        // The token of a call is an argument of it: equal calls have to share one.
        let call = gw.keyed("agent-7", gw.call("up", "echo")).in_session();
        let statuses = together(16, |_| call.clone().try_send().unwrap().status);
        assert_eq!(statuses, [200; 16]);
        assert_eq!(point.requests().len(), 1, "equal questions");
        assert_eq!(status(&gw, "1").0, 200);
        assert_eq!(point.requests().len(), 2, "another question");
    });
}

/// Found in an audit: without `cacheFor` an answer stood for as long as the rule waits for one.
#[test]
fn regression_opa_is_asked_anew_without_cache_for() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let says = Arc::new(Mutex::new(true));
        let said = Arc::clone(&says);
        let point = upstream().every(script::script(move |connection, _| {
            let answer = serde_json::json!({"result": *said.lock().unwrap()});
            script::send(connection, &script::plain(200, &answer.to_string()))
        }));
        let point = point.run();
        let gw = gateway(run, &up, &point, ", timeout: 10s");
        let call = gw.keyed("agent-7", gw.call("up", "echo")).in_session();
        assert_eq!(call.clone().send().status, 200);
        *says.lock().unwrap() = false;
        assert_eq!(call.clone().send().status, 403, "the same call");
        assert_eq!(point.requests().len(), 2);
    });
}

/// Arguments that readers could take for different ones are judged by nobody.
#[test]
fn opa_is_not_asked_about_ambiguous_arguments() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let point = point(200, r#"{"result": true}"#);
        let gw = gateway(run, &up, &point, ", timeout: 2s, onError: allow");
        let (status, _, token) = status(&gw, r#"{"amount": 1, "amount": 5000}"#);
        assert_eq!((status, up.mentions(&token), point.requests().len()), (403, 0, 0));
    });
}

/// What the point said is in the record of the call, also of one that passes: a later reader decides the same.
#[test]
fn opa_is_recorded() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let silent = upstream().every(script::script(|connection, _| {
            connection.until_gone();
            Next::Close
        }));
        for (point, more, said) in [
            (point(200, r#"{"result": true}"#), ", timeout: 2s", "allow"),
            (point(200, r#"{"result": {"allow": false, "reason": "no"}}"#), ", timeout: 2s", "deny"),
            (silent.run(), ", timeout: 50ms, onError: allow", "none"),
        ] {
            let builder = run.gateway().agents(&["agent-7"]);
            let log = builder.folder.path().join("calls.jsonl");
            let url = point.url.replace("/mcp", "/v1/data/mcp/allow");
            let gw = builder
                .call_log(&log)
                .access(&format!("name: opa, tools: [\"up.*\"], opa: \"{url}\"{more}"))
                .to("up", &up)
                .to("free", &up)
                .run();
            let told = |server: &str| {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                lines.into_iter().find(|line| line["server"] == server && line["tool"] == "echo")
            };
            let (passed, refused) = if said == "deny" { (403, Some("access.opa")) } else { (200, None) };
            assert_eq!(status(&gw, "1").0, passed, "{said}");
            assert_eq!(gw.keyed("agent-7", gw.call("free", "echo")).send().status, 200);
            eventually("both are written", || told("up").is_some() && told("free").is_some());
            let line = told("up").unwrap();
            assert_eq!(
                line["decisions"],
                serde_json::json!([{"rule": "access.opa", "said": said}]),
                "{line}"
            );
            assert_eq!(line["rule"].as_str(), refused, "{line}");
            assert!(told("free").unwrap().get("decisions").is_none(), "nobody was asked");
        }
    });
}

/// Each call of a batch has its own: the point says no to the last of three, and what it said of the others stays told.
#[test]
fn opa_is_recorded_of_each_call_of_a_batch() {
    on_every_driver(|run| {
        let up = upstream().every(script::bytes(script::plain(200, "[]"))).run();
        let point = upstream().every(script::script(|connection, request| {
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            let answer = serde_json::json!({"result": asked["input"]["args"]["n"] != 3});
            script::send(connection, &script::plain(200, &answer.to_string()))
        }));
        let point = point.run();
        let builder = run.gateway();
        let log = builder.folder.path().join("calls.jsonl");
        let url = point.url.replace("/mcp", "/v1/data/mcp/allow");
        let rule = format!("name: opa, tools: [\"up.t*\"], opa: \"{url}\", timeout: 5s");
        let gw = builder.call_log(&log).access(&rule).to("up", &up).run();
        let tools = ["t1", "other", "t2", "t3"];
        let call = |(number, tool): (usize, &&str)| {
            Call::tool(gw.address, Era::Legacy, "up", tool).given("n", &number.to_string()).body()
        };
        let body = tools.iter().enumerate().map(call).collect::<Vec<_>>().join(",");
        let raw = Call::tool(gw.address, Era::Legacy, "up", "t1").raw().without("mcp-protocol-version");
        let answer = gw.client().talk(&raw.body(format!("[{body}]")).bytes()).unwrap();
        assert_eq!(answer.status, 403, "{answer:?}");
        let told = |tool: &str| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines
                .into_iter()
                .find(|line| line["tool"] == tool)
                .map(|line| line["decisions"][0]["said"].clone())
        };
        eventually("all are written", || tools.iter().all(|tool| told(tool).is_some()));
        let said = tools.map(|tool| told(tool).unwrap().as_str().map(str::to_owned));
        assert_eq!(said.each_ref().map(Option::as_deref), [Some("allow"), None, Some("allow"), Some("deny")]);
    });
}
