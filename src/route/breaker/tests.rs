//! The breaker against its figures, against a plain reference, and under eight threads.

use super::*;
use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::thread;

pub(crate) const DEFAULTS: Settings = Settings {
    window: 100,
    failure_permille: 500,
    min_calls: 20,
    open_ms: 30_000,
    max_open_ms: 300_000,
    probes: 3,
    per_tool: false,
};

/// A breaker with its flow and a clock of its own.
struct Rig {
    breaker: Breaker,
    flow: Flow,
    now: Moment,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        Self { breaker: Breaker::new(&settings), flow: Flow::default(), now: Moment::ZERO }
    }

    fn enter(&self) -> Result<Entry, Refused> {
        self.breaker.enter(&self.flow, self.now)
    }

    fn finish(&self, entry: Entry, outcome: Outcome) -> Option<Change> {
        self.breaker.finish(&self.flow, entry, outcome, self.now)
    }

    fn call(&self, outcome: Outcome) -> Option<Change> {
        self.finish(self.enter().unwrap(), outcome)
    }

    /// `outcomes`: `s`, `f` and `n`, each with a count before it: "51s 49f".
    fn calls(&self, outcomes: &str) -> Vec<Change> {
        let mut changes = Vec::new();
        for part in outcomes.split_whitespace() {
            let (count, kind) = part.split_at(part.len() - 1);
            let outcome = match kind {
                "s" => Outcome::Success,
                "f" => Outcome::Failure,
                _ => Outcome::Neutral,
            };
            changes.extend((0..count.parse().unwrap()).filter_map(|_| self.call(outcome)));
        }
        changes
    }

    fn pass_ms(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
    }

    fn state(&self) -> State {
        self.breaker.state(self.now)
    }

    /// Open, its time just over.
    fn half_open(settings: Settings) -> Self {
        let mut rig = Self::new(settings);
        rig.calls("20f");
        rig.pass_ms(settings.open_ms);
        rig
    }
}

#[test]
fn it_opens_exactly_where_the_share_of_failures_is_reached() {
    let opened = [Change::Opened { for_ms: 30_000 }].as_slice();
    for (outcomes, changes) in [
        ("51s 49f", [].as_slice()),
        ("51s 50f", opened),
        ("10f 9s", &[]),
        ("10f 10s", opened),
        ("10s 9f", &[]),
        ("10s 10f", opened),
        ("19f", &[]),
        ("19f 1s", opened),
        ("19f 1n", &[]),
        ("20f", opened),
        ("9f 11s 1f", &[]),
        // What leaves the window is forgotten: 49 of the last 100 are failures.
        ("51s 49f 100s 49f 51s", &[]),
        ("1000n 19f 1000n 1f", opened),
    ] {
        let rig = Rig::new(DEFAULTS);
        assert_eq!(rig.calls(outcomes), changes, "{outcomes}");
        assert_eq!(rig.state() == State::Open, !changes.is_empty(), "{outcomes}");
        assert_eq!(rig.flow.in_flight(), 0);
    }
}

#[test]
fn open_it_refuses_with_the_time_left_and_then_takes_exactly_its_probes() {
    let mut rig = Rig::new(DEFAULTS);
    rig.now = Moment::from_nanos(1);
    rig.calls("20f");
    // Open up to the next millisecond, so never shorter than asked for; but nobody is told to wait longer.
    assert_eq!(rig.enter().unwrap_err(), Refused { retry_ms: 30_000 });
    rig.pass_ms(30_000);
    assert_eq!((rig.enter().unwrap_err().retry_ms, rig.state()), (1, State::Open));
    rig.pass_ms(1);
    assert_eq!(rig.state(), State::HalfOpen);
    let probes: Vec<Entry> = (0..3).map(|_| rig.enter().unwrap()).collect();
    let changes: Vec<_> = probes.iter().map(Entry::change).collect();
    assert_eq!(changes, [Some(Change::HalfOpened), None, None]);
    assert_eq!(rig.enter().unwrap_err(), Refused { retry_ms: PROBES_OUT_RETRY_MS });
    assert!(rig.breaker.admits(rig.now).is_err());
    let changes: Vec<_> = probes.into_iter().map(|probe| rig.finish(probe, Outcome::Success)).collect();
    assert_eq!((changes, rig.state()), (vec![None, None, Some(Change::Closed)], State::Closed));
    // It begins anew: neither the old failures nor the probes count.
    assert_eq!(rig.calls("19f"), []);
    assert_eq!(rig.calls("1f"), [Change::Opened { for_ms: 30_000 }]);
}

