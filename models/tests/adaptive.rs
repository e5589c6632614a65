//! Models of `route::adaptive`.
//!
//! Not here: how the limit follows latency; that is the simulation.

use loom::sync::Arc;
use loom::thread;
use ringgate_models::base::clock::Moment;
use ringgate_models::config::traffic::Adaptive as Settings;
use ringgate_models::route::adaptive::AdaptiveCell;

const SETTINGS: Settings = Settings { min: 1, max: 2, percentile: 50, target_ms: 10 };
const SLOW_NS: u64 = 11_000_000;
const BEGIN: Moment = Moment::from_nanos(1_000_000);
/// When the first window may end.
const END: Moment = Moment::from_nanos(600_000_000);

/// What each of two threads comes to.
fn both<T: Send + 'static>(cell: &Arc<AdaptiveCell>, things: [fn(&AdaptiveCell) -> T; 2]) -> [T; 2] {
    let threads = things.map(|thing| {
        let cell = Arc::clone(cell);
        thread::spawn(move || thing(&cell))
    });
    threads.map(|thread| thread.join().expect("no panic"))
}

/// After a window full of slow answers that has only to be ended, with two calls in flight.
fn slow() -> Arc<AdaptiveCell> {
    let cell = Arc::new(AdaptiveCell::new(&SETTINGS));
    for _ in 0..6 {
        cell.enter().expect("below the limit");
        assert_eq!(cell.leave(&SETTINGS, Some(SLOW_NS), BEGIN), None);
    }
    (0..2).for_each(|_| cell.enter().expect("below the limit"));
    cell
}

fn leave_late(cell: &AdaptiveCell) -> Option<u32> {
    cell.leave(&SETTINGS, Some(SLOW_NS), END)
}

#[test]
fn one_of_two_calls_gets_the_last_place() {
    loom::model(|| {
        let cell = Arc::new(AdaptiveCell::new(&SETTINGS));
        cell.enter().expect("below the limit");
        let entered = both(&cell, [|cell| cell.enter().is_ok(), |cell| cell.enter().is_ok()]);
        assert_eq!(entered.into_iter().filter(|entered| *entered).count(), 1);
        assert_eq!(cell.in_flight(), 2);
    });
}

/// The window is judged once, and no call that leaves beside a new limit stays counted.
#[test]
fn a_window_has_one_verdict() {
    loom::model(|| {
        let cell = slow();
        let told = both(&cell, [leave_late, leave_late]);
        assert_eq!(told.into_iter().flatten().collect::<Vec<_>>(), [1], "one is told");
        assert_eq!((cell.limit(), cell.in_flight()), (1, 0));
    });
}

/// A reload beside a verdict of the plan before: whichever comes first, the limit is between the bounds of now.
#[test]
fn a_verdict_beside_new_bounds_stays_within_them() {
    loom::model(|| {
        let cell = slow();
        let adopt = |cell: &AdaptiveCell| {
            cell.adopt(&Settings { min: 2, max: 3, ..SETTINGS });
            None
        };
        both(&cell, [leave_late, adopt]);
        assert_eq!((cell.limit(), cell.in_flight()), (2, 1));
    });
}

/// A call that comes beside the verdict is under the old limit or the new one, and counted once.
#[test]
fn a_call_beside_a_verdict_is_counted() {
    loom::model(|| {
        let cell = slow();
        let [_, entered] = both(&cell, [|cell| leave_late(cell).is_some(), |cell| cell.enter().is_ok()]);
        assert_eq!((cell.limit(), cell.in_flight()), (1, 1 + u32::from(entered)));
    });
}
