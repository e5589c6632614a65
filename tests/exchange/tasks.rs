//! Tasks that servers keep: nobody's but their owner's, though every call of the gateway comes with one credential.
//!
//! Not here: hubs and the other era, where there are no tasks (federation, bridge).

use crate::bridge::message;
use crate::support::Era;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::issuer::issuer;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use serde_json::Value;

const METHODS: [&str; 6] =
    ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update", "tasks/list", "tasks/of-another-revision"];

/// A server that has tasks, and shows any of them to anybody.
fn keeper() -> Upstream {
    let answer = script::script(|connection, _| {
        let task = r#"{"jsonrpc":"2.0","id":1,"result":{"taskId":"t-1"}}"#;
        script::send(connection, &script::plain(200, task))
    });
    let keeper = upstream().tool("echo").able(r#"{"tools":{},"tasks":{"list":{},"cancel":{}}}"#);
    METHODS.iter().fold(keeper, |keeper, method| keeper.method(method, answer.clone())).run()
}

fn about(gw: &Gateway, server: &str, method: &str, task: &str) -> Call {
    let call = gw.request(server, method).id("1").member("taskId", &format!("\"{task}\""));
    let named = ["tasks/get", "tasks/update", "tasks/cancel"].contains(&method);
    if call.era == Era::Modern && named { call.field(format!("Mcp-Name: {task}")) } else { call }
}

/// Found in an audit, and a class of its own since the Python SDK's CVE-2026-52870: another's task answers byte for byte
/// as one that never was.
#[test]
fn cve_2026_52870_tasks_of_others_are_as_if_they_were_not() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), keeper());
        let gw = run.gateway().top(issuer.identity(&[])).to("up", &up).run();
        let bearer = issuer.token("bob").bearer();
        let expected = if run.era == Era::Modern { (404, -32601) } else { (200, -32601) };
        for method in METHODS {
            let said = |task: &str| -> Value {
                let answer = about(&gw, "up", method, task).field(&bearer).send();
                assert_eq!((answer.status, answer.code()), expected, "{method} {answer:?}");
                let mut said = answer.json();
                said["error"]["data"]["traceId"].take();
                said
            };
            assert_eq!(said("t-1"), said("never"), "{method}");
            assert_eq!(up.count(method), 0, "{method} reached the server");
        }
        // All else passes.
        assert_eq!(gw.call("up", "echo").field(&bearer).send().status, 200);
    });
}

/// A batch is refused whole, wherever in it a task is asked for.
#[test]
fn cve_2026_52870_in_batches() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), upstream().every(script::bytes(script::plain(200, "[]"))).run());
        let gw = run.gateway().top(issuer.identity(&[])).to("up", &up).run();
        let bearer = issuer.token("bob").bearer();
        let posts = || up.requests().iter().filter(|request| request.body.starts_with(b"[")).count();
        let batch = |second: &str| {
            let call = Call::new(gw.address, Era::Legacy, "up", "tools/list").field(&bearer);
            let body = format!(
                r#"[{{"jsonrpc":"2.0","id":1,"method":"tools/list"}},{{"jsonrpc":"2.0","id":2,"method":"{second}","params":{{"taskId":"t-1"}}}}]"#
            );
            let raw = call.raw().without("MCP-Protocol-Version").field("MCP-Protocol-Version: 2025-03-26");
            let before = posts();
            let answer = gw.client().talk(&raw.body(body).bytes()).unwrap();
            (answer.text().contains("-32601"), posts() - before)
        };
        assert_eq!(batch("prompts/list"), (false, 1));
        assert_eq!(batch("tasks/get"), (true, 0));
    });
}

