//! Answer heads: each fault of a server, what must work, each bound at and one past it.

use super::*;
use crate::http::request::Version;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 64 * 1024, target_bytes: 0, fields: 128 };

fn parse(input: &[u8], head_request: bool, limits: HeadLimits) -> Result<Option<ResponseHead>, Fault> {
    parse_response(input, &mut HeadScan::default(), limits, head_request, &mut Fields::default())
}

/// Everything that is refused; the fuzz bodies take it as seeds.
pub(in crate::http) fn refused() -> Vec<Vec<u8>> {
    let lines: &[&[u8]] = &[
        b"Content-Length: 5x",
        b"Content-Length: -1",
        b"Content-Length:",
        b"Content-Length: 5\r\nContent-Length: 50",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5, 5",
        b"Content-Length: 18446744073709551616",
        b"Transfer-Encoding: chunked\r\nContent-Length: 30",
        b"Content-Length: 30\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: xyz",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer_Encoding: chunked",
        b"X-A: a\x00b",
        b"X-A: a\nX-B: b",
        b"X-A: a\rX-B: b",
        b"X-A: a\r\n b",
        b"X-A : a",
        b"X-A",
        b"Connection: Content-Length",
        b"Content-Type: text/plain\r\nContent-Type: application/json",
    ];
    let heads = lines.iter().map(|line| [b"HTTP/1.1 200 OK\r\n", *line, b"\r\n\r\nhello"].concat());
    let whole: &[&[u8]] = &[
        b"HELLO WORLD\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nLEAK",
        b"0\r\n\r\n",
    ];
    heads.chain(whole.iter().map(|bytes| bytes.to_vec())).collect()
}

#[test]
fn refuses_what_a_server_may_not_send() {
    for input in refused() {
        let shown = String::from_utf8_lossy(&input).into_owned();
        match parse(&input, false, LIMITS) {
            Err(fault) => assert_eq!(fault.kind, Kind::UpstreamProtocol, "{shown:?}"),
            Ok(other) => panic!("{shown:?} gave {other:?}"),
        }
    }
}

/// Status, fields, whether the request was HEAD; framing and whether the connection is reused.
type Row = (u16, &'static str, bool, AnswerFraming, bool);

const ACCEPTED: &[Row] = &[
    (200, "Content-Length: 5", false, AnswerFraming::Length(5), true),
    (200, "Content-Length: 0", false, AnswerFraming::Length(0), true),
    (200, "Transfer-Encoding: Chunked", false, AnswerFraming::Chunked, true),
    (200, "X: y", false, AnswerFraming::UntilClose, false),
    (200, "Content-Length: 5\r\nConnection: close", false, AnswerFraming::Length(5), false),
    (200, "Content-Length: 5", true, AnswerFraming::None, true),
    (200, "Transfer-Encoding: chunked", true, AnswerFraming::None, true),
    (200, "X: y", true, AnswerFraming::None, true),
    (202, "Content-Length: 0", false, AnswerFraming::Length(0), true),
    (204, "X: y", false, AnswerFraming::None, true),
    (204, "Content-Length: 0", false, AnswerFraming::None, true),
    (204, "Content-Length: 6", false, AnswerFraming::None, false),
    (204, "Transfer-Encoding: chunked", false, AnswerFraming::None, false),
    (304, "Content-Length: 6", false, AnswerFraming::None, true),
    (100, "X: y", false, AnswerFraming::None, true),
    (103, "Link: </a>", false, AnswerFraming::None, true),
    (103, "Content-Length: 6", false, AnswerFraming::None, false),
    (502, "Content-Length: 5", false, AnswerFraming::Length(5), true),
    (599, "Content-Length: 5", false, AnswerFraming::Length(5), true),
];

/// Heads that are accepted; the fuzz bodies take them as seeds.
pub(in crate::http) fn accepted() -> Vec<Vec<u8>> {
    ACCEPTED.iter().map(|row| format!("HTTP/1.1 {} Any\r\n{}\r\n\r\n", row.0, row.1).into_bytes()).collect()
}

#[test]
fn frames_what_may_be_sent() {
    for (row, input) in ACCEPTED.iter().zip(accepted()) {
        let head = parse(&[input.as_slice(), b"body"].concat(), row.2, LIMITS).unwrap().unwrap();
        assert_eq!((head.status, head.framing, head.keep_alive), (row.0, row.3, row.4), "{row:?}");
        assert_eq!(head.len as usize, input.len(), "{row:?}");
    }
    let old = parse(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", false, LIMITS);
    let old = old.unwrap().unwrap();
    assert_eq!(
        (old.version, old.framing, old.keep_alive),
        (Version::Http10, AnswerFraming::Length(5), false)
    );
    // Many servers leave out the space before an empty phrase.
    assert!(parse(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", false, LIMITS).unwrap().is_some());
    assert!(parse(b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n", false, LIMITS).unwrap().is_some());
}

#[test]
fn tells_json_from_streams() {
    for (line, expected) in [
        ("Content-Type: application/json", ContentType::Json),
        ("content-type: Application/JSON ; charset=utf-8", ContentType::Json),
        ("Content-Type: text/event-stream;charset=utf-8", ContentType::EventStream),
        ("Content-Type: text/plain", ContentType::Other),
        ("Content-Type:", ContentType::Other),
        ("X: y", ContentType::Missing),
    ] {
        let input = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
        assert_eq!(parse(input.as_bytes(), false, LIMITS).unwrap().unwrap().content_type, expected, "{line}");
    }
}

#[test]
fn bounds_hold_exactly() {
    let limits = HeadLimits { head_bytes: 256, target_bytes: 0, fields: 3 };
    let sized = |bytes: usize| {
        let bare = "HTTP/1.1 200 OK\r\nX: \r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "v".repeat(bytes - bare)).into_bytes()
    };
    assert!(parse(&sized(256), false, limits).unwrap().is_some());
    assert!(parse(&sized(257), false, limits).is_err());
    assert!(parse(&sized(300)[..255], false, limits).unwrap().is_none());
    assert!(parse(&sized(300)[..256], false, limits).is_err());
    assert!(parse(&sized(1 << 20), false, LIMITS).is_err());
    let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(count)).into_bytes();
    assert!(parse(&fields(3), false, limits).unwrap().is_some());
    assert!(parse(&fields(4), false, limits).is_err());
}

#[test]
fn a_cut_head_is_never_a_head() {
    let input = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    for len in 0..input.len() {
        assert_eq!(parse(&input[..len], false, LIMITS), Ok(None), "{len} bytes");
    }
}
