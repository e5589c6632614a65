//! The simulation with copies of the live files beside it, as a program: runs as many seeds as it is told, and fails
//! at the first that breaks a promise. Built by `every_mutant_is_caught` alone.

mod base {
    pub mod atomic;
    pub mod clock;
}
mod config {
    pub mod limits;
    pub mod traffic;
}
mod policy {
    pub mod limits {
        pub mod gate;
        pub mod pinned;
        pub mod table;
        pub mod terms;
    }
}
mod route;
mod simulation;

fn main() {
    let seeds = std::env::args().nth(1).and_then(|seeds| seeds.parse().ok()).expect("a number of seeds");
    (0..seeds).for_each(simulation::world::run);
}
