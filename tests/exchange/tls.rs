//! TLS with clients: both versions, names, resumed sessions, renewed files, clients that leave or read slowly.
//!
//! Not here: certificates of clients (mtls), handshakes that fail (tls_handshakes), TLS to upstreams (pool, mtls).

use crate::reload::Load;
use crate::streaming::flood;
use crate::support::PATIENCE;
use crate::support::client::Broken;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::process;
use crate::support::script;
use crate::support::size;
use crate::support::tls::Authority;
use crate::support::tls::GATEWAY;
use crate::support::tls::Secure;
use crate::support::upstream::upstream;
use crate::support::within;
use rustls::ProtocolVersion;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

/// Feature: calls of every size in TLS 1.2 and 1.3, over HTTP/1.1 by ALPN.
#[test]
fn tls() {
    everywhere(|run| {
        let own = Authority::new();
        let up = upstream()
            .tool("echo")
            .on("long", script::large(3 << 20, false))
            .on("chunked", script::large(3 << 20, true))
            .run();
        let gw = run.gateway().tls(&own, "").to("up", &up).run();
        for (versions, version) in [
            (&[&rustls::version::TLS12], ProtocolVersion::TLSv1_2),
            (&[&rustls::version::TLS13], ProtocolVersion::TLSv1_3),
        ] {
            let secure = own.client_with(GATEWAY, versions, None);
            let mut client = secure.connect(gw.address);
            let session = client.session().tls();
            assert_eq!(session.protocol_version(), Some(version));
            assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
            for argument in ["1".into(), format!("\"{}\"", "x".repeat(1 << 20))] {
                let call = gw.call("up", "echo").argument(argument).in_session();
                client.send(&call.raw().bytes());
                let answer = client.answer();
                assert!(answer.status == 200 && answer.text().contains(&call.token), "{answer:?}");
                up.once(&call.token);
            }
            for tool in ["long", "chunked"] {
                client.send(&gw.call("up", tool).in_session().raw().bytes());
                client.head().unwrap();
                assert_eq!(client.count_rest().unwrap(), 3 << 20, "{tool}");
            }
        }
        assert!(gw.metric("ringgate_tls_handshakes_total", &["full"]) >= 2.0);
    });
}

/// The certificate is the one of the name that the client asks for, else the default.
#[test]
fn certificates_are_chosen_by_name() {
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let other = own.names(&["other.example", "*.agents.example"]);
        let builder = run.gateway();
        builder.certificate("other", &other);
        let gw = builder.tls(&own, ", certificates: [{cert: other.pem, key: other.key}]").to("up", &up).run();
        let shown = |name: &str| own.client(name).try_connect(gw.address).map(|session| session.shown());
        let default = shown(GATEWAY).unwrap();
        assert_ne!(default, other.certificate());
        assert_eq!(shown("other.example").unwrap(), other.certificate());
        assert_eq!(shown("seven.agents.example").unwrap(), other.certificate());
        // The default bears another name, which the client sees.
        for unknown in ["agents.example", "a.b.agents.example", "else.example"] {
            let error = shown(unknown).map(drop).unwrap_err();
            assert!(error.to_string().contains("not valid for name"), "{unknown}: {error}");
        }
    });
}

/// A client that comes again resumes its session, on any worker; an unrelated reload does not end it.
#[test]
fn tls_sessions_are_resumed() {
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().tls(&own, "").with("up", &up, &["headers: {X-Plan: one}"]).run();
        for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
            let secure = own.client_with(GATEWAY, versions, None);
            assert!(!resumes(&gw, &secure));
            for _ in 0..8 {
                assert!(resumes(&gw, &secure), "{versions:?}");
            }
            let yaml = std::fs::read_to_string(&gw.config).unwrap();
            gw.reload(&yaml.replace("X-Plan: one", "X-Plan: two"));
            assert!(resumes(&gw, &secure), "{versions:?} after a reload");
            gw.reload(&yaml);
        }
        assert!(gw.metric("ringgate_tls_handshakes_total", &["resumed"]) >= 18.0);
    });
}

/// Calls once on a connection of its own; whether the session was one from before.
pub fn resumes(gw: &Gateway, secure: &Secure) -> bool {
    let mut client = secure.connect(gw.address);
    client.send(&gw.modern("up", "echo").raw().bytes());
    assert_eq!(client.answer().status, 200);
    client.session().is_resumed()
}

