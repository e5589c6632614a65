//! The tree to what a server says about its traffic: pools, health, breaker, retries, faults.
//!
//! Not here: the rest of a server (`read_server`), and what the values mean together (`compile_traffic`).

use crate::config::file;
use crate::config::file::UpstreamLimit;
use crate::config::file_traffic::Adaptive;
use crate::config::file_traffic::Breaker;
use crate::config::file_traffic::Fault;
use crate::config::file_traffic::Health;
use crate::config::file_traffic::OrOff;
use crate::config::file_traffic::Pool;
use crate::config::file_traffic::Retry;
use crate::config::file_traffic::Target;
use crate::config::limits;
use crate::config::pattern::Pattern;
use crate::config::read_server;
use crate::config::read_server::TIME;
use crate::config::reader;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use crate::config::strangers;
use crate::config::table::Table;
use crate::config::traffic::Balance;
use crate::config::traffic::Hedge;
use crate::config::tree::Entry;
use crate::config::tree::Node;
use crate::config::tree::Value;
use crate::config::units;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Digits after the point of a ratio that is kept in thousandths, and in millionths.
const PERMILLE: u32 = 3;
const PPM: u32 = 6;

/// Everything of this file, into `server`.
pub fn traffic(reader: &mut Reader<'_>, table: &mut Table<'_>, server: &mut file::Server) {
    let balances = [
        ("roundRobin", Balance::RoundRobin),
        ("weighted", Balance::Weighted),
        ("leastConnections", Balance::LeastConnections),
        ("twoChoices", Balance::TwoChoices),
        ("resource", Balance::Resource),
    ];
    server.balance = table.take("balance").and_then(|node| reader.choice(node, &balances));
    let cure = "It is `off`, or a duration such as `10s`.";
    server.slow_start = table.take("slowStart").and_then(|node| reader.parsed(node, cure, slow_start));
    server.pools = table.take("pools").map(|node| pools(reader, node)).unwrap_or_default();
    server.failover = table.take("failover").and_then(|node| reader.text(node));
    server.health = table.take("health").and_then(|node| or_off(reader, node, health));
    server.breaker = table.take("breaker").and_then(|node| or_off(reader, node, breaker));
    server.adaptive = table.take("adaptive").and_then(|node| or_off(reader, node, adaptive));
    server.retry = table.take("retry").and_then(|node| retry(reader, node));
    server.idempotent = table.take("idempotent").map(|node| tool_names(reader, node)).unwrap_or_default();
    let words = [("pass", UpstreamLimit::Pass), ("hold", UpstreamLimit::Hold)];
    server.upstream_limit = table.take("upstreamLimit").and_then(|node| reader.choice(node, &words));
    if let Some(items) = table.take("faults").and_then(|node| reader.list(node)) {
        if let Some(item) = items.get(limits::FAULTS_MAX) {
            reader.problem(item.place, format!("more than {} faults", limits::FAULTS_MAX), "");
        }
        server.faults =
            items.iter().take(limits::FAULTS_MAX).filter_map(|item| fault(reader, item)).collect();
    }
}

fn slow_start(text: &str) -> Option<OrOff<u64>> {
    if reader::is_off(text) {
        return Some(OrOff::Off);
    }
    units::duration_ms(text).filter(|ms| TIME.contains(ms)).map(OrOff::On)
}

/// `timeout.tools`.
pub fn tool_totals(reader: &mut Reader<'_>, node: &Node) -> Vec<(Pattern, u64)> {
    let Some(entries) = reader.entries(node) else { return Vec::new() };
    if let Some(entry) = entries.get(limits::NAMES_MAX) {
        let what = format!("more than {} names", limits::NAMES_MAX);
        reader.problem(entry.key_place, what, "Use `*`, or split it.");
        return Vec::new();
    }
    let total = |entry: &Entry| {
        let total = reader.duration(&entry.value, TIME)?;
        Some((Pattern::new(&entry.key), total.value))
    };
    entries.into_iter().filter_map(total).collect()
}

fn or_off<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    read: fn(&mut Reader<'_>, &Node) -> Option<T>,
) -> Option<OrOff<T>> {
    if matches!(node.value, Value::Scalar { .. }) && !node.is_null() {
        let off = |text: &str| reader::is_off(text).then_some(OrOff::Off);
        return reader.parsed(node, "It is `off`, or keys and values.", off).map(|off| off.value);
    }
    read(reader, node).map(OrOff::On)
}

fn number<N: FromStr + PartialOrd + Display>(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    key: &'static str,
    range: RangeInclusive<N>,
) -> Option<Located<N>> {
    table.take(key).and_then(|node| reader.number(node, range))
}

fn pools(reader: &mut Reader<'_>, node: &Node) -> Vec<(Located<String>, Pool)> {
    let Some(entries) = reader.entries(node) else { return Vec::new() };
    if entries.is_empty() {
        reader.problem(node.place, "`pools` is empty", "Name at least one: `{NAME: {url: …}}`.");
    }
    let pool = |entry: &Entry| {
        let mut table = reader.table(&entry.value, "mcpServers.NAME.pools.NAME")?;
        let reported = table.has("url") || table.has("instances");
        let url = table.take("url").and_then(|node| reader.text(node));
        let path = "mcpServers.NAME.pools.NAME.instances";
        let instances = table.take("instances").map(|node| read_server::instances(reader, node, path));
        table.close(reader, &strangers::NONE);
        let name = Located { value: entry.key.clone(), place: entry.key_place, hidden: false };
        Some((name, Pool { url, instances: instances.unwrap_or_default(), reported }))
    };
    entries.into_iter().filter_map(pool).collect()
}

