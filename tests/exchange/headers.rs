//! What surrounds the body: the mirrored headers of 2026-07-28, paths, methods, Host and Origin.
//!
//! Not here: framing, and what the body says (json).

use crate::lab::Lab;
use crate::lab::Parts;
use crate::support::call::Call;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::upstream::upstream;
use serde_json::Value;

const MISMATCH: i64 = -32020;

/// Without, with, what that must get.
type Row = (&'static str, &'static [&'static str], i64);

/// MCP 2026-07-28, transports: who processes the body rejects what disagrees with it. "ZWNobw==" is
/// "echo".
#[test]
fn headers_agree_with_the_body_or_32020() {
    let rows: &[Row] = &[
        ("mcp-method", &["Mcp-Method: tools/list"], MISMATCH),
        ("mcp-name", &["Mcp-Name: other"], MISMATCH),
        ("mcp-method", &[], MISMATCH),
        ("mcp-name", &[], MISMATCH),
        ("mcp-name", &["Mcp-Name: echo, echo"], MISMATCH),
        ("mcp-method", &["Mcp-Method: Tools/Call"], MISMATCH),
        ("mcp-name", &["Mcp-Name: =?base64?YWRtaW4=?="], MISMATCH),
        ("mcp-name", &["Mcp-Name: =?base64?!!!?="], MISMATCH),
        ("mcp-name", &["Mcp-Name: =?BASE64?ZWNobw==?="], MISMATCH),
        ("mcp-name", &["Mcp-Name: =?base64?//4=?="], MISMATCH),
        ("mcp-name", &["Mcp-Name: =?base64?ZWNobwA=?="], MISMATCH),
        ("mcp-name", &["Mcp-Name: ech%6f"], MISMATCH),
        ("mcp-protocol-version", &["MCP-Protocol-Version: 2025-11-25"], MISMATCH),
        ("mcp-protocol-version", &[], MISMATCH),
        ("", &["Mcp-Method: tools/list"], 0),
        ("", &["Mcp-Method: tools/call"], 0),
        ("", &["Mcp-Name: admin"], 0),
        ("mcp-name", &["Mcp-Name: admin", "Mcp-Name: echo"], 0),
        ("", &["Mcp_Name: admin"], 0),
        ("", &["mcp_method: tools/list"], 0),
        ("", &["MCP-Protocol-Version: 2025-03-26"], 0),
    ];
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for (without, with, code) in rows {
            let call = lab.gw.modern("up", "echo").id("\"q7\"");
            let parts = Parts { token: call.token.clone(), ..lab.parts() };
            let raw = if without.is_empty() { call.raw() } else { call.raw().without(without) };
            let raw = with.iter().fold(raw, |raw, field| raw.field(*field));
            let name = format!("-{without} +{with:?}");
            let answer = lab.refused(&name, &parts, &raw.bytes(), &[400]);
            assert!(*code == 0 || answer.code() == *code, "{name}: {answer:?}");
            let json = answer.json();
            let id = json.get("id").unwrap_or(&Value::Null);
            // A head that is no good is refused before the body with its id is read.
            assert!(*id == "q7" || (*code == 0 && answer.head.says_close()), "{name}: {answer:?}");
            assert_eq!(answer.head.field("content-type"), Some("application/json"), "{name}");
        }
        lab.finish();
    });
}

#[test]
fn a_revision_that_nobody_knows_is_32022() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let call = lab.gw.modern("up", "echo");
        let raw = call.raw().without("mcp-protocol-version").field("MCP-Protocol-Version: 2099-01-01");
        let raw = raw.body(call.body().replace("2026-07-28", "2099-01-01"));
        let parts = Parts { token: call.token.clone(), ..lab.parts() };
        let error = lab.refused("2099", &parts, &raw.bytes(), &[400]).json();
        assert_eq!(error["error"]["code"], -32022, "{error}");
        assert_eq!(error["error"]["data"]["requested"], "2099-01-01", "{error}");
        assert!(error["error"]["data"]["supported"].to_string().contains("2026-07-28"), "{error}");
    });
}

#[test]
fn headers_that_say_the_same_in_other_letters_pass() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let rows: &[(&str, &[&str])] = &[
            ("mcp-name", &["Mcp-Name: =?base64?ZWNobw==?="]),
            ("mcp-name", &["MCP-NAME:  \t echo "]),
            ("mcp-method", &["mcp-method: tools/call"]),
            ("", &["Mcp-Param-Region: us-west1"]),
            ("", &["Mcp-Session-Id: s-1"]),
        ];
        for (without, with) in rows {
            let call = lab.gw.modern("up", "echo");
            let raw = if without.is_empty() { call.raw() } else { call.raw().without(without) };
            let raw = with.iter().fold(raw, |raw, field| raw.field(*field));
            let answer = lab.kept(&format!("{with:?}"), &raw, &call.token);
            assert!(answer.head.all("mcp-session-id").is_empty(), "a session in 2026-07-28");
            let request = lab.up.once(&call.token);
            assert!(request.head.all("mcp-session-id").is_empty(), "2026-07-28 ignores sessions");
            if with[0].contains("Param") {
                assert_eq!(request.head.field("mcp-param-region"), Some("us-west1"));
            }
        }
    });
}

