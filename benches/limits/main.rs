//! Cost of one limit. `cargo bench --bench limits` measures times; `-- --gate` after it judges what two threads pay for
//! distinct keys and for a shared one (`gate`); `-- --count` does each kind of check for callgrind to count (`count`),
//! which `tests/instructions` does without building all this.
//!
//! What two threads pay for sharing a bucket is set beside what they pay for a bare shared `fetch_add`; what they pay for a
//! key each in one table beside a table each, because two processors of a machine may be two threads of one core, and then
//! two are slower than one whatever they share.
//!
//! Not here: matching calls to limits, and whole calls.
#![expect(clippy::expect_used, reason = "a benchmark whose input is refused has nothing to measure")]

mod count;
mod gate;

use criterion::Criterion;
use criterion::criterion_group;
use ringgate::base::clock::Moment;
use ringgate::policy::limits::table::Table;
use ringgate::policy::limits::terms::Terms;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Nanoseconds between two calls of a thread: just as much as the rate allows, so that every call takes.
const STEP_NS: u64 = 1_008;

fn terms() -> Terms {
    Terms::new(1_000_000, 1_000, 1_000).expect("in range")
}

/// A key with a line of its own: lines are chosen by the upper half.
const fn key(thread: u64) -> u64 {
    thread << 60 | 5
}

/// How long `threads` threads need for `rounds` rounds each, from the moment that all are there.
fn together(threads: u64, rounds: u64, work: impl Fn(u64, u64) + Sync) -> Duration {
    let start = Barrier::new(usize::try_from(threads).expect("few"));
    thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let run = |thread| {
            scope.spawn(move || {
                start.wait();
                let begin = now();
                (0..rounds).for_each(|round| work(thread, round));
                begin.elapsed()
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).max().unwrap_or_default()
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn check_and_take(table: &Table, key: u64, terms: &Terms, round: u64) -> bool {
    let now = Moment::from_nanos(round * STEP_NS);
    table.check(key, terms, 1, now).has_room() && table.take(key, terms, 1, now).has_room()
}

fn threads(c: &mut Criterion) {
    let (terms, table): (_, Table) = (terms(), Table::new(1024));
    let shared = AtomicU64::new(0);
    let mut group = c.benchmark_group("limits");
    for (name, threads) in [("one thread", 1), ("two threads, a key each", 2)] {
        group.bench_function(format!("check and take, {name}"), |b| {
            b.iter_custom(|rounds| {
                together(threads, rounds, |thread, round| {
                    black_box(check_and_take(&table, key(thread), &terms, round));
                })
            });
        });
    }
    let apart = [Table::new(1024), Table::new(1024)];
    group.bench_function("check and take, two threads, a table each", |b| {
        b.iter_custom(|rounds| {
            together(2, rounds, |thread, round| {
                // One of the two threads.
                black_box(check_and_take(&apart[usize::from(thread == 1)], key(thread), &terms, round));
            })
        });
    });
    group.bench_function("take, two threads, one key", |b| {
        b.iter_custom(|rounds| {
            together(2, rounds, |_, round| {
                black_box(table.take(key(2), &terms, 1, Moment::from_nanos(round * STEP_NS)));
            })
        });
    });
    group.bench_function("fetch_add, two threads, one number", |b| {
        b.iter_custom(|rounds| {
            together(2, rounds, |_, _| {
                black_box(shared.fetch_add(1, Ordering::SeqCst));
            })
        });
    });
    group.finish();
}

criterion_group!(benches, threads);

fn main() -> ExitCode {
    let asked = |option: &str| std::env::args().any(|argument| argument == option);
    if asked("--gate") {
        return gate::gate();
    }
    if asked("--count") {
        count::count();
        return ExitCode::SUCCESS;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
    ExitCode::SUCCESS
}
