//! Servers that list nothing for strangers: each caller gets the list that its own credential gets, and nobody else's; and
//! where a server does not take a credential, the list says so in a call's words.
//!
//! Not here: obtaining credentials (`credentials`, `user_oauth`), and what lists say otherwise (`federation_lists`).

use crate::bridge::other;
use crate::credentials::ALICE;
use crate::credentials::BOB;
use crate::credentials::Provider;
use crate::credentials::by;
use crate::credentials::good;
use crate::credentials::guarded;
use crate::credentials::refusal;
use crate::credentials::token;
use crate::credentials::unauthorized;
use crate::support::Era;
use crate::support::Run;
use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::process;
use crate::support::script;
use crate::support::script::plain;
use crate::support::script::script;
use crate::support::script::send;
use crate::support::upstream::Received;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use crate::user_oauth;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;

const ABLE: &str = r#"{"tools":{}}"#;
const VIRTUAL: &str = "virtualServers: {only: {tools: [\"up.*\"]}}";

/// Of whom a server knows: the name after `for-`.
fn whose(request: &Received) -> Option<String> {
    request.head.field("authorization")?.strip_prefix("Bearer for-").map(str::to_owned)
}

/// A server that says nothing to strangers, and lists a tool that is called after its caller beside one for all. `more` are
/// listed to everybody that it knows.
pub fn private(more: &Arc<Mutex<Vec<String>>>) -> Upstream {
    let more = Arc::clone(more);
    let list = script(move |connection, request| {
        let Some(name) = whose(request) else { return send(connection, &refusal(401, "Bearer")) };
        let own = ["both".to_owned(), format!("{name}s_canary")];
        let tools: Vec<Value> =
            own.iter().chain(&*more.lock().unwrap()).map(|tool| json!({"name": tool})).collect();
        send(connection, &plain(200, &script::result(request, &json!({"tools": tools}))))
    });
    let discover = script(|connection, request| match whose(request) {
        Some(_) => script::discover(connection, request, ABLE),
        None => send(connection, &refusal(401, "Bearer")),
    });
    let up = upstream().tool("both").tool("alices_canary").tool("bobs_canary").tool("grown");
    up.method("tools/list", list).method("server/discover", discover).run()
}

/// Whoever asks gets a token after its own name.
pub fn exchanging() -> Provider {
    Provider::new(|form| token(if form.contains(ALICE) { "for-alice" } else { "for-bob" }))
}

fn builder(run: Run, provider: &Provider, up: &Upstream) -> Builder {
    provider.callers(run.gateway().top(VIRTUAL)).with("up", up, &[&provider.auth("tokenExchange")])
}

