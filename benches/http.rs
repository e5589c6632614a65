//! Cost of the HTTP codecs on the heads of an ordinary call: `cargo bench --bench http`.
//!
//! Not here: sockets, whole calls (that is `loadtest compare`).
#![expect(clippy::expect_used, reason = "a benchmark whose input is refused has nothing to measure")]

use criterion::BatchSize;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use ringgate::http::chunked::ChunkLimits;
use ringgate::http::chunked::Decoder;
use ringgate::http::chunked::Side;
use ringgate::http::fields::Fields;
use ringgate::http::fields::classify;
use ringgate::http::request::HeadLimits;
use ringgate::http::request::HeadScan;
use ringgate::http::request::Version;
use ringgate::http::request::parse_request;
use ringgate::http::response::parse_response;
use ringgate::http::sse::EventBoundary;
use ringgate::http::write;
use std::hint::black_box;
use std::mem::MaybeUninit;

/// What an SDK client of revision 2026-07-28 sends: about 600 bytes, 12 fields.
const REQUEST: &[u8] = b"POST /mcp/files HTTP/1.1\r\n\
Host: gateway.internal.example:8080\r\n\
Accept: application/json, text/event-stream\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Connection: keep-alive\r\n\
User-Agent: python-httpx/0.28.1\r\n\
Authorization: Bearer rg_3vT0c6qDkW2bN8sJx5mY9pLhZ4aF7eRu1gQoVtXiBnMd\r\n\
MCP-Protocol-Version: 2026-07-28\r\n\
Mcp-Method: tools/call\r\n\
Mcp-Name: read_text_file\r\n\
Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
Content-Type: application/json\r\n\
Content-Length: 324\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
Content-Type: application/json\r\n\
Cache-Control: no-cache\r\n\
X-Powered-By: Express\r\n\
Date: Sat, 22 Aug 2026 10:00:00 GMT\r\n\
Connection: keep-alive\r\n\
Keep-Alive: timeout=5\r\n\
Content-Length: 512\r\n\r\n";

const LIMITS: HeadLimits = HeadLimits { head_bytes: 32 * 1024, target_bytes: 8 * 1024, fields: 128 };

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("head");
    let mut fields = Fields::default();
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("parse request", |b| {
        b.iter(|| parse_request(black_box(REQUEST), &mut HeadScan::default(), LIMITS, &mut fields));
    });
    group.bench_function("httparse alone", |b| {
        b.iter(|| {
            let mut room = [const { MaybeUninit::uninit() }; 128];
            let mut request = httparse::Request::new(&mut []);
            request.parse_with_uninit_headers(black_box(REQUEST), &mut room).map(|_| request.headers.len())
        });
    });
    group.bench_function("classify names", |b| {
        let names: Vec<&[u8]> = fields.iter().map(|field| field.name.of(REQUEST)).collect();
        b.iter(|| names.iter().map(|name| classify(black_box(name)) as usize).sum::<usize>());
    });
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    group.bench_function("parse answer", |b| {
        b.iter(|| parse_response(black_box(ANSWER), &mut HeadScan::default(), LIMITS, false, &mut fields));
    });
    group.finish();
}

fn written_heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    let mut out = Vec::with_capacity(4096);
    let mut fields = Fields::default();
    let head = parse_request(REQUEST, &mut HeadScan::default(), LIMITS, &mut fields);
    let head = head.expect("valid").expect("whole");
    let line = write::RequestLine {
        method: head.method_text.of(REQUEST),
        target: b"/mcp",
        authority: b"files.internal.example:9000",
    };
    let ours: [(&[u8], &[u8]); 1] = [(b"Authorization", b"Bearer upstream-token")];
    group.bench_function("request head", |b| {
        b.iter(|| {
            out.clear();
            let kept = black_box(&fields).iter().filter(|field| !write::drops_upstream(field));
            write::request_head(&mut out, line, REQUEST, kept, ours.iter().copied(), Some(324));
            out.len()
        });
    });
    parse_response(ANSWER, &mut HeadScan::default(), LIMITS, false, &mut fields).expect("valid");
    let answer = write::AnswerHead {
        status: 200,
        body: write::BodyForm::Length(512),
        close: false,
        version: Version::Http11,
    };
    group.bench_function("answer head", |b| {
        b.iter(|| {
            out.clear();
            let kept = black_box(&fields).iter().filter(|field| !write::drops_downstream(field));
            write::answer_head(&mut out, answer, ANSWER, kept, write::Own { lines: b"", nanos: Some(7_654) });
            out.len()
        });
    });
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let limits =
        ChunkLimits { line_bytes: 1024, extension_bytes: 16384, trailer_bytes: 8192, trailer_fields: 32 };
    let mut group = c.benchmark_group("body");
    for (name, size) in [("one chunk of 512 B", 512), ("one chunk of 16 KiB", 16 * 1024)] {
        let payload = vec![b'x'; size];
        let body = [format!("{size:x}\r\n").as_bytes(), &payload, b"\r\n0\r\n\r\n"].concat();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(name, |b| {
            let decode = |mut buf: Vec<u8>| {
                Decoder::new(limits, Side::Answer).decode(&mut buf).expect("valid").payload
            };
            b.iter_batched(|| body.clone(), decode, BatchSize::SmallInput);
        });
    }
    group.bench_function("event boundary of 16 KiB", |b| {
        let stream = b"data: {\"progress\":1}\n\n".repeat(745);
        let mut boundary = EventBoundary::new();
        b.iter(|| {
            boundary.feed(black_box(&stream));
            boundary.at_boundary()
        });
    });
    group.finish();
}

criterion_group!(benches, heads, written_heads, bodies);
criterion_main!(benches);
