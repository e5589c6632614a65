//! Instances of older servers that die, or open no sessions, behind a hub: calls go where they can go, and who cannot be
//! helped is told at once.
//!
//! Not here: sessions whose instance has left the file (federation_sessions), servers that are down whole
//! (federation_faults).

use crate::bridge::message;
use crate::route_health::EJECTS;
use crate::support::Era;
use crate::support::Run;
use crate::support::client::Answer;
use crate::support::drivers;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::Builder;
use crate::support::script;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;

const BREAKER: &str = "breaker: {window: 10, failureRatio: 0.5, minCalls: 2, open: 1m}";

fn eras(era: Era, test: impl Fn(Run)) {
    drivers().into_iter().for_each(|driver| test(Run { driver, era }));
}

fn instances() -> [Upstream; 2] {
    [(); 2].map(|()| upstream().only(Era::Legacy).tool("echo").run())
}

fn over(builder: Builder, ups: &[Upstream; 2], lines: &[&str]) -> Builder {
    builder.over("up", &[&ups[0], &ups[1]], lines)
}

/// Which of the two a call reached.
fn home(ups: &[Upstream; 2], token: &str) -> usize {
    let at = |up: &Upstream| up.mentions(token) > 0;
    match (at(&ups[0]), at(&ups[1])) {
        (true, false) => 0,
        (false, true) => 1,
        both => panic!("{both:?}"),
    }
}

/// Found in an audit: a client of 2026-07-28 has no session of its own, and the one that its calls share stayed on an
/// instance that was gone, though another served.
#[test]
fn regression_shared_sessions_leave_a_dead_instance() {
    eras(Era::Modern, |run| {
        for lines in [&[][..], &["breaker: off"], &[EJECTS], &[BREAKER]] {
            let ups = instances();
            let gw = over(run.gateway().workers(1), &ups, lines).run();
            let call = gw.call("", "up__echo");
            assert_eq!(call.clone().send().code(), 0);
            let dead = home(&ups, &call.token);
            ups[dead].stop();
            for _ in 0..5 {
                let call = call.again();
                let answer = call.clone().send();
                assert_eq!((answer.status, answer.code()), (200, 0), "{lines:?} {answer:?}");
                assert_eq!(home(&ups, &call.token), 1 - dead);
            }
        }
    });
}

/// Feature `balance_affinity`: an instance that is out of rotation while another is in is gone for the sessions on it:
/// 404, and the client begins anew on the other.
#[test]
fn balance_affinity_of_an_instance_that_is_down() {
    eras(Era::Legacy, |run| {
        for (endpoint, tool) in [("", "up__echo"), ("up", "echo")] {
            let ups = instances();
            let gw = over(run.gateway().workers(1), &ups, &[EJECTS]).run();
            let call = gw.call(endpoint, tool).in_session();
            assert_eq!(call.clone().send().code(), 0);
            let dead = home(&ups, &call.token);
            ups[dead].stop();
            // The connection that fails takes it out.
            assert_eq!(call.again().send().status, 503, "{endpoint}");
            call.again().send().refused(404, "session_not_found");
            let anew = gw.call(endpoint, tool);
            assert_eq!(anew.clone().send().code(), 0, "{endpoint}");
            assert_eq!(home(&ups, &anew.token), 1 - dead);
            // None is left: nothing would be better anywhere else.
            ups[1 - dead].stop();
            let anew = gw.call(endpoint, tool).try_send();
            assert!(anew.is_ok_and(|answer| answer.status == 503), "{endpoint}");
        }
    });
}

/// An older server that opens no sessions once it is sick.
fn sickly(sick: &Arc<AtomicBool>) -> Upstream {
    let watched = Arc::clone(sick);
    let begins = script::script(move |connection, request| {
        if watched.load(SeqCst) {
            return script::send(connection, &script::plain(500, "{}"));
        }
        script::initialize(connection, request, None, r#"{"tools":{}}"#)
    });
    upstream().only(Era::Legacy).without_sessions().method("initialize", begins).tool("echo").run()
}

/// Found in an audit: a server that opens no sessions was asked for one with every call, and no breaker ever opened.
#[test]
fn regression_no_session_is_asked_for_behind_an_open_breaker() {
    everywhere(|run| {
        let sick = Arc::new(AtomicBool::new(false));
        let (up, well) = (sickly(&sick), upstream().tool("echo").run());
        let lines = [BREAKER, "health: off"];
        let gw = run.gateway().workers(1).with("up", &up, &lines).to("well", &well).run();
        assert!(gw.request("", "tools/list").send().text().contains("up__echo"));
        sick.store(true, SeqCst);
        // It begins now: nothing is opened for it on that server.
        let call = gw.call("", "up__echo").in_session();
        let refused = || {
            let answer = call.again().send();
            answer.refused(503, "upstream_unavailable");
            answer
        };
        let is_for_long =
            |answer: &Answer| answer.head.field("retry-after").is_some_and(|wait| wait.len() > 1);
        eventually("the breaker is open", || is_for_long(&refused()));
        let before = up.count("initialize");
        let begun = Instant::now();
        // Longer than a failure is remembered.
        while begun.elapsed() < Duration::from_millis(600) {
            let answer = refused();
            assert!(is_for_long(&answer), "{answer:?}");
        }
        assert_eq!(up.count("initialize"), before);
        assert_eq!(gw.call("", "well__echo").send().code(), 0);
    });
}

/// Feature `timeouts`: the upstream call is cancelled when the time is up. An older server takes a connection that closes
/// for no cancellation (2025-11-25, transports): it is told.
#[test]
fn timeouts_tell_an_older_server() {
    everywhere(|run| {
        for limit in ["timeout: {total: 300ms}", "timeout: {firstByte: 300ms}"] {
            for (endpoint, tool) in [("", "up__x"), ("up", "x")] {
                let up = upstream().only(Era::Legacy).on("x", script::watched(b"").0).run();
                let gw = run.gateway().with("up", &up, &[limit]).run();
                gw.call(endpoint, tool).send().refused(504, "upstream_timeout");
                eventually("the server is told", || up.count("notifications/cancelled") == 1);
                let all = up.requests();
                let of =
                    |method: &str| message(all.iter().find(|one| one.envelope().method == method).unwrap());
                let (called, told) = (of("tools/call"), of("notifications/cancelled"));
                assert_eq!(told["params"]["requestId"], called["id"], "{limit}");
                let session = |method: &str| {
                    let request = all.iter().find(|one| one.envelope().method == method).unwrap();
                    request.head.field("mcp-session-id").unwrap().to_owned()
                };
                assert_eq!(session("notifications/cancelled"), session("tools/call"));
            }
        }
    });
}

/// The same in the midst of a stream, whose head has left long ago.
#[test]
fn timeouts_of_a_stream_tell_an_older_server() {
    everywhere(|run| {
        for (endpoint, tool) in [("", "up__x"), ("up", "x")] {
            let up = upstream().only(Era::Legacy).on("x", script::script(script::silent_stream)).run();
            let gw = run.gateway().with("up", &up, &["timeout: {total: 300ms}"]).run();
            // Whole or cut: that is another test's.
            let _ = gw.call(endpoint, tool).id("\"a b\"").try_send();
            eventually("the server is told", || up.count("notifications/cancelled") == 1);
            let all = up.requests();
            let of = |method: &str| message(all.iter().find(|one| one.envelope().method == method).unwrap());
            let (called, told) = (of("tools/call"), of("notifications/cancelled"));
            assert_eq!(told["params"]["requestId"], called["id"], "{endpoint}");
        }
    });
}
