//! Sockets on the runtime: one stream type for clients and upstreams, listeners, the choice of driver.
//!
//! Not here: HTTP, deadlines, pools. With `worker`, the only user of the runtime's I/O, so that the runtime
//! can be replaced or worked around in one place.

pub mod listen;
pub mod ring;
pub mod runtime;
pub mod stream;
pub mod ticker;
pub mod tls;
