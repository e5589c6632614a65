//! What is promised, said once more in the plainest way: one thread, no words, exact numbers. Each is told what
//! happened and says what must follow; where the live code differs, one of both is wrong.
//!
//! Not here: the live code, which is never asked what it promises.

use crate::config::traffic::Breaker as BreakerSettings;
use crate::config::traffic::Health as HealthSettings;
use crate::route::breaker::Change;
use crate::route::breaker::Outcome;
use crate::route::breaker::State;
use std::collections::VecDeque;

const MS_NS: u64 = 1_000_000;

/// A bucket that leaks at exactly its rate. That it never runs over is the promise: in every stretch of time `T`
/// at most `rate × T + burst` passed, and not only in the time since the beginning.
pub struct Meter {
    count: u64,
    per_ns: u64,
    burst: u64,
    /// In calls times `per_ns`, so that nothing is ever rounded.
    level: u128,
    at_ns: u64,
}

impl Meter {
    pub fn new(count: u64, per_ms: u64, burst: u64) -> Self {
        Self { count, per_ns: per_ms * MS_NS, burst, level: 0, at_ns: 0 }
    }

    /// Whether the gateway can count this rate without rounding, and so must admit all of it.
    pub fn is_exact(&self) -> bool {
        self.per_ns.is_multiple_of(self.count * 16)
    }

    pub fn has_room(&self, cost: u64, now_ns: u64) -> bool {
        self.level_at(now_ns) + self.calls(cost) <= self.calls(self.burst)
    }

    pub fn add(&mut self, cost: u64, now_ns: u64) {
        self.level = self.level_at(now_ns) + self.calls(cost);
        self.at_ns = now_ns;
    }

    fn level_at(&self, now_ns: u64) -> u128 {
        let leaked = u128::from(self.count) * u128::from(now_ns.saturating_sub(self.at_ns));
        self.level.saturating_sub(leaked)
    }

    fn calls(&self, calls: u64) -> u128 {
        u128::from(calls) * u128::from(self.per_ns)
    }
}

/// So many in each window of time, which begins with nothing used.
pub struct Window {
    count: u64,
    window_ns: u64,
    ends_ns: u64,
    used: u64,
}

impl Window {
    pub fn new(count: u64, window_ns: u64) -> Self {
        Self { count, window_ns, ends_ns: 0, used: 0 }
    }

    pub fn has_room(&self, cost: u64, now_ns: u64) -> bool {
        self.used_at(now_ns) + cost <= self.count
    }

    pub fn add(&mut self, cost: u64, now_ns: u64) {
        self.used = self.used_at(now_ns) + cost;
        self.ends_ns = window_end(self.window_ns, now_ns);
    }

    fn used_at(&self, now_ns: u64) -> u64 {
        if now_ns < self.ends_ns { self.used } else { 0 }
    }
}

/// When the window of this moment ends.
pub fn window_end(window_ns: u64, now_ns: u64) -> u64 {
    (now_ns / window_ns + 1) * window_ns
}

/// Whether an instance is in rotation.
#[derive(Clone)]
pub struct Rotation {
    pub up: bool,
    failures: u8,
    successes: u8,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { up: true, failures: 0, successes: 0 }
    }
}

impl Rotation {
    pub fn failed(&mut self, settings: &HealthSettings) {
        (self.failures, self.successes) = (self.failures.saturating_add(1), 0);
        self.up &= self.failures < settings.unhealthy;
    }

    pub fn succeeded(&mut self, settings: &HealthSettings) {
        (self.failures, self.successes) = (0, self.successes.saturating_add(1));
        self.up |= self.successes >= settings.healthy;
        if self.up {
            self.successes = 0;
        }
    }

    pub fn connected(&mut self) {
        if self.up {
            self.failures = 0;
        }
    }
}

/// When an instance came back last, if it ever went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returned(Option<u64>);

impl Returned {
    pub fn note(&mut self, now_ns: u64) {
        self.0 = self.0.max(Some(now_ns));
    }

    pub fn is_within(self, window_ms: u64, now_ns: u64) -> bool {
        self.0.is_some_and(|at_ns| now_ns < at_ns + window_ms * MS_NS)
    }

    /// Its share of an equal part of the calls, in thousandths: a tenth at first, all after `window_ms`.
    pub fn share(self, window_ms: u64, now_ns: u64) -> u64 {
        let Some(at_ns) = self.0.filter(|_| self.is_within(window_ms, now_ns)) else { return 1_000 };
        100 + now_ns.saturating_sub(at_ns) * 900 / (window_ms * MS_NS)
    }
}

