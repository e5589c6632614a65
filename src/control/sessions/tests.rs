//! Sessions on small servers: opened once, closed in the end.
//!
//! Not here: the table, and notes; they have tests of their own.

use super::*;
use crate::config;
use crate::control::stub::Stub;
use crate::control::stub::json;
use crate::control::stub::serve_by;
use crate::control::stub::state_of;

use crate::control::stub::with_field;
use crate::control::tests::state_with;
use crate::handoff::Letter;
use crate::mcp::sealed::own::Member;
use std::path::Path;
use std::sync::atomic::Ordering;

fn at(millis: u64) -> Moment {
    Moment::ZERO.plus_millis(millis)
}

fn key(client: u8, abilities: u8) -> SessionKey {
    SessionKey { server: "up".into(), place: 0, owner: [1; 16], client: [client; 8], abilities, pool: None }
}

/// A server that numbers its sessions.
async fn numbering() -> Stub {
    let count = AtomicU64::new(0);
    Stub::start(move |request| {
        if request.starts_with("DELETE") {
            return json(200, "");
        }
        if !request.contains(r#""method":"initialize""#) {
            return json(202, "");
        }
        let number = count.fetch_add(1, Ordering::Relaxed);
        let body = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}"#;
        with_field(200, &format!("Content-Type: application/json\r\nMcp-Session-Id: s{number}"), body)
    })
    .await
}

fn keeper(stubs: &[&Stub]) -> SessionKeeper {
    SessionKeeper::new(Arc::new(state_of(stubs)))
}

impl SessionKeeper {
    fn ask(&mut self, ticket: u64, key: SessionKey, not: Option<u64>, now: Moment) {
        self.ask_by(&self.state.plan(), (ticket, not), key, now);
    }

    fn ask_by(&mut self, plan: &Arc<Plan>, (ticket, not): (u64, Option<u64>), key: SessionKey, now: Moment) {
        let key = SessionKey { place: plan.servers[0].place(), ..key };
        let plan = Arc::clone(plan);
        self.hear(SessionAsked::Session { worker: 0, ticket, key, not, shown: None, plan }, now);
    }

    /// Lets what is under way end.
    async fn work(&mut self, now: Moment) {
        while let Some(tried) = self.openings.join_next().await {
            self.settle(tried.expect("no panic"), now);
        }
        while self.errands.join_next().await.is_some() {}
    }

    fn answers(&self) -> Vec<(u64, Option<Arc<UpstreamSession>>)> {
        let mailbox = &self.state.shared.posts[0].mailbox;
        let letters = std::iter::from_fn(|| mailbox.take());
        let answers = letters.map(|letter| match letter {
            Letter::Answered { ticket, answer: Answer::Session(session) } => (ticket, session),
            other => panic!("{other:?}"),
        });
        answers.collect()
    }

    fn note(&mut self, ticket: u64, session: [u8; 8], note: SessionNote, now: Moment) {
        self.hear(SessionAsked::Note { worker: 0, ticket, session, note }, now);
    }

    /// Which notes were answered, and how.
    fn noted(&self) -> Vec<(u64, bool)> {
        let mailbox = &self.state.shared.posts[0].mailbox;
        let letters = std::iter::from_fn(|| mailbox.take());
        let answers = letters.map(|letter| match letter {
            Letter::Answered { ticket, answer: Answer::Known(known) } => (ticket, known),
            other => panic!("{other:?}"),
        });
        answers.collect()
    }
}

fn count(stub: &Stub, what: &str) -> usize {
    stub.requests().iter().filter(|request| request.contains(what)).count()
}

