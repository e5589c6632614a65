//! Sessions on servers of the older revisions: opened when a worker asks, one for each purpose, closed when nobody uses
//! them any more. And what workers want to be remembered of clients' sessions.
//!
//! Not here: who waits and what has to go (`table`), the notes (`notes`), what is said to a server (`probe::dialogue`).

pub(crate) mod close;
mod listener;
mod notes;
mod standalone;
mod table;
#[cfg(test)]
mod tests;

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::Endpoint;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::config::traffic::Pool;
use crate::control::credentials;
use crate::control::probe;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::link::Target;
use crate::control::sessions::close::Closing;
use crate::control::sessions::notes::Notes;
use crate::control::sessions::standalone::Standalone;
use crate::control::sessions::table::Held;
use crate::control::sessions::table::Opened;
use crate::control::sessions::table::Step;
use crate::control::sessions::table::Table;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::handoff::Phase;
use crate::handoff::SessionKey;
use crate::handoff::SessionNote;
use crate::handoff::UpstreamSession;
use crate::mcp::crossing::Abilities;
use crate::mcp::sealed;
use crate::policy::credential::Credential;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What a worker wants.
#[derive(Debug)]
pub(crate) enum SessionAsked {
    Session {
        worker: usize,
        ticket: u64,
        key: SessionKey,
        /// The number of one that the server knows no more.
        not: Option<u64>,
        shown: Option<Arc<Credential>>,
        /// What the call knows of the server.
        plan: Arc<Plan>,
    },
    Note {
        worker: usize,
        ticket: u64,
        session: [u8; 8],
        note: SessionNote,
    },
}

/// An opening that is over.
struct Tried {
    key: SessionKey,
    result: Result<Held, String>,
    /// What was opened half.
    rest: Vec<Closing>,
}

/// What is to be opened.
struct Order {
    key: SessionKey,
    shown: Option<Arc<Credential>>,
    /// Tells it from all before it; which instance comes first follows from it.
    number: u64,
    plan: Arc<Plan>,
}

pub(crate) struct SessionKeeper {
    state: Arc<State>,
    table: Table,
    notes: Notes,
    standalone: Standalone,
    /// Who waits until they are published: worker and ticket.
    noted: Vec<(usize, u64)>,
    openings: JoinSet<Tried>,
    closings: JoinSet<()>,
    permits: Arc<Semaphore>,
    number: u64,
    look: Moment,
}

/// Waits until all sessions are closed; more than what is left of the process's time nobody waits.
pub(crate) async fn ended(state: &State) {
    state.sessions_end.send_replace(true);
    // Of this keeper and that of listeners. Never closed.
    let _ = state.sessions_ended.acquire_many(2).await;
}

