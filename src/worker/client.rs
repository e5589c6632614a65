//! One client connection: its bytes as they come in, one request after the other.
//!
//! Not here: what a request means and what is answered. Between requests a connection holds no buffer: it
//! waits for readiness, so that an idle one costs its task and nothing else.

use crate::base::bound::Bound;
use crate::base::buffer::Buffer;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::base::sys;
use crate::config::limits;
use crate::config::plan::Http;
use crate::edge::accept::Ends;
use crate::http::request;
use crate::http::request::HeadLimits;
use crate::http::request::HeadScan;
use crate::net::stream::Stream;
use crate::worker::Worker;
use crate::worker::exchange;
use crate::worker::exchange::After;
use crate::worker::refuse;
use crate::worker::state::Exchange;
use crate::worker::watch::Cause;
use crate::worker::watch::Phase;
use std::rc::Rc;

/// A connection and what was received on it and not used yet.
pub struct Client {
    pub stream: Stream,
    pub slot: usize,
    pub ends: Ends,
    /// Empty between requests.
    pub input: Buffer,
    /// Where the request at hand begins in `input`.
    pub start: usize,
    /// Where the received bytes end.
    pub end: usize,
    /// The Host that was found to be ours last, and the plan's epoch then: most clients send one.
    pub known_host: (u64, Vec<u8>),
    /// Bytes of the worker's budget that `input` holds.
    pub reserved: usize,
    /// When the newest of them came.
    pub came: Moment,
    scan: HeadScan,
    calls: u64,
    worker: Rc<Worker>,
}

impl Drop for Client {
    fn drop(&mut self) {
        // Before the descriptor closes and its number is used again.
        self.worker.watch.remove(self.slot);
        self.release();
        self.worker.metrics().client_connections.sub(1);
    }
}

/// Serves one connection until it ends.
pub async fn serve(worker: Rc<Worker>, stream: Stream, ends: Ends) {
    let now = clock::now();
    let idle = worker.adopt().plan.http.idle_timeout_ms;
    let slot = worker.watch.register(stream.fd(), now, now.plus_millis(idle));
    worker.metrics().client_connections.add(1);
    let mut client = Client {
        stream,
        slot,
        ends,
        input: Buffer::default(),
        start: 0,
        end: 0,
        known_host: (0, Vec::new()),
        reserved: 0,
        came: Moment::ZERO,
        scan: HeadScan::default(),
        calls: 0,
        worker: Rc::clone(&worker),
    };
    while client.first_bytes().await {
        // On the heap for as long as it lasts, so that an idle connection does not pay for a call's state.
        let after = Box::pin(one(&worker, &mut client)).await;
        client.calls += 1;
        match after {
            After::Keep if client.calls < limits::CALLS_PER_CONNECTION_MAX => {}
            After::Keep | After::Close => return,
            After::Linger => return client.linger().await,
        }
    }
}

/// Serves one request.
async fn one(worker: &Rc<Worker>, client: &mut Client) -> After {
    let mut exchange = worker.exchange();
    let adopted = worker.adopt();
    let after = match client.head(&adopted.plan.http, &mut exchange).await {
        Ok(true) => exchange::run(worker, adopted, client, &mut exchange).await,
        Ok(false) => After::Close,
        Err(fault) => refuse::unread(worker, client, &mut exchange, fault).await,
    };
    worker.give_back(exchange);
    after
}

impl Client {
    /// Waits until a request begins, without a buffer; false when none will.
    async fn first_bytes(&mut self) -> bool {
        if self.start < self.end {
            // Pipelined: its time begins when the one before is done.
            self.came = clock::now();
            return true;
        }
        self.release();
        let now = self.worker.coarse_now();
        let deadline = now.plus_millis(self.worker.adopt().plan.http.idle_timeout_ms);
        self.worker.watch.enter(self.slot, Phase::Idle, now, deadline);
        match self.stream.receive(&self.worker.buffers).await {
            Ok(Some(arrived)) => {
                (self.input, self.start, self.end) = (arrived.buffer, arrived.start, arrived.end);
                self.came = arrived.at;
                true
            }
            Ok(None) | Err(_) => {
                self.settle().await;
                false
            }
        }
    }

    /// The last answer may still be on its way to a client that has ended its own side.
    async fn settle(&mut self) {
        let now = self.worker.coarse_now();
        let deadline = now.plus_millis(limits::LINGER_MS);
        self.worker.watch.enter(self.slot, Phase::Client, now, deadline);
        let _ = self.stream.settle().await;
    }

