//! What servers offer: listed where somebody needs to know it, at the start, now and then, and where a caller names
//! something that is not known.
//!
//! Not here: what is said to a server (`probe::dialogue`), and what a catalogue means. One that cannot be listed again
//! stays as it was.

#[cfg(test)]
mod tests;

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::EraChoice;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::control::credentials;
use crate::control::errand::Errand;
use crate::control::errand::Terms;
use crate::control::probe;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::link::Target;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::handoff::Catalogues;
use crate::handoff::Phase;
use crate::mcp::catalogue::Catalogue;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

static TERMS: Terms = Terms {
    asked_ms: limits::CATALOGUE_ASKED_MS,
    retry_ms: limits::CATALOGUE_RETRY_MS,
    retry_ms_max: limits::CATALOGUE_RETRY_MS_MAX,
};

/// Failures in a row that are told: names are resolved, and servers begin, a moment after the gateway does.
const TOLD_AT: u32 = 3;

/// Whether anybody needs to know what this server offers: access rules, which decide what is listed, and retries,
/// where the operator wrote them, for the tools that call themselves idempotent. A plain config causes no listing.
fn needs_catalogue(plan: &Plan, server: &Server) -> bool {
    !plan.access.rules.is_empty() || server.needs_hints()
}

/// A worker's question for what a server offers.
#[derive(Debug)]
pub(crate) struct CatalogueAsked {
    pub(crate) worker: usize,
    pub(crate) ticket: u64,
    pub(crate) server: Arc<str>,
}

/// A listing that is over.
struct Listing {
    server: Arc<str>,
    result: Result<(EraChoice, Catalogue), String>,
}

/// What a server is in this process, over plans.
struct Desk {
    /// Who waits: worker and ticket.
    errand: Errand<(usize, u64)>,
    /// The era that it has shown, until the next reload.
    era: EraChoice,
}

pub(crate) struct CatalogueKeeper {
    state: Arc<State>,
    desks: HashMap<Arc<str>, Desk>,
    listings: JoinSet<Listing>,
}

