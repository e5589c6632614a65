//! HTTP/1.1 and event-stream codecs: framing rules and limits, sans-I/O.
//!
//! Everything here refuses and nothing repairs: what two parsers could read in two ways is a fault, on
//! both sides of the gateway. Fields are spans into the buffer of the caller, so that a head is parsed
//! without a copy and forwarded byte for byte.
//!
//! Not here: sockets, time, MCP, the bounds themselves (`config::limits` has them; they come as arguments).

pub mod chunked;
pub mod fields;
pub mod frames;
#[doc(hidden)]
pub mod fuzz;
mod head;
pub mod host;
pub mod http2;
mod plain;
pub mod request;
pub mod response;
pub mod sse;
mod status;
pub mod write;
