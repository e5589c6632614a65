//! Requests that must work however they are written or cut, and the life of a client's connection.
//!
//! Not here: what is refused for its syntax (framing), what the upstream does (faults).

use crate::lab::Lab;
use crate::support::call::Raw;
use crate::support::call::chunk;
use crate::support::client::Broken;
use crate::support::on_every_driver;
use crate::support::upstream::upstream;

fn crlf(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// One row: how the good request is rewritten; the body at the upstream stays the same.
type Rewrite = fn(Raw, &[u8]) -> Vec<u8>;

fn framed(raw: Raw, wire: Vec<u8>) -> Vec<u8> {
    raw.without_length().field("Transfer-Encoding: chunked").body(wire).bytes()
}

const VALID: &[(&str, Rewrite)] = &[
    ("length", |raw, _| raw.bytes()),
    ("chunked", |raw, _| raw.chunked().bytes()),
    ("one-byte chunks", |raw, body| {
        let wire: Vec<u8> = body.iter().flat_map(|byte| chunk(&[*byte])).collect();
        framed(raw, crlf(&[&wire, b"0\r\n\r\n"]))
    }),
    ("any case of names", |raw, body| {
        raw.without_length().field(format!("cOnTeNt-LeNgTh: {}", body.len())).bytes()
    }),
    ("spaces and tabs around a value", |raw, body| {
        raw.without_length().field(format!("Content-Length:\t  {} \t", body.len())).bytes()
    }),
    ("one empty line first", |raw, _| crlf(&[b"\r\n", &raw.bytes()])),
    ("CHUNKED", |raw, body| {
        let wire = crlf(&[&chunk(body), b"0\r\n\r\n"]);
        raw.without_length().field("Transfer-Encoding: CHUNKED").body(wire).bytes()
    }),
    ("extension", |raw, body| {
        let size = format!("{:x};a=b\r\n", body.len());
        framed(raw, crlf(&[size.as_bytes(), body, b"\r\n0;c\r\n\r\n"]))
    }),
    ("leading zeros", |raw, body| {
        let size = format!("000{:X}\r\n", body.len());
        framed(raw, crlf(&[size.as_bytes(), body, b"\r\n000\r\n\r\n"]))
    }),
    ("trailers", |raw, body| framed(raw, crlf(&[&chunk(body), b"0\r\nX-Trailer: v\r\n\r\n"]))),
    ("absolute form", |raw, _| {
        let host = String::from_utf8_lossy(&raw.fields[0]).replace("Host: ", "");
        raw.line(format!("POST http://{host}/mcp/up HTTP/1.1")).bytes()
    }),
    ("8 kB of fields", |mut raw, _| {
        for index in 0..60 {
            raw = raw.field(format!("X-P{index}: {}", "v".repeat(100)));
        }
        raw.bytes()
    }),
];

#[test]
fn every_valid_form_arrives_byte_for_byte() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for (name, rewrite) in VALID {
            let parts = lab.parts();
            let answer = lab.gw.client().talk(&rewrite(parts.good.clone(), &parts.body())).unwrap();
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
            let request = lab.up.once(&parts.token);
            assert!(request.body == parts.body(), "{name}: the body changed");
            assert!(request.head.all("x-trailer").is_empty(), "{name}: a trailer became a field");
        }
        lab.finish();
    });
}

#[test]
fn a_request_in_small_segments_arrives_whole() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for step in [1, 7, 64] {
            let parts = lab.parts();
            let mut client = lab.gw.client();
            for segment in parts.good.bytes().chunks(step) {
                assert!(client.send_more(segment));
            }
            assert_eq!(client.answer().status, 200);
            assert!(lab.up.once(&parts.token).body == parts.body());
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let parts: Vec<_> = (0..20).map(|_| lab.parts()).collect();
        let mut client = lab.gw.client();
        let wire: Vec<u8> = parts.iter().flat_map(|parts| parts.good.bytes()).collect();
        assert!(client.send(&wire));
        for parts in &parts {
            let answer = client.answer();
            assert!(answer.text().contains(&parts.token), "out of order: {answer:?}");
        }
    });
}

#[test]
fn connections_live_as_the_client_asks() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let mut client = lab.gw.client();
        for _ in 0..3 {
            client.send(&lab.parts().good.bytes());
            assert_eq!(client.answer().status, 200);
        }
        client.send(&lab.parts().good.field("Connection: close").bytes());
        assert!(client.answer().head.says_close());
        assert!(client.is_closed());
        // HTTP/1.0: answered, closed, never in chunks.
        let mut client = lab.gw.client();
        client.send(&lab.parts().good.line("POST /mcp/up HTTP/1.0").bytes());
        assert!(client.answer().head.field("transfer-encoding").is_none());
        assert!(client.is_closed());
    });
}

