//! What a rate allows (GCRA, the generic cell rate algorithm), and the answer that every limit gives.
//!
//! A bucket is one time: until when its calls are paid for. Time and prices are counted in units of 16 ns: fine
//! enough for a million calls a second, coarse enough that three days fit in the 44 bits that `table` has for them.
//!
//! Not here: where a bucket's time is kept (`table`, `pinned`).

/// Nanoseconds of one unit of time.
pub const UNIT_NS: u64 = 16;
const UNITS_PER_MS: u64 = 1_000_000 / UNIT_NS;
/// Longest time that a full burst may be worth: what the time of a bucket can be ahead of now.
const DAY_MS: u64 = 24 * 3_600_000;
const CALLS_PER_MS_MAX: u64 = 1_000;
/// Highest tolerance of any terms, in units: a day, and one unit for each of its calls, whose price was rounded up.
pub const TOLERANCE_MAX: u64 = DAY_MS * UNITS_PER_MS + DAY_MS * CALLS_PER_MS_MAX;

/// A rate with its burst. At most `burst + rate × T` calls pass in any time `T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Price of one call, in units: rounded up, so that never more than the rate passes.
    increment: u64,
    /// How far ahead of now a bucket may be paid for, in units: the price of a whole burst.
    tolerance: u64,
}

/// Why a rate cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A count, period or burst of 0.
    Zero,
    /// More than a million calls a second.
    TooFast,
    /// A burst that takes longer than a day to come back.
    TooLong,
}

/// Whether a call fits. Nothing was taken unless it is `Room` and the call that returned it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits. `left` calls fit after it; everything is back in `reset_ns` nanoseconds.
    Room { left: u64, reset_ns: u64 },
    /// It does not. The same call fits in `retry_ns` nanoseconds if nobody else comes, and never if that is
    /// `u64::MAX`, because it costs more than a whole burst.
    Exhausted { retry_ns: u64, reset_ns: u64 },
    /// There is no memory to count it: all places that its key can have are in use.
    Full,
}

impl Verdict {
    pub const fn has_room(&self) -> bool {
        matches!(self, Self::Room { .. })
    }
}

impl Terms {
    /// `count` calls in `per_ms` milliseconds, `burst` at once.
    pub fn new(count: u64, per_ms: u64, burst: u64) -> Result<Self, Unfit> {
        if count == 0 || per_ms == 0 || burst == 0 {
            return Err(Unfit::Zero);
        }
        if count > per_ms.saturating_mul(CALLS_PER_MS_MAX) {
            return Err(Unfit::TooFast);
        }
        if u128::from(burst) * u128::from(per_ms) > u128::from(count) * u128::from(DAY_MS) {
            return Err(Unfit::TooLong);
        }
        // A period longer than a day has a count to match, or its burst would be too long.
        let period = u128::from(per_ms) * u128::from(UNITS_PER_MS);
        let increment = u64::try_from(period.div_ceil(u128::from(count))).map_err(|_| Unfit::TooLong)?;
        Ok(Self { increment, tolerance: increment * burst })
    }

    /// What fits into an untouched bucket.
    pub const fn burst(&self) -> u64 {
        self.tolerance / self.increment
    }

    /// Units of time; see [`TOLERANCE_MAX`].
    pub const fn tolerance(&self) -> u64 {
        self.tolerance
    }

    /// What `cost` calls move a bucket's time by, in units.
    pub const fn price(&self, cost: u64) -> u64 {
        self.increment.saturating_mul(cost)
    }

    /// Do `cost` calls fit into a bucket that is paid for `owed` units ahead of now?
    pub const fn verdict(&self, owed: u64, cost: u64) -> Verdict {
        let price = self.price(cost);
        let after = owed.saturating_add(price);
        if after <= self.tolerance {
            let left = (self.tolerance - after) / self.increment;
            return Verdict::Room { left, reset_ns: after * UNIT_NS };
        }
        let fits = price <= self.tolerance;
        let retry_ns = if fits { (after - self.tolerance).saturating_mul(UNIT_NS) } else { u64::MAX };
        Verdict::Exhausted { retry_ns, reset_ns: owed.saturating_mul(UNIT_NS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_exact_or_slower_and_the_rest_is_refused() {
        // (count, per_ms, burst, price of one call and of a burst in units)
        let fit = [
            (1_000, 1_000, 1_000, 62_500, 62_500_000),
            (60, 60_000, 25, 62_500_000, 1_562_500_000),
            (1_000_000, 1_000, 1, 63, 63),
            (3, 1_000, 3, 20_833_334, 62_500_002),
            (7, DAY_MS, 7, 771_428_571_429, 5_400_000_000_003),
            (1, DAY_MS, 1, 5_400_000_000_000, 5_400_000_000_000),
        ];
        for (count, per_ms, burst, increment, tolerance) in fit {
            let terms = Terms::new(count, per_ms, burst);
            assert_eq!(terms, Ok(Terms { increment, tolerance }), "{count} in {per_ms} ms");
            assert_eq!(terms.map(|terms| terms.burst()), Ok(burst));
            assert!(increment * UNIT_NS * count >= per_ms * 1_000_000 && tolerance <= TOLERANCE_MAX);
        }
        let unfit = [
            (0, 1_000, 1, Unfit::Zero),
            (1, 0, 1, Unfit::Zero),
            (1, 1_000, 0, Unfit::Zero),
            (1_000_001, 1_000, 1, Unfit::TooFast),
            (u64::MAX, 1, 1, Unfit::TooFast),
            (1, DAY_MS, 2, Unfit::TooLong),
            (1, DAY_MS + 1, 1, Unfit::TooLong),
            (1, u64::MAX, u64::MAX, Unfit::TooLong),
        ];
        for (count, per_ms, burst, why) in unfit {
            assert_eq!(Terms::new(count, per_ms, burst), Err(why), "{count} in {per_ms} ms, burst {burst}");
        }
        let most = Terms::new(CALLS_PER_MS_MAX, 1, DAY_MS * CALLS_PER_MS_MAX).unwrap();
        assert!(most.tolerance() <= TOLERANCE_MAX);
    }

    #[test]
    fn a_verdict_says_what_is_left_and_when_to_come_back() {
        let terms = Terms::new(1_000, 1_000, 3).unwrap();
        let ms = 1_000_000;
        assert_eq!(terms.verdict(0, 1), Verdict::Room { left: 2, reset_ns: ms });
        assert_eq!(terms.verdict(0, 3), Verdict::Room { left: 0, reset_ns: 3 * ms });
        let one_unit_short = terms.tolerance() - terms.price(1) + 1;
        let reset_ns = 2 * ms + UNIT_NS;
        let refused = Verdict::Exhausted { retry_ns: UNIT_NS, reset_ns };
        assert_eq!(terms.verdict(one_unit_short, 1), refused);
        for never in [4, u64::MAX] {
            let refused = Verdict::Exhausted { retry_ns: u64::MAX, reset_ns: 0 };
            assert_eq!(terms.verdict(0, never), refused);
        }
        assert!(!terms.verdict(u64::MAX, 1).has_room());
    }
}