impl SessionKeeper {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            standalone: Standalone::new(Arc::clone(&state)),
            state,
            table: Table::default(),
            notes: Notes::default(),
            noted: Vec::new(),
            openings: JoinSet::new(),
            closings: JoinSet::new(),
            permits: Arc::new(Semaphore::new(limits::SESSION_OPENINGS_MAX)),
            number: 0,
            look: clock::now(),
        }
    }

    pub(crate) async fn run(mut self, mut asked: mpsc::Receiver<SessionAsked>) {
        let state = Arc::clone(&self.state);
        let mut changed = state.plan_changed.subscribe();
        let mut ends = state.sessions_end.subscribe();
        if state.sessions_ends() {
            return self.end().await;
        }
        loop {
            self.turn(clock::now());
            let next = self.look.min(self.notes.next());
            let pause = Duration::from_nanos(next.nanos_since(clock::now()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changed.changed() => self.follow_plan(),
                Some(asked) = asked.recv() => self.hear(asked, clock::now()),
                Some(_) = self.closings.join_next() => {}
                Some(over) = self.openings.join_next() => match over {
                    Ok(tried) => self.settle(tried, clock::now()),
                    Err(error) => tracing::error!(%error, "a session is not opened; restart the gateway"),
                },
                _ = ends.changed() => return self.end().await,
            }
        }
    }

    /// The last of it: closes what nobody can come back to. Sessions that are sealed in those of clients, and those in which
    /// a question waits, go on at the next gateway with the key.
    async fn end(mut self) {
        let now = clock::now();
        let all = self.table.take(|key, held| key.client == [0; 8] && !held.is_kept(now));
        self.close(all);
        while let Some(tried) = self.openings.join_next().await {
            if let Ok(tried) = tried {
                let held = tried.result.ok().filter(|_| tried.key.client == [0; 8]);
                let closing = held.map(|held| held.closing);
                self.close(closing.into_iter().chain(tried.rest));
            }
        }
        while self.closings.join_next().await.is_some() {}
        self.state.sessions_ended.add_permits(1);
    }

    /// Forgets what can neither be used nor closed any more: its server, or its instance, has left the plan. The others serve
    /// the calls of the new one.
    fn follow_plan(&mut self) {
        let plan = self.state.plan();
        drop(self.table.take(|_, held| held.closing.home(&plan).is_none()));
        self.table.follow(|key| plan.server_of(&key.server).map(Server::place));
        self.standalone.follow_plan(&plan);
    }

    fn turn(&mut self, now: Moment) {
        if self.look <= now {
            self.look = now.plus_millis(limits::UPSTREAM_SESSIONS_LOOK_MS);
            let idle = self.table.look(now);
            self.close(idle);
        }
        if let Some(notes) = self.notes.take(now) {
            let old = self.state.shared.notes.swap(Arc::new(notes));
            self.state.bury(old);
            self.state.shared.announce();
            for (worker, ticket) in std::mem::take(&mut self.noted) {
                self.state.reply(worker, ticket, Answer::Known(true));
            }
        }
    }

    fn hear(&mut self, asked: SessionAsked, now: Moment) {
        match asked {
            SessionAsked::Session { worker, ticket, key, not, shown, plan } => {
                let ends = matches!(self.state.shared.phase(), Phase::Stopping);
                if ends || self.notes.is_ended(&key.client) {
                    return self.state.reply(worker, ticket, Answer::Session(None));
                }
                match self.table.ask(&key, not, (worker, ticket), now) {
                    Step::Answer(session) => self.state.reply(worker, ticket, Answer::Session(session)),
                    Step::Wait => {}
                    Step::Open => self.open(key, shown, plan),
                }
            }
            SessionAsked::Note { worker, ticket, session, note } => {
                // No client's session has this number.
                if session == [0; 8] {
                    return self.state.reply(worker, ticket, Answer::Known(false));
                }
                if let SessionNote::Hears(hearing) = note {
                    let open = self.table.of_client(session);
                    return self.standalone.hear(session, hearing, open);
                }
                self.noted.push((worker, ticket));
                let ends = note == SessionNote::Ended;
                self.notes.add(session, note, now);
                let teller = self.notes.teller(&session).filter(|_| !ends);
                self.standalone.tell_on(session, teller);
                if ends {
                    let ended = self.table.ended(session);
                    self.close(ended);
                }
            }
        }
    }

    fn open(&mut self, key: SessionKey, shown: Option<Arc<Credential>>, plan: Arc<Plan>) {
        self.number += 1;
        let order = Order { key, shown, number: self.number, plan };
        let (state, permits) = (Arc::clone(&self.state), Arc::clone(&self.permits));
        self.openings.spawn(open(state, permits, order));
    }

    fn settle(&mut self, Tried { key, result, rest }: Tried, now: Moment) {
        let opened = match result {
            Ok(held) => {
                self.standalone.opened(&key, &held.closing);
                self.table.opened(key, held)
            }
            Err(why) => {
                tracing::debug!(server = &*key.server, why, "no session can be opened");
                Opened { waiting: self.table.failed(key, now), ..Opened::default() }
            }
        };
        for (worker, ticket) in opened.waiting {
            self.state.reply(worker, ticket, Answer::Session(opened.answer.clone()));
        }
        self.close(opened.closing.into_iter().chain(rest));
    }

    fn close(&mut self, sessions: impl IntoIterator<Item = Closing>) {
        for session in sessions.into_iter().filter(|session| !session.name.is_empty()) {
            let (state, permits) = (Arc::clone(&self.state), Arc::clone(&self.permits));
            self.closings.spawn(close::close(state, permits, session));
        }
    }
}

