//! Feature `timeouts`: each of the four on its own cause, at its time; tools with a time of their own; streams that
//! have none.
//!
//! Not here: a caller's own deadline (route_deadline).

use crate::support::Era;
use crate::support::Gate;
use crate::support::call::chunk;
use crate::support::client::Answer;
use crate::support::client::Broken;
use crate::support::client::Client;
use crate::support::conduct::Dial;
use crate::support::conduct::delayed;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::pace;
use crate::support::script;
use crate::support::script::Script;
use crate::support::upstream::Next;
use crate::support::upstream::upstream;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

const FIRED: Duration = Duration::from_millis(50);

/// A listener whose queue is full: connections to it are neither taken nor refused.
fn full_listener() -> (Socket, Vec<TcpStream>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let brief = Duration::from_millis(100);
    let taken = std::iter::from_fn(|| TcpStream::connect_timeout(&address, brief).ok()).take(64).collect();
    (socket, taken, address)
}

/// The quickest of five, within 50 ms of `value`; early by no more than a turn of the clock.
#[track_caller]
fn fires_at(what: &str, value: Duration, mut once: impl FnMut() -> Duration) {
    let took: Vec<Duration> = (0..5).map(|_| once()).collect();
    let quickest = *took.iter().min().unwrap();
    assert!(quickest + Duration::from_millis(5) >= value, "{what}: early: {took:?}");
    assert!(quickest <= value + FIRED, "{what}: late: {took:?}");
}

/// A refusal by time, before anything of an answer left.
#[track_caller]
fn timed_out(answer: &Answer) {
    answer.refused(504, "upstream_timeout");
    assert_eq!(answer.code(), -33504);
}

/// Ended by time after the head left: a cut, or an error that says so as the stream's last message.
#[track_caller]
fn cut_visibly(outcome: Result<Answer, Broken>) {
    match outcome {
        Ok(answer) => {
            let error = &answer.json()["error"];
            assert_eq!(
                (&error["data"]["reason"], &error["code"]),
                (&"upstream_timeout".into(), &(-33504).into())
            );
        }
        Err(broken) => assert!(matches!(broken, Broken::Cut { .. } | Broken::Reset(_)), "{broken:?}"),
    }
}

/// Sends `front`, then a comment every 20 ms for ever; tells when the gateway left.
fn chatter() -> (Script, mpsc::Receiver<Instant>) {
    let (sender, gone) = mpsc::sync_channel(100);
    let script = script::script(move |connection, _| {
        connection.send(script::STREAM);
        while connection.send(&chunk(b": still here\n\n")) {
            pace(Duration::from_millis(20));
        }
        let _ = sender.send(Instant::now());
        Next::Close
    });
    (script, gone)
}

/// Connect, first byte, idle, total: each with the others far away.
#[test]
fn timeouts() {
    const FRONT: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
    everywhere(|run| {
        let (_socket, _taken, full) = full_listener();
        let (mute, mute_gone) = script::watched(b"");
        let (idle, idle_gone) = script::watched(FRONT);
        let (endless, endless_gone) = chatter();
        let up = upstream().on("mute", mute).on("idle", idle).on("endless", endless).run();
        let full = format!("url: \"http://{full}/mcp\"");
        let off = "breaker: off";
        let retry = "retry: {max: 0}";
        let gw = run
            .gateway()
            .server("full", &[&full, "timeout: {connect: 300ms}", off, retry])
            .with("mute", &up, &["timeout: {connect: 5s, firstByte: 200ms}", off, retry])
            .with("idle", &up, &["timeout: {firstByte: 5s, idle: 250ms}", off, retry])
            .with("endless", &up, &["timeout: {firstByte: 5s, idle: 5s, total: 350ms}", off, retry])
            .run();
        let timed = |server: &str, check: &dyn Fn(Result<Answer, Broken>)| {
            let mut caller = gw.line(server, server);
            let call = caller.next();
            let start = Instant::now();
            let outcome = caller.make(&call);
            let took = start.elapsed();
            check(outcome);
            took
        };
        let whole = |outcome: Result<Answer, Broken>| timed_out(&outcome.unwrap());
        fires_at("connect", Duration::from_millis(300), || timed("full", &whole));
        fires_at("firstByte", Duration::from_millis(200), || timed("mute", &whole));
        fires_at("idle", Duration::from_millis(250), || timed("idle", &cut_visibly));
        fires_at("total", Duration::from_millis(350), || timed("endless", &cut_visibly));
        // The upstream is told: what it works for has nobody who waits.
        for (what, gone) in [("mute", mute_gone), ("idle", idle_gone), ("endless", endless_gone)] {
            for _ in 0..5 {
                gone.recv_timeout(Duration::from_secs(2)).unwrap_or_else(|_| panic!("{what}: not cancelled"));
            }
        }
    });
}