/// Revision 2026-07-28: news of tasks are asked for by their ids.
#[test]
fn cve_2026_52870_in_subscriptions() {
    on_every_driver(|run| {
        let (issuer, up) = (issuer(), keeper());
        let gw = run.gateway().top(issuer.identity(&[])).to("up", &up).run();
        let bearer = issuer.token("bob").bearer();
        let listen = |wanted: &str| {
            let call = Call::new(gw.address, Era::Modern, "up", "subscriptions/listen");
            call.field(&bearer).member("notifications", wanted)
        };
        let answer = listen(r#"{"toolsListChanged":true,"taskIds":["t-1"]}"#).send();
        assert_eq!(answer.code(), -32602, "{answer:?}");
        assert_eq!(up.count("subscriptions/listen"), 0);
    });
}

fn passes(run: Run, top: &str, auth: &[&str], bearer: Option<&str>) {
    let up = keeper();
    let gw = run.gateway().top(top).with("up", &up, auth).run();
    for method in METHODS {
        let call = bearer.into_iter().fold(about(&gw, "up", method, "t-1"), Call::field);
        let answer = call.send();
        assert_eq!((answer.status, up.count(method)), (200, 1), "{method} {answer:?}");
    }
}

/// Where callers have no names there is one caller; and a server that is shown who calls keeps its callers apart.
#[test]
fn tasks_pass_where_nobody_is_taken_for_another() {
    everywhere(|run| {
        passes(run, "", &[], None);
        let issuer = issuer();
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let folder = crate::support::Folder::new();
        let key = folder.file("key.pem", &key);
        let auth = format!("auth: {{kind: signedJwt, key: \"{}\"}}", key.display());
        passes(run, &issuer.identity(&[]), &[&auth], Some(&issuer.token("alice").bearer()));
    });
}

/// What of tasks a server says that it can do, as its client gets it.
fn told_of_tasks(run: Run, up: &Upstream, top: &str, bearer: &str, auth: &[&str]) -> Value {
    let gw = run.gateway().pinned().top(top).with("up", up, auth).run();
    let method = if run.era == Era::Modern { "server/discover" } else { "initialize" };
    let call = gw.request("up", method).field(bearer).id("\"x\"");
    let raw = match run.era {
        Era::Modern => call.raw(),
        Era::Legacy => {
            let call = call
                .member("protocolVersion", "\"2025-11-25\"")
                .member("capabilities", "{}")
                .member("clientInfo", r#"{"name":"test","version":"1"}"#);
            call.raw().without("mcp-protocol-version")
        }
    };
    let answer = gw.client().talk(&raw.bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["result"]["capabilities"].clone()
}

/// Who may call no method of tasks is not told that there are any; every other byte stays.
#[test]
fn tasks_are_not_told_of_where_they_are_nobodys() {
    const ALL: &str = r#"{"tasks":{"list":{},"cancel":{}},"tools":{"x":1e2},"extensions":{"a/b":{},"io.modelcontextprotocol/tasks":{}},"z":[]}"#;
    let without: Value =
        serde_json::from_str(r#"{"tools":{"x":1e2},"extensions":{"a/b":{}},"z":[]}"#).unwrap();
    everywhere(|run| {
        let issuer = issuer();
        let (identity, bearer) = (issuer.identity(&[]), issuer.token("alice").bearer());
        for stream in [false, true] {
            let script = script::script(move |connection, request| {
                let all: Value = serde_json::from_str(ALL).unwrap();
                let result = serde_json::json!({"protocolVersion": "2025-11-25", "capabilities": all});
                let message = script::result(request, &result);
                if !stream {
                    return script::send(connection, &script::plain(200, &message));
                }
                connection.send(script::STREAM);
                connection.send(&script::event(&message));
                script::send(connection, script::LAST_CHUNK)
            });
            let up = upstream().method("initialize", script.clone()).method("server/discover", script).run();
            let rule = format!("{identity}\naccess: [{{name: a, allow: [\"*\"]}}]");
            for top in [&identity, &rule] {
                assert_eq!(told_of_tasks(run, &up, top, &bearer, &[]), without, "{stream} {top}");
            }
            // They pass where their methods do.
            let all: Value = serde_json::from_str(ALL).unwrap();
            assert_eq!(told_of_tasks(run, &up, "", "X-Any: 1", &[]), all);
            let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
            let folder = crate::support::Folder::new();
            let key = folder.file("key.pem", &key);
            let auth = format!("auth: {{kind: signedJwt, key: \"{}\"}}", key.display());
            assert_eq!(told_of_tasks(run, &up, &identity, &bearer, &[&auth]), all);
        }
    });
}

/// A call that wants to be a task (2025-11-25), of a client that could follow one (2026-07-28).
fn as_task(call: Call) -> Call {
    let call = call.able(r#"{"roots":{},"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}"#);
    call.member("task", r#"{"ttl":60000}"#).argument("\"task\"")
}

/// Who asks for a task where nobody could come back to it gets the result itself: the server does not hear of a task.
#[test]
fn no_task_is_begun_where_nobody_could_come_back_to_it() {
    everywhere(|run| {
        let issuer = issuer();
        let bearer = issuer.token("alice").bearer();
        let identity = format!("{}\nvirtualServers: {{v: {{tools: [\"up.*\"]}}}}", issuer.identity(&[]));
        for only in [Era::Modern, Era::Legacy] {
            let up = upstream().only(only).tool("echo").run();
            let gw = run.gateway().top(&identity).to("up", &up).run();
            for (endpoint, tool) in [("", "up__echo"), ("v", "echo"), ("up", "echo")] {
                let call = as_task(gw.call(endpoint, tool).field(&bearer));
                let answer = call.send();
                assert_eq!((answer.status, answer.code()), (200, 0), "{endpoint} {only:?} {answer:?}");
                let request = message(&up.requests().pop().unwrap());
                let params = &request["params"];
                assert_eq!((&params["task"], &params["arguments"]["x"]), (&Value::Null, &"task".into()));
                assert!(!request.to_string().contains("modelcontextprotocol/tasks"), "{request}");
            }
        }
    });
}

/// Where tasks pass, so does every byte of who asks for one.
#[test]
fn tasks_are_begun_where_they_pass() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let call = as_task(gw.call("up", "echo"));
        assert_eq!(call.clone().send().code(), 0);
        let request = up.requests().pop().unwrap();
        assert_eq!(request.body, call.body().into_bytes());
        assert!(request.mentions("\"task\":{"));
    });
}

/// What a hub does not route it does not offer: tasks of either kind, whatever its servers declare; and who asks for one is
/// told that there is no such method.
#[test]
fn hubs_offer_no_tasks() {
    everywhere(|run| {
        for only in [Era::Modern, Era::Legacy] {
            let able = r#"{"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
            let up = METHODS.iter().fold(upstream().only(only).tool("echo").able(able), |up, method| {
                up.method(method, script::echo())
            });
            let up = up.run();
            let gw = run.gateway().top("virtualServers: {v: {tools: [\"up.*\"]}}").to("up", &up).run();
            for endpoint in ["", "v"] {
                let offer = match run.era {
                    Era::Modern => gw.request(endpoint, "server/discover"),
                    Era::Legacy => gw
                        .request(endpoint, "initialize")
                        .member("protocolVersion", "\"2025-11-25\"")
                        .member("capabilities", "{}"),
                };
                let raw = offer.raw();
                let raw = if run.era == Era::Legacy { raw.without("mcp-protocol-version") } else { raw };
                let said = gw.client().talk(&raw.bytes()).unwrap();
                let has = &said.json()["result"]["capabilities"];
                assert!(has["tools"].is_object() && !has.to_string().contains("tasks"), "{said:?}");
                let expected = if run.era == Era::Modern { (404, -32601) } else { (200, -32601) };
                for method in METHODS {
                    let answer = about(&gw, endpoint, method, "t-1").send();
                    assert_eq!((answer.status, answer.code()), expected, "{endpoint} {method} {answer:?}");
                    assert_eq!(up.count(method), 0, "{method} reached the server");
                }
            }
        }
    });
}
