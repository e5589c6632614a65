//! The test language itself, client against upstream without a gateway between: a tool that sees
//! nothing would make every other test pass.

use crate::support::Era;
use crate::support::Gate;
use crate::support::call::Call;
use crate::support::client::Broken;
use crate::support::client::Client;
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
