//! The fuzz bodies over the codecs' own tables and over inputs made from pieces that matter.

use super::*;
use crate::http::chunked;
use crate::http::request;
use crate::http::response;
use proptest::collection::vec;
use proptest::prelude::*;

/// Every input once whole, and with one byte replaced at each place by one that often matters.
fn mutated(seed: &[u8], run: fn(&[u8])) {
    run(seed);
    let mut input = seed[..seed.len().min(400)].to_vec();
    for at in 0..input.len() {
        let byte = input[at];
        for other in [b'\r', b'\n', b' ', b':', 0] {
            input[at] = other;
            run(&input);
        }
        input[at] = byte;
    }
}

/// Seeds say by their names what becomes of them, so that a fuzzer begins on both sides of each rule.
#[test]
fn seeds_are_what_their_names_say() {
    fn check(target: &str, accepts: fn(&[u8]) -> bool) {
        let folder = format!("{}/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut kinds = [0, 0];
        for entry in std::fs::read_dir(folder).expect("seeds") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("readable");
            let accepted =
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("accepted_"));
            assert_eq!(accepts(&bytes), accepted, "{}", path.display());
            kinds[usize::from(accepted)] += 1;
        }
        assert!(kinds.iter().all(|count| *count > 3), "{target}: {kinds:?}");
    }
    check("request_head", |data| {
        let (mut scan, mut fields) = (HeadScan::default(), Fields::default());
        matches!(parse_request(data, &mut scan, HEAD_LIMITS, &mut fields), Ok(Some(_)))
    });
    check("response_head", |data| {
        let (first, data) = data.split_first().expect("a first byte");
        let (mut scan, mut fields) = (HeadScan::default(), Fields::default());
        matches!(parse_response(data, &mut scan, HEAD_LIMITS, first & 1 == 1, &mut fields), Ok(Some(_)))
    });
    check("chunked_body", |data| matches!(decode_pieces(&[data]), Ok((_, _, true))));
}

#[test]
fn requests_of_the_tables() {
    for (input, _) in request::tests::refused() {
        request_head(&input);
    }
    for (input, ..) in request::tests::accepted() {
        mutated(&input, request_head);
    }
}

#[test]
fn answers_of_the_tables() {
    let refused = response::tests::refused();
    for input in response::tests::accepted().iter().chain(&refused) {
        for first in [0, 1] {
            response_head(&[&[first], input.as_slice()].concat());
        }
    }
    for input in response::tests::accepted() {
        mutated(&[&[0], input.as_slice()].concat(), response_head);
    }
}

#[test]
fn chunked_bodies_of_the_tables() {
    for input in chunked::tests::ACCEPTED.iter().chain(chunked::tests::REFUSED) {
        mutated(input, chunked_body);
    }
}

#[test]
fn event_streams_with_every_line_end() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = "data: 1\n\nid: 7\nevent: x\ndata: 2\n\n\n:c\n\ndata: cut".replace('\n', end);
        event_stream(stream.as_bytes());
    }
    // Every string of up to nine line ends and letters.
    for length in 0..=9_u32 {
        for number in 0..3_u32.pow(length) {
            let letter = |place: u32| b"\r\na"[(number / 3_u32.pow(place) % 3) as usize];
            event_stream(&(0..length).map(letter).collect::<Vec<u8>>());
        }
    }
}

fn pieces(choices: &'static [&'static [u8]], count: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => prop::sample::select(choices).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..3),
    ];
    vec(piece, 0..count).prop_map(|pieces| pieces.concat())
}

