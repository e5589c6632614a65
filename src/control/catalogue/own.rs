//! What servers offer single callers: listed with the credential of each, where one of its calls asks, and kept for a
//! while for that caller alone.
//!
//! Not here: catalogues that all callers share (the parent), and obtaining credentials. Whoever holds the lock of a place
//! lists for all who wait for it.

#![expect(clippy::disallowed_types, reason = "control only: a map that its tasks share for a moment")]

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::credentials::Method;
use crate::config::limits;
use crate::config::plan::EraChoice;
use crate::control::catalogue::list;
use crate::control::catalogue::list::Failure;
use crate::control::credentials::Now;
use crate::control::credentials::Services;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::handoff::Failing;
use crate::handoff::OwnAsked;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::sealed;
use crate::policy::credential::Cause;
use crate::policy::credential::Credential;
use crate::policy::credential::Trouble;
use crate::policy::credential::Whom;
use crate::telemetry::family::Family;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::task::JoinSet;

/// For whom, at which server, and a digest of what it is shown where that is not told by the first two: claims.
type Key = (Arc<str>, Whom, [u8; 16]);

/// None: it cannot be listed. A trouble: not for this caller.
type Found = Result<Arc<Catalogue>, Option<Box<Trouble>>>;

/// Of one listing, each with the version of the credential that it came to.
type Outcome = Result<(Catalogue, u64), (Option<Box<Trouble>>, u64)>;

#[derive(Default)]
pub(crate) struct OwnCatalogues(Mutex<HashMap<Key, Arc<Place>>>);

#[derive(Default)]
struct Place {
    /// Of the listing that is under way.
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Of the plan that the rest was found out under.
    plan: String,
    listed: Option<Listed>,
    /// The last listing failed, at that time and for that credential.
    failed: Option<(Moment, u64, Option<Box<Trouble>>)>,
    /// When a listing began that is under way.
    began: Option<Moment>,
    used: Moment,
}

struct Listed {
    catalogue: Arc<Catalogue>,
    /// Of the credential that it was listed with.
    version: u64,
    fresh_until: Moment,
    /// Until when it stands where the server cannot be asked.
    stale_until: Moment,
}

