//! What single messages must keep and change at hubs: URIs wherever they travel, ids and tokens of calls that share a
//! session, and what is refused at the door.
//!
//! Not here: names of tools (federation), the eras as such (bridge).

use crate::bridge::message;
use crate::bridge::post;
use crate::federation::listed;
use crate::support::Era;
use crate::support::Gate;
use crate::support::agent::Caller;
use crate::support::call::Call;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::issuer::issuer;
use crate::support::line::together;
use crate::support::script;
use crate::support::script::Script;
use crate::support::shelf::Shelf;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

const ERAS: [Era; 2] = [Era::Modern, Era::Legacy];

fn answering(result: Value) -> Script {
    script::script(move |connection, request| {
        script::send(connection, &script::plain(200, &script::result(request, &result)))
    })
}

fn contents() -> Value {
    let read = json!({"uri": "file:///a b", "text": "see file:///a b"});
    json!({"resultType": "complete", "ttlMs": 1, "cacheScope": "private", "contents": [read]})
}

/// A server whose results name resources wherever they can.
fn library(only: Era) -> Upstream {
    let link = json!({"type": "resource_link", "uri": "file:///a", "name": "a", "mimeType": "x/y"});
    let embedded = json!({"type": "resource", "resource": {"uri": "ui://page/1", "text": "file:///kept"}});
    let text = json!({"type": "text", "text": "file:///kept"});
    let result = json!({"resultType": "complete", "content": [text, link, embedded], "isError": false,
        "structuredContent": {"uri": "file:///kept"}});
    let prompt = json!({"resultType": "complete", "messages": [{"role": "user", "content": embedded}]});
    let completion = json!({"resultType": "complete", "completion": {"values": ["x"], "total": 1}});
    let tool = json!({"name": "show", "inputSchema": {"type": "object"}, "_meta": {"ui": {"resourceUri": "ui://page/1"}}});
    let shelf = Shelf::of(&[])
        .with_tool(tool)
        .with(1, &["greet"])
        .with(2, &["file:///a", "ui://page/1", "a+b:c"])
        .with(3, &["file:///{name}", "ui://page/{n}"]);
    upstream()
        .only(only)
        .able(r#"{"tools":{},"prompts":{},"resources":{},"completions":{}}"#)
        .on("show", answering(result))
        .shelf(&shelf)
        .method("prompts/get", answering(prompt))
        .method("resources/read", answering(contents()))
        .method("completion/complete", answering(completion))
        .run()
}

/// Reads a resource by the name that the hub gives it.
fn read(gw: &Gateway, uri: &str) -> Call {
    let call = gw.request("", "resources/read").member("uri", &json!(uri).to_string());
    if call.era == Era::Modern { call.field(format!("Mcp-Name: {uri}")) } else { call }
}

/// Feature: a URI is wrapped wherever it travels, `ui://` stays `ui://`, text stays text; the server gets its own.
#[test]
fn hub_wraps_uris() {
    everywhere(|run| {
        for only in ERAS {
            let up = library(only);
            let gw = run.gateway().to("my_lib", &up).run();
            let names = |list: usize| {
                let (method, member, key) = crate::support::shelf::LISTS[list];
                let result = listed(gw.request("", method));
                let all = result[member]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| one[key].as_str().unwrap().to_owned());
                all.collect::<Vec<_>>()
            };
            assert_eq!(names(2), ["my.lib+file:///a", "ui://my.lib/page/1", "my.lib+a+b:c"], "{only:?}");
            assert_eq!(names(3), ["my.lib+file:///{name}", "ui://my.lib/page/{n}"]);
            let tools = listed(gw.request("", "tools/list"));
            assert_eq!(tools["tools"][0]["_meta"]["ui"]["resourceUri"], "ui://my.lib/page/1", "{tools}");
            let result = gw.call("", "my_lib__show").send().json()["result"].clone();
            assert_eq!(result["content"][0]["text"], "file:///kept");
            assert_eq!(result["structuredContent"]["uri"], "file:///kept");
            assert_eq!(result["content"][1]["uri"], "my.lib+file:///a", "{result}");
            assert_eq!(result["content"][2]["resource"]["uri"], "ui://my.lib/page/1", "{result}");
            assert_eq!(result["content"][2]["resource"]["text"], "file:///kept");
            let prompt = Call { name: Some("my_lib__greet".into()), ..gw.request("", "prompts/get") };
            let prompt = prompt.send().json()["result"].clone();
            assert_eq!(prompt["messages"][0]["content"]["resource"]["uri"], "ui://my.lib/page/1", "{prompt}");
            for (shown, own) in [
                ("my.lib+file:///a", "file:///a"),
                ("MY.LIB+file:///a", "file:///a"),
                ("my.lib+file:///any", "file:///any"),
                ("ui://my.lib/page/1", "ui://page/1"),
                ("my.lib+a+b:c", "a+b:c"),
            ] {
                let call = read(&gw, shown);
                let token = call.token.clone();
                let answer = call.send();
                assert_eq!((answer.status, answer.code()), (200, 0), "{shown}: {answer:?}");
                assert_eq!(answer.json()["result"]["contents"][0]["uri"], "my.lib+file:///a b", "{answer:?}");
                assert_eq!(answer.json()["result"]["contents"][0]["text"], "see file:///a b");
                assert_eq!(message(&up.once(&token))["params"]["uri"], own, "{shown}");
            }
            for nothing in ["file:///a", "ui://page/1", "other+file:///a", "my_lib+file:///a", "+"] {
                let call = read(&gw, nothing);
                let token = call.token.clone();
                let expected = if run.era == Era::Modern { -32602 } else { -32002 };
                let answer = call.send();
                assert_eq!((answer.status, answer.code()), (200, expected), "{nothing}: {answer:?}");
                assert_eq!(up.mentions(&token), 0, "{nothing}");
            }
            completes(&gw, &up);
        }
    });
}

