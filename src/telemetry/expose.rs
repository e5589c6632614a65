//! Prometheus text 0.0.4 of everything that is counted: the sum over the workers and what control adds.
//! Every metric name stands here or in `words`, and only there.
//!
//! Not here: names and help of what has labels of its own (`words`), the counters (`metrics`), the listener (control),
//! reading `/proc` (control).

use crate::base::bound::Bound;
use crate::base::counter::Counter;
use crate::base::fault::Kind;
use crate::telemetry::family::Families;
use crate::telemetry::family::Family;
use crate::telemetry::metrics::DURATION_BOUNDS_NS;
use crate::telemetry::metrics::Histogram;
use crate::telemetry::metrics::OVERHEAD_BOUNDS_NS;
use crate::telemetry::metrics::ServerTimes;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::tally::OTHER;
use crate::telemetry::words::Which;
use crate::telemetry::words::Words;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Value of `Content-Type` for the text that [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What control knows and workers do not.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    pub version: &'static str,
    pub reloads_ok: u64,
    pub reloads_rejected: u64,
    pub last_reload_successful: bool,
    /// Lines that the writer took from the rings and could not write.
    pub call_log_lost: u64,
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
    pub open_fds: u64,
    pub start_unix_seconds: u64,
}

/// What stands beside the counters of workers.
#[derive(Debug)]
pub struct Beside<'a> {
    pub process: ProcessFacts,
    pub gauges: Vec<Gauge>,
    /// What control counts itself.
    pub families: &'a Families,
}

/// A value with labels that control reads where others keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    pub which: Which,
    /// In the order in which [`Which`] names them.
    pub labels: Vec<String>,
    pub value: u64,
}

