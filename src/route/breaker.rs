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
use crate::route::flow::NUMBER_BITS;
use crate::route::flow::distance;

/// What is said to a caller while the probes are out: nobody knows how long they take, and a second is the
/// unit of `Retry-After`.
const PROBES_OUT_RETRY_MS: u64 = 1_000;
/// Longest open time: half the range of the word's milliseconds (24 days), so that a time which has passed is
/// told from one to come. `tidy` sees it long before the range is over.
const OPEN_MS_MAX: u64 = (1 << 31) - 1;

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
        match (entry.probe, outcome) {
            (false, Outcome::Success | Outcome::Failure) => {
                return self.count(flow, entry.generation, outcome == Outcome::Failure, now);
            }
            (false, Outcome::Neutral) => {}
            (true, Outcome::Success) => {
                flow.leave();
                return self.probe_succeeded(flow, entry.generation);
            }
            (true, Outcome::Failure) => {
                flow.leave();
                return self.probe_failed(entry.generation, now);
            }
            (true, Outcome::Neutral) => self.give_back(entry.generation),
        }
        flow.leave();
        None
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
                Some(retry_ms) => return Err(Refused { retry_ms }),
                None => Phase::HalfOpen { issued: 1, succeeded: 0 },
            },
            Phase::HalfOpen { issued, .. } if issued >= self.probes() => {
                return Err(Refused { retry_ms: PROBES_OUT_RETRY_MS });
            }
            Phase::HalfOpen { issued, succeeded } => Phase::HalfOpen { issued: issued + 1, succeeded },
        };
        Ok(Word { phase, ..word })
    }

    /// The outcome of a call that entered while it was closed. Counts nothing if it has opened since.
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

    /// A probe that found nothing out: another call may be the probe.
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

const GENERATION_BITS: u32 = 64 - NUMBER_BITS;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
/// More doublings reach every `max_open_ms`.
const REOPENED_MAX: u8 = 31;

/// What decides, in 64 bits: from the top 2 of the phase, 6 how often it reopened, 24 of the generation, 32 of
/// the phase's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    /// Changes whenever it opens or closes, never 0: tells outcomes that come too late.
    generation: u32,
    reopened: u8,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    /// Probes let in, and those of them that succeeded.
    HalfOpen {
        issued: u8,
        succeeded: u8,
    },
    /// Milliseconds of the clock, wrapping.
    Open {
        until_ms: u32,
    },
}

impl Word {
    fn pack(self) -> u64 {
        let (phase, own) = match self.phase {
            Phase::Closed => (State::Closed, 0),
            Phase::HalfOpen { issued, succeeded } => {
                (State::HalfOpen, u64::from(issued) << 8 | u64::from(succeeded))
            }
            Phase::Open { until_ms } => (State::Open, u64::from(until_ms)),
        };
        (phase as u64) << 62 | u64::from(self.reopened) << 56 | u64::from(self.generation) << 32 | own
    }

    fn unpack(word: u64) -> Self {
        let byte = |shift: u32| (word >> shift & 0xff) as u8;
        let phase = match word >> 62 {
            0 => Phase::Closed,
            1 => Phase::HalfOpen { issued: byte(8), succeeded: byte(0) },
            _ => Phase::Open { until_ms: (word & 0xffff_ffff) as u32 },
        };
        Self { generation: (word >> 32 & GENERATION_MASK) as u32, reopened: byte(56) & 0x3f, phase }
    }

    /// Issued and succeeded, if it is still half-open as it was when a probe of `generation` began.
    fn probes_of(self, generation: u32) -> Option<(u8, u8)> {
        match self.phase {
            Phase::HalfOpen { issued, succeeded } if self.generation == generation => {
                Some((issued, succeeded))
            }
            _ => None,
        }
    }

    fn opened(self, reopened: u8, open_ms: u64, now: Moment) -> Self {
        // Rounded up: never open for less than was asked for.
        let until_ms = (now.as_nanos().div_ceil(1_000_000).wrapping_add(open_ms) & 0xffff_ffff) as u32;
        let reopened = reopened.min(REOPENED_MAX);
        Self { generation: self.next_generation(), reopened, phase: Phase::Open { until_ms } }
    }

    fn closed(self) -> Self {
        Self { generation: self.next_generation(), reopened: 0, phase: Phase::Closed }
    }

    fn next_generation(self) -> u32 {
        (u64::from(self.generation) % GENERATION_MASK) as u32 + 1
    }
}

/// The number of an outcome, and the generation that it counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbered {
    generation: u32,
    number: u64,
}

impl Numbered {
    fn pack(self) -> u64 {
        u64::from(self.generation) << NUMBER_BITS | self.number
    }

    fn unpack(word: u64) -> Self {
        Self { generation: (word >> NUMBER_BITS) as u32, number: word & (u64::MAX >> GENERATION_BITS) }
    }
}

/// Milliseconds from `now` to `until_ms`, none if that has passed.
fn left_ms(until_ms: u32, now: Moment) -> Option<u64> {
    let now_ms = ((now.as_nanos() / 1_000_000) & 0xffff_ffff) as u32;
    let left = u64::from(until_ms.wrapping_sub(now_ms));
    (1..=OPEN_MS_MAX).contains(&left).then_some(left)
}
