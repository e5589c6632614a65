//! The JSON-RPC envelope, the eras, the refusals: pure.
//!
//! ```text
//!   body ──▶ reading ──┬─▶ tape    (simd-json, up to 64 KiB) ─┐
//!                      └─▶ skipper (any size, the law)       ─┴─▶ facts ──▶ rules ──▶ Call or Fault
//! ```
//!
//! Not here: HTTP syntax, sockets, time.

pub mod answer;
pub mod envelope;
pub mod fuzz;
pub mod refusal;
pub mod scratch;

mod facts;
mod grammar;
mod header;
mod reading;
mod rules;
mod skipper;
mod tape;
pub mod trace;
mod unescape;

#[cfg(test)]
mod tests;
