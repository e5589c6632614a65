//! Adaptive concurrency: how many calls a server may have in flight follows how fast it answers (AIMD;
//! docs/decisions/0011 says why, and what else was tried).
//!
//! Not here: the answer to a call that is shed, and limits of callers (`policy`).

use crate::base::atomic::AtomicU64;
use crate::base::atomic::Ordering;
use crate::base::atomic::fence;
use crate::base::clock::Moment;
use crate::config::traffic::Adaptive;

/// A verdict takes at least so long: several in the 5 s in which the limit must have fallen.
const WINDOW_MS: u32 = 500;
/// What is undecided after this long changes nothing. It also bounds what one verdict may add, so that the
/// first call after a quiet night does not open the gates.
const WINDOW_MS_MAX: u32 = 2_000;
/// From `min` to `max` takes this long while the server keeps its target: well inside the 30 s after which
/// the old limit must be back.
const RISE_MS: u64 = 20_000;
/// A worker whose clock was read before another one's began the window is behind it, not 49 days ahead.
const WORKERS_APART_MS_MAX: u32 = 60_000;
/// What is left of the limit after a window that missed the target.
const FALL_PERMILLE: u64 = 700;

/// No call may start: the limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    pub limit: u32,
}

/// Shared by all workers; a line of its own, because every call writes it.
#[derive(Debug)]
#[repr(align(128))]
pub struct AdaptiveCell {
    /// Limit in the high half, calls in flight in the low one: compared and counted in one step, so that no
    /// call is admitted above the limit of that moment.
    calls: AtomicU64,
    /// See `Bounds`. Of the newest plan: calls of older ones end here as well.
    bounds: AtomicU64,
    /// See `Window`.
    window: AtomicU64,
}

impl AdaptiveCell {
    /// Begins at `max`: a limit is lowered by evidence, not by a guess.
    pub fn new(settings: &Adaptive) -> Self {
        Self {
            calls: AtomicU64::new(u64::from(settings.max) << 32),
            bounds: AtomicU64::new(Bounds::of(settings).pack()),
            window: AtomicU64::new(0),
        }
    }

