//! The chunked coding: each malformed body, what must work, each bound at and one past it.

use super::*;

const LIMITS: ChunkLimits =
    ChunkLimits { line_bytes: 1024, extension_bytes: 16 * 1024, trailer_bytes: 8 * 1024, trailer_fields: 32 };

/// The body and what stands behind it.
fn decode(input: &[u8], limits: ChunkLimits, side: Side) -> Result<(Vec<u8>, Vec<u8>, bool), Fault> {
    let mut buf = input.to_vec();
    let mut decoder = Decoder::new(limits, side);
    let decoded = decoder.decode(&mut buf)?;
    assert_eq!(decoded.done, decoder.is_done());
    Ok((buf[..decoded.payload].to_vec(), buf[decoded.consumed..].to_vec(), decoded.done))
}

/// Bodies that are refused; the fuzz bodies take them as seeds.
pub(in crate::http) const REFUSED: &[&[u8]] = &[
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"-1\r\nhello\r\n0\r\n\r\n",
    b"0_5\r\nhello\r\n0\r\n\r\n",
    b"\r\nhello\r\n0\r\n\r\n",
    b";a\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5 5\r\nhello\r\n0\r\n\r\n",
    b"5,\r\nhello\r\n0\r\n\r\n",
    b"5g\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5;x\nhello\r\n0\r\n\r\n",
    b"5;x\ry\r\nhello\r\n0\r\n\r\n",
    b"5;x\0\r\nhello\r\n0\r\n\r\n",
    b"5;x\x7f\r\nhello\r\n0\r\n\r\n",
    b"5\rhello\r\n0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\r0\r\n\r\n",
    b"5\r\nhello\rX0\r\n\r\n",
    b"5\r\nhelloX\n0\r\n\r\n",
    b"5\rXhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\rX\r\n",
    b"5\r\nhello\r\n0\r\nA: b\rX\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"5\r\nhello\r\n0\n\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"5\r\nhello\r\n0\r\n\rX",
    b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
    b"5\r\nhello\r\n0\r\nA: b\0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nA: b\n\r\n",
    b"5\r\nhello\r\n0\r\nA: b\rc\r\n\r\n",
    b"5\r\nhello\r\n0\r\nA\r\n\r\n",
    b"5\r\nhello\r\n0\r\nA : b\r\n\r\n",
    b"5\r\nhello\r\n0\r\n: b\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"5\r\nhello\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n0\r\nHost: a\r\n\r\n",
    b"5\r\nhello\r\n0\r\nAuthorization: a\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent_Length: 5\r\n\r\n",
    b"5\r\nhello\r\n0\r\nMcp-Param-with-a-name-that-is-longer-than-is-kept: 5\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\r\nMcp-Name: 5\r\n\r\n",
];

#[test]
fn refuses_what_two_parsers_could_read_in_two_ways() {
    for input in REFUSED {
        let shown = String::from_utf8_lossy(input);
        for (side, kind) in [(Side::Request, Kind::Malformed), (Side::Answer, Kind::UpstreamProtocol)] {
            match decode(input, LIMITS, side) {
                Err(fault) => assert_eq!(fault.kind, kind, "{shown:?}"),
                Ok(other) => panic!("{shown:?} gave {other:?}"),
            }
        }
    }
}

/// Bodies that mean `hello`; the fuzz bodies take them as seeds.
pub(in crate::http) const ACCEPTED: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0000000000000005\r\nhello\r\n0000\r\n\r\n",
    b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0;last\r\n\r\n",
    b"5 \t;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX-Trailer: v\r\nServer-Timing:\t x;dur=1 \r\n\r\n",
    b"5\r\nhello\r\n0\r\nX-Empty:\r\n\r\n",
];

#[test]
fn decodes_what_must_work() {
    for input in ACCEPTED {
        let shown = String::from_utf8_lossy(input);
        let followed = [*input, b"POST / HTTP/1.1\r\n"].concat();
        let decoded = decode(&followed, LIMITS, Side::Request);
        assert_eq!(decoded, Ok((b"hello".to_vec(), b"POST / HTTP/1.1\r\n".to_vec(), true)), "{shown:?}");
        for len in 0..input.len() {
            let cut = decode(&input[..len], LIMITS, Side::Answer);
            assert!(cut.is_ok_and(|(_, rest, done)| !done && rest.is_empty()), "{shown:?} cut at {len}");
        }
    }
}

#[test]
fn hexadecimal_digits_in_any_case() {
    let body = vec![b'x'; 0xab];
    let input = [b"aB\r\n".as_slice(), &body, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(decode(&input, LIMITS, Side::Request), Ok((body, Vec::new(), true)));
}

#[test]
fn the_largest_size_does_not_wrap() {
    let (payload, _, done) = decode(b"ffffffffffffffff\r\nhello", LIMITS, Side::Request).unwrap();
    assert_eq!((payload.as_slice(), done), (b"hello".as_slice(), false));
}

#[test]
fn a_refused_body_stays_refused() {
    let mut decoder = Decoder::new(LIMITS, Side::Request);
    assert!(decoder.decode(&mut b"x".to_vec()).is_err());
    assert!(decoder.decode(&mut b"5\r\nhello\r\n0\r\n\r\n".to_vec()).is_err());
}

#[test]
fn nothing_is_read_after_the_end() {
    let mut decoder = Decoder::new(LIMITS, Side::Request);
    let mut buf = b"0\r\n\r\nGET".to_vec();
    assert_eq!(decoder.decode(&mut buf), Ok(Decoded { payload: 0, consumed: 5, done: true }));
    assert_eq!(decoder.decode(&mut buf), Ok(Decoded { payload: 0, consumed: 0, done: true }));
}

fn kind_of(input: &[u8], limits: ChunkLimits) -> Option<Kind> {
    decode(input, limits, Side::Request).err().map(|fault| fault.kind)
}

#[test]
fn bounds_hold_exactly() {
    let limits = ChunkLimits { line_bytes: 16, extension_bytes: 24, trailer_bytes: 32, trailer_fields: 2 };
    let extended = |extension: usize, chunks: usize| {
        let chunk = format!("1;{}\r\nh\r\n", "e".repeat(extension - 1));
        format!("{}0\r\n\r\n", chunk.repeat(chunks)).into_bytes()
    };
    // One line: a digit and its extension.
    assert_eq!(kind_of(&extended(15, 1), limits), None);
    assert_eq!(kind_of(&extended(16, 1), limits), Some(Kind::Malformed));
    // All extensions of the body together.
    assert_eq!(kind_of(&extended(8, 3), limits), None);
    assert_eq!(kind_of(&extended(5, 5), limits), Some(Kind::Malformed));
    // A flood is refused from the bytes that fit, without the end of its line.
    assert_eq!(kind_of(&extended(1 << 20, 1)[..1100], LIMITS), Some(Kind::Malformed));
    assert_eq!(kind_of(&extended(1000, 100), LIMITS), Some(Kind::Malformed));

    let trailers = |value: usize| format!("0\r\nX: {}\r\n\r\n", "v".repeat(value)).into_bytes();
    // Name, colon, space and CRLF are five bytes of the 32; the CR is counted, the LF is not needed to tell.
    assert_eq!(kind_of(&trailers(27), limits), None);
    assert_eq!(kind_of(&trailers(28), limits), Some(Kind::HeadTooLarge));
    let fields = |count: usize| format!("0\r\n{}\r\n", "X: y\r\n".repeat(count)).into_bytes();
    assert_eq!(kind_of(&fields(2), limits), None);
    assert_eq!(kind_of(&fields(3), limits), Some(Kind::HeadTooLarge));
}
