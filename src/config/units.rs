//! Durations (`100ms`, `30s`, `5m`, `12h`, `30d`), sizes (`64KiB`, `4MiB`, `1MB`), counts (`100k`), rates
//! (`60/min`) and ratios (`0.5`).
//!
//! Not here: bounds; each key has its own.

/// Milliseconds. A whole number and one unit: `ms`, `s`, `m`, `h`, `d`; `0` needs none. Fractions and
/// compounds are refused: `1.5s` is `1500ms`, `1h30m` is `90m`.
pub fn duration_ms(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Bytes. A whole number and `B`, `KiB`, `MiB`, `GiB` (powers of 1024) or `kB`, `KB`, `MB`, `GB` (powers
/// of 1000); a number alone is bytes.
pub fn size_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A whole number that may end in `k` (1000) or `M` (1000 k).
pub fn count(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// `N/UNIT` as a count above 0 and the unit.
pub fn count_per(text: &str) -> Option<(u64, &str)> {
    let (number, unit) = text.split_once('/')?;
    Some((count(number).filter(|count| *count > 0)?, unit))
}

/// A count above 0 and the milliseconds in which it comes: `60/min`, `100k/hour`, `25/10s`. Minutes and hours
/// without a number are `min` and `hour`, because a lone `m` says too little.
pub fn rate(text: &str) -> Option<(u64, u64)> {
    let (count, unit) = count_per(text)?;
    let per_ms = match unit {
        "s" => 1_000,
        "min" => 60_000,
        "hour" => 3_600_000,
        "day" => 86_400_000,
        _ => duration_ms(unit).filter(|ms| *ms > 0)?,
    };
    Some((count, per_ms))
}

/// A decimal number in units of `10^-digits`, exactly: more digits after the point than that are refused.
pub fn ratio(text: &str, digits: u32) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let missing = digits.checked_sub(u32::try_from(part.len()).ok()?)?;
    if !decimal(whole) || !decimal(part) {
        return None;
    }
    let whole = whole.parse::<u32>().ok()?.checked_mul(10_u32.checked_pow(digits)?)?;
    let part = part.parse::<u32>().ok()?.checked_mul(10_u32.checked_pow(missing)?)?;
    whole.checked_add(part)
}

/// How a bound is named in a message: the largest unit that divides it.
pub fn show_ms(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    show(ms, &units, "ms")
}

pub fn show_bytes(bytes: u64) -> String {
    show(bytes, &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")], "B")
}

fn show(value: u64, units: &[(u64, &str)], smallest: &str) -> String {
    match units.iter().find(|(factor, _)| value >= *factor && value.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", value / factor),
        None => format!("{value}{smallest}"),
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    // `parse` refuses the empty text and what does not fit.
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text, expected| assert_eq!(duration_ms(text), expected, "{text}");
        check("100ms", Some(100));
        check("30s", Some(30_000));
        check("5m", Some(300_000));
        check("30d", Some(2_592_000_000));
        check("0", Some(0));
        check("30", None);
        check("1.5s", None);
        check("-1s", None);
        check("1h30m", None);
        check("s", None);
        check("", None);
        check("99999999999999999999s", None);
        check("18446744073709551615d", None);
    }

    #[test]
    fn sizes() {
        let check = |text, expected| assert_eq!(size_bytes(text), expected, "{text}");
        check("4MiB", Some(4 << 20));
        check("64KiB", Some(64 << 10));
        check("1MB", Some(1_000_000));
        check("1 MiB", Some(1 << 20));
        check("512", Some(512));
        check("4mib", None);
        check("4M", None);
        check("0x10", None);
    }

    #[test]
    fn counts_and_rates() {
        let check = |text, expected| assert_eq!(count(text), expected, "{text}");
        check("60", Some(60));
        check("100k", Some(100_000));
        check("1M", Some(1_000_000));
        check("1.5k", None);
        check("1K", None);
        check("99999999999999999999", None);
        check("18446744073709551615k", None);
        let check = |text, expected| assert_eq!(rate(text), expected, "{text}");
        check("60/min", Some((60, 60_000)));
        check("5/s", Some((5, 1_000)));
        check("100k/hour", Some((100_000, 3_600_000)));
        check("1/day", Some((1, 86_400_000)));
        check("25/10s", Some((25, 10_000)));
        check("25/10min", None);
        check("0/min", None);
        check("0k/min", None);
        check("5/0s", None);
        check("5/0", None);
        check("5/m", None);
        check("5/week", None);
        check("5", None);
        check("/s", None);
        check("-1/s", None);
        assert_eq!(count_per("50k/week"), Some((50_000, "week")));
    }

    #[test]
    fn ratios() {
        let check = |text, digits, expected| assert_eq!(ratio(text, digits), expected, "{text} {digits}");
        check("0.5", 3, Some(500));
        check("0.5", 6, Some(500_000));
        check("1", 3, Some(1_000));
        check("1.000", 3, Some(1_000));
        check("2", 3, Some(2_000));
        check("0", 3, Some(0));
        check("0.001", 3, Some(1));
        check("0.0001", 3, None);
        check(".5", 3, None);
        check("1.", 3, None);
        check("+1.5", 3, None);
        check("0.+5", 3, None);
        check("-0.5", 3, None);
        check("5e-1", 3, None);
        check("4294967296", 3, None);
        check("4294968", 3, None);
    }

    #[test]
    fn bounds_are_shown_in_their_own_unit() {
        assert_eq!((show_ms(90_000), show_ms(86_400_000)), ("90s".into(), "1d".into()));
        assert_eq!((show_ms(0), show_bytes(256 << 20)), ("0ms".into(), "256MiB".into()));
    }
}
