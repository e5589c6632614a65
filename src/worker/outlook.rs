//! What the head of an answer says about its server beyond this call: load reports and limits of its own.
//!
//! Not here: outcomes (`passage`), and the answer itself, which passes as it came.

use crate::base::clock;
use crate::config::limits;
use crate::config::plan::EraChoice;
use crate::config::traffic::Balance;
use crate::config::traffic::Hedge;
use crate::handoff::Asked;
use crate::http::fields::Known;
use crate::http::fields::Single;
use crate::mcp::envelope::CallKind;
use crate::route::load;
use crate::telemetry::family::Family;
use crate::worker::Worker;
use crate::worker::passage::Way;
use crate::worker::state::Exchange;
use std::sync::Arc;

/// What a server means that says 429 and not for how long.
const HOLD_MS: u64 = 1_000;

/// Takes over what concerns later calls. `source` is what the fields of the answer are spans of.
pub fn heed(worker: &Worker, exchange: &Exchange, status: u16, source: &[u8]) {
    let Some(passage) = &exchange.passage else { return };
    let way = passage.way();
    if way.traffic.retry.hedge == Hedge::P95 {
        way.latencies.observe(exchange.upstream_ended.nanos_since(exchange.upstream_began));
    }
    let value = |known| match exchange.answer_fields.single(known) {
        Single::One(span) => Some(span.of(source)),
        Single::Missing | Single::Twice => None,
    };
    if way.traffic.balance == Balance::Resource
        && let (Some(cells), Some(load)) =
            (passage.cells(), value(Known::EndpointLoadMetrics).and_then(load::parse))
    {
        cells.load.report(load, clock::now());
    }
    if status == 400 {
        doubt(worker, exchange, way);
    }
    if status == 429 {
        let labels = [&*way.server, exchange.record.principal.as_str()];
        worker.metrics().count(Family::UpstreamLimited, &labels, 1);
        if way.traffic.hold {
            let wall_ms = worker.wall_millis(exchange.upstream_ended);
            let asked_ms = value(Known::RetryAfter).and_then(|text| wait_ms(text, wall_ms));
            let hold_ms = asked_ms.unwrap_or(HOLD_MS).min(limits::TIMEOUT_MS_MAX);
            way.cells.hold.hold(clock::now().plus_millis(hold_ms));
        }
    }
}

/// A server that was replaced by one of another era refuses so: control asks it again.
pub fn doubt(worker: &Worker, exchange: &Exchange, way: &Way) {
    let Some(call) = exchange.call.filter(|call| call.kind == CallKind::Request) else { return };
    let now = worker.coarse_now();
    let is_open = worker.adopt().find(&way.server).is_some_and(|one| one.config().era == EraChoice::Auto);
    if is_open && now >= way.doubted.get().plus_millis(limits::ERA_RETRY_MS) {
        way.doubted.set(now);
        worker.tell(Asked::Era { server: Arc::clone(&way.server), client: call.era, doubted: true });
    }
}

/// What `Retry-After` asks for (RFC 9110 section 10.2.3): seconds, or a date.
fn wait_ms(value: &[u8], now_unix_ms: u64) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Longer ones are not meant.
        return text.get(..9).unwrap_or(text).parse::<u64>().ok().map(|seconds| seconds * 1_000);
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond();
    Some(u64::try_from(date).ok()?.saturating_sub(now_unix_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        let now = 1_445_412_420_500;
        let table = [
            ("120", Some(120_000)),
            ("0", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(59_500)),
            ("Wed, 21 Oct 2015 07:20:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ];
        for (text, expected) in table {
            assert_eq!(wait_ms(text.as_bytes(), now), expected, "{text}");
        }
    }
}
