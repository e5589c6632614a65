//! Access tokens: is this one good, and whom does it name? (RFC 7519, RFC 7515, RFC 8725, RFC 9068)
//!
//! Not here: fetching keys and asking for opaque tokens (control), remembering answers (worker). Time is an argument.

pub mod json;
mod jws;
pub mod keys;
mod naming;
mod stated;
#[cfg(test)]
mod tests;

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::identity::Issuer;
use crate::config::identity::KeySource;
use crate::config::limits;
use crate::policy::claims::Claims;
use crate::policy::identity::Caller;
use crate::policy::identity::EXPIRED;
use crate::policy::identity::Reach;
use crate::policy::token::jws::Jws;
use crate::policy::token::jws::Parts;
use crate::policy::token::keys::IssuerKeys;
use ahash::HashMap;
use serde_json::Value;
use std::sync::Arc;

/// The keys of all issuers, as control has fetched them.
#[derive(Debug, Default)]
pub struct TokenKeys {
    pub by_issuer: HashMap<Box<str>, Arc<IssuerKeys>>,
}

/// A token that was found good.
#[derive(Debug)]
pub struct Verified {
    /// Index into the issuers.
    pub issuer: usize,
    pub reach: Reach,
    pub claims: Claims,
    /// Seconds since the Unix epoch from which on it must be verified anew; the leeway is in it.
    pub expires_unix: u64,
}

/// Why a token is not found good.
#[derive(Debug, PartialEq, Eq)]
pub enum Unverified {
    Refused(Fault),
    /// Its key is not among those that are known: control may find it.
    UnknownKey {
        issuer: usize,
        /// Empty: it names none.
        kid: Box<str>,
    },
    /// It is not verified by a key: its issuer may know it, where it names one, else each that has introspection.
    Opaque {
        issuer: Option<usize>,
    },
}

impl From<Fault> for Unverified {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

/// Verifies a token. All else is checked before the signature, which costs most. `now` is in seconds since the Unix
/// epoch.
///
/// # Errors
/// See [`Unverified`].
pub fn verify(
    issuers: &[Arc<Issuer>],
    keys: &TokenKeys,
    token: &[u8],
    now: u64,
) -> Result<Verified, Unverified> {
    if token.len() > limits::TOKEN_BYTES_MAX {
        return Err(TOO_LONG.into());
    }
    let Some(parts) = Parts::of(token) else { return Err(without_parts(issuers, token)) };
    let jws = Jws::read(&parts)?;
    let (index, issuer) = stated::issuer(issuers, &jws.claims).ok_or(ISSUER)?;
    if jws.is_jose && !stated::is_trust_domain(issuer) {
        return Err(TYPE.into());
    }
    let reach = stated::reach(&issuer.audiences, &jws.claims)?;
    let exp = stated::expiry(&jws.claims, now)?.ok_or(NO_EXPIRY)?;
    let expires_unix = exp.saturating_add(limits::TOKEN_LEEWAY_SECONDS);
    if now >= expires_unix {
        return Err(EXPIRED.into());
    }
    if issuer.keys == KeySource::None {
        return Err(Unverified::Opaque { issuer: Some(index) });
    }
    let known = keys.by_issuer.get(&issuer.issuer).filter(|keys| now < keys.stale_unix);
    let Some(known) = known.filter(|keys| keys.contains(&jws.kid)) else {
        return Err(Unverified::UnknownKey { issuer: index, kid: jws.kid });
    };
    is_signed(known, &jws)?;
    Ok(Verified { issuer: index, reach, claims: Claims(jws.claims), expires_unix })
}

fn is_signed(known: &IssuerKeys, jws: &Jws<'_>) -> Result<(), Fault> {
    let mut why = ALGORITHM;
    for key in known.fitting(&jws.kid, jws.algorithm) {
        if key.verify_sig(jws.signed, &jws.signature).is_ok() {
            return Ok(());
        }
        why = SIGNATURE;
    }
    Err(why)
}

/// What has not the parts of a JWT may be known to somebody, if it has at least the letters of a token (RFC 6750
/// section 2.1).
fn without_parts(issuers: &[Arc<Issuer>], token: &[u8]) -> Unverified {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    if issuers.iter().any(|issuer| issuer.introspection.is_some()) && token.iter().all(is_letter) {
        return Unverified::Opaque { issuer: None };
    }
    MALFORMED.into()
}

/// The claims of an introspection's answer (RFC 7662 section 2.2), checked like a token's. It must say for whom the
/// token is: `client_id`, which may stand in it too, is who got the token, not who may take it. It is believed until
/// `exp`, and no longer than [`limits::INTROSPECTED_SECONDS_MAX`], so that a revoked token is found out.
///
/// # Errors
/// `Unauthenticated` where the answer does not say that the token is active, for us, and from this issuer.
pub fn introspected(
    issuers: &[Arc<Issuer>],
    issuer: usize,
    claims: Claims,
    now: u64,
) -> Result<Verified, Fault> {
    if claims.0.get("active") != Some(&Value::Bool(true)) {
        return Err(INACTIVE);
    }
    let from = issuers.get(issuer).filter(|issuer| stated::is_from(issuer, &claims.0)).ok_or(ISSUER)?;
    let reach = stated::reach(&from.audiences, &claims.0)?;
    let believed = now.saturating_add(limits::INTROSPECTED_SECONDS_MAX);
    let expires_unix = stated::expiry(&claims.0, now)?.map_or(believed, |exp| exp.min(believed));
    if now >= expires_unix {
        return Err(EXPIRED);
    }
    Ok(Verified { issuer, reach, claims, expires_unix })
}

/// Whom a good token names.
///
/// # Errors
/// `Unauthenticated` where it names no principal.
pub fn caller(issuers: &[Arc<Issuer>], verified: Verified) -> Result<Caller, Fault> {
    let issuer = issuers.get(verified.issuer).ok_or(ISSUER)?;
    naming::caller(issuer, verified)
}

/// Whose token would have these claims: the issuer's that they name, or the only one's. Nothing is verified.
pub fn likely_issuer(issuers: &[Arc<Issuer>], claims: &Claims) -> Option<usize> {
    match (stated::issuer(issuers, &claims.0), issuers) {
        (Some((index, _)), _) => Some(index),
        (None, [_]) if !claims.0.contains_key("iss") => Some(0),
        _ => None,
    }
}

const fn refusal(message: &'static str) -> Fault {
    Fault::new(Kind::Unauthenticated, message)
}

const TOO_LONG: Fault = refusal("The access token is too long; ask for one with fewer claims.");
const MALFORMED: Fault = refusal("The access token is not well formed (RFC 7519); get a new one.");
const ALGORITHM: Fault = refusal(
    "The access token is signed in a way that is not accepted here; its key and an asymmetric algorithm must fit.",
);
const EXTENSION: Fault =
    refusal("The access token has a critical extension, and none is accepted; get another token.");
const TYPE: Fault = refusal("This is another kind of token; send an access token.");
const ISSUER: Fault = refusal("The access token is from an issuer that is not trusted here.");
const NO_EXPIRY: Fault =
    refusal("The access token never expires, which is not accepted; get one with `exp`.");
const NOT_YET: Fault = refusal("The access token is not valid yet; compare the clock of its issuer.");
const SIGNATURE: Fault = refusal("The signature of the access token is wrong; get a new one.");
const INACTIVE: Fault = refusal("The access token is not active any more; get a new one.");
const NAMELESS: Fault =
    refusal("The access token names nobody as this gateway wants it; ask the operator which claim it needs.");
