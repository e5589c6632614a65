//! The era of a server that has shown none: asked for once for all who wait, and only where somebody does.
//!
//! Not here: what is said to the server (`probe::dialogue`). A listing shows the era as well (`catalogue`).

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::EraChoice;
use crate::config::plan::Server;
use crate::control::credentials;
use crate::control::probe;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::link::Target;
use crate::control::sessions::open_session;
use crate::control::sessions::open_session::OpenSession;
use crate::control::sessions::open_session::Word;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::handoff::Eras;
use crate::handoff::Phase;
use crate::mcp::envelope::Era;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A worker's question for the era of a server.
#[derive(Debug)]
pub(crate) struct EraAsked {
    pub(crate) worker: usize,
    pub(crate) ticket: u64,
    pub(crate) server: Arc<str>,
    /// Of the client.
    pub(crate) client: Era,
    /// A call has failed as one in the wrong era does: what is known may be so no more.
    pub(crate) doubted: bool,
}

/// A question that a server has answered, or not.
struct Found {
    server: Arc<str>,
    result: Result<Eras, String>,
    /// A session that was opened to find out.
    session: Option<OpenSession>,
}

#[derive(Default)]
struct Desk {
    is_asking: bool,
    waiting: Vec<(usize, u64)>,
    failed: Option<Moment>,
    /// When a verdict was doubted last: calls that are wrong themselves look the same, and must not become questions.
    doubted: Option<Moment>,
}

/// What a verdict is about: when it differs, the verdict is none any more.
#[derive(Clone, PartialEq, Eq)]
struct Subject {
    era: EraChoice,
    /// Labels and request targets.
    instances: Vec<(Arc<str>, Box<[u8]>)>,
}

impl Subject {
    fn of(server: &Server) -> Self {
        let instances = server.instances.iter();
        let instances = instances.map(|instance| (Arc::clone(&instance.label), instance.target.clone()));
        Self { era: server.era, instances: instances.collect() }
    }
}

pub(crate) struct EraKeeper {
    state: Arc<State>,
    desks: HashMap<Arc<str>, Desk>,
    subjects: HashMap<Arc<str>, Subject>,
    asking: JoinSet<Found>,
    closing: JoinSet<()>,
    permits: Arc<Semaphore>,
}

