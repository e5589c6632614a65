//! Answer heads of upstreams: as strict as request heads, because a third party wrote them.
//!
//! Not here: how many interim answers are borne (upstream), what is forwarded (`write`). May not know: the
//! request, but for whether it was HEAD.

use crate::base::bound::Bound;
use crate::base::fault::Fault;
use crate::base::fault::Kind;
use crate::http::fields::Fields;
use crate::http::fields::Single;
use crate::http::head::Declared;
use crate::http::head::Facts;
use crate::http::head::closes;
use crate::http::head::collect;
use crate::http::head::declared;
use crate::http::plain;
use crate::http::request::FIELDS_CAPACITY;
use crate::http::request::HeadLimits;
use crate::http::request::HeadScan;
use crate::http::request::Version;
use std::mem::MaybeUninit;

/// How the body of an answer is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFraming {
    Chunked,
    Length(u64),
    /// By status or because the request was HEAD; whatever the fields say.
    None,
    UntilClose,
}

/// What the answer's Content-Type says, as far as relaying cares; parameters are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    EventStream,
    Json,
    Missing,
    Other,
}

/// An answer head that passed every rule. Spans are into the buffer that was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100 to 599, never 101.
    pub status: u16,
    pub version: Version,
    pub framing: AnswerFraming,
    /// Whether the connection may serve another call once this answer was read to its end.
    pub keep_alive: bool,
    pub content_type: ContentType,
    /// Bytes of the head with its empty line.
    pub len: u32,
}

const fn broken(detail: &'static str) -> Fault {
    Fault::new(Kind::UpstreamProtocol, detail)
}

/// Parses the head of the first answer in `buf`. `Ok(None)`: more bytes are needed; call again with the
/// same `scan` and a longer `buf`. `fields` is cleared and filled anew. Interim answers (1xx) are returned
/// like final ones.
///
/// # Errors
/// `UpstreamProtocol` for any break of RFC 9112, for a head over its limits, and for a 101, since no
/// request of ours asks for one.
pub fn parse_response(
    buf: &[u8],
    scan: &mut HeadScan,
    limits: HeadLimits,
    head_request: bool,
    fields: &mut Fields,
) -> Result<Option<ResponseHead>, Fault> {
    fields.clear();
    let window = &buf[..buf.len().min(limits.head_bytes)];
    match window.first() {
        None => return Ok(None),
        // The parser would skip empty lines.
        Some(b'H') => {}
        Some(_) => return Err(broken("The server's answer is not HTTP.")),
    }
    if scan.is_new() {
        if let Some(head) = plain_head(window, limits, head_request, fields) {
            return head.map(Some).map_err(broken);
        }
        fields.clear();
    }
    if scan.may_be_whole(window) {
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_CAPACITY];
        let room = &mut room[..limits.fields_max()];
        let mut answer = httparse::Response::new(&mut []);
        match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut answer, window, room)
        {
            Ok(httparse::Status::Complete(len)) => {
                *scan = HeadScan::default();
                let head = &window[..len];
                let line = Line { status: answer.code.unwrap_or(0), http10: answer.version == Some(0) };
                let facts = collect(head, answer.headers, fields)
                    .map_err(|_| "A field line of the server's answer is malformed.");
                let finished = facts.and_then(|facts| finish(head, line, &facts, head_request, fields));
                return finished.map(Some).map_err(broken);
            }
            Ok(httparse::Status::Partial) => {}
            Err(httparse::Error::TooManyHeaders) => {
                return Err(broken("The server's answer has too many fields.").at(Bound::Fields));
            }
            Err(_) => return Err(broken("The head of the server's answer breaks HTTP/1.1.")),
        }
    }
    scan.check_new_bytes(window).map_err(|_| broken("A line of the server's answer is malformed."))?;
    if buf.len() >= limits.head_bytes {
        return Err(broken("The head of the server's answer is too large.").at(Bound::AnswerHead));
    }
    Ok(None)
}

/// A head that [`plain`] reads; none for any other, which may be as good.
fn plain_head(
    window: &[u8],
    limits: HeadLimits,
    head_request: bool,
    fields: &mut Fields,
) -> Option<Result<ResponseHead, &'static str>> {
    let (status, len) = plain::status_line(window)?;
    let (facts, len) = plain::field_lines(window, len, limits.fields_max(), fields)?;
    let line = Line { status, http10: false };
    Some(finish(&window[..len], line, &facts, head_request, fields))
}

/// What a status line says.
#[derive(Clone, Copy)]
struct Line {
    status: u16,
    http10: bool,
}

fn finish(
    head: &[u8],
    line: Line,
    facts: &Facts,
    head_request: bool,
    fields: &Fields,
) -> Result<ResponseHead, &'static str> {
    let Line { status, http10 } = line;
    match status {
        101 => return Err("The server switched protocols unasked."),
        100..=599 => {}
        _ => return Err("The server's status code is out of range."),
    }
    let declared = declared(head, facts, http10).map_err(|_| "The server's answer has ambiguous framing.")?;
    let content_type = match facts.content_type {
        Single::Missing => ContentType::Missing,
        Single::One(value) => content_type(value.of(head)),
        Single::Twice => return Err("The server's answer has two content types."),
    };
    let bodiless = status < 200 || status == 204;
    let framing = match declared {
        _ if bodiless || status == 304 || head_request => AnswerFraming::None,
        Declared::Chunked => AnswerFraming::Chunked,
        Declared::Length(length) => AnswerFraming::Length(length),
        Declared::Nothing => AnswerFraming::UntilClose,
    };
    // A body where none may be: whatever follows on this connection is not to be trusted.
    let stray_body = bodiless && !matches!(declared, Declared::Nothing | Declared::Length(0));
    let close = closes(head, facts, fields).map_err(|_| "The server's Connection field is malformed.")?;
    let keep_alive = !http10 && !stray_body && !close && framing != AnswerFraming::UntilClose;
    Ok(ResponseHead {
        status,
        version: if http10 { Version::Http10 } else { Version::Http11 },
        framing,
        keep_alive,
        content_type,
        len: u32::try_from(head.len()).unwrap_or(u32::MAX),
    })
}

fn content_type(value: &[u8]) -> ContentType {
    // As nearly all write it.
    if value == b"application/json" {
        return ContentType::Json;
    }
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    match value[..end].trim_ascii() {
        essence if essence.eq_ignore_ascii_case(b"application/json") => ContentType::Json,
        essence if essence.eq_ignore_ascii_case(b"text/event-stream") => ContentType::EventStream,
        _ => ContentType::Other,
    }
}

#[cfg(test)]
pub(in crate::http) mod tests;
