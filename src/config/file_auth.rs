//! What the operator writes about credentials of servers, as types: `auth` of a server, and `vault`.
//!
//! Not here: defaults, and which members go together (`compile_auth`). Doc comments of this file are the texts of the
//! JSON Schema.

use crate::config::problem::Place;
use crate::config::reader::Located;
use crate::config::schema;
use schemars::JsonSchema;

/// What the server is shown about the caller, or gets as a token. Which of the other members belong to it depends on
/// `kind`.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Auth {
    /// `headers`: claims of the caller; `signedJwt`: a statement about the caller, valid for a minute;
    /// `clientCredentials`: a token of the gateway; `tokenExchange`: a token on behalf of the caller (RFC 8693);
    /// `userOAuth`: a token that the caller consents to in a browser.
    #[schemars(with = "schema::AuthKind")]
    pub kind: Option<Kind>,
    /// The token endpoint of the token service.
    pub endpoint: Option<Located<String>>,
    /// Where users consent (`userOAuth`). Without it and `endpoint` the metadata of `issuer` names both.
    pub authorize: Option<Located<String>>,
    /// Where browsers come back to: this gateway's `/oauth/callback` by its public name (`userOAuth`).
    pub callback: Option<Located<String>>,
    /// Who signs (`signedJwt`; default `ringgate`), or who must have answered (`userOAuth`).
    pub issuer: Option<Located<String>>,
    /// The gateway's name at the token service. `tokenExchange` needs none where the service asks for none.
    pub client_id: Option<Located<String>>,
    /// Its password there.
    pub secret: Option<Located<String>>,
    /// For whom a token is. Default: the server's own URL where one is needed.
    pub audience: Option<Located<String>>,
    /// What a token may be used for.
    #[schemars(with = "Option<schema::Names>")]
    pub scopes: Vec<Located<String>>,
    /// PEM file with a private key of P-256, Ed25519 or RSA (`signedJwt`).
    pub key: Option<Located<String>>,
    /// `kid` of that key.
    pub key_id: Option<Located<String>>,
    /// Header fields, each with the claim that it carries: `{X-User: sub}` (`headers`).
    #[schemars(with = "Option<std::collections::BTreeMap<String, String>>")]
    pub claims: Vec<(Located<String>, Located<String>)>,
    /// Which members are written.
    #[schemars(skip)]
    pub written: Vec<(&'static str, Place)>,
    #[schemars(skip)]
    pub place: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ClientCredentials,
    Headers,
    SignedJwt,
    TokenExchange,
    UserOauth,
}

/// Where `${vault:PATH#FIELD}` in `headers` is looked up.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vault {
    /// Its address, `https://…`, without `/v1`.
    #[schemars(with = "String")]
    pub url: Option<Located<String>>,
    /// File with the token to use there, read anew whenever it is needed.
    #[schemars(with = "String")]
    pub token_file: Option<Located<String>>,
}
