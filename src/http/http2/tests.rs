//! Heads that pass and heads that do not.
//!
//! Not here: what the crate `h2` refuses before (tests/exchange/http2_malformed.rs).

use super::*;
use crate::http::fields::Fields;
use crate::http::request::HeadLimits;
use crate::http::request::HeadScan;
use crate::http::response::parse_response;
use http::Request;
use proptest::prelude::*;

fn parts(method: &str, uri: &str, fields: &[(&str, &[u8])]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
    }
    request.body(()).unwrap().into_parts().0
}

fn written(head: &Parts, ends: bool) -> Result<(String, BodyForm), Malformed> {
    let mut out = Vec::new();
    let form = write_request(&mut out, head, ends)?;
    Ok((String::from_utf8(out).unwrap(), form.body))
}

#[test]
fn a_preface_is_known_by_every_first_part_of_it() {
    for length in 0..PREFACE.len() {
        assert_eq!(preface(&PREFACE[..length]), Preface::Partial, "{length}");
    }
    assert_eq!(preface(&[PREFACE, b"x"].concat()), Preface::Whole);
    for other in ["POST", "PRI * HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "GET /"] {
        assert_eq!(preface(other.as_bytes()), Preface::No, "{other}");
    }
}

#[test]
fn a_head_becomes_what_our_own_parser_reads() {
    let uri = "http://gw.example:8080/mcp/a?b=c";
    let fields: &[(&str, &[u8])] =
        &[("te", b"trailers"), ("host", b"GW.example:8080"), ("x-a", b"1"), ("x-a", b"\xff 2"), ("x-b", b"")];
    let head = parts("POST", uri, fields);
    for (ends, line, body) in
        [(true, "", BodyForm::None), (false, "Transfer-Encoding: chunked\r\n", BodyForm::Chunked)]
    {
        let mut out = Vec::new();
        assert_eq!(write_request(&mut out, &head, ends).unwrap().body, body);
        let wanted = format!(
            "POST /mcp/a?b=c HTTP/1.1\r\nHost: gw.example:8080\r\nx-a: 1\r\nx-a: ? 2\r\nx-b: \r\n{line}\r\n"
        );
        assert_eq!(String::from_utf8_lossy(&out).replace('\u{fffd}', "?"), wanted);
        let limits = HeadLimits { head_bytes: 4096, target_bytes: 1024, fields: 16 };
        let mut found = Fields::default();
        let read = crate::http::request::parse_request(&out, &mut HeadScan::default(), limits, &mut found);
        assert_eq!(read.unwrap().unwrap().len as usize, out.len());
    }
}

#[test]
fn lengths() {
    let with =
        |length: &[u8], ends| written(&parts("POST", "http://a/b", &[("content-length", length)]), ends);
    assert_eq!(with(b"12", false).unwrap().1, BodyForm::Length(12));
    assert_eq!(with(b"0", true).unwrap().1, BodyForm::Length(0));
    assert!(with(b"12", true).is_err());
    for wrong in ["+1", "-1", "1 2", "", "0x1", "18446744073709551616", "1,1"] {
        assert!(with(wrong.as_bytes(), false).is_err(), "{wrong}");
    }
    let twice = parts("POST", "http://a/b", &[("content-length", b"1"), ("content-length", b"1")]);
    assert_eq!(written(&twice, false), Err(Malformed("two content-lengths")));
}

/// Method, target, fields.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static [u8])]);

#[test]
fn malformed_heads() {
    let table: &[Row] = &[
        ("CONNECT", "gw.example:80", &[]),
        ("OPTIONS", "*", &[("host", b"a")]),
        ("POST", "ftp://a/b", &[]),
        ("POST", "http://user@a/b", &[]),
        ("POST", "http://a/b", &[("host", b"c")]),
        ("POST", "http://a/b", &[("host", b"a"), ("host", b"a")]),
        ("POST", "/b", &[]),
        ("POST", "/b", &[("host", b"")]),
        ("POST", "/b", &[("host", b"a,b")]),
        ("POST", "http://a/b", &[("te", b"gzip")]),
        ("POST", "http://a/b", &[("connection", b"close")]),
        ("POST", "http://a/b", &[("transfer-encoding", b"chunked")]),
        ("POST", "http://a/b", &[("upgrade", b"h2c")]),
        ("POST", "http://a/b", &[("keep-alive", b"1")]),
        ("POST", "http://a/b", &[("proxy-connection", b"close")]),
        ("POST", "http://a/b", &[("x", b" a")]),
        ("POST", "http://a/b", &[("x", b"a\t")]),
    ];
    for (method, uri, fields) in table {
        assert!(written(&parts(method, uri, fields), true).is_err(), "{method} {uri} {fields:?}");
    }
}

/// Mostly what may stand in a value or a path, and some of what may not.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![30 => prop::sample::select(b"aZ09:/?%-_.@,;=".to_vec()), 1 => any::<u8>()];
    prop::collection::vec(byte, 0..12)
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words)
}

proptest! {
    /// Whatever passes is one head for our own parser too, with as many fields, or refused there; never two.
    #[test]
    fn a_head_that_passes_is_one_head(
        method in one_of(&["POST", "GET", "PRI", "get", "A!B", "HTTP/1.1"]),
        path in text(),
        authority in one_of(&["a", "a:1", "[::1]", "1.2.3.4:80", "A.b"]),
        fields in prop::collection::vec((one_of(&["x", "x_y", "te", "accept", "content-type"]), text()), 0..6),
        ends in any::<bool>(),
    ) {
        let path = [b"/", &*path].concat();
        let request = Request::builder().method(method).uri(path.as_slice()).header("host", authority);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, &**value));
        let request = request.body(());
        prop_assume!(request.is_ok());
        let head = request.unwrap().into_parts().0;
        let mut out = Vec::new();
        let form = write_request(&mut out, &head, ends);
        prop_assume!(form.is_ok());
        let limits = HeadLimits { head_bytes: 4096, target_bytes: 1024, fields: 16 };
        let mut found = Fields::default();
        let read = crate::http::request::parse_request(&out, &mut HeadScan::default(), limits, &mut found);
        if let Ok(read) = read {
            prop_assert_eq!(read.map(|read| read.len as usize), Some(out.len()));
            let framing = usize::from(form.unwrap().body == BodyForm::Chunked);
            let te = head.headers.get_all("te").iter().count();
            prop_assert_eq!(found.len() + te, head.headers.len() + framing);
        }
    }
}

#[test]
fn chunks() {
    let mut out = Vec::new();
    write_chunk(&mut out, b"");
    write_chunk(&mut out, &[b'a'; 17]);
    assert_eq!(out, b"11\r\naaaaaaaaaaaaaaaaa\r\n");
}

#[test]
fn an_answer_leaves_the_fields_of_the_connection_behind() {
    let source = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nConnection: close\r\nServer-Timing: gw;dur=1\r\n\r\n";
    let limits = HeadLimits { head_bytes: 4096, target_bytes: 0, fields: 16 };
    let mut fields = Fields::default();
    let head = parse_response(source, &mut HeadScan::default(), limits, false, &mut fields).unwrap().unwrap();
    let answer = response(&head, source, &fields).unwrap();
    let mut names: Vec<&str> = answer.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!((answer.status().as_u16(), names), (404, vec!["content-length", "server-timing"]));
}
