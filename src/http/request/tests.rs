//! Request heads: what must be refused and how, what must work, each bound at and one past it.

use super::*;
use crate::http::fields::Known;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 32 * 1024, target_bytes: 8 * 1024, fields: 128 };

fn parse(input: &[u8]) -> Result<Option<(RequestHead, Fields)>, Fault> {
    parse_within(input, LIMITS)
}

fn parse_within(input: &[u8], limits: HeadLimits) -> Result<Option<(RequestHead, Fields)>, Fault> {
    let mut fields = Fields::default();
    Ok(parse_request(input, &mut HeadScan::default(), limits, &mut fields)?.map(|head| (head, fields)))
}

/// A call whose head has these lines besides the request line and Host.
fn with(lines: &str) -> Vec<u8> {
    format!("POST /mcp/files HTTP/1.1\r\nHost: gateway.test:8080\r\n{lines}\r\n\r\n").into_bytes()
}

fn with_bytes(line: &[u8]) -> Vec<u8> {
    let start: &[u8] = b"POST /mcp/files HTTP/1.1\r\nHost: gateway.test:8080\r\n";
    [start, line, b"\r\n\r\n"].concat()
}

fn with_line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: gateway.test:8080\r\n\r\n").into_bytes()
}

fn with_host(lines: &str) -> Vec<u8> {
    format!("POST /mcp/files HTTP/1.1\r\n{lines}\r\n").into_bytes()
}

use Kind::Malformed;

/// Transfer-Encoding in every disguise.
fn codings() -> Vec<(Vec<u8>, Kind)> {
    let both_orders = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 0",
    ];
    let texts = [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:",
        "Transfer-Encoding: ",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked ;",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding:\r\n\tchunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\x0c",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding: chun\u{212a}ed",
    ];
    let mut all: Vec<_> = both_orders.iter().chain(&texts).map(|lines| (with(lines), Malformed)).collect();
    let old = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    all.push((old.to_vec(), Malformed));
    all
}

/// Content-Length that two parsers could read in two ways.
fn lengths() -> Vec<(Vec<u8>, Kind)> {
    let values = [
        "+5",
        "-1",
        "0x10",
        "1_0",
        "0 0",
        "0.0",
        "",
        " ",
        "5,",
        "5, 5",
        "5, 50",
        "5;",
        "5\0",
        "\u{0665}",
        "1e1",
        "18446744073709551616",
        "18446744073709551617",
        "00000000000000000005",
        "99999999999999999999",
    ];
    let mut all: Vec<_> =
        values.iter().map(|value| (with(&format!("Content-Length: {value}")), Malformed)).collect();
    let lines = [
        "Content-Length: 0\r\nContent-Length: 44",
        "Content-Length: 44\r\nContent-Length: 44",
        "Content-Length: 44\r\nX: y\r\ncontent-length: 44",
        "Content-Length : 44",
        "Content_Length: 44",
        "content_length: 44",
    ];
    all.extend(lines.iter().map(|lines| (with(lines), Malformed)));
    all
}