#[test]
fn each_probe_that_fails_doubles_the_time_up_to_the_highest() {
    let mut rig = Rig::half_open(DEFAULTS);
    for open_ms in [60_000, 120_000, 240_000, 300_000, 300_000] {
        assert_eq!(rig.call(Outcome::Success), None);
        assert_eq!(rig.call(Outcome::Failure), Some(Change::Opened { for_ms: open_ms }));
        assert_eq!(rig.enter().unwrap_err().retry_ms, open_ms);
        rig.pass_ms(open_ms);
    }
    assert_eq!(rig.calls("3s"), [Change::Closed]);
    assert_eq!(rig.calls("20f"), [Change::Opened { for_ms: 30_000 }]);
}

#[test]
fn a_probe_without_an_outcome_makes_room_for_another() {
    let rig = Rig::half_open(DEFAULTS);
    let mut probes: Vec<Entry> = (0..3).map(|_| rig.enter().unwrap()).collect();
    assert_eq!(rig.finish(probes.remove(0), Outcome::Neutral), None);
    probes.push(rig.enter().unwrap());
    assert!(rig.enter().is_err());
    let closed = probes.into_iter().filter_map(|probe| rig.finish(probe, Outcome::Success)).count();
    assert_eq!((closed, rig.state(), rig.flow.in_flight()), (1, State::Closed, 0));
}

#[test]
fn outcomes_that_come_after_a_change_count_nothing() {
    let mut rig = Rig::new(DEFAULTS);
    let late: Vec<Entry> = (0..60).map(|_| rig.enter().unwrap()).collect();
    rig.calls("20f");
    rig.pass_ms(30_000);
    let (slow_probe, probe) = (rig.enter().unwrap(), rig.enter().unwrap());
    rig.finish(probe, Outcome::Failure);
    rig.pass_ms(60_000);
    let probes: Vec<Entry> = (0..3).map(|_| rig.enter().unwrap()).collect();
    assert_eq!(rig.finish(slow_probe, Outcome::Failure), None);
    assert_eq!(rig.state(), State::HalfOpen);
    let mut late = late.into_iter();
    for entry in late.by_ref().take(30) {
        assert_eq!(rig.finish(entry, Outcome::Failure), None);
    }
    probes
        .into_iter()
        .for_each(|probe| assert!(rig.finish(probe, Outcome::Success).is_none_or(|c| c == Change::Closed)));
    assert_eq!(rig.state(), State::Closed);
    for entry in late {
        assert_eq!(rig.finish(entry, Outcome::Failure), None);
    }
    assert_eq!((rig.calls("10s 9f"), rig.flow.in_flight()), (vec![], 0));
    assert_eq!(rig.calls("1f").len(), 1);
}

#[test]
fn an_open_time_that_is_over_never_comes_back() {
    const HALF_RANGE_MS: u64 = 1 << 31;
    for start_ms in [0, HALF_RANGE_MS - 10_000, 2 * HALF_RANGE_MS - 10_000, 2 * HALF_RANGE_MS - 40_000] {
        let mut rig = Rig::new(DEFAULTS);
        rig.pass_ms(start_ms);
        rig.calls("20f");
        assert_eq!((rig.breaker.tidy(rig.now), rig.state()), (None, State::Open), "{start_ms}");
        rig.pass_ms(30_000);
        assert_eq!(rig.breaker.tidy(rig.now), Some(Change::HalfOpened));
        assert_eq!(rig.breaker.tidy(rig.now), None);
        rig.pass_ms(HALF_RANGE_MS);
        assert_eq!((rig.state(), rig.calls("3s")), (State::HalfOpen, vec![Change::Closed]));
    }
}

/// xorshift: enough for tests that must be the same every time.
struct Random(u64);

impl Random {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32 % bound
    }
}

/// The rule as features.md words it, with every outcome kept.
struct Reference {
    settings: Settings,
    outcomes: VecDeque<bool>,
}

impl Reference {
    fn opens(&mut self, failed: bool) -> bool {
        self.outcomes.push_back(failed);
        if self.outcomes.len() > self.settings.window as usize {
            self.outcomes.pop_front();
        }
        let (count, failures) = (self.outcomes.len(), self.outcomes.iter().filter(|failed| **failed).count());
        let opens = count >= self.settings.min_calls as usize
            && failures * 1_000 >= self.settings.failure_permille as usize * count;
        if opens {
            self.outcomes.clear();
        }
        opens
    }
}

