//! One HTTP/2 connection of a client: its streams, each served through a lane, and its end.
//!
//! ```text
//!  socket ── Wire (counts frames) ── h2 ──┬── stream ══ lane ══ client::serve_lane: HTTP/1.1, as from any client
//!                                         └── stream ══ lane ══ client::serve_lane
//! ```
//!
//! A lane is a pair of Unix sockets. So every rule of framing, identity, limits, draining and cancellation is the one
//! that HTTP/1.1 has; here is only what HTTP/2 adds (docs/decisions/0016).
//!
//! Not here: frames, HPACK, flow control (the crate `h2`), and how a head is translated (`http::http2`). The crate
//! needs tokio's I/O traits and no runtime of tokio.

pub mod lanes;
mod stream;
mod traffic;
mod wire;

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::plan::Http;
use crate::http::frames::Flood;
use crate::net::stream::Stream;
use crate::worker::client::Place;
use crate::worker::http2::lanes::Lanes;
use crate::worker::http2::traffic::Traffic;
use crate::worker::http2::wire::Wire;
use crate::worker::start;
use crate::worker::watch::Phase;
use bytes::Bytes;
use h2::Reason;
use h2::RecvStream;
use h2::server::Builder;
use h2::server::SendResponse;
use http::Request;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

type Arrival = (Request<RecvStream>, SendResponse<Bytes>);

/// Serves one connection until it ends. `received` is what was read of it before, the preface first.
pub async fn serve(place: Place, stream: Stream, lanes: Lanes, received: Vec<u8>) {
    let Ok(io) = stream.into_poll_io() else { return };
    let adopted = place.worker.adopt();
    let settings = settings(&adopted.plan.http);
    let header_timeout_ms = adopted.plan.http.header_timeout_ms;
    drop(adopted);
    let now = clock::now();
    // Its preface may take as long as a head.
    place.worker.watch.enter(place.slot, Phase::Head, now, now.plus_millis(header_timeout_ms));
    let traffic = Rc::new(Traffic::new(&place, lanes, now));
    let wire = Wire::new(io, received, Rc::clone(&traffic));
    let Ok(h2) = settings.handshake(wire).await else { return };
    let mut connection = Connection { place, h2, traffic, header_timeout_ms, waiting: None, leaving: false };
    connection.traffic.rest();
    while let Some((request, respond)) = std::future::poll_fn(|cx| connection.poll(cx)).await {
        let traffic = Rc::clone(&connection.traffic);
        monoio::spawn(start::guard(move || stream::serve(traffic, request, respond)));
    }
    connection.traffic.close();
}

fn settings(http: &Http) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(http.max_head).unwrap_or(u32::MAX))
        .header_table_size(limits::HTTP2_HEADER_TABLE_BYTES)
        .initial_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(limits::HTTP2_SEND_BUFFER_BYTES)
        // Reset before we saw them: more than it may have open, and it is no client that cancels.
        .max_pending_accept_reset_streams(limits::HTTP2_STREAMS_MAX as usize)
        .max_local_error_reset_streams(Some(limits::HTTP2_FAULTS_MAX));
    builder
}

struct Connection {
    // Before the socket that `h2` closes, so that it goes first.
    place: Place,
    h2: h2::server::Connection<Wire, Bytes>,
    traffic: Rc<Traffic>,
    header_timeout_ms: u64,
    /// What is waited for of the client, as the watch knows it.
    waiting: Option<(Moment, Bound)>,
    /// GOAWAY was said.
    leaving: bool,
}

impl Connection {
    /// The next request; none where the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        // Until nothing is left to be told: only then the next time wakes us.
        while self.place.worker.watch.poll_nudge(self.place.slot, cx.waker()) {
            self.look();
        }
        loop {
            let polled = self.h2.poll_accept(cx);
            if let Some(flood) = self.traffic.flood.take() {
                self.calm(match flood {
                    Flood::Frames => Bound::Http2Frames,
                    Flood::Resets => Bound::Http2Resets,
                });
                continue;
            }
            self.watch_client();
            return polled.map(|arrival| match arrival {
                Some(Ok(arrival)) => Some(arrival),
                Some(Err(error)) => {
                    // Ended by `h2` for one of its own bounds.
                    if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                        self.place.worker.metrics().hit(Bound::Http2Frames);
                    }
                    None
                }
                None => None,
            });
        }
    }

    /// A time is over, or a drain has begun.
    fn look(&mut self) {
        let Place { worker, slot, .. } = &self.place;
        let is_idle = worker.watch.cause(*slot).is_some() && !self.traffic.is_busy();
        worker.watch.forgive(*slot);
        let now = clock::now();
        if let Some((since, bound)) = self.waiting
            && now >= since.plus_millis(self.header_timeout_ms)
        {
            self.calm(bound);
        } else if (is_idle || worker.is_draining()) && !self.leaving {
            self.leaving = true;
            self.h2.graceful_shutdown();
            self.traffic.leave();
        }
    }

    /// Ends the connection at once, and says why (RFC 9113 section 7).
    fn calm(&mut self, bound: Bound) {
        self.place.worker.metrics().hit(bound);
        self.leaving = true;
        self.h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        self.traffic.abandon();
    }

    /// What is waited for of the client must come in time.
    fn watch_client(&mut self) {
        let waiting = self.traffic.waiting();
        if waiting != self.waiting {
            self.waiting = waiting;
            let end = waiting.map(|(since, _)| since.plus_millis(self.header_timeout_ms));
            self.place.worker.watch.nudge_at(self.place.slot, end.unwrap_or(Moment::NEVER));
        }
    }
}
