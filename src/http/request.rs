//! Request heads: one pass of httparse, then every rule of RFC 9112 that it leaves open.
//!
//! Not here: bodies (`chunked`), which paths and methods are served (worker), which hosts are ours (edge).
//! May not know: the configuration; bounds are arguments.

use crate::base::bound::Bound;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::http::fields::Fields;
use crate::http::fields::Single;
use crate::http::fields::Span;
use crate::http::head::BARE_CR;
use crate::http::head::BARE_LF;
use crate::http::head::Declared;
use crate::http::head::Facts;
use crate::http::head::closes;
use crate::http::head::collect;
use crate::http::head::declared;
use crate::http::host::HostName;
use crate::http::host::parse_authority;
use crate::http::plain;
use std::mem::MaybeUninit;

/// Longest method that is read; registered ones have at most 17 letters.
const METHOD_BYTES: usize = 32;

/// Bounds of one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// First line, fields, blank line, and the empty line that may stand before a request.
    pub head_bytes: usize,
    /// The request target alone. Answers have none.
    pub target_bytes: usize,
    /// Field lines; [`FIELDS_CAPACITY`] is the most that can be asked for.
    pub fields: usize,
}

impl HeadLimits {
    pub(super) fn fields_max(self) -> usize {
        self.fields.min(FIELDS_CAPACITY)
    }
}

/// Room for parsed fields on the stack; a larger `HeadLimits::fields` counts as this.
pub const FIELDS_CAPACITY: usize = 128;

/// How far the search for the end of a head got, so that a head that arrives byte by byte costs its
/// length and not its square. One for each head; finishing a head makes it new again.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Bytes that have been searched and checked.
    searched: usize,
    /// The request target was seen to end within its limit.
    target_ends: bool,
}

impl HeadScan {
    /// Whether nothing of the head has been looked at.
    pub(super) const fn is_new(&self) -> bool {
        self.searched == 0
    }

    /// Whether a parse may succeed: always at first (most heads come in one read, and then this search
    /// would be a second pass), later only once an empty line has arrived.
    pub(super) fn may_be_whole(&self, window: &[u8]) -> bool {
        let from = self.searched.saturating_sub(3);
        self.is_new() || memchr::memmem::find(window.get(from..).unwrap_or(&[]), b"\r\n\r\n").is_some()
    }

    /// Checks the bytes that arrived since the last call. What is refused here is refused in a whole head
    /// too; refusing it early answers a client that waits for no empty line (bare LF everywhere).
    pub(super) fn check_new_bytes(&mut self, window: &[u8]) -> Result<(), &'static str> {
        let mut previous = match self.searched.checked_sub(1).and_then(|last| window.get(last)) {
            Some(byte) => *byte,
            None => 0,
        };
        for &byte in window.get(self.searched..).unwrap_or(&[]) {
            match byte {
                b'\n' if previous != b'\r' => return Err(BARE_LF),
                _ if previous == b'\r' && byte != b'\n' => return Err(BARE_CR),
                b'\t' | b'\r' | b'\n' => {}
                0..=0x1f | 0x7f => return Err("The head has a control character; send none."),
                _ => {}
            }
            previous = byte;
        }
        self.searched = window.len();
        Ok(())
    }

    /// Refuses a target over its limit while the head is still arriving, and a first word that is too long
    /// for a method. `window` begins with the request line at `start`.
    fn check_target(&mut self, window: &[u8], start: usize, limits: HeadLimits) -> Result<(), Fault> {
        if self.target_ends {
            return Ok(());
        }
        let message = window.get(start..).unwrap_or(&[]);
        let word = &message[..message.len().min(METHOD_BYTES + 1)];
        let Some(space) = memchr::memchr(b' ', word) else {
            let too_long = word.len() > METHOD_BYTES;
            return if too_long { Err(malformed("The method is longer than any method.")) } else { Ok(()) };
        };
        let target = &message[space + 1..];
        if target.len() <= limits.target_bytes {
            return Ok(());
        }
        self.target_ends = memchr::memchr(b' ', &target[..=limits.target_bytes]).is_some();
        if self.target_ends { Ok(()) } else { Err(TARGET_TOO_LONG) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Delete,
    Get,
    Head,
    Options,
    /// Any other token, CONNECT and `post` among them: methods are case-sensitive.
    Other,
    Post,
    Put,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Chunked,
    Length(u64),
    None,
}

/// A request head that passed every rule. Spans are into the buffer that was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Method,
    pub method_text: Span,
    /// Origin form, path and query, also where the client sent the absolute form. For CONNECT, which is
    /// never served, the authority.
    pub target: Span,
    /// The target up to its `?`. Empty for CONNECT.
    pub path: Span,
    pub version: Version,
    /// The authority that was asked for; empty only for HTTP/1.0 without Host.
    pub host: Span,
    pub framing: Framing,
    /// False for `Connection: close`, for HTTP/1.0 whatever it asks for, and for CONNECT.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends a body.
    pub expect_continue: bool,
    /// Bytes of the head, with its empty line and the empty line that stood before it.
    pub len: u32,
}

