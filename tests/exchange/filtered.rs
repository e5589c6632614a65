//! Lists as their caller may see them: hidden entries are cut out of whatever passes, and nothing else is changed.
//!
//! Not here: what rules decide (policy), every way to write a list (unit tests of `mcp::listing`).

use crate::access::unknown;
use crate::support::Era;
use crate::support::Gate;
use crate::support::PATIENCE;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::call::chunk;
use crate::support::client::Answer;
use crate::support::drivers;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::process;
use crate::support::script;
use crate::support::script::Script;
use crate::support::upstream::Next;
use crate::support::upstream::Received;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::time::Duration;

/// Method, list, what names an entry, and three entries: for both, for ann, for bob.
type List = (&'static str, &'static str, &'static str, [&'static str; 3]);

const LISTS: [List; 4] = [
    ("tools/list", "tools", "name", ["both", "ann_1", "bob_1"]),
    ("prompts/list", "prompts", "name", ["both", "ann_1", "bob_1"]),
    ("resources/list", "resources", "uri", ["a://both", "a://ann_1", "a://bob_1"]),
    (
        "resources/templates/list",
        "resourceTemplates",
        "uriTemplate",
        ["a://both/{x}", "a://ann_1/{x}", "a://bob_1/{x}"],
    ),
];

/// Two agents, who see what is called after them and what is called after both.
fn agents(run: Run) -> Builder {
    let allow = |name: &str| {
        format!(
            "{{name: {name}-sees, principals: [{name}], allow: [\"*.{name}_*\", \"prompt:*.{name}_*\", \"resource:*.a://{name}_*\"]}}"
        )
    };
    let all = "{name: all-see, allow: [\"*.both\", \"prompt:*.both\", \"resource:*.a://both*\"]}";
    let rules = [allow("ann"), allow("bob"), all.into()].join(", ");
    run.gateway()
        .agents(&["ann", "bob"])
        .limit("name: handshakes, methods: [initialize], key: principal, rate: 1k/s")
        .top(format!("access: [{rules}]"))
}

/// The answer of a server, with things that a second writer would write otherwise.
fn message(id: &str, (_, list, name, _): List, entries: &[&str], scope: &str) -> String {
    let entry = |text: &&str| format!(r#"{{"{name}":"{text}","x": 1.50,"y":{{"name":"ann_1, bob_1"}}}}"#);
    let entries: Vec<String> = entries.iter().map(entry).collect();
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"ttlMs":60000,"cacheScope":"{scope}","{list}": [ {} ],"n":1e400,"resultType":"complete"}}}}"#,
        entries.join(" , ")
    )
}

/// How a server frames an answer.
#[derive(Clone, Copy, Debug)]
enum Form {
    Json,
    Chunks,
    Stream,
}

impl Form {
    fn frame(self, message: &str) -> Vec<u8> {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        // Pieces that end anywhere.
        let chunks = |text: &str| text.as_bytes().chunks(23).map(chunk).collect::<Vec<_>>().concat();
        match self {
            Self::Json => script::plain(200, message),
            Self::Chunks => [head, &*chunks(message), script::LAST_CHUNK].concat(),
            Self::Stream => {
                [script::STREAM, &chunks(&format!("event: message\ndata: {message}\n\n")), script::LAST_CHUNK]
                    .concat()
            }
        }
    }

    fn text(self, message: &str) -> String {
        if let Self::Stream = self { format!("event: message\ndata: {message}\n\n") } else { message.into() }
    }
}

/// A server with all four lists.
fn lists(form: Form) -> Upstream {
    let script = |list: List| {
        script::script(move |connection, request| {
            let message = message(request.envelope().raw_id(), list, &list.3, "public");
            script::send(connection, &form.frame(&message))
        })
    };
    let up = LISTS.into_iter().fold(upstream(), |up, list| up.method(list.0, script(list)));
    ["both", "ann_1", "bob_1"].into_iter().fold(up, |up, tool| up.tool(tool)).run()
}

fn ask(gw: &Gateway, agent: &str, server: &str, method: &str) -> Answer {
    gw.keyed(agent, gw.request(server, method)).send()
}

