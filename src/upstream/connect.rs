//! Opening a connection to one instance: TCP or Unix, then TLS where the endpoint asks for it.
//!
//! Not here: names (addresses are arguments) and time: the caller learns the descriptor before the wait
//! begins and shuts it down when the time is over, which ends the wait with an error.

use crate::base::sys;
use crate::config::limits;
use crate::config::plan::Endpoint;
use crate::config::plan::Transport;
use crate::net::runtime;
use crate::net::stream::Stream;
use crate::net::tls::FairSocket;
use crate::net::tls::Tls;
use monoio::net::TcpStream;
use monoio::net::UnixStream;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

/// Opens a connection to one address of an endpoint; none for a Unix socket. `began` is told the descriptor that is
/// waited for.
///
/// # Errors
/// The socket's; `InvalidData` where the TLS handshake failed.
pub async fn open(
    endpoint: &Endpoint,
    address: Option<SocketAddr>,
    tls: Option<&Arc<rustls::ClientConfig>>,
    began: impl Fn(RawFd),
) -> io::Result<Stream> {
    if let Transport::Unix(path) = &endpoint.transport {
        return unix(path, &began).await;
    }
    let Some(address) = address else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    };
    secure(tcp(address, &began).await?, endpoint, tls).await
}

async fn tcp(address: SocketAddr, began: &impl Fn(RawFd)) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    let stream = begin(socket, &address.into())?;
    let stream = Stream::from(TcpStream::from_std(stream.into())?);
    finish(&stream, began).await?;
    sys::no_delay(stream.fd());
    Ok(stream)
}

async fn unix(path: &Path, began: &impl Fn(RawFd)) -> io::Result<Stream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let stream = begin(socket, &socket2::SockAddr::unix(path)?)?;
    let stream = Stream::from(UnixStream::from_std(stream.into())?);
    finish(&stream, began).await?;
    Ok(stream)
}

/// Starts the connection without waiting. The runtime's own connect is not used: a dropped one leaks its
/// descriptor (monoio #318), and it cannot be shut down from outside.
fn begin(socket: Socket, address: &socket2::SockAddr) -> io::Result<Socket> {
    socket.set_nonblocking(true)?;
    match socket.connect(address) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        other => other?,
    }
    Ok(socket)
}

async fn finish(stream: &Stream, began: &impl Fn(RawFd)) -> io::Result<()> {
    began(stream.fd());
    stream.writable().await?;
    sys::connected(stream.fd())?;
    // The ring waits by itself only on blocking descriptors.
    sys::set_blocking(stream.fd(), runtime::current() == runtime::Driver::Uring)
}

/// What an operator can do about it.
pub fn cure(error: &io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => {
            "the server does not speak TLS there: write `http://` in `url`, or the port at which it does"
        }
        _ => "check that the server runs there and that `url` is right",
    }
}

async fn secure(
    stream: Stream,
    endpoint: &Endpoint,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> io::Result<Stream> {
    let (Some(name), Some(config)) = (&endpoint.tls_name, tls) else {
        stream.stay();
        return Ok(stream);
    };
    let Some(plain) = stream.into_tcp() else { return Err(io::ErrorKind::Unsupported.into()) };
    let plain = plain.try_into_poll_io().map_err(|(error, _)| error)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let bounded = |session: &mut rustls::ClientConnection| {
        session.set_buffer_limit(Some(limits::TLS_BUFFER_BYTES));
    };
    Ok(Stream::Tls(Tls::new(connector.connect_with(name.clone(), FairSocket::from(plain), bounded).await?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::InvalidMessage;

    #[test]
    fn a_server_without_tls_is_told_apart() {
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let broken = io::Error::new(io::ErrorKind::InvalidData, plain);
        assert!(cure(&broken).contains("write `http://`"));
        for other in [io::ErrorKind::ConnectionRefused.into(), io::Error::other(rustls::Error::DecryptError)]
        {
            assert!(cure(&other).contains("runs there"), "{other}");
        }
    }
}
