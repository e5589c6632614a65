//! One client connection: its bytes as they come in, one request after the other.
//!
//! A client that begins in HTTP/2 is handed over to `http2`, which serves each stream through a lane: a connection
//! within the process that is served here like any other.
//!
//! Not here: what a request means and what is answered. Between requests a connection holds no buffer: it
//! waits for readiness, so that an idle one costs its task and nothing else.

use crate::base::bound::Bound;
use crate::base::buffer::Buffer;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::config::plan::Http;
use crate::edge::accept::Ends;
use crate::http::http2::Preface;
use crate::http::http2::preface;
use crate::http::request;
use crate::http::request::HeadLimits;
use crate::http::request::HeadScan;
use crate::net::stream::Stream;
use crate::policy::certificate::CertificateIdentity;
use crate::worker::Worker;
use crate::worker::exchange;
use crate::worker::http2;
use crate::worker::http2::lanes;
use crate::worker::http2::lanes::Lanes;
use crate::worker::refuse;
use crate::worker::state::Exchange;
use crate::worker::watch::Cause;
use crate::worker::watch::Phase;
use std::rc::Rc;

/// What a connection holds of its worker for as long as it is open: a slot of the watch, and its place in the count
/// of connections. Given up before its descriptor closes and the number is used again.
pub struct Place {
    pub worker: Rc<Worker>,
    pub slot: usize,
    /// Not the lanes of an HTTP/2 connection, which is one itself.
    counted: bool,
}

impl Place {
    /// For a connection of a client.
    pub fn new(worker: Rc<Worker>, stream: &Stream) -> Self {
        worker.metrics().client_connections.add(1);
        let mut place = Self::uncounted(worker, stream);
        place.counted = true;
        place
    }

    fn uncounted(worker: Rc<Worker>, stream: &Stream) -> Self {
        let now = clock::now();
        let idle = worker.adopt().plan.http.idle_timeout_ms;
        let slot = worker.watch.register(stream.fd(), now, now.plus_millis(idle));
        Self { worker, slot, counted: false }
    }

    /// How long it may wait for a request.
    fn idle_ms(&self) -> u64 {
        let wanted = self.worker.adopt().plan.http.idle_timeout_ms;
        if self.counted { wanted } else { lanes::idle_ms(wanted) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.watch.remove(self.slot);
        if self.counted {
            self.worker.metrics().client_connections.sub(1);
        }
    }
}

/// A connection and what was received on it and not used yet.
pub struct Client {
    // Before the stream, so that it goes first.
    place: Place,
    pub slot: usize,
    pub stream: Stream,
    pub ends: Ends,
    /// What the client's certificate says; only where the listener asks for one. As long as the connection: a renewed
    /// one comes with a new connection.
    pub certificate: Option<Rc<CertificateIdentity>>,
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
    /// At most `limits::CALLS_PER_CONNECTION_MAX`.
    calls: u32,
    worker: Rc<Worker>,
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Keep,
    Close,
    /// Close, but let the client read the answer first.
    Linger,
}

/// How the first protocol of a connection ends.
enum End {
    Closed,
    /// It closes, but the client may read its answer first.
    Lingering,
    /// The client goes on in HTTP/2.
    Http2,
}

/// Serves one connection until it ends.
pub async fn serve(
    worker: Rc<Worker>,
    stream: Stream,
    ends: Ends,
    certificate: Option<Rc<CertificateIdentity>>,
) {
    let place = Place::new(worker, &stream);
    let mut client = Client::new(place, stream, ends, certificate);
    match client.converse().await {
        End::Closed => {}
        End::Lingering => client.linger().await,
        // On the heap, so that the others do not pay for it.
        End::Http2 => return Box::pin(client.change_to_http2()).await,
    }
    client.release();
}

/// Serves one lane of an HTTP/2 connection, like a connection of the same client.
pub async fn serve_lane(
    worker: Rc<Worker>,
    stream: Stream,
    ends: Ends,
    certificate: Option<Rc<CertificateIdentity>>,
) {
    let place = Place::uncounted(worker, &stream);
    let mut client = Client::new(place, stream, ends, certificate);
    // No request of a lane begins like HTTP/2: its path is one.
    if let End::Lingering = client.converse().await {
        client.linger().await;
    }
    client.release();
}

/// Serves one request; none where it is none of HTTP/1.1.
async fn one(worker: &Rc<Worker>, client: &mut Client) -> Option<After> {
    let mut exchange = worker.exchange();
    let adopted = worker.adopt();
    let after = match client.head(&adopted.plan.http, &mut exchange).await {
        Ok(Head::Whole) => Some(exchange::run(worker, adopted, client, &mut exchange).await),
        Ok(Head::Never) => Some(After::Close),
        Ok(Head::Http2) => None,
        Err(fault) => Some(refuse::unread(worker, client, &mut exchange, fault).await),
    };
    worker.give_back(exchange);
    after
}

/// What comes where a request is awaited.
enum Head {
    Whole,
    /// The client left before.
    Never,
    /// The preface of HTTP/2 in its place.
    Http2,
}

impl Client {
    fn new(place: Place, stream: Stream, ends: Ends, certificate: Option<Rc<CertificateIdentity>>) -> Self {
        Self {
            slot: place.slot,
            worker: Rc::clone(&place.worker),
            place,
            stream,
            ends,
            certificate,
            input: Buffer::default(),
            start: 0,
            end: 0,
            known_host: (0, Vec::new()),
            reserved: 0,
            came: Moment::ZERO,
            scan: HeadScan::default(),
            calls: 0,
        }
    }