const fn malformed(detail: &'static str) -> Fault {
    Fault::new(Kind::Malformed, detail)
}

/// Parses the head of the first request in `buf`. `Ok(None)`: more bytes are needed; call again with the
/// same `scan` and a longer `buf`. `fields` is cleared and filled anew.
///
/// # Errors
/// Any break of RFC 9112 sections 2-6, and what that leaves open to two readings: `Malformed`, `VersionUnsupported`,
/// `ExpectationFailed`, `TargetTooLong`, `HeadTooLarge`. All of them close the connection. Where a head has
/// two faults, which is named may depend on how the network cut it.
pub fn parse_request(
    buf: &[u8],
    scan: &mut HeadScan,
    limits: HeadLimits,
    fields: &mut Fields,
) -> Result<Option<RequestHead>, Fault> {
    parse_next(buf, scan, limits, &[], fields)
}

/// [`parse_request`] on a connection on which `known_host` was the Host of a request before: what is the same is not
/// looked at again.
///
/// # Errors
/// The same.
pub fn parse_next(
    buf: &[u8],
    scan: &mut HeadScan,
    limits: HeadLimits,
    known_host: &[u8],
    fields: &mut Fields,
) -> Result<Option<RequestHead>, Fault> {
    fields.clear();
    let Some(start) = leading_line(buf)? else { return Ok(None) };
    let window = &buf[..buf.len().min(limits.head_bytes)];
    // `start` is 0 or 2, and `buf` has a byte after it.
    let Some(message) = window.get(start..).filter(|message| !message.is_empty()) else {
        return Err(TOO_LARGE);
    };
    if start == 0 && scan.is_new() {
        if let Some(head) = plain_head(window, limits, known_host, fields) {
            return head.map(Some);
        }
        fields.clear();
    }
    if scan.may_be_whole(window) {
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_CAPACITY];
        let room = &mut room[..limits.fields_max()];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(message, room) {
            Ok(httparse::Status::Complete(len)) => {
                *scan = HeadScan::default();
                let head = &window[..start + len];
                let line = Line {
                    method: request.method.unwrap_or(""),
                    target: request.path.unwrap_or("").as_bytes(),
                    http10: request.version == Some(0),
                };
                line.check(limits)?;
                let facts = collect(head, request.headers, fields).map_err(malformed)?;
                return finish(head, &line, &facts, known_host, fields).map(Some);
            }
            Ok(httparse::Status::Partial) => {}
            Err(error) => return Err(refusal(error, message)),
        }
    }
    scan.check_target(window, start, limits)?;
    scan.check_new_bytes(window).map_err(malformed)?;
    if buf.len() >= limits.head_bytes {
        return Err(TOO_LARGE);
    }
    Ok(None)
}

const TOO_LARGE: Fault = Fault::new(
    Kind::HeadTooLarge,
    "The head of the request is larger than this gateway reads; send fewer or shorter fields.",
)
.at(Bound::Head);
const TARGET_TOO_LONG: Fault =
    Fault::new(Kind::TargetTooLong, "The request target is longer than this gateway reads; shorten it.")
        .at(Bound::Target);

/// Where the request line begins: one empty line before it is skipped (RFC 9112 section 2.2), no more.
fn leading_line(buf: &[u8]) -> Result<Option<usize>, Fault> {
    match buf {
        [] | [b'\r'] | [b'\r', b'\n'] => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] => {
            Err(malformed("Empty lines stand before the request line; send none."))
        }
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r' | b'\n', ..] => Err(malformed(BARE_CR)),
        _ => Ok(Some(0)),
    }
}

