//! May this call pass? Pure; for now the one question is who calls.
//!
//! Not here: sockets, clocks, and who serves the call.

pub mod identity;
