//! Who calls, where the worker does not know it yet: a key, a token, a certificate becomes a caller.
//!
//! Not here: verifying itself (`policy`), and what is known already (`callers`). What only control can find out, a new
//! key of an issuer or what it knows of an opaque token, is asked for; only this call waits.

use crate::base::bound::Bound;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::identity::Secret;
use crate::config::limits;
use crate::config::plan::Plan;
use crate::handoff::Answer;
use crate::handoff::Asked;
use crate::policy::access::Standing;
use crate::policy::expression;
use crate::policy::identity::Caller;
use crate::policy::identity::Offered;
use crate::policy::token;
use crate::policy::token::Unverified;
use crate::policy::token::Verified;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::callers::Known;
use std::rc::Rc;

const UNKNOWN: Fault = Fault::new(
    Kind::Unauthenticated,
    "The access token is not valid here: nobody vouches for it; get a new one.",
);
/// Nothing was found out about the token.
pub const BUSY: Fault = Fault::new(
    Kind::Overloaded,
    "Too many calls wait to hear whether their access tokens are good; retry later.",
)
.at(Bound::Answers);
const NO_TENANT: Fault = Fault::new(
    Kind::Unauthenticated,
    "The credential says nothing about its tenant; ask the operator which claim it needs.",
);

/// The caller behind a credential; remembered from now on.
///
/// # Errors
/// 401 where the credential is missing, wrong, expired, or cannot be verified; 503 where so many wait for that that this
/// one cannot: it may be good.
pub async fn ask(
    worker: &Worker,
    adopted: &Adopted,
    slot: usize,
    offered: &Offered<'_>,
) -> Result<Rc<Known>, Fault> {
    let plan = &adopted.plan;
    let now = worker.wall_seconds(worker.coarse_now());
    let caller = match offered {
        Offered::Nothing => Caller::anonymous(&plan.identity)?,
        Offered::Key(key) => Caller::of_key(&adopted.keys, key, now)?,
        Offered::Certificate(owner) => {
            Caller { roles: owner.roles.into(), ..Caller::of_certificate(owner.principal) }
        }
        Offered::Token(token) => {
            let verified = verify(worker, adopted, slot, token, now).await?;
            token::caller(&plan.identity.issuers, verified)?
        }
    };
    let caller = with_tenant(worker, plan, caller)?;
    let standing = Standing::new(&plan.access, &caller, &worker.patterns);
    let mut known = Known::new(caller, standing);
    if let Offered::Token(token) = offered
        && plan.exchanges_tokens()
    {
        known.token = std::str::from_utf8(token).ok().map(|token| Secret(token.into()));
    }
    let known = Rc::new(known);
    // Not where the plan is an older one: a call that began before a reload must leave nothing of it behind.
    if adopted.generation == worker.adopt().generation {
        worker.callers.keep(offered, &known);
    }
    Ok(known)
}

async fn verify(
    worker: &Worker,
    adopted: &Adopted,
    slot: usize,
    token: &[u8],
    now: u64,
) -> Result<Verified, Fault> {
    let issuers = &adopted.plan.identity.issuers;
    let (issuer, kid) = match token::verify(issuers, &worker.shared.token_keys.load(), token, now) {
        Ok(verified) => return Ok(verified),
        Err(Unverified::Refused(fault)) => return Err(fault),
        Err(Unverified::Opaque { issuer }) => {
            return introspect(worker, adopted, slot, token, issuer).await;
        }
        Err(Unverified::UnknownKey { issuer, kid }) => (issuer, kid),
    };
    let Some(known) = issuers.get(issuer) else { return Err(UNKNOWN) };
    let what = Asked::TokenKeys { issuer: known.issuer.clone(), kid };
    let answer = worker.question(what, slot, limits::QUESTION_MS).await;
    token::verify(issuers, &worker.shared.token_keys.load(), token, now).map_err(|why| match (why, answer) {
        (Unverified::Refused(fault), _) => fault,
        (_, Some(Answer::Known(_))) => UNKNOWN,
        _ => BUSY,
    })
}

/// Asks the issuer that a token names, else each that knows opaque tokens, in the order of the file.
async fn introspect(
    worker: &Worker,
    adopted: &Adopted,
    slot: usize,
    token: &[u8],
    named: Option<usize>,
) -> Result<Verified, Fault> {
    let issuers = &adopted.plan.identity.issuers;
    let Ok(text) = std::str::from_utf8(token) else { return Err(UNKNOWN) };
    let mut unheard = UNKNOWN;
    for (index, issuer) in issuers.iter().enumerate() {
        if issuer.introspection.is_none() || named.is_some_and(|named| named != index) {
            continue;
        }
        let what = Asked::Introspect { issuer: issuer.issuer.clone(), token: Secret(text.into()) };
        match worker.question(what, slot, limits::QUESTION_MS).await {
            Some(Answer::Introspected(Some(claims))) => {
                let now = worker.wall_seconds(worker.coarse_now());
                return token::introspected(issuers, index, *claims, now);
            }
            Some(Answer::Introspected(None)) => {}
            // It may be the one who would vouch for it.
            _ => unheard = BUSY,
        }
    }
    Err(unheard)
}

fn with_tenant(worker: &Worker, plan: &Plan, caller: Caller) -> Result<Caller, Fault> {
    let Some(tenant) = &plan.identity.tenant else { return Ok(caller) };
    let mut patterns = worker.patterns.borrow_mut();
    let tenant = expression::of_caller(tenant, &caller, &mut patterns).ok_or(NO_TENANT)?;
    Ok(Caller { tenant, ..caller })
}
