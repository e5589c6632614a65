//! What the claims of a token, or of an introspection's answer, state: who issued it, for whom, and for how long.
//!
//! Not here: whether it is true (`token`), and whom they name (`naming`).

use crate::base::fault::Fault;
use crate::config::identity::Issuer;
use crate::config::limits;
use crate::policy::identity::ELSEWHERE;
use crate::policy::identity::Reach;
use crate::policy::token::MALFORMED;
use crate::policy::token::NOT_YET;
use serde_json::Map;
use serde_json::Value;
use std::sync::Arc;

type Object = Map<String, Value>;

/// The issuer that `iss` names, letter by letter (RFC 7519 section 4.1.1). A JWT-SVID has none: its trust domain, as
/// `sub` has it, is its issuer (SPIFFE JWT-SVID section 3).
pub(super) fn issuer<'a>(issuers: &'a [Arc<Issuer>], claims: &Object) -> Option<(usize, &'a Issuer)> {
    let name = match claims.get("iss") {
        Some(name) => name.as_str()?,
        None => trust_domain(claims)?,
    };
    let (index, issuer) = issuers.iter().enumerate().find(|(_, issuer)| *issuer.issuer == *name)?;
    is_from(issuer, claims).then_some((index, issuer))
}

/// Whether nothing speaks against this issuer: another `iss`, or a `sub` that is not of the trust domain that it is.
pub(super) fn is_from(issuer: &Issuer, claims: &Object) -> bool {
    let is_home = !is_trust_domain(issuer) || trust_domain(claims) == Some(&*issuer.issuer);
    is_home && claims.get("iss").is_none_or(|name| *name == *issuer.issuer)
}

/// Whether its tokens are JWT-SVIDs.
pub(super) fn is_trust_domain(issuer: &Issuer) -> bool {
    issuer.issuer.starts_with(SPIFFE)
}

const SPIFFE: &str = "spiffe://";

/// `spiffe://TRUST-DOMAIN` of a `sub` that is `spiffe://TRUST-DOMAIN/PATH`.
fn trust_domain(claims: &Object) -> Option<&str> {
    let subject = claims.get("sub")?.as_str()?;
    let (domain, path) = subject.strip_prefix(SPIFFE)?.split_once('/')?;
    (!domain.is_empty() && !path.is_empty()).then(|| &subject[..SPIFFE.len() + domain.len()])
}

/// Where a token may be used: `aud` has one of our audiences, or is `AUDIENCE/NAME` of an endpoint (RFC 7519 section
/// 4.1.3, RFC 8707 section 2).
///
/// # Errors
/// Where it is for nobody, or for others only.
pub(super) fn reach(audiences: &[Box<str>], claims: &Object) -> Result<Reach, Fault> {
    let given = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => {
            several.iter().map(|one| one.as_str().ok_or(MALFORMED)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(MALFORMED),
        None => return Err(ELSEWHERE),
    };
    if given.iter().any(|given| audiences.iter().any(|audience| **audience == **given)) {
        return Ok(Reach::Everywhere);
    }
    let endpoint = |given: &&str, audience: &str| {
        let name = given.strip_prefix(audience)?.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then(|| Box::from(name))
    };
    let names: Vec<Box<str>> = given
        .iter()
        .filter_map(|given| audiences.iter().find_map(|audience| endpoint(given, audience)))
        .collect();
    if names.is_empty() { Err(ELSEWHERE) } else { Ok(Reach::Endpoints(names)) }
}

/// `exp`, if there is one, in seconds since the Unix epoch. `nbf` and `iat` have passed (RFC 7519 sections 4.1.4 to
/// 4.1.6), with some leeway for clocks that differ.
///
/// # Errors
/// Where one of them is no whole number, or is yet to come.
pub(super) fn expiry(claims: &Object, now: u64) -> Result<Option<u64>, Fault> {
    let seconds = |name| claims.get(name).map(|value: &Value| value.as_u64().ok_or(MALFORMED)).transpose();
    let soon = now.saturating_add(limits::TOKEN_LEEWAY_SECONDS);
    for name in ["nbf", "iat"] {
        if seconds(name)?.is_some_and(|at| at > soon) {
            return Err(NOT_YET);
        }
    }
    seconds("exp")
}
