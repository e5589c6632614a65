//! Circuit breaker: after too many failures calls are refused at once, then a few probes find out.
//!
//! ```text
//!            too many failures                    open time over
//!   Closed ────────────────────▶ Open ───────────────────────────────▶ HalfOpen
//!     ▲                           ▲   one probe failed: twice as long     │  │
//!     │                           └───────────────────────────────────────┘  │
//!     └──────────────────── as many probes as were asked for succeeded ──────┘
//! ```
//!
//! Shared by all workers without a lock: everything that decides is in one word, read once when a call enters
//! and once when it ends. A healthy call writes nothing here, only its `Flow`.
//!
//! Not here: what counts as a failure (the worker), and which instance is asked (`balance`).

use crate::base::atomic::AtomicU64;
use crate::base::atomic::Ordering;
use crate::base::atomic::fence;
use crate::base::clock::Moment;
use crate::config::traffic::Breaker as Settings;
use crate::route::flow::Flow;
use crate::route::flow::distance;
use crate::route::phase::Numbered;
use crate::route::phase::OPEN_MS_MAX;
use crate::route::phase::Phase;
use crate::route::phase::REOPENED_MAX;
use crate::route::phase::Word;
use crate::route::phase::left_ms;

/// What is said to a caller while the probes are out: nobody knows how long they take, and a second is the
/// unit of `Retry-After`.
const PROBES_OUT_RETRY_MS: u64 = 1_000;
/// As `ringgate_breaker_state` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

/// A change of state, told to exactly one caller: one log line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Closed,
    HalfOpened,
    Opened { for_ms: u64 },
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// Says nothing about the server: cancelled by the caller, refused here.
    Neutral,
}

/// No call may pass; perhaps after `retry_ms`, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub retry_ms: u64,
}

/// A call that was let in. Must come back by `finish`: a lost probe would keep the breaker half-open.
#[must_use = "a call that was let in must be finished"]
#[derive(Debug)]
pub struct Entry {
    generation: u32,
    probe: bool,
    half_opened: bool,
}

impl Entry {
    /// Whether this entry made the breaker half-open.
    pub fn change(&self) -> Option<Change> {
        self.half_opened.then_some(Change::HalfOpened)
    }
}

#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    /// See `Word`.
    word: AtomicU64,
    /// Generation of the present closed phase, and the last outcome before it (`Numbered`).
    base: AtomicU64,
    /// Failures written to the ring since the beginning.
    failures: AtomicU64,
    /// The last failures (`Numbered`): as many as open it in a full window.
    ring: Box<[AtomicU64]>,
}