/// the request line.
fn request_lines() -> Vec<(Vec<u8>, Kind)> {
    use Kind::VersionUnsupported;
    let table: &[(&str, Kind)] = &[
        ("POST  /mcp/files HTTP/1.1", Malformed),
        ("POST /mcp/files  HTTP/1.1", Malformed),
        ("POST\t/mcp/files\tHTTP/1.1", Malformed),
        (" POST /mcp/files HTTP/1.1", Malformed),
        ("POST /mcp/files HTTP/1.1 ", Malformed),
        ("POST /mcp/files HTTP/1.1\t", Malformed),
        ("POST /mcp/files\0a HTTP/1.1", Malformed),
        ("POST /mcp/files x HTTP/1.1", Malformed),
        ("POST /mcp/files", Malformed),
        ("POST", Malformed),
        ("POST /mcp/files ", Malformed),
        ("POST /mcp/files HTTP/", VersionUnsupported),
        ("POST /mcp/files HTTP/2.0", VersionUnsupported),
        ("POST /mcp/files HTTP/1.2", VersionUnsupported),
        ("POST /mcp/files HTTP/9.9", VersionUnsupported),
        ("POST /mcp/files HTTP/1.10", VersionUnsupported),
        ("POST /mcp/files HTTP/1", VersionUnsupported),
        ("POST /mcp/files http/1.1", VersionUnsupported),
        ("POST /mcp/files HTTPS/1.1", Malformed),
        ("POST /mcp/files HTTP/1.1x", Malformed),
        ("PO(ST /mcp/files HTTP/1.1", Malformed),
        ("POST: /mcp/files HTTP/1.1", Malformed),
        ("POST /mcp/\u{ff} HTTP/1.1", Malformed),
        ("POST /mcp/\x7f HTTP/1.1", Malformed),
        ("POST /mcp/files#part HTTP/1.1", Malformed),
        ("POST mcp/files HTTP/1.1", Malformed),
        ("POST * HTTP/1.1", Malformed),
        ("POST ?x HTTP/1.1", Malformed),
        ("POST gateway.test:8080 HTTP/1.1", Malformed),
        ("POST ftp://gateway.test:8080/ HTTP/1.1", Malformed),
        ("POST http:/mcp/files HTTP/1.1", Malformed),
        ("POST http://gateway.test:8080 HTTP/1.1", Malformed),
        ("POST http:///mcp/files HTTP/1.1", Malformed),
        ("POST http://elsewhere.test:8080/mcp/files HTTP/1.1", Malformed),
        ("POST http://gateway.test/mcp/files HTTP/1.1", Malformed),
        ("POST http://me@gateway.test:8080/mcp/files HTTP/1.1", Malformed),
        ("CONNECT gateway.test:99999 HTTP/1.1", Malformed),
        ("CONNECT /mcp/files HTTP/1.1", Malformed),
        ("AVERYLONGMETHODTHATISLONGERTHANALL / HTTP/1.1", Malformed),
    ];
    let mut all: Vec<_> = table.iter().map(|(line, kind)| (with_line(line), *kind)).collect();
    let raw: &[&[u8]] = &[
        b"POST /mcp/\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\nHost: a\n\n",
        b"POST / HTTP/1.1\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\nHost: a\n\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\rPOST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03",
    ];
    all.extend(raw.iter().map(|bytes| (bytes.to_vec(), Malformed)));
    all.push((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), VersionUnsupported));
    all.push(((0..=255).cycle().take(2048).collect(), Malformed));
    all.push((b"\r\n".repeat(200_000), Malformed));
    all
}

/// field lines, Host, Expect; what Connection may not name.
fn field_lines() -> Vec<(Vec<u8>, Kind)> {
    let lines: &[&[u8]] = &[
        b"X-Foo : bar",
        b"X-Foo bar",
        b"X-Foo",
        b": bar",
        b"X(Foo): bar",
        b"X Foo: bar",
        b"X-\xeffoo: bar",
        b"X-Foo: a\x00b",
        b"X-Foo: a\x01b",
        b"X-Foo: a\x7fb",
        b"X-Foo: a\rb",
        b"X-Foo: a\nX-Bar: b",
        b"X-Foo: a\n\rX-Bar: b",
        b"X-Foo: a\r\n b",
        b"X-Foo: a\r\n\tb",
        b"X-Foo: a\r\r\nX-Bar: b",
        b"Mcp_Name: echo",
        b"Mcp-Session_Id: x",
        b"MCP_Protocol_Version: 2026-07-28",
        b"mcp_param_x: 1",
        b"X_API_Key: k",
        b"Ringgate_Key: k",
        b"Connection: close, Content-Length",
        b"Connection: Host",
        b"Connection: keep-alive\r\nConnection: mcp-name",
        b"Connection: Content-Type",
        b"Connection: authorization",
        b"Connection: origin",
        b"Connection: transfer-encoding",
        b"Connection: MCP-Protocol-Version",
        b"Connection: Mcp-Session-Id",
        b"Connection: X-API-Key",
        b"Connection: a b",
        b"Connection: \"close\"",
        b"Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q",
    ];
    let mut all: Vec<_> = lines.iter().map(|line| (with_bytes(line), Malformed)).collect();
    all.push((b"POST / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n".to_vec(), Malformed));
    let hosts = [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host:\r\n",
        "Host: a/b\r\n",
        "Host: me@a\r\n",
        "Host: a:99999\r\n",
        "Host: a:\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: a\r\nHo_st: b\r\nhost: a\r\n",
    ];
    all.extend(hosts.iter().map(|lines| (with_host(lines), Malformed)));
    for value in ["200-maybe", "", "100-continue, x", "100", "100-continue\r\nExpect: 100-continue"] {
        let kind = Kind::ExpectationFailed;
        all.push((with(&format!("Expect: {value}\r\nContent-Length: 5")), kind));
    }
    all
}

