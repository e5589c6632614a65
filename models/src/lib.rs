//! The product's own lock-free files on loom's atomics, which run a model once for every order in which its threads
//! can meet and every value that a load may return: `cargo test --release --manifest-path models/Cargo.toml`.
//!
//! One of them alone needs its file named: `… --test limits NAME`.
//!
//! Each file of `tests/` is the models of one module. loom treats a `SeqCst` load or store as `AcqRel`, so the code
//! uses fences where it needs one order of everything; it has none of the spurious failures of weak
//! compare-and-swaps, after which the code tries again as after any other. Models are small (two or three threads, lines of two or three
//! buckets, one call each) because their number of orders grows exponentially.
//!
//! Not here: anything that is compiled into the product.

#[path = "../../src/base"]
pub mod base {
    pub mod clock;

    pub mod atomic {
        pub use loom::sync::atomic::AtomicU32;
        pub use loom::sync::atomic::AtomicU64;
        pub use loom::sync::atomic::Ordering;
        pub use loom::sync::atomic::fence;

        /// Waits for nothing: loom tries every order of threads anyway.
        #[derive(Default)]
        pub struct Backoff;

        impl Backoff {
            pub fn wait(&mut self) {}
        }
    }

    #[path = "../../models/src/lines.rs"]
    pub mod lines;
}

#[path = "../../src/policy"]
pub mod policy {
    pub mod limits {
        pub mod gate;
        pub mod pinned;
        pub mod table;
        pub mod terms;
    }
}

#[path = "../../src/config"]
pub mod config {
    pub mod traffic;
}

#[path = "../../src/route"]
pub mod route {
    pub mod adaptive;
    pub mod breaker;
    pub mod flow;
    pub mod health;
    pub mod phase;
}
