//! Listening to small servers of both eras.
//!
//! Not here: what is wanted (`interests`), and the listing that follows a change (`catalogue`).

use super::*;
use crate::config::credentials::Auth;
use crate::config::credentials::Consent;
use crate::config::credentials::Method;
use crate::config::credentials::TokenService;
use crate::control::stub::Stub;
use crate::control::stub::json;
use crate::control::stub::state_of;
use crate::control::stub::with_field;
use crate::handoff::Letter;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::catalogue::about::About;
use crate::mcp::catalogue::about::Capabilities;
use crate::mcp::envelope::Era;

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n";
const UPDATED: &str =
    "data: {\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\"a:1\"}}\n\n";

/// A keeper beside a server that is known already, and where its wishes come.
fn keeper(stub: &Stub, era: Era) -> (ListenKeeper, mpsc::Receiver<Wish>) {
    stub.keep_streams();
    let state = state_of(&[stub]);
    let has = Capabilities {
        tools: true,
        tools_changed: true,
        resources: true,
        subscribe: true,
        ..Capabilities::default()
    };
    state.edit_catalogues(|catalogues| {
        let about = About { era, has, ..About::default() };
        let catalogue = Catalogue { about, ..Catalogue::default() };
        catalogues.by_server.insert("up".into(), Arc::new(catalogue));
    });
    let (wishes, wished) = mpsc::channel(64);
    (ListenKeeper::new(Arc::new(state), wishes), wished)
}

fn news(stream: u64, uris: &[&str]) -> News {
    let resources = uris.iter().map(|uri| (Arc::from("up"), Arc::from(*uri))).collect();
    News {
        worker: 0,
        ticket: u64::MAX,
        stream,
        what: Some(Interest { servers: vec!["up".into()], resources }),
    }
}

impl ListenKeeper {
    /// Waits, a few seconds at most.
    async fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let end = clock::now().plus_millis(10_000);
        while !done(self) {
            assert!(clock::now() < end, "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
            while let Some(over) = self.tasks.try_join_next() {
                self.settle(over.expect("no panic"));
            }
        }
    }

    fn updates(&self) -> usize {
        let mailbox = &self.state.shared.posts[0].mailbox;
        std::iter::from_fn(|| mailbox.take())
            .filter(|letter| matches!(letter, Letter::Updated { .. }))
            .count()
    }
}

fn changes(wished: &mut mpsc::Receiver<Wish>) -> usize {
    std::iter::from_fn(|| wished.try_recv().ok()).filter(|wish| matches!(wish, Wish::Changed { .. })).count()
}

fn count(stub: &Stub, what: &str) -> usize {
    stub.requests().iter().filter(|request| request.contains(what)).count()
}