/// The upstream call ends when the time is up, not later.
#[test]
fn timeouts_cancel_the_upstream_call() {
    everywhere(|run| {
        let (mute, gone) = script::watched(b"");
        let up = upstream().on("x", mute).run();
        let gw = run.gateway().with("up", &up, &["timeout: {firstByte: 200ms}", "breaker: off"]).run();
        let mut caller = gw.line("up", "x");
        let late: Vec<Duration> = (0..5)
            .map(|_| {
                timed_out(&caller.call("1"));
                let told = Instant::now();
                gone.recv_timeout(Duration::from_secs(2))
                    .expect("not cancelled")
                    .saturating_duration_since(told)
            })
            .collect();
        assert!(late.iter().min().unwrap() <= &FIRED, "{late:?}");
    });
}

/// Events and comments reset `idle`; nothing resets `total`.
#[test]
fn timeouts_are_reset_by_progress() {
    everywhere(|run| {
        for comment in [true, false] {
            let talks = script::script(move |connection, request| {
                connection.send(script::STREAM);
                for step in 0..8 {
                    pace(Duration::from_millis(100));
                    let sign = if comment { chunk(b": working\n\n") } else { script::progress(step) };
                    connection.send(&sign);
                }
                script::send(connection, &script::last_event(request))
            });
            let up = upstream().on("x", talks).run();
            let gw = run.gateway().with("up", &up, &["timeout: {firstByte: 400ms, idle: 400ms}"]).run();
            let mut caller = gw.line("up", "x");
            let call = caller.next();
            let answer = caller.make(&call).unwrap();
            assert!(answer.text().contains(&call.token), "comments {comment}: {answer:?}");
        }
        let (endless, _gone) = chatter();
        let up = upstream().on("x", endless).run();
        let gw = run.gateway().with("up", &up, &["timeout: {idle: 400ms, total: 600ms}"]).run();
        let mut caller = gw.line("up", "x");
        let call = caller.next();
        let start = Instant::now();
        cut_visibly(caller.make(&call));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    });
}

/// Tools with a time of their own beside others, longer and shorter, by name and by pattern.
#[test]
fn timeouts_per_tool() {
    everywhere(|run| {
        let slow = delayed(&Dial::at(700));
        let build = || {
            let up = upstream().on("export_all", std::sync::Arc::clone(&slow));
            up.on("export_quick", std::sync::Arc::clone(&slow))
                .on("other", std::sync::Arc::clone(&slow))
                .run()
        };
        let (up, open) = (build(), build());
        let gw = run
            .gateway()
            .with("up", &up, &[
                "timeout: {firstByte: 200ms, total: 300ms, tools: {\"export_*\": 30m, export_quick: 400ms}}",
                "breaker: off",
            ])
            .with("open", &open, &["timeout: {tools: {other: 400ms}}", "breaker: off"])
            .run();
        let call = |server: &str, tool: &str| gw.line(server, tool).call("1");
        assert_eq!(call("up", "export_all").status, 200, "30 min for what needs 700 ms");
        timed_out(&call("up", "other"));
        fires_at("the longest literal part wins", Duration::from_millis(400), || {
            let start = Instant::now();
            timed_out(&call("up", "export_quick"));
            start.elapsed()
        });
        assert_eq!(call("open", "export_all").status, 200, "no other tool's time");
        timed_out(&call("open", "other"));
    });
}

