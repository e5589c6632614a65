//! A second evaluator of access rules, which shares no code with the live one, and policies, callers and calls drawn
//! at random, on which both must agree.
//!
//! Its files name the live code as `crate::…`, so that the same judges can be built with the library, and with copies
//! of the live files that were made wrong on purpose (`mutants/`).
//!
//! Not here: building those (`judges`), and `explain` (both belong to `tests/policies.rs`).

pub mod draw;
pub mod evaluate;
pub mod judge;
pub mod operators;
pub mod policy;
#[path = "../simulation/random.rs"]
pub mod random;
pub mod terms;
pub mod tree;
pub mod value;