/// Feature: each sees what it may call, in all lists, and every other byte is the server's.
#[test]
fn filtered_discovery() {
    everywhere(|run| {
        let servers = [("json", Form::Json), ("chunks", Form::Chunks), ("stream", Form::Stream)];
        let ups = servers.map(|(_, form)| lists(form));
        let to = |gw: Builder, index: usize| gw.to(servers[index].0, &ups[index]);
        let gw = (0..servers.len()).fold(agents(run), to).run();
        for (server, form) in servers {
            for list in LISTS {
                for (agent, seen) in [("ann", [0, 1]), ("bob", [0, 2])] {
                    let entries = seen.map(|index| list.3[index]);
                    let scope = if run.era == Era::Modern { "private" } else { "public" };
                    // Twice: once decided, once remembered.
                    for _ in 0..2 {
                        let answer = ask(&gw, agent, server, list.0);
                        assert_eq!(answer.status, 200, "{answer:?}");
                        let expected = form.text(&message("1", list, &entries, scope));
                        assert_eq!(answer.text(), expected, "{form:?} {agent} {}", list.0);
                    }
                }
            }
        }
    });
}

/// Feature: filters that hold for calls hold for lists; here each tool is listed exactly where it can be called.
#[test]
fn bifrost_2127_filters_apply_to_lists() {
    everywhere(|run| {
        let up = lists(Form::Json);
        let gw = agents(run).to("up", &up).run();
        for agent in ["ann", "bob"] {
            let listed = ask(&gw, agent, "up", "tools/list").text();
            for tool in LISTS[0].3 {
                let call = gw.keyed(agent, gw.call("up", tool));
                let token = call.token.clone();
                let answer = call.send();
                let shown = listed.contains(&format!("\"name\":\"{tool}\",\"x\""));
                assert_eq!(
                    (answer.code() == 0, up.with(&token).len()),
                    (shown, usize::from(shown)),
                    "{agent} {tool}"
                );
            }
        }
    });
}

