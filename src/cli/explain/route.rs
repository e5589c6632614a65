//! Where a call that passes would go, and what its server's config makes of it, in words.
//!
//! Not here: what is known of the instances at this moment; a running gateway tells it in `/metrics`.

use crate::cli::explain::subject::Subject;
use crate::config::limits;
use crate::config::plan::FaultKind;
use crate::config::plan::Server;
use crate::config::routing::Sticky;
use crate::config::traffic::Balance;
use crate::config::traffic::Breaker;
use crate::config::traffic::Hedge;
use crate::config::traffic::Pool;
use crate::config::units;
use crate::policy::decide::Asked;
use crate::policy::expression::Patterns;
use crate::policy::routing;
use crate::worker::allowance;
use serde::Serialize;
use std::cell::RefCell;

/// One part of a server's config, and what it means for the call.
#[derive(Serialize)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) says: String,
}

/// Which pool the call is for, where that is not the same for all calls.
pub(super) fn aim(server: &Server, asked: &Asked<'_>, patterns: &RefCell<Patterns>) -> Option<Setting> {
    let routing = &server.routing;
    if routing.is_plain() {
        return None;
    }
    let mut failed = Vec::new();
    let tell = |name: &str| failed.push(name.to_owned());
    let (aim, hooks) = routing::aim(routing, asked, &mut patterns.borrow_mut(), 0, tell);
    let asked_first: Vec<&str> = hooks.of(routing).map(|(rule, _)| &*rule.name).collect();
    let unless = match asked_first.as_slice() {
        [] => String::new(),
        rules => {
            format!(", unless the hook of {} names another: nobody is asked here", rules.join(" or "))
        }
    };
    let pool = server.traffic.pools.get(aim.pool).map_or("", |pool| &pool.name);
    let by_chance = routing.sticky == Sticky::None && !routing.split.is_empty();
    let chance = if by_chance { ", or another of `split` where no `route` names it" } else { "" };
    let handle =
        if aim.handle.is_some() { "; calls with this value of `affinity` stay together" } else { "" };
    let failed = failed.iter().map(|name| format!("; {name} cannot be evaluated"));
    let says = format!("pool {pool}{unless}{chance}{handle}{}", failed.collect::<String>());
    Some(Setting { name: "this call".into(), says })
}

pub(super) fn settings(server: &Server, subject: &Subject) -> Vec<Setting> {
    let traffic = &server.traffic;
    let pools = traffic.pools.iter().enumerate().map(|(index, pool)| {
        (format!("pool {}", pool.name), format!("{}: {}", role(server, index), instances(server, pool)))
    });
    let health = traffic.health.map(|health| {
        let (every, within) = (units::show_ms(health.interval_ms), units::show_ms(health.timeout_ms));
        format!(
            "asked every {every}, to answer in {within}; out after {} failures, back after {} successes",
            health.unhealthy, health.healthy
        )
    });
    let adaptive = traffic.adaptive.map(|adaptive| {
        format!(
            "{} to {} calls at once, as many as keep p{} below {}",
            adaptive.min,
            adaptive.max,
            adaptive.percentile,
            units::show_ms(adaptive.target_ms)
        )
    });
    let hold = match traffic.hold {
        true => "hold: after its 429 calls are refused here until its Retry-After is over",
        false => "pass: its 429 goes to the caller",
    };
    let slow_start = traffic.slow_start_ms.map(|window_ms| {
        let whole = units::show_ms(window_ms);
        format!(
            "an instance that comes back begins with a tenth of its share, and has all of it after {whole}"
        )
    });
    let off = |part: Option<String>| part.unwrap_or_else(|| "off".into());
    let parts = [
        ("balance", balance(traffic.balance).into()),
        ("slowStart", off(slow_start)),
        ("health", off(health)),
        ("breaker", off(traffic.breaker.map(breaker))),
        ("adaptive", off(adaptive)),
        ("upstreamLimit", hold.into()),
        ("timeout", timeout(server, subject)),
        ("retry", retry(server, subject)),
        ("faults", faults(server, subject)),
    ];
    let parts = parts.into_iter().map(|(name, says)| (name.to_owned(), says));
    pools.chain(parts).map(|(name, says)| Setting { name, says }).collect()
}

