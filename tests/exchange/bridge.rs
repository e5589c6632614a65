//! Clients of one era in front of servers of the other: lists, calls, progress and cancellation cross, and neither side is
//! told of the other's revision.
//!
//! Not here: questions of servers (bridge_questions), and the same with real peers (tests/peers).

use crate::federation::listed;
use crate::federation::names_in;
use crate::federation::tools;
use crate::support::Era;
use crate::support::Gate;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::call::LEGACY;
use crate::support::call::MODERN;
use crate::support::client::Answer;
use crate::support::client::Broken;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::is_quick;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::script::Script;
use crate::support::shelf::Shelf;
use crate::support::upstream::Next;
use crate::support::upstream::Received;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

pub const fn other(era: Era) -> Era {
    match era {
        Era::Modern => Era::Legacy,
        Era::Legacy => Era::Modern,
    }
}

/// A JSON-RPC message, whole.
pub fn message(request: &Received) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

/// Sends a notification, or a response, in the session of a call.
#[track_caller]
pub fn post(like: &Call, body: &Value) -> Answer {
    like.connect().talk(&like.raw().body(body.to_string()).bytes()).unwrap()
}

/// Three steps of progress under the token of the request, then the result.
fn progressing() -> Script {
    script::script(|connection, request| {
        let token = message(request)["params"]["_meta"]["progressToken"].clone();
        connection.send(script::STREAM);
        for step in 0..3 {
            let params = json!({"progressToken": token, "progress": step});
            let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
            connection.send(&script::event(&note.to_string()));
        }
        script::send(connection, &script::last_event(request))
    })
}

/// The messages of a stream, in order.
fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter(|data| !data.trim().is_empty()).map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// That nothing which came speaks of the revision that the server does not know.
fn is_in_words_of(era: Era, up: &Upstream) {
    let requests = up.requests();
    let of_calls = |request: &&Received| request.envelope().method == "tools/call";
    for request in requests.iter().filter(of_calls) {
        let version = request.head.field("mcp-protocol-version");
        let meta = &message(request)["params"]["_meta"];
        match era {
            Era::Modern => {
                assert_eq!(version, Some(MODERN));
                assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], MODERN);
                assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object(), "{meta}");
                assert_eq!(request.head.field("mcp-method"), Some("tools/call"));
                assert!(request.head.field("mcp-session-id").is_none());
                assert!(!request.mentions(LEGACY), "{request:?}");
            }
            Era::Legacy => {
                assert_eq!(version, Some(LEGACY));
                assert!(request.head.field("mcp-session-id").is_some());
                assert!(
                    request.head.field("mcp-method").is_none() && request.head.field("mcp-name").is_none()
                );
                assert!(
                    !request.mentions(MODERN) && !request.mentions("io.modelcontextprotocol/"),
                    "{request:?}"
                );
            }
        }
    }
}

/// Feature: list, call and progress cross both ways, at `/mcp`, at the server's own URL and at a virtual server.
#[test]
fn bridge() {
    everywhere(|run| {
        let server = other(run.era);
        let up = upstream().only(server).tool("echo").on("steps", progressing()).run();
        let gw = run.gateway().top("virtualServers: {v: {tools: [\"up.*\"]}}").to("up", &up).run();
        for (endpoint, prefix) in [("up", ""), ("", "up__"), ("v", "")] {
            let result = listed(gw.request(endpoint, "tools/list"));
            assert_eq!(names_in(&result, 0), [format!("{prefix}echo"), format!("{prefix}steps")]);
            if run.era == Era::Modern {
                assert_eq!(result["resultType"], "complete");
                assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string(), "{result}");
            }
            let call = gw.call(endpoint, &format!("{prefix}echo")).id("\"an \\u0069d\"").argument("1.50");
            let token = call.token.clone();
            let answer = call.send();
            assert_eq!((answer.status, answer.code()), (200, 0), "{endpoint}: {answer:?}");
            let said = answer.json();
            assert_eq!(said["id"], "an id");
            let came = up.once(&token);
            assert_eq!(came.envelope().params.name, "echo");
            assert!(came.envelope().params.arguments.unwrap().get().contains("1.50"), "{came:?}");
            if run.era == Era::Modern {
                assert_eq!(said["result"]["resultType"], "complete", "{said}");
            }
            let call = gw.call(endpoint, &format!("{prefix}steps")).meta("progressToken", "\"my-own\"");
            let answer = call.send();
            let events = events(&answer);
            assert_eq!(events.len(), 4, "{answer:?}");
            for (step, event) in events[..3].iter().enumerate() {
                assert_eq!(event["params"], json!({"progressToken": "my-own", "progress": step}), "{event}");
            }
            assert!(events[3]["result"].is_object() && events[3]["id"] == 1, "{answer:?}");
        }
        is_in_words_of(server, &up);
    });
}

