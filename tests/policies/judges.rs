//! Mutants of the access rules: the second evaluator must catch every one of them.
//!
//! Not here: how a mutant is made and judged (`support/mutant`).

#[path = "../support/mutant.rs"]
mod mutant;

use mutant::Suite;

/// Builds and runs the unchanged copy, which must agree, and every mutant, which must not.
pub fn judge() {
    let suite = Suite {
        mutants: "tests/policies/mutants",
        live: &["policy/access.rs"],
        lent: &[],
        tests: &["policies", "simulation/random.rs"],
        program: "policies/program.rs",
        // The rest of the live code is the library itself, as it was built for this test.
        arguments: mutant::libraries(&["ringgate"]),
        seeds: 500,
        caught: " differs",
    };
    suite.judge();
}
