//! Cost of counting a call and of printing its record: `cargo bench --bench telemetry`.
//!
//! Not here: the ring between worker and writer, and the write itself.

use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use ringgate::base::text::Text;
use ringgate::config::limits;
use ringgate::telemetry::line::Lines;
use ringgate::telemetry::metrics::WorkerMetrics;
use ringgate::telemetry::record::Outcome;
use ringgate::telemetry::record::Record;
use ringgate::telemetry::tally::Tally;
use std::hint::black_box;

/// Eight tools of two servers with differing times, as a busy worker sees them.
fn records() -> Vec<Record> {
    let tools = ["list_issues", "get_issue", "search_code", "create_review", "echo", "fetch", "sum", "run"];
    let (servers, times) = (["github", "search"], 0_u64..);
    let calls = tools.into_iter().flat_map(|tool| servers.map(|server| (tool, server)));
    calls
        .zip(times)
        .map(|((tool, server), time)| Record {
            at_unix_ms: 1_795_254_715_042 + time,
            trace_id: [7; 16],
            principal: Text::new("agent-7"),
            server: Text::new(server),
            method: Text::new("tools/call"),
            target: Text::new(tool),
            revision: Text::new("2026-07-28"),
            outcome: Outcome::Ok,
            status: 200,
            bytes_in: 300,
            bytes_out: 500,
            total_ns: 400_000 + time * 100_000,
            upstream_ns: 390_000,
            own_ns: 7_000 + time * 1_000,
            ..Record::default()
        })
        .collect()
}

fn observe(criterion: &mut Criterion) {
    let records = records();
    let metrics = WorkerMetrics::new(limits::SERIES_MAX);
    let mut tally = Tally::new(&metrics);
    let mut group = criterion.benchmark_group("telemetry");
    group.throughput(Throughput::Elements(records.len() as u64));
    group.bench_function("observe", |bencher| {
        bencher.iter(|| records.iter().for_each(|record| tally.observe(&metrics, black_box(record))));
    });
    let (mut lines, mut out) = (Lines::default(), Vec::with_capacity(64 * 1024));
    group.bench_function("line", |bencher| {
        bencher.iter(|| {
            out.clear();
            records.iter().for_each(|record| lines.write(&mut out, black_box(record)));
        });
    });
    group.finish();
}

criterion_group!(benches, observe);
criterion_main!(benches);
