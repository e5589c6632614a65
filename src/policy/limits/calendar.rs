//! Calendar windows of quotas: which one a moment lies in, by the clock on the wall of the quota's zone.
//!
//! Not here: what was used in a window (`pinned`). Reads no clock.

use crate::config::limit::Quota;
use crate::config::limit::Window;
use jiff::RoundMode;
use jiff::Timestamp;
use jiff::ToSpan;
use jiff::Unit;
use jiff::Zoned;
use jiff::ZonedRound;
use jiff::civil::Weekday;

/// One window: Unix milliseconds, the end not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start_ms: u64,
    pub end_ms: u64,
}

impl Span {
    /// What a window is known by: its beginning in minutes since the Unix epoch. Later windows have larger numbers.
    pub const fn number(self) -> u64 {
        self.start_ms / 60_000
    }

    pub const fn contains(self, wall_ms: u64) -> bool {
        self.start_ms <= wall_ms && wall_ms < self.end_ms
    }
}

/// The window in which `wall_ms` (Unix milliseconds) lies. Costs microseconds: keep it until it is over.
///
/// Where clocks are set back an hour, that hour's window of an hourly quota is one of two hours, and the day has 25.
pub fn window(quota: &Quota, wall_ms: u64) -> Span {
    let fallback = fixed(quota.window, wall_ms);
    let Some(now) = i64::try_from(wall_ms).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok())
    else {
        return fallback;
    };
    bounds(quota.window, &now.to_zoned(quota.zone.clone())).unwrap_or(fallback)
}

fn bounds(window: Window, now: &Zoned) -> Option<Span> {
    let floor = |unit| now.round(ZonedRound::new().smallest(unit).mode(RoundMode::Trunc)).ok();
    let (start, length) = match window {
        Window::Minute => (floor(Unit::Minute)?, 1.minute()),
        Window::Hour => (floor(Unit::Hour)?, 1.hour()),
        Window::Day => (now.start_of_day().ok()?, 1.day()),
        Window::Week => {
            let since_monday = i64::from(now.weekday().since(Weekday::Monday));
            (now.checked_sub(since_monday.days()).ok()?.start_of_day().ok()?, 1.week())
        }
        Window::Month => (now.first_of_month().ok()?.start_of_day().ok()?, 1.month()),
    };
    let end = start.checked_add(length).ok()?;
    let millis = |at: &Zoned| u64::try_from(at.timestamp().as_millisecond()).ok();
    let span = Span { start_ms: millis(&start)?, end_ms: millis(&end)? };
    let at = millis(now)?;
    span.contains(at).then_some(span)
}

/// Where the calendar fails, at the ends of time: windows of fixed length.
const fn fixed(window: Window, wall_ms: u64) -> Span {
    let length = match window {
        Window::Minute => 60_000,
        Window::Hour => 3_600_000,
        Window::Day => 86_400_000,
        Window::Week => 7 * 86_400_000,
        Window::Month => 30 * 86_400_000,
    };
    let start_ms = wall_ms / length * length;
    Span { start_ms, end_ms: start_ms.saturating_add(length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn millis(text: &str) -> u64 {
        let at: Timestamp = text.parse().expect("a time");
        u64::try_from(at.as_millisecond()).expect("after 1970")
    }

    fn check(window_kind: Window, zone: &str, at: &str, start: &str, end: &str) {
        let zone = TimeZone::get(zone).expect("a zone");
        let quota = Quota { count: 1, window: window_kind, zone };
        let span = window(&quota, millis(at));
        assert_eq!(span, Span { start_ms: millis(start), end_ms: millis(end) }, "{window_kind:?} {at}");
        assert_eq!(window(&quota, span.start_ms), span);
        assert_eq!(window(&quota, span.end_ms - 1), span);
        assert!(window(&quota, span.end_ms).number() > span.number());
    }

    #[test]
    fn windows_turn_over_by_the_clock_of_their_zone() {
        let day = "2026-11-25T14:30:45.5Z";
        check(Window::Minute, "UTC", day, "2026-11-25T14:30:00Z", "2026-11-25T14:31:00Z");
        check(Window::Hour, "Asia/Kolkata", day, "2026-11-25T14:30:00Z", "2026-11-25T15:30:00Z");
        check(Window::Day, "UTC", day, "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z");
        check(Window::Day, "Europe/Berlin", day, "2026-11-24T23:00:00Z", "2026-11-25T23:00:00Z");
        check(Window::Week, "UTC", day, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        check(Window::Week, "UTC", "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        check(Window::Month, "America/New_York", day, "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z");
    }

    #[test]
    fn days_have_the_hours_that_they_have() {
        let spring = ("2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        check(Window::Day, "Europe/Berlin", spring.0, spring.1, spring.2);
        let autumn = ("2026-10-25T10:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        check(Window::Day, "Europe/Berlin", autumn.0, autumn.1, autumn.2);
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let quota = Quota { count: 1, window: Window::Month, zone: TimeZone::UTC };
        assert!(window(&quota, u64::MAX).start_ms > 0);
        assert!(window(&quota, 0).contains(0));
    }
}