impl EraKeeper {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            state,
            desks: HashMap::new(),
            subjects: HashMap::new(),
            asking: JoinSet::new(),
            closing: JoinSet::new(),
            permits: Arc::new(Semaphore::new(limits::SESSION_OPENINGS_MAX)),
        }
    }

    pub(crate) async fn run(mut self, mut asked: mpsc::Receiver<EraAsked>) {
        let mut changed = self.state.plan_changed.subscribe();
        self.follow_plan();
        loop {
            tokio::select! {
                _ = changed.changed() => self.follow_plan(),
                Some(asked) = asked.recv() => self.ask(asked, clock::now()),
                Some(_) = self.closing.join_next() => {}
                Some(over) = self.asking.join_next() => match over {
                    Ok(found) => self.settle(found, clock::now()),
                    Err(error) => tracing::error!(%error, "an era is not asked for any more; restart the gateway"),
                },
            }
        }
    }

    /// Publishes what the operator says, and forgets what was learned of other instances, or under another word of his.
    fn follow_plan(&mut self) {
        let plan = self.state.plan();
        let subjects: HashMap<_, _> =
            plan.servers.iter().map(|server| (Arc::clone(&server.name), Subject::of(server))).collect();
        let before = std::mem::replace(&mut self.subjects, subjects);
        let subjects = &self.subjects;
        let same = |name: &Arc<str>| {
            subjects.get(name).is_some_and(|now| before.get(name).is_none_or(|before| before == now))
        };
        self.desks.retain(|name, desk| {
            if !same(name) {
                desk.failed = None;
            }
            subjects.contains_key(name) || desk.is_asking
        });
        let pinned = || plan.servers.iter().filter(|server| server.era != EraChoice::Auto);
        let known = self.state.shared.catalogues.load_full();
        let is_news = known.eras.keys().any(|name| !same(name))
            || pinned().any(|server| known.eras.get(&server.name) != Some(&Eras::pinned(server.era)));
        if is_news {
            self.state.edit_catalogues(|catalogues| {
                catalogues.eras.retain(|name, _| same(name));
                let pinned = pinned().map(|server| (Arc::clone(&server.name), Eras::pinned(server.era)));
                catalogues.eras.extend(pinned);
            });
        }
    }

    fn ask(&mut self, EraAsked { worker, ticket, server, client, doubted }: EraAsked, now: Moment) {
        let eras = self.state.shared.catalogues.load().eras.get(&server).copied().unwrap_or_default();
        let known = eras.way(client).is_some();
        let ends = matches!(self.state.shared.phase(), Phase::Draining | Phase::Stopping);
        let subject = self.subjects.get(&server);
        let pinned = subject.is_none_or(|subject| subject.era != EraChoice::Auto);
        if known && (!doubted || pinned) || ends || subject.is_none() {
            return self.state.reply(worker, ticket, Answer::Known(known));
        }
        let desk = self.desks.entry(Arc::clone(&server)).or_default();
        let last = if doubted { desk.doubted.max(desk.failed) } else { desk.failed };
        let again = last.map_or(Moment::ZERO, |last| last.plus_millis(limits::ERA_RETRY_MS));
        if doubted && now >= again {
            desk.doubted = Some(now);
        }
        let eras = if doubted { Eras::default() } else { eras };
        if !desk.is_asking && now < again || desk.waiting.len() >= limits::QUESTION_RING {
            return self.state.reply(worker, ticket, Answer::Known(false));
        }
        desk.waiting.push((worker, ticket));
        if !std::mem::replace(&mut desk.is_asking, true) {
            let (state, permits) = (Arc::clone(&self.state), Arc::clone(&self.permits));
            self.asking.spawn(async move {
                // Never closed.
                let _permit = permits.acquire_owned().await;
                find_out(&state, server, (eras, client)).await
            });
        }
    }

    fn settle(&mut self, Found { server, result, session }: Found, now: Moment) {
        if let Some(session) = session {
            let (state, permits) = (Arc::clone(&self.state), Arc::clone(&self.permits));
            self.closing.spawn(open_session::tell(state, permits, session, Word::End));
        }
        let Some(desk) = self.desks.get_mut(&server) else { return };
        desk.is_asking = false;
        let waiting = std::mem::take(&mut desk.waiting);
        let known = result.is_ok();
        match result {
            Ok(eras) => {
                desk.failed = None;
                tracing::debug!(server = &*server, ?eras, "a server has shown its eras");
                if self.state.shared.catalogues.load().eras.get(&server) != Some(&eras) {
                    self.state.edit_catalogues(|catalogues| {
                        catalogues.eras.insert(server, eras);
                    });
                }
            }
            Err(why) => {
                desk.failed = Some(now);
                tracing::debug!(server = &*server, why, "a server shows no era");
            }
        }
        for (worker, ticket) in waiting {
            self.state.reply(worker, ticket, Answer::Known(known));
        }
    }
}

