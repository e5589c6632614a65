//! What time alone changes: breakers whose open time is over, and buckets of rates whose time has passed.
//!
//! Not here: what calls change; workers do that.

use crate::base::clock;
use crate::base::clock::Moment;
use crate::config::limits;
use crate::control::state::State;
use crate::handoff::Cells;
use crate::policy::limits::table::Table;
use crate::route::cells::Guarded;
use std::sync::Arc;
use std::time::Duration;

/// Serves until the task is dropped.
pub(crate) async fn keep_tidy(state: Arc<State>) {
    let mut pause = tokio::time::interval(Duration::from_millis(limits::TIDY_MS));
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next_line = 0;
    loop {
        pause.tick().await;
        let now = clock::now();
        breakers(&state.shared.cells.load(), now);
        next_line = sweep(&state.shared.limits.table, next_line, now);
    }
}

/// One log line for each change of a state.
fn breakers(cells: &Cells, now: Moment) {
    for (server, cells) in &cells.by_server {
        cells.tidy(now, |guarded, change| match guarded {
            Guarded::Instance(index) => {
                let instance = cells.instances.get(index).map_or("", |instance| &instance.label);
                tracing::warn!(%server, instance, ?change, "the breaker of an instance changed");
            }
            Guarded::Tool(tag) => {
                let tool = cells.tools.as_ref().and_then(|tools| tools.of(tag)?.name()).unwrap_or_default();
                tracing::warn!(%server, tool, ?change, "the breaker of a tool changed");
            }
        });
    }
}

/// A part of the lines, so that all are seen once in `SWEEP_ROUND_MS`; tells where the next part begins.
fn sweep(rates: &Table, first: usize, now: Moment) -> usize {
    let rounds = usize::try_from(limits::SWEEP_ROUND_MS / limits::TIDY_MS).unwrap_or(usize::MAX);
    let end = (first + rates.lines().div_ceil(rounds)).min(rates.lines());
    rates.sweep(first..end, now);
    if end == rates.lines() { 0 } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_swept_in_a_round_and_none_beyond_the_table() {
        for buckets in [1, 8, 64, 100_000] {
            let rates = Table::new(buckets);
            let rounds = usize::try_from(limits::SWEEP_ROUND_MS / limits::TIDY_MS).expect("few");
            let (mut next, mut wraps) = (0, 0);
            for _ in 0..rounds {
                let before = next;
                next = sweep(&rates, before, Moment::ZERO);
                assert!(next < rates.lines() && (next == 0 || next > before));
                wraps += usize::from(next == 0);
            }
            assert!(wraps >= 1, "{buckets}");
        }
    }
}