    /// One request after the other.
    async fn converse(&mut self) -> End {
        while self.first_bytes().await {
            let worker = Rc::clone(&self.worker);
            // On the heap for as long as it lasts, so that an idle connection does not pay for a call's state.
            // Made where it stays: moving it there would copy all of its room, most of which is not used yet.
            let after = Box::into_pin(Box::write(Box::new_uninit(), one(&worker, self))).await;
            self.calls += 1;
            match after {
                Some(After::Keep) if self.calls < limits::CALLS_PER_CONNECTION_MAX => {}
                Some(After::Keep | After::Close) => return End::Closed,
                Some(After::Linger) => return End::Lingering,
                None => return End::Http2,
            }
        }
        End::Closed
    }

    /// Goes on in HTTP/2 with what has come of it.
    async fn change_to_http2(mut self) {
        let received = self.input[self.start..self.end].to_vec();
        self.release();
        let Self { place, stream, ends, certificate, .. } = self;
        http2::serve(place, stream, Lanes::new(ends, certificate), received).await;
    }

    /// Waits until a request begins, without a buffer; false when none will.
    async fn first_bytes(&mut self) -> bool {
        if self.start < self.end {
            // Pipelined: its time begins when the one before is done.
            self.came = clock::now();
            return true;
        }
        self.release();
        let now = self.worker.coarse_now();
        let deadline = now.plus_millis(self.place.idle_ms());
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

    /// Reads and checks a head.
    async fn head(&mut self, http: &Http, exchange: &mut Exchange) -> Result<Head, Fault> {
        self.scan = HeadScan::default();
        let head_limits = HeadLimits {
            head_bytes: http.max_head,
            target_bytes: limits::TARGET_BYTES_MAX,
            fields: limits::FIELDS_MAX,
        };
        let mut deadline = Moment::NEVER;
        loop {
            let received = &self.input[self.start..self.end];
            // TLS has agreed on HTTP/1.1 already, or on nothing.
            let may_change = self.calls == 0 && matches!(self.stream, Stream::Plain(_));
            match if may_change { preface(received) } else { Preface::No } {
                Preface::Whole => return Ok(Head::Http2),
                Preface::Partial => {}
                Preface::No => {
                    let fields = &mut exchange.fields;
                    let known_host = &self.known_host.1;
                    let parsed =
                        request::parse_next(received, &mut self.scan, head_limits, known_host, fields)?;
                    if let Some(head) = parsed {
                        if may_change {
                            self.stream.stay();
                        }
                        exchange.begin(head);
                        return Ok(Head::Whole);
                    }
                }
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
                    _ => Ok(Head::Never),
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
    async fn linger(&mut self) {
        self.stream.end();
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
    fn future_bytes<A, B, C, D, Task>(_task: impl FnOnce(A, B, C, D) -> Task) -> usize {
        size_of::<Task>()
    }

    /// What a connection keeps while it idles, as it is spawned.
    #[test]
    fn an_idle_connection_is_small() {
        let bytes = future_bytes(|worker, stream, local, certificate| {
            start::guard(move || serve(worker, stream, local, certificate))
        });
        assert!(bytes <= 1_536, "{bytes} B");
    }
}
