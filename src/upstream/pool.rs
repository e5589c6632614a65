//! One instance of a server as one worker sees it: its idle connections and how many are open.
//!
//! Not here: other workers' connections (each has its own), health, and the choice between instances.

use crate::base::clock::Moment;
use crate::base::sys::Queue;
use crate::config::limits;
use crate::config::plan::Endpoint;
use crate::mcp::sealed;
use crate::net::stream::Stream;
use std::cell::Cell;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

pub struct Instance {
    pub endpoint: Endpoint,
    /// What it is called in sealed tokens.
    pub sealed_name: u32,
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Newest last: the one used last is reused first, so that the others can age out.
    idle: RefCell<Vec<Idle>>,
    /// Connections of this worker, in use or idle.
    open: Cell<usize>,
    /// What its name resolves to now; none for an address of its own, or before the first answer.
    addresses: RefCell<Option<Arc<[SocketAddr]>>>,
    /// When the last failure was told to the operator; failures in between are only counted.
    pub told: Cell<Moment>,
}

struct Idle {
    stream: Box<Stream>,
    peer: Option<SocketAddr>,
    since: Moment,
}

/// A connection in use. Dropping it closes it; [`Lease::give_back`] keeps it for the next call.
pub struct Lease {
    /// On the heap, once a connection: a call hands its lease from stage to stage.
    pub stream: Box<Stream>,
    /// Where it leads; none for a Unix socket.
    peer: Option<SocketAddr>,
    instance: Rc<Instance>,
}

impl Instance {
    pub fn new(endpoint: Endpoint, tls: Option<Arc<rustls::ClientConfig>>) -> Rc<Self> {
        // One half says as much about one of a few instances.
        let sealed_name = sealed::instance_name(&endpoint.label);
        Rc::new(Self {
            endpoint,
            sealed_name,
            tls,
            idle: RefCell::default(),
            open: Cell::new(0),
            addresses: RefCell::default(),
            told: Cell::new(Moment::ZERO),
        })
    }

    /// An idle connection on which nothing has come: bytes or an end on an idle connection close it, because
    /// whatever they are, they answer no request of ours.
    pub fn take_idle(self: &Rc<Self>) -> Option<Lease> {
        loop {
            let Idle { stream, peer, .. } = self.idle.borrow_mut().pop()?;
            if stream.queue() == Queue::Empty {
                return Some(Lease { stream, peer, instance: Rc::clone(self) });
            }
            self.open.set(self.open.get() - 1);
        }
    }

    /// Room for one more connection; the caller wraps what it opens with [`Self::lease`].
    pub fn has_room(&self) -> bool {
        self.open.get() < limits::UPSTREAM_CONNECTIONS_MAX
    }

    pub fn lease(self: &Rc<Self>, stream: Stream, peer: Option<SocketAddr>) -> Lease {
        self.open.set(self.open.get() + 1);
        Lease { stream: Box::new(stream), peer, instance: Rc::clone(self) }
    }

    /// Its name resolves to `addresses`: idle connections that lead elsewhere are closed, and those in use when
    /// their call is over. One comparison where nothing changed.
    pub fn follow(&self, addresses: &Arc<[SocketAddr]>) {
        let same = self.addresses.borrow().as_ref().is_some_and(|known| Arc::ptr_eq(known, addresses));
        if !same {
            *self.addresses.borrow_mut() = Some(Arc::clone(addresses));
            self.keep_idle(|one| self.leads_here(one.peer));
        }
    }

    fn leads_here(&self, peer: Option<SocketAddr>) -> bool {
        match (peer, &*self.addresses.borrow()) {
            (Some(peer), Some(addresses)) => addresses.contains(&peer),
            _ => true,
        }
    }

    fn keep_idle(&self, keep: impl Fn(&Idle) -> bool) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(keep);
        self.open.set(self.open.get() - (before - idle.len()));
    }

    /// Closes connections that have been idle for too long.
    pub fn trim(&self, now: Moment) {
        self.keep_idle(|one| now.nanos_since(one.since) < limits::POOL_IDLE_MS * 1_000_000);
    }

    /// Connections in use and idle.
    pub fn counts(&self) -> (usize, usize) {
        let idle = self.idle.borrow().len();
        (self.open.get() - idle, idle)
    }
}

impl Lease {
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Keeps the connection for the next call. Only for one whose answer was read exactly to its end and
    /// whose request was sent whole. False: enough are kept, and it was closed.
    pub fn give_back(self, now: Moment) -> bool {
        let Self { stream, peer, instance } = self;
        let mut idle = instance.idle.borrow_mut();
        let room = idle.len() < limits::POOL_IDLE_MAX;
        if room && instance.leads_here(peer) {
            stream.arm();
            idle.push(Idle { stream, peer, since: now });
        } else {
            instance.open.set(instance.open.get() - 1);
        }
        room
    }

    /// Closes the connection.
    pub fn close(self) {
        self.instance.open.set(self.instance.open.get() - 1);
    }
}
