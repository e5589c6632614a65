//! The adaptive limit against a simulated server, under a virtual clock.

use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const MS: u64 = 1_000_000;
const SETTINGS: Adaptive = Adaptive { min: 4, max: 256, percentile: 95, target_ms: 250 };

fn at(millis: u64) -> Moment {
    Moment::ZERO.plus_millis(millis)
}

/// An open-loop caller and a server that takes calls in turn: each takes `service` from when one of its
/// `lanes` is free.
struct Scene {
    calls_per_second: u64,
    lanes: usize,
    /// The server's time for one call in ms, as a function of the time in ms.
    service_ms: fn(u64) -> u64,
}

struct Run {
    /// The limit at the end of each second.
    limits: Vec<u32>,
    shed: Vec<u64>,
    answered: u64,
}

impl Scene {
    fn run(&self, seconds: u64) -> Run {
        let cell = AdaptiveCell::new(&SETTINGS);
        let (mut limits, mut shed, mut answered) = (vec![], vec![], 0);
        let mut free_at = BinaryHeap::from(vec![Reverse(0); self.lanes]);
        let mut ends: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        for second in 0..seconds {
            let mut shed_now = 0;
            for call in 0..self.calls_per_second {
                let now = second * 1_000 * MS + call * 1_000 * MS / self.calls_per_second;
                while let Some(Reverse((end, start))) =
                    ends.peek().copied().filter(|Reverse((end, _))| *end <= now)
                {
                    ends.pop();
                    answered += 1;
                    cell.leave(&SETTINGS, Some(end - start), Moment::from_nanos(end));
                    assert!((SETTINGS.min..=SETTINGS.max).contains(&cell.limit()));
                }
                assert_eq!(cell.in_flight() as usize, ends.len());
                if cell.enter().is_err() {
                    shed_now += 1;
                    assert!(cell.in_flight() >= cell.limit());
                    continue;
                }
                assert!(cell.in_flight() <= cell.limit());
                let Reverse(free) = free_at.pop().unwrap();
                let end = free.max(now) + (self.service_ms)(now / MS) * MS;
                free_at.push(Reverse(end));
                ends.push(Reverse((end, now)));
            }
            limits.push(cell.limit());
            shed.push(shed_now);
        }
        Run { limits, shed, answered }
    }
}

/// 20 ms, 800 ms from 10 s on, 20 ms again from 40 s on.
fn slow_for_half_a_minute(now_ms: u64) -> u64 {
    if (10_000..40_000).contains(&now_ms) { 800 } else { 20 }
}

#[test]
fn it_falls_within_five_seconds_and_is_back_within_thirty() {
    for calls_per_second in [3, 5, 20, 100, 1_000] {
        let scene = Scene { calls_per_second, lanes: 10_000, service_ms: slow_for_half_a_minute };
        let run = scene.run(75);
        assert_eq!(run.limits[9], 256, "{calls_per_second}/s: it is well");
        assert!(run.limits[14] < 128, "{calls_per_second}/s: {:?}", run.limits);
        let old = f64::from(run.limits[9]);
        assert!(f64::from(run.limits[69]) >= 0.9 * old, "{calls_per_second}/s: {:?}", run.limits);
        assert_eq!(run.shed[..10], [0; 10]);
        if calls_per_second >= 20 {
            assert!(run.shed[20..39].iter().all(|shed| *shed > 0), "{calls_per_second}/s: {:?}", run.shed);
        }
    }
}

#[test]
fn a_server_with_room_for_less_than_is_asked_stays_busy_and_near_its_target() {
    // 20 lanes of 100 ms: 200 calls a second; twice that is asked for.
    let scene = Scene { calls_per_second: 400, lanes: 20, service_ms: |_| 100 };
    let run = scene.run(120);
    let share = run.answered as f64 / (200.0 * 120.0);
    assert!(share > 0.85, "{share}: {:?}", run.limits);
    // 50 calls in flight are 250 ms.
    let settled = &run.limits[20..];
    let mean = settled.iter().sum::<u32>() as f64 / settled.len() as f64;
    assert!((25.0..70.0).contains(&mean), "{mean}: {settled:?}");
}

#[test]
fn few_slow_calls_are_no_reason_to_fall() {
    // One call in fifty: half of what `p95` allows.
    let scene = Scene {
        calls_per_second: 50,
        lanes: 10_000,
        service_ms: |now| if now % 1_000 < 20 { 900 } else { 20 },
    };
    let run = scene.run(60);
    assert!(run.limits.iter().all(|limit| *limit == 256), "{:?}", run.limits);
}

