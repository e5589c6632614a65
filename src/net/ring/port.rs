//! `Port`: one socket of the ring, as its owner uses it.
//!
//! Not here: when the ring is turned, and what a completion means (`net::ring`).

use super::CURRENT;
use super::Ports;
use super::Receive;
use super::Send;
use super::State;
use super::Wants;
use crate::base::buffer::Arrived;
use crate::base::buffer::Buffer;
use crate::base::clock::Moment;
use crate::base::sys::Queue;
use crate::base::sys::ring::Ring;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::rc::Rc;

/// One socket of the ring. Dropping it takes its receive back; a send that is under way goes on.
pub struct Port {
    ports: Rc<Ports>,
    key: u32,
}

impl Port {
    /// A port for a socket of the calling worker; none where the worker has no ring.
    pub fn new(fd: RawFd) -> Option<Self> {
        let ports = CURRENT.with_borrow(|current| current.as_ref().map(Rc::clone))?;
        let state = State {
            fd,
            may_stay: false,
            receive: Receive::Idle,
            stays: false,
            behind: None,
            is_unseen: false,
            is_recent: false,
            send: Send::Idle,
            wants: Wants::Nothing,
            waker: None,
            orphan: false,
        };
        let key = u32::try_from(ports.ports.borrow_mut().insert(state)).ok()?;
        Some(Self { ports, key })
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State, &mut Ring) -> R) -> R {
        let mut ports = self.ports.ports.borrow_mut();
        let mut ring = self.ports.ring.borrow_mut();
        // Removed only after the port was dropped.
        let state = &mut ports[self.key as usize];
        f(state, &mut ring)
    }

    /// From now on a receive may stay for what comes after that: nobody else reads from this socket, which is one of TCP,
    /// the only one that tells a receive of an end that came with the last bytes.
    pub fn stay(&self) {
        self.with(|state, _| state.may_stay = true);
    }

    /// Asks for what comes next, if nothing is asked for and nothing waits.
    pub fn arm(&self) {
        let armed = self.with(|state, ring| {
            let idle = matches!(state.receive, Receive::Idle);
            if idle {
                ring.receive(self.key, state.fd, true, state.may_stay);
                state.receive = Receive::Armed;
            }
            idle
        });
        if armed {
            self.ports.call();
        }
    }

    /// What a receive that was asked for has brought; none where none was.
    pub fn queue(&self) -> Option<Queue> {
        self.with(|state, _| match &state.receive {
            Receive::Idle => None,
            Receive::Armed | Receive::Reading => Some(Queue::Empty),
            Receive::Came(Ok(arrived)) if arrived.start < arrived.end => Some(Queue::Bytes),
            Receive::Came(_) | Receive::Read(..) => Some(Queue::Closed),
        })
    }

    /// The first bytes of what has come and was not taken yet.
    pub fn waiting<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.with(|state, _| match &state.receive {
            Receive::Came(Ok(arrived)) => arrived.buffer.get(arrived.start..arrived.end).map(f),
            _ => None,
        })
    }

    /// Waits until something can be taken; dropping the wait loses nothing.
    pub async fn has_come(&self) {
        self.arm();
        self.until(Wants::Receive).await;
    }

    /// What comes next; none at the end. Dropping the wait loses nothing.
    pub async fn receive(&self) -> io::Result<Option<Arrived>> {
        self.has_come().await;
        self.take()
    }

    fn take(&self) -> io::Result<Option<Arrived>> {
        match self.with(|state, _| state.take()) {
            Receive::Came(Ok(arrived)) if arrived.start < arrived.end => Ok(Some(arrived)),
            Receive::Came(Ok(arrived)) => {
                self.ports.buffers.give_back(arrived.buffer);
                Ok(None)
            }
            Receive::Came(Err(error)) => Err(error),
            _ => Ok(None),
        }
    }

    /// Reads into `buffer[range]` once.
    pub async fn read(&self, buffer: Buffer, range: Range<usize>) -> (io::Result<usize>, Buffer) {
        let idle = self.with(|state, _| matches!(state.receive, Receive::Idle));
        if !idle {
            return self.copy(buffer, range).await;
        }
        self.with(|state, ring| {
            ring.read(self.key, state.fd, buffer, range);
            state.receive = Receive::Reading;
        });
        self.ports.call();
        self.until(Wants::Receive).await;
        match self.with(|state, _| std::mem::replace(&mut state.receive, Receive::Idle)) {
            Receive::Read(result, buffer) => (result, buffer),
            _ => (Err(io::ErrorKind::BrokenPipe.into()), Buffer::default()),
        }
    }

    /// For a receive that was asked for before: what came is copied, what does not fit stays.
    async fn copy(&self, mut buffer: Buffer, range: Range<usize>) -> (io::Result<usize>, Buffer) {
        self.has_come().await;
        let mut arrived = match self.take() {
            Ok(Some(arrived)) => arrived,
            Ok(None) => return (Ok(0), buffer),
            Err(error) => return (Err(error), buffer),
        };
        let count = range.len().min(arrived.end - arrived.start);
        let from = arrived.start..arrived.start + count;
        buffer[range.start..range.start + count].copy_from_slice(&arrived.buffer[from]);
        arrived.start += count;
        if arrived.start < arrived.end {
            self.with(|state, _| state.put_back(arrived));
        } else {
            self.ports.buffers.give_back(arrived.buffer);
        }
        (Ok(count), buffer)
    }

    fn begin(&self, buffer: Buffer, range: Range<usize>, alone: bool) {
        self.with(|state, ring| {
            ring.send(self.key, state.fd, buffer, range);
            state.send = Send::Sending { alone };
        });
        self.ports.call();
    }

    /// Sends `buffer[range]`: how much left and when, and the buffer.
    pub async fn send(&self, buffer: Buffer, range: Range<usize>) -> (io::Result<(usize, Moment)>, Buffer) {
        self.send_until(Wants::Send, buffer, range).await
    }

    /// Sends `buffer[range]` and, where that succeeds, waits until the peer has answered or ended: one wake
    /// instead of two.
    pub async fn ask(&self, buffer: Buffer, range: Range<usize>) -> (io::Result<(usize, Moment)>, Buffer) {
        self.send_until(Wants::Answer, buffer, range).await
    }

    async fn send_until(
        &self,
        wants: Wants,
        buffer: Buffer,
        range: Range<usize>,
    ) -> (io::Result<(usize, Moment)>, Buffer) {
        if let Err(error) = self.settle().await {
            return (Err(error), buffer);
        }
        self.begin(buffer, range, false);
        if wants == Wants::Answer {
            self.arm();
        }
        self.until(wants).await;
        self.sent()
    }

    async fn until(&self, wants: Wants) {
        std::future::poll_fn(|cx| self.with(|state, _| state.poll(cx, wants))).await;
    }

    fn sent(&self) -> (io::Result<(usize, Moment)>, Buffer) {
        match self.with(|state, _| std::mem::replace(&mut state.send, Send::Idle)) {
            Send::Sent(result, buffer) => (result, buffer.unwrap_or_default()),
            _ => (Err(io::ErrorKind::BrokenPipe.into()), Buffer::default()),
        }
    }

    /// Sends `buffer[range]` without waiting for it; [`Self::settle`] tells how it went, and comes before the
    /// next send. The buffer goes to the pool. Nothing may be under way.
    pub fn send_behind(&self, buffer: Buffer, range: Range<usize>) {
        self.begin(buffer, range, true);
    }

    /// Whether a send is under way.
    pub fn is_sending(&self) -> bool {
        self.with(|state, _| state.is_sending())
    }

    /// Waits until what was sent behind has left.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn settle(&self) -> io::Result<()> {
        if self.with(|state, _| matches!(state.send, Send::Idle)) {
            return Ok(());
        }
        self.until(Wants::Send).await;
        let (result, buffer) = self.sent();
        if !buffer.is_empty() {
            self.ports.buffers.give_back(buffer);
        }
        result.map(|_| ())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut ports = self.ports.ports.borrow_mut();
        let mut ring = self.ports.ring.borrow_mut();
        let Some(state) = ports.get_mut(self.key as usize) else { return };
        // The descriptor closes next and its number is used again: the kernel must have taken what names it.
        if ring.is_queued() {
            ring.flush();
        }
        if !state.is_in_flight() {
            drop(ring);
            let state = ports.remove(self.key as usize);
            drop(ports);
            return self.ports.bury(state);
        }
        state.orphan = true;
        state.waker = None;
        if state.is_receiving() {
            ring.cancel(self.key);
            drop((ring, ports));
            self.ports.call();
        }
    }
}