const REQUEST_PIECES: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"CONNECT ",
    b"/",
    b"/mcp?x",
    b"http://a:80/x",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"Host: a\r\n",
    b"Host: a:80\r\n",
    b"Host: 127.1\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b",",
    b"Content-Length: 5\r\n",
    b"Content-Length: ",
    b"12345678901234567890",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: ",
    b"close",
    b"x-hop",
    b"Mcp-Name",
    b"Mcp-Name: a\r\n",
    b"mcp_name: a\r\n",
    b"X-Hop: 1 \r\n",
    b"Expect: 100-continue\r\n",
    b"X: y\r\n",
    b"X:\r\n",
    b"X_Y: z\r\n",
    b"Proxy-X_Y: z\r\n",
    b"\x80",
    b"Te: trailers\r\n",
];
const RESPONSE_PIECES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200\r\n",
    b"HTTP/1.1 204 \r\n",
    b"HTTP/1.1 103 x\r\n",
    b"HTTP/1.1 ",
    b"304",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Type: application/json\r\n",
    b"Connection: close\r\n",
    b"X: y\r\n",
    b"X: y \r\n",
    b"\xff",
];
const CHUNK_PIECES: &[&[u8]] = &[
    b"0",
    b"1",
    b"5",
    b"a",
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b";",
    b" ",
    b"x",
    b"hello",
    b"5\r\nhello\r\n",
    b"0\r\n",
    b"X: y\r\n",
    b"Host: a\r\n",
    b"te: x\r\n",
    b"M_y: z\r\n",
    b":",
    b"5;a=b\r\nhello\r\n",
    b"00000000000000000",
];
const EVENT_PIECES: &[&[u8]] =
    &[b"data: x", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b":", b"id: 1", b"a"];

/// Mostly whole lines, so that many inputs are accepted.
const REQUEST_LINES: &[&[u8]] = &[
    b"X-Hop: 1 \r\n",
    b"X-Hop:1\r\n",
    b"Connection: x-hop\r\n",
    b"Connection: close, x\r\n",
    b"Connection: keep-alive\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Mcp-Name: a\r\n",
    b"Te: trailers\r\n",
    b"X-Empty:\r\n",
    b"X-Blank: \t \r\n",
    b"Cookie: a\r\n",
    b"X_Own: \xe9\r\n",
    b"Mcp-Param-a_b: c\r\n",
    b"mcp_name: a\r\n",
    b"Host: b\r\n",
    b"X: a\n",
    b"X: a\r",
    b" ",
    b"\r\n",
];
const RESPONSE_LINES: &[&[u8]] = &[
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: x\r\n",
    b"Content-Type: application/json\r\n",
    b"X-Empty:\r\n",
    b"X: \xe9 \r\n",
    b"Set-Cookie: a\r\n",
    b"X: a\n",
    b"\r\n",
];
const CHUNKS: &[&[u8]] = &[
    b"1\r\nh\r\n",
    b"5\r\nhello\r\n",
    b"0A\r\n0123456789\r\n",
    b"2;a=b\r\n\r\n\r\n",
    b"3 ;x\r\nabc\r\n",
    b"0\r\n\r\n",
    b"4\r\nabc\r\n",
    b"1\r\nab\r\n",
];

/// Something that is mostly right: a good start, a few pieces, a good end.
fn nearly(
    start: &'static [u8],
    choices: &'static [&'static [u8]],
    end: &'static [u8],
) -> impl Strategy<Value = Vec<u8>> {
    pieces(choices, 6).prop_map(move |middle| [start, &middle, end].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_request(input in pieces(REQUEST_PIECES, 24)) {
        request_head(&input);
    }

    #[test]
    fn nearly_any_request(input in nearly(b"POST /mcp HTTP/1.1\r\nHost: a\r\n", REQUEST_LINES, b"\r\n")) {
        request_head(&input);
    }

    #[test]
    fn any_answer(input in pieces(RESPONSE_PIECES, 24), first in any::<u8>()) {
        response_head(&[&[first], input.as_slice()].concat());
    }

    #[test]
    fn nearly_any_answer(input in nearly(b"\0HTTP/1.1 200 OK\r\nX: y\r\n", RESPONSE_LINES, b"\r\n")) {
        response_head(&input);
    }

    #[test]
    fn any_chunked_body(input in pieces(CHUNK_PIECES, 24)) {
        chunked_body(&input);
    }

    #[test]
    fn nearly_any_chunked_body(input in nearly(b"5\r\nhello\r\n", CHUNKS, b"0\r\nX: y\r\n\r\nGET")) {
        chunked_body(&input);
    }

    #[test]
    fn any_event_stream(input in pieces(EVENT_PIECES, 24)) {
        event_stream(&input);
    }

    #[test]
    fn any_bytes(input in vec(any::<u8>(), 0..300)) {
        for run in [request_head, response_head, chunked_body, event_stream] {
            run(&input);
        }
    }
}