    /// Brings the limit between the bounds of new settings; calls in flight stay counted.
    pub fn adopt(&self, settings: &Adaptive) {
        self.bounds.store(Bounds::of(settings).pack(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.move_limit(|limit, _| limit);
    }

    pub fn limit(&self) -> u32 {
        (self.calls.load(Ordering::Relaxed) >> 32) as u32
    }

    pub fn in_flight(&self) -> u32 {
        (self.calls.load(Ordering::Relaxed) & 0xffff_ffff) as u32
    }

    /// Starts a call. Every call that was let in must `leave`.
    pub fn enter(&self) -> Result<(), Shed> {
        let mut seen = self.calls.load(Ordering::Relaxed);
        loop {
            let (limit, in_flight) = (seen >> 32, seen & 0xffff_ffff);
            if in_flight >= limit {
                return Err(Shed { limit: (seen >> 32) as u32 });
            }
            match self.calls.compare_exchange_weak(seen, seen + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// Ends a call, with the time the server took to answer or to fail to; none where that says nothing about
    /// the server (cancelled by the caller). Returns the limit if it changed.
    pub fn leave(&self, settings: &Adaptive, latency_ns: Option<u64>, now: Moment) -> Option<u32> {
        self.calls.fetch_sub(1, Ordering::Relaxed);
        let slow = latency_ns? > settings.target_ms.saturating_mul(1_000_000);
        match self.observe(settings, slow, now)? {
            Verdict::Missed => self.move_limit(|limit, _| limit * FALL_PERMILLE / 1_000),
            Verdict::Kept { elapsed_ms } => {
                let step = |range: u64| (range * u64::from(elapsed_ms)).div_ceil(RISE_MS);
                self.move_limit(|limit, bounds| limit + step(bounds.max - bounds.min))
            }
            Verdict::Undecided => None,
        }
    }

    /// One more sample. The verdict goes to the one caller who ended the window with it.
    fn observe(&self, settings: &Adaptive, slow: bool, now: Moment) -> Option<Verdict> {
        let now_ms = ((now.as_nanos() / 1_000_000) & 0xffff_ffff) as u32;
        let mut seen = self.window.load(Ordering::Relaxed);
        loop {
            let window = Window::unpack(seen, now_ms).with(slow);
            let verdict = window.verdict(settings, now_ms);
            let next = if verdict.is_some() { Window::empty(now_ms) } else { window };
            match self.window.compare_exchange_weak(seen, next.pack(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return verdict,
                Err(now) => seen = now,
            }
        }
    }

    /// The limit if that changed it.
    fn move_limit(&self, to: impl Fn(u64, Bounds) -> u64) -> Option<u32> {
        let mut bounds = Bounds::unpack(self.bounds.load(Ordering::Relaxed));
        let mut moved = self.replace_limit(|limit| bounds.around(to(limit, bounds)));
        loop {
            // Of a limit that is moved and bounds that are, at the same time, at least one sees the other.
            fence(Ordering::SeqCst);
            let newest = Bounds::unpack(self.bounds.load(Ordering::Relaxed));
            if newest == bounds {
                return moved;
            }
            bounds = newest;
            moved = self.replace_limit(|limit| bounds.around(limit)).or(moved);
        }
    }

    fn replace_limit(&self, to: impl Fn(u64) -> u64) -> Option<u32> {
        let moved = |calls: u64| to(calls >> 32) << 32 | calls & 0xffff_ffff;
        let mut seen = self.calls.load(Ordering::Relaxed);
        loop {
            let next = moved(seen);
            if next == seen {
                return None;
            }
            match self.calls.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some((next >> 32) as u32),
                Err(now) => seen = now,
            }
        }
    }
}

/// Between which the limit moves, in one word: the most in its high half, the least in the low one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    min: u64,
    max: u64,
}

impl Bounds {
    fn of(settings: &Adaptive) -> Self {
        Self { min: u64::from(settings.min), max: u64::from(settings.max.max(settings.min)) }
    }

    fn pack(self) -> u64 {
        self.max << 32 | self.min
    }

    fn unpack(word: u64) -> Self {
        Self { min: word & 0xffff_ffff, max: word >> 32 }
    }

    fn around(self, limit: u64) -> u64 {
        limit.clamp(self.min, self.max)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept { elapsed_ms: u32 },
    Missed,
    Undecided,
}

/// Samples since a moment, in 64 bits: 32 of the millisecond (wrapping), 16 of the samples, 16 of the slow ones.
#[derive(Clone, Copy, Debug)]
struct Window {
    since_ms: u32,
    samples: u16,
    slow: u16,
}

impl Window {
    fn empty(since_ms: u32) -> Self {
        Self { since_ms, samples: 0, slow: 0 }
    }

    fn pack(self) -> u64 {
        u64::from(self.since_ms) << 32 | u64::from(self.samples) << 16 | u64::from(self.slow)
    }

    /// 0 is the window before the first sample, which begins it.
    fn unpack(word: u64, now_ms: u32) -> Self {
        let half = |shift: u32| (word >> shift & 0xffff) as u16;
        if word == 0 {
            return Self::empty(now_ms);
        }
        Self { since_ms: (word >> 32) as u32, samples: half(16), slow: half(0) }
    }

    /// A full window counts nothing more; so many samples have told what they can.
    fn with(self, slow: bool) -> Self {
        match self.samples.checked_add(1) {
            Some(samples) => Self { samples, slow: self.slow + u16::from(slow), ..self },
            None => self,
        }
    }

    /// Missed only if one call more was slow than the target allows: of a few calls one outlier proves nothing.
    fn verdict(self, settings: &Adaptive, now_ms: u32) -> Option<Verdict> {
        let elapsed_ms = now_ms.wrapping_sub(self.since_ms);
        if !(WINDOW_MS..=u32::MAX - WORKERS_APART_MS_MAX).contains(&elapsed_ms) {
            return None;
        }
        let slow = u32::from(self.slow) * 100;
        let allowed = u32::from(self.samples) * 100u32.saturating_sub(u32::from(settings.percentile));
        if slow <= allowed {
            Some(Verdict::Kept { elapsed_ms: elapsed_ms.min(WINDOW_MS_MAX) })
        } else if slow > allowed + 100 {
            Some(Verdict::Missed)
        } else {
            (elapsed_ms >= WINDOW_MS_MAX).then_some(Verdict::Undecided)
        }
    }
}

#[cfg(test)]
mod tests;
