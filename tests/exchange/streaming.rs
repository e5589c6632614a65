//! Answers as they arrive: latency of events, results of any size, slow readers, idle streams.
//!
//! Not here: streams that break (faults) or are left (cancel).

use crate::support::Era;
use crate::support::PATIENCE;
use crate::support::Run;
use crate::support::call::Call;
use crate::support::call::chunk;
use crate::support::everywhere;
use crate::support::on_every_driver;
use crate::support::pace;
use crate::support::process;
use crate::support::script;
use crate::support::script::Script;
use crate::support::size;
use crate::support::tls::Authority;
use crate::support::upstream::Next;
use crate::support::upstream::upstream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

type Times = Arc<Mutex<Vec<Instant>>>;

/// So many events, `gap` apart, and when each was sent.
fn paced(events: usize, gap: Duration) -> (Script, Times) {
    let times = Times::default();
    let into = Arc::clone(&times);
    let script = script::script(move |connection, request| {
        connection.send(script::STREAM);
        for step in 0..events {
            pace(gap);
            into.lock().unwrap().push(Instant::now());
            connection.send(&script::progress(step));
        }
        pace(gap);
        script::send(connection, &script::last_event(request))
    });
    (script, times)
}

/// The median time from sending to reading, and how many reads brought more than one event.
fn read_paced(call: Call, times: &Times, events: usize) -> (Duration, usize) {
    times.lock().unwrap().clear();
    let mut client = call.open();
    client.head().unwrap();
    let (mut came, mut joined) = (Vec::new(), 0);
    while came.len() < events {
        let (at, piece) = client.piece().unwrap().expect("the stream ended early");
        let count = String::from_utf8_lossy(&piece).matches("data: ").count();
        joined += usize::from(count > 1);
        came.extend(std::iter::repeat_n(at, count));
    }
    client.rest().unwrap();
    let sent = times.lock().unwrap();
    let delays = came.iter().zip(sent.iter()).map(|(came, sent)| came.saturating_duration_since(*sent));
    (median(delays.collect()), joined)
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// Each event at once and alone; over the whole stream at most 5 ms more than without a gateway. A busy
/// machine can hold up any reader, so three rounds are tried; a gateway that gathers fails them all.
#[test]
fn streaming() {
    let (events, gap) = size((10, Duration::from_millis(20)), (200, Duration::from_millis(100)));
    everywhere(|run| {
        let (behind, behind_times) = paced(events, gap);
        let (alone, alone_times) = paced(events, gap);
        let (up, bare) = (upstream().on("x", behind).run(), upstream().on("x", alone).run());
        let gw = run.gateway().to("up", &up).run();
        let round = || {
            let near = Call::tool(bare.address, run.era, "up", "x");
            let ((through, joined), (direct, _)) = std::thread::scope(|scope| {
                let direct = scope.spawn(|| read_paced(near, &alone_times, events));
                (read_paced(gw.call("up", "x"), &behind_times, events), direct.join().unwrap())
            });
            let added = through.saturating_sub(direct);
            eprintln!(
                "{run:?}: {events} events: {through:?}, direct {direct:?}, added {added:?}, joined {joined}"
            );
            joined == 0 && added <= Duration::from_millis(5)
        };
        assert!((0..3).any(|_| round()), "{run:?}: late or joined in three rounds");
    });
}

/// A result of any size grows memory by at most 1 MiB.
#[test]
fn large_results_grow_no_memory() {
    let total = size(64 << 20, 1 << 30);
    everywhere(|run| {
        for chunked in [false, true] {
            let up = upstream()
                .on("warm", script::large(8 << 20, chunked))
                .on("x", script::large(total, chunked))
                .run();
            let gw = run.gateway().workers(1).to("up", &up).run();
            let read = |tool: &str| {
                let mut client = gw.call("up", tool).open();
                client.head().unwrap();
                client.count_rest().unwrap()
            };
            for _ in 0..3 {
                assert_eq!(read("warm"), 8 << 20);
            }
            let before = process::resident_kib(gw.pid());
            let most = std::thread::scope(|scope| {
                let reading = scope.spawn(|| read("x"));
                let mut most = 0;
                while !reading.is_finished() {
                    most = most.max(process::resident_kib(gw.pid()));
                    pace(Duration::from_millis(5));
                }
                assert_eq!(reading.join().unwrap(), total);
                most
            });
            let grown = most.saturating_sub(before);
            eprintln!("{run:?} chunked {chunked}: {total} bytes, grown by {grown} KiB");
            assert!(grown <= 1024, "{run:?}: grown by {grown} KiB");
        }
    });
}

/// Writes until the gateway takes no more for 300 ms; how much it took.
pub fn flood() -> (Script, mpsc::Receiver<usize>) {
    let (sender, taken) = mpsc::sync_channel(100);
    let script = script::script(move |connection, _| {
        connection.tcp.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        connection.send(script::STREAM);
        let block = chunk(&[b'd'; 64 * 1024]);
        let blocks = (0..4096).take_while(|_| connection.send(&block)).count();
        let _ = sender.send(blocks * 64 * 1024);
        connection.tcp.set_write_timeout(None).unwrap();
        connection.until_gone();
        Next::Close
    });
    (script, taken)
}

/// A client that does not read stops its upstream, costs 64 KiB of ours, and harms nobody else.
#[test]
fn a_slow_reader_holds_64_kib() {
    // Many enough that their buffers cannot hide in one huge page.
    let count: usize = size(20, 100);
    everywhere(|run| {
        let (script, taken) = flood();
        let up = upstream().on("x", script).tool("echo").run();
        // Each reader has a session of its own.
        let sessions = "name: handshakes, methods: [initialize], key: source, rate: 1k/s";
        let gw = run.gateway().workers(1).limit(sessions).to("up", &up).run();
        assert_eq!(gw.call("up", "echo").send().status, 200);
        let before = process::resident_kib(gw.pid());
        let mut readers: Vec<_> = (0..count).map(|_| gw.call("up", "x").open()).collect();
        for _ in 0..count {
            let taken = taken.recv_timeout(PATIENCE).unwrap();
            assert!(taken < 64 << 20, "{taken} bytes taken for a client that reads nothing");
        }
        let each = process::resident_kib(gw.pid()).saturating_sub(before) / count as u64;
        eprintln!("{run:?}: {each} KiB a slow reader");
        assert!(each <= 64 + 24, "{each} KiB each (64 of buffer, and a connection's own)");
        assert_eq!(gw.call("up", "echo").send().status, 200);
        assert_eq!(readers[0].head().unwrap().status(), 200);
    });
}

/// Feature, agentgateway #248: comments keep an idle stream open, and stand between events only.
#[test]
fn agentgateway_248_idle_stream_lives() {
    everywhere(|run| {
        let up = upstream().on("x", idle()).get(idle()).run();
        let gw = run.gateway().http("streamComment: 200ms").http("idleTimeout: 1s").to("up", &up).run();
        let call = gw.call("up", "x").in_session();
        let mut clients = vec![call.clone().open()];
        if run.era == Era::Legacy {
            let mut get = gw.client();
            get.send(&call.raw().line("GET /mcp/up HTTP/1.1").body("").without_length().bytes());
            clients.push(get);
        }
        clients.iter_mut().for_each(check_comments);
    });
}

/// The same where the upstream speaks TLS: a session is read with its buffer, and must not hold back the comments.
#[test]
fn agentgateway_248_idle_tls_stream_lives() {
    everywhere(|run| {
        let own = Authority::new();
        let up = upstream().on("x", idle()).tls(own.server("mcp.example")).run();
        let builder = run.gateway().http("streamComment: 200ms");
        let pem = builder.folder.file("own.pem", &own.pem());
        let trust = format!("tls: {{ca: \"{}\", serverName: mcp.example}}", pem.display());
        let gw = builder.with("up", &up, &[&trust]).run();
        check_comments(&mut gw.call("up", "x").in_session().open());
    });
}

/// Two events, each cut in two, with long silences within and between.
fn idle() -> Script {
    script::script(move |connection, _| {
        connection.send(script::STREAM);
        for _ in 0..2 {
            connection.send(&chunk(b"data: fir"));
            pace(Duration::from_millis(500));
            connection.send(&chunk(b"st\n\n"));
            pace(Duration::from_millis(1300));
        }
        script::send(connection, script::LAST_CHUNK)
    })
}

fn check_comments(client: &mut crate::support::client::Client) {
    assert_eq!(client.head().unwrap().status(), 200);
    let text = String::from_utf8(client.rest().unwrap()).unwrap();
    let (comments, events): (Vec<&str>, Vec<&str>) =
        text.split("\n\n").filter(|event| !event.is_empty()).partition(|event| event.starts_with(':'));
    assert_eq!(events, ["data: first"; 2], "{text:?}");
    // Two silences of 1.3 s hold six comments each, less what a busy machine delays.
    assert!(comments.len() >= 8 && comments.len() <= 14, "{} comments: {text:?}", comments.len());
}

/// Feature, agentgateway #1410: no silent cap, whatever the framing.
#[test]
fn agentgateway_1410_no_silent_cap() {
    everywhere(|run| {
        for chunked in [false, true] {
            let total = 100 << 20;
            let up = upstream().on("x", script::large(total, chunked)).run();
            let gw = run.gateway().to("up", &up).run();
            let mut client = gw.call("up", "x").open();
            assert_eq!(client.head().unwrap().status(), 200);
            assert_eq!(client.count_rest().unwrap(), total);
        }
    });
}

/// Answers of every small size and cut arrive byte for byte: no boundary of a buffer shows.
#[test]
fn no_cut_of_the_network_shows() {
    on_every_driver(|run: Run| {
        let sizes = [1, 2, 4095, 4096, 4097, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 200_000];
        let up = upstream().on("x", cut_at_will()).run();
        let gw = run.gateway().to("up", &up).run();
        for size in sizes {
            for step in [1000, 4096, 70_000] {
                let answer = gw.call("up", "x").argument(format!("[{size},{step}]")).send();
                assert_eq!(answer.body.len(), size, "in steps of {step}");
                let right = answer.body.iter().enumerate().all(|(at, byte)| *byte == filler(at));
                assert!(right, "{size} bytes in steps of {step}: other bytes");
            }
        }
    });
}

fn filler(at: usize) -> u8 {
    b"abcdefghijklmnopqrstuvwxyz0123456789 "[at % 37]
}

/// The argument `[size, step]` says how long the body is and in what pieces it leaves.
fn cut_at_will() -> Script {
    script::script(|connection, request| {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let list = text.split_once("\"x\":[").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
        let (size, step) = list.split_once(',').unwrap();
        let body: Vec<u8> = (0..size.parse().unwrap()).map(filler).collect();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n");
        connection.send(head.as_bytes());
        let sent = body.chunks(step.parse().unwrap()).all(|piece| connection.send(piece));
        if sent { Next::Keep } else { Next::Close }
    })
}
