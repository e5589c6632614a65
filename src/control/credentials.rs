//! What servers are shown of callers: obtained once for all who wait for it, kept until shortly before it ends.
//!
//! Not here: how each kind is obtained (`token`, `assertion`, `vault`). Time is an argument, so that days pass in a
//! test. Nothing of a secret is ever said: what is told of a failure is a sentence of ours.

#![expect(clippy::disallowed_types, reason = "control only: a map that its tasks share for a moment")]

mod assertion;
mod consent;
mod ledger;
mod site;
#[cfg(test)]
mod tests;
mod token;
mod vault;

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::credentials::Auth;
use crate::config::credentials::Method;
use crate::config::credentials::Vault;
use crate::config::identity::Secret;
use crate::config::limits;
use crate::config::plan::InjectedHeader;
use crate::config::plan::Server;
use crate::control::credentials::consent::Consents;
use crate::control::credentials::consent::Unwelcome;
use crate::control::fetch::Fetcher;
use crate::control::state::State;
use crate::handoff::Answer;
use crate::policy::credential::Cause;
use crate::policy::credential::Credential;
use crate::policy::credential::Needed;
use crate::policy::credential::Trouble;
use crate::policy::credential::Whom;
use crate::policy::credential::Worked;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Who is asked for credentials.
#[derive(Clone, Copy)]
pub(crate) struct Services<'a> {
    pub(crate) fetcher: &'a Fetcher,
    pub(crate) vault: Option<&'a Vault>,
}

/// The time at which something is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) moment: Moment,
    /// Seconds since the Unix epoch.
    pub(crate) unix: u64,
}

impl Now {
    pub(crate) fn read() -> Self {
        Self { moment: clock::now(), unix: clock::unix_millis() / 1_000 }
    }
}

/// What a service gave, and how long it is good.
struct Obtained {
    fields: Vec<InjectedHeader>,
    fresh_until_unix: u64,
    ends_unix: u64,
}

/// For whom, and for which server.
type Key = (Arc<str>, Whom);

pub(crate) struct Credentials {
    places: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Place>>>>,
    versions: AtomicU64,
    /// Requests to services that may be under way at a time.
    permits: Semaphore,
    consents: Consents,
}

/// One credential. Whoever holds its lock obtains it; all others wait for the lock and find it there.
#[derive(Default)]
struct Place {
    auth: Option<Arc<Auth>>,
    held: Option<Held>,
    failed: Option<(Moment, Trouble)>,
    /// Until when what was obtained in place of refused ones is paid for: each costs `CREDENTIAL_RENEW_MS`.
    paid_until: Moment,
}

struct Held {
    credential: Arc<Credential>,
    ends_unix: u64,
}

impl Credentials {
    /// `state_dir`: where consents outlive the process.
    pub(crate) fn new(state_dir: Option<&Path>) -> Self {
        Self {
            places: Mutex::default(),
            versions: AtomicU64::new(0),
            permits: Semaphore::new(limits::ANSWERS_MAX),
            consents: Consents::open(state_dir),
        }
    }

    /// Somebody comes back from a token service with this query.
    ///
    /// # Errors
    /// What to tell whoever came.
    pub(crate) async fn accept(
        &self,
        services: &Services<'_>,
        query: &str,
        now: Now,
    ) -> Result<(), Unwelcome> {
        let given = self.consents.accept(services, query, now).await?;
        let place = self.place(given.key.clone());
        // Nobody renews meanwhile what this takes the place of.
        let mut place = place.lock().await;
        // That there was no consent is remembered no longer, nor what was made of an older one.
        *place = Place::default();
        self.consents.keep(given, self.latest()).await;
        Ok(())
    }

