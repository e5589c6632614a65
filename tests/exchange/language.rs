//! The test language itself, client against upstream without a gateway between: a tool that sees
//! nothing would make every other test pass.

use crate::support::Era;
use crate::support::Gate;
use crate::support::call::Call;
use crate::support::client::Broken;
use crate::support::client::Client;
use crate::support::conduct::Inside;
use crate::support::conduct::obedient;
use crate::support::conduct::on_trial;
use crate::support::eventually;
use crate::support::line::Line;
use crate::support::line::together;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::upstream;
use crate::support::wire::Head;

#[test]
fn both_eras_reach_an_upstream() {
    for era in [Era::Modern, Era::Legacy] {
        let up = upstream().tool("echo").run();
        let call = Call::tool(up.address, era, "up", "echo").id("\"a\\u0062\"").argument("1e400");
        let token = call.token.clone();
        let answer = call.send();
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(&token) && answer.text().contains(r#""id":"a\u0062""#), "{answer:?}");
        let request = up.once(&token);
        assert_eq!(request.head.field("mcp-session-id").is_some(), era == Era::Legacy);
        assert_eq!(up.calls(), 1);
        assert_eq!(up.mentions(&token), 2);
    }
}

#[test]
fn streams_are_read_event_by_event() {
    let gate = Gate::default();
    let behind = gate.clone();
    let up = upstream()
        .on(
            "slow",
            script::script(move |connection, request| {
                connection.send(script::STREAM);
                connection.send(&script::progress(1));
                behind.wait();
                script::send(connection, &script::last_event(request))
            }),
        )
        .run();
    let mut client = Call::tool(up.address, Era::Modern, "up", "slow").open();
    assert_eq!(client.head().unwrap().status(), 200);
    assert!(client.event().unwrap().unwrap().1.contains("progress"));
    assert!(client.is_quiet());
    gate.open();
    assert!(client.event().unwrap().unwrap().1.contains("result"));
    assert!(client.event().unwrap().is_none());
}

/// What a peer does to a connection, and what the client must see.
#[test]
fn broken_answers_are_told_apart() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    for (bytes, expected) in [
        (String::new(), Broken::Closed),
        (format!("{head}abc"), Broken::Cut { status: 200, body: b"abc".into() }),
        ("HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n".into(), Broken::Malformed(String::new())),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na".into(), malformed()),
        (format!("{}3\r\nabcX", String::from_utf8_lossy(script::STREAM)), malformed()),
        (format!("{}+3\r\nabc\r\n", String::from_utf8_lossy(script::STREAM)), malformed()),
        ("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n".into(), malformed()),
    ] {
        let up = upstream().every(script::bytes(bytes.clone())).run();
        let broken = Call::tool(up.address, Era::Modern, "up", "x").try_send().unwrap_err();
        match (&broken, &expected) {
            (Broken::Malformed(_), Broken::Malformed(_)) => {}
            _ => assert_eq!(broken, expected, "{bytes:?}"),
        }
    }
}

fn malformed() -> Broken {
    Broken::Malformed(String::new())
}

#[test]
fn a_reset_is_a_reset() {
    let reset = script::script(|connection, _| {
        connection.send(script::STREAM);
        connection.reset();
        Next::Close
    });
    let up = upstream().every(reset).run();
    let broken = Call::tool(up.address, Era::Modern, "up", "x").try_send().unwrap_err();
    assert!(matches!(broken, Broken::Reset(_)), "{broken:?}");
}

/// The strictness oracle of the upstream: each of these must be called a violation.
#[test]
fn an_upstream_objects_to_loose_http() {
    for bytes in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\nHost: a\n\r\n\r\n",
        "POST / HTTP/1.1\r\nHost : a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: a\x01\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\n\r\n",
        "POST  / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let up = upstream().run();
        let mut client = Client::connect(up.address);
        client.send(bytes.as_bytes());
        assert!(client.is_closed(), "accepted {bytes:?}");
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(up)));
        assert!(dropped.is_err(), "no objection to {bytes:?}");
    }
}

#[test]
fn heads_are_found_only_when_whole() {
    assert!(Head::parse(b"HTTP/1.1 200 OK\r\nA: b\r\n").unwrap().is_none());
    assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\nA:  b \r\n\r\nrest").unwrap().unwrap().size, 27);
    assert!(Head::parse(b"HTTP/1.1 2000 OK\r\n\r\n").is_err());
}

