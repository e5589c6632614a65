//! A raw client: bytes in, strictly parsed answers out, whole or piece by piece with the time at which
//! each piece came.
//!
//! Not here: MCP. `call` makes the bytes.

use super::PATIENCE;
use super::tls::Session;
use super::wire::Body;
use super::wire::Head;
use serde_json::Value;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

/// One whole answer.
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    /// Status codes of the 1xx answers before it.
    pub interim: Vec<u16>,
}

/// As text, and not all of a large one, for failed tests.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text().chars().take(2000).collect();
        write!(f, "{:?} | {:?} {text}", self.head, self.interim)
    }
}

impl Answer {
    /// The JSON-RPC message: the body, or the last event of a stream.
    pub fn json(&self) -> Value {
        let text = self.text();
        let stream =
            self.head.field("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let last = text.lines().rev().find_map(|line| line.strip_prefix("data:"));
        let message = if stream { last.expect("no event in the stream") } else { &text };
        serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Code of the JSON-RPC error; 0 where there is none.
    pub fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or(0)
    }

    /// The shape of every refusal in the contract, and these values.
    #[track_caller]
    pub fn refused(&self, status: u16, reason: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let error = &self.json()["error"];
        assert_eq!(error["data"]["reason"], reason, "{error}");
        let code = -33000 - i64::from(status);
        let specified = [-32700, -32600, -32601, -32602, -32020, -32021, -32022];
        let given = error["code"].as_i64().unwrap();
        assert!(given == code || specified.contains(&given), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{error}");
        assert!(error["data"]["traceId"].is_string(), "{error}");
    }

    /// The refusal of a limit, by the path of its rule; when to try again.
    #[track_caller]
    pub fn limited(&self, rule: &str) -> Duration {
        self.refused(429, "rate_limited");
        assert_eq!(self.code(), -33429, "{self:?}");
        let data = &self.json()["error"]["data"];
        assert_eq!(data["rule"], rule, "{data}");
        let wait = data["retryAfterMs"].as_u64().unwrap_or_else(|| panic!("no retryAfterMs in {data}"));
        assert!(wait > 0, "try again now, says {data}");
        assert_eq!(self.number("retry-after"), wait.div_ceil(1000), "whole seconds, rounded up: {data}");
        Duration::from_millis(wait)
    }

    /// The value of a field that must be there and be a whole number.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let value = self.head.field(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
    }
}

/// Why there is no whole answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// Closed before the first byte of an answer.
    Closed,
    /// Closed inside an answer whose head had come.
    Cut { status: u16, body: Vec<u8> },
    /// Reset before or inside an answer; the bytes of the body that had come.
    Reset(Vec<u8>),
    /// Nothing came within the patience.
    Silent,
    /// Not HTTP/1.1 as a strict reader wants it.
    Malformed(String),
}

/// What carries the bytes.
pub enum Link {
    Plain(TcpStream),
    Secure(Session),
}

impl Link {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(session) => session.tcp(),
        }
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Secure(session) => session.write_all(bytes).and_then(|()| session.flush()),
        }
    }
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => uninterrupted(|| stream.read(into)),
            Self::Secure(session) => uninterrupted(|| session.read(into)),
        }
    }
}

