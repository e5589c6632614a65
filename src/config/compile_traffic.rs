//! What a server says about its traffic, with defaults, and whether its parts fit together.
//!
//! Not here: pools (`compile_pools`), the rest of a server (`compile_server`).

use crate::config::address::Url;
use crate::config::compile_pools::Pools;
use crate::config::file;
use crate::config::file::UpstreamLimit;
use crate::config::file_traffic;
use crate::config::file_traffic::OrOff;
use crate::config::file_traffic::Target;
use crate::config::limits;
use crate::config::pattern::Pattern;
use crate::config::plan::FaultKind;
use crate::config::plan::InjectedFault;
use crate::config::reader::Reader;
use crate::config::traffic::Adaptive;
use crate::config::traffic::Balance;
use crate::config::traffic::Breaker;
use crate::config::traffic::Health;
use crate::config::traffic::Hedge;
use crate::config::traffic::Pool;
use crate::config::traffic::Retry;
use crate::config::traffic::Traffic;

/// What was left out is the default.
pub fn traffic(reader: &mut Reader<'_>, server: &file::Server, pools: Pools) -> Traffic {
    let Pools { urls, weights, pools, failover } = pools;
    let default = file_traffic::Retry::default();
    let written = server.retry.as_ref().unwrap_or(&default);
    let hedge = hedge(reader, written, &urls);
    let balance = server.balance.unwrap_or_default();
    Traffic {
        balance,
        slow_start_ms: slow_start(reader, server, balance, &pools),
        weights: weights.into(),
        pools,
        failover,
        health: match &server.health {
            None | Some(OrOff::Off) => None,
            Some(OrOff::On(written)) => Some(health(written)),
        },
        breaker: match &server.breaker {
            Some(OrOff::Off) => None,
            None => Some(breaker(reader, &file_traffic::Breaker::default())),
            Some(OrOff::On(written)) => Some(breaker(reader, written)),
        },
        adaptive: match &server.adaptive {
            None | Some(OrOff::Off) => None,
            Some(OrOff::On(written)) => Some(adaptive(reader, written)),
        },
        retry: Retry {
            max: written.max.unwrap_or(limits::RETRIES_DEFAULT),
            budget_permille: written.budget.unwrap_or(limits::RETRY_BUDGET_PERMILLE_DEFAULT),
            hedge,
        },
        hold: server.upstream_limit == Some(UpstreamLimit::Hold),
    }
}

fn slow_start(
    reader: &mut Reader<'_>,
    server: &file::Server,
    balance: Balance,
    pools: &[Pool],
) -> Option<u64> {
    let Some(written) = &server.slow_start else {
        return balance.compares().then_some(limits::SLOW_START_MS_DEFAULT);
    };
    let OrOff::On(window_ms) = written.value else { return None };
    if pools.iter().all(|pool| pool.count < 2) {
        let what = "`slowStart` has no effect: no pool has two instances";
        reader.warn(written.place, what, "Remove it.");
    }
    Some(window_ms)
}

/// Whether an answer has begun cannot be seen over TLS without reading it, so that no call is hedged of a server which has
/// an instance that is reached so: a copy that went there would win before it is answered.
fn hedge(reader: &mut Reader<'_>, written: &file_traffic::Retry, urls: &[Url]) -> Hedge {
    let Some(hedge) = written.hedge.as_ref().filter(|hedge| hedge.value != Hedge::Off) else {
        return Hedge::Off;
    };
    if !urls.iter().any(|url| url.tls) {
        return hedge.value;
    }
    reader.warn(
        hedge.place,
        "`hedge` has no effect: calls of a server with `https://` instances are not hedged",
        "Write `hedge: off`, or reach them by `http://` in a network that you trust.",
    );
    Hedge::Off
}

/// Patterns of `timeout.tools`, the one with the longest literal part first.
pub fn tool_totals(written: &[(Pattern, u64)]) -> Vec<(Pattern, u64)> {
    let mut totals = written.to_vec();
    totals.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.literal_bytes()));
    totals
}