/// A name with a line end travels encoded only.
#[test]
fn an_encoded_line_end_never_becomes_one() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let call = Call { name: Some(r"a\r\nX-Inj: 1".into()), ..lab.gw.modern("up", "echo") };
        let raw = call.raw().without("mcp-name").field("Mcp-Name: =?base64?YQ0KWC1Jbmo6IDE=?=");
        let _ = lab.gw.client().talk(&raw.bytes());
        for request in lab.up.with(&call.token) {
            assert!(request.head.all("x-inj").is_empty());
        }
    });
}

#[test]
fn other_paths_open_nothing() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let paths = [
            ("/mcp/up/../admin", &[400, 404][..]),
            ("/mcp/up%2f..%2fadmin", &[400, 404]),
            ("//mcp/up", &[400, 404]),
            ("/mcp/up-no-such-server", &[404]),
            ("/mcp/UP", &[404]),
            ("/mcp/up/", &[400, 404]),
            ("/", &[404]),
            ("/mcp/u%70", &[400, 404]),
            ("/mcp/up%0d%0aX-Inj:1", &[400, 404]),
            ("/mcp/up#x", &[400, 404]),
            ("mcp/up", &[400, 404]),
        ];
        for (path, statuses) in paths {
            let parts = lab.parts();
            let raw = parts.good.clone().line(format!("POST {path} HTTP/1.1"));
            lab.refused(path, &parts, &raw.bytes(), statuses);
        }
        lab.finish();
    });
}

#[test]
fn other_methods_open_nothing() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        for (method, statuses) in [
            ("GET", &[405, 400][..]),
            ("DELETE", &[405, 400]),
            ("PUT", &[405]),
            ("PATCH", &[405]),
            ("OPTIONS", &[405]),
            ("TRACE", &[405, 501]),
        ] {
            let parts = lab.parts();
            let raw = parts.good.clone().line(format!("{method} /mcp/up HTTP/1.1"));
            let raw = raw.body("").without_length().field("X-HTTP-Method-Override: POST");
            let answer = lab.refused(method, &parts, &raw.bytes(), statuses);
            let allow = answer.head.field("allow").unwrap_or("");
            assert!(
                answer.status != 405 || allow.contains("POST"),
                "{method}: RFC 9110 wants Allow: {answer:?}"
            );
        }
        lab.finish();
    });
}

/// DNS rebinding: every listener answers only to its own names, and only to its own pages.
#[test]
fn foreign_hosts_and_origins_are_refused() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let port = lab.gw.address.port();
        for (field, without) in [
            ("Host: evil.example".to_owned(), "host"),
            (format!("Host: evil.example:{port}"), "host"),
            ("Origin: https://evil.example".to_owned(), "x-none"),
            ("Origin: null".to_owned(), "x-none"),
            (format!("Origin: http://127.0.0.1.evil.example:{port}"), "x-none"),
        ] {
            let parts = lab.parts();
            let raw = parts.good.clone().without(without).field(field.as_str());
            let answer = lab.refused(&field, &parts, &raw.bytes(), &[403, 421]);
            assert!(answer.json().get("id").is_none_or(|id| !id.is_null()), "null is no id");
        }
        for own in [format!("Origin: http://127.0.0.1:{port}"), format!("Origin: http://localhost:{port}")] {
            let parts = lab.parts();
            lab.kept(&own, &parts.good.clone().field(own.as_str()), &parts.token);
        }
        for own in [format!("localhost:{port}"), format!("127.0.0.1:{port}")] {
            let parts = lab.parts();
            lab.kept(&own, &parts.good.clone().without("host").field(format!("Host: {own}")), &parts.token);
        }
    });
}

#[test]
fn the_admin_listener_checks_host_and_origin_too() {
    on_every_driver(|run| {
        let lab = Lab::new(run);
        let admin = lab.gw.admin.unwrap();
        assert_eq!(lab.gw.admin("/livez").status, 200);
        for fields in [
            "Host: evil.example".to_owned(),
            format!("Host: {admin}\r\nOrigin: https://evil.example"),
            format!("Host: {admin}\r\nOrigin: null"),
        ] {
            let mut client = crate::support::client::Client::connect(admin);
            client.send(format!("GET /metrics HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes());
            let answer = client.answer();
            assert!([403, 421, 400].contains(&answer.status), "{fields}: {answer:?}");
            assert!(!answer.text().contains("ringgate_"), "{fields}: metrics leaked");
        }
    });
}

/// Fields and bytes of an event stream pass as the server wrote them.
#[test]
fn a_stream_passes_as_it_came() {
    const EVENTS: &str = "event: message\nid: 7\nretry: 100\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n: keep-alive\r\n\r\ndata: x\r\rend";
    on_every_driver(|run| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\nX-Own: 1";
        let length = EVENTS.len();
        let answer =
            format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{EVENTS}\r\n0\r\n\r\n");
        let up = upstream().on("x", script::bytes(answer)).run();
        let gw = run.gateway().to("up", &up).run();
        let answer = gw.call("up", "x").send();
        assert_eq!(answer.text(), EVENTS);
        assert_eq!(answer.head.field("content-type"), Some("text/event-stream"));
        assert_eq!(answer.head.field("x-accel-buffering"), Some("no"));
        assert_eq!(answer.head.field("x-own"), Some("1"));
        assert!(answer.head.field("server-timing").is_some_and(|value| value.contains("ringgate;dur=")));
    });
}
