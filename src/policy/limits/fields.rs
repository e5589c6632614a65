//! The header fields that tell a caller what is left of a limit.
//!
//! Not here: which limit that is. The draft's fields are structured (RFC 9651): names of limits are strings of
//! printable ASCII, which `check` makes sure of.

use crate::config::limit::Limit;
use crate::config::limit::RateLimitHeaders;
use crate::config::limit::Window;
use crate::policy::limits::gate::Receipt;
use crate::policy::limits::terms::Verdict;
use std::ops::Range;

/// What an answer is about to say of the limit that counted its call.
#[derive(Clone, Debug)]
pub struct Remainder {
    /// What the limit took.
    pub receipt: Receipt,
    pub style: RateLimitHeaders,
    /// Where what remains of it stands among the field lines.
    pub place: Range<usize>,
}

impl Remainder {
    /// Says it anew, of what the limit says now.
    pub fn correct(self, lines: &mut Vec<u8>, verdict: Verdict) {
        let mut anew = Vec::new();
        if lines.get(self.place.clone()).is_some() && remains(&mut anew, self.style, verdict) {
            lines.splice(self.place, anew);
        }
    }
}

/// Appends the field lines of one limit (draft-ietf-httpapi-ratelimit-headers-10, or the older trio). Where among them
/// stands what remains.
pub fn write(out: &mut Vec<u8>, style: RateLimitHeaders, limit: &Limit, verdict: Verdict) -> Range<usize> {
    if verdict == Verdict::Full {
        return 0..0;
    }
    let (quota, window) = policy(limit);
    match style {
        RateLimitHeaders::Off => {}
        RateLimitHeaders::Draft => {
            text(out, "RateLimit-Policy: \"");
            text(out, &limit.name);
            numbers(out, [("\";q=", quota), (";w=", window)]);
            text(out, "\r\nRateLimit: \"");
            text(out, &limit.name);
        }
        RateLimitHeaders::Legacy => numbers(out, [("X-RateLimit-Limit: ", quota)]),
    }
    let begin = out.len();
    remains(out, style, verdict);
    begin..out.len()
}

/// What remains, to the end of its line. False where there is nothing to say.
fn remains(out: &mut Vec<u8>, style: RateLimitHeaders, verdict: Verdict) -> bool {
    let (left, seconds) = match verdict {
        Verdict::Room { left, reset_ns } => (left, seconds(reset_ns)),
        Verdict::Exhausted { retry_ns: u64::MAX, reset_ns } => (0, seconds(reset_ns)),
        Verdict::Exhausted { retry_ns, .. } => (0, seconds(retry_ns)),
        Verdict::Full => return false,
    };
    match style {
        RateLimitHeaders::Off => return false,
        RateLimitHeaders::Draft => numbers(out, [("\";r=", left), (";t=", seconds)]),
        RateLimitHeaders::Legacy => {
            numbers(out, [("\r\nX-RateLimit-Remaining: ", left), ("\r\nX-RateLimit-Reset: ", seconds)]);
        }
    }
    text(out, "\r\n");
    true
}

/// Appends `Ringgate-Tokens`: what the arguments were taken for, and what is left of the limit after them.
pub fn write_tokens(out: &mut Vec<u8>, tokens_in: u64, verdict: Verdict) {
    let Verdict::Room { left, .. } = verdict else { return };
    numbers(out, [("Ringgate-Tokens: in=", tokens_in), (", left=", left.saturating_sub(tokens_in))]);
    text(out, "\r\n");
}

/// What the limit counts in how many seconds.
fn policy(limit: &Limit) -> (u64, u64) {
    const DAY: u64 = 86_400;
    match (&limit.rate, &limit.quota) {
        (Some(rate), _) => (rate.count, rate.per_ms.div_ceil(1_000)),
        (None, Some(quota)) => {
            let window = match quota.window {
                Window::Minute => 60,
                Window::Hour => 3_600,
                Window::Day => DAY,
                Window::Week => 7 * DAY,
                Window::Month => 30 * DAY,
            };
            (quota.count, window)
        }
        (None, None) => (0, 1),
    }
}

/// Whole seconds, rounded up: a client that waits so long may go on.
pub const fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

/// Tokens of so many bytes, where nobody knows better: 4 bytes are one.
pub const fn estimate(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn numbers<const N: usize>(out: &mut Vec<u8>, parts: [(&str, u64); N]) {
    for (name, number) in parts {
        text(out, name);
        text(out, itoa::Buffer::new().format(number));
    }
}
