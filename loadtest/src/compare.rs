//! `compare`: rounds in which every target carries the same load in a new order, and what each costs.
//! Not here: starting targets (`target`), the load (`run`), statistics (`ratio`), the table (`table`).

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use serde::Serialize;

use crate::account;
use crate::account::Others;
use crate::handshake;
use crate::handshake::Done;
use crate::handshake::Handshakes;
use crate::mcp::Era;
use crate::ratio::Gate;
use crate::report::Report;
use crate::ring;
use crate::run;
use crate::target;
use crate::target::Process;
use crate::target::Running;
use crate::target::Scratch;
use crate::target::Spec;

/// A round in which others used more of the machine than this is taken again.
const MAX_OTHERS: f64 = 0.05;

/// What is compared, how often, and what must come out.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// relay, nginx, direct, SETUP=PATH of a ringgate (ringgate, federated, plain, limited, bearing, identified,
    /// inspected), or NAME=COMMAND with {port}, {upstream}, {dir}; several times
    #[arg(long = "target", value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<Spec>,
    /// The target that runs twice, for the null run; the first with a process if nothing is said
    #[arg(long, value_name = "NAME")]
    null: Option<String>,
    /// No null run, no band, no gates
    #[arg(long)]
    no_null: bool,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of one target's turn
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// End a turn after so many calls
    #[arg(long)]
    calls: Option<u64>,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Open loop at this rate instead of a closed one
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, value_enum, default_value = "modern")]
    era: Era,
    #[arg(long, default_value_t = 300)]
    size: u64,
    #[arg(long, default_value_t = 500)]
    answer: u64,
    /// API key or access token, sent as a bearer token to every target that makes none of its own
    #[arg(long)]
    key: Option<String>,
    #[arg(long, value_name = "EVENTS", default_value_t = 0)]
    sse: u32,
    #[arg(long, default_value_t = 0)]
    interval_ms: u64,
    /// TLS handshakes instead of calls, one after the other; nginx and ringgate only
    #[arg(long, value_enum)]
    handshakes: Option<Handshakes>,
    /// The CPU of the targets
    #[arg(long, default_value_t = 0)]
    target_cpu: usize,
    /// The CPU of generator and upstream
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Rounds taken again because others used the machine, at most, over the whole comparison
    #[arg(long, default_value_t = 10)]
    retries: u32,
    /// Seconds to wait for a quiet machine before a round
    #[arg(long, default_value_t = 10)]
    patience: u64,
    /// Judge also if rounds stay disturbed
    #[arg(long)]
    keep_disturbed: bool,
    /// Order of turns
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What must hold of CPU per call, such as `ringgate/relay<=1.22`: exit 1 if not, 3 if nobody can tell
    #[arg(long = "gate", value_name = "A/B<=LIMIT")]
    pub(crate) gates: Vec<Gate>,
    /// Write everything as JSON too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// One target's turn in one round.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Turn {
    pub(crate) target: String,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) rate: f64,
    /// CPU seconds of the target's process tree a million calls; none for `direct`.
    pub(crate) cpu_seconds_per_million: Option<f64>,
    /// The same of the mock upstream.
    pub(crate) upstream_cpu_seconds_per_million: f64,
    pub(crate) rss_kib: Option<u64>,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Round {
    pub(crate) turns: Vec<Turn>,
    /// The share of the machine that others used.
    pub(crate) others: f64,
    pub(crate) disturbed: bool,
}

/// The two labels of the null run.
pub(crate) type Twins = (String, String);

/// Everything that was measured.
pub(crate) struct Measured {
    pub(crate) labels: Vec<String>,
    pub(crate) null: Option<Twins>,
    pub(crate) rounds: Vec<Round>,
    /// Rounds thrown away because others used the machine.
    pub(crate) taken_again: u32,
    pub(crate) what: String,
    pub(crate) keep_disturbed: bool,
}

struct Bench<'a> {
    options: &'a Options,
    upstream: Process,
    targets: Vec<Running>,
    random: u64,
    /// After the processes that it is for.
    scratch: Scratch,
}

