//! Tokens that callers consent to in a browser: the authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636,
//! RFC 9207), and renewing what came of it.
//!
//! Not here: where tokens are kept (`ledger`), and asking the caller (`worker`). A `state` is good once, for ten
//! minutes, for the caller and the server that it was made for, and with the secret that only we know.

#![expect(clippy::disallowed_types, reason = "control only: tasks share it for a moment")]

use crate::base::base64url;
use crate::config::credentials::Auth;
use crate::config::credentials::Consent;
use crate::config::credentials::Method;
use crate::config::limits;
use crate::control::credentials::Key;
use crate::control::credentials::Now;
use crate::control::credentials::Obtained;
use crate::control::credentials::Services;
use crate::control::credentials::ledger::Grant;
use crate::control::credentials::ledger::Ledger;
use crate::control::credentials::ledger::Tokens;
use crate::control::credentials::site::Site;
use crate::control::credentials::site::Sites;
use crate::control::credentials::token;
use crate::control::credentials::token::Granted;
use crate::control::credentials::token::Refusal;
use crate::control::fetch;
use crate::policy::credential::Cause;
use crate::policy::credential::Needed;
use crate::policy::credential::Trouble;
use crate::policy::credential::Whom;
use aws_lc_rs::digest;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Why somebody who comes back from a token service is sent away, for people.
pub(crate) type Unwelcome = &'static str;

const USED: Unwelcome = "This link was used before, is too old, or was made by somebody else. Call the tool again to get \
                         a new one.";
const STRANGE: Unwelcome = "This answer did not come from the service that was asked. Call the tool again.";
const DENIED: Unwelcome = "The consent was not given. Call the tool again if this was not meant.";
const FAILED: Unwelcome =
    "The service gave no token for this consent. Call the tool again, or tell the operator.";

/// More come back at once than can be served.
pub(super) const BUSY: Unwelcome = "Too many people come back at once. Call the tool again.";

/// Consents that are asked for, and those that were given.
pub(super) struct Consents {
    asked: Mutex<HashMap<Box<str>, Asked>>,
    ledger: Ledger,
    sites: Sites,
}

/// Somebody was sent to a token service.
struct Asked {
    server: Arc<str>,
    whom: Whom,
    auth: Arc<Auth>,
    site: Arc<Site>,
    verifier: Box<str>,
    until_unix: u64,
    url: Box<str>,
}

impl Consents {
    pub(super) fn open(state_dir: Option<&Path>) -> Self {
        Self { asked: Mutex::default(), ledger: Ledger::open(state_dir), sites: Sites::default() }
    }

    /// The token that the caller has consented to, renewed where it has ended or was refused. `latest` is the greatest
    /// version of a credential so far. Only its token service ends a consent, or the server where nothing can be renewed.
    pub(super) async fn token(
        &self,
        services: &Services<'_>,
        terms: &Consent,
        (needed, latest): (&Needed, u64),
        now: Now,
    ) -> Result<Obtained, Trouble> {
        let grant = Grant::of(&needed.server, &needed.whom, terms);
        let site = self.sites.of(services.fetcher, terms, now.unix).await?;
        let wanted = |trouble| self.wanted((terms, &site), needed, now, trouble);
        let Some(tokens) = self.ledger.find(&grant) else {
            return Err(wanted(Trouble::new(Cause::NoConsent, "there is no consent yet")));
        };
        let refused = needed.refused.is_some_and(|version| tokens.after < version);
        if now.unix < tokens.fresh_until_unix && !refused {
            return Ok(tokens.obtained());
        }
        let renewed = match &tokens.refresh {
            Some(refresh) => renew(services, (terms, &site), &refresh.0, now).await,
            None => Err(Refusal { trouble: unrenewable(refused), ends_grant: true }),
        };
        match renewed {
            Ok(granted) => {
                let tokens = Tokens::of(&granted, tokens.refresh, now.unix, latest);
                let obtained = tokens.obtained();
                self.ledger.keep(grant, tokens).await;
                Ok(obtained)
            }
            // It may come back, and the consent with it.
            Err(Refusal { trouble, .. }) if trouble.cause == Cause::ServiceDown => Err(trouble),
            Err(Refusal { trouble, ends_grant }) => {
                if ends_grant {
                    self.ledger.forget(&grant).await;
                }
                Err(wanted(trouble))
            }
        }
    }

    /// The server refuses what the caller has consented to, also where it was renewed: the caller may consent once more.
    /// What is there stays until it does.
    pub(super) async fn again(
        &self,
        services: &Services<'_>,
        terms: &Consent,
        needed: &Needed,
        (now, trouble): (Now, Trouble),
    ) -> Trouble {
        match self.sites.of(services.fetcher, terms, now.unix).await {
            Ok(site) => self.wanted((terms, &site), needed, now, trouble),
            Err(_) => trouble,
        }
    }

    /// The same trouble, with the link that ends it.
    fn wanted(&self, at: (&Consent, &Arc<Site>), needed: &Needed, now: Now, trouble: Trouble) -> Trouble {
        match self.link(at, needed, now) {
            Some(consent_url) => Trouble { consent_url, ..trouble },
            None => {
                Trouble::new(Cause::ServiceDown, "too many consents are asked for, or there is no randomness")
            }
        }
    }

