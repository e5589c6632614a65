//! What older servers say by themselves in the sessions of clients at hubs: on GET streams, where no call is behind it.
//!
//! Not here: what changes for everybody (federation_streams), and what is said on the stream of a call (bridge_questions).

use crate::bridge::message;
use crate::bridge::post;
use crate::federation_streams::TOOLS;
use crate::federation_streams::listen;
use crate::support::Era;
use crate::support::Run;
use crate::support::bell::Bell;
use crate::support::call::Call;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::script::Script;
use crate::support::shelf::Shelf;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;

const LOGS: &str = r#"{"tools":{"listChanged":true},"logging":{}}"#;
const LOG: &str = "notifications/message";
/// What a client that can be asked for its roots declares, and for nothing else.
const ROOTS: &str = r#"{"roots":{}}"#;

/// Runs `test` on every driver, for older clients: those of 2026-07-28 have no such streams.
fn for_older_clients(test: impl Fn(Run)) {
    on_every_driver(|run| test(Run { era: Era::Legacy, ..run }));
}

/// An older server with the tool `one`.
fn older(bell: &Bell, able: &str) -> Upstream {
    upstream().only(Era::Legacy).shelf(&Shelf::of(&["one"])).able(able).rings(bell).run()
}

/// Logs the name of the session whenever its stream is opened.
fn names_itself() -> Script {
    script::script(|connection, request| {
        let session = request.head.field("mcp-session-id").unwrap_or_default().to_owned();
        let params = json!({"level": "info", "data": session});
        connection.send(script::STREAM);
        connection
            .send(&script::event(&json!({"jsonrpc": "2.0", "method": LOG, "params": params}).to_string()));
        connection.until_gone();
        Next::Close
    })
}

/// The session in which a server has heard this call.
fn session_of(up: &Upstream, call: Call) -> String {
    let token = call.token.clone();
    assert_eq!(call.send().status, 200);
    up.once(&token).head.field("mcp-session-id").unwrap().to_owned()
}

/// Has the tool of `up` called as `call` calls, to open what a call opens.
fn called(gw: &Gateway, like: &Call) -> Call {
    Call { session: like.session.clone(), able: like.able.clone(), ..gw.call("", "up__one") }
}

/// Feature `streamable_http`, the GET stream of a hub: what servers say in a client's session comes to that client, from all
/// of them, and to nobody else.
#[test]
fn hub_get_stream_is_merged() {
    for_older_clients(|run| {
        let quiet = Bell::default();
        let server = || {
            let up = upstream().only(Era::Legacy).shelf(&Shelf::of(&["one"])).able(LOGS).rings(&quiet);
            up.get(names_itself()).run()
        };
        let ups = [server(), server()];
        let gw = run.gateway().workers(2).to("up", &ups[0]).to("other", &ups[1]).run();
        let calls: Vec<Call> = (0..2).map(|_| gw.call("", "none").in_session()).collect();
        let mut heard = Vec::new();
        for call in &calls {
            let mut ear = listen(call, &json!({}));
            let mut said: Vec<String> =
                (0..2).map(|_| ear.hears(LOG)["params"]["data"].as_str().unwrap().to_owned()).collect();
            let like = |tool: &str| Call { session: call.session.clone(), ..gw.call("", tool) };
            let mut own = vec![session_of(&ups[0], like("up__one")), session_of(&ups[1], like("other__one"))];
            said.sort();
            own.sort();
            assert_eq!(said, own, "another session's");
            assert!(ear.is_quiet());
            heard.push((ear, own));
        }
        assert!(ups.iter().all(|up| up.sessions().0 >= 2));
        assert_ne!(heard[0].1, heard[1].1, "one session for two clients");
        let passed = |name: &str| {
            gw.metric(
                "ringgate_session_messages_total",
                &[&format!("server=\"{name}\""), "outcome=\"passed\""],
            )
        };
        eventually("it is counted", || (passed("up"), passed("other")) == (2.0, 2.0));
    });
}

