//! Every bound that a client can hit: what is just within passes, what is past it gets its status, before
//! it is buffered, and the upstream sees nothing of it.
//!
//! Not here: bounds on what upstreams send (faults, streaming), memory (memory).

use crate::lab::Lab;
use crate::lab::Row;
use crate::lab::refuse;
use crate::support::STALL;
use crate::support::call::Call;
use crate::support::call::Raw;
use crate::support::call::chunk;
use crate::support::client::Broken;
use crate::support::eventually;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::upstream;
use std::time::Duration;
use std::time::Instant;

fn fields(raw: Raw, count: usize) -> Raw {
    (0..count).fold(raw, |raw, index| raw.field(format!("X-{index}: v")))
}

#[test]
fn heads_past_their_bounds_are_refused() {
    refuse(&[Row("target of 1 MiB", b"", &[414])], |parts, _| {
        parts.good.clone().line(format!("POST /{} HTTP/1.1", "a".repeat(1 << 20))).bytes()
    });
    refuse(&[Row("target one past", b"", &[414])], |parts, _| {
        parts.good.clone().line(format!("POST /{} HTTP/1.1", "a".repeat(8 * 1024))).bytes()
    });
    refuse(&[Row("value of 1 MiB", b"", &[431])], |parts, _| {
        parts.good.clone().field(format!("X-Big: {}", "v".repeat(1 << 20))).bytes()
    });
    refuse(&[Row("head of 33 KiB", b"", &[431])], |parts, _| {
        parts.good.clone().field(format!("X-Big: {}", "v".repeat(33 * 1024))).bytes()
    });
    refuse(&[Row("20,000 fields", b"", &[431])], |parts, _| fields(parts.good.clone(), 20_000).bytes());
    refuse(&[Row("129 fields", b"", &[431])], |parts, _| {
        // Seven fields and a length are there already.
        fields(parts.good.clone(), 129 - 8).bytes()
    });
    refuse(&[Row("no line end", b"", &[431])], |parts, _| {
        let head = parts.good.clone().without_length().head();
        [&head[..head.len() - 2], b"X: ", &b"y".repeat(1 << 20)].concat()
    });
}

#[test]
fn heads_within_their_bounds_pass() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let parts = lab.parts();
        lab.kept("120 fields", &fields(parts.good.clone(), 120 - 8), &parts.token);
        let parts = lab.parts();
        let room = 32 * 1024 - parts.good.head().len() - "X: \r\n".len();
        lab.kept("32 KiB", &parts.good.clone().field(format!("X: {}", "v".repeat(room))), &parts.token);
        let parts = lab.parts();
        let raw = parts.good.clone().line(format!("POST /{} HTTP/1.1", "a".repeat(8 * 1024 - 1)));
        lab.refused("8 KiB of target", &parts, &raw.bytes(), &[404]);
    });
}

/// 413 comes from the head alone: not a byte of the body is sent.
#[test]
fn a_declared_body_past_the_limit_is_413_at_once() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let length = 4 * 1024 * 1024 + 1;
        for expect in ["X-No: 1", "Expect: 100-continue"] {
            let parts = lab.parts();
            let raw = parts.good.clone().without_length().field(format!("Content-Length: {length}"));
            let head = raw.field(expect).head();
            let answer = lab.closed(expect, &parts, &head, &[413]).unwrap();
            answer.refused(413, "too_large");
            assert!(answer.interim.is_empty(), "100 for a body that is refused");
        }
        lab.finish();
    });
}

