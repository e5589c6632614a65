//! Clients that leave: a cancel in 2026-07-28, none in the older revisions.
//!
//! Not here: what the upstream does wrong (faults), drain (drain).

use crate::support::Era;
use crate::support::Gate;
use crate::support::Run;
use crate::support::drivers;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::upstream;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

const JSON_BEGINS: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"jsonrpc\"";
const EVENT: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";

/// The median of nine departures reaches the upstream within 50 ms, wherever the answer was.
#[test]
fn a_modern_client_that_leaves_cancels() {
    on_every_driver(|run| {
        for (name, front) in
            [("before the answer", b"".as_slice()), ("in JSON", JSON_BEGINS), ("in a stream", EVENT)]
        {
            let (script, gone) = script::watched(front);
            let up = upstream().on("x", script).run();
            let gw = run.gateway().to("up", &up).run();
            let mut delays: Vec<Duration> = (0..9)
                .map(|number| {
                    let call = gw.modern("up", "x");
                    let token = call.token.clone();
                    let mut client = call.open();
                    up.until_called(&token);
                    if !front.is_empty() {
                        client.head().unwrap();
                        client.piece().unwrap().unwrap();
                    }
                    let left = Instant::now();
                    if number % 2 == 0 {
                        drop(client)
                    } else {
                        client.reset()
                    }
                    gone.recv_timeout(crate::support::PATIENCE).expect(name).saturating_duration_since(left)
                })
                .collect();
            delays.sort();
            assert!(delays[4] <= Duration::from_millis(50), "{name}: {delays:?}");
        }
    });
}

/// 2025-11-25: "Disconnection SHOULD NOT be interpreted as the client cancelling its request": the
/// answer is read to its end.
#[test]
fn a_legacy_client_that_leaves_does_not_cancel() {
    for driver in drivers() {
        let run = Run { driver, era: Era::Legacy };
        let (gate, (sender, taken)) = (Gate::default(), mpsc::sync_channel(1));
        let behind = gate.clone();
        let slow = script::script(move |connection, _| {
            behind.wait();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                8 << 20
            );
            let all =
                connection.send(head.as_bytes()) && (0..128).all(|_| connection.send(&[b' '; 64 * 1024]));
            let _ = sender.send(all);
            Next::Keep
        });
        let (cancelled, gone) = script::watched(b"");
        let up = upstream().on("slow", slow).on("cancelled", cancelled).run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        let call = gw.call("up", "slow");
        let token = call.token.clone();
        drop(call.open());
        up.until_called(&token);
        // The same worker has since noticed another client that left.
        let other = gw.modern("up", "cancelled");
        let token = other.token.clone();
        let client = other.open();
        up.until_called(&token);
        drop(client);
        gone.recv_timeout(crate::support::PATIENCE).unwrap();
        gate.open();
        assert!(taken.recv_timeout(crate::support::PATIENCE).unwrap(), "the answer was not drained");
    }
}

/// The older way to cancel is a message, and it passes.
#[test]
fn notifications_cancelled_is_forwarded() {
    for driver in drivers() {
        let up = upstream().run();
        let gw = Run { driver, era: Era::Legacy }.gateway().to("up", &up).run();
        let call = gw.call("up", "x").in_session();
        let body = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":1,"reason":"{}"}}}}"#,
            call.token
        );
        let answer = gw.client().talk(&call.raw().body(body.clone()).bytes()).unwrap();
        assert_eq!((answer.status, answer.body.len()), (202, 0));
        assert!(up.once(&call.token).body == body.into_bytes());
    }
}