fn health(reader: &mut Reader<'_>, node: &Node) -> Option<Health> {
    let mut table = reader.table(node, "mcpServers.NAME.health")?;
    let outcomes = 1..=limits::HEALTH_OUTCOMES_MAX;
    let health = Health {
        interval: read_server::duration(reader, &mut table, "interval", TIME),
        timeout: read_server::duration(reader, &mut table, "timeout", TIME),
        unhealthy: number(reader, &mut table, "unhealthy", outcomes.clone()).map(|count| count.value),
        healthy: number(reader, &mut table, "healthy", outcomes).map(|count| count.value),
    };
    table.close(reader, &strangers::NONE);
    Some(health)
}

fn breaker(reader: &mut Reader<'_>, node: &Node) -> Option<Breaker> {
    let mut table = reader.table(node, "mcpServers.NAME.breaker")?;
    let calls = 1..=limits::BREAKER_WINDOW_MAX;
    let breaker = Breaker {
        window: number(reader, &mut table, "window", calls.clone()).map(|count| count.value),
        failure_ratio: table.take("failureRatio").and_then(|node| reader.ratio(node, PERMILLE, 1)),
        min_calls: number(reader, &mut table, "minCalls", calls),
        open: read_server::duration(reader, &mut table, "open", TIME),
        max_open: table.take("maxOpen").and_then(|node| reader.duration(node, TIME)),
        probes: number(reader, &mut table, "probes", 1..=limits::BREAKER_PROBES_MAX).map(|count| count.value),
        per_tool: table.take("perTool").and_then(|node| reader.flag(node)),
    };
    table.close(reader, &strangers::NONE);
    Some(breaker)
}

fn adaptive(reader: &mut Reader<'_>, node: &Node) -> Option<Adaptive> {
    let mut table = reader.table(node, "mcpServers.NAME.adaptive")?;
    let calls = 1..=limits::ADAPTIVE_CALLS_MAX;
    let cure = "It is a percentile from p50 to p99 and a duration: `p95<250ms`.";
    let adaptive = Adaptive {
        min: number(reader, &mut table, "min", calls.clone()),
        max: number(reader, &mut table, "max", calls),
        target: table
            .take("target")
            .and_then(|node| reader.parsed(node, cure, target))
            .map(|text| text.value),
    };
    table.close(reader, &strangers::NONE);
    Some(adaptive)
}

fn target(text: &str) -> Option<Target> {
    let (percentile, latency) = text.split_once('<')?;
    let percentile = percentile.trim_end().strip_prefix('p')?.parse().ok()?;
    let ms = units::duration_ms(latency.trim_start())?;
    let fits = (50..=99).contains(&percentile) && TIME.contains(&ms);
    fits.then_some(Target { percentile, ms })
}

fn retry(reader: &mut Reader<'_>, node: &Node) -> Option<Retry> {
    let mut table = reader.table(node, "mcpServers.NAME.retry")?;
    let cure = "It is `off`, `p95`, or a duration such as `50ms`.";
    let retry = Retry {
        max: number(reader, &mut table, "max", 0..=limits::RETRIES_MAX).map(|count| count.value),
        budget: table.take("budget").and_then(|node| reader.ratio(node, PERMILLE, 0)),
        hedge: table.take("hedge").and_then(|node| reader.parsed(node, cure, hedge)),
    };
    table.close(reader, &strangers::NONE);
    Some(retry)
}

fn hedge(text: &str) -> Option<Hedge> {
    match text {
        "p95" => Some(Hedge::P95),
        _ if reader::is_off(text) => Some(Hedge::Off),
        _ => units::duration_ms(text).filter(|ms| TIME.contains(ms)).map(Hedge::AfterMs),
    }
}

/// Names of one server's tools, so without the server.
fn tool_names(reader: &mut Reader<'_>, node: &Node) -> Vec<Pattern> {
    reader.names(node).iter().map(|name| Pattern::new(&name.value)).collect()
}

fn fault(reader: &mut Reader<'_>, node: &Node) -> Option<Fault> {
    let mut table = reader.table(node, "mcpServers.NAME.faults")?;
    let kinds = ["cut", "delay", "status"].iter().filter(|kind| table.has(kind)).count();
    let has_ratio = table.has("ratio");
    let tools = table.take("tools").map(|node| tool_names(reader, node));
    let fault = Fault {
        place: node.place,
        tools: tools.unwrap_or_else(|| vec![Pattern::new("*")]),
        ratio: table.take("ratio").and_then(|node| reader.ratio(node, PPM, 1)),
        delay: read_server::duration(reader, &mut table, "delay", TIME),
        status: number(reader, &mut table, "status", 400..=599).map(|status| status.value),
        cut: table.take("cut").and_then(|node| reader.choice(node, &[("true", true)])).unwrap_or(false),
    };
    table.close(reader, &strangers::NONE);
    if !has_ratio {
        reader.problem(node.place, "a fault has no `ratio`", "Write the share of calls: `ratio: 0.01`.");
    }
    if kinds != 1 {
        let cure = match kinds {
            0 => "Write `delay: 2s`, `status: 503` or `cut: true`.",
            _ => "Write one fault for each.",
        };
        reader.problem(node.place, "a fault is exactly one of `delay`, `status` and `cut`", cure);
    }
    Some(fault)
}
