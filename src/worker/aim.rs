//! Which pool and which instance of its server a call is for, found out once, before it is carried.
//!
//! Not here: the rules (`policy::routing`), and choosing among the instances that can take it (`route`).

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::plan::Server;
use crate::mcp::envelope;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::target;
use crate::mcp::target::Targets;
use crate::policy::decide::Asked;
use crate::policy::routing;
use crate::policy::routing::Aim;
use crate::policy::routing::Hooks;
use crate::route::Wish;
use crate::route::affinity::Handle;
use crate::telemetry::family::Family;
use crate::worker::Worker;
use crate::worker::referral;
use crate::worker::referral::Referral;
use crate::worker::session;
use crate::worker::state::Exchange;

const APART: Fault = Fault::new(
    Kind::InvalidRequest,
    "The messages of this batch are for different instances. Send each in a body of its own.",
);

/// `asked` is about the call of the exchange, which is for `server`. A batch goes to one place, whole.
///
/// Where hooks are to be asked as well, they may name another pool.
///
/// # Errors
/// 400 where the messages of a batch are for different places.
pub fn of(
    worker: &Worker,
    server: Option<&Server>,
    exchange: &Exchange,
    asked: &Asked<'_>,
) -> Result<(Aim, Option<Box<Referral>>), Fault> {
    // A session stays on the instance that issued it.
    let routed = |server: &&Server| exchange.session.is_none() && !server.routing.is_plain();
    let Some(server) = server.filter(routed) else {
        return Ok((Aim::default(), None));
    };
    let random = worker.random();
    if exchange.batch.is_empty() {
        // A request without a message has no arguments, and that is no mistake of its own.
        let body = if asked.body.is_empty() { b"{}" } else { asked.body };
        let asked = Asked { body, ..*asked };
        let (aim, hooks) = one(worker, server, &asked, random);
        return Ok((aim, Referral::new(hooks, &asked, server)));
    }
    let mut known: Option<Aim> = None;
    for (called, body) in exchange.batch.iter().zip(envelope::elements(asked.body)) {
        let method = Method::from_text(called.method.as_str());
        let targets = target::read(method, &called.target, body).unwrap_or(Targets::None);
        let target = if let Targets::One(target) = &targets { &target.name } else { called.target.as_str() };
        let method_text = called.method.as_str();
        let asked = Asked { method, method_text, target, targets: targets.all(), body, ..*asked };
        let (next, hooks) = one(worker, server, &asked, random);
        referral::pass_over(worker, hooks, server);
        if known.is_some_and(|known| known != next) {
            return Err(APART);
        }
        known = Some(next);
    }
    Ok((known.unwrap_or_default(), None))
}

fn one(worker: &Worker, server: &Server, asked: &Asked<'_>, random: u64) -> (Aim, Hooks) {
    let failed = |rule: &str| worker.metrics().count(Family::CelErrors, &[rule], 1);
    routing::aim(&server.routing, asked, &mut worker.patterns.borrow_mut(), random, failed)
}

/// Whether the calls of a client's session may be for several instances: then the gateway holds the session itself, and
/// opens one for each pool.
pub fn spreads(server: &Server, era: Era, exchange: &Exchange) -> bool {
    let opens = || exchange.call.is_some_and(|call| call.method == Method::Initialize);
    let has_one = || exchange.fields.iter().any(session::is_named);
    era == Era::Legacy && server.routing.reads_calls() && (opens() || has_one())
}

/// The pool of a session for such calls, by name; None: the first.
pub fn pool(aim: Aim, server: &Server) -> Option<Box<str>> {
    let named = server.traffic.pools.get(aim.pool).filter(|_| aim.pool > 0);
    named.map(|pool| pool.name.clone())
}

/// Whether calls may go by a session that lives on this instance.
pub fn fits(aim: Aim, instance: usize, server: &Server) -> bool {
    let traffic = &server.traffic;
    let has = |pool: usize| traffic.pools.get(pool).is_some_and(|pool| pool.has(instance));
    server.routing.is_plain() || has(aim.pool) || traffic.failover.is_some_and(has)
}

/// The same in the words of `route`.
pub fn wish(aim: Aim, server: &Server) -> Wish<'_> {
    let seeds = server.routing.affinity.as_ref().map_or(&[][..], |affinity| &affinity.seeds);
    Wish { pool: aim.pool, handle: aim.handle.map(|hash| Handle { hash, seeds }) }
}
