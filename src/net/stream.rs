//! `Stream`: one connected socket, plain, Unix or TLS.
//!
//! Not here: deadlines. A stream is cancelled from outside by `shutdown(2)` on its descriptor, which ends a
//! read or a wait in flight with end-of-file; no future with a buffer in the kernel is ever dropped, because
//! that loses data (docs/decisions/0004).
//!
//! Reads and the writes of calls go through the ring: what one turn of the worker sends leaves in one system call,
//! and its receivers are woken once (docs/decisions/0009). Refusals and requests larger than a pooled buffer are
//! written at once and wait for room.

use crate::base::buffer::Arrived;
use crate::base::buffer::Buffer;
use crate::base::buffer::Buffers;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::sys;
use crate::base::sys::Direction;
use crate::base::sys::Queue;
use crate::net::ring::port::Port;
use crate::net::runtime;
use crate::net::runtime::Driver;
use crate::net::tls::Tls;
use monoio::buf::SliceMut;
use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;
use monoio::net::UnixStream;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream as StdUnixStream;

/// tokio's I/O traits as the runtime re-exports them; no tokio runtime is involved.
use monoio::io::poll_io::AsyncRead;
use monoio::io::poll_io::AsyncWrite;

/// A plain socket: of the ring, where the worker has one, else of the runtime.
pub struct Plain {
    /// Before the socket, whose descriptor must be open when the port goes.
    port: Option<Port>,
    socket: Socket,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

pub enum Stream {
    Plain(Plain),
    Tls(Tls),
}

/// A socket or session that is asked until it is ready, for a protocol that drives its I/O itself.
pub trait PollIo: AsyncRead + AsyncWrite + Unpin {}

impl<Io: AsyncRead + AsyncWrite + Unpin> PollIo for Io {}

/// A write that ended before its last byte.
#[derive(Debug)]
pub struct Cut {
    pub written: usize,
    pub error: io::Error,
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self::plain(Socket::Tcp(socket))
    }
}

impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Self {
        Self::plain(Socket::Unix(socket))
    }
}

impl Stream {
    fn plain(socket: Socket) -> Self {
        let port = Port::new(socket.fd());
        Self::Plain(Plain { port, socket })
    }

    /// Two connected ends within this worker, with room for `bytes` each way in the kernel. The first is of the
    /// runtime, the second of the ring where there is one: with both on the ring, what one end does while the ring is
    /// turned is news for the other that no bell tells, and waits for the next tick.
    ///
    /// # Errors
    /// Where no descriptor is free.
    pub fn pair(bytes: usize) -> io::Result<(Self, Self)> {
        let one = |socket: StdUnixStream| {
            socket2::SockRef::from(&socket).set_send_buffer_size(bytes)?;
            // The ring waits by itself only on blocking descriptors; epoll needs the opposite.
            socket.set_nonblocking(runtime::current() == Driver::Epoll)?;
            UnixStream::from_std(socket)
        };
        let (first, second) = StdUnixStream::pair()?;
        let first = Self::Plain(Plain { port: None, socket: Socket::Unix(one(first)?) });
        Ok((first, Self::from(one(second)?)))
    }

    /// The socket itself, for a session over it; none where it is no TCP socket.
    pub fn into_tcp(self) -> Option<TcpStream> {
        match self {
            Self::Plain(Plain { socket: Socket::Tcp(socket), .. }) => Some(socket),
            _ => None,
        }
    }

    /// # Errors
    /// Where the runtime does not take the socket; `Unsupported` for a Unix socket.
    pub fn into_poll_io(self) -> io::Result<Box<dyn PollIo>> {
        match self {
            Self::Tls(tls) => Ok(tls.into_session()),
            plain => {
                let socket = plain.into_tcp().ok_or(io::ErrorKind::Unsupported)?;
                Ok(Box::new(socket.try_into_poll_io().map_err(|(error, _)| error)?))
            }
        }
    }

    fn port(&self) -> Option<&Port> {
        match self {
            Self::Plain(plain) => plain.port.as_ref(),
            Self::Tls(_) => None,
        }
    }