/// Warns once, of the first: nobody should meet them by surprise.
pub fn faults(reader: &mut Reader<'_>, written: &[file_traffic::Fault]) -> Vec<InjectedFault> {
    if let Some(first) = written.first() {
        let what = "calls are made to fail on purpose: only `run --allow-faults` starts with this";
        reader.warn(first.place, what, "Remove `faults` where this is not meant.");
    }
    // A fault that is not whole was reported where it was read.
    let fault = |fault: &file_traffic::Fault| {
        let what = match (fault.delay, fault.status) {
            (Some(ms), _) => FaultKind::DelayMs(ms),
            (None, Some(status)) => FaultKind::Status(status),
            (None, None) => FaultKind::Cut,
        };
        Some(InjectedFault { tools: fault.tools.clone(), ratio_ppm: fault.ratio?, what })
    };
    written.iter().filter_map(fault).collect()
}

fn health(written: &file_traffic::Health) -> Health {
    Health {
        interval_ms: written.interval.unwrap_or(limits::HEALTH_INTERVAL_MS_DEFAULT),
        timeout_ms: written.timeout.unwrap_or(limits::HEALTH_TIMEOUT_MS_DEFAULT),
        unhealthy: written.unhealthy.unwrap_or(limits::HEALTH_UNHEALTHY_DEFAULT),
        healthy: written.healthy.unwrap_or(limits::HEALTH_HEALTHY_DEFAULT),
    }
}

fn breaker(reader: &mut Reader<'_>, written: &file_traffic::Breaker) -> Breaker {
    let window = written.window.unwrap_or(limits::BREAKER_WINDOW_DEFAULT);
    let open_ms = written.open.unwrap_or(limits::BREAKER_OPEN_MS_DEFAULT);
    if let Some(calls) = written.min_calls.as_ref().filter(|calls| calls.value > window) {
        let what = format!("`minCalls` is above `window` ({window}): it would never open");
        reader.problem(calls.place, what, "Lower it, or raise `window`.");
    }
    if let Some(longest) = written.max_open.as_ref().filter(|longest| longest.value < open_ms) {
        reader.problem(longest.place, "`maxOpen` is below `open`", "Raise it, or lower `open`.");
    }
    let min_calls = written.min_calls.as_ref().map(|calls| calls.value);
    let max_open_ms = written.max_open.as_ref().map(|longest| longest.value);
    Breaker {
        window,
        failure_permille: written.failure_ratio.unwrap_or(limits::BREAKER_FAILURE_PERMILLE_DEFAULT),
        min_calls: min_calls.unwrap_or(limits::BREAKER_CALLS_MIN_DEFAULT.min(window)),
        open_ms,
        max_open_ms: max_open_ms.unwrap_or(limits::BREAKER_OPEN_MS_MAX_DEFAULT.max(open_ms)),
        probes: written.probes.unwrap_or(limits::BREAKER_PROBES_DEFAULT),
        per_tool: written.per_tool.unwrap_or(false),
    }
}

fn adaptive(reader: &mut Reader<'_>, written: &file_traffic::Adaptive) -> Adaptive {
    let min = written.min.as_ref().map(|calls| calls.value);
    let max = written.max.as_ref().map(|calls| calls.value);
    if let (Some(calls), Some(max)) = (&written.min, max)
        && calls.value > max
    {
        reader.problem(calls.place, format!("`min` is above `max` ({max})"), "Lower it, or raise `max`.");
    }
    let max_calls = max.unwrap_or(limits::ADAPTIVE_CALLS_MAX_DEFAULT.max(min.unwrap_or(0)));
    let min_calls = min.unwrap_or(limits::ADAPTIVE_CALLS_MIN_DEFAULT.min(max_calls));
    let usual =
        Target { percentile: limits::ADAPTIVE_PERCENTILE_DEFAULT, ms: limits::ADAPTIVE_TARGET_MS_DEFAULT };
    let target = written.target.unwrap_or(usual);
    Adaptive { min: min_calls, max: max_calls, percentile: target.percentile, target_ms: target.ms }
}
