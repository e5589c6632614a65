//! HTTP/2 from clients: calls on one connection, streams, cancels, windows, draining, idling.
//!
//! Not here: what is malformed (http2_malformed) or too much (http2_floods).

use crate::support::Driver;
use crate::support::Era;
use crate::support::Gate;
use crate::support::PATIENCE;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::http2;
use crate::support::http2::Http2;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::process;
use crate::support::script;
use crate::support::tls::Authority;
use crate::support::tls::GATEWAY;
use crate::support::upstream::upstream;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// Calls in one session, told apart by their tokens.
fn calls(call: Call, count: usize) -> Vec<Call> {
    let first = call.in_session();
    (0..count).map(|_| first.again()).collect()
}

/// 100 calls at a time on one connection: each gets its own answer, and the connection is one.
#[test]
fn http2() {
    everywhere(|run| {
        let gate = Gate::default();
        let up = upstream().on("slow", script::echo_behind(&gate)).tool("echo").run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        let mut client = Http2::connect(gw.address);
        let slow = calls(gw.call("up", "slow"), 100);
        let open: Vec<u32> = slow.iter().map(|call| client.open(call)).collect();
        slow.iter().for_each(|call| up.until_called(&call.token));
        let connections = || gw.metric("ringgate_client_connections", &[]);
        // The session of the older era was opened on a connection of its own.
        eventually("one connection", || connections() == 1.0);
        gate.open();
        for (call, stream) in slow.iter().zip(open) {
            let answer = client.answer(stream);
            assert!(answer.is_whole(200).text().contains(&call.token), "{answer:?}");
        }
        // One after the other, with a large body each way.
        let big = format!("\"{}\"", "b".repeat(300_000));
        for call in calls(gw.call("up", "echo").argument(big), 20) {
            let answer = client.call(&call);
            assert!(answer.is_whole(200).body.len() > 300_000 && answer.text().contains(&call.token));
        }
        assert_eq!(connections(), 1.0);
        drop(client);
        eventually("no connection", || connections() == 0.0);
    });
}

/// The same by ALPN, in both versions of TLS; a client that offers both protocols gets HTTP/2.
#[test]
fn http2_over_tls() {
    everywhere(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").on("long", script::large(3 << 20, true)).run();
        let gw = run.gateway().workers(1).tls(&own, "").to("up", &up).run();
        for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
            let secure = own.client_with(GATEWAY, versions, None);
            let mut both = secure.speaking(&[b"http/1.1", b"h2"]).try_connect(gw.address).unwrap();
            assert_eq!(both.tls().alpn_protocol(), Some(&b"h2"[..]));
            drop(both);
            let mut client = Http2::secured(&secure, gw.address);
            let calls = calls(gw.call("up", "echo").argument(format!("\"{}\"", "b".repeat(100_000))), 20);
            let open: Vec<u32> = calls.iter().map(|call| client.open(call)).collect();
            for (call, stream) in calls.iter().zip(open) {
                assert!(client.answer(stream).is_whole(200).text().contains(&call.token));
            }
            let long = client.call(&gw.call("up", "long").in_session());
            assert_eq!(long.is_whole(200).body.len(), 3 << 20);
            eventually("one connection", || gw.metric("ringgate_client_connections", &[]) == 1.0);
            drop(client);
            eventually("no connection", || gw.metric("ringgate_client_connections", &[]) == 0.0);
        }
    });
}