/// Feature, agentgateway #2982: not 400; whoever asks first does not decide what a server speaks.
#[test]
fn agentgateway_2982_modern_client_legacy_server() {
    everywhere(|run| {
        for server in [Era::Legacy, Era::Modern] {
            let up = upstream().only(server).tool("echo").run();
            let gw = run.gateway().to("up", &up).run();
            for client in [run.era, other(run.era), run.era] {
                for (endpoint, name) in [("up", "echo"), ("", "up__echo")] {
                    let answer = Call::tool(gw.address, client, endpoint, name).send();
                    assert_eq!((answer.status, answer.code()), (200, 0), "{client:?} {server:?} {answer:?}");
                }
            }
        }
    });
}

/// A handshake is the gateway's own, in the client's own words.
#[test]
fn handshakes_speak_of_the_clients_era_alone() {
    everywhere(|run| {
        let up = upstream().only(other(run.era)).tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        for endpoint in ["up", ""] {
            match run.era {
                Era::Modern => {
                    let result = listed(gw.request(endpoint, "server/discover"));
                    let versions = result["supportedVersions"].as_array().unwrap();
                    assert!(versions.contains(&json!(MODERN)), "{result}");
                    assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string(), "{result}");
                    assert_eq!(result["resultType"], "complete");
                    assert!(result["capabilities"]["tools"].is_object(), "{result}");
                }
                Era::Legacy => {
                    for (asked, agreed) in [
                        (LEGACY, LEGACY),
                        ("2025-06-18", "2025-06-18"),
                        // Whoever agrees to it must take batches.
                        ("2025-03-26", LEGACY),
                        ("1999-01-01", LEGACY),
                        (MODERN, LEGACY),
                    ] {
                        let call = gw
                            .request(endpoint, "initialize")
                            .member("protocolVersion", &format!("\"{asked}\""))
                            .member("capabilities", "{}")
                            .member("clientInfo", "{\"name\":\"t\",\"version\":\"1\"}");
                        let raw = call.raw().without("mcp-protocol-version");
                        let answer = gw.client().talk(&raw.bytes()).unwrap();
                        let said = answer.json();
                        assert_eq!(said["result"]["protocolVersion"], agreed, "{asked}: {answer:?}");
                        assert!(said["result"]["capabilities"]["tools"].is_object(), "{said}");
                        assert!(said["result"]["serverInfo"]["name"].is_string(), "{said}");
                        assert!(answer.head.field("mcp-session-id").is_some(), "{answer:?}");
                    }
                }
            }
        }
    });
}

