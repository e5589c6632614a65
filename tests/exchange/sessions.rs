//! The revisions side by side at `/mcp/NAME`: sessions, GET and DELETE of the older ones, what each of
//! them may ask and how it is refused.
//!
//! Not here: streams as such (streaming), headers against body (headers).

use crate::support::Era;
use crate::support::Gate;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::call::Raw;
use crate::support::drivers;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::upstream;
use std::time::Duration;
use std::time::Instant;

fn legacy(test: impl Fn(Run)) {
    drivers().into_iter().for_each(|driver| test(Run { driver, era: Era::Legacy }));
}

/// A request without a body, with all that a client of the era sends.
fn bare(gw: &Gateway, method: &str) -> Raw {
    let call = gw.call("up", "echo").in_session();
    call.raw().line(format!("{method} /mcp/up HTTP/1.1")).body("").without_length().without("content-type")
}

/// Feature: `/mcp/NAME` exposes one server with its own names, and no other.
#[test]
fn server_url() {
    everywhere(|run| {
        let (one, two) = (upstream().tool("echo").run(), upstream().tool("echo").run());
        let gw = run.gateway().to("one", &one).to("two", &two).run();
        for (name, here, there) in [("one", &one, &two), ("two", &two, &one)] {
            let call = gw.call(name, "echo");
            let token = call.token.clone();
            let answer = call.send();
            assert!(answer.status == 200 && answer.text().contains(&token), "{answer:?}");
            assert_eq!((here.with(&token).len(), there.mentions(&token)), (1, 0));
            assert_eq!(here.once(&token).head.start[1], "/mcp");
            let names = gw.request(name, "tools/list").send().json();
            assert_eq!(names["result"]["tools"][0]["name"], "echo", "{names}");
        }
        for name in ["three", "ONE", "one/two", "one__echo"] {
            let call = gw.call(name, "echo");
            let token = call.token.clone();
            assert_eq!(call.try_send().unwrap().status, 404, "{name}");
            assert_eq!(one.mentions(&token) + two.mentions(&token), 0, "{name}");
        }
    });
}

/// The client holds a sealed name of the session, the server its own.
#[test]
fn a_session_is_sealed() {
    legacy(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().pinned().to("up", &up).run();
        let call = gw.call("up", "echo").in_session();
        let session = call.session.clone().expect("no session id");
        assert!(!session.contains("session-1") && session.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(session.len() <= 131, "longer than a session of one server may be: {session}");
        assert_eq!(call.clone().send().status, 200);
        assert_eq!(up.once(&call.token).head.field("mcp-session-id"), Some("session-1"));
        let delete = bare(&gw, "DELETE");
        assert_eq!(gw.client().talk(&delete.bytes()).unwrap().status, 200);
        let deleted = up.requests().into_iter().find(|request| request.method() == "DELETE").unwrap();
        assert!(deleted.head.field("mcp-session-id").is_some() && deleted.body.is_empty());
    });
}

/// Hardening, "a session of route A replayed on route B" and "session hijack": every use of a session but its own is
/// answered as one of a session that never was, and reaches nobody.
#[test]
fn sessions_belong_to_their_principal_and_their_server() {
    legacy(|run| {
        let (one, two) = (upstream().tool("echo").run(), upstream().tool("echo").run());
        let gw = run.gateway().pinned().agents(&["alice", "bob"]).to("one", &one).to("two", &two).run();
        let call = |agent: &str, server: &str| gw.keyed(agent, gw.call(server, "echo"));
        let session = call("alice", "one").in_session().session.expect("a session");
        let mut flipped = session.clone().into_bytes();
        let last = flipped.len() - 1;
        flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(flipped).unwrap();
        let unknown = |call: Call| {
            let token = call.token.clone();
            let answer = call.try_send().unwrap();
            assert_eq!((answer.status, answer.code()), (404, -33404), "{answer:?}");
            assert_eq!(one.mentions(&token) + two.mentions(&token), 0);
            let mut said = answer.json();
            said["error"]["data"]["traceId"].take();
            said
        };
        let with =
            |agent, server, session: &str| Call { session: Some(session.into()), ..call(agent, server) };
        let never_was = unknown(with("alice", "one", "nobody-knows-it"));
        for (agent, server, session) in [
            ("bob", "one", &session),
            ("alice", "two", &session),
            ("bob", "two", &session),
            ("alice", "one", &flipped),
            ("alice", "one", &session[..last].to_owned()),
            ("alice", "one", &"session-1".to_owned()),
        ] {
            assert_eq!(unknown(with(agent, server, session)), never_was, "{agent} {server}");
        }
        assert_eq!(with("alice", "one", &session).send().status, 200);
        for method in ["GET", "DELETE"] {
            let raw = with("bob", "one", &session).raw().line(format!("{method} /mcp/one HTTP/1.1")).body("");
            let raw = raw.without_length().without("content-type");
            assert_eq!(gw.client().talk(&raw.bytes()).unwrap().status, 404, "{method}");
        }
        assert_eq!(one.sessions(), (1, 1), "nobody else ended it");
    });
}