/// Whom the client's certificate names calls on every stream.
#[test]
fn http2_mtls() {
    everywhere(|run| {
        let (own, agents) = (Authority::new(), Authority::new());
        let up = upstream().tool("echo").run();
        let builder = run.gateway();
        builder.folder.file("agents.pem", &agents.pem());
        let builder = builder
            .top("identity: {mtls: {principal: sanUri}}")
            .top("access: [{name: seven, allow: [\"up.*\"], principals: [\"spiffe://corp/agent/7\"]}]");
        let gw = builder.tls(&own, ", clientCa: agents.pem").to("up", &up).run();
        let client = |uri| Http2::secured(&own.agent(&agents.uris(&[uri])), gw.address);
        let (mut seven, mut eight) = (client("spiffe://corp/agent/7"), client("spiffe://corp/agent/8"));
        let session = |uri| {
            let mut call = gw.call("up", "echo");
            call.via = Some(own.agent(&agents.uris(&[uri])));
            call.in_session()
        };
        let (allowed, denied) = (session("spiffe://corp/agent/7"), session("spiffe://corp/agent/8"));
        for _ in 0..3 {
            let (allowed, denied) = (allowed.again(), denied.again());
            assert!(seven.call(&allowed).is_whole(200).text().contains(&allowed.token));
            assert!(!eight.call(&denied).text().contains(&denied.token));
            assert_eq!((up.with(&allowed.token).len(), up.with(&denied.token).len()), (1, 0));
        }
    });
}

/// Over TLS the protocol is agreed on once: HTTP/2 where HTTP/1.1 was agreed on is refused.
#[test]
fn http2_only_where_agreed() {
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().tls(&own, "").to("up", &up).run();
        let mut client = own.client(GATEWAY).connect(gw.address);
        client.send(http2::PREFACE);
        assert_eq!(client.answer().status, 505);
        let mut session = own.client(GATEWAY).speaking(&[b"h2"]).try_connect(gw.address).unwrap();
        session.write_all(&gw.modern("up", "echo").raw().bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = session.read_to_end(&mut answer);
        assert!(!answer.windows(5).any(|window| window == b"HTTP/"), "{answer:?}");
        assert_eq!(up.requests().len(), 0);
    });
}

/// What HTTP/1.1 answers, HTTP/2 answers.
#[test]
fn http2_refuses_like_http11() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().http("maxBody: 64KiB").to("up", &up).run();
        let call = gw.call("up", "echo").in_session();
        let big = format!("\"{}\"", "b".repeat(200_000));
        let raw = call.raw();
        let table = [
            (404, raw.clone().line("POST /mcp/other HTTP/1.1")),
            (404, raw.clone().line("POST / HTTP/1.1")),
            (405, raw.clone().line("PUT /mcp/up HTTP/1.1")),
            (403, raw.clone().without("host").field("host: evil.example")),
            (415, raw.clone().without("content-type").field("content-type: text/plain")),
            (400, raw.clone().body("{}")),
            (400, raw.clone().body("")),
            (413, call.clone().argument(&*big).raw()),
            (431, raw.clone().field(format!("x-large: {}", "v".repeat(40_000)))),
            (414, raw.line(format!("POST /mcp/up?{} HTTP/1.1", "q".repeat(9_000)))),
        ];
        let mut client = Http2::connect(gw.address);
        for (status, raw) in table {
            let line = String::from_utf8_lossy(&raw.line).into_owned();
            let stream = client.open_raw(&raw);
            let answer = client.answer(stream);
            assert_eq!((answer.status, answer.ended), (status, true), "{line}: {answer:?}");
        }
        // A refusal is one of a stream, not of the connection.
        client.call(&call.again()).is_whole(200);
    });
}

#[test]
fn http2_streams_events_as_they_come() {
    everywhere(|run| {
        let gates = [Gate::default(), Gate::default(), Gate::default()];
        let behind = gates.clone();
        let steps = script::script(move |connection, request| {
            connection.send(script::STREAM);
            for (step, gate) in behind.iter().enumerate() {
                gate.wait();
                connection.send(&script::progress(step));
            }
            script::send(connection, &script::last_event(request))
        });
        let up = upstream().on("x", steps).run();
        let gw = run.gateway().to("up", &up).run();
        let mut client = Http2::connect(gw.address);
        let stream = client.open(&gw.call("up", "x").in_session());
        client.until(|client| client.stream(stream).status == 200);
        for (step, gate) in gates.iter().enumerate() {
            assert_eq!(client.stream(stream).text().matches("data: ").count(), step);
            gate.open();
            client.until(|client| client.stream(stream).text().matches("data: ").count() > step);
        }
        let answer = client.answer(stream);
        assert_eq!(answer.is_whole(200).text().matches("data: ").count(), 4);
    });
}

