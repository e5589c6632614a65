//! The chunked coding (RFC 9112 section 7.1), decoded in place and restartable at every byte.
//!
//! ```text
//!          ┌──────────────────────────────◀─────────────────────────────┐
//!   Size ──┬─▶ SizeLf ──▶ Data ──▶ DataCr ──▶ DataLf ───────────────────┘
//!     └ Space ─▶ Extension ┘ └─(size 0)─▶ TrailerStart ──▶ FinalLf ──▶ Done
//!                                            ▲   └▶ TrailerName ─▶ TrailerValue ─▶ TrailerLf ┐
//!                                            └────────────────────────◀──────────────────────┘
//! ```
//!
//! Any byte that a state does not know is a fault, and after a fault there is no way on.
//!
//! Not here: how long a body may be (whoever collects it counts). May not know: where the bytes come from.

use crate::base::bound::Bound;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::http::fields::classify;
use crate::http::fields::disguised;

/// Bounds of one body's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// One size line with its extensions, without CRLF.
    pub line_bytes: usize,
    /// All extensions of the body together, so that one-byte chunks cannot carry a flood beside them.
    pub extension_bytes: usize,
    /// All trailer lines together, with their CRLFs.
    pub trailer_bytes: usize,
    pub trailer_fields: usize,
}

/// Whose body it is: decides only which kind a fault has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Answer,
    Request,
}

/// What one call of [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the body, now at the front of the buffer.
    pub payload: usize,
    /// Raw bytes used up; all of them unless `done`.
    pub consumed: usize,
    /// The body has ended, its trailers included.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Broken,
    Data,
    DataCr,
    DataLf,
    Done,
    Extension,
    FinalLf,
    Size,
    SizeLf,
    Space,
    TrailerLf,
    TrailerName,
    TrailerStart,
    TrailerValue,
}

/// Longest chunk size, in digits: sixteen hold every number of 64 bits, so nothing can wrap.
const SIZE_DIGITS: u32 = 16;
/// As much of a trailer's name as tells whether the gateway knows it (`fields::classify`).
const NAME_BYTES: usize = 32;

/// All state of one body; nothing is kept in the buffer between calls.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    limits: ChunkLimits,
    side: Side,
    state: State,
    /// Of the chunk: while its size is read the sum so far, then what is missing.
    remaining: u64,
    digits: u32,
    line_bytes: usize,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
    name: [u8; NAME_BYTES],
    name_len: usize,
}

const fn malformed(detail: &'static str) -> Fault {
    Fault::new(Kind::Malformed, detail)
}

/// The size of the trailers has a status of its own.
const fn too_large(detail: &'static str) -> Fault {
    Fault::new(Kind::HeadTooLarge, detail).at(Bound::Trailer)
}

impl Decoder {
    pub const fn new(limits: ChunkLimits, side: Side) -> Self {
        Self {
            limits,
            side,
            state: State::Size,
            remaining: 0,
            digits: 0,
            line_bytes: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
            name: [0; NAME_BYTES],
            name_len: 0,
        }
    }

    /// Whether the body has ended.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Decodes in place: body bytes move to the front of `buf`. Drop the consumed bytes and call again with
    /// what is left and what arrives; a cut anywhere changes nothing. Trailers are checked and dropped.
    /// What follows the body stays unconsumed, unmoved.
    ///
    /// # Errors
    /// Request: `Malformed`, `HeadTooLarge` for the trailers' bounds. Answer: `UpstreamProtocol`. The bytes
    /// in `buf` are then good for nothing.
    pub fn decode(&mut self, buf: &mut [u8]) -> Result<Decoded, Fault> {
        let (mut payload, mut consumed) = (0, 0);
        while self.state != State::Done && consumed < buf.len() {
            if self.state == State::Data {
                let room = buf.len() - consumed;
                let take = usize::try_from(self.remaining).map_or(room, |remaining| remaining.min(room));
                // Both ends are inside: take <= buf.len() - consumed and payload <= consumed.
                buf.copy_within(consumed..consumed + take, payload);
                payload += take;
                consumed += take;
                self.remaining -= take as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.state = self.step(buf[consumed]).map_err(|refusal| self.refuse(refusal))?;
                consumed += 1;
            }
        }
        Ok(Decoded { payload, consumed, done: self.is_done() })
    }