    pub fn fd(&self) -> RawFd {
        match self {
            Self::Plain(plain) => plain.socket.fd(),
            Self::Tls(tls) => tls.fd(),
        }
    }

    /// The next bytes, in a small buffer of the pool; none at the end. No buffer is held while nothing comes,
    /// and nothing is lost where the wait is dropped.
    ///
    /// # Errors
    /// The socket's.
    pub async fn receive(&mut self, buffers: &Buffers) -> io::Result<Option<Arrived>> {
        if let Some(port) = self.port() {
            return port.receive().await;
        }
        let room = buffers.room();
        loop {
            match self {
                Self::Plain(plain) => plain.socket.readable().await?,
                Self::Tls(tls) => tls.readable().await?,
            }
            let mut buffer = buffers.small();
            let count = match self {
                Self::Plain(plain) => sys::receive_now(plain.socket.fd(), &mut buffer[room.clone()]),
                // What was waited for is there.
                Self::Tls(tls) => tls.read(&mut buffer[room.clone()]).await,
            };
            if let Ok(count @ 1..) = count {
                let (start, end, at) = (room.start, room.start + count, clock::now());
                return Ok(Some(Arrived { buffer, start, end, at }));
            }
            buffers.give_back(buffer);
            match count {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other.map(|_| None),
            }
        }
    }

    /// From now on a buffer or two of bytes may be received ahead of who asks for them: nobody else reads from the socket, and
    /// it does not become a session of TLS. No more than a wish.
    pub fn stay(&self) {
        if let Self::Plain(Plain { port: Some(port), socket: Socket::Tcp(_) }) = self {
            port.stay();
        }
    }

    /// Begins to wait for the next bytes before they are asked for, so that [`Self::queue`] costs nothing.
    pub fn arm(&self) {
        if let Some(port) = self.port() {
            port.arm();
        }
    }

    /// What waits on a connection on which nothing should.
    pub fn queue(&self) -> Queue {
        self.port().and_then(Port::queue).unwrap_or_else(|| sys::queue(self.fd()))
    }

    /// Whether what waits begins like an interim answer (1xx) of HTTP/1.1. Takes nothing.
    pub fn interim_waits(&self) -> bool {
        match self.port().and_then(|port| port.waiting(sys::is_interim)) {
            Some(interim) => interim,
            None => sys::interim_waits(self.fd()),
        }
    }

    /// Reads into `buffer[range]` once. The buffer comes back with the result; its length never changes.
    pub async fn read(&mut self, buffer: Buffer, range: Range<usize>) -> (io::Result<usize>, Buffer) {
        if let Some(port) = self.port() {
            return port.read(buffer, range).await;
        }
        let mut buffer = buffer;
        match self {
            Self::Plain(Plain { socket: Socket::Tcp(stream), .. }) => {
                let (result, slice) = stream.read(SliceMut::new(buffer, range.start, range.end)).await;
                (result, slice.into_inner())
            }
            Self::Plain(Plain { socket: Socket::Unix(stream), .. }) => {
                let (result, slice) = stream.read(SliceMut::new(buffer, range.start, range.end)).await;
                (result, slice.into_inner())
            }
            Self::Tls(tls) => (tls.read(&mut buffer[range]).await, buffer),
        }
    }