/// The median of nine resets reaches the upstream within 50 ms, and the connection goes on.
#[test]
fn http2_reset_cancels_the_call() {
    on_every_driver(|run| {
        for front in [b"".as_slice(), script::STREAM] {
            let (script, gone) = script::watched(front);
            let up = upstream().on("x", script).tool("echo").run();
            let gw = run.gateway().to("up", &up).run();
            let mut client = Http2::connect(gw.address);
            let mut delays: Vec<Duration> = (0..9)
                .map(|_| {
                    let call = gw.modern("up", "x");
                    let stream = client.open(&call);
                    up.until_called(&call.token);
                    if !front.is_empty() {
                        client.until(|client| client.stream(stream).status == 200);
                    }
                    let left = Instant::now();
                    client.reset(stream);
                    gone.recv_timeout(PATIENCE).expect("no cancel").saturating_duration_since(left)
                })
                .collect();
            delays.sort();
            assert!(delays[4] <= Duration::from_millis(50), "{delays:?}");
            client.call(&gw.modern("up", "echo")).is_whole(200);
            // A connection that ends takes its streams with it.
            let call = gw.modern("up", "x");
            client.open(&call);
            up.until_called(&call.token);
            drop(client);
            gone.recv_timeout(PATIENCE).expect("no cancel");
        }
    });
}

/// An answer that breaks off is reset, and never looks whole.
#[test]
fn http2_cut_answer_is_visible() {
    everywhere(|run| {
        let stream = [script::STREAM, &script::progress(1)].concat();
        let json =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{".to_vec();
        let up = upstream().on("stream", script::bytes(stream)).on("json", script::bytes(json)).run();
        let gw = run.gateway().to("up", &up).run();
        let mut client = Http2::connect(gw.address);
        for tool in ["stream", "json"] {
            let answer = client.call(&gw.call("up", tool).in_session());
            assert_eq!(answer.is_reset(http2::INTERNAL_ERROR).status, 200, "{tool}: {answer:?}");
        }
    });
}

/// A client that gives no window stops its upstream and nobody else; what was held back then arrives whole.
#[test]
fn http2_back_pressure() {
    everywhere(|run| {
        let total: u64 = 16 << 20;
        let up = upstream().on("x", script::large(total, true)).tool("echo").run();
        let gw = run.gateway().workers(1).http("headerTimeout: 20s").to("up", &up).run();
        let mut client = Http2::with_window(gw.address, 40_000);
        client.give(0, 1 << 30);
        let stream = client.open(&gw.call("up", "x").in_session());
        client.until(|client| client.stream(stream).body.len() == 40_000);
        for call in calls(gw.call("up", "echo"), 10) {
            client.call(&call).is_whole(200);
        }
        assert_eq!(client.stream(stream).body.len(), 40_000, "more than the window");
        client.give(stream, 1 << 30);
        assert_eq!(client.answer(stream).is_whole(200).body.len() as u64, total);
    });
}

/// What a stream holds of ours while its client does not read.
#[test]
fn http2_slow_streams_hold_64_kib() {
    on_every_driver(|run| {
        let up = upstream().on("x", script::large(48 << 20, true)).tool("echo").run();
        let gw = run.gateway().workers(1).http("headerTimeout: 20s").to("up", &up).run();
        let mut client = Http2::with_window(gw.address, 100);
        client.give(0, 1 << 30);
        for call in calls(gw.call("up", "echo"), 200) {
            let stream = client.open(&call);
            client.give(stream, 1_000);
            client.answer(stream).is_whole(200);
        }
        let before = process::resident_kib(gw.pid());
        let streams: Vec<u32> = (0..100).map(|_| client.open(&gw.modern("up", "x"))).collect();
        for stream in &streams {
            client.until(|client| client.stream(*stream).body.len() == 100);
        }
        client.stays(Duration::from_millis(300));
        let each = process::resident_kib(gw.pid()).saturating_sub(before) / 100;
        eprintln!("{run:?}: {each} KiB a slow stream");
        assert!(each <= 64 + 24, "{each} KiB each (64 of buffers, and a stream's own)");
    });
}

/// Who takes nothing at all loses the stream after `headerTimeout`, as in HTTP/1.1.
#[test]
fn http2_zero_window() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().http("headerTimeout: 300ms").to("up", &up).run();
        let mut client = Http2::with_window(gw.address, 0);
        let stalled = client.open(&gw.call("up", "echo").in_session());
        let answer = client.answer(stalled);
        assert_eq!(answer.is_reset(http2::CANCEL).body.len(), 0);
        assert_eq!(gw.metric("ringgate_bound_hits_total", &["bound=\"http2_window\""]), 1.0);
        // It takes windows with it and nothing else.
        let next = client.open(&gw.call("up", "echo").in_session());
        client.give(next, 10_000);
        client.answer(next).is_whole(200);
    });
}

