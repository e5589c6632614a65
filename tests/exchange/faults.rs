//! Upstreams that misbehave: the client gets the truth, never a made-up whole, never another's bytes,
//! and a call is delivered at most once.
//!
//! Not here: slow and silent streams (streaming), pools that go stale (pool).

use crate::support::PATIENCE;
use crate::support::STALL;
use crate::support::call::chunk;
use crate::support::client::Answer;
use crate::support::client::Broken;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::reserved::Reserved;
use crate::support::script;
use crate::support::script::Script;
use crate::support::upstream::Next;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

/// An answer that is no HTTP/1.1: 502, and none of its bytes reach the client.
#[test]
fn malformed_answers_are_502() {
    let rows: &[(&str, &[u8])] = &[
        ("length no number", b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nLEAK!"),
        ("lengths that differ", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nLEAK!"),
        ("negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nLEAK!"),
        (
            "length and chunks",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nX: LEAK\r\n\r\n",
        ),
        ("unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xyz\r\n\r\nLEAK"),
        (
            "chunked twice",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("no HTTP", b"HELLO LEAK\r\n\r\n"),
        ("two-digit status", b"HTTP/1.1 20 LEAK\r\nContent-Length: 0\r\n\r\n"),
        ("NUL in a field", b"HTTP/1.1 200 OK\r\nX-A: a\x00LEAK\r\nContent-Length: 0\r\n\r\n"),
        ("bare LF", b"HTTP/1.1 200 OK\r\nX-A: a\nX-B: LEAK\r\nContent-Length: 0\r\n\r\n"),
        ("bare CR", b"HTTP/1.1 200 OK\r\nX-A: a\rX-B: LEAK\r\nContent-Length: 0\r\n\r\n"),
        ("101 unasked", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nLEAK"),
        ("no answer", b""),
        ("half a head", b"HTTP/1.1 200 OK\r\nX-Leak: LEAK"),
    ];
    let huge = [b"HTTP/1.1 200 OK\r\nX-A: ".as_slice(), &b"v".repeat(1 << 20), b"\r\n\r\n"].concat();
    let endless = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(20_000);
    let rows = rows.iter().copied().chain([("huge head", &huge[..]), ("endless 1xx", &endless[..])]);
    let rows: Vec<(&str, &[u8])> = rows.collect();
    on_every_driver(|run| {
        for (name, bytes) in &rows {
            let up = upstream().on("x", script::bytes(*bytes)).run();
            let gw = run.gateway().to("up", &up).run();
            let answer = gw.call("up", "x").send();
            assert_eq!(answer.status, 502, "{name}: {answer:?}");
            answer.refused(502, "upstream_protocol");
            assert!(!format!("{answer:?}").contains("LEAK"), "{name}: {answer:?}");
            assert_eq!(up.calls(), 1, "{name}: delivered again");
        }
    });
}

/// A cut answer never looks whole.
#[test]
fn cuts_are_visible() {
    let rows: &[(&str, &str, bool)] = &[
        ("short length", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nxxxx", false),
        ("cut between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("cut inside a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", false),
        (
            "cut in the last chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            false,
        ),
        (
            "reset in a stream",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n",
            true,
        ),
        (
            "bad chunk size",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n\r\n",
            false,
        ),
    ];
    everywhere(|run| {
        for (name, bytes, reset) in rows {
            let up = upstream().on("x", answer_then(bytes, *reset)).run();
            let gw = run.gateway().to("up", &up).run();
            match gw.call("up", "x").try_send() {
                Err(Broken::Cut { .. } | Broken::Reset(_)) => {}
                Ok(answer) if answer.status == 502 => {}
                other => panic!("{name}: looked whole: {other:?}"),
            }
            assert_eq!(up.calls(), 1, "{name}: delivered again");
        }
    });
}

fn answer_then(bytes: &str, reset: bool) -> Script {
    let bytes = bytes.to_owned();
    script::script(move |connection, _| {
        connection.send(bytes.as_bytes());
        if reset {
            connection.reset();
        }
        Next::Close
    })
}

const STRAY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nLEAKED";

/// Bytes that belong to no request reach nobody, and their connection is not used again.
#[test]
fn stray_bytes_reach_nobody() {
    let extra = script::script(|connection, request| {
        let body = script::echo_result(request);
        script::send(connection, &[script::plain(200, &body), STRAY.into()].concat())
    });
    // Once a request has left, what comes is its answer: a server whose stray bytes come so late cannot be found out.
    let (strayed, has_strayed) = mpsc::sync_channel(1);
    let unsolicited = script::script(move |connection, request| {
        script::send(connection, &script::plain(200, &script::echo_result(request)));
        let next = script::send(connection, STRAY.as_bytes());
        let _ = strayed.try_send(());
        next
    });
    let empty = script::bytes("HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nLEAKED");
    on_every_driver(|run| {
        let up = upstream()
            .on("extra", extra.clone())
            .on("unsolicited", unsolicited.clone())
            .on("empty", empty.clone())
            .tool("echo")
            .run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        for tool in ["extra", "unsolicited", "empty"] {
            let mut client = gw.client();
            client.send(&gw.call("up", tool).raw().bytes());
            let first = client.try_answer();
            assert!(!format!("{first:?}").contains("LEAKED"), "{tool}: {first:?}");
            if tool == "unsolicited" {
                has_strayed.recv_timeout(PATIENCE).unwrap();
            }
            for _ in 0..4 {
                let call = gw.call("up", "echo");
                let token = call.token.clone();
                assert!(call.send().text().contains(&token), "{tool}: poisoned the pool");
            }
        }
    });
}

#[test]
fn odd_but_legal_answers_arrive_whole() {
    let fronts: &[(&str, &str)] = &[
        ("103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        ("100", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("two", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    ];
    everywhere(|run| {
        for (name, front) in fronts {
            let interim = script::script(move |connection, request| {
                let body = script::echo_result(request);
                script::send(connection, &[front.as_bytes(), &script::plain(200, &body)].concat())
            });
            let up = upstream().on("x", interim).run();
            let gw = run.gateway().to("up", &up).run();
            whole(name, &gw, &up);
        }
        let until_close = script::script(|connection, request| {
            let head = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n";
            connection.send(format!("{head}{}", script::echo_result(request)).as_bytes());
            Next::Close
        });
        let up = upstream().on("x", until_close).run();
        let gw = run.gateway().to("up", &up).run();
        whole("until close", &gw, &up);
    });
}

fn whole(name: &str, gw: &Gateway, up: &Upstream) -> Answer {
    let call = gw.call("up", "x");
    let token = call.token.clone();
    let answer = call.send();
    assert_eq!(answer.status, 200, "{name}: {answer:?}");
    assert!(answer.text().contains(&token) && answer.code() == 0, "{name}: {answer:?}");
    up.once(&token);
    answer
}

/// The final answer before the request was whole: passed on, the connection not used again.
#[test]
fn an_early_answer_is_passed_on() {
    on_every_driver(|run| {
        let early = script::script(|connection, _| {
            connection.send(&script::plain(413, ""));
            Next::Close
        });
        let up = upstream().on_head(early).tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let answer = gw.call("up", "echo").argument(format!("\"{}\"", "a".repeat(300_000))).send();
        assert!([413, 502].contains(&answer.status), "{answer:?}");
        let again = gw.call("up", "echo").send();
        assert!([413, 502].contains(&again.status), "{again:?}");
    });
}

/// A tools/call of which a byte was handed to a socket is not sent again.
#[test]
fn a_call_is_delivered_at_most_once() {
    everywhere(|run| {
        let up = upstream().tool("echo").on("die", script::hang_up()).run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        for fresh in [true, false] {
            if !fresh {
                assert_eq!(gw.call("up", "echo").send().status, 200);
            }
            let call = gw.call("up", "die");
            let token = call.token.clone();
            call.send().refused(502, "upstream_protocol");
            up.once(&token);
        }
    });
}

#[test]
fn an_upstream_that_refuses_is_told_fast() {
    everywhere(|run| {
        let gone = Reserved::new();
        let gw = run.gateway().server("up", &[&gone.url()]).run();
        let start = Instant::now();
        gw.call("up", "x").send().refused(503, "upstream_unavailable");
        assert!(start.elapsed() < Duration::from_secs(3));
    });
}

#[test]
fn a_silent_upstream_is_504_at_first_byte() {
    everywhere(|run| {
        let (silent, gone) = script::watched(b"");
        let up = upstream().on("x", silent).run();
        let gw = run.gateway().with("up", &up, &["timeout: {firstByte: 200ms}"]).run();
        let start = Instant::now();
        gw.call("up", "x").send().refused(504, "upstream_timeout");
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(200) && waited < STALL, "{waited:?}");
        gone.recv_timeout(PATIENCE).expect("the silent connection is kept");
        assert_eq!(up.calls(), 1);
    });
}

/// Silence inside an answer: cut, visibly, at `timeout.idle`.
#[test]
fn silence_in_an_answer_is_cut_visibly() {
    const BEGINS: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
    everywhere(|run| {
        let (silent, gone) = script::watched(BEGINS);
        let up = upstream().on("x", silent).run();
        let gw = run.gateway().with("up", &up, &["timeout: {idle: 300ms}"]).run();
        ends_in_time(&gw);
        gone.recv_timeout(PATIENCE).expect("the silent connection is kept");
    });
}

/// An answer without end: cut, visibly, at `timeout.total`.
#[test]
fn an_endless_answer_is_cut_visibly() {
    everywhere(|run| {
        let drips = script::script(|connection, _| {
            connection.send(script::STREAM);
            while connection.send(&chunk(b": x\n\n")) {
                crate::support::pace(Duration::from_millis(20));
            }
            Next::Close
        });
        let up = upstream().on("x", drips).run();
        let gw = run.gateway().with("up", &up, &["timeout: {total: 300ms}"]).run();
        ends_in_time(&gw);
    });
}

fn ends_in_time(gw: &Gateway) {
    let call = gw.call("up", "x").in_session();
    let start = Instant::now();
    let broken = call.try_send().map(|answer| answer.text());
    let waited = start.elapsed();
    assert!(visible(&broken), "{broken:?}");
    assert!(waited > Duration::from_millis(250) && waited < STALL, "{waited:?}");
}

/// Cut, or a stream whose last message is an error.
fn visible(outcome: &Result<String, Broken>) -> bool {
    match outcome {
        Ok(text) => text.contains("\"error\"") && text.contains("upstream_timeout"),
        Err(broken) => matches!(broken, Broken::Cut { .. } | Broken::Reset(_)),
    }
}
