//! SIGTERM, SIGINT, SIGQUIT: the drain, and the end.
//!
//! ```text
//!   Serving ──signal──▶ Draining ──all calls ended, http.drain passed, or a second signal──▶ Stopping ──▶ exit
//! ```
//!
//! Not here: what workers do in a phase.

use crate::config::limits;
use crate::control::probe;
use crate::control::sessions;
use crate::control::state::State;
use crate::control::systemd;
use crate::handoff::Phase;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::time::timeout;

/// How often a drain looks whether the workers are done.
const LOOK_MS: u64 = 5;

/// The signals that end the process. From its making on they no longer kill it.
pub(crate) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl EndSignals {
    /// # Errors
    /// Where the kernel refuses a handler.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self, state: &State) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
            () = state.stop.notified() => "stop",
        }
    }
}

/// Waits for the first of them, then drains; returns when the process may end.
pub(crate) async fn until_stopped(state: &State, mut signals: EndSignals) {
    let cause = signals.next(state).await;
    let drain_ms = state.shared.plan.load().http.drain_ms;
    state.shared.enter(Phase::Draining);
    systemd::stopping();
    tracing::info!(cause, drain_ms, "draining: no new connections, calls in progress finish");
    let all_ended = timeout(Duration::from_millis(drain_ms), drained(state));
    let how = tokio::select! {
        biased;
        _ = signals.next(state) => "second signal",
        ended = all_ended => if ended.is_ok() { "all calls ended" } else { "http.drain passed" },
    };
    state.shared.enter(Phase::Stopping);
    let inflight = inflight(state);
    if inflight > 0 {
        tracing::warn!(how, inflight, "stopping: what is still open is cut");
    } else {
        tracing::info!(how, "stopping");
    }
    // Workers cut and record what is left.
    let last = async {
        tokio::join!(deserted(state), probe::ended(state));
        sessions::ended(state).await;
    };
    let _ = timeout(Duration::from_millis(limits::STOP_MS), last).await;
}

fn inflight(state: &State) -> u64 {
    state.shared.posts.iter().map(|post| post.metrics.inflight.read()).sum()
}

/// No worker has a client left.
async fn deserted(state: &State) {
    while !has_no_clients(state) {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

fn has_no_clients(state: &State) -> bool {
    state
        .shared
        .posts
        .iter()
        .all(|post| post.metrics.inflight.read() == 0 && post.metrics.client_connections.read() == 0)
}

/// No worker has a client left, and none will accept one.
async fn drained(state: &State) {
    let closed = || state.shared.posts.iter().all(|post| post.closed.load(Ordering::Acquire));
    while !(closed() && has_no_clients(state)) {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}
