//! HTTP/1.1 messages as they come: head, Content-Length or chunked body, from any split of the bytes.
//! Not here: sockets, MCP, leniency: what is not understood is a fault, because a load test must notice it.

use std::fmt;

/// A head longer than this is a fault.
const MAX_HEAD: usize = 32 * 1024;
/// A body longer than this is a fault: the harness asks for at most 64 MiB.
const MAX_BODY: usize = 65 * 1024 * 1024;

/// Why bytes are not an HTTP message that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Head,
    Length,
    Chunk,
    TooLong,
    /// Bytes after the message: nobody here pipelines.
    Surplus,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "malformed head",
            Self::Length => "malformed length",
            Self::Chunk => "malformed chunk",
            Self::TooLong => "message too long",
            Self::Surplus => "bytes after the message",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    /// Until the connection ends.
    Close,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Method {
    #[default]
    Post,
    Get,
    Delete,
    Other,
}

/// What we read of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Of an answer; 0 in a request.
    pub(crate) status: u16,
    /// Of a request.
    pub(crate) method: Method,
    pub(crate) framing: Framing,
    pub(crate) event_stream: bool,
    /// The sender closes the connection after this message.
    pub(crate) closes: bool,
    pub(crate) session: Option<String>,
    bytes: usize,
}

/// Which kind of message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Answer,
}

fn find(text: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    text.get(from..)?.windows(needle.len()).position(|part| part == needle).map(|at| from + at)
}

/// Reads a head; `None` while it is incomplete.
fn read_head(text: &[u8], kind: Kind) -> Result<Option<Head>, Fault> {
    let mut at = line_end(text, 0);
    let Some(first) = at.and_then(|end| text.get(..end)) else { return short(text) };
    let mut head = start(first, kind)?;
    loop {
        let Some(from) = at.map(|end| end + 2) else { return short(text) };
        at = line_end(text, from);
        let Some(end) = at else { return short(text) };
        let line = text.get(from..end).ok_or(Fault::Head)?;
        if line.is_empty() {
            head.bytes = end + 2;
            return Ok(Some(head));
        }
        field(line, &mut head)?;
    }
}

fn short(text: &[u8]) -> Result<Option<Head>, Fault> {
    if text.len() > MAX_HEAD { Err(Fault::TooLong) } else { Ok(None) }
}

fn line_end(text: &[u8], from: usize) -> Option<usize> {
    let end = from + text.get(from..)?.iter().position(|&byte| byte == b'\r')?;
    (text.get(end + 1) == Some(&b'\n')).then_some(end)
}

fn start(line: &[u8], kind: Kind) -> Result<Head, Fault> {
    let mut head = Head {
        status: 0,
        method: Method::default(),
        framing: Framing::Length(0),
        event_stream: false,
        closes: false,
        session: None,
        bytes: 0,
    };
    if kind == Kind::Request {
        let space = line.iter().position(|&byte| byte == b' ').ok_or(Fault::Head)?;
        if !line.ends_with(b" HTTP/1.1") && !line.ends_with(b" HTTP/1.0") {
            return Err(Fault::Head);
        }
        head.closes = line.ends_with(b"0");
        head.method = match line.get(..space) {
            Some(b"POST") => Method::Post,
            Some(b"GET") => Method::Get,
            Some(b"DELETE") => Method::Delete,
            _ => Method::Other,
        };
        return Ok(head);
    }
    let status = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "));
    let digits = status.and_then(|rest| rest.get(..3)).ok_or(Fault::Head)?;
    head.status = decimal(digits).and_then(|status| u16::try_from(status).ok()).ok_or(Fault::Head)?;
    if !matches!(head.status, 204 | 304) && head.status >= 200 {
        head.framing = Framing::Close;
    }
    Ok(head)
}

fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn field(line: &[u8], head: &mut Head) -> Result<(), Fault> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(Fault::Head)?;
    let (name, value) = line.split_at(colon);
    // Four lengths are all that we look at; most fields end here.
    if !matches!(name.len(), 10 | 12 | 14 | 17) {
        return Ok(());
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if name.eq_ignore_ascii_case(b"content-length") {
        let length = decimal(value).ok_or(Fault::Length)?;
        if length > MAX_BODY {
            return Err(Fault::TooLong);
        }
        if head.framing != Framing::Chunked {
            head.framing = Framing::Length(length);
        }
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::Length);
        }
        head.framing = Framing::Chunked;
    } else if name.eq_ignore_ascii_case(b"content-type") {
        head.event_stream = value.starts_with(b"text/event-stream");
    } else if name.eq_ignore_ascii_case(b"connection") {
        head.closes = value.eq_ignore_ascii_case(b"close");
    } else if name.eq_ignore_ascii_case(b"mcp-session-id") {
        head.session = Some(String::from_utf8_lossy(value).into_owned());
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Size,
    Data(usize),
    DataEnd,
    Trailer,
    Done,
}