/// Opens a session at an instance in rotation, the next one each time.
async fn open(state: Arc<State>, permits: Arc<Semaphore>, order: Order) -> Tried {
    let end = clock::now().plus_millis(limits::SESSION_OPEN_MS);
    // Never closed.
    let permit = tokio::time::timeout(left(end), permits.acquire_owned()).await;
    let mut rest = Vec::new();
    let result = match permit {
        Ok(_permit) => try_instances(&state, &order, end, &mut rest).await,
        Err(_) => Err("too many sessions are being opened".into()),
    };
    Tried { key: order.key, result, rest }
}

fn left(end: Moment) -> Duration {
    Duration::from_nanos(end.nanos_since(clock::now()))
}

async fn try_instances(
    state: &State,
    order: &Order,
    end: Moment,
    rest: &mut Vec<Closing>,
) -> Result<Held, String> {
    let Order { key, shown, number, plan } = order;
    let server = plan.server_of(&key.server).ok_or("the plan has it no more")?;
    let own = match shown {
        Some(_) => None,
        None => credentials::of_gateway(state, server).await,
    };
    let shown = shown.as_ref().or(own.as_ref());
    let mut trouble = String::from("it has no instance");
    for endpoint in turned(state, server, key.pool.as_deref(), *number) {
        let addresses = probe::addresses(state, endpoint);
        let fields = shown.map_or(&[][..], |credential| &credential.fields);
        let mut dialogue = Dialogue::new(Target { server, endpoint, addresses: &addresses, shown: fields });
        let opened = tokio::time::timeout(left(end), dialogue.open(Abilities(key.abilities))).await;
        let opened = opened.unwrap_or_else(|_| Err("it is too slow".into()));
        let closing = Closing {
            server: Arc::clone(&key.server),
            label: Arc::clone(&endpoint.label),
            name: dialogue.name().into(),
            revision: dialogue.revision().into(),
            shown: shown.cloned(),
        };
        match opened {
            Ok(_) if is_good_name(&closing.name) => {
                let session = UpstreamSession {
                    number: *number,
                    name: closing.name.clone(),
                    revision: closing.revision.clone(),
                    instance: sealed::instance_name(&endpoint.label),
                    used_ns: AtomicU64::new(clock::now().as_nanos()),
                    kept_until_ns: AtomicU64::new(0),
                };
                return Ok(Held { session: Arc::new(session), closing });
            }
            Ok(_) => trouble = "the name of its session is not what the specification says".into(),
            Err(why) => trouble = why,
        }
        rest.push(closing);
    }
    Err(trouble)
}

/// Visible ASCII (2025-11-25, session management), and no longer than what can be sealed.
fn is_good_name(name: &[u8]) -> bool {
    name.len() <= limits::SESSION_NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic)
}

/// Instances to try: round robin over those in rotation of the named pool, or the first; where none is, over those of the
/// failover; where none of these is either, over all of the pool.
fn turned<'p>(state: &State, server: &'p Server, pool: Option<&str>, number: u64) -> Vec<&'p Endpoint> {
    let cells = state.shared.cells.load();
    let cells = cells.by_server.get(&server.name);
    let is_up = |index: usize| {
        cells.and_then(|cells| cells.instances.get(index)).is_none_or(|cells| cells.health.is_up())
    };
    let traffic = &server.traffic;
    let named = pool.and_then(|name| traffic.pools.iter().find(|pool| *pool.name == *name));
    let chosen = named.or(traffic.pools.first());
    let of = |pool: Option<&Pool>, any: bool| -> Vec<&'p Endpoint> {
        let members = server.instances.iter().enumerate().filter(|(index, _)| any || is_up(*index));
        let members = members.filter(|(index, _)| pool.is_none_or(|pool| pool.has(*index)));
        members.map(|(_, endpoint)| endpoint).collect()
    };
    let mut up = of(chosen, false);
    if up.is_empty()
        && let Some(failover) = traffic.failover.and_then(|index| traffic.pools.get(index))
    {
        up = of(Some(failover), false);
    }
    if up.is_empty() {
        up = of(chosen, true);
    }
    let first = usize::try_from(number).unwrap_or_default().checked_rem(up.len()).unwrap_or_default();
    up.rotate_left(first);
    up.truncate(limits::CATALOGUE_INSTANCES_MAX);
    up
}