/// What is completed is named as the hub shows it, and reaches the server under its own name.
fn completes(gw: &Gateway, up: &Upstream) {
    for (reference, own) in [
        (
            json!({"type": "ref/prompt", "name": "my_lib__greet"}),
            json!({"type": "ref/prompt", "name": "greet"}),
        ),
        (
            json!({"type": "ref/resource", "uri": "my.lib+file:///{name}"}),
            json!({"type": "ref/resource", "uri": "file:///{name}"}),
        ),
    ] {
        let call = gw
            .request("", "completion/complete")
            .member("ref", &reference.to_string())
            .member("argument", "{\"name\":\"n\",\"value\":\"v\"}");
        let token = call.token.clone();
        let answer = call.send();
        assert_eq!(answer.json()["result"]["completion"]["values"], json!(["x"]), "{answer:?}");
        assert_eq!(message(&up.once(&token))["params"]["ref"], own);
    }
}

/// Calls of one principal share a session of an older server: their ids and progress tokens differ there, and each gets
/// its own back.
#[test]
fn equal_ids_do_not_collide_in_a_shared_session() {
    everywhere(|run| {
        if run.era == Era::Legacy {
            return;
        }
        let gate = Gate::default();
        let behind = gate.clone();
        let slow = script::script(move |connection, request| {
            let token = message(request)["params"]["_meta"]["progressToken"].clone();
            behind.wait();
            connection.send(script::STREAM);
            let note = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                              "params": {"progressToken": token, "progress": 1}});
            connection.send(&script::event(&note.to_string()));
            script::send(connection, &script::last_event(request))
        });
        let up = upstream().only(Era::Legacy).on("slow", slow).run();
        let gw = run.gateway().to("up", &up).run();
        let calls = 6;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..calls)
                .map(|_| {
                    scope.spawn(|| {
                        let call = gw.call("", "up__slow").id("7").meta("progressToken", "\"same\"");
                        let token = call.token.clone();
                        let answer = call.send();
                        assert!(answer.text().contains(&token), "another's answer: {answer:?}");
                        assert!(answer.text().contains("\"progressToken\":\"same\""), "{answer:?}");
                        assert_eq!(answer.json()["id"], 7, "{answer:?}");
                    })
                })
                .collect();
            eventually("all are there", || up.calls() == calls);
            let came = up.requests();
            let came: Vec<_> = came.iter().filter(|one| one.envelope().method == "tools/call").collect();
            let sessions: BTreeSet<_> = came.iter().map(|one| one.head.field("mcp-session-id")).collect();
            assert_eq!(sessions.len(), 1, "{sessions:?}");
            let ids: BTreeSet<String> = came.iter().map(|one| message(one)["id"].to_string()).collect();
            assert_eq!(ids.len(), calls, "{ids:?}");
            let tokens: BTreeSet<String> =
                came.iter().map(|one| message(one)["params"]["_meta"]["progressToken"].to_string()).collect();
            assert_eq!(tokens.len(), calls, "{tokens:?}");
            gate.open();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    });
}