    async fn ask(&self, services: &Services<'_>, needed: &Needed, now: Now) -> Result<Obtained, Trouble> {
        match &needed.auth.method {
            Method::ClientCredentials(service) => {
                token::of_gateway(services.fetcher, service, now.unix).await
            }
            Method::TokenExchange(service) => {
                let missing =
                    || Trouble::new(Cause::NoCredential, "the caller has no access token to exchange");
                let token = needed.token.as_ref().ok_or_else(missing)?;
                token::of_caller(services.fetcher, service, token, now.unix).await
            }
            Method::SignedJwt(terms) => assertion::sign(terms, &needed.whom, now.unix),
            Method::UserOauth(terms) => {
                self.consents.token(services, terms, (needed, self.latest()), now).await
            }
            Method::Vault(fields) => vault::fields(services, fields, now.unix).await,
            // The worker has the claims.
            Method::Headers(_) => Err(Trouble::new(Cause::NoCredential, "claims need no service")),
        }
    }

    /// The credential that is needed: the one that is there, or a new one.
    pub(crate) async fn obtain(
        &self,
        services: &Services<'_>,
        needed: &Needed,
        now: Now,
    ) -> Result<Arc<Credential>, Trouble> {
        let place = self.place((Arc::clone(&needed.server), needed.whom.clone()));
        let mut place = place.lock().await;
        if let Some(known) = place.known(needed, now) {
            return known;
        }
        if place.is_spent(needed, now) {
            return Err(self.give_up(services, needed, now).await);
        }
        // Never closed.
        let _permit = self.permits.acquire().await;
        let began = clock::now();
        let obtained = self.ask(services, needed, now).await;
        // Those that waited meanwhile count from its end.
        let ended = now.moment.plus_millis(clock::now().nanos_since(began) / 1_000_000);
        match obtained {
            Ok(obtained) => {
                if needed.refused.is_some() {
                    place.paid_until = place.paid_until.max(ended).plus_millis(limits::CREDENTIAL_RENEW_MS);
                }
                Ok(place.hold(self.number(), obtained))
            }
            Err(trouble) => {
                place.failed = Some((ended, trouble.clone()));
                if !trouble.consent_url.is_empty() {
                    // Nobody is to show it once more before the caller has consented.
                    place.held.take_if(|held| needed.refused == Some(held.credential.version));
                }
                // What has not ended yet is better than nothing.
                place.unended(needed, now).ok_or(trouble)
            }
        }
    }

    /// What to say where the server refuses what was renewed just now. It is kept even so, and a consent as well: the
    /// server may take it in a moment, and only the token service says that it has ended. A caller may consent once more.
    async fn give_up(&self, services: &Services<'_>, needed: &Needed, now: Now) -> Trouble {
        let trouble = Trouble::new(Cause::Revoked, "a new credential is refused as well");
        match &needed.auth.method {
            Method::UserOauth(terms) => self.consents.again(services, terms, needed, (now, trouble)).await,
            _ => trouble,
        }
    }

    /// The greatest version so far.
    fn latest(&self) -> u64 {
        self.versions.load(Ordering::Relaxed)
    }

    fn number(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn place(&self, key: Key) -> Arc<tokio::sync::Mutex<Place>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= limits::CREDENTIALS_MAX && !places.contains_key(&key) {
            // Those that somebody waits for stay.
            places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        Arc::clone(places.entry(key).or_default())
    }
}

impl Place {
    /// What can be said without asking anybody.
    fn known(&mut self, needed: &Needed, now: Now) -> Option<Result<Arc<Credential>, Trouble>> {
        if self.auth.as_ref() != Some(&needed.auth) {
            // Obtained as another configuration said.
            *self = Self { auth: Some(Arc::clone(&needed.auth)), ..Self::default() };
        }
        if let Some(held) = &self.held
            && needed.refused != Some(held.credential.version)
            && now.unix < held.credential.fresh_until_unix
        {
            return Some(Ok(Arc::clone(&held.credential)));
        }
        let (at, trouble) = self.failed.as_ref()?;
        if now.moment.nanos_since(*at) >= limits::CREDENTIAL_FAILED_MS * 1_000_000 {
            return None;
        }
        Some(self.unended(needed, now).ok_or_else(|| trouble.clone()))
    }

    fn hold(&mut self, version: u64, obtained: Obtained) -> Arc<Credential> {
        let Obtained { fields, fresh_until_unix, ends_unix } = obtained;
        let (made, worked) = (clock::now(), Worked::default());
        let credential = Arc::new(Credential { version, fields, fresh_until_unix, made, worked });
        self.held = Some(Held { credential: Arc::clone(&credential), ends_unix });
        self.failed = None;
        credential
    }

