//! Models of `route::health`.
//!
//! Not here: long rows of failures and successes; those are the tables beside the code.

use loom::sync::Arc;
use loom::thread;
use ringgate_models::config::traffic::Health as Settings;
use ringgate_models::route::health::Change;
use ringgate_models::route::health::HealthCell;

/// Two failures take it out, two successes bring it back.
const SETTINGS: Settings = Settings { interval_ms: 1_000, timeout_ms: 1_000, unhealthy: 2, healthy: 2 };

/// What two threads are told that each do one thing.
fn told(cell: &Arc<HealthCell>, things: [fn(&HealthCell) -> Option<Change>; 2]) -> Vec<Change> {
    let threads = things.map(|thing| {
        let cell = Arc::clone(cell);
        thread::spawn(move || thing(&cell))
    });
    threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
}

fn fail(cell: &HealthCell) -> Option<Change> {
    cell.failed(&SETTINGS)
}

fn succeed(cell: &HealthCell) -> Option<Change> {
    cell.succeeded(&SETTINGS)
}

fn connect(cell: &HealthCell) -> Option<Change> {
    cell.connected();
    None
}

fn down() -> Arc<HealthCell> {
    let cell = Arc::new(HealthCell::default());
    assert_eq!([fail(&cell), fail(&cell)], [None, Some(Change::Down)]);
    cell
}

#[test]
fn no_failure_is_lost_and_one_thread_is_told() {
    loom::model(|| {
        let cell = Arc::new(HealthCell::default());
        assert_eq!(told(&cell, [fail, fail]), [Change::Down]);
        assert!(!cell.is_up());
    });
}

#[test]
fn no_success_is_lost_and_one_thread_is_told() {
    loom::model(|| {
        let cell = down();
        assert_eq!(told(&cell, [succeed, succeed]), [Change::Up]);
        assert!(cell.is_up());
    });
}

/// A call that connects ends a row of failures, or comes after its end; it never brings an instance back.
#[test]
fn a_connection_beside_the_last_failure_is_before_or_after_it() {
    loom::model(|| {
        let cell = Arc::new(HealthCell::default());
        assert_eq!(fail(&cell), None);
        let told = told(&cell, [fail, connect]);
        assert_eq!(told.is_empty(), cell.is_up(), "{told:?}");
    });
    loom::model(|| {
        let cell = down();
        assert_eq!(told(&cell, [succeed, connect]), []);
        assert!(!cell.is_up(), "one success is not two");
    });
}