#[test]
fn it_opens_when_the_plain_rule_does() {
    let mut openings = 0;
    for seed in 1..=200 {
        let mut random = Random::of(seed);
        let window = 1 + random.below(60);
        let settings = Settings {
            window,
            failure_permille: 1 + random.below(1_000),
            min_calls: 1 + random.below(window),
            open_ms: 10,
            probes: u8::try_from(1 + random.below(4)).unwrap(),
            ..DEFAULTS
        };
        let mut rig = Rig::new(settings);
        let mut reference = Reference { settings, outcomes: VecDeque::new() };
        for step in 0..600 {
            let share = settings.failure_permille;
            let failed = random.below(1_000) < share.saturating_sub(60) + random.below(120);
            let outcome = if failed { Outcome::Failure } else { Outcome::Success };
            let opened = matches!(rig.call(outcome), Some(Change::Opened { .. }));
            assert_eq!(opened, reference.opens(failed), "seed {seed} step {step} {settings:?}");
            if opened {
                openings += 1;
                rig.pass_ms(10);
                for _ in 0..settings.probes {
                    rig.call(Outcome::Success);
                }
                assert_eq!(rig.state(), State::Closed);
            }
        }
    }
    assert!(openings > 500, "only {openings} openings were compared");
}

/// What threads, one for each of `items`, return that run `work` at the same time.
fn at_once<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let (barrier, work) = (Barrier::new(items.len()), &work);
    let start = |item| {
        barrier.wait();
        work(item)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(|| start(item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn eight_threads_get_exactly_the_probes_and_each_change_is_told_once() {
    let settings = Settings { window: 4, min_calls: 2, open_ms: 10, max_open_ms: 10, ..DEFAULTS };
    let mut rig = Rig::new(settings);
    for round in 0..200 {
        let calls: Vec<Entry> = (0..8).map(|_| rig.enter().unwrap()).collect();
        let told = at_once(calls, |call| rig.finish(call, Outcome::Failure));
        assert_eq!((told.iter().flatten().count(), rig.state()), (1, State::Open), "round {round}");
        rig.pass_ms(10);
        let entered = at_once(vec![(); 8], |()| [rig.enter().ok(), rig.enter().ok()]);
        let probes: Vec<Entry> = entered.into_iter().flatten().flatten().collect();
        let half_opened = probes.iter().filter_map(Entry::change).count();
        assert_eq!((probes.len(), half_opened), (3, 1), "round {round}");
        let told = at_once(probes, |probe| rig.finish(probe, Outcome::Success));
        assert_eq!((told.iter().flatten().count(), rig.state()), (1, State::Closed), "round {round}");
        assert_eq!(rig.flow.in_flight(), 0);
    }
}

#[test]
fn in_a_storm_no_phase_has_more_probes_than_allowed() {
    let settings = Settings { window: 8, min_calls: 4, open_ms: 1, max_open_ms: 4, ..DEFAULTS };
    let (breaker, flow, clock) = (Breaker::new(&settings), Flow::default(), AtomicU64::new(0));
    let probes: Vec<AtomicUsize> = (0..1 << 16).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for thread in 1..=8 {
            let (breaker, flow, clock, probes) = (&breaker, &flow, &clock, &probes);
            scope.spawn(move || {
                let mut random = Random::of(thread);
                let mut attempts = 0..500_000;
                while breaker.word(Ordering::SeqCst).1.generation < 1_000 {
                    assert!(attempts.next().is_some(), "it does not go on");
                    let now = Moment::from_nanos(clock.fetch_add(50_000, Ordering::Relaxed));
                    let Ok(entry) = breaker.enter(flow, now) else {
                        thread::yield_now();
                        continue;
                    };
                    // Of one generation: probes of an earlier one that hang must not keep it shut.
                    let out = entry.probe.then(|| &probes[entry.generation as usize % probes.len()]);
                    let before = out.map_or(0, |out| out.fetch_add(1, Ordering::SeqCst));
                    assert!(before < 3, "{before} probes were out already");
                    if random.below(4) == 0 {
                        thread::yield_now();
                    }
                    let outcome =
                        [Outcome::Success, Outcome::Failure, Outcome::Neutral][random.below(3) as usize];
                    out.inspect(|out| _ = out.fetch_sub(1, Ordering::SeqCst));
                    breaker.finish(flow, entry, outcome, now);
                }
            });
        }
    });
    assert_eq!(flow.in_flight(), 0);
}
