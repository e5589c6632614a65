//! What is in PEM files, and TLS to upstreams: built at load, so that a bad file is a located problem.
//!
//! Not here: listeners (`tls_server`) and connections. One provider of cryptography, aws-lc; no way to turn
//! verification off.

use crate::base::der;
use crate::base::der::Elements;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use rustls::sign::SingleCertAndKey;
use std::sync::Arc;

/// The protocol's name in a handshake (ALPN, RFC 7301).
pub const HTTP_1_1: &[u8] = b"http/1.1";
/// RFC 9113 section 3.1. Of listeners only.
pub const HTTP_2: &[u8] = b"h2";

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

/// The lists of revoked certificates of a PEM file.
///
/// # Errors
/// What is wrong with the file, as the end of a sentence.
pub fn lists_of_pem(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, &'static str> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "it is not a valid PEM file")?;
    if lists.is_empty() {
        return Err("there is no list in it (`-----BEGIN X509 CRL-----`)");
    }
    if lists.iter().any(|list| webpki::BorrowedCertRevocationList::from_der(list).is_err()) {
        return Err("a list in it cannot be read");
    }
    Ok(lists)
}

/// The provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What is wrong with a certificate or its key, as the end of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    Certificate(&'static str),
    Key(&'static str),
}

/// A certificate, those that lead from it to its authority, and its key, from two PEM files.
///
/// # Errors
/// What is wrong, and with which of them.
pub fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, Flaw> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|_| Flaw::Certificate("it is not a valid PEM file"))?;
    let Some(own) = chain.first() else {
        return Err(Flaw::Certificate("there is no certificate in it (`-----BEGIN CERTIFICATE-----`)"));
    };
    if webpki::EndEntityCert::try_from(own).is_err() {
        return Err(Flaw::Certificate("its first certificate cannot be read"));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| Flaw::Key("there is no private key in it (`-----BEGIN PRIVATE KEY-----`)"))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Flaw::Key("it is not the key of the certificate"),
        _ => Flaw::Key("its private key cannot be used; RSA, ECDSA and Ed25519 keys can"),
    })
}

/// Until when a certificate is valid, in seconds since the Unix epoch (RFC 5280 section 4.1.2.5).
pub fn expires_unix(certificate: &[u8]) -> Option<i64> {
    const VERSION: u8 = 0xa0;
    let mut fields =
        Elements(Elements(Elements(certificate).next_of(der::SEQUENCE)?).next_of(der::SEQUENCE)?);
    // Serial number, algorithm and issuer, and a version before them in every certificate of today.
    let skipped = if fields.next()?.tag == VERSION { 3 } else { 2 };
    let mut validity = Elements(fields.nth(skipped)?.of(der::SEQUENCE)?);
    let end = validity.nth(1)?;
    let text = std::str::from_utf8(end.content).ok()?.strip_suffix('Z')?;
    let (years, rest) = text.split_at_checked(if end.tag == der::UTC_TIME { 2 } else { 4 })?;
    let mut year: i16 = years.parse().ok()?;
    if end.tag == der::UTC_TIME {
        year += if year < 50 { 2000 } else { 1900 };
    }
    let part = |at: usize| rest.get(2 * at..2 * at + 2)?.parse::<i8>().ok();
    let end = jiff::civil::DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    Some(end.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// HTTP/1.1 over TLS 1.2 or 1.3, the server verified against `roots`, which may ask for our own certificate.
///
/// # Errors
/// Where the provider lacks the protocol versions: a build without them.
pub fn client(roots: RootCertStore, own: Option<CertifiedKey>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_needs_authorities() {
        assert!(!system_roots().is_empty());
        assert!(client(system_roots(), None).is_ok());
        assert!(roots_of_pem(b"").is_err());
        assert!(roots_of_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
        assert!(roots_of_pem(b"-----BEGIN CERTIFICATE-----\n!!!\n").is_err());
    }

    fn pair(until: (i32, u8, u8)) -> (String, String, Vec<u8>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["gw.example".into()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem(), certificate.der().to_vec())
    }

    #[test]
    fn a_key_belongs_to_its_certificate() {
        let (chain, key, _) = pair((2040, 1, 1));
        let (_, other, _) = pair((2040, 1, 1));
        let check = |chain: &str, key: &str, expected: Option<Flaw>| {
            let found = certified(chain.as_bytes(), key.as_bytes()).err();
            assert_eq!(found, expected);
        };
        check(&chain, &key, None);
        check(&format!("{chain}{chain}"), &format!("{chain}{key}"), None);
        check(&chain, &other, Some(Flaw::Key("it is not the key of the certificate")));
        let flaw = |chain: &str, key: &str| certified(chain.as_bytes(), key.as_bytes()).err();
        assert!(matches!(flaw("", &key), Some(Flaw::Certificate(_))));
        assert!(matches!(flaw(&key, &key), Some(Flaw::Certificate(_))));
        assert!(matches!(flaw(&chain[..chain.len() / 2], &key), Some(Flaw::Certificate(_))));
        assert!(matches!(flaw(&chain, &chain), Some(Flaw::Key(_))));
        let empty = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert!(matches!(flaw(empty, &key), Some(Flaw::Certificate(_))));
        let broken = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        assert!(matches!(flaw(&chain, broken), Some(Flaw::Key(_))));
    }

    #[test]
    fn the_end_of_a_certificate_is_found() {
        // Before 2050 the year has two digits, from then on four.
        assert_eq!(expires_unix(&pair((2040, 2, 29)).2), Some(2_214_086_400));
        assert_eq!(expires_unix(&pair((2050, 1, 1)).2), Some(2_524_608_000));
        assert_eq!(expires_unix(&pair((1999, 12, 31)).2), Some(946_598_400));
        assert_eq!(expires_unix(b"0"), None);
    }
}
