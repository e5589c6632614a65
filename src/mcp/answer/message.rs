//! The scan of one JSON message: the few keys of an answer that somebody counts.
//!
//! Not here: event streams, the bound on the bytes (`answer`); validation (nobody's: the bytes pass as
//! they came).

use crate::mcp::answer::AnswerFacts;
use crate::mcp::answer::ResultType;
use crate::mcp::answer::bytes::CLASSES;
use crate::mcp::answer::bytes::Class;
use crate::mcp::answer::bytes::plain_bytes;

/// The scan of one JSON message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    state: State,
    /// Open brackets.
    depth: u32,
    place: Place,
    /// The place at depth 2, to which deeper brackets return.
    outer: Place,
    /// Whether a string would be a key of the place.
    at_key: bool,
    /// The key whose value is next.
    key: Known,
    /// The string that is being read, as far as it can matter.
    taken: Taken,
    /// The number that is being read, without its sign.
    number: i64,
    is_negative: bool,
    has_error: bool,
    pub(super) facts: AnswerFacts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the opening brace.
    Before,
    /// Between strings, and in scalars that nobody reads.
    Between,
    Text(Purpose),
    /// Behind a backslash.
    Escape(Purpose),
    /// In the error's code.
    Number,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Skip,
    Key,
    ResultType,
}

/// The innermost object whose keys matter, if the scan is directly in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Envelope,
    Result,
    Error,
    /// Deeper, or in something else.
    Elsewhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Result,
    Error,
    Code,
    IsError,
    ResultType,
    Meta,
}

/// Room for the longest text that matters, `input_required`.
const TAKEN_BYTES_MAX: usize = 14;

/// A short string, or the knowledge that it is a longer one.
#[derive(Clone, Copy, Debug)]
struct Taken {
    bytes: [u8; TAKEN_BYTES_MAX],
    len: usize,
}

impl Taken {
    const EMPTY: Self = Self { bytes: [0; TAKEN_BYTES_MAX], len: 0 };

    fn push(&mut self, more: &[u8]) {
        let end = self.len.saturating_add(more.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(more);
        }
        self.len = end;
    }

    /// None if it did not fit.
    fn text(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len)
    }
}

