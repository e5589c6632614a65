//! The mock upstream: connections that answer MCP as fast as they can, or as slowly as a call asks.
//! Not here: what is answered (`answer`); sessions that mean something.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context;

use crate::answer;
use crate::answer::Asked;
use crate::answer::Load;
use crate::answer::Pending;
use crate::completion::Completion;
use crate::completion::Received;
use crate::http::Kind;
use crate::http::Reader;
use crate::ring;
use crate::ring::Ring;

struct Connection {
    open: bool,
    receiving: bool,
    sending: bool,
    /// Ends once nothing is in flight.
    closing: bool,
    /// Ends once what is being sent is sent.
    close_after: bool,
    reader: Reader,
    /// Spare memory of the last answer.
    spare: Vec<u8>,
    /// Bytes to send when the send in flight is done.
    queued: Vec<u8>,
    pending: Option<Pending>,
    /// Counts the connections of this slot, so that a timer of an old one is known.
    generation: u32,
}

struct Server {
    ring: Ring,
    load: Load,
    connections: Vec<Connection>,
    free: Vec<u32>,
    timers: BinaryHeap<Reverse<(u64, u32, u32)>>,
    starved: Vec<u32>,
}

/// Serves until a signal comes.
///
/// # Errors
/// io_uring refused.
pub(crate) fn serve(listener: TcpListener, load: Load) -> anyhow::Result<()> {
    let sockets = u32::try_from(ring::raise_open_files()).unwrap_or(u32::MAX).clamp(512, 32_768) - 256;
    let ring = Ring::new(ring::Size { sockets, buffers: 256, buffer_bytes: 8192 })
        .context("cannot make the server's ring")?;
    let free = (0..sockets).rev().collect();
    let mut server =
        Server { ring, load, connections: Vec::new(), free, timers: BinaryHeap::new(), starved: Vec::new() };
    server.ring.accept(listener);
    ring::precise_timers();
    while !ring::stopped() {
        let timeout = server.timers.peek().map(|Reverse((due, ..))| {
            Duration::from_nanos(due.saturating_sub(ring::monotonic_nanos()).max(1))
        });
        server.ring.wait(timeout)?;
        while let Some(completion) = server.ring.next() {
            server.completed(completion);
        }
        server.run_timers();
        if server.ring.has_buffers() {
            for slot in std::mem::take(&mut server.starved) {
                server.receive(slot);
            }
        }
    }
    Ok(())
}

impl Server {
    fn connection(&mut self, slot: u32) -> &mut Connection {
        &mut self.connections[slot as usize]
    }

