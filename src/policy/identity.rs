//! Who calls: what a request offers as a credential, and the caller that a credential makes.
//!
//! Not here: the file of keys (config), verifying tokens (`token`) and what a caller may do (`access`). Nothing here
//! compares secrets byte by byte: a presented key is hashed and the hash is looked up, so that the time taken tells
//! nothing about how much of a guess was right.

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::identity::Identity;
use crate::config::keys;
use crate::config::keys::KeyEntry;
use crate::config::keys::KeyRing;
use crate::mcp::envelope::HeaderValue;
use crate::policy::certificate::Owner;
use crate::policy::claims::Claims;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the request offers as a credential.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    pub authorization: HeaderValue<'a>,
    pub api_key: HeaderValue<'a>,
    /// Whom the client certificate stands for, where those name principals; an error where it may not call.
    pub certificate: Result<Option<Owner<'a>>, Fault>,
    /// The query has a parameter `access_token` (RFC 6750 section 2.3), which MCP forbids.
    pub in_query: bool,
}

/// The one credential that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered<'a> {
    Nothing,
    Key(&'a [u8]),
    Token(&'a [u8]),
    Certificate(Owner<'a>),
}

/// Who calls, as a credential shows it.
#[derive(Debug)]
pub struct Caller {
    pub name: Arc<str>,
    pub roles: Vec<Box<str>>,
    /// Empty: there is one tenant.
    pub tenant: Box<str>,
    /// Who acts for the principal (RFC 8693 section 4.1); empty: it acts itself.
    pub actor: Box<str>,
    pub scopes: Vec<Box<str>>,
    pub claims: Claims,
    /// Seconds since the Unix epoch from which on the credential is worth nothing; `u64::MAX`: never.
    pub expires_unix: u64,
    pub origin: Origin,
}

/// Where a caller's identity is from.
#[derive(Clone, Debug)]
pub enum Origin {
    Anonymous,
    Key(Arc<KeyEntry>),
    Token {
        /// Index into `identity.issuers` of the plan that the caller was made with.
        issuer: usize,
        reach: Reach,
    },
    Certificate,
}

/// At which endpoints a token may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Everywhere,
    /// `/mcp/NAME` of these names.
    Endpoints(Vec<Box<str>>),
}

const MISSING: Fault = Fault::new(
    Kind::Unauthenticated,
    "This gateway needs a credential; send an API key or an access token as `Authorization: Bearer …`.",
);
const WRONG: Fault = Fault::new(
    Kind::Unauthenticated,
    "The API key is not valid here: unknown, revoked or expired; ask the operator for a new one.",
);
const TWICE: Fault =
    Fault::new(Kind::Unauthenticated, "More than one credential was sent; send exactly one.");
const SCHEME: Fault =
    Fault::new(Kind::Unauthenticated, "Only the Bearer scheme is accepted; send `Authorization: Bearer …`.");
const IN_QUERY: Fault = Fault::new(
    Kind::Unauthenticated,
    "A token in the query is refused, as logs keep it; send it as `Authorization: Bearer …`, and get a new one.",
);
/// The audience is another one.
pub const ELSEWHERE: Fault = Fault::new(
    Kind::Unauthenticated,
    "The access token is for another resource than this endpoint; ask for one with this endpoint as `resource`.",
);

/// The credential of a request; `Nothing` where nobody has to say who they are, whatever was sent.
///
/// # Errors
/// `Unauthenticated` where there is more than one, or one of another scheme, or one in the query.
pub fn offered<'a>(identity: &Identity, presented: &Presented<'a>) -> Result<Offered<'a>, Fault> {
    if !identity.is_configured() {
        // Credentials mean nothing here, and they are never forwarded.
        return Ok(Offered::Nothing);
    }
    if presented.in_query {
        return Err(IN_QUERY);
    }
    match (presented.authorization, presented.api_key) {
        (HeaderValue::Missing, HeaderValue::Missing) => Ok(match presented.certificate? {
            Some(owner) if identity.mtls.is_some() => Offered::Certificate(owner),
            _ => Offered::Nothing,
        }),
        (HeaderValue::One(value), HeaderValue::Missing) => {
            let credential = bearer(value)?;
            let is_key = credential.starts_with(keys::KEY_PREFIX.as_bytes()) || identity.issuers.is_empty();
            Ok(if is_key { Offered::Key(credential) } else { Offered::Token(credential) })
        }
        (HeaderValue::Missing, HeaderValue::One(key)) => Ok(Offered::Key(key)),
        _ => Err(TWICE),
    }
}

