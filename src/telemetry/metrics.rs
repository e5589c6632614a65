//! Counters and histograms of one worker: one writer (the worker), read by control at any time with
//! plain loads. Every number that the data plane counts is a field or a table here.
//!
//! Not here: the names and the text format (`expose`), the worker's private index of label sets
//! (`tally`), and anything that control counts itself.

use crate::base::bound::Bound;
use crate::base::counter::Counter;
use crate::base::fault::Kind;
use crate::telemetry::family::Families;
use crate::telemetry::family::Family;
use crate::telemetry::family::Place;
use crate::telemetry::record::Outcome;
use std::sync::OnceLock;

/// Upper bounds in nanoseconds of request and upstream times: the OpenTelemetry MCP buckets
/// (10 ms to 300 s) with half to five milliseconds below them, where most tools answer.
pub const DURATION_BOUNDS_NS: [u64; 18] = [
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    120_000_000_000,
    300_000_000_000,
];

/// Upper bounds in nanoseconds of the gateway's own share of a call: 10 µs to 100 ms.
pub const OVERHEAD_BOUNDS_NS: [u64; 13] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
];

/// Bucket bounds, with a shortcut: for each binary order of magnitude the first bucket that a value of
/// it can fall into, so that finding one takes a few comparisons at most.
#[derive(Debug)]
pub struct Scale {
    bounds_ns: &'static [u64],
    first: [u8; 65],
}

/// Of request and upstream times.
pub static DURATION: Scale = Scale::new(&DURATION_BOUNDS_NS);
/// Of the gateway's own share.
pub static OVERHEAD: Scale = Scale::new(&OVERHEAD_BOUNDS_NS);

impl Scale {
    /// `bounds_ns` ascend and are at most 255.
    pub const fn new(bounds_ns: &'static [u64]) -> Self {
        assert!(bounds_ns.len() <= 255);
        let mut first = [0; 65];
        let mut bits = 0;
        while bits <= 64 {
            // The smallest value of that many bits.
            let smallest = if bits == 0 { 0 } else { 1 << (bits - 1) };
            let mut bucket = 0;
            while (bucket as usize) < bounds_ns.len() && smallest > bounds_ns[bucket as usize] {
                bucket += 1;
            }
            first[bits] = bucket;
            bits += 1;
        }
        Self { bounds_ns, first }
    }

    fn bucket(&self, nanos: u64) -> usize {
        let bits = (u64::BITS - nanos.leading_zeros()) as usize;
        let mut bucket = usize::from(self.first[bits]);
        while self.bounds_ns.get(bucket).is_some_and(|bound| nanos > *bound) {
            bucket += 1;
        }
        bucket
    }
}

/// Counts in fixed buckets. One writer; a reader may see a call in one part and not yet in another.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    /// One more than bounds: the last holds what is above all of them. Not cumulative.
    counts: Box<[Counter]>,
    sum_ns: Counter,
}

impl Histogram {
    pub fn new(scale: &'static Scale) -> Self {
        let counts = std::iter::repeat_with(Counter::new).take(scale.bounds_ns.len() + 1).collect();
        Self { scale, counts, sum_ns: Counter::new() }
    }

    /// Only the owning worker may call this.
    pub fn observe(&self, nanos: u64) {
        if let Some(count) = self.counts.get(self.scale.bucket(nanos)) {
            count.add(1);
        }
        self.sum_ns.add(nanos);
    }

    /// Calls of each bucket, the last above all bounds.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.counts.iter().map(Counter::read)
    }

    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.read()
    }
}

/// One label set of `ringgate_requests_total`.
#[derive(Debug, PartialEq, Eq)]
pub struct Labels {
    pub server: Box<str>,
    pub tool: Box<str>,
    pub method: Box<str>,
    pub outcome: Outcome,
}

/// A counter that gets its labels when the first call of their kind ends, and keeps them.
#[derive(Debug, Default)]
pub struct Series {
    pub(crate) labels: OnceLock<Labels>,
    pub(crate) calls: Counter,
}

/// Times of the calls to one server.
#[derive(Debug)]
pub struct ServerTimes {
    pub name: Box<str>,
    pub request: Histogram,
    pub upstream: Histogram,
}

impl ServerTimes {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), request: Histogram::new(&DURATION), upstream: Histogram::new(&DURATION) }
    }
}

/// Everything that one worker counts. Only that worker writes; see [`Counter`].
///
/// Alone on its cache lines (128 bytes: two lines are fetched together), so that counting disturbs no
/// other core.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Moves at least once a tick while the worker turns; the watchdog of systemd is fed by it.
    pub heartbeat: Counter,
    /// Connections accepted since the start.
    pub accepted_connections: Counter,
    /// Client connections open now.
    pub client_connections: Counter,
    /// Calls between their whole request and the last byte of their answer, open streams included.
    pub inflight: Counter,
    /// Upstream connections open now, idle ones included.
    pub upstream_connections: Counter,
    /// Upstream connections waiting in the pool now.
    pub upstream_idle: Counter,
    /// Bytes of request bodies held in memory beyond pooled buffers, now.
    pub buffered_body_bytes: Counter,
    /// Comments sent on silent event streams.
    pub stream_comments: Counter,
    /// Records that found their ring full (written by `Post::hand_up`).
    pub records_lost: Counter,
    /// Bytes of requests and answers of finished calls (written by `Tally::observe`).
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    /// Our own share of each call (written by `Tally::observe`).
    pub overhead: Histogram,
    refused: [Counter; Kind::ALL.len()],
    bound_hits: [Counter; Bound::ALL.len()],
    pub(crate) families: Families,
    pub(crate) series: Box<[Series]>,
    /// Calls whose label set found no place, by outcome.
    pub(crate) series_other: [Counter; Outcome::ALL.len()],
    pub(crate) servers: Box<[OnceLock<ServerTimes>]>,
    pub(crate) server_other: ServerTimes,
}

