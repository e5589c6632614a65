//! A breaker's state, packed into the one word that all workers read and replace.
//!
//! Not here: when the state changes (`breaker`).

use crate::base::clock::Moment;
use crate::route::flow::NUMBER_BITS;

/// Longest open time: half the range of the word's milliseconds (24 days), so that a time which has passed is
/// told from one to come. `tidy` sees it long before the range is over.
pub const OPEN_MS_MAX: u64 = (1 << 31) - 1;

const GENERATION_BITS: u32 = 64 - NUMBER_BITS;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
/// More doublings reach every `max_open_ms`.
pub const REOPENED_MAX: u8 = 31;

/// What decides, in 64 bits: from the top 2 of the phase, 6 how often it reopened, 24 of the generation, 32 of
/// the phase's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Changes whenever it opens or closes, never 0: tells outcomes that come too late.
    pub generation: u32,
    pub reopened: u8,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
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
    pub fn pack(self) -> u64 {
        let (phase, own) = match self.phase {
            Phase::Closed => (0, 0),
            Phase::HalfOpen { issued, succeeded } => (1, u64::from(issued) << 8 | u64::from(succeeded)),
            Phase::Open { until_ms } => (2_u64, u64::from(until_ms)),
        };
        phase << 62 | u64::from(self.reopened) << 56 | u64::from(self.generation) << 32 | own
    }

    pub fn unpack(word: u64) -> Self {
        let byte = |shift: u32| (word >> shift & 0xff) as u8;
        let phase = match word >> 62 {
            0 => Phase::Closed,
            1 => Phase::HalfOpen { issued: byte(8), succeeded: byte(0) },
            _ => Phase::Open { until_ms: (word & 0xffff_ffff) as u32 },
        };
        Self { generation: (word >> 32 & GENERATION_MASK) as u32, reopened: byte(56) & 0x3f, phase }
    }

    /// Issued and succeeded, if it is still half-open as it was when a probe of `generation` began.
    pub fn probes_of(self, generation: u32) -> Option<(u8, u8)> {
        match self.phase {
            Phase::HalfOpen { issued, succeeded } if self.generation == generation => {
                Some((issued, succeeded))
            }
            _ => None,
        }
    }

    pub fn opened(self, reopened: u8, open_ms: u64, now: Moment) -> Self {
        // Rounded up: never open for less than was asked for.
        let until_ms = (now.as_nanos().div_ceil(1_000_000).wrapping_add(open_ms) & 0xffff_ffff) as u32;
        let reopened = reopened.min(REOPENED_MAX);
        Self { generation: self.next_generation(), reopened, phase: Phase::Open { until_ms } }
    }

    pub fn closed(self) -> Self {
        Self { generation: self.next_generation(), reopened: 0, phase: Phase::Closed }
    }

    fn next_generation(self) -> u32 {
        (u64::from(self.generation) % GENERATION_MASK) as u32 + 1
    }
}

/// The number of an outcome, and the generation that it counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    pub generation: u32,
    pub number: u64,
}

impl Numbered {
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << NUMBER_BITS | self.number
    }

    pub fn unpack(word: u64) -> Self {
        Self { generation: (word >> NUMBER_BITS) as u32, number: word & (u64::MAX >> GENERATION_BITS) }
    }
}

/// Milliseconds from `now` to `until_ms`, none if that has passed.
pub fn left_ms(until_ms: u32, now: Moment) -> Option<u64> {
    let now_ms = ((now.as_nanos() / 1_000_000) & 0xffff_ffff) as u32;
    let left = u64::from(until_ms.wrapping_sub(now_ms));
    (1..=OPEN_MS_MAX).contains(&left).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_packing_and_generations_wrap_past_zero() {
        let last = (GENERATION_MASK & 0xffff_ffff) as u32;
        for generation in [1, 2, last] {
            for phase in [
                Phase::Closed,
                Phase::HalfOpen { issued: 255, succeeded: 254 },
                Phase::Open { until_ms: u32::MAX },
            ] {
                let word = Word { generation, reopened: REOPENED_MAX, phase };
                assert_eq!(Word::unpack(word.pack()), word);
            }
            let numbered = Numbered { generation, number: u64::MAX >> GENERATION_BITS };
            assert_eq!(Numbered::unpack(numbered.pack()), numbered);
        }
        let word = Word { generation: last, reopened: 0, phase: Phase::Closed };
        assert_eq!((word.next_generation(), word.closed().next_generation()), (1, 2));
    }

    #[test]
    fn the_time_left_is_told_from_a_time_that_has_passed() {
        let now = Moment::ZERO.plus_millis(u64::from(u32::MAX) + 11);
        for (until_ms, expected) in [
            (10, None),
            (11, Some(1)),
            (9, None),
            (u32::MAX, None),
            (10 + (1 << 31), None),
            (9 + (1 << 31), Some(OPEN_MS_MAX)),
        ] {
            assert_eq!(left_ms(until_ms, now), expected, "{until_ms}");
        }
    }
}