#[test]
fn verdicts_by_the_numbers() {
    use Verdict::Kept;
    use Verdict::Missed;
    use Verdict::Undecided;
    for (samples, slow, elapsed_ms, expected) in [
        (100, 5, 499, None),
        (100, 5, 500, Some(Kept { elapsed_ms: 500 })),
        (100, 6, 500, None),
        (100, 6, 2_000, Some(Undecided)),
        (100, 7, 500, Some(Missed)),
        (1, 0, 3_600_000, Some(Kept { elapsed_ms: 2_000 })),
        (1, 1, 500, None),
        (2, 2, 500, Some(Missed)),
        (2, 2, u32::MAX, None),
        (u16::MAX, u16::MAX, 500, Some(Missed)),
    ] {
        let window = Window { since_ms: u32::MAX - 100, samples, slow };
        let now_ms = window.since_ms.wrapping_add(elapsed_ms);
        assert_eq!(window.verdict(&SETTINGS, now_ms), expected, "{window:?} after {elapsed_ms}");
        assert_eq!(Window::unpack(window.pack(), 0).pack(), window.pack());
    }
    let full = Window { since_ms: 1, samples: u16::MAX, slow: 7 };
    assert_eq!(full.with(true).pack(), full.pack());
}

#[test]
fn new_bounds_take_the_limit_with_them() {
    let cell = AdaptiveCell::new(&SETTINGS);
    cell.enter().unwrap();
    cell.adopt(&Adaptive { min: 1, max: 2, ..SETTINGS });
    assert_eq!((cell.limit(), cell.in_flight()), (2, 1));
    cell.enter().unwrap();
    assert_eq!(cell.enter(), Err(Shed { limit: 2 }));
    cell.adopt(&Adaptive { min: 8, max: 16, ..SETTINGS });
    assert_eq!((cell.limit(), cell.in_flight()), (8, 2));
    for latency in [None, Some(1)] {
        assert_eq!(cell.leave(&SETTINGS, latency, at(0)), None);
    }
    assert_eq!(cell.in_flight(), 0);
}

#[test]
fn eight_threads_never_hold_more_calls_than_the_limit_of_the_moment() {
    let settings = Adaptive { min: 2, max: 6, ..SETTINGS };
    let (cell, clock, held) = (AdaptiveCell::new(&settings), AtomicU64::new(0), AtomicU64::new(0));
    let changes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (cell, clock, held, changes) = (&cell, &clock, &held, &changes);
            scope.spawn(move || {
                let mut attempts = 0..500_000;
                while clock.load(Ordering::SeqCst) < 100_000 {
                    assert!(attempts.next().is_some(), "it does not go on");
                    if cell.enter().is_err() {
                        std::thread::yield_now();
                        continue;
                    }
                    let before = held.fetch_add(1, Ordering::SeqCst);
                    assert!(before < u64::from(settings.max), "{before} were held already");
                    let now_ms = clock.fetch_add(7, Ordering::SeqCst);
                    held.fetch_sub(1, Ordering::SeqCst);
                    // Slow and fast by turns of 10 s.
                    let latency = if now_ms / 10_000 % 2 == 0 { 900 * MS } else { 20 * MS };
                    let changed = cell.leave(&settings, Some(latency), at(now_ms));
                    changes.fetch_add(u64::from(changed.is_some()), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(cell.in_flight(), 0);
    assert!(changes.into_inner() > 10);
}

/// A reload lowers `max`, or raises `min`, while calls of the plan before are on their way: what they find out moves the
/// limit within the bounds of now.
#[test]
fn calls_of_an_older_plan_move_no_limit_past_the_bounds_of_now() {
    for (bounds, latency_ms) in [((1, 8), 20), ((1, 8), 800), ((200, 300), 800)] {
        let cell = AdaptiveCell::new(&SETTINGS);
        (0..100).for_each(|_| cell.enter().unwrap());
        let now = Adaptive { min: bounds.0, max: bounds.1, ..SETTINGS };
        cell.adopt(&now);
        for call in 0..100 {
            cell.leave(&SETTINGS, Some(latency_ms * MS), at(call * 600));
            assert!((now.min..=now.max).contains(&cell.limit()), "{bounds:?}: {}", cell.limit());
        }
        assert_eq!(cell.in_flight(), 0);
    }
}