pub struct Client {
    link: Link,
    buffer: Vec<u8>,
    body: Body,
    /// Methods of requests whose answers are still to come, oldest first.
    methods: Vec<String>,
    /// Decoded bytes of an event stream that are not yet a whole event.
    partial: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        Self::over(stream)
    }

    /// From that address of this machine.
    pub fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::linked(Link::Plain(stream))
    }

    pub fn secured(session: Session) -> Self {
        Self::linked(Link::Secure(session))
    }

    fn linked(link: Link) -> Self {
        Self { link, buffer: Vec::new(), body: Body::Done, methods: Vec::new(), partial: Vec::new() }
    }

    /// The TLS session.
    pub fn session(&mut self) -> &mut Session {
        match &mut self.link {
            Link::Plain(_) => panic!("no TLS here"),
            Link::Secure(session) => session,
        }
    }

    /// Sends the bytes; false where the gateway closed before it took them all.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let method = bytes.trim_ascii_start().split(|&b| b == b' ').next().unwrap_or_default();
        self.methods.push(String::from_utf8_lossy(method).into_owned());
        super::shown::request(bytes);
        self.link.write_all(bytes).is_ok()
    }

    /// Sends more of a request that `send` began.
    pub fn send_more(&mut self, bytes: &[u8]) -> bool {
        self.link.write_all(bytes).is_ok()
    }

    /// Sends from a thread of its own, so that an early answer is read while the request still leaves; over TLS, whose
    /// session is one, before it reads.
    pub fn talk(&mut self, bytes: &[u8]) -> Result<Answer, Broken> {
        let Link::Plain(stream) = &self.link else {
            self.send(bytes);
            return self.try_answer();
        };
        self.methods.push("POST".into());
        super::shown::request(bytes);
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(bytes));
            self.try_answer()
        })
    }

    pub fn half_close(&self) {
        self.link.tcp().shutdown(Shutdown::Write).unwrap();
    }

    /// Leaves with a reset instead of a FIN.
    pub fn reset(self) {
        let linger = Some(Duration::ZERO);
        socket2::SockRef::from(self.link.tcp()).set_linger(linger).unwrap();
    }

    pub fn stream(&self) -> &TcpStream {
        self.link.tcp()
    }

    /// The next whole answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer().unwrap_or_else(|broken| panic!("{broken:?}"))
    }

    pub fn try_answer(&mut self) -> Result<Answer, Broken> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.head()?;
            if head.status() >= 200 {
                break head;
            }
            interim.push(head.status());
        };
        let body = self.rest().map_err(|broken| match broken {
            Broken::Cut { body, .. } => Broken::Cut { status: head.status(), body },
            other => other,
        })?;
        Ok(Answer { status: head.status(), head, body, interim })
    }

    /// The next head, interim or final. The body, if any, is then read by `piece`, `event` or `rest`.
    pub fn head(&mut self) -> Result<Head, Broken> {
        assert!(self.body.is_done(), "the last body was not read to its end");
        loop {
            if let Some(head) = Head::parse(&self.buffer).map_err(Broken::Malformed)? {
                if !head.start[0].starts_with("HTTP/") {
                    return Err(Broken::Malformed(head.start[0].clone()));
                }
                self.buffer.drain(..head.size);
                let method = self.methods.first().map_or("POST", String::as_str);
                self.body = Body::of_answer(&head, method).map_err(Broken::Malformed)?;
                if head.status() >= 200 && !self.methods.is_empty() {
                    self.methods.remove(0);
                }
                return Ok(head);
            }
            match self.read() {
                Ok(0) if self.buffer.is_empty() => return Err(Broken::Closed),
                Ok(0) => return Err(Broken::Malformed(format!("cut head {:?}", self.shown()))),
                Ok(_) => {}
                Err(broken) => return Err(broken),
            }
        }
    }

    /// What one read brings of the body, and when; `None` at its end.
    pub fn piece(&mut self) -> Result<Option<(Instant, Vec<u8>)>, Broken> {
        let mut piece = Vec::new();
        loop {
            self.decode(&mut |bytes| piece.extend_from_slice(bytes))?;
            if !piece.is_empty() {
                return Ok(Some((Instant::now(), piece)));
            }
            if self.body.is_done() {
                return Ok(None);
            }
            if self.read()? == 0 {
                self.end_of_stream()?;
            }
        }
    }

    /// The next event of a stream, without its empty line, and when it came; `None` at the end.
    pub fn event(&mut self) -> Result<Option<(Instant, String)>, Broken> {
        let mut at = Instant::now();
        loop {
            if let Some(end) = super::wire::find(&self.partial, b"\n\n") {
                let event = String::from_utf8_lossy(&self.partial[..end]).into_owned();
                self.partial.drain(..end + 2);
                return Ok(Some((at, event)));
            }
            let Some((when, piece)) = self.piece()? else {
                assert!(self.partial.is_empty(), "the stream ended inside an event: {:?}", self.partial);
                return Ok(None);
            };
            at = when;
            self.partial.extend_from_slice(&piece);
        }
    }

    /// All of the body that is still to come.
    pub fn rest(&mut self) -> Result<Vec<u8>, Broken> {
        let mut body = std::mem::take(&mut self.partial);
        loop {
            match self.piece() {
                Ok(Some((_, piece))) => body.extend_from_slice(&piece),
                Ok(None) => return Ok(body),
                Err(Broken::Cut { status, .. }) => return Err(Broken::Cut { status, body }),
                Err(Broken::Reset(_)) => return Err(Broken::Reset(body)),
                Err(other) => return Err(other),
            }
        }
    }

    /// Counts the rest of the body instead of keeping it.
    pub fn count_rest(&mut self) -> Result<u64, Broken> {
        let mut count = 0;
        loop {
            self.decode(&mut |bytes| count += bytes.len() as u64)?;
            if self.body.is_done() {
                return Ok(count);
            }
            if self.read()? == 0 {
                self.end_of_stream()?;
            }
        }
    }

    /// Whether the gateway closes now, without another byte.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && matches!(self.read(), Ok(0) | Err(Broken::Reset(_)))
    }

    /// Whether nothing has come and the connection is open. Only for after an event that excludes both.
    pub fn is_quiet(&mut self) -> bool {
        let stream = self.link.tcp();
        stream.set_nonblocking(true).unwrap();
        let quiet = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        quiet && self.buffer.is_empty()
    }

    fn decode(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), Broken> {
        self.body.take(&mut self.buffer, sink).map_err(Broken::Malformed)
    }

    /// The connection ended: the end of the body too, if nothing else would tell it.
    fn end_of_stream(&mut self) -> Result<(), Broken> {
        if !matches!(self.body, Body::UntilClose) {
            return Err(Broken::Cut { status: 0, body: Vec::new() });
        }
        self.body = Body::Done;
        Ok(())
    }

    fn read(&mut self) -> Result<usize, Broken> {
        let mut bytes = [0; 64 * 1024];
        match self.link.read(&mut bytes) {
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Broken::Silent)
            }
            Err(error) if is_reset(error.kind()) => Err(Broken::Reset(Vec::new())),
            Err(error) => panic!("read: {error}"),
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(200)]).into_owned()
    }
}

/// Over TLS an end that was not announced may be anybody's (RFC 8446 section 6.1), and a read may have to write first.
fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

/// A signal, or a machine that was stopped for a moment, ends a read that means nothing.
pub fn uninterrupted(mut read: impl FnMut() -> std::io::Result<usize>) -> std::io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