/// What a client calls the refusal of a limit: each of these lacks something that a caller needs.
#[test]
fn a_refusal_of_a_limit_is_whole() {
    let error = |code: i64, data: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"Wait a moment.","data":{{"reason":"rate_limited","rule":"limits.a","traceId":"1"{data}}}}}}}"#
        )
    };
    let whole = error(-33429, r#","retryAfterMs":1001"#);
    for (status, field, body, good) in [
        (429, "Retry-After: 2", whole.clone(), true),
        (503, "Retry-After: 2", whole.clone(), false),
        (429, "Retry-After: 1", whole.clone(), false),
        (429, "Retry-After: 1.5", whole.clone(), false),
        (429, "X-No: 1", whole.clone(), false),
        (429, "Retry-After: 2", whole.replace("limits.a", "limits.b"), false),
        (429, "Retry-After: 0", error(-33429, r#","retryAfterMs":0"#), false),
        (429, "Retry-After: 2", error(-33429, ""), false),
        (429, "Retry-After: 2", error(-32600, r#","retryAfterMs":1001"#), false),
    ] {
        let head = format!("HTTP/1.1 {status} No\r\n{field}\r\nContent-Type: application/json\r\n");
        let bytes = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let up = upstream().every(script::bytes(bytes)).run();
        let answer = Call::tool(up.address, Era::Modern, "up", "x").send();
        let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answer.limited("limits.a")));
        assert_eq!(taken.is_ok(), good, "{status} {field} {body}");
    }
}

/// A gateway that is started again has other ports, the same keys and nothing else of before.
#[test]
fn a_restart_is_the_same_gateway() {
    crate::support::everywhere(|run| {
        let up = upstream().tool("echo").run();
        let mut gw = run.gateway().agents(&["a"]).to("up", &up).run();
        let (first, mut caller) = (gw.pid(), gw.agent("a", "up"));
        caller.passes("echo");
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
            gw.restart(signal);
            assert_ne!(gw.pid(), first);
            let mut caller = gw.agent("a", "up");
            let call = caller.tool("echo").given("database", "\"x\"").meta("io.test/a", "7");
            assert_eq!(caller.send(&call).status, 200);
            let body = String::from_utf8(up.once(&call.token).body).unwrap();
            assert!(body.contains(r#""database":"x""#) && body.contains(r#""io.test/a":7"#), "{body}");
            assert_eq!(gw.modern("up", "echo").send().status, 401);
        }
    });
}

#[test]
fn callers_keep_their_connection_and_change_their_token() {
    for era in [Era::Modern, Era::Legacy] {
        let up = upstream().on("x", obedient(&Gate::default())).run();
        let mut caller = Line::new(Call::tool(up.address, era, "up", "x"));
        assert!((0..5).all(|_| caller.call("1").status == 200));
        assert_eq!((up.connections(), up.requests().len(), up.calls()), (1, 5, 5));
        let first = caller.next();
        assert_ne!(first.token, caller.next().token);
        assert!(caller.make(&first.argument("\"hang up\"")).is_err());
        assert_eq!(caller.call("1").status, 200, "it connects anew");
        assert_eq!(up.connections(), 2);
    }
}

#[test]
fn an_obedient_upstream_does_what_it_is_asked() {
    let up = upstream().on("x", obedient(&Gate::default())).run();
    let mut caller = Line::new(Call::tool(up.address, Era::Modern, "up", "x"));
    for (wish, status, code) in
        [("ok", 200, 0), ("error -32603", 200, -32603), ("error in a stream", 200, -32603)]
    {
        let answer = caller.call(&format!("\"{wish}\""));
        assert_eq!((answer.status, answer.code()), (status, code), "{wish}");
    }
    assert_eq!(caller.call("\"503\"").status, 503);
    assert_eq!(caller.call("\"isError\"").json()["result"]["isError"], true);
    let cut = caller.next().argument("\"cut\"");
    assert!(matches!(caller.make(&cut), Err(Broken::Cut { status: 200, .. })));
}

/// Nothing is answered before the verdict, and sessions are open until they are deleted.
#[test]
fn trials_wait_and_sessions_are_counted() {
    let (script, trial) = on_trial();
    let up = upstream().tool("echo").probed(script).run();
    let ping = Call::new(up.address, Era::Legacy, "up", "ping").in_session();
    assert_eq!(up.sessions(), (1, 1));
    for alive in [true, false] {
        let mut client = ping.clone().open();
        trial.next();
        assert!(client.is_quiet());
        trial.answer(alive);
        assert_eq!(client.answer().status == 200, alive);
    }
    let delete = ping.raw().line("DELETE /mcp HTTP/1.1").body("");
    assert_eq!(Client::connect(up.address).talk(&delete.bytes()).unwrap().status, 200);
    assert_eq!(up.sessions(), (1, 0));
    assert_eq!((up.count("ping"), up.count("initialize")), (2, 1));
}

#[test]
fn who_is_inside_is_counted() {
    let (gate, inside) = (Gate::default(), Inside::default());
    let up = upstream().on("x", inside.of(obedient(&gate))).run();
    std::thread::scope(|scope| {
        let call = || Line::new(Call::tool(up.address, Era::Modern, "up", "x")).call("\"wait\"").status;
        let calls = scope.spawn(move || together(3, |_| call()));
        eventually("three", || inside.now() == 3);
        gate.open();
        assert_eq!(calls.join().unwrap(), [200; 3]);
    });
    // Who is answered leaves a moment later.
    eventually("nobody", || inside.now() == 0);
    assert_eq!(inside.most(), 3);
}