impl Breaker {
    /// Closed. The `Flow` that comes with every call must be new as well.
    pub fn new(settings: &Settings) -> Self {
        let opens_at = (u64::from(settings.failure_permille) * u64::from(settings.window)).div_ceil(1_000);
        let first = Word { generation: 1, reopened: 0, phase: Phase::Closed };
        Self {
            settings: *settings,
            word: AtomicU64::new(first.pack()),
            base: AtomicU64::new(Numbered { generation: first.generation, number: 0 }.pack()),
            failures: AtomicU64::new(0),
            ring: (0..opens_at.max(1)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn state(&self, now: Moment) -> State {
        match self.word(Ordering::Relaxed).1.phase {
            Phase::Closed => State::Closed,
            Phase::Open { until_ms } if left_ms(until_ms, now).is_some() => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether `enter` would let a call in. Writes nothing.
    pub fn admits(&self, now: Moment) -> Result<(), Refused> {
        self.entered(self.word(Ordering::Relaxed).1, now).map(|_| ())
    }

    /// Lets a call in and starts it in `flow`, or refuses it.
    pub fn enter(&self, flow: &Flow, now: Moment) -> Result<Entry, Refused> {
        loop {
            let (seen, word) = self.word(Ordering::Acquire);
            let next = self.entered(word, now)?;
            let probe = next.phase != Phase::Closed;
            if !probe || self.replace(seen, next) {
                flow.start();
                let half_opened = matches!(word.phase, Phase::Open { .. });
                return Ok(Entry { generation: next.generation, probe, half_opened });
            }
        }
    }

    /// Ends a call that was let in, here and in `flow`.
    pub fn finish(&self, flow: &Flow, entry: Entry, outcome: Outcome, now: Moment) -> Option<Change> {
        let generation = entry.generation;
        if !entry.probe && outcome != Outcome::Neutral {
            return self.count(flow, generation, outcome == Outcome::Failure, now);
        }
        flow.leave();
        match outcome {
            Outcome::Success => self.probe_succeeded(flow, generation),
            Outcome::Failure => self.probe_failed(generation, now),
            Outcome::Neutral => {
                self.give_back(generation);
                None
            }
        }
    }

    /// To be called at least once a day, calls or none: an open time that is over must not come round again.
    pub fn tidy(&self, now: Moment) -> Option<Change> {
        let (seen, word) = self.word(Ordering::Acquire);
        let Phase::Open { until_ms } = word.phase else { return None };
        let over = left_ms(until_ms, now).is_none();
        let next = Word { phase: Phase::HalfOpen { issued: 0, succeeded: 0 }, ..word };
        (over && self.replace(seen, next)).then_some(Change::HalfOpened)
    }

    /// What a call that enters now makes of `word`.
    fn entered(&self, word: Word, now: Moment) -> Result<Word, Refused> {
        let phase = match word.phase {
            Phase::Closed => Phase::Closed,
            Phase::Open { until_ms } => match left_ms(until_ms, now) {
                // A clock that is a little behind the one that opened it sees more than the whole time.
                Some(left_ms) => {
                    return Err(Refused { retry_ms: left_ms.min(self.open_ms(word.reopened)) });
                }
                None => Phase::HalfOpen { issued: 1, succeeded: 0 },
            },
            Phase::HalfOpen { issued, .. } if issued >= self.probes() => {
                return Err(Refused { retry_ms: PROBES_OUT_RETRY_MS });
            }
            Phase::HalfOpen { issued, succeeded } => Phase::HalfOpen { issued: issued + 1, succeeded },
        };
        Ok(Word { phase, ..word })
    }

    /// The outcome of a call that entered while it was closed. Counts nothing if it has opened since. (It takes a
    /// number too many if it opens and closes again between the first two lines: one success more, for once.)
    fn count(&self, flow: &Flow, generation: u32, failed: bool, now: Moment) -> Option<Change> {
        let (seen, word) = self.word(Ordering::Acquire);
        if word.generation != generation {
            flow.leave();
            return None;
        }
        let number = flow.count();
        let base = Numbered::unpack(self.base.load(Ordering::Acquire));
        if base.generation != generation {
            return None;
        }
        if failed {
            self.note(Numbered { generation, number });
        } else if distance(base.number, number) != u64::from(self.settings.min_calls) {
            // A success can only tip the scales where it completes the least number of calls.
            return None;
        }
        // Of two outcomes at the same time at least one sees the other: its failure in the ring, or that the
        // least number of calls is reached.
        fence(Ordering::SeqCst);
        if !self.too_many_failures(base, flow) {
            return None;
        }
        let open_ms = self.open_ms(0);
        self.replace(seen, word.opened(0, open_ms, now)).then_some(Change::Opened { for_ms: open_ms })
    }

    fn note(&self, failure: Numbered) {
        let place = self.failures.fetch_add(1, Ordering::Relaxed) % self.ring.len() as u64;
        if let Some(slot) = usize::try_from(place).ok().and_then(|place| self.ring.get(place)) {
            slot.store(failure.pack(), Ordering::Relaxed);
        }
    }

    /// Looks at the last `window` outcomes up to the newest failure: between failures the share only falls.
    fn too_many_failures(&self, base: Numbered, flow: &Flow) -> bool {
        let numbers = || {
            let failures = self.ring.iter().map(|slot| Numbered::unpack(slot.load(Ordering::Relaxed)));
            let ours = failures.filter(|failure| failure.generation == base.generation);
            ours.map(|failure| distance(base.number, failure.number))
        };
        let min_calls = u64::from(self.settings.min_calls);
        let reached = distance(base.number, flow.outcomes()).min(min_calls);
        let end = numbers().max().unwrap_or(0).max(reached);
        let looked_at = end.min(u64::from(self.settings.window));
        let failed = numbers().filter(|number| (end - looked_at + 1..=end).contains(number)).count() as u64;
        looked_at >= min_calls && failed * 1_000 >= u64::from(self.settings.failure_permille) * looked_at
    }

    fn probe_succeeded(&self, flow: &Flow, generation: u32) -> Option<Change> {
        loop {
            // Read before the word: if it is still the same when it is replaced, no other phase came between.
            let base = self.base.load(Ordering::Acquire);
            let (seen, word) = self.word(Ordering::Acquire);
            let (issued, succeeded) = word.probes_of(generation)?;
            if succeeded + 1 < self.probes() {
                let phase = Phase::HalfOpen { issued, succeeded: succeeded + 1 };
                if self.replace(seen, Word { phase, ..word }) {
                    return None;
                }
                continue;
            }
            let closed = word.closed();
            // Nothing is counted while it is not closed, so the last number before it closes is known now.
            let from = Numbered { generation: closed.generation, number: flow.outcomes() }.pack();
            let ours = self.base.compare_exchange(base, from, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if ours && self.replace(seen, closed) {
                return Some(Change::Closed);
            }
        }
    }

    fn probe_failed(&self, generation: u32, now: Moment) -> Option<Change> {
        loop {
            let (seen, word) = self.word(Ordering::Acquire);
            word.probes_of(generation)?;
            let reopened = word.reopened.saturating_add(1);
            let open_ms = self.open_ms(reopened);
            if self.replace(seen, word.opened(reopened, open_ms, now)) {
                return Some(Change::Opened { for_ms: open_ms });
            }
        }
    }

    /// A probe that found nothing out: another call may be the probe. Nothing to do for a call that was none.
    fn give_back(&self, generation: u32) {
        loop {
            let (seen, word) = self.word(Ordering::Acquire);
            let Some((issued, succeeded)) = word.probes_of(generation) else { return };
            let phase = Phase::HalfOpen { issued: issued.saturating_sub(1), succeeded };
            if self.replace(seen, Word { phase, ..word }) {
                return;
            }
        }
    }

    fn probes(&self) -> u8 {
        self.settings.probes.max(1)
    }

    fn open_ms(&self, reopened: u8) -> u64 {
        let doubled = self.settings.open_ms.saturating_mul(1 << reopened.min(REOPENED_MAX));
        doubled.min(self.settings.max_open_ms).min(OPEN_MS_MAX)
    }

    fn word(&self, ordering: Ordering) -> (u64, Word) {
        let seen = self.word.load(ordering);
        (seen, Word::unpack(seen))
    }

    fn replace(&self, seen: u64, next: Word) -> bool {
        self.word.compare_exchange(seen, next.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
pub(super) mod tests;
