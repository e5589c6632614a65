//! Heads as bytes: what is kept, what is dropped, what is ours.

use super::*;
use crate::http::request::HeadLimits;
use crate::http::request::HeadScan;
use crate::http::request::parse_request;
use crate::http::response::parse_response;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 32 * 1024, target_bytes: 8 * 1024, fields: 128 };

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What goes upstream for a call with these field lines.
fn sent(lines: &str) -> String {
    let source =
        format!("POST /mcp/files?a=b HTTP/1.1\r\nHost: gateway.test\r\n{lines}\r\n\r\n").into_bytes();
    let mut fields = Fields::default();
    let head = parse_request(&source, &mut HeadScan::default(), LIMITS, &mut fields).unwrap().unwrap();
    let options = connection_options(&source, &fields);
    let kept = fields.iter().filter(|field| !drops_upstream(field) && !options.names(&source, field));
    let line = RequestLine {
        method: head.method_text.of(&source),
        target: b"/mcp",
        authority: b"files.internal:9000",
    };
    let mut out = Vec::new();
    let ours: [(&[u8], &[u8]); 1] = [(b"Authorization", b"Bearer secret")];
    request_head(&mut out, line, &source, kept, ours.into_iter(), Some(42));
    text(&out).to_owned()
}

fn framed(kept: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: files.internal:9000\r\n{kept}Authorization: Bearer secret\r\nContent-Length: 42\r\n\r\n"
    )
}

#[test]
fn kept_fields_are_copied_byte_for_byte() {
    let lines =
        "Accept:application/json,\ttext/event-stream\r\nMcp-Name:  \u{e9}cho\r\nX-Empty:\r\nx-ODD:\t a  b";
    assert_eq!(sent(lines), framed(&format!("{lines}\r\n")));
    // Whitespace at the end of a line is no part of the value.
    assert_eq!(sent("A: b \t\r\nC: d\r\nE: \r\nF: g"), framed("A: b\r\nC: d\r\nE: \r\nF: g\r\n"));
}

#[test]
fn what_is_not_for_the_server_is_dropped() {
    for line in [
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: x",
        "Proxy-Authorization: Basic c2VjcmV0",
        "Proxy-Anything: x",
        "TE: trailers",
        "Trailer: X-Sum",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMA",
        "Transfer-Encoding: chunked",
        "Content-Length: 7",
        "Expect: 100-continue",
        "Authorization: Bearer theirs",
        "X-API-Key: theirs",
        "Cookie: a=b",
        "Accept-Encoding: gzip",
        "Forwarded: for=127.0.0.1",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Whatever: x",
        "X-Real-IP: 127.0.0.1",
        "Ringgate-Child: abc",
        "Connection: close, X-Hop\r\nX-Hop: 1",
        "x-hop: 1\r\nConnection: X-HOP\r\nX-Hop: 2",
    ] {
        assert_eq!(sent(&format!("A: b\r\n{line}\r\nC: d")), framed("A: b\r\nC: d\r\n"), "{line}");
    }
    let kept =
        "Content-Type: application/json\r\nOrigin: http://a\r\nMcp-Session-Id: s\r\nTraceparent: t\r\n";
    assert_eq!(sent(kept.trim_end()), framed(kept));
}

#[test]
fn only_lines_that_stand_side_by_side_are_one_copy() {
    let source = b"A: b; C: d";
    let field = |start| Field {
        name: Span { start, end: start + 1 },
        value: Span { start: start + 3, end: start + 4 },
        known: Known::Other,
    };
    let mut out = Vec::new();
    copy_fields(&mut out, source, [field(0), field(6), field(6), field(900)].iter());
    assert_eq!(text(&out), "A: b\r\nC: d\r\nC: d\r\n");
}

