//! Lanes: connections within the process, on each of which one stream at a time is served as HTTP/1.1.
//!
//! Not here: what is said on them.

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::sys::Queue;
use crate::config::limits;
use crate::edge::accept::Ends;
use crate::net::stream::Stream;
use crate::policy::certificate::CertificateIdentity;
use crate::worker::Worker;
use crate::worker::client;
use crate::worker::start;
use std::cell::RefCell;
use std::rc::Rc;

/// How long a lane waits for its next stream, where connections wait for `connection_ms`.
pub fn idle_ms(connection_ms: u64) -> u64 {
    connection_ms.min(limits::HTTP2_LANE_IDLE_MS)
}

/// The lanes of one connection.
pub struct Lanes {
    /// The addresses of the connection that they belong to, and what its client's certificate says.
    ends: Ends,
    certificate: Option<Rc<CertificateIdentity>>,
    /// Those without a stream, and since when; the newest last.
    idle: RefCell<Vec<(Stream, Moment)>>,
}

impl Lanes {
    pub const fn new(ends: Ends, certificate: Option<Rc<CertificateIdentity>>) -> Self {
        Self { ends, certificate, idle: RefCell::new(Vec::new()) }
    }

    /// A lane; none where the worker has no room for another connection, or no descriptor.
    pub(super) fn take(&self, worker: &Rc<Worker>) -> Option<Stream> {
        // Half of it: the other end must not close what has just been given a request.
        let usable_ms = idle_ms(worker.adopt().plan.http.idle_timeout_ms) / 2;
        let now = clock::now();
        let newest = self.idle.borrow_mut().pop();
        if let Some((lane, since)) = newest
            && now < since.plus_millis(usable_ms)
            && !worker.is_draining()
            && lane.queue() == Queue::Empty
        {
            return Some(lane);
        }
        // The others are older.
        self.idle.borrow_mut().clear();
        if worker.watch.len() >= limits::CLIENT_CONNECTIONS_MAX {
            worker.metrics().hit(Bound::Connections);
            return None;
        }
        let (ours, theirs) = Stream::pair(limits::HTTP2_LANE_BYTES).ok()?;
        let (worker, ends, certificate) = (Rc::clone(worker), self.ends, self.certificate.clone());
        monoio::spawn(start::guard(move || client::serve_lane(worker, theirs, ends, certificate)));
        Some(ours)
    }

    /// For a lane whose answer was read to its end.
    pub(super) fn give_back(&self, lane: Stream) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < limits::HTTP2_LANES_IDLE_MAX {
            idle.push((lane, clock::now()));
        }
    }
}
