//! `Tally`: a worker's private index from a call's names to its place in the shared counters.
//!
//! Not here: the counters themselves (`metrics`). A tally is never shared, so it may use a plain map.

use crate::telemetry::metrics::Labels;
use crate::telemetry::metrics::ServerTimes;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::record::Outcome;
use crate::telemetry::record::Record;
use ahash::HashMap;
use ahash::RandomState;
use std::hash::Hash;
use std::hash::Hasher;

/// Value of a label that found no place.
pub const OTHER: &str = "other";

/// The method whose target is a tool; other targets (URIs, prompts) have no label.
const TOOLS_CALL: &str = "tools/call";

/// Methods of all revisions, and what HTTP alone can ask for. Any other name is a stranger's choice and
/// gets no label of its own: even a notification that nobody knows is accepted by most servers.
const METHODS: [&str; 39] = [
    "",
    "DELETE",
    "GET",
    "POST",
    "completion/complete",
    "elicitation/create",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/elicitation/complete",
    "notifications/initialized",
    "notifications/message",
    "notifications/progress",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "notifications/tools/list_changed",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "roots/list",
    "sampling/createMessage",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
    OTHER,
];

/// Where a call is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Index of the series; none: by outcome only.
    series: Option<u32>,
    /// Index of the server's times; none: with the others.
    server: Option<u32>,
}

/// Names of one call as they are compared.
#[derive(Clone, Copy)]
struct Key<'a> {
    server: &'a [u8],
    tool: &'a [u8],
    method: &'a [u8],
    outcome: Outcome,
}

impl Hash for Key<'_> {
    /// One word for all lengths: half the cost of what `derive` does.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let lengths = (self.server.len() << 32) | (self.tool.len() << 16) | self.method.len();
        state.write_usize(lengths);
        state.write_u8(self.outcome as u8);
        state.write(self.server);
        state.write(self.tool);
        state.write(self.method);
    }
}

impl<'a> Key<'a> {
    fn of(record: &'a Record) -> Self {
        let method = record.method.as_bytes();
        let tool = if method == TOOLS_CALL.as_bytes() { record.target.as_bytes() } else { b"" };
        Self { server: record.server.as_bytes(), tool, method, outcome: record.outcome }
    }

    fn names(&self, labels: &Labels) -> bool {
        labels.outcome == self.outcome
            && labels.tool.as_bytes() == self.tool
            && labels.method.as_bytes() == self.method
            && labels.server.as_bytes() == self.server
    }
}

/// A worker's index of label sets. Costs one hash and one comparison a call; memory is bounded by the
/// tables of [`WorkerMetrics`], because only what got a place there is remembered.
#[derive(Debug)]
pub struct Tally {
    hasher: RandomState,
    places: HashMap<u64, Place>,
    servers: HashMap<Box<str>, u32>,
    series_used: usize,
    /// Series whose names no successful call has borne: half of the table at most, so that invented
    /// names cannot take the places of real tools.
    strangers: usize,
}

impl Tally {
    /// The index of what `metrics` holds already, so that a restarted worker counts on.
    pub fn new(metrics: &WorkerMetrics) -> Self {
        let mut tally = Self {
            hasher: RandomState::new(),
            places: HashMap::default(),
            servers: HashMap::default(),
            series_used: 0,
            strangers: 0,
        };
        for (times, place) in metrics.servers.iter().map_while(|times| times.get()).zip(0..) {
            tally.servers.insert(times.name.clone(), place);
        }
        for ((labels, _), place) in metrics.requests().zip(0..) {
            let key = Key {
                server: labels.server.as_bytes(),
                tool: labels.tool.as_bytes(),
                method: labels.method.as_bytes(),
                outcome: labels.outcome,
            };
            let server = tally.servers.get(&labels.server).copied();
            let hash = tally.hasher.hash_one(key);
            tally.places.insert(hash, Place { series: Some(place), server });
            tally.series_used += 1;
        }
        tally
    }