#[test]
fn a_request_without_a_body_has_no_length() {
    let mut out = Vec::new();
    let line = RequestLine { method: b"GET", target: b"/", authority: b"a" };
    request_head(&mut out, line, b"", [].iter(), std::iter::empty(), None);
    assert_eq!(text(&out), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

fn answered(source: &str, head: AnswerHead, own_nanos: Option<u64>) -> String {
    let mut fields = Fields::default();
    let source = source.as_bytes();
    parse_response(source, &mut HeadScan::default(), LIMITS, false, &mut fields).unwrap().unwrap();
    let mut out = Vec::new();
    answer_head(
        &mut out,
        head,
        source,
        fields.iter().filter(|field| !drops_downstream(field)),
        Own { lines: b"", nanos: own_nanos },
    );
    text(&out).to_owned()
}

const NEW: AnswerHead =
    AnswerHead { status: 200, body: BodyForm::Length(5), close: false, version: Version::Http11 };

#[test]
fn answers_keep_fields_and_lose_hops() {
    let source = "HTTP/1.1 200 Whatever\r\nContent-Type: application/json\r\nSet-Cookie: a\r\nAlt-Svc: b\r\n\
        Endpoint-Load-Metrics: TEXT cpu=1\r\nendpoint-load-metrics-bin: x\r\nConnection: keep-alive\r\n\
        Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nTrailer: X\r\nUpgrade: h2c\r\n\
        Ringgate-Load: 1\r\nMcp-Session-Id: s\r\nContent-Length: 5\r\n\r\n";
    let expected = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: s\r\n\
        Server-Timing: ringgate;dur=1.234\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(answered(source, NEW, Some(1_234_567)), expected);
}

#[test]
fn answers_are_framed_for_the_client_that_asked() {
    let source = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    let old = Version::Http10;
    for (head, line, rest) in [
        (AnswerHead { body: BodyForm::Chunked, ..NEW }, "200 OK", "Transfer-Encoding: chunked\r\n"),
        (AnswerHead { close: true, ..NEW }, "200 OK", "Content-Length: 5\r\nConnection: close\r\n"),
        (AnswerHead { version: old, ..NEW }, "200 OK", "Content-Length: 5\r\nConnection: close\r\n"),
        (AnswerHead { version: old, body: BodyForm::Chunked, ..NEW }, "200 OK", "Connection: close\r\n"),
        (AnswerHead { body: BodyForm::UntilClose, ..NEW }, "200 OK", "Connection: close\r\n"),
        (AnswerHead { status: 204, body: BodyForm::None, ..NEW }, "204 No Content", ""),
        (
            AnswerHead { status: 202, body: BodyForm::Length(0), ..NEW },
            "202 Accepted",
            "Content-Length: 0\r\n",
        ),
        (AnswerHead { status: 299, ..NEW }, "299 Other", "Content-Length: 5\r\n"),
    ] {
        assert_eq!(
            answered(source, head, None),
            format!("HTTP/1.1 {line}\r\nA: b\r\n{rest}\r\n"),
            "{head:?}"
        );
    }
}

#[test]
fn an_answer_is_never_chunked_to_http_1_0() {
    for (framing, version, form) in [
        (AnswerFraming::None, Version::Http10, BodyForm::None),
        (AnswerFraming::Length(3), Version::Http10, BodyForm::Length(3)),
        (AnswerFraming::Chunked, Version::Http10, BodyForm::UntilClose),
        (AnswerFraming::UntilClose, Version::Http10, BodyForm::UntilClose),
        (AnswerFraming::Chunked, Version::Http11, BodyForm::Chunked),
        (AnswerFraming::UntilClose, Version::Http11, BodyForm::Chunked),
    ] {
        assert_eq!(BodyForm::relaying(framing, version), form);
    }
}

#[test]
fn own_time_is_written_in_integers() {
    for (nanos, shown) in [
        (0, "0.000"),
        (999, "0.000"),
        (1_000, "0.001"),
        (45_678, "0.045"),
        (1_000_000, "1.000"),
        (123_456_789, "123.456"),
        (u64::MAX, "18446744073709.551"),
    ] {
        let mut out = Vec::new();
        server_timing(&mut out, nanos);
        assert_eq!(text(&out), format!("Server-Timing: ringgate;dur={shown}\r\n"));
    }
}

#[test]
fn chunk_sizes_stand_right_before_the_payload() {
    for len in [1, 9, 10, 15, 16, 255, 256, 65_536, usize::MAX] {
        let mut out = [b'?'; 18];
        let used = chunk_prefix(&mut out, len);
        let expected = format!("{len:x}\r\n");
        assert_eq!(text(&out[18 - used..]), expected);
        assert!(out[..18 - used].iter().all(|byte| *byte == b'?'));
    }
}

#[test]
fn only_whole_field_lines_are_sendable() {
    assert!(sendable(b"X-Key", b"a b\tc"));
    for (name, value) in
        [("", "a"), ("X Y", "a"), ("X", "a\r\nY: b"), ("X", "a\n"), ("X", "a\0"), ("X:", "a")]
    {
        assert!(!sendable(name.as_bytes(), value.as_bytes()), "{name:?} {value:?}");
    }
}

#[test]
fn connection_options_are_a_list() {
    let source =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: , Keep-Alive ,\tX-Hop\r\nConnection: close\r\n\r\n";
    let mut fields = Fields::default();
    parse_request(source, &mut HeadScan::default(), LIMITS, &mut fields).unwrap().unwrap();
    let options = connection_options(source, &fields);
    assert!(options.close && options.keep_alive && !options.is_plain());
    assert!(!options.names(source, &fields[0]));
    let mut first = Fields::default();
    first.push(fields[0]);
    assert!(connection_options(source, &first).is_plain());
}
