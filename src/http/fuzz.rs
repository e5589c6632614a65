//! Fuzz bodies of the codecs as plain functions: libFuzzer binaries, proptest and the tests over stored
//! inputs call the same ones. Each panics where the codec and [`naive`] disagree.
//!
//! Not here: inputs. May not know: how it is driven. Not part of any API.

mod naive;
mod naive_body;
#[cfg(test)]
mod tests;

use crate::base::fault::Fault;
use crate::http::chunked::ChunkLimits;
use crate::http::chunked::Decoder;
use crate::http::chunked::Side;
use crate::http::fields::Field;
use crate::http::fields::Fields;
use crate::http::fuzz::naive::Pair;
use crate::http::fuzz::naive::Verdict;
use crate::http::request::HeadLimits;
use crate::http::request::HeadScan;
use crate::http::request::RequestHead;
use crate::http::request::parse_request;
use crate::http::response::ResponseHead;
use crate::http::response::parse_response;
use crate::http::sse::COMMENT;
use crate::http::sse::EventBoundary;
use crate::http::write;

/// Small, so that short inputs reach them.
pub(super) const HEAD_LIMITS: HeadLimits = HeadLimits { head_bytes: 2048, target_bytes: 128, fields: 16 };
pub(super) const CHUNK_LIMITS: ChunkLimits =
    ChunkLimits { line_bytes: 64, extension_bytes: 128, trailer_bytes: 256, trailer_fields: 4 };
/// Cut positions that are tried on one input; longer inputs are cut at strides.
const CUTS_MAX: usize = 256;
/// Longer inputs say nothing new and make a run slow.
const INPUT_BYTES_MAX: usize = 16 * 1024;

fn cuts(len: usize) -> impl Iterator<Item = usize> {
    (0..=len).step_by(len / CUTS_MAX + 1)
}

/// What a head parser made of some bytes.
type Parsed<T> = Result<Option<(T, Fields)>, Fault>;

/// One parse of one buffer, continuing a search.
trait Parser<T>: Fn(&[u8], &mut HeadScan) -> Parsed<T> {}
impl<T, F: Fn(&[u8], &mut HeadScan) -> Parsed<T>> Parser<T> for F {}

/// However the network cuts the bytes, an accepted head is the same head, and a refused one is refused.
/// (Which of several faults is named, and how early, may differ.)
fn incremental<T: PartialEq + std::fmt::Debug>(data: &[u8], parse: impl Parser<T>) -> Parsed<T> {
    let whole = parse(data, &mut HeadScan::default());
    let agrees = |cut: &Parsed<T>, how: &str| match (&whole, cut) {
        (Ok(Some(one)), Ok(Some(other))) => assert_eq!(one, other, "{how}"),
        (Err(_), Err(_)) | (Ok(None), Ok(None)) => {}
        // An unfinished head may be refused at once or when it is whole.
        (Err(_), Ok(None)) if !naive::has_end(data) && data.len() < HEAD_LIMITS.head_bytes => {}
        _ => panic!("{how}: {cut:?}, in one piece {whole:?}"),
    };
    for cut in cuts(data.len()) {
        let mut scan = HeadScan::default();
        let first = parse(&data[..cut], &mut scan);
        let outcome = if matches!(first, Ok(None)) { parse(data, &mut scan) } else { first };
        agrees(&outcome, "cut once");
    }
    let mut scan = HeadScan::default();
    let steps = cuts(data.len()).map(|cut| parse(&data[..cut], &mut scan));
    let outcome = steps.into_iter().find(|step| !matches!(step, Ok(None)));
    let outcome = outcome.unwrap_or_else(|| parse(data, &mut scan));
    agrees(&outcome, "dribbled");
    whole
}

/// Fields as the naive parser has them.
fn pairs(data: &[u8], fields: &[Field]) -> Vec<Pair> {
    fields.iter().map(|field| (field.name.of(data).to_vec(), field.value.of(data).to_vec())).collect()
}

/// Request heads: the verdict and everything in it equal those of the naive parser; cuts change nothing;
/// what we would send on is a strict request with the same fields.
pub fn request_head(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let parsed = incremental(data, |buf: &[u8], scan: &mut HeadScan| -> Parsed<RequestHead> {
        let mut fields = Fields::default();
        Ok(parse_request(buf, scan, HEAD_LIMITS, &mut fields)?.map(|head| (head, fields)))
    });
    match (parsed, naive::request(data, HEAD_LIMITS)) {
        (Ok(Some((head, fields))), Verdict::Whole(expected)) => {
            let seen = naive::Request {
                method: head.method_text.of(data).to_vec(),
                target: head.target.of(data).to_vec(),
                path: head.path.of(data).to_vec(),
                host: head.host.of(data).to_vec(),
                version: head.version,
                framing: head.framing,
                keep_alive: head.keep_alive,
                expect_continue: head.expect_continue,
                fields: pairs(data, &fields),
                len: head.len as usize,
            };
            assert_eq!(seen, expected);
            forwarded(data, head, &fields);
        }
        (Ok(None), Verdict::Unfinished) | (Err(_), Verdict::Refused | Verdict::Unfinished) => {}
        (parsed, expected) => panic!("{parsed:?}, naively {expected:?}"),
    }
}