/// An older client cancels by the id that it gave, however that is written; the older server hears of it under the id
/// that it knows.
#[test]
fn hub_passes_cancellations_on() {
    everywhere(|run| {
        if run.era == Era::Modern {
            return;
        }
        for only in ERAS {
            let (slow, left) = script::watched(script::STREAM);
            let up = upstream().only(only).on("slow", slow).run();
            let gw = run.gateway().to("up", &up).run();
            for (written, meant) in [("\"a\"", json!("a")), ("\"\\u0061b\"", json!("ab")), ("12", json!(12))]
            {
                let call = gw.call("", "up__slow").id(written).in_session();
                let mut client = call.connect();
                client.send(&call.raw().bytes());
                up.until_called(&call.token);
                let params = json!({"requestId": meant});
                let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
                assert_eq!(post(&call, &note).status, 202);
                match only {
                    Era::Modern => {
                        let closed = left.recv_timeout(crate::support::PATIENCE);
                        assert!(closed.is_ok(), "{written}: the stream stays open");
                    }
                    Era::Legacy => {
                        let sent = message(&up.once(&call.token))["id"].clone();
                        let told = || {
                            up.requests().iter().any(|one| {
                                one.envelope().method == "notifications/cancelled"
                                    && message(one)["params"]["requestId"] == sent
                            })
                        };
                        eventually("the server is told", told);
                    }
                }
            }
        }
    });
}

/// Batches belong to 2025-03-26 alone.
#[test]
fn hubs_take_no_batches_of_other_revisions() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let call = gw.call("", "up__echo").in_session();
        let batch = format!("[{},{}]", call.body(), call.clone().id("2").body());
        let answer = gw.client().talk(&call.raw().body(batch.clone()).bytes()).unwrap();
        assert_eq!((answer.status, answer.code()), (400, -32600), "{answer:?}");
        assert_eq!(up.mentions(&call.token), 0);
    });
}

/// Whoever agrees to 2025-03-26 must take batches (basic, "Batching"): hubs, which take none, agree to another one.
#[test]
fn hubs_do_not_agree_to_batches() {
    everywhere(|run| {
        if run.era == Era::Modern {
            return;
        }
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let call = gw.call("", "up__echo");
        let batch = format!("[{},{}]", call.body(), call.clone().id("2").body());
        let first = gw
            .request("", "initialize")
            .member("protocolVersion", "\"2025-03-26\"")
            .member("capabilities", "{}")
            .member("clientInfo", "{\"name\":\"t\",\"version\":\"1\"}");
        let answer = gw.client().talk(&first.raw().without("mcp-protocol-version").bytes()).unwrap();
        // A hub agrees to a revision without them.
        assert_eq!(answer.json()["result"]["protocolVersion"], "2025-11-25");
        let session = answer.head.field("mcp-session-id").map(str::to_owned);
        let call = Call { session, ..call };
        let raw = call.raw().without("mcp-protocol-version").body(batch);
        let answer = gw.client().talk(&raw.bytes()).unwrap();
        assert_eq!((answer.status, answer.code()), (400, -32600), "{answer:?}");
        assert_eq!(up.mentions(&call.token), 0);
    });
}