/// Everything that is refused; the fuzz bodies take it as seeds.
pub(in crate::http) fn refused() -> Vec<(Vec<u8>, Kind)> {
    [codings(), lengths(), request_lines(), field_lines()].concat()
}

#[test]
fn refuses_and_names_the_fault() {
    for (input, kind) in refused() {
        let shown = String::from_utf8_lossy(&input[..input.len().min(200)]).into_owned();
        match parse(&input) {
            Err(fault) => assert_eq!(fault.kind, kind, "{shown:?}"),
            Ok(other) => panic!("{shown:?} gave {other:?}"),
        }
        assert!(parse(&input).is_err_and(|fault| fault.wire().closes), "{shown:?}");
    }
}

/// heads that are accepted, and what is read out of them:
/// framing, keep-alive, expectation.
pub(in crate::http) fn accepted() -> Vec<(Vec<u8>, Framing, bool, bool)> {
    let none = Framing::None;
    vec![
        (with("Content-Length: 5"), Framing::Length(5), true, false),
        (with("Content-Length: 0"), Framing::Length(0), true, false),
        (with("Content-Length: 0000000000000000005"), Framing::Length(5), true, false),
        (with("Content-Length: 9999999999999999999"), Framing::Length(9_999_999_999_999_999_999), true, false),
        (with("cOnTeNt-LeNgTh:\t  5 \t"), Framing::Length(5), true, false),
        (with("Transfer-Encoding: chunked"), Framing::Chunked, true, false),
        (with("transfer-encoding:CHUNKED \t"), Framing::Chunked, true, false),
        (with("Connection: close"), none, false, false),
        (with("Connection: Keep-Alive, , X-Hop"), none, true, false),
        (with("Connection: keep-alive\r\nConnection: x, CLOSE"), none, false, false),
        (with("Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p"), none, true, false),
        (with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA"), none, true, false),
        (with("Expect: 100-continue\r\nContent-Length: 5"), Framing::Length(5), true, true),
        (with("Expect: 100-Continue\r\nTransfer-Encoding: chunked"), Framing::Chunked, true, true),
        (with("Expect: 100-continue"), none, true, false),
        (with("X-Empty:\r\nX-Blank: \t \r\nX-High: \u{e9}\u{4e2d}\r\nMcp-Param-a_b: 1\r\nX_Own: 1"), none, true, false),
        ([b"\r\n".to_vec(), with("A: b")].concat(), none, true, false),
        (with_line("post /mcp/files HTTP/1.1"), none, true, false),
        (with_line("POST /mcp/files%0d%0aX:1?q=/ HTTP/1.1"), none, true, false),
        (with_line("POST HTTP://Gateway.Test:8080/mcp/files HTTP/1.1"), none, true, false),
        (with_line("CONNECT 127.0.0.1:22 HTTP/1.1"), none, false, false),
        (b"POST / HTTP/1.0\r\n\r\n".to_vec(), none, false, false),
        (b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n".to_vec(), Framing::Length(2), false, false),
        (b"GET http://[::1]:80/x HTTP/1.0\r\n\r\n".to_vec(), none, false, false),
    ]
}

#[test]
fn reads_what_must_work() {
    for (input, framing, keep_alive, expect_continue) in accepted() {
        let shown = String::from_utf8_lossy(&input).into_owned();
        // A pipelined request behind it is left alone.
        let followed = [input.as_slice(), b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let Ok(Some((head, _))) = parse(&followed) else { panic!("{shown:?}: {:?}", parse(&followed)) };
        assert_eq!(
            (head.framing, head.keep_alive, head.expect_continue),
            (framing, keep_alive, expect_continue),
            "{shown:?}"
        );
        assert_eq!(head.len as usize, input.len(), "{shown:?}");
    }
}

#[test]
fn spans_point_at_the_bytes() {
    let input = b"\r\nPOST http://gw.test/mcp/files?a=b HTTP/1.1\r\nhOST: gw.test:80\r\nMcp-Name: \t echo  \r\nX-Empty: \r\n\r\nbody";
    let Ok(Some((head, fields))) = parse(input) else { panic!("refused") };
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.method_text.of(input), b"POST");
    assert_eq!(head.target.of(input), b"/mcp/files?a=b");
    assert_eq!(head.path.of(input), b"/mcp/files");
    assert_eq!(head.host.of(input), b"gw.test:80");
    let seen: Vec<_> =
        fields.iter().map(|field| (field.known, field.name.of(input), field.value.of(input))).collect();
    let expected: [(Known, &[u8], &[u8]); 3] = [
        (Known::Host, b"hOST", b"gw.test:80"),
        (Known::McpName, b"Mcp-Name", b"echo"),
        (Known::Other, b"X-Empty", b""),
    ];
    assert_eq!(seen, expected);
    assert_eq!(fields.single(Known::Origin), Single::Missing);
    assert_eq!(head.len as usize, input.len() - 4);
}

#[test]
fn a_host_is_taken_as_known_only_where_it_is_the_same() {
    for (host, known, passes) in [
        ("gw.test:80", "", true),
        ("gw.test:80", "gw.test:80", true),
        ("gw.test", "gw.test:80", true),
        ("gw.test:80x", "gw.test:80", false),
        ("@gw.test:80", "gw.test:80", false),
        ("", "", false),
        ("", "gw.test:80", false),
        // Not looked at again: whoever says that it is known has looked.
        ("a b", "a b", true),
    ] {
        let input = format!("POST / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let (mut scan, mut fields) = (HeadScan::default(), Fields::default());
        let head = parse_next(&input, &mut scan, LIMITS, known.as_bytes(), &mut fields);
        assert_eq!(head.is_ok_and(|head| head.is_some()), passes, "{host} after {known}");
    }
}

#[test]
fn methods_are_case_sensitive() {
    for (text, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("PUT", Method::Put),
        ("PATCH", Method::Other),
        ("get", Method::Other),
        ("TRACE", Method::Other),
        ("A-METHOD-OF-32-BYTES-IS-STILL-ONE", Method::Other),
    ] {
        let text = &text[..text.len().min(METHOD_BYTES)];
        let parsed = parse(&with_line(&format!("{text} / HTTP/1.1")));
        assert_eq!(parsed.unwrap().unwrap().0.method, method, "{text}");
    }
}

/// A head of exactly this many bytes.
fn padded(bytes: usize) -> Vec<u8> {
    let bare = with("X: ").len();
    with(&format!("X: {}", "v".repeat(bytes - bare)))
}

fn kind_of(input: &[u8], limits: HeadLimits) -> Option<Kind> {
    parse_within(input, limits).err().map(|fault| fault.kind)
}

#[test]
fn bounds_hold_exactly() {
    let limits = HeadLimits { head_bytes: 512, target_bytes: 64, fields: 4 };
    assert!(parse_within(&padded(512), limits).unwrap().is_some());
    assert_eq!(kind_of(&padded(513), limits), Some(Kind::HeadTooLarge));
    // The head is refused before it is buffered: at the bound, without its end.
    assert!(parse_within(&padded(600)[..511], limits).unwrap().is_none());
    assert_eq!(kind_of(&padded(600)[..512], limits), Some(Kind::HeadTooLarge));

    let target = |bytes: usize| with_line(&format!("POST /{} HTTP/1.1", "t".repeat(bytes - 1)));
    assert!(parse_within(&target(64), limits).unwrap().is_some());
    assert_eq!(kind_of(&target(65), limits), Some(Kind::TargetTooLong));
    // Also while the head is incomplete, and also where the head is too large as well.
    assert!(parse_within(&target(65)[..5 + 64], limits).unwrap().is_none());
    assert_eq!(kind_of(&target(65)[..5 + 65], limits), Some(Kind::TargetTooLong));
    assert_eq!(kind_of(&target(1 << 20), limits), Some(Kind::TargetTooLong));

    let fields = |count: usize| with(&vec!["X: y"; count - 1].join("\r\n"));
    assert!(parse_within(&fields(4), limits).unwrap().is_some());
    assert_eq!(kind_of(&fields(5), limits), Some(Kind::HeadTooLarge));
    assert!(parse(&fields(FIELDS_CAPACITY)).unwrap().is_some());
    assert_eq!(kind_of(&fields(FIELDS_CAPACITY + 1), LIMITS), Some(Kind::HeadTooLarge));
    assert_eq!(kind_of(&fields(20_000), LIMITS), Some(Kind::HeadTooLarge));

    let method = |bytes: usize| with_line(&format!("{} / HTTP/1.1", "M".repeat(bytes)));
    assert!(parse(&method(METHOD_BYTES)).unwrap().is_some());
    assert_eq!(kind_of(&method(METHOD_BYTES + 1), LIMITS), Some(Malformed));
    // A value of 1 MiB is refused from the bytes that fit.
    assert_eq!(kind_of(&padded(1 << 20), LIMITS), Some(Kind::HeadTooLarge));
    assert_eq!(kind_of(&padded(1 << 20)[..LIMITS.head_bytes], LIMITS), Some(Kind::HeadTooLarge));
    assert!(parse(&padded(8 * 1024)).unwrap().is_some());
}

#[test]
fn a_bare_lf_is_refused_without_waiting_for_the_end() {
    let mut scan = HeadScan::default();
    let mut fields = Fields::default();
    let input = b"POST / HTTP/1.1\r\nHost: a\nX";
    let outcomes: Vec<_> =
        (1..=input.len()).map(|len| parse_request(&input[..len], &mut scan, LIMITS, &mut fields)).collect();
    let first = outcomes.iter().position(Result::is_err);
    assert_eq!(first, Some(24), "{outcomes:?}");
}

#[test]
fn a_dribbled_head_is_searched_once() {
    let input = padded(4096);
    let mut scan = HeadScan::default();
    let mut fields = Fields::default();
    for len in 1..input.len() {
        assert_eq!(parse_request(&input[..len], &mut scan, LIMITS, &mut fields), Ok(None));
        assert_eq!(scan.searched, len);
    }
    assert!(parse_request(&input, &mut scan, LIMITS, &mut fields).unwrap().is_some());
    assert_eq!(scan.searched, 0, "ready for the next head");
}

#[test]
fn json_is_told_from_other_media_types() {
    for (value, expected) in [
        ("application/json", true),
        ("Application/JSON", true),
        ("application/json; charset=utf-8", true),
        ("application/json ;charset=\"UTF-8\"", true),
        ("application/json;charset=utf-16", false),
        ("application/json; charset=utf-8; charset=utf-16", false),
        ("application/json; x=y", false),
        ("application/json, text/plain", false),
        ("application/jsonp", false),
        ("text/json", false),
        ("", false),
        ("application/json;", false),
        ("application/json-rpc", false),
    ] {
        assert_eq!(json_media_type(value.as_bytes()), expected, "{value}");
    }
}
