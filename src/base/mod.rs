//! Leaf folder: what every other folder may use and what uses none of them.
//!
//! Not here: anything that knows MCP, HTTP or the configuration.

pub mod atomic;
pub mod base64url;
pub mod bound;
pub mod buffer;
pub mod clock;
pub mod counter;
pub mod der;
pub mod fault;
pub mod lines;
pub mod sys;
pub mod text;
pub mod words;
