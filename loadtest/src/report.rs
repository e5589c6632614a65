//! What a run measured, as numbers, text and JSON.
//! Not here: measuring.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies from a microsecond to two minutes, three digits.
pub(crate) fn latencies() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(100, 120_000_000_000, 3)?)
}

/// What one thread counted; threads are added up.
pub(crate) struct Counts {
    /// From the due time to the whole answer.
    pub(crate) latency: Histogram<u64>,
    /// From the due time to the first event.
    pub(crate) first_event: Histogram<u64>,
    /// From the moment the server wrote an event to its arrival here.
    pub(crate) event_lag: Histogram<u64>,
    /// When the first thread's schedule began, in nanoseconds of the monotonic clock.
    pub(crate) started: u64,
    pub(crate) calls: u64,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    pub(crate) events: u64,
    /// Events that came in one read with an earlier one.
    pub(crate) joined_events: u64,
    pub(crate) reconnects: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

impl Counts {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            latency: latencies()?,
            first_event: latencies()?,
            event_lag: latencies()?,
            started: u64::MAX,
            calls: 0,
            errors: BTreeMap::new(),
            events: 0,
            joined_events: 0,
            reconnects: 0,
            bytes_sent: 0,
            bytes_received: 0,
        })
    }

    pub(crate) fn error(&mut self, kind: &'static str, count: u64) {
        if count > 0 {
            *self.errors.entry(kind).or_default() += count;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.latency.add(&other.latency)?;
        self.first_event.add(&other.first_event)?;
        self.event_lag.add(&other.event_lag)?;
        self.started = self.started.min(other.started);
        self.calls += other.calls;
        for (kind, count) in &other.errors {
            self.error(kind, *count);
        }
        self.events += other.events;
        self.joined_events += other.joined_events;
        self.reconnects += other.reconnects;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        Ok(())
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of at most two minutes are exact in f64")]
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
        })
    }
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) url: String,
    pub(crate) era: crate::mcp::Era,
    pub(crate) connections: usize,
    /// Calls a second that were asked for; none in a closed loop.
    pub(crate) asked_rate: Option<f64>,
    pub(crate) seconds: f64,
    /// Right answers, each checked for status, id and length.
    pub(crate) calls: u64,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    pub(crate) rate: f64,
    #[serde(rename = "latencyMicros")]
    pub(crate) latency: Option<Percentiles>,
    #[serde(rename = "firstEventMicros", skip_serializing_if = "Option::is_none")]
    pub(crate) first_event: Option<Percentiles>,
    #[serde(rename = "eventLagMicros", skip_serializing_if = "Option::is_none")]
    pub(crate) event_lag: Option<Percentiles>,
    pub(crate) events: u64,
    pub(crate) joined_events: u64,
    pub(crate) reconnects: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

/// What was asked for, to stand beside what came out.
pub(crate) struct Asked {
    pub(crate) url: String,
    pub(crate) era: crate::mcp::Era,
    pub(crate) connections: usize,
    pub(crate) rate: Option<f64>,
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn new(asked: Asked, counts: &Counts, seconds: f64) -> Self {
        Self {
            url: asked.url,
            era: asked.era,
            connections: asked.connections,
            asked_rate: asked.rate,
            seconds,
            calls: counts.calls,
            errors: counts.errors.clone(),
            rate: counts.calls as f64 / seconds.max(1e-9),
            latency: Percentiles::of(&counts.latency),
            first_event: Percentiles::of(&counts.first_event),
            event_lag: Percentiles::of(&counts.event_lag),
            events: counts.events,
            joined_events: counts.joined_events,
            reconnects: counts.reconnects,
            bytes_sent: counts.bytes_sent,
            bytes_received: counts.bytes_received,
        }
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let how = self.asked_rate.map_or_else(
            || "closed loop".to_owned(),
            |rate| format!("open loop at {rate:.0}/s, latency from the due time"),
        );
        let _ = writeln!(text, "{}  {:?}, {} connections, {how}", self.url, self.era, self.connections);
        let _ = writeln!(
            text,
            "calls {}  errors {}  rate {:.0}/s  in {:.2} s  every answer checked",
            self.calls,
            self.error_count(),
            self.rate,
            self.seconds
        );
        for (kind, count) in &self.errors {
            let _ = writeln!(text, "  error {kind}: {count}");
        }
        let rows =
            [("latency", &self.latency), ("first event", &self.first_event), ("event lag", &self.event_lag)];
        for (name, row) in rows {
            if let Some(row) = row {
                let _ = writeln!(
                    text,
                    "{name:<12} us  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
                    row.p50, row.p90, row.p99, row.p999, row.max
                );
            }
        }
        if self.events > 0 {
            let _ = writeln!(
                text,
                "events {}  of them {} in one read with another",
                self.events, self.joined_events
            );
        }
        let _ = write!(
            text,
            "bytes sent {}  received {}  reconnects {}",
            self.bytes_sent, self.bytes_received, self.reconnects
        );
        text
    }
}