impl WorkerMetrics {
    /// `series_max`: most label sets of one metric (`limits::SERIES_MAX`).
    pub fn new(series_max: usize) -> Self {
        Self {
            heartbeat: Counter::new(),
            accepted_connections: Counter::new(),
            client_connections: Counter::new(),
            inflight: Counter::new(),
            upstream_connections: Counter::new(),
            upstream_idle: Counter::new(),
            buffered_body_bytes: Counter::new(),
            stream_comments: Counter::new(),
            records_lost: Counter::new(),
            bytes_in: Counter::new(),
            bytes_out: Counter::new(),
            overhead: Histogram::new(&OVERHEAD),
            refused: [const { Counter::new() }; Kind::ALL.len()],
            bound_hits: [const { Counter::new() }; Bound::ALL.len()],
            families: Families::new(series_max),
            series: std::iter::repeat_with(Series::default).take(series_max).collect(),
            series_other: [const { Counter::new() }; Outcome::ALL.len()],
            servers: std::iter::repeat_with(OnceLock::new).take(series_max).collect(),
            server_other: ServerTimes::new("other"),
        }
    }

    /// Counts a refusal or failure that the gateway itself answered, whether or not a call was known.
    pub fn refuse(&self, kind: Kind) {
        self.refused[kind as usize].add(1);
    }

    /// Counts that a bound was hit.
    pub fn hit(&self, bound: Bound) {
        self.bound_hits[bound as usize].add(1);
    }

    /// Adds to a counter with labels, in the order in which [`Family`] names them. Only the owning worker may call
    /// this.
    pub fn count<const N: usize>(&self, family: Family, labels: &[&str; N], n: u64) {
        self.families.count(family, labels, n);
    }

    /// Where labels are counted by [`Self::count_at`], for what is counted at every call.
    pub fn place_of<const N: usize>(&self, family: Family, labels: &[&str; N]) -> Place {
        self.families.table(family).place_of(labels)
    }

    /// Only the owning worker may call this, with a place of its own.
    pub fn count_at(&self, family: Family, place: Place, n: u64) {
        self.families.table(family).count_at(place, n);
    }

    pub fn refused(&self, kind: Kind) -> u64 {
        self.refused[kind as usize].read()
    }

    pub fn hits(&self, bound: Bound) -> u64 {
        self.bound_hits[bound as usize].read()
    }

    /// Every label set that was seen, with its calls.
    pub fn requests(&self) -> impl Iterator<Item = (&Labels, u64)> {
        self.series.iter().map_while(|series| Some((series.labels.get()?, series.calls.read())))
    }

    /// Calls whose label set found no place, by outcome.
    pub fn requests_other(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL.into_iter().zip(self.series_other.iter().map(Counter::read))
    }

    /// The times of every server that was called; the last is what found no place.
    pub fn servers(&self) -> impl Iterator<Item = &ServerTimes> {
        self.servers.iter().map_while(OnceLock::get).chain(std::iter::once(&self.server_other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_stand_at_their_place_and_have_names_of_their_own() {
        let mut names = std::collections::BTreeSet::new();
        for (place, bound) in Bound::ALL.into_iter().enumerate() {
            assert_eq!(bound as usize, place);
            assert!(names.insert(bound.as_str()), "{bound:?}");
        }
    }

    #[test]
    fn a_histogram_counts_a_bound_in_its_own_bucket() {
        static SCALE: Scale = Scale::new(&[10, 20]);
        let histogram = Histogram::new(&SCALE);
        for nanos in [0, 10, 11, 20, 21, u64::from(u32::MAX)] {
            histogram.observe(nanos);
        }
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [2, 2, 2]);
        assert_eq!(histogram.sum_ns(), 62 + u64::from(u32::MAX));
    }

    #[test]
    fn the_shortcut_finds_what_a_search_finds() {
        for scale in [&DURATION, &OVERHEAD] {
            let near_bounds = scale.bounds_ns.iter().flat_map(|bound| [bound - 1, *bound, bound + 1]);
            let near_powers = (0..64).flat_map(|bits| [(1_u64 << bits) - 1, 1 << bits]);
            for nanos in near_bounds.chain(near_powers).chain([0, u64::MAX]) {
                let expected = scale.bounds_ns.iter().filter(|bound| nanos > **bound).count();
                assert_eq!(scale.bucket(nanos), expected, "{nanos}");
            }
        }
    }
}
