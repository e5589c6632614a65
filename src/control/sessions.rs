//! Sessions on servers of the older revisions: opened when a worker asks, one for each purpose, closed when nobody uses
//! them any more. And what workers want to be remembered of clients' sessions.
//!
//! Not here: who waits and what has to go (`table`), the notes (`notes`), what is said to a server (`probe::dialogue`).

mod listener;
mod notes;
pub(crate) mod open_session;
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
use crate::control::sessions::notes::Notes;
use crate::control::sessions::open_session::OpenSession;
use crate::control::sessions::open_session::Word;
use crate::control::sessions::standalone::Standalone;
use crate::control::sessions::table::Held;
use crate::control::sessions::table::Opened;
use crate::control::sessions::table::Step;
use crate::control::sessions::table::Table;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::handoff::Phase;
use crate::handoff::SealedMember;
use crate::handoff::SessionKey;
use crate::handoff::SessionNote;
use crate::handoff::UpstreamSession;
use crate::mcp::crossing::Abilities;
use crate::mcp::sealed;
use crate::policy::credential::Credential;
use std::collections::HashMap;
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
    rest: Vec<OpenSession>,
}

/// What is to be opened.
struct Order {
    key: SessionKey,
    shown: Option<Arc<Credential>>,
    /// Tells it from all before it; which instance comes first follows from it.
    number: u64,
    /// The level from which on its client wants log messages, where it has said so.
    level: Option<u8>,
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
    errands: JoinSet<()>,
    permits: Arc<Semaphore>,
    /// The share of each server.
    shares: HashMap<Arc<str>, Arc<Semaphore>>,
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
            errands: JoinSet::new(),
            permits: Arc::new(Semaphore::new(limits::SESSION_OPENINGS_MAX)),
            shares: HashMap::new(),
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
                Some(_) = self.errands.join_next() => {}
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
        let all = self.table.take(|key, held| !key.is_of_client() && !held.is_kept(now));
        self.close(all);
        while let Some(tried) = self.openings.join_next().await {
            if let Ok(tried) = tried {
                let held = tried.result.ok().filter(|_| !tried.key.is_of_client());
                let closing = held.map(|held| held.closing);
                self.close(closing.into_iter().chain(tried.rest));
            }
        }
        while self.errands.join_next().await.is_some() {}
        self.state.sessions_ended.add_permits(1);
    }

    /// Forgets what can neither be used nor closed any more: its server, or its instance, has left the plan. The others serve
    /// the calls of the new one.
    fn follow_plan(&mut self) {
        let plan = self.state.plan();
        drop(self.table.take(|_, held| held.closing.home(&plan).is_none()));
        self.table.follow(|key| plan.server_of(&key.server).map(Server::place));
        self.standalone.follow_plan(&plan);
        self.shares.retain(|server, _| plan.server_of(server).is_some());
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
                if let SessionNote::RootsChanged(members) = note {
                    return self.pass_on(session, &members, Word::RootsChanged);
                }
                self.noted.push((worker, ticket));
                let ends = note == SessionNote::Ended;
                if let SessionNote::Level(level, members) = &note {
                    self.number += 1;
                    let word = Word::LogLevel { level: *level, number: self.number };
                    self.pass_on(session, members, word);
                }
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
        let level = self.notes.level(&key.client);
        let order = Order { key, shown, number: self.number, level, plan };
        let share = self.shares.entry(Arc::clone(&order.key.server));
        let share = share.or_insert_with(|| Arc::new(Semaphore::new(limits::SESSION_OPENINGS_SERVER_MAX)));
        let permits = [Arc::clone(share), Arc::clone(&self.permits)];
        self.openings.spawn(open(Arc::clone(&self.state), permits, order));
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

    fn close(&mut self, sessions: impl IntoIterator<Item = OpenSession>) {
        self.tell(sessions, Word::End);
    }

    fn tell(&mut self, sessions: impl IntoIterator<Item = OpenSession>, word: Word) {
        for session in sessions.into_iter().filter(|session| !session.name.is_empty()) {
            let (state, permits) = (Arc::clone(&self.state), Arc::clone(&self.permits));
            self.errands.spawn(open_session::tell(state, permits, session, word));
        }
    }

    /// What a client says to all its servers: in the sessions that are sealed in its own, and in those that calls have had
    /// opened.
    fn pass_on(&mut self, session: [u8; 8], members: &[SealedMember], word: Word) {
        let plan = self.state.plan();
        let mut all = self.table.of_client(session);
        for sealed in members.iter().filter_map(|member| OpenSession::of_member(&plan, member)) {
            if !all.iter().any(|known| known.is_same(&sealed)) {
                all.push(sealed);
            }
        }
        self.tell(all, word);
    }
}

/// Opens a session at an instance in rotation, the next one each time.
async fn open(state: Arc<State>, [share, all]: [Arc<Semaphore>; 2], order: Order) -> Tried {
    let end = clock::now().plus_millis(limits::SESSION_OPEN_MS);
    // Never closed.
    let permits = async { (share.acquire().await, all.acquire().await) };
    let permits = tokio::time::timeout(left(end), permits).await;
    let mut rest = Vec::new();
    let result = match permits {
        Ok(_permits) => try_instances(&state, &order, end, &mut rest).await,
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
    rest: &mut Vec<OpenSession>,
) -> Result<Held, String> {
    let Order { key, shown, number, level, plan } = order;
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
        let opened = tokio::time::timeout(left(end), begin(&mut dialogue, key, (*level, *number))).await;
        let opened = opened.unwrap_or_else(|_| Err("it is too slow".into()));
        let closing = OpenSession {
            server: Arc::clone(&key.server),
            label: Arc::clone(&endpoint.label),
            name: dialogue.name().into(),
            revision: dialogue.revision().into(),
            shown: shown.cloned(),
        };
        match opened {
            Ok(()) if is_good_name(&closing.name) => {
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
            Ok(()) => trouble = "the name of its session is not what the specification says".into(),
            Err(why) => trouble = why,
        }
        rest.push(closing);
    }
    Err(trouble)
}

/// Opens a session as its client would have it: with the level of log messages that it has set before.
async fn begin(
    dialogue: &mut Dialogue<'_>,
    key: &SessionKey,
    (level, number): (Option<u8>, u64),
) -> Result<(), String> {
    let about = dialogue.open(Abilities(key.abilities)).await?;
    let Some(level) = level.filter(|_| about.has.logging) else { return Ok(()) };
    // A server that does not take it is one that says too much.
    if let Err(why) = dialogue.set_log_level(level, number).await {
        tracing::debug!(server = &*key.server, why, "a log level was not taken");
    }
    Ok(())
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