/// Feature: a modern client that leaves cancels its call at the older server; an older client's
/// `notifications/cancelled` closes the stream of the modern server.
#[test]
fn bridge_cancels() {
    everywhere(|run| {
        for (endpoint, prefix) in [("up", ""), ("", "up__")] {
            let (slow, left) = script::watched(script::STREAM);
            let up = upstream().only(other(run.era)).on("slow", slow).run();
            let gw = run.gateway().to("up", &up).run();
            let call = gw.call(endpoint, &format!("{prefix}slow")).id("77").in_session();
            let mut client = call.connect();
            client.send(&call.raw().bytes());
            up.until_called(&call.token);
            match run.era {
                Era::Modern => {
                    let sent = up.once(&call.token).envelope().raw_id().to_owned();
                    drop(client);
                    eventually("the server is told", || up.count("notifications/cancelled") == 1);
                    let all = up.requests();
                    let note =
                        all.iter().find(|one| one.envelope().method == "notifications/cancelled").unwrap();
                    assert_eq!(message(note)["params"]["requestId"].to_string(), sent);
                    assert_eq!(
                        note.head.field("mcp-session-id"),
                        up.once(&call.token).head.field("mcp-session-id")
                    );
                }
                Era::Legacy => {
                    let cancel = |id: u64| {
                        let params = json!({"requestId": id, "reason": "enough"});
                        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
                    };
                    // Nobody's: taken, and without effect.
                    assert_eq!(post(&call, &cancel(78)).status, 202);
                    let stranger = Call { session: None, ..call.clone() }.in_session();
                    assert_eq!(post(&stranger, &cancel(77)).status, 202);
                    assert_eq!(up.mentions("notifications/cancelled"), 0, "a modern server knows none");
                    assert!(left.try_recv().is_err(), "cancelled by a stranger");
                    assert_eq!(post(&call, &cancel(77)).status, 202);
                    left.recv_timeout(crate::support::PATIENCE).expect("the stream is closed");
                }
            }
        }
    });
}

/// An older client that only disconnects does not cancel, whatever the server's era.
#[test]
fn bridge_disconnect_of_an_older_client_is_no_cancel() {
    everywhere(|run| {
        if run.era == Era::Modern {
            return;
        }
        let gate = Gate::default();
        let behind = gate.clone();
        let (tell, told) = std::sync::mpsc::sync_channel(10);
        let slow = script::script(move |connection, request| {
            connection.send(script::STREAM);
            connection.send(&script::progress(1));
            behind.wait();
            let taken = connection.send(&script::last_event(request));
            let _ = tell.send(taken);
            if taken { Next::Keep } else { Next::Close }
        });
        let up = upstream().only(Era::Modern).on("slow", slow).run();
        let gw = run.gateway().to("up", &up).run();
        let call = gw.call("", "up__slow").in_session();
        let mut client = call.connect();
        client.send(&call.raw().bytes());
        assert_eq!(client.head().unwrap().status(), 200);
        drop(client);
        // The gateway has seen it go once its own next answer is there.
        assert_eq!(gw.call("", "up__nothing").send().code(), -32602);
        let yaml = gw.metric("ringgate_inflight", &[]);
        assert!(yaml >= 0.0);
        gate.open();
        assert!(told.recv_timeout(crate::support::PATIENCE).unwrap(), "nobody read the answer");
    });
}

/// Feature: what cannot be mapped is an explicit error within 1 s.
#[test]
fn bridge_says_what_it_cannot_do() {
    everywhere(|run| {
        let up = upstream().only(other(run.era)).tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let methods: &[&str] = match run.era {
            Era::Modern => &[
                "logging/setLevel",
                "resources/subscribe",
                "resources/unsubscribe",
                "ping",
                "tasks/list",
                "x/y",
            ],
            Era::Legacy => &["server/discover", "subscriptions/listen", "tasks/get", "x/y"],
        };
        for endpoint in ["up", ""] {
            let like = gw.request(endpoint, "x/y").in_session();
            for method in methods {
                let call = Call { method: (*method).into(), ..like.again() }.member("taskId", "\"a\"");
                let mut answer = None;
                is_quick(Duration::from_secs(1), || {
                    let begun = Instant::now();
                    answer = Some(call.clone().send());
                    begun.elapsed()
                });
                let answer = answer.unwrap();
                let expected = if run.era == Era::Modern { (404, -32601) } else { (200, -32601) };
                assert_eq!((answer.status, answer.code()), expected, "{endpoint} {method}: {answer:?}");
                assert_eq!(up.mentions(&call.token), 0, "{method}");
            }
        }
    });
}

