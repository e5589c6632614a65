//! `--gate`: what two threads pay for limits beside one, with a verdict: paired rounds in one process, each thread on a
//! processor of its own, CPU per operation by the kernel's clock of each thread. A sample counts only if no thread of it had
//! to wait for its processor: two threads that do not run at the same time do not meet.
//!
//! Two processors of a machine may be two threads of one core, and then two threads are slower than one whatever they
//! share. So a control runs in each round: two threads with a table each, which share nothing at all. Where that is over
//! the limit, the machine cannot show what the code does, and there is no verdict; what remains to be seen is whether one
//! table costs more than two, which is what sharing would do.
//!
//! Not here: the statistics, which are those of `loadtest compare`; what else `cargo bench` measures.

#[path = "../../loadtest/src/ratio.rs"]
#[expect(dead_code, reason = "a function of its tests, which run where the file belongs")]
mod ratio;

use crossbeam_utils::CachePadded;
use ratio::Gate;
use ratio::Ratio;
use ratio::Verdict;
use ringgate::base::clock::Moment;
use ringgate::policy::limits::table::Table;
use ringgate::policy::limits::terms::Terms;
use rustix::thread::CpuSet;
use rustix::thread::sched_getaffinity;
use rustix::thread::sched_setaffinity;
use rustix::time::ClockId;
use rustix::time::clock_gettime;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

const ROUNDS: usize = 101;
/// Of the thread that is first: a millisecond or a few, which is less than a turn on a processor that others use too.
const OPERATIONS: u64 = 50_000;
/// For how long samples are taken again because a thread had to wait, over all rounds. What is missing then is missing, and
/// says so.
const PATIENCE_NS: i64 = 60_000_000_000;
/// The part of the time that a thread must have run.
const UNDISTURBED: f64 = 0.97;
/// Between two looks at whether the other thread is done.
const BATCH: u64 = 1_000;
const BUCKETS: usize = 1_024;

/// What costs are measured of, in this order. The second of a name is its null run.
const ARMS: [&str; 8] =
    ["one", "one'", "distinct", "apart", "shared", "shared check and take", "fetch_add", "fetch_add'"];

/// What all rounds of all arms work on.
struct Bench {
    cpus: [usize; 2],
    terms: Terms,
    table: Table,
    apart: [Table; 2],
    bare: CachePadded<AtomicU64>,
}

/// Runs all rounds and says what they show: 0 all held, 1 one did not, 3 nobody can tell.
pub(crate) fn gate() -> ExitCode {
    let Some(cpus) = two_processors() else {
        println!("no verdict: this needs two processors");
        return ExitCode::from(3);
    };
    let bench = Bench {
        cpus,
        // Whatever is asked fits, so that each take writes: a day's worth at once.
        terms: Terms::new(1_000_000, 1_000, 1_000_000 * 86_400).expect("in range"),
        table: Table::new(BUCKETS),
        apart: [Table::new(BUCKETS), Table::new(BUCKETS)],
        bare: CachePadded::new(AtomicU64::new(0)),
    };
    let mut costs = [(); ARMS.len()].map(|()| Vec::new());
    let until = nanos(ClockId::Monotonic) + PATIENCE_NS;
    // The first round only warms up.
    for round in 0..=ROUNDS {
        for place in 0..ARMS.len() {
            let arm = (place + round) % ARMS.len();
            let mut cost = bench.cost(arm);
            while cost.is_none() && nanos(ClockId::Monotonic) < until {
                cost = bench.cost(arm);
            }
            if round > 0 {
                costs[arm].push(cost);
            }
        }
    }
    report(&costs)
}

fn two_processors() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    Some([cpus.next()?, cpus.next()?])
}

impl Bench {
    /// Nanoseconds of CPU of one operation; none if a thread had to wait.
    fn cost(&self, arm: usize) -> Option<f64> {
        let own = |thread: usize, round| check_and_take(&self.table, key(thread), &self.terms, round);
        match ARMS[arm] {
            // Each processor by itself: one of them may be the slower one today.
            "one" | "one'" => Some(f64::midpoint(self.run(&[0], own)?, self.run(&[1], own)?)),
            "distinct" => self.run(&[0, 1], own),
            "apart" => self.run(&[0, 1], |thread, round| {
                check_and_take(&self.apart[thread], key(thread), &self.terms, round)
            }),
            "shared" => self.run(&[0, 1], |_, round| {
                self.table.take(black_box(key(2)), &self.terms, 1, moment(round)).has_room()
            }),
            "shared check and take" => {
                self.run(&[0, 1], |_, round| check_and_take(&self.table, key(2), &self.terms, round))
            }
            _ => self.run(&[0, 1], |_, _| {
                black_box(self.bare.fetch_add(1, Ordering::SeqCst));
                true
            }),
        }
    }