#[tokio::test]
async fn a_session_is_opened_once_as_its_client_is_and_closed_with_it() {
    let stub = numbering().await;
    let mut keeper = keeper(&[&stub]);
    (0..50).for_each(|ticket| keeper.ask(ticket, key(1, Abilities::FORM), None, at(0)));
    keeper.work(at(1)).await;
    let answers = keeper.answers();
    assert_eq!(answers.len(), 50);
    for (_, session) in &answers {
        let session = session.as_ref().expect("opened");
        assert_eq!((&*session.name, &*session.revision), (&b"s0"[..], "2025-06-18"));
    }
    assert_eq!((count(&stub, "\"initialize\""), count(&stub, "notifications/initialized")), (1, 1));
    assert_eq!(count(&stub, r#""capabilities":{"elicitation":{"form":{}}}"#), 1);
    keeper.note(9, [1; 8], SessionNote::Ended, at(2));
    keeper.turn(at(20));
    keeper.work(at(20)).await;
    assert_eq!(keeper.noted(), [(9, true)]);
    assert_eq!((count(&stub, "DELETE"), count(&stub, "mcp-session-id: s0\r\n")), (1, 2));
    assert!(keeper.state.shared.notes.load().ended.contains(&[1; 8]));
    keeper.ask(99, key(1, 0), None, at(30));
    assert!(matches!(&keeper.answers()[..], [(99, None)]), "of a client that has ended");
}

#[tokio::test]
async fn a_lost_session_is_opened_anew_and_idle_ones_are_closed() {
    let stub = numbering().await;
    let mut keeper = keeper(&[&stub]);
    keeper.ask(0, key(0, 0), None, at(0));
    keeper.work(at(0)).await;
    let first = keeper.answers().remove(0).1.expect("opened");
    keeper.ask(1, key(0, 0), Some(first.number), at(1));
    keeper.work(at(1)).await;
    let second = keeper.answers().remove(0).1.expect("opened");
    assert_eq!((&*second.name, count(&stub, "DELETE")), (&b"s1"[..], 0));
    second.used_ns.store(0, Ordering::Relaxed);
    keeper.turn(at(limits::UPSTREAM_SESSION_IDLE_MS).max(keeper.look));
    keeper.work(at(0)).await;
    assert_eq!(count(&stub, "DELETE"), 1);
    assert_eq!(keeper.table.open(), 0);
}

/// A server that hangs has a share of the openings, and no more: another opens its own meanwhile.
#[tokio::test]
async fn a_server_that_hangs_leaves_openings_to_others() {
    let (hangs, well) = (numbering().await, numbering().await);
    hangs.hold();
    let url = |stub: &Stub| format!("{{url: \"{}\"}}", stub.url("/mcp"));
    let config = format!("mcpServers: {{up: {}, well: {}}}", url(&hangs), url(&well));
    let loaded = config::load_text(&config, "test.yaml", Path::new("")).expect("a good config");
    let state = state_with(1, |plan| *plan = Plan { workers: 1, ..loaded.plan });
    let mut keeper = SessionKeeper::new(Arc::new(state));
    (0..100).for_each(|client| keeper.ask(u64::from(client), key(client + 1, 0), None, at(0)));
    let plan = keeper.state.plan();
    let other = SessionKey { server: "well".into(), place: plan.servers[1].place(), ..key(1, 0) };
    let asked = SessionAsked::Session { worker: 0, ticket: 100, key: other, not: None, shown: None, plan };
    keeper.hear(asked, at(0));
    let tried = keeper.openings.join_next().await.expect("one ends").expect("no panic");
    keeper.settle(tried, at(1));
    assert!(matches!(&keeper.answers()[..], [(100, Some(_))]));
    assert_eq!(count(&hangs, "\"initialize\""), limits::SESSION_OPENINGS_SERVER_MAX);
}

/// What a client has said to all its servers, the session begins with, where the server can make something of it.
#[tokio::test]
async fn a_session_begins_with_the_log_level_of_its_client() {
    for (able, told) in [(r#"{"logging":{}}"#, 1), ("{}", 0)] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"protocolVersion":"2025-06-18","capabilities":{able}}}}}"#
        );
        let stub = Stub::start(move |_| {
            with_field(200, "Content-Type: application/json\r\nMcp-Session-Id: s", &body)
        })
        .await;
        let mut keeper = keeper(&[&stub]);
        keeper.note(1, [1; 8], SessionNote::Level(4, Arc::default()), at(0));
        keeper.ask(2, key(1, 0), None, at(0));
        // Another client has said nothing.
        keeper.ask(3, key(2, 0), None, at(0));
        keeper.work(at(0)).await;
        assert_eq!((count(&stub, r#""level":"error""#), count(&stub, "\"initialize\"")), (told, 2), "{able}");
        // Said again it is heard there, and in sessions that are sealed in the client's as well, once in each.
        let plan = keeper.state.plan();
        let instance = sealed::instance_name(&plan.servers[0].instances[0].label);
        let member =
            |name: &[u8]| Member { server: 0, instance, revision: "2025-06-18", name: name.to_vec() };
        let members = [b"s".as_slice(), b"t"].map(|name| (Arc::from("up"), member(name)));
        keeper.note(4, [1; 8], SessionNote::Level(7, Arc::from(members.clone())), at(1));
        keeper.note(5, [1; 8], SessionNote::RootsChanged(Arc::from(members)), at(1));
        keeper.work(at(1)).await;
        assert_eq!(count(&stub, r#""level":"emergency""#), 2);
        assert_eq!(count(&stub, "notifications/roots/list_changed"), 2);
    }
}

#[tokio::test]
async fn a_server_that_opens_none_is_left_alone_for_a_moment() {
    let stub = Stub::start(|_| json(500, "")).await;
    let mut keeper = keeper(&[&stub]);
    keeper.ask(0, key(1, 0), None, at(0));
    keeper.work(at(0)).await;
    keeper.ask(1, key(1, 0), None, at(249));
    assert!(matches!(&keeper.answers()[..], [(0, None), (1, None)]));
    assert_eq!(stub.requests().len(), 1);
    keeper.ask(2, key(1, 0), None, at(250));
    keeper.work(at(250)).await;
    assert_eq!(stub.requests().len(), 2);
    // A session that is opened half is closed.
    stub.turn(|request| {
        let is_first = request.contains("\"initialize\"");
        let body = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}"#;
        if is_first {
            with_field(200, "Content-Type: application/json\r\nMcp-Session-Id: h", body)
        } else {
            json(500, "")
        }
    });
    keeper.ask(3, key(2, 0), None, at(1_000));
    keeper.work(at(1_000)).await;
    assert_eq!(count(&stub, "DELETE"), 1);
}

/// Runs a keeper to its end.
async fn to_the_end(keeper: SessionKeeper) {
    let state = Arc::clone(&keeper.state);
    let (_told, asked) = mpsc::channel(1);
    // In the place of listeners.
    state.sessions_ended.add_permits(1);
    tokio::join!(keeper.run(asked), ended(&state));
}

#[tokio::test]
async fn sessions_spread_over_instances_and_all_end_with_the_process() {
    let (one, two) = (numbering().await, numbering().await);
    let mut keeper = keeper(&[&one, &two]);
    for owner in 1..=10 {
        keeper.ask(u64::from(owner), SessionKey { owner: [owner; 16], ..key(0, 0) }, None, at(0));
    }
    keeper.work(at(0)).await;
    assert_eq!((count(&one, "\"initialize\""), count(&two, "\"initialize\"")), (5, 5));
    to_the_end(keeper).await;
    assert_eq!((count(&one, "DELETE"), count(&two, "DELETE")), (5, 5));
}

/// Feature `route`: a session is opened in the pool that its calls are for, and in no other but the failover.
#[tokio::test]
async fn sessions_are_opened_in_the_pool_that_they_are_for() {
    let stubs = [numbering().await, numbering().await, numbering().await];
    let state = state_with(1, |plan| {
        serve_by(plan, &stubs.each_ref());
        let pool = |(first, name): (usize, &str)| Pool { name: name.into(), first, count: 1 };
        let traffic = &mut plan.servers[0].traffic;
        traffic.pools = [(0, "us"), (1, "eu"), (2, "backup")].map(pool).into();
        traffic.failover = Some(2);
    });
    let mut keeper = SessionKeeper::new(Arc::new(state));
    for (client, pool, expected) in [
        (1, None, [1, 0, 0]),
        (2, Some("eu"), [1, 1, 0]),
        (3, Some("eu"), [1, 2, 0]),
        (4, Some("gone"), [2, 2, 0]),
        // The same client's session of another pool is another one.
        (2, None, [3, 2, 0]),
        (2, Some("eu"), [3, 2, 0]),
        (5, Some("backup"), [3, 2, 1]),
    ] {
        let key = SessionKey { pool: pool.map(Box::from), ..key(client, 0) };
        keeper.ask(0, key, None, at(0));
        keeper.work(at(0)).await;
        let opened = stubs.each_ref().map(|stub| count(stub, "\"initialize\""));
        assert_eq!(opened, expected, "{client} {pool:?}");
    }
}

#[tokio::test]
async fn what_somebody_may_come_back_to_outlives_the_process() {
    for (client, waits, closed, what) in [
        (0, None, 1, "a modern client's"),
        (0, Some(0), 1, "a question waited in it, and waits no more"),
        (0, Some(u64::MAX), 0, "a question waits in it"),
        (1, None, 0, "one that is sealed in a client's own"),
        (1, Some(u64::MAX), 0, "the same, in which a question waits"),
    ] {
        let stub = numbering().await;
        let mut keeper = keeper(&[&stub]);
        keeper.ask(0, key(client, 0), None, at(0));
        keeper.work(at(0)).await;
        let session = keeper.answers().remove(0).1.expect("opened");
        if let Some(until) = waits {
            session.kept_until_ns.store(until, Ordering::Relaxed);
        }
        // One that is still being opened is no other.
        keeper.ask(1, SessionKey { owner: [2; 16], ..key(client, 0) }, None, at(1));
        to_the_end(keeper).await;
        let late = usize::from(client == 0);
        assert_eq!((count(&stub, "\"initialize\""), count(&stub, "DELETE")), (2, closed + late), "{what}");
    }
}

#[tokio::test]
async fn a_note_is_answered_when_workers_can_see_it() {
    let stub = numbering().await;
    let mut keeper = keeper(&[&stub]);
    keeper.note(1, [1; 8], SessionNote::Level(3, Arc::default()), at(1_000));
    keeper.turn(at(1_000));
    assert_eq!(keeper.noted(), [(1, true)], "the first is published at once");
    let soon = limits::SESSION_NOTES_MS;
    keeper.note(2, [1; 8], SessionNote::Level(4, Arc::default()), at(1_001));
    keeper.note(3, [2; 8], SessionNote::Ended, at(1_002));
    keeper.turn(at(1_000 + soon - 1));
    assert_eq!(keeper.noted(), [], "nobody can see them yet");
    assert_eq!(keeper.state.shared.notes.load().levels.get(&[1; 8]), Some(&3));
    keeper.turn(at(1_000 + soon));
    assert_eq!(keeper.noted(), [(2, true), (3, true)]);
    let notes = keeper.state.shared.notes.load();
    assert_eq!((notes.levels.get(&[1; 8]), notes.ended.contains(&[2; 8])), (Some(&4), true));
    keeper.turn(at(2_000));
    assert_eq!(keeper.noted(), [], "each once");
}

#[tokio::test]
async fn a_server_without_sessions_has_one_without_a_name() {
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-03-26"}}"#;
    let stub = Stub::start(move |_| json(200, body)).await;
    let mut keeper = keeper(&[&stub]);
    keeper.ask(0, key(0, 0), None, at(0));
    keeper.work(at(0)).await;
    let session = keeper.answers().remove(0).1.expect("opened");
    assert_eq!((session.name.len(), &*session.revision), (0, "2025-03-26"));
    keeper.note(9, [0; 8], SessionNote::Ended, at(1));
    keeper.turn(at(100));
    keeper.work(at(100)).await;
    assert_eq!(keeper.noted(), [(9, false)], "no client's session has this number");
    assert_eq!((keeper.table.open(), count(&stub, "DELETE")), (1, 0));
}

/// What serves by a plan of its own, and how its instance is called in sessions.
fn plan_of(stub: &Stub) -> (Arc<Plan>, u32) {
    let plan = state_of(&[stub]).plan();
    let instance = sealed::instance_name(&plan.servers[0].instances[0].label);
    (plan, instance)
}

impl SessionKeeper {
    async fn instance_by(&mut self, plan: &Arc<Plan>, client: u8) -> Option<u32> {
        self.ask_by(plan, (0, None), key(client, 0), at(0));
        self.work(at(0)).await;
        self.answers().remove(0).1.map(|session| session.instance)
    }
}

/// A call goes on by the plan that it began with, and is told of no session that it could not use: while the plan changes,
/// calls of both ask.
#[tokio::test]
async fn regression_a_session_is_one_of_the_plan_of_who_asks() {
    let (left, came) = (numbering().await, numbering().await);
    let ((old, at_left), (new, at_came)) = (plan_of(&left), plan_of(&came));
    let mut keeper = SessionKeeper::new(Arc::new(state_of(&[&left])));
    assert_eq!(keeper.instance_by(&old, 0).await, Some(at_left));
    // A worker has the new plan, and word of it has not come here.
    assert_eq!(keeper.instance_by(&new, 0).await, Some(at_came));
    keeper.state.shared.set_plan(Arc::clone(&new));
    keeper.follow_plan();
    assert_eq!(keeper.table.open(), 1, "what has left is forgotten");
    // Calls of both wait at once for what is not open yet.
    keeper.ask_by(&old, (1, None), key(1, 0), at(0));
    keeper.ask_by(&new, (2, None), key(1, 0), at(0));
    keeper.ask_by(&old, (3, None), key(1, 0), at(0));
    keeper.work(at(0)).await;
    let mut answers = keeper.answers();
    answers.sort_by_key(|(ticket, _)| *ticket);
    let instances: Vec<_> =
        answers.into_iter().map(|(_, session)| session.expect("opened").instance).collect();
    assert_eq!(instances, [at_left, at_came, at_left]);
    assert_eq!((count(&left, "\"initialize\""), count(&came, "\"initialize\"")), (2, 2));
}

/// Another instance beside it, and the session goes on; what failed at the old place says nothing of the new one.
#[tokio::test]
async fn sessions_outlive_a_plan_that_keeps_their_instance() {
    let (one, two) = (numbering().await, numbering().await);
    let mut keeper = keeper(&[&one]);
    keeper.ask(0, key(1, 0), None, at(0));
    keeper.work(at(0)).await;
    keeper.state.shared.set_plan(state_of(&[&one, &two]).plan());
    keeper.follow_plan();
    keeper.ask(1, key(1, 0), None, at(1));
    let names: Vec<_> =
        keeper.answers().into_iter().map(|(_, session)| session.expect("open").name.clone()).collect();
    assert_eq!((names[0] == names[1], keeper.table.open()), (true, 1));
    let dead = Stub::start(|_| json(500, "")).await;
    keeper.state.shared.set_plan(state_of(&[&dead]).plan());
    keeper.follow_plan();
    let plan = keeper.state.plan();
    assert_eq!(keeper.instance_by(&plan, 1).await, None);
    let (plan, instance) = plan_of(&two);
    assert_eq!(keeper.instance_by(&plan, 1).await, Some(instance));
}