/// A server that dies within a call, or says what is no MCP: an explicit error within 1 s, in both directions.
#[test]
fn bridge_never_hangs_on_broken_servers() {
    everywhere(|run| {
        let cut = script::script(|connection, _| {
            connection.send(script::STREAM);
            connection.send(&script::progress(1));
            Next::Close
        });
        let up = upstream()
            .only(other(run.era))
            .on("hang_up", script::hang_up())
            .on("cut", cut)
            .on(
                "html",
                script::script(|connection, _| {
                    connection
                        .send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>");
                    Next::Keep
                }),
            )
            .on("none", script::script(|connection, _| script::send(connection, &script::plain(202, ""))))
            .on(
                "text",
                script::script(|connection, _| {
                    script::send(connection, &script::plain(200, "{\"jsonrpc\":"))
                }),
            )
            .run();
        let gw = run.gateway().to("up", &up).run();
        let like = gw.call("", "x").in_session();
        for tool in ["hang_up", "cut", "html", "none", "text"] {
            let call = Call { name: Some(format!("up__{tool}")), ..like.again() };
            let begun = Instant::now();
            let answer = call.clone().connect().talk(&call.raw().bytes());
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(2), "{tool} took {took:?}");
            match answer {
                // A cut answer never looks whole.
                Err(Broken::Cut { .. } | Broken::Reset(_)) if tool == "cut" => {}
                Ok(answer) => {
                    assert!(answer.code() != 0, "{tool}: {answer:?}");
                    assert_eq!(answer.json()["id"], 1, "{tool}: {answer:?}");
                }
                Err(broken) => panic!("{tool}: {broken:?}"),
            }
        }
    });
}

/// A legacy answer of 9 MiB cannot be put in the words of a modern client: it is refused, never cut.
#[test]
fn bridge_refuses_what_is_too_large() {
    const SIZE: u64 = 9 * 1024 * 1024;
    everywhere(|run| {
        if run.era == Era::Legacy {
            return;
        }
        let in_event = script::script(|connection, request| {
            connection.send(script::STREAM);
            let text = "x".repeat(usize::try_from(SIZE).unwrap());
            let result = script::result(request, &json!({"content": [{"type": "text", "text": text}]}));
            connection.send(&script::event(&result));
            script::send(connection, script::LAST_CHUNK)
        });
        let up = upstream()
            .only(Era::Legacy)
            .on("length", script::large(SIZE, false))
            .on("chunks", script::large(SIZE, true))
            .on("event", in_event)
            .on("fits", script::large(1024 * 1024, true))
            .run();
        let gw = run.gateway().to("up", &up).run();
        let fits = gw.call("", "up__fits").send();
        assert_eq!((fits.status, fits.code()), (200, 0));
        assert_eq!(fits.json()["result"]["resultType"], "complete");
        for tool in ["length", "chunks", "event"] {
            let answer = gw.call("", &format!("up__{tool}")).send();
            assert!(answer.code() != 0, "{tool}: {} bytes of {}", answer.body.len(), answer.status);
            let error = answer.json()["error"].clone();
            assert!(error["data"]["reason"].is_string(), "{tool}: {error}");
        }
    });
}

/// Errors cross in the words of the client's era.
#[test]
fn bridge_translates_errors() {
    everywhere(|run| {
        if run.era == Era::Legacy {
            return;
        }
        let missing = script::script(|connection, request| {
            script::error(connection, request, -32002, "Resource not found")
        });
        let shelf = Shelf::of(&["t"]).with(2, &["file:///a"]);
        let up = upstream().only(Era::Legacy).tool("t").shelf(&shelf).method("resources/read", missing).run();
        let gw = run.gateway().to("up", &up).run();
        for (endpoint, uri) in [("up", "file:///a"), ("", "up+file:///a")] {
            let call = gw
                .request(endpoint, "resources/read")
                .member("uri", &format!("\"{uri}\""))
                .field(format!("Mcp-Name: {uri}"));
            let answer = call.send();
            assert_eq!((answer.status, answer.code()), (200, -32602), "{answer:?}");
        }
        assert_eq!(up.count("resources/read"), 2);
    });
}

