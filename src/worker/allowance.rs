//! How long one call may take: what the server's timeouts, the tool's own and the caller's deadline say together.
//!
//! Not here: enforcing it (`watch`).

use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::config::limits;
use crate::config::plan::Server;
use crate::config::plan::Timeouts;
use crate::mcp::envelope::Call;
use crate::mcp::envelope::HeaderValue;
use crate::mcp::envelope::Method;

const NO_DEADLINE: Fault = Fault::new(
    Kind::Malformed,
    "Ringgate-Deadline is no whole number of milliseconds from 1 to 86400000; send one, once, or leave it out.",
);
const _: () = assert!(limits::TIMEOUT_MS_MAX == 86_400_000);

/// What a caller's `Ringgate-Deadline` says, in milliseconds from now; none where it is not there.
///
/// # Errors
/// 400 where it cannot be understood: a deadline that is ignored is worse than none.
pub fn callers_deadline(value: HeaderValue<'_>) -> Result<Option<u64>, Fault> {
    let text = match value {
        HeaderValue::Missing => return Ok(None),
        HeaderValue::One(text) => std::str::from_utf8(text).unwrap_or(""),
        HeaderValue::Twice => return Err(NO_DEADLINE),
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let millis = text.parse().ok().filter(|millis| digits && (1..=limits::TIMEOUT_MS_MAX).contains(millis));
    millis.map(Some).ok_or(NO_DEADLINE)
}

/// The times of one call; a caller's deadline lowers every total and raises none.
pub fn of(server: &Server, call: Option<&Call>, callers: Option<u64>) -> Timeouts {
    let call = call.filter(|call| call.method == Method::ToolsCall && !server.tool_total_ms.is_empty());
    let mut times = of_tool(server, call.map(|call| call.target.as_str()));
    if let Some(millis) = callers {
        times.total_ms = times.total_ms.min(millis);
        times.stream_total_ms = times.stream_total_ms.min(millis);
    }
    times
}

/// How long a call may take of which it is not known yet where it goes; `server`: the only one that it may go to.
pub fn at_first(server: Option<&Server>, callers: Option<u64>) -> u64 {
    let total = server.map_or(limits::TOTAL_TIMEOUT_MS_DEFAULT, |server| server.timeout.total_ms);
    callers.map_or(total, |millis| total.min(millis))
}

/// A tool's own total is the whole time that it may take, so that waiting for its first byte may take as long.
pub fn of_tool(server: &Server, tool: Option<&str>) -> Timeouts {
    let own = |tool| server.tool_total_ms.iter().find(|(pattern, _)| pattern.matches(tool));
    match tool.and_then(own) {
        Some((_, total)) => {
            Timeouts { first_byte_ms: *total, total_ms: *total, stream_total_ms: *total, ..server.timeout }
        }
        None => server.timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_number_of_milliseconds_or_an_error() {
        let one = |text: &'static str| callers_deadline(HeaderValue::One(text.as_bytes()));
        assert_eq!(one("1500"), Ok(Some(1_500)));
        assert_eq!(one("86400000"), Ok(Some(86_400_000)));
        for bad in ["", "0", "-1", "+1", "1.5", "1s", "86400001", "99999999999999999999", "\u{b2}"] {
            assert_eq!(one(bad), Err(NO_DEADLINE), "{bad}");
        }
        assert_eq!(callers_deadline(HeaderValue::Missing), Ok(None));
        assert_eq!(callers_deadline(HeaderValue::Twice), Err(NO_DEADLINE));
    }
}