/// Starts all targets, takes the rounds, ends all targets.
///
/// # Errors
/// A target that does not start, a gate that names none, an interruption.
pub(crate) fn compare(options: &Options) -> anyhow::Result<Measured> {
    if options.target_cpu == options.load_cpu || account::cpus() < 2 {
        bail!("target and load need two CPUs of their own");
    }
    let (specs, null) = specs(options)?;
    ring::adopt_orphans();
    let scratch = Scratch::new()?;
    let (upstream, address) = target::start_upstream(options.load_cpu, &scratch)?;
    handshake::certificate(scratch.path())?;
    let mut targets = Vec::new();
    for spec in &specs {
        let running = spec.start(options.target_cpu, address, &scratch, options.handshakes.is_some());
        targets.push(running.with_context(|| format!("target {}", spec.label))?);
    }
    ring::pin(options.load_cpu).with_context(|| format!("cannot pin to CPU {}", options.load_cpu))?;
    let mut bench = Bench { options, scratch, upstream, targets, random: options.seed | 1 };
    // Everything is touched once before it counts.
    bench.round(Some(0.3)).context("warming up")?;
    let (rounds, taken_again) = bench.rounds()?;
    Ok(Measured {
        labels: specs.into_iter().map(|spec| spec.label).collect(),
        null,
        rounds,
        taken_again,
        what: what(options),
        keep_disturbed: options.keep_disturbed,
    })
}

/// All targets, the null run's twin among them.
fn specs(options: &Options) -> anyhow::Result<(Vec<Spec>, Option<Twins>)> {
    let mut specs = options.targets.clone();
    if specs.len() > 16 {
        bail!("at most 16 targets");
    }
    let mut null = None;
    if !options.no_null {
        let wanted =
            |spec: &&Spec| spec.has_process() && options.null.as_ref().is_none_or(|name| *name == spec.label);
        let found = specs.iter().find(wanted).cloned().context("no target for the null run")?;
        let twin = found.twin();
        null = Some((found.label, twin.label.clone()));
        if !specs.iter().any(|spec| spec.label == twin.label) {
            specs.push(twin);
        }
    }
    for gate in &options.gates {
        for name in [&gate.ours, &gate.theirs] {
            if !specs.iter().any(|spec| spec.label == *name && spec.has_process()) {
                bail!("gate {gate}: no target {name} with a process");
            }
        }
    }
    Ok((specs, null))
}

fn what(options: &Options) -> String {
    let Options { era, size, answer, connections, sse, interval_ms, .. } = options;
    if let Some(kind) = options.handshakes {
        return format!("{kind:?} handshakes, TLS 1.3, ECDSA P-256, X25519, AES-128-GCM");
    }
    let how = options.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate}/s open loop"));
    let stream = if *sse > 0 { format!(", {sse} events {interval_ms} ms apart") } else { String::new() };
    format!("{era:?} tools/call of {size} B answered by {answer} B{stream}, {connections} connections, {how}")
}