#[test]
fn bodies_up_to_the_limit_pass_and_one_byte_more_does_not() {
    let sized = |call: &Call, size: usize| {
        let room = size - call.clone().argument("\"\"").body().len();
        call.clone().argument(format!("\"{}\"", "a".repeat(room)))
    };
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().http("maxBody: 1MiB").workers(1).to("up", &up).run();
        let lab = Lab { up, gw };
        let in_chunks = |raw: &Raw| {
            let wire: Vec<u8> = raw.body.chunks(65_536).flat_map(chunk).collect();
            let raw = raw.clone().without_length().field("Transfer-Encoding: chunked");
            raw.body([&wire[..], b"0\r\n\r\n"].concat()).bytes()
        };
        let fits = sized(&lab.gw.modern("up", "echo"), 1 << 20);
        lab.kept("1 MiB", &fits.raw(), &fits.token);
        let fits = sized(&lab.gw.modern("up", "echo"), 1 << 20);
        assert_eq!(lab.gw.client().talk(&in_chunks(&fits.raw())).unwrap().status, 200);
        assert!(lab.up.once(&fits.token).body == fits.body().into_bytes());
        let over = sized(&lab.gw.modern("up", "echo"), (1 << 20) + 1);
        let parts = crate::lab::Parts { token: over.token.clone(), ..lab.parts() };
        for wire in [over.raw().bytes(), in_chunks(&over.raw())] {
            lab.closed("1 MiB + 1", &parts, &wire, &[413]).unwrap().refused(413, "too_large");
        }
        lab.finish();
    });
}

#[test]
fn chunk_extensions_and_trailers_are_bounded() {
    let framed = |raw: &Raw, wire: Vec<u8>| {
        raw.clone().without_length().field("Transfer-Encoding: chunked").body(wire).bytes()
    };
    refuse(&[Row("1 MiB of extension", b"", &[400, 413, 431])], |parts, _| {
        let size = format!("{:x};{}\r\n", parts.body().len(), "x".repeat(1 << 20));
        framed(&parts.good, [size.as_bytes(), &parts.body(), b"\r\n0\r\n\r\n"].concat())
    });
    refuse(&[Row("1 kB of extension on each byte", b"", &[400, 413])], |parts, _| {
        let one = |byte: &u8| [format!("1;{}\r\n", "e".repeat(1000)).as_bytes(), &[*byte], b"\r\n"].concat();
        framed(&parts.good, [parts.body().iter().flat_map(one).collect(), b"0\r\n\r\n".to_vec()].concat())
    });
    refuse(&[Row("1 MiB of trailers", b"", &[431, 400])], |parts, _| {
        let trailers = "X-T: v\r\n".repeat(1 << 17);
        framed(&parts.good, [&chunk(&parts.body())[..], b"0\r\n", trailers.as_bytes(), b"\r\n"].concat())
    });
    refuse(&[Row("33 trailers", b"", &[431, 400])], |parts, _| {
        let trailers: String = (0..33).map(|index| format!("X-{index}: v\r\n")).collect();
        framed(&parts.good, [&chunk(&parts.body())[..], b"0\r\n", trailers.as_bytes(), b"\r\n"].concat())
    });
}

#[test]
fn names_and_ids_are_bounded() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let name = "n".repeat(1025);
        let id = format!("\"{}\"", "i".repeat(8 * 1024));
        for (what, call) in [("name", lab.gw.modern("up", &name)), ("id", lab.gw.modern("up", "echo").id(id))]
        {
            let parts = crate::lab::Parts { token: call.token.clone(), ..lab.parts() };
            lab.refused(what, &parts, &call.raw().bytes(), &[400]);
        }
        let call = lab.gw.modern("up", "echo").id(format!("\"{}\"", "i".repeat(8 * 1024 - 2)));
        lab.kept("8 KiB of id", &call.raw(), &call.token);
        lab.finish();
    });
}

/// Who announces a large body and does not send it takes no room from others.
#[test]
fn announced_bodies_take_no_room() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        let raw = gw.modern("up", "echo").raw().without_length().field("Content-Length: 4000000");
        // More than the budget of one worker, were it theirs.
        let _idlers: Vec<_> = (0..80)
            .map(|_| {
                let mut client = gw.client();
                client.send(&[raw.head(), b"{\"jsonrpc\":".to_vec()].concat());
                client
            })
            .collect();
        eventually("all are being read", || gw.metric("ringgate_client_connections", &[]) >= 80.0);
        let call = gw.modern("up", "echo").argument(format!("\"{}\"", "a".repeat(3 << 20)));
        assert_eq!(call.send().status, 200);
    });
}

