//! Whether a number of a message is worth what the double of it is worth: else a rule would judge another number than the
//! server reads.
//!
//! Not here: reading numbers (`json`).

/// Any decimal of so few digits is told from all others by its double.
const EXACT_DIGITS: usize = 15;
/// And well within the range of doubles.
const EXACT_POWERS: i64 = 290;
/// Whole numbers below it are compared digit by digit.
const WHOLE_MAX: f64 = 1e38;

/// A decimal as JSON and Rust write it: digits, a point, an exponent. Two are equal where all of this is.
#[derive(Debug)]
struct Decimal<'t> {
    is_negative: bool,
    whole: &'t [u8],
    fraction: &'t [u8],
    /// Places of the first and the last digit that is no zero; none: it is zero.
    significant: Option<(usize, usize)>,
    /// How many digits stand before the point, from the first that is no zero on.
    point: i64,
}

impl<'t> Decimal<'t> {
    fn of(text: &'t str) -> Self {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // An exponent beyond it is one of zero, or the double of it is zero or infinite.
        let exponent: i64 =
            exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
        let mut new = Self {
            is_negative,
            whole: whole.as_bytes(),
            fraction: fraction.as_bytes(),
            significant: None,
            point: 0,
        };
        let length = whole.len() + fraction.len();
        let is_some = |at: &usize| new.digit(*at) != b'0';
        let first = (0..length).find(is_some);
        let last = (0..length).rev().find(is_some);
        new.significant = first.zip(last);
        let before = i64::try_from(whole.len()).unwrap_or(i64::MAX);
        let zeros = i64::try_from(first.unwrap_or_default()).unwrap_or(i64::MAX);
        new.point = exponent.saturating_add(before.saturating_sub(zeros));
        new
    }

    fn digit(&self, at: usize) -> u8 {
        let digit =
            at.checked_sub(self.whole.len()).map_or_else(|| self.whole.get(at), |at| self.fraction.get(at));
        digit.copied().unwrap_or(b'0')
    }

    fn equals(&self, other: &Decimal<'_>) -> bool {
        let (one, two) = match (self.significant, other.significant) {
            (None, None) => return true,
            (Some(one), Some(two)) => (one, two),
            _ => return false,
        };
        self.is_negative == other.is_negative
            && self.point == other.point
            && one.1 - one.0 == two.1 - two.0
            && (one.0..=one.1).zip(two.0..).all(|(left, right)| self.digit(left) == other.digit(right))
    }
}

/// Whether `value`, the double nearest to the number `written`, is that number, or what is written when it is printed.
/// An infinite one is beyond every number that a rule can name, and so is what was written.
pub(super) fn survives(written: &str, value: f64) -> bool {
    if value.is_infinite() {
        return true;
    }
    let decimal = Decimal::of(written);
    let digits = decimal.significant.map_or(0, |(first, last)| last - first + 1);
    let is_near = (-EXACT_POWERS..=EXACT_POWERS).contains(&decimal.point);
    if digits == 0 || digits <= EXACT_DIGITS && is_near {
        return true;
    }
    #[expect(clippy::cast_possible_truncation, reason = "within what i128 holds; it saturates beyond")]
    let is_exactly = |whole: i128| value.abs() < WHOLE_MAX && value as i128 == whole;
    if written.parse().is_ok_and(is_exactly) {
        return true;
    }
    decimal.equals(&Decimal::of(&format!("{value:e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(written: &str, expected: bool) {
        assert_eq!(survives(written, written.parse().unwrap()), expected, "{written}");
    }

    #[test]
    fn a_number_survives_where_its_double_is_it() {
        for written in [
            "0",
            "-0",
            "0.0",
            "0e99999999999999999999",
            "1000",
            "1e3",
            "1000.5",
            "0.1",
            "-12.25E-3",
            "1E+2",
            "100000000000000.000000000000",
            "0.30000000000000004",
            "1.7976931348623157e308",
            "5e-324",
            "2.2250738585072014e-308",
            "9223372036854775808",
            "18446744073709551616",
            "1e400",
            "-1e400",
            "123456789012345680000",
            "1.2345678901234568e20",
            "0.00000000000000000000000000000000000000000001",
        ] {
            check(written, true);
        }
        for written in [
            "1000.0000000000000000001",
            "999.99999999999999999999",
            "0.10000000000000001",
            "9223372036854775809",
            "18446744073709551615",
            "18446744073709551617",
            "-9223372036854775809",
            "1e-400",
            "3e-324",
            "9007199254740993.0",
            "1000000000000000000000000000000000000000000000001",
            "100000000000000000000000000000000000001",
        ] {
            check(written, false);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_survives_and_a_digit_more_does_not(value in any::<f64>().prop_filter("a number", |v| v.is_finite())) {
            let printed = format!("{value:e}");
            prop_assert!(survives(&printed, value));
            prop_assert!(survives(&value.to_string(), value));
            let (mantissa, exponent) = printed.split_once('e').unwrap();
            let point = if mantissa.contains('.') { "" } else { "." };
            let longer = format!("{mantissa}{point}00000000000000000001e{exponent}");
            prop_assert!(longer.parse::<f64>().unwrap() != value || !survives(&longer, value) );
        }
    }
}
