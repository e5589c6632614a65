//! `run`: threads of generators against one URL, a line of progress, the result.
//! Not here: connections and calls (`generate`).

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;

use crate::answer::Fail;
use crate::generate::Job;
use crate::generate::generate;
use crate::mcp;
use crate::mcp::Era;
use crate::mcp::Shape;
use crate::mcp::Target;
use crate::report::Asked;
use crate::report::Counts;
use crate::report::Report;
use crate::ring;
use crate::schedule::Schedule;

/// Most connections of a run.
const MAX_CONNECTIONS: usize = 16_384;
const MAX_THREADS: usize = 64;
/// Calls of a thread: its ids keep their number of digits.
const MAX_CALLS: u64 = 10_000_000_000;

/// What to send, how much and how fast.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to; loopback only
    #[arg(long, value_name = "http://HOST:PORT/PATH")]
    pub(crate) url: String,
    #[arg(long, value_enum, default_value = "modern")]
    pub(crate) era: Era,
    /// Connections at once, over all threads
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Calls a second, whatever the answers do (open loop); without it a call follows an answer (closed loop)
    #[arg(long, value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// How long, such as 10s, 500ms, 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) time: Option<Duration>,
    /// End after so many calls
    #[arg(long)]
    pub(crate) calls: Option<u64>,
    /// Bytes of a request's body: 256 to 262144
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=67_108_864))]
    pub(crate) size: u64,
    /// Bytes of an answer's JSON-RPC message
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=67_108_864))]
    pub(crate) answer: u64,
    /// Ask for an event stream with so many progress events before the answer
    #[arg(long, value_name = "EVENTS", default_value_t = 0)]
    pub(crate) sse: u32,
    /// Milliseconds between events
    #[arg(long, default_value_t = 0)]
    pub(crate) interval_ms: u64,
    /// Ask for an answer that comes so much later
    #[arg(long, default_value_t = 0)]
    pub(crate) delay_ms: u64,
    /// Ask for a failure: close, cut, rpc, status:CODE
    #[arg(long)]
    pub(crate) fail: Option<String>,
    /// The tool to call. Answers of any other than `load` may have any length
    #[arg(long, default_value = "load")]
    pub(crate) tool: String,
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Pin to this CPU (several threads: to this one and the next)
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// API key, sent as a bearer token
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// A call without an answer is an error after this time
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Write the result as JSON too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if number > 0.0 && number <= 1e8 { Ok(number) } else { Err("must be above 0, at most 1e8".to_owned()) }
}

/// A number with a unit: `ms`, `s` or `m`; without one it is seconds. At most a day.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("`{unit}` is none of ms, s, m")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no time"))?;
    let seconds = number * factor;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("more than a day".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Takes `http://HOST:PORT/PATH` apart.
///
/// # Errors
/// Not plain HTTP, or not loopback: this harness must not be turned on other people's machines.
pub(crate) fn target(url: &str, key: Option<String>) -> anyhow::Result<Target> {
    let rest = url.strip_prefix("http://").with_context(|| format!("`{url}` is no http:// URL"))?;
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/mcp"),
    };
    let (name, _) = host.rsplit_once(':').with_context(|| format!("`{url}` names no port"))?;
    let literal =
        if name == "localhost" { host.replacen("localhost", "127.0.0.1", 1) } else { host.to_owned() };
    let address: SocketAddr =
        literal.parse().with_context(|| format!("`{host}` is no loopback address with a port"))?;
    if !address.ip().is_loopback() {
        bail!("{address} is not loopback: loadtest only loads this machine");
    }
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible(path) || !key.as_deref().is_none_or(visible) {
        bail!("URL and key must be printable ASCII without spaces");
    }
    Ok(Target { address, host: host.to_owned(), path: path.to_owned(), key })
}

impl Options {
    fn shape(&self) -> anyhow::Result<Shape> {
        if let Some(fail) = &self.fail {
            fail.parse::<Fail>().map_err(anyhow::Error::msg)?;
        }
        if self.tool.is_empty()
            || !self.tool.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
        {
            bail!("`{}` is no tool name", self.tool);
        }
        Ok(Shape {
            era: self.era,
            tool: self.tool.clone(),
            size: usize::try_from(self.size)?,
            answer: usize::try_from(self.answer)?,
            events: self.sse,
            interval_ms: self.interval_ms,
            delay_ms: self.delay_ms,
            fail: self.fail.clone(),
        })
    }

    fn checked(&self) -> anyhow::Result<()> {
        if !(1..=MAX_THREADS).contains(&self.threads) {
            bail!("--threads must be 1 to {MAX_THREADS}");
        }
        if !(self.threads..=MAX_CONNECTIONS).contains(&self.connections) {
            bail!("--connections must be --threads to {MAX_CONNECTIONS}");
        }
        Ok(())
    }

