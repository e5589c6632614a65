//! Heads as nearly all are written: lines of visible ASCII and spaces that end with CRLF, known names or plain tokens, no
//! empty value. They are read here in one pass, eight bytes at a time.
//!
//! Whatever is not so plain, wrong or unfinished is none of this file's, and left to httparse and the rules behind it: what is
//! accepted here is accepted there with the same spans, which `fuzz` compares wherever it cuts a head in two.
//!
//! Not here: what fields mean together. May not know: whose head it is.

use crate::base::words;
use crate::base::words::HIGHS;
use crate::http::fields::Field;
use crate::http::fields::Fields;
use crate::http::fields::Known;
use crate::http::fields::Span;
use crate::http::fields::classify;
use crate::http::fields::is_plain;
use crate::http::head::Facts;

/// The parts of a request line, which ends at `len`.
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a [u8],
    pub(super) len: usize,
}

/// `METHOD /target HTTP/1.1` at the start of `head`, with capitals in the method and the bytes of a plain path in the target.
pub(super) fn request_line(head: &[u8]) -> Option<RequestLine<'_>> {
    let end = line(head)?.end;
    let words = head[..end].strip_suffix(b" HTTP/1.1")?;
    let space = words.iter().position(|byte| *byte == b' ')?;
    let (method, target) = (&words[..space], &words[space + 1..]);
    let is_method = !method.is_empty() && method.iter().all(u8::is_ascii_uppercase);
    let is_path = |byte: &u8| byte.is_ascii_alphanumeric() | matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~');
    if !is_method || target.is_empty() || !target.iter().fold(true, |plain, byte| plain & is_path(byte)) {
        return None;
    }
    Some(RequestLine { method: str::from_utf8(method).ok()?, target, len: end + 2 })
}

/// Status of `HTTP/1.1 NNN …` at the start of `head`, and where the line ends.
pub(super) fn status_line(head: &[u8]) -> Option<(u16, usize)> {
    let end = line(head)?.end;
    let status = head[..end].strip_prefix(b"HTTP/1.1 ")?;
    let (digits, reason) = status.split_first_chunk::<3>()?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(reason.first(), None | Some(b' ')) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    Some((code, end + 2))
}

/// Appends the field lines of `head` from `at` on, at most `most`; what they say, and where the head ends.
pub(super) fn field_lines(
    head: &[u8],
    mut at: usize,
    most: usize,
    fields: &mut Fields,
) -> Option<(Facts, usize)> {
    let mut facts = Facts::default();
    for _ in 0..=most {
        let rest = head.get(at..)?;
        let line = line(rest)?;
        if line.end == 0 {
            return Some((facts, at + 2));
        }
        let field = field(rest, &line, at)?;
        facts.note(field.known, field.value);
        fields.push(field);
        at += line.end + 2;
    }
    // One line too many.
    None
}

/// The line at the start of `rest`, which is at `start` of its head.
fn field(rest: &[u8], line: &Line, start: usize) -> Option<Field> {
    let name = rest.get(..line.colon)?;
    let known = classify(name);
    // The other names are those that they are compared with, letter by letter.
    let is_by_prefix = matches!(
        known,
        Known::Forwarded
            | Known::Internal
            | Known::McpOther
            | Known::McpParam
            | Known::Other
            | Known::ProxyOther
    );
    if name.is_empty() || is_by_prefix && !is_plain(name) {
        return None;
    }
    // Nothing where the line has no colon.
    let value = rest.get(line.colon + 1..line.end)?;
    let before = value.iter().position(|byte| *byte != b' ')?;
    let behind = value.iter().rev().position(|byte| *byte != b' ')?;
    let span = |from: usize, to: usize| Span { start: place(start + from), end: place(start + to) };
    Some(Field { name: span(0, line.colon), value: span(line.colon + 1 + before, line.end - behind), known })
}

#[expect(clippy::cast_possible_truncation, reason = "heads end far below 4 GiB: `HeadLimits` bounds them")]
const fn place(at: usize) -> u32 {
    at as u32
}

/// A line of visible ASCII and spaces up to a CRLF.
struct Line {
    /// Of its first colon; its end where it has none.
    colon: usize,
    end: usize,
}

/// The line at the start of `rest`.
fn line(rest: &[u8]) -> Option<Line> {
    let mut at = 0;
    let mut bytes = word(rest);
    let mut found = colons(bytes) | others(bytes);
    while found == 0 {
        at += 8;
        bytes = word(rest.get(at..)?);
        found = colons(bytes) | others(bytes);
    }
    let colon = at + words::first(found);
    found = others(bytes);
    while found == 0 {
        at += 8;
        found = others(word(rest.get(at..)?));
    }
    let end = at + words::first(found);
    (rest.get(end..end + 2)? == b"\r\n").then_some(Line { colon, end })
}

