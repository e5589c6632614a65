//! Traffic control on a virtual clock: seeded storms over the live code of `policy::decide` and `route`, exact
//! figures, and mutants of that code which the storms must catch.
//!
//! `RINGGATE_SIMULATION_SEED=n` runs one seed and prints its last events, `RINGGATE_SIMULATION_SEEDS=n` the first n.
//!
//! Not here: threads (`policy::limits::tests`, `models/`) and sockets (`tests/exchange/`).

#![expect(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    unreachable_pub,
    reason = "tests fail by panicking, draw small numbers, and are built as a program too"
)]

// Where `crate::…` of the simulation leads.
use ringgate::base;
use ringgate::config;
use ringgate::mcp;
use ringgate::policy;
use ringgate::route;

#[path = "simulation/figures.rs"]
mod figures;
#[path = "simulation/mutants.rs"]
mod mutants;
#[path = "simulation/mod.rs"]
mod simulation;

use std::env;
use std::panic::resume_unwind;
use std::thread;

const SEEDS: u64 = 256;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = number("RINGGATE_SIMULATION_SEED") {
        println!("{}", simulation::world::replay(seed));
        return simulation::world::run(seed);
    }
    let seeds = number("RINGGATE_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let run = |first: u64| (first..seeds).step_by(threads as usize).for_each(simulation::world::run);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        for thread in running {
            // With its own words, which name the seed.
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
}

#[test]
fn every_mutant_is_caught() {
    mutants::judge();
}