/// Both eras at once at one URL, in front of one server of each.
#[test]
fn bridge_serves_both_eras_at_once() {
    everywhere(|run: Run| {
        let (old, new) =
            (upstream().only(Era::Legacy).tool("a").run(), upstream().only(Era::Modern).tool("b").run());
        let gw = run.gateway().to("old", &old).to("new", &new).run();
        assert_eq!(tools(&gw, ""), ["old__a", "new__b"]);
        crate::support::line::together(4, |number| {
            let era = if number % 2 == 0 { Era::Modern } else { Era::Legacy };
            let like = Call::tool(gw.address, era, "", "old__a").in_session();
            let mut line = crate::support::line::Line::new(like);
            for step in 0..50 {
                let name = if step % 2 == 0 { "old__a" } else { "new__b" };
                let call = Call { name: Some(name.into()), id: format!("{step}"), ..line.next() };
                let answer = line.make(&call).unwrap();
                assert!(answer.code() == 0 && answer.text().contains(&call.token), "{answer:?}");
                assert_eq!(answer.json()["id"], step);
            }
        });
    });
}

/// A tool that wants an argument repeated which it did not when it was listed refuses the call unseen: it is listed again and
/// asked once more, and no third time (2026-07-28, transports, "Custom Headers from Tool Parameters").
#[test]
fn bridge_lists_again_what_wants_other_fields() {
    on_every_driver(|run| {
        let wanted = Arc::new(AtomicUsize::new(0));
        let (listed, called) = (Arc::clone(&wanted), Arc::clone(&wanted));
        let lists = script::script(move |connection, request| {
            let region = match listed.load(SeqCst) {
                0 => json!({"type": "string"}),
                _ => json!({"type": "string", "x-mcp-header": "Region"}),
            };
            let schema = json!({"type": "object", "properties": {"region": region}});
            let tools = json!([{"name": "x", "inputSchema": schema}]);
            let page =
                json!({"resultType": "complete", "ttlMs": 600_000, "cacheScope": "public", "tools": tools});
            script::send(connection, &script::plain(200, &script::result(request, &page)))
        });
        let tool = script::script(move |connection, request| {
            let has = request.head.field("mcp-param-region") == Some("eu");
            match called.load(SeqCst) {
                0 => script::send(connection, &script::plain(200, &script::echo_result(request))),
                1 if has => script::send(connection, &script::plain(200, &script::echo_result(request))),
                _ => {
                    let body = json!({"jsonrpc": "2.0", "id": message(request)["id"], "error": {"code": -32020, "message": "no"}});
                    script::send(connection, &script::plain(400, &body.to_string()))
                }
            }
        });
        let up = upstream().only(Era::Modern).method("tools/list", lists).on("x", tool).run();
        let gw = Run { era: Era::Legacy, ..run }.gateway().workers(1).to("up", &up).run();
        let call = gw.call("", "up__x").given("region", "\"eu\"").in_session();
        // What it answers, and how often the server was asked.
        let calls = || {
            let call = call.again();
            (call.clone().send().code(), up.with(&call.token).len())
        };
        assert_eq!(calls(), (0, 1));
        wanted.store(1, SeqCst);
        // No server is listed twice in a second.
        eventually("it is listed again", || match calls() {
            (-32020, 2) => false,
            other => {
                assert_eq!(other, (0, 2));
                true
            }
        });
        assert_eq!(calls(), (0, 1), "it is known now");
        wanted.store(2, SeqCst);
        assert_eq!(calls(), (-32020, 2));
    });
}
