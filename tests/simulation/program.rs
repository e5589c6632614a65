//! The simulation with copies of the live files beside it, as a program: runs as many seeds as it is told, and fails
//! at the first that breaks a promise. Built by `every_mutant_is_caught` alone.

mod policy {
    pub mod access;
    pub mod decide;
    pub mod limits;
    /// As much of it as the decision names: nobody else is asked.
    pub mod external {
        use crate::policy::decide::Asked;

        pub struct Ruling {
            pub allow: bool,
            pub reason: Box<str>,
        }

        pub struct Answered {
            pub rule: std::sync::Arc<str>,
            pub message: usize,
            pub target: usize,
            pub ruling: Option<Ruling>,
        }

        pub struct Question;

        impl Question {
            pub fn new(_: &Asked<'_>, _: usize) -> Self {
                Self
            }
        }
    }
    pub use ringgate::policy::claims;
    pub use ringgate::policy::expression;
    pub use ringgate::policy::identity;
    pub use ringgate::policy::kills;
}
mod route;
mod simulation;

use ringgate::base;
use ringgate::config;
use ringgate::mcp;

fn main() {
    let seeds = std::env::args().nth(1).and_then(|seeds| seeds.parse().ok()).expect("a number of seeds");
    (0..seeds).for_each(simulation::world::run);
}
