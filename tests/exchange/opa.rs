//! External decision points: an access rule that asks Open Policy Agent's data API.
//!
//! Not here: rules that decide themselves (access).

use crate::support::Run;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::line::together;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;

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
        for (point, outcome) in [
            (silent(), "late"),
            (point(500, r#"{"result": true}"#), "unreadable"),
            (point(200, r#"{"result": "yes"}"#), "unreadable"),
        ] {
            for (more, expected) in [("", 403), (", onError: allow", 200)] {
                let gw = gateway(run, &up, &point, &format!(", timeout: 50ms{more}"));
                let (status, _, token) = status(&gw, "1");
                assert_eq!((status, up.mentions(&token) > 0), (expected, expected == 200), "{outcome}{more}");
                let label = format!("outcome=\"{outcome}\"");
                assert!(gw.metric("ringgate_external_decisions_total", &[&label]) >= 1.0, "{outcome}");
            }
        }
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
