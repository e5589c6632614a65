//! A small blocking HTTP/1.1 client for the demo's own traffic, over any byte stream.
//!
//! Not here: a codec fit for strangers (that is `http`). This one talks to servers of the same process,
//! so it refuses what it does not know instead of mending it, and every read has a bound.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;

/// Longest head or chunk-size line that is read.
const LINE_BYTES_MAX: u64 = 32 * 1024;
const FIELDS_MAX: usize = 100;
/// Largest chunk that is read in one piece.
const CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One request; its `Host` is the client's, its `Content-Length` the body's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: &'static str,
    pub target: String,
    pub fields: Vec<(&'static str, String)>,
    pub body: String,
}

/// Head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// Names in lower case, values trimmed.
    pub fields: Vec<(String, String)>,
}

impl Head {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    /// The newest JSON-RPC message: the body itself, or the data of an event stream's last event.
    ///
    /// # Errors
    /// The answer carries no JSON.
    pub fn message(&self) -> io::Result<serde_json::Value> {
        let is_stream =
            self.head.field("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let json = if is_stream {
            let start = b"data: ";
            let lines = self.body.split(|byte| *byte == b'\n').rev();
            lines.filter_map(|line| line.strip_prefix(start)).find(|data| !data.is_empty()).unwrap_or(b"")
        } else {
            &self.body
        };
        serde_json::from_slice(json).map_err(io::Error::other)
    }
}

/// What is still to come of the current answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Bytes(usize),
    Chunks,
}

/// One connection. After an error it is of no further use.
#[derive(Debug)]
pub struct Client<S> {
    stream: BufReader<S>,
    host: String,
    rest: Rest,
}

impl<S: Read + Write> Client<S> {
    pub fn new(stream: S, host: &str) -> Self {
        Self { stream: BufReader::new(stream), host: host.to_owned(), rest: Rest::Nothing }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::part`].
    pub fn call(&mut self, request: &Request) -> io::Result<Answer> {
        let head = self.send(request)?;
        let mut body = Vec::new();
        while let Some(part) = self.part()? {
            body.extend_from_slice(&part);
        }
        Ok(Answer { head, body })
    }

    /// Sends a request and reads the head of its answer.
    ///
    /// # Errors
    /// The connection fails or the answer is no HTTP/1.1 that this client knows.
    pub fn send(&mut self, request: &Request) -> io::Result<Head> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, request.target, self.host);
        for (name, value) in &request.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{}", request.body.len(), request.body));
        self.stream.get_mut().write_all(text.as_bytes())?;
        self.head()
    }

    /// The next piece of the body as the peer sent it: one chunk, or what a read gave. None: it is whole.
    ///
    /// # Errors
    /// The connection ends early or a chunk is malformed.
    pub fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.rest {
            Rest::Nothing => Ok(None),
            Rest::Bytes(left) => {
                let mut part = vec![0; left.min(64 * 1024)];
                self.stream.read_exact(&mut part)?;
                self.rest = if part.len() == left { Rest::Nothing } else { Rest::Bytes(left - part.len()) };
                Ok(Some(part))
            }
            Rest::Chunks => self.chunk(),
        }
    }

    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| broken("a chunk has no size"))?;
        if size > CHUNK_BYTES_MAX {
            return Err(broken("a chunk is too large"));
        }
        let mut part = vec![0; size];
        self.stream.read_exact(&mut part)?;
        if !self.line()?.is_empty() {
            return Err(broken("a chunk is longer than its size"));
        }
        if size == 0 {
            self.rest = Rest::Nothing;
            return Ok(None);
        }
        Ok(Some(part))
    }

    fn head(&mut self) -> io::Result<Head> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| broken("the answer does not start as HTTP/1.1"))?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken("a field has no name"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            if fields.len() > FIELDS_MAX {
                return Err(broken("too many fields"));
            }
        }
        let head = Head { status, fields };
        self.rest = rest_of(&head)?;
        Ok(head)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let mut bounded = Read::by_ref(&mut self.stream).take(LINE_BYTES_MAX);
        bounded.read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| broken("the connection ended in a line"))
    }
}

fn rest_of(head: &Head) -> io::Result<Rest> {
    if matches!(head.status, 204 | 304) {
        return Ok(Rest::Nothing);
    }
    if head.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(Rest::Chunks);
    }
    match head.field("content-length").map(str::parse) {
        Some(Ok(0)) => Ok(Rest::Nothing),
        Some(Ok(bytes)) => Ok(Rest::Bytes(bytes)),
        _ => Err(broken("the answer does not say where it ends")),
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads from a script, forgets what is written.
    struct Script(io::Cursor<Vec<u8>>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn check(answer: &str, expected: Option<(u16, &str)>) {
        let request = Request { method: "GET", target: "/".into(), fields: Vec::new(), body: String::new() };
        let mut client = Client::new(Script(io::Cursor::new(answer.into())), "test");
        let got = client.call(&request).ok();
        let got = got.as_ref().map(|got| (got.head.status, str::from_utf8(&got.body).unwrap()));
        assert_eq!(got, expected, "{answer:?}");
    }

    #[test]
    fn answers_end_where_their_framing_says() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Some((200, "hi")));
        check("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", Some((202, "")));
        check("HTTP/1.1 204 No Content\r\n\r\n", Some((204, "")));
        let chunks = "2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n";
        check(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"), Some((200, "hi!")));
    }

    #[test]
    fn cut_and_malformed_answers_are_errors() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            check(answer, None);
        }
    }

    #[test]
    fn the_message_of_a_stream_is_its_last_event() {
        let fields = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
        let body = b"id: 0\ndata: \n\ndata: {\"a\":1}\n\ndata: {\"a\":2}\n\n".to_vec();
        let answer = Answer { head: Head { status: 200, fields }, body };
        assert_eq!(answer.message().unwrap()["a"], 2);
    }
}