/// A chunked body, taken apart.
#[derive(Debug)]
struct Chunks {
    step: Step,
    line: Vec<u8>,
}

impl Chunks {
    /// Appends the data of `bytes` to `body`. Returns how many bytes were taken: fewer than all only when
    /// the body is done.
    fn feed(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, Fault> {
        let mut at = 0;
        while self.step != Step::Done {
            let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { break };
            if let Step::Data(left) = self.step {
                let part = rest.get(..left).unwrap_or(rest);
                if body.len() + part.len() > MAX_BODY {
                    return Err(Fault::TooLong);
                }
                body.extend_from_slice(part);
                at += part.len();
                self.step = if part.len() == left { Step::DataEnd } else { Step::Data(left - part.len()) };
                continue;
            }
            let end = rest.iter().position(|&byte| byte == b'\n');
            let part = rest.get(..end.map_or(rest.len(), |end| end + 1)).unwrap_or_default();
            self.line.extend_from_slice(part);
            at += part.len();
            if self.line.len() > 4096 {
                return Err(Fault::Chunk);
            }
            if end.is_some() {
                self.step = self.line_done()?;
                self.line.clear();
            }
        }
        Ok(at)
    }

    fn line_done(&self) -> Result<Step, Fault> {
        let line = self.line.strip_suffix(b"\r\n").ok_or(Fault::Chunk)?;
        match self.step {
            Step::Size => {
                let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
                let text = std::str::from_utf8(digits).map_err(|_| Fault::Chunk)?;
                let size = usize::from_str_radix(text, 16).map_err(|_| Fault::Chunk)?;
                Ok(if size == 0 { Step::Trailer } else { Step::Data(size) })
            }
            Step::DataEnd if line.is_empty() => Ok(Step::Size),
            Step::Trailer => Ok(if line.is_empty() { Step::Done } else { Step::Trailer }),
            _ => Err(Fault::Chunk),
        }
    }
}

/// Reads messages of one connection, one after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    kind: Kind,
    head: Option<Head>,
    /// Raw bytes of an incomplete head, or the body of the message that `head` began.
    held: Vec<u8>,
    chunks: Chunks,
    complete: bool,
}

/// A complete message.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) head: Head,
    pub(crate) body: &'a [u8],
}

impl Reader {
    pub(crate) fn new(kind: Kind) -> Self {
        let chunks = Chunks { step: Step::Size, line: Vec::new() };
        Self { kind, head: None, held: Vec::new(), chunks, complete: false }
    }

    /// The head and the part of the body that is there, while the message is incomplete.
    pub(crate) fn partial(&self) -> Option<(&Head, &[u8])> {
        self.head.as_ref().map(|head| (head, self.held.as_slice()))
    }

    /// Takes the next bytes; answers the message that they complete. A message that came at once is not
    /// copied.
    ///
    /// # Errors
    /// Bytes that are no message, or more than one.
    pub(crate) fn feed<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<Message<'a>>, Fault> {
        if self.complete {
            self.reset();
        }
        if self.head.is_some() {
            return self.feed_body(bytes);
        }
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            let Some(head) = read_head(&self.held, self.kind)? else { return Ok(None) };
            let all = std::mem::take(&mut self.held);
            let rest = all.get(head.bytes..).unwrap_or_default();
            self.begin(head);
            let complete = self.feed_body(rest)?.map(|message| message.head);
            return Ok(complete.map(|head| Message { head, body: &self.held }));
        }
        let Some(head) = read_head(bytes, self.kind)? else {
            self.held.extend_from_slice(bytes);
            return Ok(None);
        };
        let rest = bytes.get(head.bytes..).unwrap_or_default();
        if head.framing == Framing::Length(rest.len()) {
            return Ok(Some(Message { head, body: rest }));
        }
        self.begin(head);
        self.feed_body(rest)
    }

    /// The connection ended. A body without a length ends with it.
    pub(crate) fn end(&mut self) -> Option<Message<'_>> {
        let head = self.head.take_if(|head| head.framing == Framing::Close)?;
        self.complete = true;
        Some(Message { head, body: &self.held })
    }

    fn reset(&mut self) {
        self.complete = false;
        self.head = None;
        self.held.clear();
        // A rare large message must not pin its memory to an idle connection.
        self.held.shrink_to(512 * 1024);
        self.chunks.step = Step::Size;
    }

    fn begin(&mut self, head: Head) {
        if let Framing::Length(length) = head.framing {
            self.held.reserve(length);
        }
        self.head = Some(head);
    }

    fn feed_body(&mut self, bytes: &[u8]) -> Result<Option<Message<'_>>, Fault> {
        let Some(head) = &self.head else { return Ok(None) };
        let done = match head.framing {
            Framing::Length(length) => {
                self.held.extend_from_slice(bytes);
                if self.held.len() > length {
                    return Err(Fault::Surplus);
                }
                self.held.len() == length
            }
            Framing::Chunked => {
                let taken = self.chunks.feed(bytes, &mut self.held)?;
                if taken < bytes.len() {
                    return Err(Fault::Surplus);
                }
                self.chunks.step == Step::Done
            }
            Framing::Close => {
                if self.held.len() + bytes.len() > MAX_BODY {
                    return Err(Fault::TooLong);
                }
                self.held.extend_from_slice(bytes);
                false
            }
        };
        if !done {
            return Ok(None);
        }
        self.complete = true;
        let head = self.head.take().ok_or(Fault::Head)?;
        Ok(Some(Message { head, body: &self.held }))
    }
}