/// A bound that is hit is counted by its name, once, whoever hits it.
#[test]
fn bounds_that_are_hit_are_counted() {
    on_every_driver(|run| {
        let wide = wide_head();
        let endless = script::script(|connection, _| {
            script::send(connection, "HTTP/1.1 100 Continue\r\n\r\n".repeat(20).as_bytes())
        });
        let large = script::large(80 << 10, false);
        let up = upstream()
            .on("wide", script::script(move |connection, _| script::send(connection, wide.as_bytes())))
            .on("endless", endless)
            .on("large", large)
            .tool("echo")
            .run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        let good = gw.modern("up", "echo");
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let batch = vec![r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#; 65].join(",");
        let chunks = |tail: &[u8]| {
            let head = good.raw().without_length().field("Transfer-Encoding: chunked").head();
            [head.as_slice(), tail].concat()
        };
        let table: Vec<(&str, Vec<u8>)> = vec![
            ("head", good.raw().field(format!("X: {}", "v".repeat(40_000))).bytes()),
            ("target", good.raw().line(format!("POST /{} HTTP/1.1", "a".repeat(9_000))).bytes()),
            ("fields", fields(good.raw(), 200).bytes()),
            ("body", good.raw().without_length().field("Content-Length: 5000000").head()),
            ("chunk_line", chunks(format!("1;{}", "x".repeat(2_000)).as_bytes())),
            ("trailer", chunks(format!("0\r\nX-T: {}", "t".repeat(9_000)).as_bytes())),
            ("json_depth", good.clone().argument(deep).raw().bytes()),
            ("batch_calls", legacy(good.raw()).body(format!("[{batch}]")).bytes()),
            ("name", gw.modern("up", &"n".repeat(1_100)).raw().bytes()),
            ("id", good.clone().id(format!("\"{}\"", "i".repeat(9_000))).raw().bytes()),
            ("answer_head", gw.modern("up", "wide").raw().bytes()),
            ("interim_answers", gw.modern("up", "endless").raw().bytes()),
            ("answer_scan", gw.modern("up", "large").raw().bytes()),
        ];
        for (bound, bytes) in table {
            let hits = || gw.metric("ringgate_bound_hits_total", &[&format!("bound=\"{bound}\"")]);
            assert_eq!(hits(), 0.0, "{bound} before");
            let mut client = gw.client();
            client.send(&bytes);
            let _ = client.head();
            eventually(&format!("{bound} is counted"), || hits() == 1.0);
        }
    });
}

/// A request of no revision.
fn legacy(raw: Raw) -> Raw {
    ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"].into_iter().fold(raw, |raw, name| raw.without(name))
}

/// A status line and more fields than an answer may have bytes for.
fn wide_head() -> String {
    let field = format!("X: {}\r\n", "v".repeat(8_000));
    format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", field.repeat(10))
}

/// A head that comes too slowly is ended at `http.headerTimeout`, however busily it drips.
#[test]
fn a_slow_head_is_ended() {
    on_every_driver(|run| {
        let up = upstream().run();
        let gw = run.gateway().http("headerTimeout: 300ms").to("up", &up).run();
        let start = Instant::now();
        let mut client = gw.client();
        client.send(b"POST /mcp/up HTTP/1.1\r\nHost: x\r\n");
        let mut dripper = crate::support::client::Client::over(client.stream().try_clone().unwrap());
        let dripping = std::thread::spawn(move || {
            while dripper.send_more(b"X-a: b\r\n") {
                crate::support::pace(Duration::from_millis(20));
            }
        });
        let end = client.try_answer().map(|answer| answer.status);
        assert!(matches!(end, Ok(408) | Err(Broken::Closed | Broken::Reset(_))), "{end:?}");
        let waited = start.elapsed();
        assert!(waited > Duration::from_millis(250) && waited < STALL, "{waited:?}");
        drop(client);
        dripping.join().unwrap();
    });
}

/// An idle connection is closed without a word at `http.idleTimeout`, before and after a call.
#[test]
fn an_idle_connection_is_closed_quietly() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().http("idleTimeout: 300ms").to("up", &up).run();
        for calls in [0, 1] {
            // Before anything that could be late: the gateway's own clock does not wait for ours.
            let start = Instant::now();
            let mut client = gw.client();
            for _ in 0..calls {
                client.send(&gw.modern("up", "echo").raw().bytes());
                assert_eq!(client.answer().status, 200);
            }
            assert!(client.is_closed(), "after {calls} calls");
            let waited = start.elapsed();
            assert!(waited > Duration::from_millis(200) && waited < STALL, "{waited:?}");
        }
    });
}
