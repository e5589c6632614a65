//! `Doors`: the listeners of one worker, and how a drain closes them.
//!
//! A listener that is closed resets what the kernel has accepted for it and we have not: calls whose clients are
//! connected and know of no drain. So a drain first has the kernel ignore who knocks from now on, and goes on accepting
//! who was let in. Whoever is ignored knocks again after a second, and is then refused.
//!
//! Not here: accepting (`edge::accept`), and what a drain means for open connections (`watch`).

use crate::base::clock::Moment;
use crate::config::limits;
use crate::handoff::Phase;
use crate::net::listen;
use std::cell::Cell;
use std::os::fd::RawFd;
use std::rc::Rc;

/// Held by each accept loop while it runs.
pub struct Door(Rc<Cell<bool>>);

impl Door {
    /// Whether the listener is closed: its accept loop ends.
    pub fn is_closed(&self) -> bool {
        self.0.get()
    }
}

#[derive(Default)]
pub struct Doors {
    /// Those that are not closed.
    open: Vec<RawFd>,
    closed: Rc<Cell<bool>>,
    /// Since the drain was seen: from when on they may be closed.
    close_at: Option<Moment>,
    /// Whether every accept loop had ended at the last turn.
    ended: bool,
}

impl Doors {
    /// The descriptor stays open for as long as the door is held.
    pub fn add(&mut self, listener: RawFd) -> Door {
        self.open.push(listener);
        Door(Rc::clone(&self.closed))
    }

    /// Does once a tick what the phase asks for. True: all are closed, and each connection that came through them has
    /// its slot in the watch.
    pub fn turn(&mut self, phase: Phase, now: Moment) -> bool {
        match phase {
            Phase::Starting | Phase::Serving => return false,
            Phase::Draining => {
                let close_at = *self.close_at.get_or_insert_with(|| turn_away(&self.open, now));
                if now < close_at || self.open.iter().any(|fd| listen::is_waited_at(*fd)) {
                    return false;
                }
            }
            Phase::Stopping => {}
        }
        self.closed.set(true);
        self.open.drain(..).for_each(listen::close);
        // The task of the connection that was accepted last begins within a turn.
        let ended = Rc::strong_count(&self.closed) == 1;
        std::mem::replace(&mut self.ended, ended) && ended
    }
}

/// When the listeners may be closed: late enough that a client that was answered before comes through.
fn turn_away(open: &[RawFd], now: Moment) -> Moment {
    let mut close_at = now.plus_millis(limits::DRAIN_ACCEPT_MS);
    for fd in open {
        if let Err(error) = listen::turn_away(*fd) {
            tracing::debug!(%error, "nobody can be turned away: some may be reset as the listener closes");
            // Who goes on knocking would hold the drain.
            close_at = now;
        }
    }
    close_at
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::os::fd::AsRawFd;

    /// What was in the listener's queue was reset.
    #[test]
    fn a_drain_closes_an_empty_queue_only() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut doors = Doors::default();
        let door = doors.add(listener.as_raw_fd());
        let queued = TcpStream::connect(address).expect("connected");
        let (start, later) = (Moment::ZERO, Moment::ZERO.plus_millis(limits::DRAIN_ACCEPT_MS));
        assert!(!doors.turn(Phase::Serving, later) && !doors.turn(Phase::Draining, start));
        assert!(!doors.turn(Phase::Draining, later) && !door.is_closed(), "one waits");
        drop((listener.accept().expect("the one that waits"), queued));
        assert!(!doors.turn(Phase::Draining, start) && !door.is_closed(), "one may be on its way");
        assert!(!doors.turn(Phase::Draining, later) && door.is_closed(), "closed, the loop has not ended");
        TcpStream::connect(address).expect_err("refused");
        drop(door);
        assert_eq!([(); 3].map(|()| doors.turn(Phase::Draining, later)), [false, true, true]);
    }

    #[test]
    fn an_end_waits_for_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let _queued = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let mut doors = Doors::default();
        let door = doors.add(listener.as_raw_fd());
        assert!(!doors.turn(Phase::Stopping, Moment::ZERO) && door.is_closed());
    }
}