    /// Counts one finished call. Only the worker that owns `metrics` may call this.
    pub fn observe(&mut self, metrics: &WorkerMetrics, record: &Record) {
        let times = self.count(metrics, record);
        times.request.observe(record.total_ns);
        // Zero: nothing was sent upstream.
        if record.upstream_ns > 0 {
            times.upstream.observe(record.upstream_ns);
        }
        metrics.overhead.observe(record.own_ns);
        metrics.bytes_in.add(record.bytes_in);
        metrics.bytes_out.add(record.bytes_out);
    }

    /// Counts one call that shared its exchange with others: its times and bytes are observed once, with the first.
    pub fn count<'m>(&mut self, metrics: &'m WorkerMetrics, record: &Record) -> &'m ServerTimes {
        let key = Key::of(record);
        let hash = self.hasher.hash_one(key);
        let place = match self.known(metrics, hash, &key) {
            Some(place) => place,
            None => self.find(metrics, record, key),
        };
        match place.series.and_then(|series| metrics.series.get(series as usize)) {
            Some(series) => series.calls.add(1),
            None => metrics.series_other[record.outcome as usize].add(1),
        }
        match place.server.and_then(|server| metrics.servers.get(server as usize)?.get()) {
            Some(times) => times,
            None => &metrics.server_other,
        }
    }

    fn known(&self, metrics: &WorkerMetrics, hash: u64, key: &Key<'_>) -> Option<Place> {
        let place = *self.places.get(&hash)?;
        let labels = metrics.series.get(place.series? as usize)?.labels.get()?;
        // Two sets may share a hash; then the later one finds no place.
        key.names(labels).then_some(place)
    }

    /// The path of names that have no place yet.
    #[cold]
    fn find(&mut self, metrics: &WorkerMetrics, record: &Record, key: Key<'_>) -> Place {
        let method = METHODS.into_iter().find(|known| known.as_bytes() == key.method).unwrap_or(OTHER);
        let key = Key { method: method.as_bytes(), ..key };
        let hash = self.hasher.hash_one(key);
        if let Some(place) = self.known(metrics, hash, &key) {
            return place;
        }
        let server = self.server_place(metrics, record.server.as_str());
        let success = Key { outcome: Outcome::Ok, ..key };
        let stranger = key.outcome != Outcome::Ok
            && self.known(metrics, self.hasher.hash_one(success), &success).is_none();
        let room = if stranger { self.strangers < metrics.series.len() / 2 } else { true };
        let free = metrics.series.get(self.series_used).filter(|_| room && !self.places.contains_key(&hash));
        let Some(series) = free else {
            return Place { series: None, server };
        };
        let tool = if method == TOOLS_CALL { record.target.as_str() } else { "" };
        let labels = Labels {
            server: record.server.as_str().into(),
            tool: tool.into(),
            method: method.into(),
            outcome: key.outcome,
        };
        // One writer: nobody can have set it meanwhile.
        let _ = series.labels.set(labels);
        let place = Place { series: u32::try_from(self.series_used).ok(), server };
        self.series_used += 1;
        self.strangers += usize::from(stranger);
        self.places.insert(hash, place);
        place
    }

    fn server_place(&mut self, metrics: &WorkerMetrics, name: &str) -> Option<u32> {
        if let Some(place) = self.servers.get(name) {
            return Some(*place);
        }
        let place = self.servers.len();
        let times = metrics.servers.get(place)?;
        let _ = times.set(ServerTimes::new(name));
        let place = u32::try_from(place).ok()?;
        self.servers.insert(name.into(), place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::text::Text;

    fn call(server: &str, method: &str, tool: &str, outcome: Outcome) -> Record {
        Record {
            server: Text::new(server),
            method: Text::new(method),
            target: Text::new(tool),
            outcome,
            bytes_in: 300,
            bytes_out: 500,
            total_ns: 700_000,
            upstream_ns: 600_000,
            own_ns: 9_000,
            ..Record::default()
        }
    }

    fn counted(metrics: &WorkerMetrics) -> Vec<(String, u64)> {
        metrics
            .requests()
            .map(|(l, calls)| (format!("{} {} {} {}", l.server, l.tool, l.method, l.outcome.as_str()), calls))
            .collect()
    }

    fn others(metrics: &WorkerMetrics) -> u64 {
        metrics.requests_other().map(|(_, calls)| calls).sum()
    }

    #[test]
    fn equal_names_share_a_series_and_sums_are_exact() {
        let metrics = WorkerMetrics::new(8);
        let mut tally = Tally::new(&metrics);
        for _ in 0..3 {
            tally.observe(&metrics, &call("github", "tools/call", "list", Outcome::Ok));
        }
        tally.observe(&metrics, &call("github", "tools/call", "list", Outcome::ToolError));
        tally.observe(&metrics, &call("github", "resources/read", "file:///a", Outcome::Ok));
        tally.observe(&metrics, &call("github", "resources/read", "file:///b", Outcome::Ok));
        let expected = [
            ("github list tools/call ok".to_owned(), 3),
            ("github list tools/call tool_error".to_owned(), 1),
            ("github  resources/read ok".to_owned(), 2),
        ];
        assert_eq!(counted(&metrics), expected);
        assert_eq!(metrics.bytes_in.read(), 6 * 300);
        assert_eq!(metrics.bytes_out.read(), 6 * 500);
        let github = metrics.servers().next().expect("one server");
        assert_eq!(github.request.counts().sum::<u64>(), 6);
        assert_eq!(github.upstream.sum_ns(), 6 * 600_000);
        assert_eq!(metrics.overhead.counts().next(), Some(6));
    }

    #[test]
    fn what_was_never_sent_has_no_upstream_time() {
        let metrics = WorkerMetrics::new(8);
        let mut tally = Tally::new(&metrics);
        let refused = Record { upstream_ns: 0, ..call("github", "tools/call", "x", Outcome::Refused) };
        tally.observe(&metrics, &refused);
        let github = metrics.servers().next().expect("one server");
        assert_eq!((github.request.counts().sum::<u64>(), github.upstream.counts().sum::<u64>()), (1, 0));
    }

    #[test]
    fn beyond_the_cap_everything_is_other_and_nothing_is_lost() {
        let metrics = WorkerMetrics::new(16);
        let mut tally = Tally::new(&metrics);
        for n in 0..100_000 {
            tally.observe(&metrics, &call("s", "tools/call", &format!("t{n}"), Outcome::Ok));
        }
        assert_eq!(counted(&metrics).len(), 16);
        assert_eq!(others(&metrics), 100_000 - 16);
        assert_eq!(tally.places.len(), 16, "the index grows with the table only");
    }

    #[test]
    fn invented_names_leave_room_for_real_ones() {
        let metrics = WorkerMetrics::new(16);
        let mut tally = Tally::new(&metrics);
        for n in 0..1_000 {
            tally.observe(&metrics, &call("s", "tools/call", &format!("invented{n}"), Outcome::ToolError));
        }
        assert_eq!(counted(&metrics).len(), 8);
        tally.observe(&metrics, &call("s", "tools/call", "real", Outcome::Ok));
        tally.observe(&metrics, &call("s", "tools/call", "real", Outcome::ToolError));
        assert_eq!(counted(&metrics).len(), 10);
    }

    #[test]
    fn unknown_methods_share_one_series() {
        let metrics = WorkerMetrics::new(16);
        let mut tally = Tally::new(&metrics);
        for n in 0..1_000 {
            tally.observe(&metrics, &call("s", &format!("notifications/x{n}"), "", Outcome::Ok));
        }
        assert_eq!(counted(&metrics), [("s  other ok".to_owned(), 1_000)]);
    }

    #[test]
    fn servers_beyond_the_cap_share_their_times() {
        let metrics = WorkerMetrics::new(2);
        let mut tally = Tally::new(&metrics);
        for n in 0..5 {
            tally.observe(&metrics, &call(&format!("s{n}"), "tools/list", "", Outcome::Ok));
        }
        let calls: Vec<u64> = metrics.servers().map(|times| times.request.counts().sum()).collect();
        assert_eq!(calls, [1, 1, 3]);
    }

    #[test]
    fn a_new_tally_counts_on() {
        let metrics = WorkerMetrics::new(4);
        let record = call("s", "tools/list", "", Outcome::Ok);
        Tally::new(&metrics).observe(&metrics, &record);
        Tally::new(&metrics).observe(&metrics, &record);
        assert_eq!(counted(&metrics), [("s  tools/list ok".to_owned(), 2)]);
    }
}
