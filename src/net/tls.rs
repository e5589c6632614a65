//! `Tls`: one TLS session over a socket, with a client or with an upstream.
//!
//! Not here: handshakes (`edge::tls`, `upstream::connect`). The session holds what came and is not decrypted yet, and
//! what is encrypted and has not left; how much of the latter is `limits::TLS_BUFFER_BYTES`, set at the handshake.

use crate::base::sys;
use crate::base::sys::Direction;
use monoio::net::tcp::stream_poll::TcpStreamPoll;
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use tokio_rustls::TlsStream;

/// tokio's I/O traits as the runtime re-exports them; no tokio runtime is involved.
use monoio::io::poll_io::AsyncBufRead;
use monoio::io::poll_io::AsyncRead;
use monoio::io::poll_io::AsyncWrite;
use monoio::io::poll_io::ReadBuf;

pub struct Tls {
    /// On the heap: a plain stream is not to pay for it.
    session: Box<TlsStream<FairSocket>>,
}

/// A socket below a session. A session reads for as long as there is something and none of it is data: so that a flood
/// of messages to the session itself (new keys, empty records) takes no more than its turns, a turn ends after a few
/// reads.
pub struct FairSocket {
    socket: TcpStreamPoll,
    /// Reads since the last turn began.
    reads: u8,
}

/// Of 4 KiB each: about as much as one buffer.
const READS_MAX: u8 = 4;

impl From<TcpStreamPoll> for FairSocket {
    fn from(socket: TcpStreamPoll) -> Self {
        Self { socket, reads: 0 }
    }
}

impl AsRawFd for FairSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsyncRead for FairSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.reads == READS_MAX {
            this.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut this.socket).poll_read(cx, into);
        this.reads = if read.is_ready() { this.reads + 1 } else { 0 };
        read
    }
}

impl AsyncWrite for FairSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl Tls {
    pub fn new(session: impl Into<TlsStream<FairSocket>>) -> Self {
        Self { session: Box::new(session.into()) }
    }

    pub fn into_session(self) -> Box<TlsStream<FairSocket>> {
        self.session
    }

    pub fn fd(&self) -> RawFd {
        self.session.get_ref().0.as_raw_fd()
    }

    /// Waits until there is something to read, or the end. Holds no buffer of ours, and dropping it loses nothing.
    ///
    /// # Errors
    /// The socket's; `UnexpectedEof` where the peer left without saying so (RFC 8446 section 6.1), `InvalidData` where
    /// it broke the protocol.
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self.session).poll_fill_buf(cx).map_ok(|_| ())).await
    }

    /// Reads once; 0 at the end.
    ///
    /// # Errors
    /// As [`Self::readable`].
    pub async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| {
            let came = ready!(Pin::new(&mut *self.session).poll_fill_buf(cx))?;
            let count = came.len().min(into.len());
            into[..count].copy_from_slice(&came[..count]);
            Pin::new(&mut *self.session).consume(count);
            Ok(count).into()
        })
        .await
    }

    /// Writes all of `bytes`, and what was written before.
    ///
    /// # Errors
    /// The socket's; what was written before is not known to it.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = poll_fn(|cx| Pin::new(&mut *self.session).poll_write(cx, rest)).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
        poll_fn(|cx| Pin::new(&mut *self.session).poll_flush(cx)).await
    }

    /// Takes what the session has room for and sends what the kernel takes now; never waits. What has not left goes
    /// with the next write. For sessions with clients.
    ///
    /// # Errors
    /// `WouldBlock` where there is no room, else the socket's error.
    pub fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut socket = Now(self.fd());
        let TlsStream::Server(session) = &mut *self.session else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let session = session.get_mut().1;
        let taken = session.writer().write(bytes)?;
        while session.wants_write() {
            match session.write_tls(&mut socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Says that nothing more comes, as far as the kernel takes it now, and ends our side.
    pub fn end(&mut self) {
        self.session.get_mut().1.send_close_notify();
        let _ = self.write_now(&[]);
        sys::shut(self.fd(), Direction::Write);
    }
}

/// A socket that is written to without waiting.
struct Now(RawFd);

impl Write for Now {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        sys::send_now(self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::runtime;
    use crate::net::runtime::Driver;
    use monoio::net::TcpStream;
    use std::net::TcpListener;

    /// Reads a byte: whether one came.
    async fn reads(socket: &mut FairSocket) -> bool {
        poll_fn(|cx| {
            let mut byte = [0];
            let mut into = ReadBuf::new(&mut byte);
            Poll::Ready(Pin::new(&mut *socket).poll_read(cx, &mut into).is_ready())
        })
        .await
    }

    #[test]
    fn a_turn_ends_after_a_few_reads_and_another_follows() {
        for driver in [Driver::Epoll, Driver::Uring] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            peer.write_all(&[7; 100]).unwrap();
            runtime::block_on(driver, || async {
                let stream = TcpStream::from_std(listener.accept().unwrap().0).unwrap();
                let mut socket = FairSocket::from(stream.try_into_poll_io().unwrap());
                // Whether the first bytes are there is the kernel's to say.
                let mut first = [0];
                let mut into = ReadBuf::new(&mut first);
                poll_fn(|cx| Pin::new(&mut socket).poll_read(cx, &mut into)).await.unwrap();
                for turn in 0..3 {
                    for _ in usize::from(turn == 0)..usize::from(READS_MAX) {
                        assert!(reads(&mut socket).await, "{driver:?}");
                    }
                    assert!(!reads(&mut socket).await, "{driver:?}");
                }
            })
            .unwrap();
        }
    }
}