    /// Thread `index`'s share of connections, rate and calls, from `start` on.
    #[expect(clippy::cast_precision_loss, reason = "at most 64 threads")]
    fn job(&self, index: usize, start: u64) -> anyhow::Result<Job> {
        let shape = self.shape()?;
        let share = |all: usize| all / self.threads + usize::from(index < all % self.threads);
        let calls = self.calls.map_or(MAX_CALLS, |calls| {
            let (all, threads, index) = (calls, self.threads as u64, index as u64);
            (all / threads + u64::from(index < all % threads)).min(MAX_CALLS)
        });
        let time = match (self.time, self.calls) {
            (Some(time), _) => u64::try_from(time.as_nanos())?,
            (None, Some(_)) => 86_400_000_000_000,
            (None, None) => 10_000_000_000,
        };
        // An answer is never shorter than its envelope: the mock's least, with an id of ours.
        let answer = crate::answer::result_length(mcp::ID_DIGITS, shape.answer);
        Ok(Job {
            target: target(&self.url, self.key.clone())?,
            connections: share(self.connections),
            schedule: Schedule::new(
                start,
                start + time,
                calls,
                self.rate.map(|rate| rate / self.threads as f64),
            ),
            timeout: u64::try_from(self.timeout.as_nanos())?,
            answer: (self.tool == "load").then_some(answer),
            shape,
            first_id: mcp::FIRST_ID + MAX_CALLS * index as u64,
        })
    }
}

/// Runs the load and answers what it measured; shows progress on a terminal if `show`.
///
/// # Errors
/// Nothing listens, io_uring refused, a target that is not loopback.
pub(crate) fn run(options: &Options, show: bool) -> anyhow::Result<Report> {
    options.checked()?;
    // Threads connect first; the schedule starts for all at the same moment.
    let settle = 20_000_000 + 100_000 * options.connections as u64;
    let start = ring::monotonic_nanos() + if options.rate.is_some() { settle } else { 0 };
    let jobs: Vec<Job> =
        (0..options.threads).map(|index| options.job(index, start)).collect::<anyhow::Result<_>>()?;
    let live = AtomicU64::new(0);
    let mut total = Counts::new()?;
    let done = AtomicBool::new(false);
    let outcome: anyhow::Result<()> = std::thread::scope(|scope| {
        let progress =
            (show && std::io::stderr().is_terminal()).then(|| scope.spawn(|| progress(&live, &done)));
        let counts = if jobs.len() == 1 {
            // One thread needs no thread: `compare` runs here, on the CPU that it pinned.
            if let Some(cpu) = options.cpu {
                ring::pin(cpu).with_context(|| format!("cannot pin to CPU {cpu}"))?;
            }
            jobs.into_iter().map(|job| generate(job, &live)).collect()
        } else {
            let live = &live;
            let spawn = |(index, job)| {
                scope.spawn(move || {
                    if let Some(cpu) = options.cpu {
                        ring::pin(cpu + index)
                            .with_context(|| format!("cannot pin to CPU {}", cpu + index))?;
                    }
                    generate(job, live)
                })
            };
            let threads: Vec<_> = jobs.into_iter().enumerate().map(spawn).collect();
            let joined = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow::Error::msg("a generator panicked")))
            });
            joined.collect::<Vec<_>>()
        };
        done.store(true, Ordering::Relaxed);
        if let Some(progress) = progress {
            let _ = progress.join();
        }
        counts.into_iter().try_for_each(|counts| total.add(&counts?))
    });
    done.store(true, Ordering::Relaxed);
    outcome?;
    #[expect(clippy::cast_precision_loss, reason = "a day of nanoseconds is exact")]
    let seconds = ring::monotonic_nanos().saturating_sub(total.started) as f64 / 1e9;
    let asked = Asked {
        url: options.url.clone(),
        era: options.era,
        connections: options.connections,
        rate: options.rate,
    };
    Ok(Report::new(asked, &total, seconds))
}

fn progress(live: &AtomicU64, done: &AtomicBool) {
    let (mut last, mut ticks) = (0, 0_u32);
    while !done.load(Ordering::Relaxed) {
        // A line each second, and an end within a tenth of one.
        std::thread::sleep(Duration::from_millis(100));
        ticks += 1;
        if ticks % 10 == 0 {
            let now = live.load(Ordering::Relaxed);
            let _ =
                write!(std::io::stderr(), "\r{:>4} s  {:>9} calls  {:>8}/s ", ticks / 10, now, now - last);
            last = now;
        }
    }
    let _ = write!(std::io::stderr(), "\r{:50}\r", "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_loaded() {
        for url in ["http://127.0.0.1:1/mcp", "http://localhost:80/", "http://[::1]:9/mcp/x"] {
            assert!(target(url, None).is_ok(), "{url}");
        }
        for url in
            ["http://192.0.2.1:80/", "https://127.0.0.1:1/", "http://127.0.0.1/", "http://example:80/", "x"]
        {
            assert!(target(url, None).is_err(), "{url}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert!(duration("3h").is_err() && duration("s").is_err() && duration("-1s").is_err());
    }
}