/// The first eight bytes, the first of them lowest; zeros for those that are missing.
fn word(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk() {
        return u64::from_le_bytes(*whole);
    }
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}

fn colons(word: u64) -> u64 {
    words::equal(word, b':') & HIGHS
}

/// Bytes that are neither visible ASCII nor a space.
fn others(word: u64) -> u64 {
    let delete = word.wrapping_add(words::each(1));
    (words::below(word, b' ') | delete | word) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(bytes: &[u8]) -> Option<(usize, usize)> {
        line(bytes).map(|line| (line.colon, line.end))
    }

    #[test]
    fn every_byte_is_seen_wherever_it_stands() {
        for place in 0..20 {
            for byte in 0..=u8::MAX {
                let mut bytes = b"aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\nbody".to_vec();
                bytes[place] = byte;
                let colon = if byte == b':' { place } else { 28 };
                let expected = matches!(byte, b' '..=b'~').then_some((colon, 28));
                assert_eq!(ends(&bytes), expected, "{byte:#x} at {place}");
                bytes[place + 1] = 0xff;
                assert_eq!(ends(&bytes), None, "{byte:#x} at {place}, then another");
            }
        }
    }

    #[test]
    fn a_line_ends_with_both_of_its_bytes_and_nothing_after_them_counts() {
        for (head, expected) in [
            (&b"\r\n"[..], Some((0, 0))),
            (b"a\r\n", Some((1, 1))),
            (b"a:\r\n", Some((1, 2))),
            (b"a:b:c\r\n", Some((1, 5))),
            (b"a\r\n:", Some((1, 1))),
            (b"1234567\r\n", Some((7, 7))),
            (b"12345678\r\n", Some((8, 8))),
            (b"1234567:9\r\n", Some((7, 9))),
            (b"1234567\r\n\xff\0", Some((7, 7))),
            (b"", None),
            (b"a", None),
            (b"a\r", None),
            (b"12345678", None),
            (b"1234567\r", None),
            (b"a\n", None),
            (b"a\ra\r\n", None),
        ] {
            assert_eq!(ends(head), expected, "{head:?}");
        }
    }

    /// Names and values as text, of a whole head.
    fn read(head: &str) -> Option<Vec<(&str, &str)>> {
        let head = head.as_bytes();
        let line =
            request_line(head).map(|line| line.len).or_else(|| status_line(head).map(|line| line.1))?;
        let mut fields = Fields::default();
        let (_, len) = field_lines(head, line, 4, &mut fields)?;
        assert!(head[..len].ends_with(b"\r\n\r\n"));
        let text = |span: Span| str::from_utf8(span.of(head)).unwrap();
        Some(fields.iter().map(|field| (text(field.name), text(field.value))).collect())
    }

    #[test]
    fn what_clients_and_servers_write_is_plain() {
        let head = "POST /mcp/time HTTP/1.1\r\nHost: gateway.example:8080\r\nMcp-Param-Zone-1:Europe/Berlin\r\n\
                    x-own:  two  words  \r\nAccept: a, b;q=\"1\"\r\n\r\n{}";
        let fields = [
            ("Host", "gateway.example:8080"),
            ("Mcp-Param-Zone-1", "Europe/Berlin"),
            ("x-own", "two  words"),
            ("Accept", "a, b;q=\"1\""),
        ];
        assert_eq!(read(head).unwrap(), fields);
        for line in ["HTTP/1.1 200 OK", "HTTP/1.1 404", "HTTP/1.1 503 ", "GET / HTTP/1.1"] {
            assert_eq!(read(&format!("{line}\r\n\r\n")), Some(vec![]), "{line}");
        }
    }

    /// Good or bad, none of these is decided here.
    #[test]
    fn the_rest_is_left_to_the_parser() {
        for line in [
            "POST /a?b HTTP/1.1",
            "POST  /a HTTP/1.1",
            "POST /a HTTP/1.0",
            "post /a HTTP/1.1",
            " /a HTTP/1.1",
            "POST HTTP/1.1",
            "POST /a\tHTTP/1.1",
            "POST http://h/a HTTP/1.1",
            "HTTP/1.0 200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1  200 OK",
        ] {
            assert_eq!(read(&format!("{line}\r\nHost: a\r\n\r\n")), None, "{line}");
        }
        for field in [
            "",
            "a",
            "a : b",
            " a: b",
            ": b",
            "a:",
            "a: ",
            "a_b: c",
            "a.b: c",
            "a: \tb",
            "a: \u{e9}",
            "a\0: b",
            "a: b\x7f",
            "a: b\r",
            "a: b\nc: d",
            "host : a",
            "a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\ne: 5",
        ] {
            let whole = format!("GET / HTTP/1.1\r\n{field}\r\n\r\n");
            assert_eq!(read(&whole), if field.is_empty() { Some(vec![]) } else { None }, "{field:?}");
        }
        let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), None, "{cut}");
        }
    }
}
