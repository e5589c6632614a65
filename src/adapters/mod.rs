//! Other kinds of server, turned into Streamable HTTP on a Unix socket.
//!
//! Not here: bridging of eras.

pub mod sample;
