//! Ringgate, an MCP gateway: one reverse proxy between a fleet of agents and the MCP servers they call.
//!
//! The folders in the order in which a call meets them:
//!
//! ```text
//!   client ──▶ edge ──▶ http ──▶ mcp ──▶ policy ──▶ route ──▶ upstream ──▶ server
//!                └──────────── worker/exchange.rs: one call ────────┘
//!   control (one side thread) ◀── handoff.rs ──▶ worker (one pinned thread per core)
//! ```
//!
//! `base` is below everything, `config` holds what the operator wants, `telemetry` what happened,
//! `adapters` turn other kinds of server into Streamable HTTP on a Unix socket. Who may import whom is a
//! test: `tests/layers.rs`.

pub mod base;
pub mod config;

pub mod edge;
pub mod http;
pub mod mcp;
pub mod net;
pub mod policy;
pub mod route;
pub mod upstream;
pub mod worker;

pub mod adapters;
pub mod cli;
pub mod control;
pub mod handoff;
pub mod telemetry;