/// Many that begin at once: no session is lost, none is another's, and those of who ends them are closed.
#[test]
fn sessions_begin_together() {
    everywhere(|run| {
        if run.era == Era::Modern {
            return;
        }
        let up = upstream().only(Era::Legacy).tool("echo").run();
        let gw = run
            .gateway()
            .limit("name: handshakes, methods: [initialize], key: principal, rate: 1k/s")
            .to("up", &up)
            .run();
        let sessions = together(16, |_| {
            let call = gw.call("", "up__echo").in_session();
            assert_eq!(call.clone().send().code(), 0);
            (up.once(&call.token).head.field("mcp-session-id").unwrap().to_owned(), call)
        });
        let distinct: BTreeSet<_> = sessions.iter().map(|(name, _)| name).collect();
        assert_eq!(distinct.len(), sessions.len(), "two clients share a session");
        for (_, call) in &sessions {
            let raw =
                call.raw().line("DELETE /mcp HTTP/1.1").body("").without_length().without("content-type");
            assert!(gw.client().talk(&raw.bytes()).unwrap().status < 300);
        }
        // What listing takes stays, or goes by itself.
        eventually("they are closed", || up.sessions().1 <= 1);
    });
}

/// A server that opens no sessions any more holds up one client that begins, and no other.
#[test]
fn a_server_that_hangs_holds_up_one_beginning() {
    everywhere(|run| {
        if run.era == Era::Modern {
            return;
        }
        let hangs = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&hangs);
        let begins = script::script(move |connection, request| {
            if watched.load(SeqCst) {
                return script::silent_stream(connection, request);
            }
            script::initialize(connection, request, None, r#"{"tools":{}}"#)
        });
        let up =
            upstream().only(Era::Legacy).without_sessions().method("initialize", begins).tool("echo").run();
        let well = upstream().only(Era::Legacy).tool("echo").run();
        let gw = run.gateway().workers(1).to("up", &up).to("well", &well).run();
        gw.request("", "tools/list").send();
        hangs.store(true, SeqCst);
        let _held_up = gw.request("", "tools/list").in_session();
        let begun = Instant::now();
        (0..5).for_each(|_| assert_eq!(gw.call("", "well__echo").send().code(), 0));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    });
}

/// A level that a client sets at a hub is known to the servers in whose sessions it is.
#[test]
fn hub_passes_log_levels_on() {
    everywhere(|run| {
        if run.era == Era::Modern {
            return; // It says the level with each call.
        }
        let up = upstream().only(Era::Legacy).able(r#"{"tools":{},"logging":{}}"#).tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let call = gw.request("", "logging/setLevel").in_session().member("level", "\"error\"");
        assert_eq!(call.send().code(), 0);
        eventually("the server knows", || up.mentions("logging/setLevel") == 1);
    });
}

/// A session that a call has opened, later than the client set a level, begins with that level; what the client says to all
/// its servers after that is said there, too.
#[test]
fn regression_sessions_of_later_calls_hear_what_their_client_says() {
    everywhere(|run| {
        if run.era == Era::Modern {
            return; // It has no sessions.
        }
        let (issuer, up) = (issuer(), upstream().only(Era::Legacy).able(r#"{"tools":{},"logging":{}}"#));
        let (up, mute) = (up.tool("echo").run(), upstream().only(Era::Legacy).tool("echo").run());
        // What they are shown of a caller is found with its first call: initialize opens no sessions there.
        let auth = ["auth: {kind: headers, claims: {X-User: sub}}"];
        let gw =
            run.gateway().top(issuer.identity(&[])).with("up", &up, &auth).with("mute", &mute, &auth).run();
        let mut agent = Caller::new(gw.call("", "").field(issuer.token("alice").bearer()));
        let sets = |agent: &mut Caller, level: &str| {
            let call = agent.request("logging/setLevel").member("level", &format!("\"{level}\""));
            assert_eq!(agent.send(&call).code(), 0);
        };
        sets(&mut agent, "error");
        agent.passes("up__echo");
        agent.passes("mute__echo");
        let methods: Vec<String> = up.requests().iter().map(|one| one.envelope().method).collect();
        let place = |method: &str| methods.iter().position(|known| known == method);
        assert!(place("logging/setLevel").unwrap() < place("tools/call").unwrap(), "{methods:?}");
        assert_eq!((up.mentions(r#""level":"error""#), mute.mentions("logging/setLevel")), (1, 0));
        sets(&mut agent, "debug");
        eventually("the level is known", || up.mentions(r#""level":"debug""#) == 1);
        let changed = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
        assert_eq!(post(&agent.request(""), &changed).status, 202);
        for server in [&up, &mute] {
            eventually("the roots are known", || server.mentions("notifications/roots/list_changed") == 1);
        }
    });
}
