//! What servers offer: listed where somebody needs to know it, at the start, now and then, and where a caller asks.
//!
//! Not here: what is said to a server (`probe::dialogue`), when it is due (`desk`), and what a catalogue means. One that
//! cannot be listed again stays as it was, for its time.

mod attention;
mod desk;
mod list;
pub(crate) mod own;
pub(crate) mod stored;
#[cfg(test)]
mod tests;

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::pattern::Named;
use crate::config::plan::EraChoice;
use crate::config::plan::Plan;
use crate::config::plan::Server;
use crate::control::catalogue::attention::Attention;
use crate::control::catalogue::desk::Desk;
use crate::control::catalogue::list::Failure;
use crate::control::listen::News;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::handoff::Phase;
use crate::mcp::catalogue::Catalogue;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Failures in a row that are told: names are resolved, and servers begin, a moment after the gateway does.
const TOLD_AT: u32 = 3;

/// Whether anybody needs to know what this server offers: access rules, which decide what is listed, and retries,
/// where the operator wrote them, for the tools that call themselves idempotent. A plain config causes no listing.
fn needs_catalogue(plan: &Plan, server: &Server) -> bool {
    !plan.access.rules.is_empty() || server.needs_hints()
}

/// What somebody wants of the keeper.
#[derive(Debug)]
pub(crate) enum Wish {
    /// A worker's question for what a server offers, because a caller names something that is not known.
    Named { worker: usize, ticket: u64, server: Arc<str> },
    /// A worker's question for what each of these offers.
    All { worker: usize, ticket: u64, servers: Box<[Arc<str>]> },
    /// Somebody wants to hear of its changes.
    Interest { server: Arc<str> },
    /// It says that its lists have changed.
    Changed { server: Arc<str>, what: Option<Named> },
}

/// A listing that is over.
struct Listing {
    server: Arc<str>,
    result: Result<(EraChoice, Catalogue), Failure>,
}

/// A worker that waits for the first listing of several servers.
struct Group {
    worker: usize,
    ticket: u64,
    left: Vec<Arc<str>>,
    until: Moment,
}

pub(crate) struct CatalogueKeeper {
    state: Arc<State>,
    desks: HashMap<Arc<str>, Desk>,
    listings: JoinSet<Listing>,
    groups: Vec<Group>,
    spread: RandomState,
    attention: Attention,
    /// When to look again who is to be listened to.
    look: Moment,
}

impl CatalogueKeeper {
    pub(crate) fn new(state: Arc<State>, interests: mpsc::Sender<News>) -> Self {
        let (desks, listings, spread) = (HashMap::new(), JoinSet::new(), RandomState::new());
        let (attention, look) = (Attention::new(interests), Moment::NEVER);
        Self { state, desks, listings, groups: Vec::new(), spread, attention, look }
    }

    pub(crate) async fn run(mut self, mut wishes: mpsc::Receiver<Wish>) {
        let mut changed = self.state.plan_changed.subscribe();
        self.take_up(clock::now());
        self.follow_plan(clock::now());
        loop {
            self.turn(clock::now());
            self.attend(clock::now());
            let pause = Duration::from_nanos(self.next().nanos_since(clock::now()));
            tokio::select! {
                // The next list is due.
                () = tokio::time::sleep(pause) => {}
                _ = changed.changed() => self.follow_plan(clock::now()),
                Some(wish) = wishes.recv() => self.hear(wish, clock::now()),
                Some(over) = self.listings.join_next() => match over {
                    Ok(listing) => self.settle(listing, clock::now()),
                    Err(error) => tracing::error!(%error, "a server is not listed any more; restart the gateway"),
                },
            }
        }
    }

    fn next(&self) -> Moment {
        let groups = self.groups.iter().map(|group| group.until);
        self.desks.values().map(Desk::next).chain(groups).fold(self.look, Moment::min)
    }

    /// Has those listened to whose lists are fresh for long.
    fn attend(&mut self, now: Moment) {
        let known = self.state.shared.catalogues.load();
        let tells = |name: &Arc<str>| {
            let has = known.by_server.get(name).map(|known| known.about.has);
            has.is_some_and(|has| has.tools_changed || has.prompts_changed || has.resources_changed)
        };
        let attended = self.desks.iter().filter(|(name, _)| tells(name));
        let attended: Vec<(&Arc<str>, Moment)> =
            attended.filter_map(|(name, desk)| Some((name, desk.attends_until(now)?))).collect();
        self.look = attended.iter().map(|(_, until)| *until).min().unwrap_or(Moment::NEVER);
        if !self.attention.follow(attended.into_iter().map(|(name, _)| Arc::clone(name)).collect()) {
            self.look = now.plus_millis(limits::LISTEN_REFRESH_MS);
        }
    }

    /// Goes on with what the process before this one knew: all of it is listed again.
    fn take_up(&mut self, now: Moment) {
        let (plan, now_unix_ms) = (self.state.plan(), clock::unix_millis());
        for (name, known) in &self.state.shared.catalogues.load().by_server {
            let Some(server) = plan.server_of(name) else { continue };
            let left_ms = stored::shown_until_unix_ms(server, known).saturating_sub(now_unix_ms);
            let desk = Desk::restored(server.era, now.plus_millis(left_ms), now);
            self.desks.insert(Arc::clone(name), desk);
        }
    }

