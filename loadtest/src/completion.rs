//! What a ring reports to its user.
//! Not here: how it comes about (`ring`).

use std::io;
use std::net::TcpStream;

use crate::ring::Lease;

/// What a receive brought.
#[derive(Debug)]
pub(crate) enum Received {
    Bytes(Lease),
    /// The peer will send no more.
    End,
    /// The buffer ring was empty; receive again once buffers are back.
    NoBuffers,
    Cancelled,
    Failed,
}

/// One completion. `slot` is the socket's.
#[derive(Debug)]
pub(crate) enum Completion {
    Accepted(io::Result<TcpStream>),
    /// `armed`: further completions of this receive will follow.
    Received {
        slot: u32,
        received: Received,
        armed: bool,
    },
    /// A received buffer was sent, as far as `result` says.
    SentLease {
        slot: u32,
        lease: Lease,
        result: io::Result<usize>,
    },
    SentBytes {
        slot: u32,
        bytes: Vec<u8>,
        result: io::Result<usize>,
    },
    /// Nothing for the user.
    Internal,
}
