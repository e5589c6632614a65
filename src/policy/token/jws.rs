//! The compact form of a signed token (RFC 7515 section 7.1), read without believing a word of it.
//!
//! Not here: other forms, encrypted tokens, and what the claims say. What a header offers to help with (`jku`, `jwk`,
//! `x5u`, `x5c`) is not looked at: keys come from the configuration alone (RFC 8725 section 3.10).

use crate::base::base64url;
use crate::base::fault::Fault;
use crate::policy::token::ALGORITHM;
use crate::policy::token::EXTENSION;
use crate::policy::token::MALFORMED;
use crate::policy::token::TYPE;
use crate::policy::token::json;
use crate::policy::token::keys;
use crate::policy::token::keys::Algorithm;
use serde_json::Map;
use serde_json::Value;

/// The three parts, still encoded.
pub(super) struct Parts<'a> {
    header: &'a [u8],
    claims: &'a [u8],
    signature: &'a [u8],
    /// Header, dot and claims: what is signed.
    signed: &'a [u8],
}

pub(super) struct Jws<'a> {
    pub(super) algorithm: Algorithm,
    /// Empty: none is named.
    pub(super) kid: Box<str>,
    /// `typ` is `JOSE`, which says nothing of the kind of token: only JWT-SVIDs may (SPIFFE JWT-SVID section 2.3).
    pub(super) is_jose: bool,
    pub(super) claims: Map<String, Value>,
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// None: there are not three.
    pub(super) fn of(token: &'a [u8]) -> Option<Self> {
        let mut parts = token.split(|byte| *byte == b'.');
        let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let signed = token.get(..header.len() + 1 + claims.len())?;
        parts.next().is_none().then_some(Self { header, claims, signature, signed })
    }
}

impl<'a> Jws<'a> {
    /// # Errors
    /// Where a part is not canonical base64url or no JSON object, a name stands twice, or the header asks for what is
    /// not accepted.
    pub(super) fn read(parts: &Parts<'a>) -> Result<Self, Fault> {
        let object = |part| base64url::decode(part).and_then(|bytes| json::object(&bytes)).ok_or(MALFORMED);
        let header = object(parts.header)?;
        if header.contains_key("crit") {
            // None is understood (RFC 7515 section 4.1.11).
            return Err(EXTENSION);
        }
        let algorithm =
            header.get("alg").and_then(Value::as_str).and_then(Algorithm::named).ok_or(ALGORITHM)?;
        let typ = json::optional(&header, "typ", Type::of).ok_or(TYPE)?;
        let kid =
            json::optional(&header, "kid", |kid| keys::is_key_id(kid).then_some(kid)).ok_or(MALFORMED)?;
        Ok(Self {
            algorithm,
            kid: kid.unwrap_or_default().into(),
            is_jose: typ == Some(Type::Jose),
            claims: object(parts.claims)?,
            signed: parts.signed,
            signature: base64url::decode(parts.signature).ok_or(MALFORMED)?,
        })
    }
}

/// What `typ` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    /// `JWT` or `at+jwt` (RFC 9068 section 2.1).
    AccessToken,
    Jose,
}

impl Type {
    /// As a media type with or without its prefix (RFC 7515 section 4.1.9). Tokens of other types are signed with the same
    /// keys and must not pass for these (RFC 8725 section 3.11).
    fn of(typ: &str) -> Option<Self> {
        let typ = typ.to_ascii_lowercase();
        match typ.strip_prefix("application/").unwrap_or(&typ) {
            "jwt" | "at+jwt" => Some(Self::AccessToken),
            "jose" => Some(Self::Jose),
            _ => None,
        }
    }
}
