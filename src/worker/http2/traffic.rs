//! `Traffic`: what the streams of one connection share, and whether it is idle.
//!
//! ```text
//!           first stream                    GOAWAY                     last stream
//!   idle ─────────────────▶ busy     idle ──────────▶ ending    busy ──────────────▶ idle, or ending after GOAWAY
//! ```
//!
//! Not here: what a stream does.

use crate::base::bound::Bound;
use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::http::frames::Allowance;
use crate::http::frames::Allowances;
use crate::http::frames::Flood;
use crate::http::frames::Meter;
use crate::worker::Worker;
use crate::worker::client::Place;
use crate::worker::http2::lanes::Lanes;
use crate::worker::watch::Phase;
use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;

const ALLOWANCES: Allowances = Allowances {
    frames: Allowance { at_once: limits::HTTP2_FRAMES_AT_ONCE, per_second: limits::HTTP2_FRAMES_PER_SECOND },
    resets: Allowance { at_once: limits::HTTP2_RESETS_AT_ONCE, per_second: limits::HTTP2_RESETS_PER_SECOND },
    bytes_per_frame: limits::HTTP2_BYTES_PER_FRAME,
    frames_per_answer: limits::HTTP2_FRAMES_PER_ANSWER,
};

/// One for each connection.
pub(super) struct Traffic {
    pub(super) worker: Rc<Worker>,
    pub(super) lanes: Lanes,
    pub(super) meter: RefCell<Meter>,
    /// What the client sends too much of, until the connection has seen it.
    pub(super) flood: Cell<Option<Flood>>,
    /// Since when the client's socket has taken nothing of what waits for it.
    blocked: Cell<Option<Moment>>,
    /// The connection's slot of the watch; none when it has ended, because a stream may end later and the number is
    /// used again.
    slot: Cell<Option<usize>>,
    open: Cell<usize>,
    /// No further stream comes.
    leaving: Cell<bool>,
}

impl Traffic {
    pub(super) fn new(place: &Place, lanes: Lanes, now: Moment) -> Self {
        Self {
            worker: Rc::clone(&place.worker),
            lanes,
            meter: RefCell::new(Meter::new(ALLOWANCES, now)),
            flood: Cell::new(None),
            blocked: Cell::new(None),
            slot: Cell::new(Some(place.slot)),
            open: Cell::new(0),
            leaving: Cell::new(false),
        }
    }

    fn enter(&self, phase: Phase, millis: u64) {
        if let Some(slot) = self.slot.get() {
            let now = clock::now();
            self.worker.watch.enter(slot, phase, now, now.plus_millis(millis));
        }
    }

    /// What is waited for of the client, and since when: the rest of a request head, or that it takes something. Each
    /// has as long as a head.
    pub(super) fn waiting(&self) -> Option<(Moment, Bound)> {
        let head = self.meter.borrow().unfinished_head().map(|since| (since, Bound::Http2Frames));
        let room = self.blocked.get().map(|since| (since, Bound::Http2Window));
        head.into_iter().chain(room).min_by_key(|(since, _)| *since)
    }

    /// Whether the socket took something.
    pub(super) fn wrote(&self, taken: bool) {
        let since = self.blocked.get();
        self.blocked.set(if taken { None } else { Some(since.unwrap_or_else(clock::now)) });
    }

    pub(super) fn is_busy(&self) -> bool {
        self.open.get() > 0
    }

    /// No stream is open.
    pub(super) fn rest(&self) {
        if self.leaving.get() {
            // What was said last may still be on its way.
            self.enter(Phase::Linger, limits::LINGER_MS);
        } else {
            self.enter(Phase::Shared, self.worker.adopt().plan.http.idle_timeout_ms);
        }
    }

    /// GOAWAY was said; what is open goes on.
    pub(super) fn leave(&self) {
        self.leaving.set(true);
        if !self.is_busy() {
            self.rest();
        }
    }

    /// The connection ends now, whatever is open.
    pub(super) fn abandon(&self) {
        self.leaving.set(true);
        self.enter(Phase::Linger, limits::LINGER_MS);
        // No stream changes that.
        self.slot.set(None);
    }

    /// The connection has ended.
    pub(super) fn close(&self) {
        self.slot.set(None);
    }

    /// The client reset a stream, or sent what we reset it for.
    pub(super) fn count_reset(&self) {
        if let Err(flood) = self.meter.borrow_mut().reset(clock::now()) {
            self.flood.set(Some(flood));
        }
    }
}

/// A stream that is open, for as long as it lives.
pub(super) struct Open(pub(super) Rc<Traffic>);

impl Open {
    pub(super) fn new(traffic: Rc<Traffic>) -> Self {
        if traffic.open.replace(traffic.open.get() + 1) == 0 {
            // Each stream has times of its own.
            traffic.enter(Phase::Shared, limits::NEVER_MS);
        }
        Self(traffic)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if !self.0.is_busy() {
            self.0.rest();
        }
    }
}
