//! The stream of one session on an older server, whose messages go on to the client that the session was opened for.
//!
//! Not here: whose sessions are listened to (`standalone`).
//!
//! A message is read when the one before it was taken, so that a client that takes its time holds up its own servers and
//! nobody else, and none is held for it.

use crate::base::clock;
use crate::config::limits;
use crate::control::listen::deaf::Place;
use crate::control::listen::deaf::Turn;
use crate::control::listen::pause::Pause;
use crate::control::probe::dialogue::Dead;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::dialogue::streams;
use crate::control::probe::dialogue::streams::Told;
use crate::control::sessions::open_session::OpenSession;
use crate::control::sessions::open_session::Way;
use crate::control::sessions::standalone::ClientStream;
use crate::control::state::State;
use crate::handoff::Letter;
use crate::handoff::Parcel;
use crate::handoff::Said;
use crate::mcp::crossing::Abilities;
use crate::mcp::crossing::answer::Lens;
use crate::mcp::crossing::answer::Seen;
use crate::mcp::crossing::request_ids;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::telemetry::family::Family;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;

/// Why there is no stream any more.
enum End {
    /// There will be none: asking again is of no use.
    Deaf,
    Lost(String),
}

pub(super) struct Listener {
    state: Arc<State>,
    session: OpenSession,
    /// How its messages are seen by the client.
    lens: Lens,
    teller: watch::Receiver<Option<ClientStream>>,
    /// The id of the event that came last; empty: none.
    last: Vec<u8>,
}

/// Asks for the stream of a session, behind an event if one has come.
async fn open(
    state: Arc<State>,
    session: OpenSession,
    last: Vec<u8>,
    (place, turn): (Place, Turn),
) -> Result<streams::Ear, Dead> {
    let Some(way) = Way::of(&state, &session).await else { return Ok(streams::Ear::Gone) };
    let Some(mut dialogue) = way.dialogue(&session) else { return Ok(streams::Ear::Gone) };
    let patience = Duration::from_millis(limits::LISTEN_OPEN_MS);
    let opened = tokio::time::timeout(patience, dialogue.hear(&last)).await;
    let opened = opened.unwrap_or_else(|_| Err("no stream in time".into()));
    turn.settle(&place, &opened).await;
    opened
}

impl Listener {
    pub(super) fn new(
        state: Arc<State>,
        session: OpenSession,
        able: Abilities,
        teller: watch::Receiver<Option<ClientStream>>,
    ) -> Self {
        let lens = Lens {
            client: Era::Legacy,
            server: Era::Legacy,
            method: Method::Other,
            id: None,
            progress: None,
            // Nothing that passes here names a resource.
            wraps: None,
            asker: Some(request_ids::asker(&session.server, &session.label)),
            logs: None,
            able,
        };
        Self { state, session, lens, teller, last: Vec::new() }
    }

    /// Until it is dropped, or the server turns out to say nothing.
    pub(super) async fn listen(mut self) {
        let (mut pause, spread) = (Pause::default(), RandomState::new());
        loop {
            let began = clock::now();
            match self.hear().await {
                End::Deaf => return,
                End::Lost(why) => {
                    tracing::debug!(server = &*self.session.server, why, "a session is not heard")
                }
            }
            let now = clock::now();
            let lasted_ms = now.nanos_since(began) / 1_000_000;
            let pause_ms = pause.after(lasted_ms, spread.hash_one(now.as_nanos()) % 1_000);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    /// One stream, as long as it lasts.
    async fn hear(&mut self) -> End {
        let Some(way) = Way::of(&self.state, &self.session).await else { return End::Deaf };
        let Some(mut dialogue) = way.dialogue(&self.session) else { return End::Deaf };
        let mut stream = match self.open().await {
            Ok(streams::Ear::Open(stream)) => stream,
            Ok(streams::Ear::Deaf | streams::Ear::Gone) => return End::Deaf,
            Err(why) => return End::Lost(why),
        };
        loop {
            let event = match stream.next().await {
                Ok(Some(event)) => event,
                Ok(None) => return End::Lost("it has ended".into()),
                Err(error) => return End::Lost(error.to_string()),
            };
            if self.is_killed() {
                return End::Lost("the server is killed".into());
            }
            if !event.id.is_empty() {
                self.last = event.id;
            }
            self.pass(&mut dialogue, &event.data).await;
        }
    }

    /// Asks for the stream, unless it is known that the server has none.
    async fn open(&self) -> Result<streams::Ear, Dead> {
        let place = (Arc::clone(&self.session.server), Arc::clone(&self.session.label), Era::Legacy);
        let Some(turn) = self.state.deaf.turn(&place).await else { return Ok(streams::Ear::Deaf) };
        let is_first = matches!(turn, Turn::First(_));
        let opening = open(Arc::clone(&self.state), self.session.clone(), self.last.clone(), (place, turn));
        if !is_first {
            return opening.await;
        }
        // What comes of it is known for all then, also where this client has left meanwhile.
        tokio::spawn(opening).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn is_killed(&self) -> bool {
        self.state.shared.kills.load().find("", "", &self.session.server, "").is_some()
    }

    /// Deals with one message.
    async fn pass(&mut self, dialogue: &mut Dialogue<'_>, data: &[u8]) {
        let patience = Duration::from_millis(limits::LISTEN_OPEN_MS);
        match Told::read(data) {
            // What changes is heard once for all clients.
            Told::ListChanged(_) | Told::Updated(_) | Told::Over => {}
            Told::Ping(id) => drop(tokio::time::timeout(patience, dialogue.pong(&id)).await),
            Told::Asked { id, method, params } => {
                let may_ask = self.lens.able.allow(Method::from_text(&method), params.as_deref());
                if may_ask && self.deliver(data).await {
                    return self.count("passed");
                }
                self.count("refused");
                drop(tokio::time::timeout(patience, dialogue.refuse(&id)).await);
            }
            Told::Nothing => {
                if self.deliver(data).await {
                    self.count("passed");
                }
            }
        }
    }

    fn count(&self, outcome: &str) {
        self.state.families.count(Family::SessionMessages, &[&self.session.server, outcome], 1);
    }

    /// Gives a message to the client, in its words; false where it is none that a client could be given.
    async fn deliver(&mut self, data: &[u8]) -> bool {
        let mut words = Vec::with_capacity(data.len() + 32);
        let message = match self.lens.look(data, &mut words) {
            Ok(Seen::On { changed: true, is_answer: false }) => words,
            Ok(Seen::On { changed: false, is_answer: false }) => data.to_vec(),
            Ok(_) | Err(_) => return false,
        };
        let said = Arc::new(Said::new(message));
        loop {
            let teller = *self.teller.borrow_and_update();
            if let Some((worker, stream)) = teller
                && self.send(worker, stream, &said).await
            {
                return true;
            }
            // That stream is full, or ends: its worker, or another stream of the session, takes it in a moment.
            let again = Duration::from_millis(limits::LISTEN_DEBOUNCE_MS);
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                _ = self.teller.changed() => {}
            }
        }
    }

    /// Puts a message to a stream, and waits until that has taken it, which is true, or has let it go.
    async fn send(&self, worker: usize, stream: u64, said: &Arc<Said>) -> bool {
        let Some(post) = self.state.shared.posts.get(worker) else { return false };
        let mut is_sent = false;
        std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut is_sent, true) {
                let parcel = Parcel::new(Arc::clone(said), cx.waker().clone());
                // A full box drops it, which wakes us.
                let _ = post.mailbox.post(Letter::Message { stream, parcel });
                return Poll::Pending;
            }
            if Arc::strong_count(said) > 1 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        said.is_taken()
    }
}