/// A session outlives the gateway where its key does, and only there.
#[test]
fn sessions_outlive_the_gateway_that_sealed_them() {
    legacy(|run| {
        let up = upstream().tool("echo").run();
        for (state, status) in [
            ("state: {dir: state}", 200),
            ("state: {sealKeys: [\"0123456789abcdef0123456789abcdef\"]}", 200),
            ("", 404),
        ] {
            let mut gw = run.gateway().top(state).to("up", &up).run();
            let session = gw.call("up", "echo").in_session().session;
            gw.restart(rustix::process::Signal::TERM);
            let call = Call { session, ..gw.call("up", "echo") };
            assert_eq!(call.try_send().unwrap().status, status, "{state}");
        }
    });
}

/// A session lives on one instance, and all of its calls go there.
#[test]
fn sessions_stay_on_their_instance() {
    legacy(|run| {
        let ups: Vec<_> = (0..3).map(|_| upstream().tool("echo").run()).collect();
        let gw = run.gateway().pinned().over("up", &ups.iter().collect::<Vec<_>>(), &[]).run();
        for _ in 0..6 {
            let call = gw.call("up", "echo").in_session();
            for _ in 0..4 {
                let next = Call { session: call.session.clone(), ..gw.call("up", "echo") };
                let token = next.token.clone();
                assert_eq!(next.send().status, 200);
                let home: Vec<_> = ups.iter().filter(|up| up.mentions(&token) > 0).collect();
                let [home] = home.as_slice() else { panic!("it went to {} instances", home.len()) };
                assert_eq!(home.sessions().0, home.sessions().1);
            }
        }
        let opened: usize = ups.iter().map(|up| up.sessions().0).sum();
        assert_eq!(opened, 6);
    });
}

/// Feature, agentgateway #1582: 405 or an event stream, as the revision and the server say.
#[test]
fn agentgateway_1582_get_is_405() {
    everywhere(|run| {
        let up = upstream()
            .get(script::bytes("HTTP/1.1 405 No\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n"))
            .run();
        let gw = run.gateway().to("up", &up).run();
        let mut client = gw.client();
        client.send(&bare(&gw, "GET").bytes());
        let answer = client.answer();
        assert_eq!(answer.status, 405);
        assert!(answer.head.field("allow").is_some_and(|allow| allow.contains("POST")), "{answer:?}");
        let came = up.requests().iter().filter(|request| request.method() == "GET").count();
        assert_eq!(came, usize::from(run.era == Era::Legacy), "GET belongs to the older revisions");
        let up = upstream().run();
        let gw = run.gateway().to("up", &up).run();
        let mut client = gw.client();
        client.send(&bare(&gw, "GET").bytes());
        let head = client.head().unwrap();
        match run.era {
            Era::Modern => assert_eq!(head.status(), 405),
            Era::Legacy => assert_eq!(head.field("content-type"), Some("text/event-stream")),
        }
    });
}

/// Feature, Bifrost #3183: the head of an authenticated GET comes within 50 ms, before any event.
#[test]
fn bifrost_3183_get_sends_headers() {
    legacy(|run| {
        let up = upstream().run();
        let builder = run.gateway();
        let file = builder.folder.path().join("keys.yaml");
        let command = ["key", "add", "--principal", "a", "--file", file.to_str().unwrap()];
        let output =
            std::process::Command::new(crate::support::gateway::binary()).args(command).output().unwrap();
        let key = String::from_utf8(output.stdout).unwrap().trim_end().lines().last().unwrap().to_owned();
        let gw = builder.top("identity: {apiKeys: {file: keys.yaml}}").to("up", &up).run();
        let call = gw.call("up", "echo").field(format!("X-API-Key: {key}")).in_session();
        let get = call.raw().line("GET /mcp/up HTTP/1.1").body("").without_length().without("content-type");
        let mut waits: Vec<Duration> = (0..5)
            .map(|_| {
                let mut client = gw.client();
                let start = Instant::now();
                client.send(&get.bytes());
                assert_eq!(client.head().unwrap().status(), 200);
                start.elapsed()
            })
            .collect();
        waits.sort();
        assert!(waits[2] <= Duration::from_millis(50), "{waits:?}");
    });
}

