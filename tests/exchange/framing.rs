//! Requests whose framing or syntax is not HTTP/1.1 as RFC 9112 has it: refused, closed, never repaired,
//! and the upstream sees no byte of them.
//!
//! Not here: what must work (connection) and sizes (limits).

use crate::lab::Row;
use crate::lab::refuse;

const BAD: &[u16] = &[400];
const BAD_OR_UNKNOWN: &[u16] = &[400, 501];

/// RFC 9112 section 6.1: one field, the coding `chunked`, alone. A smuggled request follows the body
/// that a lenient reader would see.
#[test]
fn transfer_encoding_is_chunked_or_refused() {
    let rows = &[
        Row("space before the colon", b"Transfer-Encoding : chunked", BAD),
        Row("tab before the colon", b"Transfer-Encoding\t: chunked", BAD),
        Row("vertical tab", b"Transfer-Encoding: \x0bchunked", BAD),
        Row("form feed", b"Transfer-Encoding: chunked\x0c", BAD),
        Row("NUL", b"Transfer-Encoding: chunked\x00", BAD),
        Row("quoted", b"Transfer-Encoding: \"chunked\"", BAD_OR_UNKNOWN),
        Row("identity", b"Transfer-Encoding: identity", BAD_OR_UNKNOWN),
        Row("unknown", b"Transfer-Encoding: xchunked", BAD_OR_UNKNOWN),
        Row("gzip alone", b"Transfer-Encoding: gzip", BAD_OR_UNKNOWN),
        Row("chunked not last", b"Transfer-Encoding: chunked, gzip", BAD_OR_UNKNOWN),
        Row("chunked twice", b"Transfer-Encoding: chunked, chunked", BAD_OR_UNKNOWN),
        Row("gzip, chunked", b"Transfer-Encoding: gzip, chunked", BAD_OR_UNKNOWN),
        Row("two fields", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", BAD_OR_UNKNOWN),
        Row("two equal fields", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", BAD),
        Row("empty", b"Transfer-Encoding:", BAD),
        Row("leading comma", b"Transfer-Encoding: ,chunked", BAD),
        Row("parameter", b"Transfer-Encoding: chunked;q=1", BAD_OR_UNKNOWN),
        Row("folded", b"Transfer-Encoding:\r\n chunked", BAD),
        Row("begins with a space", b" Transfer-Encoding: chunked", BAD),
        Row("after a bare CR", b"Foo: bar\rTransfer-Encoding: chunked", BAD),
        Row("after a bare LF", b"Foo: bar\nTransfer-Encoding: chunked", BAD),
        Row("with a length", b"Content-Length: 5\r\nTransfer-Encoding: chunked", BAD),
        Row("before a length", b"Transfer-Encoding: chunked\r\nContent-Length: 5", BAD),
    ];
    refuse(rows, |parts, field| {
        let body = [b"0\r\n\r\n".as_slice(), &parts.hidden].concat();
        parts.good.clone().without_length().field(field).body(body).bytes()
    });
}

#[test]
fn http_1_0_knows_no_chunks() {
    refuse(&[Row("chunked in 1.0", b"", BAD)], |parts, _| {
        let raw = parts.good.clone().chunked();
        raw.line("POST /mcp/up HTTP/1.0").bytes()
    });
}

/// RFC 9112 section 6.2. NN is the length of a whole request that follows the head.
#[test]
fn content_length_is_one_number_or_refused() {
    let rows = &[
        Row("two that differ", b"Content-Length: 0\r\nContent-Length: NN", BAD),
        Row("two equal", b"Content-Length: NN\r\nContent-Length: NN", BAD),
        Row("list that differs", b"Content-Length: 0, NN", BAD),
        Row("equal list", b"Content-Length: NN, NN", BAD),
        Row("plus", b"Content-Length: +NN", BAD),
        Row("minus", b"Content-Length: -1", BAD),
        Row("hexadecimal", b"Content-Length: 0x10", BAD),
        Row("underscore", b"Content-Length: 1_0", BAD),
        Row("inner space", b"Content-Length: 0 0", BAD),
        Row("decimal point", b"Content-Length: 0.0", BAD),
        Row("empty", b"Content-Length:", BAD),
        Row("2^64", b"Content-Length: 18446744073709551616", &[400, 413]),
        Row("2^64+1", b"Content-Length: 18446744073709551617", &[400, 413]),
        Row("space before the colon", b"Content-Length : NN", BAD),
        Row("NUL", b"Content-Length: 0\x00", BAD),
    ];
    refuse(rows, |parts, field| {
        let length = parts.hidden.len().to_string();
        let field = String::from_utf8_lossy(field).replace("NN", &length);
        parts.good.clone().without_length().field(field).body(parts.hidden.clone()).bytes()
    });
}

/// RFC 9112 section 7.1. SIZE and BODY stand for what is right.
#[test]
fn chunks_are_exact_or_refused() {
    let rows = &[
        Row("0x", b"0xSIZE\r\nBODY\r\n0\r\n\r\n", BAD),
        Row("plus", b"+SIZE\r\nBODY\r\n0\r\n\r\n", BAD),
        Row("minus", b"-1\r\nBODY\r\n0\r\n\r\n", BAD),
        Row("underscore", b"0_SIZE\r\nBODY\r\n0\r\n\r\n", BAD),
        Row("no size", b"\r\nBODY\r\n0\r\n\r\n", BAD),
        Row("wraps in 64 bits", b"1000000000000000SIZE\r\nBODY\r\n0\r\n\r\n", &[400, 413]),
        Row("leading space", b" SIZE\r\nBODY\r\n0\r\n\r\n", BAD),
        Row("bare LF after the size", b"SIZE\nBODY\r\n0\r\n\r\n", BAD),
        Row("bare LF in an extension", b"SIZE;x\nBODY\r\n0\r\n\r\n", BAD),
        Row("bare CR in an extension", b"SIZE;x\ry\r\nBODY\r\n0\r\n\r\n", BAD),
        Row("NUL in an extension", b"SIZE;x\x00\r\nBODY\r\n0\r\n\r\n", BAD),
        Row("more data than said", b"SIZE\r\nBODYX\r\n0\r\n\r\n", BAD),
        Row("LF after the data", b"SIZE\r\nBODY\n0\r\n\r\n", BAD),
        Row("no CRLF after the data", b"SIZE\r\nBODYXX0\r\n\r\n", BAD),
        Row("end with bare LF", b"SIZE\r\nBODY\r\n0\n\n", BAD),
        Row("folded trailer", b"SIZE\r\nBODY\r\n0\r\nA: b\r\n c\r\n\r\n", BAD),
        Row("NUL in a trailer", b"SIZE\r\nBODY\r\n0\r\nA: b\x00\r\n\r\n", BAD),
        Row("framing in a trailer", b"SIZE\r\nBODY\r\n0\r\nContent-Length: 5\r\n\r\n", BAD),
        Row("coding in a trailer", b"SIZE\r\nBODY\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", BAD),
        Row("host in a trailer", b"SIZE\r\nBODY\r\n0\r\nHost: evil.example\r\n\r\n", BAD),
    ];
    refuse(rows, |parts, wire| {
        let wire = String::from_utf8_lossy(wire).replace("SIZE", &format!("{:x}", parts.body().len()));
        let wire = wire.replace("BODY", &String::from_utf8_lossy(&parts.body()));
        parts.good.clone().without_length().field("Transfer-Encoding: chunked").body(wire).bytes()
    });
}

#[test]
fn the_request_line_is_exact_or_refused() {
    const VERSION: &[u16] = &[505, 400];
    let rows = &[
        Row("two spaces", b"POST  /mcp/up HTTP/1.1", BAD),
        Row("tabs", b"POST\t/mcp/up\tHTTP/1.1", BAD),
        Row("leading space", b" POST /mcp/up HTTP/1.1", BAD),
        Row("trailing space", b"POST /mcp/up HTTP/1.1 ", BAD),
        Row("2.0", b"POST /mcp/up HTTP/2.0", VERSION),
        Row("1.2", b"POST /mcp/up HTTP/1.2", VERSION),
        Row("9.9", b"POST /mcp/up HTTP/9.9", VERSION),
        Row("1.10", b"POST /mcp/up HTTP/1.10", VERSION),
        Row("lower-case version", b"POST /mcp/up http/1.1", VERSION),
        Row("no version", b"POST /mcp/up", &[400, 505, 0]),
        Row("method no token", b"PO(ST /mcp/up HTTP/1.1", &[400, 405, 501]),
        Row("lower-case method", b"post /mcp/up HTTP/1.1", &[400, 405, 501]),
        Row("NUL in the target", b"POST /mcp/up\x00a HTTP/1.1", BAD),
        Row("space in the target", b"POST /mcp/up x HTTP/1.1", BAD),
        Row("0xff in the target", b"POST /mcp/up\xff HTTP/1.1", &[400, 404]),
        Row("bare CR before the end", b"POST /mcp/up HTTP/1.1\r", BAD),
    ];
    refuse(rows, |parts, line| parts.good.clone().line(line).bytes());
    refuse(&[Row("bare LF everywhere", b"", BAD)], |parts, _| {
        parts.good.clone().bytes().into_iter().filter(|&byte| byte != b'\r').collect()
    });
}

#[test]
fn fields_are_exact_or_refused() {
    let rows = &[
        Row("space before the colon", b"X-Foo : bar", BAD),
        Row("no colon", b"X-Foo bar", BAD),
        Row("no name", b": bar", BAD),
        Row("name no token", b"X(Foo): bar", BAD),
        Row("name not ASCII", b"X-\xefoo: bar", BAD),
        Row("NUL", b"X-Foo: a\x00b", BAD),
        Row("bare CR", b"X-Foo: a\rb", BAD),
        Row("bare LF", b"X-Foo: a\nX-Bar: b", BAD),
        Row("LF CR", b"X-Foo: a\n\rX-Bar: b", BAD),
        Row("control character", b"X-Foo: a\x01b", BAD),
        Row("DEL", b"X-Foo: a\x7fb", BAD),
        Row("folded", b"X-Foo: a\r\n b", BAD),
        Row("Expect of something else", b"Expect: 200-maybe", &[417, 400]),
    ];
    refuse(rows, |parts, field| parts.good.clone().field(field).bytes());
    refuse(&[Row("space before the first field", b"", BAD)], |parts, _| {
        let line = parts.good.line.clone();
        parts.good.clone().line([line, b"\r\n X: y".into()].concat()).bytes()
    });
}

/// RFC 9112 section 3.2 and CVE-2026-48710: a Host that two readers may read differently.
#[test]
fn host_is_one_authority_or_refused() {
    const HOST: &[u16] = &[400, 403, 421];
    let rows = &[
        Row("none", b"", BAD),
        Row("two equal", b"Host: OWN\r\nHost: OWN", BAD),
        Row("two that differ", b"Host: OWN\r\nHost: evil.example", BAD),
        Row("empty", b"Host:", HOST),
        Row("path", b"Host: a/b", HOST),
        Row("user", b"Host: u@OWN", HOST),
        Row("port out of range", b"Host: a:99999", HOST),
        Row("list", b"Host: OWN, evil.example", HOST),
        Row("space", b"Host: a b", HOST),
    ];
    refuse(rows, |parts, field| {
        let field = String::from_utf8_lossy(field).replace("OWN", &parts.host);
        let raw = parts.good.clone().without("host");
        if field.is_empty() { raw.bytes() } else { raw.field(field).bytes() }
    });
    refuse(&[Row("absolute form that differs", b"", &[400, 403, 404, 421])], |parts, _| {
        parts.good.clone().line("POST http://evil.example/mcp/up HTTP/1.1").bytes()
    });
}

#[test]
fn other_protocols_are_turned_away() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n\0\0\0\0\0\0\0\0\0";
    const HELLO: &[u8] =
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let rows = &[
        Row("TLS", HELLO, &[400, 0]),
        Row("nearly the preface of HTTP/2", PREFACE, &[400, 405, 505, 0]),
        Row(
            "CONNECT",
            b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
            &[405, 501, 400, 403, 404],
        ),
    ];
    refuse(rows, |_, bytes| bytes.to_vec());
    refuse(&[Row("garbage", b"", &[400, 405, 501, 505, 0])], |_, _| (0..=255).cycle().take(2048).collect());
    refuse(&[Row("empty lines", b"", &[400, 408, 413, 414, 431, 0])], |_, _| b"\r\n".repeat(200_000));
}