/// What a caller's list shows.
#[track_caller]
fn names(gw: &Gateway, caller: &str, endpoint: &str) -> Vec<String> {
    let answer = by(caller, gw.request(endpoint, "tools/list")).send();
    let tools = answer.json()["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// The same where a server may not have been listed for the caller in the time that a list waits: the list is without it
/// then, or says why there is nothing, and the next one is asked for. It never shows what is not expected.
#[track_caller]
fn shows(gw: &Gateway, caller: &str, endpoint: &str, expected: &[String]) -> bool {
    let answer = by(caller, gw.request(endpoint, "tools/list")).send();
    let tools = answer.json()["result"]["tools"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| expected.iter().any(|own| own == name)), "{answer:?}");
    names == expected
}

/// Feature: each caller sees at hubs what its own credential gets, whoever has asked before; one listing for each.
#[test]
fn a_private_list_is_its_callers_own() {
    everywhere(|run| {
        let provider = exchanging();
        let (more, other) = (Arc::default(), upstream().tool("open").run());
        let up = private(&more);
        let gw = builder(run, &provider, &up).to("other", &other).run();
        let lists = |own: &str| {
            let prefixed = ["up__both".into(), format!("up__{own}"), "other__open".into()];
            [("", prefixed.to_vec()), ("only", vec!["both".into(), own.into()])]
        };
        let callers = [(ALICE, lists("alices_canary")), (BOB, lists("bobs_canary"))];
        for (caller, lists) in &callers {
            for (endpoint, expected) in lists {
                eventually("it is listed for its caller", || shows(&gw, caller, endpoint, expected));
            }
        }
        for (caller, lists) in callers.iter().cycle().take(16) {
            for (endpoint, expected) in lists {
                assert_eq!(names(&gw, caller, endpoint), *expected);
            }
        }
        assert!(gw.metric("ringgate_own_catalogues_total", &["outcome=\"listed\""]) >= 2.0);
        assert_eq!((up.mentions(ALICE), up.mentions(BOB)), (0, 0));
        // Another's tool is none of its own: its name is answered as any other that is not there.
        let call = |name: &str| by(ALICE, gw.call("", name)).id("\"x\"");
        assert_eq!(call("up__alices_canary").send().status, 200);
        let foreign = call("up__bobs_canary");
        let word = foreign.token.clone();
        assert_eq!(foreign.send().text(), call("up__never_was").send().text());
        assert_eq!(up.mentions(&word), 0, "it is not known to have that");
        // What is new is seen within the life of a list, and at once after a reload.
        let own = ["both", "bobs_canary", "grown"].map(String::from);
        more.lock().unwrap().push("grown".into());
        eventually("the list is asked for again", || shows(&gw, BOB, "only", &own));
        more.lock().unwrap().clear();
        process::signal(gw.pid(), rustix::process::Signal::HUP);
        // At first it may be what it was.
        eventually("reloaded", || {
            let answer = by(BOB, gw.request("only", "tools/list")).send();
            answer.json()["result"]["tools"].as_array().is_some_and(|tools| tools.len() == 2)
        });
    });
}

/// What a tool wants repeated in header fields is known from the list of its caller alone, too: a newer server gets it of an
/// older client, and what a newer client says twice to an older server has to agree.
#[test]
fn regression_fields_of_a_tool_that_is_its_callers_own() {
    everywhere(|run| {
        let provider = exchanging();
        let list = script(|connection, request| {
            if whose(request).is_none() {
                return send(connection, &refusal(401, "Bearer"));
            }
            let region = json!({"type": "string", "x-mcp-header": "Region"});
            let schema = json!({"type": "object", "properties": {"region": region}});
            let tools = json!({"tools": [{"name": "both", "inputSchema": schema}]});
            send(connection, &plain(200, &script::result(request, &tools)))
        });
        let up = upstream().only(other(run.era)).tool("both").method("tools/list", list).run();
        let gw = builder(run, &provider, &up).run();
        let all = ["up__both".to_owned()];
        eventually("it is listed for its caller", || shows(&gw, ALICE, "", &all));
        let call = || by(ALICE, gw.call("", "up__both")).given("region", "\"eu\"");
        if run.era == Era::Legacy {
            let call = call();
            let token = call.token.clone();
            assert_eq!(call.send().status, 200);
            assert_eq!(up.once(&token).head.field("mcp-param-region"), Some("eu"));
            return;
        }
        assert_eq!(call().field("Mcp-Param-Region: eu").send().code(), 0);
        for wrong in [call(), call().field("Mcp-Param-Region: us")] {
            let token = wrong.token.clone();
            wrong.send().refused(400, "header_mismatch");
            assert_eq!(up.mentions(&token), 0, "it reached the server");
        }
    });
}

#[track_caller]
pub fn missing(answer: &Answer) -> (usize, Value) {
    let result = &answer.json()["result"];
    let listed = result["tools"].as_array().unwrap_or_else(|| panic!("{answer:?}")).len();
    (listed, result["_meta"]["io.ringgate/missing"].clone())
}

/// Where a server wants a consent, a list of it alone asks for it as a call would; others are listed without it.
#[test]
fn a_private_list_asks_for_consent() {
    everywhere(|run| {
        let provider = user_oauth::provider();
        let good = good(&format!("Bearer {}-1", user_oauth::ACCESS));
        let list = script(|connection, request| {
            let tools = json!({"tools": [{"name": "echo"}]});
            send(connection, &plain(200, &script::result(request, &tools)))
        });
        let challenge = "Bearer error=\"invalid_token\"";
        let up = upstream()
            .on("echo", guarded(&good, challenge, script::echo()))
            .method("tools/list", guarded(&good, challenge, list))
            .run();
        let other = upstream().tool("open").run();
        let gw = user_oauth::builder(run, &provider, &up).top(VIRTUAL).to("other", &other).run();
        let list = |caller, endpoint| by(caller, gw.request(endpoint, "tools/list")).send();
        assert_eq!(missing(&list(ALICE, "")), (1, json!(["up"])));
        let answer = list(ALICE, "only");
        let url = user_oauth::asks(&answer);
        let data = &answer.json()["error"]["data"];
        assert_eq!((&data["cause"], &data["rule"]), (&"no_consent".into(), &"mcpServers.up.auth".into()));
        let called = by(ALICE, gw.call("up", "echo")).try_send().unwrap();
        assert_eq!(user_oauth::asks(&called), url, "the same words, and one link as long as it is fresh");
        assert_eq!(called.json()["error"]["message"], answer.json()["error"]["message"]);
        user_oauth::consent(&gw, &provider, &url);
        assert_eq!(missing(&list(ALICE, "only")), (1, Value::Null));
        assert_eq!(missing(&list(ALICE, "")), (2, Value::Null));
        user_oauth::asks(&list(BOB, "only"));
        assert_eq!(missing(&list(BOB, "")), (1, json!(["up"])));
        // It ends: there is no list any more, but a link.
        provider.turn(|_| (400, json!({"error": "invalid_grant"})));
        *good.lock().unwrap() = "Bearer none".into();
        user_oauth::asks(&by(ALICE, gw.call("up", "echo")).send());
        user_oauth::asks(&list(ALICE, "only"));
        assert_eq!(missing(&list(ALICE, "")), (1, json!(["up"])));
    });
}

/// A list of servers that do not take what the gateway shows them says that, and not that they do not run.
#[test]
fn a_list_of_nothing_says_why() {
    on_every_driver(|run| {
        let list = script(|connection, _| send(connection, &refusal(401, "Bearer")));
        let up = upstream().tool("echo").method("tools/list", list).run();
        let gw =
            run.gateway().top(VIRTUAL).with("up", &up, &["headers: {Authorization: Bearer wrong}"]).run();
        for endpoint in ["", "only"] {
            unauthorized(&gw.request(endpoint, "tools/list").send(), "revoked");
        }
        let provider = Provider::new(|_| (400, json!({"error": "invalid_target"})));
        let gw = builder(run, &provider, &up).run();
        for endpoint in ["", "only"] {
            unauthorized(&by(ALICE, gw.request(endpoint, "tools/list")).send(), "wrong_audience");
        }
        let told = gw.stderr();
        assert!(told.contains("wrong_audience"), "{told}");
    });
}
