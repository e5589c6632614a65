//! Who calls: an API key, or nobody in particular where the configuration says so.
//!
//! Not here: the file of keys (config) and what a principal may do. Nothing here compares secrets byte by
//! byte: a presented key is hashed and the hash is looked up, so that the time taken tells nothing about how
//! much of a guess was right.

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::keys;
use crate::config::keys::KeyRing;
use crate::config::plan::Identity;
use crate::mcp::envelope::HeaderValue;
use std::sync::atomic::Ordering;

/// What the request offers as a credential.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    pub authorization: HeaderValue<'a>,
    pub api_key: HeaderValue<'a>,
}

/// The caller, for the length of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal<'a> {
    pub name: &'a str,
    pub roles: &'a [Box<str>],
}

const MISSING: Fault = Fault::new(
    Kind::Unauthenticated,
    "This gateway needs an API key; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
);
const WRONG: Fault = Fault::new(
    Kind::Unauthenticated,
    "The API key is not valid here: unknown, revoked or expired; ask the operator for a new one.",
);
const TWICE: Fault =
    Fault::new(Kind::Unauthenticated, "More than one credential was sent; send exactly one.");
const SCHEME: Fault = Fault::new(
    Kind::Unauthenticated,
    "Only the Bearer scheme is accepted; send `Authorization: Bearer KEY`.",
);

/// The principal behind a credential. `now` is in seconds since the Unix epoch.
///
/// # Errors
/// `Unauthenticated` where the credential is missing and nobody may be anonymous, or is wrong, expired, of
/// another scheme, or not the only one. A credential that is wrong never falls back to anonymous.
pub fn identify<'a>(
    identity: &'a Identity,
    ring: &'a KeyRing,
    presented: &Presented<'_>,
    now: u64,
) -> Result<Principal<'a>, Fault> {
    let anonymous = identity.anonymous.as_deref().map(|name| Principal { name, roles: &[] });
    if identity.api_keys.is_none() {
        // No identity is configured: credentials mean nothing here, and they are never forwarded.
        return anonymous.ok_or(MISSING);
    }
    let key = match (presented.authorization, presented.api_key) {
        (HeaderValue::Missing, HeaderValue::Missing) => return anonymous.ok_or(MISSING),
        (HeaderValue::One(value), HeaderValue::Missing) => bearer(value)?,
        (HeaderValue::Missing, HeaderValue::One(key)) => key,
        _ => return Err(TWICE),
    };
    let entry = ring.find(&keys::hash(key)).filter(|entry| now < entry.expires_unix).ok_or(WRONG)?;
    // At most one store a second and key, so that workers do not fight for the line.
    if entry.last_used_unix.load(Ordering::Relaxed) < now {
        entry.last_used_unix.store(now, Ordering::Relaxed);
    }
    Ok(Principal { name: &entry.principal, roles: &entry.roles })
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Result<&[u8], Fault> {
    let (scheme, token) = value.split_at_checked(7).ok_or(SCHEME)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(SCHEME);
    }
    let token = token.trim_ascii();
    if token.is_empty() { Err(MISSING) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KeyEntry;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn ring() -> KeyRing {
        let mut ring = KeyRing::default();
        for (key, principal, expires_unix) in [("good", "agent-7", u64::MAX), ("old", "agent-8", 100)] {
            ring.by_hash.insert(
                keys::hash(key.as_bytes()),
                Arc::new(KeyEntry {
                    id: key.into(),
                    principal: principal.into(),
                    roles: vec![],
                    expires_unix,
                    last_used_unix: Default::default(),
                }),
            );
        }
        ring
    }

    fn check(
        anonymous: Option<&str>,
        authorization: &[&str],
        api_key: &[&str],
        expected: Result<&str, Fault>,
    ) {
        let value = |values: &[&'static str]| match values {
            [] => HeaderValue::Missing,
            [one] => HeaderValue::One(one.as_bytes()),
            _ => HeaderValue::Twice,
        };
        // The tables below are literals; leaking them is what makes the closure's lifetime simple.
        let own = |values: &[&str]| -> Vec<&'static str> {
            values.iter().map(|value| &*Box::leak(value.to_string().into_boxed_str())).collect()
        };
        let presented =
            Presented { authorization: value(&own(authorization)), api_key: value(&own(api_key)) };
        let identity =
            Identity { api_keys: Some(PathBuf::from("keys.yaml")), anonymous: anonymous.map(Arc::from) };
        let ring = ring();
        let found = identify(&identity, &ring, &presented, 100).map(|principal| principal.name.to_owned());
        assert_eq!(found, expected.map(str::to_owned), "{authorization:?} {api_key:?}");
    }

    #[test]
    fn keys_are_found_and_everything_else_is_refused() {
        check(None, &["Bearer good"], &[], Ok("agent-7"));
        check(None, &["bEARER  good "], &[], Ok("agent-7"));
        check(None, &[], &["good"], Ok("agent-7"));
        check(None, &[], &[], Err(MISSING));
        check(None, &["Bearer "], &[], Err(MISSING));
        check(None, &["Bearer goo"], &[], Err(WRONG));
        check(None, &["Bearer good2"], &[], Err(WRONG));
        check(None, &["Bearer old"], &[], Err(WRONG));
        check(None, &["Basic good"], &[], Err(SCHEME));
        check(None, &["good"], &[], Err(SCHEME));
        check(None, &["Bearer good", "Bearer good"], &[], Err(TWICE));
        check(None, &["Bearer good"], &["good"], Err(TWICE));
    }

    #[test]
    fn a_wrong_key_never_becomes_anonymous() {
        check(Some("guest"), &[], &[], Ok("guest"));
        check(Some("guest"), &["Bearer nope"], &[], Err(WRONG));
    }

    #[test]
    fn without_identity_everybody_is_the_anonymous_principal() {
        let identity = Identity { api_keys: None, anonymous: Some("anonymous".into()) };
        let presented =
            Presented { authorization: HeaderValue::One(b"Bearer x"), api_key: HeaderValue::Missing };
        assert_eq!(identify(&identity, &KeyRing::default(), &presented, 0).unwrap().name, "anonymous");
    }
}
