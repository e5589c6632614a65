//! Where a comment of ours fits into an event stream that passes by untouched.
//!
//! ```text
//!   Boundary ─text─▶ Text ─LF─▶ LineStart ─LF─▶ Boundary      (CR as LF, but that the
//!       ▲              ▲────text────┘  └─CR─▶ CrAfterBlank     next byte decides whether
//!       └──────LF───────────────────────────────┘              the line end is over)
//! ```
//!
//! Not here: parsing events. The stream's bytes are never changed.

/// Keeps middleboxes from closing an idle stream; receivers ignore it (HTML, server-sent events).
pub const COMMENT: &[u8] = b":\n\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two events, or before the first.
    Boundary,
    /// After CR of an empty line; LF may still belong to it.
    CrAfterBlank,
    /// After CR of a line with text; LF may still belong to it.
    CrAfterText,
    /// After the end of a line with text: the event goes on or ends with the next line.
    LineStart,
    Text,
}

/// Whether a relayed event stream stands between two events: only after an empty line, and never behind a
/// CR whose LF may follow. (A stream that ends lines with CR alone therefore gets no comments.) The start of
/// a stream counts as between two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventBoundary {
    state: State,
}

/// The state after a read depends on no more than its last bytes: two line ends are at most four, and whatever
/// stood before them leads to the same state as text does.
const TAIL_BYTES: usize = 4;

impl Default for EventBoundary {
    fn default() -> Self {
        Self::new()
    }
}

impl EventBoundary {
    pub const fn new() -> Self {
        Self { state: State::Boundary }
    }

    /// Takes the bytes of the stream in order, decoded from any chunked framing, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        let tail = match bytes.len().checked_sub(TAIL_BYTES) {
            Some(before) if before > 0 => {
                self.state = State::Text;
                &bytes[before..]
            }
            _ => bytes,
        };
        for byte in tail {
            self.state = next(self.state, *byte);
        }
    }

    pub const fn at_boundary(&self) -> bool {
        matches!(self.state, State::Boundary)
    }
}

const fn next(state: State, byte: u8) -> State {
    match (state, byte) {
        (State::CrAfterBlank, b'\n') => State::Boundary,
        (State::CrAfterText, b'\n') => State::LineStart,
        (State::Text, b'\r') => State::CrAfterText,
        (State::Text, b'\n') => State::LineStart,
        (_, b'\r') => State::CrAfterBlank,
        (_, b'\n') => State::Boundary,
        _ => State::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_fits_only_behind_an_empty_line() {
        for (stream, expected) in [
            ("", true),
            ("\n", true),
            ("data: 1", false),
            ("data: 1\n", false),
            ("data: 1\n\n", true),
            ("data: 1\r\n", false),
            ("data: 1\r\n\r", false),
            ("data: 1\r\n\r\n", true),
            ("data: 1\n\nd", false),
            ("data: 1\n\n:", false),
            ("data: 1\r\r", false),
            ("data: 1\r\rdata: 2\n", false),
            ("a\n\r\n", true),
            ("a\r\n\n", true),
            ("a\r\r\n", true),
        ] {
            let mut whole = EventBoundary::new();
            whole.feed(stream.as_bytes());
            assert_eq!(whole.at_boundary(), expected, "{stream:?}");
            let mut dribbled = EventBoundary::default();
            stream.bytes().for_each(|byte| dribbled.feed(&[byte]));
            assert_eq!(dribbled.at_boundary(), expected, "{stream:?} byte by byte");
        }
    }

    #[test]
    fn our_comment_leaves_a_boundary() {
        let mut boundary = EventBoundary::new();
        boundary.feed(COMMENT);
        assert!(boundary.at_boundary());
    }
}
