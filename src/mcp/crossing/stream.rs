//! The messages of an event stream, one after the other, for whoever gives them on in other words.
//!
//! Not here: what a message is, and streams that pass as they are (`listing::events`).
//!
//! Lines end with CR, LF or both, data of several lines are joined by a line feed, and the id that came last holds for
//! all that follows (WHATWG HTML, section 9.2.6). What the stream ends within is no event.

use crate::config::limits;
use crate::mcp::listing::Unfit;
use memchr::memchr2;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub data: Vec<u8>,
    /// Empty: it has none, nor has one before it.
    pub id: Vec<u8>,
}

/// What is held of one stream. Never more than `HELD_ANSWER_BYTES_MAX`.
#[derive(Debug, Default)]
pub struct Messages {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    id: Vec<u8>,
    /// In milliseconds, as the server last said.
    retry_ms: Option<u64>,
    behind_return: bool,
    started: bool,
}

impl Messages {
    /// Takes the next bytes, cut anywhere; `out` gets the events that are whole now. Events without data, which only
    /// carry an id, are none.
    ///
    /// # Errors
    /// An event, or an id, is longer than what is held.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<Event>) -> Result<(), Unfit> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.behind_return) && first == b'\n' {
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            let end = memchr2(b'\n', b'\r', bytes);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.held_bytes() + piece.len() > limits::HELD_ANSWER_BYTES_MAX {
                return Err(Unfit::TooLarge);
            }
            self.line.extend_from_slice(piece);
            bytes = rest;
            if let Some((&ending, rest)) = rest.split_first() {
                self.behind_return = ending == b'\r';
                bytes = rest;
                self.line_ended(out)?;
            }
        }
        Ok(())
    }

    /// Bytes that have come of what is not whole.
    pub fn held_bytes(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// The id that came last; empty: none.
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// How long the server wants its client to wait before it comes back.
    pub const fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn line_ended(&mut self, out: &mut Vec<Event>) -> Result<(), Unfit> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.started, true) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.has_data) && !data.is_empty() {
                out.push(Event { data, id: self.id.clone() });
            }
            return Ok(());
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => {
                let (field, value) = line.split_at(at);
                let value = value.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (&line[..], &b""[..]),
        };
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"id" if !value.contains(&0) => {
                if value.len() > limits::EVENT_ID_BYTES_MAX {
                    return Err(Unfit::TooLarge);
                }
                self.id = value.to_vec();
            }
            b"retry" => {
                let digits = std::str::from_utf8(value).ok().filter(|text| !text.is_empty());
                let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                self.retry_ms = digits.and_then(|text| text.parse().ok()).or(self.retry_ms);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Appends a message as one event, with its id where it has one. An empty message only carries the id: a client that loses
/// the stream before anything is said can go on behind it (2025-11-25, transports, "Sending Messages to the Server").
pub fn event(message: &[u8], id: &[u8], out: &mut Vec<u8>) {
    if !id.is_empty() {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id);
        out.push(b'\n');
    }
    if !message.is_empty() {
        out.extend_from_slice(b"event: message\n");
    }
    for line in message.split(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &str) -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut messages, mut out) = (Messages::default(), Vec::new());
            pieces.for_each(|piece| messages.feed(piece, &mut out).unwrap());
            out
        };
        let whole = read(&mut std::iter::once(stream.as_bytes()));
        assert_eq!(read(&mut stream.as_bytes().chunks(1)), whole, "cut: {stream:?}");
        whole.into_iter().map(|event| (text(event.data), text(event.id))).collect()
    }

    fn one(data: &str, id: &str) -> Vec<(String, String)> {
        vec![(data.into(), id.into())]
    }

    #[test]
    fn messages_are_read_as_browsers_do() {
        assert_eq!(events("data: {}\n\n"), one("{}", ""));
        assert_eq!(events("\u{feff}id: 7\r\nevent: message\r\ndata:{}\r\n\r\n"), one("{}", "7"));
        assert_eq!(events("data: a\rdata:  b\r\r"), one("a\n b", ""));
        assert_eq!(events(": comment\n\nid: 1\ndata:\n\nretry: 5\n\ndata: x\n\n"), one("x", "1"));
        assert_eq!(events("data: x\n"), vec![]);
        assert_eq!(events("id\ndata\n\nother: 1\n\n"), vec![]);
    }

    #[test]
    fn what_is_held_has_a_bound() {
        let (mut messages, mut out) = (Messages::default(), Vec::new());
        let long = vec![b'x'; limits::HELD_ANSWER_BYTES_MAX];
        assert_eq!(messages.feed(&long, &mut out), Ok(()));
        assert_eq!(messages.feed(b"x", &mut out), Err(Unfit::TooLarge));
        let mut messages = Messages::default();
        let id = format!("id: {}\n", "x".repeat(limits::EVENT_ID_BYTES_MAX + 1));
        assert_eq!(messages.feed(id.as_bytes(), &mut out), Err(Unfit::TooLarge));
        messages = Messages::default();
        messages.feed(b"retry: 12\nretry: 1x\nretry: \n", &mut out).unwrap();
        assert_eq!((messages.retry_ms(), messages.id(), out.len()), (Some(12), &b""[..], 0));
    }

    #[test]
    fn an_event_is_read_back() {
        let mut out = Vec::new();
        event(b"{\n\"a\":1}", b"", &mut out);
        assert_eq!(events(std::str::from_utf8(&out).unwrap()), one("{\n\"a\":1}", ""));
    }
}
