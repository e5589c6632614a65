//! Calls whose pool a hook of `route` names: asks it, and takes the next that names one.
//!
//! Not here: which hooks those are (`policy::routing`), and how they are asked (control). What comes of it ends no call: a
//! hook that names no pool is counted, and the call goes where it would go without it.

use crate::base::clock;
use crate::base::fault::Fault;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::config::routing::Hook;
use crate::config::routing::Rule;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::handoff::Inquiry;
use crate::policy::decide;
use crate::policy::external;
use crate::policy::external::Silence;
use crate::policy::external::Unrouted;
use crate::policy::routing::Hooks;
use crate::telemetry::family::Family;
use crate::worker::Worker;
use crate::worker::dispatch;
use crate::worker::state::Exchange;

/// Hooks that are to be asked about a call before it goes anywhere.
pub struct Referral {
    hooks: Hooks,
    /// What they are told; None: they are told nothing of this call.
    input: Option<Box<str>>,
}

impl Referral {
    /// None: no hook has anything to say.
    pub fn new(hooks: Hooks, asked: &decide::Asked<'_>, server: &Server) -> Option<Box<Self>> {
        if hooks.is_empty() {
            return None;
        }
        let pools: Vec<&str> = server.traffic.pools.iter().map(|pool| &*pool.name).collect();
        Some(Box::new(Self { hooks, input: external::referral(asked, &pools) }))
    }

    /// Asks one hook after the other, until one names a pool for the call.
    ///
    /// # Errors
    /// The call has ended meanwhile.
    pub async fn settle(
        self,
        worker: &Worker,
        plan: &Plan,
        slot: usize,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        let Some(server) = plan.server_of(exchange.record.server.as_str()) else { return Ok(()) };
        for (rule, hook) in self.hooks.of(&server.routing) {
            let began = clock::now();
            let said = ask(worker, slot, (rule, hook), self.input.as_deref()).await;
            exchange.waited_ns += clock::now().nanos_since(began);
            if let Some(cause) = worker.watch.cause(slot) {
                return Err(dispatch::timeout(cause));
            }
            let named = said.and_then(|name| pool(server, &name).ok_or(Unrouted::UnknownPool));
            let outcome = named.map_or_else(Unrouted::as_str, |_| "routed");
            worker.metrics().count(Family::RouteHooks, &[&rule.name, outcome], 1);
            if let Ok(pool) = named {
                exchange.aim.pool = pool;
                break;
            }
        }
        Ok(())
    }
}

/// The messages of a batch are for one place, and no hook is told of it.
pub fn pass_over(worker: &Worker, hooks: Hooks, server: &Server) {
    for (rule, _) in hooks.of(&server.routing) {
        worker.metrics().count(Family::RouteHooks, &[&rule.name, Unrouted::Unasked.as_str()], 1);
    }
}

async fn ask(
    worker: &Worker,
    slot: usize,
    (rule, hook): (&Rule, &Hook),
    input: Option<&str>,
) -> Result<Box<str>, Unrouted> {
    let Hook { url, timeout_ms } = hook;
    let inquiry = Inquiry {
        rule: rule.name.clone(),
        url: url.clone(),
        timeout_ms: *timeout_ms,
        cache_ms: 0,
        input: input.ok_or(Unrouted::Unasked)?.into(),
    };
    match worker.question(Asked::Route(Box::new(inquiry)), slot, *timeout_ms).await {
        Some(Answer::Routed(said)) => said,
        _ => Err(Unrouted::Silent(Silence::Late)),
    }
}

fn pool(server: &Server, name: &str) -> Option<usize> {
    server.traffic.pools.iter().position(|pool| *pool.name == *name)
}
