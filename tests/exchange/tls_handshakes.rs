//! Handshakes that fail, and floods of them: each costs only itself.
//!
//! Not here: certificates of clients (mtls).

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::tls::Authority;
use crate::support::tls::GATEWAY;
use crate::support::tls::Secure;
use crate::support::upstream::upstream;
use crate::tls::plain;
use rustls::ClientConnection;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// The first bytes of a handshake.
fn hello(secure: &Secure) -> Vec<u8> {
    let mut session = ClientConnection::new(Arc::clone(&secure.config), secure.name.clone()).unwrap();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

/// What comes until the gateway closes.
fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

fn serves(gw: &Gateway) {
    assert_eq!(gw.modern("up", "echo").send().status, 200);
}

/// Feature, hardening.md 30: garbage, plain HTTP, cut, slow, all at once: the others are served.
#[test]
fn tls_bad_handshakes() {
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().http("headerTimeout: 1s").tls(&own, "").to("up", &up).run();
        let hello = hello(&own.client(GATEWAY));
        let mut old = gw.client();
        // Plain HTTP is answered with an alert, garbage with one or nothing; neither with HTTP.
        for sent in
            [&b"GET /mcp/up HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[0xff; 300], &[0x16, 3, 1, 0xff, 0xff], b"\0"]
        {
            let mut stream = plain(gw.address);
            stream.write_all(sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let answer = until_closed(&mut stream);
            assert!(answer.is_empty() || answer[0] == 0x15, "{sent:02x?}: {answer:02x?}");
            serves(&gw);
        }
        // Cut anywhere, politely or not.
        for end in [1, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()] {
            let mut stream = plain(gw.address);
            stream.write_all(&hello[..end]).unwrap();
            if end % 2 == 0 {
                stream.shutdown(Shutdown::Write).unwrap();
                until_closed(&mut stream);
            }
        }
        // Nothing, or a byte at a time: over when the time for a head is.
        let start = Instant::now();
        let mut silent = plain(gw.address);
        let mut slow = plain(gw.address);
        let ended = std::thread::scope(|scope| {
            let dripping = scope.spawn(|| {
                for byte in &hello {
                    if slow.write_all(&[*byte]).is_err() {
                        break;
                    }
                    pace(Duration::from_millis(20));
                }
                start.elapsed()
            });
            serves(&gw);
            assert!(until_closed(&mut silent).is_empty());
            let silent = start.elapsed();
            (silent, dripping.join().unwrap())
        });
        for ended in [ended.0, ended.1] {
            assert!(ended >= Duration::from_millis(900) && ended < Duration::from_secs(3), "{ended:?}");
        }
        old.send(&gw.modern("up", "echo").raw().bytes());
        assert_eq!(old.answer().status, 200);
        eventually("they are counted", || gw.metric("ringgate_tls_handshakes_total", &["failed"]) >= 12.0);
        eventually("they are gone", || gw.metric("ringgate_client_connections", &[]) <= 2.0);
    });
}

/// 500 connections that begin a handshake and stop there: who comes after them is served at once.
#[test]
fn a_flood_of_handshakes_keeps_nobody_out() {
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().workers(1).tls(&own, "").to("up", &up).run();
        let hello = hello(&own.client(GATEWAY));
        let mut held: Vec<TcpStream> = Vec::new();
        for number in 0..500 {
            let mut stream = plain(gw.address);
            // Half of them wait for the server's answer, half have not said anything whole.
            stream.write_all(if number % 2 == 0 { &hello } else { &hello[..40] }).unwrap();
            held.push(stream);
        }
        let start = Instant::now();
        for _ in 0..20 {
            serves(&gw);
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} for 20 calls", start.elapsed());
    });
}

/// More handshakes than there is room for: who has only held a place for a second gives way to who comes.
#[test]
fn the_bound_of_handshakes_ends_the_oldest() {
    const HANDSHAKES_MAX: usize = ringgate::config::limits::HANDSHAKES_MAX;
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().http("headerTimeout: 60s").workers(1).tls(&own, "").to("up", &up).run();
        let mut held: Vec<TcpStream> = (0..HANDSHAKES_MAX).map(|_| plain(gw.address)).collect();
        let hit = |bound: f64| gw.metric("ringgate_bound_hits_total", &["\"handshakes\""]) >= bound;
        // While all are new the newest is refused.
        let mut late = plain(gw.address);
        let refused = until_closed(&mut late).is_empty() && hit(1.0);
        pace(Duration::from_millis(ringgate::config::limits::HANDSHAKE_GRACE_MS));
        serves(&gw);
        assert!(hit(if refused { 2.0 } else { 1.0 }));
        assert!(until_closed(&mut held[0]).is_empty(), "the oldest was not closed");
        let mut newest = held.pop().unwrap();
        newest.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(newest.read(&mut [0]).is_err(), "the newest was closed");
    });
}

/// Nothing in common: an alert, and no session (RFC 7301 section 3.2).
#[test]
fn a_client_of_another_protocol_is_told() {
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().tls(&own, "").to("up", &up).run();
        for (protocols, agreed) in [
            (vec![], Ok(None)),
            (vec![&b"http/1.1"[..]], Ok(Some(&b"http/1.1"[..]))),
            (vec![b"imap", b"http/1.1"], Ok(Some(b"http/1.1"))),
            // As of RFC 9113 section 3.2; "h2c" is no name that a handshake may agree on.
            (vec![b"h2c", b"http/1.1"], Ok(Some(b"http/1.1"))),
            (vec![b"imap"], Err(())),
        ] {
            let secure = own.client(GATEWAY).speaking(&protocols);
            let session = secure.try_connect(gw.address);
            match (session, agreed) {
                (Ok(mut session), Ok(agreed)) => {
                    assert_eq!(session.tls().alpn_protocol(), agreed);
                    let mut client = Client::secured(session);
                    client.send(&gw.modern("up", "echo").raw().bytes());
                    assert_eq!(client.answer().status, 200);
                }
                (Err(error), Err(())) => {
                    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
                }
                (session, _) => panic!("{protocols:?}: {:?}", session.map(drop)),
            }
        }
    });
}

/// hardening.md 30: new keys again and again without a request in between: the connection ends, and nobody else's.
#[test]
fn a_flood_of_key_updates_costs_only_its_connection() {
    on_every_driver(|run| {
        let own = Authority::new();
        let up = upstream().tool("echo").run();
        let gw = run.gateway().workers(1).tls(&own, "").to("up", &up).run();
        let mut other = gw.client();
        for number in 0..20 {
            let mut flooder = own.client_with(GATEWAY, &[&rustls::version::TLS13], None).connect(gw.address);
            // More than a client has reason for; one that goes on may find the connection closed already.
            for _ in 0..100 {
                if flooder.session().tls().refresh_traffic_keys().is_err()
                    || flooder.session().flush().is_err()
                {
                    break;
                }
            }
            assert!(flooder.is_closed(), "{number}: it goes on");
            other.send(&gw.modern("up", "echo").raw().bytes());
            assert_eq!(other.answer().status, 200);
        }
    });
}
