//! What the MCP layer adds to each call: reading the envelope and scanning the answer.
//!
//! Not here: assertions. `docs/PERFORMANCE.md` has the targets; this prints what is.

use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use ringgate::mcp::answer::AnswerScan;
use ringgate::mcp::answer::Form;
use ringgate::mcp::envelope::HeaderValue;
use ringgate::mcp::envelope::McpHeaders;
use ringgate::mcp::envelope::inspect;
use ringgate::mcp::envelope::raw_id;
use ringgate::mcp::scratch::Scratch;
use std::hint::black_box;

const HEADERS: McpHeaders<'static> = McpHeaders {
    protocol_version: HeaderValue::One(b"2026-07-28"),
    method: HeaderValue::One(b"tools/call"),
    name: HeaderValue::One(b"search_documents"),
    session: false,
};

/// A `tools/call` of revision 2026-07-28 with these arguments.
fn call(arguments: &str) -> Vec<u8> {
    let head =
        r#"{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{"name":"search_documents","arguments":"#;
    let meta = concat!(
        r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
        r#""io.modelcontextprotocol/clientCapabilities":{},"progressToken":12}}}"#
    );
    [head, arguments, meta].concat().into_bytes()
}

fn objects(bytes: usize) -> String {
    let mut out = String::from("[0");
    while out.len() < bytes {
        out.push_str(r#",{"path":"src/lib.rs","line":120,"text":"fn main"}"#);
    }
    out.push(']');
    out
}

/// An answer of about so many bytes: one text block.
fn answer(bytes: usize) -> String {
    let text = "The quick brown fox. ".repeat(bytes / 21);
    let text = &text[..bytes.saturating_sub(105).min(text.len())];
    format!(
        r#"{{"jsonrpc":"2.0","id":12,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":false,"resultType":"complete"}}}}"#
    )
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inspect");
    let small = call(r#"{"query":"quarterly revenue by region","limit":10,"offset":0}"#);
    assert!((280..340).contains(&small.len()), "{}", small.len());
    let bodies = [
        ("300B", small),
        ("4KB-objects", call(&objects(3_700))),
        ("16KB-objects", call(&objects(16_000))),
        ("16KB-text", call(&format!("{{\"text\":\"{}\"}}", "lorem ipsum ".repeat(1_333)))),
        ("1MB-objects-skipper", call(&objects(1_000_000))),
    ];
    for (name, body) in &bodies {
        let mut scratch = Scratch::new();
        assert!(inspect(&mut scratch, body, &HEADERS).is_ok());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| inspect(&mut scratch, black_box(body), black_box(&HEADERS)));
        });
    }
    group.throughput(Throughput::Bytes(bodies[0].1.len() as u64));
    group.bench_function("raw_id-300B", |bencher| bencher.iter(|| raw_id(black_box(&bodies[0].1))));
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    let json = answer(500);
    let stream = format!("event: message\ndata: {json}\n\n");
    let large = answer(16_000);
    for (name, form, body) in [
        ("500B-json", Form::Json, &json),
        ("500B-sse", Form::EventStream, &stream),
        ("16KB-json", Form::Json, &large),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut scan = AnswerScan::new(form);
                scan.feed(black_box(body.as_bytes()));
                scan.facts()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests, answers);
criterion_main!(benches);