    /// Lists every server of the plan that matters, and forgets the others. One that was asked for matters until it
    /// leaves the plan.
    fn follow_plan(&mut self, now: Moment) {
        self.state.own_catalogues.forget();
        let plan = self.state.plan();
        let needed = |name: &str| plan.server_of(name).is_some_and(|server| needs_catalogue(&plan, server));
        self.desks.retain(|name, desk| needed(name) || desk.is_wanted() && plan.server_of(name).is_some());
        for server in plan.servers.iter().filter(|server| needed(&server.name)) {
            self.desks.entry(Arc::clone(&server.name)).or_insert_with(|| Desk::new(server.era, now));
        }
        for (name, desk) in &mut self.desks {
            let era = plan.server_of(name).map_or(EraChoice::Auto, |server| server.era);
            desk.follow(era, needed(name), now);
        }
        let known = self.state.shared.catalogues.load_full();
        let desks = &self.desks;
        if known.by_server.keys().chain(known.failing.keys()).any(|name| !desks.contains_key(name)) {
            self.state.edit_catalogues(|catalogues| {
                catalogues.by_server.retain(|name, _| desks.contains_key(name));
                catalogues.failing.retain(|name, _| desks.contains_key(name));
            });
        }
    }

    /// Begins what is due, drops what is too old, and lets those go who have waited long enough.
    fn turn(&mut self, now: Moment) {
        if matches!(self.state.shared.phase(), Phase::Draining | Phase::Stopping) {
            // Nobody is left to need it.
            self.desks.clear();
        }
        for (name, desk) in &mut self.desks {
            if desk.goes_stale(now) {
                tracing::warn!(server = &**name, "what was known of it is too old, and forgotten");
                self.state.edit_catalogues(|catalogues| drop(catalogues.by_server.remove(name)));
            }
            if desk.begins(now) {
                let (state, server, era) = (Arc::clone(&self.state), Arc::clone(name), desk.era);
                self.listings.spawn(async move {
                    let result = list::list(&state, &server, era).await;
                    Listing { server, result }
                });
            }
        }
        for group in self.groups.extract_if(.., |group| group.until <= now || group.left.is_empty()) {
            self.state.reply(group.worker, group.ticket, Answer::Known(true));
        }
    }

    fn hear(&mut self, wish: Wish, now: Moment) {
        match wish {
            Wish::Named { worker, ticket, server } => self.ask(server, (worker, ticket), now),
            Wish::All { worker, ticket, servers } => {
                let mut left = servers.into_vec();
                left.retain(|server| self.desk(server, now).is_some_and(|desk| desk.want(now)));
                let group = Group { worker, ticket, left, until: now.plus_millis(limits::QUESTION_MS) };
                if group.left.is_empty() {
                    self.state.reply(worker, ticket, Answer::Known(true));
                } else if self.groups.len() >= limits::QUESTION_RING {
                    self.state.reply(worker, ticket, Answer::Known(false));
                } else {
                    self.groups.push(group);
                }
            }
            Wish::Interest { server } => {
                if let Some(desk) = self.desk(&server, now) {
                    desk.note_interest(now);
                }
            }
            Wish::Changed { server, what } => {
                if let Some(desk) = self.desk(&server, now) {
                    if let Some(what) = what {
                        desk.told[what as usize] += 1;
                    }
                    desk.note_interest(now);
                    desk.note_change(now);
                }
            }
        }
    }

    /// The desk of a server, from now on if there was none; None: the plan has it not.
    fn desk(&mut self, name: &Arc<str>, now: Moment) -> Option<&mut Desk> {
        if !self.desks.contains_key(name) {
            let plan = self.state.plan();
            let desk = Desk::new(plan.server_of(name)?.era, now);
            self.desks.insert(Arc::clone(name), desk);
        }
        self.desks.get_mut(name)
    }

    fn ask(&mut self, server: Arc<str>, asker: (usize, u64), now: Moment) {
        let refused = match self.desks.get_mut(&server) {
            Some(desk) => desk.errand.ask(asker, now).err().map(|(asker, _)| asker),
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
        let plan = self.state.plan();
        let Some(configured) = plan.server_of(&server) else { return };
        for group in &mut self.groups {
            group.left.retain(|name| *name != server);
        }
        match result {
            Ok((era, mut catalogue)) => {
                desk.era = era;
                let spread = self.spread.hash_one(now.as_nanos()) % 1_000;
                let fresh_ms = desk::fresh_ms(configured.list_cache.fresh_ms, catalogue.ttl_ms, spread);
                catalogue.listed = desk.since(now);
                catalogue.listed_unix_ms = clock::unix_millis();
                if desk.succeeded(fresh_ms, configured.list_cache.stale_ms, now) >= TOLD_AT {
                    tracing::info!(server = &*server, "it can be listed again");
                }
                catalogue.told = desk.told;
                self.state.edit_catalogues(|catalogues| {
                    catalogues.failing.remove(&server);
                    catalogues.eras.entry(Arc::clone(&server)).or_default().learn(era);
                    catalogues.by_server.insert(server, Arc::new(catalogue));
                });
            }
            Err(Failure { why, kind }) => {
                // What failed in a learned era is asked in both the next time.
                desk.era = configured.era;
                let failures = desk.failed(configured.traffic.health.as_ref(), now);
                if failures == TOLD_AT {
                    tracing::warn!(server = &*server, why, "it cannot be listed; what was known of it stays");
                }
                let said = self.state.shared.catalogues.load().failing.get(&server).copied();
                if said != Some(kind) {
                    self.state.edit_catalogues(|catalogues| {
                        catalogues.failing.insert(server, kind);
                    });
                }
            }
        }
        for (worker, ticket) in waiting {
            self.state.reply(worker, ticket, Answer::Known(known));
        }
    }
}