/// A circuit breaker.
pub struct Fuse {
    settings: BreakerSettings,
    phase: Phase,
    /// Changes whenever it opens or closes: what entered before counts no more.
    number: u32,
    reopened: u32,
}

enum Phase {
    /// The last outcomes, newest last, true for a failure.
    Closed(VecDeque<bool>),
    Open {
        until_ns: u64,
        for_ms: u64,
    },
    HalfOpen {
        in_flight: u8,
        succeeded: u8,
    },
}

/// What a call must bring back.
#[derive(Clone, Copy)]
pub struct Ticket {
    number: u32,
}

impl Fuse {
    pub fn new(settings: &BreakerSettings) -> Self {
        Self { settings: *settings, phase: Phase::Closed(VecDeque::new()), number: 0, reopened: 0 }
    }

    pub fn state(&self, now_ns: u64) -> State {
        match self.phase {
            Phase::Closed(_) => State::Closed,
            Phase::Open { until_ns, .. } if now_ns < until_ns => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Milliseconds until a call may pass, 0 if it may now.
    pub fn wait_ms(&self, now_ns: u64) -> u64 {
        match self.phase {
            Phase::Closed(_) => 0,
            // It lasts up to a millisecond longer than it was asked to, which nobody is told.
            Phase::Open { until_ns, for_ms } => until_ns.saturating_sub(now_ns).div_ceil(MS_NS).min(for_ms),
            Phase::HalfOpen { in_flight, succeeded } if in_flight + succeeded < self.settings.probes => 0,
            Phase::HalfOpen { .. } => 1_000,
        }
    }

    /// A call was let in. At most as many probes are out as were asked for, whatever became of those before.
    pub fn enter(&mut self, now_ns: u64) -> (Ticket, Option<Change>) {
        assert_eq!(self.wait_ms(now_ns), 0, "a call passed an open breaker, or one probe too many");
        let change = self.tidy(now_ns);
        if let Phase::HalfOpen { in_flight, .. } = &mut self.phase {
            *in_flight += 1;
        }
        (Ticket { number: self.number }, change)
    }

    pub fn leave(&mut self, ticket: Ticket, outcome: Outcome, now_ns: u64) -> Option<Change> {
        if ticket.number != self.number {
            return None;
        }
        match (&mut self.phase, outcome) {
            (Phase::Closed(_), Outcome::Neutral) | (Phase::Open { .. }, _) => None,
            (Phase::Closed(last), _) => {
                last.push_back(outcome == Outcome::Failure);
                if last.len() > self.settings.window as usize {
                    last.pop_front();
                }
                let failed = last.iter().filter(|failed| **failed).count() as u32 * 1_000;
                let seen = last.len() as u32;
                let too_many =
                    seen >= self.settings.min_calls && failed >= self.settings.failure_permille * seen;
                too_many.then(|| self.open(0, now_ns))
            }
            (Phase::HalfOpen { .. }, Outcome::Failure) => Some(self.open(self.reopened + 1, now_ns)),
            (Phase::HalfOpen { in_flight, succeeded }, _) => {
                *in_flight -= 1;
                *succeeded += u8::from(outcome == Outcome::Success);
                (*succeeded == self.settings.probes).then(|| self.close())
            }
        }
    }

    pub fn tidy(&mut self, now_ns: u64) -> Option<Change> {
        let over = matches!(self.phase, Phase::Open { until_ns, .. } if until_ns <= now_ns);
        over.then(|| {
            self.phase = Phase::HalfOpen { in_flight: 0, succeeded: 0 };
            Change::HalfOpened
        })
    }

    fn open(&mut self, reopened: u32, now_ns: u64) -> Change {
        let for_ms = (self.settings.open_ms << reopened.min(16)).min(self.settings.max_open_ms);
        let until_ns = (now_ns.div_ceil(MS_NS) + for_ms) * MS_NS;
        (self.phase, self.reopened) = (Phase::Open { until_ns, for_ms }, reopened);
        self.number += 1;
        Change::Opened { for_ms }
    }

    fn close(&mut self) -> Change {
        (self.phase, self.reopened) = (Phase::Closed(VecDeque::new()), 0);
        self.number += 1;
        Change::Closed
    }
}
