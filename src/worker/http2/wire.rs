//! `Wire`: the socket of a connection as `h2` has it: begins with what was read before, counts every frame, and lets
//! the client read our last words before it closes.
//!
//! Not here: what follows from a flood.

use crate::base::bound::Bound;
use crate::base::clock;
use crate::config::limits;
use crate::net::stream::PollIo;
use crate::worker::http2::traffic::Traffic;
use monoio::io::poll_io::AsyncRead;
use monoio::io::poll_io::AsyncWrite;
use monoio::io::poll_io::ReadBuf;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

pub(super) struct Wire {
    io: Box<dyn PollIo>,
    /// Read before and not taken yet.
    front: Vec<u8>,
    traffic: Rc<Traffic>,
    ending: Ending,
}

/// How far closing is.
#[derive(Clone, Copy)]
enum Ending {
    Open,
    /// Our side is shut; so many bytes were thrown away since.
    Shut {
        discarded: usize,
    },
}

impl Wire {
    pub(super) const fn new(io: Box<dyn PollIo>, received: Vec<u8>, traffic: Rc<Traffic>) -> Self {
        Self { io, front: received, traffic, ending: Ending::Open }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.front.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, into);
        }
        let count = self.front.len().min(into.remaining());
        into.put_slice(&self.front[..count]);
        self.front.drain(..count);
        if self.front.is_empty() {
            self.front = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(self.poll_fill(cx, into))?;
        let come = into.filled().get(before..).unwrap_or_default();
        let flood = self.traffic.meter.borrow_mut().receive(come, clock::now()).err();
        if flood.is_some() {
            // Nothing more is read. The connection, which is what reads here, looks when this returns.
            self.traffic.flood.set(flood);
            into.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.traffic.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.traffic.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.traffic.wrote(flushed.is_ready());
        flushed
    }

    /// Reads and throws away what the client still sends, so that closing does not reset our GOAWAY and the last
    /// answers (as in RFC 9112 section 9.6). The watch ends it where the client does not.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut discarded = match this.ending {
            Ending::Open => {
                ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                this.traffic.abandon();
                0
            }
            Ending::Shut { discarded } => discarded,
        };
        let mut sink = [0; 4096];
        while discarded < limits::LINGER_BYTES_MAX {
            this.ending = Ending::Shut { discarded };
            let mut into = ReadBuf::new(&mut sink);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut into))?;
            match into.filled().len() {
                0 => return Poll::Ready(Ok(())),
                count => discarded += count,
            }
        }
        this.traffic.worker.metrics().hit(Bound::Linger);
        Poll::Ready(Ok(()))
    }
}
