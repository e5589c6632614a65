//! The TLS handshake with a client, and the polite end of one that fails.
//!
//! Not here: what a listener asks for (`config::tls_server`), time and numbers (the worker's), and what is spoken over
//! the session.

use crate::base::sys;
use crate::base::sys::Direction;
use crate::config::limits;
use crate::config::tls;
use crate::net::stream::Stream;
use crate::net::tls::FairSocket;
use crate::net::tls::Tls;
use monoio::io::poll_io::AsyncRead;
use monoio::io::poll_io::ReadBuf;
use rustls::HandshakeKind;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// What both sides agreed to speak (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Also where the client names none.
    Http1,
    Http2,
}

/// A client whose handshake is done.
pub struct Session {
    pub stream: Stream,
    pub protocol: Protocol,
    /// What the client proved to own, if the listener asks for it.
    pub certificate: Option<CertificateDer<'static>>,
    pub resumed: bool,
}

/// A handshake that failed.
pub struct Failed {
    pub error: io::Error,
    /// None where the runtime did not take it.
    socket: Option<FairSocket>,
}

/// Shakes hands. The watch ends it by shutting the socket down.
///
/// # Errors
/// Where the client left, broke the protocol, wants nothing that we have, or has no certificate that is good here.
pub async fn accept(stream: Stream, config: &Arc<ServerConfig>) -> Result<Session, Failed> {
    let lost = |error| Failed { error, socket: None };
    let socket = stream.into_tcp().ok_or_else(|| lost(io::ErrorKind::Unsupported.into()))?;
    let socket = socket.try_into_poll_io().map_err(|(error, _)| lost(error))?;
    let bounded = |session: &mut ServerConnection| session.set_buffer_limit(Some(limits::TLS_BUFFER_BYTES));
    let accept = TlsAcceptor::from(Arc::clone(config)).accept_with(FairSocket::from(socket), bounded);
    let session = match accept.into_fallible().await {
        Ok(session) => session,
        Err((error, socket)) => return Err(Failed { error, socket: Some(socket) }),
    };
    let (_, agreed) = session.get_ref();
    let protocol = match agreed.alpn_protocol() {
        // None but those of `config::tls_server::config` are ever agreed on.
        Some(tls::HTTP_2) => Protocol::Http2,
        Some(_) | None => Protocol::Http1,
    };
    let certificate = agreed.peer_certificates().and_then(|chain| chain.first()).cloned();
    let resumed = agreed.handshake_kind() == Some(HandshakeKind::Resumed);
    Ok(Session { stream: Stream::Tls(Tls::new(session)), protocol, certificate, resumed })
}

impl Failed {
    /// Reads and throws away what the client still sends, so that closing does not reset the alert that is on its way
    /// to it. The watch ends it.
    pub async fn linger(self) {
        let Some(mut socket) = self.socket else { return };
        sys::shut(socket.as_raw_fd(), Direction::Write);
        let mut scrap = [0; 512];
        let mut discarded = 0;
        while discarded < limits::LINGER_BYTES_MAX {
            let mut into = ReadBuf::new(&mut scrap);
            let read = poll_fn(|cx| Pin::new(&mut socket).poll_read(cx, &mut into)).await;
            match (read, into.filled().len()) {
                (Err(_), _) | (Ok(()), 0) => return,
                (Ok(()), count) => discarded += count,
            }
        }
    }
}
