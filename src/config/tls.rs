//! TLS to upstreams: rustls configurations, built at load so that a bad CA is a located problem.
//!
//! Not here: connections. One provider of cryptography, aws-lc; no way to turn verification off.

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;

/// The system's certificate authorities, or Mozilla's where the system has none.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// The authorities of a PEM file.
///
/// # Errors
/// What is wrong with the file, as the end of a sentence.
pub fn roots_of_pem(pem: &[u8]) -> Result<RootCertStore, &'static str> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "it is not a valid PEM file")?;
        roots.add(certificate).map_err(|_| "a certificate in it cannot be used as an authority")?;
    }
    if roots.is_empty() {
        Err("there is no certificate in it (`-----BEGIN CERTIFICATE-----`)")
    } else {
        Ok(roots)
    }
}

/// HTTP/1.1 over TLS 1.2 or 1.3, the server verified against `roots`.
///
/// # Errors
/// Where the provider lacks the protocol versions: a build without them.
pub fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_needs_authorities() {
        assert!(!system_roots().is_empty());
        assert!(client(system_roots()).is_ok());
        assert!(roots_of_pem(b"").is_err());
        assert!(roots_of_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
        assert!(roots_of_pem(b"-----BEGIN CERTIFICATE-----\n!!!\n").is_err());
    }
}