impl Listed {
    fn bytes(&self) -> usize {
        self.catalogue.items.iter().flatten().map(|item| item.text.len()).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OwnCatalogues {
    /// The place of a caller at a server. Those that nobody has used for long go; past the bounds all that nobody waits
    /// for. Tells how many had to go because of the bounds.
    fn place(&self, key: Key, now: Moment) -> (Arc<Place>, usize) {
        let mut places = lock(&self.0);
        let mut lost = 0;
        if !places.contains_key(&key) {
            let oldest = |place: &Place| lock(&place.known).used.plus_millis(limits::OWN_CATALOGUE_KEPT_MS);
            places.retain(|_, place| now < oldest(place) || Arc::strong_count(place) > 1);
            let bytes = |place: &Arc<Place>| lock(&place.known).listed.as_ref().map_or(0, Listed::bytes);
            let full = places.len() >= limits::OWN_CATALOGUES_MAX
                || places.values().map(bytes).sum::<usize>() >= limits::OWN_CATALOGUES_BYTES_MAX;
            if full {
                let before = places.len();
                places.retain(|_, place| Arc::strong_count(place) > 1);
                lost = before - places.len();
            }
        }
        let place = Arc::clone(places.entry(key).or_default());
        lock(&place.known).used = now;
        (place, lost)
    }

    /// A credential of a caller was obtained, or there is none any more: what was listed with another is not known.
    pub(crate) fn follow(&self, server: &Arc<str>, whom: &Whom, version: Option<u64>) {
        let key = (Arc::clone(server), whom.clone(), [0; 16]);
        if let Some(place) = lock(&self.0).get(&key) {
            let mut known = lock(&place.known);
            known.listed = known.listed.take().filter(|listed| Some(listed.version) == version);
        }
    }

    /// Another plan is in force: nothing that was found out before counts.
    pub(crate) fn forget(&self) {
        lock(&self.0).clear();
    }
}

impl Known {
    /// What can be said without asking the server. `wait_ms`: how old at least a list must be to be asked for anew.
    fn find(&mut self, plan: &str, version: u64, anew: bool, now: Moment) -> Option<Found> {
        if self.plan != plan {
            *self = Self { plan: plan.into(), used: now, ..Self::default() };
        }
        self.listed =
            self.listed.take().filter(|listed| listed.version == version && now < listed.stale_until);
        if let Some(listed) = &self.listed {
            let again = listed.catalogue.listed.plus_millis(limits::CATALOGUE_ASKED_MS);
            if now < if anew { again } else { listed.fresh_until } {
                return Some(Ok(Arc::clone(&listed.catalogue)));
            }
        }
        let (at, of, trouble) = self.failed.as_ref()?;
        let stands = *of == version && now < at.plus_millis(limits::CATALOGUE_ASKED_MS);
        stands.then(|| self.stale().map_or_else(|| Err(trouble.clone()), Ok))
    }

    /// What stands where the server cannot be asked.
    fn stale(&self) -> Option<Arc<Catalogue>> {
        self.listed.as_ref().map(|listed| Arc::clone(&listed.catalogue))
    }
}

/// What a server offers a caller: what is known, or a new list.
async fn find(state: &State, asked: &mut OwnAsked, now: Moment) -> Found {
    let claims = asked.shown.as_ref().map_or([0; 16], |shown| {
        let fields = shown.fields.iter().flat_map(|field| [&*field.name, &*field.value]);
        sealed::digest(&fields.collect::<Vec<_>>())
    });
    let key = (Arc::clone(&asked.needed.server), asked.needed.whom.clone(), claims);
    let (place, lost) = state.own_catalogues.place(key, now);
    if lost > 0 {
        state.families.count(Family::OwnCatalogues, &["forgotten"], lost as u64);
    }
    let credential = match credential(state, asked).await {
        Ok(credential) => credential,
        Err(trouble) => {
            let mut known = lock(&place.known);
            if trouble.cause == Cause::ServiceDown
                && let Some(stale) = known.stale()
            {
                return Ok(stale);
            }
            known.listed = None;
            return Err(Some(trouble));
        }
    };
    let digest = state.plan().digest.clone();
    let look = |known: &mut Known| known.find(&digest, credential.version, asked.anew, now);
    {
        let mut known = lock(&place.known);
        if let Some(found) = look(&mut known) {
            return found;
        }
        // Who began it has waited in vain before: nobody else is held up by a server that keeps silent.
        let is_silent = known.began.is_some_and(|began| began.plus_millis(limits::QUESTION_MS) <= now);
        if is_silent {
            return known.stale().ok_or(None);
        }
    }
    let _turn = place.turn.lock().await;
    if let Some(found) = look(&mut lock(&place.known)) {
        return found;
    }
    lock(&place.known).began = Some(now);
    let listed = list_with(state, asked, credential).await;
    settle(state, &mut lock(&place.known), &asked.needed.server, listed)
}

/// Keeps what came of a listing.
fn settle(state: &State, known: &mut Known, name: &str, listed: Outcome) -> Found {
    // The list is as old as its end.
    let now = clock::now();
    known.began = None;
    let count = |outcome| state.families.count(Family::OwnCatalogues, &[outcome], 1);
    match listed {
        Ok((mut catalogue, version)) => {
            count("listed");
            catalogue.listed = now;
            let plan = state.plan();
            let cache = plan.server_of(name).map(|server| server.list_cache).unwrap_or_default();
            let fresh_until = catalogue.fresh_until(cache);
            let stale_until = fresh_until.plus_millis(cache.stale_ms);
            let catalogue = Arc::new(catalogue);
            let before = known.listed.replace(Listed {
                catalogue: Arc::clone(&catalogue),
                version,
                fresh_until,
                stale_until,
            });
            known.failed = None;
            if let Some(before) = before {
                state.bury(before.catalogue);
            }
            Ok(catalogue)
        }
        Err((trouble, version)) => {
            count(if trouble.is_some() { "refused" } else { "failed" });
            if trouble.is_some() {
                known.listed = None;
            }
            known.failed = Some((now, version, trouble.clone()));
            known.stale().ok_or(trouble)
        }
    }
}

async fn credential(state: &State, asked: &OwnAsked) -> Result<Arc<Credential>, Box<Trouble>> {
    if let Some(shown) = &asked.shown {
        return Ok(Arc::clone(shown));
    }
    let plan = state.plan();
    let services = Services { fetcher: &state.fetcher, vault: plan.vault.as_ref() };
    state.credentials.obtain(&services, &asked.needed, Now::read()).await.map_err(Box::new)
}

/// Lists with this credential, and once more with another where the server refuses it, as a call does. Tells the version
/// of the last one.
async fn list_with(state: &State, asked: &mut OwnAsked, mut credential: Arc<Credential>) -> Outcome {
    let is_ours = !matches!(asked.needed.auth.method, Method::Headers(_));
    for is_last in [false, true] {
        let era = era(state, &asked.needed.server);
        let listed = list::list_as(state, &asked.needed.server, era, Some(&credential)).await;
        let version = credential.version;
        let cause = match listed {
            Ok((_, catalogue)) => {
                credential.worked.note();
                return Ok((catalogue, version));
            }
            Err(Failure { kind: Failing::Refused(cause), .. }) => cause,
            Err(_) => return Err((None, version)),
        };
        let refused = Some(Box::new(Trouble::new(cause, "the server refused it")));
        // Another token would have the same scopes.
        if cause == Cause::MissingScope || !is_ours || is_last && !asked.needed.auth.is_consented() {
            return Err((refused, version));
        }
        (asked.needed.refused, asked.needed.is_last) = (Some(version), is_last);
        let renewed = self::credential(state, asked).await;
        (asked.needed.refused, asked.needed.is_last) = (None, false);
        match renewed {
            Ok(_) if is_last => return Err((refused, version)),
            Ok(renewed) => credential = renewed,
            // What the server said itself says more.
            Err(trouble) if trouble.cause == Cause::Revoked && trouble.consent_url.is_empty() => {
                return Err((refused, version));
            }
            Err(trouble) => return Err((Some(trouble), version)),
        }
    }
    Err((None, credential.version))
}

/// The era that a server has shown.
fn era(state: &State, name: &str) -> EraChoice {
    let catalogues = state.shared.catalogues.load();
    let eras = catalogues.eras.get(name).copied().unwrap_or_default();
    let plan = state.plan();
    let configured = plan.server_of(name).map_or(EraChoice::Auto, |server| server.era);
    match (configured, eras.modern) {
        (EraChoice::Auto, Some(true)) => EraChoice::Modern,
        (configured, _) => configured,
    }
}

/// Answers workers' questions for such catalogues, each in a task of its own.
#[derive(Default)]
pub(crate) struct Answering(JoinSet<()>);

impl Answering {
    pub(crate) fn ask(&mut self, state: &Arc<State>, worker: usize, ticket: u64, mut asked: Box<OwnAsked>) {
        if self.0.len() >= limits::QUESTION_RING {
            return state.reply(worker, ticket, Answer::OwnCatalogue(Err(None)));
        }
        let state = Arc::clone(state);
        self.0.spawn(async move {
            let patience = Duration::from_millis(limits::QUESTION_MS);
            let mut finding = pin!(find(&state, &mut asked, clock::now()));
            let found = tokio::time::timeout(patience, &mut finding).await;
            let late = found.is_err();
            state.reply(worker, ticket, Answer::OwnCatalogue(found.unwrap_or(Err(None))));
            if late {
                // Its session is closed, and the next one who asks finds what comes of it.
                let _ = finding.await;
            }
        });
    }

    /// The next task that is over; none while there is none.
    pub(crate) async fn settle_next(&mut self) -> Option<()> {
        self.0.join_next().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO.plus_millis(millis)
    }

    fn key(principal: &str, claims: u8) -> Key {
        let whom = Whom { principal: principal.into(), ..Whom::default() };
        ("up".into(), whom, [claims; 16])
    }

    fn listed(version: u64, text: &str, now: Moment) -> Listed {
        let mut catalogue = Catalogue { listed: now, ..Catalogue::default() };
        let message = format!(r#"{{"result":{{"tools":[{{"name":"a","description":"{text}"}}]}}}}"#);
        catalogue.add(message.as_bytes()).expect("a page");
        let (fresh_until, stale_until) = (now.plus_millis(10_000), now.plus_millis(20_000));
        Listed { catalogue: Arc::new(catalogue), version, fresh_until, stale_until }
    }

    #[test]
    fn a_place_is_one_callers_at_one_server() {
        let all = OwnCatalogues::default();
        let place = |key| all.place(key, at(0)).0;
        let first = place(key("ann", 0));
        assert!(Arc::ptr_eq(&first, &place(key("ann", 0))));
        for other in [key("bob", 0), key("ann", 1), ("down".into(), key("ann", 0).1, [0; 16])] {
            assert!(!Arc::ptr_eq(&first, &place(other)));
        }
        all.forget();
        assert!(!Arc::ptr_eq(&first, &place(key("ann", 0))), "of another plan");
    }

    #[test]
    fn a_list_goes_with_its_credential() {
        let all = OwnCatalogues::default();
        let place = all.place(key("ann", 0), at(0)).0;
        let follow = |principal: &str, version| {
            lock(&place.known).listed = Some(listed(7, "", at(0)));
            let of = Arc::downgrade(&lock(&place.known).listed.as_ref().expect("listed").catalogue);
            all.follow(&"up".into(), &key(principal, 0).1, version);
            of.strong_count() > 0
        };
        assert!(follow("ann", Some(7)) && follow("bob", None) && follow("bob", Some(8)));
        assert!(!follow("ann", Some(8)) && !follow("ann", None), "gone, for workers too");
    }

    #[test]
    fn what_is_kept_has_a_bound_in_number_bytes_and_age() {
        let all = OwnCatalogues::default();
        let waited = all.place(key("waits", 0), at(0)).0;
        let lost: usize = (0..limits::OWN_CATALOGUES_MAX)
            .map(|number| all.place(key(&number.to_string(), 0), at(0)).1)
            .sum();
        assert_eq!((lost, lock(&all.0).len()), (limits::OWN_CATALOGUES_MAX - 1, 2));
        assert!(Arc::ptr_eq(&waited, &all.place(key("waits", 0), at(0)).0), "somebody waits for it");
        // As many bytes as fit, in one list.
        let text = "x".repeat(limits::OWN_CATALOGUES_BYTES_MAX);
        lock(&all.place(key("large", 0), at(0)).0.known).listed = Some(listed(1, &text, at(0)));
        assert_eq!(all.place(key("one more", 0), at(0)).1, 2);
        drop(waited);
        assert_eq!(all.place(key("late", 0), at(limits::OWN_CATALOGUE_KEPT_MS)).1, 0);
        assert_eq!(lock(&all.0).len(), 1, "nobody has used the others");
    }

    #[test]
    fn a_list_is_good_for_its_time_its_credential_and_its_plan() {
        let known = |now| {
            let mut known = Known { plan: "p".into(), ..Known::default() };
            known.listed = Some(listed(7, "", now));
            known
        };
        let found = |plan: &str, version, anew, now| {
            known(at(0)).find(plan, version, anew, at(now)).map(|found| found.is_ok())
        };
        assert_eq!(found("p", 7, false, 9_999), Some(true));
        assert_eq!(found("p", 7, false, 10_000), None);
        assert_eq!((found("p", 7, true, 999), found("p", 7, true, 1_000)), (Some(true), None));
        assert_eq!((found("p", 8, false, 1), found("q", 7, false, 1)), (None, None));
        let mut failed = known(at(0));
        failed.failed = Some((at(10_000), 7, None));
        assert!(failed.find("p", 7, false, at(10_999)).is_some_and(|found| found.is_ok()), "stale");
        assert!(failed.find("p", 7, false, at(11_000)).is_none(), "asked for again");
        failed.failed = Some((at(20_000), 7, None));
        assert!(failed.find("p", 7, false, at(20_001)).is_some_and(|found| found.is_err()), "too old");
    }
}