    /// Runs `work` in these threads at once, until the first has done its operations: what the other does alone afterwards
    /// would not be contended. Nanoseconds of CPU of one operation of all.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds are exact in f64")]
    fn run(&self, threads: &[usize], work: impl Fn(usize, u64) -> bool + Sync) -> Option<f64> {
        let (ready, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let one = |thread: usize| {
            let mut alone = CpuSet::new();
            alone.set(self.cpus[thread]);
            sched_setaffinity(None, &alone).expect("a processor of ours");
            ready.fetch_add(1, Ordering::SeqCst);
            while ready.load(Ordering::SeqCst) < threads.len() {
                std::hint::spin_loop();
            }
            let (begin, cpu) = (nanos(ClockId::Monotonic), nanos(ClockId::ThreadCPUTime));
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let held = (count..count + BATCH).all(|round| black_box(work(thread, round)));
                assert!(held, "everything has room, or refusals are measured");
                count += BATCH;
                if count >= OPERATIONS {
                    done.store(true, Ordering::Relaxed);
                }
            }
            let (cpu, time) = (nanos(ClockId::ThreadCPUTime) - cpu, nanos(ClockId::Monotonic) - begin);
            (cpu as f64 >= UNDISTURBED * time as f64).then_some((cpu as f64, count as f64))
        };
        let (cpu, operations) = thread::scope(|scope| {
            let running: Vec<_> = threads.iter().map(|thread| scope.spawn(|| one(*thread))).collect();
            let ended: Vec<_> = running.into_iter().map(|thread| thread.join().expect("no panic")).collect();
            ended
                .into_iter()
                .try_fold((0.0, 0.0), |sums, one| one.map(|one| (sums.0 + one.0, sums.1 + one.1)))
        })?;
        Some(cpu / operations)
    }
}

/// Keys whose lines are far apart, further than processors fetch lines in pairs: lines are chosen by the upper half.
fn key(owner: usize) -> u64 {
    (owner as u64) << 61 | 5
}

/// Calls come as fast as their rate allows.
const fn moment(round: u64) -> Moment {
    Moment::from_nanos(round * 1_008)
}

fn check_and_take(table: &Table, key: u64, terms: &Terms, round: u64) -> bool {
    let (key, now) = (black_box(key), moment(round));
    table.check(key, terms, 1, now).has_room() && table.take(key, terms, 1, now).has_room()
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

type Costs = [Vec<Option<f64>>; ARMS.len()];

fn report(costs: &Costs) -> ExitCode {
    println!("{ROUNDS} paired rounds; nanoseconds of CPU of one operation, medians");
    for (arm, costs) in ARMS.iter().zip(costs) {
        let known: Vec<f64> = costs.iter().copied().flatten().collect();
        println!("  {arm:<22} {:>7.1}, {} undisturbed", ratio::median(&known), known.len());
    }
    let control = judge(costs, "apart/one<=1.1", "one").1;
    let (mut distinct, _) = judge(costs, "distinct/one<=1.1", "one");
    judge(costs, "distinct/apart<=1.1", "one");
    let (shared, _) = judge(costs, "shared/fetch_add<=3", "fetch_add");
    judge(costs, "shared check and take/fetch_add<=3", "fetch_add");
    if control > 1.1 {
        distinct = Verdict::Unclear;
        println!(
            "two threads that share nothing cost {control:.2} of one here: this machine cannot show distinct/one"
        );
    }
    println!("distinct keys (distinct/one<=1.1): {}", said(distinct));
    println!("a shared key (shared/fetch_add<=3): {}", said(shared));
    match (distinct, shared) {
        (Verdict::Fail, _) | (_, Verdict::Fail) => ExitCode::FAILURE,
        (Verdict::Pass, Verdict::Pass) => ExitCode::SUCCESS,
        _ => ExitCode::from(3),
    }
}

/// Says what a gate says to the costs, and returns it with the ratio. `null`: the arm that ran twice.
fn judge(costs: &Costs, gate: &str, null: &str) -> (Verdict, f64) {
    let gate: Gate = gate.parse().expect("a gate");
    let of = |name: &str| &costs[ARMS.iter().position(|arm| *arm == name).expect("an arm")];
    let band = ratio::null_band(&ratio::per_round(of(&format!("{null}'")), of(null)));
    let ratio = Ratio::paired(of(&gate.ours), of(&gate.theirs));
    let verdict = gate.judge(ratio.map(|ratio| ratio.median), band);
    let none = Ratio { median: f64::NAN, min: f64::NAN, max: f64::NAN };
    let Ratio { median, min, max } = ratio.unwrap_or(none);
    let band = band.unwrap_or(f64::NAN);
    let gate = gate.to_string();
    println!("{gate:<36} {median:.3} ({min:.2} to {max:.2}), null 1 ± {band:.3}: {}", said(verdict));
    (verdict, median)
}

const fn said(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Unclear => "no verdict",
    }
}
