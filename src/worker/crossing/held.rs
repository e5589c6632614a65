//! The session on an older server that a call goes by: one that is sealed in the client's own, or one that control has
//! opened for its owner.
//!
//! Not here: opening and closing (control).

use crate::base::clock;
use crate::config::limits;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::SessionKey;
use crate::handoff::UpstreamSession;
use crate::mcp::crossing::Abilities;
use crate::mcp::sealed::own::Member;
use crate::mcp::sealed::own::OwnSession;
use crate::policy::routing::Aim;
use crate::route::NoRoute;
use crate::route::balance::Tried;
use crate::route::breaker::Outcome;
use crate::worker::Worker;
use crate::worker::adopted::ServerState;
use crate::worker::aim;
use crate::worker::outlook;
use crate::worker::passage::Passage;
use crate::worker::state::Exchange;
use ahash::HashMap;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A session on one instance of a server.
#[derive(Clone, Debug)]
pub struct Held {
    /// As the server calls it; empty: it keeps none.
    pub name: Vec<u8>,
    pub revision: Box<str>,
    /// Where it lives, of the server's instances.
    pub instance: usize,
    /// How control knows it; none: it is sealed in the client's own.
    pub opened: Option<(SessionKey, u64)>,
}

impl Held {
    /// Whether it is a client's own, in which something may be lost; the other kind is its principal's, for clients that have
    /// no sessions.
    pub fn is_of_client(&self) -> bool {
        self.opened.as_ref().is_none_or(|(key, _)| key.is_of_client())
    }
}

/// Why there is no session.
#[derive(Clone, Copy, Debug)]
pub enum Unheld {
    /// No instance may be called, so none is asked for one.
    NoRoute(NoRoute),
    /// None was opened in time.
    Unopened,
}

/// Sessions that control has opened, as one worker knows them.
#[derive(Default)]
pub struct HeldSessions(RefCell<HashMap<SessionKey, Arc<UpstreamSession>>>);

/// The session that a call of this exchange goes by.
///
/// # Errors
/// None can be had.
pub async fn find(
    worker: &Worker,
    slot: usize,
    exchange: &Exchange,
    server: &ServerState,
    abilities: Abilities,
) -> Result<Held, Unheld> {
    let fits = |held: &Held| aim::fits(exchange.aim, held.instance, server.config());
    if let Some(held) = sealed(exchange, server).filter(fits) {
        return Ok(held);
    }
    let client = exchange.own.as_ref().map_or([0; 8], |own| own.number);
    let pool = aim::pool(exchange.aim, server.config());
    let key = server.session_key(exchange.owner, client, abilities, pool);
    let known = worker.held.0.borrow().get(&key).map(Arc::clone);
    if let Some(session) = known
        && let Some(held) = of(server, &key, &session)
    {
        let now = worker.coarse_now();
        let (route, wish) = (server.way.route(), aim::wish(exchange.aim, server.config()));
        let moves = !held.is_of_client() && !route.takes(held.instance, now);
        if moves && route.offers(wish.pool, now) {
            return open(worker, slot, exchange, server, (key, Some(session.number))).await;
        }
        session.used_ns.store(now.as_nanos(), Ordering::Relaxed);
        return Ok(held);
    }
    open(worker, slot, exchange, server, (key, None)).await
}

/// Has a session kept for whoever comes back to a question in it.
pub fn keep(worker: &Worker, held: &Held) {
    let Some((key, _)) = &held.opened else { return };
    if let Some(session) = worker.held.0.borrow().get(key) {
        let until = worker.coarse_now().plus_millis(limits::QUESTION_SECONDS_MAX * 1_000);
        session.kept_until_ns.store(until.as_nanos(), Ordering::Relaxed);
    }
}

/// Another in place of one that the server knows no more.
pub async fn renew(
    worker: &Worker,
    slot: usize,
    exchange: &Exchange,
    server: &ServerState,
    gone: &Held,
) -> Option<Held> {
    let (key, number) = gone.opened.clone()?;
    open(worker, slot, exchange, server, (key, Some(number))).await.ok()
}

