//! Certificates made for one test run, listeners that show them, and clients that speak TLS.
//!
//! Not here: what a gateway should make of them.

use super::client::Client;
use super::gateway::Builder;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateRevocationListParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::RevokedCertParams;
use rcgen::SanType;
use rcgen::SerialNumber;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::StreamOwned;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// The name in the certificates of gateways.
pub const GATEWAY: &str = "gw.example";

/// A certificate authority that nobody else trusts.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    pub chain: String,
    pub key: String,
    serial: u64,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // Two authorities of one name are one to a list of revoked certificates.
        params.distinguished_name.push(DnType::CommonName, format!("authority {}", next()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// What `tls: {ca}` and `tls: {clientCa}` of the gateway's config name.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Of a server that has these names.
    pub fn names(&self, names: &[&str]) -> Issued {
        self.issue(
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap(),
        )
    }

    /// Of an agent that has these URIs.
    pub fn uris(&self, uris: &[&str]) -> Issued {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        self.issue(params)
    }

    /// Of an agent of that organizational unit.
    pub fn member(&self, uri: &str, unit: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        self.issue(params)
    }

    /// Of an agent, no longer valid.
    pub fn expired(&self, uri: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Issued {
        let serial = next();
        params.distinguished_name.push(DnType::CommonName, format!("owner {serial}"));
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { chain: certificate.pem(), key: key.serialize_pem(), serial }
    }

    /// A list of revoked certificates, as PEM.
    pub fn revokes(&self, revoked: &[&Issued]) -> String {
        let revoked_certs = revoked.iter().map(|issued| RevokedCertParams {
            serial_number: SerialNumber::from(issued.serial),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: rcgen::date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    /// A server that proves to be `name`.
    pub fn server(&self, name: &str) -> Arc<ServerConfig> {
        let (chain, key) = self.names(&[name]).der();
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        Arc::new(builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap())
    }

    /// The same, which asks for a certificate of this authority.
    pub fn asking_server(&self, name: &str) -> Arc<ServerConfig> {
        let (chain, key) = self.names(&[name]).der();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider());
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_client_cert_verifier(verifier.build().unwrap());
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificate: &rcgen::Certificate = self.0.as_ref();
        roots.add(certificate.der().clone()).unwrap();
        roots
    }

    /// A client that trusts this authority and asks for `name`.
    pub fn client(&self, name: &str) -> Secure {
        self.client_with(name, rustls::ALL_VERSIONS, None)
    }

    /// The same with a certificate of its own.
    pub fn agent(&self, own: &Issued) -> Secure {
        self.client_with(GATEWAY, rustls::ALL_VERSIONS, Some(own))
    }

    pub fn client_with(
        &self,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Issued>,
    ) -> Secure {
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(self.roots());
        let mut config = match own.map(Issued::der) {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Secure { config: Arc::new(config), name: ServerName::try_from(name.to_owned()).unwrap() }
    }
}

/// A number that no other certificate has.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Issued {
    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).map(Result::unwrap).collect();
        (chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.der().0.remove(0)
    }
}

impl Builder {
    /// Writes `NAME.pem` and `NAME.key`, by a rename as tools that renew certificates do.
    pub fn certificate(&self, name: &str, issued: &Issued) -> (PathBuf, PathBuf) {
        let place = |extension: &str, text: &str| {
            let next = self.folder.file("next", text);
            let path = self.folder.path().join(format!("{name}.{extension}"));
            std::fs::rename(next, &path).unwrap();
            path
        };
        (place("pem", &issued.chain), place("key", &issued.key))
    }

    /// Listens with TLS, by a certificate of that authority in `gw.pem` and `gw.key`; `more` are further members of
    /// `tls`. Clients of the gateway trust it from now on.
    #[must_use]
    pub fn tls(mut self, authority: &Authority, more: &str) -> Self {
        self.certificate("gw", &authority.names(&[GATEWAY]));
        self.tls = Some(format!("{{cert: gw.pem, key: gw.key{more}}}"));
        self.via = Some(authority.client(GATEWAY));
        self
    }
}

/// How a client shakes hands. Clones share their sessions.
#[derive(Clone, Debug)]
pub struct Secure {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

impl Secure {
    /// The same, which offers these protocols (ALPN).
    #[must_use]
    pub fn speaking(&self, protocols: &[&[u8]]) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self { config: Arc::new(config), name: self.name.clone() }
    }

    /// A session, its handshake done.
    ///
    /// # Errors
    /// Why there is none; an alert of the peer is `InvalidData`.
    pub fn try_connect(&self, address: SocketAddr) -> io::Result<Session> {
        self.over(TcpStream::connect_timeout(&address, super::PATIENCE)?)
    }

    pub fn over(&self, mut tcp: TcpStream) -> io::Result<Session> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(super::PATIENCE))?;
        tcp.set_write_timeout(Some(super::PATIENCE))?;
        let mut session = ClientConnection::new(Arc::clone(&self.config), self.name.clone()).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Session(Box::new(StreamOwned::new(session, tcp))))
    }

    /// Shakes hands and says what a plain request is answered: with TLS 1.3 a client has done its part before the
    /// server refuses its certificate.
    pub fn try_talk(&self, address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut session = self.try_connect(address)?;
        session.0.write_all(request)?;
        let mut answer = vec![0; 4096];
        let count = session.0.read(&mut answer)?;
        answer.truncate(count);
        Ok(answer)
    }

    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> Client {
        Client::secured(self.try_connect(address).unwrap())
    }
}

/// A TLS session of a client.
pub struct Session(Box<StreamOwned<ClientConnection, TcpStream>>);

impl Session {
    pub fn tcp(&self) -> &TcpStream {
        &self.0.sock
    }

    pub fn tls(&mut self) -> &mut ClientConnection {
        &mut self.0.conn
    }

    /// The certificate that the server showed.
    pub fn shown(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone()
    }

    pub fn is_resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Says that nothing more comes.
    pub fn end(&mut self) {
        self.0.conn.send_close_notify();
        let _ = self.0.flush();
    }
}

impl Read for Session {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Session {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