/// What the gateway would send for an accepted request.
fn forwarded(data: &[u8], head: RequestHead, fields: &Fields) {
    let options = write::connection_options(data, fields);
    let kept = || fields.iter().filter(|field| !write::drops_upstream(field) && !options.names(data, field));
    let mut out = Vec::new();
    let (method, target) = (head.method_text.of(data), head.target.of(data));
    if !target.starts_with(b"/") {
        // CONNECT is never sent.
        return;
    }
    let line = write::RequestLine { method, target, authority: b"upstream:80" };
    let injected: [(&[u8], &[u8]); 1] = [(b"Authorization", b"Bearer ours")];
    write::request_head(&mut out, line, data, kept(), injected.into_iter(), Some(7));
    let mut expected: Vec<Pair> = vec![(b"Host".to_vec(), b"upstream:80".to_vec())];
    expected.extend(kept().map(|field| (field.name.of(data).to_vec(), field.value.of(data).to_vec())));
    expected.push((b"Authorization".to_vec(), b"Bearer ours".to_vec()));
    expected.push((b"Content-Length".to_vec(), b"7".to_vec()));
    let limits = HeadLimits { head_bytes: usize::MAX, target_bytes: usize::MAX, fields: usize::MAX };
    match naive::request(&out, limits) {
        Verdict::Whole(sent) => {
            assert_eq!((sent.fields, sent.len), (expected, out.len()));
            assert_eq!((sent.method.as_slice(), sent.target.as_slice()), (method, target));
        }
        other => panic!("we would send {:?}: {other:?}", String::from_utf8_lossy(&out)),
    }
}

/// Answer heads, as [`request_head`]; the first byte says whether the request was HEAD.
pub fn response_head(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let (head_request, data) = (first & 1 == 1, &data[..data.len().min(INPUT_BYTES_MAX)]);
    let parsed = incremental(data, |buf: &[u8], scan: &mut HeadScan| -> Parsed<ResponseHead> {
        let mut fields = Fields::default();
        Ok(parse_response(buf, scan, HEAD_LIMITS, head_request, &mut fields)?.map(|head| (head, fields)))
    });
    match (parsed, naive::response(data, HEAD_LIMITS, head_request)) {
        (Ok(Some((head, fields))), Verdict::Whole(expected)) => {
            let seen = naive::Response {
                status: head.status,
                version: head.version,
                framing: head.framing,
                keep_alive: head.keep_alive,
                fields: pairs(data, &fields),
                len: head.len as usize,
            };
            assert_eq!(seen, expected);
        }
        (Ok(None), Verdict::Unfinished) | (Err(_), Verdict::Refused | Verdict::Unfinished) => {}
        (parsed, expected) => panic!("{parsed:?}, naively {expected:?}"),
    }
}

/// Decodes `data` given in these pieces, as a connection would: the body, the raw bytes used, whether it ended.
fn decode_pieces(pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), Fault> {
    let mut decoder = Decoder::new(CHUNK_LIMITS, Side::Request);
    let (mut body, mut used) = (Vec::new(), 0);
    for piece in pieces {
        let mut buf = piece.to_vec();
        let decoded = decoder.decode(&mut buf)?;
        assert_eq!(&buf[decoded.consumed..], &piece[decoded.consumed..], "what is left must not move");
        assert!(decoded.done || decoded.consumed == piece.len(), "bytes left without a reason");
        body.extend_from_slice(&buf[..decoded.payload]);
        used += decoded.consumed;
        if decoded.done {
            break;
        }
    }
    Ok((body, used, decoder.is_done()))
}

/// Chunked bodies: body and bytes used equal the naive decoder's; cuts change nothing.
pub fn chunked_body(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let whole = decode_pieces(&[data]);
    for cut in cuts(data.len()) {
        let (left, right) = data.split_at(cut);
        assert_eq!(decode_pieces(&[left, right]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(decode_pieces(&bytes), whole, "dribbled");
    match (whole, naive_body::chunked(data, CHUNK_LIMITS)) {
        (Ok((body, used, true)), Verdict::Whole(expected)) => assert_eq!((body, used), expected),
        (Ok((_, _, false)), Verdict::Unfinished) | (Err(_), Verdict::Refused | Verdict::Unfinished) => {}
        (whole, expected) => panic!("{whole:?}, naively {expected:?}"),
    }
}

/// Event streams: the boundary equals the naive one after every read, and comments put there change no event.
pub fn event_stream(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let mut commented = Vec::new();
    let mut dribbled = EventBoundary::new();
    let stride = data.len() / CUTS_MAX + 1;
    for piece in data.chunks(stride) {
        // A byte-order mark is one only at the very start.
        if dribbled.at_boundary() && !commented.is_empty() {
            commented.extend_from_slice(COMMENT);
        }
        commented.extend_from_slice(piece);
        dribbled.feed(piece);
    }
    assert_eq!(naive_body::events(&commented), naive_body::events(data));
    for cut in cuts(data.len()) {
        let (left, right) = data.split_at(cut);
        let mut boundary = EventBoundary::new();
        boundary.feed(left);
        assert_eq!(boundary.at_boundary(), naive_body::at_boundary(left), "after {cut} bytes");
        boundary.feed(right);
        assert_eq!(boundary.at_boundary(), naive_body::at_boundary(data), "cut at {cut}");
    }
}
