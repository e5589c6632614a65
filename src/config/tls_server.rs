//! TLS on a listener: which certificate a client is shown, whether it needs one, sessions that are resumed.
//!
//! Not here: reading files (`compile_tls`) and connections (`edge::tls`).

use crate::config::tls;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::ClientHello;
use rustls::server::NoServerSessionStorage;
use rustls::server::ResolvesServerCert;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// TLS of one listener, made ready.
pub struct ListenerTls {
    pub config: Arc<ServerConfig>,
    /// SHA-256 over all that it was made of: equal ones are one, so that a reload ends no session.
    pub content: [u8; 32],
}

/// Never a key.
impl fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerTls").finish_non_exhaustive()
    }
}

/// Who vouches for clients, and what they took back.
pub struct ClientTrust {
    pub roots: RootCertStore,
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
}

/// # Errors
/// Where the authorities, their lists or the provider cannot be used.
pub fn config(certificates: Certificates, clients: Option<ClientTrust>) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ClientTrust { roots, revoked }) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider())
                .with_crls(revoked)
                // A list that was not renewed may lack the newest: nobody is let in by it.
                .enforce_revocation_expiration();
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![tls::HTTP_2.to_vec(), tls::HTTP_1_1.to_vec()];
    // Tickets of this listener alone: a resumed session is not verified again, so it must not come from a listener
    // that asks for no certificate, or for that of another authority, or knew fewer revoked ones.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
    // Sessions live in tickets, with the client: nothing is shared between workers.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// The certificates of a listener, by name.
#[derive(Debug)]
pub struct Certificates {
    default: Arc<CertifiedKey>,
    /// Lower case, `*.` for any one label (RFC 9525 section 6.3). Several where they differ in their kind of key.
    by_name: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    pub fn new(default: CertifiedKey, more: Vec<CertifiedKey>) -> Self {
        let default = Arc::new(default);
        let mut by_name: HashMap<Box<str>, Vec<_>> = HashMap::new();
        for certificate in std::iter::once(Arc::clone(&default)).chain(more.into_iter().map(Arc::new)) {
            let parsed = certificate.cert.first().and_then(|own| webpki::EndEntityCert::try_from(own).ok());
            let names = parsed.iter().flat_map(|parsed| parsed.valid_dns_names());
            for name in names.map(str::to_ascii_lowercase) {
                by_name.entry(name.into()).or_default().push(Arc::clone(&certificate));
            }
        }
        Self { default, by_name }
    }

    /// For a name that a client asks for: one of that very name, one of `*.` and its rest, the default; of a kind that
    /// the client understands where there is one.
    fn choose(&self, name: Option<&str>, fits: impl Fn(&CertifiedKey) -> bool) -> &Arc<CertifiedKey> {
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let named = self.by_name.get(&*name).into_iter();
        let named = named.chain(wildcard.and_then(|wildcard| self.by_name.get(&*wildcard)));
        named.flatten().find(|certificate| fits(certificate)).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let fits = |certificate: &CertifiedKey| certificate.key.choose_scheme(schemes).is_some();
        Some(Arc::clone(self.choose(hello.server_name(), fits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(names: &[&str]) -> CertifiedKey {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        tls::certified(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn a_certificate_is_chosen_by_its_names() {
        let more = vec![
            certified(&["b.example", "Upper.example"]),
            certified(&["*.x.example"]),
            certified(&["b.example"]),
        ];
        let kept: Vec<_> = more.iter().map(|one| one.cert.clone()).collect();
        let certificates = Certificates::new(certified(&["a.example"]), more);
        let check = |name: Option<&str>, fits: &dyn Fn(&CertifiedKey) -> bool, expected: Option<usize>| {
            let chosen = certificates.choose(name, fits);
            let place = kept.iter().position(|chain| *chain == chosen.cert);
            assert_eq!(place, expected, "{name:?}");
        };
        let any: &dyn Fn(&CertifiedKey) -> bool = &|_| true;
        check(None, any, None);
        check(Some("a.example"), any, None);
        check(Some("b.example"), any, Some(0));
        check(Some("B.EXAMPLE"), any, Some(0));
        check(Some("upper.example"), any, Some(0));
        check(Some("c.x.example"), any, Some(1));
        check(Some("c.b.x.example"), any, None);
        check(Some("x.example"), any, None);
        check(Some("other"), any, None);
        // The first of that name is of a kind that the client does not understand, or all are.
        let first = kept[0].clone();
        check(Some("b.example"), &|one| one.cert != first, Some(2));
        check(Some("b.example"), &|_| false, None);
    }
}