/// Cursors are the server's, and a page of which nothing is left is a page.
#[test]
fn filtered_discovery_pages() {
    everywhere(|run| {
        let pages = script::script(|connection, request| {
            let (tool, next) = match request.envelope().params.cursor.as_deref() {
                None => ("bob_1", r#","nextCursor":"cur\u0073or 2=""#),
                Some("cursor 2=") => ("ann_1", r#","nextCursor":"""#),
                _ => ("both", ""),
            };
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"cacheScope":"private","tools":[{{"name":"{tool}"}}]{next}}}}}"#
            );
            script::send(connection, &script::plain(200, &body))
        });
        let up = upstream().method("tools/list", pages).run();
        let gw = agents(run).to("up", &up).run();
        let page = |cursor: Option<&str>| {
            let call = gw.request("up", "tools/list");
            let call = cursor.map_or(call.clone(), |cursor| call.member("cursor", &format!("\"{cursor}\"")));
            gw.keyed("ann", call).send()
        };
        let first = page(None).text();
        assert!(first.ends_with(r#""tools":[],"nextCursor":"cur\u0073or 2="}}"#), "{first}");
        let second = page(Some("cursor 2=")).text();
        assert!(second.ends_with(r#""tools":[{"name":"ann_1"}],"nextCursor":""}}"#), "{second}");
        assert!(page(Some("")).text().ends_with(r#""tools":[{"name":"both"}]}}"#));
    });
}

/// Events of all kinds, a list among them, in pieces that end anywhere.
fn stream_with_lists() -> Script {
    script::script(|connection, _| {
        let list = message("9", LISTS[0], &LISTS[0].3, "public");
        let (front, back) = list.split_once("[ ").unwrap();
        let events = format!(
            ": hello\n\nid: 1\ndata:\n\nid: 2\r\ndata: {list}\r\n\r\ndata: {}\n\ndata: {front}[\ndata: {back}\n\ndata: [{list},{list}]\n\ndata: last\n\n",
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"bob_1"}}"#
        );
        connection.send(script::STREAM);
        let sent = events.as_bytes().chunks(37).all(|piece| connection.send(&chunk(piece)));
        assert!(sent);
        script::send(connection, script::LAST_CHUNK)
    })
}

/// A list leaks neither from a stream of another call, nor from a resumed one, nor from a listener's.
#[test]
fn filtered_discovery_streams() {
    everywhere(|run| {
        let up = upstream()
            .on("both", stream_with_lists())
            .method("subscriptions/listen", stream_with_lists())
            .get(stream_with_lists())
            .run();
        let gw = agents(run).to("up", &up).run();
        let call = gw.keyed("ann", gw.call("up", "both")).in_session();
        let mut streams = vec![call.clone().send().text()];
        if run.era == Era::Legacy {
            let get =
                call.raw().line("GET /mcp/up HTTP/1.1").body("").without_length().without("content-type");
            streams.push(gw.client().talk(&get.field("Last-Event-ID: 1").bytes()).unwrap().text());
        } else {
            streams.push(ask(&gw, "ann", "up", "subscriptions/listen").text());
        }
        let scope = if run.era == Era::Modern { "private" } else { "public" };
        let seen = message("9", LISTS[0], &["both", "ann_1"], scope);
        for stream in streams {
            // What a message is about that is no list is its server's business.
            assert_eq!(stream.matches(r#""name":"bob_1","x""#).count(), 0, "{stream}");
            assert_eq!(stream.matches(r#""data":"bob_1""#).count(), 1, "{stream}");
            assert_eq!(stream.matches(r#""name":"ann_1","x""#).count(), 4, "{stream}");
            assert!(stream.contains(&format!("id: 2\r\ndata: {seen}\r\n\r\n")), "{stream}");
            assert!(stream.contains(&format!("\n\ndata: [{seen},{seen}]\n\ndata: last\n\n")), "{stream}");
            assert!(stream.starts_with(": hello\n\nid: 1\ndata:\n\n"), "{stream}");
        }
    });
}

/// A stream that outlives its plan is looked at with the rules of the newest.
#[test]
fn filtered_discovery_follows_reloads() {
    drivers().into_iter().for_each(|driver| {
        let gate = Gate::default();
        let behind = gate.clone();
        let get = script::script(move |connection, _| {
            let list = message("9", LISTS[0], &LISTS[0].3, "public");
            connection.send(&[script::STREAM, &script::event(&list)].concat());
            behind.wait();
            connection.send(&script::event(&list));
            script::send(connection, script::LAST_CHUNK)
        });
        let up = upstream().get(get).run();
        let gw = agents(Run { driver, era: Era::Legacy }).to("up", &up).run();
        let call = gw.keyed("ann", gw.request("up", "ping")).in_session();
        let mut client = gw.client();
        let get = call.raw().line("GET /mcp/up HTTP/1.1").body("").without_length().without("content-type");
        client.send(&get.bytes());
        client.head().unwrap();
        let before = client.piece().unwrap().unwrap().1;
        gw.reload(&gw.builder.yaml().replace("\"*.ann_*\"", "\"*.bob_*\""));
        // A worker that answers has adopted it.
        assert_eq!(gw.keyed("ann", gw.request("up", "ping")).send().status, 200);
        gate.open();
        let after = client.rest().unwrap();
        let seen = |stream: Vec<u8>| {
            let text = String::from_utf8(stream).unwrap();
            ["both", "ann_1", "bob_1"].map(|name| text.contains(&format!("\"name\":\"{name}\",\"x\"")))
        };
        assert_eq!((seen(before), seen(after)), ([true, true, false], [true, false, true]));
    });
}

/// What a list does not show cannot be reached by its name either, whatever the method.
#[test]
fn filtered_discovery_names() {
    everywhere(|run| {
        let up = lists(Form::Json);
        let gw = agents(run).to("up", &up).run();
        let named = |method: &str, name: &str| Call { name: Some(name.into()), ..gw.request("up", method) };
        let uri = |method: &str, uri: &str| {
            gw.request("up", method).member("uri", &format!("\"{uri}\"")).field(format!("Mcp-Name: {uri}"))
        };
        let completion = |reference: &str| {
            gw.request("up", "completion/complete")
                .member("ref", &format!("{{{reference}}}"))
                .member("argument", r#"{"name":"x","value":"y"}"#)
        };
        let calls = |who: &str| {
            let mut calls = vec![
                named("tools/call", &format!("{who}_1")),
                named("prompts/get", &format!("{who}_1")),
                uri("resources/read", &format!("a://{who}_1")),
                completion(&format!(r#""type":"ref/prompt","name":"{who}_1""#)),
                completion(&format!(r#""type":"ref/resource","uri":"a://{who}_1/{{x}}""#)),
            ];
            if run.era == Era::Legacy {
                calls.push(uri("resources/subscribe", &format!("a://{who}_1")));
            }
            calls
        };
        for (who, passes) in [("ann", true), ("bob", false)] {
            for call in calls(who) {
                let (token, method, code) = (call.token.clone(), call.method.clone(), unknown(&call));
                let answer = gw.keyed("ann", call).send();
                assert_eq!(up.with(&token).len(), usize::from(passes), "{who} {method} {answer:?}");
                assert!(passes || answer.code() == code && answer.status == 200, "{method} {answer:?}");
            }
        }
    });
}

/// A batch of the revision that had them is answered in one piece.
#[test]
fn filtered_discovery_batch() {
    drivers().into_iter().for_each(|driver| {
        let run = Run { driver, era: Era::Legacy };
        let both = script::script(|connection, _| {
            let one = |id| message(id, LISTS[0], &LISTS[0].3, "public");
            script::send(connection, &script::plain(200, &format!("[{}, {}]", one("1"), one("2"))))
        });
        let up = upstream().every(both).run();
        let gw = agents(run).to("up", &up).run();
        let one = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
        let raw = gw.keyed("bob", gw.request("up", "tools/list")).raw().without("mcp-protocol-version");
        let raw = raw.field("MCP-Protocol-Version: 2025-03-26").body(format!("[{},{}]", one(1), one(2)));
        let answer = gw.client().talk(&raw.bytes()).unwrap();
        let seen = |id| message(id, LISTS[0], &["both", "bob_1"], "public");
        assert_eq!(answer.text(), format!("[{}, {}]", seen("1"), seen("2")));
    });
}

/// Whatever cannot be looked at does not pass where a list may be in it, and passes where none may.
#[test]
fn filtered_discovery_unreadable() {
    everywhere(|run| {
        let list = message("1", LISTS[0], &LISTS[0].3, "public");
        let answer = |status: u16, fields: &str, body: &str| {
            format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
        };
        let json = "Content-Type: application/json\r\n";
        let coded = format!("{json}Content-Encoding: gzip\r\n");
        let refused = [
            answer(200, &coded, "\u{1f}gzip"),
            answer(200, json, &list[..list.len() - 1]),
            answer(200, json, &format!("\u{FEFF}{list}")),
            answer(200, "Content-Type: text/plain\r\n", "data: x"),
            answer(200, "", "bob_1"),
            answer(500, "Content-Type: text/html\r\n", "{bob_1}"),
        ];
        let passed = [
            answer(500, "Content-Type: text/html\r\n", "<html>no</html>"),
            answer(503, json, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#),
            answer(404, "", ""),
            answer(200, json, ""),
        ];
        let answers: Vec<String> = refused.iter().chain(&passed).cloned().collect();
        let by_row = answers.clone();
        let script = script::script(move |connection, request| {
            let row = request.head.field("x-row").map_or(0, |row| row.parse().unwrap());
            script::send(connection, by_row[row].as_bytes())
        });
        let up = upstream().method("tools/list", script).run();
        let gw = agents(run).to("up", &up).run();
        let call = gw.keyed("ann", gw.request("up", "tools/list")).field("Accept-Encoding: gzip, br");
        let call = call.in_session();
        for (row, bytes) in answers.iter().enumerate() {
            let answer = call.again().field(format!("X-Row: {row}")).send();
            if row < refused.len() {
                answer.refused(502, "upstream_protocol");
            } else {
                let (head, body) = bytes.split_once("\r\n\r\n").unwrap();
                assert!(head.contains(&answer.status.to_string()), "{answer:?}");
                assert_eq!(answer.text(), body);
            }
        }
        assert!(up.requests().iter().all(|request| request.head.all("accept-encoding").is_empty()));
    });
}

/// What is too long to look at is refused whole; what is no list has no such bound.
#[test]
fn filtered_discovery_bound() {
    const BOUND: usize = 8 << 20;
    on_every_driver(|run| {
        let padded = |request: &Received, bytes: usize| {
            let front = message(request.envelope().raw_id(), LISTS[0], &LISTS[0].3, "private");
            format!("{}{front}", " ".repeat(bytes - front.len()))
        };
        // The gateway's own lists are short.
        let whole = |bytes: usize| {
            script::script(move |connection, request| {
                let short = message(request.envelope().raw_id(), LISTS[0], &LISTS[0].3, "private");
                let is_asked = request.head.field("x-row").is_some();
                let answer = if is_asked { padded(request, bytes) } else { short };
                script::send(connection, &script::plain(200, &answer))
            })
        };
        let ask =
            |gw: &Gateway, method: &str| gw.keyed("ann", gw.request("up", method)).field("X-Row: 1").send();
        let event = script::script(move |connection, request| {
            connection.send(script::STREAM);
            connection.send(&script::progress(1));
            connection.send(&script::event(&padded(request, BOUND)));
            connection.send(script::LAST_CHUNK);
            Next::Close
        });
        let up = upstream()
            .method("tools/list", whole(BOUND + 1))
            .method("prompts/list", whole(BOUND))
            .on("both", script::large(BOUND as u64 + 1, false))
            .on("ann_1", event)
            .run();
        let gw = agents(run).workers(1).to("up", &up).run();
        let hits = || gw.metric("ringgate_bound_hits_total", &["bound=\"held_answer\""]);
        ask(&gw, "tools/list").refused(502, "upstream_protocol");
        eventually("the bound is counted", || hits() == 1.0);
        let fits = ask(&gw, "prompts/list").text();
        assert!(fits.contains("ann_1") && !fits.contains(r#""name":"bob_1","x""#));
        assert_eq!(gw.keyed("ann", gw.call("up", "both")).send().body.len(), BOUND + 1);
        let stream = gw.keyed("ann", gw.call("up", "ann_1").id("\"mine\"")).send();
        let last = stream.json();
        assert_eq!((&last["id"], &last["error"]["code"]), (&"mine".into(), &(-33502).into()), "{last}");
        assert!(stream.text().contains("notifications/progress"));
        eventually("it is counted again", || hits() == 2.0);
        eventually("nothing is held any more", || gw.metric("ringgate_buffered_body_bytes", &[]) == 0.0);
    });
}

/// While an event is held, comments of ours keep its stream open.
#[test]
fn filtered_discovery_keeps_idle_streams_open() {
    everywhere(|run| {
        let halves = script::script(|connection, _| {
            connection.send(&[script::STREAM, &chunk(b": theirs\ndata: {\"a\"")].concat());
            pace(Duration::from_millis(700));
            connection.send(&chunk(b":1}\n\n"));
            script::send(connection, script::LAST_CHUNK)
        });
        let up = upstream().on("both", halves).run();
        let gw = agents(run).http("streamComment: 200ms").to("up", &up).run();
        let stream = gw.keyed("ann", gw.call("up", "both")).send().text();
        let comments =
            stream.strip_prefix(": theirs\n").and_then(|rest| rest.strip_suffix("data: {\"a\":1}\n\n"));
        let comments = comments.unwrap_or_else(|| panic!("{stream:?}"));
        assert_eq!(comments.replace(":\n\n", ""), "", "{stream:?}");
        assert!(comments.len() >= 2 * 3, "{stream:?}");
    });
}

/// A client that does not read stops its upstream, and holds the event that it is given.
#[test]
fn filtered_discovery_has_back_pressure() {
    const EVENT: usize = 8 << 10;
    everywhere(|run| {
        let (sender, taken) = mpsc::sync_channel(100);
        let flood = script::script(move |connection, _| {
            connection.tcp.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            connection.send(script::STREAM);
            let event = script::event(&"d".repeat(EVENT));
            let _ = sender.send((0..16_384).take_while(|_| connection.send(&event)).count());
            connection.tcp.set_write_timeout(None).unwrap();
            connection.until_gone();
            Next::Close
        });
        let up = upstream().on("both", flood).run();
        let gw = agents(run).workers(1).to("up", &up).run();
        let count = 20;
        let slow = |count| {
            let readers: Vec<_> = (0..count).map(|_| gw.keyed("ann", gw.call("up", "both")).open()).collect();
            for _ in 0..count {
                let events = taken.recv_timeout(PATIENCE).unwrap();
                assert!(events * EVENT < 64 << 20, "{events} events taken for a client that reads nothing");
            }
            readers
        };
        assert_eq!(gw.keyed("ann", gw.request("up", "ping")).send().status, 200);
        // The first of them brings what all share.
        let _first = slow(1);
        let before = process::resident_kib(gw.pid());
        let mut readers = slow(count);
        let each = process::resident_kib(gw.pid()).saturating_sub(before) / count;
        eprintln!("{run:?}: {each} KiB a slow reader");
        // As without rules, and beside it what is given and held, with room to grow.
        assert!(each <= 64 + 24 + 16, "{each} KiB each");
        assert_eq!(readers[0].head().unwrap().status(), 200);
    });
}

/// Status, names of the fields in their order, and body.
fn shape(answer: &Answer) -> (u16, Vec<String>, String) {
    let names = answer.head.fields.iter().map(|(name, _)| name.clone()).collect();
    (answer.status, names, answer.text())
}

/// Where the gateway knows what a server has, nobody can tell what is hidden from what does not exist.
#[test]
fn filtered_discovery_hidden_is_unknown() {
    everywhere(|run| {
        let up = lists(Form::Json);
        let limit = "name: calls, key: principal, rate: 1k/s";
        let gw = agents(run).limit(limit).to("up", &up).run();
        let call = |name: &str| gw.keyed("ann", gw.call("up", name));
        // What rules would allow is not there either.
        eventually("the server is listed", || {
            let call = call("ann_0");
            let token = call.token.clone();
            call.send();
            up.mentions(&token) == 0
        });
        let prompt = |name: &str| {
            let call = Call { name: Some(name.into()), ..gw.request("up", "prompts/get") };
            gw.keyed("ann", call)
        };
        let shapes: Vec<_> = [
            call("bob_1"),
            call("unheard_of"),
            call("ann_0"),
            prompt("bob_1"),
            prompt("unheard_of"),
            prompt("ann_0"),
        ]
        .into_iter()
        .map(|call| {
            let token = call.token.clone();
            let answer = call.id("\"x\"").send();
            assert_eq!(up.mentions(&token), 0, "{answer:?}");
            shape(&answer)
        })
        .collect();
        assert_eq!(shapes[0].0, 200);
        assert!(shapes[0].2.contains("-32602"), "{shapes:?}");
        assert!(shapes.iter().all(|other| *other == shapes[0]), "{shapes:?}");
    });
}

/// A name that is not known is asked for: a tool that is new on its server is soon called as any other.
#[test]
fn filtered_discovery_new_tool() {
    on_every_driver(|run| {
        let grown = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&grown);
        let list = script::script(move |connection, request| {
            let tools = if now.load(SeqCst) { &["both", "ann_1"][..] } else { &["both"] };
            script::send(
                connection,
                &script::plain(200, &message(request.envelope().raw_id(), LISTS[0], tools, "public")),
            )
        });
        let up = upstream().method("tools/list", list).tool("ann_1").run();
        let gw = agents(run).to("up", &up).run();
        let passes = || {
            let call = gw.keyed("ann", gw.call("up", "ann_1"));
            let token = call.token.clone();
            call.send();
            up.mentions(&token) > 0
        };
        eventually("the server is listed", || !passes());
        grown.store(true, SeqCst);
        eventually("the server is listed again", passes);
    });
}