/// Server to client and back, and a resumed stream: all on the wires of the older revisions.
#[test]
fn get_streams_carry_requests_and_resume() {
    legacy(|run| {
        let gate = Gate::default();
        let behind = gate.clone();
        let ask = script::script(move |connection, _| {
            connection.send(script::STREAM);
            connection.send(&script::event(r#"{"jsonrpc":"2.0","id":"s1","method":"roots/list"}"#));
            behind.wait();
            connection.send(&script::progress(2));
            script::send(connection, script::LAST_CHUNK)
        });
        let up = upstream().get(ask).run();
        let gw = run.gateway().to("up", &up).run();
        let mut client = gw.client();
        client.send(&bare(&gw, "GET").field("Last-Event-ID: abc-17").bytes());
        client.head().unwrap();
        assert!(client.event().unwrap().unwrap().1.contains("roots/list"));
        let call = gw.call("up", "echo").in_session();
        let body = format!(r#"{{"jsonrpc":"2.0","id":"s1","result":{{"roots":["{}"]}}}}"#, call.token);
        let answer = gw.client().talk(&call.raw().body(body.clone()).bytes()).unwrap();
        assert!(answer.status < 300, "{answer:?}");
        assert!(up.once(&call.token).body == body.into_bytes());
        gate.open();
        assert!(client.event().unwrap().unwrap().1.contains("progress"));
        assert!(client.event().unwrap().is_none());
        let get = up.requests().into_iter().find(|request| request.method() == "GET").unwrap();
        assert_eq!(get.head.field("last-event-id"), Some("abc-17"));
    });
}

/// Feature, Envoy AI Gateway #1958: a session id only where the revision and the server have one.
#[test]
fn envoy_1958_session_id_optional() {
    everywhere(|run| {
        let up = upstream().tool("echo").without_sessions().run();
        let gw = run.gateway().to("up", &up).run();
        let call = gw.call("up", "echo").in_session();
        assert_eq!(call.session, None, "a session that no server gave");
        let answer = gw.client().talk(&call.raw().bytes()).unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.head.all("mcp-session-id").is_empty());
        assert!(up.once(&call.token).head.all("mcp-session-id").is_empty());
        // A server that wants one says so itself.
        let wants = script::script(|connection, request| match request.head.field("mcp-session-id") {
            None => script::send(
                connection,
                &script::plain(400, r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"own words"}}"#),
            ),
            Some(_) => Next::Close,
        });
        let up = upstream().every(wants).run();
        let gw = run.gateway().to("up", &up).run();
        let answer = gw.client().talk(&gw.call("up", "echo").raw().bytes()).unwrap();
        assert_eq!((answer.status, answer.text().contains("own words")), (400, true));
    });
}

/// Revision 2025-03-26 alone has batches; it had no version header yet.
#[test]
fn batches_belong_to_one_revision() {
    legacy(|run| {
        let up = upstream()
            .every(script::script(|connection, _| script::send(connection, &script::plain(200, "[]"))))
            .run();
        let gw = run.gateway().to("up", &up).run();
        for (version, status) in
            [(None, 200), (Some("2025-03-26"), 200), (Some("2025-06-18"), 400), (Some("2025-11-25"), 400)]
        {
            let call = gw.call("up", "echo");
            let token = call.token.clone();
            let body = format!("[{},{}]", call.body(), call.clone().id("2").body());
            let raw = call.raw().without("mcp-protocol-version").body(body);
            let raw =
                version.map_or(raw.clone(), |version| raw.field(format!("MCP-Protocol-Version: {version}")));
            let answer = gw.client().talk(&raw.bytes()).unwrap();
            assert_eq!(answer.status, status, "{version:?}: {answer:?}");
            match status {
                200 => assert!(up.once(&token).body == raw.body),
                _ => assert_eq!((answer.code(), up.mentions(&token)), (-32600, 0)),
            }
        }
    });
}

/// Each call of a batch is a call: counted and recorded by its own name.
#[test]
fn each_call_of_a_batch_is_counted() {
    legacy(|run| {
        let up = upstream()
            .every(script::script(|connection, _| script::send(connection, &script::plain(200, "[]"))))
            .run();
        let builder = run.gateway();
        let log = builder.folder.path().join("calls.jsonl");
        let gw = builder.call_log(&log).workers(1).to("up", &up).run();
        let call = gw.call("up", "echo");
        let list = r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#;
        let body = format!("[{},{},{list}]", call.body(), call.clone().id("2").body());
        let raw = call.raw().without("mcp-protocol-version").body(body.clone());
        assert_eq!(gw.client().talk(&raw.bytes()).unwrap().status, 200);
        let lines = || std::fs::read_to_string(&log).unwrap_or_default();
        eventually("three records", || lines().matches("\"method\"").count() == 3);
        let counted = |label: &str| gw.metric("ringgate_requests_total", &[label]);
        assert_eq!((counted("tool=\"echo\""), counted("method=\"tools/list\"")), (2.0, 1.0));
        let traces: std::collections::BTreeSet<String> = lines()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["traceId"].to_string())
            .collect();
        assert_eq!(traces.len(), 1, "{}", lines());
        assert_eq!(lines().matches(&format!("\"bytesIn\":{}", body.len())).count(), 1, "{}", lines());
        // A refused batch is one refused request, whatever it asked for.
        let bad = call.raw().without("mcp-protocol-version").body(format!("[{},7]", call.body()));
        assert_eq!(gw.client().talk(&bad.bytes()).unwrap().status, 400);
        eventually("one record more", || lines().lines().count() == 4);
        assert_eq!(counted("tool=\"echo\""), 2.0);
    });
}