impl Message {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Before,
            depth: 0,
            place: Place::Elsewhere,
            outer: Place::Elsewhere,
            at_key: false,
            key: Known::Nothing,
            taken: Taken::EMPTY,
            number: 0,
            is_negative: false,
            has_error: false,
            facts: AnswerFacts {
                error_code: None,
                has_result: false,
                is_error: false,
                result_type: ResultType::Unknown,
                has_meta: false,
                complete: false,
            },
        }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                State::Between => bytes = self.between(bytes),
                State::Text(purpose) => bytes = self.text(purpose, bytes),
                State::Escape(purpose) => {
                    bytes = rest;
                    self.state = State::Text(purpose);
                }
                State::Number => {
                    if self.number_goes_on(byte) {
                        bytes = rest;
                    } else {
                        self.state = State::Between;
                    }
                }
                State::Before => {
                    bytes = rest;
                    match byte {
                        b' ' | b'\t' | b'\n' | b'\r' => {}
                        b'{' => {
                            self.state = State::Between;
                            self.depth = 1;
                            self.place = Place::Envelope;
                            self.at_key = true;
                        }
                        _ => self.state = State::Done,
                    }
                }
                State::Done => return,
            }
        }
    }

    /// The bytes outside of strings, and the strings that end in this piece: all in one loop, because this
    /// is where an answer's bytes are. Stops where another state begins: what is left.
    fn between<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if matches!(self.place, Place::Elsewhere) {
                at = self.elsewhere(bytes, at);
                if matches!(self.state, State::Between) {
                    continue;
                }
                break;
            }
            at += 1;
            match CLASSES[usize::from(byte)] {
                Class::Quote => at = self.open_text(bytes, at),
                Class::Open => {
                    self.open(byte);
                    continue;
                }
                Class::Close => self.close(),
                Class::Comma => {
                    self.key = Known::Nothing;
                    self.at_key = true;
                    continue;
                }
                Class::Colon => {
                    self.at_key = false;
                    continue;
                }
                Class::Scalar if !matches!(self.key, Known::Nothing) => self.scalar(byte),
                Class::Scalar | Class::Space => continue,
            }
            if !matches!(self.state, State::Between) {
                break;
            }
        }
        bytes.get(at..).unwrap_or_default()
    }

    /// The same where no key matters, up to the bracket that ends the innermost value: what is behind it.
    fn elsewhere(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            match CLASSES[usize::from(byte)] {
                Class::Quote => {
                    at += plain_bytes(bytes, at);
                    if bytes.get(at) != Some(&b'"') {
                        self.state = State::Text(Purpose::Skip);
                        break;
                    }
                    at += 1;
                }
                Class::Open => self.depth = self.depth.saturating_add(1),
                Class::Close => {
                    self.close();
                    if !matches!(self.place, Place::Elsewhere) {
                        break;
                    }
                }
                _ => {}
            }
        }
        at
    }

    /// A string of a place that matters, from behind its quote; it ends here, or its state begins.
    fn open_text(&mut self, bytes: &[u8], at: usize) -> usize {
        let purpose = if self.at_key {
            Purpose::Key
        } else if !matches!(self.key, Known::Nothing) && matches!(self.value(), Known::ResultType) {
            Purpose::ResultType
        } else {
            Purpose::Skip
        };
        let end = at + plain_bytes(bytes, at);
        if bytes.get(end) != Some(&b'"') {
            self.taken.len = 0;
            self.state = State::Text(purpose);
            return at;
        }
        match purpose {
            Purpose::Skip => end + 1,
            Purpose::ResultType => {
                self.learn(purpose, bytes.get(at..end).unwrap_or_default());
                end + 1
            }
            Purpose::Key => {
                self.key = self.known_key(bytes.get(at..end).unwrap_or_default());
                // Its colon is nearly always the next byte.
                let colon = bytes.get(end + 1) == Some(&b':');
                self.at_key = !colon;
                end + 1 + usize::from(colon)
            }
        }
    }

    /// The rest of a string that did not end in the piece that it began in, as much as is here.
    fn text<'b>(&mut self, purpose: Purpose, bytes: &'b [u8]) -> &'b [u8] {
        let (run, rest) = bytes.split_at(plain_bytes(bytes, 0));
        if purpose != Purpose::Skip {
            self.taken.push(run);
        }
        let Some((&end, rest)) = rest.split_first() else { return rest };
        if end == b'\\' {
            // Not understood: longer than anything that is.
            self.taken.len = usize::MAX;
            self.state = State::Escape(purpose);
            return rest;
        }
        self.state = State::Between;
        let taken = self.taken;
        // What did not fit is none of the texts that are known.
        self.learn(purpose, taken.text().unwrap_or_default());
        rest
    }

    /// What a whole string tells.
    #[inline]
    fn learn(&mut self, purpose: Purpose, text: &[u8]) {
        match purpose {
            Purpose::Skip => {}
            Purpose::Key => self.key = self.known_key(text),
            Purpose::ResultType => {
                self.facts.result_type = match text {
                    b"complete" => ResultType::Complete,
                    b"input_required" => ResultType::InputRequired,
                    _ => ResultType::Other,
                };
            }
        }
    }

    #[inline]
    fn known_key(&self, key: &[u8]) -> Known {
        // Slices of one length each, so that most keys are told apart by their length.
        match self.place {
            Place::Envelope if key == b"result" => Known::Result,
            Place::Envelope if key == b"error" => Known::Error,
            Place::Error if key == b"code" => Known::Code,
            Place::Result if key == b"isError" => Known::IsError,
            Place::Result if key == b"resultType" => Known::ResultType,
            Place::Result if key == b"_meta" => Known::Meta,
            _ => Known::Nothing,
        }
    }

    /// A value begins: what its key alone tells.
    fn value(&mut self) -> Known {
        match self.key {
            Known::Result => self.facts.has_result = true,
            Known::Error => self.has_error = true,
            Known::Meta => self.facts.has_meta = true,
            _ => {}
        }
        std::mem::replace(&mut self.key, Known::Nothing)
    }

    fn open(&mut self, bracket: u8) {
        let key = self.value();
        self.depth = self.depth.saturating_add(1);
        self.place = match key {
            Known::Result if bracket == b'{' => Place::Result,
            Known::Error if bracket == b'{' => Place::Error,
            _ => Place::Elsewhere,
        };
        if self.depth == 2 {
            self.outer = self.place;
        }
        self.at_key = !matches!(self.place, Place::Elsewhere);
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.at_key = false;
        self.key = Known::Nothing;
        match self.depth {
            0 => {
                self.facts.complete = self.facts.has_result || self.has_error;
                self.state = State::Done;
            }
            1 => self.place = Place::Envelope,
            2 => self.place = self.outer,
            _ => {}
        }
    }

    /// The first byte of a scalar behind a known key.
    fn scalar(&mut self, byte: u8) {
        match self.value() {
            Known::IsError => self.facts.is_error = byte == b't',
            Known::Code => {
                self.is_negative = byte == b'-';
                self.number = 0;
                self.state = State::Number;
                if !self.is_negative {
                    self.number_goes_on(byte);
                }
            }
            _ => {}
        }
    }

    /// One more byte of the error's code; whether it belongs to it.
    fn number_goes_on(&mut self, byte: u8) -> bool {
        match byte {
            b'0'..=b'9' => {
                self.number = self.number.saturating_mul(10).saturating_add(i64::from(byte - b'0'));
            }
            b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' => {
                let code = if self.is_negative { -self.number } else { self.number };
                self.facts.error_code = i32::try_from(code).ok();
                return false;
            }
            // A fraction, an exponent or no number: no code.
            _ => self.number = i64::MAX,
        }
        true
    }
}
