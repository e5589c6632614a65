//! What one list of 300 tools costs that is looked at for its caller, whose rights are remembered.
//!
//! Not here: assertions, and the rules themselves. `docs/PERFORMANCE.md` has the target; this prints what is.

use ahash::HashMap;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use ringgate::mcp::listing::Entry;
use ringgate::mcp::listing::Screen;
use ringgate::mcp::listing::screen;
use std::hint::black_box;

const TOOLS: usize = 300;

/// A tool of about 600 bytes, as servers with schemas have them.
fn tool(number: usize) -> String {
    let text = |text: &str| format!(r#"{{"type":"string","description":"{text}"}}"#);
    let properties = format!(
        r#""query":{},"limit":{{"type":"integer","minimum":1,"maximum":100,"default":10}},"path":{}"#,
        text("What to look for"),
        text("Only below this folder")
    );
    format!(
        r#"{{"name":"tool_{number}_search_documents","title":"Search documents {number}","description":"Searches the documents of the workspace for a text, and gives back the matching passages with their places. Use it before you answer questions about the workspace.","inputSchema":{{"type":"object","properties":{{{properties}}},"required":["query"],"additionalProperties":false}},"annotations":{{"readOnlyHint":true,"openWorldHint":false}}}}"#
    )
}

fn lists(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("list");
    let tools: Vec<String> = (0..TOOLS).map(tool).collect();
    let message = format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"ttlMs":60000,"cacheScope":"public","tools":[{}]}}}}"#,
        tools.join(",")
    );
    let mut out = Vec::with_capacity(message.len());
    group.throughput(Throughput::Bytes(message.len() as u64));
    // One in so many is hidden.
    for (name, one_in) in [("300-all-seen", TOOLS + 1), ("300-third-hidden", 3)] {
        let seen: HashMap<String, bool> = (0..TOOLS)
            .map(|number| (format!("tool_{number}_search_documents"), number % one_in != one_in - 1))
            .collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut keeps = |entry: &Entry<'_>| seen[entry.name];
                let look = &mut Screen { modern: true, hides_tasks: false, keeps: &mut keeps };
                screen(black_box(message.as_bytes()), look, &mut out)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lists);
criterion_main!(benches);