/// A real client: curl, with both versions, and resumed over a kept connection.
#[test]
fn curl_calls_over_tls() {
    if Command::new("curl").arg("-V").output().is_err() {
        eprintln!("SKIPPED: no curl");
        return;
    }
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let builder = run.gateway().http(&format!("hosts: [{GATEWAY}]")).tls(&own, "");
        let trust = builder.folder.file("own.pem", &own.pem());
        let gw = builder.to("up", &up).run();
        for (version, http, spoken) in [
            ("1.2", "--http1.1", "\n1.1 0"),
            ("1.3", "--http1.1", "\n1.1 0"),
            ("1.2", "--http2", "\n2 0"),
            ("1.3", "--http2", "\n2 0"),
        ] {
            let call = gw.modern("up", "echo");
            let raw = call.raw().without("host");
            let mut curl = Command::new("curl");
            curl.args([
                "-sS",
                "--fail-with-body",
                "--max-time",
                "10",
                "--tlsv1.2",
                "--tls-max",
                version,
                http,
            ]);
            curl.arg("--cacert").arg(&trust);
            curl.args(["--resolve", &format!("{GATEWAY}:{}:127.0.0.1", gw.address.port())]);
            for field in &raw.fields {
                curl.arg("-H").arg(String::from_utf8(field.clone()).unwrap());
            }
            curl.args(["-d", &call.body()]);
            let url = format!("https://{GATEWAY}:{}/mcp/up", gw.address.port());
            let output =
                curl.args(["-w", "\n%{http_version} %{ssl_verify_result}", &url, &url]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{output:?}");
            assert_eq!(text.matches(spoken).count(), 2, "{text}");
            assert_eq!(up.with(&call.token).len(), 2);
        }
    });
}

/// Feature: a changed certificate serves new handshakes within a second, and what runs goes on.
#[test]
fn tls_renewed_files() {
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().tls(&own, "").to("up", &up).run();
        let secure = own.client(GATEWAY);
        let mut old = secure.connect(gw.address);
        let calls = |client: &mut Client| {
            client.send(&gw.modern("up", "echo").raw().bytes());
            assert_eq!(client.answer().status, 200);
        };
        calls(&mut old);
        let before = old.session().shown();
        let renewed = own.names(&[GATEWAY]);
        gw.builder.certificate("gw", &renewed);
        let start = Instant::now();
        // A client without sessions: each handshake shows a certificate.
        let shown = || own.client(GATEWAY).try_connect(gw.address).unwrap().shown();
        eventually("the new certificate is shown", || shown() == renewed.certificate());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        calls(&mut old);
        assert_eq!(old.session().shown(), before);
        calls(&mut secure.connect(gw.address));
        // A pair that does not match is refused as a whole: the one before goes on.
        let rejected = gw.reloads("rejected");
        std::fs::write(gw.builder.folder.path().join("gw.key"), own.names(&[GATEWAY]).key).unwrap();
        eventually("the pair is refused", || gw.reloads("rejected") > rejected);
        eventually("it is told why", || gw.stderr().contains("it is not the key of the certificate"));
        assert_eq!(shown(), renewed.certificate());
        calls(&mut old);
    });
}

/// hardening.md 30: certificates are renewed again and again while calls run on old and new connections.
#[test]
fn tls_reload_under_load() {
    let count: u32 = size(20, 1000);
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().tls(&own, "").to("up", &up).run();
        let certificates = [own.names(&[GATEWAY]), own.names(&[GATEWAY])];
        let load = Load::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| load.run(&gw));
                scope.spawn(|| load.run_anew(&gw));
            }
            eventually("the load runs", || load.calls.load(SeqCst) > 100);
            for number in 1..=count {
                gw.builder.certificate("gw", &certificates[number as usize % 2]);
                gw.hang_up();
                assert!(within(PATIENCE, || gw.reloads("ok") >= f64::from(number)), "{}", gw.stderr());
            }
            load.stop.store(true, SeqCst);
        });
        assert_eq!(*load.failures.lock().unwrap(), Vec::<String>::new());
    });
}

