//! One connection to an instance, as control uses it: a request at a time, anew where the last one is of no use.
//!
//! Not here: what is asked (`dialogue`) and how long it may take: whoever waits may stop at any time.

use crate::config::limits;
use crate::config::plan::Endpoint;
use crate::config::plan::InjectedHeader;
use crate::config::plan::Server;
use crate::config::plan::Transport;
use crate::mcp::answer::AnswerFacts;
use crate::mcp::answer::AnswerScan;
use crate::mcp::answer::Form;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper::header;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// An instance as control sees it.
#[derive(Clone, Copy)]
pub(in crate::control) struct Target<'a> {
    pub(in crate::control) server: &'a Server,
    pub(in crate::control) endpoint: &'a Endpoint,
    /// Of the endpoint's name, if it has one.
    pub(in crate::control) addresses: &'a [SocketAddr],
    /// What it is shown beside the configured fields.
    pub(in crate::control) shown: &'a [InjectedHeader],
}

pub(super) struct Link<'a> {
    target: Target<'a>,
    /// Taken out while an answer is under way: whoever stops waiting leaves none behind.
    open: Option<Open>,
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; ends with it.
    _driver: JoinSet<()>,
}

/// Head and connection of an answer whose body is to be read.
pub(super) struct Begun {
    pub(super) head: http::response::Parts,
    body: Incoming,
    open: Open,
}

/// What the body of an answer says.
pub(super) struct Said {
    pub(super) facts: AnswerFacts,
    form: Form,
    /// As much of it as was looked at.
    body: Vec<u8>,
}

impl Said {
    /// The message that answers, in an event stream too; empty where there is none.
    pub(super) fn message(&self) -> Vec<u8> {
        if self.form != Form::EventStream {
            return self.body.clone();
        }
        let mut events = Events::default();
        events.push(&self.body);
        std::iter::from_fn(|| events.next())
            .map(|event| event.data)
            .find(|data| is_answer(data))
            .unwrap_or_default()
    }
}

/// The events of a stream, cut anywhere.
#[derive(Default)]
pub(super) struct Events {
    bytes: Vec<u8>,
    /// No event ends before this.
    seen: usize,
}

/// One event of a stream (HTML, server-sent events).
#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) struct Event {
    /// Empty: it has none.
    pub(in crate::control) id: Vec<u8>,
    pub(in crate::control) data: Vec<u8>,
}

impl Events {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Event> {
        // An end may have come in two pieces.
        let from = self.seen.saturating_sub(3);
        let unseen = self.bytes.get(from..).unwrap_or_default();
        let ends = [&b"\n\n"[..], b"\r\n\r\n"];
        let ends = ends.into_iter().filter_map(|end| Some(memchr::memmem::find(unseen, end)? + end.len()));
        let Some(length) = ends.min() else {
            self.seen = self.bytes.len();
            return None;
        };
        let event: Vec<u8> = self.bytes.drain(..from + length).collect();
        self.seen = 0;
        Some(Event { id: lines_of(&event, b"id:"), data: lines_of(&event, b"data:") })
    }
}

/// An event stream that has begun, for as long as the server keeps it.
pub(in crate::control) struct Listening {
    body: Incoming,
    events: Events,
    /// Keeps the connection.
    _open: Open,
}

impl Listening {
    /// The next event with data or an id. None: the stream has ended.
    ///
    /// # Errors
    /// The connection failed, or an event is longer than [`limits::LISTEN_EVENT_BYTES_MAX`].
    pub(in crate::control) async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            while let Some(event) = self.events.next() {
                if !event.data.is_empty() || !event.id.is_empty() {
                    return Ok(Some(event));
                }
            }
            if self.events.bytes.len() > limits::LISTEN_EVENT_BYTES_MAX {
                return Err(io::Error::other("an event is too long"));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Some(data) = frame.map_err(io::Error::other)?.data_ref() {
                self.events.push(data);
            }
        }
    }
}

