//! The floor: bytes from client to upstream and back, one upstream connection for each client, nothing read.
//! Not here: HTTP, MCP, anything that a gateway does; that is the point.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;

use anyhow::Context;

use crate::completion::Completion;
use crate::completion::Received;
use crate::ring;
use crate::ring::Lease;
use crate::ring::Ring;

/// Received buffers that wait for one slow socket; past it the other side is not read.
const MAX_QUEUED: usize = 8;

/// One socket of a pair; its partner is `slot ^ 1`.
#[derive(Default)]
struct Side {
    open: bool,
    receiving: bool,
    /// This side has sent all it ever will.
    ended: bool,
    /// The receive was stopped because the partner is slow.
    paused: bool,
    sending: bool,
    /// Bytes to send to this side, in order.
    queue: VecDeque<Lease>,
}

struct Relay {
    ring: Ring,
    to: SocketAddr,
    sides: Vec<Side>,
    free: Vec<u32>,
    /// Sides whose receive ended for want of buffers.
    starved: VecDeque<u32>,
}

/// Relays until a signal comes.
///
/// # Errors
/// io_uring refused, the address taken.
pub(crate) fn relay(listener: TcpListener, to: SocketAddr) -> anyhow::Result<()> {
    let sockets = u32::try_from(ring::raise_open_files()).unwrap_or(u32::MAX).clamp(512, 32_768) - 256;
    let sockets = sockets & !1;
    let ring = Ring::new(ring::Size { sockets, buffers: 256, buffer_bytes: 8192 })
        .context("cannot make the relay's ring")?;
    let sides = (0..sockets).map(|_| Side::default()).collect();
    let free = (0..sockets).step_by(2).rev().collect();
    let mut relay = Relay { ring, to, sides, free, starved: VecDeque::new() };
    relay.ring.accept(listener);
    while !ring::stopped() {
        relay.ring.wait(None)?;
        while let Some(completion) = relay.ring.next() {
            relay.completed(completion);
        }
        relay.feed_starved();
    }
    Ok(())
}

impl Relay {
    fn completed(&mut self, completion: Completion) {
        match completion {
            Completion::Received { slot, received: Received::Bytes(lease), armed } => {
                self.side(slot).receiving = armed;
                self.forward(slot, lease);
                if !armed {
                    self.receive(slot);
                }
            }
            Completion::SentLease { slot, lease, result } => self.sent(slot, lease, result.unwrap_or(0)),
            Completion::Received { slot, received, .. } => self.receive_ended(slot, &received),
            Completion::Accepted(Ok(client)) => self.accepted(client),
            Completion::Accepted(Err(_)) | Completion::SentBytes { .. } | Completion::Internal => {}
        }
    }

    fn side(&mut self, slot: u32) -> &mut Side {
        &mut self.sides[slot as usize]
    }

    fn accepted(&mut self, client: TcpStream) {
        let Ok(upstream) = TcpStream::connect(self.to) else { return };
        let Some(slot) = self.free.pop() else { return };
        let adopted = self.ring.adopt(slot, client).and_then(|()| self.ring.adopt(slot + 1, upstream));
        if adopted.is_err() {
            self.ring.release(slot);
            self.free.push(slot);
            return;
        }
        for slot in [slot, slot + 1] {
            *self.side(slot) = Side { open: true, ..Side::default() };
            self.receive(slot);
        }
    }

    fn receive(&mut self, slot: u32) {
        let side = self.side(slot);
        if side.open && !side.receiving && !side.ended && !side.paused {
            side.receiving = true;
            self.ring.receive(slot);
        }
    }

    fn forward(&mut self, from: u32, lease: Lease) {
        let to = self.side(from ^ 1);
        if !to.open {
            self.ring.give_back(lease);
        } else if to.sending {
            to.queue.push_back(lease);
            if to.queue.len() == MAX_QUEUED {
                self.side(from).paused = true;
                self.ring.cancel_receive(from);
            }
        } else {
            to.sending = true;
            self.ring.send_lease(from ^ 1, lease);
        }
    }

    fn sent(&mut self, slot: u32, mut lease: Lease, bytes: usize) {
        let whole = bytes >= lease.len();
        if !whole && bytes > 0 {
            lease.advance(bytes);
            self.ring.send_lease(slot, lease);
            return;
        }
        self.ring.give_back(lease);
        self.side(slot).sending = false;
        if !whole {
            self.fail(slot);
        } else if let Some(next) = self.side(slot).queue.pop_front() {
            self.side(slot).sending = true;
            self.ring.send_lease(slot, next);
        } else if self.sides[(slot ^ 1) as usize].paused {
            self.side(slot ^ 1).paused = false;
            self.receive(slot ^ 1);
        }
        if self.sides[(slot ^ 1) as usize].ended {
            self.finish(slot);
        }
    }

    fn receive_ended(&mut self, slot: u32, why: &Received) {
        self.side(slot).receiving = false;
        match why {
            Received::Cancelled => self.receive(slot),
            Received::NoBuffers => self.starved.push_back(slot),
            Received::Failed => self.fail(slot),
            Received::End | Received::Bytes(_) => {
                self.side(slot).ended = true;
                self.finish(slot ^ 1);
            }
        }
    }

    /// The pair is broken: both ends learn it, and what waited is dropped.
    fn fail(&mut self, slot: u32) {
        for slot in [slot, slot ^ 1] {
            self.ring.shutdown(slot, Shutdown::Both);
            self.side(slot).ended = true;
            while let Some(lease) = self.side(slot).queue.pop_front() {
                self.ring.give_back(lease);
            }
        }
        self.finish(slot);
    }

    /// The partner of `slot` has ended: once all is sent, `slot` sees the end, and a pair with two ends goes.
    fn finish(&mut self, slot: u32) {
        let side = self.side(slot);
        if side.open && !side.sending && side.queue.is_empty() {
            self.ring.shutdown(slot, Shutdown::Write);
        }
        let done = |side: &Side| side.open && side.ended && !side.receiving && !side.sending;
        let pair = slot & !1;
        if done(&self.sides[pair as usize]) && done(&self.sides[pair as usize + 1]) {
            self.starved.retain(|starved| starved & !1 != pair);
            for slot in [pair, pair + 1] {
                self.ring.release(slot);
                self.side(slot).open = false;
            }
            self.free.push(pair);
        }
    }

    /// Receives that ran out of buffers start again once sends have brought some back.
    fn feed_starved(&mut self) {
        for _ in 0..self.starved.len() {
            if !self.ring.has_buffers() {
                return;
            }
            if let Some(slot) = self.starved.pop_front() {
                self.receive(slot);
            }
        }
    }
}
