//! Connections to the upstream: kept, checked before use, never the reason for a second delivery; plain
//! and TLS.
//!
//! Not here: what an upstream answers (faults).

use crate::support::Folder;
use crate::support::Run;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::on_every_driver;
use crate::support::script;
use crate::support::tls::Authority;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::io::Write;
use std::net::TcpListener;

#[test]
fn one_connection_serves_many_calls() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").on("stream", script::stream(3)).run();
        let gw = run.gateway().pinned().workers(1).to("up", &up).run();
        for number in 0..40 {
            let tool = if number % 2 == 0 { "echo" } else { "stream" };
            assert_eq!(gw.call("up", tool).send().status, 200);
        }
        assert_eq!(up.connections(), 1);
    });
}

/// The upstream closes its idle connections: the next call succeeds, delivered once, every time.
#[test]
fn a_stale_connection_is_not_used() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().workers(1).to("up", &up).run();
        for _ in 0..20 {
            let call = gw.call("up", "echo");
            let token = call.token.clone();
            assert_eq!(call.send().status, 200);
            up.once(&token);
            up.close_all();
            up.until_closed();
        }
    });
}

/// We close before common servers do, so that a call never meets a closing connection.
#[test]
fn an_idle_connection_is_closed_by_us() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        assert_eq!(gw.call("up", "echo").send().status, 200);
        assert!(up.closes_within(crate::support::PATIENCE), "an idle connection is kept");
        assert_eq!(gw.call("up", "echo").send().status, 200);
    });
}

#[test]
fn instances_take_turns() {
    on_every_driver(|run| {
        let ups: Vec<Upstream> = (0..3).map(|_| upstream().tool("echo").run()).collect();
        let list: Vec<String> = ups.iter().map(|up| format!("{{url: \"{}\"}}", up.url)).collect();
        let line = format!("instances: [{}]", list.join(", "));
        let gw = run.gateway().workers(1).server("up", &[&line]).run();
        for _ in 0..30 {
            assert_eq!(gw.call("up", "echo").send().status, 200);
        }
        assert_eq!(ups.iter().map(Upstream::calls).collect::<Vec<_>>(), [10, 10, 10]);
    });
}

/// What the operator configured is there once, and the client's own is not.
#[test]
fn configured_headers_replace_the_clients() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let folder = Folder::new();
        let file = folder.file("token", "from-a-file\n");
        let lines =
            format!("headers: {{Authorization: \"Bearer ${{file:{}}}\", X-Team: core}}", file.display());
        let gw = run.gateway().with("up", &up, &[&lines]).run();
        let call = gw.call("up", "echo").field("Authorization: Bearer mine").field("x-team: mine");
        let token = call.token.clone();
        assert_eq!(call.send().status, 200);
        let head = up.once(&token).head;
        assert_eq!(head.field("authorization"), Some("Bearer from-a-file"));
        assert_eq!(head.field("x-team"), Some("core"));
        assert_eq!(head.field("host"), Some(up.address.to_string().as_str()));
    });
}

/// A gateway in front of an upstream that proves to be `name` by `authority`.
fn tls(run: Run, name: &str, lines: &str) -> (Upstream, Builder) {
    let (own, other) = (Authority::new(), Authority::new());
    let up = upstream().tool("echo").on("large", script::large(3 << 20, true)).tls(own.server(name)).run();
    let builder = run.gateway();
    let own = builder.folder.file("own.pem", &own.pem());
    let other = builder.folder.file("other.pem", &other.pem());
    let lines = lines.replace("OWN", own.to_str().unwrap()).replace("OTHER", other.to_str().unwrap());
    let builder = builder.with("up", &up, &[&lines]);
    (up, builder)
}

#[test]
fn tls_upstreams_are_verified_and_served() {
    everywhere(|run| {
        let (up, builder) = tls(run, "mcp.example", "tls: {ca: \"OWN\", serverName: mcp.example}");
        let gw = builder.pinned().workers(1).run();
        for _ in 0..5 {
            let call = gw.call("up", "echo").argument(format!("\"{}\"", "a".repeat(100_000)));
            let token = call.token.clone();
            assert_eq!(call.send().status, 200);
            up.once(&token);
        }
        assert_eq!(gw.call("up", "large").send().body.len(), 3 << 20);
        assert_eq!(up.connections(), 1, "TLS connections are kept too");
    });
}

#[test]
fn tls_upstreams_that_prove_nothing_get_nothing() {
    on_every_driver(|run| {
        for (name, lines) in [
            ("another authority", "tls: {ca: \"OTHER\", serverName: mcp.example}"),
            ("another name", "tls: {ca: \"OWN\", serverName: bank.example}"),
            ("the system's authorities", "tls: {serverName: mcp.example}"),
        ] {
            let (up, builder) = tls(run, "mcp.example", lines);
            let gw = builder.run();
            let answer = gw.call("up", "echo").send();
            assert!([502, 503].contains(&answer.status), "{name}: {answer:?}");
            assert!(up.requests().is_empty(), "{name}: served");
        }
        // TLS to a server that speaks none.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("url: \"https://{}/mcp\"", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        });
        let gw = run.gateway().server("up", &[&url]).run();
        let answer = gw.call("up", "echo").send();
        assert!([502, 503, 504].contains(&answer.status), "{answer:?}");
    });
}
