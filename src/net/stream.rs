//! `Stream`: one connected socket, plain, Unix or TLS.
//!
//! Not here: deadlines. A stream is cancelled from outside by `shutdown(2)` on its descriptor, which ends a
//! read or a wait in flight with end-of-file; no future with a buffer in the kernel is ever dropped, because
//! that loses data (docs/decisions/0004).
//!
//! Reads and the writes of calls go through the ring: what one turn of the worker sends leaves in one system call,
//! and its receivers are woken once (docs/decisions/0009). Refusals and requests larger than a pooled buffer are
//! written at once and wait for room.

use crate::base::buffer::Buffer;
use crate::base::sys;
use monoio::buf::Slice;
use monoio::buf::SliceMut;
use monoio::io::AsyncReadRent;
use monoio::io::AsyncWriteRent;
use monoio::io::CancelHandle;
use monoio::io::CancelableAsyncReadRent;
use monoio::net::TcpStream;
use monoio::net::UnixStream;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

/// tokio's I/O traits as the runtime re-exports them; no tokio runtime is involved.
use monoio::io::poll_io::AsyncRead;
use monoio::io::poll_io::AsyncWrite;
use monoio::io::poll_io::ReadBuf;

/// A TLS session over a plain socket.
pub type TlsStream = tokio_rustls::client::TlsStream<monoio::net::tcp::stream_poll::TcpStreamPoll>;

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>, RawFd),
}

/// A write that ended before its last byte.
#[derive(Debug)]
pub struct Cut {
    pub written: usize,
    pub error: io::Error,
}

impl Stream {
    pub fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Tls(_, fd) => *fd,
        }
    }

    /// Reads into `buffer[range]` once. The buffer comes back with the result; its length never changes.
    pub async fn read(&mut self, buffer: Buffer, range: Range<usize>) -> (io::Result<usize>, Buffer) {
        match self {
            Self::Tcp(stream) => {
                let (result, slice) = stream.read(SliceMut::new(buffer, range.start, range.end)).await;
                (result, slice.into_inner())
            }
            Self::Unix(stream) => {
                let (result, slice) = stream.read(SliceMut::new(buffer, range.start, range.end)).await;
                (result, slice.into_inner())
            }
            Self::Tls(stream, _) => {
                let mut buffer = buffer;
                let result =
                    std::future::poll_fn(|cx| poll_read(stream, cx, &mut buffer[range.clone()])).await;
                (result, buffer)
            }
        }
    }

    /// Like [`Self::read`], but another task may take the buffer back: the read then ends with an error, and
    /// what had come by then is returned as usual.
    pub async fn read_revocable(
        &mut self,
        buffer: Buffer,
        range: Range<usize>,
        handle: CancelHandle,
    ) -> (io::Result<usize>, Buffer) {
        match self {
            Self::Tcp(stream) => {
                let slice = SliceMut::new(buffer, range.start, range.end);
                let (result, slice) = stream.cancelable_read(slice, handle).await;
                (result, slice.into_inner())
            }
            other => other.read(buffer, range).await,
        }
    }

    /// Writes `buffer[range]` whole, through the ring where there is one: sends of one turn leave together,
    /// and their receivers are woken once.
    ///
    /// An error comes with the bytes that the kernel had taken before it.
    pub async fn write(&mut self, buffer: Buffer, range: Range<usize>) -> (Result<(), Cut>, Buffer) {
        let mut buffer = buffer;
        let mut begin = range.start;
        while begin < range.end {
            let (written, slice) = match self {
                Self::Tcp(stream) => stream.write(Slice::new(buffer, begin, range.end)).await,
                Self::Unix(stream) => stream.write(Slice::new(buffer, begin, range.end)).await,
                Self::Tls(..) => {
                    let result = self.write_all(&buffer[begin..range.end]).await;
                    // What a session has encrypted may have left.
                    let result = result.map_err(|error| Cut { written: range.len(), error });
                    return (result, buffer);
                }
            };
            buffer = slice.into_inner();
            match written {
                Ok(written) if written > 0 => begin += written,
                other => {
                    let error = other.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                    return (Err(Cut { written: begin - range.start, error }), buffer);
                }
            }
        }
        (Ok(()), buffer)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// `BrokenPipe`, `ConnectionReset` where the peer has gone; what was written before is not known to it.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = if let Self::Tls(stream, _) = self {
                std::future::poll_fn(|cx| Pin::new(&mut **stream).poll_write(cx, rest)).await
            } else {
                sys::send_now(self.fd(), rest)
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                written => rest = rest.get(written?..).unwrap_or_default(),
            }
        }
        if let Self::Tls(stream, _) = self {
            std::future::poll_fn(|cx| Pin::new(&mut **stream).poll_flush(cx)).await?;
        }
        Ok(())
    }

    /// Writes what the kernel takes now; never waits. TLS takes nothing this way.
    ///
    /// # Errors
    /// `WouldBlock` where nothing fits, else the socket's error.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tls(..) => Err(io::ErrorKind::WouldBlock.into()),
            plain => sys::send_now(plain.fd(), bytes),
        }
    }

    /// Waits until bytes, end-of-file or an error can be read, without holding a buffer.
    ///
    /// # Errors
    /// Where the wait itself fails; the stream is unusable then.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            // The epoll driver answers WouldBlock for a readiness that was stale: wait again.
            Self::Tcp(stream) => retry(|| stream.readable(false)).await,
            Self::Unix(stream) => retry(|| stream.readable(false)).await,
            // What a TLS session has buffered is invisible to the socket: the caller must read instead.
            Self::Tls(..) => Ok(()),
        }
    }

    /// Waits until the kernel takes bytes again.
    ///
    /// # Errors
    /// Where the wait itself fails.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => retry(|| stream.writable(false)).await,
            Self::Unix(stream) => retry(|| stream.writable(false)).await,
            Self::Tls(..) => Ok(()),
        }
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

fn poll_read(stream: &mut TlsStream, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut into = ReadBuf::new(into);
    match Pin::new(stream).poll_read(cx, &mut into) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(into.filled().len())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}
