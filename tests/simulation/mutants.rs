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
        live: &["policy/access.rs", "policy/decide.rs", "policy/limits", "route"],
        lent: &[
            "policy/limits/calendar",
            "policy/limits/fields",
            "policy/limits/keys",
            "policy/limits/usage",
        ],
        tests: &["simulation"],
        program: "simulation/program.rs",
        // The rest of the live code is the library itself, as it was built for this test.
        arguments: mutant::libraries(&["arrayvec", "ringgate"]),
        seeds: 32,
        caught: "breaks a promise",
    };
    suite.judge();
}