impl Caller {
    /// A caller without a credential, where the configuration has a name for it.
    ///
    /// # Errors
    /// `Unauthenticated` where it has none.
    pub fn anonymous(identity: &Identity) -> Result<Self, Fault> {
        let name = identity.anonymous.clone().ok_or(MISSING)?;
        Ok(Self::new(name, Origin::Anonymous))
    }

    /// The caller with this API key. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// `Unauthenticated` where the key is unknown, revoked or expired; never anonymous instead.
    pub fn of_key(ring: &KeyRing, key: &[u8], now: u64) -> Result<Self, Fault> {
        let entry = ring.find(&keys::hash(key)).filter(|entry| now < entry.expires_unix).ok_or(WRONG)?;
        let caller = Self::new(Arc::clone(&entry.principal), Origin::Key(Arc::clone(entry)));
        Ok(Self { roles: entry.roles.clone(), expires_unix: entry.expires_unix, ..caller })
    }

    pub fn of_certificate(principal: &str) -> Self {
        Self::new(principal.into(), Origin::Certificate)
    }

    pub(super) fn new(name: Arc<str>, origin: Origin) -> Self {
        Self {
            name,
            roles: Vec::new(),
            tenant: Box::default(),
            actor: Box::default(),
            scopes: Vec::new(),
            claims: Claims::default(),
            expires_unix: u64::MAX,
            origin,
        }
    }

    /// Whether the key that the caller was made of is among these. For once in a while: it looks at all of them.
    ///
    /// # Errors
    /// `Unauthenticated` where it was revoked since.
    pub fn is_still_among(&self, keys: &KeyRing) -> Result<(), Fault> {
        match &self.origin {
            Origin::Key(own) if keys.by_hash.values().all(|entry| entry.id != own.id) => Err(WRONG),
            Origin::Key(_) | Origin::Anonymous | Origin::Token { .. } | Origin::Certificate => Ok(()),
        }
    }

    /// Whether the caller, known from before, may still call, at the endpoint of this name.
    ///
    /// # Errors
    /// `Unauthenticated` where its credential has expired, or is for other endpoints.
    pub fn stands(&self, endpoint: &str, now: u64) -> Result<(), Fault> {
        if now >= self.expires_unix {
            return Err(match self.origin {
                Origin::Key(_) => WRONG,
                _ => EXPIRED,
            });
        }
        match &self.origin {
            Origin::Key(entry) => {
                // At most one store a second and key, so that workers do not fight for the line.
                if entry.last_used_unix.load(Ordering::Relaxed) < now {
                    entry.last_used_unix.store(now, Ordering::Relaxed);
                }
                Ok(())
            }
            Origin::Token { reach: Reach::Endpoints(names), .. } => {
                if names.iter().any(|name| **name == *endpoint) { Ok(()) } else { Err(ELSEWHERE) }
            }
            _ => Ok(()),
        }
    }
}

/// A token whose `exp` has passed.
pub const EXPIRED: Fault =
    Fault::new(Kind::Unauthenticated, "The access token has expired; get a new one and repeat the call.");

/// Whether the query of a request target has a parameter `access_token`, percent-encoded or not.
pub fn has_token(target: &[u8]) -> bool {
    let query = target.splitn(2, |byte| *byte == b'?').nth(1).unwrap_or_default();
    query.split(|byte| *byte == b'&').any(|parameter| {
        let name = parameter.split(|byte| *byte == b'=').next().unwrap_or_default();
        decoded(name).eq(*b"access_token")
    })
}

