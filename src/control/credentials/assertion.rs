//! A statement about a caller, signed by the gateway: a JWT of a minute that names the caller, who acts for it, and the
//! one server that it is for (RFC 7519, RFC 8693 section 4.1).
//!
//! Not here: keeping it.

use crate::base::base64url;
use crate::config::credentials::Assertion;
use crate::config::limits;
use crate::control::credentials::Obtained;
use crate::control::credentials::bearer;
use crate::policy::credential::Cause;
use crate::policy::credential::Trouble;
use crate::policy::credential::Whom;
use serde_json::json;

pub(super) fn sign(terms: &Assertion, whom: &Whom, now: u64) -> Result<Obtained, Trouble> {
    let ends_unix = now + limits::ASSERTION_SECONDS;
    let mut head = json!({"alg": terms.key.algorithm(), "typ": "JWT"});
    if let Some(key_id) = &terms.key_id {
        head["kid"] = json!(key_id);
    }
    let unsigned = || Trouble::new(Cause::ServiceDown, "the system gives no random numbers to sign with");
    let mut number = [0; 16];
    aws_lc_rs::rand::fill(&mut number).map_err(|_| unsigned())?;
    let mut claims = json!({
        "iss": terms.issuer, "sub": whom.principal, "aud": terms.audience,
        "iat": now, "exp": ends_unix, "jti": base64url::encode(&number),
    });
    if !whom.actor.is_empty() {
        claims["act"] = json!({"sub": whom.actor});
    }
    if !whom.tenant.is_empty() {
        claims["tenant"] = json!(whom.tenant);
    }
    let part = |value: &serde_json::Value| base64url::encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&head), part(&claims));
    let signature = terms.key.sign(signed.as_bytes()).ok_or_else(unsigned)?;
    let token = format!("{signed}.{}", base64url::encode(&signature));
    let fresh_until_unix = now + limits::ASSERTION_FRESH_SECONDS;
    Ok(Obtained { fields: bearer(&token), fresh_until_unix, ends_unix })
}