    /// Where the caller consents. The same link for as long as half of its life is left.
    fn link(&self, (terms, site): (&Consent, &Arc<Site>), needed: &Needed, now: Now) -> Option<Box<str>> {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, asked| now.unix < asked.until_unix);
        let same = |asked: &&Asked| {
            asked.server == needed.server && asked.whom == needed.whom && asked.auth == needed.auth
        };
        let half = now.unix + limits::CONSENT_SECONDS / 2;
        if let Some(known) = all.values().find(same).filter(|asked| half < asked.until_unix) {
            return Some(known.url.clone());
        }
        if all.len() >= limits::CONSENTS_MAX {
            return None;
        }
        let (state, verifier) = (secret()?, secret()?);
        let challenge = base64url::encode(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref());
        let url = address_of(terms, site, &state, &challenge);
        let asked = Asked {
            server: Arc::clone(&needed.server),
            whom: needed.whom.clone(),
            auth: Arc::clone(&needed.auth),
            site: Arc::clone(site),
            verifier: verifier.into(),
            until_unix: now.unix + limits::CONSENT_SECONDS,
            url: url.clone(),
        };
        all.insert(state.into(), asked);
        Some(url)
    }

    /// Somebody comes back: the code becomes tokens of whom the `state` was made for. They are not kept yet.
    ///
    /// # Errors
    /// What to tell whoever came.
    pub(super) async fn accept(
        &self,
        services: &Services<'_>,
        query: &str,
        now: Now,
    ) -> Result<Given, Unwelcome> {
        let returned = Returned::of(query).ok_or(STRANGE)?;
        let asked = {
            let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            // Whatever becomes of it, it is used now.
            all.remove(&*returned.state)
        };
        let asked = asked.filter(|asked| now.unix < asked.until_unix).ok_or(USED)?;
        let Method::UserOauth(terms) = &asked.auth.method else { return Err(USED) };
        let stated = returned.issuer.is_some() || asked.site.names_itself;
        if stated && terms.issuer.is_some() && returned.issuer.as_deref() != terms.issuer.as_deref() {
            return Err(STRANGE);
        }
        let code = returned.code.ok_or(DENIED)?;
        let fields = vec![
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", &*terms.callback),
            ("code_verifier", &*asked.verifier),
        ];
        let server = &*asked.server;
        let failed = |trouble: Trouble| {
            tracing::warn!(
                server,
                cause = trouble.cause.word(),
                "a consent became no token: {}",
                trouble.detail
            );
            FAILED
        };
        let granted = token::request(services.fetcher, &terms.service, asked.site.endpoint(), fields)
            .await
            .map_err(|refusal| failed(refusal.trouble))?;
        token::accept(&granted, now.unix).map_err(failed)?;
        let grant = Grant::of(&asked.server, &asked.whom, terms);
        Ok(Given { key: (asked.server, asked.whom), grant, granted, unix: now.unix })
    }

    /// Keeps what was given. Credentials up to the version `latest` were made of something else.
    pub(super) async fn keep(&self, given: Given, latest: u64) {
        let tokens = Tokens::of(&given.granted, None, given.unix, latest);
        self.ledger.keep(given.grant, tokens).await;
    }
}

/// A consent that was given just now.
pub(super) struct Given {
    pub(super) key: Key,
    grant: Grant,
    granted: Granted,
    /// When.
    unix: u64,
}

/// Why there is nothing to show any more, where there is no refresh token.
fn unrenewable(refused: bool) -> Trouble {
    let (cause, why) =
        if refused { (Cause::Revoked, "the server refuses it") } else { (Cause::Expired, "it has ended") };
    Trouble::new(cause, format!("{why}, and there is no way to renew it"))
}

async fn renew(
    services: &Services<'_>,
    (terms, site): (&Consent, &Site),
    refresh: &str,
    now: Now,
) -> Result<Granted, Refusal> {
    let fields = vec![("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let granted = token::request(services.fetcher, &terms.service, site.endpoint(), fields).await?;
    token::accept(&granted, now.unix)?;
    Ok(granted)
}

/// The page to open.
fn address_of(terms: &Consent, site: &Site, state: &str, challenge: &str) -> Box<str> {
    let service = &terms.service;
    let scope = service.scopes.join(" ");
    let mut fields = vec![
        ("response_type", "code"),
        ("redirect_uri", &*terms.callback),
        ("state", state),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ];
    fields.extend(service.client_id.as_deref().map(|client_id| ("client_id", client_id)));
    if !scope.is_empty() {
        fields.push(("scope", &scope));
    }
    fields.extend(service.resource.as_deref().map(|resource| ("resource", resource)));
    fields.extend(service.audience.as_deref().map(|audience| ("audience", audience)));
    let joint = if site.authorize.contains('?') { '&' } else { '?' };
    format!("{}{joint}{}", site.authorize, fetch::query(&fields)).into()
}

/// 256 bits that nobody guesses.
fn secret() -> Option<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(base64url::encode(&bytes))
}

/// What the query of a callback says (RFC 6749 section 4.1.2, RFC 9207).
struct Returned {
    state: String,
    code: Option<String>,
    issuer: Option<String>,
}

impl Returned {
    /// None: it has no `state`, or says something twice.
    fn of(query: &str) -> Option<Self> {
        let (mut state, mut code, mut issuer) = (None, None, None);
        for (name, value) in fetch::pairs(query) {
            let place = match name.as_str() {
                "state" => &mut state,
                "code" => &mut code,
                "iss" => &mut issuer,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        Some(Self { state: state?, code, issuer })
    }
}