#[test]
fn a_half_close_after_a_whole_request_is_answered_whole() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let mut client = lab.gw.client();
        client.send(&lab.parts().good.bytes());
        client.half_close();
        match client.try_answer() {
            Ok(answer) => assert_eq!(answer.status, 200),
            // A client of 2026-07-28 that goes away cancels; a half-close may be read as that.
            Err(broken) => assert_eq!(broken, Broken::Closed),
        }
    });
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let parts = lab.parts();
        let mut client = lab.gw.client();
        client.send(&parts.good.clone().field("Expect: 100-continue").head());
        assert_eq!(client.head().unwrap().status(), 100);
        client.send_more(&parts.body());
        assert_eq!(client.answer().status, 200);
        let request = lab.up.once(&parts.token);
        assert!(request.head.all("expect").is_empty(), "the body is whole, nothing to expect");
    });
}

#[test]
fn a_cut_request_never_becomes_whole() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let cuts: [fn(Raw) -> Vec<u8>; 2] = [
            |raw| {
                let length = format!("Content-Length: {}", raw.body.len() + 10);
                raw.without_length().field(length).bytes()
            },
            |raw| {
                let wire = crlf(&[format!("{:x}\r\n", raw.body.len() + 50).as_bytes(), &raw.body]);
                framed(raw, wire)
            },
        ];
        for cut in cuts {
            for half in [false, true] {
                let parts = lab.parts();
                let mut client = lab.gw.client();
                client.send(&cut(parts.good.clone()));
                if half {
                    client.half_close();
                    let answer = client.try_answer().map(|answer| answer.status);
                    assert!(
                        matches!(answer, Ok(400 | 408) | Err(Broken::Closed | Broken::Reset(_))),
                        "{answer:?}"
                    );
                }
                drop(client);
                assert!(lab.up.with(&parts.token).is_empty());
            }
        }
        lab.finish();
    });
}

/// Bytes that follow a request which ends the connection, or hide in a body, are no second request.
#[test]
fn no_hidden_request_is_served() {
    let hide: &[(&str, Rewrite)] = &[
        ("after Connection: close", |raw, hidden| crlf(&[&raw.field("Connection: close").bytes(), hidden])),
        ("in a GET", |raw, hidden| raw.line("GET /mcp/up HTTP/1.1").body(hidden).bytes()),
        ("in the body of a refused path", |raw, hidden| {
            raw.line("POST /no-such-path HTTP/1.1").body(hidden).bytes()
        }),
        ("behind an Upgrade", |raw, hidden| {
            let raw = raw.field("Connection: Upgrade").field("Upgrade: foo");
            crlf(&[&raw.field("Connection: close").bytes(), hidden])
        }),
    ];
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for (name, rewrite) in hide {
            let parts = lab.parts();
            let mut client = lab.gw.client();
            let _ = client.talk(&rewrite(parts.good.clone(), &parts.hidden));
            client.half_close();
            assert!(client.is_closed(), "{name}: a second answer");
            assert_eq!(lab.up.mentions(&parts.hidden_token), 0, "{name}");
        }
        lab.finish();
    });
}

#[test]
fn hop_by_hop_fields_stay_here() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let parts = lab.parts();
        let mut raw = parts.good.clone();
        for field in [
            "Connection: keep-alive, X-Hop, Upgrade, HTTP2-Settings",
            "X-Hop: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: x",
            "TE: trailers",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
            "Proxy-Authorization: Basic c2VjcmV0",
            "Authorization: Bearer c2VjcmV0",
        ] {
            raw = raw.field(field);
        }
        lab.kept("hop by hop", &raw, &parts.token);
        let head = lab.up.once(&parts.token).head;
        for name in ["x-hop", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"] {
            assert!(head.all(name).is_empty(), "{name} was forwarded");
        }
        for name in ["proxy-authorization", "authorization"] {
            assert!(head.all(name).is_empty(), "{name} was forwarded");
        }
    });
}

/// A client cannot delete what policy looked at.
#[test]
fn connection_cannot_name_what_counts() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for name in
            ["Content-Length", "Host", "Content-Type", "Mcp-Name", "Mcp-Method", "MCP-Protocol-Version"]
        {
            let parts = lab.parts();
            let raw = parts.good.clone().field(format!("Connection: {name}"));
            lab.refused(name, &parts, &raw.bytes(), &[400]);
        }
        lab.finish();
    });
}

/// Answers belong to the exchange, never to the id (CVE-2026-25536).
#[test]
fn equal_ids_never_cross() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    let mut client = gw.client();
                    for _ in 0..4 {
                        let call = gw.call("up", "echo");
                        client.send(&call.raw().bytes());
                        let answer = client.answer();
                        assert!(answer.text().contains(&call.token), "{answer:?}");
                    }
                });
            }
        });
    });
}