fn role(server: &Server, index: usize) -> String {
    match (index, server.traffic.failover) {
        (0, _) if server.routing.split.is_empty() && server.routing.rules.is_empty() => {
            "gets the calls".into()
        }
        (0, _) if server.routing.split.is_empty() => "gets what `route` sends nowhere else".into(),
        (index, Some(failover)) if index == failover && index > 0 => {
            "gets them while no instance of the chosen one can".into()
        }
        (index, _) => {
            let percent = server.routing.split.iter().find(|share| share.pool == index);
            let percent = percent.map(|share| format!("gets {} % by `split`", share.percent));
            percent.unwrap_or_else(|| "gets what `route` sends to it".into())
        }
    }
}

fn instances(server: &Server, pool: &Pool) -> String {
    let members = server.instances.iter().zip(&server.traffic.weights).skip(pool.first).take(pool.count);
    let shown = members.map(|(endpoint, weight)| format!("{} (weight {weight})", endpoint.label));
    shown.collect::<Vec<_>>().join(", ")
}

const fn balance(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "roundRobin: each in turn",
        Balance::Weighted => "weighted: in turn, in proportion to their weights",
        Balance::LeastConnections => "leastConnections: the one with the fewest calls in flight",
        Balance::TwoChoices => "twoChoices: of two random ones, that with fewer calls in flight",
        Balance::Resource => "resource: in proportion to what they report to be free",
    }
}

fn breaker(breaker: Breaker) -> String {
    let each = if breaker.per_tool { "; one more for each tool" } else { "" };
    format!(
        "opens when {} of the last {} calls failed, from {} calls on; for {}, doubling up to {}; then {} probes{each}",
        percent(breaker.failure_permille * 1_000),
        breaker.window,
        breaker.min_calls,
        units::show_ms(breaker.open_ms),
        units::show_ms(breaker.max_open_ms),
        breaker.probes
    )
}

fn timeout(server: &Server, subject: &Subject) -> String {
    let times = allowance::of_tool(server, subject.tool());
    let shown = |ms: u64| if ms == limits::NEVER_MS { "none".into() } else { units::show_ms(ms) };
    let forward = if server.forward_deadline { "; what is left is told to the server" } else { "" };
    format!(
        "connect {}, first byte {}, silence {}, whole {}; of event streams silence {}, whole {}{forward}",
        shown(times.connect_ms),
        shown(times.first_byte_ms),
        shown(times.idle_ms),
        shown(times.total_ms),
        shown(times.stream_idle_ms),
        shown(times.stream_total_ms),
    )
}

fn retry(server: &Server, subject: &Subject) -> String {
    let retry = server.traffic.retry;
    if !subject.tool().is_some_and(|tool| server.is_idempotent(tool)) {
        let unless =
            if server.needs_hints() { ", unless the server lists it with `idempotentHint`" } else { "" };
        return format!("once it is sent, never again: `idempotent` does not name it{unless}");
    }
    let hedge = match retry.hedge {
        Hedge::Off => String::new(),
        Hedge::P95 => "; a second copy where it is slower than 95 of 100 (not over TLS)".into(),
        Hedge::AfterMs(millis) => format!("; a second copy after {} (not over TLS)", units::show_ms(millis)),
    };
    let budget = percent(retry.budget_permille * 1_000);
    format!("idempotent: again up to {} times, {budget} of all calls together{hedge}", retry.max)
}

fn faults(server: &Server, subject: &Subject) -> String {
    let own = server.faults.iter().filter(|fault| fault.is_for(&subject.name));
    let shown = own.map(|fault| {
        let share = percent(fault.ratio_ppm);
        match fault.what {
            FaultKind::DelayMs(millis) => format!("{share} sent {} later", units::show_ms(millis)),
            FaultKind::Status(status) => format!("{share} answered {status}"),
            FaultKind::Cut => format!("{share} cut after the head of the answer"),
        }
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    if shown.is_empty() { "none".into() } else { shown }
}

/// Millionths as a percentage, without digits that say nothing.
fn percent(millionths: u32) -> String {
    let text = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        for (millionths, expected) in [
            (500_000, "50 %"),
            (1_000_000, "100 %"),
            (1_000, "0.1 %"),
            (1, "0.0001 %"),
            (0, "0 %"),
            (125_000, "12.5 %"),
        ] {
            assert_eq!(percent(millionths), expected);
        }
    }
}
