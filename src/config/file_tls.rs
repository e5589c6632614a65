//! What the operator writes about TLS: of listeners, of upstreams, and client certificates as identity.
//!
//! Not here: what is in the files (`tls`, `tls_server`). Doc comments of this file are the texts of the JSON Schema.

use crate::config::identity::MtlsPrincipal;
use crate::config::identity::MtlsRoles;
use crate::config::reader::Located;
use crate::config::schema;
use schemars::JsonSchema;

/// Where clients connect.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub address: Located<String>,
    #[schemars(with = "Option<ListenerTls>")]
    pub tls: Option<Located<ListenerTls>>,
}

/// TLS 1.2 and 1.3 on a listener. Files are PEM, relative to this one; a changed file is used for new connections.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    /// Where no other certificate bears the name that a client asks for.
    #[schemars(flatten)]
    pub default: Certificate,
    /// Further certificates, chosen by the names in them.
    #[schemars(with = "Option<Vec<Certificate>>")]
    pub certificates: Vec<Certificate>,
    /// Authorities that vouch for clients: a client needs a certificate of one of them.
    #[schemars(with = "Option<String>")]
    pub client_ca: Option<Located<String>>,
    /// Revoked client certificates, with a list of every authority of a client's chain.
    #[schemars(with = "Option<String>")]
    pub crl: Option<Located<String>>,
}

/// A certificate and its key.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// The certificate, and after it those that lead to its authority.
    pub cert: Located<String>,
    /// Its private key.
    pub key: Located<String>,
}

/// TLS to a server whose `url` is `https://`. Files are PEM, relative to this one.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// The authorities that may vouch for the server, instead of the system's.
    pub ca: Option<Located<String>>,
    /// The certificate that the gateway shows to the server.
    #[schemars(flatten)]
    pub own: Option<Certificate>,
    /// The name that its certificate must carry, where it is not the host of `url`.
    pub server_name: Option<Located<String>>,
}

/// Client certificates as identity, on listeners that have a `clientCa`.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mtls {
    /// What of the certificate is the principal: the only URI of its subject alternative name (SPIFFE), or its subject.
    #[schemars(with = "schema::MtlsPrincipal")]
    pub principal: MtlsPrincipal,
    /// What of the certificate are the roles: each organizational unit (OU) of its subject. Default: it has none.
    #[schemars(with = "Option<schema::MtlsRoles>")]
    pub roles: Option<MtlsRoles>,
    /// SPIFFE trust domains whose workloads may call: `[corp.example]`. Default: whoever a `clientCa` vouches for.
    #[schemars(with = "Option<Vec<String>>")]
    pub trust_domains: Vec<Located<String>>,
}