/// Names the fault that made httparse give up.
fn refusal(error: httparse::Error, message: &[u8]) -> Fault {
    match error {
        httparse::Error::TooManyHeaders => {
            Fault::new(Kind::HeadTooLarge, "The request has more fields than this gateway reads; send fewer.")
                .at(Bound::Fields)
        }
        httparse::Error::Version | httparse::Error::NewLine if other_version(message) => {
            Fault::new(Kind::VersionUnsupported, "Only HTTP/1.1 and HTTP/1.0 are served here.")
        }
        httparse::Error::HeaderName => malformed("A field name is no token, is folded, or has no colon."),
        httparse::Error::HeaderValue => malformed("A field value has a control character."),
        _ => malformed("The request line is not `METHOD TARGET HTTP/1.1`."),
    }
}

/// Whether the request line is well formed but for its version.
fn other_version(message: &[u8]) -> bool {
    let line = message.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(&[]);
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(_), Some(_), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let (Some(name), Some(number)) = (version.get(..5), version.get(5..)) else { return false };
    name.eq_ignore_ascii_case(b"http/")
        && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && !matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
}

/// A head that [`plain`] reads; none for any other, which may be as good.
fn plain_head(
    window: &[u8],
    limits: HeadLimits,
    known_host: &[u8],
    fields: &mut Fields,
) -> Option<Result<RequestHead, Fault>> {
    let plain::RequestLine { method, target, len } = plain::request_line(window)?;
    let (facts, len) = plain::field_lines(window, len, limits.fields_max(), fields)?;
    let line = Line { method, target, http10: false };
    let checked = line.check(limits);
    Some(checked.and_then(|()| finish(&window[..len], &line, &facts, known_host, fields)))
}

/// The words of a request line.
struct Line<'a> {
    method: &'a str,
    target: &'a [u8],
    http10: bool,
}

impl Line<'_> {
    fn check(&self, limits: HeadLimits) -> Result<(), Fault> {
        if self.method.len() > METHOD_BYTES {
            return Err(malformed("The method is longer than any method."));
        }
        if self.target.len() > limits.target_bytes {
            return Err(TARGET_TOO_LONG);
        }
        Ok(())
    }
}

/// The rules that stand above the grammar. `head` is the whole head.
fn finish(
    head: &[u8],
    line: &Line<'_>,
    facts: &Facts,
    known_host: &[u8],
    fields: &Fields,
) -> Result<RequestHead, Fault> {
    let Line { method: method_text, target, http10 } = *line;
    let method = method(method_text.as_bytes());
    let host = host(head, facts, http10, known_host)?;
    let connect = method_text == "CONNECT";
    let place = if connect { authority_form(target)? } else { place(target, host.of(head))? };
    let framing = match declared(head, facts, http10).map_err(malformed)? {
        Declared::Chunked => Framing::Chunked,
        Declared::Length(length) => Framing::Length(length),
        Declared::Nothing => Framing::None,
    };
    let expect = expects_continue(head, facts)?;
    let close = closes(head, facts, fields).map_err(malformed)?;
    Ok(RequestHead {
        method,
        method_text: Span::within(head, method_text.as_bytes()),
        target: Span::within(head, place.target),
        path: Span::within(head, place.path),
        version: if http10 { Version::Http10 } else { Version::Http11 },
        host: if host.is_empty() && !place.authority.is_empty() {
            Span::within(head, place.authority)
        } else {
            host
        },
        framing,
        keep_alive: !http10 && !connect && !close,
        // An HTTP/1.0 client cannot mean it (RFC 9110 section 10.1.1), and without a body there is nothing to wait for.
        expect_continue: expect && !http10 && framing != Framing::None,
        len: u32::try_from(head.len()).unwrap_or(u32::MAX),
    })
}

fn method(text: &[u8]) -> Method {
    match text {
        b"DELETE" => Method::Delete,
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"OPTIONS" => Method::Options,
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        _ => Method::Other,
    }
}