impl Bench<'_> {
    fn rounds(&mut self) -> anyhow::Result<(Vec<Round>, u32)> {
        let (mut rounds, mut taken_again) = (Vec::new(), 0);
        while rounds.len() < self.options.rounds as usize {
            self.wait_for_quiet();
            say(&format!("round {} of {}, {taken_again} taken again", rounds.len() + 1, self.options.rounds));
            let round = self.round(None)?;
            if round.disturbed && taken_again < self.options.retries {
                taken_again += 1;
                continue;
            }
            rounds.push(round);
        }
        say("");
        Ok((rounds, taken_again))
    }

    fn pids(&self) -> Vec<u32> {
        let targets = self.targets.iter().filter_map(|target| target.process.as_ref());
        // Our own tree holds them all, unless a target left it.
        let mut pids = vec![std::process::id()];
        let own = account::tree(std::process::id());
        pids.extend(targets.map(Process::pid).filter(|pid| !own.contains(pid)));
        pids
    }

    fn wait_for_quiet(&self) {
        let pids = self.pids();
        let until = ring::monotonic_nanos() + self.options.patience * 1_000_000_000;
        while ring::monotonic_nanos() < until && !ring::stopped() {
            let before = Others::look(&pids);
            // What others use is measured over this time.
            std::thread::sleep(Duration::from_millis(300));
            if Others::look(&pids).since(&before) <= MAX_OTHERS {
                return;
            }
        }
    }

    /// Every target once, in a new order.
    fn round(&mut self, seconds: Option<f64>) -> anyhow::Result<Round> {
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        for place in (1..order.len()).rev() {
            let other = self.next_random() % (place as u64 + 1);
            order.swap(place, usize::try_from(other).unwrap_or(0));
        }
        let pids = self.pids();
        let before = Others::look(&pids);
        let mut turns = Vec::new();
        for index in order {
            if ring::stopped() {
                bail!("interrupted");
            }
            if let Some(target) = self.targets.get(index) {
                turns.push(self.turn(target, seconds)?);
            }
        }
        let others = Others::look(&pids).since(&before);
        Ok(Round { turns, others, disturbed: others > MAX_OTHERS })
    }

    /// xorshift64*: a fixed seed gives the same orders.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes are exact in f64")]
    fn turn(&self, target: &Running, seconds: Option<f64>) -> anyhow::Result<Turn> {
        let load = self.load(target, seconds);
        let pid = target.process.as_ref().map(Process::pid);
        let cost = || (pid.map(account::cpu), account::cpu(self.upstream.pid()));
        let before = cost();
        let carried = match self.options.handshakes {
            None => {
                Carried::calls(&run::run(&load, false).with_context(|| format!("loading {}", target.label))?)
            }
            Some(kind) => {
                let time = load.time.unwrap_or_default();
                Carried::handshakes(handshake::run(target.address, self.scratch.path(), kind, time)?, time)
            }
        };
        let after = cost();
        if carried.count == 0 {
            bail!("{} answered no call rightly: {:?}", target.label, carried.errors);
        }
        // Nanoseconds a call are thousandths of a CPU second a million calls.
        let per_million = |nanos: u64| nanos as f64 / 1000.0 / carried.count as f64;
        Ok(Turn {
            target: target.label.clone(),
            calls: carried.count,
            errors: carried.errors.values().sum(),
            rate: carried.rate,
            cpu_seconds_per_million: after
                .0
                .zip(before.0)
                .map(|(after, before)| per_million(after.saturating_sub(before))),
            upstream_cpu_seconds_per_million: per_million(after.1.saturating_sub(before.1)),
            rss_kib: pid.map(account::rss_kib),
            p50_micros: carried.p50_micros,
            p99_micros: carried.p99_micros,
        })
    }

    fn load(&self, target: &Running, seconds: Option<f64>) -> run::Options {
        let options = self.options;
        let calls = if seconds.is_some() { None } else { options.calls };
        let time = match calls {
            Some(_) => 600.0,
            None => seconds.unwrap_or(options.seconds).clamp(0.05, 600.0),
        };
        run::Options {
            url: target.url.clone(),
            era: options.era,
            connections: options.connections,
            rate: options.rate,
            time: Some(Duration::from_secs_f64(time)),
            calls,
            size: options.size,
            answer: options.answer,
            sse: options.sse,
            interval_ms: options.interval_ms,
            delay_ms: 0,
            fail: None,
            tool: target.tool.clone(),
            threads: 1,
            cpu: None,
            key: target.token.clone().or_else(|| options.key.clone()),
            timeout: Duration::from_secs(30),
            json: None,
        }
    }
}

/// What a target did in a turn.
struct Carried {
    count: u64,
    errors: BTreeMap<&'static str, u64>,
    rate: f64,
    p50_micros: f64,
    p99_micros: f64,
}

impl Carried {
    fn calls(report: &Report) -> Self {
        Self {
            count: report.calls,
            errors: report.errors.clone(),
            rate: report.rate,
            p50_micros: report.latency.as_ref().map_or(f64::NAN, |latency| latency.p50),
            p99_micros: report.latency.as_ref().map_or(f64::NAN, |latency| latency.p99),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes are exact in f64")]
    fn handshakes(done: Done, time: Duration) -> Self {
        let Done { handshakes, errors, mut times } = done;
        times.sort_unstable();
        let at = |percent: usize| {
            times.get(times.len() * percent / 100).map_or(f64::NAN, |nanos| *nanos as f64 / 1000.0)
        };
        let rate = handshakes as f64 / time.as_secs_f64();
        Self { count: handshakes, errors, rate, p50_micros: at(50), p99_micros: at(99) }
    }
}

/// Progress, on a terminal only.
fn say(text: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let _ = write!(err, "\r{text:<60}\r");
    }
}