impl Begun {
    /// None: the answer is no event stream.
    pub(super) fn listen(self) -> Option<Listening> {
        let is_stream = form(&self.head) == Form::EventStream;
        is_stream.then(|| Listening { body: self.body, events: Events::default(), _open: self.open })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl<'a> Link<'a> {
    pub(super) const fn new(target: Target<'a>) -> Self {
        Self { target, open: None }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> io::Result<Begun> {
        let mut kept = self.open.take();
        let usable = match &mut kept {
            Some(open) => open.sender.ready().await.is_ok(),
            None => false,
        };
        let mut open = match kept {
            Some(open) if usable => open,
            _ => self.connect().await?,
        };
        let answer = open.sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = Response::into_parts(answer);
        Ok(Begun { head, body, open })
    }

    /// Reads an answer as far as its message, in an event stream too.
    pub(super) async fn read(&mut self, begun: Begun) -> io::Result<Said> {
        let Begun { head, mut body, open } = begun;
        let form = form(&head);
        let mut scan = AnswerScan::new(form);
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame.map_err(io::Error::other)?.data_ref() {
                scan.feed(data);
                seen.extend_from_slice(data);
            }
            if seen.len() > limits::ANSWER_SCAN_BYTES_MAX
                || form == Form::EventStream && scan.facts().complete
            {
                return Ok(Said { facts: scan.facts(), form, body: seen });
            }
        }
        // Whole: the connection can be used again.
        self.open = Some(open);
        Ok(Said { facts: scan.facts(), form, body: seen })
    }

    /// Reads the message of an answer whole, in an event stream too, where it is no longer than that.
    pub(super) async fn read_whole(&mut self, begun: Begun, bytes_max: usize) -> io::Result<Vec<u8>> {
        let Begun { head, mut body, open } = begun;
        let form = form(&head);
        let (mut events, mut total) = (Events::default(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(io::Error::other)?;
            let Some(data) = frame.data_ref() else { continue };
            total += data.len();
            if total > bytes_max {
                return Err(io::Error::other("it is too long"));
            }
            events.push(data);
            while form == Form::EventStream
                && let Some(event) = events.next()
            {
                if is_answer(&event.data) {
                    // The stream may go on: its connection is not used again.
                    return Ok(event.data);
                }
            }
        }
        if form == Form::EventStream {
            return Err(io::Error::other("the stream ended without it"));
        }
        self.open = Some(open);
        Ok(events.bytes)
    }

    async fn connect(&self) -> io::Result<Open> {
        let patience = Duration::from_millis(self.target.server.timeout.connect_ms);
        let opened = tokio::time::timeout(patience, self.open()).await;
        opened.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")))
    }

    async fn open(&self) -> io::Result<Open> {
        let stream: Box<dyn Stream> = match &self.target.endpoint.transport {
            Transport::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Transport::Address(address) => self.secured(&[*address]).await?,
            Transport::Name { .. } => self.secured(self.target.addresses).await?,
        };
        let builder = http1::Builder::new();
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its faults are told to whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(Open { sender, _driver: driver })
    }

    async fn secured(&self, addresses: &[SocketAddr]) -> io::Result<Box<dyn Stream>> {
        let plain = TcpStream::connect(addresses).await?;
        // A stream may be silent for hours: this tells a silent peer from one that is gone.
        let _ = rustix::net::sockopt::set_socket_keepalive(&plain, true);
        let _ = rustix::net::sockopt::set_tcp_keepidle(
            &plain,
            Duration::from_secs(limits::LISTEN_KEEPALIVE_SECONDS),
        );
        let (Some(name), Some(config)) = (&self.target.endpoint.tls_name, &self.target.server.tls) else {
            return Ok(Box::new(plain));
        };
        Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name.clone(), plain).await?))
    }
}

/// The values of an event's field, its lines joined as the specification of event streams says.
fn lines_of(event: &[u8], field: &[u8]) -> Vec<u8> {
    let lines = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(field));
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines: Vec<&[u8]> = lines.map(|line| line.strip_prefix(b" ").unwrap_or(line)).collect();
    lines.join(&b'\n')
}

fn is_answer(message: &[u8]) -> bool {
    let mut scan = AnswerScan::new(Form::Json);
    scan.feed(message);
    scan.facts().has_result || scan.facts().error_code.is_some()
}

fn form(head: &http::response::Parts) -> Form {
    let kind = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let is = |name: &[u8]| kind.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    if is(b"application/json") {
        Form::Json
    } else if is(b"text/event-stream") {
        Form::EventStream
    } else {
        Form::Opaque
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_they_are_cut() {
        let text = b": hello\n\nid: 7\ndata: a\r\ndata:b\r\n\r\nevent: x\ndata: c\n\ndata: half";
        let expected = [(&b""[..], &b""[..]), (b"7", b"a\nb"), (b"", b"c")];
        for length in 1..text.len() {
            let (mut events, mut found) = (Events::default(), Vec::new());
            for piece in text.chunks(length) {
                events.push(piece);
                found.extend(std::iter::from_fn(|| events.next()));
            }
            let found: Vec<_> = found.iter().map(|event| (&event.id[..], &event.data[..])).collect();
            assert_eq!(found, expected, "{length}");
        }
    }
}