fn host(head: &[u8], facts: &Facts, http10: bool, known: &[u8]) -> Result<Span, Fault> {
    match facts.host {
        Single::One(value) if !known.is_empty() && value.of(head) == known => Ok(value),
        Single::One(value) => parse_authority(value.of(head)).map(|_| value),
        Single::Missing if http10 => Ok(Span::default()),
        Single::Missing => Err(malformed("HTTP/1.1 needs a Host field; send one.")),
        Single::Twice => Err(malformed("Host stands there twice; send it once.")),
    }
}

/// A target split up.
struct Place<'a> {
    target: &'a [u8],
    path: &'a [u8],
    /// Of the absolute form; else empty.
    authority: &'a [u8],
}

fn authority_form(target: &[u8]) -> Result<Place<'_>, Fault> {
    parse_authority(target)?;
    Ok(Place { target, path: &[], authority: &[] })
}

/// Origin form, or absolute form that agrees with Host (RFC 9112 section 3.2).
fn place<'a>(target: &'a [u8], host: &[u8]) -> Result<Place<'a>, Fault> {
    // Without an early end the compiler looks at many bytes at once.
    let wrong = |byte: &u8| !matches!(byte, 0x21..=0x7e) | (*byte == b'#');
    if target.iter().fold(false, |found, byte| found | wrong(byte)) {
        return Err(malformed("The request target has a byte that is no visible ASCII, or a fragment."));
    }
    let (origin, authority) = match target.first() {
        Some(b'/') => (target, &target[..0]),
        _ => absolute_form(target, host)?,
    };
    let path_end = memchr::memchr(b'?', origin).unwrap_or(origin.len());
    Ok(Place { target: origin, path: &origin[..path_end], authority })
}

/// Splits `http://authority/path` into path and authority.
fn absolute_form<'a>(target: &'a [u8], host: &[u8]) -> Result<(&'a [u8], &'a [u8]), Fault> {
    let colon = memchr::memchr(b':', target).unwrap_or(0);
    let default_port = match &target[..colon] {
        scheme if scheme.eq_ignore_ascii_case(b"http") => 80,
        scheme if scheme.eq_ignore_ascii_case(b"https") => 443,
        _ => return Err(malformed("The request target must begin with a slash.")),
    };
    // An absolute form without a path has no origin form to reduce it to, and nothing is served there.
    let after = target[colon..].strip_prefix(b"://").unwrap_or(&[]);
    let Some(slash) = memchr::memchr(b'/', after) else {
        return Err(malformed("The request target must have a path."));
    };
    let (authority, origin) = after.split_at(slash);
    let asked = parse_authority(authority)?;
    if !host.is_empty() && !same_place(asked, parse_authority(host)?, default_port) {
        return Err(malformed("The request target and Host name different places."));
    }
    Ok((origin, authority))
}

type Authority<'a> = (HostName<'a>, Option<u16>);

fn same_place(one: Authority<'_>, other: Authority<'_>, default_port: u16) -> bool {
    let names = match (one.0, other.0) {
        (HostName::Address(one), HostName::Address(other)) => one == other,
        (HostName::Name(one), HostName::Name(other)) => one.eq_ignore_ascii_case(other),
        _ => false,
    };
    names && one.1.unwrap_or(default_port) == other.1.unwrap_or(default_port)
}

fn expects_continue(head: &[u8], facts: &Facts) -> Result<bool, Fault> {
    match facts.expect {
        Single::Missing => Ok(false),
        Single::One(value) if value.of(head).eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Single::One(_) | Single::Twice => Err(Fault::new(
            Kind::ExpectationFailed,
            "The only expectation that is met here is `100-continue`.",
        )),
    }
}

/// Whether a Content-Type is what MCP bodies are sent as: `application/json`, with no parameter but
/// `charset=utf-8`, in any case of letters.
pub fn json_media_type(value: &[u8]) -> bool {
    // As nearly all write it.
    if value == b"application/json" {
        return true;
    }
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(b"application/json")) {
        return false;
    }
    match (parts.next(), parts.next()) {
        (None, _) => true,
        (Some(parameter), None) => {
            parameter.eq_ignore_ascii_case(b"charset=utf-8")
                || parameter.eq_ignore_ascii_case(b"charset=\"utf-8\"")
        }
        _ => false,
    }
}

#[cfg(test)]
pub(in crate::http) mod tests;
