//! Heads that we write, and which fields of a peer's head go into them.
//!
//! Kept fields are copied byte for byte, whole runs of lines at once; everything about framing is ours.
//!
//! Not here: which of our own fields are injected (`upstream`, `policy`), bodies. May not know: sockets.

use crate::http::chunked::is_token_byte;
use crate::http::chunked::is_value_byte;
use crate::http::fields::Field;
use crate::http::fields::Fields;
use crate::http::fields::Known;
use crate::http::fields::Span;
use crate::http::fields::classify;
use crate::http::request::Version;
use crate::http::response::AnswerFraming;
use crate::http::status::reason;

/// Ends a chunked body that ended cleanly at its source; never written after a cut.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a request that we send begins with.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    pub method: &'a [u8],
    /// Origin form.
    pub target: &'a [u8],
    /// Value of our Host field.
    pub authority: &'a [u8],
}

/// Appends a request head: the line, Host, the kept fields as they came, ours, Content-Length.
///
/// `fields` are spans into `source`, as `parse_request` made them, without those that [`drops_upstream`] and
/// the client's [`ConnectionOptions`] name. `injected` must be [`sendable`]. `body`: bytes that will follow;
/// `None` sends no Content-Length (GET, DELETE).
#[expect(
    clippy::too_many_arguments,
    reason = "a head has six parts and a struct of iterators names none better"
)]
pub fn request_head<'f, 'i>(
    out: &mut Vec<u8>,
    line: RequestLine<'_>,
    source: &[u8],
    fields: impl Iterator<Item = &'f Field>,
    injected: impl Iterator<Item = (&'i [u8], &'i [u8])>,
    body: Option<u64>,
) {
    out.extend_from_slice(line.method);
    out.push(b' ');
    out.extend_from_slice(line.target);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(line.authority);
    out.extend_from_slice(b"\r\n");
    copy_fields(out, source, fields);
    for (name, value) in injected {
        debug_assert!(sendable(name, value), "config and adapters check what they inject");
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(length) = body {
        content_length(out, length);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a field of ours can be written without breaking a head: a token, and no control character.
pub fn sendable(name: &[u8], value: &[u8]) -> bool {
    !name.is_empty() && name.iter().copied().all(is_token_byte) && value.iter().copied().all(is_value_byte)
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Copies field lines; lines that stand side by side in `source` are one copy.
fn copy_fields<'f>(out: &mut Vec<u8>, source: &[u8], fields: impl Iterator<Item = &'f Field>) {
    let mut run = Span::default();
    for field in fields {
        let line = Span { start: field.name.start, end: field.value.end };
        let gap = Span { start: run.end, end: line.start };
        if !run.is_empty() && gap.len() == 2 && gap.of(source) == b"\r\n" {
            run.end = line.end;
        } else {
            copy_run(out, source, run);
            run = line;
        }
    }
    copy_run(out, source, run);
}

fn copy_run(out: &mut Vec<u8>, source: &[u8], run: Span) {
    let lines = run.of(source);
    if !lines.is_empty() {
        out.extend_from_slice(lines);
        out.extend_from_slice(b"\r\n");
    }
}

/// Request fields that never go upstream: hop-by-hop ones (RFC 9110 section 7.6.1), those that we write
/// ourselves, the caller's credentials, and what only a trusted hop may say.
pub const fn drops_upstream(field: &Field) -> bool {
    matches!(
        field.known,
        Known::AcceptEncoding
            | Known::ApiKey
            | Known::Authorization
            | Known::Connection
            | Known::ContentLength
            | Known::Cookie
            | Known::Deadline
            | Known::Expect
            | Known::Forwarded
            | Known::Host
            | Known::Http2Settings
            | Known::Internal
            | Known::KeepAlive
            | Known::ProxyAuthenticate
            | Known::ProxyAuthorization
            | Known::ProxyConnection
            | Known::ProxyOther
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Answer fields that never reach a client: hop-by-hop ones, framing (ours), cookies and alternative
/// services of a server that the client does not talk to, load reports.
pub const fn drops_downstream(field: &Field) -> bool {
    matches!(
        field.known,
        Known::AltSvc
            | Known::Connection
            | Known::ContentLength
            | Known::Deadline
            | Known::EndpointLoadMetrics
            | Known::Http2Settings
            | Known::Internal
            | Known::KeepAlive
            | Known::ProxyAuthenticate
            | Known::ProxyAuthorization
            | Known::ProxyConnection
            | Known::ProxyOther
            | Known::SetCookie
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Names in Connection beyond those that are dropped anyway. More are refused.
const NAMED_OPTIONS: usize = 16;

/// What the Connection fields of a head ask for.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    named: [Span; NAMED_OPTIONS],
    count: usize,
    fault: Option<&'static str>,
}

impl ConnectionOptions {
    const NONE: Self = Self {
        close: false,
        keep_alive: false,
        named: [Span { start: 0, end: 0 }; NAMED_OPTIONS],
        count: 0,
        fault: None,
    };

    /// Whether this field is named, so that it ends here.
    #[inline]
    pub fn names(&self, source: &[u8], field: &Field) -> bool {
        !self.is_plain() && self.lists(source, field)
    }

    /// Apart from `names`, so that the usual head, which names nothing, does not even call it.
    #[inline(never)]
    fn lists(&self, source: &[u8], field: &Field) -> bool {
        let name = field.name.of(source);
        self.named.iter().take(self.count).any(|option| option.of(source).eq_ignore_ascii_case(name))
    }

    /// Whether no field is named that would not be dropped anyway.
    pub const fn is_plain(&self) -> bool {
        self.count == 0
    }

    /// The parsers of heads refuse what fails here.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.fault.map_or(Ok(()), Err)
    }

    fn take(&mut self, source: &[u8], option: &[u8]) {
        if option.eq_ignore_ascii_case(b"close") {
            self.close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
        } else if !option.iter().copied().all(is_token_byte) {
            self.fault = Some("Connection lists something that is no field name.");
        } else if must_survive(classify(option)) {
            self.fault = Some("Connection names a field that the request depends on; leave it out.");
        } else if let Some(place) = self.named.get_mut(self.count) {
            *place = Span::within(source, option);
            self.count += 1;
        } else {
            self.fault = Some("Connection names too many fields.");
        }
    }
}

/// Fields that no peer can have deleted on the way, because policy looked at them or framing hangs on them.
const fn must_survive(known: Known) -> bool {
    matches!(
        known,
        Known::ApiKey
            | Known::Authorization
            | Known::ContentEncoding
            | Known::ContentLength
            | Known::ContentType
            | Known::Host
            | Known::Internal
            | Known::McpMethod
            | Known::McpName
            | Known::McpOther
            | Known::McpParam
            | Known::Origin
            | Known::ProtocolVersion
            | Known::SessionId
            | Known::TransferEncoding
    )
}

/// Reads the Connection fields of a head (RFC 9110 section 7.6.1). Most have none.
#[inline]
pub fn connection_options(source: &[u8], fields: &Fields) -> ConnectionOptions {
    if fields.has(Known::Connection) { listed_options(source, fields) } else { ConnectionOptions::NONE }
}

#[inline(never)]
fn listed_options(source: &[u8], fields: &Fields) -> ConnectionOptions {
    let mut options = ConnectionOptions::NONE;
    for field in fields.iter().filter(|field| matches!(field.known, Known::Connection)) {
        for option in field.value.of(source).split(|byte| *byte == b',') {
            let option = trim(option);
            if !option.is_empty() {
                options.take(source, option);
            }
        }
    }
    options
}

/// Optional whitespace is spaces and tabs, nothing else.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// How the body of an answer that we send is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    Chunked,
    Length(u64),
    /// Only for 1xx, 204, 304 and answers to HEAD. Any other answer without a body is `Length(0)`.
    None,
    UntilClose,
}

impl BodyForm {
    /// How an answer that came so leaves to a client of this version: never chunked to HTTP/1.0, and
    /// chunked to HTTP/1.1 where the server just closes, so that a cut shows.
    pub const fn relaying(framing: AnswerFraming, version: Version) -> Self {
        match (framing, version) {
            (AnswerFraming::None, _) => Self::None,
            (AnswerFraming::Length(length), _) => Self::Length(length),
            (_, Version::Http10) => Self::UntilClose,
            (AnswerFraming::Chunked | AnswerFraming::UntilClose, Version::Http11) => Self::Chunked,
        }
    }
}

/// What an answer that we send begins with.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead {
    pub status: u16,
    /// `Chunked` to an HTTP/1.0 client is written as `UntilClose`.
    pub body: BodyForm,
    /// No further request is read from this connection.
    pub close: bool,
    /// Of the client's request.
    pub version: Version,
}

/// What the gateway adds to the head of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own<'a> {
    /// Whole field lines, each with its end.
    pub lines: &'a [u8],
    /// Time that the gateway itself spent, for Server-Timing.
    pub nanos: Option<u64>,
}

/// Appends an answer head: status line, the kept fields as they came, what is ours, framing.
///
/// `fields` are spans into `source` without those that [`drops_downstream`] names.
pub fn answer_head<'f>(
    out: &mut Vec<u8>,
    head: AnswerHead,
    source: &[u8],
    fields: impl Iterator<Item = &'f Field>,
    own: Own<'_>,
) {
    let http10 = head.version == Version::Http10;
    let body = if http10 && head.body == BodyForm::Chunked { BodyForm::UntilClose } else { head.body };
    status_line(out, head.status);
    copy_fields(out, source, fields);
    out.extend_from_slice(own.lines);
    if let Some(nanos) = own.nanos {
        server_timing(out, nanos);
    }
    match body {
        BodyForm::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyForm::Length(length) => content_length(out, length),
        BodyForm::None | BodyForm::UntilClose => {}
    }
    if head.close || http10 || body == BodyForm::UntilClose {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the status line.
pub fn status_line(out: &mut Vec<u8>, status: u16) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Milliseconds with three decimals, in integers.
pub fn server_timing(out: &mut Vec<u8>, nanos: u64) {
    let micros = nanos / 1_000;
    out.extend_from_slice(b"Server-Timing: ringgate;dur=");
    out.extend_from_slice(itoa::Buffer::new().format(micros / 1_000).as_bytes());
    // Each digit is below 10.
    let digit = |divisor: u64| b'0' + (micros / divisor % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    out.extend_from_slice(b"\r\n");
}

/// Writes the line before a chunk of `len` bytes at the **end** of `out` and returns how long it is, so that
/// the 18 bytes in front of payload are all that a caller has to spare. `len` is not 0: that would end the
/// body ([`LAST_CHUNK`] does).
pub fn chunk_prefix(out: &mut [u8; 18], len: usize) -> usize {
    debug_assert!(len > 0, "an empty chunk ends the body");
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out[16] = b'\r';
    out[17] = b'\n';
    let (mut rest, mut at) = (len, 16);
    // Sixteen digits hold every usize, so `at` stays above 0.
    loop {
        at -= 1;
        out[at] = DIGITS[rest & 15];
        rest >>= 4;
        if rest == 0 {
            return out.len() - at;
        }
    }
}

#[cfg(test)]
mod tests;
