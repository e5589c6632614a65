//! What a plan says about who calls: issuers of tokens, client certificates, tenants, the anonymous principal.
//!
//! Not here: reading and checking it (`read_identity`, `compile_identity`), and verifying anything (`policy`).

use crate::config::expression::Expression;
use crate::config::limits;
use rustls::ClientConfig;
use std::fmt::{self, Debug, Formatter};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Identity {
    pub api_keys: Option<PathBuf>,
    /// In the order of the file; no two have the same `issuer`.
    pub issuers: Vec<Arc<Issuer>>,
    pub mtls: Option<Mtls>,
    /// The principal of a caller without credentials; None: such a caller is refused.
    pub anonymous: Option<Arc<str>>,
    /// The caller's tenant, from its claims and roles; None: there is one tenant.
    pub tenant: Option<Expression>,
}

impl Identity {
    /// Whether callers have to say who they are. Then credentials are looked at, wherever a caller comes from.
    pub fn is_configured(&self) -> bool {
        self.api_keys.is_some() || !self.issuers.is_empty() || self.mtls.is_some()
    }
}

/// Who signs or vouches for access tokens, and how their claims are read.
#[derive(Debug)]
pub struct Issuer {
    /// Exactly as `iss` says it (RFC 7519 section 4.1.1).
    pub issuer: Box<str>,
    /// A token must be for one of these, or for `AUDIENCE/NAME` where it is used at `/mcp/NAME` (RFC 8707).
    pub audiences: Vec<Box<str>>,
    pub keys: KeySource,
    /// For tokens that are no JWT (RFC 7662).
    pub introspection: Option<Introspection>,
    /// How its services prove who they are; None: by an authority of the system's.
    pub tls: Option<Arc<ClientConfig>>,
    /// The claim that names the principal; `sub` where nothing is said.
    pub principal: ClaimPath,
    pub roles: Option<ClaimPath>,
    /// The claim that names who acts for the principal (RFC 8693 section 4.1); `act.sub` where nothing is said.
    pub act: ClaimPath,
    /// How long keys are used that could not be fetched again.
    pub max_stale_ms: u64,
}

/// Where the keys of an issuer are (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    Url(Box<str>),
    File(PathBuf),
    /// OpenID Connect Discovery 1.0 section 4, then RFC 8414.
    Discovery,
    /// Only by introspection.
    None,
}

#[derive(Debug)]
pub struct Introspection {
    pub url: Box<str>,
    pub client_id: Box<str>,
    pub secret: Secret,
}

/// How client certificates name callers.
#[derive(Debug, PartialEq, Eq)]
pub struct Mtls {
    pub principal: MtlsPrincipal,
    /// None: certificates say nothing of roles.
    pub roles: Option<MtlsRoles>,
    /// Those whose workloads may call (SPIFFE ID section 2.1); empty: whoever a client authority vouches for.
    pub trust_domains: Vec<Box<str>>,
}

/// What of a client certificate is the principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtlsPrincipal {
    /// Its only URI among the subject's alternative names, as SPIFFE has it.
    SanUri,
    Subject,
}

/// What of a client certificate are the roles of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtlsRoles {
    /// The organizational units of its subject (RFC 4519 section 2.20).
    Units,
}

/// What a principal's name is made of, as a message tells it.
pub const PRINCIPAL_CURE: &str =
    "It has 1 to 128 bytes: letters, digits, spaces, and visible ASCII characters.";
const _: () = assert!(limits::PRINCIPAL_BYTES_MAX == 128);

/// Whether this can be the name of a principal. Wider than the other names of a config, because issuers and authorities
/// choose them (`auth0|123`, `CN=agent-7,O=Example`, `Zoë`): letters and digits of all scripts, printable ASCII, spaces.
/// Nothing that is invisible, or changes how the text around it is shown.
pub fn is_principal(text: &str) -> bool {
    let is_shown = |letter: char| letter == ' ' || letter.is_ascii_graphic() || letter.is_alphanumeric();
    (1..=limits::PRINCIPAL_BYTES_MAX).contains(&text.len()) && text.chars().all(is_shown)
}

/// The way to a claim, `act.sub`. A claim whose own name has dots is found by its whole name first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(pub Box<str>);

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Box<str>);

impl Debug for Secret {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}
