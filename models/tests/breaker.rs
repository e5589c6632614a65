//! Models of `route::breaker`, with a window of two outcomes and two probes.
//!
//! Not here: long runs of outcomes; those are the tables and the reference beside the code.

use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use ringgate_models::base::clock::Moment;
use ringgate_models::config::traffic::Breaker as Settings;
use ringgate_models::route::breaker::Breaker;
use ringgate_models::route::breaker::Change;
use ringgate_models::route::breaker::Entry;
use ringgate_models::route::breaker::Outcome;
use ringgate_models::route::breaker::State;
use ringgate_models::route::flow::Flow;

const SETTINGS: Settings = Settings {
    window: 2,
    failure_permille: 1_000,
    min_calls: 2,
    open_ms: 10,
    max_open_ms: 100,
    probes: 2,
    per_tool: false,
};
/// After the first open time.
const LATER: u64 = 10;
/// After the second one, which is twice as long.
const LATEST: u64 = 30;

#[derive(Clone)]
struct Rig(Arc<(Breaker, Flow)>);

impl Rig {
    fn new(settings: &Settings) -> Self {
        Self(Arc::new((Breaker::new(settings), Flow::default())))
    }

    /// Opened by two failures.
    fn opened() -> Self {
        let rig = Self::new(&SETTINGS);
        assert_eq!(rig.call(Outcome::Failure, 0), None);
        assert_eq!(rig.call(Outcome::Failure, 0), Some(Change::Opened { for_ms: 10 }));
        rig
    }

    fn try_enter(&self, at_ms: u64) -> Option<Entry> {
        self.0.0.enter(&self.0.1, Moment::ZERO.plus_millis(at_ms)).ok()
    }

    fn enter(&self, at_ms: u64) -> Entry {
        self.try_enter(at_ms).expect("let in")
    }

    fn finish(&self, entry: Entry, outcome: Outcome, at_ms: u64) -> Option<Change> {
        self.0.0.finish(&self.0.1, entry, outcome, Moment::ZERO.plus_millis(at_ms))
    }

    fn call(&self, outcome: Outcome, at_ms: u64) -> Option<Change> {
        self.finish(self.enter(at_ms), outcome, at_ms)
    }

    /// The same in a thread of its own.
    fn beside<T: 'static>(&self, work: impl FnOnce(&Self) -> T + 'static) -> thread::JoinHandle<T> {
        let rig = self.clone();
        thread::spawn(move || work(&rig))
    }

    fn is(&self, state: State, at_ms: u64) {
        assert_eq!(self.0.0.state(Moment::ZERO.plus_millis(at_ms)), state);
        assert_eq!(self.0.1.in_flight(), 0);
    }

    /// It counts as a new one does: nothing from before it closed is left.
    fn counts_anew(&self, at_ms: u64) {
        assert_eq!(self.call(Outcome::Failure, at_ms), None);
        assert!(self.call(Outcome::Failure, at_ms).is_some());
    }
}

/// Three switches from one thread to another where it could go on: enough for every race of two operations.
fn bounded(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn two_failures_at_once_open_it_and_one_of_them_is_told() {
    loom::model(|| {
        let rig = Rig::new(&SETTINGS);
        let fail = |rig: &Rig| rig.call(Outcome::Failure, 0).is_some();
        let (one, two) = (rig.beside(fail), rig.beside(fail));
        assert!(one.join().unwrap() != two.join().unwrap());
        rig.is(State::Open, 0);
    });
}

/// Half of two: whichever comes first, the other sees it.
#[test]
fn a_success_that_completes_the_least_number_sees_the_failure() {
    loom::model(|| {
        let rig = Rig::new(&Settings { failure_permille: 500, ..SETTINGS });
        let failure = rig.beside(|rig| rig.call(Outcome::Failure, 0).is_some());
        let success = rig.beside(|rig| rig.call(Outcome::Success, 0).is_some());
        assert!(failure.join().unwrap() != success.join().unwrap());
        rig.is(State::Open, 0);
    });
}

#[test]
fn of_three_callers_two_are_probes_and_both_together_close_it() {
    bounded(|| {
        let rig = Rig::opened();
        let others = [rig.beside(|rig| rig.try_enter(LATER)), rig.beside(|rig| rig.try_enter(LATER))];
        let own = rig.try_enter(LATER);
        let mut probes: Vec<Entry> = others.into_iter().filter_map(|other| other.join().unwrap()).collect();
        probes.extend(own);
        assert_eq!(probes.len(), 2);
        assert_eq!(probes.iter().filter(|probe| probe.change().is_some()).count(), 1);
        let (one, two) = (probes.pop().unwrap(), probes.pop().unwrap());
        let other = rig.beside(|rig| rig.finish(one, Outcome::Success, LATER).is_some());
        let closed = rig.finish(two, Outcome::Success, LATER).is_some();
        assert!(other.join().unwrap() != closed);
        rig.is(State::Closed, LATER);
        rig.counts_anew(LATER);
    });
}

#[test]
fn a_late_success_of_an_older_half_open_phase_counts_nothing() {
    bounded(|| {
        let rig = Rig::opened();
        let (late, failing) = (rig.enter(LATER), rig.enter(LATER));
        let late = rig.beside(|rig| rig.finish(late, Outcome::Success, LATER));
        let anew = rig.beside(|rig| {
            assert!(rig.finish(failing, Outcome::Failure, LATER).is_some());
            let (one, two) = (rig.enter(LATEST), rig.enter(LATEST));
            assert_eq!(rig.finish(one, Outcome::Success, LATEST), None);
            assert_eq!(rig.finish(two, Outcome::Success, LATEST), Some(Change::Closed));
        });
        assert_eq!(late.join().unwrap(), None);
        anew.join().unwrap();
        rig.is(State::Closed, LATEST);
        rig.counts_anew(LATEST);
    });
}

#[test]
fn a_probe_that_is_given_back_makes_room_for_one_other() {
    bounded(|| {
        let rig = Rig::opened();
        let (cancelled, probe) = (rig.enter(LATER), rig.enter(LATER));
        let cancel = rig.beside(|rig| rig.finish(cancelled, Outcome::Neutral, LATER));
        let other = rig.try_enter(LATER);
        assert_eq!(cancel.join().unwrap(), None);
        let other = other.unwrap_or_else(|| rig.enter(LATER));
        assert!(rig.try_enter(LATER).is_none());
        assert_eq!(rig.finish(probe, Outcome::Success, LATER), None);
        assert_eq!(rig.finish(other, Outcome::Success, LATER), Some(Change::Closed));
        rig.is(State::Closed, LATER);
    });
}

#[test]
fn a_failure_from_before_it_opened_counts_nothing_after_it_closed() {
    bounded(|| {
        let rig = Rig::new(&SETTINGS);
        let old = rig.enter(0);
        assert_eq!(rig.call(Outcome::Failure, 0), None);
        assert!(rig.call(Outcome::Failure, 0).is_some());
        let late = rig.beside(|rig| rig.finish(old, Outcome::Failure, LATER));
        let (one, two) = (rig.enter(LATER), rig.enter(LATER));
        assert_eq!(rig.finish(one, Outcome::Success, LATER), None);
        assert!(rig.finish(two, Outcome::Success, LATER).is_some());
        assert_eq!(rig.call(Outcome::Failure, LATER), None);
        assert_eq!(late.join().unwrap(), None);
        assert!(rig.call(Outcome::Failure, LATER).is_some());
    });
}