/// Who has wide windows and does not read its socket loses the connection, and all that waits for it.
#[test]
fn http2_a_client_that_does_not_read_is_cut() {
    on_every_driver(|run| {
        let up = upstream().on("x", script::large(2 << 20, true)).run();
        let gw = run.gateway().workers(1).http("headerTimeout: 300ms").to("up", &up).run();
        let mut client = Http2::connect(gw.address).greeted();
        for _ in 0..20 {
            client.open(&gw.modern("up", "x"));
        }
        eventually("it is cut", || {
            gw.metric("ringgate_accepted_connections_total", &[]) == 1.0
                && gw.metric("ringgate_client_connections", &[]) == 0.0
        });
        assert!(gw.metric("ringgate_bound_hits_total", &["bound=\"http2_window\""]) >= 1.0);
    });
}

fn is_refusing(gw: &Gateway) -> bool {
    TcpStream::connect_timeout(&gw.address, PATIENCE).is_err()
}

/// SIGTERM: GOAWAY, what is open finishes, what is idle goes, exit 0.
#[test]
fn http2_drain() {
    everywhere(|run| {
        let gate = Gate::default();
        let up = upstream().on("slow", script::echo_behind(&gate)).tool("echo").run();
        let mut gw = run.gateway().to("up", &up).run();
        let (mut busy, mut idle) = (Http2::connect(gw.address), Http2::connect(gw.address));
        let call = gw.call("up", "slow").in_session();
        idle.call(&gw.call("up", "echo").in_session()).is_whole(200);
        let stream = busy.open(&call);
        up.until_called(&call.token);
        gw.terminate();
        assert_eq!(idle.until_closed(), Some(http2::NO_ERROR));
        busy.until(|client| client.goaway == Some(http2::NO_ERROR));
        eventually("new connections are refused", || is_refusing(&gw));
        assert!(!busy.stream(stream).is_over());
        gate.open();
        assert!(busy.answer(stream).is_whole(200).text().contains(&call.token));
        assert_eq!(busy.until_closed(), Some(http2::NO_ERROR));
        assert_eq!(gw.exit_code(), Some(0));
    });
}

/// What lasts longer than the drain may is cut, visibly.
#[test]
fn http2_drain_limit() {
    everywhere(|run| {
        let (script, _gone) = script::watched(script::STREAM);
        let up = upstream().on("x", script).run();
        let mut gw = run.gateway().http("drain: 300ms").to("up", &up).run();
        let mut client = Http2::connect(gw.address);
        let stream = client.open(&gw.call("up", "x").in_session());
        client.until(|client| client.stream(stream).status == 200);
        gw.terminate();
        client.until_closed();
        assert!(!client.stream(stream).ended, "{:?}", client.stream(stream));
        assert_eq!(gw.exit_code(), Some(0));
    });
}