/// Appends the whole exposition to `out`.
pub fn render<'a>(out: &mut String, workers: impl Iterator<Item = &'a WorkerMetrics>, beside: &Beside<'_>) {
    let workers: Vec<&WorkerMetrics> = workers.collect();
    requests(out, &workers);
    times(out, &workers);
    plain(out, &workers, &beside.process);
    labelled(out, &workers);
    let own = workers.iter().map(|worker| &worker.families);
    families(out, &own.chain([beside.families]).collect::<Vec<_>>());
    facts(out, &beside.process);
    for which in Which::ALL {
        let of_it = beside.gauges.iter().filter(|gauge| gauge.which == which);
        samples(out, &which.words(), of_it.map(|gauge| (gauge.labels.clone(), gauge.value.to_string())));
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn one(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    head(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

fn requests(out: &mut String, workers: &[&WorkerMetrics]) {
    let mut sums = BTreeMap::<[&str; 4], u64>::new();
    for worker in workers {
        for (labels, calls) in worker.requests() {
            let key = [&*labels.server, &*labels.tool, &*labels.method, labels.outcome.as_str()];
            *sums.entry(key).or_default() += calls;
        }
        for (outcome, calls) in worker.requests_other().filter(|(_, calls)| *calls > 0) {
            *sums.entry([OTHER, OTHER, OTHER, outcome.as_str()]).or_default() += calls;
        }
    }
    let name = "ringgate_requests_total";
    head(out, name, "counter", "Calls that ended, by server, tool, method and outcome.");
    for ([server, tool, method, outcome], calls) in sums {
        let _ = write!(out, "{name}{{server=\"");
        escape(out, server);
        out.push_str("\",tool=\"");
        escape(out, tool);
        out.push_str("\",method=\"");
        escape(out, method);
        let _ = writeln!(out, "\",outcome=\"{outcome}\"}} {calls}");
    }
}

/// A sum of histograms with equal bounds.
struct Sum {
    counts: Vec<u64>,
    sum_ns: u64,
}

impl Sum {
    fn empty(bounds: &[u64]) -> Self {
        Self { counts: vec![0; bounds.len() + 1], sum_ns: 0 }
    }

    fn add(&mut self, histogram: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(histogram.counts()) {
            *sum += count;
        }
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns());
    }

    /// The samples; `label` is empty or `name="value"`, escaped.
    fn write(&self, out: &mut String, name: &str, label: &str, bounds_ns: &[u64]) {
        let comma = if label.is_empty() { "" } else { "," };
        let braced = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
        let mut total = 0;
        for (place, count) in self.counts.iter().enumerate() {
            total += count;
            let _ = write!(out, "{name}_bucket{{{label}{comma}le=\"");
            match bounds_ns.get(place) {
                Some(bound) => seconds(out, *bound),
                None => out.push_str("+Inf"),
            }
            let _ = writeln!(out, "\"}} {total}");
        }
        let _ = write!(out, "{name}_sum{braced} ");
        seconds(out, self.sum_ns);
        let _ = writeln!(out, "\n{name}_count{braced} {total}");
    }
}

/// Nanoseconds as exact decimal seconds.
fn seconds(out: &mut String, nanos: u64) {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    out.push_str(text.trim_end_matches('0').trim_end_matches('.'));
}

fn times(out: &mut String, workers: &[&WorkerMetrics]) {
    let name = "ringgate_request_duration_seconds";
    head(out, name, "histogram", "From the whole request to the last byte of its answer.");
    by_server(out, workers, name, |times| &times.request);
    let name = "ringgate_upstream_duration_seconds";
    head(out, name, "histogram", "From the first byte sent to a server to the last byte of its answer.");
    by_server(out, workers, name, |times| &times.upstream);
    let name = "ringgate_overhead_seconds";
    head(out, name, "histogram", "The gateway's own share of a call, without waiting for peers.");
    let mut sum = Sum::empty(&OVERHEAD_BOUNDS_NS);
    for worker in workers {
        sum.add(&worker.overhead);
    }
    sum.write(out, name, "", &OVERHEAD_BOUNDS_NS);
}

fn by_server(out: &mut String, workers: &[&WorkerMetrics], name: &str, part: fn(&ServerTimes) -> &Histogram) {
    let mut sums = BTreeMap::<&str, Sum>::new();
    for times in workers.iter().flat_map(|worker| worker.servers()) {
        let sum = sums.entry(&times.name).or_insert_with(|| Sum::empty(&DURATION_BOUNDS_NS));
        sum.add(part(times));
    }
    for (server, sum) in sums.iter().filter(|(_, sum)| sum.counts.iter().any(|count| *count > 0)) {
        let mut label = String::from("server=\"");
        escape(&mut label, server);
        label.push('"');
        sum.write(out, name, &label, &DURATION_BOUNDS_NS);
    }
}

/// One number a worker: name, kind, help, field.
type Plain = (&'static str, &'static str, &'static str, fn(&WorkerMetrics) -> &Counter);

const PLAIN: [Plain; 9] = [
    ("ringgate_accepted_connections_total", "counter", "Client connections accepted.", |w| {
        &w.accepted_connections
    }),
    ("ringgate_client_connections", "gauge", "Client connections open now.", |w| &w.client_connections),
    ("ringgate_inflight", "gauge", "Calls in progress now, open streams included.", |w| &w.inflight),
    ("ringgate_upstream_connections", "gauge", "Upstream connections open now.", |w| &w.upstream_connections),
    ("ringgate_upstream_idle", "gauge", "Upstream connections idle in pools now.", |w| &w.upstream_idle),
    ("ringgate_buffered_body_bytes", "gauge", "Request body bytes held in memory now.", |w| {
        &w.buffered_body_bytes
    }),
    ("ringgate_stream_comments_total", "counter", "Comments sent on silent event streams.", |w| {
        &w.stream_comments
    }),
    ("ringgate_received_bytes_total", "counter", "Bytes of requests of calls that ended.", |w| &w.bytes_in),
    ("ringgate_sent_bytes_total", "counter", "Bytes of answers of calls that ended.", |w| &w.bytes_out),
];

fn plain(out: &mut String, workers: &[&WorkerMetrics], process: &ProcessFacts) {
    for (name, kind, help, field) in PLAIN {
        one(out, name, kind, help, workers.iter().map(|worker| field(worker).read()).sum());
    }
    let dropped: u64 = workers.iter().map(|worker| worker.records_lost.read()).sum();
    let help = "Call records that could not be written.";
    one(out, "ringgate_call_log_lost_total", "counter", help, dropped + process.call_log_lost);
    one(out, "ringgate_workers", "gauge", "Worker threads.", workers.len() as u64);
}

fn labelled(out: &mut String, workers: &[&WorkerMetrics]) {
    let name = "ringgate_refused_total";
    head(out, name, "counter", "Refusals and failures that the gateway itself answered.");
    let mut sums = BTreeMap::<&str, u64>::new();
    for kind in Kind::ALL {
        let count = workers.iter().map(|worker| worker.refused(kind)).sum::<u64>();
        *sums.entry(kind.wire().reason).or_default() += count;
    }
    for (reason, count) in sums {
        let _ = writeln!(out, "{name}{{reason=\"{reason}\"}} {count}");
    }
    let name = "ringgate_bound_hits_total";
    head(out, name, "counter", "How often a fixed bound was hit; config/limits.rs says what follows.");
    for bound in Bound::ALL {
        let count = workers.iter().map(|worker| worker.hits(bound)).sum::<u64>();
        let _ = writeln!(out, "{name}{{bound=\"{}\"}} {count}", bound.as_str());
    }
}

fn families(out: &mut String, writers: &[&Families]) {
    for family in Family::ALL {
        let words = family.words();
        let mut sums = BTreeMap::<Vec<&str>, u64>::new();
        if words.labels.is_empty() {
            sums.insert(Vec::new(), 0);
        }
        for table in writers.iter().map(|writer| writer.table(family)) {
            for (labels, count) in table.sets() {
                *sums.entry(labels.iter().map(|label| &**label).collect()).or_default() += count;
            }
            if table.other() > 0 {
                *sums.entry(vec![OTHER; words.labels.len()]).or_default() += table.other();
            }
        }
        let shown = |count: u64| {
            let mut text = String::new();
            match family {
                Family::Wasted => seconds(&mut text, count),
                _ => text = count.to_string(),
            }
            text
        };
        samples(out, &words, sums.into_iter().map(|(labels, count)| (labels, shown(count))));
    }
}

/// One metric with all of its samples; nothing where there is none.
fn samples<L: AsRef<str>>(out: &mut String, words: &Words, all: impl Iterator<Item = (Vec<L>, String)>) {
    for (place, (labels, value)) in all.enumerate() {
        if place == 0 {
            head(out, words.name, words.kind, words.help);
        }
        out.push_str(words.name);
        for (place, (name, label)) in words.labels.iter().zip(&labels).enumerate() {
            let _ = write!(out, "{}{name}=\"", if place == 0 { '{' } else { ',' });
            escape(out, label.as_ref());
            out.push('"');
        }
        out.push_str(if words.labels.is_empty() { "" } else { "}" });
        let _ = writeln!(out, " {value}");
    }
}

fn facts(out: &mut String, process: &ProcessFacts) {
    let name = "ringgate_config_reloads_total";
    head(out, name, "counter", "Reloads of the configuration since the start.");
    let _ = writeln!(out, "{name}{{outcome=\"ok\"}} {}", process.reloads_ok);
    let _ = writeln!(out, "{name}{{outcome=\"rejected\"}} {}", process.reloads_rejected);
    let help = "1 if the newest configuration was good, 0 if it was rejected.";
    let good = u64::from(process.last_reload_successful);
    one(out, "ringgate_config_last_reload_successful", "gauge", help, good);
    let name = "ringgate_build_info";
    head(out, name, "gauge", "Always 1; the version is a label.");
    let _ = writeln!(out, "{name}{{version=\"{}\"}} 1", process.version);
    let name = "process_cpu_seconds_total";
    head(out, name, "counter", "Processor time of the process, user and system.");
    let _ = writeln!(out, "{name} {:.2}", process.cpu_seconds);
    let help = "Resident memory in bytes.";
    one(out, "process_resident_memory_bytes", "gauge", help, process.resident_bytes);
    one(out, "process_open_fds", "gauge", "Open file descriptors.", process.open_fds);
    let help = "Unix time at which the process started.";
    one(out, "process_start_time_seconds", "gauge", help, process.start_unix_seconds);
}

/// The inside of a label value: backslash, quote and line feed are escaped.
fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::text::Text;
    use crate::telemetry::record::Outcome;
    use crate::telemetry::record::Record;
    use crate::telemetry::tally::Tally;

    fn call(server: &str, tool: &str, own_ns: u64) -> Record {
        Record {
            server: Text::new(server),
            method: Text::new("tools/call"),
            target: Text::new(tool),
            outcome: Outcome::Ok,
            total_ns: 3_000_000,
            upstream_ns: 2_500_000,
            own_ns,
            ..Record::default()
        }
    }

    fn text_of(workers: &[WorkerMetrics], facts: &ProcessFacts) -> String {
        let mut out = String::new();
        let beside = Beside { process: facts.clone(), gauges: Vec::new(), families: &Families::new(1) };
        render(&mut out, workers.iter(), &beside);
        out
    }

    fn contains(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }

    #[test]
    fn the_sum_over_workers_is_exact() {
        let workers = [WorkerMetrics::new(4), WorkerMetrics::new(4)];
        for (worker, calls) in workers.iter().zip([3, 4]) {
            let mut tally = Tally::new(worker);
            for _ in 0..calls {
                tally.observe(worker, &call("github", "list", 15_000));
            }
            worker.refuse(Kind::HostRefused);
            worker.hit(Bound::Body);
            worker.records_lost.add(2);
            worker.inflight.set(5);
        }
        let facts = ProcessFacts { call_log_lost: 10, version: "1.2.3", ..ProcessFacts::default() };
        let text = text_of(&workers, &facts);
        let lines = [
            r#"ringgate_requests_total{server="github",tool="list",method="tools/call",outcome="ok"} 7"#,
            r#"ringgate_request_duration_seconds_bucket{server="github",le="0.002"} 0"#,
            r#"ringgate_request_duration_seconds_bucket{server="github",le="0.005"} 7"#,
            r#"ringgate_request_duration_seconds_bucket{server="github",le="+Inf"} 7"#,
            r#"ringgate_request_duration_seconds_sum{server="github"} 0.021"#,
            r#"ringgate_request_duration_seconds_count{server="github"} 7"#,
            r#"ringgate_upstream_duration_seconds_sum{server="github"} 0.0175"#,
            r#"ringgate_overhead_seconds_bucket{le="0.00001"} 0"#,
            r#"ringgate_overhead_seconds_bucket{le="0.00002"} 7"#,
            "ringgate_overhead_seconds_sum 0.000105",
            "ringgate_overhead_seconds_count 7",
            r#"ringgate_refused_total{reason="host_refused"} 2"#,
            r#"ringgate_bound_hits_total{bound="body"} 2"#,
            "ringgate_call_log_lost_total 14",
            "ringgate_inflight 10",
            r#"ringgate_build_info{version="1.2.3"} 1"#,
            "ringgate_config_last_reload_successful 0",
        ];
        for line in lines {
            contains(&text, line);
        }
    }

    #[test]
    fn what_found_no_place_is_other() {
        let workers = [WorkerMetrics::new(1)];
        let mut tally = Tally::new(&workers[0]);
        for tool in ["a", "b", "c"] {
            tally.observe(&workers[0], &call("s", tool, 1));
        }
        let text = text_of(&workers, &ProcessFacts::default());
        contains(
            &text,
            r#"ringgate_requests_total{server="other",tool="other",method="other",outcome="ok"} 2"#,
        );
    }

    #[test]
    fn families_are_summed_over_workers_and_gauges_stand_as_they_are() {
        let workers = [WorkerMetrics::new(1), WorkerMetrics::new(1)];
        for worker in &workers {
            worker.count(Family::Retries, &["db", "ok"], 2);
            worker.count(Family::Retries, &["db", "failed"], 1);
            worker.count(Family::Wasted, &["d\"b"], 1_500_000_000);
        }
        let gauge = |which, labels: &[&str], value| Gauge {
            which,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            value,
        };
        let gauges = vec![
            gauge(Which::KillsActive, &["tool"], 3),
            gauge(Which::BreakerState, &["db", "http://a:1"], 2),
        ];
        let mut text = String::new();
        let own = Families::new(1);
        own.count(Family::Retries, &["db", "ok"], 10);
        let beside = Beside { process: ProcessFacts::default(), gauges, families: &own };
        render(&mut text, workers.iter(), &beside);
        for line in [
            r#"ringgate_retries_total{server="db",outcome="ok"} 14"#,
            r#"ringgate_retries_total{server="other",outcome="other"} 2"#,
            r#"ringgate_wasted_seconds_total{server="d\"b"} 3"#,
            "ringgate_limit_table_full_total 0",
            r#"ringgate_kills_active{kind="tool"} 3"#,
            r#"ringgate_breaker_state{server="db",instance="http://a:1"} 2"#,
        ] {
            contains(&text, line);
        }
        assert!(!text.contains("ringgate_cel_errors_total"), "what has no samples has no head");
    }

    #[test]
    fn labels_cannot_break_out() {
        let workers = [WorkerMetrics::new(4)];
        Tally::new(&workers[0]).observe(&workers[0], &call("s", "a\"}\n\\", 1));
        let text = text_of(&workers, &ProcessFacts::default());
        contains(
            &text,
            r#"ringgate_requests_total{server="s",tool="a\"}\n\\",method="tools/call",outcome="ok"} 1"#,
        );
    }

    /// The rules of the text format that scrapers reject a page for.
    #[test]
    fn every_name_has_help_and_type_once_and_samples_stand_below_them() {
        let workers = [WorkerMetrics::new(4)];
        Tally::new(&workers[0]).observe(&workers[0], &call("s", "t", 1));
        let text = text_of(&workers, &ProcessFacts::default());
        let mut seen = std::collections::BTreeSet::new();
        let (mut current, mut samples) = ("", 1);
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                assert!(samples > 0, "{current} has no sample");
                current = rest.split(' ').next().expect("a name");
                assert!(seen.insert(current), "{current} twice");
                samples = 0;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert_eq!(rest.split(' ').next(), Some(current));
            } else {
                let name = line.split(['{', ' ']).next().expect("a name");
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
                assert!(name == current || base == Some(current), "{name} below {current}");
                line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number");
                samples += 1;
            }
        }
        assert!(seen.len() > 20);
    }
}
