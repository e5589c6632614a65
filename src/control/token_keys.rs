//! The signing keys of issuers: fetched at the start, when the plan changes, before they are old, and when a token
//! names one that is not known.
//!
//! Not here: when exactly (`desk`), from where (`source`), and verifying (`policy::token`). Keys that cannot be fetched
//! again stay in force for `maxStale`; then they are withdrawn, and nobody is let in by them.

mod desk;
pub(in crate::control) mod source;
#[cfg(test)]
mod tests;

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::identity::Issuer;
use crate::config::identity::KeySource;
use crate::control::errand::Without;
use crate::control::state::State;
use crate::control::token_keys::desk::Desk;
use crate::control::token_keys::desk::Waiting;
use crate::control::token_keys::source::Document;
use crate::control::token_keys::source::Found;
use crate::control::token_keys::source::Trouble;
use crate::handoff::Answer;
use crate::policy::token::TokenKeys;
use crate::policy::token::keys::IssuerKeys;
use crate::telemetry::family::Family;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A worker's question for a key.
#[derive(Debug)]
pub(crate) struct KeyAsked {
    pub(crate) worker: usize,
    pub(crate) ticket: u64,
    pub(crate) issuer: Box<str>,
    pub(crate) kid: Box<str>,
}

/// A fetch that is over.
struct Fetch {
    issuer: Box<str>,
    source: KeySource,
    result: Result<(IssuerKeys, Document), Trouble>,
}

pub(crate) struct TokenKeyKeeper {
    state: Arc<State>,
    desks: HashMap<Box<str>, Desk>,
    /// Where metadata said that keys are.
    found: HashMap<Box<str>, Found>,
    fetches: JoinSet<Fetch>,
}

