//! What older servers say by themselves in the sessions of clients at hubs: on the stream that a client opens with GET
//! (2025-11-25, Streamable HTTP, "Listening for Messages from the Server"). Each such session is listened to while its client
//! has a stream of its own, and every message goes on that one.
//!
//! Not here: what changes for all clients together, which is heard once (`listen`), one stream (`listener`), and the client's
//! answers to questions, which workers send (`worker::hub::session`).

#[cfg(test)]
mod tests;

use crate::config::limits;
use crate::config::plan::Plan;
use crate::control::sessions::listener::Listener;
use crate::control::sessions::open_session::OpenSession;
use crate::control::state::State;
use crate::handoff::Hearing;
use crate::handoff::SessionKey;
use crate::telemetry::family::Family;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A stream of a client: its worker and number.
pub(super) type ClientStream = (usize, u64);
/// A client's session.
type Session = [u8; 8];

pub(super) struct Standalone {
    state: Arc<State>,
    sessions: HashMap<Session, Heard>,
    /// One for each server's stream that may be open.
    room: Arc<Semaphore>,
}

/// A session whose client listens.
struct Heard {
    /// The stream that gets what is said.
    teller: watch::Sender<Option<ClientStream>>,
    /// None: nobody has said yet who may speak to it.
    hearing: Option<Arc<Hearing>>,
    /// Of one server there may be several, on instances of their own.
    listeners: HashMap<Place, Open>,
}

/// A session that is listened to, until this is dropped.
struct Open {
    at: OpenSession,
    _task: JoinSet<()>,
}

/// The server and the label of its instance.
type Place = (Arc<str>, Arc<str>);

impl Standalone {
    pub(super) fn new(state: Arc<State>) -> Self {
        let room = Arc::new(Semaphore::new(limits::SESSION_STREAMS_MAX));
        Self { state, sessions: HashMap::new(), room }
    }

    /// The stream of a session that tells from now on; None: it has none any more.
    pub(super) fn tell_on(&mut self, session: Session, teller: Option<ClientStream>) {
        let Some(teller) = teller else {
            self.sessions.remove(&session);
            return;
        };
        let heard = self.sessions.entry(session).or_insert_with(|| Heard {
            teller: watch::Sender::new(None),
            hearing: None,
            listeners: HashMap::new(),
        });
        heard.teller.send_replace(Some(teller));
    }

    /// Who may speak to a session from now on; `open` are the sessions that were opened for it, beside those that are sealed
    /// in it.
    pub(super) fn hear(&mut self, session: Session, hearing: Arc<Hearing>, open: Vec<OpenSession>) {
        let Some(heard) = self.sessions.get_mut(&session) else { return };
        heard.listeners.retain(|(server, _), _| hearing.servers.contains(server));
        let plan = self.state.plan();
        let sealed = hearing.members.iter().filter_map(|member| OpenSession::of_member(&plan, member));
        let all: Vec<OpenSession> = sealed.chain(open).collect();
        heard.hearing = Some(hearing);
        for one in all {
            self.listen(session, one);
        }
    }

    /// A session was opened on a server for that of a client.
    pub(super) fn opened(&mut self, key: &SessionKey, session: &OpenSession) {
        if self.sessions.contains_key(&key.client) {
            self.listen(key.client, session.clone());
        }
    }

    fn listen(&mut self, session: Session, at: OpenSession) {
        let Some(heard) = self.sessions.get_mut(&session) else { return };
        let Some(hearing) = heard.hearing.as_ref().filter(|hearing| hearing.servers.contains(&at.server))
        else {
            return;
        };
        let place = (Arc::clone(&at.server), Arc::clone(&at.label));
        let is_open = heard.listeners.get(&place).is_some_and(|open| open.at.name == at.name);
        // A server that keeps no sessions has nothing to say in one.
        if is_open || at.name.is_empty() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            self.state.families.count(Family::SessionMessages, &[&at.server, "no_room"], 1);
            return;
        };
        let (state, teller) = (Arc::clone(&self.state), heard.teller.subscribe());
        let listener = Listener::new(state, at.clone(), hearing.abilities, teller);
        let mut task = JoinSet::new();
        task.spawn(async move {
            listener.listen().await;
            drop(permit);
        });
        heard.listeners.insert(place, Open { at, _task: task });
    }

    /// There is a new plan: of instances that it has no more nothing is heard.
    pub(super) fn follow_plan(&mut self, plan: &Plan) {
        for heard in self.sessions.values_mut() {
            heard.listeners.retain(|_, open| open.at.home(plan).is_some());
        }
    }

    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        limits::SESSION_STREAMS_MAX - self.room.available_permits()
    }
}
