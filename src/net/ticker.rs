//! `Ticker`: the one timer of a worker.
//!
//! A timer descriptor that the ring waits for like a socket. The runtime's own timers are off: with them
//! every wait of the loop arms and disarms a kernel timer, which costs more than a call's own work.
//!
//! Not here: what is done at a tick, and deadlines (`worker::watch` compares them).

use crate::base::sys;
use crate::base::sys::Timer;
use monoio::net::UnixStream;
use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;

/// Ticks at one of two paces.
pub struct Ticker {
    stream: UnixStream,
    fast_ms: u64,
    slow_ms: u64,
    slow: Cell<bool>,
}

impl Ticker {
    /// # Errors
    /// Where no descriptor is free.
    pub fn new(fast_ms: u64, slow_ms: u64) -> io::Result<Self> {
        let timer = Timer::new(fast_ms)?;
        // Any descriptor can be waited for; the runtime only has no type of its own for this one.
        let stream = UnixStream::from_std(timer.into())?;
        Ok(Self { stream, fast_ms, slow_ms, slow: Cell::new(false) })
    }

    /// Waits for the next tick.
    ///
    /// # Errors
    /// Where the wait itself fails.
    pub async fn tick(&self) -> io::Result<()> {
        loop {
            match self.stream.readable(false).await {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ if sys::take_signal(self.stream.as_raw_fd()) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Ticks slowly while there is nothing to watch, so that an idle gateway sleeps.
    pub fn pace(&self, slow: bool) {
        if self.slow.replace(slow) != slow {
            Timer::set(self.stream.as_raw_fd(), if slow { self.slow_ms } else { self.fast_ms });
        }
    }
}