#[tokio::test]
async fn many_who_listen_to_a_server_of_the_newer_era_cost_one_stream() {
    let stub = Stub::start(|_| STREAM.as_bytes().to_vec()).await;
    let (mut keeper, mut wished) = keeper(&stub, Era::Modern);
    (0..1_000).for_each(|stream| keeper.hear(news(stream, &[]), clock::now()));
    keeper.until("one stream", |_| stub.streams() == 1).await;
    assert_eq!(stub.requests().len(), 1);
    assert!(stub.requests()[0].contains(r#""notifications":{"toolsListChanged":true}"#));
    assert!(stub.requests()[0].contains("mcp-method: subscriptions/listen\r\n"));
    stub.push("data: {\"method\":\"notifications/tools/list_changed\"}\n\n");
    let mut told = 0;
    keeper
        .until("a change", |_| {
            told += changes(&mut wished);
            told == 1
        })
        .await;
    // Other resources: another stream, and then the first one goes.
    for uri in ["a:1", "a:2"] {
        keeper.hear(news(1, &["a:1", uri]), clock::now());
    }
    keeper.until("a second stream", |_| stub.requests().len() == 2).await;
    assert!(stub.requests()[1].contains(r#""resourceSubscriptions":["a:1","a:2"]"#));
    keeper.until("the first has gone", |_| stub.streams() == 1).await;
    stub.push(UPDATED);
    keeper.until("an update", |keeper| keeper.updates() == 1).await;
    // All leave, and somebody comes back in time.
    (0..1_000).for_each(|stream| {
        keeper.hear(News { worker: 0, ticket: u64::MAX, stream, what: None }, Moment::ZERO)
    });
    keeper.turn(Moment::ZERO.plus_millis(limits::LISTEN_LINGER_MS - 1));
    keeper.hear(news(5, &["a:1", "a:2"]), clock::now());
    keeper.turn(Moment::ZERO.plus_millis(2 * limits::LISTEN_LINGER_MS));
    assert_eq!((stub.streams(), stub.requests().len()), (1, 2));
    keeper.hear(News { worker: 0, ticket: u64::MAX, stream: 5, what: None }, Moment::ZERO);
    keeper.turn(Moment::ZERO.plus_millis(limits::LISTEN_LINGER_MS));
    keeper.until("nobody listens", |_| stub.streams() == 0).await;
}

fn legacy(request: &str, get: &str) -> Vec<u8> {
    if request.starts_with("GET") {
        return get.as_bytes().to_vec();
    }
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}"#;
    with_field(200, "Content-Type: application/json\r\nMcp-Session-Id: s", body)
}

#[tokio::test]
async fn a_server_of_the_older_era_is_heard_in_a_session_of_its_own() {
    let stub = Stub::start(|request| legacy(request, STREAM)).await;
    let (mut keeper, mut wished) = keeper(&stub, Era::Legacy);
    keeper.hear(news(1, &["a:1"]), clock::now());
    keeper.until("a subscription", |_| count(&stub, r#""resources/subscribe""#) == 1).await;
    assert_eq!((count(&stub, "\"initialize\""), stub.streams()), (1, 1));
    stub.push("id: 42\ndata: {\"method\":\"notifications/tools/list_changed\"}\n\n");
    stub.push(UPDATED);
    stub.push("data: {\"id\":\"p\",\"method\":\"ping\"}\n\n");
    keeper.until("a pong", |_| count(&stub, r#"{"id":"p","jsonrpc":"2.0","result":{}}"#) == 1).await;
    assert_eq!((keeper.updates(), changes(&mut wished)), (1, 1));
    keeper.hear(news(1, &["a:2"]), clock::now());
    keeper.until("another subscription", |_| count(&stub, r#""resources/unsubscribe""#) == 1).await;
    // The server ends the stream early: it goes on in the same session.
    stub.push("");
    keeper.until("the stream goes on", |_| count(&stub, "last-event-id: 42\r\n") == 1).await;
    keeper.until("what was missed is listed", |_| changes(&mut wished) == 1).await;
    assert_eq!(count(&stub, "\"initialize\""), 1);
    let state = Arc::clone(&keeper.state);
    state.sessions_end.send_replace(true);
    let (_told, news) = mpsc::channel(1);
    keeper.run(news).await;
    assert_eq!((count(&stub, "DELETE"), state.sessions_ended.available_permits()), (1, 1));
}

/// envoy #1924: a server that answers 405 made the lists of all clients flap.
#[tokio::test]
async fn a_server_without_a_stream_is_asked_once() {
    let stub = Stub::start(|request| legacy(request, &String::from_utf8_lossy(&json(405, "")))).await;
    let (mut keeper, mut wished) = keeper(&stub, Era::Legacy);
    keeper.hear(news(1, &[]), clock::now());
    keeper.until("it is deaf", |keeper| stream::is_deaf(&keeper.state, &"up".into())).await;
    keeper.until("nobody listens any more", |keeper| keeper.listeners.is_empty()).await;
    for stream in 0..100 {
        keeper.hear(news(stream, &["a:1"]), clock::now());
        tokio::task::yield_now().await;
    }
    assert_eq!((count(&stub, "GET"), count(&stub, "DELETE"), changes(&mut wished)), (1, 1, 0));
    assert!(keeper.listeners.is_empty());
    keeper.follow_plan();
    assert!(keeper.listeners.is_empty());
    keeper.state.deaf.forget();
    keeper.follow_plan();
    keeper.until("asked again after a reload", |_| count(&stub, "GET") == 2).await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_asked_ever_more_rarely() {
    let stub = Stub::start(|_| Vec::new()).await;
    let (mut keeper, _wished) = keeper(&stub, Era::Modern);
    keeper.hear(news(1, &[]), clock::now());
    let began = clock::now();
    keeper.until("three tries", |_| stub.requests().len() >= 3).await;
    let took_ms = clock::now().nanos_since(began) / 1_000_000;
    assert!(took_ms >= 187 + 375, "{took_ms}");
    stub.turn(|_| STREAM.as_bytes().to_vec());
    keeper.until("it is back", |_| stub.streams() == 1).await;
}

#[tokio::test]
async fn servers_that_see_every_caller_are_not_listened_to() {
    let service = || TokenService {
        endpoint: "https://idp.test/token".into(),
        client_id: Some("gateway".into()),
        secret: None,
        audience: None,
        resource: None,
        scopes: Vec::new(),
    };
    let consent = || Consent { service: service(), authorize: None, callback: "".into(), issuer: None };
    for (method, expected) in [
        (None, true),
        (Some(Method::ClientCredentials(service())), true),
        (Some(Method::TokenExchange(service())), false),
        (Some(Method::UserOauth(consent())), false),
    ] {
        let state = crate::control::tests::state_with(1, |plan| {
            plan.servers[0].auth = method.map(|method| Arc::new(Auth { method, fields: Vec::new() }));
        });
        assert_eq!(may_listen(&state.plan(), "up"), expected);
        assert!(!may_listen(&state.plan(), "another"));
    }
}

/// Who subscribes and who listens may be two: between them no stream is opened anew.
#[tokio::test]
async fn fewer_resources_are_told_after_a_while() {
    let stub = Stub::start(|_| STREAM.as_bytes().to_vec()).await;
    let (mut keeper, _wished) = keeper(&stub, Era::Modern);
    let now = clock::now();
    keeper.hear(news(1, &["a:1", "a:2"]), now);
    keeper.until("one stream", |_| stub.streams() == 1).await;
    let wanted = |keeper: &ListenKeeper| keeper.listeners["up"].wanted.borrow().len();
    for (stream, uris) in [(1, &["a:1"][..]), (2, &["a:2"]), (1, &[]), (1, &["a:1"])] {
        keeper.hear(news(stream, uris), now);
        assert_eq!(wanted(&keeper), 2);
    }
    keeper.hear(news(1, &[]), now);
    keeper.turn(now.plus_millis(limits::LISTEN_SHRINK_MS - 1));
    assert_eq!(wanted(&keeper), 2);
    keeper.turn(now.plus_millis(limits::LISTEN_SHRINK_MS));
    assert_eq!(wanted(&keeper), 1);
    keeper.until("a second stream", |_| stub.requests().len() == 2).await;
}
