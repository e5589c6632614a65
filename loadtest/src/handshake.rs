//! TLS handshakes as a load: each on a connection of its own, one cipher and one curve, so that every target does
//! the same work. For `compare --handshakes`.
//! Not here: the targets' configuration (`target`), and calls over TLS.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::HandshakeKind;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;

use crate::ring;

/// The name in the certificate of every target.
const NAME: &str = "target.example";
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Handshakes {
    /// Certificate, signature and key exchange each time
    Full,
    /// By the ticket of the handshake before
    Resumed,
}

/// What one thread did.
pub(crate) struct Done {
    pub(crate) handshakes: u64,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    /// Nanoseconds each, unsorted.
    pub(crate) times: Vec<u64>,
}

/// Writes `cert.pem` and `key.pem` (ECDSA, P-256) for all targets.
///
/// # Errors
/// Where the directory cannot be written.
pub(crate) fn certificate(directory: &Path) -> anyhow::Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
    fs::write(directory.join("cert.pem"), certificate.pem())?;
    fs::write(directory.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

/// TLS 1.3, `TLS_AES_128_GCM_SHA256`, X25519.
fn config(directory: &Path, kind: Handshakes) -> anyhow::Result<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("cert.pem"))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if kind == Handshakes::Full {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// One handshake after the other until the time is over.
///
/// # Errors
/// Where the certificate of [`certificate`] is not there.
pub(crate) fn run(
    address: SocketAddr,
    directory: &Path,
    kind: Handshakes,
    time: Duration,
) -> anyhow::Result<Done> {
    let config = config(directory, kind)?;
    let mut done = Done { handshakes: 0, errors: BTreeMap::new(), times: Vec::new() };
    if kind == Handshakes::Resumed {
        // The first one brings the ticket of the second.
        one(address, &config).context("the first handshake")?;
    }
    let end = ring::monotonic_nanos() + u64::try_from(time.as_nanos())?;
    loop {
        let start = ring::monotonic_nanos();
        if start >= end || ring::stopped() {
            return Ok(done);
        }
        match one(address, &config) {
            Ok(how) if (how == HandshakeKind::Resumed) == (kind == Handshakes::Resumed) => {
                done.handshakes += 1;
                done.times.push(ring::monotonic_nanos() - start);
            }
            Ok(_) => *done.errors.entry("another kind of handshake").or_default() += 1,
            Err(_) => *done.errors.entry("no handshake").or_default() += 1,
        }
    }
}

fn one(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<HandshakeKind> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    // Tickets follow the handshake; both kinds take them, so that both end alike.
    while session.tls13_tickets_received() == 0 {
        session.read_tls(&mut tcp)?;
        session.process_new_packets().map_err(io::Error::other)?;
    }
    session.send_close_notify();
    session.write_tls(&mut tcp)?;
    session.handshake_kind().ok_or_else(|| io::Error::other("no handshake"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_one_that_the_client_takes() {
        let directory = std::env::temp_dir().join(format!("loadtest-handshake-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        certificate(&directory).unwrap();
        for kind in [Handshakes::Full, Handshakes::Resumed] {
            let config = config(&directory, kind).unwrap();
            assert_eq!(config.crypto_provider().kx_groups.len(), 1);
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
