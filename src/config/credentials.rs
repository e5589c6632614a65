//! What a plan says about the credentials that go to a server: where they come from, and in which fields they travel.
//!
//! Not here: reading and checking it (`read_auth`, `compile_auth`), obtaining a credential (`control`), and putting it
//! into a request (`worker`).

use crate::config::identity::ClaimPath;
use crate::config::identity::Secret;
use crate::config::signing_key::SigningKey;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq)]
pub struct Auth {
    pub method: Method,
    /// The fields that carry it, lower case: copies that a client sent are dropped.
    pub fields: Vec<Box<[u8]>>,
}

/// How the gateway shows a server who calls.
#[derive(Debug, PartialEq, Eq)]
pub enum Method {
    /// Claims of the caller as header fields.
    Headers(Vec<ClaimField>),
    /// A short-lived statement about the caller, signed by us.
    SignedJwt(Assertion),
    /// A token of the gateway itself (RFC 6749 section 4.4).
    ClientCredentials(TokenService),
    /// A token on behalf of the caller (RFC 8693).
    TokenExchange(TokenService),
    /// A token that the caller has consented to (RFC 6749 section 4.1, RFC 7636).
    UserOauth(Consent),
    /// Fields with `${vault:…}` in them.
    Vault(Vec<VaultField>),
}

impl Auth {
    /// Whether credentials are obtained with the token that the caller showed us.
    pub fn exchanges(&self) -> bool {
        matches!(self.method, Method::TokenExchange(_))
    }

    /// Whether a person, whoever acts for it, consents.
    pub fn is_consented(&self) -> bool {
        matches!(self.method, Method::UserOauth(_))
    }

    /// Whether all callers get the same credential.
    pub fn is_shared(&self) -> bool {
        matches!(self.method, Method::ClientCredentials(_) | Method::Vault(_))
    }
}

/// One claim as one field; left out for a caller without the claim.
#[derive(Debug, PartialEq, Eq)]
pub struct ClaimField {
    /// Lower case.
    pub name: Box<[u8]>,
    pub claim: ClaimPath,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Assertion {
    pub key: Arc<SigningKey>,
    pub key_id: Option<Box<str>>,
    /// `iss`
    pub issuer: Box<str>,
    /// `aud`: the server, as it is addressed.
    pub audience: Box<str>,
}

/// Where tokens are given out, and as whom we ask for them.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenService {
    pub endpoint: Box<str>,
    /// None: the service gives tokens to whoever asks (RFC 8693 section 2.1). There is one where a user consents.
    pub client_id: Option<Box<str>>,
    /// None without a `client_id`.
    pub secret: Option<Secret>,
    pub audience: Option<Box<str>>,
    /// The server, as it is addressed (RFC 8707 section 2); None for one on a Unix socket.
    pub resource: Option<Box<str>>,
    pub scopes: Vec<Box<str>>,
}

/// Where a user consents, and where the tokens that follow from it are given out.
#[derive(Debug, PartialEq, Eq)]
pub struct Consent {
    /// Its endpoint is empty where that is found.
    pub service: TokenService,
    /// RFC 6749 section 3.1. None: both endpoints are what the issuer's metadata says (RFC 8414).
    pub authorize: Option<Box<str>>,
    /// Where the user comes back to: our own `/oauth/callback`, as browsers reach it.
    pub callback: Box<str>,
    /// What `iss` must say when the user comes back (RFC 9207); None: it is not compared. There is one where there is no
    /// `authorize`.
    pub issuer: Option<Box<str>>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct VaultField {
    /// Lower case.
    pub name: Box<[u8]>,
    pub value: Vec<Piece>,
}

/// A piece of a value that is not known before it is needed.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// May be a secret: never printed.
    Text(Box<str>),
    Vault(VaultReference),
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("<hidden>"),
            Self::Vault(reference) => reference.fmt(f),
        }
    }
}

/// `${vault:PATH#FIELD}`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VaultReference {
    pub path: Box<str>,
    pub field: Box<str>,
}

/// Where secrets are kept: HashiCorp Vault, OpenBao, or what speaks like them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vault {
    /// Without a slash at its end.
    pub url: Box<str>,
    /// Read before each request, so that a renewed token is in use at once.
    pub token_file: PathBuf,
}