/// A 2 s tool beside a 30 min tool, as the feature says it.
#[test]
fn timeouts_of_two_tools_on_one_server() {
    everywhere(|run| {
        let up =
            upstream().on("brief", delayed(&Dial::at(3_000))).on("export_all", delayed(&Dial::at(3_000)));
        let up = up.run();
        let line = "timeout: {total: 10m, tools: {\"export_*\": 30m, brief: 2s}}";
        let gw = run.gateway().with("up", &up, &[line]).run();
        let outcome = |tool: &str| {
            let start = Instant::now();
            let status = gw.line("up", tool).call("1").status;
            (status, start.elapsed())
        };
        let (export, brief) = std::thread::scope(|scope| {
            let brief = scope.spawn(|| outcome("brief"));
            (outcome("export_all"), brief.join().unwrap())
        });
        assert_eq!((brief.0, export.0), (504, 200));
        assert!(
            brief.1 >= Duration::from_millis(1_995) && brief.1 < Duration::from_millis(2_500),
            "{brief:?}"
        );
    });
}

/// A stream that is no answer is bound by neither `idle` nor `total`.
#[test]
fn timeouts_leave_open_streams_alone() {
    everywhere(|run| {
        let gate = Gate::default();
        let behind = gate.clone();
        let stream = script::script(move |connection, _| {
            connection.send(script::STREAM);
            behind.wait();
            let told = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
            script::send(connection, &[script::event(told), script::LAST_CHUNK.to_vec()].concat())
        });
        let up = upstream()
            .method("subscriptions/listen", std::sync::Arc::clone(&stream))
            .get(stream)
            .on("x", delayed(&Dial::at(10_000)))
            .run();
        let gw = run.gateway().with("up", &up, &["timeout: {idle: 150ms, total: 300ms}"]).run();
        let mut listener = listen(&gw, "up");
        assert_eq!(listener.head().unwrap().status(), 200);
        // Three calls that end by their time, one after the other: three times what the stream would have had.
        for _ in 0..3 {
            timed_out(&gw.line("up", "x").call("1"));
        }
        gate.open();
        let told = next_message(&mut listener);
        assert!(told.contains("list_changed"), "{told}");
    });
}

/// Opens a stream for what the server has to say.
pub fn listen(gw: &Gateway, server: &str) -> Client {
    let request = match gw.builder.era() {
        Era::Modern => {
            let all = gw.request(server, "subscriptions/listen");
            all.member("notifications", "{\"toolsListChanged\":true}").raw()
        }
        Era::Legacy => {
            let raw = gw.call(server, "x").raw().line(format!("GET /mcp/{server} HTTP/1.1")).body("");
            raw.without_length().without("content-type").without("accept").field("Accept: text/event-stream")
        }
    };
    let mut client = gw.client();
    client.send(&request.bytes());
    client
}

/// The next event that is no comment.
fn next_message(client: &mut Client) -> String {
    loop {
        let (_, event) = client.event().unwrap().expect("the stream ended");
        if !event.starts_with(':') {
            return event;
        }
    }
}

/// At `/mcp` and across the eras calls end by the same times, and tools have their own there too.
#[test]
fn timeouts_in_other_words() {
    everywhere(|run| {
        for place in run.places() {
            let slow = delayed(&Dial::at(700));
            let (stalls, gone) = script::watched(script::STREAM);
            let up = place.upstream().on("export_all", slow.clone()).on("export_quick", slow.clone());
            let up = up.on("other", slow).on("stalls", stalls).run();
            let gw = run.gateway().with("up", &up, &[
                "timeout: {firstByte: 200ms, total: 300ms, idle: 250ms, tools: {\"export_*\": 30m, export_quick: 400ms}}",
                "breaker: off",
                place.era(),
            ]);
            let gw = gw.run();
            assert_eq!(place.line(&gw, "export_all").call("1").status, 200, "{place:?}: 30 min for 700 ms");
            for (tool, most) in [("other", 300), ("export_quick", 400), ("stalls", 300)] {
                let mut caller = place.line(&gw, tool);
                let call = caller.next();
                fires_at_most(&format!("{place:?} {tool}"), Duration::from_millis(most), || {
                    match (tool, caller.make(&call)) {
                        ("stalls", outcome) => cut_visibly(outcome),
                        (_, outcome) => timed_out(&outcome.unwrap()),
                    }
                });
            }
            gone.recv_timeout(Duration::from_secs(2)).expect("not cancelled");
        }
    });
}

/// Ends by its time; how much later is asked where nothing else is.
#[track_caller]
fn fires_at_most(what: &str, value: Duration, once: impl FnOnce()) {
    let start = Instant::now();
    once();
    let took = start.elapsed();
    assert!(took < value + Duration::from_millis(300), "{what}: {took:?}");
}