/// Asks the first of its instances that answers.
async fn find_out(state: &State, server: Arc<str>, (known, client): (Eras, Era)) -> Found {
    let plan = state.plan();
    let Some(configured) = plan.server_of(&server) else {
        return Found { server, result: Err("the plan has it no more".into()), session: None };
    };
    let end = clock::now().plus_millis(limits::ERA_MS);
    let credential = credentials::of_gateway(state, configured).await;
    let shown = credential.as_ref().map_or(&[][..], |credential| &credential.fields);
    let (mut result, mut session) = (Err(String::from("it has no instance")), None);
    for endpoint in probe::in_order(state, configured).into_iter().take(limits::CATALOGUE_INSTANCES_MAX) {
        let addresses = probe::addresses(state, endpoint);
        let mut dialogue =
            Dialogue::new(Target { server: configured, endpoint, addresses: &addresses, shown });
        let left = Duration::from_nanos(end.nanos_since(clock::now()));
        let asked = tokio::time::timeout(left, dialogue.eras(known, client)).await;
        result = asked.unwrap_or_else(|_| Err(format!("no answer within {} ms", limits::ERA_MS)));
        session =
            session.or_else(|| OpenSession::of(&dialogue, &server, &endpoint.label, credential.clone()));
        if result.is_ok() {
            break;
        }
    }
    Found { server, result, session }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Plan;
    use crate::control::stub::Stub;
    use crate::control::stub::json;
    use crate::control::stub::serve_by;
    use crate::control::stub::state_of;
    use crate::control::stub::with_field;
    use crate::control::tests::state_with;
    use crate::handoff::Letter;

    /// What a server has shown that was asked for a client of its own era.
    const MODERN: Eras = Eras { modern: Some(true), legacy: None, is_sessionless: false };
    const EMPTY: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    const NO_METHOD: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;

    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    impl EraKeeper {
        fn of(stub: &Stub) -> Self {
            let mut keeper = Self::new(Arc::new(state_of(&[stub])));
            keeper.follow_plan();
            keeper
        }

        /// Asks, and lets it end.
        async fn find(&mut self, now: Moment) -> Vec<bool> {
            self.find_for(Era::Modern, now).await
        }

        async fn find_for(&mut self, client: Era, now: Moment) -> Vec<bool> {
            self.put(client, false, now).await
        }

        async fn doubt(&mut self, now: Moment) -> Vec<bool> {
            self.put(Era::Modern, true, now).await
        }

        async fn put(&mut self, client: Era, doubted: bool, now: Moment) -> Vec<bool> {
            self.ask(EraAsked { worker: 0, ticket: 0, server: "up".into(), client, doubted }, now);
            while let Some(found) = self.asking.join_next().await {
                self.settle(found.expect("no panic"), now);
            }
            while self.closing.join_next().await.is_some() {}
            self.answers()
        }

        fn answers(&self) -> Vec<bool> {
            let mailbox = &self.state.shared.posts[0].mailbox;
            let letters = std::iter::from_fn(|| mailbox.take());
            let answers = letters.map(|letter| match letter {
                Letter::Answered { answer: Answer::Known(known), .. } => known,
                other => panic!("{other:?}"),
            });
            answers.collect()
        }

        fn eras(&self) -> Option<Eras> {
            self.state.shared.catalogues.load().eras.get("up").copied()
        }
    }

    fn legacy(request: &str, refusal: (u16, &str)) -> Vec<u8> {
        if request.contains("\"initialize\"") {
            return with_field(200, "Content-Type: application/json\r\nMcp-Session-Id: s", EMPTY);
        }
        json(if request.starts_with("DELETE") { 200 } else { refusal.0 }, refusal.1)
    }

    #[tokio::test]
    async fn each_kind_of_server_shows_what_it_is() {
        let refuses = |status: u16, body: &'static str| move |_: &str| json(status, body);
        let modern = Stub::start(refuses(200, EMPTY)).await;
        let strict = Stub::start(|request| match request.contains("server/discover") {
            true => json(429, ""),
            false => json(400, &NO_METHOD.replace("-32601", "-32022")),
        })
        .await;
        let neither = Stub::start(refuses(200, NO_METHOD)).await;
        let closed = Stub::start(refuses(401, "")).await;
        let old = Stub::start(|request| legacy(request, (400, NO_METHOD))).await;
        let broken = Stub::start(|request| legacy(request, (500, "oh"))).await;
        for (stub, era, requests) in [
            (&modern, MODERN, 1),
            (&strict, Eras::pinned(EraChoice::Modern), 2),
            (&neither, Eras::NEITHER, 2),
            (&closed, Eras::NEITHER, 1),
            (&old, Eras::pinned(EraChoice::Legacy), 3),
            (&broken, Eras::pinned(EraChoice::Legacy), 3),
        ] {
            let mut keeper = EraKeeper::of(stub);
            assert_eq!((keeper.find(at(0)).await, keeper.eras()), (vec![true], Some(era)));
            assert_eq!(stub.requests().len(), requests, "a session is closed: {era:?}");
            assert_eq!(keeper.find(at(1)).await, [true]);
            assert_eq!(stub.requests().len(), requests, "asked once");
        }
    }

    /// An older client is served untouched where it can be: a server of both eras is asked for the older one as well.
    #[tokio::test]
    async fn for_an_older_client_a_server_is_asked_as_much_as_that_takes() {
        let old = Stub::start(|request| legacy(request, (400, NO_METHOD))).await;
        let both = Stub::start(|request| legacy(request, (200, EMPTY))).await;
        let modern = Stub::start(|request| {
            json(
                if request.contains("initialize") { 400 } else { 200 },
                if request.contains("initialize") { NO_METHOD } else { EMPTY },
            )
        })
        .await;
        let all = |modern, legacy| Eras { modern: Some(modern), legacy, is_sessionless: false };
        for (stub, eras, way, requests) in [
            (&old, all(false, None), Era::Legacy, 1),
            (&both, all(true, Some(true)), Era::Legacy, 3),
            (&modern, all(true, Some(false)), Era::Modern, 2),
        ] {
            let mut keeper = EraKeeper::of(stub);
            assert_eq!((keeper.find_for(Era::Legacy, at(0)).await, keeper.eras()), (vec![true], Some(eras)));
            assert_eq!((eras.way(Era::Legacy), stub.requests().len()), (Some(way), requests));
        }
    }

    #[tokio::test]
    async fn all_who_ask_share_one_question_and_a_failure_stands_for_a_second() {
        let stub = Stub::start(|_| Vec::new()).await;
        let mut keeper = EraKeeper::of(&stub);
        for ticket in 0..100 {
            let (server, client) = ("up".into(), Era::Modern);
            keeper.ask(EraAsked { worker: 0, ticket, server, client, doubted: false }, at(0));
        }
        assert_eq!(keeper.find(at(0)).await, vec![false; 101]);
        assert_eq!((stub.requests().len(), keeper.eras()), (1, None));
        assert_eq!(keeper.find(at(999)).await, [false]);
        assert_eq!(stub.requests().len(), 1);
        stub.turn(|_| json(503, ""));
        assert_eq!((keeper.find(at(1_000)).await, keeper.eras()), (vec![false], None));
        stub.turn(|_| json(429, ""));
        assert_eq!((keeper.find(at(2_000)).await, keeper.eras()), (vec![false], None));
        stub.turn(|_| json(200, EMPTY));
        assert_eq!((keeper.find(at(3_000)).await, keeper.eras()), (vec![true], Some(MODERN)));
    }

    /// A server that was replaced by one of another era is found out by the calls that fail, however many these are.
    #[tokio::test]
    async fn a_verdict_that_fails_is_asked_for_again_once_a_second() {
        let stub = Stub::start(|_| json(200, EMPTY)).await;
        let mut keeper = EraKeeper::of(&stub);
        assert_eq!((keeper.find(at(0)).await, keeper.eras()), (vec![true], Some(MODERN)));
        stub.turn(|request| legacy(request, (400, NO_METHOD)));
        assert_eq!(
            (keeper.doubt(at(1)).await, keeper.eras()),
            (vec![true], Some(Eras::pinned(EraChoice::Legacy)))
        );
        let asked = stub.requests().len();
        stub.turn(|_| json(200, EMPTY));
        assert_eq!(keeper.doubt(at(1_000)).await, [false]);
        assert_eq!(stub.requests().len(), asked, "asked again at once");
        assert_eq!((keeper.doubt(at(1_001)).await, keeper.eras()), (vec![true], Some(MODERN)));
        // One that does not answer is what it was.
        stub.turn(|_| json(503, ""));
        assert_eq!((keeper.doubt(at(3_000)).await, keeper.eras()), (vec![false], Some(MODERN)));
        keeper.state.shared.set_plan(
            state_with(1, |plan| {
                serve_by(plan, &[&stub]);
                plan.servers[0].era = EraChoice::Modern;
            })
            .plan(),
        );
        keeper.follow_plan();
        let asked = stub.requests().len();
        assert_eq!(keeper.doubt(at(9_000)).await, [true]);
        assert_eq!(stub.requests().len(), asked, "the operator's word is doubted");
    }

    #[tokio::test]
    async fn what_the_operator_says_is_known_at_once_and_a_verdict_ends_with_its_subject() {
        let (one, two) = (Stub::start(|_| json(200, EMPTY)).await, Stub::start(|_| Vec::new()).await);
        let mut keeper = EraKeeper::of(&one);
        keeper.find(at(0)).await;
        let mut follow = |edit: &dyn Fn(&mut Plan)| {
            keeper.state.shared.set_plan(state_with(1, edit).plan());
            keeper.follow_plan();
            keeper.eras()
        };
        assert_eq!(follow(&|plan| serve_by(plan, &[&one])), Some(MODERN), "nothing of it changed");
        assert_eq!(follow(&|plan| serve_by(plan, &[&two])), None);
        assert_eq!(
            follow(&|plan| plan.servers[0].era = EraChoice::Legacy),
            Some(Eras::pinned(EraChoice::Legacy))
        );
        assert_eq!(follow(&|_| {}), None);
        assert!(two.requests().is_empty());
    }
}
