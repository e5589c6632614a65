//! An event stream of which each message is looked at before it passes.
//!
//! Not here: the messages (`listing`), sockets, and how much is held by all streams together (the worker's budget).
//!
//! An event is held until the empty line behind it (WHATWG HTML, section 9.2.6). Comments pass as they come, and so does
//! an event whose data begins like no message. Nothing of an event that was held is changed but the data of a message
//! that lost something.

use crate::config::limits;
use crate::mcp::listing::Screen;
use crate::mcp::listing::Unfit;
use crate::mcp::listing::may_be_message;
use crate::mcp::listing::screen;
use memchr::memchr2;

const MARK: &[u8] = b"\xEF\xBB\xBF";

/// What is held of one stream. Never more than `HELD_ANSWER_BYTES_MAX`.
#[derive(Debug, Default)]
pub struct Events {
    /// The lines of the event so far, as they came; the last one may lack its end.
    held: Vec<u8>,
    /// Where the last line begins.
    line: usize,
    /// Whether a line of it is no comment.
    begun: bool,
    /// Its data is no message: its lines pass as they come.
    is_plain: bool,
    /// The line before ended with CR, to which LF may belong.
    behind_return: bool,
    /// A byte order mark counts only at the start of a stream.
    started: bool,
}

impl Events {
    /// Bytes that have come and not passed.
    pub const fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Takes the next bytes of the stream, cut anywhere; `out` gets what may pass.
    ///
    /// # Errors
    /// An event that may not pass. What `out` has got before it may.
    pub fn feed(&mut self, mut bytes: &[u8], look: &mut Screen<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.behind_return) && first == b'\n' {
                // The second half of a line end: it goes where the first half went.
                let into = if self.held.is_empty() { &mut *out } else { &mut self.held };
                into.push(b'\n');
                self.line = self.held.len();
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            let end = memchr2(b'\n', b'\r', bytes);
            let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            if self.held.len() + piece.len() > limits::HELD_ANSWER_BYTES_MAX {
                return Err(Unfit::TooLarge);
            }
            self.held.extend_from_slice(piece);
            bytes = rest;
            if end.is_some() {
                self.behind_return = piece.last() == Some(&b'\r');
                self.line_ended(look, out)?;
            }
        }
        Ok(())
    }

    /// The stream has ended: an event that nothing ends is one to some readers.
    ///
    /// # Errors
    /// As `feed`.
    pub fn finish(&mut self, look: &mut Screen<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        self.pass(look, out)
    }

    fn line_ended(&mut self, look: &mut Screen<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let line = self.held.get(self.line..).unwrap_or_default();
        let is_empty = line.len() == 1;
        self.begun |= !is_empty && line.first() != Some(&b':');
        self.is_plain |= data_of(line).is_some_and(is_no_message);
        if self.is_plain {
            out.append(&mut self.held);
            self.line = 0;
            self.started = true;
            self.begun &= !is_empty;
            self.is_plain &= !is_empty;
            return Ok(());
        }
        if is_empty || !self.begun {
            return self.pass(look, out);
        }
        self.line = self.held.len();
        Ok(())
    }

    /// Passes what is held.
    fn pass(&mut self, look: &mut Screen<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let first = !std::mem::replace(&mut self.started, true);
        let (mark, event) = match self.held.strip_prefix(MARK) {
            Some(event) if first => (MARK, event),
            _ => (&b""[..], &self.held[..]),
        };
        out.extend_from_slice(mark);
        pass_event(event, look, out)?;
        // A large event is rare: its memory is not kept.
        self.held.clear();
        self.held.shrink_to(limits::BUFFER_BYTES);
        self.line = 0;
        self.begun = false;
        self.is_plain = false;
        Ok(())
    }
}

/// One event, or comments.
fn pass_event(event: &[u8], look: &mut Screen<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let mut data = lines(event).filter_map(|(line, _)| data_of(line));
    let Some(first) = data.next() else {
        out.extend_from_slice(event);
        return Ok(());
    };
    // Lines of one event are joined by a line feed; nearly all have one.
    let mut joined = Vec::new();
    for more in data {
        if joined.is_empty() {
            joined.extend_from_slice(first);
        }
        joined.push(b'\n');
        joined.extend_from_slice(more);
    }
    let message = if joined.is_empty() { first } else { &joined };
    let mut changed = Vec::new();
    if !may_be_message(message) || !screen(message, look, &mut changed)? {
        out.extend_from_slice(event);
        return Ok(());
    }
    let mut changed = Some(changed);
    for (line, end) in lines(event) {
        if data_of(line).is_none() {
            out.extend_from_slice(line);
            out.extend_from_slice(end);
        } else if let Some(message) = changed.take() {
            for part in message.split(|byte| *byte == b'\n') {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(part);
                out.extend_from_slice(if end.is_empty() { b"\n" } else { end });
            }
        }
    }
    Ok(())
}

/// Whether data that begins like this can be no message, whatever follows: messages are objects, and batches arrays.
fn is_no_message(data: &[u8]) -> bool {
    let first = data.iter().find(|byte| !byte.is_ascii_whitespace());
    first.is_some_and(|byte| byte.is_ascii_graphic() && !b"{[".contains(byte))
}

/// The value of a line that is called `data`.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data")?;
    match value.split_first() {
        None => Some(value),
        Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        Some(_) => None,
    }
}

/// Lines, each with its end: CR, LF or both; nothing at the end of the text.
fn lines(mut text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let length = memchr2(b'\n', b'\r', text).unwrap_or(text.len());
        let (line, rest) = text.split_at(length);
        let end = if rest.starts_with(b"\r\n") { 2 } else { rest.len().min(1) };
        let (end, rest) = rest.split_at(end);
        text = rest;
        Some((line, end))
    })
}
