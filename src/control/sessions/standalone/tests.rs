//! Sessions on a small server, and what it says in them.
//!
//! Not here: real clients (`tests/exchange/federation_said.rs`).

use super::*;
use crate::control::stub::Stub;
use crate::control::stub::json;
use crate::control::stub::state_of;
use crate::handoff::Letter;
use crate::handoff::Parcel;
use crate::mcp::crossing::Abilities;
use crate::mcp::sealed;
use crate::mcp::sealed::own::Member;
use std::time::Duration;

const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
const ONE: Session = [1; 8];

/// A server whose GET streams stay open.
async fn speaking() -> Stub {
    let stub =
        Stub::start(|request| if request.starts_with("GET") { STREAM.to_vec() } else { json(202, "") });
    let stub = stub.await;
    stub.keep_streams();
    stub
}

fn standalone(stub: &Stub) -> Standalone {
    Standalone::new(Arc::new(state_of(&[stub])))
}

/// One session of a server is listened to.
async fn listening() -> (Stub, Standalone) {
    let stub = speaking().await;
    let mut standalone = standalone(&stub);
    standalone.begin(ONE, 7);
    until(|| stub.streams() == 1).await;
    (stub, standalone)
}

impl Standalone {
    /// Session `s` of this number has one on the server sealed in it.
    fn begin(&mut self, session: Session, stream: u64) {
        let plan = self.state.plan();
        let label = &plan.servers[0].instances[0].label;
        let member = Member {
            server: sealed::name_of("up"),
            instance: sealed::instance_name(label),
            revision: "2025-11-25",
            name: format!("s{}", session[0]).into(),
        };
        let hearing = Hearing {
            servers: vec!["up".into()],
            members: vec![("up".into(), member)],
            abilities: Abilities::default(),
        };
        self.tell_on(session, Some((0, stream)));
        self.hear(session, Arc::new(hearing), Vec::new());
    }

    /// The next message, and the stream that it is for.
    async fn next(&self) -> (u64, Parcel) {
        match first(|| self.state.shared.posts[0].mailbox.take()).await {
            Letter::Message { stream, parcel } => (stream, parcel),
            other => panic!("{other:?}"),
        }
    }
}

/// The first of what there will be.
async fn first<T>(what: impl Fn() -> Option<T>) -> T {
    let looking = async {
        loop {
            match what() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), looking).await.expect("in time")
}

async fn until(what: impl Fn() -> bool) {
    first(|| what().then_some(())).await;
}

fn log(data: u32) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":{data}}}}}"#
    )
}

/// A stream that lets a message go has not had it, one that took it has: none is lost, and none comes twice.
#[tokio::test]
async fn what_one_stream_lets_go_another_gets() {
    let (stub, mut standalone) = listening().await;
    stub.push(&format!("data: {}\n\ndata: {}\n\n", log(1), log(2)));
    let (stream, full) = standalone.next().await;
    assert_eq!(stream, 7);
    drop(full);
    let (stream, again) = standalone.next().await;
    assert_eq!(stream, 7, "the only one");
    standalone.tell_on(ONE, Some((0, 8)));
    drop(again);
    let (stream, first) = standalone.next().await;
    assert_eq!((stream, first.take()), (8, log(1).as_bytes()));
    let mailbox = &standalone.state.shared.posts[0].mailbox;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(mailbox.take().is_none(), "the next before this one was taken");
    drop(first);
    let (_, second) = standalone.next().await;
    assert_eq!(second.take(), log(2).as_bytes());
}

#[tokio::test]
async fn a_stream_that_ends_goes_on_behind_its_last_event() {
    let (stub, standalone) = listening().await;
    stub.push(&format!("id: 5\ndata: {}\n\n", log(1)));
    standalone.next().await.1.take();
    stub.push("");
    until(|| stub.requests().iter().any(|request| request.contains("last-event-id: 5\r\n"))).await;
    assert!(stub.requests().iter().all(|request| request.contains("mcp-session-id: s1\r\n")));
}

/// Who has no stream is not heard, and a server that has none, or knows the session no more, is not asked again.
#[tokio::test]
async fn nothing_is_held_for_nothing() {
    let stub = speaking().await;
    let mut standalone = standalone(&stub);
    standalone.begin(ONE, 7);
    standalone.begin(ONE, 7);
    until(|| stub.streams() == 1).await;
    standalone.tell_on(ONE, None);
    until(|| stub.streams() == 0 && standalone.open() == 0).await;
    for status in [404, 405] {
        stub.turn(move |_| json(status, ""));
        let before = stub.requests().len();
        standalone.begin(ONE, 7);
        until(|| stub.requests().len() > before && standalone.open() == 0).await;
        standalone.tell_on(ONE, None);
    }
    assert_eq!(stub.requests().len(), 3);
    // That there is no stream is known of the server then, and asked again after a reload.
    standalone.begin(ONE, 7);
    until(|| standalone.open() == 0).await;
    assert_eq!(stub.requests().len(), 3);
    standalone.tell_on(ONE, None);
    standalone.state.deaf.forget();
    standalone.begin(ONE, 7);
    until(|| stub.requests().len() == 4).await;
}

#[tokio::test]
async fn sessions_that_are_listened_to_have_a_bound() {
    let stub = speaking().await;
    let mut standalone = standalone(&stub);
    standalone.room.forget_permits(limits::SESSION_STREAMS_MAX - 1);
    for session in 1..4 {
        standalone.begin([session; 8], 7);
    }
    let heard = |session: u8| standalone.sessions[&[session; 8]].listeners.len();
    assert_eq!([heard(1), heard(2), heard(3)], [1, 0, 0]);
    let table = standalone.state.families.table(Family::SessionMessages);
    let refused = table.sets().filter(|(labels, _)| *labels[1] == *"no_room").map(|(_, count)| count);
    assert_eq!(refused.sum::<u64>(), 2);
}
