//! What keeps a call from its server: its refusal names the rule, and it is counted by its cause.
//!
//! Not here: finding out (`attempt`, `dispatch`, `passage`), and the fault's own words.

use crate::mcp::refusal::Denial;
use crate::telemetry::family::Family;
use crate::worker::Worker;
use crate::worker::state::Exchange;

/// Why nothing is sent to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// As many calls are in flight as it serves in time.
    Adaptive,
    /// Of an instance or of the tool.
    Breaker,
    /// No instance is in rotation.
    Health,
    /// It has asked to be left alone.
    Upstream,
    /// The operator asked for the failure.
    Faults,
}

impl Obstacle {
    /// The label that it is counted by: the last word of its rule.
    const fn cause(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Breaker => "breaker",
            Self::Health => "health",
            Self::Upstream => "upstream",
            Self::Faults => "faults",
        }
    }

    fn rule(self, server: &str) -> String {
        match self {
            // Nothing in the configuration says how long: the server does.
            Self::Upstream => self.cause().into(),
            _ => format!("mcpServers.{server}.{}", self.cause()),
        }
    }
}

/// Notes in the call what keeps it from `server`; `denial` has what the refusal says beside the rule.
pub fn meet(worker: &Worker, exchange: &mut Exchange, server: &str, obstacle: Obstacle, denial: Denial) {
    worker.metrics().count(Family::Unavailable, &[server, obstacle.cause()], 1);
    exchange.kept_away = true;
    exchange.deny(Denial { rule: obstacle.rule(server), ..denial });
}