/// A client that leaves cancels a modern call as soon as one without TLS does, whether it says so or not.
#[test]
fn a_tls_client_that_leaves_cancels() {
    on_every_driver(|run| {
        let own = Authority::new();
        let (script, gone) = script::watched(b"");
        let up = upstream().on("x", script).run();
        let gw = run.gateway().tls(&own, "").to("up", &up).run();
        let mut delays: Vec<Duration> = (0..9)
            .map(|number| {
                let call = gw.modern("up", "x");
                let token = call.token.clone();
                let mut client = call.open();
                up.until_called(&token);
                let left = Instant::now();
                match number % 3 {
                    0 => drop(client),
                    1 => client.reset(),
                    _ => {
                        client.session().end();
                        drop(client);
                    }
                }
                gone.recv_timeout(PATIENCE).unwrap().saturating_duration_since(left)
            })
            .collect();
        delays.sort();
        assert!(delays[4] <= Duration::from_millis(50), "{delays:?}");
    });
}

/// Idle connections that end are seen, and what they hold meanwhile is little.
#[test]
fn idle_tls_connections_are_cheap_and_their_end_is_seen() {
    let count = size(300, 2000);
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().tls(&own, "").to("up", &up).run();
        let served = || {
            let mut client = gw.client();
            client.send(&gw.modern("up", "echo").raw().bytes());
            assert_eq!(client.answer().status, 200);
            client
        };
        let first: Vec<Client> = (0..50).map(|_| served()).collect();
        let (before, open) = (process::resident_kib(gw.pid()), process::descriptors(gw.pid()));
        let idle: Vec<Client> = (0..count).map(|_| served()).collect();
        let each = || process::resident_kib(gw.pid()).saturating_sub(before) as f64 / count as f64;
        eventually("an idle TLS connection costs at most 16 KiB", || each() <= 16.0);
        eprintln!("{run:?}: {count} idle TLS connections, {:.2} KiB each", each());
        for (number, mut client) in idle.into_iter().enumerate() {
            match number % 3 {
                0 => drop(client),
                1 => client.reset(),
                _ => client.session().end(),
            }
        }
        eventually("descriptors are given back", || process::descriptors(gw.pid()) <= open);
        drop(first);
    });
}

/// Back-pressure: what a client does not take is not read from the upstream, and 64 KiB of it are ours.
#[test]
fn a_slow_tls_reader_holds_64_kib() {
    // Fewer would measure the worker's own buffers and not the readers'.
    let count: u32 = 100;
    on_every_driver(|run| {
        let own = Authority::new();
        let (script, taken) = flood();
        let up = upstream().on("x", script).tool("echo").run();
        let gw = run.gateway().workers(1).tls(&own, "").to("up", &up).run();
        assert_eq!(gw.call("up", "echo").send().status, 200);
        let before = process::resident_kib(gw.pid());
        let mut readers: Vec<_> = (0..count).map(|_| gw.call("up", "x").open()).collect();
        for _ in 0..count {
            let taken = taken.recv_timeout(PATIENCE).unwrap();
            assert!(taken < 64 << 20, "{taken} bytes taken for a client that reads nothing");
        }
        let each = process::resident_kib(gw.pid()).saturating_sub(before) / u64::from(count);
        eprintln!("{run:?}: {each} KiB a slow reader");
        assert!(each <= 64 + 24, "{each} KiB each (64 of buffers, and a connection's own)");
        assert_eq!(gw.call("up", "echo").send().status, 200);
        assert_eq!(readers[0].head().unwrap().status(), 200);
    });
}

/// The end of an answer that ends with its connection is said (RFC 8446 section 6.1); that of a cut one is not.
#[test]
fn a_cut_answer_looks_cut_over_tls() {
    on_every_driver(|run| {
        let own = Authority::new();
        let until_close = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"jsonrpc\":\"2.0\"}";
        let cut =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"jsonrpc\"";
        let up = upstream().on("whole", script::bytes(*until_close)).on("cut", script::bytes(*cut)).run();
        let gw = run.gateway().tls(&own, "").to("up", &up).run();
        let ask = |tool: &str, version: &str| {
            let mut client = gw.client();
            let line = format!("POST /mcp/up HTTP/1.{version}");
            client.send(&gw.modern("up", tool).raw().line(line).field("Connection: close").bytes());
            let whole = client.try_answer();
            (whole, client)
        };
        for version in ["0", "1"] {
            let (answer, mut client) = ask("whole", version);
            assert!(answer.unwrap().text().ends_with('}'), "HTTP/1.{version}");
            assert!(matches!(client.head(), Err(Broken::Closed)), "HTTP/1.{version}: the end was not said");
            let (answer, _) = ask("cut", version);
            assert!(matches!(answer, Err(Broken::Reset(_))), "HTTP/1.{version}: {answer:?}");
        }
    });
}

/// The address, for clients that shake hands by themselves.
pub fn plain(address: SocketAddr) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