    fn refuse(&mut self, fault: Fault) -> Fault {
        const ANSWER: &str = "The server's chunked answer is malformed.";
        self.state = State::Broken;
        match self.side {
            Side::Answer => Fault { bound: fault.bound, ..Fault::new(Kind::UpstreamProtocol, ANSWER) },
            Side::Request => fault,
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        match (self.state, byte) {
            (State::Size | State::Space | State::Extension, _) => self.size_line(byte),
            (State::SizeLf, b'\n') => {
                self.line_bytes = 0;
                self.digits = 0;
                Ok(if self.remaining == 0 { State::TrailerStart } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::TrailerStart, b'\r') => Ok(State::FinalLf),
            (State::FinalLf, b'\n') => Ok(State::Done),
            (State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf, _) => {
                self.trailer(byte)
            }
            _ => Err(malformed("The chunked body is not framed as announced; lines end with CRLF.")),
        }
    }

    fn size_line(&mut self, byte: u8) -> Result<State, Fault> {
        if byte == b'\r' && self.digits > 0 && self.state != State::Space {
            return Ok(State::SizeLf);
        }
        self.line_bytes += 1;
        if self.line_bytes > self.limits.line_bytes {
            return Err(
                malformed("A chunk size line is longer than this gateway reads.").at(Bound::ChunkLine)
            );
        }
        if self.state == State::Size
            && let Some(digit) = char::from(byte).to_digit(16)
        {
            self.digits += 1;
            if self.digits > SIZE_DIGITS {
                return Err(malformed("A chunk size has more than 16 digits."));
            }
            self.remaining = self.remaining << 4 | u64::from(digit);
            return Ok(State::Size);
        }
        self.extension_bytes += 1;
        if self.extension_bytes > self.limits.extension_bytes {
            return Err(malformed("The chunk extensions are longer than this gateway reads; send none.")
                .at(Bound::ChunkExtension));
        }
        match (self.state, byte) {
            (State::Size, b' ' | b'\t') if self.digits > 0 => Ok(State::Space),
            (State::Size, b';') if self.digits > 0 => Ok(State::Extension),
            (State::Space, b' ' | b'\t') => Ok(State::Space),
            (State::Space, b';') => Ok(State::Extension),
            (State::Extension, _) if is_value_byte(byte) => Ok(State::Extension),
            _ => Err(malformed("A chunk size is no plain hexadecimal number.")),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Fault> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.limits.trailer_bytes {
            return Err(too_large("The trailers are longer than this gateway reads; send none."));
        }
        match (self.state, byte) {
            (State::TrailerStart, _) if is_token_byte(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > self.limits.trailer_fields {
                    return Err(too_large("There are more trailers than this gateway reads."));
                }
                self.name_len = 0;
                self.keep_name_byte(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => {
                // The length never passes the array's: keep_name_byte.
                let name = &self.name[..self.name_len];
                let known = classify(name);
                if known.is_critical() || disguised(name, known) {
                    return Err(malformed("A field that frames, routes or admits stands in the trailers."));
                }
                Ok(State::TrailerValue)
            }
            (State::TrailerName, _) if is_token_byte(byte) => {
                self.keep_name_byte(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_value_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(malformed("A trailer line is no field line.")),
        }
    }

    fn keep_name_byte(&mut self, byte: u8) {
        if let Some(place) = self.name.get_mut(self.name_len) {
            *place = byte;
            self.name_len += 1;
        }
    }
}

/// RFC 9110 section 5.6.2.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// RFC 9110 section 5.5, with obs-text: no control character but the tab.
pub(super) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

#[cfg(test)]
pub(in crate::http) mod tests;