    /// Whether another one would be of no use: the server has refused two of the same call, or this one before any call
    /// succeeded with it, moments after the one before it. Where calls have succeeded the tokens were revoked in between:
    /// that may come several times at once, and still not for ever.
    fn is_spent(&self, needed: &Needed, now: Now) -> bool {
        let Some(Held { credential, .. }) = &self.held else { return false };
        if needed.refused != Some(credential.version) {
            return false;
        }
        let at_once = if credential.worked.has() { limits::CREDENTIAL_RENEWALS_AT_ONCE } else { 1 };
        let room = now.moment.plus_millis((at_once - 1) * limits::CREDENTIAL_RENEW_MS);
        needed.is_last || room < self.paid_until
    }

    /// What is not fresh any more, and can be used still.
    fn unended(&self, needed: &Needed, now: Now) -> Option<Arc<Credential>> {
        let held = self.held.as_ref().filter(|held| now.unix < held.ends_unix)?;
        (needed.refused != Some(held.credential.version)).then(|| Arc::clone(&held.credential))
    }
}

/// What the gateway itself shows a server, where all callers are shown the same; None: nothing, or it cannot be had.
pub(crate) async fn of_gateway(state: &State, server: &Server) -> Option<Arc<Credential>> {
    let auth = server.auth.as_ref().filter(|auth| auth.is_shared())?;
    let (server, auth) = (Arc::clone(&server.name), Arc::clone(auth));
    let needed = Needed { server, auth, whom: Whom::default(), token: None, refused: None, is_last: false };
    let vault = state.plan().vault.clone();
    let services = Services { fetcher: &state.fetcher, vault: vault.as_ref() };
    state.credentials.obtain(&services, &needed, Now::read()).await.ok()
}

/// `Authorization: Bearer …` (RFC 6750 section 2.1).
fn bearer(token: &str) -> Vec<InjectedHeader> {
    let value = format!("Bearer {token}").into_bytes().into();
    vec![InjectedHeader { name: b"authorization"[..].into(), value }]
}

/// Answers workers' questions for credentials, each in a task of its own.
pub(crate) struct Answering {
    state: Arc<State>,
    tasks: JoinSet<()>,
}

impl Answering {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state, tasks: JoinSet::new() }
    }

    pub(crate) fn ask(&mut self, worker: usize, ticket: u64, needed: Box<Needed>) {
        if self.tasks.len() >= limits::QUESTION_RING {
            let trouble = Trouble::new(Cause::ServiceDown, "too many calls wait for credentials");
            return self.state.reply(worker, ticket, Answer::Credential(Err(Box::new(trouble))));
        }
        let state = Arc::clone(&self.state);
        self.tasks.spawn(async move {
            let vault = state.plan().vault.clone();
            let services = Services { fetcher: &state.fetcher, vault: vault.as_ref() };
            let found = state.credentials.obtain(&services, &needed, Now::read()).await;
            let version = found.as_ref().ok().map(|credential| credential.version);
            let is_late = found.as_ref().is_err_and(|trouble| trouble.cause == Cause::ServiceDown);
            if !is_late {
                state.own_catalogues.follow(&needed.server, &needed.whom, version);
            }
            state.reply(worker, ticket, Answer::Credential(found.map_err(Box::new)));
        });
    }

    pub(crate) fn accept(&mut self, worker: usize, ticket: u64, query: Secret) {
        if self.tasks.len() >= limits::QUESTION_RING {
            return self.state.reply(worker, ticket, Answer::Consent(Err(consent::BUSY)));
        }
        let state = Arc::clone(&self.state);
        self.tasks.spawn(async move {
            let services = Services { fetcher: &state.fetcher, vault: None };
            let accepted = state.credentials.accept(&services, &query.0, Now::read()).await;
            state.reply(worker, ticket, Answer::Consent(accepted));
        });
    }

    /// The next task that is over; none while there is none.
    pub(crate) async fn settle_next(&mut self) -> Option<()> {
        self.tasks.join_next().await.map(drop)
    }
}