/// What a server asks there goes to the client under an id of the server's, and the answer back under the server's own, by
/// whichever connection; what the client cannot be asked is refused at once, and pings are the gateway's to answer.
#[test]
fn hub_passes_questions_of_get_streams() {
    for_older_clients(|run| {
        let bell = Bell::default();
        let up = older(&bell, r#"{"tools":{}}"#);
        let gw = run.gateway().workers(2).to("up", &up).run();
        let call = gw.call("", "none").able(ROOTS).in_session();
        let mut ear = listen(&call, &json!({}));
        let own = session_of(&up, called(&gw, &call));
        let answer = |id: &Value| {
            let answers = up
                .requests()
                .into_iter()
                .filter(|request| message(request)["id"] == *id && message(request)["method"].is_null());
            answers.collect::<Vec<_>>()
        };
        eventually("the session is listened to", || bell.open() >= 1);
        for id in [json!(7), json!("a~b")] {
            bell.ask(id.clone(), "roots/list");
            let asked = ear.next();
            assert_eq!(asked["method"], "roots/list", "{asked}");
            assert_ne!(asked["id"], id, "two servers may use the same");
            let roots = json!({"roots": [{"uri": "file:///a"}]});
            let said = json!({"jsonrpc": "2.0", "id": asked["id"], "result": roots});
            assert_eq!(post(&call, &said).status, 202);
            eventually("the server has its answer", || answer(&id).len() == 1);
            let got = answer(&id).remove(0);
            assert_eq!(message(&got)["result"], roots);
            assert_eq!(got.head.field("mcp-session-id"), Some(&*own), "in another session");
        }
        for (id, method, refused) in [
            (json!("q"), "sampling/createMessage", true),
            (json!("r"), "elicitation/create", true),
            (json!("s"), "x/unknown", true),
            (json!("p"), "ping", false),
        ] {
            bell.ask(id.clone(), method);
            eventually("it is answered", || answer(&id).len() == 1);
            assert_eq!(message(&answer(&id)[0])["error"]["code"] == -32601, refused, "{method}");
        }
        assert!(ear.is_quiet(), "asked what it cannot answer");
    });
}

/// A change that a server tells on all of its streams is told once; of several streams of a client one is told.
#[test]
fn hub_get_stream_says_nothing_twice() {
    for_older_clients(|run| {
        let bell = Bell::default();
        let up = older(&bell, LOGS);
        let gw = run.gateway().workers(2).to("up", &up).run();
        let call = gw.call("", "none").in_session();
        let mut first = listen(&call, &json!({}));
        let mut second = listen(&call, &json!({}));
        // That of changes, and that of the session.
        eventually("both streams are open", || bell.open() == 2);
        bell.ring(TOOLS, json!({}));
        second.hears(TOOLS);
        bell.ring(LOG, json!({"level": "info", "data": 1}));
        assert_eq!(second.hears(LOG)["params"]["data"], 1);
        assert!(first.is_quiet() && second.is_quiet(), "told twice");
        drop(second);
        // What was written to a client that has just left is lost with it, as everywhere.
        eventually("the one before it is told", || {
            bell.ring(LOG, json!({"level": "info", "data": 2}));
            !first.is_quiet()
        });
        assert_eq!(first.hears(LOG)["params"]["data"], 2);
        drop(first);
        eventually("nobody is listened to for nobody", || bell.open() == 1);
    });
}

/// A server whose session is opened with a later call is heard from then on; one whose client may use nothing of it never is,
/// and a killed one no more.
#[test]
fn hub_get_stream_follows_sessions_and_rights() {
    for_older_clients(|run| {
        let (bell, hidden) = (Bell::default(), Bell::default());
        let (up, secret) = (older(&bell, LOGS), older(&hidden, LOGS));
        let gw = run
            .gateway()
            .agents(&["ann"])
            .access("name: ann, principals: [ann], allow: [\"up.*\"]")
            .with("up", &up, &["health: off"])
            .to("secret", &secret)
            .run();
        let call = gw.keyed("ann", gw.call("", "none")).in_session();
        let mut ear = listen(&call, &json!({}));
        eventually("the session is listened to", || bell.open() == 2);
        bell.ring(LOG, json!({"level": "info", "data": "up"}));
        assert_eq!(ear.hears(LOG)["params"]["data"], "up");
        // Listened to for what changes, and for nothing else.
        hidden.ring(LOG, json!({"level": "info", "data": "secret"}));
        assert_eq!(hidden.open(), 1, "the session of a hidden server");
        gw.operate(&["kill", "server", "up", "--reason", "test"]);
        bell.ring(LOG, json!({"level": "info", "data": "killed"}));
        eventually("what it says is read, and its stream let go", || bell.open() < 2);
        gw.operate(&["unkill", "server", "up"]);
        assert!(ear.is_quiet(), "a hidden or killed server spoke");
    });
}

/// Whether its roots may change is said to a server as the client says it: who is not told so asks for them once.
#[test]
fn regression_roots_that_change_are_declared() {
    on_every_driver(|run| {
        for (era, able, expected) in [
            (Era::Legacy, r#"{"roots":{"listChanged":true}}"#, json!({"roots": {"listChanged": true}})),
            (Era::Legacy, ROOTS, json!({"roots": {}})),
            (Era::Modern, r#"{"roots":{"listChanged":true}}"#, json!({"roots": {}})),
        ] {
            let up = upstream().only(Era::Legacy).tool("one").run();
            let gw = Run { era, ..run }.gateway().to("up", &up).run();
            let call = gw.call("", "up__one").able(able);
            let own = session_of(&up, call);
            // The server counts its sessions.
            let number: usize = own.strip_prefix("session-").unwrap().parse().unwrap();
            let all = up.requests();
            let mut openings = all.iter().filter(|one| one.envelope().method == "initialize");
            let opened = message(openings.nth(number - 1).unwrap());
            assert_eq!(opened["params"]["capabilities"], expected, "{era:?} {able}");
        }
    });
}
