//! The files that TLS needs, read and put together: for listeners, for upstreams.
//!
//! Not here: what rustls is told (`tls`, `tls_server`).

use crate::base::clock;
use crate::config::file_tls;
use crate::config::file_tls::Certificate;
use crate::config::limits;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::tls;
use crate::config::tls::Flaw;
use crate::config::tls_server;
use crate::config::tls_server::Certificates;
use crate::config::tls_server::ClientTrust;
use crate::config::tls_server::ListenerTls;
use aws_lc_rs::digest;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::sign::CertifiedKey;
use std::sync::Arc;

const CURE: &str = "It is a PEM file, relative to the config file.";

/// TLS of a listener; none where that is a problem.
pub fn listener(
    reader: &mut Reader<'_>,
    written: &Located<file_tls::ListenerTls>,
) -> Option<Arc<ListenerTls>> {
    let tls = &written.value;
    let mut files = Files::new(reader);
    // All of them before any is given up, so that one run finds every mistake.
    let default = files.certified(&tls.default);
    let more: Vec<_> = tls.certificates.iter().map(|one| files.certified(one)).collect();
    let roots = tls.client_ca.as_ref().map(|ca| files.roots(ca, "clientCa"));
    // Without `clientCa` it was reported already.
    let crl = tls.crl.as_ref().filter(|_| roots.is_some());
    let revoked = crl.map_or(Some(Vec::new()), |crl| files.revoked(crl));
    let clients = match roots {
        Some(roots) => Some(ClientTrust { roots: roots?, revoked: revoked? }),
        None => None,
    };
    let certificates = Certificates::new(default?, more.into_iter().collect::<Option<_>>()?);
    let content = files.content();
    match tls_server::config(certificates, clients) {
        Ok(config) => Some(Arc::new(ListenerTls { config, content })),
        Err(flaw) => {
            reader.problem(written.place, format!("`tls` cannot be used: {flaw}"), "");
            None
        }
    }
}

/// TLS to a server; none where that is a problem.
pub fn upstream(
    reader: &mut Reader<'_>,
    name: &Located<String>,
    written: Option<&Located<file_tls::Tls>>,
) -> Option<Arc<ClientConfig>> {
    let mut files = Files::new(reader);
    let (ca, own) = written.map_or((None, None), |tls| (tls.value.ca.as_ref(), tls.value.own.as_ref()));
    let roots = ca.map(|ca| files.roots(ca, "ca"));
    let own = own.map(|own| files.certified(own));
    let roots = match roots {
        Some(roots) => roots?,
        None => tls::system_roots(),
    };
    let own = match own {
        Some(own) => Some(own?),
        None => None,
    };
    tls::client(roots, own)
        .map_err(|error| reader.problem(name.place, format!("TLS cannot be used: {error}"), ""))
        .ok()
}

/// TLS to a service whose authority is not the system's; none where that is a problem.
pub fn service(reader: &mut Reader<'_>, ca: &Located<String>) -> Option<Arc<ClientConfig>> {
    let roots = Files::new(reader).roots(ca, "ca")?;
    tls::client(roots, None)
        .map_err(|error| reader.problem(ca.place, format!("TLS cannot be used: {error}"), ""))
        .ok()
}

/// Reads what TLS is made of, and takes note of the content.
struct Files<'r, 'a> {
    reader: &'r mut Reader<'a>,
    content: digest::Context,
}

impl<'r, 'a> Files<'r, 'a> {
    fn new(reader: &'r mut Reader<'a>) -> Self {
        Self { reader, content: digest::Context::new(&digest::SHA256) }
    }

    /// SHA-256 over all that was read.
    fn content(self) -> [u8; 32] {
        let mut content = [0; 32];
        content.copy_from_slice(self.content.finish().as_ref());
        content
    }

    fn bytes(&mut self, written: &Located<String>, key: &str, bytes_max: u64) -> Option<Vec<u8>> {
        let path = self.reader.path(&written.value);
        match self.reader.referenced(&path, bytes_max) {
            Ok(bytes) => {
                for part in [key.as_bytes(), &bytes] {
                    self.content.update(&part.len().to_be_bytes());
                    self.content.update(part);
                }
                Some(bytes)
            }
            Err(flaw) => self.unusable(written, key, &flaw),
        }
    }

    fn unusable<T>(&mut self, written: &Located<String>, key: &str, flaw: &str) -> Option<T> {
        self.reader.problem(written.place, format!("`{key}` cannot be used: {flaw}"), CURE);
        None
    }

    fn roots(&mut self, written: &Located<String>, key: &str) -> Option<RootCertStore> {
        let pem = self.bytes(written, key, limits::CA_BYTES_MAX)?;
        match tls::roots_of_pem(&pem) {
            Ok(roots) => Some(roots),
            Err(flaw) => self.unusable(written, key, flaw),
        }
    }

    /// Every list of a file, each a valid one.
    fn revoked(&mut self, written: &Located<String>) -> Option<Vec<CertificateRevocationListDer<'static>>> {
        let pem = self.bytes(written, "crl", limits::CRL_BYTES_MAX)?;
        match tls::lists_of_pem(&pem) {
            Ok(lists) => Some(lists),
            Err(flaw) => self.unusable(written, "crl", flaw),
        }
    }

    /// A certificate and its key. An expired one is a warning: peers refuse it, and it may be renewed any moment.
    fn certified(&mut self, written: &Certificate) -> Option<CertifiedKey> {
        let chain = self.bytes(&written.cert, "cert", limits::CERTIFICATE_BYTES_MAX);
        let key = self.bytes(&written.key, "key", limits::CERTIFICATE_BYTES_MAX);
        let certified = match tls::certified(&chain?, &key?) {
            Ok(certified) => certified,
            Err(Flaw::Certificate(flaw)) => return self.unusable(&written.cert, "cert", flaw),
            Err(Flaw::Key(flaw)) => return self.unusable(&written.key, "key", flaw),
        };
        let expires = certified.cert.first().and_then(|own| tls::expires_unix(own));
        let now = i64::try_from(clock::unix_nanos() / 1_000_000_000).unwrap_or(i64::MAX);
        if expires.is_some_and(|expires| expires < now) {
            let what = format!("the certificate {} has expired", written.cert.shown());
            self.reader.warn(written.cert.place, what, "Renew it: peers refuse it.");
        }
        Some(certified)
    }
}