/// The bytes that a percent-encoded text stands for (RFC 3986 section 2.1), in lower case.
fn decoded(mut text: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    std::iter::from_fn(move || {
        let (byte, rest) = match text {
            [b'%', high, low, rest @ ..] => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => (high * 16 + low, rest),
                _ => (b'%', &text[1..]),
            },
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        text = rest;
        Some(byte.to_ascii_lowercase())
    })
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
    use std::path::PathBuf;

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

    fn values<'a>(values: &[&'a str]) -> HeaderValue<'a> {
        match values {
            [] => HeaderValue::Missing,
            [one] => HeaderValue::One(one.as_bytes()),
            _ => HeaderValue::Twice,
        }
    }

    fn check(
        anonymous: Option<&str>,
        authorization: &[&str],
        api_key: &[&str],
        expected: Result<&str, Fault>,
    ) {
        let identity = Identity {
            api_keys: Some(PathBuf::from("keys.yaml")),
            anonymous: anonymous.map(Into::into),
            ..Identity::default()
        };
        let presented = Presented {
            authorization: values(authorization),
            api_key: values(api_key),
            certificate: Ok(None),
            in_query: false,
        };
        let caller = offered(&identity, &presented).and_then(|offered| match offered {
            Offered::Nothing => Caller::anonymous(&identity),
            Offered::Key(key) => Caller::of_key(&ring(), key, 100),
            Offered::Token(_) | Offered::Certificate(_) => panic!("{offered:?}"),
        });
        let name = caller.as_ref().map(|caller| &*caller.name).map_err(|fault| *fault);
        assert_eq!(name, expected, "{authorization:?} {api_key:?}");
    }

    #[test]
    fn one_good_key_is_a_principal_and_everything_else_is_refused() {
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
    fn a_token_in_the_query_is_seen_however_it_is_written() {
        for target in
            ["/mcp/a?access_token=x", "/?a=b&Access_Token", "/?%61ccess%5ftoken=", "/?a&access_token=1&b"]
        {
            assert!(has_token(target.as_bytes()), "{target}");
        }
        for target in
            ["/access_token", "/?access_tokens=x", "/?a=access_token", "/?%6", "/?%zzaccess_token", "/?"]
        {
            assert!(!has_token(target.as_bytes()), "{target}");
        }
    }

    #[test]
    fn without_identity_everybody_is_the_anonymous_principal() {
        let identity = Identity { anonymous: Some("anonymous".into()), ..Identity::default() };
        let presented = Presented {
            authorization: HeaderValue::One(b"Bearer x"),
            api_key: HeaderValue::Missing,
            certificate: Ok(Some(Owner { principal: "spiffe://a/b", roles: &[], fingerprint: &[0; 32] })),
            in_query: true,
        };
        assert_eq!(offered(&identity, &presented), Ok(Offered::Nothing));
    }

    #[test]
    fn a_caller_stands_until_its_credential_expires_and_where_it_is_for() {
        let caller = |reach| Caller {
            expires_unix: 100,
            ..Caller::new("a".into(), Origin::Token { issuer: 0, reach })
        };
        assert_eq!(caller(Reach::Everywhere).stands("x", 99), Ok(()));
        assert_eq!(caller(Reach::Everywhere).stands("x", 100), Err(EXPIRED));
        let some = caller(Reach::Endpoints(vec!["x".into(), "y".into()]));
        assert_eq!((some.stands("y", 0), some.stands("z", 0)), (Ok(()), Err(ELSEWHERE)));
        let known = Caller::of_key(&ring(), b"good", 1).unwrap();
        assert_eq!(known.stands("x", 7), Ok(()));
        assert_eq!(ring().find(&keys::hash(b"good")).unwrap().last_used_unix.load(Ordering::Relaxed), 0);
        let Origin::Key(entry) = &known.origin else { panic!("{known:?}") };
        assert_eq!(entry.last_used_unix.load(Ordering::Relaxed), 7);
    }
}