/// The data of the server-sent events in `body` that are complete, from byte `from` on; calls `visit` with
/// each event's data and answers where the next event starts.
pub(crate) fn events(body: &[u8], from: usize, mut visit: impl FnMut(&[u8])) -> usize {
    let mut at = from;
    loop {
        let (end, gap) = match (find(body, at, b"\n\n"), find(body, at, b"\r\n\r\n")) {
            (Some(plain), Some(full)) if full < plain => (full, 4),
            (Some(plain), _) => (plain, 2),
            (None, Some(full)) => (full, 4),
            (None, None) => return at,
        };
        let event = body.get(at..end).unwrap_or_default();
        for line in event.split(|&byte| byte == b'\n') {
            if let Some(data) = line.strip_prefix(b"data:") {
                visit(data.trim_ascii());
            }
        }
        at = end + gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` whole, and cut at every place: the result must be the same.
    fn check(kind: Kind, text: &str, expected: Result<Option<(Framing, &str)>, Fault>) {
        let expected = expected.map(|some| some.map(|(framing, body)| (framing, body.as_bytes().to_vec())));
        let owned = |message: Option<Message<'_>>| message.map(|m| (m.head.framing, m.body.to_vec()));
        let whole = Reader::new(kind).feed(text.as_bytes()).map(owned);
        assert_eq!(whole, expected, "{text:?}");
        for cut in 1..text.len() {
            let mut reader = Reader::new(kind);
            let (first, rest) = text.as_bytes().split_at(cut);
            let halves = match reader.feed(first) {
                Ok(None) => reader.feed(rest).map(owned),
                Ok(Some(_)) => Err(Fault::Surplus),
                Err(fault) => Err(fault),
            };
            assert_eq!(halves, expected, "{text:?} cut at {cut}");
        }
    }

    #[test]
    fn reads_messages() {
        let length = |n, body| Ok(Some((Framing::Length(n), body)));
        check(Kind::Request, "POST /mcp HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", length(3, "abc"));
        check(Kind::Request, "GET /mcp HTTP/1.1\r\nHost: x\r\n\r\n", length(0, ""));
        check(Kind::Answer, "HTTP/1.1 200 OK\r\ncontent-length:  3 \r\n\r\nabc", length(3, "abc"));
        check(Kind::Answer, "HTTP/1.1 204 No Content\r\n\r\n", length(0, ""));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let done = |body| Ok(Some((Framing::Chunked, body)));
        check(Kind::Answer, &format!("{chunked}3\r\nabc\r\n0\r\n\r\n"), done("abc"));
        check(
            Kind::Answer,
            &format!("{chunked}3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n"),
            done("abc0123456789"),
        );
        check(Kind::Answer, &format!("{chunked}3\r\nabc"), Ok(None));
        check(Kind::Answer, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", Ok(None));
        check(Kind::Answer, "HTTP/1.1 200 OK\r\n\r\nabc", Ok(None));
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let whole = |text: &str| Reader::new(Kind::Answer).feed(text.as_bytes()).map(|_| ()).unwrap_err();
        assert_eq!(whole("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc"), Fault::Surplus);
        assert_eq!(whole("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), Fault::Length);
        assert_eq!(whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), Fault::Length);
        assert_eq!(whole("HTTP/2 200\r\n\r\n"), Fault::Head);
        assert_eq!(whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), Fault::Chunk);
        assert_eq!(whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n"), Fault::Chunk);
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection() {
        let mut reader = Reader::new(Kind::Answer);
        assert!(reader.feed(b"HTTP/1.1 200 OK\r\n\r\nab").is_ok_and(|message| message.is_none()));
        assert_eq!(reader.end().map(|message| message.body.to_vec()), Some(b"ab".to_vec()));
        assert!(reader.end().is_none());
    }

    #[test]
    fn events_are_found_once() {
        let body = b": hello\n\ndata: one\n\nevent: x\r\ndata: two\r\n\r\ndata: thr";
        let mut seen = Vec::new();
        let next = events(body, 0, |data| seen.push(String::from_utf8_lossy(data).into_owned()));
        assert_eq!(seen, ["one", "two"]);
        assert_eq!(body.get(next..), Some(b"data: thr".as_slice()));
        assert_eq!(events(body, next, |_| seen.clear()), next);
        assert_eq!(seen.len(), 2);
    }
}
