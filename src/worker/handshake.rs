//! From an accepted connection of a TLS listener to a client that is served: bounded in time and in number, so that
//! a handshake that is slow, cut or garbage costs only itself.
//!
//! Not here: the handshake itself (`edge::tls`).

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::config::tls_server::ListenerTls;
use crate::edge::accept::Ends;
use crate::edge::tls;
use crate::edge::tls::Protocol;
use crate::net::stream::Stream;
use crate::policy::certificate;
use crate::telemetry::family::Family;
use crate::worker::Worker;
use crate::worker::client;
use crate::worker::http2;
use crate::worker::http2::lanes::Lanes;
use crate::worker::start;
use crate::worker::watch::Cause;
use crate::worker::watch::Phase;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

/// The handshakes under way on one worker, the oldest first: their slots of the watch, and when they began.
#[derive(Default)]
pub struct Handshakes(RefCell<VecDeque<(usize, Moment)>>);

/// The place of one among them, and its slot of the watch. Its socket ends in the same turn of the worker, before which no
/// tick can meet the slot.
struct Place<'w> {
    worker: &'w Worker,
    slot: usize,
}

impl<'w> Place<'w> {
    /// None where all places are taken by handshakes that have just begun. One that has not got far in a while gives
    /// way.
    fn take(worker: &'w Worker, client: RawFd, now: Moment) -> Option<Self> {
        let mut under_way = worker.handshakes.0.borrow_mut();
        if under_way.len() >= limits::HANDSHAKES_MAX {
            worker.metrics().hit(Bound::Handshakes);
            let (oldest, since) = *under_way.front()?;
            if now < since.plus_millis(limits::HANDSHAKE_GRACE_MS) {
                return None;
            }
            // Its task ends with the next turn, and finds itself gone from the list.
            under_way.pop_front();
            worker.watch.end(oldest, Cause::HeadTimeout);
        }
        let deadline = now.plus_millis(worker.adopt().plan.http.header_timeout_ms);
        let slot = worker.watch.register(client, now, deadline);
        worker.watch.enter(slot, Phase::Handshake, now, deadline);
        under_way.push_back((slot, now));
        Some(Self { worker, slot })
    }

    /// The handshake is over: others may begin.
    fn leave(&self) {
        self.worker.handshakes.0.borrow_mut().retain(|(slot, _)| *slot != self.slot);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
        self.worker.watch.remove(self.slot);
    }
}

/// Shakes hands and hands the session to whoever speaks what was agreed on.
pub async fn serve(worker: Rc<Worker>, stream: Stream, ends: Ends, listener: Arc<ListenerTls>) {
    let Some(place) = Place::take(&worker, stream.fd(), clock::now()) else { return };
    let accepted = tls::accept(stream, &listener.config).await;
    place.leave();
    let session = match accepted {
        Ok(session) => session,
        Err(failed) => {
            worker.metrics().count(Family::TlsHandshakes, &["failed"], 1);
            tracing::debug!(peer = %ends.peer, "TLS handshake failed: {}", failed.error);
            let now = clock::now();
            worker.watch.enter(place.slot, Phase::Linger, now, now.plus_millis(limits::LINGER_MS));
            return failed.linger().await;
        }
    };
    drop(place);
    let outcome = if session.resumed { "resumed" } else { "full" };
    worker.metrics().count(Family::TlsHandshakes, &[outcome], 1);
    let certificate = session.certificate.and_then(|whole| certificate::identity(&whole)).map(Rc::new);
    let (worker, stream) = (Rc::clone(&worker), session.stream);
    // A task of its own: what the handshake needed is given back.
    match session.protocol {
        Protocol::Http1 => {
            monoio::spawn(start::guard(move || client::serve(worker, stream, ends, certificate)));
        }
        Protocol::Http2 => {
            let lanes = Lanes::new(ends, certificate);
            let place = client::Place::new(worker, &stream);
            monoio::spawn(start::guard(move || http2::serve(place, stream, lanes, Vec::new())));
        }
    }
}