/// A connection without streams ends after `idleTimeout` with GOAWAY; one with a stream does not.
#[test]
fn http2_idle() {
    on_every_driver(|run| {
        let gate = Gate::default();
        let up = upstream().on("slow", script::echo_behind(&gate)).tool("echo").run();
        let gw = run.gateway().http("idleTimeout: 400ms").to("up", &up).run();
        let (mut fresh, mut used, mut busy) =
            (Http2::connect(gw.address), Http2::connect(gw.address), Http2::connect(gw.address));
        let stream = busy.open(&gw.modern("up", "slow"));
        used.call(&gw.modern("up", "echo")).is_whole(200);
        let start = Instant::now();
        for client in [&mut fresh, &mut used] {
            assert_eq!(client.until_closed(), Some(http2::NO_ERROR));
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert!(busy.stays(Duration::from_millis(600)), "{busy:?}");
        gate.open();
        busy.answer(stream).is_whole(200);
        assert_eq!(busy.until_closed(), Some(http2::NO_ERROR));
        eventually("no connection", || gw.metric("ringgate_client_connections", &[]) == 0.0);
    });
}

/// What served a stream serves the next one while it is fresh, and goes when it is not; no call is lost to it.
#[test]
fn http2_lanes_go_when_they_are_idle() {
    on_every_driver(|run| {
        let gate = Gate::default();
        let up = upstream().on("slow", script::echo_behind(&gate)).tool("echo").run();
        // Idle lanes have no more time than connections, and this one is never idle.
        let gw = run.gateway().workers(1).http("idleTimeout: 400ms").to("up", &up).run();
        let mut client = Http2::connect(gw.address);
        let slow = gw.modern("up", "slow");
        let stream = client.open(&slow);
        up.until_called(&slow.token);
        let descriptors = process::descriptors(gw.pid());
        let calls: Vec<u32> = (0..8).map(|_| client.open(&gw.modern("up", "echo"))).collect();
        for call in calls {
            client.answer(call).is_whole(200);
        }
        for pause in [0, 150, 250, 390, 410, 600] {
            pace(Duration::from_millis(pause));
            client.call(&gw.modern("up", "echo")).is_whole(200);
        }
        // One of each lane's two is closed by whoever served it; the upstream's connections stay for a while.
        eventually("lanes go", || process::descriptors(gw.pid()) <= descriptors + 8);
        gate.open();
        client.answer(stream).is_whole(200);
    });
}

/// A client that does not read its last words does not hold the connection open.
#[test]
fn http2_a_client_that_ignores_goaway_is_cut() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().http("idleTimeout: 200ms").to("up", &up).run();
        let _silent = Http2::connect(gw.address);
        let connections = || gw.metric("ringgate_client_connections", &[]);
        eventually("it came", || gw.metric("ringgate_accepted_connections_total", &[]) == 1.0);
        eventually("it went", || connections() == 0.0);
    });
}

/// A preface in pieces is one; HTTP/1.1 that begins like it is none.
#[test]
fn http2_preface_in_pieces() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        let mut client = gw.client();
        for byte in &http2::PREFACE[..20] {
            client.send_more(&[*byte]);
        }
        client.send_more(&[&http2::PREFACE[20..], &http2::frame(http2::SETTINGS, 0, 0, &[])].concat());
        let mut answer = [0; 9];
        client.stream().read_exact(&mut answer).unwrap();
        assert_eq!(answer[3], http2::SETTINGS, "{answer:?}");
        let mut other = gw.client();
        other.send(b"PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        assert_eq!(other.answer().status, 505);
    });
}

/// A second HTTP/2 implementation agrees.
#[test]
fn http2_curl() {
    let features = Command::new("curl").arg("--version").output();
    if !features.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("HTTP2")) {
        eprintln!("no curl with HTTP/2 here: skipped");
        return;
    }
    let run = Run { driver: Driver::Uring, era: Era::Modern };
    let up = upstream().tool("echo").run();
    let gw = run.gateway().to("up", &up).run();
    let call = gw.modern("up", "echo");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--http2-prior-knowledge", "--include", "--max-time", "10"]);
    for field in call.raw().fields {
        curl.arg("-H").arg(String::from_utf8(field).unwrap());
    }
    let output =
        curl.args(["--data-raw", &call.body()]).arg(format!("http://{}/mcp/up", gw.address)).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(text.starts_with("HTTP/2 200"), "{text}");
    assert!(text.contains("content-type: application/json") && text.contains(&call.token), "{text}");
    assert!(!text.contains("connection:") && !text.contains("transfer-encoding:"), "{text}");
}
