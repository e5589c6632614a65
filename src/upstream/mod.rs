//! Connections to MCP servers: opening, keeping idle ones, sending a request whole or not at all.
//!
//! Not here: which instance was chosen and why, deadlines (the worker's watch shuts a descriptor down), and
//! what the bytes mean.

pub mod connect;
pub mod pool;
pub mod send;