    /// Writes `buffer[range]` whole, through the ring where there is one: sends of one turn leave together,
    /// and their receivers are woken once.
    ///
    /// An error comes with the bytes that the kernel had taken before it.
    pub async fn write(&mut self, buffer: Buffer, range: Range<usize>) -> (Result<(), Cut>, Buffer) {
        if let Some(port) = self.port() {
            let length = range.len();
            let (result, buffer) = port.send(buffer, range).await;
            return (whole(result, length).map(|_| ()), buffer);
        }
        if let Self::Tls(tls) = self {
            let result = tls.write_all(&buffer[range.clone()]).await;
            // What a session has encrypted may have left.
            return (result.map_err(|error| Cut { written: range.len(), error }), buffer);
        }
        let mut written = 0;
        while written < range.len() {
            let sent = match sys::send_now(self.fd(), &buffer[range.start + written..range.end]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await.map(|()| 0),
                other => other,
            };
            match sent {
                Ok(more) => written += more,
                Err(error) => return (Err(Cut { written, error }), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Like [`Self::write`], says when the kernel had it, and waits for the peer's answer (or its end) where that
    /// costs nothing more: it is there for the next [`Self::receive`] then.
    pub async fn ask(&mut self, buffer: Buffer, range: Range<usize>) -> (Result<Moment, Cut>, Buffer) {
        let Some(port) = self.port() else {
            let (result, buffer) = self.write(buffer, range).await;
            return (result.map(|()| clock::now()), buffer);
        };
        let length = range.len();
        let (result, buffer) = port.ask(buffer, range).await;
        (whole(result, length), buffer)
    }

    /// Writes the last bytes of an answer without waiting for the kernel to take them, where there is a ring.
    /// What went wrong is told by the next write, or [`Self::settle`].
    pub async fn write_behind(&mut self, buffer: Buffer, range: Range<usize>) -> (Result<(), Cut>, Buffer) {
        match self.port() {
            Some(port) if !port.is_sending() => {
                port.send_behind(buffer, range);
                (Ok(()), Buffer::default())
            }
            _ => self.write(buffer, range).await,
        }
    }

    /// Waits until what was written behind has left.
    ///
    /// # Errors
    /// Why it has not.
    pub async fn settle(&self) -> io::Result<()> {
        match self.port() {
            Some(port) => port.settle().await,
            None => Ok(()),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// `BrokenPipe`, `ConnectionReset` where the peer has gone; what was written before is not known to it.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            return tls.write_all(bytes).await;
        }
        self.settle().await?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match sys::send_now(self.fd(), rest) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                written => rest = rest.get(written?..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Ends our side once what was written has left; over TLS it is said (RFC 8446 section 6.1), so that the peer
    /// can tell a whole answer from a cut one.
    pub fn end(&mut self) {
        match self {
            Self::Plain(plain) => sys::shut(plain.socket.fd(), Direction::Write),
            Self::Tls(tls) => tls.end(),
        }
    }

    /// Writes what the kernel, or a client's TLS session, takes now; never waits. A socket on which something written
    /// behind is still under way takes nothing.
    ///
    /// # Errors
    /// `WouldBlock` where nothing fits, else the socket's error.
    pub fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.write_now(bytes),
            plain if plain.port().is_some_and(Port::is_sending) => Err(io::ErrorKind::WouldBlock.into()),
            plain => sys::send_now(plain.fd(), bytes),
        }
    }

    /// Waits until bytes, end-of-file or an error can be received, without holding a buffer.
    ///
    /// # Errors
    /// Where the wait itself fails; the stream is unusable then.
    pub async fn readable(&self) -> io::Result<()> {
        if let Some(port) = self.port() {
            port.has_come().await;
            return Ok(());
        }
        match self {
            Self::Plain(plain) => plain.socket.readable().await,
            // What a session holds is invisible to the socket: whoever may meet TLS receives instead.
            Self::Tls(_) => Ok(()),
        }
    }

    /// Waits until the kernel takes bytes again.
    ///
    /// # Errors
    /// Where the wait itself fails.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(plain) => plain.socket.writable().await,
            // A session waits by itself.
            Self::Tls(_) => Ok(()),
        }
    }
}

impl Socket {
    fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// The epoll driver answers WouldBlock for a readiness that was stale: wait again.
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => retry(|| stream.readable(false)).await,
            Self::Unix(stream) => retry(|| stream.readable(false)).await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => retry(|| stream.writable(false)).await,
            Self::Unix(stream) => retry(|| stream.writable(false)).await,
        }
    }
}

fn whole(result: io::Result<(usize, Moment)>, length: usize) -> Result<Moment, Cut> {
    match result {
        Ok((written, at)) if written == length => Ok(at),
        Ok((written, _)) => Err(Cut { written, error: io::ErrorKind::BrokenPipe.into() }),
        Err(error) => Err(Cut { written: 0, error }),
    }
}

async fn retry<F: Future<Output = io::Result<()>>>(mut wait: impl FnMut() -> F) -> io::Result<()> {
    loop {
        match wait().await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}
