//! What the operator writes about issuers of tokens, as types. Doc comments are the texts of the JSON Schema.
//!
//! Not here: defaults, meaning, and whether parts fit together (`compile_identity`).

use crate::config::expression::Expression;
use crate::config::problem::Place;
use crate::config::reader::Located;
use crate::config::schema;
use schemars::JsonSchema;

/// An issuer of access tokens: the fleet's identity provider.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    #[schemars(skip)]
    pub place: Option<Place>,
    /// As the tokens' `iss` says it: `https://idp.example`, or `spiffe://TRUST-DOMAIN` for JWT-SVIDs.
    #[schemars(with = "String")]
    pub issuer: Option<Located<String>>,
    /// What a token must be for: the URL of this gateway's `/mcp`. At `/mcp/NAME` a token for `URL/NAME` passes too.
    #[schemars(with = "Vec<String>")]
    pub audiences: Vec<Located<String>>,
    /// Where the issuer's keys are. Where nothing is said its metadata tells (OpenID Connect Discovery, RFC 8414).
    pub jwks: Option<Jwks>,
    /// For tokens that are no JWT (RFC 7662). Without `jwks` no JWT of this issuer passes.
    pub introspection: Option<Introspection>,
    /// TLS to whatever of this issuer is `https://`: metadata, keys, introspection.
    pub tls: Option<IssuerTls>,
    /// The claim that names the principal. Default sub.
    #[schemars(with = "Option<String>")]
    pub principal: Option<Located<String>>,
    /// The claim with the roles, a list or names between spaces. Default: there are none.
    #[schemars(with = "Option<String>")]
    pub roles: Option<Located<String>>,
    /// The claim that names who acts for the principal. Default act.sub.
    #[schemars(with = "Option<String>")]
    pub act: Option<Located<String>>,
    /// How long keys are used that cannot be fetched again. Default 1h.
    #[schemars(with = "Option<schema::Duration>")]
    pub max_stale: Option<u64>,
}

/// TLS to an issuer of tokens.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerTls {
    /// The authorities that may vouch for it, instead of the system's. A PEM file, relative to this one.
    #[schemars(with = "String")]
    pub ca: Located<String>,
}

/// Keys of an issuer (RFC 7517).
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwks {
    /// `https://…`; `http://` only to this machine.
    #[schemars(with = "Option<String>")]
    pub url: Option<Located<String>>,
    /// A file instead, relative to this one.
    #[schemars(with = "Option<String>")]
    pub file: Option<Located<String>>,
}

/// The service that knows opaque tokens.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Introspection {
    #[schemars(with = "String")]
    pub url: Option<Located<String>>,
    /// This gateway's name there.
    #[schemars(with = "String")]
    pub client_id: Option<Located<String>>,
    #[schemars(with = "String")]
    pub secret: Option<Located<String>>,
}

/// The tenant of a caller, from what is known of it alone.
#[derive(Debug)]
pub struct Tenant {
    pub place: Place,
    pub expression: Expression,
}
