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

/// Counts what an event stream carries: the bytes of its `data` lines without the name, its space and line ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataBytes {
    line: Line,
    bytes: u64,
}

/// How far the line at hand is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` were seen.
    Name(usize),
    /// After `data:`; one space belongs to the framing.
    Space,
    Data,
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Name(0)
    }
}

const DATA: &[u8] = b"data:";

impl DataBytes {
    /// Takes the bytes of the stream in order, cut anywhere.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match (self.line, byte) {
                (_, b'\r' | b'\n') => self.line = Line::Name(0),
                (Line::Name(seen), _) if DATA.get(seen) == Some(&byte) => {
                    self.line = if seen + 1 == DATA.len() { Line::Space } else { Line::Name(seen + 1) };
                }
                (Line::Name(_), _) => self.line = Line::Other,
                (Line::Space, b' ') => self.line = Line::Data,
                (Line::Space | Line::Data | Line::Other, _) => {
                    let run = memchr::memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
                    if self.line != Line::Other {
                        self.line = Line::Data;
                        self.bytes += run as u64;
                    }
                    bytes = bytes.get(run..).unwrap_or_default();
                    continue;
                }
            }
            bytes = rest;
        }
    }

    pub const fn bytes(&self) -> u64 {
        self.bytes
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

    #[test]
    fn only_the_data_of_a_stream_is_counted() {
        let table: [(&[u8], u64); 7] = [
            (b"", 0),
            (b"data: abc\n\n", 3),
            (b"data:abc\r\ndata:  d\r\n\r\n", 5),
            (b"event: message\ndata: {}\nid: 7\n\n", 2),
            (b": comment\n\ndatax: no\ndat: no\ndata\n", 0),
            (b"data: data: x\n", 7),
            (b"data:\ndata: \ndata: y", 1),
        ];
        for (stream, expected) in table {
            for cut in 0..=stream.len() {
                let mut count = DataBytes::default();
                count.feed(&stream[..cut]);
                count.feed(&stream[cut..]);
                assert_eq!(count.bytes(), expected, "{} cut at {cut}", String::from_utf8_lossy(stream));
            }
        }
    }
}