    /// Reads and checks a head; false when the client left without having sent one whole.
    async fn head(&mut self, http: &Http, exchange: &mut Exchange) -> Result<bool, Fault> {
        self.scan = HeadScan::default();
        let head_limits = HeadLimits {
            head_bytes: http.max_head,
            target_bytes: limits::TARGET_BYTES_MAX,
            fields: limits::FIELDS_MAX,
        };
        let mut deadline = Moment::NEVER;
        loop {
            let received = &self.input[self.start..self.end];
            if let Some(head) =
                request::parse_request(received, &mut self.scan, head_limits, &mut exchange.fields)?
            {
                exchange.begin(head);
                return Ok(true);
            }
            let now = clock::now();
            if deadline == Moment::NEVER {
                deadline = now.plus_millis(http.header_timeout_ms);
            }
            self.worker.watch.enter(self.slot, Phase::Head, now, deadline);
            // One byte over the limit is enough to know that it is over.
            let wanted = self.end - self.start + 1;
            self.grow(self.start + wanted.max(http.max_head.min(wanted * 2)));
            if self.receive().await == 0 {
                return match self.worker.watch.cause(self.slot) {
                    Some(Cause::HeadTimeout) => Err(Fault::new(
                        Kind::HeadTimeout,
                        "The request head did not arrive in time; send it at once.",
                    )),
                    _ => Ok(false),
                };
            }
        }
    }

    /// Receives more behind what is there; 0 when the client has closed or the connection is broken.
    pub async fn receive(&mut self) -> usize {
        let buffer = std::mem::take(&mut self.input);
        let range = self.end..buffer.len();
        let (received, buffer) = self.stream.read(buffer, range).await;
        self.input = buffer;
        let received = received.unwrap_or(0);
        self.end += received;
        self.came = clock::now();
        received
    }

    /// Makes room for `bytes` in `input`, counted from its beginning. What is there keeps its place.
    pub fn grow(&mut self, bytes: usize) {
        if bytes <= self.input.len() {
            return;
        }
        let mut larger = self.worker.buffers.at_least(bytes);
        larger[..self.end].copy_from_slice(&self.input[..self.end]);
        self.worker.buffers.give_back(std::mem::replace(&mut self.input, larger));
    }

    /// The request at hand is done; the next one begins at `next`.
    pub fn advance(&mut self, next: usize) {
        self.start = next.min(self.end);
        if self.start == self.end {
            self.release();
            return;
        }
        // Pipelined bytes move to the front, so that the next head has its room before it again.
        let mut front = self.worker.buffers.at_least(limits::HEADROOM_BYTES + self.end - self.start);
        let rest = limits::HEADROOM_BYTES + self.end - self.start;
        front[limits::HEADROOM_BYTES..rest].copy_from_slice(&self.input[self.start..self.end]);
        self.release();
        self.input = front;
        self.start = limits::HEADROOM_BYTES;
        self.end = rest;
    }

    fn acquire(&mut self) {
        self.input = self.worker.buffers.small();
        self.start = limits::HEADROOM_BYTES;
        self.end = limits::HEADROOM_BYTES;
    }

    /// Gives the buffer back; what was in it is gone.
    pub fn release(&mut self) {
        if !self.input.is_empty() {
            self.worker.buffers.give_back(std::mem::take(&mut self.input));
        }
        if self.reserved > 0 {
            self.worker.budget.give_back(std::mem::take(&mut self.reserved));
        }
        self.start = 0;
        self.end = 0;
    }

    /// Reads and throws away what the client still sends, so that closing does not reset the answer that is
    /// on its way to it (RFC 9112 section 9.6).
    async fn linger(mut self) {
        sys::shut(self.stream.fd(), sys::Direction::Write);
        let now = clock::now();
        self.worker.watch.enter(self.slot, Phase::Linger, now, now.plus_millis(limits::LINGER_MS));
        self.release();
        self.acquire();
        let mut discarded = 0;
        while discarded < limits::LINGER_BYTES_MAX {
            self.end = self.start;
            match self.receive().await {
                0 => return,
                received => discarded += received,
            }
        }
        self.worker.metrics().hit(Bound::Linger);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::start;

    /// Bytes of the future that `task` makes.
    fn future_bytes<A, B, C, Task>(_task: impl FnOnce(A, B, C) -> Task) -> usize {
        size_of::<Task>()
    }

    /// What a connection keeps while it idles, as it is spawned.
    #[test]
    fn an_idle_connection_is_small() {
        let bytes = future_bytes(|worker, stream, local| start::guard(move || serve(worker, stream, local)));
        assert!(bytes <= 1_536, "{bytes} B");
    }
}
