//! Who would call: the caller that was told, made as a live one is, and where what was not told is from.
//!
//! Not here: what its names and claims mean for the call (policy).

use crate::base::clock;
use crate::cli::explain::Args;
use crate::config::identity::ClaimPath;
use crate::config::keys;
use crate::config::keys::WrittenKey;
use crate::config::plan::Plan;
use crate::config::problem::quoted;
use crate::policy::claims::Claims;
use crate::policy::expression;
use crate::policy::expression::Patterns;
use crate::policy::identity::Caller;
use crate::policy::identity::Reach;
use crate::policy::token;
use crate::policy::token::Verified;
use serde_json::Value;
use std::cell::RefCell;

/// The caller, and where its identity is from.
///
/// # Errors
/// A token with these claims would be refused, or would be somebody else's.
pub(super) fn caller(
    plan: &Plan,
    args: &Args,
    patterns: &RefCell<Patterns>,
) -> Result<(Caller, String), String> {
    let (mut caller, mut identity) = match &args.claims {
        Some(claims) if !plan.identity.issuers.is_empty() => of_claims(plan, &args.principal, claims)?,
        claims => without_issuers(plan, args, claims.clone().unwrap_or_default()),
    };
    if let Some(roles) = &args.roles {
        (caller.roles, identity) = (roles.clone(), "roles as given".into());
    }
    if let Some(scopes) = &args.scopes {
        caller.scopes.clone_from(scopes);
    }
    let read = || {
        let tenant = plan.identity.tenant.as_ref()?;
        expression::of_caller(tenant, &caller, &mut patterns.borrow_mut())
    };
    caller.tenant = args.tenant.clone().or_else(read).unwrap_or_default();
    if caller.tenant.is_empty() && plan.identity.tenant.is_some() {
        identity.push_str(", no tenant: live such a caller is 401; say `--tenant` or `--claims`");
    }
    Ok((caller, identity))
}

/// Whom a token with these claims names: read as a verified one is.
fn of_claims(plan: &Plan, principal: &str, claims: &Claims) -> Result<(Caller, String), String> {
    let issuers = &plan.identity.issuers;
    let index = token::likely_issuer(issuers, claims);
    let Some((index, issuer)) = index.and_then(|index| Some((index, issuers.get(index)?))) else {
        let known: Vec<&str> = issuers.iter().map(|issuer| &*issuer.issuer).collect();
        return Err(format!("No issuer has tokens with these claims. Say `iss`: {}.", known.join(", ")));
    };
    let mut claims = claims.clone();
    let ClaimPath(path) = &issuer.principal;
    if claims.get(&issuer.principal).is_none() {
        claims.0.insert(path.to_string(), Value::from(principal));
    }
    let verified = Verified { issuer: index, reach: Reach::Everywhere, claims, expires_unix: u64::MAX };
    let caller = token::caller(issuers, verified).map_err(|fault| fault.detail.to_owned())?;
    if *caller.name != *principal {
        let named = quoted(&caller.name);
        return Err(format!("The claim {} names {named}. Say `--as` so, or leave it out.", quoted(path)));
    }
    Ok((caller, format!("a token of {}", issuer.issuer)))
}

fn without_issuers(plan: &Plan, args: &Args, claims: Claims) -> (Caller, String) {
    let named = match Caller::anonymous(&plan.identity) {
        Ok(anonymous) if *anonymous.name == *args.principal => anonymous,
        _ => Caller::of_certificate(&args.principal),
    };
    let (roles, identity) = roles_of(plan, args);
    (Caller { roles, scopes: claims.scopes(), claims, ..named }, identity)
}

/// The roles of the principal's first key that has not expired, and where they are from.
fn roles_of(plan: &Plan, args: &Args) -> (Vec<Box<str>>, String) {
    let principal = &*args.principal;
    if plan.identity.anonymous.as_deref() == Some(principal) {
        return (Vec::new(), "a caller without a key".into());
    }
    let Some(path) = &plan.identity.api_keys else {
        let known = if plan.identity.is_configured() {
            "its token or certificate tells its roles: say `--roles`, `--claims`"
        } else {
            "nobody can be it: the config has no `identity.apiKeys`"
        };
        return (Vec::new(), known.into());
    };
    let shown = path.display();
    let Ok(written) = keys::read_written(path) else {
        return (Vec::new(), format!("its roles are not known: {shown} cannot be read"));
    };
    let at =
        args.at.map_or_else(|| clock::unix_millis() / 1_000, |at| u64::try_from(at.as_second()).unwrap_or(0));
    let own: Vec<WrittenKey> = written.into_iter().filter(|key| key.principal == principal).collect();
    let none = if own.is_empty() { "it has no key" } else { "its keys have expired: live it is 401" };
    match own.into_iter().find(|key| at < key.expires_unix) {
        Some(key) => {
            let from = format!("key {} in {shown}", key.id);
            (key.roles.into_iter().map(String::into_boxed_str).collect(), from)
        }
        None => (Vec::new(), format!("{none} in {shown}")),
    }
}
