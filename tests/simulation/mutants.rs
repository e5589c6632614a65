//! Mutants of limits and routing: the simulation must catch every one of them.
//!
//! Not here: the promises that are broken (`promises`), and how a mutant is made and judged (`support/mutant`).

#[path = "../support/mutant.rs"]
mod mutant;

use mutant::Suite;

/// Builds and runs the unchanged copy, which must keep every promise, and every mutant, which must not.
pub fn judge() {
    let suite = Suite {
        mutants: "tests/mutants",
        live: &[
            "base/atomic.rs",
            "base/clock.rs",
            "config/limits",
            "config/limits.rs",
            "config/traffic.rs",
            "policy/limits/gate.rs",
            "policy/limits/pinned.rs",
            "policy/limits/table.rs",
            "policy/limits/terms.rs",
            "route",
        ],
        tests: &["simulation"],
        program: "simulation/program.rs",
        // Links in half the time.
        arguments: ["-C", "prefer-dynamic", "-C", "rpath"].map(Into::into).to_vec(),
        seeds: 32,
        caught: "breaks a promise",
    };
    suite.judge();
}
