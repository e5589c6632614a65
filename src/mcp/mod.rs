//! The JSON-RPC envelope, the eras, the refusals: pure.
//!
//! ```text
//!   body ──▶ reading ──┬─▶ tape    (simd-json, up to 64 KiB) ─┐
//!                      └─▶ skipper (any size, the law)       ─┴─▶ facts ──▶ rules ──▶ Call or Fault
//! ```
//!
//! Not here: HTTP syntax, sockets, time.

pub mod answer;
pub mod arguments;
pub mod catalogue;
pub mod consent;
pub mod crossing;
pub mod envelope;
pub mod fuzz;
pub mod header;
pub mod hub;
pub mod listing;
pub mod log_level;
pub mod mirror;
pub mod refusal;
pub mod scratch;
pub mod sealed;
pub mod target;
pub mod tasks;

mod facts;
pub(crate) mod grammar;
mod reading;
mod rules;
mod skipper;
mod splice;
mod tape;
pub mod trace;
pub(crate) mod unescape;

#[cfg(test)]
mod tests;
