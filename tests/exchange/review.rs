//! Defects of the data plane that a review found: each test is one.
//!
//! Not here: what the topics beside this file already hold.

use crate::support::client::Broken;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::script;
use crate::support::upstream::Next;
use crate::support::upstream::upstream;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

/// The worker's coarse time is up to a slow tick old when the first connection after a silence comes.
#[test]
fn a_deadline_is_not_shorter_after_a_silence() {
    on_every_driver(|run| {
        let up = upstream()
            .on(
                "x",
                script::script(|connection, request| {
                    pace(Duration::from_millis(30));
                    script::send(connection, &script::plain(200, &script::echo_result(request)))
                }),
            )
            .run();
        let gw = run.gateway().workers(1).with("up", &up, &["timeout: {firstByte: 150ms}"]).run();
        // Whatever part of a slow tick has passed by then.
        for silence in [600, 640, 680, 720] {
            pace(Duration::from_millis(silence));
            assert_eq!(gw.call("up", "x").send().status, 200);
        }
    });
}

/// RFC 9112 section 9.5: only a final answer means that the rest of the request is not wanted. The upstream
/// answers once it has read the whole body.
#[test]
fn an_interim_answer_does_not_stop_a_body_on_its_way() {
    on_every_driver(|run| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("url: \"http://{}/mcp\"", listener.local_addr().unwrap());
        let gw = run
            .gateway()
            .pinned()
            .http("maxBody: 16MiB")
            .server("up", &[&url, "timeout: {firstByte: 3s}"])
            .run();
        let call = gw.call("up", "x").argument(format!("\"{}\"", "a".repeat(12 << 20)));
        let body = call.body().len();
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = listener.accept().unwrap().0;
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
                pace(Duration::from_millis(300));
                let (mut came, mut piece) = (0, vec![0; 1 << 16]);
                while came < body {
                    match stream.read(&mut piece) {
                        Ok(more) if more > 0 => came += more,
                        _ => return,
                    }
                }
                let _ = stream.write_all(&script::plain(200, "{}"));
            });
            call.send()
        });
        assert_eq!(answer.status, 200, "{answer:?}");
    });
}

/// An answer that ends with its connection must not end cleanly where it was cut.
#[test]
fn a_stop_cuts_an_http_1_0_answer_visibly() {
    on_every_driver(|run| {
        let up = upstream()
            .on(
                "x",
                script::script(|connection, _| {
                    connection.send(script::STREAM);
                    while connection.send(&script::progress(1)) {
                        pace(Duration::from_millis(50));
                    }
                    Next::Close
                }),
            )
            .run();
        let gw = run.gateway().http("drain: 300ms").to("up", &up).run();
        let mut client = gw.client();
        client.send(&gw.call("up", "x").raw().line("POST /mcp/up HTTP/1.0").bytes());
        assert_eq!(client.head().unwrap().status(), 200);
        gw.terminate();
        let end = client.rest();
        assert!(matches!(end, Err(Broken::Reset(_))), "looks whole: {end:?}");
    });
}
