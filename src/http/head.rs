//! What request and answer heads have in common: fields to spans, and the facts that framing needs.
//!
//! Not here: the first line. May not know: which side it works for; its refusals are sentences that the
//! caller gives a kind.

use crate::http::fields::Field;
use crate::http::fields::Fields;
use crate::http::fields::Known;
use crate::http::fields::Single;
use crate::http::fields::Span;
use crate::http::fields::classify;
use crate::http::fields::disguised;
use crate::http::write::connection_options;

pub(super) const BARE_LF: &str = "A line of the head ends with LF alone; end lines with CRLF.";
pub(super) const BARE_CR: &str = "The head has a CR without LF; end lines with CRLF.";

/// What the fields say about framing and the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) connection: Single,
    pub(super) content_length: Single,
    pub(super) content_type: Single,
    pub(super) expect: Single,
    pub(super) host: Single,
    pub(super) transfer_encoding: Single,
}

impl Facts {
    /// Whether `known` says something about framing or the connection.
    #[inline]
    pub(super) fn note(&mut self, known: Known, value: Span) -> bool {
        match known {
            Known::Connection => self.connection.saw(value),
            Known::ContentLength => self.content_length.saw(value),
            Known::ContentType => self.content_type.saw(value),
            Known::Expect => self.expect.saw(value),
            Known::Host => self.host.saw(value),
            Known::TransferEncoding => self.transfer_encoding.saw(value),
            _ => return false,
        }
        true
    }
}

/// Turns the parser's fields into spans. `head` is the whole head with its empty line.
///
/// # Errors
/// A line that ends with a bare LF (httparse accepts it), or a name that folds into a critical one.
pub(super) fn collect(
    head: &[u8],
    parsed: &[httparse::Header<'_>],
    fields: &mut Fields,
) -> Result<Facts, &'static str> {
    let mut facts = Facts::default();
    fields.reserve(parsed.len());
    for header in parsed {
        let name = header.name.as_bytes();
        let name_span = Span::within(head, name);
        let line_start = name_span.start as usize;
        // Neither names nor values can hold CR or LF, so a head whose lines all begin after CRLF has no
        // bare LF at all.
        if !head.get(..line_start).is_some_and(|before| before.ends_with(b"\r\n")) {
            return Err(BARE_LF);
        }
        let value = Span::within(head, header.value);
        let known = classify(name);
        if !facts.note(known, value) && disguised(name, known) {
            return Err("A field name with an underscore stands for another field; use hyphens.");
        }
        fields.push(Field { name: name_span, value, known });
    }
    if head.ends_with(b"\r\n\r\n") { Ok(facts) } else { Err(BARE_LF) }
}

/// How the body is delimited, before method and status have a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    Chunked,
    Length(u64),
    Nothing,
}

/// Content-Length and Transfer-Encoding (RFC 9112 section 6), refusing all that has two readings.
pub(super) fn declared(head: &[u8], facts: &Facts, http10: bool) -> Result<Declared, &'static str> {
    match (facts.content_length, facts.transfer_encoding) {
        (Single::Missing, Single::Missing) => Ok(Declared::Nothing),
        (Single::Twice, _) => Err("Content-Length stands there twice; send it once."),
        (_, Single::Twice) => Err("Transfer-Encoding stands there twice; send it once."),
        (Single::One(_), Single::One(_)) => {
            Err("Content-Length and Transfer-Encoding exclude each other; send one.")
        }
        (Single::One(value), Single::Missing) => length(value.of(head))
            .map(Declared::Length)
            .ok_or("Content-Length is no plain decimal number of at most 19 digits."),
        (Single::Missing, Single::One(_)) if http10 => Err("HTTP/1.0 has no Transfer-Encoding."),
        (Single::Missing, Single::One(value)) if value.of(head).eq_ignore_ascii_case(b"chunked") => {
            Ok(Declared::Chunked)
        }
        (Single::Missing, Single::One(_)) => Err("Transfer-Encoding may only be `chunked`."),
    }
}

/// `[0-9]{1,19}`: every such number fits 64 bits, so nothing can wrap.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        byte.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')))
    })
}

/// Whether Connection asks to close. Most heads say `keep-alive` or nothing, and are spared the list.
pub(super) fn closes(head: &[u8], facts: &Facts, fields: &Fields) -> Result<bool, &'static str> {
    match facts.connection {
        Single::Missing => Ok(false),
        Single::One(value) if value.of(head).eq_ignore_ascii_case(b"keep-alive") => Ok(false),
        Single::One(value) if value.of(head).eq_ignore_ascii_case(b"close") => Ok(true),
        Single::One(_) | Single::Twice => {
            let options = connection_options(head, fields);
            options.check().map(|()| options.close)
        }
    }
}
