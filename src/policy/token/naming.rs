//! Whom the claims of a good token name: principal, roles, scopes, and who acts.
//!
//! Not here: whether the token is good (`token`), and the tenant, which an expression makes of all this.

use crate::base::fault::Fault;
use crate::config::identity;
use crate::config::identity::ClaimPath;
use crate::config::identity::Issuer;
use crate::policy::claims::Claims;
use crate::policy::identity::Caller;
use crate::policy::identity::Origin;
use crate::policy::token::NAMELESS;
use crate::policy::token::Verified;

/// # Errors
/// Where the claim of the principal is missing, or it or that of who acts is no name.
pub(super) fn caller(issuer: &Issuer, verified: Verified) -> Result<Caller, Fault> {
    let Verified { issuer: index, reach, claims, expires_unix } = verified;
    let principal = name(&claims, &issuer.principal)?.ok_or(NAMELESS)?.into();
    Ok(Caller {
        roles: issuer.roles.as_ref().map(|path| claims.texts(path)).unwrap_or_default(),
        actor: name(&claims, &issuer.act)?.unwrap_or_default().into(),
        scopes: claims.scopes(),
        expires_unix,
        claims,
        ..Caller::new(principal, Origin::Token { issuer: index, reach })
    })
}

/// The name that a claim is, if there is one.
///
/// # Errors
/// Where it is there but is no name: nobody is taken for somebody else because a part was left out.
fn name<'a>(claims: &'a Claims, path: &ClaimPath) -> Result<Option<&'a str>, Fault> {
    let Some(value) = claims.get(path) else { return Ok(None) };
    value.as_str().filter(|name| is_name(name)).map(Some).ok_or(NAMELESS)
}

/// The text of a certificate's subject escapes spaces at the ends; in a claim they are a mistake.
fn is_name(text: &str) -> bool {
    identity::is_principal(text) && text.trim_matches(' ').len() == text.len()
}
