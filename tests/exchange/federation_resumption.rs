//! Streams of calls at a hub that their clients lose: the server says the rest once more (2025-11-25, transports,
//! "Resumability and Redelivery").
//!
//! Not here: streams that pass to one server untouched (streaming), and those of 2026-07-28, which end with their
//! connection (cancel).

use crate::support::Era;
use crate::support::Gate;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::call::chunk;
use crate::support::client::Client;
use crate::support::drivers;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;

fn legacy(test: impl Fn(Run)) {
    drivers().into_iter().for_each(|driver| test(Run { driver, era: Era::Legacy }));
}

fn event(id: &str, data: &str) -> Vec<u8> {
    chunk(format!("id: {id}\ndata: {data}\n\n").as_bytes())
}

/// A server with an event store of one call: it marks the stream, logs behind the gate, and keeps the answer until somebody
/// asks for what came behind the log message.
fn keeper(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    let kept = Arc::new(Mutex::new(String::new()));
    let store = Arc::clone(&kept);
    let begins = script::script(move |connection, request| {
        *store.lock().unwrap() = script::result(request, &json!({"content": [], "kept": true}));
        let params = json!({"level": "info", "data": 1});
        let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
        connection.send(script::STREAM);
        connection.send(&event("s_1/0", ""));
        gate.wait();
        connection.send(&event("s_1/1", &log.to_string()));
        connection.until_gone();
        Next::Close
    });
    let replays = script::script(move |connection, request| {
        if request.head.field("last-event-id").is_none() {
            return script::send(connection, &script::plain(405, ""));
        }
        connection.send(script::STREAM);
        connection.send(&event("s_1/2", &kept.lock().unwrap()));
        script::send(connection, script::LAST_CHUNK)
    });
    upstream().only(Era::Legacy).able(r#"{"tools":{},"logging":{}}"#).on("x", begins).get(replays).run()
}

/// Asks for what came behind an event, in the session of a call.
fn goes_on(call: &Call, event: &str) -> Client {
    let mut client = call.connect();
    let raw = call.raw().line(format!("GET {} HTTP/1.1", call.target)).without("Content-Type").body("");
    assert!(client.send(&raw.without_length().field(format!("Last-Event-ID: {event}")).bytes()));
    client
}

/// The id of an event, and its message, if it has one.
#[track_caller]
fn next(client: &mut Client) -> (String, Value) {
    let (_, event) = client.event().unwrap().expect("the stream has ended");
    let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let message =
        line("data:").filter(|data| !data.is_empty()).map(|data| serde_json::from_str(data).unwrap());
    (line("id:").unwrap_or_default().to_owned(), message.unwrap_or_default())
}

/// Law of the older revisions, and of hubs: the client gets the server's ids under a number of the server's, and a GET behind
/// one of them brings what came after it, from that server, in that session.
#[test]
fn hub_streams_go_on_behind_an_event() {
    legacy(|run| {
        let gate = Gate::default();
        let (up, other) = (keeper(&gate), upstream().only(Era::Legacy).tool("echo").run());
        let gw = run.gateway().to("up", &up).to("other", &other).run();
        let call = gw.call("", "up__x").in_session();
        let mut client = call.clone().open();
        client.head().unwrap();
        let (first, nothing) = next(&mut client);
        gate.open();
        let (second, log) = next(&mut client);
        assert_eq!((nothing, &log["method"]), (Value::Null, &"notifications/message".into()));
        let number = second.strip_suffix(".s_1/1").unwrap_or_else(|| panic!("{second}"));
        assert_eq!(first, format!("{number}.s_1/0"));
        drop(client);
        let mut again = goes_on(&call, &second);
        assert_eq!(again.head().unwrap().status(), 200);
        let (third, answer) = next(&mut again);
        assert_eq!((third, &answer["result"]["kept"]), (format!("{number}.s_1/2"), &true.into()));
        assert_eq!(answer["id"].to_string(), call.id);
        assert!(again.event().unwrap().is_none(), "the stream is over");
        let asked = |up: &Upstream| up.requests().iter().filter(|one| one.mentions("s_1/1")).count();
        let sessions: BTreeSet<String> = up
            .requests()
            .iter()
            .filter(|one| one.mentions("s_1/1") || one.mentions(&call.token))
            .map(|one| one.head.field("mcp-session-id").unwrap().to_owned())
            .collect();
        assert_eq!((asked(&up), asked(&other), sessions.len()), (1, 0, 1));
        assert_eq!(up.count("notifications/cancelled"), 0, "an older client that leaves cancels nothing");
    });
}

/// What is no event of a server here is none that a stream could go on behind: the GET is as one without it. And whoever
/// takes another's event gets what its own session knows.
#[test]
fn hub_streams_of_others_do_not_go_on() {
    legacy(|run| {
        let gate = Gate::default();
        gate.open();
        let up = keeper(&gate);
        let gw = run.gateway().to("up", &up).run();
        let call = gw.call("", "up__x").in_session();
        for event in ["1", "1.", "x.y", "7.s_1/1", "s_1/1"] {
            let mut client = goes_on(&call, event);
            assert_eq!(client.head().unwrap().status(), 200, "{event}");
            assert!(client.is_quiet(), "{event}");
        }
        assert_eq!(up.requests().iter().filter(|one| one.head.field("last-event-id").is_some()).count(), 0);
    });
}

/// Before 2025-11-25 an event without data was a broken message to some clients: they get none, and ids all the same.
#[test]
fn hub_streams_of_older_revisions_are_not_marked() {
    legacy(|run| {
        let gate = Gate::default();
        gate.open();
        let up = keeper(&gate);
        let gw = run.gateway().to("up", &up).run();
        let begins = gw.request("", "initialize").member("protocolVersion", "\"2025-06-18\"");
        let begins = begins.member("capabilities", "{}").raw().without("mcp-protocol-version");
        let begun = gw.client().talk(&begins.bytes()).unwrap();
        let session = begun.head.field("mcp-session-id").map(str::to_owned);
        let call = Call { session, ..gw.call("", "up__x") };
        let raw = call.raw().without("mcp-protocol-version").field("MCP-Protocol-Version: 2025-06-18");
        let mut client = call.connect();
        assert!(client.send(&raw.bytes()));
        client.head().unwrap();
        let (id, log) = next(&mut client);
        assert!(id.ends_with(".s_1/1") && log["method"] == "notifications/message", "{id} {log}");
    });
}