impl TokenKeyKeeper {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state, desks: HashMap::new(), found: HashMap::new(), fetches: JoinSet::new() }
    }

    pub(crate) async fn run(mut self, mut asked: mpsc::Receiver<KeyAsked>) {
        let mut changed = self.state.plan_changed.subscribe();
        self.follow_plan(clock::now());
        loop {
            self.turn(clock::now());
            let next = self.desks.values().map(Desk::next).min().unwrap_or(Moment::NEVER);
            let pause = Duration::from_nanos(next.nanos_since(clock::now()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changed.changed() => self.follow_plan(clock::now()),
                Some(asked) = asked.recv() => self.ask(asked, clock::now()),
                Some(over) = self.fetches.join_next() => match over {
                    Ok(fetch) => self.settle(fetch, clock::now()),
                    Err(error) => tracing::error!(%error, "keys of an issuer are not fetched any more; restart"),
                },
            }
        }
    }

    /// Asks for the keys of every issuer of the plan, and forgets those of others: of issuers that left it, and of
    /// places that are not an issuer's any more.
    fn follow_plan(&mut self, now: Moment) {
        let plan = self.state.plan();
        let issuers = &plan.identity.issuers;
        self.desks
            .retain(|name, desk| issuers.iter().any(|one| one.issuer == *name && one.keys == desk.source));
        for issuer in issuers.iter().filter(|issuer| issuer.keys != KeySource::None) {
            let desk = self.desks.entry(issuer.issuer.clone());
            desk.or_insert_with(|| Desk::new(issuer, now)).follow(issuer, now);
        }
        let has_keys = |name: &str| self.desks.get(name).is_some_and(Desk::has_keys);
        self.found.retain(|name, _| has_keys(name));
        let keys = self.state.shared.token_keys.load_full();
        let gone: Vec<_> = keys.by_issuer.keys().filter(|name| !has_keys(name)).collect();
        if !gone.is_empty() {
            self.publish(|by_issuer| by_issuer.retain(|name, _| !gone.contains(&name)));
        }
    }

    /// Does what is due.
    fn turn(&mut self, now: Moment) {
        let (mut begin, mut stale) = (Vec::new(), Vec::new());
        for (name, desk) in &mut self.desks {
            if desk.goes_stale(now) {
                stale.push(name.clone());
            }
            if desk.errand.begins(now) {
                begin.push(name.clone());
            }
        }
        for issuer in stale {
            tracing::error!(
                issuer = &*issuer,
                "its keys are older than `maxStale` and could not be fetched again: nobody is let in by its tokens"
            );
            self.publish(|by_issuer| drop(by_issuer.remove(&issuer)));
        }
        for issuer in begin {
            self.begin(issuer);
        }
    }

    fn begin(&mut self, name: Box<str>) {
        let plan = self.state.plan();
        let Some(issuer) = plan.identity.issuers.iter().find(|issuer| issuer.issuer == name) else { return };
        let Some(desk) = self.desks.get(&name) else { return };
        let stale_unix = desk.stale_unix(clock::unix_millis());
        // Only an unknown key is in a hurry.
        let found = self.found.get(&name).filter(|_| desk.errand.is_waited_for()).cloned();
        let (state, issuer) = (Arc::clone(&self.state), Arc::clone(issuer));
        self.fetches.spawn(async move {
            let result = keys(&state, &issuer, found, stale_unix).await;
            Fetch { issuer: name, source: issuer.keys.clone(), result }
        });
    }

    fn ask(&mut self, asked: KeyAsked, now: Moment) {
        let KeyAsked { worker, ticket, issuer, kid } = asked;
        if self.is_known(&issuer, &kid) {
            return self.answer(worker, ticket, true);
        }
        let asker = Waiting { worker, ticket, kid };
        let refused = match self.desks.get_mut(&issuer) {
            Some(desk) => desk.errand.ask(asker, now).err(),
            None => Some((asker, Without::TooSoon)),
        };
        match refused {
            None => {}
            Some((_, Without::TooSoon)) => self.answer(worker, ticket, false),
            // The key may be a good one: that is not for us to say.
            Some((_, Without::Full)) => self.state.reply(worker, ticket, Answer::Busy),
        }
    }

    fn settle(&mut self, fetch: Fetch, now: Moment) {
        let Fetch { issuer, source, result } = fetch;
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.state.families.count(Family::JwksRefreshes, &[&issuer, outcome], 1);
        // Of a plan that is none any more: a desk that was made anew asks for itself.
        let Some(desk) = self.desks.get_mut(&issuer).filter(|desk| desk.source == source) else { return };
        match result {
            Ok((keys, document)) => {
                let spread = RandomState::new().hash_one(now.as_nanos()) % 1_000;
                if desk.succeeded(document.max_age, spread, now) > 0 {
                    tracing::info!(issuer = &*issuer, "its keys are fetched again");
                }
                self.found.extend(document.found.map(|found| (issuer.clone(), found)));
                let keys = Arc::new(keys);
                self.publish(|by_issuer| drop(by_issuer.insert(issuer.clone(), keys)));
            }
            Err(why) => {
                if desk.errand.failed(now) == 1 {
                    let known = self.state.shared.token_keys.load().by_issuer.contains_key(&issuer);
                    tracing::warn!(
                        issuer = &*issuer,
                        why,
                        known,
                        "its keys cannot be fetched; what was known stays in force until `maxStale`"
                    );
                }
                self.found.remove(&issuer);
            }
        }
        let desk = self.desks.get_mut(&issuer);
        let waiting = desk.map(|desk| desk.errand.take_waiting()).unwrap_or_default();
        for Waiting { worker, ticket, kid } in waiting {
            let known = self.is_known(&issuer, &kid);
            self.answer(worker, ticket, known);
        }
    }

    fn is_known(&self, issuer: &str, kid: &str) -> bool {
        let keys = self.state.shared.token_keys.load();
        keys.by_issuer.get(issuer).is_some_and(|keys| keys.contains(kid))
    }

    fn answer(&self, worker: usize, ticket: u64, known: bool) {
        self.state.reply(worker, ticket, Answer::Known(known));
    }

    fn publish(&self, edit: impl FnOnce(&mut ahash::HashMap<Box<str>, Arc<IssuerKeys>>)) {
        let mut by_issuer = self.state.shared.token_keys.load().by_issuer.clone();
        edit(&mut by_issuer);
        let old = self.state.shared.token_keys.swap(Arc::new(TokenKeys { by_issuer }));
        self.state.bury(old);
        self.state.shared.announce();
    }
}

/// Reads and parses the keys of an issuer. A set without a key that we can use is none: an issuer does not sign
/// without keys.
async fn keys(
    state: &State,
    issuer: &Issuer,
    found: Option<Found>,
    stale_unix: u64,
) -> Result<(IssuerKeys, Document), Trouble> {
    let document = source::read(&state.fetcher, issuer, found).await?;
    // A long set takes milliseconds.
    let parsed =
        tokio::task::spawn_blocking(move || (IssuerKeys::parse(&document.bytes, stale_unix), document));
    let (keys, document) = parsed.await.map_err(|error| error.to_string())?;
    match keys {
        Ok(keys) if !keys.is_empty() => Ok((keys, document)),
        Ok(_) => Err("no key in its key set is for verifying signatures (RSA, EC or Ed25519)".into()),
        Err(why) => Err(format!("{why}; look at what its URL answers")),
    }
}