/// Has control open one, where an instance may be called. An opening that fails counts as a failed call: else a server that
/// hangs would hold up every call for as long as one is waited for, and no breaker would ever open.
async fn open(
    worker: &Worker,
    slot: usize,
    exchange: &Exchange,
    server: &ServerState,
    (key, not): (SessionKey, Option<u64>),
) -> Result<Held, Unheld> {
    let wish = aim::wish(exchange.aim, server.config());
    let (random, now) = (worker.random(), worker.coarse_now());
    let pick = server.way.route().choose_as(wish, &mut Tried::default(), random, now);
    // Control tries them all, each first in its turn: one that failed, all have.
    let passage = Passage::new(&server.way, pick.map_err(Unheld::NoRoute)?);
    let shown = exchange.shown.as_ref().map(|shown| Arc::clone(&shown.credential));
    let what = Asked::Session { key: key.clone(), not, shown, plan: server.plan() };
    let Some(Answer::Session(Some(session))) = worker.question(what, slot, limits::QUESTION_MS).await else {
        let left = worker.watch.cause(slot).is_some();
        passage.settle(if left { Outcome::Neutral } else { Outcome::Failure }, clock::now());
        // It may be one of the newer era by now.
        outlook::doubt(worker, exchange, &server.way);
        return Err(Unheld::Unopened);
    };
    passage.settle(Outcome::Neutral, clock::now());
    let held = of(server, &key, &session);
    let mut known = worker.held.0.borrow_mut();
    if known.len() >= limits::HELD_SESSIONS_MAX {
        known.clear();
    }
    known.insert(key, session);
    held.ok_or(Unheld::Unopened)
}

/// The session that was opened with the client's own.
fn sealed(exchange: &Exchange, server: &ServerState) -> Option<Held> {
    let own = exchange.own.as_ref()?;
    let member = own.members.iter().find(|member| member.server == server.sealed_name)?;
    of_member(server, member)
}

/// Whether a session was opened with the client's own, and its instance is gone: what the client did there is lost, and it
/// must know. A server that keeps no sessions has lost nothing: it is opened anew.
pub fn is_lost(exchange: &Exchange, server: &ServerState) -> bool {
    let Some(own) = &exchange.own else { return false };
    let member = own.members.iter().find(|member| member.server == server.sealed_name);
    member.is_some_and(|member| !member.name.is_empty() && of_member(server, member).is_none())
}

/// A session that was opened with the client's own. None: its instance is gone.
pub fn of_member(server: &ServerState, member: &Member) -> Option<Held> {
    let instance = place(server, member.instance)?;
    Some(Held { name: member.name.clone(), revision: member.revision.into(), instance, opened: None })
}

/// The session of an older client on this instance of a server. None: there is none.
///
/// Another worker may have had it opened, so control is asked where this one knows of none: the client's answer to a
/// question comes by whichever connection it likes.
pub async fn of_client(
    worker: &Worker,
    slot: usize,
    exchange: &Exchange,
    own: &OwnSession,
    (server, instance): (&ServerState, usize),
) -> Option<Held> {
    let sealed = own.members.iter().filter(|member| member.server == server.sealed_name);
    let mut sealed = sealed.filter_map(|member| of_member(server, member));
    if let Some(held) = sealed.find(|held| held.instance == instance) {
        return Some(held);
    }
    let config = server.config();
    let pools = (0..).zip(&config.traffic.pools).filter(|(_, pool)| pool.has(instance));
    let pools = pools.map(|(pool, _)| aim::pool(Aim { pool, handle: None }, config));
    // A server without pools, and a session of the first pool that failed over.
    for pool in pools.chain([None]) {
        let key = server.session_key(exchange.owner, own.number, own.abilities, pool);
        let known = worker.held.0.borrow().get(&key).map(Arc::clone);
        let held = match known {
            Some(session) => of(server, &key, &session),
            None => open(worker, slot, exchange, server, (key, None)).await.ok(),
        };
        if let Some(held) = held.filter(|held| held.instance == instance) {
            return Some(held);
        }
    }
    None
}

fn of(server: &ServerState, key: &SessionKey, session: &UpstreamSession) -> Option<Held> {
    let instance = place(server, session.instance)?;
    let opened = Some((key.clone(), session.number));
    Some(Held { name: session.name.to_vec(), revision: session.revision.clone(), instance, opened })
}

fn place(server: &ServerState, instance: u32) -> Option<usize> {
    server.instances.iter().position(|known| known.sealed_name == instance)
}
