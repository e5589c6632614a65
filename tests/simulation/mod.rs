//! Traffic control in a world of its own: seeded, on a virtual clock, without threads.
//!
//! Its files name the live code as `crate::…`, so that the same world can be built with the library, and with copies
//! of the live files that were made wrong on purpose (`mutants`).
//!
//! Not here: building those (`tests/simulation.rs`).

pub mod balance;
pub mod invariants;
pub mod ledger;
pub mod office;
pub mod operator;
pub mod promises;
pub mod random;
pub mod scene;
pub mod server;
pub mod world;
