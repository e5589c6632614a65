//! `count` with the files that it counts and nothing else, for `tests/instructions`: they need no crate, but for tables of
//! zeros, so the compiler alone makes a program of them in a second, optimised as a whole, where the benchmark takes
//! minutes to link.
//!
//! Not here: what is counted, and any copy of what it counts.

extern crate self as ringgate;

#[path = "../../src/base"]
pub mod base {
    pub mod atomic;
    pub mod clock;

    #[path = "../../models/src/lines.rs"]
    pub mod lines;
}

#[path = "../../src/policy"]
pub mod policy {
    pub mod limits {
        pub mod pinned;
        pub mod table;
        pub mod terms;
    }
}

mod count;

fn main() {
    count::count();
}
