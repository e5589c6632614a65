//! What systemd is told: ready, reloading, stopping, and that every worker turns.
//!
//! Not here: socket activation. Without `NOTIFY_SOCKET` all of this does nothing.

use crate::control::state::State;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(crate) fn reloading() {
    // systemd 253 and newer want the time with it.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell systemd about the state of the service");
    }
}

/// Feeds the watchdog three times in its interval, and only where every worker has turned since.
pub(crate) async fn feed_watchdog(state: Arc<State>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut beats = Heartbeats::default();
    let mut pause = tokio::time::interval((limit / 3).max(Duration::from_millis(1)));
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        if beats.all_moved(&state) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// The heartbeats that were seen last.
#[derive(Default)]
pub(crate) struct Heartbeats {
    seen: Vec<u64>,
}

impl Heartbeats {
    /// Whether every worker has turned since this was asked last; the first time it has.
    pub(crate) fn all_moved(&mut self, state: &State) -> bool {
        let now: Vec<u64> = state.shared.posts.iter().map(|post| post.metrics.heartbeat.read()).collect();
        let before = std::mem::replace(&mut self.seen, now);
        before.iter().zip(&self.seen).all(|(before, now)| before != now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::state;

    #[test]
    fn one_worker_that_hangs_starves_the_watchdog() {
        let state = state(2);
        let beat = |worker: usize| state.shared.posts[worker].metrics.heartbeat.add(1);
        let mut beats = Heartbeats::default();
        assert!(beats.all_moved(&state));
        beat(0);
        beat(1);
        assert!(beats.all_moved(&state));
        beat(0);
        assert!(!beats.all_moved(&state));
    }
}