    fn completed(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted(Ok(socket)) => self.accepted(socket),
            Completion::Received { slot, received, armed } => self.received(slot, received, armed),
            Completion::SentBytes { slot, bytes, result } => self.sent(slot, bytes, result.unwrap_or(0)),
            Completion::Accepted(Err(_)) | Completion::SentLease { .. } | Completion::Internal => {}
        }
    }

    fn accepted(&mut self, socket: TcpStream) {
        let Some(slot) = self.free.pop() else { return };
        if self.ring.adopt(slot, socket).is_err() {
            self.free.push(slot);
            return;
        }
        while self.connections.len() <= slot as usize {
            self.connections.push(Connection {
                open: false,
                receiving: false,
                sending: false,
                closing: false,
                close_after: false,
                reader: Reader::new(Kind::Request),
                spare: Vec::new(),
                queued: Vec::new(),
                pending: None,
                generation: 0,
            });
        }
        let connection = self.connection(slot);
        connection.generation = connection.generation.wrapping_add(1);
        connection.open = true;
        connection.closing = false;
        connection.close_after = false;
        connection.reader = Reader::new(Kind::Request);
        self.receive(slot);
    }

    fn receive(&mut self, slot: u32) {
        let connection = self.connection(slot);
        if connection.open && !connection.receiving && !connection.closing {
            connection.receiving = true;
            self.ring.receive(slot);
        }
    }

    fn received(&mut self, slot: u32, received: Received, armed: bool) {
        self.connection(slot).receiving = armed;
        match received {
            Received::Bytes(lease) => {
                let connection = &mut self.connections[slot as usize];
                let mut out = std::mem::take(&mut connection.spare);
                let bytes = self.ring.bytes(&lease);
                let asked = match connection.reader.feed(bytes) {
                    Ok(None) => Asked::Nothing,
                    Ok(Some(message)) => answer::answer(&message, self.load, &mut out),
                    Err(_) => {
                        answer::status(&mut out, 400, b"");
                        Asked::Close
                    }
                };
                self.ring.give_back(lease);
                self.asked(slot, asked, out);
                if !armed {
                    self.receive(slot);
                }
            }
            Received::NoBuffers => self.starved.push(slot),
            Received::End | Received::Cancelled | Received::Failed => self.close(slot),
        }
    }

    fn asked(&mut self, slot: u32, asked: Asked, out: Vec<u8>) {
        match asked {
            Asked::Later(pending) => {
                let delay = pending.load.delay_ms;
                let connection = self.connection(slot);
                connection.spare = out;
                connection.pending = Some(*pending);
                if delay == 0 {
                    self.step(slot);
                } else {
                    self.schedule(slot, delay);
                }
            }
            Asked::Nothing | Asked::Again if out.is_empty() => self.connection(slot).spare = out,
            Asked::Nothing | Asked::Again => self.send(slot, out),
            Asked::Close => {
                self.connection(slot).close_after = true;
                self.send(slot, out);
            }
        }
    }

    fn send(&mut self, slot: u32, bytes: Vec<u8>) {
        let connection = self.connection(slot);
        if connection.sending {
            connection.queued.extend_from_slice(&bytes);
        } else if bytes.is_empty() {
            connection.spare = bytes;
            if connection.close_after {
                self.close(slot);
            }
        } else if !connection.closing {
            connection.sending = true;
            self.ring.send_bytes(slot, bytes, 0);
        }
    }

    fn sent(&mut self, slot: u32, mut bytes: Vec<u8>, count: usize) {
        self.connection(slot).sending = false;
        if count < bytes.len() {
            if count == 0 {
                self.close(slot);
            } else {
                bytes.drain(..count);
                self.send(slot, bytes);
            }
            return;
        }
        bytes.clear();
        bytes.shrink_to(64 * 1024);
        let connection = self.connection(slot);
        connection.spare = bytes;
        let closing = connection.closing;
        if !connection.queued.is_empty() && !closing {
            let queued = std::mem::take(&mut connection.queued);
            self.send(slot, queued);
        } else if connection.close_after || closing {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: u32) {
        let connection = self.connection(slot);
        if !connection.open {
            return;
        }
        connection.closing = true;
        connection.pending = None;
        connection.queued.clear();
        if connection.receiving || connection.sending {
            self.ring.shutdown(slot, Shutdown::Both);
        } else {
            connection.open = false;
            self.starved.retain(|&starved| starved != slot);
            self.ring.release(slot);
            self.free.push(slot);
        }
    }

    fn schedule(&mut self, slot: u32, delay_ms: u64) {
        let generation = self.connection(slot).generation;
        let due = ring::monotonic_nanos() + delay_ms * 1_000_000;
        self.timers.push(Reverse((due, slot, generation)));
    }

    fn run_timers(&mut self) {
        while let Some(&Reverse((due, slot, generation))) = self.timers.peek() {
            if due > ring::monotonic_nanos() {
                return;
            }
            self.timers.pop();
            let connection = self.connection(slot);
            if connection.open && connection.generation == generation && connection.pending.is_some() {
                self.step(slot);
            }
        }
    }

    /// The next part of an answer that takes time.
    fn step(&mut self, slot: u32) {
        let connection = self.connection(slot);
        let Some(mut pending) = connection.pending.take() else { return };
        let mut out = std::mem::take(&mut connection.spare);
        let asked = pending.step(&mut out);
        let delay = pending.load.interval_ms;
        if matches!(asked, Asked::Again) {
            self.connection(slot).pending = Some(pending);
            self.send(slot, out);
            self.schedule(slot, delay);
        } else {
            self.asked(slot, asked, out);
        }
    }
}