impl CatalogueKeeper {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state, desks: HashMap::new(), listings: JoinSet::new() }
    }

    pub(crate) async fn run(mut self, mut asked: mpsc::Receiver<CatalogueAsked>) {
        let mut changed = self.state.plan_changed.subscribe();
        self.follow_plan(clock::now());
        loop {
            self.turn(clock::now());
            let next = self.desks.values().map(|desk| desk.errand.next()).min().unwrap_or(Moment::NEVER);
            let pause = Duration::from_nanos(next.nanos_since(clock::now()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changed.changed() => self.follow_plan(clock::now()),
                Some(asked) = asked.recv() => self.ask(asked, clock::now()),
                Some(over) = self.listings.join_next() => match over {
                    Ok(listing) => self.settle(listing, clock::now()),
                    Err(error) => tracing::error!(%error, "a server is not listed any more; restart the gateway"),
                },
            }
        }
    }

    /// Lists every server of the plan that matters, and forgets the others.
    fn follow_plan(&mut self, now: Moment) {
        let plan = self.state.plan();
        let needed = |name: &str| server(&plan, name).is_some_and(|server| needs_catalogue(&plan, server));
        self.desks.retain(|name, _| needed(name));
        for server in plan.servers.iter().filter(|server| needed(&server.name)) {
            let fresh = || Desk { errand: Errand::new(&TERMS, now), era: server.era };
            let desk = self.desks.entry(Arc::clone(&server.name)).or_insert_with(fresh);
            desk.era = server.era;
            desk.errand.hurry(now);
        }
        let known = self.state.shared.catalogues.load_full();
        if known.by_server.keys().any(|name| !needed(name)) {
            self.publish(|by_server| by_server.retain(|name, _| needed(name)));
        }
    }

    /// Begins what is due.
    fn turn(&mut self, now: Moment) {
        if matches!(self.state.shared.phase(), Phase::Draining | Phase::Stopping) {
            // Nobody is left to need it.
            self.desks.clear();
        }
        for (name, desk) in &mut self.desks {
            if desk.errand.begins(now) {
                let (state, server, era) = (Arc::clone(&self.state), Arc::clone(name), desk.era);
                self.listings.spawn(async move {
                    let result = list(&state, &server, era).await;
                    Listing { server, result }
                });
            }
        }
    }

    fn ask(&mut self, asked: CatalogueAsked, now: Moment) {
        let CatalogueAsked { worker, ticket, server } = asked;
        let asker = (worker, ticket);
        let refused = match self.desks.get_mut(&server) {
            Some(desk) => desk.errand.ask(asker, now).err(),
            None => Some(asker),
        };
        if let Some((worker, ticket)) = refused {
            self.state.reply(worker, ticket, Answer::Known(false));
        }
    }

    fn settle(&mut self, Listing { server, result }: Listing, now: Moment) {
        // None: of a plan that is none any more.
        let Some(desk) = self.desks.get_mut(&server) else { return };
        let known = result.is_ok();
        let waiting = desk.errand.take_waiting();
        match result {
            Ok((era, catalogue)) => {
                desk.era = era;
                if desk.errand.succeeded(limits::CATALOGUE_INTERVAL_MS, now) >= TOLD_AT {
                    tracing::info!(server = &*server, "it can be listed again");
                }
                self.publish(|by_server| drop(by_server.insert(server, Arc::new(catalogue))));
            }
            Err(why) => {
                // What failed in a learned era is asked in both the next time.
                desk.era = self::server(&self.state.plan(), &server).map_or(desk.era, |server| server.era);
                if desk.errand.failed(now) == TOLD_AT {
                    tracing::warn!(server = &*server, why, "it cannot be listed; what was known of it stays");
                }
            }
        }
        for (worker, ticket) in waiting {
            self.state.reply(worker, ticket, Answer::Known(known));
        }
    }

    fn publish(&self, edit: impl FnOnce(&mut ahash::HashMap<Arc<str>, Arc<Catalogue>>)) {
        let mut by_server = self.state.shared.catalogues.load().by_server.clone();
        edit(&mut by_server);
        let old = self.state.shared.catalogues.swap(Arc::new(Catalogues { by_server }));
        self.state.bury(old);
        self.state.shared.announce();
    }
}

fn server<'p>(plan: &'p Plan, name: &str) -> Option<&'p Server> {
    plan.servers.get(usize::from(*plan.by_name.get(name)?))
}

/// Lists a server at the first of its instances that answers, those in rotation first.
async fn list(state: &State, name: &str, era: EraChoice) -> Result<(EraChoice, Catalogue), String> {
    let plan = state.plan();
    let server = server(&plan, name).ok_or("the plan has it no more")?;
    let cells = state.shared.cells.load_full();
    let is_up = |index: usize| {
        let cells = cells.by_server.get(name).and_then(|cells| cells.instances.get(index));
        cells.is_none_or(|cells| cells.health.is_up())
    };
    let mut order: Vec<usize> = (0..server.instances.len()).collect();
    order.sort_by_key(|index| !is_up(*index));
    let patience = Duration::from_millis(limits::CATALOGUE_MS);
    let credential = credentials::of_gateway(state, server).await;
    let shown = credential.as_ref().map_or(&[][..], |credential| &credential.fields);
    let mut trouble = String::from("it has no instance");
    for endpoint in
        order.into_iter().take(limits::CATALOGUE_INSTANCES_MAX).filter_map(|at| server.instances.get(at))
    {
        // With it a drain waits until the session is closed.
        let _permit = state.probes.acquire().await;
        if matches!(state.shared.phase(), Phase::Draining | Phase::Stopping) {
            return Err("the gateway ends".into());
        }
        let addresses = probe::addresses(state, endpoint);
        let mut dialogue = Dialogue::new(Target { server, endpoint, addresses: &addresses, shown });
        let listed = tokio::time::timeout(patience, dialogue.list(era)).await;
        dialogue.close(Duration::from_millis(limits::QUESTION_MS)).await;
        match listed {
            Ok(Ok(listed)) => return Ok(listed),
            Ok(Err(why)) => trouble = why,
            Err(_) => trouble = format!("no whole list within {} ms", limits::CATALOGUE_MS),
        }
    }
    Err(trouble)
}