#[test]
fn an_unknown_older_revision_is_400() {
    legacy(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let call = gw.call("up", "echo");
        let raw = call.raw().without("mcp-protocol-version").field("MCP-Protocol-Version: 1999-01-01");
        assert_eq!(gw.client().talk(&raw.bytes()).unwrap().status, 400);
        assert_eq!(up.mentions(&call.token), 0);
    });
}

/// Feature, agentgateway #3476: 1,000 tools over 20 pages all arrive, by their own cursors.
#[test]
fn agentgateway_3476_cursor_kept() {
    everywhere(|run| {
        let up = upstream().pages(20).run();
        let gw = run.gateway().to("up", &up).run();
        let mut names = std::collections::BTreeSet::new();
        let first = gw.request("up", "tools/list").in_session();
        let mut page = first.clone().send().json();
        let mut pages = 1;
        loop {
            let tools = page["result"]["tools"].as_array().unwrap_or_else(|| panic!("{page}"));
            names.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
            let Some(cursor) = page["result"]["nextCursor"].as_str() else { break };
            page = first.clone().member("cursor", &format!("\"{cursor}\"")).send().json();
            pages += 1;
        }
        assert_eq!((names.len(), pages), (1000, 20));
    });
}

/// Feature, agentgateway #3578: too large is 413 `too_large`, not a parse error.
#[test]
fn agentgateway_3578_too_large_is_413() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().http("maxBody: 64KiB").to("up", &up).run();
        let call = gw.call("up", "echo").in_session().argument(format!("\"{}\"", "a".repeat(65_536)));
        let answer = gw.client().talk(&call.raw().bytes()).unwrap();
        answer.refused(413, "too_large");
        assert_eq!(answer.code(), -33413);
        assert_eq!(up.mentions(&call.token), 0);
    });
}

/// Notifications are accepted with 202 and no body, and a refused one is an HTTP error.
#[test]
fn notifications_are_accepted_without_a_body() {
    on_every_driver(|run| {
        let up = upstream().run();
        let gw = run.gateway().to("up", &up).run();
        for era in [Era::Modern, Era::Legacy] {
            let call = Call { era, ..gw.request("up", "notifications/progress") };
            let body = call.body().replace("\"id\":1,", "");
            let answer = gw.client().talk(&call.raw().body(body.clone()).bytes()).unwrap();
            assert_eq!((answer.status, answer.body.len()), (202, 0), "{era:?}: {answer:?}");
            assert!(up.once(&call.token).body == body.into_bytes());
        }
    });
}
