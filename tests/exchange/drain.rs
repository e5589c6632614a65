//! SIGTERM: no new work, open calls finish, streams end visibly at the limit, exit 0.
//!
//! Not here: reloads (reload).

use crate::support::Gate;
use crate::support::PATIENCE;
use crate::support::client::Broken;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::size;
use crate::support::upstream::Next;
use crate::support::upstream::upstream;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

fn is_refusing(gw: &Gateway) -> bool {
    TcpStream::connect_timeout(&gw.address, PATIENCE).is_err()
}

#[test]
fn calls_in_flight_finish() {
    everywhere(|run| {
        let gate = Gate::default();
        let up = upstream().on("slow", script::echo_behind(&gate)).tool("echo").run();
        let mut gw = run.gateway().to("up", &up).run();
        let call = gw.call("up", "slow");
        let token = call.token.clone();
        let mut client = call.open();
        up.until_called(&token);
        assert_eq!(gw.admin("/readyz").status, 200);
        gw.terminate();
        eventually("new connections are refused", || is_refusing(&gw));
        assert_eq!(gw.admin("/readyz").status, 503, "readyz while draining");
        assert_eq!(gw.admin("/livez").status, 200, "livez while draining");
        gate.open();
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(&token));
        assert!(answer.head.says_close(), "{answer:?}");
        assert!(client.is_closed());
        assert_eq!(gw.exit_code(), Some(0));
    });
}

#[test]
fn an_idle_gateway_ends_at_once() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let mut gw = run.gateway().to("up", &up).run();
        let mut idle = gw.client();
        idle.send(&gw.call("up", "echo").raw().bytes());
        assert_eq!(idle.answer().status, 200);
        let start = Instant::now();
        gw.terminate();
        assert_eq!(gw.exit_code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?} with idle connections only", start.elapsed());
        assert!(idle.is_closed());
    });
}

/// A long stream is ended at `http.drain`, and not so that it looks whole.
#[test]
fn streams_end_visibly_at_the_drain_limit() {
    everywhere(|run| {
        let endless = script::script(|connection, _| {
            connection.send(&[script::STREAM, &script::progress(1)].concat());
            connection.until_gone();
            Next::Close
        });
        let up = upstream().on("x", endless).run();
        let mut gw = run.gateway().http("drain: 400ms").to("up", &up).run();
        let mut client = gw.call("up", "x").open();
        client.head().unwrap();
        client.event().unwrap().unwrap();
        let start = Instant::now();
        gw.terminate();
        let end = client.rest();
        let waited = start.elapsed();
        assert!(waited > Duration::from_millis(300) && waited < Duration::from_secs(3), "{waited:?}");
        let error = |body: &[u8]| String::from_utf8_lossy(body).contains("\"error\"");
        assert!(
            matches!(&end, Err(Broken::Cut { .. } | Broken::Reset(_)))
                || matches!(&end, Ok(body) if error(body)),
            "looked whole: {end:?}"
        );
        assert_eq!(gw.exit_code(), Some(0));
    });
}

/// One client's loop under a drain: calls one after the other, so many on each connection, until the gateway takes no
/// more.
fn calls_until_gone(
    gw: &Gateway,
    calls: usize,
    draining: &AtomicBool,
    served: &AtomicUsize,
) -> Result<(), String> {
    loop {
        let stream = match TcpStream::connect_timeout(&gw.address, PATIENCE) {
            Ok(stream) => stream,
            // Refused at once, or as it knocks again after a second.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && draining.load(SeqCst) => {
                return Ok(());
            }
            Err(error) => return Err(format!("not connected, draining: {draining:?}: {error}")),
        };
        let mut client = Client::over(stream);
        for number in 0..calls {
            let call = gw.modern("up", "echo");
            let before = draining.load(SeqCst);
            client.send(&call.raw().bytes());
            match client.try_answer() {
                Ok(answer) if answer.status == 200 && answer.text().contains(&call.token) => {
                    served.fetch_add(1, SeqCst);
                    if answer.head.says_close() {
                        break;
                    }
                }
                other => return Err(format!("call {number}, draining before it: {before}: {other:?}")),
            }
        }
    }
}

/// Drains under load: no call fails but those whose connection was refused after the drain began.
#[test]
fn drains_under_load_fail_no_call() {
    fails_no_call(size(3, 20), usize::MAX);
}

/// A new connection for each call: some are always in the listener's queue. They were reset when it closed.
#[test]
fn drains_under_load_of_new_connections_fail_no_call() {
    fails_no_call(size(5, 20), 1);
}

fn fails_no_call(drains: usize, calls: usize) {
    on_every_driver(|run| {
        for _ in 0..drains {
            let up = upstream().tool("echo").run();
            let mut gw = run.gateway().to("up", &up).run();
            let (draining, served) = (AtomicBool::new(false), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                let loops: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| calls_until_gone(&gw, calls, &draining, &served)))
                    .collect();
                eventually("200 calls", || served.load(SeqCst) > 200);
                draining.store(true, SeqCst);
                gw.terminate();
                let failed: Vec<String> =
                    loops.into_iter().filter_map(|client| client.join().unwrap().err()).collect();
                assert!(failed.is_empty(), "{failed:#?}");
            });
            assert_eq!(gw.exit_code(), Some(0));
        }
    });
}
